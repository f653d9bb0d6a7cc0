// See summary.h.
#include "userspace/demo/summary.h"

#include <adapath/select.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

namespace adapath::demo {
namespace {

constexpr double us_per_ms = 1000.0;
// Frames captured until so long after a rollback still wait behind what the bad snapshot did to the queue.
constexpr uint64_t recovery_us = 2000000;

double ms_between(uint64_t from_us, uint64_t to_us) { return static_cast<double>(to_us - from_us) / us_per_ms; }

double mbit(uint64_t bytes, uint64_t us) {
    return us == 0 ? 0 : static_cast<double>(bytes) * 8 / static_cast<double>(us);
}

// Samples of each flow in the order of their sequence numbers.
std::map<uint64_t, std::vector<const SamplePoint*>> by_flow(const Recording& recording) {
    std::map<uint64_t, std::vector<const SamplePoint*>> flows;
    for (const SamplePoint& sample : recording.samples) {
        flows[sample.flow].push_back(&sample);
    }
    for (auto& [flow, samples] : flows) {
        std::sort(samples.begin(), samples.end(),
                  [](const SamplePoint* a, const SamplePoint* b) { return a->seq < b->seq; });
    }
    return flows;
}

double weighted_percentile(std::vector<std::pair<double, double>> values, double percent) {
    if (values.empty()) {
        return 0;
    }
    std::sort(values.begin(), values.end());
    double total = 0;
    for (const auto& [value, weight] : values) {
        total += weight;
    }
    double sum = 0;
    for (const auto& [value, weight] : values) {
        sum += weight;
        if (sum >= total * percent / 100) {
            return value;
        }
    }
    return values.back().first;
}

class Criteria {
public:
    void add(std::string name, bool passed, std::string text) {
        list_.push_back({std::move(name), passed, std::move(text)});
    }
    std::vector<Criterion> take() { return std::move(list_); }

private:
    std::vector<Criterion> list_;
};

void judge_select(const SelectRecording& r, Criteria& c) {
    if (!r.present) {
        return;
    }
    if (!r.error.empty()) {
        c.add("select", false, r.error);
        return;
    }
    c.add("select_decisions_unexplained",
          r.verification.ran && r.verification.decisions > 0 && r.verification.unexplained == 0,
          fmt::format("{} decisions about chunks run again by the reference interpreter, {} not reproduced (want 0)",
                      r.verification.decisions, r.verification.unexplained));
    c.add("select_decisions_lost",
          r.counters.decisions > 0 && r.counters.samples_lost == 0 && r.counters.sequence_gaps == 0,
          fmt::format("{} decisions, {} samples lost in the kernel, {} missing by sequence number (want 0)",
                      r.counters.decisions, r.counters.samples_lost, r.counters.sequence_gaps));
    c.add("select_pictures", r.pictures_decoded > 0 && r.pictures_undecodable == 0,
          fmt::format("{} pictures decoded at the server, {} that it could not (want 0); {} incomplete ones, which the "
                      "uplink had no room for",
                      r.pictures_decoded, r.pictures_undecodable, r.pictures_incomplete));
    const auto chose = [&](uint32_t choice) {
        return std::any_of(r.decisions.begin(), r.decisions.end(),
                           [&](const SelectDecision& d) { return d.choice == choice && d.generation != 0; });
    };
    c.add("select_chooses", chose(ADP_SELECT_ONLY_MAIN) && chose(ADP_SELECT_ONLY_SUB),
          "chunks for which the network chose main, and others for which it chose sub (want both)");
    const auto measured = std::count_if(r.chunks.begin(), r.chunks.end(),
                                        [](const SelectChunkPoint& chunk) { return chunk.sub_worth >= 0; });
    c.add("select_measured", measured > 0,
          fmt::format("{} chunks whose two renditions the server compared (want at least 1)", measured));
}

void judge_qp(const QpRecording& r, Criteria& c) {
    if (!r.present) {
        return;
    }
    if (!r.error.empty()) {
        c.add("qp", false, r.error);
        return;
    }
    c.add("qp_decisions_unexplained",
          r.verification.ran && r.verification.decisions > 0 && r.verification.unexplained == 0 &&
              r.counters.sequence_gaps == 0,
          fmt::format("{} chunks decided in the encoder's process, {} not reproduced, {} missing (want 0)",
                      r.verification.decisions, r.verification.unexplained, r.counters.sequence_gaps));
    c.add("qp_frames_lost", r.frames_sent > 0 && r.frames_decoded == r.frames_sent,
          fmt::format("{} frames sent, {} decoded (want all)", r.frames_sent, r.frames_decoded));
    const uint64_t switches = r.counters.switches_parameter + r.counters.switches_network;
    c.add("qp_switches", switches > 1, fmt::format("{} switches under the encoder (want more than 1)", switches));
}

void judge(const Recording& r, Summary& s) {
    Criteria c;
    const Counters& n = r.counters;
    if (r.interrupted) {
        c.add("complete", false, "the run was interrupted");
    }
    for (const std::string& error : r.errors) {
        c.add("processes", false, error);
    }
    if (r.video.present) {
        const VideoTotals& v = r.video;
        c.add("frames_lost", v.frames_sent > 0 && v.frames_lost == 0 && v.frames_decoded == v.frames_sent,
              fmt::format("{} frames sent, {} decoded, {} lost (want all, 0 lost)", v.frames_sent, v.frames_decoded,
                          v.frames_lost));
    }
    c.add("decisions_lost",
          n.decisions > 0 && n.samples_lost == 0 && n.sequence_gaps == 0 &&
              (r.samples_dropped > 0 || s.gaps.missing == 0),
          fmt::format("{} decisions, {} samples lost in the kernel, {} missing by sequence number (want 0)",
                      n.decisions, n.samples_lost, std::max(n.sequence_gaps, s.gaps.missing)));
    c.add("decisions_unexplained",
          r.verification.ran && r.verification.decisions > 0 && r.verification.unexplained == 0 &&
              n.decisions_unexplained == 0,
          r.verification.ran
              ? fmt::format("adapathctl verify: {} decisions run again by the reference interpreter, {} not reproduced "
                            "(want 0); the daemon, as they came: {}",
                            r.verification.decisions, r.verification.unexplained, n.decisions_unexplained)
              : "adapathctl verify did not run: " + r.verification.error);
    // The local backend's flows go on until the daemon ends, a moment after it was asked for its count.
    c.add("decisions_logged", r.verification.ran && r.verification.decisions >= n.decisions && n.decisions > 0,
          fmt::format("{} decisions in the log of {} that the {} counted", r.verification.decisions, n.decisions,
                      r.settings.backend == "local" ? "backend" : "kernel"));
    c.add("forced_parameter_switches", r.forced.burst_wanted > 0 && r.forced.burst_done == r.forced.burst_wanted,
          fmt::format("{} of {} forced parameter switches in {:.1f} s", r.forced.burst_done, r.forced.burst_wanted,
                      r.forced.burst_end_us > r.forced.burst_start_us
                          ? ms_between(r.forced.burst_start_us, r.forced.burst_end_us) / 1000
                          : 0));
    c.add("network_switch", r.forced.network_generation > 0 && s.switches_network > 0,
          r.forced.network_generation > 0
              ? fmt::format("another network became active as generation {} under live flows",
                            r.forced.network_generation)
              : "no switch to another network happened");
    c.add("trained_switch", s.switches_trained > 0,
          fmt::format("{} switches because training asked for them (want at least 1)", s.switches_trained));
    c.add("bad_snapshot_rolled_back", r.forced.bad_generation > 0 && r.forced.rolled_back_us > r.forced.bad_us,
          r.forced.rolled_back_us > r.forced.bad_us
              ? fmt::format("generation {} (adversarial) was rolled back after {:.1f} s", r.forced.bad_generation,
                            ms_between(r.forced.bad_us, r.forced.rolled_back_us) / 1000)
          : r.forced.bad_generation > 0 ? "the bad snapshot was not rolled back"
                                        : "the bad snapshot was never active");
    // The spread away from switches has several times as many gaps, so its maximum is a fair bound; in a short run that
    // maximum is a matter of luck, so half above the 99th percentile is within the spread too.
    // The largest of either kind is itself a random draw from the link's moods (its outages are taken out): a quarter
    // above the largest seen elsewhere is still that, while a switch that held up or lost a decision would add a whole
    // gap.
    const double bound = std::max(1.25 * s.gaps.away.max, 1.5 * s.gaps.away.p99);
    c.add("switch_gap", s.gaps.at_switch.count > 0 && s.gaps.at_switch.max <= bound,
          fmt::format("largest gap between decisions with a switch in it {:.1f} ms, the uplink's outages taken out; "
                      "away from switches p50 {:.1f}, p99 "
                      "{:.1f}, max {:.1f} ms (want at most {:.1f})",
                      s.gaps.at_switch.max, s.gaps.away.p50, s.gaps.away.p99, s.gaps.away.max, bound));
    // The figures above rest on the events; the daemon's own count says whether any is missing.
    if (n.switches_parameter + n.switches_network != r.switches.size()) {
        c.add("switches_seen", false,
              fmt::format("{} switches were seen as events, the daemon counted {}", r.switches.size(),
                          n.switches_parameter + n.switches_network));
    }
    for (const std::string& failure : r.forced.failures) {
        c.add("scenario", false, failure);
    }
    judge_select(r.select, c);
    judge_qp(r.qp, c);
    s.criteria = c.take();
    s.ok = std::all_of(s.criteria.begin(), s.criteria.end(), [](const Criterion& x) { return x.passed; });
}

}  // namespace

double percentile(std::vector<double> values, double percent) {
    if (values.empty()) {
        return 0;
    }
    const auto n = static_cast<double>(values.size());
    auto rank = static_cast<size_t>(std::ceil(n * percent / 100));
    rank = std::min(std::max<size_t>(rank, 1), values.size()) - 1;
    std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(rank), values.end());
    return values[rank];
}

