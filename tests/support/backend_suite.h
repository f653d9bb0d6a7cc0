// The tests of the backend's interface, the same for every kernel side: included once by the test program of each,
// after it has defined ADAPATH_BACKEND_SUITE as the name of its fixture (a BackendFixture). The tests carry that name.
#ifndef ADAPATH_BACKEND_SUITE
#error "define ADAPATH_BACKEND_SUITE as the fixture of the backend under test"
#endif

#include "tests/support/backend_fixture.h"

namespace adapath::testing {

TEST_F(ADAPATH_BACKEND_SUITE, WithoutSnapshotTheFallbackDecides) {
    open();
    auto flow = start_flow();
    ASSERT_NE(flow, nullptr);
    ASSERT_TRUE(collect_until([&] { return fallbacks_ >= 20; }));
    EXPECT_EQ(decisions_, 0U);
    EXPECT_EQ(gaps_, 0U);
    EXPECT_GT(flow->received(), 0U);
    EXPECT_TRUE(flow->finish());
}

TEST_F(ADAPATH_BACKEND_SUITE, EveryDecisionIsTheInterpretersOwn) {
    open();
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    auto flow = start_flow();
    ASSERT_NE(flow, nullptr);
    const BackendStats before = backend_.collector->stats();
    ASSERT_TRUE(collect_until([&] { return decisions_ >= 100; }));
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_EQ(gaps_, 0U);
    const BackendStats after = backend_.collector->stats();
    EXPECT_EQ(after.samples_lost, before.samples_lost);
    EXPECT_EQ(after.program_missing, before.program_missing);
    EXPECT_GE(after.decisions, before.decisions + 90);
    EXPECT_GT(after.acks, before.acks);
    EXPECT_TRUE(flow->finish());
}

TEST_F(ADAPATH_BACKEND_SUITE, ASwitchTakesRunningFlowsAlong) {
    open();
    auto flow = start_flow();
    ASSERT_NE(flow, nullptr);
    ASSERT_TRUE(collect_until([&] { return fallbacks_ >= 5; }));
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    ASSERT_TRUE(collect_until([&] { return by_generation_[1] >= 5; })) << "from the fallback to the first snapshot";
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 2)));
    ASSERT_TRUE(collect_until([&] { return by_generation_[2] >= 5; })) << "to new parameters";
    activate(freeze(random_cc_model({64, 32}, Activation::sigmoid, 3)));
    ASSERT_TRUE(collect_until([&] { return by_generation_[3] >= 5; })) << "to another network";
    const uint32_t standby = backend_.installer->standby_slot();
    ASSERT_TRUE(backend_.installer->switch_to(standby).ok());
    EXPECT_EQ(backend_.installer->active_slot(), standby);
    const uint64_t before = by_generation_[2];
    ASSERT_TRUE(collect_until([&] { return by_generation_[2] >= before + 5; })) << "back to standby";
    ASSERT_TRUE(backend_.installer->deactivate().ok());
    EXPECT_EQ(backend_.installer->active_slot(), ADP_SLOT_NONE);
    const uint64_t fallbacks = fallbacks_;
    ASSERT_TRUE(collect_until([&] { return fallbacks_ >= fallbacks + 5; })) << "to the fallback";
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_EQ(gaps_, 0U);
    EXPECT_TRUE(flow->finish());
}

TEST_F(ADAPATH_BACKEND_SUITE, ThousandsOfSwitchesUnderFourFlows) {
    open();
    std::vector<Snapshot> snapshots;
    for (uint64_t i = 0; i < 6; ++i) snapshots.push_back(freeze(random_cc_model({32, 16}, Activation::tanh, 10 + i)));
    snapshots.push_back(freeze(random_cc_model({24}, Activation::relu, 20)));
    const BackendStats before = backend_.collector->stats();
    std::vector<std::unique_ptr<TcpFlow>> flows;
    for (int i = 0; i < 4; ++i) flows.push_back(start_flow());
    const uint32_t switches = 2000;
    for (uint32_t i = 0; i < switches; ++i) {
        activate(snapshots[i % snapshots.size()]);
        ASSERT_FALSE(HasFailure()) << "at switch " << i;
        if (i % 16 == 0) collect(0ms);
    }
    // Without a reclaim in between, later installs would have run out of slots: they waited for readers instead.
    ASSERT_TRUE(collect_until([&] { return by_generation_[switches] > 0; }));
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_EQ(gaps_, 0U);
    EXPECT_EQ(backend_.collector->stats().samples_lost, before.samples_lost);
    EXPECT_EQ(backend_.collector->stats().program_missing, before.program_missing);
    EXPECT_GT(by_generation_.size(), 20U) << "too few generations decided for the test to mean anything";
    for (auto& flow : flows) EXPECT_TRUE(flow->finish());
}

