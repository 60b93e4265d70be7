/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/http.h"

#include "client/proto/encode.h"
#include "client/proto/rules.h"
#include "daemon/codec/body.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/pipeline.h"
#include "daemon/transport/http_chunk.h"
#include "daemon/transport/http_head.h"

#include <stdatomic.h>

/* Of a connection. One request at a time: what belongs to a request is of the one that is read or
 * at work. */
struct http {
    struct request *rq; /* its head is here, its body is not yet */
    struct kt_buf body;
    struct http_chunk chunk;
    uint64_t left;      /* bytes of the body that are still to come, when their number is known */
    size_t counted;     /* bytes of the body that conn->strangers counts */
    bool verified;      /* the caller is known: the body is not counted */
    bool dropped;       /* the body is read past and thrown away */
    size_t seen;        /* bytes of an unfinished head that were looked at */
    bool chunked;
    int64_t born_ms;    /* monotonic; 0: no byte came yet */
    struct http_framing framing;
};

static void
body_done(struct conn *conn)
{
    struct http *http = conn_state(conn);
    if (http->counted)
        atomic_fetch_sub(conn->strangers, http->counted);
    http->counted = 0;
    kt_buf_done(&http->body);
}

/* Of a request that was run, and has its body. */
static void
end_request(struct conn *conn, struct request *rq)
{
    if (rq->payload_counted)
        atomic_fetch_sub(conn->strangers, rq->payload_counted);
    request_done(rq);
}

/* Whether there may be so many bytes more: who is nobody yet shares what there is with all who are
 * nobody, beside a little that is enough for any honest request. */
static bool
body_may_grow(struct conn *conn, size_t n)
{
    struct http *http = conn_state(conn);
    size_t size = http->body.n + n;
    if (http->verified || !conn->strangers || size <= HTTP_BODY_FREE + http->counted)
        return true;
    size_t more = size - HTTP_BODY_FREE - http->counted;
    if (atomic_fetch_add(conn->strangers, more) + more > conn->limits->strangers_max) {
        atomic_fetch_sub(conn->strangers, more);
        return false;
    }
    http->counted += more;
    return true;
}

/* Where bodies are looked at, a body that nobody has read is refused: whoever may not ask at all is
 * told that, whatever came along. */
static int
decode(struct request *rq)
{
    if (rq->body_refused)
        return fail(&rq->call, KT_TOO_LARGE, NULL, "request body is too large limit=%zu bytes",
                    rq->body_refused);
    int refused = http_query(rq);
    return refused ? refused : body_decode(rq);
}

static bool
reveals(const struct request *rq)
{
    return rq->bearer.p || (rq->spec && rq->spec->out && kt_shape_reveals(rq->spec->out));
}

/* Otherwise clients that never leave would keep one loop and an old configuration for ever. */
static bool
is_too_old(const struct conn *conn, const struct http *http)
{
    int64_t most = conn->limits->lifetime_ms;
    return most > 0 && loop_now_ms(conn->loop) - http->born_ms >= most;
}

static void
answer(struct request *rq)
{
    struct conn *conn = rq->conn;
    struct http *http = conn_state(conn);
    if (conn->draining || is_too_old(conn, http))
        http->framing.close = true;
    http_reply(conn_out(conn), rq, http->framing);
    if (reveals(rq))
        conn_secret(conn);
    pipeline_tell(rq);
    if (rq->call.who || rq->bearer.p)
        conn_known(conn);
    metrics_answered(rq);
    end_request(conn, rq);
    body_done(conn);
    if (http->framing.close)
        conn_finish(conn);
    conn_end(conn);
}

static void
leave(struct request *rq)
{
    conn_leave(rq->conn);
}

static void
drop(struct request *rq)
{
    struct conn *conn = rq->conn;
    end_request(conn, rq);
    conn_back(conn);
}

static const struct transport http_transport = {
    .door = DOOR_HTTP,
    .decode = decode,
    .answer = answer,
    .leave = leave,
    .drop = drop,
};

static enum kt_kind
kind_of(int status)
{
    for (int kind = KT_OK + 1; kind < KT_KIND_COUNT; kind++)
        if (kt_kind_info((enum kt_kind)kind)->http == status)
            return (enum kt_kind)kind;
    return KT_VALIDATION;
}

