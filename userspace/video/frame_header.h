/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The header before every frame on a camera's TCP connection: the only definition. Plain C11, so that a receiver in any
 * language has one page to read.
 *
 * A connection carries one camera: header, payload, header, payload, ... and last a header with ADP_VIDEO_END and no
 * payload. Every number is big endian. The payload is one H.264 access unit in Annex B form (start codes; SPS and PPS
 * before every key frame). Frames are numbered from 0 in the order they are encoded, without a gap: what the sender
 * skips before encoding has no number, so a missing number is a lost frame.
 */
#ifndef ADAPATH_FRAME_HEADER_H
#define ADAPATH_FRAME_HEADER_H

#include <adapath/types.h>

#define ADP_VIDEO_MAGIC 0x41445056u /* "ADPV" */
#define ADP_VIDEO_VERSION 1
/* Larger is a malformed header: no access unit at the largest picture (4096x4096) needs it. */
#define ADP_VIDEO_PAYLOAD_MAX (16u << 20)

/* adp_video_header.flags */
#define ADP_VIDEO_KEY 1u /* IDR picture */
#define ADP_VIDEO_END 2u /* end of the stream: `frame` is the number of frames sent, no payload */
#define ADP_VIDEO_FLAGS (ADP_VIDEO_KEY | ADP_VIDEO_END)

#define ADP_VIDEO_HEADER_BYTES 36

/* On the wire. Bytes only: no alignment, no padding, no byte order of the machine. */
struct adp_video_wire {
    adp_u8 magic[4];
    adp_u8 version;
    adp_u8 flags;
    adp_u8 camera[2];
    adp_u8 frame[8];
    adp_u8 capture_ns[8]; /* CLOCK_MONOTONIC of the sender: a delay is meaningful only on the same machine */
    adp_u8 payload[4];    /* bytes that follow */
    adp_u8 skipped[4];    /* frames skipped before encoding so far; wraps */
    adp_u8 picture[4];    /* which picture of the clip this is, so that a result can be compared with the original */
};

ADP_STATIC_ASSERT(sizeof(struct adp_video_wire) == ADP_VIDEO_HEADER_BYTES, "the layout on the wire");

/* The same in the machine's own numbers. */
struct adp_video_header {
    adp_u64 frame;
    adp_u64 capture_ns;
    adp_u32 payload;
    adp_u32 skipped;
    adp_u32 picture;
    adp_u16 camera;
    adp_u8 flags;
    adp_u8 pad;
};

enum adp_video_error {
    ADP_VIDEO_OK = 0,
    ADP_VIDEO_BAD_MAGIC,
    ADP_VIDEO_BAD_VERSION,
    ADP_VIDEO_BAD_FLAGS,
    ADP_VIDEO_BAD_PAYLOAD, /* too long, empty without END, or present with END */
};

ADP_INLINE void adp_video_put(adp_u8* to, adp_u64 value, int bytes) {
    int i;

    for (i = bytes - 1; i >= 0; i--) {
        to[i] = (adp_u8)value;
        value >>= 8;
    }
}

ADP_INLINE adp_u64 adp_video_get(const adp_u8* from, int bytes) {
    adp_u64 value = 0;
    int i;

    for (i = 0; i < bytes; i++) value = value << 8 | from[i];
    return value;
}

ADP_INLINE void adp_video_write(struct adp_video_wire* w, const struct adp_video_header* h) {
    adp_video_put(w->magic, ADP_VIDEO_MAGIC, 4);
    w->version = ADP_VIDEO_VERSION;
    w->flags = h->flags;
    adp_video_put(w->camera, h->camera, 2);
    adp_video_put(w->frame, h->frame, 8);
    adp_video_put(w->capture_ns, h->capture_ns, 8);
    adp_video_put(w->payload, h->payload, 4);
    adp_video_put(w->skipped, h->skipped, 4);
    adp_video_put(w->picture, h->picture, 4);
}

ADP_INLINE enum adp_video_error adp_video_read(struct adp_video_header* h, const struct adp_video_wire* w) {
    if (adp_video_get(w->magic, 4) != ADP_VIDEO_MAGIC) return ADP_VIDEO_BAD_MAGIC;
    if (w->version != ADP_VIDEO_VERSION) return ADP_VIDEO_BAD_VERSION;
    if (w->flags & ~ADP_VIDEO_FLAGS) return ADP_VIDEO_BAD_FLAGS;
    h->flags = w->flags;
    h->camera = (adp_u16)adp_video_get(w->camera, 2);
    h->frame = adp_video_get(w->frame, 8);
    h->capture_ns = adp_video_get(w->capture_ns, 8);
    h->payload = (adp_u32)adp_video_get(w->payload, 4);
    h->skipped = (adp_u32)adp_video_get(w->skipped, 4);
    h->picture = (adp_u32)adp_video_get(w->picture, 4);
    h->pad = 0;
    if (h->payload > ADP_VIDEO_PAYLOAD_MAX || !h->payload != !!(h->flags & ADP_VIDEO_END)) return ADP_VIDEO_BAD_PAYLOAD;
    return ADP_VIDEO_OK;
}

#endif
