// See record_stream.h.
#include "userspace/camera/record_stream.h"

#include <optional>
#include <random>

#include "userspace/camera/rtp_muxer.h"
#include "userspace/relay/record_bytes.h"

namespace adapath::camera {

namespace {

// Of a TCP connection, which cuts as it likes; but the server, like the relay, takes an RTP packet to be one of UDP's.
constexpr size_t packet_bytes = 1400;
constexpr uint64_t ticks_a_second = 90'000;  // RTP's clock for video

class RecordStream final : public video::StreamFormat {
public:
    RecordStream(std::string gateway, uint16_t camera, RtpMuxer muxer)
        : gateway_(std::move(gateway)), camera_(camera), muxer_(std::move(muxer)) {}

    [[nodiscard]] std::vector<uint8_t> hello() const override { return relay::hello_bytes(camera_, gateway_); }

    Result<std::vector<uint8_t>> frame(const adp_video_header& header, std::span<const uint8_t> access_unit) override {
        if (!first_ns_) {
            first_ns_ = header.capture_ns;
        }
        const auto ticks = static_cast<int64_t>((header.capture_ns - *first_ns_) / 1000 * ticks_a_second / 1'000'000);
        const auto packets = muxer_.packets(access_unit, ticks);
        if (!packets) {
            return packets.error();
        }
        std::vector<uint8_t> bytes;
        for (const std::vector<uint8_t>& packet : *packets) {
            const std::vector<uint8_t> record =
                relay::record_bytes(ADP_SELECT_MAIN, 0, header.capture_ns / 1000, packet);
            bytes.insert(bytes.end(), record.begin(), record.end());
        }
        return bytes;
    }

    [[nodiscard]] std::vector<uint8_t> end(const adp_video_header& header) const override {
        return relay::record_bytes(ADP_SELECT_MAIN, ADP_RELAY_END, header.capture_ns / 1000, {});
    }

private:
    const std::string gateway_;
    const uint16_t camera_;
    RtpMuxer muxer_;
    std::optional<uint64_t> first_ns_;
};

}  // namespace

video::StreamFormatFactory record_streams(const std::string& gateway) {
    return [gateway](uint16_t camera, video::Size size) -> Result<std::unique_ptr<video::StreamFormat>> {
        std::random_device random;
        RtpOptions options;
        options.ssrc = random();
        options.sequence = static_cast<uint16_t>(random());
        options.timestamp = random();
        options.packet_bytes = packet_bytes;
        Result<RtpMuxer> muxer = RtpMuxer::open(options, size);
        if (!muxer) {
            return muxer.error();
        }
        return std::unique_ptr<video::StreamFormat>(std::make_unique<RecordStream>(gateway, camera, std::move(*muxer)));
    };
}

}  // namespace adapath::camera
