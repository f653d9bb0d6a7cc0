/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The maps of the select program (bpf/select.bpf.c) that the generated network programs (select_net_bpf.h) or userspace share, and
 * their records.
 */
#ifndef ADAPATH_SELECT_BPF_MAPS_H
#define ADAPATH_SELECT_BPF_MAPS_H

#include "select.h"

/*
 * Renditions by where they come from and go to: a table that userspace fills and packets only read, so that no flood can fill it. Open
 * addressing: an entry is at its key's home or at most ADP_SELECT_PROBES - 1 places behind. An array's lookup is a few instructions,
 * which a BPF hash's is not: 28 ns against 6, of about 50 in all.
 */
#define ADP_SELECT_PORTS_SHIFT 12
#define ADP_SELECT_PORTS (1 << ADP_SELECT_PORTS_SHIFT) /* an eighth full with all cameras */
#define ADP_SELECT_PROBES 8

/*
 * One place. Immutable while `port` is not 0: userspace writes the rest of it before `port`, and takes `port` away and waits for a
 * grace period before it writes to it again.
 */
struct adp_select_port {
	struct adp_address source; /* of the camera */
	adp_u32 port;		   /* UDP, destination; host order; 0 = nothing here */
	adp_u32 camera;		   /* index into adp_select_cameras */
	adp_u8 rendition;
	adp_u8 payload_type; /* of H.264; others pass untouched */
	adp_u16 reach;	     /* of those whose home is here, how far the farthest is; not the entry's own */
	adp_u32 pad;
};
ADP_STATIC_ASSERT(sizeof(struct adp_select_port) == 32, "two a cache line");

ADP_INLINE adp_u32 adp_select_home(const struct adp_address *source, adp_u32 port)
{
	adp_u64 h = ((adp_u64)source->word[0] << 32 | source->word[1]) ^ port;

	h *= 0x9e3779b97f4a7c15ULL;
	h ^= h >> 32;
	h += (adp_u64)source->word[2] << 32 | source->word[3];
	h *= 0xc2b2ae3d27d4eb4fULL;
	return (adp_u32)(h >> (64 - ADP_SELECT_PORTS_SHIFT));
}

ADP_INLINE int adp_select_port_is(const struct adp_select_port *p, const struct adp_address *source, adp_u32 port)
{
	return p->port == port && p->source.word[3] == source->word[3] && p->source.word[2] == source->word[2] &&
	       p->source.word[1] == source->word[1] && p->source.word[0] == source->word[0];
}

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
