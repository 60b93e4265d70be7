/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/authn.h"

#include "daemon/authn_cache.h"
#include "daemon/index.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/model/ask.h"
#include "daemon/model/token.h"
#include "daemon/model/tokentext.h"
#include "daemon/plugin.h"
#include "daemon/request.h"
#include "daemon/service.h"
#include "daemon/timeguard.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct link {
    const struct kaiten_auth *auth;
    void *instance;
    pthread_mutex_t *calls; /* the plugin's own: other chains ask the same instance */
};

struct authn_chain {
    const struct service *svc;
    struct authn_cache *cache;
    struct link links[AUTHN_CHAIN_MAX];
    size_t n;
};

struct authn_chain *
authn_chain_new(const struct service *svc)
{
    struct authn_chain *chain = calloc(1, sizeof *chain);
    if (!chain)
        return NULL;
    chain->svc = svc;
    chain->cache = authn_cache_new();
    if (chain->cache)
        return chain;
    free(chain);
    return NULL;
}

void
authn_chain_free(struct authn_chain *chain)
{
    if (!chain)
        return;
    authn_cache_free(chain->cache);
    free(chain);
}

bool
authn_chain_add(struct authn_chain *chain, const struct plugin *plugin, void *instance)
{
    if (chain->n == AUTHN_CHAIN_MAX)
        return false;
    struct link *l = &chain->links[chain->n++];
    l->auth = &plugin->auth;
    l->instance = instance;
    l->calls = plugin->calls;
    return true;
}

const struct service *
authn_chain_service(const struct authn_chain *chain)
{
    return chain->svc;
}

/* --- asking ------------------------------------------------------------------------------- */

enum { WOULD_BLOCK = 0x4b85, ASKS = 0x4b86 }; /* beside enum kaiten_verdict */

static int
ask(struct link *l, const struct kaiten_caller *caller, struct kaiten_sink *sink,
    struct kaiten_err *err)
{
    bool alone = l->auth->threads != KAITEN_THREADS_PARALLEL;
    if (alone)
        pthread_mutex_lock(l->calls);
    int verdict = (int)l->auth->identify(l->instance, caller, sink, err);
    if (alone)
        pthread_mutex_unlock(l->calls);
    if (sink->asks)
        return ASKS;
    if (sink->no_memory || sink->broken) {
        snprintf(err->text, sizeof err->text, "%s",
                 sink->no_memory ? "out of memory" : "the store cannot say");
        return KAITEN_BROKEN;
    }
    /* A number that has no meaning decides nothing, and must not be taken for one of our own. */
    bool is_known = verdict == KAITEN_KNOWN || verdict == KAITEN_REFUSED ||
                    verdict == KAITEN_NOT_MINE;
    return is_known ? verdict : KAITEN_BROKEN;
}

/* What a plugin says about a credential that is not its own is dropped: neither the caller that it
 * named nor its words may be taken for the next plugin's. */
static void
forget(struct kaiten_sink *sink, struct kaiten_err *err)
{
    sink->who = principal_unref(sink->who);
    sink->code = NULL;
    sink->no_memory = sink->broken = false;
    err->text[0] = '\0';
}

/* The first answer other than NOT_MINE decides. */
static int
ask_chain(struct authn_chain *chain, const struct kaiten_caller *caller, bool may_block,
          struct kaiten_sink *sink, struct kaiten_err *err, struct link **ret_link)
{
    for (size_t i = 0; i < chain->n; i++) {
        struct link *l = &chain->links[i];
        /* A plugin that decides by the credential alone has nothing to say without one. */
        if (caller->credential.n == 0 && (l->auth->caps & KAITEN_AUTH_CACHE))
            continue;
        if (!may_block && !(l->auth->caps & KAITEN_AUTH_INLINE))
            return WOULD_BLOCK;
        int verdict = ask(l, caller, sink, err);
        if (verdict == KAITEN_NOT_MINE) {
            forget(sink, err);
            continue;
        }
        *ret_link = l;
        /* A plugin that says "known" without naming a caller has not decided. */
        return verdict == KAITEN_KNOWN && !sink->who ? KAITEN_BROKEN : verdict;
    }
    return KAITEN_NOT_MINE;
}

