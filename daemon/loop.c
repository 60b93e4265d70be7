/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/loop.h"

#include "daemon/log.h"
#include "daemon/slice.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOP_ARENA_BYTES = 64 * 1024,
    WATCH_MS = 20 /* deadlines closer together than this are checked in one pass */
};

/* Linked by next, oldest first. */
struct queue {
    struct request *first, **end;
};

struct loop {
    /* Newest first, pushed by any thread, taken whole by the loop. */
    _Atomic(struct loop_task *) tasks;
    _Atomic(struct request *) answers;
    int wake_fd;

    struct event_base *base;
    struct event wake_event;
    struct loop_task *deferred, **deferred_end;
    struct queue home; /* finished requests, to be answered a few at a time */
    struct queue later;
    void (*later_run)(struct request *list);
    int64_t now_ms; /* 0: the clock was not read yet in this turn */
    struct request *watched;
    void (*overdue)(struct request *);
    struct event watch_event;
    int64_t watch_at; /* no watched deadline is earlier */
    bool stopping;
    bool running;
    unsigned number;
    pthread_t thread;
    struct loop_task stop;
    void *local;
    void (*local_ended)(void *);

    struct request request[LOOP_GROUP];
    struct kt_arena arena;
    char *arena_memory;
    char *scratch;
};

static _Thread_local const struct loop *here;

struct event_base *
loop_base(struct loop *loop)
{
    return loop->base;
}

unsigned
loop_number(const struct loop *loop)
{
    return loop->number;
}

bool
loop_is_here(const struct loop *loop)
{
    return here == loop;
}

struct request *
loop_request(struct loop *loop)
{
    return loop->request;
}

struct kt_arena *
loop_arena(struct loop *loop)
{
    return &loop->arena;
}

char *
loop_scratch(struct loop *loop)
{
    return loop->scratch;
}

void
loop_set_local(struct loop *loop, void *local, void (*ended)(void *local))
{
    loop->local = local;
    loop->local_ended = ended;
}

void *
loop_local(const struct loop *loop)
{
    return loop->local;
}

int64_t
loop_now_ms(struct loop *loop)
{
    if (!loop->now_ms)
        loop->now_ms = clock_mono_ms();
    return loop->now_ms;
}

/* --- work for the end of the turn --------------------------------------------------------- */

void
loop_defer(struct loop *loop, struct loop_task *task)
{
    task->next = NULL;
    *loop->deferred_end = task;
    loop->deferred_end = &task->next;
}

static void
queue_init(struct queue *q)
{
    q->first = NULL;
    q->end = &q->first;
}

/* first..last are linked. */
static void
queue_add(struct queue *q, struct request *first, struct request *last)
{
    last->next = NULL;
    *q->end = first;
    q->end = &last->next;
}

/* The oldest, at most LOOP_SLICE of them. It is not empty. */
static struct request *
queue_take(struct queue *q)
{
    struct request *list = q->first, *last = list;
    for (unsigned n = 1; n < LOOP_SLICE && last->next; n++)
        last = last->next;
    q->first = last->next;
    if (!q->first)
        q->end = &q->first;
    last->next = NULL;
    return list;
}

void
loop_later(struct loop *loop, struct request *rq, void (*run)(struct request *list))
{
    queue_add(&loop->later, rq, rq);
    loop->later_run = run;
}

/* --- deadlines of requests ---------------------------------------------------------------- */

static void
watch_due(struct loop *loop, int64_t due)
{
    if (due >= loop->watch_at)
        return;
    int64_t ms = due + 1 - loop_now_ms(loop);
    if (ms < WATCH_MS)
        ms = WATCH_MS;
    loop->watch_at = due;
    struct timeval wait = { ms / 1000, ms % 1000 * 1000 };
    event_add(&loop->watch_event, &wait);
}

static void
watch_link(struct request **list, struct request *rq)
{
    rq->watch_at = list;
    rq->watch_next = *list;
    if (*list)
        (*list)->watch_at = &rq->watch_next;
    *list = rq;
}

void
loop_watch(struct request *rq, void (*overdue)(struct request *))
{
    struct loop *loop = rq->home;
    if (rq->watch_at)
        return;
    loop->overdue = overdue;
    watch_link(&loop->watched, rq);
    watch_due(loop, rq->call.deadline_ms);
}

void
loop_unwatch(struct request *rq)
{
    if (!rq->watch_at)
        return;
    *rq->watch_at = rq->watch_next;
    if (rq->watch_next)
        rq->watch_next->watch_at = rq->watch_at;
    rq->watch_at = NULL;
}

static void
on_watch(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct loop *loop = arg;
    struct request *late = NULL;
    int64_t now = loop_now_ms(loop), due = INT64_MAX;
    loop->watch_at = INT64_MAX;
    for (struct request *rq = loop->watched, *next; rq; rq = next) {
        next = rq->watch_next;
        if (rq->call.deadline_ms < now) {
            loop_unwatch(rq);
            watch_link(&late, rq);
        } else if (rq->call.deadline_ms < due) {
            due = rq->call.deadline_ms;
        }
    }
    while (late) {
        struct request *rq = late;
        loop_unwatch(rq);
        loop->overdue(rq);
    }
    watch_due(loop, due);
}

