// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * See select_netlink.h. What userspace sends is trusted in nothing: the policy checks types and lengths, everything else is checked by
 * hand, all of it before anything changes, and each refusal says what is wrong.
 */
#include <linux/capability.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <net/genetlink.h>

#include "compat.h"
#include "netlink_reply.h"
#include "select_cameras.h"
#include "select_hooks.h"
#include "select_netlink.h"

#include <adapath/abi.h>
#include <adapath/select_netlink.h>

#define ADDRESS_BYTES 16
#define MESSAGE_BYTES 2048
ADP_STATIC_ASSERT(sizeof(struct adp_select_camera) + sizeof(struct adp_select_feedback) + 256 <= MESSAGE_BYTES,
		  "a camera fits into a message");

struct adp_select_market adp_select_market;

static struct genl_family family;

/* Ranges by hand: the policy would say only that a number is out of range. */
static const struct nla_policy camera_policy[ADP_SELECT_A_MAX + 1] = {
	[ADP_SELECT_A_ADDRESS] = { .type = NLA_BINARY },
	[ADP_SELECT_A_SUB_PORT] = { .type = NLA_U16 },
	[ADP_SELECT_A_MAIN_PORT] = { .type = NLA_U16 },
	[ADP_SELECT_A_PAYLOAD_TYPE] = { .type = NLA_U8 },
};

static const struct nla_policy policy[ADP_SELECT_A_MAX + 1] = {
	[ADP_SELECT_A_INTERFACES] = { .type = NLA_NESTED },
	[ADP_SELECT_A_CAMERAS] = { .type = NLA_NESTED },
	[ADP_SELECT_A_PLACE] = { .type = NLA_U32 },
	[ADP_SELECT_A_PRICE] = { .type = NLA_U32 },
	[ADP_SELECT_A_MAIN_LIMIT] = { .type = NLA_U32 },
	[ADP_SELECT_A_USED] = { .type = NLA_U32 },
	[ADP_SELECT_A_SHARING] = { .type = NLA_U32 },
	[ADP_SELECT_A_OBJECTS] = { .type = NLA_U32 },
	[ADP_SELECT_A_CONFIDENCE] = { .type = NLA_U32 },
	[ADP_SELECT_A_ACCURACY] = { .type = NLA_U32 },
	[ADP_SELECT_A_SUB_WORTH] = { .type = NLA_U32 },
	[ADP_SELECT_A_GAIN] = { .type = NLA_S32 },
	[ADP_SELECT_A_MAIN_LATE] = { .type = NLA_U32 },
};

/* ---- what a request holds ---- */

/* A required number of 0 to `most`. */
static int number(struct genl_info *info, int attribute, const char *what, u32 most, u32 *value)
{
	int err = adp_need(info, attribute, what);

	if (err)
		return err;
	*value = nla_get_u32(info->attrs[attribute]);
	if (*value > most) {
		ADP_EXTACK(info->extack, "a number is too large", ": %s is %u, at most %u", what, *value, most);
		NL_SET_BAD_ATTR(info->extack, info->attrs[attribute]);
		return -EINVAL;
	}
	return 0;
}

static int place_of(struct genl_info *info, u32 *place)
{
	return number(info, ADP_SELECT_A_PLACE, "ADP_SELECT_A_PLACE", ADP_SELECT_CAMERAS - 1, place);
}

/* Under adp_cameras_lock. */
static struct adp_camera *camera_at(struct genl_info *info, u32 place)
{
	struct adp_camera *camera = adp_cameras_at(place);

	if (!camera)
		ADP_EXTACK(info->extack, "no camera is configured at that place", ": %u", place);
	return camera;
}

static int interfaces_of(struct genl_info *info, u32 *interfaces, u32 *count)
{
	struct nlattr *attr, *nest = info->attrs[ADP_SELECT_A_INTERFACES];
	int left;

	*count = 0;
	nla_for_each_nested(attr, nest, left) {
		if (nla_type(attr) != ADP_SELECT_A_INTERFACE) {
			NL_SET_ERR_MSG_ATTR(info->extack, attr, "interfaces hold ADP_SELECT_A_INTERFACE only");
			return -EINVAL;
		}
		if (nla_len(attr) != sizeof(u32)) {
			NL_SET_ERR_MSG_ATTR(info->extack, attr, "an interface is a u32: its ifindex");
			return -EINVAL;
		}
		if (*count == ADP_SELECT_INTERFACES) {
			NL_SET_ERR_MSG_ATTR(info->extack, attr, "at most 16 interfaces");
			return -EINVAL;
		}
		interfaces[(*count)++] = nla_get_u32(attr);
	}
	BUILD_BUG_ON(ADP_SELECT_INTERFACES != 16);
	return 0;
}

