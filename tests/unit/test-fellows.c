/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the daemons of one store agree about, and what waits until the store has it. */
#include "config.h"

#include "daemon/model/fellows.h"
#include "daemon/model/timemark.h"
#include "daemon/model/uses.h"
#include "daemon/unsettled.h"
#include "tests/unit/one-core.h"

enum { MINUTE = 60 * 1000 };

/* How many of the batches were done, one after the other. */
static size_t
apply(struct batch *const batches[], size_t n)
{
    struct kaiten_outcome outcomes[USES_BATCHES_MAX];
    char why[256];
    size_t done = 0;
    if (n == 0)
        return 0;
    assert_int_equal(store_apply(core.svc.store, batches, n, outcomes, why, sizeof why),
                     KAITEN_DONE);
    for (size_t i = 0; i < n; i++)
        done += outcomes[i].status == KAITEN_DONE;
    return done;
}

static void
one_daemon_purges(void **state)
{
    (void)state;
    struct batch *ours = NULL, *theirs = NULL, *none = NULL;
    assert_int_equal(fellows_propose_pass(&call, MINUTE, &ours), KT_OK);
    assert_int_equal(fellows_propose_pass(&call, MINUTE, &theirs), KT_OK);
    assert_non_null(ours);
    assert_non_null(theirs);
    assert_int_equal(apply(&theirs, 1), 1);
    assert_int_equal(apply(&ours, 1), 0);
    call.now_ms += MINUTE - 1;
    assert_int_equal(fellows_propose_pass(&call, MINUTE, &none), KT_OK);
    assert_null(none);
    call.now_ms++;
    assert_int_equal(fellows_propose_pass(&call, MINUTE, &none), KT_OK);
    assert_int_equal(apply(&none, 1), 1);
    /* Of a clock that was years ahead: not waited for. */
    call.now_ms -= INT64_C(100000) * MINUTE;
    none = NULL;
    assert_int_equal(fellows_propose_pass(&call, MINUTE, &none), KT_OK);
    assert_non_null(none);
}

static void
all_sign_with_one_key(void **state)
{
    (void)state;
    struct kt_str other;
    assert_int_equal(fellows_check_signer(&call, "one", false, &other), KT_OK);
    assert_null(other.p);
    assert_int_equal(fellows_check_signer(&call, "one", false, &other), KT_OK);
    assert_null(other.p);
    assert_int_equal(fellows_check_signer(&call, "two", false, &other), KT_OK);
    assert_true(kt_str_is(other, "one"));
    assert_int_equal(fellows_check_signer(&call, "two", true, &other), KT_OK);
    assert_null(other.p);
    assert_int_equal(fellows_check_signer(&call, "one", false, &other), KT_OK);
    assert_true(kt_str_is(other, "two"));
}

static void
note_uses(struct used_note notes[], size_t n, uint32_t at_s)
{
    for (size_t i = 0; i < n; i++) {
        memset(notes[i].digest, 0, sizeof notes[i].digest);
        memcpy(notes[i].digest, &i, sizeof i);
        notes[i].at_s = at_s;
    }
}

static void
the_latest_use_stays(void **state)
{
    (void)state;
    struct used_note early[USES_MAX], late[USES_MAX];
    struct batch *ours[USES_BATCHES_MAX], *theirs[USES_BATCHES_MAX];
    size_t nours, ntheirs;
    note_uses(early, USES_MAX, 100);
    note_uses(late, USES_MAX, 200);
    /* Both have read that there is nothing; who is later does it again, and again only once. */
    assert_int_equal(uses_propose(&call, early, USES_MAX, ours, &nours), KT_OK);
    assert_int_equal(uses_propose(&call, late, USES_MAX, theirs, &ntheirs), KT_OK);
    assert_int_equal(nours, USES_BATCHES_MAX);
    assert_int_equal(apply(ours, nours), nours);
    assert_int_equal(apply(theirs, ntheirs), 0);
    assert_int_equal(uses_propose(&call, late, USES_MAX, theirs, &ntheirs), KT_OK);
    assert_int_equal(apply(theirs, ntheirs), ntheirs);
    assert_int_equal(uses_propose(&call, late, USES_MAX, theirs, &ntheirs), KT_OK);
    assert_int_equal(ntheirs, 0);
    /* An earlier one is not written. */
    assert_int_equal(uses_propose(&call, early, USES_MAX, ours, &nours), KT_OK);
    assert_int_equal(nours, 0);
    early[3].at_s = 300;
    assert_int_equal(uses_propose(&call, early, USES_MAX, ours, &nours), KT_OK);
    assert_int_equal(nours, 1);
}

