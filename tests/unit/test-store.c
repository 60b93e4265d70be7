/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The store: seals, statuses, scans, batches. */
#include "config.h"

#include "daemon/store_walk.h"
#include "tests/unit/store-core.h"

/* --- behind the store's back -------------------------------------------------------------- */

struct raw {
    struct kaiten_emit base;
    unsigned char bytes[4096];
    size_t n;
    bool found;
};

static bool
raw_row(struct kaiten_emit *base, struct kaiten_bytes key, struct kaiten_bytes value,
        uint64_t revision)
{
    (void)key;
    (void)revision;
    struct raw *raw = (struct raw *)base;
    memcpy(raw->bytes, value.p, value.n);
    raw->n = value.n;
    raw->found = true;
    return true;
}

static void
raw_get(const char *key, struct raw *raw)
{
    const struct kaiten_bytes k = { key, strlen(key) };
    *raw = (struct raw){ .base = { raw_row } };
    assert_int_equal(kaiten_storage_plugin.get(core.disk->memory, &k, 1, &raw->base, NULL), 0);
    assert_true(raw->found);
}

static void
raw_set(const char *key, const void *value, size_t n)
{
    const struct kaiten_write w = { KAITEN_SET, { key, strlen(key) }, { value, n } };
    const struct kaiten_batch b = { .writes = &w, .nwrites = 1 };
    struct kaiten_outcome outcome;
    assert_int_equal(kaiten_storage_plugin.apply(core.disk->memory, &b, 1, &outcome, NULL), 0);
}

/* --- through it --------------------------------------------------------------------------- */

static int
get(struct store *store, const char *key, struct store_row *row)
{
    const struct kt_str k = kt_str(key);
    call.err = (struct kt_error){ .kind = KT_OK };
    return store_get(&call, store, &k, 1, row);
}

static int
count_space(struct store *store, char space, size_t *n)
{
    const char from[] = { space }, to[] = { (char)(space + 1) };
    const struct store_range range = { { from, 1 }, { to, 1 }, false, 0 };
    *n = 0;
    call.err = (struct kt_error){ .kind = KT_OK };
    return store_scan(&call, store, &range, count_row, n);
}

/* The caller learns an id, and nothing else. */
static void
assert_withheld(enum kt_kind kind)
{
    assert_int_equal(call.err.kind, kind);
    assert_int_equal(strlen(call.err.id), 36);
    assert_null(memmem(call.err.detail.p, call.err.detail.n, "secret", 6));
    assert_null(memmem(call.err.detail.p, call.err.detail.n, "payload", 7));
    assert_null(memmem(call.err.detail.p, call.err.detail.n, "told", 4));
    assert_null(call.err.code);
}

static void
rows_come_back(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        struct kt_str value;
    } rows[] = { { "aone", KT_LIT("payload") },
                 { "atwo", KT_LIT("") },
                 { "b", KT_LIT("\0\1\2\xff") } };
    struct store *s = core.svc.store;
    struct store_row row;
    for (size_t i = 0; i < CORE_COUNT(rows); i++) {
        assert_int_equal(set(s, rows[i].key, rows[i].value), KAITEN_DONE);
        assert_int_equal(get(s, rows[i].key, &row), KT_OK);
        assert_true(row.value.p != NULL);
        assert_true(kt_str_eq(row.value, rows[i].value));
        assert_int_equal(row.revision, i + 1);
    }
    assert_int_equal(get(s, "athree", &row), KT_OK);
    assert_null(row.value.p);
    const struct kt_str keys[] = { KT_LIT("b"), KT_LIT("nowhere"), KT_LIT("aone"), KT_LIT("b") };
    struct store_row found[4];
    assert_int_equal(store_get(&call, s, keys, 4, found), KT_OK);
    assert_int_equal(found[0].revision, 3);
    assert_null(found[1].value.p);
    assert_int_equal(found[2].revision, 1);
    assert_true(kt_str_eq(found[3].value, found[0].value));
}

/* --- seals -------------------------------------------------------------------------------- */

