/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/plugin/check.h"

#include <stdlib.h>
#include <string.h>

/* Keys that a careless comparison puts in another order: signed bytes, strings that end at 0,
 * a key and its extensions. In the right order. */
static const struct {
    const char *p;
    size_t n;
} ordered[] = {
    { "", 0 },          { "\0", 1 },         { "\0\0", 2 },      { "\0\x01", 2 },
    { "\0\xff", 2 },    { "\x01", 1 },       { "A", 1 },         { "a", 1 },
    { "a\0", 2 },       { "a\0b", 3 },       { "aa", 2 },        { "ab", 2 },
    { "b", 1 },         { "\x7f", 1 },       { "\x80", 1 },      { "\xfe\xff", 2 },
    { "\xff", 1 },      { "\xff\0", 2 },     { "\xff\xff", 2 },  { "\xff\xff\xff", 3 },
};

enum { ORDERED = sizeof ordered / sizeof *ordered };

static struct kaiten_bytes
ordered_key(struct check *c, size_t i)
{
    return check_key_bytes(c, ordered[i].p, ordered[i].n);
}

/* Writes them from the middle outwards, so that no order of insertion helps. */
static bool
ordered_write(struct check *c)
{
    for (size_t i = 0; i < ORDERED; i++) {
        size_t at = (i * 7 + 3) % ORDERED;
        EXPECT(check_put(c, ordered_key(c, at), check_key_number(c, "", at)));
    }
    return true;
}

/* The scan returns exactly the rows first, first + step, ... (n of them). */
static bool
scan_is(struct check *c, const struct kaiten_range *range, size_t first, int step, size_t n)
{
    struct kaiten_emit emit;
    fake_emit_init(&emit);
    EXPECT(check_scan(c, range, &emit) == KAITEN_DONE);
    if (emit.n != n)
        return check_fail("%zu rows instead of %zu", emit.n, n);
    for (size_t i = 0; i < n; i++) {
        size_t at = step > 0 ? first + i : first - i;
        EXPECT(check_compare(emit.rows[i].key, ordered_key(c, at)) == 0);
        EXPECT(check_compare(emit.rows[i].value, check_key_number(c, "", at)) == 0);
        EXPECT(emit.rows[i].revision > 0);
    }
    fake_emit_done(&emit);
    return true;
}

static bool
get_order(struct check *c)
{
    EXPECT(ordered_write(c));
    struct kaiten_bytes keys[3] = { ordered_key(c, 11), ordered_key(c, 2), ordered_key(c, 18) };
    struct kaiten_emit emit;
    fake_emit_init(&emit);
    EXPECT(check_get(c, keys, 3, &emit) == KAITEN_DONE);
    EXPECT(emit.n == 3);
    for (size_t i = 0; i < 3; i++)
        EXPECT(check_compare(emit.rows[i].key, keys[i]) == 0);
    fake_emit_done(&emit);
    return true;
}

static bool
get_absent(struct check *c)
{
    EXPECT(check_is(c, check_key(c, "nobody"), NULL));
    EXPECT(check_put(c, check_key(c, "b"), check_text("2")));
    struct kaiten_bytes keys[] = { check_key(c, "a"), check_key(c, "b"), check_key(c, "bb"),
                                   check_key(c, "") };
    struct kaiten_emit emit;
    fake_emit_init(&emit);
    EXPECT(check_get(c, keys, 4, &emit) == KAITEN_DONE);
    EXPECT(emit.n == 1);
    EXPECT(check_compare(emit.rows[0].key, keys[1]) == 0);
    fake_emit_done(&emit);
    return true;
}

