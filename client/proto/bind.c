/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/bind.h"

#include "client/proto/check.h"
#include "client/proto/ops.h"

#include <inttypes.h>
#include <stdlib.h>

enum { FIELDS_MAX = 32 }; /* of one shape; a unit test walks the table */

/* Where a value stands, for messages: "body", "body.scopes[1]". Lives on the stack of the walk. */
struct place {
    const struct place *up;
    struct kt_str name; /* p NULL: an index */
    size_t index;
};

/* err is NULL in the first pass, which stops at the first violation: nearly every request has none,
 * and only one that has pays for order and messages. */
struct binder {
    struct kt_arena *arena;
    struct kt_error *err;
    bool ok;
    const struct kt_value *odd; /* the first text where a UUID belongs that is none; NULL: none */
};

static const struct place at_body = { NULL, KT_LIT("body"), 0 };

static bool bind_value(struct binder *, const struct kt_field *, const struct kt_value *,
                       const struct place *, void *out);

static struct kt_str
place_print(struct kt_arena *arena, const struct place *at)
{
    if (!at->up)
        return at->name;
    struct kt_str up = place_print(arena, at->up);
    if (!at->name.p)
        return kt_arena_printf(arena, "%.*s[%zu]", KT_FMT(up), at->index);
    return kt_arena_printf(arena, "%.*s.%.*s", KT_FMT(up), KT_FMT(at->name));
}

/* Records a violation; value NULL: nothing is echoed. Always false. */
static bool
refuse(struct binder *b, const struct place *at, struct kt_str message,
       const struct kt_value *value)
{
    b->ok = false;
    if (b->err)
        kt_error_field(b->err, b->arena, place_print(b->arena, at), message, value);
    return false;
}

static bool
refuse_text(struct binder *b, const struct place *at, const char *message,
            const struct kt_value *value)
{
    return refuse(b, at, kt_str(message), value);
}

static bool
refuse_bound(struct binder *b, const struct place *at, const char *what, const char *sign,
             int64_t bound, const struct kt_value *value)
{
    if (!b->err)
        return b->ok = false;
    return refuse(b, at, kt_arena_printf(b->arena, "expected %s %s %" PRId64, what, sign, bound),
                  value);
}

static bool
check_bounds(struct binder *b, const struct kt_field *f, int64_t n, const char *what,
             const struct place *at, const struct kt_value *value)
{
    if (f->bounded && n < f->min)
        return refuse_bound(b, at, what, ">=", f->min, value);
    if (f->bounded && n > f->max)
        return refuse_bound(b, at, what, "<=", f->max, value);
    return true;
}

static void
clear_field(const struct kt_field *f, void *out)
{
    char *p = (char *)out + f->offset;
    switch (f->type) {
    case KT_T_BOOL: *(bool *)p = false; break;
    case KT_T_INT: *(int64_t *)p = KT_NO_INT; break;
    case KT_T_TIME: *(struct kt_time *)p = KT_NO_TIME; break;
    case KT_T_STR: *(struct kt_str *)p = (struct kt_str){ NULL, 0 }; break;
    case KT_T_STRLIST: *(struct kt_strlist *)p = (struct kt_strlist){ NULL, 0, KT_ABSENT }; break;
    case KT_T_SECRET: *(struct kt_secret **)p = NULL; break;
    case KT_T_SECRET_VIEW: *(struct kt_secret_view *)p = (struct kt_secret_view){ NULL, 0 }; break;
    case KT_T_SECRET_LIST:
        *(struct kt_secret_list *)p = (struct kt_secret_list){ NULL, 0, KT_ABSENT };
        break;
    case KT_T_OBJECT: *(const void **)p = NULL; break;
    case KT_T_LIST: *(struct kt_list *)p = (struct kt_list){ NULL, 0, KT_ABSENT }; break;
    case KT_T_ANY: *(const struct kt_value **)p = NULL; break;
    }
}

void
kt_shape_clear(const struct kt_shape *shape, void *p)
{
    memset(p, 0, shape->size);
    for (const struct kt_field *f = shape->fields; f->name; f++)
        if (!(f->flags & KT_READONLY) || f->offset != 0)
            clear_field(f, p);
}

/* --- single values ------------------------------------------------------------------------ */

