/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/parts.h"

#include "daemon/commit.h"
#include "daemon/log.h"
#include "daemon/timedwait.h"
#include "daemon/worker.h"

#include <pthread.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    TICK_MS = 20,
    STUCK_MIN_MS = 1000 /* nothing is called stuck before this, however short the drain */
};

struct last_watch {
    struct parts *parts;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    bool over;
};

/* How long the committer, or a worker, has been waiting for the store. */
static int64_t
stuck_ms(const struct service *svc, int64_t now)
{
    struct committer_load load;
    committer_load(svc->committer, now, &load);
    int64_t work = workers_busy_ms(svc->workers, now);
    return work > load.busy_ms ? work : load.busy_ms;
}

/* Callers that still wait get no answer, and what the store is doing cannot be taken back.
 * Everything that was acknowledged is there; the next start recovers as after a kill. */
static void
end_if_stuck(struct parts *p)
{
    const int64_t now = clock_mono_ms(), stuck = stuck_ms(&p->svc, now);
    const int64_t most = p->patience_ms < STUCK_MIN_MS ? STUCK_MIN_MS : p->patience_ms;
    if (now < p->end_ms || stuck < most)
        return;
    log_line(LOG_LEVEL_ERROR, "stopped", "code=%d stuck_ms=%lld message=%s", EX_TEMPFAIL,
             (long long)stuck,
             "the store does not answer; what was being written may or may not be there");
    _exit(EX_TEMPFAIL);
}

static void *
watch(void *arg)
{
    struct last_watch *w = arg;
    pthread_mutex_lock(&w->lock);
    while (!w->over) {
        const struct timespec until = timedwait_end(TICK_MS);
        pthread_cond_timedwait(&w->wake, &w->lock, &until);
        if (!w->over)
            end_if_stuck(w->parts);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* Without memory for a thread it is left to the service manager. */
void
parts_watch_end(struct parts *p)
{
    struct last_watch *w = p->svc.committer && p->svc.workers ? calloc(1, sizeof *w) : NULL;
    if (!w)
        return;
    w->parts = p;
    pthread_mutex_init(&w->lock, NULL);
    timedwait_init(&w->wake);
    if (pthread_create(&w->thread, NULL, watch, w) == 0)
        p->last_watch = w;
    else
        free(w);
}

void
parts_unwatch_end(struct parts *p)
{
    struct last_watch *w = p->last_watch;
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->over = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
    p->last_watch = NULL;
}
