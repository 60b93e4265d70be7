/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/unit/bdb-file.h"
#include "tests/unit/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* What a check of the store finds, without the store: a folder with a database and some logs. */

enum { ROWS = 4000, RECORDS = 6, LOG = 16 * 1024, TOLD_MAX = 20 };

struct kaiten_err {
    char text[600];
};

static char dir[] = "/tmp/kaiten-page-XXXXXX";
static const char name[] = "space-74.db";
static unsigned told;    /* damaged pages that were logged */
static char last[600];   /* what was logged last */

static void __attribute__((format(printf, 2, 3)))
take_log(enum kaiten_level level, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(last, sizeof last, fmt, args);
    va_end(args);
    if (level == KAITEN_LOG_ERROR)
        told++;
}

static void __attribute__((format(printf, 2, 3)))
take_error(struct kaiten_err *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
}

static struct bdb store = {
    .host = { .size = sizeof(struct kaiten_host), .log = take_log, .error = take_error },
    .options.path = dir,
    .copying = PTHREAD_MUTEX_INITIALIZER,
    .base_first = 1,
};

static int
open_file(const char *file, int flags)
{
    char path[BDB_PATH];
    assert_true(bdb_path(path, dir, file));
    int fd = open(path, flags, 0600);
    assert_true(fd >= 0);
    return fd;
}

static void
turn_bit(const char *file, off_t at)
{
    char path[BDB_PATH];
    unsigned char byte;
    assert_true(bdb_path(path, dir, file));
    bdb_file_get(path, at, &byte, 1);
    byte ^= 1;
    bdb_file_put(path, at, &byte, 1);
}

/* Between two looks somebody finishes the write to this log; 0: nobody does. */
static struct {
    uint32_t log;
    off_t at;
} writing;

int __wrap_nanosleep(const struct timespec *wish, struct timespec *left);
int
__wrap_nanosleep(const struct timespec *wish, struct timespec *left)
{
    (void)wish;
    (void)left;
    char file[BDB_NAME];
    bdb_log_name(file, writing.log);
    if (writing.log != 0)
        turn_bit(file, writing.at);
    writing.log = 0;
    return 0;
}

static unsigned readdir_fails_at; /* 0: never */

struct dirent *__real_readdir(DIR *d);
struct dirent *__wrap_readdir(DIR *d);
struct dirent *
__wrap_readdir(DIR *d)
{
    if (readdir_fails_at == 0 || --readdir_fails_at > 0)
        return __real_readdir(d);
    errno = EIO;
    return NULL;
}

/* Its first record says where the last one of the log before it is. */
static void
log_put(uint32_t number)
{
    unsigned char log[RECORDS * BDB_LOG_RECORD];
    char file[BDB_NAME];
    const uint32_t before = number > 1 ? (RECORDS - 1) * BDB_LOG_RECORD : 0;
    bdb_file_log(log, RECORDS);
    memcpy(log + BDB_LOG_BEFORE, &before, sizeof before);
    bdb_file_record_sum(log, BDB_LOG_RECORD);
    bdb_log_name(file, number);
    int fd = open_file(file, O_WRONLY | O_CREAT | O_TRUNC);
    assert_int_equal(write(fd, log, sizeof log), sizeof log);
    assert_int_equal(ftruncate(fd, LOG), 0);
    close(fd);
}

static void
remove_log(uint32_t number)
{
    char path[BDB_PATH], file[BDB_NAME];
    bdb_log_name(file, number);
    assert_true(bdb_path(path, dir, file));
    assert_int_equal(unlink(path), 0);
}

/* Three good logs, a good database, and nothing else. */
static unsigned
folder_made(void)
{
    static char value[100];
    char path[BDB_PATH], key[16];
    assert_int_equal(bdb_directory_new(dir), 0);
    assert_true(bdb_path(path, dir, name));
    DB *db = bdb_file_made(path);
    for (unsigned i = 0; i < ROWS; i++) {
        int n = snprintf(key, sizeof key, "t%08u", i);
        DBT k = { .data = key, .size = (u_int32_t)n }, v = { .data = value, .size = sizeof value };
        assert_int_equal(db->put(db, NULL, &k, &v, 0), 0);
    }
    assert_int_equal(db->close(db, 0), 0);
    for (uint32_t i = 1; i <= 3; i++)
        log_put(i);
    store.base_first = 1;
    told = 0;
    return (unsigned)(bdb_size(dir, name) / BDB_PAGE);
}

