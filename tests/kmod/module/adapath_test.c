// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A caller of adapath.ko made to be driven by tests: queries, bound flows and samples from every context that the API allows,
 * on every CPU at once, each answer held to what userspace expects of the snapshot that it names. Reports through its device,
 * never by printk. Not for any machine but a test's.
 */
#include <linux/cpu.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/irq_work.h>
#include <linux/kthread.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "adapath.h"
#include "adapath_test.h"

#define BATCH 8 /* queries at a time in a context that nothing else can run in */
#define MAX_VECTORS 4096
#define MAX_MODELS 64

struct test_app {
	struct adp_app *app; /* NULL = unused */
	u32 inputs;
	u32 outputs;
	s32 lowest[ADP_MAX_OUTPUTS];
	s32 highest[ADP_MAX_OUTPUTS];
	u32 record_bytes;
	u32 count; /* vectors */
	u32 models;
	u8 *in;	   /* [count][inputs] */
	s32 *want; /* [models][count][outputs] */
	struct adp_snapshot *flow[ADPT_FLOWS];
};

struct test_flow {
	struct adp_snapshot *snapshot;
	u32 generation; /* 0 = not known yet */
	u32 left;	/* queries before it is unbound */
};

/* What one context on one CPU keeps; never used by two at once. */
struct test_state {
	struct adpt_counts counts;
	struct test_flow flow[ADPT_FLOWS];
	u64 emitted;
	u32 cursor;
	u32 least_generation;
	u32 greatest_generation;
	u32 last_generation;
	bool wrong;
	u32 wrong_generation;
	u32 wrong_input;
	s32 got[ADP_MAX_OUTPUTS];
	s32 want[ADP_MAX_OUTPUTS];
	s32 last_error;
};

struct test_worker {
	struct task_struct *task;
	struct hrtimer timer;
	struct irq_work work;
	struct tasklet_struct tasklet;
	unsigned int cpu;
	struct test_state state[ADPT_CONTEXTS];
};

static DEFINE_MUTEX(test_mutex); /* everything that comes from userspace */
static atomic_t test_open_;
static struct test_app test_apps[ADPT_APPS];
static struct adpt_start test_run;
static struct test_worker **test_workers; /* one a CPU; NULL = never run or freed */
static bool test_running;

/* adp_u64 is not the kernel's u64 to the compiler, so u64_to_user_ptr() would not do. */
static const void __user *user_pointer(adp_u64 address)
{
	return (const void __user *)(uintptr_t)address;
}

static bool in_context(u32 context)
{
	switch (context) {
	case ADPT_PROCESS:
		return in_task() && !irqs_disabled();
	case ADPT_PREEMPT_OFF:
		return in_task() && !irqs_disabled();
	case ADPT_IRQ_OFF:
		return in_task() && irqs_disabled();
	case ADPT_BH:
		return in_serving_softirq();
	default:
		return in_hardirq();
	}
}

static void note_decision(const struct test_app *a, struct test_state *s, u32 input, const s32 *out,
			  const struct adp_decision *d)
{
	const s32 *want = a->want + ((size_t)(d->generation % a->models) * a->count + input) * a->outputs;
	u32 i;

	if (!s->least_generation || d->generation < s->least_generation)
		s->least_generation = d->generation;
	if (d->generation > s->greatest_generation)
		s->greatest_generation = d->generation;
	if (d->slot >= ADP_SLOTS)
		s->counts.wrong_slot++;
	if ((test_run.flags & ADPT_CHECK_EXPLORE) && d->explore_q16 != (d->generation & 0xffff))
		s->counts.wrong_explore++;
	for (i = 0; i < a->outputs; i++) {
		if (d->raw[i] != want[i])
			break;
		if (out[i] != clamp(d->raw[i], a->lowest[i], a->highest[i])) {
			s->counts.wrong_clamp++;
			return;
		}
	}
	if (i == a->outputs)
		return;
	s->counts.wrong_output++;
	if (s->wrong)
		return;
	s->wrong = true;
	s->wrong_generation = d->generation;
	s->wrong_input = input;
	memcpy(s->got, d->raw, sizeof(s->got));
	memcpy(s->want, want, a->outputs * sizeof(*want));
}

