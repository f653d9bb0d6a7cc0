/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* An app's sample ring and its device; the layout and the reader's part are in include/adapath/ring.h. */
#ifndef ADAPATH_KMOD_RING_H
#define ADAPATH_KMOD_RING_H

#include <linux/types.h>

struct adp_ring;

/* Registers /dev/adapath/<name>. ERR_PTR(-EINVAL) for sizes out of range, -ENOMEM, or what the device said. */
struct adp_ring *adp_ring_create(const char *name, u32 record_bytes, u32 records, u32 wakeup_bytes);
/* Readers that have it open see the end (EPOLLHUP); memory goes with the last of them. No put may be running or begin. */
void adp_ring_destroy(struct adp_ring *ring);

/* One record, any context but NMI. False where there was no room; the ring counts that too. */
bool adp_ring_put(struct adp_ring *ring, const void *record);

void adp_ring_set_wakeup(struct adp_ring *ring, u32 bytes);
u32 adp_ring_wakeup(const struct adp_ring *ring);
const char *adp_ring_device(const struct adp_ring *ring); /* below /dev */

#endif
