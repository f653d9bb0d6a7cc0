// The daemon without a socket: installs and refusals, live verification, the log that explains itself, roll back,
// restarts.
#include <gtest/gtest.h>

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "models/cc_model.h"
#include "tests/daemon/support.h"
#include "userspace/adapathd/verifier.h"
#include "userspace/common/clock.h"

namespace adapath {
namespace {

using test::HandDaemon;
using test::HandFlow;

// Slots that outlive the daemon, as the kernel's do.
struct Shared final : Installer {
    std::shared_ptr<Installer> to;
    explicit Shared(std::shared_ptr<Installer> installer) : to(std::move(installer)) {}
    Result<uint32_t> install(const Snapshot& s, uint32_t g, std::span<const InputCodes> c) override {
        return to->install(s, g, c);
    }
    Status switch_to(uint32_t slot) override { return to->switch_to(slot); }
    Status deactivate() override { return to->deactivate(); }
    Status reclaim() override { return to->reclaim(); }
    std::vector<SlotInfo> slots() const override { return to->slots(); }
    uint32_t active_slot() const override { return to->active_slot(); }
    uint32_t standby_slot() const override { return to->standby_slot(); }
    Status set_canary(uint32_t slot, double share) override { return to->set_canary(slot, share); }
    Status end_canary() override { return to->end_canary(); }
    Status set_objective(const Objective& weights) override { return to->set_objective(weights); }
    Status set_explore(uint32_t slot, uint32_t strength) override { return to->set_explore(slot, strength); }
};

// The daemon over those slots, with a ring of its own.
struct Successor {
    std::shared_ptr<LocalDatapath> datapath;  // of the slots
    std::shared_ptr<Installer> slots;
    Successor() {
        Result<LocalBackend> local = open_local_backend({}, nullptr);
        datapath = local->datapath;
        slots = std::move(local->backend.installer);
    }
    std::unique_ptr<Daemon> open(const std::string& state, const std::function<void(pb::DaemonConfig&)>& change = {}) {
        // The samples' ring is the datapath's too: a collector on it, and the slots behind a handle that may go.
        Result<LocalBackend> collector = open_local_backend({}, nullptr);
        Backend backend = std::move(collector->backend);
        ring = collector->datapath;
        backend.adopted = true;
        backend.installer = std::make_unique<Shared>(slots);
        pb::DaemonConfig config;
        config.set_state_directory(state);
        config.set_interval_ms(1);
        if (change) {
            change(config);
        }
        Result<StateLock> lock = StateLock::take(state);
        EXPECT_TRUE(lock) << lock.error().message;
        Result<std::unique_ptr<Daemon>> daemon = Daemon::open(config, std::move(*lock), std::move(backend));
        EXPECT_TRUE(daemon) << daemon.error().message;
        return std::move(*daemon);
    }
    std::shared_ptr<LocalDatapath> ring;  // of the daemon that was opened last
};

class DaemonTest : public ::testing::Test {
protected:
    test::TemporaryDirectory directory_;

