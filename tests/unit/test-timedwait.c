/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/timedwait.h"

#include <errno.h>

static int64_t
ns_of(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static struct timespec
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t;
}

/* It lies as far behind some instant of the call, and is one that the library accepts. */
static void
test_end(void **state)
{
    static const int64_t spans[] = { INT64_MIN, -1, 0, 1, 999, 1000, 1001, 86400000, 3600000999 };
    (void)state;
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
        int64_t span = spans[i] > 0 ? spans[i] * 1000000 : 0, before = ns_of(now());
        struct timespec end = timedwait_end(spans[i]);
        assert_in_range(end.tv_nsec, 0, 999999999);
        assert_true(ns_of(end) >= before + span && ns_of(end) <= ns_of(now()) + span);
    }
}

static void
test_wait(void **state)
{
    enum { MS = 20 };
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond;
    (void)state;
    timedwait_init(&cond);
    int64_t begin = ns_of(now());
    struct timespec end = timedwait_end(MS);
    int status = 0;
    pthread_mutex_lock(&lock);
    while (status == 0)
        status = pthread_cond_timedwait(&cond, &lock, &end);
    pthread_mutex_unlock(&lock);
    assert_int_equal(status, ETIMEDOUT);
    assert_true(ns_of(now()) - begin >= MS * 1000000);
    pthread_cond_destroy(&cond);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
