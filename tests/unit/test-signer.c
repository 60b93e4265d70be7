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
        TEST(each_thread_has_a_place_for_them_or_there_is_no_signer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
