/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What is read as JSON and what is not, and that what was read is printed as the same. */
#include "config.h"

#include "client/proto/json.h"
#include "tests/unit/corpus.h"
#include "tests/unit/samples.h"

#include <dirent.h>
#include <math.h>

#define BYTES(s)                                                                                   \
    {                                                                                              \
        ("" s), sizeof(s) - 1                                                                      \
    }

enum { ARENA_BYTES = 8 * 1024 * 1024 };

/* printed: the same value as kt_json_put_value prints it; NULL when fault says why not. */
struct sample {
    const char *name;
    struct kt_str text;
    const char *printed;
    enum kt_json_fault fault;
    size_t offset;
};

#define GOOD(name, text, printed)                                                                  \
    {                                                                                              \
        name, BYTES(text), printed, KT_JSON_OK, 0                                                  \
    }
#define BAD(name, text, offset)                                                                    \
    {                                                                                              \
        name, BYTES(text), NULL, KT_JSON_SYNTAX, offset                                            \
    }
#define OVER(name, text, offset)                                                                   \
    {                                                                                              \
        name, BYTES(text), NULL, KT_JSON_LIMIT, offset                                             \
    }

static const struct sample samples[] = {
    GOOD("value: null", "null", "null"),
    GOOD("value: true", "true", "true"),
    GOOD("value: false", " false ", "false"),
    GOOD("value: empty string", "\"\"", "\"\""),
    GOOD("value: nested", "{\"a\":[1,{\"b\":[]},{}],\"c\":null}",
         "{\"a\":[1,{\"b\":[]},{}],\"c\":null}"),
    GOOD("value: white space", "\t\r\n { \"a\" : [ 1 , 2 ] } \n", "{\"a\":[1,2]}"),
    BAD("value: empty text", "", 0),
    BAD("value: only white space", "  ", 2),
    BAD("value: capital letters", "True", 0),
    BAD("value: cut word", "nul", 3),
    BAD("value: longer word", "nullx", 4),
    BAD("value: NaN", "NaN", 0),
    BAD("value: comment", "[1/*x*/]", 2),
    BAD("value: single quotes", "{'a':1}", 1),
    BAD("value: byte order mark", "\xEF\xBB\xBF{}", 0),
    BAD("value: form feed as white space", "\f1", 0),
    BAD("value: vertical tab as white space", "[\v1]", 1),
    BAD("value: no-break space as white space",
        "\xC2\xA0"
        "1",
        0),
    BAD("array: comma at the end", "[1,]", 3),
    BAD("array: comma first", "[,1]", 1),
    BAD("array: two commas", "[1,,2]", 3),
    BAD("array: no comma", "[1 2]", 3),
    BAD("array: not closed", "[1", 2),
    BAD("array: closed by }", "[1}", 2),
    BAD("object: comma at the end", "{\"a\":1,}", 7),
    BAD("object: no value", "{\"a\":}", 5),
    BAD("object: no colon", "{\"a\" 1}", 5),
    BAD("object: name is a number", "{1:1}", 1),
    BAD("object: not closed", "{\"a\":1", 6),
    BAD("object: ends behind {", "{", 1),
    BAD("object: ends behind a comma", "{\"a\":1,", 7),
    BAD("one document: two values", "{} {}", 3),
    BAD("one document: junk", "{} junk", 3),
    BAD("one document: ]", "[]]", 2),
    BAD("one document: NUL behind", "{}\0", 2),
    BAD("NUL: before", "\0{}", 0),
    BAD("NUL: between", "[\0]", 1),
    BAD("NUL: raw in a string", "\"a\0b\"", 2),
    BAD("NUL: escaped in a string", "\"a\\u0000b\"", 2),
    BAD("NUL: escaped in a name", "{\"o\\u0000x\":1}", 3),
    BAD("string: not closed", "\"abc", 4),
    BAD("string: ends in an escape", "\"abc\\", 5),
    BAD("string: ends in a unicode escape", "\"\\u12", 5),
    BAD("string: raw newline", "\"a\nb\"", 2),
    BAD("string: raw tab", "\"a\tb\"", 2),
    BAD("string: raw 1F", "\"\x1F\"", 1),
    BAD("string: unknown escape", "\"\\x41\"", 2),
    BAD("string: escaped NUL byte", "\"\\\0\"", 2),
    BAD("string: escape with a bad digit", "\"\\u00g0\"", 5),
    BAD("string: overlong UTF-8", "\"\xC0\xAF\"", 1),
    BAD("string: cut UTF-8", "\"\xE2\x82\"", 1),
    BAD("string: UTF-8 surrogate", "\"\xED\xA0\x80\"", 1),
    BAD("string: Latin 1", "\"\xE4\"", 1),
    BAD("surrogate: high one alone", "\"\\uD800\"", 1),
    BAD("surrogate: low one alone", "\"\\uDC00\"", 1),
    BAD("surrogate: two high ones", "\"\\uD800\\uD800\"", 1),
    BAD("surrogate: the wrong way round", "\"\\uDC00\\uD800\"", 1),
    BAD("surrogate: high one before a letter", "\"\\uD800abcdef\"", 1),
    BAD("surrogate: high one before a raw low one", "\"\\uD800\xED\xB0\x80\"", 1),
    GOOD("surrogate: a pair", "\"\\uD83C\\uDf7a\"", "\"\xF0\x9F\x8D\xBA\""),
    GOOD("string: all escapes", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u001f\\u007F\"",
         "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u001f\x7F\""),
    GOOD("string: escapes of 2 and 3 bytes", "\"\\u00e4\\u20AC\\ufffe\"",
         "\"\xC3\xA4\xE2\x82\xAC\xEF\xBF\xBE\""),
    GOOD("string: no HTML escapes", "\"<a href='&'>\"", "\"<a href='&'>\""),
    GOOD("string: line separator", "\"\\u2028\"", "\"\xE2\x80\xA8\""),
    BAD("names: twice", "{\"a\":1,\"a\":1}", 7),
    BAD("names: twice by letter case", "{\"org\":1,\"ORG\":1}", 9),
    BAD("names: twice by escape", "{\"org\":1,\"\\u006frg\":1}", 9),
    BAD("names: twice by escape and case", "{\"org\":1,\"\\u004frg\":1}", 9),
    BAD("names: empty one twice", "{\"\":1,\"\":1}", 6),
    BAD("names: twice by surrogates", "{\"\xF0\x9F\x8D\xBA\":1,\"\\uD83C\\uDF7A\":1}", 10),
    BAD("names: twice further in", "[{\"x\":{\"a\":1,\"b\":2,\"A\":3}}]", 19),
    GOOD("names: only ASCII letters fold", "{\"\xC3\xA4\":1,\"\xC3\x84\":2}",
         "{\"\xC3\xA4\":1,\"\xC3\x84\":2}"),
    GOOD("names: @ and ` do not fold", "{\"@\":1,\"`\":2,\"[\":3,\"{\":4}",
         "{\"@\":1,\"`\":2,\"[\":3,\"{\":4}"),
    GOOD("names: same in different objects", "{\"a\":{\"a\":1},\"b\":{\"a\":2}}",
         "{\"a\":{\"a\":1},\"b\":{\"a\":2}}"),
    GOOD("names: a prefix is another name", "{\"a\":1,\"ab\":2,\"\":3}",
         "{\"a\":1,\"ab\":2,\"\":3}"),
    GOOD("number: zero", "0", "0"),
    GOOD("number: minus zero", "-0", "0"),
    GOOD("number: largest integer", "9223372036854775807", "9223372036854775807"),
    GOOD("number: smallest integer", "-9223372036854775808", "-9223372036854775808"),
    GOOD("number: integer no double holds", "9007199254740993", "9007199254740993"),
    GOOD("number: above the largest integer", "9223372036854775808", "9.223372036854776e+18"),
    GOOD("number: fraction", "-1.5", "-1.5"),
    GOOD("number: fraction of zero", "1.0", "1.0"),
    GOOD("number: exponent", "[1e2,1E+2,1e-2,0e0]", "[100.0,100.0,0.01,0.0]"),
    GOOD("number: shortest text", "0.1", "0.1"),
    GOOD("number: underflow", "1e-999", "0.0"),
    GOOD("number: digits in strings are none", "{\"a-1\":\"\\\"2\",\"b\":[3,\"-4\",5e0,6]}",
         "{\"a-1\":\"\\\"2\",\"b\":[3,\"-4\",5.0,6]}"),
    OVER("number: overflow", "[0,1e400]", 3),
    BAD("number: plus", "+1", 0),
    BAD("number: only minus", "-", 1),
    BAD("number: minus and letter", "-a", 1),
    BAD("number: leading zero", "012", 1),
    BAD("number: minus and leading zero", "-01", 2),
    BAD("number: no digit behind the point", "2.", 2),
    BAD("number: no digit before the point", ".5", 0),
    BAD("number: minus and point", "-.5", 1),
    BAD("number: no digit in the exponent", "1e", 2),
    BAD("number: sign without digit", "1e+", 3),
    BAD("number: hexadecimal", "0x1", 1),
    BAD("number: letter behind", "1a", 1),
    GOOD("number: 20 characters", "[-1234567890123456789]", "[-1234567890123456789]"),
    OVER("number: 21 characters", "[-12345678901234567890]", 1),
};

