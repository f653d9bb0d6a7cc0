// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The yardstick for what an ACK may cost: CUBIC (RFC 9438) as a congestion control in BPF, doing per ACK what the kernel's own
 * does, with the kernel's own callbacks: a look at the RTT, HyStart (RFC 9406) while in slow start, the window's curve at most
 * 32 times a second as long as the window stands still, and the Reno-friendly region. Its state lies in the socket itself
 * (icsk_ca_priv), as the kernel's does: no map is looked up.
 *
 * Measured by adapath-scale, used for nothing else. The app's fallback is include/adapath/cubic.h.
 */
#include <adapath/bpf_min.h>
#include <adapath/fixed.h>

ADP_BPF_LICENSE("Dual MIT/GPL");

/* As in bpf/kernel.h: only what is touched, relocated against the running kernel. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct inet_connection_sock {
	adp_u64 icsk_ca_priv[13];
};

struct tcp_sock {
	adp_u64 tcp_mstamp; /* us */
	adp_u32 snd_una;
	adp_u32 snd_nxt;
	adp_u32 snd_cwnd;
	adp_u32 snd_cwnd_cnt;
	adp_u32 snd_cwnd_clamp;
	adp_u32 snd_ssthresh;
	adp_u32 prior_cwnd;
	adp_u32 max_packets_out;
};

struct ack_sample {
	adp_s32 rtt_us;
};

#pragma clang attribute pop

struct sock;
struct tcp_congestion_ops {
	adp_u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, adp_u32 ack, adp_u32 acked);
	void (*set_state)(struct sock *sk, adp_u8 new_state);
	void (*cwnd_event)(struct sock *sk, adp_u32 event);
	void (*in_ack_event)(struct sock *sk, adp_u32 flags);
	void (*pkts_acked)(struct sock *sk, const struct ack_sample *sample);
	adp_u32 (*undo_cwnd)(struct sock *sk);
	char name[16];
	void (*init)(struct sock *sk);
};

#define SOL_TCP 6
#define TCP_BPF_SNDCWND_CLAMP 1002
#define CA_EVENT_TX_START 0
#define TCP_CA_LOSS 4
ADP_BPF_HELPER long (*const adp_bpf_setsockopt)(void *sk, int level, int name, void *value, int length) = (void *)49;

/*
 * The window at which every flow is held, in packets; 0 = none. Kept by the socket (also under other congestion controls), and
 * sets ssthresh too, so that a flow at its clamp is window-limited and in congestion avoidance: the case that costs the most.
 */
const volatile adp_u32 window_clamp = 0;

#define BETA_Q10 717	   /* 0.7 */
#define RECOMPUTE_US 31250 /* 1/32 s */
#define CURVE_MAX_MS 20000
#define HYSTART_LOW_WINDOW 16
#define HYSTART_SAMPLES 8
#define HYSTART_DELAY_MIN_US 4000
#define HYSTART_DELAY_MAX_US 16000

/* In icsk_ca_priv: 104 bytes at most. */
struct cubic {
	adp_u64 epoch_us;     /* start of the present curve; 0 = none */
	adp_u64 computed_us;  /* when `packets_per_step` was last computed ... */
	adp_u64 quiet_us;     /* last loss: RTT samples of the next 10 ms tell of the recovery */
	adp_u32 computed_for; /* ... and for which window */
	adp_u32 packets_per_step; /* acknowledged, for one packet more of window */
	adp_u32 w_max;	      /* window at the last reduction */
	adp_u32 origin;	      /* the curve's plateau */
	adp_u32 k_ms;	      /* time from the epoch to the plateau */
	adp_u32 acked;	      /* since the epoch, for the Reno-friendly window */
	adp_u32 reno_window;
	adp_u32 rtt_min_us;
	adp_u32 round_end;    /* HyStart: sequence number that ends the round */
	adp_u32 round_rtt_us;
	adp_u32 round_samples;
	adp_u32 exit_found;
};
ADP_STATIC_ASSERT(sizeof(struct cubic) <= 104, "the kernel has no more room in a socket");

ADP_INLINE struct cubic *state_of(void *sk)
{
	return (struct cubic *)((struct inet_connection_sock *)sk)->icsk_ca_priv;
}

ADP_INLINE void new_curve(struct cubic *c)
{
	c->epoch_us = 0;
	c->computed_us = 0;
	c->computed_for = 0;
	c->packets_per_step = 0;
	c->acked = 0;
	c->reno_window = 0;
}

