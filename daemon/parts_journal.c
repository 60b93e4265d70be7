/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/parts.h"

#include "daemon/log.h"
#include "daemon/model/endings.h"
#include "daemon/store.h"
#include "daemon/unsettled.h"

#include <errno.h>
#include <stdio.h>
#include <sysexits.h>

/* The store and its journal at start: what one of them lacks it gets from the other, and where that
 * cannot be, nothing is accepted until the operator has said what shall be. */

static int
is_fresh(struct call *call, bool *ret)
{
    return store_lacks(call, call->svc->store, "ahtx", ret);
}

/* As long as tokens are kept; copies of the store that are older are no longer believed. A short
 * retention is about the store, not about copies of it. */
int64_t
parts_journal_keep_ms(const struct parts *p)
{
    const int64_t least = INT64_C(90) * 24 * 3600 * 1000;
    int64_t keep = p->settings->retention_ms;
    return keep == 0 || keep > least ? keep : least;
}

/* A file under a retired digest key is written anew while that key is there; one that is mostly out
 * of date is not carried along. The store knows of all up to number. */
static void
tidy(const struct parts *p, uint64_t number)
{
    if (!journal_compact(p->svc.journal, clock_sure_ms(), parts_journal_keep_ms(p), number))
        log_line(LOG_LEVEL_WARNING, "journal.compact", "message=%s", strerror(errno));
}

/* What may turn up in a store that others write, too, is looked for by the next start as well. */
static uint64_t
sure_number(const struct parts *p)
{
    const uint64_t last = journal_last(p->svc.journal);
    return p->journal_sure < last ? p->journal_sure : last;
}

static int
put_mark(struct call *call, struct parts *p, const struct endings_mark *mark, bool must)
{
    char why[256] = "";
    struct kaiten_outcome outcome;
    struct batch *b = batch_new(call->arena);
    if (!b)
        return fail_memory(call);
    b->urgent = true; /* as are the endings that it tells of */
    endings_put_mark_of(b, call->svc->store, p->svc.journal, mark);
    if (b->failed)
        return fail_memory(call);
    enum kaiten_status all = store_apply(call->svc->store, &b, 1, &outcome, why, sizeof why);
    if (all == KAITEN_DONE && outcome.status == KAITEN_DONE)
        p->svc.journal_told = mark->number;
    else if (must)
        return fail_cause(call, KT_UNAVAILABLE, NULL, "the store cannot be written: %s", why);
    return KT_OK; /* it may lag behind, which costs nothing but a look at more of the journal */
}

/* Until the journal is healed the mark goes on telling what it may lack. */
static int
write_mark(struct call *call, struct parts *p, bool healed)
{
    struct endings_mark old, mark = { .number = sure_number(p), .at_ms = call->now_ms };
    const struct journal *j = p->svc.journal;
    int status = endings_read_mark(call, j, &old);
    if (status != KT_OK)
        return status;
    bool same = old.is_there && memcmp(old.journal, journal_id(j), sizeof old.journal) == 0;
    if (same && !healed) {
        mark.told = old.told;
        mark.ntold = old.ntold;
    }
    p->svc.journal_told = same ? old.number : 0;
    if (same && old.number == mark.number && old.ntold == mark.ntold &&
        endings_mark_is_fresh(call->svc->store, &old, call->now_ms))
        return KT_OK;
    return put_mark(call, p, &mark, !same);
}

static int
begin_journal(struct call *call, struct journal *j)
{
    const struct journal_entry begin = { .type = JOURNAL_BEGIN, .at_ms = call->now_ms };
    if (!journal_reserve(j, 1))
        return fail_cause(call, KT_UNAVAILABLE, NULL, "there is no room for the journal");
    journal_add(j, &begin);
    journal_sync(j);
    return KT_OK;
}

/* A journal begins once the store knows it. */
static int
introduce(struct call *call, struct parts *p)
{
    struct journal *j = p->svc.journal;
    int status = write_mark(call, p, false);
    return status == KT_OK && journal_last(j) == 0 ? begin_journal(call, j) : status;
}

