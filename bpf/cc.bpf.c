// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The app cc as a TCP congestion control in BPF (struct_ops). What an ACK means, what a decision does and what a sample
 * holds is in include/adapath/cc.h; this file only connects it to the socket.
 *
 * A decision is three programs in a row, joined by tail calls with constant indices (a direct jump each, patched when the
 * program behind it changes):
 *
 *   adp_cc_control  per ACK; at an interval's end it takes the active slot's index, once
 *   adp_cc_net      generated, one per slot: runs that slot's network on that slot's parameters
 *   adp_cc_apply    noise, clamp, rate, sample
 *
 * The program belongs to the slot, as the parameters do: one store of the active index therefore switches both, and a decision
 * that has begun with a slot ends with it. All three run in one RCU read-side section (the struct_ops trampoline's), which
 * pairs with the daemon's grace period before it writes to a slot again.
 */
#include <adapath/bpf_slots.h>
#include <adapath/cc_answers.h>
#include <adapath/cc_bpf_maps.h>

#include "kernel.h"

ADP_BPF_LICENSE("Dual MIT/GPL");

/*
 * Compat: since 6.10 (commit 57bfc7605ca5, "tcp: Add new args for cong_control in tcp_congestion_ops") cong_control() gets
 * ack and flag before the rate sample. Set before load from the kernel's BTF; the branch not taken is never verified.
 */
const volatile _Bool cong_control_has_ack = 1;
/* A flow keeps the snapshot that it began with (consistency `flow`). */
const volatile _Bool flow_consistency = 0;
/*
 * The network runs in userspace (the policy `userspace`, for comparison): a decision that is due becomes a question in the ring, the
 * flow goes on as it is, and the answer is applied at the first ACK that finds it (cc_answers.h). A question is open while
 * flow->generation, the generation that was asked, is not 0.
 */
const volatile _Bool ask_userspace = 0;

struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_ARRAY);
	ADP_MAP_UINT(map_flags, ADP_BPF_F_MMAPABLE);
	ADP_MAP_UINT(max_entries, 1);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, struct adp_control);
} adp_cc_control_map ADP_SEC(".maps");

struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_PROG_ARRAY);
	ADP_MAP_UINT(max_entries, ADP_SLOTS);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, adp_u32);
} adp_cc_nets ADP_SEC(".maps");

struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_PERCPU_ARRAY);
	ADP_MAP_UINT(max_entries, 1);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, struct adp_stats);
} adp_cc_stats ADP_SEC(".maps");

/* max_entries is set before load. */
struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_RINGBUF);
	ADP_MAP_UINT(max_entries, 1 << 20);
} adp_cc_ring ADP_SEC(".maps");

/* See cc_answers.h; ADP_CC_ANSWERS entries where userspace is asked, set before load. */
struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_ARRAY);
	ADP_MAP_UINT(map_flags, ADP_BPF_F_MMAPABLE);
	ADP_MAP_UINT(max_entries, 1);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, adp_u64);
} adp_cc_answers ADP_SEC(".maps");

/* The last flow number given out. */
struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_ARRAY);
	ADP_MAP_UINT(max_entries, 1);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, adp_u64);
} adp_cc_flow_ids ADP_SEC(".maps");

static const adp_u32 zero;

#define COUNT_BY(field, n) ADP_COUNT_BY(&adp_cc_stats, &zero, field, n)
#define COUNT(field) COUNT_BY(field, 1)

/* In assembly, or the compiler merges both loads into one at a computed offset, which the verifier refuses for ctx. */
ADP_INLINE const struct rate_sample *rate_sample_of(const adp_u64 *ctx)
{
	const struct rate_sample *rs;

	if (cong_control_has_ack)
		__asm__ volatile("%0 = *(u64 *)(%1 + 24)" : "=r"(rs) : "r"(ctx));
	else
		__asm__ volatile("%0 = *(u64 *)(%1 + 8)" : "=r"(rs) : "r"(ctx));
	return rs;
}

ADP_INLINE adp_u32 in_flight(const struct tcp_sock *tp)
{
	return tp->packets_out - (tp->sacked_out + tp->lost_out) + tp->retrans_out;
}

ADP_INLINE adp_u32 least_rtt_us(const struct tcp_sock *tp)
{
	adp_u32 v = tp->rtt_min.s[0].v;

	return v == ~0u ? 0 : v; /* the kernel's "no sample yet" */
}

