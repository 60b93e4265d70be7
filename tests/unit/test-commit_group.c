/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What becomes of each batch of a group, and of the operation behind it. */
#include "config.h"

#include "tests/unit/core-ask.h"
#include "tests/unit/commit.h"

static void
of_one_group_each_has_its_own_fate(void **state)
{
    (void)state;
    const struct refusal taken = { KT_CONFLICT, "Test.Taken", "it is taken",
                                    { NULL, 0 }, NULL };
    pthread_mutex_lock(&core.disk->gate);
    propose_row(&works[0]);
    committer_push(committer, &works[0].rq); /* keeps the committer busy */
    for (size_t i = 1; i < 60; i++) {
        struct work *w = &works[i];
        const struct kt_str key = i % 3 == 0 ? KT_LIT("aclaim") : key_of(w, 'c');
        batch_if_absent(w->rq.batch, key, taken);
        batch_set(w->rq.batch, key, KT_LIT("mine"));
        propose_token(w);
        committer_push(committer, &w->rq);
    }
    pthread_mutex_unlock(&core.disk->gate);
    assert_true(wait_for(60));
    for (size_t i = 1; i < 60; i++) {
        bool loses = i % 3 == 0 && i != 3; /* the first of them wins */
        assert_int_equal(works[i].done, 1);
        assert_int_equal(works[i].rq.call.err.kind, loses ? KT_CONFLICT : KT_OK);
        assert_int_equal(works[i].when_done, loses ? INDEX_UNKNOWN : INDEX_LIVE);
        if (loses)
            assert_string_equal(works[i].rq.call.err.code, "Test.Taken");
    }
}

/* --- fates -------------------------------------------------------------------------------- */

static void
statuses_become_answers(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        int apply, batch;
        enum kt_kind kind;
        const char *code;
    } cases[] = {
        { "done", KAITEN_DONE, KAITEN_DONE, KT_OK, NULL },
        { "a batch says again", KAITEN_DONE, KAITEN_RETRY, KT_UNAVAILABLE, NULL },
        { "a batch says full", KAITEN_DONE, KAITEN_FULL, KT_UNAVAILABLE, "Storage.Full" },
        { "a batch says unknown", KAITEN_DONE, KAITEN_UNKNOWN, KT_UNAVAILABLE,
          "Storage.Unknown" },
        { "a batch says failed", KAITEN_DONE, KAITEN_FAILED, KT_INTERNAL, NULL },
        { "a batch says corrupt", KAITEN_DONE, KAITEN_CORRUPT, KT_INTERNAL, NULL },
        { "a batch says unsupported", KAITEN_DONE, KAITEN_UNSUPPORTED, KT_INTERNAL, NULL },
        { "a batch says nonsense", KAITEN_DONE, 4711, KT_INTERNAL, NULL },
        { "all say again", KAITEN_RETRY, KAITEN_DONE, KT_UNAVAILABLE, NULL },
        { "all say full", KAITEN_FULL, KAITEN_DONE, KT_UNAVAILABLE, "Storage.Full" },
        { "all say unknown", KAITEN_UNKNOWN, KAITEN_DONE, KT_UNAVAILABLE, "Storage.Unknown" },
        { "all say failed", KAITEN_FAILED, KAITEN_DONE, KT_INTERNAL, NULL },
        { "all say corrupt", KAITEN_CORRUPT, KAITEN_DONE, KT_INTERNAL, NULL },
        { "all say nonsense", 4711, KAITEN_DONE, KT_INTERNAL, NULL },
        /* A condition belongs to a batch: of all of them it says nothing. */
        { "all say conflict", KAITEN_CONFLICT, KAITEN_DONE, KT_INTERNAL, NULL },
    };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        struct work *w = &works[i];
        propose_token(w);
        disk_fail(core.disk, cases[i].apply, cases[i].batch, 0, 1);
        commit(w);
        const struct kt_error *err = &w->rq.call.err;
        if (err->kind != cases[i].kind || w->done != 1)
            fail_msg("%s: kind %d, done %u", cases[i].what, (int)err->kind, w->done);
        enum index_verdict wanted = cases[i].kind == KT_OK ? INDEX_LIVE : INDEX_UNKNOWN;
        if (w->when_done != wanted)
            fail_msg("%s: the index says %d", cases[i].what, (int)w->when_done);
        assert_int_equal(err->code != NULL, cases[i].code != NULL);
        if (cases[i].code)
            assert_string_equal(err->code, cases[i].code);
        if (err->kind == KT_OK)
            continue;
        assert_int_equal(strlen(err->id), 36);
        assert_null(memmem(err->detail.p, err->detail.n, "told", 4));
    }
}

