// A synthetic clip for the tests: a moving gradient with a moving box and fixed noise, so that pictures differ from
// each other and do not compress to nothing.
#pragma once

#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "userspace/video/clip.h"

namespace adapath::video {

inline std::vector<uint8_t> pattern(Size size, uint32_t pictures) {
    auto width = static_cast<uint32_t>(size.width);
    auto height = static_cast<uint32_t>(size.height);
    std::mt19937 random(4);
    std::vector<uint8_t> noise(static_cast<size_t>(width) * height);
    for (uint8_t& value : noise) {
        value = static_cast<uint8_t>(random() % 24);
    }
    std::vector<uint8_t> bytes;
    bytes.reserve(picture_bytes(size) * pictures);
    for (uint32_t picture = 0; picture < pictures; picture++) {
        uint32_t box = (picture * 5) % (width - 16);
        for (uint32_t y = 0; y < height; y++) {
            for (uint32_t x = 0; x < width; x++) {
                bool inside = x >= box && x < box + 16 && y >= height / 4 && y < height / 2;
                uint32_t luma = inside ? 200 : 40 + (x + y + picture * 3) % 96;
                bytes.push_back(static_cast<uint8_t>(
                    luma + noise[(static_cast<size_t>(y) * width + x + picture * 7) % noise.size()]));
            }
        }
        for (uint32_t i = 0; i < width * height / 2; i++) {
            bytes.push_back(static_cast<uint8_t>(112 + (i / 8 + picture) % 32));
        }
    }
    return bytes;
}

// As a YUV4MPEG2 file, which libav reads without loss.
inline bool write_y4m(const std::string& path, const std::vector<uint8_t>& bytes, Size size) {
    std::FILE* file = std::fopen(path.c_str(), "wb");
    if (file == nullptr) {
        return false;
    }
    std::fprintf(file, "YUV4MPEG2 W%d H%d F25:1 Ip A1:1 C420jpeg\n", size.width, size.height);
    size_t one = picture_bytes(size);
    for (size_t at = 0; at < bytes.size(); at += one) {
        std::fputs("FRAME\n", file);
        std::fwrite(bytes.data() + at, 1, one, file);
    }
    return std::fclose(file) == 0;
}

}  // namespace adapath::video
