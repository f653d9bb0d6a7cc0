// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The app select at tc ingress of the cameras' interface. What a packet means, what a decision does and what a sample holds is in
 * include/adapath/select.h; this file only finds the camera and connects it to the verdict.
 *
 * A packet costs one lookup by its sender's address and its port, and where anything begins its camera's lock. A decision is three programs in a row, joined
 * by tail calls with constant indices, exactly as in cc.bpf.c:
 *
 *   adp_select_ingress  per packet; at a chunk's first packet it takes the active slot's index, once
 *   adp_select_net      generated, one per slot: runs that slot's network on that slot's parameters
 *   adp_select_apply    choice, verdict, sample
 *
 * All three run in one RCU read-side section (the classifier's), which pairs with the daemon's grace period before it writes to a
 * slot again.
 *
 * What is not a camera's, or not RTP with its payload type, goes on to the next filter, as does what passes.
 */
#include <adapath/bpf_slots.h>
#include <adapath/select_bpf_maps.h>

ADP_BPF_LICENSE("Dual MIT/GPL");

struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_ARRAY);
	ADP_MAP_UINT(map_flags, ADP_BPF_F_MMAPABLE);
	ADP_MAP_UINT(max_entries, 1);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, struct adp_control);
} adp_select_control_map ADP_SEC(".maps");

struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_PROG_ARRAY);
	ADP_MAP_UINT(max_entries, ADP_SLOTS);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, adp_u32);
} adp_select_nets ADP_SEC(".maps");

struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_PERCPU_ARRAY);
	ADP_MAP_UINT(max_entries, 1);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, struct adp_stats);
} adp_select_stats ADP_SEC(".maps");

/* max_entries is set before load. */
struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_RINGBUF);
	ADP_MAP_UINT(max_entries, 1 << 20);
} adp_select_ring ADP_SEC(".maps");

struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_ARRAY);
	ADP_MAP_UINT(map_flags, ADP_BPF_F_MMAPABLE);
	ADP_MAP_UINT(max_entries, ADP_SELECT_PORTS);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, struct adp_select_port);
} adp_select_ports ADP_SEC(".maps");

struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_ARRAY);
	ADP_MAP_UINT(map_flags, ADP_BPF_F_MMAPABLE);
	ADP_MAP_UINT(max_entries, 1);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, struct adp_select_market);
} adp_select_market_map ADP_SEC(".maps");

struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_ARRAY);
	ADP_MAP_UINT(map_flags, ADP_BPF_F_MMAPABLE);
	ADP_MAP_UINT(max_entries, ADP_SELECT_CAMERAS);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, struct adp_select_feedback);
} adp_select_feedback_map ADP_SEC(".maps");

static const adp_u32 zero;

#define COUNT(field) ADP_COUNT_BY(&adp_select_stats, &zero, field, 1)

ADP_INLINE void look(const struct adp_skb *skb, struct adp_view *v)
{
	v->data = (const adp_u8 *)(long)skb->data;
	v->end = (const adp_u8 *)(long)skb->data_end;
}

/* Can the first `bytes` be read? */
ADP_INLINE int reaches(const struct adp_skb *skb, adp_u32 bytes)
{
	return skb->data_end - skb->data >= bytes;
}

/*
 * The shared code as global functions: the verifier takes each on its own, with nothing known of its arguments, so that the offsets
 * that the headers may end at do not multiply with what may come behind them. The null checks are what it asks for in return.
 */
#define GLOBAL __attribute__((noinline))

GLOBAL int adp_select_bpf_udp(struct adp_skb *skb, struct adp_udp *udp)
{
	struct adp_view view;

	if (!udp)
		return ADP_PACKET_OTHER;
	look(skb, &view);
	return (int)adp_packet_parse(&view, skb->len, udp);
}

GLOBAL int adp_select_bpf_rtp(struct adp_skb *skb, const struct adp_udp *udp, adp_u32 payload_type, struct adp_select_packet *p)
{
	struct adp_view view;

	if (!udp || !p)
		return -1;
	look(skb, &view);
	return adp_select_read(&view, udp->offset, udp->bytes, payload_type, p);
}

ADP_INLINE int verdict_of(enum adp_select_verdict verdict)
{
	return verdict == ADP_SELECT_PASS ? ADP_TC_ACT_UNSPEC : ADP_TC_ACT_SHOT;
}

/*
 * The slot for the decision now due. The active index is loaded once; what is read from the slot afterwards depends on it by
 * address, which orders it behind the daemon's release store.
 */
