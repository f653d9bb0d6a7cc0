/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * May a block of packed parameters be run by a kernel that trusts nobody? What adp_params_check() lets through is, byte by byte,
 * what pack() of codegen makes of some proven model, so a program that runs it leaves no lane, no table and no 64-bit sum.
 */
#ifndef ADAPATH_PARAMS_H
#define ADAPATH_PARAMS_H

#include "layout.h"

#define ADP_WEIGHT_MAX 127
/* Bits of the signed 64-bit sum that may be used, leaving one spare. */
#define ADP_SUM_LIMIT (1LL << 62)

/*
 * The three weights of a word, w2 + w1 2^22 + w0 2^43 mod 2^64. Any word is such a sum of exactly one w2 of 22 signed bits, one
 * w1 of 21 and one w0 of 21, so whoever wants them within a byte has no second reading to fear.
 */
ADP_FUNCTION void adp_unpack3(adp_u64 word, adp_s64 *w)
{
	w[2] = (adp_s64)(word << (64 - ADP_W1_SHIFT)) >> (64 - ADP_W1_SHIFT);
	/* The borrow of a negative weight is in the lane above: give it back. */
	word -= (adp_u64)w[2];
	w[1] = (adp_s64)(word << (64 - ADP_TOP_SHIFT)) >> (64 - ADP_TOP_SHIFT + ADP_W1_SHIFT);
	word -= (adp_u64)w[1] << ADP_W1_SHIFT;
	w[0] = (adp_s64)word >> ADP_TOP_SHIFT;
}

/* How far down (as a positive number) and up a sum can go, whatever the inputs. */
struct adp_extent {
	adp_u64 down;
	adp_u64 up;
};

/* Adds weight * x for any x in 0..max. Here |weight| < 2^30 and max < 2^11, with at most 256 terms: below 2^49. */
ADP_FUNCTION void adp_extend(struct adp_extent *e, adp_s64 weight, adp_u32 max)
{
	if (weight < 0)
		e->down += (adp_u64)-weight * max;
	else
		e->up += (adp_u64)weight * max;
}

/* One word of a chunk, of `count` inputs (1..3): its weights' extents. 0, or -1. */
ADP_FUNCTION int adp_check_word(adp_u64 word, adp_u32 count, adp_u32 input_max, struct adp_extent *top,
				struct adp_extent *below, struct adp_complaint *why)
{
	adp_s64 w[3];
	adp_u32 i;

	adp_unpack3(word, w);
	for (i = 0; i < 3; i++) {
		if (w[i] < -ADP_WEIGHT_MAX || w[i] > ADP_WEIGHT_MAX)
			return adp_complain(why, "weight out of -127..127", 0, 0, w[i]);
		if (i >= count && w[i] != 0)
			return adp_complain(why, "weight of an input that the layer does not have", 0, 0, w[i]);
		adp_extend(top, w[i], input_max);
	}
	/* x0 (w1 2^22 + w2) + x1 w2 2^21; multiplied, since a negative number may not be shifted. */
	adp_extend(below, w[1] * (1LL << ADP_W1_SHIFT) + w[2], input_max);
	adp_extend(below, w[2] * (1LL << ADP_X1_SHIFT), input_max);
	return 0;
}

