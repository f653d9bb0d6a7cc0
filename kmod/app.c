// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See app.h; the query path is at the end. */
#include <linux/err.h>
#include <linux/hardirq.h>
#include <linux/minmax.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "app.h"
#include "compat.h"
#include "ring.h"

DEFINE_MUTEX(adp_lock);
static struct adp_app __rcu *apps[ADP_MAX_APPS];
/*
 * One app comes or goes at a time, with its device: a name is free when both are gone. Outside adp_lock, since registering a
 * device takes a mutex that is also held when the ring is opened.
 */
static DEFINE_MUTEX(registration_lock);

struct adp_app *adp_app_at(u32 id)
{
	if (id >= ADP_MAX_APPS)
		return NULL;
	return rcu_dereference_check(apps[id], lockdep_is_held(&adp_lock));
}

struct adp_app *adp_app_find(const char *name)
{
	u32 id;

	for (id = 0; id < ADP_MAX_APPS; id++) {
		struct adp_app *app = rcu_dereference_protected(apps[id], lockdep_is_held(&adp_lock));

		if (app && !strcmp(app->name, name))
			return app;
	}
	return NULL;
}

bool adp_app_name_is_sound(const char *name)
{
	size_t i, length = name ? strlen(name) : 0;

	if (!length || length > ADP_APP_NAME_MAX)
		return false;
	for (i = 0; i < length; i++)
		if (!(name[i] >= 'a' && name[i] <= 'z') && !(name[i] >= '0' && name[i] <= '9') && name[i] != '_')
			return false;
	return true;
}

static bool desc_is_sound(const struct adp_app_desc *desc)
{
	u32 i;

	if (!adp_app_name_is_sound(desc->name) || (desc->interface && !adp_app_name_is_sound(desc->interface)) || !desc->owner)
		return false;
	if (desc->inputs < 1 || desc->inputs > ADP_MAX_WIDTH || desc->outputs < 1 || desc->outputs > ADP_MAX_OUTPUTS)
		return false;
	for (i = 0; i < desc->outputs; i++)
		if (desc->lowest[i] > desc->highest[i])
			return false;
	return true;
}

static struct adp_app *app_alloc(const struct adp_app_desc *desc)
{
	struct adp_app *app = kzalloc(sizeof(*app), GFP_KERNEL);

	if (!app)
		return ERR_PTR(-ENOMEM);
	app->inputs = desc->inputs;
	app->outputs = desc->outputs;
	memcpy(app->lowest, desc->lowest, sizeof(app->lowest));
	memcpy(app->highest, desc->highest, sizeof(app->highest));
	app->schema = desc->schema;
	app->record_bytes = desc->record_bytes;
	strscpy(app->name, desc->name, sizeof(app->name));
	strscpy(app->interface, desc->interface ?: "", sizeof(app->interface));
	app->owner = desc->owner;
	app->standby = ADP_SLOT_NONE;
	app->stats = alloc_percpu(struct adp_stats);
	if (!app->stats) {
		kfree(app);
		return ERR_PTR(-ENOMEM);
	}
	return app;
}

static void app_free(struct adp_app *app)
{
	free_percpu(app->stats);
	kfree(app);
}

/* A number for the app, under adp_lock; -EEXIST, -ENOSPC. */
static int find_place(const char *name)
{
	u32 id;

	if (adp_app_find(name))
		return -EEXIST;
	for (id = 0; id < ADP_MAX_APPS; id++)
		if (!rcu_access_pointer(apps[id]))
			return id;
	return -ENOSPC;
}

struct adp_app *adp_app_register(const struct adp_app_desc *desc)
{
	struct adp_app *app;
	int err;

	if (!desc_is_sound(desc))
		return ERR_PTR(-EINVAL);
	app = app_alloc(desc);
	if (IS_ERR(app))
		return app;
	mutex_lock(&registration_lock);
	mutex_lock(&adp_lock);
	err = find_place(app->name);
	mutex_unlock(&adp_lock);
	if (err < 0)
		goto err_app;
	app->id = err; /* stays free: only we give places away */
	app->ring = adp_ring_create(app->name, desc->record_bytes, desc->ring_records, desc->wakeup_bytes);
	if (IS_ERR(app->ring)) {
		err = PTR_ERR(app->ring);
		goto err_app;
	}
	mutex_lock(&adp_lock);
	/* Pairs with rcu_dereference() in adp_app_at(). */
	rcu_assign_pointer(apps[app->id], app);
	mutex_unlock(&adp_lock);
	mutex_unlock(&registration_lock);
	return app;

err_app:
	mutex_unlock(&registration_lock);
	app_free(app);
	return ERR_PTR(err);
}
EXPORT_SYMBOL_GPL(adp_app_register);

