/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The generic netlink family "adapath_select": where adapath_select.ko finds its cameras, and what it is told of uplink and server.
 * The only definition of its numbers; docs/netlink.md and docs/adapath-select-netlink.yaml describe the same for humans and tools.
 * Snapshots of the app are the family "adapath"'s (netlink.h).
 *
 * The family lives in the initial network namespace, as do the interfaces. Every command needs CAP_NET_ADMIN there: what cameras see
 * is not everybody's business. Errors as in netlink.h.
 */
#ifndef ADAPATH_SELECT_NETLINK_H
#define ADAPATH_SELECT_NETLINK_H

#define ADP_SELECT_GENL_NAME "adapath_select"
#define ADP_SELECT_GENL_VERSION 1

#define ADP_SELECT_INTERFACES 16 /* at most */

enum adp_select_command {
	ADP_SELECT_CMD_UNSPEC,
	/* -> ABI_VERSION, INTERFACES, PRICE, MAIN_LIMIT, USED, SHARING, MAIN_LATE */
	ADP_SELECT_CMD_GET,
	/* (place; as a dump, all of them) -> a camera: PLACE, ID, ADDRESS, SUB_PORT, MAIN_PORT, PAYLOAD_TYPE, STATE, FEEDBACK */
	ADP_SELECT_CMD_GET_CAMERA,
	/* interfaces, cameras -> nothing. All of them, as they are to be from now on: a camera that is as and where it was keeps its
	 * state, an interface that was there stays hooked, and what is refused changes nothing. Both empty: all packets pass. */
	ADP_SELECT_CMD_CONFIGURE,
	/* price, main_limit, used, sharing, and maybe main_late (0 where it is missing) -> nothing */
	ADP_SELECT_CMD_SET_MARKET,
	/* place, and (objects, confidence, accuracy) or (sub_worth, gain) or both -> nothing. The time is that of the command. */
	ADP_SELECT_CMD_SET_FEEDBACK,
	ADP_SELECT_CMD_COUNT_
};
#define ADP_SELECT_CMD_MAX (ADP_SELECT_CMD_COUNT_ - 1)

enum adp_select_attribute {
	ADP_SELECT_A_UNSPEC,
	ADP_SELECT_A_PAD,
	ADP_SELECT_A_ABI_VERSION,  /* u32: ADP_ABI_VERSION that the module was built with */
	ADP_SELECT_A_INTERFACES,   /* nest of ADP_SELECT_A_INTERFACE, at most ADP_SELECT_INTERFACES */
	ADP_SELECT_A_INTERFACE,	   /* u32: ifindex */
	ADP_SELECT_A_CAMERAS,	   /* nest of ADP_SELECT_A_CAMERA, at most ADP_SELECT_CAMERAS; the first one's place is 0 */
	ADP_SELECT_A_CAMERA,	   /* nest: ADDRESS, SUB_PORT, MAIN_PORT, PAYLOAD_TYPE */
	ADP_SELECT_A_ADDRESS,	   /* binary, 16 bytes: that its packets come from, as IPv6 (an IPv4 one as ::ffff:a.b.c.d) */
	ADP_SELECT_A_SUB_PORT,	   /* u16, 1..65535: UDP, destination */
	ADP_SELECT_A_MAIN_PORT,	   /* u16, likewise, another one */
	ADP_SELECT_A_PAYLOAD_TYPE, /* u8, 0..127: RTP's, of H.264 */
	ADP_SELECT_A_PLACE,	   /* u32: of a camera */
	ADP_SELECT_A_ID,	   /* u64: of a camera, unique while the module is loaded, from 1 */
	ADP_SELECT_A_STATE,	   /* binary: struct adp_select_camera (select.h) */
	ADP_SELECT_A_FEEDBACK,	   /* binary: struct adp_select_feedback (select.h) */
	ADP_SELECT_A_PRICE,	   /* u32, Q16: accuracy for 1 MiB/s, at most ADP_SELECT_PRICE_MAX_Q16 */
	ADP_SELECT_A_MAIN_LIMIT,   /* u32: bytes/s, 0 = none */
	ADP_SELECT_A_USED,	   /* u32, Q16: share of the uplink's budget in use, 0..131072 */
	ADP_SELECT_A_SHARING,	   /* u32: cameras that share the uplink; 0 counts as 1 */
	ADP_SELECT_A_OBJECTS,	   /* u32: that the server saw */
	ADP_SELECT_A_CONFIDENCE,   /* u32, Q16: 0..65536 */
	ADP_SELECT_A_ACCURACY,	   /* u32, Q16: 0..65536 */
	ADP_SELECT_A_SUB_WORTH,	   /* u32, Q16: 0..65536 */
	ADP_SELECT_A_GAIN,	   /* s32, Q16: -65536..65536 */
	ADP_SELECT_A_MAIN_LATE,	   /* u32, Q16: share of the main streams' bytes that came too late or not at all, 0..65536 */
	ADP_SELECT_A_COUNT_
};
#define ADP_SELECT_A_MAX (ADP_SELECT_A_COUNT_ - 1)

#endif
