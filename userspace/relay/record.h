/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What adapath-relay puts on a camera's TCP connection to the server: the only definition. Plain C11, so that a server
 * in any language has one page to read.
 *
 * One connection a camera, both of its renditions on it: a hello, then records, each a header and an RTP packet as it
 * came (RFC 4571 has a length before each packet; the rendition and the time are ours). Last a record with
 * ADP_RELAY_END and no packet. Every number is big endian.
 *
 * The time is the gateway's CLOCK_MONOTONIC at the packet's arrival, in us: pictures of two renditions that belong
 * together are told by it, a report names a chunk by it (select.proto), and the trainer finds the decision that a
 * report is about by it. It means nothing on another machine.
 */
#ifndef ADAPATH_RELAY_RECORD_H
#define ADAPATH_RELAY_RECORD_H

#include <adapath/types.h>

#define ADP_RELAY_MAGIC 0x41445052u /* "ADPR" */
#define ADP_RELAY_VERSION 2
#define ADP_RELAY_GATEWAY_BYTES 64
#define ADP_RELAY_PACKET_MAX 65507 /* bytes: a UDP packet's payload */
/*
 * By so much a record's time may be before that of an earlier one of its rendition: packets may be out of order. What
 * goes back further (the clock was set) gets a later time than its own. Between the renditions there is no order: sub
 * goes before main where both wait.
 */
#define ADP_RELAY_BACKWARDS_US 1000000

/* adp_relay_wire.flags */
#define ADP_RELAY_END 1u /* no packet: the relay closes this camera */
/*
 * Before this packet the relay dropped some of this rendition, up to the chunk that begins here: the uplink was too
 * slow for them. Not a loss in sequence to wait for.
 */
#define ADP_RELAY_AFTER_DROP 2u
#define ADP_RELAY_FLAGS (ADP_RELAY_END | ADP_RELAY_AFTER_DROP)

/* On the wire. Bytes only: no alignment, no padding, no byte order of the machine. */
struct adp_relay_hello {
    adp_u8 magic[4];
    adp_u8 version;
    adp_u8 reserved;  /* 0 */
    adp_u8 camera[2]; /* its place in the gateway's configuration (adapathd's and the relay's), from 0 */
    adp_u8 gateway[ADP_RELAY_GATEWAY_BYTES]; /* name, 1 to 63 bytes of [A-Za-z0-9._-], then zeros */
};

struct adp_relay_wire {
    adp_u8 length[2]; /* of the packet that follows */
    adp_u8 rendition; /* enum adp_select_rendition */
    adp_u8 flags;
    adp_u8 received_us[8];
};

ADP_STATIC_ASSERT(sizeof(struct adp_relay_hello) == 72, "the layout on the wire");
ADP_STATIC_ASSERT(sizeof(struct adp_relay_wire) == 12, "the layout on the wire");

#endif