/*
 * The shared code as global functions: the verifier takes each on its own, with nothing known of its arguments, so that the
 * branches of one do not multiply with those of the next (inlined, the whole passes a million steps). The null checks are
 * what it asks for in return.
 */
#define GLOBAL __attribute__((noinline))

GLOBAL int adp_cc_bpf_cubic_ack(struct adp_cc_flow *f, const struct adp_cc_ack *ack)
{
	if (!f || !ack)
		return 0;
	adp_cc_cubic_ack(f, ack);
	return 0;
}

GLOBAL int adp_cc_bpf_close_interval(struct adp_cc_flow *f, const struct adp_cc_ack *ack)
{
	if (!f || !ack)
		return 0;
	adp_cc_close_interval(f, ack);
	return 0;
}

GLOBAL int adp_cc_bpf_prepare(struct adp_cc_flow *f, adp_u64 now_us, adp_u32 delivered)
{
	if (!f)
		return 0;
	return adp_cc_prepare(f, now_us, delivered);
}

GLOBAL int adp_cc_bpf_fall_back(struct adp_cc_flow *f, adp_u32 srtt_us, adp_u32 mss)
{
	if (!f)
		return 0;
	adp_cc_enter_fallback(f, srtt_us, mss);
	adp_cc_fallback_rate(f, srtt_us, mss);
	return 0;
}

GLOBAL int adp_cc_bpf_act(struct adp_cc_flow *f, adp_s32 output, adp_s32 noise)
{
	if (!f)
		return 0;
	return adp_cc_act(f, output, noise);
}

GLOBAL int adp_cc_bpf_set_cwnd(struct adp_cc_flow *f, adp_u32 srtt_us, adp_u32 mss)
{
	if (!f)
		return 0;
	adp_cc_set_cwnd(f, srtt_us, mss);
	return 0;
}

/*
 * The sums of the running interval lie in the socket itself, so that an ACK at which nothing is due looks up no map. Where more is
 * to be done they are copied to the flow's state, which the shared code works on, and back.
 */
ADP_INLINE struct adp_cc_sums *sums_of(void *sk)
{
	return (struct adp_cc_sums *)((struct inet_connection_sock *)sk)->icsk_ca_priv;
}
ADP_STATIC_ASSERT(sizeof(struct adp_cc_sums) <= sizeof(((struct inet_connection_sock *)0)->icsk_ca_priv), "fits the socket");

ADP_INLINE void take_sums(struct adp_cc_flow *f, const struct adp_cc_sums *p)
{
	f->sums = *p;
}

ADP_INLINE void leave_sums(const struct adp_cc_flow *f, struct adp_cc_sums *p)
{
	*p = f->sums;
}

/* The kernel lowers the window by itself on a timeout (tcp_enter_loss), so ours is put back at every ACK. */
ADP_INLINE void set_cwnd(void *sk, adp_u32 cwnd)
{
	struct tcp_sock *tp = sk;

	tp->snd_cwnd = cwnd < tp->snd_cwnd_clamp ? cwnd : tp->snd_cwnd_clamp;
}

/* What the flow's present state says, to the socket: pacing rate, window, and the sums. */
ADP_INLINE void set_socket(void *sk, const struct adp_cc_flow *f)
{
	struct sock *s = sk;
	adp_u64 most = s->sk_max_pacing_rate;

	s->sk_pacing_rate = f->rate < most ? f->rate : most;
	set_cwnd(sk, f->sums.cwnd);
	leave_sums(f, sums_of(sk));
}

/* One sample into the ring; the reader is woken by a question or past the fill mark, otherwise it comes by itself once an interval. */
ADP_INLINE void emit_sample(const struct adp_cc_flow *f, const struct tcp_sock *tp, adp_u32 flags, adp_s32 noise,
			    adp_s32 action, adp_u32 explore_q16)
{
	const struct adp_control *control = adp_bpf_map_lookup_elem(&adp_cc_control_map, &zero);
	struct adp_cc_sample *sample = adp_bpf_ringbuf_reserve(&adp_cc_ring, sizeof(*sample), 0);
	adp_u64 wakeup = ADP_BPF_RB_NO_WAKEUP;

	if (!sample) {
		COUNT(samples_lost);
		return;
	}
	adp_cc_fill_sample(f, sample, tp->tcp_mstamp, in_flight(tp), flags, noise, action, explore_q16);
	if (flags & ADP_CC_ASKED)
		wakeup = ADP_BPF_RB_FORCE_WAKEUP;
	else if (control && control->wakeup_bytes &&
	    adp_bpf_ringbuf_query(&adp_cc_ring, ADP_BPF_RB_AVAIL_DATA) >= control->wakeup_bytes)
		wakeup = ADP_BPF_RB_FORCE_WAKEUP;
	adp_bpf_ringbuf_submit(sample, wakeup);
	COUNT(samples);
}

