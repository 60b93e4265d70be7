/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* How kaitenctl prints answers. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/ctl/print.h"
#include "client/proto/json.h"

#include <locale.h>

static void
check_print(enum ctl_output output, enum kt_op_id op, const char *json, const char *expected)
{
    struct kt_arena arena;
    struct kt_value v;
    struct kt_json_error e;
    struct kt_buf buf;
    kt_arena_init(&arena, 1024 * 1024);
    kt_buf_init(&buf, 64 * 1024);
    assert_int_equal(kt_json_read(kt_str(json), &arena, NULL, &v, &e), 0);
    print_answer(&buf, output, &kt_op_specs[op], &v);
    kt_buf_putc(&buf, '\0');
    assert_string_equal(buf.p, expected);
    kt_buf_done(&buf);
    kt_arena_done(&arena);
}

#define TOKENS \
    "{\"items\":[{\"name\":\"\u682a\u5f0f\",\"slug\":\"one\",\"scopes\":[\"read:*\",\"x:y\"]}," \
    "{\"name\":\"b\",\"slug\":\"two-long\",\"scopes\":[],\"expiresAt\":\"2001-01-01T00:00:00Z\"}," \
    "{\"name\":\"c\\u001b[2J\",\"slug\":\"x\",\"scopes\":null," \
    "\"revokedAt\":\"2001-01-01T00:00:00Z\"," \
    "\"expiresAt\":\"2001-01-01T00:00:00Z\"}],\"hasMore\":false}"

#define KEYS \
    "{\"items\":[{\"kind\":\"digest\",\"id\":\"a1\",\"state\":\"current\"}," \
    "{\"kind\":\"digest\",\"id\":\"b2\",\"state\":\"retired\",\"tokens\":3,\"records\":40}," \
    "{\"kind\":\"signing\",\"id\":\"c3\",\"state\":\"retired\"," \
    "\"publishedUntil\":\"2030-01-01T00:00:00Z\"}]}"

static void
test_tables(void **state)
{
    check_print(CTL_TABLE, KT_OP_TOKEN_LIST, TOKENS,
                "NAME      SLUG      STATE    EXPIRES AT            SCOPES\n"
                "\u682a\u5f0f      one       live     -                     read:*,x:y\n"
                "b         two-long  expired  2001-01-01T00:00:00Z  -\n"
                "c\\x1b[2J  x         revoked  2001-01-01T00:00:00Z  -\n");
    check_print(CTL_TABLE, KT_OP_KEY_LIST, KEYS,
                "KIND     ID  STATE    TOKENS  RECORDS  PUBLISHED UNTIL\n"
                "digest   a1  current  -       -        -\n"
                "digest   b2  retired  3       40       -\n"
                "signing  c3  retired  -       -        2030-01-01T00:00:00Z\n");
    check_print(CTL_TABLE, KT_OP_ACCOUNT_LIST, "{\"items\":[],\"hasMore\":false}",
                "NAME  SLUG  ID  TOKENS\n");
    check_print(CTL_TABLE, KT_OP_ACCOUNT_LIST,
                "{\"items\":[{\"id\":\"1\",\"name\":\"n\",\"slug\":\"s\",\"tokens\":[{},{}],"
                "\"tokensTruncated\":true}],\"hasMore\":false}",
                "NAME  SLUG  ID  TOKENS\nn     s     1   2+\n");
    check_print(CTL_TABLE, KT_OP_WHOAMI,
                "{\"subject\":\"u\",\"scopes\":[\"a:b\",\"c:d\"],\"createdBy\":{\"id\":\"1\","
                "\"name\":\"N\"},\"valid\":true,\"n\":5,\"none\":null}",
                "subject    u\nscopes     a:b,c:d\ncreatedBy  N\nvalid      true\n"
                "n          5\nnone       -\n");
}

