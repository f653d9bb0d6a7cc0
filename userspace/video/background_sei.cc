// See background_sei.h.
#include "userspace/video/background_sei.h"

#include <algorithm>

#include <fmt/format.h>

namespace adapath::video {

namespace {

constexpr uint8_t type_sei = 6;
constexpr uint32_t user_data_unregistered = 5;
constexpr uint8_t group_begins = 0x10;
constexpr uint8_t group_goes_on = 0x11;
// A note on 4096x4096 pixels has 65,536 blocks, and none takes as much as two bytes.
constexpr size_t most_note_bytes = size_t{128} << 10;

bool is_slice(uint8_t header) { return (header & 31) >= 1 && (header & 31) <= 5; }

// A NAL unit of Annex B: where its start code begins, and where its header byte is. Both are the end where there is
// none.
struct Unit {
    size_t start;
    size_t header;
};

// The first one at `from` or behind.
Unit next_unit(std::span<const uint8_t> bytes, size_t from) {
    for (size_t i = from; i + 3 < bytes.size(); i++) {
        if (bytes[i] == 0 && bytes[i + 1] == 0 && bytes[i + 2] == 1) {
            return {i > from && bytes[i - 1] == 0 ? i - 1 : i, i + 3};
        }
    }
    return {bytes.size(), bytes.size()};
}

void put32(std::vector<uint8_t>& to, uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) {
        to.push_back(static_cast<uint8_t>(value >> shift));
    }
}

uint32_t get32(std::span<const uint8_t> from) {
    return uint32_t{from[0]} << 24 | uint32_t{from[1]} << 16 | uint32_t{from[2]} << 8 | from[3];
}

// What a SEI unit says without the bytes that keep start codes out of it; at most so many.
std::vector<uint8_t> without_escapes(std::span<const uint8_t> unit, size_t most) {
    std::vector<uint8_t> out;
    out.reserve(std::min(unit.size(), most));
    int zeros = 0;
    for (const uint8_t byte : unit) {
        if (zeros >= 2 && byte == 3) {
            zeros = 0;
            continue;
        }
        if (out.size() == most) {
            break;
        }
        out.push_back(byte);
        zeros = byte == 0 ? zeros + 1 : 0;
    }
    return out;
}

// Of a SEI message's type or length: bytes of 255 are added up, the first other one ends it.
std::optional<size_t> take_number(std::span<const uint8_t>& from) {
    size_t value = 0;
    while (!from.empty() && from.front() == 255) {
        value += 255;
        from = from.subspan(1);
    }
    if (from.empty()) {
        return std::nullopt;
    }
    value += from.front();
    from = from.subspan(1);
    return value;
}

void put_number(std::vector<uint8_t>& to, size_t value) {
    for (; value >= 255; value -= 255) {
        to.push_back(255);
    }
    to.push_back(static_cast<uint8_t>(value));
}

// Behind the UUID.
Result<BackgroundSei> parse(std::span<const uint8_t> bytes) {
    BackgroundSei sei;
    sei.begins = !bytes.empty() && bytes[0] == group_begins;
    const size_t head = sei.begins ? 9 : 2;
    if (bytes.size() < head || (!sei.begins && bytes[0] != group_goes_on)) {
        return Error{fmt::format("a background note that begins with {} ({} bytes): this program knows {} and {}",
                                 bytes.empty() ? 0 : bytes[0], bytes.size(), group_begins, group_goes_on)};
    }
    sei.epoch = sei.begins ? get32(bytes.subspan(1)) : 0;
    sei.number = sei.begins ? get32(bytes.subspan(5)) : bytes[1];
    bytes = bytes.subspan(head);
    if (bytes.size() > most_note_bytes) {
        return Error{fmt::format("a background note of {} bytes: at most {}", bytes.size(), most_note_bytes)};
    }
    sei.note.assign(bytes.begin(), bytes.end());
    return sei;
}

}  // namespace

Result<std::vector<uint8_t>> with_background_sei(std::span<const uint8_t> access_unit, const BackgroundSei& sei) {
    if (sei.note.size() > most_note_bytes) {
        return Error{fmt::format("a background note of {} bytes: at most {}", sei.note.size(), most_note_bytes)};
    }
    Unit slice = next_unit(access_unit, 0);
    while (slice.header < access_unit.size() && !is_slice(access_unit[slice.header])) {
        slice = next_unit(access_unit, slice.header);
    }
    if (slice.header == access_unit.size()) {
        return Error{"an access unit without a slice"};
    }
    std::vector<uint8_t> message = {group_goes_on};
    if (sei.begins) {
        message[0] = group_begins;
        put32(message, sei.epoch);
        put32(message, sei.number);
    } else {
        message.push_back(static_cast<uint8_t>(sei.number));
    }
    message.insert(message.end(), sei.note.begin(), sei.note.end());

    std::vector<uint8_t> payload = {user_data_unregistered};
    put_number(payload, background_uuid.size() + message.size());
    payload.insert(payload.end(), background_uuid.begin(), background_uuid.end());
    payload.insert(payload.end(), message.begin(), message.end());
    payload.push_back(0x80);  // the bit that ends it

    const auto at = access_unit.begin() + static_cast<std::ptrdiff_t>(slice.start);
    std::vector<uint8_t> out(access_unit.begin(), at);
    out.reserve(access_unit.size() + payload.size() * 3 / 2 + 5);
    out.insert(out.end(), {0, 0, 0, 1, type_sei});
    int zeros = 0;
    for (const uint8_t byte : payload) {
        if (zeros >= 2 && byte <= 3) {
            out.push_back(3);
            zeros = 0;
        }
        out.push_back(byte);
        zeros = byte == 0 ? zeros + 1 : 0;
    }
    out.insert(out.end(), at, access_unit.end());
    return out;
}

Result<std::optional<BackgroundSei>> find_background_sei(std::span<const uint8_t> access_unit) {
    std::optional<BackgroundSei> found;
    Unit unit = next_unit(access_unit, 0);
    // It stands before the first slice: the greater part of the access unit need not be looked through.
    while (unit.header < access_unit.size() && !is_slice(access_unit[unit.header])) {
        const Unit after = next_unit(access_unit, unit.header);
        if ((access_unit[unit.header] & 31) == type_sei) {
            const std::vector<uint8_t> sei = without_escapes(
                access_unit.subspan(unit.header + 1, after.start - unit.header - 1), most_note_bytes * 2);
            std::span<const uint8_t> rest(sei);
            // Two bytes are the least that a message has; the last byte of the unit is none.
            while (rest.size() > 2) {
                const std::optional<size_t> type = take_number(rest);
                const std::optional<size_t> size = type ? take_number(rest) : std::nullopt;
                if (!size) {
                    break;
                }
                const bool ours = *type == user_data_unregistered && *size >= background_uuid.size() &&
                                  rest.size() >= background_uuid.size() &&
                                  std::equal(background_uuid.begin(), background_uuid.end(), rest.begin());
                if (*size > rest.size()) {
                    if (ours) {
                        return Error{
                            fmt::format("a background note of {} bytes, of which {} are there", *size, rest.size())};
                    }
                    break;
                }
                if (ours) {
                    if (found) {
                        return Error{"a picture with two background notes"};
                    }
                    Result<BackgroundSei> parsed =
                        parse(rest.subspan(background_uuid.size(), *size - background_uuid.size()));
                    if (!parsed) {
                        return parsed.error();
                    }
                    found = std::move(*parsed);
                }
                rest = rest.subspan(*size);
            }
        }
        unit = after;
    }
    return found;
}

}  // namespace adapath::video
