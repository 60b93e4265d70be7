/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SPACE_LOW = 1 << 20 /* with less free space than this a failed start is put down to it */ };

/* Each lock prefers those who take it seldom: the side that never pauses would keep them out. */
static void
locks_init(struct bdb *bdb)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_READER_NP);
    pthread_rwlock_init(&bdb->turn, &attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&bdb->gate, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&bdb->ballast_lock, NULL);
    pthread_mutex_init(&bdb->copying, NULL);
}

static struct bdb *
bdb_new(const struct kaiten_host *host, const struct kaiten_config *config)
{
    struct bdb *bdb = calloc(1, sizeof *bdb);
    char *path = strdup(host->get_string(config, "path"));
    if (!bdb || !path) {
        free(bdb);
        free(path);
        return NULL;
    }
    memcpy(&bdb->host, host, host->size < sizeof *host ? host->size : sizeof *host);
    bdb->options = (struct bdb_options){
        .path = path,
        .cache_size = host->get_int(config, "cache_size"),
        .log_file_size = host->get_int(config, "log_file_size"),
        .checkpoint_log = host->get_int(config, "checkpoint_log"),
        .base_log = host->get_int(config, "base_log"),
        .ballast = host->get_int(config, "ballast"),
        .reserve = host->get_int(config, "reserve"),
        .keep_logs = host->get_bool(config, "keep_logs"),
    };
    bdb->voice.host = &bdb->host;
    locks_init(bdb);
    bdb->lock = -1;
    return bdb;
}

static void
bdb_free(struct bdb *bdb)
{
    bdb_store_close(bdb);
    close(bdb->lock);
    free(atomic_load(&bdb->chunk));
    pthread_rwlock_destroy(&bdb->gate);
    pthread_rwlock_destroy(&bdb->turn);
    pthread_mutex_destroy(&bdb->ballast_lock);
    pthread_mutex_destroy(&bdb->copying);
    free(bdb->options.path);
    free(bdb);
}

/* A backup is opened in its own directory: once, before anything in it changes, it is compared with
 * its manifest. Whoever put it there may not have synced it. */
static enum kaiten_status
backup_check(struct bdb *bdb, struct bdb_why *why)
{
    char manifest[BDB_PATH], checked[BDB_PATH];
    const char *home = bdb->options.path;
    uint32_t first;
    if (!bdb_exists(home, "manifest"))
        return KAITEN_DONE;
    enum kaiten_status status = bdb_manifest_check(home, &first, why);
    if (status != KAITEN_DONE)
        return status;
    int error = bdb_each_file(home, bdb_sync_file, (void *)home);
    if (error) {
        bdb_why(why, "%s: %s", home, strerror(error));
        return KAITEN_FAILED;
    }
    if (!bdb_path(manifest, home, "manifest") || !bdb_path(checked, home, "manifest.checked") ||
        rename(manifest, checked) != 0) {
        bdb_why(why, "%s/manifest: %s", home, strerror(errno));
        return KAITEN_FAILED;
    }
    bdb_sync_directory(home);
    return KAITEN_DONE;
}

/* Whether the library's error means that files are not what they were. */
static bool
is_damage(struct bdb *bdb, int error)
{
    if (!atomic_load(&bdb->voice.damaged) && atomic_load(&bdb->voice.starved))
        return false;
    return atomic_load(&bdb->voice.damaged) || error == DB_RUNRECOVERY || error == DB_VERIFY_BAD ||
           error == DB_PAGE_NOTFOUND || error == DB_LOG_VERIFY_BAD;
}

