/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Packed parameters: how a generated program finds its numbers in a slot, and the arithmetic that all of them share.
 *
 * Packed convolution (the shape measured fastest; docs/quantisation.md has the derivation).
 *
 *   (x0 + x1 2^21 + x2 2^43) (w2 + w1 2^22 + w0 2^43)  mod 2^64
 *
 * has x0 w0 + x1 w1 + x2 w2 in its top lane (bits 43 to 63), so one multiplication does three multiply-accumulates: x1 w0,
 * x2 w1 and x2 w0 land at bit 64 and above and are gone, x0 w1, x1 w2 and x0 w2 stay below the top lane. (Even lanes would be
 * 22 bits wide and leave the top one a bit less.) Sums of such products add lane by lane. All of it is unsigned 64-bit
 * arithmetic, which wraps by definition: negative weights are two's complement. The sum starts at a constant, a chunk's own,
 * that lifts the top lane, and all below it as one number, by the negative of their least values, so that neither can go below
 * 0. codegen proves for every row that the top lane then stays below 2^21 and the rest below 2^43, one unit of the top lane,
 * for any input.
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

#define ADP_TOP_SHIFT 43
#define ADP_X1_SHIFT 21
#define ADP_X2_SHIFT ADP_TOP_SHIFT
#define ADP_W1_SHIFT (ADP_TOP_SHIFT - ADP_X1_SHIFT)
/*
 * Greatest codes. The network's inputs are bytes. Hidden activations are finer, because their rounding is the one error that
 * calibration can't take back: with 8 bits it alone uses up the fidelity limit (docs/quantisation.md has the figures).
 */
#define ADP_INPUT_CODE_MAX 255
#define ADP_HIDDEN_CODE_MAX 1376
/*
 * Inputs per chunk: as many whole triples as keep the top lane below 2^21 whatever the weights (-127..127) are: 63 of the
 * network's inputs, 12 hidden codes. What is below the top lane then fits too: n / 3 * 127 * code * (2^22 + 2^21 + 1) < 2^43.
 */
#define ADP_CHUNK_INPUTS(code_max) (((1 << 21) - 1) / (127 * (code_max)) / 3 * 3)

/* Three codes as one factor. */
ADP_INLINE adp_u64 adp_pack3(adp_u64 x0, adp_u64 x1, adp_u64 x2)
{
	return x0 | x1 << ADP_X1_SHIFT | x2 << ADP_X2_SHIFT;
}

/* What a program reads from the parameters, which a slot declares as bytes: weight words, codes and outputs of the tables. */
typedef adp_u64 __attribute__((may_alias)) adp_word;
typedef adp_u16 __attribute__((may_alias)) adp_code;
typedef adp_s16 __attribute__((may_alias)) adp_table_output;

/*
 * Hides from the compiler where a value came from. In BPF this keeps what verifier, stack and registers need: a loop counter
 * that is a number (not a pointer compared with an end pointer), loads that stay in their loop instead of being hoisted into
 * stack slots, and three sums that advance together instead of being regrouped.
 */
#ifdef __bpf__
#define ADP_OPAQUE(v) __asm__ volatile("" : "+r"(v))
#define ADP_OPAQUE2(a, b) __asm__ volatile("" : "+r"(a), "+r"(b))
#define ADP_OPAQUE3(a, b, c) __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c))
#elif defined(__KERNEL__)
/*
 * The kernel's stack wants the same, without the order that volatile would keep: gcc copies inputs and parks sums in stack
 * slots, until a frame is twice its buffers. The instructions are as many (within 3 % by callgrind).
 */
#define ADP_OPAQUE(v) __asm__("" : "+r"(v))
#define ADP_OPAQUE2(a, b) __asm__("" : "+r"(a), "+r"(b))
#define ADP_OPAQUE3(a, b, c) __asm__("" : "+r"(a), "+r"(b), "+r"(c))
#else
#define ADP_OPAQUE(v) ((void)0)
#define ADP_OPAQUE2(a, b) ((void)0)
#define ADP_OPAQUE3(a, b, c) ((void)0)
#endif

/*
 * Functions of a generated program. Line information for every multiplication would double a BPF object's size; the verifier's
 * log shows the instructions anyway.
 */
#ifdef __clang__
#define ADP_NET_INLINE __attribute__((nodebug)) ADP_INLINE
#else
#define ADP_NET_INLINE ADP_INLINE
#endif

/* t of the comment above. The product wraps like every other one here; codegen proves that it does not. */
ADP_INLINE adp_s64 adp_requantise(adp_u64 acc, adp_u64 bias, adp_u64 mult, adp_u32 shift)
{
	return (adp_s64)(acc * mult + bias) >> shift;
}

/*
 * clamp(t, 0, last) as an index. One comparison where t is in the table, which in a sound network it nearly always is; the
 * way back from outside has no branch, and its mask is the bound that the verifier sees.
 */
ADP_INLINE adp_u64 adp_table_index(adp_s64 t, adp_u64 last)
{
	if (__builtin_expect((adp_u64)t > last, 0))
		return (adp_u64)~(t >> 63) & last;
	return (adp_u64)t;
}

/* clamp(t, lowest, 2^31 - 1): an output that has no table. */
ADP_INLINE adp_s32 adp_output(adp_s64 t, adp_s64 lowest)
{
	if (t < lowest)
		t = lowest;
	if (t > 2147483647LL)
		t = 2147483647LL;
	return (adp_s32)t;
}

#endif
