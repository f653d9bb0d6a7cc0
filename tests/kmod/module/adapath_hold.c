// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * adapath_hold.ko: a netfilter hook at the ingress of the loopback device that accepts everything, so that there always is one. The
 * first such hook of a machine, and the last, patch the code that every received packet runs (static keys); QEMU's emulation (7.2,
 * TCG with several processors) can't do that under traffic: "Oops: int3" in core networking code, with tc's clsact alone and no module
 * of ours as well. Hooks that come and go beside this one patch nothing.
 */
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <net/net_namespace.h>

static unsigned int accept(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	return NF_ACCEPT;
}

static struct nf_hook_ops hook = {
	.hook = accept,
	.pf = NFPROTO_NETDEV,
	.hooknum = NF_NETDEV_INGRESS,
};

static int __init adapath_hold_init(void)
{
	/* There for as long as the namespace. */
	hook.dev = init_net.loopback_dev;
	return nf_register_net_hook(&init_net, &hook);
}

static void __exit adapath_hold_exit(void)
{
	nf_unregister_net_hook(&init_net, &hook);
	synchronize_net();
}

module_init(adapath_hold_init);
module_exit(adapath_hold_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("Tests of Adapath: a netfilter ingress hook that is always there");
