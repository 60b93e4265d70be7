/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What is read as JSON is printed as JSON that reads the same. What our scan accepts, cJSON reads.
 */
#include "config.h"

#include "client/proto/json.h"

#include <stdlib.h>

enum { BYTES_MAX = 64 * 1024 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool holds)
{
    if (!holds)
        abort();
}

static bool same(const struct kt_value *a, const struct kt_value *b);

static bool
same_many(const struct kt_value *a, const struct kt_value *b)
{
    bool equal = a->type == KT_V_ARRAY ? a->array.n == b->array.n : a->map.n == b->map.n;
    for (size_t i = 0; equal && a->type == KT_V_ARRAY && i < a->array.n; i++)
        equal = same(&a->array.v[i], &b->array.v[i]);
    for (size_t i = 0; equal && a->type == KT_V_MAP && i < a->map.n; i++)
        equal = kt_str_eq(a->map.v[i].name, b->map.v[i].name) &&
                same(&a->map.v[i].value, &b->map.v[i].value);
    return equal;
}

static bool
same(const struct kt_value *a, const struct kt_value *b)
{
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case KT_V_NULL:
        return true;
    case KT_V_BOOL:
        return a->b == b->b;
    case KT_V_INT:
        return a->i == b->i;
    case KT_V_NUMBER:
        return memcmp(&a->d, &b->d, sizeof a->d) == 0;
    case KT_V_STR:
        return kt_str_eq(a->s, b->s);
    case KT_V_ARRAY:
    case KT_V_MAP:
        return same_many(a, b);
    default:
        return false;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kt_arena arena;
    struct kt_buf buf;
    struct kt_value value, again;
    struct kt_json_error error;
    kt_arena_init(&arena, BYTES_MAX);
    kt_buf_init(&buf, BYTES_MAX);
    int fault =
        kt_json_read((struct kt_str){ (const char *)data, size }, &arena, NULL, &value, &error);
    if (fault) {
        must(fault == KT_JSON_SYNTAX || fault == KT_JSON_LIMIT);
        must((int)error.fault == fault && error.offset <= size && error.text[0]);
    } else {
        /* A short number may take more characters in its printed form. */
        struct kt_json_limits limits = kt_json_request_limits;
        limits.number = 40;
        kt_json_put_value(&buf, &value);
        must(!buf.failed);
        must(kt_json_read(kt_buf_str(&buf), &arena, &limits, &again, &error) == 0);
        must(same(&value, &again));
    }
    kt_buf_done(&buf);
    kt_arena_done(&arena);
    return 0;
}
