/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Accounts that are known: minting for them asks the store for nothing, and nothing else changes. */
#include "config.h"

#include "tests/unit/pipeline-core.h"

static int
mint(struct ask *a, const char *slug)
{
    static char body[128];
    snprintf(body, sizeof body, "{\"name\":\"%s\",\"scopes\":null}", slug);
    *a = (struct ask){ .token = CORE_ANN, .method = "POST", .path = TOKENS, .body = body };
    int status = core_ask(&core, a);
    ask_done(a);
    return status;
}

static void
minting_for_a_known_account_asks_the_store_for_nothing(void **state)
{
    (void)state;
    struct ask a;
    assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
    assert_int_equal(mint(&a, "first"), 201);
    size_t gets = atomic_load(&core.disk->gets);
    assert_int_equal(mint(&a, "second"), 201);
    assert_true(a.decoded_at_home);
    assert_int_equal(core_judge(&core, a.secret), TOKEN_LIVE);
    assert_int_equal(atomic_load(&core.disk->gets), gets);
    assert_int_equal(mint(&a, "second"), 409); /* the rules hold all the same */
    workers_stop(core.svc.workers);
    assert_int_equal(mint(&a, "third"), 201);
}

static void
what_takes_long_is_not_tried_on_the_loop(void **state)
{
    (void)state;
    static char body[8192];
    struct ask a;
    assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
    assert_int_equal(mint(&a, "first"), 201);
    a = (struct ask){ .token = CORE_ANN, .method = "POST", .path = TOKENS, .key = "key",
                      .body = "{\"name\":\"n\",\"scopes\":null}" };
    assert_int_equal(core_ask(&core, &a), 201);
    assert_false(a.decoded_at_home);
    ask_done(&a);
    snprintf(body, sizeof body, "{\"name\":\"m\",\"scopes\":null%*s}", 5000, "");
    a = (struct ask){ .token = CORE_ANN, .method = "POST", .path = TOKENS, .body = body };
    assert_int_equal(core_ask(&core, &a), 201);
    assert_false(a.decoded_at_home);
    ask_done(&a);
}

/* What is known of an account may be out of date: that costs another look, and changes nothing of
 * what is answered. */
static void
a_known_account_that_has_changed_is_looked_at_again(void **state)
{
    (void)state;
    struct ask a;
    char dead[64];
    static const char *const changes[][3] = {
        { "PUT", "/service-accounts/sa-1", "{\"name\":\"other\"}" },
        { "POST", TOKENS "/revoke", NULL },
    };
    assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
    assert_int_equal(core_mint(&core, CORE_ANN, "sa-1", "t-1", "null", dead), 201);
    for (size_t i = 0; i < CORE_COUNT(changes); i++) {
        int status = core_http(&core, CORE_ANN, changes[i][0], changes[i][1], changes[i][2]);
        assert_true(status >= 200 && status < 300);
        assert_int_equal(mint(&a, i ? "t-1" : "once more"), 201); /* of the dead t-1, too */
        assert_int_equal(a.attempts, 1);
        assert_int_equal(core_judge(&core, a.secret), TOKEN_LIVE);
    }
    assert_int_equal(core_judge(&core, dead), TOKEN_REVOKED);
    assert_int_equal(core_http(&core, CORE_ANN, "DELETE", "/service-accounts/sa-1", NULL), 204);
    assert_int_equal(mint(&a, "late"), 404);
    assert_string_equal(a.code, "CreateToken.ServiceAccountNotFound");
    assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
    assert_int_equal(mint(&a, "again"), 201);
    assert_int_equal(core_judge(&core, a.secret), TOKEN_LIVE);
}

/* Of accounts that share a place the oldest makes room, and long ones are not kept. */
static void
no_more_accounts_are_known_than_there_is_room_for(void **state)
{
    (void)state;
    static char text[ACCOUNT_CACHE_ROW_MAX], slug[16];
    struct account_cache *cache = account_cache_new();
    struct store_row row = { .key = KT_LIT("a key"), .value = KT_LIT("a value"), .revision = 7 };
    struct store_row got;
    const struct uuid one = { { 1 } }, two = { { 2 } };
    size_t known = 0;
    for (int i = 0; i < 3 * ACCOUNT_CACHE_MAX; i++) {
        snprintf(slug, sizeof slug, "sa-%d", i);
        account_cache_put(cache, &one, kt_str(slug), &row);
        assert_true(account_cache_get(cache, &arena, &one, kt_str(slug), &got));
    }
    for (int i = 0; i < 3 * ACCOUNT_CACHE_MAX; i++) {
        snprintf(slug, sizeof slug, "sa-%d", i);
        known += account_cache_get(cache, &arena, &one, kt_str(slug), &got);
    }
    assert_in_range(known, ACCOUNT_CACHE_MAX / 2, ACCOUNT_CACHE_MAX);
    assert_true(kt_str_is(got.key, "a key") && kt_str_is(got.value, "a value"));
    assert_int_equal(got.revision, 7);
    assert_false(account_cache_get(cache, &arena, &two, kt_str(slug), &got));
    row.value = (struct kt_str){ text, sizeof text };
    account_cache_put(cache, &one, kt_str(slug), &row); /* and the older row is not kept either */
    assert_false(account_cache_get(cache, &arena, &one, kt_str(slug), &got));
    account_cache_free(cache);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(minting_for_a_known_account_asks_the_store_for_nothing),
        TEST(what_takes_long_is_not_tried_on_the_loop),
        TEST(a_known_account_that_has_changed_is_looked_at_again),
        TEST(no_more_accounts_are_known_than_there_is_room_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
