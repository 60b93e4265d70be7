/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/unit/auth-host.h"
#include "tests/unit/auth-sign.h"

#include "plugins/auth-jwt/json.h"
#include "plugins/auth-jwt/jwk.h"
#include "plugins/auth-jwt/jws.h"
#include "plugins/auth-jwt/secret.h"

#include <dirent.h>
#include <errno.h>

static const struct {
    const char *text;
    bool good;
    size_t n; /* decoded */
} base64_rows[] = {
    { "", true, 0 },      { "AA", true, 1 },    { "AAA", true, 2 },      { "AAAA", true, 3 },
    { "_-_-", true, 3 },  { "A", false, 0 },    { "AAAAA", false, 0 },   { "AB", false, 0 },
    { "AAB", false, 0 },  { "AA==", false, 0 }, { "AA=", false, 0 },     { "+/AA", false, 0 },
    { "AA\n", false, 0 }, { "A A", false, 0 },  { "AAA\xc3", false, 0 },
};

static void
base64url_has_one_text_for_each_value(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(base64_rows); i++) {
        unsigned char out[16];
        size_t n = 0;
        bool good = base64url_decode(base64_rows[i].text, strlen(base64_rows[i].text), out, &n);
        if (good != base64_rows[i].good || n != base64_rows[i].n)
            fail_msg("\"%s\": %d, %zu bytes", base64_rows[i].text, good, n);
    }
}

#define TEXT(s) (s), sizeof(s) - 1

static const struct {
    const char *text;
    size_t n;
    bool good;
} json_rows[] = {
    { TEXT("{}"), true },
    { TEXT(" \t\r\n{ } \n"), true },
    { TEXT("{\"a\":1,\"b\":[true,false,null,\"x\",{\"a\":-0.5e+3}]}"), true },
    { TEXT("{\"a\":\"\\ud83d\\ude00 \xf0\x9f\x98\x80 \\\"\\\\\\/\\b\\f\\n\\r\\t\"}"), true },
    { TEXT(""), false },
    { TEXT("[]"), false },
    { TEXT("1"), false },
    { TEXT("\"a\""), false },
    { TEXT("null"), false },
    { TEXT("{"), false },
    { TEXT("{}{}"), false },
    { TEXT("{},"), false },
    { TEXT("{}\0"), false },
    { TEXT("\0{}"), false },
    { TEXT("{\0}"), false },
    { TEXT("\xef\xbb\xbf{}"), false },
    { TEXT("{\"a\":1,}"), false },
    { TEXT("{,}"), false },
    { TEXT("{\"a\"}"), false },
    { TEXT("{\"a\":}"), false },
    { TEXT("{a:1}"), false },
    { TEXT("{'a':1}"), false },
    { TEXT("{1:1}"), false },
    { TEXT("{\"a\":1 \"b\":2}"), false },
    { TEXT("{\"a\":[1,]}"), false },
    { TEXT("{\"a\":[1 2]}"), false },
    { TEXT("{\"a\":[1}"), false },
    { TEXT("{\"a\":01}"), false },
    { TEXT("{\"a\":-}"), false },
    { TEXT("{\"a\":+1}"), false },
    { TEXT("{\"a\":.5}"), false },
    { TEXT("{\"a\":1.}"), false },
    { TEXT("{\"a\":1e}"), false },
    { TEXT("{\"a\":0x1}"), false },
    { TEXT("{\"a\":NaN}"), false },
    { TEXT("{\"a\":Infinity}"), false },
    { TEXT("{\"a\":tru}"), false },
    { TEXT("{\"a\":True}"), false },
    { TEXT("{\"a\":1111111111222222222233333333334444444444}"), true },
    { TEXT("{\"a\":11111111112222222222333333333344444444445}"), false },
    { TEXT("{\"a\":\"x}"), false },
    { TEXT("{\"a\":\"\n\"}"), false },
    { TEXT("{\"a\":\"\0\"}"), false },
    { TEXT("{\"a\":\"\\u0000\"}"), false },
    { TEXT("{\"a\\u0000b\":1}"), false },
    { TEXT("{\"a\":\"\\x41\"}"), false },
    { TEXT("{\"a\":\"\\u12g4\"}"), false },
    { TEXT("{\"a\":\"\\u12"), false },
    { TEXT("{\"a\":\"\\"), false },
    { TEXT("{\"a\":\"\\ud800\"}"), false },
    { TEXT("{\"a\":\"\\udc00\"}"), false },
    { TEXT("{\"a\":\"\\ud800\\u0041\"}"), false },
    { TEXT("{\"a\":\"\xff\"}"), false },
    { TEXT("{\"a\":\"\xc0\x80\"}"), false },
    { TEXT("{\"a\":\"\xed\xa0\x80\"}"), false },
    { TEXT("{\"a\":\"\xf4\x90\x80\x80\"}"), false },
    { TEXT("{\"a\":\"\xe2\x82\"}"), false },
    { TEXT("{\"a\":\"\xe2"), false },
    { TEXT("{\"a\":1,\"a\":1}"), false },
    { TEXT("{\"a\":1,\"\\u0061\":1}"), false },
    { TEXT("{\"\\u00e9\":1,\"\xc3\xa9\":1}"), false },
    { TEXT("{\"\\/\":1,\"/\":1}"), false },
    { TEXT("{\"a\":{\"b\":1,\"b\":2}}"), false },
    { TEXT("{\"a\":1,\"A\":1,\"aa\":1,\"\":1}"), true },
    { TEXT("{\"a\":{\"a\":1}}"), true },
};

