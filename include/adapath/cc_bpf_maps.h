/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The maps that the cc program (bpf/cc.bpf.c) and the generated network programs (cc_net_bpf.h) have in common. A generated
 * program is loaded with these replaced by the running cc program's own maps, by name.
 */
#ifndef ADAPATH_CC_BPF_MAPS_H
#define ADAPATH_CC_BPF_MAPS_H

#include "bpf_min.h"
#include "cc.h"

/* Per flow. Decisions pass their features and outputs through it, not through per-CPU scratch: cong_control() also runs in
 * process context (the socket's backlog), where a softirq on the same CPU may decide for another flow in between. The
 * socket's lock makes this one ours alone. */
struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_SK_STORAGE);
	ADP_MAP_UINT(map_flags, ADP_BPF_F_NO_PREALLOC);
	ADP_MAP_TYPE(key, int);
	ADP_MAP_TYPE(value, struct adp_cc_flow);
} adp_cc_flows ADP_SEC(".maps");

/* Written by the daemon through its mapping, slot by slot; see abi.h for who may touch what and when. */
struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_ARRAY);
	ADP_MAP_UINT(map_flags, ADP_BPF_F_MMAPABLE);
	ADP_MAP_UINT(max_entries, ADP_SLOTS);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, struct adp_slot);
} adp_cc_slots ADP_SEC(".maps");

/* One entry: the program that applies a decision; every network program ends in a tail call to it. */
struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_PROG_ARRAY);
	ADP_MAP_UINT(max_entries, 1);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, adp_u32);
} adp_cc_finish ADP_SEC(".maps");

#endif
