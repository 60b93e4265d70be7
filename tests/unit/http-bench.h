/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A loop, a pipeline that does what the path says, and a client of HTTP, for tests. Include it before
 * <cmocka.h>, whose fail() would get in the way. */
#ifndef HTTP_BENCH_H
#define HTTP_BENCH_H

#include "daemon/transport/conn.h"
#include "daemon/transport/http.h"
#include "tests/unit/door.h"
#include "tests/unit/turn.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { ANSWERS = 256 * 1024, PATIENCE_MS = 60000, NOW_MS = 60 };

static struct {
    struct loop **loops;
    pthread_mutex_t lock;
    struct kt_buf calls;     /* a line per request that reached the pipeline */
    struct request *held;
} bench = { .lock = PTHREAD_MUTEX_INITIALIZER };

static const struct listen_limits usual = {
    .body_max = 64, .first_byte_ms = 60000, .head_ms = 60000, .body_ms = 60000,
    .write_ms = 60000, .idle_ms = 60000,
};

/* --- the pipeline ------------------------------------------------------------------------- */

static inline bool
begins(struct kt_str path, const char *word)
{
    return path.n >= strlen(word) && memcmp(path.p, word, strlen(word)) == 0;
}

bool
pipeline_may_inline_http(struct kt_str method, struct kt_str path)
{
    (void)method;
    return begins(path, "/inline") || begins(path, "/decline") || begins(path, "/validate");
}

bool
pipeline_names_http(struct kt_str method, struct kt_str path)
{
    (void)method;
    return begins(path, "/named");
}

bool
pipeline_may_inline(struct kt_str method)
{
    (void)method;
    return false;
}

bool
pipeline_writes(struct kt_str method)
{
    (void)method;
    return false;
}

void
pipeline_resume(struct request *rq)
{
    (void)rq;
}

static inline void
note_call(const struct request *rq)
{
    pthread_mutex_lock(&bench.lock);
    kt_buf_printf(&bench.calls, "%.*s %.*s", KT_FMT(rq->method), KT_FMT(rq->path));
    if (rq->query.p)
        kt_buf_printf(&bench.calls, "?%.*s", KT_FMT(rq->query));
    if (rq->body.p)
        kt_buf_printf(&bench.calls, " [%.*s]", KT_FMT(rq->body));
    if (rq->credential.p)
        kt_buf_printf(&bench.calls, " <%.*s>", KT_FMT(rq->credential));
    if (rq->bad_scheme)
        kt_buf_puts(&bench.calls, " bad scheme");
    if (rq->inline_only)
        kt_buf_puts(&bench.calls, " inline");
    if (rq->idempotency_key.p)
        kt_buf_printf(&bench.calls, " key <%.*s>", KT_FMT(rq->idempotency_key));
    kt_buf_putc(&bench.calls, '\n');
    pthread_mutex_unlock(&bench.lock);
}

static const struct {
    const char *path;
    enum kt_kind kind;
    const char *code;
} refusals[] = {
    { "/400", KT_VALIDATION, NULL },
    { "/401", KT_UNAUTHORIZED, "Auth.InvalidToken" },
    { "/403", KT_FORBIDDEN, "Auth.MissingScope" },
    { "/405", KT_METHOD, NULL },
    { "/429", KT_TOO_MANY_REQUESTS, NULL },
    { "/503", KT_UNAVAILABLE, NULL },
};

static inline bool
refuse_by_path(struct request *rq)
{
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        if (!begins(rq->path, refusals[i].path))
            continue;
        rq->spec = &kt_op_specs[KT_OP_TOKEN_CREATE];
        rq->allow = KT_LIT("GET, HEAD");
        (fail)(&rq->call, refusals[i].kind, refusals[i].code, "as the path says");
        return true;
    }
    return false;
}

