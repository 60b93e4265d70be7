/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Requests to the core: core_ask() puts one on a loop, as a transport would, and keeps what came of
 * it where the test can look at it. */
#ifndef CORE_ASK_H
#define CORE_ASK_H

#include "client/proto/encode.h"
#include "client/proto/json.h"
#include "client/proto/pack.h"
#include "daemon/codec/body.h"
#include "daemon/transport/http.h"
#include "tests/unit/core.h"

/* --- asking ------------------------------------------------------------------------------- */

enum ask_way {
    ASK_AS_SERVED = 0, /* an inline trial first where a transport would make one */
    ASK_TRIAL,         /* only the trial */
    ASK_PARKED         /* without a trial */
};

struct ask {
    /* What is asked. */
    enum door door;       /* 0: DOOR_HTTP */
    const char *method;   /* HTTP method, or a name on the socket */
    const char *path;     /* HTTP: with its query */
    const char *body;     /* HTTP: the body. Socket: the arguments as JSON */
    size_t body_n;        /* 0: up to its NUL */
    const char *type;     /* NULL: application/json */
    const char *token;    /* credential */
    const char *key;      /* idempotency key */
    struct kt_str frame;  /* socket: the arguments as MessagePack instead of JSON */
    bool bad_scheme;
    bool stranger;        /* socket: nobody knows the peer */
    int64_t late_ms;      /* the deadline is that much earlier */
    int64_t now_ms;       /* when it comes; 0: now */
    bool impatient;       /* given up at its deadline; core_wait_dropped() has to follow then */
    void (*ahead)(struct request *); /* trial: looks ahead first, and then calls this on the loop */
    enum ask_way way;
    size_t loop;          /* which loop it comes in on */

    /* What came of it. */
    enum pipe_result result;
    unsigned answers;     /* how often answer() was called */
    unsigned left, drops; /* how often leave() and drop() were */
    enum kt_kind late;    /* what was dropped had to say */
    unsigned attempts;    /* runs that ended in a conflict */
    bool decoded_at_home; /* on the loop, not on a worker */
    enum kt_kind kind;
    int status;           /* as HTTP says it */
    char code[64], detail[512], id[40], allow[64], fields[512];
    size_t nfields;
    char secret[64], bearer[4096];
    struct kt_buf json;   /* of the answer */

    struct core *core;
    struct loop_task task;
};

static inline void
ask_note_refusal(struct ask *a, const struct kt_error *err)
{
    snprintf(a->code, sizeof a->code, "%s", err->kind == KT_OK ? "" : kt_error_code(err));
    snprintf(a->detail, sizeof a->detail, "%.*s", KT_FMT(err->detail));
    snprintf(a->id, sizeof a->id, "%s", err->id);
    a->nfields = err->nfields;
    for (size_t i = 0; i < err->nfields && i < KT_FIELD_ERRORS_MAX; i++) {
        size_t used = strlen(a->fields);
        snprintf(a->fields + used, sizeof a->fields - used, "%s%.*s: %.*s", used ? "; " : "",
                 KT_FMT(err->fields[i].location), KT_FMT(err->fields[i].message));
    }
}

static inline void
ask_note_answer(struct ask *a, const struct request *rq)
{
    const struct kt_op_spec *spec = rq->spec;
    kt_buf_reset(&a->json);
    if (rq->call.err.kind != KT_OK)
        return;
    if (spec && spec->out)
        kt_encode_json(&a->json, spec->out, &rq->out);
    else if (spec && spec->loose && rq->out.value)
        kt_json_put_value(&a->json, rq->out.value);
    struct kt_secret_view secret = kt_secret_view(rq->secret);
    snprintf(a->secret, sizeof a->secret, "%.*s", KT_FMT(secret));
    snprintf(a->bearer, sizeof a->bearer, "%.*s", KT_FMT(rq->bearer));
}

static inline void
ask_answered(struct request *rq)
{
    struct ask *a = rq->conn;
    struct core *c = a->core;
    pthread_mutex_lock(&c->lock);
    core_must(loop_is_here(rq->home));
    a->kind = rq->call.err.kind;
    a->status = kt_kind_info(a->kind)->http;
    if (a->kind == KT_OK && rq->spec->http_ok)
        a->status = rq->spec->http_ok;
    a->attempts = rq->attempts;
    ask_note_refusal(a, &rq->call.err);
    ask_note_answer(a, rq);
    snprintf(a->allow, sizeof a->allow, "%.*s", KT_FMT(rq->allow));
    request_done(rq);
    a->answers++;
    pthread_cond_broadcast(&c->answered);
    pthread_mutex_unlock(&c->lock);
}