    InstallResult install(HandDaemon& hand, const Snapshot& snapshot, bool trained = false) {
        Result<InstallResult> result = hand.daemon->snapshots().install(test::file_of(snapshot), true, trained, "test");
        EXPECT_TRUE(result) << result.error().message;
        return result ? *result : InstallResult{};
    }
    static pb::StatusReply status(const HandDaemon& hand) {
        pb::StatusReply reply;
        hand.daemon->fill_status(reply);
        return reply;
    }
    static void run(HandDaemon& hand, HandFlow& flow, int decisions) {
        for (int i = 0; i < decisions; i++) {
            ASSERT_TRUE(test::put(*hand.datapath, test::decide(*hand.datapath, flow, static_cast<uint32_t>(i))));
        }
        ASSERT_TRUE(hand.daemon->step().ok());
    }
};

TEST_F(DaemonTest, EveryDecisionOverManySwitchesIsExplained) {
    HandDaemon hand = test::open_hand_daemon(directory_.path());
    HandFlow flow;
    run(hand, flow, 10);  // the fallback
    for (uint32_t seed = 1; seed <= 20; seed++) {
        const InstallResult result =
            install(hand, test::random_snapshot(
                              seed, seed % 5 == 0 ? std::vector<uint32_t>{16} : std::vector<uint32_t>{32, 16}, 0.1F));
        EXPECT_EQ(result.generation, seed);
        EXPECT_TRUE(result.activated);
        run(hand, flow, 50);
    }
    const pb::StatusReply reply = status(hand);
    EXPECT_EQ(reply.decisions_explained(), 1000U);
    EXPECT_EQ(reply.decisions_unexplained(), 0U) << reply.last_unexplained();
    EXPECT_EQ(reply.sequence_gaps(), 0U);
    EXPECT_EQ(reply.switches_parameter() + reply.switches_network(), 20U);
    EXPECT_EQ(reply.switches_network(), 7U);  // to and from each of seeds 5, 10, 15; to 20
    EXPECT_EQ(reply.active_generation(), 20U);

    Result<VerifyReport> report = verify_state_directory(directory_.path(), *find_app("cc"));
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->decisions, 1000U);
    EXPECT_EQ(report->explained, 1000U);
    EXPECT_EQ(report->unexplained, 0U);
    EXPECT_EQ(report->fallbacks, 10U);
    EXPECT_EQ(report->generations, 20U);
    EXPECT_EQ(report->switches, 20U);
    EXPECT_EQ(report->gaps, 0U);
}

TEST_F(DaemonTest, ATornDecisionIsSeen) {
    HandDaemon hand = test::open_hand_daemon(directory_.path());
    HandFlow flow;
    install(hand, test::random_snapshot(1));
    adp_cc_sample sample = test::decide(*hand.datapath, flow, 1);
    sample.output++;
    sample.action = sample.output;  // consistent in itself, but no snapshot gives it
    test::put(*hand.datapath, sample);
    sample = test::decide(*hand.datapath, flow, 2);
    sample.input[7] ^= 1;
    const bool flips = interpret(test::random_snapshot(1).model, sample.input)[0] != sample.output;
    test::put(*hand.datapath, sample);
    sample = test::decide(*hand.datapath, flow, 3);
    sample.generation = 55;
    test::put(*hand.datapath, sample);
    ASSERT_TRUE(hand.daemon->step().ok());
    const pb::StatusReply reply = status(hand);
    EXPECT_TRUE(flips);
    EXPECT_EQ(reply.decisions_unexplained(), 3U);
    EXPECT_NE(reply.last_unexplained().find("generation 55"), std::string::npos) << reply.last_unexplained();
    EXPECT_EQ(verify_state_directory(directory_.path(), *find_app("cc"))->unexplained, 3U);
}

// A gateway's thousand flows must not be a thousand lines in the journal.
TEST_F(DaemonTest, ManyNewFlowsAreOneEventAndAFewAreToldOneByOne) {
    HandDaemon hand = test::open_hand_daemon(directory_.path());
    install(hand, test::random_snapshot(1));
    std::shared_ptr<Daemon::Events::Reader> events = hand.daemon->watch_events();
    const auto flow_events = [&](uint64_t from, uint64_t to) {
        for (uint64_t id = from; id < to; id++) {
            HandFlow flow;
            flow.id = id;
            flow.time_us = monotonic_us();
            EXPECT_TRUE(test::put(*hand.datapath, test::decide(*hand.datapath, flow, 1)));
        }
        EXPECT_TRUE(hand.daemon->step().ok());
        std::vector<std::string> texts;
        while (std::shared_ptr<const DaemonEvent> event = events->next(std::chrono::milliseconds(0))) {
            if (event->kind == "flow") {
                texts.push_back(event->text);
            }
        }
        return texts;
    };
    EXPECT_EQ(flow_events(1, 4).size(), 3U);
    const std::vector<std::string> many = flow_events(1000, 2000);
    ASSERT_EQ(many.size(), 1U);
    EXPECT_NE(many[0].find("1000 flows"), std::string::npos) << many[0];
    EXPECT_EQ(status(hand).flows_size(), 1003);
}

TEST_F(DaemonTest, LostSamplesShowAsGapsAndAsLosses) {
    HandDaemon hand = test::open_hand_daemon(directory_.path(), [](pb::DaemonConfig& config) {
        config.set_ring_bytes(4096);
        config.set_wakeup_bytes(0);
    });
    install(hand, test::random_snapshot(1));
    HandFlow flow;
    const int fit = 4096 / static_cast<int>(sizeof(adp_cc_sample));
    int lost = 0;
    for (int i = 0; i < fit + 5; i++) {
        lost += test::put(*hand.datapath, test::decide(*hand.datapath, flow, 1)) ? 0 : 1;
    }
    EXPECT_EQ(lost, 5);
    ASSERT_TRUE(hand.daemon->step().ok());
    run(hand, flow, 1);
    EXPECT_EQ(status(hand).samples_lost(), 5U);
    EXPECT_EQ(status(hand).sequence_gaps(), 5U);
}

TEST_F(DaemonTest, RefusalsChangeNothingAndAreCounted) {
    HandDaemon hand = test::open_hand_daemon(directory_.path());
    install(hand, test::random_snapshot(1));
    const std::string good = test::file_of(test::random_snapshot(2));
    const auto slots = [&] {
        std::string text;
        for (const SlotInfo& slot : hand.daemon->snapshots().slots()) {
            text += std::to_string(slot.generation) + ":" + std::to_string(static_cast<int>(slot.state)) + " ";
        }
        return text;
    };
    const std::string before = slots();
    FloatModel foreign = adversarial_cc(0);
    foreign.network.feature_schema = ADP_CC_SCHEMA + 1;
    FloatModel other_app = adversarial_cc(0);
    other_app.network.app = "qp";
    std::string damaged = good;
    damaged[damaged.size() / 2] ^= 1;
    uint64_t refused = 0;
    for (const auto& [bytes, reason] : std::initializer_list<std::pair<std::string, std::string>>{
             {"", "snapshot"},
             {"this is no snapshot, just text", "snapshot"},
             {good.substr(0, good.size() / 2), "snapshot"},
             {damaged, "snapshot"},
             {test::file_of(test::freeze_light(foreign)), "schema"},
             {test::file_of(test::freeze_light(other_app)), "'qp'"}}) {
        Result<InstallResult> result = hand.daemon->snapshots().install(bytes, true, false, "");
        ASSERT_FALSE(result);
        EXPECT_NE(result.error().message.find(reason), std::string::npos) << result.error().message;
        EXPECT_EQ(slots(), before);
        EXPECT_EQ(status(hand).installs_refused(), ++refused);
        EXPECT_EQ(status(hand).last_refusal(), result.error().message);
        EXPECT_EQ(hand.daemon->snapshots().stored().size(), 1U);
    }
    EXPECT_EQ(install(hand, test::random_snapshot(2)).generation, 2U);
}

TEST_F(DaemonTest, SameSnapshotAgainTakesNoSlot) {
    HandDaemon hand = test::open_hand_daemon(directory_.path());
    install(hand, test::random_snapshot(1));
    EXPECT_EQ(install(hand, test::random_snapshot(1)).generation, 1U);
    EXPECT_EQ(status(hand).switches_parameter(), 1U);
}

TEST_F(DaemonTest, SwitchAndRollbackByHand) {
    HandDaemon hand = test::open_hand_daemon(directory_.path());
    SnapshotManager& snapshots = hand.daemon->snapshots();
    EXPECT_FALSE(snapshots.roll_back("", false));
    const InstallResult a = install(hand, test::random_snapshot(1));
    const InstallResult b = install(hand, test::random_snapshot(2));
    Result<SwitchResult> back = snapshots.roll_back("", false);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(back->hash, a.hash);
    EXPECT_EQ(back->generation, a.generation);  // by a flip: the slot was standby
    Result<SwitchResult> there = snapshots.switch_to(b.hash.substr(0, 10), 0, "");
    ASSERT_TRUE(there) << there.error().message;
    EXPECT_EQ(there->generation, b.generation);
    const InstallResult c = install(hand, test::random_snapshot(3));
    // a's slot was given up meanwhile: it is installed anew from the store, under a new number.
    snapshots.reclaim();
    there = snapshots.switch_to("", a.generation, "");
    ASSERT_TRUE(there) << there.error().message;
    EXPECT_EQ(there->hash, a.hash);
    EXPECT_GT(there->generation, c.generation);
    EXPECT_FALSE(snapshots.switch_to("", 99, ""));
    EXPECT_FALSE(snapshots.switch_to("00000000000", 0, ""));
    // Back and back again, down to the fallback.
    for (int i = 0; i < 10 && status(hand).active_generation() != 0; i++) {
        ASSERT_TRUE(snapshots.roll_back("", false).ok());
    }
    EXPECT_EQ(status(hand).active_generation(), 0U);
    EXPECT_EQ(hand.datapath->active().model, nullptr);
}

TEST_F(DaemonTest, BadSnapshotIsRolledBackAndRefusedAfterwards) {
    HandDaemon hand = test::open_hand_daemon(directory_.path());
    HandFlow flow;
    flow.time_us = 1000000;
    // 25 s of one good snapshot, in its samples' time.
    const InstallResult good = install(hand, test::random_snapshot(1), true);
    for (int i = 0; i < 500; i++) {
        flow.time_us += 50000;
        test::put(*hand.datapath, test::decide(*hand.datapath, flow, 1));
    }
    ASSERT_TRUE(hand.daemon->step().ok());
    std::shared_ptr<Daemon::Events::Reader> events = hand.daemon->watch_events();
    const Snapshot bad = test::constant_snapshot(-1);
    install(hand, bad, true);
    // Its rate has collapsed. The time it takes to conclude is real: the watch runs on this machine's clock.
    flow.interval_rate = 20000;
    flow.time_us = 0;
    const uint64_t begin_us = monotonic_us();
    while (status(hand).rollbacks() == 0 && monotonic_us() - begin_us < 10000000) {
        run(hand, flow, 1);
    }
    const double took_s = static_cast<double>(monotonic_us() - begin_us) / 1e6;
    EXPECT_EQ(status(hand).rollbacks(), 1U);
    EXPECT_GE(took_s, 1.4);
    EXPECT_LE(took_s, 4);
    EXPECT_EQ(status(hand).active_hash(), good.hash);
    bool told = false;
    while (std::shared_ptr<const DaemonEvent> event = events->next(std::chrono::milliseconds(0))) {
        told = told || (event->kind == "rollback" && event->from_generation == 2 && event->generation == 1);
    }
    EXPECT_TRUE(told);
    // The trainer may not send it again for a while; an operator may.
    Result<InstallResult> again = hand.daemon->snapshots().install(test::file_of(bad), true, true, "");
    ASSERT_FALSE(again);
    EXPECT_NE(again.error().message.find("rolled back"), std::string::npos);
    EXPECT_TRUE(hand.daemon->snapshots().install(test::file_of(bad), true, false, "").ok());
}

TEST_F(DaemonTest, TrainingOffMeansNoNoise) {
    HandDaemon hand = test::open_hand_daemon(directory_.path());
    install(hand, test::random_snapshot(1, {32, 16}, 0.25F));
    EXPECT_EQ(hand.datapath->active().explore_q16, 16384U);
    hand.daemon->set_train(false);
    EXPECT_EQ(hand.datapath->active().explore_q16, 0U);
    install(hand, test::random_snapshot(2, {32, 16}, 0.25F));
    EXPECT_EQ(hand.datapath->active().explore_q16, 0U);
    hand.daemon->set_train(true);
    EXPECT_EQ(hand.datapath->active().explore_q16, 16384U);
}

TEST_F(DaemonTest, ARestartGoesOnWithNumbersAndLog) {
    HandFlow flow;
    {
        HandDaemon hand = test::open_hand_daemon(directory_.path());
        install(hand, test::random_snapshot(1));
        run(hand, flow, 20);
    }
    flow.seq += 3;  // lost while no daemon read
    HandDaemon hand = test::open_hand_daemon(directory_.path());
    // The local backend's slots are gone with the process, as the kernel's are after a reboot: what decided before is
    // installed again from the store, under a new number.
    EXPECT_EQ(status(hand).active_generation(), 2U);
    EXPECT_EQ(hand.daemon->snapshots().active().hash, test::random_snapshot(1).hash);
    EXPECT_EQ(install(hand, test::random_snapshot(2)).generation, 3U);
    run(hand, flow, 20);
    EXPECT_EQ(status(hand).sequence_gaps(), 3U);
    Result<VerifyReport> report = verify_state_directory(directory_.path(), *find_app("cc"));
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->explained, 40U);
    EXPECT_EQ(report->unexplained, 0U);
    EXPECT_EQ(report->gaps, 3U);
}

