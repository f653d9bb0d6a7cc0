// A recording and its summary as one self-contained HTML page: inline SVG, no other file, no network.
#pragma once

#include <string>
#include <string_view>

#include "userspace/demo/recording.h"
#include "userspace/demo/summary.h"

namespace adapath::demo {

[[nodiscard]] std::string to_html(const Recording& recording, const Summary& summary);

// For text and attribute values.
[[nodiscard]] std::string escape_html(std::string_view text);

}  // namespace adapath::demo
