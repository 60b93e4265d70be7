/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The guard of auth-jwt with one fixed key. The claims are read whether or not the signature is
 * good, since no fuzzer finds one. */
#include "config.h"

#include "plugins/auth-jwt/claims.h"
#include "plugins/auth-jwt/jws.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static unsigned char secret[] = "an HMAC secret of more than 32 bytes";
static struct key key = { .secret = secret, .nsecret = sizeof(secret) - 1 };

static const char *org_claims[] = { "kaiten_external_org_id", "org_id" };
static const char *ceiling[] = { "read:*", "write:tokens" };
static const char *ceiling_reads[] = { NULL, "read:tokens" };
static const char *audiences[] = { "kaiten" };
static const char *reserved[] = { "org_1" };

static void
judge_claims(const struct jws *jws, bool with_audience)
{
    const struct claims_policy policy = {
        .audiences = { audiences, with_audience },
        .org_claims = { org_claims, 2 },
        .reserved = { reserved, with_audience },
        .ceiling = { ceiling, 2 },
        .ceiling_reads = ceiling_reads,
        .leeway_ms = 60000,
    };
    unsigned char payload[BASE64URL_ROOM(JWS_TEXT_MAX)];
    size_t n;
    struct claims claims;
    struct claims_defect defect;
    char iss[CLAIMS_ISS_MAX + 1];
    if (!jws_payload(jws, payload, &n))
        return;
    if (claims_peek_issuer((const char *)payload, n, iss) && strlen(iss) > CLAIMS_ISS_MAX)
        abort();
    if (claims_read(&policy, (const char *)payload, n, 1000, &claims, &defect) != CLAIMS_GOOD)
        return;
    if (!*claims.subject || !*claims.organization || claims.expires_at_ms <= 1000)
        abort();
    for (size_t i = 0; i < claims.nscopes; i++)
        if (!claims_scope_covers(ceiling, 2, claims.scopes[i]))
            abort();
    claims_done(&claims);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct jws jws;
    const char *why = NULL;
    if (!key.alg) {
        key.alg = key_alg_find("HS256", 5);
        key.digest = EVP_MD_fetch(NULL, "SHA2-256", NULL);
    }
    const struct key_set keys = { &key, 1 };
    if (jws_parse((const char *)data, n, &jws, &why) != JWS_GOOD)
        return 0;
    if (strlen(jws.kid) > KEY_KID_MAX || !jws.alg)
        abort();
    (void)jws_verify(&jws, &keys, &why);
    judge_claims(&jws, n % 2);
    return 0;
}
