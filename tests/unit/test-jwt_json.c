/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What auth-jwt reads as base64url and as JSON, and what it does not. */
#include "config.h"

#include "plugins/auth-jwt/base64url.h"
#include "plugins/auth-jwt/json.h"
#include "tests/unit/corpus.h"

#include <dirent.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct {
    const char *text;
    bool good;
    size_t n; /* decoded */
} base64_rows[] = {
    { "", true, 0 },      { "AA", true, 1 },    { "AAA", true, 2 },      { "AAAA", true, 3 },
    { "_-_-", true, 3 },  { "A", false, 0 },    { "AAAAA", false, 0 },   { "AB", false, 0 },
    { "AAB", false, 0 },  { "AA==", false, 0 }, { "AA=", false, 0 },     { "+/AA", false, 0 },
    { "AA\n", false, 0 }, { "A A", false, 0 },  { "AAA\xc3", false, 0 },
};

static void
base64url_has_one_text_for_each_value(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(base64_rows); i++) {
        unsigned char out[16];
        size_t n = 0;
        bool good = base64url_decode(base64_rows[i].text, strlen(base64_rows[i].text), out, &n);
        if (good != base64_rows[i].good || n != base64_rows[i].n)
            fail_msg("\"%s\": %d, %zu bytes", base64_rows[i].text, good, n);
    }
}

#define TEXT(s) (s), sizeof(s) - 1

static const struct {
    const char *text;
    size_t n;
    bool good;
} json_rows[] = {
    { TEXT("{}"), true },
    { TEXT(" \t\r\n{ } \n"), true },
    { TEXT("{\"a\":1,\"b\":[true,false,null,\"x\",{\"a\":-0.5e+3}]}"), true },
    { TEXT("{\"a\":\"\\ud83d\\ude00 \xf0\x9f\x98\x80 \\\"\\\\\\/\\b\\f\\n\\r\\t\"}"), true },
    { TEXT(""), false },
    { TEXT("[]"), false },
    { TEXT("1"), false },
    { TEXT("\"a\""), false },
    { TEXT("null"), false },
    { TEXT("{"), false },
    { TEXT("{}{}"), false },
    { TEXT("{},"), false },
    { TEXT("{}\0"), false },
    { TEXT("\0{}"), false },
    { TEXT("{\0}"), false },
    { TEXT("\xef\xbb\xbf{}"), false },
    { TEXT("{\"a\":1,}"), false },
    { TEXT("{,}"), false },
    { TEXT("{\"a\"}"), false },
    { TEXT("{\"a\":}"), false },
    { TEXT("{a:1}"), false },
    { TEXT("{'a':1}"), false },
    { TEXT("{1:1}"), false },
    { TEXT("{\"a\":1 \"b\":2}"), false },
    { TEXT("{\"a\":[1,]}"), false },
    { TEXT("{\"a\":[1 2]}"), false },
    { TEXT("{\"a\":[1}"), false },
    { TEXT("{\"a\":01}"), false },
    { TEXT("{\"a\":-}"), false },
    { TEXT("{\"a\":+1}"), false },
    { TEXT("{\"a\":.5}"), false },
    { TEXT("{\"a\":1.}"), false },
    { TEXT("{\"a\":1e}"), false },
    { TEXT("{\"a\":0x1}"), false },
    { TEXT("{\"a\":NaN}"), false },
    { TEXT("{\"a\":Infinity}"), false },
    { TEXT("{\"a\":tru}"), false },
    { TEXT("{\"a\":True}"), false },
    { TEXT("{\"a\":1111111111222222222233333333334444444444}"), true },
    { TEXT("{\"a\":11111111112222222222333333333344444444445}"), false },
    { TEXT("{\"a\":\"x}"), false },
    { TEXT("{\"a\":\"\n\"}"), false },
    { TEXT("{\"a\":\"\0\"}"), false },
    { TEXT("{\"a\":\"\\u0000\"}"), false },
    { TEXT("{\"a\\u0000b\":1}"), false },
    { TEXT("{\"a\":\"\\x41\"}"), false },
    { TEXT("{\"a\":\"\\u12g4\"}"), false },
    { TEXT("{\"a\":\"\\u12"), false },
    { TEXT("{\"a\":\"\\"), false },
    { TEXT("{\"a\":\"\\ud800\"}"), false },
    { TEXT("{\"a\":\"\\udc00\"}"), false },
    { TEXT("{\"a\":\"\\ud800\\u0041\"}"), false },
    { TEXT("{\"a\":\"\xff\"}"), false },
    { TEXT("{\"a\":\"\xc0\x80\"}"), false },
    { TEXT("{\"a\":\"\xed\xa0\x80\"}"), false },
    { TEXT("{\"a\":\"\xf4\x90\x80\x80\"}"), false },
    { TEXT("{\"a\":\"\xe2\x82\"}"), false },
    { TEXT("{\"a\":\"\xe2"), false },
    { TEXT("{\"a\":1,\"a\":1}"), false },
    { TEXT("{\"a\":1,\"\\u0061\":1}"), false },
    { TEXT("{\"\\u00e9\":1,\"\xc3\xa9\":1}"), false },
    { TEXT("{\"\\/\":1,\"/\":1}"), false },
    { TEXT("{\"a\":{\"b\":1,\"b\":2}}"), false },
    { TEXT("{\"a\":1,\"A\":1,\"aa\":1,\"\":1}"), true },
    { TEXT("{\"a\":{\"a\":1}}"), true },
};

