/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Each base copy is looked at from the first page to the last, and while many mint there is one
 * every few seconds. The library does that in many passes, with a database of its own for what it
 * finds: 46 us a page, a fifth of what a mint cost. Here the tree is walked once, from its root.
 *
 * Only a file that is whole beyond doubt passes. Whatever else there is, a damaged page as much as
 * a kind of item that we never write, is for the library to judge. */
#include "config.h"

#include "plugins/storage-bdb/layout.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LEVELS_MAX = 16, KEYS_LEAST = 2 };

struct tree {
    int fd;
    uint32_t last;        /* page of the file */
    unsigned char *seen;  /* a bit for each page: a second way to one is a wrong one */
    uint32_t leaf, after; /* the leaf before, and the one that it takes for the next */
    unsigned char level[LEVELS_MAX][BDB_PAGE]; /* the way from the root to a leaf, which is first */
    unsigned char other[BDB_PAGE];
    uint16_t item[BDB_PAGE / ITEM_ALIGN]; /* bytes of what begins here, of the page at hand */
};

/* What the keys of a page are between; p NULL: no end. The upper one is not among them. */
struct bounds {
    struct kaiten_bytes low, high;
};

static bool
page_take(struct tree *t, uint32_t number, unsigned char page[BDB_PAGE])
{
    if (number == 0 || number > t->last || (t->seen[number / 8] >> number % 8 & 1) != 0)
        return false;
    t->seen[number / 8] |= (unsigned char)(1u << number % 8);
    return pread(t->fd, page, BDB_PAGE, (off_t)number * BDB_PAGE) == BDB_PAGE &&
           bdb_page_is_good(page, number) && u32_at(page + PAGE_NUMBER) == number;
}

/* A value of so many bytes that begins on this page. */
static bool
chain_is_whole(struct tree *t, uint32_t number, uint32_t bytes)
{
    const unsigned char *page = t->other;
    uint32_t before = 0;
    while (number != 0) {
        if (!page_take(t, number, t->other) || page[PAGE_TYPE] != TYPE_OVERFLOW ||
            page[PAGE_LEVEL] != 0 || u32_at(page + PAGE_BEFORE) != before ||
            u16_at(page + PAGE_ITEMS) != 1)
            return false;
        uint32_t here = u16_at(page + PAGE_USED);
        if (here == 0 || here > BDB_PAGE - PAGE_HEAD || here > bytes)
            return false;
        bytes -= here;
        before = number;
        number = u32_at(page + PAGE_AFTER);
    }
    return bytes == 0;
}

static bool
free_list_is_whole(struct tree *t, uint32_t number)
{
    while (number != 0) {
        if (!page_take(t, number, t->other) || t->other[PAGE_TYPE] != TYPE_FREE)
            return false;
        number = u32_at(t->other + PAGE_AFTER);
    }
    return true;
}

static unsigned
aligned(unsigned bytes)
{
    return (bytes + ITEM_ALIGN - 1) / ITEM_ALIGN * ITEM_ALIGN;
}

/* Item i of the page has so many bytes. False: another one begins there, or none could. */
static bool
item_note(struct tree *t, const unsigned char *page, unsigned i, unsigned bytes)
{
    unsigned at = u16_at(page + PAGE_HEAD + 2 * i);
    if (at % ITEM_ALIGN != 0 || t->item[at / ITEM_ALIGN] != 0)
        return false;
    t->item[at / ITEM_ALIGN] = (uint16_t)bytes;
    return true;
}

/* Whether the items lie side by side, from behind their places to the end of the page. */
static bool
items_fill(const struct tree *t, const unsigned char *page)
{
    unsigned items = u16_at(page + PAGE_ITEMS), at = u16_at(page + PAGE_USED);
    if (at < PAGE_HEAD + 2 * items || at % ITEM_ALIGN != 0)
        return false;
    for (; at < BDB_PAGE && t->item[at / ITEM_ALIGN] != 0; items--)
        at += t->item[at / ITEM_ALIGN];
    return at == BDB_PAGE && items == 0;
}

/* Bytes that the value takes on its leaf; 0: it is none, or not whole. */
static unsigned
value_size(struct tree *t, const unsigned char *page, unsigned i)
{
    const unsigned char *item = item_head(page, i, ITEM_BYTES);
    if (!item)
        return 0;
    if (item[ITEM_TYPE] != ITEM_LONG) {
        bool plain = item[ITEM_TYPE] == ITEM_PLAIN;
        return plain && item_at(page, i, ITEM_BYTES) ? aligned(ITEM_BYTES + u16_at(item)) : 0;
    }
    item = item_head(page, i, ITEM_LONG_BYTES);
    bool whole = item && chain_is_whole(t, u32_at(item + ITEM_LONG_FIRST),
                                        u32_at(item + ITEM_LONG_TOTAL));
    return whole ? ITEM_LONG_BYTES : 0;
}

static bool
is_below(struct kaiten_bytes a, struct kaiten_bytes b)
{
    return !a.p || !b.p || bdb_compare(a, b) < 0;
}

