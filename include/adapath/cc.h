/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The app `cc`: how fast the uplink's TCP socket sends. Features, action, reward and the sample's record, written once for
 * the BPF program, the kernel module and the simulator that the policy is trained in.
 *
 * What moves is the window, and the pacing rate follows it. A window bounds what may stand in the queue by itself, however fast a
 * radio link falls, and gives way at once when it rises again, since ACKs then come sooner; a rate does neither until it is
 * decided anew, an RTT later.
 *
 * The features start from Aurora's (Jay et al., "A Deep Reinforcement Learning Perspective on Internet Congestion Control", ICML
 * 2019): latency inflation, latency ratio and send ratio. Added are the interval's least RTT (what stands in the queue, below the
 * jitter of a radio link's scheduler), the delivery rate against the recent best, and the loss, for the last 7 monitor intervals;
 * and once: window, base RTT, signs of competition, and the objective, as in MOCC (Ma et al., "Multi-Objective Congestion Control",
 * EuroSys 2022), so that one network serves several wishes. A monitor interval is one smoothed RTT, at least 10 ms. Per ACK only
 * sums are kept; the network runs once per interval.
 *
 * Life of a flow: `start` (the rate doubles every round trip until the first loss or RTT rise), then `run` (the network
 * moves the window once per interval). Without a valid snapshot the flow is in `fallback` (CUBIC) and goes to `run` at the
 * first interval that finds one.
 *
 * In `run` these are not the network's to decide:
 *  - The window stays in adp_cc_clamp_window()'s range, whatever the network says.
 *  - To each move a quarter of the window's square root is added. The same answers to the same RTT would keep two flows' shares as
 *    they are; a push that grows more slowly than the window makes them equal (as additive increase does).
 *  - Where the queue was never seen empty for 5 s, the flow makes room for a round trip or two (`drain`), so that the least RTT stays
 *    known; at whole multiples of 5 s, so that all flows of a machine do it together.
 *  - Where that did not empty it twice in a row, the queue is somebody else's: a flow that fills buffers until it loses. Then the
 *    window keeps to a range around CUBIC's (`compete`), which is that neighbour's own idea of a fair share, until the queue empties.
 *  - While the application is the limit, nothing is decided, learned or decayed (`held`).
 */
#ifndef ADAPATH_CC_H
#define ADAPATH_CC_H

#include "abi.h"
#include "cubic.h"
#include "fixed.h"

/* Changes with any change of meaning in features, action or record. A snapshot names the one that it was trained for. */
#define ADP_CC_SCHEMA 2

#define ADP_CC_HISTORY 7
#define ADP_CC_FEATURES 6
#define ADP_CC_CONTEXT (ADP_CC_HISTORY * ADP_CC_FEATURES) /* index of the first input that is there once */
#define ADP_CC_INPUTS (ADP_CC_CONTEXT + 6)
#define ADP_CC_OUTPUTS 1

/* Inputs of one interval, oldest interval first, and those behind all of them. */
enum adp_cc_feature {
	ADP_CC_INFLATION = 0, /* d RTT / d t, dimensionless */
	ADP_CC_LATENCY = 1,   /* log2(mean RTT / base RTT) */
	ADP_CC_STANDING = 2,  /* log2(least RTT of the interval / base RTT) */
	ADP_CC_SEND = 3,      /* log2(packets sent / packets delivered) */
	ADP_CC_DELIVERY = 4,  /* log2(delivery rate / the recent best) */
	ADP_CC_LOSS = 5,      /* packets lost / (lost + delivered) */
};
enum adp_cc_context {
	ADP_CC_WINDOW = ADP_CC_CONTEXT, /* log2(window in packets) */
	ADP_CC_BASE,			/* log2(base RTT in ms, of 1024 us) */
	ADP_CC_INFLATED,		/* log2(base RTT / least RTT): above 0 beside a flow that fills the queue */
	ADP_CC_AGE,			/* log2(1 + intervals since the queue was last seen empty) */
	ADP_CC_DELAY_WEIGHT,		/* log2(weight of delay / weight of throughput) */
	ADP_CC_LOSS_WEIGHT,		/* log2(weight of loss / weight of throughput) */
};
/* Codes: real = (code - zero) / unit. The network is trained on these very codes. */
#define ADP_CC_INFLATION_UNIT 64
#define ADP_CC_INFLATION_ZERO 128
#define ADP_CC_LATENCY_UNIT 32 /* of the standing queue and of the inflated base too */
#define ADP_CC_LATENCY_ZERO 0
#define ADP_CC_SEND_UNIT 32
#define ADP_CC_SEND_ZERO 128
#define ADP_CC_DELIVERY_UNIT 32
#define ADP_CC_DELIVERY_ZERO 255
#define ADP_CC_LOSS_UNIT 512
#define ADP_CC_LOSS_ZERO 0
#define ADP_CC_WINDOW_UNIT 12
#define ADP_CC_WINDOW_ZERO 0
#define ADP_CC_BASE_UNIT 24
#define ADP_CC_BASE_ZERO 0
#define ADP_CC_AGE_UNIT 24
#define ADP_CC_AGE_ZERO 0
#define ADP_CC_WEIGHT_UNIT 32
#define ADP_CC_DELAY_WEIGHT_ZERO 160 /* delay weights of 1/32 to 8 */
#define ADP_CC_LOSS_WEIGHT_ZERO 0    /* loss weights of 1 to 250 */

/*
 * The objective: weights in Q16 in adp_control.objective (abi.h), see adp_cc_reward(). Only their ratios matter to the network;
 * it was trained for delay 1/32..2 and loss 1..32 at throughput 1.
 */
enum adp_cc_weight {
	ADP_CC_THROUGHPUT_WEIGHT = 0,
	ADP_CC_DELAY_WEIGHT_INDEX = 1,
	ADP_CC_LOSS_WEIGHT_INDEX = 2,
	ADP_CC_WEIGHTS = 3,
};
#define ADP_CC_THROUGHPUT_DEFAULT_Q16 65536 /* 1 a doubling */
#define ADP_CC_DELAY_DEFAULT_Q16 32768	    /* 0.5: 40 ms of queue on a path of 40 ms are worth a fifth of the rate */
#define ADP_CC_LOSS_DEFAULT_Q16 524288	    /* 8: a percent of loss is worth as much as 6 % of the rate */

