// See log.h.
#include "userspace/common/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>

namespace adapath {

Status setup_log(const std::string& program, const std::string& level) {
    const spdlog::level::level_enum parsed = spdlog::level::from_str(level);
    if (parsed == spdlog::level::off && level != "off") {
        return Error{"log level '" + level + "' is unknown: use trace, debug, info, warning, error or off"};
    }
    auto logger = spdlog::stderr_color_mt(program);
    logger->set_level(parsed);
    // journald stamps each line itself.
    logger->set_pattern(getenv("JOURNAL_STREAM") != nullptr ? "%l: %v" : "%Y-%m-%dT%H:%M:%S.%e %n %^%l%$: %v");
    logger->flush_on(spdlog::level::info);
    spdlog::set_default_logger(std::move(logger));
    return {};
}

}  // namespace adapath
