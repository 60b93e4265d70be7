/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The committer: what waits, what is given up, and how it is getting on. */
#include "config.h"

#include "tests/unit/commit.h"

#include "daemon/slice.h"
#include "tests/unit/scheduling.h"

#include <semaphore.h>

/* --- groups ------------------------------------------------------------------------------- */

static void
what_waits_is_applied_in_one_go(void **state)
{
    (void)state;
    pthread_mutex_lock(&core.disk->gate);
    for (size_t i = 0; i < 400; i++) {
        propose_token(&works[i]);
        committer_push(committer, &works[i].rq);
    }
    pthread_mutex_unlock(&core.disk->gate);
    assert_true(wait_for(400));
    assert_int_equal(atomic_load(&core.disk->batches), 400);
    /* The first may have gone alone, or with some; the rest has waited. */
    assert_true(atomic_load(&core.disk->applies) <= 2);
    for (size_t i = 0; i < 400; i++) {
        assert_int_equal(works[i].done, 1);
        assert_int_equal(works[i].again, 0);
        assert_int_equal(works[i].rq.call.err.kind, KT_OK);
        assert_int_equal(works[i].turn, i);
    }
}

static void
a_group_is_bounded(void **state)
{
    (void)state;
    pthread_mutex_lock(&core.disk->gate);
    for (size_t i = 0; i < MANY; i++) {
        propose_row(&works[i]);
        committer_push(committer, &works[i].rq);
    }
    pthread_mutex_unlock(&core.disk->gate);
    assert_true(wait_for(MANY));
    assert_true(atomic_load(&core.disk->largest) <= KAITEN_APPLY_BATCHES_MAX);
    assert_true(atomic_load(&core.disk->largest) <= 512);
    assert_int_equal(atomic_load(&core.disk->batches), MANY);
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(works[i].turn, i);
}

static void
the_end_applies_what_waits(void **state)
{
    (void)state;
    pthread_mutex_lock(&core.disk->gate);
    for (size_t i = 0; i < 20; i++) {
        propose_row(&works[i]);
        committer_push(committer, &works[i].rq);
    }
    pthread_mutex_unlock(&core.disk->gate);
    committer_free(committer);
    committer = NULL;
    assert_int_equal(finished, 20);
}

/* --- the scheduler ------------------------------------------------------------------------ */

static struct {
    struct errand errand;
    struct scheduling found;
    sem_t done;
} asked;

static void
look_at_scheduling(struct errand *e)
{
    (void)e;
    asked.found = scheduling_now();
    sem_post(&asked.done);
}

/* It computes for milliseconds while event loops want the processor. */
static void
the_committer_has_short_slices(void **state)
{
    (void)state;
    const uint64_t own = scheduling_now().runtime;
    if (!scheduling_set_slice(SLICE_NS * 3))
        skip();
    assert_true(scheduling_set_slice(own));
    sem_init(&asked.done, 0, 0);
    asked.errand.run = look_at_scheduling;
    committer_run(committer, &asked.errand);
    sem_wait(&asked.done);
    sem_destroy(&asked.done);
    assert_int_equal(asked.found.runtime, SLICE_NS);
}

/* --- giving up ---------------------------------------------------------------------------- */

/* What is not taken never happens; what is taken does. Both come back, and say so to nobody. */
static void
what_waits_can_be_given_up(void **state)
{
    (void)state;
    bool taken;
    push_behind_a_stuck_one(4);
    assert_true(request_abandon(&works[0].rq, &taken));
    assert_true(taken);
    assert_true(request_abandon(&works[2].rq, &taken));
    assert_false(taken);
    pthread_mutex_unlock(&core.disk->gate);
    assert_true(wait_for(4));
    for (size_t i = 0; i < 4; i++) {
        bool is_done = i != 2;
        assert_int_equal(works[i].done, 1);
        assert_int_equal(works[i].rq.call.err.kind, is_done ? KT_OK : KT_UNAVAILABLE);
        assert_int_equal(works[i].when_done, is_done ? INDEX_LIVE : INDEX_UNKNOWN);
        assert_int_equal(is_in_store(&works[i]), is_done);
    }
    assert_int_equal(atomic_load(&core.disk->batches), 3);
    for (size_t i = 0; i < 4; i += 2)
        assert_true(request_is_abandoned(&works[i].rq));
}

