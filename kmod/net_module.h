/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Makes a kernel module of a generated program: included at the end of one (codegen's target `kmod`), never on its own. The
 * module registers its program with adapath.ko and does nothing else; the core holds it while a snapshot runs the program.
 * Parameters are data, so retraining never builds a module.
 *
 * The program defines adp_net_forward(), adp_program_shape[] and ADP_PROGRAM_{HASH,GENERATOR,NETWORK,INPUTS,OUTPUTS,
 * PARAMS_BYTES}. Its file is named adapath_net_<16 hex digits of the hash>.c, because the core asks for the module of that name.
 */
#ifndef ADAPATH_KMOD_NET_MODULE_H
#define ADAPATH_KMOD_NET_MODULE_H

#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/module.h>

#include "adapath.h"

ADP_STATIC_ASSERT(ARRAY_SIZE(adp_program_shape) <= ADP_MAX_LAYERS, "generated for another ABI: emit the program again");
ADP_STATIC_ASSERT(ADP_PROGRAM_INPUTS <= ADP_MAX_WIDTH, "generated for another ABI: emit the program again");
ADP_STATIC_ASSERT(ADP_PROGRAM_OUTPUTS <= ADP_MAX_OUTPUTS, "generated for another ABI: emit the program again");
ADP_STATIC_ASSERT(ADP_PROGRAM_PARAMS_BYTES <= ADP_PARAMS_BYTES, "generated for another ABI: emit the program again");

/* A function of its own: the core calls it through a pointer. */
static void adp_program_forward(const u8 *params, const u8 *in, s32 *out)
{
	adp_net_forward(params, in, out);
}

static struct adp_program adp_program = {
	.hash = ADP_PROGRAM_HASH,
	.generator_version = ADP_PROGRAM_GENERATOR,
	.shape = adp_program_shape,
	.layers = ARRAY_SIZE(adp_program_shape),
	.forward = adp_program_forward,
	.owner = THIS_MODULE,
};

static int __init adp_program_init(void)
{
	return adp_program_register(&adp_program);
}

static void __exit adp_program_exit(void)
{
	adp_program_unregister(&adp_program);
}

module_init(adp_program_init);
module_exit(adp_program_exit);

MODULE_LICENSE("Dual MIT/GPL");
MODULE_AUTHOR("Adapath");
MODULE_DESCRIPTION("Adapath program of the network " ADP_PROGRAM_NETWORK);

#endif
