/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * CUBIC (RFC 9438) in integers: what a flow does while no valid snapshot is installed.
 *
 * Written here rather than borrowed from the kernel, because the simulator and both kernel backends must behave alike, and
 * because a congestion control with cong_control() gets no help from the kernel's own window reduction.
 */
#ifndef ADAPATH_CUBIC_H
#define ADAPATH_CUBIC_H

#include "fixed.h"

#define ADP_CUBIC_BETA_Q10 717	    /* 0.7, RFC 9438 section 4.6 */
#define ADP_CUBIC_CWND_INIT 10	    /* packets, RFC 6928 */
#define ADP_CUBIC_CWND_MIN 2	    /* packets */
#define ADP_CUBIC_CWND_MAX (1 << 20) /* packets; keeps every product below far from 2^63 */

struct adp_cubic {
	adp_u32 cwnd;		/* packets */
	adp_u32 ssthresh;	/* packets */
	adp_u32 w_max;		/* packets; the window at the last reduction */
	adp_u32 k_ms;		/* time from epoch at which the curve reaches w_max again */
	adp_u32 count;		/* credit towards the next packet of cwnd, in packets x packets */
	adp_u32 recovery_until; /* value of `delivered` at which a new loss counts as a new event */
	adp_u64 epoch_us;	/* start of the present curve; 0 = none */
};

ADP_INLINE void adp_cubic_init(struct adp_cubic *c, adp_u32 cwnd)
{
	c->cwnd = (adp_u32)adp_clamp(cwnd, ADP_CUBIC_CWND_INIT, ADP_CUBIC_CWND_MAX);
	c->ssthresh = ADP_CUBIC_CWND_MAX;
	c->w_max = 0;
	c->k_ms = 0;
	c->count = 0;
	c->recovery_until = 0;
	c->epoch_us = 0;
}

ADP_INLINE void adp_cubic_on_loss(struct adp_cubic *c, adp_u32 delivered, adp_u32 in_flight)
{
	/* One reduction per window of data: later losses of the same window say nothing new. Wrap-safe comparison. */
	if ((adp_s32)(delivered - c->recovery_until) < 0)
		return;
	c->recovery_until = delivered + in_flight;
	/* Fast convergence, section 4.7: a flow that shrinks leaves room: (1 + beta) / 2 = 0.85. */
	c->w_max = c->cwnd < c->w_max ? (adp_u32)((adp_u64)c->cwnd * 870 >> 10) : c->cwnd;
	c->cwnd = (adp_u32)adp_max_u64((adp_u64)c->cwnd * ADP_CUBIC_BETA_Q10 >> 10, ADP_CUBIC_CWND_MIN);
	c->ssthresh = c->cwnd;
	c->epoch_us = 0;
	c->count = 0;
}

/*
 * One ACK. `acked` and `lost` in packets; `rtt_us` 0 where the ACK gave no sample. Updates c->cwnd.
 */
ADP_INLINE void adp_cubic_on_ack(struct adp_cubic *c, adp_u64 now_us, adp_u32 acked, adp_u32 lost, adp_u32 delivered,
				 adp_u32 in_flight, adp_u32 rtt_us, adp_u32 min_rtt_us)
{
	adp_s64 d, target;
	adp_u64 t_ms;

	if (lost) {
		adp_cubic_on_loss(c, delivered, in_flight);
		return;
	}
	/* The window was not the limit: growing it would only store up a burst (section 5.8). */
	if (!acked || in_flight + acked < c->cwnd / 2)
		return;
	if (c->cwnd < c->ssthresh) {
		c->cwnd = (adp_u32)adp_min_u64((adp_u64)c->cwnd + acked, c->ssthresh);
		/* HyStart's delay test (RFC 9406), with one threshold: a clear rise means that the queue is filling. */
		if (rtt_us && min_rtt_us && rtt_us > min_rtt_us + min_rtt_us / 4 + 4000)
			c->ssthresh = c->cwnd;
		return;
	}
	if (!c->epoch_us) {
		c->epoch_us = now_us ? now_us : 1;
		/* K = cbrt((w_max - cwnd) / C) s; in ms, cbrt(x * 2.5 * 10^9), below 2^20 * 2^32. */
		c->k_ms = c->w_max > c->cwnd ? adp_cbrt((adp_u64)(c->w_max - c->cwnd) * 2500000000ULL) : 0;
		if (c->w_max < c->cwnd)
			c->w_max = c->cwnd;
	}
	t_ms = ((now_us - c->epoch_us) * 1049) >> 20; /* us to ms by 1/999.6: no division on the ACK path */
	d = adp_clamp((adp_s64)adp_min_u64(t_ms, 1u << 24) - (adp_s64)c->k_ms, -20000, 20000);
	/* C d^3 = 0.4 (d / 1000)^3; 440 = 0.4e-9 * 2^40. |d^3 * 440| < 8e12 * 440 < 2^52. */
	target = (adp_s64)c->w_max + (d * d * d * 440 >> 40);
	target = adp_clamp(target, ADP_CUBIC_CWND_MIN, (adp_s64)c->cwnd + (c->cwnd >> 1) + 1);
	if (target > (adp_s64)c->cwnd)
		c->count += acked * (adp_u32)(target - c->cwnd);
	else
		c->count += acked >> 6; /* keep probing, slowly */
	if (c->count >= c->cwnd) {
		adp_u32 grow = c->count / c->cwnd;

		c->count -= grow * c->cwnd;
		c->cwnd = (adp_u32)adp_min_u64((adp_u64)c->cwnd + grow, ADP_CUBIC_CWND_MAX);
	}
}

#endif