static bool
bind_str(struct binder *b, const struct kt_field *f, const struct kt_value *v,
         const struct place *at, struct kt_str *out)
{
    if (v->type != KT_V_STR)
        return refuse_text(b, at, "expected string", v);
    /* Both violations are reported: too short a slug breaks the pattern as well. */
    bool ok = !f->bounded || check_bounds(b, f, (int64_t)kt_code_points(v->s), "length", at, v);
    if (f->valid && !f->valid(v->s))
        ok = refuse_text(b, at, f->expected, v);
    if ((f->flags & KT_UUID) && !b->odd && !kt_is_uuid(v->s))
        b->odd = v;
    if (ok && out)
        *out = v->s;
    return ok;
}

static bool
bind_secret(struct binder *b, const struct kt_value *v, const struct place *at,
            struct kt_secret_view *out)
{
    if (v->type != KT_V_STR)
        return refuse_text(b, at, "expected string", NULL);
    if (out)
        *out = (struct kt_secret_view){ v->s.p, v->s.n };
    return true;
}

static bool
bind_time(struct binder *b, const struct kt_value *v, const struct place *at, struct kt_time *out)
{
    struct kt_time t;
    if (v->type != KT_V_TIME && v->type != KT_V_STR)
        return refuse_text(b, at, "expected string", v);
    if (v->type == KT_V_TIME)
        t = v->t;
    bool good = v->type == KT_V_TIME ? t.ms >= KT_TIME_FIRST && t.ms <= KT_TIME_LAST
                                     : kt_time_parse(v->s, &t);
    if (!good)
        return refuse_text(b, at, "expected string to be RFC 3339 date-time", v);
    if (out)
        *out = t;
    return true;
}

/* A number without a fraction is an integer, however it is written (JSON Schema, section 6.1.1). */
static bool
is_integer(const struct kt_value *v, int64_t *ret)
{
    enum { EXACT_BITS = 53 }; /* of a double: beyond them it may have been another number */
    double limit = (double)(INT64_C(1) << EXACT_BITS);
    if (v->type == KT_V_INT) {
        *ret = v->i;
        return true;
    }
    /* NaN fails both comparisons. */
    bool fits = v->type == KT_V_NUMBER && v->d >= -limit && v->d <= limit;
    if (!fits || v->d != (double)(int64_t)v->d)
        return false;
    *ret = (int64_t)v->d;
    return true;
}

static bool
bind_int(struct binder *b, const struct kt_field *f, const struct kt_value *v,
         const struct place *at, int64_t *out)
{
    int64_t i;
    if (!is_integer(v, &i))
        return refuse_text(b, at, "expected integer", v);
    if (!check_bounds(b, f, i, "number", at, v))
        return false;
    if (out)
        *out = i;
    return true;
}

static bool
bind_bool(struct binder *b, const struct kt_value *v, const struct place *at, bool *out)
{
    if (v->type != KT_V_BOOL)
        return refuse_text(b, at, "expected boolean", v);
    if (out)
        *out = v->b;
    return true;
}

/* --- lists and objects -------------------------------------------------------------------- */

/* Both kinds of lists have the same layout; the kind only decides what may be echoed. */
_Static_assert(sizeof(struct kt_str) == sizeof(struct kt_secret_view), "one layout");
_Static_assert(sizeof(struct kt_strlist) == sizeof(struct kt_secret_list), "one layout");

static bool
bind_strings(struct binder *b, const struct kt_field *f, const struct kt_value *v,
             const struct place *at, void *out)
{
    bool secret = f->type == KT_T_SECRET_LIST;
    if (v->type != KT_V_ARRAY)
        return refuse_text(b, at, "expected array", secret ? NULL : v);
    if (!check_bounds(b, f, (int64_t)v->array.n, "array length", at, NULL))
        return false;
    struct kt_str *list = kt_arena_calloc(b->arena, v->array.n, sizeof *list);
    if (!list)
        return refuse_text(b, at, "too much data", NULL);
    bool ok = true;
    for (size_t i = 0; i < v->array.n; i++) {
        const struct kt_value *item = &v->array.v[i];
        struct place here = { at, { NULL, 0 }, i };
        if (item->type == KT_V_STR)
            list[i] = item->s;
        else
            ok = refuse_text(b, &here, "expected string", secret ? NULL : item);
    }
    if (ok && out)
        *(struct kt_strlist *)out = (struct kt_strlist){ list, v->array.n, KT_SET };
    return ok;
}

static int
by_name(const void *a, const void *b)
{
    return strcmp((*(const struct kt_field *const *)a)->name,
                  (*(const struct kt_field *const *)b)->name);
}