static void
json_is_read_strictly(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(json_rows); i++) {
        /* On the heap and exact, so that a sanitizer sees a byte read too far. */
        char *copy = malloc(json_rows[i].n ? json_rows[i].n : 1);
        memcpy(copy, json_rows[i].text, json_rows[i].n);
        cJSON *json = NULL;
        const char *why = NULL;
        bool good = json_read_object(copy, json_rows[i].n, &json, &why);
        if (good != json_rows[i].good || (!good && !why))
            fail_msg("row %zu: %s: %d, %s", i, json_rows[i].text, good, why ? why : "-");
        cJSON_Delete(json);
        free(copy);
    }
}

static bool
scans(const char *text)
{
    const char *why = NULL;
    return json_scan_object(text, strlen(text), &why);
}

static void
json_limits_are_exact(void **state)
{
    char text[4096] = "";
    (void)state;
    for (int depth = JSON_DEPTH_MAX - 1; depth <= JSON_DEPTH_MAX + 1; depth++) {
        size_t n = (size_t)snprintf(text, sizeof(text), "{\"a\":");
        for (int i = 1; i < depth; i++)
            text[n++] = '[';
        for (int i = 1; i < depth; i++)
            text[n++] = ']';
        text[n++] = '}';
        text[n] = 0;
        assert_int_equal(scans(text), depth <= JSON_DEPTH_MAX);
    }
    for (int members = JSON_MEMBERS_MAX - 1; members <= JSON_MEMBERS_MAX + 1; members++) {
        size_t n = 0;
        for (int i = 0; i < members; i++)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%c\"m%d\":1", i ? ',' : '{', i);
        (void)snprintf(text + n, sizeof(text) - n, "}");
        assert_int_equal(scans(text), members <= JSON_MEMBERS_MAX);
    }
}

static char *
read_file(const char *path, size_t *ret_n)
{
    FILE *f = fopen(path, "r");
    char *text = calloc(1, 512 * 1024);
    *ret_n = f ? fread(text, 1, 512 * 1024 - 1, f) : 0;
    if (f)
        (void)fclose(f);
    return text;
}

/* The folder of published test data, or NULL after saying that it is not there. */
static const char *
corpora(const char *name)
{
    static char path[1024];
    const char *set = getenv("KAITEN_CORPORA"), *src = getenv("abs_top_srcdir");
    if (set && *set)
        (void)snprintf(path, sizeof(path), "%s/%s", set, name);
    else
        (void)snprintf(path, sizeof(path), "%s/../shared/corpora/%s", src ? src : ".", name);
    if (access(path, R_OK) == 0)
        return path;
    print_message("no %s at %s: skipped\n", name, path);
    return NULL;
}

/* Valid JSON that we refuse on purpose. */
static bool
refused_on_purpose(const char *file)
{
    static const char *const names[] = {
        "y_object_duplicated_key.json",       "y_object_duplicated_key_and_value.json",
        "y_object_escaped_null_in_key.json",  "y_string_null_escape.json",
        "y_number_double_close_to_zero.json", /* longer than a number may be */
    };
    for (size_t i = 0; i < COUNT(names); i++)
        if (strcmp(names[i], file) == 0)
            return true;
    return false;
}

