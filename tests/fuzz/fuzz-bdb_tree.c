/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What storage-bdb reads of a database file past the library: bytes as they come, the same with all
 * sums made right, and a good file that somebody has changed who knows about them. Whatever is found
 * whole must be so for the library, and of such a file the leaves give the library's rows, in its
 * order. */
#include "config.h"

#include "tests/fuzz/fuzz-change.h"
#include "tests/fuzz/fuzz-folder.h"
#include "tests/unit/bdb-file.h"

#include <stdio.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A damaged page is looked at again after a moment: which no input needs to wait for. */
int __wrap_nanosleep(const struct timespec *time, struct timespec *left);
int
__wrap_nanosleep(const struct timespec *time, struct timespec *left)
{
    (void)time;
    (void)left;
    return 0;
}

enum {
    FILE_MAX = 20 * BDB_PAGE,
    ROWS = 100,
    ROW = 200,
    ROW_LONG = 6000, /* has pages of its own */
    GONE_FROM = 30,
    GONE_TO = 80
};
static const char name[] = "space-74.db";

static void __attribute__((format(printf, 2, 3)))
no_log(enum kaiten_level level, const char *fmt, ...)
{
    (void)level;
    (void)fmt;
}

/* How many pages the file says it has; of one that says nothing there ought to be the first. */
static uint64_t
pages_said(const uint8_t *data, size_t size)
{
    unsigned char page[BDB_PAGE];
    if (size < BDB_PAGE || data[PAGE_TYPE] != TYPE_META)
        return 1;
    memcpy(page, data, sizeof page);
    return bdb_page_is_good(page, 0) ? (uint64_t)u32_at(page + META_LAST) + 1 : 1;
}

/* Each page by itself, against the count of all. */
static void
pages_count(const uint8_t *data, size_t size, bool whole)
{
    static struct bdb bdb = { .host = { .size = sizeof bdb.host, .log = no_log } };
    struct bdb_lsn newest = { 0, 0 };
    const uint64_t there = size / BDB_PAGE, said = pages_said(data, size);
    const uint64_t missing = said > there ? said - there : 0;
    uint64_t pages = 0, bad = 0, expected = missing;
    for (uint64_t i = 0; i < there; i++) {
        unsigned char page[BDB_PAGE];
        memcpy(page, data + i * BDB_PAGE, sizeof page);
        bool good = bdb_page_is_hole(page) ? i >= said : bdb_page_is_good(page, (uint32_t)i);
        expected += !good;
    }
    if (bdb_pages_check(&bdb, fuzz_folder(), name, &pages, &bad, &newest) != 0 ||
        pages != there + missing || bad != expected || (whole && bad != 0))
        abort();
}

/* The rows that the library has from a key on. */
struct rows {
    DB *db;
    DBC *cursor;
    int error; /* of the last step */
    DBT key, row;
};

static void
rows_begin(struct rows *r, struct kaiten_bytes from)
{
    char path[BDB_PATH];
    bdb_path(path, fuzz_folder(), name);
    *r = (struct rows){ .db = bdb_file_handle() };
    if (r->db->open(r->db, NULL, path, NULL, DB_BTREE, DB_RDONLY, 0) != 0 ||
        r->db->cursor(r->db, NULL, &r->cursor, 0) != 0)
        abort();
    r->key = (DBT){ .data = (void *)from.p, .size = (u_int32_t)from.n };
    r->error = r->cursor->get(r->cursor, &r->key, &r->row, DB_SET_RANGE);
}

static void
rows_expect(struct rows *r, struct kaiten_bytes key, struct kaiten_bytes row)
{
    if (r->error || key.n != r->key.size || memcmp(key.p, r->key.data, key.n) != 0 ||
        row.n != r->row.size || memcmp(row.p, r->row.data, row.n) != 0)
        abort();
    r->error = r->cursor->get(r->cursor, &r->key, &r->row, DB_NEXT);
}

static void
rows_end(struct rows *r)
{
    r->cursor->close(r->cursor);
    r->db->close(r->db, 0);
}

static void
within(const struct bdb_leaf *leaf, struct kaiten_bytes part)
{
    const unsigned char *p = part.p, *end = leaf->page + BDB_PAGE;
    if (p < leaf->page || p > end || part.n > (size_t)(end - p))
        abort();
}

