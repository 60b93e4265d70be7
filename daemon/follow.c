/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/follow.h"

#include "daemon/commit.h"
#include "daemon/index.h"
#include "daemon/journal.h"
#include "daemon/log.h"
#include "daemon/model/endings.h"
#include "daemon/model/feed.h"
#include "daemon/plugin.h"
#include "daemon/service.h"
#include "daemon/slice.h"
#include "daemon/store_walk.h"
#include "daemon/timedwait.h"
#include "daemon/timeguard.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>

enum {
    PIECE = 1024,          /* rows that are read, and told to the index, at a time */
    CALL_MS = 5000,        /* how long the store may take for one answer */
    BACKOFF_MAX_MS = 500,  /* between questions to a store that does not answer */
    ARENA_MAX = 64 * 1024 * 1024
};

/* Work for the committer that the follower waits for. */
struct task {
    struct errand errand;
    struct follower *follower;
    int (*run)(struct follower *);
    int status;
    bool done;
};

struct follower {
    struct service *svc;
    struct follow_options options;
    struct freshness fresh;
    struct kaiten_position position;
    struct kt_arena arena; /* the thread's own, as all up to the lock */
    struct call call;
    struct feed feed;
    struct kt_arena commit_arena; /* for what the committer does */
    struct kt_arena teller_arena;
    struct errand telling_errand;
    struct feed told; /* the teller's, then the committer's, while telling */
    bool history_changed;
    bool unread; /* everything was to be read again, and that has failed */
    bool failing; /* and it was said */
    int64_t backoff_ms;
    size_t swept;
    _Atomic uint64_t polls, failures, rows, rereads;
    pthread_t thread, teller;
    bool started;
    pthread_mutex_t lock; /* guards what follows, and done of a task */
    pthread_cond_t wake;
    bool stop, hinted;
    bool telling;  /* told is not ours */
    bool handed;   /* and the teller has not taken it */
    bool finished; /* nothing more is told */
};

/* --- on the committer's thread ------------------------------------------------------------ */

static void
run_task(struct errand *e)
{
    struct task *t = (struct task *)e;
    struct follower *f = t->follower;
    t->status = t->run(f);
    pthread_mutex_lock(&f->lock);
    t->done = true;
    pthread_cond_broadcast(&f->wake);
    pthread_mutex_unlock(&f->lock);
}

static int
commit(struct follower *f, int (*run)(struct follower *))
{
    struct task t = { .errand = { .run = run_task }, .follower = f, .run = run };
    committer_run(f->svc->committer, &t.errand);
    pthread_mutex_lock(&f->lock);
    while (!t.done)
        pthread_cond_wait(&f->wake, &f->lock);
    pthread_mutex_unlock(&f->lock);
    return t.status;
}

static void
run_telling(struct errand *e)
{
    struct follower *f = (struct follower *)((char *)e - offsetof(struct follower, telling_errand));
    feed_write_down(f->svc, &f->told);
    pthread_mutex_lock(&f->lock);
    f->telling = false;
    pthread_cond_broadcast(&f->wake);
    pthread_mutex_unlock(&f->lock);
}

/* What ended according to the journal must have ended in the store before the store is believed. */
static int
explain_history(struct follower *f)
{
    struct service *svc = f->svc;
    const char *why = "";
    size_t done = 0;
    struct call call = { .svc = svc, .arena = &f->commit_arena, .deadline_ms = INT64_MAX,
                         .now_ms = clock_now_ms(clock_mono_ms()) };
    kt_arena_reset(call.arena);
    int status = endings_explain(&call, svc->journal, &why, &done);
    if (status == KT_OK && why) {
        atomic_store(&svc->quarantine, why);
        log_line(LOG_LEVEL_ERROR, "quarantine", "reason=%s message=%s", why,
                 "no token is accepted and nothing can be changed; see kaitend(8) for "
                 "--accept-rollback");
    }
    if (status == KT_OK && done != 0)
        log_line(LOG_LEVEL_WARNING, "journal.replayed", "endings=%zu message=%s", done,
                 "the store has lost them; what was revoked is revoked again");
    return status;
}

