/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* HTTP over real sockets and a real loop, with a pipeline that does what the path says. */
#include "config.h"

#include "daemon/authn.h"
#include "daemon/idempotency.h"
#include "daemon/loop.h"
#include "daemon/pipeline.h"
#include "daemon/plugin.h"
#include "daemon/service.h"
#include "daemon/transport/conn.h"
#include "daemon/transport/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
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
    bool secrets_wiped;
} bench = { .lock = PTHREAD_MUTEX_INITIALIZER };

static const struct listen_limits usual = {
    .body_max = 64, .first_byte_ms = 60000, .head_ms = 60000, .body_ms = 60000,
    .write_ms = 60000, .idle_ms = 60000,
};

/* --- the pipeline ------------------------------------------------------------------------- */

static struct service service = { .request_ms = 30000 };

static void
not_random(void *p, size_t n)
{
    memset(p, 7, n);
}

const struct kaiten_host host_table = { .size = sizeof host_table, .random = not_random };

void
idempotency_end(struct request *rq)
{
    (void)rq;
}

const struct service *
authn_chain_service(const struct authn_chain *chain)
{
    (void)chain;
    return &service;
}

static bool
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
pipeline_may_inline(struct kt_str method)
{
    (void)method;
    return false;
}

void
pipeline_tell(struct request *rq)
{
    (void)rq;
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

static void
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

static bool
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

static void
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

static void
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

struct turn {
    struct loop_task task;
    sem_t done;
    void (*run)(void *ctx);
    void *ctx;
};

static void
turn_run(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    struct turn *turn = (struct turn *)task;
    if (turn->run)
        turn->run(turn->ctx);
    sem_post(&turn->done);
}

static void
on_loop(void (*run)(void *ctx), void *ctx)
{
    struct turn turn = { .task.run = turn_run, .run = run, .ctx = ctx };
    sem_init(&turn.done, 0, 0);
    loop_post(bench.loops[0], &turn.task);
    while (sem_wait(&turn.done) != 0)
        ;
    sem_destroy(&turn.done);
}

/* What was written before has been read by the loop. */
static void
settle(void)
{
    on_loop(NULL, NULL);
    on_loop(NULL, NULL);
}

struct arrival {
    int fd;
    const struct listen_limits *limits;
};

static void
arrive(void *ctx)
{
    struct arrival *arrival = ctx;
    struct conn *conn = conn_new(bench.loops[0], arrival->fd, &http_ops, arrival->limits);
    assert_non_null(conn);
    snprintf(conn->peer.remote, sizeof conn->peer.remote, "here");
    conn_start(conn);
}

static int
dial(const struct listen_limits *limits)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    struct timeval patience = { PATIENCE_MS / 1000, 0 };
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    evutil_make_socket_nonblocking(pair[1]);
    on_loop(arrive, &(struct arrival){ pair[1], limits });
    return pair[0];
}

static void
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
static size_t
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

static bool
is_silent(int fd)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    return poll(&poll_fd, 1, NOW_MS) == 0;
}

static void
hear_one(int fd, char *p)
{
    ssize_t got = recv(fd, p, ANSWERS - 1, 0);
    if (got <= 0)
        fail_msg("nothing came: %s", strerror(errno));
    p[got] = '\0';
}

static void
calls_reset(void)
{
    pthread_mutex_lock(&bench.lock);
    kt_buf_reset(&bench.calls);
    pthread_mutex_unlock(&bench.lock);
}

static const char *
calls(void)
{
    pthread_mutex_lock(&bench.lock);
    kt_buf_put(&bench.calls, "", 1);
    bench.calls.n--;
    pthread_mutex_unlock(&bench.lock);
    return bench.calls.p;
}

static const char *
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
static void
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

/* --- what goes in, what comes out --------------------------------------------------------- */

#define HOST "Host: a\r\n"
#define NEXT "GET /now/next HTTP/1.1\r\n" HOST "\r\n"
#define NEXT_CALL "GET /now/next\n"
#define BAD "400", ""
#define CHUNKED "Transfer-Encoding: chunked\r\n"

