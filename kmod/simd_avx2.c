// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The SIMD program for AVX2. Plain C with vector extensions, and assembly for what those do not reach, or sparse does not
 * understand of them: there is no immintrin.h in the kernel. Compiled with -mavx2, in the kernel and for the tests alike.
 */
#include <adapath/simd.h>

typedef adp_u32 adp_v8u __attribute__((vector_size(32), may_alias));
typedef adp_u32 adp_v8u_unaligned __attribute__((vector_size(32), aligned(4), may_alias));
typedef adp_u64 adp_v4u __attribute__((vector_size(32), may_alias));
typedef adp_s64 adp_v4s __attribute__((vector_size(32), may_alias));

/* Eight times pair0 * w0 + pair1 * w1, signed, of 16 bits each: exact, as the products of codes and weights are below 2^18. */
static inline adp_v8u adp_multiply_add(adp_v8u pair, const adp_u8 *w)
{
	adp_v8u sum;

	__asm__("vpmaddwd %2, %1, %0" : "=x"(sum) : "x"(pair), "m"(*(const adp_v8u *)w));
	return sum;
}

/* Four times the product of the low halves, unsigned. */
static inline adp_v4u adp_multiply(adp_v4u a, adp_v4u b)
{
	adp_v4u product;

	__asm__("vpmuludq %2, %1, %0" : "=x"(product) : "x"(a), "x"(b));
	return product;
}

static inline adp_v8u adp_broadcast(const adp_u32 *pair)
{
	adp_v8u pairs;

	__asm__("vpbroadcastd %1, %0" : "=x"(pairs) : "m"(*pair));
	return pairs;
}

static inline adp_v4s adp_broadcast64(const adp_s64 *value)
{
	adp_v4s values;

	__asm__("vpbroadcastq %1, %0" : "=x"(values) : "m"(*value));
	return values;
}

/* The lifted accumulators of a group: rows 0..7 and 8..15. */
static inline void adp_group_sums(const adp_u8 *group, adp_u32 steps, const adp_u32 *x, adp_v8u *low, adp_v8u *high)
{
	const adp_u8 *w = group + ADP_SIMD_WEIGHTS;
	adp_v8u low0 = *(const adp_v8u *)(group + ADP_SIMD_LIFT);
	adp_v8u high0 = *(const adp_v8u *)(group + ADP_SIMD_LIFT + 32);
	adp_v8u low1 = { 0 }, high1 = { 0 };

	do {
		adp_v8u pair0 = adp_broadcast(x), pair1 = adp_broadcast(x + 1);
		adp_v8u pair2 = adp_broadcast(x + 2), pair3 = adp_broadcast(x + 3);

		low0 += adp_multiply_add(pair0, w);
		high0 += adp_multiply_add(pair0, w + 32);
		low1 += adp_multiply_add(pair1, w + 64);
		high1 += adp_multiply_add(pair1, w + 96);
		low0 += adp_multiply_add(pair2, w + 128);
		high0 += adp_multiply_add(pair2, w + 160);
		low1 += adp_multiply_add(pair3, w + 192);
		high1 += adp_multiply_add(pair3, w + 224);
		w += ADP_SIMD_STEP * ADP_SIMD_PAIR_BYTES;
		x += ADP_SIMD_STEP;
	} while (--steps > 0);
	*low = low0 + low1;
	*high = high0 + high1;
}

/* clamp(sum >> shift, 0, last). What is negative is 0 before the shift, which then need not be arithmetic: AVX2 has none. */
static inline adp_v4u adp_index(adp_v4u sum, adp_u32 shift, adp_v4s last)
{
	adp_v4s t = (adp_v4s)(((adp_v4u)((adp_v4s)sum > 0) & sum) >> shift);
	adp_v4s over = t > last;

	return (adp_v4u)((last & over) | (t & ~over));
}

/* Of eight rows, whose even and odd ones have their biases at `even` and `odd`. */
static inline adp_v8u adp_eight_indices(adp_v8u acc, adp_v8u mult, const adp_u8 *even, const adp_u8 *odd, adp_u32 shift,
					adp_v4s last)
{
	adp_v4u a = (adp_v4u)acc, m = (adp_v4u)mult;
	adp_v4u t0 = adp_multiply(a, m) + *(const adp_v4u *)even;
	adp_v4u t1 = adp_multiply(a >> 32, m >> 32) + *(const adp_v4u *)odd;

	return (adp_v8u)(adp_index(t0, shift, last) | adp_index(t1, shift, last) << 32);
}

static inline void adp_simd_sums(const adp_u8 *group, adp_u32 steps, const adp_u32 *x, adp_u32 *sums)
{
	adp_v8u low, high;

	adp_group_sums(group, steps, x, &low, &high);
	*(adp_v8u_unaligned *)sums = low;
	*(adp_v8u_unaligned *)(sums + 8) = high;
}

static inline void adp_simd_indices(const adp_u8 *group, adp_u32 steps, const adp_u32 *x, adp_u32 shift, adp_u32 last,
				    adp_u32 *indices)
{
	const adp_u8 *mult = group + ADP_SIMD_MULT, *bias = group + ADP_SIMD_BIAS;
	adp_s64 last64 = last;
	adp_v4s greatest = adp_broadcast64(&last64);
	adp_v8u low, high;

	adp_group_sums(group, steps, x, &low, &high);
	*(adp_v8u_unaligned *)indices =
		adp_eight_indices(low, *(const adp_v8u *)mult, bias, bias + 64, shift, greatest);
	*(adp_v8u_unaligned *)(indices + 8) =
		adp_eight_indices(high, *(const adp_v8u *)(mult + 32), bias + 32, bias + 96, shift, greatest);
}

#include "simd_program.h"

void adp_simd_avx2_forward(const struct adp_layout *l, const adp_u8 *params, const void *block, const adp_u8 *in, adp_s32 *out)
{
	adp_simd_forward(l, params, block, in, out);
}
