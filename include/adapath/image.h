/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Pictures for small convolutional networks, integers only, host target only (no kernel runs these): how codes lie in memory, and
 * what a layer computes. The layers themselves are in image_net.h.
 *
 * Four channels lie together: a *group* is rows of pixels of 32 bits, one u8 code for each of its channels (the last group is
 * filled up with channels whose weights are 0). A pixel and four int8 weights are then one dot product, for which processors
 * with VNNI have one instruction for 16 pixels. Each group has a border of one pixel on every side, whose codes stand for
 * real zero:
 *
 *   pixel (y, x) of group g is at  (g * (height + 2) + y + 1) * pitch + x + 1        (in pixels; pitch >= width + 2)
 *
 * A layer computes for each output channel r and place
 *
 *   acc = bias[r] + sum of weight * code                       int32; proved not to overflow (codegen/image_model.cc)
 *   y   = clamp(((acc >> pre) * mult[r] + half) >> shift, 0, 255)   hidden layers: a code again, zero is 0 (relu)
 *   y   = (acc * mult[r]) >> shift                                  the last: Q16, int32
 *
 * bias contains -zero_point * sum of weights, so a border of zero_point codes adds nothing. All shifts are arithmetic.
 */
#ifndef ADAPATH_IMAGE_H
#define ADAPATH_IMAGE_H

#include "types.h"

#define ADP_IMAGE_WIDTH_MAX 2048
#define ADP_IMAGE_CHANNELS_MAX 64
#define ADP_IMAGE_LAYERS_MAX 16
/* Pixels that are computed at once. A row may be read (never written) up to so many pixels past its border. */
#define ADP_IMAGE_BLOCK 16
#define ADP_IMAGE_GROUPS(channels) (((channels) + 3) / 4)

struct adp_image_planes {
	adp_u32 *pixels; /* of the first group's border */
	adp_u32 width;
	adp_u32 height;
	adp_u32 pitch; /* pixels */
};

/* Row y of group g, its first pixel (not the border's). y may be -1 or the height. */
ADP_INLINE adp_u32 *adp_image_row(const struct adp_image_planes *p, adp_u32 g, adp_s64 y)
{
	return p->pixels + ((adp_s64)g * (p->height + 2) + y + 1) * p->pitch + 1;
}

/* The border of group g: a pixel whose codes stand for zero. */
ADP_INLINE void adp_image_border(const struct adp_image_planes *p, adp_u32 g, adp_u32 zero)
{
	adp_u32 *first = adp_image_row(p, g, -1) - 1;
	adp_u32 *last = adp_image_row(p, g, p->height) - 1;
	adp_u32 y, x;

	for (x = 0; x < p->width + 2; x++) {
		first[x] = zero;
		last[x] = zero;
	}
	for (y = 0; y < p->height; y++) {
		adp_u32 *row = adp_image_row(p, g, y);

		row[-1] = zero;
		row[p->width] = zero;
	}
}

#endif
