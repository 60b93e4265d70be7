/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What a store of several daemons knows of their journals, and for how long. */
#include "config.h"

#include "daemon/journal.h"
#include "daemon/model/endings.h"
#include "daemon/model/record.h"
#include "daemon/model/token_row.h"
#include "daemon/model/verdict.h"
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

/* --- what the journal is to be told ------------------------------------------------------- */

enum { DEAD = 1, CAPPED, LIVE, SECRETS };

/* A secret by its number; what it was under another key has no row. */
static struct journal_entry
entry_of(enum journal_type type, unsigned char secret, bool is_former)
{
    struct journal_entry e = { .type = type, .at_ms = 77, .until_ms = type == JOURNAL_CAP ? 900 : 0,
                               .ends_ms = type == JOURNAL_CAP ? 500 : 0, .epoch = 3,
                               .org.b = { 9 }, .account.b = { 8, 7 } };
    memset(e.id, is_former ? 0x80 + secret : secret, sizeof e.id);
    return e;
}

static void
put_secrets(void)
{
    for (unsigned char i = DEAD; i < SECRETS; i++) {
        const struct journal_entry e = entry_of(JOURNAL_DIGEST, i, false);
        const struct verdict_record v = { .revoked = i == DEAD,
                                          .expires_ms = i == LIVE ? 0 : 500 };
        struct batch *b = batch_new(&arena);
        batch_set(b, token_row_digest(&arena, e.id), verdict_encode(&arena, &v));
        apply(b);
    }
}

static void
assert_told(const struct endings_told *a, const struct endings_told *b)
{
    assert_int_equal(a->is_former, b->is_former);
    assert_int_equal(a->entry.type, b->entry.type);
    assert_int_equal(a->entry.epoch, b->entry.epoch);
    assert_int_equal(a->entry.at_ms, b->entry.at_ms);
    assert_int_equal(a->entry.ends_ms, b->entry.ends_ms);
    assert_int_equal(a->entry.until_ms, b->entry.until_ms);
    assert_int_equal(uuid_compare(&a->entry.org, &b->entry.org), 0);
    assert_int_equal(uuid_compare(&a->entry.account, &b->entry.account), 0);
    assert_memory_equal(a->entry.id, b->entry.id, sizeof a->entry.id);
}

static struct endings *
endings_told(const struct endings_told told[], size_t n)
{
    const struct endings_mark mark = { .number = 5, .at_ms = 100 * DAY, .told = told, .ntold = n };
    struct batch *b = batch_new(&arena);
    struct endings *e = endings_new(0);
    endings_put_mark_of(b, core.svc.store, journals[OURS], &mark);
    apply(b);
    const struct endings_mark read = mark_of(OURS);
    assert_int_equal(read.number, 5);
    assert_int_equal(read.at_ms, 100 * DAY);
    assert_int_equal(read.ntold, n);
    for (size_t i = 0; i < n; i++)
        assert_told(&read.told[i], &told[i]);
    assert_non_null(e);
    assert_true(endings_note_told(e, &read));
    return e;
}

/* Of what a mark tells the journal gets what the store has and the journal has not. */
static void
what_a_mark_tells_is_written_down_where_it_came_about(void **state)
{
    (void)state;
    static const struct {
        enum journal_type type;
        unsigned char secret;
        size_t healed;
    } cases[] = {
        { JOURNAL_DIGEST, DEAD, 2 }, { JOURNAL_DIGEST, LIVE, 0 }, { JOURNAL_DIGEST, CAPPED, 0 },
        { JOURNAL_CAP, CAPPED, 2 },  { JOURNAL_CAP, LIVE, 0 },    { JOURNAL_CAP, DEAD, 2 },
    };
    put_secrets();
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        const enum journal_type type = cases[i].type;
        const unsigned char secret = cases[i].secret;
        const struct endings_told told[] = { { entry_of(type, secret, false), false },
                                             { entry_of(type, secret, true), true } };
        struct endings *e = endings_told(told, CORE_COUNT(told));
        const uint64_t before = journal_last(journals[OURS]);
        size_t healed;
        assert_int_equal(endings_heal(&call, e, journals[OURS], 800, &healed), KT_OK);
        assert_int_equal(healed, cases[i].healed);
        assert_int_equal(journal_last(journals[OURS]), before + healed);
        endings_free(e);
    }
    /* Not what is over, nor what the journal says itself. */
    const struct endings_told told[] = { { entry_of(JOURNAL_CAP, CAPPED, false), false },
                                         { entry_of(JOURNAL_DIGEST, DEAD, false), false } };
    struct endings *e = endings_told(told, CORE_COUNT(told));
    size_t healed;
    endings_add(e, &told[1].entry);
    assert_int_equal(endings_heal(&call, e, journals[OURS], 900, &healed), KT_OK);
    assert_int_equal(healed, 0);
    endings_free(e);
}

static void
a_mark_that_is_cut_is_no_mark(void **state)
{
    (void)state;
    const struct endings_told told = { entry_of(JOURNAL_CAP, CAPPED, false), false };
    struct store_row row;
    struct endings_mark mark;
    struct kt_buf key;
    endings_free(endings_told(&told, 1));
    kt_buf_init(&key, 64);
    record_put_bytes(&key, "mjournal", 8);
    record_put_bytes(&key, journal_id(journals[OURS]), JOURNAL_ID_BYTES);
    const struct kt_str name = record_finish(&arena, &key);
    assert_int_equal(store_get_one(&call, core.svc.store, name, &row), KT_OK);
    for (size_t n = 0; n < row.value.n; n++) {
        struct batch *b = batch_new(&arena);
        batch_set(b, name, (struct kt_str){ row.value.p, n });
        apply(b);
        assert_int_equal(endings_read_mark(&call, journals[OURS], &mark), KT_INTERNAL);
    }
}

/* --- whose daemon lives ------------------------------------------------------------------- */

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
        WITH_MARKS(what_a_mark_tells_is_written_down_where_it_came_about),
        WITH_MARKS(a_mark_that_is_cut_is_no_mark),
        WITH_MARKS(a_daemon_says_daily_that_it_lives),
        WITH_MARKS(who_was_not_heard_of_for_long_is_forgotten),
        WITH_MARKS(a_mark_without_a_time_begins_now),
        WITH_MARKS(who_comes_back_meanwhile_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