static int port_of(struct genl_info *info, const struct nlattr *attr, u32 place, u16 *port)
{
	*port = nla_get_u16(attr);
	if (*port)
		return 0;
	ADP_EXTACK(info->extack, "a port is 1 to 65535", ": camera %u has 0", place);
	NL_SET_BAD_ATTR(info->extack, attr);
	return -EINVAL;
}

static int camera_of(struct genl_info *info, const struct nlattr *attr, u32 place, struct adp_camera_spec *spec)
{
	struct nlattr *tb[ADP_SELECT_A_MAX + 1];
	int err;

	err = nla_parse_nested(tb, ADP_SELECT_A_MAX, attr, camera_policy, info->extack);
	if (err)
		return err;
	if (!tb[ADP_SELECT_A_ADDRESS] || !tb[ADP_SELECT_A_SUB_PORT] || !tb[ADP_SELECT_A_MAIN_PORT] ||
	    !tb[ADP_SELECT_A_PAYLOAD_TYPE]) {
		ADP_EXTACK(info->extack, "a camera needs address, two ports and payload type", ": camera %u", place);
		NL_SET_BAD_ATTR(info->extack, attr);
		return -EINVAL;
	}
	if (nla_len(tb[ADP_SELECT_A_ADDRESS]) != ADDRESS_BYTES) {
		ADP_EXTACK(info->extack, "an address has 16 bytes", ": camera %u", place);
		NL_SET_BAD_ATTR(info->extack, tb[ADP_SELECT_A_ADDRESS]);
		return -EINVAL;
	}
	adp_address_v6(&spec->address, nla_data(tb[ADP_SELECT_A_ADDRESS]));
	err = port_of(info, tb[ADP_SELECT_A_SUB_PORT], place, &spec->port[ADP_SELECT_SUB]) ?:
	      port_of(info, tb[ADP_SELECT_A_MAIN_PORT], place, &spec->port[ADP_SELECT_MAIN]);
	if (err)
		return err;
	spec->payload_type = nla_get_u8(tb[ADP_SELECT_A_PAYLOAD_TYPE]);
	if (spec->payload_type > 127) {
		ADP_EXTACK(info->extack, "a payload type is 0 to 127", ": camera %u has %u", place, spec->payload_type);
		NL_SET_BAD_ATTR(info->extack, tb[ADP_SELECT_A_PAYLOAD_TYPE]);
		return -EINVAL;
	}
	return 0;
}

static int cameras_of(struct genl_info *info, struct adp_camera_spec *specs, u32 *count)
{
	struct nlattr *attr, *nest = info->attrs[ADP_SELECT_A_CAMERAS];
	int left, err;

	*count = 0;
	nla_for_each_nested(attr, nest, left) {
		if (nla_type(attr) != ADP_SELECT_A_CAMERA) {
			NL_SET_ERR_MSG_ATTR(info->extack, attr, "cameras hold ADP_SELECT_A_CAMERA only");
			return -EINVAL;
		}
		if (*count == ADP_SELECT_CAMERAS) {
			NL_SET_ERR_MSG_ATTR(info->extack, attr, "at most 256 cameras");
			return -EINVAL;
		}
		err = camera_of(info, attr, *count, &specs[*count]);
		if (err)
			return err;
		(*count)++;
	}
	BUILD_BUG_ON(ADP_SELECT_CAMERAS != 256);
	return 0;
}

/* ---- replies ---- */

static int put_interfaces(struct sk_buff *msg)
{
	struct nlattr *nest = nla_nest_start(msg, ADP_SELECT_A_INTERFACES);
	u32 interfaces[ADP_SELECT_INTERFACES], count, i;

	if (!nest)
		return -EMSGSIZE;
	count = adp_hooks_get(interfaces);
	for (i = 0; i < count; i++)
		if (nla_put_u32(msg, ADP_SELECT_A_INTERFACE, interfaces[i]))
			return -EMSGSIZE;
	nla_nest_end(msg, nest);
	return 0;
}

