/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LOG_BUFFER = 8 << 20,
    LOCKS_MAX = 1 << 18, /* a full group of scattered writes locks about one page per write */
    LOCKERS_MAX = 4096,
    TXNS_MAX = 256,
    LINES_MAX = 16,      /* of the library, until the checkpointer forgets them */
    SPACE_LOW = 1 << 20, /* with less free space than this a failed start is put down to it */
    FREE_LOW = 16 << 20  /* less than this is unhealthy */
};

/* Rows of meta.db. */
static const struct kaiten_bytes format_key = { "format", 6 };
static const struct kaiten_bytes format_value = { "1", 1 };
static const struct kaiten_bytes spaces_key = { "spaces", 6 }; /* value: one bit per space */

/* The library's hooks belong to the process, not to an environment, and take no context. Every
 * instance has the same host. */
static _Atomic(void (*)(enum kaiten_level, const char *, ...)) process_log;

static _Noreturn void
die(const char *what, const char *why)
{
    void (*log)(enum kaiten_level, const char *, ...) = atomic_load(&process_log);
    if (log)
        log(KAITEN_LOG_ERROR, "storage-bdb: %s: %s; ending now, a restart recovers", what, why);
    _exit(BDB_EXIT);
}

/* After a failed sync the kernel forgets what it could not write, and the next sync succeeds. The
 * library would go on committing; nothing that was acknowledged after that could be trusted. */
static int
hook_fsync(int fd)
{
    int result;
    do {
        result = fdatasync(fd);
    } while (result != 0 && errno == EINTR);
    if (result != 0)
        die("sync", strerror(errno));
    return 0;
}

/* A file that was synced is still lost if the name it was made under was not. */
static void
name_sync(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    free(dir);
    if (fd < 0)
        return;
    if (fsync(fd) != 0 && errno == EIO)
        die("sync of the directory", strerror(errno));
    close(fd);
}

static int
hook_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    int fd = open(path, flags | O_CLOEXEC, mode);
    if (fd < 0 || !(flags & O_CREAT))
        return fd;
    if (fchmod(fd, 0600) != 0) { /* the umask has no say */
        close(fd);
        return -1;
    }
    name_sync(path);
    return fd;
}

static int
hook_rename(const char *from, const char *to)
{
    if (rename(from, to) != 0)
        return -1;
    name_sync(to);
    return 0;
}

static void
hooks_set(const struct kaiten_host *host)
{
    atomic_store(&process_log, host->log);
    db_env_set_func_fsync(hook_fsync);
    db_env_set_func_open(hook_open);
    db_env_set_func_rename(hook_rename);
}

static void
on_error(const DB_ENV *env, const char *prefix, const char *text)
{
    (void)prefix;
    struct bdb *bdb = env->app_private;
    if (strstr(text, "checksum error") || strstr(text, "past end of log"))
        atomic_store(&bdb->damaged, true);
    /* On a full disk a checkpoint would say so for each page. */
    if (atomic_fetch_add(&bdb->lines, 1) < LINES_MAX)
        bdb->host.log(KAITEN_LOG_ERROR, "storage-bdb: %s", text);
}

static void
on_message(const DB_ENV *env, const char *text)
{
    struct bdb *bdb = env->app_private;
    bdb->host.log(KAITEN_LOG_INFO, "storage-bdb: %s", text);
}

static void
on_event(DB_ENV *env, u_int32_t event, void *info)
{
    (void)info;
    struct bdb *bdb = env->app_private;
    if (event != DB_EVENT_PANIC || !atomic_load(&bdb->running))
        return;
    /* A damaged page is still damaged after a restart: say so and write no more, instead of
     * starting again and again. */
    if (!atomic_load(&bdb->damaged))
        die("panic", "the library cannot go on");
}

enum kaiten_status
bdb_status(struct bdb *bdb, int error)
{
    if (error != 0 && atomic_load(&bdb->damaged))
        return KAITEN_CORRUPT;
    switch (error) {
    case 0:
        return KAITEN_DONE;
    case ENOSPC:
    case EDQUOT:
        return KAITEN_FULL;
    case DB_LOCK_DEADLOCK:
    case DB_LOCK_NOTGRANTED:
        return KAITEN_RETRY;
    case DB_VERIFY_BAD:
    case DB_PAGE_NOTFOUND:
        return KAITEN_CORRUPT;
    default:
        return KAITEN_FAILED;
    }
}

