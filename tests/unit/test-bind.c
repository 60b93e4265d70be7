/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Binding and encoding: each operation's arguments and answers are the same through both wires, and
 * violations come in the order of the contract. */
#include "config.h"

#include "client/proto/bind.h"
#include "client/proto/check.h"
#include "client/proto/encode.h"
#include "client/proto/json.h"
#include "client/proto/ops.h"
#include "client/proto/pack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct kt_arena arena;

static int
set_up(void **state)
{
    (void)state;
    kt_arena_init(&arena, 1 << 20);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    kt_arena_done(&arena);
    return 0;
}

static struct kt_value *
json(const char *text)
{
    struct kt_value *v = kt_arena_alloc(&arena, sizeof *v);
    struct kt_json_error err;
    assert_int_equal(kt_json_read(kt_str(text), &arena, NULL, v, &err), 0);
    return v;
}

static struct kt_value *
unpack(struct kt_str bytes)
{
    struct kt_value *v = kt_arena_alloc(&arena, sizeof *v);
    size_t n;
    const char *why;
    assert_int_equal(kt_pack_read(bytes, NULL, &arena, v, &n, &why), KT_FRAME_DONE);
    assert_int_equal(n, bytes.n);
    return v;
}

/* --- violations --------------------------------------------------------------------------- */

/* "location: message" of every violation, one a line. */
static const char *
violations(enum kt_op_id op, const char *body)
{
    static char text[4096];
    union kt_in in;
    struct kt_error err = { .kind = KT_OK };
    const struct kt_params params = { .body = json(body), .flat = true };
    text[0] = '\0';
    if (kt_bind(kt_op_specs[op].in, &params, &arena, &in, &err) == KT_OK)
        return "";
    assert_int_equal(err.kind, KT_UNPROCESSABLE);
    for (size_t i = 0; i < err.nfields && i < KT_FIELD_ERRORS_MAX; i++) {
        size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, "%.*s: %.*s\n", KT_FMT(err.fields[i].location),
                 KT_FMT(err.fields[i].message));
    }
    return text;
}

#define PATH "\"serviceAccountSlug\":\"ci\","
#define PATTERN "expected string to match pattern ^[a-z0-9][a-z0-9-]*[a-z0-9]$\n"

