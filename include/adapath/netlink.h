/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The generic netlink family "adapath": how userspace installs snapshots into adapath.ko and switches between them. The only
 * definition of its numbers; docs/netlink.md and docs/adapath-netlink.yaml describe the same for humans and tools.
 *
 * The family lives in the initial network namespace. Every command but the two GETs needs CAP_NET_ADMIN there. Errors come as
 * extended acknowledgements: an errno, the offending attribute where there is one, and a message that says what is wrong.
 * Attributes are in the machine's byte order.
 */
#ifndef ADAPATH_NETLINK_H
#define ADAPATH_NETLINK_H

#define ADP_GENL_NAME "adapath"
#define ADP_GENL_VERSION 1

/* What each takes and replies; all but GET_PROGRAMS take ADP_A_APP. */
enum adp_command {
	ADP_CMD_UNSPEC,
	/* (app; without it, as a dump, every app) -> one message an app: its shapes, slots, counters, ring */
	ADP_CMD_GET_APP,
	/* dump: the programs that generated modules have registered -> PROGRAM_HASH, NAME, LAYERS, USERS */
	ADP_CMD_GET_PROGRAMS,
	/* generation, hash, program_hash, schema, layers, params, explore -> SLOT. Decides nothing yet. Asks for the module
	 * adapath_net_<program hash> where that program is not registered; without it the generic program serves. */
	ADP_CMD_INSTALL,
	/* slot -> nothing. The slot that was active becomes standby, the old standby drains. */
	ADP_CMD_SWITCH,
	/* a switch to standby */
	ADP_CMD_ROLLBACK,
	/* no snapshot decides: the app's fallback does. The slot that was active becomes standby. */
	ADP_CMD_DEACTIVATE,
	/* frees draining slots that no flow is bound to any more */
	ADP_CMD_RECLAIM,
	/* slot -> frees it: it must be neither active, nor on trial, nor standby by a switch (an installed one that failed its check) */
	ADP_CMD_DISCARD,
	/* slot, explore */
	ADP_CMD_SET_EXPLORE,
	/* wakeup_bytes, consistency, objective: how the app behaves from now on */
	ADP_CMD_CONFIGURE,
	/* deactivates and frees every slot, for unloading modules */
	ADP_CMD_CLEAR,
	/* slot, inputs (n * the app's inputs bytes), optional implementation, optional repeat -> outputs (n * outputs s32),
	 * ELAPSED_NS, IMPLEMENTATION: really runs that slot's snapshot, as a decision would. At most ADP_RUN_MAX_INPUTS. */
	ADP_CMD_RUN,
	/* slot (ready), share -> nothing. A trial: the slot decides for that share of the flows (adp_flow_in_share()), the active one
	 * for the others. Again with the same slot: another share. Ended by the next command, or by any change of what is
	 * active; a switch to the slot itself is its promotion. */
	ADP_CMD_CANARY,
	/* ends the trial, if there is one: the slot drains */
	ADP_CMD_END_CANARY,
	ADP_CMD_COUNT_
};
#define ADP_CMD_MAX (ADP_CMD_COUNT_ - 1)

