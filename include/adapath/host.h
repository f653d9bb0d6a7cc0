/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Backend `host`: one shared memory file through which adapathd gives snapshots to processes that run them, and through which
 * they give their samples back. Both sides map it; nothing in it is a pointer.
 *
 *   struct adp_host_head        what this file is, then the control that the daemon switches by; one page
 *   struct adp_host_slot[8]     parameters, and the network that they are for        } only the daemon writes up to here
 *   struct adp_host_shared      what readers share; then struct adp_host_reader[64], one for each thread that decides
 *   rings                       ADP_HOST_RING records for each reader
 *
 * Whose an entry of the readers' table is, a lock says: its reader holds an open-file-description lock (F_OFD_SETLK) on the byte
 * ADP_HOST_LOCKS + 1 + its number of the file, which the kernel lets go when the reader ends, in whatever way, and not before the
 * reader's memory is gone. So a dead reader is known for certain, even where its pid was given out again, or means nothing here
 * (containers). The daemon holds the byte ADP_HOST_LOCKS.
 *
 * A slot is reused only when nobody can still read it. A reader publishes what it holds (a hazard pointer):
 *
 *   reader                                          daemon, after a switch
 *     s = active (acquire)                            active = t (release)
 *     held = s + 1 (relaxed)                          fence (seq_cst)
 *     fence (seq_cst)                                 for each reader: held == s + 1? (acquire)
 *     active == s still? (acquire) else again         no: the slot may be written to
 *     ... reads the slot ...
 *     held = 0 (release)
 *
 * Of two seq_cst fences one comes first: either the reader's second look sees the switch, or the daemon sees what is held. The
 * release of `held` pairs with the daemon's acquire: the reads are over before the slot is written. The release of `active` pairs
 * with the reader's acquire loads: whoever sees the index sees the slot's contents.
 */
#ifndef ADAPATH_HOST_H
#define ADAPATH_HOST_H

#include "abi.h"

#define ADP_HOST_VERSION 1
#define ADP_HOST_READERS 64
#define ADP_HOST_RING 256 /* records a reader; a power of two */
#define ADP_HOST_NETWORK_BYTES (4096 - 64)
#define ADP_HOST_LOCKS (1U << 30) /* beyond the file's end, where locks may be */

struct adp_host_head {
	adp_u8 magic[8]; /* "ADAPHOST" */
	adp_u32 version; /* ADP_HOST_VERSION */
	adp_u32 abi_version;
	adp_u64 bytes; /* of the whole file */
	adp_u32 record_bytes;
	adp_u32 schema;
	adp_u8 app[16]; /* "qp", filled up with 0 */
	adp_u32 pad[4];
	struct adp_control control;
	adp_u8 rest[4096 - 128];
};

struct adp_host_slot {
	struct adp_slot slot;
	/* The daemon's own: what it holds this slot for, so that the next daemon knows. enum SlotState. */
	adp_u32 state;
	adp_u32 prepared;      /* installed, never switched to */
	adp_u32 network_bytes; /* used part of network */
	adp_u32 pad[13];
	adp_u8 network[ADP_HOST_NETWORK_BYTES]; /* the image network, serialised (codegen/proto/snapshot.proto) */
};

struct adp_host_shared {
	adp_u64 flows; /* numbers given out so far */
	adp_u64 pad[7];
};

/* Written by its reader, but for `tail`. What counts goes on with the entry's next reader. */
struct adp_host_reader {
	adp_u32 live; /* an entry with this set and no lock on it is a dead reader's */
	adp_u32 held; /* slot + 1; 0: none */
	adp_u32 pid;  /* for people */
	adp_u32 camera;
	adp_u64 flow;
	adp_u64 died; /* readers that ended without saying so; by whoever had the lock next */
	adp_u64 pad0[4];

	adp_u64 head; /* records put into the ring so far (release, after the record) */
	adp_u64 lost; /* the ring was full */
	adp_u64 decisions;
	adp_u64 fallbacks;
	adp_u64 program_missing;
	adp_u64 opened;
	adp_u64 closed;
	adp_u64 pad1;

	adp_u64 tail; /* records taken so far: the daemon's (release, after the copy) */
	adp_u64 pad2[7];
};

ADP_STATIC_ASSERT(sizeof(struct adp_host_head) == 4096, "a page");
ADP_STATIC_ASSERT(sizeof(struct adp_host_slot) == 17 * 4096, "whole pages");
ADP_STATIC_ASSERT(sizeof(struct adp_host_reader) == 192, "three cache lines: who writes what");

/* Where readers begin, which both sides write, and how large a file is. */
#define ADP_HOST_SHARED_AT (sizeof(struct adp_host_head) + ADP_SLOTS * sizeof(struct adp_host_slot))
#define ADP_HOST_RINGS_AT \
	(ADP_HOST_SHARED_AT + sizeof(struct adp_host_shared) + ADP_HOST_READERS * sizeof(struct adp_host_reader))
#define ADP_HOST_FILE_BYTES(record_bytes) \
	((ADP_HOST_RINGS_AT + (adp_u64)ADP_HOST_READERS * ADP_HOST_RING * (record_bytes) + 4095) / 4096 * 4096)

#endif