static inline int
ask_decode_http(struct request *rq)
{
    ((struct ask *)rq->conn)->decoded_at_home = loop_is_here(rq->home);
    int status = http_query(rq);
    return status == KT_OK ? body_decode(rq) : status;
}

static inline int
ask_decode_socket(struct request *rq)
{
    struct ask *a = rq->conn;
    struct kt_value *args = kt_arena_alloc(rq->call.arena, sizeof *args);
    struct kt_json_error error;
    const char *why;
    size_t n;
    rq->params.flat = true;
    a->decoded_at_home = loop_is_here(rq->home);
    if (!args)
        return fail_memory(&rq->call);
    bool ok = true;
    if (a->frame.p)
        ok = kt_pack_read(a->frame, NULL, rq->call.arena, args, &n, &why) == KT_FRAME_DONE &&
             args->type == KT_V_MAP;
    else if (a->body)
        ok = kt_json_read(kt_str(a->body), rq->call.arena, NULL, args, &error) == 0;
    if (!ok)
        return (fail)(&rq->call, KT_VALIDATION, NULL, "arguments are a map");
    rq->params.body = a->frame.p || a->body ? args : NULL;
    return KT_OK;
}

static inline void
ask_leave(struct request *rq)
{
    ((struct ask *)rq->conn)->left++;
}

static inline void
ask_drop(struct request *rq)
{
    struct ask *a = rq->conn;
    struct core *c = a->core;
    pthread_mutex_lock(&c->lock);
    core_must(loop_is_here(rq->home));
    a->late = rq->call.err.kind;
    request_done(rq);
    a->drops++;
    pthread_cond_broadcast(&c->answered);
    pthread_mutex_unlock(&c->lock);
}

static const struct transport ask_http = { DOOR_HTTP, ask_decode_http, ask_answered, NULL, NULL };
static const struct transport ask_socket = { DOOR_SOCKET, ask_decode_socket, ask_answered, NULL,
                                             NULL };
static const struct transport ask_http_leaving = { DOOR_HTTP, ask_decode_http, ask_answered,
                                                   ask_leave, ask_drop };
static const struct transport ask_socket_leaving = { DOOR_SOCKET, ask_decode_socket, ask_answered,
                                                     ask_leave, ask_drop };

static inline const struct transport *
ask_transport(const struct ask *a)
{
    if (a->impatient)
        return a->door == DOOR_HTTP ? &ask_http_leaving : &ask_socket_leaving;
    return a->door == DOOR_HTTP ? &ask_http : &ask_socket;
}

static struct peer ask_stranger; /* a peer that no rule admits */

static inline void
ask_fill(struct ask *a, struct request *rq)
{
    rq->conn = a;
    rq->method = kt_str(a->method);
    if (a->path) {
        size_t n = strcspn(a->path, "?");
        rq->path = (struct kt_str){ a->path, n };
        if (a->path[n] == '?')
            rq->query = kt_str(a->path + n + 1);
    }
    if (a->door == DOOR_HTTP && a->body)
        rq->body = (struct kt_str){ a->body, a->body_n ? a->body_n : strlen(a->body) };
    rq->content_type = a->type ? kt_str(a->type) : KT_LIT("application/json");
    rq->credential = (struct kt_secret_view){ a->token, a->token ? strlen(a->token) : 0 };
    rq->idempotency_key = kt_str(a->key);
    rq->bad_scheme = a->bad_scheme;
    rq->call.deadline_ms -= a->late_ms;
    if (a->now_ms)
        rq->call.now_ms = a->now_ms;
}

static inline struct peer *
ask_peer(const struct ask *a)
{
    if (a->door == DOOR_HTTP)
        return &a->core->http;
    return a->stranger ? &ask_stranger : &a->core->socket;
}

static inline void
ask_end_trial(struct ask *a)
{
    pthread_mutex_lock(&a->core->lock);
    a->answers++;
    pthread_cond_broadcast(&a->core->answered);
    pthread_mutex_unlock(&a->core->lock);
}

