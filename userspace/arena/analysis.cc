// See analysis.h.
#include "userspace/arena/analysis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <utility>

#include "userspace/arena/policy.h"
#include "userspace/arena/statistics.h"

namespace adapath::arena {
namespace {

double number(const Json& json, const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_number() ? found->get<double>() : 0;
}

const Json& at(const Json& json, const char* key) {
    static const Json nothing = Json::object();
    const auto found = json.find(key);
    return found != json.end() && found->is_object() ? *found : nothing;
}

std::string text(const Json& json, const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

// What two lines must have in common to be compared.
Json settings_of(const Json& line) {
    Json settings = Json::object();
    for (const char* key :
         {"measurement", "seconds", "delay_ms", "queue_ms", "down_mbit", "loss", "second_flow_after_s", "video",
          "regimes", "kernel", "crowd_flows", "busy", "daemon_stops_s", "bulk_flows"}) {
        if (line["inputs"].contains(key)) {
            settings[key] = line["inputs"][key];
        }
    }
    return settings;
}

// Of each cell the newest line, and only those with the same settings as the newest of their kind of traffic.
std::vector<const Json*> comparable(const std::vector<Json>& lines, const std::string& traffic) {
    const Json* newest = nullptr;
    for (const Json& line : lines) {
        if (text(line["inputs"], "traffic") == traffic) {
            newest = &line;
        }
    }
    std::vector<const Json*> kept;
    if (newest == nullptr) {
        return kept;
    }
    const Json settings = settings_of(*newest);
    std::map<std::string, size_t> place;
    for (const Json& line : lines) {
        const Json& inputs = line["inputs"];
        if (text(inputs, "traffic") != traffic || settings_of(line) != settings) {
            continue;
        }
        const std::string cell =
            fmt::format("{}\n{}\n{}", text(inputs, "trace"), number(inputs, "seed"), text(inputs, "policy"));
        if (const auto [found, added] = place.emplace(cell, kept.size()); added) {
            kept.push_back(&line);
        } else {
            kept[found->second] = &line;
        }
    }
    return kept;
}

Point point_of(const Json& line) {
    const Json& inputs = line["inputs"];
    const Json& figures = line["figures"];
    const Json& delay = at(figures, "delay_ms");
    Point point;
    point.line = &line;
    point.trace = text(inputs, "trace");
    point.trace_hash = text(inputs, "trace_sha256");
    point.seed = static_cast<uint64_t>(number(inputs, "seed"));
    point.policy = text(inputs, "policy");
    point.capacity_bytes = number(figures, "capacity_bytes");
    point.delivered_bytes = number(figures, "delivered_bytes");
    point.received_bytes = number(figures, "received_bytes");
    point.share = point.capacity_bytes > 0 ? point.delivered_bytes / point.capacity_bytes : 0;
    point.p50_ms = number(delay, "p50");
    point.p95_ms = number(delay, "p95");
    point.p99_ms = number(delay, "p99");
    point.mean_ms = number(delay, "mean");
    point.queue_drops = number(at(figures, "packets"), "queue_drops");
    point.late_p99_us = number(at(figures, "emulator"), "late_p99_us");
    point.busy_share = number(figures, "machine_busy_share");
    point.bound_share =
        point.capacity_bytes > 0 ? number(at(figures, "bound"), "delivered_bytes") / point.capacity_bytes : 1;
    point.bound_ms = number(at(figures, "bound"), "delay_ms");
    if (const auto flows = figures.find("flows"); flows != figures.end() && !flows->empty()) {
        for (const Json& flow : *flows) {
            point.retransmits += number(flow, "retransmitted_segments");
        }
    }
    if (const Json& cost = at(figures, "cost"); !cost.empty()) {
        point.decisions = number(cost, "decisions");
        point.daemon_s = number(cost, "daemon_s");
        point.trainer_s = number(cost, "trainer_s");
        if (cost.contains("cpu_us_per_mb")) {
            point.cpu_us_per_mb = number(cost, "cpu_us_per_mb");
        }
        if (cost.contains("bpf_s") && number(cost, "acks") > 0) {
            point.bpf_ns_per_ack = number(cost, "bpf_s") * 1e9 / number(cost, "acks");
        }
    }
    point.run = fmt::format("{} {}", text(at(line, "run"), "id"), number(at(line, "run"), "started_unix_s"));
    const Json& frame = at(figures, "frame_delay_ms");
    const Json& video = at(figures, "video");
    point.frame_p50_ms = number(frame, "p50");
    point.frame_p95_ms = number(frame, "p95");
    point.stalls = number(video, "stalls");
    point.stall_ms = number(video, "stall_ms");
    point.skipped = number(video, "frames_skipped");
    point.late_frames = number(video, "frames_late");
    point.overrun = number(video, "frames_overrun");
    point.frames = number(video, "frames_sent");
    point.kbps = number(video, "kbps");
    point.qp = number(video, "mean_qp");
    if (const std::string broke = text(video, "broke"); !broke.empty()) {
        point.broke = fmt::format("{} after {:.0f} s", broke, number(video, "broke_after_s"));
    }
    return point;
}

Point crowd_point_of(const Json& line) {
    Point point = point_of(line);
    point.flows = number(line["inputs"], "crowd_flows");
    point.jain = number(line["figures"], "jain");
    return point;
}

// What a bulk line says of the time in which the daemons stood still; nothing where they did not.
std::optional<Point> stopped_point_of(const Json& line) {
    const Json& stopped = at(line["figures"], "daemon_stopped");
    if (stopped.empty()) {
        return std::nullopt;
    }
    const Json& delay = at(stopped, "delay_ms");
    const Point whole = point_of(line);
    Point point;
    point.line = &line;
    point.trace = whole.trace;
    point.trace_hash = whole.trace_hash;
    point.seed = whole.seed;
    point.policy = whole.policy;
    point.run = whole.run;
    point.capacity_bytes = number(stopped, "capacity_bytes");
    point.delivered_bytes = number(stopped, "delivered_bytes");
    point.share = point.capacity_bytes > 0 ? point.delivered_bytes / point.capacity_bytes : 0;
    point.p50_ms = number(delay, "p50");
    point.p95_ms = number(delay, "p95");
    point.p99_ms = number(delay, "p99");
    point.mean_ms = number(delay, "mean");
    return point;
}

FairnessPoint fairness_of(const Json& line) {
    FairnessPoint point;
    point.line = &line;
    point.trace = text(line["inputs"], "trace");
    point.pair = text(line["inputs"], "policy");
    point.jain = number(line["figures"], "jain");
    point.p95_ms = number(at(line["figures"], "delay_ms"), "p95");
    if (const auto flows = line["figures"].find("flows"); flows != line["figures"].end()) {
        for (const Json& flow : *flows) {
            point.received_bytes.push_back(number(flow, "received_bytes"));
        }
    }
    return point;
}

// Mean of the rewards in [from, to) seconds; 0 where none is known.
double mean_reward(const std::vector<std::optional<double>>& rewards, double from, double to) {
    double sum = 0;
    size_t known = 0;
    for (size_t i = static_cast<size_t>(from); i < std::min(rewards.size(), static_cast<size_t>(to)); i++) {
        if (rewards[i]) {
            sum += *rewards[i];
            known++;
        }
    }
    return known == 0 ? 0 : sum / static_cast<double>(known);
}

RegimePoint regime_of(const Json& line) {
    RegimePoint point;
    const Json& figures = line["figures"];
    point.line = &line;
    point.trace = text(line["inputs"], "trace");
    point.policy = text(line["inputs"], "policy");
    point.phase_s = number(at(line["inputs"], "regimes"), "phase_s");
    point.p95_ms = number(at(figures, "delay_ms"), "p95");
    const double capacity = number(figures, "capacity_bytes");
    point.share = capacity > 0 ? number(figures, "delivered_bytes") / capacity : 0;
    point.switches = number(at(figures, "cost"), "switches");
    point.rollbacks = number(at(figures, "cost"), "rollbacks");
    if (line.contains("series") && line["series"].contains("reward")) {
        for (const Json& reward : line["series"]["reward"]) {
            point.rewards.push_back(reward.is_number() ? std::optional(reward.get<double>()) : std::nullopt);
        }
    }
    for (size_t i = 0; i < point.phases.size(); i++) {
        const double from = static_cast<double>(i) * point.phase_s;
        point.phases[i] = {
            .mean = mean_reward(point.rewards, from, from + point.phase_s),
            .first = mean_reward(point.rewards, from, from + std::min(60.0, point.phase_s)),
            .last = mean_reward(point.rewards, from + point.phase_s * 2 / 3, from + point.phase_s),
        };
    }
    return point;
}

const RegimePoint* regime_with(const Analysis& analysis, const std::string& policy) {
    for (const RegimePoint& point : analysis.regimes) {
        if (point.policy == policy) {
            return &point;
        }
    }
    return nullptr;
}

// Until when the learning one was below.
std::optional<double> above_after(const RegimePoint& learning, const RegimePoint& frozen) {
    constexpr double at_once_s = 30;
    const double from = learning.phase_s;
    const double to = 2 * learning.phase_s;
    const auto above = [&](double a, double b) {
        return mean_reward(learning.rewards, a, b) > mean_reward(frozen.rewards, a, b);
    };
    for (double at = from; at + at_once_s <= to; at++) {
        if (above(at, at + at_once_s) && above(at, to)) {
            return at - from;
        }
    }
    return std::nullopt;
}

// Median over the traces of the median over a trace's seeds; nothing where no point has a value.
std::optional<double> median_over_traces(const std::vector<const Point*>& points,
                                         const std::function<std::optional<double>(const Point&)>& value) {
    std::map<std::string, std::vector<double>> by_trace;
    for (const Point* point : points) {
        if (const std::optional<double> one = value(*point)) {
            by_trace[point->trace].push_back(*one);
        }
    }
    std::vector<double> medians;
    for (auto& [trace, values] : by_trace) {
        medians.push_back(*median(std::move(values)));
    }
    return median(std::move(medians));
}

std::vector<const Point*> points_of(const std::vector<Point>& points, const std::string& policy) {
    std::vector<const Point*> found;
    for (const Point& point : points) {
        if (point.policy == policy) {
            found.push_back(&point);
        }
    }
    return found;
}

size_t traces_of(const std::vector<const Point*>& points) {
    std::set<std::string> names;
    for (const Point* point : points) {
        names.insert(point->trace);
    }
    return names.size();
}

PolicyMedians medians_of(const std::vector<Point>& all, const std::string& policy) {
    const std::vector<const Point*> points = points_of(all, policy);
    const auto over = [&](double Point::* member) {
        return median_over_traces(points, [member](const Point& p) { return std::optional(p.*member); }).value_or(0);
    };
    PolicyMedians medians;
    medians.policy = policy;
    medians.cells = points.size();
    medians.traces = traces_of(points);
    medians.share = over(&Point::share);
    medians.received_share =
        median_over_traces(points, [](const Point& p) {
            return p.capacity_bytes > 0 ? std::optional(p.received_bytes / p.capacity_bytes) : std::nullopt;
        }).value_or(0);
    medians.p50_ms = over(&Point::p50_ms);
    medians.p95_ms = over(&Point::p95_ms);
    medians.p99_ms = over(&Point::p99_ms);
    medians.mean_ms = over(&Point::mean_ms);
    medians.queue_drops = over(&Point::queue_drops);
    medians.retransmits = over(&Point::retransmits);
    medians.cpu_us_per_mb = median_over_traces(points, [](const Point& p) { return p.cpu_us_per_mb; });
    medians.bpf_ns_per_ack = median_over_traces(points, [](const Point& p) { return p.bpf_ns_per_ack; });
    return medians;
}

const Point* counterpart(const std::vector<Point>& all, const Point& of, const std::string& policy) {
    for (const Point& point : all) {
        if (point.policy == policy && point.trace == of.trace && point.trace_hash == of.trace_hash &&
            point.seed == of.seed) {
            return &point;
        }
    }
    return nullptr;
}

std::optional<Ratio> ratio_of(const std::vector<Point>& all, const std::string& policy, const std::string& against) {
    std::vector<const Point*> points;
    std::map<const Point*, const Point*> other;
    for (const Point* point : points_of(all, policy)) {
        if (const Point* found = counterpart(all, *point, against)) {
            points.push_back(point);
            other[point] = found;
        }
    }
    if (points.empty()) {
        return std::nullopt;
    }
    const auto over = [&](double Point::* member) {
        return median_over_traces(points, [&other, member](const Point& p) -> std::optional<double> {
            const double below = other.at(&p)->*member;
            return below > 0 ? std::optional(p.*member / below) : std::nullopt;
        });
    };
    // Where nothing came out of a link there is no delay, which is not a delay of nothing.
    std::erase_if(points, [&other](const Point* p) { return p->p95_ms <= 0 || other.at(p)->p95_ms <= 0; });
    if (points.empty()) {
        return std::nullopt;
    }
    Ratio ratio;
    ratio.policy = policy;
    ratio.against = against;
    ratio.traces = traces_of(points);
    ratio.delivered = over(&Point::delivered_bytes).value_or(0);
    ratio.p95 = over(&Point::p95_ms).value_or(0);
    ratio.mean_delay = over(&Point::mean_ms).value_or(0);
    ratio.cpu_per_byte = median_over_traces(points, [&other](const Point& p) -> std::optional<double> {
        const std::optional<double>& below = other.at(&p)->cpu_us_per_mb;
        return p.cpu_us_per_mb && below && *below > 0 ? std::optional(*p.cpu_us_per_mb / *below) : std::nullopt;
    });
    return ratio;
}

const Ratio* find_ratio(const std::vector<Ratio>& ratios, const std::string& policy, const char* against) {
    for (const Ratio& ratio : ratios) {
        if (ratio.policy == policy && ratio.against == against) {
            return &ratio;
        }
    }
    return nullptr;
}

// Every policy against those that the verdicts name.
std::vector<Ratio> ratios_over(const std::vector<Point>& points, const std::vector<std::string>& policies) {
    std::vector<Ratio> ratios;
    for (const std::string& policy : policies) {
        for (const char* against : {"bbr", "cubic", "userspace"}) {
            if (policy != against) {
                if (auto ratio = ratio_of(points, policy, against)) {
                    ratios.push_back(std::move(*ratio));
                }
            }
        }
    }
    return ratios;
}

// Where it matters who decides: only what was measured is judged.
void add_asking_verdicts(Analysis& analysis, const std::string& policy) {
    const auto add = [&](const std::string& name, const std::string& required, double value, bool met) {
        analysis.verdicts.push_back({policy, name, required, value, met});
    };
    if (const Ratio* ratio = find_ratio(analysis.stopped_ratios, policy, "userspace")) {
        add("daemon stopped: delivered bytes against userspace", "more than 1", ratio->delivered, ratio->delivered > 1);
        add("daemon stopped: p95 delay against userspace", "less than 1", ratio->p95, ratio->p95 < 1);
    }
    const Ratio* crowd = find_ratio(analysis.crowd_ratios, policy, "userspace");
    if (crowd != nullptr && crowd->cpu_per_byte) {
        add("crowd: CPU per delivered byte against userspace", "less than 1", *crowd->cpu_per_byte,
            *crowd->cpu_per_byte < 1);
    }
}

// What Adapath is to reach.
void add_verdicts(Analysis& analysis, const std::string& policy) {
    const auto find = [&](const char* against) { return find_ratio(analysis.ratios, policy, against); };
    const auto add = [&](const std::string& name, const std::string& required, std::optional<double> value, bool met) {
        analysis.verdicts.push_back({policy, name, required, value, value && met});
    };
    const auto at_least = [&](const std::string& name, double least, std::optional<double> value) {
        add(name, fmt::format("at least {:g}", least), value, value.value_or(0) >= least);
    };
    const auto at_most = [&](const std::string& name, double most, std::optional<double> value) {
        add(name, fmt::format("at most {:g}", most), value, value && *value <= most);
    };
    const auto value = [](const Ratio* ratio, double Ratio::* member) {
        return ratio == nullptr ? std::nullopt : std::optional(ratio->*member);
    };
    const Ratio* bbr = find("bbr");
    at_least("delivered bytes against bbr", 1.0, value(bbr, &Ratio::delivered));
    at_most("p95 delay against bbr", 0.7, value(bbr, &Ratio::p95));
    const Ratio* cubic = find("cubic");
    at_least("delivered bytes against cubic", 0.9, value(cubic, &Ratio::delivered));
    at_most("p95 delay against cubic", 0.3, value(cubic, &Ratio::p95));
    const Ratio* userspace = find("userspace");
    const std::optional<double> more = value(userspace, &Ratio::delivered);
    const std::optional<double> lower = value(userspace, &Ratio::p95);
    const std::optional<double> cheaper = userspace == nullptr ? std::nullopt : userspace->cpu_per_byte;
    add("delivered bytes against userspace", "more than 1", more, more.value_or(0) > 1);
    add("p95 delay against userspace", "less than 1", lower, lower.value_or(1) < 1);
    add("CPU per delivered byte against userspace", "less than 1", cheaper, cheaper.value_or(1) < 1);
    for (const auto& [other, least] : {std::pair{policy, 0.9}, {std::string("cubic"), 0.75}}) {
        std::vector<double> jains;
        for (const FairnessPoint& point : analysis.fairness) {
            if (point.pair == policy + "+" + other) {
                jains.push_back(point.jain);
            }
        }
        at_least(fmt::format("Jain's index, {} with {}", policy, other == policy ? "itself" : other), least,
                 median(std::move(jains)));
    }
}

void add_regime_verdicts(Analysis& analysis) {
    const RegimePoint* frozen = regime_with(analysis, "adapath");
    const RegimePoint* learning = regime_with(analysis, "adapath-online");
    const auto heard = [](const RegimePoint* point) {
        return point != nullptr &&
               std::any_of(point->rewards.begin(), point->rewards.end(), [](const auto& r) { return r.has_value(); });
    };
    if (!heard(frozen) || !heard(learning)) {
        return;
    }
    const auto add = [&](const std::string& name, const std::string& required, double value, bool met) {
        analysis.verdicts.push_back({learning->policy, name, required, value, met});
    };
    // Of the last third of a phase, when what there is to learn has been learned.
    const double more_earned = learning->phases[1].last - frozen->phases[1].last;
    add("link changed: reward over the frozen one's", "more than 0", more_earned, more_earned > 0);
    const double before = learning->phases[0].last;
    const double forgotten = before != 0 ? (before - learning->phases[2].last) / std::abs(before) : 0;
    add("link changed back: share of the reward lost", "at most 0.05", forgotten, forgotten <= 0.05);
}

}  // namespace

Analysis analyse(const std::vector<Json>& lines) {
    Analysis analysis;
    size_t taken = 0;
    for (const Json* line : comparable(lines, "bulk")) {
        analysis.bulk.push_back(point_of(*line));
        taken++;
    }
    for (const Point& point : analysis.bulk) {
        if (auto stopped = stopped_point_of(*point.line)) {
            analysis.stopped.push_back(std::move(*stopped));
        }
    }
    for (const Json* line : comparable(lines, "crowd")) {
        analysis.crowd.push_back(crowd_point_of(*line));
        taken++;
    }
    for (const Json* line : comparable(lines, "video")) {
        analysis.video.push_back(point_of(*line));
        taken++;
    }
    for (const Json* line : comparable(lines, "fairness")) {
        analysis.fairness.push_back(fairness_of(*line));
        taken++;
    }
    for (const Json* line : comparable(lines, "regimes")) {
        analysis.regimes.push_back(regime_of(*line));
        taken++;
    }
    if (const RegimePoint* frozen = regime_with(analysis, "adapath")) {
        for (RegimePoint& point : analysis.regimes) {
            if (point.policy != "adapath" && point.phase_s == frozen->phase_s) {
                point.above_after_s = above_after(point, *frozen);
            }
        }
    }
    analysis.left_out = lines.size() - taken;

    std::vector<std::string> seen;
    std::map<std::pair<std::string, uint64_t>, std::set<std::string>> runs;
    const auto once = [](std::vector<std::string>& list, const std::string& name) {
        if (std::find(list.begin(), list.end(), name) == list.end()) {
            list.push_back(name);
        }
    };
    for (const std::vector<Point>* points : {&analysis.bulk, &analysis.video, &analysis.crowd}) {
        for (const Point& point : *points) {
            once(seen, point.policy);
            once(analysis.traces, point.trace);
        }
    }
    for (const Point& point : analysis.bulk) {
        runs[{point.trace, point.seed}].insert(point.run);
    }
    analysis.side_by_side =
        std::all_of(runs.begin(), runs.end(), [](const auto& run) { return run.second.size() == 1; });
    for (const std::string& name : policy_names()) {
        if (std::find(seen.begin(), seen.end(), name) != seen.end()) {
            analysis.policies.push_back(name);
        }
    }
    for (const std::string& name : seen) {
        once(analysis.policies, name);  // those of an older arena
    }
    for (const std::string& policy : analysis.policies) {
        if (!points_of(analysis.bulk, policy).empty()) {
            analysis.medians.push_back(medians_of(analysis.bulk, policy));
        }
    }
    analysis.ratios = ratios_over(analysis.bulk, analysis.policies);
    analysis.crowd_ratios = ratios_over(analysis.crowd, analysis.policies);
    analysis.stopped_ratios = ratios_over(analysis.stopped, analysis.policies);
    for (const char* judged : {"adapath", "adapath-online"}) {
        const bool there = std::find(seen.begin(), seen.end(), judged) != seen.end() ||
                           std::any_of(analysis.fairness.begin(), analysis.fairness.end(), [&](const auto& point) {
                               return point.pair.starts_with(std::string(judged) + "+");
                           });
        if (there) {
            add_verdicts(analysis, judged);
            add_asking_verdicts(analysis, judged);
        }
    }
    add_regime_verdicts(analysis);
    return analysis;
}

Json summary_json(const Analysis& analysis) {
    const auto optional = [](const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); };
    Json json{{"medians", Json::array()},        {"ratios", Json::array()},
              {"verdicts", Json::array()},       {"video", Json::array()},
              {"fairness", Json::array()},       {"regimes", Json::array()},
              {"crowd", Json::array()},          {"crowd_ratios", Json::array()},
              {"daemon_stopped", Json::array()}, {"daemon_stopped_ratios", Json::array()}};
    for (const PolicyMedians& m : analysis.medians) {
        json["medians"].push_back({{"policy", m.policy},
                                   {"traces", m.traces},
                                   {"cells", m.cells},
                                   {"delivered_share", m.share},
                                   {"received_share", m.received_share},
                                   {"delay_p50_ms", m.p50_ms},
                                   {"delay_p95_ms", m.p95_ms},
                                   {"delay_p99_ms", m.p99_ms},
                                   {"delay_mean_ms", m.mean_ms},
                                   {"queue_drops", m.queue_drops},
                                   {"retransmits", m.retransmits},
                                   {"cpu_us_per_mb", optional(m.cpu_us_per_mb)},
                                   {"bpf_ns_per_ack", optional(m.bpf_ns_per_ack)}});
    }
    for (const auto& [name, ratios] : {std::pair{"ratios", &analysis.ratios},
                                       {"crowd_ratios", &analysis.crowd_ratios},
                                       {"daemon_stopped_ratios", &analysis.stopped_ratios}}) {
        for (const Ratio& r : *ratios) {
            json[name].push_back({{"policy", r.policy},
                                  {"against", r.against},
                                  {"traces", r.traces},
                                  {"delivered", r.delivered},
                                  {"delay_p95", r.p95},
                                  {"delay_mean", r.mean_delay},
                                  {"cpu_per_byte", optional(r.cpu_per_byte)}});
        }
    }
    for (const Point& p : analysis.crowd) {
        json["crowd"].push_back({{"trace", p.trace},
                                 {"seed", p.seed},
                                 {"policy", p.policy},
                                 {"flows", p.flows},
                                 {"delivered_share", p.share},
                                 {"delay_p50_ms", p.p50_ms},
                                 {"delay_p95_ms", p.p95_ms},
                                 {"jain", p.jain},
                                 {"cpu_us_per_mb", optional(p.cpu_us_per_mb)}});
    }
    for (const Point& p : analysis.stopped) {
        json["daemon_stopped"].push_back({{"trace", p.trace},
                                          {"seed", p.seed},
                                          {"policy", p.policy},
                                          {"delivered_share", p.share},
                                          {"delay_p50_ms", p.p50_ms},
                                          {"delay_p95_ms", p.p95_ms}});
    }
    for (const Verdict& v : analysis.verdicts) {
        json["verdicts"].push_back({{"policy", v.policy},
                                    {"figure", v.name},
                                    {"required", v.required},
                                    {"value", optional(v.value)},
                                    {"met", v.value ? Json(v.met) : Json(nullptr)}});
    }
    for (const Point& p : analysis.video) {
        json["video"].push_back({{"trace", p.trace},
                                 {"seed", p.seed},
                                 {"policy", p.policy},
                                 {"frame_delay_p50_ms", p.frame_p50_ms},
                                 {"frame_delay_p95_ms", p.frame_p95_ms},
                                 {"stalls", p.stalls},
                                 {"stall_ms", p.stall_ms},
                                 {"frames_skipped", p.skipped},
                                 {"kbps", p.kbps},
                                 {"broke", p.broke}});
    }
    for (const FairnessPoint& p : analysis.fairness) {
        json["fairness"].push_back({{"trace", p.trace}, {"pair", p.pair}, {"jain", p.jain}});
    }
    for (const RegimePoint& p : analysis.regimes) {
        Json phases = Json::array();
        for (const RegimePoint::Phase& phase : p.phases) {
            phases.push_back({{"mean", phase.mean}, {"first_minute", phase.first}, {"last_third", phase.last}});
        }
        json["regimes"].push_back({{"trace", p.trace},
                                   {"policy", p.policy},
                                   {"phase_s", p.phase_s},
                                   {"reward", phases},
                                   {"above_frozen_after_s", optional(p.above_after_s)}});
    }
    return json;
}

}  // namespace adapath::arena
