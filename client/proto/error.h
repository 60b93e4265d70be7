/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The one error type: a closed set of kinds that decides status and wire number, and an open set
 * of codes that belongs to the operations. */
#ifndef KT_ERROR_H
#define KT_ERROR_H

#include "client/proto/arena.h"
#include "client/proto/str.h"
#include "client/proto/value.h"

enum kt_kind {
    KT_OK = 0,
    KT_VALIDATION,    /* 400 */
    KT_UNAUTHORIZED,
    KT_FORBIDDEN,
    KT_NOT_FOUND,
    KT_METHOD,        /* 405 */
    KT_TIMEOUT,       /* 408 */
    KT_CONFLICT,
    KT_TOO_LARGE,     /* 413 */
    KT_URI_TOO_LONG,  /* 414 */
    KT_MEDIA_TYPE,    /* 415 */
    KT_EXPECTATION,   /* 417 */
    KT_UNPROCESSABLE,
    KT_TOO_MANY_REQUESTS,
    KT_HEADERS,       /* 431 */
    KT_INTERNAL,
    KT_NOT_IMPLEMENTED,
    KT_UNAVAILABLE,
    KT_VERSION,       /* 505 */
    KT_KIND_COUNT
};

enum { KT_FIELD_ERRORS_MAX = 16 }; /* more violations are counted, not listed */

/* One violation. Each part is left out when it is absent (p == NULL, value == NULL). */
struct kt_field_error {
    struct kt_str message, location;
    const struct kt_value *value;
};

/* Strings live in the arena of the request, or for ever. */
struct kt_error {
    enum kt_kind kind;
    const char *code;     /* "Token.NotFound"; NULL: the kind's own */
    struct kt_str detail; /* for the caller */
    char id[37];          /* set when a cause was withheld; else "" */
    int64_t retry_after_s; /* when to ask again; 0: the kind says enough */
    struct kt_field_error *fields;
    size_t nfields;       /* may exceed KT_FIELD_ERRORS_MAX: only that many are kept */
};

struct kt_kind_info {
    const char *code;  /* spoken when the operation gives no code of its own */
    int http;
    const char *title; /* reason phrase */
    const char *type;  /* URI, RFC 9457 section 3.1.1 */
    int pair;          /* of a MessagePack-RPC error: 1 for the caller's arguments, else 0 */
    bool retry;        /* the same request may succeed later */
};

/* Never NULL: an unlisted kind reads as KT_INTERNAL. */
const struct kt_kind_info *kt_kind_info(enum kt_kind);

/* The code that goes on the wire. */
const char *kt_error_code(const struct kt_error *);

/* Appends one violation; counts it when the list is full. False: no memory. */
bool kt_error_field(struct kt_error *, struct kt_arena *, struct kt_str location,
                    struct kt_str message, const struct kt_value *value);

#endif
