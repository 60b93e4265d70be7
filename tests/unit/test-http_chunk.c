/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Every rule of a chunked body, whole and cut at every position. */
#include "config.h"

#include "daemon/transport/http_chunk.h"
#include "tests/unit/samples.h"

#define BYTES(s)                                                                                   \
    {                                                                                              \
        ("" s), sizeof(s) - 1                                                                      \
    }
enum { MAX = 20 };

/* status 0: the body ends, -1: more is needed, else refused. rest: bytes behind the end. */
struct sample {
    const char *name;
    int status;
    struct kt_str text, body;
    size_t rest;
};

static const struct sample samples[] = {
    { "12 plain", 0, BYTES("3\r\nabc\r\n0\r\n\r\n"), BYTES("abc"), 0 },
    { "12 empty body", 0, BYTES("0\r\n\r\n"), BYTES(""), 0 },
    { "12 two chunks", 0, BYTES("3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"), BYTES("abcdefg"), 0 },
    { "12 the next request is left", 0, BYTES("1\r\na\r\n0\r\n\r\nGET /"), BYTES("a"), 5 },
    { "12 data looks like the end", 0, BYTES("5\r\n0\r\n\r\n\r\n0\r\n\r\n"), BYTES("0\r\n\r\n"),
      0 },
    { "12 upper and lower case digits", 0,
      BYTES("0000000A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"),
      BYTES("01234567890123456789"), 0 },
    { "12 eight digits of zero", 0, BYTES("00000000\r\n\r\n"), BYTES(""), 0 },
    { "12 nine digits", 400, BYTES("000000001\r\na\r\n"), BYTES(""), 0 },
    { "12 no digit", 400, BYTES("\r\n"), BYTES(""), 0 },
    { "12 no digit, extension", 400, BYTES(";a\r\n"), BYTES(""), 0 },
    { "12 0x", 400, BYTES("0x3\r\nabc\r\n"), BYTES(""), 0 },
    { "12 plus", 400, BYTES("+3\r\nabc\r\n"), BYTES(""), 0 },
    { "12 minus", 400, BYTES("-3\r\nabc\r\n"), BYTES(""), 0 },
    { "12 space before", 400, BYTES(" 3\r\nabc\r\n"), BYTES(""), 0 },
    { "12 space behind", 400, BYTES("3 \r\nabc\r\n"), BYTES(""), 0 },
    { "12 junk behind", 400, BYTES("3 junk\r\nabc\r\n"), BYTES(""), 0 },
    { "12 no hexadecimal", 400, BYTES("g\r\n"), BYTES(""), 0 },
    { "12 NUL", 400, BYTES("3\0\r\nabc\r\n"), BYTES(""), 0 },
    { "12 bare LF behind size", 400, BYTES("3\nabc\r\n"), BYTES(""), 0 },
    { "12 bare CR behind size", 400, BYTES("3\rabc\r\n"), BYTES(""), 0 },
    { "12 no CRLF behind data", 400, BYTES("3\r\nabcd\r\n"), BYTES("abc"), 0 },
    { "12 bare LF behind data", 400, BYTES("3\r\nabc\n0\r\n\r\n"), BYTES("abc"), 0 },
    { "12 bare CR behind data", 400, BYTES("3\r\nabc\r0\r\n\r\n"), BYTES("abc"), 0 },
    { "12 data shorter than its size", 400, BYTES("4\r\nabc\r\n0\r\n\r\n"), BYTES("abc\r"), 0 },
    { "12 extension", 0, BYTES("3;a=b;c=\"d e\t\"\r\nabc\r\n0;x\r\n\r\n"), BYTES("abc"), 0 },
    { "12 extension with bare LF", 400, BYTES("3;a\nabc\r\n0\r\n\r\n"), BYTES(""), 0 },
    { "12 extension with bare CR", 400, BYTES("3;a\rb\r\nabc\r\n0\r\n\r\n"), BYTES(""), 0 },
    { "12 extension with control", 400, BYTES("3;a\x01\r\nabc\r\n"), BYTES(""), 0 },
    { "12 body as long as its limit", 0, BYTES("14\r\n01234567890123456789\r\n0\r\n\r\n"),
      BYTES("01234567890123456789"), 0 },
    { "15 body longer than its limit, on the size", 413, BYTES("15\r\n"), BYTES(""), 0 },
    { "15 body longer than its limit, in sum", 413, BYTES("13\r\n0123456789012345678\r\n2\r\n"),
      BYTES("0123456789012345678"), 0 },
    { "15 largest size there is", 413, BYTES("ffffffff\r\n"), BYTES(""), 0 },
    { "13 trailer", 0, BYTES("0\r\nA: b\r\nC:\r\n\r\nx"), BYTES(""), 1 },
    { "13 trailer without colon", 400, BYTES("0\r\nabc\r\n\r\n"), BYTES(""), 0 },
    { "13 trailer with empty name", 400, BYTES("0\r\n: b\r\n\r\n"), BYTES(""), 0 },
    { "13 trailer with space before colon", 400, BYTES("0\r\nA : b\r\n\r\n"), BYTES(""), 0 },
    { "13 trailer folded", 400, BYTES("0\r\nA: b\r\n c\r\n\r\n"), BYTES(""), 0 },
    { "13 trailer with NUL", 400, BYTES("0\r\nA: b\0\r\n\r\n"), BYTES(""), 0 },
    { "13 trailer with bare LF", 400, BYTES("0\r\nA: b\nC: d\r\n\r\n"), BYTES(""), 0 },
    { "13 trailer with bare CR", 400, BYTES("0\r\nA: b\rC: d\r\n\r\n"), BYTES(""), 0 },
    { "13 bare LF at the end", 400, BYTES("0\r\n\n"), BYTES(""), 0 },
    { "13 bare CR at the end", 400, BYTES("0\r\n\rx"), BYTES(""), 0 },
    { "13 not ended", -1, BYTES("0\r\nA: b\r\n\r"), BYTES(""), 0 },
};

