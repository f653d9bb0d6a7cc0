/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Glue of the app cc for target `bpf`: included at the end of a generated program, after adp_net_forward().
 *
 * The network program sits between two halves of cong_control(): adp_cc_control (bpf/cc.bpf.c) closed the interval, chose
 * the slot and tail-called here; adp_cc_apply takes the output from here. All three are struct_ops programs of the same
 * member, which is what makes tail calls between them legal. `adp_test_net` of the same object runs the same
 * adp_net_forward() under BPF_PROG_TEST_RUN: the daemon's check before it installs.
 */
#ifndef ADAPATH_CC_NET_BPF_H
#define ADAPATH_CC_NET_BPF_H

#include "cc_bpf_maps.h"
#include "net_bpf_test.h"

/* Loaded by the daemon's own section handler: a struct_ops program without a struct_ops map of its own. */
ADP_SEC("adp_net/cong_control") int adp_cc_net(adp_u64 *ctx)
{
	struct adp_cc_flow *f = adp_bpf_sk_storage_get(&adp_cc_flows, (void *)ctx[0], 0, 0);
	const struct adp_slot *slot;
	adp_u32 index;

	if (!f)
		return 0;
	index = f->slot;
	slot = adp_bpf_map_lookup_elem(&adp_cc_slots, &index);
	if (!slot)
		return 0;
	adp_net_forward(slot->params, f->input, f->output);
	adp_bpf_tail_call(ctx, &adp_cc_finish, 0);
	return 0;
}

#endif