static void
test_machine_forms(void **state)
{
    check_print(CTL_JSON, KT_OP_WHOAMI, "{\"a\":[1,{}],\"b\":{\"c\":\"\\u009bx\\\"\"},\"d\":[]}",
                "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": {\n    \"c\": \"\\u009bx\\\"\"\n"
                "  },\n  \"d\": []\n}\n");
    check_print(CTL_NDJSON, KT_OP_TOKEN_LIST,
                "{\"items\":[{\"a\":1},{\"b\":[2]}],\"hasMore\":true,\"nextCursor\":\"x\"}",
                "{\"a\":1}\n{\"b\":[2]}\n");
    check_print(CTL_NDJSON, KT_OP_WHOAMI, "{\"a\":1}", "{\"a\":1}\n");
    check_print(CTL_NAME, KT_OP_KEY_LIST, KEYS, "a1\nb2\nc3\n");
    check_print(CTL_NDJSON, KT_OP_KEY_LIST, "{\"items\":[{\"id\":\"a\"},{\"id\":\"b\"}]}",
                "{\"id\":\"a\"}\n{\"id\":\"b\"}\n");
    check_print(CTL_NAME, KT_OP_TOKEN_LIST, "{\"items\":[{\"slug\":\"a\"},{\"slug\":\"b\"}],"
                                            "\"hasMore\":false}",
                "a\nb\n");
    check_print(CTL_NAME, KT_OP_ACCOUNT_GET, "{\"id\":\"1\",\"slug\":\"s\"}", "s\n");
    check_print(CTL_NAME, KT_OP_SCOPES, "{\"scopes\":[\"a:b\",\"c:d\"],\"modules\":[\"m\"]}",
                "a:b\nc:d\n");
    check_print(CTL_YAML, KT_OP_ACCOUNT_GET,
                "{\"name\":\"CI\",\"no\":\"no\",\"at\":\"2001-01-01\",\"text\":\"a: b\",\"n\":1,"
                "\"list\":[\"x\",{\"k\":\"v\",\"m\":[1]}],\"e\":[],\"o\":{\"p\":null}}",
                "name: CI\n\"no\": \"no\"\nat: \"2001-01-01\"\ntext: \"a: b\"\n\"n\": 1\n"
                "list:\n- x\n- k: v\n  m:\n  - 1\ne: []\no:\n  p: null\n");
}

static void
test_lists_over_pages(void **state)
{
    static const char *const pages[] = {
        "{\"items\":[{\"slug\":\"a\"}]}", "{\"items\":[]}",
        "{\"items\":[{\"slug\":\"b\"}]}",
    };
    static const struct {
        enum ctl_output output;
        const char *expected;
    } cases[] = {
        { CTL_JSON, "{\n  \"items\": [\n    {\n      \"slug\": \"a\"\n    },\n    {\n"
                    "      \"slug\": \"b\"\n    }\n  ],\n  \"hasMore\": false\n}\n" },
        { CTL_YAML, "items:\n- slug: a\n- slug: b\nhasMore: false\n" },
        { CTL_NAME, "a\nb\n" },
        { CTL_NDJSON, "{\"slug\":\"a\"}\n{\"slug\":\"b\"}\n" },
        { CTL_TABLE, "NAME  SLUG  ID  TOKENS\n-     a     -   0\n-     b     -   0\n" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct print_list list;
        struct kt_buf buf;
        struct kt_arena arena;
        kt_buf_init(&buf, 64 * 1024);
        kt_arena_init(&arena, 1024 * 1024);
        print_list_begin(&list, cases[i].output, &kt_op_specs[KT_OP_ACCOUNT_LIST], &buf);
        for (size_t p = 0; p < 3; p++) {
            struct kt_value v;
            struct kt_json_error e;
            assert_int_equal(kt_json_read(kt_str(pages[p]), &arena, NULL, &v, &e), 0);
            print_list_items(&list, &v, &buf);
        }
        print_list_end(&list, &buf);
        kt_buf_putc(&buf, '\0');
        assert_string_equal(buf.p, cases[i].expected);
        kt_buf_done(&buf);
        kt_arena_done(&arena);
    }
}

static void
test_text_cannot_move_the_cursor(void **state)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        { "plain \u00fc\u682a", "plain \u00fc\u682a" },
        { "\x1b[2J\r\n\t", "\\x1b[2J\\x0d\\x0a\\x09" },
        { "\xc2\x9b" "31m", "\\x9b31m" },
        { "\u202e" "abc\u2066", "\\u202eabc\\u2066" },
        { "\x7f", "\\x7f" },
        { "\xff\xc3", "\\xff\\xc3" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kt_buf buf;
        kt_buf_init(&buf, 1024);
        print_text(&buf, kt_str(cases[i].text));
        kt_buf_putc(&buf, '\0');
        assert_string_equal(buf.p, cases[i].expected);
        kt_buf_done(&buf);
    }
    assert_int_equal(print_width(KT_LIT("a\u682a\u00fc")), 4);
}

int
main(void)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_machine_forms),
        cmocka_unit_test(test_lists_over_pages),
        cmocka_unit_test(test_text_cannot_move_the_cursor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