static bool
get_many(struct check *c)
{
    struct kaiten_bytes keys[KAITEN_BATCH_WRITES_MAX];
    struct kaiten_batch *batch = check_batch(c);
    for (size_t i = 0; i < KAITEN_BATCH_WRITES_MAX; i++) {
        keys[i] = check_key_number(c, "n", KAITEN_BATCH_WRITES_MAX - i);
        check_set(batch, keys[i], keys[i]);
    }
    EXPECT(check_apply_one(c, batch).status == KAITEN_DONE);
    struct kaiten_emit emit;
    fake_emit_init(&emit);
    EXPECT(check_get(c, keys, KAITEN_BATCH_WRITES_MAX, &emit) == KAITEN_DONE);
    EXPECT(emit.n == KAITEN_BATCH_WRITES_MAX);
    for (size_t i = 0; i < emit.n; i++)
        EXPECT(check_compare(emit.rows[i].value, keys[i]) == 0);
    fake_emit_done(&emit);
    return true;
}

static bool
get_stops(struct check *c)
{
    EXPECT(ordered_write(c));
    struct kaiten_bytes keys[5];
    for (size_t i = 0; i < 5; i++)
        keys[i] = ordered_key(c, i);
    struct kaiten_emit emit;
    fake_emit_init(&emit);
    emit.stop_at = 2;
    EXPECT(check_get(c, keys, 5, &emit) == KAITEN_DONE);
    EXPECT(emit.n == 2 && emit.late == 0);
    fake_emit_done(&emit);
    return true;
}

static bool
scan_order(struct check *c)
{
    EXPECT(ordered_write(c));
    struct kaiten_range range = check_all(c);
    return scan_is(c, &range, 0, 1, ORDERED);
}

static bool
scan_backward(struct check *c)
{
    EXPECT(ordered_write(c));
    struct kaiten_range range = check_all(c);
    range.backward = true;
    return scan_is(c, &range, ORDERED - 1, -1, ORDERED);
}

static bool
scan_bounds(struct check *c)
{
    EXPECT(ordered_write(c));
    for (size_t from = 0; from < ORDERED; from++) {
        for (size_t to = 0; to < ORDERED; to++) {
            struct kaiten_range range = { .from = ordered_key(c, from), .to = ordered_key(c, to) };
            size_t n = to > from ? to - from : 0;
            EXPECT(scan_is(c, &range, from, 1, n));
            range.backward = true;
            EXPECT(scan_is(c, &range, to - 1, -1, n));
        }
    }
    return true;
}

static bool
scan_bounds_between(struct check *c)
{
    EXPECT(ordered_write(c));
    /* Neither bound has a row: "a\0a" lies between "a\0" and "a\0b", "c" between "b" and 0x7f. */
    struct kaiten_range range = { .from = check_key_bytes(c, "a\0a", 3), .to = check_key(c, "c") };
    EXPECT(scan_is(c, &range, 9, 1, 4));
    range.backward = true;
    EXPECT(scan_is(c, &range, 12, -1, 4));
    return true;
}

static bool
scan_limit(struct check *c)
{
    EXPECT(ordered_write(c));
    for (uint64_t limit = 1; limit <= ORDERED + 1; limit++) {
        size_t n = limit < ORDERED ? limit : ORDERED;
        struct kaiten_range range = check_all(c);
        range.limit = limit;
        EXPECT(scan_is(c, &range, 0, 1, n));
        range.backward = true;
        EXPECT(scan_is(c, &range, ORDERED - 1, -1, n));
    }
    return true;
}

static bool
scan_stops(struct check *c)
{
    EXPECT(ordered_write(c));
    for (int backward = 0; backward < 2; backward++) {
        struct kaiten_range range = check_all(c);
        range.backward = backward;
        struct kaiten_emit emit;
        fake_emit_init(&emit);
        emit.stop_at = 3;
        EXPECT(check_scan(c, &range, &emit) == KAITEN_DONE);
        EXPECT(emit.n == 3 && emit.late == 0);
        fake_emit_done(&emit);
    }
    return true;
}

static bool
scan_empty(struct check *c)
{
    struct kaiten_range range = check_all(c);
    EXPECT(scan_is(c, &range, 0, 1, 0));
    range.backward = true;
    EXPECT(scan_is(c, &range, 0, -1, 0));
    return true;
}

