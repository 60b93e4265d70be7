/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/json.h"
#include "client/proto/pack.h"
#include "daemon/codec/problem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define SECTION(s) "\"type\":\"https://tools.ietf.org/html/" s "\","

static const struct kt_value text = { .type = KT_V_STR, .s = { "a\"b", 3 } };
static const struct kt_value null = { .type = KT_V_NULL };
static const struct kt_value token = { .type = KT_V_STR, .s = { "x ksh_0", 7 } };
static const struct kt_member member = { { "a", 1 }, { .type = KT_V_STR, .s = { "ksh_1", 5 } } };
static const struct kt_value map = { .type = KT_V_MAP, .map = { &member, 1 } };
static const struct kt_value list = { .type = KT_V_ARRAY, .array = { &map, 1 } };

static const char many[4200]; /* all NUL: the text is not looked at */
static const struct kt_value large = { .type = KT_V_STR, .s = { many, sizeof many } };

static const struct row {
    enum kt_kind kind;
    const char *code, *detail, *path, *method, *id;
    struct kt_field_error fields[2];
    size_t nfields;
    const char *json;
} rows[] = {
    { .kind = KT_NOT_FOUND, .code = "Token.NotFound", .detail = "no such token",
      .path = "/api/service-accounts/x", .method = "GET",
      .json = "{" SECTION("rfc7231#section-6.5.4") "\"title\":\"Not Found\",\"status\":404,"
              "\"detail\":\"no such token\",\"instance\":\"/api/service-accounts/x\","
              "\"code\":\"Token.NotFound\"}" },
    { .kind = KT_CONFLICT, .method = "token.create",
      .json = "{" SECTION("rfc7231#section-6.5.8") "\"title\":\"Conflict\",\"status\":409,"
              "\"instance\":\"token.create\",\"code\":\"CONFLICT\"}" },
    { .kind = KT_INTERNAL, .detail = "unexpected error occurred", .path = "/x",
      .id = "00000000-0000-4000-8000-000000000000",
      .json = "{" SECTION("rfc7231#section-6.6.1") "\"title\":\"Internal Server Error\","
              "\"status\":500,\"detail\":\"unexpected error occurred\",\"instance\":\"/x\","
              "\"code\":\"INTERNAL\",\"errorId\":\"00000000-0000-4000-8000-000000000000\"}" },
    { .kind = KT_METHOD,
      .json = "{" SECTION("rfc7231#section-6.6.1") "\"title\":\"Method Not Allowed\","
              "\"status\":405,\"code\":\"UNKNOWN\"}" },
    { .kind = KT_UNPROCESSABLE, .detail = "validation failed", .path = "/x",
      .fields = { { { "expected array", 14 }, { "body.scopes", 11 }, &text },
                  { { NULL, 0 }, { "body", 4 }, &null } }, .nfields = 2,
      .json = "{" SECTION("rfc4918#section-11.2") "\"title\":\"Unprocessable Entity\","
              "\"status\":422,\"detail\":\"validation failed\",\"instance\":\"/x\","
              "\"code\":\"UNPROCESSABLE\",\"errors\":[{\"message\":\"expected array\","
              "\"location\":\"body.scopes\",\"value\":\"a\\\"b\"},{\"location\":\"body\"}]}" },
    /* What may be a secret is not shown again, wherever it stands. */
    { .kind = KT_UNPROCESSABLE,
      .fields = { { { NULL, 0 }, { "body", 4 }, &token }, { { NULL, 0 }, { "body", 4 }, &list } },
      .nfields = 2,
      .json = "{" SECTION("rfc4918#section-11.2") "\"title\":\"Unprocessable Entity\","
              "\"status\":422,\"code\":\"UNPROCESSABLE\",\"errors\":["
              "{\"location\":\"body\"},{\"location\":\"body\"}]}" },
    /* Nor is one in a path or in a text; too little of one is of no use to anybody. */
    { .kind = KT_NOT_FOUND, .detail = "no ksh_0123456789abcdefXYZ, no ksh_0123456789abcde-f",
      .path = "/a/ksh_ksh_ABCDEFGHIJKLMNOP/ksh_",
      .fields = { { { "ksh_0123456789ABCDEF", 20 }, { "body.ksh_0123456789ABCDEF", 25 }, NULL } },
      .nfields = 1,
      .json = "{" SECTION("rfc7231#section-6.5.4") "\"title\":\"Not Found\",\"status\":404,"
              "\"detail\":\"no ksh_*******************, no ksh_0123456789abcde-f\","
              "\"instance\":\"/a/ksh_ksh_****************/ksh_\",\"code\":\"NOT_FOUND\","
              "\"errors\":[{\"message\":\"ksh_****************\","
              "\"location\":\"body.ksh_****************\"}]}" },
    /* Each violation may quote the body: what is large would make an answer many times as large. */
    { .kind = KT_UNPROCESSABLE, .fields = { { { NULL, 0 }, { "body", 4 }, &large } }, .nfields = 1,
      .json = "{" SECTION("rfc4918#section-11.2") "\"title\":\"Unprocessable Entity\","
              "\"status\":422,\"code\":\"UNPROCESSABLE\",\"errors\":[{\"location\":\"body\"}]}" },
    /* A refusal that forgot its kind is ours. */
    { .kind = KT_OK,
      .json = "{" SECTION("rfc7231#section-6.6.1") "\"title\":\"Internal Server Error\","
              "\"status\":500,\"code\":\"INTERNAL\"}" },
};

