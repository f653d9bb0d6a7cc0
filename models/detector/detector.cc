// See detector.h. Everything that all kinds of network share: pictures to tensors, candidates to boxes, the
// differentiable accuracy and its gradient.
#include "models/detector/detector.h"

#include <ATen/Parallel.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <string_view>
#include <utility>

#include "models/detector/candidates.h"

namespace adapath {

namespace {

constexpr int64_t all_dimensions = -1;

// Multi-line messages with a C++ backtrace: the first line says what a person needs.
std::string first_line(const char* what) {
    const std::string_view text(what);
    return std::string(text.substr(0, text.find('\n')));
}

class TorchDetector : public Detector {
public:
    TorchDetector(std::string path, std::unique_ptr<CandidateNetwork> network)
        : path_(std::move(path)), network_(std::move(network)) {}

    Result<std::vector<Box>> detect(const Image& image, double score) override {
        return guarded<std::vector<Box>>([&]() -> Result<std::vector<Box>> {
            torch::NoGradGuard no_gradients;
            auto pixels = tensor_of(image);
            if (!pixels) return pixels.error();
            auto found = run(*pixels);
            if (!found) return found.error();
            return boxes_of(*found, score);
        });
    }

    Result<double> soft_accuracy(const Image& image, std::span<const Box> reference) override {
        return guarded<double>([&]() -> Result<double> {
            torch::NoGradGuard no_gradients;
            auto pixels = tensor_of(image);
            if (!pixels) return pixels.error();
            auto accuracy = accuracy_of(*pixels, reference);
            if (!accuracy) return accuracy.error();
            return accuracy->item<double>();
        });
    }

    Result<PixelGradient> gradient(const Image& image, std::span<const Box> reference) override {
        return guarded<PixelGradient>([&]() -> Result<PixelGradient> {
            auto pixels = tensor_of(image);
            if (!pixels) return pixels.error();
            pixels->requires_grad_(true);
            auto accuracy = accuracy_of(*pixels, reference);
            if (!accuracy) return accuracy.error();
            PixelGradient result;
            result.accuracy = accuracy->item<double>();
            result.rgb.assign(image.rgb.size(), 0);
            if (!accuracy->requires_grad()) {
                // Nothing was looked for, or nothing like it found: then no pixel matters. But where something was, the
                // network has cut the way back.
                if (result.accuracy == 0 || reference.empty()) return result;
                return Error{path_ + ": no gradient leads from its scores and boxes to the picture"};
            }
            const torch::Tensor slope = torch::autograd::grad({*accuracy}, {*pixels}, {}, false, false, true)[0];
            if (!slope.defined()) return Error{path_ + ": no gradient leads from its scores and boxes to the picture"};
            const torch::Tensor rows = slope[0].permute({1, 2, 0}).contiguous();
            std::copy_n(rows.data_ptr<float>(), result.rgb.size(), result.rgb.begin());
            return result;
        });
    }

    [[nodiscard]] std::string class_name(int class_id) const override { return network_->class_name(class_id); }

private:
    // LibTorch throws: for what a foreign network does, and when memory runs out.
    template <typename T, typename F>
    Result<T> guarded(F body) {
        try {
            return body();
        } catch (const std::exception& error) {
            return Error{fmt::format("{}: {}", path_, first_line(error.what()))};
        }
    }

    // [1, 3, height, width], 0-255.
    Result<torch::Tensor> tensor_of(const Image& image) {
        if (!image.sound() || image.width > longest_side || image.height > longest_side)
            return Error{fmt::format("a picture of {}x{} with {} bytes: sides are from 1 to {}, with 3 bytes a pixel",
                                     image.width, image.height, image.rgb.size(), longest_side)};
        return torch::from_blob(const_cast<uint8_t*>(image.rgb.data()), {image.height, image.width, 3}, torch::kUInt8)
            .permute({2, 0, 1})
            .unsqueeze(0)
            .to(torch::kFloat32)
            .contiguous();
    }

    // Candidates that are numbers, cut to the picture, the best first.
    Result<Candidates> run(const torch::Tensor& pixels) {
        const int64_t height = pixels.size(2);
        const int64_t width = pixels.size(3);
        const int64_t stride = network_->stride();
        const int64_t below = (stride - height % stride) % stride;
        const int64_t right = (stride - width % stride) % stride;
        // The last row and column again, which make no edge where there is none.
        auto found =
            network_->run(below == 0 && right == 0 ? pixels : torch::replication_pad2d(pixels, {0, right, 0, below}));
        if (!found) return found.error();
        const torch::Tensor corners = found->boxes;
        const torch::Tensor x = corners.index({torch::indexing::Slice(), torch::indexing::Slice(0, 4, 2)});
        const torch::Tensor y = corners.index({torch::indexing::Slice(), torch::indexing::Slice(1, 4, 2)});
        const torch::Tensor cut_x = x.clamp(0, width);
        const torch::Tensor cut_y = y.clamp(0, height);
        const torch::Tensor boxes =
            torch::stack({cut_x.select(1, 0), cut_y.select(1, 0), cut_x.select(1, 1), cut_y.select(1, 1)}, 1);
        torch::Tensor keep;
        {
            torch::NoGradGuard no_gradients;
            const torch::Tensor sound = corners.isfinite()
                                            .all(1)
                                            .logical_and(boxes.select(1, 2).gt(boxes.select(1, 0)))
                                            .logical_and(boxes.select(1, 3).gt(boxes.select(1, 1)))
                                            .logical_and(found->scores.gt(0))
                                            .logical_and(found->scores.le(1));
            const torch::Tensor sounds = sound.nonzero().flatten();
            const torch::Tensor scores = found->scores.index_select(0, sounds);
            const auto count = std::min<int64_t>(static_cast<int64_t>(most_boxes), scores.numel());
            keep = sounds.index_select(0, std::get<1>(scores.sort(true, 0, true)).narrow(0, 0, count));
        }
        return Candidates{boxes.index_select(0, keep), found->scores.index_select(0, keep),
                          found->classes.index_select(0, keep)};
    }

