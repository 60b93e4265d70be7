/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Storage on Berkeley DB: what the files of this plugin share.
 *
 * open.c        the plugin's table; opening, repairing once when that fails, closing
 * store.c       the databases, the format, the spaces
 * env.c         environments and what the library says about them
 * process.c     the library's hooks, syncs, the end of the process
 * spare.c       memory that is set aside for the look at a copy
 * home.c        the directory: whose it is, where it lies, who holds it
 * file.c        files of ours: copies, markers, folders
 * map.c         get and scan
 * apply.c       groups of batches in one transaction
 * known.c       revisions that apply() has read lately
 * room.c        free space: what is kept for revocations
 * checkpoint.c  the thread that keeps recovery short
 * copy.c        a verified copy of the running store
 * manifest.c    what a copy consists of
 * base.c        the thread that keeps a base copy and drops the logs before it; backups
 * repair.c      a damaged store is built anew from the base copy and the logs
 * page.c        pages and logs, read past the library
 * hole.c        pages that were never written
 * sum.c         the library's checksum, faster
 * tree.c        whether a database file is whole, read past the library
 * layout.h      pages as the library has them
 * leaf.c        rows of a space that nobody has written to, read past the library
 *
 * On disk: space-XX.db holds the rows whose key starts with byte XX, meta.db what the store must
 * remember about itself. A stored value is the row's revision, how many bytes it has and these big
 * endian, then the value. Up to format 2 all 8 bytes stood there alone; the first of them was 0. */
#ifndef BDB_H
#define BDB_H

#include "plugins/kaiten-storage.h"

#include <db.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum {
    BDB_SPACES = 256,
    BDB_PAGE = 4096,            /* what a disk writes in one piece; the checksum finds the rest */
    BDB_REVISION = 8,           /* bytes before each value at most; no revision needs all of them */
    BDB_ROW_MAX = BDB_REVISION + KAITEN_VALUE_MAX,
    BDB_CHUNK_MAX = 256 * 1024, /* bytes that a scan reads between two calls of the sink */
    BDB_PATH = 4096,
    BDB_PATH_MAX = BDB_PATH - 64, /* of the store: leaves room for names below it */
    BDB_NAME = 32,                /* of a database or log file */
    BDB_FORMAT = 3,
    BDB_KNOWN = 4096,             /* rows whose revision apply() keeps in mind */
    BDB_KNOWN_KEY = 48,           /* bytes of a key at most */
    BDB_MARK = 16,                /* bytes that tell one copy from another */
    BDB_EXIT = 75                 /* EX_TEMPFAIL: a new process recovers what this one could not */
};

struct bdb_options {
    char *path; /* owned */
    int64_t cache_size, log_file_size, checkpoint_log, base_log, ballast, reserve; /* bytes */
    bool keep_logs;
};

/* What the library said about one environment; its app_private. */
struct bdb_voice {
    const struct kaiten_host *host;
    struct bdb *running;  /* a panic of this one ends the process; NULL: it only fails calls */
    atomic_bool heard;    /* somebody writes text */
    atomic_bool damaged;  /* it spoke of damage; text says how */
    atomic_bool starved;  /* it spoke of memory or a descriptor that it could not have */
    atomic_int passing;   /* the errno of which it spoke first, of those that may pass */
    atomic_uint lines;    /* logged lately */
    char text[160];
};

/* Why something failed; the first text wins. What of it reaches the operator is decided at the
 * border: a failure that was repaired is no error of the call. */
struct bdb_why {
    char text[400];
};

/* A row that is there; n 0: none. */
struct bdb_known {
    size_t n;
    uint64_t revision;
    unsigned char key[BDB_KNOWN_KEY];
};

