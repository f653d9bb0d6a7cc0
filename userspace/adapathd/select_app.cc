// The app `select`, as the daemon's core sees it. The record is include/adapath/select.h's.
#include <string.h>

#include <adapath/select.h>

#include "userspace/adapathd/apps.h"

namespace adapath {
namespace {

// The daemon's margins and noise are for rewards of some units' size: a unit here is a twentieth of accuracy, or what
// costs as much.
constexpr double kRewardUnits = 20;

class SelectApp final : public App {
public:
    [[nodiscard]] std::string_view name() const override { return "select"; }
    [[nodiscard]] uint32_t schema() const override { return ADP_SELECT_SCHEMA; }
    [[nodiscard]] size_t record_bytes() const override { return sizeof(adp_select_sample); }
    [[nodiscard]] size_t input_count() const override { return ADP_SELECT_INPUTS; }
    [[nodiscard]] size_t output_count() const override { return ADP_SELECT_OUTPUTS; }

    // The price is no input of the network's, so that it was trained for all of them.
    [[nodiscard]] std::span<const ObjectiveWeight> objective() const override {
        static constexpr double kMost = ADP_OBJECTIVE_MAX_Q16 / 65536.0;
        static constexpr std::array<ObjectiveWeight, ADP_SELECT_WEIGHTS> weights = {{
            {"accuracy", "of the server's vision network, in all of a camera's pictures", 1, 1, 1},
            {"bytes", "of the uplink, as a factor to its price", 1, 0, kMost},
        }};
        static_assert(ADP_SELECT_WEIGHTS <= ADP_OBJECTIVES);
        return weights;
    }

    [[nodiscard]] DecodedSample decode(std::span<const std::byte> record) const override {
        adp_select_sample sample;
        memcpy(&sample, record.data(), sizeof(sample));
        DecodedSample decoded;
        decoded.time_us = sample.time_us;
        decoded.flow = sample.camera;
        decoded.seq = sample.seq;
        decoded.generation = sample.generation;
        decoded.slot = sample.slot;
        decoded.made_by_network = (sample.flags & ADP_SELECT_NOT_DECIDED) == 0;
        // A round that explored, or that a safe range bent, is no policy's doing.
        decoded.accountable =
            (sample.flags & (ADP_SELECT_LEARNING | ADP_SELECT_EXPLORED | ADP_SELECT_STARVED | ADP_SELECT_BRIDGED)) == 0;
        decoded.judged = sample.before.known != 0 && sample.before.us != 0;
        decoded.input = {reinterpret_cast<const uint8_t*>(record.data()) + offsetof(adp_select_sample, input),
                         ADP_SELECT_INPUTS};
        for (size_t i = 0; i < ADP_SELECT_OUTPUTS; i++) {
            decoded.output[i] = sample.output[i];
        }
        decoded.action = static_cast<int32_t>(sample.choice);
        if (decoded.made_by_network) {
            adp_u32 flags = 0;
            decoded.action_sound = adp_select_choose(sample.output, &sample.offer, &flags) == sample.choice &&
                                   flags == (sample.flags & ~ADP_SELECT_BRIDGED);
        }
        decoded.reward = adp_select_reward(&sample.before) / static_cast<double>(ADP_Q16_ONE) * kRewardUnits;
        decoded.rate = sample.before.us != 0 ? uint64_t{sample.before.bytes} * 1000000 / sample.before.us : 0;
        return decoded;
    }
};

}  // namespace

const App& select_app() {
    static const SelectApp app;
    return app;
}

}  // namespace adapath