Spread spread_of(const std::vector<double>& values) {
    if (values.empty()) {
        return {};
    }
    return {values.size(), percentile(values, 50), percentile(values, 99),
            *std::max_element(values.begin(), values.end())};
}

namespace {

// While the uplink could carry nothing no ACK comes, and a decision needs one: that time is nobody's. It matters, since
// a long gap nearly always has a switch in it where there are many, so that outages would be found at switches rather
// than elsewhere.
class Outages {
public:
    explicit Outages(const std::vector<LinkPoint>& link) {
        for (size_t i = 1; i < link.size(); i++) {
            if (link[i].capacity_bytes == 0 && link[i].time_us > link[i - 1].time_us) {
                spans_.emplace_back(link[i - 1].time_us, link[i].time_us);
            }
        }
    }
    // Without the outages in it, ms.
    [[nodiscard]] double ms_without(uint64_t from_us, uint64_t to_us) const {
        uint64_t out_us = 0;
        const auto first = std::partition_point(spans_.begin(), spans_.end(),
                                                [&](const auto& span) { return span.second <= from_us; });
        for (auto span = first; span != spans_.end() && span->first < to_us; ++span) {
            out_us += std::min(span->second, to_us) - std::max(span->first, from_us);
        }
        return ms_between(from_us, to_us) - static_cast<double>(out_us) / 1000;
    }

private:
    std::vector<std::pair<uint64_t, uint64_t>> spans_;  // in order, apart
};

}  // namespace

