// See chunk_filter.h. Chunks, senders and order are told as the kernel side does it (select.h).
#include "userspace/relay/chunk_filter.h"

#include <adapath/select.h>

namespace adapath::relay {

// Extends the number; false where the sequence leapt back so far that another one has begun.
bool ChunkFilter::place(uint16_t sequence, uint32_t& extended) {
    const auto ahead = static_cast<int16_t>(sequence - static_cast<uint16_t>(newest_));
    extended = newest_ + static_cast<uint32_t>(static_cast<int32_t>(ahead));
    if (ahead > 0) {
        newest_ = extended;
    }
    return ahead >= -ADP_SELECT_MISORDER;
}

ChunkFilter::Verdict ChunkFilter::drop(uint32_t bytes) {
    counters_.dropped_packets++;
    counters_.dropped_bytes += bytes;
    dropped_ = true;
    return {};
}

void ChunkFilter::end_passing() {
    if (passing_) {
        counters_.cut_chunks++;
        passing_ = false;
    }
}

void ChunkFilter::cut() {
    end_passing();
    passing_before_ = false;
    dropped_ = dropped_ || known_;
}

ChunkFilter::Verdict ChunkFilter::on_packet(const adp_rtp& rtp, uint32_t contents, uint32_t bytes, Pressure pressure,
                                            uint64_t now_us) {
    if (known_ && rtp.ssrc != ssrc_ && now_us - last_us_ < ADP_SELECT_SILENT_US) {
        counters_.foreign++;
        return {};
    }
    uint32_t extended = 0;
    if (!known_ || rtp.ssrc != ssrc_ || !place(rtp.sequence, extended)) {
        ssrc_ = rtp.ssrc;
        newest_ = extended = 0x10000U + rtp.sequence;  // above what a late packet goes back by
        end_passing();
        passing_before_ = false;
        known_ = true;
        in_chunk_ = false;
    }
    last_us_ = now_us;

    const bool behind = static_cast<int32_t>(extended - first_) < 0;
    if ((contents & ADP_H264_BEGINS) != 0 && (!in_chunk_ || (rtp.timestamp != timestamp_ && !behind))) {
        counters_.chunks++;
        passing_before_ = passing_;
        passing_ = pressure == Pressure::none;
        in_chunk_ = true;
        first_ = extended;
        timestamp_ = rtp.timestamp;
        picture_ = rtp.timestamp;
        counters_.dropped_chunks += passing_ ? 0 : 1;
    } else if (!in_chunk_) {
        counters_.waiting++;
        return drop(bytes);
    } else if (behind && rtp.timestamp != timestamp_) {
        return passing_before_ && pressure != Pressure::packets ? Verdict{.pass = true} : drop(bytes);
    } else {
        const bool new_picture = static_cast<int32_t>(rtp.timestamp - picture_) > 0;
        if (new_picture) {
            picture_ = rtp.timestamp;
        }
        if (pressure == Pressure::packets || (pressure == Pressure::pictures && new_picture)) {
            end_passing();
        }
    }
    if (!passing_) {
        return drop(bytes);
    }
    const Verdict verdict{true, dropped_, extended == first_};
    dropped_ = false;
    return verdict;
}

}  // namespace adapath::relay
