/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The layers of image networks (image.h): what generated programs call, with constant shapes, so that the compiler makes loops of
 * fixed trip counts. 16 places are computed at once, in the compiler's own vectors: it splits them to whatever the processor has.
 */
#ifndef ADAPATH_IMAGE_NET_H
#define ADAPATH_IMAGE_NET_H

#include "image.h"

/*
 * One layer's parameters. Rows are filled up to whole groups with zeros. Weights: convolution [outputs][tap][input group][4],
 * depthwise [group][tap][4].
 */
struct adp_image_layer {
	const adp_s8 *weights;
	const adp_s32 *bias;
	const adp_s32 *mult;
};

typedef adp_s32 adp_image_lanes __attribute__((vector_size(4 * ADP_IMAGE_BLOCK)));
typedef adp_u32 adp_image_block __attribute__((vector_size(4 * ADP_IMAGE_BLOCK)));
typedef adp_image_block adp_image_unaligned __attribute__((aligned(4)));

/* 16 pixels, `stride` apart. */
ADP_INLINE adp_image_block adp_image_load(const adp_u32 *at, adp_u32 stride)
{
	adp_image_block block;
	adp_u32 i;

	if (stride == 1)
		return *(const adp_image_unaligned *)at;
	for (i = 0; i < ADP_IMAGE_BLOCK; i++)
		block[i] = at[i * stride];
	return block;
}

/* acc + the dot product of each pixel's four codes (0..255) with four weights (-127..127). */
ADP_INLINE adp_image_lanes adp_image_dot(adp_image_lanes acc, adp_image_block pixels, adp_u32 weights)
{
	const adp_image_block words = (adp_image_block){} + weights;
#if defined(__clang__) && defined(__AVX512VNNI__)
	typedef int v16si __attribute__((vector_size(64)));

	return (adp_image_lanes)__builtin_ia32_vpdpbusd512((v16si)acc, (v16si)pixels, (v16si)words);
#else
	/* In four steps: code times weight, sign-extended by shifting it up and down again. */
	acc += (adp_image_lanes)(pixels & 255) * ((adp_image_lanes)(words << 24) >> 24);
	acc += (adp_image_lanes)(pixels >> 8 & 255) * ((adp_image_lanes)(words << 16) >> 24);
	acc += (adp_image_lanes)(pixels >> 16 & 255) * ((adp_image_lanes)(words << 8) >> 24);
	acc += (adp_image_lanes)(pixels >> 24) * ((adp_image_lanes)words >> 24);
	return acc;
#endif
}

ADP_INLINE adp_u32 adp_image_word(const adp_s8 *weights)
{
	adp_u32 word;

	__builtin_memcpy(&word, weights, 4);
	return word;
}

/* |acc >> pre| < 2^15, 0 <= mult < 2^15, half < 2^30: products and sums stay in 32 bits. */
ADP_INLINE adp_image_lanes adp_image_requantise(adp_image_lanes acc, adp_s32 mult, adp_u32 pre, adp_u32 shift)
{
	adp_image_lanes v = ((acc >> (adp_s32)pre) * mult + (1 << (shift - 1))) >> (adp_s32)shift;

	v = v & ~(v >> 31);		       /* at least 0 */
	return v | ((255 - v) >> 31 & 255);    /* above 255 all low bits are set; the caller keeps 8 */
}

/* Writes the first `count` of 16 pixels. */
ADP_INLINE void adp_image_store(adp_u32 *at, adp_image_block pixels, adp_u32 count)
{
	adp_u32 i;

	if (count >= ADP_IMAGE_BLOCK)
		*(adp_image_unaligned *)at = pixels;
	else
		for (i = 0; i < count; i++)
			at[i] = pixels[i];
}

/* Accumulators of four output channels from `r` on, 16 places from (y, x) on. */
ADP_INLINE void adp_image_accumulate(adp_image_lanes acc[4], const struct adp_image_planes *in,
				     const struct adp_image_layer *layer, adp_u32 inputs, adp_u32 kernel, adp_u32 stride, adp_u32 r,
				     adp_u32 y, adp_u32 x)
{
	const adp_u32 groups = ADP_IMAGE_GROUPS(inputs), row = kernel * kernel * groups * 4;
	const adp_s8 *w = layer->weights + (adp_u64)r * row;
	adp_u32 g, ky, kx, j;

	for (j = 0; j < 4; j++)
		acc[j] = (adp_image_lanes){} + layer->bias[r + j];
	for (ky = 0; ky < kernel; ky++) {
		for (kx = 0; kx < kernel; kx++) {
			for (g = 0; g < groups; g++) {
				const adp_u32 *at = adp_image_row(in, g, (adp_s64)y * stride + ky - kernel / 2) +
						    (adp_s64)x * stride + kx - kernel / 2;
				const adp_image_block pixels = adp_image_load(at, stride);

				for (j = 0; j < 4; j++)
					acc[j] = adp_image_dot(acc[j], pixels, adp_image_word(w + j * row));
				w += 4;
			}
		}
	}
}