static int put_market(struct sk_buff *msg)
{
	const struct adp_select_market *m = &adp_select_market;

	if (nla_put_u32(msg, ADP_SELECT_A_PRICE, m->price_q16) || nla_put_u32(msg, ADP_SELECT_A_MAIN_LIMIT, m->main_limit) ||
	    nla_put_u32(msg, ADP_SELECT_A_USED, m->used_q16) || nla_put_u32(msg, ADP_SELECT_A_SHARING, m->cameras) ||
	    nla_put_u32(msg, ADP_SELECT_A_MAIN_LATE, m->main_late_q16))
		return -EMSGSIZE;
	return 0;
}

static int put_camera(struct sk_buff *msg, struct adp_camera *camera, u32 place)
{
	const struct adp_address *a = &camera->spec.address;
	__be32 address[4];
	struct nlattr *state;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(address); i++)
		address[i] = cpu_to_be32(a->word[i]);
	state = nla_reserve(msg, ADP_SELECT_A_STATE, sizeof(camera->state));
	if (!state)
		return -EMSGSIZE;
	/* Packets take it in softirq. The counts of a stream may be a packet apart: see adp_select_quick(). */
	spin_lock_bh(&camera->lock);
	memcpy(nla_data(state), &camera->state, sizeof(camera->state));
	spin_unlock_bh(&camera->lock);
	if (nla_put_u32(msg, ADP_SELECT_A_PLACE, place) ||
	    nla_put_u64_64bit(msg, ADP_SELECT_A_ID, camera->state.id, ADP_SELECT_A_PAD) ||
	    nla_put(msg, ADP_SELECT_A_ADDRESS, sizeof(address), address) ||
	    nla_put_u16(msg, ADP_SELECT_A_SUB_PORT, camera->spec.port[ADP_SELECT_SUB]) ||
	    nla_put_u16(msg, ADP_SELECT_A_MAIN_PORT, camera->spec.port[ADP_SELECT_MAIN]) ||
	    nla_put_u8(msg, ADP_SELECT_A_PAYLOAD_TYPE, camera->spec.payload_type) ||
	    nla_put(msg, ADP_SELECT_A_FEEDBACK, sizeof(camera->feedback), &camera->feedback))
		return -EMSGSIZE;
	return 0;
}

/* ---- commands ---- */

static int get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct sk_buff *msg;
	void *header;
	int err;

	msg = adp_reply_begin(info, &family, MESSAGE_BYTES, &header);
	if (IS_ERR(msg))
		return PTR_ERR(msg);
	mutex_lock(&adp_cameras_lock);
	err = nla_put_u32(msg, ADP_SELECT_A_ABI_VERSION, ADP_ABI_VERSION) ?: put_interfaces(msg) ?: put_market(msg);
	mutex_unlock(&adp_cameras_lock);
	return adp_reply_end(info, msg, header, err);
}

static int get_camera_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct adp_camera *camera;
	struct sk_buff *msg;
	void *header;
	u32 place;
	int err;

	err = place_of(info, &place);
	if (err)
		return err;
	msg = adp_reply_begin(info, &family, MESSAGE_BYTES, &header);
	if (IS_ERR(msg))
		return PTR_ERR(msg);
	mutex_lock(&adp_cameras_lock);
	camera = camera_at(info, place);
	err = camera ? put_camera(msg, camera, place) : -ENOENT;
	mutex_unlock(&adp_cameras_lock);
	return adp_reply_end(info, msg, header, err);
}

static int get_camera_start(struct netlink_callback *cb)
{
	cb->min_dump_alloc = MESSAGE_BYTES;
	return 0;
}

/* A configuration that changes meanwhile shows in part: each camera is one that was there when it was put. */
static int get_camera_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct adp_camera *camera;
	u32 place = cb->args[0];

	mutex_lock(&adp_cameras_lock);
	for (; (camera = adp_cameras_at(place)); place++) {
		void *header = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &family, NLM_F_MULTI,
					   ADP_SELECT_CMD_GET_CAMERA);

		if (!header)
			break;
		if (put_camera(skb, camera, place)) {
			genlmsg_cancel(skb, header);
			break;
		}
		genlmsg_end(skb, header);
	}
	mutex_unlock(&adp_cameras_lock);
	cb->args[0] = place;
	return skb->len;
}

