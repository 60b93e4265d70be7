/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/kaiten-auth.h"

#include "plugins/auth-jwt/issuer.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>

static const struct kaiten_option options[] = {
    { "key", KAITEN_OPT_LIST, 0, NULL, 0, 0,
      "FILE alg=ALG [kid=ID]: a public key or certificate in PEM, or the secret of an HS "
      "algorithm." },
    { "jwks", KAITEN_OPT_LIST, 0, NULL, 0, 0,
      "FILE-OR-URL [alg=ALG] [ca=FILE]: a JWK Set or a single JWK." },
    { "issuer", KAITEN_OPT_LIST, 0, NULL, 0, 0,
      "Accepted iss, compared exactly; ISS [key=FILE alg=ALG [kid=ID]]... [jwks=FILE-OR-URL "
      "[alg=ALG] [ca=FILE]]... org=ID... [audience=TEXT]... [scopes=A,B] [rate=RATE]: one with "
      "keys of its own, for those organizations only." },
    { "audience", KAITEN_OPT_LIST, 0, NULL, 0, 0,
      "Accepted aud, compared exactly; not set: aud is not looked at." },
    { "leeway", KAITEN_OPT_DURATION, 0, "60s", 0, 10 * 60 * 1000,
      "How far nbf and iat may lie ahead of the clock." },
    { "max_token_lifetime", KAITEN_OPT_DURATION, 0, "24h", 0, 0,
      "A token whose exp lies further ahead is refused; 0: no such limit." },
    { "org_claim", KAITEN_OPT_LIST, 0, NULL, 0, 0,
      "Claims that may name the organization, the first one present counts; not set: "
      "kaiten_external_org_id, org_id, organization_id." },
    { "scope_ceiling", KAITEN_OPT_LIST, 0, NULL, 0, 0,
      "A scope that callers may have at most; not set: what their tokens say." },
    { "rate", KAITEN_OPT_STRING, 0, NULL, 0, 0,
      "How often each caller may ask: 200/s, 600/m,burst=50, none; not set: as caller_rate of "
      "[kaitend] says." },
    { "jwks_refresh", KAITEN_OPT_DURATION, 0, "10m", 100, INT64_C(30) * 86400 * 1000,
      "How often the address of a JWK Set is asked again." },
    { "jwks_max_age", KAITEN_OPT_DURATION, 0, "24h", 100, INT64_C(30) * 86400 * 1000,
      "How long the keys of an address are trusted after its last answer." },
    { "jwks_cooldown", KAITEN_OPT_DURATION, 0, "30s", 100, 3600 * 1000,
      "The least time between two questions because of a key id that is not known." },
    { "jwks_timeout", KAITEN_OPT_DURATION, 0, "10s", 100, 60 * 1000,
      "How long an address may take to answer." },
    { 0 }
};

/* How long the start waits for addresses that do not answer at once. */
enum { START_WAIT_MS = 2000 };

struct instance {
    const struct kaiten_host *host;
    struct keyrings *rings;
    struct issuers issuers;
};

static void
jwt_close(void *p)
{
    struct instance *inst = p;
    if (!inst)
        return;
    keyrings_free(inst->rings);
    issuers_done(&inst->issuers);
    free(inst);
}

/* The daemon may remember callers that were verified with a key that is gone. */
static void
on_changed(void *ctx)
{
    struct instance *inst = ctx;
    const struct kaiten_host *host = inst->host;
    if (host->size >= offsetof(struct kaiten_host, forget) + sizeof(host->forget) && host->forget)
        host->forget(inst);
}

static bool
open_instance(struct instance *inst, const struct kaiten_config *config, struct kaiten_err *err)
{
    const struct kaiten_host *host = inst->host;
    const struct keyrings_options ring_options = {
        .times = { .refresh = host->get_int(config, "jwks_refresh"),
                   .max_age = host->get_int(config, "jwks_max_age"),
                   .cooldown = host->get_int(config, "jwks_cooldown"),
                   .timeout = host->get_int(config, "jwks_timeout") },
        .log = host->log,
        .changed = on_changed,
        .ctx = inst,
    };
    if (ring_options.times.max_age < ring_options.times.refresh) {
        host->error(err, "%s: jwks_max_age is shorter than jwks_refresh",
                    host->where(config, "jwks_max_age", 0));
        return false;
    }
    inst->rings = keyrings_new(&ring_options);
    if (!inst->rings) {
        host->error(err, "no memory");
        return false;
    }
    const struct issuers_setup setup = { host, config, err, inst->rings };
    if (!issuers_read(&setup, &inst->issuers))
        return false;
    if (keyrings_start(inst->rings, START_WAIT_MS))
        return true;
    host->error(err, "no thread can be started");
    return false;
}

static enum kaiten_status
jwt_open(const struct kaiten_host *host, const struct kaiten_config *config, void **ret_instance,
         struct kaiten_err *err)
{
    struct instance *inst = calloc(1, sizeof(*inst));
    if (!inst) {
        host->error(err, "no memory");
        return KAITEN_FAILED;
    }
    inst->host = host;
    if (!open_instance(inst, config, err)) {
        jwt_close(inst);
        return KAITEN_FAILED;
    }
    *ret_instance = inst;
    return KAITEN_DONE;
}

static void
jwt_reload(void *p)
{
    struct instance *inst = p;
    keyrings_reload(inst->rings);
}

/* One call of identify(). */
struct call {
    struct instance *inst;
    struct kaiten_sink *sink;
    struct kaiten_err *err;
};

static enum kaiten_verdict
refuse(const struct call *c, const char *code, const char *detail, const char *why)
{
    const struct kaiten_host *host = c->inst->host;
    host->error(c->err, "JWT refused: %s", why);
    if (host->size >= offsetof(struct kaiten_host, refuse) + sizeof(host->refuse) && host->refuse)
        host->refuse(c->sink, code, detail);
    return KAITEN_REFUSED;
}

