/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Tokens as auth-jwt judges them: claims, headers, signatures, and who comes out. */
#include "config.h"

#include "tests/unit/auth-jwt.h"

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
    { "{" EXP ",\"nbf\":0,\"iat\":0," WHO "}", NULL }, /* as Keycloak writes it */
    { "{" EXP ",\"nbf\":-1," WHO "}", invalid },
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

/* Instants as JSON can write numbers, where a token may live for ever: times are the integers from
 * 0 to 2^53 - 1, however they are written. What exp and nbf and iat say to them; NULL: known. */
static const char no_time[] = "exp is no integer of seconds", over[] = "expired";
static const char no_past[] = "is ahead of the clock, or malformed";
static const struct {
    const char *value, *exp, *past;
} time_rows[] = {
    { "1800000060", NULL, NULL },
    { "1800000060.0", NULL, NULL },
    { "1.80000006e9", NULL, NULL },
    { "180000006E+1", NULL, NULL },
    { "18000000600e-1", NULL, NULL },
    { "1.5e9", over, NULL },
    { "1799999999", over, NULL },
    { "1", over, NULL },
    { "0", over, NULL },
    { "-0", over, NULL },
    { "-0.0", over, NULL },
    { "0e400", over, NULL },
    { "1700000000.5", no_time, no_past },
    { "1800000060.5", no_time, no_past },
    { "1800000060.0000005", no_time, no_past },
    { "0.5", no_time, no_past },
    { "1e-300", no_time, no_past },
    { "-1", no_time, no_past },
    { "-1800000060", no_time, no_past },
    { "-0.5", no_time, no_past },
    { "4294967296", NULL, no_past },
    { "253402300800", NULL, no_past }, /* the year 10000 */
    { "9007199254740991", NULL, no_past },
    { "9007199254740992", no_time, no_past },
    { "9007199254740993", no_time, no_past }, /* which a double cannot tell from the one before */
    { "9223372036854775807", no_time, no_past },
    { "9223372036854775808", no_time, no_past },
    { "18446744073709551616", no_time, no_past },
    { "1e300", no_time, no_past },
    { "-1e300", no_time, no_past },
    { "1e400", no_time, no_past },
    { "-1e400", no_time, no_past },
    { "null", no_time, no_past },
    { "true", no_time, no_past },
    { "false", no_time, no_past },
    { "\"\"", no_time, no_past },
    { "\"0\"", no_time, no_past },
    { "\"1800000060\"", no_time, no_past },
    { "\"2027-01-15T08:01:00Z\"", no_time, no_past },
    { "[]", no_time, no_past },
    { "[1800000060]", no_time, no_past },
    { "{}", no_time, no_past },
};

static void
judge_time(void *instance, const char *name, const char *value, const char *why)
{
    char claims[256];
    (void)snprintf(claims, sizeof(claims), "{%s\"%s\":%s," WHO "}",
                   strcmp(name, "exp") == 0 ? "" : EXP ",", name, value);
    enum kaiten_verdict verdict = identify_claims(instance, H, claims);
    if (verdict != (why ? KAITEN_REFUSED : KAITEN_KNOWN) || (why && !strstr(fake.err.text, why)))
        fail_msg("%s: %x (%s)", claims, verdict, fake.err.text);
    if (why)
        assert_string_equal(fake.detail, invalid);
    else if (strcmp(name, "exp") == 0)
        assert_int_equal(fake.principal.expires_at_ms, (int64_t)strtod(value, NULL) * 1000);
}

static void
times_are_integers_that_doubles_can_tell_apart(void **state)
{
    (void)state;
    settings();
    fake.config.v[1].number = 0; /* max_token_lifetime */
    void *instance = open_plugin();
    assert_non_null(instance);
    for (size_t i = 0; i < COUNT(time_rows); i++) {
        judge_time(instance, "exp", time_rows[i].value, time_rows[i].exp);
        judge_time(instance, "nbf", time_rows[i].value, time_rows[i].past);
        judge_time(instance, "iat", time_rows[i].value, time_rows[i].past);
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
        size_t used = (size_t)snprintf(claims, sizeof(claims),
                                       "{" EXP ",\"sub\":\"u\",\"org_id\":\"o\",\"scope\":\"");
        for (int i = 0; i < n + 1; i++)
            used += (size_t)snprintf(claims + used, sizeof(claims) - used, "read:%d ", i);
        (void)snprintf(claims + used, sizeof(claims) - used, "\"}");
        assert_int_equal(identify_claims(instance, H, claims), want);
    }
    for (int n = KAITEN_SCOPE_MAX - 1; n <= KAITEN_SCOPE_MAX + 1; n++) {
        (void)snprintf(claims, sizeof(claims),
                       "{" EXP ",\"sub\":\"u\",\"org_id\":\"o\",\"scopes\":[\"%.*s\"]}", n, text);
        assert_int_equal(identify_claims(instance, H, claims),
                         n <= KAITEN_SCOPE_MAX ? KAITEN_KNOWN : KAITEN_REFUSED);
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(claims_are_judged),
        cmocka_unit_test(times_are_integers_that_doubles_can_tell_apart),
        cmocka_unit_test(the_principal_is_what_the_claims_say),
        cmocka_unit_test(claim_limits_are_exact),
        cmocka_unit_test(issuer_audience_and_organization_are_exact),
        cmocka_unit_test(a_ceiling_leaves_what_both_grant),
        cmocka_unit_test(headers_and_signatures_are_judged),
        cmocka_unit_test(bytes_after_the_claims_are_refused),
        cmocka_unit_test(what_is_no_jwt_is_told_apart),
        cmocka_unit_test(refusals_never_repeat_the_token),
    };
    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