static void ask(struct test_worker *w, u32 context)
{
	const struct test_app *a = &test_apps[test_run.app];
	struct test_state *s = &w->state[context];
	u32 input = s->cursor % a->count;
	struct test_flow *f = NULL;
	s32 out[ADP_MAX_OUTPUTS];
	struct adp_decision d;
	int r;

	if (!in_context(context)) {
		s->counts.wrong_context++;
		return;
	}
	/* Every other query is a flow's. */
	if (test_run.flows && (s->cursor & 1)) {
		f = &s->flow[(s->cursor >> 1) % test_run.flows];
		if (!f->snapshot) {
			f->snapshot = adp_bind(a->app);
			f->generation = 0;
			/* Staggered, so that binds and unbinds do not come all at once. */
			f->left = test_run.lifetime + (s->cursor & 7);
			if (f->snapshot)
				s->counts.binds++;
		}
	}
	s->cursor++;

	/* What was not answered must not look like an answer. */
	memset(&d, 0xa5, sizeof(d));
	memset(out, 0xa5, sizeof(out));
	if (f && f->snapshot)
		r = adp_query_bound(a->app, f->snapshot, a->in + (size_t)input * a->inputs, out, &d);
	else
		/* Any number will do: who is on trial changes from query to query. */
		r = adp_query(a->app, 1 + s->cursor % 1000, a->in + (size_t)input * a->inputs, out, &d);
	if (r == -ENODATA) {
		s->counts.no_data++;
		if (f && f->snapshot)
			s->counts.errors++; /* a bound snapshot always answers */
		return;
	}
	if (r) {
		s->counts.errors++;
		s->last_error = r;
		return;
	}
	s->counts.queries++;
	note_decision(a, s, input, out, &d);

	if (f && f->snapshot) {
		s->counts.bound_queries++;
		if (f->generation && f->generation != d.generation)
			s->counts.generation_changed++;
		f->generation = d.generation;
		if (!f->left--) {
			adp_unbind(f->snapshot);
			f->snapshot = NULL;
		}
	} else if (test_run.flags & ADPT_MONOTONIC) {
		if (d.generation < s->last_generation)
			s->counts.generation_backwards++;
		s->last_generation = d.generation;
	}

	if (test_run.flags & ADPT_EMIT_SAMPLES) {
		struct adpt_record record = {
			.number = ++s->emitted,
			.cpu = w->cpu,
			.context = context,
			.generation = d.generation,
			.input = input,
		};

		memcpy(record.raw, d.raw, a->outputs * sizeof(*record.raw));
		adp_emit(a->app, &record);
	}
}

static bool wants(u32 context)
{
	return test_run.contexts & (1U << context);
}

static void ask_batch(struct test_worker *w, u32 context)
{
	int i;

	for (i = 0; i < BATCH; i++)
		ask(w, context);
}

static void test_tasklet(struct tasklet_struct *t)
{
	ask_batch(container_of(t, struct test_worker, tasklet), ADPT_BH);
}

static void test_irq_work(struct irq_work *work)
{
	ask_batch(container_of(work, struct test_worker, work), ADPT_HARDIRQ);
}

static enum hrtimer_restart test_timer(struct hrtimer *timer)
{
	struct test_worker *w = container_of(timer, struct test_worker, timer);

	if (wants(ADPT_HARDIRQ))
		ask_batch(w, ADPT_HARDIRQ);
	if (wants(ADPT_BH))
		tasklet_schedule(&w->tasklet);
	/* From now, not from when it should have been: a slow machine must not do nothing but this. */
	hrtimer_forward_now(timer, ns_to_ktime((u64)test_run.period_us * NSEC_PER_USEC));
	return HRTIMER_RESTART;
}

