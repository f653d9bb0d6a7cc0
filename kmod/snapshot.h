/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* A snapshot in the kernel: parameters that passed the check, and how its network is run here. Immutable but for explore_q16. */
#ifndef ADAPATH_KMOD_SNAPSHOT_H
#define ADAPATH_KMOD_SNAPSHOT_H

#include <linux/atomic.h>
#include <linux/refcount.h>
#include <linux/workqueue.h>

#include "adapath.h"

#include <adapath/netlink.h>

struct adp_snapshot {
	/* Read by every query. */
	struct adp_layout layout;
	const u8 *params;		   /* 64-byte aligned */
	const void *simd;		   /* the same for SIMD (simd.h), or NULL */
	const struct adp_program *program; /* generated; NULL: generic. Its module is held. */
	u32 chosen;			   /* enum adp_implementation */
	u32 slot;
	u32 generation;
	u32 explore_q16; /* WRITE_ONCE by configuration */

	refcount_t references; /* the slot table's one, and one of each bound flow and of each run by command */
	atomic_t bound;	       /* flows */
	u64 hash;
	u64 program_hash;
	u64 picoseconds[ADP_RUN_COUNT_]; /* of one run when the choice was made; 0 = can't run here */
	struct rcu_work free_work;
};

/* How networks of one shape run best on this machine. */
struct adp_choice {
	u32 layers; /* 0 = empty entry */
	bool generated;
	u32 chosen;
	struct adp_layer_shape shape[ADP_MAX_LAYERS];
	u64 picoseconds[ADP_RUN_COUNT_];
};

/*
 * Takes params over (kvmalloc'ed, checked against the layout) where it succeeds. The generated program is looked up by
 * program_hash and shapes. Under adp_lock. ERR_PTR(-ENOMEM).
 */
struct adp_snapshot *adp_snapshot_create(const struct adp_layout *layout, const u8 *params, u64 program_hash);
/* Any context but NMI; the last one frees, after a grace period. */
void adp_snapshot_put(struct adp_snapshot *snapshot);
/* Decides how the snapshot is run, by measuring or from `remembered`; remembered is filled in where it was measured. */
void adp_snapshot_choose(struct adp_snapshot *snapshot, struct adp_choice *remembered);
bool adp_choice_fits(const struct adp_choice *choice, const struct adp_snapshot *snapshot);

bool adp_snapshot_can(const struct adp_snapshot *snapshot, u32 implementation);
/* One run, any context but NMI. SIMD falls back to scalar code where the FPU may not be used. */
void adp_snapshot_run(const struct adp_snapshot *snapshot, u32 implementation, const u8 *in, s32 *out);

int adp_snapshots_init(void);
void adp_snapshots_exit(void); /* waits until all are freed */

#endif
