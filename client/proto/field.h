/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Fields and shapes: what an object looks like on every wire, tied to the C struct that holds it.
 * The type column is computed from the struct member, so a row cannot lie, and a field is secret
 * exactly when its memory is. */
#ifndef KT_FIELD_H
#define KT_FIELD_H

#include "client/proto/secret.h"
#include "client/proto/str.h"
#include "client/proto/value.h"

enum kt_type {
    KT_T_BOOL = 1,
    KT_T_INT,         /* int64_t; KT_NO_INT when absent */
    KT_T_TIME,        /* RFC 3339 date-time on the wire */
    KT_T_STR,
    KT_T_STRLIST,
    KT_T_SECRET,      /* struct kt_secret *: shown once */
    KT_T_SECRET_VIEW, /* a secret that somebody sent us */
    KT_T_SECRET_LIST, /* many of them */
    KT_T_OBJECT,      /* const pointer to another shape's struct; NULL when absent */
    KT_T_LIST,        /* array of another shape's structs */
    KT_T_ANY          /* const struct kt_value *: any JSON value */
};

enum kt_place { KT_BODY = 0, KT_PATH, KT_QUERY }; /* HTTP only; on the socket all are members */

enum kt_fflag {
    KT_REQUIRED = 1 << 0,   /* input: must be there. Output: always there.             */
    KT_READONLY = 1 << 1,   /* accepted on input, type-checked, ignored                */
    KT_NULLABLE = 1 << 2,   /* null is a value of its own (lists)                      */
    KT_OMIT_FALSE = 1 << 3, /* output: a bool that is only said when true              */
    KT_OMIT_EMPTY = 1 << 4, /* output: a string that is only said when not empty       */
    KT_UUID = 1 << 5        /* a string; another text is told when nothing else is     */
};

struct kt_shape;

struct kt_field {
    const char *name; /* the same on both wires; NULL ends the list */
    size_t name_len;  /* of name, so that an answer need not count it; KT_FIELD knows it */
    enum kt_type type;
    enum kt_place place;
    unsigned flags;
    size_t offset;    /* into the struct */
    int64_t min, max; /* length of strings in code points, items of lists, value of integers */
    bool bounded;     /* min and max count */
    bool (*valid)(struct kt_str);
    const char *expected; /* message when valid() says no */
    const struct kt_shape *shape; /* of OBJECT, LIST */
    const char *doc;
    /* For documents: the text of strings and instants, JSON of anything else. NULL: none. */
    const char *pattern; /* ECMA-262, what valid() takes */
    const char *preset;  /* what counts when it is absent */
    const char *example;
};

/* Fields stand in the order of the wire. */
struct kt_shape {
    const char *name; /* "Token": component name in documents */
    size_t size;      /* of the struct */
    const struct kt_field *fields;
};

struct kt_user;
struct kt_account;
struct kt_token;

#define KT_TYPEOF(s, m)                           \
    _Generic(((s *)0)->m,                         \
        bool: KT_T_BOOL,                          \
        int64_t: KT_T_INT,                        \
        struct kt_time: KT_T_TIME,                \
        struct kt_str: KT_T_STR,                  \
        struct kt_strlist: KT_T_STRLIST,          \
        struct kt_secret *: KT_T_SECRET,          \
        struct kt_secret_view: KT_T_SECRET_VIEW,  \
        struct kt_secret_list: KT_T_SECRET_LIST,  \
        struct kt_list: KT_T_LIST,                \
        const struct kt_user *: KT_T_OBJECT,      \
        const struct kt_account *: KT_T_OBJECT,   \
        const struct kt_token *: KT_T_OBJECT,     \
        const struct kt_value *: KT_T_ANY)

#define KT_FIELD(s, m, wire, ...) \
    { .name = (wire), .name_len = sizeof(wire) - 1, .type = KT_TYPEOF(s, m), \
      .offset = offsetof(s, m), __VA_ARGS__ }
#define KT_RANGE(lo, hi) .bounded = true, .min = (lo), .max = (hi)
#define KT_FIELD_END { .name = NULL }
#define KT_SHAPE(type, wire, list) { .name = (wire), .size = sizeof(type), .fields = (list) }

/* Sets every member of the struct at p (shape->size bytes) to absent. */
void kt_shape_clear(const struct kt_shape *shape, void *p);

#endif
