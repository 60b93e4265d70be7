/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/keyfile.h"

#include "client/proto/file.h"
#include "daemon/log.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

static int
open_folder(const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    return open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

bool
keyfile_sync_folder(const char *path)
{
    int fd = open_folder(path);
    if (fd < 0)
        return false;
    bool ok = fsync(fd) == 0;
    int saved = errno;
    close(fd);
    errno = saved;
    return ok;
}

static bool
write_new(const char *path, const void *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return false;
    bool ok = fchmod(fd, 0600) == 0 && kt_write_all(fd, bytes, n) && fsync(fd) == 0;
    int saved = errno;
    close(fd);
    errno = saved;
    return ok;
}

/* The name that the bytes have until they are whole. */
static bool
name_hidden(const char *path, char hidden[PATH_MAX])
{
    if ((size_t)snprintf(hidden, PATH_MAX, "%s.new", path) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return false;
    }
    /* Left by a process that ended in the midst of this; it was never in use. */
    return unlink(hidden) == 0 || errno == ENOENT;
}

bool
keyfile_create(const char *path, const void *bytes, size_t n)
{
    char hidden[PATH_MAX];
    if (!name_hidden(path, hidden))
        return false;
    /* A link, because a rename would replace what is there. */
    bool made = write_new(hidden, bytes, n) && link(hidden, path) == 0;
    int saved = errno;
    (void)unlink(hidden);
    errno = saved;
    return made && keyfile_sync_folder(path);
}

static bool
replace(const char *path, const void *bytes, size_t n)
{
    char hidden[PATH_MAX];
    if (!name_hidden(path, hidden))
        return false;
    if (write_new(hidden, bytes, n) && rename(hidden, path) == 0)
        return true;
    int saved = errno;
    (void)unlink(hidden);
    errno = saved;
    return false;
}

/* Which of the two files a power cut leaves is not known, so that neither the old key nor the new
 * one may be in force: the next start looks. */
static void
sync_or_end(int folder, const char *path)
{
    if (fsync(folder) == 0)
        return;
    log_line(LOG_LEVEL_ERROR, "key.lost", "file=%s message=%s", path, strerror(errno));
    _exit(EX_TEMPFAIL);
}

bool
keyfile_replace(const char *path, const void *bytes, size_t n)
{
    int folder = open_folder(path);
    if (folder < 0)
        return false;
    bool ok = replace(path, bytes, n);
    int saved = errno;
    if (ok)
        sync_or_end(folder, path);
    close(folder);
    errno = saved;
    return ok;
}
