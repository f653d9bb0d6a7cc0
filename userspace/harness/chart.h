// A chart as SVG, drawn point by point, so that a report needs no script to be read. Colours and widths come from the
// page's style, by class.
#pragma once

#include <string>
#include <vector>

namespace adapath {

struct ChartPoint {
    double x = 0;
    double y = 0;
};
using ChartLine = std::vector<ChartPoint>;

// Pixels of the picture's own coordinates; the page scales it.
struct ChartShape {
    double width = 1040;
    double height = 200;
    double left = 58;
    double right_space = 14;
    double top_space = 10;
    double bottom_space = 24;
};

struct ChartAxis {
    double low = 0;
    double high = 1;
    bool logarithmic = false;  // then low > 0
};

// A step of 1, 2 or 5 times a power of ten that cuts `range` into at most `parts`.
[[nodiscard]] double nice_step(double range, int parts);
[[nodiscard]] std::string tick_text(double value, double step);

// Maps values to the picture, and holds what was drawn so far.
class Chart {
public:
    Chart(const ChartShape& shape, ChartAxis horizontal, ChartAxis vertical);

    // Values off the axes land on their edge.
    [[nodiscard]] double x(double value) const;
    [[nodiscard]] double y(double value) const;
    [[nodiscard]] double left() const { return shape_.left; }
    [[nodiscard]] double right() const { return shape_.width - shape_.right_space; }
    [[nodiscard]] double top() const { return shape_.top_space; }
    [[nodiscard]] double base() const { return shape_.height - shape_.bottom_space; }

    void add(const std::string& svg) { body_ += svg; }
    // Grid, ticks and names. `x_unit` stands at the last tick.
    void axes(const std::string& y_name, const std::string& x_unit);
    void band(double from, double to, const std::string& css);
    void mark(double at, const std::string& css, const std::string& title);
    // Each value has held since the point before: a rate over an interval is no slope.
    void steps(const ChartLine& line, const std::string& css, bool fill);
    void curve(const ChartLine& line, const std::string& css, double break_after);
    // Between two lines.
    void ribbon(const ChartLine& low, const ChartLine& high, const std::string& css);
    void dot(const ChartPoint& at, double radius, const std::string& css, const std::string& title);

    [[nodiscard]] std::string svg(const std::string& id, const std::string& description) const;

private:
    void y_ticks();
    void x_ticks(const std::string& unit);

    ChartShape shape_;
    ChartAxis horizontal_;
    ChartAxis vertical_;
    std::string body_;
};

}  // namespace adapath
