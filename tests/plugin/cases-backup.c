/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/plugin/check.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROWS = 2000 /* before the backup begins */ };

static char *
directory_in(struct check *c, const char *name)
{
    char *path = check_alloc(c, strlen(c->directory) + strlen(name) + 2);
    sprintf(path, "%s/%s", c->directory, name);
    return mkdir(path, 0700) == 0 ? path : NULL;
}

static enum kaiten_status
backup(struct check *c, const char *dir)
{
    struct kaiten_err err;
    fake_err_init(&err);
    enum kaiten_status status = c->storage.backup(c->store, dir, &err);
    if (status != KAITEN_DONE)
        check_fail("backup returned %d: %s", (int)status, err.text);
    return status;
}

/* --- under load --------------------------------------------------------------------------- */

/* A backup in a thread of its own. */
struct saver {
    struct check *check;
    const char *dir;
    enum kaiten_status status;
    atomic_bool done;
};

static void *
save(void *arg)
{
    struct saver *saver = arg;
    saver->status = backup(saver->check, saver->dir);
    saver->done = true;
    return NULL;
}

static bool
pair_write(struct check *c, unsigned long i)
{
    struct kaiten_batch *batch = check_batch(c);
    check_set(batch, check_key_number(c, "a", i), check_text("both"));
    check_set(batch, check_key_number(c, "b", i), check_text("both"));
    return check_apply_one(c, batch).status == KAITEN_DONE;
}

/* How many pairs there are from the first on; -1 when one is not whole. */
static long
pairs_count(struct check *c)
{
    for (unsigned long i = 0;; i++) {
        bool a = check_is(c, check_key_number(c, "a", i), "both");
        bool b = check_is(c, check_key_number(c, "b", i), "both");
        if (a != b)
            return -1;
        if (!a)
            return (long)i;
    }
}

/* Pairs are written until the backup is made; *ret_pairs is how many there are then. Below PARALLEL
 * the daemon lets nobody write meanwhile. */
static bool
backup_beside(struct check *c, struct saver *saver, unsigned long *ret_pairs)
{
    pthread_t thread;
    bool good = true;
    if (c->storage.threads != KAITEN_THREADS_PARALLEL) {
        save(saver);
        return true;
    }
    EXPECT(pthread_create(&thread, NULL, save, saver) == 0);
    for (; !saver->done && good; ++*ret_pairs)
        good = pair_write(c, *ret_pairs);
    EXPECT(pthread_join(thread, NULL) == 0);
    return good;
}

static bool
backup_load(struct check *c)
{
    unsigned long pairs = 0;
    for (; pairs < ROWS; pairs++)
        EXPECT(pair_write(c, pairs));
    struct saver saver = { .check = c, .dir = directory_in(c, "copy") };
    EXPECT(saver.dir && backup_beside(c, &saver, &pairs) && saver.status == KAITEN_DONE);
    EXPECT(pairs_count(c) == (long)pairs);
    check_close(c);

    check_path(c, saver.dir);
    EXPECT(check_open(c));
    long copied = pairs_count(c);
    EXPECT(copied >= ROWS && copied <= (long)pairs);
    EXPECT(pair_write(c, (unsigned long)copied));
    return true;
}

/* --- what it leaves ----------------------------------------------------------------------- */

/* Calls each for the files that are in dir now: an open may leave others. */
static bool
each_file(const char *dir, bool (*each)(struct check *, const char *dir, const char *path),
          struct check *c)
{
    struct dirent **names;
    int n = scandir(dir, &names, NULL, alphasort);
    EXPECT(n > 2);
    bool good = true;
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]->d_name);
        if (good && names[i]->d_name[0] != '.')
            good = each(c, dir, path);
        free(names[i]);
    }
    free(names);
    return good;
}

static bool
is_private(struct check *c, const char *dir, const char *path)
{
    struct stat st;
    (void)c;
    (void)dir;
    EXPECT(stat(path, &st) == 0);
    return (st.st_mode & 077) == 0 || check_fail("%s: mode %o", path, (unsigned)st.st_mode);
}

static enum kaiten_status
verify(struct check *c, const char *dir)
{
    struct kaiten_err err;
    fake_err_init(&err);
    enum kaiten_status status = c->storage.verify(fake_host(), dir, &err);
    return status == KAITEN_DONE || err.text[0] ? status : KAITEN_FAILED;
}

