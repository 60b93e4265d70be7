/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/unit/bdb-file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* The library judges beside ours: what passes here must pass there. */

enum {
    ROWS = 6000,
    LONG_EVERY = 500, /* rows whose value has pages of its own */
    VALUE_MAX = 10000,
    CHANGES = 3000
};

static char dir[] = "/tmp/kaiten-tree-XXXXXX";
static const char name[] = "space-74.db";
static char path[BDB_PATH];
static uint32_t pages;

static uint64_t seed = 88172645463325252u;

static unsigned
draw(unsigned below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)((seed >> 20) % below);
}

static void
db_end(DB *db)
{
    struct stat st;
    assert_int_equal(db->close(db, 0), 0);
    assert_int_equal(stat(path, &st), 0);
    pages = (uint32_t)(st.st_size / BDB_PAGE);
}

/* Rows in no order, some of them long; a good part of them deleted again. */
static void
fill(void)
{
    static unsigned char value[VALUE_MAX];
    DB *db = bdb_file_made(path);
    for (unsigned i = 0; i < 2 * ROWS; i++) {
        uint64_t number = (uint64_t)(i % ROWS) * 0x9e3779b97f4a7c15u;
        bool gone = i >= ROWS;
        DBT key = { .data = &number, .size = sizeof number };
        DBT data = { .data = value, .size = i % LONG_EVERY == 0 ? VALUE_MAX : 20 + i % 200 };
        if (!gone)
            assert_int_equal(db->put(db, NULL, &key, &data, 0), 0);
        else if (number >> 61 == 3 || i % 3 == 0)
            assert_int_equal(db->del(db, NULL, &key, 0), 0);
    }
    db_end(db);
}

/* The first page of a kind, which is there. */
static uint32_t
first_of(unsigned char type, unsigned char page[BDB_PAGE])
{
    uint32_t number = 0;
    do
        bdb_file_page_get(path, ++number, page);
    while (page[PAGE_TYPE] != type);
    return number;
}

static void
check_whole(void)
{
    assert_true(bdb_tree_is_whole(dir, name));
    assert_true(bdb_file_is_whole_for_library(path));
}

static void
test_whole(void **state)
{
    (void)state;
    fill();
    assert_true(pages > 200);
    check_whole();
    db_end(bdb_file_made(path));
    check_whole();
}

static void
test_absent_or_short(void **state)
{
    (void)state;
    fill();
    assert_false(bdb_tree_is_whole(dir, "space-00.db"));
    assert_int_equal(truncate(path, (off_t)(pages - 1) * BDB_PAGE), 0);
    assert_false(bdb_tree_is_whole(dir, name));
    assert_int_equal(truncate(path, (off_t)pages * BDB_PAGE), 0);
    assert_false(bdb_tree_is_whole(dir, name)); /* of zeros */
    assert_int_equal(truncate(path, 0), 0);
    assert_false(bdb_tree_is_whole(dir, name));
}

/* One bit anywhere, and a page that is another one. */
static void
test_damaged(void **state)
{
    (void)state;
    unsigned char good[BDB_PAGE], bad[BDB_PAGE];
    fill();
    check_whole();
    for (uint32_t i = 0; i < pages; i++) {
        bdb_file_page_get(path, i, good);
        memcpy(bad, good, sizeof bad);
        bad[draw(i == 0 ? META_BYTES : BDB_PAGE)] ^= (unsigned char)(1u << draw(8));
        bdb_file_page_put(path, i, bad);
        assert_false(bdb_tree_is_whole(dir, name));
        bdb_file_page_get(path, (i + 1) % pages, bad);
        bdb_file_page_put(path, i, bad);
        assert_false(bdb_tree_is_whole(dir, name));
        bdb_file_page_put(path, i, good);
    }
    check_whole();
}

/* What describes the file, byte for byte. */
static void
test_damaged_first_page(void **state)
{
    (void)state;
    unsigned char page[BDB_PAGE];
    fill();
    bdb_file_page_get(path, 0, page);
    for (unsigned i = 0; i < META_BYTES; i++) {
        page[i] ^= 0x40;
        bdb_file_page_put(path, 0, page);
        if (bdb_tree_is_whole(dir, name))
            fail_msg("byte %u has changed", i);
        page[i] ^= 0x40;
    }
    bdb_file_page_put(path, 0, page);
    check_whole();
}

/* Something else in a page whose sum is right. */
static void
change(unsigned char page[BDB_PAGE], bool meta)
{
    unsigned items = u16_at(page + PAGE_ITEMS), at = draw(meta ? META_BYTES : BDB_PAGE);
    if (!meta && items != 0 && items < BDB_PAGE / 4) {
        unsigned item = u16_at(page + PAGE_HEAD + 2 * draw(items));
        const unsigned places[] = { at, draw(PAGE_HEAD), PAGE_HEAD + draw(2 * items),
                                    (item + draw(16)) % BDB_PAGE };
        at = places[draw(4)];
    }
    page[at] = draw(2) ? (unsigned char)draw(256) : (unsigned char)(page[at] + 1);
}

