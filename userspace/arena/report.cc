// See report.h. The charts are drawn here, point by point; the page's script only hides all cells but the chosen one.
#include "userspace/arena/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <limits>
#include <map>
#include <optional>
#include <set>

#include "userspace/arena/report_page.h"
#include "userspace/arena/results.h"
#include "userspace/arena/arena.h"
#include "userspace/arena/statistics.h"
#include "userspace/common/file.h"
#include "userspace/harness/chart.h"
#include "userspace/harness/page.h"

namespace adapath::arena {
namespace {

// More frames than this share missed for want of CPU, and the video's figures are the machine's too.
constexpr double overrun_limit = 0.02;

// Beyond this the emulator's own delay is no longer small against what is measured.
constexpr double late_limit_us = 3000;

std::string css_of(const std::string& policy) {
    for (const char* known : {"cubic", "bbr", "adapath", "adapath-online", "userspace"}) {
        if (policy == known) {
            return known;
        }
    }
    return "other";
}

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }
std::string ms(double value) { return fmt::format("{:.0f}", value); }
std::string times(double ratio) { return fmt::format("{:.2f}", ratio); }

std::string panel(const std::string& heading, const std::string& content, const std::string& css = "panel") {
    return fmt::format("<h2>{}</h2>\n<section class='{}'>{}</section>\n", escape_html(heading), css, content);
}

std::string cell(const std::string& text) { return fmt::format("<td class='n'>{}</td>", text); }

std::string head(const std::vector<std::string>& names) {
    std::string row = "<tr>";
    for (size_t i = 0; i < names.size(); i++) {
        const bool words = i == 0 || names[i] == "policy";
        row += fmt::format("<th{}>{}</th>", words ? "" : " class='n'", names[i]);
    }
    return row + "</tr>";
}

std::string policy_name(const std::string& policy) {
    return fmt::format("<i class='dot {}'></i>{}", css_of(policy), escape_html(policy));
}

std::string legend(const std::vector<std::string>& policies, const std::string& more = {}) {
    std::string out = "<div class='legend'>";
    for (const std::string& policy : policies) {
        out += fmt::format("<span>{}</span>", policy_name(policy));
    }
    return out + more + "</div>";
}

double nice_above(double value) {
    const double step = nice_step(std::max(value, 1.0), 5);
    return std::ceil(value / step - 1e-9) * step;
}

// ---- throughput against delay -------------------------------------------------------------------------------------

struct ScatterPoint {
    std::string policy;
    double x = 0, y = 0;
    std::string title;
};

// Small points: the seeds. Large ones: their medians, with the policy's name.
struct Scatter {
    std::string id, description, y_name, x_name;
    std::vector<ScatterPoint> points;
    std::optional<ChartPoint> bound;
    ChartAxis y_axis;
};

std::string draw(const Scatter& scatter) {
    double low = std::numeric_limits<double>::max(), high = 0;
    for (const ScatterPoint& point : scatter.points) {
        low = std::min(low, point.x);
        high = std::max(high, point.x);
    }
    if (scatter.bound) {
        low = std::min(low, scatter.bound->x);
    }
    ChartShape shape;
    shape.width = 360;
    shape.height = 264;
    shape.left = 50;
    shape.right_space = 22;
    shape.bottom_space = 40;
    Chart chart(shape, {.low = std::max(0.5, low * 0.75), .high = std::max(high, 1.0) * 1.35, .logarithmic = true},
                scatter.y_axis);
    chart.axes(scatter.y_name, "");
    chart.add(fmt::format("<text class='label' x='{:.1f}' y='{:.1f}' text-anchor='middle'>{}</text>",
                          (chart.left() + chart.right()) / 2, chart.base() + 33, escape_html(scatter.x_name)));
    if (scatter.bound) {
        const double x = chart.x(scatter.bound->x);
        const double y = chart.y(scatter.bound->y);
        chart.add(fmt::format("<line class='bound-line' x1='{:.1f}' x2='{:.1f}' y1='{:.1f}' y2='{:.1f}'/>", x, x, y,
                              chart.base()));
        chart.add(fmt::format("<line class='bound-line' x1='{:.1f}' x2='{:.1f}' y1='{:.1f}' y2='{:.1f}'/>", x,
                              chart.right(), y, y));
        chart.add(fmt::format(
            "<rect class='bound-mark' x='{:.1f}' y='{:.1f}' width='9' height='9' "
            "transform='rotate(45 {:.1f} {:.1f})'><title>omniscient bound: {:.0f} ms, {:.1f} %</title></rect>",
            x - 4.5, y - 4.5, x, y, scatter.bound->x, scatter.bound->y));
    }
    std::map<std::string, std::pair<std::vector<double>, std::vector<double>>> by_policy;
    std::vector<std::string> order;
    for (const ScatterPoint& point : scatter.points) {
        auto& [xs, ys] = by_policy[point.policy];
        if (xs.empty()) {
            order.push_back(point.policy);
        }
        xs.push_back(point.x);
        ys.push_back(point.y);
    }
    for (const ScatterPoint& point : scatter.points) {
        if (by_policy[point.policy].first.size() > 1) {
            chart.dot({point.x, point.y}, 3, "seed " + css_of(point.policy), point.title);
        }
    }
    std::vector<double> taken;  // heights of names, so that they don't cover each other
    for (const std::string& policy : order) {
        auto [xs, ys] = by_policy[policy];
        const double x = *median(xs);
        const double y = *median(ys);
        chart.dot({x, y}, 5.5, "point " + css_of(policy), fmt::format("{}: {:.0f} ms, {:.1f}", policy, x, y));
        double name_y = chart.y(y) + 4;
        for (bool moved = true; moved;) {
            moved = false;
            for (const double other : taken) {
                // Less than what it is moved by: the sum is rounded, and may be found too near again for ever.
                if (std::abs(other - name_y) < 11.9) {
                    name_y = other + 12;
                    moved = true;
                }
            }
        }
        taken.push_back(name_y);
        const bool left = chart.x(x) > (chart.left() + chart.right()) / 2;
        chart.add(fmt::format("<text class='name-on-chart {}' x='{:.1f}' y='{:.1f}' text-anchor='{}'>{}</text>",
                              css_of(policy), chart.x(x) + (left ? -9 : 9), name_y, left ? "end" : "start",
                              escape_html(policy)));
    }
    return chart.svg(scatter.id, scatter.description);
}

std::string figure(const std::string& caption, const std::string& key, const std::string& svg) {
    return fmt::format("<figure><figcaption><b title='{0}'>{0}</b>{1}</figcaption>{2}</figure>", escape_html(caption),
                       key.empty() ? "" : fmt::format("<span class='facts'>{}</span>", escape_html(key)), svg);
}

std::vector<std::string> traces_of(const std::vector<Point>& points) {
    std::vector<std::string> traces;
    for (const Point& point : points) {
        if (std::find(traces.begin(), traces.end(), point.trace) == traces.end()) {
            traces.push_back(point.trace);
        }
    }
    return traces;
}

std::string bulk_scatters(const Analysis& analysis) {
    // One vertical axis for all, from where the worst is.
    double worst = 100;
    for (const Point& point : analysis.bulk) {
        worst = std::min(worst, 100 * point.share);
    }
    const double low = std::max(0.0, std::floor((worst - 3) / 5) * 5);
    std::string out = legend(analysis.policies,
                             "<span>◇ omniscient bound: every opportunity used, no queue</span><span>further up and to "
                             "the left is better; small points: seeds</span>");
    out += "<div class='many'>";
    size_t index = 0;
    for (const std::string& trace : traces_of(analysis.bulk)) {
        Scatter scatter{.id = fmt::format("scatter-{}", index++),
                        .description = fmt::format("Delivered share against p95 one-way delay on {}", trace),
                        .y_name = "delivered (% of capacity)",
                        .x_name = "p95 one-way delay (ms)",
                        .points = {},
                        .bound = std::nullopt,
                        .y_axis = {.low = low, .high = 102}};
        for (const Point& point : analysis.bulk) {
            if (point.trace == trace) {
                scatter.points.push_back({point.policy, point.p95_ms, 100 * point.share,
                                          fmt::format("{}, seed {}: {:.0f} ms, {:.1f} %", point.policy, point.seed,
                                                      point.p95_ms, 100 * point.share)});
                scatter.bound = ChartPoint{point.bound_ms, 100 * point.bound_share};
            }
        }
        out += figure(trace, "", draw(scatter));
    }
    return out + "</div>";
}

std::string video_scatters(const Analysis& analysis) {
    double most = 0;
    for (const Point& point : analysis.video) {
        most = std::max(most, point.kbps / 1000);
    }
    std::string out = "<div class='many'>";
    size_t index = 0;
    for (const std::string& trace : traces_of(analysis.video)) {
        Scatter scatter{.id = fmt::format("video-{}", index++),
                        .description = fmt::format("Video rate against p95 frame delay on {}", trace),
                        .y_name = "video (Mbit/s)",
                        .x_name = "p95 frame delay (ms)",
                        .points = {},
                        .bound = std::nullopt,
                        .y_axis = {.low = 0, .high = nice_above(most * 1.05)}};
        for (const Point& point : analysis.video) {
            if (point.trace == trace) {
                scatter.points.push_back({point.policy, point.frame_p95_ms, point.kbps / 1000,
                                          fmt::format("{}, seed {}: {:.0f} ms, {:.1f} Mbit/s", point.policy, point.seed,
                                                      point.frame_p95_ms, point.kbps / 1000)});
            }
        }
        out += figure(trace, "", draw(scatter));
    }
    return out + "</div>";
}

// ---- tables -------------------------------------------------------------------------------------------------------

const Ratio* ratio_of(const Analysis& analysis, const std::string& policy, const std::string& against) {
    for (const Ratio& ratio : analysis.ratios) {
        if (ratio.policy == policy && ratio.against == against) {
            return &ratio;
        }
    }
    return nullptr;
}

std::string medians_table(const Analysis& analysis) {
    std::string rows = head({"policy", "delivered", "payload", "p50, ms", "p95, ms", "p99, ms", "mean, ms",
                             "queue drops", "retransmits", "CPU, µs/MB", "program, ns/ACK"});
    for (const PolicyMedians& m : analysis.medians) {
        rows += fmt::format("<tr><th>{}</th>", policy_name(m.policy)) + cell(percent(m.share)) +
                cell(percent(m.received_share)) + cell(ms(m.p50_ms)) + cell(ms(m.p95_ms)) + cell(ms(m.p99_ms)) +
                cell(ms(m.mean_ms)) + cell(fmt::format("{:.0f}", m.queue_drops)) +
                cell(fmt::format("{:.0f}", m.retransmits)) +
                cell(m.cpu_us_per_mb ? fmt::format("{:.0f}", *m.cpu_us_per_mb) : "–") +
                cell(m.bpf_ns_per_ack ? fmt::format("{:.0f}", *m.bpf_ns_per_ack) : "–") + "</tr>";
    }
    return fmt::format("<table>{}</table>", rows);
}

std::string ratios_table(const Analysis& analysis) {
    std::string rows = "<tr><th>policy</th>";
    std::vector<std::string> references;
    for (const char* against : {"bbr", "cubic", "userspace"}) {
        if (std::any_of(analysis.ratios.begin(), analysis.ratios.end(),
                        [&](const Ratio& ratio) { return ratio.against == against; })) {
            references.emplace_back(against);
            rows += fmt::format(
                "<th class='n'>× {}: bytes</th><th class='n'>p95</th><th class='n'>mean</th>"
                "<th class='n'>CPU</th>",
                against);
        }
    }
    rows += "</tr>";
    for (const std::string& policy : analysis.policies) {
        rows += fmt::format("<tr><th>{}</th>", policy_name(policy));
        for (const std::string& against : references) {
            if (const Ratio* ratio = ratio_of(analysis, policy, against)) {
                rows += cell(times(ratio->delivered)) + cell(times(ratio->p95)) + cell(times(ratio->mean_delay)) +
                        cell(ratio->cpu_per_byte ? times(*ratio->cpu_per_byte) : "–");
            } else {
                rows += cell("–") + cell("–") + cell("–") + cell("–");
            }
        }
        rows += "</tr>";
    }
    return references.empty() ? "" : fmt::format("<table>{}</table>", rows);
}

std::string traces_table(const Analysis& analysis) {
    std::string rows = head({"trace", "seed", "policy", "capacity, Mbit/s", "delivered", "p50, ms", "p95, ms",
                             "p99, ms", "queue drops", "retransmits", "emulator late p99, µs"});
    std::string previous;
    for (const Point& p : analysis.bulk) {
        const std::string group = fmt::format("{} {}", p.trace, p.seed);
        const double seconds = (*p.line)["inputs"].value("seconds", 1.0);
        rows += fmt::format("<tr{}><td class='p'>{}</td>", group == previous ? "" : " class='group'",
                            group == previous ? "" : escape_html(p.trace)) +
                cell(group == previous ? "" : std::to_string(p.seed)) +
                fmt::format("<td class='p'>{}</td>", policy_name(p.policy)) +
                cell(fmt::format("{:.2f}", p.capacity_bytes * 8e-6 / seconds)) + cell(percent(p.share)) +
                cell(ms(p.p50_ms)) + cell(ms(p.p95_ms)) + cell(ms(p.p99_ms)) +
                cell(fmt::format("{:.0f}", p.queue_drops)) + cell(fmt::format("{:.0f}", p.retransmits)) +
                cell(fmt::format("{}{:.0f}", p.late_p99_us > late_limit_us ? "⚠ " : "", p.late_p99_us)) + "</tr>";
        previous = group;
    }
    return fmt::format("<table>{}</table>", rows);
}

// What each decision waits for where the daemon is asked for it.
std::string asking_table(const Analysis& analysis) {
    std::string rows;
    std::vector<Point> points = analysis.bulk;
    points.insert(points.end(), analysis.crowd.begin(), analysis.crowd.end());
    for (const Point& p : points) {
        const Json cost = (*p.line)["figures"].value("cost", Json::object());
        if (!cost.contains("asking")) {
            continue;
        }
        const Json& asking = cost["asking"];
        const auto count = [&](const char* key) { return cell(fmt::format("{:.0f}", asking.value(key, 0.0))); };
        rows += fmt::format("<tr><td class='p'>{}</td>", escape_html(p.trace)) + cell(std::to_string(p.seed)) +
                fmt::format("<td class='p'>{}</td>", policy_name(p.policy)) + count("questions") + count("applied") +
                count("overtaken") + count("answer_p50_us") + count("answer_p99_us") + count("apply_p50_us") +
                count("apply_p99_us") + "</tr>";
    }
    return rows.empty() ? ""
                        : fmt::format("<table>{}{}</table>",
                                      head({"trace", "seed", "policy", "questions", "applied", "overtaken",
                                            "answer p50, µs", "p99", "applied after p50, µs", "p99"}),
                                      rows);
}

std::string video_table(const Analysis& analysis) {
    std::string rows = head({"trace", "seed", "policy", "frame delay p50, ms", "p95, ms", "late", "stalls",
                             "stalled, ms", "skipped", "Mbit/s", "mean QP", "missed for CPU", "broke off"});
    std::string previous;
    for (const Point& p : analysis.video) {
        const std::string group = fmt::format("{} {}", p.trace, p.seed);
        rows += fmt::format("<tr{}><td class='p'>{}</td>", group == previous ? "" : " class='group'",
                            group == previous ? "" : escape_html(p.trace)) +
                cell(group == previous ? "" : std::to_string(p.seed)) +
                fmt::format("<td class='p'>{}</td>", policy_name(p.policy)) + cell(ms(p.frame_p50_ms)) +
                cell(ms(p.frame_p95_ms)) + cell(fmt::format("{:.0f}", p.late_frames)) +
                cell(fmt::format("{:.0f}", p.stalls)) + cell(ms(p.stall_ms)) + cell(fmt::format("{:.0f}", p.skipped)) +
                cell(fmt::format("{:.2f}", p.kbps / 1000)) + cell(fmt::format("{:.1f}", p.qp)) +
                cell(fmt::format("{:.0f}", p.overrun)) +
                fmt::format("<td class='{}'>{}</td></tr>", p.broke.empty() ? "" : "missed", escape_html(p.broke));
        previous = group;
    }
    return fmt::format("<table>{}</table>", rows);
}

std::string video_notes(const Analysis& analysis) {
    const bool short_of_cpu = std::any_of(analysis.video.begin(), analysis.video.end(), [](const Point& p) {
        return p.overrun > overrun_limit * (p.frames + p.skipped + p.overrun);
    });
    return short_of_cpu
               ? "<ul class='notes'><li>⚠ In some cells frames were missed for want of CPU: what differs there "
                 "is not the policies' alone. Fewer policies at a time, a smaller --size or a lower --max-kbps "
                 "need less.</li></ul>"
               : "";
}

// "bytes 1.02 x, p95 0.68 x of userspace's": a policy's ratios in one line each.
std::string ratio_notes(const std::vector<Ratio>& ratios) {
    std::string out;
    for (const Ratio& ratio : ratios) {
        out += fmt::format("<li>{} against {}: bytes {:.3f} ×, p95 delay {:.3f} ×{}</li>", escape_html(ratio.policy),
                           escape_html(ratio.against), ratio.delivered, ratio.p95,
                           ratio.cpu_per_byte ? fmt::format(", CPU per byte {:.2f} ×", *ratio.cpu_per_byte) : "");
    }
    return out.empty() ? "" : "<ul class='notes'>" + out + "</ul>";
}

std::string crowd_table(const Analysis& analysis) {
    std::string rows = head({"link", "round", "policy", "flows", "delivered", "p50, ms", "p95, ms", "p99, ms", "Jain",
                             "retransmits", "decisions/s", "CPU, µs/MB", "machine busy", "emulator late p99, µs"});
    std::string previous;
    for (const Point& p : analysis.crowd) {
        const std::string group = fmt::format("{} {}", p.trace, p.seed);
        const double seconds = (*p.line)["inputs"].value("seconds", 1.0);
        rows += fmt::format("<tr{}><td class='p'>{}</td>", group == previous ? "" : " class='group'",
                            group == previous ? "" : escape_html(p.trace)) +
                cell(group == previous ? "" : std::to_string(p.seed)) +
                fmt::format("<td class='p'>{}</td>", policy_name(p.policy)) + cell(fmt::format("{:.0f}", p.flows)) +
                cell(percent(p.share)) + cell(ms(p.p50_ms)) + cell(ms(p.p95_ms)) + cell(ms(p.p99_ms)) +
                cell(fmt::format("{:.3f}", p.jain)) + cell(fmt::format("{:.0f}", p.retransmits)) +
                cell(p.decisions ? fmt::format("{:.0f}", *p.decisions / seconds) : "–") +
                cell(p.cpu_us_per_mb ? fmt::format("{:.0f}", *p.cpu_us_per_mb) : "–") + cell(percent(p.busy_share)) +
                cell(fmt::format("{}{:.0f}", p.late_p99_us > late_limit_us ? "⚠ " : "", p.late_p99_us)) + "</tr>";
        previous = group;
    }
    return fmt::format("<table>{}</table>", rows);
}

std::string crowd_panel(const Analysis& analysis) {
    return crowd_table(analysis) + ratio_notes(analysis.crowd_ratios) +
           "<p class='hint'>One policy after the other, since side by side each would take the processors from the "
           "others. "
           "Jain's index is of what the flows had acknowledged.</p>";
}

std::string stopped_panel(const Analysis& analysis) {
    std::string rows = head({"trace", "seed", "policy", "delivered", "p50, ms", "p95, ms", "p99, ms"});
    std::string previous;
    for (const Point& p : analysis.stopped) {
        const std::string group = fmt::format("{} {}", p.trace, p.seed);
        rows += fmt::format("<tr{}><td class='p'>{}</td>", group == previous ? "" : " class='group'",
                            group == previous ? "" : escape_html(p.trace)) +
                cell(group == previous ? "" : std::to_string(p.seed)) +
                fmt::format("<td class='p'>{}</td>", policy_name(p.policy)) + cell(percent(p.share)) +
                cell(ms(p.p50_ms)) + cell(ms(p.p95_ms)) + cell(ms(p.p99_ms)) + "</tr>";
        previous = group;
    }
    const Json& inputs = (*analysis.stopped.front().line)["inputs"];
    return fmt::format("<table>{}</table>", rows) + ratio_notes(analysis.stopped_ratios) +
           fmt::format(
               "<p class='hint'>Of the {:g} s alone in which the policies' daemons stood still. What decides in the "
               "kernel "
               "goes on; a flow that asks keeps its window.</p>",
               inputs.value("daemon_stops_s", 0.0));
}

std::string value_text(const Verdict& verdict) {
    return verdict.value ? fmt::format("{:.3f}", *verdict.value) : std::string("not measured");
}

std::string verdict_table(const Analysis& analysis) {
    std::string rows =
        "<tr><th>policy</th><th>figure</th><th class='n'>required</th><th class='n'>measured</th><th></th></tr>";
    std::string previous;
    for (const Verdict& v : analysis.verdicts) {
        rows += fmt::format(
            "<tr{}><td class='p'>{}</td><td>{}</td><td class='n'>{}</td><td class='n'>{}</td><td "
            "class='{}'>{}</td></tr>",
            v.policy == previous || previous.empty() ? "" : " class='group'",
            v.policy == previous ? "" : policy_name(v.policy), escape_html(v.name), v.required, value_text(v),
            !v.value ? "unmeasured"
            : v.met  ? "met"
                     : "missed",
            !v.value ? "–"
            : v.met  ? "✓ met"
                     : "✗ missed");
        previous = v.policy;
    }
    return fmt::format("<table>{}</table>", rows);
}

// ---- over time ----------------------------------------------------------------------------------------------------

ChartLine line_of(const Json& series, const char* x, const char* y, double factor) {
    ChartLine line;
    if (!series.contains(x) || !series.contains(y)) {
        return line;
    }
    for (size_t i = 0; i < std::min(series[x].size(), series[y].size()); i++) {
        line.push_back({series[x][i].get<double>(), series[y][i].get<double>() * factor});
    }
    return line;
}

// Bytes of each second as Mbit/s over the second's own length.
ChartLine rates_of(const Json& series, const Json& bytes) {
    ChartLine line;
    double before = 0;
    for (size_t i = 0; i < std::min(series["to_s"].size(), bytes.size()); i++) {
        const double to = series["to_s"][i].get<double>();
        line.push_back({to, bytes[i].get<double>() * 8e-6 / std::max(1e-3, to - before)});
        before = to;
    }
    return line;
}

double highest(const ChartLine& line) {
    double most = 0;
    for (const ChartPoint& point : line) {
        most = std::max(most, point.y);
    }
    return most;
}

double end_of(const ChartLine& line) { return line.empty() ? 1 : line.back().x; }

struct NamedLine {
    std::string css;
    ChartLine line;
};

std::string rate_chart(const std::string& id, const ChartLine& capacity, const std::vector<NamedLine>& lines,
                       const ChartShape& shape, const std::string& description) {
    double most = highest(capacity);
    for (const NamedLine& line : lines) {
        most = std::max(most, highest(line.line));
    }
    Chart chart(shape, {.low = 0, .high = end_of(capacity)}, {.low = 0, .high = nice_above(most)});
    chart.steps(capacity, "capacity", true);
    chart.axes("rate (Mbit/s)", "s");
    for (const NamedLine& line : lines) {
        chart.steps(line.line, "line " + line.css, false);
    }
    return chart.svg(id, description);
}

std::string delay_chart(const std::string& id, const std::vector<NamedLine>& lines, const std::string& name,
                        const std::string& description) {
    double low = 1e9, high = 1, end = 1;
    for (const NamedLine& line : lines) {
        for (const ChartPoint& point : line.line) {
            if (point.y > 0) {
                low = std::min(low, point.y);
                high = std::max(high, point.y);
            }
        }
        end = std::max(end, end_of(line.line));
    }
    ChartShape shape;
    shape.height = 210;
    Chart chart(shape, {.low = 0, .high = end},
                {.low = std::max(1.0, std::min(low, high) * 0.8), .high = high * 1.2, .logarithmic = true});
    chart.axes(name, "s");
    for (NamedLine line : lines) {
        // A second without a packet has no delay.
        std::erase_if(line.line, [](const ChartPoint& point) { return point.y <= 0; });
        chart.curve(line.line, "line " + line.css, 1.5);
    }
    return chart.svg(id, description);
}

std::string time_cells(const Analysis& analysis) {
    std::vector<std::pair<std::string, uint64_t>> groups;
    for (const Point& point : analysis.bulk) {
        const std::pair group{point.trace, point.seed};
        if (std::find(groups.begin(), groups.end(), group) == groups.end()) {
            groups.push_back(group);
        }
    }
    std::string options, cells;
    for (size_t i = 0; i < groups.size(); i++) {
        const auto& [trace, seed] = groups[i];
        ChartLine capacity;
        std::vector<NamedLine> rates, delays, frames;
        for (const Point& point : analysis.bulk) {
            if (point.trace == trace && point.seed == seed && point.line->contains("series")) {
                const Json& series = (*point.line)["series"];
                if (!series.contains("to_s")) {
                    continue;
                }
                capacity = rates_of(series, series["capacity_bytes"]);
                rates.push_back({css_of(point.policy), rates_of(series, series["delivered_bytes"])});
                delays.push_back({css_of(point.policy), line_of(series, "to_s", "delay_p95_ms", 1)});
            }
        }
        for (const Point& point : analysis.video) {
            if (point.trace == trace && point.seed == seed && point.line->contains("series")) {
                frames.push_back(
                    {css_of(point.policy), line_of((*point.line)["series"], "video_to_s", "frame_delay_p95_ms", 1)});
            }
        }
        const std::string name = fmt::format("{}, seed {}", trace, seed);
        options += fmt::format("<option>{}</option>", escape_html(name));
        ChartShape shape;
        shape.height = 240;
        cells += fmt::format("<div class='cell'>") +
                 figure(name + ": delivered, bulk", "behind: the link's capacity",
                        rate_chart(fmt::format("rate-{}", i), capacity, rates, shape, "Delivered rate over time")) +
                 figure("One-way delay of packets, p95 of each second", "",
                        delay_chart(fmt::format("delay-{}", i), delays, "delay (ms)", "Packet delay over time"));
        if (!frames.empty()) {
            cells += figure("Frame delay of the video, p95 of each second", "",
                            delay_chart(fmt::format("frames-{}", i), frames, "delay (ms)", "Frame delay over time"));
        }
        cells += "</div>";
    }
    return legend(analysis.policies) + "<select id='cell' aria-label='Trace and seed' hidden>" + options + "</select>" +
           cells;
}

std::string fairness_charts(const Analysis& analysis) {
    std::string out = "<div class='many'>";
    size_t index = 0;
    for (const FairnessPoint& point : analysis.fairness) {
        const Json& series = (*point.line)["series"];
        if (!series.contains("to_s") || !series.contains("received_bytes")) {
            continue;
        }
        const size_t plus = point.pair.find('+');
        const std::string names[] = {point.pair.substr(0, plus),
                                     plus == std::string::npos ? "" : point.pair.substr(plus + 1)};
        std::vector<NamedLine> lines;
        for (size_t flow = 0; flow < std::min<size_t>(2, series["received_bytes"].size()); flow++) {
            lines.push_back(
                {css_of(names[flow]) + (flow == 1 ? " second" : ""), rates_of(series, series["received_bytes"][flow])});
        }
        ChartShape shape;
        shape.width = 360;
        shape.height = 210;
        shape.left = 46;
        double total = 0;
        for (const double bytes : point.received_bytes) {
            total += bytes;
        }
        out += figure(fmt::format("{} on {}", point.pair, point.trace),
                      fmt::format("Jain {:.3f}; the first got {:.0f} %; p95 delay {:.0f} ms", point.jain,
                                  total > 0 ? 100 * point.received_bytes[0] / total : 0, point.p95_ms),
                      rate_chart(fmt::format("share-{}", index++), rates_of(series, series["capacity_bytes"]), lines,
                                 shape, fmt::format("Rates of {} over time", point.pair)));
    }
    return out +
           "</div><p class='hint'>Dashed: the flow that began second. Jain's index is of the bytes that both "
           "received over the whole time.</p>";
}

// What was earned while the link changed twice; where the learning one came out above the frozen one is marked.
std::string regimes_chart(const Analysis& analysis) {
    constexpr size_t smooth_s = 10;
    double low = 0, high = 1, end = 1;
    std::vector<NamedLine> lines;
    for (const RegimePoint& point : analysis.regimes) {
        ChartLine line;
        for (size_t i = 0; i < point.rewards.size(); i++) {
            double sum = 0;
            size_t known = 0;
            for (size_t j = i + 1 < smooth_s ? 0 : i + 1 - smooth_s; j <= i; j++) {
                if (point.rewards[j]) {
                    sum += *point.rewards[j];
                    known++;
                }
            }
            if (known > 0) {
                line.push_back({static_cast<double>(i + 1), sum / static_cast<double>(known)});
                low = std::min(low, line.back().y);
                high = std::max(high, line.back().y);
            }
        }
        end = std::max(end, static_cast<double>(point.rewards.size()));
        lines.push_back({css_of(point.policy), line});
    }
    // An outage must not flatten all the rest.
    low = std::max(low, -2 * high);
    ChartShape shape;
    shape.height = 260;
    const double step = nice_step(high - low, 6);
    Chart chart(shape, {.low = 0, .high = end},
                {.low = std::floor(low / step) * step, .high = std::ceil(high / step) * step});
    for (const RegimePoint& point : analysis.regimes) {
        chart.band(point.phase_s, 2 * point.phase_s, "capacity");
        break;
    }
    chart.axes("reward, mean of 10 s", "s");
    for (const NamedLine& line : lines) {
        chart.curve(line.line, "line " + line.css, 5);
    }
    for (const RegimePoint& point : analysis.regimes) {
        if (point.above_after_s) {
            chart.mark(
                point.phase_s + *point.above_after_s, "bound-line",
                fmt::format("{}: above the frozen one {:.0f} s after the change", point.policy, *point.above_after_s));
        }
    }
    return chart.svg("regimes", "Reward over time on a link that changes twice");
}

std::string regimes_table(const Analysis& analysis) {
    std::string rows =
        head({"policy", "before: last third", "changed: first minute", "last third", "above the frozen one after",
              "back: first minute", "last third", "p95 delay, ms", "delivered", "switches", "roll backs"});
    const auto reward = [](double value) { return cell(fmt::format("{:.2f}", value)); };
    for (const RegimePoint& p : analysis.regimes) {
        rows += fmt::format("<tr><th>{}</th>", policy_name(p.policy)) + reward(p.phases[0].last) +
                reward(p.phases[1].first) + reward(p.phases[1].last) +
                cell(p.above_after_s ? fmt::format("{:.0f} s", *p.above_after_s) : "–") + reward(p.phases[2].first) +
                reward(p.phases[2].last) + cell(ms(p.p95_ms)) + cell(percent(p.share)) +
                cell(fmt::format("{:.0f}", p.switches)) + cell(fmt::format("{:.0f}", p.rollbacks)) + "</tr>";
    }
    return fmt::format("<table>{}</table>", rows);
}

std::string regimes_panel(const Analysis& analysis) {
    std::vector<std::string> policies;
    for (const RegimePoint& point : analysis.regimes) {
        policies.push_back(point.policy);
    }
    const Json& regimes = (*analysis.regimes.front().line)["inputs"]["regimes"];
    const std::string what = fmt::format(
        "{:g} flows of each policy on {:g} Mbit/s. Shaded: the same mean rate, but the link serves them for {:g} ms in "
        "every {:g} ms. The reward is what the policy is trained for (include/adapath/cc.h): throughput against delay "
        "against loss.",
        regimes.value("flows", 0.0), regimes.value("mbit", 0.0), regimes.value("served_ms", 0.0),
        regimes.value("period_ms", 0.0));
    return legend(policies) + regimes_chart(analysis) + fmt::format("<p class='hint'>{}</p>", escape_html(what)) +
           regimes_table(analysis);
}

std::string cards(const Analysis& analysis) {
    std::string out;
    const auto met = [&](const std::string& policy, const std::string& name) -> std::optional<bool> {
        for (const Verdict& verdict : analysis.verdicts) {
            if (verdict.policy == policy && verdict.name == name && verdict.value) {
                return verdict.met;
            }
        }
        return std::nullopt;
    };
    for (const char* against : {"bbr", "cubic", "userspace"}) {
        if (const Ratio* ratio = ratio_of(analysis, "adapath", against)) {
            out += card(times(ratio->delivered) + " ×", fmt::format("bytes of {}", against),
                        fmt::format("adapath, median of {} traces", ratio->traces),
                        met("adapath", fmt::format("delivered bytes against {}", against)));
            out += card(times(ratio->p95) + " ×", fmt::format("p95 delay of {}", against),
                        fmt::format("mean delay {} ×", times(ratio->mean_delay)),
                        met("adapath", fmt::format("p95 delay against {}", against)));
        }
    }
    return out.empty() ? "" : fmt::format("<section class='cards'>{}</section>", out);
}

std::string notes(const Analysis& analysis) {
    std::vector<std::string> list;
    list.emplace_back(
        "delivered: bytes out of the link over what the trace offered; payload: TCP payload that the receiver got; "
        "delay: arrival at the bottleneck's queue to the far end, of every packet, propagation included.");
    list.emplace_back(
        "Medians over the traces of each trace's median over its seeds; × are medians of ratios within "
        "a trace and seed.");
    list.emplace_back(
        "CPU: the policy's programs in the kernel (bpf statistics) and its daemon, without the trainer, "
        "per MB of payload. The kernel's own policies are not told apart from the rest of the kernel.");
    if (!analysis.side_by_side) {
        list.emplace_back(
            "⚠ Not all policies of a trace were measured at the same time: some cells are of another "
            "run. --fresh measures all of them side by side.");
    }
    if (analysis.left_out > 0) {
        list.push_back(fmt::format("{} older lines with other settings, checkpoints or programs are left out.",
                                   analysis.left_out));
    }
    const bool late = std::any_of(analysis.bulk.begin(), analysis.bulk.end(),
                                  [](const Point& p) { return p.late_p99_us > late_limit_us; });
    if (late) {
        list.push_back(fmt::format("⚠ In some cells the machine held up the emulator by more than {:g} ms (p99).",
                                   late_limit_us / 1000));
    }
    std::string out = "<ul class='notes'>";
    for (const std::string& note : list) {
        out += fmt::format("<li>{}</li>", escape_html(note));
    }
    return out + "</ul>";
}

std::string date_text(double unix_s) {
    const auto seconds = static_cast<time_t>(unix_s);
    tm local{};
    localtime_r(&seconds, &local);
    char text[32];
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M", &local);
    return text;
}

std::string facts(const Analysis& analysis) {
    const Json* line = !analysis.regimes.empty() && analysis.bulk.empty() ? analysis.regimes.back().line
                       : !analysis.bulk.empty()                           ? analysis.bulk.back().line
                       : !analysis.video.empty()                          ? analysis.video.back().line
                       : !analysis.fairness.empty()                       ? analysis.fairness.back().line
                       : !analysis.crowd.empty()                          ? analysis.crowd.back().line
                                                                          : nullptr;
    if (line == nullptr) {
        return "nothing was measured yet";
    }
    const Json& inputs = (*line)["inputs"];
    std::set<uint64_t> seeds;
    for (const Point& point : analysis.bulk) {
        seeds.insert(point.seed);
    }
    const Json run = line->value("run", Json::object());
    std::string out = fmt::format(
        "<b>traces</b> {} · <b>seeds</b> {} · <b>each</b> {:g} s · <b>link</b> {:g} ms each "
        "way, queue {:g} ms",
        analysis.traces.size(), seeds.size(), inputs.value("seconds", 0.0), inputs.value("delay_ms", 0.0),
        inputs.value("queue_ms", 0.0));
    if (inputs.value("loss", 0.0) > 0) {
        out += fmt::format(", loss {:g} %", 100 * inputs.value("loss", 0.0));
    }
    if (inputs.value("busy", 0) > 0) {
        out += fmt::format(" · <b>busy</b> {} threads of other work", inputs.value("busy", 0));
    }
    if (inputs.value("bulk_flows", 1) > 1) {
        out += fmt::format(" · <b>flows</b> {} on each link", inputs.value("bulk_flows", 1));
    }
    if (inputs.value("daemon_stops_s", 0) > 0) {
        out += fmt::format(" · <b>daemons stand still</b> for {} s", inputs.value("daemon_stops_s", 0));
    }
    return out + fmt::format(" · <b>kernel</b> {} · <b>CPUs</b> {} · <b>Adapath</b> {} · {}",
                             escape_html(inputs.value("kernel", "")), run.value("cpus", 0),
                             escape_html(run.value("version", "")), date_text(run.value("started_unix_s", 0.0)));
}

std::string badge(const Analysis& analysis) {
    size_t measured = 0, met = 0;
    for (const Verdict& verdict : analysis.verdicts) {
        if (verdict.policy == "adapath" && verdict.value) {
            measured++;
            met += verdict.met ? 1 : 0;
        }
    }
    if (measured == 0) {
        return "";
    }
    return fmt::format("<span class='verdict {}'>adapath meets {} of {} figures</span>",
                       met == measured ? "good" : "wrong", met, measured);
}

}  // namespace

