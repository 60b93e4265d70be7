/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/parts.h"

#include "client/proto/file.h"
#include "daemon/export.h"
#include "daemon/log.h"
#include "daemon/model/digest.h"
#include "daemon/plugin.h"
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

/* While no daemon serves it, such a store is as empty as on its first day, and what is put into it
 * is gone at once. */
static int
refuse_forgetful(const struct parts *p, const char *instead)
{
    char text[512];
    snprintf(text, sizeof text, "%s: its store does not survive the process; %s", p->storage->name,
             instead);
    return parts_fail(EX_USAGE, text);
}

static int
open_export(const char *path)
{
    if (is_standard(path))
        return STDOUT_FILENO;
    return open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

/* A pipe cannot be synced. */
static bool
end_export(const char *path, int fd)
{
    if (is_standard(path))
        return fsync(fd) == 0 || errno == EINVAL || errno == EROFS;
    return fsync(fd) == 0 && close(fd) == 0;
}

static int
fail_export(const char *path, int status, int error)
{
    if (!is_standard(path))
        (void)unlink(path);
    errno = error;
    if (error != 0)
        return parts_fail_errno(EX_IOERR, is_standard(path) ? "standard output" : path);
    return parts_fail(status == KT_UNAVAILABLE ? EX_TEMPFAIL : EX_DATAERR,
                      "the store cannot be read");
}

/* A store that opening it has made is none: with the configuration of another, nothing must be
 * begun here, and an empty stream would pass for a good one. */
static int
refuse_empty(struct parts *p)
{
    struct kt_arena arena;
    struct call call;
    bool is_empty = false;
    parts_begin_call(p, &call, &arena);
    int status = store_is_empty(&call, p->svc.store, &is_empty);
    kt_arena_done(&arena);
    if (status != KT_OK)
        return parts_fail(EX_TEMPFAIL, "the store cannot be read");
    if (is_empty)
        return parts_fail(EX_NOINPUT, "the store is empty; is this the configuration that it was "
                          "used with?");
    return EX_OK;
}

static int
export_store(struct parts *p)
{
    struct kt_arena arena;
    struct call call;
    struct export_result made;
    const char *path = p->export_to;
    int fd = open_export(path);
    if (fd < 0)
        return parts_fail_errno(EX_CANTCREAT, path);
    parts_begin_call(p, &call, &arena);
    int status = export_write(&call, fd, &made);
    kt_arena_done(&arena);
    if (status == KT_OK && !end_export(path, fd))
        made.error = errno;
    if (status != KT_OK || made.error != 0)
        return fail_export(path, status, made.error);
    log_line(LOG_LEVEL_NOTICE, "exported", "to=%s records=%llu", path,
             (unsigned long long)made.records);
    return EX_OK;
}

static int
copy_input(const struct parts *p, int fd)
{
    char bytes[64 * 1024];
    for (;;) {
        ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return parts_fail_errno(EX_NOINPUT, "standard input");
        if (n == 0)
            return EX_OK;
        if (!kt_write_all(fd, bytes, (size_t)n))
            return parts_fail_errno(EX_CANTCREAT, p->settings->state_dir);
    }
}

int
parts_export(struct parts *p)
{
    if (!store_is_durable(p->svc.store))
        return refuse_forgetful(p, "kaitenctl export copies that of a running daemon");
    int code = refuse_empty(p);
    if (code == EX_OK)
        code = parts_open_keys(p);
    if (code == EX_OK)
        code = parts_check_keys(p);
    if (code == EX_OK)
        code = export_store(p);
    parts_close_keys(p);
    return code;
}

/* Input is read twice, so what comes through a pipe goes into a file that has no name. */
static int
spool(const struct parts *p, int *ret_fd)
{
    int fd = open(p->settings->state_dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    if (fd < 0)
        return parts_fail_errno(EX_CANTCREAT, p->settings->state_dir);
    int code = copy_input(p, fd);
    if (code == EX_OK && lseek(fd, 0, SEEK_SET) != 0)
        code = parts_fail_errno(EX_CANTCREAT, p->settings->state_dir);
    if (code == EX_OK)
        *ret_fd = fd;
    else
        close(fd);
    return code;
}

static int
open_stream(const struct parts *p, int *ret_fd)
{
    struct stat st;
    char text[512];
    if (is_standard(p->import_from))
        return spool(p, ret_fd);
    int fd = open(p->import_from, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return parts_fail_errno(EX_NOINPUT, p->import_from);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        *ret_fd = fd;
        return EX_OK;
    }
    close(fd);
    snprintf(text, sizeof text, "%.400s: this is no regular file; - reads standard input",
             p->import_from);
    return parts_fail(EX_NOINPUT, text);
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
    bool missing = false;
    if (!store_is_durable(p->svc.store))
        return refuse_forgetful(p, "name another storage plugin in the configuration");
    if (!digest_keys_read(p->settings->digest_key_file, &keys, &missing, &why)) {
        snprintf(text, sizeof text, "%.600s%s", why.text,
                 missing ? "; bring the key of the exported store along" : "");
        return parts_fail(EX_NOPERM, text);
    }
    p->svc.keys = keys;
    store_set_keys(p->svc.store, keys);
    int fd, code = open_stream(p, &fd);
    if (code != EX_OK) {
        parts_close_keys(p);
        return code;
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
