/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#define BAD INT64_MIN

static const struct {
    const char *text;
    int64_t ms;
    const char *printed; /* NULL: as text */
} times[] = {
    { "1970-01-01T00:00:00Z", 0, NULL },
    { "2026-08-10T12:00:00Z", 1786363200000, NULL },
    { "2026-08-10T12:00:00.12Z", 1786363200120, NULL },
    { "2026-08-10T12:00:00.120Z", 1786363200120, "2026-08-10T12:00:00.12Z" },
    { "2026-08-10T12:00:00.001Z", 1786363200001, NULL },
    { "2026-08-10T12:00:00.000Z", 1786363200000, "2026-08-10T12:00:00Z" },
    { "2026-08-10T12:00:00.1Z", 1786363200100, NULL },
    { "2026-08-10T12:00:00.123999999Z", 1786363200123, "2026-08-10T12:00:00.123Z" },
    { "2026-08-10t12:00:00z", 1786363200000, "2026-08-10T12:00:00Z" },
    { "2030-01-01T02:00:00+02:00", 1893456000000, "2030-01-01T00:00:00Z" },
    { "2030-01-01T02:00:00-02:00", 1893470400000, "2030-01-01T04:00:00Z" },
    { "2030-01-01T05:45:00+05:45", 1893456000000, "2030-01-01T00:00:00Z" },
    { "2030-01-01T00:00:00-00:00", 1893456000000, "2030-01-01T00:00:00Z" },
    { "2030-01-01T23:59:00+23:59", 1893456000000, "2030-01-01T00:00:00Z" },
    { "0001-01-01T00:00:00Z", KT_TIME_FIRST, NULL },
    { "9999-12-31T23:59:59.999Z", KT_TIME_LAST, NULL },
    { "1969-12-31T23:59:59.999Z", -1, NULL },
    { "2000-02-29T00:00:00Z", 951782400000, NULL },
    { "2024-02-29T12:00:00Z", 1709208000000, NULL },
    { "2016-12-31T23:59:60Z", 1483228799999, "2016-12-31T23:59:59.999Z" },
    { "2016-12-31T23:59:60.5Z", 1483228799999, "2016-12-31T23:59:59.999Z" },
    { "2017-01-01T00:59:60+01:00", 1483228799999, "2016-12-31T23:59:59.999Z" },
    { "1990-12-31T15:59:60-08:00", 662687999999, "1990-12-31T23:59:59.999Z" },
    { "2026-08-10T12:00:00.12345678901234567890+02:00", 1786356000123, "2026-08-10T10:00:00.123Z" },
    /* Not a place for a leap second. */
    { "2016-12-30T23:59:60Z", BAD, NULL },
    { "2016-12-31T23:58:60Z", BAD, NULL },
    { "2016-12-31T23:59:60+01:00", BAD, NULL },
    { "2016-12-31T23:59:61Z", BAD, NULL },
    /* Dates and times that do not exist. */
    { "2026-02-29T00:00:00Z", BAD, NULL },
    { "1900-02-29T00:00:00Z", BAD, NULL },
    { "2026-04-31T00:00:00Z", BAD, NULL },
    { "2026-00-01T00:00:00Z", BAD, NULL },
    { "2026-13-01T00:00:00Z", BAD, NULL },
    { "2026-01-00T00:00:00Z", BAD, NULL },
    { "2026-01-32T00:00:00Z", BAD, NULL },
    { "2026-01-01T24:00:00Z", BAD, NULL },
    { "2026-01-01T00:60:00Z", BAD, NULL },
    { "0000-01-01T00:00:00Z", BAD, NULL },
    { "0001-01-01T00:00:00+00:01", BAD, NULL },
    { "9999-12-31T23:59:59-00:01", BAD, NULL },
    /* Other forms. */
    { "", BAD, NULL },
    { "2026-08-10", BAD, NULL },
    { "2026-08-10T12:00:00", BAD, NULL },
    { "2026-08-10 12:00:00Z", BAD, NULL },
    { "2026-08-10T12:00Z", BAD, NULL },
    { "2026-08-10T12:00:00.Z", BAD, NULL },
    { "2026-08-10T12:00:00,5Z", BAD, NULL },
    { "2026-08-10T12:00:00ZZ", BAD, NULL },
    { "2026-08-10T12:00:00Z ", BAD, NULL },
    { " 2026-08-10T12:00:00Z", BAD, NULL },
    { "2026-8-10T12:00:00Z", BAD, NULL },
    { "+026-08-10T12:00:00Z", BAD, NULL },
    { "12026-08-10T12:00:00Z", BAD, NULL },
    { "2026-08-10T12:00:00+24:00", BAD, NULL },
    { "2026-08-10T12:00:00+01:60", BAD, NULL },
    { "2026-08-10T12:00:00+0100", BAD, NULL },
    { "2026-08-10T12:00:00+01", BAD, NULL },
    { "2026-08-10T12:00:00 +01:00", BAD, NULL },
    { "tomorrow", BAD, NULL },
};

