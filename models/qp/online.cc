// See online.h.
#include "models/qp/online.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <filesystem>
#include <map>
#include <random>
#include <utility>

#include "models/detector/block_map.h"
#include "models/qp/labels.h"
#include "models/qp/selector.h"
#include "models/qp/selector_tensors.h"

namespace adapath {

namespace {

constexpr size_t most_cameras = 256;  // whose labels are told apart; the one that was silent longest makes room
constexpr uint32_t most_side = 4096;  // pixels
constexpr uint32_t block = 16;

// What one output depends on, and where in its outputs it is.
struct Window {
    ImageCodes codes;
    ImageSize at;
    float weight = 1;  // in what is learned; 0: nothing is learned from it
};
using WindowPtr = std::shared_ptr<const Window>;

// No one block counts as more than so many.
constexpr float most_weight = 32;

// A block that was given the low quality is no measure of what a better one would be worth. Where some chunks are
// explored, those of their blocks count for all such ones, the others for none; where none are, there is nothing
// better.
float weight_of(const adp_qp_sample& sample) {
    if ((sample.flags & ADP_QP_BLOCK_LOW) == 0 || sample.explore == 0) return 1;
    return (sample.flags & ADP_QP_EXPLORED) == 0 ? 0 : weight_of_chance(sample.explore / 256.0F, most_weight);
}

// One side of the square of a layer's inputs, or of its outputs, that one output of the network depends on.
std::vector<uint32_t> patch_sides(const ImageNetwork& network) {
    std::vector<uint32_t> sides(network.layers.size() + 1, 1);
    for (size_t i = network.layers.size(); i-- > 0;)
        sides[i] = (sides[i + 1] - 1) * network.layers[i].stride + network.layers[i].kernel;
    return sides;
}

// Of the patch's places on one axis, layer by layer: 1 where the picture is, 0 beyond its edge. `size`: of the window,
// codes; `at`: the place of the output.
std::vector<std::vector<float>> inside(const ImageNetwork& network, const std::vector<uint32_t>& sides, uint32_t size,
                                       uint32_t at) {
    const size_t layers = network.layers.size();
    std::vector<int64_t> first(layers + 1, at);  // the patch's first place
    for (size_t i = layers; i-- > 0;) {
        const ImageLayerShape& layer = network.layers[i];
        const int64_t padding = layer.kind == ImageLayerKind::pool ? 0 : layer.kernel / 2;
        first[i] = first[i + 1] * layer.stride - padding;
    }
    std::vector<std::vector<float>> result(layers);
    for (size_t i = 0; i < layers; i++) {
        for (uint32_t p = 0; p < sides[i]; p++) {
            const int64_t place = first[i] + p;
            result[i].push_back(place >= 0 && place < size ? 1.0F : 0.0F);
        }
        size = (size + network.layers[i].stride - 1) / network.layers[i].stride;
    }
    return result;
}

// Logits of windows, each at its own place. All of them are computed at once, as patches of one size without padding:
// of each layer only what that one output depends on, and 0 where the picture's zero padding is.
torch::Tensor logits_of(const SelectorTensors& selector, const std::vector<const Window*>& windows) {
    const ImageNetwork& network = selector.network;
    const size_t layers = network.layers.size();
    const std::vector<uint32_t> sides = patch_sides(network);
    const auto count = static_cast<int64_t>(windows.size());
    const auto planes = static_cast<int64_t>(network.inputs.size());
    torch::Tensor x = torch::zeros({count, planes, sides[0], sides[0]});
    std::vector<torch::Tensor> masks;
    for (size_t i = 0; i < layers; i++) masks.push_back(torch::empty({count, 1, sides[i], sides[i]}));
    for (size_t n = 0; n < windows.size(); n++) {
        const ImageCodes& codes = windows[n]->codes;
        const auto across = inside(network, sides, codes.size.width, windows[n]->at.width);
        const auto down = inside(network, sides, codes.size.height, windows[n]->at.height);
        for (size_t i = 0; i < layers; i++) {
            float* mask = masks[i].data_ptr<float>() + n * sides[i] * sides[i];
            for (uint32_t row = 0; row < sides[i]; row++)
                for (uint32_t column = 0; column < sides[i]; column++) *mask++ = down[i][row] * across[i][column];
        }
        // The patch's first code is so far from the window's.
        int64_t left = windows[n]->at.width;
        int64_t top = windows[n]->at.height;
        for (size_t i = layers; i-- > 0;) {
            const ImageLayerShape& layer = network.layers[i];
            const int64_t padding = layer.kind == ImageLayerKind::pool ? 0 : layer.kernel / 2;
            left = left * layer.stride - padding;
            top = top * layer.stride - padding;
        }
        const auto width = static_cast<int64_t>(codes.size.width);
        const auto height = static_cast<int64_t>(codes.size.height);
        for (int64_t plane = 0; plane < planes; plane++) {
            const InputCode& input = network.inputs[static_cast<size_t>(plane)];
            float* to = x.data_ptr<float>() + (static_cast<int64_t>(n) * planes + plane) * sides[0] * sides[0];
            for (int64_t row = 0; row < sides[0]; row++)
                for (int64_t column = 0; column < sides[0]; column++, to++) {
                    const int64_t cx = left + column;
                    const int64_t cy = top + row;
                    if (cx < 0 || cy < 0 || cx >= width || cy >= height) continue;
                    const uint8_t code = codes.codes[static_cast<size_t>((plane * height + cy) * width + cx)];
                    *to = input.scale * static_cast<float>(code - input.zero_point);
                }
        }
    }
    const int64_t no_padding = 0;
    for (size_t i = 0; i < layers; i++) {
        const ImageLayerShape& layer = network.layers[i];
        if (layer.kind == ImageLayerKind::pool) {
            // At an edge the mean is over what there is.
            x = torch::avg_pool2d(x, 2, 2) / torch::avg_pool2d(masks[i], 2, 2).clamp_min(0.25);
        } else {
            const int64_t groups = layer.kind == ImageLayerKind::depthwise ? layer.inputs : 1;
            x = torch::conv2d(x, selector.weights[i], selector.biases[i], layer.stride, no_padding, 1, groups);
            if (i + 1 < layers) x = torch::relu(x);
        }
        if (i + 1 < layers) x = x * masks[i + 1];
    }
    return x.reshape({count});
}

// Probabilities, in the windows' order.
std::vector<float> probabilities(const SelectorTensors& selector, const std::deque<WindowPtr>& windows) {
    if (windows.empty()) return {};
    const torch::NoGradGuard no_gradients;
    std::vector<const Window*> all;
    for (const WindowPtr& window : windows) all.push_back(window.get());
    return numbers_of(torch::sigmoid(logits_of(selector, all)));
}

struct Example {
    WindowPtr window;
    uint64_t camera = 0;
    float value = 0;
};

}  // namespace

struct QpOnline::State final : SupervisedTraining<QpOnlineOptions, Example, WindowPtr> {
    State(const ImageFloatModel& model, const QpOnlineOptions& o)
        : SupervisedTraining(o),
          checkpoint(model),
          selector(SelectorTensors::of(model, true)),
          anchor(SelectorTensors::of(model, false)),
          random(o.seed) {
        make_optimiser();
    }
    void make_optimiser() {
        optimiser =
            std::make_unique<torch::optim::Adam>(selector.parameters(), torch::optim::AdamOptions(options.rate));
    }