static void
expect(enum kaiten_status status, const char *text)
{
    struct kaiten_err err = { "" };
    assert_int_equal(bdb_check(&store, &err), status);
    if (!strstr(err.text, text))
        fail_msg("\"%s\" says nothing of \"%s\"", err.text, text);
}

static void
test_good(void **state)
{
    (void)state;
    char text[64];
    unsigned pages = folder_made();
    expect(KAITEN_DONE, "");
    snprintf(text, sizeof text, ": %u pages, 0 damaged", pages);
    assert_non_null(strstr(last, text));
    assert_int_equal(told, 0);
    assert_false(bdb_exists(dir, "repair"));
}

/* A page that is not there yet is none that is damaged. */
static void
test_zeros(void **state)
{
    (void)state;
    unsigned pages = folder_made();
    int fd = open_file(name, O_RDWR);
    assert_int_equal(ftruncate(fd, (off_t)(pages + 5) * BDB_PAGE + 1), 0);
    close(fd);
    expect(KAITEN_DONE, "");
    assert_int_equal(told, 0);
}

/* A page that the file says it has is damaged when there are nothing but zeros, or no file. */
static void
test_lost_pages(void **state)
{
    (void)state;
    static const unsigned char zero[BDB_PAGE];
    char path[BDB_PATH], text[64];
    unsigned pages = folder_made();
    assert_true(bdb_path(path, dir, name));
    bdb_file_page_put(path, pages - 1, zero);
    bdb_file_page_put(path, 3, zero);
    snprintf(text, sizeof text, "2 of %u pages are damaged", pages);
    expect(KAITEN_CORRUPT, text);
    assert_int_equal(told, 2);
    assert_true(bdb_exists(dir, "repair"));
    folder_made();
    bdb_file_page_put(path, 0, zero);
    snprintf(text, sizeof text, "1 of %u pages are damaged", pages);
    expect(KAITEN_CORRUPT, text);
    folder_made();
    assert_int_equal(truncate(path, (off_t)(pages - 2) * BDB_PAGE - 1), 0);
    snprintf(text, sizeof text, "3 of %u pages are damaged", pages);
    expect(KAITEN_CORRUPT, text);
    folder_made();
    assert_int_equal(truncate(path, 0), 0);
    expect(KAITEN_CORRUPT, "1 of 1 pages are damaged");
}

static void
expect_count(uint64_t said, uint64_t there)
{
    uint64_t got_said = 99999, got_there = 99999;
    assert_int_equal(bdb_pages_count(dir, name, &got_said, &got_there), 0);
    assert_int_equal(got_said, said);
    assert_int_equal(got_there, there);
}

static void
test_how_many_pages(void **state)
{
    (void)state;
    char path[BDB_PATH];
    unsigned pages = folder_made();
    uint64_t said, there;
    assert_true(bdb_path(path, dir, name));
    expect_count(pages, pages);
    assert_int_equal(truncate(path, (off_t)(pages - 2) * BDB_PAGE - 1), 0);
    expect_count(pages, pages - 3);
    turn_bit(name, META_LAST);
    expect_count(1, pages - 3);
    assert_int_equal(truncate(path, BDB_PAGE - 1), 0);
    expect_count(1, 0);
    assert_int_equal(bdb_pages_count(dir, "space-00.db", &said, &there), ENOENT);
}

/* In memory, and on the way to the file: what a file was made longer by, or shorter, of late. */
static int
sync_longer(DB_ENV *env, DB_LSN *lsn)
{
    (void)env;
    (void)lsn;
    unsigned char page[BDB_PAGE];
    char path[BDB_PATH];
    assert_true(bdb_path(path, dir, name));
    bdb_file_page_get(path, 3, page);
    uint32_t end = (uint32_t)(bdb_size(dir, name) / BDB_PAGE) - 1;
    memcpy(page + PAGE_NUMBER, &end, sizeof end);
    bdb_file_page_put_summed(path, end, page);
    return 0;
}

