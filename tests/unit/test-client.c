/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* libkaiten: arguments, answers, refusals, pages. */
#include "config.h"

#include "client/proto/error.h"
#include "client/proto/ops.h"
#include "tests/unit/client-server.h"

/* --- answers ------------------------------------------------------------------------------ */

static void
test_typed_answers(void **state)
{
    CASE(serve_answers);
    struct kaiten_token_request want = KAITEN_TOKEN_REQUEST_INIT;
    const char *scopes[] = { "read:tokens" };
    want.account = "ci";
    want.name = "ci";
    want.scopes = scopes;
    want.nscopes = 1;
    want.expires_at = 1893456000000;
    struct kaiten_token *token;
    assert_int_equal(kaiten_token_create(k, &want, &token), 0);
    assert_string_equal(token->secret, SECRET);
    assert_int_equal(token->secret_len, strlen(SECRET));
    assert_string_equal(token->slug, "ci-1");
    assert_int_equal(token->nscopes, 2);
    assert_string_equal(token->scopes[1], "write:tokens");
    assert_null(token->scopes[2]);
    assert_int_equal(token->expires_at, 1893456000000);
    assert_int_equal(token->created_at % 1000, 500);
    assert_true(token->revoked_at == KAITEN_NO_TIME);
    assert_true(token->last_used_at == KAITEN_NO_TIME);
    assert_string_equal(token->created_by.name, "Splinter");
    assert_null(token->revoked_by.id);
    kaiten_token_free(token);
    assert_int_equal(kt_secret_count(), 0);

    assert_int_equal(kaiten_token_get(k, "ci", "ci-1", &token), 0);
    assert_null(token->secret);
    assert_int_equal(token->last_used_at, 60000);
    kaiten_token_free(token);
    assert_int_equal(kaiten_token_rotate(k, "ci", "ci-1", 60, &token), 0);
    assert_string_equal(token->secret, SECRET);
    kaiten_token_free(token);
    assert_int_equal(kaiten_token_revoke(k, "ci", "ci-1"), 0);
    assert_int_equal(kaiten_token_revoke_all(k, "ci"), 0);

    struct kaiten_account *account;
    assert_int_equal(kaiten_account_create(k, "CI", NULL, &account), 0);
    assert_int_equal(account->ntokens, 1);
    assert_true(account->tokens_truncated);
    assert_string_equal(account->tokens[0]->name, "ci");
    assert_null(account->tokens[0]->secret);
    kaiten_account_free(account);
    assert_int_equal(kaiten_account_get(k, "ci", &account), 0);
    kaiten_account_free(account);
    assert_int_equal(kaiten_account_rename(k, "ci", "new"), 0);
    assert_int_equal(kaiten_account_delete(k, "ci"), 0);

    struct kaiten_caller *who;
    assert_int_equal(kaiten_whoami(k, &who), 0);
    assert_string_equal(who->kind, "peer");
    assert_null(who->organization);
    assert_int_equal(who->expires_at, 1000);
    kaiten_caller_free(who);
    assert_int_equal(kaiten_ping(k), 0);
    stop(&s);
}

static void
test_verify(void **state)
{
    CASE(serve_answers);
    const struct kaiten_verification *v, *const *many;
    assert_int_equal(kaiten_token_verify(k, SECRET, strlen(SECRET), "read:x", &v), 0);
    assert_true(v->valid);
    assert_string_equal(v->organization, "org");
    assert_true(v->expires_at == KAITEN_NO_TIME);
    struct kaiten_text tokens[] = { { SECRET, strlen(SECRET) }, { "\xff\xfe", 2 } };
    assert_int_equal(kaiten_token_verify_many(k, tokens, 2, NULL, &many), 0);
    assert_true(many[0]->valid);
    assert_false(many[1]->valid);
    assert_string_equal(many[1]->code, "unknown");
    /* As many answers as questions, or none of them is believed. */
    assert_int_equal(kaiten_token_verify_many(k, tokens, 1, NULL, &many), KAITEN_EPROTOCOL);
    stop(&s);
}

/* --- what is sent ------------------------------------------------------------------------- */

static char echoed[4096];