/* All of it or nothing: what can fail comes before packets see anything new. */
static int configure(struct genl_info *info, const u32 *interfaces, u32 interface_count, const struct adp_camera_spec *specs,
		     u32 camera_count)
{
	struct adp_cameras *cameras;
	int err;

	mutex_lock(&adp_cameras_lock);
	cameras = adp_cameras_prepare(specs, camera_count, info->extack);
	if (IS_ERR(cameras)) {
		err = PTR_ERR(cameras);
		goto out;
	}
	err = adp_hooks_set(interfaces, interface_count, info->extack);
	if (err) {
		adp_cameras_abort(cameras);
		goto out;
	}
	adp_cameras_commit(cameras);
out:
	mutex_unlock(&adp_cameras_lock);
	return err;
}

static int configure_doit(struct sk_buff *skb, struct genl_info *info)
{
	u32 interfaces[ADP_SELECT_INTERFACES], interface_count, camera_count;
	struct adp_camera_spec *specs;
	int err;

	if (adp_need(info, ADP_SELECT_A_INTERFACES, "ADP_SELECT_A_INTERFACES") ||
	    adp_need(info, ADP_SELECT_A_CAMERAS, "ADP_SELECT_A_CAMERAS"))
		return -EINVAL;
	err = interfaces_of(info, interfaces, &interface_count);
	if (err)
		return err;
	specs = kvcalloc(ADP_SELECT_CAMERAS, sizeof(*specs), GFP_KERNEL);
	if (!specs)
		return -ENOMEM;
	err = cameras_of(info, specs, &camera_count) ?: configure(info, interfaces, interface_count, specs, camera_count);
	kvfree(specs);
	return err;
}

/* CLOCK_MONOTONIC, as of packets and samples. */
static u64 now_us(void)
{
	return ktime_get_ns() / NSEC_PER_USEC;
}

static int set_market_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct adp_select_market *m = &adp_select_market;
	u32 price, main_limit, used, sharing, main_late = 0;
	int err;

	err = number(info, ADP_SELECT_A_PRICE, "ADP_SELECT_A_PRICE", ADP_SELECT_PRICE_MAX_Q16, &price) ?:
	      number(info, ADP_SELECT_A_MAIN_LIMIT, "ADP_SELECT_A_MAIN_LIMIT", U32_MAX, &main_limit) ?:
	      number(info, ADP_SELECT_A_USED, "ADP_SELECT_A_USED", 2 * ADP_Q16_ONE, &used) ?:
	      number(info, ADP_SELECT_A_SHARING, "ADP_SELECT_A_SHARING", U32_MAX, &sharing) ?:
	      (info->attrs[ADP_SELECT_A_MAIN_LATE] ?
		       number(info, ADP_SELECT_A_MAIN_LATE, "ADP_SELECT_A_MAIN_LATE", ADP_Q16_ONE, &main_late) :
		       0);
	if (err)
		return err;
	mutex_lock(&adp_cameras_lock);
	/* Packets read each word by itself, and may see some of them changed before the others. */
	WRITE_ONCE(m->price_q16, price);
	WRITE_ONCE(m->main_limit, main_limit);
	WRITE_ONCE(m->used_q16, used);
	WRITE_ONCE(m->cameras, sharing);
	WRITE_ONCE(m->main_late_q16, main_late);
	WRITE_ONCE(m->time_us, now_us());
	mutex_unlock(&adp_cameras_lock);
	return 0;
}

struct seen {
	u32 objects;
	u32 confidence;
	u32 accuracy;
};

struct measured {
	u32 sub_worth;
	s32 gain;
};

static int seen_of(struct genl_info *info, struct seen *s)
{
	return number(info, ADP_SELECT_A_OBJECTS, "ADP_SELECT_A_OBJECTS", U32_MAX, &s->objects) ?:
	       number(info, ADP_SELECT_A_CONFIDENCE, "ADP_SELECT_A_CONFIDENCE", ADP_Q16_ONE, &s->confidence) ?:
	       number(info, ADP_SELECT_A_ACCURACY, "ADP_SELECT_A_ACCURACY", ADP_Q16_ONE, &s->accuracy);
}

