// Files of JSON lines that a program adds to as it runs, and reads when it goes on where it was.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <istream>
#include <nlohmann/json.hpp>
#include <string>

#include "codegen/result.h"

namespace adapath {

// Calls `take` with the object of each line. A line that is none is passed over: a run that was stopped leaves one cut
// off, and the next run begins a new line. What is wrong with an object ends it: `take` returns an error, or nlohmann
// throws in it because a member is missing or of another type; the error then names file (`path`) and line.
[[nodiscard]] inline Status read_json_lines(std::istream& in, const std::string& path,
                                            const std::function<Status(const nlohmann::json&)>& take) {
    size_t number = 0;
    for (std::string line; std::getline(in, line);) {
        number++;
        const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
        if (!json.is_object()) continue;
        try {
            if (Status taken = take(json); !taken)
                return Error{fmt::format("{}:{}: {}", path, number, taken.error().message)};
        } catch (const nlohmann::json::exception& error) {
            return Error{fmt::format("{}:{}: {}", path, number, error.what())};
        }
    }
    return {};
}

}  // namespace adapath