Gaps decision_gaps(const Recording& recording) {
    const Outages outages(recording.link);
    std::vector<uint64_t> switches;
    for (const SwitchPoint& point : recording.switches) {
        switches.push_back(point.time_us);
    }
    std::sort(switches.begin(), switches.end());
    const uint32_t bad = recording.forced.bad_generation;

    Gaps gaps;
    std::vector<double> all, away, at_switch, under_bad;
    for (const auto& [flow, samples] : by_flow(recording)) {
        for (size_t i = 1; i < samples.size(); i++) {
            const SamplePoint& before = *samples[i - 1];
            const SamplePoint& after = *samples[i];
            if (after.seq != before.seq + 1) {
                gaps.missing += after.seq > before.seq ? after.seq - before.seq - 1 : 0;
                continue;
            }
            all.push_back(ms_between(before.time_us, after.time_us));
            const double gap = outages.ms_without(before.time_us, after.time_us);
            // A switch at the very microsecond of a decision belongs to the gap that it begins or ends; both are
            // counted.
            const auto next = std::lower_bound(switches.begin(), switches.end(), before.time_us);
            const bool contains = next != switches.end() && *next <= after.time_us;
            // The flows need a moment to recover from what the bad policy did to their rate: no measure of the normal
            // spread.
            const bool recovering = !contains && recording.forced.rolled_back_us > 0 &&
                                    before.time_us >= recording.forced.rolled_back_us &&
                                    before.time_us < recording.forced.rolled_back_us + recovery_us;
            if (bad != 0 && (before.generation == bad || recovering)) {
                under_bad.push_back(gap);
            } else if (contains || before.generation != after.generation) {
                at_switch.push_back(gap);
            } else {
                away.push_back(gap);
            }
        }
    }
    gaps.all = spread_of(all);
    gaps.away = spread_of(away);
    gaps.at_switch = spread_of(at_switch);
    gaps.under_bad = spread_of(under_bad);
    return gaps;
}

