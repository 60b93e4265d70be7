/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/restore.h"

#include "client/proto/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    FILES = 3,
    DIED = 9,
    BYTES = 100 * 1000 /* of each; no multiple of what is read at once */
};

static int names_left; /* before reading a folder fails, once; < 0: never */
static int renames_left; /* before one fails, once; < 0: never */
static bool dies;        /* in place of failing */
static bool no_exchange; /* by the file system */
static bool no_sync;     /* of folders */

struct dirent *__wrap_readdir(DIR *);
struct dirent *__real_readdir(DIR *);
int __wrap_rename(const char *, const char *);
int __real_rename(const char *, const char *);
int __wrap_renameat2(int, const char *, int, const char *, unsigned);
int __real_renameat2(int, const char *, int, const char *, unsigned);
int __wrap_fsync(int);
int __real_fsync(int);

struct dirent *
__wrap_readdir(DIR *d)
{
    if (names_left == 0) {
        names_left = -1;
        errno = EIO;
        return NULL;
    }
    struct dirent *entry = __real_readdir(d);
    if (names_left > 0 && entry && entry->d_name[0] != '.')
        names_left--;
    return entry;
}

/* 0: there is nothing of this name. */
static ino_t
inode(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? st.st_ino : 0;
}

static bool
rename_fails(void)
{
    if (renames_left < 0 || renames_left-- > 0)
        return false;
    if (dies)
        _exit(DIED);
    errno = EIO;
    return true;
}

int
__wrap_rename(const char *from, const char *to)
{
    return rename_fails() ? -1 : __real_rename(from, to);
}

int
__wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    if (rename_fails())
        return -1;
    if (!no_exchange)
        return __real_renameat2(from_dir, from, to_dir, to, flags);
    errno = EINVAL;
    return -1;
}

int
__wrap_fsync(int fd)
{
    struct stat st;
    if (!no_sync || fstat(fd, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_ino != inode("."))
        return __real_fsync(fd);
    errno = EIO;
    return -1;
}

static void
fill(unsigned char bytes[BYTES], int file)
{
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 251 + (size_t)file);
}

static void
make_files(const char *folder)
{
    unsigned char bytes[BYTES];
    char path[64];
    assert_int_equal(mkdir(folder, 0700), 0);
    for (int i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s/%d", folder, i);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        fill(bytes, i);
        assert_true(kt_write_all(fd, bytes, sizeof bytes));
        close(fd);
    }
}

static void
assert_same_files(const char *folder)
{
    unsigned char bytes[BYTES], got[BYTES + 1];
    char path[64];
    for (int i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s/%d", folder, i);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        fill(bytes, i);
        assert_int_equal(read(fd, got, sizeof got), BYTES);
        assert_memory_equal(got, bytes, BYTES);
        close(fd);
    }
}

/* The tests run in a folder of their own: from/ with files, to/ not there. */
static int
begin(void **state)
{
    char *folder = strdup("/tmp/test-restore.XXXXXX");
    names_left = renames_left = -1;
    dies = no_exchange = no_sync = false;
    *state = folder;
    if (!folder || !mkdtemp(folder) || chdir(folder) != 0)
        return -1;
    make_files("from");
    return 0;
}

static void
empty(const char *folder)
{
    char path[64];
    for (int i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s/%d", folder, i);
        unlink(path);
    }
    rmdir(folder);
}

static int
end(void **state)
{
    char *folder = *state;
    empty("from");
    empty("to");
    empty("to.old");
    int rc = chdir("/") == 0 ? rmdir(folder) : -1; /* fails if to.new was left behind */
    free(folder);
    return rc;
}

static void
all_files_are_copied(void **state)
{
    (void)state;
    char err[RESTORE_ERROR_MAX];
    assert_true(restore_folder("from", "to", &(struct restore_how){ 0 }, err));
    assert_same_files("to");
    assert_same_files("from");
}

static void
what_is_there_is_kept(void **state)
{
    (void)state;
    char err[RESTORE_ERROR_MAX];
    make_files("to");
    assert_false(restore_folder("from", "to", &(struct restore_how){ 0 }, err));
    assert_string_equal(err, "to: there is a store already; --replace keeps it aside");
    assert_int_equal(access("to.old", F_OK), -1);
    assert_true(restore_folder("from", "to", &(struct restore_how){ .replace = true }, err));
    assert_same_files("to");
    assert_same_files("to.old");
}

