/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"
#include "tests/unit/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* What is said of a copy that is not what its manifest says, and when none can be written. */

enum { FIRST = 7, TEXT = 4096, SUM = 32, LOGS = 13000 /* whose lines take more than a MiB */ };

struct kaiten_err {
    char text[600];
};

static char dir[] = "/tmp/kaiten-manifest-XXXXXX";

/* Each line that names a file would be a sync of the disk. */
int __wrap_fdatasync(int fd);
int
__wrap_fdatasync(int fd)
{
    (void)fd;
    return 0;
}

static void __attribute__((format(printf, 2, 3)))
take_error(struct kaiten_err *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
}

static void
put(const char *name, const char *text)
{
    assert_int_equal(bdb_write_file(dir, name, text), 0);
}

static void
folder_made(void)
{
    assert_int_equal(bdb_directory_new(dir), 0);
    put("meta.db", "meta");
    put("space-74.db", "rows");
    put("log.0000000007", "");
    put("note", "none of the copy");
    assert_int_equal(bdb_manifest_write(dir, FIRST), 0);
}

static void
manifest_read(char text[TEXT])
{
    assert_int_equal(bdb_read_file(dir, "manifest", text, TEXT), 0);
}

/* These lines, and the last one that belongs behind them. */
static void
manifest_put(const char *lines)
{
    unsigned char sum[SUM];
    char hex[2 * SUM + 1], text[2 * TEXT];
    crypto_generichash(sum, sizeof sum, (const unsigned char *)lines, strlen(lines), NULL, 0);
    sodium_bin2hex(hex, sizeof hex, sum, sizeof sum);
    snprintf(text, sizeof text, "%send %s\n", lines, hex);
    put("manifest", text);
}

static void
refused(const char *text)
{
    const struct kaiten_host host = { .size = sizeof host, .error = take_error };
    struct kaiten_err err = { "" };
    assert_int_equal(bdb_verify(&host, dir, &err), KAITEN_CORRUPT);
    if (!strstr(err.text, text))
        fail_msg("\"%s\" says nothing of \"%s\"", err.text, text);
}

static void
test_good(void **state)
{
    (void)state;
    const struct kaiten_host host = { .size = sizeof host, .error = take_error };
    struct kaiten_err err = { "" };
    char text[TEXT];
    folder_made();
    assert_int_equal(bdb_verify(&host, dir, &err), KAITEN_DONE);
    assert_int_equal(bdb_manifest_first(dir), FIRST);
    manifest_read(text);
    assert_non_null(strstr(text, " 4 meta.db\n"));
    assert_non_null(strstr(text, " 0 log.0000000007\n"));
    assert_null(strstr(text, "note"));
}

static void
test_files_that_are_not_as_they_were(void **state)
{
    (void)state;
    char path[BDB_PATH];
    folder_made();
    put("space-74.db", "Rows");
    refused("space-74.db was changed");
    put("space-74.db", "row");
    refused("space-74.db has 3 bytes, not 4");
    assert_true(bdb_path(path, dir, "space-74.db"));
    assert_int_equal(unlink(path), 0);
    refused("space-74.db: No such file");
    assert_int_equal(mkdir(path, 0700), 0);
    refused("space-74.db: Is a directory");
    assert_int_equal(bdb_manifest_write(dir, FIRST), EISDIR);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink("meta.db", path), 0);
    refused("space-74.db: Too many levels");
}

/* The store would take them for its own. */
static void
test_files_that_were_added(void **state)
{
    (void)state;
    static const char *const names[] = { "space-75.db", "log.0000000008", "log.0000000006",
                                         "base",        "base.old",       "base.new",
                                         "rebuilt",     "repair" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char text[64];
        folder_made();
        put(names[i], "");
        snprintf(text, sizeof text, "%s is no part of it", names[i]);
        refused(text);
    }
    folder_made();
    put("note.db", "of somebody else");
    const struct kaiten_host host = { .size = sizeof host, .error = take_error };
    struct kaiten_err err = { "" };
    assert_int_equal(bdb_verify(&host, dir, &err), KAITEN_DONE);
}

/* The sum of each is right, so somebody has made them. */
static void
test_manifests_of_another_form(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "", "kaiten-storage-bdb", "kaiten-storage-bdb 1 log\n", "kaiten-storage-bdb 0 log 7\n",
        "kaiten-storage-bdb x log 7\n",
        "kaiten-storage-bdb 1 log 7", "kaiten-storage-bdb 1 logs 7\n",
    };
    folder_made();
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        manifest_put(heads[i]);
        refused("its manifest is missing or was changed");
        assert_int_equal(bdb_manifest_first(dir), 0);
    }
    manifest_put("kaiten-storage-bdb 1 log 7\n");
    assert_int_equal(bdb_manifest_first(dir), FIRST);
}

