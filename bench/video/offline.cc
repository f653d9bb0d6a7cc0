// See offline.h.
#include "bench/video/offline.h"

#include <adapath/select.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <limits>

#include "userspace/relay/chunk_filter.h"

namespace adapath::video_bench {
namespace {

constexpr double kStep = 0.01;  // s
constexpr size_t kExhaustive = 8;
constexpr size_t kThresholds = 24;

struct Waiting {
    double bytes;
    double captured_s;
    uint32_t number;  // of the picture, since the beginning
    uint32_t chunk;
};

struct Camera {
    std::array<std::deque<Waiting>, ADP_SELECT_RENDITIONS> queues;
    uint32_t next = 0;                                    // picture since the beginning
    uint32_t chunk = 0;                                   // the running one
    uint32_t sending = 0;                                 // set of renditions, of it
    std::array<uint32_t, ADP_SELECT_RENDITIONS> begun{};  // the chunk of which something was sent last
    std::vector<uint8_t> came;                            // by picture since the beginning: rendition + 1, in time
};

// As the relay does: a picture that waited for too long goes, and the rest of its chunk.
void drop_late(Camera& camera, uint32_t which, double now, const OfflineOptions& options) {
    std::deque<Waiting>& queue = camera.queues[which];
    while (!queue.empty()) {
        const uint32_t chunk = queue.front().chunk;
        const double times = which == ADP_SELECT_SUB        ? relay::sub_late
                             : camera.begun[which] == chunk ? 1
                                                            : relay::begin_late;
        if (now - queue.front().captured_s <= options.drop_s * times - options.sockets_s) {
            return;
        }
        while (!queue.empty() && queue.front().chunk == chunk) {
            queue.pop_front();
        }
        if (chunk == camera.chunk) {
            camera.sending &= ~(1U << which);
        }
    }
}

// P pictures' mean size in the main chunk before the one that begins here, as the kernel knows it then.
double last_picture_bytes(const MeasuredCamera& camera, uint32_t place, uint32_t group) {
    const std::vector<uint32_t>& bytes = camera.bytes[ADP_SELECT_MAIN];
    const auto loop = static_cast<uint32_t>(bytes.size());
    double sum = 0;
    for (uint32_t i = 1; i < group; i++) {
        sum += bytes[(place + loop - group + i) % loop];
    }
    return group > 1 ? sum / (group - 1) : 0;
}

}  // namespace

OfflineScore play_offline(std::span<const MeasuredCamera> cameras, const Trace& trace, const OfflineChoice& choice,
                          const OfflineOptions& options) {
    std::vector<Camera> states(cameras.size());
    const double end_s = options.begin_s + options.seconds;
    double delivered = 0;
    OfflineScore score;
    for (double now = 0; now < end_s + options.late_s; now += kStep) {
        for (size_t c = 0; c < cameras.size(); c++) {
            const MeasuredCamera& camera = cameras[c];
            Camera& state = states[c];
            const double fps = camera.pictures.fps;
            const auto loop = static_cast<uint32_t>(camera.pictures.loop());
            while (now < end_s && state.next / fps <= now) {
                const uint32_t place = state.next % loop;
                // The loop's last chunk may be short; the camera begins again with an IDR picture.
                if (place % options.group == 0) {
                    state.chunk++;
                    state.sending = choice(c, place);
                    for (uint32_t which = 0; which < ADP_SELECT_RENDITIONS; which++) {
                        const std::deque<Waiting>& queue = state.queues[which];
                        const double patience =
                            options.queue_s * (which == ADP_SELECT_SUB ? double{relay::sub_patience} : 1);
                        if (!queue.empty() && now - queue.front().captured_s > patience) {
                            state.sending &= ~(1U << which);
                        }
                    }
                }
                state.came.push_back(0);
                for (uint32_t which = 0; which < ADP_SELECT_RENDITIONS; which++) {
                    if ((state.sending >> which & 1) != 0) {
                        state.queues[which].push_back(
                            {camera.bytes[which][place] * options.overhead, state.next / fps, state.next, state.chunk});
                    }
                }
                state.next++;
            }
        }
        double capacity = static_cast<double>(
            trace.capacity_bytes(static_cast<uint64_t>(now * 1e9), static_cast<uint64_t>((now + kStep) * 1e9)));
        // Sub goes first; those of a kind that wait share what there is.
        for (uint32_t which = 0; which < ADP_SELECT_RENDITIONS; which++) {
            for (Camera& state : states) {
                drop_late(state, which, now, options);
            }
            while (capacity > 1e-6) {
                const auto waiting = static_cast<double>(
                    std::ranges::count_if(states, [&](const Camera& state) { return !state.queues[which].empty(); }));
                if (waiting == 0) {
                    break;
                }
                double used = 0;
                for (Camera& state : states) {
                    std::deque<Waiting>& queue = state.queues[which];
                    double share = capacity / waiting;
                    while (!queue.empty() && share > 0) {
                        Waiting& first = queue.front();
                        const double sent = std::min(share, first.bytes);
                        first.bytes -= sent;
                        state.begun[which] = first.chunk;
                        share -= sent;
                        used += sent;
                        if (first.bytes > 1e-9) {
                            break;
                        }
                        if (now + options.delay_s - first.captured_s <= options.late_s) {
                            uint8_t& came = state.came[first.number];
                            came = std::max(came, static_cast<uint8_t>(which + 1));
                        }
                        queue.pop_front();
                    }
                }
                if (now >= options.begin_s && now < end_s) {
                    delivered += used;
                }
                capacity -= used;
            }
        }
    }
    for (size_t c = 0; c < cameras.size(); c++) {
        const CameraPictures& pictures = cameras[c].pictures;
        MeanF1 f1;
        for (auto i = static_cast<size_t>(std::ceil(options.begin_s * pictures.fps)); i < states[c].came.size(); i++) {
            const size_t place = i % pictures.loop();
            const uint8_t came = states[c].came[i];
            f1 += came == 0                     ? match(pictures.main[place], {})
                  : came == ADP_SELECT_MAIN + 1 ? match(pictures.main[place], pictures.main[place])
                                                : match(pictures.main[place], pictures.sub[place]);
        }
        score.f1 += f1.f1() / static_cast<double>(cameras.size());
        score.sub_rate += cameras[c].rate(ADP_SELECT_SUB) * options.overhead;
    }
    score.rate = delivered / options.seconds;
    return score;
}

TunedMix best_mix(std::span<const MeasuredCamera> cameras, const Trace& trace, const OfflineOptions& options,
                  bool insured) {
    std::vector<uint32_t> choices = {ADP_SELECT_ONLY_SUB, ADP_SELECT_ONLY_MAIN, ADP_SELECT_NONE};
    if (insured) {
        choices.push_back(ADP_SELECT_BOTH);
    }
    TunedMix best{.renditions = std::vector<uint32_t>(cameras.size(), ADP_SELECT_ONLY_SUB)};
    const auto offer = [&](const std::vector<uint32_t>& mix) {
        const OfflineScore score =
            play_offline(cameras, trace, [&](size_t camera, uint32_t) { return mix[camera]; }, options);
        if (score.f1 > best.score.f1 || (score.f1 == best.score.f1 && score.rate < best.score.rate)) {
            best = {mix, score};
            return true;
        }
        return false;
    };
    // Nothing at all is never the best, and of few cameras a mix with none of some rarely: sub and main exhaustively,
    // none by changing one at a time afterwards.
    if (cameras.size() <= kExhaustive) {
        for (uint32_t bits = 0; bits < 1U << cameras.size(); bits++) {
            std::vector<uint32_t> mix;
            for (size_t c = 0; c < cameras.size(); c++) {
                mix.push_back((bits >> c & 1) != 0 ? ADP_SELECT_ONLY_MAIN : ADP_SELECT_ONLY_SUB);
            }
            offer(mix);
        }
    } else {
        offer(best.renditions);
    }
    for (bool better = true; better;) {
        better = false;
        for (size_t c = 0; c < cameras.size(); c++) {
            for (const uint32_t choice : choices) {
                std::vector<uint32_t> mix = best.renditions;
                if (mix[c] != choice) {
                    mix[c] = choice;
                    better = offer(mix) || better;
                }
            }
        }
    }
    return best;
}

TunedThreshold best_threshold(std::span<const MeasuredCamera> cameras, const Trace& trace,
                              const OfflineOptions& options) {
    std::vector<double> sizes;
    for (const MeasuredCamera& camera : cameras) {
        for (uint32_t place = 0; place < camera.pictures.loop(); place += options.group) {
            sizes.push_back(last_picture_bytes(camera, place, options.group));
        }
    }
    std::ranges::sort(sizes);
    std::vector<double> thresholds = {0, std::numeric_limits<double>::infinity()};
    for (size_t i = 0; i < kThresholds && !sizes.empty(); i++) {
        thresholds.push_back(sizes[i * (sizes.size() - 1) / (kThresholds - 1)]);
    }
    TunedThreshold best;
    for (const double threshold : thresholds) {
        const OfflineScore score = play_offline(
            cameras, trace,
            [&](size_t camera, uint32_t place) {
                return last_picture_bytes(cameras[camera], place, options.group) >= threshold ? ADP_SELECT_ONLY_MAIN
                                                                                              : ADP_SELECT_ONLY_SUB;
            },
            options);
        if (score.f1 > best.score.f1) {
            best = {threshold, score};
        }
    }
    // A snapshot's codes end at 1 MiB: more is never.
    best.bytes = std::min(best.bytes, 1e6);
    return best;
}

}  // namespace adapath::video_bench
