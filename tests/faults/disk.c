/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The middle of disk.so: which files are watched, what was asked to fail, and the trace. */
#define _GNU_SOURCE

#include "tests/faults/disk_private.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FDS = 65536 };

pthread_mutex_t disk_lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_n; /* 0: nothing is watched */
static int trace = -1;
static uint64_t records;
static struct disk_control nobody; /* tells nothing to do */
struct disk_control *disk_orders = &nobody;
static _Atomic unsigned char marks[FDS]; /* of each descriptor */

void *
disk_real(const char *name)
{
    void *f = dlsym(RTLD_NEXT, name);
    if (!f)
        abort();
    return f;
}

uint64_t
disk_now_ns(void)
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

void
disk_write_down(struct disk_record *r, const void *bytes)
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

uint64_t
disk_inode(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 ? st.st_ino : 0;
}

uint64_t
disk_place(const char *path, char name[DISK_NAME_MAX + 1])
{
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
    if (strlen(slash + 1) > DISK_NAME_MAX)
        abort();
    snprintf(name, DISK_NAME_MAX + 1, "%s", slash + 1);
    return disk_inode(parent);
}

void
disk_synced(uint64_t object, uint64_t at)
{
    struct disk_record r = { .kind = DISK_SYNC, .at = at, .object = object, .offset = records };
    if (!disk_orders->lie)
        disk_write_down(&r, NULL);
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
        void *p = mmap(NULL, sizeof *disk_orders, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
            abort();
        disk_orders = p;
        close(fd);
    }
    if (file) {
        records = count_records(file);
        int fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        trace = fcntl(fd, F_DUPFD_CLOEXEC, 900); /* out of the way of those who count theirs */
        close(fd);
    }
    root_n = strlen(root);
    struct disk_record r = { .kind = DISK_ROOT, .at = disk_now_ns(), .object = disk_inode(root) };
    disk_write_down(&r, NULL);
}

/* --- whose it is -------------------------------------------------------------------------- */

static bool
below(const char *path)
{
    return root_n != 0 && strncmp(path, root, root_n) == 0 &&
           (path[root_n] == '/' || path[root_n] == 0);
}

bool
disk_resolve(int dir, const char *path, char full[PATH_MAX])
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

void
disk_mark(int fd, unsigned char which)
{
    if (fd >= 0 && fd < FDS)
        marks[fd] = which;
}

unsigned char
disk_marks(int fd)
{
    return fd >= 0 && fd < FDS ? marks[fd] : 0;
}

bool
disk_is_ours(int fd, mode_t type, struct stat *st)
{
    return (disk_marks(fd) & DISK_OURS) && fstat(fd, st) == 0 &&
           (st->st_mode & S_IFMT & type) != 0;
}

/* --- what fails --------------------------------------------------------------------------- */

bool
disk_fails(uint32_t kind)
{
    if (!disk_orders->armed || !(disk_orders->kinds & kind))
        return false;
    uint64_t n = atomic_fetch_add(&disk_orders->count, 1) + 1;
    uint64_t nth = disk_orders->nth;
    if (nth == 0 || n < nth || (n > nth && !disk_orders->forever))
        return false;
    uint64_t never = 0;
    atomic_compare_exchange_strong(&disk_orders->hit_at, &never, disk_now_ns());
    disk_orders->hits++;
    if (disk_orders->error == 0)
        raise(SIGKILL);
    errno = (int)disk_orders->error;
    return true;
}

bool
disk_grows(const struct stat *st, int64_t size)
{
    if (!disk_orders->limited || size <= st->st_size)
        return true;
    int64_t more = size - st->st_size;
    if (atomic_fetch_sub(&disk_orders->space, more) >= more)
        return true;
    disk_orders->space += more;
    disk_orders->full++;
    errno = ENOSPC;
    return false;
}

void
disk_shrinks(const struct stat *st, int64_t size)
{
    if (disk_orders->limited && size < st->st_size)
        disk_orders->space += st->st_size - size;
}
