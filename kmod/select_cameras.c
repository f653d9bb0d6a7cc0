// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See select_cameras.h. */
#include <linux/err.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "compat.h"
#include "select_cameras.h"

struct adp_cameras {
	u32 count;
	struct adp_camera *at[ADP_SELECT_CAMERAS];
	struct adp_select_port ports[ADP_SELECT_PORTS];
};

DEFINE_MUTEX(adp_cameras_lock);
/* NULL: none. */
static struct adp_cameras __rcu *active;
/* The last number that was given out; under adp_cameras_lock. */
static u64 last_id;

static struct adp_cameras *present(void)
{
	return rcu_dereference_protected(active, lockdep_is_held(&adp_cameras_lock));
}

struct adp_camera *adp_cameras_at(u32 place)
{
	struct adp_cameras *cameras = present();

	return cameras && place < cameras->count ? cameras->at[place] : NULL;
}

/* The index of the rendition's port, or -1. */
static int find(const struct adp_cameras *cameras, const struct adp_address *source, u32 port)
{
	u32 home = adp_select_home(source, port), reach = cameras->ports[home].reach, i;

	for (i = 0; i <= reach; i++) {
		u32 index = (home + i) & (ADP_SELECT_PORTS - 1);

		if (adp_select_port_is(&cameras->ports[index], source, port))
			return index;
	}
	return -1;
}

struct adp_camera *adp_cameras_find(const struct adp_udp *udp, const struct adp_select_port **port)
{
	/* Pairs with rcu_assign_pointer() in adp_cameras_commit(). */
	const struct adp_cameras *cameras = rcu_dereference(active);
	int index;

	/* Port 0 is what free places have. */
	if (!cameras || !udp->destination_port)
		return NULL;
	index = find(cameras, &udp->source, udp->destination_port);
	if (index < 0)
		return NULL;
	*port = &cameras->ports[index];
	return cameras->at[cameras->ports[index].camera];
}

static bool same(const struct adp_camera_spec *a, const struct adp_camera_spec *b)
{
	return !memcmp(&a->address, &b->address, sizeof(a->address)) && a->port[ADP_SELECT_SUB] == b->port[ADP_SELECT_SUB] &&
	       a->port[ADP_SELECT_MAIN] == b->port[ADP_SELECT_MAIN] && a->payload_type == b->payload_type;
}

static int add_port(struct adp_cameras *cameras, u32 place, const struct adp_camera_spec *spec, u32 rendition,
		    struct netlink_ext_ack *extack)
{
	u32 port = spec->port[rendition], home = adp_select_home(&spec->address, port), i;
	int taken = find(cameras, &spec->address, port);

	if (taken >= 0) {
		ADP_EXTACK(extack, "two renditions with one address and port", ": cameras %u and %u, port %u",
			   cameras->ports[taken].camera, place, port);
		return -EINVAL;
	}
	for (i = 0; i < ADP_SELECT_PROBES; i++) {
		struct adp_select_port *entry = &cameras->ports[(home + i) & (ADP_SELECT_PORTS - 1)];

		if (entry->port)
			continue;
		entry->source = spec->address;
		entry->port = port;
		entry->camera = place;
		entry->rendition = rendition;
		entry->payload_type = spec->payload_type;
		if (cameras->ports[home].reach < i)
			cameras->ports[home].reach = i;
		return 0;
	}
	ADP_EXTACK(extack, "no room in the table: use another port", ": camera %u, port %u", place, port);
	return -ENOSPC;
}

static struct adp_camera *create(const struct adp_camera_spec *spec)
{
	struct adp_camera *camera = kzalloc(sizeof(*camera), GFP_KERNEL);

	if (!camera)
		return NULL;
	spin_lock_init(&camera->lock);
	camera->spec = *spec;
	camera->state.id = ++last_id;
	return camera;
}

/* A configuration and those of its cameras that are not another one's, too. */
static void free_but(struct adp_cameras *cameras, const struct adp_cameras *other)
{
	u32 i;

	if (!cameras)
		return;
	for (i = 0; i < cameras->count; i++)
		if (!other || i >= other->count || cameras->at[i] != other->at[i])
			kfree(cameras->at[i]);
	kvfree(cameras);
}

struct adp_cameras *adp_cameras_prepare(const struct adp_camera_spec *specs, u32 count, struct netlink_ext_ack *extack)
{
	struct adp_cameras *cameras;
	u32 i, rendition;
	int err;

	cameras = kvzalloc(sizeof(*cameras), GFP_KERNEL);
	if (!cameras)
		return ERR_PTR(-ENOMEM);
	for (i = 0; i < count; i++) {
		struct adp_camera *there = adp_cameras_at(i);

		for (rendition = 0; rendition < ADP_SELECT_RENDITIONS; rendition++) {
			err = add_port(cameras, i, &specs[i], rendition, extack);
			if (err)
				goto err_free;
		}
		cameras->at[i] = there && same(&there->spec, &specs[i]) ? there : create(&specs[i]);
		if (!cameras->at[i]) {
			err = -ENOMEM;
			goto err_free;
		}
		cameras->count = i + 1;
	}
	return cameras;

err_free:
	adp_cameras_abort(cameras);
	return ERR_PTR(err);
}

void adp_cameras_commit(struct adp_cameras *cameras)
{
	struct adp_cameras *old = present();

	/* Pairs with rcu_dereference() in adp_cameras_find(): whoever sees the pointer sees the table and the new cameras. */
	rcu_assign_pointer(active, cameras);
	/* Pairs with the packets' read-side sections (netfilter's): none is at the old table or at a camera that goes. */
	synchronize_rcu();
	free_but(old, cameras);
}

void adp_cameras_abort(struct adp_cameras *cameras)
{
	free_but(cameras, present());
}

void adp_cameras_exit(void)
{
	mutex_lock(&adp_cameras_lock);
	free_but(present(), NULL);
	RCU_INIT_POINTER(active, NULL);
	mutex_unlock(&adp_cameras_lock);
}
