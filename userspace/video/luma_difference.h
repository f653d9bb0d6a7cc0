// Differences between pieces of luma, for what runs over every pixel of every picture. SSE2, which every x86-64 has
// (16 bytes are a macroblock's row: wider vectors would have two rows to gather); elsewhere plain loops that give the
// same numbers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace adapath::video {

// Of `count` bytes: the sum of absolute differences. Less than 2^24 bytes.
[[nodiscard]] inline uint32_t sum_of_differences(const uint8_t* a, const uint8_t* b, int count) {
    uint32_t sum = 0;
    int i = 0;
#if defined(__SSE2__)
    __m128i sums = _mm_setzero_si128();
    for (; i + 16 <= count; i += 16) {
        sums = _mm_add_epi64(sums, _mm_sad_epu8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a + i)),
                                                _mm_loadu_si128(reinterpret_cast<const __m128i*>(b + i))));
    }
    sum = static_cast<uint32_t>(_mm_cvtsi128_si32(sums)) +
          static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_unpackhi_epi64(sums, sums)));
#endif
    for (; i < count; i++) {
        sum += static_cast<uint32_t>(std::abs(a[i] - b[i]));
    }
    return sum;
}

// Every fourth byte of `from`: from[0], from[4], ... Nothing is read behind the last of the `count`.
inline void every_fourth(const uint8_t* from, int count, uint8_t* to) {
    int i = 0;
#if defined(__SSE2__)
    const __m128i low = _mm_set1_epi32(0xff);
    auto four = [&](int at) {
        return _mm_and_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + static_cast<ptrdiff_t>(at) * 4)),
                             low);
    };
    for (; i + 16 < count; i += 16) {
        __m128i first = _mm_packs_epi32(four(i), four(i + 4));
        __m128i second = _mm_packs_epi32(four(i + 8), four(i + 12));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm_packus_epi16(first, second));
    }
#endif
    for (; i < count; i++) {
        to[i] = from[static_cast<ptrdiff_t>(i) * 4];
    }
}

// Of a macroblock's 16x16 pixels: the sum of absolute differences, and the greatest one of its pieces of 8x4 pixels.
struct BlockDifference {
    int sum = 0;
    int most = 0;
};
[[nodiscard]] inline BlockDifference block_difference(const uint8_t* a, ptrdiff_t a_stride, const uint8_t* b,
                                                      ptrdiff_t b_stride) {
    BlockDifference result;
#if defined(__SSE2__)
    __m128i all = _mm_setzero_si128();
    __m128i most = all;
    for (int y = 0; y < 16; y += 4) {
        __m128i piece = _mm_setzero_si128();
        for (int j = 0; j < 4; j++, a += a_stride, b += b_stride) {
            piece = _mm_add_epi64(piece, _mm_sad_epu8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a)),
                                                      _mm_loadu_si128(reinterpret_cast<const __m128i*>(b))));
        }
        all = _mm_add_epi64(all, piece);
        most = _mm_max_epi16(most, piece);  // a piece's sum is at most 8160
    }
    result.sum = _mm_extract_epi16(all, 0) + _mm_extract_epi16(all, 4);
    result.most = std::max(_mm_extract_epi16(most, 0), _mm_extract_epi16(most, 4));
#else
    for (int y = 0; y < 16; y += 4) {
        int pieces[2] = {};
        for (int j = 0; j < 4; j++, a += a_stride, b += b_stride) {
            for (int x = 0; x < 16; x++) {
                pieces[x / 8] += std::abs(a[x] - b[x]);
            }
        }
        result.sum += pieces[0] + pieces[1];
        result.most = std::max({result.most, pieces[0], pieces[1]});
    }
#endif
    return result;
}

}  // namespace adapath::video
