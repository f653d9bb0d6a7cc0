// adapath-qp-bench: rate and accuracy of region quality. Chunks of the clip's earlier half (the selector was trained on
// the later one) are encoded at one quality, and at two with masks chosen in several ways; the detector looks at what
// comes back, and its F1 against what it finds in the best quality is held against the bytes.
//
// A measurement is what a chunk cost and the boxes that the detector found in what came back, so that F1 against
// another quality needs no new run. Every measurement is a JSON line in --out; a run goes on where the last one was
// stopped, chunk by chunk over all settings, so that a stopped run has a report too.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/qp/dds.h"
#include "codegen/version.h"
#include "models/detector/accuracy.h"
#include "models/detector/detector.h"
#include "models/qp/labels.h"
#include "models/qp/selector.h"
#include "userspace/common/file.h"
#include "userspace/common/json_lines.h"
#include "userspace/qp/cameras.h"
#include "userspace/qp/rate_accuracy.h"
#include "userspace/video/background.h"
#include "userspace/video/decoder.h"
#include "userspace/video/region_encoder.h"

namespace {

using namespace adapath;
using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

struct Options {
    std::string clip;
    std::string detector;
    std::string selector = "models/qp/selector.json";
    std::string out = "out/qp/measured.jsonl";
    std::vector<std::string> regimes;
    std::vector<std::string> masks{"selector", "boxes", "gradient", "dds", "background"};
    float threshold = 0;
    int dilation = 0;
    double share = 0.2;
    std::vector<double> scores{0.3};
    std::vector<double> limits;  // AccuracyOptions: score, found, sure; empty: those of `scores`
    std::vector<int> shown;      // empty: first_shown_qp to last_shown_qp
    int background_qp = 0;       // 0: background_quality()'s
    bool late = false;
    bool fixed_high = false;
    int gap = 8;
    int reference_qp = 20;  // best_qp
    uint64_t chunks = 0;

