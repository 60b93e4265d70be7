/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/cursor.h"

#include "client/proto/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define ID "44dce9a2-ded1-5945-a886-f8b9fbfa135f"

static struct kt_str
coded(const char *json, char *buf)
{
    return (struct kt_str){ buf, kt_b64url_encode(json, strlen(json), buf) };
}

static void
test_round_trip(void **state)
{
    (void)state;
    static const int64_t times[] = { KT_TIME_FIRST, -1, 0, 1786363200120, KT_TIME_LAST };
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        char buf[CURSOR_TEXT_MAX];
        struct cursor c = { { times[i] }, { { 0 } } }, back;
        assert_true(uuid_parse(KT_LIT(ID), &c.id));
        size_t n = cursor_encode(&c, buf);
        assert_int_equal(n, strlen(buf));
        assert_true(n < CURSOR_TEXT_MAX);
        assert_true(cursor_decode((struct kt_str){ buf, n }, &back));
        assert_true(back.created.ms == times[i]);
        assert_int_equal(uuid_compare(&back.id, &c.id), 0);
    }
}

static void
test_form(void **state)
{
    (void)state;
    char buf[CURSOR_TEXT_MAX], json[CURSOR_TEXT_MAX];
    size_t n;
    struct cursor c = { { 1786363200120 }, { { 0 } } };
    uuid_parse(KT_LIT(ID), &c.id);
    cursor_encode(&c, buf);
    assert_true(kt_b64url_decode(kt_str(buf), json, sizeof(json) - 1, &n));
    json[n] = '\0';
    assert_string_equal(json, "{\"createdAt\":\"2026-08-10T12:00:00.12Z\",\"id\":\"" ID "\"}");
}

static const struct {
    const char *json;
    bool ok;
    int64_t created;
    bool id;
} cases[] = {
    { "{}", true, KT_TIME_FIRST, false },
    { " { } ", true, KT_TIME_FIRST, false },
    { "{\"createdAt\":\"1970-01-01T00:00:00Z\",\"id\":\"" ID "\"}", true, 0, true },
    { "{\"id\":\"" ID "\",\"createdAt\":\"1970-01-01T00:00:00Z\"}", true, 0, true },
    { "\t{\n\"id\" : \"" ID "\" ,\r\"createdAt\" : \"1970-01-01T01:00:00+01:00\" }\n", true, 0,
      true },
    { "{\"id\":\"" ID "\"}", true, KT_TIME_FIRST, true },
    { "{\"createdAt\":\"1970-01-01T00:00:00Z\"}", true, 0, false },
    { "{\"createdAt\":\"1970-01-01T00:00:00Z\"}x", false, 0, false },
    { "{}{}", false, 0, false },
    { "{,}", false, 0, false },
    { "{\"id\":\"" ID "\",}", false, 0, false },
    { "{\"id\":\"" ID "\",\"id\":\"" ID "\"}", false, 0, false },
    { "{\"id\":\"" ID "\" \"createdAt\":\"1970-01-01T00:00:00Z\"}", false, 0, false },
    { "{\"id\":\"x\"}", false, 0, false },
    { "{\"id\":null}", false, 0, false },
    { "{\"id\":1}", false, 0, false },
    { "{\"createdAt\":\"yesterday\"}", false, 0, false },
    { "{\"createdAt\":0}", false, 0, false },
    { "{\"createdat\":\"1970-01-01T00:00:00Z\"}", false, 0, false },
    { "{\"extra\":\"x\"}", false, 0, false },
    { "{\"id\":\"" ID "\"", false, 0, false },
    { "{\"id\":\"" ID "}", false, 0, false },
    { "{\"id\"\"" ID "\"}", false, 0, false },
    { "{\"id", false, 0, false },
    { "{", false, 0, false },
    { "", false, 0, false },
    { "[]", false, 0, false },
    { "null", false, 0, false },
    { "\"{}\"", false, 0, false },
    { "\xef\xbb\xbf{}", false, 0, false },
};

static void
test_decode(void **state)
{
    (void)state;
    const struct uuid zero = { { 0 } };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char buf[CURSOR_IN_MAX];
        struct cursor c = { { 42 }, { { 42 } } };
        bool ok = cursor_decode(coded(cases[i].json, buf), &c);
        if (ok != cases[i].ok)
            fail_msg("%s: %s", cases[i].json, ok ? "accepted" : "refused");
        if (!ok) {
            assert_true(c.created.ms == 42 && c.id.b[0] == 42);
            continue;
        }
        assert_true(c.created.ms == cases[i].created);
        assert_int_equal(uuid_compare(&c.id, &zero) == 0, !cases[i].id);
    }
}

static void
test_not_base64url(void **state)
{
    (void)state;
    struct cursor c;
    assert_true(cursor_decode(KT_LIT("e30"), &c));
    assert_false(cursor_decode(KT_LIT("not-a-valid-cursor"), &c));
    assert_false(cursor_decode(KT_LIT("e30="), &c));
    assert_false(cursor_decode(KT_LIT("e3"), &c));
    assert_false(cursor_decode(KT_LIT("{}"), &c));
    assert_false(cursor_decode((struct kt_str){ NULL, 0 }, &c));
}

static void
test_length(void **state)
{
    (void)state;
    char json[CURSOR_IN_MAX], buf[2 * CURSOR_IN_MAX];
    struct cursor c;
    memset(json, ' ', sizeof(json));
    memcpy(json, "{}", 2);
    for (size_t n = 380; n < 388; n++) {
        struct kt_str text = { buf, kt_b64url_encode(json, n, buf) };
        assert_int_equal(cursor_decode(text, &c), text.n <= CURSOR_IN_MAX);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_form),
        cmocka_unit_test(test_decode),        cmocka_unit_test(test_not_base64url),
        cmocka_unit_test(test_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
