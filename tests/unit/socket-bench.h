/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A loop, a pipeline that does what the method's name says, and the other end of a connection: for
 * the tests and the fuzz target of the socket. Inline operations are answered at once; every other
 * request is parked until bench_answer(). */
#ifndef SOCKET_BENCH_H
#define SOCKET_BENCH_H

#include "client/proto/json.h"
#include "client/proto/pack.h"
#include "daemon/log.h"
#include "daemon/principal.h"
#include "daemon/transport/conn.h"
#include "daemon/transport/http.h"
#include "daemon/transport/socket.h"
#include "tests/unit/door.h"
#include "tests/unit/turn.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
    struct loop **loops;
    pthread_mutex_t lock;
    pthread_cond_t parked_more;
    struct request *parked; /* oldest first */
    size_t nparked;
    struct kt_buf calls;    /* a word per request that reached the pipeline */
    _Atomic bool decline;          /* every trial on the loop */
    _Atomic unsigned decline_next; /* so many trials */
    _Atomic unsigned ahead; /* requests that were looked at ahead */
    _Atomic int authn_calls;
    _Atomic bool knows; /* who connects from now on is known */
    size_t describes; /* bytes of the answer to kaiten.describe */
} bench = { .describes = 200 * 1024,
            .lock = PTHREAD_MUTEX_INITIALIZER,
            .parked_more = PTHREAD_COND_INITIALIZER };

/* The other door is not built into these programs. */
static size_t
bench_http_readable(struct conn *conn, struct kt_str bytes)
{
    (void)conn;
    return bytes.n;
}

const struct conn_ops http_ops = { .name = "http", .readable = bench_http_readable };

void
authn_peer(struct peer *peer)
{
    static const struct kaiten_principal p = { .size = sizeof p, .subject = "ann",
                                               .organization = "acme" };
    bench.authn_calls++;
    if (bench.knows)
        peer->who = principal_new(&p);
}

bool
pipeline_may_inline(struct kt_str method)
{
    return kt_str_is(method, "token.verify") || kt_str_is(method, "kaiten.ping") ||
           kt_str_is(method, "kaiten.hello") || kt_str_is(method, "kaiten.describe");
}

bool
pipeline_may_inline_http(struct kt_str method, struct kt_str path)
{
    (void)method;
    (void)path;
    return false;
}

bool
pipeline_names_http(struct kt_str method, struct kt_str path)
{
    (void)method;
    (void)path;
    return false;
}

bool
pipeline_writes(struct kt_str method)
{
    const struct kt_op_spec *spec = kt_op_find(method);
    return spec && (kt_op_id(spec) == KT_OP_TOKEN_REVOKE || kt_op_id(spec) == KT_OP_TOKEN_CREATE);
}

static void
bench_note(const struct request *rq)
{
    pthread_mutex_lock(&bench.lock);
    kt_buf_printf(&bench.calls, "%.*s%s%.*s ", KT_FMT(rq->method), rq->credential.p ? "+" : "",
                  KT_FMT(rq->credential));
    pthread_mutex_unlock(&bench.lock);
}

static void
bench_run(struct request *rq)
{
    static struct kt_value much = { .type = KT_V_STR };
    static char text[200 * 1024];
    kt_shape_clear(rq->spec->out ? rq->spec->out : &kt_shape_health, &rq->out);
    switch (kt_op_id(rq->spec)) {
    case KT_OP_TOKEN_VERIFY:
        rq->out.verdict.valid = rq->in.verify.token.n == 4 &&
                                memcmp(rq->in.verify.token.p, "good", 4) == 0;
        break;
    case KT_OP_ACCOUNT_GET:
        rq->out.account.slug = rq->in.account.account;
        break;
    case KT_OP_PING:
        rq->out.health.status = KT_LIT("ok");
        break;
    case KT_OP_DESCRIBE:
        memset(text, 'x', sizeof text);
        much.s = (struct kt_str){ text, bench.describes };
        rq->out.value = &much;
        break;
    case KT_OP_HELLO:
        rq->out.value = NULL;
        break;
    default:
        break;
    }
}