static void
values_are_not_stored_bare(void **state)
{
    (void)state;
    struct raw raw;
    assert_int_equal(set(core.svc.store, "aone", KT_LIT("payload")), KAITEN_DONE);
    raw_get("aone", &raw);
    assert_int_equal(raw.n, 1 + 1 + DIGEST_MAC_BYTES + 7);
    assert_int_equal(raw.bytes[0], 2);
}

/* A row that was sealed before the tag became shorter. */
static void
seals_of_the_first_format_are_good(void **state)
{
    (void)state;
    struct store_row row;
    unsigned char raw[1 + 4 + DIGEST_MAC_BYTES + 7] = { 1 };
    memcpy(raw + 1, digest_keys_fingerprint(core.svc.keys, 0), 4);
    const struct kt_str parts[] = { KT_LIT("aone"), { (const char *)raw + 1, 4 },
                                    KT_LIT("payload") };
    digest_record_mac(core.svc.keys, 0, parts, 3, raw + 1 + 4);
    memcpy(raw + sizeof raw - 7, "payload", 7);
    raw_set("aone", raw, sizeof raw);
    assert_int_equal(get(core.svc.store, "aone", &row), KT_OK);
    assert_true(kt_str_is(row.value, "payload"));
    for (size_t i = 0; i < sizeof raw; i++) {
        raw[i] ^= 1;
        raw_set("aone", raw, sizeof raw);
        if (get(core.svc.store, "aone", &row) != KT_INTERNAL)
            fail_msg("byte %zu was changed", i);
        raw[i] ^= 1;
    }
}

static void
assert_refused(const char *what)
{
    struct store_row row = { .value = KT_LIT("untouched") };
    size_t n;
    if (get(core.svc.store, "aone", &row) != KT_INTERNAL)
        fail_msg("get takes it: %s", what);
    assert_null(row.value.p);
    assert_withheld(KT_INTERNAL);
    if (count_space(core.svc.store, 'a', &n) != KT_INTERNAL)
        fail_msg("scan takes it: %s", what);
    assert_int_equal(n, 0);
    assert_withheld(KT_INTERNAL);
}

static void
an_edited_value_is_refused(void **state)
{
    (void)state;
    struct raw raw;
    char what[64];
    assert_int_equal(set(core.svc.store, "aone", KT_LIT("payload")), KAITEN_DONE);
    raw_get("aone", &raw);
    for (size_t bit = 0; bit < 8 * raw.n; bit++) {
        raw.bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        raw_set("aone", raw.bytes, raw.n);
        snprintf(what, sizeof what, "bit %zu of byte %zu turned", bit % 8, bit / 8);
        assert_refused(what);
        raw.bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        kt_arena_reset(&arena);
    }
    for (size_t n = 0; n < raw.n; n++) {
        raw_set("aone", raw.bytes, n);
        snprintf(what, sizeof what, "cut at %zu", n);
        assert_refused(what);
        kt_arena_reset(&arena);
    }
    raw.bytes[raw.n] = 0;
    raw_set("aone", raw.bytes, raw.n + 1);
    assert_refused("one byte more");
    raw_set("aone", raw.bytes, raw.n);
    struct store_row row;
    assert_int_equal(get(core.svc.store, "aone", &row), KT_OK);
}

static void
a_value_is_good_under_its_own_key_only(void **state)
{
    (void)state;
    struct raw raw;
    assert_int_equal(set(core.svc.store, "atwo", KT_LIT("payload")), KAITEN_DONE);
    raw_get("atwo", &raw);
    assert_int_equal(set(core.svc.store, "aone", KT_LIT("payload")), KAITEN_DONE);
    raw_set("aone", raw.bytes, raw.n);
    struct store_row row;
    assert_int_equal(get(core.svc.store, "aone", &row), KT_INTERNAL);
    assert_withheld(KT_INTERNAL);
    assert_int_equal(get(core.svc.store, "atwo", &row), KT_OK);
    /* Neither may a byte wander from the key into the value. */
    raw_set("atwopay", raw.bytes, raw.n);
    assert_int_equal(get(core.svc.store, "atwopay", &row), KT_INTERNAL);
}

