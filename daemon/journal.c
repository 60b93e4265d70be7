/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/journal.h"

#include "daemon/journal_file.h"
#include "daemon/log.h"
#include "daemon/model/digest.h"
#include "daemon/model/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

struct journal {
    int fd;
    char *path;
    const struct digest_keys *keys;
    unsigned char id[JOURNAL_ID_BYTES]; /* that of seen, which is written while others ask */
    struct journal_seen seen;
    uint64_t added;   /* the number of the last record of the group */
    size_t room_end;  /* zeros are written up to here */
    size_t most;      /* records */
    unsigned char *group; /* JOURNAL_ROOM records */
    size_t ngroup;
};

static void
refuse(char err[JOURNAL_ERROR_MAX], const char *path, const char *what)
{
    snprintf(err, JOURNAL_ERROR_MAX, "%s: %s", path, what);
}

static struct journal *
journal_new(const char *path, const struct digest_keys *keys)
{
    struct journal *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    j->fd = -1;
    j->keys = keys;
    j->most = JOURNAL_ENTRIES_MAX;
    j->path = strdup(path);
    j->group = malloc((size_t)JOURNAL_ROOM * JOURNAL_RECORD_BYTES);
    if (j->path && j->group)
        return j;
    journal_close(j);
    return NULL;
}

void
journal_close(struct journal *j)
{
    if (!j)
        return;
    if (j->fd >= 0)
        close(j->fd);
    free(j->path);
    free(j->group);
    free(j);
}

const unsigned char *
journal_id(const struct journal *j)
{
    return j->id;
}

uint64_t
journal_floor(const struct journal *j)
{
    return j->seen.floor;
}

uint64_t
journal_last(const struct journal *j)
{
    return j->seen.last;
}

size_t
journal_entries(const struct journal *j)
{
    return j->seen.entries;
}

const struct journal_seen *
journal_seen(const struct journal *j)
{
    return &j->seen;
}

void
journal_set_keys(struct journal *j, const struct digest_keys *keys)
{
    if (!digest_keys_find(keys, kt_str(digest_keys_id(j->keys, j->seen.key)), &j->seen.key))
        abort(); /* a key that a journal was made with does not go */
    j->keys = keys;
}

void
journal_set_most(struct journal *j, size_t most)
{
    j->most = most;
}

bool
journal_is_current(const struct journal *j)
{
    return j->seen.key == 0;
}

/* --- files -------------------------------------------------------------------------------- */

static bool
write_at(int fd, const void *bytes, size_t n, size_t at)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t done = pwrite(fd, p, n, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        p += done;
        at += (size_t)done;
        n -= (size_t)done;
    }
    return true;
}

/* Zeros from the last record to JOURNAL_ROOM records behind it. Written, not only allotted: a file
 * system that copies on write, or that has to turn an extent into a written one, may need space for
 * that when there is none. */
static bool
make_room(struct journal *j)
{
    static const unsigned char zeros[(size_t)JOURNAL_ROOM * JOURNAL_RECORD_BYTES];
    size_t end = j->seen.good_bytes + sizeof zeros;
    if (!write_at(j->fd, zeros, end - j->room_end, j->room_end))
        return false;
    if (fsync(j->fd) != 0)
        journal_fail_sync(j->path, errno);
    j->room_end = end;
    return true;
}

bool
journal_reserve(struct journal *j, size_t n)
{
    size_t end = j->seen.good_bytes + n * JOURNAL_RECORD_BYTES;
    if (n > JOURNAL_ROOM || j->seen.entries + n > j->most)
        return false;
    /* Half of the room is kept back, so that a disk that is full leaves time to see it. */
    size_t wanted = end + JOURNAL_ROOM / 2 * JOURNAL_RECORD_BYTES;
    return wanted <= j->room_end || make_room(j) || end <= j->room_end;
}

/* --- opening ------------------------------------------------------------------------------ */

/* Errors that say nothing about the file: it may be readable another time, or to somebody else. */
static enum journal_found
refuse_errno(char err[JOURNAL_ERROR_MAX], const char *path)
{
    int error = errno;
    bool passing = error == EIO || error == ENOMEM || error == EMFILE || error == ENFILE;
    refuse(err, path, strerror(error));
    if (passing)
        return JOURNAL_UNREADABLE;
    snprintf(err, JOURNAL_ERROR_MAX,
             "%s: %s; accepted: a regular file that user %u may read and write; it was not read",
             path, strerror(error), (unsigned)geteuid());
    return JOURNAL_REFUSED;
}

