/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The shape of a network and where its parameters lie in a slot: the one definition that codegen, the kernel module and its
 * userspace share. A function of the shapes alone, so that retraining never changes a program. What the parameters mean is in
 * net.h; whether a block of them may be trusted is in params.h.
 */
#ifndef ADAPATH_LAYOUT_H
#define ADAPATH_LAYOUT_H

#include "abi.h"
#include "net.h"

/* Values are part of the snapshot file and of the netlink family. */
enum adp_activation {
	ADP_IDENTITY = 0,
	ADP_RELU = 1,
	ADP_TANH = 2,
	ADP_SIGMOID = 3,
	ADP_ACTIVATIONS
};

/* A dense layer: out = activation(weights * in + bias). */
struct adp_layer_shape {
	adp_u16 inputs;	 /* 1..ADP_MAX_WIDTH */
	adp_u16 outputs; /* 1..ADP_MAX_WIDTH; in the last layer 1..ADP_MAX_OUTPUTS */
	adp_u8 activation; /* enum adp_activation */
	adp_u8 pad[3];
};

struct adp_layer_layout {
	adp_u32 input_max;     /* greatest input code: ADP_INPUT_CODE_MAX in the first layer, else ADP_HIDDEN_CODE_MAX */
	adp_u32 chunk_inputs;  /* inputs a chunk; the last one may have fewer */
	adp_u32 chunks;
	adp_u32 triples;       /* 64-bit weight words a row, over all chunks */
	adp_u32 row_words;     /* 64-bit words a row: chunks + triples + 2 */
	adp_u32 offset;	       /* bytes from the start of the parameters */
	adp_u32 table_offset;  /* bytes; hidden layers with the same activation share one table */
	adp_u32 table_entries; /* of 2 bytes each (u16 codes; s16 in the last layer); 0 = none */
	adp_u32 shift;
};

struct adp_layout {
	adp_u32 layers;
	adp_u32 inputs;	 /* of the network */
	adp_u32 outputs; /* of the network */
	adp_u32 bytes;	 /* of the parameters; <= ADP_PARAMS_BYTES */
	struct adp_layer_shape shape[ADP_MAX_LAYERS];
	struct adp_layer_layout layer[ADP_MAX_LAYERS];
};

/* What is wrong, for a message: "layer 2 row 5: weight out of range: 300". layer and row count from 1; 0 = not of a layer or row. */
struct adp_complaint {
	const char *what; /* a constant */
	adp_u32 layer;
	adp_u32 row;
	adp_s64 value;
};

#endif