void adp_app_unregister(struct adp_app *app)
{
	mutex_lock(&registration_lock);
	mutex_lock(&adp_lock);
	RCU_INIT_POINTER(apps[app->id], NULL);
	adp_app_clear(app);
	mutex_unlock(&adp_lock);
	/* Pairs with the read-side sections of BPF programs that found the app by its number (kfunc.c). */
	synchronize_rcu();
	adp_ring_destroy(app->ring);
	mutex_unlock(&registration_lock);
	app_free(app);
}
EXPORT_SYMBOL_GPL(adp_app_unregister);

struct adp_app *adp_app_get(const char *name)
{
	struct adp_app *app;

	mutex_lock(&adp_lock);
	app = adp_app_find(name);
	if (app && !try_module_get(app->owner))
		app = NULL;
	mutex_unlock(&adp_lock);
	return app ?: ERR_PTR(-ENOENT);
}
EXPORT_SYMBOL_GPL(adp_app_get);

void adp_app_put(struct adp_app *app)
{
	module_put(app->owner);
}
EXPORT_SYMBOL_GPL(adp_app_put);

struct adp_stats __percpu *adp_stats(struct adp_app *app)
{
	return app->stats;
}
EXPORT_SYMBOL_GPL(adp_stats);

void adp_app_sum_stats(const struct adp_app *app, struct adp_stats *sum)
{
	int cpu;

	memset(sum, 0, sizeof(*sum));
	for_each_possible_cpu(cpu) {
		const struct adp_stats *stats = per_cpu_ptr(app->stats, cpu);

		sum->decisions += READ_ONCE(stats->decisions);
		sum->fallbacks += READ_ONCE(stats->fallbacks);
		sum->program_missing += READ_ONCE(stats->program_missing);
		sum->samples += READ_ONCE(stats->samples);
		sum->samples_lost += READ_ONCE(stats->samples_lost);
		sum->flows_opened += READ_ONCE(stats->flows_opened);
		sum->flows_closed += READ_ONCE(stats->flows_closed);
		sum->acks += READ_ONCE(stats->acks);
	}
}

/* ---- slots and the switch; all under adp_lock ---- */

u32 adp_app_in_state(const struct adp_app *app, u32 state)
{
	u32 slot;

	for (slot = 0; slot < ADP_SLOTS; slot++)
		if (app->state[slot] == state)
			return slot;
	return ADP_SLOT_NONE;
}

struct adp_snapshot *adp_app_slot(struct adp_app *app, u32 slot, struct netlink_ext_ack *extack)
{
	if (slot < ADP_SLOTS && app->slots[slot])
		return app->slots[slot];
	ADP_EXTACK(extack, "that slot holds no snapshot", ": slot %u", slot);
	return NULL;
}

/* The table's reference goes; queries that run and flows that are bound keep theirs. */
static void free_slot(struct adp_app *app, u32 slot)
{
	struct adp_snapshot *snapshot = app->slots[slot];

	app->slots[slot] = NULL;
	app->state[slot] = ADP_SLOT_FREE;
	adp_snapshot_put(snapshot);
}

/* A slot that nothing names any more. Kept in the table while flows are bound, so that they can be seen. */
static void drain_slot(struct adp_app *app, u32 slot)
{
	app->state[slot] = ADP_SLOT_DRAINING;
	if (!atomic_read(&app->slots[slot]->bound))
		free_slot(app, slot);
}

void adp_app_reclaim(struct adp_app *app)
{
	u32 slot;

	for (slot = 0; slot < ADP_SLOTS; slot++)
		if (app->state[slot] == ADP_SLOT_DRAINING)
			drain_slot(app, slot);
}

/* The least generation that was installed and never switched to, or ADP_SLOT_NONE. */
static u32 oldest_ready(const struct adp_app *app)
{
	u32 slot, oldest = ADP_SLOT_NONE;

	for (slot = 0; slot < ADP_SLOTS; slot++)
		if (app->state[slot] == ADP_SLOT_READY &&
		    (oldest == ADP_SLOT_NONE || app->slots[slot]->generation < app->slots[oldest]->generation))
			oldest = slot;
	return oldest;
}

static struct adp_choice *choice_for(struct adp_app *app, const struct adp_snapshot *snapshot)
{
	u32 i;

	for (i = 0; i < ADP_CHOICES; i++)
		if (adp_choice_fits(&app->choices[i], snapshot))
			return &app->choices[i];
	return &app->choices[app->next_choice++ % ADP_CHOICES];
}

