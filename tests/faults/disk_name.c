/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Names of watched files and folders: made, changed, removed; and how much space is left. */
#define _GNU_SOURCE

#include "tests/faults/disk_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

EXPORT int
renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    char full[PATH_MAX], full_to[PATH_MAX];
    if (!disk_resolve(from_dir, from, full) || !disk_resolve(to_dir, to, full_to))
        return REAL(renameat)(from_dir, from, to_dir, to);
    pthread_mutex_lock(&disk_lock);
    struct disk_record r = { .kind = DISK_RENAME, .at = disk_now_ns(), .object = disk_inode(full) };
    struct stat gone;
    bool replaces = lstat(full_to, &gone) == 0;
    int result = disk_fails(DISK_ON_NAME) ? -1 : REAL(renameat)(from_dir, from, to_dir, to);
    if (result == 0) {
        r.parent = disk_place(full, r.name);
        r.parent_to = disk_place(full_to, r.name_to);
        if (replaces)
            disk_shrinks(&gone, 0);
        disk_write_down(&r, NULL);
    }
    pthread_mutex_unlock(&disk_lock);
    return result;
}

/* Two names that are exchanged: it may fail, and is not recorded. */
EXPORT int
renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    char full[PATH_MAX];
    if (!disk_resolve(to_dir, to, full))
        return REAL(renameat2)(from_dir, from, to_dir, to, flags);
    pthread_mutex_lock(&disk_lock);
    int result =
        disk_fails(DISK_ON_NAME) ? -1 : REAL(renameat2)(from_dir, from, to_dir, to, flags);
    pthread_mutex_unlock(&disk_lock);
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
    if (!disk_resolve(from_dir, from, full) || !disk_resolve(to_dir, to, full_to))
        return REAL(linkat)(from_dir, from, to_dir, to, flags);
    pthread_mutex_lock(&disk_lock);
    struct disk_record r = { .kind = DISK_LINK, .at = disk_now_ns(), .object = disk_inode(full) };
    int result = disk_fails(DISK_ON_NAME) ? -1 : REAL(linkat)(from_dir, from, to_dir, to, flags);
    if (result == 0) {
        r.parent_to = disk_place(full_to, r.name_to);
        disk_write_down(&r, NULL);
    }
    pthread_mutex_unlock(&disk_lock);
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
    if (!disk_resolve(dir, path, full))
        return REAL(unlinkat)(dir, path, flags);
    pthread_mutex_lock(&disk_lock);
    struct disk_record r = { .kind = DISK_UNLINK, .at = disk_now_ns() };
    struct stat gone;
    bool there = lstat(full, &gone) == 0 && S_ISREG(gone.st_mode) && gone.st_nlink == 1;
    int result = disk_fails(DISK_ON_NAME) ? -1 : REAL(unlinkat)(dir, path, flags);
    if (result == 0) {
        r.parent = disk_place(full, r.name);
        if (there)
            disk_shrinks(&gone, 0);
        disk_write_down(&r, NULL);
    }
    pthread_mutex_unlock(&disk_lock);
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
    if (!disk_resolve(dir, path, full))
        return REAL(mkdirat)(dir, path, mode);
    pthread_mutex_lock(&disk_lock);
    struct disk_record r = { .kind = DISK_MKDIR, .at = disk_now_ns() };
    int result = disk_fails(DISK_ON_NAME) ? -1 : REAL(mkdirat)(dir, path, mode);
    if (result == 0) {
        r.object = disk_inode(full);
        r.parent = disk_place(full, r.name);
        disk_write_down(&r, NULL);
    }
    pthread_mutex_unlock(&disk_lock);
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
    int64_t left = disk_orders->space > 0 ? disk_orders->space : 0;
    v->f_bavail = v->f_bfree = (fsblkcnt_t)left / (v->f_frsize ? v->f_frsize : 1);
}

EXPORT int
statvfs(const char *path, struct statvfs *v)
{
    char full[PATH_MAX];
    int result = REAL(statvfs)(path, v);
    if (result == 0 && disk_orders->limited && disk_resolve(AT_FDCWD, path, full))
        tell_space(v);
    return result;
}

EXPORT int
fstatvfs(int fd, struct statvfs *v)
{
    int result = REAL(fstatvfs)(fd, v);
    if (result == 0 && disk_orders->limited && (disk_marks(fd) & DISK_OURS))
        tell_space(v);
    return result;
}
