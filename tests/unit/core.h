/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A whole daemon without sockets, for the tests of its core: the real pipeline, workers, committer
 * and loops over storage-memory, behind a plugin that fails on request. Requests are put on a loop
 * by core_ask() and their answers are kept where the test can look at them. Include it before
 * <cmocka.h>, whose fail() would get in the way. */
#ifndef CORE_H
#define CORE_H

#include "client/proto/encode.h"
#include "client/proto/json.h"
#include "client/proto/pack.h"
#include "daemon/authn.h"
#include "daemon/codec/body.h"
#include "daemon/commit.h"
#include "daemon/idempotency.h"
#include "daemon/index.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/metrics.h"
#include "daemon/model/account_cache.h"
#include "daemon/model/digest.h"
#include "daemon/model/token.h"
#include "daemon/ops.h"
#include "daemon/ops/document.h"
#include "daemon/pipeline.h"
#include "daemon/plugin.h"
#include "daemon/principal.h"
#include "daemon/route.h"
#include "daemon/service.h"
#include "daemon/signer.h"
#include "daemon/store.h"
#include "daemon/transport/http.h"
#include "daemon/used.h"
#include "daemon/worker.h"
#include "tests/unit/disk.h"

#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CORE_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* --- callers ------------------------------------------------------------------------------ */

extern const struct kaiten_auth kaiten_auth_plugin; /* auth-token */

enum { CORE_HOUR = 3600 * 1000, CORE_SCOPES_MAX = 16 };

/* "subject/organization/scope,scope" as a principal; spare is written to. */
static inline bool
core_parse_caller(char *spare, struct kaiten_principal *p, const char **scopes)
{
    char *org = strchr(spare, '/');
    char *list = org ? strchr(org + 1, '/') : NULL;
    if (!list)
        return false;
    *org++ = *list++ = '\0';
    *p = (struct kaiten_principal){ .size = sizeof *p, .subject = spare, .organization = org,
                                    .scopes = scopes };
    for (char *scope = strtok_r(list, ",", &list); scope && p->nscopes < CORE_SCOPES_MAX;
         scope = strtok_r(NULL, ",", &list))
        scopes[p->nscopes++] = scope;
    return true;
}

/* Stands for auth-jwt: costs something, may be cached, and the credential alone decides. */
static inline enum kaiten_verdict
user_identify(void *instance, const struct kaiten_caller *caller, struct kaiten_sink *sink,
              struct kaiten_err *err)
{
    char text[512];
    const char *scopes[CORE_SCOPES_MAX];
    struct kaiten_principal p;
    const struct kaiten_bytes *c = &caller->credential;
    atomic_fetch_add((_Atomic int *)instance, 1);
    if (c->n == 0 || c->n >= sizeof text || memcmp(c->p, "ksh_", c->n < 4 ? c->n : 4) == 0)
        return KAITEN_NOT_MINE;
    memcpy(text, c->p, c->n);
    text[c->n] = '\0';
    if (!core_parse_caller(text, &p, scopes)) {
        host_table.error(err, "no such user");
        return KAITEN_REFUSED;
    }
    p.expires_at_ms = clock_wall_ms() + CORE_HOUR;
    p.proof = "jwt";
    return host_table.principal(sink, &p) ? KAITEN_KNOWN : KAITEN_REFUSED;
}

static _Atomic int user_asked; /* how often user_identify() was called */

static const struct plugin core_user_plugin = {
    .kind = PLUGIN_AUTH,
    .auth = { .size = sizeof(struct kaiten_auth), .abi = KAITEN_AUTH_ABI,
              .threads = KAITEN_THREADS_PARALLEL, .caps = KAITEN_AUTH_CACHE, .name = "user",
              .identify = user_identify },
    .name = "user",
};

static inline struct principal *
core_caller(const char *who, enum kaiten_verify verify)
{
    char text[512];
    const char *scopes[CORE_SCOPES_MAX];
    struct kaiten_principal p;
    snprintf(text, sizeof text, "%s", who);
    core_must(core_parse_caller(text, &p, scopes));
    p.verify = (int)verify;
    p.proof = "peer";
    struct principal *made = principal_new(&p);
    core_must(made);
    return made;
}

