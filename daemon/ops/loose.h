/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Values for answers that have no shape (`loose` in the table), built by hand. Everything is
 * borrowed and has to live as long as the request. */
#ifndef LOOSE_H
#define LOOSE_H

#include "daemon/request.h"

static inline struct kt_member
say(const char *name, struct kt_value value)
{
    return (struct kt_member){ kt_str(name), value };
}

/* An absent string is null. */
static inline struct kt_value
text(struct kt_str s)
{
    return s.p ? (struct kt_value){ .type = KT_V_STR, .s = s }
               : (struct kt_value){ .type = KT_V_NULL };
}

static inline struct kt_value
number(int64_t i)
{
    return (struct kt_value){ .type = KT_V_INT, .i = i };
}

static inline struct kt_value
boolean(bool b)
{
    return (struct kt_value){ .type = KT_V_BOOL, .b = b };
}

static inline struct kt_value
map(const struct kt_member *v, size_t n)
{
    return (struct kt_value){ .type = KT_V_MAP, .map = { v, n } };
}

static inline struct kt_value
array(const struct kt_value *v, size_t n)
{
    return (struct kt_value){ .type = KT_V_ARRAY, .array = { v, n } };
}

/* Makes it the answer of the request. 0 or KT_UNAVAILABLE: no memory. */
static inline int
answer_value(struct request *rq, struct kt_value value)
{
    struct kt_value *kept = kt_arena_alloc(rq->call.arena, sizeof *kept);
    if (!kept)
        return fail_memory(&rq->call);
    *kept = value;
    rq->out.value = kept;
    return KT_OK;
}

#endif