enum kaiten_status
bdb_fail(struct bdb *bdb, struct kaiten_err *err, int error, const char *what)
{
    enum kaiten_status status = bdb_status(bdb, error);
    if (status == KAITEN_CORRUPT)
        bdb->host.error(err, "%s: %s is damaged (%s); restore it from a backup", what,
                        bdb->options.path, db_strerror(error));
    else
        bdb->host.error(err, "%s: %s", what, db_strerror(error));
    return status;
}

DB *
bdb_space(struct bdb *bdb, struct kaiten_bytes key)
{
    return atomic_load_explicit(&bdb->space[*(const unsigned char *)key.p], memory_order_acquire);
}

static int
database_open(struct bdb *bdb, const char *name, bool create, DB **ret_db)
{
    DB *db;
    int error = db_create(&db, bdb->env, 0);
    if (error)
        return error;
    error = db->set_pagesize(db, BDB_PAGE);
    if (!error)
        error = db->set_flags(db, DB_CHKSUM);
    if (!error)
        error = db->open(db, NULL, name, NULL, DB_BTREE,
                         DB_THREAD | DB_AUTO_COMMIT | (create ? DB_CREATE : 0u), 0600);
    if (error) {
        db->close(db, 0);
        return error;
    }
    *ret_db = db;
    return 0;
}

static int
space_open(struct bdb *bdb, unsigned byte, bool create)
{
    char name[24];
    snprintf(name, sizeof name, "space-%02x.db", byte);
    DB *db;
    int error = database_open(bdb, name, create, &db);
    if (!error)
        atomic_store_explicit(&bdb->space[byte], db, memory_order_release);
    return error;
}

/* Number of the space that a file holds, or -1. */
static int
space_of_file(const char *name)
{
    unsigned byte;
    int end = 0;
    if (strlen(name) != strlen("space-00.db"))
        return -1;
    if (sscanf(name, "space-%2x.db%n", &byte, &end) != 1 || end != (int)strlen(name))
        return -1;
    return (int)byte;
}

static int
spaces_open(struct bdb *bdb, size_t *ret_count)
{
    DIR *dir = opendir(bdb->options.path);
    if (!dir)
        return errno;
    int error = 0;
    size_t count = 0;
    struct dirent *entry;
    while (!error && (entry = readdir(dir))) {
        int byte = space_of_file(entry->d_name);
        if (byte < 0)
            continue;
        error = space_open(bdb, (unsigned)byte, false);
        count++;
    }
    closedir(dir);
    *ret_count = count;
    return error;
}

static int
format_check(struct bdb *bdb, struct kaiten_err *err)
{
    char stored[16];
    DBT key = bdb_key(format_key);
    DBT data = bdb_buffer(stored, sizeof stored);
    int error = bdb->meta->get(bdb->meta, NULL, &key, &data, 0);
    if (error == DB_NOTFOUND) {
        data = bdb_key(format_value);
        return bdb->meta->put(bdb->meta, NULL, &key, &data, 0);
    }
    if (error)
        return error;
    if (data.size == format_value.n && memcmp(stored, format_value.p, data.size) == 0)
        return 0;
    bdb->host.error(err, "%s has format %.*s, this plugin reads %s", bdb->options.path,
                    (int)data.size, stored, (const char *)format_value.p);
    return EINVAL;
}

/* Which spaces ought to have a file. */
static int
spaces_read(struct bdb *bdb, unsigned char *ret_bits)
{
    DBT key = bdb_key(spaces_key);
    DBT data = bdb_buffer(ret_bits, BDB_SPACES / 8);
    memset(ret_bits, 0, BDB_SPACES / 8);
    int error = bdb->meta->get(bdb->meta, NULL, &key, &data, 0);
    return error == DB_NOTFOUND ? 0 : error;
}

static int
space_note(struct bdb *bdb, unsigned byte)
{
    unsigned char bits[BDB_SPACES / 8];
    int error = spaces_read(bdb, bits);
    if (error)
        return error;
    bits[byte / 8] |= (unsigned char)(1u << byte % 8);
    DBT key = bdb_key(spaces_key);
    DBT data = { .data = bits, .size = sizeof bits };
    return bdb->meta->put(bdb->meta, NULL, &key, &data, 0);
}

