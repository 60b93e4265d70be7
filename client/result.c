/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/client.h"
#include "client/proto/secret.h"

#include <stdlib.h>

enum { RESULT_MAX = CLIENT_ARENA_MAX };

/* What the caller owns begins with what the caller sees. Everything below it is in the arena,
 * but the secret, which stays in locked memory. */
struct token_box {
    struct kaiten_token pub;
    struct kt_arena arena;
    struct kt_secret *secret;
};
struct account_box {
    struct kaiten_account pub;
    struct kt_arena arena;
};
struct caller_box {
    struct kaiten_caller pub;
    struct kt_arena arena;
};
struct token_page_box {
    struct kaiten_token_page pub;
    struct kt_arena arena;
};
struct account_page_box {
    struct kaiten_account_page pub;
    struct kt_arena arena;
};

/* Copies with one memory for "did it all fit", so that the copying reads as a list. */
struct copy {
    struct kt_arena *arena;
    bool failed;
};

static const char *
copy_str(struct copy *c, struct kt_str s)
{
    if (!s.p)
        return NULL;
    const char *p = kt_arena_str(c->arena, s).p;
    c->failed |= !p;
    return p;
}

static const char *const *
copy_strings(struct copy *c, const struct kt_strlist *list, size_t *ret_n)
{
    const char **v = kt_arena_calloc(c->arena, list->n + 1, sizeof *v);
    *ret_n = v ? list->n : 0;
    c->failed |= !v;
    for (size_t i = 0; i < *ret_n; i++)
        v[i] = copy_str(c, list->v[i]);
    return v;
}

static struct kaiten_user
copy_user(struct copy *c, const struct kt_user *user)
{
    if (!user)
        return (struct kaiten_user){ NULL, NULL };
    return (struct kaiten_user){ copy_str(c, user->id), copy_str(c, user->name) };
}

/* An absent time is the same number on both sides. */
_Static_assert(KAITEN_NO_TIME == INT64_MIN, "KT_NO_TIME");

static void
copy_token(struct copy *c, const struct kt_token *t, struct kaiten_token *to)
{
    to->id = copy_str(c, t->id);
    to->name = copy_str(c, t->name);
    to->slug = copy_str(c, t->slug);
    to->scopes = copy_strings(c, &t->scopes, &to->nscopes);
    to->service_account_id = copy_str(c, t->service_account_id);
    to->expires_at = t->expires_at.ms;
    to->created_at = t->created_at.ms;
    to->revoked_at = t->revoked_at.ms;
    to->created_by = copy_user(c, t->created_by);
    to->revoked_by = copy_user(c, t->revoked_by);
    to->last_used_at = t->last_used_at.ms;
}

static const struct kaiten_token *const *
copy_tokens(struct copy *c, const struct kt_list *list, size_t *ret_n)
{
    const struct kt_token *from = list->v;
    const struct kaiten_token **v = kt_arena_calloc(c->arena, list->n + 1, sizeof *v);
    struct kaiten_token *to = kt_arena_calloc(c->arena, list->n, sizeof *to);
    *ret_n = v && to ? list->n : 0;
    c->failed |= !v || !to;
    for (size_t i = 0; i < *ret_n; i++) {
        copy_token(c, &from[i], &to[i]);
        v[i] = &to[i];
    }
    return v;
}

static void
copy_account(struct copy *c, const struct kt_account *a, struct kaiten_account *to)
{
    to->id = copy_str(c, a->id);
    to->name = copy_str(c, a->name);
    to->slug = copy_str(c, a->slug);
    to->external_id = copy_str(c, a->external_id);
    to->created_by = copy_user(c, a->created_by);
    to->created_at = a->created_at.ms;
    to->tokens = copy_tokens(c, &a->tokens, &to->ntokens);
    to->tokens_truncated = a->tokens_truncated;
}

static const struct kaiten_account *const *
copy_accounts(struct copy *c, const struct kt_list *list, size_t *ret_n)
{
    const struct kt_account *from = list->v;
    const struct kaiten_account **v = kt_arena_calloc(c->arena, list->n + 1, sizeof *v);
    struct kaiten_account *to = kt_arena_calloc(c->arena, list->n, sizeof *to);
    *ret_n = v && to ? list->n : 0;
    c->failed |= !v || !to;
    for (size_t i = 0; i < *ret_n; i++) {
        copy_account(c, &from[i], &to[i]);
        v[i] = &to[i];
    }
    return v;
}

static struct copy
copy_begin(struct kt_arena *arena)
{
    kt_arena_init(arena, RESULT_MAX);
    return (struct copy){ arena, false };
}