    int threads = 1;
    bool report_only = false;
};

constexpr int first_uniform_qp = 28;
constexpr int last_uniform_qp = 50;
constexpr int first_high_qp = 30;
constexpr int last_high_qp = 42;
constexpr int high_qp_step = 2;
// What moves before a remembered background: the background keeps F1 up, so quantisers go further.
constexpr int first_shown_qp = 34;
constexpr int last_shown_qp = 48;
// The quality that F1 is held against by default (--reference-qp), and whose boxes choose blocks.
constexpr int best_qp = 20;
constexpr int fixed_high_step = 2;
constexpr int most_qp = 51;

// What one setting made of one chunk.
struct Measurement {
    uint64_t bytes = 0;
    std::vector<std::vector<Box>> seen;  // in each picture that was looked at
};

// Measurements on disk: one object a line, found again by its key.
class Measurements {
public:
    static Result<Measurements> open(const std::string& path) {
        Measurements m;
        std::error_code ignored;
        std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
        std::ifstream in(path);
        Status taken = read_json_lines(in, path, [&m](const Json& json) -> Status {
            Measurement one{json.at("bytes"), {}};
            for (const Json& picture : json.at("seen")) {
                std::vector<Box>& boxes = one.seen.emplace_back();
                for (const Json& b : picture) boxes.push_back({b.at(0), b.at(1), b.at(2), b.at(3), b.at(4), b.at(5)});
            }
            m.known_[json.at("key")] = std::move(one);
            return {};
        });
        if (!taken) return Error{taken.error().message + ": not a measurement of this program; move the file away"};
        m.out_.open(path, std::ios::app);
        if (!m.out_) return Error{path + ": cannot be written"};
        return m;
    }
    [[nodiscard]] const Measurement* find(const std::string& key) const {
        const auto found = known_.find(key);
        return found == known_.end() ? nullptr : &found->second;
    }
    Status add(const std::string& key, Measurement one) {
        Json seen = Json::array();
        for (const std::vector<Box>& boxes : one.seen) {
            Json picture = Json::array();
            for (const Box& b : boxes) picture.push_back({b.x0, b.y0, b.x1, b.y1, b.score, b.class_id});
            seen.push_back(std::move(picture));
        }
        out_ << "\n" << Json{{"key", key}, {"bytes", one.bytes}, {"seen", std::move(seen)}}.dump() << std::flush;
        if (!out_) return Error{"a measurement could not be written"};
        known_[key] = std::move(one);
        return {};
    }

private:
    std::map<std::string, Measurement> known_;
    std::ofstream out_;
};

// One way to encode a chunk.
struct Setting {
    std::string mask;  // "uniform", or who chooses the blocks
    video::QualityPair quality;
};

std::vector<Setting> settings_of(const Regime& regime, const std::string& mask, const Options& options) {
    std::vector<Setting> settings;
    if (mask == "uniform") {
        // With a fixed high quality nothing is better than that. At native size the detector takes five times as long.
        const int step = regime.view == Regime::View::native ? 2 : 1;
        for (int qp = options.fixed_high ? options.reference_qp : first_uniform_qp; qp <= last_uniform_qp; qp += step)
            settings.push_back({mask, {qp, qp}});
        return settings;
    }
    if (mask == "background") {
        for (int qp = first_shown_qp; qp <= last_shown_qp; qp += high_qp_step)
            if (options.shown.empty() ||
                std::find(options.shown.begin(), options.shown.end(), qp) != options.shown.end())
                settings.push_back({mask, {qp, video::background_quality(qp).recalled}});
        return settings;
    }
    if (options.fixed_high) {
        for (int low = options.reference_qp + fixed_high_step; low <= most_qp; low += fixed_high_step)
            settings.push_back({mask, {options.reference_qp, low}});
        return settings;
    }
    for (int qp = first_high_qp; qp <= last_high_qp; qp += high_qp_step)
        settings.push_back({mask, {qp, std::min(most_qp, qp + options.gap)}});
    return settings;
}

video::BackgroundQuality background_of(const Setting& setting, const Options& options) {
    video::BackgroundQuality quality = video::background_quality(setting.quality.high);
    if (options.background_qp != 0) quality.remembered = options.background_qp;
    return quality;
}

// Every which picture of a chunk is looked at: neighbours are much alike.
uint64_t every(const Regime& regime) { return regime.group > 10 ? 5 : 3; }

std::string key_of(const Regime& regime, uint64_t first, const Setting& setting, const Options& options) {
    std::string key =
        fmt::format("{} {} {} {} {}", std::filesystem::path(options.clip).filename().string(),
                    std::filesystem::path(options.detector).filename().string(), regime.name, first, setting.mask);
    if (setting.mask == "selector")
        key += fmt::format("({},{},{})", std::filesystem::path(options.selector).string(), options.threshold,
                           options.dilation);
    if (setting.mask == "gradient") key += fmt::format("({})", options.share);
    // What is remembered comes from the chunks before.
    if (setting.mask == "background")
        key += fmt::format("({},{})", background_of(setting, options).remembered, options.chunks);
    return key + fmt::format(" {}/{}", setting.quality.high, setting.quality.low);
}

// Chunks of the earlier half (or the later one). Their starts are evenly apart, the first one picture into the clip.
std::vector<uint64_t> chunks_of(const Regime& regime, uint32_t pictures, const Options& options) {
    const uint64_t half = pictures / 2;
    uint64_t wanted = options.chunks;
    if (wanted == 0) wanted = regime.view == Regime::View::native ? (regime.group > 10 ? 12 : 20) : 36;
    std::vector<uint64_t> firsts;
    if (half <= regime.group + 1) return firsts;
    const uint64_t apart =
        std::max<uint64_t>(regime.group, (half - regime.group - 1) / std::max<uint64_t>(1, wanted - 1));
    for (uint64_t first = 1; first + regime.group <= half && firsts.size() < wanted; first += apart)
        firsts.push_back(options.late ? half + first : first);
    return firsts;
}

// The chunks, one after the other, as one stream with a background that the server remembers: what the sender notes of
// each picture, whatever the quality, and what the server remembers in each.
class Stream {
public:
    Stream(const video::Clip& clip, const Regime& regime) : clip_(clip), regime_(regime), plan_(clip.size()) {}

