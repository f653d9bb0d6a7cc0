/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Programs that generated modules have registered. */
#ifndef ADAPATH_KMOD_PROGRAM_H
#define ADAPATH_KMOD_PROGRAM_H

#include "adapath.h"

extern struct list_head adp_programs; /* under adp_lock */

/* Under adp_lock. The program of this hash for just these shapes, its module held for the caller; NULL where there is none. */
const struct adp_program *adp_program_hold(u64 hash, const struct adp_layout *layout);
void adp_program_release(const struct adp_program *program);

/*
 * Asks for the module adapath_net_<hash> where no such program is registered. Takes adp_lock itself and runs modprobe without
 * it. A module that is not there is asked for once: what is installed later has to be loaded by hand (or register itself).
 */
void adp_program_request(u64 hash);

#endif
