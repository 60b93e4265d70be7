/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    GET_STACK = 4096,     /* most rows are far smaller */
    CHUNK_FIRST = 16384,  /* a scan starts small: most want one page of a list */
    BACKWARD_ROWS = 1024, /* a backward scan holds its page no longer than this */
    LOSSES_MAX = 2        /* a reader gives way to the writer this often, then it takes its turn */
};

/* A reader holds no more than a page or two while it waits for the next, so it loses most deadlocks
 * against the writer, and looking again is cheap. When it has lost too often it waits until the
 * writer has committed and keeps the next group off while it looks: nobody is left to lose to.
 * It shares the locks for one look and no longer: never in the sink. */
static void
reader_enter(struct bdb *bdb, int losses)
{
    if (losses >= LOSSES_MAX)
        pthread_rwlock_rdlock(&bdb->turn);
    pthread_rwlock_rdlock(&bdb->gate);
    bdb_holes_watch(true);
}

static void
reader_leave(struct bdb *bdb, int losses)
{
    bdb_holes_watch(false);
    pthread_rwlock_unlock(&bdb->gate);
    if (losses >= LOSSES_MAX)
        pthread_rwlock_unlock(&bdb->turn);
}

/* *ret_more: the sink wants another one. 0 or DB_VERIFY_BAD. */
static int
row_emit(struct bdb *bdb, struct kaiten_emit *emit, struct kaiten_bytes key,
         const unsigned char *stored, size_t n, bool *ret_more)
{
    uint64_t revision;
    size_t head = bdb_head_get(stored, n, &revision);
    if (head == 0)
        return DB_VERIFY_BAD;
    struct kaiten_bytes value = { stored + head, n - head };
    *ret_more = bdb->host.row(emit, key, value, revision);
    return 0;
}

static int
get_patiently(struct bdb *bdb, DB *db, struct kaiten_bytes key, DBT *data)
{
    int error = DB_LOCK_DEADLOCK;
    for (int losses = 0; losses <= LOSSES_MAX && bdb_is_deadlock(error); losses++) {
        DBT k = bdb_key(key);
        reader_enter(bdb, losses);
        error = db->get(db, NULL, &k, data, 0);
        reader_leave(bdb, losses);
    }
    return error;
}

/* 0, DB_NOTFOUND or another error. */
static int
get_one(struct bdb *bdb, struct kaiten_bytes key, struct kaiten_emit *emit, bool *ret_more)
{
    DB *db = bdb_space(bdb, key);
    if (!db)
        return DB_NOTFOUND;
    unsigned char stack[GET_STACK];
    DBT data = bdb_buffer(stack, sizeof stack);
    void *heap = NULL;
    int error = get_patiently(bdb, db, key, &data);
    if (error == DB_BUFFER_SMALL) {
        heap = malloc(BDB_ROW_MAX);
        data = bdb_buffer(heap, BDB_ROW_MAX);
        error = heap ? get_patiently(bdb, db, key, &data) : ENOMEM;
    }
    if (!error)
        error = row_emit(bdb, emit, key, data.data, data.size, ret_more);
    free(heap);
    return error;
}

enum kaiten_status
bdb_get(void *instance, const struct kaiten_bytes *keys, size_t nkeys, struct kaiten_emit *emit,
        struct kaiten_err *err)
{
    struct bdb *bdb = instance;
    bool more = true;
    for (size_t i = 0; i < nkeys && more; i++) {
        int error = get_one(bdb, keys[i], emit, &more);
        if (error && error != DB_NOTFOUND)
            return bdb_fail(bdb, err, error, "cannot read a row");
    }
    return KAITEN_DONE;
}

/* A scan on its way. Rows are read into the chunk with a cursor that is closed again before the
 * sink sees them: no page is locked while code of the daemon runs, and a deadlock costs no more
 * than reading one chunk again. */