#define ADP_CC_INTERVAL_MIN_US 10000  /* Aurora's least; below it an interval holds too few ACKs to measure */
#define ADP_CC_DELACK_US 40000	      /* how late a receiver may acknowledge a lone packet */
#define ADP_CC_INTERVAL_MAX_US 200000 /* a bloated queue must not slow down the decisions that would drain it */
/* The output is clamped to [-1, 1] and moves the window by e^(output * step): at most +35 % or -26 % an interval. */
#define ADP_CC_STEP_Q16 19661 /* 0.3 */
#define ADP_CC_ACTION_MAX_Q16 ADP_Q16_ONE
/* Bytes per second. */
#define ADP_CC_RATE_MIN 12500ULL	/* 100 kbit/s */
#define ADP_CC_RATE_MAX 12500000000ULL /* 100 Gbit/s: rate * 2^16 stays below 2^50 */
#define ADP_CC_CWND_MIN 2	/* packets: two are acknowledged at once, a lone one when the receiver's timer says so */
#define ADP_CC_CWND_MAX (1 << 20)	/* packets */
#define ADP_CC_WINDOW_SHIFT 8	/* the window is kept in 1/256 packets, so that small ones can grow by less than one */

#define ADP_CC_DRAIN_US 5000000	    /* so long without an empty queue, and the flow makes room */
#define ADP_CC_DRAIN_MIN_US 400000  /* until it is empty, for at least so long */
#define ADP_CC_DRAIN_MAX_US 2000000 /* and at most so long */
#define ADP_CC_DRAIN_AGAIN_US 1000000 /* after one that did not empty the queue */
#define ADP_CC_DRAINS_FAILED 2	    /* in a row, and the queue is somebody else's */
#define ADP_CC_DRAIN_COMPETE_US 20000000
#define ADP_CC_COMPETE_CHECK_US 4000000	 /* at most so long until the RTT shows whether there is a neighbour */
#define ADP_CC_COMPETE_QUIET_US 20000000 /* after competing with nobody; doubled each time in a row, up to 16 times */
#define ADP_CC_COMPETE_RTT_US 2000000	 /* no neighbour is followed beyond this */

enum adp_cc_phase {
	ADP_CC_START = 0,
	ADP_CC_RUN = 1,
	ADP_CC_FALLBACK = 2,
};

/* adp_cc_sample.flags */
#define ADP_CC_FALLBACK_MADE 1u /* no snapshot: the fallback decided */
#define ADP_CC_APP_LIMITED 2u	/* the application left the pipe empty during most of the interval, and neither window nor queue full */
#define ADP_CC_START_MADE 4u	/* slow start; with ADP_CC_FALLBACK_MADE, the fallback's */
#define ADP_CC_HELD 8u		/* the application is the limit: the window stays as it is */
#define ADP_CC_DRAIN_MADE 16u	/* the flow makes room, to see the path's own RTT */
#define ADP_CC_ASKED 32u	/* userspace was asked and has not answered yet (the policy `userspace`) */
#define ADP_CC_COMPETES 64u	/* decided beside a flow that fills the queue: the window was held near CUBIC's */
#define ADP_CC_ANSWERED 128u	/* decided by userspace's answer (the policy `userspace`): the network ran there, in float */
/* With one of these no network ran: output, noise, action and generation (but of ADP_CC_ASKED: the one asked for) are 0. */
#define ADP_CC_NOT_DECIDED (ADP_CC_FALLBACK_MADE | ADP_CC_START_MADE | ADP_CC_HELD | ADP_CC_DRAIN_MADE | ADP_CC_ASKED)

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
	adp_u32 min_rtt_us; /* of the path, over the kernel's window: what the reward counts queueing from */
	adp_u32 base_us;    /* what the features count queueing from: as min_rtt_us, but higher beside a flow that fills the queue */
	adp_u32 least_us;   /* least RTT of the interval */
	adp_u32 sent;	    /* packets */
	adp_u32 delivered;  /* packets */
	adp_u32 lost;	    /* packets */
	adp_u64 rate;	    /* the pacing rate that was in force, bytes/s */
	adp_u32 mss;	    /* bytes */
	adp_u32 app_limited; /* 0 or 1 */
};

/* Weights, Q16. */
struct adp_cc_objective {
	adp_u32 throughput_q16;
	adp_u32 delay_q16;
	adp_u32 loss_q16;
};

/*
 * All that an ACK touches at which nothing is due. Small enough for the room that the kernel leaves a congestion control in the socket
 * itself (icsk_ca_priv, 104 bytes): there the lines are in the cache anyway, while with a thousand flows each line elsewhere is a miss.
 */
struct adp_cc_sums {
	adp_u64 start_us;   /* of the interval */
	adp_u64 rtt_sum_us; /* of the interval's samples */
	adp_u32 rtt_count;
	adp_u32 least_us; /* least RTT sample so far; ~0 = none */
	adp_u32 acks;
	adp_u32 limited_acks; /* of them, how many were app-limited */
	adp_u32 lost;	      /* packets */
	adp_u32 cwnd;	      /* packets; in force until the interval's end, but in fallback CUBIC moves it with each ACK */
	adp_u16 filled;	      /* 0 or 1: the window was in use to the last packet at some ACK */
	adp_u16 cubic;	      /* 0 or 1: CUBIC looks at each ACK too (fallback, and beside a flow that fills the queue) */
	adp_u32 live;	      /* 0 until adp_cc_init(): the kernel hands out zeros */
};