/* --- the daemon --------------------------------------------------------------------------- */

struct core {
    struct service svc;
    pthread_rwlock_t guard;
    struct disk *disk;
    struct documents *documents;
    struct loop **loops;
    struct authn_chain *chain;
    struct plugin token_plugin;
    void *token_instance;
    struct peer http, socket;
    char folder[64], key_path[128], pem_path[128];
    pthread_mutex_t lock;
    pthread_cond_t answered;
};

struct core_options {
    size_t loops, workers, queue_max; /* 0: 1, 2, 256 */
    const char *peer; /* who sits at the socket; NULL: ann of acme who may everything */
};

static inline void
core_free_retired(void *ctx)
{
    void **r = ctx;
    struct core *c = r[0];
    pthread_rwlock_wrlock(&c->guard);
    free(r[1]);
    pthread_rwlock_unlock(&c->guard);
    free(r);
}

static inline void
core_retire(void *ctx, void *memory)
{
    struct core *c = ctx;
    void **r = malloc(2 * sizeof *r);
    core_must(r);
    r[0] = c;
    r[1] = memory;
    if (c->loops)
        loops_barrier(c->loops, core_free_retired, r);
    else
        core_free_retired(r);
}

static inline struct store *
core_store_new(struct core *c)
{
    void *instance;
    core_must(disk_plugin.open(&host_table, NULL, &instance, NULL) == KAITEN_DONE);
    c->disk = instance;
    struct store *store = store_new(&disk_plugin, instance, KAITEN_THREADS_PARALLEL);
    core_must(store);
    store_set_keys(store, c->svc.keys);
    return store;
}

static inline void
core_open_keys(struct core *c)
{
    struct digest_error why;
    char err[SIGNER_ERROR_MAX];
    snprintf(c->folder, sizeof c->folder, "/tmp/kaiten-core-XXXXXX");
    core_must(mkdtemp(c->folder));
    snprintf(c->key_path, sizeof c->key_path, "%s/digest.key", c->folder);
    snprintf(c->pem_path, sizeof c->pem_path, "%s/signing.pem", c->folder);
    struct digest_keys *keys;
    core_must(digest_keys_create(c->key_path, &keys, &why));
    c->svc.keys = keys;
    const struct signer_options options = { c->pem_path, "kaitend", "kaiten", CORE_HOUR };
    core_must(signer_open(&options, &c->svc.signer, err));
}

static inline void
core_open_chain(struct core *c, const char *peer)
{
    c->token_plugin = (struct plugin){ .kind = PLUGIN_AUTH, .auth = kaiten_auth_plugin,
                                       .name = "auth-token" };
    core_must(kaiten_auth_plugin.open(&host_table, NULL, &c->token_instance, NULL) ==
              KAITEN_DONE);
    c->chain = authn_chain_new(&c->svc);
    core_must(c->chain && authn_chain_add(c->chain, &c->token_plugin, c->token_instance) &&
              authn_chain_add(c->chain, &core_user_plugin, &user_asked));
    c->http = (struct peer){ .caller = { .size = sizeof(struct kaiten_caller),
                                         .listener = KAITEN_LISTENER_HTTP },
                             .remote = "127.0.0.1:1", .chain = c->chain,
                             .metrics = METRICS_ANYBODY };
    c->socket = (struct peer){ .caller = { .size = sizeof(struct kaiten_caller),
                                           .listener = KAITEN_LISTENER_SOCKET, .has_peer = true,
                                           .uid = 1000, .gid = 1000 },
                               .remote = "uid=1000", .chain = c->chain };
    c->socket.who = core_caller(peer ? peer : "ann/acme/write:*,delete:*", KAITEN_VERIFY_OWN);
}