std::vector<GenerationReward> reward_by_generation(const Recording& recording) {
    std::map<uint32_t, GenerationReward> found;
    for (const auto& [flow, samples] : by_flow(recording)) {
        for (size_t i = 0; i + 1 < samples.size(); i++) {
            const SamplePoint& decision = *samples[i];
            const SamplePoint& outcome = *samples[i + 1];
            if (decision.generation == 0 || outcome.seq != decision.seq + 1) {
                continue;
            }
            GenerationReward& g = found[decision.generation];
            if (g.decisions == 0) {
                g.generation = decision.generation;
                g.first_us = decision.time_us;
                g.last_us = decision.time_us;
            }
            g.first_us = std::min(g.first_us, decision.time_us);
            g.last_us = std::max(g.last_us, decision.time_us);
            g.decisions++;
            g.mean += (static_cast<double>(outcome.reward) - g.mean) / static_cast<double>(g.decisions);
        }
    }
    std::vector<GenerationReward> list;
    for (const auto& [generation, reward] : found) {
        list.push_back(reward);
    }
    std::sort(list.begin(), list.end(),
              [](const GenerationReward& a, const GenerationReward& b) { return a.first_us < b.first_us; });
    return list;
}

Summary summarise(const Recording& recording) {
    Summary s;
    s.gaps = decision_gaps(recording);
    s.generations = reward_by_generation(recording);
    for (const LinkPoint& point : recording.link) {
        if (point.time_us > recording.start_us && point.time_us <= recording.end_us) {
            s.capacity_bytes += point.capacity_bytes;
            s.delivered_bytes += point.delivered_bytes;
            s.drops += point.drops;
        }
    }

    std::vector<std::pair<double, double>> rtts;
    for (const SamplePoint& sample : recording.samples) {
        rtts.emplace_back(sample.rtt_us / us_per_ms, sample.interval_us);
    }
    s.rtt_p50_ms = weighted_percentile(rtts, 50);
    s.rtt_p95_ms = weighted_percentile(rtts, 95);
    s.rtt_p99_ms = weighted_percentile(std::move(rtts), 99);

    std::vector<double> delays, undisturbed;
    const Forced& forced = recording.forced;
    const uint64_t spoiled_until =
        (forced.rolled_back_us > forced.bad_us ? forced.rolled_back_us : recording.end_us) + recovery_us;
    for (const FramePoint& frame : recording.frames) {
        const double delay = ms_between(frame.captured_us, frame.decoded_us);
        delays.push_back(delay);
        if (forced.bad_us == 0 || frame.decoded_us < forced.bad_us || frame.captured_us > spoiled_until) {
            undisturbed.push_back(delay);
        }
    }
    if (!delays.empty()) {
        s.frame_delay_max_ms = *std::max_element(delays.begin(), delays.end());
    }
    s.frame_delay_p50_ms = percentile(delays, 50);
    s.frame_delay_p95_ms = percentile(delays, 95);
    s.frame_delay_p99_ms = percentile(std::move(delays), 99);
    s.frame_delay_p95_without_bad_ms = percentile(std::move(undisturbed), 95);

    std::vector<double> flips;
    for (const SwitchPoint& point : recording.switches) {
        if (point.switch_us > 0) {
            flips.push_back(point.switch_us);
        }
    }
    if (!flips.empty()) {
        s.switch_us_max = *std::max_element(flips.begin(), flips.end());
    }
    s.switch_us_p50 = percentile(std::move(flips), 50);
    for (const SwitchPoint& point : recording.switches) {
        if (point.kind != SwitchKind::first) {
            (point.network_changed ? s.switches_network : s.switches_parameter)++;
            s.switches_trained += point.kind == SwitchKind::trained ? 1 : 0;
            s.rollbacks += point.kind == SwitchKind::rollback ? 1 : 0;
        }
    }
    judge(recording, s);
    return s;
}

