/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The library's hooks belong to the process, not to an environment, and take no context. Every
 * instance has the same host. */
static _Atomic(void (*)(enum kaiten_level, const char *, ...)) process_log;

void
bdb_die(const char *what, const char *why)
{
    void (*log)(enum kaiten_level, const char *, ...) = atomic_load(&process_log);
    if (log)
        log(KAITEN_LOG_ERROR, "storage-bdb: %s: %s; ending now, a restart recovers", what, why);
    _exit(BDB_EXIT);
}

/* Their memory comes with the thread. Otherwise, in a library that is loaded later, it would be
 * made at the first use, and glibc ends the process when there is none. */
#define AT_HAND __attribute__((tls_model("initial-exec")))

/* --- copies that are no part of the store ------------------------------------------------- */

static _Thread_local const char *away AT_HAND; /* where one is made; NULL: none is */
static _Thread_local bool away_only AT_HAND;   /* and nothing else is written */
static _Thread_local int away_failed AT_HAND;  /* why a sync of it failed first */

void
bdb_away_begin(const char *dir)
{
    away = dir;
    away_only = false;
    away_failed = 0;
}

void
bdb_away_only(void)
{
    away_only = away != NULL;
}

int
bdb_away_end(void)
{
    int failed = away_failed;
    bdb_away_begin(NULL);
    return failed;
}

/* path NULL: of a file that is known by its descriptor alone. */
static bool
is_away(const char *path)
{
    size_t n = away ? strlen(away) : 0;
    if (!away || away_only || !path)
        return away_only;
    while (n > 1 && away[n - 1] == '/')
        n--;
    return strncmp(path, away, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* --- syncs -------------------------------------------------------------------------------- */

static int
not_synced(const char *what, const char *path, int error)
{
    if (!is_away(path))
        bdb_die(what, strerror(error));
    if (away_failed == 0)
        away_failed = error;
    return error;
}

/* After a failed sync the kernel forgets what it could not write, and the next sync succeeds. The
 * library, which tries again, would go on committing; nothing that was acknowledged after that
 * could be trusted. */
int
bdb_sync(int fd)
{
    int result;
    if (away_only && away_failed != 0)
        return away_failed;
    do {
        result = fdatasync(fd);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : not_synced("sync", NULL, errno);
}

/* A file that was synced is still lost if the name it was made under was not. Some file systems
 * cannot sync a directory and say so; theirs is the order in which names reach the disk. */
int
bdb_sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result, error = 0;
    if (fd < 0)
        return not_synced("sync of the directory", path, errno);
    do {
        result = fsync(fd);
    } while (result != 0 && errno == EINTR);
    if (result != 0 && errno != EINVAL && errno != ENOTSUP)
        error = not_synced("sync of the directory", path, errno);
    close(fd);
    return error;
}

/* What the library's own calls return; the library looks at errno. */
static int
result_of(int error)
{
    if (error != 0)
        errno = error;
    return error == 0 ? 0 : -1;
}

static int
hook_fsync(int fd)
{
    return result_of(bdb_sync(fd));
}

static int
name_sync(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) + 1 : 0;
    char dir[BDB_PATH] = ".";
    if (n >= sizeof dir)
        return result_of(ENAMETOOLONG);
    if (slash)
        memcpy(dir, path, n); /* the rest is 0 */
    return result_of(bdb_sync_directory(dir));
}

/* Whether the library neither tries again nor asks whether there is such a file. */
static bool
is_final(int error)
{
    return error != ENOENT && error != EEXIST && error != EAGAIN && error != EBUSY && error != EIO;
}

static int
hook_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    int fd;
    do {
        fd = open(path, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0 && is_final(errno))
        bdb_watch_note(errno);
    if (fd < 0 || !(flags & O_CREAT))
        return fd;
    if (fchmod(fd, 0600) != 0 || name_sync(path) != 0) { /* the umask has no say */
        int error = errno;
        close(fd);
        return result_of(error);
    }
    return fd;
}

/* What was opened here is closed here: ThreadSanitizer, which does not look into the library, would
 * take the number for still in use. */
static int
hook_close(int fd)
{
    return close(fd);
}

static int
hook_rename(const char *from, const char *to)
{
    return rename(from, to) != 0 ? -1 : name_sync(to);
}

/* --- while an environment is opened ------------------------------------------------------- */

static _Thread_local bool watching AT_HAND;
static _Thread_local int missed AT_HAND; /* why something could not be read */

void
bdb_watch_begin(void)
{
    watching = true;
    missed = 0;
}

int
bdb_watch_end(void)
{
    watching = false;
    return missed;
}

void
bdb_watch_forget(void)
{
    missed = 0;
}

void
bdb_watch_note(int error)
{
    if (watching && missed == 0)
        missed = error;
}

static bool
must_not_write(void)
{
    if (missed != 0)
        errno = missed;
    return missed != 0;
}

static ssize_t
hook_write(int fd, const void *bytes, size_t n)
{
    return must_not_write() ? -1 : write(fd, bytes, n);
}

static ssize_t
hook_pwrite(int fd, const void *bytes, size_t n, off_t offset)
{
    return must_not_write() ? -1 : pwrite(fd, bytes, n, offset);
}

static int
hook_ftruncate(int fd, off_t size)
{
    return must_not_write() ? -1 : ftruncate(fd, size);
}

void
bdb_hooks_set(const struct kaiten_host *host)
{
    atomic_store(&process_log, host->log);
    db_env_set_func_fsync(hook_fsync);
    db_env_set_func_open(hook_open);
    db_env_set_func_close(hook_close);
    db_env_set_func_rename(hook_rename);
    db_env_set_func_write(hook_write);
    db_env_set_func_pwrite(hook_pwrite);
    db_env_set_func_ftruncate(hook_ftruncate);
}

/* Signals are the daemon's business. */
int
bdb_thread_start(pthread_t *thread, void *(*run)(void *), void *arg)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}
