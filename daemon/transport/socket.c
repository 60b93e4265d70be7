/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/socket.h"

#include "client/proto/pack.h"
#include "client/proto/utf8.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/pipeline.h"
#include "daemon/transport/socket_meta.h"
#include "daemon/transport/socket_peek.h"
#include "daemon/transport/socket_reply.h"

#include <stdlib.h>

enum {
    METHOD_MAX = 128,       /* bytes of a name */
    GROUP_MESSAGE_MAX = 512 /* bytes of a message that is taken together with others */
};

/* What the transport remembers of a request: in its arena or, for an inline trial, on the stack. */
struct rpc {
    struct conn *conn;
    uint64_t id;
    const struct kt_value *args; /* NULL: none; checked by decode */
    bool bad_params;
    bool flying; /* counted by the connection and in its list */
    struct rpc *next;
};

struct socket {
    struct rpc *flying;
    struct kt_pack_scan *scan; /* of a message that has begun; NULL: none */
    bool problem;              /* refusals go out whole, not as a pair */
};

/* A whole message, taken apart as far as the envelope goes. */
struct message {
    struct kt_str bytes;
    uint64_t id;
    struct kt_str method;
    const struct kt_value *params;
};

/* Goes on with a message of which a part was there before; each byte is looked at once. */
static enum kt_frame
scan_on(struct socket *sock, struct kt_str bytes, const char **ret_why)
{
    size_t len;
    enum kt_frame found = kt_pack_scan(bytes, NULL, sock->scan, &len, ret_why);
    if (found == KT_FRAME_MORE)
        return found;
    free(sock->scan);
    sock->scan = NULL;
    return found;
}

/* Without memory for the scanner's state the message is read again from its beginning. */
static enum kt_frame
scan_begin(struct socket *sock, struct kt_str bytes, const char **ret_why)
{
    sock->scan = calloc(1, sizeof *sock->scan);
    enum kt_frame found = sock->scan ? scan_on(sock, bytes, ret_why) : KT_FRAME_MORE;
    return found == KT_FRAME_DONE ? KT_FRAME_MORE : found;
}

static enum kt_frame
read_value(struct conn *conn, struct kt_str bytes, struct kt_value *ret, size_t *ret_len,
           const char **ret_why)
{
    struct socket *sock = conn_state(conn);
    enum kt_frame found = sock->scan ? scan_on(sock, bytes, ret_why) : KT_FRAME_DONE;
    if (found != KT_FRAME_DONE)
        return found;
    struct kt_arena *arena = loop_arena(conn->loop);
    kt_arena_reset(arena);
    found = kt_pack_read(bytes, NULL, arena, ret, ret_len, ret_why);
    return found == KT_FRAME_MORE ? scan_begin(sock, bytes, ret_why) : found;
}

static bool
read_id(const struct kt_value *value, uint64_t *ret)
{
    if (value->type == KT_V_INT && value->i >= 0)
        *ret = (uint64_t)value->i;
    else if (value->type == KT_V_UINT)
        *ret = value->u;
    else
        return false;
    return true;
}

static void
hang_up(struct conn *conn, const char *why)
{
    log_line(LOG_LEVEL_INFO, "socket.malformed", "peer=%s reason=%s", conn->peer.remote, why);
    conn_finish(conn);
}

/* --- answers ------------------------------------------------------------------------------ */

static void
reply(struct conn *conn, struct request *rq)
{
    const struct socket *sock = conn_state(conn);
    const struct rpc *rpc = rq->conn;
    struct kt_buf *out = conn_out(conn);
    size_t before = out->n;
    if (rq->secret || rq->bearer.p)
        conn_secret(conn);
    socket_put_reply(out, rq, rpc->id, sock->problem);
    if (!out->failed || rq->call.err.kind != KT_OK)
        return;
    out->n = before;
    out->failed = false;
    fail(&rq->call, KT_UNAVAILABLE, NULL, "the answer does not fit, please ask for less");
    socket_put_reply(out, rq, rpc->id, sock->problem);
}

/* From here on refusals have the form that the client asked for. */
static void
note_hello(struct socket *sock, const struct request *rq)
{
    if (rq->spec && kt_op_id(rq->spec) == KT_OP_HELLO && rq->call.err.kind == KT_OK)
        sock->problem = kt_str_is(rq->in.hello.errors, "problem");
}

static void
land(struct socket *sock, struct rpc *rpc)
{
    struct rpc **at = &sock->flying;
    while (*at != rpc)
        at = &(*at)->next;
    *at = rpc->next;
}

