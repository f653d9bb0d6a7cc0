/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The cameras that are configured: each one's state, and how a packet finds it. */
#ifndef ADAPATH_KMOD_SELECT_CAMERAS_H
#define ADAPATH_KMOD_SELECT_CAMERAS_H

#include <linux/mutex.h>
#include <linux/netlink.h>
#include <linux/spinlock.h>

#include <adapath/select_ports.h>

/* Where a camera's packets come from and go to. */
struct adp_camera_spec {
	struct adp_address address;
	u16 port[ADP_SELECT_RENDITIONS];
	u8 payload_type;
};

struct adp_camera {
	/*
	 * Guards state, but for what adp_select_quick() changes of a stream, whose packets come on one CPU (select.h). Taken in softirq
	 * by packets, so with bottom halves off elsewhere.
	 */
	spinlock_t lock;
	struct adp_select_camera state;
	struct adp_select_feedback feedback; /* WRITE_ONCE under adp_cameras_lock; packets read each word by itself */
	struct adp_camera_spec spec;	     /* immutable */
};

/* One whole configuration; immutable once packets may find it, but for what the cameras hold. */
struct adp_cameras;

/* Guards what is configured: cameras, their feedback, the market. Never taken by packets. RTNL may be taken under it. */
extern struct mutex adp_cameras_lock;

/*
 * A configuration for packets to find from adp_cameras_commit() on: those that are as and where they were are the very same cameras.
 * commit() waits for packets that are on their way; abort() is for one that is not to be. Under adp_cameras_lock; ERR_PTR() with a
 * reason in extack.
 */
struct adp_cameras *adp_cameras_prepare(const struct adp_camera_spec *specs, u32 count, struct netlink_ext_ack *extack);
void adp_cameras_commit(struct adp_cameras *cameras);
void adp_cameras_abort(struct adp_cameras *cameras);
/* Frees all of them. No packet may be on its way. */
void adp_cameras_exit(void);

/* Under adp_cameras_lock. NULL where the place is empty. */
struct adp_camera *adp_cameras_at(u32 place);
/* In an RCU read-side section, for as long as that. NULL where the packet is no camera's; else what is known of its port, too. */
struct adp_camera *adp_cameras_find(const struct adp_udp *udp, const struct adp_select_port **port);

#endif
