/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The library ends when it meets a damaged page, and takes a damaged record of the log for the
 * log's end. To say what is damaged, files are read here without it. */
#include "config.h"

#include "plugins/storage-bdb/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOKS = 5,          /* a page that is being written looks damaged for a moment */
    LOOK_PAUSE_NS = 2000000,
    NEWEST_LOOKS = 64,  /* pages at the end of a file, for the newest change */
    TOLD_MAX = 20       /* damaged pages of one file that are told one by one */
};

/* Of a log: before each record its predecessor's offset, its own length with this, and a sum. */
enum {
    RECORD_HEAD = 12,
    RECORD_MAX = 1 << 20, /* none is near that: a page, a row, and a little */
    RECORD_MIN = RECORD_HEAD + 4,
    FIRST_BYTES = 512, /* more than the first record of a log has */
    TYPE_OPENED = 2, /* a database has a number in the log */
    TYPE_COMMIT = 10,
    COMMIT_WHAT = 16, /* after its type, its transaction and the place of the record before */
    COMMIT_DONE = 1   /* other numbers: the transaction was taken back */
};

/* --- pages -------------------------------------------------------------------------------- */

bool
bdb_page_is_good(unsigned char page[BDB_PAGE], uint32_t number)
{
    if (bdb_page_is_hole(page))
        return true; /* the file grew, and the page is still to come */
    bool meta = page[PAGE_TYPE] == TYPE_META;
    size_t at = meta ? META_SUM : PAGE_SUM;
    uint32_t stored = u32_at(page + at);
    memset(page + at, 0, sizeof stored);
    return bdb_sum(page, meta ? META_BYTES : BDB_PAGE) == stored &&
           u32_at(page + PAGE_NUMBER) == number;
}

static void
lsn_raise(struct bdb_lsn *newest, const unsigned char page[BDB_PAGE])
{
    struct bdb_lsn lsn = { u32_at(page), u32_at(page + 4) };
    if (bdb_lsn_below(*newest, lsn))
        *newest = lsn;
}

/* A database file that is read. */
struct pages {
    DB_ENV *env; /* that may still have pages of it in memory, or NULL */
    int fd;
    uint64_t said;  /* pages that it says it has, or said when that was less */
    bool settled;   /* what was in memory when it said so is in the file */
};

static void
look_pause(void)
{
    nanosleep(&(struct timespec){ 0, LOOK_PAUSE_NS }, NULL);
}

/* 1: nothing that could be believed, but the page that ought to say it must be there. */
static uint64_t
pages_said(int fd)
{
    unsigned char meta[BDB_PAGE];
    for (int i = 0; i < LOOKS; i++) {
        bool there = pread(fd, meta, BDB_PAGE, 0) == BDB_PAGE;
        if (there && meta[PAGE_TYPE] == TYPE_META && bdb_page_is_good(meta, 0))
            return (uint64_t)u32_at(meta + META_LAST) + 1;
        look_pause();
    }
    return 1;
}

static bool
page_read(const struct pages *p, uint32_t number, unsigned char page[BDB_PAGE])
{
    return pread(p->fd, page, BDB_PAGE, (off_t)number * BDB_PAGE) == BDB_PAGE;
}

/* A page that the file has not, or has as nothing but zeros: whether it ought to. Where a file was
 * made longer, the page may be in memory still; where it was made shorter, what it says may be. */
static bool
page_is_lost(struct pages *p, uint32_t number)
{
    unsigned char page[BDB_PAGE];
    if (number >= p->said)
        return false;
    if (!p->settled && p->env)
        p->env->memp_sync(p->env, NULL);
    p->settled = true;
    uint64_t said = pages_said(p->fd);
    p->said = said < p->said ? said : p->said;
    return number < p->said && (!page_read(p, number, page) || bdb_page_is_hole(page));
}

static bool
page_look(struct pages *p, uint32_t number, struct bdb_lsn *newest)
{
    unsigned char page[BDB_PAGE];
    for (int i = 0; i < LOOKS; i++) {
        if (!page_read(p, number, page) || bdb_page_is_hole(page))
            return !page_is_lost(p, number);
        if (bdb_page_is_good(page, number)) {
            lsn_raise(newest, page);
            return true;
        }
        look_pause();
    }
    return false;
}

/* How many the file ends before that it ought to have; there: how many it had. They are not looked
 * at one by one: what says how many there are may be damaged itself. */
