/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* HTTP over a connection that lies in memory. The same bytes, whole and in pieces, must mean the
 * same requests and the same answers; answers must be complete; after the last one nothing is
 * parsed. */
#include "config.h"

#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/transport/conn.h"
#include "daemon/transport/http.h"
#include "tests/unit/door.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

extern unsigned fuzz_sample;
unsigned fuzz_sample = 4; /* stub-main.c: each input runs twice, piece by piece */

enum { OUT_MAX = 16 * 1024 * 1024, INPUT_MAX = 60 * 1024, BODY_MAX = 300 };

/* --- a daemon of one connection ----------------------------------------------------------- */

static struct {
    struct request request;
    struct kt_arena arena;
    struct kt_buf calls;
    struct request *parked;
    bool finished;
} bench;

struct request *
loop_request(struct loop *loop)
{
    (void)loop;
    return &bench.request;
}

struct kt_arena *
loop_arena(struct loop *loop)
{
    (void)loop;
    return &bench.arena;
}

unsigned
loop_number(const struct loop *loop)
{
    (void)loop;
    return 0;
}

int64_t
loop_now_ms(struct loop *loop)
{
    (void)loop;
    return 1;
}

void
loop_unwatch(struct request *rq)
{
    if (rq->watch_at)
        abort();
}

void
conn_enter(struct conn *conn, enum conn_phase phase)
{
    conn->phase = phase;
}

void
conn_begin(struct conn *conn)
{
    conn->in_flight++;
}

void
conn_end(struct conn *conn)
{
    if (conn->in_flight-- == 0)
        abort();
    conn->held = false;
}

void
conn_hold(struct conn *conn, unsigned at_most)
{
    if (conn->in_flight <= at_most)
        abort();
    conn->held = true;
}

bool
conn_ready(struct conn *conn)
{
    return !conn->held && !conn->finishing && !conn->dead;
}

struct kt_buf *
conn_out(struct conn *conn)
{
    return &conn->out;
}

void
conn_known(struct conn *conn)
{
    (void)conn;
}

void
conn_secret(struct conn *conn)
{
    (void)conn;
}

/* Nothing leaves the loop here, so that nothing is given up. */
void
conn_leave(struct conn *conn)
{
    (void)conn;
    abort();
}

void
conn_back(struct conn *conn)
{
    (void)conn;
    abort();
}

void
conn_finish(struct conn *conn)
{
    conn->finishing = true;
}

void
conn_close(struct conn *conn)
{
    conn->dead = true;
}

static bool
begins(struct kt_str path, char c)
{
    return path.n > 1 && path.p[1] == c;
}

enum pipe_head
pipeline_head(struct request *rq)
{
    if (begins(rq->path, 's'))
        fail(&rq->call, KT_UNAUTHORIZED, "Auth.InvalidToken", "Invalid token");
    return rq->call.err.kind ? PIPE_HEAD_REFUSED : PIPE_HEAD_OPEN;
}

bool
pipeline_may_inline_http(struct kt_str method, struct kt_str path)
{
    (void)method;
    return begins(path, 'i') || begins(path, 'd');
}

bool
pipeline_names_http(struct kt_str method, struct kt_str path)
{
    (void)method;
    return begins(path, 'd');
}

static void
note(const char *name, struct kt_str s)
{
    kt_buf_printf(&bench.calls, " %s %zu:", name, s.n);
    kt_buf_put_str(&bench.calls, s);
}

/* The path says which operation it is and whether it is answered here or later. */
enum pipe_result
pipeline_run(struct request *rq)
{
    if (rq->inline_only && begins(rq->path, 'd'))
        return PIPE_DECLINED;
    note("method", rq->method);
    note("path", rq->path);
    note("query", rq->query);
    note("type", rq->content_type);
    note("encoding", rq->content_encoding);
    note("credential", (struct kt_str){ rq->credential.p, rq->credential.n });
    /* The body of who is refused for the head is there only when it came with it. */
    bool refused = pipeline_head(rq) == PIPE_HEAD_REFUSED;
    if (!refused)
        note("body", rq->body);
    kt_buf_putc(&bench.calls, '\n');
    enum kt_op_id id = begins(rq->path, 'c') ? KT_OP_ACCOUNT_CREATE
        : begins(rq->path, 't') ? KT_OP_TOKEN_CREATE
        : begins(rq->path, 'l') ? KT_OP_TOKEN_LIST : KT_OP_TOKEN_REVOKE;
    rq->spec = &kt_op_specs[id];
    if (!refused && rq->transport->decode(rq) == 0 && rq->spec->out)
        kt_shape_clear(rq->spec->out, &rq->out);
    if (begins(rq->path, 'p')) {
        bench.parked = rq;
        return PIPE_PARKED;
    }
    rq->transport->answer(rq);
    return PIPE_ANSWERED;
}

/* --- one run ------------------------------------------------------------------------------ */

static const struct listen_limits limits = { .body_max = BODY_MAX };

