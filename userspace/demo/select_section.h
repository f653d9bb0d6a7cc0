// The report's part about the app select.
#pragma once

#include <string>

#include "userspace/demo/recording.h"

namespace adapath::demo {

// Empty where there is no such part.
[[nodiscard]] std::string select_section(const SelectRecording& recording);

// An <img> that carries its file with it.
[[nodiscard]] std::string embedded(const PngPicture& picture);

}  // namespace adapath::demo
