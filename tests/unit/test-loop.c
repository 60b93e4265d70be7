/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Loops: order of tasks and answers from several threads, barriers, turns. */
#include "config.h"

#include "daemon/loop.h"
#include "daemon/slice.h"
#include "tests/unit/scheduling.h"

#include <event2/event.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

enum { THREADS = 4, EACH = 2000 };

struct step {
    struct loop_task task;
    unsigned thread, number;
};

static unsigned seen[THREADS]; /* touched by loop 0 only, read after loops_stop() */
static bool out_of_order, elsewhere;

static void
step_run(struct loop *loop, struct loop_task *task)
{
    struct step *step = (struct step *)task;
    out_of_order |= step->number != seen[step->thread];
    elsewhere |= !loop_is_here(loop);
    seen[step->thread]++;
}

struct poster {
    struct loop *loop;
    struct step *steps;
    pthread_t thread;
};

static void *
post_all(void *arg)
{
    struct poster *poster = arg;
    for (unsigned i = 0; i < EACH; i++)
        loop_post(poster->loop, &poster->steps[i].task);
    return NULL;
}

static void
tasks_run_in_the_order_of_each_thread(void **state)
{
    (void)state;
    struct loop **loops = loops_new(1);
    assert_non_null(loops);
    assert_int_equal(loops_count(loops), 1);
    assert_int_equal(loops_start(loops), 0);
    assert_false(loop_is_here(loops[0]));
    struct poster posters[THREADS];
    for (unsigned t = 0; t < THREADS; t++) {
        posters[t].loop = loops[0];
        posters[t].steps = calloc(EACH, sizeof *posters[t].steps);
        for (unsigned i = 0; i < EACH; i++) {
            posters[t].steps[i].task.run = step_run;
            posters[t].steps[i].thread = t;
            posters[t].steps[i].number = i;
        }
        pthread_create(&posters[t].thread, NULL, post_all, &posters[t]);
    }
    for (unsigned t = 0; t < THREADS; t++)
        pthread_join(posters[t].thread, NULL);
    loops_stop(loops); /* what was posted is run before it ends */
    for (unsigned t = 0; t < THREADS; t++) {
        assert_int_equal(seen[t], EACH);
        free(posters[t].steps);
    }
    assert_false(out_of_order);
    assert_false(elsewhere);
}

static void
posted_before_the_start_is_run(void **state)
{
    (void)state;
    struct loop **loops = loops_new(1);
    struct step step = { .task.run = step_run, .thread = 0 };
    seen[0] = 0;
    loop_post(loops[0], &step.task);
    assert_int_equal(loops_start(loops), 0);
    loops_stop(loops);
    assert_int_equal(seen[0], 1);
}

/* --- answers ------------------------------------------------------------------------------ */

static struct {
    struct request *list[64]; /* per loop, in the order of arrival */
    size_t n;
    bool wrong_home;
} got[2];

static void
note_answer(struct request *rq)
{
    unsigned i = loop_number(rq->home);
    got[i].wrong_home |= !loop_is_here(rq->home);
    got[i].list[got[i].n++] = rq;
}

static const struct transport noting = { .door = DOOR_SOCKET, .answer = note_answer };

static void
answers_come_home_in_order(void **state)
{
    (void)state;
    memset(got, 0, sizeof got);
    struct loop **loops = loops_new(2);
    assert_int_equal(loops_start(loops), 0);
    struct request *rqs = calloc(33, sizeof *rqs);
    for (size_t i = 0; i < 33; i++) {
        rqs[i].transport = &noting;
        rqs[i].home = loops[i % 3 == 0];
        rqs[i].next = i < 31 ? &rqs[i + 1] : NULL;
    }
    loop_answer_all(rqs);
    loop_answer(&rqs[32]);
    loops_stop(loops);
    assert_int_equal(got[0].n, 22);
    assert_int_equal(got[1].n, 11);
    for (size_t i = 0, at[2] = { 0, 0 }; i < 33; i++) {
        size_t home = i % 3 == 0;
        assert_ptr_equal(got[home].list[at[home]++], &rqs[i]);
    }
    assert_false(got[0].wrong_home || got[1].wrong_home);
    loop_answer_all(NULL);
    free(rqs);
}

static struct {
    size_t n, before, most; /* answers: in all, before this turn, of one turn */
    struct loop_task task;
} turns;

static void
count_answer(struct request *rq)
{
    (void)rq;
    turns.n++;
}

