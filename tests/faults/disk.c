/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Loaded with LD_PRELOAD: see disk.h. One lock around each change and its record, so that the trace
 * has the order in which things happened. */
#define _GNU_SOURCE

#include "tests/faults/disk.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define REAL(name) ((__typeof__(&name))real(#name))

enum { FDS = 65536 };
enum { OURS = 1, SYNCED = 2 }; /* of a descriptor: below the root; opened with O_DSYNC */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_n; /* 0: nothing is watched */
static int trace = -1;
static uint64_t records;
static struct disk_control nobody; /* tells nothing to do */
static struct disk_control *control = &nobody;
static _Atomic unsigned char fds[FDS];

static void *
real(const char *name)
{
    void *f = dlsym(RTLD_NEXT, name);
    if (!f)
        abort();
    return f;
}

static uint64_t
now_ns(void)
{
    struct timespec t;
    /* Past every library that may have its own idea of the time. */
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- the trace ---------------------------------------------------------------------------- */

static void
append(const void *p, size_t n)
{
    const char *at = p;
    while (n > 0) {
        ssize_t done = syscall(SYS_write, trace, at, n);
        if (done <= 0)
            abort();
        at += done;
        n -= (size_t)done;
    }
}

static void
record(struct disk_record *r, const void *bytes)
{
    if (trace < 0)
        return;
    static const char zeroes[8];
    append(r, sizeof *r);
    if (r->n > 0) {
        append(bytes, r->n);
        append(zeroes, (8 - r->n % 8) % 8);
    }
    records++;
}

static uint64_t
inode(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 ? st.st_ino : 0;
}

/* Splits into the parent's inode and the last name. */
static uint64_t
place(const char *path, char name[DISK_NAME_MAX + 1])
{
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
    if (strlen(slash + 1) > DISK_NAME_MAX)
        abort();
    snprintf(name, DISK_NAME_MAX + 1, "%s", slash + 1);
    return inode(parent);
}

static uint64_t
count_records(const char *path)
{
    uint64_t n = 0;
    struct disk_record r;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t at = 0;
    while (fd >= 0 && pread(fd, &r, sizeof r, at) == (ssize_t)sizeof r) {
        at += (off_t)(sizeof r + (r.n + 7) / 8 * 8);
        n++;
    }
    if (fd >= 0)
        close(fd);
    return n;
}

static __attribute__((constructor)) void
begin(void)
{
    const char *folder = getenv("KAITEN_DISK_ROOT");
    const char *file = getenv("KAITEN_DISK_TRACE");
    const char *order = getenv("KAITEN_DISK_CONTROL");
    if (!folder || !realpath(folder, root))
        return;
    if (order) {
        int fd = open(order, O_RDWR | O_CLOEXEC);
        void *p = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
            abort();
        control = p;
        close(fd);
    }
    if (file) {
        records = count_records(file);
        int fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        trace = fcntl(fd, F_DUPFD_CLOEXEC, 900); /* out of the way of those who count theirs */
        close(fd);
    }
    root_n = strlen(root);
    struct disk_record r = { .kind = DISK_ROOT, .at = now_ns(), .object = inode(root) };
    record(&r, NULL);
}

/* --- whose it is -------------------------------------------------------------------------- */

static bool
below(const char *path)
{
    return root_n != 0 && strncmp(path, root, root_n) == 0 &&
           (path[root_n] == '/' || path[root_n] == 0);
}

/* The path without a relative beginning. False: not below the root. */
static bool
resolve(int dir, const char *path, char full[PATH_MAX])
{
    char link[64];
    if (path[0] == '/') {
        snprintf(full, PATH_MAX, "%s", path);
        return below(full);
    }
    snprintf(link, sizeof link, dir == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dir);
    ssize_t n = readlink(link, full, PATH_MAX - 1);
    if (n < 0 || (size_t)n + strlen(path) + 2 > PATH_MAX)
        return false;
    snprintf(full + n, PATH_MAX - (size_t)n, "/%s", path);
    return below(full);
}

/* Whether fd is a file below the root, or a folder if that is wanted. */
static bool
ours(int fd, mode_t type, struct stat *st)
{
    return fd >= 0 && fd < FDS && (fds[fd] & OURS) && fstat(fd, st) == 0 &&
           (st->st_mode & S_IFMT & type) != 0;
}

/* --- what fails --------------------------------------------------------------------------- */

static bool
fails(uint32_t kind)
{
    if (!control->armed || !(control->kinds & kind))
        return false;
    uint64_t n = atomic_fetch_add(&control->count, 1) + 1;
    uint64_t nth = control->nth;
    if (nth == 0 || n < nth || (n > nth && !control->forever))
        return false;
    uint64_t never = 0;
    atomic_compare_exchange_strong(&control->hit_at, &never, now_ns());
    control->hits++;
    if (control->error == 0)
        raise(SIGKILL);
    errno = (int)control->error;
    return true;
}

/* Whether a file may grow to this size. */
static bool
grows(const struct stat *st, int64_t size)
{
    if (!control->limited || size <= st->st_size)
        return true;
    int64_t more = size - st->st_size;
    if (atomic_fetch_sub(&control->space, more) >= more)
        return true;
    control->space += more;
    control->full++;
    errno = ENOSPC;
    return false;
}

static void
shrinks(const struct stat *st, int64_t size)
{
    if (control->limited && size < st->st_size)
        control->space += st->st_size - size;
}

/* --- files -------------------------------------------------------------------------------- */

static int
open_ours(int dir, const char *path, const char *full, int flags, mode_t mode)
{
    if (fails(DISK_ON_OPEN))
        return -1;
    struct stat st;
    bool is_new = lstat(full, &st) != 0;
    if (is_new && (flags & O_CREAT) && control->limited && control->space <= 0) {
        control->full++;
        errno = ENOSPC;
        return -1;
    }
    uint64_t at = now_ns();
    int fd = REAL(openat)(dir, path, flags, mode);
    if (fd < 0 || fd >= FDS)
        return fd;
    fds[fd] = (unsigned char)(OURS | (flags & O_DSYNC ? SYNCED : 0));
    struct disk_record r = { .at = at, .object = inode(full) };
    if (is_new && (flags & O_CREAT)) {
        r.kind = DISK_CREATE;
        r.parent = place(full, r.name);
        record(&r, NULL);
    } else if (!is_new && (flags & O_TRUNC) && st.st_size > 0) {
        shrinks(&st, 0);
        r.kind = DISK_TRUNCATE;
        record(&r, NULL);
    }
    return fd;
}

static int
open_any(int dir, const char *path, int flags, mode_t mode)
{
    char full[PATH_MAX];
    if (resolve(dir, path, full)) {
        pthread_mutex_lock(&lock);
        int fd = open_ours(dir, path, full, flags, mode);
        pthread_mutex_unlock(&lock);
        return fd;
    }
    int fd = REAL(openat)(dir, path, flags, mode);
    if (fd >= 0 && fd < FDS)
        fds[fd] = 0;
    return fd;
}

EXPORT int
open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open_any(AT_FDCWD, path, flags, mode);
}

