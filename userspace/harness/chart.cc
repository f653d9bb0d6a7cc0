// See chart.h.
#include "userspace/harness/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "userspace/harness/page.h"

namespace adapath {
namespace {

// Where on the axis, 0 to 1 and a little beyond.
double place(const ChartAxis& axis, double value) {
    const double share = axis.logarithmic
                             ? std::log(std::max(value, axis.low * 1e-6) / axis.low) / std::log(axis.high / axis.low)
                             : (value - axis.low) / (axis.high - axis.low);
    return share;
}

// Counted in whole numbers: sums of steps would gather rounding errors.
std::vector<double> even_ticks(const ChartAxis& axis, double step) {
    std::vector<double> ticks;
    const auto last = static_cast<int>(std::floor(axis.high / step + 1e-3));
    for (int tick = static_cast<int>(std::ceil(axis.low / step - 1e-9)); tick <= last; tick++) {
        ticks.push_back(tick * step);
    }
    return ticks;
}

// 1, 2 and 5 times the powers of ten within the axis.
std::vector<double> logarithmic_ticks(const ChartAxis& axis) {
    std::vector<double> ticks;
    const auto last = static_cast<int>(std::floor(std::log10(axis.high)));
    for (int decade = static_cast<int>(std::floor(std::log10(axis.low))); decade <= last; decade++) {
        for (const double factor : {1.0, 2.0, 5.0}) {
            const double tick = factor * std::pow(10, decade);
            if (tick >= axis.low * 0.999 && tick <= axis.high * 1.001) {
                ticks.push_back(tick);
            }
        }
    }
    return ticks;
}

}  // namespace

double nice_step(double range, int parts) {
    const double raw = std::max(range, 1e-9) / parts;
    const double power = std::pow(10, std::floor(std::log10(raw)));
    for (const double factor : {1.0, 2.0, 5.0}) {
        if (factor * power >= raw * 0.999) {
            return factor * power;
        }
    }
    return 10 * power;
}

std::string tick_text(double value, double step) {
    const int decimals = step >= 0.999 ? 0 : step >= 0.0999 ? 1 : 2;
    return fmt::format("{:.{}f}", std::abs(value) < step / 1000 ? 0.0 : value, decimals);
}

Chart::Chart(const ChartShape& shape, ChartAxis horizontal, ChartAxis vertical)
    : shape_(shape), horizontal_(horizontal), vertical_(vertical) {
    for (ChartAxis* axis : {&horizontal_, &vertical_}) {
        if (axis->high <= axis->low) {
            axis->high = axis->low + 1;
        }
    }
}

double Chart::x(double value) const {
    return left() + (right() - left()) * std::clamp(place(horizontal_, value), 0.0, 1.0);
}

double Chart::y(double value) const {
    return base() - (base() - top()) * std::clamp(place(vertical_, value), -0.02, 1.02);
}

void Chart::y_ticks() {
    const auto tick = [this](double value, const std::string& text) {
        add(fmt::format("<line class='grid' x1='{:.1f}' x2='{:.1f}' y1='{:.1f}' y2='{:.1f}'/>", left(), right(),
                        y(value), y(value)));
        add(fmt::format("<text class='tick' x='{:.1f}' y='{:.1f}' text-anchor='end'>{}</text>", left() - 7,
                        y(value) + 3.5, text));
    };
    if (vertical_.logarithmic) {
        for (const double value : logarithmic_ticks(vertical_)) {
            tick(value, fmt::format("{:g}", value));
        }
        return;
    }
    const double step = nice_step(vertical_.high - vertical_.low, shape_.height > 150 ? 5 : 4);
    for (const double value : even_ticks(vertical_, step)) {
        tick(value, tick_text(value, step));
    }
}

void Chart::x_ticks(const std::string& unit) {
    const auto tick = [&](double value, const std::string& text) {
        add(fmt::format("<text class='tick' x='{:.1f}' y='{:.1f}' text-anchor='middle'>{}</text>", x(value),
                        base() + 16, text));
    };
    const std::string end = unit.empty() ? std::string() : fmt::format(" {}", unit);
    if (horizontal_.logarithmic) {
        std::vector<double> ticks;
        for (const double value : logarithmic_ticks(horizontal_)) {
            if (ticks.empty() || x(value) - x(ticks.back()) > 30) {  // room for four digits
                ticks.push_back(value);
            }
        }
        for (const double value : ticks) {
            add(fmt::format("<line class='grid' x1='{:.1f}' x2='{:.1f}' y1='{:.1f}' y2='{:.1f}'/>", x(value), x(value),
                            top(), base()));
            tick(value, fmt::format("{:g}{}", value, value == ticks.back() ? end : ""));
        }
        return;
    }
    const double step = nice_step(horizontal_.high - horizontal_.low, shape_.width > 600 ? 12 : 6);
    const std::vector<double> ticks = even_ticks(horizontal_, step);
    for (const double value : ticks) {
        tick(value, tick_text(value, step) + (value == ticks.back() ? end : ""));
    }
}

void Chart::axes(const std::string& y_name, const std::string& x_unit) {
    y_ticks();
    x_ticks(x_unit);
    add(fmt::format("<line class='axis' x1='{:.1f}' x2='{:.1f}' y1='{:.1f}' y2='{:.1f}'/>", left(), right(), base(),
                    base()));
    add(fmt::format("<text class='label' transform='translate(13 {:.1f}) rotate(-90)' text-anchor='middle'>{}</text>",
                    (top() + base()) / 2, escape_html(y_name)));
}

void Chart::band(double from, double to, const std::string& css) {
    add(fmt::format("<rect class='band {}' x='{:.1f}' y='{:.1f}' width='{:.1f}' height='{:.1f}'/>", css, x(from), top(),
                    std::max(1.0, x(to) - x(from)), base() - top()));
}

void Chart::mark(double at, const std::string& css, const std::string& title) {
    add(fmt::format("<g class='mark {}'><line x1='{:.1f}' x2='{:.1f}' y1='{:.1f}' y2='{:.1f}'/><title>{}</title></g>",
                    css, x(at), x(at), top(), base(), escape_html(title)));
}

void Chart::steps(const ChartLine& line, const std::string& css, bool fill) {
    std::string path;
    double previous = horizontal_.low;
    for (const ChartPoint& point : line) {
        path += fmt::format("{}{:.1f} {:.1f}H{:.1f}", path.empty() ? "M" : "L", x(previous), y(point.y), x(point.x));
        previous = point.x;
    }
    if (path.empty()) {
        return;
    }
    if (fill) {
        path += fmt::format("V{:.1f}H{:.1f}Z", y(vertical_.low), x(horizontal_.low));
    }
    add(fmt::format("<path class='{}' d='{}'/>", css, path));
}

void Chart::curve(const ChartLine& line, const std::string& css, double break_after) {
    std::string path;
    double previous = -1e9;
    for (const ChartPoint& point : line) {
        path += fmt::format("{}{:.1f} {:.1f}", point.x - previous > break_after ? "M" : "L", x(point.x), y(point.y));
        previous = point.x;
    }
    if (!path.empty()) {
        add(fmt::format("<path class='{}' d='{}'/>", css, path));
    }
}

void Chart::ribbon(const ChartLine& low, const ChartLine& high, const std::string& css) {
    std::string path;
    for (const ChartPoint& point : high) {
        path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x(point.x), y(point.y));
    }
    for (auto point = low.rbegin(); point != low.rend(); ++point) {
        path += fmt::format("L{:.1f} {:.1f}", x(point->x), y(point->y));
    }
    if (!path.empty()) {
        add(fmt::format("<path class='{}' d='{}Z'/>", css, path));
    }
}

void Chart::dot(const ChartPoint& at, double radius, const std::string& css, const std::string& title) {
    add(fmt::format("<circle class='{}' cx='{:.1f}' cy='{:.1f}' r='{:.1f}'><title>{}</title></circle>", css, x(at.x),
                    y(at.y), radius, escape_html(title)));
}

std::string Chart::svg(const std::string& id, const std::string& description) const {
    return fmt::format(
        "<svg class='chart' id='{}' viewBox='0 0 {:.0f} {:.0f}' role='img' aria-label='{}'>{}"
        "<line class='cross' y1='{:.1f}' y2='{:.1f}'/></svg>",
        id, shape_.width, shape_.height, escape_html(description), body_, top(), base());
}

}  // namespace adapath