    // Of the next chunk: their pictures' notes, and the bytes of all of them.
    std::pair<std::vector<video::PictureNote>, uint64_t> next(uint64_t first) {
        std::vector<video::PictureNote> notes;
        uint64_t bytes = 0;
        for (uint64_t i = 0; i < regime_.group; i++) {
            notes.push_back(plan_.next(clip_.picture(first + i), i == 0));
            bytes += video::write_note(notes.back(), video::empty_block_mask(clip_.size()).columns, before_).size();
            before_ = notes.back().blocks;
        }
        return {std::move(notes), bytes};
    }
    video::BackgroundView& view(const video::QualityPair& quality) {
        return views_.try_emplace({quality.high, quality.low}, clip_.size()).first->second;
    }

private:
    const video::Clip& clip_;
    const Regime& regime_;
    video::BackgroundPlan plan_;
    std::vector<video::BlockUse> before_;
    std::map<std::pair<int, int>, video::BackgroundView> views_;
};

// What is needed once for all settings of a chunk.
class ChunkBench {
public:
    ChunkBench(const video::Clip& clip, const Regime& regime, uint64_t first, Detector& detector,
               const ImageFloatModel& selector, Stream& stream, const Options& options)
        : clip_(clip),
          regime_(regime),
          first_(first),
          detector_(detector),
          selector_(selector),
          stream_(stream),
          options_(options),
          notes_(stream.next(first)) {}

    // What the server remembers is needed even if the measurement is known.
    Status pass(const Setting& setting) {
        if (setting.mask != "background") return {};
        auto pictures = coded(setting);
        return pictures ? Status{} : Status{pictures.error()};
    }

    Result<Measurement> measure(const Setting& setting) {
        if (setting.mask == "dds") {
            auto both = dds_chunk(detector_, clip_, first_, regime_.group, every(regime_), setting.quality);
            if (!both) return both.error();
            return Measurement{both->bytes, std::move(both->seen)};
        }
        auto pictures = coded(setting);
        if (!pictures) return pictures.error();
        Measurement one{pictures->second, {}};
        for (const Image& image : pictures->first) {
            auto boxes = detector_.detect(image);
            if (!boxes) return boxes.error();
            one.seen.push_back(std::move(*boxes));
        }
        return one;
    }

private:
    // The pictures that are looked at, decoded, and the bytes of all.
    Result<std::pair<std::vector<Image>, uint64_t>> coded(const Setting& setting) {
        auto encoder = video::RegionEncoder::open(clip_.size());
        if (!encoder) return encoder.error();
        auto chunk = this->chunk(*encoder, setting);
        if (!chunk) return chunk.error();
        const uint64_t bytes = chunk->bytes;
        auto decoded = video::Clip::from_i420(std::move(chunk->i420), clip_.size());
        if (!decoded) return decoded.error();
        std::vector<Image> list;
        for (uint64_t i = 0; i < regime_.group; i += every(regime_)) {
            auto image = images(*decoded, i, 1);
            if (!image) return image.error();
            list.push_back(std::move(image->front()));
        }
        return std::pair{std::move(list), bytes};
    }

