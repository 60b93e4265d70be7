/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/commit_journal.h"

#include "daemon/journal.h"
#include "daemon/log.h"
#include "daemon/model/account.h"
#include "daemon/model/endings.h"
#include "daemon/service.h"
#include "daemon/store.h"
#include "daemon/timeguard.h"
#include "daemon/unsettled.h"

#include <errno.h>

enum {
    ARENA_MAX = 512 * 1024, /* a mark with all that it may tell, twice */
    FULL_LOOK_MS = 10 * 60 * 1000, /* how often a full journal is looked at: it takes seconds */
    AGAIN_MS = 60 * 1000           /* after making space has failed */
};

void
commit_journal_init(struct commit_journal *j, struct service *svc)
{
    /* The start has just looked at the journal. */
    *j = (struct commit_journal){ .svc = svc, .shrunk_ms = clock_mono_ms(),
                                  .shrunk = svc->journal ? journal_entries(svc->journal) : 0,
                                  .marked = svc->journal_told };
    kt_arena_init(&j->arena, ARENA_MAX);
}

void
commit_journal_done(struct commit_journal *j)
{
    kt_arena_done(&j->arena);
}

static bool
is_ending(const struct effect *e)
{
    return e->type == EFFECT_ACCOUNT_END || e->type == EFFECT_ACCOUNT_EPOCH ||
           e->type == EFFECT_REVOKE || e->type == EFFECT_EXPIRY;
}

static size_t
records_of(const struct effect *e)
{
    return is_ending(e) ? 1 + e->nformer : 0;
}

size_t
commit_journal_count(const struct batch *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->neffects; i++)
        n += records_of(&b->effects[i]);
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

/* Of the records that the ending takes, from 0: the others are about what the secret was under
 * other keys. */
static struct journal_entry
record_of(const struct effect *e, size_t i, int64_t now_ms)
{
    struct journal_entry entry = entry_of(e, now_ms);
    if (i != 0)
        memcpy(entry.id, e->former[i - 1],
               entry.type == JOURNAL_REVOKED ? JOURNAL_DIGEST_KEPT : sizeof entry.id);
    return entry;
}

