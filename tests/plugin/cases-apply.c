/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/plugin/check.h"

#include <string.h>

/* The revision of a key's row, 0 when it has none. */
static uint64_t
revision_of(struct check *c, struct kaiten_bytes key)
{
    struct kaiten_emit emit;
    uint64_t revision = 0;
    if (check_read(c, key, &emit) && emit.n == 1)
        revision = emit.rows[0].revision;
    fake_emit_done(&emit);
    return revision;
}

static bool
apply_set(struct check *c)
{
    struct kaiten_bytes key = check_key(c, "a");
    EXPECT(check_put(c, key, check_text("one")));
    EXPECT(check_is(c, key, "one"));
    EXPECT(check_put(c, key, check_text("two, longer than one")));
    EXPECT(check_is(c, key, "two, longer than one"));
    EXPECT(check_put(c, key, check_text("3")));
    EXPECT(check_is(c, key, "3"));
    return true;
}

static bool
apply_set_empty(struct check *c)
{
    EXPECT(check_put(c, check_key(c, "a"), (struct kaiten_bytes){ NULL, 0 }));
    EXPECT(check_is(c, check_key(c, "a"), ""));
    EXPECT(check_put(c, check_key(c, "a"), check_text("full")));
    EXPECT(check_put(c, check_key(c, "a"), check_text("")));
    EXPECT(check_is(c, check_key(c, "a"), ""));
    return true;
}

static bool
apply_delete(struct check *c)
{
    EXPECT(check_put(c, check_key(c, "a"), check_text("1")));
    EXPECT(check_put(c, check_key(c, "ab"), check_text("2")));
    struct kaiten_batch *batch = check_batch(c);
    check_delete(batch, check_key(c, "a"));
    EXPECT(check_apply_one(c, batch).status == KAITEN_DONE);
    EXPECT(check_is(c, check_key(c, "a"), NULL));
    EXPECT(check_is(c, check_key(c, "ab"), "2"));
    return true;
}

static bool
apply_delete_absent(struct check *c)
{
    struct kaiten_batch *batch = check_batch(c);
    check_delete(batch, check_key(c, "nobody"));
    check_set(batch, check_key(c, "a"), check_text("1"));
    EXPECT(check_apply_one(c, batch).status == KAITEN_DONE);
    EXPECT(check_is(c, check_key(c, "a"), "1"));
    EXPECT(check_is(c, check_key(c, "nobody"), NULL));
    return true;
}

static bool
conflict_at(struct kaiten_outcome outcome, size_t failed)
{
    if (outcome.status != KAITEN_CONFLICT)
        return check_fail("status %d instead of KAITEN_CONFLICT", (int)outcome.status);
    if (outcome.failed != failed)
        return check_fail("condition %zu is said to have failed instead of %zu", outcome.failed,
                          failed);
    return true;
}

/* One batch that sets "mark" if the condition holds. */
static struct kaiten_outcome
try_condition(struct check *c, enum kaiten_cond_type type, struct kaiten_bytes key,
              uint64_t revision)
{
    struct kaiten_batch *batch = check_batch(c);
    check_cond(batch, type, key, revision);
    check_set(batch, key, check_text("again"));
    check_set(batch, check_key(c, "mark"), check_text("1"));
    return check_apply_one(c, batch);
}

static bool
cond_absent(struct check *c)
{
    EXPECT(try_condition(c, KAITEN_ABSENT, check_key(c, "a"), 0).status == KAITEN_DONE);
    EXPECT(check_is(c, check_key(c, "a"), "again"));
    EXPECT(conflict_at(try_condition(c, KAITEN_ABSENT, check_key(c, "a"), 0), 0));
    struct kaiten_batch *batch = check_batch(c);
    check_delete(batch, check_key(c, "a"));
    EXPECT(check_apply_one(c, batch).status == KAITEN_DONE);
    EXPECT(try_condition(c, KAITEN_ABSENT, check_key(c, "a"), 0).status == KAITEN_DONE);
    return true;
}

static bool
cond_present(struct check *c)
{
    EXPECT(conflict_at(try_condition(c, KAITEN_PRESENT, check_key(c, "a"), 0), 0));
    EXPECT(check_is(c, check_key(c, "a"), NULL));
    EXPECT(check_is(c, check_key(c, "mark"), NULL));
    EXPECT(check_put(c, check_key(c, "a"), check_text("")));
    EXPECT(try_condition(c, KAITEN_PRESENT, check_key(c, "a"), 0).status == KAITEN_DONE);
    return true;
}

