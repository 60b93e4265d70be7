/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/auth-jwt/issuer.h"

#include "plugins/auth-jwt/line.h"
#include "plugins/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const default_org_claims[] = { "kaiten_external_org_id", "org_id",
                                                  "organization_id" };

static bool
no_memory(const struct issuers_setup *s)
{
    s->host->error(s->err, "no memory");
    return false;
}

/* --- lists -------------------------------------------------------------------------------- */

static bool
list_add(const struct issuers_setup *s, struct claims_list *list, const char *text)
{
    const char **v = realloc(list->v, (list->n + 1) * sizeof(*v));
    if (!v)
        return no_memory(s);
    v[list->n] = text;
    list->v = v;
    list->n++;
    return true;
}

static bool
list_has(const struct claims_list *list, const char *text)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->v[i], text) == 0)
            return true;
    return false;
}

static bool
list_copy(const struct issuers_setup *s, struct claims_list *to, const struct claims_list *from)
{
    for (size_t i = 0; i < from->n; i++)
        if (!list_add(s, to, from->v[i]))
            return false;
    return true;
}

static void
list_done(struct claims_list *list)
{
    free(list->v);
    *list = (struct claims_list){ 0 };
}

static bool
read_list(const struct issuers_setup *s, const char *option, struct claims_list *list)
{
    size_t n = s->host->list_count(s->config, option);
    for (size_t i = 0; i < n; i++) {
        const char *text = s->host->list_item(s->config, option, i);
        if (!text || !*text) {
            s->host->error(s->err, "%s: %s must not be empty",
                           s->host->where(s->config, option, i), option);
            return false;
        }
        if (!list_add(s, list, text))
            return false;
    }
    return true;
}

/* --- what tokens may say ------------------------------------------------------------------ */

/* For each scope that writes, the one that only reads, which may be all that is left of it. */
static bool
add_ceiling_reads(const struct issuers_setup *s, struct claims_policy *policy)
{
    const struct claims_list *list = &policy->ceiling;
    policy->ceiling_reads = calloc(list->n ? list->n : 1, sizeof(*policy->ceiling_reads));
    if (!policy->ceiling_reads)
        return no_memory(s);
    for (size_t i = 0; i < list->n; i++) {
        char *reads = NULL;
        if (strncmp(list->v[i], "write:", 6) == 0 &&
            asprintf(&reads, "read:%s", list->v[i] + 6) < 0)
            return no_memory(s);
        policy->ceiling_reads[i] = reads;
    }
    return true;
}

static bool
check_scope(const struct issuers_setup *s, const char *option, size_t i, const char *scope,
            size_t before)
{
    if (words_look_like_scope(scope, KAITEN_SCOPE_MAX) && before < KAITEN_SCOPES_MAX)
        return true;
    s->host->error(s->err,
                   "%s: %s \"%.64s\": at most %d scopes of the form read:MODULE, write:MODULE, "
                   "delete:MODULE, where MODULE may be *",
                   s->host->where(s->config, option, i), option, scope, KAITEN_SCOPES_MAX);
    return false;
}

static bool
read_ceiling(const struct issuers_setup *s, struct claims_policy *policy)
{
    if (!read_list(s, "scope_ceiling", &policy->ceiling))
        return false;
    for (size_t i = 0; i < policy->ceiling.n; i++)
        if (!check_scope(s, "scope_ceiling", i, policy->ceiling.v[i], i))
            return false;
    return add_ceiling_reads(s, policy);
}

static bool
read_org_claims(const struct issuers_setup *s, struct claims_list *list)
{
    if (!read_list(s, "org_claim", list) || list->n > 0)
        return list->n > 0;
    for (size_t i = 0; i < sizeof(default_org_claims) / sizeof(default_org_claims[0]); i++)
        if (!list_add(s, list, default_org_claims[i]))
            return false;
    return true;
}

