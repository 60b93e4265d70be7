/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A request whose deadline passes while somebody else has it: its caller is answered in time, and
 * what comes home later is dropped. */
#include "config.h"

#include "tests/unit/pipeline-core.h"

enum { PATIENCE_MS = 1000 /* more than a change takes on a slow and busy machine */ };

/* One worker, and little patience. */
static int
setup_impatient(void **state)
{
    (void)state;
    const struct core_options options = { .workers = 1 };
    open_one(&options);
    core_must(core_make_account(&core, CORE_ANN, "sa-1") == 201);
    core.svc.request_ms = PATIENCE_MS;
    return 0;
}

static struct ask
mint_of(const char *body, const char *key)
{
    return (struct ask){ .token = CORE_ANN, .method = "POST", .path = TOKENS, .body = body,
                         .key = key, .impatient = true };
}

static struct ask
look_at(const char *slug)
{
    return (struct ask){ .door = DOOR_SOCKET, .method = "account.get", .body = slug,
                         .impatient = true };
}

/* Has the store take this one, and not give it back before core.disk->gate is free. */
static void
begin(struct ask *a)
{
    size_t applies = atomic_load(&core.disk->applies);
    pthread_mutex_lock(&core.disk->gate);
    core_post(&core, a);
    assert_true(core_reaches(&core.disk->applies, applies + 1));
}

static void
is_refused(struct ask *a, const char *code)
{
    core_wait(&core, a);
    assert_int_equal(a->status, 503);
    assert_string_equal(a->code, code);
    assert_string_equal(a->secret, "");
}

static void
comes_home(struct ask *a, enum kt_kind late)
{
    core_wait_dropped(&core, a);
    assert_int_equal(a->late, late);
    ask_done(a);
}

static void
what_the_store_has_is_unknown_and_what_waits_is_not_done(void **state)
{
    (void)state;
    struct ask taken = mint_of("{\"name\":\"t\",\"slug\":\"t-1\",\"scopes\":null}", NULL);
    struct ask waits = mint_of("{\"name\":\"w\",\"slug\":\"w-1\",\"scopes\":null}", NULL);
    struct ask late = mint_of("{\"name\":\"l\",\"slug\":\"l-1\",\"scopes\":null}", NULL);
    begin(&taken);
    core_post(&core, &waits);
    is_refused(&taken, "Storage.Unknown");
    is_refused(&waits, "Server.Busy");
    while (!committer_is_stuck(core.svc.committer, clock_mono_ms()))
        core_pause();
    is_refused((core_post(&core, &late), &late), "Server.Busy");
    assert_int_equal(late.left, 0);
    assert_int_equal(metrics_abandonments(core.svc.metrics, true), 1);
    assert_int_equal(metrics_abandonments(core.svc.metrics, false), 1);
    assert_int_equal(taken.drops + waits.drops, 0);
    pthread_mutex_unlock(&core.disk->gate);
    comes_home(&taken, KT_OK);
    comes_home(&waits, KT_UNAVAILABLE);
    ask_done(&late);
    core.svc.request_ms = 60 * 1000;
    assert_int_equal(core_http(&core, CORE_ANN, "GET", TOKENS "/t-1", NULL), 200);
    assert_int_equal(core_http(&core, CORE_ANN, "GET", TOKENS "/w-1", NULL), 404);
    assert_int_equal(core_http(&core, CORE_ANN, "GET", TOKENS "/l-1", NULL), 404);
}

static void
who_waits_for_a_worker_is_answered_too(void **state)
{
    (void)state;
    struct ask reads = look_at("{\"serviceAccountSlug\":\"x-1\"}");
    struct ask waits = look_at("{\"serviceAccountSlug\":\"x-2\"}");
    size_t gets = atomic_load(&core.disk->gets);
    pthread_mutex_lock(&core.disk->read_gate);
    core_post(&core, &reads);
    assert_true(core_reaches(&core.disk->gets, gets + 1));
    core_post(&core, &waits);
    is_refused(&reads, "Server.Busy");
    is_refused(&waits, "Server.Busy");
    assert_true(workers_busy_ms(core.svc.workers, clock_mono_ms()) >= PATIENCE_MS);
    pthread_mutex_unlock(&core.disk->read_gate);
    comes_home(&reads, KT_NOT_FOUND);
    comes_home(&waits, KT_UNAVAILABLE);
    assert_int_equal(atomic_load(&core.disk->gets), gets + 1); /* nobody asks for the other */
}

