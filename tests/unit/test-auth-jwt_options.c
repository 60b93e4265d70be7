/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the options of auth-jwt do: keys, issuers, lifetimes, rates; and which are refused. */
#include "config.h"

#include "tests/unit/auth-jwt.h"

#include <time.h>

static void
lifetimes_follow_the_options(void **state)
{
    (void)state;
    fake_reset();
    settings();
    fake.config.v[0].number = 0;
    fake.config.v[1].number = 0;
    void *instance = open_plugin();
    assert_int_equal(identify_claims(instance, H, "{\"exp\":9007199254740991," WHO "}"),
                     KAITEN_KNOWN);
    assert_int_equal(fake.principal.expires_at_ms, INT64_C(9007199254740991000));
    assert_int_equal(identify_claims(instance, H, "{" EXP ",\"nbf\":1800000000," WHO "}"),
                     KAITEN_KNOWN);
    assert_int_equal(identify_claims(instance, H, "{" EXP ",\"nbf\":1800000001," WHO "}"),
                     KAITEN_REFUSED);
    fake.now_ms = INT64_C(1800000059999);
    assert_int_equal(identify_claims(instance, H, "{" EXP "," WHO "}"), KAITEN_KNOWN);
    fake.now_ms = INT64_C(1800000060000);
    assert_int_equal(identify_claims(instance, H, "{" EXP "," WHO "}"), KAITEN_REFUSED);
    plugin->close(instance);
}

/* An option that stops the start, and what the error must name. */
static const struct {
    const char *option, *value, *want;
} wrong_options[] = {
    { "key", "", "no file" },
    { "key", "hmac", "alg= is missing" },
    { "key", "hmac alg=none", "unknown algorithm" },
    { "key", "hmac alg=hs256", "unknown algorithm" },
    { "key", "hmac alg=HS256 alg=HS512", "twice" },
    { "key", "hmac alg=HS256 kid=a kid=b", "twice" },
    { "key", "hmac alg=HS256 kid=", "key id" },
    { "key", "hmac alg=HS256 use=sig", "use=sig" },
    { "key", "\"hmac alg=HS256", "quote" },
    { "key", "hmac alg=RS256", "no public key" },
    { "key", "absent alg=RS256", "No such file" },
    { "key", "/absent/too alg=HS256", "/absent/too" },
    { "key", "open alg=HS256", "chmod 600" },
    { "key", "short alg=HS256", "32" },
    { "jwks", "absent", "No such file" },
    { "jwks", "hmac", "JSON" },
    { "issuer", "", "empty" },
    { "issuer", "idp jwks=one", "org= is missing" },
    { "issuer", "idp org=*", "no keys" },
    { "issuer", "idp jwks=one jwks=one org=*", "stands twice" },
    { "issuer", "idp jwks=absent org=*", "No such file" },
    { "issuer", "idp jwks= org=*", "no file" },
    { "issuer", "idp jwks=one org=* org=a", "org=* stands alone" },
    { "issuer", "idp jwks=one org=a org=*", "org=* stands alone" },
    { "issuer", "idp jwks=one org=a org=a", "stands once" },
    { "issuer", "idp jwks=one org=", "1 to 255" },
    { "issuer", "idp jwks=one org=a audience=", "must not be empty" },
    { "issuer", "idp jwks=one org=a scopes=read", "read:MODULE" },
    { "issuer", "idp jwks=one org=a scopes=read:a,", "read:MODULE" },
    { "issuer", "idp jwks=one org=a scopes=read:a scopes=read:b", "twice" },
    { "issuer", "idp jwks=one org=a rate=1", "N/s, N/m or N/h" },
    { "issuer", "idp jwks=one org=a rate=1/s rate=1/s", "twice" },
    { "rate", "1/d", "N/s, N/m or N/h" },
    { "issuer", "idp jwks=one org=a colour=red", "colour=red" },
    { "issuer", "idp jwks=one kid=a org=a", "behind a key" },
    { "issuer", "idp alg=RS256 jwks=one org=a", "behind a key or a jwks" },
    { "issuer", "idp key=one org=a", "alg= is missing" },
    { "issuer", "idp jwks=one ca=one org=a", "ca=" },
    { "issuer", "idp \"jwks=one org=a", "quote" },
    { "issuer", "idp jwks=http://keys.example/ org=a", "https" },
    { "issuer", "idp jwks=http://localhost/ org=a", "https" },
    { "issuer", "idp jwks=http://127.0.0.1.example/ org=a", "https" },
    { "issuer", "idp jwks=http://[::2]/ org=a", "https" },
    { "issuer", "idp jwks=ftp://127.0.0.1/ org=a", "https" },
    { "issuer", "idp jwks=file:///etc/passwd org=a", "address" },
    { "issuer", "idp jwks=https://user:secret@keys.example/ org=a", "address" },
    { "issuer", "idp jwks=https:// org=a", "address" },
    { "issuer", "idp jwks=https://keys.example/#a org=a", "fragment" },
    { "jwks", "one kid=a", "kid=a" },
    { "jwks", "one org=a", "org=a" },
    { "audience", "", "empty" },
    { "org_claim", "", "empty" },
    { "scope_ceiling", "", "empty" },
    { "scope_ceiling", "everything", "everything" },
    { "scope_ceiling", "read: tokens", "read: tokens" },
};