void
authn_peer(struct peer *peer)
{
    struct kaiten_sink sink = { .svc = peer->chain->svc, .on_loop = true };
    struct kaiten_err err = { "" };
    struct link *l = NULL;
    struct authn_chain *chain = (struct authn_chain *)(uintptr_t)peer->chain;
    int verdict = ask_chain(chain, &peer->caller, false, &sink, &err, &l);
    peer->broken = verdict == KAITEN_BROKEN;
    if (verdict == KAITEN_KNOWN) {
        peer->who = sink.who;
        return;
    }
    principal_unref(sink.who);
    peer->who = NULL;
    log_line(LOG_LEVEL_INFO, "peer.unknown", "peer=%s reason=%s", peer->remote, err.text);
}

/* --- refusing ----------------------------------------------------------------------------- */

/* One answer for every reason, except for defects of form that the contract spells out. */
static int
refuse(struct request *rq, const struct kaiten_sink *sink, const struct kaiten_err *err)
{
    int too_many = limits_failed(rq);
    if (too_many != KT_OK)
        return too_many;
    log_line(LOG_LEVEL_INFO, "caller.refused", "request=%s peer=%s reason=%s", request_id(rq),
             rq->peer->remote, err->text);
    if (sink->code)
        return fail(&rq->call, KT_UNAUTHORIZED, sink->code, "%s", sink->detail);
    return fail(&rq->call, KT_UNAUTHORIZED, "Auth.InvalidToken", "Invalid token");
}

/* No plugin of the chain knows this kind of credential. */
static int
refuse_foreign(struct request *rq)
{
    int too_many = limits_failed(rq);
    if (too_many != KT_OK)
        return too_many;
    return fail(&rq->call, KT_UNAUTHORIZED, "Auth.InvalidToken", "Failed to parse JWT");
}

static int
refuse_unnamed(struct request *rq)
{
    if (rq->transport->door == DOOR_SOCKET)
        return fail(&rq->call, KT_UNAUTHORIZED, "Auth.PeerNotAllowed",
                    "no rule admits this peer (uid %u)", (unsigned)rq->peer->caller.uid);
    if (rq->bad_scheme)
        return fail(&rq->call, KT_UNAUTHORIZED, "Auth.UnknownAuthorizationHeader",
                    "Invalid Authorization header format");
    return fail(&rq->call, KT_UNAUTHORIZED, "Auth.MissingAuthorizationHeader",
                "Missing Authorization header");
}

static int
conclude(struct request *rq, int verdict, const struct kaiten_sink *sink,
         const struct kaiten_err *err)
{
    switch (verdict) {
    case KAITEN_KNOWN: return KT_OK;
    case KAITEN_REFUSED: return refuse(rq, sink, err);
    case KAITEN_NOT_MINE: return refuse_foreign(rq);
    default:
        /* 503, not 401: a broken directory must not look like a wrong password. */
        return fail_cause(&rq->call, KT_UNAVAILABLE, NULL, "authentication is broken: %s",
                          err->text);
    }
}

/* --- the step ----------------------------------------------------------------------------- */

static int
identify_peer(struct request *rq)
{
    /* The shortage may have been a passing one. */
    if (rq->peer->broken)
        authn_peer(rq->peer);
    struct principal *who = rq->peer->who;
    if (rq->peer->broken)
        return fail_cause(&rq->call, KT_UNAVAILABLE, NULL, "authentication is broken");
    if (!who)
        return refuse_unnamed(rq);
    if (who->expires_ms != 0 && who->expires_ms <= rq->call.now_ms)
        return fail(&rq->call, KT_UNAUTHORIZED, "Auth.InvalidToken", "Invalid token");
    rq->call.who = principal_ref(who);
    return KT_OK;
}

/* *ret_link: which plugin it was. */
static int
ask_plugins(struct request *rq, struct authn_chain *chain, bool may_block, struct link **ret_link)
{
    struct kaiten_caller caller = rq->peer->caller;
    caller.credential = (struct kaiten_bytes){ rq->credential.p, rq->credential.n };
    struct kaiten_sink sink = { .svc = chain->svc, .on_loop = !may_block, .call = &rq->call };
    struct kaiten_err err = { "" };
    host_set_deadline(rq->call.deadline_ms);
    int verdict = ask_chain(chain, &caller, may_block, &sink, &err, ret_link);
    host_set_deadline(0);
    if (verdict == WOULD_BLOCK || verdict == ASKS)
        return verdict == ASKS ? CALL_ASKS : CALL_WOULD_BLOCK;
    int status = conclude(rq, verdict, &sink, &err);
    if (status != KT_OK)
        sink.who = principal_unref(sink.who);
    rq->call.who = sink.who;
    return status;
}

