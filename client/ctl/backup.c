/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/ctl/backup.h"

#include "client/ctl/confirm.h"
#include "client/ctl/ctl.h"
#include "client/proto/check.h"
#include "client/proto/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_MAX = 1 << 20 };

struct fetching {
    struct door *door;
    const char *directory;
    int dir;
    bool json;
    struct kt_value id; /* of the copy, in made */
    struct answer made;
    volatile bool is_made; /* made is there, and stays as it is */
    int64_t bytes;
};

static int
fail_at(const struct fetching *f, const char *name)
{
    return ctl_fail(CTL_OTHER, NULL, "%s%s%s: %s", f->directory, name ? "/" : "",
                    name ? name : "", strerror(errno));
}

/* The daemon's name for a file becomes the name of one here, so it must be a plain name. */
static bool
is_plain(struct kt_str name)
{
    if (name.n == 0 || name.n > 255 || name.p[0] == '.')
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        bool usual = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
        if (!usual)
            return false;
    }
    return true;
}

/* --- one file ----------------------------------------------------------------------------- */

static struct kt_value
number(int64_t i)
{
    return (struct kt_value){ .type = KT_V_INT, .i = i };
}

/* Appends the piece at offset; *ret_n is its length. */
static int
fetch_piece(struct fetching *f, int64_t file, int64_t offset, int fd, const char *name,
            size_t *ret_n)
{
    struct kt_member members[] = { { KT_LIT("backup"), f->id },
                                   { KT_LIT("file"), number(file) },
                                   { KT_LIT("offset"), number(offset) } };
    const struct kt_value input = { .type = KT_V_MAP, .map = { members, 3 } };
    struct answer answer;
    int code = CTL_OK;
    *ret_n = 0;
    if (door_call(f->door, kt_op_specs[KT_OP_STORE_READ].name, &input, &answer) != 0)
        code = door_complain(f->door, &answer, f->json);
    const struct kt_value *data = kt_value_get(&answer.value, "data");
    char *bytes = code == CTL_OK ? malloc(PIECE_MAX) : NULL;
    if (code == CTL_OK && !bytes)
        code = ctl_fail(CTL_OTHER, NULL, "no memory");
    if (code == CTL_OK && (!data || data->type != KT_V_STR ||
                           !kt_b64url_decode(data->s, bytes, PIECE_MAX, ret_n)))
        code = ctl_fail(CTL_SERVER, NULL, "the answer is no piece of a file");
    if (code == CTL_OK && !kt_write_all(fd, bytes, *ret_n))
        code = fail_at(f, name);
    free(bytes);
    answer_release(&answer);
    return code;
}

static int
fetch_into(struct fetching *f, int64_t file, int64_t size, int fd, const char *name)
{
    int64_t at = 0;
    size_t n;
    do {
        int code = fetch_piece(f, file, at, fd, name, &n);
        if (code != CTL_OK)
            return code;
        at += (int64_t)n;
    } while (n != 0);
    if (at != size)
        return ctl_fail(CTL_SERVER, NULL, "%s has %lld bytes, not %lld",
                        name ? name : f->directory, (long long)at, (long long)size);
    f->bytes += size;
    /* A pipe cannot be synced. */
    return fsync(fd) == 0 || errno == EINVAL ? CTL_OK : fail_at(f, name);
}