static void
a_conflict_is_answered_in_the_words_of_its_condition(void **state)
{
    (void)state;
    struct work *w = &works[0];
    static const char *const codes[] = { "Test.Slug", "Test.Name", "Test.Third" };
    for (size_t i = 0; i < 3; i++) {
        w = &works[i];
        propose_token(w);
        batch_if_absent(w->rq.batch, KT_LIT("c1"),
                        (struct refusal){ KT_CONFLICT, codes[0], "the slug ",
                                          KT_LIT("100%s"), " is" });
        batch_if_absent(w->rq.batch, KT_LIT("c2"),
                        (struct refusal){ KT_UNPROCESSABLE, codes[1], "the name",
                                          { NULL, 0 }, NULL });
        batch_if_absent(w->rq.batch, KT_LIT("c3"),
                        (struct refusal){ KT_FORBIDDEN, codes[2], "the third",
                                          { NULL, 0 }, NULL });
        disk_fail(core.disk, KAITEN_DONE, KAITEN_CONFLICT, i, 1);
        commit(w);
        assert_int_equal(w->done, 1);
        assert_string_equal(w->rq.call.err.code, codes[i]);
        assert_int_equal(w->when_done, INDEX_UNKNOWN);
        assert_string_equal(w->rq.call.err.id, "");
    }
    assert_int_equal(works[0].rq.call.err.kind, KT_CONFLICT);
    assert_true(kt_str_is(works[0].rq.call.err.detail, "the slug 100%s is"));
    assert_int_equal(works[1].rq.call.err.kind, KT_UNPROCESSABLE);
    assert_int_equal(works[2].rq.call.err.kind, KT_FORBIDDEN);
}

static void
a_condition_that_is_not_there_is_our_fault(void **state)
{
    (void)state;
    struct work *w = &works[0];
    batch_if_absent(w->rq.batch, KT_LIT("c1"), (struct refusal){ .kind = KT_OK });
    propose_token(w);
    disk_fail(core.disk, KAITEN_DONE, KAITEN_CONFLICT, 1, 1);
    commit(w);
    assert_int_equal(w->done, 1);
    assert_int_equal(w->again, 0);
    assert_int_equal(w->rq.call.err.kind, KT_INTERNAL);
}

static void
a_changed_world_runs_again(void **state)
{
    (void)state;
    struct work *w = &works[0];
    struct store_row row = { .key = KT_LIT("anowhere"), .revision = 7 };
    batch_if_at(w->rq.batch, &row);
    propose_token(w);
    commit(w);
    assert_int_equal(w->again, 1);
    assert_int_equal(w->done, 0);
    assert_int_equal(w->rq.call.err.kind, KT_OK);
    assert_int_equal(index_find(core.svc.index, w->digest, 1, NULL), INDEX_UNKNOWN);
}

static void
revocations_are_marked_urgent(void **state)
{
    (void)state;
    propose_token(&works[0]);
    commit(&works[0]);
    assert_int_equal(atomic_load(&core.disk->urgent), 0);
    propose_end(&works[1], EFFECT_REVOKE, &works[0], 0);
    commit(&works[1]);
    assert_int_equal(atomic_load(&core.disk->urgent), 1);
}

/* --- through the pipeline ----------------------------------------------------------------- */

