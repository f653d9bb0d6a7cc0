// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See program.h. */
#include <linux/kmod.h>
#include <linux/list.h>
#include <linux/minmax.h>
#include <linux/string.h>

#include "app.h"
#include "program.h"

LIST_HEAD(adp_programs);

/* Hashes whose module could not be had, so that not every installation runs modprobe. Under adp_lock. */
#define ABSENT_MAX 16
static u64 absent[ABSENT_MAX];
static unsigned int absent_count, absent_next;

static struct adp_program *find(u64 hash)
{
	struct adp_program *program;

	lockdep_assert_held(&adp_lock);
	list_for_each_entry(program, &adp_programs, node)
		if (program->hash == hash)
			return program;
	return NULL;
}

int adp_program_register(struct adp_program *program)
{
	struct adp_layout *layout;
	struct adp_complaint why;
	int err = -EINVAL;

	if (!program->forward || !program->owner)
		return -EINVAL;
	if (program->generator_version != ADP_GENERATOR_VERSION) {
		pr_err("adapath: %s was made by generator %u, this core's parameters are generator %u's: emit and build it again\n",
		       module_name(program->owner), program->generator_version, ADP_GENERATOR_VERSION);
		return -EINVAL;
	}
	layout = kmalloc(sizeof(*layout), GFP_KERNEL);
	if (!layout)
		return -ENOMEM;
	if (adp_layout_init(layout, program->shape, program->layers, &why))
		goto out;
	mutex_lock(&adp_lock);
	err = find(program->hash) ? -EEXIST : 0;
	if (!err) {
		atomic_set(&program->users, 0);
		list_add_tail(&program->node, &adp_programs);
	}
	mutex_unlock(&adp_lock);
out:
	kfree(layout);
	return err;
}
EXPORT_SYMBOL_GPL(adp_program_register);

void adp_program_unregister(struct adp_program *program)
{
	mutex_lock(&adp_lock);
	list_del(&program->node);
	mutex_unlock(&adp_lock);
}
EXPORT_SYMBOL_GPL(adp_program_unregister);

static bool same_shapes(const struct adp_program *program, const struct adp_layout *layout)
{
	u32 l;

	if (program->layers != layout->layers)
		return false;
	for (l = 0; l < layout->layers; l++)
		if (program->shape[l].inputs != layout->shape[l].inputs ||
		    program->shape[l].outputs != layout->shape[l].outputs ||
		    program->shape[l].activation != layout->shape[l].activation)
			return false;
	return true;
}

const struct adp_program *adp_program_hold(u64 hash, const struct adp_layout *layout)
{
	struct adp_program *program = find(hash);

	/* A hash is only a name that userspace gave: the shapes decide whether the program may see these parameters. */
	if (!program || !same_shapes(program, layout))
		return NULL;
	if (!try_module_get(program->owner))
		return NULL; /* it is being unloaded */
	atomic_inc(&program->users);
	return program;
}

void adp_program_release(const struct adp_program *program)
{
	struct adp_program *p = (struct adp_program *)program;
	struct module *owner = p->owner;

	atomic_dec(&p->users);
	module_put(owner); /* from here on the module, and p with it, may go */
}

void adp_program_request(u64 hash)
{
	bool known;
	unsigned int i;

	mutex_lock(&adp_lock);
	known = find(hash);
	for (i = 0; i < ABSENT_MAX; i++)
		known = known || (i < absent_count && absent[i] == hash);
	mutex_unlock(&adp_lock);
	if (known)
		return;

	/* Without the lock: the module's init registers its program. */
	request_module("adapath_net_%016llx", (unsigned long long)hash);

	mutex_lock(&adp_lock);
	if (!find(hash)) {
		absent[absent_next++ % ABSENT_MAX] = hash;
		absent_count = min(absent_count + 1, (unsigned int)ABSENT_MAX);
	}
	mutex_unlock(&adp_lock);
}
