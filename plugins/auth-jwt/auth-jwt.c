/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/kaiten-auth.h"

#include "plugins/auth-jwt/claims.h"
#include "plugins/auth-jwt/jwk.h"
#include "plugins/auth-jwt/jws.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>

enum { LINE_MAX_BYTES = 4096 };

static const char *const default_org_claims[] = { "kaiten_external_org_id", "org_id",
                                                  "organization_id" };

static const struct kaiten_option options[] = {
    { "key", KAITEN_OPT_LIST, 0, NULL, 0, 0,
      "FILE alg=ALG [kid=ID]: a public key or certificate in PEM, or the secret of an HS "
      "algorithm." },
    { "jwks", KAITEN_OPT_LIST, 0, NULL, 0, 0, "File with a JWK Set or a single JWK." },
    { "issuer", KAITEN_OPT_LIST, 0, NULL, 0, 0,
      "Accepted iss, compared exactly; not set: any issuer whose key is known." },
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
    { 0 }
};

struct instance {
    const struct kaiten_host *host;
    struct key_set keys;
    struct claims_policy policy;
};

static void
free_list(struct claims_list *list)
{
    free(list->v);
    *list = (struct claims_list){ 0 };
}

static void
jwt_close(void *p)
{
    struct instance *inst = p;
    if (!inst)
        return;
    key_set_done(&inst->keys);
    for (size_t i = 0; inst->policy.ceiling_reads && i < inst->policy.ceiling.n; i++)
        free((char *)(uintptr_t)inst->policy.ceiling_reads[i]);
    free(inst->policy.ceiling_reads);
    free_list(&inst->policy.issuers);
    free_list(&inst->policy.audiences);
    free_list(&inst->policy.org_claims);
    free_list(&inst->policy.ceiling);
    free(inst);
}

/* What open() carries around. */
struct setup {
    const struct kaiten_host *host;
    const struct kaiten_config *config;
    struct kaiten_err *err;
    struct instance *inst;
};

static bool
no_memory(const struct setup *s)
{
    s->host->error(s->err, "no memory");
    return false;
}

static bool
read_list(const struct setup *s, const char *option, struct claims_list *ret)
{
    size_t n = s->host->list_count(s->config, option);
    const char **v = calloc(n ? n : 1, sizeof(*v));
    if (!v)
        return no_memory(s);
    ret->v = v;
    ret->n = n;
    for (size_t i = 0; i < n; i++) {
        v[i] = s->host->list_item(s->config, option, i);
        if (v[i] && *v[i])
            continue;
        s->host->error(s->err, "%s: %s must not be empty", s->host->where(s->config, option, i),
                       option);
        return false;
    }
    return true;
}

static bool
read_org_claims(const struct setup *s)
{
    struct claims_list *list = &s->inst->policy.org_claims;
    if (!read_list(s, "org_claim", list))
        return false;
    if (list->n > 0)
        return true;
    free_list(list);
    list->v = malloc(sizeof(default_org_claims));
    if (!list->v)
        return no_memory(s);
    memcpy(list->v, default_org_claims, sizeof(default_org_claims));
    list->n = sizeof(default_org_claims) / sizeof(default_org_claims[0]);
    return true;
}

static bool
looks_like_scope(const char *s)
{
    static const char *const actions[] = { "read:", "write:", "delete:" };
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.*";
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        size_t n = strlen(actions[i]);
        if (strncmp(s, actions[i], n) == 0)
            return s[n] && s[n + strspn(s + n, letters)] == 0 && strlen(s) <= CLAIMS_TEXT_MAX;
    }
    return false;
}