/* A secret that nobody was told may still be on its way into a store that others write, too. */
static void
watch_late(const struct call *call, struct parts *p)
{
    if (store_has_outsiders(call->svc->store))
        p->journal_sure = endings_watch_late(p->endings, call->now_ms - UNSETTLED_MS,
                                             p->svc.unsettled, clock_mono_ms());
}

static int
agree(struct call *call, struct parts *p)
{
    size_t done;
    int status = endings_replay(call, p->endings, &done);
    if (status != KT_OK)
        return status;
    if (done != 0)
        log_line(LOG_LEVEL_WARNING, "journal.replayed", "endings=%zu message=%s", done,
                 "the store was older than the journal; what was revoked since is revoked again");
    watch_late(call, p);
    status = introduce(call, p);
    if (status == KT_OK)
        tidy(p, p->svc.journal_told);
    return status;
}

/* Whatever the old journal still says is heeded, then a new one begins. The store comes to know
 * this one last, in parts_heal_journal(): whoever is interrupted before has accepted nothing. */
static int
accept(struct call *call, struct parts *p, const char *why)
{
    char err[JOURNAL_ERROR_MAX];
    size_t done;
    int status = endings_replay(call, p->endings, &done);
    if (status != KT_OK)
        return status;
    journal_close(p->svc.journal);
    p->svc.journal = journal_create(p->settings->journal_file, p->svc.keys, err);
    if (!p->svc.journal)
        return fail_cause(call, KT_UNAVAILABLE, NULL, "%s", err);
    log_line(LOG_LEVEL_WARNING, "rollback.accepted", "reason=%s endings=%zu", why, done);
    /* The new journal has none of them: the store tells it all that it knows. */
    endings_free(p->endings);
    p->endings = endings_new(0);
    return p->endings ? begin_journal(call, p->svc.journal) : fail_memory(call);
}

static int
create(struct call *call, struct parts *p)
{
    char err[JOURNAL_ERROR_MAX];
    p->svc.journal = journal_create(p->settings->journal_file, p->svc.keys, err);
    if (!p->svc.journal)
        return fail_cause(call, KT_UNAVAILABLE, NULL, "%s", err);
    log_line(LOG_LEVEL_NOTICE, "journal.created", "file=%s", p->settings->journal_file);
    return introduce(call, p);
}

static void
quarantine(struct parts *p, const char *why, const char *err)
{
    journal_close(p->svc.journal);
    p->svc.journal = NULL;
    p->svc.quarantine = why;
    log_line(LOG_LEVEL_ERROR, "quarantine", "reason=%s detail=%s message=%s", why, err,
             "no token is accepted and nothing can be changed; put the journal back that belongs "
             "to this store, or see kaitend(8) for --accept-rollback");
}

static int
read_journal(struct call *call, struct parts *p, enum journal_found *ret,
             char err[JOURNAL_ERROR_MAX])
{
    p->endings = endings_new(0);
    if (!p->endings)
        return fail_memory(call);
    *ret = journal_open(p->settings->journal_file, p->svc.keys, &p->svc.journal, endings_add,
                        p->endings, err);
    if (*ret == JOURNAL_UNREADABLE) /* which is no reason to doubt it */
        return fail_cause(call, KT_UNAVAILABLE, NULL, "%s", err);
    return KT_OK;
}

static int
judge(struct call *call, struct parts *p, enum journal_found found, const char *err)
{
    const char *why = "";
    bool fresh;
    struct endings_mark mark;
    struct journal_seen seen = { .last = 0 };
    if (p->svc.journal)
        seen = *journal_seen(p->svc.journal);
    int status = is_fresh(call, &fresh);
    p->journal_sure = UINT64_MAX;
    if (status == KT_OK)
        status = endings_read_mark(call, p->svc.journal, &mark);
    if (status != KT_OK)
        return status;
    /* For an operator who accepts the store, its numbers mean nothing. */
    if (p->rollback == ROLLBACK_REFUSE)
        endings_keep_above(p->endings, mark.number);
    /* Where others write, too, tokens may be theirs, and this is somebody's first start. */
    bool first = fresh || (found == JOURNAL_MISSING && store_has_outsiders(call->svc->store));
    if (!endings_note_told(p->endings, &mark))
        return fail_memory(call);
    enum endings_verdict verdict = endings_judge(first, &mark, found, &seen, &why);
    if (verdict == ENDINGS_AGREE)
        return agree(call, p);
    if (verdict == ENDINGS_NEW_JOURNAL)
        return create(call, p);
    if (p->rollback != ROLLBACK_REFUSE)
        return accept(call, p, why);
    quarantine(p, why, err);
    return KT_OK;
}

