// See privileges.h.
#include "userspace/adapathd/privileges.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

#include "userspace/adapathd/backends.h"

namespace adapath {

Status check_privileges(const std::string& backend) {
    const std::vector<std::string> missing = missing_capabilities(backend);
    if (missing.empty()) {
        return {};
    }
    return Error{fmt::format(
        "the {} backend needs {}, which this process does not have: start adapathd as root or through its systemd "
        "unit (systemctl start adapathd), or without privileges over simulated flows with --backend=local",
        backend, fmt::join(missing, ", "))};
}

}  // namespace adapath