ADP_INLINE void bind_slot(struct adp_cc_flow *f, adp_u32 index)
{
	struct adp_slot *slot = adp_bpf_map_lookup_elem(&adp_cc_slots, &index);

	if (slot)
		__sync_fetch_and_add(&slot->bound, 1);
	f->slot = slot ? index : ADP_SLOT_NONE;
}

ADP_INLINE void unbind_slot(struct adp_cc_flow *f)
{
	adp_u32 index = f->slot;
	struct adp_slot *slot = adp_bpf_map_lookup_elem(&adp_cc_slots, &index);

	if (slot)
		__sync_fetch_and_add(&slot->bound, -1);
	f->slot = ADP_SLOT_NONE;
}

/*
 * The slot for the decision now due. The active index is loaded once; what is read from the slot afterwards depends on it by
 * address, which orders it behind the daemon's release store. With flow consistency the flow's own slot stays, and
 * `bound` keeps it from being reused.
 */
ADP_INLINE adp_u32 slot_for(struct adp_cc_flow *f)
{
	const struct adp_control *control = adp_bpf_map_lookup_elem(&adp_cc_control_map, &zero);
	adp_u32 active = control ? *(const volatile adp_u32 *)&control->active : ADP_SLOT_NONE;

	if (active == ADP_SLOT_NONE)
		return active;
	if (!flow_consistency) {
		adp_u32 canary = *(const volatile adp_u32 *)&control->canary;

		if (canary != ADP_SLOT_NONE && adp_flow_in_share(f->id, *(const volatile adp_u32 *)&control->canary_share_q16))
			return canary;
		return active;
	}
	if (f->slot == ADP_SLOT_NONE)
		bind_slot(f, active);
	return f->slot;
}

ADP_SEC("struct_ops/init") int adp_cc_init_flow(adp_u64 *ctx)
{
	void *sk = (void *)ctx[0];
	struct tcp_sock *tp = sk;
	struct sock *s = sk;
	struct adp_cc_flow *f;
	adp_u64 *last;

	f = adp_bpf_sk_storage_get(&adp_cc_flows, sk, 0, ADP_BPF_SK_STORAGE_GET_F_CREATE);
	if (!f)
		return 0; /* out of memory: cong_control() leaves the socket as it is */
	last = adp_bpf_map_lookup_elem(&adp_cc_flow_ids, &zero);
	f->id = last ? __sync_fetch_and_add(last, 1) + 1 : 0;
	f->slot = ADP_SLOT_NONE;
	f->seq = 0;
	f->local_port = s->__sk_common.skc_num;
	f->remote_port = __builtin_bswap16(s->__sk_common.skc_dport);
	adp_cc_init(f, tp->tcp_mstamp, tp->mss_cache, tp->srtt_us >> 3, tp->snd_cwnd, tp->data_segs_out, tp->delivered);
	adp_cc_bpf_set_cwnd(f, tp->srtt_us >> 3, tp->mss_cache);
	/* No fq qdisc is needed: TCP's own timer paces (since 4.13). Writable for BPF since 6.0 (commit 41c95dd6a604). */
	if (s->sk_pacing_status == SK_PACING_NONE)
		s->sk_pacing_status = SK_PACING_NEEDED;
	set_socket(sk, f);
	COUNT(flows_opened);
	return 0;
}

ADP_SEC("struct_ops/release") int adp_cc_release_flow(adp_u64 *ctx)
{
	void *sk = (void *)ctx[0];
	struct adp_cc_flow *f = adp_bpf_sk_storage_get(&adp_cc_flows, sk, 0, 0);

	if (!f)
		return 0;
	if (flow_consistency)
		unbind_slot(f);
	COUNT(flows_closed);
	return 0;
}

