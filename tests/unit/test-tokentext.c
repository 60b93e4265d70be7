/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/tokentext.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct kt_secret_view
view(const char *s)
{
    return (struct kt_secret_view){ s, strlen(s) };
}

/* Computed elsewhere with zlib's crc32. */
static const char *const good[] = {
    "ksh_000000000000000000000000003buKH2",
    "ksh_zzzzzzzzzzzzzzzzzzzzzzzzzz3Wni0L",
    "ksh_abcdefghijklmnopqrstuvwxyz1kQYl5",
};

static void
test_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(strlen(good[i]), TOKEN_TEXT_LEN);
        assert_true(token_text_check(view(good[i])));
    }
}

static void
test_any_other_character_is_seen(void **state)
{
    (void)state;
    for (size_t i = 0; i < TOKEN_TEXT_LEN; i++) {
        char text[TOKEN_TEXT_LEN];
        memcpy(text, good[2], sizeof(text));
        for (int c = 0; c < 256; c++) {
            text[i] = (char)c;
            assert_int_equal(token_text_check((struct kt_secret_view){ text, sizeof(text) }),
                             text[i] == good[2][i]);
        }
    }
}

static void
test_other_lengths(void **state)
{
    (void)state;
    char text[TOKEN_TEXT_LEN + 2] = { 0 };
    memcpy(text, good[0], TOKEN_TEXT_LEN);
    for (size_t n = 0; n <= TOKEN_TEXT_LEN + 1; n++)
        assert_int_equal(token_text_check((struct kt_secret_view){ text, n }), n == TOKEN_TEXT_LEN);
    assert_false(token_text_check((struct kt_secret_view){ NULL, 0 }));
}

static void
test_made_ones_are_good_and_differ(void **state)
{
    (void)state;
    struct kt_secret *last = token_text_make(NULL);
    for (int i = 0; i < 1000; i++) {
        struct kt_secret *s = token_text_make(NULL);
        assert_true(token_text_check(kt_secret_view(s)));
        assert_int_equal(kt_secret_view(s).n, 36);
        assert_memory_not_equal(kt_secret_view(s).p, kt_secret_view(last).p, 36);
        kt_secret_free(last);
        last = s;
    }
    kt_secret_free(last);
    assert_int_equal(kt_secret_count(), 0);
}

static uint32_t next_word;

/* A fixed sequence without a visible pattern in its upper bits. */
static void
scattered(void *buf, size_t n)
{
    unsigned char *p = buf;
    for (size_t i = 0; i < n; i++) {
        next_word = next_word * 1664525 + 1013904223;
        p[i] = (unsigned char)(next_word >> 24);
    }
}

/* If 8 of the 256 bytes were not thrown away, the first 8 characters would come a quarter too
 * often. */
static void
test_unbiased(void **state)
{
    (void)state;
    unsigned count[256] = { 0 };
    next_word = 0;
    for (int i = 0; i < 20000; i++) {
        struct kt_secret *s = token_text_make(scattered);
        struct kt_secret_view v = kt_secret_view(s);
        for (size_t k = 4; k < 30; k++)
            count[(unsigned char)v.p[k]]++;
        kt_secret_free(s);
    }
    unsigned least = count['0'], most = count['0'];
    for (unsigned c = 0; c < 256; c++) {
        if (count[c] == 0)
            continue;
        least = count[c] < least ? count[c] : least;
        most = count[c] > most ? count[c] : most;
    }
    assert_true(least > 0 && count['z'] > 0 && count['A'] > 0);
    assert_true(most - least < most / 8);
}

static void
mostly_high(void *buf, size_t n)
{
    memset(buf, 0xff, n);
    if (++next_word % 3 == 0)
        memset(buf, 61, 2);
}

static void
test_high_bytes_are_thrown_away(void **state)
{
    (void)state;
    next_word = 0;
    struct kt_secret *s = token_text_make(mostly_high);
    assert_string_equal(kt_secret_view(s).p, good[1]);
    kt_secret_free(s);
}

static void
test_full_pool(void **state)
{
    (void)state;
    struct kt_secret **all = calloc(KT_SECRET_COUNT_MAX, sizeof(struct kt_secret *));
    for (size_t i = 0; i < KT_SECRET_COUNT_MAX; i++)
        all[i] = kt_secret_new("", 0);
    assert_null(token_text_make(NULL));
    for (size_t i = 0; i < KT_SECRET_COUNT_MAX; i++)
        kt_secret_free(all[i]);
    free(all);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_any_other_character_is_seen),
        cmocka_unit_test(test_other_lengths),
        cmocka_unit_test(test_made_ones_are_good_and_differ),
        cmocka_unit_test(test_unbiased),
        cmocka_unit_test(test_high_bytes_are_thrown_away),
        cmocka_unit_test(test_full_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
