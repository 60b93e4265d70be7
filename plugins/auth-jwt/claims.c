/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/auth-jwt/claims.h"

#include "plugins/auth-jwt/json.h"

#include <stdio.h>
#include <string.h>

#define MISSING    "Auth.MissingClaims"
#define INVALID    "Auth.InvalidToken"
#define BAD_SCOPES "Auth.InvalidScopes"

/* 2^53 - 1: of a larger one a double does not say which integer was written. */
static const double TIME_MAX = 9007199254740991.0;

static bool
defect(struct claims_defect *ret, const char *code, const char *detail, const char *why)
{
    ret->code = code;
    (void)snprintf(ret->detail, sizeof(ret->detail), "%s", detail);
    ret->why = why;
    return false;
}

static bool
invalid(struct claims_defect *ret, const char *why)
{
    return defect(ret, INVALID, "Invalid token", why);
}

static bool
missing(struct claims_defect *ret, const char *name)
{
    ret->code = MISSING;
    (void)snprintf(ret->detail, sizeof(ret->detail), "Missing required JWT claims (%.64s)", name);
    ret->why = "a required claim is missing or malformed";
    return false;
}

static cJSON *
member(const cJSON *json, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(json, name);
}

/* A time in seconds since 1970, as an integer of 0 to TIME_MAX. */
static bool
read_time(const cJSON *item, int64_t *ret_ms)
{
    if (!cJSON_IsNumber(item))
        return false;
    double d = item->valuedouble;
    if (!(d >= 0.0 && d <= TIME_MAX) || (double)(int64_t)d != d)
        return false;
    *ret_ms = (int64_t)d * 1000;
    return true;
}

/* An optional time that may not lie ahead. */
static bool
check_past(const struct claims *c, const char *name, int64_t latest_ms)
{
    const cJSON *item = member(c->json, name);
    int64_t ms = 0;
    return !item || (read_time(item, &ms) && ms <= latest_ms);
}

static bool
check_times(const struct claims_policy *policy, int64_t now_ms, struct claims *c,
            struct claims_defect *ret_defect)
{
    const cJSON *exp = member(c->json, "exp");
    if (!exp)
        return missing(ret_defect, "exp");
    if (!read_time(exp, &c->expires_at_ms))
        return invalid(ret_defect, "exp is no integer of seconds");
    /* No leeway here: an expired token is expired. */
    if (c->expires_at_ms <= now_ms)
        return invalid(ret_defect, "expired");
    if (!check_past(c, "nbf", now_ms + policy->leeway_ms))
        return invalid(ret_defect, "nbf is ahead of the clock, or malformed");
    if (!check_past(c, "iat", now_ms + policy->leeway_ms))
        return invalid(ret_defect, "iat is ahead of the clock, or malformed");
    if (policy->max_lifetime_ms > 0 && c->expires_at_ms - now_ms > policy->max_lifetime_ms)
        return invalid(ret_defect, "lives longer than max_token_lifetime allows");
    return true;
}

static bool
list_names(const struct claims_list *list, const char *text)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->v[i], text) == 0)
            return true;
    return false;
}

static bool
list_has(const struct claims_list *list, const cJSON *item)
{
    const char *text = cJSON_GetStringValue(item);
    return text && list_names(list, text);
}

/* RFC 7519 section 4.1.3: one string or an array of them. */
static bool
audience_fits(const struct claims_list *list, const cJSON *aud)
{
    const cJSON *item;
    bool fits = false;
    if (!cJSON_IsArray(aud))
        return list_has(list, aud);
    cJSON_ArrayForEach(item, aud)
    {
        if (!cJSON_IsString(item))
            return false;
        fits = fits || list_has(list, item);
    }
    return fits;
}