EXPORT int
openat(int dir, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open_any(dir, path, flags, mode);
}

EXPORT int
close(int fd)
{
    if (fd >= 0 && fd < FDS)
        fds[fd] = 0;
    return REAL(close)(fd);
}

static void
synced(uint64_t object, uint64_t at)
{
    struct disk_record r = { .kind = DISK_SYNC, .at = at, .object = object, .offset = records };
    if (!control->lie)
        record(&r, NULL);
}

/* A write at an offset, already found to be ours. */
static ssize_t
write_ours(int fd, const struct stat *st, const void *bytes, size_t n, int64_t offset)
{
    if (fails(DISK_ON_WRITE) || !grows(st, offset + (int64_t)n))
        return -1;
    uint64_t at = now_ns();
    ssize_t done = REAL(pwrite)(fd, bytes, n, offset);
    if (done > 0) {
        struct disk_record r = { .kind = DISK_WRITE, .at = at, .object = st->st_ino,
                                 .offset = (uint64_t)offset, .n = (uint64_t)done };
        record(&r, bytes);
        if (fds[fd] & SYNCED)
            synced(st->st_ino, at);
    }
    return done;
}

EXPORT ssize_t
read(int fd, void *bytes, size_t n)
{
    struct stat st;
    return ours(fd, S_IFREG, &st) && fails(DISK_ON_READ) ? -1 : REAL(read)(fd, bytes, n);
}

EXPORT ssize_t
pread(int fd, void *bytes, size_t n, off_t offset)
{
    struct stat st;
    return ours(fd, S_IFREG, &st) && fails(DISK_ON_READ) ? -1
                                                         : REAL(pread)(fd, bytes, n, offset);
}

