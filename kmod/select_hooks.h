/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The interfaces that cameras' packets come in by: a netfilter hook at the ingress of each. */
#ifndef ADAPATH_KMOD_SELECT_HOOKS_H
#define ADAPATH_KMOD_SELECT_HOOKS_H

#include <linux/netfilter.h>
#include <linux/netlink.h>

#include <adapath/select_netlink.h>

/* `hook` sees every packet that comes in by the interfaces of adp_hooks_set(). */
int adp_hooks_init(nf_hookfn *hook);
/* No packet is at the hook any more when it returns. */
void adp_hooks_exit(void);

/*
 * Just these interfaces of the initial network namespace, by ifindex, at most ADP_SELECT_INTERFACES of them; takes RTNL. What is
 * hooked already is not touched. 0, or a reason in extack and everything as before. An interface that goes away, or to another
 * namespace, is forgotten.
 */
int adp_hooks_set(const u32 *interfaces, u32 count, struct netlink_ext_ack *extack);
/* How many there are, and which. Takes RTNL. */
u32 adp_hooks_get(u32 interfaces[ADP_SELECT_INTERFACES]);

#endif