static bool
cond_at(struct check *c)
{
    struct kaiten_bytes key = check_key(c, "a");
    EXPECT(conflict_at(try_condition(c, KAITEN_AT, key, 0), 0));
    EXPECT(conflict_at(try_condition(c, KAITEN_AT, key, 1), 0));
    EXPECT(check_put(c, key, check_text("1")));
    uint64_t first = revision_of(c, key);
    EXPECT(conflict_at(try_condition(c, KAITEN_AT, key, first + 1), 0));
    EXPECT(conflict_at(try_condition(c, KAITEN_AT, key, first - 1), 0));
    EXPECT(try_condition(c, KAITEN_AT, key, first).status == KAITEN_DONE);
    EXPECT(conflict_at(try_condition(c, KAITEN_AT, key, first), 0));
    return true;
}

/* What is remembered of a revision must not outlive the row that had it. */
/* The same once more, which is another operation. */
static struct kaiten_batch
once_more(const struct kaiten_batch *batch)
{
    struct kaiten_batch again = *batch;
    fake_host()->random(again.id, sizeof again.id);
    return again;
}

static bool
cond_at_again(struct check *c)
{
    struct kaiten_bytes key = check_key(c, "a"), mark = check_key(c, "mark");
    EXPECT(check_put(c, key, check_text("1")));
    uint64_t first = revision_of(c, key);
    struct kaiten_batch *asks = check_batch(c), *sets = check_batch(c);
    check_cond(asks, KAITEN_AT, key, first);
    check_set(asks, mark, check_text("1"));
    check_set(sets, key, check_text("2"));
    EXPECT(check_apply_one(c, asks).status == KAITEN_DONE);
    struct kaiten_batch group[] = { once_more(asks), *sets, once_more(asks), once_more(asks) };
    struct kaiten_outcome outcomes[4];
    EXPECT(check_apply(c, group, 4, outcomes) == KAITEN_DONE);
    EXPECT(outcomes[0].status == KAITEN_DONE && outcomes[1].status == KAITEN_DONE);
    EXPECT(conflict_at(outcomes[2], 0) && conflict_at(outcomes[3], 0));
    struct kaiten_batch *now = check_batch(c), *deletes = check_batch(c);
    check_cond(now, KAITEN_AT, key, outcomes[1].revision);
    check_set(now, mark, check_text("2"));
    check_delete(deletes, key);
    EXPECT(check_apply_one(c, now).status == KAITEN_DONE);
    EXPECT(check_apply_one(c, deletes).status == KAITEN_DONE);
    struct kaiten_batch gone = once_more(now), other = once_more(now);
    EXPECT(conflict_at(check_apply_one(c, &gone), 0));
    EXPECT(check_put(c, key, check_text("3")));
    EXPECT(conflict_at(check_apply_one(c, &other), 0));
    return true;
}

static bool
cond_which(struct check *c)
{
    EXPECT(check_put(c, check_key(c, "there"), check_text("1")));
    uint64_t revision = revision_of(c, check_key(c, "there"));
    for (size_t bad = 0; bad < KAITEN_BATCH_CONDS_MAX; bad++) {
        struct kaiten_batch *batch = check_batch(c);
        for (size_t i = 0; i < KAITEN_BATCH_CONDS_MAX; i++) {
            /* From the bad one on none holds, so that only the first is the right answer. */
            bool holds = i < bad;
            if (i % 3 == 0)
                check_cond(batch, KAITEN_ABSENT, check_key(c, holds ? "new" : "there"), 0);
            else if (i % 3 == 1)
                check_cond(batch, KAITEN_PRESENT, check_key(c, holds ? "there" : "new"), 0);
            else
                check_cond(batch, KAITEN_AT, check_key(c, "there"), revision + !holds);
        }
        check_set(batch, check_key(c, "new"), check_text("1"));
        check_set(batch, check_key(c, "there"), check_text("2"));
        EXPECT(conflict_at(check_apply_one(c, batch), bad));
    }
    EXPECT(check_is(c, check_key(c, "new"), NULL));
    EXPECT(revision_of(c, check_key(c, "there")) == revision);
    return true;
}