static void
socket_answer(struct request *rq)
{
    struct rpc *rpc = rq->conn;
    struct conn *conn = rpc->conn;
    bool flying = rpc->flying;
    if (!conn->dead)
        reply(conn, rq);
    note_hello(conn_state(conn), rq);
    if (flying)
        land(conn_state(conn), rpc);
    pipeline_tell(rq);
    if (rq->call.who)
        conn_known(conn);
    metrics_answered(rq);
    request_done(rq);
    if (flying)
        conn_end(conn);
}

static void
socket_leave(struct request *rq)
{
    const struct rpc *rpc = rq->conn;
    conn_leave(rpc->conn);
}

static void
socket_drop(struct request *rq)
{
    const struct rpc *rpc = rq->conn;
    struct conn *conn = rpc->conn;
    request_done(rq);
    conn_back(conn);
}

/* --- requests ----------------------------------------------------------------------------- */

/* The envelope: what is known before anybody is asked who is calling. Arguments of a wrong form are
 * told by decode, to known callers only. */
static int
read_envelope(struct request *rq, struct rpc *rpc, const struct message *msg)
{
    const struct kt_value *params = msg->params;
    rq->conn = rpc;
    rq->method = msg->method;
    rq->params.flat = true;
    rpc->bad_params = params->type != KT_V_ARRAY || params->array.n > 2 ||
                      (params->array.n > 0 && params->array.v[0].type != KT_V_MAP);
    if (rpc->bad_params)
        return KT_OK;
    if (params->array.n > 0)
        rq->params.body = &params->array.v[0];
    return params->array.n > 1 ? socket_read_meta(rq, &params->array.v[1]) : KT_OK;
}

static int
socket_decode(struct request *rq)
{
    const struct rpc *rpc = rq->conn;
    if (rpc->bad_params)
        return fail(&rq->call, KT_VALIDATION, NULL,
                    "params is an array of a map of arguments and, perhaps, a map of meta data");
    return KT_OK;
}

static const struct transport socket_transport = {
    .door = DOOR_SOCKET,
    .decode = socket_decode,
    .answer = socket_answer,
    .leave = socket_leave,
    .drop = socket_drop,
};

static void __attribute__((format(printf, 4, 5)))
refuse(struct conn *conn, const struct message *msg, enum kt_kind kind, const char *fmt, ...)
{
    struct rpc rpc = { .conn = conn, .id = msg->id };
    struct request *rq = loop_request(conn->loop);
    request_init(rq, loop_arena(conn->loop), &socket_transport, conn->loop, &conn->peer);
    rq->conn = &rpc;
    rq->method = msg->method;
    va_list args;
    va_start(args, fmt);
    struct kt_str text = kt_arena_vprintf(rq->call.arena, fmt, args);
    va_end(args);
    fail(&rq->call, kind, NULL, "%.*s", KT_FMT(text));
    socket_answer(rq);
}

/* Some clients send names as bytes. What is echoed in a refusal must be text all the same. */
static bool
is_name(const struct kt_value *value)
{
    return (value->type == KT_V_STR || value->type == KT_V_BIN) && value->s.n <= METHOD_MAX &&
           kt_utf8_is_text(value->s.p, value->s.n);
}

static bool
take_apart(const struct kt_value *value, struct message *msg)
{
    const struct kt_value *part = value->array.v;
    if (!read_id(&part[1], &msg->id))
        return false;
    msg->method = is_name(&part[2]) ? part[2].s : (struct kt_str){ NULL, 0 };
    msg->params = &part[3];
    return true;
}

/* The message once more, in memory of the request's own. */
static bool
copy_message(struct request *rq, const struct message *msg, struct message *ret,
             struct rpc **ret_rpc)
{
    size_t len;
    const char *why;
    struct kt_value *value = KT_ARENA_NEW(rq->call.arena, struct kt_value);
    char *bytes = kt_arena_alloc(rq->call.arena, msg->bytes.n);
    struct rpc *rpc = KT_ARENA_NEW(rq->call.arena, struct rpc);
    if (!value || !bytes || !rpc)
        return false;
    memcpy(bytes, msg->bytes.p, msg->bytes.n);
    ret->bytes = (struct kt_str){ bytes, msg->bytes.n };
    *ret_rpc = rpc;
    return kt_pack_read(ret->bytes, NULL, rq->call.arena, value, &len, &why) == KT_FRAME_DONE &&
           take_apart(value, ret);
}

