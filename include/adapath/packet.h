/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * From a frame to its UDP payload: Ethernet (with up to two VLAN tags), IPv4 or IPv6, UDP. Every byte is read through
 * adp_view_at(), which is the one place where bounds are checked, the same in BPF (whose verifier recognises the comparison) and on
 * the host. Nothing that a header claims is believed: a length is held to what is there, and an offset to ADP_VIEW_MAX.
 */
#ifndef ADAPATH_PACKET_H
#define ADAPATH_PACKET_H

#include "types.h"

/* Hides from the compiler where a value came from, for the verifier's sake; see where it is used. */
#ifdef __bpf__
#define ADP_HIDE(v) __asm__ volatile("" : "+r"(v))
#else
#define ADP_HIDE(v) ((void)0)
#endif

/* Bytes that can be read, which may be fewer than the packet has: in the kernel the rest is elsewhere. */
struct adp_view {
	const adp_u8 *data;
	const adp_u8 *end;
};

/* Nothing beyond this offset is looked at: a bound that the verifier sees. Jumbo frames fit. */
#define ADP_VIEW_MAX 0x3fff

/*
 * The `bytes` bytes from an offset on, or a null pointer where not all of them can be read. The pointer is hidden from the compiler,
 * or it would check one register and read by another, of which the verifier knows nothing.
 */
ADP_INLINE const adp_u8 *adp_view_at(const struct adp_view *v, adp_u32 offset, adp_u32 bytes)
{
	const adp_u8 *p;

	if (offset > ADP_VIEW_MAX)
		return (const adp_u8 *)0;
	p = v->data + offset;
	ADP_HIDE(p);
	if (p + bytes > v->end)
		return (const adp_u8 *)0;
	return p;
}

/*
 * Big-endian numbers. BPF reads them whole: the verifier knows how headers are aligned, and bytes put together cost a fifth of all
 * that a packet costs.
 */
ADP_INLINE adp_u32 adp_be16(const adp_u8 *p)
{
#ifdef __bpf__
	return __builtin_bswap16(*(const adp_u16 *)p);
#else
	return (adp_u32)p[0] << 8 | p[1];
#endif
}

ADP_INLINE adp_u32 adp_be32(const adp_u8 *p)
{
#ifdef __bpf__
	return __builtin_bswap32(*(const adp_u32 *)p);
#else
	return (adp_u32)p[0] << 24 | (adp_u32)p[1] << 16 | (adp_u32)p[2] << 8 | p[3];
#endif
}

/* An IPv6 address, or an IPv4 one as ::ffff:a.b.c.d; words as in the packet, in host order. */
struct adp_address {
	adp_u32 word[4];
};

struct adp_udp {
	struct adp_address source;
	struct adp_address destination;
	adp_u16 source_port;	  /* host order */
	adp_u16 destination_port; /* host order */
	adp_u32 offset;		  /* of the payload in the view */
	adp_u32 bytes;		  /* of the payload, as UDP's length says; of a first fragment, all fragments' */
	adp_u32 fragment;	  /* 1: the first of several, so that not all of the payload is in this packet */
};

enum adp_packet {
	ADP_PACKET_OTHER = 0,	  /* no UDP, or a fragment without its header: nobody's business here */
	ADP_PACKET_UDP = 1,
	ADP_PACKET_MALFORMED = 2, /* lengths that contradict each other */
};

#define ADP_ETHERTYPE_IPV4 0x0800
#define ADP_ETHERTYPE_IPV6 0x86dd
#define ADP_ETHERTYPE_VLAN 0x8100
#define ADP_ETHERTYPE_QINQ 0x88a8
#define ADP_IP_UDP 17
/* IPv6's extension headers that may stand before UDP */
#define ADP_IP_HOP_BY_HOP 0
#define ADP_IP_ROUTING 43
#define ADP_IP_FRAGMENT 44
#define ADP_IP_DESTINATION 60
#define ADP_IPV6_HEADERS 4 /* so many are followed */

ADP_INLINE void adp_address_v4(struct adp_address *a, adp_u32 v4)
{
	a->word[0] = 0;
	a->word[1] = 0;
	a->word[2] = 0xffff;
	a->word[3] = v4;
}

ADP_INLINE void adp_address_v6(struct adp_address *a, const adp_u8 *p)
{
	a->word[0] = adp_be32(p);
	a->word[1] = adp_be32(p + 4);
	a->word[2] = adp_be32(p + 8);
	a->word[3] = adp_be32(p + 12);
}

/* The UDP header at an offset; `left`: bytes from there to the end of what IP carries. */
ADP_INLINE enum adp_packet adp_packet_udp(const struct adp_view *v, adp_u32 offset, adp_u32 left, struct adp_udp *u)
{
	const adp_u8 *p = adp_view_at(v, offset, 8);
	adp_u32 length;

	if (!p || left < 8)
		return ADP_PACKET_MALFORMED;
	u->source_port = (adp_u16)adp_be16(p);
	u->destination_port = (adp_u16)adp_be16(p + 2);
	length = adp_be16(p + 4);
	if (length < 8 || (length > left && !u->fragment))
		return ADP_PACKET_MALFORMED;
	u->offset = offset + 8;
	u->bytes = length - 8;
	return ADP_PACKET_UDP;
}