static const struct transport counting = { .door = DOOR_SOCKET, .answer = count_answer };

static void
look_in_each_turn(struct loop *loop, struct loop_task *task)
{
    size_t n = turns.n - turns.before;
    turns.most = n > turns.most ? n : turns.most;
    turns.before = turns.n;
    if (turns.n < 2 * LOOP_SLICE + 1)
        loop_post(loop, task);
}

static void
many_answers_take_several_turns(void **state)
{
    (void)state;
    enum { N = 2 * LOOP_SLICE + 1 };
    struct loop **loops = loops_new(1);
    struct request *rqs = calloc(N, sizeof *rqs);
    for (size_t i = 0; i < N; i++) {
        rqs[i].transport = &counting;
        rqs[i].home = loops[0];
        rqs[i].next = i + 1 < N ? &rqs[i + 1] : NULL;
    }
    loop_answer_all(rqs);
    turns.task.run = look_in_each_turn;
    loop_post(loops[0], &turns.task);
    assert_int_equal(loops_start(loops), 0);
    loops_stop(loops); /* none is left behind */
    assert_int_equal(turns.n, N);
    assert_int_equal(turns.most, LOOP_SLICE);
    free(rqs);
}

/* --- barriers ----------------------------------------------------------------------------- */

struct reader {
    struct loop_task task;
    sem_t entered, leave;
    _Atomic bool reading;
};

static void
read_slowly(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    struct reader *reader = (struct reader *)task;
    reader->reading = true;
    sem_post(&reader->entered);
    while (sem_wait(&reader->leave) != 0)
        ;
    reader->reading = false;
}

struct freed {
    struct reader *readers;
    size_t n;
    bool while_reading;
    sem_t done;
};

static void
free_it(void *ctx)
{
    struct freed *freed = ctx;
    for (size_t i = 0; i < freed->n; i++)
        freed->while_reading |= freed->readers[i].reading;
    sem_post(&freed->done);
}

static void
a_barrier_waits_for_every_reader(void **state)
{
    (void)state;
    enum { N = 3 };
    struct loop **loops = loops_new(N);
    assert_int_equal(loops_start(loops), 0);
    struct reader readers[N];
    for (size_t i = 0; i < N; i++) {
        readers[i] = (struct reader){ .task.run = read_slowly };
        sem_init(&readers[i].entered, 0, 0);
        sem_init(&readers[i].leave, 0, 0);
        loop_post(loops[i], &readers[i].task);
    }
    for (size_t i = 0; i < N; i++)
        sem_wait(&readers[i].entered);
    struct freed freed = { .readers = readers, .n = N };
    sem_init(&freed.done, 0, 0);
    loops_barrier(loops, free_it, &freed);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(sem_trywait(&freed.done), -1);
        sem_post(&readers[i].leave);
    }
    sem_wait(&freed.done);
    assert_false(freed.while_reading);
    loops_stop(loops);
}

/* --- turns -------------------------------------------------------------------------------- */

static struct {
    char order[16];
    size_t n;
    struct loop_task second, deferred;
    sem_t done;
} turn;

static void
note_turn(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    turn.order[turn.n++] = task == &turn.second ? 's' : 'd';
    if (turn.n == 2)
        sem_post(&turn.done);
}

static void
first_run(struct loop *loop, struct loop_task *task)
{
    (void)task;
    turn.second.run = turn.deferred.run = note_turn;
    loop_post(loop, &turn.second);
    loop_defer(loop, &turn.deferred);
    assert_true(loop_now_ms(loop) > 0);
    assert_int_equal(loop_now_ms(loop), loop_now_ms(loop));
}

static void
deferred_is_before_what_is_posted_from_inside(void **state)
{
    (void)state;
    struct loop **loops = loops_new(1);
    sem_init(&turn.done, 0, 0);
    assert_int_equal(loops_start(loops), 0);
    struct loop_task first = { .run = first_run };
    loop_post(loops[0], &first);
    sem_wait(&turn.done);
    loops_stop(loops);
    assert_string_equal(turn.order, "ds");
}

/* --- slices ------------------------------------------------------------------------------- */

enum { LATER = 40 };

static struct {
    size_t n, between, largest;
    bool out_of_order;
    struct request rqs[LATER];
    struct loop_task task;
} slices;

static void
count_turn(struct loop *loop, struct loop_task *task)
{
    slices.between++;
    if (slices.n < LATER)
        loop_post(loop, task);
}