static const struct row {
    const char *rule;
    const char *bytes;
    const char *statuses;
    const char *calls;
    bool stays; /* the daemon does not end the connection by itself */
} rows[] = {
    { "1 request line", "GET /now HTTP/1.1\r\n" HOST "\r\n", "200", "GET /now\n", true },
    { "1 two spaces", "GET  /now HTTP/1.1\r\n" HOST "\r\n" NEXT, BAD, false },
    { "1 no version", "GET /now\r\n" HOST "\r\n" NEXT, BAD, false },
    { "1 version 2", "GET /now HTTP/2.0\r\n" HOST "\r\n" NEXT, "505", "", false },
    { "1 version +1", "GET /now HTTP/+1.1\r\n" HOST "\r\n" NEXT, BAD, false },
    { "1 method 17 bytes", "GETGETGETGETGETGE /now HTTP/1.1\r\n" HOST "\r\n" NEXT, "501", "",
      false },
    { "1 fragment", "GET /now#a HTTP/1.1\r\n" HOST "\r\n" NEXT, BAD, false },
    { "1 control in target", "GET /n\x01w HTTP/1.1\r\n" HOST "\r\n" NEXT, BAD, false },
    { "2 bare LF", "GET /now HTTP/1.1\n" HOST "\r\n" NEXT, BAD, false },
    { "2 bare LF in header", "GET /now HTTP/1.1\r\nHost: a\n\r\n" NEXT, BAD, false },
    { "2 bare CR", "GET /now HTTP/1.1\r\nHost: a\rb\r\n\r\n" NEXT, BAD, false },
    { "3 one empty line", "\r\nGET /now HTTP/1.1\r\n" HOST "\r\n", "200", "GET /now\n", true },
    { "3 two empty lines", "\r\n\r\nGET /now HTTP/1.1\r\n" HOST "\r\n" NEXT, BAD, false },
    { "4 space before colon", "GET /now HTTP/1.1\r\nHost : a\r\n\r\n" NEXT, BAD, false },
    { "4 name is no token", "GET /now HTTP/1.1\r\nHo\x02st: a\r\n\r\n" NEXT, BAD, false },
    { "4 no name", "GET /now HTTP/1.1\r\n" HOST ": b\r\n\r\n" NEXT, BAD, false },
    { "5 control in value", "GET /now HTTP/1.1\r\n" HOST "A: \x01\r\n\r\n" NEXT, BAD, false },
    { "5 tab in value", "GET /now HTTP/1.1\r\n" HOST "A: b\tc\r\n\r\n", "200", "GET /now\n", true },
    { "6 folded", "GET /now HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n" NEXT, BAD, false },
    { "7 no host", "GET /now HTTP/1.1\r\n\r\n" NEXT, BAD, false },
    { "7 two hosts", "GET /now HTTP/1.1\r\n" HOST HOST "\r\n" NEXT, BAD, false },
    { "7 no host in 1.0", "GET /now HTTP/1.0\r\n\r\n" NEXT, "200", "GET /now\n", false },
    { "8 two lengths", "POST /now HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 58\r\n"
      "\r\n" NEXT, BAD, false },
    { "8 two credentials", "GET /now HTTP/1.1\r\n" HOST "Authorization: Bearer a\r\n"
      "Authorization: Bearer b\r\n\r\n" NEXT, BAD, false },
    { "8 two types", "GET /now HTTP/1.1\r\n" HOST "Content-Type: a/b\r\nContent-Type: a/b\r\n\r\n"
      NEXT, BAD, false },
    { "9 length +3", "POST /now HTTP/1.1\r\n" HOST "Content-Length: +3\r\n\r\nabc" NEXT, BAD,
      false },
    { "9 length and a control", "POST /now HTTP/1.1\r\n" HOST "Content-Length: 3\v\r\n\r\nabc" NEXT,
      BAD, false },
    { "9 length empty", "POST /now HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n" NEXT, BAD, false },
    { "10 both", "POST /now HTTP/1.1\r\n" HOST "Content-Length: 3\r\n" CHUNKED
      "\r\n0\r\n\r\n" NEXT, BAD, false },
    { "11 other coding", "POST /now HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n"
      "0\r\n\r\n" NEXT, BAD, false },
    { "11 chunked in 1.0", "POST /now HTTP/1.0\r\n" HOST CHUNKED "\r\n0\r\n"
      "\r\n" NEXT, BAD, false },
    { "12 chunks", "POST /now HTTP/1.1\r\n" HOST CHUNKED "\r\n"
      "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n" NEXT, "200 200",
      "POST /now [abcde]\n" NEXT_CALL, true },
    { "12 no body", "POST /now HTTP/1.1\r\n" HOST CHUNKED "\r\n0\r\n\r\n",
      "200", "POST /now\n", true },
    { "12 size 0x3", "POST /now HTTP/1.1\r\n" HOST CHUNKED "\r\n"
      "0x3\r\nabc\r\n0\r\n\r\n" NEXT, BAD, false },
    { "12 size of 9 digits", "POST /now HTTP/1.1\r\n" HOST CHUNKED "\r\n"
      "000000003\r\nabc\r\n0\r\n\r\n" NEXT, BAD, false },
    { "12 no CRLF after data", "POST /now HTTP/1.1\r\n" HOST CHUNKED "\r\n"
      "3\r\nabcd\r\n0\r\n\r\n" NEXT, BAD, false },
    { "13 trailers", "POST /now HTTP/1.1\r\n" HOST CHUNKED "\r\n"
      "3\r\nabc\r\n0\r\nAuthorization: Bearer x\r\n\r\n" NEXT, "200 200",
      "POST /now [abc]\n" NEXT_CALL, true },
    { "14 body of GET", "GET /now HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc" NEXT, "200 200",
      "GET /now [abc]\n" NEXT_CALL, true },
    { "14 body of an inline path", "DELETE /inline HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"
      NEXT, "200 200", "DELETE /inline [abc]\n" NEXT_CALL, true },
    { "14 body of an unknown method", "BREW /now HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"
      NEXT, "200 200", "BREW /now [abc]\n" NEXT_CALL, true },
    { "15 body below the limit", "POST /now HTTP/1.1\r\n" HOST "Content-Length: 63\r\n\r\n"
      "012345678901234567890123456789012345678901234567890123456789012" NEXT, "200 200",
      "POST /now [012345678901234567890123456789012345678901234567890123456789012]\n" NEXT_CALL,
      true },
    { "15 body at it", "POST /now HTTP/1.1\r\n" HOST "Content-Length: 64\r\n\r\n", "413",
      "POST /now\n", false },
    { "15 chunks at it", "POST /now HTTP/1.1\r\n" HOST CHUNKED "\r\n"
      "20\r\n01234567890123456789012345678901\r\n20\r\n", "413", "POST /now\n", false },
    { "15 body of the refused", "POST /401 HTTP/1.1\r\n" HOST "Content-Length: 64\r\n\r\n", "401",
      "POST /401\n", false },
    { "16 other expectation", "POST /now HTTP/1.1\r\n" HOST "Expect: 200-ok\r\n"
      "Content-Length: 3\r\n\r\nabc" NEXT, "417", "", false },
    { "17 absolute form", "GET http://a/now HTTP/1.1\r\n" HOST "\r\n" NEXT, BAD, false },
    { "17 connect", "CONNECT a:80 HTTP/1.1\r\n" HOST "\r\n" NEXT, BAD, false },
    { "17 asterisk", "GET * HTTP/1.1\r\n" HOST "\r\n" NEXT, BAD, false },
    { "17 asterisk of OPTIONS", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "200", "OPTIONS *\n", true },
    { "21 pipelined", "GET /park/1 HTTP/1.1\r\n" HOST "\r\nGET /inline/2 HTTP/1.1\r\n" HOST "\r\n"
      "GET /now/3 HTTP/1.1\r\n" HOST "\r\nGET /park/4 HTTP/1.1\r\n" HOST "\r\n"
      "GET /decline/5 HTTP/1.1\r\n" HOST "\r\n", "200 200 200 200 200",
      "GET /park/1\nGET /inline/2 inline\nGET /now/3\nGET /park/4\nGET /decline/5\n", true },
    { "22 after close", "GET /now HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n" NEXT, "200",
      "GET /now\n", false },
    { "22 after close, parked", "GET /park HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n" NEXT,
      "200", "GET /park\n", false },
    { "22 after 1.0", "GET /now HTTP/1.0\r\n" HOST "\r\n" NEXT, "200", "GET /now\n", false },
    { "22 1.0 that stays", "GET /now HTTP/1.0\r\n" HOST "Connection: keep-alive\r\n\r\n" NEXT,
      "200 200", "GET /now\n" NEXT_CALL, true },
    { "22 after a good one", NEXT "GET /now\r\n\r\n" NEXT, "200 400", NEXT_CALL, false },
    { "22 a refusal is no framing error", "GET /400 HTTP/1.1\r\n" HOST "\r\n" NEXT, "400 200",
      "GET /400\n" NEXT_CALL, true },
    { "204", "GET /204 HTTP/1.1\r\n" HOST "\r\n" NEXT, "204 200", "GET /204\n" NEXT_CALL, true },
    { "query", "GET /now?a=b&c HTTP/1.1\r\n" HOST "\r\n", "200", "GET /now?a=b&c\n", true },
    { "credential", "GET /now HTTP/1.1\r\n" HOST "Authorization: Bearer abc \r\n\r\n", "200",
      "GET /now <abc>\n", true },
    { "credential, spaces", "GET /now HTTP/1.1\r\n" HOST "Authorization: Bearer  abc\r\n\r\n",
      "200", "GET /now <abc>\n", true },
    { "credential, inline", "GET /inline HTTP/1.1\r\n" HOST "Authorization: Bearer abc\r\n\r\n",
      "200", "GET /inline <abc> inline\n", true },
    { "credential, other case", "GET /now HTTP/1.1\r\n" HOST "Authorization: bearer abc\r\n\r\n",
      "200", "GET /now bad scheme\n", true },
    { "credential, other scheme", "GET /now HTTP/1.1\r\n" HOST "Authorization: Basic abc\r\n\r\n",
      "200", "GET /now bad scheme\n", true },
    { "credential, empty", "GET /now HTTP/1.1\r\n" HOST "Authorization: Bearer \r\n\r\n", "200",
      "GET /now bad scheme\n", true },
    { "credential, no value", "GET /now HTTP/1.1\r\n" HOST "Authorization:\r\n\r\n", "200",
      "GET /now bad scheme\n", true },
};

