/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What a store of several daemons knows of their journals, and for how long. */
#include "config.h"

#include "daemon/journal.h"
#include "daemon/model/endings.h"
#include "daemon/model/record.h"
#include "tests/unit/one-core.h"

enum { OURS, OTHER, OLDER, JOURNALS };

static const int64_t DAY = INT64_C(24) * CORE_HOUR;

static struct kaiten_storage plugin;
static struct store *single;
static struct journal *journals[JOURNALS];

static int
setup_marks(void **state)
{
    (void)state;
    void *instance;
    char path[512], err[JOURNAL_ERROR_MAX];
    open_one(NULL);
    plugin = disk_plugin;
    plugin.caps |= KAITEN_STORAGE_OUTSIDE_WRITERS;
    core_must(plugin.open(&host_table, NULL, &instance, NULL) == KAITEN_DONE);
    single = core.svc.store;
    core.svc.store = store_new(&plugin, instance, KAITEN_THREADS_PARALLEL);
    core_must(core.svc.store);
    store_set_keys(core.svc.store, core.svc.keys);
    for (size_t i = 0; i < JOURNALS; i++) {
        snprintf(path, sizeof path, "%s/%zu.log", core.folder, i);
        journals[i] = journal_create(path, core.svc.keys, err);
        core_must(journals[i]);
    }
    return 0;
}

static int
teardown_marks(void **state)
{
    (void)state;
    char path[512];
    for (size_t i = 0; i < JOURNALS; i++) {
        journal_close(journals[i]);
        snprintf(path, sizeof path, "%s/%zu.log", core.folder, i);
        unlink(path);
    }
    store_free(core.svc.store);
    core.svc.store = single;
    return teardown(state);
}

static void
apply(struct batch *b)
{
    char why[256];
    struct kaiten_outcome outcome;
    assert_false(b->failed);
    assert_int_equal(store_apply(core.svc.store, &b, 1, &outcome, why, sizeof why), KAITEN_DONE);
    assert_int_equal(outcome.status, KAITEN_DONE);
}

static void
put(size_t i, int64_t at_ms)
{
    struct batch *b = batch_new(&arena);
    endings_put_mark(b, core.svc.store, journals[i], at_ms);
    apply(b);
}

/* As a version wrote it that kept no time. */
static void
put_without_time(size_t i, uint64_t number)
{
    struct kt_buf key, value;
    struct batch *b = batch_new(&arena);
    kt_buf_init(&key, 64);
    record_put_bytes(&key, "mjournal", 8);
    record_put_bytes(&key, journal_id(journals[i]), JOURNAL_ID_BYTES);
    kt_buf_init(&value, 64);
    record_put_u8(&value, 1);
    record_put_bytes(&value, journal_id(journals[i]), JOURNAL_ID_BYTES);
    record_put_i64(&value, (int64_t)number);
    batch_set(b, record_finish(&arena, &key), record_finish(&arena, &value));
    apply(b);
}

static struct endings_mark
mark_of(size_t i)
{
    struct endings_mark mark;
    assert_int_equal(endings_read_mark(&call, journals[i], &mark), KT_OK);
    return mark;
}

/* What one pass does; how many marks it drops. */
static size_t
tidy(bool others, int64_t now_ms, int64_t sure_ms)
{
    struct endings_tidying t;
    call.now_ms = now_ms;
    assert_int_equal(endings_tidy_marks(&call, journals[OURS], others, sure_ms, &t), KT_OK);
    for (size_t i = 0; i < t.n; i++)
        apply(t.batches[i]);
    return t.dropped;
}

