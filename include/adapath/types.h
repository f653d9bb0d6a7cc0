/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Fixed-width types for the code that kernel modules, BPF programs and userspace share.
 *
 * Neither libc nor the kernel's headers may be included here, so the widths come from the compiler's own macros, which
 * gcc and clang define for every target.
 */
#ifndef ADAPATH_TYPES_H
#define ADAPATH_TYPES_H

typedef __UINT8_TYPE__ adp_u8;
typedef __UINT16_TYPE__ adp_u16;
typedef __UINT32_TYPE__ adp_u32;
typedef __UINT64_TYPE__ adp_u64;
typedef __INT8_TYPE__ adp_s8;
typedef __INT16_TYPE__ adp_s16;
typedef __INT32_TYPE__ adp_s32;
typedef __INT64_TYPE__ adp_s64;

/* Shared functions are header-only and always inlined: BPF subprograms would cost a verifier pass and a stack frame. */
#define ADP_INLINE static inline __attribute__((always_inline, unused))
/* Shared functions that no BPF program uses, too large to be copied to each caller. */
#define ADP_FUNCTION static inline __attribute__((unused))

#ifdef __cplusplus
#define ADP_STATIC_ASSERT(cond, msg) static_assert(cond, msg)
#else
#define ADP_STATIC_ASSERT(cond, msg) _Static_assert(cond, msg)
#endif

#endif