static int
begin_reread(struct follower *f)
{
    int status = f->history_changed && f->svc->journal ? explain_history(f) : KT_OK;
    (void)committer_take_index(f->svc->committer, 0);
    atomic_fetch_add(&f->svc->ends, 1);
    index_sweep_begin(f->svc->index);
    committer_give_index(f->svc->committer);
    return status;
}

static int
end_reread(struct follower *f)
{
    (void)committer_take_index(f->svc->committer, 0);
    f->swept = index_sweep(f->svc->index);
    atomic_fetch_add(&f->svc->ends, 1);
    committer_give_index(f->svc->committer);
    return KT_OK;
}

/* --- reading everything again ------------------------------------------------------------- */

static void
begin_call(struct follower *f)
{
    kt_arena_reset(&f->arena);
    f->call = (struct call){ .svc = f->svc, .arena = &f->arena,
                             .now_ms = clock_now_ms(clock_mono_ms()),
                             .deadline_ms = clock_mono_ms() + CALL_MS };
}

static void
begin_feed(struct follower *f)
{
    feed_clear(&f->feed);
    f->feed.ends = atomic_load(&f->svc->ends);
}

/* Not through the committer, which may be waiting for the store to write a group. */
static void
apply_feed(struct follower *f)
{
    bool room = committer_take_index(f->svc->committer, f->feed.n);
    feed_apply(f->svc, &f->feed, room);
    committer_give_index(f->svc->committer);
}

/* Whether more may be told: the last is written down. When there is too much of it, or at the end,
 * that is waited for. */
static bool
may_tell(struct follower *f)
{
    pthread_mutex_lock(&f->lock);
    while (f->telling && (f->stop || feed_news(&f->feed) >= FEED_NEWS_MAX))
        pthread_cond_wait(&f->wake, &f->lock);
    bool free = !f->telling;
    pthread_mutex_unlock(&f->lock);
    return free;
}

/* The index, and all who ask it, know already. */
static void
write_down(struct follower *f)
{
    if (!f->svc->journal || feed_news(&f->feed) == 0 || !may_tell(f))
        return;
    feed_move_news(&f->feed, &f->told);
    pthread_mutex_lock(&f->lock);
    f->telling = f->handed = true;
    pthread_cond_broadcast(&f->wake);
    pthread_mutex_unlock(&f->lock);
}

static int
take_row(void *ctx, const struct store_row *row)
{
    struct follower *f = ctx;
    return feed_add(&f->call, &f->feed, row);
}

static bool
is_stopping(struct follower *f)
{
    pthread_mutex_lock(&f->lock);
    bool stop = f->stop;
    pthread_mutex_unlock(&f->lock);
    return stop;
}

/* In pieces: the store is not kept waiting while the committer is at work. */
static int
reread_space(struct follower *f, char space)
{
    struct store_walk walk;
    bool last = false;
    store_walk_begin(&walk, space);
    while (!last) {
        begin_call(f);
        begin_feed(f);
        int status = is_stopping(f) ? KT_UNAVAILABLE
                                    : store_walk_piece(&f->call, &walk, PIECE, take_row, f, &last);
        if (status != KT_OK)
            return status;
        apply_feed(f);
        write_down(f);
    }
    return KT_OK;
}

static int
reread(struct follower *f, const struct kaiten_position *now)
{
    int64_t began = clock_mono_ms();
    f->history_changed = now->history != f->position.history;
    atomic_store(&f->fresh.as_of_ms, INT64_MIN);
    if (f->history_changed)
        atomic_store(&f->fresh.unexplained, true);
    atomic_fetch_add(&f->rereads, 1);
    log_line(LOG_LEVEL_WARNING, "follow.reread", "message=%s",
             f->history_changed ? "the store has another history" : "the last look was long ago");
    int status = commit(f, begin_reread);
    if (status == KT_OK)
        atomic_store(&f->fresh.unexplained, false);
    for (const char *space = FEED_SPACES; *space && status == KT_OK; space++)
        status = reread_space(f, *space);
    if (status == KT_OK)
        status = commit(f, end_reread);
    if (status == KT_OK)
        log_line(LOG_LEVEL_NOTICE, "follow.reread", "tokens_gone=%zu ms=%ld", f->swept,
                 (long)(clock_mono_ms() - began));
    return status;
}

