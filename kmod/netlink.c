// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * See netlink.h. Every handler parses and checks without adp_lock, then takes it for the change itself. What userspace sends is
 * trusted in nothing: the policy checks types and ranges, adp_layout_init() the shapes, adp_params_check() every word of the
 * parameters.
 */
#include <linux/capability.h>
#include <linux/kmod.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <net/genetlink.h>

#include "app.h"
#include "compat.h"
#include "netlink.h"
#include "netlink_reply.h"
#include "program.h"
#include "ring.h"

#include <adapath/params.h>

/* Of one app: 8 slots with 8 layers and 5 measurements each. */
#define APP_MESSAGE_BYTES 16384

static struct genl_family family;

/* Not const: 6.1's policy points to it without. */
static struct netlink_range_validation params_length = { .max = ADP_PARAMS_BYTES };

static const struct nla_policy layer_policy[ADP_A_MAX + 1] = {
	[ADP_A_INPUTS] = NLA_POLICY_RANGE(NLA_U32, 1, ADP_MAX_WIDTH),
	[ADP_A_OUTPUTS] = NLA_POLICY_RANGE(NLA_U32, 1, ADP_MAX_WIDTH),
	[ADP_A_ACTIVATION] = NLA_POLICY_MAX(NLA_U32, ADP_ACTIVATIONS - 1),
};

static const struct nla_policy policy[ADP_A_MAX + 1] = {
	[ADP_A_APP] = { .type = NLA_NUL_STRING, .len = ADP_APP_NAME_MAX },
	[ADP_A_SLOT] = NLA_POLICY_MAX(NLA_U32, ADP_SLOTS - 1),
	[ADP_A_GENERATION] = NLA_POLICY_MIN(NLA_U32, 1),
	[ADP_A_HASH] = { .type = NLA_U64 },
	[ADP_A_PROGRAM_HASH] = { .type = NLA_U64 },
	/* The policy's range is 16 bits wide: checked by hand. */
	[ADP_A_EXPLORE] = { .type = NLA_U32 },
	[ADP_A_SCHEMA] = { .type = NLA_U32 },
	[ADP_A_LAYERS] = { .type = NLA_NESTED },
	[ADP_A_PARAMS] = NLA_POLICY_FULL_RANGE(NLA_BINARY, &params_length),
	[ADP_A_IMPLEMENTATION] = NLA_POLICY_MAX(NLA_U32, ADP_RUN_COUNT_ - 1),
	[ADP_A_RUN_INPUTS] = { .type = NLA_BINARY },
	[ADP_A_REPEAT] = { .type = NLA_U32 },
	[ADP_A_WAKEUP_BYTES] = { .type = NLA_U32 },
	[ADP_A_CONSISTENCY] = NLA_POLICY_MAX(NLA_U32, ADP_CONSISTENT_FLOW),
	[ADP_A_OBJECTIVE] = NLA_POLICY_EXACT_LEN(ADP_OBJECTIVES * sizeof(u32)),
	/* By hand, as exploration. */
	[ADP_A_SHARE] = { .type = NLA_U32 },
};

/* ---- what a request holds ---- */

/*
 * Asks for the module that brings the app (MODULE_ALIAS_ADAPATH_APP), where it is not there. Not under adp_lock: the module's init
 * takes it. For administrators only, as reading is open to everybody.
 */
static void request_app(struct genl_info *info)
{
	const char *name;
	bool known;

	if (!info->attrs[ADP_A_APP] || !capable(CAP_NET_ADMIN))
		return;
	name = nla_data(info->attrs[ADP_A_APP]);
	if (!adp_app_name_is_sound(name))
		return;
	mutex_lock(&adp_lock);
	known = adp_app_find(name);
	mutex_unlock(&adp_lock);
	if (!known)
		request_module("adapath-app-%s", name);
}

/* Under adp_lock. */
static struct adp_app *app_of(struct genl_info *info)
{
	struct adp_app *app;

