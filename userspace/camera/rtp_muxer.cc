// Access units to RTP packets.
#include "userspace/camera/rtp_muxer.h"

#include <algorithm>

extern "C" {
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
}

#include <fmt/format.h>

#include "userspace/video/av.h"

namespace adapath::camera {

namespace {

constexpr size_t header_bytes = 12;
constexpr size_t least_packet = 100;
constexpr size_t most_packet = 9000;

struct MuxerDeleter {
    void operator()(AVFormatContext* context) const { avformat_free_context(context); }
};
struct IoDeleter {
    void operator()(AVIOContext* io) const {
        av_freep(&io->buffer);
        avio_context_free(&io);
    }
};

void put16(uint8_t* to, uint32_t value) {
    to[0] = static_cast<uint8_t>(value >> 8);
    to[1] = static_cast<uint8_t>(value);
}
void put32(uint8_t* to, uint32_t value) {
    put16(to, value >> 16);
    put16(to + 2, value);
}

}  // namespace

struct RtpMuxer::State {
    RtpOptions options;
    uint16_t sequence = 0;
    uint32_t timestamp = 0;  // of the picture under way
    std::vector<std::vector<uint8_t>> packets;
    size_t used = 0;  // of them; the others keep their memory
    std::vector<uint8_t> padded;
    video::AvPacket packet{av_packet_alloc()};
    std::unique_ptr<AVIOContext, IoDeleter> io;
    std::unique_ptr<AVFormatContext, MuxerDeleter> format;
    bool begun = false;

    ~State() {
        if (begun) {
            av_write_trailer(format.get());
        }
    }

    static int on_packet(void* self, uint8_t* bytes, int size) {
        static_cast<State*>(self)->take({bytes, static_cast<size_t>(size)});
        return size;
    }
    void take(std::span<const uint8_t> bytes) {
        // libav sends RTCP's sender reports down the same way.
        if (bytes.size() < header_bytes || (bytes[1] & 127) != options.payload_type) {
            return;
        }
        if (used == packets.size()) {
            packets.emplace_back();
        }
        std::vector<uint8_t>& packet_bytes = packets[used++];
        packet_bytes.assign(bytes.begin(), bytes.end());
        put16(packet_bytes.data() + 2, sequence++);
        put32(packet_bytes.data() + 4, timestamp);
        put32(packet_bytes.data() + 8, options.ssrc);
    }
};

RtpMuxer::RtpMuxer(std::unique_ptr<State> state) : state_(std::move(state)) {}
RtpMuxer::RtpMuxer(RtpMuxer&& other) noexcept = default;
RtpMuxer& RtpMuxer::operator=(RtpMuxer&& other) noexcept = default;
RtpMuxer::~RtpMuxer() = default;

Result<RtpMuxer> RtpMuxer::open(const RtpOptions& options, video::Size size) {
    if (options.packet_bytes < least_packet || options.packet_bytes > most_packet) {
        return Error{fmt::format("packets of {} bytes: {} to {}", options.packet_bytes, least_packet, most_packet)};
    }
    if (options.payload_type < 96 || options.payload_type > 127) {
        return Error{
            fmt::format("payload type {}: H.264 has one of the dynamic ones, 96 to 127", options.payload_type)};
    }
    auto state = std::make_unique<State>();
    state->options = options;
    state->sequence = options.sequence;
    AVFormatContext* format = nullptr;
    if (int error = avformat_alloc_output_context2(&format, nullptr, "rtp", nullptr); error < 0) {
        return Error{fmt::format("this libav has no RTP muxer: {}", video::av_text(error))};
    }
    state->format.reset(format);
    AVStream* stream = avformat_new_stream(format, nullptr);
    if (stream == nullptr) {
        return Error{"out of memory for an RTP stream"};
    }
    stream->codecpar->codec_type = AVMEDIA_TYPE_VIDEO;
    stream->codecpar->codec_id = AV_CODEC_ID_H264;
    stream->codecpar->width = size.width;
    stream->codecpar->height = size.height;
    stream->time_base = {1, 90000};
    const int bytes = static_cast<int>(options.packet_bytes);
    state->io.reset(avio_alloc_context(static_cast<uint8_t*>(av_malloc(options.packet_bytes)), bytes, 1, state.get(),
                                       nullptr, &State::on_packet, nullptr));
    state->io->max_packet_size = bytes;
    format->pb = state->io.get();
    format->packet_size = static_cast<unsigned>(bytes);
    AVDictionary* settings = nullptr;
    av_dict_set_int(&settings, "payload_type", options.payload_type, 0);
    av_dict_set(&settings, "rtpflags", "skip_rtcp", 0);
    const int error = avformat_write_header(format, &settings);
    av_dict_free(&settings);
    if (error < 0) {
        return Error{fmt::format("libav's RTP muxer: {}", video::av_text(error))};
    }
    state->begun = true;
    return RtpMuxer(std::move(state));
}

Result<std::span<const std::vector<uint8_t>>> RtpMuxer::packets(std::span<const uint8_t> access_unit, int64_t ticks) {
    State& s = *state_;
    s.used = 0;
    s.timestamp = s.options.timestamp + static_cast<uint32_t>(ticks);
    s.padded.assign(access_unit.begin(), access_unit.end());
    s.padded.insert(s.padded.end(), AV_INPUT_BUFFER_PADDING_SIZE, 0);
    s.packet->data = s.padded.data();
    s.packet->size = static_cast<int>(access_unit.size());
    s.packet->pts = s.packet->dts = ticks;
    s.packet->stream_index = 0;
    const int error = av_write_frame(s.format.get(), s.packet.get());
    s.packet->data = nullptr;
    s.packet->size = 0;
    if (error < 0) {
        return Error{fmt::format("libav's RTP muxer: {}", video::av_text(error))};
    }
    return std::span<const std::vector<uint8_t>>(s.packets.data(), s.used);
}

}  // namespace adapath::camera
