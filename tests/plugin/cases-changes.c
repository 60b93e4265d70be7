/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/plugin/check.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static enum kaiten_status
changes_call(struct check *c, const struct kaiten_position *since, const char *spaces,
             struct kaiten_emit *emit, struct kaiten_position *ret_now)
{
    struct kaiten_err err;
    fake_err_init(&err);
    fake_emit_init(emit);
    enum kaiten_status status =
        c->storage.changes(c->store, since, check_text(spaces), emit, ret_now, &err);
    if (status != KAITEN_DONE && status != KAITEN_CONFLICT)
        check_fail("changes returned %d: %s", (int)status, err.text);
    return status;
}

/* From now on. */
static bool
changes_begin(struct check *c, const char *spaces, struct kaiten_position *ret_now)
{
    struct kaiten_emit emit;
    EXPECT(changes_call(c, NULL, spaces, &emit, ret_now) == KAITEN_DONE);
    EXPECT(emit.n == 0);
    EXPECT(ret_now->history > 0);
    return true;
}

static bool
changes_none(struct check *c)
{
    struct kaiten_position now = { 0, 0 }, later;
    struct kaiten_emit emit;
    EXPECT(check_put(c, check_key(c, "before"), check_text("1")));
    EXPECT(changes_begin(c, "c", &now));
    /* Others may write meanwhile, but not rows of this case. */
    EXPECT(changes_call(c, &now, "c", &emit, &later) == KAITEN_DONE);
    for (size_t i = 0; i < emit.n; i++)
        EXPECT(emit.rows[i].key.n < sizeof c->prefix ||
               memcmp(emit.rows[i].key.p, c->prefix, sizeof c->prefix) != 0);
    EXPECT(later.history == now.history);
    fake_emit_done(&emit);
    return true;
}

/* What was emitted for a key; NULL: nothing. */
static const struct fake_row *
row_of(const struct kaiten_emit *emit, struct kaiten_bytes key)
{
    const struct fake_row *found = NULL;
    for (size_t i = 0; i < emit->n; i++)
        if (check_compare(emit->rows[i].key, key) == 0)
            found = &emit->rows[i];
    return found;
}

static bool
says(const struct kaiten_emit *emit, struct kaiten_bytes key, const char *value)
{
    const struct fake_row *row = row_of(emit, key);
    return row && (value ? row->value.p && check_compare(row->value, check_text(value)) == 0 &&
                               row->revision > 0
                         : !row->value.p);
}

static bool
changes_rows(struct check *c)
{
    struct kaiten_position at;
    struct kaiten_emit emit;
    EXPECT(check_put(c, check_key(c, "old"), check_text("1")));
    EXPECT(check_put(c, check_key(c, "goes"), check_text("1")));
    EXPECT(check_put(c, check_key(c, "stays"), check_text("1")));
    EXPECT(changes_begin(c, "c", &at));
    for (int round = 0; round < 3; round++) {
        struct kaiten_batch *batch = check_batch(c);
        EXPECT(check_put(c, check_key(c, "new"), check_text("1")));
        EXPECT(check_put(c, check_key(c, "new"), check_text("2")));
        check_set(batch, check_key(c, "old"), check_text("2"));
        check_set(batch, check_key(c, "empty"), check_text(""));
        check_delete(batch, check_key(c, "goes"));
        EXPECT(check_apply_one(c, batch).status == KAITEN_DONE);
        EXPECT(changes_call(c, &at, "c", &emit, &at) == KAITEN_DONE);
        EXPECT(says(&emit, check_key(c, "new"), "2"));
        EXPECT(says(&emit, check_key(c, "old"), "2"));
        EXPECT(says(&emit, check_key(c, "empty"), ""));
        EXPECT(says(&emit, check_key(c, "goes"), NULL));
        EXPECT(!row_of(&emit, check_key(c, "stays")));
        fake_emit_done(&emit);
        EXPECT(check_put(c, check_key(c, "goes"), check_text("back")));
        EXPECT(changes_call(c, &at, "c", &emit, &at) == KAITEN_DONE);
        EXPECT(says(&emit, check_key(c, "goes"), "back"));
        fake_emit_done(&emit);
    }
    return true;
}

