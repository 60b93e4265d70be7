/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/commit.h"

#include "daemon/index.h"
#include "daemon/journal.h"
#include "daemon/log.h"
#include "daemon/model/account.h"
#include "daemon/model/endings.h"
#include "daemon/service.h"
#include "daemon/store.h"
#include "daemon/timeguard.h"
#include "daemon/unsettled.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum { GROUP_MAX = 512 }; /* batches of one sync; below KAITEN_APPLY_BATCHES_MAX */

struct committer {
    struct service *svc;
    void (*again)(struct request *);
    void (*done)(struct request *list);
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows; nothing else is locked while it is held */
    pthread_cond_t wake, rested;
    bool paused, working;
    struct request *first, **last; /* waiting, oldest first */
    struct errand *errands, **last_errand;
    bool stop;
    bool joined;     /* of who stops it */
    size_t shrunk;   /* records of the journal when it was last made smaller */
    uint64_t marked; /* what the store knows of the journal; the thread's own, as its neighbours */
    bool unsure;     /* the journal has an ending of which nobody knows whether the store has it */
    struct kt_arena arena;
    struct group *group; /* the thread's own */
};

/* Finished requests, in order. */
struct finished {
    struct request *first, **last;
};

/* One turn of the thread. */
struct group {
    struct errand *errands;
    struct request *requests[GROUP_MAX];
    struct batch *batches[GROUP_MAX + 1]; /* and one of the committer's own */
    struct kaiten_outcome outcomes[GROUP_MAX + 1];
    size_t n, nendings;
    struct finished done;
};

/* --- what the index learns ---------------------------------------------------------------- */

static struct index_account_text
account_text(const struct account_record *a)
{
    return (struct index_account_text){ a->org_ext, a->slug, a->external_id, a->name };
}

static bool
prepare_account(struct index *index, struct effect *e)
{
    const struct index_account_text text = account_text(e->account);
    return index_account_put(index, &e->account->id, &e->account->org, &text, e->account->epoch,
                             &e->number) != INDEX_NO_MEMORY;
}

/* Everything that can fail happens before the store is asked, so that what became durable can
 * always be told to the index. Only a token brings its account along: what is refused would stay
 * in the index for ever. */
static bool
prepare(struct index *index, struct batch *b)
{
    for (size_t i = 0; i < b->neffects; i++) {
        struct effect *e = &b->effects[i];
        if (e->type == EFFECT_TOKEN &&
            (!prepare_account(index, e) ||
             index_scopes_put(index, e->scopes, e->nscopes, &e->list) == INDEX_NO_MEMORY))
            return false;
    }
    return true;
}

/* A rename without memory leaves the old name in the index until the next start: worth a line,
 * not worth refusing what is durable. */
static void
rename_account(struct index *index, uint32_t number, const struct account_record *a)
{
    const struct index_account_text text = account_text(a);
    const struct index_account_text *now = atomic_load(&index_account_at(index, number)->text);
    if (!kt_str_eq(now->name, a->name) && index_account_rename(index, number, &text) != INDEX_OK)
        log_line(LOG_LEVEL_WARNING, "index.rename", "message=%s", "no memory");
}

static void
publish_token(struct index *index, const struct effect *e)
{
    const struct index_token token = { .id = e->token,
                                       .account = e->number,
                                       .scopes = e->list,
                                       .epoch = e->epoch,
                                       .last_used = e->last_used,
                                       .expires_ms = e->expires_ms };
    /* One that was refused may have brought an older name. */
    rename_account(index, e->number, e->account);
    enum index_status status = index_add(index, e->digest, &token);
    if (status != INDEX_OK)
        log_line(LOG_LEVEL_ERROR, "index.add", "status=%d", (int)status);
}

/* An account that has never had a token is not in the index, and need not be. */
static void
publish_account(struct index *index, const struct effect *e)
{
    uint32_t number;
    if (index_account_find(index, &e->account->id, &number))
        rename_account(index, number, e->account);
}

static void
publish_account_epoch(struct index *index, const struct effect *e)
{
    uint32_t number;
    if (index_account_find(index, &e->account->id, &number))
        index_account_set_epoch(index, number, e->epoch);
}

static void
publish_account_end(struct index *index, const struct effect *e)
{
    uint32_t number;
    if (index_account_find(index, &e->account->id, &number))
        index_account_end(index, number, e->epoch);
}

/* Whoever has read the store before must not put into the index what it read: see token_ask(). */
static bool
takes_away(const struct effect *e)
{
    return e->type != EFFECT_NONE && e->type != EFFECT_ACCOUNT && e->type != EFFECT_TOKEN &&
           e->type != EFFECT_QUIESCED;
}