/* State of one flow. Owned by its socket's lock; no CPU shares it. */
struct adp_cc_flow {
	struct adp_cc_sums sums;
	adp_u64 rate;	    /* pacing rate, bytes/s */
	adp_u64 id;	    /* unique on this machine while the pins live, from 1 */
	adp_u64 bandwidth;  /* decaying maximum of the delivery rate, bytes/s: bounds the rate from above */
	adp_u32 phase;	    /* enum adp_cc_phase */
	adp_u32 compete;    /* 0 or 1 */
	adp_u32 sent_base;    /* counters at the interval's start */
	adp_u32 delivered_base;
	adp_u32 rtt_us;	      /* mean of the last interval with a sample */
	adp_u32 seq;	      /* decisions and fallback intervals so far; a gap in the log is a lost sample */
	adp_u32 slot;	      /* that the present decision uses (consistency `flow`: that the flow is bound to) */
	adp_u32 generation;
	adp_u32 slow_rounds;  /* start phase: rounds without growth of the delivery rate */
	adp_u32 local_port;   /* host order: tells flows apart for humans */
	adp_u32 remote_port;
	adp_u32 window_q8;    /* 1/256 packets; decides in `run` */
	adp_u32 base_us;      /* see struct adp_cc_interval; 0 = not known yet */
	adp_u32 age;	      /* intervals since the queue was seen empty */
	adp_u32 failed_drains;
	adp_u32 drain_window_q8; /* what to go back to after the drain; 0 = none is under way */
	adp_u32 drain_least_us;	 /* least RTT since it began */
	adp_u32 drain_rtt_us;	 /* mean RTT just before it */
	adp_u32 path_us;	 /* what the last drain before competing had left; 0 = never competed */
	adp_u64 drain_until_us;
	adp_u64 drained_us;	 /* when the queue was last seen empty, or a drain began */
	adp_u32 drain_lost;	      /* packets lost since the last drain */
	adp_u32 peak_q8;	      /* decaying maximum of the window */
	adp_u32 compete_window_q8;    /* window of the drain before; 0 = the neighbour is known to be there */
	adp_u32 compete_nobody;	      /* times in a row that there was no neighbour */
	adp_u64 compete_check_us;
	adp_u64 quiet_until_us;	      /* no drain and no competition before */
	struct adp_cc_objective objective;
	adp_u32 compete_rtt_us; /* least RTT of the drain before competing */
	struct adp_cc_interval interval; /* the last closed one */
	struct adp_cubic cubic;
	adp_s32 output[ADP_MAX_OUTPUTS]; /* of the network, Q16; only the first is used */
	adp_u8 input[ADP_CC_INPUTS];	 /* enum adp_cc_feature for each interval, oldest first; enum adp_cc_context */
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
	adp_s32 action;	    /* Q16, clamp(output + noise): what moved the window */
	adp_u32 explore_q16; /* strength the noise was drawn with */
	adp_u16 local_port;
	adp_u16 remote_port;
	adp_u32 in_flight;  /* packets, at the decision */
	adp_u32 window_q8;  /* 1/256 packets, after the action */
	struct adp_cc_objective objective; /* that the flow had at the decision */
	adp_u8 input[ADP_CC_INPUTS];
};

ADP_STATIC_ASSERT(sizeof(struct adp_cc_interval) == 48, "no hidden padding in a shared record");
ADP_STATIC_ASSERT(sizeof(struct adp_cc_sample) == 176, "no hidden padding in a shared record");
ADP_STATIC_ASSERT(sizeof(struct adp_cc_sums) == 48, "as u64 words it is copied in and out of the socket");
ADP_STATIC_ASSERT(sizeof(struct adp_cc_flow) % 8 == 0, "no hidden padding in a shared record");

enum adp_cc_event {
	ADP_CC_NOTHING = 0,
	ADP_CC_INTERVAL_CLOSED = 1, /* go on with adp_cc_prepare() */
};

/* The operator's wish, from adp_control; without one, the defaults. Bounds keep every product below in 64 bits. */
ADP_INLINE void adp_cc_set_objective(struct adp_cc_flow *f, adp_u32 throughput_q16, adp_u32 delay_q16, adp_u32 loss_q16)
{
	const adp_u32 most = 1 << 24; /* 256 */

	f->objective.throughput_q16 = throughput_q16 ? (adp_u32)adp_min_u64(throughput_q16, most) : ADP_CC_THROUGHPUT_DEFAULT_Q16;
	f->objective.delay_q16 = throughput_q16 ? (adp_u32)adp_min_u64(delay_q16, most) : ADP_CC_DELAY_DEFAULT_Q16;
	f->objective.loss_q16 = throughput_q16 ? (adp_u32)adp_min_u64(loss_q16, most) : ADP_CC_LOSS_DEFAULT_Q16;
}

/* From here on the sums are of a new interval. The counters are the ACK's, or the socket's. */
ADP_INLINE void adp_cc_begin_interval(struct adp_cc_flow *f, adp_u64 now_us, adp_u32 sent, adp_u32 delivered)
{
	f->sums.start_us = now_us;
	f->sums.rtt_sum_us = 0;
	f->sums.rtt_count = 0;
	f->sums.least_us = ~0u;
	f->sums.acks = 0;
	f->sums.limited_acks = 0;
	f->sums.lost = 0;
	f->sums.filled = 0;
	f->sent_base = sent;
	f->delivered_base = delivered;
}

