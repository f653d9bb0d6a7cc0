// See camera.h.
#include "userspace/server/camera.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <ranges>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "userspace/detect/draw.h"
#include "userspace/detect/pictures.h"
#include "userspace/video/clip.h"
#include "userspace/video/net.h"

namespace adapath::server {

namespace {

// Pictures of a chunk, beyond which it is cut: a camera may never send another IDR picture.
constexpr size_t most_pictures = 1500;
// Reported chunks that are kept because the other rendition may still be held against them.
constexpr size_t most_kept = 16;
constexpr unsigned most_stride = 64;
constexpr uint64_t first_interval_us = 100'000;  // until two pictures came
constexpr uint64_t shortest_interval_us = 5'000;
constexpr uint64_t longest_interval_us = 1'000'000;
constexpr size_t intervals = 9;  // whose median counts
constexpr uint64_t most_samples = 1000;
// The sub stream's last pictures, among which a main picture's counterpart is looked for: main_behind_us of them at 25
// a second.
constexpr size_t recent_frames = 25;
// A relay sends sub pictures before main ones that wait, which so come later; for so long that none came, main is not
// over.
constexpr uint64_t main_behind_us = 1'000'000;
constexpr unsigned pick_distance = 5;  // pictures between two that are labelled
// Of the low quality that pictures without a counterpart are held against: as in models/qp/train_qp.cc, so that a label
// means what it meant there. Not so many steps above the picture's own quantiser, which a chunk does not say of itself
// and which differs from block to block: the same scene would matter more or less with the link's rate.
constexpr int low_quantiser = 45;

uint64_t distance(uint64_t a, uint64_t b) { return a > b ? a - b : b - a; }

std::vector<Box> scaled_boxes(std::vector<Box> boxes, const PictureResult& from, const PictureResult& to) {
    const float x = static_cast<float>(to.width) / static_cast<float>(from.width);
    const float y = static_cast<float>(to.height) / static_cast<float>(from.height);
    for (Box& box : boxes) {
        box.x0 *= x;
        box.x1 *= x;
        box.y0 *= y;
        box.y1 *= y;
    }
    return boxes;
}

std::vector<Box> surely(const std::vector<Box>& boxes, double score) {
    std::vector<Box> result;
    std::ranges::copy_if(boxes, std::back_inserter(result), [&](const Box& box) { return box.score >= score; });
    return result;
}

video::AvFrame reference_to(const AVFrame& frame) { return video::AvFrame(av_frame_clone(&frame)); }

}  // namespace

// A picture of the main stream and its counterpart, for accuracy gradients.
struct Camera::Pick {
    size_t index = 0;  // in the chunk
    uint64_t received_us = 0;
    video::AvFrame main;
    video::AvFrame sub;
};

struct Camera::Chunk {
    ChunkResult result;
    bool closed = false;
    bool reported = false;
    size_t waiting = 0;
    bool labelled = false;  // chosen for gradients
    bool only = false;      // when it began, its camera had no other rendition
    std::vector<Pick> picks;

    [[nodiscard]] uint64_t first_us() const {
        return result.pictures.empty() ? result.chunk_us : result.pictures.front().received_us;
    }
    [[nodiscard]] uint64_t last_us() const {
        return result.pictures.empty() ? result.chunk_us : result.pictures.back().received_us;
    }
};

struct Camera::Rendition {
    std::deque<ChunkPtr> chunks;  // oldest first; the last may be open
    uint64_t chunk_us = 0;        // where the last one began
    bool begun = false;
    uint64_t last_us = 0;     // of its newest picture, by the relay's clock ...
    uint64_t arrived_ns = 0;  // ... and by the server's
    int64_t last_tick = -1;
    uint32_t last_timestamp = 0;
    bool any = false;
    std::deque<uint64_t> recent;  // intervals
    uint64_t interval_us = 0;     // 0: not known yet
    uint64_t incomplete = 0;      // told, and in no chunk yet
    uint64_t incomplete_told = 0;
    Depacketiser::Counters stream;              // of this connection
    RememberedBackground::Counters background;  // likewise
    uint64_t sampled_ns = 0;
    struct Recent {
        uint64_t received_us;
        video::AvFrame frame;
    };
    std::deque<Recent> frames;  // with gradients only