static inline void
decode(struct request *rq, enum kt_op_id id)
{
    rq->spec = &kt_op_specs[id];
    if (rq->transport->decode(rq))
        return;
    const struct kt_value *name = kt_value_get(rq->params.body, "name");
    kt_shape_clear(rq->spec->out, &rq->out);
    if (id == KT_OP_ACCOUNT_CREATE)
        rq->out.account.name = name ? name->s : KT_LIT("");
    if (id == KT_OP_TOKEN_LIST)
        rq->out.page.next_cursor = rq->params.nquery
            ? kt_arena_printf(rq->call.arena, "%.*s=%.*s", KT_FMT(rq->params.query[0].name),
                              KT_FMT(rq->params.query[0].value)) : KT_LIT("none");
}

enum pipe_head
pipeline_head(struct request *rq)
{
    if (begins(rq->path, "/401") && refuse_by_path(rq))
        return PIPE_HEAD_REFUSED;
    return begins(rq->path, "/known") ? PIPE_HEAD_KNOWN : PIPE_HEAD_OPEN;
}

static inline void
work(struct request *rq)
{
    if (refuse_by_path(rq))
        return;
    if (begins(rq->path, "/validate")) {
        rq->spec = &kt_op_specs[KT_OP_TOKEN_VALIDATE];
        rq->bearer = KT_LIT("e30.e30.c2ln");
        rq->out.text.body = KT_LIT("OK");
    } else if (begins(rq->path, "/204")) {
        rq->spec = &kt_op_specs[KT_OP_TOKEN_REVOKE];
    } else if (begins(rq->path, "/create")) {
        decode(rq, KT_OP_ACCOUNT_CREATE);
    } else if (begins(rq->path, "/mint")) {
        decode(rq, KT_OP_TOKEN_CREATE);
    } else if (begins(rq->path, "/rotate")) {
        decode(rq, KT_OP_TOKEN_ROTATE);
    } else if (begins(rq->path, "/list")) {
        decode(rq, KT_OP_TOKEN_LIST);
    } else {
        rq->spec = &kt_op_specs[KT_OP_HEALTHZ];
        if (rq->transport->decode(rq) == 0)
            rq->out.health.status = rq->path;
    }
}

enum pipe_result
pipeline_run(struct request *rq)
{
    if (rq->inline_only && begins(rq->path, "/decline"))
        return PIPE_DECLINED;
    note_call(rq);
    if (begins(rq->path, "/hold")) {
        bench.held = rq;
        return PIPE_PARKED;
    }
    work(rq);
    if (begins(rq->path, "/park")) {
        loop_answer(rq);
        return PIPE_PARKED;
    }
    rq->transport->answer(rq);
    return PIPE_ANSWERED;
}

/* --- the loop ----------------------------------------------------------------------------- */

static inline void
on_loop(void (*run)(void *ctx), void *ctx)
{
    turn_on(bench.loops[0], run, ctx);
}

/* What was written before has been read by the loop. */
static inline void
settle(void)
{
    turn_settle(bench.loops[0]);
}

struct arrival {
    int fd;
    const struct listen_limits *limits;
    _Atomic size_t *strangers; /* NULL: not counted */
};

static inline void
arrive(void *ctx)
{
    struct arrival *arrival = ctx;
    struct conn *conn = conn_new(bench.loops[0], arrival->fd, &http_ops, arrival->limits);
    assert_non_null(conn);
    snprintf(conn->peer.remote, sizeof conn->peer.remote, "here");
    conn->strangers = arrival->strangers;
    conn_start(conn);
}

/* The client's end of a new connection. */
static inline int
dial_counted(const struct listen_limits *limits, _Atomic size_t *strangers)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    struct timeval patience = { PATIENCE_MS / 1000, 0 };
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    evutil_make_socket_nonblocking(pair[1]);
    on_loop(arrive, &(struct arrival){ pair[1], limits, strangers });
    return pair[0];
}

static inline int
dial(const struct listen_limits *limits)
{
    return dial_counted(limits, NULL);
}