/* Rows of other spaces lie on both sides; the scan must not leave its own. */
static bool
scan_no_end(struct check *c)
{
    EXPECT(ordered_write(c));
    unsigned char own = c->prefix[0];
    for (int d = -1; d <= 1; d += 2) {
        c->prefix[0] = (unsigned char)(own + d);
        EXPECT(check_put(c, check_key(c, "a"), check_text("other space")));
    }
    c->prefix[0] = own;
    for (int backward = 0; backward < 2; backward++) {
        struct kaiten_range range = { .from = check_key(c, ""), .backward = backward };
        struct kaiten_emit emit;
        fake_emit_init(&emit);
        EXPECT(check_scan(c, &range, &emit) == KAITEN_DONE);
        EXPECT(emit.n >= ORDERED);
        size_t mine = 0;
        for (size_t i = 0; i < emit.n; i++) {
            struct kaiten_bytes key = emit.rows[i].key;
            EXPECT(*(const unsigned char *)key.p == own);
            if (key.n >= sizeof c->prefix && memcmp(key.p, c->prefix, sizeof c->prefix) == 0)
                mine++;
        }
        EXPECT(mine == ORDERED);
        fake_emit_done(&emit);
    }
    return true;
}

/* The whole space by its one-byte prefix: to is the first byte of the next one. */
static bool
scan_space(struct check *c)
{
    EXPECT(ordered_write(c));
    unsigned char from = c->prefix[0], to = (unsigned char)(from + 1);
    for (int backward = 0; backward < 2; backward++) {
        struct kaiten_range range = { .from = { &from, 1 }, .to = { &to, 1 } };
        range.backward = backward;
        struct kaiten_emit emit;
        fake_emit_init(&emit);
        EXPECT(check_scan(c, &range, &emit) == KAITEN_DONE);
        EXPECT(emit.n >= ORDERED);
        for (size_t i = 1; i < emit.n; i++) {
            int order = check_compare(emit.rows[i - 1].key, emit.rows[i].key);
            EXPECT(backward ? order > 0 : order < 0);
        }
        fake_emit_done(&emit);
    }
    return true;
}

enum { MANY = 20000 };

/* Far more than a plugin reads in one go, with rows of very different sizes. */
static bool
scan_many(struct check *c)
{
    struct kaiten_bytes value = check_filled(c, 'v', 20000);
    for (uint64_t i = 0; i < MANY;) {
        struct kaiten_batch *batch = check_batch(c);
        for (size_t n = 0; n < KAITEN_BATCH_WRITES_MAX && i < MANY; n++, i++)
            check_set(batch, check_key_number(c, "n", i * 7919 % MANY),
                      (struct kaiten_bytes){ value.p, i % 500 == 0 ? 20000 : i % 90 });
        EXPECT(check_apply_one(c, batch).status == KAITEN_DONE);
    }
    for (int backward = 0; backward < 2; backward++) {
        struct kaiten_range range = check_all(c);
        range.backward = backward;
        struct kaiten_emit emit;
        fake_emit_init(&emit);
        EXPECT(check_scan(c, &range, &emit) == KAITEN_DONE);
        EXPECT(emit.n == MANY);
        for (uint64_t i = 0; i < MANY; i++) {
            uint64_t at = backward ? MANY - 1 - i : i;
            EXPECT(check_compare(emit.rows[i].key, check_key_number(c, "n", at)) == 0);
        }
        fake_emit_done(&emit);
    }
    return true;
}

/* What a map does, done the slow way. */
struct model {
    struct {
        struct kaiten_bytes key;
        unsigned char value; /* every byte of it */
        size_t value_n;
        bool present;
    } rows[340]; /* keys of up to 4 bytes, each one of four values */
    size_t n;
};

static struct kaiten_bytes
model_key(struct check *c, size_t number)
{
    static const unsigned char letters[] = { 0x00, 0x01, 0x80, 0xff };
    unsigned char name[4];
    size_t n = 0;
    for (number++; number > 0 && n < sizeof name; number = (number - 1) / 4)
        name[n++] = letters[(number - 1) % 4];
    return check_key_bytes(c, name, n);
}

static int
model_compare(const void *a, const void *b)
{
    const struct kaiten_bytes *x = a, *y = b; /* the key is the first member */
    return check_compare(*x, *y);
}