ADP_INLINE adp_u32 slot_for(const struct adp_control *control, adp_u64 camera)
{
	adp_u32 active = *(const volatile adp_u32 *)&control->active;
	adp_u32 canary = *(const volatile adp_u32 *)&control->canary;

	if (active != ADP_SLOT_NONE && canary != ADP_SLOT_NONE &&
	    adp_flow_in_share(camera, *(const volatile adp_u32 *)&control->canary_share_q16))
		return canary;
	return active;
}

/* Makes the choice: the network's, or the fallback's where `flags` say so. */
ADP_INLINE int settle(struct adp_select_entry *entry, adp_u32 flags, adp_u32 bytes, struct adp_select_sample *sample, adp_u64 now_us)
{
	struct adp_select_camera *c = &entry->camera;
	enum adp_select_verdict verdict;

	adp_bpf_spin_lock(&entry->lock);
	verdict = adp_select_settle(c, &flags, bytes);
	if (sample)
		adp_select_fill_sample(c, sample, now_us, flags);
	adp_bpf_spin_unlock(&entry->lock);
	return verdict_of(verdict);
}

/*
 * The end of a decision, and one sample into the ring. Its reader is woken past the fill mark, otherwise it comes by itself once an
 * interval.
 */
ADP_INLINE int conclude(struct adp_select_entry *entry, adp_u32 flags, adp_u32 bytes)
{
	struct adp_select_sample *sample;
	const struct adp_control *control;
	adp_u64 wakeup = ADP_BPF_RB_NO_WAKEUP;
	int verdict;

	if (flags & ADP_SELECT_FALLBACK_MADE)
		COUNT(fallbacks);
	if (!(flags & ADP_SELECT_NOT_DECIDED))
		COUNT(decisions);
	sample = adp_bpf_ringbuf_reserve(&adp_select_ring, sizeof(*sample), 0);
	/* One comparison, with all that follows on either side of it: 6.1's verifier does not remember it for a second. */
	if (!sample) {
		COUNT(samples_lost);
		return settle(entry, flags, bytes, 0, 0);
	}
	verdict = settle(entry, flags, bytes, sample, adp_bpf_ktime_get_ns() / 1000);
	control = adp_bpf_map_lookup_elem(&adp_select_control_map, &zero);
	if (control && control->wakeup_bytes &&
	    adp_bpf_ringbuf_query(&adp_select_ring, ADP_BPF_RB_AVAIL_DATA) >= control->wakeup_bytes)
		wakeup = ADP_BPF_RB_FORCE_WAKEUP;
	adp_bpf_ringbuf_submit(sample, wakeup);
	COUNT(samples);
	return verdict;
}

/* A chunk's first packet made a decision due, it is ours, and `flags` is what adp_select_prepare() said. */
ADP_INLINE int decide(struct adp_skb *skb, struct adp_select_entry *entry, const struct adp_control *control, adp_u32 camera,
		      adp_u32 flags, adp_u32 bytes)
{
	struct adp_select_camera *c = &entry->camera;
	adp_u32 index = slot_for(control, c->id);
	const struct adp_slot *slot = adp_bpf_map_lookup_elem(&adp_select_slots, &index);

	c->slot = index;
	c->generation = 0;
	if (slot) {
		c->generation = slot->generation;
		c->offer.explore_q16 = slot->explore_q16;
	}
	if (!flags && !c->generation)
		flags = ADP_SELECT_FALLBACK_MADE;
	if (flags)
		return conclude(entry, flags, bytes);

	skb->cb[ADP_SELECT_CB_CAMERA] = camera;
	skb->cb[ADP_SELECT_CB_BYTES] = bytes;
	ADP_TAIL_CALL_SLOT(skb, &adp_select_nets, index);
	/* A slot without its program: the daemon never makes such a slot active. Counted, and the camera goes on. */
	COUNT(program_missing);
	return conclude(entry, ADP_SELECT_FALLBACK_MADE, bytes);
}

ADP_INLINE const struct adp_select_port *port_of(const struct adp_udp *udp)
{
	adp_u32 home = adp_select_home(&udp->source, udp->destination_port), index = home, i, reach;
	const struct adp_select_port *p = adp_bpf_map_lookup_elem(&adp_select_ports, &index);

	if (!p)
		return 0;
	if (adp_select_port_is(p, &udp->source, udp->destination_port))
		return p;
	reach = p->reach;
	for (i = 1; i < ADP_SELECT_PROBES && i <= reach; i++) {
		index = (home + i) & (ADP_SELECT_PORTS - 1);
		p = adp_bpf_map_lookup_elem(&adp_select_ports, &index);
		if (p && adp_select_port_is(p, &udp->source, udp->destination_port))
			return p;
	}
	return 0;
}

