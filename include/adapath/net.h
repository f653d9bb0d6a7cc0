/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Packed parameters: how a generated program finds its numbers in a slot, and the arithmetic that all of them share.
 *
 * Packed convolution (the shape measured fastest; docs/quantisation.md has the derivation). With B = 2^22,
 *
 *   (x0 + x1 B + x2 B^2) (w2 + w1 B + w0 B^2)  mod 2^64
 *
 * has x0 w0 + x1 w1 + x2 w2 in its top lane (bits 44 to 63), so one multiplication does three multiply-accumulates. Sums of
 * such products add lane by lane. All of it is unsigned 64-bit arithmetic, which wraps by definition: negative weights are
 * two's complement. The caller starts the sum at a constant that (a) lifts the top lane to be non-negative and (b) adds half
 * of the top lane's unit, so that what the lower lanes borrow or carry can't change it. codegen proves for every row that
 * the top lane stays below 2^20 and that the lower lanes stay below half a unit, for any input.
 *
 * A layer's parameters, in this order, each an array of 64-bit words, contiguous, rows in order:
 *
 *   per row: for each chunk { init, w[triples of the chunk] }, then { bias, mult }
 *
 * and behind all layers the tables, each at an offset that the program was generated with.
 *
 *   acc    = sum over chunks (top lane - lift); the lifts are folded into bias
 *   t      = (acc * mult + bias) >> shift           (signed 64-bit, arithmetic shift; proven not to overflow)
 *   hidden = table_u16[clamp(t, 0, entries - 1)]    (a code, 0..ADP_HIDDEN_CODE_MAX)
 *   output = clamp(t, -2^31, 2^31 - 1) in Q16, or 2 * table_s16[clamp(t, 0, entries - 1)]
 */
#ifndef ADAPATH_NET_H
#define ADAPATH_NET_H

#include "types.h"

#define ADP_LANE_BITS 22
#define ADP_TOP_SHIFT 44
/*
 * Greatest codes. The network's inputs are bytes. Hidden activations are finer, because their rounding is the one error that
 * calibration can't take back: with 8 bits it alone uses up the fidelity limit (docs/quantisation.md has the figures).
 */
#define ADP_INPUT_CODE_MAX 255
#define ADP_HIDDEN_CODE_MAX 688
/*
 * Inputs per chunk: as many as keep the top lane below 2^20 whatever the weights (-127..127) are: 32 of the network's
 * inputs, 12 hidden codes (four full triples).
 */
#define ADP_CHUNK_INPUTS(code_max) (((1 << 20) - 1) / (127 * (code_max)))

/* Three codes as one factor. */
ADP_INLINE adp_u64 adp_pack3(adp_u64 x0, adp_u64 x1, adp_u64 x2)
{
	return x0 | x1 << ADP_LANE_BITS | x2 << (2 * ADP_LANE_BITS);
}

#endif