/* The fields of a shape, in the table's order or, when violations are being reported, by name. */
static size_t
field_order(const struct binder *b, const struct kt_shape *shape,
            const struct kt_field *order[FIELDS_MAX])
{
    size_t n = 0;
    for (const struct kt_field *f = shape->fields; f->name && n < FIELDS_MAX; f++)
        order[n++] = f;
    if (b->err)
        qsort(order, n, sizeof *order, by_name);
    return n;
}

static const struct kt_value *
find_member(const struct kt_value *map, const char *name)
{
    return map && map->type == KT_V_MAP ? kt_value_get(map, name) : NULL;
}

/* The object itself is quoted in messages about what it lacks, unless it may hold a secret. */
static const struct kt_value *
echo_object(const struct kt_shape *shape, const struct kt_value *map)
{
    for (const struct kt_field *f = shape->fields; f->name; f++) {
        if (f->type != KT_T_SECRET && f->type != KT_T_SECRET_VIEW && f->type != KT_T_SECRET_LIST)
            continue;
        const struct kt_value *v = find_member(map, f->name);
        if (v && v->type != KT_V_NULL)
            return NULL;
    }
    return map;
}

static bool
bind_member(struct binder *b, const struct kt_shape *shape, const struct kt_field *f,
            const struct kt_value *map, const struct place *at, void *out)
{
    const struct kt_value *v = find_member(map, f->name);
    bool required = (f->flags & KT_REQUIRED) && !(f->flags & KT_READONLY);
    if (!v && required) {
        if (!b->err)
            return b->ok = false;
        return refuse(b, at,
                      kt_arena_printf(b->arena, "expected required property %s to be present",
                                      f->name),
                      echo_object(shape, map));
    }
    if (!v)
        return true;
    void *member = out && !(f->flags & KT_READONLY) ? (char *)out + f->offset : NULL;
    if (v->type == KT_V_NULL && (f->flags & KT_NULLABLE)) {
        if (member)
            ((struct kt_strlist *)member)->has = KT_NULL;
        return true;
    }
    if (v->type == KT_V_NULL && !required)
        return true;
    struct place here = { at, kt_str(f->name), 0 };
    return bind_value(b, f, v, &here, member);
}

static bool
is_body_field(const struct kt_field *f, bool flat)
{
    return flat || f->place == KT_BODY;
}

static bool
shape_has(const struct kt_shape *shape, struct kt_str name, bool flat)
{
    for (const struct kt_field *f = shape->fields; f->name; f++)
        if (is_body_field(f, flat) && kt_str_is(name, f->name))
            return true;
    return false;
}

static bool
refuse_unexpected(struct binder *b, const struct kt_shape *shape, const struct kt_value *map,
                  const struct place *at, bool flat)
{
    for (size_t i = 0; i < map->map.n; i++) {
        struct kt_str name = map->map.v[i].name;
        if (shape_has(shape, name, flat))
            continue;
        struct place here = { at, name, 0 };
        refuse_text(b, &here, "unexpected property", echo_object(shape, map));
        if (!b->err)
            return false;
    }
    return b->ok;
}

/* Binds the members of the body. In flat mode the fields of path and query have been bound before;
 * here they only count as known. */
static bool
bind_members(struct binder *b, const struct kt_shape *shape, const struct kt_value *map,
             const struct place *at, bool flat, void *out)
{
    const struct kt_field *order[FIELDS_MAX];
    size_t n = field_order(b, shape, order);
    for (size_t i = 0; i < n; i++)
        if (order[i]->place == KT_BODY && !bind_member(b, shape, order[i], map, at, out) && !b->err)
            return false;
    return map ? refuse_unexpected(b, shape, map, at, flat) : b->ok;
}

static bool
bind_object(struct binder *b, const struct kt_shape *shape, const struct kt_value *v,
            const struct place *at)
{
    if (v->type != KT_V_MAP)
        return refuse_text(b, at, "expected object", v);
    return bind_members(b, shape, v, at, false, NULL);
}

/* Only read-only members hold objects on the way in, so they are checked and not kept. */
static bool
check_list(struct binder *b, const struct kt_field *f, const struct kt_value *v,
           const struct place *at)
{
    if (v->type != KT_V_ARRAY)
        return refuse_text(b, at, "expected array", v);
    bool ok = true;
    for (size_t i = 0; i < v->array.n; i++) {
        struct place here = { at, { NULL, 0 }, i };
        if (!bind_object(b, f->shape, &v->array.v[i], &here)) {
            ok = false;
            if (!b->err)
                break;
        }
    }
    return ok;
}