static void
time_goes_on(void **state)
{
    (void)state;
    struct timeguard_mark mark = { .mark_ms = 1000 }, read;
    struct batch *b = batch_new(&arena), *late = batch_new(&arena), *again = batch_new(&arena);
    assert_int_equal(timemark_propose(&call, &mark, b), KT_OK);
    mark.mark_ms = 2000;
    assert_int_equal(timemark_propose(&call, &mark, late), KT_OK);
    assert_int_equal(apply(&late, 1), 1);
    assert_int_equal(apply(&b, 1), 0);
    mark.mark_ms = 1500;
    assert_int_equal(timemark_propose(&call, &mark, again), KT_OK);
    assert_int_equal(again->nwrites, 0);
    assert_int_equal(timemark_read(&call, &read), KT_OK);
    assert_int_equal(read.mark_ms, 2000);
}

static void
what_is_unsettled_is_looked_at_less_and_less(void **state)
{
    (void)state;
    struct unsettled *u = unsettled_new();
    struct journal_entry entry = { .type = JOURNAL_EPOCH, .epoch = 2 }, due[4];
    assert_non_null(u);
    unsettled_add(u, &entry, 1000);
    entry.epoch = 3; /* the later end says more */
    unsettled_add(u, &entry, 1000);
    assert_int_equal(unsettled_due(u, 1000, due, 4), 0);
    assert_int_equal(unsettled_due(u, 2000, due, 4), 1);
    assert_int_equal(due[0].epoch, 3);
    int64_t now = 2000, last = 1000, end = 1000 + UNSETTLED_MS;
    size_t looks = 0;
    for (; now < end; now += 1000) {
        if (unsettled_due(u, now, due, 4) == 0)
            continue;
        unsettled_found(u, due, now); /* a commit may still turn up */
        looks++;
        assert_true(now - last >= (last - 1000) / 2);
        last = now;
    }
    assert_in_range(looks, 3, 16);
    assert_int_equal(unsettled_due(u, end, due, 4), 1);
    for (now = end; now < end + 10 * MINUTE; now += 1000) /* not found: it is looked for on */
        looks += unsettled_due(u, now, due, 4);
    assert_in_range(looks, 13, 26);
    assert_false(unsettled_is_over(u));
    unsettled_found(u, due, end);
    assert_true(unsettled_is_over(u));
    assert_int_equal(unsettled_due(u, now + 10 * MINUTE, due, 4), 0);
    unsettled_free(u);
    unsettled_free(NULL);
}

/* What there is no room for is nothing that anybody has looked for. */
static void
too_much_that_is_unsettled_is_never_over(void **state)
{
    (void)state;
    static struct journal_entry due[UNSETTLED_MAX + 1];
    struct unsettled *u = unsettled_new();
    struct journal_entry entry = { .type = JOURNAL_DIGEST };
    assert_non_null(u);
    assert_true(unsettled_is_over(u));
    for (size_t i = 0; i <= UNSETTLED_MAX; i++) {
        memcpy(entry.id, &i, sizeof i);
        unsettled_add(u, &entry, 1000);
    }
    assert_int_equal(unsettled_due(u, 1000 + MINUTE, due, 4), 4);
    size_t n = unsettled_due(u, 1000 + UNSETTLED_MS, due, UNSETTLED_MAX + 1);
    assert_int_equal(n, UNSETTLED_MAX);
    for (size_t i = 0; i < n; i++)
        unsettled_found(u, &due[i], 1000 + UNSETTLED_MS);
    assert_int_equal(unsettled_due(u, 1000 + 2 * UNSETTLED_MS, due, 1), 0);
    assert_false(unsettled_is_over(u));
    unsettled_free(u);
}

/* Which is looked for last is the one that was added last. */
static void
an_end_that_is_added_anew_is_looked_for_anew(void **state)
{
    (void)state;
    struct unsettled *u = unsettled_new();
    struct journal_entry one = { .type = JOURNAL_DIGEST, .id = { 1 } },
                         other = { .type = JOURNAL_DIGEST, .id = { 2 } };
    assert_non_null(u);
    unsettled_add(u, &one, 1000);
    unsettled_add(u, &other, 1000);
    unsettled_add(u, &one, 1001);
    unsettled_found(u, &one, 1000 + UNSETTLED_MS);
    unsettled_found(u, &other, 1000 + UNSETTLED_MS);
    assert_false(unsettled_is_over(u));
    unsettled_found(u, &other, 1001 + UNSETTLED_MS); /* which is not there any more */
    assert_false(unsettled_is_over(u));
    unsettled_found(u, &one, 1001 + UNSETTLED_MS);
    assert_true(unsettled_is_over(u));
    unsettled_free(u);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_daemon_purges),
        TEST(all_sign_with_one_key),
        TEST(the_latest_use_stays),
        TEST(time_goes_on),
        cmocka_unit_test(what_is_unsettled_is_looked_at_less_and_less),
        cmocka_unit_test(too_much_that_is_unsettled_is_never_over),
        cmocka_unit_test(an_end_that_is_added_anew_is_looked_for_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
