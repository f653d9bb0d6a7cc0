/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The little of BPF that a generated program needs, with no header but types.h behind it: generated programs are compiled in
 * a process that has neither libbpf's headers nor a vmlinux.h (whose type information would cost 200 ms a program).
 * Numbers are the kernel's stable UAPI (include/uapi/linux/bpf.h). Programs in bpf/ use vmlinux.h and libbpf instead.
 */
#ifndef ADAPATH_BPF_MIN_H
#define ADAPATH_BPF_MIN_H

#include "types.h"

#define ADP_SEC(name) __attribute__((section(name), used))
#define ADP_BPF_LICENSE(text) char adp_license[] ADP_SEC("license") = text

/*
 * Maps as libbpf reads them from BTF:
 *
 *   struct {
 *           ADP_MAP_UINT(type, ADP_BPF_MAP_ARRAY);
 *           ADP_MAP_UINT(max_entries, 1);
 *           ADP_MAP_TYPE(key, adp_u32);
 *           ADP_MAP_TYPE(value, struct thing);
 *   } things ADP_SEC(".maps");
 */
#define ADP_MAP_UINT(name, val) int(*name)[val]
#define ADP_MAP_TYPE(name, type) __typeof__(type) *name

/* enum bpf_map_type */
#define ADP_BPF_MAP_HASH 1
#define ADP_BPF_MAP_ARRAY 2
#define ADP_BPF_MAP_PROG_ARRAY 3
#define ADP_BPF_MAP_PERCPU_ARRAY 6
#define ADP_BPF_MAP_ARRAY_OF_MAPS 12
#define ADP_BPF_MAP_SK_STORAGE 24
#define ADP_BPF_MAP_RINGBUF 27

/* map_flags */
#define ADP_BPF_F_NO_PREALLOC (1u << 0)
#define ADP_BPF_F_MMAPABLE (1u << 10)

/* bpf_sk_storage_get() flags */
#define ADP_BPF_SK_STORAGE_GET_F_CREATE 1ULL

/* bpf_ringbuf_submit() flags; bpf_ringbuf_query() flags */
#define ADP_BPF_RB_NO_WAKEUP (1ULL << 0)
#define ADP_BPF_RB_FORCE_WAKEUP (1ULL << 1)
#define ADP_BPF_RB_AVAIL_DATA 0ULL

/*
 * The start of struct __sk_buff, the context of tc programs. By that name, whatever the source says, or the verifier would not
 * know it as the context where a global function takes it.
 */
#define adp_skb __sk_buff
struct adp_skb {
	adp_u32 len;
	adp_u32 pkt_type;
	adp_u32 mark;
	adp_u32 queue_mapping;
	adp_u32 protocol;
	adp_u32 vlan_present;
	adp_u32 vlan_tci;
	adp_u32 vlan_proto;
	adp_u32 priority;
	adp_u32 ingress_ifindex;
	adp_u32 ifindex;
	adp_u32 tc_index;
	adp_u32 cb[5];
	adp_u32 hash;
	adp_u32 tc_classid;
	adp_u32 data;
	adp_u32 data_end;
};

/* In a map's value, by this name, which the kernel looks for. No helper may be called while it is held. */
struct bpf_spin_lock {
	adp_u32 val;
};

/*
 * Helpers are calls to a number. A pointer that the compiler knows to be constant becomes exactly that call; `const` and
 * `static` keep it from becoming data.
 */
#define ADP_BPF_HELPER __attribute__((unused)) static
ADP_BPF_HELPER void *(*const adp_bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
ADP_BPF_HELPER long (*const adp_bpf_map_update_elem)(void *map, const void *key, const void *value, adp_u64 flags) = (void *)2;
ADP_BPF_HELPER adp_u64 (*const adp_bpf_ktime_get_ns)(void) = (void *)5;
ADP_BPF_HELPER adp_u32 (*const adp_bpf_get_prandom_u32)(void) = (void *)7;
/* Does not return where the tail call succeeds. */
ADP_BPF_HELPER long (*const adp_bpf_tail_call)(void *ctx, void *prog_array, adp_u32 index) = (void *)12;
/* Makes so many bytes readable through data and data_end; pointers into the packet from before are void. */
ADP_BPF_HELPER long (*const adp_bpf_skb_pull_data)(struct adp_skb *skb, adp_u32 bytes) = (void *)39;
ADP_BPF_HELPER void (*const adp_bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)93;
ADP_BPF_HELPER void (*const adp_bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)94;
ADP_BPF_HELPER void *(*const adp_bpf_sk_storage_get)(void *map, void *sk, void *value, adp_u64 flags) = (void *)107;
ADP_BPF_HELPER void *(*const adp_bpf_ringbuf_reserve)(void *ringbuf, adp_u64 size, adp_u64 flags) = (void *)131;
ADP_BPF_HELPER void (*const adp_bpf_ringbuf_submit)(void *data, adp_u64 flags) = (void *)132;
ADP_BPF_HELPER adp_u64 (*const adp_bpf_ringbuf_query)(void *ringbuf, adp_u64 flags) = (void *)134;
ADP_BPF_HELPER void (*const adp_bpf_ringbuf_discard)(void *data, adp_u64 flags) = (void *)133;
/* CLOCK_MONOTONIC as of the last tick: some milliseconds old, for a tenth of the time that the exact one takes. */
ADP_BPF_HELPER adp_u64 (*const adp_bpf_ktime_get_coarse_ns)(void) = (void *)160;

/* Verdicts of tc programs. */
#define ADP_TC_ACT_UNSPEC (-1)
#define ADP_TC_ACT_OK 0
#define ADP_TC_ACT_SHOT 2

#endif