static bool
read_common_rate(const struct issuers_setup *s, struct kaiten_rate *ret)
{
    const char *text = s->host->get_string(s->config, "rate");
    if (!text || kaiten_rate_read(text, ret))
        return true;
    s->host->error(s->err, "%s: rate: \"%.64s\": " KAITEN_RATE_ACCEPTED " is accepted",
                   s->host->where(s->config, "rate", 0), text);
    return false;
}

static bool
read_common_policy(const struct issuers_setup *s, struct claims_policy *policy)
{
    policy->leeway_ms = s->host->get_int(s->config, "leeway");
    policy->max_lifetime_ms = s->host->get_int(s->config, "max_token_lifetime");
    return read_list(s, "audience", &policy->audiences) &&
           read_org_claims(s, &policy->org_claims) && read_ceiling(s, policy);
}

/* What an issuer's line does not say is as it is for all issuers. */
static bool
complete_policy(const struct issuers_setup *s, const struct issuers *all, struct issuer *issuer)
{
    const struct claims_policy *common = &all->common.policy;
    struct claims_policy *policy = &issuer->policy;
    policy->leeway_ms = common->leeway_ms;
    policy->max_lifetime_ms = common->max_lifetime_ms;
    if (issuer->rate.requests == 0)
        issuer->rate = all->common.rate;
    if (policy->audiences.n == 0 && !list_copy(s, &policy->audiences, &common->audiences))
        return false;
    if (policy->ceiling.n == 0 && !list_copy(s, &policy->ceiling, &common->ceiling))
        return false;
    return list_add(s, &policy->issuers, issuer->iss) &&
           list_copy(s, &policy->org_claims, &common->org_claims) && add_ceiling_reads(s, policy);
}

static void
policy_done(struct claims_policy *policy)
{
    for (size_t i = 0; policy->ceiling_reads && i < policy->ceiling.n; i++)
        free((char *)(uintptr_t)policy->ceiling_reads[i]);
    free(policy->ceiling_reads);
    list_done(&policy->issuers);
    list_done(&policy->audiences);
    list_done(&policy->organizations);
    list_done(&policy->reserved);
    list_done(&policy->org_claims);
    list_done(&policy->ceiling);
    *policy = (struct claims_policy){ 0 };
}

/* --- lines -------------------------------------------------------------------------------- */

/* One line being read: of key, jwks or issuer. */
struct line {
    const struct issuers_setup *s;
    const char *option;
    size_t i; /* of its values */
    struct issuer *issuer;
    bool any_org;
    const char *word; /* the one that is being read, as it is written */
    struct keyring_source source; /* the one that is being read; kind 0: none */
};

static bool
bad(const struct line *l, const char *word, const char *what)
{
    const struct kaiten_host *host = l->s->host;
    host->error(l->s->err, "%s: %s: \"%.64s\": %s", host->where(l->s->config, l->option, l->i),
                l->option, word, what);
    return false;
}

/* The source is complete when the next one begins, or the line ends. */
static bool
end_source(struct line *l)
{
    struct keyring_source source = l->source;
    const char *where = l->s->host->where(l->s->config, l->option, l->i);
    char path[LINE_MAX_BYTES], ca[LINE_MAX_BYTES];
    struct key_why why = { "" };
    if (!source.kind)
        return true;
    l->source = (struct keyring_source){ 0 };
    if (source.kind == SOURCE_KEY && !source.alg)
        return bad(l, source.place, "alg= is missing; a key has exactly one algorithm");
    if (source.kind != SOURCE_URL) {
        if (!line_resolve(where, source.place, path, sizeof(path)))
            return bad(l, source.place, "the file name is too long");
        source.place = path;
    }
    if (source.ca) {
        if (!line_resolve(where, source.ca, ca, sizeof(ca)))
            return bad(l, source.ca, "the file name is too long");
        source.ca = ca;
    }
    if (keyring_add(l->issuer->ring, &source, &why))
        return true;
    l->s->host->error(l->s->err, "%s: %s: %s%s%s", l->s->host->where(l->s->config, l->option, l->i),
                      l->option, source.kind == SOURCE_URL ? source.place : "",
                      source.kind == SOURCE_URL ? ": " : "", why.text);
    return false;
}