static void
print(struct kt_buf *buf, const struct kt_value *value)
{
    kt_buf_reset(buf);
    kt_json_put_value(buf, value);
    assert_false(buf->failed);
    kt_buf_putc(buf, '\0');
}

static void
test_sample(void **state)
{
    const struct sample *sample = *state;
    struct kt_arena arena;
    struct kt_buf buf;
    struct kt_value value = { .type = KT_V_BIN };
    struct kt_json_error error = { .offset = 4711 };
    kt_arena_init(&arena, ARENA_BYTES);
    kt_buf_init(&buf, ARENA_BYTES);
    /* In memory that ends with the text. */
    char *copy = malloc(sample->text.n ? sample->text.n : 1);
    memcpy(copy, sample->text.p, sample->text.n);
    int fault = kt_json_read((struct kt_str){ copy, sample->text.n }, &arena, NULL, &value, &error);
    free(copy);
    if (sample->printed) {
        if (fault)
            fail_msg("refused at %zu: %s", error.offset, error.text);
        print(&buf, &value);
        assert_string_equal(buf.p, sample->printed);
    } else {
        assert_int_equal(fault, sample->fault);
        assert_int_equal(error.fault, sample->fault);
        assert_int_equal(error.offset, sample->offset);
        assert_true(strlen(error.text) > 3 && strlen(error.text) + 1 < sizeof error.text);
        assert_int_equal(value.type, KT_V_BIN);
    }
    kt_buf_done(&buf);
    kt_arena_done(&arena);
}