/* Nothing is wrong with it, and what follows the number may be of another form. */
static void
test_newer_formats(void **state)
{
    (void)state;
    const struct kaiten_host host = { .size = sizeof host, .error = take_error };
    static const char *const heads[] = { "kaiten-storage-bdb 4 log 7\n", "kaiten-storage-bdb 99\n" };
    folder_made();
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        struct kaiten_err err = { "" };
        manifest_put(heads[i]);
        assert_int_equal(bdb_verify(&host, dir, &err), KAITEN_FAILED);
        assert_non_null(strstr(err.text, "this version knows up to 3; use a newer one"));
        assert_int_equal(bdb_manifest_first(dir), 0);
    }
}

static void
test_lines_that_name_no_file(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "x", "0123", "0123 4", "0123 4 note", "0123 4 ../meta.db", "0123 4 log.000000007",
        "0123 x meta.db", "0123 4 space-7.db", "0123 4 space-7g.db",
    };
    char text[TEXT];
    folder_made();
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        snprintf(text, sizeof text, "kaiten-storage-bdb 1 log 7\n%s\n", lines[i]);
        manifest_put(text);
        refused("manifest: Invalid argument");
    }
}

/* One that is cut off anywhere, or has a byte changed, is none. */
static void
test_every_byte_of_it_counts(void **state)
{
    (void)state;
    char good[TEXT], text[TEXT + 1];
    folder_made();
    manifest_read(good);
    for (size_t n = 0; n < strlen(good); n++) {
        memcpy(text, good, n);
        text[n] = '\0';
        put("manifest", text);
        refused("its manifest is missing or was changed");
    }
    for (size_t i = 0; i < strlen(good); i++) {
        strcpy(text, good);
        text[i] ^= 1;
        put("manifest", text);
        refused("its manifest is missing or was changed");
    }
    strcpy(text, good);
    strcat(text, " ");
    put("manifest", text);
    refused("its manifest is missing or was changed");
    char path[BDB_PATH];
    assert_true(bdb_path(path, dir, "manifest"));
    assert_int_equal(unlink(path), 0);
    refused("its manifest is missing or was changed");
}

static void
test_a_folder_that_is_none(void **state)
{
    (void)state;
    char long_one[2 * BDB_PATH], path[BDB_PATH];
    struct bdb_why why = { "" };
    uint32_t first;
    folder_made();
    assert_true(bdb_path(path, dir, "absent"));
    assert_int_equal(bdb_manifest_write(path, FIRST), ENOENT);
    memset(long_one, 'x', sizeof long_one - 1);
    long_one[sizeof long_one - 1] = '\0';
    assert_int_equal(bdb_manifest_write(long_one, FIRST), ENAMETOOLONG);
    assert_int_equal(bdb_manifest_check(long_one, &first, &why), KAITEN_CORRUPT);
}

/* One that was not written whole would be refused, and with it the copy. */
static void
test_too_many_files(void **state)
{
    (void)state;
    char path[BDB_PATH], name[BDB_NAME];
    folder_made();
    for (uint32_t i = FIRST + 1; i < LOGS; i++) {
        bdb_log_name(name, i);
        assert_true(bdb_path(path, dir, name));
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        assert_true(fd >= 0);
        close(fd);
    }
    assert_int_equal(bdb_manifest_write(dir, FIRST), E2BIG);
}

static void
test_memory(void **state)
{
    (void)state;
    size_t failures = 0;
    folder_made();
    for (bool ended = true; ended; failures += ended) {
        memory_end_after(failures);
        int error = bdb_manifest_write(dir, FIRST);
        ended = memory_ended();
        assert_int_equal(error, ended ? ENOMEM : 0);
    }
    assert_int_equal(failures, 4); /* the text, and a piece of each file */
    failures = 0;
    for (bool ended = true; ended; failures += ended) {
        struct bdb_why why = { "" };
        uint32_t first;
        memory_end_after(failures);
        enum kaiten_status status = bdb_manifest_check(dir, &first, &why);
        ended = memory_ended();
        assert_int_equal(status, ended ? KAITEN_FAILED : KAITEN_DONE);
        assert_true(!ended || strstr(why.text, strerror(ENOMEM)));
    }
    assert_int_equal(failures, 4);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_files_that_are_not_as_they_were),
        cmocka_unit_test(test_files_that_were_added),
        cmocka_unit_test(test_manifests_of_another_form),
        cmocka_unit_test(test_newer_formats),
        cmocka_unit_test(test_lines_that_name_no_file),
        cmocka_unit_test(test_every_byte_of_it_counts),
        cmocka_unit_test(test_a_folder_that_is_none),
        cmocka_unit_test(test_too_many_files),
        cmocka_unit_test(test_memory),
    };
    if (sodium_init() < 0 || !mkdtemp(dir))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return bdb_directory_remove(dir) == 0 ? failed : EXIT_FAILURE;
}
