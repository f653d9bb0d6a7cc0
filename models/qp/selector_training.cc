// See selector_training.h.
#include "models/qp/selector_training.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <random>
#include <utility>

#include "models/qp/selector.h"

namespace adapath {

namespace {

// Each layer's weights and biases, in the order of the network's layers; pools have none.
struct Parameters {
    std::vector<torch::Tensor> weights;
    std::vector<torch::Tensor> biases;
};

std::vector<int64_t> weight_shape(const ImageLayerShape& layer) {
    const int64_t inputs = layer.kind == ImageLayerKind::depthwise ? 1 : layer.inputs;
    return {layer.outputs, inputs, layer.kernel, layer.kernel};
}

torch::Tensor run(const ImageNetwork& network, const Parameters& parameters, torch::Tensor x) {
    for (size_t i = 0; i < network.layers.size(); i++) {
        const ImageLayerShape& layer = network.layers[i];
        if (layer.kind == ImageLayerKind::pool) {
            x = torch::avg_pool2d(x, 2, 2, 0, true, false);
            continue;
        }
        const int64_t groups = layer.kind == ImageLayerKind::depthwise ? layer.inputs : 1;
        x = torch::conv2d(x, parameters.weights[i], parameters.biases[i], layer.stride, layer.kernel / 2, 1, groups);
        if (i + 1 < network.layers.size()) x = torch::relu(x);
    }
    return x;
}

// Codes as real numbers, [planes, height, width].
torch::Tensor real(const ImageNetwork& network, const ImageCodes& codes) {
    const auto planes = static_cast<int64_t>(network.inputs.size());
    torch::Tensor x = torch::empty({planes, codes.size.height, codes.size.width});
    auto* to = x.data_ptr<float>();
    const size_t count = size_t{codes.size.width} * codes.size.height;
    for (size_t c = 0; c < network.inputs.size(); c++)
        for (size_t i = 0; i < count; i++)
            to[c * count + i] =
                network.inputs[c].scale * static_cast<float>(codes.codes[c * count + i] - network.inputs[c].zero_point);
    return x;
}

std::vector<float> numbers(const torch::Tensor& tensor) {
    const torch::Tensor flat = tensor.detach().contiguous();
    return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

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

    Parameters parameters;
    std::vector<torch::Tensor> all;
    for (const ImageLayerShape& layer : network.layers) {
        torch::Tensor weights;
        torch::Tensor biases;
        if (layer.kind != ImageLayerKind::pool) {
            const std::vector<int64_t> shape = weight_shape(layer);
            const auto fan_in = static_cast<double>(shape[1] * shape[2] * shape[3]);
            weights = (torch::randn(shape) * std::sqrt(2 / fan_in)).requires_grad_();
            biases = torch::zeros({layer.outputs}).requires_grad_();
            all.push_back(weights);
            all.push_back(biases);
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
        prepared.push_back({real(network, sample.codes), truth});
    }
    std::vector<const std::vector<size_t>*> size_of(samples.size());
    for (const auto& [size, members] : by_size)
        for (size_t i : members) size_of[i] = &members;

    torch::optim::Adam optimiser(all, torch::optim::AdamOptions(training.rate));
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
        const torch::Tensor logits = run(network, parameters, torch::stack(inputs));
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

    ImageFloatModel model;
    model.network = network;
    for (size_t i = 0; i < network.layers.size(); i++) {
        const bool has = parameters.weights[i].defined();
        model.weights.push_back(has ? numbers(parameters.weights[i]) : std::vector<float>{});
        model.biases.push_back(has ? numbers(parameters.biases[i]) : std::vector<float>{});
    }
    return model;
}

std::vector<float> selector_torch(const ImageFloatModel& model, const ImageCodes& codes) {
    const torch::NoGradGuard no_gradients;
    Parameters parameters;
    for (size_t i = 0; i < model.network.layers.size(); i++) {
        const ImageLayerShape& layer = model.network.layers[i];
        torch::Tensor weights;
        torch::Tensor biases;
        if (layer.kind != ImageLayerKind::pool) {
            weights = torch::tensor(model.weights[i]).reshape(weight_shape(layer));
            biases = torch::tensor(model.biases[i]);
        }
        parameters.weights.push_back(weights);
        parameters.biases.push_back(biases);
    }
    return numbers(run(model.network, parameters, real(model.network, codes).unsqueeze(0)));
}

}  // namespace adapath
