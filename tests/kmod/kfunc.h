/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What kfunc.bpf.c and its test share: one question and its answer. */
#ifndef ADAPATH_TEST_KFUNC_H
#define ADAPATH_TEST_KFUNC_H

#include <adapath/abi.h>

struct kfunc_io {
    adp_u32 app_id;
    adp_u32 in_size;
    adp_u32 out_size;
    adp_s32 result;
    adp_u8 in[ADP_MAX_WIDTH];
    adp_s32 out[ADP_MAX_OUTPUTS];
};

#endif
