/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/secret.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

static bool
holds(const struct kt_secret *s, const char *text)
{
    struct kt_secret_view v = kt_secret_view(s);
    return v.p && v.n == strlen(text) && memcmp(v.p, text, v.n) == 0;
}

static void
test_copies_and_counts(void **state)
{
    (void)state;
    size_t before = kt_secret_count();
    struct kt_secret *s = kt_secret_new("hunter2", 7);
    assert_non_null(s);
    assert_int_equal(kt_secret_count(), before + 1);
    assert_true(holds(s, "hunter2"));
    assert_null(kt_secret_free(s));
    assert_int_equal(kt_secret_count(), before);
}

static void
test_null_is_allowed(void **state)
{
    (void)state;
    assert_null(kt_secret_free(NULL));
    assert_null(kt_secret_view(NULL).p);
    assert_int_equal(kt_secret_view(NULL).n, 0);
}

static void
test_sizes(void **state)
{
    (void)state;
    char bytes[KT_SECRET_MAX + 1], *p = NULL;
    memset(bytes, 'x', sizeof(bytes));
    for (size_t n = 0; n <= KT_SECRET_MAX; n++) {
        struct kt_secret *s = kt_secret_new(bytes, n);
        assert_int_equal(kt_secret_view(s).n, n);
        assert_int_equal(kt_secret_view(s).p[n], '\0');
        kt_secret_free(s);
    }
    assert_null(kt_secret_new(bytes, KT_SECRET_MAX + 1));
    assert_null(kt_secret_alloc(KT_SECRET_MAX + 1, &p));
    assert_null(p);
}

/* The pool's memory stays mapped, so the place of a dead secret can still be looked at. */
static void
test_wiped_at_the_end(void **state)
{
    (void)state;
    char *p, bytes[KT_SECRET_MAX];
    memset(bytes, 'x', sizeof(bytes));
    struct kt_secret *s = kt_secret_alloc(sizeof(bytes), &p);
    memcpy(p, bytes, sizeof(bytes));
    kt_secret_free(s);
    for (size_t i = 0; i <= KT_SECRET_MAX; i++)
        assert_int_equal(p[i], 0);

    char *q;
    s = kt_secret_alloc(KT_SECRET_MAX, &q);
    for (size_t i = 0; i <= KT_SECRET_MAX; i++)
        assert_int_equal(q[i], 0);
    kt_secret_free(s);
}

static void
test_count_is_limited(void **state)
{
    (void)state;
    struct kt_secret **all = calloc(KT_SECRET_COUNT_MAX + 1, sizeof(struct kt_secret *));
    size_t n = 0;
    while (n <= KT_SECRET_COUNT_MAX && (all[n] = kt_secret_new("x", 1)) != NULL)
        n++;
    assert_int_equal(n, KT_SECRET_COUNT_MAX);
    kt_secret_free(all[--n]);
    all[n] = kt_secret_new("y", 1);
    assert_non_null(all[n++]);
    while (n > 0)
        kt_secret_free(all[--n]);
    free(all);
    assert_int_equal(kt_secret_count(), 0);
}

static void
test_lock_is_reported(void **state)
{
    (void)state;
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur >= 16 * 1024)
        assert_true(kt_secret_locked());
    kt_secret_locked();
}

static void *
churn(void *text)
{
    for (int i = 0; i < 20000; i++) {
        struct kt_secret *one = kt_secret_new(text, strlen(text));
        struct kt_secret *other = kt_secret_new("other", 5);
        if (!holds(one, text) || !holds(other, "other"))
            abort();
        kt_secret_free(one);
        kt_secret_free(other);
    }
    return NULL;
}

static void
test_threads(void **state)
{
    (void)state;
    static char texts[4][8] = { "first", "second", "third", "fourth" };
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, texts[i]), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(kt_secret_count(), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lock_is_reported),
        cmocka_unit_test(test_copies_and_counts),
        cmocka_unit_test(test_null_is_allowed),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_wiped_at_the_end),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_count_is_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
