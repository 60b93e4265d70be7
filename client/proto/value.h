/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What a wire said, before anybody trusts it: one tree for JSON and for MessagePack. Nodes and
 * copied strings live in an arena; strings may be views into the message they were read from. */
#ifndef KT_VALUE_H
#define KT_VALUE_H

#include "client/proto/arena.h"
#include "client/proto/str.h"

enum kt_vtype {
    KT_V_NULL = 0,
    KT_V_BOOL,
    KT_V_INT,    /* fits int64_t */
    KT_V_UINT,   /* above INT64_MAX only (MessagePack) */
    KT_V_NUMBER, /* a JSON number that is no int64, or a float; d holds it */
    KT_V_STR,
    KT_V_BIN,    /* MessagePack only */
    KT_V_TIME,   /* MessagePack timestamp extension, as milliseconds */
    KT_V_ARRAY,
    KT_V_MAP     /* keys are unique strings */
};

struct kt_member;

struct kt_value {
    enum kt_vtype type;
    union {
        bool b;
        int64_t i;
        uint64_t u;
        double d;
        struct kt_str s;       /* STR and BIN */
        struct kt_time t;
        struct {
            const struct kt_value *v;
            size_t n;
        } array;
        struct {
            const struct kt_member *v;
            size_t n;
        } map;
    };
};

struct kt_member {
    struct kt_str name;
    struct kt_value value;
};

/* The member of a map, or NULL. Exact spelling. v may be NULL or no map. */
const struct kt_value *kt_value_get(const struct kt_value *v, const char *name);

#endif
