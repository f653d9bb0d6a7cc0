/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * How userspace answers where it was asked to decide (the policy `userspace`): an array of 64-bit words that both map, one a
 * flow, by the flow's number modulo the array's size. A word is written and read at once, so it needs no lock and no order:
 * its upper half says which question of which flow it answers, its lower half is the network's output, Q16.
 */
#ifndef ADAPATH_CC_ANSWERS_H
#define ADAPATH_CC_ANSWERS_H

#include "types.h"

#define ADP_CC_ANSWERS (1 << 16)

ADP_INLINE adp_u32 adp_cc_answer_index(adp_u64 flow)
{
	return (adp_u32)(flow & (ADP_CC_ANSWERS - 1));
}

/* `seq`: of the sample that asked. Flows that share a word are told apart by what the golden ratio adds for each. Never 0 at first. */
ADP_INLINE adp_u32 adp_cc_answer_tag(adp_u64 flow, adp_u32 seq)
{
	return seq + 1 + (adp_u32)(flow / ADP_CC_ANSWERS) * 0x9e3779b1u;
}

ADP_INLINE adp_u64 adp_cc_answer(adp_u64 flow, adp_u32 seq, adp_s32 output)
{
	return (adp_u64)adp_cc_answer_tag(flow, seq) << 32 | (adp_u32)output;
}

#endif
