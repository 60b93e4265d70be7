/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What is read as MessagePack and what is not; the scan, the reader and msgpack-c say the same. */
#include "config.h"

#include "client/proto/json.h"
#include "client/proto/pack.h"
#include "tests/unit/msgpack-same.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define BYTES(s)                                                                                   \
    {                                                                                              \
        ("" s), sizeof(s) - 1                                                                      \
    }

enum { ARENA_BYTES = 1 << 20 };

/* printed: the value as kt_json_put_value prints it, NULL when it is refused: then why says so, and
 * header tells whether the scan, which does not look at what strings say, must see it as well. */
struct sample {
    const char *name;
    struct kt_str bytes;
    const char *printed;
    const char *why;
    bool header;
};

#define GOOD(name, bytes, printed)                                                                 \
    {                                                                                              \
        name, BYTES(bytes), printed, NULL, false                                                   \
    }
#define BAD(name, bytes, why)                                                                      \
    {                                                                                              \
        name, BYTES(bytes), NULL, why, true                                                        \
    }
#define BAD_BODY(name, bytes, why)                                                                 \
    {                                                                                              \
        name, BYTES(bytes), NULL, why, false                                                       \
    }

static const struct sample samples[] = {
    GOOD("nil", "\xC0", "null"),
    GOOD("false", "\xC2", "false"),
    GOOD("true", "\xC3", "true"),
    GOOD("fixint 0", "\x00", "0"),
    GOOD("fixint 127", "\x7F", "127"),
    GOOD("fixint -1", "\xFF", "-1"),
    GOOD("fixint -32", "\xE0", "-32"),
    GOOD("uint 8", "\xCC\xFF", "255"),
    GOOD("uint 16", "\xCD\xFF\xFE", "65534"),
    GOOD("uint 32", "\xCE\xFF\xFF\xFF\xFE", "4294967294"),
    GOOD("uint 64", "\xCF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "9223372036854775807"),
    GOOD("uint 64, largest", "\xCF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "18446744073709551615"),
    GOOD("int 8", "\xD0\x80", "-128"),
    GOOD("int 8, positive", "\xD0\x7F", "127"),
    GOOD("int 16", "\xD1\x80\x00", "-32768"),
    GOOD("int 32", "\xD2\x80\x00\x00\x00", "-2147483648"),
    GOOD("int 64", "\xD3\x80\x00\x00\x00\x00\x00\x00\x00", "-9223372036854775808"),
    GOOD("int 64, positive", "\xD3\x00\x00\x00\x00\x00\x00\x00\x01", "1"),
    GOOD("not the smallest encoding", "\xCF\x00\x00\x00\x00\x00\x00\x00\x01", "1"),
    GOOD("float 32", "\xCA\x3F\x00\x00\x00", "0.5"),
    GOOD("float 64", "\xCB\xBF\xF8\x00\x00\x00\x00\x00\x00", "-1.5"),
    GOOD("fixstr",
         "\xA3"
         "abc",
         "\"abc\""),
    GOOD("fixstr, empty", "\xA0", "\"\""),
    GOOD("str 8",
         "\xD9\x03"
         "abc",
         "\"abc\""),
    GOOD("str 16",
         "\xDA\x00\x03"
         "abc",
         "\"abc\""),
    GOOD("str 32",
         "\xDB\x00\x00\x00\x03"
         "abc",
         "\"abc\""),
    GOOD("str, UTF-8", "\xA4\xF0\x9F\x8D\xBA", "\"\xF0\x9F\x8D\xBA\""),
    GOOD("bin 8", "\xC4\x02\x00\xFF", "\"AP8=\""),
    GOOD("bin 16", "\xC5\x00\x02\x00\xFF", "\"AP8=\""),
    GOOD("bin 32", "\xC6\x00\x00\x00\x02\x00\xFF", "\"AP8=\""),
    GOOD("timestamp 32", "\xD6\xFF\x5A\x4A\xF6\xA5", "\"2018-01-02T03:04:05.000Z\""),
    GOOD("timestamp 64", "\xD7\xFF\xA1\xDC\xD7\xC8\x5A\x4A\xF6\xA5",
         "\"2018-01-02T03:04:05.678Z\""),
    GOOD("timestamp 96", "\xC7\x0C\xFF\x3B\x9A\xC9\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
         "\"1969-12-31T23:59:59.999Z\""),
    GOOD("fixarray", "\x93\x01\x90\xC0", "[1,[],null]"),
    GOOD("array 16", "\xDC\x00\x02\x01\x02", "[1,2]"),
    GOOD("array 32", "\xDD\x00\x00\x00\x02\x01\x02", "[1,2]"),
    GOOD("fixmap",
         "\x82\xA1"
         "a\x01\xA1"
         "b\x80",
         "{\"a\":1,\"b\":{}}"),
    GOOD("map 16",
         "\xDE\x00\x01\xA1"
         "a\x01",
         "{\"a\":1}"),
    GOOD("map 32",
         "\xDF\x00\x00\x00\x01\xA1"
         "a\x01",
         "{\"a\":1}"),
    GOOD("a request",
         "\x94\x00\x07\xAC"
         "token.verify\x91\x81\xA5token\xA3"
         "abc",
         "[0,7,\"token.verify\",[{\"token\":\"abc\"}]]"),
    GOOD("method as bin", "\x94\x00\x07\xC4\x02hi\x90", "[0,7,\"aGk=\",[]]"),
    GOOD("depth 8", "\x91\x91\x91\x91\x91\x91\x91\x90", "[[[[[[[[]]]]]]]]"),
    BAD("depth 9", "\x91\x91\x91\x91\x91\x91\x91\x91\x90", "nested too deeply"),
    BAD("depth 9 in maps", "\x81\xA0\x81\xA0\x81\xA0\x81\xA0\x81\xA0\x81\xA0\x81\xA0\x81\xA0\x80",
        "nested too deeply"),
    BAD("c1", "\xC1", "c1"),
    BAD("c1 further in", "\x92\x01\xC1", "c1"),
    BAD("ext 8 of another type",
        "\xC7\x04\x01"
        "abcd",
        "not a timestamp"),
    BAD("ext of a length no timestamp has",
        "\xC7\x03\xFF"
        "abc",
        "not a timestamp"),
    BAD("fixext 1", "\xD4\xFF\x10", "not a timestamp"),
    BAD("fixext 2", "\xD5\xFF\x10\x10", "not a timestamp"),
    BAD("fixext 4 of another type", "\xD6\x03\x01\x02\x03\x04", "not a timestamp"),
    BAD("fixext 8 of another type", "\xD7\x00", "not a timestamp"),
    BAD("fixext 16", "\xD8", "not a timestamp"),
    BAD("ext 16, on its header", "\xC8\xFF\xFF", "not a timestamp"),
    BAD("ext 32, on its header", "\xC9\xFF\xFF\xFF\xFF", "not a timestamp"),
    BAD_BODY("timestamp 64 with too many nanoseconds", "\xD7\xFF\xEE\x6B\x28\x00\x00\x00\x00\x00",
             "nanoseconds"),
    BAD_BODY("timestamp 96 with too many nanoseconds",
             "\xC7\x0C\xFF\x3B\x9A\xCA\x00\x00\x00\x00\x00\x00\x00\x00\x00", "nanoseconds"),
    BAD_BODY("timestamp 96 too far away",
             "\xC7\x0C\xFF\x00\x00\x00\x00\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "too far"),
    BAD_BODY("str with NUL",
             "\xA3"
             "a\0b",
             "UTF-8"),
    BAD_BODY("str, overlong", "\xA2\xC0\xAF", "UTF-8"),
    BAD_BODY("str, surrogate", "\xA3\xED\xA0\x80", "UTF-8"),
    BAD_BODY("str, cut", "\xA2\xE2\x82", "UTF-8"),
    BAD_BODY("key with NUL", "\x81\xA1\0\x01", "UTF-8"),
    BAD_BODY("key twice",
             "\x82\xA1"
             "a\x01\xA1"
             "a\x02",
             "same key twice"),
    BAD_BODY("key twice in two encodings",
             "\x82\xA1"
             "a\x01\xD9\x01"
             "a\x02",
             "same key twice"),
    BAD_BODY("empty key twice",
             "\x83\xA0\x01\xA1"
             "a\x02\xA0\x03",
             "same key twice"),
    GOOD("keys by case are two",
         "\x82\xA1"
         "a\x01\xA1"
         "A\x02",
         "{\"a\":1,\"A\":2}"),
    BAD("key is bin",
        "\x81\xC4\x01"
        "a\x01",
        "not a str"),
    BAD("key is an integer", "\x81\x01\x01", "not a str"),
    BAD("key is nil",
        "\x82\xA1"
        "a\x01\xC0\x01",
        "not a str"),
    BAD("key is a map", "\x81\x80\x01", "not a str"),
    BAD("array 32 of 83886080, on its header", "\xDD\x05\x00\x00\x00", "too many elements"),
    BAD("array 32, largest, on its header", "\xDD\xFF\xFF\xFF\xFF", "too many elements"),
    BAD("map 32 of 83886080, on its header", "\xDF\x05\x00\x00\x00", "too many elements"),
    BAD("map 32, largest, on its header", "\xDF\xFF\xFF\xFF\xFF", "too many elements"),
    BAD("map 16 of 2048, on its header", "\xDE\x08\x00", "too many elements"),
    BAD("str 32, largest, on its header", "\xDB\xFF\xFF\xFF\xFF", "longer than its limit"),
    BAD("str 32 of 65537, on its header", "\xDB\x00\x01\x00\x01", "longer than its limit"),
    BAD("str 32 of 65536, on its header", "\xDB\x00\x01\x00\x00", "longer than its limit"),
    BAD("bin 32, largest, on its header", "\xC6\xFF\xFF\xFF\xFF", "longer than its limit"),
    BAD("one budget for all arrays", "\x92\xDC\x08\x00\xDC\x08\x00", NULL),
};

static enum kt_frame
scan_pieces(struct kt_str bytes, size_t cut, size_t step, size_t *ret_len, const char **ret_why)
{
    struct kt_pack_scan scan = { 0 };
    enum kt_frame frame = KT_FRAME_MORE;
    for (size_t n = cut; frame == KT_FRAME_MORE; n += step) {
        n = n > bytes.n ? bytes.n : n;
        /* In memory of its own, which ends there. */
        char *copy = malloc(n ? n : 1);
        memcpy(copy, bytes.p, n);
        frame = kt_pack_scan((struct kt_str){ copy, n }, NULL, &scan, ret_len, ret_why);
        free(copy);
        if (n == bytes.n)
            break;
    }
    return frame;
}

static enum kt_frame
read_prefix(struct kt_str bytes, size_t n, const char **ret_why)
{
    struct kt_arena arena;
    struct kt_value value;
    size_t len;
    kt_arena_init(&arena, ARENA_BYTES);
    char *copy = malloc(n ? n : 1);
    memcpy(copy, bytes.p, n);
    enum kt_frame frame =
        kt_pack_read((struct kt_str){ copy, n }, NULL, &arena, &value, &len, ret_why);
    free(copy);
    kt_arena_done(&arena);
    return frame;
}

static void
check_good(const struct sample *sample)
{
    struct kt_arena arena;
    struct kt_buf buf;
    kt_arena_init(&arena, ARENA_BYTES);
    kt_buf_init(&buf, ARENA_BYTES);
    struct kt_value value;
    size_t len = 0;
    const char *why = "";
    enum kt_frame frame = kt_pack_read(sample->bytes, NULL, &arena, &value, &len, &why);
    if (frame != KT_FRAME_DONE)
        fail_msg("%d %s", frame, why);
    assert_int_equal(len, sample->bytes.n);
    kt_json_put_value(&buf, &value);
    kt_buf_putc(&buf, '\0');
    assert_string_equal(buf.p, sample->printed);
    assert_int_equal(scan_pieces(sample->bytes, sample->bytes.n, 1, &len, &why), KT_FRAME_DONE);
    assert_int_equal(len, sample->bytes.n);
    kt_buf_done(&buf);
    kt_arena_done(&arena);
}

static void
test_sample(void **state)
{
    const struct sample *sample = *state;
    if (sample->printed) {
        check_good(sample);
        return;
    }
    const char *why = NULL;
    size_t len;
    assert_int_equal(read_prefix(sample->bytes, sample->bytes.n, &why), KT_FRAME_BAD);
    if (sample->why && !strstr(why, sample->why))
        fail_msg("%s", why);
    enum kt_frame frame = scan_pieces(sample->bytes, sample->bytes.n, 1, &len, &why);
    assert_int_equal(frame, sample->header ? KT_FRAME_BAD : KT_FRAME_DONE);
}

/* Wherever it is cut, the scan comes to the same end, and no beginning is taken for the whole. */
static void
test_split(void **state)
{
    const struct sample *sample = *state;
    enum kt_frame whole = sample->header ? KT_FRAME_BAD : KT_FRAME_DONE;
    for (size_t cut = 0; cut <= sample->bytes.n; cut++)
        for (size_t step = 1; step <= 3; step++) {
            size_t len = 0;
            const char *why;
            assert_int_equal(scan_pieces(sample->bytes, cut, step, &len, &why), whole);
            assert_true(whole == KT_FRAME_BAD || len == sample->bytes.n);
        }
    for (size_t n = 0; n < sample->bytes.n; n++) {
        const char *why;
        enum kt_frame frame = read_prefix(sample->bytes, n, &why);
        assert_int_not_equal(frame, KT_FRAME_DONE);
        assert_true(!sample->printed || frame == KT_FRAME_MORE);
    }
}

static void
test_bytes_behind_the_message_are_left(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        if (!samples[i].printed)
            continue;
        char bytes[128];
        memcpy(bytes, samples[i].bytes.p, samples[i].bytes.n);
        memset(bytes + samples[i].bytes.n, 0xC1, 8);
        struct kt_str text = { bytes, samples[i].bytes.n + 8 };
        struct kt_arena arena;
        struct kt_value value;
        size_t len = 0;
        const char *why;
        kt_arena_init(&arena, ARENA_BYTES);
        assert_int_equal(kt_pack_read(text, NULL, &arena, &value, &len, &why), KT_FRAME_DONE);
        assert_int_equal(len, samples[i].bytes.n);
        assert_int_equal(scan_pieces(text, text.n, 1, &len, &why), KT_FRAME_DONE);
        assert_int_equal(len, samples[i].bytes.n);
        kt_arena_done(&arena);
    }
}

/* Both readers on a buffer: they agree, and so what they say is returned. */
static enum kt_frame
both(const struct kt_buf *buf, const struct kt_pack_limits *limits)
{
    struct kt_arena arena;
    struct kt_value value;
    struct kt_pack_scan scan = { 0 };
    size_t read_len = 0, scan_len = 0;
    const char *why;
    assert_false(buf->failed);
    kt_arena_init(&arena, ARENA_BYTES);
    enum kt_frame frame = kt_pack_read(kt_buf_str(buf), limits, &arena, &value, &read_len, &why);
    assert_int_equal(kt_pack_scan(kt_buf_str(buf), limits, &scan, &scan_len, &why), frame);
    assert_int_equal(read_len, scan_len);
    kt_arena_done(&arena);
    return frame;
}

static void
test_limit_elements(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    for (size_t n = 4095; n <= 4096; n++) {
        kt_buf_reset(&buf);
        kt_pack_put_array(&buf, n);
        for (size_t i = 0; i < n; i++)
            kt_pack_put_nil(&buf);
        assert_int_equal(both(&buf, NULL), n == 4095 ? KT_FRAME_DONE : KT_FRAME_BAD);
    }
    /* 1 array + 2 maps of 2n values each */
    for (size_t n = 1023; n <= 1024; n++) {
        kt_buf_reset(&buf);
        kt_pack_put_array(&buf, 2);
        for (size_t i = 0; i < 2 * n; i++) {
            if (i % n == 0)
                kt_pack_put_map(&buf, n);
            char key[8];
            kt_pack_put_str(&buf,
                            (struct kt_str){ key, (size_t)snprintf(key, sizeof key, "%zu", i) });
            kt_pack_put_nil(&buf);
        }
        assert_int_equal(both(&buf, NULL), n == 1023 ? KT_FRAME_DONE : KT_FRAME_BAD);
    }
    kt_buf_done(&buf);
}

static void
test_limit_message(void **state)
{
    (void)state;
    static const char x[70000];
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    for (size_t n = 65536; n <= 65537; n++) {
        enum kt_frame frame = n == 65536 ? KT_FRAME_DONE : KT_FRAME_BAD;
        kt_buf_reset(&buf);
        kt_pack_put_bin(&buf, (struct kt_str){ x, n - 3 - (n - 3 > 65535 ? 2 : 0) });
        assert_int_equal(both(&buf, NULL), frame);
        kt_buf_reset(&buf);
        kt_pack_put_array(&buf, 2);
        kt_pack_put_bin(&buf, (struct kt_str){ x, n - 5 });
        kt_pack_put_nil(&buf);
        assert_int_equal(buf.n, n);
        assert_int_equal(both(&buf, NULL), frame);
        /* Refused on the header already: the nil cannot fit any more. */
        buf.n = 4;
        assert_int_equal(both(&buf, NULL), n == 65536 ? KT_FRAME_MORE : KT_FRAME_BAD);
    }
    kt_buf_done(&buf);
}

static void
test_limit_string_and_depth(void **state)
{
    (void)state;
    struct kt_pack_limits limits = kt_pack_request_limits;
    limits.string = 10;
    limits.depth = 100;
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    kt_pack_put_str(&buf, KT_LIT("0123456789"));
    assert_int_equal(both(&buf, &limits), KT_FRAME_DONE);
    kt_buf_reset(&buf);
    kt_pack_put_bin(&buf, KT_LIT("01234567890"));
    assert_int_equal(both(&buf, &limits), KT_FRAME_BAD);
    for (size_t depth = KT_PACK_DEPTH_MAX; depth <= KT_PACK_DEPTH_MAX + 1; depth++) {
        kt_buf_reset(&buf);
        for (size_t i = 1; i < depth; i++)
            kt_pack_put_array(&buf, 1);
        kt_pack_put_array(&buf, 0);
        assert_int_equal(both(&buf, &limits),
                         depth == KT_PACK_DEPTH_MAX ? KT_FRAME_DONE : KT_FRAME_BAD);
    }
    kt_buf_done(&buf);
}

/* A header that announces what is not there yet must not take memory for it. */
static void
test_no_memory_for_what_is_not_there(void **state)
{
    (void)state;
    static const struct kt_str headers[] = { BYTES("\xDC\x0F\xFF"), BYTES("\xDE\x07\xFF"),
                                             BYTES("\xDC\x0F\xF0\xDC\x00\x0F") };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        struct kt_arena arena;
        struct kt_value value;
        size_t len;
        const char *why;
        kt_arena_init(&arena, ARENA_BYTES);
        assert_int_equal(kt_pack_read(headers[i], NULL, &arena, &value, &len, &why), KT_FRAME_MORE);
        assert_int_equal(arena.used, 0);
        kt_arena_done(&arena);
    }
}

static void
test_no_memory_is_bad(void **state)
{
    (void)state;
    static const struct kt_str bytes = BYTES("\x92\x81\xA1"
                                             "a\x01\x91\x02");
    enum kt_frame frame = KT_FRAME_BAD;
    for (size_t cap = 0; frame == KT_FRAME_BAD; cap++) {
        struct kt_arena arena;
        struct kt_value value = { .type = KT_V_TIME };
        size_t len;
        const char *why = NULL;
        kt_arena_init(&arena, cap);
        frame = kt_pack_read(bytes, NULL, &arena, &value, &len, &why);
        assert_true(frame == KT_FRAME_DONE || strstr(why, "memory"));
        assert_true(frame == KT_FRAME_DONE || value.type == KT_V_TIME);
        kt_arena_done(&arena);
    }
    assert_int_equal(frame, KT_FRAME_DONE);
}

/* Maps so large that keys are sorted: with all different, and with any two the same. */
static void
test_many_keys(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    for (unsigned n = 2; n < 60; n++)
        for (unsigned twin = 0; twin < n; twin++) {
            kt_buf_reset(&buf);
            kt_pack_put_map(&buf, n);
            for (unsigned i = 0; i < n; i++) {
                char key[16];
                unsigned k = (i == twin && twin > 0 ? twin / 2 : i) * 2654435761U % 4093;
                int len = snprintf(key, sizeof key, "%u", k);
                kt_pack_put_str(&buf, (struct kt_str){ key, (size_t)len });
                kt_pack_put_uint(&buf, i);
            }
            struct kt_arena arena;
            struct kt_value value;
            size_t len;
            const char *why = "";
            kt_arena_init(&arena, ARENA_BYTES);
            assert_int_equal(kt_pack_read(kt_buf_str(&buf), NULL, &arena, &value, &len, &why),
                             twin == 0 ? KT_FRAME_DONE : KT_FRAME_BAD);
            kt_arena_done(&arena);
        }
    kt_buf_done(&buf);
}

static void
test_put_smallest(void **state)
{
    (void)state;
    static const struct {
        int64_t i;
        size_t n;
    } cases[] = {
        { 0, 1 },      { 127, 1 },    { 128, 2 },         { 255, 2 },         { 256, 3 },
        { 65535, 3 },  { 65536, 5 },  { 4294967295, 5 },  { 4294967296, 9 },  { INT64_MAX, 9 },
        { -1, 1 },     { -32, 1 },    { -33, 2 },         { -128, 2 },        { -129, 3 },
        { -32768, 3 }, { -32769, 5 }, { -2147483648, 5 }, { -2147483649, 9 }, { INT64_MIN, 9 },
    };
    struct kt_buf buf;
    kt_buf_init(&buf, 1024);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kt_arena arena;
        struct kt_value value;
        size_t len;
        const char *why;
        kt_arena_init(&arena, ARENA_BYTES);
        kt_buf_reset(&buf);
        kt_pack_put_int(&buf, cases[i].i);
        assert_int_equal(buf.n, cases[i].n);
        assert_int_equal(kt_pack_read(kt_buf_str(&buf), NULL, &arena, &value, &len, &why),
                         KT_FRAME_DONE);
        assert_int_equal(value.type, KT_V_INT);
        assert_int_equal(value.i, cases[i].i);
        kt_arena_done(&arena);
    }
    kt_buf_done(&buf);
}

