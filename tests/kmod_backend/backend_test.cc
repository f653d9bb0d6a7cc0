// The kmod backend on the kernel of a VM that is the test's alone: what every backend promises
// (tests/support/backend_suite.h), and what is its own. Loads the modules from ADAPATH_MODULES.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/backend_fixture.h"
#include "tests/support/kernel_modules.h"
#include "userspace/kmod_backend/control.h"

namespace adapath::testing {

class KmodBackend : public BackendFixture {
protected:
    static void SetUpTestSuite() {
        Status loaded = modules().load();
        ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    }
    static void TearDownTestSuite() {
        Status unloaded = modules().unload();
        EXPECT_TRUE(unloaded.ok()) << unloaded.error().message;
    }
    void SetUp() override {
        for (const std::string& obstacle : kmod_backend_obstacles()) FAIL() << obstacle;
    }
    void TearDown() override {
        close();
        Status removed = remove_backend();
        EXPECT_TRUE(removed.ok()) << removed.error().message;
        // The next test's kernel side is new: no sample of this one's flows in its ring.
        settings_ = {};
        open();
        (void)backend_.collector->collect(std::chrono::milliseconds(0), [](auto) {});
        close();
    }
    Result<Backend> open_backend(const Settings& settings) override {
        KmodBackendOptions options;
        options.record_bytes = sizeof(adp_cc_sample);
        options.wakeup_bytes = settings.wakeup_bytes;
        options.flow_consistency = settings.flow_consistency;
        return open_kmod_backend(options);
    }
    Status remove_backend() override { return remove_kmod_backend("cc"); }
    // The module's rings are as large as they are: 1024 samples a CPU.
    [[nodiscard]] int flows_that_fill_a_ring() const override { return 24; }

    static kmod::AppState kernel_state() {
        Result<std::unique_ptr<kmod::Control>> control = kmod::Control::open();
        if (!control) {
            ADD_FAILURE() << control.error().message;
            return {};
        }
        Result<kmod::AppState> app = (*control)->app("cc");
        if (!app) {
            ADD_FAILURE() << app.error().message;
            return {};
        }
        return std::move(*app);
    }

private:
    static KernelModules& modules() {
        static KernelModules all;
        return all;
    }
};

TEST_F(KmodBackend, RemovingFreesEverySlot) {
    open();
    EXPECT_EQ(congestion_control_, "adapath_k");
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 2)));
    EXPECT_FALSE(remove_backend().ok()) << "under a daemon that runs";
    EXPECT_EQ(kernel_state().slots.size(), 2U);
    close();
    ASSERT_TRUE(remove_backend().ok());
    EXPECT_TRUE(kernel_state().slots.empty());
    open();
    EXPECT_FALSE(backend_.adopted);
    auto flow = start_flow();
    ASSERT_NE(flow, nullptr);
    EXPECT_TRUE(collect_until([&] { return fallbacks_ >= 5; })) << "flows go on with the fallback";
}

TEST_F(KmodBackend, WhatADeadDaemonInstalledAndNeverUsedIsGone) {
    open();
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    install(freeze(random_cc_model({32, 16}, Activation::tanh, 2)));
    close();
    open();
    EXPECT_TRUE(backend_.adopted);
    for (const SlotInfo& slot : backend_.installer->slots()) EXPECT_NE(slot.generation, 2U);
    EXPECT_EQ(backend_.installer->standby_slot(), ADP_SLOT_NONE) << "and it is nothing to roll back to";
}

TEST_F(KmodBackend, ConfiguringReachesTheKernel) {
    settings_.flow_consistency = true;
    settings_.wakeup_bytes = 4800;
    open();
    EXPECT_EQ(kernel_state().consistency, uint32_t{ADP_CONSISTENT_FLOW});
    EXPECT_EQ(kernel_state().wakeup_bytes, 4800U);
    close();
    settings_.flow_consistency = false;
    settings_.wakeup_bytes = 0;
    open();
    EXPECT_EQ(kernel_state().consistency, uint32_t{ADP_CONSISTENT_DECISION});
    EXPECT_EQ(kernel_state().wakeup_bytes, 0U);
}

// Every program that the kernel offers is there for the check, and really run: the slowest always, SIMD as the CPU has
// it.
TEST_F(KmodBackend, EveryProgramGivesTheSameBits) {
    open();
    const QuantModel model = freeze(random_cc_model({64, 32}, Activation::sigmoid, 1)).model;
    Snapshot snapshot = freeze(random_cc_model({64, 32}, Activation::sigmoid, 1));
    activate(snapshot);
    const kmod::AppState state = kernel_state();
    ASSERT_EQ(state.slots.size(), 1U);
    const kmod::KernelSlot& slot = state.slots[0];
    ASSERT_TRUE(std::ranges::any_of(slot.measured, [](const auto& m) { return m.implementation == ADP_RUN_GENERIC; }));
    const std::vector<InputCodes> inputs = random_cc_codes(700, 3);  // more than one request takes
    std::vector<int32_t> expected;
    for (const InputCodes& input : inputs) expected.push_back(interpret(model, input)[0]);
    Result<std::unique_ptr<kmod::Control>> control = kmod::Control::open();
    ASSERT_TRUE(control.ok());
    for (const kmod::Measured& measured : slot.measured) {
        Result<std::vector<int32_t>> outputs = (*control)->run("cc", slot.slot, measured.implementation, inputs);
        ASSERT_TRUE(outputs.ok()) << outputs.error().message;
        EXPECT_EQ(*outputs, expected) << kmod::implementation_name(measured.implementation);
    }
}

TEST_F(KmodBackend, AForeignNetworkIsRefusedAndChangesNothing) {
    open();
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    const auto before = backend_.installer->slots();
    Snapshot wrong_schema = freeze(random_cc_model({16}, Activation::tanh, 2));
    wrong_schema.model.network.feature_schema += 1;
    Result<uint32_t> slot = backend_.installer->install(wrong_schema, 99, random_cc_codes(8, 1));
    ASSERT_FALSE(slot.ok());
    EXPECT_NE(slot.error().message.find("schema"), std::string::npos) << slot.error().message;
    EXPECT_NE(slot.error().message.find("INSTALL"), std::string::npos) << slot.error().message;
    EXPECT_FALSE(backend_.installer->switch_to(ADP_SLOTS - 1).ok()) << "an empty slot";
    EXPECT_FALSE(backend_.installer->switch_to(99).ok());
    EXPECT_FALSE(backend_.installer->set_explore(backend_.installer->active_slot(), 65537).ok());
    const auto after = backend_.installer->slots();
    for (size_t i = 0; i < before.size(); ++i) {
        EXPECT_EQ(before[i].generation, after[i].generation);
        EXPECT_EQ(before[i].state, after[i].state);
    }
}

}  // namespace adapath::testing

#define ADAPATH_BACKEND_SUITE KmodBackend
#include "tests/support/backend_suite.h"