ADP_INLINE void adp_cc_init(struct adp_cc_flow *f, adp_u64 now_us, adp_u32 mss, adp_u32 srtt_us, adp_u32 cwnd, adp_u32 sent,
			    adp_u32 delivered)
{
	adp_u32 rtt = srtt_us ? srtt_us : 100000; /* no sample yet: the sender waits one RTT for its first ACK anyway */
	int i;

	/* The storage outlives a change of the socket's congestion control and back: nothing of the last time may stay. */
	adp_cc_begin_interval(f, now_us, sent, delivered);
	f->sums.cwnd = 0;
	f->sums.cubic = 0;
	f->sums.live = 1;
	f->rtt_us = 0;
	f->slow_rounds = 0;
	f->generation = 0;
	f->interval.us = 0;
	f->interval.rtt_us = 0;
	f->interval.min_rtt_us = 0;
	f->interval.base_us = 0;
	f->interval.least_us = 0;
	f->interval.sent = 0;
	f->interval.delivered = 0;
	f->interval.lost = 0;
	f->interval.rate = 0;
	f->interval.mss = mss;
	f->interval.app_limited = 0;
	/* 10 packets per RTT; 10 * 2^16 * 10^6 < 2^40 */
	f->rate = (adp_u64)adp_clamp((adp_s64)((adp_u64)ADP_CUBIC_CWND_INIT * mss * 1000000 / rtt), ADP_CC_RATE_MIN,
				     ADP_CC_RATE_MAX);
	f->bandwidth = 0; /* nothing measured: the first rate is a guess and must not be what slow start ends with */
	f->phase = ADP_CC_START;
	f->window_q8 = (adp_u32)adp_clamp(cwnd, ADP_CC_CWND_MIN, ADP_CC_CWND_MAX) << ADP_CC_WINDOW_SHIFT;
	f->base_us = 0;
	f->age = 0;
	f->compete = 0;
	f->failed_drains = 0;
	f->drain_window_q8 = 0;
	f->drain_least_us = 0;
	f->drain_rtt_us = 0;
	f->path_us = 0;
	f->drain_lost = 0;
	f->peak_q8 = 0;
	f->compete_window_q8 = 0;
	f->compete_nobody = 0;
	f->compete_rtt_us = 0;
	f->compete_check_us = 0;
	f->quiet_until_us = 0;
	f->drain_until_us = 0;
	f->drained_us = now_us;
	adp_cc_set_objective(f, 0, 0, 0);
	for (i = 0; i < ADP_CC_HISTORY; i++) {
		f->input[i * ADP_CC_FEATURES + ADP_CC_INFLATION] = ADP_CC_INFLATION_ZERO;
		f->input[i * ADP_CC_FEATURES + ADP_CC_LATENCY] = ADP_CC_LATENCY_ZERO;
		f->input[i * ADP_CC_FEATURES + ADP_CC_STANDING] = ADP_CC_LATENCY_ZERO;
		f->input[i * ADP_CC_FEATURES + ADP_CC_SEND] = ADP_CC_SEND_ZERO;
		f->input[i * ADP_CC_FEATURES + ADP_CC_DELIVERY] = ADP_CC_DELIVERY_ZERO;
		f->input[i * ADP_CC_FEATURES + ADP_CC_LOSS] = ADP_CC_LOSS_ZERO;
	}
	for (i = ADP_CC_CONTEXT; i < ADP_CC_INPUTS; i++)
		f->input[i] = 0;
	adp_cubic_init(&f->cubic, cwnd);
}

/* After a long silence the running interval says nothing about the path: begin it again. Idle for less is measured. */
#define ADP_CC_IDLE_US 1000000
ADP_INLINE int adp_cc_was_idle(const struct adp_cc_sums *p, adp_u64 now_us)
{
	return now_us - p->start_us >= ADP_CC_IDLE_US;
}

ADP_INLINE void adp_cc_on_idle_restart(struct adp_cc_flow *f, adp_u64 now_us, adp_u32 sent, adp_u32 delivered)
{
	if (!adp_cc_was_idle(&f->sums, now_us))
		return;
	adp_cc_begin_interval(f, now_us, sent, delivered);
	/* Nothing stands in a queue that was not sent to. */
	f->drained_us = now_us;
	f->age = 0;
}

ADP_INLINE adp_u64 adp_cc_delivery_rate(const struct adp_cc_interval *v)
{
	/* packets * mss * 10^6 < 2^20 * 2^16 * 2^20 = 2^56 */
	return v->us ? adp_min_u64(v->delivered, ADP_CC_CWND_MAX) * v->mss * 1000000ULL / v->us : 0;
}

/* Share of the interval's packets that were lost, Q16. */
ADP_INLINE adp_s64 adp_cc_loss_q16(const struct adp_cc_interval *v)
{
	return v->lost ? (adp_s64)((adp_u64)v->lost * ADP_Q16_ONE / ((adp_u64)v->lost + v->delivered)) : 0;
}

/* Shift the history by one interval and append the codes of the one just closed. */
ADP_INLINE void adp_cc_push_features(struct adp_cc_flow *f, adp_u32 prev_rtt_us)
{
	const struct adp_cc_interval *v = &f->interval;
	adp_s64 inflation, base = adp_log2_q16(v->base_us);
	int i;

	/* (RTT now - RTT before) / interval; |diff| * 64 < 2^38. The one division of an interval. */
	inflation = 0;
	if (v->us && prev_rtt_us) {
		adp_u64 up = v->rtt_us >= prev_rtt_us;
		adp_u64 diff = up ? v->rtt_us - prev_rtt_us : prev_rtt_us - v->rtt_us;
		adp_u64 q = diff * ADP_CC_INFLATION_UNIT / v->us;

		inflation = up ? (adp_s64)q : -(adp_s64)q;
	}
	for (i = 0; i < ADP_CC_CONTEXT - ADP_CC_FEATURES; i++)
		f->input[i] = f->input[i + ADP_CC_FEATURES];
	i = ADP_CC_CONTEXT - ADP_CC_FEATURES;
	f->input[i + ADP_CC_INFLATION] = (adp_u8)adp_clamp(inflation + ADP_CC_INFLATION_ZERO, 0, 255);
	f->input[i + ADP_CC_LATENCY] =
		adp_code_q16(adp_log2_q16(v->rtt_us) - base, ADP_CC_LATENCY_UNIT, ADP_CC_LATENCY_ZERO);
	f->input[i + ADP_CC_STANDING] =
		adp_code_q16(adp_log2_q16(v->least_us) - base, ADP_CC_LATENCY_UNIT, ADP_CC_LATENCY_ZERO);
	f->input[i + ADP_CC_SEND] =
		adp_code_q16(adp_log2_q16((adp_u64)v->sent + 1) - adp_log2_q16((adp_u64)v->delivered + 1), ADP_CC_SEND_UNIT,
				    ADP_CC_SEND_ZERO);
	f->input[i + ADP_CC_DELIVERY] =
		adp_code_q16(adp_log2_q16(adp_cc_delivery_rate(v) + 1) - adp_log2_q16(f->bandwidth + 1),
				    ADP_CC_DELIVERY_UNIT, ADP_CC_DELIVERY_ZERO);
	f->input[i + ADP_CC_LOSS] = adp_code_q16(adp_cc_loss_q16(v), ADP_CC_LOSS_UNIT, ADP_CC_LOSS_ZERO);
}

