// See detector.h. Everything that all kinds of network share: pictures to tensors, candidates to boxes, the
// differentiable accuracy and its gradient.
#include "models/detector/detector.h"

#include <ATen/Parallel.h>
#include <malloc.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <exception>
#include <string_view>
#include <utility>

#include "models/detector/candidates.h"

namespace adapath {

namespace {

constexpr int largest_kept_bytes = 32 << 20;  // glibc takes no more
constexpr int most_kept_bytes = 1 << 30;

// LibTorch's messages go on with backtraces. The first line says what happened, but where TorchScript was running:
// there the last one does.
std::string in_one_line(std::string_view text) {
    auto line_from = [&](size_t at) { return text.substr(at, text.find('\n', at) - at); };
    const size_t begin = text.find_first_not_of(" \n");
    if (begin == std::string_view::npos) return "an exception without a message";
    std::string line(line_from(begin));
    const size_t end = text.find_last_not_of(" \n");
    const size_t last = text.rfind('\n', end) + 1;  // of none: 0
    if (line.find("TorchScript interpreter") != std::string::npos && last > begin)
        line += fmt::format(" {}", line_from(last));
    return line;
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
            // Nothing was looked for, or nothing was found: no pixel matters.
            if (reference.empty() || result.accuracy == 0) return result;
            if (!accuracy->requires_grad()) return no_way_back();
            const torch::Tensor slope = torch::autograd::grad({*accuracy}, {*pixels}, {}, false, false, true)[0];
            if (!slope.defined()) return no_way_back();
            const torch::Tensor rows = slope[0].permute({1, 2, 0}).contiguous();
            std::copy_n(rows.data_ptr<float>(), result.rgb.size(), result.rgb.begin());
            return result;
        });
    }

    [[nodiscard]] std::string class_name(int class_id) const override { return network_->class_name(class_id); }

private:
    [[nodiscard]] Error no_way_back() const {
        return Error{path_ + ": no gradient leads from its scores and boxes back to the picture"};
    }

    // LibTorch throws: for what a foreign network does, and when memory runs out.
    template <typename T, typename F>
    Result<T> guarded(F body) {
        try {
            return body();
        } catch (const std::exception& error) {
            return Error{fmt::format("{}: {}", path_, in_one_line(error.what()))};
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

    // The differentiable accuracy that detector.h defines.
    Result<torch::Tensor> accuracy_of(const torch::Tensor& pixels, std::span<const Box> reference) {
        for (const Box& box : reference)
            if (!std::isfinite(box.x0) || !std::isfinite(box.y0) || !std::isfinite(box.x1) || !std::isfinite(box.y1))
                return Error{path_ + ": a reference box whose sides are no numbers"};
        auto found = run(pixels);
        if (!found) return found.error();
        if (reference.empty()) return torch::ones({}, torch::kFloat32);
        if (found->scores.numel() == 0) return torch::zeros({}, torch::kFloat32);
        const auto count = static_cast<int64_t>(reference.size());
        torch::Tensor corners = torch::empty({count, 4}, torch::kFloat32);
        torch::Tensor classes = torch::empty({count}, torch::kInt64);
        for (int64_t i = 0; i < count; i++) {
            const Box& box = reference[static_cast<size_t>(i)];
            const std::array<float, 4> sides{box.x0, box.y0, box.x1, box.y1};
            std::copy(sides.begin(), sides.end(), corners.data_ptr<float>() + 4 * i);
            classes.data_ptr<int64_t>()[i] = box.class_id;
        }
        const torch::Tensor same = classes.unsqueeze(1).eq(found->classes.unsqueeze(0));
        const torch::Tensor worth = found->scores.unsqueeze(0) * overlaps(corners, found->boxes);
        return (worth * same).amax(1).mean();
    }

    // Intersection over union of every box of the first [R, 4] with every box of the second [N, 4]: [R, N].
    static torch::Tensor overlaps(const torch::Tensor& first, const torch::Tensor& second) {
        const std::vector<torch::Tensor> a = first.unsqueeze(1).unbind(2);
        const std::vector<torch::Tensor> b = second.unsqueeze(0).unbind(2);
        auto area = [](const std::vector<torch::Tensor>& box) { return (box[2] - box[0]) * (box[3] - box[1]); };
        const torch::Tensor width = (torch::minimum(a[2], b[2]) - torch::maximum(a[0], b[0])).clamp_min(0);
        const torch::Tensor height = (torch::minimum(a[3], b[3]) - torch::maximum(a[1], b[1])).clamp_min(0);
        const torch::Tensor both = width * height;
        return both / (area(a) + area(b) - both).clamp_min(1e-6);
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
        return Error{fmt::format("{}: {}", path, in_one_line(error.what()))};
    }
}

void prepare_process(int threads) {
    at::set_num_threads(std::max(1, threads));
    // A picture's tensors are some megabytes each, as large again for the next one. Left alone, malloc() gives each
    // back to the kernel and takes a new one page fault by page fault. Where these fail it is only slower.
    mallopt(M_MMAP_THRESHOLD, largest_kept_bytes);
    mallopt(M_TRIM_THRESHOLD, most_kept_bytes);
}

}  // namespace adapath
