/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The reader of Berkeley DB's logs: bytes as they come, the same with the sums of its records made
 * right, and a good log that somebody has changed, which is seen where it happened. */
#include "config.h"

#include "tests/fuzz/fuzz-change.h"
#include "tests/fuzz/fuzz-folder.h"
#include "tests/unit/bdb-file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    LOG_MAX = 128 * 1024,
    RECORD_LEAST = BDB_LOG_BODY + 4,
    RECORDS = 6,
    GOOD = RECORDS * BDB_LOG_RECORD,
    SPARE = 3 * BDB_PAGE /* the file is longer than what is written */
};

static uint32_t
read_end(const uint8_t *data, size_t size, bool *ret_torn)
{
    char name[BDB_NAME];
    uint32_t end = 0;
    bdb_log_name(name, 1);
    fuzz_file(name, data, size);
    if (bdb_log_check(fuzz_folder(), 1, &end, ret_torn) != 0 || end > size)
        abort();
    return end;
}

/* As far as lengths lead; where that ends. */
static size_t
sums_set(uint8_t *log, size_t size)
{
    size_t at = 0;
    while (size - at >= RECORD_LEAST) {
        uint32_t length = u32_at(log + at + BDB_LOG_LENGTH);
        if (length < RECORD_LEAST || length > size - at)
            break;
        bdb_file_record_sum(log + at, length);
        at += length;
    }
    return at;
}

/* A change may be the last group's, whose write was cut short, or it is damage. */
static void
check_changed(const uint8_t *data, size_t size)
{
    uint8_t good[GOOD + SPARE] = { 0 }, log[GOOD + SPARE];
    bool torn;
    bdb_file_log(good, RECORDS);
    memcpy(log, good, sizeof log);
    fuzz_change(log, sizeof log, data, size);
    uint32_t end = read_end(log, sizeof log, &torn), first = 0;
    while (first < GOOD && memcmp(log + first, good + first, BDB_LOG_RECORD) == 0)
        first += BDB_LOG_RECORD;
    if (end < first || (size < 6 && end != first))
        abort();
    if (size < 6 && torn != (first + 3 * BDB_LOG_RECORD > GOOD))
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool torn;
    if (size > LOG_MAX)
        return 0;
    uint8_t *own = calloc(1, size + 1);
    if (!own)
        abort();
    if (size > 0)
        memcpy(own, data, size);
    (void)read_end(own, size, &torn);
    size_t end = sums_set(own, size);
    if (read_end(own, size, &torn) != end)
        abort();
    free(own);
    check_changed(data, size);
    return 0;
}