struct walk {
    struct bdb *bdb;
    DB *db;
    const struct kaiten_range *range;
    struct kaiten_emit *emit;
    uint64_t left;                         /* rows that may still be emitted */
    unsigned char at[KAITEN_KEY_MAX + 1];  /* forward: from here on; backward: below this */
    size_t at_n;                           /* backward: 0 for the end of the space */
    unsigned char *chunk;
    size_t chunk_n;                        /* bytes of it that are used this time */
    int losses;                            /* of deadlocks, for this chunk */
    struct bdb_leaf leaf;                  /* open: rows are read past the library */
    unsigned leaves;                       /* in a row; 0: the next one is to be found */
    bool done;
};

/* What a backward scan leaves in the chunk, followed by the bytes of key and row. */
struct item {
    uint32_t key_n, row_n;
};

/* The end of the space may be written as no end, or as the first byte of the next space. */
static bool
ends_with_space(const struct kaiten_range *range)
{
    const unsigned char *from = range->from.p, *to = range->to.p;
    return range->to.n == 0 || (range->to.n == 1 && to[0] == from[0] + 1);
}

/* Hands one row to the sink unless the range or the limit has ended. 0 or DB_VERIFY_BAD. */
static int
walk_emit(struct walk *w, struct kaiten_bytes key, const unsigned char *row, size_t row_n)
{
    const struct kaiten_range *range = w->range;
    if (range->backward)
        w->done = bdb_compare(key, range->from) < 0;
    else
        w->done = !ends_with_space(range) && bdb_compare(key, range->to) >= 0;
    if (w->done)
        return 0;
    bool more = false;
    int error = row_emit(w->bdb, w->emit, key, row, row_n, &more);
    w->done = !more || --w->left == 0;
    return error;
}

/* To the smallest key above the last one. */
static void
walk_behind(struct walk *w, struct kaiten_bytes last)
{
    memcpy(w->at, last.p, last.n);
    w->at[last.n] = 0;
    w->at_n = last.n + 1;
}

/* One bulk read from w->at on. */
static int
forward_read(struct walk *w, DBT *ret_data)
{
    DBC *cursor;
    int error = w->db->cursor(w->db, NULL, &cursor, 0);
    if (error)
        return error;
    unsigned char found[sizeof w->at];
    memcpy(found, w->at, w->at_n);
    DBT key = bdb_buffer(found, sizeof found);
    key.size = (u_int32_t)w->at_n;
    DBT data = bdb_buffer(w->chunk, w->chunk_n);
    error = cursor->get(cursor, &key, &data, DB_SET_RANGE | DB_MULTIPLE_KEY);
    int closed = cursor->close(cursor);
    *ret_data = data;
    return error ? error : closed;
}

static int
forward_emit(struct walk *w, DBT *data)
{
    void *next;
    struct kaiten_bytes last = { NULL, 0 };
    DB_MULTIPLE_INIT(next, data);
    while (!w->done) {
        void *key, *row;
        u_int32_t key_n, row_n;
        DB_MULTIPLE_KEY_NEXT(next, data, key, key_n, row, row_n);
        if (!next)
            break;
        if (key_n > KAITEN_KEY_MAX)
            return DB_VERIFY_BAD;
        last = (struct kaiten_bytes){ key, key_n };
        int error = walk_emit(w, last, row, row_n);
        if (error)
            return error;
    }
    if (w->done || last.n == 0) {
        w->done = true;
        return 0;
    }
    walk_behind(w, last);
    return 0;
}

static int
forward_step(struct walk *w)
{
    DBT data;
    reader_enter(w->bdb, w->losses);
    int error = forward_read(w, &data);
    if (error == DB_BUFFER_SMALL && w->chunk_n < BDB_CHUNK_MAX) {
        w->chunk_n = BDB_CHUNK_MAX;
        error = forward_read(w, &data);
    }
    reader_leave(w->bdb, w->losses);
    if (error)
        return error;
    return forward_emit(w, &data);
}

