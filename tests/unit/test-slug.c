/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/slug.h"

#include "client/proto/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void
abcdef(void *buf, size_t n)
{
    static const unsigned char bytes[] = { 0xab, 0xcd, 0xef };
    assert_int_equal(n, sizeof(bytes));
    memcpy(buf, bytes, n);
}

static const struct {
    const char *name, *base;
} vectors[] = {
    { "Hello World", "hello-world" },
    { "Acme, Inc.", "acme-inc" },
    { "--Acme--", "acme" },
    { "Customer 42", "customer-42" },
    { "café", "cafe" },
    { "Société Générale", "societe-generale" },
    { "Œuvre Straße Øresund", "oeuvre-strasse-oresund" },
    { "L'Oréal", "loreal" },
    { "Kevin’s Shop", "kevins-shop" },
    { "v0.1.0", "v0-1-0" },
    { "株式会社", "" },
    { "a__b--c  d", "a-b-c-d" },
    { "foo/bar", "foo-bar" },
    { "!!!", "" },
    { "", "" },
    { "CI/CD", "ci-cd" },
    { "ÆÐĐIŁØŒẞÞ", "aeddilooessth" },
    { "æðđıłøœßþ", "aeddilooessth" },
    { "İstanbul", "istanbul" },
    { "cafe\xcc\x81", "cafe" },              /* e and a combining acute */
    { "a\xcc\x81\xcc\xa7" "b", "ab" },         /* two marks */
    { "\xcc\x81", "" },                        /* a mark alone */
    { "Việt Nam", "viet-nam" },              /* U+1EC7: two marks in one character */
    { "Ǻǽ", "aae" },
    { "Ḉṩ", "cs" },
    { "\xe2\x84\xaa\xe2\x84\xab", "ka" },      /* KELVIN SIGN, ANGSTROM SIGN */
    { "ＡＢ", "" },                            /* full width has no canonical decomposition */
    { "Привет мир", "" },
    { "а1", "1" },                             /* a Cyrillic letter */
    { "ﬁx", "x" },                             /* a ligature neither */
    { "x\xff\xfey", "x-y" },                   /* no UTF-8 */
    { "x\xe2\x84", "x" },                      /* cut off */
    { "a - - b -", "a-b" },
    { "'''", "" },
    { "don't", "dont" },
    { "a\xd6\x91" "b", "ab" },                 /* a Hebrew accent is a mark too */
    { "ĿŀŁł", "ll" },                          /* the first two: only for compatibility */
};

static void
test_vectors(void **state)
{
    (void)state;
    struct kt_arena arena;
    kt_arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        struct kt_str base = slug_base(&arena, kt_str(vectors[i].name));
        assert_non_null(base.p);
        assert_string_equal(base.p, vectors[i].base);
        assert_int_equal(base.n, strlen(vectors[i].base));
        assert_true(base.n <= strlen(vectors[i].name));

        struct kt_str slug = slug_derive(&arena, kt_str(vectors[i].name), abcdef);
        struct kt_str expected = kt_arena_printf(&arena, "%s%sabcdef", vectors[i].base,
                                                 vectors[i].base[0] == '\0' ? "" : "-");
        assert_string_equal(slug.p, expected.p);
        assert_true(kt_is_slug_chars(slug));
    }
    kt_arena_done(&arena);
}

static void
test_two_calls_differ(void **state)
{
    (void)state;
    struct kt_arena arena;
    kt_arena_init(&arena, 1 << 16);
    struct kt_str a = slug_derive(&arena, KT_LIT("ci"), NULL);
    struct kt_str b = slug_derive(&arena, KT_LIT("ci"), NULL);
    assert_int_equal(a.n, 9);
    assert_memory_equal(a.p, "ci-", 3);
    assert_false(kt_str_eq(a, b));
    for (size_t i = 3; i < a.n; i++)
        assert_non_null(strchr("0123456789abcdef", a.p[i]));
    kt_arena_done(&arena);
}

static void
test_long_names_are_not_cut(void **state)
{
    (void)state;
    struct kt_arena arena;
    char name[300];
    kt_arena_init(&arena, 1 << 16);
    memset(name, 'A', sizeof(name));
    struct kt_str slug = slug_derive(&arena, (struct kt_str){ name, sizeof(name) }, abcdef);
    assert_int_equal(slug.n, 307);
    kt_arena_done(&arena);
}

static void
test_full_arena(void **state)
{
    (void)state;
    struct kt_arena arena;
    char name[8192];
    kt_arena_init(&arena, 4096);
    memset(name, 'a', sizeof(name));
    assert_null(slug_base(&arena, (struct kt_str){ name, sizeof(name) }).p);
    assert_null(slug_derive(&arena, (struct kt_str){ name, sizeof(name) }, abcdef).p);
    kt_arena_done(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_two_calls_differ),
        cmocka_unit_test(test_long_names_are_not_cut),
        cmocka_unit_test(test_full_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
