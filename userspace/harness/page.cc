// See page.h.
#include "userspace/harness/page.h"

#include <fmt/format.h>

namespace adapath {

std::string escape_html(std::string_view text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '"':
                out += "&quot;";
                break;
            case '\'':
                out += "&#39;";
                break;
            default:
                out += c;
        }
    }
    return out;
}

std::string card(const std::string& value, const std::string& name, const std::string& note, std::optional<bool> good) {
    return fmt::format(
        "<div class='card{}'><div class='value'>{}</div><div class='name'>{}</div><div class='note'>{}</div></div>",
        !good   ? ""
        : *good ? " good"
                : " wrong",
        value, name, note);
}

// 1234567 -> "1,234,567"
std::string grouped(uint64_t value) {
    std::string digits = std::to_string(value);
    for (auto i = static_cast<ptrdiff_t>(digits.size()) - 3; i > 0; i -= 3) {
        digits.insert(static_cast<size_t>(i), 1, ',');
    }
    return digits;
}

}  // namespace adapath