TEST_F(ADAPATH_BACKEND_SUITE, AnotherDaemonAdoptsWhatRuns) {
    open();
    EXPECT_FALSE(backend_.adopted);
    const uint64_t lost = backend_.collector->stats().samples_lost;
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    auto flow = start_flow();
    ASSERT_NE(flow, nullptr);
    ASSERT_TRUE(collect_until([&] { return decisions_ >= 10; }));
    const uint32_t active = backend_.installer->active_slot();
    close();  // the daemon is gone; nothing else changes
    const uint64_t received = flow->received();
    open();
    EXPECT_TRUE(backend_.adopted);
    EXPECT_EQ(backend_.installer->active_slot(), active);
    EXPECT_EQ(backend_.installer->slots()[active].generation, 1U);
    const uint64_t before = decisions_;
    ASSERT_TRUE(collect_until([&] { return decisions_ >= before + 10; }));
    EXPECT_GT(flow->received(), received);
    activate(freeze(random_cc_model({16, 16}, Activation::tanh, 2)));
    ASSERT_TRUE(collect_until([&] { return by_generation_[2] >= 5; })) << "an adopted kernel side takes new networks";
    // Samples made while no daemon was there are still in the ring; what it had no room for, on a machine that was away
    // for long, was counted.
    EXPECT_LE(gaps_, backend_.collector->stats().samples_lost - lost);
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_TRUE(flow->finish());
}

// A slot that was freed is empty to the next daemon too: what is in it must not come back as the target of a roll back.
TEST_F(ADAPATH_BACKEND_SUITE, AFreedSlotIsNotAdopted) {
    open();
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 2)));
    ASSERT_TRUE(backend_.installer->switch_to(backend_.installer->standby_slot()).ok());  // back to generation 1
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 3)));                     // 2 drains
    ASSERT_TRUE(backend_.installer->reclaim().ok());
    close();
    open();
    ASSERT_NE(backend_.installer->standby_slot(), ADP_SLOT_NONE);
    EXPECT_EQ(backend_.installer->slots()[backend_.installer->standby_slot()].generation, 1U);
    for (const SlotInfo& slot : backend_.installer->slots()) EXPECT_NE(slot.generation, 2U);
}

// Nothing is left of more installations than there are slots, none of which was switched to; the one that decides
// stays.
TEST_F(ADAPATH_BACKEND_SUITE, SnapshotsThatNobodySwitchesToMakeRoom) {
    open();
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    const Snapshot another = freeze(random_cc_model({32, 16}, Activation::tanh, 2));
    for (int i = 0; i < 3 * ADP_SLOTS; ++i) {
        ASSERT_NE(install(another), ADP_SLOT_NONE);
        ASSERT_TRUE(backend_.installer->reclaim().ok());
    }
    EXPECT_EQ(backend_.installer->slots()[backend_.installer->active_slot()].generation, 1U);
}

