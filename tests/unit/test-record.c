/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Records: what was put comes back, and no cut of it is taken for a whole. */
#include "config.h"

#include "daemon/model/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* With a number, without one, and nearly with one. */
static const struct kt_str list[] = { KT_LIT("read:tokens"), KT_LIT(""), KT_LIT("read:x"),
                                      KT_LIT("write:*"), KT_LIT("read:token") };
static const uint64_t numbers[] = { 0, 1, 0x7f, 0x80, 0x3fff, 0x4000, UINT32_MAX,
                                    1795701600000, INT64_MAX, UINT64_MAX };
static const struct uuid id = { { 1, 2, 3, 0xff, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0 } };

enum { LIST = sizeof list / sizeof list[0], NUMBERS = sizeof numbers / sizeof numbers[0] };

static void
put_all(struct kt_buf *buf)
{
    kt_buf_init(buf, 4096);
    record_put_u8(buf, 0xa5);
    record_put_u32(buf, 0xfffffffe);
    record_put_i64(buf, INT64_MIN);
    record_put_i64(buf, -2);
    record_put_i64(buf, INT64_MAX);
    record_put_uuid(buf, &id);
    record_put_str(buf, KT_LIT("K\xc3\xb6ln"));
    record_put_str(buf, KT_LIT(""));
    record_put_str(buf, (struct kt_str){ NULL, 0 });
    record_put_bytes(buf, "\0\1\2", 3);
    record_put_text(buf, KT_LIT("K\xc3\xb6ln"));
    record_put_text(buf, KT_LIT(""));
    record_put_text(buf, (struct kt_str){ NULL, 0 });
    for (size_t i = 0; i < NUMBERS; i++)
        record_put_number(buf, numbers[i]);
    record_put_scopes(buf, list, LIST);
    record_put_scopes(buf, NULL, 0);
    assert_false(buf->failed);
}

struct all {
    uint8_t u8;
    uint32_t u32;
    int64_t least, minus, most;
    struct uuid id;
    struct kt_str text, empty, absent;
    struct kt_str short_text, short_empty, short_absent;
    uint64_t numbers[NUMBERS];
    char bytes[3];
    const struct kt_str *list, *none;
    size_t nlist, nnone;
};

static bool
get_all(struct kt_str bytes, struct kt_arena *arena, struct all *all)
{
    struct record_in in;
    record_open(&in, bytes);
    all->u8 = record_u8(&in);
    all->u32 = record_u32(&in);
    all->least = record_i64(&in);
    all->minus = record_i64(&in);
    all->most = record_i64(&in);
    all->id = record_uuid(&in);
    all->text = record_str(&in);
    all->empty = record_str(&in);
    all->absent = record_str(&in);
    record_bytes(&in, all->bytes, sizeof all->bytes);
    all->short_text = record_text(&in);
    all->short_empty = record_text(&in);
    all->short_absent = record_text(&in);
    for (size_t i = 0; i < NUMBERS; i++)
        all->numbers[i] = record_number(&in);
    all->list = record_scopes(&in, arena, 8, &all->nlist);
    all->none = record_scopes(&in, arena, 8, &all->nnone);
    return record_done(&in);
}

static void
what_was_put_comes_back(void **state)
{
    (void)state;
    struct kt_buf buf;
    struct kt_arena arena;
    struct all all;
    put_all(&buf);
    kt_arena_init(&arena, 64 * 1024);
    assert_true(get_all(kt_buf_str(&buf), &arena, &all));
    assert_int_equal(all.u8, 0xa5);
    assert_int_equal(all.u32, 0xfffffffe);
    assert_true(all.least == INT64_MIN);
    assert_true(all.minus == -2);
    assert_true(all.most == INT64_MAX);
    assert_memory_equal(&all.id, &id, sizeof id);
    assert_true(kt_str_is(all.text, "K\xc3\xb6ln"));
    assert_non_null(all.empty.p);
    assert_int_equal(all.empty.n, 0);
    assert_null(all.absent.p);
    assert_memory_equal(all.bytes, "\0\1\2", 3);
    assert_true(kt_str_is(all.short_text, "K\xc3\xb6ln"));
    assert_non_null(all.short_empty.p);
    assert_int_equal(all.short_empty.n, 0);
    assert_null(all.short_absent.p);
    assert_memory_equal(all.numbers, numbers, sizeof numbers);
    assert_int_equal(all.nlist, LIST);
    for (size_t i = 0; i < LIST; i++)
        assert_true(kt_str_eq(all.list[i], list[i]));
    assert_int_equal(all.nnone, 0);
    kt_arena_done(&arena);
    kt_buf_done(&buf);
}

/* A copy of its own for every length, so that a look past its end is seen by the sanitizers. */
static void
every_cut_is_refused(void **state)
{
    (void)state;
    struct kt_buf buf;
    struct kt_arena arena;
    struct all all;
    put_all(&buf);
    kt_arena_init(&arena, 1 << 20);
    for (size_t n = 0; n < buf.n; n++) {
        char *cut = malloc(n ? n : 1);
        memcpy(cut, buf.p, n);
        assert_false(get_all((struct kt_str){ cut, n }, &arena, &all));
        free(cut);
        kt_arena_reset(&arena);
    }
    kt_arena_done(&arena);
    kt_buf_done(&buf);
}

