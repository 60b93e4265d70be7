/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* File systems where another host may write what this one has mapped or locked. */
static const struct {
    uint32_t magic;
    const char *name;
} shared_file_systems[] = {
    { 0x6969, "NFS" },
    { 0x517b, "SMB" },
    { 0xff534d42, "CIFS" },
    { 0xfe534d42, "SMB" },
    { 0x5346414f, "AFS" },
};

/* 0 also when it was there already, else an errno. */
static int
directory_create(const char *path)
{
    if (mkdir(path, 0700) != 0)
        return errno == EEXIST ? 0 : errno;
    if (chmod(path, 0700) != 0) /* the umask may have taken bits of the owner */
        return errno;
    char parent[BDB_PATH];
    if (!bdb_path(parent, path, ".."))
        return ENAMETOOLONG;
    bdb_sync_directory(parent);
    return 0;
}

static enum kaiten_status
owner_check(const struct kaiten_host *host, const char *path, int dir, struct kaiten_err *err)
{
    struct stat st;
    if (fstat(dir, &st) != 0) {
        host->error(err, "%s: %s", path, strerror(errno));
        return KAITEN_FAILED;
    }
    if (st.st_uid != geteuid()) {
        host->error(err, "%s belongs to uid %u, this process runs as uid %u", path,
                    (unsigned)st.st_uid, (unsigned)geteuid());
        return KAITEN_FAILED;
    }
    if (st.st_mode & 077) {
        host->error(err, "%s has mode %04o: others may enter it; it must be 0700", path,
                    (unsigned)(st.st_mode & 07777));
        return KAITEN_FAILED;
    }
    return KAITEN_DONE;
}

static enum kaiten_status
file_system_check(const struct kaiten_host *host, const char *path, int dir,
                  struct kaiten_err *err)
{
    struct statfs fs;
    if (fstatfs(dir, &fs) != 0) {
        host->error(err, "%s: %s", path, strerror(errno));
        return KAITEN_FAILED;
    }
    for (size_t i = 0; i < sizeof shared_file_systems / sizeof *shared_file_systems; i++) {
        if ((uint32_t)fs.f_type != shared_file_systems[i].magic)
            continue;
        host->error(err, "%s lies on %s; the store needs a local file system", path,
                    shared_file_systems[i].name);
        return KAITEN_FAILED;
    }
    return KAITEN_DONE;
}

/* The library would read options from such a file, and nobody would know why. */
static enum kaiten_status
settings_check(const struct kaiten_host *host, const char *path, int dir, struct kaiten_err *err)
{
    struct stat st;
    if (fstatat(dir, "DB_CONFIG", &st, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT)
        return KAITEN_DONE;
    host->error(err, "%s/DB_CONFIG exists; remove it, options belong into kaitend.conf", path);
    return KAITEN_FAILED;
}

static enum kaiten_status
lock_refused(const struct kaiten_host *host, const char *path, int lock, struct kaiten_err *err)
{
    char text[24] = "";
    ssize_t n = pread(lock, text, sizeof text - 1, 0);
    long pid = n > 0 ? strtol(text, NULL, 10) : 0;
    if (pid > 0)
        host->error(err, "%s is in use by process %ld", path, pid);
    else
        host->error(err, "%s is in use by another process", path);
    return KAITEN_FAILED;
}

static enum kaiten_status
lock_take(const struct kaiten_host *host, const char *path, int dir, int *ret_lock,
          struct kaiten_err *err)
{
    int lock = openat(dir, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (lock < 0) {
        host->error(err, "%s/lock: %s", path, strerror(errno));
        return errno == ENOSPC || errno == EDQUOT ? KAITEN_FULL : KAITEN_FAILED;
    }
    if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
        enum kaiten_status status = lock_refused(host, path, lock, err);
        close(lock);
        return status;
    }
    /* The number is for people only: a full disk that cannot take it is no reason to stay down. */
    if (fchmod(lock, 0600) != 0 || ftruncate(lock, 0) != 0 ||
        dprintf(lock, "%ld\n", (long)getpid()) < 0)
        host->log(KAITEN_LOG_WARNING, "storage-bdb: %s/lock: %s", path, strerror(errno));
    *ret_lock = lock;
    return KAITEN_DONE;
}

enum kaiten_status
bdb_home_lock(const struct kaiten_host *host, const char *path, int *ret_lock,
              struct kaiten_err *err)
{
    int error = directory_create(path);
    int dir = error ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        error = error ? error : errno;
        host->error(err, "%s: %s", path, strerror(error));
        return error == ENOSPC || error == EDQUOT ? KAITEN_FULL : KAITEN_FAILED;
    }
    enum kaiten_status status = owner_check(host, path, dir, err);
    if (status == KAITEN_DONE)
        status = file_system_check(host, path, dir, err);
    if (status == KAITEN_DONE)
        status = settings_check(host, path, dir, err);
    if (status == KAITEN_DONE)
        status = lock_take(host, path, dir, ret_lock, err);
    close(dir);
    return status;
}
