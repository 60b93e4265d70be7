/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/keeper_private.h"

#include "daemon/index.h"
#include "daemon/journal.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/model/endings.h"
#include "daemon/model/fellows.h"
#include "daemon/model/timemark.h"
#include "daemon/model/token.h"
#include "daemon/service.h"
#include "daemon/signer.h"
#include "daemon/timedwait.h"
#include "daemon/unsettled.h"

#include <errno.h>
#include <stdlib.h>

enum {
    TICK_MS = 1000,     /* how often the clock is looked at */
    PASS_MIN_MS = 1000, /* between two passes of purging */
    ARENA_MAX = 64 * 1024 * 1024,
    SETTLE_MAX = 32     /* unsettled endings that are looked at together */
};

_Static_assert((int)ENDINGS_TIDY_MAX <= (int)KEEPER_TOGETHER, "all of a tidying can be committed");

/* --- waiting ------------------------------------------------------------------------------ */

bool
keeper_rest(struct keeper *k, int64_t ms)
{
    const struct timespec until = timedwait_end(ms);
    pthread_mutex_lock(&k->lock);
    int status = 0;
    while (!k->stop && status == 0)
        status = pthread_cond_timedwait(&k->wake, &k->lock, &until);
    bool stop = k->stop;
    pthread_mutex_unlock(&k->lock);
    return stop;
}

static void
job_landed(struct request *rq)
{
    struct keeper *k = rq->conn;
    pthread_mutex_lock(&k->lock);
    if (--k->flying == 0)
        pthread_cond_broadcast(&k->wake);
    pthread_mutex_unlock(&k->lock);
}

size_t
keeper_commit(struct keeper *k, struct batch *const batches[], size_t n)
{
    size_t missed = 0;
    pthread_mutex_lock(&k->lock);
    k->flying = n;
    pthread_mutex_unlock(&k->lock);
    for (size_t i = 0; i < n; i++) {
        k->jobs[i] = (struct request){ .call = k->call, .conn = k, .batch = batches[i],
                                       .landed = job_landed };
        k->jobs[i].next = i + 1 < n ? &k->jobs[i + 1] : NULL;
    }
    if (n)
        committer_push(k->svc->committer, k->jobs);
    pthread_mutex_lock(&k->lock);
    while (k->flying != 0)
        pthread_cond_wait(&k->wake, &k->lock);
    pthread_mutex_unlock(&k->lock);
    for (size_t i = 0; i < n; i++)
        missed += k->jobs[i].call.err.kind != KT_OK;
    return missed;
}

void
keeper_begin(struct keeper *k)
{
    kt_arena_reset(&k->arena);
    k->call = (struct call){ .svc = k->svc, .arena = &k->arena, .deadline_ms = INT64_MAX,
                             .now_ms = clock_now_ms(clock_mono_ms()) };
}

bool
keeper_is_shared(const struct keeper *k)
{
    return k->svc->follower != NULL;
}

/* --- purging ------------------------------------------------------------------------------ */

static void
on_quiet(void *ctx)
{
    struct keeper *k = ctx;
    pthread_mutex_lock(&k->lock);
    k->quiet = true;
    pthread_cond_broadcast(&k->wake);
    pthread_mutex_unlock(&k->lock);
}

void
keeper_wait_for_readers(struct keeper *k)
{
    k->quiet = false;
    loops_barrier(k->loops, on_quiet, k);
    pthread_mutex_lock(&k->lock);
    while (!k->quiet)
        pthread_cond_wait(&k->wake, &k->lock);
    pthread_mutex_unlock(&k->lock);
    pthread_rwlock_wrlock(k->svc->index_guard);
    pthread_rwlock_unlock(k->svc->index_guard);
}

/* False: there is nothing more to do, or it has to be put off. */
static bool
purge_piece(struct keeper *k, struct purge *p, size_t *purged)
{
    struct batch *batches[PURGE_BATCHES_MAX];
    size_t n = 0;
    bool done = false;
    keeper_begin(k);
    if (purge_step(&k->call, p, batches, &n, &done) != KT_OK)
        return false; /* the log says why */
    size_t missed = keeper_commit(k, batches, n);
    if (missed != 0)
        purge_missed(p);
    *purged += n - missed;
    for (size_t i = 0; i < n; i++)
        k->removed |= batches[i]->neffects != 0;
    return !done && !keeper_rest(k, n != 0 ? KEEPER_PAUSE_MS : 0);
}

static void
purge(struct keeper *k)
{
    size_t purged = 0;
    struct purge *p = purge_new(&k->options.purge, clock_sure_ms());
    if (!p)
        return;
    while (purge_piece(k, p, &purged))
        ;
    purge_free(p);
    if (purged != 0)
        log_line(LOG_LEVEL_INFO, "purged", "batches=%zu", purged);
}

