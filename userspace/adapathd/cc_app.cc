// The app `cc`, as the daemon's core sees it. The record is include/adapath/cc.h's.
#include <string.h>

#include <adapath/cc.h>

#include "userspace/adapathd/apps.h"

namespace adapath {
namespace {

class CcApp final : public App {
public:
    [[nodiscard]] std::string_view name() const override { return "cc"; }
    [[nodiscard]] uint32_t schema() const override { return ADP_CC_SCHEMA; }
    [[nodiscard]] size_t record_bytes() const override { return sizeof(adp_cc_sample); }
    [[nodiscard]] size_t input_count() const override { return ADP_CC_INPUTS; }
    [[nodiscard]] size_t output_count() const override { return ADP_CC_OUTPUTS; }

    // cc.h: the reward's weights, and the range that the networks were trained for.
    [[nodiscard]] std::span<const ObjectiveWeight> objective() const override {
        static constexpr std::array<ObjectiveWeight, ADP_CC_WEIGHTS> weights = {{
            {"throughput", "of a doubling of the delivery rate", ADP_CC_THROUGHPUT_DEFAULT_Q16 / 65536.0, 1, 1},
            {"delay", "of queueing for as long as the path's RTT and 20 ms", ADP_CC_DELAY_DEFAULT_Q16 / 65536.0,
             1.0 / 32, 2},
            {"loss", "of the packets that are lost, all being 1", ADP_CC_LOSS_DEFAULT_Q16 / 65536.0, 1, 32},
        }};
        static_assert(ADP_CC_WEIGHTS <= ADP_OBJECTIVES);
        return weights;
    }

    [[nodiscard]] DecodedSample decode(std::span<const std::byte> record) const override {
        adp_cc_sample sample;
        memcpy(&sample, record.data(), sizeof(sample));
        DecodedSample decoded;
        decoded.time_us = sample.time_us;
        decoded.flow = sample.flow;
        decoded.seq = sample.seq;
        decoded.generation = sample.generation;
        decoded.slot = sample.slot;
        decoded.made_by_network = (sample.flags & ADP_CC_NOT_DECIDED) == 0;
        decoded.in_float = (sample.flags & ADP_CC_ANSWERED) != 0;
        // What follows a slow start, a drain or a wait for the application is no policy's.
        decoded.accountable = decoded.made_by_network || (sample.flags & ADP_CC_NOT_DECIDED) == ADP_CC_FALLBACK_MADE;
        decoded.judged = (sample.flags & ADP_CC_APP_LIMITED) == 0 && sample.interval.us != 0;
        decoded.input = {reinterpret_cast<const uint8_t*>(record.data()) + offsetof(adp_cc_sample, input),
                         ADP_CC_INPUTS};
        decoded.output[0] = sample.output;
        decoded.noise = sample.noise;
        decoded.action = sample.action;
        decoded.action_sound =
            !decoded.made_by_network || sample.action == adp_clamp(static_cast<adp_s64>(sample.output) + sample.noise,
                                                                   -ADP_CC_ACTION_MAX_Q16, ADP_CC_ACTION_MAX_Q16);
        decoded.reward = adp_cc_reward(&sample.interval, &sample.objective) / static_cast<double>(ADP_Q16_ONE);
        decoded.rate = sample.rate;
        decoded.rtt_us = sample.interval.rtt_us;
        decoded.min_rtt_us = sample.interval.min_rtt_us;
        decoded.local_port = sample.local_port;
        decoded.remote_port = sample.remote_port;
        return decoded;
    }
};

}  // namespace

const App& cc_app() {
    static const CcApp app;
    return app;
}

}  // namespace adapath