static void
which_operations_are_urgent(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *body;
        int status;
        size_t urgent;
    } cases[] = {
        { "POST", "/service-accounts", "{\"name\":\"x\",\"slug\":\"sa-1\"}", 201, 0 },
        { "POST", "/service-accounts/sa-1/tokens",
          "{\"name\":\"t\",\"slug\":\"t-1\",\"scopes\":null}", 201, 0 },
        { "PUT", "/service-accounts/sa-1", "{\"name\":\"y\"}", 204, 0 },
        { "POST", "/service-accounts/sa-1/tokens/t-1/rotate", "{\"gracePeriodSeconds\":5}", 200,
          1 },
        { "POST", "/service-accounts/sa-1/tokens/t-1/rotate", NULL, 200, 1 },
        { "DELETE", "/service-accounts/sa-1/tokens/t-1", NULL, 204, 1 },
        { "POST", "/service-accounts/sa-1/tokens/revoke", NULL, 200, 1 },
        { "DELETE", "/service-accounts/sa-1", NULL, 204, 1 },
    };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        atomic_store(&core.disk->urgent, 0);
        assert_int_equal(core_http(&core, CORE_ANN, cases[i].method, cases[i].path,
                                   cases[i].body),
                         cases[i].status);
        assert_int_equal(atomic_load(&core.disk->urgent), cases[i].urgent);
    }
}

static void
an_operation_runs_again_at_most_five_times(void **state)
{
    (void)state;
    static const struct {
        int conflicts;
        size_t failed;
        const char *slug;
        int status;
        unsigned attempts;
        const char *code;
    } cases[] = {
        { 0, 0, "tok-0", 201, 0, "" },
        { 1, 0, "tok-1", 201, 1, "" },
        { 5, 0, "tok-2", 201, 5, "" },
        { 6, 0, "tok-3", 503, 6, "Server.Busy" },
        { -1, 0, "tok-4", 503, 6, "Server.Busy" },
        { 1, 1, "tok-5", 409, 0, "CreateToken.SlugConflict" },
        { 1, 2, "tok-6", 409, 0, "CreateToken.Conflict" },
        { 3, 1, NULL, 201, 3, "" }, /* a derived slug is drawn again */
        { 1, 2, NULL, 409, 0, "CreateToken.Conflict" },
    };
    assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        char body[128], slug[64] = "";
        if (cases[i].slug)
            snprintf(slug, sizeof slug, "\"slug\":\"%s\",", cases[i].slug);
        snprintf(body, sizeof body, "{%s\"name\":\"n%zu\",\"scopes\":null}", slug, i);
        struct ask a = { .token = CORE_ANN, .method = "POST",
                         .path = "/service-accounts/sa-1/tokens", .body = body };
        size_t secrets = kt_secret_count();
        disk_fail(core.disk, KAITEN_DONE, KAITEN_CONFLICT, cases[i].failed, cases[i].conflicts);
        int status = core_ask(&core, &a);
        disk_mend(core.disk);
        assert_int_equal(status, cases[i].status);
        assert_int_equal(a.attempts, cases[i].attempts);
        assert_string_equal(a.code, cases[i].code);
        assert_int_equal(a.secret[0] != '\0', status == 201);
        assert_int_equal(kt_secret_count(), secrets);
        if (status == 201)
            assert_int_equal(core_judge(&core, a.secret), TOKEN_LIVE);
        ask_done(&a);
    }
}

/* Somebody else deletes the account between the look and the write: on the committer, below the
 * store, whose lock is held. */
static void
write_two(struct disk *disk)
{
    const struct batch *b = disk->ctx;
    const struct kaiten_batch two = { .writes = b->writes, .nwrites = 2 };
    struct kaiten_outcome outcome;
    disk->before_apply = NULL;
    core_must(kaiten_storage_plugin.apply(disk->memory, &two, 1, &outcome, NULL) == 0);
}

static void
plan_deletion(struct kt_arena *memory)
{
    struct call call;
    struct account_record a;
    struct store_row row;
    struct batch *b;
    core_call(&core, memory, &call);
    call.who = core.socket.who;
    assert_int_equal(account_load(&call, &call.who->org, KT_LIT("sa-1"), &a, &row), KT_OK);
    assert_int_equal(account_propose_delete(&call, &a, &row, &b), KT_OK);
    assert_int_equal(b->writes[0].type, KAITEN_DELETE);
    assert_int_equal(b->writes[1].type, KAITEN_DELETE);
    core.disk->ctx = b;
    core.disk->before_apply = write_two;
}