static void
json_is_read_strictly(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(json_rows); i++) {
        /* On the heap and exact, so that a sanitizer sees a byte read too far. */
        char *copy = malloc(json_rows[i].n ? json_rows[i].n : 1);
        memcpy(copy, json_rows[i].text, json_rows[i].n);
        cJSON *json = NULL;
        const char *why = NULL;
        bool good = json_read_object(copy, json_rows[i].n, &json, &why);
        if (good != json_rows[i].good || (!good && !why))
            fail_msg("row %zu: %s: %d, %s", i, json_rows[i].text, good, why ? why : "-");
        cJSON_Delete(json);
        free(copy);
    }
}

static bool
scans(const char *text)
{
    const char *why = NULL;
    return json_scan_object(text, strlen(text), &why);
}

static void
json_limits_are_exact(void **state)
{
    char text[4096] = "";
    (void)state;
    for (int depth = JSON_DEPTH_MAX - 1; depth <= JSON_DEPTH_MAX + 1; depth++) {
        size_t n = (size_t)snprintf(text, sizeof(text), "{\"a\":");
        for (int i = 1; i < depth; i++)
            text[n++] = '[';
        for (int i = 1; i < depth; i++)
            text[n++] = ']';
        text[n++] = '}';
        text[n] = 0;
        assert_int_equal(scans(text), depth <= JSON_DEPTH_MAX);
    }
    for (int members = JSON_MEMBERS_MAX - 1; members <= JSON_MEMBERS_MAX + 1; members++) {
        size_t n = 0;
        for (int i = 0; i < members; i++)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%c\"m%d\":1", i ? ',' : '{', i);
        (void)snprintf(text + n, sizeof(text) - n, "}");
        assert_int_equal(scans(text), members <= JSON_MEMBERS_MAX);
    }
}

/* Valid JSON that we refuse on purpose. */
static bool
refused_on_purpose(const char *file)
{
    static const char *const names[] = {
        "y_object_duplicated_key.json",       "y_object_duplicated_key_and_value.json",
        "y_object_escaped_null_in_key.json",  "y_string_null_escape.json",
        "y_number_double_close_to_zero.json", /* longer than a number may be */
    };
    for (size_t i = 0; i < COUNT(names); i++)
        if (strcmp(names[i], file) == 0)
            return true;
    return false;
}

static void
json_agrees_with_the_published_suite(void **state)
{
    (void)state;
    const char *suite = corpus_path("JSONTestSuite/test_parsing");
    DIR *dir = suite ? opendir(suite) : NULL;
    if (!dir)
        skip();
    size_t asked = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char path[2048];
        size_t n = 0;
        if ((e->d_name[0] != 'n' && e->d_name[0] != 'y') || e->d_name[1] != '_')
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", suite, e->d_name);
        char *text = corpus_read(path, &n), *whole = malloc(n + 16);
        const char *why = NULL;
        memcpy(whole, "{\"a\":", 5);
        memcpy(whole + 5, text, n);
        whole[n + 5] = '}';
        bool good = json_scan_object(whole, n + 6, &why);
        bool want = e->d_name[0] == 'y' && !refused_on_purpose(e->d_name);
        if (good != want)
            fail_msg("%s: %d, %s", e->d_name, good, why ? why : "-");
        asked++;
        free(whole);
        free(text);
    }
    closedir(dir);
    assert_true(asked > 250);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64url_has_one_text_for_each_value),
        cmocka_unit_test(json_is_read_strictly),
        cmocka_unit_test(json_limits_are_exact),
        cmocka_unit_test(json_agrees_with_the_published_suite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