static void
test_times(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        struct kt_time t = { 42 };
        char buf[KT_TIME_MAX];
        bool ok = kt_time_parse(kt_str(times[i].text), &t);
        if (ok != (times[i].ms != BAD))
            fail_msg("%s: %s", times[i].text, ok ? "accepted" : "refused");
        assert_true(t.ms == (ok ? times[i].ms : 42));
        if (!ok)
            continue;
        const char *printed = times[i].printed != NULL ? times[i].printed : times[i].text;
        assert_int_equal(kt_time_print(t, buf), strlen(printed));
        assert_string_equal(buf, printed);
    }
}

/* Every day of years 1 to 9999 against the C library. */
static void
test_every_day(void **state)
{
    (void)state;
    for (int64_t ms = KT_TIME_FIRST; ms <= KT_TIME_LAST; ms += 86400000) {
        char buf[KT_TIME_MAX], expected[64];
        struct tm tm;
        time_t seconds = (time_t)(ms / 1000);
        struct kt_time back;
        gmtime_r(&seconds, &tm);
        snprintf(expected, sizeof(expected), "%04d-%02d-%02dT00:00:00Z", tm.tm_year + 1900,
                 tm.tm_mon + 1, tm.tm_mday);
        kt_time_print((struct kt_time){ ms }, buf);
        assert_string_equal(buf, expected);
        assert_true(kt_time_parse(kt_str(buf), &back) && back.ms == ms);
    }
}

static void
test_times_out_of_range_print_nothing(void **state)
{
    (void)state;
    const int64_t out[] = { KT_TIME_FIRST - 1, KT_TIME_LAST + 1, INT64_MIN, INT64_MAX };
    for (size_t i = 0; i < 4; i++) {
        char buf[KT_TIME_MAX] = "x";
        assert_int_equal(kt_time_print((struct kt_time){ out[i] }, buf), 0);
        assert_string_equal(buf, "");
    }
}

static const struct {
    const char *text;
    int64_t ms;
    const char *printed;
} durations[] = {
    { "0", 0, "0" },
    { "0s", 0, "0" },
    { "500ms", 500, "500ms" },
    { "10s", 10000, "10s" },
    { "5m", 300000, "5m" },
    { "90m", 5400000, "90m" },
    { "1h30m", 5400000, "90m" },
    { "1h", 3600000, "1h" },
    { "24h", 86400000, "1d" },
    { "30d", 2592000000, "30d" },
    { "2w", 1209600000, "14d" },
    { "1d1ms", 86400001, "86400001ms" },
    { "9223372036854775807ms", INT64_MAX, "9223372036854775807ms" },
    { "9223372036854775808ms", BAD, NULL },
    { "106751991168d", BAD, NULL },
    { "9223372036854775807s", BAD, NULL },
    { "", BAD, NULL },
    { "1", BAD, NULL },
    { "h", BAD, NULL },
    { "-1h", BAD, NULL },
    { "+1h", BAD, NULL },
    { "1.5h", BAD, NULL },
    { "1 h", BAD, NULL },
    { "1H", BAD, NULL },
    { "1y", BAD, NULL },
    { "30m1h", BAD, NULL },
    { "1h1h", BAD, NULL },
    { "1h30", BAD, NULL },
    { "fifteen minutes", BAD, NULL },
};