static struct digest_keys *
keys_of(const char *text)
{
    char path[160];
    struct digest_keys *keys;
    struct digest_error why;
    snprintf(path, sizeof path, "%s/other.key", core.folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    assert_true(digest_keys_read(path, &keys, NULL, &why));
    unlink(path);
    return keys;
}

#define KEY_A "kaiten-key-1 a AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"
#define KEY_B "kaiten-key-1 b AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\n"

static void
keys_may_be_retired_but_not_exchanged(void **state)
{
    (void)state;
    struct digest_keys *a = keys_of(KEY_A), *b = keys_of(KEY_B), *ba = keys_of(KEY_B KEY_A);
    static const struct {
        const char *what;
        int sealed_by, read_by;
        enum kt_kind kind;
    } cases[] = {
        { "the same", 0, 0, KT_OK },
        { "another", 0, 1, KT_INTERNAL },
        { "a retired one", 0, 2, KT_OK },
        { "the current one of two", 1, 2, KT_OK },
        { "two, read by the older alone", 2, 0, KT_INTERNAL },
        { "two, read by the newer alone", 2, 1, KT_OK },
    };
    struct digest_keys *keys[] = { a, b, ba };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        struct store_row row;
        store_set_keys(core.svc.store, keys[cases[i].sealed_by]);
        assert_int_equal(set(core.svc.store, "aone", KT_LIT("payload")), KAITEN_DONE);
        store_set_keys(core.svc.store, keys[cases[i].read_by]);
        if ((enum kt_kind)get(core.svc.store, "aone", &row) != cases[i].kind)
            fail_msg("%s", cases[i].what);
    }
    store_set_keys(core.svc.store, core.svc.keys);
    digest_keys_free(a);
    digest_keys_free(b);
    digest_keys_free(ba);
}

/* --- statuses ----------------------------------------------------------------------------- */

static void
statuses_become_kinds(void **state)
{
    (void)state;
    static const struct {
        int says;
        enum kt_kind kind;
    } cases[] = {
        { KAITEN_DONE, KT_OK },
        { KAITEN_CONFLICT, KT_INTERNAL },
        { KAITEN_RETRY, KT_UNAVAILABLE },
        { KAITEN_FULL, KT_UNAVAILABLE },
        { KAITEN_CORRUPT, KT_INTERNAL },
        { KAITEN_UNSUPPORTED, KT_INTERNAL },
        { KAITEN_FAILED, KT_INTERNAL },
        { KAITEN_UNKNOWN, KT_INTERNAL },
        { 8, KT_INTERNAL },
        { -1, KT_INTERNAL },
        { 0x4b31, KT_INTERNAL },
    };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        struct store_row row;
        size_t n;
        bool empty = true;
        atomic_store(&core.disk->get_says, cases[i].says);
        atomic_store(&core.disk->scan_says, cases[i].says);
        assert_int_equal(get(core.svc.store, "aone", &row), cases[i].kind);
        if (cases[i].kind != KT_OK)
            assert_withheld(cases[i].kind);
        assert_int_equal(count_space(core.svc.store, 'a', &n), cases[i].kind);
        if (cases[i].kind != KT_OK)
            assert_withheld(cases[i].kind);
        call.err = (struct kt_error){ .kind = KT_OK };
        assert_int_equal(store_is_empty(&call, core.svc.store, &empty), cases[i].kind);
        assert_true(empty);
    }
}

static void
too_many_keys_are_refused(void **state)
{
    (void)state;
    struct kt_str keys[KAITEN_BATCH_WRITES_MAX + 1];
    struct store_row rows[KAITEN_BATCH_WRITES_MAX + 1];
    for (size_t i = 0; i < CORE_COUNT(keys); i++)
        keys[i] = KT_LIT("aone");
    assert_int_equal(store_get(&call, core.svc.store, keys, CORE_COUNT(keys) - 1, rows), KT_OK);
    assert_int_equal(store_get(&call, core.svc.store, keys, CORE_COUNT(keys), rows), KT_INTERNAL);
}

static void
health_is_the_plugins(void **state)
{
    (void)state;
    char why[64] = "";
    assert_true(store_is_healthy(core.svc.store, why, sizeof why));
    assert_string_equal(why, "");
    atomic_store(&core.disk->health_says, KAITEN_RETRY);
    assert_false(store_is_healthy(core.svc.store, why, sizeof why));
    assert_string_equal(why, "not healthy as told, in /secret/place");
    assert_false(store_is_durable(core.svc.store));
}

