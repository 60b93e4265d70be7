/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The base copy: together with the logs since, it is what a damaged store is built from again. A
 * new one is made when those logs have outgrown the databases, and only then older logs go, so that
 * together they stay below four times the size of the databases.
 *
 * base.new becomes base by two renames; whatever a process that was killed has left is put right
 * by the next one, and before a repair, which needs the base copy. */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LOOK_EVERY_MS = 500,
    NICE = 10,
    PAUSE_LOOKS = 120,  /* after a copy that failed */
    HOUR_LOOKS = 7200,  /* between two lines about a disk that is too small */
    LARGE = 64 << 20,   /* bytes of databases */
    START_LOOKS = 60    /* before the first copy of so many */
};

static bool
path_of(struct bdb *bdb, char out[BDB_PATH], const char *name)
{
    return bdb_path(out, bdb->options.path, name);
}

static int
rename_in(struct bdb *bdb, const char *from, const char *to)
{
    char source[BDB_PATH], target[BDB_PATH];
    if (!path_of(bdb, source, from) || !path_of(bdb, target, to))
        return ENAMETOOLONG;
    return rename(source, target) == 0 ? 0 : errno;
}

static int
remove_in(struct bdb *bdb, const char *name)
{
    char path[BDB_PATH];
    return path_of(bdb, path, name) ? bdb_directory_remove(path) : ENAMETOOLONG;
}

/* --- at the start ------------------------------------------------------------------------- */

/* The logs that base.old needs are there as long as base is not. */
void
bdb_base_put_back(struct bdb *bdb)
{
    const char *home = bdb->options.path;
    if (!bdb_exists(home, "base") && bdb_exists(home, "base.old"))
        rename_in(bdb, "base.old", "base");
}

static void
leftovers_remove(struct bdb *bdb)
{
    bdb_base_put_back(bdb);
    remove_in(bdb, "base.old");
    remove_in(bdb, "base.new");
}

void
bdb_base_open(struct bdb *bdb)
{
    char base[BDB_PATH];
    uint32_t first = 0, last = 0, gap = 0;
    leftovers_remove(bdb);
    bdb->base_first = path_of(bdb, base, "base") ? bdb_manifest_first(base) : 0;
    if (bdb_logs(bdb->options.path, &first, &last, &gap) != 0)
        return;
    if (bdb->base_first == 0 && first == 1)
        bdb->base_first = 1; /* all of it can be built from nothing */
    if (bdb->base_first < first || gap >= bdb->base_first)
        bdb->base_first = 0;
    /* Also after a repair by a process that did not live to make one. */
    if (bdb->base_first == 0 || bdb_exists(bdb->options.path, "damaged"))
        bdb->base_due = true;
}

/* --- making one --------------------------------------------------------------------------- */

static int
log_remove(void *arg, const char *name)
{
    struct bdb *bdb = arg;
    char path[BDB_PATH];
    uint32_t number = bdb_log_number(name);
    if (number == 0 || number >= bdb->base_first || !path_of(bdb, path, name))
        return 0;
    return unlink(path) == 0 ? 0 : errno;
}

static int
base_replace(struct bdb *bdb, uint32_t first)
{
    const char *home = bdb->options.path;
    int error = remove_in(bdb, "base.old");
    if (!error && bdb_exists(home, "base"))
        error = rename_in(bdb, "base", "base.old");
    if (!error)
        error = rename_in(bdb, "base.new", "base");
    if (error) {
        bdb_base_put_back(bdb);
        return error;
    }
    bdb_sync_directory(home);
    bdb->base_first = first;
    bdb->base_due = false;
    if (!bdb->options.keep_logs)
        error = bdb_each_file(home, log_remove, bdb);
    if (!error)
        error = remove_in(bdb, "base.old");
    return error ? error : remove_in(bdb, "damaged");
}

static void
base_failed(struct bdb *bdb, enum kaiten_status status, const struct bdb_why *why)
{
    bdb->host.log(KAITEN_LOG_ERROR, "storage-bdb: base copy: %s", why->text);
    if (status != KAITEN_CORRUPT)
        return;
    /* The files on the disk are damaged, what is in memory may not be: no reason to end at once. */
    if (!atomic_exchange(&bdb->voice.heard, true)) {
        snprintf(bdb->voice.text, sizeof bdb->voice.text, "%.*s", (int)sizeof bdb->voice.text - 1,
                 why->text);
        atomic_store(&bdb->voice.damaged, true);
    }
    bdb_repair_note(bdb, true, why->text);
}

/* Under copying. */
static bool
base_make(struct bdb *bdb)
{
    char path[BDB_PATH];
    struct bdb_why why = { "" };
    uint32_t first = 0;
    enum kaiten_status status = KAITEN_FAILED;
    int error = path_of(bdb, path, "base.new") ? bdb_directory_new(path) : ENAMETOOLONG;
    if (!error) {
        status = bdb_copy(bdb, path, false, &first, &why);
        error = status == KAITEN_DONE ? base_replace(bdb, first) : 0;
    }
    if (error)
        bdb_why(&why, "%s", strerror(error));
    if (!error && status == KAITEN_DONE) {
        bdb_repair_forget(bdb);
        bdb->host.log(KAITEN_LOG_INFO, "storage-bdb: base copy made, logs from %u on are kept",
                      (unsigned)first);
        return true;
    }
    remove_in(bdb, "base.new");
    if (!atomic_load(&bdb->stop))
        base_failed(bdb, status, &why);
    return false;
}

