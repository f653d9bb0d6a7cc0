// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The SIMD program for AVX-512 VNNI. Plain C with vector extensions, and assembly for what those do not reach, or
 * sparse does not understand of them: there is no immintrin.h in the kernel. Compiled with -mavx512f -mavx512vl -mavx512bw
 * -mavx512vnni, in the kernel and for the tests alike.
 */
#include <adapath/simd.h>

typedef adp_u32 adp_v16u __attribute__((vector_size(64), may_alias));
typedef adp_u32 adp_v16u_unaligned __attribute__((vector_size(64), aligned(4), may_alias));
typedef adp_u64 adp_v8u64 __attribute__((vector_size(64), may_alias));
typedef adp_s64 adp_v8s64 __attribute__((vector_size(64), may_alias));

/* sum + pair0 * w0 + pair1 * w1, signed, of 16 bits each, sixteen times. */
static inline adp_v16u adp_dot(adp_v16u sum, const adp_u32 *pair, const adp_u8 *w)
{
	adp_v16u pairs;

	__asm__("vpbroadcastd %1, %0" : "=v"(pairs) : "m"(*pair));
	__asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(pairs), "m"(*(const adp_v16u *)w));
	return sum;
}

/* Eight times the product of the low halves, unsigned. */
static inline adp_v8u64 adp_multiply(adp_v8u64 a, adp_v8u64 b)
{
	adp_v8u64 product;

	__asm__("vpmuludq %2, %1, %0" : "=v"(product) : "v"(a), "v"(b));
	return product;
}

/* The lifted accumulators of a group. Four sums, since one is some five cycles from one addition to its next. */
static inline adp_v16u adp_group_sums(const adp_u8 *group, adp_u32 steps, const adp_u32 *x)
{
	const adp_u8 *w = group + ADP_SIMD_WEIGHTS;
	adp_v16u sum0 = *(const adp_v16u *)(group + ADP_SIMD_LIFT);
	adp_v16u sum1 = { 0 }, sum2 = { 0 }, sum3 = { 0 };

	do {
		sum0 = adp_dot(sum0, x, w);
		sum1 = adp_dot(sum1, x + 1, w + 64);
		sum2 = adp_dot(sum2, x + 2, w + 128);
		sum3 = adp_dot(sum3, x + 3, w + 192);
		w += ADP_SIMD_STEP * ADP_SIMD_PAIR_BYTES;
		x += ADP_SIMD_STEP;
	} while (--steps > 0);
	return (sum0 + sum1) + (sum2 + sum3);
}

/* clamp(sum >> shift, 0, last) */
static inline adp_v8u64 adp_index(adp_v8u64 sum, adp_u32 shift, adp_v8s64 last)
{
	adp_v8s64 t = (adp_v8s64)sum >> shift;
	adp_v8s64 zero = { 0 };

	__asm__("vpmaxsq %1, %0, %0" : "+v"(t) : "v"(zero));
	__asm__("vpminsq %1, %0, %0" : "+v"(t) : "v"(last));
	return (adp_v8u64)t;
}

static inline adp_v8s64 adp_broadcast64(adp_u64 value)
{
	adp_v8s64 values;

	__asm__("vpbroadcastq %1, %0" : "=v"(values) : "r"(value));
	return values;
}

static inline void adp_simd_sums(const adp_u8 *group, adp_u32 steps, const adp_u32 *x, adp_u32 *sums)
{
	*(adp_v16u_unaligned *)sums = adp_group_sums(group, steps, x);
}

static inline void adp_simd_indices(const adp_u8 *group, adp_u32 steps, const adp_u32 *x, adp_u32 shift, adp_u32 last,
				    adp_u32 *indices)
{
	adp_v8s64 greatest = adp_broadcast64(last);
	adp_v8u64 acc = (adp_v8u64)adp_group_sums(group, steps, x);
	adp_v8u64 mult = *(const adp_v8u64 *)(group + ADP_SIMD_MULT);
	adp_v8u64 even = adp_multiply(acc, mult) + *(const adp_v8u64 *)(group + ADP_SIMD_BIAS);
	adp_v8u64 odd = adp_multiply(acc >> 32, mult >> 32) + *(const adp_v8u64 *)(group + ADP_SIMD_BIAS + 64);

	even = adp_index(even, shift, greatest);
	odd = adp_index(odd, shift, greatest);
	*(adp_v16u_unaligned *)indices = (adp_v16u)(even | odd << 32);
}

#include "simd_program.h"

void adp_simd_vnni_forward(const struct adp_layout *l, const adp_u8 *params, const void *block, const adp_u8 *in, adp_s32 *out)
{
	adp_simd_forward(l, params, block, in, out);
}