static void
serve_echo(struct conn *c)
{
    greet(c);
    struct request r;
    while (read_request(c, &r)) {
        struct kt_buf buf;
        kt_buf_init(&buf, sizeof echoed - 1);
        kt_json_put_value(&buf, r.args);
        if (r.meta)
            kt_json_put_value(&buf, r.meta);
        memcpy(echoed, buf.p, buf.n);
        echoed[buf.n] = '\0';
        kt_buf_done(&buf);
        reply(c, r.id, "{\"status\":404,\"code\":\"Token.NotFound\",\"detail\":\"no\"}", "null");
    }
}

static void
test_arguments(void **state)
{
    CASE(serve_echo);
    struct kaiten_token_request want = KAITEN_TOKEN_REQUEST_INIT;
    struct kaiten_token *token = NULL;
    want.account = "acc";
    want.name = "ü";
    assert_int_equal(kaiten_token_create(k, &want, &token), KAITEN_ENOTFOUND);
    assert_null(token);
    assert_string_equal(echoed,
                        "{\"serviceAccountSlug\":\"acc\",\"name\":\"ü\",\"scopes\":[]}");
    want.all_scopes = true;
    want.slug = "sl";
    want.expires_at = 0;
    kaiten_token_create(k, &want, &token);
    assert_string_equal(echoed, "{\"serviceAccountSlug\":\"acc\",\"name\":\"ü\",\"slug\":\"sl\","
                                "\"scopes\":null,\"expiresAt\":\"1970-01-01T00:00:00Z\"}");
    kaiten_token_rotate(k, "acc", "tok", 90, &token);
    assert_string_equal(echoed, "{\"serviceAccountSlug\":\"acc\",\"tokenSlug\":\"tok\","
                                "\"gracePeriodSeconds\":90}");
    kaiten_account_rename(k, "acc", "n");
    assert_string_equal(echoed, "{\"serviceAccountSlug\":\"acc\",\"name\":\"n\"}");
    struct kaiten_token_page *page;
    kaiten_token_list(k, "acc", "cur", 7, &page);
    assert_string_equal(echoed, "{\"serviceAccountSlug\":\"acc\",\"cursor\":\"cur\",\"limit\":7}");
    const struct kaiten_verification *v;
    kaiten_token_verify(k, "\xff", 1, "a:b", &v);
    assert_string_equal(echoed, "{\"token\":\"\",\"scope\":\"a:b\"}");
    assert_int_equal(kaiten_set_token(k, SECRET, strlen(SECRET)), 0);
    kaiten_ping(k);
    assert_string_equal(echoed, "{}{\"token\":\"" SECRET "\"}");
    char *json = NULL;
    assert_int_equal(kaiten_call_json(k, "x.y", "{\"a\":[1,null,\"b\"]}", &json),
                     KAITEN_ENOTFOUND);
    assert_null(json);
    assert_string_equal(echoed, "{\"a\":[1,null,\"b\"]}{\"token\":\"" SECRET "\"}");
    stop(&s);
}

/* A key goes with the next call that changes something, and with no other. */
static void
test_idempotency_key(void **state)
{
    CASE(serve_echo);
    struct kaiten_token *token;
    const struct kaiten_verification *v;
    static char big[300];
    assert_int_equal(kaiten_set_idempotency_key(k, "k-1"), 0);
    kaiten_token_verify(k, "x", 1, NULL, &v);
    assert_string_equal(echoed, "{\"token\":\"x\"}");
    kaiten_token_rotate(k, "a", "t", 0, &token);
    assert_non_null(strstr(echoed, "0}{\"idempotency_key\":\"k-1\"}"));
    kaiten_token_rotate(k, "a", "t", 0, &token);
    assert_null(strstr(echoed, "idempotency_key"));
    kaiten_set_token(k, "me", 2);
    assert_int_equal(kaiten_set_idempotency_key(k, "k-2"), 0);
    kaiten_token_revoke_all(k, "a");
    assert_non_null(strstr(echoed, "{\"token\":\"me\",\"idempotency_key\":\"k-2\"}"));
    assert_int_equal(kaiten_set_idempotency_key(k, "k-3"), 0);
    assert_int_equal(kaiten_set_idempotency_key(k, NULL), 0);
    kaiten_token_revoke_all(k, "a");
    assert_null(strstr(echoed, "idempotency_key"));
    memset(big, 'x', 256);
    assert_int_equal(kaiten_set_idempotency_key(k, big), KAITEN_EUSAGE);
    big[255] = '\0';
    assert_int_equal(kaiten_set_idempotency_key(k, big), 0);
    assert_int_equal(kaiten_set_idempotency_key(k, ""), KAITEN_EUSAGE);
    assert_int_equal(kaiten_set_idempotency_key(k, "a b"), KAITEN_EUSAGE);
    assert_int_equal(kaiten_set_idempotency_key(k, "\xc3\xbc"), KAITEN_EUSAGE);
    stop(&s);
}