static void
json_agrees_with_the_published_suite(void **state)
{
    (void)state;
    const char *suite = corpora("JSONTestSuite/test_parsing");
    DIR *dir = suite ? opendir(suite) : NULL;
    if (!dir)
        skip();
    size_t asked = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char path[2048];
        size_t n = 0;
        if ((e->d_name[0] != 'n' && e->d_name[0] != 'y') || e->d_name[1] != '_')
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", suite, e->d_name);
        char *text = read_file(path, &n), *whole = malloc(n + 16);
        const char *why = NULL;
        memcpy(whole, "{\"a\":", 5);
        memcpy(whole + 5, text, n);
        whole[n + 5] = '}';
        bool good = json_scan_object(whole, n + 6, &why);
        bool want = e->d_name[0] == 'y' && !refused_on_purpose(e->d_name);
        if (good != want)
            fail_msg("%s: %d, %s", e->d_name, good, why ? why : "-");
        asked++;
        free(whole);
        free(text);
    }
    closedir(dir);
    assert_true(asked > 250);
}

static enum jws_outcome
judge(const struct key_set *set, const char *token)
{
    struct jws jws;
    const char *why = NULL;
    size_t n = strlen(token);
    char *copy = malloc(n ? n : 1);
    memcpy(copy, token, n);
    enum jws_outcome outcome = jws_parse(copy, n, &jws, &why);
    if (outcome == JWS_GOOD)
        outcome = jws_verify(&jws, set, &why);
    assert_true(outcome == JWS_GOOD || why != NULL);
    free(copy);
    return outcome;
}

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
    char *text = read_file(path, &n);
    cJSON *json = cJSON_Parse(text);
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
    const char *root = corpora("jose-cookbook");
    if (!root)
        skip();
    for (size_t i = 0; i < COUNT(cookbook); i++) {
        char path[2048];
        (void)snprintf(path, sizeof(path), "%s/%s", root, cookbook[i]);
        check_vector(path);
    }
}

/* A set with one key of that algorithm, and what signs for it. */
static struct signer
signer_of(const char *alg)
{
    struct signer s = { .alg = alg };
    if (alg[0] == 'H') {
        s.secret = secret;
        s.nsecret = strlen(secret);
    } else {
        s.pkey = strcmp(alg, "ES256") == 0   ? keys.p256
                 : strcmp(alg, "ES384") == 0 ? keys.p384
                 : strcmp(alg, "ES512") == 0 ? keys.p521
                 : alg[0] == 'E'             ? keys.ed25519
                                             : keys.rsa;
    }
    return s;
}

static void
add(struct key_set *set, const struct signer *s, const char *kid)
{
    struct key_why why = { "" };
    const char *path = s->pkey ? write_public("key.pem", s->pkey)
                               : write_file("secret", s->secret, s->nsecret, 0600);
    if (!key_set_add_file(set, path, key_alg_find(s->alg, strlen(s->alg)), kid, 0, &why))
        fail_msg("%s: %s", s->alg, why.text);
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

static bool
takes_file(const char *path, const char *alg, const char *kid, char *ret_why)
{
    struct key_set set = { 0 };
    struct key_why why = { "" };
    bool good =
        key_set_add_file(&set, path, key_alg_find(alg, strlen(alg)), kid, 0, &why);
    strcpy(ret_why, why.text);
    assert_int_equal(set.n, good);
    key_set_done(&set);
    return good;
}

static void
expect_file(const char *path, const char *alg, const char *want)
{
    char why[KEY_WHY_MAX];
    bool good = takes_file(path, alg, NULL, why);
    if (good != (want == NULL) || (want && !strstr(why, want)) || (want && !strstr(why, path)))
        fail_msg("%s %s: %d \"%s\"", path, alg, good, why);
}

static void
pem_keys_are_judged_when_read(void **state)
{
    (void)state;
    expect_file(write_public("rsa", keys.rsa), "RS256", NULL);
    expect_file(write_public("rsa", keys.rsa), "PS512", NULL);
    expect_file(write_public("rsa", keys.rsa), "ES256", "elliptic");
    expect_file(write_public("rsa", keys.rsa), "EdDSA", "Ed25519");
    chmod(path_of("rsa"), 0600);
    expect_file(path_of("rsa"), "HS256", "PEM");
    expect_file(write_public("rsa", keys.rsa_1024), "RS256", "2048");
    expect_file(write_public("rsa", keys.rsa_e3), "RS256", "exponent");
    expect_file(write_public("ec", keys.p256), "ES256", NULL);
    expect_file(write_public("ec", keys.p256), "RS256", "RSA");
    expect_file(write_public("ec", keys.p384), "ES256", "P-256");
    expect_file(write_public("ec", keys.p256), "ES384", "P-384");
    expect_file(write_public("ec", keys.p384), "ES384", NULL);
    expect_file(write_public("ec", keys.p521), "ES512", NULL);
    expect_file(write_public("ec", keys.k1), "ES256", "P-256");
    expect_file(write_public("ed", keys.ed25519), "EdDSA", NULL);
    expect_file(write_public("ed", keys.ed448), "EdDSA", NULL);
    expect_file(
        write_text("x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", 0644),
        "RS256", "no public key");
    expect_file(write_text("x", "-----BEGIN PRIVATE KEY-----\n", 0600), "RS256", "private key");
    expect_file(write_text("x", "hello", 0644), "RS256", "no public key");
    expect_file(write_text("x", "", 0644), "RS256", "bytes");
    expect_file(path_of("absent"), "RS256", "No such file");
    expect_file(folder, "RS256", "regular");
    chmod(write_public("rsa", keys.rsa), 0666);
    expect_file(path_of("rsa"), "RS256", "everybody may write");
}

/* The modulus of keys.rsa under another exponent. */
static EVP_PKEY *
rsa_with_exponent(const char *hex)
{
    EVP_PKEY *pkey = NULL;
    BIGNUM *n = NULL, *e = NULL;
    assert_int_equal(EVP_PKEY_get_bn_param(keys.rsa, OSSL_PKEY_PARAM_RSA_N, &n), 1);
    assert_true(BN_hex2bn(&e, hex) > 0);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    assert_int_equal(OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n), 1);
    assert_int_equal(OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e), 1);
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    assert_int_equal(EVP_PKEY_fromdata_init(ctx), 1);
    assert_int_equal(EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params), 1);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    BN_free(n);
    BN_free(e);
    return pkey;
}

