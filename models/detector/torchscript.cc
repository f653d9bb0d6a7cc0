// A user's own detector, as TorchScript. docs/detector.md has the contract; what breaks it is an error here.
#include <spdlog/fmt/fmt.h>
#include <torch/script.h>

#include <algorithm>

#include "models/detector/candidates.h"

namespace adapath {

namespace {

constexpr int64_t largest_stride = 256;
constexpr int64_t largest_class = 1'000'000;

class TorchScript : public CandidateNetwork {
public:
    // A module is a counted reference.
    TorchScript(std::string path, const torch::jit::Module& module, int64_t stride, std::vector<std::string> names)
        : path_(std::move(path)), module_(module), stride_(stride), names_(std::move(names)) {}

    Result<Candidates> run(const torch::Tensor& image) override {
        const torch::IValue output = module_.forward({image});
        Candidates found;
        if (output.isTensor()) {
            const torch::Tensor& rows = output.toTensor();
            if (rows.dim() != 2 || rows.size(1) != 6)
                return Error{fmt::format("{}: it gave a tensor of shape {}; [N, 6] or a tuple is expected", path_,
                                         c10::str(rows.sizes()))};
            found.boxes = rows.narrow(1, 0, 4);
            found.scores = rows.select(1, 4);
            found.classes = rows.select(1, 5);
        } else if (output.isTuple() && output.toTupleRef().elements().size() == 3) {
            for (size_t i = 0; i < 3; i++)
                if (!output.toTupleRef().elements()[i].isTensor())
                    return Error{fmt::format("{}: part {} of what it gave is no tensor", path_, i)};
            found.boxes = output.toTupleRef().elements()[0].toTensor();
            found.scores = output.toTupleRef().elements()[1].toTensor();
            found.classes = output.toTupleRef().elements()[2].toTensor();
        } else {
            return Error{fmt::format("{}: it gave {}; a tensor [N, 6] or a tuple of three is expected", path_,
                                     output.tagKind())};
        }
        if (found.boxes.dim() != 2 || found.boxes.size(1) != 4 || found.scores.dim() != 1 || found.classes.dim() != 1 ||
            found.scores.size(0) != found.boxes.size(0) || found.classes.size(0) != found.boxes.size(0) ||
            found.boxes.is_complex() || found.scores.is_complex() || found.classes.is_complex())
            return Error{fmt::format("{}: boxes {}, scores {}, classes {}; [N, 4], [N] and [N] are expected", path_,
                                     c10::str(found.boxes.sizes()), c10::str(found.scores.sizes()),
                                     c10::str(found.classes.sizes()))};
        found.boxes = found.boxes.to(torch::kCPU, torch::kFloat32);
        found.scores = found.scores.to(torch::kCPU, torch::kFloat32);
        // As doubles first: of a class that is no number, the conversion to integers would make any.
        const torch::Tensor classes = found.classes.detach().to(torch::kCPU, torch::kFloat64);
        if (!classes.ge(0).logical_and(classes.lt(largest_class)).all().item<bool>())
            return Error{fmt::format("{}: a class below 0 or from {} on", path_, largest_class)};
        found.classes = classes.to(torch::kInt64);
        return found;
    }

    [[nodiscard]] int64_t stride() const override { return stride_; }
    [[nodiscard]] std::string class_name(int class_id) const override {
        const auto i = static_cast<size_t>(class_id);
        return class_id >= 0 && i < names_.size() ? names_[i] : fmt::format("class {}", class_id);
    }

private:
    std::string path_;
    torch::jit::Module module_;
    int64_t stride_;
    std::vector<std::string> names_;
};

}  // namespace

Result<std::unique_ptr<CandidateNetwork>> open_torchscript(const std::string& path) {
    torch::jit::Module module = torch::jit::load(path, torch::kCPU);
    module.eval();
    for (auto parameter : module.parameters()) parameter.set_requires_grad(false);
    int64_t stride = 1;
    if (module.hasattr("stride")) {
        const torch::IValue value = module.attr("stride");
        if (!value.isInt() || value.toInt() < 1 || value.toInt() > largest_stride)
            return Error{fmt::format("{}: its stride is no whole number from 1 to {}", path, largest_stride)};
        stride = value.toInt();
    }
    std::vector<std::string> names;
    if (module.hasattr("class_names")) {
        const torch::IValue value = module.attr("class_names");
        if (!value.isList()) return Error{path + ": its class_names are no list of strings"};
        for (const torch::IValue& name : value.toListRef()) {
            if (!name.isString()) return Error{path + ": its class_names are no list of strings"};
            names.push_back(name.toStringRef());
        }
    }
    return std::unique_ptr<CandidateNetwork>(std::make_unique<TorchScript>(path, module, stride, std::move(names)));
}

}  // namespace adapath
