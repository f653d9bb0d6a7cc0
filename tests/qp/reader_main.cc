// An encoder's process without its encoder, for tests of the switch: decides chunks at a rate until SIGTERM, or holds
// what is active until it is killed.
//
//   qp_switch_reader run DIRECTORY CHUNKS_PER_SECOND     a line every 50 chunks, and "done ..." at the end
//                                                        (a chunk's time modulo 1000: which of moving_luma()'s
//                                                        pictures)
//   qp_switch_reader hold DIRECTORY                      "holding SLOT"
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "tests/qp/selectors.h"
#include "userspace/common/clock.h"
#include "userspace/qp/live_selector.h"

namespace {

using namespace adapath;

std::atomic<bool> g_stop{false};

int hold(const std::string& directory) {
    for (;;) {
        auto reader = HostReader::join(directory, {"qp", ADP_QP_SCHEMA, sizeof(adp_qp_sample)}, 7);
        if (reader) {
            const HostReader::Hold held = (*reader)->hold();
            if (held.any()) {
                fmt::print("holding {}\n", held.number());
                std::fflush(stdout);
                for (;;) pause();
            }
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}

int run(const std::string& directory, double rate) {
    constexpr uint32_t kWidth = 168;  // not whole macroblocks
    constexpr uint32_t kHeight = 120;
    constexpr uint32_t kPictures = 1000;
    LiveSelector selector({directory, 3, 0.0, 1, 0}, std::make_shared<ProgramCache>());
    auto next = std::chrono::steady_clock::now();
    std::vector<uint8_t> before;
    for (uint32_t chunk = 0; !g_stop; chunk++) {
        const uint32_t picture = chunk % kPictures;
        const std::vector<uint8_t> now = testing_support::moving_luma(kWidth, kHeight, picture);
        selector.decide({now.data(), kWidth, kHeight, kWidth},
                        {before.empty() ? nullptr : before.data(), kWidth, kHeight, kWidth},
                        monotonic_us() / kPictures * kPictures + picture);
        selector.record({30, 38, 1000, 1100});
        before = now;
        if (chunk % 50 == 0) {
            fmt::print("at {} generation {} {}\n", chunk, selector.stats().generation, selector.stats().state);
            std::fflush(stdout);
        }
        next += std::chrono::microseconds(static_cast<int64_t>(1e6 / rate));
        std::this_thread::sleep_until(next);
    }
    const LiveSelectorStats& stats = selector.stats();
    fmt::print("done {} {} {} {} {}\n", stats.decisions, stats.uniform, stats.samples_lost, stats.switches,
               stats.samples);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string mode = argc > 2 ? argv[1] : "";
    if (mode == "hold") return hold(argv[2]);
    if (mode != "run" || argc != 4) return 2;
    signal(SIGTERM, [](int) { g_stop = true; });
    return run(argv[2], std::atof(argv[3]));
}
