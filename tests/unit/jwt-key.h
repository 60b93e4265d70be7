/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Sets of keys, and what they say of a token. */
#ifndef JWT_KEY_H
#define JWT_KEY_H

#include "tests/unit/auth-host.h"
#include "tests/unit/auth-sign.h"

#include "plugins/auth-jwt/jws.h"

static inline enum jws_outcome
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

/* Adds what verifies for that signer. */
static inline void
add(struct key_set *set, const struct signer *s, const char *kid)
{
    struct key_why why = { "" };
    const char *path = s->pkey ? write_public("key.pem", s->pkey)
                               : write_file("secret", s->secret, s->nsecret, 0600);
    if (!key_set_add_file(set, path, key_alg_find(s->alg, strlen(s->alg)), kid, 0, &why))
        fail_msg("%s: %s", s->alg, why.text);
}

#endif
