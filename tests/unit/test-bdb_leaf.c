/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/unit/bdb-file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

/* The library reads beside ours: a leaf that is there has its rows, in its order. */

enum { SPACE = 'h', ROWS = 5000, ROW = 100, ROW_LONG = 5000, SAMPLE = 37 };

static char dir[] = "/tmp/kaiten-leaf-XXXXXX";
static char path[BDB_PATH];
static struct bdb store = { .options.path = dir };

/* Every third row is gone again; row number `longest` has pages of its own. */
static void
fill(unsigned rows, unsigned longest)
{
    static unsigned char value[ROW_LONG];
    char key[16];
    DB *db = bdb_file_made(path);
    for (unsigned i = 0; i < 2 * rows; i++) {
        unsigned number = i % rows;
        int n = snprintf(key, sizeof key, "h%08u", number);
        DBT k = { .data = key, .size = (u_int32_t)n };
        DBT v = { .data = value, .size = number == longest ? ROW_LONG : number % ROW };
        if (i < rows)
            assert_int_equal(db->put(db, NULL, &k, &v, 0), 0);
        else if (number % 3 == 0)
            assert_int_equal(db->del(db, NULL, &k, 0), 0);
    }
    assert_int_equal(db->close(db, 0), 0);
    atomic_store(&store.written[SPACE], false);
}

static struct kaiten_bytes
bytes(const char *text)
{
    return (struct kaiten_bytes){ text, strlen(text) };
}

static void
assert_same(const DBT *a, struct kaiten_bytes b)
{
    assert_int_equal(a->size, b.n);
    assert_memory_equal(a->data, b.p, b.n);
}

/* All rows from a key on, against the library's. */
static void
check_from(const char *from)
{
    struct bdb_leaf leaf;
    struct kaiten_bytes key, row, begin = bytes(from);
    enum bdb_leaf_found found;
    DBC *cursor;
    DB *db = bdb_file_handle();
    DBT k = { .data = (void *)begin.p, .size = (u_int32_t)begin.n }, v = { .size = 0 };
    assert_int_equal(db->open(db, NULL, path, NULL, DB_BTREE, DB_RDONLY, 0), 0);
    assert_int_equal(db->cursor(db, NULL, &cursor, 0), 0);
    int error = cursor->get(cursor, &k, &v, DB_SET_RANGE);
    bdb_leaf_open(&leaf, &store, SPACE);
    assert_true(bdb_leaf_find(&leaf, begin));
    while ((found = bdb_leaf_read(&leaf)) == BDB_LEAF_THERE) {
        while (bdb_leaf_row(&leaf, &key, &row)) {
            if (bdb_compare(key, begin) < 0)
                continue;
            assert_int_equal(error, 0);
            assert_same(&k, key);
            assert_same(&v, row);
            error = cursor->get(cursor, &k, &v, DB_NEXT);
        }
    }
    assert_int_equal(found, BDB_LEAF_END);
    assert_int_equal(error, DB_NOTFOUND);
    bdb_leaf_close(&leaf);
    cursor->close(cursor);
    db->close(db, 0);
}

static void
test_rows(void **state)
{
    (void)state;
    char key[16];
    fill(ROWS, ROWS);
    check_from("");
    check_from("a");
    check_from("z");
    for (unsigned i = 0; i < ROWS; i += SAMPLE) {
        snprintf(key, sizeof key, "h%08u", i);
        check_from(key);
    }
    fill(3, ROWS);
    check_from("h");
    fill(0, ROWS);
    check_from("h");
}

/* A row too large for its leaf is the library's, and so are those beside it. */
static void
test_long_row(void **state)
{
    (void)state;
    struct bdb_leaf leaf;
    struct kaiten_bytes key, row;
    fill(ROWS, ROWS / 2 + 1);
    bdb_leaf_open(&leaf, &store, SPACE);
    assert_true(bdb_leaf_find(&leaf, bytes("h")));
    enum bdb_leaf_found found;
    while ((found = bdb_leaf_read(&leaf)) == BDB_LEAF_THERE)
        continue;
    assert_int_equal(found, BDB_LEAF_ODD);
    assert_false(bdb_leaf_row(&leaf, &key, &row));
    bdb_leaf_close(&leaf);
}

/* Somebody writes to the space: the file is no longer what the library would say. */
static void
test_written(void **state)
{
    (void)state;
    struct bdb_leaf leaf;
    fill(ROWS, ROWS);
    bdb_leaf_open(&leaf, &store, SPACE);
    assert_true(bdb_leaf_find(&leaf, bytes("h")));
    assert_int_equal(bdb_leaf_read(&leaf), BDB_LEAF_THERE);
    atomic_store(&store.written[SPACE], true);
    assert_int_equal(bdb_leaf_read(&leaf), BDB_LEAF_ODD);
    assert_false(bdb_leaf_find(&leaf, bytes("h")));
    bdb_leaf_close(&leaf);
    bdb_leaf_open(&leaf, &store, SPACE);
    assert_int_equal(leaf.fd, -1);
    bdb_leaf_close(&leaf);
}

/* --- files that somebody has changed ------------------------------------------------------ */

static void
u32_put(unsigned char *to, uint32_t n)
{
    memcpy(to, &n, sizeof n);
}

static uint32_t
root(unsigned char page[BDB_PAGE])
{
    bdb_file_page_get(path, 0, page);
    uint32_t number = u32_at(page + META_ROOT);
    bdb_file_page_get(path, number, page);
    return number;
}

