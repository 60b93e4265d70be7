/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The pool of workers: order, bound, end. */
#include "config.h"

#include "daemon/worker.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <cmocka.h>

enum { REQUESTS = 500 };

static struct request *rqs;
static struct request *ran[REQUESTS];
static _Atomic size_t nran;
static sem_t entered, leave;

static void
note(struct request *rq)
{
    ran[atomic_fetch_add(&nran, 1)] = rq;
}

static void
note_slowly(struct request *rq)
{
    sem_post(&entered);
    while (sem_wait(&leave) != 0)
        ;
    note(rq);
}

static int
setup(void **state)
{
    (void)state;
    rqs = calloc(REQUESTS, sizeof *rqs);
    atomic_store(&nran, 0);
    sem_init(&entered, 0, 0);
    sem_init(&leave, 0, 0);
    return rqs ? 0 : -1;
}

static int
teardown(void **state)
{
    (void)state;
    free(rqs);
    return 0;
}

static void
first_in_is_first_out(void **state)
{
    (void)state;
    struct workers *workers = workers_new(1, REQUESTS, note);
    assert_non_null(workers);
    for (size_t i = 0; i < REQUESTS; i++)
        assert_true(workers_push(workers, &rqs[i]));
    workers_free(workers); /* runs what is queued */
    assert_int_equal(atomic_load(&nran), REQUESTS);
    for (size_t i = 0; i < REQUESTS; i++)
        assert_ptr_equal(ran[i], &rqs[i]);
}

static void
several_threads_run_each_once(void **state)
{
    (void)state;
    struct workers *workers = workers_new(4, REQUESTS, note);
    for (size_t i = 0; i < REQUESTS; i++)
        assert_true(workers_push(workers, &rqs[i]));
    workers_free(workers);
    assert_int_equal(atomic_load(&nran), REQUESTS);
    for (size_t i = 0; i < REQUESTS; i++)
        rqs[i].attempts = 0;
    for (size_t i = 0; i < REQUESTS; i++)
        ran[i]->attempts++;
    for (size_t i = 0; i < REQUESTS; i++)
        assert_int_equal(rqs[i].attempts, 1);
}

static void
the_queue_is_bounded(void **state)
{
    (void)state;
    struct workers *workers = workers_new(1, 2, note_slowly);
    assert_true(workers_push(workers, &rqs[0]));
    sem_wait(&entered); /* taken: it no longer waits */
    assert_int_equal(workers_waiting(workers), 0);
    assert_true(workers_push(workers, &rqs[1]));
    assert_true(workers_push(workers, &rqs[2]));
    assert_false(workers_push(workers, &rqs[3]));
    assert_true(workers_push_always(workers, &rqs[4]));
    assert_int_equal(workers_waiting(workers), 3);
    for (int i = 0; i < 4; i++)
        sem_post(&leave);
    workers_free(workers);
    assert_int_equal(atomic_load(&nran), 4);
    assert_ptr_equal(ran[3], &rqs[4]);
}

/* Whoever comes late keeps the request, and has a pool to ask until it is freed. */
static void
a_stopped_pool_takes_nothing(void **state)
{
    (void)state;
    struct workers *workers = workers_new(2, 8, note);
    assert_true(workers_push(workers, &rqs[0]));
    workers_stop(workers);
    assert_int_equal(atomic_load(&nran), 1);
    assert_false(workers_push(workers, &rqs[1]));
    assert_false(workers_push_always(workers, &rqs[1]));
    assert_int_equal(workers_waiting(workers), 0);
    workers_free(workers);
    assert_int_equal(atomic_load(&nran), 1);
}

static _Atomic bool watching, looked;

static void *
watch(void *arg)
{
    while (atomic_load(&watching)) {
        assert_true(workers_busy_ms(arg, clock_mono_ms()) >= 0);
        atomic_store(&looked, true);
    }
    return NULL;
}

/* By whoever ends the process when the pool does not. */
static void
it_may_be_watched_while_it_stops(void **state)
{
    (void)state;
    pthread_t thread;
    struct workers *workers = workers_new(4, 8, note);
    atomic_store(&looked, false);
    atomic_store(&watching, true);
    assert_int_equal(pthread_create(&thread, NULL, watch, workers), 0);
    while (!atomic_load(&looked))
        sched_yield();
    workers_stop(workers);
    atomic_store(&watching, false);
    pthread_join(thread, NULL);
    assert_int_equal(workers_busy_ms(workers, INT64_MAX), 0);
    workers_stop(workers);
    workers_free(workers);
}

static void
an_idle_pool_ends(void **state)
{
    (void)state;
    struct workers *workers = workers_new(3, 1, note);
    assert_non_null(workers);
    workers_free(workers);
    workers_free(NULL);
    assert_int_equal(atomic_load(&nran), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(first_in_is_first_out, setup, teardown),
        cmocka_unit_test_setup_teardown(several_threads_run_each_once, setup, teardown),
        cmocka_unit_test_setup_teardown(the_queue_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stopped_pool_takes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(it_may_be_watched_while_it_stops, setup, teardown),
        cmocka_unit_test_setup_teardown(an_idle_pool_ends, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