EXPORT ssize_t
pwrite(int fd, const void *bytes, size_t n, off_t offset)
{
    struct stat st;
    if (!ours(fd, S_IFREG, &st))
        return REAL(pwrite)(fd, bytes, n, offset);
    pthread_mutex_lock(&lock);
    ssize_t done = fstat(fd, &st) == 0 ? write_ours(fd, &st, bytes, n, offset) : -1;
    pthread_mutex_unlock(&lock);
    return done;
}

static ssize_t
write_on(int fd, const void *bytes, size_t n)
{
    struct stat st;
    pthread_mutex_lock(&lock);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t done = -1;
    if (fstat(fd, &st) == 0) {
        if (fcntl(fd, F_GETFL) & O_APPEND)
            offset = st.st_size;
        done = write_ours(fd, &st, bytes, n, offset);
    }
    if (done > 0)
        lseek(fd, offset + done, SEEK_SET);
    pthread_mutex_unlock(&lock);
    return done;
}

EXPORT ssize_t
write(int fd, const void *bytes, size_t n)
{
    struct stat st;
    return ours(fd, S_IFREG, &st) ? write_on(fd, bytes, n) : REAL(write)(fd, bytes, n);
}

/* In one piece, as the kernel does it. */
static void *
gather(const struct iovec *iov, int count, size_t *ret_n)
{
    size_t n = 0;
    for (int i = 0; i < count; i++)
        n += iov[i].iov_len;
    char *all = malloc(n + 1);
    if (!all)
        return NULL;
    *ret_n = n;
    n = 0;
    for (int i = 0; i < count; i++) {
        memcpy(all + n, iov[i].iov_base, iov[i].iov_len);
        n += iov[i].iov_len;
    }
    return all;
}

EXPORT ssize_t
writev(int fd, const struct iovec *iov, int count)
{
    struct stat st;
    if (!ours(fd, S_IFREG, &st))
        return REAL(writev)(fd, iov, count);
    size_t n;
    void *all = gather(iov, count, &n);
    ssize_t done = all ? write_on(fd, all, n) : -1;
    free(all);
    return done;
}

EXPORT ssize_t
pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    struct stat st;
    if (!ours(fd, S_IFREG, &st))
        return REAL(pwritev)(fd, iov, count, offset);
    size_t n;
    void *all = gather(iov, count, &n);
    ssize_t done = all ? pwrite(fd, all, n, offset) : -1;
    free(all);
    return done;
}

/* The kernel would copy past us. */
EXPORT ssize_t
copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t n, unsigned flags)
{
    struct stat st;
    if (!ours(out, S_IFREG, &st))
        return REAL(copy_file_range)(in, in_at, out, out_at, n, flags);
    errno = EXDEV;
    return -1;
}