static void
test_put_lengths(void **state)
{
    (void)state;
    static const char x[70000];
    static const struct {
        size_t n, str, bin, array, map;
    } cases[] = {
        { 0, 1, 2, 1, 1 },   { 15, 1, 2, 1, 1 },    { 16, 1, 2, 3, 3 },
        { 31, 1, 2, 3, 3 },  { 32, 2, 2, 3, 3 },    { 255, 2, 2, 3, 3 },
        { 256, 3, 3, 3, 3 }, { 65535, 3, 3, 3, 3 }, { 65536, 5, 5, 5, 5 },
    };
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kt_str s = { x, cases[i].n };
        kt_buf_reset(&buf);
        kt_pack_put_str(&buf, s);
        assert_int_equal(buf.n, cases[i].str + s.n);
        kt_buf_reset(&buf);
        kt_pack_put_bin(&buf, s);
        assert_int_equal(buf.n, cases[i].bin + s.n);
        kt_buf_reset(&buf);
        kt_pack_put_array(&buf, s.n);
        assert_int_equal(buf.n, cases[i].array);
        kt_buf_reset(&buf);
        kt_pack_put_map(&buf, s.n);
        assert_int_equal(buf.n, cases[i].map);
    }
    kt_pack_put_str(&buf, (struct kt_str){ x, (size_t)UINT32_MAX + 1 });
    assert_true(buf.failed);
    kt_buf_done(&buf);
}