static inline void
core_open(struct core *c, const struct core_options *options)
{
    const struct core_options none = { 0 };
    const struct core_options *o = options ? options : &none;
    memset(c, 0, sizeof *c);
    core_must(sodium_init() >= 0);
    log_set_level(getenv("KAITEN_TEST_LOG") ? LOG_LEVEL_DEBUG : (enum log_level)0);
    route_init();
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->answered, NULL);
    pthread_rwlock_init(&c->guard, NULL);
    core_open_keys(c);
    struct service *svc = &c->svc;
    svc->index_guard = &c->guard;
    svc->modules = scope_modules_default;
    svc->documents = c->documents = documents_new(&svc->modules);
    svc->request_ms = 120 * 1000;
    svc->embedded_tokens_max = 100;
    svc->page_default = 50;
    svc->store = core_store_new(c);
    svc->index = index_new(core_retire, c);
    svc->inflight = inflight_new();
    svc->accounts = account_cache_new();
    svc->used = used_new();
    svc->metrics = metrics_new(o->loops ? o->loops : 1);
    svc->committer = committer_new(svc, pipeline_again, pipeline_done);
    svc->workers = workers_new(o->workers ? o->workers : 2, o->queue_max ? o->queue_max : 256,
                               pipeline_resume);
    core_must(svc->documents && svc->index && svc->inflight && svc->accounts && svc->used &&
              svc->metrics && svc->committer && svc->workers);
    core_open_chain(c, o->peer);
    atomic_store(&svc->state, SERVICE_READY);
    c->loops = loops_new(o->loops ? o->loops : 1);
    core_must(c->loops && loops_start(c->loops) == 0);
}

static inline void
core_close(struct core *c)
{
    workers_stop(c->svc.workers);
    committer_stop(c->svc.committer);
    loops_stop(c->loops);
    c->loops = NULL;
    workers_free(c->svc.workers);
    committer_free(c->svc.committer);
    authn_chain_free(c->chain);
    kaiten_auth_plugin.close(c->token_instance);
    inflight_free(c->svc.inflight);
    account_cache_free(c->svc.accounts);
    used_free(c->svc.used);
    metrics_free(c->svc.metrics);
    documents_free(c->documents);
    index_free(c->svc.index);
    signer_free(c->svc.signer);
    store_free(c->svc.store);
    digest_keys_free(c->svc.keys);
    principal_unref(c->socket.who);
    pthread_rwlock_destroy(&c->guard);
    pthread_cond_destroy(&c->answered);
    pthread_mutex_destroy(&c->lock);
    unlink(c->key_path);
    unlink(c->pem_path);
    rmdir(c->folder);
}

/* An empty store and an empty index, when nothing is at work. */
static inline void
core_reset(struct core *c)
{
    store_free(c->svc.store);
    index_free(c->svc.index);
    c->svc.store = core_store_new(c);
    c->svc.index = index_new(core_retire, c);
    account_cache_free(c->svc.accounts);
    c->svc.accounts = account_cache_new();
    core_must(c->svc.index && c->svc.accounts);
}

/* Work without a request, on the thread of the test. */
static inline void
core_call(struct core *c, struct kt_arena *arena, struct call *call)
{
    kt_arena_init(arena, REQUEST_ARENA_MAX);
    *call = (struct call){ .svc = &c->svc, .arena = arena, .now_ms = clock_wall_ms(),
                           .deadline_ms = INT64_MAX };
}

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

static inline void
core_pause(void)
{
    const struct timespec tick = { 0, 1000 * 1000 };
    nanosleep(&tick, NULL);
}

/* Waits until a counter of the disk is there. */
static inline bool
core_reaches(_Atomic size_t *counter, size_t n)
{
    for (int i = 0; i < 20000 && atomic_load(counter) < n; i++)
        core_pause();
    return atomic_load(counter) >= n;
}

/* What the index says of a secret now. */
static inline enum token_judgement
core_judge(struct core *c, const char *secret)
{
    struct index_hit hit;
    pthread_rwlock_rdlock(&c->guard);
    enum token_judgement said = token_judge(
        &c->svc, (struct kt_secret_view){ secret, strlen(secret) }, clock_wall_ms(), &hit);
    pthread_rwlock_unlock(&c->guard);
    return said;
}

#endif