/* A file that somebody removed must not look like a space that was always empty. */
static int
spaces_check(struct bdb *bdb, struct kaiten_err *err)
{
    unsigned char bits[BDB_SPACES / 8];
    int error = spaces_read(bdb, bits);
    for (unsigned byte = 0; byte < BDB_SPACES && !error; byte++) {
        bool noted = bits[byte / 8] >> byte % 8 & 1;
        bool there = atomic_load(&bdb->space[byte]) != NULL;
        if (there && !noted)
            error = space_note(bdb, byte); /* the process ended between the two */
        if (there || !noted)
            continue;
        bdb->host.error(err, "%s/space-%02x.db is missing; restore it from a backup",
                        bdb->options.path, byte);
        error = DB_VERIFY_BAD;
    }
    return error;
}

int
bdb_space_create(struct bdb *bdb, struct kaiten_bytes key)
{
    unsigned byte = *(const unsigned char *)key.p;
    int error = space_open(bdb, byte, true);
    return error ? error : space_note(bdb, byte);
}

static int
environment_open(struct bdb *bdb)
{
    DB_ENV *env;
    int error = db_env_create(&env, 0);
    if (error)
        return error;
    bdb->env = env;
    env->app_private = bdb;
    env->set_errcall(env, on_error);
    env->set_msgcall(env, on_message);
    env->set_event_notify(env, on_event);

    const struct bdb_options *o = &bdb->options;
    u_int32_t log_buffer = (u_int32_t)(o->log_file_size / 4);
    u_int32_t gigabytes = (u_int32_t)(o->cache_size >> 30);
    u_int32_t bytes = (u_int32_t)(o->cache_size & ((1 << 30) - 1));
    if ((error = env->set_cachesize(env, gigabytes, bytes, 1)) ||
        (error = env->set_lg_bsize(env, log_buffer < LOG_BUFFER ? log_buffer : LOG_BUFFER)) ||
        (error = env->set_lg_max(env, (u_int32_t)o->log_file_size)) ||
        (error = env->set_lg_filemode(env, 0600)) ||
        (error = env->set_lk_detect(env, DB_LOCK_DEFAULT)) ||
        (error = env->set_lk_max_locks(env, LOCKS_MAX)) ||
        (error = env->set_lk_max_objects(env, LOCKS_MAX)) ||
        (error = env->set_lk_max_lockers(env, LOCKERS_MAX)) ||
        (error = env->set_tx_max(env, TXNS_MAX)))
        return error;
    return env->open(env, o->path,
                     DB_CREATE | DB_RECOVER | DB_PRIVATE | DB_THREAD | DB_INIT_TXN | DB_INIT_LOG |
                         DB_INIT_MPOOL | DB_INIT_LOCK,
                     0600);
}

static bool
meta_exists(const struct bdb *bdb)
{
    char path[4096];
    struct stat st;
    int n = snprintf(path, sizeof path, "%s/meta.db", bdb->options.path);
    return n > 0 && (size_t)n < sizeof path && lstat(path, &st) == 0;
}

/* Everything that lies behind the lock. */
static int
store_open(struct bdb *bdb, struct kaiten_err *err)
{
    int error = environment_open(bdb);
    if (error)
        return error;
    bool is_new = !meta_exists(bdb);
    size_t spaces = 0;
    error = spaces_open(bdb, &spaces);
    if (error)
        return error;
    if (is_new && spaces > 0) { /* revisions would start again */
        bdb->host.error(err, "%s/meta.db is missing; restore it from a backup", bdb->options.path);
        return DB_VERIFY_BAD;
    }
    error = database_open(bdb, "meta.db", true, &bdb->meta);
    if (!error)
        error = format_check(bdb, err);
    if (!error)
        error = spaces_check(bdb, err);
    if (!error)
        error = bdb_apply_open(bdb);
    return error ? error : bdb_checkpoint_start(bdb);
}