static void
test_put_time(void **state)
{
    (void)state;
    static const int64_t times[] = { 0,
                                     1,
                                     -1,
                                     999,
                                     1000,
                                     -1000,
                                     -1001,
                                     1514862245678,
                                     4294967295000,
                                     4294967296000,
                                     17179869183999,
                                     17179869184000,
                                     253402300799999,
                                     -62167219200000 };
    struct kt_buf buf;
    kt_buf_init(&buf, 1024);
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        struct kt_value value;
        size_t len;
        const char *why;
        kt_buf_reset(&buf);
        kt_pack_put_time(&buf, (struct kt_time){ times[i] });
        assert_int_equal(kt_pack_read(kt_buf_str(&buf), NULL, NULL, &value, &len, &why),
                         KT_FRAME_DONE);
        assert_int_equal(value.type, KT_V_TIME);
        assert_int_equal(value.t.ms, times[i]);
    }
    kt_buf_reset(&buf);
    kt_pack_put_time(&buf, KT_NO_TIME);
    kt_pack_put_str(&buf, (struct kt_str){ NULL, 0 });
    assert_int_equal(buf.n, 2);
    assert_memory_equal(buf.p, "\xC0\xC0", 2);
    kt_buf_done(&buf);
}

/* What is accepted, msgpack-c reads as the same; and written again it reads the same. */
static void
check_against_msgpack_c(struct kt_str bytes, const struct kt_value *value)
{
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    size_t offset = 0;
    assert_int_equal(msgpack_unpack_next(&unpacked, bytes.p, bytes.n, &offset),
                     MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(offset, bytes.n);
    assert_true(same(value, &unpacked.data));
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    kt_pack_put_value(&buf, value);
    assert_false(buf.failed);
    offset = 0;
    assert_int_equal(msgpack_unpack_next(&unpacked, buf.p, buf.n, &offset), MSGPACK_UNPACK_SUCCESS);
    assert_true(same(value, &unpacked.data));
    kt_buf_done(&buf);
    msgpack_unpacked_destroy(&unpacked);
}

static void
test_samples_against_msgpack_c(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        if (!samples[i].printed)
            continue;
        struct kt_arena arena;
        struct kt_value value;
        size_t len;
        const char *why;
        kt_arena_init(&arena, ARENA_BYTES);
        assert_int_equal(kt_pack_read(samples[i].bytes, NULL, &arena, &value, &len, &why),
                         KT_FRAME_DONE);
        check_against_msgpack_c(samples[i].bytes, &value);
        kt_arena_done(&arena);
    }
}

