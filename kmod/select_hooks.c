// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * See select_hooks.h. RTNL guards all of it: an interface is looked up, hooked and unhooked under it, and is unregistered under it, so
 * none goes away in between and no reference to it is held.
 */
#include <linux/limits.h>
#include <linux/netdevice.h>
#include <linux/notifier.h>
#include <linux/rtnetlink.h>
#include <net/net_namespace.h>

#include "compat.h"
#include "select_hooks.h"

struct hook {
	struct nf_hook_ops ops; /* ops.dev: NULL = free */
	bool wanted;		/* by the call that is being made */
	bool added;		/* by it */
};

/* Room for an old set and a new one that has nothing in common with it. */
static struct hook hooks[2 * ADP_SELECT_INTERFACES];
static nf_hookfn *packet_hook;

static struct hook *hook_of(const struct net_device *dev)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(hooks); i++)
		if (hooks[i].ops.dev == dev)
			return &hooks[i];
	return NULL;
}

/* Packets that are on their way may still be at the hook. */
static void unhook(struct hook *h)
{
	ASSERT_RTNL();
	nf_unregister_net_hook(&init_net, &h->ops);
	h->ops.dev = NULL;
}

static int want(u32 ifindex, struct netlink_ext_ack *extack)
{
	struct net_device *dev = __dev_get_by_index(&init_net, ifindex);
	struct hook *h;
	int err;

	if (!dev) {
		ADP_EXTACK(extack, "no such interface in the initial namespace", ": ifindex %u", ifindex);
		return -ENODEV;
	}
	h = hook_of(dev);
	if (h && h->wanted) {
		ADP_EXTACK(extack, "an interface is named twice", ": ifindex %u", ifindex);
		return -EINVAL;
	}
	if (!h) {
		h = hook_of(NULL);
		if (WARN_ON_ONCE(!h))
			return -ENOSPC;
		h->ops = (struct nf_hook_ops){
			.hook = packet_hook,
			.dev = dev,
			.pf = NFPROTO_NETDEV,
			.hooknum = NF_NETDEV_INGRESS,
			/* Before a flow table, which would take a camera's packets past us. */
			.priority = INT_MIN,
		};
		err = nf_register_net_hook(&init_net, &h->ops);
		if (err) {
			h->ops.dev = NULL;
			ADP_EXTACK(extack, "the kernel gives the interface no hook", ": ifindex %u", ifindex);
			return err;
		}
		h->added = true;
	}
	h->wanted = true;
	return 0;
}

/* Takes away what is there and not wanted, or after a failure what was added; clears the marks. */
static void settle(int err)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		struct hook *h = &hooks[i];

		if (h->ops.dev && (err ? h->added : !h->wanted))
			unhook(h);
		h->wanted = false;
		h->added = false;
	}
}

int adp_hooks_set(const u32 *interfaces, u32 count, struct netlink_ext_ack *extack)
{
	int err = 0;
	u32 i;

	rtnl_lock();
	for (i = 0; i < count && !err; i++)
		err = want(interfaces[i], extack);
	settle(err);
	rtnl_unlock();
	return err;
}

u32 adp_hooks_get(u32 interfaces[ADP_SELECT_INTERFACES])
{
	u32 i, count = 0;

	rtnl_lock();
	for (i = 0; i < ARRAY_SIZE(hooks) && count < ADP_SELECT_INTERFACES; i++)
		if (hooks[i].ops.dev)
			interfaces[count++] = hooks[i].ops.dev->ifindex;
	rtnl_unlock();
	return count;
}

/* Under RTNL. An interface that moves to another namespace is unregistered in the old one, too. */
static int on_device_event(struct notifier_block *block, unsigned long event, void *info)
{
	struct hook *h;

	if (event != NETDEV_UNREGISTER)
		return NOTIFY_DONE;
	h = hook_of(netdev_notifier_info_to_dev(info));
	if (h)
		unhook(h);
	return NOTIFY_DONE;
}

static struct notifier_block notifier = {
	.notifier_call = on_device_event,
};

int adp_hooks_init(nf_hookfn *hook)
{
	packet_hook = hook;
	return register_netdevice_notifier(&notifier);
}

void adp_hooks_exit(void)
{
	adp_hooks_set(NULL, 0, NULL);
	unregister_netdevice_notifier(&notifier);
	/* Pairs with the packets' read-side sections: unhooking does not wait for them. */
	synchronize_net();
}
