/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/client.h"
#include "client/proto/bind.h"
#include "client/proto/check.h"
#include "client/proto/json.h"
#include "client/proto/utf8.h"
#include "client/proto/wipe.h"

#include <stdlib.h>

/* --- requests and replies ----------------------------------------------------------------- */

uint32_t
request_begin(struct kaiten *k, struct kt_buf *buf, const char *method, size_t n)
{
    uint32_t id = ++k->id;
    kt_pack_put_array(buf, 4);
    kt_pack_put_int(buf, 0);
    kt_pack_put_uint(buf, id);
    kt_pack_put_str(buf, kt_str(method));
    kt_pack_put_array(buf, k->token ? 2 : 1);
    kt_pack_put_map(buf, n);
    return id;
}

void
request_end(struct kaiten *k, struct kt_buf *buf)
{
    if (!k->token)
        return;
    kt_pack_put_map(buf, 1);
    request_str(buf, "token", (struct kt_str){ k->token, k->token_len });
}

void
request_str(struct kt_buf *buf, const char *name, struct kt_str value)
{
    if (!kt_utf8_is_text(value.p, value.n))
        buf->failed = true;
    kt_pack_put_str(buf, kt_str(name));
    kt_pack_put_str(buf, value);
}

static void
request_int(struct kt_buf *buf, const char *name, int64_t value)
{
    kt_pack_put_str(buf, kt_str(name));
    kt_pack_put_int(buf, value);
}

bool
reply_parse(const struct kt_value *message, uint32_t *ret_id, const struct kt_value **ret_error,
            const struct kt_value **ret_result)
{
    if (message->type != KT_V_ARRAY || message->array.n != 4)
        return false;
    const struct kt_value *v = message->array.v;
    if (v[0].type != KT_V_INT || v[0].i != 1 || v[1].type != KT_V_INT || v[1].i < 0 ||
        v[1].i > UINT32_MAX)
        return false;
    *ret_id = (uint32_t)v[1].i;
    *ret_error = &v[2];
    *ret_result = &v[3];
    return true;
}

/* --- one call ----------------------------------------------------------------------------- */

/* A call on its way: what is in k->request, and what came back. */
struct call {
    struct kaiten *k;
    const char *method;
    uint32_t id;
    struct kt_value message;         /* keeps the array that result points into */
    const struct kt_value *result;   /* borrowed from the wire until call_end */
};

/* Does it change nothing, so that it may be sent again when its answer was lost? */
static bool
only_reads(const char *method)
{
    const struct kt_op_spec *spec = kt_op_find(kt_str(method));
    return spec && (!spec->http_method || strcmp(spec->http_method, "GET") == 0);
}

static int
await_reply(struct call *c, int64_t deadline)
{
    struct kaiten *k = c->k;
    for (;;) {
        int error = wire_read(k, deadline, &c->message);
        if (error == KAITEN_ETIMEOUT)
            wire_close(k, KAITEN_ELOST);
        if (error)
            return error;
        uint32_t id;
        const struct kt_value *refusal;
        if (!reply_parse(&c->message, &id, &refusal, &c->result))
            return wire_garbage(k, "not a reply");
        if (id == c->id)
            return refusal->type == KT_V_NULL ? 0 : client_refused(k, refusal);
        if (!verify_take(k, id))
            return wire_garbage(k, "a reply to nothing that was asked");
    }
}

static int
send_request(struct call *c, int64_t deadline)
{
    struct kaiten *k = c->k;
    int error = wire_open(k, deadline);
    if (error)
        return error;
    kt_buf_put(&k->out, k->request.p, k->request.n);
    return wire_flush(k, deadline);
}

/* The caller adds n arguments to what is returned. */
static struct kt_buf *
call_begin(struct call *c, struct kaiten *k, enum kt_op_id op, size_t n)
{
    *c = (struct call){ .k = k, .method = kt_op_specs[op].name };
    client_begin(k);
    kt_buf_wipe(&k->request);
    c->id = request_begin(k, &k->request, c->method, n);
    return &k->request;
}