/* Nothing in it may be lost, so nobody should accept a rollback for this. */
static enum journal_found
refuse_owner(char err[JOURNAL_ERROR_MAX], const char *path, const struct stat *st)
{
    snprintf(err, JOURNAL_ERROR_MAX,
             "%s: it belongs to user %u and has mode %04o; accepted: a regular file of user %u or "
             "root that only its owner may read and write; it was not read: chown and chmod 600 "
             "it, then start again",
             path, (unsigned)st->st_uid, (unsigned)(st->st_mode & 07777), (unsigned)geteuid());
    return JOURNAL_REFUSED;
}

static enum journal_found
refuse_size(char err[JOURNAL_ERROR_MAX], const char *path)
{
    refuse(err, path, "it is larger than a journal can be");
    return JOURNAL_DAMAGED;
}

/* WHOLE: it may be read. */
static enum journal_found
look_at_file(int fd, const char *path, size_t *ret_size, char err[JOURNAL_ERROR_MAX])
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return refuse_errno(err, path);
    if (!S_ISREG(st.st_mode) || (st.st_uid != geteuid() && st.st_uid != 0) ||
        (st.st_mode & 077) != 0)
        return refuse_owner(err, path, &st);
    if ((uint64_t)st.st_size > (uint64_t)(JOURNAL_ENTRIES_MAX + 1 + JOURNAL_ROOM) *
                                   JOURNAL_RECORD_BYTES)
        return refuse_size(err, path);
    *ret_size = (size_t)st.st_size;
    return JOURNAL_WHOLE;
}

static enum journal_found
parse_file(struct journal *j, size_t size, void (*each)(void *, const struct journal_entry *),
           void *ctx, char err[JOURNAL_ERROR_MAX])
{
    void *bytes = NULL;
    if (size > 0 && (bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, j->fd, 0)) == MAP_FAILED)
        return refuse_errno(err, j->path);
    enum journal_found found = journal_parse(j->keys, bytes, size, each, ctx, &j->seen);
    if (bytes)
        munmap(bytes, size);
    memcpy(j->id, j->seen.id, sizeof j->id);
    if (found == JOURNAL_DAMAGED || found == JOURNAL_REFUSED)
        refuse(err, j->path, j->seen.why);
    return found;
}

/* What was torn must not be taken for records later, so it is gone before anything is added. */
static enum journal_found
cut_and_fill(struct journal *j, enum journal_found found, char err[JOURNAL_ERROR_MAX])
{
    j->added = j->seen.last;
    j->room_end = j->seen.good_bytes;
    if (ftruncate(j->fd, (off_t)j->seen.good_bytes) != 0)
        return refuse_errno(err, j->path);
    if (!make_room(j)) /* tried again before the next ending */
        log_line(LOG_LEVEL_WARNING, "journal.full", "file=%s message=%s", j->path,
                 strerror(errno));
    return found;
}

enum journal_found
journal_open(const char *path, const struct digest_keys *keys, struct journal **ret,
             void (*each)(void *, const struct journal_entry *), void *ctx,
             char err[JOURNAL_ERROR_MAX])
{
    size_t size;
    *ret = NULL;
    struct journal *j = journal_new(path, keys);
    if (!j)
        return refuse_errno(err, path);
    enum journal_found found;
    j->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (j->fd < 0)
        found = errno == ENOENT ? JOURNAL_MISSING : refuse_errno(err, path);
    else
        found = look_at_file(j->fd, path, &size, err);
    if (found == JOURNAL_WHOLE)
        found = parse_file(j, size, each, ctx, err);
    if (found == JOURNAL_TORN)
        log_line(LOG_LEVEL_WARNING, "journal.torn", "file=%s number=%llu message=%s", path,
                 (unsigned long long)j->seen.last,
                 "what was being written when the machine ended is cut off");
    if (found == JOURNAL_WHOLE || found == JOURNAL_TORN)
        found = cut_and_fill(j, found, err);
    if (found == JOURNAL_WHOLE || found == JOURNAL_TORN)
        *ret = j;
    else
        journal_close(j);
    return found;
}

/* --- writing anew ------------------------------------------------------------------------- */

