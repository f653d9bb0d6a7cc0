/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Small convolutional networks over pictures, integers only: what the generated programs of image networks call, with constant
 * shapes, so that the compiler makes loops of fixed trip counts and vectors of them. For the host target; no kernel runs these.
 *
 * A plane is rows of u8 codes with a border of one code on every side, which stands for real zero:
 *
 *   code (y, x) of channel c is at  c * plane + (y + 1) * pitch + x + 1,   pitch >= width + 2, plane = (height + 2) * pitch
 *
 * A layer computes for each output channel r and place
 *
 *   acc = bias[r] + sum of weights[r][...] * code          int32; proved not to overflow (codegen/image_quantise.cc)
 *   y   = clamp(((acc >> pre) * mult[r] + half) >> shift, 0, 255)   hidden layers: a code again, zero is 0 (relu)
 *   y   = (acc * mult[r]) >> shift                                  the last: Q16, int32
 *
 * bias contains -zero_point * sum of weights, so a border of zero_point codes adds nothing. All shifts are arithmetic.
 */
#ifndef ADAPATH_IMAGE_H
#define ADAPATH_IMAGE_H

#include "types.h"

/* Codes a row may hold at most; bounds the row of accumulators on the stack. */
#define ADP_IMAGE_WIDTH_MAX 2048
#define ADP_IMAGE_CHANNELS_MAX 64
#define ADP_IMAGE_LAYERS_MAX 16

struct adp_image_planes {
	adp_u8 *codes; /* of the first channel's border */
	adp_u32 width;
	adp_u32 height;
	adp_u32 pitch;
};

/* Row y of channel c, its first code (not the border's). */
ADP_INLINE adp_u8 *adp_image_row(const struct adp_image_planes *p, adp_u32 c, adp_u32 y)
{
	return p->codes + ((adp_u64)c * (p->height + 2) + y + 1) * p->pitch + 1;
}

/* One layer's parameters, in the order of the block. */
struct adp_image_layer {
	const adp_s8 *weights;
	const adp_s32 *bias;
	const adp_s32 *mult;
};

/* Nine taps around each place of one input channel, stride 1 or 2. */
ADP_INLINE void adp_image_add_3x3(adp_s32 *acc, const struct adp_image_planes *in, adp_u32 c, adp_u32 y, adp_u32 stride,
				  const adp_s8 *w, adp_u32 width)
{
	const adp_u8 *a = adp_image_row(in, c, 0) + ((adp_s64)y * stride - 1) * in->pitch - 1;
	const adp_u8 *b = a + in->pitch, *d = b + in->pitch;
	adp_u32 x;

	for (x = 0; x < width; x++)
		acc[x] += w[0] * a[x * stride] + w[1] * a[x * stride + 1] + w[2] * a[x * stride + 2] + w[3] * b[x * stride] +
			  w[4] * b[x * stride + 1] + w[5] * b[x * stride + 2] + w[6] * d[x * stride] + w[7] * d[x * stride + 1] +
			  w[8] * d[x * stride + 2];
}

/* One input channel, the place itself. */
ADP_INLINE void adp_image_add_1x1(adp_s32 *acc, const struct adp_image_planes *in, adp_u32 c, adp_u32 y, adp_u32 stride,
				  adp_s32 w, adp_u32 width)
{
	const adp_u8 *a = adp_image_row(in, c, y * stride);
	adp_u32 x;

	for (x = 0; x < width; x++)
		acc[x] += w * a[x * stride];
}

/* Four input channels at once: the accumulators are loaded and stored a quarter as often. */
ADP_INLINE void adp_image_add_1x1_by_4(adp_s32 *acc, const struct adp_image_planes *in, adp_u32 c, adp_u32 y, const adp_s8 *w,
				       adp_u32 width)
{
	const adp_u8 *a = adp_image_row(in, c, y), *b = adp_image_row(in, c + 1, y);
	const adp_u8 *d = adp_image_row(in, c + 2, y), *e = adp_image_row(in, c + 3, y);
	adp_u32 x;

	for (x = 0; x < width; x++)
		acc[x] += w[0] * a[x] + w[1] * b[x] + w[2] * d[x] + w[3] * e[x];
}