	if (adp_need(info, ADP_A_APP, "ADP_A_APP"))
		return ERR_PTR(-EINVAL);
	app = adp_app_find(nla_data(info->attrs[ADP_A_APP]));
	if (!app) {
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[ADP_A_APP],
				    "no app of that name: load the module that brings it (cc: adapath_cc, select: adapath_select)");
		return ERR_PTR(-ENOENT);
	}
	return app;
}

static int explore_of(struct genl_info *info, u32 *explore)
{
	*explore = info->attrs[ADP_A_EXPLORE] ? nla_get_u32(info->attrs[ADP_A_EXPLORE]) : 0;
	if (*explore > 65536) {
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[ADP_A_EXPLORE],
				    "exploration is a standard deviation in Q16: 0 to 65536");
		return -EINVAL;
	}
	return 0;
}

static int share_of(struct genl_info *info, u32 *share)
{
	*share = nla_get_u32(info->attrs[ADP_A_SHARE]);
	if (!*share || *share > 65536) {
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[ADP_A_SHARE], "a share of the flows is in Q16: 1 to 65536");
		return -EINVAL;
	}
	return 0;
}

/* A copy: the attribute's data need not be aligned. */
static int objective_of(struct genl_info *info, u32 objective[ADP_OBJECTIVES])
{
	u32 i;

	nla_memcpy(objective, info->attrs[ADP_A_OBJECTIVE], ADP_OBJECTIVES * sizeof(*objective));
	for (i = 0; i < ADP_OBJECTIVES; i++) {
		if (objective[i] <= ADP_OBJECTIVE_MAX_Q16)
			continue;
		ADP_EXTACK(info->extack, "a weight of the objective is over 256 (16777216 in Q16)", ": weight %u is %u", i,
			   objective[i]);
		NL_SET_BAD_ATTR(info->extack, info->attrs[ADP_A_OBJECTIVE]);
		return -EINVAL;
	}
	return 0;
}

static void complain(struct netlink_ext_ack *extack, const struct nlattr *attr, const struct adp_complaint *why)
{
	/* The texts are constants: on a kernel without formatted messages the plain one is still right. */
#ifdef NL_SET_ERR_MSG_FMT
	NL_SET_ERR_MSG_FMT(extack, "layer %u row %u: %s: %lld", why->layer, why->row, why->what, (long long)why->value);
#else
	do_trace_netlink_extack(why->what);
	if (extack)
		extack->_msg = why->what;
#endif
	NL_SET_BAD_ATTR(extack, attr);
}

static int layout_of(struct genl_info *info, struct adp_layout *layout)
{
	struct adp_layer_shape shape[ADP_MAX_LAYERS] = {};
	struct nlattr *nest = info->attrs[ADP_A_LAYERS], *attr, *tb[ADP_A_MAX + 1];
	struct adp_complaint why = {};
	u32 layers = 0;
	int left, err;

	nla_for_each_nested(attr, nest, left) {
		if (nla_type(attr) != ADP_A_LAYER) {
			NL_SET_ERR_MSG_ATTR(info->extack, attr, "layers hold ADP_A_LAYER only");
			return -EINVAL;
		}
		if (layers == ADP_MAX_LAYERS) {
			NL_SET_ERR_MSG_ATTR(info->extack, attr, "a network has at most 8 layers");
			return -EINVAL;
		}
		err = nla_parse_nested(tb, ADP_A_MAX, attr, layer_policy, info->extack);
		if (err)
			return err;
		if (!tb[ADP_A_INPUTS] || !tb[ADP_A_OUTPUTS] || !tb[ADP_A_ACTIVATION]) {
			NL_SET_ERR_MSG_ATTR(info->extack, attr, "a layer needs inputs, outputs and activation");
			return -EINVAL;
		}
		/* The policy's ranges fit the narrower types. */
		shape[layers].inputs = nla_get_u32(tb[ADP_A_INPUTS]);
		shape[layers].outputs = nla_get_u32(tb[ADP_A_OUTPUTS]);
		shape[layers].activation = nla_get_u32(tb[ADP_A_ACTIVATION]);
		layers++;
	}
	BUILD_BUG_ON(ADP_MAX_LAYERS != 8);
	if (adp_layout_init(layout, shape, layers, &why)) {
		complain(info->extack, nest, &why);
		return -EINVAL;
	}
	return 0;
}