static void
exponents_are_judged_when_read(void **state)
{
    (void)state;
    static const struct {
        const char *e, *want;
    } rows[] = {
        { "10001", NULL },
        { "10003", NULL },
        { "FFFFFFFFFFFFFFFF", NULL },
        { "FFFF", "exponent" },
        { "10002", "exponent" },
        { "10000000000000001", "exponent" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        EVP_PKEY *pkey = rsa_with_exponent(rows[i].e);
        expect_file(write_public("rsa", pkey), "RS256", rows[i].want);
        EVP_PKEY_free(pkey);
    }
}

/* With parameters of its own a curve can have any point as its generator, CVE-2020-0601 of another
 * library. */
static void
curves_have_names(void **state)
{
    (void)state;
    EVP_PKEY *pkey = EVP_PKEY_dup(keys.p256);
    assert_int_equal(EVP_PKEY_set_utf8_string_param(pkey, OSSL_PKEY_PARAM_EC_ENCODING, "explicit"),
                     1);
    expect_file(write_public("ec", pkey), "ES256", "not named");
    EVP_PKEY_free(pkey);
    pkey = EVP_PKEY_dup(keys.rsa);
    struct key_why why;
    assert_false(key_check_pkey(pkey, key_alg_find("HS256", 5), &why));
    assert_non_null(strstr(why.text, "takes no public key"));
    EVP_PKEY_free(pkey);
}

/* Bytes that look random and are the same on every run. */
static void
fill(char *bytes, size_t n)
{
    unsigned x = 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1103515245u + 12345u;
        bytes[i] = (char)(x >> 16);
    }
}

static void
secrets_are_judged_when_read(void **state)
{
    char bytes[KEY_SECRET_MAX + 2];
    (void)state;
    fill(bytes, sizeof(bytes));
    static const struct {
        const char *alg;
        size_t least;
    } floors[] = { { "HS256", 32 }, { "HS384", 48 }, { "HS512", 64 } };
    for (size_t i = 0; i < COUNT(floors); i++) {
        expect_file(write_file("s", bytes, floors[i].least, 0600), floors[i].alg, NULL);
        expect_file(write_file("s", bytes, floors[i].least - 1, 0600), floors[i].alg, "this one");
        expect_file(write_file("s", bytes, 1, 0600), floors[i].alg, "has 1");
    }
    expect_file(write_file("s", bytes, KEY_SECRET_MAX, 0400), "HS512", NULL);
    expect_file(write_file("s", bytes, KEY_SECRET_MAX + 1, 0600), "HS512", "4096");
    static const mode_t open_modes[] = { 0640, 0604, 0620, 0610, 0644, 0666 };
    for (size_t i = 0; i < COUNT(open_modes); i++)
        expect_file(write_file("s", bytes, 32, open_modes[i]), "HS256",
                    open_modes[i] & 2 ? "everybody" : "chmod 600");
    /* A line end belongs to text, not to its secret; random bytes keep theirs. */
    expect_file(write_text("s", "3b1f9ac04d7e82665f0c1a9be47d2830\n", 0600), "HS256", NULL);
    expect_file(write_text("s", "3b1f9ac04d7e82665f0c1a9be47d283\n", 0600), "HS256", "has 31");
    expect_file(write_text("s", "3b1f9ac04d7e82665f0c1a9be47d2830\r\n", 0600), "HS256", NULL);
    bytes[31] = '\n';
    expect_file(write_file("s", bytes, 32, 0600), "HS256", NULL);
}

