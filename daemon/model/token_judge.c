/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/token.h"

#include "daemon/model/token_rekey.h"
#include "daemon/model/tokentext.h"
#include "daemon/service.h"

enum { AT_ONCE = 16 }; /* secrets that are digested together */

struct token_digest
token_digest(const struct service *svc, struct kt_secret_view secret)
{
    struct token_digest digest = { .text = secret, .has_form = token_text_has_form(secret),
                                   .keys = svc->keys };
    if (digest.has_form)
        digest_token(digest.keys, secret, digest.bytes);
    return digest;
}

/* What has the form has one length. */
static void
digest_some(const struct digest_keys *keys, struct token_digest list[], size_t n)
{
    struct kt_secret_view good[AT_ONCE];
    unsigned char *digests[AT_ONCE];
    size_t ngood = 0;
    for (size_t i = 0; i < n; i++) {
        list[i].keys = keys;
        list[i].has_form = token_text_has_form(list[i].text);
        if (!list[i].has_form)
            continue;
        good[ngood] = list[i].text;
        digests[ngood++] = list[i].bytes;
    }
    digest_tokens(keys, good, ngood, digests);
}

void
token_digests(const struct service *svc, struct token_digest list[], size_t n)
{
    const struct digest_keys *keys = svc->keys;
    for (size_t i = 0; i < n; i += AT_ONCE)
        digest_some(keys, list + i, n - i < AT_ONCE ? n - i : AT_ONCE);
}

void
token_fetch(const struct service *svc, const struct token_digest digests[], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (digests[i].has_form)
            index_prefetch(svc->index, digests[i].bytes);
    for (size_t i = 0; i < n; i++)
        if (digests[i].has_form)
            index_prefetch_record(svc->index, digests[i].bytes);
}

static void
note(const struct service *svc, const struct digest_keys *keys,
     const unsigned char from[DIGEST_BYTES], const unsigned char to[DIGEST_BYTES])
{
    struct rekey r = { .keys = keys };
    memcpy(r.from, from, DIGEST_BYTES);
    memcpy(r.to, to, DIGEST_BYTES);
    rekeys_note(svc->rekeys, &r);
}

/* Under the keys that have retired. Whoever is found there is noted, to be found at once the next
 * time. */
static enum index_verdict
find_retired(const struct service *svc, const struct token_digest *digest, int64_t now_ms,
             struct index_hit *ret)
{
    unsigned char current[DIGEST_BYTES], bytes[DIGEST_BYTES];
    const struct digest_keys *keys = svc->keys;
    if (digest_keys_count(keys) == 1 && keys == digest->keys)
        return INDEX_UNKNOWN;
    digest_token_with(keys, 0, digest->text, current);
    enum index_verdict found = index_find(svc->index, current, now_ms, ret);
    for (size_t i = 1; found == INDEX_UNKNOWN && i < digest_keys_count(keys); i++) {
        digest_token_with(keys, i, digest->text, bytes);
        found = index_find(svc->index, bytes, now_ms, ret);
        if (found == INDEX_LIVE && svc->rekeys)
            note(svc, keys, bytes, current);
    }
    /* It may just have moved from there to here. */
    return found == INDEX_UNKNOWN ? index_find(svc->index, current, now_ms, ret) : found;
}

/* What has ended stays so, however old the view is. */
static bool
must_ask(const struct freshness *fresh, enum index_verdict found)
{
    if (found != INDEX_LIVE)
        return found == INDEX_UNKNOWN;
    int64_t as_of = atomic_load_explicit(&fresh->as_of_ms, memory_order_acquire);
    return as_of < clock_mono_ms() - fresh->max_ms;
}

enum token_judgement
token_judge_digest(const struct service *svc, const struct token_digest *digest,
                   int64_t now_ms, struct index_hit *ret)
{
    static const enum token_judgement says[] = {
        [INDEX_LIVE] = TOKEN_LIVE,
        [INDEX_UNKNOWN] = TOKEN_UNKNOWN,
        [INDEX_REVOKED] = TOKEN_REVOKED,
        [INDEX_EXPIRED] = TOKEN_EXPIRED,
    };
    if (!digest->has_form)
        return TOKEN_MALFORMED;
    if (atomic_load_explicit(&svc->filling, memory_order_acquire))
        return token_text_check(digest->text) ? TOKEN_ASK : TOKEN_MALFORMED;
    enum index_verdict found = index_find(svc->index, digest->bytes, now_ms, ret);
    /* Whose digest is known was made here, check characters and all. */
    if (found == INDEX_UNKNOWN && !token_text_check(digest->text))
        return TOKEN_MALFORMED;
    if (found == INDEX_UNKNOWN)
        found = find_retired(svc, digest, now_ms, ret);
    if (svc->fresh && must_ask(svc->fresh, found))
        return TOKEN_ASK;
    return says[found];
}

enum token_judgement
token_judge(const struct service *svc, struct kt_secret_view secret, int64_t now_ms,
            struct index_hit *ret)
{
    const struct token_digest digest = token_digest(svc, secret);
    return token_judge_digest(svc, &digest, now_ms, ret);
}