    static std::vector<Box> boxes_of(const Candidates& found, double score) {
        const torch::Tensor corners = found.boxes.contiguous();
        const torch::Tensor scores = found.scores.contiguous();
        const torch::Tensor classes = found.classes.contiguous();
        std::vector<Box> boxes;
        for (int64_t i = 0; i < scores.numel(); i++) {
            const float* c = corners.data_ptr<float>() + 4 * i;
            const float s = scores.data_ptr<float>()[i];
            if (s < score) break;
            boxes.push_back({c[0], c[1], c[2], c[3], s, static_cast<int>(classes.data_ptr<int64_t>()[i])});
        }
        return boxes;
    }

    // EXPERIMENT
    Result<torch::Tensor> accuracy_of(const torch::Tensor& pixels, std::span<const Box> reference) {
        auto found = run(pixels);
        if (!found) return found.error();
        const auto r = static_cast<int64_t>(reference.size());
        if (r == 0 || found->scores.numel() == 0) return torch::zeros({}, torch::kFloat32);
        torch::Tensor truth = torch::empty({r, 4});
        torch::Tensor classes = torch::empty({r}, torch::kInt64);
        for (int64_t i = 0; i < r; i++) {
            const Box& b = reference[static_cast<size_t>(i)];
            truth[i][0] = b.x0;
            truth[i][1] = b.y0;
            truth[i][2] = b.x1;
            truth[i][3] = b.y1;
            classes[i] = b.class_id;
        }
        const torch::Tensor t = truth.unsqueeze(1);
        const torch::Tensor c = found->boxes.unsqueeze(0);
        auto s = [](const torch::Tensor& x, int64_t i) { return x.select(2, i); };
        const torch::Tensor w = (torch::minimum(s(t, 2), s(c, 2)) - torch::maximum(s(t, 0), s(c, 0))).clamp_min(0);
        const torch::Tensor h = (torch::minimum(s(t, 3), s(c, 3)) - torch::maximum(s(t, 1), s(c, 1))).clamp_min(0);
        const torch::Tensor both = w * h;
        const torch::Tensor iou =
            both / ((s(t, 2) - s(t, 0)) * (s(t, 3) - s(t, 1)) + (s(c, 2) - s(c, 0)) * (s(c, 3) - s(c, 1)) - both);
        const torch::Tensor same = (classes.unsqueeze(1) == found->classes.unsqueeze(0)).to(torch::kFloat32);
        const char* env = getenv("SOFT");
        const std::string kind = env ? env : "F";
        const double T = getenv("SOFT_T") ? atof(getenv("SOFT_T")) : 0.5;
        const double I = getenv("SOFT_I") ? atof(getenv("SOFT_I")) : 0.1;
        const torch::Tensor sc = found->scores;
        if (kind == "S") return (sc.unsqueeze(0) * same * iou.ge(0.5)).amax(1).mean();
        if (kind == "I") return (sc.unsqueeze(0) * same * iou).amax(1).mean();
        const torch::Tensor m = torch::sigmoid((torch::logit(sc, 1e-6) - std::log(0.3 / 0.7)) / T);
        const torch::Tensor g = torch::sigmoid((iou - 0.5) / I) * same;
        const torch::Tensor tp = (m.unsqueeze(0) * g).amax(1).sum();
        if (kind == "T") return tp / r;
        return 2 * tp / (r + m.sum());
    }

    std::string path_;
    std::unique_ptr<CandidateNetwork> network_;
};

}  // namespace

Result<std::unique_ptr<Detector>> open_detector(const std::string& path) {
    try {
        Result<std::unique_ptr<CandidateNetwork>> network =
            path.ends_with(".json") ? open_centernet(path)
            : path.ends_with(".pt")
                ? open_torchscript(path)
                : Error{fmt::format("{}: a detector is a TF.js model (*.json) or TorchScript (*.pt)", path)};
        if (!network) return network.error();
        return std::unique_ptr<Detector>(std::make_unique<TorchDetector>(path, std::move(*network)));
    } catch (const std::exception& error) {
        return Error{fmt::format("{}: {}", path, first_line(error.what()))};
    }
}

void set_detector_threads(int threads) { at::set_num_threads(std::max(1, threads)); }

}  // namespace adapath
