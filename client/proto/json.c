/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/json.h"
#include "client/proto/json_scan.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct kt_json_limits kt_json_request_limits = {
    .depth = 16,
    .members = 64,
    .nodes = 4096,
    .string = 4096,
    .number = 20,
};

/* From cJSON's tree, in which numbers are doubles, and the text, in which they are exact: both are
 * walked in the same order. */
struct copy {
    struct kt_str text;
    const char *p; /* behind the last number taken */
    struct kt_arena *arena;
    struct kt_json_error *error;
};

/* While a text is read, cJSON takes memory from here: quick, and wiped in one go, because a text
 * may have carried a secret. */
static _Thread_local struct kt_arena *pool;

static void *
hook_malloc(size_t n)
{
    return pool ? kt_arena_alloc(pool, n) : malloc(n);
}

static void
hook_free(void *p)
{
    if (!pool)
        free(p);
}

static void
hooks_set(void)
{
    cJSON_InitHooks(&(cJSON_Hooks){ .malloc_fn = hook_malloc, .free_fn = hook_free });
}

static bool
fail(struct copy *copy, enum kt_json_fault fault, const char *where, const char *why)
{
    copy->error->fault = fault;
    copy->error->offset = (size_t)(where - copy->text.p);
    copy->error->grammar = false;
    snprintf(copy->error->text, sizeof copy->error->text, "%s", why);
    return false;
}

static bool
copy_fail(struct copy *copy)
{
    return fail(copy, KT_JSON_MEMORY, copy->p, "the text needs more memory than it may have");
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static struct kt_str
number_text(struct copy *copy)
{
    const char *p = copy->p;
    for (; *p != '-' && !is_digit(*p); p++)
        if (*p == '"')
            for (p++; *p != '"'; p++)
                p += *p == '\\';
    const char *begin = p;
    while (p < copy->text.p + copy->text.n && (is_digit(*p) || strchr("+-.eE", *p)))
        p++;
    copy->p = p;
    return (struct kt_str){ begin, (size_t)(p - begin) };
}

/* false: no integer, or none that fits. */
static bool
integer(struct kt_str text, int64_t *ret_i)
{
    bool negative = text.p[0] == '-';
    int64_t i = 0;
    for (size_t k = negative; k < text.n; k++) {
        int digit = text.p[k] - '0';
        if (!is_digit(text.p[k]) || __builtin_mul_overflow(i, 10, &i) ||
            __builtin_sub_overflow(i, negative ? digit : -digit, &i))
            return false;
    }
    *ret_i = i;
    return true;
}

static bool
number_copy(struct copy *copy, const cJSON *from, struct kt_value *out)
{
    struct kt_str text = number_text(copy);
    if (integer(text, &out->i)) {
        out->type = KT_V_INT;
        return true;
    }
    if (!isfinite(from->valuedouble))
        return fail(copy, KT_JSON_LIMIT, text.p, "a number is too large");
    *out = (struct kt_value){ .type = KT_V_NUMBER, .d = from->valuedouble };
    return true;
}

static bool
string_copy(struct copy *copy, const char *from, struct kt_str *out)
{
    *out = kt_arena_str(copy->arena, kt_str(from));
    return out->p || copy_fail(copy);
}

static size_t
children(const cJSON *from)
{
    size_t n = 0;
    for (const cJSON *child = from->child; child; child = child->next)
        n++;
    return n;
}

static bool value_copy(struct copy *copy, const cJSON *from, struct kt_value *out);

static bool
array_copy(struct copy *copy, const cJSON *from, struct kt_value *out)
{
    size_t n = children(from);
    struct kt_value *v = kt_arena_calloc(copy->arena, n, sizeof *v);
    if (!v)
        return copy_fail(copy);
    out->type = KT_V_ARRAY;
    out->array.v = v;
    out->array.n = n;
    for (const cJSON *child = from->child; child; child = child->next)
        if (!value_copy(copy, child, v++))
            return false;
    return true;
}

static bool
object_copy(struct copy *copy, const cJSON *from, struct kt_value *out)
{
    size_t n = children(from);
    struct kt_member *v = kt_arena_calloc(copy->arena, n, sizeof *v);
    if (!v)
        return copy_fail(copy);
    out->type = KT_V_MAP;
    out->map.v = v;
    out->map.n = n;
    for (const cJSON *child = from->child; child; child = child->next, v++)
        if (!string_copy(copy, child->string, &v->name) || !value_copy(copy, child, &v->value))
            return false;
    return true;
}

static bool
value_copy(struct copy *copy, const cJSON *from, struct kt_value *out)
{
    if (cJSON_IsObject(from))
        return object_copy(copy, from, out);
    if (cJSON_IsArray(from))
        return array_copy(copy, from, out);
    if (cJSON_IsNumber(from))
        return number_copy(copy, from, out);
    if (cJSON_IsString(from)) {
        out->type = KT_V_STR;
        return string_copy(copy, from->valuestring, &out->s);
    }
    *out = (struct kt_value){ .type = cJSON_IsBool(from) ? KT_V_BOOL : KT_V_NULL,
                              .b = cJSON_IsTrue(from) };
    return true;
}

/* Builds the value of a text that the scan has accepted. */
static bool
text_build(struct copy *copy, struct kt_value *out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, hooks_set);
    max_align_t first[4096 / sizeof(max_align_t)];
    struct kt_arena memory;
    kt_arena_init_with(&memory, first, sizeof first, SIZE_MAX / 2);
    pool = &memory;
    cJSON *tree = cJSON_ParseWithLengthOpts(copy->text.p, copy->text.n, NULL, 0);
    pool = NULL;
    bool done = tree ? value_copy(copy, tree, out) : copy_fail(copy);
    kt_arena_wipe(&memory);
    kt_arena_done(&memory);
    return done;
}

int
kt_json_read(struct kt_str text, struct kt_arena *arena, const struct kt_json_limits *limits,
             struct kt_value *ret_value, struct kt_json_error *ret_error)
{
    struct copy copy = { .text = text, .p = text.p, .arena = arena, .error = ret_error };
    struct kt_value value;
    if (!kt_json_scan(text, arena, limits ? limits : &kt_json_request_limits, ret_error) ||
        !text_build(&copy, &value))
        return (int)ret_error->fault;
    *ret_value = value;
    return 0;
}