/* Whoever accepts is promised that what it says has ended ends again; nobody can tell what that
 * is. One that is really lost can be moved away, and then it is missing. */
static int
refuse_unread(struct parts *p, const char *err)
{
    char text[JOURNAL_ERROR_MAX + 256];
    if (p->rollback == ROLLBACK_REFUSE) {
        quarantine(p, "the revocation journal was not read", err);
        return EX_OK;
    }
    snprintf(text, sizeof text,
             "%s; accepted nothing, because what it says has ended could be good again: set that "
             "right first, or move the file away to do without it", err);
    return parts_fail(EX_CONFIG, text);
}

int
parts_open_journal(struct parts *p)
{
    char err[JOURNAL_ERROR_MAX] = "";
    enum journal_found found = JOURNAL_UNREADABLE;
    struct kt_arena arena;
    struct call call;
    p->svc.unsettled = unsettled_new();
    if (!p->svc.unsettled)
        return parts_fail_errno(EX_OSERR, "what is unsettled");
    if (!store_is_durable(p->svc.store))
        return EX_OK;
    parts_begin_call(p, &call, &arena);
    int status = read_journal(&call, p, &found, err);
    if (status == KT_OK && found != JOURNAL_REFUSED)
        status = judge(&call, p, found, err);
    kt_arena_done(&arena);
    if (found == JOURNAL_REFUSED)
        return refuse_unread(p, err);
    return status == KT_OK ? EX_OK : parts_fail(EX_TEMPFAIL, "the revocation journal");
}

/* What has risen was replayed already for whoever accepts; what is left then cannot be put right,
 * and is accepted only when all of it is revoked. */
static int
check_risen(struct parts *p)
{
    size_t risen = p->svc.journal ? endings_risen(p->endings) : 0;
    char detail[64];
    if (risen == 0 || p->rollback == ROLLBACK_REVOKE)
        return EX_OK;
    if (p->rollback == ROLLBACK_KEEP)
        return parts_fail(EX_CONFIG, "rows of the store contradict the revocation journal and one "
                                     "another: only --accept-rollback revoke can accept it");
    snprintf(detail, sizeof detail, "%zu rows", risen);
    quarantine(p, "rows of the store are older than the revocation journal", detail);
    return EX_OK;
}

int
parts_heal_journal(struct parts *p)
{
    size_t healed = 0, revoked = 0;
    struct kt_arena arena;
    struct call call;
    int status = KT_OK;
    int code = check_risen(p);
    if (code != EX_OK)
        return code;
    parts_begin_call(p, &call, &arena);
    if (p->svc.journal)
        status = endings_heal(&call, p->endings, p->svc.journal, clock_sure_ms(), &healed);
    if (status == KT_OK && p->svc.journal && p->rollback == ROLLBACK_REVOKE)
        status = endings_revoke_all(&call, p->svc.journal, &revoked);
    if (status == KT_OK && p->svc.journal)
        status = write_mark(&call, p, true);
    kt_arena_done(&arena);
    if (healed != 0)
        log_line(LOG_LEVEL_NOTICE, "journal.healed", "endings=%zu", healed);
    if (revoked != 0)
        log_line(LOG_LEVEL_WARNING, "rollback.revoked", "tokens=%zu", revoked);
    return status == KT_OK ? EX_OK : parts_fail(EX_TEMPFAIL, "the revocation journal");
}

void
parts_close_journal(struct parts *p)
{
    endings_free(p->endings);
    p->endings = NULL;
    journal_close(p->svc.journal);
    unsettled_free(p->svc.unsettled);
}
