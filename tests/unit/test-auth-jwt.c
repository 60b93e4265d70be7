/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/unit/auth-host.h"
#include "tests/unit/auth-sign.h"

#include <time.h>

TEST_PLUGIN(jwt);

#define H   "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define WHO "\"sub\":\"user_1\",\"kaiten_external_org_id\":\"org_1\",\"scopes\":[\"read:tokens\"]"
#define EXP "\"exp\":1800000060"

static const struct signer hmac = { "HS256", NULL, secret, sizeof(secret) - 1 };

/* Options that every instance has; a test adds its own before open_plugin(). */
static void
settings(void)
{
    fake_reset();
    fake_set("leeway", NULL, 60000);
    fake_set("max_token_lifetime", NULL, 86400000);
    fake_set("jwks_refresh", NULL, 600000);
    fake_set("jwks_max_age", NULL, 86400000);
    fake_set("jwks_cooldown", NULL, 30000);
    fake_set("jwks_timeout", NULL, 10000);
    (void)snprintf(fake.where, sizeof(fake.where), "%s/", folder);
    (void)write_text("hmac", secret, 0600);
    fake_set("key", "hmac alg=HS256", 0);
}

static void *
open_plugin(void)
{
    void *instance = NULL;
    enum kaiten_status status = plugin->open(&fake_host, &fake.config, &instance, &fake.err);
    assert_int_equal(status == KAITEN_DONE, instance != NULL);
    assert_int_equal(instance == NULL, fake.err.text[0] != 0);
    return instance;
}

static void *
open_with(const char *name, const char *text)
{
    settings();
    if (name)
        fake_set(name, text, 0);
    void *instance = open_plugin();
    if (!instance)
        fail_msg("%s = %s: %s", name ? name : "-", text ? text : "-", fake.err.text);
    return instance;
}

static enum kaiten_verdict
identify_bytes(void *instance, const void *p, size_t n)
{
    struct kaiten_caller caller = { .size = sizeof(caller), .listener = KAITEN_LISTENER_HTTP };
    /* Exactly as long as it is, for the sanitizers. */
    char *copy = malloc(n ? n : 1);
    memcpy(copy, p, n);
    caller.credential = (struct kaiten_bytes){ copy, n };
    fake_forget();
    enum kaiten_verdict verdict = plugin->identify(instance, &caller, NULL, &fake.err);
    assert_int_equal(fake.nprincipals, verdict == KAITEN_KNOWN);
    assert_int_equal(verdict == KAITEN_REFUSED, fake.code[0] != 0);
    assert_int_equal(verdict == KAITEN_REFUSED, fake.err.text[0] != 0);
    free(copy);
    return verdict;
}

static enum kaiten_verdict
identify(void *instance, const char *token)
{
    return identify_bytes(instance, token, strlen(token));
}

static enum kaiten_verdict
identify_claims(void *instance, const char *header, const char *claims)
{
    char *token = mint(&hmac, header, claims);
    enum kaiten_verdict verdict = identify(instance, token);
    free(token);
    return verdict;
}

static const char invalid[] = "Invalid token", unreadable[] = "Failed to parse JWT";