static int
sync_shorter(DB_ENV *env, DB_LSN *lsn)
{
    (void)env;
    (void)lsn;
    unsigned char meta[BDB_PAGE];
    char path[BDB_PATH];
    assert_true(bdb_path(path, dir, name));
    uint32_t end = (uint32_t)(bdb_size(dir, name) / BDB_PAGE) - 1;
    bdb_file_page_get(path, 0, meta);
    memcpy(meta + META_LAST, &end, sizeof end);
    bdb_file_page_put_summed(path, 0, meta);
    return 0;
}

static void
test_pages_in_memory(void **state)
{
    (void)state;
    static const unsigned char zero[BDB_PAGE];
    char path[BDB_PATH];
    DB_ENV env = { .memp_sync = sync_longer };
    unsigned pages = folder_made();
    assert_true(bdb_path(path, dir, name));
    store.env = &env;
    bdb_file_page_put(path, pages - 1, zero);
    expect(KAITEN_DONE, "");
    assert_int_equal(truncate(path, (off_t)(pages - 5) * BDB_PAGE), 0);
    env.memp_sync = sync_shorter;
    expect(KAITEN_DONE, "");
    bdb_file_page_put(path, 7, zero);
    expect(KAITEN_CORRUPT, "1 of ");
    store.env = NULL;
}

/* It says which, and has the next start repair the store. */
static void
test_damaged_page(void **state)
{
    (void)state;
    char text[64], note[64];
    unsigned pages = folder_made();
    turn_bit(name, 3 * BDB_PAGE + 100);
    snprintf(text, sizeof text, "1 of %u pages are damaged", pages);
    expect(KAITEN_CORRUPT, text);
    assert_int_equal(told, 1);
    assert_int_equal(bdb_read_file(dir, "repair", note, sizeof note), 0);
    assert_string_equal(note, "wanted 0 0 a check has found damaged pages\n");
}

static void
test_many_damaged_pages(void **state)
{
    (void)state;
    char text[64];
    unsigned pages = folder_made();
    assert_true(pages > 2 * TOLD_MAX);
    for (unsigned i = 0; i < pages; i++)
        turn_bit(name, (off_t)i * BDB_PAGE + 40);
    snprintf(text, sizeof text, "%u of %u pages are damaged", pages, pages);
    expect(KAITEN_CORRUPT, text);
    assert_int_equal(told, TOLD_MAX);
}

/* Of a repair's logs each is whole, but for what its end has of a write that was cut short. */
static void
test_logs(void **state)
{
    (void)state;
    folder_made();
    turn_bit("log.0000000001", 2 * BDB_LOG_RECORD + 20);
    expect(KAITEN_CORRUPT, "log.0000000001 is missing or damaged");
    store.base_first = 2;
    expect(KAITEN_DONE, "");
    turn_bit("log.0000000003", (RECORDS - 2) * BDB_LOG_RECORD + 20);
    expect(KAITEN_DONE, "");
    folder_made();
    remove_log(2);
    expect(KAITEN_CORRUPT, "log.0000000002 is missing or damaged");
    store.base_first = 3;
    expect(KAITEN_DONE, "");
}

/* What follows a write may be read before it is there. */
static void
test_a_log_that_is_being_written(void **state)
{
    (void)state;
    folder_made();
    writing.log = 3;
    writing.at = 2 * BDB_LOG_RECORD + 20;
    turn_bit("log.0000000003", writing.at);
    expect(KAITEN_DONE, "");
    assert_int_equal(writing.log, 0);
    turn_bit("log.0000000003", writing.at);
    expect(KAITEN_CORRUPT, "log.0000000003 is missing or damaged");
}

static void
test_where_a_log_ends(void **state)
{
    (void)state;
    uint32_t end = 1;
    bool torn = false;
    folder_made();
    assert_int_equal(bdb_log_check(dir, 1, &end, &torn), 0);
    assert_int_equal(end, RECORDS * BDB_LOG_RECORD);
    assert_true(torn);
    remove_log(2);
    for (uint32_t i = 0; i < RECORDS; i++) {
        log_put(1);
        turn_bit("log.0000000001", i * BDB_LOG_RECORD + 30);
        assert_int_equal(bdb_log_check(dir, 1, &end, &torn), 0);
        assert_int_equal(end, i * BDB_LOG_RECORD);
        assert_int_equal(torn, i + 2 >= RECORDS); /* one commit behind it, or none */
    }
    assert_int_equal(bdb_log_check(dir, 9, &end, &torn), ENOENT);
}

