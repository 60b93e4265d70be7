/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/parts.h"

#include "client/proto/file.h"
#include "daemon/export.h"
#include "daemon/log.h"
#include "daemon/model/digest.h"
#include "daemon/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

/* The store into a file, and out of one, while no daemon serves. */

static bool
is_standard(const char *path)
{
    return strcmp(path, "-") == 0;
}

int
parts_export(struct parts *p)
{
    struct kt_arena arena;
    struct call call;
    uint64_t records = 0;
    const char *path = p->export_to;
    int fd = is_standard(path)
                 ? STDOUT_FILENO
                 : open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return parts_fail_errno(EX_CANTCREAT, path);
    parts_begin_call(p, &call, &arena);
    int status = export_write(&call, fd, &records);
    kt_arena_done(&arena);
    bool synced = is_standard(path) || (fsync(fd) == 0 && close(fd) == 0);
    if (status == KT_OK && synced) {
        log_line(LOG_LEVEL_NOTICE, "exported", "to=%s records=%llu", path,
                 (unsigned long long)records);
        return EX_OK;
    }
    if (!is_standard(path))
        (void)unlink(path);
    return parts_fail(EX_IOERR, "the store cannot be exported");
}

/* Input is read twice, so what comes through a pipe goes into a file that has no name. -1:
 * errno. */
static int
spool(const struct parts *p)
{
    char bytes[64 * 1024];
    ssize_t n;
    int fd = open(p->settings->state_dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    while (fd >= 0 && (n = read(STDIN_FILENO, bytes, sizeof bytes)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || !kt_write_all(fd, bytes, (size_t)n)) {
            close(fd);
            return -1;
        }
    }
    if (fd >= 0 && lseek(fd, 0, SEEK_SET) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int
open_stream(const struct parts *p)
{
    struct stat st;
    if (is_standard(p->import_from))
        return spool(p);
    int fd = open(p->import_from, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    if (fd >= 0) {
        close(fd);
        errno = EINVAL;
    }
    return -1;
}

static int
code_of(int status)
{
    return status == KT_CONFLICT ? EX_CANTCREAT
           : status == KT_VALIDATION ? EX_DATAERR : EX_TEMPFAIL;
}

int
parts_import(struct parts *p)
{
    char err[PORTABLE_ERROR_MAX], text[PORTABLE_ERROR_MAX + 512];
    struct digest_error why;
    struct digest_keys *keys;
    struct kt_arena arena;
    struct call call;
    uint64_t records = 0;
    if (!digest_keys_read(p->settings->digest_key_file, &keys, NULL, &why))
        return parts_fail(EX_NOPERM, why.text);
    p->svc.keys = keys;
    store_set_keys(p->svc.store, keys);
    int fd = open_stream(p);
    if (fd < 0) {
        parts_close_keys(p);
        return parts_fail_errno(EX_NOINPUT, p->import_from);
    }
    parts_begin_call(p, &call, &arena);
    int status = import_read(&call, fd, &records, err);
    kt_arena_done(&arena);
    close(fd);
    parts_close_keys(p);
    if (status == KT_OK) {
        log_line(LOG_LEVEL_NOTICE, "imported", "from=%s records=%llu", p->import_from,
                 (unsigned long long)records);
        return EX_OK;
    }
    snprintf(text, sizeof text, "%.400s: %s", p->import_from, err);
    return parts_fail(code_of(status), text);
}
