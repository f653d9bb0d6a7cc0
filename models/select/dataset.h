// What a camera's two renditions weigh and what they are worth to the server's vision network, chunk by chunk, as
// measured once: what select's simulator plays. No LibTorch.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "codegen/result.h"

namespace adapath {

// One group of pictures, in both renditions; [0] sub, [1] main (enum adp_select_rendition).
struct SelectChunk {
    uint64_t first = 0;                          // frame of the clip
    std::array<std::vector<uint32_t>, 2> bytes;  // of each picture's access unit, the IDR picture first; equally many
    std::array<double, 2> accuracy = {0,
                                      0};    // mean of the pictures' F1, 0..1; main's is 1 where it is the truth itself
    std::array<double, 2> objects = {0, 0};  // found, mean of a picture
    std::array<double, 2> confidence = {0, 0};  // mean score of them; 0 where there are none
};

struct SelectView {
    std::string name;
    bool held_out = false;           // another camera: not to be trained on
    double fps = 10;                 // of the pictures in it
    std::vector<SelectChunk> late;   // of the clip's later half: to train on
    std::vector<SelectChunk> early;  // of its earlier half: to judge by
};

struct SelectDataset {
    std::vector<SelectView> views;

    // JSON lines, one a chunk, in any order of views; a view's chunks are sorted by their frame. Lines that are cut off
    // (a run that was stopped) are left out. Errors name the file.
    static Result<SelectDataset> read(const std::string& path);
};

// As read() takes it: {"view": name, "held_out": bool, "fps": number, "late": bool, "first": frame, "bytes": [[sub],
// [main]], "accuracy": [sub, main], "objects": ..., "confidence": ...}.
[[nodiscard]] std::string to_json_line(const SelectView& view, bool late, const SelectChunk& chunk);

}  // namespace adapath
