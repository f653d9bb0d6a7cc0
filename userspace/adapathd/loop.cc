// See loop.h.
#include "userspace/adapathd/loop.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "userspace/common/clock.h"
#include "userspace/common/file.h"

namespace adapath {
namespace {

constexpr size_t kRecentInputs = 256;
constexpr size_t kStreamChunkBytes = 1 << 20;  // a quarter of what gRPC takes in one message
constexpr size_t kGenerations = 4096;
constexpr uint64_t kFlowShownUs = 60'000'000;
constexpr uint64_t kFlowKeptUs = 600'000'000;
constexpr uint64_t kSecondUs = 1'000'000;
constexpr size_t kFlowsTold = 8;                  // new ones of one batch that are told of one by one
constexpr uint64_t kFlowLiveUs = 10 * kSecondUs;  // an outage of the link does not make a flow idle
constexpr size_t kPastRewards = 32768;
constexpr size_t kReportsWaiting = 4096;
constexpr size_t kReportBytesWaiting = 16 << 20;  // a label for the app qp may have 256 KiB

}  // namespace

Loop::Loop(const App& app, Collector& collector, SnapshotManager& manager, SampleLog log, std::string log_directory,
           const Options& options, EventSink events)
    : app_(app),
      collector_(collector),
      manager_(manager),
      log_directory_(std::move(log_directory)),
      options_(options),
      events_(std::move(events)),
      verifier_([this](uint32_t generation) { return manager_.model_of(generation); },
                [this](uint32_t generation) { return manager_.float_model_of(generation); },
                [this](uint32_t generation) { return manager_.image_model_of(generation); }),
      log_(std::move(log)),
      policy_(options.watch),
      trial_(options.trial) {
    // Where the flows were before a restart: samples lost meanwhile show as gaps, and what is under watch is held
    // against what was earned before it.
    const std::string boot = boot_id();
    (void)read_sample_log(
        log_directory_, app_,
        [&](std::span<const std::byte> records, const std::string& boot_of_file) {
            for (size_t at = 0; boot_of_file == boot && at < records.size(); at += app_.record_bytes()) {
                const DecodedSample sample = app_.decode(records.subspan(at, app_.record_bytes()));
                Flow& flow = flows_[sample.flow];
                if (flow.accountable && sample.seq == flow.seq + 1 && sample.judged) {
                    past_.push_back({sample.flow, sample.time_us, sample.reward, flow.generation});
                    if (past_.size() > kPastRewards) {
                        past_.pop_front();
                    }
                }
                flow.seq = sample.seq;
                flow.generation = sample.made_by_network ? sample.generation : 0;
                flow.accountable = sample.accountable;
                flow.view.flow = sample.flow;
                flow.view.time_us = sample.time_us;
            }
            return true;
        },
        nullptr, 2);
    for (auto& [id, flow] : flows_) {
        flow.accountable = false;  // what came of its last decision was lost between then and now
    }
}

Status Loop::step() {
    batch_.clear();
    // Before the ring is read: their samples are in it, or were.
    std::vector<std::string> reports;
    {
        std::lock_guard lock(reports_mutex_);
        reports.swap(reports_);
        report_bytes_ = 0;
    }
    Result<size_t> collected = collector_.collect(options_.interval, [this](std::span<const std::byte> record) {
        if (record.size() == app_.record_bytes()) {
            batch_.insert(batch_.end(), record.begin(), record.end());
        } else {
            events_({.kind = "error",
                     .text = fmt::format(
                         "the kernel side sent a record of {} bytes, app {} has {}: reload it with adapathd "
                         "--remove",
                         record.size(), app_.name(), app_.record_bytes())});
        }
    });
    const uint64_t now_us = monotonic_us();
    if (!collected) {
        return collected.error();
    }
    publish(batch_, std::move(reports));

    // Verification asks the manager for models, so it runs before this loop's own lock is taken.
    std::vector<DecodedSample> samples;
    samples.reserve(batch_.size() / app_.record_bytes());
    uint64_t explained = 0;
    uint64_t unexplained = 0;
    uint32_t mismatched_generation = 0;  // its snapshot is known, and gives another output
    std::string last_unexplained;
    for (size_t at = 0; at < batch_.size(); at += app_.record_bytes()) {
        samples.push_back(app_.decode(std::span(batch_).subspan(at, app_.record_bytes())));
        if (!samples.back().made_by_network) {
            continue;
        }
        std::string why = verifier_.explain(app_, samples.back());
        if (why.empty()) {
            explained++;
        } else {
            unexplained++;
            if (unexplained <= 3) {
                spdlog::error("unexplained decision: {}", why);
            }
            last_unexplained = std::move(why);
            if (manager_.model_of(samples.back().generation) || manager_.image_model_of(samples.back().generation)) {
                mismatched_generation = samples.back().generation;
            }
        }
    }
    if (unexplained > 0) {
        events_({.time_us = now_us,
                 .kind = "error",
                 .text = fmt::format("{} decisions could not be explained; last: {}", unexplained, last_unexplained)});
    }

    std::vector<const DecodedSample*> first_of_flows;
    {
        std::lock_guard lock(mutex_);
        past_.clear();
        for (const DecodedSample& sample : samples) {
            if (account(sample)) {
                first_of_flows.push_back(&sample);
            }
        }
        totals_.samples += samples.size();
        totals_.explained += explained;
        totals_.unexplained += unexplained;
        if (unexplained > 0) {
            totals_.last_unexplained = std::move(last_unexplained);
        }
        forget_old_flows(now_us);
    }
    tell_of_flows(first_of_flows);
    judge_snapshots(mismatched_generation, now_us);
    manager_.reclaim();
    report_losses(now_us);
    return {};
}

void Loop::judge_snapshots(uint32_t mismatched_generation, uint64_t now_us) {
    SwitchPolicy::Verdict verdict;
    Trial::Verdict trial;
    uint32_t generation = 0;
    uint32_t on_trial = 0;
    SwitchPolicy::State state{};
    {
        std::lock_guard lock(mutex_);
        verdict = policy_.assess(now_us);
        generation = policy_.generation();
        state = policy_.state();
        trial = trial_.assess(now_us);
        on_trial = trial_.generation();
    }
    if (mismatched_generation != 0 && mismatched_generation == on_trial) {
        trial = {Trial::Outcome::failed, "its decisions are not the reference interpreter's"};
    }
    if (trial.outcome == Trial::Outcome::failed) {
        if (Status status = manager_.fail_trial(on_trial, trial.text); !status) {
            events_({.kind = "error", .text = "ending a trial: " + status.error().message});
        }
    } else if (trial.outcome == Trial::Outcome::passed && !verdict.roll_back) {
        if (Result<SwitchResult> result = manager_.promote(on_trial, trial.text); !result) {
            events_({.kind = "error", .text = "promotion failed: " + result.error().message});
        }
        return;  // the rest of the verdict is about what no longer decides
    }
    if (mismatched_generation != 0 && manager_.active().generation == mismatched_generation) {
        // A program that does not compute its own snapshot: whatever its reward, it must not decide.
        if (Result<SwitchResult> result = manager_.roll_back("its decisions are not the reference interpreter's", true);
            !result) {
            events_({.kind = "error", .text = "roll back failed: " + result.error().message});
        }
    } else if (verdict.roll_back) {
        // Between the verdict and here an operator may have switched: only the judged snapshot is rolled back.
        if (manager_.active().generation == generation) {
            if (Result<SwitchResult> result = manager_.roll_back(verdict.text, true); !result) {
                events_({.kind = "error", .text = "roll back failed: " + result.error().message});
            }
        }
    } else if (state == SwitchPolicy::State::trusted && generation != trusted_told_) {
        trusted_told_ = generation;
        manager_.trust(generation);
        if (verdict.became_trusted) {
            spdlog::info("generation {} is trusted: {}", generation, verdict.text);
        }
    }
}

void Loop::publish(std::span<const std::byte> records, std::vector<std::string> reports) {
    if (records.empty() && reports.empty()) {
        return;
    }
    std::lock_guard lock(publish_mutex_);
    if (Status status = records.empty() ? Status() : log_.append(records); !status) {
        // A full disk stops the log, not the decisions nor the learning.
        const uint64_t now_us = monotonic_us();
        if (now_us - log_error_us_ > 10 * kSecondUs) {
            log_error_us_ = now_us;
            events_({.time_us = now_us, .kind = "error", .text = "samples not logged: " + status.error().message});
        }
    }
    if (!samples_.has_readers()) {
        return;
    }
    const size_t chunk = kStreamChunkBytes / app_.record_bytes() * app_.record_bytes();
    for (size_t at = 0; at < records.size(); at += chunk) {
        const std::span<const std::byte> part = records.subspan(at, std::min(chunk, records.size() - at));
        auto batch = std::make_shared<Batch>();
        batch->records.assign(reinterpret_cast<const char*>(part.data()), part.size());
        samples_.publish(batch, part.size(), part.size() / app_.record_bytes());
    }
    for (size_t at = 0; at < reports.size();) {
        auto batch = std::make_shared<Batch>();
        size_t bytes = 0;
        for (; at < reports.size() && (bytes == 0 || bytes + reports[at].size() <= kStreamChunkBytes); at++) {
            bytes += reports[at].size();
            batch->reports.push_back(std::move(reports[at]));
        }
        samples_.publish(batch, bytes, 0);
    }
}

bool Loop::add_report(std::string report) {
    std::lock_guard lock(reports_mutex_);
    // A feed that floods a daemon whose loop stands still.
    if (reports_.size() >= kReportsWaiting || report_bytes_ + report.size() > kReportBytesWaiting) {
        return false;
    }
    report_bytes_ += report.size();
    reports_.push_back(std::move(report));
    return true;
}

void Loop::announce() { samples_.publish(std::make_shared<const Batch>(), 0, 0); }

bool Loop::account(const DecodedSample& sample) {
    auto [found, fresh] = flows_.try_emplace(sample.flow);
    Flow& flow = found->second;
    // A number that steps back is a new flow under an old name.
    const bool follows = !fresh && sample.seq > flow.seq;
    if (follows && sample.seq > flow.seq + 1) {
        totals_.gaps += sample.seq - flow.seq - 1;
    }
    if (follows && sample.seq == flow.seq + 1 && flow.accountable && sample.judged) {
        // This sample's interval is what came of the flow's decision before it.
        policy_.add(sample.flow, flow.generation, sample.reward, sample.time_us);
        trial_.add(sample.flow, flow.generation, sample.reward, sample.time_us);
        flow.judged_us = sample.time_us;
        GenerationView& generation = generations_[flow.generation];
        generation.rewards++;
        generation.reward_sum += sample.reward;
        flow.view.reward += (flow.rewarded ? 1.0 / 16 : 1.0) * (sample.reward - flow.view.reward);
        flow.rewarded = true;
    }
    flow.seq = sample.seq;
    flow.generation = sample.made_by_network ? sample.generation : 0;
    flow.accountable = sample.accountable;
    flow.view.flow = sample.flow;
    flow.view.local_port = sample.local_port;
    flow.view.remote_port = sample.remote_port;
    flow.view.rate = sample.rate;
    flow.view.rtt_us = sample.rtt_us;
    flow.view.min_rtt_us = sample.min_rtt_us;
    flow.view.time_us = sample.time_us;
    if (!sample.made_by_network) {
        return fresh;
    }
    flow.view.decisions++;
    generations_[sample.generation].decisions++;
    if (recent_.size() < kRecentInputs) {
        recent_.emplace_back(sample.input.begin(), sample.input.end());
    } else {
        recent_[recent_next_].assign(sample.input.begin(), sample.input.end());
        recent_next_ = (recent_next_ + 1) % kRecentInputs;
    }
    return fresh;
}

void Loop::tell_of_flows(std::span<const DecodedSample* const> first) {
    const auto name = [](const DecodedSample& sample) {
        return fmt::format("flow {} (port {} to {})", sample.flow, sample.local_port, sample.remote_port);
    };
    if (first.size() <= kFlowsTold) {
        for (const DecodedSample* sample : first) {
            events_({.time_us = sample->time_us,
                     .kind = "flow",
                     .text = name(*sample) + " seen",
                     .generation = sample->generation});
        }
        return;
    }
    // A thousand flows that start together are one thing that happened.
    events_(
        {.time_us = first.front()->time_us,
         .kind = "flow",
         .text = fmt::format("{} flows seen, from {} to {}", first.size(), name(*first.front()), name(*first.back())),
         .generation = first.front()->generation});
}

void Loop::forget_old_flows(uint64_t now_us) {
    if (now_us - swept_us_ < kSecondUs) {
        return;
    }
    swept_us_ = now_us;
    for (auto flow = flows_.begin(); flow != flows_.end();) {
        if (flow->second.view.time_us + kFlowKeptUs < now_us) {
            policy_.forget_flow(flow->first);
            trial_.forget_flow(flow->first);
            flow = flows_.erase(flow);
        } else {
            ++flow;
        }
    }
    while (generations_.size() > kGenerations) {
        generations_.erase(std::min_element(generations_.begin(), generations_.end(),
                                            [](const auto& a, const auto& b) { return a.first < b.first; }));
    }
}

void Loop::report_losses(uint64_t now_us) {
    if (now_us - losses_looked_us_ < kSecondUs) {
        return;
    }
    const bool first = losses_looked_us_ == 0;
    losses_looked_us_ = now_us;
    const uint64_t lost = collector_.stats().samples_lost;
    if (lost > lost_reported_ && !first) {
        events_({.time_us = now_us,
                 .kind = "lost",
                 .text = fmt::format("{} samples lost, the ring was full: raise ring_bytes or lower interval_ms",
                                     lost - lost_reported_)});
    }
    lost_reported_ = lost;
}

void Loop::on_switch(uint32_t to, bool watch, bool turn) {
    std::lock_guard lock(mutex_);
    // A switch to what has passed its trial is its promotion: the watch knows what the trial has shown.
    const bool promotion = to != 0 && to == trial_.generation();
    policy_.on_switch(to, monotonic_us(), watch, promotion ? trial_.knowledge() : TrialKnowledge{}, turn);
}

void Loop::on_trial(uint32_t generation) {
    std::lock_guard lock(mutex_);
    if (generation == 0) {
        trial_.end();
    } else {
        trial_.begin(generation, policy_.generation(), live_baselines_locked(), monotonic_us());
    }
}

Trial::Baselines Loop::live_baselines_locked() const {
    const uint64_t now_us = monotonic_us();
    Trial::Baselines baselines = policy_.baselines();
    std::erase_if(baselines, [&](const auto& baseline) {
        const auto flow = flows_.find(baseline.first);
        return flow == flows_.end() || flow->second.judged_us + kFlowLiveUs < now_us;
    });
    return baselines;
}

Result<uint32_t> Loop::plan_trial(bool asked) const {
    if (const std::string_view why = app_.no_trials(); !why.empty()) {
        return Error{std::string(why)};
    }
    if (!options_.trials_possible) {
        return Error{"with consistency \"flow\" a flow keeps the snapshot that it began with: none is on trial"};
    }
    if (!asked && !options_.trial.automatic) {
        return Error{"canary.mode is \"off\""};
    }
    std::lock_guard lock(mutex_);
    std::vector<uint64_t> flows;
    for (const auto& [flow, mean] : live_baselines_locked()) {
        flows.push_back(flow);
    }
    return choose_share(flows, options_.trial);
}

bool Loop::recall(uint32_t generation) {
    std::lock_guard lock(mutex_);
    policy_.on_switch(generation, monotonic_us(), false);
    for (const PastReward& past : past_) {
        policy_.add(past.flow, past.generation, past.reward, past.time_us);
    }
    return policy_.has_baseline();
}

std::vector<InputCodes> Loop::recent_inputs() const {
    std::lock_guard lock(mutex_);
    return recent_;
}

Loop::Subscription Loop::subscribe() {
    std::lock_guard lock(publish_mutex_);
    return {samples_.subscribe(options_.stream_limit_bytes), log_.position()};
}

Status Loop::read_log(const SampleLog::Position& until, const LogSink& sink) const {
    if (until.file.empty()) {
        return {};
    }
    Result<LogReadResult> result = read_sample_log(log_directory_, app_, sink, &until);
    return result ? Status() : Status(result.error());
}

LoopView Loop::view() const {
    LoopView view;
    const uint64_t now_us = monotonic_us();
    {
        std::lock_guard lock(mutex_);
        view = totals_;
        view.watch = policy_.describe();
        view.trial = trial_.describe();
        size_t rewarded = 0;
        for (const auto& [id, flow] : flows_) {
            if (flow.view.time_us + kFlowShownUs < now_us) {
                continue;
            }
            view.flows.push_back(flow.view);
            if (flow.rewarded && flow.view.time_us + 5 * kSecondUs >= now_us) {
                view.reward += flow.view.reward;
                rewarded++;
            }
        }
        view.reward = rewarded ? view.reward / static_cast<double>(rewarded) : 0;
    }
    {
        std::lock_guard lock(publish_mutex_);
        view.log_bytes = log_.bytes();
    }
    std::sort(view.flows.begin(), view.flows.end(),
              [](const FlowView& a, const FlowView& b) { return a.flow < b.flow; });
    return view;
}

std::unordered_map<uint32_t, GenerationView> Loop::generations() const {
    std::lock_guard lock(mutex_);
    return generations_;
}

}  // namespace adapath
