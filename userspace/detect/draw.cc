// See draw.h.
#include "userspace/detect/draw.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <string_view>

namespace adapath {

namespace {

// 3x5 pixels a letter: rows from the top, three bits each, the highest on the left.
constexpr std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.%-";
constexpr std::array<std::array<uint8_t, 5>, 39> glyphs{{
    {2, 5, 7, 5, 5}, {6, 5, 6, 5, 6}, {3, 4, 4, 4, 3}, {6, 5, 5, 5, 6}, {7, 4, 6, 4, 7}, {7, 4, 6, 4, 4},
    {3, 4, 5, 5, 3}, {5, 5, 7, 5, 5}, {7, 2, 2, 2, 7}, {1, 1, 1, 5, 2}, {5, 5, 6, 5, 5}, {4, 4, 4, 4, 7},
    {5, 7, 7, 5, 5}, {6, 5, 5, 5, 5}, {2, 5, 5, 5, 2}, {6, 5, 6, 4, 4}, {2, 5, 5, 6, 3}, {6, 5, 6, 5, 5},
    {3, 4, 2, 1, 6}, {7, 2, 2, 2, 2}, {5, 5, 5, 5, 7}, {5, 5, 5, 5, 2}, {5, 5, 7, 7, 5}, {5, 5, 2, 5, 5},
    {5, 5, 2, 2, 2}, {7, 1, 2, 4, 7}, {7, 5, 5, 5, 7}, {2, 6, 2, 2, 7}, {6, 1, 2, 4, 7}, {6, 1, 2, 1, 6},
    {5, 5, 7, 1, 1}, {7, 4, 6, 1, 6}, {3, 4, 6, 5, 2}, {7, 1, 2, 2, 2}, {2, 5, 2, 5, 2}, {2, 5, 3, 1, 6},
    {0, 0, 0, 0, 2}, {5, 1, 2, 4, 5}, {0, 0, 7, 0, 0},
}};
static_assert(letters.size() == glyphs.size());
constexpr int scale = 2;
constexpr int letter_width = 4 * scale;
constexpr int text_height = 7 * scale;

void fill(Image& image, int x0, int y0, int x1, int y1, Colour colour) {
    for (int y = std::max(0, y0); y < std::min(image.height, y1); y++)
        for (int x = std::max(0, x0); x < std::min(image.width, x1); x++) {
            uint8_t* pixel =
                &image.rgb[3 * (static_cast<size_t>(y) * static_cast<size_t>(image.width) + static_cast<size_t>(x))];
            pixel[0] = colour.red;
            pixel[1] = colour.green;
            pixel[2] = colour.blue;
        }
}

void draw_text(Image& image, int x, int y, const std::string& text, Colour ground) {
    fill(image, x, y, x + static_cast<int>(text.size()) * letter_width + scale, y + text_height, ground);
    const bool dark = 2 * ground.red + 5 * ground.green + ground.blue < 8 * 128;
    const Colour ink = dark ? Colour{255, 255, 255} : Colour{0, 0, 0};
    x += scale;
    for (char c : text) {
        const size_t at = letters.find(static_cast<char>(std::toupper(static_cast<unsigned char>(c))));
        if (at != std::string_view::npos)
            for (int row = 0; row < 5; row++)
                for (int column = 0; column < 3; column++)
                    if ((glyphs[at][static_cast<size_t>(row)] >> (2 - column) & 1) != 0)
                        fill(image, x + column * scale, y + (row + 1) * scale, x + (column + 1) * scale,
                             y + (row + 2) * scale, ink);
        x += letter_width;
    }
}

}  // namespace

Colour class_colour(int class_id) {
    constexpr std::array<Colour, 8> colours{{{255, 220, 0},
                                             {0, 200, 255},
                                             {255, 80, 80},
                                             {80, 255, 80},
                                             {255, 120, 255},
                                             {255, 150, 30},
                                             {140, 160, 255},
                                             {120, 255, 220}}};
    return colours[static_cast<size_t>(class_id) % colours.size()];
}

void draw_box(Image& image, const Box& box, const std::string& text, Colour colour) {
    const int x0 = static_cast<int>(std::lround(box.x0));
    const int y0 = static_cast<int>(std::lround(box.y0));
    const int x1 = static_cast<int>(std::lround(box.x1));
    const int y1 = static_cast<int>(std::lround(box.y1));
    fill(image, x0, y0, x1, y0 + 2, colour);
    fill(image, x0, y1 - 2, x1, y1, colour);
    fill(image, x0, y0, x0 + 2, y1, colour);
    fill(image, x1 - 2, y0, x1, y1, colour);
    if (!text.empty()) draw_text(image, x0, y0 >= text_height ? y0 - text_height : y0, text, colour);
}

void draw_map(Image& image, const BlockMap& map) {
    std::vector<float> sorted = map.values;
    std::sort(sorted.begin(), sorted.end());
    const float top = sorted.empty() ? 0 : sorted[sorted.size() * 99 / 100];
    size_t i = 0;
    for (int y = 0; y < image.height; y++)
        for (int x = 0; x < image.width; x++, i += 3) {
            const float value = map.at(x / BlockMap::block, y / BlockMap::block);
            const float share = top > 0 ? std::clamp(value / top, 0.0F, 1.0F) : 0;
            uint8_t* pixel = &image.rgb[i];
            const auto grey = static_cast<float>(2 * pixel[0] + 5 * pixel[1] + pixel[2]) / 8;
            const float weight = 0.8F * share;
            pixel[0] = static_cast<uint8_t>(std::lround(grey * (1 - weight) + 255 * weight));
            pixel[1] = pixel[2] = static_cast<uint8_t>(std::lround(grey * (1 - weight)));
        }
}

}  // namespace adapath
