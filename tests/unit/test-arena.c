/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/arena.h"

#include <setjmp.h>
#include <stdalign.h>
#include <stdarg.h>

#include <cmocka.h>

static void
test_cap_is_exact(void **state)
{
    (void)state;
    struct kt_arena arena;
    kt_arena_init(&arena, 100);
    assert_non_null(kt_arena_alloc(&arena, 60));
    assert_null(kt_arena_alloc(&arena, 41));
    assert_non_null(kt_arena_alloc(&arena, 40));
    assert_null(kt_arena_alloc(&arena, 1));
    assert_non_null(kt_arena_alloc(&arena, 0));
    kt_arena_reset(&arena);
    assert_non_null(kt_arena_alloc(&arena, 100));
    kt_arena_done(&arena);
}

static void
test_alloc_is_aligned_and_disjoint(void **state)
{
    (void)state;
    struct kt_arena arena;
    kt_arena_init(&arena, 1 << 20);
    unsigned char *all[200];
    for (size_t i = 0; i < 200; i++) {
        all[i] = kt_arena_alloc(&arena, i * 7);
        assert_non_null(all[i]);
        assert_int_equal((uintptr_t)all[i] % alignof(max_align_t), 0);
        memset(all[i], (int)i, i * 7);
        assert_non_null(kt_arena_str(&arena, KT_LIT("x")).p);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t k = 0; k < i * 7; k++)
            assert_int_equal(all[i][k], i);
    kt_arena_done(&arena);
}

static void
test_borrowed_memory_is_used_first(void **state)
{
    (void)state;
    alignas(max_align_t) char memory[1024];
    struct kt_arena arena;
    kt_arena_init_with(&arena, memory, sizeof memory, 1 << 20);
    char *p = kt_arena_alloc(&arena, 500);
    assert_true(p > memory && p + 500 <= memory + sizeof memory);
    char *q = kt_arena_alloc(&arena, 5000);
    assert_non_null(q);
    assert_false(q >= memory && q < memory + sizeof memory);
    kt_arena_reset(&arena);
    assert_ptr_equal(kt_arena_alloc(&arena, 500), p);
    kt_arena_done(&arena);
}

static void
test_borrowed_memory_may_be_too_small_or_crooked(void **state)
{
    (void)state;
    alignas(max_align_t) char memory[128];
    for (size_t skip = 0; skip < 16; skip++)
        for (size_t n = 0; n <= sizeof memory - 16; n++) {
            struct kt_arena arena;
            kt_arena_init_with(&arena, memory + skip, n, 4096);
            char *p = kt_arena_alloc(&arena, 24);
            assert_non_null(p);
            memset(p, 1, 24);
            assert_int_equal((uintptr_t)p % alignof(max_align_t), 0);
            kt_arena_done(&arena);
        }
}

/* What the alignment takes is not there for the caller. */
static void
test_alignment_counts_against_the_chunk(void **state)
{
    (void)state;
    alignas(max_align_t) char memory[256];
    for (size_t n = 1; n < sizeof memory; n++) {
        struct kt_arena arena;
        kt_arena_init_with(&arena, memory, sizeof memory, 4096);
        assert_non_null(kt_arena_str(&arena, KT_LIT("")).p);
        char *p = kt_arena_alloc(&arena, n);
        assert_non_null(p);
        assert_true(p < memory || p >= memory + sizeof memory || p + n <= memory + sizeof memory);
        kt_arena_done(&arena);
    }
}

static void
test_wipe_overwrites_what_was_handed_out(void **state)
{
    (void)state;
    alignas(max_align_t) char memory[1024] = { 0 };
    struct kt_arena arena;
    kt_arena_init_with(&arena, memory, sizeof memory, 1 << 20);
    assert_non_null(kt_arena_str(&arena, KT_LIT("a secret of somebody")).p);
    assert_non_null(memmem(memory, sizeof memory, "secret", 6));
    assert_non_null(kt_arena_alloc(&arena, 100000));
    kt_arena_wipe(&arena);
    assert_null(memmem(memory, sizeof memory, "secret", 6));
    kt_arena_done(&arena);
}

static void
test_calloc_gives_zeros_and_refuses_overflow(void **state)
{
    (void)state;
    struct kt_arena arena;
    kt_arena_init(&arena, 1 << 20);
    memset(kt_arena_alloc(&arena, 4000), 0xFF, 4000);
    kt_arena_reset(&arena);
    char *p = kt_arena_calloc(&arena, 40, 100);
    for (size_t i = 0; i < 4000; i++)
        assert_int_equal(p[i], 0);
    assert_null(kt_arena_calloc(&arena, SIZE_MAX / 2, 3));
    assert_null(kt_arena_calloc(&arena, SIZE_MAX, 1));
    kt_arena_done(&arena);
}

static void
test_strings(void **state)
{
    (void)state;
    struct kt_arena arena;
    kt_arena_init(&arena, 64);
    struct kt_str s = kt_arena_str(&arena, KT_LIT("abc"));
    assert_int_equal(s.n, 3);
    assert_string_equal(s.p, "abc");
    assert_null(kt_arena_str(&arena, (struct kt_str){ NULL, 0 }).p);
    s = kt_arena_str(&arena, KT_LIT(""));
    assert_non_null(s.p);
    assert_int_equal(s.n, 0);
    s = kt_arena_printf(&arena, "%d-%s", 42, "x");
    assert_int_equal(s.n, 4);
    assert_string_equal(s.p, "42-x");
    assert_null(kt_arena_printf(&arena, "%100s", "").p);
    kt_arena_done(&arena);
}

static void
test_done_twice(void **state)
{
    (void)state;
    struct kt_arena arena;
    kt_arena_init(&arena, 4096);
    assert_non_null(kt_arena_alloc(&arena, 10));
    kt_arena_done(&arena);
    kt_arena_done(&arena);
    assert_non_null(kt_arena_alloc(&arena, 10));
    kt_arena_done(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cap_is_exact),
        cmocka_unit_test(test_alloc_is_aligned_and_disjoint),
        cmocka_unit_test(test_borrowed_memory_is_used_first),
        cmocka_unit_test(test_borrowed_memory_may_be_too_small_or_crooked),
        cmocka_unit_test(test_alignment_counts_against_the_chunk),
        cmocka_unit_test(test_wipe_overwrites_what_was_handed_out),
        cmocka_unit_test(test_calloc_gives_zeros_and_refuses_overflow),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_done_twice),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