static void
wrong_options_stop_the_start_and_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(wrong_options); i++) {
        void *instance = NULL;
        settings();
        (void)write_text("open", secret, 0644);
        (void)write_text("short", "short", 0600);
        char *one = jwk_of(keys.ed25519, ",\"kid\":\"k\"");
        (void)write_text("one", one, 0644);
        free(one);
        fake_set(wrong_options[i].option, wrong_options[i].value, 0);
        (void)plugin->open(&fake_host, &fake.config, &instance, &fake.err);
        if (instance || !strstr(fake.err.text, wrong_options[i].want) ||
            !strstr(fake.err.text, "kaitend.conf:17") ||
            !strstr(fake.err.text, wrong_options[i].option))
            fail_msg("%s = %s: %d \"%s\"", wrong_options[i].option, wrong_options[i].value,
                     instance != NULL, fake.err.text);
    }
    settings();
    fake.config.n = 6;
    void *instance = NULL;
    assert_int_equal(plugin->open(&fake_host, &fake.config, &instance, &fake.err), KAITEN_FAILED);
    assert_non_null(strstr(fake.err.text, "at least one key"));
}

/* What the daemon would take from no caller is no ceiling either. */
static void
a_ceiling_is_as_long_as_a_scope(void **state)
{
    (void)state;
    for (int n = KAITEN_SCOPE_MAX - 1; n <= KAITEN_SCOPE_MAX + 1; n++) {
        char scope[KAITEN_SCOPE_MAX + 2];
        void *instance = NULL;
        (void)snprintf(scope, sizeof(scope), "read:%0*d", n - 5, 0);
        settings();
        char *one = jwk_of(keys.ed25519, ",\"kid\":\"k\"");
        (void)write_text("one", one, 0644);
        free(one);
        fake_set("jwks", "one", 0);
        fake_set("scope_ceiling", scope, 0);
        enum kaiten_status status = plugin->open(&fake_host, &fake.config, &instance, &fake.err);
        assert_int_equal(status, n <= KAITEN_SCOPE_MAX ? KAITEN_DONE : KAITEN_FAILED);
        assert_true(instance || strstr(fake.err.text, "scope_ceiling"));
        plugin->close(instance);
    }
}