static uint64_t
pages_missing(struct pages *p, uint64_t there)
{
    struct stat st;
    if (there >= p->said || !page_is_lost(p, (uint32_t)there) || fstat(p->fd, &st) != 0)
        return 0;
    uint64_t now = (uint64_t)st.st_size / BDB_PAGE;
    return p->said > now ? p->said - now : 0;
}

static int
pages_open(const char *dir, const char *name, struct pages *ret_pages, uint64_t *ret_there)
{
    char path[BDB_PATH];
    struct stat st;
    if (!bdb_path(path, dir, name))
        return ENAMETOOLONG;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        return error;
    }
    *ret_pages = (struct pages){ .fd = fd, .said = pages_said(fd) };
    *ret_there = (uint64_t)st.st_size / BDB_PAGE;
    return 0;
}

int
bdb_pages_check(struct bdb *bdb, const char *dir, const char *name, uint64_t *ret_pages,
                uint64_t *ret_bad, struct bdb_lsn *ret_newest)
{
    struct pages p;
    uint64_t pages, bad = 0;
    int error = pages_open(dir, name, &p, &pages);
    if (error)
        return error;
    p.env = bdb->env;
    posix_fadvise(p.fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    for (uint64_t i = 0; i < pages; i++) {
        if (page_look(&p, (uint32_t)i, ret_newest))
            continue;
        if (bad++ < TOLD_MAX)
            bdb->host.log(KAITEN_LOG_ERROR, "storage-bdb: %s/%s: page %llu is damaged", dir, name,
                          (unsigned long long)i);
    }
    uint64_t missing = pages_missing(&p, pages);
    if (missing != 0)
        bdb->host.log(KAITEN_LOG_ERROR, "storage-bdb: %s/%s: its last %llu pages are missing", dir,
                      name, (unsigned long long)missing);
    close(p.fd);
    *ret_pages += pages + missing;
    *ret_bad += bad + missing;
    return 0;
}

int
bdb_pages_count(const char *dir, const char *name, uint64_t *ret_said, uint64_t *ret_there)
{
    struct pages p;
    int error = pages_open(dir, name, &p, ret_there);
    if (error)
        return error;
    *ret_said = p.said;
    close(p.fd);
    return 0;
}

/* Nobody writes now: a page that is not good once will not be good later, and says nothing. */
int
bdb_pages_newest(const char *dir, const char *name, struct bdb_lsn *newest)
{
    char path[BDB_PATH];
    unsigned char page[BDB_PAGE];
    if (!bdb_path(path, dir, name))
        return ENAMETOOLONG;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno;
    struct stat st;
    int error = fstat(fd, &st) == 0 ? 0 : errno;
    uint64_t pages = error ? 0 : (uint64_t)st.st_size / BDB_PAGE;
    for (uint64_t i = pages > NEWEST_LOOKS ? pages - NEWEST_LOOKS : 0; i < pages; i++) {
        bool there = pread(fd, page, BDB_PAGE, (off_t)(i * BDB_PAGE)) == BDB_PAGE;
        if (there && bdb_page_is_good(page, (uint32_t)i))
            lsn_raise(newest, page);
    }
    close(fd);
    return error;
}

/* --- logs --------------------------------------------------------------------------------- */

struct log_text {
    unsigned char *p;
    size_t n;
};

/* Length of the record at this offset, 0: there is none. */
static uint32_t
record_at(const struct log_text *log, size_t at)
{
    if (at + RECORD_MIN > log->n)
        return 0;
    const unsigned char *p = log->p + at;
    uint32_t before = u32_at(p), length = u32_at(p + 4);
    if (length < RECORD_MIN || length > RECORD_MAX || length > log->n - at)
        return 0;
    uint32_t sum = bdb_sum(p + RECORD_HEAD, length - RECORD_HEAD);
    return (sum ^ before ^ length) == u32_at(p + 8) ? length : 0;
}

/* After its type a record has its transaction and the place of the one before in that. The
 * transaction that this record begins by opening a database; 0: it does not. */
static uint32_t
opening_at(const unsigned char *body, size_t n)
{
    static const unsigned char first[8];
    bool opens = n >= 8 + sizeof first && u32_at(body) == TYPE_OPENED &&
                 memcmp(body + 8, first, sizeof first) == 0;
    return opens ? u32_at(body + 4) : 0;
}

/* Over a commit that it could not write, for want of space, the library writes that it was taken
 * back, and leaves all of these to the write of the next commit. */
static bool
commits(const unsigned char *body, size_t n)
{
    return n >= COMMIT_WHAT + 4 && u32_at(body) == TYPE_COMMIT &&
           u32_at(body + COMMIT_WHAT) == COMMIT_DONE;
}

/* Follows the records from here; how many of them commit a transaction. One that did no more than
 * open a database is not counted: a start commits one for each, and syncs them together. */
static unsigned
chain_follow(const struct log_text *log, size_t *at)
{
    unsigned found = 0;
    uint32_t length, opening = 0;
    while ((length = record_at(log, *at)) != 0) {
        const unsigned char *body = log->p + *at + RECORD_HEAD;
        size_t n = length - RECORD_HEAD;
        if (commits(body, n) && (opening == 0 || u32_at(body + 4) != opening))
            found++;
        opening = opening_at(body, n);
        *at += length;
    }
    return found;
}

/* A log file is long before it is full. A record never starts with this many. */
static size_t
zeros_skip(const struct log_text *log, size_t at)
{
    static const unsigned char zero[BDB_PAGE];
    while (at + sizeof zero <= log->n && memcmp(log->p + at, zero, sizeof zero) == 0)
        at += sizeof zero;
    while (at + 8 <= log->n && memcmp(log->p + at, zero, 8) == 0)
        at++;
    return at;
}

/* One writer, one sync for each of its transactions: a write that was cut short holds one commit at
 * most. Two in one chain behind the hole: the first of them was synced, and so was the hole. */
static bool
tail_is_torn(const struct log_text *log, size_t at)
{
    while ((at = zeros_skip(log, at)) + RECORD_MIN <= log->n) {
        size_t end = at;
        if (chain_follow(log, &end) > 1)
            return false;
        at = end > at ? end : at + 1;
    }
    return true;
}

/* A log has its full size from the start, and is a hole until it is written: only what is there is
 * read, and a mapping would make a full disk fuller. */
static int
log_read(int fd, unsigned char *to, off_t size)
{
    off_t at = 0;
    while (at < size && (at = lseek(fd, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(fd, at, SEEK_HOLE);
        if (end < 0)
            return errno;
        for (ssize_t n; at < end && at < size; at += n) {
            n = pread(fd, to + at, (size_t)((end < size ? end : size) - at), at);
            if (n < 0 && errno != EINTR)
                return errno;
            if (n == 0)
                return 0;
            n = n > 0 ? n : 0;
        }
    }
    return at < 0 && errno != ENXIO ? errno : 0;
}

static int
log_load(int fd, struct log_text *ret_log)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return errno;
    unsigned char *p = calloc(1, (size_t)st.st_size + 1);
    int error = p ? log_read(fd, p, st.st_size) : ENOMEM;
    if (error) {
        free(p);
        return error;
    }
    *ret_log = (struct log_text){ p, (size_t)st.st_size };
    return 0;
}

/* Before the library begins a log it syncs the one before, and the first record says where the last
 * one of that is. *ret_agrees: so it is there, or the next log says nothing. 0 or an errno. */
static int
next_log_look(const char *dir, uint32_t number, const struct log_text *log, size_t end,
              bool *ret_agrees)
{
    char path[BDB_PATH], name[BDB_NAME];
    unsigned char first[FIRST_BYTES];
    bdb_log_name(name, number + 1);
    if (!bdb_path(path, dir, name))
        return ENAMETOOLONG;
    *ret_agrees = true;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : errno;
    ssize_t n = pread(fd, first, sizeof first, 0);
    int error = n < 0 ? errno : 0;
    close(fd);
    const struct log_text next = { first, n > 0 ? (size_t)n : 0 };
    if (error || record_at(&next, 0) == 0)
        return error;
    size_t last = u32_at(first);
    *ret_agrees = last < end && last + record_at(log, last) == end;
    return 0;
}

int
bdb_log_check(const char *dir, uint32_t number, uint32_t *ret_end, bool *ret_torn)
{
    char path[BDB_PATH], name[BDB_NAME];
    struct log_text log;
    bdb_log_name(name, number);
    if (!bdb_path(path, dir, name))
        return ENAMETOOLONG;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int error = fd < 0 ? errno : log_load(fd, &log);
    if (fd >= 0)
        close(fd);
    if (error)
        return error;
    size_t end = 0;
    bool agrees = false;
    chain_follow(&log, &end);
    *ret_end = (uint32_t)end;
    error = next_log_look(dir, number, &log, end, &agrees);
    *ret_torn = agrees && tail_is_torn(&log, end);
    free(log.p);
    return error;
}

struct before {
    uint32_t number, found;
};

static int
before_note(void *arg, const char *name)
{
    struct before *b = arg;
    uint32_t number = bdb_log_number(name);
    if (number < b->number && number > b->found)
        b->found = number;
    return 0;
}

/* Makes *number the greatest one below it that a log has, or first. Between two of them there may
 * be any number that none has. 0 or an errno. */
static int
log_before(const char *dir, uint32_t first, uint32_t *number)
{
    struct before b = { *number, first };
    int error = bdb_each_file(dir, before_note, &b);
    *number = b.found;
    return error;
}

int
bdb_log_end(const char *dir, uint32_t first, uint32_t *last, uint32_t *ret_end, bool *ret_torn)
{
    int error = bdb_log_check(dir, *last, ret_end, ret_torn);
    while (!error && *ret_torn && *ret_end == 0 && *last > first) {
        error = log_before(dir, first, last);
        if (!error)
            error = bdb_log_check(dir, *last, ret_end, ret_torn);
    }
    return error;
}

/* --- all of it ---------------------------------------------------------------------------- */

struct findings {
    struct bdb *bdb;
    uint64_t pages, bad, rows;
};

static int
check_file(void *arg, const char *name)
{
    struct findings *f = arg;
    struct bdb_lsn newest = { 0, 0 };
    if (!bdb_is_database(name))
        return 0;
    return bdb_pages_check(f->bdb, f->bdb->options.path, name, &f->pages, &f->bad, &newest);
}

/* One that is being written may be read with a later write and without the one before. */
static int
log_look(const char *dir, uint32_t number, bool *ret_torn)
{
    uint32_t end;
    int error = bdb_log_check(dir, number, &end, ret_torn);
    for (int i = 1; i < LOOKS && !error && !*ret_torn; i++) {
        nanosleep(&(struct timespec){ 0, LOOK_PAUSE_NS }, NULL);
        error = bdb_log_check(dir, number, &end, ret_torn);
    }
    return error;
}

/* Every log but the one that is being written must be whole to its last record. */
static enum kaiten_status
check_logs(struct bdb *bdb, struct kaiten_err *err)
{
    uint32_t first, last, gap;
    pthread_mutex_lock(&bdb->copying); /* nobody removes logs */
    int error = bdb_logs(bdb->options.path, &first, &last, &gap);
    uint32_t damaged = gap >= bdb->base_first ? gap : 0;
    for (uint32_t n = first > bdb->base_first ? first : bdb->base_first;
         n <= last && !error && !damaged; n++) {
        bool torn = true;
        error = log_look(bdb->options.path, n, &torn);
        if (!error && !torn)
            damaged = n;
    }
    pthread_mutex_unlock(&bdb->copying);
    if (error)
        return bdb_fail(bdb, err, error, "cannot read the logs");
    if (!damaged)
        return KAITEN_DONE;
    bdb->host.error(err, "%s/log.%010u is missing or damaged: a damaged database file could not be "
                    "repaired now; make a backup", bdb->options.path, (unsigned)damaged);
    return KAITEN_CORRUPT;
}

enum kaiten_status
bdb_check(void *instance, struct kaiten_err *err)
{
    struct bdb *bdb = instance;
    struct findings f = { .bdb = bdb };
    int error = bdb_each_file(bdb->options.path, check_file, &f);
    if (error)
        return bdb_fail(bdb, err, error, "cannot read the pages");
    bdb->host.log(KAITEN_LOG_NOTICE, "storage-bdb: %s: %llu pages, %llu damaged",
                  bdb->options.path, (unsigned long long)f.pages, (unsigned long long)f.bad);
    if (f.bad > 0) {
        bdb_repair_note(bdb, true, "a check has found damaged pages");
        bdb->host.error(err, "%s: %llu of %llu pages are damaged, the log names them; the next "
                        "start repairs them", bdb->options.path, (unsigned long long)f.bad,
                        (unsigned long long)f.pages);
        return KAITEN_CORRUPT;
    }
    return check_logs(bdb, err);
}