/* Of frames that are not plain. 0 with the UDP payload found, else -1. */
ADP_INLINE int find_udp(struct adp_skb *skb, adp_u32 reach, struct adp_udp *udp)
{
	int packet = adp_select_bpf_udp(skb, udp);

	/* Headers beyond the linear part: pulled only where it could be a camera's, others are not touched. */
	if (packet == ADP_PACKET_MALFORMED && !reaches(skb, reach)) {
		if (adp_bpf_skb_pull_data(skb, reach))
			return -1;
		packet = adp_select_bpf_udp(skb, udp);
	}
	return packet == ADP_PACKET_UDP ? 0 : -1;
}

ADP_SEC("tc") int adp_select_ingress(struct adp_skb *skb)
{
	adp_u32 reach = skb->len < ADP_SELECT_REACH ? skb->len : ADP_SELECT_REACH;
	const struct adp_select_port *port;
	struct adp_select_entry *entry;
	enum adp_select_verdict verdict;
	struct adp_select_packet p = { 0 };
	struct adp_udp udp = { 0 };
	const struct adp_select_feedback *feedback;
	const struct adp_select_market *market;
	const struct adp_control *control;
	struct adp_view view;
	adp_u32 camera, random = 0, flags = 0;
	int plain, none;

	look(skb, &view);
	plain = reaches(skb, reach) && adp_packet_plain(&view, skb->len, &udp) == ADP_PACKET_UDP;
	if (!plain && find_udp(skb, reach, &udp))
		return ADP_TC_ACT_UNSPEC;
	port = udp.destination_port ? port_of(&udp) : 0; /* 0 is what free places have */
	if (!port)
		return ADP_TC_ACT_UNSPEC;
	camera = port->camera;
	entry = adp_bpf_map_lookup_elem(&adp_select_cameras, &camera);
	if (!entry)
		return ADP_TC_ACT_UNSPEC;
	if (plain) {
		none = adp_select_read(&view, ADP_PLAIN_BYTES, udp.bytes, port->payload_type, &p);
	} else {
		if (!reaches(skb, reach) && adp_bpf_skb_pull_data(skb, reach))
			return ADP_TC_ACT_UNSPEC;
		none = adp_select_bpf_rtp(skb, &udp, port->payload_type, &p);
	}
	if (none) {
		__sync_fetch_and_add(&entry->camera.counters.others, 1);
		return ADP_TC_ACT_UNSPEC;
	}
	p.rendition = port->rendition & 1;
	p.bytes = udp.bytes + 8;
	verdict = adp_select_quick(&entry->camera.streams[p.rendition], &p);
	if (verdict != ADP_SELECT_LOOK)
		return verdict_of(verdict);

	p.now_us = adp_bpf_ktime_get_coarse_ns() / 1000;
	control = adp_bpf_map_lookup_elem(&adp_select_control_map, &zero);
	market = adp_bpf_map_lookup_elem(&adp_select_market_map, &zero);
	feedback = adp_bpf_map_lookup_elem(&adp_select_feedback_map, &camera);
	if (!control)
		return ADP_TC_ACT_SHOT;
	if (p.contents & ADP_H264_BEGINS)
		random = adp_bpf_get_prandom_u32();
	adp_bpf_spin_lock(&entry->lock);
	if (p.contents & ADP_H264_MALFORMED)
		verdict = adp_select_on_malformed(&entry->camera, p.rendition);
	else
		verdict = adp_select_on_packet(&entry->camera, &p);
	if (verdict == ADP_SELECT_DECIDE)
		flags = adp_select_prepare(&entry->camera, market, feedback, control->objective, p.now_us, random);
	adp_bpf_spin_unlock(&entry->lock);
	if (verdict != ADP_SELECT_DECIDE)
		return verdict_of(verdict);
	return decide(skb, entry, control, camera, flags, p.bytes);
}

/* Reached only by tail calls. */
ADP_SEC("tc") int adp_select_apply(struct adp_skb *skb)
{
	adp_u32 camera = skb->cb[ADP_SELECT_CB_CAMERA], bytes = skb->cb[ADP_SELECT_CB_BYTES];
	struct adp_select_entry *entry = adp_bpf_map_lookup_elem(&adp_select_cameras, &camera);

	skb->cb[ADP_SELECT_CB_CAMERA] = 0;
	skb->cb[ADP_SELECT_CB_BYTES] = 0;
	if (!entry)
		return ADP_TC_ACT_SHOT;
	return conclude(entry, 0, bytes);
}