/* Otherwise a store with tokens in it would be given a fresh key. */
static void
emptiness_looks_into_every_space(void **state)
{
    (void)state;
    static const char spaces[] = "acehimstx";
    for (const char *p = spaces; *p; p++) {
        bool empty = false;
        core_reset(&core);
        assert_int_equal(store_is_empty(&call, core.svc.store, &empty), KT_OK);
        assert_true(empty);
        const char key[] = { *p, 'k', '\0' };
        raw_set(key, "not sealed", 10);
        assert_int_equal(store_is_empty(&call, core.svc.store, &empty), KT_OK);
        if (empty)
            fail_msg("nobody looks into space %c", *p);
    }
}

/* --- scans -------------------------------------------------------------------------------- */

struct seen {
    char keys[64];
    size_t n, stop_after;
    int says;
};

static int
see_row(void *ctx, const struct store_row *row)
{
    struct seen *seen = ctx;
    size_t used = strlen(seen->keys);
    snprintf(seen->keys + used, sizeof seen->keys - used, "%.*s ", KT_FMT(row->key));
    assert_true(kt_str_eq(row->key, row->value));
    assert_true(row->revision > 0);
    return ++seen->n == seen->stop_after ? seen->says : KT_OK;
}

static void
scans_keep_order_limit_and_patience(void **state)
{
    (void)state;
    static const char *const keys[] = { "a1", "a2", "a3", "a30", "a4", "b1" };
    static const struct {
        const char *from, *to, *seen;
        bool backward;
        uint64_t limit;
        size_t stop_after;
        int says;
    } cases[] = {
        { "a", "b", "a1 a2 a3 a30 a4 ", false, 0, 0, 0 },
        { "a", "b", "a4 a30 a3 a2 a1 ", true, 0, 0, 0 },
        { "a2", "a4", "a2 a3 a30 ", false, 0, 0, 0 },
        { "a2", "a4", "a30 a3 ", true, 2, 0, 0 },
        { "a", "b", "a1 a2 a3 ", false, 3, 0, 0 },
        { "a", "b", "a1 a2 ", false, 0, 2, KT_CONFLICT },
        { "a", "b", "a4 ", true, 0, 1, KT_UNAVAILABLE },
        { "c", "d", "", false, 0, 0, 0 },
    };
    for (size_t i = 0; i < CORE_COUNT(keys); i++)
        assert_int_equal(set(core.svc.store, keys[i], kt_str(keys[i])), KAITEN_DONE);
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        struct seen seen = { .stop_after = cases[i].stop_after, .says = cases[i].says };
        const struct store_range range = { kt_str(cases[i].from), kt_str(cases[i].to),
                                           cases[i].backward, cases[i].limit };
        assert_int_equal(store_scan(&call, core.svc.store, &range, see_row, &seen),
                         cases[i].says);
        assert_string_equal(seen.keys, cases[i].seen);
    }
}

static const char *
walk_piece(struct store_walk *w, size_t limit, int says, bool *ret_last)
{
    static struct seen seen;
    seen = (struct seen){ .stop_after = says == KT_OK ? 0 : 1, .says = says };
    assert_int_equal(store_walk_piece(&call, w, limit, see_row, &seen, ret_last), says);
    return seen.keys;
}