static bool
changes_spaces(struct check *c)
{
    struct kaiten_position at;
    struct kaiten_emit emit;
    struct kaiten_bytes keys[3];
    EXPECT(changes_begin(c, "bd", &at));
    for (size_t i = 0; i < 3; i++) {
        c->prefix[0] = (unsigned char)('b' + i);
        keys[i] = check_key(c, "a");
        EXPECT(check_put(c, keys[i], check_text("1")));
    }
    EXPECT(changes_call(c, &at, "bd", &emit, &at) == KAITEN_DONE);
    EXPECT(says(&emit, keys[0], "1"));
    EXPECT(!row_of(&emit, keys[1]));
    EXPECT(says(&emit, keys[2], "1"));
    fake_emit_done(&emit);
    return true;
}

static bool
changes_history(struct check *c)
{
    struct kaiten_position at, other, now = { 0, 0 };
    struct kaiten_emit emit;
    EXPECT(changes_begin(c, "c", &at));
    EXPECT(check_put(c, check_key(c, "a"), check_text("1")));
    other = at;
    other.history ^= 2;
    EXPECT(changes_call(c, &other, "c", &emit, &now) == KAITEN_CONFLICT);
    EXPECT(emit.n == 0);
    EXPECT(now.history == at.history);
    EXPECT(changes_call(c, &now, "c", &emit, &now) == KAITEN_DONE);
    fake_emit_done(&emit);
    return true;
}

enum { MANY = 160 * KAITEN_BATCH_WRITES_MAX };

static bool
write_many(struct check *c, bool set)
{
    for (uint64_t i = 0; i < MANY;) {
        struct kaiten_batch *batch = check_batch(c);
        for (size_t n = 0; n < KAITEN_BATCH_WRITES_MAX; n++, i++) {
            if (set)
                check_set(batch, check_key_number(c, "m", i), check_text("1"));
            else
                check_delete(batch, check_key_number(c, "m", i));
        }
        EXPECT(check_apply_one(c, batch).status == KAITEN_DONE);
    }
    return true;
}

/* Far more than a plugin reads in one go. */
static bool
changes_many(struct check *c)
{
    static bool seen[MANY];
    struct kaiten_position at;
    EXPECT(changes_begin(c, "c", &at));
    for (int set = 1; set >= 0; set--) {
        struct kaiten_emit emit;
        EXPECT(write_many(c, set));
        EXPECT(changes_call(c, &at, "c", &emit, &at) == KAITEN_DONE);
        memset(seen, 0, sizeof seen);
        for (size_t i = 0; i < emit.n; i++) {
            struct kaiten_bytes key = emit.rows[i].key;
            if (key.n != sizeof c->prefix + 13 || memcmp(key.p, c->prefix, sizeof c->prefix) != 0)
                continue;
            char digits[13] = "";
            memcpy(digits, (const char *)key.p + sizeof c->prefix + 1, 12);
            seen[strtoul(digits, NULL, 10)] = (emit.rows[i].value.p != NULL) == set;
        }
        for (size_t i = 0; i < MANY; i++)
            EXPECT(seen[i]);
        fake_emit_done(&emit);
    }
    return true;
}

/* Two instances write, each from a thread of its own; the third side asks all the time. */

enum { WRITERS = 2, GROUPS = 60, GROUP = 8 };

struct writer {
    struct check c; /* with an instance of its own */
    unsigned number;
    bool good;
};

static bool
write_groups(struct writer *w)
{
    for (uint64_t g = 0; g < GROUPS; g++) {
        struct kaiten_batch batches[GROUP];
        struct kaiten_outcome outcomes[GROUP];
        for (uint64_t i = 0; i < GROUP; i++) {
            struct kaiten_batch *one = check_batch(&w->c);
            check_set(one, check_key_number(&w->c, w->number ? "w" : "v", g * GROUP + i),
                      check_text("1"));
            batches[i] = *one;
        }
        EXPECT(check_apply(&w->c, batches, GROUP, outcomes) == KAITEN_DONE);
        for (size_t i = 0; i < GROUP; i++)
            EXPECT(outcomes[i].status == KAITEN_DONE);
    }
    return true;
}

static void *
writer_run(void *arg)
{
    struct writer *w = arg;
    w->good = write_groups(w);
    return NULL;
}