static void
test_usage(void **state)
{
    CASE(serve_answers);
    struct kaiten_token_request want = KAITEN_TOKEN_REQUEST_INIT;
    struct kaiten_token *token;
    char *json;
    const struct kaiten_verification *v, *const *many;
    uint64_t tag;
    static char big[70000];
    memset(big, 'a', sizeof big - 1);
    assert_int_equal(kaiten_token_create(k, &want, &token), KAITEN_EUSAGE);
    want.account = want.name = "x";
    want.nscopes = 1;
    assert_int_equal(kaiten_token_create(k, &want, &token), KAITEN_EUSAGE);
    want.scopes = (const char *const[]){ NULL };
    assert_int_equal(kaiten_token_create(k, &want, &token), KAITEN_EUSAGE);
    want = (struct kaiten_token_request){ .account = "x", .name = "x" };
    assert_int_equal(kaiten_token_create(k, &want, &token), KAITEN_EUSAGE);
    assert_non_null(strstr(kaiten_error_detail(k), "KAITEN_TOKEN_REQUEST_INIT"));
    assert_int_equal(kaiten_token_revoke(k, NULL, "x"), KAITEN_EUSAGE);
    assert_int_equal(kaiten_token_revoke_all(k, NULL), KAITEN_EUSAGE);
    assert_int_equal(kaiten_token_revoke_all(k, "\xc3("), KAITEN_EUSAGE);
    assert_int_equal(kaiten_token_revoke(k, "x", "\xc3("), KAITEN_EUSAGE);
    assert_int_equal(kaiten_account_rename(k, "x", big), KAITEN_EUSAGE);
    assert_int_equal(kaiten_call_json(k, "x", "[1]", &json), KAITEN_EUSAGE);
    assert_int_equal(kaiten_call_json(k, "x", "{\"a\":1,\"a\":2}", &json), KAITEN_EUSAGE);
    assert_int_equal(kaiten_call_json(k, NULL, NULL, &json), KAITEN_EUSAGE);
    assert_int_equal(kaiten_token_verify(k, big, sizeof big, NULL, &v), KAITEN_EUSAGE);
    assert_int_equal(kaiten_token_verify_many(k, NULL, 1025, NULL, &many), KAITEN_EUSAGE);
    assert_int_equal(kaiten_verify_recv(k, &tag, &v), KAITEN_EUSAGE);
    assert_int_equal(kaiten_set_token(k, "", 0), KAITEN_EUSAGE);
    assert_string_equal(kaiten_error_code(k), "Client.Usage");
    assert_int_equal(requests, 0);
    assert_int_equal(kaiten_ping(k), 0);
    assert_string_equal(kaiten_error_code(k), "");
    stop(&s);
}

static void
test_json(void **state)
{
    CASE(serve_answers);
    char *json;
    assert_int_equal(kaiten_call_json(k, "kaiten.ping", NULL, &json), 0);
    assert_string_equal(json, "{\"status\":\"ok\"}");
    kaiten_json_free(json);
    assert_int_equal(kaiten_call_json(k, "token.revoke", "{}", &json), 0);
    assert_string_equal(json, "null");
    kaiten_json_free(json);
    kaiten_json_free(NULL);
    stop(&s);
}

/* --- refusals ----------------------------------------------------------------------------- */