struct kaiten_token *
result_token(const struct kt_token *take_secret)
{
    struct token_box *box = calloc(1, sizeof *box);
    if (!box) {
        kt_secret_free(take_secret->token);
        return NULL;
    }
    struct copy c = copy_begin(&box->arena);
    copy_token(&c, take_secret, &box->pub);
    box->secret = take_secret->token;
    struct kt_secret_view view = kt_secret_view(box->secret);
    box->pub.secret = view.p;
    box->pub.secret_len = view.n;
    if (!c.failed)
        return &box->pub;
    kaiten_token_free(&box->pub);
    return NULL;
}

struct kaiten_token_page *
result_token_page(const struct kt_page *page)
{
    struct token_page_box *box = calloc(1, sizeof *box);
    if (!box)
        return NULL;
    struct copy c = copy_begin(&box->arena);
    box->pub.items = copy_tokens(&c, &page->items, &box->pub.nitems);
    box->pub.next_cursor = page->has_more ? copy_str(&c, page->next_cursor) : NULL;
    if (!c.failed)
        return &box->pub;
    kaiten_token_page_free(&box->pub);
    return NULL;
}

struct kaiten_account *
result_account(const struct kt_account *account)
{
    struct account_box *box = calloc(1, sizeof *box);
    if (!box)
        return NULL;
    struct copy c = copy_begin(&box->arena);
    copy_account(&c, account, &box->pub);
    if (!c.failed)
        return &box->pub;
    kaiten_account_free(&box->pub);
    return NULL;
}

struct kaiten_account_page *
result_account_page(const struct kt_page *page)
{
    struct account_page_box *box = calloc(1, sizeof *box);
    if (!box)
        return NULL;
    struct copy c = copy_begin(&box->arena);
    box->pub.items = copy_accounts(&c, &page->items, &box->pub.nitems);
    box->pub.next_cursor = page->has_more ? copy_str(&c, page->next_cursor) : NULL;
    if (!c.failed)
        return &box->pub;
    kaiten_account_page_free(&box->pub);
    return NULL;
}

struct kaiten_caller *
result_caller(const struct kt_whoami *who)
{
    struct caller_box *box = calloc(1, sizeof *box);
    if (!box)
        return NULL;
    struct copy c = copy_begin(&box->arena);
    box->pub.subject = copy_str(&c, who->subject);
    box->pub.name = copy_str(&c, who->name);
    box->pub.organization = copy_str(&c, who->organization);
    box->pub.organization_id = copy_str(&c, who->organization_id);
    box->pub.id = copy_str(&c, who->id);
    box->pub.kind = copy_str(&c, who->kind);
    box->pub.scopes = copy_strings(&c, &who->scopes, &box->pub.nscopes);
    box->pub.expires_at = who->expires_at.ms;
    if (!c.failed)
        return &box->pub;
    kaiten_caller_free(&box->pub);
    return NULL;
}

const struct kaiten_verification *
result_verification(struct kt_arena *arena, const struct kt_verdict *verdict)
{
    struct kaiten_verification *v = KT_ARENA_NEW(arena, struct kaiten_verification);
    if (!v)
        return NULL;
    struct copy c = { arena, false };
    v->valid = verdict->valid;
    v->code = copy_str(&c, verdict->code);
    v->token_id = copy_str(&c, verdict->token_id);
    v->organization = copy_str(&c, verdict->organization);
    v->service_account = copy_str(&c, verdict->service_account);
    v->scopes = copy_strings(&c, &verdict->scopes, &v->nscopes);
    v->expires_at = verdict->expires_at.ms;
    return c.failed ? NULL : v;
}

/* --- freeing ------------------------------------------------------------------------------ */

void
kaiten_token_free(struct kaiten_token *token)
{
    if (!token)
        return;
    struct token_box *box = (struct token_box *)token;
    kt_secret_free(box->secret);
    kt_arena_done(&box->arena);
    free(box);
}

void
kaiten_token_page_free(struct kaiten_token_page *page)
{
    if (!page)
        return;
    struct token_page_box *box = (struct token_page_box *)page;
    kt_arena_done(&box->arena);
    free(box);
}

void
kaiten_account_free(struct kaiten_account *account)
{
    if (!account)
        return;
    struct account_box *box = (struct account_box *)account;
    kt_arena_done(&box->arena);
    free(box);
}

void
kaiten_account_page_free(struct kaiten_account_page *page)
{
    if (!page)
        return;
    struct account_page_box *box = (struct account_page_box *)page;
    kt_arena_done(&box->arena);
    free(box);
}

void
kaiten_caller_free(struct kaiten_caller *caller)
{
    if (!caller)
        return;
    struct caller_box *box = (struct caller_box *)caller;
    kt_arena_done(&box->arena);
    free(box);
}
