// See report.h.
#include "userspace/arena/report.h"

namespace adapath::arena {

Result<std::string> make_report(const std::string& out) { return out + "\n"; }

}  // namespace adapath::arena
