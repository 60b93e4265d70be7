/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/endings.h"
#include "daemon/model/idmap.h"
#include "daemon/unsettled.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* --- ids ---------------------------------------------------------------------------------- */

static void
make_id(uint64_t n, unsigned char id[IDMAP_ID_BYTES])
{
    memset(id, 7, IDMAP_ID_BYTES);
    memcpy(id, &n, sizeof n);
}

/* They end alike, so that all of them want one place. */
static void
ids_are_told_apart(void **state)
{
    (void)state;
    enum { MANY = 3000 };
    struct idmap map = { .size = 0 };
    unsigned char id[IDMAP_ID_BYTES];
    make_id(1, id);
    assert_null(idmap_find(&map, id));
    for (uint64_t i = 1; i <= MANY; i++) {
        make_id(i, id);
        assert_int_equal(*idmap_add(&map, id, (int64_t)i), i);
        assert_int_equal(*idmap_add(&map, id, 0), i); /* the first one stays */
    }
    for (uint64_t i = 1; i <= MANY; i++) {
        make_id(i, id);
        assert_int_equal(*idmap_find(&map, id), i);
    }
    make_id(MANY + 1, id);
    assert_null(idmap_find(&map, id));
    assert_int_equal(map.used, MANY);
    idmap_done(&map);
}

/* --- what the journal says ---------------------------------------------------------------- */

static void
say(struct endings *e, enum journal_type type, unsigned char id, int64_t value)
{
    static uint64_t number;
    struct journal_entry entry = { .number = ++number, .type = type, .ends_ms = value,
                                   .epoch = (uint32_t)value };
    memset(entry.id, id, sizeof entry.id);
    endings_add(e, &entry);
}

static int64_t
of_digest(const struct endings *e, unsigned char id)
{
    unsigned char digest[32];
    memset(digest, id, sizeof digest);
    return endings_of_digest(e, digest);
}

static uint32_t
of_account(const struct endings *e, unsigned char id)
{
    struct uuid account;
    memset(account.b, id, sizeof account.b);
    return endings_of_account(e, &account);
}

static void
the_earliest_end_of_a_secret_counts(void **state)
{
    (void)state;
    struct endings *e = endings_new(0);
    assert_true(of_digest(e, 1) == ENDINGS_NOTHING);
    say(e, JOURNAL_CAP, 1, 500);
    say(e, JOURNAL_CAP, 1, 700);
    assert_int_equal(of_digest(e, 1), 500);
    say(e, JOURNAL_DIGEST, 1, 0);
    assert_true(of_digest(e, 1) == ENDINGS_SECRET);
    say(e, JOURNAL_CAP, 1, 100);
    assert_true(of_digest(e, 1) == ENDINGS_SECRET);
    say(e, JOURNAL_TOKEN, 1, 0);
    say(e, JOURNAL_DIGEST, 1, 0);
    assert_true(of_digest(e, 1) == ENDINGS_TOKEN);
    say(e, JOURNAL_REVOKED, 1, 0);
    say(e, JOURNAL_TOKEN, 1, 0);
    assert_true(of_digest(e, 1) == ENDINGS_REVOKED);
    say(e, JOURNAL_TOKEN, 2, 0);
    assert_true(of_digest(e, 2) == ENDINGS_TOKEN);
    assert_true(of_digest(e, 3) == ENDINGS_NOTHING);
    endings_free(e);
}

static void
the_latest_epoch_of_an_account_counts(void **state)
{
    (void)state;
    struct endings *e = endings_new(0);
    assert_int_equal(of_account(e, 1), 0);
    say(e, JOURNAL_EPOCH, 1, 5);
    say(e, JOURNAL_EPOCH, 1, 3);
    assert_int_equal(of_account(e, 1), 5);
    say(e, JOURNAL_ACCOUNT, 1, 6);
    say(e, JOURNAL_EPOCH, 1, 9);
    assert_int_equal(of_account(e, 1), UINT32_MAX);
    endings_free(e);
}

/* --- judging ------------------------------------------------------------------------------ */