/* Claims under a good signature; detail NULL: known. */
static const struct {
    const char *claims, *detail;
} claim_rows[] = {
    { "{" EXP "," WHO "}", NULL },
    { "{" WHO "}", "Missing required JWT claims (exp)" },
    { "{\"exp\":null," WHO "}", invalid },
    { "{\"exp\":\"1800000060\"," WHO "}", invalid },
    { "{\"exp\":1800000060.5," WHO "}", invalid },
    { "{\"exp\":true," WHO "}", invalid },
    { "{\"exp\":[1800000060]," WHO "}", invalid },
    { "{\"exp\":0," WHO "}", invalid },
    { "{\"exp\":-1," WHO "}", invalid },
    { "{\"exp\":1," WHO "}", invalid },
    { "{\"exp\":1e999," WHO "}", invalid },
    { "{\"exp\":-1e999," WHO "}", invalid },
    { "{\"exp\":9007199254740994," WHO "}", invalid },
    { "{\"exp\":1800000001," WHO "}", NULL },
    { "{\"exp\":1800000000," WHO "}", invalid },
    { "{\"exp\":1799999999," WHO "}", invalid },
    { "{\"exp\":1800086400," WHO "}", NULL },
    { "{\"exp\":1800086401," WHO "}", invalid },
    { "{" EXP ",\"exp\":1900000000," WHO "}", unreadable },
    { "{" EXP ",\"\\u0065xp\":1900000000," WHO "}", unreadable },
    { "{\"Exp\":1800000060," WHO "}", "Missing required JWT claims (exp)" },
    { "{" EXP ",\"nbf\":1800000060," WHO "}", NULL },
    { "{" EXP ",\"nbf\":1800000061," WHO "}", invalid },
    { "{" EXP ",\"nbf\":\"0\"," WHO "}", invalid },
    { "{" EXP ",\"nbf\":null," WHO "}", invalid },
    { "{" EXP ",\"iat\":1800000060," WHO "}", NULL },
    { "{" EXP ",\"iat\":1800000061," WHO "}", invalid },
    { "{" EXP ",\"iat\":1.5," WHO "}", invalid },
    { "{" EXP ",\"iat\":1700000000,\"nbf\":1," WHO "}", NULL },
    { "", unreadable },
    { "x", unreadable },
    { "[]", unreadable },
    { "[{" EXP "," WHO "}]", unreadable },
    { "\"{}\"", unreadable },
    { "{" EXP "," WHO "}x", unreadable },
    { "{" EXP "," WHO "}\n", NULL },
    { "{" EXP ",\"x\":\"\\u0000\"," WHO "}", unreadable },
    { "{" EXP ",\"x\":\"\xff\"," WHO "}", unreadable },
    { "{" EXP ",\"x\":01," WHO "}", unreadable },
    { "{" EXP ",\"x\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]," WHO "}", unreadable },
    { "{" EXP ",\"kaiten_external_org_id\":\"o\",\"scopes\":[]}",
      "Missing required JWT claims (sub)" },
    { "{" EXP ",\"sub\":\"\",\"kaiten_external_org_id\":\"o\",\"scopes\":[]}",
      "Missing required JWT claims (sub)" },
    { "{" EXP ",\"sub\":\" \\t \",\"kaiten_external_org_id\":\"o\",\"scopes\":[]}",
      "Missing required JWT claims (sub)" },
    { "{" EXP ",\"sub\":7,\"kaiten_external_org_id\":\"o\",\"scopes\":[]}",
      "Missing required JWT claims (sub)" },
    { "{" EXP ",\"sub\":[\"u\"],\"kaiten_external_org_id\":\"o\",\"scopes\":[]}",
      "Missing required JWT claims (sub)" },
    { "{" EXP ",\"sub\":\"a\\nb\",\"kaiten_external_org_id\":\"o\",\"scopes\":[]}",
      "Missing required JWT claims (sub)" },
    { "{" EXP ",\"sub\":\"u\",\"scopes\":[]}",
      "Missing required JWT claims (kaiten_external_org_id)" },
    { "{" EXP ",\"sub\":\"u\",\"kaiten_external_org_id\":\"\",\"scopes\":[]}",
      "Missing required JWT claims (kaiten_external_org_id)" },
    { "{" EXP ",\"sub\":\"u\",\"kaiten_external_org_id\":null,\"org_id\":\"o\",\"scopes\":[]}",
      "Missing required JWT claims (kaiten_external_org_id)" },
    { "{" EXP ",\"sub\":\"u\",\"org_id\":\"o\",\"scopes\":[]}", NULL },
    { "{" EXP ",\"sub\":\"u\",\"organization_id\":\"o\",\"scopes\":[]}", NULL },
    { "{" EXP ",\"sub\":\"u\",\"Org_Id\":\"o\",\"scopes\":[]}",
      "Missing required JWT claims (kaiten_external_org_id)" },
    { "{" EXP ",\"sub\":\"u\",\"org_id\":\"o\"}", "Missing required JWT claims (scopes)" },
    { "{" EXP ",\"sub\":\"u\",\"org_id\":\"o\",\"scopes\":\"read:*\"}",
      "Missing required JWT claims (scopes)" },
    { "{" EXP ",\"sub\":\"u\",\"org_id\":\"o\",\"scopes\":null,\"scope\":\"read:*\"}",
      "Missing required JWT claims (scopes)" },
    { "{" EXP ",\"sub\":\"u\",\"org_id\":\"o\",\"scopes\":{\"a\":\"b\"}}",
      "Missing required JWT claims (scopes)" },
    { "{" EXP ",\"sub\":\"u\",\"org_id\":\"o\",\"scope\":[\"read:*\"]}",
      "Missing required JWT claims (scopes)" },
    { "{" EXP ",\"sub\":\"u\",\"org_id\":\"o\",\"scopes\":[\"read:*\",7]}",
      "Scopes must be an array of strings" },
    { "{" EXP ",\"sub\":\"u\",\"org_id\":\"o\",\"scopes\":[[\"read:*\"]]}",
      "Scopes must be an array of strings" },
    { "{" EXP ",\"sub\":\"u\",\"org_id\":\"o\",\"scope\":\"\"}", NULL },
    { "{" EXP ",\"name\":7,\"email\":null," WHO "}", NULL },
    { "{" EXP ",\"aud\":7,\"iss\":7," WHO "}", NULL },
};

