/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/commit_group.h"

#include "daemon/commit_index.h"
#include "daemon/index.h"
#include "daemon/journal.h"
#include "daemon/service.h"
#include "daemon/timeguard.h"

#include <stdlib.h>

_Static_assert((int)COMMIT_GROUP_MAX + 1 <= (int)KAITEN_APPLY_BATCHES_MAX,
               "a group and the mark of its endings are applied together");

bool
finished_add(struct finished *done, struct request *rq)
{
    if (rq->landed) {
        rq->landed(rq);
        return true;
    }
    rq->next = NULL;
    *done->last = rq;
    done->last = &rq->next;
    return request_settle(rq);
}

/* A request that read the store before it changed runs again; the daemon's own work is done
 * later. */
static void
look_again(struct commit_group *g, struct request *rq)
{
    if (!rq->landed && request_reopen(rq)) {
        g->again(rq);
        return;
    }
    fail(&rq->call, KT_CONFLICT, NULL, "the world has changed");
    finished_add(&g->done, rq);
}

/* Made with keys that have retired since: once they are not in force any more, nothing that comes
 * to depend on them gets into the store. */
static bool
is_stale(const struct commit_group *g, const struct batch *b)
{
    return b->keys && b->keys != store_keys(g->svc->store);
}

bool
commit_group_take_index(struct commit_group *g, size_t n)
{
    pthread_mutex_lock(&g->index);
    return n == 0 || index_reserve(g->svc->index, g->promised + n) == INDEX_OK;
}

void
commit_group_give_index(struct commit_group *g)
{
    pthread_mutex_unlock(&g->index);
}

/* Whoever gives up waiting for one of these from here on cannot know its outcome. */
static void
take(struct commit_group *g)
{
    size_t kept = 0;
    for (size_t i = 0; i < g->n; i++) {
        struct request *rq = g->requests[i];
        if (rq->landed || request_take(rq)) {
            g->requests[kept++] = rq;
            continue;
        }
        fail(&rq->call, KT_UNAVAILABLE, "Server.Busy", "given up before it was begun");
        finished_add(&g->done, rq);
    }
    g->n = kept;
}

/* Makes room in the index for all that the batches may tell it. */
static void
refuse_unprepared(struct commit_group *g)
{
    size_t kept = 0;
    bool room = commit_group_take_index(g, g->n * BATCH_EFFECTS_MAX);
    g->promised = g->n * BATCH_EFFECTS_MAX;
    for (size_t i = 0; i < g->n; i++) {
        struct request *rq = g->requests[i];
        if (is_stale(g, rq->batch)) {
            look_again(g, rq);
            continue;
        }
        if (room && commit_index_prepare(g->svc->index, rq->batch)) {
            g->batches[kept] = rq->batch;
            g->requests[kept++] = rq;
            continue;
        }
        fail_memory(&rq->call);
        finished_add(&g->done, rq);
    }
    g->n = kept;
    commit_group_give_index(g);
}

/* Counts them; what has no room in this group waits for the next one. */
static void
take_endings(struct commit_group *g)
{
    size_t kept = 0;
    for (size_t i = 0; i < g->n; i++) {
        size_t n = commit_journal_count(g->batches[i]);
        if (g->nendings + n > JOURNAL_ROOM) {
            look_again(g, g->requests[i]);
            continue;
        }
        g->nendings += n;
        g->batches[kept] = g->batches[i];
        g->requests[kept++] = g->requests[i];
    }
    g->n = kept;
}

/* An ending that is not in the journal would be undone by an old copy of the store. */
static void
refuse_unwritable(struct commit_group *g)
{
    size_t kept = 0;
    g->nendings = 0;
    if (!g->svc->journal)
        return;
    take_endings(g);
    if (g->nendings != 0 && journal_is_full(g->svc->journal))
        commit_journal_make_space(&g->journal);
    if (g->nendings == 0 || journal_reserve(g->svc->journal, g->nendings))
        return;
    g->nendings = 0;
    for (size_t i = 0; i < g->n; i++) {
        struct request *rq = g->requests[i];
        if (commit_journal_count(g->batches[i]) == 0) {
            g->batches[kept] = g->batches[i];
            g->requests[kept++] = rq;
            continue;
        }
        fail_cause(&rq->call, KT_UNAVAILABLE, "Storage.Full", "no room for the journal");
        finished_add(&g->done, rq);
    }
    g->n = kept;
}

/* --- what became of it -------------------------------------------------------------------- */

static enum kaiten_status
status_of(const struct commit_group *g, enum kaiten_status all, size_t i)
{
    return all == KAITEN_DONE ? g->outcomes[i].status : all;
}