/* --- from other threads ------------------------------------------------------------------- */

/* The counter of an eventfd cannot overflow by ones, so the only failure is a signal. */
static void
wake(struct loop *loop)
{
    uint64_t one = 1;
    while (write(loop->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

/* Who finds the list empty wakes the loop; who finds it filled knows that somebody has. On its own
 * thread a loop looks again before it sleeps. */
static void
wake_if_first(struct loop *loop, bool was_empty)
{
    if (was_empty && !loop_is_here(loop))
        wake(loop);
}

void
loop_post(struct loop *loop, struct loop_task *task)
{
    struct loop_task *old = atomic_load_explicit(&loop->tasks, memory_order_relaxed);
    do
        task->next = old;
    while (!atomic_compare_exchange_weak_explicit(&loop->tasks, &old, task, memory_order_seq_cst,
                                                  memory_order_relaxed));
    wake_if_first(loop, !old);
}

/* first..last are linked by next, newest first. */
static void
answers_push(struct loop *loop, struct request *first, struct request *last)
{
    struct request *old = atomic_load_explicit(&loop->answers, memory_order_relaxed);
    do
        last->next = old;
    while (!atomic_compare_exchange_weak_explicit(&loop->answers, &old, first,
                                                  memory_order_seq_cst, memory_order_relaxed));
    wake_if_first(loop, !old);
}

void
loop_answer(struct request *rq)
{
    answers_push(rq->home, rq, rq);
}

/* Takes the requests of one home out of the list, in reverse order. Returns the rest. */
static struct request *
split_home(struct request *list, struct request **ret_first, struct request **ret_last)
{
    struct loop *home = list->home;
    struct request *rest = NULL, **rest_end = &rest, *first = NULL, *last = list;
    for (struct request *rq = list, *next; rq; rq = next) {
        next = rq->next;
        if (rq->home == home) {
            rq->next = first;
            first = rq;
        } else {
            *rest_end = rq;
            rest_end = &rq->next;
        }
    }
    *rest_end = NULL;
    *ret_first = first;
    *ret_last = last;
    return rest;
}

void
loop_answer_all(struct request *list)
{
    while (list) {
        struct loop *home = list->home;
        struct request *first, *last;
        list = split_home(list, &first, &last);
        answers_push(home, first, last);
    }
}

/* Those that have come home since, behind those that wait. */
static void
take_answers(struct loop *loop)
{
    struct request *taken = atomic_exchange(&loop->answers, NULL), *list = NULL, *last = taken;
    for (struct request *rq = taken, *next; rq; rq = next) {
        next = rq->next;
        rq->next = list;
        list = rq;
    }
    if (list)
        queue_add(&loop->home, list, last);
}

/* --- a turn ------------------------------------------------------------------------------- */

static void
run_answers(struct loop *loop)
{
    log_gather();
    for (struct request *rq = queue_take(&loop->home), *next; rq; rq = next) {
        next = rq->next;
        rq->next = NULL;
        request_finish(rq);
    }
    log_release();
}

static void
run_tasks(struct loop *loop)
{
    struct loop_task *taken = atomic_exchange(&loop->tasks, NULL), *list = NULL;
    for (struct loop_task *task = taken, *next; task; task = next) {
        next = task->next;
        task->next = list;
        list = task;
    }
    for (struct loop_task *task = list, *next; task; task = next) {
        next = task->next;
        task->run(loop, task);
    }
}

static void
run_deferred(struct loop *loop)
{
    struct loop_task *list = loop->deferred;
    loop->deferred = NULL;
    loop->deferred_end = &loop->deferred;
    for (struct loop_task *task = list, *next; task; task = next) {
        next = task->next;
        task->run(loop, task);
    }
}

static bool
has_posts(struct loop *loop)
{
    return atomic_load(&loop->tasks) || atomic_load(&loop->answers);
}

/* Left for the next turn. */
static bool
has_more(const struct loop *loop)
{
    return loop->home.first || loop->later.first;
}

/* One pass over what was posted, so that a task that posts itself again starves nobody. */
static void
end_turn(struct loop *loop)
{
    if (has_posts(loop)) {
        take_answers(loop);
        run_tasks(loop);
    }
    while (loop->deferred)
        run_deferred(loop);
    if (loop->home.first)
        run_answers(loop);
    if (loop->later.first)
        loop->later_run(queue_take(&loop->later));
    while (loop->deferred) /* sends what was just answered */
        run_deferred(loop);
    if (has_posts(loop))
        wake(loop);
    loop->now_ms = 0;
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    (void)arg;
    uint64_t count;
    while (read(fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
}

static void *
loop_main(void *arg)
{
    struct loop *loop = arg;
    here = loop;
    slice_ask_for_short();
    end_turn(loop); /* what was posted before the thread began */
    while (!loop->stopping || has_more(loop) || has_posts(loop)) {
        int how = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;
        event_base_loop(loop->base, has_more(loop) ? how | EVLOOP_NONBLOCK : how);
        end_turn(loop);
    }
    here = NULL;
    return NULL;
}

static void
stop_run(struct loop *loop, struct loop_task *task)
{
    (void)task;
    loop->stopping = true;
    wake(loop); /* one more turn finishes what this one has begun */
}

/* --- all loops ---------------------------------------------------------------------------- */

static struct event_base *
base_new(void)
{
    struct event_config *config = event_config_new();
    if (!config)
        return NULL;
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV);
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

static void *
loop_free(struct loop *loop)
{
    if (!loop)
        return NULL;
    if (loop->local_ended)
        loop->local_ended(loop->local);
    if (loop->base)
        event_base_free(loop->base);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    kt_arena_done(&loop->arena);
    free(loop->arena_memory);
    free(loop->scratch);
    free(loop);
    return NULL;
}

static struct loop *
loop_new(unsigned number)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return NULL;
    loop->number = number;
    loop->deferred_end = &loop->deferred;
    queue_init(&loop->home);
    queue_init(&loop->later);
    loop->watch_at = INT64_MAX;
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    loop->base = base_new();
    loop->arena_memory = malloc(LOOP_ARENA_BYTES);
    loop->scratch = malloc(LOOP_SCRATCH);
    if (loop->wake_fd < 0 || !loop->base || !loop->arena_memory || !loop->scratch)
        return loop_free(loop);
    kt_arena_init_with(&loop->arena, loop->arena_memory, LOOP_ARENA_BYTES, REQUEST_ARENA_MAX);
    if (event_assign(&loop->wake_event, loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake,
                     loop) != 0 ||
        event_add(&loop->wake_event, NULL) != 0 ||
        event_assign(&loop->watch_event, loop->base, -1, 0, on_watch, loop) != 0)
        return loop_free(loop);
    return loop;
}

static void *
loops_free(struct loop **loops)
{
    for (size_t i = 0; loops[i]; i++)
        loop_free(loops[i]);
    free(loops);
    return NULL;
}

struct loop **
loops_new(size_t n)
{
    struct loop **loops = calloc(n + 1, sizeof *loops);
    if (!loops)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        loops[i] = loop_new((unsigned)i);
        if (!loops[i])
            return loops_free(loops);
    }
    return loops;
}

size_t
loops_count(struct loop *const *loops)
{
    size_t n = 0;
    while (loops[n])
        n++;
    return n;
}

static int
loop_start(struct loop *loop)
{
    int error = pthread_create(&loop->thread, NULL, loop_main, loop);
    if (error)
        return error;
    loop->running = true;
    char name[16];
    snprintf(name, sizeof name, "loop%u", loop->number % 10000);
    pthread_setname_np(loop->thread, name);
    return 0;
}

/* Signals belong to the main thread, so the loops are born with all of them blocked. */
int
loops_start(struct loop **loops)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    for (size_t i = 0; loops[i] && !error; i++)
        error = loop_start(loops[i]);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

void
loops_stop(struct loop **loops)
{
    for (size_t i = 0; loops[i]; i++) {
        loops[i]->stop.run = stop_run;
        if (loops[i]->running)
            loop_post(loops[i], &loops[i]->stop);
    }
    for (size_t i = 0; loops[i]; i++)
        if (loops[i]->running)
            pthread_join(loops[i]->thread, NULL);
    loops_free(loops);
}

/* --- barriers ----------------------------------------------------------------------------- */

struct barrier {
    _Atomic size_t left;
    void (*done)(void *);
    void *ctx;
    struct barrier_task {
        struct loop_task task;
        struct barrier *barrier;
    } tasks[];
};

static void
barrier_run(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    struct barrier *barrier = ((struct barrier_task *)task)->barrier;
    if (atomic_fetch_sub(&barrier->left, 1) != 1)
        return;
    barrier->done(barrier->ctx);
    free(barrier);
}

/* The caller has no way to handle a failure, and only a hundred bytes are asked for. */
static struct barrier *
barrier_new(size_t n)
{
    struct timespec pause = { 0, 1000 * 1000 };
    struct barrier *barrier;
    while (!(barrier = calloc(1, sizeof *barrier + n * sizeof *barrier->tasks)))
        nanosleep(&pause, NULL);
    return barrier;
}

void
loops_barrier(struct loop *const *loops, void (*done)(void *ctx), void *ctx)
{
    size_t n = loops_count(loops);
    struct barrier *barrier = barrier_new(n);
    barrier->left = n;
    barrier->done = done;
    barrier->ctx = ctx;
    for (size_t i = 0; i < n; i++) {
        barrier->tasks[i].barrier = barrier;
        barrier->tasks[i].task.run = barrier_run;
        loop_post(loops[i], &barrier->tasks[i].task);
    }
}