static void
test_durations(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
        int64_t ms = 42;
        char buf[KT_DURATION_MAX];
        bool ok = kt_duration_parse(kt_str(durations[i].text), &ms);
        if (ok != (durations[i].ms != BAD))
            fail_msg("%s: %s", durations[i].text, ok ? "accepted" : "refused");
        assert_true(ms == (ok ? durations[i].ms : 42));
        if (ok) {
            assert_int_equal(kt_duration_print(ms, buf), strlen(durations[i].printed));
            assert_string_equal(buf, durations[i].printed);
        }
    }
}

static const struct {
    const char *text;
    int64_t value;
} sizes[] = {
    { "0", 0 }, { "1", 1 }, { "64K", 65536 }, { "8M", 8388608 }, { "2G", 2147483648 },
    { "1T", 1099511627776 }, { "9223372036854775807", INT64_MAX }, { "9223372036854775808", BAD },
    { "8388608T", BAD }, { "8388607T", INT64_C(8388607) << 40 }, { "", BAD }, { "K", BAD },
    { "1k", BAD }, { "1KB", BAD }, { "-1", BAD }, { "1.5M", BAD }, { " 1", BAD }, { "1 K", BAD },
}, ints[] = {
    { "0", 0 }, { "7", 7 }, { "-7", -7 }, { "9223372036854775807", INT64_MAX },
    { "9223372036854775808", BAD }, { "-9223372036854775809", BAD }, { "", BAD }, { "-", BAD },
    { "-0", BAD }, { "00", BAD }, { "01", BAD }, { "+1", BAD }, { "1 ", BAD }, { "0x1", BAD },
    { "1e3", BAD }, { "abc", BAD }, { "-9223372036854775807", -INT64_MAX },
};

static void
test_sizes_and_ints(void **state)
{
    (void)state;
    int64_t value;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        value = 42;
        bool ok = kt_size_parse(kt_str(sizes[i].text), &value);
        if (ok != (sizes[i].value != BAD) || value != (ok ? sizes[i].value : 42))
            fail_msg("size %s", sizes[i].text);
    }
    for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++) {
        value = 42;
        bool ok = kt_int_parse(kt_str(ints[i].text), &value);
        if (ok != (ints[i].value != BAD) || value != (ok ? ints[i].value : 42))
            fail_msg("int %s", ints[i].text);
    }
    assert_true(kt_int_parse(kt_str("-9223372036854775808"), &value) && value == INT64_MIN);
}

static void
test_slugs(void **state)
{
    (void)state;
    static const char *const good[] = { "ab", "hello--world", "a1", "1a", "00", "a-b-c" };
    static const char *const bad[] = { "a", "", "Hello-World", "-hello", "hello-", "--",
                                       "hello_world", "hello.world", "a b", "h\xc3\xa9", "-" };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(kt_is_slug_chars(kt_str(good[i])));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(kt_is_slug_chars(kt_str(bad[i])));

    char long_one[1000];
    memset(long_one, 'a', sizeof(long_one));
    assert_true(kt_is_slug_chars((struct kt_str){ long_one, sizeof(long_one) }));
    assert_false(kt_is_slug_chars((struct kt_str){ "ab\0", 3 }));
}

#define DIGITS "0123456789abcdefABCDEF0123456789"
#define UUID   "01234567-89ab-cdef-ABCD-EF0123456789"

