// What the server's tests send: pictures through x264 into RTP packets, and those in the relay's records over TCP.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <adapath/select.h>

#include "tests/support/patience.h"
#include "tests/support/rtp_camera.h"
#include "tests/video/pattern.h"
#include "userspace/relay/record.h"
#include "userspace/video/clip.h"
#include "userspace/video/encoder.h"
#include "userspace/video/net.h"

namespace adapath::testing {

struct Encoded {
    Bytes bytes;  // Annex B
    bool key = false;
};

// Groups of ten pictures: at five a second the encoder makes an IDR picture every two seconds.
constexpr double sent_fps = 5;
constexpr size_t group = 10;
constexpr uint64_t picture_us = 200'000;

inline std::vector<Encoded> encode(const video::Clip& clip, double kbps, size_t pictures) {
    Result<video::Encoder> encoder = video::Encoder::open(clip.size(), sent_fps, kbps);
    if (!encoder) throw std::runtime_error(encoder.error().message);
    std::vector<Encoded> all;
    for (size_t i = 0; i < pictures; i++) {
        Result<video::EncodedFrame> frame = encoder->encode(clip.picture(i));
        if (!frame) throw std::runtime_error(frame.error().message);
        all.push_back({Bytes(frame->bytes.begin(), frame->bytes.end()), frame->key});
    }
    return all;
}

inline std::vector<Encoded> encoded_pattern(video::Size size, size_t pictures, double kbps = 300) {
    Result<video::Clip> clip = video::Clip::from_i420(video::pattern(size, static_cast<uint32_t>(pictures)), size);
    if (!clip) throw std::runtime_error(clip.error().message);
    return encode(*clip, kbps, pictures);
}

// The NAL units between start codes.
inline std::vector<Bytes> nal_units(std::span<const uint8_t> annex_b) {
    std::vector<Bytes> units;
    size_t begin = 0;
    const auto flush = [&](size_t end) {
        while (end > begin && annex_b[end - 1] == 0) end--;  // of a start code with four bytes
        if (begin != 0 && end > begin)
            units.emplace_back(annex_b.begin() + static_cast<long>(begin), annex_b.begin() + static_cast<long>(end));
    };
    for (size_t i = 0; i + 3 <= annex_b.size(); i++) {
        if (annex_b[i] != 0 || annex_b[i + 1] != 0 || annex_b[i + 2] != 1) continue;
        flush(i);
        begin = i + 3;
    }
    flush(annex_b.size());
    return units;
}

// Access units to packets, as cameras do: parameter sets in a STAP-A, long slices in FU-A.
class RtpSender {
public:
    explicit RtpSender(uint32_t ssrc = 7) : ssrc_(ssrc) {}
    size_t payload_limit = 1000;

    std::vector<Bytes> packets(const Bytes& access_unit) {
        std::vector<Bytes> parameters;
        std::vector<Bytes> payloads;
        for (const Bytes& unit : nal_units(access_unit)) {
            const uint8_t type = unit[0] & 31;
            if (type == 7 || type == 8) {
                parameters.push_back(unit);
            } else {
                for (Bytes& payload : packetise(unit, payload_limit)) payloads.push_back(std::move(payload));
            }
        }
        if (!parameters.empty()) payloads.insert(payloads.begin(), stap_a(parameters));
        std::vector<Bytes> all;
        for (size_t i = 0; i < payloads.size(); i++) all.push_back(packet(payloads[i], i + 1 == payloads.size()));
        next();
        return all;
    }
    Bytes packet(std::span<const uint8_t> payload, bool marker) {
        RtpHeader header;
        header.marker = marker;
        header.sequence = sequence++;
        header.timestamp = timestamp;
        header.ssrc = ssrc_;
        return rtp_packet(header, payload);
    }
    void next() { timestamp += static_cast<uint32_t>(90000 / sent_fps); }
    uint16_t sequence = 65530;  // wraps soon
    uint32_t timestamp = 0xffff'0000;

private:
    uint32_t ssrc_;
};

inline Bytes hello_bytes(std::string_view gateway, uint32_t camera) {
    adp_relay_hello hello = {};
    hello.magic[0] = 'A';
    hello.magic[1] = 'D';
    hello.magic[2] = 'P';
    hello.magic[3] = 'R';
    hello.version = ADP_RELAY_VERSION;
    hello.camera[0] = static_cast<uint8_t>(camera >> 8);
    hello.camera[1] = static_cast<uint8_t>(camera);
    std::memcpy(hello.gateway, gateway.data(), std::min(gateway.size(), sizeof hello.gateway));
    const auto* bytes = reinterpret_cast<const uint8_t*>(&hello);
    return {bytes, bytes + sizeof hello};
}

inline Bytes record_bytes(uint32_t rendition, uint64_t received_us, std::span<const uint8_t> packet,
                          uint32_t flags = 0) {
    Bytes bytes;
    put16(bytes, static_cast<uint32_t>(packet.size()));
    bytes.push_back(static_cast<uint8_t>(rendition));
    bytes.push_back(static_cast<uint8_t>(flags));
    put32(bytes, static_cast<uint32_t>(received_us >> 32));
    put32(bytes, static_cast<uint32_t>(received_us));
    append(bytes, packet);
    return bytes;
}

// One connection to a server on this machine.
class Line {
public:
    explicit Line(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address = {};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
            throw std::runtime_error("connect: " + video::errno_text(errno));
    }
    // False once the server has closed it.
    bool send(std::span<const uint8_t> bytes) {
        while (!bytes.empty()) {
            const ssize_t put = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (put <= 0) return false;
            bytes = bytes.subspan(static_cast<size_t>(put));
        }
        return true;
    }
    bool send_packets(uint32_t rendition, uint64_t received_us, const std::vector<Bytes>& packets) {
        for (const Bytes& packet : packets)
            if (!send(record_bytes(rendition, received_us, packet))) return false;
        return true;
    }
    bool send_end() { return send(record_bytes(0, 0, {}, ADP_RELAY_END)); }
    // The server closes it, within 20 s.
    bool wait_closed() {
        pollfd fd = {fd_.get(), POLLIN, 0};
        char byte = 0;
        return poll(&fd, 1, 20'000 * slowness()) == 1 && recv(fd_.get(), &byte, 1, 0) <= 0;
    }
    void close() { fd_.reset(); }

private:
    video::Fd fd_;
};

// A directory that goes away with the test.
class TemporaryDirectory {
public:
    TemporaryDirectory() {
        std::string name = (std::filesystem::temp_directory_path() / "adapath-server-XXXXXX").string();
        if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
        path_ = name;
    }
    ~TemporaryDirectory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    [[nodiscard]] std::string path(const std::string& name = "") const {
        return name.empty() ? path_ : path_ + "/" + name;
    }

private:
    std::string path_;
};

}  // namespace adapath::testing
