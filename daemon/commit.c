/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/commit.h"

#include "daemon/commit_group.h"
#include "daemon/service.h"
#include "daemon/slice.h"
#include "daemon/timedwait.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct committer {
    const struct service *svc;
    void (*done)(struct request *list);
    struct commit_group *group; /* the thread's own, but for the index */
    pthread_t thread;
    bool joined; /* for whoever stops it */

    /* Written under the lock, read without it. */
    _Atomic size_t waiting;   /* how many requests are */
    _Atomic int64_t since_ms; /* monotonic: of this turn; 0: it has nothing to do, or rests */

    pthread_mutex_t lock; /* guards what follows; nothing else is locked while it is held */
    pthread_cond_t wake, rested;
    struct request *first, **last; /* waiting, oldest first */
    struct errand *errands, **last_errand;
    bool paused, working, stop;
};

/* False: stopped, and nothing is waiting. */
static bool
take_group(struct committer *c, struct commit_group *g, struct errand **ret_errands)
{
    pthread_mutex_lock(&c->lock);
    c->working = false;
    if (c->paused)
        pthread_cond_broadcast(&c->rested);
    while (c->paused || (!c->first && !c->errands && !c->stop)) {
        atomic_store(&c->since_ms, 0);
        pthread_cond_wait(&c->wake, &c->lock);
    }
    atomic_store(&c->since_ms, clock_mono_ms());
    c->working = true;
    *ret_errands = c->errands;
    c->errands = NULL;
    c->last_errand = &c->errands;
    for (g->n = 0; c->first && g->n < COMMIT_GROUP_MAX; g->n++) {
        g->requests[g->n] = c->first;
        c->first = c->first->next;
    }
    if (!c->first)
        c->last = &c->first;
    atomic_fetch_sub(&c->waiting, g->n);
    pthread_mutex_unlock(&c->lock);
    return g->n != 0 || *ret_errands;
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
    struct commit_group *g = c->group;
    struct errand *errands;
    slice_ask_for_short();
    while (take_group(c, g, &errands)) {
        run_errands(errands);
        if (g->n != 0)
            commit_group_run(g);
    }
    return NULL;
}

struct committer *
committer_new(struct service *svc, void (*again)(struct request *),
              void (*done)(struct request *list))
{
    struct committer *c = calloc(1, sizeof *c);
    struct commit_group *group = commit_group_new(svc, again, done);
    if (!c || !group) {
        commit_group_free(group);
        free(c);
        return NULL;
    }
    c->group = group;
    c->svc = svc;
    c->done = done;
    c->last = &c->first;
    c->last_errand = &c->errands;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    timedwait_init(&c->rested);
    errno = pthread_create(&c->thread, NULL, committer_main, c);
    if (errno == 0) {
        pthread_setname_np(c->thread, "committer");
        return c;
    }
    commit_group_free(group);
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
        finished_add(&done, rq);
    }
    if (done.first)
        c->done(done.first);
}

void
committer_push(struct committer *c, struct request *list)
{
    struct request *last = list;
    size_t n = 1;
    for (; last->next; last = last->next)
        n++;
    pthread_mutex_lock(&c->lock);
    bool stopped = c->stop, idle = c->first == NULL;
    if (!stopped) {
        *c->last = list;
        c->last = &last->next;
        atomic_fetch_add(&c->waiting, n);
    }
    pthread_mutex_unlock(&c->lock);
    /* Without the lock, or the thread would wake up only to wait for it. */
    if (stopped)
        refuse_stopped(c, list);
    else if (idle)
        pthread_cond_signal(&c->wake);
}

void
committer_load(const struct committer *c, int64_t mono_ms, struct committer_load *ret)
{
    const int64_t since = atomic_load(&c->since_ms);
    ret->waiting = atomic_load(&c->waiting);
    ret->busy_ms = since != 0 && since < mono_ms ? mono_ms - since : 0;
}

bool
committer_is_stuck(const struct committer *c, int64_t mono_ms)
{
    struct committer_load load;
    committer_load(c, mono_ms, &load);
    return load.busy_ms > c->svc->request_ms;
}

bool
committer_is_full(const struct committer *c)
{
    return c->svc->queue_max != 0 && atomic_load(&c->waiting) >= c->svc->queue_max;
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
committer_take_index(struct committer *c, size_t n)
{
    return commit_group_take_index(c->group, n);
}

void
committer_give_index(struct committer *c)
{
    commit_group_give_index(c->group);
}

bool
committer_pause(struct committer *c, int64_t deadline_ms)
{
    const struct timespec until = timedwait_end(deadline_ms - clock_mono_ms());
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
    commit_group_free(c->group);
    free(c);
}