/* --- asking what has changed -------------------------------------------------------------- */

static int
poll_store(struct follower *f)
{
    /* A position that goes with what was not read may be the same number as the one before. */
    static const struct kaiten_position nowhere = { 0, 0 };
    const struct store_news news = { FEED_SPACES, f->unread ? &nowhere : &f->position };
    struct kaiten_position now = { 0, 0 };
    begin_call(f);
    begin_feed(f);
    const int64_t sent_ms = clock_mono_ms();
    int status = store_changes(&f->call, f->svc->store, &news, take_row, f, &now);
    size_t n = f->feed.n;
    if (status == KT_CONFLICT) {
        status = reread(f, &now);
        f->unread = status != KT_OK;
    } else if (status == KT_OK && n != 0) {
        apply_feed(f);
    }
    if (status != KT_OK)
        return status;
    f->position = now;
    atomic_fetch_add(&f->rows, n);
    atomic_store_explicit(&f->fresh.as_of_ms, sent_ms, memory_order_release);
    write_down(f);
    return KT_OK;
}

/* Logged once each time the store goes away or comes back. */
static void
note_outcome(struct follower *f, int status)
{
    atomic_fetch_add(&f->polls, 1);
    if (status != KT_OK) {
        atomic_fetch_add(&f->failures, 1);
        int64_t next = f->backoff_ms == 0 ? f->options.poll_ms : 2 * f->backoff_ms;
        f->backoff_ms = next < BACKOFF_MAX_MS ? next : BACKOFF_MAX_MS;
    }
    if (status != KT_OK && !f->failing) {
        struct kt_str why = f->call.err.detail;
        if (!why.p) /* the committer has said it */
            why = KT_LIT("the store could not be read again");
        log_line(LOG_LEVEL_WARNING, "follow.failed", "message=%.*s", KT_FMT(why));
    }
    if (status == KT_OK && f->failing)
        log_line(LOG_LEVEL_NOTICE, "follow.again", "message=%s", "the store answers again");
    if (status == KT_OK)
        f->backoff_ms = 0;
    f->failing = status != KT_OK;
}

/* --- the journal ---------------------------------------------------------------------------- */

/* False: the end. */
static bool
wait_for_news(struct follower *f)
{
    pthread_mutex_lock(&f->lock);
    while (!f->handed && !f->finished)
        pthread_cond_wait(&f->wake, &f->lock);
    bool handed = f->handed;
    f->handed = false;
    pthread_mutex_unlock(&f->lock);
    return handed;
}

/* What is to be written down is looked at in the store first, over connections that others want,
 * too; whoever asks what else has changed does not wait for that. */
static void *
teller_main(void *arg)
{
    struct follower *f = arg;
    while (wait_for_news(f)) {
        struct call call = { .svc = f->svc, .arena = &f->teller_arena,
                             .now_ms = clock_now_ms(clock_mono_ms()),
                             .deadline_ms = clock_mono_ms() + CALL_MS };
        kt_arena_reset(call.arena);
        feed_look(&call, &f->told);
        committer_run(f->svc->committer, &f->telling_errand);
    }
    return NULL;
}

/* --- the thread --------------------------------------------------------------------------- */

static void
on_change(void *ctx)
{
    struct follower *f = ctx;
    pthread_mutex_lock(&f->lock);
    f->hinted = true;
    pthread_cond_broadcast(&f->wake);
    pthread_mutex_unlock(&f->lock);
}

/* Until the next question is due, or a hint came: a hint does not shorten a backoff. False: the
 * end. */