static void
run_apart(struct conn *conn, const struct message *msg)
{
    struct socket *sock = conn_state(conn);
    struct request *rq = request_new(&socket_transport, conn->loop, &conn->peer);
    struct message own;
    struct rpc *rpc;
    if (!rq || !copy_message(rq, msg, &own, &rpc)) {
        if (rq)
            request_done(rq);
        refuse(conn, msg, KT_UNAVAILABLE, "there is no memory for this request");
        return;
    }
    *rpc = (struct rpc){ .conn = conn, .id = own.id, .flying = true, .next = sock->flying };
    sock->flying = rpc;
    conn_begin(conn);
    if (read_envelope(rq, rpc, &own) != KT_OK)
        socket_answer(rq);
    else
        pipeline_run(rq);
}

static bool
is_flying(const struct socket *sock, uint64_t id)
{
    for (const struct rpc *rpc = sock->flying; rpc; rpc = rpc->next)
        if (rpc->id == id)
            return true;
    return false;
}

static bool
is_crowded(struct conn *conn)
{
    size_t max = conn->limits->in_flight_max;
    if (max == 0 || conn->in_flight < max)
        return false;
    conn_hold(conn, (unsigned)max - 1);
    return true;
}

/* --- requests that are answered at once ---------------------------------------------------- */

/* False: it would have blocked, and nothing happened. */
static bool
answer_inline(struct request *rq)
{
    /* Refused by its envelope, before anything was asked. */
    if (rq->call.err.kind != KT_OK && !rq->spec) {
        socket_answer(rq);
        return true;
    }
    if (pipeline_run(rq) != PIPE_DECLINED)
        return true;
    request_done(rq);
    return false;
}

static void
inline_init(struct conn *conn, const struct message *msg, struct request *rq, struct rpc *rpc)
{
    *rpc = (struct rpc){ .conn = conn, .id = msg->id };
    request_init(rq, loop_arena(conn->loop), &socket_transport, conn->loop, &conn->peer);
    rq->inline_only = true;
    (void)read_envelope(rq, rpc, msg); /* what the envelope refuses is answered in its turn */
}

static bool
run_inline(struct conn *conn, const struct message *msg)
{
    struct rpc rpc;
    struct request *rq = loop_request(conn->loop);
    inline_init(conn, msg, rq, &rpc);
    return answer_inline(rq);
}

/* Short ones that came in one turn of the loop, of one connection or of several. All are taken as
 * far as their operations before the first one runs: the memory that one will look into is on its
 * way while the others are read. */
struct group {
    struct rpc rpc[LOOP_GROUP];
    struct message msg[LOOP_GROUP];
    struct conn_input *input[LOOP_GROUP];
    size_t n;
};

/* Whether a message that can join a group stands there. Anything else, the end of the input too, is
 * left to readable(). */
static bool
peek_inline(struct conn *conn, struct kt_str bytes, struct message *msg)
{
    const char *why;
    const struct socket *sock = conn_state(conn);
    struct kt_str method = socket_peek_method(bytes);
    if (!method.p || sock->scan || !pipeline_may_inline(method))
        return false;
    struct kt_value *value = KT_ARENA_NEW(loop_arena(conn->loop), struct kt_value);
    if (!value)
        return false;
    if (bytes.n > GROUP_MESSAGE_MAX)
        bytes.n = GROUP_MESSAGE_MAX;
    if (kt_pack_read(bytes, NULL, loop_arena(conn->loop), value, &msg->bytes.n, &why) !=
        KT_FRAME_DONE)
        return false;
    msg->bytes.p = bytes.p;
    /* The same name again, now that the whole message has been read. */
    return take_apart(value, msg) && msg->method.p == method.p && msg->method.n == method.n &&
           !is_flying(sock, msg->id);
}

/* The next one of the connection, of which there may be others at work since the group was
 * gathered. */
static bool
may_begin(struct conn *conn, const struct message *msg)
{
    return conn_ready(conn) && !is_crowded(conn) && !is_flying(conn_state(conn), msg->id);
}

/* Empties the group. What would block begins again apart, and what follows it is answered: it has
 * been looked at, and its caller asked for, once. When nothing more of a connection may begin, the
 * rest of it is as if nobody had looked at it. */