/* A request in the loop's memory, which nothing else uses before this one is answered. */
static struct request *
loop_request_init(struct conn *conn)
{
    struct kt_arena *arena = loop_arena(conn->loop);
    struct request *rq = loop_request(conn->loop);
    kt_arena_reset(arena);
    request_init(rq, arena, &http_transport, conn->loop, &conn->peer);
    rq->conn = conn;
    rq->inline_only = true;
    return rq;
}

/* Answers in place of the pipeline, which never saw the request. Where the request ends is not
 * known, so this is the last answer of the connection. */
static void
refuse(struct conn *conn, struct request *rq, enum kt_kind kind, const char *why)
{
    struct http *http = conn_state(conn);
    log_line(LOG_LEVEL_INFO, "http.refused", "peer=%s status=%d why=%s", conn->peer.remote,
             kt_kind_info(kind)->http, why);
    rq->call.err = (struct kt_error){ .kind = KT_OK }; /* what was said of the head is not all */
    fail(&rq->call, kind, NULL, "%s", why);
    http->framing.close = true;
    http->rq = NULL;
    conn_begin(conn);
    answer(rq);
}

/* RFC 6750 section 2.1, with the scheme spelled in one way only, as the reference reads it. */
static void
read_credential(struct request *rq, struct kt_str authorization)
{
    const struct kt_str scheme = KT_LIT("Bearer ");
    if (!authorization.p)
        return;
    rq->bad_scheme = authorization.n <= scheme.n ||
                     memcmp(authorization.p, scheme.p, scheme.n) != 0;
    if (rq->bad_scheme)
        return;
    struct kt_str rest = { authorization.p + scheme.n, authorization.n - scheme.n };
    while (rest.n > 1 && (*rest.p == ' ' || *rest.p == '\t'))
        rest = (struct kt_str){ rest.p + 1, rest.n - 1 };
    rq->credential = (struct kt_secret_view){ rest.p, rest.n };
}

/* The header is a string of RFC 8941 section 3.3.3: the key is what stands between the quotes. Text
 * without quotes is taken as it is; a string that does not end, or has escapes, is an empty key. */
static struct kt_str
read_key(struct kt_str text)
{
    if (text.n == 0 || *text.p != '"')
        return text;
    struct kt_str key = { text.p + 1, text.n - 1 };
    size_t n = 0;
    while (n < key.n && key.p[n] != '"' && key.p[n] != '\\')
        n++;
    bool whole = n + 1 == key.n && key.p[n] == '"';
    key.n = whole ? n : 0;
    return key;
}

static void
fill(struct request *rq, const struct http_head *head)
{
    rq->method = head->method;
    rq->path = head->path;
    rq->query = head->query;
    rq->content_type = head->content_type;
    rq->content_encoding = head->content_encoding;
    rq->idempotency_key = read_key(head->idempotency_key);
    rq->if_none_match = http_head_get(head, "If-None-Match");
    read_credential(rq, head->authorization);
}

static bool
keep(struct kt_arena *arena, struct kt_str *s)
{
    struct kt_str copy = kt_arena_str(arena, *s);
    bool ok = copy.p || !s->p;
    *s = copy;
    return ok;
}

/* The head's bytes are the connection's again as soon as the handler returns. */
static bool
copy_head(struct request *rq)
{
    struct kt_arena *arena = rq->call.arena;
    struct kt_str credential = { rq->credential.p, rq->credential.n };
    bool ok = keep(arena, &rq->method) && keep(arena, &rq->path) && keep(arena, &rq->query) &&
              keep(arena, &rq->content_type) && keep(arena, &rq->content_encoding) &&
              keep(arena, &rq->idempotency_key) && keep(arena, &rq->if_none_match) &&
              keep(arena, &credential);
    rq->credential = (struct kt_secret_view){ ok ? credential.p : NULL, ok ? credential.n : 0 };
    return ok;
}

/* False: it would have blocked, and has to be done again with memory of its own. */
static bool
run_inline(struct conn *conn, const struct http_head *head)
{
    struct request *rq = loop_request_init(conn);
    fill(rq, head);
    conn_begin(conn);
    if (pipeline_run(rq) != PIPE_DECLINED)
        return true;
    request_done(rq);
    conn_end(conn);
    return false;
}

