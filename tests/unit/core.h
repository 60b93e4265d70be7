/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A whole daemon without sockets, for the tests of its core: the real pipeline, workers, committer
 * and loops over storage-memory, behind a plugin that fails on request. core-ask.h has its requests.
 * Include it before <cmocka.h>, whose fail() would get in the way. */
#ifndef CORE_H
#define CORE_H

#include "daemon/authn.h"
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

/* --- looking ------------------------------------------------------------------------------ */

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