/* What the network knows once, of the decision that is due. */
ADP_INLINE void adp_cc_fill_context(struct adp_cc_flow *f)
{
	const struct adp_cc_interval *v = &f->interval;
	adp_s32 throughput = adp_log2_q16(f->objective.throughput_q16);

	f->input[ADP_CC_WINDOW] = adp_code_q16(adp_log2_q16(f->window_q8) - (ADP_CC_WINDOW_SHIFT << 16), ADP_CC_WINDOW_UNIT,
						      ADP_CC_WINDOW_ZERO);
	f->input[ADP_CC_BASE] = adp_code_q16(adp_log2_q16(v->base_us) - (10 << 16), ADP_CC_BASE_UNIT, ADP_CC_BASE_ZERO);
	f->input[ADP_CC_INFLATED] = adp_code_q16(adp_log2_q16(v->base_us) - adp_log2_q16(v->min_rtt_us), ADP_CC_LATENCY_UNIT,
							ADP_CC_LATENCY_ZERO);
	f->input[ADP_CC_AGE] = adp_code_q16(adp_log2_q16((adp_u64)f->age + 1), ADP_CC_AGE_UNIT, ADP_CC_AGE_ZERO);
	f->input[ADP_CC_DELAY_WEIGHT] = adp_code_q16(adp_log2_q16(f->objective.delay_q16) - throughput, ADP_CC_WEIGHT_UNIT,
							    ADP_CC_DELAY_WEIGHT_ZERO);
	f->input[ADP_CC_LOSS_WEIGHT] = adp_code_q16(adp_log2_q16(f->objective.loss_q16) - throughput, ADP_CC_WEIGHT_UNIT,
							   ADP_CC_LOSS_WEIGHT_ZERO);
}

/* Does the interval end with this ACK? */
ADP_INLINE int adp_cc_due(const struct adp_cc_sums *p, const struct adp_cc_ack *a)
{
	adp_u64 length = adp_min_u64(adp_max_u64(a->srtt_us, ADP_CC_INTERVAL_MIN_US), ADP_CC_INTERVAL_MAX_US);

	return a->now_us - p->start_us >= length;
}

/* An RTT up to which the queue counts as nobody's: a quarter over the path's own, and the jitter of a radio link's scheduler. */
ADP_INLINE adp_u32 adp_cc_clear_us(const struct adp_cc_interval *v)
{
	return v->min_rtt_us + v->min_rtt_us / 4 + 15000;
}

/* After each interval: was the queue empty, and is it still somebody else's? */
ADP_INLINE void adp_cc_look_at_queue(struct adp_cc_flow *f, adp_u64 now_us)
{
	struct adp_cc_interval *v = &f->interval;

	f->drain_lost += v->lost;
	f->age = f->age < (1u << 20) ? f->age + 1 : f->age;
	if (v->least_us <= v->min_rtt_us + v->min_rtt_us / 8 + 2000) {
		f->age = 0;
		f->drained_us = now_us;
		f->failed_drains = 0;
		f->drain_lost = 0;
	}
	if (!f->age)
		f->compete = 0;
	if (!f->compete)
		f->compete_window_q8 = 0;
	if (f->drain_window_q8 && v->least_us < f->drain_least_us)
		f->drain_least_us = v->least_us;
}

/* One ACK, first: adds to the interval's sums. */
ADP_INLINE void adp_cc_count_ack(struct adp_cc_sums *p, const struct adp_cc_ack *a)
{
	if (a->rtt_us) {
		p->rtt_sum_us += a->rtt_us;
		p->rtt_count++;
		if (a->rtt_us < p->least_us)
			p->least_us = a->rtt_us;
	}
	p->acks++;
	if (a->app_limited)
		p->limited_acks++;
	/* An eighth is left free where a segment of several packets does not fit any more. */
	if (!p->filled && (adp_u64)a->in_flight + a->acked >= p->cwnd - p->cwnd / 8)
		p->filled = 1;
	if (a->lost)
		p->lost += a->lost;
}

/* Then, where sums.cubic says so. */
ADP_INLINE void adp_cc_cubic_ack(struct adp_cc_flow *f, const struct adp_cc_ack *a)
{
	adp_cubic_on_ack(&f->cubic, a->now_us, a->acked, a->lost, a->delivered, a->in_flight,
			 f->compete ? 0 : a->rtt_us, a->min_rtt_us); /* no HyStart: the neighbour's queue would end it at once */
	if (f->phase == ADP_CC_FALLBACK)
		f->sums.cwnd = f->cubic.cwnd;
}

/* Then, where adp_cc_due(): closes the interval and begins the next. Go on with adp_cc_prepare(). */
ADP_INLINE void adp_cc_close_interval(struct adp_cc_flow *f, const struct adp_cc_ack *a)
{
	struct adp_cc_interval *v = &f->interval;
	const struct adp_cc_sums *p = &f->sums;
	adp_u32 prev_rtt_us;

	prev_rtt_us = f->rtt_us;
	if (p->rtt_count)
		f->rtt_us = (adp_u32)(p->rtt_sum_us / p->rtt_count);
	else if (!f->rtt_us)
		f->rtt_us = a->srtt_us;
	else if (a->min_rtt_us && a->min_rtt_us < f->rtt_us)
		/* Not measured: the old value fades, or a flow that only retransmits would back off from it for ever. */
		f->rtt_us -= (f->rtt_us - a->min_rtt_us) / 4;
	v->us = (adp_u32)adp_min_u64(a->now_us - p->start_us, 0xffffffffu);
	/*
	 * Packets further apart than a delayed ACK's timer are acknowledged one by one, each that much late (Linux:
	 * TCP_DELACK_MIN, 40 ms; two packets together are answered at once). Read as queueing, it would hold a slow flow slow.
	 */
	if ((adp_u64)(a->delivered - f->delivered_base) * ADP_CC_DELACK_US < v->us)
		f->rtt_us = (adp_u32)adp_max_u64(f->rtt_us - adp_min_u64(f->rtt_us, ADP_CC_DELACK_US),
						 adp_min_u64(a->min_rtt_us, f->rtt_us)); /* least_us follows: it is at most this */
	v->rtt_us = f->rtt_us;
	v->least_us = (adp_u32)adp_min_u64(p->least_us, v->rtt_us);
	v->min_rtt_us = (adp_u32)adp_min_u64(a->min_rtt_us ? a->min_rtt_us : v->least_us, v->least_us);
	/* Up only by a drain that did not empty the queue, down with any RTT below it. */
	f->base_us = f->base_us ? (adp_u32)adp_min_u64(f->base_us, v->least_us) : v->min_rtt_us;
	f->base_us = (adp_u32)adp_max_u64(f->base_us, v->min_rtt_us);
	v->base_us = f->base_us;
	v->sent = a->sent - f->sent_base;
	v->delivered = a->delivered - f->delivered_base;
	v->lost = p->lost;
	v->rate = f->rate;
	v->mss = a->mss;
	/*
	 * A camera writes a frame at a time: what counts is whether the window was ever in its way (RFC 7661's validated phase). And
	 * where a queue stands the path is the limit, however little is written: a link that falls must be followed before it has
	 * filled a window that was made for a faster one.
	 */
	v->app_limited = p->limited_acks * 2 > p->acks && !p->filled && v->rtt_us <= adp_cc_clear_us(v);
	adp_cc_look_at_queue(f, a->now_us);

	/*
	 * Decays by 1/16 an interval, since a low delivery rate may only mean that little was sent. With a standing queue it
	 * is the path's own rate, and what it was before is no longer of interest: then by 1/4. An idle application's says nothing.
	 */
	if (!v->app_limited)
		f->bandwidth -= v->rtt_us > 2 * v->min_rtt_us + 20000 ? f->bandwidth >> 2 : f->bandwidth >> 4;
	f->bandwidth = adp_max_u64(f->bandwidth, adp_cc_delivery_rate(v));
	if (!v->app_limited)
		adp_cc_push_features(f, prev_rtt_us);

	adp_cc_begin_interval(f, a->now_us, a->sent, a->delivered);
}

