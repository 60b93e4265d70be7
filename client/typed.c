/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The operations as C functions: arguments in, structs out. */
#include "config.h"

#include "client/client.h"
#include "client/proto/check.h"
#include "client/proto/utf8.h"

/* --- answers with a shape ----------------------------------------------------------------- */

static int
run_token(struct call *c, bool reveals, struct kaiten_token **ret_token)
{
    union kt_out out = { .token = { .token = NULL } };
    int error = call_bind(c, &kt_shape_plain_token, &out.token);
    if (!error && (!out.token.id.p || !out.token.slug.p || (reveals && !out.token.token)))
        error = call_bad_answer(c->k);
    struct kaiten_token *token = error ? NULL : result_token(&out.token);
    if (error)
        kt_secret_free(out.token.token);
    else if (!token)
        error = call_no_memory(c->k);
    if (token)
        *ret_token = token;
    return call_end(c, error);
}

static int
run_account(struct call *c, struct kaiten_account **ret_account)
{
    union kt_out out;
    int error = call_bind(c, &kt_shape_account, &out.account);
    if (!error && (!out.account.id.p || !out.account.slug.p))
        error = call_bad_answer(c->k);
    struct kaiten_account *account = error ? NULL : result_account(&out.account);
    if (!error && !account)
        error = call_no_memory(c->k);
    if (account)
        *ret_account = account;
    return call_end(c, error);
}

int
kaiten_whoami(struct kaiten *k, struct kaiten_caller **ret_caller)
{
    struct call c;
    union kt_out out;
    call_begin(&c, k, KT_OP_WHOAMI, 0);
    int error = call_bind(&c, &kt_shape_whoami, &out.whoami);
    struct kaiten_caller *caller = error ? NULL : result_caller(&out.whoami);
    if (!error && !caller)
        error = call_no_memory(k);
    if (caller)
        *ret_caller = caller;
    return call_end(&c, error);
}

/* --- service accounts --------------------------------------------------------------------- */

#define ACCOUNT "serviceAccountSlug"
#define TOKEN "tokenSlug"

int
kaiten_account_create(struct kaiten *k, const char *name, const char *slug,
                      struct kaiten_account **ret_account)
{
    if (!name)
        return call_missing(k, "the name");
    struct call c;
    struct kt_buf *buf = call_begin(&c, k, KT_OP_ACCOUNT_CREATE, slug ? 2 : 1);
    request_str(buf, "name", kt_str(name));
    if (slug)
        request_str(buf, "slug", kt_str(slug));
    return run_account(&c, ret_account);
}

int
kaiten_account_get(struct kaiten *k, const char *slug, struct kaiten_account **ret_account)
{
    if (!slug)
        return call_missing(k, "the slug");
    struct call c;
    request_str(call_begin(&c, k, KT_OP_ACCOUNT_GET, 1), ACCOUNT, kt_str(slug));
    return run_account(&c, ret_account);
}

int
kaiten_account_rename(struct kaiten *k, const char *slug, const char *name)
{
    if (!slug || !name)
        return call_missing(k, "the slug or the name");
    struct call c;
    struct kt_buf *buf = call_begin(&c, k, KT_OP_ACCOUNT_UPDATE, 2);
    request_str(buf, ACCOUNT, kt_str(slug));
    request_str(buf, "name", kt_str(name));
    return call_end(&c, call_run(&c));
}

int
kaiten_account_delete(struct kaiten *k, const char *slug)
{
    if (!slug)
        return call_missing(k, "the slug");
    struct call c;
    request_str(call_begin(&c, k, KT_OP_ACCOUNT_DELETE, 1), ACCOUNT, kt_str(slug));
    return call_end(&c, call_run(&c));
}

/* --- pages -------------------------------------------------------------------------------- */

static void
request_page(struct kt_buf *buf, const char *cursor, unsigned limit)
{
    if (cursor)
        request_str(buf, "cursor", kt_str(cursor));
    if (limit)
        request_int(buf, "limit", limit);
}

/* A page that promises more and does not say where would be fetched for ever. */
static int
call_page(struct call *c, const struct kt_shape *shape, const char *cursor, struct kt_page *page)
{
    int error = call_bind(c, shape, page);
    if (error)
        return error;
    if (page->items.has != KT_SET || (page->has_more && !page->next_cursor.p) ||
        (page->has_more && cursor && kt_str_is(page->next_cursor, cursor)))
        return call_bad_answer(c->k);
    return 0;
}

int
kaiten_account_list(struct kaiten *k, const char *cursor, unsigned limit,
                    struct kaiten_account_page **ret_page)
{
    struct call c;
    union kt_out out;
    size_t n = 0u + (cursor != NULL) + (limit != 0);
    request_page(call_begin(&c, k, KT_OP_ACCOUNT_LIST, n), cursor, limit);
    int error = call_page(&c, &kt_shape_account_page, cursor, &out.page);
    struct kaiten_account_page *page = error ? NULL : result_account_page(&out.page);
    if (!error && !page)
        error = call_no_memory(k);
    if (page)
        *ret_page = page;
    return call_end(&c, error);
}