/* Sets the cursor on the greatest row below w->at. */
static int
backward_seek(struct walk *w, DBC *cursor, DBT *key, DBT *data)
{
    if (w->at_n == 0)
        return cursor->get(cursor, key, data, DB_LAST);
    memcpy(key->data, w->at, w->at_n);
    key->size = (u_int32_t)w->at_n;
    DBT nothing = { .flags = DB_DBT_USERMEM | DB_DBT_PARTIAL };
    int error = cursor->get(cursor, key, &nothing, DB_SET_RANGE);
    if (error == DB_NOTFOUND)
        return cursor->get(cursor, key, data, DB_LAST);
    return error ? error : cursor->get(cursor, key, data, DB_PREV);
}

/* Fills the chunk with items, greatest key first. */
static int
backward_fill(struct walk *w, DBC *cursor, size_t *ret_items)
{
    size_t room = BDB_CHUNK_MAX, items = 0;
    uint64_t most = w->left < BACKWARD_ROWS ? w->left : BACKWARD_ROWS;
    unsigned char *p = w->chunk;
    int error = 0;
    while (items < most && room >= sizeof(struct item) + KAITEN_KEY_MAX + 1 + BDB_ROW_MAX) {
        DBT key = bdb_buffer(p + sizeof(struct item), KAITEN_KEY_MAX + 1);
        DBT data = bdb_buffer(p + sizeof(struct item) + KAITEN_KEY_MAX + 1, BDB_ROW_MAX);
        error = items == 0 ? backward_seek(w, cursor, &key, &data)
                           : cursor->get(cursor, &key, &data, DB_PREV);
        if (error)
            break;
        if (key.size > KAITEN_KEY_MAX)
            return DB_VERIFY_BAD;
        struct item item = { key.size, data.size };
        memcpy(p, &item, sizeof item);
        memmove(p + sizeof item + key.size, data.data, data.size);
        size_t used = sizeof item + key.size + data.size;
        p += used;
        room -= used;
        items++;
        if (bdb_compare((struct kaiten_bytes){ key.data, key.size }, w->range->from) < 0)
            break;
    }
    *ret_items = items;
    return error;
}

static int
backward_emit(struct walk *w, size_t items)
{
    const unsigned char *p = w->chunk;
    int error = 0;
    for (size_t i = 0; i < items && !w->done && !error; i++) {
        struct item item;
        memcpy(&item, p, sizeof item);
        const unsigned char *key = p + sizeof item, *row = key + item.key_n;
        error = walk_emit(w, (struct kaiten_bytes){ key, item.key_n }, row, item.row_n);
        memcpy(w->at, key, item.key_n);
        w->at_n = item.key_n;
        p = row + item.row_n;
    }
    return error;
}

static int
backward_read(struct walk *w, size_t *ret_items)
{
    DBC *cursor;
    int error = w->db->cursor(w->db, NULL, &cursor, 0);
    if (error)
        return error;
    error = backward_fill(w, cursor, ret_items);
    int closed = cursor->close(cursor);
    return error ? error : closed;
}

static int
backward_step(struct walk *w)
{
    size_t items = 0;
    reader_enter(w->bdb, w->losses);
    int error = backward_read(w, &items);
    reader_leave(w->bdb, w->losses);
    if (error && error != DB_NOTFOUND)
        return error;
    bool last = error == DB_NOTFOUND;
    error = backward_emit(w, items);
    w->done = w->done || last;
    return error;
}

/* --- past the library --------------------------------------------------------------------- */

static int
odd_step(struct walk *w)
{
    w->leaves = 0;
    if (atomic_load(w->leaf.written))
        bdb_leaf_close(&w->leaf);
    return forward_step(w);
}

/* The rows of one leaf. What is found on the way to a key may begin with smaller ones; later on
 * they would be a circle. */