static int
identify_credential(struct request *rq, bool may_block)
{
    struct authn_chain *chain = (struct authn_chain *)(uintptr_t)rq->peer->chain;
    /* Read before the plugins are asked: a verdict made while their rules change is filed under the
     * old epoch, where nobody finds it. */
    const uint64_t epoch = host_verdict_epoch();
    struct authn_key key = authn_cache_key(chain->cache, chain, epoch, rq->credential);
    rq->call.who = authn_cache_get(chain->cache, &key, rq->call.now_ms);
    if (rq->call.who)
        return KT_OK;
    /* A good token of ours is accepted even from a source that is refused for its wrong
     * credentials. */
    int too_many = token_text_check(rq->credential) ? KT_OK : limits_stranger(rq);
    if (too_many != KT_OK)
        return too_many;
    struct link *l = NULL;
    int status = ask_plugins(rq, chain, may_block, &l);
    if (status == KT_OK && (l->auth->caps & KAITEN_AUTH_CACHE))
        authn_cache_put(chain->cache, &key, rq->call.who);
    return status;
}

int
authn_identify(struct request *rq, bool may_block)
{
    if (rq->credential.p)
        return identify_credential(rq, may_block);
    return rq->transport->door == DOOR_SOCKET ? identify_peer(rq) : refuse_unnamed(rq);
}

/* --- our own tokens as callers ------------------------------------------------------------ */

static struct principal *
token_principal(const struct service *svc, const struct index_hit *hit)
{
    const struct kt_strlist *list = &hit->scopes->list;
    const char *scopes[KAITEN_SCOPES_MAX];
    if (list->n > KAITEN_SCOPES_MAX)
        return NULL;
    char texts[KAITEN_SCOPES_MAX * (KAITEN_SCOPE_MAX + 1)];
    size_t used = 0;
    for (size_t i = 0; i < list->n; i++) {
        if (used + list->v[i].n + 1 > sizeof texts)
            return NULL;
        scopes[i] = memcpy(texts + used, list->v[i].p, list->v[i].n);
        used += list->v[i].n;
        texts[used++] = '\0';
    }
    const struct kaiten_principal p = {
        .size = sizeof p,
        .subject = hit->text->ext_id.p,
        .organization = hit->text->org_ext.p,
        .name = hit->text->name.p,
        .scopes = scopes,
        .nscopes = list->n,
        .expires_at_ms = atomic_load_explicit(&hit->record->expires_ms, memory_order_relaxed),
        .proof = "token",
    };
    struct principal *who = principal_new(&p);
    if (who) {
        /* createdBy names the account by its row, not as a user of that name. */
        who->id = hit->account->id;
        who->org = hit->account->org;
        limits_adopt(svc->limits, who);
    }
    return who;
}

static enum token_judgement
judge(struct kaiten_sink *sink, const struct token_digest *digest, struct index_hit *hit,
      int64_t now_ms)
{
    enum token_judgement said = token_judge_digest(sink->svc, digest, now_ms, hit);
    if (said == TOKEN_LIVE)
        token_note_use(sink->svc, hit, now_ms);
    return said;
}

/* For when the index may change under us, or does not know enough. */
static enum token_judgement
judge_on_worker(struct kaiten_sink *sink, const struct token_digest *digest,
                struct principal **ret_who)
{
    struct index_hit hit;
    pthread_rwlock_rdlock(sink->svc->index_guard);
    enum token_judgement said = judge(sink, digest, &hit, clock_now_ms(clock_mono_ms()));
    if (said == TOKEN_LIVE)
        *ret_who = token_principal(sink->svc, &hit);
    pthread_rwlock_unlock(sink->svc->index_guard);
    if (said != TOKEN_ASK)
        return said;
    sink->broken = !sink->call || token_ask(sink->call, digest, &hit, &said) != KT_OK;
    errno = EINVAL;
    if (sink->broken || said != TOKEN_LIVE)
        return TOKEN_UNKNOWN;
    token_note_asked(sink->call, digest, &hit);
    *ret_who = token_principal(sink->svc, &hit);
    return said;
}

struct principal *
authn_token_caller(struct kaiten_sink *sink, struct kt_secret_view secret)
{
    struct principal *who = NULL;
    struct index_hit hit;
    errno = EINVAL;
    if (!token_text_check(secret))
        return NULL;
    const struct token_digest digest = token_digest(sink->svc, secret);
    if (!sink->on_loop) {
        (void)judge_on_worker(sink, &digest, &who);
        return who;
    }
    enum token_judgement said = judge(sink, &digest, &hit, clock_now_ms(clock_mono_ms()));
    sink->asks = said == TOKEN_ASK;
    errno = EINVAL;
    return said == TOKEN_LIVE ? token_principal(sink->svc, &hit) : NULL;
}