/* ---- replies ---- */

static int put_layers(struct sk_buff *msg, const struct adp_layer_shape *shape, u32 layers)
{
	struct nlattr *nest = nla_nest_start(msg, ADP_A_LAYERS), *layer;
	u32 l;

	if (!nest)
		return -EMSGSIZE;
	for (l = 0; l < layers; l++) {
		layer = nla_nest_start(msg, ADP_A_LAYER);
		if (!layer || nla_put_u32(msg, ADP_A_INPUTS, shape[l].inputs) ||
		    nla_put_u32(msg, ADP_A_OUTPUTS, shape[l].outputs) ||
		    nla_put_u32(msg, ADP_A_ACTIVATION, shape[l].activation))
			return -EMSGSIZE;
		nla_nest_end(msg, layer);
	}
	nla_nest_end(msg, nest);
	return 0;
}

static int put_measured(struct sk_buff *msg, const struct adp_snapshot *s)
{
	struct nlattr *nest = nla_nest_start(msg, ADP_A_IMPLEMENTATIONS), *one;
	u32 how;

	if (!nest)
		return -EMSGSIZE;
	for (how = ADP_RUN_GENERIC; how < ADP_RUN_COUNT_; how++) {
		if (!s->picoseconds[how])
			continue;
		one = nla_nest_start(msg, ADP_A_MEASURED);
		if (!one || nla_put_u32(msg, ADP_A_IMPLEMENTATION, how) ||
		    nla_put_u64_64bit(msg, ADP_A_PICOSECONDS, s->picoseconds[how], ADP_A_PAD))
			return -EMSGSIZE;
		nla_nest_end(msg, one);
	}
	nla_nest_end(msg, nest);
	return 0;
}

static int put_slot(struct sk_buff *msg, const struct adp_app *app, u32 slot)
{
	const struct adp_snapshot *s = app->slots[slot];
	struct nlattr *nest = nla_nest_start(msg, ADP_A_SLOT_INFO);

	if (!nest || nla_put_u32(msg, ADP_A_SLOT, slot) || nla_put_u32(msg, ADP_A_STATE, app->state[slot]) ||
	    nla_put_u32(msg, ADP_A_GENERATION, s->generation) || nla_put_u64_64bit(msg, ADP_A_HASH, s->hash, ADP_A_PAD) ||
	    nla_put_u64_64bit(msg, ADP_A_PROGRAM_HASH, s->program_hash, ADP_A_PAD) ||
	    nla_put_u32(msg, ADP_A_EXPLORE, READ_ONCE(s->explore_q16)) ||
	    nla_put_u64_64bit(msg, ADP_A_BOUND, atomic_read(&s->bound), ADP_A_PAD) ||
	    nla_put_u32(msg, ADP_A_PARAMS_BYTES, s->layout.bytes) || nla_put_u32(msg, ADP_A_IMPLEMENTATION, s->chosen) ||
	    put_measured(msg, s) || put_layers(msg, s->layout.shape, s->layout.layers))
		return -EMSGSIZE;
	nla_nest_end(msg, nest);
	return 0;
}

