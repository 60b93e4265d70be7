/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/principal.h"

#include "client/proto/utf8.h"

#include <errno.h>
#include <stdlib.h>

enum { TEXT_MAX = 255, NAME_MAX_BYTES = 4096 };

/* A text of an auth plugin: bounded, UTF-8; required ones are not empty. */
static bool
text_ok(const char *s, size_t max, bool required)
{
    if (!s)
        return !required;
    struct kt_str text = { s, strnlen(s, max + 1) };
    return text.n <= max && (text.n > 0 || !required) && kt_utf8_is_text(text.p, text.n);
}

/* What a plugin of an older header does not have stays as it is. */
static bool
take_known(const struct kaiten_principal *theirs, struct kaiten_principal *ret)
{
    const size_t least = offsetof(struct kaiten_principal, proof) + sizeof theirs->proof;
    if (theirs->size < least)
        return false;
    memcpy(ret, theirs, theirs->size < sizeof *ret ? theirs->size : sizeof *ret);
    return true;
}

static bool
check(const struct kaiten_principal *p)
{
    if (!text_ok(p->subject, TEXT_MAX, true) || !text_ok(p->organization, TEXT_MAX, true) ||
        !text_ok(p->name, NAME_MAX_BYTES, false) || !text_ok(p->email, TEXT_MAX, false) ||
        !text_ok(p->proof, TEXT_MAX, false) || p->nscopes > KAITEN_SCOPES_MAX)
        return false;
    for (size_t i = 0; i < p->nscopes; i++)
        if (!text_ok(p->scopes[i], KAITEN_SCOPE_MAX, true))
            return false;
    return true;
}

static size_t
text_size(const char *s)
{
    return s ? strlen(s) + 1 : 0;
}

static struct kt_str
copy(char **at, const char *s)
{
    if (!s)
        return (struct kt_str){ NULL, 0 };
    size_t n = strlen(s);
    struct kt_str out = { memcpy(*at, s, n + 1), n };
    *at += n + 1;
    return out;
}

static bool
is_empty(const char *s)
{
    return !s || *s == '\0';
}

struct principal *
principal_new(const struct kaiten_principal *theirs)
{
    struct kaiten_principal known = { 0 };
    const struct kaiten_principal *p = &known;
    errno = EINVAL;
    if (!take_known(theirs, &known) || !check(p))
        return NULL;
    errno = ENOMEM;
    const char *name = is_empty(p->name) ? p->subject : p->name;
    const char *proof = p->proof ? p->proof : "plugin";
    size_t size = text_size(p->subject) + text_size(p->organization) + text_size(name) +
                  text_size(p->email) + text_size(proof);
    for (size_t i = 0; i < p->nscopes; i++)
        size += text_size(p->scopes[i]);
    struct principal *who = calloc(1, sizeof *who + p->nscopes * sizeof(struct kt_str) + size);
    if (!who)
        return NULL;
    struct kt_str *scopes = (struct kt_str *)(who + 1);
    char *at = (char *)(scopes + p->nscopes);
    atomic_init(&who->refs, 1);
    who->subject = copy(&at, p->subject);
    who->org_ext = copy(&at, p->organization);
    who->name = copy(&at, name);
    who->email = copy(&at, p->email);
    who->proof = copy(&at, proof).p;
    for (size_t i = 0; i < p->nscopes; i++)
        scopes[i] = copy(&at, p->scopes[i]);
    who->scopes = scopes;
    who->nscopes = p->nscopes;
    if (!uuid_of_user(who->subject, &who->id) || !uuid_of_org(who->org_ext, &who->org)) {
        free(who);
        errno = ENOMEM;
        return NULL;
    }
    who->expires_ms = p->expires_at_ms;
    who->max_lifetime_ms = p->max_lifetime_ms;
    who->verify = p->verify == KAITEN_VERIFY_OWN || p->verify == KAITEN_VERIFY_ANY
                      ? (enum kaiten_verify)p->verify
                      : KAITEN_VERIFY_NO;
    who->asked_rate = p->rate;
    return who;
}

struct principal *
principal_ref(struct principal *who)
{
    if (who)
        atomic_fetch_add_explicit(&who->refs, 1, memory_order_relaxed);
    return who;
}

struct principal *
principal_unref(struct principal *who)
{
    if (who && atomic_fetch_sub_explicit(&who->refs, 1, memory_order_acq_rel) == 1)
        free(who);
    return NULL;
}