#define WORD8 "8fK2-xQz"
static const struct {
    const char *text, *want; /* NULL: good */
} secret_rows[] = {
    { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "different" },
    { "abcdabcdabdcabcdbacdabdcdabcabcdabcd", "different" },
    { WORD8 WORD8 WORD8 WORD8, "repeated" },
    { WORD8 WORD8 WORD8 WORD8 "8fK", "repeated" },
    { "0123456789abcdef0123456789abcdef", "repeated" },
    { "secretsecretsecretsecretsecretsecret", "repeated" },
    { "passwordpasswordpasswordpassword", "repeated" },
    { "12345678901234567890123456789012", "repeated" },
    { "abcdefghijklmnopqrstuvwxyz0123456789", "follow" },
    { "zyxwvutsrqponmlkjihgfedcba9876543210", "follow" },
    { "aabbccddeeffgghhiijjkkllmmnnooppqq", "follow" },
    { "acegikmoqsuwyACEGIKMOQSUWY02468!#%')", "follow" },
    { "a-string-secret-at-least-256-bits-long", "published" },
    { "A-String-Secret-At-Least-256-Bits-Long", "published" },
    { "3cfa76ef14937c1c0ea519f8fc057a80fcd04a7420f8e8bcd0a7567c272e007b", "published" },
    /* The fingerprint of an example of our own stands in the table, too. */
    { "the secret of an example in the documents of kaitend", "published" },
    { "THE secret of an example in the documents of KAITEND", "published" },
    { "the secret of an example in the documents of kaitenD ", NULL },
    /* What generators make: base64, hexadecimal, digits, a few words. */
    { "q8Yt0m1Qx5sO2a9Gd7LwV3bnR6uKzJcE", NULL },
    { "3b1f9ac04d7e82665f0c1a9be47d2830", NULL },
    { "58209974944592307816406286208998", NULL },
    { "correct horse battery staple, and a whale", NULL },
    { WORD8 WORD8 WORD8 "another-tail", NULL },
};

/* KAITEN_WEAK_SECRETS names lists, apart by colons, of which every line is to be refused. */
static void
listed_secrets_are_refused(void **state)
{
    (void)state;
    char *names = getenv("KAITEN_WEAK_SECRETS"), line[8192], *rest = names;
    if (!names)
        skip();
    for (char *name; (name = strtok_r(rest, ":", &rest));) {
        FILE *f = fopen(name, "re");
        assert_non_null(f);
        while (fgets(line, sizeof(line), f)) {
            size_t n = strcspn(line, "\r\n");
            const char *why = NULL;
            if (n >= 32 && n <= KEY_SECRET_MAX)
                assert_true(secret_is_weak((const unsigned char *)line, n, &why));
        }
        fclose(f);
    }
}

static void
weak_secrets_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(secret_rows); i++)
        expect_file(write_text("s", secret_rows[i].text, 0600), "HS256", secret_rows[i].want);
    for (int step = 0; step < 256; step++) {
        char bytes[64];
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (char)((int)i * step + 7);
        char why[KEY_WHY_MAX];
        assert_false(takes_file(write_file("s", bytes, sizeof(bytes), 0600), "HS512", NULL, why));
        assert_non_null(strstr(why, "weak"));
    }
}

/* Writes {"keys":[a,b]} or a alone; free()s both. */
static void
expect_jwks(char *take_a, char *take_b, mode_t mode, size_t usable, const char *want)
{
    char *text = NULL;
    struct key_set set = { 0 };
    struct key_why why = { "" };
    assert_true((take_b ? asprintf(&text, "{\"keys\":[%s,%s]}", take_a, take_b)
                        : asprintf(&text, "%s", take_a)) >= 0);
    bool good = jwk_read_file(&set, write_text("jwks", text, mode), NULL, 0, fake_log, &why);
    if (good != (want == NULL) || (good && set.n != usable) || (want && !strstr(why.text, want)))
        fail_msg("%s: %d, %zu keys, \"%s\"", text, good, set.n, why.text);
    key_set_done(&set);
    free(text);
    free(take_a);
    free(take_b);
}

