/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The storage plugin: an ordered map from byte keys to byte values with one atomic, conditional
 * write. It knows nothing of accounts, tokens or scopes; the daemon's rules live in keys and
 * conditions. kaiten-plugin-check(1) tries every promise that is written here. */
#ifndef KAITEN_STORAGE_H
#define KAITEN_STORAGE_H

#include "kaiten-plugin.h"

#define KAITEN_STORAGE_ABI 1

/* A batch never holds more than this; the daemon refuses larger ones before calling. */
enum {
    KAITEN_KEY_MAX = 512,          /* bytes; a key has at least 1 */
    KAITEN_VALUE_MAX = 64 * 1024,  /* bytes */
    KAITEN_BATCH_CONDS_MAX = 16,
    KAITEN_BATCH_WRITES_MAX = 64,
    KAITEN_APPLY_BATCHES_MAX = 1024
};

/* Promises. Unclaimed means that the daemon does without, or refuses at start the configuration
 * that needs it. */
enum {
    KAITEN_STORAGE_DURABLE = 1 << 0,         /* DONE from apply() survives power loss */
    KAITEN_STORAGE_NOTICES = 1 << 1,         /* calls host->changed() for foreign writes */
    KAITEN_STORAGE_OUTSIDE_WRITERS = 1 << 2, /* others may write the same store */
    KAITEN_STORAGE_BACKUP = 1 << 3           /* backup() is there */
};

/* A moment in the history of a store that others write, too. The daemon only hands it back. */
struct kaiten_position {
    uint64_t history; /* above 0; another number: acknowledged writes may be gone (a standby took
                         over without the last ones, a copy was put back) */
    uint64_t at;      /* the plugin's own; means nothing under another history */
};

/* from <= key < to, in the order of memcmp, a shorter key before its extensions. Both lie in one
 * space: the first byte of the key. to.n == 0, or to is the first byte of the next space: to the
 * end of the space. */
struct kaiten_range {
    struct kaiten_bytes from, to;
    bool backward;  /* greatest key first */
    uint64_t limit; /* at most this many rows; 0: no limit */
};

enum kaiten_cond_type {
    KAITEN_ABSENT = 1, /* the key has no row. Every batch that asks this also sets the key. */
    KAITEN_PRESENT = 2,
    KAITEN_AT = 3      /* the row's revision is exactly this one */
};

struct kaiten_cond {
    enum kaiten_cond_type type;
    struct kaiten_bytes key;
    uint64_t revision; /* for KAITEN_AT */
};

enum kaiten_write_type {
    KAITEN_SET = 1,
    KAITEN_DELETE = 2 /* of a key without a row: no effect, no error */
};

struct kaiten_write {
    enum kaiten_write_type type;
    struct kaiten_bytes key, value; /* value: for KAITEN_SET */
};

/* A revocation: goes first when the group has to be split. A durable store keeps some space for
 * them: when that is all there is, other batches are KAITEN_FULL and these are still written. */
enum { KAITEN_BATCH_URGENT = 1 };

/* All conditions hold and all writes happen, or nothing does. */
struct kaiten_batch {
    const struct kaiten_cond *conds;
    size_t nconds;
    const struct kaiten_write *writes;
    size_t nwrites;
    unsigned char id[16]; /* operation id, random, for stores that must resolve unknown outcomes */
    unsigned flags;
};

/* What became of one batch. */
struct kaiten_outcome {
    enum kaiten_status status;
    size_t failed;     /* with KAITEN_CONFLICT: the index of the first condition that failed */
    uint64_t revision; /* with KAITEN_DONE: the revision of every row that the batch set */
};

struct kaiten_storage {
    uint32_t size;    /* sizeof this struct in the plugin's build */
    uint16_t abi;     /* KAITEN_STORAGE_ABI */
    uint16_t threads; /* enum kaiten_threads: the most that the plugin can take */
    uint64_t caps;    /* KAITEN_STORAGE_...; each is tried by kaiten-plugin-check */
    const char *name, *version, *summary;
    const struct kaiten_option *options; /* ends with a row whose name is NULL; NULL: no options */

    /* Opens or creates the store, recovers it, and locks it against a second opener. May start
     * threads. On success *ret_instance is what every later call gets. Required. */
    enum kaiten_status (*open)(const struct kaiten_host *, const struct kaiten_config *,
                               void **ret_instance, struct kaiten_err *);

    /* Ends the instance; no other call is running or follows. Required. */
    void (*close)(void *instance);

    /* Emits the row of each key that has one, in the order of keys. An absent key emits nothing and
     * is no error. nkeys <= KAITEN_BATCH_WRITES_MAX. Required. */
    enum kaiten_status (*get)(void *instance, const struct kaiten_bytes *keys, size_t nkeys,
                              struct kaiten_emit *, struct kaiten_err *);

