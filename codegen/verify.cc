// Holds a program to the reference interpreter, bit for bit.
#include <random>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "codegen/codegen.h"

namespace adapath {
namespace {

class Verifier {
public:
    Verifier(const QuantModel& model, const RunFunction& run)
        : model_(model), run_(run), out_(model.network.output_count()) {}

    Status check(const InputCodes& in) {
        // A program that writes nothing must not pass on what the last run left.
        std::vector<int32_t> want = interpret(model_, in);
        for (size_t o = 0; o < out_.size(); o++) out_[o] = ~want[o];
        run_(in.data(), out_.data());
        if (out_ == want) return {};
        return Error{fmt::format(
            "program and reference interpreter differ: network {}, input [{}]: program [{}], reference [{}]",
            describe(model_.network), fmt::join(in, " "), fmt::join(out_, " "), fmt::join(want, " "))};
    }

private:
    const QuantModel& model_;
    const RunFunction& run_;
    std::vector<int32_t> out_;
};

// The corners of the input's box that drive lanes furthest: everything at one end, each input alone at the other, and
// for each row of the first layer the inputs that make its sum greatest and least.
std::vector<InputCodes> extremes(const QuantModel& model) {
    constexpr uint8_t kMax = 255;
    size_t inputs = model.network.input_count();
    std::vector<InputCodes> result;

    for (uint8_t end : {uint8_t{0}, kMax}) {
        result.emplace_back(inputs, end);
        for (size_t i = 0; i < inputs; i++) {
            result.emplace_back(inputs, end);
            result.back()[i] = static_cast<uint8_t>(kMax - end);
        }
    }
    const std::vector<int8_t>& weights = model.layers[0].weights;
    for (size_t r = 0; r < model.network.layers[0].outputs; r++) {
        InputCodes greatest(inputs);
        InputCodes least(inputs);
        for (size_t i = 0; i < inputs; i++) {
            greatest[i] = weights[r * inputs + i] > 0 ? kMax : 0;
            least[i] = static_cast<uint8_t>(kMax - greatest[i]);
        }
        result.push_back(std::move(greatest));
        result.push_back(std::move(least));
    }
    return result;
}

}  // namespace

Status verify(const QuantModel& model, const RunFunction& run, std::span<const InputCodes> inputs,
              uint64_t random_inputs, uint64_t seed) {
    if (Status status = validate(model); !status) return status;
    Verifier verifier(model, run);

    for (const InputCodes& in : inputs) {
        if (in.size() != model.network.input_count()) {
            return Error{fmt::format("verify: an input of {} codes for a network of {}", in.size(),
                                     model.network.input_count())};
        }
        if (Status status = verifier.check(in); !status) return status;
    }
    for (const InputCodes& in : extremes(model)) {
        if (Status status = verifier.check(in); !status) return status;
    }
    std::mt19937_64 random(seed);
    InputCodes in(model.network.input_count());
    for (uint64_t n = 0; n < random_inputs; n++) {
        for (uint8_t& code : in) code = static_cast<uint8_t>(random());
        if (Status status = verifier.check(in); !status) return status;
    }
    return {};
}

}  // namespace adapath