/* All of it, where the sums lie in the flow. */
ADP_INLINE enum adp_cc_event adp_cc_on_ack(struct adp_cc_flow *f, const struct adp_cc_ack *a)
{
	adp_cc_count_ack(&f->sums, a);
	if (f->sums.cubic)
		adp_cc_cubic_ack(f, a);
	if (!adp_cc_due(&f->sums, a))
		return ADP_CC_NOTHING;
	adp_cc_close_interval(f, a);
	return ADP_CC_INTERVAL_CLOSED;
}

/* Packets in 1/256 that a rate (bytes/s) keeps in flight over an RTT. 2^34 * 2^20 / 10^6 * 2^8 < 2^43 */
ADP_INLINE adp_u64 adp_cc_packets_q8(adp_u64 rate, adp_u32 rtt_us, adp_u32 mss)
{
	return (adp_min_u64(rate, ADP_CC_RATE_MAX) * adp_min_u64(rtt_us, 1 << 20) / 1000000 << ADP_CC_WINDOW_SHIFT) / (mss ? mss : 1);
}

/*
 * The window's safe range, whatever the network says: not below half of what the path just delivered in a base RTT (nor the
 * absolute floor), not above four times what it delivered at its recent best; beside a flow that fills the queue, between
 * CUBIC's window and five quarters of it.
 */
ADP_INLINE adp_u32 adp_cc_clamp_window(const struct adp_cc_flow *f, adp_u64 window_q8)
{
	const struct adp_cc_interval *v = &f->interval;
	adp_u64 floor = adp_cc_packets_q8(adp_cc_delivery_rate(v), v->min_rtt_us, v->mss) / 2;
	adp_u64 ceiling = 4 * adp_cc_packets_q8(f->bandwidth, v->min_rtt_us, v->mss) + (16 << ADP_CC_WINDOW_SHIFT);

	if (f->compete) {
		floor = (adp_u64)f->cubic.cwnd << ADP_CC_WINDOW_SHIFT;
		ceiling = floor / 4 * 5;
		if (v->rtt_us > ADP_CC_COMPETE_RTT_US)
			floor = 0;
	}
	floor = adp_max_u64(floor, ADP_CC_CWND_MIN << ADP_CC_WINDOW_SHIFT);
	window_q8 = adp_min_u64(adp_max_u64(window_q8, floor), adp_max_u64(ceiling, floor));
	return (adp_u32)adp_min_u64(window_q8, (adp_u64)ADP_CC_CWND_MAX << ADP_CC_WINDOW_SHIFT);
}

/*
 * The pacing rate that goes with the window: twice the window in an RTT. ACKs are the clock; the rate only spreads what they
 * would send in a burst, and must not hold the flow back when a queue empties within an RTT.
 */
ADP_INLINE void adp_cc_follow_window(struct adp_cc_flow *f)
{
	/* 2^28 * 2^16 >> 8 = 2^36, * 2^21 = 2^57 */
	adp_u64 bytes = (adp_u64)f->window_q8 * f->interval.mss >> ADP_CC_WINDOW_SHIFT;

	f->rate = (adp_u64)adp_clamp((adp_s64)(bytes * 2000000ULL / (f->interval.rtt_us ? f->interval.rtt_us : 1)),
				     ADP_CC_RATE_MIN, ADP_CC_RATE_MAX);
}

/*
 * Slow start, once per interval. Returns 1 while it goes on; on its end the flow is in `run` and the present interval
 * already belongs to the network. Ends at the first loss, at an RTT a quarter (and 4 ms) over the least, or after 3
 * intervals in which the delivery rate did not follow (the application is the limit, or the queue hides the rise).
 */
ADP_INLINE int adp_cc_start_step(struct adp_cc_flow *f, adp_u64 now_us)
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
		f->drained_us = now_us;
		f->window_q8 = adp_cc_clamp_window(f, adp_cc_packets_q8(f->bandwidth, v->min_rtt_us, v->mss));
		adp_cc_follow_window(f);
		return 0;
	}
	f->rate = adp_min_u64(2 * f->rate, ADP_CC_RATE_MAX);
	return 1;
}

/*
 * Makes room, so that the path's own RTT shows: half of what it delivers, until what was sent before has left. Beside a neighbour
 * that fills the queue, half the window: enough to see whether it is still there, since alone the RTT would halve too.
 */