static const struct {
    enum kt_op_id op;
    const char *body, *expected;
} refused[] = {
    { KT_OP_TOKEN_CREATE, "{" PATH "\"name\":\"x\",\"scopes\":[]}", "" },
    { KT_OP_TOKEN_CREATE, "{" PATH "\"name\":\"x\",\"scopes\":null,\"slug\":null}", "" },
    { KT_OP_TOKEN_CREATE, "{" PATH "\"name\":\"\",\"scopes\":[]}", "" },
    { KT_OP_TOKEN_CREATE, "{" PATH "\"scopes\":[]}",
      "body: expected required property name to be present\n" },
    { KT_OP_TOKEN_CREATE, "{" PATH "\"slug\":\"A\",\"scopes\":3}",
      "body: expected required property name to be present\nbody.scopes: expected array\n"
      "body.slug: expected length >= 2\nbody.slug: " PATTERN },
    { KT_OP_TOKEN_CREATE, "{" PATH "\"name\":null,\"scopes\":[]}", "body.name: expected string\n" },
    { KT_OP_TOKEN_CREATE, "{" PATH "\"name\":\"x\",\"scopes\":[\"a\",1,null]}",
      "body.scopes[1]: expected string\nbody.scopes[2]: expected string\n" },
    { KT_OP_TOKEN_CREATE, "{" PATH "\"name\":\"x\",\"scopes\":[],\"expiresAt\":\"soon\"}",
      "body.expiresAt: expected string to be RFC 3339 date-time\n" },
    { KT_OP_TOKEN_CREATE, "{" PATH "\"name\":\"x\",\"scopes\":[],\"createdBy\":{}}",
      "body.createdBy: expected required property id to be present\n" },
    { KT_OP_TOKEN_CREATE, "{" PATH "\"name\":\"x\",\"scopes\":[],\"zz\":1,\"id\":4}",
      "body.id: expected string\nbody.zz: unexpected property\n" },
    { KT_OP_TOKEN_CREATE, "{" PATH "\"name\":\"x\",\"scopes\":[],\"id\":\"nope\"}",
      "body: invalid UUID length: 4\n" },
    { KT_OP_TOKEN_CREATE, "{" PATH "\"name\":\"x\",\"scopes\":[],\"serviceAccountId\":\"x\",\"id\":"
      "\"0123456789abcdef0123456789abcdeg\"}", "body: invalid UUID format\n" },
    { KT_OP_TOKEN_CREATE, "{" PATH "\"name\":\"x\",\"scopes\":[1],\"id\":\"\"}",
      "body.scopes[0]: expected string\n" },
    { KT_OP_TOKEN_CREATE, "{" PATH "\"name\":\"x\",\"scopes\":[],\"createdBy\":{\"id\":\"x\"},"
      "\"id\":null,\"serviceAccountId\":\"0123456789abcdef0123456789abcdef\"}", "" },
    { KT_OP_ACCOUNT_CREATE, "{\"name\":\"x\",\"tokens\":[{\"name\":\"\",\"scopes\":null,"
      "\"serviceAccountId\":\"\"}]}", "body: invalid UUID length: 0\n" },
    { KT_OP_TOKEN_CREATE, "{\"name\":\"x\",\"scopes\":[]}",
      "path: expected required property serviceAccountSlug to be present\n" },
    { KT_OP_ACCOUNT_CREATE, "[]", "body: expected object\n" },
    { KT_OP_ACCOUNT_CREATE, "{\"name\":\"\"}", "body.name: expected length >= 1\n" },
    { KT_OP_ACCOUNT_CREATE, "{\"name\":\"x\",\"slug\":\"\"}",
      "body.slug: expected length >= 2\nbody.slug: " PATTERN },
    { KT_OP_ACCOUNT_CREATE,
      "{\"name\":\"x\",\"tokens\":[{\"name\":\"a\",\"scopes\":[]},{\"name\":1,\"scopes\":[]}]}",
      "body.tokens[1].name: expected string\n" },
    { KT_OP_ACCOUNT_CREATE, "{\"name\":\"x\",\"tokens\":null,\"createdBy\":null}", "" },
    { KT_OP_ACCOUNT_CREATE, "{\"name\":\"x\",\"tokens\":{}}", "body.tokens: expected array\n" },
    { KT_OP_ACCOUNT_CREATE, "{\"name\":\"x\",\"tokens\":[7,[]]}",
      "body.tokens[0]: expected object\nbody.tokens[1]: expected object\n" },
    { KT_OP_ACCOUNT_CREATE, "{\"name\":\"x\",\"createdBy\":\"me\"}",
      "body.createdBy: expected object\n" },
    { KT_OP_ACCOUNT_CREATE, "{\"name\":\"x\",\"createdBy\":{\"id\":null,\"x\":1}}",
      "body.createdBy.id: expected string\nbody.createdBy.x: unexpected property\n" },
    { KT_OP_ACCOUNT_CREATE, "{\"name\":\"x\",\"createdAt\":1}",
      "body.createdAt: expected string\n" },
    { KT_OP_ACCOUNT_CREATE, "{\"name\":\"x\",\"tokensTruncated\":1}",
      "body.tokensTruncated: expected boolean\n" },
    { KT_OP_ACCOUNT_LIST, "{\"limit\":0}", "query.limit: expected number >= 1\n" },
    { KT_OP_ACCOUNT_LIST, "{\"limit\":201}", "query.limit: expected number <= 200\n" },
    { KT_OP_ACCOUNT_LIST, "{\"limit\":\"abc\"}", "query.limit: expected integer\n" },
    { KT_OP_ACCOUNT_LIST, "{\"limit\":200,\"cursor\":\"\"}", "" },
    { KT_OP_TOKEN_VERIFY, "{\"token\":3}", "body.token: expected string\n" },
    { KT_OP_TOKEN_VERIFY, "{}", "body: expected required property token to be present\n" },
    { KT_OP_TOKEN_VERIFY, "{\"token\":null}", "body.token: expected string\n" },
    { KT_OP_TOKEN_VERIFY_MANY, "{\"tokens\":[\"a\",2]}", "body.tokens[1]: expected string\n" },
    { KT_OP_TOKEN_VERIFY_MANY, "{\"tokens\":\"a\"}", "body.tokens: expected array\n" },
    { KT_OP_TOKEN_VERIFY_MANY, "{\"tokens\":[]}", "" },
    { KT_OP_HELLO, "{\"errors\":\"html\"}", "body.errors: expected one of pair, problem\n" },
};