static const char *
code_of(const char *detail)
{
    if (strncmp(detail, "Missing", 7) == 0)
        return "Auth.MissingClaims";
    return strncmp(detail, "Scopes", 6) == 0 ? "Auth.InvalidScopes" : "Auth.InvalidToken";
}

static void
claims_are_judged(void **state)
{
    (void)state;
    void *instance = open_with(NULL, NULL);
    for (size_t i = 0; i < COUNT(claim_rows); i++) {
        const char *detail = claim_rows[i].detail;
        enum kaiten_verdict verdict = identify_claims(instance, H, claim_rows[i].claims);
        if (verdict != (detail ? KAITEN_REFUSED : KAITEN_KNOWN) ||
            (detail &&
             (strcmp(fake.detail, detail) != 0 || strcmp(fake.code, code_of(detail)) != 0)))
            fail_msg("%s: %x %s \"%s\" (%s)", claim_rows[i].claims, verdict, fake.code, fake.detail,
                     fake.err.text);
    }
    plugin->close(instance);
}

static void
the_principal_is_what_the_claims_say(void **state)
{
    (void)state;
    void *instance = open_with(NULL, NULL);
    assert_int_equal(
        identify_claims(instance, H,
                        "{" EXP ",\"sub\":\" user_1 \",\"kaiten_external_org_id\":"
                        "\"\\torg_1\",\"org_id\":\"wrong\",\"scopes\":[\"read:*\","
                        "\"write:tokens\",\"read:*\",\"nonsense\"],\"scope\":\"wrong\","
                        "\"name\":\"\\u00c4nne\",\"email\":\"a@b\"}"),
        KAITEN_KNOWN);
    assert_string_equal(fake.subject, "user_1");
    assert_string_equal(fake.organization, "org_1");
    assert_string_equal(fake.name, "\xc3\x84nne");
    assert_string_equal(fake.email, "a@b");
    assert_string_equal(fake.scopes, "read:*,write:tokens,nonsense");
    assert_string_equal(fake.proof, "jwt");
    assert_int_equal(fake.principal.expires_at_ms, INT64_C(1800000060000));
    assert_int_equal(fake.principal.verify, KAITEN_VERIFY_NO);
    assert_int_equal(fake.principal.max_lifetime_ms, 0);
    assert_int_equal(identify_claims(instance, H,
                                     "{" EXP ",\"sub\":\"u\",\"organization_id\":\"c\",\"org_id\":"
                                     "\"b\",\"scope\":\" read:a  write:b \",\"name\":\"\"}"),
                     KAITEN_KNOWN);
    assert_string_equal(fake.organization, "b");
    assert_string_equal(fake.scopes, "read:a,write:b");
    assert_string_equal(fake.name, "-");
    assert_string_equal(fake.email, "-");
    plugin->close(instance);
}

static void
claim_limits_are_exact(void **state)
{
    char text[600], claims[8192];
    (void)state;
    void *instance = open_with(NULL, NULL);
    memset(text, 'x', sizeof(text));
    for (int n = 254; n <= 256; n++) {
        enum kaiten_verdict want = n <= 255 ? KAITEN_KNOWN : KAITEN_REFUSED;
        (void)snprintf(claims, sizeof(claims),
                       "{" EXP ",\"sub\":\"%.*s\",\"org_id\":\"o\",\"scopes\":[]}", n, text);
        assert_int_equal(identify_claims(instance, H, claims), want);
        (void)snprintf(claims, sizeof(claims),
                       "{" EXP ",\"sub\":\"u\",\"org_id\":\"%.*s\",\"scopes\":[]}", n, text);
        assert_int_equal(identify_claims(instance, H, claims), want);
        (void)snprintf(claims, sizeof(claims),
                       "{" EXP ",\"sub\":\"u\",\"org_id\":\"o\",\"scopes\":[\"%.*s\"]}", n, text);
        assert_int_equal(identify_claims(instance, H, claims), want);
        size_t used = (size_t)snprintf(claims, sizeof(claims),
                                       "{" EXP ",\"sub\":\"u\",\"org_id\":\"o\",\"scope\":\"");
        for (int i = 0; i < n + 1; i++)
            used += (size_t)snprintf(claims + used, sizeof(claims) - used, "read:%d ", i);
        (void)snprintf(claims + used, sizeof(claims) - used, "\"}");
        assert_int_equal(identify_claims(instance, H, claims), want);
    }
    plugin->close(instance);
}