static int
call_run(struct call *c)
{
    struct kaiten *k = c->k;
    request_end(k, &k->request);
    if (k->request.failed)
        return client_fail(k, KAITEN_EUSAGE,
                           "an argument is not UTF-8, or all of them are more than %d bytes",
                           CLIENT_REQUEST_MAX);
    bool again = only_reads(c->method);
    int64_t deadline = wire_deadline(k);
    for (int attempt = 0;; attempt++) {
        bool connected = k->fd >= 0;
        int error = send_request(c, deadline);
        bool sent = !error;
        if (sent)
            error = await_reply(c, deadline);
        /* Worth one more try on a connection that had grown old, or for a lost answer. */
        bool retry = sent ? error == KAITEN_ELOST && again : error == KAITEN_ECONNECT && connected;
        if (!retry || attempt > 0)
            return error;
    }
}

/* Forgets the request and the reply, which may hold secrets. */
static int
call_end(struct call *c, int error)
{
    wire_release(c->k);
    kt_buf_wipe(&c->k->request);
    return error;
}

static int
bad_answer(struct kaiten *k)
{
    return wire_garbage(k, "an answer of another shape");
}

static int
no_memory(struct kaiten *k)
{
    return client_fail(k, KAITEN_EMEMORY, "no memory for the answer");
}

static int
missing(struct kaiten *k, const char *what)
{
    client_begin(k);
    return client_fail(k, KAITEN_EUSAGE, "%s is missing", what);
}

/* --- by JSON ------------------------------------------------------------------------------ */

/* As deep and as many as the server takes; the message as a whole is checked when it is built. */
static const struct kt_json_limits argument_limits = {
    .depth = 8, .members = 4096, .nodes = 4096, .string = CLIENT_REQUEST_MAX, .number = 60,
};

static int
json_arguments(struct kaiten *k, const char *args, struct kt_value *ret)
{
    struct kt_json_error e;
    *ret = (struct kt_value){ .type = KT_V_MAP };
    if (!args)
        return 0;
    if (kt_json_read(kt_str(args), &k->arena, &argument_limits, ret, &e) != 0)
        return client_fail(k, KAITEN_EUSAGE, "the arguments are no JSON: %s at byte %zu", e.text,
                           e.offset);
    if (ret->type != KT_V_MAP)
        return client_fail(k, KAITEN_EUSAGE, "the arguments are no JSON object");
    return 0;
}

static int
json_answer(struct call *c, char **ret_json)
{
    struct kt_buf buf;
    kt_buf_init(&buf, (size_t)CLIENT_REPLY_MAX * 8); /* the worst that escaping does, and names */
    kt_json_put_value(&buf, c->result);
    kt_buf_putc(&buf, '\0');
    char *copy = buf.failed ? NULL : malloc(buf.n);
    if (copy)
        memcpy(copy, buf.p, buf.n);
    kt_buf_done(&buf);
    if (!copy)
        return no_memory(c->k);
    *ret_json = copy;
    return 0;
}

int
kaiten_call_json(struct kaiten *k, const char *method, const char *args, char **ret_json)
{
    if (!method || !*method)
        return missing(k, "the method");
    client_begin(k);
    struct kt_value map;
    int error = json_arguments(k, args, &map);
    struct call c = { .k = k, .method = method };
    if (!error) {
        kt_buf_wipe(&k->request);
        c.id = request_begin(k, &k->request, method, map.map.n);
        for (size_t i = 0; i < map.map.n; i++) {
            kt_pack_put_str(&k->request, map.map.v[i].name);
            kt_pack_put_value(&k->request, &map.map.v[i].value);
        }
        kt_arena_wipe(&k->arena);
        error = call_run(&c);
    }
    if (!error)
        error = json_answer(&c, ret_json);
    return call_end(&c, error);
}

void
kaiten_json_free(char *json)
{
    if (json)
        kt_wipe(json, strlen(json));
    free(json);
}