static bool
apply_nothing(struct check *c)
{
    EXPECT(check_put(c, check_key(c, "b"), check_text("old")));
    EXPECT(check_put(c, check_key(c, "taken"), check_text("1")));
    struct kaiten_batch *batch = check_batch(c);
    check_cond(batch, KAITEN_PRESENT, check_key(c, "b"), 0);
    check_cond(batch, KAITEN_ABSENT, check_key(c, "taken"), 0);
    check_set(batch, check_key(c, "a"), check_text("new"));
    check_set(batch, check_key(c, "b"), check_text("new"));
    check_delete(batch, check_key(c, "b"));
    check_set(batch, check_key(c, "taken"), check_text("new"));
    EXPECT(conflict_at(check_apply_one(c, batch), 1));
    EXPECT(check_is(c, check_key(c, "a"), NULL));
    EXPECT(check_is(c, check_key(c, "b"), "old"));
    EXPECT(check_is(c, check_key(c, "taken"), "1"));
    return true;
}

/* Of two names that a batch wants one is taken: the other is as free as before, for the next batch
 * of the same group too. */
static bool
apply_claims(struct check *c)
{
    struct kaiten_bytes one = check_key(c, "one"), two = check_key(c, "two");
    EXPECT(check_put(c, two, check_text("1")));
    for (unsigned turned = 0; turned < 2; turned++) {
        struct kaiten_batch batches[2], *parts[2] = { check_batch(c), check_batch(c) };
        struct kaiten_outcome outcomes[2];
        for (size_t i = 0; i < 2; i++)
            check_cond(parts[0], KAITEN_ABSENT, (i == 1) != (turned == 1) ? two : one, 0);
        check_set(parts[0], one, check_text("first"));
        check_set(parts[0], two, check_text("first"));
        check_cond(parts[1], KAITEN_ABSENT, one, 0);
        check_set(parts[1], one, check_text("second"));
        batches[0] = *parts[0];
        batches[1] = *parts[1];
        EXPECT(check_apply(c, batches, 2, outcomes) == KAITEN_DONE);
        EXPECT(conflict_at(outcomes[0], turned ? 0 : 1));
        EXPECT(outcomes[1].status == KAITEN_DONE);
        EXPECT(check_is(c, one, "second"));
        EXPECT(check_is(c, two, "1"));
        struct kaiten_batch *again = check_batch(c);
        check_delete(again, one);
        EXPECT(check_apply_one(c, again).status == KAITEN_DONE);
    }
    return true;
}

static bool
apply_only_conditions(struct check *c)
{
    EXPECT(check_put(c, check_key(c, "a"), check_text("1")));
    struct kaiten_batch *holds = check_batch(c), *fails = check_batch(c);
    check_cond(holds, KAITEN_PRESENT, check_key(c, "a"), 0);
    check_cond(fails, KAITEN_PRESENT, check_key(c, "b"), 0);
    EXPECT(check_apply_one(c, holds).status == KAITEN_DONE);
    EXPECT(conflict_at(check_apply_one(c, fails), 0));
    return true;
}

static bool
apply_sees_earlier(struct check *c)
{
    struct kaiten_batch *parts[5], batches[5];
    for (size_t i = 0; i < 5; i++)
        parts[i] = check_batch(c);
    struct kaiten_bytes a = check_key(c, "a"), b = check_key(c, "b");
    check_cond(parts[0], KAITEN_ABSENT, a, 0);
    check_set(parts[0], a, check_text("0"));
    check_cond(parts[1], KAITEN_ABSENT, a, 0); /* no longer */
    check_set(parts[1], a, check_text("1"));
    check_set(parts[1], b, check_text("1"));
    check_cond(parts[2], KAITEN_PRESENT, b, 0); /* part 1 was not done */
    check_set(parts[2], b, check_text("2"));
    check_cond(parts[3], KAITEN_PRESENT, a, 0);
    check_delete(parts[3], a);
    check_cond(parts[4], KAITEN_ABSENT, a, 0);
    check_set(parts[4], a, check_text("4"));
    for (size_t i = 0; i < 5; i++)
        batches[i] = *parts[i];
    struct kaiten_outcome outcomes[5];
    EXPECT(check_apply(c, batches, 5, outcomes) == KAITEN_DONE);
    EXPECT(outcomes[0].status == KAITEN_DONE);
    EXPECT(conflict_at(outcomes[1], 0));
    EXPECT(conflict_at(outcomes[2], 0));
    EXPECT(outcomes[3].status == KAITEN_DONE);
    EXPECT(outcomes[4].status == KAITEN_DONE);
    EXPECT(check_is(c, a, "4"));
    EXPECT(check_is(c, b, NULL));
    return true;
}

