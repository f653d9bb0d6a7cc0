// A test with the bpf backend in its own process (no daemon) and the committed checkpoint: what its flows decide comes
// in as samples.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <random>
#include <vector>

#include "tests/netns/testbed.h"
#include "userspace/adapathd/backend.h"

namespace adapath::testing {

using namespace std::chrono_literals;

class DecidingFlows : public ::testing::Test {
protected:
    void SetUp() override {
        if (const std::string why = why_not(); !why.empty()) GTEST_SKIP() << why;
        options_.congestion_control = fmt::format("adpf{:08x}", std::random_device()());
        options_.pin_directory = "/sys/fs/bpf/" + options_.congestion_control;
        Result<Backend> opened = open_bpf_backend(options_);
        ASSERT_TRUE(opened.ok()) << opened.error().message;
        backend_ = std::move(*opened);
        Result<std::string> bytes = frozen_checkpoint(0, 1);
        ASSERT_TRUE(bytes.ok()) << bytes.error().message;
        Result<Snapshot> snapshot = parse_snapshot(*bytes, "checkpoint");
        ASSERT_TRUE(snapshot.ok()) << snapshot.error().message;
        snapshot_ = std::move(*snapshot);
    }
    void TearDown() override {
        backend_ = {};
        if (access(options_.pin_directory.c_str(), F_OK) == 0) (void)remove_bpf_backend(options_.pin_directory);
    }
    void activate() {
        Result<uint32_t> slot = backend_.installer->install(snapshot_, 1, snapshot_.probes);
        ASSERT_TRUE(slot.ok()) << slot.error().message;
        ASSERT_TRUE(backend_.installer->switch_to(*slot).ok());
    }
    void collect() {
        Result<size_t> got = backend_.collector->collect(20ms, [this](std::span<const std::byte> record) {
            adp_cc_sample sample;
            std::memcpy(&sample, record.data(), sizeof(sample));
            samples_.push_back(sample);
        });
        ASSERT_TRUE(got.ok());
    }
    bool collect_for(std::chrono::seconds time) {
        const auto end = std::chrono::steady_clock::now() + time;
        while (std::chrono::steady_clock::now() < end) collect();
        return !samples_.empty();
    }

    BpfBackendOptions options_;
    Backend backend_;
    Snapshot snapshot_;
    std::vector<adp_cc_sample> samples_;
};

}  // namespace adapath::testing
