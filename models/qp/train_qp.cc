// adapath-train-qp: trains the quality selector on the later half of a clip and judges it on the earlier one.
//
// Labels are accuracy gradients of the server's vision network, which cost far more than the training; they are kept in
// a file of JSON lines, so that a run goes on where the last one was stopped.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "codegen/file_bytes.h"
#include "codegen/version.h"
#include "models/detector/detector.h"
#include "models/qp/labels.h"
#include "models/qp/selector.h"
#include "models/qp/selector_training.h"
#include "userspace/common/file.h"
#include "userspace/common/json_lines.h"
#include "userspace/detect/pictures.h"
#include "userspace/qp/cameras.h"
#include "userspace/video/decoder.h"
#include "userspace/video/region_encoder.h"

namespace {

using namespace adapath;
using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

struct Options {
    std::string clip;
    std::string detector;
    std::string out = "models/qp";
    std::string cache = "models/qp/.training/labels.jsonl";
    uint64_t seed = 1;
    uint32_t steps = 3000;
    double share = 0.2;
    int high_qp = 30;
    int low_qp = 45;
    uint64_t every = 3;
    int threads = 2;
};

constexpr uint32_t group = 10;  // pictures of a chunk
// Frames between the two halves that belong to neither: people walk on.
constexpr uint64_t gap = 30;

struct Chunk {
    uint64_t first = 0;
    bool late = false;
    BlockMap gradients;
};

struct View {
    std::string name;
    Regime::View view;
    uint64_t late_apart;  // frames from a chunk's start to the next one's
    uint64_t early_apart;
    std::vector<Chunk> chunks;
    float threshold = 0;  // of smoothed gradients, over the late chunks
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Computed labels, by all that they depend on.
class Labels {
public:
    static Result<Labels> open(const std::string& path) {
        Labels labels;
        std::error_code ignored;
        std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
        std::ifstream in(path);
        Status taken = read_json_lines(in, path, [&labels](const Json& json) -> Status {
            labels.known_[json.at("key")] = json.at("values").get<std::vector<float>>();
            return {};
        });
        if (!taken) return Error{taken.error().message + ": not a label of this program; move the file away"};
        labels.out_.open(path, std::ios::app);
        if (!labels.out_) return Error{path + ": cannot be written"};
        return labels;
    }
    const std::vector<float>* find(const std::string& key) const {
        const auto found = known_.find(key);
        return found == known_.end() ? nullptr : &found->second;
    }
    void add(const std::string& key, const std::vector<float>& values) {
        out_ << "\n" << Json{{"key", key}, {"values", values}}.dump() << std::flush;
    }

private:
    std::map<std::string, std::vector<float>> known_;
    std::ofstream out_;
};

Result<BlockMap> compute(Detector& detector, const video::Clip& clip, uint64_t first, const Options& options) {
    std::vector<std::vector<Image>> pictures;
    for (int qp : {options.low_qp, options.high_qp}) {
        auto encoder = video::RegionEncoder::open(clip.size());
        if (!encoder) return encoder.error();
        if (Status s = encoder->begin_chunk(qp); !s) return s.error();
        auto coded = video::code_chunk(*encoder, clip, first, group);
        if (!coded) return coded.error();
        auto decoded = video::Clip::from_i420(std::move(coded->i420), clip.size());
        if (!decoded) return decoded.error();
        auto list = images(*decoded, 0, group);
        if (!list) return list.error();
        pictures.push_back(std::move(*list));
    }
    return object_gradients(detector, pictures[0], pictures[1], options.every);
}

Status label(View& view, const video::Clip& clip, Detector& detector, Labels& labels, const Options& options) {
    const uint64_t half = clip.pictures() / 2;
    if (half < gap + 2 * group)
        return Error{fmt::format("{}: {} frames are too few to train on", options.clip, clip.pictures())};
    for (uint64_t first = half + gap; first + group <= clip.pictures(); first += view.late_apart)
        view.chunks.push_back({first, true, {}});
    for (uint64_t first = 1; first + group <= half; first += view.early_apart)
        view.chunks.push_back({first, false, {}});
    const auto start = Clock::now();
    size_t done = 0;
    size_t computed = 0;
    for (Chunk& chunk : view.chunks) {
        const std::string key = fmt::format("{} {} {} {} {} {} {}", options.clip, options.detector, view.name,
                                            chunk.first, options.high_qp, options.low_qp, options.every);
        if (const std::vector<float>* known = labels.find(key)) {
            chunk.gradients = empty_block_map(clip.size().width, clip.size().height);
            if (known->size() != chunk.gradients.values.size())
                return Error{fmt::format("{}: labels of another picture size; remove it", options.cache)};
            chunk.gradients.values = *known;
        } else {
            auto map = compute(detector, clip, chunk.first, options);
            if (!map) return map.error();
            labels.add(key, map->values);
            chunk.gradients = std::move(*map);
            computed++;
        }
        done++;
        fmt::print(stderr, "\rlabels, {}: {} of {} chunks{}", view.name, done, view.chunks.size(),
                   computed == 0
                       ? ""
                       : fmt::format(", {:.0f} s to go ", seconds_since(start) / static_cast<double>(computed) *
                                                              static_cast<double>(view.chunks.size() - done)));
    }
    fmt::print(stderr, "\n");
    std::vector<BlockMap> late;
    for (Chunk& chunk : view.chunks) {
        chunk.gradients = smoothed(chunk.gradients);
        if (chunk.late) late.push_back(chunk.gradients);
    }
    view.threshold = value_at_share(late, options.share);
    return {};
}

struct Judged {
    std::string name;
    bool late;
    double precision;
    double recall;
    double precision_near;  // right or beside a right one
    double recall_near;     // found or beside a found one
    double share;
    size_t chunks;
};

// Blocks whose logit is at least 0 against blocks over the threshold.
Result<Judged> judge(const ImageFloatModel& model, const View& view, const video::Clip& clip, bool late) {
    Agreement sum;
    uint64_t near_guess = 0;
    uint64_t near_truth = 0;
    Judged result{view.name, late, 0, 0, 0, 0, 0, 0};
    const video::Size size = clip.size();
    for (const Chunk& chunk : view.chunks) {
        if (chunk.late != late) continue;
        auto logits = selector_logits(model, selector_codes(clip, chunk.first), size.width, size.height);
        if (!logits) return logits.error();
        sum += agreement(chunk.gradients, view.threshold, *logits, 0);
        auto truth = video::choose_blocks(chunk.gradients.values, size, {view.threshold, 0});
        auto guess = video::choose_blocks(logits->values, size, {0, 0});
        if (!truth) return truth.error();
        if (!guess) return guess.error();
        const video::BlockMask wide_truth = video::dilated(*truth, 1);
        const video::BlockMask wide_guess = video::dilated(*guess, 1);
        for (size_t i = 0; i < truth->high.size(); i++) {
            near_guess += guess->high[i] != 0 && wide_truth.high[i] != 0 ? 1 : 0;
            near_truth += truth->high[i] != 0 && wide_guess.high[i] != 0 ? 1 : 0;
        }
        result.share += guess->share();
        result.chunks++;
    }
    result.precision = sum.precision();
    result.recall = sum.recall();
    result.precision_near =
        static_cast<double>(near_guess) / std::max(1.0, static_cast<double>(sum.both + sum.only_guess));
    result.recall_near =
        static_cast<double>(near_truth) / std::max(1.0, static_cast<double>(sum.both + sum.only_truth));
    result.share /= static_cast<double>(std::max<size_t>(1, result.chunks));
    return result;
}

std::string card(const Options& options, const std::vector<Judged>& judged, size_t samples, uint32_t steps, double loss,
                 double training_s) {
    size_t parameters = 0;
    for (const ImageLayerShape& layer : selector_network().layers) {
        const size_t inputs = layer.kind == ImageLayerKind::depthwise ? 1 : layer.inputs;
        if (layer.kind != ImageLayerKind::pool)
            parameters += size_t{layer.outputs} * (inputs * layer.kernel * layer.kernel + 1);
    }
    std::string text = "# qp: the quality selector\n\nWritten by `adapath-train-qp`; do not edit.\n\n";
    text += fmt::format("- Network: {}; {} parameters. Inputs: include/adapath/qp.h, one logit a macroblock.\n",
                        describe(selector_network()), parameters);
    text += fmt::format(
        "- Labels: accuracy gradients of {} on {} (the later half of its frames), chunks of {} pictures, every {}th "
        "looked "
        "at, quantisers {} and {}; smoothed over 3x3 blocks, the top {:g} % of each view's blocks are worth it.\n",
        std::filesystem::path(options.detector).filename().string(),
        std::filesystem::path(options.clip).filename().string(), group, options.every, options.low_qp, options.high_qp,
        options.share * 100);
    text +=
        fmt::format("- Training: {} chunks, {} batches of 8, seed {}, {:.0f} s on {} threads, last loss {:.3f}.\n\n",
                    samples, steps, options.seed, training_s, options.threads, loss);
    text +=
        "Blocks with a logit of at least 0, against those over the gradients' own threshold. Beside: or next to "
        "one.\n\n"
        "| view | frames | chunks | precision | recall | precision, beside | recall, beside | chosen |\n"
        "|---|---|---|---|---|---|---|---|\n";
    for (const Judged& j : judged)
        text += fmt::format("| {} | {} | {} | {:.3f} | {:.3f} | {:.3f} | {:.3f} | {:.1f} % |\n", j.name,
                            j.late ? "late (trained on)" : "early", j.chunks, j.precision, j.recall, j.precision_near,
                            j.recall_near, j.share * 100);
    return text;
}

Status run(const Options& options) {
    prepare_process(options.threads);
    auto detector = open_detector(options.detector);
    if (!detector) return detector.error();
    auto labels = Labels::open(options.cache);
    if (!labels) return labels.error();

    std::vector<View> views{{"half", Regime::View::half, 5, 20, {}},
                            {"pan", Regime::View::pan, 5, 20, {}},
                            {"native", Regime::View::native, 15, 60, {}}};
    std::vector<video::Clip> cameras;
    std::vector<SelectorSample> samples;
    for (View& view : views) {
        auto clip = open_camera(options.clip, view.view);
        if (!clip) return clip.error();
        if (Status s = label(view, *clip, **detector, *labels, options); !s) return s;
        for (const Chunk& chunk : view.chunks) {
            if (!chunk.late) continue;
            SelectorSample sample{selector_codes(*clip, chunk.first), chunk.gradients};
            for (float& value : sample.truth.values) value = value >= view.threshold ? 1 : 0;
            samples.push_back(std::move(sample));
        }
        cameras.push_back(std::move(*clip));
    }

    SelectorTraining training;
    training.seed = options.seed;
    training.steps = options.steps;
    training.threads = options.threads;
    const auto start = Clock::now();
    double last_loss = 0;
    training.progress = [&](uint32_t step, double loss) {
        last_loss = loss;
        fmt::print(stderr, "\rtraining: batch {} of {}, loss {:.4f}, {:.0f} s to go ", step, options.steps, loss,
                   seconds_since(start) / step * (options.steps - step));
        return true;
    };
    const ImageFloatModel model = train_selector(samples, training);
    const double training_s = seconds_since(start);
    fmt::print(stderr, "\n");

    std::vector<Judged> judged;
    for (size_t v = 0; v < views.size(); v++)
        for (bool late : {false, true}) {
            auto one = judge(model, views[v], cameras[v], late);
            if (!one) return one.error();
            judged.push_back(*one);
        }
    const std::string text = card(options, judged, samples.size(), options.steps, last_loss, training_s);
    fmt::print("{}", text);
    if (Status s = write_selector(model, options.out + "/selector.json"); !s) return s;
    return write_file(options.out + "/CARD.md", text);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app(
        "Trains the quality selector on the later half of a clip, judges it on the earlier half, and writes the "
        "checkpoint and its card.\nExit codes: 0 done, 1 failed, 2 wrong usage.");
    app.set_version_flag("--version", adapath::kVersion);
    Options options;
    options.clip = adapath::fetched_file("clip/vtest.avi");
    options.detector = adapath::fetched_file("detector/centernet.json");
    app.add_option("--clip", options.clip, "Video")->capture_default_str();
    app.add_option("--detector", options.detector, "The server's vision network, *.json or *.pt")
        ->capture_default_str();
    app.add_option("--out", options.out, "Folder for selector.json and CARD.md")->capture_default_str();
    app.add_option("--labels", options.cache, "File that keeps the labels from run to run")->capture_default_str();
    app.add_option("--seed", options.seed, "Seed")->capture_default_str();
    app.add_option("--steps", options.steps, "Batches")->check(CLI::Range(1, 1000000))->capture_default_str();
    app.add_option("--share", options.share, "Share of blocks that are worth the high quality")
        ->check(CLI::Range(0.01, 0.9))
        ->capture_default_str();
    app.add_option("--high-qp", options.high_qp, "Quantiser of the high quality")
        ->check(CLI::Range(1, 51))
        ->capture_default_str();
    app.add_option("--low-qp", options.low_qp, "And of the low one")->check(CLI::Range(1, 51))->capture_default_str();
    app.add_option("--every", options.every, "Look at every n-th picture of a chunk")
        ->check(CLI::Range(1, 10))
        ->capture_default_str();
    app.add_option("--threads", options.threads, "LibTorch's threads")
        ->check(CLI::Range(1, 256))
        ->capture_default_str();
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    adapath::video::quiet_libav();
    if (Status s = run(options); !s) {
        fmt::print(stderr, "adapath-train-qp: {}\n", s.error().message);
        return 1;
    }
    return 0;
}