    Result<video::CodedChunk> chunk(video::RegionEncoder& encoder, const Setting& setting) {
        if (setting.mask == "background") {
            auto chunk = video::code_chunk(encoder, clip_, first_, notes_.first, background_of(setting, options_),
                                           stream_.view(setting.quality));
            if (chunk) chunk->bytes += notes_.second;
            return chunk;
        }
        Status begun;
        if (setting.mask == "uniform") {
            begun = encoder.begin_chunk(setting.quality.high);
        } else {
            auto mask = this->mask(setting.mask);
            if (!mask) return mask.error();
            begun = encoder.begin_chunk(setting.quality, *mask);
        }
        if (!begun) return begun.error();
        return video::code_chunk(encoder, clip_, first_, regime_.group);
    }

    Result<video::BlockMask> mask(const std::string& who) {
        if (const auto known = masks_.find(who); known != masks_.end()) return known->second;
        auto made = who == "selector" ? by_selector() : who == "boxes" ? by_boxes() : by_gradient();
        if (made) masks_[who] = *made;
        return made;
    }

    Result<video::BlockMask> by_selector() {
        auto logits =
            selector_logits(selector_, selector_codes(clip_, first_), clip_.size().width, clip_.size().height);
        if (!logits) return logits.error();
        return video::choose_blocks(logits->values, clip_.size(), {options_.threshold, options_.dilation});
    }

    // All blocks that an object touches in any picture that is looked at, and one around.
    Result<video::BlockMask> by_boxes() {
        auto best = measure({"uniform", {best_qp, best_qp}});
        if (!best) return best.error();
        video::BlockMask mask = video::empty_block_mask(clip_.size());
        constexpr int side = video::BlockMask::block;
        for (const std::vector<Box>& boxes : best->seen)
            for (const Box& box : boxes) {
                const int x1 = std::min(mask.columns - 1, static_cast<int>(box.x1) / side);
                const int y1 = std::min(mask.rows - 1, static_cast<int>(box.y1) / side);
                for (int y = static_cast<int>(box.y0) / side; y <= y1; y++)
                    for (int x = static_cast<int>(box.x0) / side; x <= x1; x++)
                        mask.high[static_cast<size_t>(y * mask.columns + x)] = 1;
            }
        return video::dilated(mask, 1);
    }

    // The chunk's own accuracy gradients: what a perfect selector would choose.
    Result<video::BlockMask> by_gradient() {
        auto low = coded({"uniform", {45, 45}});
        if (!low) return low.error();
        auto high = coded({"uniform", {30, 30}});
        if (!high) return high.error();
        auto map = object_gradients(detector_, low->first, high->first, 1);
        if (!map) return map.error();
        const BlockMap smooth = smoothed(*map);
        return video::choose_blocks(smooth.values, clip_.size(), {value_at_share({&smooth, 1}, options_.share), 0});
    }

    const video::Clip& clip_;
    const Regime& regime_;
    uint64_t first_;
    Detector& detector_;
    const ImageFloatModel& selector_;
    Stream& stream_;
    const Options& options_;