static void
violations_are_those_of_the_contract(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_string_equal(violations(refused[i].op, refused[i].body), refused[i].expected);
}

static void
many_violations_are_counted_and_sixteen_kept(void **state)
{
    (void)state;
    struct kt_buf body;
    kt_buf_init(&body, 4096);
    kt_buf_puts(&body, "{\"name\":\"x\"");
    for (int i = 0; i < 40; i++)
        kt_buf_printf(&body, ",\"extra%d\":1", i);
    kt_buf_putc(&body, '}');
    kt_buf_putc(&body, '\0');
    union kt_in in;
    struct kt_error err = { .kind = KT_OK };
    const struct kt_params params = { .body = json(body.p) };
    assert_int_equal(kt_bind(kt_op_specs[KT_OP_ACCOUNT_CREATE].in, &params, &arena, &in, &err),
                     KT_UNPROCESSABLE);
    assert_int_equal(err.nfields, 40);
    kt_buf_done(&body);
}

static void
query_texts_are_read_as_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t limit; /* KT_NO_INT: absent; -1: refused */
    } cases[] = { { "1", 1 }, { "200", 200 }, { "", KT_NO_INT }, { "0", -1 }, { "201", -1 },
                  { "-1", -1 }, { "abc", -1 }, { "1e2", -1 }, { " 5", -1 }, { "05", 5 },
                  { "+5", 5 }, { "+000200", 200 }, { "-05", -1 }, { "000", -1 }, { "+", -1 },
                  { "0x5", -1 }, { "--5", -1 }, { "+-5", -1 }, { "0-5", -1 }, { "-0", -1 },
                  { "000000000000000000000000000000007", 7 }, { "99999999999999999999", -1 } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        union kt_in in;
        struct kt_error err = { .kind = KT_OK };
        const struct kt_param query = { KT_LIT("limit"), kt_str(cases[i].text) };
        const struct kt_params params = { .query = &query, .nquery = 1 };
        int status = kt_bind(kt_op_specs[KT_OP_ACCOUNT_LIST].in, &params, &arena, &in, &err);
        assert_int_equal(status != KT_OK, cases[i].limit == -1);
        if (status == KT_OK)
            assert_int_equal(in.page.limit, cases[i].limit);
    }
}

static void
secrets_are_not_echoed(void **state)
{
    (void)state;
    union kt_in in;
    struct kt_error err = { .kind = KT_OK };
    const struct kt_params params = {
        .body = json("{\"token\":\"ksh_secret\",\"scopes\":[]}"), .flat = true };
    assert_int_equal(kt_bind(kt_op_specs[KT_OP_TOKEN_CREATE].in, &params, &arena, &in, &err),
                     KT_UNPROCESSABLE);
    for (size_t i = 0; i < err.nfields; i++)
        assert_null(err.fields[i].value);
}

/* --- parameters of HTTP ------------------------------------------------------------------- */