static void
a_walk_goes_on_behind_what_was_seen(void **state)
{
    (void)state;
    static const char *const keys[] = { "a1", "a1\xff", "a2", "a3", "a30", "a4", "b1" };
    struct store_walk w;
    bool last;
    for (size_t i = 0; i < CORE_COUNT(keys); i++)
        assert_int_equal(set(core.svc.store, keys[i], kt_str(keys[i])), KAITEN_DONE);
    store_walk_begin(&w, 'a');
    assert_string_equal(walk_piece(&w, 3, KT_OK, &last), "a1 a1\xff a2 ");
    assert_false(last);
    /* Written in between: behind the last row, and before it. */
    assert_int_equal(set(core.svc.store, "a2+", KT_LIT("a2+")), KAITEN_DONE);
    assert_int_equal(set(core.svc.store, "a0", KT_LIT("a0")), KAITEN_DONE);
    assert_string_equal(walk_piece(&w, 9, KT_CONFLICT, &last), "a2+ ");
    assert_string_equal(walk_piece(&w, 3, KT_OK, &last), "a3 a30 a4 ");
    assert_false(last); /* nobody has looked */
    assert_string_equal(walk_piece(&w, 3, KT_OK, &last), "");
    assert_true(last);

    store_walk_begin(&w, 'a');
    assert_string_equal(walk_piece(&w, 5, KT_OK, &last), "a0 a1 a1\xff a2 a2+ ");
    store_walk_skip(&w, 2); /* what begins with a2 */
    assert_string_equal(walk_piece(&w, 1, KT_OK, &last), "a3 ");
    store_walk_skip(&w, 2);
    assert_string_equal(walk_piece(&w, 9, KT_OK, &last), "a4 ");
    assert_true(last);

    /* The last byte that a key can have leads to the next prefix. */
    store_walk_begin(&w, 'a');
    assert_string_equal(walk_piece(&w, 3, KT_OK, &last), "a0 a1 a1\xff ");
    store_walk_skip(&w, 3);
    assert_string_equal(walk_piece(&w, 1, KT_OK, &last), "a2 ");

    store_walk_begin(&w, 'b');
    assert_string_equal(walk_piece(&w, 2, KT_OK, &last), "b1 ");
    assert_true(last);
    store_walk_skip(&w, 1);
    assert_string_equal(walk_piece(&w, 2, KT_OK, &last), "");
    assert_true(last);
}

/* Seals of short rows are looked at several at a time: what was changed is found wherever it is, and
 * whatever stands before it comes first. */
static void
a_scan_finds_what_was_changed(void **state)
{
    (void)state;
    enum { ROWS = 11, HEAD = 1 + 1 + DIGEST_MAC_BYTES };
    static const size_t bytes[] = { 0, 1, 2, HEAD - 1, HEAD };
    static char value[300];
    char key[8];
    size_t n;
    struct raw raw, other;
    memset(value, 'v', sizeof value);
    for (int i = 0; i < ROWS; i++) { /* one of them is long */
        snprintf(key, sizeof key, "a%02d", i);
        const struct kt_str v = { value, i == 6 ? sizeof value : (size_t)i + 1 };
        assert_int_equal(set(core.svc.store, key, v), KAITEN_DONE);
    }
    assert_int_equal(count_space(core.svc.store, 'a', &n), KT_OK);
    assert_int_equal(n, ROWS);
    raw_get("a00", &other);
    for (size_t i = 0; i < ROWS; i++) {
        snprintf(key, sizeof key, "a%02zu", i);
        raw_get(key, &raw);
        for (size_t k = 0; k < CORE_COUNT(bytes); k++) {
            raw.bytes[bytes[k]] ^= 4;
            raw_set(key, raw.bytes, raw.n);
            raw.bytes[bytes[k]] ^= 4;
            assert_int_equal(count_space(core.svc.store, 'a', &n), KT_INTERNAL);
            assert_withheld(KT_INTERNAL);
            assert_int_equal(n, i);
        }
        if (i > 0) {
            raw_set(key, other.bytes, other.n); /* good, under another key */
            assert_int_equal(count_space(core.svc.store, 'a', &n), KT_INTERNAL);
            assert_int_equal(n, i);
        }
        raw_set(key, raw.bytes, raw.n);
    }
    assert_int_equal(count_space(core.svc.store, 'a', &n), KT_OK);
    assert_int_equal(n, ROWS);
}

/* --- batches ------------------------------------------------------------------------------ */

