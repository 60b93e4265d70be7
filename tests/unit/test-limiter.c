/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/limiter.h"
#include "plugins/kaiten-rate.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum { SECOND = 1000000000, KEY = 8 * 77 };

static const int64_t start = INT64_C(1000) * SECOND;

static struct limiter *
make(size_t places)
{
    struct limiter *l = limiter_new(places);
    assert_non_null(l);
    return l;
}

/* How many are admitted at one instant, of as many as are asked for. */
static unsigned
flood(struct limiter *l, uint64_t key, struct limiter_rate rate, int64_t now, unsigned n)
{
    unsigned admitted = 0;
    for (unsigned i = 0; i < n; i++)
        admitted += limiter_take(l, key, rate, now) == 0;
    return admitted;
}

static void
a_burst_is_met_and_missed_by_one(void **state)
{
    (void)state;
    static const struct {
        uint32_t requests, period_ms, burst;
    } cases[] = { { 10, 1000, 1 },  { 10, 1000, 2 },  { 10, 1000, 10 },     { 200, 1000, 400 },
                  { 3, 1000, 7 },   { 7, 60000, 5 },  { 1, 3600000, 1 },    { 1000000, 1000, 3 },
                  { 1, 86400000, 9 } };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct limiter *l = make(64);
        const struct limiter_rate rate =
            limiter_rate(cases[i].requests, cases[i].period_ms, cases[i].burst);
        for (unsigned k = 0; k < cases[i].burst; k++) {
            assert_int_equal(limiter_wait(l, KEY, rate, start), 0);
            assert_int_equal(limiter_take(l, KEY, rate, start), 0);
        }
        int64_t wait = limiter_take(l, KEY, rate, start);
        assert_int_equal(wait, rate.interval_ns);
        assert_int_equal(limiter_wait(l, KEY, rate, start), wait);
        /* What is refused takes nothing; a nanosecond too early is too early. */
        assert_int_equal(limiter_take(l, KEY, rate, start + wait - 1), 1);
        assert_int_equal(limiter_take(l, KEY, rate, start + wait), 0);
        assert_int_equal(limiter_take(l, KEY, rate, start + wait), rate.interval_ns);
        /* After a long silence there is one burst, not two. */
        const int64_t later = start + wait + (int64_t)(cases[i].burst + 9) * rate.interval_ns;
        assert_int_equal(flood(l, KEY, rate, later, cases[i].burst + 5), cases[i].burst);
        limiter_free(l);
    }
}

static void
never_more_than_the_rate_in_the_long_run(void **state)
{
    (void)state;
    static const uint32_t requests[] = { 1, 3, 7, 999, 1000, 999983 };
    for (size_t i = 0; i < COUNT(requests); i++) {
        struct limiter *l = make(64);
        const struct limiter_rate rate = limiter_rate(requests[i], 1000, 1);
        assert_true(rate.interval_ns * (int64_t)requests[i] >= SECOND);
        assert_true((rate.interval_ns - 1) * (int64_t)requests[i] < SECOND);
        for (int64_t k = 0; k < 1000; k++) {
            const int64_t now = start + k * rate.interval_ns;
            assert_int_equal(limiter_take(l, KEY, rate, now), 0);
            assert_int_equal(limiter_take(l, KEY, rate, now + rate.interval_ns - 1), 1);
        }
        limiter_free(l);
    }
}

static void
time_that_stands_or_goes_back_gives_nothing(void **state)
{
    (void)state;
    struct limiter *l = make(64);
    const struct limiter_rate rate = limiter_rate(10, 1000, 5);
    assert_int_equal(flood(l, KEY, rate, start, 100), 5);
    assert_int_equal(flood(l, KEY, rate, start, 100), 0);
    assert_int_equal(flood(l, KEY, rate, start - 50 * (int64_t)SECOND, 100), 0);
    assert_int_equal(limiter_take(l, KEY, rate, start - SECOND), SECOND + rate.interval_ns);
    assert_int_equal(flood(l, KEY, rate, start + rate.interval_ns, 100), 1);
    limiter_free(l);
}

