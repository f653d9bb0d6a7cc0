// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * adapath_cc.ko: the app cc as the TCP congestion control "adapath_k". What an ACK means, what a decision does and what a sample
 * holds is in include/adapath/cc.h, shared with the BPF program and the simulator; this file only connects it to the socket.
 *
 * All of a flow's calls come under its socket's lock. The congestion control is there in every network namespace; who decides
 * is the whole machine's (the netlink family is the initial namespace's), and /proc/net/adapath_cc counts the flows of the
 * namespace that reads it.
 */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/random.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <net/net_namespace.h>
#include <net/netns/generic.h>
#include <net/tcp.h>

#include "adapath.h"
#include "compat.h"

#include <adapath/cc.h>

/* Samples a CPU's ring holds: 10 s of 10 flows at the shortest interval, in 150 KiB. */
#define RING_RECORDS 1024
#define WAKEUP_BYTES (64 * 1024)

struct cc_net {
	atomic64_t opened;
	atomic64_t closed;
	atomic64_t decisions;
	atomic64_t fallbacks;
};

struct cc_sock {
	struct adp_cc_flow flow;
	struct adp_snapshot *bound; /* consistency `flow`: the snapshot it began with */
	struct cc_net *net;
};

static struct adp_app *app;
static struct kmem_cache *cache;
static unsigned int net_id;
static atomic64_t last_flow_id;

/* NULL where there was no memory at init(): the socket then goes on with the window and rate that it had. */
static struct cc_sock *cc_of(const struct sock *sk)
{
	return *(struct cc_sock **)inet_csk_ca(sk);
}

/* The kernel lowers the window by itself on a timeout (tcp_enter_loss), so ours is put back at every ACK. */
static void set_cwnd(struct sock *sk, const struct adp_cc_flow *f)
{
	struct tcp_sock *tp = tcp_sk(sk);

	tcp_snd_cwnd_set(tp, min(f->sums.cwnd, tp->snd_cwnd_clamp));
}

/* Pacing rate and window of the flow's present state, to the socket. */
static void set_socket(struct sock *sk, const struct adp_cc_flow *f)
{
	WRITE_ONCE(sk->sk_pacing_rate, min_t(u64, f->rate, READ_ONCE(sk->sk_max_pacing_rate)));
	set_cwnd(sk, f);
}

static u32 least_rtt_us(const struct tcp_sock *tp)
{
	u32 v = tcp_min_rtt(tp);

	return v == ~0U ? 0 : v; /* the kernel's "no sample yet" */
}

static void emit_sample(struct sock *sk, const struct adp_cc_flow *f, u32 flags, s32 noise, s32 action, u32 explore_q16)
{
	const struct tcp_sock *tp = tcp_sk(sk);
	struct adp_cc_sample sample;

	adp_cc_fill_sample(f, &sample, tp->tcp_mstamp, tcp_packets_in_flight(tp), flags, noise, action, explore_q16);
	adp_emit(app, &sample);
}

static void cc_init(struct sock *sk)
{
	struct cc_sock **place = inet_csk_ca(sk);
	struct tcp_sock *tp = tcp_sk(sk);
	struct adp_cc_flow *f;
	struct cc_sock *cc;

	/* In softirq for accepted connections. */
	cc = kmem_cache_zalloc(cache, GFP_ATOMIC);
	*place = cc;
	if (!cc)
		return;
	cc->net = net_generic(sock_net(sk), net_id);
	f = &cc->flow;
	f->id = atomic64_inc_return(&last_flow_id);
	f->slot = ADP_SLOT_NONE;
	f->local_port = sk->sk_num;
	f->remote_port = ntohs(sk->sk_dport);
	adp_cc_init(f, tp->tcp_mstamp, tp->mss_cache, tp->srtt_us >> 3, tcp_snd_cwnd(tp), tp->data_segs_out, tp->delivered);
	adp_cc_set_cwnd(f, tp->srtt_us >> 3, tp->mss_cache);
	/* No fq qdisc is needed: TCP's own timer paces (since 4.13). Pairs with the cmpxchg of SO_MAX_PACING_RATE. */
	cmpxchg(&sk->sk_pacing_status, SK_PACING_NONE, SK_PACING_NEEDED);
	set_socket(sk, f);
	this_cpu_inc(adp_stats(app)->flows_opened);
	atomic64_inc(&cc->net->opened);
}

static void cc_release(struct sock *sk)
{
	struct cc_sock **place = inet_csk_ca(sk);
	struct cc_sock *cc = *place;

	/* Never initialised (a listener, or closed before it was established), or without memory. */
	if (!cc)
		return;
	*place = NULL;
	if (cc->bound)
		adp_unbind(cc->bound);
	this_cpu_inc(adp_stats(app)->flows_closed);
	atomic64_inc(&cc->net->closed);
	kmem_cache_free(cache, cc);
}

