// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * adapath_select.ko: the app select at the ingress of the cameras' interfaces, as a netfilter hook. What a packet means, what a decision
 * does and what a sample holds is in include/adapath/select.h, shared with the BPF program; this file only finds the camera and
 * connects it to the verdict.
 *
 * What is not a camera's, or not RTP with its payload type, is accepted untouched, as is what passes.
 *
 * Packets come in softirq, in an RCU read-side section of netfilter's that keeps cameras alive. The next packet in sequence of the
 * picture that came last takes neither lock nor clock; where anything begins its camera's lock is taken, and held over a decision: the
 * other rendition's packets, on another CPU, wait for about a microsecond, at most once a round.
 */
#include <linux/module.h>
#include <linux/netfilter.h>
#include <linux/random.h>
#include <linux/skbuff.h>
#include <linux/timekeeping.h>
#include <net/genetlink.h>

#include "adapath.h"
#include "compat.h"
#include "select_cameras.h"
#include "select_hooks.h"
#include "select_netlink.h"

/* Samples a CPU's ring holds: 4 s of all cameras with chunks of a second, in 200 KiB. */
#define RING_RECORDS 1024
#define WAKEUP_BYTES (64 * 1024)

static struct adp_app *app;

/* A frame from its Ethernet header on; a VLAN tag that the kernel has taken out of it is not seen, as in tc. */
struct frame {
	struct adp_view view;
	u32 bytes; /* of the whole of it */
	u32 reach; /* of them, those that are looked at */
	/* Where not all of these are in the packet's linear part: */
	u8 copy[ADP_SELECT_REACH];
};

static bool reaches(const struct frame *f)
{
	return f->view.end - f->view.data >= f->reach;
}

static void look(const struct sk_buff *skb, struct frame *f)
{
	f->view.data = skb->data - skb->mac_len;
	f->view.end = skb->data + skb_headlen(skb);
	f->bytes = skb->len + skb->mac_len;
	f->reach = min_t(u32, f->bytes, ADP_SELECT_REACH);
}

/* Copied, not pulled: the packet stays as it is, and nothing is allocated. */
static bool look_further(const struct sk_buff *skb, struct frame *f)
{
	if (skb_copy_bits(skb, -(int)skb->mac_len, f->copy, f->reach))
		return false;
	f->view.data = f->copy;
	f->view.end = f->copy + f->reach;
	return true;
}

static bool find_udp(const struct sk_buff *skb, struct frame *f, struct adp_udp *udp)
{
	enum adp_packet packet;

	if (likely(adp_packet_plain(&f->view, f->bytes, udp) == ADP_PACKET_UDP))
		return true;
	packet = adp_packet_parse(&f->view, f->bytes, udp);
	/* Headers beyond the linear part: copied only where it could be a camera's. */
	if (packet == ADP_PACKET_MALFORMED && !reaches(f) && look_further(skb, f))
		packet = adp_packet_parse(&f->view, f->bytes, udp);
	return packet == ADP_PACKET_UDP;
}

/* A chunk's first packet made a decision due. Under the camera's lock, so that no other decision of it comes between. */
static noinline enum adp_select_verdict decide(struct adp_camera *camera, const struct adp_select_packet *p)
{
	struct adp_select_camera *c = &camera->state;
	struct adp_select_sample sample;
	enum adp_select_verdict verdict;
	u32 objective[ADP_OBJECTIVES];
	s32 out[ADP_SELECT_OUTPUTS];
	struct adp_decision d;
	u32 flags, i;

	for (i = 0; i < ADP_OBJECTIVES; i++)
		objective[i] = adp_objective(app, i);
	flags = adp_select_prepare(c, &adp_select_market, &camera->feedback, objective, p->now_us, get_random_u32());
	c->slot = ADP_SLOT_NONE;
	c->generation = 0;
	if (!flags && adp_query(app, c->id, c->input, out, &d))
		flags = ADP_SELECT_FALLBACK_MADE;
	if (!flags) {
		c->slot = d.slot;
		c->generation = d.generation;
		c->offer.explore_q16 = d.explore_q16;
		/* As the network said: adp_select_choose() keeps them to their ranges. */
		for (i = 0; i < ADP_SELECT_OUTPUTS; i++)
			c->output[i] = d.raw[i];
	}
	if (flags & ADP_SELECT_FALLBACK_MADE)
		this_cpu_inc(adp_stats(app)->fallbacks);
	verdict = adp_select_settle(c, &flags, p->bytes);
	adp_select_fill_sample(c, &sample, ktime_get_ns() / NSEC_PER_USEC, flags);
	adp_emit(app, &sample);
	return verdict;
}