static void
a_daemon_says_daily_that_it_lives(void **state)
{
    (void)state;
    put(OURS, 100 * DAY);
    put(OTHER, 100 * DAY);
    assert_int_equal(tidy(false, 100 * DAY + DAY / 2, 0), 0);
    assert_int_equal(mark_of(OURS).at_ms, 100 * DAY);
    assert_int_equal(tidy(false, 102 * DAY, 0), 0);
    assert_int_equal(mark_of(OURS).at_ms, 102 * DAY);
    assert_int_equal(mark_of(OURS).number, journal_last(journals[OURS]));
    /* Also when the clock was wrong before. */
    assert_int_equal(tidy(false, 50 * DAY, 0), 0);
    assert_int_equal(mark_of(OURS).at_ms, 50 * DAY);
    assert_int_equal(mark_of(OTHER).at_ms, 100 * DAY);
}

static void
who_was_not_heard_of_for_long_is_forgotten(void **state)
{
    (void)state;
    const char *why = NULL;
    const struct journal_seen seen = { .floor = 1, .last = 3 };
    const int64_t now = (200 + ENDINGS_MARK_DAYS) * DAY;
    put(OURS, 200 * DAY);
    put(OTHER, 200 * DAY);
    assert_int_equal(tidy(true, now, now), 0); /* to the day */
    assert_true(mark_of(OTHER).is_there);
    assert_int_equal(tidy(false, now + DAY, now + DAY), 0); /* somebody else's pass */
    assert_true(mark_of(OTHER).is_there);
    assert_int_equal(tidy(true, now + DAY, now), 0); /* a clock that has jumped */
    assert_true(mark_of(OTHER).is_there);
    assert_int_equal(tidy(true, now + DAY, now + DAY), 1);
    assert_false(mark_of(OTHER).is_there);
    assert_true(mark_of(OURS).is_there); /* whatever its age */
    /* Should it come back, it is told that the store does not know its journal. */
    const struct endings_mark none = mark_of(OTHER);
    assert_int_equal(endings_judge(false, &none, JOURNAL_WHOLE, &seen, &why), ENDINGS_ROLLED_BACK);
}

static void
a_mark_without_a_time_begins_now(void **state)
{
    (void)state;
    const int64_t now = 300 * DAY, end = now + (ENDINGS_MARK_DAYS + 1) * DAY;
    put(OURS, now);
    put_without_time(OLDER, 7);
    put(OTHER, now + 40 * DAY); /* a clock that was ahead */
    assert_int_equal(mark_of(OLDER).number, 7);
    assert_int_equal(tidy(true, now, now), 0);
    assert_int_equal(mark_of(OLDER).at_ms, now);
    assert_int_equal(mark_of(OLDER).number, 7);
    assert_int_equal(mark_of(OTHER).at_ms, now);
    assert_int_equal(tidy(true, end, end), 2);
}

/* Between reading and writing the daemon has come back. */
static void
who_comes_back_meanwhile_stays(void **state)
{
    (void)state;
    char why[256];
    struct endings_tidying t;
    struct kaiten_outcome outcome;
    const int64_t now = (200 + ENDINGS_MARK_DAYS + 1) * DAY;
    put(OURS, now);
    put(OTHER, 200 * DAY);
    call.now_ms = now;
    assert_int_equal(endings_tidy_marks(&call, journals[OURS], true, now, &t), KT_OK);
    assert_int_equal(t.n, 1);
    assert_int_equal(t.dropped, 1);
    put(OTHER, now);
    assert_int_equal(store_apply(core.svc.store, t.batches, 1, &outcome, why, sizeof why),
                     KAITEN_DONE);
    assert_int_equal(outcome.status, KAITEN_CONFLICT);
    assert_true(mark_of(OTHER).is_there);
}

int
main(void)
{
#define WITH_MARKS(f) cmocka_unit_test_setup_teardown(f, setup_marks, teardown_marks)
    const struct CMUnitTest tests[] = {
        WITH_MARKS(a_daemon_says_daily_that_it_lives),
        WITH_MARKS(who_was_not_heard_of_for_long_is_forgotten),
        WITH_MARKS(a_mark_without_a_time_begins_now),
        WITH_MARKS(who_comes_back_meanwhile_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