/* What the operator wants now. */
static void take_objective(struct adp_cc_flow *f)
{
	adp_cc_set_objective(f, adp_objective(app, ADP_CC_THROUGHPUT_WEIGHT), adp_objective(app, ADP_CC_DELAY_WEIGHT_INDEX),
			     adp_objective(app, ADP_CC_LOSS_WEIGHT_INDEX));
}

/* Nothing decides by a network: CUBIC goes on, or begins. */
static void fall_back(struct sock *sk, struct cc_sock *cc, const struct adp_cc_ack *ack)
{
	struct adp_cc_flow *f = &cc->flow;

	adp_cc_enter_fallback(f, ack->srtt_us, ack->mss);
	adp_cc_fallback_rate(f, ack->srtt_us, ack->mss);
	take_objective(f); /* for the sample's reward */
	f->generation = 0;
	adp_cc_set_cwnd(f, ack->srtt_us, ack->mss);
	set_socket(sk, f);
	emit_sample(sk, f, ADP_CC_FALLBACK_MADE, 0, 0, 0);
	f->seq++;
	this_cpu_inc(adp_stats(app)->fallbacks);
	atomic64_inc(&cc->net->fallbacks);
}

/* Which snapshot decides for this flow: with consistency `flow` the one it is bound to, else the newest (NULL). */
static struct adp_snapshot *bound_snapshot(struct cc_sock *cc)
{
	if (likely(!adp_flow_consistency(app))) {
		/* The operator changed his mind while the flow was bound. */
		if (cc->bound)
			adp_unbind(cc->bound);
		cc->bound = NULL;
	} else if (!cc->bound) {
		cc->bound = adp_bind(app);
	}
	return cc->bound;
}

static void decide(struct sock *sk, struct cc_sock *cc, const struct adp_cc_ack *ack)
{
	struct adp_cc_flow *f = &cc->flow;
	struct adp_snapshot *bound;
	struct adp_decision d;
	s32 out[ADP_CC_OUTPUTS];
	s32 noise = 0, action;
	u32 flags;
	int err;

	if (!adp_ready(app)) {
		fall_back(sk, cc, ack);
		return;
	}
	bound = bound_snapshot(cc);
	adp_cc_leave_fallback(f);
	take_objective(f);
	flags = adp_cc_prepare(f, ack->now_us, ack->delivered);
	if (flags) {
		f->generation = 0;
		adp_cc_set_cwnd(f, ack->srtt_us, ack->mss);
		set_socket(sk, f);
		emit_sample(sk, f, flags, 0, 0, 0);
		f->seq++;
		return;
	}
	err = bound ? adp_query_bound(app, bound, f->input, out, &d) : adp_query(app, f->id, f->input, out, &d);
	if (err) {
		/* Deactivated since adp_ready(). */
		fall_back(sk, cc, ack);
		return;
	}
	f->slot = d.slot;
	f->generation = d.generation;
	f->output[0] = d.raw[0];
	if (d.explore_q16)
		noise = adp_cc_noise(get_random_u32(), d.explore_q16);
	action = adp_cc_act(f, d.raw[0], noise); /* clamps the sum; the sample has the raw output */
	adp_cc_set_cwnd(f, ack->srtt_us, ack->mss);
	set_socket(sk, f);
	emit_sample(sk, f, 0, noise, action, d.explore_q16);
	f->seq++;
	atomic64_inc(&cc->net->decisions);
}

#ifdef ADP_CONG_CONTROL_HAS_ACK
static void cc_control(struct sock *sk, u32 ack_seq, int flag, const struct rate_sample *rs)
#else
static void cc_control(struct sock *sk, const struct rate_sample *rs)
#endif
{
	struct tcp_sock *tp = tcp_sk(sk);
	struct cc_sock *cc = cc_of(sk);
	struct adp_cc_flow *f;
	struct adp_cc_ack ack;

	if (unlikely(!cc))
		return;
	f = &cc->flow;
	ack.now_us = tp->tcp_mstamp;
	ack.rtt_us = rs->rtt_us > 0 ? rs->rtt_us : 0;
	ack.srtt_us = tp->srtt_us >> 3;
	ack.min_rtt_us = least_rtt_us(tp);
	ack.acked = rs->acked_sacked;
	ack.lost = rs->losses > 0 ? rs->losses : 0;
	ack.delivered = tp->delivered;
	ack.sent = tp->data_segs_out;
	ack.in_flight = tcp_packets_in_flight(tp);
	ack.mss = tp->mss_cache;
	ack.app_limited = rs->is_app_limited;

	adp_cc_count_ack(&f->sums, &ack);
	if (f->sums.cubic)
		adp_cc_cubic_ack(f, &ack);
	if (!adp_cc_due(&f->sums, &ack)) {
		set_cwnd(sk, f);
		return;
	}
	this_cpu_add(adp_stats(app)->acks, f->sums.acks);
	adp_cc_close_interval(f, &ack);
	decide(sk, cc, &ack);
}

