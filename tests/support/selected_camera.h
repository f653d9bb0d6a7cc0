// A camera's packets through include/adapath/select.h, as the kernel side runs them, but on the host: what passed and
// what did not, held against what was sent.
#pragma once

#include <adapath/select.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "tests/support/rtp_camera.h"

namespace adapath::testing {

// A sent packet: of which chunk it is, counted from the rendition's first.
struct SentPacket {
    uint64_t us = 0;
    uint32_t rendition = 0;
    uint32_t chunk = 0;
    uint64_t number = 0;  // over all packets, so that copies are told from the original
    Bytes bytes{};
};

struct CameraShape {
    std::array<RtpRendition, 2> renditions{};
    std::array<uint64_t, 2> phase_us = {0, 0};  // of the first picture
    uint64_t picture_us = 100000;
    std::array<uint64_t, 2> end_us = {~0ULL, ~0ULL};  // the rendition falls silent
    std::array<uint64_t, 2> begin_us = {0, 0};

    CameraShape() {
        renditions[ADP_SELECT_SUB].ssrc = 0x51;
        renditions[ADP_SELECT_MAIN].ssrc = 0x3a;
        renditions[ADP_SELECT_MAIN].idr_bytes = 30000;
        renditions[ADP_SELECT_MAIN].picture_bytes = 9000;
    }
};

// All packets of both renditions in the time, in order; the packets of a picture come 50 us apart.
inline std::vector<SentPacket> send(CameraShape shape, uint64_t until_us) {
    std::vector<SentPacket> sent;
    for (uint32_t which = 0; which < ADP_SELECT_RENDITIONS; ++which) {
        RtpRendition& r = shape.renditions[which];
        for (uint64_t us = shape.phase_us[which]; us < until_us; us += shape.picture_us) {
            const uint32_t chunk = r.pictures / r.group;
            uint64_t at = us;
            for (Bytes& packet : r.picture()) {
                if (us >= shape.begin_us[which] && us < shape.end_us[which])
                    sent.push_back({at, which, chunk, 0, std::move(packet)});
                at += 50;
            }
        }
    }
    std::ranges::stable_sort(sent, {}, &SentPacket::us);
    for (size_t i = 0; i < sent.size(); ++i) sent[i].number = i;
    return sent;
}

class SelectedCamera {
public:
    // The network: outputs from the input codes. Empty: no snapshot is active.
    std::function<std::array<int32_t, ADP_SELECT_OUTPUTS>(std::span<const uint8_t>)> network;
    adp_select_market market = {};
    adp_select_feedback feedback = {};
    std::array<uint32_t, ADP_OBJECTIVES> objective = {};
    uint32_t explore_q16 = 0;
    uint32_t random = 0xffff;
    bool quick = true;  // as the kernel side does; off: every packet takes the long way

    SelectedCamera() : camera_(std::make_unique<adp_select_camera>()) {
        *camera_ = {};
        camera_->id = 1;
    }

    // Times are moved into a clock that has been running for a while.
    static constexpr uint64_t kStartUs = 1000000000;

    bool packet(uint64_t us, uint32_t rendition, std::span<const uint8_t> bytes) {
        const uint64_t now = kStartUs + us;
        const adp_view view = {bytes.data(), bytes.data() + bytes.size()};
        adp_rtp rtp = {};
        const adp_rtp_found found = adp_rtp_parse(&view, 0, static_cast<uint32_t>(bytes.size()), &rtp);
        if (found != ADP_RTP_PACKET) return adp_select_on_malformed(camera_.get(), rendition) == ADP_SELECT_PASS;
        adp_select_packet p = {};
        p.now_us = now;
        p.rendition = rendition;
        p.bytes = static_cast<uint32_t>(bytes.size());
        p.ssrc = rtp.ssrc;
        p.timestamp = rtp.timestamp;
        p.sequence = rtp.sequence;
        p.contents = adp_h264_look(&view, rtp.offset, rtp.bytes);
        adp_select_verdict verdict = ADP_SELECT_LOOK;
        if (quick) verdict = adp_select_quick(&camera_->streams[rendition], &p);
        if (verdict != ADP_SELECT_LOOK) {
            ++quick_ones_;
            return verdict == ADP_SELECT_PASS;
        }
        verdict = (p.contents & ADP_H264_MALFORMED) != 0 ? adp_select_on_malformed(camera_.get(), rendition)
                                                         : adp_select_on_packet(camera_.get(), &p);
        if (verdict == ADP_SELECT_DECIDE) verdict = decide(p.now_us, p.bytes);
        return verdict == ADP_SELECT_PASS;
    }

    void run(const std::vector<SentPacket>& packets) {
        for (const SentPacket& p : packets) {
            const bool passes = packet(p.us, p.rendition, p.bytes);
            Chunk& chunk = chunks_[{p.rendition, p.chunk}];
            chunk.first_us = chunk.arrived.empty() ? p.us : chunk.first_us;
            chunk.arrived.insert(p.number);
            if (passes) chunk.passed.insert(p.number);
        }
    }

    struct Chunk {
        uint64_t first_us = 0;
        std::set<uint64_t> arrived{};
        std::set<uint64_t> passed{};
        [[nodiscard]] bool whole() const { return passed.size() == arrived.size(); }
        [[nodiscard]] bool none() const { return passed.empty(); }
    };
    [[nodiscard]] const std::map<std::pair<uint32_t, uint32_t>, Chunk>& chunks() const { return chunks_; }
    [[nodiscard]] const Chunk& chunk(uint32_t rendition, uint32_t number) const {
        return chunks_.at({rendition, number});
    }
    [[nodiscard]] size_t halves() const {
        size_t count = 0;
        for (const auto& [key, chunk] : chunks_) count += chunk.whole() || chunk.none() ? 0 : 1;
        return count;
    }
    [[nodiscard]] const std::vector<adp_select_sample>& samples() const { return samples_; }
    [[nodiscard]] const adp_select_camera& state() const { return *camera_; }
    [[nodiscard]] uint64_t passed() const { return camera_->streams[0].passed + camera_->streams[1].passed; }
    [[nodiscard]] uint64_t dropped() const { return camera_->streams[0].dropped + camera_->streams[1].dropped; }
    [[nodiscard]] uint64_t quick_ones() const { return quick_ones_; }

private:
    adp_select_verdict decide(uint64_t now, uint32_t bytes) {
        uint32_t flags = adp_select_prepare(camera_.get(), &market, &feedback, objective.data(), now, random);
        uint32_t choice = 0;
        if (flags == 0 && !network) flags = ADP_SELECT_FALLBACK_MADE;
        if (flags != 0) {
            choice = adp_select_fallback(camera_.get(), now);
        } else {
            const auto output = network(std::span<const uint8_t>(camera_->input));
            std::ranges::copy(output, camera_->output);
            camera_->generation = 1;
            camera_->offer.explore_q16 = explore_q16;
            choice = adp_select_choose(camera_->output, &camera_->offer, &flags);
        }
        const adp_select_verdict verdict = adp_select_act(camera_.get(), choice, &flags, now, bytes);
        adp_select_sample sample = {};
        adp_select_fill_sample(camera_.get(), &sample, now, flags);
        samples_.push_back(sample);
        return verdict;
    }

    std::unique_ptr<adp_select_camera> camera_;
    std::map<std::pair<uint32_t, uint32_t>, Chunk> chunks_;
    std::vector<adp_select_sample> samples_;
    uint64_t quick_ones_ = 0;
};

}  // namespace adapath::testing