/* Which rows of the writers were told. */
static bool
note_rows(struct check *c, struct kaiten_position *at, bool seen[WRITERS][GROUPS * GROUP])
{
    struct kaiten_emit emit;
    EXPECT(changes_call(c, at, "c", &emit, at) == KAITEN_DONE);
    for (size_t i = 0; i < emit.n; i++) {
        struct kaiten_bytes key = emit.rows[i].key;
        const char *name = (const char *)key.p + sizeof c->prefix;
        if (key.n != sizeof c->prefix + 13 || memcmp(key.p, c->prefix, sizeof c->prefix) != 0)
            continue;
        char digits[13] = "";
        memcpy(digits, name + 1, 12);
        seen[*name == 'w'][strtoul(digits, NULL, 10)] = true;
    }
    fake_emit_done(&emit);
    return true;
}

static bool
changes_complete(struct check *c)
{
    static bool seen[WRITERS][GROUPS * GROUP];
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS];
    struct kaiten_position at;
    EXPECT(changes_begin(c, "c", &at));
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){ .c = *c, .number = i };
        writers[i].c.memory = NULL;
        EXPECT(check_open(&writers[i].c));
        EXPECT(pthread_create(&threads[i], NULL, writer_run, &writers[i]) == 0);
    }
    for (int i = 0; i < 50; i++)
        EXPECT(note_rows(c, &at, seen));
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
        check_close(&writers[i].c);
        check_free(&writers[i].c);
        EXPECT(writers[i].good);
    }
    EXPECT(note_rows(c, &at, seen));
    for (unsigned w = 0; w < WRITERS; w++)
        for (size_t i = 0; i < GROUPS * GROUP; i++)
            if (!seen[w][i])
                return check_fail("row %zu of writer %u was never told", i, w);
    return true;
}

/* Whoever had enough in the middle asks from the same position once more. */
static bool
changes_again(struct check *c)
{
    struct kaiten_position at, now;
    struct kaiten_emit emit;
    struct kaiten_err err;
    EXPECT(changes_begin(c, "c", &at));
    for (uint64_t i = 0; i < 4; i++)
        EXPECT(check_put(c, check_key_number(c, "n", i), check_text("1")));
    fake_err_init(&err);
    fake_emit_init(&emit);
    emit.stop_at = 1;
    EXPECT(c->storage.changes(c->store, &at, check_text("c"), &emit, &now, &err) == KAITEN_DONE);
    EXPECT(emit.n == 1);
    fake_emit_done(&emit);
    EXPECT(changes_call(c, &at, "c", &emit, &now) == KAITEN_DONE);
    for (uint64_t i = 0; i < 4; i++)
        EXPECT(says(&emit, check_key_number(c, "n", i), "1"));
    fake_emit_done(&emit);
    return true;
}

static bool
changes_notices(struct check *c)
{
    struct check other = *c;
    struct kaiten_batch *batch = check_batch(c);
    other.memory = NULL;
    EXPECT(check_open(&other));
    check_set(batch, check_key(c, "a"), check_text("1"));
    batch->flags = KAITEN_BATCH_URGENT;
    /* Whatever is heard at the beginning is no answer to a write. */
    nanosleep(&(struct timespec){ 0, 300000000 }, NULL);
    unsigned before = fake_host_changes();
    struct kaiten_outcome outcome = check_apply_one(&other, batch);
    for (int i = 0; i < 1000 && fake_host_changes() == before; i++)
        nanosleep(&(struct timespec){ 0, 10000000 }, NULL);
    check_close(&other);
    EXPECT(outcome.status == KAITEN_DONE);
    EXPECT(fake_host_changes() > before);
    return true;
}

const struct check_case cases_changes[] = {
    { "changes: with since NULL *ret_now is all there is, and nothing is emitted", changes_none,
      NEED_STORE | NEED_CHANGES },
    { "changes: each row as it is now; a key whose row is gone comes with value.p NULL",
      changes_rows, NEED_STORE | NEED_CHANGES },
    { "changes: written into the spaces", changes_spaces, NEED_STORE | NEED_CHANGES },
    { "changes: KAITEN_CONFLICT: since is of another history; nothing was emitted, *ret_now is set",
      changes_history, NEED_STORE | NEED_CHANGES },
    { "changes: emits every one of very many", changes_many, NEED_STORE | NEED_CHANGES },
    { "changes: from the same position again, what was not taken comes again", changes_again,
      NEED_STORE | NEED_CHANGES },
    { "changes: no write is left out, in whatever order commits happen", changes_complete,
      NEED_STORE | NEED_CHANGES },
    { "KAITEN_STORAGE_NOTICES: calls host->changed() for foreign writes", changes_notices,
      NEED_STORE | NEED_CHANGES | NEED_NOTICES },
    { NULL, NULL, 0 },
};
