/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What differs between the kernels that the modules build on (6.1 and newer). Each shim names the version and the commit. */
#ifndef ADAPATH_KMOD_COMPAT_H
#define ADAPATH_KMOD_COMPAT_H

#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/mm.h>
#include <linux/netlink.h>
#include <linux/version.h>

#ifndef CONFIG_64BIT
#error "adapath needs a 64-bit kernel: the shared code divides 64-bit numbers"
#endif

/* Compat: since 6.10 (commit 57bfc7605ca5, "tcp: Add new args for cong_control in tcp_congestion_ops"). */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
#define ADP_CONG_CONTROL_HAS_ACK 1
#endif

/* Compat: since 6.3 (commit 1c71222e5f23, "mm: replace vma->vm_flags direct modifications with modifier calls"). */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags &= ~flags;
}
#endif

/* Compat: formatted extended acknowledgements since 6.2 (commit 51c352bdbcd2); before it the text goes without its numbers. */
#ifdef NL_SET_ERR_MSG_FMT
#define ADP_EXTACK(extack, text, fmt, ...) NL_SET_ERR_MSG_FMT((extack), text fmt, ##__VA_ARGS__)
#else
#define ADP_EXTACK(extack, text, fmt, ...)                      \
	do {                                                    \
		no_printk(text fmt, ##__VA_ARGS__);             \
		NL_SET_ERR_MSG((extack), text);                 \
	} while (0)
#endif

/* Compat: __bpf_kfunc since 6.3 (commit 57e7c169cd6a), the guards of its definitions since 6.7 (commit 391145ba2acc). */
#ifndef __bpf_kfunc
#define __bpf_kfunc __used noinline
#endif
#ifndef __bpf_kfunc_start_defs
#define __bpf_kfunc_start_defs()                                                              \
	__diag_push();                                                                        \
	__diag_ignore_all("-Wmissing-prototypes", "kfuncs are called by BPF programs only")
#define __bpf_kfunc_end_defs() __diag_pop()
#endif

/* Compat: sets of kfuncs carry a flag of their own since 6.9 (commit 6f3189f38a3e). */
#ifndef BTF_KFUNCS_START
#define BTF_KFUNCS_START(name) BTF_SET8_START(name)
#define BTF_KFUNCS_END(name) BTF_SET8_END(name)
#endif

#endif