static bool
read_ceiling(const struct setup *s)
{
    struct claims_policy *policy = &s->inst->policy;
    if (!read_list(s, "scope_ceiling", &policy->ceiling))
        return false;
    struct claims_list *list = &policy->ceiling;
    policy->ceiling_reads = calloc(list->n ? list->n : 1, sizeof(*policy->ceiling_reads));
    if (!policy->ceiling_reads)
        return no_memory(s);
    for (size_t i = 0; i < list->n; i++) {
        char *reads = NULL;
        if (!looks_like_scope(list->v[i]) || i >= CLAIMS_SCOPES_MAX) {
            s->host->error(
                s->err,
                "%s: scope_ceiling \"%.64s\": at most %d scopes of the form read:MODULE, "
                "write:MODULE, delete:MODULE, where MODULE may be *",
                s->host->where(s->config, "scope_ceiling", i), list->v[i], CLAIMS_SCOPES_MAX);
            return false;
        }
        if (strncmp(list->v[i], "write:", 6) == 0 &&
            asprintf(&reads, "read:%s", list->v[i] + 6) < 0)
            return no_memory(s);
        policy->ceiling_reads[i] = reads;
    }
    return true;
}

/* The next word of a line, with one pair of double quotes around it or around what follows its
 * equals sign taken off. Cuts the line. NULL: no more; *ret_bad is set when a quote stays open or
 * something sticks to its end. */
static char *
next_word(char **line, bool *ret_bad)
{
    char *p = *line + strspn(*line, " \t"), *word = p, *out = p;
    if (!*p)
        return NULL;
    for (bool quoted = false; *p && (quoted || (*p != ' ' && *p != '\t')); p++) {
        if (*p == '"')
            quoted = !quoted;
        else
            *out++ = *p;
        *ret_bad = quoted;
    }
    *line = *p ? p + 1 : p;
    *out = 0;
    return word;
}

/* Where a file of the configuration is: as it stands, or beside the configuration file. */
static bool
resolve(const char *where, const char *file, char *out, size_t room)
{
    const char *slash = strrchr(where, '/');
    int n = file[0] == '/' || !slash
                ? snprintf(out, room, "%s", file)
                : snprintf(out, room, "%.*s/%s", (int)(slash - where), where, file);
    return n > 0 && (size_t)n < room;
}

struct key_line {
    const char *file, *kid;
    const struct key_alg *alg;
};

static bool
bad_key(const struct setup *s, size_t i, const char *word, const char *what)
{
    s->host->error(s->err, "%s: key: \"%.64s\": %s", s->host->where(s->config, "key", i), word,
                   what);
    return false;
}

static bool
parse_key_word(const struct setup *s, size_t i, const char *word, struct key_line *line)
{
    if (strncmp(word, "alg=", 4) == 0) {
        if (line->alg)
            return bad_key(s, i, word, "alg stands twice");
        line->alg = key_alg_find(word + 4, strlen(word + 4));
        return line->alg || bad_key(s, i, word,
                                    "unknown algorithm; RS256 RS384 RS512 PS256 PS384 PS512 ES256 "
                                    "ES384 ES512 EdDSA HS256 HS384 HS512 are known");
    }
    if (strncmp(word, "kid=", 4) == 0) {
        if (line->kid)
            return bad_key(s, i, word, "kid stands twice");
        line->kid = word + 4;
        return true;
    }
    return bad_key(s, i, word, "unknown word; FILE alg=ALG [kid=ID] is accepted");
}

static bool
parse_key(const struct setup *s, size_t i, char *text, struct key_line *ret_line)
{
    struct key_line line = { 0 };
    bool open_quote = false;
    line.file = next_word(&text, &open_quote);
    if (!line.file || !*line.file)
        return bad_key(s, i, "", "no file; FILE alg=ALG [kid=ID] is accepted");
    for (char *word; (word = next_word(&text, &open_quote)) != NULL;)
        if (!parse_key_word(s, i, word, &line))
            return false;
    if (open_quote)
        return bad_key(s, i, line.file, "a quote without end");
    if (!line.alg)
        return bad_key(s, i, line.file, "alg= is missing; a key has exactly one algorithm");
    *ret_line = line;
    return true;
}