ADP_INLINE enum adp_packet adp_packet_ipv4(const struct adp_view *v, adp_u32 offset, adp_u32 frame_bytes, struct adp_udp *u)
{
	const adp_u8 *p = adp_view_at(v, offset, 20);
	adp_u32 header, total, fragment;

	if (!p)
		return ADP_PACKET_MALFORMED;
	header = (p[0] & 15u) * 4;
	total = adp_be16(p + 2);
	if (p[0] >> 4 != 4 || header < 20 || total < header || total > frame_bytes - offset)
		return ADP_PACKET_MALFORMED;
	if (p[9] != ADP_IP_UDP)
		return ADP_PACKET_OTHER;
	fragment = adp_be16(p + 6);
	if (fragment & 0x1fff)
		return ADP_PACKET_OTHER;
	u->fragment = fragment >> 13 & 1; /* more fragments */
	adp_address_v4(&u->source, adp_be32(p + 12));
	adp_address_v4(&u->destination, adp_be32(p + 16));
	return adp_packet_udp(v, offset + header, total - header, u);
}

ADP_INLINE enum adp_packet adp_packet_ipv6(const struct adp_view *v, adp_u32 offset, adp_u32 frame_bytes, struct adp_udp *u)
{
	const adp_u8 *p = adp_view_at(v, offset, 40);
	adp_u32 next, left, i;

	if (!p)
		return ADP_PACKET_MALFORMED;
	next = p[6];
	left = adp_be16(p + 4); /* 0 of a jumbogram, which no UDP header fits into */
	if (p[0] >> 4 != 6 || left > frame_bytes - offset - 40)
		return ADP_PACKET_MALFORMED;
	u->fragment = 0;
	adp_address_v6(&u->source, p + 8);
	adp_address_v6(&u->destination, p + 24);
	offset += 40;
	for (i = 0; i < ADP_IPV6_HEADERS && next != ADP_IP_UDP; i++) {
		adp_u32 header = 8;

		if (next != ADP_IP_HOP_BY_HOP && next != ADP_IP_ROUTING && next != ADP_IP_FRAGMENT && next != ADP_IP_DESTINATION)
			return ADP_PACKET_OTHER;
		p = adp_view_at(v, offset, 8);
		if (!p)
			return ADP_PACKET_MALFORMED;
		if (next == ADP_IP_FRAGMENT) {
			adp_u32 fragment = adp_be16(p + 2);

			if (fragment >> 3)
				return ADP_PACKET_OTHER;
			u->fragment = fragment & 1;
		} else {
			header += p[1] * 8u;
		}
		if (left < header)
			return ADP_PACKET_MALFORMED;
		next = p[0];
		left -= header;
		offset += header;
	}
	if (next != ADP_IP_UDP)
		return ADP_PACKET_OTHER;
	return adp_packet_udp(v, offset, left, u);
}

/* A frame from its Ethernet header on; `frame_bytes`: of the whole of it, of which the view may hold only the beginning. */
ADP_INLINE enum adp_packet adp_packet_parse(const struct adp_view *v, adp_u32 frame_bytes, struct adp_udp *u)
{
	const adp_u8 *p = adp_view_at(v, 0, 14);
	adp_u32 offset = 14, type, tag;

	if (!p)
		return ADP_PACKET_OTHER;
	type = adp_be16(p + 12);
	for (tag = 0; tag < 2 && (type == ADP_ETHERTYPE_VLAN || type == ADP_ETHERTYPE_QINQ); tag++) {
		p = adp_view_at(v, offset, 4);
		if (!p)
			return ADP_PACKET_MALFORMED;
		type = adp_be16(p + 2);
		offset += 4;
	}
	/* Not for BPF, where the view is within the frame: for whoever says otherwise. */
	if (frame_bytes < offset + 40)
		return type == ADP_ETHERTYPE_IPV4 && frame_bytes >= offset + 20 ? adp_packet_ipv4(v, offset, frame_bytes, u) :
										   ADP_PACKET_OTHER;
	if (type == ADP_ETHERTYPE_IPV4)
		return adp_packet_ipv4(v, offset, frame_bytes, u);
	if (type == ADP_ETHERTYPE_IPV6)
		return adp_packet_ipv6(v, offset, frame_bytes, u);
	return ADP_PACKET_OTHER;
}

/*
 * The same for the plainest of frames, and by far the most: no VLAN tag, IPv4 without options, not a fragment. ADP_PACKET_UDP, or
 * ADP_PACKET_OTHER where adp_packet_parse() has to look.
 */
#define ADP_PLAIN_BYTES (14 + 20 + 8)
ADP_INLINE enum adp_packet adp_packet_plain(const struct adp_view *v, adp_u32 frame_bytes, struct adp_udp *u)
{
	const adp_u8 *p = adp_view_at(v, 0, ADP_PLAIN_BYTES);
	adp_u32 total, length;

	if (!p || adp_be16(p + 12) != ADP_ETHERTYPE_IPV4 || p[14] != 0x45 || p[23] != ADP_IP_UDP)
		return ADP_PACKET_OTHER;
	total = adp_be16(p + 16);
	length = adp_be16(p + 38);
	/* More fragments, or an offset; and the lengths that adp_packet_ipv4() and adp_packet_udp() would refuse. */
	if (adp_be16(p + 20) & 0x3fff || total > frame_bytes - 14 || length < 8 || length + 20 > total)
		return ADP_PACKET_OTHER;
	u->fragment = 0;
	adp_address_v4(&u->source, adp_be32(p + 26));
	adp_address_v4(&u->destination, adp_be32(p + 30));
	u->source_port = (adp_u16)adp_be16(p + 34);
	u->destination_port = (adp_u16)adp_be16(p + 36);
	u->offset = ADP_PLAIN_BYTES;
	u->bytes = length - 8;
	return ADP_PACKET_UDP;
}

#endif