#define OCT(n, more) "{\"kty\":\"oct\",\"k\":\"" n "\"" more "}"
#define K32          "lBh7RzYbC0oS1qXyNf3mPdU8aKwJg5TtE2vZiQ4LxMc"
#define K31          "lBh7RzYbC0oS1qXyNf3mPdU8aKwJg5TtE2vZiQ4LxA"

static void
jwk_sets_are_judged_when_read(void **state)
{
    (void)state;
    expect_jwks(jwk_of(keys.rsa, ""), NULL, 0644, 1, NULL);
    expect_jwks(jwk_of(keys.rsa, ",\"alg\":\"PS256\",\"use\":\"sig\",\"kid\":\"k\""), NULL, 0644, 1,
                NULL);
    expect_jwks(jwk_of(keys.p256, ""), jwk_of(keys.ed25519, ""), 0644, 2, NULL);
    expect_jwks(jwk_of(keys.p384, ""), jwk_of(keys.p521, ""), 0644, 2, NULL);
    expect_jwks(jwk_of(keys.rsa, ",\"key_ops\":[\"verify\"]"),
                jwk_of(keys.rsa, ",\"key_ops\":[\"sign\"]"), 0644, 1, NULL);
    expect_jwks(jwk_of(keys.rsa, ",\"use\":\"enc\""), jwk_of(keys.rsa, ""), 0644, 1, NULL);
    expect_jwks(jwk_of(keys.rsa, ",\"key_ops\":[\"verify\",\"sign\"],\"use\":\"sig\""), NULL, 0644, 1,
                NULL);
    static const char *const wrong_ops[] = { "[]",
                                             "\"verify\"",
                                             "[\"Verify\"]",
                                             "[\"sign\"]",
                                             "[\"verify\",\"verify\"]",
                                             "[\"verify\",7]",
                                             "[\"verify\",\"encrypt\"]",
                                             "[\"wrapKey\",\"verify\"]",
                                             "null" };
    for (size_t i = 0; i < COUNT(wrong_ops); i++) {
        char more[128];
        (void)snprintf(more, sizeof(more), ",\"key_ops\":%s", wrong_ops[i]);
        expect_jwks(jwk_of(keys.rsa, more), NULL, 0644, 0, "key_ops");
    }
    expect_jwks(jwk_of(keys.ed448, ""), NULL, 0644, 1, NULL);
    expect_jwks(jwk_of(keys.ed448, ",\"alg\":\"EdDSA\""), NULL, 0644, 1, NULL);
    expect_jwks(strdup("{\"kty\":\"AKP\"}"), jwk_of(keys.rsa, ""), 0644, 1, NULL);
    expect_jwks(strdup("{\"kty\":\"EC\",\"crv\":\"P-1024\"}"), jwk_of(keys.rsa, ""), 0644, 1, NULL);
    expect_jwks(strdup("{\"kty\":7}"), jwk_of(keys.rsa, ""), 0644, 1, NULL);
    expect_jwks(strdup("7"), jwk_of(keys.rsa, ""), 0644, 1, NULL);
    expect_jwks(jwk_of(keys.rsa_1024, ""), jwk_of(keys.rsa, ""), 0644, 1, NULL);
    expect_jwks(strdup(OCT(K32, ",\"alg\":\"HS256\"")), NULL, 0600, 1, NULL);
    expect_jwks(strdup(OCT(K32, ",\"alg\":\"HS256\"")), NULL, 0640, 0, "chmod 600");
    expect_jwks(strdup(OCT(K32, ",\"alg\":\"HS256\"")), jwk_of(keys.rsa, ""), 0644, 0, "chmod 600");
    expect_jwks(strdup(OCT(K31, ",\"alg\":\"HS256\"")), NULL, 0600, 0, "32");
    expect_jwks(strdup(OCT(K32, "")), NULL, 0600, 0, "alg");
    expect_jwks(strdup(OCT(K32, ",\"alg\":\"HS384\"")), NULL, 0600, 0, "48");
    expect_jwks(strdup(OCT(K32, ",\"alg\":\"HS512\"")), NULL, 0600, 0, "64");
    expect_jwks(strdup(OCT("YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE", ",\"alg\":\"HS256\"")), NULL,
                0600, 0, "weak");
    expect_jwks(strdup(OCT(K32, ",\"alg\":\"RS256\"")), NULL, 0600, 0, "kty");
    expect_jwks(strdup(OCT(K32 "=", ",\"alg\":\"HS256\"")), NULL, 0600, 0, "member k");
    expect_jwks(jwk_of(keys.rsa, ",\"use\":\"enc\""), NULL, 0644, 0, "use");
    expect_jwks(jwk_of(keys.rsa, ",\"use\":\"enc\""), jwk_of(keys.rsa, ",\"use\":1"), 0644, 0,
                "no usable key");
    expect_jwks(jwk_of(keys.rsa, ",\"alg\":\"HS256\""), NULL, 0644, 0, "kty");
    expect_jwks(jwk_of(keys.rsa, ",\"alg\":\"none\""), NULL, 0644, 0, "alg");
    expect_jwks(jwk_of(keys.rsa, ",\"alg\":7"), NULL, 0644, 0, "alg");
    expect_jwks(jwk_of(keys.p256, ",\"alg\":\"ES384\""), NULL, 0644, 0, "crv");
    expect_jwks(jwk_of(keys.k1, ""), NULL, 0644, 0, "not a valid key");
    expect_jwks(jwk_of(keys.rsa_e3, ""), NULL, 0644, 0, "exponent");
    expect_jwks(jwk_of(keys.rsa, ",\"kid\":7"), NULL, 0644, 0, "kid");
    expect_jwks(jwk_of(keys.rsa, ",\"n\":\"AQ\""), NULL, 0644, 0, "JSON");
    expect_jwks(strdup("{\"keys\":[]}"), NULL, 0644, 0, "empty");
    expect_jwks(strdup("{\"keys\":{}}"), NULL, 0644, 0, "array");
    expect_jwks(strdup("[]"), NULL, 0644, 0, "JSON");
    expect_jwks(strdup("{}"), NULL, 0644, 0, "kty");
    expect_jwks(strdup("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" K32 "\",\"y\":\"" K32 "\"}"),
                NULL, 0644, 0, "key");
    expect_jwks(strdup("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" K31 "\",\"y\":\"" K32 "\"}"),
                NULL, 0644, 0, "32 bytes");
    expect_jwks(strdup("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" K31 "\"}"), NULL, 0644, 0,
                "32");
    expect_jwks(strdup("{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"" K32 "\"}"), NULL, 0644, 0,
                "alg");
}

