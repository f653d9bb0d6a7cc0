// What the tests of the app select on BPF share: a kernel side of their own, and frames through its program.
#pragma once

#include <adapath/select.h>
#include <bpf/bpf.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/support/live_cameras.h"
#include "tests/support/select_checks.h"
#include "userspace/bpf_backend/select_backend.h"

namespace adapath::testing {

using namespace std::chrono_literals;

inline constexpr uint32_t kPassed = ~0U;  // TC_ACT_UNSPEC: on to the next filter
inline constexpr uint32_t kDropped = 2;   // TC_ACT_SHOT

class SelectFixture : public SelectChecks {
protected:
    void SetUp() override {
        for (const std::string& obstacle : bpf_backend_obstacles()) GTEST_SKIP() << obstacle;
        options_.pin_directory = fmt::format("/sys/fs/bpf/adps{:08x}", std::random_device()());
    }
    void TearDown() override {
        close();
        if (!options_.pin_directory.empty() && access(options_.pin_directory.c_str(), F_OK) == 0) {
            Status removed = remove_select_backend(options_.pin_directory);
            EXPECT_TRUE(removed.ok()) << removed.error().message;
        }
    }
    void add_cameras(uint32_t count) {
        for (uint32_t i = 0; i < count; ++i) options_.cameras.push_back(camera_of(i));
    }
    void open() {
        Result<Backend> opened = open_select_backend(options_);
        ASSERT_TRUE(opened.ok()) << opened.error().message;
        backend_ = std::move(*opened);
        program_ = UniqueFd(bpf_obj_get((options_.pin_directory + "/program").c_str()));
        ASSERT_TRUE(program_.valid());
        Result<SelectPanel> panel = SelectPanel::open(options_.pin_directory);
        ASSERT_TRUE(panel.ok()) << panel.error().message;
        panel_ = std::make_unique<SelectPanel>(std::move(*panel));
    }
    // As a daemon that ends: what it made in the kernel stays.
    void close() {
        panel_.reset();
        program_.reset();
        backend_ = {};
    }
    // One frame through the program, as the kernel would run it.
    [[nodiscard]] uint32_t run(const Bytes& frame) const { return run(program_.get(), frame); }
    [[nodiscard]] static uint32_t run(int program, const Bytes& frame) {
        bpf_test_run_opts options = {};
        options.sz = sizeof(options);
        options.data_in = frame.data();
        options.data_size_in = static_cast<uint32_t>(frame.size());
        options.repeat = 1;
        EXPECT_EQ(bpf_prog_test_run_opts(program, &options), 0) << std::strerror(errno) << ", " << frame.size();
        return options.retval;
    }
    [[nodiscard]] static Bytes frame_from(uint32_t camera, uint32_t rendition, const Bytes& packet) {
        FrameHeader header;
        header.source_v4 = 0x0a000002 + camera;
        header.destination_port = static_cast<uint16_t>(5000 + rendition);
        return frame_of(header, packet);
    }

    SelectBackendOptions options_;
    UniqueFd program_;
    std::unique_ptr<SelectPanel> panel_;
};

}  // namespace adapath::testing
