/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What kernel and userspace share about slots: the only definition. No app is named here; an app's own records are in its
 * header (cc.h). Every multi-byte field is in the machine's byte order: these records never leave the machine, and what
 * does leave it goes through Protobuf.
 */
#ifndef ADAPATH_ABI_H
#define ADAPATH_ABI_H

#include "types.h"

#define ADP_ABI_VERSION 2

/* Slots per app. One active, one standby, the rest free or draining: enough that 20 switches a second never wait. */
#define ADP_SLOTS 8
/* Weights of what an app is to aim for; each app's header says what they mean. 0 in all of them: the app's defaults. */
#define ADP_OBJECTIVES 4
#define ADP_OBJECTIVE_MAX_Q16 (1U << 24) /* 256: what products of them are reckoned with */
/* adp_control.active when there is no valid snapshot: the app's fallback decides. */
#define ADP_SLOT_NONE 0xffffffffU
/* Bytes of packed parameters that a slot can hold. Larger networks are refused by codegen. */
#define ADP_PARAMS_BYTES (64 * 1024 - 64)
/* Bounds on a network that may be installed. */
#define ADP_MAX_LAYERS 8
#define ADP_MAX_WIDTH 256
#define ADP_MAX_OUTPUTS 4

/* One per app. Mapped by the daemon; the kernel side only reads it. */
struct adp_control {
	/*
	 * The slot that decides now, or ADP_SLOT_NONE. One aligned 32-bit store by userspace is the switch; it is a release
	 * store that pairs with the kernel side's single load per decision (an address dependency orders the slot's contents).
	 */
	adp_u32 active;
	adp_u32 abi_version;
	/* Bytes that wait in the sample ring before its reader is woken early (fill mark). 0 = only by interval. */
	adp_u32 wakeup_bytes;
	/* 1: a flow keeps the snapshot it began with. For the daemon that adopts; the program has it as a constant. */
	adp_u32 flow_consistency;
	/* The app's schema (ADP_CC_SCHEMA) that the kernel side was built with. */
	adp_u32 schema;
	/*
	 * The slot on trial, or ADP_SLOT_NONE: it decides for a share of the flows, the active one for the others, so that both are
	 * judged on the same link at the same time. The share is written before the slot (release); reading it late or early only
	 * moves a flow's decision to the one or the other of two valid snapshots.
	 */
	adp_u32 canary;
	adp_u32 canary_share_q16; /* of all flows, by adp_flow_in_share() */
	/* Q16, enum adp_<app>_weight. Each word is read by itself: a decision may see the old value of one and the new of another. */
	adp_u32 objective[ADP_OBJECTIVES];
	adp_u32 pad[5];
};

/* Parameters of one snapshot. Written only while no reader can hold the slot; immutable from the switch until drained. */
struct adp_slot {
	adp_u32 generation;   /* of the installed snapshot, from 1; 0 = empty */
	adp_u32 params_bytes; /* used part of params */
	adp_u32 explore_q16;  /* standard deviation of the exploration noise, Q16 in units of the action; 0 = off */
	adp_u32 pad;
	adp_u64 hash;         /* first 8 bytes of the snapshot's content hash, for humans and checks */
	/* Flows bound to this slot, where the app's consistency is `flow`. Changed atomically by the kernel side. */
	adp_u64 bound;
	adp_u64 reserved[4];
	adp_u8 params[ADP_PARAMS_BYTES] __attribute__((aligned(64)));
};

/*
 * Does the flow of this number belong to a share of all flows? Numbers are given out one by one, so their multiples of the golden
 * ratio spread evenly (Weyl's sequence): of any few flows in a row just about the share is in.
 */
ADP_INLINE int adp_flow_in_share(adp_u64 flow, adp_u32 share_q16)
{
	return (flow * 0x9e3779b97f4a7c15ULL >> 48) < share_q16;
}

ADP_STATIC_ASSERT(sizeof(struct adp_control) == 64, "one cache line");
ADP_STATIC_ASSERT(sizeof(struct adp_slot) == 64 * 1024, "whole pages, so that slots can be mapped");

/* Counters, one set per CPU; monotonic. */
struct adp_stats {
	adp_u64 decisions;       /* made by a snapshot */
	adp_u64 fallbacks;       /* intervals decided by the fallback, no snapshot being active */
	adp_u64 program_missing; /* active slot without a program: the fallback decided; never in sound operation */
	adp_u64 samples;         /* put into the ring */
	adp_u64 samples_lost;    /* the ring was full */
	adp_u64 flows_opened;
	adp_u64 flows_closed;
	adp_u64 acks;
};

#endif