/* The accumulators of one row of output channel r. `kernel` 1 or 3; depthwise: the channel's own plane only. */
ADP_INLINE void adp_image_accumulate(adp_s32 *acc, const struct adp_image_planes *in, const struct adp_image_layer *layer,
				     adp_u32 inputs, adp_u32 kernel, adp_u32 stride, int depthwise, adp_u32 r, adp_u32 y,
				     adp_u32 width)
{
	adp_u32 x, c;

	for (x = 0; x < width; x++)
		acc[x] = layer->bias[r];
	if (depthwise) {
		adp_image_add_3x3(acc, in, r, y, stride, layer->weights + r * 9, width);
		return;
	}
	if (kernel == 3) {
		for (c = 0; c < inputs; c++)
			adp_image_add_3x3(acc, in, c, y, stride, layer->weights + (r * inputs + c) * 9, width);
		return;
	}
	c = 0;
	if (stride == 1)
		for (; c + 4 <= inputs; c += 4)
			adp_image_add_1x1_by_4(acc, in, c, y, layer->weights + r * inputs + c, width);
	for (; c < inputs; c++)
		adp_image_add_1x1(acc, in, c, y, stride, layer->weights[r * inputs + c], width);
}

ADP_INLINE void adp_image_hidden(const struct adp_image_planes *in, const struct adp_image_planes *out,
				 const struct adp_image_layer *layer, adp_u32 inputs, adp_u32 outputs, adp_u32 kernel,
				 adp_u32 stride, int depthwise, adp_u32 pre, adp_u32 shift)
{
	adp_s32 acc[ADP_IMAGE_WIDTH_MAX];
	const adp_s32 half = 1 << (shift - 1);
	adp_u32 r, y, x;

	for (r = 0; r < outputs; r++) {
		const adp_s32 mult = layer->mult[r];

		for (y = 0; y < out->height; y++) {
			adp_u8 *row = adp_image_row(out, r, y);

			adp_image_accumulate(acc, in, layer, inputs, kernel, stride, depthwise, r, y, out->width);
			for (x = 0; x < out->width; x++) {
				/* |acc >> pre| < 2^15, mult < 2^15, half < 2^30 */
				adp_s32 v = ((acc[x] >> pre) * mult + half) >> shift;

				row[x] = (adp_u8)(v < 0 ? 0 : v > 255 ? 255 : v);
			}
		}
	}
}

/* Into out[(r * height + y) * width + x]. */
ADP_INLINE void adp_image_last(const struct adp_image_planes *in, adp_s32 *out, adp_u32 width, adp_u32 height,
			       const struct adp_image_layer *layer, adp_u32 inputs, adp_u32 outputs, adp_u32 kernel,
			       adp_u32 stride, int depthwise, adp_u32 shift)
{
	adp_s32 acc[ADP_IMAGE_WIDTH_MAX];
	adp_u32 r, y, x;

	for (r = 0; r < outputs; r++) {
		for (y = 0; y < height; y++) {
			adp_s32 *row = out + ((adp_u64)r * height + y) * width;

			adp_image_accumulate(acc, in, layer, inputs, kernel, stride, depthwise, r, y, width);
			for (x = 0; x < width; x++) {
				/* |acc| < 2^31, |mult| < 2^31 */
				adp_s64 v = (adp_s64)acc[x] * layer->mult[r] >> shift;

				row[x] = (adp_s32)(v < -2147483647 ? -2147483647 : v > 2147483647 ? 2147483647 : v);
			}
		}
	}
}

/* 2x2 means, rounded; an odd last row or column is averaged with itself. Codes keep their meaning. */
ADP_INLINE void adp_image_pool(const struct adp_image_planes *in, const struct adp_image_planes *out, adp_u32 channels)
{
	adp_u32 c, y, x;

	for (c = 0; c < channels; c++) {
		for (y = 0; y < out->height; y++) {
			const adp_u8 *a = adp_image_row(in, c, 2 * y);
			const adp_u8 *b = 2 * y + 1 < in->height ? a + in->pitch : a;
			adp_u8 *row = adp_image_row(out, c, y);

			for (x = 0; x < in->width / 2; x++)
				row[x] = (adp_u8)((a[2 * x] + a[2 * x + 1] + b[2 * x] + b[2 * x + 1] + 2) >> 2);
			if (in->width & 1)
				row[x] = (adp_u8)((2 * a[2 * x] + 2 * b[2 * x] + 2) >> 2);
		}
	}
}

/* The border of channel c stands for zero; hidden layers' zero is 0. */
ADP_INLINE void adp_image_border(const struct adp_image_planes *p, adp_u32 c, adp_u8 zero)
{
	adp_u8 *first = adp_image_row(p, c, 0) - p->pitch - 1;
	adp_u8 *last = adp_image_row(p, c, p->height) - 1;
	adp_u32 y, x;

	for (x = 0; x < p->width + 2; x++) {
		first[x] = zero;
		last[x] = zero;
	}
	for (y = 0; y < p->height; y++) {
		adp_u8 *row = adp_image_row(p, c, y);

		row[-1] = zero;
		row[p->width] = zero;
	}
}

#endif