int
kaiten_token_list(struct kaiten *k, const char *account, const char *cursor, unsigned limit,
                  struct kaiten_token_page **ret_page)
{
    if (!account)
        return call_missing(k, "the account");
    struct call c;
    union kt_out out;
    size_t n = 1u + (cursor != NULL) + (limit != 0);
    struct kt_buf *buf = call_begin(&c, k, KT_OP_TOKEN_LIST, n);
    request_str(buf, ACCOUNT, kt_str(account));
    request_page(buf, cursor, limit);
    int error = call_page(&c, &kt_shape_token_page, cursor, &out.page);
    struct kaiten_token_page *page = error ? NULL : result_token_page(&out.page);
    if (!error && !page)
        error = call_no_memory(k);
    if (page)
        *ret_page = page;
    return call_end(&c, error);
}

/* --- tokens ------------------------------------------------------------------------------- */

static void
request_scopes(struct kt_buf *buf, const struct kaiten_token_request *r)
{
    kt_pack_put_str(buf, KT_LIT("scopes"));
    if (r->all_scopes) {
        kt_pack_put_nil(buf);
        return;
    }
    kt_pack_put_array(buf, r->nscopes);
    for (size_t i = 0; i < r->nscopes; i++) {
        if (!kt_utf8_is_text(r->scopes[i], strlen(r->scopes[i])))
            buf->failed = true;
        kt_pack_put_str(buf, kt_str(r->scopes[i]));
    }
}

static bool
has_scopes(const struct kaiten_token_request *r)
{
    for (size_t i = 0; !r->all_scopes && i < r->nscopes; i++)
        if (!r->scopes || !r->scopes[i])
            return false;
    return true;
}

int
kaiten_token_create(struct kaiten *k, const struct kaiten_token_request *r,
                    struct kaiten_token **ret_token)
{
    if (!r || r->size < sizeof *r)
        return call_missing(k, "KAITEN_TOKEN_REQUEST_INIT");
    if (!r->account || !r->name || !has_scopes(r))
        return call_missing(k, "the account, the name or a scope");
    char expiry[KT_TIME_MAX];
    bool expires = r->expires_at != KAITEN_NO_TIME;
    if (expires && kt_time_print((struct kt_time){ r->expires_at }, expiry) == 0) {
        client_begin(k);
        return client_fail(k, KAITEN_EUSAGE, "expires_at is outside the years 1 to 9999");
    }
    struct call c;
    size_t n = 3u + (r->slug != NULL) + expires;
    struct kt_buf *buf = call_begin(&c, k, KT_OP_TOKEN_CREATE, n);
    request_str(buf, ACCOUNT, kt_str(r->account));
    request_str(buf, "name", kt_str(r->name));
    if (r->slug)
        request_str(buf, "slug", kt_str(r->slug));
    request_scopes(buf, r);
    if (expires)
        request_str(buf, "expiresAt", kt_str(expiry));
    return run_token(&c, true, ret_token);
}

/* The two path parameters that name one token. */
static struct kt_buf *
begin_on_token(struct call *c, struct kaiten *k, enum kt_op_id op, const char *account,
               const char *slug, size_t more)
{
    struct kt_buf *buf = call_begin(c, k, op, 2 + more);
    request_str(buf, ACCOUNT, kt_str(account));
    request_str(buf, TOKEN, kt_str(slug));
    return buf;
}

int
kaiten_token_get(struct kaiten *k, const char *account, const char *slug,
                 struct kaiten_token **ret_token)
{
    if (!account || !slug)
        return call_missing(k, "the account or the token");
    struct call c;
    begin_on_token(&c, k, KT_OP_TOKEN_GET, account, slug, 0);
    return run_token(&c, false, ret_token);
}

int
kaiten_token_rotate(struct kaiten *k, const char *account, const char *slug,
                    unsigned grace_seconds, struct kaiten_token **ret_token)
{
    if (!account || !slug)
        return call_missing(k, "the account or the token");
    struct call c;
    struct kt_buf *buf = begin_on_token(&c, k, KT_OP_TOKEN_ROTATE, account, slug, 1);
    request_int(buf, "gracePeriodSeconds", grace_seconds);
    return run_token(&c, true, ret_token);
}

int
kaiten_token_revoke(struct kaiten *k, const char *account, const char *slug)
{
    if (!account || !slug)
        return call_missing(k, "the account or the token");
    struct call c;
    begin_on_token(&c, k, KT_OP_TOKEN_REVOKE, account, slug, 0);
    return call_end(&c, call_run(&c));
}

int
kaiten_token_revoke_all(struct kaiten *k, const char *account)
{
    if (!account)
        return call_missing(k, "the account");
    struct call c;
    request_str(call_begin(&c, k, KT_OP_TOKEN_REVOKE_ALL, 1), ACCOUNT, kt_str(account));
    return call_end(&c, call_run(&c));
}