/* As BBR does: the loss response is the rate's, not the window's. */
static u32 cc_ssthresh(struct sock *sk)
{
	return tcp_sk(sk)->snd_ssthresh;
}

static u32 cc_undo_cwnd(struct sock *sk)
{
	return tcp_snd_cwnd(tcp_sk(sk));
}

static void cc_cwnd_event(struct sock *sk, enum tcp_ca_event event)
{
	const struct tcp_sock *tp = tcp_sk(sk);
	struct cc_sock *cc = cc_of(sk);

	if (event == CA_EVENT_TX_START && cc && adp_cc_was_idle(&cc->flow.sums, tp->tcp_mstamp)) {
		this_cpu_add(adp_stats(app)->acks, cc->flow.sums.acks);
		adp_cc_on_idle_restart(&cc->flow, tp->tcp_mstamp, tp->data_segs_out, tp->delivered);
	}
}

static struct tcp_congestion_ops cc_ops __read_mostly = {
	.flags = TCP_CONG_NON_RESTRICTED,
	.name = "adapath_k",
	.owner = THIS_MODULE,
	.init = cc_init,
	.release = cc_release,
	.cong_control = cc_control,
	.ssthresh = cc_ssthresh,
	.undo_cwnd = cc_undo_cwnd,
	.cwnd_event = cc_cwnd_event,
};

/* ---- /proc/net/adapath_cc ---- */

static int cc_show(struct seq_file *seq, void *unused)
{
	const struct cc_net *net = net_generic(seq_file_single_net(seq), net_id);
	s64 closed = atomic64_read(&net->closed); /* first: open is then never below 0 */
	s64 opened = atomic64_read(&net->opened);

	seq_printf(seq, "flows_open %lld\nflows_opened %lld\ndecisions %lld\nfallbacks %lld\n", opened - closed, opened,
		   (s64)atomic64_read(&net->decisions), (s64)atomic64_read(&net->fallbacks));
	return 0;
}

static int __net_init cc_net_init(struct net *net)
{
	return proc_create_net_single("adapath_cc", 0444, net->proc_net, cc_show, NULL) ? 0 : -ENOMEM;
}

/* A namespace goes after its last socket: no flow counts here any more. */
static void __net_exit cc_net_exit(struct net *net)
{
	remove_proc_entry("adapath_cc", net->proc_net);
}

static struct pernet_operations cc_net_ops = {
	.init = cc_net_init,
	.exit = cc_net_exit,
	.id = &net_id,
	.size = sizeof(struct cc_net),
};

static const struct adp_app_desc cc_app = {
	.name = "cc",
	.interface = "adapath_k",
	.schema = ADP_CC_SCHEMA,
	.inputs = ADP_CC_INPUTS,
	.outputs = ADP_CC_OUTPUTS,
	.lowest = { -ADP_CC_ACTION_MAX_Q16 },
	.highest = { ADP_CC_ACTION_MAX_Q16 },
	.record_bytes = sizeof(struct adp_cc_sample),
	.ring_records = RING_RECORDS,
	.wakeup_bytes = WAKEUP_BYTES,
	.owner = THIS_MODULE,
};

static int __init adapath_cc_init(void)
{
	int err;

	BUILD_BUG_ON(sizeof(struct cc_sock *) > ICSK_CA_PRIV_SIZE);
	cache = KMEM_CACHE(cc_sock, 0);
	if (!cache)
		return -ENOMEM;
	app = adp_app_register(&cc_app);
	if (IS_ERR(app)) {
		err = PTR_ERR(app);
		goto err_cache;
	}
	err = register_pernet_subsys(&cc_net_ops);
	if (err)
		goto err_app;
	/* Last: from here on there may be flows. */
	err = tcp_register_congestion_control(&cc_ops);
	if (err)
		goto err_net;
	return 0;

err_net:
	unregister_pernet_subsys(&cc_net_ops);
err_app:
	adp_app_unregister(app);
err_cache:
	kmem_cache_destroy(cache);
	return err;
}

static void __exit adapath_cc_exit(void)
{
	/* Each socket that uses it holds the module: none is left. */
	tcp_unregister_congestion_control(&cc_ops);
	unregister_pernet_subsys(&cc_net_ops);
	adp_app_unregister(app);
	kmem_cache_destroy(cache);
}

module_init(adapath_cc_init);
module_exit(adapath_cc_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("TCP congestion control by Adapath snapshots");
MODULE_VERSION("0.1.0");
MODULE_ALIAS_ADAPATH_APP("cc");
MODULE_ALIAS("tcp_adapath_k");