/* A text that was cut is never accepted, except where the rest was white space or more digits. */
static void
test_cut(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\":[1,2.5e+3,\"x\\u20ac\\\"\\uD83C\\uDF7A\",true,false,null,{}],\"b\":\"\"}";
    struct kt_arena arena;
    kt_arena_init(&arena, ARENA_BYTES);
    for (size_t n = 0; n < sizeof text - 1; n++) {
        struct kt_value value;
        struct kt_json_error error;
        kt_arena_reset(&arena);
        assert_int_equal(kt_json_read((struct kt_str){ text, n }, &arena, NULL, &value, &error),
                         KT_JSON_SYNTAX);
    }
    kt_arena_done(&arena);
}

/* before n times, then middle, then after n times. */
static int
read_repeated(const char *before, size_t n, const char *middle, const char *after,
              const struct kt_json_limits *limits)
{
    struct kt_arena arena;
    struct kt_buf buf;
    kt_arena_init(&arena, ARENA_BYTES);
    kt_buf_init(&buf, ARENA_BYTES);
    for (size_t i = 0; i < n; i++)
        kt_buf_puts(&buf, before);
    kt_buf_puts(&buf, middle);
    for (size_t i = 0; i < n; i++)
        kt_buf_puts(&buf, after);
    struct kt_value value;
    struct kt_json_error error;
    int fault = kt_json_read(kt_buf_str(&buf), &arena, limits, &value, &error);
    kt_buf_done(&buf);
    kt_arena_done(&arena);
    return fault;
}

