// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See ring.h. */
#include <linux/atomic.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/irq_work.h>
#include <linux/kref.h>
#include <linux/log2.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "adapath.h"
#include "compat.h"
#include "ring.h"

#include <adapath/ring.h>

#define RECORD_BYTES_MAX 1024
#define RECORDS_MAX 65536

struct adp_ring {
	struct kref ref; /* the app's, and one of each open file */
	struct adp_ring_info *info; /* vmalloc'ed with the rings behind it; mapped read-only */
	struct adp_ring_tails *tails; /* vmalloc'ed; the reader writes it */
	u8 *data;
	u32 cpus;
	u32 records;
	u32 record_bytes;
	u32 stride;
	u32 cpu_bytes;
	u32 wakeup_records; /* 0 = never; WRITE_ONCE by configuration */
	u32 wakeup_bytes;
	bool dead; /* WRITE_ONCE: the app is gone */
	atomic_t open;
	wait_queue_head_t wait;
	struct irq_work wake;
	struct miscdevice misc;
	char name[32];
	char node[32];
};

static void ring_free(struct kref *ref)
{
	struct adp_ring *ring = container_of(ref, struct adp_ring, ref);

	vfree(ring->info);
	vfree(ring->tails);
	kfree(ring);
}

static void wake_reader(struct irq_work *work)
{
	struct adp_ring *ring = container_of(work, struct adp_ring, wake);

	wake_up_interruptible(&ring->wait);
}

/* What waits on this CPU's ring, by a tail that only the reader answers for: more than fits means a wrong tail. */
static u64 filled(const struct adp_ring *ring, u32 cpu, u64 head)
{
	/* Pairs with the reader's release of its tail: the record is read before its place is written again. */
	return head - smp_load_acquire(&ring->tails->tail[cpu]);
}

bool adp_ring_put(struct adp_ring *ring, const void *record)
{
	struct adp_ring_head *mine;
	unsigned long flags;
	u32 wakeup, cpu;
	bool done = false;
	u64 head, used;
	u8 *place;

	/* The CPU's ring is ours alone while nothing can interrupt: about 20 ns for a cc sample. */
	local_irq_save(flags);
	cpu = smp_processor_id();
	if (cpu >= ring->cpus)
		goto out;
	mine = &ring->info->heads[cpu];
	head = mine->head;
	used = filled(ring, cpu, head);
	if (used >= ring->records) {
		WRITE_ONCE(mine->lost, mine->lost + 1);
		goto out;
	}
	place = ring->data + (size_t)cpu * ring->cpu_bytes + (size_t)(head & (ring->records - 1)) * ring->stride;
	/* Full barrier: what the same flow wrote before, on whichever CPU, is complete for whoever sees this number. */
	*(u64 *)place = atomic64_inc_return((atomic64_t *)&ring->info->last);
	memcpy(place + ADP_RING_HEADER_BYTES, record, ring->record_bytes);
	/* Pairs with the reader's acquire of the head. */
	smp_store_release(&mine->head, head + 1);
	wakeup = READ_ONCE(ring->wakeup_records);
	/* By irq_work, since the caller may hold any lock. */
	if (wakeup && used + 1 >= wakeup)
		irq_work_queue(&ring->wake);
	done = true;
out:
	local_irq_restore(flags);
	return done;
}

static int ring_open(struct inode *inode, struct file *file)
{
	/* misc_open() holds misc_mtx, which misc_deregister() takes: the ring is alive here. */
	struct adp_ring *ring = container_of(file->private_data, struct adp_ring, misc);

	if (atomic_cmpxchg(&ring->open, 0, 1))
		return -EBUSY; /* one reader */
	kref_get(&ring->ref);
	file->private_data = ring;
	return 0;
}

static int ring_release(struct inode *inode, struct file *file)
{
	struct adp_ring *ring = file->private_data;

	atomic_set(&ring->open, 0);
	kref_put(&ring->ref, ring_free);
	return 0;
}

static int ring_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct adp_ring *ring = file->private_data;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	/* remap_vmalloc_range() holds the length to the area's own. */
	if (vma->vm_pgoff == 0)
		return remap_vmalloc_range(vma, ring->tails, 0);
	if (vma->vm_pgoff != ADP_RING_DATA_OFFSET >> PAGE_SHIFT)
		return -EINVAL;
	if (vma->vm_flags & VM_WRITE)
		return -EPERM;
	vm_flags_clear(vma, VM_MAYWRITE);
	return remap_vmalloc_range(vma, ring->info, 0);
}

