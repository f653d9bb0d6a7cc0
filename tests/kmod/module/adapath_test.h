/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What adapath_test.ko and the tests that drive it share: requests to ADPT_DEVICE. Only for tests inside a VM.
 *
 * The device is opened by one process at a time; its close() stops what runs and unregisters the apps that were registered
 * through it. App 0 is "test", registered by the module itself for as long as it is loaded.
 */
#ifndef ADAPATH_TEST_MODULE_H
#define ADAPATH_TEST_MODULE_H

#include <linux/ioctl.h>

#include <adapath/abi.h>
#include <adapath/layout.h>

#define ADPT_NODE "adapath-test-driver"
#define ADPT_DEVICE "/dev/" ADPT_NODE
#define ADPT_APPS 8
#define ADPT_FLOWS 64

/* The app "test". */
#define ADPT_SCHEMA 7
#define ADPT_INPUTS 8
#define ADPT_OUTPUTS 2
#define ADPT_LIMIT (1 << 20) /* safe range of its outputs: -ADPT_LIMIT..ADPT_LIMIT, Q16 */
#define ADPT_RING_RECORDS 1024

/*
 * The empty program: ADPT_INPUTS to ADPT_OUTPUTS, one identity layer; it says ADPT_EMPTY_OUTPUT whatever the parameters are. The
 * core holds every program to the generic one, so it serves only parameters that say the same: weights 0, all bias.
 */
#define ADPT_EMPTY_HASH 0xe0e0ada7e0e0ada7ULL
#define ADPT_EMPTY_OUTPUT 4711

/* Where a query runs. */
enum adpt_context {
	ADPT_PROCESS,	  /* a kernel thread that may be preempted */
	ADPT_PREEMPT_OFF,
	ADPT_IRQ_OFF,
	ADPT_BH,	  /* tasklet */
	ADPT_HARDIRQ,	  /* hrtimer in hard interrupt, irq_work */
	ADPT_CONTEXTS,
	ADPT_NMI_LIKE = ADPT_CONTEXTS, /* only for ADPT_QUERY: the preemption count says NMI */
};

/* The record of an app registered with record_bytes == sizeof(struct adpt_record). */
struct adpt_record {
	adp_u64 number; /* of the emitting state (cpu, context), or of ADPT_EMIT's request; from 1 */
	adp_u32 cpu;
	adp_u32 context;
	adp_u32 generation;
	adp_u32 input;
	adp_s32 raw[ADP_MAX_OUTPUTS];
};

/* struct adp_app_desc */
struct adpt_app {
	char name[24];	    /* deliberately longer than allowed */
	char interface[24]; /* empty = NULL */
	adp_u32 schema;
	adp_u32 inputs;
	adp_u32 outputs;
	adp_s32 lowest[ADP_MAX_OUTPUTS];
	adp_s32 highest[ADP_MAX_OUTPUTS];
	adp_u32 record_bytes;
	adp_u32 ring_records;
	adp_u32 wakeup_bytes;
	adp_u32 app; /* out: its index in requests */
};

/* The inputs to query with, and what each model says to each of them: generation g is model g % models. */
struct adpt_vectors {
	adp_u32 app;
	adp_u32 count;
	adp_u32 models;
	adp_u32 pad;
	adp_u64 inputs;	 /* pointer: count * inputs bytes */
	adp_u64 outputs; /* pointer: models * count * outputs of s32, raw */
};

#define ADPT_EMIT_SAMPLES 1U  /* each query emits a record */
#define ADPT_MONOTONIC 2U     /* generations may only grow, as seen by one context on one CPU */
#define ADPT_CHECK_EXPLORE 4U /* explore_q16 must be generation & 0xffff */

struct adpt_start {
	adp_u32 app;
	adp_u32 contexts;  /* bits 1 << enum adpt_context */
	adp_u32 flags;
	adp_u32 flows;	   /* flows that each context of each CPU binds and unbinds, 0..ADPT_FLOWS */
	adp_u32 lifetime;  /* queries that a flow makes before it is unbound and bound anew */
	adp_u32 period_us; /* of the hard interrupt */
};