static unsigned int on_packet(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	const struct adp_select_port *port;
	enum adp_select_verdict verdict;
	struct adp_select_packet p = {};
	struct adp_camera *camera;
	struct adp_udp udp = {};
	struct frame frame;

	look(skb, &frame);
	if (!find_udp(skb, &frame, &udp))
		return NF_ACCEPT;
	camera = adp_cameras_find(&udp, &port);
	if (!camera)
		return NF_ACCEPT;
	if (!reaches(&frame) && !look_further(skb, &frame))
		return NF_ACCEPT;
	if (adp_select_read(&frame.view, udp.offset, udp.bytes, port->payload_type, &p)) {
		/* Without the lock, and both renditions may come at once. */
		atomic64_inc((atomic64_t *)&camera->state.counters.others);
		return NF_ACCEPT;
	}
	p.rendition = port->rendition & 1;
	p.bytes = udp.bytes + 8;
	verdict = adp_select_quick(&camera->state.streams[p.rendition], &p);
	if (verdict == ADP_SELECT_LOOK) {
		p.now_us = ktime_get_coarse_ns() / NSEC_PER_USEC;
		/* Bottom halves are off here: only another CPU can hold it. */
		spin_lock(&camera->lock);
		if (p.contents & ADP_H264_MALFORMED)
			verdict = adp_select_on_malformed(&camera->state, p.rendition);
		else
			verdict = adp_select_on_packet(&camera->state, &p);
		if (verdict == ADP_SELECT_DECIDE)
			verdict = decide(camera, &p);
		spin_unlock(&camera->lock);
	}
	return verdict == ADP_SELECT_PASS ? NF_ACCEPT : NF_DROP;
}

static const struct adp_app_desc select_app = {
	.name = "select",
	.schema = ADP_SELECT_SCHEMA,
	.inputs = ADP_SELECT_INPUTS,
	.outputs = ADP_SELECT_OUTPUTS,
	.lowest = { 0, -ADP_Q16_ONE },
	.highest = { ADP_Q16_ONE, ADP_Q16_ONE },
	.record_bytes = sizeof(struct adp_select_sample),
	.ring_records = RING_RECORDS,
	.wakeup_bytes = WAKEUP_BYTES,
	.owner = THIS_MODULE,
};

static int __init adapath_select_init(void)
{
	int err;

	app = adp_app_register(&select_app);
	if (IS_ERR(app))
		return PTR_ERR(app);
	err = adp_hooks_init(on_packet);
	if (err)
		goto err_app;
	/* Last: from here on there may be cameras. */
	err = adp_select_netlink_init();
	if (err)
		goto err_hooks;
	return 0;

err_hooks:
	adp_hooks_exit();
err_app:
	adp_app_unregister(app);
	return err;
}

static void __exit adapath_select_exit(void)
{
	adp_select_netlink_exit();
	adp_hooks_exit();
	adp_cameras_exit();
	adp_app_unregister(app);
}

module_init(adapath_select_init);
module_exit(adapath_select_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("Selection of cameras' renditions by Adapath snapshots");
MODULE_VERSION("0.1.0");
/*
 * Loaded by the name of its netlink family, and by no MODULE_ALIAS_ADAPATH_APP: the core would ask for it from within a request, and
 * the registration of a family waits for all requests that are under way.
 */
MODULE_ALIAS_GENL_FAMILY(ADP_SELECT_GENL_NAME);