static bool
bind_value(struct binder *b, const struct kt_field *f, const struct kt_value *v,
           const struct place *at, void *out)
{
    switch (f->type) {
    case KT_T_BOOL: return bind_bool(b, v, at, out);
    case KT_T_INT: return bind_int(b, f, v, at, out);
    case KT_T_TIME: return bind_time(b, v, at, out);
    case KT_T_STR: return bind_str(b, f, v, at, out);
    case KT_T_STRLIST:
    case KT_T_SECRET_LIST: return bind_strings(b, f, v, at, out);
    case KT_T_SECRET:
    case KT_T_SECRET_VIEW: return bind_secret(b, v, at, out);
    case KT_T_OBJECT: return bind_object(b, f->shape, v, at);
    case KT_T_LIST: return check_list(b, f, v, at);
    case KT_T_ANY:
        if (out)
            *(const struct kt_value **)out = v;
        return true;
    }
    return false;
}

/* --- path and query ----------------------------------------------------------------------- */

static const struct kt_param *
find_param(const struct kt_param *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (kt_str_is(list[i].name, name))
            return &list[i];
    return NULL;
}

/* As the reference, whose clients may send it so, also with a plus and with zeros in front. */
static bool
param_int(struct kt_str text, int64_t *ret)
{
    if (kt_int_parse(text, ret))
        return true;
    bool minus = text.p[0] == '-';
    size_t skip = minus || text.p[0] == '+';
    while (skip + 1 < text.n && text.p[skip] == '0')
        skip++;
    struct kt_str digits = { text.p + skip, text.n - skip };
    if (digits.n == 0 || *digits.p == '-' || !kt_int_parse(digits, ret))
        return false;
    *ret = minus ? -*ret : *ret;
    return true;
}

/* A parameter is text; a number among them is read here. */
static bool
bind_param_text(struct binder *b, const struct kt_field *f, struct kt_str text,
                const struct place *at, void *out)
{
    struct kt_value v = { .type = KT_V_STR, .s = text };
    struct kt_value *keep = b->err ? kt_arena_alloc(b->arena, sizeof *keep) : &v;
    if (!keep)
        return refuse_text(b, at, "too much data", NULL);
    *keep = v;
    if (f->type != KT_T_INT)
        return bind_value(b, f, keep, at, out);
    if (text.n == 0)
        return true;
    int64_t i;
    if (!param_int(text, &i))
        return refuse_text(b, at, "invalid integer", keep);
    *keep = (struct kt_value){ .type = KT_V_INT, .i = i };
    return bind_value(b, f, keep, at, out);
}

static bool
bind_param(struct binder *b, const struct kt_shape *shape, const struct kt_field *f,
           const struct kt_params *params, void *out)
{
    static const struct place path = { NULL, KT_LIT("path"), 0 };
    static const struct place query = { NULL, KT_LIT("query"), 0 };
    const struct place *up = f->place == KT_PATH ? &path : &query;
    if (params->flat)
        return bind_member(b, shape, f, params->body, up, out);
    const struct kt_param *found = f->place == KT_PATH
                                       ? find_param(params->path, params->npath, f->name)
                                       : find_param(params->query, params->nquery, f->name);
    struct place here = { up, kt_str(f->name), 0 };
    if (found)
        return bind_param_text(b, f, found->value, &here, (char *)out + f->offset);
    if (f->flags & KT_REQUIRED)
        return refuse_text(b, &here, "required parameter is missing", NULL);
    return true;
}

static void
bind_pass(struct binder *b, const struct kt_shape *shape, const struct kt_params *params, void *out)
{
    for (const struct kt_field *f = shape->fields; f->name; f++)
        if (f->place != KT_BODY && !bind_param(b, shape, f, params, out) && !b->err)
            return;
    if (params->body && params->body->type != KT_V_MAP)
        refuse_text(b, &at_body, "expected object", params->body);
    else
        bind_members(b, shape, params->body, &at_body, params->flat, out);
}

/* A string that is no UUID where one is expected. In the reference that fails when the value is
 * read, after all checks, so it is reported alone and for the body as a whole. */