struct adpt_counts {
	adp_u64 queries;	  /* answered */
	adp_u64 bound_queries;	  /* answered, of a bound flow */
	adp_u64 binds;
	adp_u64 no_data;	  /* no snapshot was active */
	adp_u64 wrong_output;	  /* not the generation's model's */
	adp_u64 wrong_clamp;	  /* out is not raw in the safe range */
	adp_u64 wrong_slot;
	adp_u64 wrong_explore;
	adp_u64 generation_changed;   /* of a bound flow */
	adp_u64 generation_backwards; /* though ADPT_MONOTONIC */
	adp_u64 errors;		      /* other errnos */
	adp_u64 wrong_context;	      /* the test itself: not in the context that it is to be in */
};

struct adpt_report {
	struct adpt_counts counts[ADPT_CONTEXTS];
	adp_u32 least_generation;
	adp_u32 greatest_generation;
	adp_u32 cpus;
	/* The first wrong output, if any. */
	adp_u32 context;
	adp_u32 generation;
	adp_u32 input;
	adp_s32 got[ADP_MAX_OUTPUTS];
	adp_s32 want[ADP_MAX_OUTPUTS];
	adp_s32 last_error;
};

/* One query, in a context of choice; flow < 0: the active snapshot, else a flow that ADPT_BIND bound. */
struct adpt_query {
	adp_u32 app;
	adp_u32 context;
	adp_s32 flow;
	adp_s32 result; /* out: of adp_query() */
	adp_u64 input;	/* pointer */
	adp_u64 number; /* of the flow, for the share of a trial; 0 = none */
	adp_u32 slot;	/* out, as all below */
	adp_u32 generation;
	adp_u32 explore_q16;
	adp_u32 ready;	/* adp_ready() just before */
	adp_s32 raw[ADP_MAX_OUTPUTS];
	adp_s32 out[ADP_MAX_OUTPUTS];
};

struct adpt_flow {
	adp_u32 app;
	adp_u32 flow; /* 0..ADPT_FLOWS - 1 */
	adp_u32 bound; /* out: whether there was a snapshot to bind to */
	adp_u32 flow_consistency; /* out */
};

struct adpt_emit {
	adp_u32 app;
	adp_u32 cpu;
	adp_u64 first; /* number of the first record */
	adp_u32 count;
	adp_u32 pad;
};

/* Time of `repeat` queries of vector 0 with preemption off for a thousand at a time. */
struct adpt_bench {
	adp_u32 app;
	adp_u32 repeat;
	adp_u64 query_ns; /* out */
	adp_u64 empty_ns; /* out: the loop and its clock alone */
};

/* Registers a program as a generated module would, says what came of it, and takes it away again. */
struct adpt_program {
	adp_u64 hash;
	adp_u32 generator_version;
	adp_u32 layers;
	struct adp_layer_shape shape[ADP_MAX_LAYERS + 1];
	adp_s32 result; /* out */
	adp_u32 pad;
};

#define ADPT_IOC_REGISTER _IOWR('A', 1, struct adpt_app)
#define ADPT_IOC_UNREGISTER _IO('A', 2) /* argument: app */
#define ADPT_IOC_VECTORS _IOW('A', 3, struct adpt_vectors)
#define ADPT_IOC_START _IOW('A', 4, struct adpt_start)
#define ADPT_IOC_REPORT _IOR('A', 5, struct adpt_report) /* while it runs, or of the last run */
#define ADPT_IOC_STOP _IO('A', 6)
#define ADPT_IOC_QUERY _IOWR('A', 7, struct adpt_query)
#define ADPT_IOC_BIND _IOWR('A', 8, struct adpt_flow)
#define ADPT_IOC_UNBIND _IOWR('A', 9, struct adpt_flow)
#define ADPT_IOC_EMIT _IOW('A', 10, struct adpt_emit)
#define ADPT_IOC_BENCH _IOWR('A', 11, struct adpt_bench)
#define ADPT_IOC_PROGRAM _IOWR('A', 12, struct adpt_program)

#endif
