/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The app `cc`: how fast the uplink's TCP socket sends. Features, action, reward and the sample's record, written once for
 * the BPF program, the kernel module and the simulator that the policy is trained in.
 *
 * The features are those of Aurora (Jay et al., "A Deep Reinforcement Learning Perspective on Internet Congestion Control",
 * ICML 2019): latency inflation, latency ratio and send ratio over the last 10 monitor intervals. A monitor interval is one
 * smoothed RTT, at least 10 ms. Per ACK only sums are kept; the network runs once per interval.
 *
 * Life of a flow: `start` (the rate doubles every round trip until the first loss or RTT rise), then `run` (the network
 * moves the rate once per interval). Without a valid snapshot the flow is in `fallback` (CUBIC) and goes to `run` at the
 * first interval that finds one.
 */
#ifndef ADAPATH_CC_H
#define ADAPATH_CC_H

#include "abi.h"
#include "cubic.h"
#include "fixed.h"

/* Changes with any change of meaning in features, action or record. A snapshot names the one that it was trained for. */
#define ADP_CC_SCHEMA 1

#define ADP_CC_HISTORY 10
#define ADP_CC_FEATURES 3
#define ADP_CC_INPUTS (ADP_CC_HISTORY * ADP_CC_FEATURES)
#define ADP_CC_OUTPUTS 1

/*
 * Codes of the features: real = (code - zero) / unit. The network is trained on these very codes.
 *   latency inflation: d RTT / d t, dimensionless
 *   latency ratio:     log2(mean RTT / minimum RTT)
 *   send ratio:        log2(packets sent / packets delivered)
 */
#define ADP_CC_INFLATION_UNIT 64
#define ADP_CC_INFLATION_ZERO 128
#define ADP_CC_LATENCY_UNIT 32
#define ADP_CC_LATENCY_ZERO 0
#define ADP_CC_SEND_UNIT 32
#define ADP_CC_SEND_ZERO 128

#define ADP_CC_INTERVAL_MIN_US 10000  /* Aurora's least; below it an interval holds too few ACKs to measure */
#define ADP_CC_DELACK_US 40000	      /* how late a receiver may acknowledge a lone packet */
#define ADP_CC_INTERVAL_MAX_US 200000 /* a bloated queue must not slow down the decisions that would drain it */
/* The output is clamped to [-1, 1] and moves the rate by e^(output * step): at most +22 % or -18 % an interval. */
#define ADP_CC_STEP_Q16 13107 /* 0.2 */
#define ADP_CC_ACTION_MAX_Q16 ADP_Q16_ONE
/* Bytes per second. */
#define ADP_CC_RATE_MIN 12500ULL	/* 100 kbit/s: a policy can't starve its flow below this */
#define ADP_CC_RATE_MAX 12500000000ULL /* 100 Gbit/s: rate * 2^16 stays below 2^50 */
#define ADP_CC_CWND_MIN 4		/* packets */
#define ADP_CC_CWND_MAX (1 << 20)	/* packets */

enum adp_cc_phase {
	ADP_CC_START = 0,
	ADP_CC_RUN = 1,
	ADP_CC_FALLBACK = 2,
};

/* adp_cc_sample.flags */
#define ADP_CC_FALLBACK_MADE 1u /* no snapshot: the fallback decided; output and noise are 0 */
#define ADP_CC_APP_LIMITED 2u	/* the application did not fill the pipe during most of the interval */
#define ADP_CC_START_MADE 4u	/* slow start: no network ran */

/* What one ACK says, from the kernel's own counters (struct tcp_sock and struct rate_sample). */
struct adp_cc_ack {
	adp_u64 now_us;
	adp_u32 rtt_us;	    /* 0 = this ACK gave no sample */
	adp_u32 srtt_us;    /* smoothed */
	adp_u32 min_rtt_us; /* over the kernel's window (tcp_min_rtt_wlen) */
	adp_u32 acked;	    /* packets newly delivered (rate_sample.acked_sacked) */
	adp_u32 lost;	    /* packets newly marked lost (rate_sample.losses) */
	adp_u32 delivered;  /* packets delivered since the flow began; wraps */
	adp_u32 sent;	    /* packets sent since the flow began, with retransmissions; wraps */
	adp_u32 in_flight;  /* packets */
	adp_u32 mss;	    /* bytes */
	adp_u32 app_limited; /* 0 or 1: the delivery-rate sample was app-limited */
};