/* Its issuer's, or that of all issuers, or none. */
static void
a_caller_has_the_rate_of_its_issuer(void **state)
{
    static const struct {
        const char *common, *words;
        struct kaiten_rate want, want_common;
    } rows[] = {
        { NULL, "", { 0, 0, 0 }, { 0, 0, 0 } },
        { "5/m", "", { 5, 60000, 0 }, { 5, 60000, 0 } },
        { NULL, " rate=7/h,burst=2", { 7, 3600000, 2 }, { 0, 0, 0 } },
        { "5/m", " rate=none", { KAITEN_RATE_NONE, 0, 0 }, { 5, 60000, 0 } },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char *one = jwk_of(keys.ed25519, ",\"kid\":\"k\""), *line;
        const struct signer ed = { "EdDSA", keys.ed25519, NULL, 0 };
        settings();
        (void)write_text("one", one, 0644);
        assert_true(asprintf(&line, "idp jwks=one org=p%s", rows[i].words) > 0);
        fake_set("issuer", line, 0);
        if (rows[i].common)
            fake_set("rate", rows[i].common, 0);
        void *instance = open_plugin();
        assert_string_equal(fake.err.text, "");
        char *token = mint(&ed, "{\"alg\":\"EdDSA\",\"kid\":\"k\"}",
                           "{" EXP ",\"sub\":\"u\",\"org_id\":\"p\",\"iss\":\"idp\",\"scope\":\"\"}");
        if (identify(instance, token) != KAITEN_KNOWN)
            fail_msg("%s: %s", line, fake.err.text);
        assert_memory_equal(&fake.principal.rate, &rows[i].want, sizeof rows[i].want);
        assert_int_equal(identify_claims(instance, H, "{" EXP "," WHO "}"), KAITEN_KNOWN);
        assert_memory_equal(&fake.principal.rate, &rows[i].want_common, sizeof rows[i].want);
        plugin->close(instance);
        free(token);
        free(line);
        free(one);
    }
}

static void
a_jwk_set_serves_by_key_id(void **state)
{
    (void)state;
    char *a = jwk_of(keys.rsa, ",\"kid\":\"a\""), *b = jwk_of(keys.ed25519, ",\"kid\":\"b\""), *set;
    assert_true(asprintf(&set, "{\"keys\":[%s,%s]}", a, b) > 0);
    (void)write_text("set.json", set, 0644);
    void *instance = open_with("jwks", "set.json");
    const struct signer ed = { "EdDSA", keys.ed25519, NULL, 0 };
    char *token = mint(&ed, "{\"alg\":\"EdDSA\",\"kid\":\"b\"}", "{" EXP "," WHO "}");
    assert_int_equal(identify(instance, token), KAITEN_KNOWN);
    free(token);
    token = mint(&ed, "{\"alg\":\"EdDSA\",\"kid\":\"a\"}", "{" EXP "," WHO "}");
    assert_int_equal(identify(instance, token), KAITEN_REFUSED);
    free(token);
    free(set);
    free(a);
    free(b);
    plugin->close(instance);
}

static enum kaiten_verdict
ask_as(void *instance, const struct signer *s, const char *kid, const char *iss, const char *org)
{
    char header[64], claims[256];
    (void)snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"%s\"}", s->alg, kid);
    (void)snprintf(claims, sizeof(claims),
                   "{" EXP ",\"sub\":\"u\",\"org_id\":\"%s\",\"scopes\":[],\"iss\":\"%s\"}", org, iss);
    char *token = mint(s, header, claims);
    enum kaiten_verdict verdict = identify(instance, token);
    free(token);
    return verdict;
}

/* Ten issuers with keys of one id; each tries to speak for each of the others, as itself and as
 * the other. */