static inline void
ask_run(struct loop *loop, struct loop_task *task)
{
    struct ask *a = (struct ask *)((char *)task - offsetof(struct ask, task));
    const struct transport *transport = ask_transport(a);
    bool may = a->door == DOOR_HTTP
                   ? pipeline_may_inline_http(kt_str(a->method),
                                              (struct kt_str){ a->path, strcspn(a->path, "?") })
                   : pipeline_may_inline(kt_str(a->method));
    if (a->way == ASK_TRIAL || (may && a->way == ASK_AS_SERVED)) {
        struct request *rq = loop_request(loop);
        kt_arena_reset(loop_arena(loop));
        request_init(rq, loop_arena(loop), transport, loop, ask_peer(a));
        rq->inline_only = true;
        ask_fill(a, rq);
        if (a->ahead) {
            pipeline_ahead(rq, 1);
            a->ahead(rq);
        }
        enum pipe_result result = pipeline_run(rq);
        if (result != PIPE_DECLINED)
            return;
        request_done(rq);
        a->result = result;
        if (a->way == ASK_TRIAL) {
            ask_end_trial(a);
            return;
        }
    }
    struct request *rq = request_new(transport, loop, ask_peer(a));
    core_must(rq);
    ask_fill(a, rq);
    pipeline_run(rq);
}

/* Puts the request on its loop; the ask is the daemon's until core_wait() returns. */
static inline void
core_post(struct core *c, struct ask *a)
{
    a->core = c;
    if (!a->door)
        a->door = DOOR_HTTP;
    ask_stranger = c->socket;
    ask_stranger.who = NULL;
    if (a->json.max == 0)
        kt_buf_init(&a->json, 16 * 1024 * 1024);
    a->answers = a->left = a->drops = 0;
    a->result = PIPE_ANSWERED;
    a->fields[0] = a->secret[0] = a->bearer[0] = '\0';
    a->task.run = ask_run;
    loop_post(c->loops[a->loop], &a->task);
}

static inline void
core_wait_count(struct core *c, const unsigned *count)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    int status = 0;
    while (*count == 0 && status == 0)
        status = pthread_cond_timedwait(&c->answered, &c->lock, &until);
    core_must(*count == 1);
}

/* Until what was given up has come home. */
static inline void
core_wait_dropped(struct core *c, struct ask *a)
{
    pthread_mutex_lock(&c->lock);
    core_wait_count(c, &a->drops);
    core_must(a->answers == 1 && a->left == 1);
    pthread_mutex_unlock(&c->lock);
}

static inline void
core_wait(struct core *c, struct ask *a)
{
    pthread_mutex_lock(&c->lock);
    core_wait_count(c, &a->answers);
    kt_buf_putc(&a->json, '\0');
    pthread_mutex_unlock(&c->lock);
}

/* The HTTP status of the answer. */
static inline int
core_ask(struct core *c, struct ask *a)
{
    core_post(c, a);
    core_wait(c, a);
    return a->status;
}

/* The answer as text. */
static inline const char *
ask_json(const struct ask *a)
{
    return a->json.p ? a->json.p : "";
}

static inline void
ask_done(struct ask *a)
{
    kt_buf_done(&a->json);
}

/* --- shortcuts ---------------------------------------------------------------------------- */

#define CORE_ANN "ann/acme/write:*,delete:*"
#define CORE_BOB "bob/other/write:*,delete:*"

/* Asks, and keeps only the status. */
static inline int
core_http(struct core *c, const char *token, const char *method, const char *path,
          const char *body)
{
    struct ask a = { .token = token, .method = method, .path = path, .body = body };
    int status = core_ask(c, &a);
    ask_done(&a);
    return status;
}

static inline int
core_make_account(struct core *c, const char *token, const char *slug)
{
    char body[256];
    snprintf(body, sizeof body, "{\"name\":\"%s\",\"slug\":\"%s\"}", slug, slug);
    return core_http(c, token, "POST", "/service-accounts", body);
}

/* Mints a token with these scopes (JSON), and keeps its secret. */
static inline int
core_mint(struct core *c, const char *token, const char *account, const char *slug,
          const char *scopes, char secret[64])
{
    char path[256], body[512];
    snprintf(path, sizeof path, "/service-accounts/%s/tokens", account);
    snprintf(body, sizeof body, "{\"name\":\"%s\",\"slug\":\"%s\",\"scopes\":%s}", slug, slug,
             scopes);
    struct ask a = { .token = token, .method = "POST", .path = path, .body = body };
    int status = core_ask(c, &a);
    memcpy(secret, a.secret, 64);
    ask_done(&a);
    return status;
}

#endif