static const struct {
    const char *option, *value, *claims;
    bool good;
} origin_rows[] = {
    { "issuer", "https://id/", "\"iss\":\"https://id/\"", true },
    { "issuer", "https://id/", "\"iss\":\"https://id\"", false },
    { "issuer", "https://id/", "\"iss\":\"HTTPS://ID/\"", false },
    { "issuer", "https://id/", "\"iss\":[\"https://id/\"]", false },
    { "issuer", "https://id/", "\"iss\":null", false },
    { "issuer", "https://id/", "\"x\":1", false },
    { "audience", "kaiten", "\"aud\":\"kaiten\"", true },
    { "audience", "kaiten", "\"aud\":\"kaiten2\"", false },
    { "audience", "kaiten", "\"aud\":[\"a\",\"kaiten\"]", true },
    { "audience", "kaiten", "\"aud\":[\"a\"]", false },
    { "audience", "kaiten", "\"aud\":[]", false },
    { "audience", "kaiten", "\"aud\":[\"kaiten\",7]", false },
    { "audience", "kaiten", "\"aud\":{\"kaiten\":\"kaiten\"}", false },
    { "audience", "kaiten", "\"aud\":7", false },
    { "audience", "kaiten", "\"x\":1", false },
    { "org_claim", "tenant", "\"tenant\":\"t\"", true },
    { "org_claim", "tenant", "\"x\":1", false },
};

static void
issuer_audience_and_organization_are_exact(void **state)
{
    char claims[512];
    (void)state;
    for (size_t i = 0; i < COUNT(origin_rows); i++) {
        void *instance = open_with(origin_rows[i].option, origin_rows[i].value);
        (void)snprintf(claims, sizeof(claims), "{" EXP "," WHO ",%s}", origin_rows[i].claims);
        if ((identify_claims(instance, H, claims) == KAITEN_KNOWN) != origin_rows[i].good)
            fail_msg("%s = %s: %s", origin_rows[i].option, origin_rows[i].value, claims);
        plugin->close(instance);
    }
    settings();
    fake_set("issuer", "a", 0);
    fake_set("issuer", "b", 0);
    void *instance = open_plugin();
    assert_int_equal(identify_claims(instance, H, "{" EXP "," WHO ",\"iss\":\"b\"}"), KAITEN_KNOWN);
    plugin->close(instance);
}

static const struct {
    const char *ceiling, *held, *want;
} ceiling_rows[] = {
    { "write:*", "read:a write:b delete:c", "read:a,write:b,delete:c" },
    { "read:*", "read:a write:a read:* delete:a", "read:*,read:a" },
    { "read:*", "write:*", "read:*" },
    { "read:a", "write:*", "read:a" },
    { "read:a", "write:a", "read:a" },
    { "read:a", "read:a read:b", "read:a" },
    { "write:a", "read:*", "read:a" },
    { "write:a", "read:a", "read:a" },
    { "write:a", "write:*", "write:a" },
    { "write:a", "delete:a", "" },
    { "delete:*", "delete:a", "" },
    { "delete:a", "write:*", "delete:a" },
    { "read:*,write:tokens", "write:*", "read:*,write:tokens" },
    { "read:*,write:tokens", "write:tokens write:other", "write:tokens,read:other" },
    { "read:a", "nonsense", "" },
};

