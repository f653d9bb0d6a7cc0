/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The shared C as a C compiler with the kernel's flags makes it, for tests and benches in userspace. Each function is the one of
 * include/adapath that its name ends in.
 */
#ifndef ADAPATH_KMOD_USERSPACE_SHARED_H
#define ADAPATH_KMOD_USERSPACE_SHARED_H

#include <adapath/simd.h>

#ifdef __cplusplus
extern "C" {
#endif

int adp_kernel_layout_init(struct adp_layout *l, const struct adp_layer_shape *shape, adp_u32 layers, struct adp_complaint *why);
int adp_kernel_params_check(const struct adp_layout *l, const adp_u8 *params, adp_u32 bytes, struct adp_complaint *why);
void adp_kernel_generic_forward(const struct adp_layout *l, const adp_u8 *params, const adp_u8 *in, adp_s32 *out);
adp_u32 adp_kernel_simd_bytes(const struct adp_layout *l);
void adp_kernel_simd_prepare(const struct adp_layout *l, const adp_u8 *params, void *block);

#ifdef __cplusplus
}
#endif

#endif