static void
test_uuids(void **state)
{
    (void)state;
    static const char *const good[] = { UUID, DIGITS, "{" UUID "}", "urn:uuid:" UUID,
                                        "URN:Uuid:" UUID };
    static const char *const bad[] = {
        "", "nope", UUID "0", "{" UUID, "(" UUID ")", "{" UUID ")", "{" DIGITS "}",
        "urn:uuid " UUID, "urn:uuid:" DIGITS, "0123456789ab-cdef-ABCD-EF0123456789-",
        "01234567-89ab-cdef-ABCD-EF012345678g", "01234567-89ab-cdef-ABCD-EF012345678@",
        "01234567-89ab-cdef-ABCD-EF012345678/", "01234567-89ab-cdef-ABCD-EF012345678:",
        "0123456789abcdefABCDEF012345678 "
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(kt_is_uuid(kt_str(good[i])));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (kt_is_uuid(kt_str(bad[i])))
            fail_msg("accepted: %s", bad[i]);
    for (size_t i = 0; i < sizeof(UUID) - 1; i++) {
        char text[] = UUID;
        text[i] = text[i] == '-' ? '0' : '-';
        assert_false(kt_is_uuid((struct kt_str){ text, sizeof(text) - 1 }));
    }
}

static void
test_code_points(void **state)
{
    (void)state;
    assert_int_equal(kt_code_points(kt_str("")), 0);
    assert_int_equal(kt_code_points((struct kt_str){ NULL, 0 }), 0);
    assert_int_equal(kt_code_points(kt_str("abc")), 3);
    assert_int_equal(kt_code_points(kt_str("h\xc3\xa9llo")), 5);
    assert_int_equal(kt_code_points(kt_str("\xe6\xa0\xaa\xf0\x9f\x98\x80")), 2);
}

/* RFC 4648 section 10, without the padding. */
static const char *const base64[][2] = {
    { "", "" },         { "f", "Zg" },         { "fo", "Zm8" },        { "foo", "Zm9v" },
    { "foob", "Zm9vYg" }, { "fooba", "Zm9vYmE" }, { "foobar", "Zm9vYmFy" }, { "\xfb\xff", "-_8" },
};

static void
test_base64url(void **state)
{
    (void)state;
    char buf[64];
    size_t n;
    for (size_t i = 0; i < sizeof(base64) / sizeof(base64[0]); i++) {
        const char *plain = base64[i][0], *coded = base64[i][1];
        assert_int_equal(kt_b64url_encode(plain, strlen(plain), buf), strlen(coded));
        assert_int_equal(KT_B64URL_LEN(strlen(plain)), strlen(coded));
        assert_string_equal(buf, coded);
        assert_true(kt_b64url_decode(kt_str(coded), buf, strlen(plain), &n));
        assert_int_equal(n, strlen(plain));
        assert_memory_equal(buf, plain, n);
        if (n > 0)
            assert_false(kt_b64url_decode(kt_str(coded), buf, n - 1, &n));
    }
    static const char *const bad[] = { "Z", "Zg=", "Zg==", "Zh", "Zm9", "Zm9v\n", " Zm9v", "Zm+v",
                                       "Zm/v", "Zm9vY", "Z\xc3\xa9" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        n = 42;
        if (kt_b64url_decode(kt_str(bad[i]), buf, sizeof(buf), &n) || n != 42)
            fail_msg("accepted: %s", bad[i]);
    }
    assert_false(kt_b64url_decode((struct kt_str){ "Zm\0v", 4 }, buf, sizeof(buf), &n));
}

static void
test_base64url_all_bytes(void **state)
{
    (void)state;
    unsigned char all[256], back[256];
    char text[KT_B64URL_LEN(256) + 1];
    for (size_t i = 0; i < 256; i++)
        all[i] = (unsigned char)(i * 7 + 3);
    for (size_t n = 0; n <= 256; n++) {
        size_t length = kt_b64url_encode(all, n, text), decoded;
        assert_true(kt_b64url_decode((struct kt_str){ text, length }, back, n, &decoded));
        assert_int_equal(decoded, n);
        assert_memory_equal(back, all, n);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_every_day),
        cmocka_unit_test(test_times_out_of_range_print_nothing),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_sizes_and_ints),
        cmocka_unit_test(test_slugs),
        cmocka_unit_test(test_uuids),
        cmocka_unit_test(test_code_points),
        cmocka_unit_test(test_base64url),
        cmocka_unit_test(test_base64url_all_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
