/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Storage in memory, gone when the daemon ends: for tests, for trying kaitend out, and as the
 * shortest complete storage plugin. Read kaiten-storage.h beside it. */
#include "config.h"

#include "plugins/kaiten-storage.h"

#include <stdlib.h>
#include <string.h>

/* All rows form one tree, ordered by key from left to right and by priority from top to bottom.
 * Random priorities keep it shallow. Linking a row needs no memory but the row itself, so a batch
 * can get all that it needs before it changes anything. */
struct row {
    struct row *left, *right;
    uint64_t priority;
    uint64_t revision;
    size_t key_n, value_n;
    unsigned char bytes[]; /* the key, then the value */
};

struct memory {
    struct kaiten_host host;
    struct row *root;
    uint64_t revision; /* of the newest batch */
    uint64_t random;   /* where the next priority comes from; never 0 */
};

static struct kaiten_bytes
row_key(const struct row *row)
{
    return (struct kaiten_bytes){ row->bytes, row->key_n };
}

static struct kaiten_bytes
row_value(const struct row *row)
{
    return (struct kaiten_bytes){ row->bytes + row->key_n, row->value_n };
}

/* memcmp's order, a shorter key before its extensions. */
static int
key_compare(struct kaiten_bytes a, struct kaiten_bytes b)
{
    int order = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

static void
bytes_copy(unsigned char *to, struct kaiten_bytes from)
{
    if (from.n > 0) /* an empty value may come as a NULL pointer */
        memcpy(to, from.p, from.n);
}

/* xorshift64: the shape of the tree is no secret, it only must not follow the order of the keys. */
static uint64_t
priority_next(struct memory *memory)
{
    uint64_t x = memory->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return memory->random = x;
}

/* Not linked yet; NULL when memory is used up. */
static struct row *
row_new(struct memory *memory, const struct kaiten_write *write, uint64_t revision)
{
    struct row *row = malloc(sizeof *row + write->key.n + write->value.n);
    if (!row)
        return NULL;
    *row = (struct row){
        .priority = priority_next(memory),
        .revision = revision,
        .key_n = write->key.n,
        .value_n = write->value.n,
    };
    bytes_copy(row->bytes, write->key);
    bytes_copy(row->bytes + row->key_n, write->value);
    return row;
}

/* Sets *less and *more to the trees of the keys below and above key, which row does not hold. */
static void
tree_split(struct row *row, struct kaiten_bytes key, struct row **less, struct row **more)
{
    while (row) {
        if (key_compare(row_key(row), key) < 0) {
            *less = row;
            less = &row->right;
            row = row->right;
        } else {
            *more = row;
            more = &row->left;
            row = row->left;
        }
    }
    *less = *more = NULL;
}

/* One tree of two, where every key of less is below every key of more. */
static struct row *
tree_join(struct row *less, struct row *more)
{
    struct row *root, **link = &root;
    while (less && more) {
        if (less->priority > more->priority) {
            *link = less;
            link = &less->right;
            less = less->right;
        } else {
            *link = more;
            link = &more->left;
            more = more->left;
        }
    }
    *link = less ? less : more;
    return root;
}

/* The link that points to the key's row, or to NULL where the key has none. */
static struct row **
tree_find(struct row **link, struct kaiten_bytes key)
{
    while (*link) {
        int order = key_compare(key, row_key(*link));
        if (order == 0)
            return link;
        link = order < 0 ? &(*link)->left : &(*link)->right;
    }
    return link;
}

/* The row's key is not in the tree. */
static void
tree_insert(struct row **link, struct row *row)
{
    while (*link && (*link)->priority > row->priority) {
        int order = key_compare(row_key(row), row_key(*link));
        link = order < 0 ? &(*link)->left : &(*link)->right;
    }
    tree_split(*link, row_key(row), &row->left, &row->right);
    *link = row;
}

static void
tree_remove(struct row **root, struct kaiten_bytes key)
{
    struct row **link = tree_find(root, key);
    struct row *row = *link;
    if (!row)
        return;
    *link = tree_join(row->left, row->right);
    free(row);
}

static enum kaiten_status
memory_open(const struct kaiten_host *host, const struct kaiten_config *config,
            void **ret_instance, struct kaiten_err *err)
{
    (void)config; /* there are no options to ask for */
    struct memory *memory = calloc(1, sizeof *memory);
    if (!memory) {
        host->error(err, "out of memory");
        return KAITEN_FAILED;
    }
    /* The daemon may be older or newer than this plugin: take what both know of. */
    memcpy(&memory->host, host, host->size < sizeof *host ? host->size : sizeof *host);
    memory->host.random(&memory->random, sizeof memory->random);
    memory->random |= 1;
    memory->host.log(KAITEN_LOG_NOTICE, "storage-memory: nothing is kept when the daemon ends");
    *ret_instance = memory;
    return KAITEN_DONE;
}

static void
memory_close(void *instance)
{
    struct memory *memory = instance;
    struct row *row;
    while ((row = memory->root)) {
        memory->root = tree_join(row->left, row->right);
        free(row);
    }
    free(memory);
}

static bool
row_emit(struct memory *memory, struct kaiten_emit *emit, const struct row *row)
{
    return memory->host.row(emit, row_key(row), row_value(row), row->revision);
}

static enum kaiten_status
memory_get(void *instance, const struct kaiten_bytes *keys, size_t nkeys,
           struct kaiten_emit *emit, struct kaiten_err *err)
{
    (void)err;
    struct memory *memory = instance;
    for (size_t i = 0; i < nkeys; i++) {
        const struct row *row = *tree_find(&memory->root, keys[i]);
        if (row && !row_emit(memory, emit, row))
            break;
    }
    return KAITEN_DONE;
}

/* A scan on its way through the tree. */
struct walk {
    struct memory *memory;
    const struct kaiten_range *range;
    struct kaiten_emit *emit;
    uint64_t left; /* rows that may still be emitted */
};

static bool
is_below_end(const struct kaiten_range *range, const struct row *row)
{
    if (range->to.n > 0)
        return key_compare(row_key(row), range->to) < 0;
    return row->bytes[0] <= *(const unsigned char *)range->from.p; /* the end of the space */
}

/* Emits the part of the range that lies in this subtree. False: no more rows are wanted. */
static bool
walk_tree(struct walk *walk, const struct row *row)
{
    if (!row)
        return true;
    bool above = key_compare(row_key(row), walk->range->from) >= 0;
    bool below = is_below_end(walk->range, row);
    const struct row *left = above ? row->left : NULL; /* else all of it is below the range */
    const struct row *right = below ? row->right : NULL;
    bool backward = walk->range->backward;

    if (!walk_tree(walk, backward ? right : left))
        return false;
    if (above && below) {
        if (walk->left-- == 0 || !row_emit(walk->memory, walk->emit, row))
            return false;
    }
    return walk_tree(walk, backward ? left : right);
}

static enum kaiten_status
memory_scan(void *instance, const struct kaiten_range *range, struct kaiten_emit *emit,
            struct kaiten_err *err)
{
    struct memory *memory = instance;
    if (range->from.n == 0) {
        memory->host.error(err, "a range must start in a space");
        return KAITEN_FAILED;
    }
    struct walk walk = { memory, range, emit, range->limit ? range->limit : UINT64_MAX };
    walk_tree(&walk, memory->root);
    return KAITEN_DONE;
}

static bool
condition_holds(struct memory *memory, const struct kaiten_cond *cond)
{
    const struct row *row = *tree_find(&memory->root, cond->key);
    switch (cond->type) {
    case KAITEN_ABSENT:
        return !row;
    case KAITEN_PRESENT:
        return row;
    case KAITEN_AT:
        return row && row->revision == cond->revision;
    }
    return false; /* a condition of a later ABI cannot be known to hold */
}

/* A row for each KAITEN_SET of the batch, NULL for the other writes. False, and nothing to free,
 * when memory is used up. */
static bool
rows_prepare(struct memory *memory, const struct kaiten_batch *batch, struct row **ret_rows)
{
    for (size_t i = 0; i < batch->nwrites; i++) {
        ret_rows[i] = NULL;
        if (batch->writes[i].type != KAITEN_SET)
            continue;
        ret_rows[i] = row_new(memory, &batch->writes[i], memory->revision + 1);
        if (!ret_rows[i]) {
            while (i-- > 0)
                free(ret_rows[i]);
            return false;
        }
    }
    return true;
}

static struct kaiten_outcome
batch_apply(struct memory *memory, const struct kaiten_batch *batch)
{
    for (size_t i = 0; i < batch->nconds; i++) {
        if (!condition_holds(memory, &batch->conds[i]))
            return (struct kaiten_outcome){ .status = KAITEN_CONFLICT, .failed = i };
    }
    struct row *rows[KAITEN_BATCH_WRITES_MAX];
    if (!rows_prepare(memory, batch, rows))
        return (struct kaiten_outcome){ .status = KAITEN_FULL };

    /* From here on nothing can fail, so the batch happens as a whole. */
    memory->revision++;
    for (size_t i = 0; i < batch->nwrites; i++) {
        tree_remove(&memory->root, batch->writes[i].key);
        if (rows[i])
            tree_insert(&memory->root, rows[i]);
    }
    return (struct kaiten_outcome){ .status = KAITEN_DONE, .revision = memory->revision };
}

static enum kaiten_status
memory_apply(void *instance, const struct kaiten_batch *batches, size_t n,
             struct kaiten_outcome *outcomes, struct kaiten_err *err)
{
    struct memory *memory = instance;
    for (size_t i = 0; i < n; i++) {
        outcomes[i] = batch_apply(memory, &batches[i]);
        if (outcomes[i].status == KAITEN_FULL)
            memory->host.error(err, "out of memory");
    }
    return KAITEN_DONE;
}

KAITEN_STORAGE_SYMBOL(memory) = {
    .size = sizeof(struct kaiten_storage),
    .abi = KAITEN_STORAGE_ABI,
    .threads = KAITEN_THREADS_READERS, /* nothing here is locked: the daemon keeps writes alone */
    .caps = 0,                         /* it forgets, so it promises nothing */
    .name = "memory",
    .version = PACKAGE_VERSION,
    .summary = "Keeps everything in memory and forgets it at the end",
    .options = NULL,
    .open = memory_open,
    .close = memory_close,
    .get = memory_get,
    .scan = memory_scan,
    .apply = memory_apply,
};