static bool
begin_source(struct line *l, enum source_kind kind, const char *place)
{
    if (!*place)
        return bad(l, "", "no file");
    if (!end_source(l))
        return false;
    if (kind == SOURCE_JWKS && strstr(place, "://"))
        kind = SOURCE_URL;
    l->source = (struct keyring_source){ .kind = kind, .place = place };
    return true;
}

static bool
word_key(struct line *l, const char *value)
{
    return begin_source(l, SOURCE_KEY, value);
}

static bool
word_jwks(struct line *l, const char *value)
{
    return begin_source(l, SOURCE_JWKS, value);
}

static bool
word_alg(struct line *l, const char *value)
{
    if (!l->source.kind)
        return bad(l, l->word, "alg= belongs behind a key or a jwks");
    if (l->source.alg)
        return bad(l, l->word, "alg stands twice");
    l->source.alg = key_alg_find(value, strlen(value));
    return l->source.alg || bad(l, l->word,
                                "unknown algorithm; RS256 RS384 RS512 PS256 PS384 PS512 ES256 "
                                "ES384 ES512 EdDSA Ed25519 Ed448 HS256 HS384 HS512 are known");
}

static bool
word_kid(struct line *l, const char *value)
{
    if (l->source.kind != SOURCE_KEY)
        return bad(l, l->word, "kid= belongs behind a key");
    if (l->source.kid)
        return bad(l, l->word, "kid stands twice");
    l->source.kid = value;
    return true;
}

static bool
word_ca(struct line *l, const char *value)
{
    if (l->source.kind != SOURCE_URL)
        return bad(l, l->word, "ca= belongs behind the address of a jwks");
    if (l->source.ca || !*value)
        return bad(l, l->word, "one file belongs behind ca=");
    l->source.ca = value;
    return true;
}

static bool
word_org(struct line *l, const char *value)
{
    struct claims_list *list = &l->issuer->policy.organizations;
    bool any = strcmp(value, "*") == 0;
    if (!*value || strlen(value) > CLAIMS_TEXT_MAX || list_has(list, value))
        return bad(l, l->word, "an organization is text of 1 to 255 bytes, and stands once");
    if (l->any_org || (any && list->n > 0))
        return bad(l, l->word, "org=* stands alone");
    l->any_org = any;
    return any || list_add(l->s, list, value);
}

static bool
word_audience(struct line *l, const char *value)
{
    return *value ? list_add(l->s, &l->issuer->policy.audiences, value)
                  : bad(l, l->word, "an audience must not be empty");
}

static bool
word_scopes(struct line *l, const char *value)
{
    struct claims_list *list = &l->issuer->policy.ceiling;
    char *rest = (char *)(uintptr_t)value; /* a part of the line's text, which is ours */
    if (list->n > 0)
        return bad(l, l->word, "scopes stands twice");
    for (char *scope; (scope = strsep(&rest, ",")) != NULL;)
        if (!check_scope(l->s, l->option, l->i, scope, list->n) || !list_add(l->s, list, scope))
            return false;
    return true;
}

static bool
word_rate(struct line *l, const char *value)
{
    if (l->issuer->rate.requests)
        return bad(l, l->word, "rate stands twice");
    return kaiten_rate_read(value, &l->issuer->rate) ||
           bad(l, l->word, KAITEN_RATE_ACCEPTED " is accepted");
}