static void
run(struct conn *conn, struct request *rq)
{
    struct http *http = conn_state(conn);
    http->rq = NULL;
    rq->payload = http->body;
    rq->payload_counted = http->counted;
    http->counted = 0;
    kt_buf_init(&http->body, 0);
    rq->body = rq->payload.n ? kt_buf_str(&rq->payload) : (struct kt_str){ NULL, 0 };
    request_starts(rq);
    conn_begin(conn);
    pipeline_run(rq);
    if (conn->in_flight > 0)
        conn_hold(conn, 0);
}

/* What follows is not read, so this is the last answer. A body that nobody wants may be less long;
 * its sender is refused for something else. */
static void
refuse_length(struct conn *conn, struct request *rq)
{
    struct http *http = conn_state(conn);
    rq->body_refused = conn->limits->body_max;
    http->framing.close = true;
    body_done(conn);
    run(conn, rq);
}

static void
begin_body(struct conn *conn, struct request *rq, const struct http_head *head)
{
    struct http *http = conn_state(conn);
    size_t most = conn->limits->body_max - 1;
    if (http->dropped && most > HTTP_DROP_MAX)
        most = HTTP_DROP_MAX;
    http->rq = rq;
    http->chunked = head->chunked;
    http->left = head->chunked ? 0 : (uint64_t)head->content_length;
    kt_buf_init(&http->body, most);
    http_chunk_init(&http->chunk, most);
    conn_enter(conn, CONN_BODY);
}

static bool
has_body(const struct http_head *head)
{
    return head->chunked || head->content_length > 0;
}

/* The body of a request that is refused for its head is not kept. A short one is read past, so that
 * the connection may stay; a long one, or one that waits for 100 Continue, ends the connection.
 * behind: bytes that have come behind the head. */
static void
begin_with_body(struct conn *conn, struct request *rq, const struct http_head *head, size_t behind)
{
    struct http *http = conn_state(conn);
    bool whole = !head->chunked && (uint64_t)head->content_length <= behind;
    bool waits = head->expect_continue && behind == 0;
    enum pipe_head verdict = whole ? PIPE_HEAD_OPEN : pipeline_head(rq);
    http->verified = verdict == PIPE_HEAD_KNOWN;
    http->dropped = verdict == PIPE_HEAD_REFUSED;
    if (http->dropped && (waits || head->content_length > HTTP_DROP_MAX)) {
        http->framing.close = true;
        run(conn, rq);
        return;
    }
    if (waits)
        kt_buf_put_str(conn_out(conn), KT_LIT("HTTP/1.1 100 Continue\r\n\r\n"));
    begin_body(conn, rq, head);
}

static struct request *
heap_request(struct conn *conn, const struct http_head *head)
{
    struct request *rq = request_new(&http_transport, conn->loop, &conn->peer);
    if (!rq)
        return NULL;
    rq->conn = conn;
    fill(rq, head);
    if (copy_head(rq))
        return rq;
    request_done(rq);
    return NULL;
}

static void
begin(struct conn *conn, const struct http_head *head, size_t behind)
{
    if (!has_body(head) && pipeline_may_inline_http(head->method, head->path) &&
        run_inline(conn, head))
        return;
    struct request *rq = heap_request(conn, head);
    if (!rq)
        refuse(conn, loop_request_init(conn), KT_UNAVAILABLE, "no memory for this request now");
    else if (head->content_length > 0 && (uint64_t)head->content_length >= conn->limits->body_max)
        refuse_length(conn, rq);
    else if (!has_body(head))
        run(conn, rq);
    else
        begin_with_body(conn, rq, head, behind);
}

/* A head is read again only when another line of it has come, so that one that comes byte by byte
 * costs no more than one that comes line by line. */
static bool
head_is_awaited(const struct http *http, struct kt_str bytes)
{
    return http->seen && http->seen <= bytes.n && bytes.n < HTTP_HEAD_MAX &&
           !memchr(bytes.p + http->seen, '\n', bytes.n - http->seen);
}

/* A slug that nobody gave is derived from the name, and not cut: two letters for each character at
 * most, and seven bytes. */
#define SLUG_MAX (2 * KT_NAME_LEN_MAX + 7)
#define LONGEST "/api/service-accounts/" "/tokens/" "/rotate/"
_Static_assert(HTTP_TARGET_NAMES_MAX >= 2 * SLUG_MAX + sizeof LONGEST, "every token has a path");