int adp_app_install(struct adp_app *app, struct adp_snapshot *snapshot, struct netlink_ext_ack *extack)
{
	u32 slot;

	lockdep_assert_held(&adp_lock);
	adp_app_reclaim(app);
	slot = adp_app_in_state(app, ADP_SLOT_FREE);
	if (slot == ADP_SLOT_NONE) {
		slot = oldest_ready(app);
		if (slot == ADP_SLOT_NONE) {
			NL_SET_ERR_MSG(extack, "no free slot: flows are still bound to every old snapshot");
			return -ENOSPC;
		}
		free_slot(app, slot);
	}
	adp_snapshot_choose(snapshot, choice_for(app, snapshot));
	snapshot->slot = slot;
	app->slots[slot] = snapshot;
	app->state[slot] = ADP_SLOT_READY;
	return slot;
}

/* What was active becomes standby; the standby before it drains unless it is the new one. */
static void retire_active(struct adp_app *app, u32 unless)
{
	u32 active = adp_app_in_state(app, ADP_SLOT_ACTIVE);
	u32 standby = app->standby;

	app->standby = active;
	if (active != ADP_SLOT_NONE)
		app->state[active] = ADP_SLOT_STANDBY;
	if (standby != ADP_SLOT_NONE && standby != unless && standby != active)
		drain_slot(app, standby);
}

int adp_app_switch(struct adp_app *app, u32 slot, struct netlink_ext_ack *extack)
{
	struct adp_snapshot *snapshot = adp_app_slot(app, slot, extack);

	lockdep_assert_held(&adp_lock);
	if (!snapshot)
		return -ENOENT;
	if (app->state[slot] == ADP_SLOT_ACTIVE)
		return 0;
	if (app->state[slot] == ADP_SLOT_DRAINING) {
		ADP_EXTACK(extack, "the slot is draining: install its snapshot again", ": slot %u", slot);
		return -EBUSY;
	}
	/*
	 * The switch. Pairs with rcu_dereference() in adp_query() and adp_bind(): whoever sees the pointer sees the snapshot's
	 * contents. Queries that loaded the old one go on with it; its reference is dropped below, its memory after a grace period.
	 */
	rcu_assign_pointer(app->active, snapshot);
	retire_active(app, slot);
	if (app->state[slot] == ADP_SLOT_CANARY)
		/* Promoted: it decides for all already, so that none of its flows goes back in between. */
		RCU_INIT_POINTER(app->canary, NULL);
	else
		/* What it was on trial beside decides no more. */
		adp_app_end_canary(app);
	app->state[slot] = ADP_SLOT_ACTIVE;
	return 0;
}

int adp_app_rollback(struct adp_app *app, struct netlink_ext_ack *extack)
{
	if (app->standby == ADP_SLOT_NONE) {
		NL_SET_ERR_MSG(extack, "there is no standby snapshot to roll back to");
		return -ENOENT;
	}
	return adp_app_switch(app, app->standby, extack);
}

void adp_app_deactivate(struct adp_app *app)
{
	lockdep_assert_held(&adp_lock);
	if (adp_app_in_state(app, ADP_SLOT_ACTIVE) == ADP_SLOT_NONE)
		return;
	RCU_INIT_POINTER(app->active, NULL);
	retire_active(app, ADP_SLOT_NONE);
	adp_app_end_canary(app);
}

int adp_app_canary(struct adp_app *app, u32 slot, u32 share_q16, struct netlink_ext_ack *extack)
{
	struct adp_snapshot *snapshot = adp_app_slot(app, slot, extack);
	u32 other = adp_app_in_state(app, ADP_SLOT_CANARY);

	lockdep_assert_held(&adp_lock);
	if (!snapshot)
		return -ENOENT;
	if (other != ADP_SLOT_NONE && other != slot) {
		ADP_EXTACK(extack, "another slot is on trial: end that first", ": slot %u", other);
		return -EBUSY;
	}
	if (app->state[slot] != ADP_SLOT_READY && app->state[slot] != ADP_SLOT_CANARY) {
		ADP_EXTACK(extack, "only an installed slot that was never switched to goes on trial",
			   ": slot %u", slot);
		return -EBUSY;
	}
	if (adp_app_in_state(app, ADP_SLOT_ACTIVE) == ADP_SLOT_NONE) {
		NL_SET_ERR_MSG(extack, "no snapshot is active, beside which another could be on trial: switch to it");
		return -ENODATA;
	}
	/* A query may see the old share with the new pointer: then another flow is on trial for one decision. */
	WRITE_ONCE(app->canary_share_q16, share_q16);
	/* Pairs with rcu_dereference() in adp_query(). */
	rcu_assign_pointer(app->canary, snapshot);
	app->state[slot] = ADP_SLOT_CANARY;
	return 0;
}

void adp_app_end_canary(struct adp_app *app)
{
	u32 slot = adp_app_in_state(app, ADP_SLOT_CANARY);

	lockdep_assert_held(&adp_lock);
	if (slot == ADP_SLOT_NONE)
		return;
	RCU_INIT_POINTER(app->canary, NULL);
	drain_slot(app, slot);
}