static bool
apply_others_go_on(struct check *c)
{
    enum { N = 100 };
    EXPECT(check_put(c, check_key(c, "taken"), check_text("1")));
    struct kaiten_batch batches[N];
    struct kaiten_outcome outcomes[N];
    memset(outcomes, 0x5a, sizeof outcomes);
    for (uint64_t i = 0; i < N; i++) {
        struct kaiten_batch *one = check_batch(c);
        check_cond(one, KAITEN_PRESENT, check_key(c, "taken"), 0);
        if (i % 3 == 1)
            check_cond(one, KAITEN_ABSENT, check_key(c, "taken"), 0);
        check_set(one, check_key_number(c, "n", i), check_text("set"));
        check_set(one, check_key_number(c, "m", i), check_text("set"));
        batches[i] = *one;
    }
    EXPECT(check_apply(c, batches, N, outcomes) == KAITEN_DONE);
    for (uint64_t i = 0; i < N; i++) {
        const char *value = i % 3 == 1 ? NULL : "set";
        EXPECT(i % 3 == 1 ? conflict_at(outcomes[i], 1) : outcomes[i].status == KAITEN_DONE);
        EXPECT(check_is(c, check_key_number(c, "n", i), value));
        EXPECT(check_is(c, check_key_number(c, "m", i), value));
    }
    return true;
}

static bool
apply_full_group(struct check *c)
{
    static struct kaiten_batch batches[KAITEN_APPLY_BATCHES_MAX];
    static struct kaiten_outcome outcomes[KAITEN_APPLY_BATCHES_MAX];
    memset(outcomes, 0x5a, sizeof outcomes);
    for (uint64_t i = 0; i < KAITEN_APPLY_BATCHES_MAX; i++) {
        struct kaiten_batch *one = check_batch(c);
        for (uint64_t w = 0; w < 8; w++)
            check_set(one, check_key_number(c, "r", i * 7919 % 1024 * 8 + w), check_text("v"));
        batches[i] = *one;
    }
    EXPECT(check_apply(c, batches, KAITEN_APPLY_BATCHES_MAX, outcomes) == KAITEN_DONE);
    for (size_t i = 0; i < KAITEN_APPLY_BATCHES_MAX; i++)
        EXPECT(outcomes[i].status == KAITEN_DONE);
    struct kaiten_range range = check_all(c);
    struct kaiten_emit emit;
    fake_emit_init(&emit);
    EXPECT(check_scan(c, &range, &emit) == KAITEN_DONE);
    EXPECT(emit.n == KAITEN_APPLY_BATCHES_MAX * 8);
    fake_emit_done(&emit);
    return true;
}

static bool
apply_limits(struct check *c)
{
    struct kaiten_bytes filler = check_filled(c, 0xff, KAITEN_KEY_MAX - sizeof c->prefix);
    struct kaiten_bytes longest = check_key_bytes(c, filler.p, filler.n);
    struct kaiten_bytes second = check_key_bytes(c, filler.p, filler.n - 1);
    struct kaiten_bytes largest = check_filled(c, 0, KAITEN_VALUE_MAX);
    EXPECT(longest.n == KAITEN_KEY_MAX);
    EXPECT(check_put(c, longest, largest));
    EXPECT(check_put(c, second, check_text("shorter")));
    for (int backward = 0; backward < 2; backward++) {
        struct kaiten_range range = check_all(c);
        range.backward = backward;
        struct kaiten_emit emit;
        fake_emit_init(&emit);
        EXPECT(check_scan(c, &range, &emit) == KAITEN_DONE);
        EXPECT(emit.n == 2);
        EXPECT(check_compare(emit.rows[!backward].key, longest) == 0);
        EXPECT(check_compare(emit.rows[!backward].value, largest) == 0);
        fake_emit_done(&emit);
    }
    struct kaiten_emit emit;
    EXPECT(check_read(c, longest, &emit));
    EXPECT(emit.n == 1 && check_compare(emit.rows[0].value, largest) == 0);
    fake_emit_done(&emit);
    EXPECT(try_condition(c, KAITEN_ABSENT, longest, 0).status == KAITEN_CONFLICT);
    return true;
}