/* No log is begun before the one before it is on the disk, to its last record. */
static void
test_the_next_log_knows(void **state)
{
    (void)state;
    uint32_t end;
    bool torn;
    for (uint32_t i = 0; i < RECORDS; i++) {
        folder_made();
        turn_bit("log.0000000002", i * BDB_LOG_RECORD + 30);
        assert_int_equal(bdb_log_check(dir, 2, &end, &torn), 0);
        assert_int_equal(end, i * BDB_LOG_RECORD);
        assert_false(torn);
    }
    expect(KAITEN_CORRUPT, "log.0000000002 is missing or damaged");
    turn_bit("log.0000000003", 20); /* which says nothing now */
    assert_int_equal(bdb_log_check(dir, 2, &end, &torn), 0);
    assert_true(torn);
    folder_made();
    int fd = open_file("log.0000000002", O_WRONLY | O_TRUNC);
    close(fd);
    assert_int_equal(bdb_log_check(dir, 2, &end, &torn), 0);
    assert_false(torn);
}

/* Behind the last log that has records there may be some that have none. */
static void
test_last_log(void **state)
{
    (void)state;
    uint32_t number = 3, end = 1;
    bool torn = false;
    folder_made();
    assert_int_equal(bdb_log_end(dir, 1, &number, &end, &torn), 0);
    assert_int_equal(number, 3);
    assert_int_equal(end, RECORDS * BDB_LOG_RECORD);
    close(open_file("log.0000000006", O_WRONLY | O_CREAT | O_TRUNC));
    int fd = open_file("log.0000000004", O_WRONLY | O_CREAT | O_TRUNC);
    assert_int_equal(ftruncate(fd, LOG), 0);
    close(fd);
    number = 6;
    assert_int_equal(bdb_log_end(dir, 1, &number, &end, &torn), 0);
    assert_int_equal(number, 3);
    assert_int_equal(end, RECORDS * BDB_LOG_RECORD);
    assert_true(torn);
    turn_bit("log.0000000003", BDB_LOG_RECORD + 30);
    number = 6;
    assert_int_equal(bdb_log_end(dir, 1, &number, &end, &torn), 0);
    assert_int_equal(number, 3);
    assert_int_equal(end, BDB_LOG_RECORD);
    assert_false(torn);
    number = 6;
    assert_int_equal(bdb_log_end(dir, 4, &number, &end, &torn), 0);
    assert_int_equal(number, 4);
    assert_int_equal(end, 0);
    number = 5;
    assert_int_equal(bdb_log_end(dir, 1, &number, &end, &torn), ENOENT);
    /* The way from one to the next may be far. */
    close(open_file("log.4294967295", O_WRONLY | O_CREAT | O_TRUNC));
    number = UINT32_MAX;
    assert_int_equal(bdb_log_end(dir, 1, &number, &end, &torn), 0);
    assert_int_equal(number, 3);
}

/* What the disk has not told of a folder is not taken for absent. */
static void
test_a_folder_that_cannot_be_read(void **state)
{
    (void)state;
    uint32_t first = 9, greatest = 9, gap = 9;
    folder_made();
    for (unsigned i = 1; i <= 7; i++) { /* two that are none, four files, and the end */
        readdir_fails_at = i;
        assert_int_equal(bdb_logs(dir, &first, &greatest, &gap), EIO);
    }
    readdir_fails_at = 0;
    assert_int_equal(bdb_logs(dir, &first, &greatest, &gap), 0);
    assert_int_equal(first, 1);
    assert_int_equal(greatest, 3);
    assert_int_equal(gap, 0);
}

static void
test_names_of_logs(void **state)
{
    (void)state;
    assert_int_equal(bdb_log_number("log.0000000007"), 7);
    assert_int_equal(bdb_log_number("log.4294967294"), UINT32_MAX - 1);
    assert_int_equal(bdb_log_number("log.9999999999"), UINT32_MAX);
    assert_int_equal(bdb_log_number("log.4294967296"), UINT32_MAX);
    static const char *const others[] = { "log.", "log", "lo", "log.000000007", "log.00000000007",
                                          "log.+000000007", "log.-000000007", "log.        7",
                                          "log.00000x0007", "Log.0000000007" };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(bdb_log_number(others[i]), 0);
}

