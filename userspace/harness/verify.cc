// See verify.h.
#include "userspace/harness/verify.h"

#include <nlohmann/json.hpp>

#include "userspace/harness/child.h"

namespace adapath {

Result<VerifiedLog> verify_log(const std::string& bin, const std::string& app, const std::string& state_directory,
                               const std::string& log, std::chrono::milliseconds timeout) {
    Result<std::string> output =
        run_program({.name = "adapathctl verify",
                     .argv = {bin + "/adapathctl", "--json", "verify", "--app", app, "--state-dir", state_directory},
                     .log = log},
                    timeout, {0, 1});
    if (!output) {
        return output.error();
    }
    const nlohmann::json parsed = nlohmann::json::parse(*output, nullptr, false);
    if (!parsed.is_object() || !parsed.contains("decisions") || !parsed.contains("unexplained")) {
        return Error{"adapathctl verify --json said: " + output->substr(0, 200)};
    }
    const auto number = [&](const char* name) { return parsed.value(name, uint64_t{0}); };
    return VerifiedLog{number("decisions"), number("explained"), number("unexplained"), number("gaps"),
                       number("generations")};
}

}  // namespace adapath
