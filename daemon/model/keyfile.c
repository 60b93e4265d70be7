/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        p += done;
        n -= (size_t)done;
    }
    return true;
}

bool
keyfile_sync_folder(const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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
    bool ok = fchmod(fd, 0600) == 0 && write_all(fd, bytes, n) && fsync(fd) == 0;
    int saved = errno;
    close(fd);
    errno = saved;
    return ok;
}

bool
keyfile_create(const char *path, const void *bytes, size_t n)
{
    char hidden[PATH_MAX];
    if ((size_t)snprintf(hidden, sizeof hidden, "%s.new", path) >= sizeof hidden) {
        errno = ENAMETOOLONG;
        return false;
    }
    /* Of a process that ended in the midst of this; nobody has ever used it. */
    if (unlink(hidden) != 0 && errno != ENOENT)
        return false;
    /* A link, because a rename would replace what is there. */
    bool made = write_new(hidden, bytes, n) && link(hidden, path) == 0;
    int saved = errno;
    (void)unlink(hidden);
    errno = saved;
    return made && keyfile_sync_folder(path);
}