struct bdb {
    struct kaiten_host host;
    struct bdb_options options;
    int lock; /* file descriptor that holds the directory */
    struct bdb_voice voice;
    DB_ENV *env;
    DB *meta;
    _Atomic(DB *) space[BDB_SPACES]; /* NULL: no row was ever written there */
    atomic_bool written[BDB_SPACES]; /* since the store was opened; set before it happens */
    int ahead_file;                  /* of the thread that reads ahead */
    bool ahead;                      /* it was started */
    atomic_bool is_ahead;            /* so nobody else need do it, once */
    pthread_t ahead_thread;
    _Atomic(void *) chunk;           /* a spare buffer of BDB_CHUNK_MAX bytes for the next scan */
    pthread_rwlock_t gate;           /* readers share it; a writer that lost to them closes it */
    pthread_rwlock_t turn;           /* the writer's; shared by readers that lost to it too often
                                      * and by whoever needs a moment without a transaction.
                                      * Taken before the gate. */

    /* Used by apply() only. */
    uint64_t revision;               /* given out last */
    uint64_t reserved;               /* up to here none will be given out after a restart */
    int64_t looked;                  /* when apply() last looked at the free space, monotonic us */
    size_t unlooked;                 /* bytes of batches since */
    bool roomy;                      /* what it saw */
    unsigned char row[BDB_ROW_MAX];
    struct bdb_known known[BDB_KNOWN];
    struct kaiten_batch part[KAITEN_APPLY_BATCHES_MAX];
    struct kaiten_outcome part_outcomes[KAITEN_APPLY_BATCHES_MAX];

    /* room.c */
    uint64_t ballast_size, reserve, base_log; /* the options, cut to the size of the disk */
    pthread_mutex_t ballast_lock;             /* whoever changes the file */
    _Atomic uint64_t ballast;                 /* bytes that it has */

    /* base.c */
    pthread_mutex_t copying; /* one copy at a time; guards what follows */
    uint32_t base_first;     /* first log that a repair needs; 0: it could not be repaired now */
    bool base_due;           /* make one as soon as possible */

    pthread_t checkpointer, keeper;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    atomic_bool stop; /* set under mutex */
};

/* process.c */

/* Once per instance, before anything else of the library. */
void bdb_hooks_set(const struct kaiten_host *);

/* Around the opening of an environment. When the library cannot read the log, for want of memory or
 * because of an error of the disk, it takes that for the end of the log, cuts the log there and
 * writes on; but it says so. Once that is noted, nothing that this thread writes through the
 * library reaches a file, until this environment is closed and the thread says so by
 * bdb_watch_forget(). bdb_watch_end: what was noted first, an errno; 0: nothing. */
void bdb_watch_begin(void);
void bdb_watch_note(int error);
int bdb_watch_end(void);
void bdb_watch_forget(void);

/* Says why and ends the process: nothing that it would answer from here on could be trusted. */
_Noreturn void bdb_die(const char *what, const char *why);

/* Return 0 when the disk has it. If it cannot, the process ends; only for a copy as below they
 * return an errno. */
int bdb_sync(int fd);
int bdb_sync_directory(const char *path);

/* A copy in dir that is no part of the store is made in this thread, and what its disk refuses is
 * an error of the call. From bdb_away_only() on the thread writes nothing but the copy.
 * bdb_away_end: why a sync of it failed first, an errno; 0: none did. */
void bdb_away_begin(const char *dir);
void bdb_away_only(void);
int bdb_away_end(void);

/* Starts a thread that no signal reaches. 0 or an errno. */
int bdb_thread_start(pthread_t *, void *(*run)(void *), void *arg);

/* spare.c */

/* Once per process, before anything else of the library. */
void bdb_spare_hooks(void);

/* From now on until the end of it what the library asks for in this thread comes from so many
 * bytes, and from elsewhere only when they are used up. What was made in between is gone after the
 * end, and no other thread may have it. 0 or an errno. */
int bdb_spare_begin(size_t bytes);
void bdb_spare_end(void); /* also when there was no beginning */

/* home.c */

