// See simulator.h.
#include "models/select/simulator.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <map>

#include "models/simulator.h"
#include "userspace/relay/chunk_filter.h"

namespace adapath {

namespace {

constexpr uint64_t step_us = 1000;
constexpr uint64_t price_us = 100'000;
constexpr uint64_t start_us = 1'000'000'000;  // a clock that has been running for a while
constexpr uint32_t payload_bytes = 1200;
constexpr uint32_t packet_overhead = 12 + 8;   // RTP and UDP
constexpr uint32_t uplink_overhead = 12 + 40;  // the relay's record; TCP and IP, which share a segment with about one
constexpr uint64_t queue_most_bytes = 1 << 20;
constexpr uint64_t report_tries_us = 10'000'000;

// One chunk of one rendition on its way.
struct Flight {
    uint64_t start_us = 0;    // of its first packet at the gateway
    uint64_t arrived_us = 0;  // of its last picture at the server; 0: not yet
    uint32_t pictures = 0;
    uint32_t came = 0;  // pictures that the server has, in order
    bool whole = true;
};

struct Packet {
    uint64_t serial = 0;  // of the chunk
    uint32_t rendition = 0;
    uint32_t picture = 0;
    bool last = false;  // of its picture
    uint32_t bytes = 0;
    uint64_t captured_us = 0;
};

struct Rendition {
    uint64_t next_us = 0;  // of its next picture
    uint64_t serial = 0;   // of the chunk that it belongs to
    uint32_t picture = 0;  // within the chunk
    uint16_t sequence = 0;
    bool passes_relay = false;
    uint32_t cut_at = std::numeric_limits<uint32_t>::max();  // the relay lets no picture of the chunk from here on pass
    std::deque<Packet> queue;                                // the relay's
    uint64_t begun = 0;                                      // 1 + the chunk of which something was sent last
    std::map<uint64_t, Flight> flights;
};

struct Report {
    uint64_t due_us = 0;
    bool measured = false;
    double objects = 0, confidence = 0, accuracy = 0;
    double sub_worth = 0, gain = 0;
    uint64_t chunk_us = 0;
};

struct Camera {
    SelectCameraPlan plan;
    std::unique_ptr<adp_select_camera> state = std::make_unique<adp_select_camera>();
    MeasuredMean measured;
    adp_select_feedback feedback{};
    std::array<Rendition, 2> renditions;
    uint64_t queued_bytes = 0;
    std::vector<Report> reports;
    double last_sub_worth = 0, last_main_worth = 0;  // as the server last measured them
    // credit[slot][picture], the better one of what came in time.
    std::map<uint64_t, std::vector<double>> credit;
    double f1_sum = 0;
    uint64_t f1_count = 0;

    [[nodiscard]] const SelectChunk& chunk(uint64_t serial) const {
        return (*plan.chunks)[(plan.first + serial) % plan.chunks->size()];
    }
    [[nodiscard]] std::array<double, 2> truth(uint64_t serial) const {
        const std::array<double, 2>& measured = chunk(serial).accuracy;
        return {std::clamp(measured[0] + plan.sub_shift, 0.0, 1.0), measured[1]};
    }
};

class Run {
public:
    Run(const SelectScenario& scenario, const SelectPolicy& policy, const SelectEvents& events)
        : s_(scenario), policy_(policy), events_(events), random_(scenario.seed), price_(scenario.price) {
        for (size_t i = 0; i < s_.cameras.size(); i++) {
            Camera& camera = cameras_.emplace_back();
            camera.plan = s_.cameras[i];
            *camera.state = {};
            camera.state->id = i + 1;
            for (size_t r = 0; r < 2; r++)
                camera.renditions[r].next_us = start_us + static_cast<uint64_t>(camera.plan.phase_s[r] * 1e6);
        }
    }

    SelectScore run() {
        const uint64_t end_us = start_us + static_cast<uint64_t>(s_.seconds * 1e6);
        for (now_us_ = start_us; now_us_ < end_us; now_us_ += step_us) {
            for (size_t i = 0; i < cameras_.size(); i++) capture(i);
            serve();
            for (size_t i = 0; i < cameras_.size(); i++) report(i);
            if ((now_us_ - start_us) % price_us == 0 && now_us_ > start_us) set_price();
        }
        return score();
    }

private:
    [[nodiscard]] bool counts() const { return now_us_ >= start_us + static_cast<uint64_t>(s_.skip_s * 1e6); }

    // ---- Cameras and the kernel side ----

