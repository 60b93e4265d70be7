/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* JSON (RFC 8259), read strictly and within limits, and written. A scan of our own decides what is
 * accepted, only then does cJSON see the text. Any thread may call every function. */
#ifndef KT_JSON_H
#define KT_JSON_H

#include "client/proto/buf.h"
#include "client/proto/value.h"

/* Each is the largest number that is still accepted. */
struct kt_json_limits {
    size_t depth;   /* arrays and objects inside each other; at most KT_JSON_DEPTH_MAX */
    size_t members; /* of one object */
    size_t nodes;   /* values in the whole text, containers included */
    size_t string;  /* bytes of one string or name, after unescaping */
    size_t number;  /* characters of one number; at most KT_JSON_NUMBER_MAX */
};

enum { KT_JSON_DEPTH_MAX = 64, KT_JSON_NUMBER_MAX = 60 };

/* What a request may be: 16, 64, 4096, 4096, 20. */
extern const struct kt_json_limits kt_json_request_limits;

enum kt_json_fault {
    KT_JSON_OK = 0,
    KT_JSON_SYNTAX, /* no JSON; or NUL, a lone surrogate, two members with one name */
    KT_JSON_LIMIT,  /* JSON, but above a limit; or a number too large for a double */
    KT_JSON_MEMORY  /* the arena's cap or the memory is used up */
};

struct kt_json_error {
    enum kt_json_fault fault;
    size_t offset; /* bytes before the one that was refused */
    bool grammar;  /* KT_JSON_SYNTAX: no JSON at all, not JSON that a rule of ours refuses */
    char text[96]; /* a phrase for the caller; never quotes a string of the text */
};

/* Reads one document: white space, one value, white space. Names are compared after unescaping and
 * with ASCII letters folded, so {"a":1,"A":2} is refused. A number without fraction and exponent
 * that fits int64_t is KT_V_INT and exact, every other one is KT_V_NUMBER. Strings and nodes are
 * copied to the arena, each string followed by a NUL byte that is not counted. limits may be NULL
 * for kt_json_request_limits.
 * Returns 0, or the enum kt_json_fault with *ret_error filled and *ret_value untouched. */
int kt_json_read(struct kt_str text, struct kt_arena *, const struct kt_json_limits *limits,
                 struct kt_value *ret_value, struct kt_json_error *ret_error);

/* The writers add one value and nothing around it. Failures are the buffer's (buf.h). */

/* In quotes. Escapes ", \ and control characters only, in the short form where there is one. What
 * is not UTF-8 becomes U+FFFD. An absent string becomes null. */
void kt_json_put_str(struct kt_buf *, struct kt_str);
void kt_json_put_int(struct kt_buf *, int64_t);
void kt_json_put_bool(struct kt_buf *, bool);

/* The shortest text that reads back as the same double; always with a fraction or an exponent, so
 * that it stays a KT_V_NUMBER. What is not finite becomes null. */
void kt_json_put_double(struct kt_buf *, double);

/* RFC 3339 in UTC with milliseconds, in quotes: "2026-01-31T09:30:00.000Z". A time that is not set
 * or outside the years 0000 to 9999 becomes null. */
void kt_json_put_time(struct kt_buf *, struct kt_time);

/* A whole tree without white space. KT_V_BIN becomes base64 (RFC 4648 section 4), KT_V_TIME as
 * above. */
void kt_json_put_value(struct kt_buf *, const struct kt_value *);

#endif