static void
parameters_of_path_and_query(void **state)
{
    (void)state;
    const struct kt_param path[] = { { KT_LIT("other"), KT_LIT("x") },
                                     { KT_LIT("serviceAccountSlug"), KT_LIT("ci") } };
    const struct kt_param query = { KT_LIT("cursor"), KT_LIT("abc") };
    const struct kt_shape *shape = kt_op_specs[KT_OP_TOKEN_LIST].in;
    struct kt_params params = { .path = path, .npath = 2, .query = &query, .nquery = 1 };
    struct kt_error err = { .kind = KT_OK };
    union kt_in in;
    assert_int_equal(kt_bind(shape, &params, &arena, &in, &err), 0);
    assert_true(kt_str_is(in.page.account, "ci") && kt_str_is(in.page.cursor, "abc"));
    assert_int_equal(in.page.limit, KT_NO_INT);
    params.npath = 1;
    assert_int_equal(kt_bind(shape, &params, &arena, &in, &err), KT_UNPROCESSABLE);
    assert_true(kt_str_is(err.fields[0].location, "path.serviceAccountSlug"));
    assert_true(kt_str_is(err.fields[0].message, "required parameter is missing"));
}

/* --- all types ---------------------------------------------------------------------------- */

struct every {
    bool flag;
    int64_t count;
    struct kt_time when;
    struct kt_str text;
    struct kt_strlist words;
    struct kt_secret *shown;
    struct kt_secret_view secret;
    struct kt_secret_list secrets;
    const struct kt_user *who;
    struct kt_list list;
    const struct kt_value *any;
};

#define EVERY(m, ...) KT_FIELD(struct every, m, #m, .doc = "", __VA_ARGS__)
static const struct kt_field every_fields[] = {
    EVERY(flag, .flags = 0),
    EVERY(count, KT_RANGE(0, 9)),
    EVERY(when, .flags = 0),
    EVERY(text, KT_RANGE(1, 2)),
    EVERY(words, KT_RANGE(1, 2)),
    EVERY(secret, .flags = 0),
    EVERY(secrets, KT_RANGE(1, 2)),
    EVERY(any, .flags = 0),
    { .name = NULL },
};
static const struct kt_shape every_shape = { "Every", sizeof(struct every), every_fields };

/* Only answers have these: a secret of its own, objects that are kept. */
static const struct kt_field answer_fields[] = {
    EVERY(flag, .flags = 0),
    EVERY(count, .flags = 0),
    EVERY(shown, .flags = 0),
    EVERY(secret, .flags = 0),
    EVERY(secrets, .flags = 0),
    EVERY(who, .shape = &kt_shape_user),
    EVERY(list, .shape = &kt_shape_user),
    EVERY(any, .flags = 0),
    { .name = NULL },
};
static const struct kt_shape answer_shape = { "Every", sizeof(struct every), answer_fields };

static int
bind_every(const char *body, struct every *e, struct kt_arena *memory)
{
    struct kt_error err = { .kind = KT_OK };
    const struct kt_params params = { .body = json(body) };
    return kt_bind(&every_shape, &params, memory, e, &err);
}

