/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A disk that is full must still take a revocation, and a restart on it must work. So nothing else
 * is written when less than a reserve is free, and a ballast file is given up piece by piece when
 * somebody else has taken that too.
 *
 * What was written since the last checkpoint is in the log, but may have to grow the database files
 * yet; as many bytes are kept free for that. */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    SHARE = 8,      /* of a small disk none of the sizes is more than 1 / SHARE */
    LOGS = 4,       /* that fit into such a share at least */
    LOG_LEAST = 1 << 20,
    PIECE = 1 << 20 /* of the ballast: whoever fills the disk takes what is given up, too */
};

static const char ballast_name[] = "ballast";

uint64_t
bdb_room_free(const char *path)
{
    struct statvfs fs;
    if (statvfs(path, &fs) != 0)
        return UINT64_MAX;
    return (uint64_t)fs.f_bavail * fs.f_frsize;
}

static uint64_t
at_most(int64_t wish, uint64_t most)
{
    return (uint64_t)wish < most ? (uint64_t)wish : most;
}

static int
ballast_fd(struct bdb *bdb, int flags)
{
    char path[BDB_PATH];
    if (!bdb_path(path, bdb->options.path, ballast_name))
        return -1;
    return open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | flags, 0600);
}

/* Under ballast_lock. */
static bool
ballast_cut(struct bdb *bdb, uint64_t size)
{
    int fd = ballast_fd(bdb, 0);
    bool cut = fd >= 0 && ftruncate(fd, (off_t)size) == 0;
    if (fd >= 0)
        close(fd);
    atomic_store(&bdb->ballast, cut ? size : 0);
    return cut;
}

/* Whoever copied it may have made it a file without blocks: it would give nothing. */
static bool
ballast_is_hollow(struct bdb *bdb)
{
    char path[BDB_PATH];
    struct stat st;
    return bdb_path(path, bdb->options.path, ballast_name) && lstat(path, &st) == 0 &&
           (uint64_t)st.st_blocks * 512 < (uint64_t)st.st_size;
}

void
bdb_room_open(struct bdb *bdb)
{
    struct bdb_options *o = &bdb->options;
    struct statvfs fs;
    uint64_t share = UINT64_MAX;
    if (statvfs(o->path, &fs) == 0)
        share = (uint64_t)fs.f_blocks * fs.f_frsize / SHARE;
    bdb->ballast_size = at_most(o->ballast, share);
    bdb->reserve = at_most(o->reserve, share);
    bdb->base_log = at_most(o->base_log, share);
    /* A log can only go as a whole. */
    if ((uint64_t)o->log_file_size > share / LOGS)
        o->log_file_size = share / LOGS > LOG_LEAST ? (int64_t)(share / LOGS) : LOG_LEAST;

    uint64_t size = bdb_size(o->path, ballast_name);
    atomic_store(&bdb->ballast, size);
    /* The recovery that follows may need it. */
    if (size > bdb->ballast_size || bdb_room_free(o->path) < bdb->reserve ||
        ballast_is_hollow(bdb))
        ballast_cut(bdb, 0);
}

bool
bdb_room_is_there(struct bdb *bdb)
{
    uint64_t have = bdb_room_free(bdb->options.path);
    if (have == UINT64_MAX)
        return true;
    have += atomic_load(&bdb->ballast);
    return have >= bdb->ballast_size + bdb->reserve + bdb_log_unchecked(bdb);
}

enum kaiten_status
bdb_room_refuse(struct bdb *bdb, struct kaiten_err *err)
{
    bdb->host.error(err, "%s is nearly full: nothing but revocations is written",
                    bdb->options.path);
    return KAITEN_FULL;
}

bool
bdb_room_give(struct bdb *bdb)
{
    pthread_mutex_lock(&bdb->ballast_lock);
    uint64_t size = atomic_load(&bdb->ballast);
    bool given = size > 0 && ballast_cut(bdb, size > PIECE ? size - PIECE : 0);
    pthread_mutex_unlock(&bdb->ballast_lock);
    return given;
}

void
bdb_room_take(struct bdb *bdb)
{
    uint64_t size = atomic_load(&bdb->ballast), wanted = bdb->ballast_size;
    if (size >= wanted || bdb_room_free(bdb->options.path) < wanted - size + bdb->reserve)
        return;
    pthread_mutex_lock(&bdb->ballast_lock);
    size = atomic_load(&bdb->ballast);
    int fd = ballast_fd(bdb, O_CREAT);
    int error = fd < 0 || fchmod(fd, 0600) != 0 ? errno : posix_fallocate(fd, 0, (off_t)wanted);
    if (fd >= 0)
        close(fd);
    if (error)
        ballast_cut(bdb, size);
    else
        atomic_store(&bdb->ballast, wanted);
    pthread_mutex_unlock(&bdb->ballast_lock);
    if (error)
        bdb->host.log(KAITEN_LOG_WARNING, "storage-bdb: %s/%s: %s", bdb->options.path,
                      ballast_name, strerror(error));
}
