/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/codec/body.h"

#include "client/proto/json.h"

#include <strings.h>

enum { ECHO_MAX = 4096 }; /* bytes of a refused body that are echoed to its sender */

static bool
equal_fold(struct kt_str a, struct kt_str b)
{
    return a.n == b.n && strncasecmp(a.p, b.p, a.n) == 0;
}

static bool
is_json(struct kt_str content_type)
{
    const struct kt_str json = KT_LIT("application/json"), suffix = KT_LIT("+json");
    const char *semicolon = content_type.n ? memchr(content_type.p, ';', content_type.n) : NULL;
    struct kt_str type = content_type;
    if (semicolon)
        type.n = (size_t)(semicolon - type.p);
    while (type.n && (type.p[type.n - 1] == ' ' || type.p[type.n - 1] == '\t'))
        type.n--;
    if (type.n == 0 || equal_fold(type, json))
        return true;
    return type.n > suffix.n &&
           equal_fold((struct kt_str){ type.p + type.n - suffix.n, suffix.n }, suffix);
}

static bool
takes_secrets(const struct kt_shape *shape)
{
    for (const struct kt_field *field = shape->fields; field->name; field++)
        if (field->type == KT_T_SECRET || field->type == KT_T_SECRET_VIEW ||
            field->type == KT_T_SECRET_LIST)
            return true;
    return false;
}

static bool
may_show(const struct request *rq)
{
    return rq->body.n <= ECHO_MAX && !takes_secrets(rq->spec->in);
}

/* A refusal for one reason; it echoes the body when that may be shown. */
static int
refuse(struct request *rq, enum kt_kind kind, struct kt_str message, bool echo)
{
    struct call *call = &rq->call;
    struct kt_value *value = NULL;
    if (echo && may_show(rq))
        value = KT_ARENA_NEW(call->arena, struct kt_value);
    if (value)
        *value = (struct kt_value){ .type = KT_V_STR, .s = rq->body };
    int refused = fail(call, kind, NULL, "validation failed");
    if (!message.p || !kt_error_field(&call->err, call->arena, KT_LIT("body"), message, value))
        return fail_memory(call);
    return refused;
}

static int
refuse_type(struct request *rq)
{
    return refuse(rq, KT_MEDIA_TYPE,
                  kt_arena_printf(rq->call.arena, "unknown content type: %.*s",
                                  KT_FMT(rq->content_type)), false);
}

/* RFC 9110 section 8.4: whatever such a body looks like, it is not what its sender means. */
static int
refuse_encoding(struct request *rq)
{
    return refuse(rq, KT_MEDIA_TYPE,
                  kt_arena_printf(rq->call.arena, "unknown content encoding: %.*s",
                                  KT_FMT(rq->content_encoding)), false);
}

static int
refuse_text(struct request *rq, const struct kt_json_error *why)
{
    if (why->fault == KT_JSON_MEMORY)
        return fail_memory(&rq->call);
    struct kt_arena *arena = rq->call.arena;
    return refuse(rq, KT_VALIDATION,
                  why->grammar ? kt_arena_str(arena, kt_str(why->text))
                               : kt_arena_printf(arena, "%s at offset %zu", why->text, why->offset),
                  true);
}

static const struct kt_field *
field_find(const struct kt_shape *shape, struct kt_str name)
{
    for (const struct kt_field *field = shape->fields; field->name; field++)
        if (field->place == KT_BODY && equal_fold(kt_str(field->name), name))
            return field;
    return NULL;
}

static void fold(const struct kt_value *, const struct kt_shape *);

static void
fold_member(struct kt_member *member, const struct kt_shape *shape)
{
    const struct kt_field *field = field_find(shape, member->name);
    if (!field)
        return;
    member->name = kt_str(field->name);
    if (!field->shape)
        return;
    if (member->value.type != KT_V_ARRAY) {
        fold(&member->value, field->shape);
        return;
    }
    for (size_t i = 0; i < member->value.array.n; i++)
        fold(&member->value.array.v[i], field->shape);
}

/* The reader has refused names that are equal but for case, so no two members can become one. The
 * tree was read for this request alone: writing through const changes nobody's view. Shapes are a
 * few levels deep, which bounds the recursion. */
static void
fold(const struct kt_value *value, const struct kt_shape *shape)
{
    if (value->type != KT_V_MAP)
        return;
    for (size_t i = 0; i < value->map.n; i++)
        fold_member((struct kt_member *)&value->map.v[i], shape);
}

int
body_decode(struct request *rq)
{
    const struct kt_op_spec *spec = rq->spec;
    if (spec->body == KT_BODY_NONE)
        return 0;
    if (rq->body.n == 0)
        return spec->body == KT_BODY_OPTIONAL
            ? 0 : fail(&rq->call, KT_VALIDATION, NULL, "request body is required");
    if (rq->content_encoding.n)
        return refuse_encoding(rq);
    if (!is_json(rq->content_type))
        return refuse_type(rq);
    struct kt_value *value = KT_ARENA_NEW(rq->call.arena, struct kt_value);
    if (!value)
        return fail_memory(&rq->call);
    struct kt_json_error why;
    if (kt_json_read(rq->body, rq->call.arena, NULL, value, &why))
        return refuse_text(rq, &why);
    fold(value, spec->in);
    rq->params.body = value;
    if (may_show(rq))
        rq->params.text = rq->body;
    return 0;
}
