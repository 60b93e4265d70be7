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

static const struct {
    const char *name;
    int (*read)(struct request *, const struct kt_value *);
} members[] = {
    { "token", read_token },
    { "deadline_ms", read_deadline },
    { "idempotency_key", read_idempotency_key },
};

/* A member that begins with '!' must be understood; others may be ignored. seen: a bit for each of
 * members[], because with and without '!' it is the same one, which comes once, as any key does. */
static int
read_meta_member(struct request *rq, const struct kt_member *member, unsigned *seen)
{
    struct kt_str name = member->name;
    bool must = name.n > 0 && name.p[0] == '!';
    if (must)
        name = (struct kt_str){ name.p + 1, name.n - 1 };
    for (unsigned i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (!kt_str_is(name, members[i].name))
            continue;
        if (*seen & 1u << i)
            return fail(&rq->call, KT_VALIDATION, NULL, "meta has %s twice", members[i].name);
        *seen |= 1u << i;
        return members[i].read(rq, &member->value);
    }
    return must ? fail(&rq->call, KT_VALIDATION, NULL, "meta.%.*s is not understood here",
                       KT_FMT(member->name))
                : KT_OK;
}

int
socket_read_meta(struct request *rq, const struct kt_value *meta)
{
    unsigned seen = 0;
    if (meta->type != KT_V_MAP)
        return fail(&rq->call, KT_VALIDATION, NULL, "meta is a map");
    for (size_t i = 0; i < meta->map.n; i++) {
        int kind = read_meta_member(rq, &meta->map.v[i], &seen);
        if (kind != KT_OK)
            return kind;
    }
    return KT_OK;
}