static bool
apply_full_batch(struct check *c)
{
    struct kaiten_batch *batch = check_batch(c);
    struct kaiten_bytes largest = check_filled(c, 'L', KAITEN_VALUE_MAX);
    for (uint64_t i = 0; i < KAITEN_BATCH_WRITES_MAX; i++)
        check_set(batch, check_key_number(c, "w", i), largest);
    for (uint64_t i = 0; i < KAITEN_BATCH_CONDS_MAX; i++)
        check_cond(batch, KAITEN_ABSENT, check_key_number(c, "w", i), 0);
    EXPECT(check_apply_one(c, batch).status == KAITEN_DONE);
    struct kaiten_range range = check_all(c);
    struct kaiten_emit emit;
    fake_emit_init(&emit);
    EXPECT(check_scan(c, &range, &emit) == KAITEN_DONE);
    EXPECT(emit.n == KAITEN_BATCH_WRITES_MAX);
    for (size_t i = 0; i < emit.n; i++)
        EXPECT(check_compare(emit.rows[i].value, largest) == 0);
    fake_emit_done(&emit);
    return true;
}

/* Puts the row back as it was: a real daemon owns its one-byte keys. */
static bool
apply_shortest_key(struct check *c)
{
    unsigned char byte = c->prefix[0];
    struct kaiten_bytes key = { &byte, 1 };
    if (revision_of(c, key) > 0)
        return true;
    struct kaiten_batch *batch = check_batch(c);
    check_delete(batch, key);
    bool fits = check_put(c, key, check_text("1")) && check_is(c, key, "1");
    EXPECT(check_apply_one(c, batch).status == KAITEN_DONE);
    EXPECT(check_is(c, key, NULL));
    return fits;
}

/* What was passed in is scribbled over as soon as the call has returned. */
static bool
apply_borrows(struct check *c)
{
    for (int round = 0; round < 3; round++) {
        struct kaiten_bytes key = check_key(c, "key"), value = check_filled(c, 'v', 300);
        EXPECT(check_put(c, key, value));
        memset((void *)key.p, 0xaa, key.n);
        memset((void *)value.p, 0xaa, value.n);
    }
    struct kaiten_emit emit;
    EXPECT(check_read(c, check_key(c, "key"), &emit));
    EXPECT(emit.n == 1);
    EXPECT(check_compare(emit.rows[0].value, check_filled(c, 'v', 300)) == 0);
    fake_emit_done(&emit);
    return true;
}

static bool
revision_of_batch(struct check *c)
{
    struct kaiten_batch *batch = check_batch(c);
    check_set(batch, check_key(c, "a"), check_text("1"));
    check_set(batch, check_key(c, "b"), check_text("2"));
    struct kaiten_outcome outcome = check_apply_one(c, batch);
    EXPECT(outcome.status == KAITEN_DONE);
    EXPECT(outcome.revision > 0);
    EXPECT(revision_of(c, check_key(c, "a")) == outcome.revision);
    EXPECT(revision_of(c, check_key(c, "b")) == outcome.revision);
    struct kaiten_outcome same = check_apply_one(c, batch);
    EXPECT(same.status == KAITEN_DONE && same.revision != outcome.revision);
    EXPECT(revision_of(c, check_key(c, "a")) == same.revision);

    struct kaiten_range range = check_all(c);
    struct kaiten_emit emit;
    fake_emit_init(&emit);
    EXPECT(check_scan(c, &range, &emit) == KAITEN_DONE);
    EXPECT(emit.n == 2 && emit.rows[1].revision == same.revision);
    fake_emit_done(&emit);
    return true;
}

/* Revisions of n batches in one group and n alone; each above the one before. */
static bool
revisions_rise(struct check *c, uint64_t *last)
{
    enum { N = 50 };
    struct kaiten_batch batches[N];
    struct kaiten_outcome outcomes[N];
    for (uint64_t i = 0; i < N; i++) {
        struct kaiten_batch *one = check_batch(c);
        check_set(one, check_key_number(c, "n", i % 7), check_text("1"));
        if (i % 5 == 4)
            check_delete(one, check_key_number(c, "n", i % 7 + 1));
        batches[i] = *one;
    }
    EXPECT(check_apply(c, batches, N, outcomes) == KAITEN_DONE);
    for (size_t i = 0; i < N; i++) {
        EXPECT(outcomes[i].revision > *last);
        *last = outcomes[i].revision;
    }
    return true;
}