TEST_F(ADAPATH_BACKEND_SUITE, ATrialIsForAShareOfTheFlowsAndThenForAllOrNone) {
    open();
    Installer& installer = *backend_.installer;
    // All of them first: freezing takes long where the machine is busy, and samples do not wait for it.
    std::vector<Snapshot> frozen;
    for (uint64_t seed = 0; seed < 10; ++seed)
        frozen.push_back(freeze(random_cc_model({32, 16}, Activation::tanh, seed + 1)));
    const auto network = [&](size_t index) -> const Snapshot& { return frozen.at(index); };
    const uint64_t lost = backend_.collector->stats().samples_lost;
    const uint32_t early = install(network(9));
    EXPECT_FALSE(installer.set_canary(early, 0.5).ok()) << "beside nothing";
    activate(network(1));
    const uint32_t old = last_generation_;
    const uint32_t old_slot = installer.active_slot();
    std::vector<std::unique_ptr<TcpFlow>> flows;
    for (int i = 0; i < 8; ++i) flows.push_back(start_flow());
    ASSERT_TRUE(all_decide(flows.size(), 5));

    const uint32_t slot = install(network(2));
    const uint32_t fresh = last_generation_;
    for (const double share : {0.0, -1.0, 1.5, std::nan("")})
        EXPECT_FALSE(installer.set_canary(slot, share).ok()) << share;
    EXPECT_FALSE(installer.set_canary(old_slot, 0.5).ok()) << "it decides for all";
    EXPECT_FALSE(installer.set_canary(ADP_SLOTS, 0.5).ok());
    for (const double share : {0.3, 0.6}) {
        Status status = installer.set_canary(slot, share);
        ASSERT_TRUE(status.ok()) << status.error().message;
        EXPECT_EQ(installer.slots()[slot].state, SlotState::canary);
        EXPECT_EQ(installer.active_slot(), old_slot);
        ASSERT_TRUE(all_decide(flows.size(), 5));  // what was under way
        ASSERT_TRUE(all_decide(flows.size(), 10));
        size_t on_trial = 0;
        for (const auto& [flow, generation] : deciding()) {
            const bool want = adp_flow_in_share(flow, to_q16(share)) != 0;
            EXPECT_EQ(generation, want ? fresh : old) << "flow " << flow;
            on_trial += want ? 1 : 0;
        }
        EXPECT_GE(on_trial, 1U);
        EXPECT_LT(on_trial, flows.size());
    }
    // In use: no other beside it, and its slot is nobody else's, whatever is installed.
    const uint32_t other = install(network(3));
    EXPECT_FALSE(installer.set_canary(other, 0.5).ok());
    const Snapshot more = network(4);
    for (int i = 0; i < 2 * ADP_SLOTS; ++i) {
        ASSERT_NE(install(more), slot);
        ASSERT_TRUE(installer.reclaim().ok());
    }
    EXPECT_EQ(installer.slots()[slot].generation, fresh);

    // Promoted: for all of them, and the one before is the way back.
    ASSERT_TRUE(installer.switch_to(slot).ok());
    EXPECT_EQ(installer.active_slot(), slot);
    EXPECT_EQ(installer.standby_slot(), old_slot);
    EXPECT_EQ(installer.slots()[slot].state, SlotState::active);
    ASSERT_TRUE(all_decide(flows.size(), 5));
    ASSERT_TRUE(all_decide(flows.size(), 10));
    for (const auto& [flow, generation] : deciding()) EXPECT_EQ(generation, fresh) << "flow " << flow;
    EXPECT_FALSE(installer.set_canary(slot, 0.5).ok());

    // Ended: for none of them, and the slot is free after a grace period.
    const uint32_t bad = install(network(5));
    const uint32_t bad_generation = last_generation_;
    ASSERT_TRUE(installer.set_canary(bad, 0.5).ok());
    ASSERT_TRUE(collect_until([&] { return by_generation_[bad_generation] >= 10; }));
    ASSERT_TRUE(installer.end_canary().ok());
    ASSERT_TRUE(installer.end_canary().ok()) << "without a trial, nothing";
    ASSERT_TRUE(installer.reclaim().ok());
    EXPECT_NE(installer.slots()[bad].state, SlotState::canary);
    for (const SlotInfo& info : installer.slots()) EXPECT_NE(info.generation, bad_generation);
    ASSERT_TRUE(all_decide(flows.size(), 5));
    ASSERT_TRUE(all_decide(flows.size(), 10));
    for (const auto& [flow, generation] : deciding()) EXPECT_EQ(generation, fresh) << "flow " << flow;

    // Whatever else changes who decides ends a trial.
    const uint32_t next = install(network(6));
    ASSERT_TRUE(installer.set_canary(next, 1).ok());
    activate(network(7));
    EXPECT_NE(installer.slots()[next].state, SlotState::canary);
    ASSERT_TRUE(all_decide(flows.size(), 5));
    ASSERT_TRUE(all_decide(flows.size(), 10));
    for (const auto& [flow, generation] : deciding()) EXPECT_EQ(generation, last_generation_) << "flow " << flow;
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_LE(gaps_, backend_.collector->stats().samples_lost - lost);
    for (auto& flow : flows) EXPECT_TRUE(flow->finish());
}