    // By camera and chunk's time.
    using Key = std::pair<uint64_t, uint64_t>;
    struct Chunk {
        uint32_t columns = 0;  // of its picture, macroblocks
        uint32_t rows = 0;
        std::vector<std::pair<size_t, WindowPtr>> windows;  // and the block, row by row
        bool labelled = false;
        bool leans = false;  // its label, to what was chosen: others of this camera's chunks are explored, this one not
    };
    struct Camera {
        std::vector<BlockMap> maps;  // smoothed, oldest first
        bool leaning = false;        // they are labels that lean: there are no better ones yet
        float threshold = 0;
        uint64_t label = 0;         // number of its last one
        uint64_t forgotten_us = 0;  // the latest chunk whose samples were let go
    };

    Camera& camera(uint64_t number) {
        if (const auto known = cameras.find(number); known != cameras.end()) return known->second;
        if (cameras.size() >= most_cameras)
            cameras.erase(std::ranges::min_element(cameras, {}, [](const auto& entry) { return entry.second.label; }));
        Camera& fresh = cameras[number];
        fresh.label = counters.labels;
        return fresh;
    }
    // Room for one more window: the oldest chunk is let go, with all its windows.
    void make_room() {
        while (waiting >= std::max(options.remember, 1U) && !order.empty()) {
            const Key key = order.front();
            order.pop_front();
            const auto chunk = chunks.find(key);
            waiting -= std::max<size_t>(chunk->second.windows.size(), 1);
            chunks.erase(chunk);
            if (const auto known = cameras.find(key.first); known != cameras.end())
                known->second.forgotten_us = std::max(known->second.forgotten_us, key.second);
            forgotten_us = std::max(forgotten_us, key.second);
        }
    }
    [[nodiscard]] float truth(const Example& example) const {
        const auto known = cameras.find(example.camera);
        const float threshold = known == cameras.end() ? 0 : known->second.threshold;
        return example.value > 0 && example.value >= threshold ? 1 : 0;
    }
    // Cross entropy of examples, in nats.
    [[nodiscard]] torch::Tensor loss_of(const std::vector<const Example*>& chosen) const {
        std::vector<const Window*> windows;
        for (const Example* example : chosen) windows.push_back(example->window.get());
        const torch::Tensor logits = logits_of(selector, windows);
        torch::Tensor truths = torch::empty({static_cast<int64_t>(chosen.size())});
        torch::Tensor weights = torch::empty({static_cast<int64_t>(chosen.size())});
        for (size_t i = 0; i < chosen.size(); i++) {
            truths.data_ptr<float>()[i] = truth(*chosen[i]);
            weights.data_ptr<float>()[i] = chosen[i]->window->weight;
        }
        return torch::binary_cross_entropy_with_logits(logits, truths, weights / weights.mean());
    }