static void
a_ceiling_leaves_what_both_grant(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(ceiling_rows); i++) {
        char claims[512], ceiling[128], *rest = ceiling;
        settings();
        (void)snprintf(ceiling, sizeof(ceiling), "%s", ceiling_rows[i].ceiling);
        for (char *scope; (scope = strsep(&rest, ",")) != NULL;)
            fake_set("scope_ceiling", scope, 0);
        void *instance = open_plugin();
        assert_non_null(instance);
        (void)snprintf(claims, sizeof(claims),
                       "{" EXP ",\"sub\":\"u\",\"org_id\":\"o\",\"scope\":\"%s\"}",
                       ceiling_rows[i].held);
        assert_int_equal(identify_claims(instance, H, claims), KAITEN_KNOWN);
        if (strcmp(fake.scopes, ceiling_rows[i].want) != 0)
            fail_msg("%s under %s: %s", ceiling_rows[i].held, ceiling_rows[i].ceiling, fake.scopes);
        plugin->close(instance);
    }
}

/* Good claims under headers and signers that are not. */
static void
headers_and_signatures_are_judged(void **state)
{
    (void)state;
    settings();
    (void)write_public("rsa.pem", keys.rsa);
    fake_set("key", "\"rsa.pem\" alg=RS256 kid=r1", 0);
    void *instance = open_plugin();
    assert_non_null(instance);
    char *pem = public_pem(keys.rsa);
    const struct signer rsa = { "RS256", keys.rsa, NULL, 0 };
    const struct signer confused = { "HS256", NULL, pem, strlen(pem) };
    const struct signer empty = { "HS256", NULL, "", 0 }, none = { NULL, NULL, NULL, 0 };
    const struct signer weak = { "RS256", keys.rsa_1024, NULL, 0 };
    const struct {
        const struct signer *by;
        const char *header, *detail; /* NULL: known */
    } rows[] = {
        { &hmac, H, NULL },
        { &rsa, "{\"alg\":\"RS256\"}", NULL },
        { &rsa, "{\"alg\":\"RS256\",\"kid\":\"r1\"}", NULL },
        { &hmac, "{\"alg\":\"HS256\",\"typ\":\"at+jwt\"}", NULL },
        { &hmac, "{\"alg\":\"HS256\",\"typ\":\"application/at+jwt\"}", NULL },
        { &hmac, "{\"alg\":\"HS256\",\"typ\":\"jwt\"}", NULL },
        { &rsa, "{\"alg\":\"RS256\",\"kid\":\"r2\"}", invalid },
        { &confused, H, invalid },
        { &empty, H, invalid },
        { &none, H, invalid },
        { &none, "{\"alg\":\"none\"}", invalid },
        { &none, "{\"alg\":\"None\",\"typ\":\"JWT\"}", invalid },
        { &none, "{\"alg\":\"NoNe\"}", invalid },
        { &hmac, "{\"alg\":\"hs256\"}", invalid },
        { &hmac, "{\"alg\":\"none\"}", invalid },
        { &weak, "{\"alg\":\"RS256\"}", invalid },
        { &rsa, "{\"alg\":\"PS256\"}", invalid },
        { &hmac, "{\"alg\":\"HS256\",\"crit\":[\"x\"]}", invalid },
        { &hmac, "{\"alg\":\"HS256\",\"typ\":\"id+jwt\"}", invalid },
        { &hmac, "{\"alg\":\"HS256\",\"typ\":\"JWS\"}", invalid },
        { &hmac, "{\"alg\":\"HS256\",\"typ\":\"JWT \"}", invalid },
        { &hmac, "{\"alg\":\"HS256\",\"typ\":[]}", invalid },
        { &hmac, "{\"alg\":\"HS256\",\"alg\":\"none\"}", unreadable },
        { &hmac, "{\"alg\":\"HS256\"}\n{}", unreadable },
        { &hmac, "alg", unreadable },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char *token = mint(rows[i].by, rows[i].header, "{" EXP "," WHO "}");
        enum kaiten_verdict verdict = identify(instance, token);
        if (verdict != (rows[i].detail ? KAITEN_REFUSED : KAITEN_KNOWN) ||
            (rows[i].detail && strcmp(fake.detail, rows[i].detail) != 0))
            fail_msg("%zu %s: %x \"%s\" (%s)", i, rows[i].header, verdict, fake.detail,
                     fake.err.text);
        free(token);
    }
    free(pem);
    plugin->close(instance);
}

