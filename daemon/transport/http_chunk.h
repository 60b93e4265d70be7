/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Decoder of a chunked request body (RFC 9112 section 7.1): takes bytes as they come, gives views
 * of the data. One decoder is used by one thread at a time. */
#ifndef HTTP_CHUNK_H
#define HTTP_CHUNK_H

#include "client/proto/str.h"

enum {
    HTTP_CHUNK_DIGITS_MAX = 8,        /* of a chunk size */
    HTTP_CHUNK_EXTENSION_MAX = 1024,  /* bytes of all extensions of a body together */
    HTTP_CHUNK_TRAILER_MAX = 4 * 1024 /* bytes of all trailers together, without line ends */
};

enum http_chunk_event {
    HTTP_CHUNK_MORE, /* all bytes are used up: call again with the ones that follow */
    HTTP_CHUNK_DATA, /* some data; call again with the bytes behind the consumed ones */
    HTTP_CHUNK_END,  /* the body and its trailers are over; what was not consumed is not theirs */
    HTTP_CHUNK_BAD   /* refused: answer status and close */
};

struct http_chunk {
    int state;
    uint32_t left;    /* bytes of the chunk that are still to come */
    unsigned digits;  /* of the size line so far */
    size_t extension; /* bytes so far */
    size_t trailer;   /* bytes so far */
    uint64_t total;   /* bytes of all chunks announced so far */
    uint64_t max;
    int status;      /* BAD: 400, or 413 when the body is longer than max */
    const char *why; /* BAD: a phrase that lives forever */
};

/* max: bytes of decoded body that are accepted. There is nothing to free. */
void http_chunk_init(struct http_chunk *, uint64_t max);

/* Takes bytes up to the next event. *ret_consumed is always set, *ret_data (a view into bytes,
 * never empty) on DATA only. A size above max is refused on its size line, before its data. After
 * END and BAD the decoder consumes nothing and says the same again. */
enum http_chunk_event http_chunk_next(struct http_chunk *, struct kt_str bytes,
                                      size_t *ret_consumed, struct kt_str *ret_data);

#endif
