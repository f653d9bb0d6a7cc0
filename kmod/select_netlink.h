/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The generic netlink family of the app select: include/adapath/select_netlink.h has its numbers, docs/netlink.md describes it. */
#ifndef ADAPATH_KMOD_SELECT_NETLINK_H
#define ADAPATH_KMOD_SELECT_NETLINK_H

#include <adapath/select.h>

/* What userspace says of the uplink. WRITE_ONCE under adp_cameras_lock; packets read each word by itself. */
extern struct adp_select_market adp_select_market;

int adp_select_netlink_init(void);
void adp_select_netlink_exit(void);

#endif