static void
what_is_on_its_way_home_is_not_given_up(void **state)
{
    (void)state;
    bool taken;
    propose_token(&works[0]);
    commit(&works[0]);
    assert_false(request_abandon(&works[0].rq, &taken));
    assert_false(request_is_abandoned(&works[0].rq));
}

/* Nobody waits for it any more, so it does not run again. */
static void
what_is_given_up_does_not_run_again(void **state)
{
    (void)state;
    bool taken;
    struct work *w = &works[0];
    struct store_row row = { .key = KT_LIT("anowhere"), .revision = 7 };
    batch_if_at(w->rq.batch, &row);
    push_behind_a_stuck_one(1);
    assert_true(request_abandon(&w->rq, &taken));
    pthread_mutex_unlock(&core.disk->gate);
    assert_true(wait_for(1));
    assert_int_equal(w->again, 0);
    assert_int_equal(w->done, 1);
    assert_int_equal(w->rq.call.err.kind, KT_CONFLICT);
}

/* A conflict leaves it as open as it was before. */
static void
what_runs_again_can_be_given_up(void **state)
{
    (void)state;
    bool taken;
    struct store_row row = { .key = KT_LIT("anowhere"), .revision = 7 };
    batch_if_at(works[0].rq.batch, &row);
    propose_token(&works[0]);
    commit(&works[0]);
    assert_int_equal(works[0].again, 1);
    assert_true(request_abandon(&works[0].rq, &taken));
    assert_false(taken);
}

/* --- how it is getting on ----------------------------------------------------------------- */

static struct committer_load
load_now(void)
{
    struct committer_load load;
    committer_load(committer, clock_mono_ms(), &load);
    return load;
}

static void
wait_ms(int64_t ms)
{
    const struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&pause, NULL);
}

/* Answers are given before the thread comes to rest. */
static void
wait_for_rest(void)
{
    for (int i = 0; i < WAIT_MS && load_now().busy_ms != 0; i++)
        wait_ms(1);
    assert_int_equal(load_now().busy_ms, 0);
}

static void
it_is_seen_when_it_is_stuck(void **state)
{
    (void)state;
    core.svc.request_ms = 50;
    core.svc.queue_max = 3;
    assert_int_equal(load_now().busy_ms, 0);
    assert_false(committer_is_stuck(committer, clock_mono_ms()));
    push_behind_a_stuck_one(3);
    assert_int_equal(load_now().waiting, 2);
    assert_false(committer_is_full(committer));
    propose_token(&works[3]);
    committer_push(committer, &works[3].rq);
    assert_true(committer_is_full(committer));
    while (load_now().busy_ms <= core.svc.request_ms)
        wait_ms(5);
    assert_true(committer_is_stuck(committer, clock_mono_ms()));
    pthread_mutex_unlock(&core.disk->gate);
    assert_true(wait_for(4));
    wait_for_rest();
    assert_int_equal(load_now().waiting, 0);
    assert_false(committer_is_stuck(committer, clock_mono_ms()));
    assert_false(committer_is_full(committer));
}

/* As while a copy of the store is made; nothing is wrong. */
static void
a_rest_is_not_being_stuck(void **state)
{
    (void)state;
    core.svc.request_ms = 10;
    assert_true(committer_pause(committer, clock_mono_ms() + WAIT_MS));
    propose_token(&works[0]);
    committer_push(committer, &works[0].rq);
    wait_ms(50);
    assert_int_equal(load_now().busy_ms, 0);
    assert_int_equal(load_now().waiting, 1);
    assert_false(committer_is_stuck(committer, clock_mono_ms()));
    committer_go_on(committer);
    assert_true(wait_for(1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_waits_is_applied_in_one_go, setup, teardown),
        cmocka_unit_test_setup_teardown(a_group_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(the_committer_has_short_slices, setup, teardown),
        cmocka_unit_test_setup_teardown(the_end_applies_what_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(what_waits_can_be_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_on_its_way_home_is_not_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_given_up_does_not_run_again, setup, teardown),
        cmocka_unit_test_setup_teardown(what_runs_again_can_be_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(it_is_seen_when_it_is_stuck, setup, teardown),
        cmocka_unit_test_setup_teardown(a_rest_is_not_being_stuck, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