static int
leaf_step(struct walk *w)
{
    struct kaiten_bytes key, row, last = { NULL, 0 }, at = { w->at, w->at_n };
    if (w->leaves == 0 && !bdb_leaf_find(&w->leaf, at))
        return odd_step(w);
    enum bdb_leaf_found found = bdb_leaf_read(&w->leaf);
    if (found == BDB_LEAF_ODD)
        return odd_step(w);
    w->done = found == BDB_LEAF_END;
    w->leaves++;
    bool circle = false;
    while (!w->done && !circle && bdb_leaf_row(&w->leaf, &key, &row)) {
        bool before = bdb_compare(key, at) < 0;
        circle = before && w->leaves > 1;
        if (before)
            continue;
        int error = walk_emit(w, key, row.p, row.n);
        if (error)
            return error;
        last = key;
    }
    if (last.n > 0)
        walk_behind(w, last);
    return circle ? odd_step(w) : 0;
}

static int
walk_step(struct walk *w)
{
    if (w->range->backward)
        return backward_step(w);
    return w->leaf.fd >= 0 ? leaf_step(w) : forward_step(w);
}

static int
walk_run(struct walk *w)
{
    while (!w->done) {
        int error = walk_step(w);
        if (error == DB_NOTFOUND)
            return 0;
        if (bdb_is_deadlock(error) && w->losses++ < LOSSES_MAX)
            continue;
        if (error)
            return error;
        w->losses = 0;
        w->chunk_n = w->chunk_n * 4 < BDB_CHUNK_MAX ? w->chunk_n * 4 : BDB_CHUNK_MAX;
    }
    return 0;
}

/* A scan that wants so much of a space wants most of its file. */
static bool
is_whole(const struct kaiten_range *range)
{
    return range->from.n <= 2 && !range->limit && !range->backward;
}

static bool
range_is_valid(const struct kaiten_range *range)
{
    const unsigned char *from = range->from.p, *to = range->to.p;
    if (range->from.n == 0 || range->from.n > KAITEN_KEY_MAX || range->to.n > KAITEN_KEY_MAX)
        return false;
    return ends_with_space(range) || to[0] == from[0];
}

static void
walk_start(struct walk *w)
{
    const struct kaiten_range *range = w->range;
    struct kaiten_bytes at = range->from;
    if (range->backward)
        at = ends_with_space(range) ? (struct kaiten_bytes){ NULL, 0 } : range->to;
    if (at.n > 0)
        memcpy(w->at, at.p, at.n);
    w->at_n = at.n;
    w->left = range->limit ? range->limit : UINT64_MAX;
    w->chunk_n = CHUNK_FIRST;
}

enum kaiten_status
bdb_scan(void *instance, const struct kaiten_range *range, struct kaiten_emit *emit,
         struct kaiten_err *err)
{
    struct bdb *bdb = instance;
    if (!range_is_valid(range)) {
        bdb->host.error(err, "a range must start in a space and end in it");
        return KAITEN_FAILED;
    }
    struct walk w = { .bdb = bdb, .range = range, .emit = emit, .leaf.fd = -1 };
    w.db = bdb_space(bdb, range->from);
    if (!w.db)
        return KAITEN_DONE;
    w.chunk = atomic_exchange(&bdb->chunk, NULL);
    if (!w.chunk)
        w.chunk = malloc(BDB_CHUNK_MAX);
    if (!w.chunk)
        return bdb_fail(bdb, err, ENOMEM, "cannot scan");
    walk_start(&w);
    if (is_whole(range)) {
        bdb_leaf_open(&w.leaf, bdb, *(const unsigned char *)range->from.p);
        bdb_read_ahead(bdb, *(const unsigned char *)range->from.p);
    }
    int error = walk_run(&w);
    bdb_leaf_close(&w.leaf);
    free(atomic_exchange(&bdb->chunk, w.chunk));
    return error ? bdb_fail(bdb, err, error, "cannot scan") : KAITEN_DONE;
}