static void
test_error_map(void **state)
{
    CASE(serve_refusal);
    static char text[256];
    for (int kind = KT_OK + 1; kind < KT_KIND_COUNT; kind++) {
        const struct kt_kind_info *info = kt_kind_info((enum kt_kind)kind);
        snprintf(text, sizeof text,
                 "{\"title\":\"%s\",\"status\":%d,\"detail\":\"why\",\"code\":\"A.B\"}",
                 info->title, info->http);
        refusal = text;
        assert_int_equal(kaiten_ping(k), info->http);
        assert_string_equal(kaiten_error_code(k), "A.B");
        assert_string_equal(kaiten_error_detail(k), "why");
        assert_string_equal(kaiten_error_problem(k), text);
        assert_string_equal(kaiten_strerror(info->http), info->title);
    }
    assert_int_equal(kaiten_error_retry_after(k), 0);
    refusal = "{\"status\":429,\"retryAfter\":7}";
    assert_int_equal(kaiten_ping(k), KAITEN_ETOOMANYREQUESTS);
    assert_int_equal(kaiten_error_retry_after(k), 7);
    refusal = "{\"status\":429,\"retryAfter\":-7}";
    assert_int_equal(kaiten_ping(k), KAITEN_ETOOMANYREQUESTS);
    assert_int_equal(kaiten_error_retry_after(k), 0);
    refusal = "{\"status\":429,\"retryAfter\":\"7\"}";
    assert_int_equal(kaiten_ping(k), KAITEN_ETOOMANYREQUESTS);
    assert_int_equal(kaiten_error_retry_after(k), 0);
    refusal = "{\"title\":\"Teapot\",\"status\":418}";
    assert_int_equal(kaiten_ping(k), KAITEN_EVALIDATION);
    assert_string_equal(kaiten_error_detail(k), "Teapot");
    refusal = "{\"status\":599}";
    assert_int_equal(kaiten_ping(k), KAITEN_EINTERNAL);
    refusal = "[0,\"Auth.MissingAuthorizationHeader: who\"]";
    assert_int_equal(kaiten_ping(k), KAITEN_EUNAUTHORIZED);
    assert_string_equal(kaiten_error_code(k), "Auth.MissingAuthorizationHeader");
    assert_string_equal(kaiten_error_detail(k), "who");
    assert_null(kaiten_error_problem(k));
    refusal = "[0,\"NOT_FOUND: no\"]";
    assert_int_equal(kaiten_ping(k), KAITEN_ENOTFOUND);
    refusal = "[1,\"odd\"]";
    assert_int_equal(kaiten_ping(k), KAITEN_EVALIDATION);
    assert_string_equal(kaiten_error_detail(k), "odd");
    refusal = "{\"detail\":\"no status\"}";
    assert_int_equal(kaiten_ping(k), KAITEN_EPROTOCOL);
    stop(&s);
}

static void
serve_no_greeting(struct conn *c)
{
    struct request r;
    while (read_any(c, &r))
        reply(c, r.id, "[0,\"Auth.PeerUnknown: no rule names you\"]", "null");
}

static void
test_greeting_refused(void **state)
{
    CASE(serve_no_greeting);
    assert_int_equal(kaiten_ping(k), KAITEN_EUNAUTHORIZED);
    assert_string_equal(kaiten_error_detail(k), "no rule names you");
    stop(&s);
}

/* --- a hostile server --------------------------------------------------------------------- */

static const char *shape;

static void
serve_shape(struct conn *c)
{
    greet(c);
    struct request r;
    while (read_request(c, &r))
        reply(c, r.id, "null", shape);
}

