// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See kfunc.h. */
#include <linux/module.h>
#include <linux/rcupdate.h>

#include "app.h"
#include "compat.h"
#include "kfunc.h"

__bpf_kfunc_start_defs();

/**
 * bpf_adp_query - run an app's active snapshot, never one on trial (a kernel function has no sixth argument for the flow)
 * @app_id: the app's number (ADP_A_ID of ADP_CMD_GET_APP)
 * @in: features, one code a byte
 * @in__sz: the app's number of inputs
 * @out: outputs in Q16, clamped to the app's safe range
 * @out__sz: 4 times the app's number of outputs
 *
 * Return: the generation that decided (from 1); -ENODATA where no snapshot is active, -ENOENT for an unknown app, -EINVAL
 * for wrong sizes.
 */
__bpf_kfunc int bpf_adp_query(u32 app_id, const void *in, u32 in__sz, void *out, u32 out__sz)
{
	struct adp_decision decision;
	s32 result[ADP_MAX_OUTPUTS];
	struct adp_app *app;
	int err = -ENOENT;

	rcu_read_lock();
	app = adp_app_at(app_id);
	if (!app)
		goto out;
	err = -EINVAL;
	if (in__sz != app->inputs || out__sz != app->outputs * sizeof(s32))
		goto out;
	/* out may be aligned to less than 4. */
	err = adp_query(app, 0, in, result, &decision);
	if (err)
		goto out;
	memcpy(out, result, out__sz);
	err = decision.generation & INT_MAX;
out:
	rcu_read_unlock();
	return err;
}

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(adp_kfunc_ids)
BTF_ID_FLAGS(func, bpf_adp_query)
BTF_KFUNCS_END(adp_kfunc_ids)

static const struct btf_kfunc_id_set adp_kfunc_set = {
	.owner = THIS_MODULE,
	.set = &adp_kfunc_ids,
};

void adp_kfunc_init(void)
{
	/* None of these runs in an NMI. */
	static const enum bpf_prog_type types[] = { BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_XDP, BPF_PROG_TYPE_STRUCT_OPS };
	size_t i;
	int err;

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		err = register_btf_kfunc_id_set(types[i], &adp_kfunc_set);
		if (err) {
			pr_info("adapath: BPF programs can't call bpf_adp_query() (%d): the module was built without BTF, see docs/kmod.md\n",
				err);
			return;
		}
	}
}
