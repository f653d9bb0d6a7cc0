// From the raw results to what they say: verdicts, tables, charts.
#pragma once

#include <string>

#include "codegen/result.h"
#include "userspace/arena/analysis.h"

namespace adapath::arena {

[[nodiscard]] std::string to_html(const Analysis& analysis);
// For a terminal.
[[nodiscard]] std::string to_table(const Analysis& analysis);

// Reads OUT/results.jsonl, writes OUT/report.html and OUT/summary.json, returns the table.
Result<std::string> make_report(const std::string& out);

}  // namespace adapath::arena
