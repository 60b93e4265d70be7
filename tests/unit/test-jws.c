/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Signed tokens: which are good, by which key, and which are not. */
#include "config.h"

#include "plugins/auth-jwt/jwk.h"
#include "tests/unit/corpus.h"
#include "tests/unit/jwt-key.h"

#include <cjson/cJSON.h>

static const char *const cookbook[] = {
    "jws/4_1.rsa_v15_signature.json",
    "jws/4_2.rsa-pss_signature.json",
    "jws/4_3.ecdsa_signature.json",
    "jws/4_4.hmac-sha2_integrity_protection.json",
    "curve25519/jws.json",
};

static void
check_vector(const char *path)
{
    size_t n = 0;
    struct key_set set = { 0 };
    struct key_why why = { "" };
    char *text = corpus_read(path, &n);
    cJSON *json = cJSON_ParseWithLength(text, n);
    cJSON *input = cJSON_GetObjectItem(json, "input");
    cJSON *key = cJSON_GetObjectItem(input, "key");
    const char *alg = cJSON_GetObjectItem(input, "alg")->valuestring;
    char *token = cJSON_GetObjectItem(cJSON_GetObjectItem(json, "output"), "compact")->valuestring;
    cJSON_DeleteItemFromObject(key, "alg");
    cJSON_AddStringToObject(key, "alg", alg);
    char *jwk = cJSON_Print(key);
    if (!jwk_read_file(&set, write_text("vector.json", jwk, 0600), NULL, 0, fake_log, &why))
        fail_msg("%s: %s", path, why.text);
    assert_int_equal(judge(&set, token), JWS_GOOD);
    char *dot = strchr(token, '.');
    dot[1] = dot[1] == 'A' ? 'B' : 'A';
    assert_int_equal(judge(&set, token), JWS_REFUSED);
    key_set_done(&set);
    cJSON_free(jwk);
    cJSON_Delete(json);
    free(text);
}

static void
published_vectors_verify(void **state)
{
    (void)state;
    const char *root = corpus_path("jose-cookbook");
    if (!root)
        skip();
    for (size_t i = 0; i < COUNT(cookbook); i++) {
        char path[2048];
        (void)snprintf(path, sizeof(path), "%s/%s", root, cookbook[i]);
        check_vector(path);
    }
}

static const char *const all_algs[] = { "HS256", "HS384", "HS512", "RS256", "RS384",
                                        "RS512", "PS256", "PS384", "PS512", "ES256",
                                        "ES384", "ES512", "EdDSA" };

static void
every_algorithm_verifies_its_own_and_no_other(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(all_algs); i++) {
        char header[64];
        struct key_set set = { 0 };
        const struct signer s = signer_of(all_algs[i]);
        add(&set, &s, NULL);
        (void)snprintf(header, sizeof(header), "{\"alg\":\"%s\"}", all_algs[i]);
        char *token = mint(&s, header, "{\"any\":\"payload\"}");
        assert_int_equal(judge(&set, token), JWS_GOOD);
        for (size_t k = 0; k < COUNT(all_algs); k++) {
            struct key_set other = { 0 };
            const struct signer o = signer_of(all_algs[k]);
            add(&other, &o, NULL);
            assert_int_equal(judge(&other, token), k == i ? JWS_GOOD : JWS_REFUSED);
            key_set_done(&other);
        }
        free(token);
        key_set_done(&set);
    }
}

static bool
is_good_under(const char *of_key, const char *of_token, EVP_PKEY *pkey)
{
    char header[64];
    struct key_set set = { 0 };
    const struct signer s = { of_key, pkey, NULL, 0 };
    add(&set, &s, NULL);
    (void)snprintf(header, sizeof(header), "{\"alg\":\"%s\"}", of_token);
    char *token = mint(&s, header, "{\"any\":\"payload\"}");
    enum jws_outcome outcome = judge(&set, token);
    free(token);
    key_set_done(&set);
    return outcome == JWS_GOOD;
}

