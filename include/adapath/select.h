/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The app `select`: which rendition of each camera's next chunk is worth its bytes on the uplink. State, features, decision and the
 * sample's record, written once for the BPF program, the kernel module, the simulator and the tests.
 *
 * A camera sends two renditions of one picture at once, sub and main (ONVIF's words), each as RTP with H.264 (rtp.h). A chunk is one
 * group of pictures of one rendition: from the first packet of an IDR picture, or of the parameter sets before it, to the next.
 * It is forwarded whole or not at all, decided once, at its first packet.
 *
 * Rounds. A decision opens a round, and governs the next chunk of each rendition: the one that begins with the packet that made it
 * due, and the other one's next. A rendition that begins a second chunk within one round makes the next decision due, but for
 *  - one that begins while the other rendition's forwarded chunk has more than half of this one's length to go: it is not cut off,
 *    so there is nothing to decide yet, and this chunk is not forwarded;
 *  - one that begins within ADP_SELECT_ROUND_MIN_US of the last decision: a camera can't make the kernel decide at every packet.
 * So with two renditions whose IDR pictures coincide, of each pair just what was chosen passes. Where they do not coincide, a change from
 * one rendition to the other must leave a gap or an overlap until the target's next IDR picture, since chunks stay whole. The shorter
 * is taken: where the target's next chunk is more than half of this one away, this one is forwarded too (`bridge`). From what the
 * server receives, every picture can be decoded.
 *
 * The decision: the network says what the sub stream is worth to the server's vision network (its expected accuracy, 0..1) and what
 * the main stream would add to it. The largest worth - price * bytes is chosen, of `none`, `sub`, `main` and `both`, bytes being those
 * of a second, so that chunks of different length compare. Of the main stream a share comes too late or not at all when the uplink
 * drops (market.main_late); what is left of its worth counts. The sub stream is small and goes first, so beside the main one it is an
 * insurance: `both` is worth what main is, and sub where main does not come. For a share of the rounds both are sent anyway, so that
 * the server can measure the gain: the more often where main is chosen and sub costs little beside it, never where main costs more
 * than an accuracy of 1. The price is the uplink's (struct adp_select_market); userspace writes it.
 *
 * Not the network's to decide:
 *  - Without a snapshot, and until a chunk of each live rendition has been measured, the sub stream passes, or the main one where
 *    there is no sub stream (not within ADP_SELECT_GRACE_US of the camera's first packet: it may still come).
 *  - A rendition that has been silent for ADP_SELECT_SILENT_US is not chosen.
 *  - The main stream is not chosen above market.main_limit bytes/s.
 *  - A camera of which nothing was forwarded for ADP_SELECT_STARVED_US gets its sub stream for a chunk: the server could not
 *    know any more whether there is something to see.
 *  - A chunk of more than ADP_SELECT_CHUNK_MAX_US is cut off, and its rendition waits for an IDR picture: or a camera that never
 *    sends another would hold the uplink whatever the price.
 *
 * Order and loss. Sequence numbers are extended to 32 bits (RFC 3550, A.1). What comes late goes the way of the chunk it belongs
 * to, as far back as the chunk before; duplicates are dropped; a jump is believed when the next packet confirms it, and the
 * rendition then waits for an IDR picture.
 *
 * Senders. A rendition belongs to one SSRC until that has been silent for ADP_SELECT_SILENT_US; then to the first other one that
 * sends ADP_SELECT_PROBATION packets in sequence. Of the others a fixed number is remembered per rendition; the one unheard for
 * longest makes room. So a flood of SSRCs neither displaces a camera that sends nor costs another camera anything.
 */
#ifndef ADAPATH_SELECT_H
#define ADAPATH_SELECT_H

#include "abi.h"
#include "fixed.h"
#include "rtp.h"

/* Changes with any change of meaning in features, decision or record. A snapshot names the one that it was trained for. */
#define ADP_SELECT_SCHEMA 3

enum adp_select_rendition {
	ADP_SELECT_SUB = 0,
	ADP_SELECT_MAIN = 1,
	ADP_SELECT_RENDITIONS = 2,
};
/* A choice is a set of renditions. */
#define ADP_SELECT_NONE 0u
#define ADP_SELECT_ONLY_SUB (1u << ADP_SELECT_SUB)
#define ADP_SELECT_ONLY_MAIN (1u << ADP_SELECT_MAIN)
#define ADP_SELECT_BOTH (ADP_SELECT_ONLY_SUB | ADP_SELECT_ONLY_MAIN)

#define ADP_SELECT_CAMERAS 256 /* that one gateway can have */

/* Inputs of one rendition, the sub stream's first, and those behind both. Of a rendition that is silent all codes are 0. */
enum adp_select_feature {
	ADP_SELECT_RATE = 0,	/* log2(bytes/s of the last chunks, smoothed / 1 KiB) */
	ADP_SELECT_IDR = 1,	/* log2(bytes of the last chunk's IDR picture / 1 KiB) */
	ADP_SELECT_PICTURE = 2, /* log2(mean bytes of its other pictures / 1 KiB): the cheapest sign of motion */
	ADP_SELECT_MOTION = 3,	/* log2(that mean / what is usual) */
	ADP_SELECT_LENGTH = 4,	/* log2(length of the last chunk in s) */
	ADP_SELECT_LOSS = 5,	/* its packets that were lost on the way here / all */
	ADP_SELECT_FEATURES = 6,
};
enum adp_select_context {
	ADP_SELECT_CONTEXT = (int)ADP_SELECT_RENDITIONS * (int)ADP_SELECT_FEATURES,
	ADP_SELECT_RATIO = ADP_SELECT_CONTEXT, /* log2(rate of main / rate of sub) */
	ADP_SELECT_SINCE,		       /* log2(1 + s since the choice last changed) */
	ADP_SELECT_WAS_SUB,		       /* 0 or 1: the last choice had the sub stream in it */
	ADP_SELECT_WAS_MAIN,
	ADP_SELECT_OBJECTS,    /* log2(1 + objects that the server saw last) */
	ADP_SELECT_CONFIDENCE, /* its mean confidence in them, 0..1 */
	ADP_SELECT_SUB_WORTH,  /* accuracy of the sub stream, mean of the last measurements, 0..1 */
	ADP_SELECT_GAIN,       /* what the main stream added to it, -1..1 */
	ADP_SELECT_SEEN,       /* log2(1 + s since the server last said what it saw) */
	ADP_SELECT_MEASURED,   /* log2(1 + s since it last measured worth and gain) */
	ADP_SELECT_OTHERS,     /* log2(cameras that share the uplink) */
	ADP_SELECT_USED,       /* share of the uplink's budget in use, 0..2 */
	ADP_SELECT_INPUTS,
};
/* Codes: real = (code - zero) / unit. The network is trained on these very codes. */
#define ADP_SELECT_RATE_UNIT 16 /* 1 KiB/s to 60 MiB/s */
#define ADP_SELECT_RATE_ZERO 0
#define ADP_SELECT_BYTES_UNIT 16 /* 16 bytes to 1 MiB: IDR and other pictures */
#define ADP_SELECT_BYTES_ZERO 96
#define ADP_SELECT_MOTION_UNIT 32
#define ADP_SELECT_MOTION_ZERO 128
#define ADP_SELECT_LENGTH_UNIT 16
#define ADP_SELECT_LENGTH_ZERO 128
#define ADP_SELECT_LOSS_UNIT 512
#define ADP_SELECT_LOSS_ZERO 0
#define ADP_SELECT_RATIO_UNIT 16
#define ADP_SELECT_RATIO_ZERO 64
#define ADP_SELECT_AGE_UNIT 16
#define ADP_SELECT_AGE_ZERO 0
#define ADP_SELECT_FLAG_UNIT 128
#define ADP_SELECT_FLAG_ZERO 0
#define ADP_SELECT_OBJECTS_UNIT 32
#define ADP_SELECT_OBJECTS_ZERO 0
#define ADP_SELECT_SHARE_UNIT 255 /* confidence, accuracy */
#define ADP_SELECT_SHARE_ZERO 0
#define ADP_SELECT_GAIN_UNIT 127
#define ADP_SELECT_GAIN_ZERO 128
#define ADP_SELECT_OTHERS_UNIT 32
#define ADP_SELECT_OTHERS_ZERO 0
#define ADP_SELECT_USED_UNIT 127
#define ADP_SELECT_USED_ZERO 0

/* Outputs, Q16. Clamped to [0, 1] and [-1, 1], and their sum to [0, 1]. */
enum adp_select_output {
	ADP_SELECT_OUT_SUB = 0,	 /* what the sub stream is worth */
	ADP_SELECT_OUT_GAIN = 1, /* what the main stream would add */
	ADP_SELECT_OUTPUTS = 2,
};

/* The objective: weights in Q16 in adp_control.objective (abi.h). */
enum adp_select_weight {
	ADP_SELECT_ACCURACY_WEIGHT = 0,
	ADP_SELECT_BYTES_WEIGHT = 1, /* what the price is multiplied with */
	ADP_SELECT_WEIGHTS = 2,
};
#define ADP_SELECT_WEIGHT_DEFAULT_Q16 65536

#define ADP_SELECT_SILENT_US 2000000
#define ADP_SELECT_GRACE_US 5000000
#define ADP_SELECT_STARVED_US 10000000
#define ADP_SELECT_CHUNK_MAX_US 30000000
#define ADP_SELECT_ROUND_MIN_US 100000
#define ADP_SELECT_EXPLORE_MAIN 8	 /* so many times the share of rounds are explored where main passes anyway: sub costs little */
#define ADP_SELECT_EXPLORE_GAP 1966	 /* Q16 of accuracy, 0.03: half as often where both are thought to lose so much */
#define ADP_SELECT_EXPLORE_COST 65536	 /* Q16 of accuracy: where main costs more than all there is to win, none is */
#define ADP_SELECT_PROBATION 4
#define ADP_SELECT_CANDIDATES 4
#define ADP_SELECT_DROPOUT 3000	 /* packets that may be missing (RFC 3550: MAX_DROPOUT) */
#define ADP_SELECT_MISORDER 100	 /* packets that one may come late by (RFC 3550: MAX_MISORDER) */
#define ADP_SELECT_WINDOW 64	 /* packets among which duplicates are told */
#define ADP_SELECT_GLANCES 64	 /* a power of two: every so many packets of a chunk the long way is taken */
#define ADP_SELECT_REACH 256	 /* bytes of a frame that are ever looked at, but for the last one of a padded packet */
#define ADP_SELECT_RATE_MAX (1u << 31) /* bytes/s */
/* The price is in accuracy for 1 MiB/s, Q16. */
#define ADP_SELECT_PRICE_SHIFT 20
#define ADP_SELECT_PRICE_MAX_Q16 (1u << 26) /* 1024 */

/* adp_select_sample.flags */
#define ADP_SELECT_FALLBACK_MADE 1u /* no snapshot */
#define ADP_SELECT_LEARNING 2u	    /* no chunk of some live rendition has been measured yet */
#define ADP_SELECT_EXPLORED 4u	    /* both are sent, to measure the gain */
#define ADP_SELECT_STARVED 8u	    /* the sub stream passes because nothing has for long */
#define ADP_SELECT_LIMITED 16u	    /* the main stream has more than main_limit */
#define ADP_SELECT_BRIDGED 32u	    /* the old rendition passes once more, until the new one's next IDR picture */
/* With one of these no network ran: outputs and generation are 0. */
#define ADP_SELECT_NOT_DECIDED (ADP_SELECT_FALLBACK_MADE | ADP_SELECT_LEARNING)

/*
 * What the uplink is worth just now. Userspace writes, the kernel side reads each word by itself; all 0 (a price of nothing) at
 * first. When its writer dies the last price stays in force.
 */
struct adp_select_market {
	adp_u64 time_us;    /* CLOCK_MONOTONIC, of the last change; for humans */
	adp_u32 price_q16;  /* accuracy for 1 MiB/s; at most ADP_SELECT_PRICE_MAX_Q16 counts */
	adp_u32 main_limit; /* bytes/s; 0 = none */
	adp_u32 used_q16;   /* share of the budget that is used */
	adp_u32 cameras;    /* that share the uplink; 0 counts as 1 */
	adp_u32 main_late_q16; /* share of the main streams' bytes that lately came too late or not at all */
	adp_u32 pad[9];
};

/* What the server says of a camera, likewise written by userspace. Times are CLOCK_MONOTONIC; 0 = never. */
struct adp_select_feedback {
	adp_u64 seen_us;	/* when the server last said what it saw (objects, confidence, accuracy) */
	adp_u64 measured_us;	/* when it last measured both renditions (sub_worth, gain: means of its last measurements) */
	adp_u32 objects;
	adp_u32 confidence_q16;
	adp_u32 accuracy_q16;	/* of what it received; 0 where it received nothing */
	adp_u32 sub_worth_q16;
	adp_s32 gain_q16;
	adp_u32 pad[7];
};

/* One chunk of one rendition, as it arrived. */
struct adp_select_chunk {
	adp_u32 us;	   /* from its first packet to the next chunk's; of the running one 0 */
	adp_u32 bytes;	   /* of IP payload: what the uplink would carry */
	adp_u32 idr_bytes; /* of them, its first picture and the parameter sets */
	adp_u32 packets;
	adp_u32 pictures;
	adp_u32 lost;	   /* packets, by gaps in the sequence */
	adp_u32 reordered; /* packets that came late */
	adp_u32 pad;
};

struct adp_select_candidate {
	adp_u64 last_us;
	adp_u32 ssrc;
	adp_u16 next;  /* sequence number that would confirm it */
	adp_u16 count; /* packets in sequence so far; 0 = none here */
};

/* State of one rendition. */
struct adp_select_stream {
	/* What a packet touches at which nothing begins. */
	adp_u64 last_us;
	adp_u64 start_us;  /* of the running chunk */
	adp_u64 window;	   /* bit i: packet newest - i has come */
	adp_u32 ssrc;
	adp_u32 newest;	   /* sequence number, extended */
	adp_u32 first;	   /* of the running chunk, extended */
	adp_u32 before;	   /* of the chunk before it */
	adp_u32 timestamp; /* of the running chunk's first picture */
	adp_u32 picture;   /* timestamp of the newest picture */
	adp_u8 known;	   /* 0 or 1: has a sender */
	adp_u8 started;	   /* 0 or 1: an IDR picture has come */
	adp_u8 forward;	   /* 0 or 1: the running chunk passes */
	adp_u8 settled;	   /* 0 or 1: that is decided; 0 until there is a chunk and while its decision is being made */
	adp_u64 passed;	   /* packets, since the camera was configured: each is counted here or in dropped */
	adp_u64 passed_bytes;
	adp_u64 dropped;
	struct adp_select_chunk now;

	adp_u32 expected;  /* sequence number that would confirm a jump; above 65535 = none */
	adp_u32 forward_before; /* 0 or 1: the chunk before passed */
	struct adp_select_chunk last;
	adp_u32 round; /* that the running chunk belongs to */
	adp_u32 rate;  /* bytes/s, smoothed */
	adp_u32 picture_bytes; /* mean of the last chunk's pictures but the first */
	adp_u32 usual_bytes;   /* of the chunks before it, smoothed; 0 = none yet */
	struct adp_select_candidate candidates[ADP_SELECT_CANDIDATES];
};

/* Of one camera, since it was configured: why packets were dropped, other than that their chunk was not chosen. */
struct adp_select_counters {
	adp_u64 waiting; /* before the rendition's first IDR picture */
	adp_u64 late;	 /* for a chunk that is over for long */
	adp_u64 duplicates;
	adp_u64 jumps;	 /* the sequence leapt */
	adp_u64 foreign; /* from a sender that is not the rendition's */
	adp_u64 malformed;
	adp_u64 others; /* to the rendition's port, but no RTP of its payload type: passed untouched, in none of the above */
	/* Events. */
	adp_u64 evicted;   /* senders forgotten for newer ones */
	adp_u64 taken_over; /* the rendition got another sender */
	adp_u64 hasty;	   /* chunks that began too soon after a decision */
	adp_u64 contended; /* chunks that began while another CPU decided: they followed the choice before */
	adp_u64 torn;	   /* packets that came while another CPU decided about their chunk: dropped; a flow keeps to one CPU, so never */
	adp_u64 overlong;  /* chunks cut off */
};

/* What followed a decision, as far as the kernel side knows it when the next one is made. */
struct adp_select_outcome {
	adp_u32 us;	      /* until then */
	adp_u32 bytes;	      /* that passed */
	adp_u32 choice;
	adp_u32 price_q16;    /* that it was made at */
	adp_u32 accuracy_q16; /* of feedback that came since, else 0 */
	adp_u32 known;	      /* 0 or 1: feedback came since */
};

/* All that a choice follows from, beside the outputs. */
struct adp_select_offer {
	adp_u32 rate[ADP_SELECT_RENDITIONS]; /* bytes/s */
	adp_u32 available;    /* set of renditions */
	adp_u32 price_q16;    /* with the objective's weights in it */
	adp_u32 main_limit;   /* bytes/s; 0 = none */
	adp_u32 starved;      /* 0 or 1 */
	adp_u32 random;	      /* 32 random bits, for exploration */
	adp_u32 explore_q16;  /* share of the rounds in which both are sent, where that loses nothing */
	adp_u32 main_late_q16; /* at most 1 */
	adp_u32 pad;
};

/*
 * State of one camera. Changed under a lock, but for what adp_select_quick() changes of a stream; one decision at a time owns output
 * and input.
 */
struct adp_select_camera {
	adp_u64 id;	     /* unique on this machine while the pins live, from 1; 0 = not configured */
	adp_u64 first_us;    /* of its first packet */
	adp_u64 deciding_us; /* since when a decision is being made; 0 = none is */
	adp_u64 decided_us;
	adp_u64 changed_us;  /* when the choice was last another one */
	adp_u64 fed_us;	     /* when a picture last began to pass */
	adp_u64 bytes_base;  /* that had passed, of both renditions, at the last decision */
	adp_u32 round;	     /* decisions so far */
	adp_u32 choice;
	adp_u32 due;	     /* the rendition whose chunk began */
	adp_u32 slot;	     /* that the present decision uses */
	adp_u32 generation;
	adp_u32 price_q16;   /* of the last decision */
	struct adp_select_stream streams[ADP_SELECT_RENDITIONS];
	struct adp_select_counters counters;
	struct adp_select_offer offer; /* of the present decision */
	struct adp_select_outcome before;
	adp_s32 output[ADP_MAX_OUTPUTS]; /* of the network, Q16; enum adp_select_output */
	adp_u8 input[ADP_SELECT_INPUTS];
};

/*
 * One decision and what was known at it. Everything needed to run the reference interpreter again is here: input -> output by
 * `generation`'s snapshot; and output -> choice by adp_select_choose().
 */
struct adp_select_sample {
	adp_u64 time_us; /* CLOCK_MONOTONIC, at the decision */
	adp_u64 camera;
	adp_u32 seq;	 /* a gap is a lost sample */
	adp_u32 generation;
	adp_u32 slot;
	adp_u32 flags;
	adp_s32 output[ADP_SELECT_OUTPUTS]; /* raw, Q16 */
	adp_u32 choice;
	adp_u32 rendition; /* whose chunk began */
	struct adp_select_offer offer;
	struct adp_select_outcome before; /* of decision seq - 1 */
	struct adp_select_chunk last[ADP_SELECT_RENDITIONS];
	adp_u8 input[ADP_SELECT_INPUTS];
};

ADP_STATIC_ASSERT(ADP_SELECT_INPUTS == 24, "the record's layout");
ADP_STATIC_ASSERT(sizeof(struct adp_select_market) == 64, "one cache line");
ADP_STATIC_ASSERT(sizeof(struct adp_select_feedback) == 64, "one cache line");
ADP_STATIC_ASSERT(sizeof(struct adp_select_chunk) == 32, "no hidden padding in a shared record");
ADP_STATIC_ASSERT(sizeof(struct adp_select_sample) == 200, "no hidden padding in a shared record");
ADP_STATIC_ASSERT(sizeof(struct adp_select_stream) % 8 == 0, "no hidden padding in a shared record");
ADP_STATIC_ASSERT(sizeof(struct adp_select_camera) % 8 == 0, "no hidden padding in a shared record");

/* One packet of a rendition. */
struct adp_select_packet {
	adp_u64 now_us;	   /* a clock of some milliseconds is fine enough; adp_select_quick() needs none */
	adp_u32 rendition; /* enum adp_select_rendition */
	adp_u32 bytes;	   /* of IP payload */
	adp_u32 ssrc;
	adp_u32 timestamp;
	adp_u32 contents;  /* adp_h264_look() */
	adp_u16 sequence;
};

enum adp_select_verdict {
	ADP_SELECT_DROP = 0,
	ADP_SELECT_PASS = 1,
	ADP_SELECT_DECIDE = 2, /* go on with adp_select_prepare(); adp_select_act() says what becomes of the packet */
	ADP_SELECT_LOOK = 3,   /* of adp_select_quick(): go on with adp_select_on_packet() */
};

/*
 * What of a UDP payload counts here, to *p: sender, place in the sequence, contents. -1 where it is no RTP of that payload type, which
 * passes untouched.
 */
ADP_INLINE int adp_select_read(const struct adp_view *view, adp_u32 offset, adp_u32 bytes, adp_u32 payload_type,
			       struct adp_select_packet *p)
{
	struct adp_rtp rtp;
	enum adp_rtp_found found = adp_rtp_parse(view, offset, bytes, &rtp);

	if (found == ADP_RTP_NONE || rtp.payload_type != payload_type)
		return -1;
	p->ssrc = rtp.ssrc;
	p->timestamp = rtp.timestamp;
	p->sequence = rtp.sequence;
	p->contents = found == ADP_RTP_PACKET ? adp_h264_look(view, rtp.offset, rtp.bytes) : ADP_H264_MALFORMED;
	return 0;
}

ADP_INLINE void adp_select_clear_chunk(struct adp_select_chunk *k)
{
	k->us = 0;
	k->bytes = 0;
	k->idr_bytes = 0;
	k->packets = 0;
	k->pictures = 0;
	k->lost = 0;
	k->reordered = 0;
	k->pad = 0;
}

/* A sender begins with this packet: whatever was known of the one before is void, and nothing passes until an IDR picture. */
ADP_INLINE void adp_select_begin_stream(struct adp_select_stream *r, const struct adp_select_packet *p)
{
	r->ssrc = p->ssrc;
	r->newest = 0x10000u + p->sequence; /* above what a late packet goes back by */
	r->window = 1;
	r->known = 1;
	r->started = 0;
	r->settled = 0;
	r->forward = 0;
	r->forward_before = 0;
	r->expected = 0x10000;
	adp_select_clear_chunk(&r->now);
}

/* A packet of another sender than the rendition's. Is it the rendition's from now on? */
ADP_INLINE int adp_select_takes_over(struct adp_select_camera *c, struct adp_select_stream *r, const struct adp_select_packet *p)
{
	struct adp_select_candidate *k = &r->candidates[0];
	adp_u32 i;

	/* Its own entry, or else the one unheard for longest; free ones were never heard. */
	for (i = 0; i < ADP_SELECT_CANDIDATES; i++) {
		struct adp_select_candidate *other = &r->candidates[i];

		if (other->count && other->ssrc == p->ssrc) {
			k = other;
			break;
		}
		if (other->last_us < k->last_us)
			k = other;
	}
	if (!k->count || k->ssrc != p->ssrc) {
		if (k->count)
			c->counters.evicted++;
		k->ssrc = p->ssrc;
		k->count = 0;
		k->next = p->sequence;
	}
	k->last_us = p->now_us;
	k->count = k->next == p->sequence ? (adp_u16)adp_min_u64(k->count + 1u, 0xffff) : 1;
	k->next = (adp_u16)(p->sequence + 1);
	if (p->now_us - r->last_us < ADP_SELECT_SILENT_US || k->count < ADP_SELECT_PROBATION)
		return 0;
	k->count = 0;
	k->last_us = 0;
	c->counters.taken_over++;
	return 1;
}

/* The running chunk ends where the one that begins with this packet, of extended number `ext`, begins. */
ADP_INLINE void adp_select_close_chunk(struct adp_select_stream *r, adp_u64 now_us, adp_u32 ext)
{
	adp_u32 expected = ext - r->first;
	adp_u64 rate;

	r->last = r->now;
	/* Of at least a millisecond: the clock may be coarse. */
	r->last.us = (adp_u32)adp_min_u64(adp_max_u64(now_us - r->start_us, 1000), 0xffffffffu);
	r->last.lost = expected > r->now.packets ? expected - r->now.packets : 0;
	/* 2^32 * 2^20 */
	rate = adp_min_u64((adp_u64)r->last.bytes * 1000000 / r->last.us, ADP_SELECT_RATE_MAX);
	r->rate = (adp_u32)(r->rate ? (r->rate + rate) / 2 : rate);
	r->usual_bytes = r->usual_bytes ? (adp_u32)(((adp_u64)r->usual_bytes * 3 + r->picture_bytes) / 4) : r->picture_bytes;
	r->picture_bytes = r->last.pictures > 1 ? (r->last.bytes - r->last.idr_bytes) / (r->last.pictures - 1) : 0;
}

ADP_INLINE int adp_select_alive(const struct adp_select_stream *r, adp_u64 now_us)
{
	return r->started && now_us - r->last_us < ADP_SELECT_SILENT_US;
}

/* When the rendition's running chunk should be over, by the length of the last: microseconds from now; 2^32 where nobody knows. */
ADP_INLINE adp_u64 adp_select_left_us(const struct adp_select_stream *r, adp_u64 now_us)
{
	adp_u64 end = r->start_us + r->last.us;

	if (!r->started || !r->last.us)
		return 1ULL << 32;
	return end > now_us ? end - now_us : 0;
}

/* A chunk of the due-or-not rendition `which` begins. Does it ask for a decision? Else it follows the round's. */
ADP_INLINE int adp_select_is_due(struct adp_select_camera *c, adp_u32 which, adp_u64 now_us)
{
	const struct adp_select_stream *r = &c->streams[which & 1];
	const struct adp_select_stream *o = &c->streams[(which & 1) ^ 1];

	if (c->round && r->round != c->round)
		return 0;
	if (o->forward && adp_select_alive(o, now_us) && !(c->choice >> which & 1) &&
	    adp_select_left_us(o, now_us) > r->last.us / 2)
		return 0;
	if (c->round && now_us - c->decided_us < ADP_SELECT_ROUND_MIN_US) {
		c->counters.hasty++;
		return 0;
	}
	/* Stale where the decision was never made an end of, which a sound program does not let happen. */
	if (c->deciding_us && now_us - c->deciding_us < ADP_SELECT_ROUND_MIN_US) {
		c->counters.contended++;
		return 0;
	}
	return 1;
}

/* Of the packet that `forward` says passes or not. */
ADP_INLINE enum adp_select_verdict adp_select_count(struct adp_select_stream *r, adp_u32 bytes, adp_u32 forward)
{
	if (!forward) {
		r->dropped++;
		return ADP_SELECT_DROP;
	}
	r->passed++;
	r->passed_bytes += bytes;
	return ADP_SELECT_PASS;
}

/*
 * The most packets by far: the next in sequence, of the picture that came last, in a chunk that is decided. Takes neither lock nor
 * clock, since it writes only to its own stream, whose packets come on one CPU. Not for ever, or a camera that never changes its
 * timestamp would never be seen to have had its time. (Where a NIC moves a flow to another CPU in between, a
 * count may be off by one, and a late packet be taken for a duplicate.)
 */
ADP_INLINE enum adp_select_verdict adp_select_quick(struct adp_select_stream *r, const struct adp_select_packet *p)
{
	adp_u32 ahead = (adp_u16)(p->sequence - r->newest);

	if (!r->settled || p->ssrc != r->ssrc || p->timestamp != r->picture || ahead - 1 >= ADP_SELECT_WINDOW - 1 ||
	    !(r->now.packets & (ADP_SELECT_GLANCES - 1)))
		return ADP_SELECT_LOOK;
	if (p->timestamp == r->timestamp) {
		if (p->contents & ADP_H264_MALFORMED)
			return ADP_SELECT_LOOK;
		r->now.idr_bytes += p->bytes;
	} else if (p->contents & (ADP_H264_MALFORMED | ADP_H264_BEGINS)) {
		return ADP_SELECT_LOOK;
	}
	r->newest += ahead;
	r->window = r->window << ahead | 1;
	r->now.packets++;
	r->now.bytes += p->bytes;
	return adp_select_count(r, p->bytes, r->forward);
}

/* A packet that could be decoded by nobody: of the right port and payload type, but its headers contradict themselves. */
ADP_INLINE enum adp_select_verdict adp_select_on_malformed(struct adp_select_camera *c, adp_u32 rendition)
{
	c->counters.malformed++;
	return adp_select_count(&c->streams[rendition & 1], 0, 0);
}

/*
 * The packet's place in the sequence: 1 with its extended number, 0 where it is to be dropped (and counted). A sender's first packet
 * is in place by definition.
 */
ADP_INLINE int adp_select_place(struct adp_select_camera *c, struct adp_select_stream *r, const struct adp_select_packet *p,
				adp_u32 *ext)
{
	adp_s32 ahead = (adp_s16)(p->sequence - (adp_u16)r->newest);

	if (ahead > 0 && ahead <= ADP_SELECT_DROPOUT) {
		r->newest += (adp_u32)ahead;
		r->window = ahead < ADP_SELECT_WINDOW ? r->window << ahead | 1 : 1;
		*ext = r->newest;
		return 1;
	}
	if (ahead <= 0 && ahead >= -ADP_SELECT_MISORDER) {
		*ext = r->newest - (adp_u32)-ahead;
		if (-ahead < ADP_SELECT_WINDOW) {
			adp_u64 bit = 1ULL << (-ahead & (ADP_SELECT_WINDOW - 1));

			if (r->window & bit) {
				c->counters.duplicates++;
				return 0;
			}
			r->window |= bit;
		}
		r->now.reordered++;
		return 1;
	}
	c->counters.jumps++;
	if (r->expected != p->sequence) {
		r->expected = (adp_u16)(p->sequence + 1);
		return 0;
	}
	adp_select_begin_stream(r, p);
	*ext = r->newest;
	return 1;
}

/*
 * Any packet, in its turn: counts it, and says what becomes of it. The clock and the lock are for this one. The clock is read before
 * the lock is had: what the other rendition's packet has written meanwhile, on another CPU, may be later. Time stands still then, in
 * *p too, or every span since would be one of 2^64 us: a sender silent for so long loses its place to whoever asks.
 */
ADP_INLINE enum adp_select_verdict adp_select_on_packet(struct adp_select_camera *c, struct adp_select_packet *p)
{
	adp_u32 which = p->rendition & 1;
	struct adp_select_stream *r = &c->streams[which];
	adp_u32 ext, forward;

	p->now_us = adp_max_u64(p->now_us, adp_max_u64(c->streams[ADP_SELECT_SUB].last_us, c->streams[ADP_SELECT_MAIN].last_us));
	if (!c->first_us) {
		c->first_us = p->now_us;
		c->fed_us = p->now_us;
		c->changed_us = p->now_us;
	}
	if (!r->known || r->ssrc != p->ssrc) {
		if (r->known && !adp_select_takes_over(c, r, p)) {
			c->counters.foreign++;
			return adp_select_count(r, p->bytes, 0);
		}
		adp_select_begin_stream(r, p);
		ext = r->newest;
	} else if (!adp_select_place(c, r, p, &ext)) {
		return adp_select_count(r, p->bytes, 0);
	}
	r->last_us = p->now_us;

	if (p->contents & ADP_H264_BEGINS && (!r->started || (p->timestamp != r->timestamp && (adp_s32)(ext - r->first) > 0))) {
		if (r->started)
			adp_select_close_chunk(r, p->now_us, ext);
		r->before = r->started ? r->first : ext;
		r->forward_before = r->forward;
		r->started = 1;
		r->first = ext;
		r->timestamp = p->timestamp;
		r->picture = p->timestamp;
		r->start_us = p->now_us;
		adp_select_clear_chunk(&r->now);
		r->now.bytes = p->bytes;
		r->now.idr_bytes = p->bytes;
		r->now.packets = 1;
		r->now.pictures = 1;
		if (adp_select_is_due(c, which, p->now_us)) {
			r->forward = 0; /* should nobody come to say otherwise */
			r->settled = 0;
			c->deciding_us = p->now_us;
			c->due = which;
			return ADP_SELECT_DECIDE;
		}
		r->round = c->round;
		r->forward = c->choice >> which & 1;
		r->settled = 1;
		if (r->forward)
			c->fed_us = p->now_us;
		return adp_select_count(r, p->bytes, r->forward);
	}
	if (!r->started) {
		c->counters.waiting++;
		return adp_select_count(r, p->bytes, 0);
	}
	if ((adp_s32)(ext - r->first) < 0 && p->timestamp != r->timestamp) {
		/* Late, for the chunk before. */
		if ((adp_s32)(ext - r->before) < 0) {
			c->counters.late++;
			return adp_select_count(r, p->bytes, 0);
		}
		r->last.lost -= r->last.lost ? 1 : 0;
		return adp_select_count(r, p->bytes, r->forward_before);
	}
	if ((adp_s32)(ext - r->first) < 0)
		r->first = ext;
	if (r->forward && p->now_us - r->start_us > ADP_SELECT_CHUNK_MAX_US) {
		r->forward = 0;
		c->counters.overlong++;
	}
	if (!r->settled)
		c->counters.torn++;
	if (r->forward)
		c->fed_us = p->now_us;
	forward = r->forward;
	r->now.packets++;
	r->now.bytes += p->bytes;
	if (p->timestamp == r->timestamp) {
		r->now.idr_bytes += p->bytes;
	} else if ((adp_s32)(p->timestamp - r->picture) > 0) {
		r->picture = p->timestamp;
		r->now.pictures++;
	}
	return adp_select_count(r, p->bytes, forward);
}

/* log2(1 + seconds since) of a time that may be 0 = never, as an age of everything. */
ADP_INLINE adp_u8 adp_select_age(adp_u64 now_us, adp_u64 then_us)
{
	adp_u64 us = then_us && now_us > then_us ? now_us - then_us : then_us ? 0 : 1ULL << 50;

	/* log2(1 + us / 10^6) = log2(10^6 + us) - log2(10^6) */
	return adp_code_q16(adp_log2_q16(us + 1000000) - adp_log2_q16(1000000), ADP_SELECT_AGE_UNIT, ADP_SELECT_AGE_ZERO);
}

ADP_INLINE void adp_select_fill_stream(const struct adp_select_stream *r, int alive, adp_u8 *in)
{
	const struct adp_select_chunk *k = &r->last;
	adp_u64 sent = (adp_u64)k->packets + k->lost;
	adp_s64 motion = r->usual_bytes ? adp_log2_q16((adp_u64)r->picture_bytes + 1) - adp_log2_q16((adp_u64)r->usual_bytes + 1) : 0;
	adp_u8 mask = alive ? 0xff : 0;

	in[ADP_SELECT_RATE] = mask & adp_code_q16(adp_log2_q16(r->rate) - (10 << 16), ADP_SELECT_RATE_UNIT, ADP_SELECT_RATE_ZERO);
	in[ADP_SELECT_IDR] =
		mask & adp_code_q16(adp_log2_q16(k->idr_bytes) - (10 << 16), ADP_SELECT_BYTES_UNIT, ADP_SELECT_BYTES_ZERO);
	in[ADP_SELECT_PICTURE] =
		mask & adp_code_q16(adp_log2_q16(r->picture_bytes) - (10 << 16), ADP_SELECT_BYTES_UNIT, ADP_SELECT_BYTES_ZERO);
	in[ADP_SELECT_MOTION] = mask & adp_code_q16(motion, ADP_SELECT_MOTION_UNIT, ADP_SELECT_MOTION_ZERO);
	in[ADP_SELECT_LENGTH] =
		mask & adp_code_q16(adp_log2_q16(k->us) - adp_log2_q16(1000000), ADP_SELECT_LENGTH_UNIT, ADP_SELECT_LENGTH_ZERO);
	in[ADP_SELECT_LOSS] =
		mask & adp_code_q16((adp_s64)((adp_u64)k->lost * ADP_Q16_ONE / (sent ? sent : 1)), ADP_SELECT_LOSS_UNIT,
				    ADP_SELECT_LOSS_ZERO);
}

/* What the price comes to with the operator's weights (adp_control.objective; all 0: the defaults). 2^26 * 2^24 / 1 */
ADP_INLINE adp_u32 adp_select_price(adp_u32 price_q16, adp_u32 accuracy_q16, adp_u32 bytes_q16)
{
	adp_u64 price = adp_min_u64(price_q16, ADP_SELECT_PRICE_MAX_Q16);

	if (!accuracy_q16)
		return (adp_u32)price;
	return (adp_u32)adp_min_u64(price * adp_min_u64(bytes_q16, ADP_OBJECTIVE_MAX_Q16) / accuracy_q16, ADP_SELECT_PRICE_MAX_Q16);
}

/*
 * What becomes of the chunk that made a decision due: 0 = ask the network, whose input is complete; else the flag of what decides
 * instead. market and feedback may be null;
 * objective: adp_control's. `random`: 32 random bits.
 */
ADP_INLINE adp_u32 adp_select_prepare(struct adp_select_camera *c, const struct adp_select_market *market,
				      const struct adp_select_feedback *feedback, const adp_u32 *objective, adp_u64 now_us,
				      adp_u32 random)
{
	const struct adp_select_stream *sub = &c->streams[ADP_SELECT_SUB];
	const struct adp_select_stream *main = &c->streams[ADP_SELECT_MAIN];
	int sub_alive = adp_select_alive(sub, now_us), main_alive = adp_select_alive(main, now_us);
	struct adp_select_outcome *before = &c->before;
	struct adp_select_offer *offer = &c->offer;
	adp_u8 *in = c->input;

	offer->rate[ADP_SELECT_SUB] = sub->rate;
	offer->rate[ADP_SELECT_MAIN] = main->rate;
	offer->available = (sub_alive ? ADP_SELECT_ONLY_SUB : 0) | (main_alive ? ADP_SELECT_ONLY_MAIN : 0);
	offer->price_q16 = market ? adp_select_price(*(const volatile adp_u32 *)&market->price_q16,
						     *(const volatile adp_u32 *)&objective[ADP_SELECT_ACCURACY_WEIGHT],
						     *(const volatile adp_u32 *)&objective[ADP_SELECT_BYTES_WEIGHT]) :
				    0;
	offer->main_limit = market ? *(const volatile adp_u32 *)&market->main_limit : 0;
	offer->main_late_q16 =
		market ? (adp_u32)adp_min_u64(*(const volatile adp_u32 *)&market->main_late_q16, ADP_Q16_ONE) : 0;
	offer->pad = 0;
	offer->starved = now_us - c->fed_us >= ADP_SELECT_STARVED_US;
	offer->random = random;
	offer->explore_q16 = 0; /* the slot's, once one is taken */

	before->us = (adp_u32)adp_min_u64(now_us - c->decided_us, 0xffffffffu);
	before->bytes = (adp_u32)adp_min_u64(sub->passed_bytes + main->passed_bytes - c->bytes_base, 0xffffffffu);
	before->choice = c->choice;
	before->price_q16 = c->price_q16;
	before->known = feedback && c->round && *(const volatile adp_u64 *)&feedback->seen_us > c->decided_us;
	before->accuracy_q16 = before->known ? (adp_u32)adp_min_u64(*(const volatile adp_u32 *)&feedback->accuracy_q16, ADP_Q16_ONE) : 0;

	if ((sub_alive && !sub->last.us) || (main_alive && !main->last.us))
		return ADP_SELECT_LEARNING;

	adp_select_fill_stream(sub, sub_alive, in);
	adp_select_fill_stream(main, main_alive, in + ADP_SELECT_FEATURES);
	in[ADP_SELECT_RATIO] = sub_alive && main_alive ? adp_code_q16(adp_log2_q16(main->rate) - adp_log2_q16(sub->rate),
								      ADP_SELECT_RATIO_UNIT, ADP_SELECT_RATIO_ZERO) :
							 ADP_SELECT_RATIO_ZERO;
	in[ADP_SELECT_SINCE] = adp_select_age(now_us, c->changed_us);
	in[ADP_SELECT_WAS_SUB] = (c->choice >> ADP_SELECT_SUB & 1) * ADP_SELECT_FLAG_UNIT;
	in[ADP_SELECT_WAS_MAIN] = (c->choice >> ADP_SELECT_MAIN & 1) * ADP_SELECT_FLAG_UNIT;
	in[ADP_SELECT_OBJECTS] = feedback ? adp_code_q16(adp_log2_q16((adp_u64)feedback->objects + 1), ADP_SELECT_OBJECTS_UNIT,
							 ADP_SELECT_OBJECTS_ZERO) :
					    0;
	in[ADP_SELECT_CONFIDENCE] =
		feedback ? adp_code_q16(feedback->confidence_q16, ADP_SELECT_SHARE_UNIT, ADP_SELECT_SHARE_ZERO) : 0;
	in[ADP_SELECT_SUB_WORTH] =
		feedback ? adp_code_q16(feedback->sub_worth_q16, ADP_SELECT_SHARE_UNIT, ADP_SELECT_SHARE_ZERO) : 0;
	in[ADP_SELECT_GAIN] = feedback ? adp_code_q16(feedback->gain_q16, ADP_SELECT_GAIN_UNIT, ADP_SELECT_GAIN_ZERO) :
					 ADP_SELECT_GAIN_ZERO;
	in[ADP_SELECT_SEEN] = adp_select_age(now_us, feedback ? feedback->seen_us : 0);
	in[ADP_SELECT_MEASURED] = adp_select_age(now_us, feedback ? feedback->measured_us : 0);
	in[ADP_SELECT_OTHERS] = market ? adp_code_q16(adp_log2_q16(market->cameras), ADP_SELECT_OTHERS_UNIT, ADP_SELECT_OTHERS_ZERO) : 0;
	in[ADP_SELECT_USED] = market ? adp_code_q16(market->used_q16, ADP_SELECT_USED_UNIT, ADP_SELECT_USED_ZERO) : 0;
	return 0;
}

/* Worth of either rendition from the outputs, Q16, 0..1. */
ADP_INLINE adp_s64 adp_select_worth(const adp_s32 *output, adp_u32 rendition)
{
	adp_s64 sub = adp_clamp(output[ADP_SELECT_OUT_SUB], 0, ADP_Q16_ONE);

	if (rendition == ADP_SELECT_SUB)
		return sub;
	return adp_clamp(sub + adp_clamp(output[ADP_SELECT_OUT_GAIN], -ADP_Q16_ONE, ADP_Q16_ONE), 0, ADP_Q16_ONE);
}

/* What so many bytes/s cost, Q16. 2^26 * 2^31 >> 20 */
ADP_INLINE adp_s64 adp_select_cost(adp_u32 price_q16, adp_u32 rate)
{
	return (adp_s64)((adp_u64)price_q16 * adp_min_u64(rate, ADP_SELECT_RATE_MAX) >> ADP_SELECT_PRICE_SHIFT);
}

/* The renditions that may be chosen: the main stream not above its limit. */
ADP_INLINE adp_u32 adp_select_allowed(const struct adp_select_offer *o)
{
	if (o->main_limit && o->rate[ADP_SELECT_MAIN] > o->main_limit)
		return o->available & ADP_SELECT_ONLY_SUB;
	return o->available & ADP_SELECT_BOTH;
}

/* What each set of renditions is worth, less what it costs, by set. Q16; worths and shares are at most 1, so products fit 33 bits. */
ADP_INLINE void adp_select_values(const adp_s32 *output, const struct adp_select_offer *o, adp_s64 values[ADP_SELECT_BOTH + 1])
{
	adp_s64 late = (adp_s64)adp_min_u64(o->main_late_q16, ADP_Q16_ONE);
	adp_s64 sub = adp_select_worth(output, ADP_SELECT_SUB);
	adp_s64 sub_cost = adp_select_cost(o->price_q16, o->rate[ADP_SELECT_SUB]);

	values[ADP_SELECT_NONE] = 0;
	values[ADP_SELECT_ONLY_SUB] = sub - sub_cost;
	values[ADP_SELECT_ONLY_MAIN] = (adp_select_worth(output, ADP_SELECT_MAIN) * (ADP_Q16_ONE - late) >> 16) -
				       adp_select_cost(o->price_q16, o->rate[ADP_SELECT_MAIN]);
	values[ADP_SELECT_BOTH] = values[ADP_SELECT_ONLY_MAIN] + (sub * late >> 16) - sub_cost;
}

/* The share of the rounds in which both are sent instead of `choice`, where that were to lose nothing. Q16, at most 8. */
ADP_INLINE adp_u32 adp_select_explore_most_q16(const struct adp_select_offer *o, adp_u32 choice)
{
	adp_u32 share = o->explore_q16 < ADP_Q16_ONE ? o->explore_q16 : ADP_Q16_ONE;

	if (choice == ADP_SELECT_BOTH || adp_select_allowed(o) != ADP_SELECT_BOTH)
		return 0;
	if (choice == ADP_SELECT_ONLY_MAIN)
		return share * ADP_SELECT_EXPLORE_MAIN;
	return adp_select_cost(o->price_q16, o->rate[ADP_SELECT_MAIN]) > ADP_SELECT_EXPLORE_COST ? 0 : share;
}

/* ... where they lose so much against the choice, Q16 */
ADP_INLINE adp_u32 adp_select_explore_at_q16(adp_u32 most, adp_s64 gap)
{
	/* 2^16 * 8 * 2^12 fits */
	return most * ADP_SELECT_EXPLORE_GAP / (ADP_SELECT_EXPLORE_GAP + (adp_u32)adp_clamp(gap, 0, 4 * ADP_Q16_ONE));
}

/*
 * For which share of the rounds both renditions are sent instead of `choice`, so that the server can measure the gain. Q16; over
 * ADP_Q16_ONE it is all of them. What is learned from such a round weighs one over it. The more both are thought to lose against the
 * choice, the more seldom: the inverse of the gap, as in Abe and Long's rule for linear bandits (1999; Foster and Rakhlin's SquareCB,
 * 2020), which explores most where the choice is nearly undecided.
 */
ADP_INLINE adp_u32 adp_select_explore_q16(const adp_s32 *output, const struct adp_select_offer *o, adp_u32 choice)
{
	adp_s64 values[ADP_SELECT_BOTH + 1];

	adp_select_values(output, o, values);
	return adp_select_explore_at_q16(adp_select_explore_most_q16(o, choice),
					 values[choice & ADP_SELECT_BOTH] - values[ADP_SELECT_BOTH]);
}

/* The choice, and adds to *flags what bent it. Of equals the cheaper one. */
ADP_INLINE adp_u32 adp_select_choose(const adp_s32 *output, const struct adp_select_offer *o, adp_u32 *flags)
{
	adp_u32 choice = ADP_SELECT_NONE;
	adp_u32 allowed = adp_select_allowed(o);
	adp_u32 random = o->random & 0xffff;
	adp_s64 values[ADP_SELECT_BOTH + 1];
	adp_s64 best = 0;
	adp_u32 most;

	adp_select_values(output, o, values);
	if (!(allowed & ADP_SELECT_ONLY_MAIN) && o->available & ADP_SELECT_ONLY_MAIN)
		*flags |= ADP_SELECT_LIMITED;
	if (allowed & ADP_SELECT_ONLY_SUB && values[ADP_SELECT_ONLY_SUB] > best) {
		best = values[ADP_SELECT_ONLY_SUB];
		choice = ADP_SELECT_ONLY_SUB;
	}
	if (allowed & ADP_SELECT_ONLY_MAIN && values[ADP_SELECT_ONLY_MAIN] > best) {
		best = values[ADP_SELECT_ONLY_MAIN];
		choice = ADP_SELECT_ONLY_MAIN;
	}
	if (allowed == ADP_SELECT_BOTH && values[ADP_SELECT_BOTH] > best) {
		best = values[ADP_SELECT_BOTH];
		choice = ADP_SELECT_BOTH;
	}
	most = adp_select_explore_most_q16(o, choice);
	if (random < most && random < adp_select_explore_at_q16(most, best - values[ADP_SELECT_BOTH])) {
	*flags |= ADP_SELECT_EXPLORED;
		return ADP_SELECT_BOTH;
	}
	if (choice == ADP_SELECT_NONE && o->starved && allowed & ADP_SELECT_ONLY_SUB) {
		*flags |= ADP_SELECT_STARVED;
		choice = ADP_SELECT_ONLY_SUB;
	}
	return choice;
}

/* The choice where no network makes one. */
ADP_INLINE adp_u32 adp_select_fallback(const struct adp_select_camera *c, adp_u64 now_us)
{
	if (c->offer.available & ADP_SELECT_ONLY_SUB ||
	    now_us - c->first_us < ADP_SELECT_GRACE_US)
		return ADP_SELECT_ONLY_SUB;
	return c->offer.available & ADP_SELECT_ONLY_MAIN;
}

/*
 * Makes the choice: opens the round, and says what becomes of the packet of `bytes` bytes that asked. Adds ADP_SELECT_BRIDGED to
 * *flags where the old rendition passes once more.
 */
ADP_INLINE enum adp_select_verdict adp_select_act(struct adp_select_camera *c, adp_u32 choice, adp_u32 *flags, adp_u64 now_us,
						  adp_u32 bytes)
{
	adp_u32 which = c->due & 1;
	struct adp_select_stream *r = &c->streams[which];
	const struct adp_select_stream *o = &c->streams[which ^ 1];
	adp_u32 forward = choice >> which & 1;

	if (!forward && choice && r->forward_before && !(o->forward && adp_select_alive(o, now_us)) &&
	    adp_select_left_us(o, now_us) > r->last.us / 2) {
		forward = 1;
		*flags |= ADP_SELECT_BRIDGED;
	}
	if (choice != c->choice)
		c->changed_us = now_us;
	c->choice = choice;
	c->price_q16 = c->offer.price_q16;
	c->decided_us = now_us;
	c->deciding_us = 0;
	c->round++;
	c->bytes_base = r->passed_bytes + o->passed_bytes;
	r->round = c->round;
	r->forward = (adp_u8)forward;
	r->settled = 1;
	if (forward)
		c->fed_us = now_us;
	return adp_select_count(r, bytes, forward);
}

/* Makes the choice that is due, the network's or where *flags say so the fallback's, and acts on it. */
ADP_INLINE enum adp_select_verdict adp_select_settle(struct adp_select_camera *c, adp_u32 *flags, adp_u32 bytes)
{
	adp_u32 choice = *flags & ADP_SELECT_NOT_DECIDED ? adp_select_fallback(c, c->deciding_us) :
							   adp_select_choose(c->output, &c->offer, flags);

	return adp_select_act(c, choice, flags, c->deciding_us, bytes);
}

/* Of the decision that adp_select_act() has just made. */
ADP_INLINE void adp_select_fill_sample(const struct adp_select_camera *c, struct adp_select_sample *s, adp_u64 now_us, adp_u32 flags)
{
	int i;

	s->time_us = now_us;
	s->camera = c->id;
	s->seq = c->round - 1;
	s->generation = flags & ADP_SELECT_NOT_DECIDED ? 0 : c->generation;
	s->slot = c->slot;
	s->flags = flags;
	for (i = 0; i < ADP_SELECT_OUTPUTS; i++)
		s->output[i] = flags & ADP_SELECT_NOT_DECIDED ? 0 : c->output[i];
	s->choice = c->choice;
	s->rendition = c->due & 1;
	s->offer = c->offer;
	s->before = c->before;
	s->last[ADP_SELECT_SUB] = c->streams[ADP_SELECT_SUB].last;
	s->last[ADP_SELECT_MAIN] = c->streams[ADP_SELECT_MAIN].last;
	for (i = 0; i < ADP_SELECT_INPUTS; i++)
		s->input[i] = c->input[i];
}

/* Reward of a round, Q16: the accuracy that the server reported less what its bytes cost, at the price it was decided at. */
ADP_INLINE adp_s32 adp_select_reward(const struct adp_select_outcome *o)
{
	adp_u64 rate = (adp_u64)o->bytes * 1000000 / (o->us ? o->us : 1);

	return (adp_s32)adp_clamp((adp_s64)o->accuracy_q16 -
					  adp_select_cost(o->price_q16, (adp_u32)adp_min_u64(rate, ADP_SELECT_RATE_MAX)),
				  -(1 << 30), 1 << 30);
}

#endif