static const struct word {
    const char *name;
    bool (*read)(struct line *, const char *value);
    bool issuer, key, jwks; /* on lines of these */
} words[] = {
    { "key=", word_key, true, false, false },
    { "jwks=", word_jwks, true, false, false },
    { "alg=", word_alg, true, true, true },
    { "kid=", word_kid, true, true, false },
    { "ca=", word_ca, true, false, true },
    { "org=", word_org, true, false, false },
    { "audience=", word_audience, true, false, false },
    { "scopes=", word_scopes, true, false, false },
    { "rate=", word_rate, true, false, false },
};

static bool
read_word(struct line *l, const char *text)
{
    l->word = text;
    bool issuer = strcmp(l->option, "issuer") == 0, key = strcmp(l->option, "key") == 0;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        const struct word *w = &words[i];
        size_t n = strlen(w->name);
        if ((issuer ? w->issuer : key ? w->key : w->jwks) && strncmp(text, w->name, n) == 0)
            return w->read(l, text + n);
    }
    return bad(l, text,
               issuer ? "unknown word; ISS [key=FILE alg=ALG [kid=ID]]... [jwks=FILE-OR-URL "
                        "[alg=ALG] [ca=FILE]]... org=ID... [audience=TEXT]... [scopes=A,B] "
                        "[rate=RATE] is accepted"
               : key  ? "unknown word; FILE alg=ALG [kid=ID] is accepted"
                      : "unknown word; FILE-OR-URL [alg=ALG] [ca=FILE] is accepted");
}

static bool
read_words(struct line *l, char *rest)
{
    bool open_quote = false;
    for (char *word; (word = words_next(&rest, &open_quote)) != NULL;)
        if (open_quote ? !bad(l, word, "a quote without end") : !read_word(l, word))
            return false;
    return end_source(l);
}

/* The line's text, to be cut into words; it becomes the issuer's when that is new. */
static char *
line_text(const struct line *l)
{
    const char *item = l->s->host->list_item(l->s->config, l->option, l->i);
    if (item && strlen(item) >= LINE_MAX_BYTES) {
        bad(l, item, "the line is too long");
        return NULL;
    }
    char *text = strdup(item ? item : "");
    if (!text)
        no_memory(l->s);
    return text;
}

/* A line of key or jwks: keys for issuers without a line of their own. */
static bool
read_common_keys(const struct issuers_setup *s, struct issuers *all, const char *option, size_t i)
{
    struct line l = { .s = s, .option = option, .i = i, .issuer = &all->common };
    char *text = line_text(&l), *rest = text;
    bool open_quote = false;
    if (!text)
        return false;
    const char *place = words_next(&rest, &open_quote);
    enum source_kind kind = strcmp(option, "key") == 0 ? SOURCE_KEY : SOURCE_JWKS;
    bool good = !open_quote || bad(&l, place, "a quote without end");
    good = good && begin_source(&l, kind, place ? place : "") && read_words(&l, rest);
    free(text);
    return good;
}

static bool
check_bound(const struct line *l)
{
    if (!keyring_has_sources(l->issuer->ring))
        return bad(l, l->issuer->iss, "no keys; key= or jwks= is missing");
    if (!l->any_org && l->issuer->policy.organizations.n == 0)
        return bad(l, l->issuer->iss,
                   "org= is missing: the organizations that it may speak for, or org=* for all "
                   "that no line names");
    return true;
}

/* An issuer with keys of its own; takes text. */
static bool
add_bound(const struct issuers_setup *s, struct issuers *all, size_t i, char *take_text,
          const char *iss, char *rest)
{
    struct issuer *issuer = &all->v[all->n++];
    *issuer = (struct issuer){ .text = take_text, .iss = iss, .ring = keyring_new(s->rings) };
    struct line l = { .s = s, .option = "issuer", .i = i, .issuer = issuer };
    if (!issuer->ring)
        return no_memory(s);
    return read_words(&l, rest) && check_bound(&l) && complete_policy(s, all, issuer) &&
           list_copy(s, &all->organizations, &issuer->policy.organizations);
}

