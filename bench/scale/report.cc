// See report.h.
#include "bench/scale/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "codegen/version.h"
#include "userspace/harness/chart.h"
#include "userspace/harness/page.h"

namespace adapath::scale {
namespace {

struct Series {
    std::string name;
    std::string css;
    std::vector<double> values;  // one a point; NaN = not measured
};

std::string number(double value) {
    return std::abs(value) >= 100 || value == std::round(value) ? fmt::format("{:.0f}", value)
           : std::abs(value) >= 10                              ? fmt::format("{:.1f}", value)
                                                                : fmt::format("{:.2f}", value);
}

// Over the number of flows on a logarithmic axis; upwards from zero.
std::string chart(const std::string& title, const std::string& unit, const std::vector<Point>& points,
                  const std::vector<Series>& all) {
    double high = 0;
    for (const Series& series : all) {
        for (const double value : series.values) {
            high = std::isfinite(value) ? std::max(high, value) : high;
        }
    }
    const double step = nice_step(std::max(high, 1e-3), 4);
    const auto fewest = static_cast<double>(points.front().flows);
    Chart picture(
        {.width = 520, .height = 240},
        {.low = fewest, .high = std::max(static_cast<double>(points.back().flows), 10 * fewest), .logarithmic = true},
        {.low = 0, .high = std::max(step, std::ceil(high / step) * step)});
    picture.axes(unit, " flows");
    std::string keys;
    for (const Series& series : all) {
        ChartLine line;
        for (size_t i = 0; i < points.size(); i++) {
            if (std::isfinite(series.values[i])) {
                line.push_back({static_cast<double>(points[i].flows), series.values[i]});
            }
        }
        picture.curve(line, "curve " + series.css, 1e18);
        for (const ChartPoint& at : line) {
            picture.dot(at, 3.5, series.css, fmt::format("{} flows, {}: {} {}", at.x, series.name, number(at.y), unit));
        }
        keys += fmt::format("<span class='key {}'>{}</span>", series.css, escape_html(series.name));
    }
    return fmt::format("<figure class='panel'><figcaption><b>{}</b>{}</figcaption>{}</figure>", escape_html(title),
                       all.size() > 1 ? keys : "", picture.svg("", title));
}

template <typename Value>
std::vector<double> of(const std::vector<Point>& points, Value&& value) {
    std::vector<double> values;
    for (const Point& point : points) {
        values.push_back(value(point));
    }
    return values;
}

struct Column {
    const char* name;
    const char* unit;
    double (*value)(const Point&);
};

// The same figures on the terminal and on the page.
const std::vector<Column>& columns() {
    static const std::vector<Column> all = {
        {"flows", "", [](const Point& p) { return static_cast<double>(p.flows); }},
        {"ACKs", "/s", [](const Point& p) { return p.per_second(p.adapath.acks); }},
        {"decisions", "/s", [](const Point& p) { return p.per_second(p.decisions); }},
        {"ACK", "ns", [](const Point& p) { return p.ns_per_ack(); }},
        {"CUBIC ACK", "ns", [](const Point& p) { return p.cubic.ns_per_ack(); }},
        {"ratio", "", [](const Point& p) { return p.ratio_to_cubic(); }},
        {"empty run", "ns", [](const Point& p) { return p.empty_ns(); }},
        {"net ratio", "", [](const Point& p) { return p.net_ratio_to_cubic(); }},
        {"decision", "ns", [](const Point& p) { return p.ns_per_decision(); }},
        {"all", "ns/ACK", [](const Point& p) { return p.adapath.ns_per_ack(); }},
        {"a flow", "bytes", [](const Point& p) { return p.option_memory_bytes; }},
        {"lost", "samples", [](const Point& p) { return static_cast<double>(p.samples_lost); }},
        {"daemon", "% core", [](const Point& p) { return p.daemon_cpu_percent; }},
        {"resident", "MB", [](const Point& p) { return static_cast<double>(p.daemon_rss_bytes) / 1e6; }},
        {"status", "KB", [](const Point& p) { return static_cast<double>(p.status_bytes) / 1e3; }},
        {"machine", "% busy", [](const Point& p) { return p.busy_percent; }},
    };
    return all;
}

nlohmann::json json_of(const Measured& measured) {
    nlohmann::json programs = nlohmann::json::object();
    for (const auto& [name, time] : measured.times) {
        programs[name] = {{"ns", time.ns}, {"runs", time.runs}};
    }
    return {{"ns_per_ack", measured.ns_per_ack()},
            {"acks", measured.acks},
            {"seconds", measured.seconds},
            {"received_bytes", measured.received_bytes},
            {"dropped_packets", measured.dropped_packets},
            {"programs", programs}};
}

}  // namespace

void Windows::add(double ns, double acks, double due) {
    if (acks == 0) {
        return;
    }
    count++;
    without += due == 0 ? 1 : 0;
    aa += acks * acks;
    ad += acks * due;
    dd += due * due;
    an += acks * ns;
    dn += due * ns;
}

double Windows::ns_per_decision() const {
    const double determinant = aa * dd - ad * ad;
    return determinant > 0 ? (aa * dn - ad * an) / determinant : std::nan("");
}

double Point::net_ns_per_ack(const Measured& measured) const {
    const RunTime all = total(measured.times);
    return measured.acks != 0 ? (static_cast<double>(all.ns) - empty_ns() * static_cast<double>(all.runs)) /
                                    static_cast<double>(measured.acks)
                              : 0;
}

double Point::ns_per_decision() const {
    return windows.conclusive() ? windows.ns_per_decision() : ns_per_decision_by_difference();
}

double Point::ns_per_decision_by_difference() const {
    const double beyond =
        static_cast<double>(total(adapath.times).ns) - ns_per_ack() * static_cast<double>(adapath.acks);
    return due != 0 ? beyond / static_cast<double>(due) : std::nan("");
}

std::string to_table(const std::vector<Point>& points) {
    std::string text, units;
    for (const Column& column : columns()) {
        text += fmt::format("{:>10}", column.name);
        units += fmt::format("{:>10}", column.unit);
    }
    text += "\n" + units + "\n";
    for (const Point& point : points) {
        for (const Column& column : columns()) {
            text += fmt::format("{:>10}", number(column.value(point)));
        }
        text += "\n";
    }
    return text;
}

std::string to_json(const Settings& settings, const std::vector<Point>& points) {
    nlohmann::json all = nlohmann::json::array();
    for (const Point& p : points) {
        nlohmann::json maps = nlohmann::json::array();
        for (const MapCost& map : p.maps) {
            maps.push_back({{"name", map.name},
                            {"memlock_bytes", map.memlock_bytes},
                            {"value_bytes", map.value_bytes},
                            {"entries", map.entries}});
        }
        nlohmann::json slabs = nlohmann::json::array();
        for (const Point::Slab& slab : p.slabs) {
            slabs.push_back({{"name", slab.name},
                             {"objects_per_flow", slab.objects_per_flow},
                             {"object_bytes", slab.object_bytes}});
        }
        all.push_back({{"flows", p.flows},
                       {"packets_per_s_asked", p.packets_per_s_asked},
                       {"ns_per_ack_nothing_due", p.ns_per_ack()},
                       {"ns_per_decision", p.ns_per_decision()},
                       {"ns_per_ack_cubic", p.cubic.ns_per_ack()},
                       {"ratio_to_cubic", p.ratio_to_cubic()},
                       {"ns_empty_run", p.empty_ns()},
                       {"net_ratio_to_cubic", p.net_ratio_to_cubic()},
                       {"net_ns_per_ack_nothing_due", p.net_ns_per_ack(p.never_due)},
                       {"net_ns_per_ack_cubic", p.net_ns_per_ack(p.cubic)},
                       {"ns_per_decision_by_windows", p.windows.ns_per_decision()},
                       {"ns_per_decision_by_difference", p.ns_per_decision_by_difference()},
                       {"windows_conclusive", p.windows.conclusive()},
                       {"adapath", json_of(p.adapath)},
                       {"never_due", json_of(p.never_due)},
                       {"cubic", json_of(p.cubic)},
                       {"decisions", p.decisions},
                       {"intervals_ended", p.due},
                       {"fallbacks", p.fallbacks},
                       {"samples", p.samples},
                       {"samples_lost", p.samples_lost},
                       {"sequence_gaps", p.sequence_gaps},
                       {"decisions_unexplained", p.unexplained},
                       {"daemon_cpu_percent", p.daemon_cpu_percent},
                       {"daemon_rss_bytes", p.daemon_rss_bytes},
                       {"daemon_peak_bytes", p.daemon_peak_bytes},
                       {"status_bytes", p.status_bytes},
                       {"status_ms", p.status_ms},
                       {"emulator_late_p99_us", p.late_p99_us},
                       {"asking", p.asking.empty() ? nlohmann::json() : nlohmann::json::parse(p.asking)},
                       {"socket_option_memory_bytes_per_flow", p.option_memory_bytes},
                       {"maps", maps},
                       {"slab_growth", slabs},
                       {"machine_busy_percent", p.busy_percent}});
    }
    const nlohmann::json document = {{"adapath", kVersion},
                                     {"kernel", settings.kernel},
                                     {"machine", settings.machine},
                                     {"backend", settings.backend},
                                     {"load_averages", settings.load},
                                     {"rtt_ms", settings.rtt_ms},
                                     {"packets_per_s", settings.packets_per_s},
                                     {"seconds_per_measurement", settings.seconds},
                                     {"rounds", settings.rounds},
                                     {"ring_bytes", settings.ring_bytes},
                                     {"interval_ms", settings.interval_ms},
                                     {"points", all}};
    return document.dump(2) + "\n";
}

std::string to_page(const Settings& settings, const std::vector<Point>& points) {
    std::string charts;
    charts += chart("An ACK at which nothing is due", "ns", points,
                    {{"adapath", "one", of(points, [](const Point& p) { return p.ns_per_ack(); })},
                     {"CUBIC in BPF", "two", of(points, [](const Point& p) { return p.cubic.ns_per_ack(); })},
                     {"adapath, decisions spread over its ACKs", "three",
                      of(points, [](const Point& p) { return p.adapath.ns_per_ack(); })}});
    charts += chart(
        "What a decision adds", "ns", points,
        {{"features, network, rate, sample", "one", of(points, [](const Point& p) { return p.ns_per_decision(); })}});
    charts += chart("Memory of one flow, charged to its socket", "bytes", points,
                    {{"", "one", of(points, [](const Point& p) { return p.option_memory_bytes; })}});
    charts += chart("The daemon's processor time", "% of one core", points,
                    {{"", "one", of(points, [](const Point& p) { return p.daemon_cpu_percent; })}});
    charts += chart(
        "The daemon's memory", "MB", points,
        {{"resident", "one", of(points, [](const Point& p) { return static_cast<double>(p.daemon_rss_bytes) / 1e6; })},
         {"at most", "two",
          of(points, [](const Point& p) { return static_cast<double>(p.daemon_peak_bytes) / 1e6; })}});
    charts += chart("Samples", "per second", points,
                    {{"made", "one", of(points, [](const Point& p) { return p.per_second(p.samples); })},
                     {"lost", "lost", of(points, [](const Point& p) { return p.per_second(p.samples_lost); })}});
    std::string rows = "<tr>";
    for (const Column& column : columns()) {
        rows += fmt::format("<th>{}<br>{}</th>", column.name, column.unit);
    }
    rows += "</tr>";
    for (const Point& point : points) {
        rows += "<tr>";
        for (const Column& column : columns()) {
            rows += fmt::format("<td>{}</td>", number(column.value(point)));
        }
        rows += "</tr>";
    }
    return fmt::format(
        R"page(<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Adapath: the cost of scale</title>
<style>
{}.charts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 14px; margin: 18px 0; }}
.curve {{ fill: none; stroke-width: 2; stroke: currentColor; }} circle {{ fill: currentColor; }}
.one {{ color: var(--delivered); }} .two {{ color: var(--reward); }} .three {{ color: var(--rtt); }} .lost {{ color: var(--bad); }}
.key::before {{ background: currentColor; }}
</style>
<main><header><h1>The cost of scale <span class="product">Adapath</span></h1>
<p class="facts">{}; kernel {}; Adapath {}; backend {}; load averages at the start {}. Round trip {} ms, {} packets/s over all flows, {} rounds of
{} s each.</p></header>
<p class="hint">Times are the kernel's own count of what each BPF program ran (bpf_stats): trampolines and the rest of TCP are not in them, the counting
itself is (the column "empty run"; the net ratio is without it). An ACK at which nothing is due is measured with the same program on the same flows in
which no interval ends. What a decision adds is fitted over windows of some milliseconds where many of them hold none, else it is what the deciding
program took beyond its ACKs, over its decisions.</p>
<div class="charts">{}</div><div class="scroll"><table>{}</table></div></main></html>
)page",
        page_style, escape_html(settings.machine), escape_html(settings.kernel), kVersion,
        escape_html(settings.backend), escape_html(settings.load), number(settings.rtt_ms),
        number(settings.packets_per_s), settings.rounds, number(settings.seconds), charts, rows);
}

}  // namespace adapath::scale