static void
publish(struct service *svc, const struct batch *b)
{
    struct index *index = svc->index;
    for (size_t i = 0; i < b->neffects; i++) {
        const struct effect *e = &b->effects[i];
        if (takes_away(e))
            atomic_fetch_add(&svc->ends, 1);
        switch (e->type) {
        case EFFECT_NONE: break;
        case EFFECT_ACCOUNT: publish_account(index, e); break;
        case EFFECT_ACCOUNT_EPOCH: publish_account_epoch(index, e); break;
        case EFFECT_ACCOUNT_END: publish_account_end(index, e); break;
        case EFFECT_TOKEN: publish_token(index, e); break;
        case EFFECT_REVOKE: index_revoke(index, e->digest); break;
        case EFFECT_REMOVE: index_remove(index, e->digest); break;
        case EFFECT_QUIESCED: index_quiesced(index); break;
        case EFFECT_EXPIRY: index_set_expiry(index, e->digest, e->expires_ms); break;
        }
    }
}

/* Nobody can tell whether the batch is durable. What it was to end ends here in any case: a secret
 * that is refused too early does less harm than one that the store has revoked and we accept. */
static void
publish_ends(struct service *svc, const struct batch *b)
{
    struct index *index = svc->index;
    atomic_fetch_add(&svc->ends, 1);
    for (size_t i = 0; i < b->neffects; i++) {
        const struct effect *e = &b->effects[i];
        if (e->type == EFFECT_ACCOUNT_END)
            publish_account_end(index, e);
        else if (e->type == EFFECT_ACCOUNT_EPOCH)
            publish_account_epoch(index, e);
        else if (e->type == EFFECT_REVOKE)
            index_revoke(index, e->digest);
        else if (e->type == EFFECT_EXPIRY)
            index_set_expiry(index, e->digest, e->expires_ms);
    }
}

/* --- what the journal is told ------------------------------------------------------------- */

static bool
is_ending(const struct effect *e)
{
    return e->type == EFFECT_ACCOUNT_END || e->type == EFFECT_ACCOUNT_EPOCH ||
           e->type == EFFECT_REVOKE || e->type == EFFECT_EXPIRY;
}

static size_t
count_endings(const struct batch *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->neffects; i++)
        n += is_ending(&b->effects[i]) ? 1 + b->effects[i].nformer : 0;
    return n;
}

static struct journal_entry
entry_of(const struct effect *e, int64_t now_ms)
{
    struct journal_entry entry = { .type = JOURNAL_DIGEST, .at_ms = now_ms,
                                   .until_ms = e->until_ms };
    if (e->type == EFFECT_ACCOUNT_END || e->type == EFFECT_ACCOUNT_EPOCH) {
        entry.type = e->type == EFFECT_ACCOUNT_END ? JOURNAL_ACCOUNT : JOURNAL_EPOCH;
        entry.epoch = e->epoch;
        entry.org = e->account->org;
        memcpy(entry.id, e->account->id.b, sizeof e->account->id.b);
        return entry;
    }
    if (e->type == EFFECT_EXPIRY) {
        entry.type = JOURNAL_CAP;
        entry.ends_ms = e->expires_ms;
    }
    memcpy(entry.id, e->digest, sizeof entry.id);
    if (e->type == EFFECT_REVOKE && e->whole) {
        entry.type = JOURNAL_REVOKED;
        entry.org = e->account->org;
        entry.account = e->account->id;
        memcpy(entry.id + JOURNAL_DIGEST_KEPT, e->token.b, sizeof e->token.b);
    }
    return entry;
}

static void
write_down(struct journal *j, const struct batch *b, int64_t now_ms)
{
    for (size_t i = 0; i < b->neffects; i++) {
        if (!is_ending(&b->effects[i]))
            continue;
        const struct effect *e = &b->effects[i];
        struct journal_entry entry = entry_of(e, now_ms);
        journal_add(j, &entry);
        for (size_t k = 0; k < e->nformer; k++) {
            memcpy(entry.id, e->former[k],
                   entry.type == JOURNAL_REVOKED ? JOURNAL_DIGEST_KEPT : sizeof entry.id);
            journal_add(j, &entry);
        }
    }
}

/* A secret that is not handed out, because nobody knows whether it is there: with a key it can be
 * had by asking again, otherwise it is to be gone. Of a rotation only the secret. Work of our own
 * makes no secrets. */
static bool
is_orphan(const struct request *rq, const struct effect *e)
{
    return e->type == EFFECT_TOKEN && !rq->idempotency_key.p && !rq->landed;
}

