/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/http.h"

#include "daemon/transport/http_head.h"

static size_t
count_known(const struct kt_shape *shape)
{
    size_t n = 0;
    for (const struct kt_field *field = shape->fields; field->name; field++)
        n += field->place == KT_QUERY;
    return n;
}

static bool
is_known(const struct kt_shape *shape, struct kt_str name)
{
    for (const struct kt_field *field = shape->fields; field->name; field++)
        if (field->place == KT_QUERY && kt_str_is(name, field->name))
            return true;
    return false;
}

/* Two values, and readers that disagree about which one counts: nobody means that. */
static int
refuse_repeated(struct call *call, struct kt_str name)
{
    struct kt_str where = kt_arena_printf(call->arena, "query.%.*s", KT_FMT(name));
    int refused = fail(call, KT_UNPROCESSABLE, NULL, "validation failed");
    if (!where.p ||
        !kt_error_field(&call->err, call->arena, where, KT_LIT("expected it only once"), NULL))
        return fail_memory(call);
    return refused;
}

static bool
is_there(const struct kt_params *params, struct kt_str name)
{
    for (size_t i = 0; i < params->nquery; i++)
        if (kt_str_eq(params->query[i].name, name))
            return true;
    return false;
}

int
http_query(struct request *rq)
{
    struct call *call = &rq->call;
    size_t known = count_known(rq->spec->in);
    if (known == 0 || rq->query.n == 0)
        return 0;
    struct kt_param *found = kt_arena_calloc(call->arena, known, sizeof *found);
    if (!found)
        return fail_memory(call);
    rq->params.query = found;
    struct kt_str rest = rq->query, name, value;
    int more;
    while ((more = http_query_next(call->arena, &rest, &name, &value)) > 0) {
        if (value.n == 0 || !is_known(rq->spec->in, name))
            continue;
        if (is_there(&rq->params, name))
            return refuse_repeated(call, name);
        found[rq->params.nquery++] = (struct kt_param){ name, value };
    }
    if (more == -2)
        return fail_memory(call);
    return more == 0 ? 0 : fail(call, KT_VALIDATION, NULL, "malformed query string");
}
