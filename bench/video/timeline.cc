// See timeline.h.
#include "bench/video/timeline.h"

#include <fmt/format.h>

#include <adapath/select.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace adapath::video_bench {
namespace {

struct Seen {
    bool main = false;
    bool sub = false;
    bool late = false;
};

template <typename Kind>
double mean_of(std::span<const CameraScore> cameras, Kind CameraScore::* kind) {
    double sum = 0;
    for (const CameraScore& camera : cameras) {
        sum += (camera.*kind).f1();
    }
    return cameras.empty() ? 0 : sum / static_cast<double>(cameras.size());
}

}  // namespace

Result<CameraScore> score(const CameraPictures& camera, std::span<const Delivery> deliveries,
                          const ScoreOptions& options) {
    const auto loop = static_cast<int64_t>(camera.loop());
    if (loop == 0 || camera.sub.size() != camera.main.size() || !(camera.fps > 0)) {
        return Error{fmt::format("a camera with {} main and {} sub pictures at {} pictures a second can't be scored",
                                 camera.main.size(), camera.sub.size(), camera.fps)};
    }
    const double period_us = 1e6 / camera.fps;
    CameraScore result;
    if (deliveries.empty() || options.end_us <= options.begin_us) {
        // Nothing came: the pictures were taken all the same, and we do not know which; the loop's mean stands for
        // them.
        const auto count = static_cast<int64_t>(
            std::llround(static_cast<double>(options.end_us - std::min(options.begin_us, options.end_us)) / period_us));
        for (int64_t i = 0; i < count; i++) {
            result.pictures++;
            const Matches matches = match(camera.main[static_cast<size_t>(i % loop)], {});
            result.f1 += matches;
            result.matches += matches;
        }
        return result;
    }
    for (const Delivery& delivery : deliveries) {
        if (delivery.place >= camera.loop() || delivery.rendition >= ADP_SELECT_RENDITIONS) {
            return Error{fmt::format("a picture of rendition {} at place {}: the loop has {} places",
                                     delivery.rendition, delivery.place, loop)};
        }
    }
    // The camera's clock: when place 0 of the loop's first round was captured. Any picture tells it up to whole rounds,
    // give or take what its packets waited; the earliest of all is the least delayed.
    const auto& first = *std::ranges::min_element(deliveries, {}, &Delivery::captured_us);
    const double zero_us = static_cast<double>(first.captured_us) - first.place * period_us;
    std::map<int64_t, Seen> seen;  // by number of picture since zero_us
    for (const Delivery& delivery : deliveries) {
        const double since = static_cast<double>(delivery.captured_us) - zero_us - delivery.place * period_us;
        const int64_t number = std::llround(since / (period_us * static_cast<double>(loop))) * loop + delivery.place;
        Seen& picture = seen[number];
        if (delivery.received_us > delivery.captured_us + options.late_us) {
            picture.late = true;
        } else if (delivery.rendition == ADP_SELECT_MAIN) {
            picture.main = true;
        } else {
            picture.sub = true;
        }
    }
    const auto number_at = [&](uint64_t us) {
        return static_cast<int64_t>(std::ceil((static_cast<double>(us) - zero_us) / period_us));
    };
    for (int64_t number = number_at(options.begin_us); number < number_at(options.end_us); number++) {
        const auto place = static_cast<size_t>(((number % loop) + loop) % loop);
        const auto found = seen.find(number);
        const Seen picture = found == seen.end() ? Seen{} : found->second;
        Matches matches;
        if (picture.main) {
            result.by_main++;
            matches = match(camera.main[place], camera.main[place]);
        } else if (picture.sub) {
            result.by_sub++;
            matches = match(camera.main[place], camera.sub[place]);
        } else {
            result.late += picture.late ? 1 : 0;
            matches = match(camera.main[place], {});
        }
        result.pictures++;
        result.f1 += matches;
        result.matches += matches;
        const double at_us = zero_us + static_cast<double>(number) * period_us - static_cast<double>(options.begin_us);
        const auto second = static_cast<size_t>(std::max(0.0, at_us) / 1e6);
        if (result.seconds.size() <= second) {
            result.seconds.resize(second + 1);
        }
        result.seconds[second] += matches;
    }
    return result;
}

double mean_f1(std::span<const CameraScore> cameras) { return mean_of(cameras, &CameraScore::f1); }

double mean_pooled_f1(std::span<const CameraScore> cameras) { return mean_of(cameras, &CameraScore::matches); }

}  // namespace adapath::video_bench
