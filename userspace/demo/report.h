// A recording and its summary as one self-contained HTML page: inline SVG, no other file, no network.
#pragma once

#include <string>

#include "userspace/demo/recording.h"
#include "userspace/demo/summary.h"

namespace adapath::demo {

[[nodiscard]] std::string to_html(const Recording& recording, const Summary& summary);

}  // namespace adapath::demo