/* RFC 9864: the name of the curve, and the older one for both of them. */
static void
eddsa_has_two_names(void **state)
{
    (void)state;
    EVP_PKEY *const pkeys[] = { keys.ed25519, keys.ed448 };
    static const char *const curves[] = { "Ed25519", "Ed448" };
    for (size_t i = 0; i < 2; i++) {
        const char *own = curves[i], *other = curves[1 - i];
        assert_true(is_good_under("EdDSA", own, pkeys[i]));
        assert_true(is_good_under(own, "EdDSA", pkeys[i]));
        assert_true(is_good_under(own, own, pkeys[i]));
        assert_false(is_good_under("EdDSA", other, pkeys[i]));
        assert_false(is_good_under(own, other, pkeys[i]));
        assert_false(is_good_under(own, "ed25519", pkeys[i]));
        assert_false(is_good_under(own, "ES256", pkeys[i]));
    }
    assert_false(is_good_under("RS256", "Ed25519", keys.rsa));
}

/* Each changed byte and each cut of a good token. */
static void
no_changed_token_passes(void **state)
{
    (void)state;
    for (size_t a = 0; a < COUNT(all_algs); a++) {
        char header[64];
        struct key_set set = { 0 };
        const struct signer s = signer_of(all_algs[a]);
        add(&set, &s, NULL);
        (void)snprintf(header, sizeof(header), "{\"alg\":\"%s\"}", all_algs[a]);
        char *token = mint(&s, header, "{\"a\":1}");
        size_t n = strlen(token);
        for (size_t i = 0; i < n; i += 1 + i / 64) {
            char was = token[i];
            token[i] = was == 'A' ? 'B' : 'A';
            assert_int_not_equal(judge(&set, token), JWS_GOOD);
            token[i] = 0;
            assert_int_not_equal(judge(&set, token), JWS_GOOD);
            token[i] = was;
        }
        assert_int_equal(judge(&set, token), JWS_GOOD);
        for (int more = 1; more <= 4; more++) { /* bytes behind the signature */
            char *longer = NULL;
            assert_true(asprintf(&longer, "%s%.*s", token, more, "AAAA") > 0);
            assert_int_equal(judge(&set, longer), JWS_REFUSED);
            free(longer);
        }
        free(token);
        key_set_done(&set);
    }
}

/* Signed with the key of ES256 or HS256, so that only the form is wrong. */
static const struct {
    const char *header;
    enum jws_outcome want;
} header_rows[] = {
    { "{\"alg\":\"HS256\"}", JWS_GOOD },
    { "{\"alg\":\"HS256\",\"typ\":\"whatever\",\"cty\":\"x\",\"jku\":\"http://evil/\"}", JWS_GOOD },
    { "{\"alg\":\"HS256\",\"jwk\":{\"kty\":\"oct\",\"k\":\"AAAA\"}}", JWS_GOOD },
    { "{\"alg\":\"HS384\"}", JWS_REFUSED },
    { "{\"alg\":\"hs256\"}", JWS_REFUSED },
    { "{\"alg\":\"HS256 \"}", JWS_REFUSED },
    { "{\"alg\":\"none\"}", JWS_REFUSED },
    { "{\"alg\":\"None\"}", JWS_REFUSED },
    { "{\"alg\":\"NoNe\"}", JWS_REFUSED },
    { "{\"alg\":\"\"}", JWS_REFUSED },
    { "{\"alg\":null}", JWS_REFUSED },
    { "{\"alg\":[\"HS256\"]}", JWS_REFUSED },
    { "{\"alg\":256}", JWS_REFUSED },
    { "{}", JWS_REFUSED },
    { "{\"Alg\":\"HS256\"}", JWS_REFUSED },
    { "{\"alg\":\"HS256\",\"alg\":\"HS256\"}", JWS_NO_TOKEN },
    { "{\"alg\":\"none\",\"alg\":\"HS256\"}", JWS_NO_TOKEN },
    { "{\"alg\":\"HS256\",\"\\u0061lg\":\"none\"}", JWS_NO_TOKEN },
    { "{\"alg\":\"HS256\\u0000\"}", JWS_NO_TOKEN },
    { "{\"alg\":\"HS256\"}x", JWS_NO_TOKEN },
    { "[\"HS256\"]", JWS_NO_TOKEN },
    { "", JWS_NO_TOKEN },
    { "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}", JWS_REFUSED },
    { "{\"alg\":\"HS256\",\"crit\":[]}", JWS_REFUSED },
    { "{\"alg\":\"HS256\",\"b64\":false,\"crit\":[\"b64\"]}", JWS_REFUSED },
    { "{\"alg\":\"HS256\",\"kid\":\"any\"}", JWS_GOOD }, /* the key has no id of its own */
    { "{\"alg\":\"HS256\",\"kid\":1}", JWS_REFUSED },
    { "{\"alg\":\"HS256\",\"kid\":\"\"}", JWS_REFUSED },
    { "{\"alg\":\"HS256\",\"kid\":null}", JWS_REFUSED },
    { "{\"alg\":\"HS256\",\"typ\":7}", JWS_REFUSED },
};