static bool
is_too_long(const struct http_head *head)
{
    return head->target.n > HTTP_TARGET_MAX && !pipeline_names_http(head->method, head->path);
}

static size_t
take_head(struct conn *conn, struct kt_str bytes)
{
    struct http *http = conn_state(conn);
    struct http_head head;
    size_t n = 0;
    enum http_parse parsed = HTTP_MORE;
    if (!head_is_awaited(http, bytes)) {
        parsed = http_head_read(bytes, &head, &n);
        http->framing = (struct http_framing){ .close = true,
                                               .head_only = kt_str_is(head.method, "HEAD") };
    }
    http->seen = parsed == HTTP_MORE ? bytes.n : 0;
    if (parsed == HTTP_MORE) {
        conn_enter(conn, CONN_HEAD);
        return 0;
    }
    http->verified = http->dropped = false;
    if (parsed == HTTP_BAD) {
        refuse(conn, loop_request_init(conn), kind_of(head.status), head.why);
        return 0;
    }
    http->framing.close = !head.keep_alive;
    http->framing.keep_alive = head.keep_alive && head.minor == 0;
    if (is_too_long(&head)) {
        refuse(conn, loop_request_init(conn), kind_of(414), "the target is longer than 2048 bytes");
        return 0;
    }
    begin(conn, &head, bytes.n - n);
    return n;
}

/* False: the request was refused. */
static bool
take_data(struct conn *conn, struct kt_str data)
{
    struct http *http = conn_state(conn);
    if (http->dropped)
        return true;
    if (body_may_grow(conn, data.n)) {
        kt_buf_put_str(&http->body, data);
        if (!http->body.failed)
            return true;
    }
    refuse(conn, http->rq, KT_UNAVAILABLE, "no memory for this body now");
    return false;
}

static size_t
take_counted(struct conn *conn, struct kt_str bytes)
{
    struct http *http = conn_state(conn);
    size_t n = bytes.n < http->left ? bytes.n : (size_t)http->left;
    http->left -= n;
    if (take_data(conn, (struct kt_str){ bytes.p, n }) && http->left == 0)
        run(conn, http->rq);
    return n;
}

static void
refuse_chunk(struct conn *conn)
{
    struct http *http = conn_state(conn);
    if (http->chunk.status == 413)
        refuse_length(conn, http->rq);
    else
        refuse(conn, http->rq, KT_VALIDATION, http->chunk.why);
}

static size_t
take_chunked(struct conn *conn, struct kt_str bytes)
{
    struct http *http = conn_state(conn);
    size_t done = 0, n;
    struct kt_str data;
    for (;;) {
        struct kt_str rest = { bytes.p + done, bytes.n - done };
        enum http_chunk_event event = http_chunk_next(&http->chunk, rest, &n, &data);
        done += n;
        if (event == HTTP_CHUNK_DATA && take_data(conn, data))
            continue;
        if (event == HTTP_CHUNK_BAD)
            refuse_chunk(conn);
        else if (event == HTTP_CHUNK_END)
            run(conn, http->rq);
        return done;
    }
}

static size_t
readable(struct conn *conn, struct kt_str bytes)
{
    struct http *http = conn_state(conn);
    size_t used = 0;
    if (!http->born_ms)
        http->born_ms = loop_now_ms(conn->loop);
    while (used < bytes.n && conn_ready(conn)) {
        struct kt_str rest = { bytes.p + used, bytes.n - used };
        size_t n = !http->rq ? take_head(conn, rest)
            : http->chunked ? take_chunked(conn, rest) : take_counted(conn, rest);
        if (n == 0)
            break;
        used += n;
    }
    return used;
}

static void
expired(struct conn *conn, enum conn_phase phase)
{
    struct http *http = conn_state(conn);
    if (phase == CONN_HEAD || phase == CONN_BODY)
        refuse(conn, http->rq ? http->rq : loop_request_init(conn), KT_TIMEOUT,
               "the request did not arrive in time");
    else
        conn_close(conn);
}

static void
freed(struct conn *conn)
{
    struct http *http = conn_state(conn);
    if (http->rq)
        request_done(http->rq);
    body_done(conn);
}

const struct conn_ops http_ops = {
    .name = "http",
    .state_size = sizeof(struct http),
    .readable = readable,
    .expired = expired,
    .freed = freed,
};