static void
test_changed(void **state)
{
    (void)state;
    unsigned char good[BDB_PAGE], bad[BDB_PAGE];
    unsigned refused = 0, passed = 0;
    fill();
    for (unsigned i = 0; i < CHANGES; i++) {
        uint32_t number = draw(8) == 0 ? 0 : draw(pages);
        bdb_file_page_get(path, number, good);
        memcpy(bad, good, sizeof bad);
        change(bad, number == 0);
        bdb_file_page_put_summed(path, number, bad);
        bool whole = bdb_tree_is_whole(dir, name);
        *(whole ? &passed : &refused) += 1;
        if (whole && passed % 8 == 0 && !bdb_file_is_whole_for_library(path))
            fail_msg("page %u passed, the library refuses it", (unsigned)number);
        bdb_file_page_put(path, number, good);
    }
    check_whole();
    assert_true(refused > CHANGES / 4);
    assert_true(passed > CHANGES / 16); /* bytes of values, which nobody can know */
}

/* The first inner page, its items in another order: keys and children no longer belong together. */
static void
test_children_exchanged(void **state)
{
    (void)state;
    unsigned char page[BDB_PAGE];
    fill();
    uint32_t i = first_of(TYPE_INNER, page);
    unsigned char *first = page + u16_at(page + PAGE_HEAD) + ITEM_CHILD;
    unsigned char *second = page + u16_at(page + PAGE_HEAD + 2) + ITEM_CHILD;
    uint32_t a = u32_at(first), b = u32_at(second);
    memcpy(first, &b, sizeof b);
    memcpy(second, &a, sizeof a);
    bdb_file_page_put_summed(path, i, page);
    assert_false(bdb_tree_is_whole(dir, name));
    memcpy(first, &a, sizeof a); /* twice the same */
    bdb_file_page_put_summed(path, i, page);
    assert_false(bdb_tree_is_whole(dir, name));
}

/* Keys that would be another leaf's, and keys of one leaf in another order. */
static void
test_keys_in_wrong_places(void **state)
{
    (void)state;
    unsigned char good[BDB_PAGE], bad[BDB_PAGE], place[2];
    unsigned looked = 0;
    fill();
    for (uint32_t i = 1; i < pages; i++) {
        bdb_file_page_get(path, i, good);
        unsigned last = u16_at(good + PAGE_ITEMS) - 2;
        if (good[PAGE_TYPE] != TYPE_LEAF || u32_at(good + PAGE_AFTER) == 0 ||
            u32_at(good + PAGE_BEFORE) == 0 || last < 2)
            continue;
        unsigned char *first_key = bad + u16_at(good + PAGE_HEAD) + ITEM_BYTES;
        unsigned char *last_key = bad + u16_at(good + PAGE_HEAD + 2 * last) + ITEM_BYTES;
        memcpy(bad, good, sizeof bad);
        memset(last_key, 0xff, sizeof(uint64_t));
        bdb_file_page_put_summed(path, i, bad);
        assert_false(bdb_tree_is_whole(dir, name));
        memcpy(bad, good, sizeof bad);
        memset(first_key, 0, sizeof(uint64_t));
        bdb_file_page_put_summed(path, i, bad);
        assert_false(bdb_tree_is_whole(dir, name));
        memcpy(bad, good, sizeof bad);
        memcpy(place, bad + PAGE_HEAD, sizeof place);
        memcpy(bad + PAGE_HEAD, bad + PAGE_HEAD + 4, sizeof place);
        memcpy(bad + PAGE_HEAD + 4, place, sizeof place);
        bdb_file_page_put_summed(path, i, bad);
        assert_false(bdb_tree_is_whole(dir, name));
        bdb_file_page_put(path, i, good);
        looked++;
    }
    assert_true(looked > 50);
    check_whole();
}

/* Two values of one size, of which the second has the first one's place: what is its own is lost. */
static void
test_values_in_one_place(void **state)
{
    (void)state;
    unsigned char page[BDB_PAGE];
    unsigned tried = 0;
    fill();
    for (uint32_t i = 1; i < pages; i++) {
        bdb_file_page_get(path, i, page);
        unsigned items = u16_at(page + PAGE_ITEMS), size[BDB_PAGE / ITEM_ALIGN] = { 0 };
        for (unsigned n = 1; page[PAGE_TYPE] == TYPE_LEAF && n < items; n += 2) {
            unsigned char *place = page + PAGE_HEAD + 2 * n, *item = page + u16_at(place);
            unsigned char own[2];
            if (item[ITEM_TYPE] != ITEM_PLAIN)
                continue; /* where a length stands otherwise the library leaves what was there */
            unsigned *other = &size[(ITEM_BYTES + u16_at(item) + ITEM_ALIGN - 1) / ITEM_ALIGN];
            if (*other != 0) {
                memcpy(own, place, sizeof own);
                memcpy(place, page + *other, sizeof own);
                bdb_file_page_put_summed(path, i, page);
                assert_false(bdb_tree_is_whole(dir, name));
                if (tried++ == 0)
                    assert_false(bdb_file_is_whole_for_library(path));
                memcpy(place, own, sizeof own);
                bdb_file_page_put_summed(path, i, page);
            }
            *other = (unsigned)(place - page);
        }
    }
    assert_true(tried > 10);
    check_whole();
}