TEST_F(ADAPATH_BACKEND_SUITE, AnotherDaemonFindsTheTrialOfOneThatIsGone) {
    open();
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    const uint32_t slot = install(freeze(random_cc_model({32, 16}, Activation::tanh, 2)));
    ASSERT_TRUE(backend_.installer->set_canary(slot, 0.5).ok());
    close();
    open();
    EXPECT_EQ(backend_.installer->slots()[slot].state, SlotState::canary);
    EXPECT_EQ(backend_.installer->slots()[backend_.installer->active_slot()].generation, 1U);
    EXPECT_NE(backend_.installer->standby_slot(), slot) << "nothing to roll back to";
    ASSERT_TRUE(backend_.installer->end_canary().ok());
    ASSERT_TRUE(backend_.installer->reclaim().ok());
    for (const SlotInfo& info : backend_.installer->slots()) EXPECT_NE(info.generation, 2U);
    // And may have one of its own.
    const uint32_t own = install(freeze(random_cc_model({32, 16}, Activation::tanh, 3)));
    EXPECT_TRUE(backend_.installer->set_canary(own, 0.5).ok());
}

TEST_F(ADAPATH_BACKEND_SUITE, TheObjectiveReachesEveryDecision) {
    open();
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    auto flow = start_flow();
    ASSERT_NE(flow, nullptr);
    ASSERT_TRUE(collect_until([&] { return decisions_ >= 5; }));
    EXPECT_EQ(last_objective_.throughput_q16, uint32_t{ADP_CC_THROUGHPUT_DEFAULT_Q16});
    EXPECT_EQ(last_objective_.delay_q16, uint32_t{ADP_CC_DELAY_DEFAULT_Q16});
    Status status = backend_.installer->set_objective({1, 1.5, 20});
    ASSERT_TRUE(status.ok()) << status.error().message;
    ASSERT_TRUE(collect_until([&] {
        return last_objective_.throughput_q16 == 65536 && last_objective_.delay_q16 == 98304 &&
               last_objective_.loss_q16 == 20 * 65536;
    }));
    EXPECT_FALSE(backend_.installer->set_objective({1, -1, 0}).ok());
    EXPECT_FALSE(backend_.installer->set_objective({1, 257, 0}).ok());
    ASSERT_TRUE(backend_.installer->set_objective({}).ok());
    ASSERT_TRUE(collect_until([&] { return last_objective_.loss_q16 == ADP_CC_LOSS_DEFAULT_Q16; }));
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_TRUE(flow->finish());
}

TEST_F(ADAPATH_BACKEND_SUITE, SlotsSayHowTheyAreRun) {
    open();
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    ASSERT_TRUE(backend_.installer->set_explore(backend_.installer->active_slot(), 1000).ok());
    const std::vector<SlotInfo> slots = backend_.installer->slots();
    ASSERT_EQ(slots.size(), size_t{ADP_SLOTS});
    for (const SlotInfo& slot : slots) {
        if (slot.state == SlotState::free) {
            EXPECT_EQ(slot.generation, 0U);
            EXPECT_TRUE(slot.program.empty()) << slot.program;
            continue;
        }
        EXPECT_EQ(slot.slot, backend_.installer->active_slot());
        EXPECT_FALSE(slot.program.empty());
        EXPECT_GT(slot.params_bytes, 0U);
        EXPECT_NE(slot.hash, 0U);
        bool chosen_is_measured = slot.measured.empty();
        for (const ProgramTime& time : slot.measured) {
            EXPECT_GT(time.ns, 0) << time.program;
            chosen_is_measured = chosen_is_measured || time.program == slot.program;
        }
        EXPECT_TRUE(chosen_is_measured) << slot.program;
    }
}

