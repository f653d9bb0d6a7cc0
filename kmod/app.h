/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Apps: their slots, which of them decides, and the switch. */
#ifndef ADAPATH_KMOD_APP_H
#define ADAPATH_KMOD_APP_H

#include <linux/mutex.h>
#include <linux/netlink.h>

#include "adapath.h"
#include "snapshot.h"

#include <adapath/netlink.h>

struct adp_ring;

#define ADP_MAX_APPS 16
/* Choices of implementation that an app remembers, one a network: measured once, not at each installation. */
#define ADP_CHOICES 8

struct adp_app {
	/* Read by every query. */
	struct adp_snapshot __rcu *active;
	struct adp_snapshot __rcu *canary; /* on trial, for a share of the flows; only beside an active one */
	u32 canary_share_q16;		   /* WRITE_ONCE, before the pointer */
	struct adp_stats __percpu *stats;
	struct adp_ring *ring;
	u32 inputs;
	u32 outputs;
	s32 lowest[ADP_MAX_OUTPUTS];
	s32 highest[ADP_MAX_OUTPUTS];
	u32 consistency; /* enum adp_consistency; READ_ONCE by flows */
	u32 objective[ADP_OBJECTIVES]; /* likewise */

	/* The rest is under adp_lock. */
	u32 id;
	u32 schema;
	u32 record_bytes;
	char name[ADP_APP_NAME_MAX + 1];
	char interface[ADP_APP_NAME_MAX + 1]; /* "" = none */
	struct module *owner;
	struct adp_snapshot *slots[ADP_SLOTS];
	u8 state[ADP_SLOTS]; /* enum adp_slot_state */
	u32 standby;	     /* slot to roll back to, or ADP_SLOT_NONE */
	struct adp_choice choices[ADP_CHOICES];
	u32 next_choice;
};

/* Guards everything that changes by configuration: apps, slots, programs. Never taken on the query path. */
extern struct mutex adp_lock;

/* NULL where the number is free. Under adp_lock, or in an RCU read-side section. */
struct adp_app *adp_app_at(u32 id);
/* 1 to ADP_APP_NAME_MAX of a-z, 0-9, _ */
bool adp_app_name_is_sound(const char *name);
/* Under adp_lock. */
struct adp_app *adp_app_find(const char *name);

/*
 * All under adp_lock; 0 or a negative errno with a reason in extack. install() takes over the caller's reference where it
 * succeeds, and gives the slot.
 */
int adp_app_install(struct adp_app *app, struct adp_snapshot *snapshot, struct netlink_ext_ack *extack);
int adp_app_switch(struct adp_app *app, u32 slot, struct netlink_ext_ack *extack);
int adp_app_rollback(struct adp_app *app, struct netlink_ext_ack *extack);
void adp_app_deactivate(struct adp_app *app);
int adp_app_canary(struct adp_app *app, u32 slot, u32 share_q16, struct netlink_ext_ack *extack);
void adp_app_end_canary(struct adp_app *app);
void adp_app_reclaim(struct adp_app *app);
int adp_app_discard(struct adp_app *app, u32 slot, struct netlink_ext_ack *extack);
void adp_app_clear(struct adp_app *app);
u32 adp_app_in_state(const struct adp_app *app, u32 state); /* the least such slot, or ADP_SLOT_NONE */
/* The snapshot in a slot, or NULL with a reason. */
struct adp_snapshot *adp_app_slot(struct adp_app *app, u32 slot, struct netlink_ext_ack *extack);
void adp_app_sum_stats(const struct adp_app *app, struct adp_stats *sum);

#endif