static void
note_unsettled(struct committer *c, const struct request *rq, bool room, int64_t now_ms)
{
    const struct batch *b = rq->batch;
    const size_t endings = count_endings(b);
    for (size_t i = 0; i < b->neffects; i++) {
        const struct effect *e = &b->effects[i];
        if (!is_ending(e) && !is_orphan(rq, e))
            continue;
        struct journal_entry entry = entry_of(e, now_ms);
        if (e->type == EFFECT_TOKEN) {
            entry.type = endings == 0 ? JOURNAL_TOKEN : JOURNAL_DIGEST;
            entry.until_ms = e->expires_ms;
            if (room)
                journal_add(c->svc->journal, &entry);
        }
        if (c->svc->unsettled)
            unsettled_add(c->svc->unsettled, &entry, clock_mono_ms());
        c->unsure = true;
    }
}

static enum kaiten_status
status_of(const struct group *g, enum kaiten_status all, size_t i)
{
    return all == KAITEN_DONE ? g->outcomes[i].status : all;
}

static bool
has_unknown(const struct group *g, enum kaiten_status all)
{
    for (size_t i = 0; i < g->n; i++)
        if (status_of(g, all, i) == KAITEN_UNKNOWN)
            return true;
    return false;
}

/* After the store, before the index and the answers. What may or may not be in the store is written
 * down too: from now on it counts as ended. */
static void
write_down_group(struct committer *c, const struct group *g, enum kaiten_status all)
{
    const int64_t now_ms = clock_now_ms(clock_mono_ms());
    bool room = has_unknown(g, all) && c->svc->journal &&
                journal_reserve(c->svc->journal, JOURNAL_ROOM);
    for (size_t i = 0; i < g->n; i++) {
        enum kaiten_status status = status_of(g, all, i);
        if (g->nendings != 0 && (status == KAITEN_DONE || status == KAITEN_UNKNOWN))
            write_down(c->svc->journal, g->batches[i], now_ms);
        if (status == KAITEN_UNKNOWN)
            note_unsettled(c, g->requests[i], room, now_ms);
    }
    if (c->svc->journal)
        journal_sync(c->svc->journal);
}

/* When the journal has grown to twice of what was left the last time. Not while the next start may
 * need what would go. */
static void
shrink_journal(struct committer *c)
{
    struct journal *j = c->svc->journal;
    if (!j || c->unsure || journal_entries(j) < JOURNAL_MANY || journal_entries(j) < 2 * c->shrunk)
        return;
    if (!journal_compact(j, clock_sure_ms(), c->svc->journal_keep_ms))
        log_line(LOG_LEVEL_WARNING, "journal.compact", "message=%s", strerror(errno));
    c->shrunk = journal_entries(j);
}

/* What the journal had synced before this group goes into the store with it, when there is
 * something new to say and the journal grows anyway. Once an ending may be missing from the store
 * the mark stays below it, so that the next start does it again. NULL: not now. */
static struct batch *
mark_batch(struct committer *c, const struct group *g)
{
    if (g->nendings == 0 || c->unsure || journal_last(c->svc->journal) == c->marked)
        return NULL;
    kt_arena_reset(&c->arena);
    struct batch *b = batch_new(&c->arena);
    if (b)
        endings_put_mark(b, c->svc->store, c->svc->journal);
    return b && !b->failed ? b : NULL;
}

/* --- one group ---------------------------------------------------------------------------- */

static void
finish(struct finished *done, struct request *rq)
{
    if (rq->landed) {
        rq->landed(rq);
        return;
    }
    rq->next = NULL;
    *done->last = rq;
    done->last = &rq->next;
}

/* Whoever has read the world before it changed does so again; work of our own is done later. */
static void
look_again(struct committer *c, struct group *g, struct request *rq)
{
    if (!rq->landed) {
        c->again(rq);
        return;
    }
    fail(&rq->call, KT_CONFLICT, NULL, "the world has changed");
    finish(&g->done, rq);
}

/* Made with keys that have retired since: once they are not in force any more, nothing that comes
 * to depend on them gets into the store. */
static bool
is_stale(const struct committer *c, const struct batch *b)
{
    return b->keys && b->keys != store_keys(c->svc->store);
}