TEST_F(DaemonTest, WhatWasRolledBackIsNotRestored) {
    {
        HandDaemon hand = test::open_hand_daemon(directory_.path());
        install(hand, test::random_snapshot(1));
        install(hand, test::random_snapshot(2));
        ASSERT_TRUE(hand.daemon->snapshots().roll_back("does badly", true).ok());
    }
    HandDaemon hand = test::open_hand_daemon(directory_.path());
    EXPECT_EQ(hand.daemon->snapshots().active().hash, test::random_snapshot(1).hash);
}

// The second daemon finds what the first left.
TEST_F(DaemonTest, AdoptsARunningKernelSide) {
    Successor after;
    const auto open = [&](const std::string& state) { return after.open(state); };
    {
        std::unique_ptr<Daemon> daemon = open(directory_.path());
        for (uint32_t seed = 1; seed <= 3; seed++) {
            ASSERT_TRUE(daemon->snapshots().install(test::file_of(test::random_snapshot(seed)), true, false, "").ok());
        }
    }
    {
        std::unique_ptr<Daemon> daemon = open(directory_.path());
        EXPECT_EQ(daemon->snapshots().active().generation, 3U);
        EXPECT_EQ(daemon->snapshots().active().hash, test::random_snapshot(3).hash);
        Result<SwitchResult> back = daemon->snapshots().roll_back("", false);
        ASSERT_TRUE(back) << back.error().message;
        EXPECT_EQ(back->generation, 2U);
        EXPECT_EQ(daemon->snapshots().install(test::file_of(test::random_snapshot(4)), true, false, "")->generation,
                  4U);
    }
    // Another state directory knows nothing of these slots: they go on deciding, and numbers go on after theirs.
    test::TemporaryDirectory other;
    std::unique_ptr<Daemon> daemon = open(other.path());
    EXPECT_EQ(daemon->snapshots().active().generation, 4U);
    EXPECT_EQ(daemon->snapshots().active().hash, "");
    EXPECT_NE(daemon->snapshots().model_of(4).ok(), true);
    EXPECT_EQ(daemon->snapshots().install(test::file_of(test::random_snapshot(5)), true, false, "")->generation, 5U);
}