static void
test_limit_depth(void **state)
{
    (void)state;
    assert_int_equal(read_repeated("[", 16, "", "]", NULL), 0);
    assert_int_equal(read_repeated("[", 17, "", "]", NULL), KT_JSON_LIMIT);
    assert_int_equal(read_repeated("{\"a\":", 16, "1", "}", NULL), 0);
    assert_int_equal(read_repeated("{\"a\":", 17, "1", "}", NULL), KT_JSON_LIMIT);
    struct kt_json_limits limits = kt_json_request_limits;
    limits.depth = SIZE_MAX;
    assert_int_equal(read_repeated("[", KT_JSON_DEPTH_MAX, "", "]", &limits), 0);
    assert_int_equal(read_repeated("[", 100000, "", "]", &limits), KT_JSON_LIMIT);
}

static void
test_limit_nodes(void **state)
{
    (void)state;
    assert_int_equal(read_repeated("[[],", 1, "1", "]", NULL), 0);
    struct kt_buf buf;
    kt_buf_init(&buf, ARENA_BYTES);
    for (size_t n = 4095; n <= 4096; n++) {
        kt_buf_reset(&buf);
        kt_buf_putc(&buf, '[');
        for (size_t i = 0; i < n; i++)
            kt_buf_puts(&buf, i ? ",1" : "1");
        kt_buf_puts(&buf, "]");
        kt_buf_putc(&buf, '\0');
        assert_int_equal(read_repeated("", 0, buf.p, "", NULL), n == 4095 ? 0 : KT_JSON_LIMIT);
    }
    kt_buf_done(&buf);
}

static void
members(struct kt_buf *buf, size_t n)
{
    kt_buf_reset(buf);
    for (size_t i = 0; i < n; i++)
        kt_buf_printf(buf, "%c\"m%zu\":{\"x\":%zu}", i ? ',' : '{', i, i);
    kt_buf_putc(buf, '}');
    kt_buf_putc(buf, '\0');
}

static void
test_limit_members(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, ARENA_BYTES);
    members(&buf, 64);
    assert_int_equal(read_repeated("", 0, buf.p, "", NULL), 0);
    members(&buf, 65);
    assert_int_equal(read_repeated("", 0, buf.p, "", NULL), KT_JSON_LIMIT);
    struct kt_json_limits limits = kt_json_request_limits;
    limits.members = 1000;
    members(&buf, 1000);
    assert_int_equal(read_repeated("", 0, buf.p, "", &limits), 0);
    /* The first name of many is remembered. */
    buf.n -= sizeof "}";
    kt_buf_puts(&buf, ",\"M0\":1}");
    kt_buf_putc(&buf, '\0');
    limits.members = 1001;
    assert_int_equal(read_repeated("", 0, buf.p, "", &limits), KT_JSON_SYNTAX);
    kt_buf_done(&buf);
}

static void
test_limit_string(void **state)
{
    (void)state;
    assert_int_equal(read_repeated("\"", 1, "", "\"", NULL), 0);
    char text[3 * 4096];
    for (size_t n = 4096; n <= 4097; n++) {
        int fault = n == 4096 ? 0 : KT_JSON_LIMIT;
        memset(text, 'x', sizeof text);
        text[0] = text[n + 1] = '"';
        text[n + 2] = '\0';
        assert_int_equal(read_repeated("", 0, text, "", NULL), fault);
        /* What counts is what it says, not how it is spelled. */
        memset(text + 1, '\\', 2 * n);
        text[2 * n + 1] = '"';
        text[2 * n + 2] = '\0';
        assert_int_equal(read_repeated("", 0, text, "", NULL), fault);
    }
}

static void
test_limit_memory(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":[1,2,3],\"b\":\"some text\"}";
    int fault = KT_JSON_MEMORY;
    for (size_t cap = 0; fault; cap++) {
        struct kt_arena arena;
        struct kt_value value;
        struct kt_json_error error;
        kt_arena_init(&arena, cap);
        fault = kt_json_read(kt_str(text), &arena, NULL, &value, &error);
        assert_true(fault == 0 || fault == KT_JSON_MEMORY);
        kt_arena_done(&arena);
    }
}