static void
each_type_has_its_values(void **state)
{
    (void)state;
    struct every e;
    assert_int_equal(bind_every("{\"flag\":true,\"count\":7,\"when\":\"1970-01-01T00:00:01Z\","
                                "\"text\":\"\u00e9\u00e9\",\"words\":[\"a\",\"b\"],"
                                "\"secret\":\"s\",\"secrets\":[\"t\"],\"any\":{\"x\":[1]}}",
                                &e, &arena), 0);
    assert_true(e.flag && e.count == 7 && e.when.ms == 1000);
    assert_true(kt_str_is(e.text, "\xc3\xa9\xc3\xa9"));
    assert_true(e.words.n == 2 && kt_str_is(e.words.v[1], "b") && e.words.has == KT_SET);
    assert_true(e.secret.n == 1 && e.secrets.n == 1 && e.secrets.v[0].p[0] == 't');
    assert_non_null(kt_value_get(e.any, "x"));
    assert_int_equal(bind_every("{}", &e, &arena), 0);
    assert_true(!e.flag && e.count == KT_NO_INT && !kt_time_is_set(e.when) && !e.text.p);
    assert_true(e.words.has == KT_ABSENT && !e.secret.p && e.secrets.has == KT_ABSENT && !e.any);
    assert_int_equal(bind_every("{\"count\":70e-1}", &e, &arena), 0);
    assert_int_equal(e.count, 7);
    static const char *const wrong[] = {
        "{\"flag\":1}", "{\"count\":1.5}", "{\"count\":1e16}", "{\"count\":10.0}",
        "{\"count\":\"1\"}", "{\"count\":10}", "{\"count\":-1}",
        "{\"when\":{}}", "{\"text\":[]}", "{\"text\":\"abc\"}", "{\"text\":\"\"}", "{\"words\":[]}",
        "{\"words\":[\"a\",\"b\",\"c\"]}", "{\"words\":[1]}", "{\"secret\":false}",
        "{\"secrets\":[]}", "{\"secrets\":[\"a\",\"b\",\"c\"]}", "{\"other\":null}", "3", "null" };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(bind_every(wrong[i], &e, &arena), KT_UNPROCESSABLE);
}

static void
answers_have_every_type(void **state)
{
    (void)state;
    struct every e;
    assert_true(kt_bind_answer(&answer_shape,
                               json("{\"flag\":true,\"count\":3,\"shown\":\"ksh_x\","
                                    "\"secret\":\"s\",\"secrets\":[\"a\"],\"who\":{\"id\":\"1\"},"
                                    "\"list\":[{\"id\":\"2\"}],\"any\":[]}"), &arena, &e));
    assert_true(e.flag && e.count == 3 && kt_str_is(e.who->id, "1") && e.list.n == 1 && e.any);
    kt_secret_free(e.shown);
    static const char *const wrong[] = { "{\"flag\":0}", "{\"count\":\"x\"}", "{\"shown\":3}",
                                         "{\"secret\":3}", "{\"secrets\":[3]}", "{\"who\":3}",
                                         "{\"who\":{\"id\":3}}", "{\"list\":{}}",
                                         "{\"list\":[3]}" };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(kt_bind_answer(&answer_shape, json(wrong[i]), &arena, &e));
}

/* However little memory there is: it is bound, or it is refused; nothing is half there. */
static void
memory_may_end_anywhere(void **state)
{
    (void)state;
    static const char body[] = "{\"words\":[\"a\",\"b\"],\"text\":\"abc\",\"secrets\":[\"t\"]}";
    static const char answer[] = "{\"who\":{\"id\":\"1\"},\"list\":[{\"id\":\"2\"}],"
                                 "\"secrets\":[\"a\"]}";
    const struct kt_param query = { KT_LIT("limit"), KT_LIT("x") };
    const struct kt_params params = { .query = &query, .nquery = 1 };
    bool fitted = false;
    for (size_t bytes = 0; bytes < 4096; bytes += 8) {
        struct kt_arena small;
        struct every e;
        union kt_in in;
        struct kt_error err = { .kind = KT_OK };
        kt_arena_init(&small, bytes);
        assert_int_equal(bind_every(body, &e, &small), KT_UNPROCESSABLE);
        assert_int_equal(kt_bind(kt_op_specs[KT_OP_ACCOUNT_LIST].in, &params, &small, &in, &err),
                         KT_UNPROCESSABLE);
        kt_arena_done(&small);
        kt_arena_init(&small, bytes);
        bool bound = kt_bind_answer(&answer_shape, json(answer), &small, &e);
        assert_true(bound || !fitted);
        fitted = bound;
        kt_arena_done(&small);
    }
    assert_true(fitted);
}

/* --- presence ----------------------------------------------------------------------------- */