/* Record i of a log begins a transaction by opening a database, and the next one commits it. */
static void
log_opens(unsigned char *log, uint32_t i, uint32_t txn)
{
    enum { OPENED = 2 };
    const uint32_t type[] = { OPENED, BDB_LOG_COMMIT }, no_other[2] = { 0, 0 };
    for (uint32_t k = 0; k < 2; k++) {
        unsigned char *record = log + (size_t)(i + k) * BDB_LOG_RECORD;
        memcpy(record + BDB_LOG_BODY, &type[k], sizeof type[k]);
        memcpy(record + BDB_LOG_BODY + 4, &txn, sizeof txn);
        if (k == 0)
            memcpy(record + BDB_LOG_BODY + 8, no_other, sizeof no_other);
        bdb_file_record_sum(record, BDB_LOG_RECORD);
    }
}

/* The first one, behind which there is none. */
static void
only_log_put(const unsigned char *log, size_t n)
{
    int fd = open_file("log.0000000001", O_WRONLY | O_CREAT | O_TRUNC);
    assert_int_equal(write(fd, log, n), n);
    close(fd);
    if (bdb_exists(dir, "log.0000000002"))
        remove_log(2);
}

/* What follows a start's openings, of which the first was lost, is what was written with them. */
static bool
openings_are_torn(size_t change, uint32_t by)
{
    enum { PAIRS = 3, ALL = 2 + 2 * PAIRS };
    unsigned char log[ALL * BDB_LOG_RECORD];
    uint32_t end;
    bool torn = false;
    bdb_file_log(log, ALL);
    log[BDB_LOG_RECORD - 1] ^= 1;
    for (uint32_t i = 0; i < PAIRS; i++)
        log_opens(log, 2 + 2 * i, 0x80000001 + i);
    unsigned char *opening = log + 2 * BDB_LOG_RECORD;
    opening[change] = (unsigned char)(opening[change] + by);
    bdb_file_record_sum(opening, BDB_LOG_RECORD);
    only_log_put(log, sizeof log);
    assert_int_equal(bdb_log_check(dir, 1, &end, &torn), 0);
    assert_int_equal(end, 0);
    return torn;
}

/* The commit of a transaction that only opened a database says nothing of what was synced. */
static void
test_openings_behind_a_hole(void **state)
{
    (void)state;
    folder_made();
    assert_true(openings_are_torn(BDB_LOG_RECORD - 1, 1));
    assert_false(openings_are_torn(BDB_LOG_BODY, 1));     /* it did something else */
    assert_false(openings_are_torn(BDB_LOG_BODY + 4, 9)); /* in another transaction */
    assert_false(openings_are_torn(BDB_LOG_BODY + 8, 1)); /* and something before that */
}

/* Commits for which there was no space were taken back, and leave in one write with the first one
 * that there is space for. */
static void
test_commits_taken_back_behind_a_hole(void **state)
{
    (void)state;
    const uint32_t taken_back = 3;
    unsigned char log[RECORDS * BDB_LOG_RECORD];
    uint32_t end;
    bool torn = false;
    folder_made();
    bdb_file_log(log, RECORDS);
    for (uint32_t i = 1; i < RECORDS - 1; i++) {
        unsigned char *record = log + (size_t)i * BDB_LOG_RECORD;
        memcpy(record + BDB_LOG_WHAT, &taken_back, sizeof taken_back);
        bdb_file_record_sum(record, BDB_LOG_RECORD);
    }
    log[2 * BDB_LOG_RECORD - 1] ^= 1;
    only_log_put(log, sizeof log);
    assert_int_equal(bdb_log_check(dir, 1, &end, &torn), 0);
    assert_int_equal(end, BDB_LOG_RECORD);
    assert_true(torn);
}

static void
page_changed_at(uint32_t number, struct bdb_lsn at, bool is_good)
{
    unsigned char page[BDB_PAGE];
    char path[BDB_PATH];
    assert_true(bdb_path(path, dir, name));
    bdb_file_page_get(path, number, page);
    memcpy(page, &at, sizeof at);
    bdb_file_sum(page);
    page[PAGE_SUM] ^= !is_good;
    bdb_file_page_put(path, number, page);
}

