/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* bpf_adp_query(): a BPF program asks a snapshot that this module hosts. */
#ifndef ADAPATH_KMOD_KFUNC_H
#define ADAPATH_KMOD_KFUNC_H

/* Never fails for a reason that should keep the module from loading: says in the log where BPF programs can't have it. */
void adp_kfunc_init(void);

#endif
