/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* MessagePack, read strictly and within limits, and written in its smallest encodings. Messages
 * carry no length in front: the end of one is found here. Any thread may call every function.
 *
 * To read from a stream: kt_pack_read on the bytes at hand. DONE is a whole message. After MORE,
 * kt_pack_scan with a zeroed state whenever bytes came (it looks at each byte once), and
 * kt_pack_read again as soon as the scan says DONE. After BAD the stream cannot be trusted. */
#ifndef KT_PACK_H
#define KT_PACK_H

#include "client/proto/buf.h"
#include "client/proto/value.h"

enum kt_frame {
    KT_FRAME_MORE, /* a good beginning: more bytes are needed */
    KT_FRAME_DONE, /* a whole message */
    KT_FRAME_BAD   /* refused, whatever may follow */
};

/* Each is the largest number that is still accepted. */
struct kt_pack_limits {
    size_t message;  /* bytes */
    size_t depth;    /* arrays and maps inside each other; at most KT_PACK_DEPTH_MAX */
    size_t elements; /* values in the whole message; a map counts its keys too */
    size_t string;   /* bytes of one str or bin */
};

enum { KT_PACK_DEPTH_MAX = 32 };

/* What a client may send: 64 KiB, 8, 4096, 64 KiB. */
extern const struct kt_pack_limits kt_pack_request_limits;

/* Zeroed before the first scan of a message; the fields are the scanner's own. */
struct kt_pack_scan {
    size_t pos;      /* of the first value not yet passed */
    size_t elements; /* announced so far */
    size_t pending;  /* of those, not yet passed */
    size_t depth;
    struct {
        uint32_t left;
        bool map;
    } level[KT_PACK_DEPTH_MAX];
};

/* Finds the end of the message that begins at bytes.p. Takes no memory and looks at headers only:
 * sizes, counts, depth, types and keys that are no str are refused on the header, before the body
 * came. limits may be NULL for kt_pack_request_limits. Called again with the same bytes and more
 * behind them (they may have moved), it goes on where it stopped.
 * DONE sets *ret_len to the length of the message, BAD sets *ret_why to a phrase that lives
 * forever, MORE sets nothing. */
enum kt_frame kt_pack_scan(struct kt_str bytes, const struct kt_pack_limits *limits,
                           struct kt_pack_scan *state, size_t *ret_len, const char **ret_why);

/* Reads the message that begins at bytes.p in one pass that enforces everything: what the scan
 * does, and that each str is UTF-8 without NUL, that the keys of a map are unique, and that an ext
 * is a timestamp (KT_V_TIME, whole milliseconds, rounded down). Nodes are in the arena; strings
 * are views into bytes. limits may be NULL for kt_pack_request_limits.
 * DONE sets *ret_value and *ret_len, BAD sets *ret_why, MORE sets nothing; what MORE and BAD took
 * from the arena is not given back before its reset. An arena that is too small is BAD. */
enum kt_frame kt_pack_read(struct kt_str bytes, const struct kt_pack_limits *limits,
                           struct kt_arena *, struct kt_value *ret_value, size_t *ret_len,
                           const char **ret_why);

/* pack_put.c. The writers add one value, or the header of one. Failures are the buffer's (buf.h); a
 * length above UINT32_MAX is one of them. */
void kt_pack_put_nil(struct kt_buf *);
void kt_pack_put_bool(struct kt_buf *, bool);
void kt_pack_put_int(struct kt_buf *, int64_t);
void kt_pack_put_uint(struct kt_buf *, uint64_t);
void kt_pack_put_double(struct kt_buf *, double);
void kt_pack_put_str(struct kt_buf *, struct kt_str); /* an absent string becomes nil */
void kt_pack_put_bin(struct kt_buf *, struct kt_str);
void kt_pack_put_time(struct kt_buf *, struct kt_time); /* one that is not set becomes nil */
void kt_pack_put_array(struct kt_buf *, size_t n);      /* n values follow */
void kt_pack_put_map(struct kt_buf *, size_t n);        /* n times key and value follow */
void kt_pack_put_value(struct kt_buf *, const struct kt_value *); /* a whole tree */

#endif
