/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A copy of the running store: a checkpoint, the database files page by page, then a moment without
 * a transaction, and the logs from the checkpoint to that moment. The files alone are of no single
 * moment; recovered from these logs they are. */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    TRIES = 10,           /* of reading a file that the writer is busy with */
    CACHE = 64 << 20,     /* for recovering the copy: what was minted meanwhile is all over it */
    SPARE = 2 * CACHE,    /* the library's other needs, and what is lost between the pieces */
    READ_PAGES = 256,     /* copied in one go, then the disk belongs to others for a while */
    READ_PAUSE_US = 1000
};

static const char mark_name[] = "copy"; /* a row of meta.db */

struct copy {
    struct bdb *bdb;
    const char *dir;
    uint32_t first;               /* log that the copy needs first */
    uint32_t last, last_bytes;    /* where the log ended at the moment */
    unsigned char mark[BDB_MARK];
};

/* --- taking ------------------------------------------------------------------------------- */

static int
database_copy(void *arg, const char *name)
{
    struct copy *copy = arg;
    DB_ENV *env = copy->bdb->env;
    if (!bdb_is_database(name))
        return 0;
    if (atomic_load(&copy->bdb->stop))
        return ECANCELED;
    int error = DB_LOCK_DEADLOCK;
    for (int i = 0; i < TRIES && bdb_is_deadlock(error); i++)
        error = env->dbbackup(env, name, copy->dir, 0);
    /* What the library says of a write that had no room for all of it. */
    bool full = error == EAGAIN && bdb_room_free(copy->dir) < (uint64_t)READ_PAGES * BDB_PAGE;
    return full ? ENOSPC : error;
}

/* The first log that a recovery of files that are copied from now on may need. Logs that nobody
 * needs are removed in no order: when that was cut short, there is a gap among them, and below it
 * the library names none. */
static int
first_log(struct bdb *bdb, uint32_t *ret_first)
{
    uint32_t first, last, gap;
    char **unneeded = NULL;
    int error = bdb->env->log_archive(bdb->env, &unneeded, 0);
    if (!error)
        error = bdb_logs(bdb->options.path, &first, &last, &gap);
    if (error) {
        free(unneeded);
        return error;
    }
    *ret_first = gap != 0 ? gap + 1 : first;
    for (char **name = unneeded; name && *name; name++) {
        uint32_t number = bdb_log_number(*name);
        if (number >= *ret_first)
            *ret_first = number + 1;
    }
    free(unneeded);
    return 0;
}

/* The moment that the copy is of: between two groups, everything before it in the log's files. */
static int
moment_take(struct copy *copy)
{
    struct bdb *bdb = copy->bdb;
    DB_LOG_STAT *stat = NULL;
    bdb->host.random(copy->mark, sizeof copy->mark);
    pthread_rwlock_rdlock(&bdb->turn);
    int error = bdb_meta_put(bdb->meta, mark_name, copy->mark, sizeof copy->mark);
    if (!error)
        error = bdb->env->log_stat(bdb->env, &stat, 0);
    if (!error) {
        copy->last = stat->st_cur_file;
        copy->last_bytes = stat->st_cur_offset;
        /* After the look: a checkpoint writes to the log, too, and asks nobody. */
        error = bdb->env->log_flush(bdb->env, NULL);
    }
    pthread_rwlock_unlock(&bdb->turn);
    free(stat);
    return error;
}

static int
logs_copy(struct copy *copy)
{
    const char *from = copy->bdb->options.path;
    char name[BDB_NAME];
    int error = 0;
    for (uint32_t n = copy->first; n < copy->last && !error; n++) {
        bdb_log_name(name, n);
        error = bdb_link_file(from, copy->dir, name);
    }
    if (error)
        return error;
    bdb_log_name(name, copy->last);
    return bdb_copy_file(from, copy->dir, name, copy->last_bytes);
}

static int
copy_take(struct copy *copy)
{
    struct bdb *bdb = copy->bdb;
    DB_ENV *env = bdb->env;
    env->set_backup_config(env, DB_BACKUP_READ_COUNT, READ_PAGES);
    env->set_backup_config(env, DB_BACKUP_READ_SLEEP, READ_PAUSE_US);
    int error = bdb_checkpoint(bdb);
    if (!error)
        error = first_log(bdb, &copy->first);
    if (!error)
        error = bdb_each_file(bdb->options.path, database_copy, copy);
    if (!error)
        error = moment_take(copy);
    if (!error && copy->first > copy->last)
        error = ENOENT; /* a log that is none of this store has made it look so */
    bdb_away_only();
    if (!error)
        error = logs_copy(copy);
    return error ? error : bdb_sync_directory(copy->dir);
}

/* --- verifying ---------------------------------------------------------------------------- */

struct inspection {
    struct bdb *bdb;
    const char *dir;
    DB_ENV *env;
    unsigned char spaces[BDB_SPACES / 8]; /* that have a file */
};