static bool
leaf_is_whole(struct tree *t, uint32_t number, const struct bounds *b)
{
    const unsigned char *page = t->level[0];
    unsigned items = u16_at(page + PAGE_ITEMS);
    struct kaiten_bytes before = b->low;
    memset(t->item, 0, sizeof t->item);
    if (items % 2 != 0 || u32_at(page + PAGE_BEFORE) != t->leaf ||
        (t->leaf != 0 && t->after != number))
        return false;
    for (unsigned i = 0; i < items; i += 2) {
        const unsigned char *item = item_at(page, i, ITEM_BYTES);
        if (!item || item[ITEM_TYPE] != ITEM_PLAIN)
            return false;
        struct kaiten_bytes key = { item + ITEM_BYTES, u16_at(item) };
        unsigned size = value_size(t, page, i + 1);
        bool first = i == 0 && before.p && bdb_compare(before, key) == 0;
        if (size == 0 || (!first && !is_below(before, key)) ||
            !item_note(t, page, i, aligned(ITEM_BYTES + (unsigned)key.n)) ||
            !item_note(t, page, i + 1, size))
            return false;
        before = key;
    }
    t->leaf = number;
    t->after = u32_at(page + PAGE_AFTER);
    return items_fill(t, page) && is_below(before, b->high);
}

static bool page_is_whole(struct tree *, uint32_t number, unsigned level, const struct bounds *);

static bool
inner_items_are_whole(struct tree *t, const unsigned char *page)
{
    unsigned items = u16_at(page + PAGE_ITEMS);
    memset(t->item, 0, sizeof t->item);
    for (unsigned i = 0; i < items; i++) {
        struct kaiten_bytes key = inner_key(page, i);
        if (!key.p || !item_note(t, page, i, aligned(ITEM_INNER_BYTES + (unsigned)key.n)))
            return false;
    }
    return items != 0 && items_fill(t, page);
}

/* What the first key says is below every other: its child begins where the page does. */
static bool
inner_is_whole(struct tree *t, unsigned level, const struct bounds *b)
{
    const unsigned char *page = t->level[level - 1];
    unsigned items = u16_at(page + PAGE_ITEMS);
    if (!inner_items_are_whole(t, page))
        return false;
    for (unsigned i = 0; i < items; i++) {
        struct kaiten_bytes key = inner_key(page, i);
        struct kaiten_bytes next = i + 1 < items ? inner_key(page, i + 1) : b->high;
        struct bounds child = { i == 0 ? b->low : key, next };
        uint32_t number = u32_at(page + u16_at(page + PAGE_HEAD + 2 * i) + ITEM_CHILD);
        if (!is_below(child.low, child.high) || !page_is_whole(t, number, level - 1, &child))
            return false;
    }
    return true;
}

/* The subtree below the page. No deeper than the root says. */
static bool
page_is_whole(struct tree *t, uint32_t number, unsigned level, const struct bounds *b)
{
    unsigned char *page = t->level[level - 1];
    if (!page_take(t, number, page) || page[PAGE_LEVEL] != level || !places_fit(page))
        return false;
    if (level > 1)
        return page[PAGE_TYPE] == TYPE_INNER && inner_is_whole(t, level, b);
    return page[PAGE_TYPE] == TYPE_LEAF && leaf_is_whole(t, number, b);
}

static bool
all_seen(const struct tree *t)
{
    for (uint32_t i = 1; i <= t->last; i++) {
        if ((t->seen[i / 8] >> i % 8 & 1) == 0)
            return false;
    }
    return true;
}

static bool
file_is_whole(struct tree *t, off_t size)
{
    unsigned char meta[BDB_PAGE], *root = t->other;
    const struct bounds all = { { NULL, 0 }, { NULL, 0 } };
    if (pread(t->fd, meta, BDB_PAGE, 0) != BDB_PAGE || !bdb_page_is_good(meta, 0) ||
        meta[META_OPTIONS] != META_SUMS || u32_at(meta + META_KEYS_LEAST) != KEYS_LEAST ||
        u32_at(meta + META_ROW_SIZE) != 0)
        return false;
    uint32_t number = meta_root(meta);
    t->last = u32_at(meta + META_LAST);
    if (number == 0 || size != ((off_t)t->last + 1) * BDB_PAGE ||
        pread(t->fd, root, BDB_PAGE, (off_t)number * BDB_PAGE) != BDB_PAGE)
        return false;
    unsigned levels = root[PAGE_LEVEL];
    t->seen = levels != 0 && levels <= LEVELS_MAX ? calloc(1, t->last / 8 + 1) : NULL;
    return t->seen && page_is_whole(t, number, levels, &all) && t->after == 0 &&
           free_list_is_whole(t, u32_at(meta + META_FREE)) && all_seen(t);
}

bool
bdb_tree_is_whole(const char *dir, const char *name)
{
    char path[BDB_PATH];
    struct stat st;
    struct tree *t = bdb_path(path, dir, name) ? calloc(1, sizeof *t) : NULL;
    if (!t)
        return false;
    t->fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    bool whole = t->fd >= 0 && fstat(t->fd, &st) == 0 && file_is_whole(t, st.st_size);
    if (t->fd >= 0)
        close(t->fd);
    free(t->seen);
    free(t);
    return whole;
}
