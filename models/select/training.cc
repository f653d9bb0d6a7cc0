// See training.h.
#include "models/select/training.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/float_runner.h"
#include "models/policy.h"

namespace adapath {

namespace {

constexpr double outlier = 2.5;  // root mean squares of a layer's weights

}  // namespace

FloatModel train_select(const FloatModel& start, std::span<const SelectExample> examples,
                        const SelectTraining& training) {
    torch::manual_seed(training.seed);
    torch::set_num_threads(training.threads);
    Mlp network(start);
    const auto count = static_cast<int64_t>(examples.size());
    const torch::Tensor x = decode_codes(start.network, examples, &SelectExample::codes);
    torch::Tensor y = torch::empty({count, 2}, torch::kFloat32);
    float* worth = y.data_ptr<float>();
    for (const SelectExample& e : examples) {
        *worth++ = e.sub;
        *worth++ = e.main;
    }
    torch::optim::AdamW optimiser(network.parameters(),
                                  torch::optim::AdamWOptions(training.rate).weight_decay(training.decay));
    const int64_t batch = std::min<int64_t>(training.batch, count);
    const int64_t batches = std::max<int64_t>(1, count / batch);
    const auto steps = static_cast<double>(batches) * training.epochs;
    double step = 0;
    for (uint32_t epoch = 0; epoch < training.epochs; epoch++) {
        const torch::Tensor order = torch::randperm(count, torch::kLong);
        double sum = 0;
        for (int64_t b = 0; b < batches; b++, step++) {
            const double fall = 0.01 + 0.99 * 0.5 * (1 + std::cos(M_PI * step / steps));
            static_cast<torch::optim::AdamWOptions&>(optimiser.param_groups()[0].options()).lr(training.rate * fall);
            const torch::Tensor rows = order.narrow(0, b * batch, batch);
            const torch::Tensor out = network.forward(x.index_select(0, rows));
            const torch::Tensor worths = torch::stack({out.select(1, 0), out.select(1, 0) + out.select(1, 1)}, 1);
            const torch::Tensor loss = (worths - y.index_select(0, rows)).square().mean();
            optimiser.zero_grad();
            loss.backward();
            optimiser.step();
            {
                // A few weights far from the others would take the others' precision when they become 8 bits.
                torch::NoGradGuard guard;
                for (torch::Tensor p : network.parameters()) {
                    if (p.dim() != 2) continue;
                    const double limit = outlier * p.square().mean().sqrt().item<double>();
                    p.clamp_(-limit, limit);
                }
            }
            sum += loss.item<double>();
        }
        if (training.progress && !training.progress(epoch + 1, sum / static_cast<double>(batches))) break;
    }
    return network.model();
}

SelectError select_error(const FloatModel& model, std::span<const SelectExample> examples) {
    FloatRunner runner(model);
    SelectError error;
    if (examples.empty()) return error;
    for (const SelectExample& e : examples) {
        const std::span<const float> out = runner.run_all(e.codes.data());
        const float sub = std::clamp(out[0], 0.0F, 1.0F);
        const float main = std::clamp(sub + std::clamp(out[1], -1.0F, 1.0F), 0.0F, 1.0F);
        error.sub += std::abs(sub - e.sub);
        error.main += std::abs(main - e.main);
        error.gain += std::abs((main - sub) - (e.main - e.sub));
    }
    const auto count = static_cast<double>(examples.size());
    return {error.sub / count, error.main / count, error.gain / count};
}

}  // namespace adapath