TEST_F(ADAPATH_BACKEND_SUITE, ASecondDaemonIsRefused) {
    open();
    Result<Backend> second = open_backend(settings_);
    ASSERT_FALSE(second.ok());
    EXPECT_NE(second.error().message.find("in use by another adapathd"), std::string::npos) << second.error().message;
    close();
    open();
}

TEST_F(ADAPATH_BACKEND_SUITE, AFullRingIsCountedAndTheFlowGoesOn) {
    settings_.small_ring = true;
    settings_.wakeup_bytes = 0;
    open();
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    const BackendStats before = backend_.collector->stats();
    std::vector<std::unique_ptr<TcpFlow>> flows;
    for (int i = 0; i < flows_that_fill_a_ring(); ++i) flows.push_back(start_flow());
    ASSERT_TRUE(wait_until([&] { return backend_.collector->stats().samples_lost >= before.samples_lost + 20; }, 60s));
    collect(0ms);
    ASSERT_TRUE(collect_until([&] { return gaps_ > 0; })) << "what was lost shows as a gap in the sequence";
    EXPECT_EQ(unexplained_, 0U);
    for (auto& flow : flows) EXPECT_TRUE(flow->finish());
    // A flow's last sample comes with its last ACK, which may be after the last byte was read.
    ASSERT_TRUE(
        collect_until([&] { return backend_.collector->stats().flows_closed - before.flows_closed == flows.size(); }));
    collect(0ms);
    EXPECT_EQ(backend_.collector->stats().samples - before.samples, samples_)
        << "what was put into the ring was also delivered";
}

TEST_F(ADAPATH_BACKEND_SUITE, TheFillMarkWakesTheReaderEarly) {
    settings_.wakeup_bytes = 10 * sizeof(adp_cc_sample);
    open();
    auto flow = start_flow();
    const auto begin = std::chrono::steady_clock::now();
    collect(60s);  // 10 samples take about 100 ms
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 50s);
    EXPECT_GE(samples_, 5U);
}

TEST_F(ADAPATH_BACKEND_SUITE, WithoutAFillMarkTheReaderComesByTheInterval) {
    settings_.wakeup_bytes = 0;
    open();
    auto flow = start_flow();
    const auto begin = std::chrono::steady_clock::now();
    collect(700ms);
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 690ms);
    EXPECT_GT(samples_, 0U);
}

TEST_F(ADAPATH_BACKEND_SUITE, AWaitingReaderCanBeWoken) {
    open();
    const auto begin = std::chrono::steady_clock::now();
    std::thread waker([&] { backend_.collector->wake(); });
    collect(60s);
    waker.join();
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 50s);
}

TEST_F(ADAPATH_BACKEND_SUITE, WithFlowConsistencyAFlowKeepsItsSnapshot) {
    settings_.flow_consistency = true;
    open();
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    auto old_flow = start_flow();
    ASSERT_TRUE(collect_until([&] { return by_generation_[1] >= 5; }));
    const uint32_t first_slot = backend_.installer->active_slot();
    EXPECT_EQ(backend_.installer->slots()[first_slot].bound_flows, 1U);
    for (uint64_t i = 0; i < 2 * ADP_SLOTS; ++i) activate(freeze(random_cc_model({32, 16}, Activation::tanh, 2 + i)));
    auto new_flow = start_flow();
    ASSERT_TRUE(collect_until([&] { return by_generation_[last_generation_] >= 5; }));
    const uint64_t before = by_generation_[1];
    ASSERT_TRUE(collect_until([&] { return by_generation_[1] >= before + 5; })) << "the old flow was moved";
    EXPECT_EQ(by_generation_.size(), 2U);
    EXPECT_EQ(backend_.installer->slots()[first_slot].generation, 1U) << "a bound slot was reused";
    EXPECT_TRUE(old_flow->finish());
    ASSERT_TRUE(wait_until([&] { return backend_.installer->slots()[first_slot].bound_flows == 0; }));
    ASSERT_TRUE(backend_.installer->reclaim().ok());
    EXPECT_EQ(backend_.installer->slots()[first_slot].state, SlotState::free);
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_TRUE(new_flow->finish());
}

}  // namespace adapath::testing