/* A change whose worker was stuck does not happen when the worker is free again. */
static void
what_comes_to_the_committer_late_is_not_done(void **state)
{
    (void)state;
    struct ask a = { .token = CORE_ANN, .method = "DELETE", .path = "/service-accounts/sa-1",
                     .impatient = true };
    size_t gets = atomic_load(&core.disk->gets), applies = atomic_load(&core.disk->applies);
    pthread_mutex_lock(&core.disk->read_gate);
    core_post(&core, &a);
    assert_true(core_reaches(&core.disk->gets, gets + 1));
    is_refused(&a, "Server.Busy");
    pthread_mutex_unlock(&core.disk->read_gate);
    comes_home(&a, KT_UNAVAILABLE);
    assert_int_equal(atomic_load(&core.disk->applies), applies);
    core.svc.request_ms = 60 * 1000;
    assert_int_equal(core_http(&core, CORE_ANN, "GET", "/service-accounts/sa-1", NULL), 200);
}

static void
with_a_key_the_answer_can_be_had_later(void **state)
{
    (void)state;
    const char *body = "{\"name\":\"t\",\"slug\":\"t-1\",\"scopes\":null}";
    struct ask first = mint_of(body, "key-1"), second = mint_of(body, "key-1"),
               third = mint_of(body, "key-1");
    begin(&first);
    is_refused(&first, "Storage.Unknown");
    assert_int_equal(core_ask(&core, &second), 409);
    assert_string_equal(second.code, "Idempotency.InProgress");
    pthread_mutex_unlock(&core.disk->gate);
    comes_home(&first, KT_OK);
    core.svc.request_ms = 60 * 1000;
    assert_int_equal(core_ask(&core, &third), 201);
    assert_int_equal(core_judge(&core, third.secret), TOKEN_LIVE);
    ask_done(&second);
    ask_done(&third);
}

static void
wait_for_waiting(size_t n)
{
    struct committer_load load;
    do {
        core_pause();
        committer_load(core.svc.committer, clock_mono_ms(), &load);
    } while (load.waiting < n);
    assert_int_equal(load.waiting, n);
}

static void
the_queue_of_the_committer_is_bounded(void **state)
{
    (void)state;
    struct ask asks[5];
    char body[5][64];
    core.svc.request_ms = 60 * 1000;
    core.svc.queue_max = 2;
    for (size_t i = 0; i < CORE_COUNT(asks); i++) {
        snprintf(body[i], sizeof body[i], "{\"name\":\"n%zu\",\"scopes\":null}", i);
        asks[i] = mint_of(body[i], NULL);
        asks[i].impatient = false;
    }
    begin(&asks[0]);
    for (size_t i = 1; i < CORE_COUNT(asks); i++) {
        core_post(&core, &asks[i]);
        if (i > 2)
            is_refused(&asks[i], "Server.Busy");
        else
            wait_for_waiting(i);
    }
    wait_for_waiting(2);
    pthread_mutex_unlock(&core.disk->gate);
    for (size_t i = 0; i < 3; i++) {
        core_wait(&core, &asks[i]);
        assert_int_equal(asks[i].status, 201);
    }
    for (size_t i = 0; i < CORE_COUNT(asks); i++)
        ask_done(&asks[i]);
}

/* A door that cannot give up waits, as do tests that have nothing to do with this. */
static void
who_cannot_give_up_waits(void **state)
{
    (void)state;
    struct ask a = mint_of("{\"name\":\"t\",\"slug\":\"t-1\",\"scopes\":null}", NULL);
    const struct timespec longer = { 2 * PATIENCE_MS / 1000, 0 };
    a.impatient = false;
    begin(&a);
    nanosleep(&longer, NULL);
    pthread_mutex_unlock(&core.disk->gate);
    core_wait(&core, &a);
    assert_int_equal(a.status, 201);
    ask_done(&a);
}

int
main(void)
{
#define IMPATIENT(f) cmocka_unit_test_setup_teardown(f, setup_impatient, teardown)
    const struct CMUnitTest tests[] = {
        IMPATIENT(what_the_store_has_is_unknown_and_what_waits_is_not_done),
        IMPATIENT(who_waits_for_a_worker_is_answered_too),
        IMPATIENT(what_comes_to_the_committer_late_is_not_done),
        IMPATIENT(with_a_key_the_answer_can_be_had_later),
        IMPATIENT(the_queue_of_the_committer_is_bounded),
        IMPATIENT(who_cannot_give_up_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