TEST_F(DaemonTest, ASecondDaemonOnTheSameStateIsRefused) {
    HandDaemon hand = test::open_hand_daemon(directory_.path());
    Result<StateLock> lock = StateLock::take(directory_.path());
    ASSERT_FALSE(lock);
    EXPECT_NE(lock.error().message.find("pid " + std::to_string(getpid())), std::string::npos) << lock.error().message;
}

TEST_F(DaemonTest, SimulatedFlowsRunOnWhatIsInstalled) {
    pb::DaemonConfig config;
    config.set_backend("local");
    config.set_state_directory(directory_.path());
    config.set_interval_ms(20);
    config.mutable_local()->set_speed(20);
    Result<std::unique_ptr<Daemon>> daemon = Daemon::open(config);
    ASSERT_TRUE(daemon) << daemon.error().message;
    const auto wait = [&](auto done) {
        pb::StatusReply reply;
        const uint64_t begin_us = monotonic_us();
        do {
            EXPECT_TRUE((*daemon)->step().ok());
            reply.Clear();
            (*daemon)->fill_status(reply);
        } while (!done(reply) && monotonic_us() - begin_us < 20000000);
        EXPECT_TRUE(done(reply)) << reply.ShortDebugString();
        return reply;
    };
    wait([](const pb::StatusReply& reply) { return reply.fallbacks() > 50 && reply.flows_size() == 4; });
    ASSERT_TRUE(
        (*daemon)->snapshots().install(test::file_of(test::random_snapshot(1, {32, 16}, 0.1F)), true, false, "").ok());
    const pb::StatusReply reply =
        wait([](const pb::StatusReply& status) { return status.decisions_explained() > 200; });
    EXPECT_EQ(reply.decisions_unexplained(), 0U) << reply.last_unexplained();
    EXPECT_EQ(reply.sequence_gaps(), 0U);
}

// What the demo shows: a policy that starves its flow and one that fills every queue, on an uplink that moves by
// itself. Each on a link where it does harm: two packets a round trip must be far less than a flow's share, and what
// four flows may put into the queue must take long to leave.
class AdversarialTest : public DaemonTest {
protected:
    void is_rolled_back(float output, double mean_mbit) {
        pb::DaemonConfig config;
        config.set_backend("local");
        config.set_state_directory(directory_.path());
        config.set_interval_ms(20);
        config.mutable_local()->set_mean_mbit(mean_mbit);
        Result<FloatModel> checkpoint = read_float_model(ADAPATH_CHECKPOINT "/policy.model");
        ASSERT_TRUE(checkpoint) << checkpoint.error().message;
        const Snapshot good = test::freeze_light(*checkpoint);
        Result<std::unique_ptr<Daemon>> daemon = Daemon::open(config);
        ASSERT_TRUE(daemon) << daemon.error().message;
        const auto steps = [&](double seconds, const std::function<bool()>& done) {
            const uint64_t begin_us = monotonic_us();
            while (!done() && monotonic_us() - begin_us < static_cast<uint64_t>(seconds * 1e6)) {
                EXPECT_TRUE((*daemon)->step().ok());
            }
            return static_cast<double>(monotonic_us() - begin_us) / 1e6;
        };
        const auto decisions = [&] { return (*daemon)->loop().view().explained; };
        const auto rollbacks = [&] { return (*daemon)->snapshots().counters().rollbacks; };
        // The good one decides from the start: nothing is known of the fallback.
        ASSERT_TRUE((*daemon)->snapshots().install(test::file_of(good), true, false, "").ok());
        steps(60, [&] { return decisions() >= 400; });
        ASSERT_TRUE(
            (*daemon)->snapshots().install(test::file_of(test::constant_snapshot(output)), true, false, "").ok());
        const double took_s = steps(15, [&] { return rollbacks() > 0; });
        EXPECT_EQ(rollbacks(), 1U) << (*daemon)->loop().view().watch;
        EXPECT_LE(took_s, 8);
        printf("output %+.0f caught after %.1f s\n", static_cast<double>(output), took_s);
        EXPECT_EQ((*daemon)->snapshots().active().hash, good.hash);
        EXPECT_EQ((*daemon)->loop().view().unexplained, 0U);
    }
};

TEST_F(AdversarialTest, AStarvingSnapshotIsRolledBackWithinSeconds) { is_rolled_back(-1, 60); }
TEST_F(AdversarialTest, ABloatingSnapshotIsRolledBackWithinSeconds) { is_rolled_back(1, 3); }

// ---- trials ----

// Eight flows, side by side, as a kernel side would have them: each is decided by what decides for its number, and
// earns what that snapshot is worth.
class TrialDaemonTest : public DaemonTest {
protected:
    static constexpr uint64_t kFlows = 8;
    static constexpr uint64_t kGoodRate = 1000000;
    static constexpr uint64_t kBadRate = 30000;  // five octaves below

    void SetUp() override {
        for (uint64_t id = 1; id <= kFlows; id++) {
            flows_.push_back({.id = id});
        }
    }
    static void quick(pb::DaemonConfig& config) {
        config.mutable_canary()->set_seconds(1);
        config.mutable_canary()->set_min_decisions(10);
    }
    // What a generation is worth; others: kGoodRate.
    std::map<uint32_t, uint64_t> rates_;
    std::map<uint32_t, std::set<uint64_t>> seen_;  // which flows a generation has decided for
    std::vector<HandFlow> flows_;
    std::map<uint64_t, uint32_t> last_;  // generation of each flow's last decision