static int test_thread(void *data)
{
	struct test_worker *w = data;
	unsigned long flags;

	if (wants(ADPT_HARDIRQ) || wants(ADPT_BH))
		hrtimer_start(&w->timer, ns_to_ktime((u64)test_run.period_us * NSEC_PER_USEC), HRTIMER_MODE_REL_PINNED_HARD);
	while (!kthread_should_stop()) {
		if (wants(ADPT_PROCESS))
			ask_batch(w, ADPT_PROCESS);
		if (wants(ADPT_PREEMPT_OFF)) {
			preempt_disable();
			ask_batch(w, ADPT_PREEMPT_OFF);
			preempt_enable();
		}
		if (wants(ADPT_IRQ_OFF)) {
			local_irq_save(flags);
			ask_batch(w, ADPT_IRQ_OFF);
			local_irq_restore(flags);
		}
		if (wants(ADPT_BH)) {
			/* Runs here, when softirqs are let in again; the timer's runs on top of whatever it interrupts. */
			local_bh_disable();
			tasklet_schedule(&w->tasklet);
			local_bh_enable();
		}
		if (wants(ADPT_HARDIRQ))
			irq_work_queue(&w->work);
		cond_resched();
	}
	hrtimer_cancel(&w->timer);
	return 0;
}

static void free_workers(void)
{
	unsigned int cpu;

	if (!test_workers)
		return;
	for (cpu = 0; cpu < nr_cpu_ids; cpu++)
		kfree(test_workers[cpu]);
	kfree(test_workers);
	test_workers = NULL;
}

static void stop_run(void)
{
	unsigned int cpu;
	u32 context, flow;

	if (!test_running)
		return;
	for (cpu = 0; cpu < nr_cpu_ids; cpu++) {
		struct test_worker *w = test_workers[cpu];

		if (!w)
			continue;
		kthread_stop(w->task);
		put_task_struct(w->task);
		irq_work_sync(&w->work);
		tasklet_kill(&w->tasklet);
		for (context = 0; context < ADPT_CONTEXTS; context++)
			for (flow = 0; flow < ADPT_FLOWS; flow++)
				if (w->state[context].flow[flow].snapshot)
					adp_unbind(w->state[context].flow[flow].snapshot);
	}
	test_running = false;
}