static void
refuse_unprepared(struct committer *c, struct group *g)
{
    size_t kept = 0;
    bool room = index_reserve(c->svc->index, g->n * BATCH_EFFECTS_MAX) == INDEX_OK;
    for (size_t i = 0; i < g->n; i++) {
        struct request *rq = g->requests[i];
        if (is_stale(c, rq->batch)) {
            look_again(c, g, rq);
            continue;
        }
        if (room && prepare(c->svc->index, rq->batch)) {
            g->batches[kept] = rq->batch;
            g->requests[kept++] = rq;
            continue;
        }
        fail_memory(&rq->call);
        finish(&g->done, rq);
    }
    g->n = kept;
}

/* Counts them; what is beyond the room of one group has to wait for another one. */
static void
take_endings(struct committer *c, struct group *g)
{
    size_t kept = 0;
    for (size_t i = 0; i < g->n; i++) {
        size_t n = count_endings(g->batches[i]);
        if (g->nendings + n > JOURNAL_ROOM) {
            look_again(c, g, g->requests[i]);
            continue;
        }
        g->nendings += n;
        g->batches[kept] = g->batches[i];
        g->requests[kept++] = g->requests[i];
    }
    g->n = kept;
}

/* An ending that could not be written down would come back with an old copy of the store. */
static void
refuse_unwritable(struct committer *c, struct group *g)
{
    size_t kept = 0;
    g->nendings = 0;
    if (!c->svc->journal)
        return;
    take_endings(c, g);
    if (g->nendings == 0 || journal_reserve(c->svc->journal, g->nendings))
        return;
    g->nendings = 0;
    for (size_t i = 0; i < g->n; i++) {
        struct request *rq = g->requests[i];
        if (count_endings(g->batches[i]) == 0) {
            g->batches[kept] = g->batches[i];
            g->requests[kept++] = rq;
            continue;
        }
        fail_cause(&rq->call, KT_UNAVAILABLE, "Storage.Full", "no room for the journal");
        finish(&g->done, rq);
    }
    g->n = kept;
}

static void
refuse_conflict(struct committer *c, struct group *g, struct request *rq, size_t which)
{
    const struct refusal *r = which < rq->batch->nconds ? &rq->batch->refusals[which] : NULL;
    if (r && r->kind == KT_OK) {
        look_again(c, g, rq);
        return;
    }
    if (r)
        fail(&rq->call, r->kind, r->code, "%s%.*s%s", r->before, KT_FMT(r->name),
             r->after ? r->after : "");
    else
        fail_cause(&rq->call, KT_INTERNAL, NULL, "storage names condition %zu, which is not there",
                   which);
    finish(&g->done, rq);
}

static void
conclude(struct committer *c, struct group *g, size_t i, enum kaiten_status status,
         const char *why)
{
    struct request *rq = g->requests[i];
    switch (status) {
    case KAITEN_DONE:
        publish(c->svc, rq->batch);
        finish(&g->done, rq);
        return;
    case KAITEN_CONFLICT:
        refuse_conflict(c, g, rq, g->outcomes[i].failed);
        return;
    case KAITEN_UNKNOWN:
        publish_ends(c->svc, rq->batch);
        fail_cause(&rq->call, KT_UNAVAILABLE, NULL, "storage cannot say what it has done: %s", why);
        break;
    case KAITEN_RETRY:
        fail_cause(&rq->call, KT_UNAVAILABLE, NULL, "storage apply: %s", why);
        break;
    case KAITEN_FULL:
        fail_cause(&rq->call, KT_UNAVAILABLE, "Storage.Full", "storage is full: %s", why);
        break;
    default:
        fail_cause(&rq->call, KT_INTERNAL, NULL, "storage apply failed (status %d): %s",
                   (int)status, why);
        break;
    }
    finish(&g->done, rq);
}

static void
commit_group(struct committer *c, struct group *g)
{
    char why[512] = "";
    g->done.last = &g->done.first;
    g->done.first = NULL;
    refuse_unprepared(c, g);
    refuse_unwritable(c, g);
    enum kaiten_status all = KAITEN_DONE;
    struct batch *mark = mark_batch(c, g);
    uint64_t number = mark ? journal_last(c->svc->journal) : 0;
    g->batches[g->n] = mark;
    size_t n = g->n + (mark ? 1 : 0);
    if (n != 0)
        all = store_apply(c->svc->store, g->batches, n, g->outcomes, why, sizeof why);
    if (mark && all == KAITEN_DONE && g->outcomes[g->n].status == KAITEN_DONE)
        c->marked = number;
    write_down_group(c, g, all);
    for (size_t i = 0; i < g->n; i++)
        conclude(c, g, i, status_of(g, all, i), why);
    if (g->done.first)
        c->done(g->done.first);
    shrink_journal(c);
}

/* --- the thread --------------------------------------------------------------------------- */