static char answers[ANSWERS];

/* Sends the first `cut` bytes, lets the loop see them, then the rest `step` bytes at a time. */
static void
check_row(const struct row *row, size_t cut, size_t step)
{
    size_t n = strlen(row->bytes);
    calls_reset();
    int fd = dial(&usual);
    say(fd, row->bytes, cut);
    for (size_t at = cut; at < n; at += step) {
        settle();
        say(fd, row->bytes + at, n - at < step ? n - at : step);
    }
    settle();
    if (row->stays)
        shutdown(fd, SHUT_WR);
    size_t got = hear_all(fd, answers);
    close(fd);
    char seen[200];
    statuses(answers, got, false, seen, sizeof seen);
    if (strcmp(seen, row->statuses) != 0 || strcmp(calls(), row->calls) != 0)
        fail_msg("%s (cut at %zu): %s, %s\n%s", row->rule, cut, seen, calls(), answers);
}

static void
rules_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_row(&rows[i], strlen(rows[i].bytes), 1);
}

static void
rules_byte_by_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_row(&rows[i], 0, 1);
}

static void
rules_split_everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (size_t cut = 1; cut < strlen(rows[i].bytes); cut++)
            check_row(&rows[i], cut, strlen(rows[i].bytes));
}

/* One request on a connection of its own; the answer is in answers[]. */
static size_t
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