/* What the last closed interval measured. */
struct adp_cc_interval {
	adp_u32 us;	    /* length */
	adp_u32 rtt_us;	    /* mean; the last known, fading, where the interval had no RTT sample */
	adp_u32 min_rtt_us;
	adp_u32 sent;	    /* packets */
	adp_u32 delivered;  /* packets */
	adp_u32 lost;	    /* packets */
	adp_u64 rate;	    /* the pacing rate that was in force, bytes/s */
	adp_u32 mss;	    /* bytes */
	adp_u32 app_limited; /* 0 or 1 */
};

/* State of one flow. Owned by its socket's lock; no CPU shares it. */
struct adp_cc_flow {
	adp_u64 id;	    /* unique on this machine while the pins live, from 1 */
	adp_u64 rate;	    /* pacing rate, bytes/s */
	adp_u64 bandwidth;  /* decaying maximum of the delivery rate, bytes/s: bounds the rate from above */
	adp_u64 start_us;   /* of the interval */
	adp_u64 rtt_sum_us; /* of the interval's samples */
	adp_u32 rtt_count;
	adp_u32 acks;
	adp_u32 limited_acks; /* of them, how many were app-limited */
	adp_u32 lost;
	adp_u32 sent_base;    /* counters at the interval's start */
	adp_u32 delivered_base;
	adp_u32 rtt_us;	      /* mean of the last interval with a sample */
	adp_u32 seq;	      /* decisions and fallback intervals so far; a gap in the log is a lost sample */
	adp_u32 slot;	      /* that the present decision uses (consistency `flow`: that the flow is bound to) */
	adp_u32 generation;
	adp_u32 phase;	      /* enum adp_cc_phase */
	adp_u32 slow_rounds;  /* start phase: rounds without growth of the delivery rate */
	adp_u32 local_port;   /* host order: tells flows apart for humans */
	adp_u32 remote_port;
	struct adp_cc_interval interval; /* the last closed one */
	struct adp_cubic cubic;
	adp_s32 output[ADP_MAX_OUTPUTS]; /* of the network, Q16; only the first is used */
	adp_u32 cwnd;			 /* packets; in force until the interval's end (start and run) */
	adp_u32 total_acks;		 /* since the flow began; wraps */
	adp_u8 input[ADP_CC_INPUTS];	 /* oldest interval first; within one: inflation, latency ratio, send ratio */
	adp_u8 pad[2];
};

/*
 * One decision and what was known at it. `interval` is what followed the previous decision of the same flow (seq - 1).
 * Everything needed to run the reference interpreter again is here: input -> output by `generation`'s snapshot.
 */
struct adp_cc_sample {
	adp_u64 time_us;    /* CLOCK_MONOTONIC, at the decision */
	adp_u64 flow;
	adp_u64 rate;	    /* bytes/s, after the action */
	struct adp_cc_interval interval;
	adp_u32 seq;
	adp_u32 generation; /* 0 with ADP_CC_FALLBACK_MADE or ADP_CC_START_MADE */
	adp_u32 slot;
	adp_u32 flags;
	adp_s32 output;	    /* raw, Q16, before noise and clamp */
	adp_s32 noise;	    /* Q16, added to the output */
	adp_s32 action;	    /* Q16, clamp(output + noise): what moved the rate */
	adp_u32 explore_q16; /* strength the noise was drawn with */
	adp_u16 local_port;
	adp_u16 remote_port;
	adp_u32 in_flight;  /* packets, at the decision */
	adp_u8 input[ADP_CC_INPUTS];
	adp_u8 pad[2];
};

ADP_STATIC_ASSERT(sizeof(struct adp_cc_interval) == 40, "no hidden padding in a shared record");
ADP_STATIC_ASSERT(sizeof(struct adp_cc_sample) == 136, "no hidden padding in a shared record");
ADP_STATIC_ASSERT(sizeof(struct adp_cc_flow) % 8 == 0, "no hidden padding in a shared record");

enum adp_cc_event {
	ADP_CC_NOTHING = 0,
	ADP_CC_INTERVAL_CLOSED = 1, /* features are in flow->input: decide */
};

