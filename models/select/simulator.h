// The app select from end to end, without a kernel or a network: cameras that play measured chunks, the datapath of
// include/adapath/select.h itself, the relay's queues and price, an uplink that moves, and a server that reports. No
// LibTorch.
//
// What is not simulated: TCP (what waits, waits in the relay, and the uplink takes packet after packet), and loss on
// the cameras' side.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <adapath/select.h>

#include "codegen/trace/trace.h"
#include "models/select/dataset.h"
#include "userspace/adapathd/measured_mean.h"
#include "userspace/relay/price.h"

namespace adapath {

struct SelectCameraPlan {
    const std::vector<SelectChunk>* chunks = nullptr;  // played for ever
    size_t first = 0;                                  // of them
    double fps = 10;
    std::array<double, 2> scale = {1, 1};    // of each rendition's bytes: other sizes, quantisers, encoders
    std::array<double, 2> phase_s = {0, 0};  // of each rendition's first picture
    double sub_shift = 0;                    // added to the sub stream's accuracy: another scene, another detector
    double report_s = 0.2;                   // from a chunk's end at the server to its report at the gateway
    double report_loss = 0;                  // share of the reports that never come
};

struct SelectScenario {
    std::string name;
    std::vector<SelectCameraPlan> cameras;
    std::shared_ptr<const Trace> trace;
    double seconds = 120;
    double skip_s = 10;     // at the start, not scored
    double rtt_s = 0.05;    // propagation
    double deadline_s = 1;  // a picture that takes longer than this from the camera to the server counts as missed
    double queue_s = 0.5;   // the relay begins no chunk where the oldest packet of its rendition has waited so long
    double late_s = 0.8;    // it drops what has waited so long, and the rest of its chunk; 0: never
    double explore = 0.05;  // share of the rounds in which both renditions pass
    uint64_t seed = 1;
    relay::PriceOptions price{};
};

// Worth of sub and gain of main, as a network's output. `truth`: accuracy of sub and of main in the chunk that begins,
// for oracles and for labels; no network may look.
using SelectOutputs = std::array<int32_t, ADP_SELECT_OUTPUTS>;
struct SelectPolicy {
    std::function<SelectOutputs(size_t camera, const uint8_t* input, const std::array<double, 2>& truth)> outputs;
    bool priced = true;  // false: bytes cost nothing, and main streams have no limit
};

struct SelectScore {
    double f1 = 0;                  // mean over cameras and pictures; of a picture that is not there in time 0
    std::vector<double> f1_of{};    // each camera
    double bytes = 0;               // that went up, a second, all cameras
    double offered = 0;             // that were chosen, a second
    std::array<double, 4> share{};  // of the decisions: none, sub, main, both
    double delay_s = 0;             // mean from the camera to the server, of the pictures that came
    double delay_p95_s = 0;
    double late = 0;   // share of the chosen pictures that came too late, or not at all
    double price = 0;  // mean
    uint64_t decisions = 0;
};

// Each decision with what the chunk turned out to be worth; and what the server reported, when the gateway knows it.
struct SelectEvents {
    std::function<void(size_t camera, const adp_select_sample& sample, const std::array<double, 2>& truth)> sample{};
    std::function<void(size_t camera, uint64_t camera_id, uint64_t chunk_us, double sub_worth, double gain)> measured{};
};

[[nodiscard]] SelectScore run_select(const SelectScenario& scenario, const SelectPolicy& policy,
                                     const SelectEvents& events = {});

}  // namespace adapath
