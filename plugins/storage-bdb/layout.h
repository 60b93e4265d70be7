/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* How the library lays out a page of a database file, for what is read past it: its db_page.h.
 * Numbers are in the order of the machine that wrote them. */
#ifndef BDB_LAYOUT_H
#define BDB_LAYOUT_H

#include "plugins/storage-bdb/bdb.h"

#include <string.h>

/* Of any page; of the first one, which describes the file; and what the latter has to say. */
enum {
    PAGE_NUMBER = 8,
    PAGE_BEFORE = 12,
    PAGE_AFTER = 16,
    PAGE_ITEMS = 20,
    PAGE_USED = 22, /* the items lie from here on; of an overflow page: bytes that it has */
    PAGE_LEVEL = 24,
    PAGE_TYPE = 25,
    PAGE_SUM = 28, /* 4 bytes, over the page with 0 in their place */
    PAGE_HEAD = 32, /* with a sum; then the place of each item, 2 bytes */
    TYPE_FREE = 0,
    TYPE_INNER = 3,
    TYPE_LEAF = 5,
    TYPE_OVERFLOW = 7,
    TYPE_META = 9,
    META_MAGIC = 12,
    META_VERSION = 16,
    META_PAGE_SIZE = 20,
    META_ENCRYPTION = 24,
    META_OPTIONS = 26,
    META_FREE = 28,
    META_LAST = 32,
    META_PARTS = 36,
    META_FLAGS = 48,
    META_KEYS_LEAST = 76, /* on a page */
    META_ROW_SIZE = 80,   /* where all rows have the same */
    META_ROOT = 88,
    META_SUM = 492, /* the same over the first META_BYTES */
    META_BYTES = 512,
    META_MINE = 0x053162,
    META_KNOWN = 9,
    META_SUMS = 1
};

/* Of an item: length of its bytes, type, and in a leaf the bytes; in an inner page the child is
 * between. What is too long for a page is in a chain of pages of its own, and the length is not
 * set. */
enum {
    ITEM_TYPE = 2,
    ITEM_BYTES = 3,
    ITEM_CHILD = 4,
    ITEM_INNER_BYTES = 12,
    ITEM_LONG_FIRST = 4,
    ITEM_LONG_TOTAL = 8,
    ITEM_LONG_BYTES = 12,
    ITEM_PLAIN = 1,
    ITEM_LONG = 3,
    ITEM_DELETED = 0x80,
    ITEM_ALIGN = 4
};

static inline unsigned
u16_at(const unsigned char *p)
{
    uint16_t n;
    memcpy(&n, p, sizeof n);
    return n;
}

static inline uint32_t
u32_at(const unsigned char *p)
{
    uint32_t n;
    memcpy(&n, p, sizeof n);
    return n;
}

/* Whether the places of all items are on the page. */
static inline bool
places_fit(const unsigned char page[BDB_PAGE])
{
    return PAGE_HEAD + 2 * u16_at(page + PAGE_ITEMS) <= (unsigned)BDB_PAGE;
}

/* Item i of a page whose places fit; NULL: its first n bytes are not there. */
static inline const unsigned char *
item_head(const unsigned char page[BDB_PAGE], unsigned i, unsigned n)
{
    unsigned at = u16_at(page + PAGE_HEAD + 2 * i);
    return at >= PAGE_HEAD && at + n <= BDB_PAGE ? page + at : NULL;
}

/* The same of an item that has its bytes behind a head of n; NULL: they are not all there. */
static inline const unsigned char *
item_at(const unsigned char page[BDB_PAGE], unsigned i, unsigned head)
{
    const unsigned char *item = item_head(page, i, head);
    return item && head + u16_at(item) <= (size_t)(page + BDB_PAGE - item) ? item : NULL;
}

/* The key of an inner page from which on its child i has the rows; p NULL: it is not there. */
static inline struct kaiten_bytes
inner_key(const unsigned char page[BDB_PAGE], unsigned i)
{
    const unsigned char *item = item_at(page, i, ITEM_INNER_BYTES);
    if (!item || item[ITEM_TYPE] != ITEM_PLAIN)
        return (struct kaiten_bytes){ NULL, 0 };
    return (struct kaiten_bytes){ item + ITEM_INNER_BYTES, u16_at(item) };
}

/* The root that the first page names; 0: there is something in it that we do not know. */
static inline uint32_t
meta_root(const unsigned char page[BDB_PAGE])
{
    if (page[PAGE_TYPE] != TYPE_META || u32_at(page + META_MAGIC) != META_MINE ||
        u32_at(page + META_VERSION) != META_KNOWN || u32_at(page + META_PAGE_SIZE) != BDB_PAGE ||
        page[META_ENCRYPTION] != 0 || u32_at(page + META_PARTS) != 0 ||
        u32_at(page + META_FLAGS) != 0)
        return 0;
    return u32_at(page + META_ROOT);
}

#endif