std::string to_html(const Analysis& analysis) {
    std::string sections = cards(analysis);
    if (!analysis.verdicts.empty()) {
        sections += panel("Figures to reach", verdict_table(analysis), "panel scroll");
    }
    if (!analysis.bulk.empty()) {
        sections += panel("Throughput against delay, by trace", bulk_scatters(analysis));
        sections += panel("Medians over the traces", medians_table(analysis) + ratios_table(analysis) + notes(analysis),
                          "panel scroll");
        sections += panel("Over time", time_cells(analysis));
    }
    if (!analysis.video.empty()) {
        sections += panel("Live video", legend(analysis.policies) + video_scatters(analysis));
        sections += panel("Live video in figures", video_table(analysis) + video_notes(analysis), "panel scroll");
    }
    if (!analysis.fairness.empty()) {
        sections += panel("Sharing a link", fairness_charts(analysis));
    }
    if (!analysis.regimes.empty()) {
        sections += panel("The link changes twice", regimes_panel(analysis), "panel scroll");
    }
    if (!analysis.crowd.empty()) {
        sections += panel("Many flows", crowd_panel(analysis), "panel scroll");
    }
    if (!analysis.stopped.empty()) {
        sections += panel("While the daemons stood still", stopped_panel(analysis), "panel scroll");
    }
    if (const std::string asking = asking_table(analysis); !asking.empty()) {
        sections += panel("What asking userspace costs a decision", asking, "panel scroll");
    }
    if (!analysis.bulk.empty()) {
        sections += panel("Every cell", traces_table(analysis), "panel scroll");
    }
    return fmt::format(fmt::runtime(report_page), fmt::arg("title", "Adapath arena"), fmt::arg("style", page_style),
                       fmt::arg("verdict", badge(analysis)), fmt::arg("facts", facts(analysis)),
                       fmt::arg("sections", sections));
}

