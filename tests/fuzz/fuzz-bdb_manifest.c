/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The reader of a copy's manifest: bytes as they come, the same with a last line that is right, and
 * a good manifest that somebody has changed, which must be refused. */
#include "config.h"

#include "tests/fuzz/fuzz-change.h"
#include "tests/fuzz/fuzz-folder.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SUM = 32, TEXT_MAX = 4096, FIRST = 7, LAST_LINE = 2 * SUM + 6 /* "end ", sum, end of line */ };

/* Each line that names a file would be a sync of the disk. */
int __wrap_fdatasync(int fd);
int
__wrap_fdatasync(int fd)
{
    (void)fd;
    return 0;
}

static char made[TEXT_MAX]; /* what the folder's manifest was */

/* A folder with a copy in it. */
static const char *
folder(void)
{
    static bool done;
    const char *dir = fuzz_folder();
    if (done)
        return dir;
    done = true;
    if (sodium_init() < 0)
        abort();
    fuzz_file("meta.db", "meta", 4);
    fuzz_file("space-74.db", "rows", 4);
    fuzz_file("log.0000000007", "", 0);
    if (bdb_manifest_write(dir, FIRST) != 0 || bdb_read_file(dir, "manifest", made, TEXT_MAX) != 0)
        abort();
    return dir;
}

static enum kaiten_status
check(const void *text, size_t n)
{
    struct bdb_why why = { "" };
    const char *dir = folder();
    uint32_t first = 0;
    fuzz_file("manifest", text, n);
    enum kaiten_status status = bdb_manifest_check(dir, &first, &why);
    if ((status == KAITEN_DONE) != (why.text[0] == '\0'))
        abort();
    if (status == KAITEN_DONE && bdb_manifest_first(dir) != first)
        abort();
    return status;
}

/* Whatever it is, it is as it was written. */
static void
check_summed(const uint8_t *data, size_t size)
{
    unsigned char sum[SUM];
    char hex[2 * SUM + 1];
    char *text = malloc(size + LAST_LINE + 1);
    if (!text)
        abort();
    if (size > 0)
        memcpy(text, data, size);
    crypto_generichash(sum, sizeof sum, data, size, NULL, 0);
    sodium_bin2hex(hex, sizeof hex, sum, sizeof sum);
    snprintf(text + size, LAST_LINE + 1, "end %s\n", hex);
    (void)check(text, size + LAST_LINE);
    free(text);
}

static void
check_changed(const uint8_t *data, size_t size)
{
    char text[TEXT_MAX];
    size_t n = strlen(made);
    memcpy(text, made, n);
    fuzz_change(text, n, data, size);
    bool same = memcmp(text, made, n) == 0;
    if ((check(text, n) == KAITEN_DONE) != same)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)folder();
    (void)check(data, size);
    check_summed(data, size);
    check_changed(data, size);
    return 0;
}