static void
a_batch_that_is_too_large_has_failed(void **state)
{
    (void)state;
    static char big[KAITEN_VALUE_MAX + 1];
    const struct kt_str key = { big, KAITEN_KEY_MAX }, long_key = { big, KAITEN_KEY_MAX + 1 };
    const struct kt_str most = { big, KAITEN_VALUE_MAX - 18 };
    const struct kt_str more = { big, KAITEN_VALUE_MAX - 17 };
    const struct refusal again = { .kind = KT_OK };
    const struct kt_str none = { NULL, 0 };
    struct batch *b = batch_new(&arena);
    batch_set(b, key, most);
    for (size_t i = 1; i < BATCH_WRITES_MAX; i++)
        batch_delete(b, key);
    for (size_t i = 0; i < BATCH_CONDS_MAX; i++)
        batch_if_absent(b, key, again);
    for (size_t i = 0; i < BATCH_EFFECTS_MAX; i++)
        batch_effect(b, EFFECT_REVOKE);
    assert_false(b->failed);
    struct batch full = *b;
    batch_delete(b, key);
    assert_true(b->failed);
    *b = full;
    batch_if_absent(b, key, again);
    assert_true(b->failed);
    *b = full;
    assert_non_null(batch_effect(b, EFFECT_TOKEN));
    assert_true(b->failed);
    assert_int_equal(b->neffects, BATCH_EFFECTS_MAX);

    const struct {
        struct kt_str key, value;
    } cases[] = { { long_key, KT_LIT("v") },
                  { key, more },
                  { none, KT_LIT("v") },  /* memory was short */
                  { key, none } };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        b = batch_new(&arena);
        batch_set(b, cases[i].key, cases[i].value);
        assert_true(b->failed);
        assert_int_equal(b->nwrites, 0);
    }
    b = batch_new(&arena);
    batch_if_absent(b, long_key, again);
    assert_true(b->failed);
}

static void
conditions_are_named_by_their_number(void **state)
{
    (void)state;
    struct store_row row;
    char why[64];
    assert_int_equal(set(core.svc.store, "aone", KT_LIT("1")), KAITEN_DONE);
    assert_int_equal(get(core.svc.store, "aone", &row), KT_OK);
    assert_int_equal(set(core.svc.store, "atwo", KT_LIT("1")), KAITEN_DONE);
    struct batch *b[3];
    struct kaiten_outcome outcomes[3];
    for (size_t i = 0; i < 3; i++) {
        b[i] = batch_new(&arena);
        batch_if_at(b[i], &row);
        batch_set(b[i], KT_LIT("aone"), KT_LIT("2"));
    }
    batch_if_absent(b[0], KT_LIT("atwo"), (struct refusal){ .kind = KT_OK });
    batch_set(b[0], KT_LIT("atwo"), KT_LIT("2"));
    assert_int_equal(store_apply(core.svc.store, b, 3, outcomes, why, sizeof why), KAITEN_DONE);
    assert_int_equal(outcomes[0].status, KAITEN_CONFLICT);
    assert_int_equal(outcomes[0].failed, 1);
    assert_int_equal(outcomes[1].status, KAITEN_DONE);
    assert_int_equal(outcomes[2].status, KAITEN_CONFLICT);
    assert_int_equal(outcomes[2].failed, 0);
    assert_int_equal(get(core.svc.store, "atwo", &row), KT_OK);
    assert_true(kt_str_is(row.value, "1"));
}

static void
why_it_failed_is_for_the_log(void **state)
{
    (void)state;
    char why[64] = "";
    struct kaiten_outcome outcome;
    struct batch *b = batch_new(&arena);
    batch_set(b, KT_LIT("aone"), KT_LIT("1"));
    disk_fail(core.disk, KAITEN_FULL, KAITEN_DONE, 0, 1);
    assert_int_equal(store_apply(core.svc.store, &b, 1, &outcome, why, sizeof why), KAITEN_FULL);
    assert_string_equal(why, "apply fails as told, in /secret/place");
    /* A plugin that says done and says nothing of a batch has not done it. */
    assert_int_not_equal(outcome.status, KAITEN_CONFLICT);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rows_come_back),
        TEST(values_are_not_stored_bare),
        TEST(seals_of_the_first_format_are_good),
        TEST(an_edited_value_is_refused),
        TEST(a_value_is_good_under_its_own_key_only),
        TEST(keys_may_be_retired_but_not_exchanged),
        TEST(statuses_become_kinds),
        TEST(too_many_keys_are_refused),
        TEST(health_is_the_plugins),
        TEST(emptiness_looks_into_every_space),
        TEST(scans_keep_order_limit_and_patience),
        TEST(a_walk_goes_on_behind_what_was_seen),
        TEST(a_scan_finds_what_was_changed),
        TEST(a_batch_that_is_too_large_has_failed),
        TEST(conditions_are_named_by_their_number),
        TEST(why_it_failed_is_for_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