static struct issuer *
find_bound(const struct issuers *all, const char *iss)
{
    for (size_t i = 0; i < all->n; i++)
        if (strcmp(all->v[i].iss, iss) == 0)
            return &all->v[i];
    return NULL;
}

static bool
read_issuer(const struct issuers_setup *s, struct issuers *all, size_t i)
{
    struct line l = { .s = s, .option = "issuer", .i = i };
    char *text = line_text(&l), *rest = text;
    bool open_quote = false;
    if (!text)
        return false;
    const char *iss = words_next(&rest, &open_quote);
    bool good = true;
    if (!iss || !*iss)
        good = bad(&l, "", "issuer must not be empty");
    else if (open_quote)
        good = bad(&l, iss, "a quote without end");
    else if (find_bound(all, iss) || list_has(&all->common.policy.issuers, iss))
        good = bad(&l, iss, "this issuer stands twice");
    if (good && rest[strspn(rest, " \t")])
        return add_bound(s, all, i, text, iss, rest);
    free(text);
    return good && list_add(s, &all->common.policy.issuers,
                            s->host->list_item(s->config, "issuer", i));
}

/* --- all of them -------------------------------------------------------------------------- */

static bool
read_issuers(const struct issuers_setup *s, struct issuers *all)
{
    size_t n = s->host->list_count(s->config, "issuer");
    if (n > ISSUERS_MAX) {
        s->host->error(s->err, "%s: issuer: at most %d of them",
                       s->host->where(s->config, "issuer", ISSUERS_MAX), ISSUERS_MAX);
        return false;
    }
    all->v = calloc(n ? n : 1, sizeof(*all->v));
    if (!all->v)
        return no_memory(s);
    for (size_t i = 0; i < n; i++)
        if (!read_issuer(s, all, i))
            return false;
    return true;
}

/* An organization on an issuer's line is that issuer's alone, unless the line of another names it
 * too. */
static bool
reserve(const struct issuers_setup *s, struct issuers *all)
{
    for (size_t i = 0; i < all->n; i++)
        if (all->v[i].policy.organizations.n == 0 &&
            !list_copy(s, &all->v[i].policy.reserved, &all->organizations))
            return false;
    return list_copy(s, &all->common.policy.reserved, &all->organizations);
}

static bool
check_keys(const struct issuers_setup *s, const struct issuers *all)
{
    const struct claims_list *plain = &all->common.policy.issuers;
    if (keyring_has_sources(all->common.ring))
        return true;
    if (all->n > 0 && plain->n == 0)
        return true;
    s->host->error(s->err, "%s: auth-jwt needs at least one key or jwks%s%.64s",
                   s->host->where(s->config, "key", 0), plain->n > 0 ? " for issuer " : "",
                   plain->n > 0 ? plain->v[0] : "");
    return false;
}

bool
issuers_read(const struct issuers_setup *s, struct issuers *ret)
{
    static const char *const key_options[] = { "key", "jwks" };
    ret->common.ring = keyring_new(s->rings);
    if (!ret->common.ring)
        return no_memory(s);
    if (!read_common_policy(s, &ret->common.policy) || !read_common_rate(s, &ret->common.rate) ||
        !read_issuers(s, ret) || !reserve(s, ret))
        return false;
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < s->host->list_count(s->config, key_options[k]); i++)
            if (!read_common_keys(s, ret, key_options[k], i))
                return false;
    return check_keys(s, ret);
}

struct issuer *
issuers_find(struct issuers *all, const char *iss)
{
    struct issuer *bound = iss ? find_bound(all, iss) : NULL;
    if (bound)
        return bound;
    return keyring_has_sources(all->common.ring) ? &all->common : NULL;
}

void
issuers_done(struct issuers *all)
{
    for (size_t i = 0; i < all->n; i++) {
        policy_done(&all->v[i].policy);
        free(all->v[i].text);
    }
    free(all->v);
    policy_done(&all->common.policy);
    list_done(&all->organizations);
    *all = (struct issuers){ 0 };
}
