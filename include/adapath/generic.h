/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * A program for any dense network: the packed convolution of net.h with the shapes read from a layout. What runs where nobody
 * could build the network's own program; the same bits, slower.
 */
#ifndef ADAPATH_GENERIC_H
#define ADAPATH_GENERIC_H

#include "layout.h"

/*
 * The t of three rows, so that each input is loaded once for all of them: the one at w and those `second` and `third` words
 * behind it. Of the last one or two rows of a layer the caller has some computed twice: cheaper than a second loop, in code that
 * is read from memory.
 */
ADP_FUNCTION void adp_generic_rows(const adp_word *w, adp_u64 second, adp_u64 third, const struct adp_layer_layout *at,
				   const adp_u64 *x, adp_s64 *t)
{
	adp_u64 acc0 = 0, acc1 = 0, acc2 = 0;
	adp_u32 left = at->triples;

	do {
		adp_u32 n = left < at->chunk_triples ? left : at->chunk_triples;
		adp_u64 sum0 = w[0], sum1 = w[second], sum2 = w[third];

		w++;
		left -= n;
		do {
			adp_u64 v = *x++;

			sum0 += v * w[0];
			sum1 += v * w[second];
			sum2 += v * w[third];
			w++;
		} while (--n > 0);
		acc0 += sum0 >> ADP_TOP_SHIFT;
		acc1 += sum1 >> ADP_TOP_SHIFT;
		acc2 += sum2 >> ADP_TOP_SHIFT;
	} while (left > 0);
	t[0] = adp_requantise(acc0, w[0], w[1], at->shift);
	t[1] = adp_requantise(acc1, w[second], w[second + 1], at->shift);
	t[2] = adp_requantise(acc2, w[third], w[third + 1], at->shift);
}

/*
 * clamp(t, 0, last). Unlike adp_table_index() without a branch: of a ReLU's sums half are negative, and no branch predictor knows
 * which.
 */
ADP_FUNCTION adp_u64 adp_generic_index(adp_s64 t, adp_s64 last)
{
	t &= ~(t >> 63);
	return (adp_u64)(t < last ? t : last);
}

/* The network's inputs as factors; chunks are whole triples, so where they begin does not matter. */
ADP_FUNCTION void adp_generic_pack(const adp_u8 *in, adp_u32 inputs, adp_u64 *x)
{
	for (; inputs >= 3; inputs -= 3, in += 3)
		*x++ = adp_pack3(in[0], in[1], in[2]);
	if (inputs > 0)
		*x = adp_pack3(in[0], inputs > 1 ? in[1] : 0, 0);
}

/* What a row's t is as the network's output, in Q16. */
ADP_FUNCTION adp_s32 adp_generic_output(const adp_u8 *params, const struct adp_layer_layout *at, adp_u32 activation, adp_s64 t)
{
	if (at->table_entries > 0) {
		const adp_table_output *table = (const adp_table_output *)(params + at->table_offset);

		return 2 * table[adp_generic_index(t, (adp_s64)at->table_entries - 1)];
	}
	return adp_output(t, activation == ADP_RELU ? 0 : -2147483647LL - 1);
}

/*
 * params: parameters that adp_params_check() let through for *l; in: l->inputs codes; out: l->outputs numbers in Q16. About
 * 1.2 KiB of stack.
 */
ADP_FUNCTION void adp_generic_forward(const struct adp_layout *l, const adp_u8 *params, const adp_u8 *in, adp_s32 *out)
{
	/* A layer's inputs at one end, its outputs at the other, and the next layer the other way round. */
	adp_u64 words[ADP_MAX_TRIPLES_BESIDE];
	adp_u64 *x = words;
	adp_u32 i, row;

	adp_generic_pack(in, l->inputs, x);
	for (i = 0; i < l->layers; i++) {
		const struct adp_layer_layout *at = &l->layer[i];
		const adp_code *table = (const adp_code *)(params + at->table_offset);
		const adp_word *w = (const adp_word *)(params + at->offset);
		adp_u32 rows = l->shape[i].outputs;
		adp_u32 codes = (rows + 2) / 3;
		adp_u64 *next = i & 1 ? words : words + ADP_MAX_TRIPLES_BESIDE - codes;
		adp_u64 *y = next;

		for (row = 0; row < rows; row += 3, w += 3 * at->row_words) {
			adp_u64 second = row + 1 < rows ? at->row_words : 0;
			adp_u64 third = row + 2 < rows ? 2 * at->row_words : 0;
			adp_s64 t[3];

			adp_generic_rows(w, second, third, at, x, t);
			if (i + 1 < l->layers) {
				adp_s64 last = (adp_s64)at->table_entries - 1;

				/* A row that was computed twice ends up where the next layer's weights are 0. */
				*y++ = adp_pack3(table[adp_generic_index(t[0], last)], table[adp_generic_index(t[1], last)],
						 table[adp_generic_index(t[2], last)]);
				continue;
			}
			out[row] = adp_generic_output(params, at, l->shape[i].activation, t[0]);
			if (row + 1 < rows)
				out[row + 1] = adp_generic_output(params, at, l->shape[i].activation, t[1]);
			if (row + 2 < rows)
				out[row + 2] = adp_generic_output(params, at, l->shape[i].activation, t[2]);
		}
		x = next;
	}
}

#endif