void
commit_journal_write(struct commit_journal *j, const struct batch *b, int64_t now_ms)
{
    for (size_t i = 0; i < b->neffects; i++) {
        for (size_t k = 0; k < records_of(&b->effects[i]); k++) {
            const struct journal_entry entry = record_of(&b->effects[i], k, now_ms);
            journal_add(j->svc->journal, &entry);
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

/* Of a rotation the token stays, which has another secret. */
static struct journal_entry
entry_of_orphan(const struct batch *b, const struct effect *e, int64_t now_ms)
{
    struct journal_entry entry = entry_of(e, now_ms);
    entry.type = commit_journal_count(b) == 0 ? JOURNAL_TOKEN : JOURNAL_DIGEST;
    entry.until_ms = e->expires_ms;
    return entry;
}

void
commit_journal_unsettled(struct commit_journal *j, const struct request *rq, bool room,
                         int64_t now_ms)
{
    const struct batch *b = rq->batch;
    for (size_t i = 0; i < b->neffects; i++) {
        const struct effect *e = &b->effects[i];
        if (!is_ending(e) && !is_orphan(rq, e))
            continue;
        struct journal_entry entry = entry_of(e, now_ms);
        if (e->type == EFFECT_TOKEN) {
            entry = entry_of_orphan(b, e, now_ms);
            if (room)
                journal_add(j->svc->journal, &entry);
        }
        if (j->svc->unsettled)
            unsettled_add(j->svc->unsettled, &entry, clock_mono_ms());
    }
}

bool
commit_journal_unsent(const struct request *rq, struct journal_entry *ret)
{
    const struct batch *b = rq->batch;
    for (size_t i = 0; i < b->neffects; i++) {
        if (!is_orphan(rq, &b->effects[i]))
            continue;
        *ret = entry_of_orphan(b, &b->effects[i], clock_now_ms(clock_mono_ms()));
        return true;
    }
    return false;
}

void
commit_journal_withdraw(struct commit_journal *j, const struct journal_entry entries[], size_t n)
{
    struct journal *file = j->svc->journal;
    if (n == 0)
        return;
    for (size_t i = 0; i < n && j->svc->unsettled; i++)
        unsettled_add(j->svc->unsettled, &entries[i], clock_mono_ms());
    bool room = file && journal_reserve(file, n);
    for (size_t i = 0; i < n && room; i++)
        journal_add(file, &entries[i]);
    if (room)
        journal_sync(file);
    log_line(LOG_LEVEL_WARNING, "mint.unsent", "secrets=%zu message=%s", n,
             "the store was too slow; nobody was told them, so they are revoked");
}

/* Whether the journal may have an ending that is missing from the store. */
static bool
is_unsure(const struct commit_journal *j)
{
    return j->svc->unsettled && !unsettled_is_over(j->svc->unsettled);
}

/* One that is full does not grow, but what is in it may expire. */
static bool
may_shrink(const struct commit_journal *j, const struct journal *file)
{
    return journal_entries(file) >= journal_next_look(j->shrunk) ||
           (journal_is_full(file) && clock_mono_ms() - j->shrunk_ms >= FULL_LOOK_MS);
}

/* Nothing may go that the next start may need: what is above the mark, which lags behind. The store
 * is not told of more once an ending may be missing from it. Up to which number it knows. */
static uint64_t
tell_store(struct commit_journal *j, const struct journal *file)
{
    const int64_t now_ms = clock_now_ms(clock_mono_ms());
    kt_arena_reset(&j->arena);
    if (!is_unsure(j) && endings_store_mark(&j->arena, j->svc->store, file, now_ms))
        j->marked = journal_last(file);
    return j->marked;
}

static void
drop_oldest(struct commit_journal *j, struct journal *file)
{
    if (journal_drop_oldest(file, tell_store(j, file)))
        return;
    log_line(LOG_LEVEL_ERROR, "journal.full", "endings=%zu message=%s: %s", journal_entries(file),
             "nothing can be ended", strerror(errno));
}

void
commit_journal_make_space(struct commit_journal *j)
{
    struct journal *file = j->svc->journal;
    commit_journal_shrink(j);
    if (!journal_is_full(file) || clock_mono_ms() < j->again_ms)
        return;
    drop_oldest(j, file);
    j->shrunk = journal_entries(file);
    j->again_ms = journal_is_full(file) ? clock_mono_ms() + AGAIN_MS : 0;
}

/* Not while the next start may need what would go. */
void
commit_journal_shrink(struct commit_journal *j)
{
    struct journal *file = j->svc->journal;
    if (!file || !may_shrink(j, file) || is_unsure(j))
        return;
    const uint64_t known = tell_store(j, file);
    if (!journal_compact(file, clock_sure_ms(), j->svc->journal_keep_ms, known))
        log_line(LOG_LEVEL_WARNING, "journal.compact", "message=%s", strerror(errno));
    j->shrunk = journal_entries(file);
    j->shrunk_ms = clock_mono_ms();
    if (j->shrunk >= JOURNAL_HIGH)
        log_line(LOG_LEVEL_WARNING, "journal.filling", "endings=%zu most=%d message=%s", j->shrunk,
                 JOURNAL_ENTRIES_MAX, "see Rollback in kaitend(8)");
}

/* Once an ending may be missing from the store the mark stays below it, so that the next start does
 * it again; below the floor there is nothing to be done. */
static uint64_t
number_for(const struct commit_journal *j)
{
    const struct journal *file = j->svc->journal;
    if (!is_unsure(j))
        return journal_last(file);
    return j->marked + 1 < journal_floor(file) ? journal_floor(file) - 1 : j->marked;
}

/* The first of what the batches have for the journal; those for which there is no room in a row are
 * found again, if it comes to that, by what the rows of their secrets say. False: no memory. */
static bool
tell(struct kt_arena *arena, struct batch *const batches[], size_t n, struct endings_mark *ret)
{
    size_t most = 0, ntold = 0;
    for (size_t i = 0; i < n; i++)
        most += commit_journal_count(batches[i]);
    most = most < ENDINGS_TOLD_MAX ? most : ENDINGS_TOLD_MAX;
    struct endings_told *told = kt_arena_calloc(arena, most, sizeof *told);
    if (!told)
        return false;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < batches[i]->neffects; k++) {
            const struct effect *e = &batches[i]->effects[k];
            for (size_t r = 0; r < records_of(e) && ntold < most; r++)
                told[ntold++] = (struct endings_told){ record_of(e, r, ret->at_ms), r != 0 };
        }
    }
    ret->told = told;
    ret->ntold = ntold;
    return true;
}

/* What the journal had synced before this group goes into the store with it, and what it is to be
 * told of it. NULL: no memory. */
struct batch *
commit_journal_mark(struct commit_journal *j, struct batch *const batches[], size_t n)
{
    struct endings_mark mark = { .number = number_for(j),
                                 .at_ms = clock_now_ms(clock_mono_ms()) };
    kt_arena_reset(&j->arena);
    struct batch *b = batch_new(&j->arena);
    if (!b || !tell(&j->arena, batches, n, &mark))
        return NULL;
    endings_put_mark_of(b, j->svc->store, j->svc->journal, &mark);
    j->marking = mark.number;
    return b->failed ? NULL : b;
}

void
commit_journal_marked(struct commit_journal *j)
{
    j->marked = j->marking;
}