static void
absent_null_and_empty_scopes_are_three_things(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        enum kt_presence has;
    } cases[] = { { "{" PATH "\"name\":\"x\",\"scopes\":null}", KT_NULL },
                  { "{" PATH "\"name\":\"x\",\"scopes\":[]}", KT_SET } };
    for (size_t i = 0; i < 2; i++) {
        union kt_in in;
        struct kt_error err = { .kind = KT_OK };
        const struct kt_params params = { .body = json(cases[i].body), .flat = true };
        const struct kt_shape *shape = kt_op_specs[KT_OP_TOKEN_CREATE].in;
        assert_int_equal(kt_bind(shape, &params, &arena, &in, &err), 0);
        assert_int_equal(in.token.scopes.has, cases[i].has);
        assert_false(kt_time_is_set(in.token.expires_at));
        assert_null(in.token.slug.p);
    }
}

/* MessagePack can name instants that no text of ours can. */
static void
a_timestamp_is_an_instant_that_can_be_written(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        bool good;
    } cases[] = { { KT_TIME_FIRST, true }, { KT_TIME_FIRST - 1, false },
                  { KT_TIME_LAST, true },  { KT_TIME_LAST + 1, false } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kt_member members[] = {
            { KT_LIT("serviceAccountSlug"), { .type = KT_V_STR, .s = KT_LIT("ci") } },
            { KT_LIT("name"), { .type = KT_V_STR, .s = KT_LIT("x") } },
            { KT_LIT("scopes"), { .type = KT_V_NULL } },
            { KT_LIT("expiresAt"), { .type = KT_V_TIME, .t = { cases[i].ms } } },
        };
        const struct kt_value body = { .type = KT_V_MAP, .map = { members, 4 } };
        const struct kt_params params = { .body = &body, .flat = true };
        const struct kt_shape *shape = kt_op_specs[KT_OP_TOKEN_CREATE].in;
        struct kt_error err = { .kind = KT_OK };
        union kt_in in;
        assert_int_equal(kt_bind(shape, &params, &arena, &in, &err) == 0, cases[i].good);
    }
}

/* --- both wires --------------------------------------------------------------------------- */

static const struct kt_user someone = { { "1", 1 }, { "Ada", 3 } };

static struct kt_token
a_token(void)
{
    static const struct kt_str scopes[] = { { "read:tokens", 11 }, { "write:*", 7 } };
    struct kt_token t = { .id = KT_LIT("id"),
                          .name = KT_LIT("na\"me \xc3\xa9"),
                          .slug = KT_LIT("slug"),
                          .scopes = { scopes, 2, KT_SET },
                          .service_account_id = KT_LIT("sa"),
                          .expires_at = { 1786363200120 },
                          .created_at = { 0 },
                          .created_by = &someone,
                          .revoked_at = KT_NO_TIME,
                          .last_used_at = { 60000 } };
    return t;
}

/* A tree that was read from one wire prints the same JSON as one read from the other. */
static void
assert_same_on_both(const struct kt_shape *shape, const void *p, const char *expected)
{
    struct kt_buf text, packed, again;
    kt_buf_init(&text, 1 << 16);
    kt_buf_init(&packed, 1 << 16);
    kt_buf_init(&again, 1 << 16);
    kt_encode_json(&text, shape, p);
    kt_encode_pack(&packed, shape, p);
    kt_json_put_value(&again, unpack(kt_buf_str(&packed)));
    kt_buf_putc(&text, '\0');
    kt_buf_putc(&again, '\0');
    assert_string_equal(text.p, again.p);
    if (expected)
        assert_string_equal(text.p, expected);
    void *back = kt_arena_calloc(&arena, 1, shape->size);
    assert_true(kt_bind_answer(shape, unpack(kt_buf_str(&packed)), &arena, back));
    kt_buf_reset(&again);
    kt_encode_json(&again, shape, back);
    kt_buf_putc(&again, '\0');
    assert_string_equal(text.p, again.p);
    kt_buf_done(&text);
    kt_buf_done(&packed);
    kt_buf_done(&again);
}