    [[nodiscard]] ChunkPtr open() const { return chunks.empty() || chunks.back()->closed ? nullptr : chunks.back(); }
    [[nodiscard]] uint64_t interval() const { return interval_us != 0 ? interval_us : first_interval_us; }
};

void Worths::set(const std::string& gateway, uint32_t camera, double worth) {
    std::lock_guard lock(mutex_);
    worths_[gateway][camera] = worth;
}

void Worths::forget(const std::string& gateway) {
    std::lock_guard lock(mutex_);
    worths_.erase(gateway);
}

double Worths::usual(const std::string& gateway) const {
    std::lock_guard lock(mutex_);
    const auto at = worths_.find(gateway);
    if (at == worths_.end()) return 0.5;
    double sum = 0;
    for (const auto& [camera, worth] : at->second) sum += worth;
    return sum / static_cast<double>(at->second.size());
}

Camera::Camera(Shared& shared, std::string gateway, uint32_t number)
    : shared_(shared), gateway_(std::move(gateway)), number_(number) {
    if (shared_.pool != nullptr) queue_ = shared_.pool->queue();
    for (std::unique_ptr<Rendition>& rendition : renditions_) rendition = std::make_unique<Rendition>();
}

Camera::~Camera() = default;

uint64_t Camera::interval_us() const {
    const uint64_t sub = renditions_[ADP_SELECT_SUB]->interval_us;
    const uint64_t main = renditions_[ADP_SELECT_MAIN]->interval_us;
    if (sub == 0 || main == 0) return std::max(sub, main) != 0 ? std::max(sub, main) : first_interval_us;
    return std::min(sub, main);
}

// By RTP's clock, which does not jitter; the median, since pictures may be missing.
void Camera::note_interval(uint32_t which, uint64_t received_us, uint32_t timestamp) {
    Rendition& r = *renditions_[which];
    if (r.any) {
        const uint64_t us = uint64_t{timestamp - r.last_timestamp} * 100 / 9;
        if (us >= shortest_interval_us && us <= longest_interval_us) {
            r.recent.push_back(us);
            if (r.recent.size() > intervals) r.recent.pop_front();
            std::vector<uint64_t> sorted(r.recent.begin(), r.recent.end());
            std::ranges::sort(sorted);
            r.interval_us = sorted[sorted.size() / 2];
        }
    }
    r.any = true;
    r.last_timestamp = timestamp;
    r.last_us = received_us;
    stream_us_ = std::max(stream_us_, received_us);
}

// The counterpart's number where there is one, else counted from the last of either rendition.
int64_t Camera::tick_of(uint32_t which, uint64_t received_us) const {
    const Rendition& own = *renditions_[which];
    const Rendition& other = *renditions_[1 - which];
    const uint64_t interval = interval_us();
    for (const ChunkPtr& chunk : std::views::reverse(other.chunks)) {
        if (chunk->last_us() + interval / 2 < received_us) break;
        for (const PictureResult& picture : std::views::reverse(chunk->result.pictures))
            if (picture.tick > own.last_tick && distance(picture.received_us, received_us) <= interval / 2)
                return picture.tick;
    }
    const auto from = [&](const Rendition& r) {
        const auto ticks = static_cast<int64_t>((distance(received_us, r.last_us) + interval / 2) / interval);
        return r.last_tick + (received_us > r.last_us ? ticks : -ticks);
    };
    // Main lags behind sub where both wait: then sub's last says nothing of where main is.
    const int64_t counted = std::max(own.any ? from(own) : 0, other.any ? from(other) : 0);
    return std::max(counted, own.last_tick + 1);
}

bool Camera::is_turn(int64_t tick) const {
    const auto step = static_cast<int64_t>(shared_.vision.every) * stride_;
    return (tick - phase_) % step == 0;
}

Camera::ChunkPtr Camera::open_chunk(uint32_t which, const AccessUnit& unit) {
    Rendition& r = *renditions_[which];
    ChunkPtr open = r.open();
    if (open != nullptr && (unit.idr || open->result.pictures.size() >= most_pictures)) {
        close(which);
        open = nullptr;
    }
    if (open != nullptr) return open;
    open = std::make_shared<Chunk>();
    open->result.rendition = which;
    open->result.continued = !unit.idr && r.begun;
    if (unit.idr) r.chunk_us = unit.begins_us;
    r.begun = true;
    open->result.chunk_us = r.chunk_us;
    if (which == ADP_SELECT_MAIN && shared_.vision.gradients > 0) {
        // As if it can be labelled; report() takes back what could not.
        open->only = !renditions_[ADP_SELECT_SUB]->any;
        gradient_share_ += shared_.vision.gradients;
        open->labelled = gradient_share_ >= 1;
        gradient_share_ -= open->labelled ? 1 : 0;
    }
    r.chunks.push_back(open);
    return open;
}

void Camera::close(uint32_t which) {
    Rendition& r = *renditions_[which];
    const ChunkPtr open = r.open();
    if (open == nullptr) return;
    open->closed = true;
    open->result.incomplete += std::exchange(r.incomplete, 0);
    // Behind no more: the queue was never a quarter full in the chunk's time.
    if (stride_ > 1 && queue_ && fullest_ * 4 <= shared_.pool->queue_limit()) stride_ /= 2;
    fullest_ = queue_ ? queue_->waiting() : 0;
}

void Camera::picture(uint32_t which, const AccessUnit& unit, uint64_t arrived_ns, const AVFrame& frame) {
    const uint64_t decoded_ns = video::now_ns();
    std::lock_guard lock(mutex_);
    if (std::exchange(ended_, false)) forget_reported();
    Rendition& r = *renditions_[which];
    Rendition& other = *renditions_[1 - which];
    const ChunkPtr chunk = open_chunk(which, unit);
    const int64_t tick = tick_of(which, unit.first_us);
    // The other rendition's chunk, where it went on without: it ended, but nothing has said so.
    const uint64_t behind_us = which == ADP_SELECT_SUB ? main_behind_us : 0;
    const bool other_alive = other.any && other.last_us + std::max(3 * other.interval(), behind_us) >= unit.first_us;
    if (!other_alive) close(1 - which);
    // Every n-th of the chunk's pictures, from its first on; but where the other rendition comes too, the same ones as
    // there.
    if (unit.idr && (!other_alive || other.open() == nullptr)) phase_ = tick;
    note_interval(which, unit.first_us, unit.timestamp);
    r.arrived_ns = arrived_ns;
    r.last_tick = tick;

    PictureResult& picture = chunk->result.pictures.emplace_back();
    picture.received_us = unit.first_us;
    picture.arrived_ns = arrived_ns;
    picture.decoded_ns = decoded_ns;
    picture.timestamp = unit.timestamp;
    picture.bytes = static_cast<uint32_t>(unit.bytes.size());
    picture.width = frame.width;
    picture.height = frame.height;
    picture.tick = tick;
    chunk->result.received++;
    chunk->result.bytes += unit.bytes.size();
    counters_.decoded++;
    const size_t index = chunk->result.pictures.size() - 1;
    if (shared_.detections != nullptr) {
        look(chunk, index, frame);
    } else if (wants_sample(which, arrived_ns)) {
        draw_sample(*chunk, picture, frame);
    }
    pick(chunk, index, frame);
    settle();
}

void Camera::undecodable(uint32_t which, const AccessUnit& unit) {
    std::lock_guard lock(mutex_);
    const ChunkPtr chunk = open_chunk(which, unit);
    chunk->result.received++;
    chunk->result.undecodable++;
    chunk->result.bytes += unit.bytes.size();
    counters_.undecodable++;
    stream_us_ = std::max(stream_us_, unit.first_us);
    settle();
}

void Camera::note_stream(uint32_t which, const Depacketiser::Counters& now) {
    std::lock_guard lock(mutex_);
    Rendition& r = *renditions_[which];
    r.incomplete += now.incomplete + now.skipped - r.incomplete_told;
    r.incomplete_told = now.incomplete + now.skipped;
    r.stream = now;
    if (const ChunkPtr open = r.open()) open->result.incomplete += std::exchange(r.incomplete, 0);
}

void Camera::note_background(uint32_t which, const RememberedBackground::Counters& now,
                             const std::optional<RememberedBackground::Seen::Lost>& lost, uint64_t chunk_us) {
    std::lock_guard lock(mutex_);
    renditions_[which]->background = now;
    if (!lost) return;
    counters_.background_asked++;
    pb::CameraReport report;
    report.set_camera(number_);
    report.set_chunk_us(chunk_us);
    report.mutable_background_lost()->set_epoch(lost->epoch);
    report.mutable_background_lost()->set_no_room(lost->no_room);
    shared_.on_report(gateway_, std::move(report));
}

void Camera::silence() {
    std::lock_guard lock(mutex_);
    for (uint32_t which = 0; which < ADP_SELECT_RENDITIONS; which++) close(which);
    settle();
}

void Camera::end() {
    std::lock_guard lock(mutex_);
    for (uint32_t which = 0; which < ADP_SELECT_RENDITIONS; which++) {
        close(which);
        Rendition& r = *renditions_[which];
        Depacketiser::Counters& sum = counters_.streams[which];
        sum += std::exchange(r.stream, {});
        counters_.background += std::exchange(r.background, {});
        // The next connection begins anew.
        r.incomplete_told = 0;
        r.begun = r.any = false;
        r.last_us = 0;
        r.frames.clear();
    }
    settle();
    stream_us_ = 0;
    ended_ = true;
}

// A new connection's clock may be another boot's: nothing of before is held against it.
void Camera::forget_reported() {
    for (const std::unique_ptr<Rendition>& r : renditions_)
        std::erase_if(r->chunks, [](const ChunkPtr& chunk) { return chunk->reported; });
}

// Under the mutex, on the connection's thread: cheap, but for the hash.
void Camera::look(const ChunkPtr& chunk, size_t index, const AVFrame& frame) {
    PictureResult& picture = chunk->result.pictures[index];
    if ((picture.tick - phase_) % static_cast<int64_t>(shared_.vision.every) != 0) return;
    if (!is_turn(picture.tick)) {
        picture.look = Look::left_out;
        counters_.left_out++;
        return;
    }
    Result<PictureKey> key = picture_key(frame);
    if (!key) {
        picture.look = Look::failed;
        counters_.failed++;
        if (!std::exchange(failed_before_, true))
            spdlog::error("gateway {}, camera {}: {}", gateway_, number_, key.error().message);
        return;
    }
    picture.key = *key;
    const bool sample = wants_sample(chunk->result.rendition, picture.arrived_ns);
    if (std::optional<std::vector<Box>> known = shared_.detections->find(*key)) {
        picture.look = Look::seen;
        picture.boxes = std::move(*known);
        counters_.seen++;
        counters_.cached++;
        if (sample) draw_sample(*chunk, picture, frame);
        return;
    }
    if (!shared_.network) {
        picture.look = Look::left_out;
        counters_.left_out++;
        return;
    }
    VisionPool::Work work;
    work.tick = picture.tick;
    work.id = picture.work = ++works_;
    work.leave_out = [self = shared_from_this(), chunk, index] {
        self->found(chunk, index, Look::left_out, {}, false);
    };
    const std::shared_ptr<AVFrame> held(reference_to(frame).release(), video::AvDeleter());
    work.run = [self = shared_from_this(), chunk, index, held, sample, key = *key](Detector* detector) {
        // Another camera may have shown the same in the meantime.
        Result<Looked> looked = held != nullptr ? look_at(*held, key, *detector, *self->shared_.detections)
                                                : Result<Looked>(Error{"out of memory for a picture"});
        if (!looked) {
            spdlog::error("gateway {}, camera {}: {}", self->gateway_, self->number_, looked.error().message);
            self->found(chunk, index, Look::failed, {}, false);
            return;
        }
        if (sample) {
            std::lock_guard lock(self->mutex_);
            PictureResult copy = chunk->result.pictures[index];
            copy.boxes = looked->boxes;
            self->draw_sample(*chunk, copy, *held);
        }
        self->found(chunk, index, Look::seen, std::move(looked->boxes), looked->known);
    };
    while (!queue_->offer(std::move(work))) {
        const bool slower = fall_behind();
        if (slower && is_turn(picture.tick)) continue;  // there may be room now
        picture.look = Look::left_out;
        counters_.left_out++;
        return;
    }
    picture.look = Look::waiting;
    chunk->waiting++;
    fullest_ = std::max(fullest_, queue_->waiting());
}

// The queue is full: from now on every second of what was looked at so far, in the queue too, so that what is left out
// is spread evenly, and over both renditions alike.
bool Camera::fall_behind() {
    if (stride_ >= most_stride) return false;
    stride_ *= 2;
    std::vector<VisionPool::Work> out = queue_->thin([this](int64_t tick) { return is_turn(tick); });
    for (uint32_t which = 0; which < ADP_SELECT_RENDITIONS; which++)
        for (const ChunkPtr& chunk : renditions_[which]->chunks)
            for (PictureResult& picture : chunk->result.pictures) {
                const auto taken =
                    std::ranges::find_if(out, [&](const VisionPool::Work& work) { return work.id == picture.work; });
                if (picture.look != Look::waiting || taken == out.end()) continue;
                picture.look = Look::left_out;
                chunk->waiting--;
                counters_.left_out++;
            }
    fullest_ = queue_->waiting();
    return true;
}

void Camera::found(const ChunkPtr& chunk, size_t index, Look look, std::vector<Box> boxes, bool cached) {
    std::lock_guard lock(mutex_);
    PictureResult& picture = chunk->result.pictures[index];
    if (picture.look != Look::waiting) return;  // left out meanwhile
    picture.look = look;
    picture.boxes = std::move(boxes);
    chunk->waiting--;
    counters_.seen += look == Look::seen ? 1 : 0;
    counters_.cached += cached ? 1 : 0;
    counters_.left_out += look == Look::left_out ? 1 : 0;
    counters_.failed += look == Look::failed ? 1 : 0;
    settle();
}

// Whether anything that the chunk's report needs is still being looked at.
bool Camera::waits(const Chunk& chunk) const {
    if (chunk.waiting > 0) return true;
    const uint64_t half = interval_us() / 2;
    for (const ChunkPtr& other : renditions_[1 - chunk.result.rendition]->chunks) {
        if (other->waiting == 0) continue;
        for (const PictureResult& picture : other->result.pictures)
            if (picture.look == Look::waiting && picture.received_us + half >= chunk.first_us() &&
                picture.received_us <= chunk.last_us() + half)
                return true;
    }
    return false;
}

// Reports what can be reported, each rendition's chunks in order.
void Camera::settle() {
    for (const std::unique_ptr<Rendition>& r : renditions_)
        for (const ChunkPtr& chunk : r->chunks) {
            if (chunk->reported) continue;
            if (!chunk->closed || waits(*chunk)) break;
            chunk->reported = true;
            report(chunk);
        }
    prune();
}

// What no chunk can be held against any more is let go.
void Camera::prune() {
    for (uint32_t which = 0; which < ADP_SELECT_RENDITIONS; which++) {
        std::deque<ChunkPtr>& chunks = renditions_[which]->chunks;
        const auto needed = [&](const Chunk& chunk) {
            if (!chunk.reported) return true;
            const uint64_t behind_us = which == ADP_SELECT_SUB ? main_behind_us : 0;
            const uint64_t until = chunk.last_us() + std::max(2 * renditions_[which]->interval(), behind_us);
            if (until >= stream_us_) return true;
            return std::ranges::any_of(renditions_[1 - which]->chunks, [&](const ChunkPtr& other) {
                return !other->reported && other->first_us() <= until;
            });
        };
        while (!chunks.empty() && (!needed(*chunks.front()) || (chunks.size() > most_kept && chunks.front()->reported)))
            chunks.pop_front();
    }
}

// Pairs the chunk's pictures with the other rendition's, and holds sub against main.
void Camera::compare(Chunk& chunk) {
    const uint32_t which = chunk.result.rendition;
    const uint64_t half = interval_us() / 2;
    Matches matches;
    MeanF1 f1;
    uint64_t compared = 0;
    uint64_t paired = 0;
    uint64_t first = 0;
    uint64_t last = 0;
    for (const PictureResult& picture : chunk.result.pictures) {
        const PictureResult* nearest = nullptr;
        for (const ChunkPtr& other : renditions_[1 - which]->chunks) {
            if (other->last_us() + half < picture.received_us || other->first_us() > picture.received_us + half)
                continue;
            for (const PictureResult& candidate : other->result.pictures) {
                const uint64_t apart = distance(candidate.received_us, picture.received_us);
                if (apart <= half &&
                    (nearest == nullptr || apart < distance(nearest->received_us, picture.received_us)))
                    nearest = &candidate;
            }
        }
        if (nearest == nullptr) continue;
        if (paired++ == 0) first = picture.received_us;
        last = picture.received_us;
        if (picture.look != Look::seen || nearest->look != Look::seen) continue;
        const PictureResult& main = which == ADP_SELECT_MAIN ? picture : *nearest;
        const PictureResult& sub = which == ADP_SELECT_MAIN ? *nearest : picture;
        const Matches pair = match(main.boxes, scaled_boxes(sub.boxes, sub, main),
                                   {.iou = shared_.vision.iou, .score = shared_.vision.score});
        matches += pair;
        f1 += pair;
        compared++;
    }
    const uint64_t interval = renditions_[which]->interval();
    const bool both = paired > 0 && 2 * (last - first + interval) >= chunk.last_us() - chunk.first_us() + interval;
    if (!both || compared == 0) return;
    chunk.result.matches = matches;
    chunk.result.sub_worth = f1.f1();
    chunk.result.compared = compared;
    chunk.result.measured = true;
}

// The pictures of sub that came in a main chunk's time without main's: the relay dropped the rest of that. 0 where both
// renditions' chunks do not begin together.
size_t Camera::sub_alone(const Chunk& main) const {
    const uint64_t half = interval_us() / 2;
    for (const ChunkPtr& sub : renditions_[ADP_SELECT_SUB]->chunks) {
        if (sub->result.pictures.empty() || distance(sub->first_us(), main.first_us()) > half) continue;
        return static_cast<size_t>(std::ranges::count_if(sub->result.pictures, [&](const PictureResult& picture) {
            return picture.received_us > main.last_us() + half;
        }));
    }
    return 0;
}

void Camera::report(const ChunkPtr& chunk) {
    ChunkResult& result = chunk->result;
    counters_.chunks++;
    compare(*chunk);
    const bool main = result.rendition == ADP_SELECT_MAIN;

    pb::CameraReport report;
    report.set_camera(number_);
    report.set_chunk_us(result.chunk_us);
    if (main && result.measured) {
        counters_.measured++;
        worth_ = result.sub_worth;
        shared_.worths.set(gateway_, number_, *worth_);
        pb::CameraReport measured = report;
        measured.mutable_measured()->set_sub_worth(*worth_);
        measured.mutable_measured()->set_gain(1 - *worth_);
        measured.mutable_measured()->set_pictures(static_cast<uint32_t>(result.compared));
        shared_.on_report(gateway_, std::move(measured));
    }

    uint64_t seen = 0;
    uint64_t objects = 0;
    double scores = 0;
    for (const PictureResult& picture : result.pictures) {
        if (picture.look != Look::seen) continue;
        seen++;
        for (const Box& box : picture.boxes) {
            if (box.score < shared_.vision.score) continue;
            objects++;
            scores += box.score;
        }
    }
    if (seen > 0) {
        // Of a sub stream that never was measured: what is usual here.
        const double sub_worth = result.measured ? result.sub_worth : worth_ ? *worth_ : shared_.worths.usual(gateway_);
        // Of main there is nothing better to hold it against. Where its end was dropped, sub is what is seen instead:
        // main's report, the later one, tells what both together were worth.
        const auto own = static_cast<double>(result.pictures.size());
        const double alone = main ? static_cast<double>(sub_alone(*chunk)) : 0;
        result.accuracy = main ? (own + alone * sub_worth) / (own + alone) : sub_worth;
        pb::CameraReport told = report;
        pb::Seen& what = *told.mutable_seen();
        what.set_rendition(result.rendition);
        what.set_pictures(static_cast<uint32_t>(result.pictures.size()));
        what.set_objects(static_cast<double>(objects) / static_cast<double>(seen));
        what.set_confidence(objects == 0 ? 0 : scores / static_cast<double>(objects));
        what.set_accuracy(*result.accuracy);
        what.set_measured(result.measured);
        shared_.on_report(gateway_, std::move(told));
        if (shared_.vision.regions && (main || !result.measured)) report_regions(*chunk);
    }
    if (main && shared_.vision.gradients > 0) {
        const bool only = chunk->only && std::ranges::all_of(chunk->picks, [](const Pick& p) { return !p.sub; });
        const bool labelled = chunk->labelled && (result.measured ? report_gradients(*chunk)
                                                  : only          ? report_own_gradients(*chunk)
                                                                  : false);
        gradient_share_ -= result.measured || only ? 0 : shared_.vision.gradients;
        gradient_share_ = std::clamp(gradient_share_ + (chunk->labelled && !labelled ? 1 : 0), -1.0, 2.0);
    }
    chunk->picks.clear();
    shared_.on_chunk(gateway_, number_, result);
}

// No regions are a message too: those of the chunk before count no longer.
void Camera::report_regions(const Chunk& chunk) {
    UncertainRegions uncertain(shared_.vision.region_options);
    for (const PictureResult& picture : chunk.result.pictures)
        if (picture.look == Look::seen) uncertain.add(picture.boxes, picture.width, picture.height);
    pb::CameraReport report;
    report.set_camera(number_);
    report.set_chunk_us(chunk.result.chunk_us);
    pb::Regions& regions = *report.mutable_regions();
    for (const Region& region : uncertain.take()) {
        pb::Regions::Region& one = *regions.add_regions();
        one.set_x0(region.x0);
        one.set_y0(region.y0);
        one.set_x1(region.x1);
        one.set_y1(region.y1);
    }
    shared_.on_report(gateway_, std::move(report));
}

bool Camera::wants_sample(uint32_t which, uint64_t arrived_ns) {
    if (shared_.vision.pictures.empty() || shared_.pool == nullptr) return false;
    Rendition& r = *renditions_[which];
    const auto pause = static_cast<uint64_t>(shared_.vision.picture_every * 1e9);
    if (r.sampled_ns != 0 && arrived_ns < r.sampled_ns + pause) return false;
    if (shared_.sample_pictures.fetch_add(1) >= most_samples) return false;
    r.sampled_ns = arrived_ns;
    return true;
}

// On the pool when it has nothing else to do: a PNG takes some tens of ms.
void Camera::draw_sample(const Chunk& chunk, const PictureResult& picture, const AVFrame& frame) {
    const std::string path =
        fmt::format("{}/{}-{}-{}-{}.png", shared_.vision.pictures, gateway_, number_,
                    chunk.result.rendition == ADP_SELECT_MAIN ? "main" : "sub", picture.received_us);
    const std::shared_ptr<AVFrame> held(reference_to(frame).release(), video::AvDeleter());
    if (held == nullptr) return;
    VisionPool::Work work;
    work.run = [held, path, boxes = picture.boxes, score = shared_.vision.score](Detector* detector) {
        Result<Image> image = to_image(*held);
        if (!image) {
            spdlog::error("{}: {}", path, image.error().message);
            return;
        }
        for (const Box& box : std::views::reverse(boxes)) {
            if (box.score < score) continue;
            const std::string name =
                detector != nullptr ? detector->class_name(box.class_id) : fmt::format("class {}", box.class_id);
            draw_box(*image, box, fmt::format("{} {:.0f}%", name, box.score * 100), class_colour(box.class_id));
        }
        if (Status written = write_png(path, *image); !written) spdlog::error("{}", written.error().message);
    };
    (void)shared_.pool->spare(std::move(work));
}

// For gradients: holds on to some of the main stream's pictures, and to their counterparts.
void Camera::pick(const ChunkPtr& chunk, size_t index, const AVFrame& frame) {
    if (shared_.vision.gradients <= 0 || !shared_.network) return;
    const PictureResult& picture = chunk->result.pictures[index];
    if (chunk->result.rendition == ADP_SELECT_SUB) {
        std::deque<Rendition::Recent>& frames = renditions_[ADP_SELECT_SUB]->frames;
        frames.push_back({picture.received_us, reference_to(frame)});
        if (frames.size() > recent_frames) frames.pop_front();
    } else if (chunk->labelled && index % pick_distance == 0 &&
               chunk->picks.size() < shared_.vision.gradient_pictures) {
        chunk->picks.push_back({index, picture.received_us, reference_to(frame), nullptr});
    }
    match_picks();
}

void Camera::match_picks() {
    const ChunkPtr chunk = renditions_[ADP_SELECT_MAIN]->open();
    if (chunk == nullptr) return;
    for (Pick& pick : chunk->picks) {
        if (pick.sub != nullptr) continue;
        for (const Rendition::Recent& recent : renditions_[ADP_SELECT_SUB]->frames)
            if (recent.frame != nullptr && distance(recent.received_us, pick.received_us) <= interval_us() / 2)
                pick.sub = reference_to(*recent.frame);
    }
}

// False where it could not be done: another chunk then takes the turn.
bool Camera::report_gradients(Chunk& chunk) {
    struct Pair {
        video::AvFrame main;
        video::AvFrame sub;
        std::optional<std::vector<Box>> reference;
    };
    const auto pairs = std::make_shared<std::vector<Pair>>();
    for (Pick& pick : chunk.picks) {
        if (pick.main == nullptr || pick.sub == nullptr) continue;
        const PictureResult& picture = chunk.result.pictures[pick.index];
        Pair& pair = pairs->emplace_back(Pair{std::move(pick.main), std::move(pick.sub), std::nullopt});
        if (picture.look == Look::seen) pair.reference = surely(picture.boxes, shared_.vision.score);
    }
    if (pairs->empty()) return false;
    VisionPool::Work work;
    work.run = [self = shared_from_this(), pairs, chunk_us = chunk.result.chunk_us](Detector* detector) {
        BlockMap all;
        for (const Pair& pair : *pairs) {
            const auto one = [&]() -> Result<BlockMap> {
                Result<Image> high = to_image(*pair.main);
                if (!high) return high.error();
                Result<Image> small = to_image(*pair.sub);
                if (!small) return small.error();
                Result<Image> low = scaled(*small, {high->width, high->height});
                if (!low) return low.error();
                if (!pair.reference) return accuracy_gradients(*detector, *low, *high, self->shared_.vision.score);
                Result<PixelGradient> gradient = detector->gradient(*low, *pair.reference);
                if (!gradient) return gradient.error();
                return block_gradients(*gradient, *low, *high);
            }();
            if (!one) {
                spdlog::error("gateway {}, camera {}: no gradients: {}", self->gateway_, self->number_,
                              one.error().message);
                return;
            }
            if (all.values.empty()) {
                all = *one;
            } else if (one->columns == all.columns && one->rows == all.rows) {
                for (size_t i = 0; i < all.values.size(); i++) all.values[i] = std::max(all.values[i], one->values[i]);
            }
        }
        self->report_blocks(chunk_us, all);
    };
    return shared_.pool->spare(std::move(work));
}

// Where no other rendition came: against the same pictures in a low quality that is made here, as labels are made in
// training offline (models/qp/labels.h: a picture's gradients count as often as it has objects, and the chunk's are
// their mean). What the encoder already gave a low quality differs less from that, so that labels lean to what was
// chosen. The server cannot tell; the encoder's samples do, and a share of its chunks is without low quality (qp.h:
// ADP_QP_EXPLORED), by which the trainer makes up for it.
bool Camera::report_own_gradients(Chunk& chunk) {
    struct Own {
        video::AvFrame frame;
        std::optional<std::vector<Box>> reference;
    };
    const auto own = std::make_shared<std::vector<Own>>();
    for (Pick& pick : chunk.picks) {
        if (pick.main == nullptr) continue;
        const PictureResult& picture = chunk.result.pictures[pick.index];
        Own& one = own->emplace_back(Own{std::move(pick.main), std::nullopt});
        if (picture.look == Look::seen) one.reference = surely(picture.boxes, shared_.vision.score);
    }
    if (own->empty()) return false;
    VisionPool::Work work;
    work.run = [self = shared_from_this(), own, chunk_us = chunk.result.chunk_us](Detector* detector) {
        const double score = self->shared_.vision.score;
        const auto labelled = [&]() -> Result<BlockMap> {
            std::vector<Image> high;
            for (const Own& one : *own) {
                Result<Image> image = to_image(*one.frame);
                if (!image) return image.error();
                high.push_back(std::move(*image));
            }
            const Result<Requantised> low = requantise(high, low_quantiser);
            if (!low) return low.error();
            BlockMap sum = empty_block_map(high.front().width, high.front().height);
            for (size_t i = 0; i < high.size(); i++) {
                std::vector<Box> reference;
                if ((*own)[i].reference) {
                    reference = *(*own)[i].reference;
                } else {
                    Result<std::vector<Box>> found = detector->detect(high[i], score);
                    if (!found) return found.error();
                    reference = std::move(*found);
                }
                if (reference.empty()) continue;  // nothing that quality could matter to
                Result<PixelGradient> gradient = detector->gradient(low->pictures[i], reference);
                if (!gradient) return gradient.error();
                Result<BlockMap> map = block_gradients(*gradient, low->pictures[i], high[i]);
                if (!map) return map.error();
                if (map->columns != sum.columns || map->rows != sum.rows)
                    return Error{"the chunk's pictures have different sizes"};
                const float weight = static_cast<float>(reference.size()) / static_cast<float>(high.size());
                for (size_t b = 0; b < sum.values.size(); b++) sum.values[b] += weight * map->values[b];
            }
            return sum;
        }();
        if (!labelled) {
            spdlog::error("gateway {}, camera {}: no gradients: {}", self->gateway_, self->number_,
                          labelled.error().message);
            return;
        }
        self->report_blocks(chunk_us, *labelled);
    };
    return shared_.pool->spare(std::move(work));
}

// From a thread of the pool.
void Camera::report_blocks(uint64_t chunk_us, const BlockMap& map) {
    pb::CameraReport report;
    report.set_camera(number_);
    report.set_chunk_us(chunk_us);
    pb::BlockWeights& blocks = *report.mutable_blocks();
    blocks.set_columns(static_cast<uint32_t>(map.columns));
    blocks.set_rows(static_cast<uint32_t>(map.rows));
    blocks.mutable_weights()->Add(map.values.begin(), map.values.end());
    std::lock_guard lock(mutex_);
    shared_.on_report(gateway_, std::move(report));
}

CameraCounters Camera::counters() const {
    std::lock_guard lock(mutex_);
    CameraCounters sum = counters_;
    for (uint32_t which = 0; which < ADP_SELECT_RENDITIONS; which++) {
        sum.streams[which] += renditions_[which]->stream;
        sum.background += renditions_[which]->background;
    }
    return sum;
}

}  // namespace adapath::server