static enum kaiten_status
open_failed(struct bdb *bdb, int error, struct bdb_why *why)
{
    const char *path = bdb->options.path;
    enum kaiten_status status = is_damage(bdb, error) ? KAITEN_CORRUPT : bdb_status(bdb, error);
    if (status == KAITEN_FULL ||
        (!atomic_load(&bdb->voice.damaged) && bdb_room_free(path) < SPACE_LOW)) {
        *why = (struct bdb_why){ "" };
        bdb_why(why, "no space left for %s: free some and start again, nothing is lost", path);
        return KAITEN_FULL;
    }
    bdb_why(why, "%s",
            atomic_load(&bdb->voice.damaged) ? bdb->voice.text : db_strerror(error));
    return status;
}

/* *ret_sure: that it is damaged, if so. The library gives up for an error of the disk, too, and
 * that may pass. */
static enum kaiten_status
open_once(struct bdb *bdb, struct bdb_why *why, bool *ret_sure)
{
    int error = bdb_store_open(bdb, why);
    *ret_sure = atomic_load(&bdb->voice.damaged) || error != DB_RUNRECOVERY;
    if (!error)
        return KAITEN_DONE;
    enum kaiten_status status = open_failed(bdb, error, why);
    bdb_store_close(bdb);
    return status;
}

/* Whether the library had given up before; notes that it has now. */
static bool
was_suspect(struct bdb *bdb, const char *reason)
{
    bool wanted = false;
    struct bdb_why why = { "" };
    bdb_repair_note(bdb, false, reason);
    return bdb_repair_pending(bdb, &wanted, &why) == KAITEN_DONE && wanted;
}

/* Damaged records of the log are no reason for a repair: it would read the same ones. */
static enum kaiten_status
open_or_repair(struct bdb *bdb, struct bdb_why *why)
{
    bool wanted = false, sure;
    struct bdb_why reason = { "" };
    enum kaiten_status status = bdb_repair_pending(bdb, &wanted, why);
    if (status != KAITEN_DONE)
        return status;
    if (!wanted) {
        status = open_once(bdb, &reason, &sure);
        if (status == KAITEN_CORRUPT)
            wanted = sure || was_suspect(bdb, reason.text);
        if (status == KAITEN_CORRUPT && !wanted)
            status = KAITEN_FAILED;
        if (status != KAITEN_DONE && !wanted)
            bdb_why(why, "cannot open the store: %s", reason.text);
    }
    if (!wanted)
        return status;
    status = bdb_repair(bdb, reason.text, why);
    if (status != KAITEN_DONE)
        return status;
    reason = (struct bdb_why){ "" };
    status = open_once(bdb, &reason, &sure);
    if (status != KAITEN_DONE)
        bdb_why(why, "cannot open the store after its repair: %s", reason.text);
    return status;
}

static int
bdb_run(struct bdb *bdb)
{
    char checked[BDB_PATH];
    if (bdb_path(checked, bdb->options.path, "manifest.checked"))
        unlink(checked);
    bdb_base_open(bdb);
    bdb->roomy = true;
    bdb->voice.running = bdb;
    bdb_room_take(bdb);
    return bdb_threads_start(bdb);
}

static enum kaiten_status
bdb_open(const struct kaiten_host *host, const struct kaiten_config *config, void **ret_instance,
         struct kaiten_err *err)
{
    const char *path = host->get_string(config, "path");
    struct bdb_why why = { "" };
    int lock;
    if (strlen(path) > BDB_PATH_MAX) {
        host->error(err, "%s: %s", path, strerror(ENAMETOOLONG));
        return KAITEN_FAILED;
    }
    if (sodium_init() < 0) {
        host->error(err, "libsodium cannot be used");
        return KAITEN_FAILED;
    }
    if (!bdb_sum_check()) {
        host->error(err, "%s has another checksum than this plugin", db_version(NULL, NULL, NULL));
        return KAITEN_FAILED;
    }
    bdb_hooks_set(host); /* first: a sync of the directory may end the process, which says why */
    bdb_holes_hook();
    bdb_spare_hooks();
    enum kaiten_status status = bdb_home_lock(host, path, &lock, err);
    if (status != KAITEN_DONE)
        return status;
    struct bdb *bdb = bdb_new(host, config);
    if (!bdb) {
        host->error(err, "out of memory");
        close(lock);
        return KAITEN_FAILED;
    }
    bdb->lock = lock;
    bdb_room_open(bdb);
    status = backup_check(bdb, &why);
    if (status == KAITEN_DONE)
        status = open_or_repair(bdb, &why);
    int error = status == KAITEN_DONE ? bdb_run(bdb) : 0;
    if (status == KAITEN_DONE && !error) {
        *ret_instance = bdb;
        return KAITEN_DONE;
    }
    host->error(err, "%s", error ? strerror(error) : why.text);
    bdb_free(bdb);
    return error ? KAITEN_FAILED : status;
}

