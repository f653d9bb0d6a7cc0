/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * adapath.ko for other kernel modules: register an app, ask its snapshot, bind flows to it, deliver samples; register the
 * program of a network.
 *
 * Contexts. adp_query(), adp_query_bound(), adp_bind(), adp_unbind(), adp_ready(), adp_objective() and adp_emit() may be called
 * in process context, softirq and hard interrupts, with or without locks; they never sleep, allocate, take a lock or print. Not
 * from an NMI: they warn once and refuse. Everything else may sleep: process context only.
 *
 * Lifetime. A struct adp_app is valid from adp_app_register() to the start of adp_app_unregister(), and for other modules from
 * adp_app_get() to adp_app_put(). A snapshot that a flow is bound to stays valid until adp_unbind(), switch or not.
 *
 * Stack: a query takes at most ADP_QUERY_STACK bytes of it.
 */
#ifndef ADAPATH_KMOD_ADAPATH_H
#define ADAPATH_KMOD_ADAPATH_H

#include <linux/atomic.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/types.h>

#include <adapath/abi.h>
#include <adapath/layout.h>

#define ADP_APP_NAME_MAX 15
#define ADP_QUERY_STACK 2048

/* In the app's module: lets the core load it when userspace asks for the app. */
#define MODULE_ALIAS_ADAPATH_APP(name) MODULE_ALIAS("adapath-app-" name)

struct adp_app;
struct adp_snapshot;

/* What an app is. Copied by adp_app_register(). */
struct adp_app_desc {
	const char *name;      /* "cc": 1 to ADP_APP_NAME_MAX of a-z, 0-9, _ */
	const char *interface; /* how the datapath asks for it (a congestion control's name), or NULL */
	u32 schema;	       /* of its features: a snapshot made for another one is refused */
	u32 inputs;	       /* codes, 1..ADP_MAX_WIDTH */
	u32 outputs;	       /* 1..ADP_MAX_OUTPUTS */
	/* Safe range of each output, Q16: what a query returns is clamped to it, whatever the network says. */
	s32 lowest[ADP_MAX_OUTPUTS];
	s32 highest[ADP_MAX_OUTPUTS];
	u32 record_bytes; /* of one sample: a multiple of 8, at most 1024 */
	u32 ring_records; /* of one CPU's sample ring: a power of two, at most 65536 */
	u32 wakeup_bytes; /* fill mark of a ring until userspace sets another; 0 = none */
	struct module *owner;
};

/* What a query says besides the outputs: everything that a sample needs to be explained. */
struct adp_decision {
	u32 slot;
	u32 generation;
	u32 explore_q16;	   /* standard deviation of the exploration noise to add, Q16 */
	s32 raw[ADP_MAX_OUTPUTS]; /* as the network said, Q16, before the safe range */
};

/*
 * Both register or unregister a misc device, and so take misc_mtx: not under a lock that the open() of a misc device of yours takes.
 * ERR_PTR(-EEXIST) where the name is taken, -EINVAL for a description out of range, -ENOSPC for more than 16 apps,
 * -ENOMEM.
 */
struct adp_app *adp_app_register(const struct adp_app_desc *desc);
/* Every flow must have been unbound, and no query may be running or begin. Frees the slots; waits for what is in flight. */
void adp_app_unregister(struct adp_app *app);

/* Another module's app, for asking; holds its module. ERR_PTR(-ENOENT). */
struct adp_app *adp_app_get(const char *name);
void adp_app_put(struct adp_app *app);

/* Is there a snapshot that decides? A hint: the answer may be old when it arrives. */
bool adp_ready(const struct adp_app *app);

/*
 * Runs the active snapshot; or, while one is on trial and the flow is among its share, that one. flow: the flow's number, given out
 * one by one from 1, so that just about the share of them is in it; 0 = of no flow, and always the active snapshot. in: desc.inputs
 * codes; out: desc.outputs numbers in Q16, clamped to the safe range. d may not be NULL. 0; -ENODATA where no snapshot is
 * active (the app's fallback decides); -EOPNOTSUPP in an NMI.
 */
int adp_query(struct adp_app *app, u64 flow, const u8 *in, s32 *out, struct adp_decision *d);

/*
 * What the operator wants the app to aim for: weight `index` (0..ADP_OBJECTIVES - 1), Q16, at most ADP_OBJECTIVE_MAX_Q16; what
 * it means is the app's to say. All are 0 until one is set. Each is read by itself: of a change, one may be seen without the other.
 */
u32 adp_objective(const struct adp_app *app, u32 index);

/*
 * For the consistency `flow`: the active snapshot for as long as the flow likes, or NULL where none is active; never one on
 * trial, which a flow could not be given back by. Whether the operator asked for that consistency is adp_flow_consistency().
 */
bool adp_flow_consistency(const struct adp_app *app);
struct adp_snapshot *adp_bind(struct adp_app *app);
void adp_unbind(struct adp_snapshot *snapshot);
int adp_query_bound(struct adp_app *app, struct adp_snapshot *snapshot, const u8 *in, s32 *out, struct adp_decision *d);

/* Puts one sample (desc.record_bytes) into this CPU's ring; counts it as a sample, or as lost where the ring is full. */
void adp_emit(struct adp_app *app, const void *record);

/* The app's counters: this_cpu_inc(adp_stats(app)->decisions). Queries and emits count by themselves what is theirs. */
struct adp_stats __percpu *adp_stats(struct adp_app *app);

/*
 * The program of one network, from a generated module (net_module.h). forward() has the module's own shapes compiled in and may
 * be called in any context but an NMI; its frame is at most ADP_QUERY_STACK less what the core needs. The core holds the module
 * while a snapshot uses it.
 */
struct adp_program {
	u64 hash; /* first 8 bytes of the program hash, big-endian as printed */
	u32 generator_version; /* ADP_GENERATOR_VERSION that it was made by; another one is refused */
	const struct adp_layer_shape *shape;
	u32 layers;
	void (*forward)(const u8 *params, const u8 *in, s32 *out);
	struct module *owner;
	struct list_head node; /* the core's */
	atomic_t users;	       /* the core's: snapshots that run it */
};

/* -EEXIST for a hash that is registered, -EINVAL for shapes that no network may have, or another generator's program. */
int adp_program_register(struct adp_program *program);
void adp_program_unregister(struct adp_program *program);

#endif