static void
bench_work(struct request *rq)
{
    rq->spec = kt_op_find(rq->method);
    if (!rq->spec) {
        (fail)(&rq->call, KT_NOT_FOUND, "Method.NotFound", "no method %.*s", KT_FMT(rq->method));
        return;
    }
    if (rq->transport->decode(rq) == KT_OK &&
        kt_bind(rq->spec->in, &rq->params, rq->call.arena, &rq->in, &rq->call.err) == KT_OK)
        bench_run(rq);
}

static void
bench_park(struct request *rq)
{
    pthread_mutex_lock(&bench.lock);
    struct request **at = &bench.parked;
    while (*at)
        at = &(*at)->next;
    rq->next = NULL;
    *at = rq;
    bench.nparked++;
    pthread_cond_broadcast(&bench.parked_more);
    pthread_mutex_unlock(&bench.lock);
}

void
pipeline_ahead(struct request list[], size_t n)
{
    (void)list;
    bench.ahead += (unsigned)n;
}

void
pipeline_forget(struct request *rq)
{
    (void)rq;
}

enum pipe_result
pipeline_run(struct request *rq)
{
    if (rq->inline_only && bench.decline)
        return PIPE_DECLINED;
    if (rq->inline_only && bench.decline_next) {
        bench.decline_next--;
        return PIPE_DECLINED;
    }
    bench_note(rq);
    if (!kt_op_find(rq->method) || (pipeline_may_inline(rq->method) && !bench.decline)) {
        bench_work(rq);
        rq->transport->answer(rq);
        return PIPE_ANSWERED;
    }
    bench_park(rq);
    return PIPE_PARKED;
}

void
pipeline_resume(struct request *rq)
{
    (void)rq;
}

/* Waits until n requests are parked. False: they did not come in a minute. */
static inline bool
bench_parked(size_t n)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    int status = 0;
    pthread_mutex_lock(&bench.lock);
    while (bench.nparked < n && status == 0)
        status = pthread_cond_timedwait(&bench.parked_more, &bench.lock, &until);
    bool there = bench.nparked == n;
    pthread_mutex_unlock(&bench.lock);
    return there;
}

/* Does the work of the i-th parked request and sends it home. */
static inline bool
bench_answer(size_t i)
{
    pthread_mutex_lock(&bench.lock);
    struct request **at = &bench.parked;
    while (*at && i--)
        at = &(*at)->next;
    struct request *rq = *at;
    if (rq) {
        *at = rq->next;
        bench.nparked--;
    }
    pthread_mutex_unlock(&bench.lock);
    if (!rq)
        return false;
    rq->next = NULL;
    bench_work(rq);
    loop_answer(rq);
    return true;
}

/* Runs it on the loop and waits. */
static inline void
bench_on_loop(void (*run)(void *ctx), void *ctx)
{
    turn_on(bench.loops[0], run, ctx);
}

/* What was written before has been read by the loop. */
static inline void
bench_settle(void)
{
    turn_settle(bench.loops[0]);
}

struct bench_arrival {
    int fd;
    const struct listen_limits *limits;
    struct conn *ret;
};

static void
bench_arrive(void *ctx)
{
    struct bench_arrival *arrival = ctx;
    struct conn *conn = conn_new(bench.loops[0], arrival->fd, &socket_ops, arrival->limits);
    arrival->ret = conn;
    if (!conn)
        return;
    snprintf(conn->peer.remote, sizeof conn->peer.remote, "here");
    conn_start(conn);
}

/* The client's end of a new connection. */
static inline int
bench_dial(const struct listen_limits *limits, struct conn **ret_conn)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        abort();
    struct timeval patience = { 60, 0 };
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    evutil_make_socket_nonblocking(pair[1]);
    struct bench_arrival arrival = { pair[1], limits, NULL };
    bench_on_loop(bench_arrive, &arrival);
    if (ret_conn)
        *ret_conn = arrival.ret;
    return pair[0];
}

static inline bool
bench_open(void)
{
    kt_buf_init(&bench.calls, 1 << 20);
    bench.loops = loops_new(1);
    return bench.loops && loops_start(bench.loops) == 0;
}

static inline void
bench_close(void)
{
    loops_stop(bench.loops);
    kt_buf_done(&bench.calls);
}

#endif
