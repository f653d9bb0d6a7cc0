/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The part of a SIMD program that does not depend on how wide a vector is: inputs to codes of 16 bits, layer after layer, sums
 * to codes by the tables. The including file has defined
 *
 *   static inline void adp_simd_sums(const adp_u8 *group, adp_u32 steps, const adp_u32 *x, adp_u32 *sums);
 *   static inline void adp_simd_indices(const adp_u8 *group, adp_u32 steps, const adp_u32 *x, adp_u32 shift, adp_u32 last,
 *				         adp_u32 *indices);
 *
 * both of which store one number for each of a group's 16 rows: the lifted accumulator, or its index into a table of entries
 * 0..last. x has steps * 4 pairs of codes.
 */
#ifndef ADAPATH_KMOD_SIMD_PROGRAM_H
#define ADAPATH_KMOD_SIMD_PROGRAM_H

#include <adapath/simd.h>

/* Anywhere in memory: the stack of a kernel function is aligned to 8. */
typedef adp_u8 adp_v16u8 __attribute__((vector_size(16), aligned(1), may_alias));
typedef adp_s16 adp_v16s16 __attribute__((vector_size(32), may_alias));
typedef adp_s16 adp_v16s16_unaligned __attribute__((vector_size(32), aligned(2), may_alias));
typedef adp_s16 adp_v8s16_unaligned __attribute__((vector_size(16), aligned(2), may_alias));

/*
 * Pairs of codes of a layer's inputs and of its outputs together, both rounded up to whole groups of rows; zeroing behind the
 * network's inputs touches no more than that either.
 */
#define ADP_SIMD_PAIRS ((3 * ADP_MAX_TRIPLES_BESIDE + 2 * (ADP_SIMD_ROWS - 1) + 1) / 2)

static inline void adp_simd_widen16(const adp_u8 *in, adp_weight16 *x)
{
	adp_v16s16 wide;

	__asm__("vpmovzxbw %1, %0" : "=x"(wide) : "m"(*(const adp_v16u8 *)in));
	*(adp_v16s16_unaligned *)x = wide;
}

/* Codes of one byte become codes of two, and zeros behind them up to a whole step. Reads no byte that is not an input. */
static inline void adp_simd_widen(const adp_u8 *in, adp_u32 inputs, adp_u32 *pairs)
{
	adp_weight16 *x = (adp_weight16 *)pairs;
	adp_u32 i;

	*(adp_v8s16_unaligned *)(x + inputs) = (adp_v8s16_unaligned){ 0 };
	if (inputs < 16) {
		for (i = 0; i < inputs; i++)
			x[i] = in[i];
		return;
	}
	for (i = 0; i + 16 < inputs; i += 16)
		adp_simd_widen16(in + i, x + i);
	/* The last 16, some of them a second time. */
	adp_simd_widen16(in + inputs - 16, x + inputs - 16);
}

/*
 * Sixteen codes by their indices. Rows that the layer does not have are index 0 and get a code too, which the next layer meets
 * with weights of 0. Whole pairs are stored, since a pair is what will be loaded.
 */
static inline void adp_simd_codes(const adp_code *table, const adp_u32 *indices, adp_u32 *y)
{
	adp_u32 k;

#pragma GCC unroll 8
	for (k = 0; k < ADP_SIMD_ROWS / 2; k++)
		y[k] = table[indices[2 * k]] | (adp_u32)table[indices[2 * k + 1]] << 16;
}

/* The last layer: at most ADP_MAX_OUTPUTS rows, so one group. */
static inline void adp_simd_outputs(const struct adp_layout *l, const adp_u8 *params, const adp_u8 *group, const adp_u32 *x,
				    adp_s32 *out)
{
	const struct adp_layer_shape *shape = &l->shape[l->layers - 1];
	const struct adp_layer_layout *at = &l->layer[l->layers - 1];
	adp_u32 steps = adp_simd_steps(shape->inputs);
	adp_u32 t[ADP_SIMD_ROWS];
	adp_u32 row;

	if (at->table_entries > 0) {
		const adp_table_output *table = (const adp_table_output *)(params + at->table_offset);

		adp_simd_indices(group, steps, x, at->shift, at->table_entries - 1, t);
		for (row = 0; row < shape->outputs; row++)
			out[row] = 2 * table[t[row]];
		return;
	}
	adp_simd_sums(group, steps, x, t);
	for (row = 0; row < shape->outputs; row++) {
		adp_u64 bias = ((const adp_word *)(group + ADP_SIMD_BIAS))[adp_simd_bias_index(row)];
		adp_u64 mult = ((const adp_half_word *)(group + ADP_SIMD_MULT))[row];

		out[row] = adp_output(adp_requantise(t[row], bias, mult, at->shift),
				      shape->activation == ADP_RELU ? 0 : -2147483647LL - 1);
	}
}

static inline void adp_simd_forward(const struct adp_layout *l, const adp_u8 *params, const void *block, const adp_u8 *in,
				    adp_s32 *out)
{
	const adp_u8 *group = (const adp_u8 *)block;
	/* A layer's inputs at one end, its outputs at the other, and the next layer the other way round. */
	adp_u32 pairs[ADP_SIMD_PAIRS];
	adp_u32 *x = pairs;
	adp_u32 i, row;

	adp_simd_widen(in, l->inputs, x);
	for (i = 0; i + 1 < l->layers; i++) {
		const struct adp_layer_layout *at = &l->layer[i];
		const adp_code *table = (const adp_code *)(params + at->table_offset);
		adp_u32 steps = adp_simd_steps(l->shape[i].inputs);
		adp_u32 bytes = adp_simd_group_bytes(l->shape[i].inputs);
		adp_u32 groups = (l->shape[i].outputs + ADP_SIMD_ROWS - 1) / ADP_SIMD_ROWS;
		adp_u32 *y = i & 1 ? pairs : pairs + ADP_SIMD_PAIRS - groups * (ADP_SIMD_ROWS / 2);

		for (row = 0; row < l->shape[i].outputs; row += ADP_SIMD_ROWS, group += bytes) {
			adp_u32 indices[ADP_SIMD_ROWS];

			adp_simd_indices(group, steps, x, at->shift, at->table_entries - 1, indices);
			adp_simd_codes(table, indices, y + row / 2);
		}
		x = y;
	}
	adp_simd_outputs(l, params, group, x, out);
}

#endif
