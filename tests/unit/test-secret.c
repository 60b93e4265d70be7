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

static struct kt_secret_view
view(const char *s)
{
    return (struct kt_secret_view){ s, s == NULL ? 0 : strlen(s) };
}

static void
test_copies_and_counts(void **state)
{
    (void)state;
    size_t before = kt_secret_count();
    struct kt_secret *s = kt_secret_new("hunter2", 7);
    assert_non_null(s);
    assert_ptr_equal(kt_secret_ref(s), s);
    assert_int_equal(kt_secret_count(), before + 1);
    assert_true(kt_secret_eq(kt_secret_view(s), view("hunter2")));
    assert_null(kt_secret_unref(s));
    assert_true(kt_secret_eq(kt_secret_view(s), view("hunter2")));
    assert_null(kt_secret_unref(s));
    assert_int_equal(kt_secret_count(), before);
}

static void
test_null_is_allowed(void **state)
{
    (void)state;
    assert_null(kt_secret_ref(NULL));
    assert_null(kt_secret_unref(NULL));
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
        kt_secret_unref(s);
    }
    assert_null(kt_secret_new(bytes, KT_SECRET_MAX + 1));
    assert_null(kt_secret_alloc(KT_SECRET_MAX + 1, &p));
    assert_null(p);
}

/* The pool's memory stays mapped, so the place of a dead secret can still be looked at. */
static void
test_wiped_on_the_last_unref(void **state)
{
    (void)state;
    char *p, bytes[KT_SECRET_MAX];
    memset(bytes, 'x', sizeof(bytes));
    struct kt_secret *s = kt_secret_alloc(sizeof(bytes), &p);
    memcpy(p, bytes, sizeof(bytes));
    kt_secret_unref(s);
    for (size_t i = 0; i <= KT_SECRET_MAX; i++)
        assert_int_equal(p[i], 0);

    char *q;
    s = kt_secret_alloc(KT_SECRET_MAX, &q);
    for (size_t i = 0; i <= KT_SECRET_MAX; i++)
        assert_int_equal(q[i], 0);
    kt_secret_unref(s);
}

static void
test_equality(void **state)
{
    (void)state;
    assert_true(kt_secret_eq(view("abc"), view("abc")));
    assert_true(kt_secret_eq(view(""), view("")));
    assert_false(kt_secret_eq(view("abc"), view("abd")));
    assert_false(kt_secret_eq(view("xbc"), view("abc")));
    assert_false(kt_secret_eq(view("abc"), view("ab")));
    assert_false(kt_secret_eq(view("ab"), view("abc")));
    assert_false(kt_secret_eq(view(NULL), view(NULL)));
    assert_false(kt_secret_eq(view(""), view(NULL)));
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
    kt_secret_unref(all[--n]);
    all[n] = kt_secret_new("y", 1);
    assert_non_null(all[n++]);
    while (n > 0)
        kt_secret_unref(all[--n]);
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
churn(void *shared)
{
    for (int i = 0; i < 20000; i++) {
        struct kt_secret *mine = kt_secret_new("mine", 4);
        struct kt_secret *ours = kt_secret_ref(shared);
        if (!kt_secret_eq(kt_secret_view(mine), view("mine")) ||
            !kt_secret_eq(kt_secret_view(ours), view("ours")))
            abort();
        kt_secret_unref(ours);
        kt_secret_unref(mine);
    }
    return kt_secret_unref(shared);
}

static void
test_threads(void **state)
{
    (void)state;
    pthread_t threads[4];
    struct kt_secret *ours = kt_secret_new("ours", 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, kt_secret_ref(ours)), 0);
    kt_secret_unref(ours);
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
        cmocka_unit_test(test_wiped_on_the_last_unref),
        cmocka_unit_test(test_equality),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_count_is_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
