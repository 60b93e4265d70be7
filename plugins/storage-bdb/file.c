/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PIECE = 128 * 1024,
    SYNC_EVERY = 8 << 20, /* a long sync would hold up those of commits */
    LOG_DIGITS = 10
};

bool
bdb_path(char out[BDB_PATH], const char *dir, const char *name)
{
    int n = snprintf(out, BDB_PATH, "%s/%s", dir, name);
    return n > 0 && n < BDB_PATH;
}

/* What is too large is still a log for the library. */
uint32_t
bdb_log_number(const char *name)
{
    static const char prefix[] = "log.";
    if (strncmp(name, prefix, strlen(prefix)) != 0)
        return 0;
    const char *digits = name + strlen(prefix);
    if (strlen(digits) != LOG_DIGITS || strspn(digits, "0123456789") != LOG_DIGITS)
        return 0;
    unsigned long long number = strtoull(digits, NULL, 10);
    return number < UINT32_MAX ? (uint32_t)number : UINT32_MAX;
}

void
bdb_log_name(char out[BDB_NAME], uint32_t number)
{
    snprintf(out, BDB_NAME, "log.%010u", (unsigned)number);
}

void
bdb_space_name(char out[BDB_NAME], unsigned char space)
{
    snprintf(out, BDB_NAME, "space-%02x.db", space);
}

int
bdb_space_number(const char *name)
{
    unsigned byte;
    int end = 0;
    if (strlen(name) != strlen("space-00.db"))
        return -1;
    if (sscanf(name, "space-%2x.db%n", &byte, &end) != 1 || end != (int)strlen(name))
        return -1;
    return (int)byte;
}

bool
bdb_is_database(const char *name)
{
    return strcmp(name, "meta.db") == 0 || bdb_space_number(name) >= 0;
}

/* NULL: there is no more, or *ret_error says why none could be read. */
static struct dirent *
next_entry(DIR *d, int *ret_error)
{
    errno = 0;
    struct dirent *entry = readdir(d);
    *ret_error = entry ? 0 : errno;
    return entry;
}

int
bdb_each_file(const char *dir, int (*each)(void *arg, const char *name), void *arg)
{
    DIR *d = opendir(dir);
    if (!d)
        return errno;
    int error = 0;
    struct dirent *entry;
    while (!error && (entry = next_entry(d, &error))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            error = each(arg, entry->d_name);
    }
    closedir(d);
    return error;
}

struct logs {
    uint32_t first, last;
};

static int
note_log(void *arg, const char *name)
{
    struct logs *logs = arg;
    uint32_t number = bdb_log_number(name);
    if (number == 0)
        return 0;
    if (logs->first == 0 || number < logs->first)
        logs->first = number;
    if (number > logs->last)
        logs->last = number;
    return 0;
}

int
bdb_logs(const char *dir, uint32_t *ret_first, uint32_t *ret_last, uint32_t *ret_gap)
{
    struct logs logs = { 0, 0 };
    int error = bdb_each_file(dir, note_log, &logs);
    if (error)
        return error;
    *ret_first = logs.first;
    *ret_last = logs.last;
    *ret_gap = 0;
    /* From the end: what lies before the gap is good for nothing. */
    for (uint32_t n = logs.last; n > logs.first && *ret_gap == 0; n--) {
        char name[BDB_NAME];
        bdb_log_name(name, n);
        if (!bdb_exists(dir, name))
            *ret_gap = n;
    }
    return 0;
}

bool
bdb_exists(const char *dir, const char *name)
{
    char path[BDB_PATH];
    struct stat st;
    return bdb_path(path, dir, name) &&
           (lstat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR));
}

uint64_t
bdb_size(const char *dir, const char *name)
{
    char path[BDB_PATH];
    struct stat st;
    return bdb_path(path, dir, name) && lstat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

struct sum {
    const char *dir;
    uint64_t bytes;
};

static int
add_database(void *arg, const char *name)
{
    struct sum *sum = arg;
    if (bdb_is_database(name))
        sum->bytes += bdb_size(sum->dir, name);
    return 0;
}

uint64_t
bdb_databases_size(const char *dir)
{
    struct sum sum = { dir, 0 };
    bdb_each_file(dir, add_database, &sum);
    return sum.bytes;
}

/* --- copies ------------------------------------------------------------------------------- */

static int
write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return errno;
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

static int
copy_bytes(int from, int to, uint64_t bytes)
{
    char *piece = malloc(PIECE);
    int error = piece ? 0 : ENOMEM;
    for (uint64_t done = 0; done < bytes && !error;) {
        size_t wish = bytes - done < PIECE ? (size_t)(bytes - done) : PIECE;
        ssize_t n = read(from, piece, wish);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            error = n < 0 ? errno : 0; /* shorter than expected: that is all there is */
            break;
        }
        error = write_all(to, piece, (size_t)n);
        if (!error && done / SYNC_EVERY != (done + (uint64_t)n) / SYNC_EVERY)
            error = bdb_sync(to);
        done += (uint64_t)n;
    }
    free(piece);
    return error;
}

