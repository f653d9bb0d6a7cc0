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

/*
 * Counts up with any change of what codegen makes of a network, or of the layout below: part of the program hash, and what a
 * generated module must have been made by, so that an old program is never run on new parameters.
 */
#define ADP_GENERATOR_VERSION 1

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
	adp_u32 chunk_inputs;  /* inputs a chunk, a multiple of 3; the last one may have fewer */
	adp_u32 chunk_triples; /* chunk_inputs / 3 */
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

/* Packed words of the widest layer's inputs: what a program's buffers hold. */
#define ADP_MAX_TRIPLES ((ADP_MAX_WIDTH + 2) / 3)
/*
 * Triples of a layer's inputs (a) and of its outputs (b) together: what a program holds at once. Both can't be wide, as such a
 * layer's rows, of more than a + 2 words each, would not fit a slot. For an a + b greater by one the product of rows and words is
 * least where one of the two is the greatest there is.
 */
#define ADP_MAX_TRIPLES_BESIDE 120
ADP_STATIC_ASSERT((3 * (ADP_MAX_TRIPLES_BESIDE + 1 - ADP_MAX_TRIPLES) - 2) * (ADP_MAX_TRIPLES + 3) * 8 > ADP_PARAMS_BYTES,
		  "the widest inputs and their outputs fit");
ADP_STATIC_ASSERT((3 * ADP_MAX_TRIPLES - 2) * (ADP_MAX_TRIPLES_BESIDE + 1 - ADP_MAX_TRIPLES + 3) * 8 > ADP_PARAMS_BYTES,
		  "the widest outputs and their inputs fit");
/* Chunks are whole triples, so a layer's triples are its inputs in threes, wherever its chunks begin. */
ADP_STATIC_ASSERT(ADP_CHUNK_INPUTS(ADP_INPUT_CODE_MAX) % 3 == 0 && ADP_CHUNK_INPUTS(ADP_INPUT_CODE_MAX) > 0, "whole triples");
ADP_STATIC_ASSERT(ADP_CHUNK_INPUTS(ADP_HIDDEN_CODE_MAX) % 3 == 0 && ADP_CHUNK_INPUTS(ADP_HIDDEN_CODE_MAX) > 0, "whole triples");

/*
 * Table steps of 8/8192 for tanh over [-4, 4]: below one hidden code (2/1376), so that neither rounding dominates. The table has
 * 16 KiB, but a decision touches at most one cache line of it per neuron, mostly in its middle.
 */
#define ADP_CURVE_ENTRIES 8192
/* relu and identity: the index is the code itself and the table clamps it. */
#define ADP_LINEAR_ENTRIES (ADP_HIDDEN_CODE_MAX + 1)
/*
 * A multiplier is u32 and may shrink as far as its weights do: 24 fraction bits keep 12 significant ones for weights a
 * thousand times smaller than usual, and leave room for ones a hundred times larger. An output in Q16 has larger multipliers.
 */
#define ADP_INDEX_SHIFT 24
#define ADP_OUTPUT_SHIFT 20

/* tanh and sigmoid: a table of their own, in the last layer too. */
ADP_FUNCTION int adp_is_curve(adp_u32 activation)
{
	return activation == ADP_TANH || activation == ADP_SIGMOID;
}

/* Bytes that a table takes in the parameters: tables, like rows, begin at multiples of 8. */
ADP_FUNCTION adp_u32 adp_table_bytes(adp_u32 entries)
{
	return (2 * entries + 7) & ~7U;
}

/* Fills *why; -1, for return adp_complain(...). */
ADP_FUNCTION int adp_complain(struct adp_complaint *why, const char *what, adp_u32 layer, adp_u32 row, adp_s64 value)
{
	why->what = what;
	why->layer = layer;
	why->row = row;
	why->value = value;
	return -1;
}

