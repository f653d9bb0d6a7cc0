/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Fixed-point helpers. "Qn" is a number scaled by 2^n. Everything here is exact integer arithmetic, so that simulator,
 * BPF and kernel module get the same bits. Negative numbers are scaled down by >>, which every compiler we have makes an
 * arithmetic shift: BPF before v4 has no signed division.
 */
#ifndef ADAPATH_FIXED_H
#define ADAPATH_FIXED_H

#include "types.h"

#define ADP_Q16_ONE 65536

ADP_INLINE adp_s64 adp_clamp(adp_s64 v, adp_s64 lo, adp_s64 hi)
{
	if (v < lo)
		return lo;
	if (v > hi)
		return hi;
	return v;
}

ADP_INLINE adp_u64 adp_min_u64(adp_u64 a, adp_u64 b)
{
	return a < b ? a : b;
}

ADP_INLINE adp_u64 adp_max_u64(adp_u64 a, adp_u64 b)
{
	return a > b ? a : b;
}

/*
 * floor(log2(v)) for v < 2^63; 0 for 0. BPF has no count-leading-zeros instruction and the kernel no libgcc. Without branches
 * (n - v is negative, with bit 63 set, just where v > n): BPF's verifier would follow each combination of them.
 */
ADP_INLINE adp_u32 adp_ilog2(adp_u64 v)
{
	adp_u64 r, s;

	r = ((0xffffffffULL - v) >> 63) << 5;
	v >>= r;
	s = ((0xffffULL - v) >> 63) << 4;
	v >>= s;
	r += s;
	s = ((0xffULL - v) >> 63) << 3;
	v >>= s;
	r += s;
	s = ((0xfULL - v) >> 63) << 2;
	v >>= s;
	r += s;
	s = ((0x3ULL - v) >> 63) << 1;
	v >>= s;
	r += s;
	return (adp_u32)(r + (v >> 1));
}

/*
 * log2(v) in Q16 for 1 <= v < 2^63 (0 for 0). With v = 2^e (1 + f), log2(1 + f) is approximated by f + c f (1 - f),
 * c = 0.3465, whose error is below 0.008: a quarter of the finest feature step built on it (1/32).
 * Ratios are differences of two of these, so features need no division.
 */
ADP_INLINE adp_s32 adp_log2_q16(adp_u64 v)
{
	adp_u32 e = adp_ilog2(v);
	/* The bits behind the leading one, as Q16: 0 <= f < 65536. */
	adp_u64 f = (v << (63 - e)) >> 47 & 0xffff;
	/* f (1 - f) < 2^32 / 4, times 22708 (0.3465 in Q16) < 2^45: no overflow. */
	adp_u64 bend = ((f * (65536 - f)) >> 16) * 22708 >> 16;

	return (adp_s32)((e << 16) + f + bend);
}

/* A feature's code: Q16 to units of 1/unit, rounded and clamped to a byte. |value| < 2^47, unit <= 2^9. */
ADP_INLINE adp_u8 adp_code_q16(adp_s64 value_q16, adp_s64 unit, adp_s64 zero)
{
	return (adp_u8)adp_clamp(((value_q16 * unit + 32768) >> 16) + zero, 0, 255);
}

/*
 * e^x in Q16 for |x| <= 0.5 in Q16, by the first four terms: relative error below 0.4 %, and below 0.02 % for
 * |x| <= 0.2. Used to move a rate by a bounded
 * factor that is the same up as down.
 */
ADP_INLINE adp_u64 adp_exp_q16(adp_s32 x)
{
	adp_s64 v = adp_clamp(x, -32768, 32768);
	/* Multiplied before shifting; |v|^3 <= 2^45. Division by constants is written as multiplication: 10923 = 65536/6. */
	adp_s64 v2 = (v * v) >> 16;
	adp_s64 v3 = (v2 * v) >> 16;

	return (adp_u64)(65536 + v + (v2 >> 1) + (v3 * 10923 >> 16));
}

/*
 * floor or one above of the square root of v < 2^62, by Newton's method from a power of two that is above the root and at most
 * twice it: 3 steps bring the error from 100 % to 25, 2.5 and 0.03 %. Without a branch, see adp_cbrt().
 */
ADP_INLINE adp_u32 adp_sqrt(adp_u64 v)
{
	adp_u64 x = 1ULL << ((adp_ilog2(v) >> 1) + 1);

	x = (x + v / x) >> 1;
	x = (x + v / x) >> 1;
	x = (x + v / x) >> 1;
	return (adp_u32)x;
}

/*
 * Cube root by Newton's method, at most two too large; only the CUBIC fallback needs it, once per loss event. The start is a
 * power of two that is above the root and at most twice it, so that every step falls towards it; five steps settle it for
 * v < 2^52. Without a loop that branches: a bitwise search costs BPF's verifier more than its limit.
 */
ADP_INLINE adp_u32 adp_cbrt(adp_u64 v)
{
	/* ilog2 / 3 + 1, by 43691 / 2^17 */
	adp_u64 x = 1ULL << ((adp_ilog2(v) * 43691 >> 17) + 1);

	x = (2 * x + v / (x * x)) / 3;
	x = (2 * x + v / (x * x)) / 3;
	x = (2 * x + v / (x * x)) / 3;
	x = (2 * x + v / (x * x)) / 3;
	x = (2 * x + v / (x * x)) / 3;
	/* x can only be 0 for v = 0; the compiler and the verifier want to be told. */
	return v ? (adp_u32)x : 0;
}

#endif