static void
what_is_left_over_is_refused(void **state)
{
    (void)state;
    struct kt_buf buf;
    struct kt_arena arena;
    struct all all;
    put_all(&buf);
    kt_buf_putc(&buf, '\0');
    kt_arena_init(&arena, 64 * 1024);
    assert_false(get_all(kt_buf_str(&buf), &arena, &all));
    kt_arena_done(&arena);
    kt_buf_done(&buf);
}

/* After the first defect nothing of the rest may be taken for data. */
static void
after_a_defect_all_reads_as_zero(void **state)
{
    (void)state;
    struct record_in in;
    struct kt_arena arena;
    size_t n = 9;
    char bytes[4] = "xxxx";
    kt_arena_init(&arena, 64 * 1024);
    record_open(&in, KT_LIT("\0\0\0\5abcd\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"));
    struct kt_str s = record_str(&in); /* five are announced, and there are more than five */
    assert_true(kt_str_eq(s, KT_LIT("abcd\1")));
    record_open(&in, KT_LIT("\0\0\0\11abcd\1\1\1\1"));
    s = record_str(&in);
    assert_null(s.p);
    assert_int_equal(s.n, 0);
    assert_false(in.ok);
    assert_int_equal(record_u8(&in), 0);
    assert_int_equal(record_u32(&in), 0);
    assert_int_equal(record_i64(&in), 0);
    struct uuid none = record_uuid(&in);
    assert_memory_equal(none.b, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", sizeof none.b);
    record_bytes(&in, bytes, sizeof bytes);
    assert_memory_equal(bytes, "\0\0\0\0", 4);
    record_scopes(&in, &arena, 4, &n);
    assert_int_equal(n, 0);
    assert_false(record_done(&in));
    kt_arena_done(&arena);
}

static void
lists_are_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        struct kt_str bytes;
        size_t max;
        bool fits;
    } cases[] = {
        { "none", KT_LIT("\0"), 0, true },
        { "as many as may be", KT_LIT("\1\2x"), 1, true },
        { "one more", KT_LIT("\1\2x"), 0, false },
        { "more than there is memory for", KT_LIT("\xff\xff\xff\xff\x7f"), SIZE_MAX, false },
        { "the largest number", KT_LIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\1"), 256, false },
        { "a larger one", KT_LIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\2"), 256, false },
        { "a number without an end", KT_LIT("\x81\x80\x80\x80\x80\x80\x80\x80\x80\x80\0"), 256,
          false },
        { "announced, not there", KT_LIT("\2\2x"), 2, false },
        { "the largest text",
          KT_LIT("\1\xfe\xff\xff\xff\xff\xff\xff\xff\xff\1"), 2, false },
        { "the first with a number", KT_LIT("\1\1"), 2, true },
        { "the last with a number", KT_LIT("\1\x6b"), 2, true },
        { "no such number", KT_LIT("\1\x6d"), 2, false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct record_in in;
        struct kt_arena arena;
        size_t n = 77;
        kt_arena_init(&arena, 64 * 1024);
        record_open(&in, cases[i].bytes);
        record_scopes(&in, &arena, cases[i].max, &n);
        if (record_done(&in) != cases[i].fits)
            fail_msg("%s", cases[i].what);
        assert_true(n <= cases[i].max || n == 0);
        kt_arena_done(&arena);
    }
}

/* Stores have these numbers: what they mean must never change. */
static void
scopes_keep_their_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *scope, *bytes;
    } cases[] = { { "read:*", "\1\1" },         { "write:*", "\1\3" },
                  { "read:instances", "\1\7" }, { "read:tokens", "\1\15" },
                  { "delete:addons", "\1\x6b" } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kt_buf buf;
        const struct kt_str scope = kt_str(cases[i].scope);
        kt_buf_init(&buf, 64);
        record_put_scopes(&buf, &scope, 1);
        assert_int_equal(buf.n, 2);
        assert_memory_equal(buf.p, cases[i].bytes, 2);
        kt_buf_done(&buf);
    }
}

static void
bytes_are_big_endian(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 64);
    record_put_u32(&buf, 0x01020304);
    record_put_i64(&buf, 0x0102030405060708);
    assert_int_equal(buf.n, 12);
    assert_memory_equal(buf.p, "\1\2\3\4\1\2\3\4\5\6\7\10", 12);
    kt_buf_done(&buf);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_comes_back),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(what_is_left_over_is_refused),
        cmocka_unit_test(after_a_defect_all_reads_as_zero),
        cmocka_unit_test(lists_are_bounded),
        cmocka_unit_test(scopes_keep_their_numbers),
        cmocka_unit_test(bytes_are_big_endian),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
