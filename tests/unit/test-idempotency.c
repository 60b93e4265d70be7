/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Answers that are kept for an idempotency key: for how long, and who can open them. */
#include "config.h"

#include "tests/unit/pipeline-core.h"

static const char token[] = "{\"name\":\"n\",\"slug\":\"t-1\",\"scopes\":null}";

/* Asks with the key at this instant, and says how often the store was changed for it. */
static size_t
ask_at(struct ask *a, const char *path, const char *body, int64_t now_ms)
{
    size_t applies = atomic_load(&core.disk->applies);
    *a = (struct ask){ .token = CORE_ANN, .method = "POST", .path = path, .body = body,
                       .key = "key", .now_ms = now_ms };
    core_ask(&core, a);
    return atomic_load(&core.disk->applies) - applies;
}

static size_t
make_at(struct ask *a, int64_t now_ms)
{
    return ask_at(a, "/service-accounts", "{\"name\":\"Once\"}", now_ms);
}

static void
is_told_again(const struct ask *first, int64_t now_ms)
{
    struct ask again;
    assert_int_equal(make_at(&again, now_ms), 0);
    assert_int_equal(again.status, 201);
    assert_string_equal(ask_json(&again), ask_json(first));
    ask_done(&again);
}

static void
an_answer_is_kept_for_ten_minutes(void **state)
{
    (void)state;
    const int64_t kept = 10 * 60 * 1000, now = clock_wall_ms();
    struct ask first, second, third;
    assert_int_equal(make_at(&first, now), 1);
    assert_int_equal(first.status, 201);
    is_told_again(&first, now);
    is_told_again(&first, now - 1); /* by a daemon whose clock is a little behind */
    is_told_again(&first, now + kept - 1);
    assert_int_equal(make_at(&second, now + kept), 1);
    assert_int_equal(second.status, 201);
    assert_string_not_equal(ask_json(&second), ask_json(&first));
    /* Its answer has taken the place of the first, with a time of its own. */
    is_told_again(&second, now + kept + kept - 1);
    assert_int_equal(make_at(&third, now + 2 * kept + 1), 1);
    assert_int_equal(third.status, 201);
    assert_string_not_equal(ask_json(&third), ask_json(&second));
    ask_done(&first);
    ask_done(&second);
    ask_done(&third);
}

static void
nor_is_a_secret_had_any_longer(void **state)
{
    (void)state;
    const int64_t now = clock_wall_ms();
    struct ask first, again;
    assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
    assert_int_equal(ask_at(&first, TOKENS, token, now), 1);
    assert_int_equal(first.status, 201);
    assert_int_equal(strlen(first.secret), 36);
    assert_int_equal(ask_at(&again, TOKENS, token, now + IDEMPOTENCY_KEPT_MS - 1), 0);
    assert_int_equal(again.status, 201);
    assert_string_equal(again.secret, first.secret);
    ask_done(&again);
    (void)ask_at(&again, TOKENS, token, now + IDEMPOTENCY_KEPT_MS);
    assert_int_equal(again.status, 409);
    assert_string_equal(again.secret, "");
    ask_done(&again);
    ask_done(&first);
}

static void
put_in_force(struct digest_keys *keys)
{
    store_set_keys(core.svc.store, keys);
    core.svc.keys = keys;
}

/* Neither an answer that is not the first, nor a second token. */
static void
is_refused(void)
{
    struct ask a;
    assert_int_equal(ask_at(&a, TOKENS, token, 0), 0);
    assert_int_equal(a.status, 500);
    assert_string_equal(a.code, "INTERNAL");
    assert_string_equal(a.secret, "");
    assert_int_equal(strlen(a.id), 36);
    ask_done(&a);
}

static void
is_given(const char *secret)
{
    struct ask a;
    assert_int_equal(ask_at(&a, TOKENS, token, 0), 0);
    assert_int_equal(a.status, 201);
    assert_string_equal(a.secret, secret);
    ask_done(&a);
}

static void
without_its_key_an_answer_is_neither_given_nor_made_anew(void **state)
{
    (void)state;
    struct digest_keys *old = core.svc.keys, *both, *fresh;
    struct digest_error why;
    struct ask first;
    assert_int_equal(core_make_account(&core, CORE_ANN, "sa-1"), 201);
    assert_int_equal(ask_at(&first, TOKENS, token, 0), 1);
    assert_true(digest_keys_rotate(core.key_path, old, &both, &why));
    put_in_force(both);
    is_given(first.secret);
    assert_true(digest_keys_retire(core.key_path, both, 1, &fresh, &why));
    put_in_force(fresh);
    is_refused();
    /* The row can be read, and what is sealed inside it cannot be opened. */
    store_set_keys(core.svc.store, both);
    is_refused();
    put_in_force(both);
    is_given(first.secret);
    ask_done(&first);
    digest_keys_free(old);
    digest_keys_free(fresh);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_is_kept_for_ten_minutes),
        TEST(nor_is_a_secret_had_any_longer),
        TEST(without_its_key_an_answer_is_neither_given_nor_made_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