static void
headers_are_judged(void **state)
{
    (void)state;
    struct key_set set = { 0 };
    const struct signer s = signer_of("HS256");
    add(&set, &s, NULL);
    for (size_t i = 0; i < COUNT(header_rows); i++) {
        char *token = mint(&s, header_rows[i].header, "{}");
        enum jws_outcome outcome = judge(&set, token);
        if (outcome != header_rows[i].want)
            fail_msg("%s: %x", header_rows[i].header, outcome);
        free(token);
    }
    key_set_done(&set);
}

static void
texts_are_judged(void **state)
{
    static const char *const wrong[] = { "%s.", ".%s",  "%s.x", "%s=", "%s\n",     " %s",
                                         "%s ", "%s\t", "%s%%", "!%s", "Bearer %s" };
    (void)state;
    struct key_set set = { 0 };
    const struct signer s = signer_of("HS256");
    add(&set, &s, NULL);
    char *token = mint(&s, "{\"alg\":\"HS256\"}", "{\"a\":\"\xc3\xbf\xc3\xbe\xc3\xbf\"}"), *text;
    assert_int_equal(judge(&set, token), JWS_GOOD);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        const char *percent = strstr(wrong[i], "%s");
        assert_true(asprintf(&text, "%.*s%s%s", (int)(percent - wrong[i]), wrong[i], token,
                             percent + 2) > 0);
        assert_int_equal(judge(&set, text), JWS_NO_TOKEN);
        free(text);
    }
    /* Spare bits of the last character: the same bytes, another text. */
    size_t n = strlen(token);
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    token[n - 1] = strchr(digits, token[n - 1])[1];
    assert_int_equal(judge(&set, token), JWS_REFUSED);
    static const char *const none[] = { "", ".", "..", "...", "a.b", "a.b.c", "a.b.c.d.e", "null" };
    for (size_t i = 0; i < COUNT(none); i++)
        assert_int_equal(judge(&set, none[i]), JWS_NO_TOKEN);
    free(token);
    key_set_done(&set);
}

static void
the_length_limit_is_exact(void **state)
{
    (void)state;
    struct key_set set = { 0 };
    const struct signer s = signer_of("HS256");
    add(&set, &s, NULL);
    char *payload = malloc(9u << 20), *header = b64("{\"alg\":\"HS256\"}", 15);
    for (size_t total = JWS_TEXT_MAX - 1; total <= JWS_TEXT_MAX + 1; total++) {
        size_t n = total - strlen(header) - 43 - 2;
        n -= n % 4 == 1; /* no such base64 */
        memset(payload, 'A', n);
        payload[n] = 0;
        char *token = mint_parts(&s, header, payload);
        assert_int_equal(judge(&set, token),
                         strlen(token) <= JWS_TEXT_MAX ? JWS_GOOD : JWS_NO_TOKEN);
        free(token);
    }
    memset(payload, 'A', (9u << 20) - 1);
    payload[(9u << 20) - 1] = 0;
    char *token = mint_parts(&s, header, payload);
    assert_int_equal(judge(&set, token), JWS_NO_TOKEN);
    free(token);
    free(header);
    free(payload);
    key_set_done(&set);
}

