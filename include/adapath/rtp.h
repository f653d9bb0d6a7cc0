/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * RTP (RFC 3550) and the little of H.264 over RTP (RFC 6184) that tells where a group of pictures begins, without a decoder: single
 * NAL units, STAP-A and FU-A, which are all that packetization modes 0 and 1 have and all that cameras send. Bounds as in packet.h.
 *
 * Each fragment of a picture names its NAL unit's type (FU-A repeats it), so the loss of an IDR picture's first packets does not hide
 * that it is one.
 */
#ifndef ADAPATH_RTP_H
#define ADAPATH_RTP_H

#include "packet.h"

struct adp_rtp {
	adp_u32 timestamp; /* of the picture that the payload belongs to, 1/90000 s for video; wraps, starts anywhere */
	adp_u32 ssrc;	   /* the sender, chosen at random by itself */
	adp_u16 sequence;  /* wraps, starts anywhere */
	adp_u8 payload_type;
	adp_u8 marker;	/* 1: the picture's last packet */
	adp_u32 offset; /* of the payload in the view */
	adp_u32 bytes;	/* of the payload, without padding where that could be read; 0 is legal */
};

enum adp_rtp_found {
	ADP_RTP_NONE = 0,      /* not RTP version 2 */
	ADP_RTP_PACKET = 1,
	ADP_RTP_MALFORMED = 2, /* its header claims more than there is; sequence, ssrc and payload_type are valid where 12 bytes were */
};

#define ADP_RTP_HEADER 12
/* Words of a header extension that are believed; RFC 8285's one-byte form has at most 255 bytes of elements. */
#define ADP_RTP_EXTENSION_MAX 255

/* The UDP payload of `bytes` bytes at an offset of the view. */
ADP_INLINE enum adp_rtp_found adp_rtp_parse(const struct adp_view *v, adp_u32 offset, adp_u32 bytes, struct adp_rtp *r)
{
	const adp_u8 *p = adp_view_at(v, offset, ADP_RTP_HEADER);
	adp_u32 header, first;

	if (!p || bytes < ADP_RTP_HEADER)
		return ADP_RTP_NONE;
	first = p[0];
	if (first >> 6 != 2)
		return ADP_RTP_NONE;
	r->marker = p[1] >> 7;
	r->payload_type = p[1] & 127;
	r->sequence = (adp_u16)adp_be16(p + 2);
	r->timestamp = adp_be32(p + 4);
	r->ssrc = adp_be32(p + 8);
	header = ADP_RTP_HEADER + (first & 15) * 4;
	if (first & 16) {
		adp_u32 words;

		p = adp_view_at(v, offset + header, 4);
		if (!p || bytes < header + 4)
			return ADP_RTP_MALFORMED;
		words = adp_be16(p + 2);
		if (words > ADP_RTP_EXTENSION_MAX)
			return ADP_RTP_MALFORMED;
		header += 4 + words * 4;
	}
	if (bytes < header)
		return ADP_RTP_MALFORMED;
	r->offset = offset + header;
	r->bytes = bytes - header;
	if (first & 32) {
		/* The last byte says how many there are, itself included. Where it can't be read they count as payload. */
		p = adp_view_at(v, offset + bytes - 1, 1);
		if (p && (p[0] == 0 || p[0] > r->bytes))
			return ADP_RTP_MALFORMED;
		if (p)
			r->bytes -= p[0];
	}
	return ADP_RTP_PACKET;
}

/* What of H.264 is in a packet: a sum of these. */
#define ADP_H264_SPS 1u	   /* a sequence parameter set: encoders repeat it where a decoder can begin */
#define ADP_H264_IDR 2u	   /* (part of) a slice of an IDR picture */
#define ADP_H264_SLICE 4u  /* (part of) a slice of any picture */
#define ADP_H264_FIRST 8u  /* the first slice of a picture begins here */
#define ADP_H264_MALFORMED 16u
/* A group of pictures begins with the first packet that has one of these at a new timestamp. */
#define ADP_H264_BEGINS (ADP_H264_SPS | ADP_H264_IDR)

#define ADP_H264_STAP_A 24
#define ADP_H264_FU_A 28
/* NAL units of a STAP-A that are looked at: parameter sets come first. */
#define ADP_H264_UNITS 8

/*
 * By the type of a NAL unit (1-5: slices, 5: of IDR pictures, 7: SPS). Without a branch, so that the verifier does not follow the
 * combinations of eight units. `next`: the byte behind the NAL unit's header; a slice header begins with the number of its first
 * macroblock, and 0 is coded as a single 1 bit.
 */
ADP_INLINE adp_u32 adp_h264_unit(adp_u32 type, adp_u32 next)
{
	adp_u32 sps = 1u << 7, idr = 1u << 5, slice = 0x3e;

	/* Or the compiler makes comparisons of it. */
	ADP_HIDE(sps);
	ADP_HIDE(idr);
	ADP_HIDE(slice);
	sps = sps >> (type & 31) & 1;
	idr = idr >> (type & 31) & 1;
	slice = slice >> (type & 31) & 1;
	return sps * ADP_H264_SPS | idr * ADP_H264_IDR | slice * ADP_H264_SLICE | (slice & next >> 7) * ADP_H264_FIRST;
}

/* 0 where there is nothing to see: other NAL units, interleaved packets (mode 2), no payload at all. */
ADP_INLINE adp_u32 adp_h264_look(const struct adp_view *v, adp_u32 offset, adp_u32 bytes)
{
	const adp_u8 *p;
	adp_u32 type, i, found = 0;

	if (bytes == 0)
		return 0;
	p = adp_view_at(v, offset, 1);
	if (!p || p[0] & 0x80) /* the forbidden bit: damaged on its way here */
		return ADP_H264_MALFORMED;
	type = p[0] & 31;
	if (type == ADP_H264_FU_A) {
		adp_u32 header;

		p = adp_view_at(v, offset, 2);
		if (!p || bytes < 2)
			return ADP_H264_MALFORMED;
		header = p[1];
		if ((header & 0xc0) == 0xc0 || (header & 31) == 0 || (header & 31) >= ADP_H264_STAP_A) /* start and end at once */
			return ADP_H264_MALFORMED;
		p = adp_view_at(v, offset, 3);
		return adp_h264_unit(header & 31, p && bytes > 2 && header & 0x80 ? p[2] : 0);
	}
	if (type != ADP_H264_STAP_A) {
		p = adp_view_at(v, offset, 2);
		return adp_h264_unit(type, p && bytes > 1 ? p[1] : 0);
	}
	offset++;
	bytes--;
	for (i = 0; i < ADP_H264_UNITS && bytes > 0; i++) {
		adp_u32 size;

		p = adp_view_at(v, offset, 3);
		if (bytes < 3)
			return ADP_H264_MALFORMED;
		if (!p)
			break; /* beyond what can be read */
		size = adp_be16(p);
		type = p[2] & 31;
		if (size == 0 || size > bytes - 2 || p[2] & 0x80 || type == 0 || type >= ADP_H264_STAP_A)
			return ADP_H264_MALFORMED;
		p = adp_view_at(v, offset, 4);
		found |= adp_h264_unit(type, p && size > 1 ? p[3] : 0);
		offset += 2 + size;
		bytes -= 2 + size;
	}
	return found;
}

#endif