ADP_FUNCTION int adp_check_shapes(const struct adp_layer_shape *shape, adp_u32 layers, struct adp_complaint *why)
{
	adp_u32 i;

	if (layers == 0 || layers > ADP_MAX_LAYERS)
		return adp_complain(why, "number of layers out of range", 0, 0, layers);
	for (i = 0; i < layers; i++) {
		const struct adp_layer_shape *s = &shape[i];

		if (s->inputs == 0 || s->inputs > ADP_MAX_WIDTH)
			return adp_complain(why, "inputs out of range", i + 1, 0, s->inputs);
		if (i > 0 && s->inputs != shape[i - 1].outputs)
			return adp_complain(why, "inputs are not the outputs of the layer before", i + 1, 0, s->inputs);
		if (s->outputs == 0 || s->outputs > (i + 1 == layers ? ADP_MAX_OUTPUTS : ADP_MAX_WIDTH))
			return adp_complain(why, "outputs out of range", i + 1, 0, s->outputs);
		if (s->activation >= ADP_ACTIVATIONS)
			return adp_complain(why, "unknown activation", i + 1, 0, s->activation);
		if (s->pad[0] != 0 || s->pad[1] != 0 || s->pad[2] != 0)
			return adp_complain(why, "padding of a shape is not 0", i + 1, 0,
					    s->pad[0] | s->pad[1] << 8 | s->pad[2] << 16);
	}
	return 0;
}

/*
 * Gives every layer a table where it needs one; returns the end of them. Hidden layers of one kind share a table; the last
 * layer's has another type and stands alone.
 */
ADP_FUNCTION adp_u32 adp_layout_tables(struct adp_layout *l, adp_u32 end)
{
	/* By kind: identity and relu both have the linear table. 0 = none yet, since no table can lie at offset 0. */
	adp_u32 shared[ADP_ACTIVATIONS] = { 0, 0, 0, 0 };
	adp_u32 i;

	for (i = 0; i < l->layers; i++) {
		adp_u32 activation = l->shape[i].activation;
		adp_u32 kind = activation == ADP_RELU ? (adp_u32)ADP_IDENTITY : activation;
		struct adp_layer_layout *at = &l->layer[i];
		int last = i + 1 == l->layers;

		at->shift = ADP_INDEX_SHIFT;
		if (last && !adp_is_curve(activation)) {
			at->shift = ADP_OUTPUT_SHIFT;
			continue;
		}
		at->table_entries = adp_is_curve(activation) ? ADP_CURVE_ENTRIES : ADP_LINEAR_ENTRIES;
		if (!last && shared[kind] != 0) {
			at->table_offset = shared[kind];
			continue;
		}
		at->table_offset = end;
		end += adp_table_bytes(at->table_entries);
		if (!last)
			shared[kind] = at->table_offset;
	}
	return end;
}

/*
 * Where everything lies in the parameters of a network of these layers. 0, or -1 with *why filled and *l not to be used: for
 * shapes that no network may have, and for one whose parameters do not fit a slot.
 */
ADP_FUNCTION int adp_layout_init(struct adp_layout *l, const struct adp_layer_shape *shape, adp_u32 layers,
				 struct adp_complaint *why)
{
	/* At most ADP_MAX_LAYERS * 256 rows of fewer than 128 words: far below 2^32. */
	adp_u32 end = 0;
	adp_u32 i;

	if (adp_check_shapes(shape, layers, why) != 0)
		return -1;
	__builtin_memset(l, 0, sizeof(*l));
	l->layers = layers;
	l->inputs = shape[0].inputs;
	l->outputs = shape[layers - 1].outputs;
	for (i = 0; i < layers; i++) {
		struct adp_layer_layout *at = &l->layer[i];

		l->shape[i] = shape[i];
		at->input_max = i == 0 ? ADP_INPUT_CODE_MAX : ADP_HIDDEN_CODE_MAX;
		at->chunk_inputs = ADP_CHUNK_INPUTS(at->input_max);
		at->chunk_triples = at->chunk_inputs / 3;
		at->chunks = (shape[i].inputs + at->chunk_inputs - 1) / at->chunk_inputs;
		at->triples = (shape[i].inputs + 2) / 3;
		at->row_words = at->chunks + at->triples + 2;
		at->offset = end;
		end += shape[i].outputs * at->row_words * 8;
	}
	end = adp_layout_tables(l, end);
	if (end > ADP_PARAMS_BYTES)
		return adp_complain(why, "parameters do not fit a slot, their bytes", 0, 0, end);
	l->bytes = end;
	return 0;
}

#endif
