// The list of apps: the one place to add a line for a new one.
#pragma once

#include <array>

#include "userspace/adapathd/app.h"

namespace adapath {

const App& cc_app();
const App& select_app();
const App& qp_app();

inline std::array<const App*, 3> all_apps() { return {&cc_app(), &select_app(), &qp_app()}; }

}  // namespace adapath