/* What only databases of another kind have. */
static void
test_of_another_kind(void **state)
{
    (void)state;
    unsigned char page[BDB_PAGE];
    fill();
    bdb_file_page_get(path, 0, page);
    page[META_ROW_SIZE] = 1;
    bdb_file_page_put_summed(path, 0, page);
    assert_false(bdb_tree_is_whole(dir, name));
    assert_false(bdb_file_is_whole_for_library(path));
    page[META_ROW_SIZE] = 0;
    bdb_file_page_put_summed(path, 0, page);
    uint32_t i = first_of(TYPE_OVERFLOW, page);
    page[PAGE_LEVEL] = 1;
    bdb_file_page_put_summed(path, i, page);
    assert_false(bdb_tree_is_whole(dir, name));
    assert_false(bdb_file_is_whole_for_library(path));
    page[PAGE_LEVEL] = 0;
    bdb_file_page_put_summed(path, i, page);
    check_whole();
}

/* A row that nobody took away after it was marked. */
static void
test_marked_deleted(void **state)
{
    (void)state;
    unsigned char page[BDB_PAGE];
    fill();
    uint32_t i = first_of(TYPE_LEAF, page);
    page[u16_at(page + PAGE_HEAD + 2) + ITEM_TYPE] |= ITEM_DELETED;
    bdb_file_page_put_summed(path, i, page);
    assert_false(bdb_tree_is_whole(dir, name));
    assert_false(bdb_file_is_whole_for_library(path));
}

static unsigned char *
long_item(unsigned char page[BDB_PAGE])
{
    for (unsigned i = 1; page[PAGE_TYPE] == TYPE_LEAF && i < u16_at(page + PAGE_ITEMS); i += 2) {
        unsigned char *item = page + u16_at(page + PAGE_HEAD + 2 * i);
        if (item[ITEM_TYPE] == ITEM_LONG)
            return item;
    }
    return NULL;
}

/* A value that is not as long as its row says, and one that has the pages of another. */
static void
test_long_values(void **state)
{
    (void)state;
    unsigned char page[BDB_PAGE], *item = NULL;
    uint32_t first = 0, total = VALUE_MAX + 1;
    unsigned found = 0;
    fill();
    for (uint32_t i = 1; i < pages; i++) {
        bdb_file_page_get(path, i, page);
        if (!(item = long_item(page)))
            continue;
        uint32_t own = u32_at(item + ITEM_LONG_FIRST), bytes = u32_at(item + ITEM_LONG_TOTAL);
        memcpy(item + ITEM_LONG_TOTAL, &total, sizeof total);
        bdb_file_page_put_summed(path, i, page);
        assert_false(bdb_tree_is_whole(dir, name));
        memcpy(item + ITEM_LONG_TOTAL, &bytes, sizeof bytes);
        memcpy(item + ITEM_LONG_FIRST, &first, sizeof first);
        bdb_file_page_put_summed(path, i, page);
        assert_false(bdb_tree_is_whole(dir, name));
        memcpy(item + ITEM_LONG_FIRST, &own, sizeof own);
        bdb_file_page_put_summed(path, i, page);
        first = own;
        found++;
    }
    assert_true(found > 2);
    check_whole();
}

/* A way that does not end. */
static void
test_circle(void **state)
{
    (void)state;
    unsigned char page[BDB_PAGE];
    fill();
    bdb_file_page_get(path, 0, page);
    uint32_t number = u32_at(page + META_FREE);
    bdb_file_page_get(path, number, page);
    memcpy(page + PAGE_AFTER, &number, sizeof number);
    bdb_file_page_put_summed(path, number, page);
    assert_false(bdb_tree_is_whole(dir, name));
}

/* Pages that are neither in the tree nor free. */
static void
test_lost_pages(void **state)
{
    (void)state;
    unsigned char page[BDB_PAGE];
    fill();
    bdb_file_page_get(path, 0, page);
    assert_int_not_equal(u32_at(page + META_FREE), 0);
    memset(page + META_FREE, 0, sizeof(uint32_t));
    bdb_file_page_put_summed(path, 0, page);
    assert_false(bdb_tree_is_whole(dir, name));
    assert_false(bdb_file_is_whole_for_library(path));
}

static int
remove_all(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_absent_or_short),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_damaged_first_page),
        cmocka_unit_test(test_changed),
        cmocka_unit_test(test_children_exchanged),
        cmocka_unit_test(test_keys_in_wrong_places),
        cmocka_unit_test(test_values_in_one_place),
        cmocka_unit_test(test_of_another_kind),
        cmocka_unit_test(test_marked_deleted),
        cmocka_unit_test(test_long_values),
        cmocka_unit_test(test_circle),
        cmocka_unit_test(test_lost_pages),
    };
    if (!mkdtemp(dir) || !bdb_path(path, dir, name))
        return 1;
    return cmocka_run_group_tests(tests, NULL, remove_all);
}