static void
what_the_two_know_of_each_other_is_judged(void **state)
{
    (void)state;
    enum { THERE = 1, FRESH = 2, OTHER = 4 };
    static const struct {
        const char *what;
        unsigned how;
        enum journal_found found;
        uint64_t number, floor, last;
        enum endings_verdict verdict;
    } cases[] = {
        { "first start", FRESH, JOURNAL_MISSING, 0, 0, 0, ENDINGS_NEW_JOURNAL },
        { "neither, but tokens", 0, JOURNAL_MISSING, 0, 0, 0, ENDINGS_ROLLED_BACK },
        { "mark alone", THERE, JOURNAL_MISSING, 3, 0, 0, ENDINGS_ROLLED_BACK },
        { "mark alone, no tokens", THERE | FRESH, JOURNAL_MISSING, 3, 0, 0, ENDINGS_ROLLED_BACK },
        { "damaged", THERE, JOURNAL_DAMAGED, 3, 1, 3, ENDINGS_ROLLED_BACK },
        { "damaged, first start", FRESH, JOURNAL_DAMAGED, 0, 1, 0, ENDINGS_ROLLED_BACK },
        { "journal alone", 0, JOURNAL_WHOLE, 0, 1, 3, ENDINGS_ROLLED_BACK },
        { "journal alone, no tokens", FRESH, JOURNAL_WHOLE, 0, 1, 3, ENDINGS_AGREE },
        { "journal that never began", 0, JOURNAL_WHOLE, 0, 1, 0, ENDINGS_AGREE },
        { "equal", THERE, JOURNAL_WHOLE, 3, 1, 3, ENDINGS_AGREE },
        { "store behind", THERE, JOURNAL_TORN, 1, 1, 3, ENDINGS_AGREE },
        { "journal behind", THERE, JOURNAL_WHOLE, 4, 1, 3, ENDINGS_ROLLED_BACK },
        { "another's", THERE | OTHER, JOURNAL_WHOLE, 3, 1, 3, ENDINGS_ROLLED_BACK },
        { "at the floor", THERE, JOURNAL_WHOLE, 4, 5, 9, ENDINGS_AGREE },
        { "below the floor", THERE, JOURNAL_WHOLE, 3, 5, 9, ENDINGS_ROLLED_BACK },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *why = NULL;
        struct endings_mark mark = { .is_there = (cases[i].how & THERE) != 0,
                                     .number = cases[i].number };
        struct journal_seen seen = { .floor = cases[i].floor, .last = cases[i].last };
        seen.id[0] = cases[i].how & OTHER ? 1 : 0;
        enum endings_verdict verdict = endings_judge((cases[i].how & FRESH) != 0, &mark,
                                                     cases[i].found, &seen, &why);
        if (verdict != cases[i].verdict)
            fail_msg("%s: %d", cases[i].what, (int)verdict);
        assert_true((why != NULL) == (verdict == ENDINGS_ROLLED_BACK));
    }
}

/* Which of the entries are looked for on, of those above 2. */
static void
secrets_that_ended_lately_are_looked_for(void **state)
{
    (void)state;
    static const struct {
        enum journal_type type;
        int64_t at_ms;
    } said[] = { { JOURNAL_TOKEN, 900 }, { JOURNAL_DIGEST, 900 }, { JOURNAL_REVOKED, 900 },
                 { JOURNAL_TOKEN, 500 }, { JOURNAL_CAP, 900 },    { JOURNAL_DIGEST, 501 },
                 { JOURNAL_EPOCH, 900 }, { JOURNAL_TOKEN, 700 } };
    struct journal_entry due[8];
    struct unsettled *u = unsettled_new();
    struct endings *e = endings_new(2);
    assert_non_null(u);
    assert_non_null(e);
    assert_int_equal(endings_watch_late(e, 500, u, 0), UINT64_MAX);
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        struct journal_entry entry = { .number = i + 1, .type = said[i].type,
                                       .at_ms = said[i].at_ms };
        memset(entry.id, (int)i + 1, sizeof entry.id);
        endings_add(e, &entry);
    }
    assert_int_equal(endings_watch_late(e, 500, u, 0), 5);
    assert_int_equal(unsettled_due(u, UNSETTLED_MS, due, 8), 2);
    assert_int_equal(due[0].number, 6);
    assert_int_equal(due[1].number, 8);
    endings_free(e);
    unsettled_free(u);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_told_apart),
        cmocka_unit_test(the_earliest_end_of_a_secret_counts),
        cmocka_unit_test(the_latest_epoch_of_an_account_counts),
        cmocka_unit_test(what_the_two_know_of_each_other_is_judged),
        cmocka_unit_test(secrets_that_ended_lately_are_looked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
