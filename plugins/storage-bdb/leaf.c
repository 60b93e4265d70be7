/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A start reads all rows of a space that nobody has written to since the store was opened. Then the
 * file is what the library would say: leaves are read from it one after the other, each with the
 * same checks, but into one page of ours, without the library's cache and its locks.
 *
 * Whatever is not as it ought to be, a row too large for a leaf as much as a damaged page, is for
 * the library to read and to judge: nothing of such a page is given out here. */
#include "config.h"

#include "plugins/storage-bdb/layout.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    AHEAD_STEP = 128 * 1024,
    AHEAD_SPACE = 'h' /* what the daemon reads first, and all of it */
};

/* False: not a good page, or perhaps older than what the library has. apply() says so before it
 * changes anything. */
static bool
page_read(struct bdb_leaf *leaf, uint32_t number)
{
    unsigned char *page = leaf->page;
    if (pread(leaf->fd, page, BDB_PAGE, (off_t)number * BDB_PAGE) != BDB_PAGE ||
        !bdb_page_is_good(page, number) || atomic_load(leaf->written))
        return false;
    return page[PAGE_TYPE] == TYPE_META || places_fit(page);
}

/* The child of an inner page that the key is below, 0: there is something that we do not know. What
 * the first one begins with is below every key. */
static uint32_t
child_of(const struct bdb_leaf *leaf, struct kaiten_bytes key)
{
    unsigned low = 0, high = u16_at(leaf->page + PAGE_ITEMS);
    while (high - low > 1) {
        unsigned middle = low + (high - low) / 2;
        struct kaiten_bytes begins = inner_key(leaf->page, middle);
        if (!begins.p)
            return 0;
        bool above = bdb_compare(begins, key) > 0;
        *(above ? &high : &low) = middle;
    }
    const unsigned char *item = high > 0 ? item_at(leaf->page, low, ITEM_INNER_BYTES) : NULL;
    return item ? u32_at(item + ITEM_CHILD) : 0;
}

static uint32_t
root_of(struct bdb_leaf *leaf)
{
    return page_read(leaf, 0) ? meta_root(leaf->page) : 0;
}

static uint32_t
pages_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? (uint32_t)(st.st_size / BDB_PAGE) : 0;
}

bool
bdb_leaf_find(struct bdb_leaf *leaf, struct kaiten_bytes key)
{
    unsigned level = 0;
    uint32_t number = root_of(leaf);
    while (number != 0 && page_read(leaf, number)) {
        const unsigned char *page = leaf->page;
        if (level != 0 && page[PAGE_LEVEL] != level - 1)
            return false;
        level = page[PAGE_LEVEL];
        if (page[PAGE_TYPE] == TYPE_LEAF) {
            leaf->left = pages_of(leaf->fd);
            leaf->next = number;
            leaf->before = u32_at(page + PAGE_BEFORE);
            return level == 1;
        }
        if (page[PAGE_TYPE] != TYPE_INNER || level < 2)
            return false;
        number = child_of(leaf, key);
    }
    return false;
}

/* Whether each item of the leaf is one that this file can read. */
static bool
leaf_is_plain(const unsigned char page[BDB_PAGE], unsigned items)
{
    for (unsigned i = 0; i < items; i++) {
        const unsigned char *item = item_at(page, i, ITEM_BYTES);
        bool key = i % 2 == 0;
        if (!item || (key && (item[ITEM_TYPE] != ITEM_PLAIN || u16_at(item) > KAITEN_KEY_MAX)) ||
            (!key && (item[ITEM_TYPE] & ~(unsigned)ITEM_DELETED) != ITEM_PLAIN))
            return false;
    }
    return items % 2 == 0;
}

enum bdb_leaf_found
bdb_leaf_read(struct bdb_leaf *leaf)
{
    const unsigned char *page = leaf->page;
    leaf->item = leaf->items = 0;
    if (leaf->next == 0)
        return BDB_LEAF_END;
    if (leaf->left == 0 || !page_read(leaf, leaf->next) || page[PAGE_TYPE] != TYPE_LEAF ||
        page[PAGE_LEVEL] != 1 || u32_at(page + PAGE_BEFORE) != leaf->before)
        return BDB_LEAF_ODD;
    leaf->left--;
    if (!leaf_is_plain(page, u16_at(page + PAGE_ITEMS)))
        return BDB_LEAF_ODD;
    leaf->items = u16_at(page + PAGE_ITEMS);
    leaf->before = leaf->next;
    leaf->next = u32_at(page + PAGE_AFTER);
    return BDB_LEAF_THERE;
}

bool
bdb_leaf_row(struct bdb_leaf *leaf, struct kaiten_bytes *ret_key, struct kaiten_bytes *ret_row)
{
    for (; leaf->item < leaf->items; leaf->item += 2) {
        const unsigned char *key = item_at(leaf->page, leaf->item, ITEM_BYTES);
        const unsigned char *row = item_at(leaf->page, leaf->item + 1, ITEM_BYTES);
        if (row[ITEM_TYPE] != ITEM_PLAIN)
            continue;
        *ret_key = (struct kaiten_bytes){ key + ITEM_BYTES, u16_at(key) };
        *ret_row = (struct kaiten_bytes){ row + ITEM_BYTES, u16_at(row) };
        leaf->item += 2;
        return true;
    }
    return false;
}

static int
space_file(const struct bdb *bdb, unsigned char space)
{
    char path[BDB_PATH], name[BDB_NAME];
    bdb_space_name(name, space);
    if (!bdb_path(path, bdb->options.path, name))
        return -1;
    return open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
}

void
bdb_leaf_open(struct bdb_leaf *leaf, struct bdb *bdb, unsigned char space)
{
    leaf->written = &bdb->written[space];
    leaf->fd = atomic_load(leaf->written) ? -1 : space_file(bdb, space);
}

void
bdb_leaf_close(struct bdb_leaf *leaf)
{
    if (leaf->fd >= 0)
        close(leaf->fd);
    leaf->fd = -1;
}

/* --- ahead of all reading ----------------------------------------------------------------- */

/* In steps, because the kernel cuts each request to the most that it reads ahead. */
static void
file_read_ahead(int fd)
{
    struct stat st;
    for (off_t at = 0; fstat(fd, &st) == 0 && at < st.st_size; at += AHEAD_STEP)
        posix_fadvise(fd, at, AHEAD_STEP, POSIX_FADV_WILLNEED);
}

static void *
ahead_run(void *arg)
{
    struct bdb *bdb = arg;
    file_read_ahead(bdb->ahead_file);
    close(bdb->ahead_file);
    return NULL;
}

void
bdb_ahead_start(struct bdb *bdb)
{
    bdb->ahead_file = space_file(bdb, AHEAD_SPACE);
    if (bdb->ahead_file < 0)
        return;
    bdb->ahead = bdb_thread_start(&bdb->ahead_thread, ahead_run, bdb) == 0;
    if (!bdb->ahead)
        close(bdb->ahead_file);
    atomic_store(&bdb->is_ahead, bdb->ahead);
}

void
bdb_ahead_end(struct bdb *bdb)
{
    if (bdb->ahead)
        pthread_join(bdb->ahead_thread, NULL);
    bdb->ahead = false;
}

void
bdb_read_ahead(struct bdb *bdb, unsigned char space)
{
    if (space == AHEAD_SPACE && atomic_exchange(&bdb->is_ahead, false))
        return;
    int fd = space_file(bdb, space);
    if (fd < 0)
        return;
    file_read_ahead(fd);
    close(fd);
}
