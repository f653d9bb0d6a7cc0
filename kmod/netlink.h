/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The generic netlink family: include/adapath/netlink.h has its numbers, docs/netlink.md describes it. */
#ifndef ADAPATH_KMOD_NETLINK_H
#define ADAPATH_KMOD_NETLINK_H

int adp_netlink_init(void);
void adp_netlink_exit(void);

#endif