static bool
add_key(const struct setup *s, size_t i)
{
    const char *item = s->host->list_item(s->config, "key", i);
    const char *where = s->host->where(s->config, "key", i);
    char text[LINE_MAX_BYTES], path[LINE_MAX_BYTES];
    struct key_line line;
    struct key_why why = { "" };
    if ((size_t)snprintf(text, sizeof(text), "%s", item) >= sizeof(text))
        return bad_key(s, i, item, "the line is too long");
    if (!parse_key(s, i, text, &line))
        return false;
    if (!resolve(where, line.file, path, sizeof(path)))
        return bad_key(s, i, line.file, "the file name is too long");
    if (key_set_add_file(&s->inst->keys, path, line.alg, line.kid, 0, &why))
        return true;
    s->host->error(s->err, "%s: key: %s", where, why.text);
    return false;
}

static bool
add_jwks(const struct setup *s, size_t i)
{
    const char *item = s->host->list_item(s->config, "jwks", i);
    const char *where = s->host->where(s->config, "jwks", i);
    char path[LINE_MAX_BYTES];
    struct key_why why = { "the file name is too long" };
    if (resolve(where, item, path, sizeof(path)) &&
        jwk_read_file(&s->inst->keys, path, NULL, 0, s->host->log, &why))
        return true;
    s->host->error(s->err, "%s: jwks: %s", where, why.text);
    return false;
}

static bool
read_keys(const struct setup *s)
{
    size_t nkeys = s->host->list_count(s->config, "key");
    size_t njwks = s->host->list_count(s->config, "jwks");
    if (nkeys + njwks == 0) {
        s->host->error(s->err, "%s: auth-jwt needs at least one key or jwks",
                       s->host->where(s->config, "key", 0));
        return false;
    }
    for (size_t i = 0; i < nkeys; i++)
        if (!add_key(s, i))
            return false;
    for (size_t i = 0; i < njwks; i++)
        if (!add_jwks(s, i))
            return false;
    return true;
}

static bool
read_policy(const struct setup *s)
{
    struct claims_policy *policy = &s->inst->policy;
    policy->leeway_ms = s->host->get_int(s->config, "leeway");
    policy->max_lifetime_ms = s->host->get_int(s->config, "max_token_lifetime");
    return read_list(s, "issuer", &policy->issuers) &&
           read_list(s, "audience", &policy->audiences) && read_org_claims(s) && read_ceiling(s);
}

static enum kaiten_status
jwt_open(const struct kaiten_host *host, const struct kaiten_config *config, void **ret_instance,
         struct kaiten_err *err)
{
    struct setup s = { host, config, err, calloc(1, sizeof(struct instance)) };
    if (!s.inst) {
        host->error(err, "no memory");
        return KAITEN_FAILED;
    }
    s.inst->host = host;
    if (!read_policy(&s) || !read_keys(&s)) {
        jwt_close(s.inst);
        return KAITEN_FAILED;
    }
    *ret_instance = s.inst;
    return KAITEN_DONE;
}

/* One call of identify(). */
struct call {
    const struct instance *inst;
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
know(const struct call *c, const struct claims *claims)
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
    };
    if (!c->inst->host->principal(c->sink, &principal))
        return refuse(c, "Auth.InvalidToken", "Invalid token", "a claim is longer than allowed");
    return KAITEN_KNOWN;
}

static enum kaiten_verdict
judge_claims(const struct call *c, const char *payload, size_t n)
{
    struct claims claims;
    struct claims_defect defect = { 0 };
    enum claims_outcome outcome =
        claims_read(&c->inst->policy, payload, n, c->inst->host->now(), &claims, &defect);
    if (outcome == CLAIMS_REFUSED)
        return refuse(c, defect.code, defect.detail, defect.why);
    if (outcome != CLAIMS_GOOD)
        return broken(c, "no memory");
    enum kaiten_verdict verdict = know(c, &claims);
    claims_done(&claims);
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
    outcome = jws_verify(&jws, &c->inst->keys, &why);
    if (outcome != JWS_GOOD)
        return from_jws(c, outcome, why);
    unsigned char payload[BASE64URL_ROOM(JWS_TEXT_MAX)];
    size_t npayload = 0;
    if (!jws_payload(&jws, payload, &npayload))
        return from_jws(c, JWS_NO_TOKEN, "the payload is not base64url");
    enum kaiten_verdict verdict = judge_claims(c, (const char *)payload, npayload);
    OPENSSL_cleanse(payload, sizeof(payload));
    return verdict;
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
};
