/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/backup.h"

#include "daemon/commit.h"
#include "daemon/export.h"
#include "daemon/log.h"
#include "daemon/service.h"
#include "daemon/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct backup {
    pthread_mutex_t lock; /* held while a copy is made or read */
    char *folder;
    char id[BACKUP_ID_MAX]; /* empty: there is none */
    struct backup_file *files;
    size_t n;
};

/* --- the folder --------------------------------------------------------------------------- */

/* Calls each() with every entry. False: errno, or each() returned false. */
static bool
list(const char *folder, bool (*each)(struct backup *, int dir, const char *name),
     struct backup *b)
{
    DIR *d = opendir(folder);
    if (!d)
        return false;
    bool ok = true;
    struct dirent *entry;
    while (ok && (entry = readdir(d)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            ok = each(b, dirfd(d), entry->d_name);
    int saved = errno;
    closedir(d);
    errno = saved;
    return ok;
}

static bool
remove_entry(struct backup *b, int dir, const char *name)
{
    (void)b;
    return unlinkat(dir, name, 0) == 0 || errno == ENOENT;
}

static bool
clear(struct backup *b)
{
    b->id[0] = '\0';
    free(b->files);
    b->files = NULL;
    b->n = 0;
    if (!list(b->folder, remove_entry, b))
        return errno == ENOENT;
    return rmdir(b->folder) == 0;
}

struct backup *
backup_new(const char *folder)
{
    struct backup *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    pthread_mutex_init(&b->lock, NULL);
    b->folder = strdup(folder);
    if (b->folder && clear(b))
        return b;
    int saved = errno;
    free(b->folder);
    free(b);
    errno = saved;
    return NULL;
}

void
backup_free(struct backup *b)
{
    if (!b)
        return;
    (void)clear(b);
    pthread_mutex_destroy(&b->lock);
    free(b->folder);
    free(b);
}

/* --- making ------------------------------------------------------------------------------- */

static bool
note_file(struct backup *b, int dir, const char *name)
{
    struct stat st;
    size_t n = strlen(name);
    static const char usual[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789._-";
    errno = EINVAL;
    if (name[0] == '.' || n >= BACKUP_NAME_MAX || strspn(name, usual) != n ||
        b->n == BACKUP_FILES_MAX || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(st.st_mode))
        return false;
    struct backup_file *f = &b->files[b->n++];
    memcpy(f->name, name, n + 1);
    f->size = st.st_size;
    return true;
}

/* What a copy is made of; 0 or a kind. */
typedef int fill_fn(struct call *, const struct backup *);

static int
fill_copy(struct call *call, const struct backup *b)
{
    return store_backup(call, call->svc->store, b->folder);
}

/* The committer rests, so that it is of one instant. */
static int
fill_export(struct call *call, const struct backup *b)
{
    struct export_result made = { .records = 0 };
    int dir = open(b->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    int fd = dir < 0 ? -1 : openat(dir, "export", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int status = KT_OK, saved = errno;
    if (fd < 0)
        status = fail_cause(call, KT_UNAVAILABLE, NULL, "%s: %s", b->folder, strerror(saved));
    else if (!committer_pause(call->svc->committer, call->deadline_ms))
        status = fail(call, KT_UNAVAILABLE, "Server.Busy", "the store is busy, please retry");
    if (status == KT_OK) {
        status = export_write(call, fd, &made);
        committer_go_on(call->svc->committer);
    }
    if (fd >= 0)
        close(fd);
    if (dir >= 0)
        close(dir);
    if (status == KT_OK)
        log_line(LOG_LEVEL_INFO, "exported", "records=%llu", (unsigned long long)made.records);
    return status;
}

static int
make(struct call *call, struct backup *b, fill_fn *fill)
{
    unsigned char id[(BACKUP_ID_MAX - 1) / 2];
    if (!clear(b) || mkdir(b->folder, 0700) != 0)
        return fail_cause(call, KT_UNAVAILABLE, NULL, "%s: %s", b->folder, strerror(errno));
    int status = fill(call, b);
    if (status != KT_OK)
        return status;
    b->files = calloc(BACKUP_FILES_MAX, sizeof *b->files);
    if (!b->files || !list(b->folder, note_file, b))
        return fail_cause(call, KT_INTERNAL, NULL, "%s: %s", b->folder, strerror(errno));
    randombytes_buf(id, sizeof id);
    sodium_bin2hex(b->id, sizeof b->id, id, sizeof id);
    return KT_OK;
}

static int
tell(struct call *call, const struct backup *b, struct backup_made *ret)
{
    struct backup_file *files = kt_arena_calloc(call->arena, b->n + 1, sizeof *files);
    if (!files)
        return fail_memory(call);
    memcpy(files, b->files, b->n * sizeof *files);
    memcpy(ret->id, b->id, sizeof ret->id);
    ret->files = files;
    ret->n = b->n;
    return KT_OK;
}

static int
make_and_tell(struct call *call, struct backup *b, fill_fn *fill, struct backup_made *ret)
{
    if (pthread_mutex_trylock(&b->lock) != 0)
        return fail(call, KT_CONFLICT, "Store.Busy", "another copy is being made or fetched");
    int status = make(call, b, fill);
    if (status == KT_OK)
        status = tell(call, b, ret);
    else
        (void)clear(b);
    pthread_mutex_unlock(&b->lock);
    return status;
}

int
backup_make(struct call *call, struct backup *b, struct backup_made *ret)
{
    return make_and_tell(call, b, fill_copy, ret);
}

int
backup_export(struct call *call, struct backup *b, struct backup_made *ret)
{
    if (store_has_outsiders(call->svc->store))
        return fail(call, KT_METHOD, "Store.Unable",
                    "other daemons write this store: stop all of them, and see kaitend --export");
    return make_and_tell(call, b, fill_export, ret);
}

/* --- handing out -------------------------------------------------------------------------- */

static int
not_found(struct call *call)
{
    return fail(call, KT_NOT_FOUND, "Store.NoBackup", "there is no such copy, or no longer");
}

static bool
is_it(const struct backup *b, struct kt_str id)
{
    return b->id[0] != '\0' && kt_str_is(id, b->id);
}

static int
read_piece(struct call *call, const struct backup *b, const struct backup_file *f, int64_t offset,
           struct kt_str *ret)
{
    char *p = kt_arena_alloc(call->arena, BACKUP_PIECE);
    if (!p)
        return fail_memory(call);
    int dir = open(b->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    int fd = dir < 0 ? -1 : openat(dir, f->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd < 0 ? -1 : pread(fd, p, BACKUP_PIECE, (off_t)offset);
    int saved = errno;
    if (fd >= 0)
        close(fd);
    if (dir >= 0)
        close(dir);
    if (n < 0)
        return fail_cause(call, KT_UNAVAILABLE, NULL, "%s/%s: %s", b->folder, f->name,
                          strerror(saved));
    *ret = (struct kt_str){ p, (size_t)n };
    return KT_OK;
}

int
backup_read(struct call *call, struct backup *b, struct kt_str id, int64_t file, int64_t offset,
            struct kt_str *ret)
{
    if (pthread_mutex_trylock(&b->lock) != 0)
        return fail(call, KT_CONFLICT, "Store.Busy", "another copy is being made or fetched");
    bool known = is_it(b, id) && file >= 0 && (uint64_t)file < b->n && offset >= 0;
    int status = known ? read_piece(call, b, &b->files[file], offset, ret) : not_found(call);
    pthread_mutex_unlock(&b->lock);
    return status;
}

int
backup_drop(struct call *call, struct backup *b, struct kt_str id)
{
    pthread_mutex_lock(&b->lock);
    bool known = is_it(b, id);
    bool gone = known && clear(b);
    int saved = errno;
    pthread_mutex_unlock(&b->lock);
    if (!known)
        return not_found(call);
    return gone ? KT_OK : fail_cause(call, KT_UNAVAILABLE, NULL, "%s", strerror(saved));
}