static enum kaiten_verdict
broken(const struct call *c, const char *why)
{
    c->inst->host->error(c->err, "JWT not judged: %s", why);
    return KAITEN_BROKEN;
}

static enum kaiten_verdict
from_jws(const struct call *c, enum jws_outcome outcome, const char *why)
{
    if (outcome == JWS_NO_TOKEN)
        return refuse(c, "Auth.InvalidToken", "Failed to parse JWT", why);
    if (outcome == JWS_REFUSED)
        return refuse(c, "Auth.InvalidToken", "Invalid token", why);
    return broken(c, why);
}

/* RFC 7519 section 5.1 and RFC 9068 section 2.1; a media type, so letter case does not count. */
static bool
typ_fits(const char *typ)
{
    return !*typ || strcasecmp(typ, "JWT") == 0 || strcasecmp(typ, "at+jwt") == 0 ||
           strcasecmp(typ, "application/at+jwt") == 0;
}

static enum kaiten_verdict
know(const struct call *c, const struct issuer *issuer, const struct claims *claims)
{
    const struct kaiten_principal principal = {
        .size = sizeof(principal),
        .subject = claims->subject,
        .organization = claims->organization,
        .name = claims->name,
        .email = claims->email,
        .scopes = claims->scopes,
        .nscopes = claims->nscopes,
        .expires_at_ms = claims->expires_at_ms,
        .verify = KAITEN_VERIFY_NO,
        .proof = "jwt",
        .rate = issuer->rate,
    };
    if (!c->inst->host->principal(c->sink, &principal))
        return refuse(c, "Auth.InvalidToken", "Invalid token", "a claim is longer than allowed");
    return KAITEN_KNOWN;
}

static enum kaiten_verdict
judge_claims(const struct call *c, const struct issuer *issuer, const char *payload, size_t n)
{
    struct claims claims;
    struct claims_defect defect = { 0 };
    enum claims_outcome outcome =
        claims_read(&issuer->policy, payload, n, c->inst->host->now(), &claims, &defect);
    if (outcome == CLAIMS_REFUSED)
        return refuse(c, defect.code, defect.detail, defect.why);
    if (outcome != CLAIMS_GOOD)
        return broken(c, "no memory");
    enum kaiten_verdict verdict = know(c, issuer, &claims);
    claims_done(&claims);
    return verdict;
}

/* The issuer whose keys are tried. The token itself names it, but gains nothing by that: only the
 * keys of that issuer are tried, and only what that issuer may say counts. */
static struct issuer *
find_issuer(const struct call *c, const struct jws *jws)
{
    unsigned char payload[BASE64URL_ROOM(JWS_TEXT_MAX)];
    char iss[CLAIMS_ISS_MAX + 1];
    size_t n = 0;
    if (c->inst->issuers.n == 0)
        return issuers_find(&c->inst->issuers, NULL);
    bool has_iss = jws_payload(jws, payload, &n) &&
                   claims_peek_issuer((const char *)payload, n, iss);
    OPENSSL_cleanse(payload, sizeof(payload));
    return issuers_find(&c->inst->issuers, has_iss ? iss : NULL);
}

static enum kaiten_verdict
judge_signed(const struct call *c, const struct issuer *issuer, const struct jws *jws)
{
    unsigned char payload[BASE64URL_ROOM(JWS_TEXT_MAX)];
    size_t npayload = 0;
    if (!jws_payload(jws, payload, &npayload))
        return from_jws(c, JWS_NO_TOKEN, "the payload is not base64url");
    enum kaiten_verdict verdict = judge_claims(c, issuer, (const char *)payload, npayload);
    OPENSSL_cleanse(payload, sizeof(payload));
    return verdict;
}

static enum kaiten_verdict
judge(const struct call *c, const char *text, size_t n)
{
    struct jws jws;
    const char *why = "";
    enum jws_outcome outcome = jws_parse(text, n, &jws, &why);
    if (outcome != JWS_GOOD)
        return from_jws(c, outcome, why);
    if (!typ_fits(jws.typ))
        return from_jws(c, JWS_REFUSED, "a typ that is not for callers");
    struct issuer *issuer = find_issuer(c, &jws);
    if (!issuer)
        return from_jws(c, JWS_REFUSED, "the issuer is not one of ours");
    outcome = keyring_verify(issuer->ring, &jws, &why);
    return outcome == JWS_GOOD ? judge_signed(c, issuer, &jws) : from_jws(c, outcome, why);
}

static enum kaiten_verdict
jwt_identify(void *instance, const struct kaiten_caller *caller, struct kaiten_sink *sink,
             struct kaiten_err *err)
{
    const struct call c = { instance, sink, err };
    const struct kaiten_bytes *credential = &caller->credential;
    if (credential->n == 0)
        return KAITEN_NOT_MINE;
    if (credential->n >= 4 && memcmp(credential->p, "ksh_", 4) == 0)
        return KAITEN_NOT_MINE;
    return judge(&c, credential->p, credential->n);
}

KAITEN_AUTH_SYMBOL(jwt) = {
    .size = sizeof(struct kaiten_auth),
    .abi = KAITEN_AUTH_ABI,
    .threads = KAITEN_THREADS_PARALLEL,
    .caps = KAITEN_AUTH_CACHE,
    .name = "auth-jwt",
    .version = PACKAGE_VERSION,
    .summary = "callers with a signed JSON Web Token",
    .options = options,
    .open = jwt_open,
    .close = jwt_close,
    .identify = jwt_identify,
    .reload = jwt_reload,
};
