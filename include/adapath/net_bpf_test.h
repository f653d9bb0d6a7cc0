/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Glue for target `bpf_test`: runs adp_net_forward() under BPF_PROG_TEST_RUN, for the tests and benchmarks that hold the
 * kernel's JIT to the reference interpreter. Included at the end of a generated program, never on its own.
 *
 * The entry of adp_test_io to work on is skb->mark, which the caller sets in test_run's ctx_in. `adp_test_empty` does the
 * same lookups without the network, so that a benchmark can subtract what is not the network's.
 */
#ifndef ADAPATH_NET_BPF_TEST_H
#define ADAPATH_NET_BPF_TEST_H

#include "abi.h"

#define ADP_TEST_ENTRIES 64

struct adp_test_params_value {
	adp_u8 bytes[ADP_PARAMS_BYTES] __attribute__((aligned(64)));
};

struct adp_test_io_value {
	adp_u8 in[ADP_MAX_WIDTH];
	adp_s32 out[ADP_MAX_OUTPUTS];
};

#ifdef __bpf__ /* userspace needs only the records above */
#include "bpf_min.h"

struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_ARRAY);
	ADP_MAP_UINT(map_flags, ADP_BPF_F_MMAPABLE);
	ADP_MAP_UINT(max_entries, 1);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, struct adp_test_params_value);
} adp_test_params ADP_SEC(".maps");

struct {
	ADP_MAP_UINT(type, ADP_BPF_MAP_ARRAY);
	ADP_MAP_UINT(map_flags, ADP_BPF_F_MMAPABLE);
	ADP_MAP_UINT(max_entries, ADP_TEST_ENTRIES);
	ADP_MAP_TYPE(key, adp_u32);
	ADP_MAP_TYPE(value, struct adp_test_io_value);
} adp_test_io ADP_SEC(".maps");

ADP_SEC("tc") int adp_test_net(struct adp_skb *skb)
{
	adp_u32 zero = 0;
	adp_u32 entry = skb->mark;
	const struct adp_test_params_value *params = adp_bpf_map_lookup_elem(&adp_test_params, &zero);
	struct adp_test_io_value *io = adp_bpf_map_lookup_elem(&adp_test_io, &entry);

	if (!params || !io)
		return ADP_TC_ACT_SHOT;
	adp_net_forward(params->bytes, io->in, io->out);
	return ADP_TC_ACT_OK;
}

ADP_SEC("tc") int adp_test_empty(struct adp_skb *skb)
{
	adp_u32 zero = 0;
	adp_u32 entry = skb->mark;
	const struct adp_test_params_value *params = adp_bpf_map_lookup_elem(&adp_test_params, &zero);
	struct adp_test_io_value *io = adp_bpf_map_lookup_elem(&adp_test_io, &entry);

	if (!params || !io)
		return ADP_TC_ACT_SHOT;
	io->out[0] = params->bytes[0] + io->in[0];
	return ADP_TC_ACT_OK;
}

ADP_BPF_LICENSE("Dual MIT/GPL");
#endif

#endif