static bool
check_origin(const struct claims_policy *policy, const struct claims *c,
             struct claims_defect *ret_defect)
{
    if (policy->issuers.n > 0 && !list_has(&policy->issuers, member(c->json, "iss")))
        return invalid(ret_defect, "the issuer is not one of ours");
    if (policy->audiences.n > 0 && !audience_fits(&policy->audiences, member(c->json, "aud")))
        return invalid(ret_defect, "meant for another audience");
    return true;
}

static bool
is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Cuts white space off both ends, in place. */
static char *
trim(char *s)
{
    while (is_space(*s))
        s++;
    size_t n = strlen(s);
    while (n > 0 && is_space(s[n - 1]))
        n--;
    s[n] = 0;
    return s;
}

static bool
has_control(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return true;
    return false;
}

/* A claim of 1 to CLAIMS_TEXT_MAX bytes without control characters, trimmed; else NULL. */
static const char *
text_claim(const struct claims *c, const char *name)
{
    char *raw = cJSON_GetStringValue(member(c->json, name));
    char *text = raw ? trim(raw) : NULL;
    if (!text || !*text || strlen(text) > CLAIMS_TEXT_MAX || has_control(text))
        return NULL;
    return text;
}

/* The first organization claim that is there decides: a broken one never gives way to the next. */
static bool
read_organization(const struct claims_policy *policy, struct claims *c,
                  struct claims_defect *ret_defect)
{
    for (size_t i = 0; i < policy->org_claims.n; i++) {
        if (!member(c->json, policy->org_claims.v[i]))
            continue;
        c->organization = text_claim(c, policy->org_claims.v[i]);
        break;
    }
    if (!c->organization)
        return missing(ret_defect, policy->org_claims.v[0]);
    if (policy->organizations.n > 0 ? !list_names(&policy->organizations, c->organization)
                                    : list_names(&policy->reserved, c->organization))
        return invalid(ret_defect, "an organization that this issuer does not speak for");
    return true;
}

/* An empty one is a string like the others, and grants nothing; the daemon takes none. */
static bool
add_scope(struct claims *c, const char *scope)
{
    if (scope[0] == '\0')
        return true;
    for (size_t i = 0; i < c->nscopes; i++)
        if (strcmp(c->scopes[i], scope) == 0)
            return true;
    if (c->nscopes == KAITEN_SCOPES_MAX || strlen(scope) > KAITEN_SCOPE_MAX)
        return false;
    c->scopes[c->nscopes++] = scope;
    return true;
}

static bool
too_many_scopes(struct claims_defect *ret_defect)
{
    return invalid(ret_defect, "too many scopes, or one too long");
}

static bool
read_scope_array(const cJSON *array, struct claims *c, struct claims_defect *ret_defect)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, array) {
        if (!cJSON_IsString(item))
            return defect(ret_defect, BAD_SCOPES, "Scopes must be an array of strings",
                          "scopes holds something else than strings");
    }
    cJSON_ArrayForEach(item, array) {
        if (!add_scope(c, item->valuestring))
            return too_many_scopes(ret_defect);
    }
    return true;
}

/* RFC 8693 section 4.2: names with spaces between them. */
static bool
read_scope_words(char *words, struct claims *c, struct claims_defect *ret_defect)
{
    char *rest = NULL;
    for (char *w = strtok_r(words, " ", &rest); w; w = strtok_r(NULL, " ", &rest))
        if (!add_scope(c, w))
            return too_many_scopes(ret_defect);
    return true;
}

static bool
read_scopes(struct claims *c, struct claims_defect *ret_defect)
{
    const cJSON *array = member(c->json, "scopes");
    const cJSON *words = member(c->json, "scope");
    if (cJSON_IsArray(array))
        return read_scope_array(array, c, ret_defect);
    if (!array && cJSON_IsString(words))
        return read_scope_words(words->valuestring, c, ret_defect);
    return missing(ret_defect, "scopes");
}