/* Every page, its sum, its place in the tree. */
static int
database_inspect(void *arg, const char *name)
{
    struct inspection *in = arg;
    int space = bdb_space_number(name);
    if (!bdb_is_database(name))
        return 0;
    if (space >= 0)
        in->spaces[space / 8] |= (unsigned char)(1u << space % 8);
    if (atomic_load(&in->bdb->stop))
        return ECANCELED;
    if (bdb_tree_is_whole(in->dir, name))
        return 0;
    DB *db;
    int error = db_create(&db, in->env, 0);
    return error ? error : db->verify(db, name, NULL, NULL, 0); /* also frees the handle */
}

static int
meta_inspect(struct inspection *in, const unsigned char *mark)
{
    DB *meta = NULL;
    unsigned char there[BDB_MARK], noted[BDB_SPACES / 8] = { 0 };
    int error = bdb_database_open(in->env, "meta.db", false, &meta);
    if (error)
        return error == ENOENT ? DB_VERIFY_BAD : error;
    error = bdb_meta_get(meta, "spaces", noted, sizeof noted);
    if (error == DB_NOTFOUND)
        error = 0;
    for (size_t i = 0; i < sizeof noted && !error; i++) {
        if (noted[i] & ~in->spaces[i])
            error = DB_VERIFY_BAD;
    }
    if (!error && mark) {
        error = bdb_meta_get(meta, mark_name, there, sizeof there);
        if (error == DB_NOTFOUND || (!error && memcmp(there, mark, sizeof there) != 0))
            error = DB_VERIFY_BAD;
    }
    int closed = meta->close(meta, 0);
    return error ? error : closed;
}

static int
copy_inspect(struct inspection *in, const unsigned char *mark)
{
    int error = in->env->memp_sync(in->env, NULL); /* files are read past the library */
    if (!error)
        error = bdb_each_file(in->dir, database_inspect, in);
    if (!error)
        error = meta_inspect(in, mark);
    return error ? error : in->env->txn_checkpoint(in->env, 0, 0, DB_FORCE);
}

static enum kaiten_status
copy_failed(struct bdb *bdb, int error, const char *what, struct bdb_why *why)
{
    bdb_why(why, "%s: %s", what, db_strerror(error));
    return bdb_status(bdb, error);
}

/* What the disk, or a lack of something, has kept from it says nothing about the copy, nor about
 * the store that it is of, whatever the library makes of it. */
static enum kaiten_status
verify_failed(struct bdb *bdb, struct bdb_voice *voice, const char *dir, int error,
              struct bdb_why *why)
{
    int passing = atomic_load(&voice->passing);
    bool said = atomic_load(&voice->damaged);
    if (passing == 0 && said)
        bdb_why(why, "%s: %s", dir, voice->text);
    else
        bdb_why(why, "%s: %s", dir, db_strerror(passing ? passing : error));
    if (passing != 0)
        return bdb_status(bdb, passing);
    return said || error == DB_RUNRECOVERY ? KAITEN_CORRUPT : bdb_status(bdb, error);
}

enum kaiten_status
bdb_copy_verify(struct bdb *bdb, const char *dir, const unsigned char *mark,
                struct bdb_why *why)
{
    struct bdb_voice voice = { .host = &bdb->host };
    struct inspection in = { .bdb = bdb, .dir = dir };
    int error = bdb->env ? bdb_spare_begin(SPARE) : 0; /* in a repair nothing serves yet */
    if (error)
        return copy_failed(bdb, error, dir, why);
    error = bdb_env_open(&voice, &bdb->options, dir, CACHE, DB_RECOVER_FATAL, &in.env);
    if (!error)
        error = copy_inspect(&in, mark);
    if (in.env) {
        int closed = in.env->close(in.env, 0);
        error = error ? error : closed;
    }
    bdb_spare_end();
    bdb_watch_forget(); /* this thread may have to write for the store, too */
    return error ? verify_failed(bdb, &voice, dir, error, why) : KAITEN_DONE;
}

/* --- both --------------------------------------------------------------------------------- */

struct pruning {
    const char *dir;
    uint32_t from; /* the first log that stays */
};

/* Whatever is no part of the copy: logs that it does not need, and files of the library's own. */
static int
prune_one(void *arg, const char *name)
{
    const struct pruning *pruning = arg;
    char path[BDB_PATH];
    if (bdb_is_database(name) || bdb_log_number(name) >= pruning->from)
        return 0;
    if (!bdb_path(path, pruning->dir, name))
        return ENAMETOOLONG;
    return unlink(path) == 0 ? 0 : errno;
}

enum kaiten_status
bdb_copy(struct bdb *bdb, const char *dir, bool logs, uint32_t *ret_first, struct bdb_why *why)
{
    struct copy copy = { .bdb = bdb, .dir = dir };
    int error = copy_take(&copy);
    if (error)
        return copy_failed(bdb, error, "cannot copy the store", why);
    enum kaiten_status status = bdb_copy_verify(bdb, dir, copy.mark, why);
    if (status != KAITEN_DONE)
        return status;
    /* The checkpoint at the end of its recovery needs no more than the last log. */
    struct pruning pruning = { dir, logs ? copy.last : UINT32_MAX };
    error = bdb_each_file(dir, prune_one, &pruning);
    if (!error)
        error = bdb_manifest_write(dir, logs ? 0 : copy.first);
    if (error)
        return copy_failed(bdb, error, "cannot finish the copy", why);
    *ret_first = copy.first;
    return KAITEN_DONE;
}