/* Published vectors: values, each with all of its encodings. */

static double
number(const struct kt_value *v)
{
    return v->type == KT_V_NUMBER ? v->d : v->type == KT_V_UINT ? (double)v->u : (double)v->i;
}

static bool
is_number(const struct kt_value *v)
{
    return v->type == KT_V_INT || v->type == KT_V_UINT || v->type == KT_V_NUMBER;
}

static bool
alike(const struct kt_value *a, const struct kt_value *b)
{
    if (is_number(a) && is_number(b))
        return a->type == b->type && a->type == KT_V_INT ? a->i == b->i : number(a) == number(b);
    if (a->type != b->type)
        return false;
    bool equal = true;
    switch (a->type) {
    case KT_V_BOOL:
        return a->b == b->b;
    case KT_V_STR:
        return kt_str_eq(a->s, b->s);
    case KT_V_ARRAY:
        equal = a->array.n == b->array.n;
        for (size_t i = 0; equal && i < a->array.n; i++)
            equal = alike(&a->array.v[i], &b->array.v[i]);
        return equal;
    case KT_V_MAP:
        equal = a->map.n == b->map.n;
        for (size_t i = 0; equal && i < a->map.n; i++)
            equal = kt_str_eq(a->map.v[i].name, b->map.v[i].name) &&
                    alike(&a->map.v[i].value, &b->map.v[i].value);
        return equal;
    default:
        return a->type == KT_V_NULL;
    }
}