static int measured_of(struct genl_info *info, struct measured *m)
{
	int err = number(info, ADP_SELECT_A_SUB_WORTH, "ADP_SELECT_A_SUB_WORTH", ADP_Q16_ONE, &m->sub_worth) ?:
		  adp_need(info, ADP_SELECT_A_GAIN, "ADP_SELECT_A_GAIN");

	if (err)
		return err;
	m->gain = nla_get_s32(info->attrs[ADP_SELECT_A_GAIN]);
	if (m->gain < -ADP_Q16_ONE || m->gain > ADP_Q16_ONE) {
		ADP_EXTACK(info->extack, "a gain is -65536 to 65536", ": %d", m->gain);
		NL_SET_BAD_ATTR(info->extack, info->attrs[ADP_SELECT_A_GAIN]);
		return -EINVAL;
	}
	return 0;
}

static int set_feedback_doit(struct sk_buff *skb, struct genl_info *info)
{
	bool has_seen = info->attrs[ADP_SELECT_A_OBJECTS] || info->attrs[ADP_SELECT_A_CONFIDENCE] ||
			info->attrs[ADP_SELECT_A_ACCURACY];
	bool has_measured = info->attrs[ADP_SELECT_A_SUB_WORTH] || info->attrs[ADP_SELECT_A_GAIN];
	struct adp_select_feedback *f;
	struct adp_camera *camera;
	struct measured measured;
	struct seen seen;
	int err;
	u32 place;

	err = place_of(info, &place);
	if (!err && has_seen)
		err = seen_of(info, &seen);
	if (!err && has_measured)
		err = measured_of(info, &measured);
	if (err)
		return err;
	if (!has_seen && !has_measured) {
		NL_SET_ERR_MSG(info->extack, "neither what was seen nor what was measured is in it");
		return -EINVAL;
	}
	mutex_lock(&adp_cameras_lock);
	camera = camera_at(info, place);
	if (!camera) {
		err = -ENOENT;
		goto out;
	}
	/* As with the market; the times come last. */
	f = &camera->feedback;
	if (has_seen) {
		WRITE_ONCE(f->objects, seen.objects);
		WRITE_ONCE(f->confidence_q16, seen.confidence);
		WRITE_ONCE(f->accuracy_q16, seen.accuracy);
		WRITE_ONCE(f->seen_us, now_us());
	}
	if (has_measured) {
		WRITE_ONCE(f->sub_worth_q16, measured.sub_worth);
		WRITE_ONCE(f->gain_q16, measured.gain);
		WRITE_ONCE(f->measured_us, now_us());
	}
out:
	mutex_unlock(&adp_cameras_lock);
	return err;
}

static const struct genl_ops ops[] = {
	{ .cmd = ADP_SELECT_CMD_GET, .flags = GENL_ADMIN_PERM, .doit = get_doit },
	{ .cmd = ADP_SELECT_CMD_GET_CAMERA,
	  .flags = GENL_ADMIN_PERM,
	  .start = get_camera_start,
	  .doit = get_camera_doit,
	  .dumpit = get_camera_dumpit },
	{ .cmd = ADP_SELECT_CMD_CONFIGURE, .flags = GENL_ADMIN_PERM, .doit = configure_doit },
	{ .cmd = ADP_SELECT_CMD_SET_MARKET, .flags = GENL_ADMIN_PERM, .doit = set_market_doit },
	{ .cmd = ADP_SELECT_CMD_SET_FEEDBACK, .flags = GENL_ADMIN_PERM, .doit = set_feedback_doit },
};

static struct genl_family family __ro_after_init = {
	.name = ADP_SELECT_GENL_NAME,
	.version = ADP_SELECT_GENL_VERSION,
	.maxattr = ADP_SELECT_A_MAX,
	.policy = policy,
	.ops = ops,
	.n_ops = ARRAY_SIZE(ops),
	/* Ours is a finer lock, and CONFIGURE waits for a grace period: the other families' users must not. */
	.parallel_ops = true,
	/* In the initial namespace only, as the interfaces. */
	.netnsok = false,
	.module = THIS_MODULE,
};

int adp_select_netlink_init(void)
{
	return genl_register_family(&family);
}

void adp_select_netlink_exit(void)
{
	genl_unregister_family(&family);
}
