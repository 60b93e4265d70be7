/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Signed forms of tokens are kept and used again. */
#include "config.h"

#include "tests/unit/one-core.h"

/* A signature takes as long as answering several requests: those of ten thousand tokens that come in
 * turns do not throw each other out. */
static void
signed_forms_of_many_tokens_are_used_again(void **state)
{
    (void)state;
    enum { TOKENS_MANY = 10000 };
    static const struct index_account_text text = { KT_LIT("acme"), KT_LIT("sa-1"),
                                                    KT_LIT("ksa_1"), KT_LIT("n") };
    static const struct index_scopes scopes = { .json = KT_LIT("[]") };
    static const char *first[TOKENS_MANY];
    const int64_t now = clock_wall_ms();
    size_t again = 0;
    for (uint32_t i = 0; i < 2 * TOKENS_MANY; i++) {
        struct index_record record = { .expires_ms = 0 };
        const struct index_hit hit = { &record, NULL, &text, &scopes };
        uint32_t n = i % TOKENS_MANY;
        crypto_generichash(record.digest, sizeof record.digest, (unsigned char *)&n, sizeof n,
                           NULL, 0);
        const char *jwt = signer_jwt(core.svc.signer, &hit, now).p;
        assert_non_null(jwt);
        again += i >= TOKENS_MANY && jwt == first[n];
        first[n] = jwt;
    }
    assert_true(again > TOKENS_MANY * 98 / 100);
}

/* Whoever may mint tokens with hundreds of scopes has no megabytes of a thread's memory for it. */
static void
a_long_form_is_signed_each_time_and_takes_no_place(void **state)
{
    (void)state;
    static const struct index_account_text text = { KT_LIT("acme"), KT_LIT("sa-1"),
                                                    KT_LIT("ksa_1"), KT_LIT("n") };
    char many[2 * 1024];
    memset(many, ' ', sizeof many);
    many[0] = '[';
    many[sizeof many - 1] = ']';
    const struct index_scopes few = { .json = KT_LIT("[]") };
    const struct index_scopes all = { .json = { many, sizeof many } };
    struct index_record records[2] = { { .expires_ms = 0 }, { .expires_ms = 0 } };
    const struct index_hit one = { &records[0], NULL, &text, &few };
    const struct index_hit large = { &records[1], NULL, &text, &all };
    const int64_t now = clock_wall_ms();
    records[0].digest[0] = 1; /* of the same set as the other */
    records[0].digest[8] = 1;
    records[1].digest[0] = 1;
    const char *kept = signer_jwt(core.svc.signer, &one, now).p;
    char last[64] = "";
    for (size_t i = 0; i < 20; i++) {
        const struct kt_str jwt = signer_jwt(core.svc.signer, &large, now);
        assert_in_range(jwt.n, sizeof many, 2 * sizeof many);
        assert_memory_not_equal(jwt.p + jwt.n - sizeof last, last, sizeof last);
        memcpy(last, jwt.p + jwt.n - sizeof last, sizeof last);
    }
    assert_ptr_equal(signer_jwt(core.svc.signer, &one, now).p, kept);
}

/* The key that it did not get would be one of somebody else. */
static void
each_thread_has_a_place_for_them_or_there_is_no_signer(void **state)
{
    (void)state;
    enum { MANY = 100000 };
    static pthread_key_t all[MANY];
    const struct signer_options options = { .path = "/nonexistent/signing.key", .issuer = "i",
                                            .audience = "a", .lifetime_ms = 1000 };
    struct signer *s = NULL;
    char err[SIGNER_ERROR_MAX];
    size_t n = 0;
    while (n < MANY && pthread_key_create(&all[n], NULL) == 0)
        n++;
    bool opened = signer_open(&options, &s, err);
    while (n > 0)
        pthread_key_delete(all[--n]);
    assert_false(opened);
    assert_non_null(strstr(err, "no key is left"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(signed_forms_of_many_tokens_are_used_again),
        TEST(a_long_form_is_signed_each_time_and_takes_no_place),
        TEST(each_thread_has_a_place_for_them_or_there_is_no_signer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