static void
the_second_run_sees_the_changed_world(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *body, *code;
    } cases[] = {
        { "POST", "/service-accounts/sa-1/tokens", "{\"name\":\"n\",\"scopes\":null}",
          "CreateToken.ServiceAccountNotFound" },
        { "PUT", "/service-accounts/sa-1", "{\"name\":\"n\"}", "ServiceAccount.NotFound" },
        { "DELETE", "/service-accounts/sa-1", NULL, "ServiceAccount.NotFound" },
        { "POST", "/service-accounts/sa-1/tokens/t-1/rotate", NULL, "Token.NotFound" },
        { "POST", "/service-accounts/sa-1/tokens/revoke", NULL, "ServiceAccount.NotFound" },
        { "DELETE", "/service-accounts/sa-1/tokens/t-1", NULL, "Token.NotFound" },
    };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        char secret[64];
        assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
        assert_int_equal(core_mint(&core, CORE_ANN, "sa-1", "t-1", "null", secret), 201);
        struct kt_arena memory;
        plan_deletion(&memory);
        struct ask a = { .token = CORE_ANN, .method = cases[i].method, .path = cases[i].path,
                         .body = cases[i].body };
        assert_int_equal(core_ask(&core, &a), 404);
        assert_string_equal(a.code, cases[i].code);
        assert_int_equal(a.attempts, 1);
        assert_string_equal(a.secret, "");
        ask_done(&a);
        kt_arena_done(&memory);
    }
}

/* The same with all tokens of the account being revoked. */
static void
plan_end_of_epoch(struct kt_arena *memory)
{
    struct call call;
    struct account_record a;
    struct store_row row;
    struct account_end end;
    struct batch *b;
    core_call(&core, memory, &call);
    call.who = core.socket.who;
    assert_int_equal(account_load(&call, &call.who->org, KT_LIT("sa-1"), &a, &row), KT_OK);
    assert_int_equal(account_propose_end_epoch(&call, &a, &row, &b, &end), KT_OK);
    assert_true(store_seal(core.svc.store, b));
    core.disk->ctx = b;
    core.disk->before_apply = write_two;
}

/* If a revocation went through, it would free a name that is another token's by then. */
static void
what_runs_beside_the_end_of_an_epoch_comes_after_it(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *body;
        int status;
    } cases[] = {
        { "DELETE", "/service-accounts/sa-1/tokens/t-1", NULL, 404 },
        { "POST", "/service-accounts/sa-1/tokens/t-1/rotate", NULL, 404 },
        { "POST", "/service-accounts/sa-1/tokens", "{\"name\":\"t-1\",\"scopes\":null}", 201 },
        { "POST", "/service-accounts/sa-1/tokens/revoke", NULL, 200 },
        { "PUT", "/service-accounts/sa-1", "{\"name\":\"n\"}", 204 },
    };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        char secret[64];
        teardown(state);
        assert_int_equal(setup(state), 0);
        assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
        assert_int_equal(core_mint(&core, CORE_ANN, "sa-1", "t-1", "null", secret), 201);
        struct kt_arena memory;
        plan_end_of_epoch(&memory);
        struct ask a = { .token = CORE_ANN, .method = cases[i].method, .path = cases[i].path,
                         .body = cases[i].body };
        assert_int_equal(core_ask(&core, &a), cases[i].status);
        assert_int_equal(a.attempts, 1);
        if (a.secret[0])
            assert_int_equal(core_judge(&core, a.secret), TOKEN_LIVE);
        ask_done(&a);
        /* Nothing took the end back. */
        assert_int_equal(core_http(&core, CORE_ANN, "DELETE", "/service-accounts/sa-1/tokens/t-1",
                                   NULL), 404);
        kt_arena_done(&memory);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(of_one_group_each_has_its_own_fate, setup, teardown),
        cmocka_unit_test_setup_teardown(statuses_become_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(a_conflict_is_answered_in_the_words_of_its_condition, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_condition_that_is_not_there_is_our_fault, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_changed_world_runs_again, setup, teardown),
        cmocka_unit_test_setup_teardown(revocations_are_marked_urgent, setup, teardown),
        cmocka_unit_test_setup_teardown(which_operations_are_urgent, setup, teardown),
        cmocka_unit_test_setup_teardown(an_operation_runs_again_at_most_five_times, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_second_run_sees_the_changed_world, setup, teardown),
        cmocka_unit_test_setup_teardown(what_runs_beside_the_end_of_an_epoch_comes_after_it, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