int
kaiten_ping(struct kaiten *k)
{
    struct call c;
    call_begin(&c, k, KT_OP_PING, 0);
    return call_end(&c, call_run(&c));
}

/* --- answers with a shape ----------------------------------------------------------------- */

/* Runs the call and binds its answer by the table. */
static int
call_bind(struct call *c, const struct kt_shape *shape, void *out)
{
    int error = call_run(c);
    if (error)
        return error;
    return kt_bind_answer(shape, c->result, &c->k->arena, out) ? 0 : bad_answer(c->k);
}

static int
run_token(struct call *c, bool reveals, struct kaiten_token **ret_token)
{
    union kt_out out = { .token = { .token = NULL } };
    int error = call_bind(c, &kt_shape_plain_token, &out.token);
    if (!error && (!out.token.id.p || !out.token.slug.p || (reveals && !out.token.token)))
        error = bad_answer(c->k);
    struct kaiten_token *token = error ? NULL : result_token(&out.token);
    if (error)
        kt_secret_unref(out.token.token);
    else if (!token)
        error = no_memory(c->k);
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
        error = bad_answer(c->k);
    struct kaiten_account *account = error ? NULL : result_account(&out.account);
    if (!error && !account)
        error = no_memory(c->k);
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
        error = no_memory(k);
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
        return missing(k, "the name");
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
        return missing(k, "the slug");
    struct call c;
    request_str(call_begin(&c, k, KT_OP_ACCOUNT_GET, 1), ACCOUNT, kt_str(slug));
    return run_account(&c, ret_account);
}

int
kaiten_account_rename(struct kaiten *k, const char *slug, const char *name)
{
    if (!slug || !name)
        return missing(k, "the slug or the name");
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
        return missing(k, "the slug");
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
        return bad_answer(c->k);
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
        error = no_memory(k);
    if (page)
        *ret_page = page;
    return call_end(&c, error);
}

