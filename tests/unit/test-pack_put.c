/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* MessagePack as it is written: the shortest form of each. */
#include "config.h"

#include "client/proto/pack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ARENA_BYTES = 1 << 20 };

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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_smallest),
        cmocka_unit_test(test_put_lengths),
        cmocka_unit_test(test_put_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
