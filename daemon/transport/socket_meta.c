/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/socket_meta.h"

#include "client/proto/value.h"
#include "daemon/loop.h"
#include "daemon/request.h"

static int
read_token(struct request *rq, const struct kt_value *value)
{
    /* A client that means to speak for somebody else must never be taken for its own process. */
    if ((value->type != KT_V_STR && value->type != KT_V_BIN) || value->s.n == 0)
        return fail(&rq->call, KT_VALIDATION, NULL, "meta.token is a string that is not empty");
    rq->credential = (struct kt_secret_view){ value->s.p, value->s.n };
    return KT_OK;
}

static int
read_deadline(struct request *rq, const struct kt_value *value)
{
    if (value->type != KT_V_INT || value->i < 1)
        return fail(&rq->call, KT_VALIDATION, NULL, "meta.deadline_ms is a positive integer");
    int64_t now = loop_now_ms(rq->home);
    if (value->i < rq->call.deadline_ms - now)
        rq->call.deadline_ms = now + value->i;
    return KT_OK;
}

static int
read_idempotency_key(struct request *rq, const struct kt_value *value)
{
    if (value->type != KT_V_STR)
        return fail(&rq->call, KT_VALIDATION, NULL, "meta.idempotency_key is a string");
    rq->idempotency_key = value->s;
    return KT_OK;
}

/* A member that begins with '!' must be understood; others may be ignored. */
static int
read_meta_member(struct request *rq, const struct kt_member *member)
{
    struct kt_str name = member->name;
    bool must = name.n > 0 && name.p[0] == '!';
    if (must)
        name = (struct kt_str){ name.p + 1, name.n - 1 };
    if (kt_str_is(name, "token"))
        return read_token(rq, &member->value);
    if (kt_str_is(name, "deadline_ms"))
        return read_deadline(rq, &member->value);
    if (kt_str_is(name, "idempotency_key"))
        return read_idempotency_key(rq, &member->value);
    return must ? fail(&rq->call, KT_VALIDATION, NULL, "meta.%.*s is not understood here",
                       KT_FMT(member->name))
                : KT_OK;
}

int
socket_read_meta(struct request *rq, const struct kt_value *meta)
{
    if (meta->type != KT_V_MAP)
        return fail(&rq->call, KT_VALIDATION, NULL, "meta is a map");
    for (size_t i = 0; i < meta->map.n; i++) {
        int kind = read_meta_member(rq, &meta->map.v[i]);
        if (kind != KT_OK)
            return kind;
    }
    return KT_OK;
}