static void
test_error_text(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } cases[] = {
        { "", "unexpected end of JSON input" },
        { "[1", "unexpected end of JSON input" },
        { "{\"a\"", "unexpected end of JSON input" },
        { "\"a", "unexpected end of JSON input" },
        { "\"\\", "unexpected end of JSON input" },
        { "\"\\u00", "unexpected end of JSON input" },
        { "tru", "unexpected end of JSON input" },
        { "-", "unexpected end of JSON input" },
        { "1e+", "unexpected end of JSON input" },
        { "[x]", "invalid character 'x' looking for beginning of value" },
        { "[1,]", "invalid character ']' looking for beginning of value" },
        { "{1", "invalid character '1' looking for beginning of object key string" },
        { "{\"a\":1,}", "invalid character '}' looking for beginning of object key string" },
        { "{\"a\" 1", "invalid character '1' after object key" },
        { "{\"a\":1 2", "invalid character '2' after object key:value pair" },
        { "[1 2]", "invalid character '2' after array element" },
        { "{} x", "invalid character 'x' after top-level value" },
        { "01", "invalid character '1' after top-level value" },
        { "-x", "invalid character 'x' in numeric literal" },
        { "1.e", "invalid character 'e' after decimal point in numeric literal" },
        { "1ex", "invalid character 'x' in exponent of numeric literal" },
        { "trUe", "invalid character 'U' in literal true (expecting 'u')" },
        { "\"a\n\"", "invalid character '\\n' in string literal" },
        { "\"\\x\"", "invalid character 'x' in string escape code" },
        { "\"\\u00g0\"", "invalid character 'g' in \\u hexadecimal character escape" },
        { "\"\\uD83C\\u12\"\"", "invalid character '\"' in \\u hexadecimal character escape" },
        { "[\x01]", "invalid character '\\x01' looking for beginning of value" },
        { "[']", "invalid character '\\'' looking for beginning of value" },
        { "\\", "invalid character '\\\\' looking for beginning of value" },
        { "\x7f", "invalid character '\\x7f' looking for beginning of value" },
        { "\x80", "invalid character '\\u0080' looking for beginning of value" },
        { "\xad", "invalid character '\\u00ad' looking for beginning of value" },
        { "\xef\xbb\xbf{}", "invalid character '\xc3\xaf' looking for beginning of value" },
        { "\xa1", "invalid character '\xc2\xa1' looking for beginning of value" },
    };
    struct kt_arena arena;
    kt_arena_init(&arena, ARENA_BYTES);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kt_value value;
        struct kt_json_error error;
        assert_int_not_equal(kt_json_read(kt_str(cases[i].text), &arena, NULL, &value, &error), 0);
        assert_string_equal(error.text, cases[i].why);
        assert_true(error.grammar);
    }
    static const char *const ours[] = { "{\"a\":1,\"A\":2}", "\"\\u0000\"", "\"\\ud800\"",
                                        "\"\xff\"", "1234567890123456789012" };
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        struct kt_value value;
        struct kt_json_error error;
        assert_int_not_equal(kt_json_read(kt_str(ours[i]), &arena, NULL, &value, &error), 0);
        assert_false(error.grammar);
    }
    kt_arena_done(&arena);
}