/* A plugin may say anything, and a machine may have been up for a hundred years. */
static void
nothing_overflows(void **state)
{
    (void)state;
    static const uint32_t numbers[] = { 1, 2, 1000, UINT32_MAX - 1, UINT32_MAX };
    const int64_t century = INT64_C(100) * 366 * 86400 * SECOND;
    for (size_t a = 0; a < COUNT(numbers); a++)
        for (size_t b = 0; b < COUNT(numbers); b++)
            for (size_t c = 0; c < COUNT(numbers); c++) {
                struct limiter *l = make(8);
                const struct limiter_rate rate = limiter_rate(numbers[a], numbers[b], numbers[c]);
                assert_true(rate.interval_ns > 0 && rate.window_ns >= 0);
                for (unsigned k = 0; k < 2000; k++) {
                    const int64_t wait = limiter_take(l, KEY, rate, century);
                    assert_true(wait >= 0 && wait <= rate.interval_ns);
                    assert_true(k >= numbers[c] || rate.window_ns >= INT64_C(1) << 60 ||
                                wait == 0);
                }
                limiter_free(l);
            }
}

static void
what_is_given_back_can_be_taken(void **state)
{
    (void)state;
    struct limiter *l = make(8);
    const struct limiter_rate rate = limiter_rate(1, 3600000, 3);
    assert_int_equal(flood(l, KEY, rate, start, 9), 3);
    limiter_give_back(l, KEY, rate);
    assert_int_equal(flood(l, KEY, rate, start, 9), 1);
    limiter_give_back(l, KEY + 8, rate); /* never seen: nobody's is touched */
    assert_int_equal(flood(l, KEY, rate, start, 9), 0);
    limiter_free(l);
}

/* --- the table ---------------------------------------------------------------------------- */

static void
a_debt_is_not_driven_out(void **state)
{
    (void)state;
    struct limiter *l = make(LIMITER_WAYS); /* one set */
    const struct limiter_rate rate = limiter_rate(1, 3600000, 2);
    assert_int_equal(flood(l, 1, rate, start, 9), 2);
    for (uint64_t key = 2; key < 5000; key++)
        limiter_take(l, key, rate, start);
    assert_int_equal(flood(l, 1, rate, start, 9), 0);
    assert_int_equal(limiter_take(l, 1, rate, start + rate.interval_ns - 1), 1);
    limiter_free(l);
}

static void
who_finds_no_place_shares_a_bucket(void **state)
{
    (void)state;
    struct limiter *l = make(LIMITER_WAYS);
    const struct limiter_rate rate = limiter_rate(1, 3600000, 3);
    for (uint64_t key = 1; key <= LIMITER_WAYS; key++)
        assert_int_equal(flood(l, key, rate, start, 1), 1);
    assert_int_equal(limiter_crowded(l), 0);
    /* Three in all, however many they are. */
    assert_int_equal(limiter_wait(l, 100, rate, start), 0);
    assert_int_equal(flood(l, 100, rate, start, 1), 1);
    assert_int_equal(flood(l, 200, rate, start, 9), 2);
    assert_int_equal(flood(l, 300, rate, start, 9), 0);
    assert_int_equal(limiter_wait(l, 400, rate, start), rate.interval_ns);
    assert_int_equal(limiter_crowded(l), 1 + 9 + 9);
    /* Those with a place have theirs. */
    assert_int_equal(flood(l, 1, rate, start, 9), 2);
    /* Once somebody owes nothing, there is a place again, and only that one's. */
    const int64_t later = start + rate.interval_ns;
    assert_int_equal(limiter_wait(l, 300, rate, later), 0);
    assert_int_equal(flood(l, 300, rate, later, 9), 3);
    assert_int_equal(flood(l, 1, rate, later, 9), 1);
    limiter_free(l);
}

static void
keys_are_secret_and_never_nobody(void **state)
{
    (void)state;
    struct limiter *a = make(8), *b = make(8);
    assert_true(limiter_key(a, "name", 4) == limiter_key(a, "name", 4));
    assert_true(limiter_key(a, "name", 4) != limiter_key(a, "mane", 4));
    assert_true(limiter_key(a, "name", 4) != limiter_key(b, "name", 4));
    limiter_free(a);
    limiter_free(b);
    limiter_free(NULL);
}

/* --- threads ------------------------------------------------------------------------------ */

enum { THREADS = 8, ROUNDS = 20000, KEYS = 24, NEW_KEYS = 200 };

static struct {
    struct limiter *l;
    struct limiter_rate rate;
    _Atomic int64_t now;
    _Atomic unsigned admitted;
    _Atomic uint64_t arrived;
    pthread_barrier_t go;
} crowd;

static void *
one_key(void *unused)
{
    pthread_barrier_wait(&crowd.go);
    crowd.admitted += flood(crowd.l, KEY, crowd.rate, start, ROUNDS);
    return unused;
}

/* All of them come to a key that nobody has had, at the same time, again and again. */
static void *
new_keys(void *unused)
{
    unsigned admitted = 0;
    for (uint64_t key = 1; key <= NEW_KEYS; key++) {
        atomic_fetch_add(&crowd.arrived, 1);
        while (atomic_load(&crowd.arrived) < key * THREADS)
            sched_yield();
        admitted += flood(crowd.l, key, crowd.rate, start, 4);
    }
    crowd.admitted += admitted;
    return unused;
}