    void capture(size_t index) {
        Camera& camera = cameras_[index];
        for (uint32_t r = 0; r < 2; r++) {
            Rendition& rendition = camera.renditions[r];
            while (rendition.next_us <= now_us_) {
                const SelectChunk& chunk = camera.chunk(rendition.serial);
                const double bytes = chunk.bytes[r][rendition.picture] * camera.plan.scale[r];
                picture(index, r, std::max<uint32_t>(1, static_cast<uint32_t>(bytes)));
                rendition.next_us += static_cast<uint64_t>(1e6 / camera.plan.fps);
                if (++rendition.picture == chunk.bytes[r].size()) {
                    rendition.picture = 0;
                    rendition.serial++;
                }
            }
        }
    }

    void picture(size_t index, uint32_t which, uint32_t bytes) {
        Camera& camera = cameras_[index];
        Rendition& rendition = camera.renditions[which];
        const bool idr = rendition.picture == 0;
        const auto pictures = static_cast<uint32_t>(camera.chunk(rendition.serial).bytes[which].size());
        if (idr) {
            rendition.passes_relay = true;
            rendition.cut_at = std::numeric_limits<uint32_t>::max();
        }
        if (which == ADP_SELECT_SUB || camera.credit[rendition.serial].empty())
            camera.credit[rendition.serial].resize(pictures, 0.0);
        const uint64_t age = rendition.queue.empty() ? 0 : now_us_ - rendition.queue.front().captured_us;
        bool first = true;
        while (bytes > 0) {
            const uint32_t part = std::min(bytes, payload_bytes);
            bytes -= part;
            adp_select_packet p = {};
            p.now_us = now_us_;
            p.rendition = which;
            p.bytes = part + packet_overhead;
            p.ssrc = 0x50 + which;
            p.timestamp = static_cast<uint32_t>((rendition.serial * 1000 + rendition.picture) * 3000);
            p.sequence = rendition.sequence++;
            p.contents = ADP_H264_SLICE | (first ? ADP_H264_FIRST : 0U) | (idr ? ADP_H264_IDR : 0U);
            if (!passes(index, rendition.serial, p)) {
                first = false;
                continue;
            }
            if (counts()) offered_ += p.bytes + uplink_overhead;
            offered_now_ += p.bytes + uplink_overhead;
            main_now_ += which == ADP_SELECT_MAIN ? p.bytes + uplink_overhead : 0;
            if (first) {
                // The relay: no new chunk where its camera's queue is old, no new picture where it is twice as old.
                const auto limit =
                    static_cast<uint64_t>(s_.queue_s * 1e6) * (which == ADP_SELECT_SUB ? relay::sub_patience : 1);
                if (idr) {
                    rendition.passes_relay = age <= limit && camera.queued_bytes <= queue_most_bytes;
                    if (counts()) chosen_pictures_ += pictures;
                    if (rendition.passes_relay) rendition.flights[rendition.serial] = {now_us_, 0, pictures, 0, true};
                } else if (rendition.cut_at > rendition.picture &&
                           (age > 2 * limit || camera.queued_bytes > 2 * queue_most_bytes)) {
                    rendition.cut_at = rendition.picture;
                    rendition.flights[rendition.serial].whole = false;
                }
            }
            first = false;
            if (!rendition.passes_relay || rendition.picture >= rendition.cut_at) {
                main_late_now_ += which == ADP_SELECT_MAIN ? p.bytes + uplink_overhead : 0;
                continue;
            }
            rendition.queue.push_back(
                {rendition.serial, which, rendition.picture, bytes == 0, p.bytes + uplink_overhead, now_us_});
            camera.queued_bytes += p.bytes + uplink_overhead;
        }
    }

    bool passes(size_t index, uint64_t serial, adp_select_packet p) {
        adp_select_camera* c = cameras_[index].state.get();
        adp_select_verdict verdict = adp_select_quick(&c->streams[p.rendition], &p);
        if (verdict == ADP_SELECT_LOOK) verdict = adp_select_on_packet(c, &p);
        if (verdict == ADP_SELECT_DECIDE) verdict = decide(index, serial, p);
        return verdict == ADP_SELECT_PASS;
    }