static void
run_slice(struct request *list)
{
    size_t n = 0;
    for (struct request *rq = list; rq; rq = rq->next, n++)
        slices.out_of_order |= rq != &slices.rqs[slices.n + n];
    slices.n += n;
    slices.largest = n > slices.largest ? n : slices.largest;
}

static void
leave_for_later(struct loop *loop, struct loop_task *task)
{
    for (size_t i = 0; i < LATER; i++)
        loop_later(loop, &slices.rqs[i], run_slice);
    task->run = count_turn;
    loop_post(loop, task);
}

static void
what_takes_longer_is_done_in_slices(void **state)
{
    (void)state;
    struct loop **loops = loops_new(1);
    slices.task.run = leave_for_later;
    loop_post(loops[0], &slices.task);
    assert_int_equal(loops_start(loops), 0);
    loops_stop(loops); /* nothing is left behind */
    assert_int_equal(slices.n, LATER);
    assert_false(slices.out_of_order);
    assert_int_equal(slices.largest, LOOP_SLICE);
    assert_true(slices.between >= LATER / LOOP_SLICE); /* others had their turns */
}

static bool local_ended;

static void
end_local(void *local)
{
    local_ended = local == &local_ended;
}

static void
the_local_word_ends_with_the_loop(void **state)
{
    (void)state;
    struct loop **loops = loops_new(1);
    assert_null(loop_local(loops[0]));
    loop_set_local(loops[0], &local_ended, end_local);
    assert_ptr_equal(loop_local(loops[0]), &local_ended);
    assert_non_null(loop_base(loops[0]));
    assert_non_null(loop_scratch(loops[0]));
    assert_non_null(loop_request(loops[0]));
    assert_non_null(kt_arena_alloc(loop_arena(loops[0]), 32 * 1024));
    loops_stop(loops); /* never started */
    assert_true(local_ended);
}

static void
mask_run(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    (void)task;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    turn.order[0] = sigismember(&mask, SIGTERM) ? 'b' : 'o';
}

static void
signals_are_for_the_main_thread(void **state)
{
    (void)state;
    struct loop **loops = loops_new(1);
    assert_int_equal(loops_start(loops), 0);
    struct loop_task task = { .run = mask_run };
    loop_post(loops[0], &task);
    loops_stop(loops);
    assert_int_equal(turn.order[0], 'b');
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    assert_false(sigismember(&mask, SIGTERM));
}

/* --- the scheduler ------------------------------------------------------------------------ */

static struct {
    struct loop_task task;
    struct scheduling found;
} asked;

static void
look_at_scheduling(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    (void)task;
    asked.found = scheduling_now();
}

static void *
on_a_thread_that_is_nice(void *arg)
{
    struct scheduling *own = arg;
    *own = scheduling_now();
    own->nice += 3;
    own->runtime = SLICE_NS * 3;
    assert_int_equal(syscall(SYS_sched_setattr, 0, own, 0), 0);
    *own = scheduling_now();
    struct loop **loops = loops_new(1);
    asked.task.run = look_at_scheduling;
    loop_post(loops[0], &asked.task);
    assert_int_equal(loops_start(loops), 0);
    loops_stop(loops);
    return NULL;
}

/* Started by a thread of another nice and with longer slices, which a loop would inherit. */
static void
a_loop_has_short_slices_and_is_as_nice_as_before(void **state)
{
    (void)state;
    struct scheduling own;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, on_a_thread_that_is_nice, &own), 0);
    pthread_join(thread, NULL);
    assert_int_equal(asked.found.policy, own.policy);
    assert_int_equal(asked.found.nice, own.nice);
    if (own.runtime != SLICE_NS * 3)
        skip(); /* this kernel has one length of slices for all */
    assert_int_equal(asked.found.runtime, SLICE_NS);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_run_in_the_order_of_each_thread),
        cmocka_unit_test(posted_before_the_start_is_run),
        cmocka_unit_test(answers_come_home_in_order),
        cmocka_unit_test(many_answers_take_several_turns),
        cmocka_unit_test(a_barrier_waits_for_every_reader),
        cmocka_unit_test(deferred_is_before_what_is_posted_from_inside),
        cmocka_unit_test(what_takes_longer_is_done_in_slices),
        cmocka_unit_test(the_local_word_ends_with_the_loop),
        cmocka_unit_test(signals_are_for_the_main_thread),
        cmocka_unit_test(a_loop_has_short_slices_and_is_as_nice_as_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
