/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* An instance of auth-jwt in a pretended daemon, and tokens for it. */
#ifndef AUTH_JWT_H
#define AUTH_JWT_H

#include "tests/unit/auth-host.h"
#include "tests/unit/auth-sign.h"

TEST_PLUGIN(jwt);

#define H   "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define WHO "\"sub\":\"user_1\",\"kaiten_external_org_id\":\"org_1\",\"scopes\":[\"read:tokens\"]"
#define EXP "\"exp\":1800000060"

static const struct signer hmac = { "HS256", NULL, secret, sizeof(secret) - 1 };

/* Options that every instance has; a test adds its own before open_plugin(). */
static inline void
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

static inline void *
open_plugin(void)
{
    void *instance = NULL;
    enum kaiten_status status = plugin->open(&fake_host, &fake.config, &instance, &fake.err);
    assert_int_equal(status == KAITEN_DONE, instance != NULL);
    assert_int_equal(instance == NULL, fake.err.text[0] != 0);
    return instance;
}

static inline void *
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

static inline enum kaiten_verdict
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

static inline enum kaiten_verdict
identify(void *instance, const char *token)
{
    return identify_bytes(instance, token, strlen(token));
}

static inline enum kaiten_verdict
identify_claims(void *instance, const char *header, const char *claims)
{
    char *token = mint(&hmac, header, claims);
    enum kaiten_verdict verdict = identify(instance, token);
    free(token);
    return verdict;
}

#endif
