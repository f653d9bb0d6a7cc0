/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The app select: how a packet finds the camera and rendition that it is of. */
#ifndef ADAPATH_SELECT_PORTS_H
#define ADAPATH_SELECT_PORTS_H

#include "select.h"

/*
 * Renditions by where they come from and go to: a table that configuration fills and packets only read, so that no flood can fill it.
 * Open addressing: an entry is at its key's home or at most ADP_SELECT_PROBES - 1 places behind. An array's lookup is a few
 * instructions, which a BPF hash's is not: 28 ns against 6, of about 50 in all.
 */
#define ADP_SELECT_PORTS_SHIFT 12
#define ADP_SELECT_PORTS (1 << ADP_SELECT_PORTS_SHIFT) /* an eighth full with all cameras */
#define ADP_SELECT_PROBES 8

/*
 * One place. Immutable while `port` is not 0: in the BPF map userspace writes the rest of it before `port`, and takes `port` away and
 * waits for a grace period before it writes to it again; the kernel module makes a new table.
 */
struct adp_select_port {
	struct adp_address source; /* of the camera */
	adp_u32 port;		   /* UDP, destination; host order; 0 = nothing here */
	adp_u32 camera;		   /* the camera's place */
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

#endif