static void
expect_newest(uint32_t file, uint32_t offset)
{
    struct bdb_lsn newest = { 2, 500 };
    assert_int_equal(bdb_pages_newest(dir, name, &newest), 0);
    assert_int_equal(newest.file, file);
    assert_int_equal(newest.offset, offset);
}

/* Of the last pages, those that are good. */
static void
test_newest_change(void **state)
{
    (void)state;
    enum { LOOKED_AT = 64 };
    unsigned pages = folder_made();
    assert_true(pages > LOOKED_AT + 2);
    expect_newest(2, 500); /* none is newer */
    page_changed_at(pages - LOOKED_AT - 1, (struct bdb_lsn){ 9, 1 }, true);
    expect_newest(2, 500);
    page_changed_at(pages - LOOKED_AT, (struct bdb_lsn){ 2, 501 }, true);
    expect_newest(2, 501);
    page_changed_at(pages - 1, (struct bdb_lsn){ 3, 7 }, true);
    expect_newest(3, 7);
    page_changed_at(pages - 2, (struct bdb_lsn){ 8, 1 }, false);
    expect_newest(3, 7);
    int fd = open_file(name, O_RDWR);
    assert_int_equal(ftruncate(fd, 3 * BDB_PAGE), 0); /* fewer than are looked at */
    close(fd);
    page_changed_at(1, (struct bdb_lsn){ 2, 777 }, true);
    expect_newest(2, 777);
}

/* It is not damaged, as far as anybody knows. */
static void
test_a_log_that_cannot_be_read(void **state)
{
    (void)state;
    char path[BDB_PATH];
    uint32_t end;
    bool torn;
    folder_made();
    memory_end_after(0);
    int error = bdb_log_check(dir, 1, &end, &torn);
    assert_true(memory_ended());
    assert_int_equal(error, ENOMEM);
    assert_true(bdb_path(path, dir, "log.0000000002"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_not_equal(bdb_log_check(dir, 2, &end, &torn), 0);
    expect(KAITEN_FAILED, "cannot read the logs");
    assert_false(bdb_exists(dir, "repair"));
    assert_int_equal(rmdir(path), 0);
}

static void
test_no_folder(void **state)
{
    (void)state;
    char path[2 * BDB_PATH];
    struct bdb_lsn newest = { 0, 0 };
    uint64_t pages = 0, bad = 0;
    uint32_t end;
    bool torn;
    folder_made();
    assert_int_equal(bdb_pages_check(&store, dir, "space-00.db", &pages, &bad, &newest), ENOENT);
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_int_equal(bdb_pages_check(&store, path, name, &pages, &bad, &newest), ENAMETOOLONG);
    assert_int_equal(bdb_pages_newest(path, name, &newest), ENAMETOOLONG);
    assert_int_equal(bdb_pages_newest(dir, "space-00.db", &newest), ENOENT);
    assert_int_equal(bdb_log_check(path, 1, &end, &torn), ENAMETOOLONG);
    assert_int_equal(bdb_directory_remove(dir), 0);
    expect(KAITEN_FAILED, "cannot read the pages");
    assert_int_equal(bdb_directory_new(dir), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_zeros),
        cmocka_unit_test(test_lost_pages),
        cmocka_unit_test(test_how_many_pages),
        cmocka_unit_test(test_pages_in_memory),
        cmocka_unit_test(test_damaged_page),
        cmocka_unit_test(test_many_damaged_pages),
        cmocka_unit_test(test_logs),
        cmocka_unit_test(test_a_log_that_is_being_written),
        cmocka_unit_test(test_where_a_log_ends),
        cmocka_unit_test(test_the_next_log_knows),
        cmocka_unit_test(test_last_log),
        cmocka_unit_test(test_names_of_logs),
        cmocka_unit_test(test_a_folder_that_cannot_be_read),
        cmocka_unit_test(test_openings_behind_a_hole),
        cmocka_unit_test(test_commits_taken_back_behind_a_hole),
        cmocka_unit_test(test_newest_change),
        cmocka_unit_test(test_a_log_that_cannot_be_read),
        cmocka_unit_test(test_no_folder),
    };
    if (!mkdtemp(dir))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return bdb_directory_remove(dir) == 0 ? failed : EXIT_FAILURE;
}