    adp_select_verdict decide(size_t index, uint64_t serial, const adp_select_packet& p) {
        Camera& camera = cameras_[index];
        adp_select_camera* c = camera.state.get();
        const std::array<adp_u32, ADP_OBJECTIVES> objective{};
        adp_u32 flags = adp_select_prepare(c, policy_.priced ? &market_ : nullptr, &camera.feedback, objective.data(),
                                           p.now_us, random_.bits32());
        adp_u32 choice = 0;
        if (flags == 0 && !policy_.outputs) flags = ADP_SELECT_FALLBACK_MADE;
        const std::array<double, 2> truth = camera.truth(serial);
        if (flags != 0) {
            choice = adp_select_fallback(c, p.now_us);
        } else {
            const SelectOutputs outputs = policy_.outputs(index, c->input, truth);
            std::ranges::copy(outputs, c->output);
            c->generation = 1;
            c->offer.explore_q16 = policy_.priced ? static_cast<adp_u32>(s_.explore * ADP_Q16_ONE) : 0;
            choice = adp_select_choose(c->output, &c->offer, &flags);
        }
        const adp_select_verdict verdict = adp_select_act(c, choice, &flags, p.now_us, p.bytes);
        if (counts()) {
            decisions_++;
            shares_[choice & 3]++;
        }
        if (events_.sample) {
            adp_select_sample sample = {};
            adp_select_fill_sample(c, &sample, p.now_us, flags);
            events_.sample(index, sample, truth);
        }
        return verdict;
    }

    // ---- The uplink ----

    // Packets as the link offers room for them.
    void serve() {
        const uint64_t at = (now_us_ - start_us) * 1000;
        room_ += static_cast<double>(s_.trace->capacity_bytes(at, at + step_us * 1000));
        while (room_ > 0) {
            Camera* camera = next_to_send();
            if (camera == nullptr) {
                room_ = std::min(room_, 0.0);  // what nobody takes is gone
                idle_ = true;
                return;
            }
            Rendition& rendition = sending(*camera);
            const Packet packet = rendition.queue.front();
            rendition.queue.pop_front();
            rendition.begun = 1 + packet.serial;
            camera->queued_bytes -= packet.bytes;
            room_ -= packet.bytes;
            delivered_now_ += packet.bytes;
            if (counts()) delivered_ += packet.bytes;
            if (packet.last) arrive(*camera, packet);
        }
    }

    static Rendition& sending(Camera& camera) {
        return camera.renditions[camera.renditions[ADP_SELECT_SUB].queue.empty() ? ADP_SELECT_MAIN : ADP_SELECT_SUB];
    }

    // As the relay does: sub streams in turn, then main streams by what was measured that they gain for a byte; of a
    // chunk that has begun the IDR picture is paid for.
    Camera* next_to_send() {
        Camera* next = nullptr;
        double most = -1;
        for (size_t n = 0; n < cameras_.size(); n++) {
            Camera& camera = cameras_[(turn_ + n) % cameras_.size()];
            for (Rendition& rendition : camera.renditions) drop_late(camera, rendition);
            const Rendition& rendition = sending(camera);
            if (rendition.queue.empty()) continue;
            const adp_select_stream& main = camera.state->streams[ADP_SELECT_MAIN];
            const bool begun = rendition.begun == 1 + rendition.queue.front().serial;
            const double rate = begun ? std::min<double>(main.rate, camera.plan.fps * main.picture_bytes)
                                      : static_cast<double>(main.rate);
            const double gain = &rendition == &camera.renditions[ADP_SELECT_SUB]
                                    ? std::numeric_limits<double>::infinity()
                                : rate > 0 ? std::max(camera.measured.gain(), 0.0) * camera.plan.fps / rate
                                           : 0;
            if (gain > most) {
                most = gain;
                next = &camera;
            }
        }
        turn_++;
        return next;
    }

    // As the relay does: what has waited too long, and what comes after it in its chunk.
    void drop_late(Camera& camera, Rendition& rendition) {
        const bool sub = &rendition == &camera.renditions[ADP_SELECT_SUB];
        const auto late = [&] {
            const bool begun = rendition.begun == 1 + rendition.queue.front().serial;
            return static_cast<uint64_t>(s_.late_s * 1e6 * (sub ? relay::sub_late : begun ? 1 : relay::begin_late));
        };
        while (s_.late_s > 0 && !rendition.queue.empty() && now_us_ - rendition.queue.front().captured_us > late()) {
            const Packet first = rendition.queue.front();
            while (!rendition.queue.empty() && rendition.queue.front().serial == first.serial) {
                const Packet& packet = rendition.queue.front();
                camera.queued_bytes -= packet.bytes;
                main_late_now_ += packet.rendition == ADP_SELECT_MAIN ? packet.bytes : 0;
                rendition.queue.pop_front();
            }
            // Of the chunk that is being taken nothing more comes.
            if (first.serial == rendition.serial) rendition.cut_at = 0;
            const auto flight = rendition.flights.find(first.serial);
            if (flight != rendition.flights.end()) flight->second.whole = false;
        }
    }

