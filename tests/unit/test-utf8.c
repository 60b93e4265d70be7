/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/utf8.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* The whole of Unicode against a second way to say the same. */
static void
test_put_and_char_agree(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        char out[4];
        size_t n = kt_utf8_put(out, c);
        assert_int_equal(n, c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4);
        bool surrogate = c >= 0xD800 && c <= 0xDFFF;
        assert_int_equal(kt_utf8_char(out, n), surrogate ? 0 : n);
        assert_int_equal(kt_utf8_is_text(out, n), c != 0 && !surrogate);
        for (size_t less = 0; less < n; less++)
            assert_int_equal(kt_utf8_char(out, less), 0);
    }
}

/* Of all sequences of two and three bytes, as many are accepted as there are characters. */
static void
test_no_other_two_or_three_bytes(void **state)
{
    (void)state;
    unsigned two = 0, three = 0;
    for (uint32_t i = 0; i < 1U << 24; i++) {
        char p[3] = { (char)(i >> 16), (char)(i >> 8), (char)i };
        three += kt_utf8_char(p, 3) == 3;
        two += i < 1U << 16 && kt_utf8_char(p + 1, 2) == 2;
    }
    assert_int_equal(two, 0x800 - 0x80);
    assert_int_equal(three, 0x10000 - 0x800 - 0x800);
}

static const struct {
    const char *name;
    const char *p;
    size_t n;
} refused[] = {
#define BYTES(s) (s), sizeof(s) - 1
    { "overlong NUL", BYTES("\xC0\x80") },
    { "overlong slash", BYTES("\xC0\xAF") },
    { "overlong in three", BYTES("\xE0\x80\xAF") },
    { "overlong in four", BYTES("\xF0\x8F\xBF\xBF") },
    { "first surrogate", BYTES("\xED\xA0\x80") },
    { "last surrogate", BYTES("\xED\xBF\xBF") },
    { "above U+10FFFF", BYTES("\xF4\x90\x80\x80") },
    { "five bytes", BYTES("\xF8\x88\x80\x80\x80") },
    { "lone continuation", BYTES("\x80") },
    { "FE", BYTES("\xFE") },
    { "FF", BYTES("\xFF") },
    { "NUL", BYTES("a\0b") },
    { "NUL behind a word", BYTES("01234567\0") },
    { "NUL within a word", BYTES("0123\0"
                                 "567") },
    { "cut off", BYTES("\xE2\x82") },
    { "Latin 1 behind a word", BYTES("01234567\xE4") },
};

static void
test_refused_wherever_it_stands(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        for (size_t before = 0; before < 20; before++)
            for (size_t after = 0; after < 12; after++) {
                char text[64];
                memset(text, 'x', sizeof text);
                memcpy(text + before, refused[i].p, refused[i].n);
                if (kt_utf8_is_text(text, before + refused[i].n + after))
                    fail_msg("%s was accepted", refused[i].name);
            }
}

static void
test_accepted(void **state)
{
    (void)state;
    static const char text[] = "plain ascii, \x01 to \x7F, "
                               "\xC3\xA4 \xE2\x82\xAC \xF0\x9F\x8D\xBA \xEF\xBF\xBF";
    assert_true(kt_utf8_is_text(text, sizeof text - 1));
    assert_true(kt_utf8_is_text("", 0));
    assert_true(kt_utf8_is_text(NULL, 0));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_char_agree),
        cmocka_unit_test(test_no_other_two_or_three_bytes),
        cmocka_unit_test(test_refused_wherever_it_stands),
        cmocka_unit_test(test_accepted),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