int
bdb_copy_file(const char *from, const char *to, const char *name, uint64_t bytes)
{
    char source[BDB_PATH], target[BDB_PATH];
    if (!bdb_path(source, from, name) || !bdb_path(target, to, name))
        return ENAMETOOLONG;
    int in = open(source, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (in < 0)
        return errno;
    int out = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int error = out < 0 || fchmod(out, 0600) != 0 ? errno : copy_bytes(in, out, bytes);
    if (!error)
        error = bdb_sync(out);
    if (out >= 0)
        close(out);
    close(in);
    return error;
}

int
bdb_link_file(const char *from, const char *to, const char *name)
{
    char source[BDB_PATH], target[BDB_PATH];
    if (!bdb_path(source, from, name) || !bdb_path(target, to, name))
        return ENAMETOOLONG;
    if (link(source, target) == 0)
        return 0;
    return errno == ENOENT ? ENOENT : bdb_copy_file(from, to, name, UINT64_MAX);
}

int
bdb_sync_file(void *dir, const char *name)
{
    char path[BDB_PATH];
    if (!bdb_is_database(name) && bdb_log_number(name) == 0)
        return 0;
    if (!bdb_path(path, dir, name))
        return ENAMETOOLONG;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int error = bdb_sync(fd);
    close(fd);
    return error;
}

/* --- directories -------------------------------------------------------------------------- */

static int
remove_one(void *arg, const char *name)
{
    char path[BDB_PATH];
    if (!bdb_path(path, arg, name))
        return ENAMETOOLONG;
    return unlink(path) == 0 || errno == ENOENT ? 0 : errno;
}

int
bdb_directory_remove(const char *path)
{
    int error = bdb_each_file(path, remove_one, (void *)path);
    if (error)
        return error == ENOENT ? 0 : error;
    return rmdir(path) == 0 ? 0 : errno;
}

int
bdb_directory_new(const char *path)
{
    int error = bdb_directory_remove(path);
    if (error)
        return error;
    return mkdir(path, 0700) == 0 && chmod(path, 0700) == 0 ? 0 : errno;
}

/* --- small files -------------------------------------------------------------------------- */

int
bdb_write_file(const char *dir, const char *name, const char *text)
{
    char path[BDB_PATH], fresh[BDB_PATH];
    if (!bdb_path(path, dir, name))
        return ENAMETOOLONG;
    int n = snprintf(fresh, sizeof fresh, "%s.new", path);
    if (n < 0 || (size_t)n >= sizeof fresh)
        return ENAMETOOLONG;
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    int error = fchmod(fd, 0600) != 0 ? errno : write_all(fd, text, strlen(text));
    if (!error)
        error = bdb_sync(fd);
    close(fd);
    if (!error && rename(fresh, path) != 0)
        error = errno;
    if (error) {
        unlink(fresh);
        return error;
    }
    return bdb_sync_directory(dir);
}

int
bdb_read_file(const char *dir, const char *name, char *ret, size_t n)
{
    char path[BDB_PATH];
    ret[0] = '\0';
    if (!bdb_path(path, dir, name))
        return ENAMETOOLONG;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : errno;
    size_t have = 0;
    ssize_t got = 1;
    while (have < n - 1 && got != 0) {
        got = read(fd, ret + have, n - 1 - have);
        if (got < 0 && errno != EINTR)
            break;
        have += got > 0 ? (size_t)got : 0;
    }
    int error = got < 0 ? errno : 0;
    ret[have] = '\0';
    close(fd);
    return error;
}

int
bdb_move(const char *from, const char *to, const char *name)
{
    char source[BDB_PATH], target[BDB_PATH];
    if (!bdb_path(source, from, name) || !bdb_path(target, to, name))
        return ENAMETOOLONG;
    return rename(source, target) == 0 ? 0 : errno;
}