static inline void
say(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent < 0)
            return; /* refused meanwhile; what was said shows in what comes back */
        p += sent;
        n -= (size_t)sent;
    }
}

/* Until the other side ends it; fails when it does not. */
static inline size_t
hear_all(int fd, char *p)
{
    size_t n = 0;
    for (;;) {
        ssize_t got = recv(fd, p + n, ANSWERS - 1 - n, 0);
        if (got < 0)
            fail_msg("no end after %zu bytes: %s", n, strerror(errno));
        if (got == 0)
            break;
        n += (size_t)got;
    }
    p[n] = '\0';
    return n;
}

static inline void
calls_reset(void)
{
    pthread_mutex_lock(&bench.lock);
    kt_buf_reset(&bench.calls);
    pthread_mutex_unlock(&bench.lock);
}

static inline const char *
calls(void)
{
    pthread_mutex_lock(&bench.lock);
    kt_buf_put(&bench.calls, "", 1);
    bench.calls.n--;
    pthread_mutex_unlock(&bench.lock);
    return bench.calls.p;
}

static inline const char *
header(const char *answer, const char *name)
{
    static char value[512];
    char line[128];
    snprintf(line, sizeof line, "\r\n%s: ", name);
    const char *end = strstr(answer, "\r\n\r\n"), *at = strstr(answer, line);
    if (!at || at > end)
        return NULL;
    at += strlen(line);
    snprintf(value, sizeof value, "%.*s", (int)(strstr(at, "\r\n") - at), at);
    return value;
}

/* "200 204 400": every answer in the stream, each cut at its own Content-Length. */
static inline void
statuses(const char *p, size_t n, bool head, char *ret, size_t size)
{
    const char *end = p + n;
    ret[0] = '\0';
    while (p < end) {
        if (strncmp(p, "HTTP/1.1 ", 9) != 0)
            fail_msg("no answer begins here: %.60s", p);
        int status = atoi(p + 9);
        const char *length = header(p, "Content-Length");
        assert_int_equal(!length, status == 204 || status == 100);
        snprintf(ret + strlen(ret), size - strlen(ret), "%s%d", ret[0] ? " " : "", status);
        p = strstr(p, "\r\n\r\n") + 4;
        if (length && (!head || status != 200))
            p += atoi(length);
    }
    assert_ptr_equal(p, end);
}

/* --- requests and answers ----------------------------------------------------------------- */

#define HOST "Host: a\r\n"
#define NEXT "GET /now/next HTTP/1.1\r\n" HOST "\r\n"
#define NEXT_CALL "GET /now/next\n"
#define BAD "400", ""
#define CHUNKED "Transfer-Encoding: chunked\r\n"

static char answers[ANSWERS];

/* One request on a connection of its own; the answer is in answers[]. */
static inline size_t
ask(const char *bytes)
{
    calls_reset();
    int fd = dial(&usual);
    say(fd, bytes, strlen(bytes));
    shutdown(fd, SHUT_WR);
    size_t n = hear_all(fd, answers);
    close(fd);
    return n;
}

#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"
#define HEAD(path) "HEAD " path " HTTP/1.1\r\n" HOST "\r\n"
#define POST(path, length, headers, body) \
    "POST " path " HTTP/1.1\r\n" HOST headers "Content-Length: " length "\r\n\r\n" body

static inline const char *
body(void)
{
    return strstr(answers, "\r\n\r\n") + 4;
}

static inline int
setup(void **state)
{
    (void)state;
    kt_buf_init(&bench.calls, 1024 * 1024);
    bench.loops = loops_new(1);
    return bench.loops && loops_start(bench.loops) == 0 ? 0 : -1;
}

static inline int
teardown(void **state)
{
    (void)state;
    loops_stop(bench.loops);
    kt_buf_done(&bench.calls);
    return 0;
}

#endif