    size_t draw(size_t size) override { return static_cast<size_t>(random() % size); }
    double error(const std::vector<const Example*>& fresh) override {
        const torch::NoGradGuard no_gradients;
        return loss_of(fresh).item<double>();
    }
    double step(const std::vector<const Example*>& chosen) override {
        torch::Tensor loss = loss_of(chosen);
        if (options.anchor > 0 && !recent().empty()) {
            std::vector<const Window*> seen;
            for (uint32_t i = 0; i < std::max(options.minibatch / 2, 1U); i++)
                seen.push_back(recent()[draw(recent().size())].get());
            torch::Tensor held;
            {
                const torch::NoGradGuard no_gradients;
                held = torch::sigmoid(logits_of(anchor, seen));
            }
            const torch::Tensor now = torch::sigmoid(logits_of(selector, seen));
            loss = loss + options.anchor * (now - held).square().mean();
        }
        optimiser->zero_grad();
        loss.backward();
        optimiser->step();
        return loss.item<double>();
    }
    [[nodiscard]] std::vector<float> decisions() const override { return probabilities(selector, recent()); }

    ImageFloatModel checkpoint;
    SelectorTensors selector;
    SelectorTensors anchor;
    std::mt19937_64 random;
    std::unique_ptr<torch::optim::Adam> optimiser;
    std::map<Key, Chunk> chunks;
    std::deque<Key> order;  // as they came
    size_t waiting = 0;     // windows in them; a chunk whose windows have their label counts as one
    uint64_t forgotten_us = 0;
    std::map<uint64_t, Camera> cameras;
    QpOnlineCounters counters;
};

QpOnline::QpOnline(const ImageFloatModel& checkpoint, const QpOnlineOptions& options) {
    torch::manual_seed(options.seed);
    torch::set_num_threads(options.threads);
    state_ = std::make_unique<State>(checkpoint, options);
}

QpOnline::~QpOnline() = default;

void QpOnline::add(std::span<const std::byte> records, bool learn) {
    State& s = *state_;
    const ImageNetwork& network = s.checkpoint.network;
    for (size_t at = 0; at + sizeof(adp_qp_sample) <= records.size(); at += sizeof(adp_qp_sample)) {
        adp_qp_sample sample;
        std::memcpy(&sample, records.data() + at, sizeof(sample));
        s.counters.samples++;
        if ((sample.flags & ADP_QP_NOT_DECIDED) != 0) {
            s.counters.undecided++;
            continue;
        }
        // The record is another process's: the window has to be the one that this network has at this place.
        const bool sound_size =
            sample.width > 0 && sample.height > 0 && sample.width <= most_side && sample.height <= most_side;
        const ImageSize picture{adp_qp_side(sample.width), adp_qp_side(sample.height)};
        const uint32_t columns = (sample.width + block - 1) / block;
        const uint32_t rows = (sample.height + block - 1) / block;
        ImageWindow window;
        const bool sound_place = sound_size && sample.column < columns && sample.row < rows &&
                                 output_size(network, picture) == ImageSize{columns, rows};
        if (sound_place) window = window_of(network, picture, sample.column, sample.row);
        if (!sound_place || window.size != ImageSize{sample.window_width, sample.window_height} ||
            window.size.width > ADP_QP_WINDOW || window.size.height > ADP_QP_WINDOW) {
            s.counters.misfits++;
            continue;
        }
        const size_t count = size_t{ADP_QP_PLANES} * window.size.width * window.size.height;
        auto kept = std::make_shared<Window>();
        kept->codes = {window.size, {sample.codes, sample.codes + count}};
        kept->at = window.at;
        kept->weight = weight_of(sample);
        s.remember(kept);
        if (!learn) continue;
        s.make_room();
        const State::Key key{sample.camera, sample.chunk_us};
        const auto [known, is_new] = s.chunks.try_emplace(key);
        State::Chunk& chunk = known->second;
        if (is_new) {
            s.order.push_back(key);
            chunk.columns = columns;
            chunk.rows = rows;
            chunk.leans = sample.explore > 0 && (sample.flags & ADP_QP_EXPLORED) == 0;
        } else if (chunk.labelled || chunk.columns != columns || chunk.rows != rows) {
            continue;  // behind its own label, or two encoders with one number
        }
        chunk.windows.emplace_back(size_t{sample.row} * columns + sample.column, std::move(kept));
        s.waiting++;
    }
}

void QpOnline::add_blocks(uint64_t camera_number, uint64_t chunk_us, uint32_t columns, uint32_t rows,
                          std::span<const float> weights) {
    State& s = *state_;
    s.counters.labels++;
    const bool sound = columns > 0 && rows > 0 && columns <= most_side / block && rows <= most_side / block &&
                       weights.size() == size_t{columns} * rows &&
                       std::ranges::all_of(weights, [](float w) { return std::isfinite(w) && w >= 0; });
    if (!sound) {
        s.counters.wrong++;
        return;
    }
    const auto found = s.chunks.find({camera_number, chunk_us});
    if (found == s.chunks.end()) {
        const auto known = s.cameras.find(camera_number);
        const uint64_t forgotten_us = known != s.cameras.end() ? known->second.forgotten_us : s.forgotten_us;
        (chunk_us <= forgotten_us ? s.counters.late : s.counters.unmatched)++;
        return;
    }
    State::Chunk& chunk = found->second;
    if (chunk.labelled) {
        s.counters.repeated++;
        return;
    }
    if (chunk.columns != columns || chunk.rows != rows) {
        s.counters.wrong++;
        return;
    }
    BlockMap map = empty_block_map(static_cast<int>(columns * block), static_cast<int>(rows * block));
    std::ranges::copy(weights, map.values.begin());
    map = smoothed(map);
    State::Camera& camera = s.camera(camera_number);
    camera.label = s.counters.labels;
    // What matters is a share of what a camera showed lately, so that one busy chunk has more of it than an empty one.
    // Where some chunks are explored, it is a share of what these showed: in the others, what had the low quality
    // counts for too little, and the rest would be more than its share.
    if (camera.leaning && !chunk.leans) camera.maps.clear();
    if (!chunk.leans || camera.maps.empty() || camera.leaning) {
        camera.leaning = chunk.leans;
        camera.maps.push_back(map);
    }
    if (camera.maps.size() > std::max(s.options.maps, 1U)) camera.maps.erase(camera.maps.begin());
    camera.threshold = value_at_share(camera.maps, s.options.share);
    s.counters.matched++;
    s.waiting -= chunk.windows.size();
    s.waiting++;
    for (auto& [place, window] : chunk.windows) {
        (window->weight > 0 ? s.counters.windows : s.counters.unseen)++;
        if (window->weight <= 0) continue;
        s.add({std::move(window), camera_number, map.values[place]});
    }
    chunk.windows.clear();
    chunk.labelled = true;
}

SupervisedStats QpOnline::train() { return state_->train(); }

std::string QpOnline::step() {
    const SupervisedStats stats = train();
    if (!stats.trained) return {};
    return fmt::format("batch {}: {} windows, loss {:.3f} before they were learned from, change {:.4f}", stats.batch,
                       stats.fresh, stats.error, stats.change);
}

std::vector<float> QpOnline::recent_logits() const {
    const torch::NoGradGuard no_gradients;
    std::vector<const Window*> all;
    for (const WindowPtr& window : state_->recent()) all.push_back(window.get());
    return all.empty() ? std::vector<float>() : numbers_of(logits_of(state_->selector, all));
}

QpOnlineCounters QpOnline::counters() const { return state_->counters; }

ImageFloatModel QpOnline::current() const { return state_->selector.model(); }

float QpOnline::threshold(uint64_t camera) const {
    const auto known = state_->cameras.find(camera);
    return known == state_->cameras.end() ? 0 : known->second.threshold;
}

bool QpOnline::stable() const { return state_->stable(); }

double QpOnline::fidelity_loss(const LearnedModel& active) const {
    const State& s = *state_;
    const auto* model = std::get_if<ImageFloatModel>(&active);
    // What decides by another network has other windows.
    if (model == nullptr || model->network != s.checkpoint.network) return s.recent().empty() ? 0 : 1;
    return mean_difference(s.decisions(), probabilities(SelectorTensors::of(*model, false), s.recent()));
}

bool QpOnline::necessary(const LearnedModel& active) const { return state_->necessary(fidelity_loss(active)); }

std::vector<ImageCodes> QpOnline::recent_pictures() const {
    std::vector<ImageCodes> pictures;
    for (const WindowPtr& window : state_->recent()) pictures.push_back(window->codes);
    return pictures;
}

std::vector<ImageCodes> QpOnline::simulated_pictures(size_t count) const {
    constexpr uint32_t width = 48;  // codes
    constexpr uint32_t height = 36;
    std::mt19937_64 random(1);
    const auto below = [&random](uint32_t limit) { return static_cast<int>(random() % limit); };
    std::vector<ImageCodes> pictures;
    for (size_t n = 0; n < count; n++) {
        // A slope of light, flat areas with sharp edges, of which some move, and the sensor's noise over all.
        const int base = 30 + below(160);
        const int slope_x = below(3) - 1;
        const int slope_y = below(3) - 1;
        struct Area {
            int x, y, w, h, light, dx, dy;
        };
        std::vector<Area> areas(static_cast<size_t>(3 + below(12)));
        for (Area& area : areas) {
            area = {below(width), below(height), 1 + below(12), 1 + below(12), below(256), 0, 0};
            if (below(3) == 0) {
                area.dx = below(5) - 2;
                area.dy = below(5) - 2;
            }
        }
        const int noise = 1 + below(6);
        const auto picture = [&](int moved) {
            std::vector<adp_u8> luma(size_t{width} * height);
            for (int y = 0; y < static_cast<int>(height); y++)
                for (int x = 0; x < static_cast<int>(width); x++) {
                    int light = base + slope_x * x + slope_y * y;
                    for (const Area& area : areas) {
                        const int left = area.x - moved * area.dx;
                        const int top = area.y - moved * area.dy;
                        if (x >= left && x < left + area.w && y >= top && y < top + area.h) light = area.light;
                    }
                    light += below(static_cast<uint32_t>(2 * noise + 1)) - noise;
                    luma[static_cast<size_t>(y) * width + static_cast<size_t>(x)] =
                        static_cast<adp_u8>(std::clamp(light, 0, 255));
                }
            return luma;
        };
        const std::vector<adp_u8> before = picture(1);
        const std::vector<adp_u8> now = picture(0);
        ImageCodes codes{{width, height}, now};
        codes.codes.resize(size_t{ADP_QP_PLANES} * now.size());
        adp_qp_change(now.data(), before.data(), static_cast<adp_u32>(now.size()), codes.codes.data() + now.size());
        pictures.push_back(std::move(codes));
    }
    return pictures;
}

void QpOnline::restart_from(const LearnedModel& model) {
    State& s = *state_;
    const auto* image = std::get_if<ImageFloatModel>(&model);
    if (image == nullptr || image->network != s.checkpoint.network) return;
    s.selector = SelectorTensors::of(*image, true);
    s.make_optimiser();
    s.forget();
}

Status QpOnline::save(const std::string& directory) const {
    const std::string path = fmt::format("{}/{}", directory, file_name);
    // Whole or not at all: the next start reads it.
    if (Status written = write_selector(current(), path + ".new"); !written) return written;
    std::error_code error;
    std::filesystem::rename(path + ".new", path, error);
    return error ? Status(Error{fmt::format("{}: {}", path, error.message())}) : Status();
}

std::string QpOnline::progress() const {
    const QpOnlineCounters& n = state_->counters;
    return fmt::format("{} labels for {} windows ({} unseen, {} unmatched, {} late, {} wrong), {} batches, loss {:.3f}",
                       n.labels, n.windows, n.unseen, n.unmatched, n.late, n.wrong, state_->last().batch,
                       state_->last().error);
}

}  // namespace adapath
