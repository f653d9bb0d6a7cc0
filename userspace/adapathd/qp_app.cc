// The app `qp`, as the daemon's core sees it. The record is include/adapath/qp.h's.
#include <string.h>

#include <fmt/format.h>

#include <adapath/qp.h>

#include <algorithm>

#include "userspace/adapathd/apps.h"

namespace adapath {
namespace {

// Codes of a macroblock in a plane.
constexpr uint32_t kBlockCodes = 16 / ADP_QP_CELL;
// Of one window: what explaining one decision may cost the daemon (some 0.1 s at the most).
constexpr uint64_t kWindowWork = 16 << 20;

class QpApp final : public App {
public:
    [[nodiscard]] std::string_view name() const override { return "qp"; }
    [[nodiscard]] uint32_t schema() const override { return ADP_QP_SCHEMA; }
    [[nodiscard]] size_t record_bytes() const override { return sizeof(adp_qp_sample); }
    [[nodiscard]] size_t input_count() const override { return sizeof(adp_qp_sample::codes); }
    [[nodiscard]] size_t output_count() const override { return 1; }
    // What the selector aims for is in its training's labels.
    [[nodiscard]] std::span<const ObjectiveWeight> objective() const override { return {}; }

    // As encoders number them; no configuration lists them.
    [[nodiscard]] uint32_t reported_cameras() const override { return 1U << 16; }

    [[nodiscard]] std::string_view no_trials() const override {
        return "app qp has no trials: its samples carry no reward that two snapshots could be compared by, since the "
               "server's accuracy comes chunks later; it decides for all encoders at once";
    }

    [[nodiscard]] Status accepts(const Network& network) const override {
        if (Status status = accepts_name(network.app, network.feature_schema); !status) {
            return status;
        }
        return Error{"the snapshot holds a dense network, app qp runs image networks"};
    }

    [[nodiscard]] Status accepts(const ImageNetwork& network) const override {
        if (Status status = accepts_name(network.app, network.feature_schema); !status) {
            return status;
        }
        const auto count = static_cast<uint32_t>(network.inputs.size());
        if (count != ADP_QP_PLANES || network.layers.back().outputs != 1) {
            return Error{fmt::format("the snapshot's network has {} planes and {} outputs, app qp has {} and 1", count,
                                     network.layers.back().outputs, ADP_QP_PLANES)};
        }
        if (total_stride(network) != kBlockCodes) {
            return Error{fmt::format("the snapshot's network has an output every {} codes; a macroblock has {}",
                                     total_stride(network), kBlockCodes)};
        }
        if (widest_window(network) > ADP_QP_WINDOW) {
            return Error{
                fmt::format("an output of the snapshot's network depends on {0}x{0} codes, a sample holds "
                            "{1}x{1}: fewer 3x3 layers",
                            widest_window(network), ADP_QP_WINDOW)};
        }
        if (const uint64_t work = multiply_accumulates(network, {ADP_QP_WINDOW, ADP_QP_WINDOW}); work > kWindowWork) {
            return Error{
                fmt::format("the snapshot's network takes {} multiply-accumulates for a window of {}x{}, {} "
                            "is the most: fewer channels",
                            work, ADP_QP_WINDOW, ADP_QP_WINDOW, kWindowWork)};
        }
        return {};
    }

    [[nodiscard]] DecodedSample decode(std::span<const std::byte> record) const override {
        adp_qp_sample sample;
        memcpy(&sample, record.data(), sizeof(sample));
        DecodedSample decoded;
        decoded.time_us = sample.time_us;
        decoded.flow = sample.flow;
        decoded.seq = sample.seq;
        decoded.generation = sample.generation;
        decoded.slot = sample.slot;
        decoded.made_by_network = (sample.flags & ADP_QP_NOT_DECIDED) == 0;
        decoded.accountable = decoded.made_by_network;
        if (decoded.made_by_network) {
            decoded.window = {std::max<uint32_t>(sample.window_width, 1), std::max<uint32_t>(sample.window_height, 1)};
            decoded.picture = {adp_qp_side(sample.width), adp_qp_side(sample.height)};
            decoded.place = {sample.column, sample.row};
            // The record comes from a process that the daemon does not trust: a window that a record can't hold is
            // none.
            if (decoded.window.width <= ADP_QP_WINDOW && decoded.window.height <= ADP_QP_WINDOW) {
                decoded.input = {reinterpret_cast<const uint8_t*>(record.data()) + offsetof(adp_qp_sample, codes),
                                 size_t{ADP_QP_PLANES} * decoded.window.width * decoded.window.height};
            }
        }
        decoded.output[0] = sample.output;
        decoded.action = sample.output >= sample.threshold ? 1 : 0;
        const bool explored = (sample.flags & ADP_QP_EXPLORED) != 0;
        decoded.action_sound =
            !decoded.made_by_network || ((sample.flags & ADP_QP_BLOCK_HIGH) != 0) == (decoded.action != 0);
        // What was not obeyed is so because it was drawn, and nothing of the picture had less quality.
        if (explored && (!decoded.made_by_network || sample.explore == 0 || sample.qp_high != sample.qp_low)) {
            decoded.action_sound = false;
        }
        decoded.rate = sample.us_before != 0 ? uint64_t{sample.bytes_before} * 1000000 / sample.us_before : 0;
        return decoded;
    }
};

}  // namespace

const App& qp_app() {
    static const QpApp app;
    return app;
}

}  // namespace adapath
