/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Glue of the app select for target `bpf`: included at the end of a generated program, after adp_net_forward().
 *
 * The network program sits between two tc programs: adp_select_ingress (bpf/select.bpf.c) found that a chunk begins, chose the
 * slot and tail-called here; adp_select_apply takes the outputs from here. `adp_test_net` of the same object runs the same
 * adp_net_forward() under BPF_PROG_TEST_RUN: the daemon's check before it installs.
 */
#ifndef ADAPATH_SELECT_NET_BPF_H
#define ADAPATH_SELECT_NET_BPF_H

#include "net_bpf_test.h"
#include "select_bpf_maps.h"

ADP_SEC("tc") int adp_select_net(struct adp_skb *skb)
{
	adp_u32 camera = skb->cb[ADP_SELECT_CB_CAMERA];
	struct adp_select_entry *entry = adp_bpf_map_lookup_elem(&adp_select_cameras, &camera);
	const struct adp_slot *slot;
	adp_u32 index;

	if (!entry)
		return ADP_TC_ACT_SHOT;
	index = entry->camera.slot;
	slot = adp_bpf_map_lookup_elem(&adp_select_slots, &index);
	if (!slot)
		return ADP_TC_ACT_SHOT;
	adp_net_forward(slot->params, entry->camera.input, entry->camera.output);
	adp_bpf_tail_call(skb, &adp_select_finish, 0);
	return ADP_TC_ACT_SHOT;
}

#endif