/* Makes sure that path is a directory (created when only its last part is missing) that is fit to
 * hold a store, and locks it. On success *ret_lock is a descriptor; closing it gives the directory
 * free. Any thread. */
enum kaiten_status bdb_home_lock(const struct kaiten_host *, const char *path, int *ret_lock,
                                 struct kaiten_err *);

/* file.c: all return 0 or an errno, -1 for a number that is none. Any thread. */

/* dir/name; false: too long. */
bool bdb_path(char out[BDB_PATH], const char *dir, const char *name);

/* The number of the log, or of the space, that a file holds; 0, or -1: another file. */
uint32_t bdb_log_number(const char *name);
int bdb_space_number(const char *name);
bool bdb_is_database(const char *name);
void bdb_log_name(char out[BDB_NAME], uint32_t number);
void bdb_space_name(char out[BDB_NAME], unsigned char space);

/* Calls each(arg, name) for the plain files of dir, "." and ".." never; stops at the first that is
 * not 0. */
int bdb_each_file(const char *dir, int (*each)(void *arg, const char *name), void *arg);

/* The smallest and the greatest number of a log in dir, both 0: none; *ret_gap: the greatest that
 * is missing between them, or 0. */
int bdb_logs(const char *dir, uint32_t *ret_first, uint32_t *ret_last, uint32_t *ret_gap);

/* Also when that cannot be found out: nothing is taken for gone that may be there. */
bool bdb_exists(const char *dir, const char *name);
uint64_t bdb_size(const char *dir, const char *name);
/* Of all databases in dir. */
uint64_t bdb_databases_size(const char *dir);

/* Makes to/name the first bytes of from/name, synced. May share what is never written again. */
int bdb_copy_file(const char *from, const char *to, const char *name, uint64_t bytes);
int bdb_link_file(const char *from, const char *to, const char *name);

/* Also for bdb_each_file(), of a dir that is a const char *. Leaves out what is neither a database
 * nor a log. */
int bdb_sync_file(void *dir, const char *name);

/* An empty directory of mode 0700: what was there is gone. Or nothing at all. */
int bdb_directory_new(const char *path);
int bdb_directory_remove(const char *path);

/* Replaces dir/name in one step, synced. */
int bdb_write_file(const char *dir, const char *name, const char *text);
/* Text of dir/name, at most n - 1 bytes; empty when there is no such file. */
int bdb_read_file(const char *dir, const char *name, char *ret, size_t n);
int bdb_move(const char *from, const char *to, const char *name);

/* env.c */

/* Opens an environment of this process alone at home. recover: DB_RECOVER or DB_RECOVER_FATAL. The
 * voice must outlive it. 0 or an error of the library; *ret_env is set in any case when there is
 * something to close. */
int bdb_env_open(struct bdb_voice *, const struct bdb_options *, const char *home,
                 int64_t cache_size, u_int32_t recover, DB_ENV **ret_env);

/* Forgets what was said before. */
void bdb_voice_reset(struct bdb_voice *);