    void arrive(Camera& camera, const Packet& packet) {
        const uint64_t at_us = now_us_ + static_cast<uint64_t>(s_.rtt_s / 2 * 1e6);
        const double delay = static_cast<double>(at_us - packet.captured_us) / 1e6;
        if (counts()) delays_.push_back(static_cast<float>(delay));
        const auto flight = camera.renditions[packet.rendition].flights.find(packet.serial);
        if (delay <= s_.deadline_s) {
            std::vector<double>& credit = camera.credit[packet.serial];
            if (packet.picture < credit.size())
                credit[packet.picture] =
                    std::max(credit[packet.picture], camera.truth(packet.serial)[packet.rendition]);
            if (counts()) timely_++;
        }
        if (flight == camera.renditions[packet.rendition].flights.end()) return;
        if (++flight->second.came == flight->second.pictures) {
            flight->second.arrived_us = at_us;
            ended(camera, packet.rendition, packet.serial);
        }
    }

    // ---- The server ----

    void ended(Camera& camera, uint32_t which, uint64_t serial) {
        const Flight& flight = camera.renditions[which].flights[serial];
        auto& others = camera.renditions[which ^ 1].flights;
        const auto other = others.find(serial);
        const bool both = other != others.end() && other->second.whole;
        const SelectChunk& chunk = camera.chunk(serial);
        const auto due = [&](uint64_t from_us) {
            return from_us + static_cast<uint64_t>((camera.plan.report_s + s_.rtt_s / 2) * 1e6);
        };
        if (both && other->second.arrived_us != 0) {
            const std::array<double, 2> truth = camera.truth(serial);
            camera.last_sub_worth = truth[0];
            camera.last_main_worth = truth[1];
            Report report;
            report.due_us = due(flight.arrived_us);
            report.measured = true;
            report.sub_worth = truth[0];
            report.gain = truth[1] - truth[0];
            report.chunk_us = (which == ADP_SELECT_MAIN ? flight : other->second).start_us;
            post(camera, report);
        } else if (both) {
            return;  // the other one is under way: reported together
        }
        const uint32_t best = both ? uint32_t{ADP_SELECT_MAIN} : which;
        Report report;
        report.due_us = due(flight.arrived_us);
        report.objects = chunk.objects[best];
        report.confidence = chunk.confidence[best];
        report.accuracy = best == ADP_SELECT_MAIN ? camera.last_main_worth : camera.last_sub_worth;
        post(camera, report);
    }

    void post(Camera& camera, const Report& report) {
        if (random_.uniform() < camera.plan.report_loss) return;
        camera.reports.push_back(report);
    }

    void report(size_t index) {
        Camera& camera = cameras_[index];
        std::erase_if(camera.reports, [&](const Report& r) {
            if (r.due_us > now_us_) return false;
            adp_select_feedback& f = camera.feedback;
            if (r.measured) {
                camera.measured.add(camera.state->id, r.sub_worth, r.gain);
                f.sub_worth_q16 = static_cast<adp_u32>(std::lround(camera.measured.sub_worth() * ADP_Q16_ONE));
                f.gain_q16 = static_cast<adp_s32>(std::lround(camera.measured.gain() * ADP_Q16_ONE));
                f.measured_us = now_us_;
                if (events_.measured) events_.measured(index, camera.state->id, r.chunk_us, r.sub_worth, r.gain);
            } else {
                f.objects = static_cast<adp_u32>(std::lround(r.objects));
                f.confidence_q16 = static_cast<adp_u32>(std::lround(r.confidence * ADP_Q16_ONE));
                f.accuracy_q16 = static_cast<adp_u32>(std::lround(r.accuracy * ADP_Q16_ONE));
                f.seen_us = now_us_;
            }
            return true;
        });
        // Slots that are over, and chunks of which nothing more will come.
        const uint64_t playing = std::min(camera.renditions[0].serial, camera.renditions[1].serial);
        const auto length_us =
            static_cast<uint64_t>(1e6 / camera.plan.fps * static_cast<double>(camera.chunk(playing).bytes[0].size()));
        const uint64_t old = 3 + static_cast<uint64_t>(s_.deadline_s * 1e6) / length_us;
        while (!camera.credit.empty() && camera.credit.begin()->first + old < playing) {
            if (counts() && now_us_ - old * length_us > start_us + static_cast<uint64_t>(s_.skip_s * 1e6)) {
                for (const double credit : camera.credit.begin()->second) camera.f1_sum += credit;
                camera.f1_count += camera.credit.begin()->second.size();
            }
            camera.credit.erase(camera.credit.begin());
        }
        const uint64_t gone = old + report_tries_us / length_us;
        for (Rendition& rendition : camera.renditions)
            while (!rendition.flights.empty() && rendition.flights.begin()->first + gone < playing)
                rendition.flights.erase(rendition.flights.begin());
    }