ADP_INLINE void adp_cc_init(struct adp_cc_flow *f, adp_u64 now_us, adp_u32 mss, adp_u32 srtt_us, adp_u32 cwnd, adp_u32 sent,
			    adp_u32 delivered)
{
	adp_u32 rtt = srtt_us ? srtt_us : 100000; /* no sample yet: the sender waits one RTT for its first ACK anyway */
	int i;

	/* The storage outlives a change of the socket's congestion control and back: nothing of the last time may stay. */
	f->rtt_sum_us = 0;
	f->rtt_count = 0;
	f->acks = 0;
	f->limited_acks = 0;
	f->lost = 0;
	f->rtt_us = 0;
	f->slow_rounds = 0;
	f->total_acks = 0;
	f->generation = 0;
	f->cwnd = 0;
	f->interval.us = 0;
	f->interval.rtt_us = 0;
	f->interval.min_rtt_us = 0;
	f->interval.sent = 0;
	f->interval.delivered = 0;
	f->interval.lost = 0;
	f->interval.rate = 0;
	f->interval.mss = mss;
	f->interval.app_limited = 0;
	f->start_us = now_us;
	f->sent_base = sent;
	f->delivered_base = delivered;
	/* 10 packets per RTT; 10 * 2^16 * 10^6 < 2^40 */
	f->rate = (adp_u64)adp_clamp((adp_s64)((adp_u64)ADP_CUBIC_CWND_INIT * mss * 1000000 / rtt), ADP_CC_RATE_MIN,
				     ADP_CC_RATE_MAX);
	f->bandwidth = 0; /* nothing measured: the first rate is a guess and must not be what slow start ends with */
	f->phase = ADP_CC_START;
	for (i = 0; i < ADP_CC_HISTORY; i++) {
		f->input[i * ADP_CC_FEATURES] = ADP_CC_INFLATION_ZERO;
		f->input[i * ADP_CC_FEATURES + 1] = ADP_CC_LATENCY_ZERO;
		f->input[i * ADP_CC_FEATURES + 2] = ADP_CC_SEND_ZERO;
	}
	adp_cubic_init(&f->cubic, cwnd);
}

/* After a long silence the running interval says nothing about the path: begin it again. Idle for less is measured. */
#define ADP_CC_IDLE_US 1000000
ADP_INLINE void adp_cc_on_idle_restart(struct adp_cc_flow *f, adp_u64 now_us, adp_u32 sent, adp_u32 delivered)
{
	if (now_us - f->start_us < ADP_CC_IDLE_US)
		return;
	f->start_us = now_us;
	f->sent_base = sent;
	f->delivered_base = delivered;
	f->rtt_sum_us = 0;
	f->rtt_count = 0;
	f->acks = 0;
	f->limited_acks = 0;
	f->lost = 0;
}

/* Shift the history by one interval and append the codes of the one just closed. */
ADP_INLINE void adp_cc_push_features(struct adp_cc_flow *f, adp_u32 prev_rtt_us)
{
	const struct adp_cc_interval *v = &f->interval;
	adp_s64 inflation, latency, send;
	int i;

	/* (RTT now - RTT before) / interval; |diff| * 64 < 2^38. The one division of an interval. */
	inflation = 0;
	if (v->us && prev_rtt_us) {
		adp_u64 up = v->rtt_us >= prev_rtt_us;
		adp_u64 diff = up ? v->rtt_us - prev_rtt_us : prev_rtt_us - v->rtt_us;
		adp_u64 q = diff * ADP_CC_INFLATION_UNIT / v->us;

		inflation = up ? (adp_s64)q : -(adp_s64)q;
	}
	/* Q16 to Q5 by 2048, rounded. */
	latency = (adp_log2_q16(v->rtt_us) - adp_log2_q16(v->min_rtt_us) + 1024) >> 11;
	send = (adp_log2_q16((adp_u64)v->sent + 1) - adp_log2_q16((adp_u64)v->delivered + 1) + 1024) >> 11;

	for (i = 0; i < ADP_CC_INPUTS - ADP_CC_FEATURES; i++)
		f->input[i] = f->input[i + ADP_CC_FEATURES];
	f->input[ADP_CC_INPUTS - 3] = (adp_u8)adp_clamp(inflation + ADP_CC_INFLATION_ZERO, 0, 255);
	f->input[ADP_CC_INPUTS - 2] = (adp_u8)adp_clamp(latency + ADP_CC_LATENCY_ZERO, 0, 255);
	f->input[ADP_CC_INPUTS - 1] = (adp_u8)adp_clamp(send + ADP_CC_SEND_ZERO, 0, 255);
}