static void
test_read_types(void **state)
{
    (void)state;
    struct kt_arena arena;
    struct kt_value v;
    struct kt_json_error error;
    kt_arena_init(&arena, ARENA_BYTES);
    assert_int_equal(
        kt_json_read(KT_LIT("{\"i\":-7,\"d\":7.0,\"s\":\"x\",\"n\":null,\"a\":[],\"m\":{}}"),
                     &arena, NULL, &v, &error),
        0);
    assert_int_equal(v.type, KT_V_MAP);
    assert_int_equal(v.map.n, 6);
    assert_int_equal(kt_value_get(&v, "i")->type, KT_V_INT);
    assert_int_equal(kt_value_get(&v, "i")->i, -7);
    assert_int_equal(kt_value_get(&v, "d")->type, KT_V_NUMBER);
    assert_int_equal(kt_value_get(&v, "s")->type, KT_V_STR);
    assert_string_equal(kt_value_get(&v, "s")->s.p, "x");
    assert_int_equal(kt_value_get(&v, "n")->type, KT_V_NULL);
    assert_int_equal(kt_value_get(&v, "a")->type, KT_V_ARRAY);
    assert_int_equal(kt_value_get(&v, "m")->type, KT_V_MAP);
    assert_null(kt_value_get(&v, "I"));
    assert_null(kt_value_get(kt_value_get(&v, "i"), "x"));
    assert_null(kt_value_get(NULL, "x"));
    kt_arena_done(&arena);
}

static void
test_put_what_json_has_not(void **state)
{
    (void)state;
    const struct {
        struct kt_value value;
        const char *printed;
    } cases[] = {
        { { .type = KT_V_UINT, .u = UINT64_MAX }, "18446744073709551615" },
        { { .type = KT_V_INT, .i = INT64_MIN }, "-9223372036854775808" },
        { { .type = KT_V_NUMBER, .d = NAN }, "null" },
        { { .type = KT_V_NUMBER, .d = -INFINITY }, "null" },
        { { .type = KT_V_NUMBER, .d = -0.0 }, "-0.0" },
        { { .type = KT_V_NUMBER, .d = 1e300 }, "1e+300" },
        { { .type = KT_V_NUMBER, .d = 5e-324 }, "4.94065645841247e-324" },
        { { .type = KT_V_STR, .s = { NULL, 0 } }, "null" },
        { { .type = KT_V_STR, .s = BYTES("a\xFF\xC3\xA4\xE2\x82") },
          "\"a\xEF\xBF\xBD\xC3\xA4\xEF\xBF\xBD\xEF\xBF\xBD\"" },
        { { .type = KT_V_STR, .s = BYTES("\0") }, "\"\\u0000\"" },
        { { .type = KT_V_BIN, .s = BYTES("") }, "\"\"" },
        { { .type = KT_V_BIN, .s = BYTES("f") }, "\"Zg==\"" },
        { { .type = KT_V_BIN, .s = BYTES("fo") }, "\"Zm8=\"" },
        { { .type = KT_V_BIN, .s = BYTES("foo\xFF\xFE\xFD") }, "\"Zm9v//79\"" },
        { { .type = KT_V_TIME, .t = { 0 } }, "\"1970-01-01T00:00:00.000Z\"" },
        { { .type = KT_V_TIME, .t = { -1 } }, "\"1969-12-31T23:59:59.999Z\"" },
        { { .type = KT_V_TIME, .t = { 951782400123 } }, "\"2000-02-29T00:00:00.123Z\"" },
        { { .type = KT_V_TIME, .t = { 951868800000 } }, "\"2000-03-01T00:00:00.000Z\"" },
        { { .type = KT_V_TIME, .t = { 1798761599000 } }, "\"2026-12-31T23:59:59.000Z\"" },
        { { .type = KT_V_TIME, .t = { 4107542400000 } }, "\"2100-03-01T00:00:00.000Z\"" },
        { { .type = KT_V_TIME, .t = { 253402300799999 } }, "\"9999-12-31T23:59:59.999Z\"" },
        { { .type = KT_V_TIME, .t = { 253402300800000 } }, "null" },
        { { .type = KT_V_TIME, .t = { -62167219200000 } }, "\"0000-01-01T00:00:00.000Z\"" },
        { { .type = KT_V_TIME, .t = { -62167219200001 } }, "null" },
        { { .type = KT_V_TIME, .t = { INT64_MIN } }, "null" },
    };
    struct kt_buf buf;
    kt_buf_init(&buf, 1024);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        print(&buf, &cases[i].value);
        assert_string_equal(buf.p, cases[i].printed);
    }
    kt_buf_done(&buf);
}

/* Published vectors, by the first letter of their names: y must be read, n must be refused, of i
 * nothing is asked but an answer. */