static void
bdb_close(void *instance)
{
    struct bdb *bdb = instance;
    bdb_threads_stop(bdb);
    int error = bdb_checkpoint(bdb);
    if (error)
        bdb->host.log(KAITEN_LOG_WARNING, "storage-bdb: last checkpoint: %s; the next start "
                      "recovers from the log", db_strerror(error));
    bdb_free(bdb);
}

static enum kaiten_status
bdb_health(void *instance, struct kaiten_err *err)
{
    struct bdb *bdb = instance;
    if (atomic_load(&bdb->voice.damaged))
        return bdb_fail(bdb, err, DB_VERIFY_BAD, "restart to have it repaired");
    return bdb_room_is_there(bdb) ? KAITEN_DONE : bdb_room_refuse(bdb, err);
}

static const struct kaiten_option options[] = {
    { "path", KAITEN_OPT_PATH, KAITEN_OPT_REQUIRED, NULL, 0, 0,
      "Directory of the store, mode 0700; made when only its last part is missing." },
    { "cache_size", KAITEN_OPT_SIZE, 0, "64M", 1 << 20, INT64_C(1) << 40,
      "Memory for pages; what does not fit is read through the kernel's cache." },
    { "log_file_size", KAITEN_OPT_SIZE, 0, "16M", 1 << 20, 1 << 30, "Size of one log file." },
    { "checkpoint_log", KAITEN_OPT_SIZE, 0, "16M", 1 << 20, INT64_C(16) << 30,
      "Log written between two checkpoints, which bounds what a start after a crash reads." },
    { "base_log", KAITEN_OPT_SIZE, 0, "256M", 1 << 20, INT64_C(1) << 40,
      "A new base copy, from which a damaged file is repaired, is made when the log since the last "
      "one is larger than this and than the database files; then older logs are removed." },
    { "keep_logs", KAITEN_OPT_BOOL, 0, "no", 0, 0,
      "Keep the logs that no repair needs, too; somebody else has to remove them." },
    { "ballast", KAITEN_OPT_SIZE, 0, "64M", 0, INT64_C(1) << 40,
      "Size of a file that is given up for revocations and restarts when the disk is full; at most "
      "an eighth of the disk." },
    { "reserve", KAITEN_OPT_SIZE, 0, "64M", 0, INT64_C(1) << 40,
      "With less free space than this nothing but revocations is written; at most an eighth of the "
      "disk." },
    { NULL, 0, 0, NULL, 0, 0, NULL },
};

KAITEN_STORAGE_SYMBOL(bdb) = {
    .size = sizeof(struct kaiten_storage),
    .abi = KAITEN_STORAGE_ABI,
    .threads = KAITEN_THREADS_PARALLEL,
    .caps = KAITEN_STORAGE_DURABLE | KAITEN_STORAGE_BACKUP,
    .name = "bdb",
    .version = PACKAGE_VERSION,
    .summary = "Keeps everything in Berkeley DB files below one directory",
    .options = options,
    .open = bdb_open,
    .close = bdb_close,
    .get = bdb_get,
    .scan = bdb_scan,
    .apply = bdb_apply,
    .health = bdb_health,
    .backup = bdb_backup,
    .check = bdb_check,
    .verify = bdb_verify,
};
