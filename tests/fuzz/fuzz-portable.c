/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The reader of exported stores: bytes as they come, in pieces of any size, and a good stream that
 * somebody has changed, which must be refused. */
#define _GNU_SOURCE
#include "config.h"

#include "daemon/model/portable.h"
#include "plugins/kaiten-storage.h"
#include "tests/fuzz/fuzz-change.h"
#include "tests/fuzz/fuzz-keys.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STREAM_MAX = 4096, RECORDS = 5 };

struct bytes {
    const uint8_t *p;
    size_t n, piece;
};

static ssize_t
read_bytes(void *ctx, void *to, size_t n)
{
    struct bytes *b = ctx;
    if (n > b->piece)
        n = b->piece;
    if (n > b->n)
        n = b->n;
    memcpy(to, b->p, n);
    b->p += n;
    b->n -= n;
    return (ssize_t)n;
}

static size_t
make_stream(uint8_t stream[STREAM_MAX])
{
    uint64_t records;
    int fd = memfd_create("stream", MFD_CLOEXEC);
    struct portable_out *out = fd < 0 ? NULL : portable_begin(fd, fuzz_keys());
    if (!out)
        abort();
    for (char i = 0; i < RECORDS; i++) {
        const char key[] = { 'a', i }, value[] = { i, i, i };
        if (!portable_put(out, (struct kt_str){ key, sizeof key },
                          (struct kt_str){ value, (size_t)i < sizeof value ? (size_t)i : 3 }))
            abort();
    }
    if (!portable_end(out, &records) || records != RECORDS)
        abort();
    ssize_t n = pread(fd, stream, STREAM_MAX, 0);
    close(fd);
    if (n <= 0 || n == STREAM_MAX)
        abort();
    return (size_t)n;
}

/* Made once: it is the reader that is tried. */
static size_t
good_stream(uint8_t stream[STREAM_MAX])
{
    static uint8_t made[STREAM_MAX];
    static size_t n;
    if (n == 0)
        n = make_stream(made);
    memcpy(stream, made, n);
    return n;
}

static bool
take_record(void *ctx, struct kt_str key, struct kt_str value)
{
    if (key.n == 0 || key.n > KAITEN_KEY_MAX || value.n > KAITEN_VALUE_MAX)
        abort();
    (*(size_t *)ctx)++;
    return true;
}

static bool
read_stream(const uint8_t *data, size_t size, size_t piece)
{
    struct bytes bytes = { data, size, piece };
    const struct portable_source source = { read_bytes, &bytes };
    char err[PORTABLE_ERROR_MAX];
    uint64_t records = 0;
    size_t seen = 0;
    bool good = portable_read(fuzz_keys(), &source, take_record, &seen, &records, err);
    if (seen > records || good != (err[0] == '\0') || (good && seen != records))
        abort();
    return good;
}

static bool
change(uint8_t *stream, size_t n, const uint8_t *data, size_t size)
{
    uint8_t before[STREAM_MAX];
    memcpy(before, stream, n);
    fuzz_change(stream, n, data, size);
    return memcmp(before, stream, n) != 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t stream[STREAM_MAX];
    size_t n = good_stream(stream), piece = size == 0 ? 1 : 1 + data[0];
    /* As it comes, and behind a header that is ours. */
    (void)read_stream(data, size, piece);
    uint8_t *own = malloc(48 + size);
    if (!own)
        abort();
    memcpy(own, stream, 48);
    if (size != 0)
        memcpy(own + 48, data, size);
    (void)read_stream(own, 48 + size, piece);
    free(own);
    bool changed = change(stream, n, data, size);
    if (read_stream(stream, n, piece) == changed)
        abort();
    if (read_stream(stream, n - 1 - (size_t)piece % (n - 1), piece))
        abort();
    return 0;
}