static void
a_token_is_the_same_on_both_wires(void **state)
{
    (void)state;
    struct kt_token t = a_token();
    assert_same_on_both(&kt_shape_token, &t,
                        "{\"id\":\"id\","
                        "\"name\":\"na\\\"me \xc3\xa9\",\"slug\":\"slug\",\"scopes\":"
                        "[\"read:tokens\",\"write:*\"],\"serviceAccountId\":\"sa\",\"expiresAt\":"
                        "\"2026-08-10T12:00:00.12Z\",\"createdAt\":\"1970-01-01T00:00:00Z\","
                        "\"createdBy\":{\"id\":\"1\",\"name\":\"Ada\"},"
                        "\"lastUsedAt\":\"1970-01-01T00:01:00Z\"}");
}

static void
accounts_and_pages_are_the_same_on_both_wires(void **state)
{
    (void)state;
    struct kt_token tokens[] = { a_token(), a_token() };
    struct kt_account a = { .id = KT_LIT("a"),
                            .name = KT_LIT("n"),
                            .slug = KT_LIT("s"),
                            .external_id = KT_LIT("ksa_"),
                            .created_by = &someone,
                            .created_at = { 1000 } };
    a.tokens.has = KT_NULL;
    assert_same_on_both(&kt_shape_account, &a,
                        "{\"id\":\"a\",\"name\":\"n\",\"slug\":\"s\",\"externalId\":\"ksa_\","
                        "\"createdBy\":{\"id\":\"1\",\"name\":\"Ada\"},\"createdAt\":"
                        "\"1970-01-01T00:00:01Z\",\"tokens\":null}");
    a.tokens = (struct kt_list){ tokens, 2, KT_SET };
    a.tokens_truncated = true;
    struct kt_page page = { { &a, 1, KT_SET }, KT_LIT("next"), true };
    assert_same_on_both(&kt_shape_account_page, &page, NULL);
    struct kt_page empty = { { NULL, 0, KT_SET }, { NULL, 0 }, false };
    assert_same_on_both(&kt_shape_token_page, &empty, "{\"items\":[],\"hasMore\":false}");
}

static void
verdicts_are_the_same_on_both_wires(void **state)
{
    (void)state;
    struct kt_verdict no;
    kt_shape_clear(&kt_shape_verdict, &no);
    no.code = KT_LIT("revoked");
    assert_same_on_both(&kt_shape_verdict, &no, "{\"valid\":false,\"code\":\"revoked\"}");
}

static void
answers_of_the_wrong_type_are_noticed(void **state)
{
    (void)state;
    static const char *const wrong[] = { "{\"id\":3}", "{\"scopes\":\"x\"}", "{\"scopes\":[1]}",
                                         "{\"createdBy\":[]}", "{\"createdAt\":\"now\"}", "[]" };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct kt_token t;
        assert_false(kt_bind_answer(&kt_shape_token, json(wrong[i]), &arena, &t));
    }
    struct kt_token t;
    assert_true(kt_bind_answer(&kt_shape_token, json("{\"id\":\"x\",\"later\":1}"), &arena, &t));
    assert_int_equal(t.scopes.has, KT_ABSENT);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(violations_are_those_of_the_contract),
        CASE(many_violations_are_counted_and_sixteen_kept),
        CASE(query_texts_are_read_as_numbers),
        CASE(secrets_are_not_echoed),
        CASE(absent_null_and_empty_scopes_are_three_things),
        CASE(a_timestamp_is_an_instant_that_can_be_written),
        CASE(a_token_is_the_same_on_both_wires),
        CASE(accounts_and_pages_are_the_same_on_both_wires),
        CASE(verdicts_are_the_same_on_both_wires),
        CASE(answers_of_the_wrong_type_are_noticed),
        CASE(parameters_of_path_and_query),
        CASE(each_type_has_its_values),
        CASE(answers_have_every_type),
        CASE(memory_may_end_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
