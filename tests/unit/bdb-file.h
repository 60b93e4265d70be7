/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Database files and logs for tests that change them: as somebody would who knows the library's
 * checksum, and what the library says of the outcome. Without cmocka, for the fuzz targets. */
#ifndef BDB_FILE_TEST_H
#define BDB_FILE_TEST_H

#include "plugins/storage-bdb/layout.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static inline void
bdb_file_hush(const DB_ENV *env, const char *prefix, const char *text)
{
    (void)env;
    (void)prefix;
    (void)text;
}

/* A handle that says nothing on stderr. */
static inline DB *
bdb_file_handle(void)
{
    DB *db;
    if (db_create(&db, NULL, 0) != 0)
        abort();
    db->set_errcall(db, bdb_file_hush);
    return db;
}

/* An empty database, with pages as the store has them. */
static inline DB *
bdb_file_made(const char *path)
{
    DB *db = bdb_file_handle();
    if (db->set_pagesize(db, BDB_PAGE) != 0 || db->set_flags(db, DB_CHKSUM) != 0 ||
        db->open(db, NULL, path, NULL, DB_BTREE, DB_CREATE | DB_TRUNCATE, 0600) != 0)
        abort();
    return db;
}

static inline bool
bdb_file_is_whole_for_library(const char *path)
{
    DB *db = bdb_file_handle();
    return db->verify(db, path, NULL, NULL, 0) == 0; /* which ends the handle */
}

/* Makes the sum right that the page has. */
static inline void
bdb_file_sum(unsigned char page[BDB_PAGE])
{
    bool meta = page[PAGE_TYPE] == TYPE_META;
    unsigned char *at = page + (meta ? META_SUM : PAGE_SUM);
    uint32_t sum = 0;
    memcpy(at, &sum, sizeof sum);
    sum = bdb_sum(page, meta ? META_BYTES : BDB_PAGE);
    memcpy(at, &sum, sizeof sum);
}

/* n bytes of a file that is there. */
static inline void
bdb_file_get(const char *path, off_t at, void *p, size_t n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pread(fd, p, n, at) != (ssize_t)n)
        abort();
    close(fd);
}

static inline void
bdb_file_put(const char *path, off_t at, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || pwrite(fd, p, n, at) != (ssize_t)n)
        abort();
    close(fd);
}

static inline void
bdb_file_page_get(const char *path, uint32_t number, unsigned char page[BDB_PAGE])
{
    bdb_file_get(path, (off_t)number * BDB_PAGE, page, BDB_PAGE);
}

static inline void
bdb_file_page_put(const char *path, uint32_t number, const unsigned char page[BDB_PAGE])
{
    bdb_file_put(path, (off_t)number * BDB_PAGE, page, BDB_PAGE);
}

/* Makes its sum right first. */
static inline void
bdb_file_page_put_summed(const char *path, uint32_t number, unsigned char page[BDB_PAGE])
{
    bdb_file_sum(page);
    bdb_file_page_put(path, number, page);
}

/* Of a record of a log: where its predecessor is, its length, its sum, its bytes. */
enum {
    BDB_LOG_BEFORE = 0,
    BDB_LOG_LENGTH = 4,
    BDB_LOG_SUM = 8,
    BDB_LOG_BODY = 12,
    BDB_LOG_WHAT = 28,   /* of a commit: whether it was, or was taken back */
    BDB_LOG_COMMIT = 10, /* what the bytes of a commit begin with */
    BDB_LOG_DONE = 1,
    BDB_LOG_RECORD = 64  /* bytes of each one below */
};

static inline void
bdb_file_record_sum(unsigned char *record, uint32_t length)
{
    uint32_t sum = bdb_sum(record + BDB_LOG_BODY, length - BDB_LOG_BODY) ^
                   u32_at(record + BDB_LOG_BEFORE) ^ length;
    memcpy(record + BDB_LOG_SUM, &sum, sizeof sum);
}

/* So many records, each of which commits a transaction. */
static inline void
bdb_file_log(unsigned char *log, uint32_t records)
{
    for (uint32_t i = 0; i < records; i++) {
        unsigned char *record = log + (size_t)i * BDB_LOG_RECORD;
        uint32_t before = i == 0 ? 0 : (i - 1) * BDB_LOG_RECORD, length = BDB_LOG_RECORD;
        uint32_t type = BDB_LOG_COMMIT, done = BDB_LOG_DONE;
        for (uint32_t n = BDB_LOG_BODY; n < BDB_LOG_RECORD; n++)
            record[n] = (unsigned char)(0x80 + i * 31 + n * 7);
        memcpy(record + BDB_LOG_BEFORE, &before, sizeof before);
        memcpy(record + BDB_LOG_LENGTH, &length, sizeof length);
        memcpy(record + BDB_LOG_BODY, &type, sizeof type);
        memcpy(record + BDB_LOG_WHAT, &done, sizeof done);
        bdb_file_record_sum(record, length);
    }
}

#endif
