/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

struct worker {
    struct workers *pool;
    pthread_t thread;
    _Atomic int64_t since_ms; /* monotonic: when it began with its request; 0: it has none */
};

/* The lock guards everything below it; nothing else is locked while it is held. */
struct workers {
    size_t queue_max;
    void (*run)(struct request *);
    size_t nthreads; /* stays what it is until the end: they are looked at without the lock */
    size_t njoined;  /* of whoever stops them */
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct request *first, **end;
    size_t waiting;
    size_t idle; /* threads in pthread_cond_wait */
    bool stopping;
    struct worker threads[];
};

static void
push_locked(struct workers *workers, struct request *rq)
{
    rq->next = NULL;
    *workers->end = rq;
    workers->end = &rq->next;
    workers->waiting++;
    if (workers->idle)
        pthread_cond_signal(&workers->filled);
}

bool
workers_push(struct workers *workers, struct request *rq)
{
    pthread_mutex_lock(&workers->lock);
    bool room = !workers->stopping && workers->waiting < workers->queue_max;
    if (room)
        push_locked(workers, rq);
    pthread_mutex_unlock(&workers->lock);
    return room;
}

bool
workers_push_always(struct workers *workers, struct request *rq)
{
    pthread_mutex_lock(&workers->lock);
    bool open = !workers->stopping;
    if (open)
        push_locked(workers, rq);
    pthread_mutex_unlock(&workers->lock);
    return open;
}

/* The oldest request, or NULL when the pool stops and nothing is left. */
static struct request *
pop(struct workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    while (!workers->first && !workers->stopping) {
        workers->idle++;
        pthread_cond_wait(&workers->filled, &workers->lock);
        workers->idle--;
    }
    struct request *rq = workers->first;
    if (rq) {
        workers->first = rq->next;
        if (!workers->first)
            workers->end = &workers->first;
        workers->waiting--;
        rq->next = NULL;
    }
    pthread_mutex_unlock(&workers->lock);
    return rq;
}

static void *
worker_main(void *arg)
{
    struct worker *w = arg;
    for (struct request *rq = pop(w->pool); rq; rq = pop(w->pool)) {
        atomic_store(&w->since_ms, request_may_last(rq) ? 0 : clock_mono_ms());
        w->pool->run(rq);
        atomic_store(&w->since_ms, 0);
    }
    return NULL;
}

/* Signals belong to the main thread. */
static int
start_threads(struct workers *workers, size_t n)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    while (workers->nthreads < n && !error) {
        struct worker *w = &workers->threads[workers->nthreads];
        w->pool = workers;
        error = pthread_create(&w->thread, NULL, worker_main, w);
        if (error)
            break;
        char name[16];
        snprintf(name, sizeof name, "worker%zu", workers->nthreads % 10000);
        pthread_setname_np(w->thread, name);
        workers->nthreads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

struct workers *
workers_new(size_t n, size_t queue_max, void (*run)(struct request *))
{
    struct workers *workers = calloc(1, sizeof *workers + n * sizeof *workers->threads);
    if (!workers)
        return NULL;
    workers->queue_max = queue_max;
    workers->run = run;
    workers->end = &workers->first;
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->filled, NULL);
    int error = start_threads(workers, n);
    if (error) {
        workers_free(workers);
        errno = error;
        return NULL;
    }
    return workers;
}

void
workers_stop(struct workers *workers)
{
    if (!workers)
        return;
    pthread_mutex_lock(&workers->lock);
    workers->stopping = true;
    pthread_cond_broadcast(&workers->filled);
    pthread_mutex_unlock(&workers->lock);
    for (; workers->njoined < workers->nthreads; workers->njoined++)
        pthread_join(workers->threads[workers->njoined].thread, NULL);
}

void
workers_free(struct workers *workers)
{
    if (!workers)
        return;
    workers_stop(workers);
    pthread_cond_destroy(&workers->filled);
    pthread_mutex_destroy(&workers->lock);
    free(workers);
}

size_t
workers_waiting(struct workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    size_t waiting = workers->waiting;
    pthread_mutex_unlock(&workers->lock);
    return waiting;
}

int64_t
workers_busy_ms(const struct workers *workers, int64_t mono_ms)
{
    int64_t longest = 0;
    for (size_t i = 0; i < workers->nthreads; i++) {
        const int64_t since = atomic_load(&workers->threads[i].since_ms);
        if (since != 0 && mono_ms - since > longest)
            longest = mono_ms - since;
    }
    return longest;
}