static bool
starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool
scope_grants(const char *held, const char *wanted)
{
    if (strcmp(held, wanted) == 0 || strcmp(held, "write:*") == 0)
        return true;
    if (strcmp(held, "read:*") == 0)
        return starts_with(wanted, "read:");
    return starts_with(held, "write:") && starts_with(wanted, "read:") &&
           strcmp(held + 6, wanted + 5) == 0;
}

bool
claims_scope_covers(const char *const *held, size_t n, const char *wanted)
{
    for (size_t i = 0; i < n; i++)
        if (scope_grants(held[i], wanted))
            return true;
    return false;
}

/* What both the token and the ceiling grant: scopes of the ceiling that the token covers, scopes
 * of the token that the ceiling covers, and the reading half of a write that only reads survive. */
static bool
apply_ceiling(const struct claims_policy *policy, struct claims *c)
{
    const struct claims_list *top = &policy->ceiling;
    const char *held[KAITEN_SCOPES_MAX];
    size_t nheld = c->nscopes;
    memcpy(held, c->scopes, nheld * sizeof(held[0]));
    c->nscopes = 0;
    for (size_t i = 0; i < top->n; i++) {
        const char *reads = policy->ceiling_reads[i];
        if (claims_scope_covers(held, nheld, top->v[i])) {
            if (!add_scope(c, top->v[i]))
                return false;
        } else if (reads && claims_scope_covers(held, nheld, reads) && !add_scope(c, reads)) {
            return false;
        }
    }
    for (size_t i = 0; i < nheld; i++) {
        if (claims_scope_covers(top->v, top->n, held[i])) {
            if (!add_scope(c, held[i]))
                return false;
        } else if (starts_with(held[i], "write:")) {
            /* "write:X" ends in the room that "read:X" takes; the text is ours. */
            char *reads = (char *)(uintptr_t)held[i] + 1;
            memcpy(reads, "read", 4);
            if (claims_scope_covers(top->v, top->n, reads) && !add_scope(c, reads))
                return false;
        }
    }
    return true;
}

static bool
read_identity(const struct claims_policy *policy, struct claims *c,
              struct claims_defect *ret_defect)
{
    c->subject = text_claim(c, "sub");
    if (!c->subject)
        return missing(ret_defect, "sub");
    if (!read_organization(policy, c, ret_defect) || !read_scopes(c, ret_defect))
        return false;
    if (policy->ceiling.n > 0 && !apply_ceiling(policy, c))
        return too_many_scopes(ret_defect);
    /* For display only, so a malformed one is simply left out. */
    c->name = text_claim(c, "name");
    c->email = text_claim(c, "email");
    return true;
}

void
claims_done(struct claims *c)
{
    json_free(c->json);
    c->json = NULL;
}

bool
claims_peek_issuer(const char *payload, size_t n, char *out)
{
    cJSON *json = NULL;
    const char *why = NULL;
    if (!json_read_object(payload, n, &json, &why))
        return false;
    const char *iss = json_member_text(json, "iss");
    size_t niss = iss ? strlen(iss) : 0;
    bool good = niss >= 1 && niss <= CLAIMS_ISS_MAX;
    if (good)
        memcpy(out, iss, niss + 1);
    json_free(json);
    return good;
}

enum claims_outcome
claims_read(const struct claims_policy *policy, const char *payload, size_t n, int64_t now_ms,
            struct claims *ret_claims, struct claims_defect *ret_defect)
{
    struct claims c = { 0 };
    const char *why = NULL;
    if (!json_read_object(payload, n, &c.json, &why)) {
        if (!why)
            return CLAIMS_NO_MEMORY;
        defect(ret_defect, INVALID, "Failed to parse JWT", "the claims are no strict JSON object");
        return CLAIMS_REFUSED;
    }
    if (!check_times(policy, now_ms, &c, ret_defect) || !check_origin(policy, &c, ret_defect) ||
        !read_identity(policy, &c, ret_defect)) {
        claims_done(&c);
        return CLAIMS_REFUSED;
    }
    *ret_claims = c;
    return CLAIMS_GOOD;
}