static struct conn *
open_conn(void)
{
    struct conn *conn = calloc(1, sizeof *conn + http_ops.state_size);
    if (!conn)
        abort();
    conn->ops = &http_ops;
    conn->limits = &limits;
    kt_buf_init(&conn->out, OUT_MAX);
    kt_buf_init(&bench.calls, OUT_MAX);
    return conn;
}

static void
answer_parked(void)
{
    struct request *rq = bench.parked;
    bench.parked = NULL;
    if (rq)
        rq->transport->answer(rq);
}

/* Gives n bytes more; a copy of exact size each time, so that no view survives unseen. */
static void
feed(struct conn *conn, struct kt_buf *in, const uint8_t *data, size_t n)
{
    kt_buf_put(in, data, n);
    while (in->n && conn_ready(conn)) {
        char *copy = malloc(in->n);
        memcpy(copy, in->p, in->n);
        size_t used = conn->ops->readable(conn, (struct kt_str){ copy, in->n });
        free(copy);
        if (used > in->n)
            abort();
        memmove(in->p, in->p + used, in->n - used);
        in->n -= used;
        answer_parked();
        if (used == 0)
            return;
    }
}

static void
close_conn(struct conn *conn)
{
    if (conn->in_flight)
        abort();
    conn->ops->freed(conn);
    kt_buf_done(&conn->out);
    kt_buf_done(&bench.calls);
    free(conn);
}

static void
run(struct conn *conn, const uint8_t *data, size_t size, size_t step)
{
    struct kt_buf in;
    kt_buf_init(&in, OUT_MAX);
    for (size_t at = 0; at < size; at += step)
        feed(conn, &in, data + at, size - at < step ? size - at : step);
    /* A line that is not over is not looked at twice: end it, so that both runs see it. */
    feed(conn, &in, (const uint8_t *)"\r\n\r\n", 4);
    kt_buf_done(&in);
}

/* --- what must hold ----------------------------------------------------------------------- */

static struct kt_str
line_of(struct kt_str *rest)
{
    const char *end = memmem(rest->p, rest->n, "\r\n", 2);
    if (!end)
        abort();
    struct kt_str line = { rest->p, (size_t)(end - rest->p) };
    *rest = (struct kt_str){ end + 2, rest->n - line.n - 2 };
    return line;
}

static bool
starts(struct kt_str s, const char *with)
{
    return s.n >= strlen(with) && memcmp(s.p, with, strlen(with)) == 0;
}

/* Bodies end where their length says, unless the method was HEAD: then the next answer begins. */
static void
pass_body(struct kt_str *rest, size_t n)
{
    if (starts(*rest, "HTTP/1.1 ") || rest->n == 0)
        return;
    if (n > rest->n)
        abort();
    *rest = (struct kt_str){ rest->p + n, rest->n - n };
}

static void
answers_are_whole(struct kt_str rest)
{
    while (rest.n) {
        if (!starts(line_of(&rest), "HTTP/1.1 "))
            abort();
        size_t n = 0;
        for (struct kt_str line = line_of(&rest); line.n; line = line_of(&rest))
            if (starts(line, "Content-Length: "))
                n = strtoul(line.p + 16, NULL, 10);
        pass_body(&rest, n);
    }
}

/* Dates are the clock's. */
static void
blank_dates(struct kt_buf *out)
{
    if (out->n == 0)
        return;
    char *p = out->p, *end = out->p + out->n;
    while ((p = memmem(p, (size_t)(end - p), "\r\nDate: ", 8))) {
        memset(p + 8, '-', 29);
        p += 8;
    }
}

static bool
expects(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i + 6 <= size; i++)
        if (strncasecmp((const char *)data + i, "expect", 6) == 0)
            return true;
    return false;
}

static void
same(struct kt_str a, struct kt_str b)
{
    if (!kt_str_eq(a, b))
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > INPUT_MAX)
        return 0;
    size_t step = data[0] % 32 + 1;
    data++, size--;
    if (!bench.arena.cap) {
        log_set_level(LOG_LEVEL_ERROR);
        kt_arena_init(&bench.arena, REQUEST_ARENA_MAX);
    }

    struct conn *whole = open_conn();
    run(whole, data, size, size ? size : 1);
    blank_dates(&whole->out);
    answers_are_whole(kt_buf_str(&whole->out));
    struct kt_buf calls = bench.calls;

    struct conn *pieces = open_conn();
    run(pieces, data, size, step);
    blank_dates(&pieces->out);
    answers_are_whole(kt_buf_str(&pieces->out));
    /* Whether a client waits for a word depends on when its bytes come. */
    if (!expects(data, size)) {
        same(kt_buf_str(&calls), kt_buf_str(&bench.calls));
        same(kt_buf_str(&whole->out), kt_buf_str(&pieces->out));
    }
    close_conn(pieces);
    bench.calls = calls;
    close_conn(whole);
    return 0;
}
