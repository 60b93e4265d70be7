/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the index learns of a batch, and when. */
#include "config.h"

#include "tests/unit/commit.h"

static void
ends_are_known_before_they_are_answered(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        propose_token(&works[i]);
        commit(&works[i]);
        assert_int_equal(works[i].when_done, INDEX_LIVE);
    }
    static const enum effect_type types[] = { EFFECT_REVOKE, EFFECT_EXPIRY };
    static const enum index_verdict said[] = { INDEX_REVOKED, INDEX_EXPIRED };
    for (size_t i = 0; i < 2; i++) {
        struct work *w = &works[10 + i];
        memcpy(w->digest, works[i].digest, sizeof w->digest);
        propose_end(w, types[i], &works[i], 1);
        commit(w);
        assert_int_equal(w->when_done, said[i]);
    }
    struct work *w = &works[20];
    struct account_record ended = account;
    ended.epoch = 2;
    memcpy(w->digest, works[2].digest, sizeof w->digest);
    propose_row(w);
    struct effect *e = batch_effect(w->rq.batch, EFFECT_ACCOUNT_END);
    e->account = &ended;
    e->epoch = 2;
    commit(w);
    assert_int_equal(w->when_done, INDEX_REVOKED);
    assert_int_equal(index_find(core.svc.index, works[3].digest, 1, NULL), INDEX_REVOKED);
}

static void
propose_epoch(struct work *w, const struct account_record *a)
{
    propose_row(w);
    struct effect *e = batch_effect(w->rq.batch, EFFECT_ACCOUNT_EPOCH);
    e->account = a;
    e->epoch = a->epoch;
    w->rq.batch->urgent = true;
}

/* Also when nobody knows whether the batch is durable. */
static void
an_epoch_ends_with_its_tokens_and_no_later_ones(void **state)
{
    (void)state;
    static const int says[] = { KAITEN_DONE, KAITEN_UNKNOWN };
    struct account_record next[CORE_COUNT(says)] = { account, account };
    for (size_t i = 0; i < CORE_COUNT(says); i++) {
        struct work *old = &works[3 * i], *w = &works[3 * i + 1], *later = &works[3 * i + 2];
        next[i].epoch = (uint32_t)(2 + i);
        propose_token(old);
        old->rq.batch->effects[0].epoch = (uint32_t)(1 + i);
        commit(old);
        assert_int_equal(old->when_done, INDEX_LIVE);
        propose_epoch(w, &next[i]);
        memcpy(w->digest, old->digest, sizeof w->digest);
        disk_fail(core.disk, says[i], KAITEN_DONE, 0, 1);
        commit(w);
        assert_int_equal(w->when_done, INDEX_REVOKED);
        propose_token(later);
        later->rq.batch->effects[0].epoch = next[i].epoch;
        commit(later);
        assert_int_equal(later->when_done, INDEX_LIVE);
    }
}

/* Whether a lost commit has revoked nobody knows: then it has. Nothing begins that way. */
static void
an_unknown_outcome_ends_and_begins_nothing(void **state)
{
    (void)state;
    static const struct {
        enum effect_type type;
        enum index_verdict said;
    } cases[] = { { EFFECT_REVOKE, INDEX_REVOKED }, { EFFECT_EXPIRY, INDEX_EXPIRED } };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        struct work *old = &works[2 * i], *w = &works[2 * i + 1];
        propose_token(old);
        commit(old);
        propose_end(w, cases[i].type, old, 1);
        propose_token(w);
        disk_fail(core.disk, KAITEN_UNKNOWN, KAITEN_DONE, 0, 1);
        commit(w);
        assert_int_equal(w->rq.call.err.kind, KT_UNAVAILABLE);
        assert_int_equal(w->when_done, INDEX_UNKNOWN);
        assert_int_equal(index_find(core.svc.index, old->digest, 1, NULL), cases[i].said);
    }
}

static void
a_failed_revocation_leaves_the_token(void **state)
{
    (void)state;
    static const int says[] = { KAITEN_FULL, KAITEN_RETRY, KAITEN_FAILED };
    propose_token(&works[0]);
    commit(&works[0]);
    for (size_t i = 0; i < CORE_COUNT(says); i++) {
        struct work *w = &works[1 + i];
        propose_end(w, EFFECT_REVOKE, &works[0], 0);
        disk_fail(core.disk, KAITEN_DONE, says[i], 0, 1);
        commit(w);
        assert_int_not_equal(w->rq.call.err.kind, KT_OK);
        assert_int_equal(index_find(core.svc.index, works[0].digest, 1, NULL), INDEX_LIVE);
    }
}

static void
accounts_are_registered_and_renamed(void **state)
{
    (void)state;
    struct account_record a = account;
    struct index_hit hit;
    propose_token(&works[0]);
    commit(&works[0]);
    assert_int_equal(index_find(core.svc.index, works[0].digest, 1, &hit), INDEX_LIVE);
    assert_true(kt_str_is(hit.text->name, "Name"));
    a.name = KT_LIT("Renamed");
    batch_effect(works[1].rq.batch, EFFECT_ACCOUNT)->account = &a;
    propose_row(&works[1]);
    commit(&works[1]);
    assert_int_equal(index_find(core.svc.index, works[0].digest, 1, &hit), INDEX_LIVE);
    assert_true(kt_str_is(hit.text->name, "Renamed"));
}

/* Otherwise whoever asks for a slug that is taken, for ever, would fill the memory. */
static void
a_refused_account_leaves_nothing_behind(void **state)
{
    (void)state;
    struct index_stats before, after;
    propose_token(&works[0]);
    commit(&works[0]);
    index_stats(core.svc.index, &before);
    disk_fail(core.disk, KAITEN_DONE, KAITEN_CONFLICT, 0, -1);
    for (size_t i = 1; i < 50; i++) {
        struct work *w = &works[i];
        struct account_record *a = kt_arena_alloc(&w->arena, sizeof *a);
        *a = account;
        a->id.b[15] = (unsigned char)i;
        batch_if_absent(w->rq.batch, KT_LIT("staken"),
                        (struct refusal){ KT_CONFLICT, "Test.Taken", "taken",
                                          { NULL, 0 }, NULL });
        batch_effect(w->rq.batch, EFFECT_ACCOUNT)->account = a;
        propose_row(w);
        commit(w);
        assert_int_equal(w->rq.call.err.kind, KT_CONFLICT);
    }
    index_stats(core.svc.index, &after);
    assert_int_equal(after.accounts, before.accounts);
    assert_int_equal(after.bytes, before.bytes);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ends_are_known_before_they_are_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(an_epoch_ends_with_its_tokens_and_no_later_ones, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_unknown_outcome_ends_and_begins_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_failed_revocation_leaves_the_token, setup, teardown),
        cmocka_unit_test_setup_teardown(accounts_are_registered_and_renamed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_account_leaves_nothing_behind, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