struct outcome {
    int status; /* as in struct sample */
    char body[64];
    size_t nbody, rest;
};

/* Feeds pieces that end at cut, then at every step bytes. */
static struct outcome
feed(struct kt_str text, size_t cut, size_t step)
{
    struct http_chunk chunk;
    struct outcome outcome = { .status = -1 };
    enum http_chunk_event event = HTTP_CHUNK_MORE;
    http_chunk_init(&chunk, MAX);
    for (size_t at = 0; at < text.n || event == HTTP_CHUNK_DATA;) {
        size_t n = at < cut ? cut - at : text.n - at < step ? text.n - at : step;
        char *piece = malloc(n ? n : 1);
        memcpy(piece, text.p + at, n);
        size_t consumed;
        struct kt_str data;
        event = http_chunk_next(&chunk, (struct kt_str){ piece, n }, &consumed, &data);
        assert_true(consumed <= n);
        assert_true(event != HTTP_CHUNK_MORE || consumed == n);
        if (event == HTTP_CHUNK_DATA) {
            assert_true(data.n > 0 && outcome.nbody + data.n <= sizeof outcome.body);
            memcpy(outcome.body + outcome.nbody, data.p, data.n);
            outcome.nbody += data.n;
        }
        free(piece);
        at += consumed;
        outcome.rest = text.n - at;
        if (event == HTTP_CHUNK_BAD || event == HTTP_CHUNK_END)
            break;
    }
    outcome.status = event == HTTP_CHUNK_END ? 0 : event == HTTP_CHUNK_BAD ? chunk.status : -1;
    return outcome;
}