/* Under adp_lock. */
static int put_app(struct sk_buff *msg, const struct adp_app *app)
{
	u32 canary = adp_app_in_state(app, ADP_SLOT_CANARY);
	u32 objective[ADP_OBJECTIVES];
	struct adp_stats stats;
	struct nlattr *nest;
	u32 slot, i;

	adp_app_sum_stats(app, &stats);
	for (i = 0; i < ADP_OBJECTIVES; i++)
		objective[i] = READ_ONCE(app->objective[i]);
	if (nla_put_u32(msg, ADP_A_ABI_VERSION, ADP_ABI_VERSION) || nla_put_string(msg, ADP_A_APP, app->name) ||
	    nla_put_u32(msg, ADP_A_ID, app->id) || nla_put_u32(msg, ADP_A_SCHEMA, app->schema) ||
	    nla_put_u32(msg, ADP_A_INPUTS, app->inputs) || nla_put_u32(msg, ADP_A_OUTPUTS, app->outputs) ||
	    nla_put_u32(msg, ADP_A_RECORD_BYTES, app->record_bytes) ||
	    nla_put_string(msg, ADP_A_DEVICE, adp_ring_device(app->ring)) ||
	    (app->interface[0] && nla_put_string(msg, ADP_A_INTERFACE, app->interface)) ||
	    nla_put_u32(msg, ADP_A_WAKEUP_BYTES, adp_ring_wakeup(app->ring)) ||
	    nla_put_u32(msg, ADP_A_CONSISTENCY, READ_ONCE(app->consistency)) ||
	    nla_put(msg, ADP_A_OBJECTIVE, sizeof(objective), objective) ||
	    nla_put_u32(msg, ADP_A_ACTIVE, adp_app_in_state(app, ADP_SLOT_ACTIVE)) ||
	    nla_put_u32(msg, ADP_A_STANDBY, app->standby) || nla_put_u32(msg, ADP_A_CANARY, canary) ||
	    (canary != ADP_SLOT_NONE && nla_put_u32(msg, ADP_A_SHARE, READ_ONCE(app->canary_share_q16))) ||
	    nla_put(msg, ADP_A_STATS, sizeof(stats), &stats))
		return -EMSGSIZE;
	nest = nla_nest_start(msg, ADP_A_SLOTS);
	if (!nest)
		return -EMSGSIZE;
	for (slot = 0; slot < ADP_SLOTS; slot++)
		if (app->slots[slot] && put_slot(msg, app, slot))
			return -EMSGSIZE;
	nla_nest_end(msg, nest);
	return 0;
}

static int reply_slot(struct genl_info *info, u32 slot)
{
	void *header;
	struct sk_buff *msg = adp_reply_begin(info, &family, nla_total_size(4), &header);

	if (IS_ERR(msg))
		return PTR_ERR(msg);
	return adp_reply_end(info, msg, header, nla_put_u32(msg, ADP_A_SLOT, slot));
}

/* ---- commands ---- */

static int get_app_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct adp_app *app;
	struct sk_buff *msg;
	void *header;
	int err;

	msg = adp_reply_begin(info, &family, APP_MESSAGE_BYTES, &header);
	if (IS_ERR(msg))
		return PTR_ERR(msg);
	request_app(info);
	mutex_lock(&adp_lock);
	app = app_of(info);
	err = IS_ERR(app) ? PTR_ERR(app) : put_app(msg, app);
	mutex_unlock(&adp_lock);
	return adp_reply_end(info, msg, header, err);
}

/* A message must fit into the dump's buffer, which the kernel sizes by this. */
static int get_app_start(struct netlink_callback *cb)
{
	cb->min_dump_alloc = APP_MESSAGE_BYTES;
	return 0;
}

static int get_app_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	u32 id;

	mutex_lock(&adp_lock);
	for (id = cb->args[0]; id < ADP_MAX_APPS; id++) {
		struct adp_app *app = adp_app_at(id);
		void *header;

		if (!app)
			continue;
		header = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &family, NLM_F_MULTI,
				     ADP_CMD_GET_APP);
		if (!header)
			break;
		if (put_app(skb, app)) {
			genlmsg_cancel(skb, header);
			break;
		}
		genlmsg_end(skb, header);
	}
	mutex_unlock(&adp_lock);
	cb->args[0] = id;
	return skb->len;
}