static void
private_halves_of_jwks_are_not_for_everybody(void **state)
{
    (void)state;
    EVP_PKEY *const all[] = { keys.rsa, keys.p256, keys.p384, keys.p521, keys.ed25519, keys.ed448 };
    for (size_t i = 0; i < COUNT(all); i++) {
        size_t before = fake.nlogged;
        expect_jwks(jwk_private_of(all[i], all[i]), NULL, 0640, 1, NULL);
        assert_int_equal(fake.nlogged, before + 1);
        expect_jwks(jwk_private_of(all[i], all[i]), NULL, 0644, 0, "private");
        expect_jwks(jwk_private_of(all[i], all[i]), jwk_of(keys.rsa_other, ""), 0644, 0, "private");
        expect_jwks(jwk_of(keys.rsa_other, ""), jwk_private_of(all[i], all[i]), 0644, 0, "private");
        /* The halves of two keys. */
        EVP_PKEY *other = all[i] == keys.rsa ? keys.rsa_other : EVP_PKEY_dup(all[i]);
        expect_jwks(jwk_of(all[i], ",\"d\":\"AQ\""), NULL, 0600, 0, "does not belong");
        if (other == keys.rsa_other)
            expect_jwks(jwk_private_of(all[i], other), NULL, 0600, 0, "does not belong");
        else
            EVP_PKEY_free(other);
    }
    EVP_PKEY *stranger = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    expect_jwks(jwk_private_of(keys.p256, stranger), NULL, 0600, 0, "does not belong");
    EVP_PKEY_free(stranger);
    stranger = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    expect_jwks(jwk_private_of(keys.ed25519, stranger), NULL, 0600, 0, "does not belong");
    EVP_PKEY_free(stranger);
}