    std::pair<std::vector<video::PictureNote>, uint64_t> notes_;  // and their bytes
    std::map<std::string, video::BlockMask> masks_;
};

std::vector<Regime> wanted_regimes(const Options& options) {
    std::vector<Regime> wanted;
    for (const Regime& regime : regimes())
        if (options.regimes.empty() ||
            std::find(options.regimes.begin(), options.regimes.end(), regime.name) != options.regimes.end())
            wanted.push_back(regime);
    return wanted;
}

Status measure(const Regime& regime, const video::Clip& clip, Detector& detector, const ImageFloatModel& selector,
               const Options& options, Measurements& measurements) {
    std::vector<Setting> settings = settings_of(regime, "uniform", options);
    settings.push_back({"uniform", {best_qp, best_qp}});
    for (const std::string& mask : options.masks) {
        const std::vector<Setting> more = settings_of(regime, mask, options);
        settings.insert(settings.end(), more.begin(), more.end());
    }
    const std::vector<uint64_t> firsts = chunks_of(regime, clip.pictures(), options);
    if (firsts.empty()) return Error{fmt::format("{}: {} frames are too few", options.clip, clip.pictures())};
    const auto start = Clock::now();
    size_t done = 0;
    size_t measured = 0;
    Stream stream(clip, regime);
    for (uint64_t first : firsts) {
        ChunkBench bench(clip, regime, first, detector, selector, stream, options);
        for (const Setting& setting : settings) {
            const std::string key = key_of(regime, first, setting, options);
            if (measurements.find(key) == nullptr) {
                auto one = bench.measure(setting);
                if (!one) return one.error();
                if (Status s = measurements.add(key, std::move(*one)); !s) return s;
                measured++;
            } else if (Status s = bench.pass(setting); !s) {
                return s;
            }
            done++;
        }
        const double spent = std::chrono::duration<double>(Clock::now() - start).count();
        fmt::print(stderr, "\r{}: {} of {} measurements{} ", regime.name, done, firsts.size() * settings.size(),
                   measured == 0 ? ""
                                 : fmt::format(", {:.0f} s to go",
                                               spent / static_cast<double>(measured) *
                                                   static_cast<double>(firsts.size() * settings.size() - done)));
    }
    fmt::print(stderr, "\n");
    return {};
}

std::vector<AccuracyOptions> limits_of(const Options& options) {
    std::vector<AccuracyOptions> limits;
    if (options.limits.size() == 3) {
        limits.push_back({.score = options.limits[0], .sure = options.limits[2], .found = options.limits[1]});
        return limits;
    }
    for (double score : options.scores) limits.push_back({.score = score});
    return limits;
}

// The chunks for which every setting of the mask and of uniform quality is measured.
std::vector<TrialChunk> trial_of(const Regime& regime, const std::string& mask, uint32_t pictures,
                                 const Options& options, const Measurements& measurements) {
    std::vector<TrialChunk> trial;
    for (uint64_t first : chunks_of(regime, pictures, options)) {
        const int qp = options.reference_qp;
        const Measurement* reference = measurements.find(key_of(regime, first, {"uniform", {qp, qp}}, options));
        TrialChunk chunk;
        bool whole = reference != nullptr;
        for (const std::string& one : {std::string("uniform"), mask})
            for (const Setting& setting : settings_of(regime, one, options)) {
                const Measurement* measured = measurements.find(key_of(regime, first, setting, options));
                if (!whole || measured == nullptr || measured->seen.size() != reference->seen.size()) {
                    whole = false;
                    continue;
                }
                RatePoint point{static_cast<double>(measured->bytes), {}, {}};
                for (size_t i = 0; i < measured->seen.size(); i++)
                    for (const AccuracyOptions& limits : limits_of(options))
                        point.add_picture(match(reference->seen[i], measured->seen[i], limits));
                (one == "uniform" ? chunk.uniform : chunk.region).push_back(point);
            }
        if (whole) trial.push_back(std::move(chunk));
    }
    return trial;
}

std::string percent(double value) { return fmt::format("{:+.1f} %", value * 100); }

std::string median(const Result<Saving>& saved) { return saved ? percent(saved->median) : "no common F1"; }

// The rule decides on one part of the camera's chunks and is held to the other, by both kinds of F1, both ways round.
std::string fallback_row(const std::vector<TrialChunk>& trial) {
    std::string text;
    const size_t middle = trial.size() / 2;
    const std::span<const TrialChunk> all(trial);
    for (bool turned : {false, true}) {
        const auto seen = turned ? all.subspan(middle) : all.first(middle);
        const auto held = turned ? all.first(middle) : all.subspan(middle);
        const Verdict verdict = judge_trial(seen);
        text += fmt::format(" {} (saved {}, worst third {}, sure {:.2f}): {} |", verdict.pays ? "regions" : "uniform",
                            percent(verdict.saving), percent(verdict.worst), verdict.certainty,
                            !verdict.pays ? "0 %"
                                          : fmt::format("pooled {}, mean {}", median(saving(held, F1Kind::pooled)),
                                                        median(saving(held, F1Kind::mean))));
    }
    const Verdict verdict = judge_trial(all);
    return text + fmt::format(" {} (sure {:.2f}) |", verdict.pays ? "regions" : "uniform", verdict.certainty);
}

void report(const std::vector<std::pair<Regime, uint32_t>>& measured, const Options& options,
            const Measurements& measurements) {
    std::string curves;
    std::string savings =
        "| regime | blocks by | chunks | F1 | saving, median | at each F1 level, low to high "
        "|\n|---|---|---|---|---|---|\n";
    std::string fallback =
        "| regime | blocks by | seen first half: then on the second | seen second half: then on the first | seen all "
        "|\n|---|---|---|---|---|\n";
    for (const auto& [regime, pictures] : measured) {
        bool uniform_shown = false;
        for (const std::string& mask : options.masks) {
            const std::vector<TrialChunk> trial = trial_of(regime, mask, pictures, options, measurements);
            if (trial.empty()) continue;
            std::vector<RatePoint> uniform(trial[0].uniform.size());
            std::vector<RatePoint> region(trial[0].region.size());
            for (const TrialChunk& chunk : trial) {
                for (size_t i = 0; i < uniform.size(); i++) uniform[i] += chunk.uniform[i];
                for (size_t i = 0; i < region.size(); i++) region[i] += chunk.region[i];
            }
            auto row = [&](const std::string& name, const std::vector<RatePoint>& points) {
                const std::vector<Setting> settings = settings_of(regime, name, options);
                for (size_t i = 0; i < points.size(); i++)
                    curves += fmt::format(
                        "| {} | {} | {}/{} | {:.0f} | {:.3f} | {:.3f} |\n", regime.name, name, settings[i].quality.high,
                        settings[i].quality.low,
                        points[i].bytes / static_cast<double>(trial.size()) / static_cast<double>(regime.group),
                        points[i].f1(F1Kind::pooled), points[i].f1(F1Kind::mean));
            };
            if (!uniform_shown) row("uniform", uniform);
            uniform_shown = true;
            row(mask, region);
            for (const F1Kind kind : {F1Kind::pooled, F1Kind::mean}) {
                auto saved = saving(trial, kind);
                std::string levels;
                if (saved)
                    for (const Saving::Level& level : saved->levels)
                        levels += fmt::format("{:.2f}: {:+.0f} ", level.f1, level.saving * 100);
                savings += fmt::format("| {} | {} | {} | {} | {} | {} |\n", regime.name, mask, trial.size(),
                                       kind == F1Kind::pooled ? "pooled" : "mean",
                                       saved ? percent(saved->median) : saved.error().message, levels);
            }
            fallback += fmt::format("| {} | {} |{}\n", regime.name, mask, fallback_row(trial));
        }
    }
    fmt::print(
        "## Saving in bytes at equal F1, against uniform quality\n\n"
        "F1 over several pictures: pooled, of their counts added up; mean, of each one's own, as AccMPEG measures it."
        "\n\n{}\n## The fallback\n\nIt judges by the pooled F1.\n\n{}\n## Curves\n\n"
        "| regime | blocks by | quantisers | bytes a picture | pooled F1 | mean F1 |\n|---|---|---|---|---|---|\n{}",
        savings, fallback, curves);
}

Status run(const Options& options) {
    prepare_process(options.threads);
    auto measurements = Measurements::open(options.out);
    if (!measurements) return measurements.error();
    auto detector = open_detector(options.detector);
    if (!detector) return detector.error();
    auto selector = read_selector(options.selector);
    if (!selector) return selector.error();
    std::vector<std::pair<Regime, uint32_t>> measured;
    for (const Regime& regime : wanted_regimes(options)) {
        auto clip = open_camera(options.clip, regime.view);
        if (!clip) return clip.error();
        measured.emplace_back(regime, clip->pictures());
        if (options.report_only) continue;
        if (Status s = measure(regime, *clip, **detector, *selector, options, *measurements); !s) return s;
    }
    report(measured, options, *measurements);
    return {};
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app(
        "Measures what region quality saves at equal accuracy, in several regimes, and prints a report.\n"
        "Exit codes: 0 done, 1 failed, 2 wrong usage.");
    app.set_version_flag("--version", adapath::kVersion);
    Options options;
    options.clip = adapath::fetched_file("clip/vtest.avi");
    options.detector = adapath::fetched_file("detector/centernet.json");
    std::vector<std::string> names;
    for (const Regime& regime : regimes()) names.push_back(regime.name);
    app.add_option("--clip", options.clip, "Video")->capture_default_str();
    app.add_option("--detector", options.detector, "The server's vision network, *.json or *.pt")
        ->capture_default_str();
    app.add_option("--selector", options.selector, "The quality selector")->capture_default_str();
    app.add_option("--out", options.out, "Measurements, JSON lines; what is in it is not measured again")
        ->capture_default_str();
    app.add_option("--regime", options.regimes, "Only these regimes (default: all)")->check(CLI::IsMember(names));
    app.add_option("--masks", options.masks, "Who chooses the blocks of high quality")
        ->check(CLI::IsMember({"selector", "boxes", "gradient", "dds", "background"}))
        ->capture_default_str();
    app.add_option("--threshold", options.threshold, "The selector's least logit of a block in high quality")
        ->capture_default_str();
    app.add_option("--dilation", options.dilation, "Blocks around those of the selector's choice")
        ->check(CLI::Range(0, 10))
        ->capture_default_str();
    app.add_option("--share", options.share, "Share of blocks that the gradient chooses")
        ->check(CLI::Range(0.01, 1.0))
        ->capture_default_str();
    app.add_flag("--fixed-high", options.fixed_high,
                 "The high quality is the reference's, and the low one moves; else both move, --gap apart");
    app.add_option("--score", options.scores,
                   "Boxes below this score do not count; of several, each picture counts once at each of them, and "
                   "single objects that are seen at one and not at the other turn the figure less")
        ->check(CLI::Range(0.3, 1.0))
        ->capture_default_str();
    app.add_option(
           "--limits", options.limits,
           "Instead of --score: three limits. Boxes of the reference count from the third on, of the output from "
           "the second on; boxes of the reference between the first and the third are neither missed nor wrong")
        ->expected(3)
        ->check(CLI::Range(0.3, 1.0));
    app.add_option("--background-qp", options.background_qp,
                   "Quantiser of background that the server is to remember (--masks background), the same for all "
                   "qualities (default: that which goes with each)")
        ->check(CLI::Range(1, most_qp));
    app.add_option("--shown", options.shown,
                   "Of the settings of --masks background only these quantisers of what moves")
        ->check(CLI::Range(first_shown_qp, last_shown_qp));
    app.add_flag("--late", options.late,
                 "Chunks of the later half, which the selector was trained on: to choose settings");
    app.add_option("--gap", options.gap, "Quantisers from the high quality to the low one")
        ->check(CLI::Range(1, 40))
        ->capture_default_str();
    app.add_option("--reference-qp", options.reference_qp,
                   "Quantiser of the quality that F1 is held against: 20, 28 to 50")
        ->check(CLI::Range(best_qp, last_uniform_qp))
        ->capture_default_str();
    app.add_option("--chunks", options.chunks,
                   "Chunks of each regime (0: 36, at native size 20 of 10 pictures or 12 of 30)")
        ->capture_default_str();
    app.add_option("--threads", options.threads, "LibTorch's threads")
        ->check(CLI::Range(1, 256))
        ->capture_default_str();
    app.add_flag("--report-only", options.report_only, "Measure nothing, print the report of what is there");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    adapath::video::quiet_libav();
    if (Status s = run(options); !s) {
        fmt::print(stderr, "\nadapath-qp-bench: {}\n", s.error().message);
        return 1;
    }
    return 0;
}