/* --- the thread --------------------------------------------------------------------------- */

static bool
is_wanted(struct bdb *bdb, uint64_t databases)
{
    DB_LOG_STAT *stat;
    if (bdb->base_due)
        return true;
    if (bdb->env->log_stat(bdb->env, &stat, 0) != 0)
        return false;
    uint64_t bytes = (uint64_t)(stat->st_cur_file - bdb->base_first) * stat->st_lg_size +
                     stat->st_cur_offset;
    free(stat);
    return bytes >= bdb->base_log && bytes >= databases;
}

/* Looks to wait until the next try. */
static unsigned
base_look(struct bdb *bdb, bool tell)
{
    uint64_t databases = bdb_databases_size(bdb->options.path);
    if (!is_wanted(bdb, databases) || atomic_load(&bdb->voice.damaged))
        return 0;
    if (bdb_room_free(bdb->options.path) >= databases + bdb->reserve)
        return base_make(bdb) ? 0 : PAUSE_LOOKS;
    if (tell)
        bdb->host.log(KAITEN_LOG_WARNING, "storage-bdb: %s: no space for a base copy of %llu MiB; "
                      "the log grows until there is", bdb->options.path,
                      (unsigned long long)(databases >> 20));
    return PAUSE_LOOKS;
}

/* A start reads a good part of a large store, and should have the disk to itself. */
static unsigned
looks_at_first(const struct bdb *bdb)
{
    bool large = bdb_databases_size(bdb->options.path) >= LARGE;
    return large && !bdb->base_due ? START_LOOKS : 0;
}

void *
bdb_base_run(void *arg)
{
    struct bdb *bdb = arg;
    unsigned pause = looks_at_first(bdb), told = 0;
    int64_t wait = bdb->base_due ? 0 : LOOK_EVERY_MS;
    setpriority(PRIO_PROCESS, 0, NICE); /* of this thread */
    for (; bdb_wait(bdb, wait); wait = LOOK_EVERY_MS) {
        bdb_room_take(bdb);
        told = told > 0 ? told - 1 : 0;
        if (pause > 0 && pause--)
            continue;
        pthread_mutex_lock(&bdb->copying);
        pause = base_look(bdb, told == 0);
        pthread_mutex_unlock(&bdb->copying);
        if (pause > 0 && told == 0)
            told = HOUR_LOOKS;
    }
    return NULL;
}

/* --- backups ------------------------------------------------------------------------------ */

static int
found_one(void *arg, const char *name)
{
    (void)name;
    return *(int *)arg = EEXIST;
}

/* What one of them cannot be removed for says nothing about the others. */
static int
remove_file(void *arg, const char *name)
{
    char path[BDB_PATH];
    if (bdb_path(path, arg, name))
        unlink(path);
    return 0;
}

static bool
directory_is_empty(const char *dir, struct bdb_why *why)
{
    int found = 0;
    int error = bdb_each_file(dir, found_one, &found);
    if (error)
        bdb_why(why, "%s: %s", dir, found ? "it is not empty" : strerror(error));
    else if (strlen(dir) > BDB_PATH_MAX)
        bdb_why(why, "%s: %s", dir, strerror(ENAMETOOLONG));
    else if (chmod(dir, 0700) != 0)
        bdb_why(why, "%s: %s", dir, strerror(errno));
    else
        return true;
    return false;
}

/* Under copying. */
static enum kaiten_status
backup_make(struct bdb *bdb, const char *dir, struct bdb_why *why)
{
    uint32_t first;
    bdb_away_begin(dir);
    enum kaiten_status status = bdb_copy(bdb, dir, true, &first, why);
    int error = bdb_away_end();
    if (!error)
        return status;
    *why = (struct bdb_why){ "" }; /* what the library makes of it */
    bdb_why(why, "%s: sync: %s", dir, strerror(error));
    return bdb_status(bdb, error);
}

enum kaiten_status
bdb_backup(void *instance, const char *dir, struct kaiten_err *err)
{
    struct bdb *bdb = instance;
    struct bdb_why why = { "" };
    enum kaiten_status status = KAITEN_FAILED;
    pthread_mutex_lock(&bdb->copying); /* first: nor may another backup be at work there */
    if (directory_is_empty(dir, &why)) {
        status = backup_make(bdb, dir, &why);
        if (status != KAITEN_DONE)
            bdb_each_file(dir, remove_file, (void *)dir);
    }
    pthread_mutex_unlock(&bdb->copying);
    if (status != KAITEN_DONE)
        bdb->host.error(err, "backup: %s", why.text);
    return status;
}