std::string to_table(const Analysis& analysis) {
    std::string out;
    if (!analysis.medians.empty()) {
        out += fmt::format("{:<16}{:>7}{:>11}{:>9}{:>9}{:>9}{:>9}{:>8}{:>13}\n", "medians", "traces", "delivered",
                           "p50 ms", "p95 ms", "p99 ms", "mean ms", "drops", "CPU us/MB");
        for (const PolicyMedians& m : analysis.medians) {
            out += fmt::format("{:<16}{:>7}{:>10.1f}%{:>9.0f}{:>9.0f}{:>9.0f}{:>9.0f}{:>8.0f}{:>13}\n", m.policy,
                               m.traces, 100 * m.share, m.p50_ms, m.p95_ms, m.p99_ms, m.mean_ms, m.queue_drops,
                               m.cpu_us_per_mb ? fmt::format("{:.0f}", *m.cpu_us_per_mb) : "-");
        }
    }
    if (!analysis.video.empty()) {
        out += fmt::format("\n{:<16}{:<34}{:>5}{:>9}{:>9}{:>8}{:>9}{:>8}\n", "video", "trace", "seed", "p50 ms",
                           "p95 ms", "stalls", "skipped", "Mbit/s");
        for (const Point& p : analysis.video) {
            out += fmt::format("{:<16}{:<34}{:>5}{:>9.0f}{:>9.0f}{:>8.0f}{:>9.0f}{:>8.2f}{}\n", p.policy, p.trace,
                               p.seed, p.frame_p50_ms, p.frame_p95_ms, p.stalls, p.skipped, p.kbps / 1000,
                               p.broke.empty() ? "" : "  BROKE: " + p.broke);
        }
    }
    if (!analysis.fairness.empty()) {
        out += fmt::format("\n{:<34}{:<28}{:>8}\n", "sharing a link", "trace", "Jain");
        for (const FairnessPoint& p : analysis.fairness) {
            out += fmt::format("{:<34}{:<28}{:>8.3f}\n", p.pair, p.trace, p.jain);
        }
    }
    if (!analysis.regimes.empty()) {
        out += fmt::format("\n{:<16}{:>10}{:>12}{:>12}{:>14}{:>12}{:>12}{:>9}{:>10}\n", "link changes", "before",
                           "changed:", "last", "above frozen", "back:", "last", "p95 ms", "switches");
        out += fmt::format("{:<16}{:>10}{:>12}{:>12}{:>14}{:>12}{:>12}\n", "reward", "", "1st minute", "third",
                           "after, s", "1st minute", "third");
        for (const RegimePoint& p : analysis.regimes) {
            out += fmt::format("{:<16}{:>10.2f}{:>12.2f}{:>12.2f}{:>14}{:>12.2f}{:>12.2f}{:>9.0f}{:>10.0f}\n", p.policy,
                               p.phases[0].last, p.phases[1].first, p.phases[1].last,
                               p.above_after_s ? fmt::format("{:.0f}", *p.above_after_s) : "-", p.phases[2].first,
                               p.phases[2].last, p.p95_ms, p.switches);
        }
    }
    if (!analysis.crowd.empty()) {
        out += fmt::format("\n{:<16}{:<28}{:>6}{:>7}{:>11}{:>9}{:>9}{:>8}{:>13}{:>7}\n", "crowd", "link", "round",
                           "flows", "delivered", "p50 ms", "p95 ms", "Jain", "CPU us/MB", "busy");
        for (const Point& p : analysis.crowd) {
            out += fmt::format("{:<16}{:<28}{:>6}{:>7.0f}{:>10.1f}%{:>9.0f}{:>9.0f}{:>8.3f}{:>13}{:>6.0f}%\n", p.policy,
                               p.trace, p.seed, p.flows, 100 * p.share, p.p50_ms, p.p95_ms, p.jain,
                               p.cpu_us_per_mb ? fmt::format("{:.0f}", *p.cpu_us_per_mb) : "-", 100 * p.busy_share);
        }
    }
    if (!analysis.stopped.empty()) {
        out += fmt::format("\n{:<16}{:<34}{:>5}{:>11}{:>9}{:>9}\n", "daemon stopped", "trace", "seed", "delivered",
                           "p50 ms", "p95 ms");
        for (const Point& p : analysis.stopped) {
            out += fmt::format("{:<16}{:<34}{:>5}{:>10.1f}%{:>9.0f}{:>9.0f}\n", p.policy, p.trace, p.seed,
                               100 * p.share, p.p50_ms, p.p95_ms);
        }
    }
    if (!analysis.verdicts.empty()) {
        out += fmt::format("\n{:<16}{:<52}{:>14}{:>14}\n", "figures", "", "required", "measured");
        for (const Verdict& v : analysis.verdicts) {
            out += fmt::format("{:<16}{:<52}{:>14}{:>14}  {}\n", v.policy, v.name, v.required, value_text(v),
                               !v.value ? ""
                               : v.met  ? "met"
                                        : "MISSED");
        }
    }
    return out;
}

Result<std::string> make_report(const std::string& out) {
    Result<std::vector<Json>> lines = read_results(results_path(out));
    if (!lines) {
        return lines.error();
    }
    if (lines->empty()) {
        return Error{
            fmt::format("{}: there are no results yet; measure some with 'make bench-cc' or adapath-arena "
                        "--out {}",
                        results_path(out), out)};
    }
    const Analysis analysis = analyse(*lines);
    const std::string page = out + "/report.html";
    const std::string summary = out + "/summary.json";
    if (Status written = write_file_durably(page, to_html(analysis)); !written) {
        return written.error();
    }
    if (Status written = write_file_durably(summary, summary_json(analysis).dump(2) + "\n"); !written) {
        return written.error();
    }
    return fmt::format("{}\n  {}\n  {}\n", to_table(analysis), page, summary);
}

}  // namespace adapath::arena
