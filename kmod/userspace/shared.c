// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See shared.h. */
#include "shared.h"

#include <adapath/generic.h>

int adp_kernel_layout_init(struct adp_layout *l, const struct adp_layer_shape *shape, adp_u32 layers, struct adp_complaint *why)
{
	return adp_layout_init(l, shape, layers, why);
}

int adp_kernel_params_check(const struct adp_layout *l, const adp_u8 *params, adp_u32 bytes, struct adp_complaint *why)
{
	return adp_params_check(l, params, bytes, why);
}

void adp_kernel_generic_forward(const struct adp_layout *l, const adp_u8 *params, const adp_u8 *in, adp_s32 *out)
{
	adp_generic_forward(l, params, in, out);
}

adp_u32 adp_kernel_simd_bytes(const struct adp_layout *l)
{
	return adp_simd_bytes(l);
}

void adp_kernel_simd_prepare(const struct adp_layout *l, const adp_u8 *params, void *block)
{
	adp_simd_prepare(l, params, block);
}