ADP_INLINE adp_u64 adp_cc_delivery_rate(const struct adp_cc_interval *v)
{
	/* packets * mss * 10^6 < 2^20 * 2^16 * 2^20 = 2^56 */
	return v->us ? adp_min_u64(v->delivered, ADP_CC_CWND_MAX) * v->mss * 1000000ULL / v->us : 0;
}

/* Does the interval end with this ACK? */
ADP_INLINE int adp_cc_due(const struct adp_cc_flow *f, const struct adp_cc_ack *a)
{
	adp_u64 length = adp_min_u64(adp_max_u64(a->srtt_us, ADP_CC_INTERVAL_MIN_US), ADP_CC_INTERVAL_MAX_US);

	return a->now_us - f->start_us >= length;
}

/* One ACK: adds to the interval's sums and closes it when it is long enough. */
ADP_INLINE enum adp_cc_event adp_cc_on_ack(struct adp_cc_flow *f, const struct adp_cc_ack *a)
{
	struct adp_cc_interval *v = &f->interval;
	adp_u32 prev_rtt_us;

	if (a->rtt_us) {
		f->rtt_sum_us += a->rtt_us;
		f->rtt_count++;
	}
	f->acks++;
	f->limited_acks += a->app_limited ? 1 : 0;
	f->lost += a->lost;
	if (f->phase == ADP_CC_FALLBACK)
		adp_cubic_on_ack(&f->cubic, a->now_us, a->acked, a->lost, a->delivered, a->in_flight, a->rtt_us,
				 a->min_rtt_us);
	if (!adp_cc_due(f, a))
		return ADP_CC_NOTHING;

	prev_rtt_us = f->rtt_us;
	if (f->rtt_count)
		f->rtt_us = (adp_u32)(f->rtt_sum_us / f->rtt_count);
	else if (!f->rtt_us)
		f->rtt_us = a->srtt_us;
	else if (a->min_rtt_us && a->min_rtt_us < f->rtt_us)
		/* Not measured: the old value fades, or a flow that only retransmits would back off from it for ever. */
		f->rtt_us -= (f->rtt_us - a->min_rtt_us) / 4;
	v->us = (adp_u32)adp_min_u64(a->now_us - f->start_us, 0xffffffffu);
	/*
	 * Packets further apart than a delayed ACK's timer are acknowledged one by one, each that much late (Linux:
	 * TCP_DELACK_MIN, 40 ms; two packets together are answered at once). Read as queueing, it would hold a slow flow slow.
	 */
	if ((adp_u64)(a->delivered - f->delivered_base) * ADP_CC_DELACK_US < v->us)
		f->rtt_us = (adp_u32)adp_max_u64(f->rtt_us - adp_min_u64(f->rtt_us, ADP_CC_DELACK_US),
						 adp_min_u64(a->min_rtt_us, f->rtt_us));
	v->rtt_us = f->rtt_us;
	v->min_rtt_us = (adp_u32)adp_min_u64(a->min_rtt_us ? a->min_rtt_us : f->rtt_us, f->rtt_us);
	v->sent = a->sent - f->sent_base;
	v->delivered = a->delivered - f->delivered_base;
	v->lost = f->lost;
	v->rate = f->rate;
	v->mss = a->mss;
	v->app_limited = f->limited_acks * 2 > f->acks;
	adp_cc_push_features(f, prev_rtt_us);

	/*
	 * Decays by 1/16 an interval, since a low delivery rate may only mean that little was sent. With a standing queue it
	 * is the path's own rate, and what it was before is no longer of interest: then by 1/4.
	 */
	f->bandwidth -= v->rtt_us > 2 * v->min_rtt_us + 20000 ? f->bandwidth >> 2 : f->bandwidth >> 4;
	f->bandwidth = adp_max_u64(f->bandwidth, adp_cc_delivery_rate(v));

	f->start_us = a->now_us;
	f->sent_base = a->sent;
	f->delivered_base = a->delivered;
	f->rtt_sum_us = 0;
	f->rtt_count = 0;
	f->acks = 0;
	f->limited_acks = 0;
	f->lost = 0;
	return ADP_CC_INTERVAL_CLOSED;
}

/*
 * The rate's safe range, whatever the network says: not below half of what the path just delivered (nor the absolute floor),
 * not above twice the recent best (so that an idle application's rate does not run away).
 */