int
kaiten_token_list(struct kaiten *k, const char *account, const char *cursor, unsigned limit,
                  struct kaiten_token_page **ret_page)
{
    if (!account)
        return missing(k, "the account");
    struct call c;
    union kt_out out;
    size_t n = 1u + (cursor != NULL) + (limit != 0);
    struct kt_buf *buf = call_begin(&c, k, KT_OP_TOKEN_LIST, n);
    request_str(buf, ACCOUNT, kt_str(account));
    request_page(buf, cursor, limit);
    int error = call_page(&c, &kt_shape_token_page, cursor, &out.page);
    struct kaiten_token_page *page = error ? NULL : result_token_page(&out.page);
    if (!error && !page)
        error = no_memory(k);
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

int
kaiten_token_create(struct kaiten *k, const struct kaiten_token_request *r,
                    struct kaiten_token **ret_token)
{
    if (!r || r->size < sizeof *r || !r->account || !r->name || (r->nscopes && !r->scopes))
        return missing(k, "the account, the name or the scopes");
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
        return missing(k, "the account or the token");
    struct call c;
    begin_on_token(&c, k, KT_OP_TOKEN_GET, account, slug, 0);
    return run_token(&c, false, ret_token);
}

int
kaiten_token_rotate(struct kaiten *k, const char *account, const char *slug,
                    unsigned grace_seconds, struct kaiten_token **ret_token)
{
    if (!account || !slug)
        return missing(k, "the account or the token");
    struct call c;
    struct kt_buf *buf = begin_on_token(&c, k, KT_OP_TOKEN_ROTATE, account, slug, 1);
    request_int(buf, "gracePeriodSeconds", grace_seconds);
    return run_token(&c, true, ret_token);
}

int
kaiten_token_revoke(struct kaiten *k, const char *account, const char *slug)
{
    if (!account || !slug)
        return missing(k, "the account or the token");
    struct call c;
    begin_on_token(&c, k, KT_OP_TOKEN_REVOKE, account, slug, 0);
    return call_end(&c, call_run(&c));
}

int
kaiten_token_revoke_all(struct kaiten *k, const char *account)
{
    if (!account)
        return missing(k, "the account");
    struct call c;
    request_str(call_begin(&c, k, KT_OP_TOKEN_REVOKE_ALL, 1), ACCOUNT, kt_str(account));
    return call_end(&c, call_run(&c));
}

/* --- verification, one after the other ---------------------------------------------------- */

bool
is_credential(const char *token, size_t n)
{
    return n <= KAITEN_CREDENTIAL_MAX && (token || n == 0);
}

/* The server would close on a message with bytes that are no text. No token has such bytes, and of
 * the empty one it says what it would say of them: malformed. */
struct kt_str
sendable(const char *token, size_t n)
{
    return n && kt_utf8_is_text(token, n) ? (struct kt_str){ token, n } : KT_LIT("");
}

static int
not_credential(struct kaiten *k)
{
    client_begin(k);
    return client_fail(k, KAITEN_EUSAGE, "a token has at most %d bytes", KAITEN_CREDENTIAL_MAX);
}

static int
too_many(struct kaiten *k)
{
    client_begin(k);
    return client_fail(k, KAITEN_EUSAGE, "more than %d tokens at once", KAITEN_VERIFY_MANY_MAX);
}

int
kaiten_token_verify(struct kaiten *k, const char *token, size_t n, const char *scope,
                    const struct kaiten_verification **ret_v)
{
    if (!is_credential(token, n))
        return not_credential(k);
    struct call c;
    struct kt_buf *buf = call_begin(&c, k, KT_OP_TOKEN_VERIFY, scope ? 2 : 1);
    request_str(buf, "token", sendable(token, n));
    if (scope)
        request_str(buf, "scope", kt_str(scope));
    union kt_out out;
    int error = call_bind(&c, &kt_shape_verdict, &out.verdict);
    const struct kaiten_verification *v = NULL;
    if (!error)
        v = result_verification(&k->arena, &out.verdict);
    if (!error && !v)
        error = no_memory(k);
    if (v)
        *ret_v = v;
    return call_end(&c, error);
}

static void
request_tokens(struct kt_buf *buf, const struct kaiten_text *tokens, size_t n)
{
    kt_pack_put_str(buf, KT_LIT("tokens"));
    kt_pack_put_array(buf, n);
    for (size_t i = 0; i < n; i++)
        kt_pack_put_str(buf, sendable(tokens[i].p, tokens[i].n));
}

static const struct kaiten_verification **
many_results(struct kt_arena *arena, const struct kt_list *list)
{
    const struct kt_verdict *verdicts = list->v;
    const struct kaiten_verification **v = kt_arena_calloc(arena, list->n + 1, sizeof *v);
    for (size_t i = 0; v && i < list->n; i++)
        if (!(v[i] = result_verification(arena, &verdicts[i])))
            return NULL;
    return v;
}

int
kaiten_token_verify_many(struct kaiten *k, const struct kaiten_text *tokens, size_t n,
                         const char *scope, const struct kaiten_verification *const **ret_v)
{
    if (n > KAITEN_VERIFY_MANY_MAX)
        return too_many(k);
    for (size_t i = 0; i < n; i++)
        if (!is_credential(tokens[i].p, tokens[i].n))
            return not_credential(k);
    struct call c;
    struct kt_buf *buf = call_begin(&c, k, KT_OP_TOKEN_VERIFY_MANY, scope ? 2 : 1);
    request_tokens(buf, tokens, n);
    if (scope)
        request_str(buf, "scope", kt_str(scope));
    union kt_out out;
    int error = call_bind(&c, &kt_shape_verdicts, &out.verdicts);
    if (!error && (out.verdicts.results.has != KT_SET || out.verdicts.results.n != n))
        error = bad_answer(k);
    const struct kaiten_verification **v = NULL;
    if (!error && !(v = many_results(&k->arena, &out.verdicts.results)))
        error = no_memory(k);
    if (v)
        *ret_v = v;
    return call_end(&c, error);
}