static int
open_new(const char *path, char hidden[PATH_MAX])
{
    if ((size_t)snprintf(hidden, PATH_MAX, "%s.new", path) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    /* Left by a process that ended in the midst of this; it was never in use. */
    if (unlink(hidden) != 0 && errno != ENOENT)
        return -1;
    return open(hidden, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/* Gives the new file its name. False: errno, and *j is as it was. */
static bool
take_over(struct journal *j, int fd, const char *hidden, const struct journal_seen *seen)
{
    if (fsync(fd) != 0 || rename(hidden, j->path) != 0)
        return false;
    if (!keyfile_sync_folder(j->path))
        journal_fail_sync(j->path, errno); /* which of the two files has the name is not known */
    if (j->fd >= 0)
        close(j->fd);
    j->fd = fd;
    j->seen = *seen;
    j->added = seen->last;
    j->room_end = seen->good_bytes;
    if (!make_room(j))
        log_line(LOG_LEVEL_WARNING, "journal.full", "file=%s message=%s", j->path,
                 strerror(errno));
    return true;
}

static bool
keep_aside(const char *path)
{
    char old[PATH_MAX];
    if ((size_t)snprintf(old, sizeof old, "%s.old", path) >= sizeof old) {
        errno = ENAMETOOLONG;
        return false;
    }
    return rename(path, old) == 0 || errno == ENOENT;
}

struct journal *
journal_create(const char *path, const struct digest_keys *keys, char err[JOURNAL_ERROR_MAX])
{
    char hidden[PATH_MAX];
    unsigned char header[JOURNAL_RECORD_BYTES];
    struct journal *j = journal_new(path, keys);
    if (!j) {
        refuse(err, path, "no memory");
        return NULL;
    }
    struct journal_seen seen = { .floor = 1, .good_bytes = sizeof header };
    randombytes_buf(j->id, sizeof j->id);
    memcpy(seen.id, j->id, sizeof seen.id);
    journal_put_header(keys, &seen, header);
    int fd = open_new(path, hidden);
    if (fd >= 0 && write_at(fd, header, sizeof header, 0) && fsync(fd) == 0 && keep_aside(path) &&
        take_over(j, fd, hidden, &seen))
        return j;
    refuse(err, path, strerror(errno));
    if (fd >= 0)
        close(fd);
    journal_close(j);
    return NULL;
}

/* --- adding ------------------------------------------------------------------------------- */

void
journal_add(struct journal *j, const struct journal_entry *entry)
{
    if (j->ngroup == JOURNAL_ROOM)
        journal_sync(j);
    struct journal_entry e = *entry;
    e.number = ++j->added;
    journal_put_record(&e, j->group + j->ngroup++ * JOURNAL_RECORD_BYTES);
}

void
journal_sync(struct journal *j)
{
    if (j->ngroup == 0)
        return;
    size_t n = j->ngroup * JOURNAL_RECORD_BYTES;
    struct journal_seen after = j->seen;
    journal_seal_group(j->keys, &after, j->group, j->ngroup);
    if (!write_at(j->fd, j->group, n, j->seen.good_bytes) || fdatasync(j->fd) != 0)
        journal_fail_sync(j->path, errno);
    j->seen = after;
    if (j->room_end < after.good_bytes)
        j->room_end = after.good_bytes;
    j->ngroup = 0;
}

/* --- dropping ----------------------------------------------------------------------------- */

struct dropping {
    struct journal *j;
    int64_t now_ms, keep_ms;
    size_t oldest;      /* so many of the oldest go in any case */
    uint64_t number;    /* of what has not expired, none with a higher one goes */
    int fd;             /* -1: only count */
    struct journal_seen seen; /* of the new file */
    size_t kept;
    unsigned char batch[64 * JOURNAL_RECORD_BYTES];
    size_t nbatch;
    bool failed;
};

static void
flush_batch(struct dropping *d)
{
    size_t at = d->seen.good_bytes;
    if (d->nbatch == 0 || d->failed)
        return;
    journal_seal_kept(d->j->keys, &d->seen, d->batch, d->nbatch);
    d->failed = !write_at(d->fd, d->batch, d->nbatch * JOURNAL_RECORD_BYTES, at);
    d->nbatch = 0;
}

static void
keep_or_drop(void *ctx, const struct journal_entry *e)
{
    struct dropping *d = ctx;
    bool expired = e->until_ms != 0 && e->until_ms <= d->now_ms;
    bool known = e->number <= d->number && e->type != JOURNAL_BEGIN;
    bool old = known && d->keep_ms != 0 && e->at_ms + d->keep_ms <= d->now_ms;
    if (known && d->oldest != 0) {
        d->oldest--;
        old = true;
    }
    if (expired || old) {
        /* A copy of the store from before this number may say that it is alive. */
        if (!expired && e->number >= d->seen.floor)
            d->seen.floor = e->number + 1;
        return;
    }
    d->kept++;
    if (d->fd < 0)
        return;
    journal_put_record(e, d->batch + d->nbatch++ * JOURNAL_RECORD_BYTES);
    if (d->nbatch * JOURNAL_RECORD_BYTES == sizeof d->batch)
        flush_batch(d);
}

bool
journal_each(struct journal *j, void (*each)(void *, const struct journal_entry *), void *ctx)
{
    struct journal_seen seen;
    size_t n = j->seen.good_bytes;
    void *bytes = mmap(NULL, n, PROT_READ, MAP_PRIVATE, j->fd, 0);
    if (bytes == MAP_FAILED)
        return false;
    enum journal_found found = journal_parse(j->keys, bytes, n, each, ctx, &seen);
    munmap(bytes, n);
    if (found != JOURNAL_WHOLE)
        errno = EIO;
    return found == JOURNAL_WHOLE;
}

static bool
write_kept(struct dropping *d)
{
    unsigned char header[JOURNAL_RECORD_BYTES];
    d->seen.key = 0;
    d->seen.entries = d->kept;
    journal_put_header(d->j->keys, &d->seen, header);
    d->seen.good_bytes = sizeof header;
    d->seen.entries = 0;
    if (!write_at(d->fd, header, sizeof header, 0) || !journal_each(d->j, keep_or_drop, d))
        return false;
    flush_batch(d);
    return !d->failed;
}

bool
journal_is_full(const struct journal *j)
{
    return j->seen.entries + JOURNAL_ROOM > j->most;
}

bool
journal_is_worth(size_t n, size_t kept)
{
    size_t gone = n - kept;
    return gone >= kept || (n >= JOURNAL_HIGH && gone >= JOURNAL_STEP) ||
           (n + JOURNAL_ROOM > JOURNAL_ENTRIES_MAX && gone >= JOURNAL_ROOM);
}

size_t
journal_next_look(size_t left)
{
    size_t next = 2 * left;
    if (next > JOURNAL_HIGH)
        next = left + JOURNAL_STEP > JOURNAL_HIGH ? left + JOURNAL_STEP : JOURNAL_HIGH;
    return next > JOURNAL_MANY ? next : JOURNAL_MANY;
}

/* The counting has found what is kept, and the floor. */
static bool
write_anew(struct dropping *d)
{
    char hidden[PATH_MAX];
    d->fd = open_new(d->j->path, hidden);
    if (d->fd >= 0 && write_kept(d) && take_over(d->j, d->fd, hidden, &d->seen))
        return true;
    int saved = errno;
    if (d->fd >= 0) {
        close(d->fd);
        (void)unlink(hidden);
    }
    errno = saved;
    return false;
}

bool
journal_compact(struct journal *j, int64_t now_ms, int64_t keep_ms, uint64_t number)
{
    journal_sync(j);
    struct dropping d = { .j = j, .now_ms = now_ms, .keep_ms = keep_ms, .number = number,
                          .fd = -1, .seen = j->seen };
    if (!journal_each(j, keep_or_drop, &d))
        return false;
    /* A file under a retired key is written anew while that key is still there. */
    if (j->seen.key == 0 && !journal_is_worth(j->seen.entries, d.kept))
        return true;
    return write_anew(&d);
}

bool
journal_drop_oldest(struct journal *j, uint64_t number)
{
    const size_t oldest = j->most / 4;
    journal_sync(j);
    struct dropping d = { .j = j, .oldest = oldest, .number = number, .fd = -1, .seen = j->seen };
    if (!journal_each(j, keep_or_drop, &d))
        return false;
    /* Little would be gained, and soon be asked for again. */
    if (d.oldest > oldest / 2) {
        errno = EBUSY;
        return false;
    }
    log_line(LOG_LEVEL_WARNING, "journal.dropped", "endings=%zu message=%s", oldest - d.oldest,
             "it was full; copies of the store that lack them are quarantined from now on");
    d.oldest = oldest;
    return write_anew(&d);
}

void
journal_fail_sync(const char *path, int error)
{
    log_line(LOG_LEVEL_ERROR, "journal.lost", "file=%s message=%s", path, strerror(error));
    _exit(EX_TEMPFAIL);
}
