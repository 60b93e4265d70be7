/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Requests that wait for each other: queues, deadlines, crowds; every request is answered once. */
#include "config.h"

#include "tests/unit/pipeline-core.h"

/* --- queues and deadlines ----------------------------------------------------------------- */

static void
a_full_queue_is_said_at_once(void **state)
{
    (void)state;
    const struct core_options narrow = { .workers = 1, .queue_max = 2 };
    core_close(&core);
    core_open(&core, &narrow);
    struct ask asks[6];
    pthread_mutex_lock(&core.disk->read_gate);
    for (size_t i = 0; i < CORE_COUNT(asks); i++)
        asks[i] = (struct ask){ .door = DOOR_SOCKET, .method = "account.get",
                                .body = "{\"serviceAccountSlug\":\"x-1\"}" };
    core_post(&core, &asks[0]);
    assert_true(core_reaches(&core.disk->gets, 1)); /* the worker is busy */
    for (size_t i = 1; i < CORE_COUNT(asks); i++)
        core_post(&core, &asks[i]);
    for (size_t i = 3; i < CORE_COUNT(asks); i++) {
        core_wait(&core, &asks[i]);
        assert_int_equal(asks[i].status, 503);
        assert_string_equal(asks[i].code, "Server.Busy");
    }
    pthread_mutex_unlock(&core.disk->read_gate);
    for (size_t i = 0; i < 3; i++) {
        core_wait(&core, &asks[i]);
        assert_int_equal(asks[i].status, 404);
    }
    for (size_t i = 0; i < CORE_COUNT(asks); i++)
        ask_done(&asks[i]);
}

static void
who_has_waited_too_long_is_not_served(void **state)
{
    (void)state;
    static const struct {
        const char *method, *body;
        int status;
    } cases[] = {
        { "account.create", "{\"name\":\"n\",\"slug\":\"sa-1\"}", 503 },
        { "account.list", NULL, 503 },
        { "kaiten.ping", NULL, 200 }, /* has not waited */
    };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        struct ask a = { .door = DOOR_SOCKET, .method = cases[i].method, .body = cases[i].body,
                         .late_ms = core.svc.request_ms + 5 };
        assert_int_equal(core_ask(&core, &a), cases[i].status);
        if (a.status == 503)
            assert_string_equal(a.code, "Server.Busy");
        ask_done(&a);
    }
    assert_int_equal(disk_touched(), 0);
}

/* A conflict is not tried again beyond the deadline either. */
static void
a_conflict_does_not_outlive_its_deadline(void **state)
{
    (void)state;
    assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
    disk_fail(core.disk, KAITEN_DONE, KAITEN_CONFLICT, 0, 1);
    pthread_mutex_lock(&core.disk->gate);
    size_t applies = atomic_load(&core.disk->applies);
    struct ask a = { .door = DOOR_SOCKET, .method = "account.update",
                     .body = "{\"serviceAccountSlug\":\"sa-1\",\"name\":\"n\"}",
                     .late_ms = core.svc.request_ms - 1000 };
    core_post(&core, &a);
    assert_true(core_reaches(&core.disk->applies, applies + 1));
    const struct timespec longer = { 1, 100 * 1000 * 1000 };
    nanosleep(&longer, NULL);
    pthread_mutex_unlock(&core.disk->gate);
    core_wait(&core, &a);
    assert_int_equal(a.status, 503);
    assert_int_equal(a.attempts, 1);
    ask_done(&a);
}

static void
a_stopped_committer_is_said(void **state)
{
    (void)state;
    char secret[64];
    assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
    assert_int_equal(core_mint(&core, CORE_ANN, "sa-1", "t-1", "null", secret), 201);
    committer_stop(core.svc.committer);
    struct ask a = { .token = CORE_ANN, .method = "POST", .path = TOKENS,
                     .body = "{\"name\":\"n\",\"scopes\":null}" };
    assert_int_equal(core_ask(&core, &a), 503);
    assert_string_equal(a.code, "Server.Busy");
    assert_string_equal(a.secret, "");
    ask_done(&a);
}