static bool
model_scan(struct check *c, const struct model *m)
{
    struct kaiten_range range = { .from = m->rows[check_random() % m->n].key,
                                  .to = m->rows[check_random() % m->n].key,
                                  .backward = check_random() % 2,
                                  .limit = check_random() % 20 };
    struct kaiten_emit emit;
    fake_emit_init(&emit);
    EXPECT(check_scan(c, &range, &emit) == KAITEN_DONE);
    size_t seen = 0;
    for (size_t i = 0; i < m->n; i++) {
        size_t at = range.backward ? m->n - 1 - i : i;
        if (!m->rows[at].present || check_compare(m->rows[at].key, range.from) < 0 ||
            check_compare(m->rows[at].key, range.to) >= 0 || (range.limit && seen == range.limit))
            continue;
        EXPECT(seen < emit.n);
        EXPECT(check_compare(emit.rows[seen].key, m->rows[at].key) == 0);
        EXPECT(emit.rows[seen].value.n == m->rows[at].value_n);
        for (size_t b = 0; b < m->rows[at].value_n; b++)
            EXPECT(((const unsigned char *)emit.rows[seen].value.p)[b] == m->rows[at].value);
        seen++;
    }
    EXPECT(seen == emit.n);
    fake_emit_done(&emit);
    return true;
}

static bool
scan_model(struct check *c)
{
    struct model m = { .n = sizeof m.rows / sizeof *m.rows };
    for (size_t i = 0; i < m.n; i++)
        m.rows[i].key = model_key(c, i);
    qsort(m.rows, m.n, sizeof *m.rows, model_compare);
    for (size_t i = 1; i < m.n; i++)
        EXPECT(check_compare(m.rows[i - 1].key, m.rows[i].key) < 0);
    for (int round = 0; round < 400; round++) {
        struct kaiten_batch *batch = check_batch(c);
        for (int i = 0; i < 5; i++) {
            size_t at = (check_random() % (m.n / 5)) * 5 + (size_t)i; /* no key twice */
            m.rows[at].present = check_random() % 3;
            m.rows[at].value = (unsigned char)check_random();
            m.rows[at].value_n = check_random() % 3 ? check_random() % 50 : 3000;
            if (m.rows[at].present)
                check_set(batch, m.rows[at].key,
                          check_filled(c, m.rows[at].value, m.rows[at].value_n));
            else
                check_delete(batch, m.rows[at].key);
        }
        EXPECT(check_apply_one(c, batch).status == KAITEN_DONE);
        EXPECT(model_scan(c, &m));
    }
    return true;
}

const struct check_case cases_map[] = {
    { "get: emits the row of each key that has one, in the order of keys", get_order, NEED_STORE },
    { "get: an absent key emits nothing and is no error", get_absent, NEED_STORE },
    { "get: takes KAITEN_BATCH_WRITES_MAX keys", get_many, NEED_STORE },
    { "get: when the daemon wants no more, returns KAITEN_DONE at once", get_stops, NEED_STORE },
    { "scan: in the order of memcmp, a shorter key before its extensions", scan_order, NEED_STORE },
    { "scan: backward: greatest key first", scan_backward, NEED_STORE },
    { "scan: from <= key < to", scan_bounds, NEED_STORE },
    { "scan: from <= key < to, also when neither has a row", scan_bounds_between, NEED_STORE },
    { "scan: limit: at most this many rows; 0: no limit", scan_limit, NEED_STORE },
    { "scan: when the daemon wants no more, returns KAITEN_DONE at once", scan_stops, NEED_STORE },
    { "scan: of nothing emits nothing", scan_empty, NEED_STORE },
    { "scan: to.n == 0: to the end of the space", scan_no_end, NEED_STORE },
    { "scan: to is the first byte of the next space: to the end of the space", scan_space,
      NEED_STORE },
    { "scan: emits every row of a large range, in key order", scan_many, NEED_STORE },
    { "scan: agrees with a simple map over random writes", scan_model, NEED_STORE },
    { NULL, NULL, 0 },
};