static const struct {
    const char *file;
    enum kt_json_fault fault;
} stated[] = {
    /* refused although it is JSON, by a rule of ours */
    { "y_object_duplicated_key.json", KT_JSON_SYNTAX },
    { "y_object_duplicated_key_and_value.json", KT_JSON_SYNTAX },
    { "y_object_escaped_null_in_key.json", KT_JSON_SYNTAX },
    { "y_string_null_escape.json", KT_JSON_SYNTAX },
    { "y_number_double_close_to_zero.json", KT_JSON_LIMIT },
    { "object_same_key_different_values.json", KT_JSON_SYNTAX },
    { "object_same_key_same_value.json", KT_JSON_SYNTAX },
    { "object_same_key_unclear_values.json", KT_JSON_SYNTAX },
    { "string_with_escaped_NULL.json", KT_JSON_SYNTAX },
    { "string_1_escaped_invalid_codepoint.json", KT_JSON_SYNTAX },
    { "string_1_invalid_codepoint.json", KT_JSON_SYNTAX },
    { "string_2_escaped_invalid_codepoints.json", KT_JSON_SYNTAX },
    { "string_2_invalid_codepoints.json", KT_JSON_SYNTAX },
    { "string_3_escaped_invalid_codepoints.json", KT_JSON_SYNTAX },
    { "string_3_invalid_codepoints.json", KT_JSON_SYNTAX },
    { "number_1.000000000000000005.json", KT_JSON_OK },
};

static int
expected(const char *file)
{
    for (size_t i = 0; i < sizeof stated / sizeof *stated; i++)
        if (strcmp(stated[i].file, file) == 0)
            return (int)stated[i].fault;
    return *file == 'n' && file[1] == '_' ? -1 : KT_JSON_OK;
}

/* The fault of reading the file. */
static int
read_file(const char *folder, const char *file)
{
    char path[4096];
    size_t n;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    char *text = corpus_read(path, &n);
    struct kt_arena arena;
    struct kt_value value;
    struct kt_json_error error;
    kt_arena_init(&arena, ARENA_BYTES);
    int fault = kt_json_read((struct kt_str){ text, n }, &arena, NULL, &value, &error);
    kt_arena_done(&arena);
    free(text);
    return fault;
}

static void
folder_check(const char *name)
{
    const char *folder = corpus_path(name);
    DIR *dir = folder ? opendir(folder) : NULL;
    if (!dir)
        skip();
    unsigned wrong = 0, seen = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        const char *file = entry->d_name;
        size_t n = strlen(file);
        if (n < 5 || strcmp(file + n - 5, ".json") != 0)
            continue;
        int fault = read_file(folder, file), wanted = expected(file);
        seen++;
        if (strncmp(file, "i_", 2) == 0 || (wanted < 0 ? fault != 0 : fault == wanted))
            continue;
        print_error("%s: %d, not %d\n", file, fault, wanted);
        wrong++;
    }
    closedir(dir);
    assert_true(seen > 20);
    assert_int_equal(wrong, 0);
}

static void
test_corpus_parsing(void **state)
{
    (void)state;
    folder_check("JSONTestSuite/test_parsing");
}

static void
test_corpus_transform(void **state)
{
    (void)state;
    folder_check("JSONTestSuite/test_transform");
}

int
main(void)
{
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_limit_depth),
        cmocka_unit_test(test_limit_nodes),
        cmocka_unit_test(test_limit_members),
        cmocka_unit_test(test_limit_string),
        cmocka_unit_test(test_limit_memory),
        cmocka_unit_test(test_error_text),
        cmocka_unit_test(test_read_types),
        cmocka_unit_test(test_put_what_json_has_not),
        cmocka_unit_test(test_corpus_parsing),
        cmocka_unit_test(test_corpus_transform),
    };
    const struct sample_group group = {
        .name = "json", .samples = samples, .size = sizeof samples[0],
        .n = sizeof samples / sizeof samples[0], .whole = test_sample,
        .others = others, .nothers = sizeof others / sizeof others[0],
    };
    return run_samples(&group);
}