ADP_INLINE adp_u64 adp_cc_clamp_rate(const struct adp_cc_flow *f, adp_u64 rate)
{
	adp_u64 floor = adp_max_u64(adp_cc_delivery_rate(&f->interval) / 2, ADP_CC_RATE_MIN);
	adp_u64 ceiling = adp_max_u64(2 * f->bandwidth, 4 * ADP_CC_RATE_MIN);

	rate = adp_max_u64(rate, floor);
	rate = adp_min_u64(rate, adp_max_u64(ceiling, floor));
	return adp_min_u64(rate, ADP_CC_RATE_MAX);
}

/*
 * Slow start, once per interval. Returns 1 while it goes on; on its end the flow is in `run` and the present interval
 * already belongs to the network. Ends at the first loss, at an RTT a quarter (and 4 ms) over the least, or after 3
 * intervals in which the delivery rate did not follow (the application is the limit, or the queue hides the rise).
 */
ADP_INLINE int adp_cc_start_step(struct adp_cc_flow *f)
{
	const struct adp_cc_interval *v = &f->interval;
	adp_u64 delivery = adp_cc_delivery_rate(v);

	if (f->phase != ADP_CC_START)
		return 0;
	/*
	 * What an interval delivers was sent one RTT before, at half the present rate. So half means that the path follows
	 * and a quarter that it does not; the limit lies between, or rounding of a few packets would end the start.
	 */
	f->slow_rounds = delivery >= v->rate / 8 * 3 ? 0 : f->slow_rounds + 1;
	/* The first interval of a flow ends with its first ACK and has measured no rate to end at. */
	if (f->seq && (v->lost || v->rtt_us > v->min_rtt_us + v->min_rtt_us / 4 + 4000 || f->slow_rounds >= 3)) {
		f->phase = ADP_CC_RUN;
		f->rate = adp_cc_clamp_rate(f, adp_max_u64(f->bandwidth, ADP_CC_RATE_MIN));
		return 0;
	}
	f->rate = adp_min_u64(2 * f->rate, ADP_CC_RATE_MAX);
	return 1;
}

/*
 * Approximately Gaussian noise of the given standard deviation from 32 random bits: the sum of four uniform bytes
 * (Irwin-Hall) has mean 510 and variance 4 (256^2 - 1) / 12, standard deviation 147.8. 65536 / 147.8 = 443.4 in Q16 / 1.
 */
ADP_INLINE adp_s32 adp_cc_noise(adp_u32 random, adp_u32 strength_q16)
{
	adp_s64 sum = (adp_s64)(random & 255) + ((random >> 8) & 255) + ((random >> 16) & 255) + (random >> 24) - 510;

	/* |sum| <= 510, * 443 < 2^18, * strength < 2^18 + 17 */
	return (adp_s32)(sum * 443 * (adp_s64)adp_min_u64(strength_q16, ADP_Q16_ONE) >> 16);
}

/* The action: clamp output + noise, move the rate, clamp the rate. Returns the action (Q16). */
ADP_INLINE adp_s32 adp_cc_act(struct adp_cc_flow *f, adp_s32 output, adp_s32 noise)
{
	adp_s32 action = (adp_s32)adp_clamp((adp_s64)output + noise, -ADP_CC_ACTION_MAX_Q16, ADP_CC_ACTION_MAX_Q16);
	/* rate < 2^34, exp < 2^17 */
	adp_u64 rate = f->rate * adp_exp_q16((adp_s32)((adp_s64)action * ADP_CC_STEP_Q16 >> 16)) >> 16;

	f->rate = adp_cc_clamp_rate(f, rate);
	return action;
}

/* cwnd as a cap over the pacing rate: rate * RTT * 2, in packets. In fallback, CUBIC's own. */
ADP_INLINE adp_u32 adp_cc_cwnd(const struct adp_cc_flow *f, adp_u32 srtt_us, adp_u32 mss)
{
	adp_u64 bytes;

	if (f->phase == ADP_CC_FALLBACK)
		return f->cubic.cwnd;
	/* The smoothed RTT of a bloated queue would let the queue justify itself: at most 1 s counts. 2^34 * 2^20 < 2^63 */
	bytes = f->rate * adp_min_u64(srtt_us ? srtt_us : 100000, 1000000) / 1000000 * 2;
	return (adp_u32)adp_clamp((adp_s64)(bytes / (mss ? mss : 1)) + 1, ADP_CC_CWND_MIN, ADP_CC_CWND_MAX);
}