ADP_INLINE void new_round(struct cubic *c, const struct tcp_sock *tp)
{
	c->round_end = tp->snd_nxt;
	c->round_rtt_us = ~0u;
	c->round_samples = 0;
}

ADP_SEC("struct_ops/init") int cubic_init(adp_u64 *ctx)
{
	void *sk = (void *)ctx[0];
	struct cubic *c = state_of(sk);
	int clamp = window_clamp;

	new_curve(c);
	c->quiet_us = 0;
	c->w_max = 0;
	c->origin = 0;
	c->k_ms = 0;
	c->rtt_min_us = 0;
	c->exit_found = 0;
	new_round(c, sk);
	if (clamp)
		adp_bpf_setsockopt(sk, SOL_TCP, TCP_BPF_SNDCWND_CLAMP, &clamp, sizeof(clamp));
	return 0;
}

/* The curve: how many packets have to be acknowledged for one more of window. */
ADP_INLINE void compute_step(struct cubic *c, adp_u32 cwnd, adp_u32 acked, adp_u64 now_us)
{
	adp_u64 step, reno_step;
	adp_s64 d, target;

	c->acked += acked;
	if (c->computed_for == cwnd && now_us - c->computed_us <= RECOMPUTE_US)
		return;
	c->computed_for = cwnd;
	c->computed_us = now_us;
	if (!c->epoch_us) {
		c->epoch_us = now_us;
		c->acked = acked;
		c->reno_window = cwnd;
		c->k_ms = c->w_max > cwnd ? adp_cbrt((adp_u64)(c->w_max - cwnd) * 2500000000ULL) : 0;
		c->origin = c->w_max > cwnd ? c->w_max : cwnd;
	}
	/* Where the curve will be one RTT from now. */
	d = (adp_s64)((now_us - c->epoch_us + c->rtt_min_us) / 1000) - (adp_s64)c->k_ms;
	d = adp_clamp(d, -CURVE_MAX_MS, CURVE_MAX_MS);
	/* C d^3 with C = 0.4, d in ms; 440 = 0.4e-9 * 2^40 */
	target = (adp_s64)c->origin + (d * d * d * 440 >> 40);
	step = target > (adp_s64)cwnd ? cwnd / (adp_u64)(target - cwnd) : 100ULL * cwnd;
	/* Nothing is known yet of the path: at most 5 % a round trip. */
	if (!c->w_max && step > 20)
		step = 20;
	/* Reno-friendly region: a packet more for every cwnd / alpha acknowledged; alpha = 3 (1 - beta) / (1 + beta) = 0.53 */
	reno_step = (adp_u64)cwnd * 1934 >> 10;
	if (reno_step && c->acked > reno_step) {
		c->reno_window += (adp_u32)(c->acked / reno_step);
		c->acked = (adp_u32)(c->acked % reno_step);
	}
	if (c->reno_window > cwnd && step > cwnd / (c->reno_window - cwnd))
		step = cwnd / (c->reno_window - cwnd);
	c->packets_per_step = (adp_u32)adp_max_u64(step, 2);
}

ADP_SEC("struct_ops/cong_avoid") int cubic_avoid(adp_u64 *ctx)
{
	struct tcp_sock *tp = (void *)ctx[0];
	adp_u32 acked = (adp_u32)ctx[2], cwnd = tp->snd_cwnd, credit;
	struct cubic *c = state_of(tp);

	if (cwnd < tp->snd_ssthresh) {
		adp_u32 room = tp->snd_ssthresh - cwnd, take = acked < room ? acked : room;

		if (cwnd >= 2 * tp->max_packets_out)
			return 0;
		cwnd += take;
		acked -= take;
		tp->snd_cwnd = cwnd < tp->snd_cwnd_clamp ? cwnd : tp->snd_cwnd_clamp;
		if (!acked)
			return 0;
	} else if (tp->max_packets_out < cwnd) {
		return 0; /* the window was not the limit */
	}
	compute_step(c, cwnd, acked, tp->tcp_mstamp);
	credit = tp->snd_cwnd_cnt;
	if (credit >= c->packets_per_step) {
		credit = 0;
		cwnd++;
	}
	credit += acked;
	if (credit >= c->packets_per_step && c->packets_per_step) {
		adp_u32 more = credit / c->packets_per_step;

		credit -= more * c->packets_per_step;
		cwnd += more;
	}
	tp->snd_cwnd_cnt = credit;
	tp->snd_cwnd = cwnd < tp->snd_cwnd_clamp ? cwnd : tp->snd_cwnd_clamp;
	return 0;
}

