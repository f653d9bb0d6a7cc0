/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The maps of the select program (bpf/select.bpf.c) that the generated network programs (select_net_bpf.h) or userspace share, and
 * their records.
 */
#ifndef ADAPATH_SELECT_BPF_MAPS_H
#define ADAPATH_SELECT_BPF_MAPS_H

#include "select_ports.h"

#ifdef __bpf__ /* userspace needs only the records */
#include "bpf_min.h"
#endif

struct adp_select_entry {
#ifdef __bpf__
	struct bpf_spin_lock lock; /* in the record itself: the kernel looks for it by its type */
#else
	adp_u32 lock; /* never seen: the kernel copies around it */
#endif
	adp_u32 pad;
	struct adp_select_camera camera;
};

#ifdef __bpf__

/*
 * Fixed places, one a camera, so that nothing can evict one. Main and sub stream may come on different CPUs, so packets
 * take the lock. A decision passes its features and outputs through here too: which other CPU could decide for the camera sees
 * deciding_us and leaves them alone.
 */
struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_ARRAY);
	ADP_MAP_UINT(max_entries, ADP_SELECT_CAMERAS);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, struct adp_select_entry);
} adp_select_cameras ADP_SEC(".maps");

/* Written by the daemon through its mapping, slot by slot; see abi.h for who may touch what and when. */
struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_ARRAY);
	ADP_MAP_UINT(map_flags, ADP_BPF_F_MMAPABLE);
	ADP_MAP_UINT(max_entries, ADP_SLOTS);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, struct adp_slot);
} adp_select_slots ADP_SEC(".maps");

/* One entry: the program that applies a decision; every network program ends in a tail call to it. */
struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_PROG_ARRAY);
	ADP_MAP_UINT(max_entries, 1);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, adp_u32);
} adp_select_finish ADP_SEC(".maps");

/* Words of skb->cb that the programs of one decision pass on. */
#define ADP_SELECT_CB_CAMERA 0
#define ADP_SELECT_CB_BYTES 1

#endif

#endif