/* Keys come and go all the time: time passes, so that places are given up. */
static void *
many_keys(void *arg)
{
    unsigned admitted = 0;
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    pthread_barrier_wait(&crowd.go);
    for (unsigned i = 0; i < ROUNDS; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        const int64_t now = atomic_fetch_add(&crowd.now, 50);
        admitted += limiter_take(crowd.l, 1 + (seed >> 33) % KEYS, crowd.rate, now) == 0;
    }
    crowd.admitted += admitted;
    return NULL;
}

static void
run_crowd(void *(*work)(void *), size_t places, struct limiter_rate rate)
{
    pthread_t threads[THREADS];
    crowd.l = make(places);
    crowd.rate = rate;
    crowd.admitted = 0;
    crowd.now = start;
    crowd.arrived = 0;
    pthread_barrier_init(&crowd.go, NULL, THREADS);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)(i + 1)), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&crowd.go);
    limiter_free(crowd.l);
}

static void
threads_share_one_bucket_to_the_last_request(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        run_crowd(one_key, 64, limiter_rate(1, 3600000, 1000));
        assert_int_equal(crowd.admitted, 1000);
    }
}

static void
threads_do_not_get_a_place_each(void **state)
{
    (void)state;
    run_crowd(new_keys, 1 << 17, limiter_rate(1, 3600000, 2));
    assert_int_equal(crowd.admitted, NEW_KEYS * 2);
}

/* Each place, and the common one, admits a burst and then what its rate brings, whoever has it. */
static void
threads_get_no_more_by_changing_places(void **state)
{
    (void)state;
    const struct limiter_rate rate = limiter_rate(1000000, 1000, 4);
    run_crowd(many_keys, LIMITER_WAYS, rate);
    const int64_t passed = crowd.now - start;
    const int64_t most = (LIMITER_WAYS + 1) * (4 + 1 + passed / rate.interval_ns);
    assert_true(crowd.admitted <= most);
    assert_true(crowd.admitted >= most / 4); /* and the test was one */
}

/* --- as text ------------------------------------------------------------------------------ */

static void
rates_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        struct kaiten_rate rate;
    } good[] = {
        { "1/s", { 1, 1000, 0 } },
        { "200/s", { 200, 1000, 0 } },
        { "1000000/h,burst=1000000", { 1000000, 3600000, 1000000 } },
        { "600/m,burst=1", { 600, 60000, 1 } },
        { "none", { KAITEN_RATE_NONE, 0, 0 } },
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        struct kaiten_rate rate = { 7, 7, 7 };
        assert_true(kaiten_rate_read(good[i].text, &rate));
        assert_memory_equal(&rate, &good[i].rate, sizeof rate);
    }
    static const char *const bad[] = {
        "", "/", "/s", "0/s", "1", "1/", "1/d", "1/ss", "1/s,", "1/s,burst", "1/s,burst=",
        "1/s,burst=0", "1/s,burst=1000001", "1000001/s", "4294967297/s", "99999999999999999999/s",
        "-1/s", "+1/s", " 1/s", "1/s ", "1 /s", "1.5/s", "1/S", "1/s;burst=1", "1/s,burst=1,burst=1",
        "1/s,burst=1x", "None", "none ", "nones", "off", "1/s,BURST=1",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct kaiten_rate rate = { 7, 7, 7 };
        if (kaiten_rate_read(bad[i], &rate) || rate.requests != 7 || rate.burst != 7)
            fail_msg("accepted: %s", bad[i]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_is_met_and_missed_by_one),
        cmocka_unit_test(never_more_than_the_rate_in_the_long_run),
        cmocka_unit_test(time_that_stands_or_goes_back_gives_nothing),
        cmocka_unit_test(nothing_overflows),
        cmocka_unit_test(what_is_given_back_can_be_taken),
        cmocka_unit_test(a_debt_is_not_driven_out),
        cmocka_unit_test(who_finds_no_place_shares_a_bucket),
        cmocka_unit_test(keys_are_secret_and_never_nobody),
        cmocka_unit_test(threads_share_one_bucket_to_the_last_request),
        cmocka_unit_test(threads_do_not_get_a_place_each),
        cmocka_unit_test(threads_get_no_more_by_changing_places),
        cmocka_unit_test(rates_are_read),
    };
    return cmocka_run_group_tests_name("limiter", tests, NULL, NULL);
}