static int get_programs_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	const struct adp_program *program;
	long at = 0;

	mutex_lock(&adp_lock);
	list_for_each_entry(program, &adp_programs, node) {
		void *header;

		if (at++ < cb->args[0])
			continue;
		header = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &family, NLM_F_MULTI,
				     ADP_CMD_GET_PROGRAMS);
		if (!header)
			break;
		if (nla_put_u64_64bit(skb, ADP_A_PROGRAM_HASH, program->hash, ADP_A_PAD) ||
		    nla_put_string(skb, ADP_A_NAME, module_name(program->owner)) ||
		    nla_put_u32(skb, ADP_A_USERS, atomic_read(&program->users)) ||
		    put_layers(skb, program->shape, program->layers)) {
			genlmsg_cancel(skb, header);
			break;
		}
		genlmsg_end(skb, header);
		cb->args[0] = at;
	}
	mutex_unlock(&adp_lock);
	return skb->len;
}

static int fits_app(const struct adp_app *app, const struct adp_layout *layout, u32 schema, struct genl_info *info)
{
	if (schema != app->schema) {
		ADP_EXTACK(info->extack, "the snapshot has another feature schema",
			   ": %u, the app's is %u", schema, app->schema);
		return -EINVAL;
	}
	if (layout->inputs != app->inputs || layout->outputs != app->outputs) {
		ADP_EXTACK(info->extack, "wrong inputs or outputs",
			   ": %u -> %u, the app's are %u -> %u", layout->inputs, layout->outputs, app->inputs, app->outputs);
		return -EINVAL;
	}
	return 0;
}

/* Takes params over. */
static int install(struct genl_info *info, const struct adp_layout *layout, const u8 *params)
{
	struct adp_snapshot *snapshot;
	u64 program_hash = nla_get_u64(info->attrs[ADP_A_PROGRAM_HASH]);
	struct adp_app *app;
	u32 explore;
	int err;

	err = explore_of(info, &explore);
	if (err)
		goto err_params;
	request_app(info);
	adp_program_request(program_hash);

	mutex_lock(&adp_lock);
	app = app_of(info);
	if (IS_ERR(app)) {
		err = PTR_ERR(app);
		goto err_unlock;
	}
	err = fits_app(app, layout, nla_get_u32(info->attrs[ADP_A_SCHEMA]), info);
	if (err)
		goto err_unlock;
	snapshot = adp_snapshot_create(layout, params, program_hash);
	if (IS_ERR(snapshot)) {
		err = PTR_ERR(snapshot);
		goto err_unlock;
	}
	snapshot->generation = nla_get_u32(info->attrs[ADP_A_GENERATION]);
	snapshot->hash = nla_get_u64(info->attrs[ADP_A_HASH]);
	snapshot->explore_q16 = explore;
	err = adp_app_install(app, snapshot, info->extack);
	if (err < 0)
		adp_snapshot_put(snapshot); /* and params with it */
	mutex_unlock(&adp_lock);
	return err < 0 ? err : reply_slot(info, err);

err_unlock:
	mutex_unlock(&adp_lock);
err_params:
	kvfree(params);
	return err;
}

