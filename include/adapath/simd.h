/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * SIMD programs for any dense network, with the bits of every other program. They need the parameters in another order, a
 * prepared block, which is made once when a snapshot is installed.
 *
 * A sum has no lanes to keep apart here: two codes of 16 bits, side by side in 32, meet the weights of 16 rows at once (vpmaddwd
 * with vpaddd, or vpdpwssd), so that no vector ever has to be added up. A block is, layer after layer, a group for every 16 rows
 * (rows that the layer does not have are 0), each beginning at a multiple of 64 bytes:
 *
 *   s32 lift[16]     by how much each row's accumulator can go below 0; sums start there and stay in 0..2^27
 *   u32 mult[16]
 *   u64 bias[16]     with the lifts folded in, as in the parameters; rows 0, 2, .. 14 and then 1, 3, .. 15, since a vector of 32-bit
 *                    sums becomes two of 64-bit products by taking every other one
 *   s16 w[pairs][16][2]   the weights of inputs 2 k and 2 k + 1, row by row; pairs is rounded up to whole steps of 4
 *
 * Tables, and a last layer without one, are read from the parameters.
 *
 * The programs themselves are in kmod/simd_avx2.c and kmod/simd_vnni.c: the only code that touches vector registers. In the
 * kernel they run between kernel_fpu_begin() and kernel_fpu_end().
 */
#ifndef ADAPATH_SIMD_H
#define ADAPATH_SIMD_H

#include "params.h"

#define ADP_SIMD_ROWS 16 /* of a group */
#define ADP_SIMD_STEP 4	 /* pairs that a loop takes at once */
#define ADP_SIMD_ALIGN 64

/* Where a group's parts begin, in bytes. */
#define ADP_SIMD_LIFT 0
#define ADP_SIMD_MULT (ADP_SIMD_LIFT + ADP_SIMD_ROWS * 4)
#define ADP_SIMD_BIAS (ADP_SIMD_MULT + ADP_SIMD_ROWS * 4)
#define ADP_SIMD_WEIGHTS (ADP_SIMD_BIAS + ADP_SIMD_ROWS * 8)
#define ADP_SIMD_PAIR_BYTES (ADP_SIMD_ROWS * 4)

ADP_STATIC_ASSERT(ADP_SIMD_WEIGHTS % ADP_SIMD_ALIGN == 0 && ADP_SIMD_PAIR_BYTES % ADP_SIMD_ALIGN == 0, "groups stay aligned");
ADP_STATIC_ASSERT(ADP_MAX_WIDTH % (2 * ADP_SIMD_STEP) == 0 && ADP_MAX_WIDTH % ADP_SIMD_ROWS == 0, "no buffer overflows by padding");
/* A padded row of codes is at least as long as the steps that read it. */
ADP_STATIC_ASSERT(ADP_SIMD_ROWS % (2 * ADP_SIMD_STEP) == 0, "rows cover steps");

typedef adp_s16 __attribute__((may_alias)) adp_weight16;
typedef adp_u32 __attribute__((may_alias)) adp_half_word;

ADP_FUNCTION adp_u32 adp_simd_steps(adp_u32 inputs)
{
	return (inputs + 2 * ADP_SIMD_STEP - 1) / (2 * ADP_SIMD_STEP);
}

ADP_FUNCTION adp_u32 adp_simd_group_bytes(adp_u32 inputs)
{
	return ADP_SIMD_WEIGHTS + adp_simd_steps(inputs) * ADP_SIMD_STEP * ADP_SIMD_PAIR_BYTES;
}

/* Index of a row's bias within bias[]. */
ADP_FUNCTION adp_u32 adp_simd_bias_index(adp_u32 row)
{
	return (row & 1) * (ADP_SIMD_ROWS / 2) + row / 2;
}

/*
 * Bytes of a prepared block. A layer of n inputs takes at most 16 times its rows in bytes more than it would without padding, so
 * no network whose parameters fit a slot needs a megabyte.
 */
ADP_FUNCTION adp_u32 adp_simd_bytes(const struct adp_layout *l)
{
	adp_u32 bytes = 0;
	adp_u32 i;

	for (i = 0; i < l->layers; i++)
		bytes += (l->shape[i].outputs + ADP_SIMD_ROWS - 1) / ADP_SIMD_ROWS * adp_simd_group_bytes(l->shape[i].inputs);
	return bytes;
}

/* One row of the parameters, at w, into its place in a group. */
ADP_FUNCTION void adp_simd_prepare_row(const adp_word *w, const struct adp_layer_layout *at, adp_u32 inputs, adp_u8 *group,
				       adp_u32 row)
{
	adp_weight16 *weights = (adp_weight16 *)(group + ADP_SIMD_WEIGHTS) + 2 * row;
	adp_u32 input = 0, triple, c;
	adp_u64 lift = 0;

	for (c = 0; c < at->chunks; c++) {
		lift += *w++ >> ADP_TOP_SHIFT;
		for (triple = 0; triple < at->chunk_triples && input < inputs; triple++) {
			adp_s64 three[3];
			adp_u32 k;

			adp_unpack3(*w++, three);
			for (k = 0; k < 3 && input < inputs; k++, input++)
				weights[input / 2 * (2 * ADP_SIMD_ROWS) + (input & 1)] = (adp_s16)three[k];
		}
	}
	((adp_half_word *)(group + ADP_SIMD_LIFT))[row] = (adp_u32)lift;
	((adp_half_word *)(group + ADP_SIMD_MULT))[row] = (adp_u32)w[1];
	((adp_word *)(group + ADP_SIMD_BIAS))[adp_simd_bias_index(row)] = w[0];
}

/* block: adp_simd_bytes() long and aligned to ADP_SIMD_ALIGN; params: what adp_params_check() let through. */
ADP_FUNCTION void adp_simd_prepare(const struct adp_layout *l, const adp_u8 *params, void *block)
{
	adp_u8 *group = (adp_u8 *)block;
	adp_u32 i, row;

	__builtin_memset(block, 0, adp_simd_bytes(l));
	for (i = 0; i < l->layers; i++) {
		const struct adp_layer_layout *at = &l->layer[i];
		const adp_word *w = (const adp_word *)(params + at->offset);
		adp_u32 outputs = l->shape[i].outputs;
		adp_u32 bytes = adp_simd_group_bytes(l->shape[i].inputs);

		for (row = 0; row < outputs; row++, w += at->row_words)
			adp_simd_prepare_row(w, at, l->shape[i].inputs, group + row / ADP_SIMD_ROWS * bytes, row % ADP_SIMD_ROWS);
		group += (outputs + ADP_SIMD_ROWS - 1) / ADP_SIMD_ROWS * bytes;
	}
}

#ifdef __cplusplus
extern "C" {
#endif

/*
 * As adp_generic_forward(), of the same parameters and the block that was prepared from them. For a CPU with AVX2, and with
 * AVX-512 F, VL, BW and VNNI. About 1 KiB of stack.
 */
void adp_simd_avx2_forward(const struct adp_layout *l, const adp_u8 *params, const void *block, const adp_u8 *in, adp_s32 *out);
void adp_simd_vnni_forward(const struct adp_layout *l, const adp_u8 *params, const void *block, const adp_u8 *in, adp_s32 *out);

#ifdef __cplusplus
}
#endif

#endif
