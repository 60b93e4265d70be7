/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Descriptors of watched files: opened, read, written, resized, synced. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE /* with which a header has bodies for read() and pread() of its own */

#include "tests/faults/disk_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int
open_ours(int dir, const char *path, const char *full, int flags, mode_t mode)
{
    if (disk_fails(DISK_ON_OPEN))
        return -1;
    struct stat st;
    bool is_new = lstat(full, &st) != 0;
    if (is_new && (flags & O_CREAT) && disk_orders->limited && disk_orders->space <= 0) {
        disk_orders->full++;
        errno = ENOSPC;
        return -1;
    }
    uint64_t at = disk_now_ns();
    int fd = REAL(openat)(dir, path, flags, mode);
    if (fd < 0)
        return fd;
    disk_mark(fd, (unsigned char)(DISK_OURS | (flags & O_DSYNC ? DISK_SYNCED : 0)));
    struct disk_record r = { .at = at, .object = disk_inode(full) };
    if (is_new && (flags & O_CREAT)) {
        r.kind = DISK_CREATE;
        r.parent = disk_place(full, r.name);
        disk_write_down(&r, NULL);
    } else if (!is_new && (flags & O_TRUNC) && st.st_size > 0) {
        disk_shrinks(&st, 0);
        r.kind = DISK_TRUNCATE;
        disk_write_down(&r, NULL);
    }
    return fd;
}

static int
open_any(int dir, const char *path, int flags, mode_t mode)
{
    char full[PATH_MAX];
    if (disk_resolve(dir, path, full)) {
        pthread_mutex_lock(&disk_lock);
        int fd = open_ours(dir, path, full, flags, mode);
        pthread_mutex_unlock(&disk_lock);
        return fd;
    }
    int fd = REAL(openat)(dir, path, flags, mode);
    disk_mark(fd, 0);
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
    disk_mark(fd, 0);
    return REAL(close)(fd);
}

/* --- reading and writing ------------------------------------------------------------------ */

/* A write at an offset, already found to be ours. */
static ssize_t
write_ours(int fd, const struct stat *st, const void *bytes, size_t n, int64_t offset)
{
    if (disk_fails(DISK_ON_WRITE) || !disk_grows(st, offset + (int64_t)n))
        return -1;
    uint64_t at = disk_now_ns();
    ssize_t done = REAL(pwrite)(fd, bytes, n, offset);
    if (done > 0) {
        struct disk_record r = { .kind = DISK_WRITE, .at = at, .object = st->st_ino,
                                 .offset = (uint64_t)offset, .n = (uint64_t)done };
        disk_write_down(&r, bytes);
        if (disk_marks(fd) & DISK_SYNCED)
            disk_synced(st->st_ino, at);
    }
    return done;
}

EXPORT ssize_t
read(int fd, void *bytes, size_t n)
{
    struct stat st;
    return disk_is_ours(fd, S_IFREG, &st) && disk_fails(DISK_ON_READ) ? -1
                                                                      : REAL(read)(fd, bytes, n);
}

EXPORT ssize_t
pread(int fd, void *bytes, size_t n, off_t offset)
{
    struct stat st;
    if (disk_is_ours(fd, S_IFREG, &st) && disk_fails(DISK_ON_READ))
        return -1;
    return REAL(pread)(fd, bytes, n, offset);
}

EXPORT ssize_t
pwrite(int fd, const void *bytes, size_t n, off_t offset)
{
    struct stat st;
    if (!disk_is_ours(fd, S_IFREG, &st))
        return REAL(pwrite)(fd, bytes, n, offset);
    pthread_mutex_lock(&disk_lock);
    ssize_t done = fstat(fd, &st) == 0 ? write_ours(fd, &st, bytes, n, offset) : -1;
    pthread_mutex_unlock(&disk_lock);
    return done;
}

static ssize_t
write_on(int fd, const void *bytes, size_t n)
{
    struct stat st;
    pthread_mutex_lock(&disk_lock);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t done = -1;
    if (fstat(fd, &st) == 0) {
        if (fcntl(fd, F_GETFL) & O_APPEND)
            offset = st.st_size;
        done = write_ours(fd, &st, bytes, n, offset);
    }
    if (done > 0)
        lseek(fd, offset + done, SEEK_SET);
    pthread_mutex_unlock(&disk_lock);
    return done;
}

EXPORT ssize_t
write(int fd, const void *bytes, size_t n)
{
    struct stat st;
    return disk_is_ours(fd, S_IFREG, &st) ? write_on(fd, bytes, n) : REAL(write)(fd, bytes, n);
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
    if (!disk_is_ours(fd, S_IFREG, &st))
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
    if (!disk_is_ours(fd, S_IFREG, &st))
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
    if (!disk_is_ours(out, S_IFREG, &st))
        return REAL(copy_file_range)(in, in_at, out, out_at, n, flags);
    errno = EXDEV;
    return -1;
}

/* --- sizes and syncs ---------------------------------------------------------------------- */

static int
resize(int fd, int64_t size, bool may_shrink)
{
    struct stat st;
    pthread_mutex_lock(&disk_lock);
    int result = -1;
    if (fstat(fd, &st) == 0 && !disk_fails(DISK_ON_WRITE) && disk_grows(&st, size)) {
        result = 0;
        if (may_shrink || size > st.st_size) {
            struct disk_record r = { .kind = DISK_TRUNCATE, .at = disk_now_ns(),
                                     .object = st.st_ino, .offset = (uint64_t)size };
            result = REAL(ftruncate)(fd, size);
            disk_shrinks(&st, size);
            if (result == 0)
                disk_write_down(&r, NULL);
        }
    }
    pthread_mutex_unlock(&disk_lock);
    return result;
}

EXPORT int
ftruncate(int fd, off_t size)
{
    struct stat st;
    return disk_is_ours(fd, S_IFREG, &st) ? resize(fd, size, true) : REAL(ftruncate)(fd, size);
}

/* Space is counted by sizes here, so an allocation is a file that grows. */
EXPORT int
fallocate(int fd, int mode, off_t offset, off_t n)
{
    struct stat st;
    if (!disk_is_ours(fd, S_IFREG, &st))
        return REAL(fallocate)(fd, mode, offset, n);
    return resize(fd, offset + n, false);
}

EXPORT int
posix_fallocate(int fd, off_t offset, off_t n)
{
    struct stat st;
    if (!disk_is_ours(fd, S_IFREG, &st))
        return REAL(posix_fallocate)(fd, offset, n);
    return resize(fd, offset + n, false) == 0 ? 0 : errno;
}

static int
sync_ours(int fd)
{
    struct stat st;
    const struct timespec tick = { 0, 1000 * 1000 };
    disk_orders->hanging++;
    while (disk_orders->hangs) /* without the lock: writes go on into the kernel's memory */
        nanosleep(&tick, NULL);
    disk_orders->hanging--;
    pthread_mutex_lock(&disk_lock);
    int result = disk_fails(DISK_ON_SYNC) ? -1 : 0;
    if (result == 0 && fstat(fd, &st) == 0)
        disk_synced(st.st_ino, disk_now_ns());
    pthread_mutex_unlock(&disk_lock);
    return result;
}

EXPORT int
fsync(int fd)
{
    struct stat st;
    return disk_is_ours(fd, S_IFREG | S_IFDIR, &st) ? sync_ours(fd) : REAL(fsync)(fd);
}

EXPORT int
fdatasync(int fd)
{
    struct stat st;
    return disk_is_ours(fd, S_IFREG | S_IFDIR, &st) ? sync_ours(fd) : REAL(fdatasync)(fd);
}
