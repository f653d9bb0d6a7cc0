// See report.h. The page is drawn here, point by point, so that it needs no script to be read; the script at its end
// only adds the crosshair with figures.
#include "userspace/demo/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "userspace/demo/qp_act.h"
#include "userspace/demo/report_page.h"
#include "userspace/demo/select_section.h"
#include "userspace/harness/chart.h"
#include "userspace/harness/page.h"

namespace adapath::demo {
namespace {

// All charts share the horizontal axis, so that a mark stands at the same place in each.
constexpr ChartShape shape{};
constexpr double chart_width = shape.width;
constexpr double left = shape.left;
constexpr double right = shape.width - shape.right_space;

using Point = ChartPoint;  // x: seconds since the start
using Line = ChartLine;

// One bin of a series.
struct Bin {
    double t = 0;  // its middle
    double p50 = 0, p95 = 0, min = 0, max = 0;
};

double seconds(const Recording& r, uint64_t time_us) {
    return (static_cast<double>(time_us) - static_cast<double>(r.start_us)) / 1e6;
}

double duration_of(const Recording& r) {
    return r.end_us > r.start_us ? seconds(r, r.end_us) : std::max(1.0, r.settings.duration_s);
}

Chart time_chart(double duration, double height, double low, double high) {
    ChartShape time_shape;
    time_shape.height = height;
    return {time_shape, {.low = 0, .high = duration}, {.low = low, .high = high}};
}

std::vector<Bin> bins_of(const std::vector<Point>& points, double duration, double width) {
    std::map<int64_t, std::vector<double>> cells;
    for (const Point& point : points) {
        if (point.x >= 0 && point.x <= duration) {
            cells[static_cast<int64_t>(point.x / width)].push_back(point.y);
        }
    }
    std::vector<Bin> bins;
    for (const auto& [index, values] : cells) {
        Bin bin;
        bin.t = (static_cast<double>(index) + 0.5) * width;
        bin.p50 = percentile(values, 50);
        bin.p95 = percentile(values, 95);
        bin.min = *std::min_element(values.begin(), values.end());
        bin.max = *std::max_element(values.begin(), values.end());
        bins.push_back(bin);
    }
    return bins;
}

Line line_of(const std::vector<Bin>& bins, double Bin::* value) {
    Line line;
    for (const Bin& bin : bins) {
        line.push_back({bin.t, bin.*value});
    }
    return line;
}

// Where a few seconds (the bad snapshot's) are far above all others, the axis follows the others and the rest is cut
// off.
double axis_top(const std::vector<Bin>& bins, double Bin::* value) {
    std::vector<double> values;
    double most = 0;
    for (const Bin& bin : bins) {
        values.push_back(bin.*value);
        most = std::max(most, bin.*value);
    }
    const double usual = percentile(std::move(values), 85);
    const double top = most > 4 * usual ? 4 * usual : most;
    const double step = nice_step(std::max(top, 1.0), 4);
    return std::ceil(top / step) * step;
}

// What happened, for the marks: the burst is one band, not a hundred lines.
void draw_marks(Chart& chart, const Recording& r) {
    for (const SwitchPoint& point : r.switches) {
        if (!point.forced_burst) {
            chart.mark(seconds(r, point.time_us), name_of(point.kind),
                       fmt::format("{:.1f} s: {} (generation {} to {})", seconds(r, point.time_us), point.text,
                                   point.from_generation, point.generation));
        }
    }
}
void draw_bands(Chart& chart, const Recording& r) {
    if (r.forced.burst_end_us > r.forced.burst_start_us) {
        chart.band(seconds(r, r.forced.burst_start_us), seconds(r, r.forced.burst_end_us), "parameter");
    }
    if (r.forced.bad_us != 0) {
        chart.band(seconds(r, r.forced.bad_us),
                   r.forced.rolled_back_us > r.forced.bad_us ? seconds(r, r.forced.rolled_back_us) : duration_of(r),
                   "bad");
    }
}

// The lane over the first chart that names the phases and marks.
std::string lane(const Recording& r) {
    constexpr double height = 46;
    const double duration = duration_of(r);
    const auto x = [&](double t) { return left + (right - left) * std::clamp(t / duration, 0.0, 1.0); };
    std::string body;
    for (const Phase& phase : r.phases) {
        const double from = x(seconds(r, phase.start_us));
        const double to = x(phase.end_us > phase.start_us ? seconds(r, phase.end_us) : duration);
        body += fmt::format("<rect class='phase' x='{:.1f}' y='2' width='{:.1f}' height='19' rx='3'/>", from,
                            std::max(2.0, to - from - 2));
        // About six units a character at this size.
        if (to - from > 6.0 * static_cast<double>(phase.name.size()) + 8) {
            body += fmt::format("<text class='phase-name' x='{:.1f}' y='15.5' text-anchor='middle'>{}</text>",
                                (from + to - 2) / 2, escape_html(phase.name));
        }
        body += fmt::format("<title>{}</title>", escape_html(phase.name));
    }
    double taken = -1e9;
    for (const SwitchPoint& point : r.switches) {
        if (point.forced_burst) {
            continue;
        }
        const double at = x(seconds(r, point.time_us));
        body += fmt::format("<g class='mark {}'><path d='M{:.1f} 46l-5 -9h10z'/><title>{:.1f} s: {}</title></g>",
                            name_of(point.kind), at, seconds(r, point.time_us), escape_html(point.text));
        const std::string text = fmt::format("gen {}", point.generation);
        if (at - taken > 44) {
            body += fmt::format("<text class='tick' x='{:.1f}' y='33' text-anchor='middle'>{}</text>",
                                std::clamp(at, left + 14, right - 14), text);
            taken = at;
        }
    }
    return fmt::format(
        "<svg class='chart lane' viewBox='0 0 {:.0f} {:.0f}' role='img' aria-label='What happened when'>{}</svg>",
        chart_width, height, body);
}

struct Active {
    double from = 0, to = 0;
    uint32_t generation = 0;
    SwitchKind kind = SwitchKind::first;
    bool burst = false;
};

// Which generation decided when; the burst's as one.
std::vector<Active> active_periods(const Recording& r) {
    std::vector<const SwitchPoint*> switches;
    for (const SwitchPoint& point : r.switches) {
        switches.push_back(&point);
    }
    std::sort(switches.begin(), switches.end(),
              [](const SwitchPoint* a, const SwitchPoint* b) { return a->time_us < b->time_us; });
    std::vector<Active> periods;
    for (size_t i = 0; i < switches.size(); i++) {
        const SwitchPoint& point = *switches[i];
        const double from = std::max(0.0, seconds(r, point.time_us));
        const double to = i + 1 < switches.size() ? seconds(r, switches[i + 1]->time_us) : duration_of(r);
        if (to <= 0) {
            continue;
        }
        if (point.forced_burst && !periods.empty() && periods.back().burst) {
            periods.back().to = to;
            periods.back().generation = point.generation;
            continue;
        }
        periods.push_back({from, to, point.generation, point.kind, point.forced_burst});
    }
    // The last of the burst stays active after it: its own period from there on.
    for (size_t i = 0; i < periods.size(); i++) {
        const double burst_end = seconds(r, r.forced.burst_end_us);
        if (periods[i].burst && periods[i].to > burst_end + 0.2 && burst_end > periods[i].from) {
            Active rest = periods[i];
            rest.burst = false;
            rest.from = burst_end;
            periods[i].to = burst_end;
            periods.insert(periods.begin() + static_cast<ptrdiff_t>(i) + 1, rest);
        }
    }
    return periods;
}

// Reward of each interval, credited to the decision before it.
std::vector<std::pair<const SamplePoint*, double>> outcomes(const Recording& r) {
    std::map<std::pair<uint64_t, uint32_t>, const SamplePoint*> by_seq;
    for (const SamplePoint& sample : r.samples) {
        by_seq[{sample.flow, sample.seq}] = &sample;
    }
    std::vector<std::pair<const SamplePoint*, double>> list;
    for (const SamplePoint& sample : r.samples) {
        const auto next = by_seq.find({sample.flow, sample.seq + 1});
        if (sample.generation != 0 && next != by_seq.end()) {
            list.emplace_back(&sample, next->second->reward);
        }
    }
    return list;
}

struct Drawn {
    std::string svg;
    std::vector<Point> series;  // for the crosshair
    std::vector<Point> second;
};

std::string series_json(const std::vector<Point>& series) {
    std::string out = "[";
    for (const Point& point : series) {
        out += fmt::format("{}[{:.2f},{:.2f}]", out.size() > 1 ? "," : "", point.x, point.y);
    }
    return out + "]";
}

Drawn delivery_chart(const Recording& r, double duration, double bin) {
    // Link points into bins of the chart.
    std::map<int64_t, std::pair<double, double>> cells;
    for (const LinkPoint& point : r.link) {
        const double t = seconds(r, point.time_us);
        if (t > 0 && t <= duration) {
            auto& [capacity, delivered] = cells[static_cast<int64_t>(std::ceil(t / bin - 1e-6))];
            capacity += static_cast<double>(point.capacity_bytes) * 8 / 1e6 / bin;
            delivered += static_cast<double>(point.delivered_bytes) * 8 / 1e6 / bin;
        }
    }
    // The local backend has no link of ours: what its flows delivered is all there is.
    const bool from_samples = r.link.empty();
    if (from_samples) {
        for (const SamplePoint& sample : r.samples) {
            const double t = seconds(r, sample.time_us);
            if (t > 0 && t <= duration) {
                cells[static_cast<int64_t>(std::ceil(t / bin - 1e-6))].second +=
                    static_cast<double>(sample.delivered_bytes) * 8 / 1e6 / bin;
            }
        }
    }
    Drawn drawn;
    Line capacity;
    double most = 1;
    for (const auto& [index, cell] : cells) {
        const double t = std::min(duration, static_cast<double>(index) * bin);
        capacity.push_back({t, cell.first});
        drawn.series.push_back({t, cell.second});
        most = std::max({most, cell.first, cell.second});
    }
    drawn.second = from_samples ? Line{} : capacity;
    const double step = nice_step(most, 5);
    Chart chart = time_chart(duration, 230, 0, std::ceil(most / step) * step);
    draw_bands(chart, r);
    chart.axes("rate (Mbit/s)", "s");
    if (!from_samples) {
        chart.steps(capacity, "capacity", true);
    }
    chart.steps(drawn.series, "delivered", false);
    draw_marks(chart, r);
    drawn.svg = chart.svg("delivery", "Delivery rate against link capacity over time, in Mbit/s");
    return drawn;
}

Drawn binned_chart(const Recording& r, const std::vector<Point>& points, double duration, double bin,
                   const std::string& id, const std::string& css, const std::string& name,
                   const std::string& description) {
    const std::vector<Bin> bins = bins_of(points, duration, bin);
    Drawn drawn;
    drawn.series = line_of(bins, &Bin::p50);
    drawn.second = line_of(bins, &Bin::p95);
    Chart chart = time_chart(duration, 160, 0, axis_top(bins, &Bin::p95));
    draw_bands(chart, r);
    chart.axes(name + " (ms)", "s");
    chart.ribbon(drawn.series, drawn.second, css + "-fill");
    chart.curve(drawn.series, css, 4 * bin);
    draw_marks(chart, r);
    // What the axis leaves out is said.
    const auto peak =
        std::max_element(bins.begin(), bins.end(), [](const Bin& a, const Bin& b) { return a.p95 < b.p95; });
    if (peak != bins.end() && peak->p95 > axis_top(bins, &Bin::p95)) {
        chart.add(fmt::format("<text class='on-chart' x='{:.1f}' y='{:.1f}' text-anchor='middle'>peak {:.0f} ms</text>",
                              std::clamp(chart.x(peak->t), left + 40, right - 40), chart.top() + 12, peak->p95));
    }
    drawn.svg = chart.svg(id, description);
    return drawn;
}

Drawn reward_chart(const Recording& r, double duration, double bin) {
    const auto earned = outcomes(r);
    std::map<int64_t, std::pair<double, int>> cells;
    for (const auto& [sample, reward] : earned) {
        const double t = seconds(r, sample->time_us);
        if (t >= 0 && t <= duration) {
            auto& [sum, count] = cells[static_cast<int64_t>(t / bin)];
            sum += reward;
            count++;
        }
    }
    Drawn drawn;
    std::vector<double> values;
    for (const auto& [index, cell] : cells) {
        drawn.series.push_back({(static_cast<double>(index) + 0.5) * bin, cell.first / cell.second});
        values.push_back(cell.first / cell.second);
    }
    double low = percentile(values, 1), high = values.empty() ? 1 : *std::max_element(values.begin(), values.end());
    const double step = nice_step(std::max(high - low, 0.5), 4);
    low = std::floor(low / step) * step;
    high = std::ceil(high / step) * step;

    Chart chart = time_chart(duration, 190, low, high);
    draw_bands(chart, r);
    chart.axes("reward", "s");
    chart.curve(drawn.series, "reward", 4 * bin);
    draw_marks(chart, r);
    for (const Active& period : active_periods(r)) {
        double sum = 0;
        int count = 0;
        for (const auto& [sample, reward] : earned) {
            const double t = seconds(r, sample->time_us);
            if (t >= period.from && t < period.to && (period.burst || sample->generation == period.generation)) {
                sum += reward;
                count++;
            }
        }
        if (count == 0) {
            continue;
        }
        const double mean = sum / count;
        const std::string what = period.burst ? "burst" : fmt::format("gen {}", period.generation);
        chart.add(
            fmt::format("<g class='generation {}'><line x1='{:.1f}' x2='{:.1f}' y1='{:.1f}' y2='{:.1f}'/>"
                        "<title>{}: mean reward {:.2f} over {} decisions</title></g>",
                        name_of(period.kind), chart.x(period.from), chart.x(period.to), chart.y(mean), chart.y(mean),
                        what, mean, count));
        // About six units a character: the name goes where there is no room for it, then the figure.
        const double room = chart.x(period.to) - chart.x(period.from);
        const std::string label = room > 92 ? fmt::format("{} · {:.2f}", what, mean) : fmt::format("{:.2f}", mean);
        if (room > 28) {
            chart.add(fmt::format("<text class='on-chart' x='{:.1f}' y='{:.1f}' text-anchor='middle'>{}</text>",
                                  (chart.x(period.from) + chart.x(period.to)) / 2,
                                  chart.y(mean) < chart.top() + 22 ? chart.y(mean) + 16 : chart.y(mean) - 7, label));
        }
    }
    drawn.svg = chart.svg("reward", "Reward over time and its mean by generation");
    return drawn;
}

std::string cards(const Recording& r, const Summary& s) {
    std::string out;
    if (r.video.present) {
        out += card(grouped(r.video.frames_lost), "frames lost", "of " + grouped(r.video.frames_sent) + " sent",
                    r.video.frames_lost == 0 && r.video.frames_sent > 0);
    }
    const uint64_t unexplained = std::max(r.verification.unexplained, r.counters.decisions_unexplained);
    const uint64_t lost = std::max({r.counters.samples_lost, r.counters.sequence_gaps});
    out += card(grouped(lost), "decisions lost", "of " + grouped(r.counters.decisions) + " in the kernel's datapath",
                lost == 0);
    out += card(r.verification.ran ? grouped(unexplained) : "?", "decisions unexplained",
                grouped(r.verification.decisions) + " run again, bit for bit", r.verification.ran && unexplained == 0);
    out += card(grouped(s.switches_parameter + s.switches_network), "switches under live flows",
                fmt::format("{} asked for by training, {} to another network", s.switches_trained, s.switches_network),
                std::nullopt);
    out += card(fmt::format("{:.1f} ms", s.gaps.at_switch.max), "largest gap at a switch",
                fmt::format("away from switches up to {:.1f} ms", s.gaps.away.max), std::nullopt);
    if (s.capacity_bytes > 0) {
        out += card(fmt::format("{:.0f} %",
                                100.0 * static_cast<double>(s.delivered_bytes) / static_cast<double>(s.capacity_bytes)),
                    "of the uplink used", fmt::format("RTT p95 {:.0f} ms", s.rtt_p95_ms), std::nullopt);
    } else {
        out += card(fmt::format("{:.0f} ms", s.rtt_p95_ms), "RTT p95", fmt::format("p50 {:.0f} ms", s.rtt_p50_ms),
                    std::nullopt);
    }
    return out;
}

std::string figures(const Recording& r, const Summary& s) {
    std::string out;
    const auto row = [&](const std::string& name, const std::string& value) {
        out += fmt::format("<tr><th>{}</th><td>{}</td></tr>", name, value);
    };
    if (r.video.present) {
        row("Frames",
            fmt::format("{} sent, {} decoded, {} lost, {} late", grouped(r.video.frames_sent),
                        grouped(r.video.frames_decoded), grouped(r.video.frames_lost), grouped(r.video.frames_late)));
        row("Frames not encoded", fmt::format("{} (the uplink was full at their time; nothing encoded was dropped)",
                                              grouped(r.video.frames_skipped)));
        row("Frame delay, capture to decoded",
            fmt::format("p50 {:.0f}, p95 {:.0f}, p99 {:.0f} ms; p95 away from the bad snapshot {:.0f} ms",
                        s.frame_delay_p50_ms, s.frame_delay_p95_ms, s.frame_delay_p99_ms,
                        s.frame_delay_p95_without_bad_ms));
    }
    if (s.capacity_bytes > 0) {
        row("Delivered", fmt::format("{:.1f} of {:.1f} MB that the link offered; {} packets dropped at its queue",
                                     static_cast<double>(s.delivered_bytes) / 1e6,
                                     static_cast<double>(s.capacity_bytes) / 1e6, grouped(s.drops)));
    }
    row("RTT", fmt::format("p50 {:.0f}, p95 {:.0f}, p99 {:.0f} ms", s.rtt_p50_ms, s.rtt_p95_ms, s.rtt_p99_ms));
    row("Decisions", fmt::format("{} by a snapshot, {} by the fallback; {} ACKs", grouped(r.counters.decisions),
                                 grouped(r.counters.fallbacks), grouped(r.counters.acks)));
    row("Switches", fmt::format("{} of parameters, {} of the network, {} asked for by training, {} rolled back",
                                s.switches_parameter, s.switches_network, s.switches_trained, s.rollbacks));
    row("The switch itself", fmt::format("p50 {:.2f}, max {:.2f} µs", s.switch_us_p50, s.switch_us_max));
    row("Gap between decisions of a flow",
        fmt::format(
            "away from switches p50 {:.1f}, p99 {:.1f}, max {:.1f} ms; with a switch in it p50 {:.1f}, max {:.1f} ms; "
            "under the bad snapshot max {:.1f} ms; the uplink's outages taken out",
            s.gaps.away.p50, s.gaps.away.p99, s.gaps.away.max, s.gaps.at_switch.p50, s.gaps.at_switch.max,
            s.gaps.under_bad.max));
    row("Daemon", fmt::format("{:.1f} MB resident", static_cast<double>(r.counters.resident_bytes) / 1e6));
    return out;
}

std::string verdicts(const Summary& s) {
    std::string out;
    for (const Criterion& c : s.criteria) {
        out += fmt::format("<li class='{}'><b>{}</b> {}</li>", c.passed ? "good" : "wrong", escape_html(c.name),
                           escape_html(c.text));
    }
    return out;
}

std::string switch_rows(const Recording& r) {
    std::string out;
    const auto row = [&](const std::string& t, const char* kind, const std::string& generation, const std::string& us,
                         const std::string& text) {
        out += fmt::format("<tr><td>{}</td><td><i class='dot {}'></i>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>", t,
                           kind, kind, generation, us, escape_html(text));
    };
    size_t burst = 0;
    std::vector<double> burst_us;
    for (const SwitchPoint& point : r.switches) {
        if (point.forced_burst) {
            burst++;
            burst_us.push_back(point.switch_us);
        }
    }
    bool burst_said = false;
    for (const SwitchPoint& point : r.switches) {
        const std::string t = fmt::format("{:.1f} s", seconds(r, point.time_us));
        if (!point.forced_burst) {
            row(t, name_of(point.kind), fmt::format("{} → {}", point.from_generation, point.generation),
                point.switch_us > 0 ? fmt::format("{:.2f} µs", point.switch_us) : "", point.text);
        } else if (!burst_said) {
            burst_said = true;
            row(t, "parameter", fmt::format("{} of them", burst),
                fmt::format("p50 {:.2f} µs", percentile(burst_us, 50)),
                fmt::format("forced: freshly frozen parameters, one after the other, for {:.1f} s",
                            seconds(r, r.forced.burst_end_us) - seconds(r, r.forced.burst_start_us)));
        }
    }
    return out;
}

}  // namespace

std::string to_html(const Recording& r, const Summary& s) {
    const double duration = duration_of(r);
    // At most some 240 points a series, whatever the duration.
    const double bin = std::max(0.25, duration / 240);

    std::vector<Point> rtts, delays;
    for (const SamplePoint& sample : r.samples) {
        rtts.push_back({seconds(r, sample.time_us), sample.rtt_us / 1000.0});
    }
    for (const FramePoint& frame : r.frames) {
        // At the capture: that is when the picture's wait begins.
        delays.push_back(
            {seconds(r, frame.captured_us), static_cast<double>(frame.decoded_us - frame.captured_us) / 1000.0});
    }
    const Drawn delivery = delivery_chart(r, duration, std::max(0.5, bin));
    const Drawn rtt =
        binned_chart(r, rtts, duration, bin, "rtt", "rtt", "RTT", "Round-trip time over time, in milliseconds");
    const Drawn reward = reward_chart(r, duration, std::max(0.5, bin));

    std::string charts = "<figure><figcaption><b>What happened when</b></figcaption>" + lane(r) + "</figure>";
    charts += fmt::format(
        "<figure><figcaption><b>Delivery rate{}</b>{}<span class='key delivered-key'>{}</span></figcaption>{}</figure>",
        r.link.empty() ? "" : " against link capacity",
        r.link.empty() ? "" : "<span class='key capacity-key'>link capacity</span>",
        r.link.empty() ? "delivered to the flows" : "delivered to the server", delivery.svg);
    charts +=
        "<figure><figcaption><b>Round-trip time</b><span class='key rtt-key'>median of all flows' decisions, shaded to "
        "the "
        "95th percentile</span></figcaption>" +
        rtt.svg + "</figure>";
    std::string delay_series = "[]", delay_second = "[]";
    if (!r.frames.empty()) {
        const Drawn delay = binned_chart(r, delays, duration, bin, "delay", "delay", "delay",
                                         "Frame delay from capture to decoded, in milliseconds");
        charts +=
            "<figure><figcaption><b>Frame delay</b><span class='key delay-key'>capture to decoded, median of all "
            "cameras, shaded "
            "to the 95th percentile</span></figcaption>" +
            delay.svg + "</figure>";
        delay_series = series_json(delay.series);
        delay_second = series_json(delay.second);
    }
    charts +=
        "<figure><figcaption><b>Reward by generation</b><span class='key reward-key'>mean of all decisions</span><span "
        "class='key generation-key'>mean of the generation while it decided</span></figcaption>" +
        reward.svg +
        "<p class='hint'>1 more is twice the throughput, or a quarter of the delay. The link moves by itself, so "
        "rewards of "
        "different times compare only roughly.</p></figure>";

    const std::string legend = fmt::format(
        "<div class='legend'>"
        "<span><i class='dot first'></i>first snapshot</span>"
        "<span><i class='dot trained'></i>switch that training asked for</span>"
        "<span><i class='dot parameter'></i>forced switches of parameters, {} a second</span>"
        "<span><i class='dot network'></i>switch to another network</span>"
        "<span><i class='dot bad'></i>bad snapshot</span>"
        "<span><i class='dot rollback'></i>rolled back by the daemon</span></div>",
        r.settings.switch_rate);
    const std::string data = fmt::format(
        "{{duration:{:.3f},left:{},right:{},series:{{delivery:[{},{},'Mbit/s','delivered','capacity'],"
        "rtt:[{},{},'ms','median','p95'],delay:[{},{},'ms','median','p95'],reward:[{},[],'','mean','']}}}}",
        duration, left, right, series_json(delivery.series), series_json(delivery.second), series_json(rtt.series),
        series_json(rtt.second), delay_series, delay_second, series_json(reward.series));

    const Settings& set = r.settings;
    std::string facts;
    const auto fact = [&](const std::string& name, const std::string& value) {
        if (!value.empty()) {
            facts += fmt::format("{}<b>{}</b> {}", facts.empty() ? "" : " · ", name, escape_html(value));
        }
    };
    fact("link", set.link);
    fact("clip", set.clip);
    fact(set.backend == "local" ? "flows" : "cameras", std::to_string(set.cameras));
    fact("backend", set.backend);
    fact("duration", fmt::format("{:.0f} s", duration));
    fact("kernel", set.kernel);
    fact("Adapath", set.version);
    fact("", set.date);

    return fmt::format(
        fmt::runtime(report_page), fmt::arg("style", page_style),
        fmt::arg("title", s.ok ? "Adapath demo" : "Adapath demo: failed"),
        fmt::arg("headline",
                 r.video.present ? "Live video over a moving uplink" : "Simulated flows over a moving uplink"),
        fmt::arg("verdict", s.ok ? "<span class='verdict good'>all criteria met</span>"
                                 : fmt::format("<span class='verdict wrong'>{} of {} criteria failed</span>",
                                               std::count_if(s.criteria.begin(), s.criteria.end(),
                                                             [](const Criterion& c) { return !c.passed; }),
                                               s.criteria.size())),
        fmt::arg("facts", facts), fmt::arg("cards", cards(r, s)), fmt::arg("legend", legend),
        fmt::arg("charts", charts), fmt::arg("verdicts", verdicts(s)), fmt::arg("figures", figures(r, s)),
        fmt::arg("switches", switch_rows(r)), fmt::arg("sections", select_section(r.select) + qp_section(r.qp)),
        fmt::arg("data", data));
}

}  // namespace adapath::demo