static void
no_issuer_speaks_for_another(void **state)
{
    enum { ISSUERS = 10 };
    EVP_PKEY *pkeys[ISSUERS];
    char lines[ISSUERS][192], iss[ISSUERS][16], org[ISSUERS][16];
    size_t asked = 0;
    (void)state;
    settings();
    for (size_t i = 0; i < ISSUERS; i++) {
        char name[16];
        pkeys[i] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
        char *jwk = jwk_of(pkeys[i], ",\"kid\":\"k\"");
        (void)snprintf(name, sizeof(name), "jwk%zu", i);
        (void)write_text(name, jwk, 0644);
        free(jwk);
        (void)snprintf(iss[i], sizeof(iss[i]), "https://%zu", i);
        (void)snprintf(org[i], sizeof(org[i]), "org-%zu", i);
        (void)snprintf(lines[i], sizeof(lines[i]), "%s jwks=%s org=%s", iss[i], name, org[i]);
        fake_set("issuer", lines[i], 0);
    }
    void *instance = open_plugin();
    for (size_t by = 0; by < ISSUERS; by++)
        for (size_t as = 0; as < ISSUERS; as++)
            for (size_t to = 0; to < ISSUERS; to++, asked++) {
                const struct signer s = { "EdDSA", pkeys[by], NULL, 0 };
                enum kaiten_verdict want = by == as && as == to ? KAITEN_KNOWN : KAITEN_REFUSED;
                if (ask_as(instance, &s, "k", iss[as], org[to]) != want)
                    fail_msg("%zu as %zu for %zu: %s", by, as, to, fake.err.text);
            }
    assert_int_equal(asked, 1000);
    /* The common key: for whoever has no line, and for organizations that no line names. */
    assert_int_equal(ask_as(instance, &hmac, "x", "https://other", "free"), KAITEN_KNOWN);
    assert_int_equal(ask_as(instance, &hmac, "x", "https://other", "org-1"), KAITEN_REFUSED);
    assert_int_equal(ask_as(instance, &hmac, "x", "https://1", "org-1"), KAITEN_REFUSED);
    assert_int_equal(ask_as(instance, &hmac, "x", "https://1", "free"), KAITEN_REFUSED);
    plugin->close(instance);
    for (size_t i = 0; i < ISSUERS; i++)
        EVP_PKEY_free(pkeys[i]);
}

static void
without_common_keys_only_lines_count(void **state)
{
    (void)state;
    settings();
    char *one = jwk_of(keys.ed25519, ",\"kid\":\"k\"");
    (void)write_text("one", one, 0644);
    free(one);
    fake.config.n--; /* the key */
    fake_set("issuer", "https://1 jwks=one org=*", 0);
    void *instance = open_plugin();
    const struct signer s = { "EdDSA", keys.ed25519, NULL, 0 };
    assert_int_equal(ask_as(instance, &s, "k", "https://1", "a"), KAITEN_KNOWN);
    assert_int_equal(ask_as(instance, &s, "k", "https://2", "a"), KAITEN_REFUSED);
    assert_int_equal(ask_as(instance, &hmac, "k", "https://2", "a"), KAITEN_REFUSED);
    assert_int_equal(identify_claims(instance, H, "{" EXP "," WHO "}"), KAITEN_REFUSED);
    assert_int_equal(identify_claims(instance, H, "no claims"), KAITEN_REFUSED);
    plugin->close(instance);
}

/* Waits for a verdict that a thread of the plugin brings about. */
static bool
becomes(void *instance, const struct signer *s, const char *kid, enum kaiten_verdict want)
{
    const struct timespec moment = { 0, 5 * 1000 * 1000 };
    for (int i = 0; i < 4000; i++) {
        if (ask_as(instance, s, kid, "https://1", "a") == want)
            return true;
        (void)nanosleep(&moment, NULL);
    }
    return false;
}

static void
replace_jwk(EVP_PKEY *pkey, const char *more)
{
    char *jwk = jwk_of(pkey, more);
    const char *from = write_text("one.new", jwk, 0644);
    assert_int_equal(rename(from, path_of("one")), 0);
    free(jwk);
}