static bool
revision_never_repeats(struct check *c)
{
    uint64_t last = 0;
    struct kaiten_bytes key = check_key(c, "a");
    for (int i = 0; i < 20; i++) {
        struct kaiten_batch *batch = check_batch(c);
        EXPECT(check_put(c, key, check_text("1")));
        EXPECT(revision_of(c, key) > last);
        last = revision_of(c, key);
        check_delete(batch, key);
        EXPECT(check_apply_one(c, batch).status == KAITEN_DONE);
    }
    return revisions_rise(c, &last);
}

static bool
revision_after_restart(struct check *c)
{
    uint64_t last = 0;
    for (int i = 0; i < 5; i++) {
        EXPECT(revisions_rise(c, &last));
        struct kaiten_batch *batch = check_batch(c);
        for (uint64_t n = 0; n <= 7; n++)
            check_delete(batch, check_key_number(c, "n", n));
        EXPECT(check_apply_one(c, batch).status == KAITEN_DONE);
        check_close(c);
        EXPECT(check_open(c));
    }
    return true;
}

static bool
survives_close(struct check *c)
{
    enum { N = 500 };
    uint64_t revisions[N];
    for (uint64_t i = 0; i < N; i++) {
        EXPECT(check_put(c, check_key_number(c, "n", i), check_filled(c, 'v', i * 13 % 5000)));
        revisions[i] = revision_of(c, check_key_number(c, "n", i));
        if (i % 100 == 99) {
            check_close(c);
            EXPECT(check_open(c));
        }
    }
    struct kaiten_range range = check_all(c);
    struct kaiten_emit emit;
    fake_emit_init(&emit);
    EXPECT(check_scan(c, &range, &emit) == KAITEN_DONE);
    EXPECT(emit.n == N);
    for (uint64_t i = 0; i < N; i++) {
        EXPECT(check_compare(emit.rows[i].key, check_key_number(c, "n", i)) == 0);
        EXPECT(check_compare(emit.rows[i].value, check_filled(c, 'v', i * 13 % 5000)) == 0);
        EXPECT(emit.rows[i].revision == revisions[i]);
    }
    fake_emit_done(&emit);
    return true;
}

const struct check_case cases_apply[] = {
    { "KAITEN_SET: the key has this value", apply_set, NEED_STORE },
    { "KAITEN_SET: an empty value is a row", apply_set_empty, NEED_STORE },
    { "KAITEN_DELETE: the key has no row", apply_delete, NEED_STORE },
    { "KAITEN_DELETE of a key without a row: no effect, no error", apply_delete_absent,
      NEED_STORE },
    { "KAITEN_ABSENT: the key has no row", cond_absent, NEED_STORE },
    { "KAITEN_PRESENT: the key has a row", cond_present, NEED_STORE },
    { "KAITEN_AT: the row's revision is exactly this one", cond_at, NEED_STORE },
    { "KAITEN_AT: the row's revision is exactly this one, asked again", cond_at_again,
      NEED_STORE },
    { "failed: the index of the first condition that failed", cond_which, NEED_STORE },
    { "All conditions hold and all writes happen, or nothing does", apply_nothing, NEED_STORE },
    { "All conditions hold and all writes happen, or nothing does: two names", apply_claims,
      NEED_STORE },
    { "A batch may have conditions only", apply_only_conditions, NEED_STORE },
    { "Each batch sees the writes of those before it that were done", apply_sees_earlier,
      NEED_STORE },
    { "A batch whose condition fails is skipped and says which; the others go on",
      apply_others_go_on, NEED_STORE },
    { "outcomes[i] is set for every i, up to KAITEN_APPLY_BATCHES_MAX", apply_full_group,
      NEED_STORE },
    { "A key has up to KAITEN_KEY_MAX bytes, a value up to KAITEN_VALUE_MAX", apply_limits,
      NEED_STORE },
    { "A batch has up to KAITEN_BATCH_CONDS_MAX conditions and KAITEN_BATCH_WRITES_MAX writes",
      apply_full_batch, NEED_STORE },
    { "A key has at least 1 byte", apply_shortest_key, NEED_STORE },
    { "Bytes are borrowed for the call", apply_borrows, NEED_STORE },
    { "revision: the revision of every row that the batch set", revision_of_batch, NEED_STORE },
    { "Revisions never repeat, not even after a delete; they are above 0", revision_never_repeats,
      NEED_STORE },
    { "Revisions never repeat, not even after a restart", revision_after_restart,
      NEED_STORE | NEED_DURABLE },
    { "What was DONE is there after close and open", survives_close, NEED_STORE | NEED_DURABLE },
    { NULL, NULL, 0 },
};
