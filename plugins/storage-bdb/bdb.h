/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Storage on Berkeley DB: what the files of this plugin share.
 *
 * home.c        the directory: whose it is, where it lies, who holds it
 * open.c        environment, databases, messages, the plugin's table
 * map.c         get and scan
 * apply.c       groups of batches in one transaction
 * checkpoint.c  the thread that keeps recovery short and drops old logs
 *
 * On disk: space-XX.db holds the rows whose key starts with byte XX, meta.db what the store must
 * remember about itself. A stored value is the row's revision, 8 bytes big endian, then the
 * value. */
#ifndef BDB_H
#define BDB_H

#include "plugins/kaiten-storage.h"

#include <db.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
    BDB_SPACES = 256,
    BDB_PAGE = 4096,            /* what a disk writes in one piece; the checksum finds the rest */
    BDB_REVISION = 8,           /* bytes before each value */
    BDB_ROW_MAX = BDB_REVISION + KAITEN_VALUE_MAX,
    BDB_CHUNK_MAX = 256 * 1024, /* bytes that a scan reads between two calls of the sink */
    BDB_EXIT = 75               /* EX_TEMPFAIL: a new process recovers what this one could not */
};

struct bdb_options {
    char *path; /* owned */
    int64_t cache_size, log_file_size, checkpoint_log; /* bytes */
    bool keep_logs;
};

struct bdb {
    struct kaiten_host host;
    struct bdb_options options;
    int lock; /* file descriptor that holds the directory */
    DB_ENV *env;
    DB *meta;
    _Atomic(DB *) space[BDB_SPACES]; /* NULL: no row was ever written there */
    atomic_bool running;             /* opened: from now on a panic ends the process */
    atomic_bool damaged;             /* a page's checksum was wrong */
    atomic_uint lines;               /* of the library's, logged lately */
    _Atomic(void *) chunk;           /* a spare buffer of BDB_CHUNK_MAX bytes for the next scan */
    pthread_rwlock_t gate;           /* readers share it; a writer that lost to them closes it */
    pthread_rwlock_t turn;           /* the writer's; shared by readers that lost to it too often.
                                      * Taken before the gate. */

    /* Used by apply() only. */
    uint64_t revision;               /* given out last */
    uint64_t reserved;               /* up to here none will be given out after a restart */
    unsigned char row[BDB_ROW_MAX];

    pthread_t checkpointer;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool stop; /* under mutex */
};

/* home.c */

/* Makes sure that path is a directory (created when only its last part is missing) that is fit to
 * hold a store, and locks it. On success *ret_lock is a descriptor; closing it gives the directory
 * free. Any thread. */
enum kaiten_status bdb_home_lock(const struct kaiten_host *, const char *path, int *ret_lock,
                                 struct kaiten_err *);

/* Bytes that may still be written below path; UINT64_MAX when that cannot be found out. */
uint64_t bdb_home_space(const char *path);

/* open.c */

/* The status for an error of the library, with what failed and why given to host->error(). */
enum kaiten_status bdb_fail(struct bdb *, struct kaiten_err *, int error, const char *what);

/* The status alone; 0 is KAITEN_DONE. */
enum kaiten_status bdb_status(struct bdb *, int error);

/* The database of the space that key lies in, NULL when the space is still empty. Any thread. */
DB *bdb_space(struct bdb *, struct kaiten_bytes key);

/* The same, but creates what is missing. apply() only. 0 or an error of the library. */
int bdb_space_create(struct bdb *, struct kaiten_bytes key);

/* map.c */
enum kaiten_status bdb_get(void *instance, const struct kaiten_bytes *keys, size_t nkeys,
                           struct kaiten_emit *, struct kaiten_err *);
enum kaiten_status bdb_scan(void *instance, const struct kaiten_range *, struct kaiten_emit *,
                            struct kaiten_err *);

/* Whether a call failed only because it was in the way of another: worth trying again. */
static inline bool
bdb_is_deadlock(int error)
{
    return error == DB_LOCK_DEADLOCK || error == DB_LOCK_NOTGRANTED;
}

/* apply.c */
enum kaiten_status bdb_apply(void *instance, const struct kaiten_batch *batches, size_t n,
                             struct kaiten_outcome *outcomes, struct kaiten_err *);

/* Reads what apply() has to remember, or writes it into a new store. During open only. 0 or an
 * error of the library. */
int bdb_apply_open(struct bdb *);

/* checkpoint.c */

/* Starts the thread. 0 or an errno. */
int bdb_checkpoint_start(struct bdb *);

/* Stops it and waits for its end. */
void bdb_checkpoint_stop(struct bdb *);

/* One checkpoint now, then removes the logs that it made superfluous, unless they are to be kept.
 * 0 or an error of the library. */
int bdb_checkpoint(struct bdb *);

static inline void
bdb_revision_put(unsigned char *to, uint64_t revision)
{
    for (int i = 0; i < BDB_REVISION; i++)
        to[i] = (unsigned char)(revision >> (8 * (BDB_REVISION - 1 - i)));
}

static inline uint64_t
bdb_revision_get(const unsigned char *from)
{
    uint64_t revision = 0;
    for (int i = 0; i < BDB_REVISION; i++)
        revision = revision << 8 | from[i];
    return revision;
}

/* A key to look up; the library does not write to it. */
static inline DBT
bdb_key(struct kaiten_bytes key)
{
    return (DBT){
        .data = (void *)key.p,
        .size = (u_int32_t)key.n,
        .ulen = (u_int32_t)key.n,
        .flags = DB_DBT_USERMEM,
    };
}

/* Memory of ours that the library fills. */
static inline DBT
bdb_buffer(void *p, size_t n)
{
    return (DBT){ .data = p, .ulen = (u_int32_t)n, .flags = DB_DBT_USERMEM };
}

#endif