static int64_t
pass_interval(const struct keeper *k)
{
    int64_t keep = k->options.purge.retention_ms, ms = KEEPER_PASS_MAX_MS;
    if (keep != 0 && keep / 10 < ms)
        ms = keep / 10;
    keep = k->options.purge.audit_ms;
    if (keep != 0 && keep / 10 < ms)
        ms = keep / 10;
    return ms < PASS_MIN_MS ? PASS_MIN_MS : ms;
}

/* So that the other daemons see that this one lives, and the rows of those that are gone are
 * dropped. */
static void
tidy_marks(struct keeper *k, bool others)
{
    struct endings_tidying t;
    if (!keeper_is_shared(k) || !k->svc->journal)
        return;
    keeper_begin(k);
    if (endings_tidy_marks(&k->call, k->svc->journal, others, clock_sure_ms(), &t) != KT_OK)
        return; /* the log says why */
    size_t missed = keeper_commit(k, t.batches, t.n);
    if (t.dropped != 0 && missed == 0)
        log_line(LOG_LEVEL_NOTICE, "journal.forgotten", "journals=%zu message=%s", t.dropped,
                 "of daemons that nobody has heard of for long");
}

/* One of the daemons of a store purges it, whoever comes first when it is due. */
static bool
is_our_pass(struct keeper *k)
{
    struct batch *b = NULL;
    if (!keeper_is_shared(k))
        return true;
    keeper_begin(k);
    return fellows_propose_pass(&k->call, pass_interval(k), &b) == KT_OK && b &&
           keeper_commit(k, &b, 1) == 0;
}

/* --- what nobody knows whether the store has it ------------------------------------------- */

static int
propose_end(struct keeper *k, const struct journal_entry *entry, struct batch **ret)
{
    *ret = NULL;
    if (entry->type == JOURNAL_TOKEN)
        return token_withdraw(&k->call, entry, ret);
    return endings_propose(&k->call, entry, ret);
}

/* A secret that nobody has may have come into the index since, with the changes of other daemons.
 * What the index knew has ended there already. */
static void
end_in_index(const struct journal_entry *entry, struct batch *b)
{
    if (entry->type != JOURNAL_TOKEN && entry->type != JOURNAL_DIGEST)
        return;
    struct effect *e = batch_effect(b, EFFECT_REVOKE);
    memcpy(e->digest, entry->id, sizeof e->digest);
    e->until_ms = entry->until_ms;
}

static void
settle(struct keeper *k)
{
    struct journal_entry entries[SETTLE_MAX];
    struct batch *batches[SETTLE_MAX];
    const int64_t now_ms = clock_mono_ms();
    size_t found = 0, due = unsettled_due(k->svc->unsettled, now_ms, entries, SETTLE_MAX);
    if (due == 0)
        return;
    keeper_begin(k);
    for (size_t i = 0; i < due; i++) {
        struct batch *b = NULL;
        if (propose_end(k, &entries[i], &b) != KT_OK)
            return; /* the log says why */
        if (!b) {
            unsettled_found(k->svc->unsettled, &entries[i], now_ms);
            continue;
        }
        end_in_index(&entries[i], b);
        batches[found++] = b;
    }
    size_t done = found - keeper_commit(k, batches, found);
    if (done != 0)
        log_line(LOG_LEVEL_NOTICE, "settled", "endings=%zu message=%s", done,
                 "the store could not say whether it had them; now it has");
}

/* --- time --------------------------------------------------------------------------------- */

static void
look_at_clock(struct keeper *k)
{
    int64_t jump;
    timeguard_tick(&k->guard, clock_wall_ms(), clock_mono_ms(), &jump);
    timeguard_publish(&k->guard);
    if (jump != 0)
        log_line(LOG_LEVEL_WARNING, "clock.jumped", "ms=%lld", (long long)jump);
    bool behind = clock_is_behind();
    if (behind && !k->guard.behind)
        log_line(LOG_LEVEL_ERROR, "clock.behind", "message=%s",
                 "the clock is behind the time that has passed; nothing is minted until it is set "
                 "right, see kaitend(8) for --accept-clock");
    k->guard.behind = behind;
}

static void
run_quiesced(struct errand *e)
{
    struct keeper *k = (struct keeper *)((char *)e - offsetof(struct keeper, errand));
    (void)committer_take_index(k->svc->committer, 0);
    index_quiesced(k->svc->index);
    committer_give_index(k->svc->committer);
    on_quiet(k);
}

static void
tell_quiesced(struct keeper *k)
{
    k->quiet = false;
    k->errand.run = run_quiesced;
    committer_run(k->svc->committer, &k->errand);
    pthread_mutex_lock(&k->lock);
    while (!k->quiet)
        pthread_cond_wait(&k->wake, &k->lock);
    pthread_mutex_unlock(&k->lock);
}