static int install_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct adp_complaint why = {};
	struct adp_layout *layout;
	u32 bytes;
	u8 *params;
	int err;

	if (adp_need(info, ADP_A_APP, "ADP_A_APP") || adp_need(info, ADP_A_GENERATION, "ADP_A_GENERATION") ||
	    adp_need(info, ADP_A_HASH, "ADP_A_HASH") || adp_need(info, ADP_A_PROGRAM_HASH, "ADP_A_PROGRAM_HASH") ||
	    adp_need(info, ADP_A_SCHEMA, "ADP_A_SCHEMA") || adp_need(info, ADP_A_LAYERS, "ADP_A_LAYERS") ||
	    adp_need(info, ADP_A_PARAMS, "ADP_A_PARAMS"))
		return -EINVAL;
	layout = kmalloc(sizeof(*layout), GFP_KERNEL);
	if (!layout)
		return -ENOMEM;
	err = layout_of(info, layout);
	if (err)
		goto out;
	bytes = nla_len(info->attrs[ADP_A_PARAMS]);
	if (bytes != layout->bytes) {
		ADP_EXTACK(info->extack, "wrong length of the parameters", ": %u bytes, %u are needed",
			   bytes, layout->bytes);
		NL_SET_BAD_ATTR(info->extack, info->attrs[ADP_A_PARAMS]);
		err = -EINVAL;
		goto out;
	}
	/* A copy of our own, checked as such: nobody can change it between check and use. A power of two is aligned to 64. */
	params = kvmalloc(roundup_pow_of_two(max(bytes, 64U)), GFP_KERNEL);
	if (!params) {
		err = -ENOMEM;
		goto out;
	}
	nla_memcpy(params, info->attrs[ADP_A_PARAMS], bytes);
	if (adp_params_check(layout, params, bytes, &why)) {
		complain(info->extack, info->attrs[ADP_A_PARAMS], &why);
		kvfree(params);
		err = -EINVAL;
		goto out;
	}
	err = install(info, layout, params);
out:
	kfree(layout);
	return err;
}

/* Under adp_lock. All of it or, where something is out of range, nothing. */
static int configure(struct genl_info *info, struct adp_app *app)
{
	u32 objective[ADP_OBJECTIVES], i;
	int err;

	if (info->attrs[ADP_A_OBJECTIVE]) {
		err = objective_of(info, objective);
		if (err)
			return err;
		/* Pairs with READ_ONCE() in adp_objective(). */
		for (i = 0; i < ADP_OBJECTIVES; i++)
			WRITE_ONCE(app->objective[i], objective[i]);
	}
	if (info->attrs[ADP_A_WAKEUP_BYTES])
		adp_ring_set_wakeup(app->ring, nla_get_u32(info->attrs[ADP_A_WAKEUP_BYTES]));
	if (info->attrs[ADP_A_CONSISTENCY])
		WRITE_ONCE(app->consistency, nla_get_u32(info->attrs[ADP_A_CONSISTENCY]));
	return 0;
}

/* Commands that change one app and have nothing to say but an error. */
static int change_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct netlink_ext_ack *extack = info->extack;
	u32 slot = 0, share = 0, explore;
	struct adp_snapshot *snapshot;
	struct adp_app *app;
	int err = 0;

	if (info->genlhdr->cmd == ADP_CMD_CANARY) {
		err = adp_need(info, ADP_A_SHARE, "ADP_A_SHARE") ?: share_of(info, &share);
		if (err)
			return err;
	}
	switch (info->genlhdr->cmd) {
	case ADP_CMD_SWITCH:
	case ADP_CMD_DISCARD:
	case ADP_CMD_CANARY:
	case ADP_CMD_SET_EXPLORE:
		if (adp_need(info, ADP_A_SLOT, "ADP_A_SLOT"))
			return -EINVAL;
		slot = nla_get_u32(info->attrs[ADP_A_SLOT]);
	}
	request_app(info);
	mutex_lock(&adp_lock);
	app = app_of(info);
	if (IS_ERR(app)) {
		err = PTR_ERR(app);
		goto out;
	}
	switch (info->genlhdr->cmd) {
	case ADP_CMD_SWITCH:
		err = adp_app_switch(app, slot, extack);
		break;
	case ADP_CMD_ROLLBACK:
		err = adp_app_rollback(app, extack);
		break;
	case ADP_CMD_DEACTIVATE:
		adp_app_deactivate(app);
		break;
	case ADP_CMD_RECLAIM:
		adp_app_reclaim(app);
		break;
	case ADP_CMD_DISCARD:
		err = adp_app_discard(app, slot, extack);
		break;
	case ADP_CMD_CANARY:
		err = adp_app_canary(app, slot, share, extack);
		break;
	case ADP_CMD_END_CANARY:
		adp_app_end_canary(app);
		break;
	case ADP_CMD_CLEAR:
		adp_app_clear(app);
		break;
	case ADP_CMD_SET_EXPLORE:
		err = adp_need(info, ADP_A_EXPLORE, "ADP_A_EXPLORE") ?: explore_of(info, &explore);
		if (err)
			break;
		snapshot = adp_app_slot(app, slot, extack);
		if (snapshot)
			WRITE_ONCE(snapshot->explore_q16, explore);
		else
			err = -ENOENT;
		break;
	case ADP_CMD_CONFIGURE:
		err = configure(info, app);
		break;
	}
