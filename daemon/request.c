/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/request.h"

#include "daemon/authn.h"
#include "daemon/idempotency.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/ops.h"
#include "daemon/plugin.h"
#include "daemon/principal.h"
#include "daemon/service.h"
#include "daemon/timeguard.h"

#include <stdlib.h>

/* A request of its own and its arena, freed together. */
struct own_request {
    struct request rq;
    struct kt_arena arena;
    char first[3072]; /* most requests need no more */
};

void
request_starts(struct request *rq)
{
    const int64_t mono_ms = loop_now_ms(rq->home);
    rq->call.now_ms = clock_now_ms(mono_ms);
    rq->call.deadline_ms = mono_ms + rq->call.svc->request_ms;
}

static void
init(struct request *rq, struct kt_arena *arena, const struct transport *transport,
     struct loop *home, struct peer *peer)
{
    rq->call.arena = arena;
    rq->call.svc = authn_chain_service(peer->chain);
    rq->began_ms = loop_now_ms(home);
    rq->transport = transport;
    rq->home = home;
    rq->peer = peer;
    request_starts(rq);
}

void
request_init(struct request *rq, struct kt_arena *arena, const struct transport *transport,
             struct loop *home, struct peer *peer)
{
    memset(rq, 0, sizeof *rq);
    init(rq, arena, transport, home, peer);
}

struct request *
request_new(const struct transport *transport, struct loop *home, struct peer *peer)
{
    struct own_request *own = malloc(sizeof *own);
    if (!own)
        return NULL;
    memset(&own->rq, 0, sizeof own->rq);
    kt_arena_init_with(&own->arena, own->first, sizeof own->first, REQUEST_ARENA_MAX);
    init(&own->rq, &own->arena, transport, home, peer);
    own->rq.own = true;
    return &own->rq;
}

/* --- the last word ------------------------------------------------------------------------ */

static bool
move_on(struct request *rq, int from, int to)
{
    return atomic_compare_exchange_strong(&rq->stage, &from, to);
}

bool
request_take(struct request *rq)
{
    return move_on(rq, REQUEST_OPEN, REQUEST_TAKEN);
}

bool
request_reopen(struct request *rq)
{
    return move_on(rq, REQUEST_TAKEN, REQUEST_OPEN);
}

bool
request_settle(struct request *rq)
{
    return move_on(rq, REQUEST_TAKEN, REQUEST_SETTLED) ||
           move_on(rq, REQUEST_OPEN, REQUEST_SETTLED);
}

bool
request_abandon(struct request *rq, bool *ret_taken)
{
    int stage = atomic_load(&rq->stage);
    while (stage != REQUEST_SETTLED)
        if (atomic_compare_exchange_weak(&rq->stage, &stage, REQUEST_ABANDONED)) {
            *ret_taken = stage == REQUEST_TAKEN;
            return true;
        }
    return false;
}

bool
request_may_last(const struct request *rq)
{
    return rq->op && (rq->op->flags & OP_ADMIN);
}

void
request_finish(struct request *rq)
{
    loop_unwatch(rq);
    if (!request_is_abandoned(rq)) {
        rq->transport->answer(rq);
        return;
    }
    log_line(LOG_LEVEL_INFO, "request.late", "peer=%s op=%s kind=%s message=%s", rq->peer->remote,
             rq->spec ? rq->spec->name : "-", kt_error_code(&rq->call.err),
             "its caller was refused before that");
    rq->transport->drop(rq);
}

/* --- the end ------------------------------------------------------------------------------ */

void
request_done(struct request *rq)
{
    idempotency_end(rq);
    rq->call.who = principal_unref(rq->call.who);
    rq->secret = kt_secret_free(rq->secret);
    if (rq->payload.p)
        kt_buf_done(&rq->payload);
    if (!rq->own)
        return;
    struct own_request *own = (struct own_request *)rq;
    kt_arena_wipe(&own->arena);
    kt_arena_done(&own->arena);
    free(own);
}

/* It is no secret: it is written into the log. A system call for each of them would be too much. */
static uint64_t
draw_id(void)
{
    static _Thread_local uint64_t last; /* 0: none yet */
    while (last == 0)
        host_table.random(&last, sizeof last);
    last += 0x9e3779b97f4a7c15; /* splitmix64: no number comes again before all others have come */
    uint64_t n = last;
    n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9;
    n = (n ^ n >> 27) * 0x94d049bb133111eb;
    return n ^ n >> 31;
}

const char *
request_id(struct request *rq)
{
    static const char hex[] = "0123456789abcdef";
    if (rq->id[0] != '\0')
        return rq->id;
    uint64_t n = draw_id();
    for (size_t i = 0; i < sizeof rq->id - 1; i++)
        rq->id[i] = hex[n >> (60 - 4 * i) & 15];
    rq->id[sizeof rq->id - 1] = '\0';
    return rq->id;
}
