/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Keys and signatures while memory runs out, at every call of ours, of cJSON and of OpenSSL: no
 * memory is not a wrong signature, and what could not be read whole is not there at all. */
#include "config.h"

#include "tests/unit/auth-host.h"
#include "tests/unit/auth-sign.h"
#include "tests/unit/memory.h"

#include "plugins/auth-jwt/jws.h"
#include "plugins/auth-jwt/key.h"

#include <cjson/cJSON.h>
#include <openssl/crypto.h>
#include <openssl/x509.h>

enum { STEP = 17 };

/* --- what the libraries take ---------------------------------------------------------------- */

static void *
scarce_malloc(size_t n)
{
    return malloc(n); /* the one that runs out */
}

static void *
openssl_malloc(size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return n ? malloc(n) : NULL;
}

static void *
openssl_realloc(void *p, size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    if (n)
        return realloc(p, n);
    free(p);
    return NULL;
}

static void
openssl_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    free(p);
}

/* --- keys to read --------------------------------------------------------------------------- */

static char *
certificate_pem(EVP_PKEY *pkey)
{
    char *p = NULL;
    X509 *cert = X509_new();
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    assert_int_equal(X509_set_pubkey(cert, pkey), 1);
    assert_true(X509_sign(cert, pkey, EVP_sha256()) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(bio, cert), 1);
    long n = BIO_get_mem_data(bio, &p);
    char *copy = strndup(p, (size_t)n);
    BIO_free(bio);
    X509_free(cert);
    return copy;
}

/* The text of a key file; free() it. */
static char *
text_of(const struct signer *s, bool certificate)
{
    return !s->pkey ? strndup(s->secret, s->nsecret)
        : certificate ? certificate_pem(s->pkey)
                      : public_pem(s->pkey);
}

static bool
add_text(struct key_set *set, const char *alg, const char *text, const char *kid,
         struct key_why *why)
{
    struct keyfile file = { .p = (char *)(uintptr_t)text, .n = strlen(text), .mode = 0600 };
    return key_set_add_text(set, &file, key_alg_find(alg, strlen(alg)), kid, 0, why);
}

static const struct {
    const char *alg;
    bool certificate;
} rows[] = {
    { "HS256", false }, { "RS256", false }, { "RS512", true },  { "PS384", false },
    { "ES256", false }, { "ES256", true },  { "ES512", false }, { "EdDSA", false },
};

/* Its first use of anything is OpenSSL's to remember: it is fetched while there is memory. */
static void
warm(const char *alg, const char *text)
{
    struct key_set set = { 0 };
    struct key_why why = { "" };
    if (!add_text(&set, alg, text, "k", &why))
        fail_msg("%s: %s", alg, why.text);
    key_set_done(&set);
}

static void
a_key_is_read_whole_or_not_at_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct signer s = signer_of(rows[i].alg);
        char *text = text_of(&s, rows[i].certificate);
        warm(s.alg, text);
        size_t failures = 0;
        /* Decoding asks thousands of times: each of the first, then some. */
        for (bool ended = true; ended; failures += failures < 40 ? 1 : STEP) {
            struct key_set set = { 0 };
            struct key_why why = { "" };
            memory_end_after(failures);
            bool good = add_text(&set, s.alg, text, "k", &why);
            ended = memory_ended();
            assert_true(good || (ended && why.text[0]));
            assert_int_equal(set.n, good ? 1 : 0);
            key_set_done(&set);
        }
        assert_true(failures >= 3);
        free(text);
    }
}

/* A set takes all of another one or stays as it was. */
static void
sets_are_joined_whole_or_not_at_all(void **state)
{
    (void)state;
    struct key_set more = { 0 };
    struct key_why why = { "" };
    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct signer s = signer_of(rows[i].alg);
        char *text = text_of(&s, rows[i].certificate), kid[] = { (char)('a' + i), '\0' };
        assert_true(add_text(&more, s.alg, text, kid, &why));
        free(text);
    }
    size_t failures = 0;
    for (bool ended = true; ended; failures += ended) {
        struct key_set set = { 0 };
        memory_end_after(failures);
        bool good = key_set_merge(&set, &more, &why);
        ended = memory_ended();
        assert_true(good || ended);
        assert_int_equal(set.n, good ? more.n : 0);
        key_set_done(&set);
    }
    assert_true(failures > COUNT(rows));
    assert_true(key_set_merge(&more, &(struct key_set){ 0 }, &why));
    struct key_set again = { 0 };
    assert_true(key_set_merge(&again, &more, &why));
    assert_false(key_set_merge(&again, &more, &why));
    assert_non_null(strstr(why.text, "stands twice"));
    assert_int_equal(again.n, more.n);
    key_set_done(&again);
    key_set_done(&more);
}

/* --- signatures ----------------------------------------------------------------------------- */

static enum jws_outcome
judge(const struct key_set *set, const char *token, const char **why)
{
    struct jws jws;
    enum jws_outcome outcome = jws_parse(token, strlen(token), &jws, why);
    return outcome == JWS_GOOD ? jws_verify(&jws, set, why) : outcome;
}

/* Judged with ever more memory until there is enough: a good token is good or cannot be judged, a
 * bad one is refused or cannot be judged. */
static void
judge_short_of_memory(const struct key_set *set, const char *token, enum jws_outcome outcome,
                      const char *alg)
{
    const char *why = NULL;
    assert_int_equal(judge(set, token, &why), outcome);
    size_t failures = 0;
    for (bool ended = true; ended; failures += ended) {
        memory_end_after(failures);
        enum jws_outcome found = judge(set, token, &why);
        ended = memory_ended();
        if (found != outcome && !(ended && found == JWS_BROKEN))
            fail_msg("%s: after %zu calls: %d, %s", alg, failures, (int)found, why ? why : "-");
    }
    assert_true(failures > 2);
}

static void
no_memory_is_no_wrong_signature(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char header[64];
        struct key_set set = { 0 };
        struct key_why why = { "" };
        const struct signer s = signer_of(rows[i].alg);
        char *text = text_of(&s, rows[i].certificate);
        assert_true(add_text(&set, s.alg, text, NULL, &why));
        (void)snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"typ\":\"JWT\"}", s.alg);
        char *token = mint(&s, header, "{\"any\":\"payload\"}");
        judge_short_of_memory(&set, token, JWS_GOOD, s.alg);
        const size_t payload = strcspn(token, ".") + 1;
        token[payload] = token[payload] == 'A' ? 'B' : 'A';
        judge_short_of_memory(&set, token, JWS_REFUSED, s.alg);
        free(token);
        free(text);
        key_set_done(&set);
    }
}

int
main(void)
{
    cJSON_Hooks hooks = { .malloc_fn = scarce_malloc, .free_fn = free };
    cJSON_InitHooks(&hooks);
    if (CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) != 1)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_read_whole_or_not_at_all),
        cmocka_unit_test(sets_are_joined_whole_or_not_at_all),
        cmocka_unit_test(no_memory_is_no_wrong_signature),
    };
    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