    // Every flow decides once, at this time.
    void decide_all(LocalDatapath& slots, LocalDatapath& ring, uint64_t time_us, uint64_t link_rate = kGoodRate) {
        for (HandFlow& flow : flows_) {
            const auto rate = rates_.find(last_[flow.id]);
            flow.interval_rate = std::min(link_rate, rate == rates_.end() ? kGoodRate : rate->second);
            flow.time_us = time_us;
            const adp_cc_sample sample = test::decide(slots, flow, static_cast<uint32_t>(flow.seq));
            last_[flow.id] = sample.generation;
            seen_[sample.generation].insert(flow.id);
            ASSERT_TRUE(test::put(ring, sample));
        }
    }
    // A past of so many seconds, just before now.
    void past(Daemon& daemon, LocalDatapath& slots, LocalDatapath& ring, double seconds = 8) {
        const uint64_t now_us = monotonic_us();
        for (uint64_t time_us = now_us - static_cast<uint64_t>(seconds * 1e6); time_us < now_us; time_us += 100000) {
            decide_all(slots, ring, time_us);
        }
        ASSERT_TRUE(daemon.step().ok());
    }
    void past(HandDaemon& hand) { past(*hand.daemon, *hand.datapath, *hand.datapath); }
    // Real time: the guard runs on this machine's clock. False: it did not come to that within 20 s.
    bool live(HandDaemon& hand, const std::function<bool()>& until, uint64_t link_rate = kGoodRate) {
        const uint64_t end_us = monotonic_us() + 20000000;
        while (!until() && monotonic_us() < end_us && !HasFatalFailure()) {
            decide_all(*hand.datapath, *hand.datapath, monotonic_us(), link_rate);
            if (Status status = hand.daemon->step(); !status) {
                ADD_FAILURE() << status.error().message;
                return false;
            }
            usleep(20000);
        }
        return until();
    }
    static std::vector<DaemonEvent> drain(Daemon::Events::Reader& events) {
        std::vector<DaemonEvent> all;
        while (std::shared_ptr<const DaemonEvent> event = events.next(std::chrono::milliseconds(0))) {
            all.push_back(*event);
        }
        return all;
    }
    static const DaemonEvent* find_event(const std::vector<DaemonEvent>& events, const std::string& kind) {
        for (const DaemonEvent& event : events) {
            if (event.kind == kind) {
                return &event;
            }
        }
        return nullptr;
    }
};

TEST_F(TrialDaemonTest, AGoodSnapshotIsPromoted) {
    HandDaemon hand = test::open_hand_daemon(directory_.path(), quick);
    const InstallResult old = install(hand, test::random_snapshot(1), true);
    EXPECT_TRUE(old.activated) << "there was nothing to compare with";
    past(hand);
    std::shared_ptr<Daemon::Events::Reader> events = hand.daemon->watch_events();
    const InstallResult fresh = install(hand, test::random_snapshot(2), true);
    EXPECT_FALSE(fresh.activated);
    EXPECT_TRUE(fresh.on_trial);
    EXPECT_GT(fresh.share, 0);
    pb::StatusReply reply = status(hand);
    EXPECT_EQ(reply.active_generation(), old.generation);
    EXPECT_EQ(reply.canary_generation(), fresh.generation);
    EXPECT_EQ(reply.canary_hash(), fresh.hash);
    EXPECT_EQ(reply.slots(static_cast<int>(fresh.slot)).state(), "canary");
    ASSERT_TRUE(live(hand, [&] { return status(hand).active_generation() == fresh.generation; }));
    // Side by side until then: some flows under the one, the others under the other.
    const std::vector<DaemonEvent> all = drain(*events);
    const DaemonEvent* begun = find_event(all, "canary");
    const DaemonEvent* promoted = find_event(all, "promote");
    ASSERT_NE(begun, nullptr);
    ASSERT_NE(promoted, nullptr);
    EXPECT_EQ(begun->generation, fresh.generation);
    EXPECT_EQ(promoted->generation, fresh.generation);
    EXPECT_EQ(promoted->from_generation, old.generation);
    EXPECT_TRUE(promoted->trained);
    EXPECT_EQ(find_event(all, "rollback"), nullptr);
    reply = status(hand);
    EXPECT_EQ(reply.canary_generation(), 0U);
    EXPECT_EQ(reply.trials(), 1U);
    EXPECT_EQ(reply.trials_passed(), 1U);
    EXPECT_EQ(reply.switches_trained(), 2U);
    EXPECT_TRUE(reply.watch().starts_with("watched")) << reply.watch();
    EXPECT_EQ(reply.decisions_unexplained(), 0U) << reply.last_unexplained();
    EXPECT_EQ(hand.daemon->snapshots().roll_back("", false)->generation, old.generation);
}

TEST_F(TrialDaemonTest, ABadSnapshotIsEndedBeforeMostFlowsSeeIt) {
    HandDaemon hand = test::open_hand_daemon(directory_.path(), quick);
    const InstallResult old = install(hand, test::random_snapshot(1), true);
    past(hand);
    std::shared_ptr<Daemon::Events::Reader> events = hand.daemon->watch_events();
    const Snapshot bad = test::constant_snapshot(-1);
    const InstallResult fresh = install(hand, bad, true);
    ASSERT_TRUE(fresh.on_trial);
    rates_[fresh.generation] = kBadRate;
    ASSERT_TRUE(live(hand, [&] { return status(hand).trials_failed() == 1; }));
    EXPECT_EQ(status(hand).active_generation(), old.generation);
    EXPECT_EQ(status(hand).rollbacks(), 1U);
    EXPECT_EQ(status(hand).canary_generation(), 0U);
    const std::vector<DaemonEvent> all = drain(*events);
    const DaemonEvent* ended = find_event(all, "rollback");
    ASSERT_NE(ended, nullptr);
    EXPECT_TRUE(ended->trial);
    EXPECT_EQ(ended->from_generation, fresh.generation);
    EXPECT_EQ(ended->generation, old.generation);
    EXPECT_EQ(find_event(all, "switch"), nullptr);
    // A quarter of eight, and nobody else; nor does anybody from here on.
    EXPECT_GE(seen_[fresh.generation].size(), 1U);
    EXPECT_LE(seen_[fresh.generation].size(), 3U);
    seen_.clear();
    decide_all(*hand.datapath, *hand.datapath, monotonic_us());
    EXPECT_EQ(seen_.size(), 1U);
    // Training may not send it again for a while; its slot is free again.
    Result<InstallResult> again = hand.daemon->snapshots().install(test::file_of(bad), true, true, "");
    ASSERT_FALSE(again);
    EXPECT_NE(again.error().message.find("on trial"), std::string::npos) << again.error().message;
    hand.daemon->snapshots().reclaim();
    for (const SlotInfo& slot : hand.daemon->snapshots().slots()) {
        EXPECT_NE(slot.generation, fresh.generation);
    }
}