/* The same of a depthwise layer: each channel's own nine taps. */
ADP_INLINE void adp_image_accumulate_depthwise(adp_image_lanes acc[4], const struct adp_image_planes *in,
					       const struct adp_image_layer *layer, adp_u32 stride, adp_u32 g, adp_u32 y, adp_u32 x)
{
	const adp_s8 *w = layer->weights + (adp_u64)g * 36;
	adp_u32 ky, kx, j;

	for (j = 0; j < 4; j++)
		acc[j] = (adp_image_lanes){} + layer->bias[g * 4 + j];
	for (ky = 0; ky < 3; ky++) {
		for (kx = 0; kx < 3; kx++) {
			const adp_image_block pixels = adp_image_load(adp_image_row(in, g, (adp_s64)y * stride + ky - 1) +
									      (adp_s64)x * stride + kx - 1,
								      stride);

			for (j = 0; j < 4; j++)
				acc[j] += (adp_image_lanes)(pixels >> (8 * j) & 255) * w[j];
			w += 4;
		}
	}
}

ADP_INLINE void adp_image_hidden(const struct adp_image_planes *in, const struct adp_image_planes *out,
				 const struct adp_image_layer *layer, adp_u32 inputs, adp_u32 outputs, adp_u32 kernel,
				 adp_u32 stride, int depthwise, adp_u32 pre, adp_u32 shift)
{
	adp_image_lanes acc[4];
	adp_u32 g, y, x, j;

	for (g = 0; g < ADP_IMAGE_GROUPS(outputs); g++) {
		for (y = 0; y < out->height; y++) {
			adp_u32 *row = adp_image_row(out, g, y);

			for (x = 0; x < out->width; x += ADP_IMAGE_BLOCK) {
				adp_image_block pixels = {};

				if (depthwise)
					adp_image_accumulate_depthwise(acc, in, layer, stride, g, y, x);
				else
					adp_image_accumulate(acc, in, layer, inputs, kernel, stride, 4 * g, y, x);
				for (j = 0; j < 4; j++) {
					const adp_image_lanes v =
						adp_image_requantise(acc[j], layer->mult[4 * g + j], pre, shift);

					pixels |= ((adp_image_block)v & 255) << (8 * j);
				}
				adp_image_store(row + x, pixels, out->width - x);
			}
		}
	}
}

/* Into out[(r * height + y) * width + x]. */
ADP_INLINE void adp_image_last(const struct adp_image_planes *in, adp_s32 *out, adp_u32 width, adp_u32 height,
			       const struct adp_image_layer *layer, adp_u32 inputs, adp_u32 outputs, adp_u32 kernel,
			       adp_u32 stride, int depthwise, adp_u32 shift)
{
	adp_image_lanes acc[4];
	adp_u32 g, y, x, j, i;

	for (g = 0; g < ADP_IMAGE_GROUPS(outputs); g++) {
		for (y = 0; y < height; y++) {
			for (x = 0; x < width; x += ADP_IMAGE_BLOCK) {
				if (depthwise)
					adp_image_accumulate_depthwise(acc, in, layer, stride, g, y, x);
				else
					adp_image_accumulate(acc, in, layer, inputs, kernel, stride, 4 * g, y, x);
				for (j = 0; j < 4 && 4 * g + j < outputs; j++) {
					adp_s32 *row = out + ((adp_u64)(4 * g + j) * height + y) * width;

					for (i = 0; i < ADP_IMAGE_BLOCK && x + i < width; i++) {
						/* |acc| < 2^31, |mult| < 2^31 */
						adp_s64 v = (adp_s64)acc[j][i] * layer->mult[4 * g + j] >> shift;

						row[x + i] = (adp_s32)(v < -2147483647 ? -2147483647 :
								       v > 2147483647  ? 2147483647 :
											 v);
					}
				}
			}
		}
	}
}

/* 2x2 means, rounded, of each of a pixel's codes; an odd last row or column is taken twice. Codes keep their meaning. */
ADP_INLINE void adp_image_pool(const struct adp_image_planes *in, const struct adp_image_planes *out, adp_u32 channels)
{
	const adp_u32 low = 0x00ff00ff;
	adp_u32 g, y, x;

	for (g = 0; g < ADP_IMAGE_GROUPS(channels); g++) {
		for (y = 0; y < out->height; y++) {
			const adp_u32 *a = adp_image_row(in, g, 2 * (adp_s64)y);
			const adp_u32 *b = 2 * y + 1 < in->height ? a + in->pitch : a;
			adp_u32 *row = adp_image_row(out, g, y);

			for (x = 0; x < out->width; x++) {
				const adp_u32 x1 = 2 * x + 1 < in->width ? 2 * x + 1 : 2 * x;
				/* Two codes a word, 16 bits each: sums of four and 2 stay below 2^10. */
				const adp_u32 even = (a[2 * x] & low) + (a[x1] & low) + (b[2 * x] & low) + (b[x1] & low) + 0x00020002;
				const adp_u32 odd = (a[2 * x] >> 8 & low) + (a[x1] >> 8 & low) + (b[2 * x] >> 8 & low) +
						    (b[x1] >> 8 & low) + 0x00020002;

				row[x] = (even >> 2 & low) | (odd >> 2 & low) << 8;
			}
		}
	}
}

#endif
