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

/* floor(log2(v)); 0 for 0. Written out: BPF has no count-leading-zeros instruction and the kernel no libgcc. */
ADP_INLINE adp_u32 adp_ilog2(adp_u64 v)
{
	adp_u32 r = 0;

	if (v >> 32) {
		v >>= 32;
		r += 32;
	}
	if (v >> 16) {
		v >>= 16;
		r += 16;
	}
	if (v >> 8) {
		v >>= 8;
		r += 8;
	}
	if (v >> 4) {
		v >>= 4;
		r += 4;
	}
	if (v >> 2) {
		v >>= 2;
		r += 2;
	}
	return r + (adp_u32)(v >> 1);
}

/*
 * log2(v) in Q16 for v >= 1 (0 for 0). With v = 2^e (1 + f), log2(1 + f) is approximated by
 * f + c f (1 - f), c = 0.3465, whose error is below 0.0067: a fifth of the coarsest feature step built on it (1/32).
 * Ratios are differences of two of these, so features need no division.
 */
ADP_INLINE adp_s32 adp_log2_q16(adp_u64 v)
{
	adp_u32 e = adp_ilog2(v);
	/* Bring the mantissa to Q16 with the leading one removed: 0 <= f < 65536. */
	adp_u64 m = e >= 16 ? v >> (e - 16) : v << (16 - e);
	adp_u64 f = m & 0xffff;
	/* f (1 - f) < 2^32 / 4, times 22708 (0.3465 in Q16) < 2^45: no overflow. */
	adp_u64 bend = ((f * (65536 - f)) >> 16) * 22708 >> 16;

	if (!v)
		return 0;
	return (adp_s32)((e << 16) + f + bend);
}

/*
 * e^x in Q16 for |x| <= 0.5 in Q16, by the first four terms: relative error below 0.03 %. Used to move a rate by a bounded
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

/* floor(cbrt(v)) by bits; 22 rounds cover 64 bits. Only the CUBIC fallback needs it, once per loss event. */
ADP_INLINE adp_u32 adp_cbrt(adp_u64 v)
{
	adp_u64 r = 0;
	int bit;

	for (bit = 20; bit >= 0; bit--) {
		adp_u64 t = r | (1ULL << bit);

		/* t < 2^21, t^3 < 2^63 */
		if (t * t * t <= v)
			r = t;
	}
	return (adp_u32)r;
}

#endif