static void
test_wrong_shapes(void **state)
{
    CASE(serve_shape);
    struct kaiten_token *token;
    struct kaiten_token_request want = KAITEN_TOKEN_REQUEST_INIT;
    want.account = want.name = "x";
    static const char *const answers[] = {
        "null", "[]", "{}", "\"x\"", TOKEN_JSON(""), TOKEN_JSON(",\"token\":5"),
        TOKEN_JSON(",\"token\":\"" SECRET "\",\"revokedAt\":7"),
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        shape = answers[i];
        assert_int_equal(kaiten_token_create(k, &want, &token), KAITEN_EPROTOCOL);
    }
    /* What a newer server adds is not an error. */
    shape = TOKEN_JSON(",\"token\":\"" SECRET "\",\"newMember\":[1]");
    assert_int_equal(kaiten_token_create(k, &want, &token), 0);
    kaiten_token_free(token);
    /* Nothing but a true is a yes. */
    const struct kaiten_verification *v;
    shape = "{}";
    assert_int_equal(kaiten_token_verify(k, "x", 1, NULL, &v), 0);
    assert_false(v->valid);
    shape = "{\"valid\":1}";
    assert_int_equal(kaiten_token_verify(k, "x", 1, NULL, &v), KAITEN_EPROTOCOL);
    stop(&s);
}

/* --- lists -------------------------------------------------------------------------------- */

/* Three pages of accounts, the second of which is empty. */
static void
serve_pages(struct conn *c)
{
    greet(c);
    struct request r;
    while (read_request(c, &r)) {
        const struct kt_value *cursor = kt_value_get(r.args, "cursor");
        if (!cursor)
            reply(c, r.id, "null", "{\"items\":[" ACCOUNT_JSON("one") "," ACCOUNT_JSON("two")
                                   "],\"nextCursor\":\"2\",\"hasMore\":true}");
        else if (kt_str_is(cursor->s, "2"))
            reply(c, r.id, "null", "{\"items\":[],\"nextCursor\":\"3\",\"hasMore\":true}");
        else
            reply(c, r.id, "null",
                  "{\"items\":[" ACCOUNT_JSON("three") "],\"hasMore\":false}");
    }
}

static void
test_iterator(void **state)
{
    CASE(serve_pages);
    static const char *const slugs[] = { "one", "two", "three" };
    const struct kaiten_account *account;
    struct kaiten_account_iter *it = kaiten_account_iter_new(k);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(kaiten_account_iter_next(it, &account), 0);
        assert_string_equal(account->slug, slugs[i]);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kaiten_account_iter_next(it, &account), 0);
        assert_null(account);
    }
    assert_int_equal(requests, 3);
    kaiten_account_iter_free(it);
    kaiten_account_iter_free(NULL);
    stop(&s);
}

static void
test_page_shapes(void **state)
{
    CASE(serve_shape);
    struct kaiten_token_page *page;
    shape = "{\"items\":[" TOKEN_JSON("") "],\"hasMore\":false,\"nextCursor\":\"x\"}";
    assert_int_equal(kaiten_token_list(k, "a", NULL, 0, &page), 0);
    assert_int_equal(page->nitems, 1);
    assert_null(page->next_cursor);
    kaiten_token_page_free(page);
    shape = "{\"items\":[],\"hasMore\":true}";
    assert_int_equal(kaiten_token_list(k, "a", NULL, 0, &page), KAITEN_EPROTOCOL);
    shape = "{\"items\":[],\"hasMore\":true,\"nextCursor\":\"same\"}";
    assert_int_equal(kaiten_token_list(k, "a", "same", 0, &page), KAITEN_EPROTOCOL);
    shape = "{\"hasMore\":false}";
    assert_int_equal(kaiten_token_list(k, "a", NULL, 0, &page), KAITEN_EPROTOCOL);
    struct kaiten_token_iter *it = kaiten_token_iter_new(k, "a");
    const struct kaiten_token *token;
    assert_int_equal(kaiten_token_iter_next(it, &token), KAITEN_EPROTOCOL);
    shape = "{\"items\":[" TOKEN_JSON("") "],\"hasMore\":false}";
    assert_int_equal(kaiten_token_iter_next(it, &token), 0);
    assert_string_equal(token->slug, "ci-1");
    assert_int_equal(kaiten_token_iter_next(it, &token), 0);
    assert_null(token);
    kaiten_token_iter_free(it);
    kaiten_token_iter_free(NULL);
    stop(&s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_typed_answers),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_idempotency_key),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_error_map),
        cmocka_unit_test(test_greeting_refused),
        cmocka_unit_test(test_wrong_shapes),
        cmocka_unit_test(test_iterator),
        cmocka_unit_test(test_page_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
