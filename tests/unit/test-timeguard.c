/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The high-water mark of time under clocks that jump, and machines that are off. */
#include "config.h"

#include "daemon/call.h"
#include "daemon/timeguard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { HOUR = 3600 * 1000 };

#define DAY (INT64_C(24) * HOUR)
#define WALL (INT64_C(20000) * DAY)

static const unsigned char boot[TIMEGUARD_BOOT_BYTES] = { 1 }, other[TIMEGUARD_BOOT_BYTES] = { 2 };
static const struct timeguard_mark none;

/* Ticks of a second from one instant to another; the wall clock is offset ahead of the other. */
static unsigned
run(struct timeguard *g, int64_t from, int64_t to, int64_t offset)
{
    unsigned jumps = 0;
    for (int64_t t = from; t <= to; t += 1000) {
        int64_t jump;
        timeguard_tick(g, t + offset, t, &jump);
        jumps += jump != 0;
    }
    return jumps;
}

static void
the_first_start_believes_the_clock(void **state)
{
    (void)state;
    struct timeguard g;
    timeguard_begin(&g, &none, WALL, 1000, boot);
    assert_int_equal(timeguard_mark_ms(&g, 1000), WALL);
    assert_int_equal(run(&g, 2000, HOUR, WALL - 1000), 0);
    assert_int_equal(timeguard_mark_ms(&g, HOUR), WALL + HOUR - 1000);
}

static void
a_clock_that_is_set_back_does_not_take_the_mark_along(void **state)
{
    (void)state;
    struct timeguard g;
    timeguard_begin(&g, &none, WALL, 0, boot);
    assert_int_equal(run(&g, 1000, HOUR, WALL), 0);
    assert_int_equal(run(&g, HOUR, 2 * HOUR, WALL - DAY), 1); /* said once */
    assert_int_equal(timeguard_mark_ms(&g, 2 * HOUR), WALL + 2 * HOUR);
}

static void
a_jump_ahead_does_not_take_the_mark_along(void **state)
{
    (void)state;
    struct timeguard g;
    timeguard_begin(&g, &none, WALL, 0, boot);
    assert_int_equal(run(&g, 1000, 2 * HOUR, WALL + 400 * DAY), 1);
    assert_int_equal(timeguard_mark_ms(&g, 2 * HOUR), WALL + 2 * HOUR);
    /* And back again. */
    assert_int_equal(run(&g, 2 * HOUR, 3 * HOUR, WALL), 1);
    assert_int_equal(timeguard_mark_ms(&g, 3 * HOUR), WALL + 3 * HOUR);
}

static void
a_restart_goes_on_where_the_monotonic_clock_is(void **state)
{
    (void)state;
    struct timeguard g;
    struct timeguard_mark mark = { .mark_ms = WALL, .mono_ms = HOUR };
    memcpy(mark.boot, boot, sizeof boot);
    timeguard_begin(&g, &mark, WALL + 400 * DAY, 3 * HOUR, boot);
    assert_int_equal(timeguard_mark_ms(&g, 3 * HOUR), WALL + 2 * HOUR);
    run(&g, 3 * HOUR, 6 * HOUR, WALL + 400 * DAY - 3 * HOUR);
    assert_int_equal(timeguard_mark_ms(&g, 6 * HOUR), WALL + 5 * HOUR);
}

static void
after_a_reboot_a_steady_clock_is_believed(void **state)
{
    (void)state;
    struct timeguard g;
    struct timeguard_mark mark = { .mark_ms = WALL, .mono_ms = 50 * HOUR };
    memcpy(mark.boot, boot, sizeof boot);
    timeguard_begin(&g, &mark, WALL + 2 * DAY, 0, other);
    assert_int_equal(timeguard_mark_ms(&g, 0), WALL);
    run(&g, 1000, TIMEGUARD_STEADY_MS - 1000, WALL + 2 * DAY);
    assert_int_equal(timeguard_mark_ms(&g, TIMEGUARD_STEADY_MS), WALL + TIMEGUARD_STEADY_MS);
    run(&g, TIMEGUARD_STEADY_MS, TIMEGUARD_STEADY_MS, WALL + 2 * DAY);
    assert_int_equal(timeguard_mark_ms(&g, TIMEGUARD_STEADY_MS),
                     WALL + 2 * DAY + TIMEGUARD_STEADY_MS);
}

static void
after_a_reboot_a_clock_that_is_corrected_is_not(void **state)
{
    (void)state;
    struct timeguard g;
    struct timeguard_mark mark = { .mark_ms = WALL, .mono_ms = 50 * HOUR };
    memcpy(mark.boot, boot, sizeof boot);
    timeguard_begin(&g, &mark, WALL + 400 * DAY, 0, other);
    run(&g, 1000, TIMEGUARD_STEADY_MS / 2, WALL + 400 * DAY);
    assert_int_equal(run(&g, TIMEGUARD_STEADY_MS / 2, 2 * TIMEGUARD_STEADY_MS, WALL + DAY), 1);
    assert_int_equal(timeguard_mark_ms(&g, 0), WALL + DAY);
}

static void
after_a_reboot_a_clock_from_the_past_is_behind(void **state)
{
    (void)state;
    struct timeguard g;
    struct timeguard_mark mark = { .mark_ms = WALL, .mono_ms = HOUR };
    timeguard_begin(&g, &mark, 0, 0, boot); /* which start it was is not known either */
    run(&g, 1000, 2 * TIMEGUARD_STEADY_MS, 0);
    assert_int_equal(timeguard_mark_ms(&g, 0), WALL);
}

static void
the_daemon_s_time_is_never_behind_the_mark(void **state)
{
    (void)state;
    struct timeguard g;
    const int64_t wall = clock_wall_ms(), mono = clock_mono_ms();
    assert_in_range(clock_now_ms(mono), wall, wall + 60000); /* before anybody said anything */
    assert_false(clock_is_behind());
    timeguard_begin(&g, &none, wall + TIMEGUARD_BEHIND_MS - 60000, mono, boot);
    timeguard_publish(&g);
    assert_in_range(clock_now_ms(clock_mono_ms()), wall + TIMEGUARD_BEHIND_MS - 60000,
                    wall + TIMEGUARD_BEHIND_MS);
    assert_true(clock_sure_ms() < wall + 30000);
    assert_false(clock_is_behind());
    timeguard_begin(&g, &none, wall + DAY, mono, boot);
    timeguard_publish(&g);
    assert_true(clock_is_behind());
    timeguard_begin(&g, &none, wall - DAY, mono, boot);
    timeguard_publish(&g);
    assert_in_range(clock_now_ms(clock_mono_ms()), wall, wall + 60000);
    assert_true(clock_sure_ms() < wall - DAY + 60000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_start_believes_the_clock),
        cmocka_unit_test(a_clock_that_is_set_back_does_not_take_the_mark_along),
        cmocka_unit_test(a_jump_ahead_does_not_take_the_mark_along),
        cmocka_unit_test(a_restart_goes_on_where_the_monotonic_clock_is),
        cmocka_unit_test(after_a_reboot_a_steady_clock_is_believed),
        cmocka_unit_test(after_a_reboot_a_clock_that_is_corrected_is_not),
        cmocka_unit_test(after_a_reboot_a_clock_from_the_past_is_behind),
        cmocka_unit_test(the_daemon_s_time_is_never_behind_the_mark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
