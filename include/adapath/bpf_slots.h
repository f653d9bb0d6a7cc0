/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What the BPF programs of every app do alike with slots and counters (abi.h). */
#ifndef ADAPATH_BPF_SLOTS_H
#define ADAPATH_BPF_SLOTS_H

#include "abi.h"
#include "bpf_min.h"

/*
 * Adds to a field of the per-CPU struct adp_stats in `map`, at `key` 0. Atomically: a softirq may come between load and store of
 * process context, and of a test run. The line is not shared, so the atomic costs nothing that matters once per decision.
 */
#define ADP_COUNT_BY(map, key, field, n)                                                      \
	do {                                                                                  \
		struct adp_stats *stats_ = adp_bpf_map_lookup_elem((map), (key));             \
		if (stats_)                                                                   \
			__sync_fetch_and_add(&stats_->field, (n));                            \
	} while (0)

/*
 * To the network program of the slot in `map`; comes back where there is none. Constant indices, so that each is a direct jump
 * (0.7-1.2 ns) and not a retpoline (13 ns).
 */
#define ADP_TAIL_CALL_SLOT(ctx, map, index)                                                   \
	do {                                                                                  \
		switch (index) {                                                              \
		case 0:                                                                       \
			adp_bpf_tail_call((ctx), (map), 0);                                   \
			break;                                                                \
		case 1:                                                                       \
			adp_bpf_tail_call((ctx), (map), 1);                                   \
			break;                                                                \
		case 2:                                                                       \
			adp_bpf_tail_call((ctx), (map), 2);                                   \
			break;                                                                \
		case 3:                                                                       \
			adp_bpf_tail_call((ctx), (map), 3);                                   \
			break;                                                                \
		case 4:                                                                       \
			adp_bpf_tail_call((ctx), (map), 4);                                   \
			break;                                                                \
		case 5:                                                                       \
			adp_bpf_tail_call((ctx), (map), 5);                                   \
			break;                                                                \
		case 6:                                                                       \
			adp_bpf_tail_call((ctx), (map), 6);                                   \
			break;                                                                \
		case 7:                                                                       \
			adp_bpf_tail_call((ctx), (map), 7);                                   \
			break;                                                                \
		}                                                                             \
	} while (0)
ADP_STATIC_ASSERT(ADP_SLOTS == 8, "one tail call for each slot in ADP_TAIL_CALL_SLOT()");

#endif
