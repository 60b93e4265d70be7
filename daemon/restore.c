/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/restore.h"

#include "client/proto/file.h"
#include "daemon/model/keyfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
refuse(char err[RESTORE_ERROR_MAX], const char *path, const char *what)
{
    snprintf(err, RESTORE_ERROR_MAX, "%s: %s", path, what);
    return false;
}

/* NULL: no more names, or errno. */
static struct dirent *
next_name(DIR *d)
{
    struct dirent *entry;
    do {
        errno = 0;
        entry = readdir(d);
    } while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    return entry;
}

/* Calls each() with the names of a folder, of which both descriptors are open; stops when it says
 * false. *ret_n: how many there were. False: errno, and there may be names that it did not see. */
static bool
each_name(int dir, bool (*each)(int from, int to, const char *name), int to, size_t *ret_n)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    bool ok = d != NULL;
    struct dirent *entry;
    *ret_n = 0;
    while (ok && (entry = next_name(d))) {
        (*ret_n)++;
        ok = !each || each(dir, to, entry->d_name);
    }
    ok = ok && errno == 0;
    int saved = errno;
    if (d)
        closedir(d);
    errno = saved;
    return ok;
}

/* Whoever does this as root is not the one who is to open it. */
static bool
give_away(int fd, const struct stat *owner)
{
    return !owner || fchown(fd, owner->st_uid, owner->st_gid) == 0;
}

static bool
copy_bytes(int from, int to)
{
    char piece[64 * 1024];
    ssize_t n;
    while ((n = read(from, piece, sizeof piece)) > 0 || (n < 0 && errno == EINTR))
        if (n > 0 && !kt_write_all(to, piece, (size_t)n))
            return false;
    return n == 0 && fsync(to) == 0;
}

static bool
copy_file(int from_dir, int to_dir, const char *name)
{
    struct stat st, folder;
    int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int to = from < 0 ? -1
                      : openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok = to >= 0 && fstat(from, &st) == 0 && fstat(to_dir, &folder) == 0 &&
              give_away(to, geteuid() == 0 ? &folder : NULL);
    if (ok && !S_ISREG(st.st_mode)) {
        errno = EINVAL;
        ok = false;
    }
    ok = ok && copy_bytes(from, to);
    int saved = errno;
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    errno = saved;
    return ok;
}

/* A folder goes with all that is in it. */
static bool
remove_name(int dir, int unused, const char *name)
{
    size_t n;
    if (unlinkat(dir, name, 0) == 0)
        return true;
    if (errno != EISDIR)
        return false;
    int inner = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    bool ok = inner >= 0 && each_name(inner, remove_name, unused, &n);
    int saved = errno;
    if (inner >= 0)
        close(inner);
    errno = saved;
    return ok && unlinkat(dir, name, AT_REMOVEDIR) == 0;
}

/* Removes a folder and what is in it. */
static bool
remove_folder(const char *path)
{
    size_t n;
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return errno == ENOENT;
    bool ok = each_name(dir, remove_name, -1, &n);
    close(dir);
    return ok && rmdir(path) == 0;
}

static bool
copy_folder(const char *from, const char *to, const struct stat *owner)
{
    size_t n;
    int from_dir = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int to_dir = -1;
    if (from_dir >= 0 && mkdir(to, 0700) == 0)
        to_dir = open(to, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    bool ok = to_dir >= 0 && give_away(to_dir, owner) &&
              each_name(from_dir, copy_file, to_dir, &n) && fsync(to_dir) == 0;
    int saved = errno;
    if (from_dir >= 0)
        close(from_dir);
    if (to_dir >= 0)
        close(to_dir);
    errno = saved;
    return ok;
}

/* *ret: there is something. False: it cannot be said. */
static bool
is_occupied(const char *path, bool *ret)
{
    size_t n = 0;
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *ret = false;
    if (dir < 0)
        return errno == ENOENT;
    bool ok = each_name(dir, NULL, -1, &n);
    close(dir);
    *ret = n != 0;
    return ok;
}

/* Where one rename cannot exchange the two, there is no store for an instant. */
static bool
exchange_slowly(const char *fresh, const char *to, const char *old)
{
    if (rename(to, old) != 0)
        return false;
    if (rename(fresh, to) == 0)
        return true;
    int saved = errno;
    (void)rename(old, to);
    errno = saved;
    return false;
}

/* There is a store at every instant, this one or that one: a daemon that found none would begin an
 * empty one. What was there never has the name fresh, which whoever begins anew removes. */
static bool
exchange(const char *fresh, const char *to, const char *old)
{
    if (!remove_folder(old) || rename(fresh, old) != 0)
        return false;
    if (renameat2(AT_FDCWD, old, AT_FDCWD, to, RENAME_EXCHANGE) == 0)
        return true;
    int saved = errno;
    bool back = rename(old, fresh) == 0;
    errno = saved;
    return back && (saved == EINVAL || saved == ENOSYS) && exchange_slowly(fresh, to, old);
}

static bool
put_in_place(const char *fresh, const char *to, const char *old, bool occupied)
{
    if (occupied)
        return exchange(fresh, to, old);
    return (rmdir(to) == 0 || errno == ENOENT) && rename(fresh, to) == 0;
}

bool
restore_folder(const char *from, const char *to, const struct restore_how *how,
               char err[RESTORE_ERROR_MAX])
{
    char fresh[PATH_MAX], old[PATH_MAX];
    bool occupied;
    int n = snprintf(fresh, sizeof fresh, "%s.new", to);
    int m = snprintf(old, sizeof old, "%s.old", to);
    if (n < 0 || m < 0 || (size_t)n >= sizeof fresh || (size_t)m >= sizeof old)
        return refuse(err, to, strerror(ENAMETOOLONG));
    if (!is_occupied(to, &occupied))
        return refuse(err, to, strerror(errno));
    if (occupied && !how->replace)
        return refuse(err, to, "there is a store already; --replace keeps it aside");
    if (!remove_folder(fresh))
        return refuse(err, fresh, strerror(errno));
    if (!copy_folder(from, fresh, how->owner)) {
        int saved = errno;
        (void)remove_folder(fresh);
        return refuse(err, from, strerror(saved));
    }
    if (!put_in_place(fresh, to, old, occupied))
        return refuse(err, to, strerror(errno));
    if (keyfile_sync_folder(to))
        return true;
    snprintf(err, RESTORE_ERROR_MAX,
             "%s: the copy is in its place, but a power cut may undo that: %s", to,
             strerror(errno));
    return false;
}