/* "a1-dc" as bytes; returns how many. */
static size_t
hex_bytes(struct kt_str text, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i + 1 < text.n; i += 3) {
        char digits[3] = { text.p[i], text.p[i + 1], '\0' };
        out[n++] = (char)strtoul(digits, NULL, 16);
    }
    return n;
}

static bool
value_is_expected(const struct kt_value *entry, const struct kt_value *value)
{
    const struct kt_value *want;
    char bytes[256];
    if ((want = kt_value_get(entry, "timestamp"))) {
        int64_t ms = want->array.v[0].i * 1000 + want->array.v[1].i / 1000000;
        return value->type == KT_V_TIME && value->t.ms == ms;
    }
    if ((want = kt_value_get(entry, "binary")))
        return value->type == KT_V_BIN && same_str(value->s, bytes, hex_bytes(want->s, bytes));
    if ((want = kt_value_get(entry, "bignum"))) {
        char text[32];
        snprintf(text, sizeof text, value->type == KT_V_UINT ? "%llu" : "%lld",
                 (unsigned long long)value->u);
        return value->type == KT_V_NUMBER ? value->d == strtod(want->s.p, NULL)
                                          : kt_str_is(want->s, text);
    }
    static const char *const plain[] = { "nil", "bool", "number", "string", "array", "map" };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if ((want = kt_value_get(entry, plain[i])))
            return alike(want, value);
    return false;
}

