/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/near.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void
test_known_distances(void **state)
{
    static const struct {
        const char *a, *b;
        size_t n;
    } known[] = {
        { "", "", 0 },
        { "", "token", 5 },
        { "token", "token", 0 },
        { "token", "tokens", 1 },
        { "token", "oken", 1 },
        { "token", "taken", 1 },
        { "token", "Token", 1 },
        { "token", "toekn", 2 },
        { "kitten", "sitting", 3 },
        { "saturday", "sunday", 3 },
        { "abcdef", "fabcde", 2 },
        { "listen", "uid", 5 },
        { "\xC3\xA4", "a", 2 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_int_equal(kt_near(known[i].a, known[i].b), known[i].n);
        assert_int_equal(kt_near(known[i].b, known[i].a), known[i].n);
    }
}

/* As the definition has it, one letter after the other. */
static size_t
defined(const char *a, const char *b)
{
    if (!*a || !*b)
        return strlen(a) + strlen(b);
    size_t least = defined(a + 1, b + 1) + (*a != *b);
    size_t without_a = defined(a + 1, b) + 1, without_b = defined(a, b + 1) + 1;
    least = without_a < least ? without_a : least;
    return without_b < least ? without_b : least;
}

/* The nth word of all those of three letters and any length, the shortest first. */
static const char *
word_of(size_t n, char out[8])
{
    char *p = out + 7;
    for (*p = '\0'; n > 0; n = (n - 1) / 3)
        *--p = (char)('a' + (n - 1) % 3);
    return p;
}

static void
test_all_short_words(void **state)
{
    enum { WORDS = 1 + 3 + 9 + 27 + 81 };
    (void)state;
    for (size_t i = 0; i < WORDS; i++)
        for (size_t j = 0; j < WORDS; j++) {
            char one[8], other[8];
            const char *a = word_of(i, one), *b = word_of(j, other);
            if (kt_near(a, b) != defined(a, b))
                fail_msg("\"%s\" and \"%s\": %zu", a, b, kt_near(a, b));
        }
}

static void
test_the_longest_word(void **state)
{
    char longest[KT_NEAR_MAX + 1], longer[KT_NEAR_MAX + 2];
    (void)state;
    memset(longest, 'x', sizeof longest);
    memset(longer, 'x', sizeof longer);
    longest[KT_NEAR_MAX] = longer[KT_NEAR_MAX + 1] = '\0';
    assert_int_equal(kt_near(longest, longest), 0);
    assert_int_equal(kt_near(longest, longest + 1), 1);
    assert_int_equal(kt_near(longest, ""), KT_NEAR_MAX);
    assert_int_equal(kt_near(longer, longer), KT_NEAR_MAX);
    assert_int_equal(kt_near(longer, longest), KT_NEAR_MAX);
    assert_int_equal(kt_near("", longer), KT_NEAR_MAX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_distances),
        cmocka_unit_test(test_all_short_words),
        cmocka_unit_test(test_the_longest_word),
    };
    return cmocka_run_group_tests_name("near", tests, NULL, NULL);
}