static __poll_t ring_poll(struct file *file, poll_table *table)
{
	struct adp_ring *ring = file->private_data;
	u32 cpu, wakeup = READ_ONCE(ring->wakeup_records);

	poll_wait(file, &ring->wait, table);
	if (READ_ONCE(ring->dead))
		return EPOLLHUP | EPOLLERR;
	for (cpu = 0; wakeup && cpu < ring->cpus; cpu++)
		if (filled(ring, cpu, smp_load_acquire(&ring->info->heads[cpu].head)) >= wakeup)
			return EPOLLIN | EPOLLRDNORM;
	return 0;
}

static const struct file_operations ring_fops = {
	.owner = THIS_MODULE,
	.open = ring_open,
	.release = ring_release,
	.mmap = ring_mmap,
	.poll = ring_poll,
	.llseek = noop_llseek,
};

void adp_ring_set_wakeup(struct adp_ring *ring, u32 bytes)
{
	WRITE_ONCE(ring->wakeup_bytes, bytes);
	WRITE_ONCE(ring->wakeup_records, bytes ? clamp(bytes / ring->record_bytes, 1U, ring->records) : 0);
	wake_up_interruptible(&ring->wait);
}

u32 adp_ring_wakeup(const struct adp_ring *ring)
{
	return READ_ONCE(ring->wakeup_bytes);
}

const char *adp_ring_device(const struct adp_ring *ring)
{
	return ring->node;
}

struct adp_ring *adp_ring_create(const char *name, u32 record_bytes, u32 records, u32 wakeup_bytes)
{
	struct adp_ring *ring;
	size_t bytes;
	int err;

	BUILD_BUG_ON(ADP_RING_DATA_OFFSET % PAGE_SIZE || ADP_RING_INFO_BYTES % PAGE_SIZE);
	if (!record_bytes || record_bytes % 8 || record_bytes > RECORD_BYTES_MAX || !is_power_of_2(records) ||
	    records > RECORDS_MAX)
		return ERR_PTR(-EINVAL);
	ring = kzalloc(sizeof(*ring), GFP_KERNEL);
	if (!ring)
		return ERR_PTR(-ENOMEM);
	kref_init(&ring->ref);
	init_waitqueue_head(&ring->wait);
	init_irq_work(&ring->wake, wake_reader);
	ring->record_bytes = record_bytes;
	ring->records = records;
	ring->stride = ADP_RING_HEADER_BYTES + record_bytes;
	ring->cpus = min_t(u32, nr_cpu_ids, ADP_RING_MAX_CPUS);
	/* At most 65536 * 1032 < 2^27, times 512 CPUs < 2^36. */
	ring->cpu_bytes = PAGE_ALIGN(ring->records * ring->stride);
	bytes = ADP_RING_INFO_BYTES + (size_t)ring->cpus * ring->cpu_bytes;
	ring->info = vmalloc_user(bytes);
	ring->tails = vmalloc_user(PAGE_ALIGN(sizeof(*ring->tails)));
	if (!ring->info || !ring->tails) {
		err = -ENOMEM;
		goto err_free;
	}
	ring->data = (u8 *)ring->info + ADP_RING_INFO_BYTES;
	ring->info->version = ADP_ABI_VERSION;
	ring->info->cpus = ring->cpus;
	ring->info->record_bytes = record_bytes;
	ring->info->stride = ring->stride;
	ring->info->records = records;
	ring->info->cpu_bytes = ring->cpu_bytes;
	ring->info->map_bytes = bytes;
	adp_ring_set_wakeup(ring, wakeup_bytes);

	snprintf(ring->name, sizeof(ring->name), "adapath_%s", name);
	snprintf(ring->node, sizeof(ring->node), "adapath/%s", name);
	ring->misc.minor = MISC_DYNAMIC_MINOR;
	ring->misc.name = ring->name;
	ring->misc.nodename = ring->node;
	ring->misc.fops = &ring_fops;
	ring->misc.mode = 0600;
	err = misc_register(&ring->misc);
	if (err)
		goto err_free;
	return ring;

err_free:
	kref_put(&ring->ref, ring_free);
	return ERR_PTR(err);
}

void adp_ring_destroy(struct adp_ring *ring)
{
	misc_deregister(&ring->misc);
	WRITE_ONCE(ring->dead, true);
	irq_work_sync(&ring->wake);
	wake_up_interruptible(&ring->wait);
	kref_put(&ring->ref, ring_free);
}
