// See selector_training.h.
#include "models/qp/selector_training.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <random>
#include <utility>

#include "models/qp/selector.h"
#include "models/qp/selector_tensors.h"

namespace adapath {

namespace {

struct Prepared {
    torch::Tensor input;
    torch::Tensor truth;  // [1, rows, columns]
};

}  // namespace

ImageFloatModel train_selector(const std::vector<SelectorSample>& samples, const SelectorTraining& training) {
    torch::set_num_threads(training.threads);
    torch::manual_seed(training.seed);
    std::mt19937_64 random(training.seed);
    const ImageNetwork network = selector_network();

    SelectorTensors parameters;
    parameters.network = network;
    for (const ImageLayerShape& layer : network.layers) {
        torch::Tensor weights;
        torch::Tensor biases;
        if (layer.kind != ImageLayerKind::pool) {
            const std::vector<int64_t> shape = weight_shape(layer);
            const auto fan_in = static_cast<double>(shape[1] * shape[2] * shape[3]);
            weights = (torch::randn(shape) * std::sqrt(2 / fan_in)).requires_grad_();
            biases = torch::zeros({layer.outputs}).requires_grad_();
        }
        parameters.weights.push_back(weights);
        parameters.biases.push_back(biases);
    }

    // A batch is of one size: sizes take turns by how many samples they have.
    std::map<std::pair<uint32_t, uint32_t>, std::vector<size_t>> by_size;
    std::vector<Prepared> prepared;
    for (size_t i = 0; i < samples.size(); i++) {
        const SelectorSample& sample = samples[i];
        by_size[{sample.codes.size.width, sample.codes.size.height}].push_back(i);
        torch::Tensor truth = torch::empty({1, sample.truth.rows, sample.truth.columns});
        std::copy(sample.truth.values.begin(), sample.truth.values.end(), truth.data_ptr<float>());
        prepared.push_back({real_codes(network, sample.codes), truth});
    }
    std::vector<const std::vector<size_t>*> size_of(samples.size());
    for (const auto& [size, members] : by_size)
        for (size_t i : members) size_of[i] = &members;

    torch::optim::Adam optimiser(parameters.parameters(), torch::optim::AdamOptions(training.rate));
    auto one_of = [&](size_t count) { return static_cast<size_t>(random() % count); };
    auto uniform = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
    constexpr uint32_t report_every = 100;
    double loss_sum = 0;
    for (uint32_t step = 0; step < training.steps; step++) {
        for (auto& group : optimiser.param_groups())
            static_cast<torch::optim::AdamOptions&>(group.options())
                .lr(training.rate * (0.505 + 0.495 * std::cos(std::numbers::pi * step / training.steps)));
        const std::vector<size_t>& members = *size_of[one_of(samples.size())];
        std::vector<torch::Tensor> inputs;
        std::vector<torch::Tensor> truths;
        for (uint32_t b = 0; b < training.batch; b++) {
            const Prepared& chosen = prepared[members[one_of(members.size())]];
            torch::Tensor input = chosen.input.clone();
            torch::Tensor truth = chosen.truth;
            const double contrast = 0.75 + 0.5 * uniform();
            input[0] = input[0] * contrast + (0.4 * uniform() - 0.2);
            input[1] *= contrast * (0.8 + 0.4 * uniform());
            input = input.clamp_min(0);
            if (one_of(2) == 1) {
                input = input.flip({2});
                truth = truth.flip({2});
            }
            inputs.push_back(input);
            truths.push_back(truth);
        }
        const torch::Tensor logits = parameters.run(torch::stack(inputs));
        const torch::Tensor loss = torch::binary_cross_entropy_with_logits(logits, torch::stack(truths));
        optimiser.zero_grad();
        loss.backward();
        optimiser.step();
        loss_sum += loss.item<double>();
        if ((step + 1) % report_every == 0) {
            if (training.progress && !training.progress(step + 1, loss_sum / report_every)) break;
            loss_sum = 0;
        }
    }

    return parameters.model();
}

std::vector<float> selector_torch(const ImageFloatModel& model, const ImageCodes& codes) {
    const torch::NoGradGuard no_gradients;
    return numbers_of(SelectorTensors::of(model, false).run(real_codes(model.network, codes).unsqueeze(0)));
}

}  // namespace adapath