/* Takes what was opened so far; bdb is gone afterwards. */
static void
store_close(struct bdb *bdb)
{
    for (unsigned i = 0; i < BDB_SPACES; i++) {
        DB *db = atomic_load(&bdb->space[i]);
        if (db)
            db->close(db, 0);
    }
    if (bdb->meta)
        bdb->meta->close(bdb->meta, 0);
    if (bdb->env)
        bdb->env->close(bdb->env, 0);
    close(bdb->lock);
    free(atomic_load(&bdb->chunk));
    pthread_rwlock_destroy(&bdb->gate);
    pthread_rwlock_destroy(&bdb->turn);
    free(bdb->options.path);
    free(bdb);
}

static enum kaiten_status
open_failed(struct bdb *bdb, int error, struct kaiten_err *err)
{
    const char *path = bdb->options.path;
    enum kaiten_status status;
    if (!atomic_load(&bdb->damaged) && bdb_home_space(path) < SPACE_LOW) {
        bdb->host.error(err, "no space left for %s: free some and start again, nothing is lost",
                        path);
        status = KAITEN_FULL;
    } else {
        status = bdb_fail(bdb, err, error, "cannot open the store");
    }
    store_close(bdb);
    return status;
}

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
        .keep_logs = host->get_bool(config, "keep_logs"),
    };
    locks_init(bdb);
    bdb->lock = -1;
    return bdb;
}

static enum kaiten_status
bdb_open(const struct kaiten_host *host, const struct kaiten_config *config, void **ret_instance,
         struct kaiten_err *err)
{
    int lock;
    enum kaiten_status status =
        bdb_home_lock(host, host->get_string(config, "path"), &lock, err);
    if (status != KAITEN_DONE)
        return status;
    struct bdb *bdb = bdb_new(host, config);
    if (!bdb) {
        host->error(err, "out of memory");
        close(lock);
        return KAITEN_FAILED;
    }
    bdb->lock = lock;
    hooks_set(host);
    int error = store_open(bdb, err);
    if (error)
        return open_failed(bdb, error, err);
    atomic_store(&bdb->running, true);
    *ret_instance = bdb;
    return KAITEN_DONE;
}

static void
bdb_close(void *instance)
{
    struct bdb *bdb = instance;
    bdb_checkpoint_stop(bdb);
    int error = bdb_checkpoint(bdb);
    if (error)
        bdb->host.log(KAITEN_LOG_WARNING, "storage-bdb: last checkpoint: %s; the next start "
                      "recovers from the log", db_strerror(error));
    store_close(bdb);
}

static enum kaiten_status
bdb_health(void *instance, struct kaiten_err *err)
{
    struct bdb *bdb = instance;
    if (atomic_load(&bdb->damaged))
        return bdb_fail(bdb, err, DB_RUNRECOVERY, "a page had a wrong checksum");
    if (bdb_home_space(bdb->options.path) < FREE_LOW) {
        bdb->host.error(err, "less than %d MiB left for %s", FREE_LOW >> 20, bdb->options.path);
        return KAITEN_FULL;
    }
    return KAITEN_DONE;
}

static const struct kaiten_option options[] = {
    { "path", KAITEN_OPT_PATH, KAITEN_OPT_REQUIRED, NULL, 0, 0,
      "Directory of the store, mode 0700; made when only its last part is missing." },
    { "cache_size", KAITEN_OPT_SIZE, 0, "64M", 1 << 20, INT64_C(1) << 40,
      "Memory for pages; what does not fit is read through the kernel's cache." },
    { "log_file_size", KAITEN_OPT_SIZE, 0, "64M", 1 << 20, 1 << 30, "Size of one log file." },
    { "checkpoint_log", KAITEN_OPT_SIZE, 0, "64M", 1 << 20, INT64_C(16) << 30,
      "Log written between two checkpoints, which bounds what a start after a crash reads." },
    { "keep_logs", KAITEN_OPT_BOOL, 0, "no", 0, 0,
      "Keep every log file; without them a damaged database file cannot be rebuilt from the logs, "
      "only restored from a backup." },
    { NULL, 0, 0, NULL, 0, 0, NULL },
};

KAITEN_STORAGE_SYMBOL(bdb) = {
    .size = sizeof(struct kaiten_storage),
    .abi = KAITEN_STORAGE_ABI,
    .threads = KAITEN_THREADS_PARALLEL,
    .caps = KAITEN_STORAGE_DURABLE,
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
};
