/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/auth-jwt/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

bool
key_refuse(struct key_why *ret, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(ret->text, sizeof(ret->text), fmt, ap);
    va_end(ap);
    return false;
}

void
keyfile_done(struct keyfile *file)
{
    if (file->p)
        OPENSSL_cleanse(file->p, file->n);
    free(file->p);
    *file = (struct keyfile){ 0 };
}

static bool
read_all(int fd, struct keyfile *file)
{
    size_t done = 0;
    while (done < file->n) {
        ssize_t got = read(fd, file->p + done, file->n - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

static bool
read_fd(int fd, unsigned flags, struct keyfile *ret, struct key_why *ret_why)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return key_refuse(ret_why, "%s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return key_refuse(ret_why, "not a regular file");
    if (st.st_size == 0 || st.st_size > KEY_FILE_MAX)
        return key_refuse(ret_why, "a key file has 1 to %d bytes", KEY_FILE_MAX);
    if ((st.st_mode & S_IWOTH) && !(flags & KEY_ANY_MODE))
        return key_refuse(ret_why, "everybody may write it; chmod o-w");
    struct keyfile file = { .n = (size_t)st.st_size, .mode = st.st_mode };
    file.p = calloc(1, file.n + 1);
    if (!file.p)
        return key_refuse(ret_why, "no memory");
    if (!read_all(fd, &file)) {
        keyfile_done(&file);
        return key_refuse(ret_why, "cannot be read to its end");
    }
    *ret = file;
    return true;
}

bool
keyfile_read(const char *path, unsigned flags, struct keyfile *ret, struct key_why *ret_why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return key_refuse(ret_why, "%s", strerror(errno));
    bool good = read_fd(fd, flags, ret, ret_why);
    close(fd);
    return good;
}