out:
	mutex_unlock(&adp_lock);
	return err;
}

/* A reference to a slot's snapshot, so that long runs hold no lock. */
static struct adp_snapshot *hold_slot(struct genl_info *info)
{
	struct adp_snapshot *snapshot;
	struct adp_app *app;

	request_app(info);
	mutex_lock(&adp_lock);
	app = app_of(info);
	if (IS_ERR(app)) {
		snapshot = ERR_CAST(app);
	} else {
		snapshot = adp_app_slot(app, nla_get_u32(info->attrs[ADP_A_SLOT]), info->extack);
		if (snapshot)
			refcount_inc(&snapshot->references);
		else
			snapshot = ERR_PTR(-ENOENT);
	}
	mutex_unlock(&adp_lock);
	return snapshot;
}

static int run_all(const struct adp_snapshot *s, u32 how, const u8 *in, u32 count, u32 repeat, s32 *out, u64 *elapsed)
{
	u32 times, i;

	*elapsed = 0;
	for (times = 0; times < repeat; times++) {
		u64 begin = ktime_get_ns();

		for (i = 0; i < count; i++)
			adp_snapshot_run(s, how, in + i * s->layout.inputs, out + i * s->layout.outputs);
		*elapsed += ktime_get_ns() - begin;
		cond_resched();
		if (signal_pending(current))
			return -EINTR;
	}
	return 0;
}

static int run_doit(struct sk_buff *skb, struct genl_info *info)
{
	u32 how = info->attrs[ADP_A_IMPLEMENTATION] ? nla_get_u32(info->attrs[ADP_A_IMPLEMENTATION]) : ADP_RUN_CHOSEN;
	u32 repeat = info->attrs[ADP_A_REPEAT] ? nla_get_u32(info->attrs[ADP_A_REPEAT]) : 1;
	struct adp_snapshot *s;
	struct sk_buff *msg;
	u32 count, bytes;
	u64 elapsed;
	void *header;
	s32 *out;
	int err;

	if (adp_need(info, ADP_A_SLOT, "ADP_A_SLOT") || adp_need(info, ADP_A_RUN_INPUTS, "ADP_A_RUN_INPUTS"))
		return -EINVAL;
	s = hold_slot(info);
	if (IS_ERR(s))
		return PTR_ERR(s);
	err = -EINVAL;
	bytes = nla_len(info->attrs[ADP_A_RUN_INPUTS]);
	count = bytes / s->layout.inputs;
	if (!count || count > ADP_RUN_MAX_INPUTS || count * s->layout.inputs != bytes) {
		ADP_EXTACK(info->extack, "not 1 to 256 whole vectors", ": %u bytes for %u inputs", bytes,
			   s->layout.inputs);
		goto out_put;
	}
	if (!repeat || repeat > ADP_RUN_MAX_REPEAT || count * repeat > ADP_RUN_MAX_REPEAT) {
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[ADP_A_REPEAT], "at most 100000 runs a request, at least one");
		goto out_put;
	}
	if (!adp_snapshot_can(s, how)) {
		ADP_EXTACK(info->extack, "that implementation can't run here", ": %u", how);
		err = -EOPNOTSUPP;
		goto out_put;
	}
	out = kcalloc(count * s->layout.outputs, sizeof(*out), GFP_KERNEL);
	if (!out) {
		err = -ENOMEM;
		goto out_put;
	}
	if (how == ADP_RUN_CHOSEN)
		how = s->chosen;
	err = run_all(s, how, nla_data(info->attrs[ADP_A_RUN_INPUTS]), count, repeat, out, &elapsed);
	if (err)
		goto out_free;
	msg = adp_reply_begin(info, &family, count * s->layout.outputs * sizeof(*out) + 64, &header);
	if (IS_ERR(msg)) {
		err = PTR_ERR(msg);
		goto out_free;
	}
	if (nla_put(msg, ADP_A_RUN_OUTPUTS, count * s->layout.outputs * sizeof(*out), out) ||
	    nla_put_u32(msg, ADP_A_IMPLEMENTATION, how) || nla_put_u64_64bit(msg, ADP_A_ELAPSED_NS, elapsed, ADP_A_PAD))
		err = -EMSGSIZE;
	err = adp_reply_end(info, msg, header, err);