/* --- accounts that are known -------------------------------------------------------------- */

static void
a_stopped_pool_is_said(void **state)
{
    (void)state;
    workers_stop(core.svc.workers);
    assert_int_equal(core_http(&core, NULL, "GET", "/healthz", NULL), 200);
    assert_int_equal(core_http(&core, CORE_ANN, "GET", "/service-accounts", NULL), 503);
}

/* --- once, whatever happens --------------------------------------------------------------- */

enum { CROWD = 300 };

static void
fill_crowd(struct ask *a, size_t i, char text[160], const char *secret)
{
    static const char *const faults[] = { CORE_ANN, READER, NOBODY, "nonsense", NULL };
    *a = (struct ask){ .loop = i % 3, .token = faults[i / 7 % 5], .body = text };
    switch (i % 7) {
    case 0:
        snprintf(text, 160, "{\"name\":\"n\",\"slug\":\"sa-%zu\"}", i % 20);
        a->method = "POST", a->path = "/service-accounts";
        break;
    case 1:
        snprintf(text, 160, "{\"name\":\"n-%zu\",\"scopes\":null}", i % 30);
        a->method = "POST", a->path = TOKENS;
        break;
    case 2: a->method = "GET", a->path = "/service-accounts"; break;
    case 3: a->method = "GET", a->path = "/whoami"; break;
    case 4:
        a->door = DOOR_SOCKET, a->method = "token.verify", a->token = NULL;
        snprintf(text, 160, "{\"token\":\"%s\"}", secret);
        break;
    case 5: a->method = "GET", a->path = "/tokens/validate", a->token = secret; break;
    default: a->method = "PUT", a->path = "/service-accounts/sa-1", a->body = "{"; break;
    }
}

static void
everybody_in_a_crowd_is_answered_once(void **state)
{
    (void)state;
    const struct core_options wide = { .loops = 3, .workers = 3, .queue_max = 40 };
    core_close(&core);
    core_open(&core, &wide);
    static struct ask asks[CROWD];
    static char texts[CROWD][160];
    char secret[64];
    assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
    assert_int_equal(core_mint(&core, CORE_ANN, "sa-1", "t-1", "null", secret), 201);
    for (size_t i = 0; i < CROWD; i++) {
        fill_crowd(&asks[i], i, texts[i], secret);
        core_post(&core, &asks[i]);
    }
    for (size_t i = 0; i < CROWD; i++)
        core_wait(&core, &asks[i]);
    core_http(&core, CORE_ANN, "GET", "/whoami", NULL);
    for (size_t i = 0; i < CROWD; i++) {
        assert_int_equal(asks[i].answers, 1); /* still */
        assert_true(asks[i].status != 500);
        ask_done(&asks[i]);
    }
}

/* Of those who want the same slug at the same time one gets it. */
static void
of_equal_wishes_one_is_granted(void **state)
{
    (void)state;
    static struct ask asks[40];
    size_t granted = 0;
    pthread_mutex_lock(&core.disk->gate);
    for (size_t i = 0; i < CORE_COUNT(asks); i++) {
        asks[i] = (struct ask){ .token = CORE_ANN, .method = "POST", .path = "/service-accounts",
                                .body = "{\"name\":\"n\",\"slug\":\"one\"}" };
        core_post(&core, &asks[i]);
    }
    pthread_mutex_unlock(&core.disk->gate);
    for (size_t i = 0; i < CORE_COUNT(asks); i++) {
        core_wait(&core, &asks[i]);
        granted += asks[i].status == 201;
        if (asks[i].status != 201)
            assert_string_equal(asks[i].code, "CreateServiceAccount.SlugConflict");
        ask_done(&asks[i]);
    }
    assert_int_equal(granted, 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_full_queue_is_said_at_once),
        TEST(who_has_waited_too_long_is_not_served),
        TEST(a_conflict_does_not_outlive_its_deadline),
        TEST(a_stopped_committer_is_said),
        TEST(a_stopped_pool_is_said),
        TEST(everybody_in_a_crowd_is_answered_once),
        TEST(of_equal_wishes_one_is_granted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