static void
refuse_odd(struct binder *b, struct kt_str odd, struct kt_str text)
{
    struct kt_value *value = text.p ? KT_ARENA_NEW(b->arena, struct kt_value) : NULL;
    if (value)
        *value = (struct kt_value){ .type = KT_V_STR, .s = text };
    bool has_length = odd.n == 32 || odd.n == 36 || odd.n == 38 || odd.n == 45;
    refuse(b, &at_body,
           has_length ? KT_LIT("invalid UUID format")
                      : kt_arena_printf(b->arena, "invalid UUID length: %zu", odd.n),
           value);
}

int
kt_bind(const struct kt_shape *shape, const struct kt_params *params, struct kt_arena *arena,
        void *out, struct kt_error *err)
{
    kt_shape_clear(shape, out);
    struct binder b = { .arena = arena, .ok = true };
    bind_pass(&b, shape, params, out);
    if (b.ok && !b.odd)
        return KT_OK;
    const struct kt_value *odd = b.ok ? b.odd : NULL;
    b = (struct binder){ .arena = arena, .err = err, .ok = true };
    err->kind = KT_UNPROCESSABLE;
    err->code = NULL;
    err->detail = KT_LIT("validation failed");
    if (odd)
        refuse_odd(&b, odd->s, params->text);
    else
        bind_pass(&b, shape, params, out);
    return KT_UNPROCESSABLE;
}

/* --- answers ------------------------------------------------------------------------------ */

static bool answer_field(const struct kt_field *, const struct kt_value *, struct kt_arena *,
                         void *member);

static bool
answer_strings(const struct kt_value *v, struct kt_arena *arena, struct kt_strlist *out)
{
    struct kt_field any = { .name = "", .type = KT_T_STRLIST };
    struct binder b = { .arena = arena, .ok = true };
    return bind_strings(&b, &any, v, NULL, out);
}

static bool
answer_list(const struct kt_shape *shape, const struct kt_value *v, struct kt_arena *arena,
            struct kt_list *out)
{
    if (v->type != KT_V_ARRAY)
        return false;
    char *items = kt_arena_calloc(arena, v->array.n, shape->size);
    if (!items)
        return false;
    *out = (struct kt_list){ items, 0, KT_SET };
    for (size_t i = 0; i < v->array.n; i++, out->n++)
        if (!kt_bind_answer(shape, &v->array.v[i], arena, items + i * shape->size))
            return false;
    return true;
}

static bool
answer_object(const struct kt_shape *shape, const struct kt_value *v, struct kt_arena *arena,
              const void **out)
{
    void *object = kt_arena_calloc(arena, 1, shape->size);
    if (!object || !kt_bind_answer(shape, v, arena, object))
        return false;
    *out = object;
    return true;
}

static bool
answer_field(const struct kt_field *f, const struct kt_value *v, struct kt_arena *arena,
             void *member)
{
    if (f->type == KT_T_LIST)
        return answer_list(f->shape, v, arena, member);
    if (f->type == KT_T_OBJECT)
        return answer_object(f->shape, v, arena, member);
    if (f->type == KT_T_STRLIST)
        return answer_strings(v, arena, member);
    if (f->type == KT_T_SECRET) {
        struct kt_secret *s = v->type == KT_V_STR ? kt_secret_new(v->s.p, v->s.n) : NULL;
        *(struct kt_secret **)member = s;
        return s != NULL;
    }
    /* The server decides what is in range; only types are held against the table. */
    struct kt_field loose = { .name = f->name, .type = f->type };
    struct binder b = { .arena = arena, .ok = true };
    return bind_value(&b, &loose, v, NULL, member);
}

bool
kt_bind_answer(const struct kt_shape *shape, const struct kt_value *answer, struct kt_arena *arena,
               void *out)
{
    if (!answer || answer->type != KT_V_MAP)
        return false;
    memset(out, 0, shape->size);
    for (const struct kt_field *f = shape->fields; f->name; f++)
        clear_field(f, out);
    for (const struct kt_field *f = shape->fields; f->name; f++) {
        const struct kt_value *v = kt_value_get(answer, f->name);
        void *member = (char *)out + f->offset;
        if (!v)
            continue;
        if (v->type == KT_V_NULL) {
            if (f->type == KT_T_STRLIST || f->type == KT_T_LIST)
                ((struct kt_strlist *)member)->has = KT_NULL;
            continue;
        }
        if (!answer_field(f, v, arena, member))
            return false;
    }
    return true;
}