/* One row: words at `w`, at->row_words of them. 0, or -1 with *why but for its layer and row. */
ADP_FUNCTION int adp_check_row(const adp_word *w, const struct adp_layer_layout *at, adp_u32 inputs, struct adp_complaint *why)
{
	/* Of the whole accumulator: at most 256 * 127 * 1376 < 2^26 either way. */
	struct adp_extent acc = { 0, 0 };
	adp_u64 bias, mult;
	adp_s64 sum;
	adp_u32 c;

	for (c = 0; c < at->chunks; c++) {
		struct adp_extent top = { 0, 0 }, below = { 0, 0 };
		adp_u32 left = inputs < at->chunk_inputs ? inputs : at->chunk_inputs;
		adp_u64 init = *w++;

		inputs -= left;
		while (left > 0) {
			adp_u32 count = left < 3 ? left : 3;

			if (adp_check_word(*w++, count, at->input_max, &top, &below, why) != 0)
				return -1;
			left -= count;
		}
		/* Both hold for any weights in range, by the size of a chunk; said here again so that it can't be lost there. */
		if (top.down + top.up >= 1ULL << (64 - ADP_TOP_SHIFT))
			return adp_complain(why, "accumulator leaves its lane, its range", 0, 0, (adp_s64)(top.down + top.up));
		if (below.down + below.up >= 1ULL << ADP_TOP_SHIFT)
			return adp_complain(why, "lower lanes overflow, their range", 0, 0, (adp_s64)(below.down + below.up));
		if (init != (top.down << ADP_TOP_SHIFT) + below.down)
			return adp_complain(why, "a chunk's first word is not its weights'", 0, 0, (adp_s64)init);
		acc.down += top.down;
		acc.up += top.up;
	}
	bias = w[0];
	mult = w[1];
	if (mult > 0xffffffffULL)
		return adp_complain(why, "multiplier over 2^32 - 1", 0, 0, (adp_s64)mult);
	/*
	 * The block has the bias with the lifts folded in, bias - mult * lifts mod 2^64; the lifts are what acc can go down.
	 * mult * lifts < 2^58 does not wrap; the sum may, and then it is the unfolded bias all the same, as the programs' sums
	 * wrap likewise: acc + lifts times mult plus the folded bias is acc * mult + bias mod 2^64, and if the latter is a
	 * number within 2^62, the wrapped sum is that number.
	 */
	sum = (adp_s64)(bias + mult * acc.down);
	if (sum <= -ADP_SUM_LIMIT || sum >= ADP_SUM_LIMIT)
		return adp_complain(why, "bias over 62 bits", 0, 0, sum);
	/* |sum| < 2^62 and products < 2^58: no overflow. */
	if (sum - (adp_s64)(mult * acc.down) <= -ADP_SUM_LIMIT)
		return adp_complain(why, "least sum over 62 bits, with the bias", 0, 0, sum);
	if (sum + (adp_s64)(mult * acc.up) >= ADP_SUM_LIMIT)
		return adp_complain(why, "greatest sum over 62 bits, with the bias", 0, 0, sum);
	return 0;
}

ADP_FUNCTION int adp_check_table(const adp_u8 *params, const struct adp_layer_layout *at, int hidden, struct adp_complaint *why)
{
	const adp_code *table = (const adp_code *)(params + at->table_offset);
	adp_u32 padded = adp_table_bytes(at->table_entries) / 2;
	adp_u32 i;

	/* Of an output's table any s16 will do. */
	for (i = 0; hidden && i < at->table_entries; i++) {
		if (table[i] > ADP_HIDDEN_CODE_MAX)
			return adp_complain(why, "code in the table out of range", 0, 0, table[i]);
	}
	for (i = at->table_entries; i < padded; i++) {
		if (table[i] != 0)
			return adp_complain(why, "padding of a table is not 0", 0, 0, table[i]);
	}
	return 0;
}

/* Has an earlier hidden layer the same table? Then it has been checked. */
ADP_FUNCTION int adp_table_seen(const struct adp_layout *l, adp_u32 layer)
{
	adp_u32 i;

	for (i = 0; i < layer; i++) {
		if (l->layer[i].table_offset == l->layer[layer].table_offset)
			return 1;
	}
	return 0;
}

/*
 * 0 where a network of layout *l may run with the `bytes` at params (aligned to 8; untrusted, but nobody writes to them any
 * more), else -1 with *why filled. Time is linear in the bytes, of which it looks at none where their number is wrong.
 */
ADP_FUNCTION int adp_params_check(const struct adp_layout *l, const adp_u8 *params, adp_u32 bytes, struct adp_complaint *why)
{
	adp_u32 i, row;

	if (bytes != l->bytes)
		return adp_complain(why, "parameters are not as long as the network's, their bytes", 0, 0, bytes);
	for (i = 0; i < l->layers; i++) {
		const struct adp_layer_layout *at = &l->layer[i];
		const adp_word *w = (const adp_word *)(params + at->offset);

		for (row = 0; row < l->shape[i].outputs; row++, w += at->row_words) {
			if (adp_check_row(w, at, l->shape[i].inputs, why) != 0) {
				why->layer = i + 1;
				why->row = row + 1;
				return -1;
			}
		}
		if (at->table_entries > 0 && !adp_table_seen(l, i) &&
		    adp_check_table(params, at, i + 1 < l->layers, why) != 0) {
			why->layer = i + 1;
			return -1;
		}
	}
	return 0;
}

#endif
