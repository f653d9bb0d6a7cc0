// See record_reader.h.
#include "userspace/server/record_reader.h"

#include <adapath/select.h>

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "userspace/relay/record.h"

namespace adapath::server {

namespace {

// 2^56 us are 2,000 years of uptime: sums and differences stay far from where they would wrap.
constexpr uint64_t largest_us = uint64_t{1} << 56;

uint64_t number(const adp_u8* from, int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) value = value << 8 | from[i];
    return value;
}

bool fits_a_name(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
}

}  // namespace

bool is_gateway_name(std::string_view name) {
    return !name.empty() && name.size() < ADP_RELAY_GATEWAY_BYTES && std::all_of(name.begin(), name.end(), fits_a_name);
}

std::span<uint8_t> RecordReader::space() {
    // What is left is part of one record.
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
    record_.packet = {};
    return std::span(buffer_).subspan(end_);
}

Result<RecordReader::State> RecordReader::next() {
    if (!greeted_) {
        if (end_ - begin_ < sizeof(adp_relay_hello)) return State::more;
        if (Status read = read_hello(); !read) return read.error();
        greeted_ = true;
        return State::hello;
    }
    if (end_ == begin_) return State::more;
    if (ended_) return Error{fmt::format("{} bytes after the record that ends the camera", end_ - begin_)};
    adp_relay_wire wire;
    if (end_ - begin_ < sizeof wire) return State::more;
    std::memcpy(&wire, buffer_.data() + begin_, sizeof wire);
    const uint64_t length = number(wire.length, 2);
    const bool end = (wire.flags & ADP_RELAY_END) != 0;
    if ((wire.flags & ~ADP_RELAY_FLAGS) != 0)
        return Error{fmt::format("malformed record: unknown flags {:#04x}", wire.flags)};
    if (wire.rendition >= ADP_SELECT_RENDITIONS)
        return Error{fmt::format("malformed record: rendition {} (0 is sub, 1 is main)", wire.rendition)};
    if (length > ADP_RELAY_PACKET_MAX || (length == 0) != end)
        return Error{fmt::format("malformed record: a packet of {} bytes (1 to {}, and none in the last record)",
                                 length, ADP_RELAY_PACKET_MAX)};
    if (end_ - begin_ - sizeof wire < length) return State::more;
    const uint64_t received_us = number(wire.received_us, 8);
    // The last record's time says nothing.
    if (Status checked = end ? Status{} : check_time(wire.rendition, received_us); !checked) return checked.error();
    record_.rendition = wire.rendition;
    record_.end = end;
    record_.after_drop = (wire.flags & ADP_RELAY_AFTER_DROP) != 0;
    record_.received_us = received_us;
    record_.packet = std::span<const uint8_t>(buffer_).subspan(begin_ + sizeof wire, length);
    begin_ += sizeof wire + length;
    ended_ = end;
    return State::record;
}

Status RecordReader::read_hello() {
    adp_relay_hello wire;
    std::memcpy(&wire, buffer_.data() + begin_, sizeof wire);
    if (number(wire.magic, 4) != ADP_RELAY_MAGIC)
        return Error{fmt::format(
            "malformed hello: it begins with {:#010x} instead of {:#010x}: whoever that is, it is no adapath-relay",
            number(wire.magic, 4), ADP_RELAY_MAGIC)};
    if (wire.version != ADP_RELAY_VERSION)
        return Error{fmt::format("malformed hello: version {} instead of {}: use relay and server of one release",
                                 wire.version, ADP_RELAY_VERSION)};
    const char* name = reinterpret_cast<const char*>(wire.gateway);
    const size_t length = strnlen(name, sizeof wire.gateway);
    const bool filled = std::all_of(name + length, name + sizeof wire.gateway, [](char c) { return c == 0; });
    if (wire.reserved != 0 || !filled || !is_gateway_name({name, length}))
        return Error{"malformed hello: a gateway's name is 1 to 63 of A-Z a-z 0-9 . _ -, then zeros"};
    hello_.gateway.assign(name, length);
    hello_.camera = static_cast<uint16_t>(number(wire.camera, 2));
    begin_ += sizeof wire;
    return {};
}

Status RecordReader::check_time(uint32_t rendition, uint64_t received_us) {
    uint64_t& latest_us = latest_us_[rendition];
    if (received_us > largest_us)
        return Error{fmt::format("malformed record: {} us is no time of a monotonic clock", received_us)};
    if (received_us + ADP_RELAY_BACKWARDS_US < latest_us)
        return Error{fmt::format("malformed record: its time is {} us before that of an earlier one of its rendition",
                                 latest_us - received_us)};
    latest_us = std::max(latest_us, received_us);
    return {};
}

}  // namespace adapath::server
