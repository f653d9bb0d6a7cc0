// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See snapshot.h. */
#include <linux/bottom_half.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#ifdef CONFIG_X86_64
#include <asm/cpufeature.h>
#include <asm/fpu/api.h>
#include <asm/fpu/xcr.h>
#endif

#include "app.h"
#include "program.h"
#include "snapshot.h"

#include <adapath/generic.h>
#include <adapath/simd.h>

/* Freed here: kvfree() of vmalloc'ed memory sleeps, and the last reference may be dropped in softirq. */
static struct workqueue_struct *free_queue;

/* Vectors that every implementation must answer as the generic one does, and runs that a measurement takes the best of. */
#define PROVING_INPUTS 16
#define MEASURED_ROUNDS 5
#define MEASURED_RUNS 32

static bool machine_has(u32 implementation)
{
#ifdef CONFIG_X86_64
	switch (implementation) {
	case ADP_RUN_AVX2:
		return boot_cpu_has(X86_FEATURE_AVX2) && cpu_has_xfeatures(XFEATURE_MASK_SSE | XFEATURE_MASK_YMM, NULL);
	case ADP_RUN_VNNI:
		return boot_cpu_has(X86_FEATURE_AVX512F) && boot_cpu_has(X86_FEATURE_AVX512BW) &&
		       boot_cpu_has(X86_FEATURE_AVX512VL) && boot_cpu_has(X86_FEATURE_AVX512_VNNI) &&
		       cpu_has_xfeatures(XFEATURE_MASK_SSE | XFEATURE_MASK_YMM | XFEATURE_MASK_AVX512, NULL);
	}
#endif
	return false;
}

bool adp_snapshot_can(const struct adp_snapshot *s, u32 implementation)
{
	switch (implementation) {
	case ADP_RUN_CHOSEN:
	case ADP_RUN_GENERIC:
		return true;
	case ADP_RUN_GENERATED:
		return s->program;
	case ADP_RUN_AVX2:
	case ADP_RUN_VNNI:
		return s->simd && machine_has(implementation);
	}
	return false;
}

static __always_inline void run_scalar(const struct adp_snapshot *s, const u8 *in, s32 *out)
{
	if (s->program)
		s->program->forward(s->params, in, out);
	else
		adp_generic_forward(&s->layout, s->params, in, out);
}

void adp_snapshot_run(const struct adp_snapshot *s, u32 implementation, const u8 *in, s32 *out)
{
	switch (implementation) {
#ifdef CONFIG_X86_64
	case ADP_RUN_AVX2:
	case ADP_RUN_VNNI:
		/* An interrupt that came while the kernel itself had the FPU: the same bits by scalar code. */
		if (!irq_fpu_usable())
			break;
		kernel_fpu_begin();
		if (implementation == ADP_RUN_AVX2)
			adp_simd_avx2_forward(&s->layout, s->params, s->simd, in, out);
		else
			adp_simd_vnni_forward(&s->layout, s->params, s->simd, in, out);
		kernel_fpu_end();
		return;
#endif
	case ADP_RUN_GENERIC:
		adp_generic_forward(&s->layout, s->params, in, out);
		return;
	}
	run_scalar(s, in, out);
}

static void free_work(struct work_struct *work)
{
	struct adp_snapshot *s = container_of(to_rcu_work(work), struct adp_snapshot, free_work);

	if (s->program)
		adp_program_release(s->program);
	kvfree(s->params);
	kvfree(s->simd);
	kfree(s);
}

struct adp_snapshot *adp_snapshot_create(const struct adp_layout *layout, const u8 *params, u64 program_hash)
{
	struct adp_snapshot *s;

	lockdep_assert_held(&adp_lock);
	s = kzalloc(sizeof(*s), GFP_KERNEL);
	if (!s)
		return ERR_PTR(-ENOMEM);
	s->layout = *layout;
	s->program_hash = program_hash;
	refcount_set(&s->references, 1);
	INIT_RCU_WORK(&s->free_work, free_work);
	if (machine_has(ADP_RUN_AVX2) || machine_has(ADP_RUN_VNNI)) {
		/* Powers of two from slab, pages from vmalloc: 64-byte aligned either way. */
		void *simd = kvmalloc(roundup_pow_of_two(adp_simd_bytes(layout)), GFP_KERNEL);

		if (!simd) {
			kfree(s);
			return ERR_PTR(-ENOMEM);
		}
		adp_simd_prepare(layout, params, simd);
		s->simd = simd;
	}
	s->program = adp_program_hold(program_hash, layout);
	s->params = params;
	s->chosen = ADP_RUN_GENERIC;
	return s;
}

