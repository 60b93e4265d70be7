/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void
test_grows_and_keeps_the_content(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    for (unsigned i = 0; i < 10000; i++)
        kt_buf_printf(&buf, "%06u,", i);
    assert_false(buf.failed);
    assert_int_equal(buf.n, 70000);
    for (unsigned i = 0; i < 10000; i++) {
        char expected[8];
        snprintf(expected, sizeof expected, "%06u,", i);
        assert_memory_equal(buf.p + 7 * i, expected, 7);
    }
    kt_buf_done(&buf);
}

static void
test_max_is_exact(void **state)
{
    (void)state;
    for (size_t max = 0; max < 1200; max += 37) {
        struct kt_buf buf;
        kt_buf_init(&buf, max);
        for (size_t i = 0; i < max; i++)
            kt_buf_putc(&buf, 'x');
        assert_false(buf.failed);
        kt_buf_putc(&buf, 'x');
        assert_true(buf.failed);
        assert_int_equal(buf.n, max);
        kt_buf_done(&buf);
    }
}

static void
test_printf_to_the_last_byte(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 5);
    kt_buf_printf(&buf, "%s", "12345");
    assert_false(buf.failed);
    assert_memory_equal(buf.p, "12345", 5);
    kt_buf_printf(&buf, "%s", "");
    assert_false(buf.failed);
    kt_buf_printf(&buf, "%s", "6");
    assert_true(buf.failed);
    kt_buf_done(&buf);
}

static void
test_failure_stays_until_reset(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 10);
    kt_buf_puts(&buf, "12345678");
    kt_buf_puts(&buf, "too long");
    assert_true(buf.failed);
    kt_buf_putc(&buf, 'x');
    kt_buf_put(&buf, NULL, 0);
    kt_buf_printf(&buf, "%d", 1);
    assert_null(kt_buf_reserve(&buf, 1));
    assert_int_equal(buf.n, 8);
    kt_buf_reset(&buf);
    kt_buf_puts(&buf, "ok");
    assert_false(buf.failed);
    assert_true(kt_str_is(kt_buf_str(&buf), "ok"));
    kt_buf_done(&buf);
}

static void
test_reserve(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 4096);
    char *room = kt_buf_reserve(&buf, 3000);
    assert_non_null(room);
    memset(room, 'r', 3000);
    assert_int_equal(buf.n, 0);
    buf.n += 3000;
    assert_null(kt_buf_reserve(&buf, 1097));
    assert_true(buf.failed);
    kt_buf_done(&buf);
}

static void
test_wipe_overwrites_all_of_the_memory(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 4096);
    kt_buf_puts(&buf, "a secret of somebody");
    kt_buf_reset(&buf);
    assert_non_null(memmem(buf.p, buf.size, "secret", 6));
    kt_buf_wipe(&buf);
    assert_null(memmem(buf.p, buf.size, "secret", 6));
    assert_int_equal(buf.n, 0);
    kt_buf_done(&buf);
}

static void
test_empty(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 0);
    kt_buf_put(&buf, NULL, 0);
    kt_buf_put_str(&buf, (struct kt_str){ NULL, 0 });
    assert_false(buf.failed);
    assert_non_null(kt_buf_str(&buf).p);
    kt_buf_wipe(&buf);
    kt_buf_done(&buf);
    kt_buf_done(&buf);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows_and_keeps_the_content),
        cmocka_unit_test(test_max_is_exact),
        cmocka_unit_test(test_printf_to_the_last_byte),
        cmocka_unit_test(test_failure_stays_until_reset),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_wipe_overwrites_all_of_the_memory),
        cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
