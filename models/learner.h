// What the trainer asks of an app's online training: records of the running datapath in, a better model out, and the
// two questions of LiteFlow that decide whether the kernel gets it (online.h). One thread owns a learner. No LibTorch
// here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "codegen/codegen.h"
#include "codegen/model.h"

namespace adapath {

// What a learner learns: one kind an app.
using LearnedModel = std::variant<FloatModel, ImageFloatModel>;
[[nodiscard]] inline bool same_network(const LearnedModel& a, const LearnedModel& b) {
    if (a.index() != b.index()) return false;
    if (const auto* dense = std::get_if<FloatModel>(&a)) return dense->network == std::get<FloatModel>(b).network;
    return std::get<ImageFloatModel>(a).network == std::get<ImageFloatModel>(b).network;
}

class Learner {
public:
    virtual ~Learner() = default;

    [[nodiscard]] virtual std::string_view app() const = 0;
    [[nodiscard]] virtual uint32_t schema() const = 0;
    [[nodiscard]] virtual size_t record_bytes() const = 0;

    // Whole records, in the order in which each flow made them; need not be aligned. `learn` false: only their inputs
    // are kept, for recent_codes().
    virtual void add(std::span<const std::byte> records, bool learn) = 0;
    // What the server measured of a camera's chunk (app select): worth of its sub stream, gain of its main stream.
    virtual void add_measured([[maybe_unused]] uint64_t camera, [[maybe_unused]] uint64_t chunk_us,
                              [[maybe_unused]] double sub_worth, [[maybe_unused]] double gain) {}

    // How much the quality of each macroblock of a camera's chunk matters (app qp), row by row.
    virtual void add_blocks([[maybe_unused]] uint64_t camera, [[maybe_unused]] uint64_t chunk_us,
                            [[maybe_unused]] uint32_t columns, [[maybe_unused]] uint32_t rows,
                            [[maybe_unused]] std::span<const float> weights) {}

    // One batch of training if enough waits for it; what came of it in a line, empty: it did not train.
    virtual std::string step() = 0;

    [[nodiscard]] virtual bool stable() const = 0;
    // Mean difference from `active`'s decisions on recent inputs, fraction of their range; 0 without inputs.
    [[nodiscard]] virtual double fidelity_loss(const LearnedModel& active) const = 0;
    [[nodiscard]] virtual bool necessary(const LearnedModel& active) const = 0;

    // What has been learned so far.
    [[nodiscard]] virtual LearnedModel model() const = 0;
    // Of dense models: what the datapath gave lately, and inputs as it would give them before it has given any, to
    // calibrate the first snapshot on.
    [[nodiscard]] virtual std::vector<InputCodes> recent_codes() const { return {}; }
    [[nodiscard]] virtual std::vector<InputCodes> simulated_codes([[maybe_unused]] const FloatModel& model,
                                                                  [[maybe_unused]] size_t count) const {
        return {};
    }
    // The same of image models.
    [[nodiscard]] virtual std::vector<ImageCodes> recent_pictures() const { return {}; }
    [[nodiscard]] virtual std::vector<ImageCodes> simulated_pictures([[maybe_unused]] size_t count) const { return {}; }
    // Goes on from another model, for example the one that was rolled back to; what waits is dropped.
    virtual void restart_from(const LearnedModel& model) = 0;
    // What is needed to go on from here, into the directory; the checkpoint's files among it.
    virtual Status save(const std::string& directory) const = 0;
    // In a few words, for an operator.
    [[nodiscard]] virtual std::string progress() const = 0;
};

}  // namespace adapath