void adp_snapshot_put(struct adp_snapshot *s)
{
	/* Queries hold no reference: they are in RCU read-side sections, which the grace period before free_work() waits for. */
	if (refcount_dec_and_test(&s->references))
		queue_rcu_work(free_queue, &s->free_work);
}

bool adp_choice_fits(const struct adp_choice *choice, const struct adp_snapshot *s)
{
	return choice->layers == s->layout.layers && choice->generated == !!s->program &&
	       !memcmp(choice->shape, s->layout.shape, choice->layers * sizeof(choice->shape[0]));
}

/* The best of a few rounds, in picoseconds a run: what interrupts added is not the implementation's. */
static u64 measure(const struct adp_snapshot *s, u32 implementation, const u8 *in, s32 *out)
{
	u64 best = U64_MAX;
	int round, i;

	for (round = 0; round < MEASURED_ROUNDS; round++) {
		u64 begin, took;

		/* As in the datapath, where the query comes in softirq. At most 32 runs of 10 us. */
		local_bh_disable();
		begin = ktime_get_ns();
		for (i = 0; i < MEASURED_RUNS; i++)
			adp_snapshot_run(s, implementation, in, out);
		took = ktime_get_ns() - begin;
		local_bh_enable();
		best = min(best, took);
		cond_resched();
	}
	return max_t(u64, best * 1000 / MEASURED_RUNS, 1);
}

/* Does it give the generic program's bits? Inputs from a fixed generator (Numerical Recipes' LCG): all of the range. */
static bool agrees(const struct adp_snapshot *s, u32 implementation, u8 *in)
{
	s32 want[ADP_MAX_OUTPUTS], got[ADP_MAX_OUTPUTS];
	u32 state = 1;
	int n;
	u32 i;

	for (n = 0; n < PROVING_INPUTS; n++) {
		for (i = 0; i < s->layout.inputs; i++) {
			state = state * 1664525 + 1013904223;
			/* The first two vectors are the corners: all 0, all 255. */
			in[i] = n < 2 ? -n : state >> 24;
		}
		memset(got, 0, sizeof(got));
		adp_snapshot_run(s, ADP_RUN_GENERIC, in, want);
		adp_snapshot_run(s, implementation, in, got);
		if (memcmp(want, got, s->layout.outputs * sizeof(want[0])))
			return false;
		cond_resched();
	}
	return true;
}

void adp_snapshot_choose(struct adp_snapshot *s, struct adp_choice *remembered)
{
	s32 out[ADP_MAX_OUTPUTS];
	bool measured = false;
	u8 *in;
	u32 how;

	if (adp_choice_fits(remembered, s)) {
		memcpy(s->picoseconds, remembered->picoseconds, sizeof(s->picoseconds));
		s->chosen = remembered->chosen;
		measured = true;
	}
	in = kmalloc(ADP_MAX_WIDTH, GFP_KERNEL);
	if (!in)
		return; /* generic, unmeasured; or the remembered one */
	for (how = ADP_RUN_GENERIC; how < ADP_RUN_COUNT_; how++) {
		if (!adp_snapshot_can(s, how))
			continue;
		/* On these parameters, each time: a wrong program must not decide. Under load time's cost, not the datapath's. */
		if (!agrees(s, how, in)) {
			pr_err_ratelimited("adapath: implementation %u of program %016llx differs from the generic one: not used\n",
					   how, (unsigned long long)s->program_hash);
			s->picoseconds[how] = 0;
			continue;
		}
		if (!measured)
			s->picoseconds[how] = measure(s, how, in, out);
	}
	kfree(in);
	s->chosen = ADP_RUN_GENERIC;
	for (how = ADP_RUN_GENERIC; how < ADP_RUN_COUNT_; how++)
		if (s->picoseconds[how] && s->picoseconds[how] < s->picoseconds[s->chosen])
			s->chosen = how;
	/* What run_scalar() falls back to has to be sound as well. */
	if (s->program && !s->picoseconds[ADP_RUN_GENERATED]) {
		adp_program_release(s->program);
		s->program = NULL;
	}
	if (measured)
		return;
	remembered->layers = s->layout.layers;
	remembered->generated = s->program;
	remembered->chosen = s->chosen;
	memcpy(remembered->shape, s->layout.shape, sizeof(remembered->shape));
	memcpy(remembered->picoseconds, s->picoseconds, sizeof(remembered->picoseconds));
}

int adp_snapshots_init(void)
{
	free_queue = alloc_workqueue("adapath_free", WQ_UNBOUND, 0);
	return free_queue ? 0 : -ENOMEM;
}

void adp_snapshots_exit(void)
{
	/* First the callbacks that queue the work, then the work. */
	rcu_barrier();
	destroy_workqueue(free_queue);
}