/* What the operator wants now. */
ADP_INLINE void take_objective(struct adp_cc_flow *f)
{
	const struct adp_control *control = adp_bpf_map_lookup_elem(&adp_cc_control_map, &zero);

	if (control)
		adp_cc_set_objective(f, *(const volatile adp_u32 *)&control->objective[ADP_CC_THROUGHPUT_WEIGHT],
				     *(const volatile adp_u32 *)&control->objective[ADP_CC_DELAY_WEIGHT_INDEX],
				     *(const volatile adp_u32 *)&control->objective[ADP_CC_LOSS_WEIGHT_INDEX]);
}

/* Nothing decides by a network: CUBIC goes on, or begins. */
ADP_INLINE void fall_back(void *sk, struct adp_cc_flow *f, adp_u32 srtt_us, adp_u32 mss)
{
	adp_cc_bpf_fall_back(f, srtt_us, mss);
	take_objective(f); /* for the sample's reward */
	f->generation = 0;
	adp_cc_bpf_set_cwnd(f, srtt_us, mss);
	set_socket(sk, f);
	emit_sample(f, sk, ADP_CC_FALLBACK_MADE, 0, 0, 0);
	f->seq++;
	COUNT(fallbacks);
}

/* The network has run: f->output is its answer to f->input. */
ADP_INLINE void apply(void *sk, struct adp_cc_flow *f, adp_u32 flags)
{
	struct tcp_sock *tp = sk;
	adp_u32 index = f->slot, explore;
	const struct adp_slot *slot = adp_bpf_map_lookup_elem(&adp_cc_slots, &index);
	adp_s32 noise = 0, action;

	if (!slot)
		return;
	explore = slot->explore_q16;
	if (explore)
		noise = adp_cc_noise(adp_bpf_get_prandom_u32(), explore);
	action = adp_cc_bpf_act(f, f->output[0], noise);
	adp_cc_bpf_set_cwnd(f, tp->srtt_us >> 3, tp->mss_cache);
	set_socket(sk, f);
	emit_sample(f, tp, flags, noise, action, explore);
	f->seq++;
	COUNT(decisions);
}

/* Has the open question, the flow's last sample, been answered? */
ADP_INLINE void look_for_answer(void *sk, struct adp_cc_flow *f)
{
	adp_u32 index = adp_cc_answer_index(f->id);
	const volatile adp_u64 *word = adp_bpf_map_lookup_elem(&adp_cc_answers, &index);
	adp_u64 answer;

	if (!word)
		return;
	answer = *word;
	if (answer >> 32 != adp_cc_answer_tag(f->id, f->seq - 1))
		return;
	f->output[0] = (adp_s32)answer;
	apply(sk, f, ADP_CC_ANSWERED);
	f->generation = 0;
}

