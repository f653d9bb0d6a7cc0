/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* bpf_adp_query(): a BPF program asks a snapshot that this module hosts. */
#ifndef ADAPATH_KMOD_KFUNC_H
#define ADAPATH_KMOD_KFUNC_H

#include <linux/types.h>

/* Called by BPF programs; described at its definition. */
int bpf_adp_query(u32 app_id, const void *in, u32 in__sz, void *out, u32 out__sz);

/* Never fails for a reason that should keep the module from loading: says in the log where BPF programs can't have it. */
void adp_kfunc_init(void);

#endif
