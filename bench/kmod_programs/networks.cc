// See networks.h.
#include "bench/kmod_programs/networks.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <random>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace adapath::bench {
namespace {

constexpr size_t kInputs = 256;

FloatModel random_model(const std::vector<uint32_t>& widths, Activation hidden, std::mt19937& random) {
    std::normal_distribution<float> normal;
    FloatModel model;
    model.network.app = "bench";
    model.network.inputs.assign(widths[0], InputCode{1.0F / 64, 128});
    for (size_t l = 0; l + 1 < widths.size(); ++l) {
        const bool last = l + 2 == widths.size();
        model.network.layers.push_back({widths[l], widths[l + 1], last ? Activation::identity : hidden});
        std::vector<float>& weights = model.weights.emplace_back(size_t{widths[l]} * widths[l + 1]);
        std::vector<float>& biases = model.biases.emplace_back(widths[l + 1]);
        for (float& w : weights) w = normal(random) / std::sqrt(static_cast<float>(widths[l]));
        for (float& b : biases) b = 0.1F * normal(random);
    }
    return model;
}

}  // namespace

const char* name_of(Program program) {
    switch (program) {
        case Program::generated:
            return "generated";
        case Program::generic:
            return "generic";
        case Program::avx2:
            return "avx2";
        case Program::vnni:
            return "vnni";
    }
    return "?";
}

bool cpu_runs(Program program) {
    switch (program) {
        case Program::avx2:
            return __builtin_cpu_supports("avx2") != 0;
        case Program::vnni:
            return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
                   __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vnni") != 0;
        default:
            return true;
    }
}

void Subject::Free::operator()(uint8_t* bytes) const { ::operator delete(bytes, std::align_val_t{ADP_SIMD_ALIGN}); }

Subject::Block Subject::block(size_t size) {
    return Block(static_cast<uint8_t*>(::operator new(size, std::align_val_t{ADP_SIMD_ALIGN})));
}

void Subject::run(Program program, const uint8_t* in, int32_t* out) const {
    switch (program) {
        case Program::generated:
            host_->run(params_.get(), in, out);
            break;
        case Program::generic:
            adp_kernel_generic_forward(&layout_, params_.get(), in, out);
            break;
        case Program::avx2:
            adp_simd_avx2_forward(&layout_, params_.get(), simd_.get(), in, out);
            break;
        case Program::vnni:
            adp_simd_vnni_forward(&layout_, params_.get(), simd_.get(), in, out);
            break;
    }
}

Result<std::unique_ptr<Subject>> Subject::make(const std::vector<uint32_t>& widths) {
    std::unique_ptr<Subject> subject(new Subject);
    subject->name_ = fmt::format("{}", fmt::join(widths, "-"));
    std::mt19937 random(1);
    const bool cc = subject->name_ == "30-32-16-1";
    const FloatModel model = random_model(widths, cc ? Activation::tanh : Activation::relu, random);
    for (size_t i = 0; i < kInputs; ++i) {
        InputCodes& codes = subject->inputs_.emplace_back(widths[0]);
        for (uint8_t& code : codes) code = static_cast<uint8_t>(random());
    }
    const Result<QuantModel> quantised = quantise(model, subject->inputs_);
    if (!quantised) return quantised.error();
    const Result<std::vector<uint8_t>> params = pack(*quantised);
    if (!params) return params.error();
    Result<HostProgram> host = HostProgram::load(model.network);
    if (!host) return host.error();
    subject->host_ = std::make_unique<HostProgram>(std::move(*host));

    std::vector<adp_layer_shape> shapes;
    for (const LayerShape& layer : model.network.layers) {
        subject->multiplications_ += layer.inputs * layer.outputs;
        shapes.push_back({static_cast<uint16_t>(layer.inputs),
                          static_cast<uint16_t>(layer.outputs),
                          static_cast<uint8_t>(layer.activation),
                          {0, 0, 0}});
    }
    adp_complaint why{};
    if (adp_kernel_layout_init(&subject->layout_, shapes.data(), static_cast<uint32_t>(shapes.size()), &why) != 0) {
        return Error{fmt::format("network {}: {}: {}", subject->name_, why.what, why.value)};
    }
    subject->params_ = block(params->size());
    std::copy(params->begin(), params->end(), subject->params_.get());
    if (adp_kernel_params_check(&subject->layout_, subject->params_.get(), static_cast<uint32_t>(params->size()),
                                &why) != 0) {
        return Error{fmt::format("network {}: layer {} row {}: {}: {}", subject->name_, why.layer, why.row, why.what,
                                 why.value)};
    }
    subject->simd_ = block(subject->simd_bytes());
    adp_kernel_simd_prepare(&subject->layout_, subject->params_.get(), subject->simd_.get());
    for (const Program program : kPrograms) {
        if (!cpu_runs(program)) continue;
        const Status same = verify(
            *quantised, [&](const uint8_t* in, int32_t* out) { subject->run(program, in, out); }, subject->inputs_, 100,
            1);
        if (!same)
            return Error{fmt::format("network {}, {}: {}", subject->name_, name_of(program), same.error().message)};
    }
    return subject;
}

std::vector<std::vector<uint32_t>> network_widths() {
    return {{10, 8, 1}, {30, 32, 16, 1}, {30, 64, 32, 1}, {64, 64, 4}, {64, 64, 64, 4}, {128, 128, 4}, {256, 80, 4}};
}

Result<std::vector<std::unique_ptr<Subject>>> make_subjects() {
    std::vector<std::unique_ptr<Subject>> subjects;
    for (const std::vector<uint32_t>& widths : network_widths()) {
        Result<std::unique_ptr<Subject>> subject = Subject::make(widths);
        if (!subject) return subject.error();
        subjects.push_back(std::move(*subject));
    }
    return subjects;
}

}  // namespace adapath::bench