static bool
finds(const char *key)
{
    struct bdb_leaf leaf;
    bdb_leaf_open(&leaf, &store, SPACE);
    bool found = bdb_leaf_find(&leaf, bytes(key));
    bdb_leaf_close(&leaf);
    return found;
}

/* A root without a level, whose children it is itself: a way that would not end. */
static void
test_own_child(void **state)
{
    (void)state;
    unsigned char page[BDB_PAGE];
    fill(ROWS, ROWS);
    uint32_t number = root(page);
    assert_int_equal(page[PAGE_TYPE], TYPE_INNER);
    for (unsigned i = 0; i < u16_at(page + PAGE_ITEMS); i++)
        u32_put(page + u16_at(page + PAGE_HEAD + 2 * i) + ITEM_CHILD, number);
    bdb_file_page_put_summed(path, number, page);
    assert_false(finds("h"));
    page[PAGE_LEVEL] = 0;
    bdb_file_page_put_summed(path, number, page);
    assert_false(finds("h"));
}

/* Two leaves without a row, each before and behind the other. */
static void
test_circle(void **state)
{
    (void)state;
    unsigned char page[BDB_PAGE];
    struct bdb_leaf leaf;
    const uint16_t none = 0, end = BDB_PAGE;
    fill(ROWS, ROWS);
    bdb_leaf_open(&leaf, &store, SPACE);
    assert_true(bdb_leaf_find(&leaf, bytes("h")));
    bdb_file_page_get(path, leaf.next, page);
    uint32_t two[2] = { leaf.next, u32_at(page + PAGE_AFTER) };
    for (int i = 0; i < 2; i++) {
        bdb_file_page_get(path, two[i], page);
        memcpy(page + PAGE_ITEMS, &none, sizeof none);
        memcpy(page + PAGE_USED, &end, sizeof end);
        u32_put(page + PAGE_BEFORE, two[1 - i]);
        u32_put(page + PAGE_AFTER, two[1 - i]);
        bdb_file_page_put_summed(path, two[i], page);
    }
    assert_true(bdb_leaf_find(&leaf, bytes("h")));
    unsigned read = 0;
    enum bdb_leaf_found found;
    while ((found = bdb_leaf_read(&leaf)) == BDB_LEAF_THERE && read < ROWS)
        read++;
    assert_int_equal(found, BDB_LEAF_ODD);
    bdb_leaf_close(&leaf);
}

/* What is not on the page where the page says it is. */
static void
test_odd_pages(void **state)
{
    (void)state;
    unsigned char good[BDB_PAGE], page[BDB_PAGE];
    fill(ROWS, ROWS);
    uint32_t number = root(good);
    const struct change {
        unsigned at;
        unsigned char byte;
    } changes[] = {
        { PAGE_ITEMS + 1, 0xff }, { PAGE_ITEMS, 0 },         { PAGE_TYPE, TYPE_OVERFLOW },
        { PAGE_TYPE, TYPE_META }, { PAGE_LEVEL, 9 },         { PAGE_NUMBER, 0xff },
        { PAGE_HEAD, 1 },         { PAGE_HEAD + 1, 0xff },
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        memcpy(page, good, sizeof page);
        if (changes[i].at == PAGE_ITEMS)
            page[PAGE_ITEMS + 1] = 0;
        page[changes[i].at] = changes[i].byte;
        if (changes[i].at == PAGE_HEAD)
            page[PAGE_HEAD + 1] = 0;
        bdb_file_page_put_summed(path, number, page);
        assert_false(finds("h"));
    }
    bdb_file_page_put_summed(path, number, good);
    assert_true(finds("h"));
    assert_int_equal(truncate(path, BDB_PAGE), 0);
    assert_false(finds("h"));
    assert_int_equal(truncate(path, 0), 0);
    assert_false(finds("h"));
    assert_int_equal(unlink(path), 0);
    struct bdb_leaf leaf;
    bdb_leaf_open(&leaf, &store, SPACE);
    assert_int_equal(leaf.fd, -1);
}

/* --- ahead of all reading ----------------------------------------------------------------- */

/* Once for the space that a start reads, and again for whoever comes later. */
static void
test_ahead(void **state)
{
    (void)state;
    fill(ROWS, ROWS);
    bdb_ahead_start(&store);
    assert_true(store.ahead);
    assert_true(atomic_load(&store.is_ahead));
    bdb_read_ahead(&store, SPACE);
    assert_false(atomic_load(&store.is_ahead));
    bdb_read_ahead(&store, SPACE);
    bdb_ahead_end(&store);
    assert_false(store.ahead);
    assert_int_equal(unlink(path), 0);
    bdb_ahead_start(&store);
    assert_false(store.ahead);
    bdb_read_ahead(&store, SPACE);
    bdb_ahead_end(&store);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),      cmocka_unit_test(test_long_row),
        cmocka_unit_test(test_written),   cmocka_unit_test(test_own_child),
        cmocka_unit_test(test_circle),    cmocka_unit_test(test_odd_pages),
        cmocka_unit_test(test_ahead),
    };
    char name[BDB_NAME];
    bdb_space_name(name, SPACE);
    if (!mkdtemp(dir) || !bdb_path(path, dir, name))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return bdb_directory_remove(dir) == 0 ? failed : EXIT_FAILURE;
}