static const char *
body(void)
{
    return strstr(answers, "\r\n\r\n") + 4;
}

static void
answer_is_json_with_newline(void **state)
{
    (void)state;
    ask(GET("/now"));
    assert_string_equal(body(), "{\"status\":\"/now\"}\n");
    assert_string_equal(header(answers, "Content-Type"), "application/json");
    assert_string_equal(header(answers, "Content-Length"), "18");
    assert_string_equal(header(answers, "Cache-Control"), "no-store");
    assert_null(header(answers, "Server"));
    assert_null(header(answers, "Connection"));
}

static void
date_is_imf_fixdate(void **state)
{
    (void)state;
    ask(GET("/now"));
    const char *date = header(answers, "Date");
    assert_non_null(date);
    struct tm tm = { 0 };
    const char *end = strptime(date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    assert_true(end && *end == '\0');
    time_t now = time(NULL), said = timegm(&tm);
    assert_true(said >= now - 2 && said <= now + 1);
    assert_int_equal(strlen(date), 29);
}

static void
head_is_get_without_body(void **state)
{
    (void)state;
    ask(HEAD("/now") GET("/now"));
    assert_string_equal(header(answers, "Content-Length"), "18");
    const char *second = body();
    assert_int_equal(strncmp(second, "HTTP/1.1 200 OK\r\n", 17), 0);
    assert_string_equal(strstr(second, "\r\n\r\n") + 4, "{\"status\":\"/now\"}\n");
    ask(HEAD("/400"));
    assert_string_equal(body(), "");
    assert_string_not_equal(header(answers, "Content-Length"), "0");
}

static void
no_content_has_no_length(void **state)
{
    (void)state;
    ask("DELETE /204 HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(strncmp(answers, "HTTP/1.1 204 No Content\r\n", 25), 0);
    assert_null(header(answers, "Content-Length"));
    assert_null(header(answers, "Content-Type"));
    assert_string_equal(body(), "");
}

static void
created_says_so(void **state)
{
    (void)state;
    ask(POST("/create", "14", "", "{\"name\":\"ann\"}"));
    assert_int_equal(strncmp(answers, "HTTP/1.1 201 Created\r\n", 22), 0);
    assert_non_null(strstr(body(), "\"name\":\"ann\""));
}

static void
validate_answers_ok_with_a_bearer(void **state)
{
    (void)state;
    static const char *const methods[] = { "GET", "POST", "PUT", "PATCH", "DELETE" };
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        char bytes[200];
        snprintf(bytes, sizeof bytes, "%s /validate HTTP/1.1\r\n" HOST "\r\n", methods[i]);
        ask(bytes);
        assert_int_equal(strncmp(answers, "HTTP/1.1 200 OK\r\n", 17), 0);
        assert_string_equal(header(answers, "Authorization"), "Bearer e30.e30.c2ln");
        assert_string_equal(header(answers, "Content-Type"), "text/plain; charset=utf-8");
        assert_string_equal(body(), "OK");
    }
    ask(HEAD("/validate"));
    assert_string_equal(header(answers, "Content-Length"), "2");
    assert_string_equal(body(), "");
}

static void
refusals_are_problems(void **state)
{
    (void)state;
    ask(GET("/400?a=b"));
    assert_string_equal(header(answers, "Content-Type"), "application/problem+json");
    assert_string_equal(body(),
                        "{\"type\":\"https://tools.ietf.org/html/rfc7231#section-6.5.1\","
                        "\"title\":\"Bad Request\",\"status\":400,\"detail\":\"as the path says\","
                        "\"instance\":\"/400\",\"code\":\"VALIDATION\"}\n");
}

static void
framing_errors_are_problems(void **state)
{
    (void)state;
    ask("GET /now HTTP/1.1\r\n\r\n");
    assert_string_equal(header(answers, "Content-Type"), "application/problem+json");
    assert_string_equal(header(answers, "Connection"), "close");
    assert_non_null(strstr(body(), "\"status\":400"));
    assert_null(strstr(body(), "\"instance\""));
    ask(POST("/now", "64", "", ""));
    assert_non_null(strstr(body(), "\"detail\":\"request body is too large limit=64 bytes\""));
    assert_non_null(strstr(body(), "\"instance\":\"/now\""));
}

static void
challenges(void **state)
{
    (void)state;
    ask(GET("/401"));
    assert_string_equal(header(answers, "WWW-Authenticate"), "Bearer realm=\"kaiten\"");
    ask("GET /401 HTTP/1.1\r\n" HOST "Authorization: Bearer x\r\n\r\n");
    assert_string_equal(header(answers, "WWW-Authenticate"),
                        "Bearer realm=\"kaiten\", error=\"invalid_token\"");
    ask("GET /403 HTTP/1.1\r\n" HOST "Authorization: Bearer x\r\n\r\n");
    assert_string_equal(header(answers, "WWW-Authenticate"),
                        "Bearer realm=\"kaiten\", error=\"insufficient_scope\","
                        " scope=\"write:tokens\"");
    ask(GET("/405"));
    assert_string_equal(header(answers, "Allow"), "GET, HEAD");
    assert_null(header(answers, "WWW-Authenticate"));
    ask(GET("/429"));
    assert_string_equal(header(answers, "Retry-After"), "1");
    ask(GET("/503"));
    assert_string_equal(header(answers, "Retry-After"), "1");
    ask(GET("/400"));
    assert_null(header(answers, "Retry-After"));
}

static void
keep_alive_is_said_to_old_clients_only(void **state)
{
    (void)state;
    ask("GET /now HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_string_equal(header(answers, "Connection"), "keep-alive");
    ask("GET /now HTTP/1.0\r\n\r\n");
    assert_string_equal(header(answers, "Connection"), "close");
}

static void
bodies(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *status, *says;
    } cases[] = {
        { POST("/create", "0", "", ""), "400", "\"detail\":\"request body is required\"" },
        { POST("/create", "14", "", "{\"NAME\":\"ann\"}"), "201", "\"name\":\"ann\"" },
        { POST("/create", "14", "Content-Type: application/json; charset=utf-8\r\n",
               "{\"name\":\"ann\"}"), "201", "\"name\":\"ann\"" },
        { POST("/create", "14", "Content-Type: Application/JSON\r\n", "{\"name\":\"ann\"}"), "201",
          "\"name\":\"ann\"" },
        { POST("/create", "14", "Content-Type: application/merge-patch+json\r\n",
               "{\"name\":\"ann\"}"), "201", "\"name\":\"ann\"" },
        { POST("/create", "14", "Content-Type: text/xml\r\n", "{\"name\":\"ann\"}"), "415",
          "\"detail\":\"validation failed\",\"instance\":\"/create\",\"code\":\"UNKNOWN\","
          "\"errors\":[{\"message\":\"unknown content type: text/xml\",\"location\":\"body\"}]" },
        { POST("/create", "7", "", "{\"name\""), "400", "\"location\":\"body\",\"value\":"
          "\"{\\\"name\\\"\"}]" },
        { POST("/mint", "7", "", "{\"name\""), "400", "\"location\":\"body\"}]" },
        { POST("/create", "22", "", "{\"name\":\"a\",\"NAME\":\"\"}"), "400",
          "\"location\":\"body\"" },
        { POST("/rotate", "0", "", ""), "200", "{" },
        { GET("/list"), "200", "none" },
        { GET("/list?limit=3&x=1&x=2"), "200", "limit=3" },
        { GET("/list?limit=&cursor=a%20b"), "200", "cursor=a b" },
        { GET("/list?limit=3&limit=4"), "422", "\"errors\":[{\"message\":\"expected it only once\","
          "\"location\":\"query.limit\"}]" },
        { GET("/list?limit=%zz"), "400", "\"code\":\"VALIDATION\"" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ask(cases[i].bytes);
        if (strncmp(answers + 9, cases[i].status, 3) != 0 || !strstr(body(), cases[i].says))
            fail_msg("%s\n%s", cases[i].bytes, answers);
    }
}

/* --- time, order, ends -------------------------------------------------------------------- */

static void
let_go(void *ctx)
{
    (void)ctx;
    struct request *rq = bench.held;
    bench.held = NULL;
    work(rq);
    rq->transport->answer(rq);
}

static void
next_is_not_parsed_before_the_answer(void **state)
{
    (void)state;
    calls_reset();
    int fd = dial(&usual);
    say(fd, GET("/hold") NEXT, strlen(GET("/hold") NEXT));
    settle();
    assert_string_equal(calls(), "GET /hold\n");
    assert_true(is_silent(fd));
    on_loop(let_go, NULL);
    settle();
    assert_string_equal(calls(), "GET /hold\n" NEXT_CALL);
    shutdown(fd, SHUT_WR);
    char seen[64];
    statuses(answers, hear_all(fd, answers), false, seen, sizeof seen);
    assert_string_equal(seen, "200 200");
    close(fd);
}

static void
pipelined_inline_answers_come_in_one_piece(void **state)
{
    (void)state;
    int fd = dial(&usual);
    const char *bytes = GET("/inline/1") GET("/inline/2") GET("/inline/3");
    say(fd, bytes, strlen(bytes));
    settle();
    hear_one(fd, answers);
    char seen[64];
    statuses(answers, strlen(answers), false, seen, sizeof seen);
    assert_string_equal(seen, "200 200 200");
    close(fd);
}

static void
client_may_leave_while_its_request_is_at_work(void **state)
{
    (void)state;
    int fd = dial(&usual);
    say(fd, GET("/hold"), strlen(GET("/hold")));
    settle();
    close(fd);
    settle();
    on_loop(let_go, NULL);
    settle();
}

static void
half_closed_clients_are_answered(void **state)
{
    (void)state;
    int fd = dial(&usual);
    say(fd, GET("/hold"), strlen(GET("/hold")));
    shutdown(fd, SHUT_WR);
    settle();
    on_loop(let_go, NULL);
    char seen[64];
    statuses(answers, hear_all(fd, answers), false, seen, sizeof seen);
    assert_string_equal(seen, "200");
    close(fd);
}

static void
half_a_request_is_no_request(void **state)
{
    (void)state;
    static const char *const parts[] = {
        "GET /now HTTP/1.1\r\n" HOST,
        "POST /now HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nabc",
        "POST /now HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    };
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(ask(parts[i]), 0);
        assert_string_equal(calls(), "");
    }
}

static void
continue_is_said_once_the_head_is_good(void **state)
{
    (void)state;
    calls_reset();
    int fd = dial(&usual);
    const char *head = "POST /now HTTP/1.1\r\n" HOST "Authorization: Bearer x\r\n"
                       "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    say(fd, head, strlen(head));
    settle();
    hear_one(fd, answers);
    assert_string_equal(answers, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_string_equal(calls(), "");
    say(fd, "abc", 3);
    settle();
    assert_string_equal(calls(), "POST /now [abc] <x>\n");
    hear_one(fd, answers);
    assert_int_equal(strncmp(answers, "HTTP/1.1 200 OK\r\n", 17), 0);
    close(fd);
}

static void
continue_is_not_said_to_strangers(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "POST /401 HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        "POST /401 HTTP/1.1\r\n" HOST "Authorization: Basic x\r\n"
        "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        "POST /401 HTTP/1.1\r\n" HOST "Authorization: Bearer x\r\n"
        "Expect: 100-continue\r\nContent-Length: 64\r\n\r\n",
        "POST /now HTTP/1.1\r\n" HOST "Authorization: Bearer x\r\n"
        "Expect: 100-continue\r\nContent-Length: 64\r\n\r\n",
    };
    static const char *const seen[] = { "401", "401", "401", "413" };
    for (size_t i = 0; i < 4; i++) {
        int fd = dial(&usual);
        say(fd, heads[i], strlen(heads[i]));
        char said[64];
        statuses(answers, hear_all(fd, answers), false, said, sizeof said);
        assert_string_equal(said, seen[i]);
        assert_string_equal(header(answers, "Connection"), "close");
        close(fd);
    }
}

/* Strangers' bodies: a short one is read past, in any form; a long one is not waited for. */
static void
bodies_of_the_refused_are_not_kept(void **state)
{
    (void)state;
    static const struct listen_limits roomy = { .body_max = 1024 * 1024 };
    static const struct {
        const char *first, *rest, *seen;
    } cases[] = {
        { "POST /401 HTTP/1.1\r\n" HOST "Content-Length: 6\r\n\r\nabc", "def" NEXT, "401 200" },
        { "POST /401 HTTP/1.1\r\n" HOST "Content-Length: 65537\r\n\r\nabc", NEXT, "401" },
        { "POST /401 HTTP/1.1\r\n" HOST CHUNKED "\r\n", "1\r\na\r\n0\r\n\r\n" NEXT, "401 200" },
        { "POST /401 HTTP/1.1\r\n" HOST CHUNKED "\r\n", "10001\r\na", "401" },
        { "POST /401 HTTP/1.1\r\n" HOST CHUNKED "\r\n", "0x1\r\na" NEXT, "400" },
        { "POST /401 HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nabc",
          "dPOST /now HTTP/1.1\r\n" HOST "Content-Length: 1048576\r\n\r\n", "401 413" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        calls_reset();
        int fd = dial(&roomy);
        say(fd, cases[i].first, strlen(cases[i].first));
        settle();
        say(fd, cases[i].rest, strlen(cases[i].rest));
        shutdown(fd, SHUT_WR);
        char seen[64];
        statuses(answers, hear_all(fd, answers), false, seen, sizeof seen);
        assert_string_equal(seen, cases[i].seen);
        assert_null(strchr(calls(), '['));
        close(fd);
    }
}

static _Atomic size_t strangers;

static void
arrive_counted(void *ctx)
{
    struct arrival *arrival = ctx;
    struct conn *conn = conn_new(bench.loops[0], arrival->fd, &http_ops, arrival->limits);
    assert_non_null(conn);
    conn->strangers = &strangers;
    conn_start(conn);
}

static int
dial_counted(const struct listen_limits *limits)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    evutil_make_socket_nonblocking(pair[1]);
    on_loop(arrive_counted, &(struct arrival){ pair[1], limits });
    return pair[0];
}

/* path, then so many bytes of a body that has one more; what the daemon says when it says
 * something. */
static int
half_a_body(const struct listen_limits *limits, const char *path, size_t n)
{
    static char bytes[HTTP_BODY_FREE * 3];
    int at = snprintf(bytes, sizeof bytes,
                      "POST %s HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n", path, n + 1);
    memset(bytes + at, 'x', n);
    int fd = dial_counted(limits);
    say(fd, bytes, (size_t)at + n);
    settle();
    settle();
    return fd;
}

static void
bodies_of_the_unverified_share_a_limit(void **state)
{
    (void)state;
    static const struct listen_limits tight = { .body_max = 1024 * 1024, .strangers_max = 1000 };
    int free_of_charge = half_a_body(&tight, "/now", HTTP_BODY_FREE);
    assert_int_equal(atomic_load(&strangers), 0);
    int most = half_a_body(&tight, "/now", HTTP_BODY_FREE + 999);
    assert_int_equal(atomic_load(&strangers), 999);
    int refused = half_a_body(&tight, "/now", HTTP_BODY_FREE + 2);
    hear_all(refused, answers);
    assert_memory_equal(answers, "HTTP/1.1 503 ", 13);
    assert_string_equal(header(answers, "Connection"), "close");
    int known = half_a_body(&tight, "/known", 2 * HTTP_BODY_FREE);
    assert_int_equal(atomic_load(&strangers), 999);
    say(most, "x", 1);
    hear_one(most, answers);
    assert_memory_equal(answers, "HTTP/1.1 200 ", 13);
    assert_int_equal(atomic_load(&strangers), 0);
    int again = half_a_body(&tight, "/now", HTTP_BODY_FREE + 999);
    assert_int_equal(atomic_load(&strangers), 999);
    close(again);
    settle();
    settle();
    assert_int_equal(atomic_load(&strangers), 0);
    close(free_of_charge), close(most), close(refused), close(known);
}

/* A reset would destroy the answer on its way: only TCP does that. */
static void
refusal_arrives_although_more_was_sent(void **state)
{
    (void)state;
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof at;
    assert_int_equal(bind(listener, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    getsockname(listener, (struct sockaddr *)&at, &len);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, len), 0);
    int theirs = accept(listener, NULL, NULL);
    evutil_make_socket_nonblocking(theirs);
    on_loop(arrive, &(struct arrival){ theirs, &usual });
    say(fd, "GET /now\r\n\r\n", 12);
    static const char more[40 * 1024];
    for (int i = 0; i < 40; i++) {
        say(fd, more, sizeof more / 40);
        settle();
    }
    struct timeval patience = { PATIENCE_MS / 1000, 0 };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    hear_one(fd, answers);
    assert_int_equal(strncmp(answers, "HTTP/1.1 400 ", 13), 0);
    close(fd);
    close(listener);
}

static void
deadlines(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *seen;
        struct listen_limits limits;
    } cases[] = {
        { "", "", { .first_byte_ms = NOW_MS } },
        { GET("/now"), "200", { .idle_ms = NOW_MS } },
        { "GET /now HTTP/1.1\r\n", "408", { .head_ms = NOW_MS } },
        { GET("/now") "GET", "200 408", { .head_ms = NOW_MS } },
        { POST("/now", "10", "", "abc"), "408", { .head_ms = 60000, .body_ms = NOW_MS,
                                                 .body_max = 64 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = dial(&cases[i].limits);
        say(fd, cases[i].bytes, strlen(cases[i].bytes));
        char seen[64];
        statuses(answers, hear_all(fd, answers), false, seen, sizeof seen);
        assert_string_equal(seen, cases[i].seen);
        close(fd);
    }
}

/* A byte now and then moves no deadline. */
static void
dribble_is_cut_off(void **state)
{
    (void)state;
    static const struct listen_limits limits = { .head_ms = 3 * NOW_MS };
    int64_t start = clock_mono_ms();
    int fd = dial(&limits);
    say(fd, "GET / HTTP/1.1\r\nA: ", 19);
    while (is_silent(fd) && clock_mono_ms() - start < PATIENCE_MS)
        say(fd, "a", 1);
    assert_in_range(clock_mono_ms() - start, 3 * NOW_MS - 1, PATIENCE_MS);
    hear_one(fd, answers);
    assert_int_equal(strncmp(answers, "HTTP/1.1 408 ", 13), 0);
    close(fd);
}

/* Asks ten times, a piece now and then. False: this process had no turn for longer than a head may
 * take. */
static bool
pipelines_steadily(char *seen, size_t size)
{
    static const struct listen_limits limits = { .head_ms = 5 * NOW_MS };
    int fd = dial(&limits);
    bool steady = true;
    say(fd, "GET /now ", 9);
    for (int i = 0; i < 10; i++) {
        int64_t before = clock_mono_ms();
        usleep(NOW_MS * 1000);
        say(fd, "HTTP/1.1\r\n" HOST "\r\nGET /now ", 30);
        settle();
        steady &= clock_mono_ms() - before < 3 * NOW_MS;
    }
    ssize_t got = recv(fd, answers, ANSWERS - 1, 0);
    answers[got > 0 ? got : 0] = '\0';
    statuses(answers, got > 0 ? (size_t)got : 0, false, seen, size);
    close(fd);
    return steady;
}

/* Each finished request gives the next one a head deadline of its own. */
static void
steady_pipeliners_are_not_cut_off(void **state)
{
    (void)state;
    char seen[64];
    bool steady = false;
    for (int tries = 0; tries < 100 && !steady; tries++)
        steady = pipelines_steadily(seen, sizeof seen);
    assert_true(steady);
    assert_string_equal(seen, "200 200 200 200 200 200 200 200 200 200");
}

static void
old_connections_end_with_an_answer(void **state)
{
    (void)state;
    static const struct listen_limits limits = { .lifetime_ms = 5 * NOW_MS };
    int fd = -1;
    for (int64_t start = 0; clock_mono_ms() - start >= 5 * NOW_MS;) { /* answered while young */
        if (fd >= 0)
            close(fd);
        start = clock_mono_ms();
        fd = dial(&limits);
        say(fd, GET("/now"), strlen(GET("/now")));
        settle();
        hear_one(fd, answers);
    }
    assert_null(header(answers, "Connection"));
    usleep(6 * NOW_MS * 1000);
    say(fd, GET("/now"), strlen(GET("/now")));
    hear_all(fd, answers);
    assert_string_equal(header(answers, "Connection"), "close");
    close(fd);
}

static void
drain(void *ctx)
{
    (void)ctx;
    conn_drain_all(bench.loops[0], NULL);
}

static void
draining_answers_what_is_at_work(void **state)
{
    (void)state;
    int fd = dial(&usual);
    say(fd, GET("/hold") NEXT, strlen(GET("/hold") NEXT));
    settle();
    calls_reset();
    on_loop(drain, NULL);
    on_loop(let_go, NULL);
    char seen[64];
    statuses(answers, hear_all(fd, answers), false, seen, sizeof seen);
    assert_string_equal(seen, "200");
    assert_string_equal(header(answers, "Connection"), "close");
    assert_string_equal(calls(), "");
    close(fd);
}

/* 16 KiB of head and no more are looked at, however they come. */
static void
head_is_bounded(void **state)
{
    (void)state;
    int fd = dial(&usual);
    say(fd, "GET /now HTTP/1.1\r\nA: ", 22);
    static char more[32 * 1024];
    memset(more, 'a', sizeof more);
    say(fd, more, sizeof more);
    char seen[64];
    statuses(answers, hear_all(fd, answers), false, seen, sizeof seen);
    assert_string_equal(seen, "431");
    close(fd);
}

static int
setup(void **state)
{
    (void)state;
    kt_buf_init(&bench.calls, 1024 * 1024);
    bench.loops = loops_new(1);
    return bench.loops && loops_start(bench.loops) == 0 ? 0 : -1;
}

static int
teardown(void **state)
{
    (void)state;
    loops_stop(bench.loops);
    kt_buf_done(&bench.calls);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_whole),
        cmocka_unit_test(rules_byte_by_byte),
        cmocka_unit_test(rules_split_everywhere),
        cmocka_unit_test(answer_is_json_with_newline),
        cmocka_unit_test(date_is_imf_fixdate),
        cmocka_unit_test(head_is_get_without_body),
        cmocka_unit_test(no_content_has_no_length),
        cmocka_unit_test(created_says_so),
        cmocka_unit_test(validate_answers_ok_with_a_bearer),
        cmocka_unit_test(refusals_are_problems),
        cmocka_unit_test(framing_errors_are_problems),
        cmocka_unit_test(challenges),
        cmocka_unit_test(keep_alive_is_said_to_old_clients_only),
        cmocka_unit_test(bodies),
        cmocka_unit_test(next_is_not_parsed_before_the_answer),
        cmocka_unit_test(pipelined_inline_answers_come_in_one_piece),
        cmocka_unit_test(client_may_leave_while_its_request_is_at_work),
        cmocka_unit_test(half_closed_clients_are_answered),
        cmocka_unit_test(half_a_request_is_no_request),
        cmocka_unit_test(continue_is_said_once_the_head_is_good),
        cmocka_unit_test(continue_is_not_said_to_strangers),
        cmocka_unit_test(bodies_of_the_refused_are_not_kept),
        cmocka_unit_test(bodies_of_the_unverified_share_a_limit),
        cmocka_unit_test(refusal_arrives_although_more_was_sent),
        cmocka_unit_test(deadlines),
        cmocka_unit_test(dribble_is_cut_off),
        cmocka_unit_test(steady_pipeliners_are_not_cut_off),
        cmocka_unit_test(old_connections_end_with_an_answer),
        cmocka_unit_test(draining_answers_what_is_at_work),
        cmocka_unit_test(head_is_bounded),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