out_free:
	kfree(out);
out_put:
	adp_snapshot_put(s);
	return err;
}

static const struct genl_ops ops[] = {
	{ .cmd = ADP_CMD_GET_APP, .start = get_app_start, .doit = get_app_doit, .dumpit = get_app_dumpit },
	{ .cmd = ADP_CMD_GET_PROGRAMS, .dumpit = get_programs_dumpit },
	{ .cmd = ADP_CMD_INSTALL, .flags = GENL_ADMIN_PERM, .doit = install_doit },
	{ .cmd = ADP_CMD_SWITCH, .flags = GENL_ADMIN_PERM, .doit = change_doit },
	{ .cmd = ADP_CMD_ROLLBACK, .flags = GENL_ADMIN_PERM, .doit = change_doit },
	{ .cmd = ADP_CMD_DEACTIVATE, .flags = GENL_ADMIN_PERM, .doit = change_doit },
	{ .cmd = ADP_CMD_RECLAIM, .flags = GENL_ADMIN_PERM, .doit = change_doit },
	{ .cmd = ADP_CMD_DISCARD, .flags = GENL_ADMIN_PERM, .doit = change_doit },
	{ .cmd = ADP_CMD_SET_EXPLORE, .flags = GENL_ADMIN_PERM, .doit = change_doit },
	{ .cmd = ADP_CMD_CONFIGURE, .flags = GENL_ADMIN_PERM, .doit = change_doit },
	{ .cmd = ADP_CMD_CLEAR, .flags = GENL_ADMIN_PERM, .doit = change_doit },
	{ .cmd = ADP_CMD_RUN, .flags = GENL_ADMIN_PERM, .doit = run_doit },
	{ .cmd = ADP_CMD_CANARY, .flags = GENL_ADMIN_PERM, .doit = change_doit },
	{ .cmd = ADP_CMD_END_CANARY, .flags = GENL_ADMIN_PERM, .doit = change_doit },
};

static struct genl_family family __ro_after_init = {
	.name = ADP_GENL_NAME,
	.version = ADP_GENL_VERSION,
	.maxattr = ADP_A_MAX,
	.policy = policy,
	.ops = ops,
	.n_ops = ARRAY_SIZE(ops),
	/* Ours is a finer lock, and INSTALL may wait for modprobe: the other families' users must not. */
	.parallel_ops = true,
	/* In the initial namespace only: snapshots are the whole machine's. */
	.netnsok = false,
	.module = THIS_MODULE,
};

int adp_netlink_init(void)
{
	return genl_register_family(&family);
}

void adp_netlink_exit(void)
{
	genl_unregister_family(&family);
}
