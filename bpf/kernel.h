/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The few kernel structures that the programs touch, with only the fields they touch. CO-RE relocates every access against
 * the running kernel's BTF, so offsets here mean nothing and no vmlinux.h (3 MB, of one kernel) is needed to build.
 */
#ifndef ADAPATH_BPF_KERNEL_H
#define ADAPATH_BPF_KERNEL_H

#include <adapath/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sock_common {
	adp_u16 skc_dport; /* network order */
	adp_u16 skc_num;   /* host order */
};

struct sock {
	struct sock_common __sk_common;
	unsigned long sk_pacing_rate;
	unsigned long sk_max_pacing_rate;
	adp_u32 sk_pacing_status;
};

struct inet_connection_sock {
	adp_u64 icsk_ca_priv[13]; /* ICSK_CA_PRIV_SIZE: 104 bytes */
};

struct minmax_sample {
	adp_u32 t;
	adp_u32 v;
};

struct minmax {
	struct minmax_sample s[3];
};

struct tcp_sock {
	adp_u64 tcp_mstamp; /* us; of the segment being processed */
	adp_u32 srtt_us;    /* << 3 */
	struct minmax rtt_min;
	adp_u32 delivered;
	adp_u32 data_segs_out;
	adp_u32 packets_out;
	adp_u32 sacked_out;
	adp_u32 lost_out;
	adp_u32 retrans_out;
	adp_u32 mss_cache;
	adp_u32 snd_cwnd;
	adp_u32 snd_cwnd_clamp;
	adp_u32 snd_ssthresh;
};

struct rate_sample {
	long rtt_us;
	int losses;
	adp_u32 acked_sacked;
	_Bool is_app_limited;
};

#pragma clang attribute pop

enum tcp_ca_event {
	CA_EVENT_TX_START = 0, /* first transmit when no packets in flight */
};

enum sk_pacing {
	SK_PACING_NONE = 0,
	SK_PACING_NEEDED = 1,
	SK_PACING_FQ = 2,
};

/* Matched to the kernel's by the members' names (libbpf 1.3 and newer). */
struct tcp_congestion_ops {
	adp_u32 (*ssthresh)(struct sock *sk);
	void (*cwnd_event)(struct sock *sk, enum tcp_ca_event event);
	adp_u32 (*min_tso_segs)(struct sock *sk);
	void (*cong_control)(struct sock *sk);
	adp_u32 (*undo_cwnd)(struct sock *sk);
	char name[16];
	void (*init)(struct sock *sk);
	void (*release)(struct sock *sk);
};

#endif