ADP_SEC("struct_ops/pkts_acked") int cubic_acked(adp_u64 *ctx)
{
	struct tcp_sock *tp = (void *)ctx[0];
	const struct ack_sample *sample = (void *)ctx[1];
	struct cubic *c = state_of(tp);
	adp_s32 rtt_us = sample->rtt_us;
	adp_u32 threshold;

	if (rtt_us < 0)
		return 0;
	if (c->quiet_us && tp->tcp_mstamp - c->quiet_us < 10000)
		return 0;
	if (!c->rtt_min_us || (adp_u32)rtt_us < c->rtt_min_us)
		c->rtt_min_us = rtt_us ? (adp_u32)rtt_us : 1;
	if (c->exit_found || tp->snd_cwnd >= tp->snd_ssthresh || tp->snd_cwnd < HYSTART_LOW_WINDOW)
		return 0;
	if ((adp_s32)(tp->snd_una - c->round_end) > 0)
		new_round(c, tp);
	if ((adp_u32)rtt_us < c->round_rtt_us)
		c->round_rtt_us = (adp_u32)rtt_us;
	if (++c->round_samples < HYSTART_SAMPLES)
		return 0;
	threshold = c->rtt_min_us + (adp_u32)adp_clamp(c->rtt_min_us >> 3, HYSTART_DELAY_MIN_US, HYSTART_DELAY_MAX_US);
	if (c->round_rtt_us > threshold) {
		c->exit_found = 1;
		tp->snd_ssthresh = tp->snd_cwnd;
	}
	return 0;
}

ADP_SEC("struct_ops/ssthresh") int cubic_ssthresh(adp_u64 *ctx)
{
	struct tcp_sock *tp = (void *)ctx[0];
	struct cubic *c = state_of(tp);
	adp_u32 cwnd = tp->snd_cwnd;

	new_curve(c);
	c->quiet_us = tp->tcp_mstamp;
	/* Fast convergence: (1 + beta) / 2 */
	c->w_max = cwnd < c->w_max ? (adp_u32)((adp_u64)cwnd * 870 >> 10) : cwnd;
	return (int)adp_max_u64((adp_u64)cwnd * BETA_Q10 >> 10, 2);
}

ADP_SEC("struct_ops/undo_cwnd") int cubic_undo_cwnd(adp_u64 *ctx)
{
	const struct tcp_sock *tp = (void *)ctx[0];

	return (int)adp_max_u64(tp->snd_cwnd, tp->prior_cwnd);
}

ADP_SEC("struct_ops/set_state") int cubic_set_state(adp_u64 *ctx)
{
	struct tcp_sock *tp = (void *)ctx[0];
	struct cubic *c = state_of(tp);

	if ((adp_u8)ctx[1] != TCP_CA_LOSS)
		return 0;
	new_curve(c);
	c->w_max = 0;
	c->exit_found = 0;
	new_round(c, tp);
	return 0;
}

/* The curve's time stands still while nothing is sent. */
ADP_SEC("struct_ops/cwnd_event") int cubic_event(adp_u64 *ctx)
{
	struct tcp_sock *tp = (void *)ctx[0];
	struct cubic *c = state_of(tp);
	adp_u64 last = c->computed_us;

	if ((adp_u32)ctx[1] == CA_EVENT_TX_START && c->epoch_us && last && tp->tcp_mstamp > last)
		c->epoch_us += tp->tcp_mstamp - last;
	return 0;
}

/* Nothing, at every ACK: what the kernel's counting of a run takes by itself. No part of CUBIC. */
ADP_SEC("struct_ops/in_ack_event") int empty_run(adp_u64 *ctx)
{
	(void)ctx;
	return 0;
}

ADP_SEC(".struct_ops") struct tcp_congestion_ops cubic_ops = {
	.init = (void *)cubic_init,
	.ssthresh = (void *)cubic_ssthresh,
	.cong_avoid = (void *)cubic_avoid,
	.set_state = (void *)cubic_set_state,
	.cwnd_event = (void *)cubic_event,
	.in_ack_event = (void *)empty_run,
	.pkts_acked = (void *)cubic_acked,
	.undo_cwnd = (void *)cubic_undo_cwnd,
	.name = "adp_scale_cubic",
};