void bdb_why(struct bdb_why *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The status for an error of the library, with what failed and why given to host->error(). Has the
 * next start repair the store when a file is damaged; ends the process when a page is not there. */
enum kaiten_status bdb_fail(struct bdb *, struct kaiten_err *, int error, const char *what);

/* The status alone; 0 is KAITEN_DONE. */
enum kaiten_status bdb_status(struct bdb *, int error);

/* Ends the process because nobody can say whether what failed is on the disk, or was there. Has the
 * next start repair the store when it is damaged. */
_Noreturn void bdb_lost(struct bdb *, const char *what, int error);

/* store.c */

/* Opens environment and databases. On an error whatever is open stays so until bdb_store_close().
 * 0 or an error of the library. */
int bdb_store_open(struct bdb *, struct bdb_why *);
void bdb_store_close(struct bdb *);

/* The database of the space that key lies in, NULL when the space is still empty. Any thread. */
DB *bdb_space(struct bdb *, struct kaiten_bytes key);

/* The same, but creates what is missing. apply() only. 0 or an error of the library. */
int bdb_space_create(struct bdb *, struct kaiten_bytes key);

int bdb_database_open(DB_ENV *, const char *name, bool create, DB **ret_db);

/* A row of meta.db. 0, DB_NOTFOUND or another error; the value has exactly n bytes. */
int bdb_meta_get(DB *meta, const char *name, void *value, size_t n);
int bdb_meta_put(DB *meta, const char *name, const void *value, size_t n);

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

/* Reads what apply() has to remember, of which a new store has nothing. During open only. 0 or an
 * error of the library. */
int bdb_apply_open(struct bdb *);

/* known.c: apply() only. */

/* Whether the row is known to be there, also as the transaction at work has it. */
bool bdb_known_get(struct bdb *, struct kaiten_bytes key, uint64_t *ret_revision);

/* The row was read; a long key is left out. */
void bdb_known_put(struct bdb *, struct kaiten_bytes key, uint64_t revision);

/* The row is written or deleted. All: what was written is taken back. */
void bdb_known_forget(struct bdb *, struct kaiten_bytes key);
void bdb_known_forget_all(struct bdb *);

/* room.c */

/* Looks how large the disk is, and gives the ballast up when a recovery might need it. */
void bdb_room_open(struct bdb *);

/* Bytes that may still be written below path; UINT64_MAX when that cannot be found out. */
uint64_t bdb_room_free(const char *path);

/* Whether there is more than what is kept for revocations. Any thread. */
bool bdb_room_is_there(struct bdb *);

/* Refuses what is no revocation, for want of room. KAITEN_FULL. */
enum kaiten_status bdb_room_refuse(struct bdb *, struct kaiten_err *);

/* Gives up a piece of the ballast; false: there is none left. Any thread. */
bool bdb_room_give(struct bdb *);

/* Takes it back when there is space again. */
void bdb_room_take(struct bdb *);

/* checkpoint.c */

/* Starts both threads. 0 or an errno. */
int bdb_threads_start(struct bdb *);

/* Stops them and waits for their end. */
void bdb_threads_stop(struct bdb *);

/* False: it is time to end. */
bool bdb_wait(struct bdb *, int64_t ms);

/* One checkpoint now. 0 or an error of the library. */
int bdb_checkpoint(struct bdb *);

/* Bytes of log that a recovery would have to read now. */
uint64_t bdb_log_unchecked(struct bdb *);

/* copy.c */

/* Fills the empty directory with a copy of the store as it was at one moment of this call, and
 * opens the copy to see that it is good. With logs it is a store of its own; without, it is good
 * together with the logs of this store from *ret_first on. Any thread that holds copying. */
enum kaiten_status bdb_copy(struct bdb *, const char *dir, bool logs, uint32_t *ret_first,
                            struct bdb_why *);

/* Recovers the copy of a store in dir from all logs there and looks at each page of it. mark:
 * BDB_MARK bytes that it must remember, NULL: any. */
enum kaiten_status bdb_copy_verify(struct bdb *, const char *dir, const unsigned char *mark,
                                   struct bdb_why *);

/* manifest.c */

/* Writes dir/manifest about all databases and logs in dir, and syncs all of them. first: the log
 * that the copy needs first, 0 when it brings its own. 0 or an errno. */
int bdb_manifest_write(const char *dir, uint32_t first);

/* Whether dir is what its manifest says, byte for byte, and has nothing else of a store.
 * KAITEN_CORRUPT: it is not. KAITEN_FAILED: a newer version has made it, or it
 * cannot be read now. */
enum kaiten_status bdb_manifest_check(const char *dir, uint32_t *ret_first, struct bdb_why *);

/* The same without looking at the files; 0: no manifest, or a damaged one. */
uint32_t bdb_manifest_first(const char *dir);

enum kaiten_status bdb_verify(const struct kaiten_host *, const char *dir, struct kaiten_err *);

/* base.c */

/* Tidies up what a copy that was cut short has left, and finds out what there is. */
void bdb_base_open(struct bdb *);
/* Makes base.old the base copy again when there is none: the process ended between two renames. */
void bdb_base_put_back(struct bdb *);
void *bdb_base_run(void *bdb);
enum kaiten_status bdb_backup(void *instance, const char *dir, struct kaiten_err *);

/* repair.c */

/* Whether an earlier process asked for a repair, was interrupted in one, or could not do it; then
 * KAITEN_CORRUPT with what to do. */
enum kaiten_status bdb_repair_pending(struct bdb *, bool *ret_wanted, struct bdb_why *);

/* Builds the store anew while it is closed. */
enum kaiten_status bdb_repair(struct bdb *, const char *why, struct bdb_why *);

/* Remembers for the next start that the library gave up, or that a file is damaged. Any thread. */
void bdb_repair_note(struct bdb *, bool damaged, const char *why);

/* Nothing is wrong any more. */
void bdb_repair_forget(struct bdb *);

/* sum.c: any thread. */

/* What the library computes over pages and records of the log. */
uint32_t bdb_sum(const unsigned char *, size_t n);

/* Whether it is: ours is used in the place of the library's. */
bool bdb_sum_check(void);

/* page.c */

/* Where a log ends, or whatever a page of a database has to say of it. */
struct bdb_lsn {
    uint32_t file, offset;
};

static inline bool
bdb_lsn_below(struct bdb_lsn a, struct bdb_lsn b)
{
    return a.file < b.file || (a.file == b.file && a.offset < b.offset);
}

/* Reads a database file page by page. Damaged pages, and those that the file says it has and has
 * not, are told to host.log(); *ret_bad counts them, *ret_newest is the newest change that a good
 * page has. 0 or an errno. */
int bdb_pages_check(struct bdb *, const char *dir, const char *name, uint64_t *ret_pages,
                    uint64_t *ret_bad, struct bdb_lsn *ret_newest);

/* How many pages the database file says it has, and how many of them are there at least. 0 or an
 * errno. */
int bdb_pages_count(const char *dir, const char *name, uint64_t *ret_said, uint64_t *ret_there);

/* The newest change among the last pages of a database file, where what is added goes: of all pages
 * only a store that is small has them here, and a start does not wait for a large one. Nobody may
 * write meanwhile. Raises *newest; 0 or an errno. */
int bdb_pages_newest(const char *dir, const char *name, struct bdb_lsn *newest);

/* Reads the log file. *ret_end: where its good records end; *ret_torn: what follows was written
 * after them and never finished, or nothing follows; false: records that were once whole. 0 or an
 * errno. */
int bdb_log_check(const char *dir, uint32_t number, uint32_t *ret_end, bool *ret_torn);

/* The same for the last log that has records. Those behind it were made and never written to: for
 * the library the log ends before them. first, *last: between which to look; *last: which it is, or
 * the first one that there is. */
int bdb_log_end(const char *dir, uint32_t first, uint32_t *last, uint32_t *ret_end,
                bool *ret_torn);

enum kaiten_status bdb_check(void *instance, struct kaiten_err *);

/* Whether the page is the one of this number, and its sum is right, or nothing was ever written to
 * it. Overwrites the sum. */
bool bdb_page_is_good(unsigned char page[BDB_PAGE], uint32_t number);

/* hole.c */

/* Once per process, before anything else of the library. */
void bdb_holes_hook(void);

/* From now on, or no longer, a page that this thread has the library read was written once: it is
 * damaged when there are nothing but zeros. Not while the library recovers, or copies a file. */
void bdb_holes_watch(bool watch);

/* Whether nothing was ever written to the page. */
bool bdb_page_is_hole(const unsigned char page[BDB_PAGE]);

/* tree.c */

/* Whether the file, which nobody writes to, has nothing but good pages, each in one place of a tree
 * whose keys ascend. False: it has not, or has something that only the library can judge. Any
 * thread. */
bool bdb_tree_is_whole(const char *dir, const char *name);

/* leaf.c */

/* A way through the leaves of a space, from one key upwards. */
struct bdb_leaf {
    int fd; /* -1: there is none */
    const atomic_bool *written;
    uint32_t next, before; /* pages: to be read, and read last */
    uint32_t left;         /* leaves that may follow: one for each page of the file */
    unsigned item, items;  /* of the page: two for each row */
    unsigned char page[BDB_PAGE];
};

enum bdb_leaf_found { BDB_LEAF_THERE, BDB_LEAF_END, BDB_LEAF_ODD };

/* fd is -1: the library has to be asked. Any thread, as all of them, with a bdb_leaf of its own. */
void bdb_leaf_open(struct bdb_leaf *, struct bdb *, unsigned char space);
void bdb_leaf_close(struct bdb_leaf *);

/* Looks for the leaf that the key would be in, to be read next. False: ask the library. */
bool bdb_leaf_find(struct bdb_leaf *, struct kaiten_bytes key);

/* Reads the next leaf. BDB_LEAF_ODD: only the library can say what is there. */
enum bdb_leaf_found bdb_leaf_read(struct bdb_leaf *);

/* The rows of what was read, one after the other; false: no more. Valid until the next read. */
bool bdb_leaf_row(struct bdb_leaf *, struct kaiten_bytes *ret_key, struct kaiten_bytes *ret_row);

/* Has the kernel read all of the space: a cold file is read ten times faster in one go than page by
 * page. Returns when it was asked to. */
void bdb_read_ahead(struct bdb *, unsigned char space);

/* The same for the space that a start reads, while the environment is still being opened. */
void bdb_ahead_start(struct bdb *);
void bdb_ahead_end(struct bdb *);

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

/* The order of keys. */
static inline int
bdb_compare(struct kaiten_bytes a, struct kaiten_bytes b)
{
    int order = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

/* What stands before a value; how many bytes that are. */
static inline size_t
bdb_head_put(unsigned char to[BDB_REVISION], uint64_t revision)
{
    unsigned char n = 1;
    while (n < BDB_REVISION - 1 && revision >> (8 * n) != 0)
        n++;
    to[0] = n;
    for (unsigned char i = 0; i < n; i++)
        to[1 + i] = (unsigned char)(revision >> (8 * (n - 1 - i)));
    return 1 + (size_t)n;
}

/* The same read from a row of which so many bytes are there; 0: there is none. */
static inline size_t
bdb_head_get(const unsigned char *row, size_t n, uint64_t *ret_revision)
{
    size_t bytes = n > 0 ? row[0] : 0;
    if (bytes == 0) {
        if (n < BDB_REVISION)
            return 0;
        *ret_revision = bdb_revision_get(row);
        return BDB_REVISION;
    }
    if (bytes >= BDB_REVISION || n < 1 + bytes)
        return 0;
    *ret_revision = 0;
    for (size_t i = 1; i <= bytes; i++)
        *ret_revision = *ret_revision << 8 | row[i];
    return 1 + bytes;
}

/* A key to look up. READONLY: as the order is not the library's own, it would write back the key
 * that it has found. */
static inline DBT
bdb_key(struct kaiten_bytes key)
{
    return (DBT){
        .data = (void *)key.p,
        .size = (u_int32_t)key.n,
        .ulen = (u_int32_t)key.n,
        .flags = DB_DBT_USERMEM | DB_DBT_READONLY,
    };
}

/* Memory of ours that the library fills. */
static inline DBT
bdb_buffer(void *p, size_t n)
{
    return (DBT){ .data = p, .ulen = (u_int32_t)n, .flags = DB_DBT_USERMEM };
}

#endif