static int
fetch_file(struct fetching *f, int64_t file, const struct kt_value *of)
{
    const struct kt_value *name = kt_value_get(of, "name"), *size = kt_value_get(of, "size");
    char path[256];
    if (!name || name->type != KT_V_STR || !is_plain(name->s) || !size || size->type != KT_V_INT)
        return ctl_fail(CTL_SERVER, NULL, "the server names no file");
    memcpy(path, name->s.p, name->s.n);
    path[name->s.n] = '\0';
    int fd = openat(f->dir, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_at(f, path);
    int code = fetch_into(f, file, size->i, fd, path);
    if (close(fd) != 0 && code == CTL_OK)
        code = fail_at(f, path);
    return code;
}

/* --- all of them -------------------------------------------------------------------------- */

static int
fetch_all(struct fetching *f)
{
    const struct kt_value *id = kt_value_get(&f->made.value, "backup");
    const struct kt_value *files = kt_value_get(&f->made.value, "files");
    if (!id || id->type != KT_V_STR || !files || files->type != KT_V_ARRAY)
        return ctl_fail(CTL_SERVER, NULL, "the answer is no copy");
    f->id = *id;
    for (size_t i = 0; i < files->array.n; i++) {
        int code = fetch_file(f, (int64_t)i, &files->array.v[i]);
        if (code != CTL_OK)
            return code;
    }
    return fsync(f->dir) == 0 ? CTL_OK : fail_at(f, NULL);
}

/* The daemon's own copy is of no use any more; if this fails, the next copy replaces it. */
static void
drop(struct fetching *f)
{
    struct kt_member member = { KT_LIT("backup"), f->id };
    const struct kt_value input = { .type = KT_V_MAP, .map = { &member, 1 } };
    struct answer answer;
    if (f->id.type == KT_V_STR)
        (void)door_call(f->door, kt_op_specs[KT_OP_STORE_DROP].name, &input, &answer);
    if (f->id.type == KT_V_STR)
        answer_release(&answer);
}

static void
tell_done(const struct fetching *f, const struct backup_form *form)
{
    if (!form->quiet)
        ctl_note("%s: %lld bytes. The digest key is not in it, nor is the revocation journal.",
                 f->directory, (long long)f->bytes);
}

/* Nobody must take half of a copy for a whole one. Called by a signal handler, too, so it only
 * reads what does not change any more and calls nothing but the kernel. */
static void
remove_begun(const struct fetching *f)
{
    const struct kt_value *files = f->is_made ? kt_value_get(&f->made.value, "files") : NULL;
    for (size_t i = 0; files && files->type == KT_V_ARRAY && i < files->array.n; i++) {
        const struct kt_value *name = kt_value_get(&files->array.v[i], "name");
        char path[256];
        if (!name || name->type != KT_V_STR || !is_plain(name->s))
            continue;
        memcpy(path, name->s.p, name->s.n);
        path[name->s.n] = '\0';
        (void)unlinkat(f->dir, path, 0);
    }
    (void)rmdir(f->directory);
}

static const struct fetching *at_work; /* for the handler */

static void
remove_folder(void)
{
    remove_begun(at_work);
}

static int
open_directory(struct fetching *f)
{
    if (mkdir(f->directory, 0700) != 0)
        return fail_at(f, NULL);
    at_work = f;
    confirm_undo(remove_folder);
    f->dir = open(f->directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (f->dir >= 0)
        return CTL_OK;
    int code = fail_at(f, NULL);
    remove_begun(f);
    confirm_undo(NULL);
    return code;
}

int
backup_fetch(struct door *door, const char *directory, const struct backup_form *form)
{
    struct fetching f = { .door = door, .directory = directory, .dir = -1,
                          .json = form->errors_as_json };
    const struct kt_value nothing = { .type = KT_V_MAP };
    int code = open_directory(&f);
    if (code != CTL_OK)
        return code;
    if (door_call(door, kt_op_specs[KT_OP_STORE_BACKUP].name, &nothing, &f.made) != 0)
        code = door_complain(door, &f.made, f.json);
    else
        f.is_made = true;
    if (code == CTL_OK)
        code = fetch_all(&f);
    if (code != CTL_OK)
        remove_begun(&f);
    confirm_undo(NULL);
    drop(&f);
    if (code == CTL_OK)
        tell_done(&f, form);
    close(f.dir);
    answer_release(&f.made);
    return code;
}

/* --- one portable file -------------------------------------------------------------------- */

static int
fetch_export(struct fetching *f, int fd)
{
    const struct kt_value *id = kt_value_get(&f->made.value, "backup");
    const struct kt_value *files = kt_value_get(&f->made.value, "files");
    if (!id || id->type != KT_V_STR || !files || files->type != KT_V_ARRAY ||
        files->array.n != 1)
        return ctl_fail(CTL_SERVER, NULL, "the answer is no export");
    f->id = *id;
    const struct kt_value *size = kt_value_get(&files->array.v[0], "size");
    if (!size || size->type != KT_V_INT)
        return ctl_fail(CTL_SERVER, NULL, "the answer is no export");
    return fetch_into(f, 0, size->i, fd, NULL);
}

static const char *begun_file; /* for the handler */

static void
remove_file(void)
{
    (void)unlink(begun_file);
}

int
export_fetch(struct door *door, const char *file, const struct backup_form *form)
{
    const struct kt_value nothing = { .type = KT_V_MAP };
    bool own = strcmp(file, "-") != 0;
    struct fetching f = { .door = door, .directory = own ? file : "standard output", .dir = -1,
                          .json = form->errors_as_json };
    if (!own && isatty(STDOUT_FILENO))
        return ctl_fail(CTL_USAGE, "send it into a pipe, or name a file",
                        "an export is nothing to look at, and standard output is a terminal");
    int fd = own ? open(file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)
                 : STDOUT_FILENO;
    if (fd < 0)
        return fail_at(&f, NULL);
    begun_file = file;
    confirm_undo(own ? remove_file : NULL);
    int code = CTL_OK;
    if (door_call(door, kt_op_specs[KT_OP_STORE_EXPORT].name, &nothing, &f.made) != 0)
        code = door_complain(door, &f.made, f.json);
    else
        code = fetch_export(&f, fd);
    if (own && close(fd) != 0 && code == CTL_OK)
        code = fail_at(&f, NULL);
    if (own && code != CTL_OK)
        remove_file();
    confirm_undo(NULL);
    drop(&f);
    if (code == CTL_OK)
        tell_done(&f, form);
    answer_release(&f.made);
    return code;
}