TEST_F(TrialDaemonTest, ALinkThatFallsUnderAllRollsNothingBack) {
    HandDaemon hand = test::open_hand_daemon(directory_.path(), quick);
    install(hand, test::random_snapshot(1), true);
    past(hand);
    const InstallResult fresh = install(hand, test::random_snapshot(2), true);
    ASSERT_TRUE(fresh.on_trial);
    // To an eighth, for all flows alike: three octaves, more than the watch's margin.
    const uint64_t fallen = kGoodRate / 8;
    ASSERT_TRUE(live(hand, [&] { return status(hand).canary_generation() == 0; }, fallen));
    EXPECT_EQ(status(hand).active_generation(), fresh.generation);
    // The watch has enough to conclude from, twice over, and lets it be.
    const uint64_t begin_us = monotonic_us();
    ASSERT_TRUE(live(hand, [&] { return monotonic_us() - begin_us > 4000000; }, fallen));
    EXPECT_EQ(status(hand).rollbacks(), 0U);
    EXPECT_EQ(status(hand).active_generation(), fresh.generation);
}

TEST_F(TrialDaemonTest, WithFewFlowsItDecidesAtOnce) {
    HandDaemon hand = test::open_hand_daemon(directory_.path(), quick);
    flows_.resize(3);
    install(hand, test::random_snapshot(1), true);
    past(hand);
    EXPECT_TRUE(install(hand, test::random_snapshot(2), true).activated);
    EXPECT_EQ(status(hand).trials(), 0U);
}

TEST_F(TrialDaemonTest, TurnedOffItDecidesAtOnceUnlessAnOperatorAsks) {
    HandDaemon hand = test::open_hand_daemon(directory_.path(), [](pb::DaemonConfig& config) {
        quick(config);
        config.mutable_canary()->set_mode("off");
    });
    SnapshotManager& snapshots = hand.daemon->snapshots();
    const InstallResult a = install(hand, test::random_snapshot(1), true);
    past(hand);
    EXPECT_TRUE(install(hand, test::random_snapshot(2), true).activated);
    Result<InstallResult> asked = snapshots.install(test::file_of(test::random_snapshot(3)), true, false, "", true);
    ASSERT_TRUE(asked) << asked.error().message;
    EXPECT_TRUE(asked->on_trial);
    // What is asked for next takes its place, under a number of its own.
    Result<SwitchResult> stored = snapshots.switch_to(a.hash, 0, "", true);
    ASSERT_TRUE(stored) << stored.error().message;
    EXPECT_TRUE(stored->on_trial);
    EXPECT_GT(stored->generation, asked->generation);
    EXPECT_EQ(snapshots.on_trial().hash, a.hash);
    EXPECT_FALSE(snapshots.switch_to(a.hash, 0, "", true)) << "it is on trial already";
}

TEST_F(TrialDaemonTest, AnOperatorIsObeyedAtOnce) {
    HandDaemon hand = test::open_hand_daemon(directory_.path(), quick);
    SnapshotManager& snapshots = hand.daemon->snapshots();
    const InstallResult a = install(hand, test::random_snapshot(1), true);
    past(hand);
    EXPECT_TRUE(install(hand, test::random_snapshot(2), false).activated) << "without --canary no trial";
    past(hand);
    const auto on_trial = [&](uint32_t seed) {
        const InstallResult result = install(hand, test::random_snapshot(seed), true);
        EXPECT_TRUE(result.on_trial);
        return result;
    };
    // Rolled back: the trial, and nothing else.
    InstallResult trial = on_trial(3);
    Result<SwitchResult> back = snapshots.roll_back("by hand", false);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(back->generation, 2U);
    EXPECT_EQ(status(hand).active_generation(), 2U);
    EXPECT_EQ(status(hand).canary_generation(), 0U);
    // Switched to: promoted before its time.
    trial = on_trial(4);
    Result<SwitchResult> there = snapshots.switch_to("", trial.generation, "");
    ASSERT_TRUE(there) << there.error().message;
    EXPECT_EQ(there->generation, trial.generation);
    EXPECT_EQ(status(hand).active_generation(), trial.generation);
    // Another is switched to: over, and it is not held against the one on trial.
    past(hand);
    trial = on_trial(5);
    there = snapshots.switch_to(a.hash, 0, "");
    ASSERT_TRUE(there) << there.error().message;
    EXPECT_EQ(status(hand).canary_generation(), 0U);
    EXPECT_EQ(hand.datapath->canary().share_q16, 0U);
    past(hand);
    EXPECT_TRUE(install(hand, test::random_snapshot(5), true).on_trial) << "refused though nobody judged it";
    EXPECT_EQ(status(hand).trials_failed(), 1U);
}

TEST_F(TrialDaemonTest, ATornDecisionEndsTheTrialAtOnce) {
    HandDaemon hand = test::open_hand_daemon(directory_.path(), quick);
    const InstallResult old = install(hand, test::random_snapshot(1), true);
    past(hand);
    const InstallResult fresh = install(hand, test::random_snapshot(2), true);
    ASSERT_TRUE(fresh.on_trial);
    for (HandFlow& flow : flows_) {
        adp_cc_sample sample = test::decide(*hand.datapath, flow, 1);
        if (sample.generation == fresh.generation) {
            sample.output++;
            sample.action = sample.output;
        }
        test::put(*hand.datapath, sample);
    }
    ASSERT_TRUE(hand.daemon->step().ok());
    EXPECT_EQ(status(hand).trials_failed(), 1U);
    EXPECT_EQ(status(hand).active_generation(), old.generation);
}

