// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Asks a snapshot of adapath.ko from BPF: bpf_adp_query() is a kernel function of the module. A program each for the
 * kinds that may call it, and one for a kind that may not, which the verifier must refuse.
 */
#include <adapath/bpf_min.h>

#include "kfunc.h"

extern int bpf_adp_query(adp_u32 app_id, const void* in, adp_u32 in__sz, void* out, adp_u32 out__sz) ADP_SEC(".ksyms");

struct {
    ADP_MAP_UINT(type, ADP_BPF_MAP_ARRAY);
    ADP_MAP_UINT(max_entries, 1);
    ADP_MAP_TYPE(key, adp_u32);
    ADP_MAP_TYPE(value, struct kfunc_io);
} kfunc_io ADP_SEC(".maps");

ADP_INLINE int ask(void) {
    adp_u32 zero = 0;
    struct kfunc_io* io = adp_bpf_map_lookup_elem(&kfunc_io, &zero);
    adp_u32 in_size, out_size;

    if (!io) return 1;
    in_size = io->in_size;
    out_size = io->out_size;
    if (in_size > sizeof(io->in) || out_size > sizeof(io->out)) return 1;
    io->result = bpf_adp_query(io->app_id, io->in, in_size, io->out, out_size);
    return 0;
}

ADP_SEC("tc") int kfunc_tc(struct adp_skb* skb) { return ask(); }

ADP_SEC("xdp") int kfunc_xdp(void* context) {
    /* 2 = XDP_PASS */
    return ask() ? 0 : 2;
}

/* Constant sizes on the stack, as a caller in its own datapath would have them: the app "test" of the test module. */
ADP_SEC("tc") int kfunc_stack(struct adp_skb* skb) {
    adp_u8 in[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    adp_s32 out[2] = {0, 0};
    adp_u32 zero = 0;
    struct kfunc_io* io = adp_bpf_map_lookup_elem(&kfunc_io, &zero);

    if (!io) return 1;
    io->result = bpf_adp_query(io->app_id, in, sizeof(in), out, sizeof(out));
    io->out[0] = out[0];
    io->out[1] = out[1];
    return 0;
}

ADP_SEC("socket") int kfunc_refused(struct adp_skb* skb) { return ask(); }

ADP_BPF_LICENSE("Dual MIT/GPL");
