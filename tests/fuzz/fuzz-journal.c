/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The reader of the revocation journal: bytes as they come, and a good file that somebody has
 * changed, of which no record may come out but those that went in, in their order. */
#include "config.h"

#include "daemon/journal_file.h"
#include "tests/fuzz/fuzz-change.h"
#include "tests/fuzz/fuzz-keys.h"

#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { R = JOURNAL_RECORD_BYTES, GROUPS = 4, MEMBERS = 3, RECORDS = GROUPS * MEMBERS };

static size_t
make_file(unsigned char file[(RECORDS + 8) * R])
{
    struct journal_seen seen = { .floor = 1, .good_bytes = R };
    memset(file, 0, (RECORDS + 8) * R);
    journal_put_header(fuzz_keys(), &seen, file);
    for (unsigned i = 0; i < RECORDS; i++) {
        const struct journal_entry e = { .number = i + 1, .type = JOURNAL_DIGEST, .at_ms = i };
        journal_put_record(&e, file + (1 + i) * R);
        if ((i + 1) % MEMBERS == 0)
            journal_seal_group(fuzz_keys(), &seen, file + (2 + i - MEMBERS) * R, MEMBERS);
    }
    return (RECORDS + 8) * R;
}

static void
expect_next(void *ctx, const struct journal_entry *e)
{
    uint64_t *number = ctx;
    if (e->number != ++*number || e->at_ms != (int64_t)*number - 1)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char file[(RECORDS + 8) * R];
    struct journal_seen seen;
    uint64_t number = 0;
    (void)journal_parse(fuzz_keys(), data, size, expect_next, &number, &seen);
    size_t n = make_file(file);
    fuzz_change(file, n, data, size);
    number = 0;
    enum journal_found found =
        journal_parse(fuzz_keys(), file, n, expect_next, &number, &seen);
    if (number != seen.entries)
        abort();
    /* One change costs the last group at most, or it is seen. */
    bool seen_to_be = found == JOURNAL_DAMAGED || found == JOURNAL_REFUSED;
    if (size < 6 && !seen_to_be && number + MEMBERS < RECORDS)
        abort();
    return 0;
}