static bool
rest(struct follower *f, int64_t began_ms)
{
    int64_t due = began_ms + (f->backoff_ms != 0 ? f->backoff_ms : f->options.poll_ms);
    const struct timespec until = timedwait_end(due - clock_mono_ms());
    pthread_mutex_lock(&f->lock);
    int status = 0;
    while (!f->stop && status == 0 && (!f->hinted || f->backoff_ms != 0))
        status = pthread_cond_timedwait(&f->wake, &f->lock, &until);
    f->hinted = false;
    bool go_on = !f->stop;
    pthread_mutex_unlock(&f->lock);
    return go_on;
}

static void *
follower_main(void *arg)
{
    struct follower *f = arg;
    int64_t began;
    slice_ask_for_short();
    do {
        began = clock_mono_ms();
        note_outcome(f, poll_store(f));
    } while (rest(f, began));
    write_down(f);
    (void)may_tell(f);
    return NULL;
}

struct follower *
follower_new(struct service *svc, const struct follow_options *options)
{
    struct follower *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->svc = svc;
    f->telling_errand.run = run_telling;
    f->options = *options;
    f->fresh.max_ms = options->staleness_ms;
    atomic_init(&f->fresh.as_of_ms, INT64_MIN);
    kt_arena_init(&f->arena, ARENA_MAX);
    kt_arena_init(&f->commit_arena, ARENA_MAX);
    kt_arena_init(&f->teller_arena, ARENA_MAX);
    feed_init(&f->feed);
    feed_init(&f->told);
    pthread_mutex_init(&f->lock, NULL);
    timedwait_init(&f->wake);
    svc->fresh = &f->fresh;
    svc->follower = f;
    return f;
}

int
follower_mark(struct call *call, struct follower *f)
{
    const int64_t sent_ms = clock_mono_ms();
    const struct store_news none = { FEED_SPACES, NULL };
    int status = store_changes(call, f->svc->store, &none, take_row, f, &f->position);
    if (status == KT_OK)
        atomic_store(&f->fresh.as_of_ms, sent_ms);
    else
        log_line(LOG_LEVEL_ERROR, "follow.failed", "message=%.*s", KT_FMT(call->err.detail));
    return status;
}

static void
teller_end(struct follower *f)
{
    pthread_mutex_lock(&f->lock);
    f->finished = true;
    pthread_cond_broadcast(&f->wake);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->teller, NULL);
}

static int
start_threads(struct follower *f)
{
    int error = pthread_create(&f->teller, NULL, teller_main, f);
    if (error != 0)
        return error;
    error = pthread_create(&f->thread, NULL, follower_main, f);
    if (error != 0)
        teller_end(f);
    return error;
}

int
follower_start(struct follower *f)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = start_threads(f);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    f->started = error == 0;
    if (f->started) {
        pthread_setname_np(f->thread, "follower");
        pthread_setname_np(f->teller, "teller");
        host_on_change(on_change, f);
    }
    return error;
}

void
follower_stop(struct follower *f)
{
    if (!f || !f->started)
        return;
    host_on_change(NULL, NULL);
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_cond_broadcast(&f->wake);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    teller_end(f);
    f->started = false;
}

void
follower_free(struct follower *f)
{
    if (!f)
        return;
    follower_stop(f);
    feed_done(&f->feed);
    feed_done(&f->told);
    kt_arena_done(&f->arena);
    kt_arena_done(&f->commit_arena);
    kt_arena_done(&f->teller_arena);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->wake);
    free(f);
}

void
follower_stats(const struct follower *f, struct follow_stats *ret)
{
    int64_t as_of = atomic_load(&f->fresh.as_of_ms);
    *ret = (struct follow_stats){
        .age_ms = as_of == INT64_MIN ? -1 : clock_mono_ms() - as_of,
        .staleness_ms = f->fresh.max_ms,
        .polls = atomic_load(&f->polls),
        .failures = atomic_load(&f->failures),
        .rows = atomic_load(&f->rows),
        .rereads = atomic_load(&f->rereads),
    };
}