ADP_INLINE void adp_cc_begin_drain(struct adp_cc_flow *f, adp_u64 now_us)
{
	const struct adp_cc_interval *v = &f->interval;
	adp_u64 window_q8 = f->compete ? f->window_q8 : adp_cc_packets_q8(adp_cc_delivery_rate(v), v->min_rtt_us, v->mss);

	f->drain_window_q8 = f->window_q8;
	f->drain_rtt_us = v->rtt_us;
	f->drain_least_us = ~0u;
	/* As long as what is in flight needs to leave, and no shorter than a scheduler may keep this user waiting. */
	f->drain_until_us = now_us + adp_min_u64(adp_max_u64((adp_u64)v->rtt_us + v->rtt_us / 4, ADP_CC_DRAIN_MIN_US),
						 ADP_CC_DRAIN_MAX_US);
	f->drained_us = now_us;
	f->window_q8 = (adp_u32)adp_max_u64(adp_min_u64(window_q8 / 2, f->window_q8), ADP_CC_CWND_MIN << ADP_CC_WINDOW_SHIFT);
	adp_cc_follow_window(f);
}

/*
 * What the drain has shown. What is left in the queue is not this flow's. Twice in a row much left, or something and losses besides,
 * and somebody fills the queue: the features count from there, since the flow can't do anything about it. Or the path has become
 * longer, which looks alike at first: then the queue turns out to be this flow's own after a while of competing with nobody, and
 * what the drain before had left is known for the path's own RTT from then on.
 */
ADP_INLINE void adp_cc_end_drain(struct adp_cc_flow *f, adp_u64 now_us, adp_u32 delivered)
{
	adp_u32 least = f->drain_least_us;
	adp_u32 drained_q8 = f->window_q8;
	int much = least > adp_cc_clear_us(&f->interval) || f->drain_lost;

	f->window_q8 = f->drain_window_q8;
	f->drain_window_q8 = 0;
	f->drain_lost = 0;
	if (f->compete) {
		if ((adp_u64)least * 3 < (adp_u64)f->drain_rtt_us * 2) {
			f->compete = 0;
			f->failed_drains = 0;
			f->window_q8 /= 2;
			f->base_us = f->path_us;
		}
	} else if (f->age) {
		if (f->path_us && least <= f->path_us + f->path_us / 8) {
			f->failed_drains = 0;
			f->base_us = least;
		} else if (!much) {
			f->failed_drains = 0;
		} else if (++f->failed_drains >= ADP_CC_DRAINS_FAILED) {
			f->compete = 1;
			f->path_us = least;
			f->base_us = least;
			f->compete_window_q8 = drained_q8;
			f->compete_rtt_us = least;
			f->compete_check_us = now_us + adp_min_u64(4 * (adp_u64)f->interval.rtt_us, ADP_CC_COMPETE_CHECK_US);
			/*
			 * From what the flow held before it gave way, and as a new flow beside that neighbour would: by slow start until
			 * the first loss.
			 */
			f->window_q8 = (adp_u32)adp_max_u64(f->window_q8, f->peak_q8);
			adp_cubic_init(&f->cubic, f->window_q8 >> ADP_CC_WINDOW_SHIFT);
			f->cubic.recovery_until = delivered;
		}
	}
	adp_cc_follow_window(f);
	/* The queue has just been emptied, and the window comes back at once: not in a burst that a short queue would drop. */
	f->rate = adp_max_u64(f->rate / 8 * 5, ADP_CC_RATE_MIN);
}

/*
 * Is there a neighbour at all? Beside one the RTT is the neighbour's, whatever this flow's window. Alone (or with others that gave
 * way too, on a link so slow that two packets each are a long queue) it follows the window: where that is eight times the drain's or
 * more, a quarter of it in the RTT is enough to tell (half is still on its way).
 */
ADP_INLINE void adp_cc_check_neighbour(struct adp_cc_flow *f, adp_u64 now_us)
{
	if (!f->compete_window_q8 || now_us < f->compete_check_us)
		return;
	/* 2^32 * 2^30 */
	if (f->window_q8 >= 8 * (adp_u64)f->compete_window_q8 &&
	    (adp_u64)f->interval.rtt_us * 4 * f->compete_window_q8 >= (adp_u64)f->compete_rtt_us * f->window_q8) {
		f->compete = 0;
		f->failed_drains = 0;
		f->window_q8 = f->compete_window_q8;
		f->base_us = f->interval.min_rtt_us;
		f->quiet_until_us = now_us + ((adp_u64)ADP_CC_COMPETE_QUIET_US << adp_min_u64(f->compete_nobody, 4));
		f->compete_nobody++;
		adp_cc_follow_window(f);
	} else {
		f->compete_nobody = 0;
	}
	f->compete_window_q8 = 0;
}

/*
 * What becomes of the interval that was just closed: 0 = ask the network, whose input is complete; else the flag of what decides
 * instead, and nothing is left to do but to set window and rate and to write the sample. `delivered`: the ACK's.
 */