static int
resize(int fd, int64_t size, bool may_shrink)
{
    struct stat st;
    pthread_mutex_lock(&lock);
    int result = -1;
    if (fstat(fd, &st) == 0 && !fails(DISK_ON_WRITE) && grows(&st, size)) {
        result = 0;
        if (may_shrink || size > st.st_size) {
            struct disk_record r = { .kind = DISK_TRUNCATE, .at = now_ns(), .object = st.st_ino,
                                     .offset = (uint64_t)size };
            result = REAL(ftruncate)(fd, size);
            shrinks(&st, size);
            if (result == 0)
                record(&r, NULL);
        }
    }
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT int
ftruncate(int fd, off_t size)
{
    struct stat st;
    return ours(fd, S_IFREG, &st) ? resize(fd, size, true) : REAL(ftruncate)(fd, size);
}

/* Space is counted by sizes here, so an allocation is a file that grows. */
EXPORT int
fallocate(int fd, int mode, off_t offset, off_t n)
{
    struct stat st;
    if (!ours(fd, S_IFREG, &st))
        return REAL(fallocate)(fd, mode, offset, n);
    return resize(fd, offset + n, false);
}

EXPORT int
posix_fallocate(int fd, off_t offset, off_t n)
{
    struct stat st;
    if (!ours(fd, S_IFREG, &st))
        return REAL(posix_fallocate)(fd, offset, n);
    return resize(fd, offset + n, false) == 0 ? 0 : errno;
}

static int
sync_ours(int fd)
{
    struct stat st;
    const struct timespec tick = { 0, 1000 * 1000 };
    control->hanging++;
    while (control->hangs) /* without the lock: writes go on into the kernel's memory */
        nanosleep(&tick, NULL);
    control->hanging--;
    pthread_mutex_lock(&lock);
    int result = fails(DISK_ON_SYNC) ? -1 : 0;
    if (result == 0 && fstat(fd, &st) == 0)
        synced(st.st_ino, now_ns());
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT int
fsync(int fd)
{
    struct stat st;
    return ours(fd, S_IFREG | S_IFDIR, &st) ? sync_ours(fd) : REAL(fsync)(fd);
}

EXPORT int
fdatasync(int fd)
{
    struct stat st;
    return ours(fd, S_IFREG | S_IFDIR, &st) ? sync_ours(fd) : REAL(fdatasync)(fd);
}

/* --- names -------------------------------------------------------------------------------- */

EXPORT int
renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    char full[PATH_MAX], full_to[PATH_MAX];
    if (!resolve(from_dir, from, full) || !resolve(to_dir, to, full_to))
        return REAL(renameat)(from_dir, from, to_dir, to);
    pthread_mutex_lock(&lock);
    struct disk_record r = { .kind = DISK_RENAME, .at = now_ns(), .object = inode(full) };
    struct stat gone;
    bool replaces = lstat(full_to, &gone) == 0;
    int result = fails(DISK_ON_NAME) ? -1 : REAL(renameat)(from_dir, from, to_dir, to);
    if (result == 0) {
        r.parent = place(full, r.name);
        r.parent_to = place(full_to, r.name_to);
        if (replaces)
            shrinks(&gone, 0);
        record(&r, NULL);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT int
rename(const char *from, const char *to)
{
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

EXPORT int
linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    char full[PATH_MAX], full_to[PATH_MAX];
    if (!resolve(from_dir, from, full) || !resolve(to_dir, to, full_to))
        return REAL(linkat)(from_dir, from, to_dir, to, flags);
    pthread_mutex_lock(&lock);
    struct disk_record r = { .kind = DISK_LINK, .at = now_ns(), .object = inode(full) };
    int result = fails(DISK_ON_NAME) ? -1 : REAL(linkat)(from_dir, from, to_dir, to, flags);
    if (result == 0) {
        r.parent_to = place(full_to, r.name_to);
        record(&r, NULL);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT int
link(const char *from, const char *to)
{
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT int
unlinkat(int dir, const char *path, int flags)
{
    char full[PATH_MAX];
    if (!resolve(dir, path, full))
        return REAL(unlinkat)(dir, path, flags);
    pthread_mutex_lock(&lock);
    struct disk_record r = { .kind = DISK_UNLINK, .at = now_ns() };
    struct stat gone;
    bool there = lstat(full, &gone) == 0 && S_ISREG(gone.st_mode) && gone.st_nlink == 1;
    int result = fails(DISK_ON_NAME) ? -1 : REAL(unlinkat)(dir, path, flags);
    if (result == 0) {
        r.parent = place(full, r.name);
        if (there)
            shrinks(&gone, 0);
        record(&r, NULL);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT int
unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

EXPORT int
rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

EXPORT int
mkdirat(int dir, const char *path, mode_t mode)
{
    char full[PATH_MAX];
    if (!resolve(dir, path, full))
        return REAL(mkdirat)(dir, path, mode);
    pthread_mutex_lock(&lock);
    struct disk_record r = { .kind = DISK_MKDIR, .at = now_ns() };
    int result = fails(DISK_ON_NAME) ? -1 : REAL(mkdirat)(dir, path, mode);
    if (result == 0) {
        r.object = inode(full);
        r.parent = place(full, r.name);
        record(&r, NULL);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT int
mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

/* --- how much is left --------------------------------------------------------------------- */

static void
tell_space(struct statvfs *v)
{
    int64_t left = control->space > 0 ? control->space : 0;
    v->f_bavail = v->f_bfree = (fsblkcnt_t)left / (v->f_frsize ? v->f_frsize : 1);
}

EXPORT int
statvfs(const char *path, struct statvfs *v)
{
    char full[PATH_MAX];
    int result = REAL(statvfs)(path, v);
    if (result == 0 && control->limited && resolve(AT_FDCWD, path, full))
        tell_space(v);
    return result;
}

EXPORT int
fstatvfs(int fd, struct statvfs *v)
{
    int result = REAL(fstatvfs)(fd, v);
    if (result == 0 && control->limited && fd >= 0 && fd < FDS && (fds[fd] & OURS))
        tell_space(v);
    return result;
}