TEST_F(TrialDaemonTest, ADaemonEndsTheTrialOfOneThatIsGone) {
    Successor after;
    uint32_t on_trial = 0;
    {
        std::unique_ptr<Daemon> daemon = after.open(directory_.path(), quick);
        ASSERT_TRUE(daemon->snapshots().install(test::file_of(test::random_snapshot(1)), true, true, "").ok());
        past(*daemon, *after.datapath, *after.ring);
        Result<InstallResult> fresh =
            daemon->snapshots().install(test::file_of(test::random_snapshot(2)), true, true, "");
        ASSERT_TRUE(fresh) << fresh.error().message;
        ASSERT_TRUE(fresh->on_trial);
        on_trial = fresh->generation;
        EXPECT_NE(after.datapath->canary().share_q16, 0U);
    }
    EXPECT_NE(after.datapath->canary().share_q16, 0U) << "the kernel side goes on as it was left";
    std::unique_ptr<Daemon> daemon = after.open(directory_.path(), quick);
    EXPECT_EQ(after.datapath->canary().share_q16, 0U);
    EXPECT_EQ(daemon->snapshots().active().generation, 1U);
    EXPECT_EQ(daemon->snapshots().on_trial().generation, 0U);
    EXPECT_EQ(daemon->snapshots().counters().rollbacks, 1U);
    EXPECT_EQ(daemon->snapshots().roll_back("", false)->generation, 0U) << "it never becomes a way back: " << on_trial;
}

TEST_F(TrialDaemonTest, WhatWasOnTrialIsNotRestored) {
    {
        HandDaemon hand = test::open_hand_daemon(directory_.path(), quick);
        install(hand, test::random_snapshot(1), true);
        past(hand);
        ASSERT_TRUE(install(hand, test::random_snapshot(2), true).on_trial);
    }
    HandDaemon hand = test::open_hand_daemon(directory_.path(), quick);
    EXPECT_EQ(hand.daemon->snapshots().active().hash, test::random_snapshot(1).hash);
}

TEST_F(TrialDaemonTest, WhatWasUnderWatchIsWatchedAgain) {
    Successor after;
    const auto watch_of = [](const Daemon& daemon) {
        pb::StatusReply reply;
        daemon.fill_status(reply);
        return reply.watch();
    };
    {
        std::unique_ptr<Daemon> daemon = after.open(directory_.path(), quick);
        ASSERT_TRUE(daemon->snapshots().install(test::file_of(test::random_snapshot(1)), true, true, "").ok());
        past(*daemon, *after.datapath, *after.ring);
        ASSERT_TRUE(daemon->snapshots().install(test::file_of(test::random_snapshot(2)), true, false, "").ok());
        EXPECT_TRUE(watch_of(*daemon).starts_with("watched")) << watch_of(*daemon);
    }
    // Killed. The next one still has its doubts, and holds it against what the log says of the one before.
    std::unique_ptr<Daemon> daemon = after.open(directory_.path(), quick);
    EXPECT_EQ(daemon->snapshots().active().generation, 2U);
    EXPECT_TRUE(watch_of(*daemon).starts_with("watched")) << watch_of(*daemon);
    rates_[2] = kBadRate;
    const uint64_t end_us = monotonic_us() + 20000000;
    while (daemon->snapshots().active().generation == 2 && monotonic_us() < end_us) {
        decide_all(*after.datapath, *after.ring, monotonic_us());
        ASSERT_TRUE(daemon->step().ok());
        usleep(20000);
    }
    EXPECT_EQ(daemon->snapshots().active().generation, 1U);
    EXPECT_EQ(daemon->snapshots().counters().rollbacks, 1U);
}

TEST_F(TrialDaemonTest, WhatIsTrustedStaysSo) {
    Successor after;
    {
        std::unique_ptr<Daemon> daemon = after.open(directory_.path(), quick);
        ASSERT_TRUE(daemon->snapshots().install(test::file_of(test::random_snapshot(1)), true, true, "").ok());
        past(*daemon, *after.datapath, *after.ring);
    }
    std::unique_ptr<Daemon> daemon = after.open(directory_.path(), quick);
    pb::StatusReply reply;
    daemon->fill_status(reply);
    EXPECT_FALSE(reply.watch().starts_with("watched")) << reply.watch();
}