ADP_INLINE adp_u32 adp_cc_prepare(struct adp_cc_flow *f, adp_u64 now_us, adp_u32 delivered)
{
	const struct adp_cc_interval *v = &f->interval;
	/* With next to nothing of its own in a long queue, a flow need not wait to know that it is somebody else's. */
	int starved = f->window_q8 <= (4 << ADP_CC_WINDOW_SHIFT) && v->least_us > adp_cc_clear_us(v);
	adp_u64 period = f->compete ? ADP_CC_DRAIN_COMPETE_US :
			 f->failed_drains || starved ? ADP_CC_DRAIN_AGAIN_US :
						       ADP_CC_DRAIN_US;

	/* A start that the application holds up is not over. */
	if (v->app_limited && !f->drain_window_q8)
		return ADP_CC_HELD;
	if (adp_cc_start_step(f, now_us))
		return ADP_CC_START_MADE;
	if (f->drain_window_q8) {
		if (f->age && now_us < f->drain_until_us)
			return ADP_CC_DRAIN_MADE;
		adp_cc_end_drain(f, now_us, delivered);
		return ADP_CC_DRAIN_MADE;
	}
	if (f->compete)
		adp_cc_check_neighbour(f, now_us);
	/* Not within the last period, and a boundary of the clock that all flows share lies between then and now. */
	if (now_us >= f->quiet_until_us && now_us - f->drained_us >= period / 2 && now_us / period != f->drained_us / period) {
		adp_cc_begin_drain(f, now_us);
		return ADP_CC_DRAIN_MADE;
	}
	adp_cc_fill_context(f);
	return 0;
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

/* The action: clamp output + noise, move the window, clamp it, and the rate follows. Returns the action (Q16). */
ADP_INLINE adp_s32 adp_cc_act(struct adp_cc_flow *f, adp_s32 output, adp_s32 noise)
{
	adp_s32 action = (adp_s32)adp_clamp((adp_s64)output + noise, -ADP_CC_ACTION_MAX_Q16, ADP_CC_ACTION_MAX_Q16);
	/* window < 2^29, exp < 2^17 */
	adp_u64 window_q8 = (adp_u64)f->window_q8 * adp_exp_q16((adp_s32)((adp_s64)action * ADP_CC_STEP_Q16 >> 16)) >> 16;

	/* sqrt(256 * 256 w) = 256 sqrt(w): a quarter of the root, in 1/256 packets. */
	window_q8 += adp_sqrt((adp_u64)f->window_q8 << ADP_CC_WINDOW_SHIFT) >> 2;
	f->window_q8 = adp_cc_clamp_window(f, window_q8);
	f->peak_q8 = (adp_u32)adp_max_u64(f->window_q8, f->peak_q8 - (f->peak_q8 >> 8));
	adp_cc_follow_window(f);
	return action;
}

/*
 * Once all else is done at a closed interval: the socket's window until the next, packets. In slow start a cap over the pacing rate:
 * rate * RTT * 2. In fallback, CUBIC's own.
 */
ADP_INLINE void adp_cc_set_cwnd(struct adp_cc_flow *f, adp_u32 srtt_us, adp_u32 mss)
{
	adp_u64 bytes;

	f->sums.cubic = f->phase == ADP_CC_FALLBACK || f->compete;
	if (f->phase == ADP_CC_FALLBACK) {
		f->sums.cwnd = f->cubic.cwnd;
	} else if (f->phase == ADP_CC_RUN) {
		f->sums.cwnd = (f->window_q8 + (1 << (ADP_CC_WINDOW_SHIFT - 1))) >> ADP_CC_WINDOW_SHIFT;
	} else {
		/* The smoothed RTT of a bloated queue would let the queue justify itself: at most 1 s counts. 2^34 * 2^20 < 2^63 */
		bytes = f->rate * adp_min_u64(srtt_us ? srtt_us : 100000, 1000000) / 1000000 * 2;
		f->sums.cwnd = (adp_u32)adp_clamp((adp_s64)(bytes / (mss ? mss : 1)) + 1, ADP_CC_CWND_MIN, ADP_CC_CWND_MAX);
	}
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
	adp_cubic_init(&f->cubic, f->phase == ADP_CC_RUN ?
					  f->window_q8 >> ADP_CC_WINDOW_SHIFT :
					  (adp_u32)adp_min_u64(f->rate * adp_min_u64(srtt_us, 1000000) / 1000000 / (mss ? mss : 1),
							       ADP_CUBIC_CWND_MAX));
	/* A flow that already found its rate does not start over. */
	if (f->phase == ADP_CC_RUN)
		f->cubic.ssthresh = f->cubic.cwnd;
	f->phase = ADP_CC_FALLBACK;
	f->compete = 0;
	f->drain_window_q8 = 0;
}

/* A snapshot is there (again): the network goes on from the window that CUBIC had. Idempotent. */
ADP_INLINE void adp_cc_leave_fallback(struct adp_cc_flow *f)
{
	if (f->phase != ADP_CC_FALLBACK)
		return;
	f->phase = f->cubic.cwnd < f->cubic.ssthresh ? ADP_CC_START : ADP_CC_RUN;
	f->window_q8 = f->cubic.cwnd << ADP_CC_WINDOW_SHIFT;
	f->slow_rounds = 0;
	f->failed_drains = 0;
	f->drained_us = f->sums.start_us;
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
	s->flags = flags | (f->interval.app_limited ? ADP_CC_APP_LIMITED : 0) | (f->compete ? ADP_CC_COMPETES : 0);
	/* What the fallback earns while it still looks for the path's rate is not what it is worth. */
	if ((flags & ADP_CC_FALLBACK_MADE) && f->cubic.cwnd < f->cubic.ssthresh)
		s->flags |= ADP_CC_START_MADE;
	s->output = flags & ADP_CC_NOT_DECIDED ? 0 : f->output[0];
	s->noise = noise;
	s->action = action;
	s->explore_q16 = explore_q16;
	s->local_port = (adp_u16)f->local_port;
	s->remote_port = (adp_u16)f->remote_port;
	s->in_flight = in_flight;
	s->window_q8 = f->window_q8;
	s->objective = f->objective;
	for (i = 0; i < ADP_CC_INPUTS; i++)
		s->input[i] = f->input[i];
}

/*
 * Reward of one interval, Q16: throughput * log2(delivery rate / 16 KiB/s) - delay * queueing / (least RTT + 20 ms) - loss * loss
 * fraction, the weights being the objective's. The log lets links of any rate weigh alike. Queueing delay counts linearly (a
 * log would forgive a deep queue what a shallow one is blamed for), in units that neither punish a short path for a radio
 * scheduler's jitter nor let a long one queue for seconds; at most 16 of them, so that an outage does not outweigh everything. An
 * interval that delivered nothing counts as one packet a second would. Integers, so that daemon, trainer and simulator agree.
 */
#define ADP_CC_DELAY_UNIT_US 20000
ADP_INLINE adp_s32 adp_cc_reward(const struct adp_cc_interval *v, const struct adp_cc_objective *o)
{
	adp_u64 rate = adp_max_u64(adp_cc_delivery_rate(v), v->mss ? v->mss : 1);
	adp_u64 queueing = v->rtt_us > v->min_rtt_us ? v->rtt_us - v->min_rtt_us : 0;
	/* 2^32 * 2^16 */
	adp_s64 units = (adp_s64)adp_min_u64((queueing << 16) / ((adp_u64)v->min_rtt_us + ADP_CC_DELAY_UNIT_US), 16 << 16);

	/* Each product < 2^22 * 2^24: the weights are at most 256. |sum| >> 16 < 2^31. */
	return (adp_s32)(((adp_s64)(adp_log2_q16(rate) - (14 << 16)) * o->throughput_q16 - units * o->delay_q16 -
			  adp_cc_loss_q16(v) * o->loss_q16) >> 16);
}

#endif