static enum kaiten_status
open_status(struct check *c, const char *dir)
{
    struct kaiten_err err;
    void *instance = NULL;
    fake_err_init(&err);
    check_path(c, dir);
    fake_host_in_open(true);
    enum kaiten_status status = c->storage.open(fake_host(), c->config, &instance, &err);
    fake_host_in_open(false);
    if (instance)
        c->storage.close(instance);
    return status;
}

static bool
is_refused(struct check *c, const char *dir)
{
    EXPECT(verify(c, dir) == KAITEN_CORRUPT);
    EXPECT(open_status(c, dir) == KAITEN_CORRUPT);
    return true;
}

/* A byte in the middle of the file is another one, then the last one is gone, then it is as it
 * was. */
static bool
file_matters(struct check *c, const char *dir, const char *path)
{
    struct stat st;
    FILE *f = fopen(path, "r+");
    EXPECT(f && fstat(fileno(f), &st) == 0 && st.st_size > 0);
    EXPECT(fseek(f, st.st_size / 2, SEEK_SET) == 0);
    int byte = fgetc(f);
    EXPECT(fseek(f, st.st_size / 2, SEEK_SET) == 0 && fputc(byte ^ 1, f) != EOF && fflush(f) == 0);
    EXPECT(is_refused(c, dir));
    EXPECT(fseek(f, st.st_size / 2, SEEK_SET) == 0 && fputc(byte, f) != EOF && fflush(f) == 0);

    EXPECT(fseek(f, st.st_size - 1, SEEK_SET) == 0);
    byte = fgetc(f);
    EXPECT(ftruncate(fileno(f), st.st_size - 1) == 0);
    EXPECT(is_refused(c, dir));
    EXPECT(fseek(f, st.st_size - 1, SEEK_SET) == 0 && fputc(byte, f) != EOF && fclose(f) == 0);
    EXPECT(verify(c, dir) == KAITEN_DONE);
    return true;
}

static bool
backup_verify(struct check *c)
{
    char *copy = directory_in(c, "copy");
    EXPECT(copy && c->storage.verify);
    EXPECT(check_put(c, check_key(c, "a"), check_text("kept")));
    EXPECT(backup(c, copy) == KAITEN_DONE);
    EXPECT(each_file(copy, is_private, c));
    EXPECT(verify(c, copy) == KAITEN_DONE);
    EXPECT(each_file(copy, file_matters, c));
    check_close(c);
    check_path(c, copy);
    EXPECT(check_open(c));
    EXPECT(check_is(c, check_key(c, "a"), "kept"));
    return true;
}

static bool
backup_elsewhere(struct check *c)
{
    char *copy = directory_in(c, "copy"), path[4096];
    EXPECT(copy);
    snprintf(path, sizeof path, "%s/mine", copy);
    FILE *f = fopen(path, "w");
    EXPECT(f && fputs("mine\n", f) >= 0 && fclose(f) == 0);
    struct kaiten_err err;
    fake_err_init(&err);
    EXPECT(c->storage.backup(c->store, copy, &err) != KAITEN_DONE && err.text[0]);
    EXPECT(access(path, F_OK) == 0);
    fake_err_init(&err);
    snprintf(path, sizeof path, "%s/none", c->directory);
    EXPECT(c->storage.backup(c->store, path, &err) != KAITEN_DONE && err.text[0]);
    return true;
}

static bool
check_whole(struct check *c)
{
    struct kaiten_err err;
    for (unsigned long i = 0; i < 200; i++)
        EXPECT(pair_write(c, i));
    fake_err_init(&err);
    enum kaiten_status status = c->storage.check(c->store, &err);
    EXPECT(pairs_count(c) == 200);
    return status == KAITEN_DONE || check_fail("check returned %d: %s", (int)status, err.text);
}

const struct check_case cases_backup[] = {
    { "backup: a copy of the store, as it was at one moment of the call", backup_load,
      NEED_STORE | NEED_DIRECTORY | NEED_BACKUP },
    { "verify: whether the directory is, byte for byte, what backup() has left; open() as well",
      backup_verify, NEED_STORE | NEED_DIRECTORY | NEED_BACKUP },
    { "backup: into an empty directory that the caller has made, and nowhere else",
      backup_elsewhere, NEED_STORE | NEED_DIRECTORY | NEED_BACKUP },
    { "check: reads all that is stored", check_whole, NEED_STORE | NEED_CHECK },
    { NULL, NULL, 0 },
};