static bool
has_unknown(const struct commit_group *g, enum kaiten_status all)
{
    for (size_t i = 0; i < g->n; i++)
        if (status_of(g, all, i) == KAITEN_UNKNOWN)
            return true;
    return false;
}

/* After the store, before the index and the answers. What may or may not be in the store is written
 * down too: from now on it counts as ended. */
static void
write_down(struct commit_group *g, enum kaiten_status all)
{
    const int64_t now_ms = clock_now_ms(clock_mono_ms());
    bool room = has_unknown(g, all) && g->svc->journal &&
                journal_reserve(g->svc->journal, JOURNAL_ROOM);
    for (size_t i = 0; i < g->n; i++) {
        enum kaiten_status status = status_of(g, all, i);
        if (g->nendings != 0 && (status == KAITEN_DONE || status == KAITEN_UNKNOWN))
            commit_journal_write(&g->journal, g->batches[i], now_ms);
        if (status == KAITEN_UNKNOWN)
            commit_journal_unsettled(&g->journal, g->requests[i], room, now_ms);
    }
    if (g->svc->journal)
        journal_sync(g->svc->journal);
}

static void
refuse_conflict(struct commit_group *g, struct request *rq, size_t which)
{
    const struct refusal *r = which < rq->batch->nconds ? &rq->batch->refusals[which] : NULL;
    if (r && r->kind == KT_OK) {
        look_again(g, rq);
        return;
    }
    if (r)
        fail(&rq->call, r->kind, r->code, "%s%.*s%s", r->before, KT_FMT(r->name),
             r->after ? r->after : "");
    else
        fail_cause(&rq->call, KT_INTERNAL, NULL, "storage names condition %zu, which is not there",
                   which);
    finished_add(&g->done, rq);
}

static void
conclude(struct commit_group *g, size_t i, enum kaiten_status status, const char *why)
{
    struct request *rq = g->requests[i];
    switch (status) {
    case KAITEN_DONE:
        commit_index_publish(g->svc, rq->batch);
        if (!finished_add(&g->done, rq))
            g->nunsent += commit_journal_unsent(rq, &g->unsent[g->nunsent]);
        return;
    case KAITEN_CONFLICT:
        refuse_conflict(g, rq, g->outcomes[i].failed);
        return;
    case KAITEN_UNKNOWN:
        commit_index_publish_ends(g->svc, rq->batch);
        fail_cause(&rq->call, KT_UNAVAILABLE, "Storage.Unknown",
                   "storage cannot say what it has done: %s", why);
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
    finished_add(&g->done, rq);
}

static void
conclude_all(struct commit_group *g, enum kaiten_status all, const char *why)
{
    (void)commit_group_take_index(g, 0);
    for (size_t i = 0; i < g->n; i++)
        conclude(g, i, status_of(g, all, i), why);
    g->promised = 0;
    commit_group_give_index(g);
    if (g->done.first)
        g->done_with(g->done.first);
}

/* --- one turn ----------------------------------------------------------------------------- */

static void
begin(struct commit_group *g)
{
    g->done = (struct finished){ NULL, &g->done.first };
    g->nunsent = 0;
}

/* The mark of the journal's endings goes along as the last batch. */
static enum kaiten_status
apply(struct commit_group *g, char *why, size_t nwhy)
{
    struct batch *mark = g->nendings != 0 ? commit_journal_mark(&g->journal, g->batches, g->n)
                                          : NULL;
    size_t n = g->n;
    if (mark)
        g->batches[n++] = mark;
    if (n == 0)
        return KAITEN_DONE;
    enum kaiten_status all = store_apply(g->svc->store, g->batches, n, g->outcomes, why, nwhy);
    if (mark && all == KAITEN_DONE && g->outcomes[g->n].status == KAITEN_DONE)
        commit_journal_marked(&g->journal);
    return all;
}

void
commit_group_run(struct commit_group *g)
{
    char why[512] = "";
    begin(g);
    take(g);
    refuse_unprepared(g);
    refuse_unwritable(g);
    enum kaiten_status all = apply(g, why, sizeof why);
    write_down(g, all);
    conclude_all(g, all, why);
    commit_journal_withdraw(&g->journal, g->unsent, g->nunsent);
    commit_journal_shrink(&g->journal);
}

/* --- its life ----------------------------------------------------------------------------- */

struct commit_group *
commit_group_new(struct service *svc, void (*again)(struct request *),
                 void (*done)(struct request *list))
{
    struct commit_group *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->svc = svc;
    g->again = again;
    g->done_with = done;
    commit_journal_init(&g->journal, svc);
    pthread_mutex_init(&g->index, NULL);
    return g;
}

void
commit_group_free(struct commit_group *g)
{
    if (!g)
        return;
    commit_journal_done(&g->journal);
    pthread_mutex_destroy(&g->index);
    free(g);
}