enum adp_attribute {
	ADP_A_UNSPEC,
	ADP_A_PAD,
	ADP_A_APP,	      /* string: "cc" */
	ADP_A_SLOT,	      /* u32, 0..ADP_SLOTS - 1 */
	ADP_A_GENERATION,     /* u32, from 1 */
	ADP_A_HASH,	      /* u64: first 8 bytes of the content hash, big-endian as printed */
	ADP_A_PROGRAM_HASH,   /* u64: likewise of the program's */
	ADP_A_EXPLORE,	      /* u32, Q16: 0..65536 */
	ADP_A_SCHEMA,	      /* u32: the app's feature schema */
	ADP_A_LAYERS,	      /* nest of ADP_A_LAYER */
	ADP_A_LAYER,	      /* nest: ADP_A_INPUTS, ADP_A_OUTPUTS, ADP_A_ACTIVATION */
	ADP_A_INPUTS,	      /* u32 */
	ADP_A_OUTPUTS,	      /* u32 */
	ADP_A_ACTIVATION,     /* u32: enum adp_activation */
	ADP_A_PARAMS,	      /* binary: packed parameters (net.h), at most ADP_PARAMS_BYTES */
	ADP_A_IMPLEMENTATION, /* u32: enum adp_implementation */
	ADP_A_IMPLEMENTATIONS, /* nest of ADP_A_MEASURED: what could run here and what it cost when the choice was made */
	ADP_A_MEASURED,	      /* nest: ADP_A_IMPLEMENTATION, ADP_A_PICOSECONDS */
	ADP_A_PICOSECONDS,    /* u64: of one run, SIMD's state saving included */
	ADP_A_SLOTS,	      /* nest of ADP_A_SLOT_INFO, one a slot that is not free */
	ADP_A_SLOT_INFO,      /* nest: SLOT, STATE, GENERATION, HASH, PROGRAM_HASH, EXPLORE, BOUND, PARAMS_BYTES, IMPLEMENTATION(S), LAYERS */
	ADP_A_STATE,	      /* u32: enum adp_slot_state */
	ADP_A_BOUND,	      /* u64: flows bound to the slot */
	ADP_A_PARAMS_BYTES,   /* u32 */
	ADP_A_ACTIVE,	      /* u32: slot, or ADP_SLOT_NONE */
	ADP_A_STANDBY,	      /* u32: slot to roll back to, or ADP_SLOT_NONE */
	ADP_A_STATS,	      /* binary: struct adp_stats (abi.h), summed over the CPUs; may grow at its end */
	ADP_A_RECORD_BYTES,   /* u32: one sample */
	ADP_A_DEVICE,	      /* string: the sample ring's device below /dev: "adapath/cc" */
	ADP_A_INTERFACE,      /* string: how the datapath asks for the app: a congestion control's name; absent without one */
	ADP_A_WAKEUP_BYTES,   /* u32: fill mark of the ring, 0 = none */
	ADP_A_CONSISTENCY,    /* u32: enum adp_consistency */
	ADP_A_RUN_INPUTS,     /* binary */
	ADP_A_RUN_OUTPUTS,    /* binary: s32 each, raw */
	ADP_A_REPEAT,	      /* u32: times that the inputs are run, 1 without it */
	ADP_A_ELAPSED_NS,     /* u64: for all of them */
	ADP_A_NAME,	      /* string: a module's name */
	ADP_A_USERS,	      /* u32: snapshots that run a program */
	ADP_A_ABI_VERSION,    /* u32: ADP_ABI_VERSION that the module was built with */
	ADP_A_ID,	      /* u32: the app's number while it is registered, for bpf_adp_query() */
	ADP_A_OBJECTIVE,      /* binary: ADP_OBJECTIVES u32, Q16, each at most ADP_OBJECTIVE_MAX_Q16; all 0 = the app's defaults */
	ADP_A_CANARY,	      /* u32: slot on trial, or ADP_SLOT_NONE */
	ADP_A_SHARE,	      /* u32, Q16: 1..65536, of all flows */
	ADP_A_COUNT_
};
#define ADP_A_MAX (ADP_A_COUNT_ - 1)

enum adp_slot_state {
	ADP_SLOT_FREE = 0,
	ADP_SLOT_READY = 1, /* installed, never switched to */
	ADP_SLOT_ACTIVE = 2,
	ADP_SLOT_STANDBY = 3,
	ADP_SLOT_DRAINING = 4,
	ADP_SLOT_CANARY = 5, /* on trial: decides for a share of the flows */
};

enum adp_consistency {
	ADP_CONSISTENT_DECISION = 0, /* the newest snapshot at each decision */
	ADP_CONSISTENT_FLOW = 1,     /* a flow keeps the snapshot that it began with */
};

/* How a snapshot's network is run. All give the same bits. */
enum adp_implementation {
	ADP_RUN_CHOSEN = 0,    /* in a request: the one that decides */
	ADP_RUN_GENERIC = 1,   /* the core's own loops over any dense network */
	ADP_RUN_GENERATED = 2, /* adapath_net_<hash>.ko */
	ADP_RUN_AVX2 = 3,
	ADP_RUN_VNNI = 4,      /* AVX-512 VNNI */
	ADP_RUN_COUNT_
};

#define ADP_RUN_MAX_INPUTS 256	/* vectors a request */
#define ADP_RUN_MAX_REPEAT 100000 /* runs a request: vectors times ADP_A_REPEAT */

#endif