/* Pacing rate of the fallback, as the kernel's own: 1.2 cwnd / RTT, twice that in slow start. */
ADP_INLINE void adp_cc_fallback_rate(struct adp_cc_flow *f, adp_u32 srtt_us, adp_u32 mss)
{
	adp_u64 gain = f->cubic.cwnd < f->cubic.ssthresh ? 2048 : 1229; /* Q10 */

	/* 2^20 * 2^16 * 2^11 * 2^20 >> 10 would overflow: shift before the last factor. */
	f->rate = adp_clamp((adp_s64)(((adp_u64)f->cubic.cwnd * mss * gain >> 10) * 1000000ULL / (srtt_us ? srtt_us : 100000)),
			    ADP_CC_RATE_MIN, ADP_CC_RATE_MAX);
}

/* No snapshot: from the present rate to CUBIC's window. Idempotent. */
ADP_INLINE void adp_cc_enter_fallback(struct adp_cc_flow *f, adp_u32 srtt_us, adp_u32 mss)
{
	if (f->phase == ADP_CC_FALLBACK)
		return;
	adp_cubic_init(&f->cubic, (adp_u32)adp_min_u64(f->rate * adp_min_u64(srtt_us, 1000000) / 1000000 / (mss ? mss : 1),
						       ADP_CUBIC_CWND_MAX));
	/* A flow that already found its rate does not start over. */
	if (f->phase == ADP_CC_RUN)
		f->cubic.ssthresh = f->cubic.cwnd;
	f->phase = ADP_CC_FALLBACK;
}

/* A snapshot is there (again): the network goes on from the rate that CUBIC had. Idempotent. */
ADP_INLINE void adp_cc_leave_fallback(struct adp_cc_flow *f)
{
	if (f->phase != ADP_CC_FALLBACK)
		return;
	f->phase = f->cubic.cwnd < f->cubic.ssthresh ? ADP_CC_START : ADP_CC_RUN;
	f->slow_rounds = 0;
}

ADP_INLINE void adp_cc_fill_sample(const struct adp_cc_flow *f, struct adp_cc_sample *s, adp_u64 now_us, adp_u32 in_flight,
				   adp_u32 flags, adp_s32 noise, adp_s32 action, adp_u32 explore_q16)
{
	int i;

	s->time_us = now_us;
	s->flow = f->id;
	s->rate = f->rate;
	s->interval = f->interval;
	s->seq = f->seq;
	s->generation = f->generation;
	s->slot = f->slot;
	s->flags = flags | (f->interval.app_limited ? ADP_CC_APP_LIMITED : 0);
	s->output = flags ? 0 : f->output[0];
	s->noise = noise;
	s->action = action;
	s->explore_q16 = explore_q16;
	s->local_port = (adp_u16)f->local_port;
	s->remote_port = (adp_u16)f->remote_port;
	s->in_flight = in_flight;
	for (i = 0; i < ADP_CC_INPUTS; i++)
		s->input[i] = f->input[i];
	s->pad[0] = 0;
	s->pad[1] = 0;
}

/*
 * Reward of one interval, Q16: log2(delivery rate / 16 KiB/s) - log2(RTT / least RTT) / 2 - 8 * loss fraction.
 * A log of Kleinrock's power (throughput over delay), so that links of any rate weigh alike, with delay at half weight:
 * a tenth of the rate is worth a fifth of the RTT. At full weight a learned policy leaves a quarter of an LTE uplink unused,
 * since keeping a jittery queue empty pays more than filling the link. An interval that delivered nothing counts as one
 * packet a second would. Integers, so that daemon, trainer and simulator agree.
 */
ADP_INLINE adp_s32 adp_cc_reward(const struct adp_cc_interval *v)
{
	adp_u64 rate = adp_max_u64(adp_cc_delivery_rate(v), v->mss ? v->mss : 1);
	adp_s64 loss = v->lost ? (adp_s64)v->lost * ADP_Q16_ONE / ((adp_u64)v->lost + v->delivered) : 0;

	return (adp_s32)(adp_log2_q16(rate) - (14 << 16) - (adp_log2_q16(v->rtt_us) - adp_log2_q16(v->min_rtt_us)) / 2 -
			 8 * loss);
}

#endif