static unsigned
entry_check(const struct kt_value *entry, unsigned *refused)
{
    const struct kt_value *encodings = kt_value_get(entry, "msgpack");
    for (size_t i = 0; i < encodings->array.n; i++) {
        char bytes[512];
        struct kt_str text = encodings->array.v[i].s;
        struct kt_str message = { bytes, hex_bytes(text, bytes) };
        struct kt_arena arena;
        struct kt_value value;
        size_t len = 0;
        const char *why = "";
        kt_arena_init(&arena, ARENA_BYTES);
        enum kt_frame frame = kt_pack_read(message, NULL, &arena, &value, &len, &why);
        if (kt_value_get(entry, "ext")) {
            assert_int_equal(frame, KT_FRAME_BAD);
            assert_non_null(strstr(why, "not a timestamp"));
            ++*refused;
        } else {
            if (frame != KT_FRAME_DONE || !value_is_expected(entry, &value))
                fail_msg("%.*s: %d %s", KT_FMT(text), frame, why);
            assert_int_equal(len, message.n);
            check_against_msgpack_c(message, &value);
        }
        kt_arena_done(&arena);
    }
    return (unsigned)encodings->array.n;
}

static bool
corpus_read(struct kt_arena *arena, struct kt_value *ret_groups)
{
    const char *corpora = getenv("KAITEN_CORPORA");
    char path[2048];
    snprintf(path, sizeof path, "%s/msgpack-test-suite/msgpack-test-suite.json",
             corpora ? corpora : "../shared/corpora");
    FILE *file = fopen(path, "rb");
    if (!file) {
        print_message("skipped: %s is not there\n", path);
        return false;
    }
    static char text[1 << 18];
    struct kt_str json = { text, fread(text, 1, sizeof text, file) };
    fclose(file);
    struct kt_json_limits limits = { 16, 1000, 100000, 4096, 60 };
    struct kt_json_error error = { 0 };
    if (kt_json_read(json, arena, &limits, ret_groups, &error) != 0)
        fail_msg("%zu: %s", error.offset, error.text);
    return true;
}

