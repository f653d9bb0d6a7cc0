// The bpf backend on the kernel that runs the test: what every backend promises (tests/support/backend_suite.h), and
// what is its own. Skipped, with the reason, where the machine can't.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <random>

#include "tests/support/backend_fixture.h"

namespace adapath::testing {

class BpfBackend : public BackendFixture {
protected:
    void SetUp() override {
        for (const std::string& obstacle : bpf_backend_obstacles()) GTEST_SKIP() << obstacle;
        std::random_device random;
        name_ = fmt::format("adpt{:08x}", random());
        pins_ = "/sys/fs/bpf/" + name_;
    }
    void TearDown() override {
        close();
        if (!pins_.empty() && access(pins_.c_str(), F_OK) == 0) {
            Status removed = remove_backend();
            EXPECT_TRUE(removed.ok()) << removed.error().message;
        }
    }
    Result<Backend> open_backend(const Settings& settings) override {
        BpfBackendOptions options;
        options.congestion_control = name_;
        options.pin_directory = pins_;
        if (settings.small_ring) options.ring_bytes = 4096;
        options.wakeup_bytes = settings.wakeup_bytes;
        options.flow_consistency = settings.flow_consistency;
        return open_bpf_backend(options);
    }
    Status remove_backend() override { return remove_bpf_backend(pins_); }
    [[nodiscard]] int flows_that_fill_a_ring() const override { return 1; }

    std::string name_;
    std::string pins_;
};

TEST_F(BpfBackend, RemovingLeavesNothing) {
    open();
    EXPECT_FALSE(backend_.adopted);
    EXPECT_EQ(congestion_control_, name_);
    EXPECT_TRUE(TcpFlow::start(over_loopback(name_)).ok());
    close();
    Status removed = remove_backend();
    ASSERT_TRUE(removed.ok()) << removed.error().message;
    EXPECT_NE(access(pins_.c_str(), F_OK), 0);
    EXPECT_FALSE(TcpFlow::start(over_loopback(name_)).ok()) << "the congestion control is still registered";
}

TEST_F(BpfBackend, TwoCongestionControlsOfOneNameAreRefused) {
    open();
    BpfBackendOptions elsewhere;
    elsewhere.congestion_control = name_;
    elsewhere.pin_directory = pins_ + "x";
    Result<Backend> same_name = open_bpf_backend(elsewhere);
    EXPECT_FALSE(same_name.ok());
    if (!same_name.ok()) {
        EXPECT_NE(same_name.error().message.find(name_), std::string::npos);
    }
    rmdir(elsewhere.pin_directory.c_str());
}

TEST_F(BpfBackend, AForeignObjectIsRefusedAndChangesNothing) {
    open();
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    const auto before = backend_.installer->slots();
    Snapshot other = freeze(random_cc_model({32, 16}, Activation::relu, 2));
    const Snapshot sound = freeze(random_cc_model({16}, Activation::tanh, 3));

    Snapshot garbage = sound;
    garbage.bpf_object.assign(1000, 0x5a);
    Snapshot truncated = sound;
    truncated.bpf_object.resize(truncated.bpf_object.size() / 2);
    Snapshot none = sound;
    none.bpf_object.clear();
    // A valid program of another network under this one's name: loads, and is caught because it is really run.
    Snapshot wrong = sound;
    wrong.bpf_object = other.bpf_object;
    for (Snapshot* bad : {&garbage, &truncated, &none, &wrong}) {
        bad->program_hash = "bad" + bad->program_hash;
        Result<uint32_t> slot = backend_.installer->install(*bad, 99, random_cc_codes(8, 1));
        ASSERT_FALSE(slot.ok());
        EXPECT_FALSE(slot.error().message.empty());
    }
    const auto after = backend_.installer->slots();
    for (size_t i = 0; i < before.size(); ++i) {
        EXPECT_EQ(before[i].generation, after[i].generation);
        EXPECT_EQ(before[i].state, after[i].state);
    }
}

}  // namespace adapath::testing

#define ADAPATH_BACKEND_SUITE BpfBackend
#include "tests/support/backend_suite.h"
