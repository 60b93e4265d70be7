/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The head of an HTTP/1.x request: bytes in, a struct of views out. Strict where RFC 9112 leaves a
 * choice, because two readers that disagree about a message are an attack. Pure functions; any
 * thread may call them. */
#ifndef HTTP_HEAD_H
#define HTTP_HEAD_H

#include "client/proto/arena.h"

enum {
    HTTP_HEAD_MAX = 16 * 1024, /* bytes from the first of the head to its empty line, inclusive */
    HTTP_HEADERS_MAX = 64,
    HTTP_METHOD_MAX = 16,
    HTTP_LENGTH_DIGITS_MAX = 10, /* of a Content-Length */
    HTTP_TARGET_MAX = 2048, /* of one that names no account, which http.c sees to */
    HTTP_TARGET_NAMES_MAX = 4352 /* two slugs fit that were derived from the longest names */
};

enum http_parse {
    HTTP_MORE, /* a good beginning: more bytes are needed */
    HTTP_DONE,
    HTTP_BAD /* refused, whatever may follow: answer head->status and close */
};

struct http_header {
    struct kt_str name, value; /* name as it was spelled, value without white space around it */
};

/* All strings are views into the bytes that were read. A header that was not there is absent, one
 * that was there without a value is the empty string. */
struct http_head {
    struct kt_str method, target;
    struct kt_str path;  /* of the target, before percent-decoding; begins with '/', or is "*" */
    struct kt_str query; /* of the target, after the '?'; absent without one */
    int minor;           /* HTTP/1.<minor>: 0 or 1 */
    size_t nheaders;
    struct http_header headers[HTTP_HEADERS_MAX];
    int64_t content_length; /* bytes, -1 when there is none */
    bool chunked;
    bool keep_alive; /* what version and Connection ask for */
    bool expect_continue;
    struct kt_str host, authorization, content_type, idempotency_key;
    struct kt_str content_encoding; /* the last one that is not identity */
    int status;           /* BAD: 400, 414, 417, 431, 501 or 505 */
    const char *why;      /* BAD: a phrase that lives forever */
};

/* Reads the head that begins at bytes.p (RFC 9112 sections 2 to 6). At most one empty line may
 * come before it. Stateless: call it again with all bytes of the head when more came; at most
 * HTTP_HEAD_MAX of them are looked at.
 * DONE fills *ret_head and sets *ret_len to the bytes the head takes, the empty line included. BAD
 * sets status and why of *ret_head; the rest of it may hold anything. MORE may have overwritten
 * *ret_head. In both the method is there if it was read, else absent. */
enum http_parse http_head_read(struct kt_str bytes, struct http_head *ret_head, size_t *ret_len);

/* The value of the first header of that name (any case), or absent. */
struct kt_str http_head_get(const struct http_head *, const char *name);

/* Decodes one segment of a path, once. Refused: a bad escape, %00, %2F, what is not UTF-8 after
 * decoding, and segments that say "." or "..". A segment without escapes is not copied.
 * Returns 0, or the HTTP status: 400, or 503 when the arena is used up. */
int http_percent_decode(struct kt_arena *, struct kt_str segment, struct kt_str *ret_text);

/* Goes through the pairs of a query (application/x-www-form-urlencoded): start with rest = the
 * query, which may be absent. A pair without '=' has an absent value; empty pairs are passed over;
 * '+' is a space. Refused: a bad escape, %00, what is not UTF-8.
 * Returns 1 with a pair, 0 at the end, -1 when it is refused, -2 when the arena is used up. */
int http_query_next(struct kt_arena *, struct kt_str *rest, struct kt_str *ret_name,
                    struct kt_str *ret_value);

#endif