static void
test_corpus(void **state)
{
    (void)state;
    struct kt_arena arena;
    struct kt_value groups;
    kt_arena_init(&arena, 16 << 20);
    if (!corpus_read(&arena, &groups))
        skip();
    unsigned seen = 0, refused = 0;
    for (size_t i = 0; i < groups.map.n; i++) {
        const struct kt_value *group = &groups.map.v[i].value;
        for (size_t k = 0; k < group->array.n; k++)
            seen += entry_check(&group->array.v[k], &refused);
    }
    assert_true(seen > 200);
    assert_true(refused < seen / 10);
    kt_arena_done(&arena);
}

int
main(void)
{
    enum { SAMPLES = sizeof samples / sizeof *samples };
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(test_bytes_behind_the_message_are_left),
        cmocka_unit_test(test_limit_elements),
        cmocka_unit_test(test_limit_message),
        cmocka_unit_test(test_limit_string_and_depth),
        cmocka_unit_test(test_no_memory_for_what_is_not_there),
        cmocka_unit_test(test_no_memory_is_bad),
        cmocka_unit_test(test_many_keys),
        cmocka_unit_test(test_put_smallest),
        cmocka_unit_test(test_put_lengths),
        cmocka_unit_test(test_put_time),
        cmocka_unit_test(test_samples_against_msgpack_c),
        cmocka_unit_test(test_corpus),
    };
    enum { OTHERS = sizeof others / sizeof *others };
    static struct CMUnitTest tests[2 * SAMPLES + OTHERS];
    static char split_names[SAMPLES][96];
    for (size_t i = 0; i < SAMPLES; i++) {
        void *sample = (void *)(uintptr_t)&samples[i];
        snprintf(split_names[i], sizeof split_names[i], "%s, split", samples[i].name);
        tests[2 * i] = (struct CMUnitTest){ samples[i].name, test_sample, NULL, NULL, sample };
        tests[2 * i + 1] = (struct CMUnitTest){ split_names[i], test_split, NULL, NULL, sample };
    }
    memcpy(tests + 2 * SAMPLES, others, sizeof others);
    return _cmocka_run_group_tests("pack", tests, 2 * SAMPLES + OTHERS, NULL, NULL);
}
