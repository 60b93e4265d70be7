/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Whether our reader and msgpack-c read the same value. */
#ifndef MSGPACK_SAME_H
#define MSGPACK_SAME_H

#include "client/proto/value.h"

#include <msgpack.h>

static inline bool same(const struct kt_value *a, const msgpack_object *b);

static inline bool
same_str(struct kt_str a, const char *p, size_t n)
{
    return kt_str_eq(a, (struct kt_str){ p, n });
}

static inline bool
same_many(const struct kt_value *a, const msgpack_object *b)
{
    if (a->type == KT_V_ARRAY) {
        bool equal = b->type == MSGPACK_OBJECT_ARRAY && b->via.array.size == a->array.n;
        for (size_t i = 0; equal && i < a->array.n; i++)
            equal = same(&a->array.v[i], &b->via.array.ptr[i]);
        return equal;
    }
    bool equal = b->type == MSGPACK_OBJECT_MAP && b->via.map.size == a->map.n;
    for (size_t i = 0; equal && i < a->map.n; i++) {
        const msgpack_object_kv *kv = &b->via.map.ptr[i];
        equal = kv->key.type == MSGPACK_OBJECT_STR &&
                same_str(a->map.v[i].name, kv->key.via.str.ptr, kv->key.via.str.size) &&
                same(&a->map.v[i].value, &kv->val);
    }
    return equal;
}

static inline bool
same_time(struct kt_time t, const msgpack_object *b)
{
    msgpack_timestamp stamp;
    return msgpack_object_to_timestamp(b, &stamp) &&
           t.ms == stamp.tv_sec * 1000 + (int64_t)(stamp.tv_nsec / 1000000);
}

static inline bool
same(const struct kt_value *a, const msgpack_object *b)
{
    switch (a->type) {
    case KT_V_NULL:
        return b->type == MSGPACK_OBJECT_NIL;
    case KT_V_BOOL:
        return b->type == MSGPACK_OBJECT_BOOLEAN && b->via.boolean == a->b;
    case KT_V_INT:
        if (b->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
            return a->i < 0 && b->via.i64 == a->i;
        return b->type == MSGPACK_OBJECT_POSITIVE_INTEGER && b->via.u64 == (uint64_t)a->i;
    case KT_V_UINT:
        return b->type == MSGPACK_OBJECT_POSITIVE_INTEGER && b->via.u64 == a->u;
    case KT_V_NUMBER:
        return (b->type == MSGPACK_OBJECT_FLOAT32 || b->type == MSGPACK_OBJECT_FLOAT64) &&
               memcmp(&a->d, &b->via.f64, sizeof a->d) == 0;
    case KT_V_STR:
        return b->type == MSGPACK_OBJECT_STR && same_str(a->s, b->via.str.ptr, b->via.str.size);
    case KT_V_BIN:
        return b->type == MSGPACK_OBJECT_BIN && same_str(a->s, b->via.bin.ptr, b->via.bin.size);
    case KT_V_TIME:
        return same_time(a->t, b);
    default:
        return same_many(a, b);
    }
}

#endif