ADP_SEC("struct_ops/cong_control") int adp_cc_control(adp_u64 *ctx)
{
	void *sk = (void *)ctx[0];
	struct tcp_sock *tp = sk;
	const struct rate_sample *rs = rate_sample_of(ctx);
	struct adp_cc_sums *p = sums_of(sk);
	const struct adp_slot *slot;
	struct adp_cc_flow *f;
	struct adp_cc_ack ack;
	adp_u32 index, flags;
	int due;
	long rtt_us;

	if (!p->live)
		return 0;
	rtt_us = rs->rtt_us;
	ack.now_us = tp->tcp_mstamp;
	ack.rtt_us = rtt_us > 0 ? (adp_u32)rtt_us : 0;
	ack.srtt_us = tp->srtt_us >> 3;
	ack.min_rtt_us = least_rtt_us(tp);
	ack.acked = rs->acked_sacked;
	ack.lost = rs->losses > 0 ? rs->losses : 0;
	ack.delivered = tp->delivered;
	ack.sent = tp->data_segs_out;
	ack.in_flight = in_flight(tp);
	ack.mss = tp->mss_cache;
	ack.app_limited = rs->is_app_limited;

	/* Before this ACK is counted: the answer is to what was known when it was asked for. */
	if (ask_userspace) {
		f = adp_bpf_sk_storage_get(&adp_cc_flows, sk, 0, 0);
		if (f && f->generation) {
			take_sums(f, p);
			look_for_answer(sk, f);
		}
	}
	adp_cc_count_ack(p, &ack);
	due = adp_cc_due(p, &ack);
	if (!due && !p->cubic) {
		set_cwnd(sk, p->cwnd);
		return 0;
	}
	f = adp_bpf_sk_storage_get(&adp_cc_flows, sk, 0, 0);
	if (!f)
		return 0;
	take_sums(f, p);
	if (f->sums.cubic) {
		adp_cc_bpf_cubic_ack(f, &ack);
		p->cwnd = f->sums.cwnd;
	}
	if (!due) {
		set_cwnd(sk, p->cwnd);
		return 0;
	}
	COUNT_BY(acks, f->sums.acks);
	adp_cc_bpf_close_interval(f, &ack);
	leave_sums(f, p);

	index = slot_for(f);
	slot = adp_bpf_map_lookup_elem(&adp_cc_slots, &index);
	if (!slot || !slot->generation) {
		fall_back(sk, f, ack.srtt_us, ack.mss);
		return 0;
	}
	adp_cc_leave_fallback(f);
	take_objective(f);
	flags = adp_cc_bpf_prepare(f, ack.now_us, ack.delivered);
	if (flags) {
		f->generation = 0;
		adp_cc_bpf_set_cwnd(f, ack.srtt_us, ack.mss);
		set_socket(sk, f);
		emit_sample(f, tp, flags, 0, 0, 0);
		f->seq++;
		return 0;
	}
	f->slot = index;
	f->generation = slot->generation;
	if (ask_userspace) {
		adp_cc_bpf_set_cwnd(f, ack.srtt_us, ack.mss);
		set_socket(sk, f);
		emit_sample(f, tp, ADP_CC_ASKED, 0, 0, 0);
		f->seq++;
		return 0;
	}
	ADP_TAIL_CALL_SLOT(ctx, &adp_cc_nets, index);
	/* A slot without its program: the daemon never makes such a slot active. Counted, and the flow goes on. */
	COUNT(program_missing);
	fall_back(sk, f, ack.srtt_us, ack.mss);
	return 0;
}

/* Reached only by tail calls; loaded like the network programs. */
ADP_SEC("adp_net/cong_control") int adp_cc_apply(adp_u64 *ctx)
{
	void *sk = (void *)ctx[0];
	struct adp_cc_flow *f = adp_bpf_sk_storage_get(&adp_cc_flows, sk, 0, 0);

	if (f)
		apply(sk, f, 0);
	return 0;
}

/* As BBR does: the loss response is the rate's, not the window's. */
ADP_SEC("struct_ops/ssthresh") int adp_cc_ssthresh(adp_u64 *ctx)
{
	const struct tcp_sock *tp = (void *)ctx[0];

	return tp->snd_ssthresh;
}

ADP_SEC("struct_ops/undo_cwnd") int adp_cc_undo_cwnd(adp_u64 *ctx)
{
	const struct tcp_sock *tp = (void *)ctx[0];

	return tp->snd_cwnd;
}

ADP_SEC("struct_ops/cwnd_event") int adp_cc_cwnd_event(adp_u64 *ctx)
{
	void *sk = (void *)ctx[0];
	const struct tcp_sock *tp = sk;
	struct adp_cc_sums *p = sums_of(sk);
	struct adp_cc_flow *f;

	if ((adp_u32)ctx[1] != CA_EVENT_TX_START || !p->live || !adp_cc_was_idle(p, tp->tcp_mstamp))
		return 0;
	f = adp_bpf_sk_storage_get(&adp_cc_flows, sk, 0, 0);
	if (!f)
		return 0;
	COUNT_BY(acks, p->acks);
	take_sums(f, p);
	adp_cc_on_idle_restart(f, tp->tcp_mstamp, tp->data_segs_out, tp->delivered);
	leave_sums(f, p);
	return 0;
}

/*
 * Not a link (SEC ".struct_ops.link" needs 6.4): registered by the map's update, unregistered by its deletion, so that one
 * object serves 6.1 too. The name is set before load.
 */
ADP_SEC(".struct_ops") struct tcp_congestion_ops adp_cc_ops = {
	.init = (void *)adp_cc_init_flow,
	.release = (void *)adp_cc_release_flow,
	.cong_control = (void *)adp_cc_control,
	.ssthresh = (void *)adp_cc_ssthresh,
	.undo_cwnd = (void *)adp_cc_undo_cwnd,
	.cwnd_event = (void *)adp_cc_cwnd_event,
	.name = "adapath",
};
