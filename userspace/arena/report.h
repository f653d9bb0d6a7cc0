// From the raw results to what they say: verdicts, tables, charts.
#pragma once

#include <string>

#include "codegen/result.h"

namespace adapath::arena {

// Reads OUT/results.jsonl, writes OUT/report.html, returns the table for a terminal.
Result<std::string> make_report(const std::string& out);

}  // namespace adapath::arena