static int start_run(const struct adpt_start *start)
{
	const struct test_app *a;
	unsigned int cpu;
	int r = 0;

	if (start->app >= ADPT_APPS || !test_apps[start->app].app || start->flows > ADPT_FLOWS || start->period_us < 50)
		return -EINVAL;
	a = &test_apps[start->app];
	if (!a->count || !a->models)
		return -ENODATA;
	if ((start->flags & ADPT_EMIT_SAMPLES) && a->record_bytes != sizeof(struct adpt_record))
		return -EINVAL;
	if (test_running)
		return -EBUSY;

	free_workers();
	test_workers = kcalloc(nr_cpu_ids, sizeof(*test_workers), GFP_KERNEL);
	if (!test_workers)
		return -ENOMEM;
	test_run = *start;
	test_running = true;
	cpus_read_lock();
	for_each_online_cpu(cpu) {
		struct test_worker *w = kzalloc(sizeof(*w), GFP_KERNEL);
		struct task_struct *task;

		if (!w) {
			r = -ENOMEM;
			break;
		}
		w->cpu = cpu;
		hrtimer_init(&w->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
		w->timer.function = test_timer;
		w->work = IRQ_WORK_INIT_HARD(test_irq_work);
		tasklet_setup(&w->tasklet, test_tasklet);
		task = kthread_create_on_cpu(test_thread, w, cpu, "adapath_test/%u");
		if (IS_ERR(task)) {
			kfree(w);
			r = PTR_ERR(task);
			break;
		}
		get_task_struct(task);
		w->task = task;
		test_workers[cpu] = w;
		wake_up_process(task);
	}
	cpus_read_unlock();
	if (r)
		stop_run();
	return r;
}

static void add_counts(struct adpt_counts *sum, const struct adpt_counts *more)
{
	u64 *to = (u64 *)sum;
	const u64 *from = (const u64 *)more;
	size_t i;

	for (i = 0; i < sizeof(*sum) / sizeof(*to); i++)
		to[i] += READ_ONCE(from[i]);
}

static void make_report(struct adpt_report *report)
{
	unsigned int cpu;
	u32 context;

	memset(report, 0, sizeof(*report));
	for (cpu = 0; test_workers && cpu < nr_cpu_ids; cpu++) {
		if (!test_workers[cpu])
			continue;
		report->cpus++;
		for (context = 0; context < ADPT_CONTEXTS; context++) {
			const struct test_state *s = &test_workers[cpu]->state[context];

			add_counts(&report->counts[context], &s->counts);
			if (s->least_generation &&
			    (!report->least_generation || s->least_generation < report->least_generation))
				report->least_generation = s->least_generation;
			report->greatest_generation = max(report->greatest_generation, s->greatest_generation);
			if (s->last_error)
				report->last_error = s->last_error;
			if (!s->wrong || report->generation)
				continue;
			report->context = context;
			report->generation = s->wrong_generation;
			report->input = s->wrong_input;
			memcpy(report->got, s->got, sizeof(report->got));
			memcpy(report->want, s->want, sizeof(report->want));
		}
	}
}

static int register_app(struct adpt_app *request)
{
	struct adp_app_desc desc = {
		.name = request->name,
		.interface = request->interface[0] ? request->interface : NULL,
		.schema = request->schema,
		.inputs = request->inputs,
		.outputs = request->outputs,
		.record_bytes = request->record_bytes,
		.ring_records = request->ring_records,
		.wakeup_bytes = request->wakeup_bytes,
		.owner = THIS_MODULE,
	};
	struct adp_app *app;
	struct test_app *a;
	u32 i;

	request->name[sizeof(request->name) - 1] = 0;
	request->interface[sizeof(request->interface) - 1] = 0;
	memcpy(desc.lowest, request->lowest, sizeof(desc.lowest));
	memcpy(desc.highest, request->highest, sizeof(desc.highest));
	for (i = 0; i < ADPT_APPS && test_apps[i].app; i++)
		;
	if (i == ADPT_APPS)
		return -ENOSPC;
	app = adp_app_register(&desc);
	if (IS_ERR(app))
		return PTR_ERR(app);
	a = &test_apps[i];
	memset(a, 0, sizeof(*a));
	a->app = app;
	a->inputs = desc.inputs;
	a->outputs = desc.outputs;
	memcpy(a->lowest, desc.lowest, sizeof(a->lowest));
	memcpy(a->highest, desc.highest, sizeof(a->highest));
	a->record_bytes = desc.record_bytes;
	request->app = i;
	return 0;
}

static void unbind_all(struct test_app *a)
{
	u32 i;

	for (i = 0; i < ADPT_FLOWS; i++) {
		if (a->flow[i])
			adp_unbind(a->flow[i]);
		a->flow[i] = NULL;
	}
}

static int unregister_app(u32 index)
{
	struct test_app *a;

	if (index >= ADPT_APPS || !test_apps[index].app)
		return -EINVAL;
	a = &test_apps[index];
	if (test_running && test_run.app == index)
		return -EBUSY;
	unbind_all(a);
	adp_app_unregister(a->app);
	vfree(a->in);
	vfree(a->want);
	memset(a, 0, sizeof(*a));
	return 0;
}

static int set_vectors(const struct adpt_vectors *v)
{
	struct test_app *a;
	size_t in_bytes, want_bytes;
	s32 *want;
	u8 *in;

	if (v->app >= ADPT_APPS || !test_apps[v->app].app || !v->count || v->count > MAX_VECTORS || !v->models ||
	    v->models > MAX_MODELS)
		return -EINVAL;
	if (test_running)
		return -EBUSY;
	a = &test_apps[v->app];
	in_bytes = (size_t)v->count * a->inputs;
	want_bytes = (size_t)v->models * v->count * a->outputs * sizeof(*want);
	in = vmalloc(in_bytes);
	want = vmalloc(want_bytes);
	if (!in || !want || copy_from_user(in, user_pointer(v->inputs), in_bytes) ||
	    copy_from_user(want, user_pointer(v->outputs), want_bytes)) {
		vfree(in);
		vfree(want);
		return in && want ? -EFAULT : -ENOMEM;
	}
	vfree(a->in);
	vfree(a->want);
	a->in = in;
	a->want = want;
	a->count = v->count;
	a->models = v->models;
	return 0;
}

/* One query from userspace in a context of choice. */
struct test_once {
	struct tasklet_struct tasklet;
	struct irq_work work;
	struct test_app *app;
	struct adpt_query *q;
	u8 in[ADP_MAX_WIDTH];
};

static void query_once(struct test_once *once)
{
	struct adpt_query *q = once->q;
	struct test_app *a = once->app;
	struct adp_decision d;

	memset(&d, 0xa5, sizeof(d));
	memset(q->out, 0xa5, sizeof(q->out));
	q->ready = adp_ready(a->app);
	if (q->flow < 0)
		q->result = adp_query(a->app, q->number, once->in, q->out, &d);
	else
		q->result = adp_query_bound(a->app, a->flow[q->flow], once->in, q->out, &d);
	q->slot = d.slot;
	q->generation = d.generation;
	q->explore_q16 = d.explore_q16;
	memcpy(q->raw, d.raw, sizeof(q->raw));
}

static void once_tasklet(struct tasklet_struct *t)
{
	query_once(container_of(t, struct test_once, tasklet));
}

static void once_irq_work(struct irq_work *work)
{
	query_once(container_of(work, struct test_once, work));
}

static int query(struct adpt_query *q)
{
	struct test_once *once;
	unsigned long flags;
	int r = 0;

	if (q->app >= ADPT_APPS || !test_apps[q->app].app || q->flow >= ADPT_FLOWS)
		return -EINVAL;
	if (q->flow >= 0 && !test_apps[q->app].flow[q->flow])
		return -ENOENT;
	once = kzalloc(sizeof(*once), GFP_KERNEL);
	if (!once)
		return -ENOMEM;
	once->app = &test_apps[q->app];
	once->q = q;
	if (copy_from_user(once->in, user_pointer(q->input), once->app->inputs)) {
		kfree(once);
		return -EFAULT;
	}
	switch (q->context) {
	case ADPT_PROCESS:
		query_once(once);
		break;
	case ADPT_PREEMPT_OFF:
		preempt_disable();
		query_once(once);
		preempt_enable();
		break;
	case ADPT_IRQ_OFF:
		local_irq_save(flags);
		query_once(once);
		local_irq_restore(flags);
		break;
	case ADPT_BH:
		tasklet_setup(&once->tasklet, once_tasklet);
		tasklet_schedule(&once->tasklet);
		tasklet_kill(&once->tasklet); /* waits until it has run */
		break;
	case ADPT_HARDIRQ:
		once->work = IRQ_WORK_INIT_HARD(once_irq_work);
		irq_work_queue(&once->work);
		irq_work_sync(&once->work);
		break;
	case ADPT_NMI_LIKE:
		/* What in_nmi() looks at, without what nmi_enter() does besides: modules can't call that. */
		local_irq_save(flags);
		__preempt_count_add(NMI_OFFSET);
		query_once(once);
		__preempt_count_sub(NMI_OFFSET);
		local_irq_restore(flags);
		break;
	default:
		r = -EINVAL;
	}
	kfree(once);
	return r;
}

static int bind_flow(struct adpt_flow *f)
{
	struct test_app *a;

	if (f->app >= ADPT_APPS || !test_apps[f->app].app || f->flow >= ADPT_FLOWS)
		return -EINVAL;
	a = &test_apps[f->app];
	if (a->flow[f->flow])
		return -EBUSY;
	f->flow_consistency = adp_flow_consistency(a->app);
	a->flow[f->flow] = adp_bind(a->app);
	f->bound = a->flow[f->flow] != NULL;
	return 0;
}

static int unbind_flow(const struct adpt_flow *f)
{
	struct test_app *a;

	if (f->app >= ADPT_APPS || !test_apps[f->app].app || f->flow >= ADPT_FLOWS)
		return -EINVAL;
	a = &test_apps[f->app];
	if (!a->flow[f->flow])
		return -ENOENT;
	adp_unbind(a->flow[f->flow]);
	a->flow[f->flow] = NULL;
	return 0;
}

struct emit_call {
	const struct adpt_emit *request;
	struct adp_app *app;
};

static void emit_here(void *data)
{
	const struct emit_call *call = data;
	u32 i;

	for (i = 0; i < call->request->count; i++) {
		struct adpt_record record = { .number = call->request->first + i, .cpu = smp_processor_id() };

		adp_emit(call->app, &record);
	}
}

static int emit(const struct adpt_emit *request)
{
	struct emit_call call = { .request = request };

	if (request->app >= ADPT_APPS || !test_apps[request->app].app || request->count > 100000 ||
	    test_apps[request->app].record_bytes != sizeof(struct adpt_record))
		return -EINVAL;
	call.app = test_apps[request->app].app;
	return smp_call_function_single(request->cpu, emit_here, &call, 1);
}

static int bench(struct adpt_bench *b)
{
	struct test_app *a;
	s32 out[ADP_MAX_OUTPUTS];
	struct adp_decision d;
	u32 done, i, part;
	int empty;

	if (b->app >= ADPT_APPS || !test_apps[b->app].app || !b->repeat)
		return -EINVAL;
	a = &test_apps[b->app];
	if (!a->count || !adp_ready(a->app))
		return -ENODATA;
	for (empty = 0; empty < 2; empty++) {
		u64 total = 0;

		for (done = 0; done < b->repeat; done += part) {
			u64 start;

			part = min(b->repeat - done, 1000U);
			preempt_disable();
			start = ktime_get_ns();
			for (i = 0; i < part; i++) {
				if (!empty)
					adp_query(a->app, 1, a->in, out, &d);
				barrier();
			}
			total += ktime_get_ns() - start;
			preempt_enable();
			cond_resched();
		}
		*(empty ? &b->empty_ns : &b->query_ns) = total;
	}
	return 0;
}

static void forward_nothing(const u8 *params, const u8 *in, s32 *out)
{
	u32 i;

	for (i = 0; i < ADPT_OUTPUTS; i++)
		out[i] = ADPT_EMPTY_OUTPUT;
}

static int try_program(struct adpt_program *request)
{
	struct adp_program *program;

	if (request->layers > ADP_MAX_LAYERS + 1)
		return -EINVAL;
	program = kzalloc(sizeof(*program), GFP_KERNEL);
	if (!program)
		return -ENOMEM;
	program->hash = request->hash;
	program->generator_version = request->generator_version;
	program->shape = request->shape;
	program->layers = request->layers;
	program->forward = forward_nothing;
	program->owner = THIS_MODULE;
	request->result = adp_program_register(program);
	if (!request->result)
		adp_program_unregister(program);
	kfree(program);
	return 0;
}

static long test_request(unsigned int command, unsigned long argument)
{
	void __user *user = (void __user *)argument;
	union {
		struct adpt_app app;
		struct adpt_vectors vectors;
		struct adpt_start start;
		struct adpt_query query;
		struct adpt_flow flow;
		struct adpt_emit emit;
		struct adpt_bench bench;
		struct adpt_program program;
	} in;
	struct adpt_report *report;
	long r;

	if ((_IOC_DIR(command) & _IOC_WRITE)) {
		if (_IOC_SIZE(command) > sizeof(in))
			return -ENOTTY;
		if (copy_from_user(&in, user, _IOC_SIZE(command)))
			return -EFAULT;
	}
	switch (command) {
	case ADPT_IOC_REGISTER:
		r = register_app(&in.app);
		break;
	case ADPT_IOC_UNREGISTER:
		return argument ? unregister_app(argument) : -EPERM; /* 0 is the module's own */
	case ADPT_IOC_VECTORS:
		return set_vectors(&in.vectors);
	case ADPT_IOC_START:
		return start_run(&in.start);
	case ADPT_IOC_REPORT:
		report = kzalloc(sizeof(*report), GFP_KERNEL);
		if (!report)
			return -ENOMEM;
		make_report(report);
		r = copy_to_user(user, report, sizeof(*report)) ? -EFAULT : 0;
		kfree(report);
		return r;
	case ADPT_IOC_STOP:
		stop_run();
		return 0;
	case ADPT_IOC_QUERY:
		r = query(&in.query);
		break;
	case ADPT_IOC_BIND:
		r = bind_flow(&in.flow);
		break;
	case ADPT_IOC_UNBIND:
		r = unbind_flow(&in.flow);
		break;
	case ADPT_IOC_EMIT:
		return emit(&in.emit);
	case ADPT_IOC_BENCH:
		r = bench(&in.bench);
		break;
	case ADPT_IOC_PROGRAM:
		r = try_program(&in.program);
		break;
	default:
		return -ENOTTY;
	}
	if (!r && copy_to_user(user, &in, _IOC_SIZE(command)))
		r = -EFAULT;
	return r;
}

static long test_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	long r;

	mutex_lock(&test_mutex);
	r = test_request(command, argument);
	mutex_unlock(&test_mutex);
	return r;
}