/* A set that two keys of one id stand in does not say which one is meant. */
static void
key_ids_stand_once(void **state)
{
    (void)state;
    expect_jwks(jwk_of(keys.rsa, ",\"kid\":\"a\""), jwk_of(keys.rsa_other, ",\"kid\":\"a\""), 0644,
                0, "\"a\" stands twice");
    expect_jwks(jwk_of(keys.rsa, ",\"kid\":\"a\""), jwk_of(keys.p256, ",\"kid\":\"a\""), 0644, 0,
                "stands twice");
    expect_jwks(jwk_of(keys.rsa, ",\"kid\":\"a\""), jwk_of(keys.p256, ",\"kid\":\"A\""), 0644, 2,
                NULL);
    expect_jwks(jwk_of(keys.rsa, ""), jwk_of(keys.p256, ""), 0644, 2, NULL);
    /* One that is for something else is not in the way. */
    expect_jwks(jwk_of(keys.rsa, ",\"kid\":\"a\",\"use\":\"enc\""),
                jwk_of(keys.rsa_other, ",\"kid\":\"a\""), 0644, 1, NULL);
    struct key_set set = { 0 }, other = { 0 };
    struct key_why why = { "" };
    const struct signer a = signer_of("RS256"), b = signer_of("ES256");
    add(&set, &a, "a");
    assert_false(key_set_add_file(&set, write_public("k", keys.p256), key_alg_find("ES256", 5), "a",
                                  0, &why));
    assert_non_null(strstr(why.text, "stands twice"));
    add(&other, &b, NULL);
    add(&other, &b, "a");
    assert_false(key_set_merge(&set, &other, &why));
    assert_int_equal(set.n, 1);
    key_set_done(&other);
    add(&other, &b, "b");
    assert_true(key_set_merge(&set, &other, &why));
    key_set_done(&other);
    assert_int_equal(set.n, 2);
    char *token = mint(&b, "{\"alg\":\"ES256\",\"kid\":\"b\"}", "{}");
    assert_int_equal(judge(&set, token), JWS_GOOD);
    free(token);
    key_set_done(&set);
}

/* What came over a network is known to others. */
static void
published_sets_hold_public_keys_only(void **state)
{
    (void)state;
    const struct jwk_origin origin = { .name = "address", .flags = KEY_PUBLIC };
    char *rows[] = { strdup(OCT(K32, ",\"alg\":\"HS256\"")), jwk_private_of(keys.rsa, keys.rsa),
                     jwk_private_of(keys.ed25519, keys.ed25519), jwk_of(keys.p256, "") };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct key_set set = { 0 };
        struct key_why why = { "" };
        assert_int_equal(jwk_read(&set, rows[i], strlen(rows[i]), &origin, &why), i == 3);
        assert_int_equal(set.n, i == 3);
        key_set_done(&set);
        free(rows[i]);
    }
}

static void
a_key_without_an_algorithm_gets_one(void **state)
{
    (void)state;
    static const struct {
        const char *alg, *want;
    } rows[] = { { NULL, "RS256" }, { "PS384", "PS384" }, { "ES256", "RS256" } };
    char *jwk = jwk_of(keys.rsa, "");
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct key_set set = { 0 };
        struct key_why why = { "" };
        struct jwk_origin origin = { .name = "x" };
        if (rows[i].alg)
            origin.alg = key_alg_find(rows[i].alg, strlen(rows[i].alg));
        assert_true(jwk_read(&set, jwk, strlen(jwk), &origin, &why));
        assert_int_equal(set.n, 1);
        assert_string_equal(set.v[0].alg->name, rows[i].want);
        key_set_done(&set);
    }
    struct key_set set = { 0 };
    struct key_why why = { "" };
    const struct jwk_origin any = { .name = "x", .flags = KEY_ANY_ALG };
    assert_true(jwk_read(&set, jwk, strlen(jwk), &any, &why));
    assert_int_equal(set.n, 6);
    key_set_done(&set);
    free(jwk);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64url_has_one_text_for_each_value),
        cmocka_unit_test(json_is_read_strictly),
        cmocka_unit_test(json_limits_are_exact),
        cmocka_unit_test(json_agrees_with_the_published_suite),
        cmocka_unit_test(published_vectors_verify),
        cmocka_unit_test(every_algorithm_verifies_its_own_and_no_other),
        cmocka_unit_test(no_changed_token_passes),
        cmocka_unit_test(headers_are_judged),
        cmocka_unit_test(texts_are_judged),
        cmocka_unit_test(the_length_limit_is_exact),
        cmocka_unit_test(key_ids_choose),
        cmocka_unit_test(only_eight_keys_are_tried),
        cmocka_unit_test(keys_are_not_confused),
        cmocka_unit_test(pem_keys_are_judged_when_read),
        cmocka_unit_test(exponents_are_judged_when_read),
        cmocka_unit_test(curves_have_names),
        cmocka_unit_test(secrets_are_judged_when_read),
        cmocka_unit_test(weak_secrets_are_refused),
        cmocka_unit_test(listed_secrets_are_refused),
        cmocka_unit_test(key_ids_stand_once),
        cmocka_unit_test(jwk_sets_are_judged_when_read),
        cmocka_unit_test(private_halves_of_jwks_are_not_for_everybody),
        cmocka_unit_test(published_sets_hold_public_keys_only),
        cmocka_unit_test(a_key_without_an_algorithm_gets_one),
    };
    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
