// Is a page well-formed?
#pragma once

#include <string>
#include <vector>

namespace adapath::testing {

// Every element that is opened is closed, in order; "" or the first fault. (std::regex recurses too deep for a whole
// page.)
inline std::string unbalanced(const std::string& html) {
    std::vector<std::string> open;
    for (size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at)) {
        const size_t end = html.find('>', at);
        if (end == std::string::npos) {
            return "a tag without an end at " + std::to_string(at);
        }
        const std::string tag = html.substr(at + 1, end - at - 1);
        at = end + 1;
        const bool closing = tag.starts_with('/');
        const std::string name = tag.substr(closing ? 1 : 0, tag.find_first_of(" /", 1) - (closing ? 1 : 0));
        if (name == "meta" || tag.starts_with('!') || tag.ends_with('/')) {
            continue;
        }
        if (!closing) {
            open.push_back(name);
            // What is inside is no HTML.
            if (name == "style" || name == "script") {
                at = html.find("</" + name + ">", at);
            }
        } else if (open.empty() || open.back() != name) {
            return "</" + name + "> closes " + (open.empty() ? "nothing" : "<" + open.back() + ">");
        } else {
            open.pop_back();
        }
    }
    return open.empty() ? "" : "left open: " + open.back();
}

}  // namespace adapath::testing