static void
check(const struct sample *sample, struct outcome outcome)
{
    assert_int_equal(outcome.status, sample->status);
    assert_int_equal(outcome.nbody, sample->body.n);
    assert_memory_equal(outcome.body, sample->body.p, sample->body.n);
    if (sample->status == 0)
        assert_int_equal(outcome.rest, sample->rest);
}

static void
test_sample(void **state)
{
    const struct sample *sample = *state;
    check(sample, feed(sample->text, 0, SIZE_MAX));
    for (size_t cut = 1; cut <= sample->text.n; cut++)
        check(sample, feed(sample->text, cut, SIZE_MAX));
    for (size_t step = 1; step < 8; step++)
        check(sample, feed(sample->text, 0, step));
}

/* Feeds before, then n times c, then after; returns the status. */
static int
repeat(const char *before, char c, size_t n, const char *after)
{
    static char text[64 * 1024];
    size_t begin = strlen(before), end = strlen(after);
    memcpy(text, before, begin);
    memset(text + begin, c, n);
    memcpy(text + begin + n, after, end);
    return feed((struct kt_str){ text, begin + n + end }, 0, SIZE_MAX).status;
}

static void
test_12_limit_of_extensions(void **state)
{
    (void)state;
    assert_int_equal(repeat("0;", 'x', HTTP_CHUNK_EXTENSION_MAX, "\r\n\r\n"), 0);
    assert_int_equal(repeat("0;", 'x', HTTP_CHUNK_EXTENSION_MAX + 1, "\r\n\r\n"), 400);
    assert_int_equal(repeat("1;x\r\na\r\n0;", 'x', HTTP_CHUNK_EXTENSION_MAX - 1, "\r\n\r\n"), 0);
    assert_int_equal(repeat("1;x\r\na\r\n0;", 'x', HTTP_CHUNK_EXTENSION_MAX, "\r\n\r\n"), 400);
}

static void
test_13_limit_of_trailers(void **state)
{
    (void)state;
    assert_int_equal(repeat("0\r\nA:", 'x', HTTP_CHUNK_TRAILER_MAX - 2, "\r\n\r\n"), 0);
    assert_int_equal(repeat("0\r\nA:", 'x', HTTP_CHUNK_TRAILER_MAX - 1, "\r\n\r\n"), 400);
    assert_int_equal(repeat("0\r\nB:\r\nA:", 'x', HTTP_CHUNK_TRAILER_MAX - 4, "\r\n\r\n"), 0);
    assert_int_equal(repeat("0\r\nB:\r\nA:", 'x', HTTP_CHUNK_TRAILER_MAX - 3, "\r\n\r\n"), 400);
}

static void
test_12_endless_size(void **state)
{
    (void)state;
    assert_int_equal(repeat("", '0', 60000, ""), 400);
}

static void
test_the_last_word_stays(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum http_chunk_event event;
    } cases[] = { { "0\r\n\r\n", HTTP_CHUNK_END }, { "x", HTTP_CHUNK_BAD } };
    for (size_t i = 0; i < 2; i++) {
        struct http_chunk chunk;
        struct kt_str data;
        size_t consumed = 0;
        http_chunk_init(&chunk, MAX);
        assert_int_equal(http_chunk_next(&chunk, kt_str(cases[i].text), &consumed, &data),
                         cases[i].event);
        assert_int_equal(http_chunk_next(&chunk, KT_LIT("1\r\na"), &consumed, &data),
                         cases[i].event);
        assert_int_equal(consumed, 0);
    }
}

int
main(void)
{
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(test_12_limit_of_extensions),
        cmocka_unit_test(test_13_limit_of_trailers),
        cmocka_unit_test(test_12_endless_size),
        cmocka_unit_test(test_the_last_word_stays),
    };
    const struct sample_group group = {
        .name = "http_chunk", .samples = samples, .size = sizeof samples[0],
        .n = sizeof samples / sizeof samples[0], .whole = test_sample,
        .others = others, .nothers = sizeof others / sizeof others[0],
    };
    return run_samples(&group);
}