static void
key_ids_choose(void **state)
{
    (void)state;
    struct key_set set = { 0 };
    const struct signer a = { "RS256", keys.rsa, NULL, 0 },
                        b = { "RS256", keys.rsa_other, NULL, 0 };
    add(&set, &a, "a");
    add(&set, &b, "b");
    const struct {
        const struct signer *by;
        const char *header;
        enum jws_outcome want;
    } rows[] = {
        { &a, "{\"alg\":\"RS256\"}", JWS_GOOD },
        { &b, "{\"alg\":\"RS256\"}", JWS_GOOD },
        { &a, "{\"alg\":\"RS256\",\"kid\":\"a\"}", JWS_GOOD },
        { &b, "{\"alg\":\"RS256\",\"kid\":\"b\"}", JWS_GOOD },
        { &a, "{\"alg\":\"RS256\",\"kid\":\"b\"}", JWS_REFUSED },
        { &a, "{\"alg\":\"RS256\",\"kid\":\"c\"}", JWS_REFUSED },
        { &a, "{\"alg\":\"RS256\",\"kid\":\"A\"}", JWS_REFUSED },
        { &a, "{\"alg\":\"RS256\",\"kid\":\"a \"}", JWS_REFUSED },
        { &a, "{\"alg\":\"RS256\",\"kid\":\"../../a\"}", JWS_REFUSED },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char *token = mint(rows[i].by, rows[i].header, "{}");
        if (judge(&set, token) != rows[i].want)
            fail_msg("%s", rows[i].header);
        free(token);
    }
    key_set_done(&set);
}

static void
only_eight_keys_are_tried(void **state)
{
    (void)state;
    for (int before = JWS_TRIES_MAX - 1; before <= JWS_TRIES_MAX; before++) {
        struct key_set set = { 0 };
        const struct signer wrong = { "RS256", keys.rsa_other, NULL, 0 };
        const struct signer right = { "RS256", keys.rsa, NULL, 0 };
        for (int i = 0; i < before; i++)
            add(&set, &wrong, NULL);
        add(&set, &right, "me");
        char *token = mint(&right, "{\"alg\":\"RS256\"}", "{}");
        assert_int_equal(judge(&set, token), before < JWS_TRIES_MAX ? JWS_GOOD : JWS_REFUSED);
        free(token);
        token = mint(&right, "{\"alg\":\"RS256\",\"kid\":\"me\"}", "{}");
        assert_int_equal(judge(&set, token), JWS_GOOD);
        free(token);
        key_set_done(&set);
    }
}

/* The public key as HMAC secret, a key of nothing, the wrong curve. */
static void
keys_are_not_confused(void **state)
{
    (void)state;
    struct key_set set = { 0 };
    const struct signer rs = signer_of("RS256"), es = signer_of("ES256");
    add(&set, &rs, NULL);
    add(&set, &es, NULL);
    char *pem = public_pem(keys.rsa);
    const struct signer rows[] = {
        { "HS256", NULL, pem, strlen(pem) }, { "HS256", NULL, "", 0 },      { NULL, NULL, NULL, 0 },
        { "ES256", keys.p384, NULL, 0 },     { "ES256", keys.k1, NULL, 0 },
    };
    static const char *const headers[] = { "{\"alg\":\"HS256\"}", "{\"alg\":\"RS256\"}",
                                           "{\"alg\":\"ES256\"}", "{\"alg\":\"none\"}" };
    for (size_t i = 0; i < COUNT(rows); i++)
        for (size_t k = 0; k < COUNT(headers); k++) {
            char *token = mint(&rows[i], headers[k], "{}");
            assert_int_equal(judge(&set, token), JWS_REFUSED);
            free(token);
        }
    free(pem);
    /* ECDSA of zeros, CVE-2022-21449 of another runtime. */
    char zeros[87];
    memset(zeros, 'A', 86);
    zeros[86] = 0;
    char *text = NULL, *head = b64("{\"alg\":\"ES256\"}", 15);
    assert_true(asprintf(&text, "%s.e30.%s", head, zeros) > 0);
    assert_int_equal(judge(&set, text), JWS_REFUSED);
    free(head);
    free(text);
    key_set_done(&set);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vectors_verify),
        cmocka_unit_test(every_algorithm_verifies_its_own_and_no_other),
        cmocka_unit_test(eddsa_has_two_names),
        cmocka_unit_test(no_changed_token_passes),
        cmocka_unit_test(headers_are_judged),
        cmocka_unit_test(texts_are_judged),
        cmocka_unit_test(the_length_limit_is_exact),
        cmocka_unit_test(key_ids_choose),
        cmocka_unit_test(only_eight_keys_are_tried),
        cmocka_unit_test(keys_are_not_confused),
    };
    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
