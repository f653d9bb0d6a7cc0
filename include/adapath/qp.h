/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The app qp: what the quality selector sees of a chunk. Two planes of u8 codes at a quarter of the picture's width and height,
 * of the chunk's first picture and the one before it: known before the first macroblock is encoded, so nothing waits.
 *
 *   plane 0   luma: the mean of 4x4 pixels (of fewer at the right and lower edges), rounded
 *   plane 1   change: 4 x |plane 0 - plane 0 of the picture before|, at most 255. Without a picture before: 0.
 *
 * A macroblock is 4x4 codes, so a network with two steps of stride 2 gives one number a macroblock.
 */
#ifndef ADAPATH_QP_H
#define ADAPATH_QP_H

#include "types.h"

#define ADP_QP_SCHEMA 1
#define ADP_QP_PLANES 2
#define ADP_QP_CELL 4
#define ADP_QP_CHANGE_GAIN 4

/* Codes in a row or column of so many pixels. */
ADP_INLINE adp_u32 adp_qp_side(adp_u32 pixels)
{
	return (pixels + ADP_QP_CELL - 1) / ADP_QP_CELL;
}

/* Plane 0 of a picture; `out` holds adp_qp_side(width) * adp_qp_side(height) codes, without padding. */
ADP_INLINE void adp_qp_luma(const adp_u8 *luma, adp_u32 width, adp_u32 height, adp_u32 stride, adp_u8 *out)
{
	adp_u32 x, y, i, j, w, h, sum;

	for (y = 0; y < height; y += ADP_QP_CELL) {
		h = height - y < ADP_QP_CELL ? height - y : ADP_QP_CELL;
		for (x = 0; x < width; x += ADP_QP_CELL) {
			w = width - x < ADP_QP_CELL ? width - x : ADP_QP_CELL;
			sum = w * h / 2;
			for (j = 0; j < h; j++)
				for (i = 0; i < w; i++)
					sum += luma[(adp_u64)(y + j) * stride + x + i];
			*out++ = (adp_u8)(sum / (w * h));
		}
	}
}

/* Plane 1 from two planes 0 of `count` codes. */
ADP_INLINE void adp_qp_change(const adp_u8 *now, const adp_u8 *before, adp_u32 count, adp_u8 *out)
{
	adp_u32 i, d;

	for (i = 0; i < count; i++) {
		d = ADP_QP_CHANGE_GAIN * (now[i] > before[i] ? (adp_u32)(now[i] - before[i]) : (adp_u32)(before[i] - now[i]));
		out[i] = (adp_u8)(d < 255 ? d : 255);
	}
}

#endif