/* False: stopped, and nothing is waiting. */
static bool
take_group(struct committer *c, struct group *g)
{
    pthread_mutex_lock(&c->lock);
    c->working = false;
    if (c->paused)
        pthread_cond_broadcast(&c->rested);
    while (c->paused || (!c->first && !c->errands && !c->stop))
        pthread_cond_wait(&c->wake, &c->lock);
    c->working = true;
    g->errands = c->errands;
    c->errands = NULL;
    c->last_errand = &c->errands;
    for (g->n = 0; c->first && g->n < GROUP_MAX; g->n++) {
        g->requests[g->n] = c->first;
        c->first = c->first->next;
    }
    if (!c->first)
        c->last = &c->first;
    pthread_mutex_unlock(&c->lock);
    return g->n != 0 || g->errands;
}

static void
run_errands(struct errand *list)
{
    for (struct errand *next; list; list = next) {
        next = list->next;
        list->run(list);
    }
}

static void *
committer_main(void *arg)
{
    struct committer *c = arg;
    struct group *g = c->group;
    while (take_group(c, g)) {
        run_errands(g->errands);
        if (g->n != 0)
            commit_group(c, g);
    }
    return NULL;
}

struct committer *
committer_new(struct service *svc, void (*again)(struct request *),
              void (*done)(struct request *list))
{
    pthread_condattr_t monotonic;
    struct committer *c = calloc(1, sizeof *c);
    struct group *group = calloc(1, sizeof *group);
    if (!c || !group) {
        free(group);
        free(c);
        return NULL;
    }
    c->group = group;
    c->svc = svc;
    c->again = again;
    c->done = done;
    c->last = &c->first;
    c->last_errand = &c->errands;
    kt_arena_init(&c->arena, 64 * 1024);
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&c->wake, NULL);
    pthread_cond_init(&c->rested, &monotonic);
    pthread_condattr_destroy(&monotonic);
    errno = pthread_create(&c->thread, NULL, committer_main, c);
    if (errno == 0) {
        pthread_setname_np(c->thread, "committer");
        return c;
    }
    free(group);
    free(c);
    return NULL;
}

static void
refuse_stopped(struct committer *c, struct request *list)
{
    struct finished done = { NULL, &done.first };
    for (struct request *rq = list, *next; rq; rq = next) {
        next = rq->next;
        fail(&rq->call, KT_UNAVAILABLE, "Server.Busy", "the server is going down, please retry");
        finish(&done, rq);
    }
    if (done.first)
        c->done(done.first);
}

void
committer_push(struct committer *c, struct request *list)
{
    struct request *last = list;
    while (last->next)
        last = last->next;
    pthread_mutex_lock(&c->lock);
    bool stopped = c->stop, idle = c->first == NULL;
    if (!stopped) {
        *c->last = list;
        c->last = &last->next;
    }
    pthread_mutex_unlock(&c->lock);
    /* Without the lock, or the thread would wake up only to wait for it. */
    if (stopped)
        refuse_stopped(c, list);
    else if (idle)
        pthread_cond_signal(&c->wake);
}

void
committer_stop(struct committer *c)
{
    if (!c || c->joined)
        return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    c->joined = true;
}

void
committer_run(struct committer *c, struct errand *e)
{
    e->next = NULL;
    pthread_mutex_lock(&c->lock);
    *c->last_errand = e;
    c->last_errand = &e->next;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

bool
committer_pause(struct committer *c, int64_t deadline_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t left = deadline_ms - clock_mono_ms(), ns = until.tv_nsec + left % 1000 * 1000000;
    until.tv_sec += left / 1000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    int status = 0;
    pthread_mutex_lock(&c->lock);
    while (c->paused && status == 0)
        status = pthread_cond_timedwait(&c->rested, &c->lock, &until);
    bool mine = !c->paused;
    c->paused = true;
    while (mine && c->working && status == 0)
        status = pthread_cond_timedwait(&c->rested, &c->lock, &until);
    bool rests = mine && !c->working;
    pthread_mutex_unlock(&c->lock);
    if (mine && !rests)
        committer_go_on(c);
    return rests;
}

void
committer_go_on(struct committer *c)
{
    pthread_mutex_lock(&c->lock);
    c->paused = false;
    pthread_cond_signal(&c->wake);
    pthread_cond_broadcast(&c->rested);
    pthread_mutex_unlock(&c->lock);
}

void
committer_free(struct committer *c)
{
    if (!c)
        return;
    committer_stop(c);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->wake);
    pthread_cond_destroy(&c->rested);
    kt_arena_done(&c->arena);
    free(c->group);
    free(c);
}