const char* name_of(SwitchKind kind) {
    switch (kind) {
        case SwitchKind::first:
            return "first";
        case SwitchKind::parameter:
            return "parameter";
        case SwitchKind::network:
            return "network";
        case SwitchKind::trained:
            return "trained";
        case SwitchKind::bad:
            return "bad";
        case SwitchKind::rollback:
            return "rollback";
    }
    return "?";
}

std::string to_json(const Recording& r, const Summary& s) {
    using json = nlohmann::ordered_json;
    const auto rounded = [](double value) { return std::round(value * 1000) / 1000; };
    const auto spread = [&](const Spread& x) {
        return json{{"count", x.count}, {"p50", rounded(x.p50)}, {"p99", rounded(x.p99)}, {"max", rounded(x.max)}};
    };
    json out;
    out["ok"] = s.ok;
    out["failed"] = json::array();
    for (const Criterion& criterion : s.criteria) {
        if (!criterion.passed) {
            out["failed"].push_back(criterion.name);
        }
    }
    // Without video there are no frames to count: null, not a zero that reads like a success.
    const auto frames = [&](uint64_t value) { return r.video.present ? json(value) : json(nullptr); };
    const auto delay = [&](double value) { return r.video.present ? json(rounded(value)) : json(nullptr); };
    const auto link = [&](uint64_t value) { return r.link.empty() ? json(nullptr) : json(value); };
    out["frames_sent"] = frames(r.video.frames_sent);
    out["frames_decoded"] = frames(r.video.frames_decoded);
    out["frames_lost"] = frames(r.video.frames_lost);
    out["frames_late"] = frames(r.video.frames_late);
    out["frames_skipped"] = frames(r.video.frames_skipped);
    out["stalls"] = frames(r.video.stalls);
    out["decisions"] = r.counters.decisions;
    out["decisions_verified"] = r.verification.ran ? json(r.verification.decisions) : json(nullptr);
    out["decisions_unexplained"] = r.verification.ran
                                       ? json(std::max(r.verification.unexplained, r.counters.decisions_unexplained))
                                       : json(nullptr);
    out["fallbacks"] = r.counters.fallbacks;
    out["samples"] = r.counters.samples;
    out["samples_lost"] = r.counters.samples_lost;
    out["sequence_gaps"] = r.counters.sequence_gaps;
    out["acks"] = r.counters.acks;
    out["switches_parameter"] = s.switches_parameter;
    out["switches_network"] = s.switches_network;
    out["switches_trained"] = s.switches_trained;
    out["switches_forced_burst"] = r.forced.burst_done;
    out["rollbacks"] = s.rollbacks;
    out["rollback_after_s"] = r.forced.rolled_back_us > r.forced.bad_us
                                  ? json(rounded(ms_between(r.forced.bad_us, r.forced.rolled_back_us) / 1000))
                                  : json(nullptr);
    out["delivered_bytes"] = link(s.delivered_bytes);
    out["capacity_bytes"] = link(s.capacity_bytes);
    out["link_drops"] = link(s.drops);
    out["rtt_p50_ms"] = rounded(s.rtt_p50_ms);
    out["rtt_p95_ms"] = rounded(s.rtt_p95_ms);
    out["rtt_p99_ms"] = rounded(s.rtt_p99_ms);
    out["frame_delay_p50_ms"] = delay(s.frame_delay_p50_ms);
    out["frame_delay_p95_ms"] = delay(s.frame_delay_p95_ms);
    out["frame_delay_p99_ms"] = delay(s.frame_delay_p99_ms);
    out["frame_delay_max_ms"] = delay(s.frame_delay_max_ms);
    out["frame_delay_p95_without_bad_ms"] = delay(s.frame_delay_p95_without_bad_ms);
    out["max_decision_gap_ms"] = rounded(s.gaps.all.max);
    out["max_switch_gap_ms"] = rounded(s.gaps.at_switch.max);
    out["decision_gap_ms"] = {{"away_from_switches", spread(s.gaps.away)},
                              {"with_a_switch", spread(s.gaps.at_switch)},
                              {"under_the_bad_snapshot", spread(s.gaps.under_bad)}};
    out["switch_us_p50"] = rounded(s.switch_us_p50);
    out["switch_us_max"] = rounded(s.switch_us_max);
    out["daemon_resident_bytes"] = r.counters.resident_bytes;
    json& settings = out["settings"];
    settings["duration_s"] = r.settings.duration_s;
    settings["cameras"] = r.settings.cameras;
    settings["backend"] = r.settings.backend;
    settings["link"] = r.settings.link;
    settings["clip"] = r.settings.clip;
    settings["seed"] = r.settings.seed;
    settings["congestion_control"] = r.settings.congestion_control;
    settings["kernel"] = r.settings.kernel;
    settings["version"] = r.settings.version;
    settings["date"] = r.settings.date;
    out["criteria"] = json::array();
    for (const Criterion& criterion : s.criteria) {
        out["criteria"].push_back({{"name", criterion.name}, {"passed", criterion.passed}, {"text", criterion.text}});
    }
    out["switches"] = json::array();
    for (const SwitchPoint& point : r.switches) {
        out["switches"].push_back(
            {{"t_s", rounded((static_cast<double>(point.time_us) - static_cast<double>(r.start_us)) / 1e6)},
             {"kind", name_of(point.kind)},
             {"generation", point.generation},
             {"from_generation", point.from_generation},
             {"network_changed", point.network_changed},
             {"switch_us", rounded(point.switch_us)},
             {"text", point.text}});
    }
    out["generations"] = json::array();
    for (const GenerationReward& g : s.generations) {
        out["generations"].push_back(
            {{"generation", g.generation}, {"decisions", g.decisions}, {"reward", rounded(g.mean)}});
    }
    // A program's text may hold bytes that are no UTF-8: replaced, not thrown over.
    return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string to_table(const Recording& r, const Summary& s, bool colour) {
    std::string out;
    const auto row = [&](const std::string& name, const std::string& value) {
        out += fmt::format("  {:<26} {}\n", name, value);
    };
    const uint64_t us = r.end_us > r.start_us ? r.end_us - r.start_us : 0;
    out += "\n";
    if (r.video.present) {
        const VideoTotals& v = r.video;
        row("frames", fmt::format("{} sent, {} decoded, {} lost, {} late, {} not encoded (uplink full)", v.frames_sent,
                                  v.frames_decoded, v.frames_lost, v.frames_late, v.frames_skipped));
        row("frame delay",
            fmt::format("p50 {:.0f}  p95 {:.0f}  p99 {:.0f} ms  (p95 away from the bad snapshot {:.0f} ms)",
                        s.frame_delay_p50_ms, s.frame_delay_p95_ms, s.frame_delay_p99_ms,
                        s.frame_delay_p95_without_bad_ms));
    }
    if (!r.link.empty()) {
        row("uplink", fmt::format("{:.2f} of {:.2f} Mbit/s ({:.1f} %), {} packets dropped", mbit(s.delivered_bytes, us),
                                  mbit(s.capacity_bytes, us),
                                  s.capacity_bytes ? 100.0 * static_cast<double>(s.delivered_bytes) /
                                                         static_cast<double>(s.capacity_bytes)
                                                   : 0.0,
                                  s.drops));
    }
    row("RTT", fmt::format("p50 {:.0f}  p95 {:.0f}  p99 {:.0f} ms", s.rtt_p50_ms, s.rtt_p95_ms, s.rtt_p99_ms));
    row("decisions",
        fmt::format("{}, {} verified, {} unexplained, {} samples lost", r.counters.decisions, r.verification.decisions,
                    std::max(r.verification.unexplained, r.counters.decisions_unexplained), r.counters.samples_lost));
    row("switches", fmt::format("{} parameter, {} network; {} because training asked; {} rolled back",
                                s.switches_parameter, s.switches_network, s.switches_trained, s.rollbacks));
    row("switch", fmt::format("p50 {:.2f}  max {:.2f} µs", s.switch_us_p50, s.switch_us_max));
    row("gap between decisions",
        fmt::format("p50 {:.1f}  p99 {:.1f}  max {:.1f} ms; with a switch in it: max {:.1f} ms", s.gaps.away.p50,
                    s.gaps.away.p99, s.gaps.away.max, s.gaps.at_switch.max));
    out += "\n";
    for (const Criterion& c : s.criteria) {
        const char* mark = c.passed ? (colour ? "\033[32m✓\033[0m" : "pass") : (colour ? "\033[31m✗\033[0m" : "FAIL");
        out += fmt::format("  {} {}: {}\n", mark, c.name, c.text);
    }
    return out;
}

}  // namespace adapath::demo