/* The rows of one leaf; rows NULL: whatever they are. */
static void
leaf_look(struct bdb_leaf *leaf, struct kaiten_bytes from, struct rows *rows)
{
    struct kaiten_bytes key, row;
    uint64_t revision;
    while (bdb_leaf_row(leaf, &key, &row)) {
        within(leaf, key);
        within(leaf, row);
        if (key.n > KAITEN_KEY_MAX || bdb_head_get(row.p, row.n, &revision) > row.n)
            abort();
        if (rows && bdb_compare(key, from) >= 0)
            rows_expect(rows, key, row);
    }
}

/* The way of a scan, which may end at a leaf that is for the library. */
static void
leaves_look(size_t size, struct kaiten_bytes from, bool whole)
{
    static atomic_bool written;
    struct bdb_leaf leaf = { .fd = fuzz_file_open(name, O_RDONLY), .written = &written };
    struct rows rows = { .error = DB_NOTFOUND };
    enum bdb_leaf_found found = BDB_LEAF_ODD;
    size_t leaves = 0;
    if (whole)
        rows_begin(&rows, from);
    bool there = bdb_leaf_find(&leaf, from);
    if (whole && !there)
        abort();
    while (there && (found = bdb_leaf_read(&leaf)) == BDB_LEAF_THERE) {
        leaf_look(&leaf, from, whole ? &rows : NULL);
        if (++leaves > size / BDB_PAGE)
            abort(); /* a circle */
    }
    if (whole && found == BDB_LEAF_END && rows.error != DB_NOTFOUND)
        abort();
    if (whole)
        rows_end(&rows);
    bdb_leaf_close(&leaf);
}

static void
look(const uint8_t *data, size_t size)
{
    char path[BDB_PATH];
    /* When the first page was changed nobody asks: it says where a scan begins. */
    const struct kaiten_bytes from = { data, size > 1 ? 1 + (data[0] & 1) : 1 };
    fuzz_file(name, data, size);
    bool whole = bdb_tree_is_whole(fuzz_folder(), name);
    bdb_path(path, fuzz_folder(), name);
    if (whole && !bdb_file_is_whole_for_library(path))
        abort();
    pages_count(data, size, whole);
    leaves_look(size, from, whole);
}

static void
look_summed(uint8_t *file, size_t size)
{
    for (size_t at = 0; at + BDB_PAGE <= size; at += BDB_PAGE)
        bdb_file_sum(file + at);
    look(file, size);
}

/* Of two levels, with a long value and with pages that were given free. */
static size_t
make_file(uint8_t file[FILE_MAX])
{
    char path[BDB_PATH], key[8];
    uint8_t value[ROW_LONG];
    bdb_path(path, fuzz_folder(), name);
    DB *db = bdb_file_made(path);
    memset(value, 'v', sizeof value);
    for (unsigned i = 0; i < 2 * ROWS; i++) {
        unsigned number = i % ROWS;
        int n = snprintf(key, sizeof key, "t%03u", number);
        DBT k = { .data = key, .size = (u_int32_t)n };
        DBT v = { .data = value, .size = number == 1 ? ROW_LONG : ROW };
        bool gone = i >= ROWS && number >= GONE_FROM && number < GONE_TO;
        if (i < ROWS ? db->put(db, NULL, &k, &v, 0) != 0
                     : gone && db->del(db, NULL, &k, 0) != 0)
            abort();
    }
    if (db->close(db, 0) != 0)
        abort();
    int fd = fuzz_file_open(name, O_RDONLY);
    ssize_t n = read(fd, file, FILE_MAX);
    close(fd);
    if (n <= 0 || n == FILE_MAX || !bdb_tree_is_whole(fuzz_folder(), name))
        abort();
    return (size_t)n;
}

static void
check_changed(const uint8_t *data, size_t size)
{
    static uint8_t good[FILE_MAX];
    static size_t n;
    uint8_t file[FILE_MAX];
    if (n == 0)
        n = make_file(good);
    memcpy(file, good, n);
    fuzz_change(file, n, data, size);
    look_summed(file, n);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > FILE_MAX)
        return 0;
    uint8_t *own = calloc(1, size + 1);
    if (!own)
        abort();
    if (size > 0)
        memcpy(own, data, size);
    look(own, size);
    look_summed(own, size);
    free(own);
    if (size < BDB_PAGE)
        check_changed(data, size);
    return 0;
}