int adp_app_discard(struct adp_app *app, u32 slot, struct netlink_ext_ack *extack)
{
	if (!adp_app_slot(app, slot, extack))
		return -ENOENT;
	if (app->state[slot] != ADP_SLOT_READY) {
		ADP_EXTACK(extack, "the slot is in use, or has been: not discarded",
			   ": slot %u", slot);
		return -EBUSY;
	}
	free_slot(app, slot);
	return 0;
}

void adp_app_clear(struct adp_app *app)
{
	u32 slot;

	lockdep_assert_held(&adp_lock);
	RCU_INIT_POINTER(app->active, NULL);
	RCU_INIT_POINTER(app->canary, NULL);
	app->standby = ADP_SLOT_NONE;
	/* Bound flows hold references of their own: theirs is freed when the last of them unbinds. */
	for (slot = 0; slot < ADP_SLOTS; slot++)
		if (app->slots[slot])
			free_slot(app, slot);
}

/* ---- the query path: no lock, no allocation, no printing ---- */

static __always_inline void decide(struct adp_app *app, const struct adp_snapshot *snapshot, const u8 *in, s32 *out,
				   struct adp_decision *d)
{
	u32 i;

	adp_snapshot_run(snapshot, snapshot->chosen, in, d->raw);
	d->slot = snapshot->slot;
	d->generation = snapshot->generation;
	d->explore_q16 = READ_ONCE(snapshot->explore_q16);
	for (i = 0; i < app->outputs; i++)
		out[i] = clamp(d->raw[i], app->lowest[i], app->highest[i]);
	this_cpu_inc(app->stats->decisions);
}

int adp_query(struct adp_app *app, u64 flow, const u8 *in, s32 *out, struct adp_decision *d)
{
	const struct adp_snapshot *snapshot, *canary;
	int err = -ENODATA;

	if (WARN_ON_ONCE(in_nmi()))
		return -EOPNOTSUPP;
	/* Both live until the section ends, whatever switches meanwhile. Pairs with the grace period in adp_snapshot_put(). */
	rcu_read_lock();
	snapshot = rcu_dereference(app->active);
	if (likely(snapshot)) {
		canary = rcu_dereference(app->canary);
		if (unlikely(canary) && flow && adp_flow_in_share(flow, READ_ONCE(app->canary_share_q16)))
			snapshot = canary;
		decide(app, snapshot, in, out, d);
		err = 0;
	}
	rcu_read_unlock();
	return err;
}
EXPORT_SYMBOL_GPL(adp_query);

int adp_query_bound(struct adp_app *app, struct adp_snapshot *snapshot, const u8 *in, s32 *out, struct adp_decision *d)
{
	if (WARN_ON_ONCE(in_nmi()))
		return -EOPNOTSUPP;
	decide(app, snapshot, in, out, d);
	return 0;
}
EXPORT_SYMBOL_GPL(adp_query_bound);

u32 adp_objective(const struct adp_app *app, u32 index)
{
	return index < ADP_OBJECTIVES ? READ_ONCE(app->objective[index]) : 0;
}
EXPORT_SYMBOL_GPL(adp_objective);

bool adp_ready(const struct adp_app *app)
{
	return rcu_access_pointer(app->active);
}
EXPORT_SYMBOL_GPL(adp_ready);

bool adp_flow_consistency(const struct adp_app *app)
{
	return READ_ONCE(app->consistency) == ADP_CONSISTENT_FLOW;
}
EXPORT_SYMBOL_GPL(adp_flow_consistency);

struct adp_snapshot *adp_bind(struct adp_app *app)
{
	struct adp_snapshot *snapshot;

	if (WARN_ON_ONCE(in_nmi()))
		return NULL;
	rcu_read_lock();
	snapshot = rcu_dereference(app->active);
	/* Fails only where a switch has just taken the last reference away: then as if no snapshot were active. */
	if (snapshot && !refcount_inc_not_zero(&snapshot->references))
		snapshot = NULL;
	if (snapshot)
		atomic_inc(&snapshot->bound);
	rcu_read_unlock();
	return snapshot;
}
EXPORT_SYMBOL_GPL(adp_bind);

void adp_unbind(struct adp_snapshot *snapshot)
{
	if (WARN_ON_ONCE(in_nmi()))
		return;
	atomic_dec(&snapshot->bound);
	adp_snapshot_put(snapshot);
}
EXPORT_SYMBOL_GPL(adp_unbind);

void adp_emit(struct adp_app *app, const void *record)
{
	if (WARN_ON_ONCE(in_nmi()))
		return;
	if (adp_ring_put(app->ring, record))
		this_cpu_inc(app->stats->samples);
	else
		this_cpu_inc(app->stats->samples_lost);
}
EXPORT_SYMBOL_GPL(adp_emit);
