// The version that every program shows. Counted up together with project() in CMakeLists.txt.
#pragma once

namespace adapath {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace adapath