    void set_price() {
        relay::Uplink uplink;
        for (const Camera& camera : cameras_) uplink.backlog_bytes += static_cast<double>(camera.queued_bytes);
        const double seconds = static_cast<double>(price_us) / 1e6;
        uplink.delivered_rate = delivered_now_ / seconds;
        uplink.offered_rate = offered_now_ / seconds;
        uplink.app_limited = idle_;
        uplink.cameras = static_cast<uint32_t>(cameras_.size());
        uplink.main_rate = main_now_ / seconds;
        uplink.main_late_rate = main_late_now_ / seconds;
        const relay::Price price = price_.step(uplink, seconds);
        market_.time_us = now_us_;
        market_.price_q16 = static_cast<adp_u32>(std::lround(price.price * ADP_Q16_ONE));
        market_.main_limit = price.main_limit;
        market_.used_q16 = static_cast<adp_u32>(std::lround(price.used * ADP_Q16_ONE));
        market_.cameras = static_cast<adp_u32>(cameras_.size());
        market_.main_late_q16 = static_cast<adp_u32>(std::lround(price.main_late * ADP_Q16_ONE));
        if (counts()) {
            price_sum_ += price.price;
            prices_++;
        }
        delivered_now_ = offered_now_ = main_now_ = main_late_now_ = 0;
        idle_ = false;
    }

    SelectScore score() {
        SelectScore score;
        const double seconds = s_.seconds - s_.skip_s;
        for (const Camera& camera : cameras_) {
            score.f1_of.push_back(camera.f1_count > 0 ? camera.f1_sum / static_cast<double>(camera.f1_count) : 0);
            score.f1 += score.f1_of.back() / static_cast<double>(cameras_.size());
        }
        score.bytes = delivered_ / seconds;
        score.offered = offered_ / seconds;
        score.decisions = decisions_;
        for (size_t i = 0; i < 4; i++)
            score.share[i] = decisions_ > 0 ? static_cast<double>(shares_[i]) / static_cast<double>(decisions_) : 0;
        if (!delays_.empty()) {
            double sum = 0;
            for (const float delay : delays_) sum += delay;
            score.delay_s = sum / static_cast<double>(delays_.size());
            const size_t at = delays_.size() * 95 / 100;
            std::ranges::nth_element(delays_, delays_.begin() + static_cast<ptrdiff_t>(at));
            score.delay_p95_s = delays_[at];
        }
        score.late = chosen_pictures_ > 0
                         ? std::max(0.0, 1 - static_cast<double>(timely_) / static_cast<double>(chosen_pictures_))
                         : 0;
        score.price = prices_ > 0 ? price_sum_ / static_cast<double>(prices_) : 0;
        return score;
    }

    const SelectScenario& s_;
    const SelectPolicy& policy_;
    const SelectEvents& events_;
    Random random_;
    relay::PriceController price_;
    std::vector<Camera> cameras_;
    adp_select_market market_{};
    uint64_t now_us_ = start_us;
    double room_ = 0;  // bytes that the link can take now
    size_t turn_ = 0;
    bool idle_ = true;
    // Since the last price.
    double delivered_now_ = 0, offered_now_ = 0;
    double main_now_ = 0, main_late_now_ = 0;  // of the main streams: offered; dropped, or too late
    double delivered_ = 0, offered_ = 0;
    uint64_t decisions_ = 0;
    std::array<uint64_t, 4> shares_{};
    uint64_t chosen_pictures_ = 0, timely_ = 0;
    std::vector<float> delays_;
    double price_sum_ = 0;
    uint64_t prices_ = 0;
};

}  // namespace

SelectScore run_select(const SelectScenario& scenario, const SelectPolicy& policy, const SelectEvents& events) {
    return Run(scenario, policy, events).run();
}

}  // namespace adapath