static void
bytes_after_the_claims_are_refused(void **state)
{
    static const char body[] = "{" EXP "," WHO "}"; /* with its NUL */
    (void)state;
    void *instance = open_with(NULL, NULL);
    char *token = mint_bytes(&hmac, H, strlen(H), body, sizeof(body) - 1);
    assert_int_equal(identify(instance, token), KAITEN_KNOWN);
    free(token);
    token = mint_bytes(&hmac, H, strlen(H), body, sizeof(body));
    assert_int_equal(identify(instance, token), KAITEN_REFUSED);
    free(token);
    token = mint_bytes(&hmac, H "\0", strlen(H) + 1, body, sizeof(body) - 1);
    assert_int_equal(identify(instance, token), KAITEN_REFUSED);
    free(token);
    plugin->close(instance);
}

static void
what_is_no_jwt_is_told_apart(void **state)
{
    (void)state;
    void *instance = open_with(NULL, NULL);
    char *token = mint(&hmac, H, "{" EXP "," WHO "}"), *text = NULL;
    assert_int_equal(identify(instance, ""), KAITEN_NOT_MINE);
    assert_int_equal(identify(instance, "ksh_0123456789"), KAITEN_NOT_MINE);
    assert_int_equal(identify(instance, "ksh_"), KAITEN_NOT_MINE);
    static const char *const texts[] = { "ksh", "x", "ksm_abc", "a.b.c", "....", "null", "\xff" };
    for (size_t i = 0; i < COUNT(texts); i++) {
        assert_int_equal(identify(instance, texts[i]), KAITEN_REFUSED);
        assert_string_equal(fake.code, "Auth.InvalidToken");
        assert_string_equal(fake.detail, unreadable);
    }
    static const char *const tails[] = { "\n", "=", ".", ".e30", " ", "+", "!" };
    for (size_t i = 0; i < COUNT(tails); i++) {
        assert_true(asprintf(&text, "%s%s", token, tails[i]) > 0);
        assert_int_equal(identify(instance, text), KAITEN_REFUSED);
        assert_string_equal(fake.detail, unreadable);
        free(text);
    }
    /* One NUL byte behind, and nine megabytes. */
    assert_int_equal(identify_bytes(instance, token, strlen(token) + 1), KAITEN_REFUSED);
    size_t n = 9u << 20;
    text = malloc(n);
    memset(text, 'A', n);
    memcpy(text, token, strlen(token));
    assert_int_equal(identify_bytes(instance, text, n), KAITEN_REFUSED);
    assert_string_equal(fake.detail, unreadable);
    free(text);
    free(token);
    plugin->close(instance);
}

static void
refusals_never_repeat_the_token(void **state)
{
    (void)state;
    void *instance = open_with(NULL, NULL);
    char *token = mint(&hmac, H, "{\"exp\":5," WHO "}");
    assert_int_equal(identify(instance, token), KAITEN_REFUSED);
    for (char *part = strtok(token, "."); part; part = strtok(NULL, ".")) {
        part[10] = 0;
        assert_null(strstr(fake.err.text, part));
        assert_null(strstr(fake.detail, part));
    }
    free(token);
    plugin->close(instance);
}

static void
lifetimes_follow_the_options(void **state)
{
    (void)state;
    fake_reset();
    settings();
    fake.config.v[0].number = 0;
    fake.config.v[1].number = 0;
    void *instance = open_plugin();
    assert_int_equal(identify_claims(instance, H, "{\"exp\":9007199254740992," WHO "}"),
                     KAITEN_KNOWN);
    assert_int_equal(fake.principal.expires_at_ms, INT64_C(9007199254740992000));
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
    assert_int_equal(plugin->size, sizeof(struct kaiten_auth));
    assert_int_equal(plugin->abi, KAITEN_AUTH_ABI);
    assert_int_equal(plugin->caps, KAITEN_AUTH_CACHE);
    assert_int_equal(plugin->threads, KAITEN_THREADS_PARALLEL);
    plugin->close(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(claims_are_judged),
        cmocka_unit_test(the_principal_is_what_the_claims_say),
        cmocka_unit_test(claim_limits_are_exact),
        cmocka_unit_test(issuer_audience_and_organization_are_exact),
        cmocka_unit_test(a_ceiling_leaves_what_both_grant),
        cmocka_unit_test(a_caller_has_the_rate_of_its_issuer),
        cmocka_unit_test(headers_and_signatures_are_judged),
        cmocka_unit_test(bytes_after_the_claims_are_refused),
        cmocka_unit_test(what_is_no_jwt_is_told_apart),
        cmocka_unit_test(refusals_never_repeat_the_token),
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