    /* Emits the rows of the range in key order, until the range, the limit, or the sink's patience
     * ends. Each row is whole; rows written meanwhile may or may not be seen. Required. */
    enum kaiten_status (*scan)(void *instance, const struct kaiten_range *, struct kaiten_emit *,
                               struct kaiten_err *);

    /* Applies n batches, 1 <= n <= KAITEN_APPLY_BATCHES_MAX, as if one after the other: each sees
     * the writes of those before it that were done. A batch whose condition fails is skipped and
     * says which; the others go on. One sync for all. outcomes[i] is set for every i when the call
     * returns KAITEN_DONE; any other return means that no batch was written (or, KAITEN_UNKNOWN,
     * that this cannot be said). Revisions come from one counter of the store that never repeats,
     * not even after a delete or a restart; they are above 0. Batches that share no key may have
     * the same one. Called by one thread. Required. */
    enum kaiten_status (*apply)(void *instance, const struct kaiten_batch *batches, size_t n,
                                struct kaiten_outcome *outcomes, struct kaiten_err *);

    /* A number that moves whenever anybody writes, and never back while nothing is lost. NULL: no
     * outside writers. */
    enum kaiten_status (*revision)(void *instance, uint64_t *ret_revision, struct kaiten_err *);

    /* DONE: reads and writes would work now. NULL: always healthy. */
    enum kaiten_status (*health)(void *instance, struct kaiten_err *);

    /* Writes a copy of the store, as it was at one moment of the call, into an empty directory that
     * the caller has made, and nowhere else; reads and writes go on meanwhile. DONE: the copy was
     * opened and read to see that it is good, is on the disk, and belongs to its owner alone. The
     * directory is then a store that open() takes, wherever it is moved; open() refuses it with
     * KAITEN_CORRUPT when any file of it was cut or changed in between. Any other return leaves
     * the directory empty, as far as its disk lets files be removed. A disk that is full or fails
     * there is an error of this call alone. Takes as long as the store is large. NULL:
     * unsupported. */
    enum kaiten_status (*backup)(void *instance, const char *dir, struct kaiten_err *);

    /* Reads all that is stored, past every cache, and says through host->log() what is damaged.
     * KAITEN_CORRUPT: something is; err has the summary. Reads and writes go on meanwhile. Not
     * called beside itself. NULL: unsupported. */
    enum kaiten_status (*check)(void *instance, struct kaiten_err *);

    /* Whether the directory is, byte for byte, what backup() has left there; changes nothing.
     * KAITEN_CORRUPT: it is not, and err names the file. Needs no instance; any thread. NULL when
     * backup is. */
    enum kaiten_status (*verify)(const struct kaiten_host *, const char *dir, struct kaiten_err *);

    /* Emits what anybody, this daemon too, has written into the spaces (first bytes of keys) since
     * an earlier call: each row as it is now, at least once, in no order; a key whose row is gone
     * comes with value.p NULL. No write that was committed before the call is left out, in whatever
     * order commits happen. *ret_now is what to give next time; with since NULL it is all there is,
     * and nothing is emitted. KAITEN_CONFLICT: since is of another history, or too long ago;
     * nothing was emitted, *ret_now is set, and the daemon reads everything again; until that has
     * worked it asks with a history of 0, which is nobody's. Not called beside itself. Required
     * with KAITEN_STORAGE_OUTSIDE_WRITERS; NULL without. */
    enum kaiten_status (*changes)(void *instance, const struct kaiten_position *since,
                                  struct kaiten_bytes spaces, struct kaiten_emit *,
                                  struct kaiten_position *ret_now, struct kaiten_err *);

    /* Makes the store, or brings it to the format of this build, with rights that the daemon
     * itself does not need: kaitend --init-store. Doing it twice is no error. NULL: open() does all
     * that is needed. */
    enum kaiten_status (*init)(const struct kaiten_host *, const struct kaiten_config *,
                               struct kaiten_err *);

    /* Which of caps hold as things are set up now: fewer than caps when an administrator has
     * switched something off (commits that wait for the disk), or something on the way swallows it
     * (notices). The plugin has said so in the log, and the daemon shows it. Never blocks; any
     * thread. NULL: all of caps. */
    uint64_t (*kept)(void *instance);
    /* New members go here, never above. */
};

#ifdef KAITEN_STATIC_PLUGINS
#define KAITEN_STORAGE_SYMBOL(plugin) const struct kaiten_storage kaiten_storage_##plugin
#else
#define KAITEN_STORAGE_SYMBOL(plugin) \
    extern const struct kaiten_storage kaiten_storage_plugin; \
    __attribute__((visibility("default"))) const struct kaiten_storage kaiten_storage_plugin
#endif

#endif
