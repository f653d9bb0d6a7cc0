/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The sample ring of adapath.ko, as its reader maps it from /dev/adapath/<app>: one ring a CPU, so that writers share nothing.
 *
 * Two mappings: at offset 0, writable, struct adp_ring_tails (ADP_RING_TAILS_BYTES long); at offset ADP_RING_DATA_OFFSET,
 * read-only, struct adp_ring_info followed by the CPUs' rings. Map the first ADP_RING_INFO_BYTES of the second to learn its whole
 * length (info.map_bytes), then all of it. One reader at a time (a second open() is -EBUSY). poll() says readable when a CPU's
 * ring is filled to the app's fill mark; a reader that comes by itself once an interval needs no poll() at all.
 *
 * A record is ADP_RING_HEADER_BYTES (its adp_u64 number, from 1) and then the app's sample. Numbers are given out over all
 * CPUs, and where one socket's samples are concerned in their order; so a reader that wants the oldest first
 *
 *   1. loads info.last (acquire): G
 *   2. loads every CPU's head (acquire)
 *   3. merges by number, and leaves those above G for the next time
 *   4. stores every tail (release), which pairs with the writer's load before it writes over the record
 *
 * since whatever one flow wrote before a record numbered <= G was complete before G was read.
 */
#ifndef ADAPATH_RING_H
#define ADAPATH_RING_H

#include "types.h"

#define ADP_RING_MAX_CPUS 512
#define ADP_RING_TAILS_BYTES (ADP_RING_MAX_CPUS * 8)
#define ADP_RING_DATA_OFFSET (1 << 20)
#define ADP_RING_INFO_BYTES 65536 /* whole pages: info and heads */
#define ADP_RING_HEADER_BYTES 8

/* Written by the reader only; the kernel trusts none of it: a wrong tail loses samples, nothing else. Records read so far. */
struct adp_ring_tails {
	adp_u64 tail[ADP_RING_MAX_CPUS];
};

/* Written by the kernel only, each CPU its own; a cache line each. */
struct adp_ring_head {
	adp_u64 head; /* records written so far; release, after the record */
	adp_u64 lost; /* for want of room */
	adp_u64 pad[6];
};

struct adp_ring_info {
	adp_u32 version;      /* ADP_ABI_VERSION */
	adp_u32 cpus;	      /* rings; not every one need ever be written */
	adp_u32 record_bytes; /* of a sample, without the number before it */
	adp_u32 stride;	      /* bytes from one record to the next */
	adp_u32 records;      /* a ring holds; a power of two */
	adp_u32 cpu_bytes;    /* bytes from one CPU's ring to the next */
	adp_u64 map_bytes;    /* of the whole read-only mapping: ADP_RING_INFO_BYTES + cpus * cpu_bytes */
	adp_u64 pad[4];
	adp_u64 last; /* number of the newest record; on a cache line of its own */
	adp_u64 pad2[7];
	struct adp_ring_head heads[ADP_RING_MAX_CPUS];
};

ADP_STATIC_ASSERT(sizeof(struct adp_ring_head) == 64, "a cache line each");
ADP_STATIC_ASSERT(sizeof(struct adp_ring_info) <= ADP_RING_INFO_BYTES, "info and heads fit before the rings");

#endif