enum { ROWS = sizeof rows / sizeof rows[0] };

static void
fill(struct request *rq, const struct row *row)
{
    *rq = (struct request){ .path = kt_str(row->path), .method = kt_str(row->method) };
    struct kt_error *err = &rq->call.err;
    err->kind = row->kind;
    err->code = row->code;
    err->detail = kt_str(row->detail);
    snprintf(err->id, sizeof err->id, "%s", row->id ? row->id : "");
    err->fields = row->nfields ? (struct kt_field_error *)row->fields : NULL;
    err->nfields = row->nfields;
}

static void
check(struct kt_buf *buf, const char *wanted)
{
    kt_buf_put(buf, "", 1);
    assert_false(buf->failed);
    assert_string_equal(buf->p, wanted);
    kt_buf_done(buf);
}

static void
json_is_the_contract(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        struct request rq;
        struct kt_buf buf;
        fill(&rq, &rows[i]);
        kt_buf_init(&buf, 4096);
        problem_json(&buf, &rq);
        check(&buf, rows[i].json);
    }
}

/* Read back and printed as JSON it is the same text, in the same order. */
static void
pack_says_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        struct request rq;
        struct kt_buf packed, json;
        struct kt_arena arena;
        struct kt_value value;
        size_t n;
        const char *why;
        fill(&rq, &rows[i]);
        kt_buf_init(&packed, 4096);
        kt_buf_init(&json, 4096);
        kt_arena_init(&arena, 65536);
        problem_pack(&packed, &rq);
        assert_int_equal(kt_pack_read(kt_buf_str(&packed), NULL, &arena, &value, &n, &why),
                         KT_FRAME_DONE);
        assert_int_equal(n, packed.n);
        kt_json_put_value(&json, &value);
        check(&json, rows[i].json);
        kt_buf_done(&packed);
        kt_arena_done(&arena);
    }
}

/* More violations than are kept are counted, and those that are kept are listed. */
static void
violations_are_bounded(void **state)
{
    (void)state;
    struct kt_arena arena;
    struct kt_buf buf;
    kt_arena_init(&arena, 65536);
    kt_buf_init(&buf, 65536);
    struct request rq = { .call = { .arena = &arena, .err = { .kind = KT_UNPROCESSABLE } } };
    for (int i = 0; i < 100; i++)
        assert_true(kt_error_field(&rq.call.err, &arena, KT_LIT("body"), KT_LIT("m"), NULL));
    problem_json(&buf, &rq);
    kt_buf_put(&buf, "", 1);
    int listed = 0;
    for (const char *p = buf.p; (p = strstr(p, "{\"message\"")); p++)
        listed++;
    assert_int_equal(listed, KT_FIELD_ERRORS_MAX);
    kt_buf_done(&buf);
    kt_arena_done(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_is_the_contract),
        cmocka_unit_test(pack_says_the_same),
        cmocka_unit_test(violations_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
