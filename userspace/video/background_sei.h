// A picture's note on the remembered background (background.h), inside its access unit: an H.264 SEI message of the
// kind user_data_unregistered, with a UUID of ours. So what cuts, carries and packetises the stream need not know of
// notes, and a decoder passes over them.
//
// After the UUID, numbers big endian:
//
//   u8   0x10: begins a group of pictures; 0x11: any other picture. (The high half is the version.)
//   u32  epoch: the sender's canvas, a number at random. Only where a group begins.
//   u32  the picture's number within the epoch, from 0; where no group begins only its low byte, since such a picture
//        means nothing without the group's first.
//   ...  the note, as write_note() makes it: against the note before, where a group begins against none.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "codegen/result.h"

namespace adapath::video {

// 2c9d1f0a-6b1e-4e57-9a43-61646170716e, drawn once.
inline constexpr std::array<uint8_t, 16> background_uuid = {0x2c, 0x9d, 0x1f, 0x0a, 0x6b, 0x1e, 0x4e, 0x57,
                                                            0x9a, 0x43, 0x61, 0x64, 0x61, 0x70, 0x71, 0x6e};

struct BackgroundSei {
    bool begins = false;  // a group of pictures
    uint32_t epoch = 0;   // read as 0 where none begins
    uint32_t number = 0;  // read as its low byte where none begins
    std::vector<uint8_t> note;

    bool operator==(const BackgroundSei&) const = default;
};

// Puts it before the access unit's first slice (Annex B); a few bytes more than the note: 33 where a group begins, else
// 26. An error where there is no slice.
Result<std::vector<uint8_t>> with_background_sei(std::span<const uint8_t> access_unit, const BackgroundSei& sei);

// None where there is no such message; other SEI messages, whatever is in them, are passed over. Ours being malformed,
// or there twice, is an error.
Result<std::optional<BackgroundSei>> find_background_sei(std::span<const uint8_t> access_unit);

}  // namespace adapath::video