static void
group_run(struct group *g, struct loop *loop)
{
    struct request *rq = loop_request(loop);
    const struct conn_input *stopped = NULL;
    if (g->n > 1)
        pipeline_ahead(rq, g->n);
    for (size_t i = 0; i < g->n; i++) {
        struct conn_input *input = g->input[i];
        struct conn *conn = input->conn;
        if (input == stopped || !may_begin(conn, &g->msg[i])) {
            stopped = input;
            pipeline_forget(&rq[i]);
            request_done(&rq[i]);
            continue;
        }
        if (!answer_inline(&rq[i]))
            run_apart(conn, &g->msg[i]);
        input->used += g->msg[i].bytes.n;
        conn_enter(conn, conn->in_flight ? CONN_WORK : CONN_IDLE);
    }
    g->n = 0;
    kt_arena_reset(loop_arena(loop));
}

/* Adds what can join, in order; stops at what cannot. */
static void
group_gather(struct group *g, struct conn_input *input)
{
    struct conn *conn = input->conn;
    for (size_t seen = input->used; conn_ready(conn) && !is_crowded(conn);) {
        const struct kt_str rest = { input->bytes.p + seen, input->bytes.n - seen };
        struct message *msg = &g->msg[g->n];
        if (!peek_inline(conn, rest, msg))
            return;
        inline_init(conn, msg, &loop_request(conn->loop)[g->n], &g->rpc[g->n]);
        g->input[g->n++] = input;
        seen += msg->bytes.n;
        if (g->n < LOOP_GROUP)
            continue;
        group_run(g, conn->loop);
        if (input->used < seen)
            return;
    }
}

static void
socket_readable_all(struct conn_input inputs[], size_t n)
{
    struct group g;
    struct loop *loop = inputs[0].conn->loop;
    g.n = 0;
    kt_arena_reset(loop_arena(loop));
    for (size_t i = 0; i < n; i++)
        group_gather(&g, &inputs[i]);
    group_run(&g, loop);
}

/* --- one message --------------------------------------------------------------------------- */

/* True when the message is dealt with; false when it has to wait, because a mutation begins only
 * after the requests before it have ended, and what follows it waits for its answer. */
static bool
run_message(struct conn *conn, const struct message *msg)
{
    struct socket *sock = conn_state(conn);
    if (!msg->method.p) {
        refuse(conn, msg, KT_VALIDATION, "the method is named by a string of at most %d bytes",
               METHOD_MAX);
        return true;
    }
    if (is_flying(sock, msg->id)) {
        refuse(conn, msg, KT_VALIDATION, "a request of this id is still at work");
        return true;
    }
    bool writes = pipeline_writes(msg->method);
    if (writes && conn->in_flight > 0) {
        conn_hold(conn, 0);
        return false;
    }
    if (!pipeline_may_inline(msg->method) || !run_inline(conn, msg))
        run_apart(conn, msg);
    if (writes)
        conn_hold(conn, 0);
    return true;
}

static size_t
take_value(struct conn *conn, const struct kt_value *value, struct kt_str bytes)
{
    struct message msg = { .bytes = bytes };
    if (value->array.n == 4 && !take_apart(value, &msg)) {
        hang_up(conn, "the id is no unsigned integer");
        return bytes.n;
    }
    /* Notifications are ignored. */
    if (value->array.n == 4 && !run_message(conn, &msg))
        return 0;
    conn_enter(conn, conn->in_flight ? CONN_WORK : CONN_IDLE);
    return bytes.n;
}

static size_t
socket_readable(struct conn *conn, struct kt_str bytes)
{
    struct kt_value value;
    size_t len = 0;
    int kind = 0;
    const char *why = NULL;
    if (is_crowded(conn))
        return 0;
    enum kt_frame found = socket_peek_kind(bytes, &kind, &why);
    if (found == KT_FRAME_DONE)
        found = read_value(conn, bytes, &value, &len, &why);
    if (found == KT_FRAME_DONE)
        return take_value(conn, &value, (struct kt_str){ bytes.p, len });
    if (found == KT_FRAME_MORE) {
        conn_enter(conn, CONN_HEAD);
        return 0;
    }
    hang_up(conn, why);
    return bytes.n;
}

/* Earlier requests are still answered. */
static void
socket_expired(struct conn *conn, enum conn_phase phase)
{
    log_line(LOG_LEVEL_DEBUG, "socket.expired", "peer=%s phase=%d", conn->peer.remote, (int)phase);
    conn_finish(conn);
}

static void
socket_freed(struct conn *conn)
{
    struct socket *sock = conn_state(conn);
    free(sock->scan);
}

const struct conn_ops socket_ops = {
    .name = "socket",
    .state_size = sizeof(struct socket),
    .readable = socket_readable,
    .readable_all = socket_readable_all,
    .expired = socket_expired,
    .freed = socket_freed,
};