static void
keys_follow_their_file(void **state)
{
    (void)state;
    const struct signer a = { "EdDSA", keys.ed25519, NULL, 0 }, b = { "EdDSA", keys.ed448, NULL, 0 };
    settings();
    replace_jwk(keys.ed25519, ",\"kid\":\"a\"");
    fake_set("issuer", "https://1 jwks=one org=*", 0);
    void *instance = open_plugin();
    assert_int_equal(ask_as(instance, &a, "a", "https://1", "a"), KAITEN_KNOWN);
    assert_int_equal(atomic_load(&fake.forgotten), 0);
    replace_jwk(keys.ed448, ",\"kid\":\"b\"");
    assert_true(becomes(instance, &b, "b", KAITEN_KNOWN));
    assert_int_equal(ask_as(instance, &a, "a", "https://1", "a"), KAITEN_REFUSED);
    plugin->reload(instance); /* the same once more: nothing to forget */
    replace_jwk(keys.ed25519, ",\"kid\":\"a\"");
    plugin->reload(instance);
    assert_true(becomes(instance, &a, "a", KAITEN_KNOWN));
    assert_int_equal(ask_as(instance, &b, "b", "https://1", "a"), KAITEN_REFUSED);
    plugin->close(instance);
    assert_int_equal(atomic_load(&fake.forgotten), 2);
}

static double
microseconds(void *instance, const struct signer *s, const char *header)
{
    enum { ROUNDS = 200 };
    struct timespec t0, t1;
    char *token = mint(s, header, "{" EXP "," WHO "}");
    struct kaiten_caller caller = { .size = sizeof(caller), .listener = KAITEN_LISTENER_HTTP };
    caller.credential = (struct kaiten_bytes){ token, strlen(token) };
    (void)clock_gettime(CLOCK_MONOTONIC, &t0);
    for (int i = 0; i < ROUNDS; i++)
        assert_int_equal(plugin->identify(instance, &caller, NULL, &fake.err), KAITEN_KNOWN);
    (void)clock_gettime(CLOCK_MONOTONIC, &t1);
    free(token);
    return ((double)(t1.tv_sec - t0.tv_sec) * 1e9 + (double)(t1.tv_nsec - t0.tv_nsec)) / 1e3 /
           ROUNDS;
}

/* Asserts nothing about time: a busy machine is no defect. */
static void
costs_are_told(void **state)
{
    (void)state;
    settings();
    (void)write_public("rsa.pem", keys.rsa);
    (void)write_public("ec.pem", keys.p256);
    fake_set("key", "rsa.pem alg=RS256", 0);
    fake_set("key", "ec.pem alg=ES256", 0);
    void *instance = open_plugin();
    const struct signer rsa = { "RS256", keys.rsa, NULL, 0 }, ec = { "ES256", keys.p256, NULL, 0 };
    print_message("microseconds per identify: HS256 %.1f, RS256 %.1f, ES256 %.1f\n",
                  microseconds(instance, &hmac, "{\"alg\":\"HS256\"}"),
                  microseconds(instance, &rsa, "{\"alg\":\"RS256\"}"),
                  microseconds(instance, &ec, "{\"alg\":\"ES256\"}"));
    plugin->close(instance);
}

static void
says_what_it_is(void **state)
{
    (void)state;
    fake_check_header(plugin, KAITEN_AUTH_CACHE);
    plugin->close(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ceiling_is_as_long_as_a_scope),
        cmocka_unit_test(a_caller_has_the_rate_of_its_issuer),
        cmocka_unit_test(lifetimes_follow_the_options),
        cmocka_unit_test(wrong_options_stop_the_start_and_are_named),
        cmocka_unit_test(a_jwk_set_serves_by_key_id),
        cmocka_unit_test(no_issuer_speaks_for_another),
        cmocka_unit_test(without_common_keys_only_lines_count),
        cmocka_unit_test(keys_follow_their_file),
        cmocka_unit_test(costs_are_told),
        cmocka_unit_test(says_what_it_is),
    };
    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