// Over the real thing: eight simulated flows on one uplink that moves by itself, the queue between them.
TEST_F(TrialDaemonTest, SimulatedFlowsOfTheShareAreOnTrial) {
    pb::DaemonConfig config;
    config.set_backend("local");
    config.set_state_directory(directory_.path());
    config.set_interval_ms(20);
    config.mutable_local()->set_flows(kFlows);
    config.mutable_local()->set_mean_mbit(40);
    config.mutable_canary()->set_seconds(3600);
    Result<std::unique_ptr<Daemon>> opened = Daemon::open(config);
    ASSERT_TRUE(opened) << opened.error().message;
    Daemon& daemon = **opened;
    const auto steps = [&](double seconds, const std::function<bool()>& done) {
        const uint64_t end_us = monotonic_us() + static_cast<uint64_t>(seconds * 1e6);
        while (!done() && monotonic_us() < end_us) {
            EXPECT_TRUE(daemon.step().ok());
        }
        return done();
    };
    // Which flows a generation has decided for, from the log as it is written.
    const auto flows_of = [&](uint32_t generation) {
        std::set<uint64_t> flows;
        EXPECT_TRUE(read_sample_log(
                        directory_ / "samples", daemon.app(),
                        [&](std::span<const std::byte> records, const std::string&) {
                            for (size_t at = 0; at < records.size(); at += daemon.app().record_bytes()) {
                                const DecodedSample sample =
                                    daemon.app().decode(records.subspan(at, daemon.app().record_bytes()));
                                if (sample.made_by_network && sample.generation == generation) {
                                    flows.insert(sample.flow);
                                }
                            }
                            return true;
                        },
                        nullptr)
                        .ok());
        return flows;
    };
    // One that holds what it has; every flow gets a past.
    const InstallResult first = *daemon.snapshots().install(test::file_of(test::constant_snapshot(0)), true, true, "");
    ASSERT_TRUE(first.activated);
    const uint64_t begin_us = monotonic_us();
    ASSERT_TRUE(steps(60, [&] {
        const LoopView view = daemon.loop().view();
        return monotonic_us() - begin_us > 5000000 && view.flows.size() == kFlows && view.explained > 400;
    }));
    // On trial for just the share of them, and nobody else, for as long as it takes.
    const InstallResult fresh =
        *daemon.snapshots().install(test::file_of(test::constant_snapshot(0.02F)), true, true, "");
    ASSERT_TRUE(fresh.on_trial) << fresh.note;
    std::set<uint64_t> in_share;
    std::set<uint64_t> all;
    for (const FlowView& flow : daemon.loop().view().flows) {
        all.insert(flow.flow);
        if (adp_flow_in_share(flow.flow, to_q16(fresh.share)) != 0) {
            in_share.insert(flow.flow);
        }
    }
    ASSERT_GE(in_share.size(), 1U);
    ASSERT_LT(in_share.size(), kFlows);
    ASSERT_TRUE(steps(20, [&] { return flows_of(fresh.generation).size() == in_share.size(); }));
    steps(2, [] { return false; });
    EXPECT_EQ(flows_of(fresh.generation), in_share);
    EXPECT_EQ(daemon.snapshots().active().generation, first.generation);
    // Promoted: for all.
    ASSERT_TRUE(daemon.snapshots().switch_to("", fresh.generation, "").ok());
    ASSERT_TRUE(steps(20, [&] { return flows_of(fresh.generation) == all; }));
    EXPECT_EQ(daemon.loop().view().unexplained, 0U);
}

// ---- the objective ----

TEST_F(DaemonTest, TheObjectiveTakesEffectAtOnceAndIsKept) {
    const auto weights = [](const HandDaemon& hand) {
        pb::ObjectiveReply reply;
        hand.daemon->fill_objective(reply);
        std::map<std::string, double> all;
        for (const pb::ObjectiveWeight& weight : reply.weights()) {
            all[weight.name()] = weight.value();
        }
        return all;
    };
    const auto source = [](const HandDaemon& hand) { return status(hand).objective_source(); };
    {
        HandDaemon hand = test::open_hand_daemon(directory_.path());
        const std::array<uint32_t, ADP_OBJECTIVES> zeros{};
        EXPECT_EQ(hand.datapath->objective_q16(), zeros) << "the app's own defaults";
        EXPECT_EQ(source(hand), "default");
        EXPECT_EQ(weights(hand)["throughput"], 1);
        ASSERT_TRUE(hand.daemon->set_objective({{"delay", 1}}, false).ok());
        EXPECT_EQ(hand.datapath->objective_q16()[ADP_CC_THROUGHPUT_WEIGHT], 65536U);
        EXPECT_EQ(hand.datapath->objective_q16()[ADP_CC_DELAY_WEIGHT_INDEX], 65536U);
        EXPECT_EQ(hand.datapath->objective_q16()[ADP_CC_LOSS_WEIGHT_INDEX], uint32_t{ADP_CC_LOSS_DEFAULT_Q16});
        ASSERT_TRUE(hand.daemon->set_objective({{"loss", 2}}, false).ok());
        EXPECT_EQ(weights(hand)["delay"], 1) << "what is not named stays";
        for (const std::map<std::string, double>& wrong : std::vector<std::map<std::string, double>>{
                 {{"delay", -1}}, {{"delay", 257}}, {{"delay", NAN}}, {{"throughput", 0}}, {{"jitter", 1}}}) {
            const Status refused = hand.daemon->set_objective(wrong, false);
            ASSERT_FALSE(refused) << wrong.begin()->first;
            EXPECT_NE(refused.error().message.find(wrong.begin()->first), std::string::npos) << refused.error().message;
        }
        EXPECT_EQ(weights(hand)["delay"], 1);
    }
    {
        // Kept, whatever the configuration says.
        HandDaemon hand = test::open_hand_daemon(
            directory_.path(), [](pb::DaemonConfig& config) { config.mutable_objective()->set_delay(0.5); });
        EXPECT_EQ(weights(hand)["delay"], 1);
        EXPECT_EQ(weights(hand)["loss"], 2);
        EXPECT_EQ(source(hand), "adapathctl objective");
        ASSERT_TRUE(hand.daemon->set_objective({}, true).ok());
        EXPECT_EQ(weights(hand)["delay"], 0.5);
        EXPECT_EQ(weights(hand)["loss"], ADP_CC_LOSS_DEFAULT_Q16 / 65536.0);
        EXPECT_EQ(source(hand), "configuration");
    }
    // A file that somebody has spoilt is said and passed over.
    std::ofstream(directory_ / "objective") << "delay much\n";
    HandDaemon hand = test::open_hand_daemon(directory_.path());
    EXPECT_EQ(source(hand), "default");
}

TEST_F(DaemonTest, WeightsThatNothingWasTrainedForAreSaid) {
    HandDaemon hand = test::open_hand_daemon(directory_.path());
    pb::ObjectiveReply reply;
    hand.daemon->fill_objective(reply);
    EXPECT_EQ(reply.warnings_size(), 0);
    ASSERT_TRUE(hand.daemon->set_objective({{"delay", 100}}, false).ok());
    reply.Clear();
    hand.daemon->fill_objective(reply);
    ASSERT_EQ(reply.warnings_size(), 1);
    EXPECT_NE(reply.warnings(0).find("delay"), std::string::npos) << reply.warnings(0);
    // Only ratios matter.
    ASSERT_TRUE(hand.daemon->set_objective({{"delay", 100}, {"throughput", 100}, {"loss", 200}}, false).ok());
    reply.Clear();
    hand.daemon->fill_objective(reply);
    EXPECT_EQ(reply.warnings_size(), 0);
}

}  // namespace
}  // namespace adapath
