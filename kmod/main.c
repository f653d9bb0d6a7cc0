// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * adapath.ko: snapshots of small neural networks that other modules, and BPF programs, ask for decisions. What an app is comes
 * from a module of its own (adapath_cc.ko); parameters come over netlink and decide by one pointer's change.
 */
#include <linux/module.h>
#include <net/genetlink.h>

#include "kfunc.h"
#include "netlink.h"
#include "snapshot.h"

#include <adapath/netlink.h>

static int __init adapath_init(void)
{
	int err;

	err = adp_snapshots_init();
	if (err)
		return err;
	err = adp_netlink_init();
	if (err)
		goto err_snapshots;
	adp_kfunc_init();
	return 0;

err_snapshots:
	adp_snapshots_exit();
	return err;
}

static void __exit adapath_exit(void)
{
	/* No app is left: each holds this module by its symbols. */
	adp_netlink_exit();
	adp_snapshots_exit();
}

module_init(adapath_init);
module_exit(adapath_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("Integer snapshots of neural networks in the kernel's datapath");
MODULE_VERSION("0.1.0");
MODULE_ALIAS_GENL_FAMILY(ADP_GENL_NAME);