static int test_open(struct inode *inode, struct file *file)
{
	/* Not under test_mutex: open() comes with misc_mtx held, which registering an app takes in its turn. */
	return atomic_cmpxchg(&test_open_, 0, 1) ? -EBUSY : 0;
}

static int test_release(struct inode *inode, struct file *file)
{
	u32 i;

	mutex_lock(&test_mutex);
	stop_run();
	unbind_all(&test_apps[0]);
	for (i = 1; i < ADPT_APPS; i++)
		if (test_apps[i].app)
			unregister_app(i);
	mutex_unlock(&test_mutex);
	atomic_set(&test_open_, 0);
	return 0;
}

static const struct file_operations test_operations = {
	.owner = THIS_MODULE,
	.open = test_open,
	.release = test_release,
	.unlocked_ioctl = test_ioctl,
};

static struct miscdevice test_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = ADPT_NODE,
	.fops = &test_operations,
	.mode = 0600,
};

static const struct adp_layer_shape empty_shape[] = {
	{ .inputs = ADPT_INPUTS, .outputs = ADPT_OUTPUTS, .activation = ADP_IDENTITY },
};

static struct adp_program empty_program = {
	.hash = ADPT_EMPTY_HASH,
	.generator_version = 1,
	.shape = empty_shape,
	.layers = ARRAY_SIZE(empty_shape),
	.forward = forward_nothing,
	.owner = THIS_MODULE,
};

static int __init test_init(void)
{
	struct adpt_app app = {
		.name = "test",
		.schema = ADPT_SCHEMA,
		.inputs = ADPT_INPUTS,
		.outputs = ADPT_OUTPUTS,
		.lowest = { -ADPT_LIMIT, -ADPT_LIMIT },
		.highest = { ADPT_LIMIT, ADPT_LIMIT },
		.record_bytes = sizeof(struct adpt_record),
		.ring_records = ADPT_RING_RECORDS,
	};
	int r;

	r = adp_program_register(&empty_program);
	if (r)
		return r;
	r = register_app(&app);
	if (r)
		goto no_app;
	r = misc_register(&test_device);
	if (r)
		goto no_device;
	return 0;
no_device:
	unregister_app(0);
no_app:
	adp_program_unregister(&empty_program);
	return r;
}

static void __exit test_exit(void)
{
	misc_deregister(&test_device);
	free_workers();
	unregister_app(0);
	adp_program_unregister(&empty_program);
}

module_init(test_init);
module_exit(test_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("Adapath: driver of adapath.ko for its tests");