static void
a_part_of_a_folder_is_no_copy(void **state)
{
    (void)state;
    for (int n = 0; n <= FILES; n++) {
        char err[RESTORE_ERROR_MAX];
        names_left = n;
        assert_false(restore_folder("from", "to", &(struct restore_how){ 0 }, err));
        assert_string_equal(err, "from: Input/output error");
        assert_int_equal(names_left, -1);
        assert_int_equal(access("to", F_OK), -1);
    }
}

/* Of the last write the kernel takes a part before it says why. */
static void
a_full_disk_is_named(void **state)
{
    (void)state;
    char err[RESTORE_ERROR_MAX];
    struct rlimit before, less;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    less = before;
    less.rlim_cur = BYTES - 1;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &less), 0);
    bool done = restore_folder("from", "to", &(struct restore_how){ 0 }, err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_false(done);
    assert_string_equal(err, "from: File too large");
}

/* Before the nth change of a name; false: there are not so many. */
static bool
is_killed(int n)
{
    char err[RESTORE_ERROR_MAX];
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dies = true;
        renames_left = n;
        _exit(restore_folder("from", "to", &(struct restore_how){ .replace = true }, err) ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status) == DIED;
}

/* Whoever is killed and begins anew has removed to.new, and nothing else that he could still want:
 * what was there is to, or to.old. */
static void
what_was_there_outlives_a_kill(void **state)
{
    (void)state;
    const struct restore_how replace = { .replace = true };
    char err[RESTORE_ERROR_MAX];
    for (int slow = 0; slow < 2; slow++) {
        no_exchange = slow != 0;
        bool killed = true;
        for (int n = 0; killed; n++) {
            make_files("to");
            ino_t before = inode("to");
            killed = is_killed(n);
            assert_true(killed || n >= 2);
            assert_true(inode("to") == before || inode("to.old") == before);
            bool kept = inode("to") == before || inode("to") == 0;
            assert_true(restore_folder("from", "to", &replace, err));
            assert_true(!kept || inode("to.old") == before);
            assert_same_files("to");
            empty("to");
            empty("to.old");
        }
    }
}

static void
a_name_that_cannot_be_changed_leaves_it_as_it_was(void **state)
{
    (void)state;
    char err[RESTORE_ERROR_MAX];
    for (int slow = 0; slow < 2; slow++) {
        no_exchange = slow != 0;
        make_files("to");
        ino_t before = inode("to");
        for (int n = 0; n < (slow ? 5 : 2); n++) {
            renames_left = n;
            assert_false(restore_folder("from", "to", &(struct restore_how){ .replace = true }, err));
            assert_int_equal(inode("to"), before);
            assert_int_equal(renames_left, -1);
        }
        assert_true(restore_folder("from", "to", &(struct restore_how){ .replace = true }, err));
        assert_int_equal(inode("to.old"), before);
        empty("to");
        empty("to.old");
    }
}

static void
a_folder_that_cannot_be_synced_is_in_place(void **state)
{
    (void)state;
    char err[RESTORE_ERROR_MAX];
    no_sync = true;
    assert_false(restore_folder("from", "to", &(struct restore_how){ 0 }, err));
    assert_string_equal(err, "to: the copy is in its place, but a power cut may undo that: "
                             "Input/output error");
    assert_same_files("to");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_files_are_copied, begin, end),
        cmocka_unit_test_setup_teardown(what_is_there_is_kept, begin, end),
        cmocka_unit_test_setup_teardown(what_was_there_outlives_a_kill, begin, end),
        cmocka_unit_test_setup_teardown(a_name_that_cannot_be_changed_leaves_it_as_it_was, begin,
                                        end),
        cmocka_unit_test_setup_teardown(a_folder_that_cannot_be_synced_is_in_place, begin, end),
        cmocka_unit_test_setup_teardown(a_part_of_a_folder_is_no_copy, begin, end),
        cmocka_unit_test_setup_teardown(a_full_disk_is_named, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