/* The batch of the mark also tells the index that what it gave up may be used again. */
static void
write_mark(struct keeper *k)
{
    struct timeguard_mark mark = { .mono_ms = clock_mono_ms() };
    mark.mark_ms = timeguard_mark_ms(&k->guard, mark.mono_ms);
    memcpy(mark.boot, k->boot, sizeof mark.boot);
    keeper_begin(k);
    struct batch *b = batch_new(&k->arena);
    if (!b)
        return;
    if (!keeper_is_shared(k))
        timemark_put(b, &mark);
    else if (timemark_propose(&k->call, &mark, b) != KT_OK)
        return;
    bool quiesced = k->removed;
    k->removed = false;
    if (b->nwrites == 0) {
        if (quiesced)
            tell_quiesced(k);
        return;
    }
    if (quiesced)
        (void)batch_effect(b, EFFECT_QUIESCED);
    if (!b->failed)
        (void)keeper_commit(k, &b, 1);
}

/* Drops keys under which no JWT can be valid any more. */
static void
drop_signing_keys(struct keeper *k)
{
    char err[SIGNER_ERROR_MAX];
    if (!signer_withdraw(k->svc->signer, "", clock_sure_ms(), err))
        log_line(LOG_LEVEL_WARNING, "key.published", "message=%s", err);
}

/* --- the thread --------------------------------------------------------------------------- */

/* A wait that has become shorter ends accordingly earlier. */
static void
take_options(struct keeper *k)
{
    pthread_mutex_lock(&k->lock);
    bool other = memcmp(&k->options, &k->wanted, sizeof k->options) != 0;
    k->options = k->wanted;
    pthread_mutex_unlock(&k->lock);
    int64_t now = clock_mono_ms();
    if (other && k->used_at > now + k->options.used_ms)
        k->used_at = now + k->options.used_ms;
    if (other && k->pass_at > now + pass_interval(k))
        k->pass_at = now + pass_interval(k);
}

static void
work(struct keeper *k)
{
    take_options(k);
    int64_t now = clock_mono_ms();
    bool uses = now >= k->used_at, pass = now >= k->pass_at;
    look_at_clock(k);
    if (atomic_load(&k->svc->quarantine))
        return;
    settle(k);
    keeper_rekey(k);
    keeper_reseal(k);
    if (!uses && !pass)
        return;
    /* Before a purge too: the use of a token must not be written once the token is gone. */
    keeper_flush_uses(k);
    if (pass) {
        bool ours = is_our_pass(k);
        if (ours)
            purge(k);
        tidy_marks(k, ours);
        k->pass_at = clock_mono_ms() + pass_interval(k);
    }
    k->removed |= keeper_is_shared(k); /* perhaps by others */
    if (k->removed)
        keeper_wait_for_readers(k);
    write_mark(k);
    drop_signing_keys(k);
    k->used_at = clock_mono_ms() + k->options.used_ms;
}

static int64_t
until_next(const struct keeper *k)
{
    int64_t now = clock_mono_ms(), ms = TICK_MS;
    if (k->used_at - now < ms)
        ms = k->used_at - now;
    if (k->pass_at - now < ms)
        ms = k->pass_at - now;
    if (keeper_is_sealing(k) && k->seal_at <= now)
        ms = 0;
    return ms < 10 ? 10 : ms;
}

static void *
keeper_main(void *arg)
{
    struct keeper *k = arg;
    while (!keeper_rest(k, until_next(k)))
        work(k);
    if (atomic_load(&k->svc->quarantine))
        return NULL;
    keeper_flush_uses(k);
    write_mark(k);
    return NULL;
}

struct keeper *
keeper_new(struct service *svc, struct loop *const *loops, const struct keeper_options *options,
           const struct timeguard *guard)
{
    struct keeper *k = calloc(1, sizeof *k);
    if (!k)
        return NULL;
    k->svc = svc;
    k->loops = loops;
    k->options = k->wanted = *options;
    k->guard = *guard;
    clock_boot(k->boot);
    k->used_at = clock_mono_ms() + options->used_ms;
    k->pass_at = clock_mono_ms() + pass_interval(k);
    kt_arena_init(&k->arena, ARENA_MAX);
    pthread_mutex_init(&k->lock, NULL);
    timedwait_init(&k->wake);
    errno = pthread_create(&k->thread, NULL, keeper_main, k);
    if (errno == 0)
        return k;
    free(k);
    return NULL;
}

void
keeper_set_options(struct keeper *k, const struct keeper_options *options)
{
    pthread_mutex_lock(&k->lock);
    k->wanted = *options;
    pthread_mutex_unlock(&k->lock);
}

void
keeper_free(struct keeper *k)
{
    if (!k)
        return;
    pthread_mutex_lock(&k->lock);
    k->stop = true;
    pthread_cond_broadcast(&k->wake);
    pthread_mutex_unlock(&k->lock);
    pthread_join(k->thread, NULL);
    pthread_mutex_destroy(&k->lock);
    pthread_cond_destroy(&k->wake);
    kt_arena_done(&k->arena);
    free(k);
}
