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

#define ADP_QP_SCHEMA 2
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

/*
 * A decision's proof, and what is learned from: some macroblocks of the chunk, spread at random over the picture; of each its
 * logit and the codes that this logit depends on. Run on this window alone, the reference interpreter gives the logit at the
 * block's place in it (codegen/image.h: window_of()): the window begins at a whole macroblock, holds the block's receptive field,
 * and ends early only where the picture does, so that the network's zero padding is where the picture's is. The selector sees 15
 * codes to each side of a block's first one: 32 with those that come before the first whole block.
 */
#define ADP_QP_WINDOW 32

enum adp_qp_flag {
	ADP_QP_UNIFORM = 1 << 0,     /* no snapshot was active: one quality for the whole picture */
	ADP_QP_COMPILING = 1 << 1,   /* one was, but its program was not ready, or it has none: likewise */
	ADP_QP_BLOCK_HIGH = 1 << 2,  /* the block's logit reached the threshold */
	ADP_QP_INTERPRETED = 1 << 3, /* decided by the interpreter: there is no compiler */
	/* Decided, and not obeyed: the whole picture had one quality, so that the server's label leans to nothing. */
	ADP_QP_EXPLORED = 1 << 4,
	/* The mask gave the block the low quality of two, in which the server saw it; with EXPLORED it would have. */
	ADP_QP_BLOCK_LOW = 1 << 5,
};
#define ADP_QP_NOT_DECIDED (ADP_QP_UNIFORM | ADP_QP_COMPILING)

/*
 * One a macroblock that is told of: `parts` of them a chunk, alike but for seq, part, block, output and window. Without a decision
 * one a chunk, and there are no window, output and hash.
 */
struct adp_qp_sample {
	adp_u64 time_us; /* CLOCK_MONOTONIC, when the decision was there */
	adp_u64 flow;    /* the reader's number, given out one by one (host.h) */
	adp_u32 seq;     /* of the flow's samples, from 1, without gaps */
	adp_u32 generation;
	adp_u32 slot;
	adp_u32 flags;       /* enum adp_qp_flag */
	adp_u64 logits_hash; /* adp_qp_hash() over all logits, row by row */
	/* The chunk's time: its first picture's, CLOCK_MONOTONIC as its encoder told the wire, so that what the server says of the
	 * chunk (CameraReport.chunk_us) names the same number. */
	adp_u64 chunk_us;
	adp_u32 camera;      /* as its encoder numbers it */
	adp_u16 width;       /* of the picture, pixels */
	adp_u16 height;
	adp_u16 column; /* of the block, in macroblocks */
	adp_u16 row;
	adp_s32 output;    /* the block's logit, Q16 */
	adp_s32 threshold; /* Q16: a block with at least this logit is high */
	adp_u32 share_q16; /* of the blocks that are high, dilation included */
	adp_u8 dilation;   /* blocks */
	adp_u8 qp_high;    /* quantisers of the chunk; both the same where it is uniform */
	adp_u8 qp_low;
	adp_u8 window_width; /* codes */
	adp_u8 window_height;
	adp_u8 part; /* of the chunk's samples, from 0 */
	adp_u8 parts;
	adp_u8 explore; /* of 256 chunks so many are EXPLORED, drawn at random; 0: none */
	adp_u32 decision_us;    /* from the first pixel that was looked at to the mask */
	adp_u32 bytes_before;   /* what the chunk before took; 0: there was none */
	adp_u32 budget_before;  /* what it was to take */
	adp_u32 us_before;      /* from its decision to this one */
	adp_u8 codes[ADP_QP_PLANES * ADP_QP_WINDOW * ADP_QP_WINDOW]; /* plane by plane, rows of window_width */
};
ADP_STATIC_ASSERT(sizeof(struct adp_qp_sample) == 96 + 2 * 32 * 32, "no padding");

/* FNV-1a, 64 bits, over the numbers' bytes, least significant first: the same everywhere. */
ADP_INLINE adp_u64 adp_qp_hash(const adp_s32 *values, adp_u32 count)
{
	adp_u64 hash = 0xcbf29ce484222325ULL;
	adp_u32 i, b;

	for (i = 0; i < count; i++)
		for (b = 0; b < 4; b++)
			hash = (hash ^ ((adp_u32)values[i] >> (8 * b) & 255)) * 0x100000001b3ULL;
	return hash;
}

#endif
