/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A copy is good when it has a manifest and is what the manifest says. It is written last:
 *
 *     kaiten-storage-bdb 2 log 7
 *     SUM SIZE NAME
 *     ...
 *     end SUM
 *
 * SUM is BLAKE2b-256 of the file, the last one of all lines before it. */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SUM = 32,
    HEX = 2 * SUM,
    PIECE = 128 * 1024,
    TEXT_MAX = 1 << 20 /* far more than 257 databases and their logs need */
};

static const char manifest_name[] = "manifest";

static void
hex_of(char out[HEX + 1], const unsigned char sum[SUM])
{
    sodium_bin2hex(out, HEX + 1, sum, SUM);
}

static void
sum_of_text(char out[HEX + 1], const char *p, size_t n)
{
    unsigned char sum[SUM];
    crypto_generichash(sum, sizeof sum, (const unsigned char *)p, n, NULL, 0);
    hex_of(out, sum);
}

/* 0 or an errno. */
static int
sum_of_file(const char *dir, const char *name, char out[HEX + 1], uint64_t *ret_size)
{
    char path[BDB_PATH];
    unsigned char sum[SUM];
    crypto_generichash_state state;
    if (!bdb_path(path, dir, name))
        return ENAMETOOLONG;
    unsigned char *piece = malloc(PIECE);
    int fd = piece ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    int error = !piece ? ENOMEM : fd < 0 ? errno : 0;
    crypto_generichash_init(&state, NULL, 0, SUM);
    *ret_size = 0;
    while (!error) {
        ssize_t n = read(fd, piece, PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            error = errno;
        if (n <= 0)
            break;
        crypto_generichash_update(&state, piece, (size_t)n);
        *ret_size += (uint64_t)n;
    }
    crypto_generichash_final(&state, sum, SUM);
    hex_of(out, sum);
    if (fd >= 0)
        close(fd);
    free(piece);
    return error;
}

/* --- writing ------------------------------------------------------------------------------ */

struct draft {
    const char *dir;
    char *text;
    size_t n;
};

static int
add_line(void *arg, const char *name)
{
    struct draft *draft = arg;
    char sum[HEX + 1];
    uint64_t size;
    if (!bdb_is_database(name) && bdb_log_number(name) == 0)
        return 0;
    int error = sum_of_file(draft->dir, name, sum, &size);
    if (!error)
        error = bdb_sync_file((void *)draft->dir, name); /* not on the disk it is no copy */
    if (error)
        return error;
    size_t room = TEXT_MAX - draft->n;
    int n = snprintf(draft->text + draft->n, room, "%s %" PRIu64 " %s\n", sum, size, name);
    if (n < 0 || (size_t)n >= room)
        return E2BIG;
    draft->n += (size_t)n;
    return 0;
}

int
bdb_manifest_write(const char *dir, uint32_t first)
{
    char sum[HEX + 1];
    struct draft draft = { .dir = dir, .text = malloc(TEXT_MAX + HEX + 8) };
    if (!draft.text)
        return ENOMEM;
    draft.n = (size_t)snprintf(draft.text, TEXT_MAX, "kaiten-storage-bdb %d log %u\n", BDB_FORMAT,
                               (unsigned)first);
    int error = bdb_each_file(dir, add_line, &draft);
    if (!error)
        error = bdb_sync_directory(dir);
    if (!error) {
        sum_of_text(sum, draft.text, draft.n);
        snprintf(draft.text + draft.n, HEX + 8, "end %s\n", sum);
        error = bdb_write_file(dir, manifest_name, draft.text);
    }
    free(draft.text);
    return error;
}

/* --- reading ------------------------------------------------------------------------------ */

/* 0 or an errno. The text is the caller's in any case. */
static int
manifest_read(const char *dir, char **ret_text)
{
    *ret_text = malloc(TEXT_MAX + HEX + 8);
    return *ret_text ? bdb_read_file(dir, manifest_name, *ret_text, TEXT_MAX + HEX + 8) : ENOMEM;
}

/* The lines about files, or NULL: not a whole manifest; of a newer format nothing else is known. */
static char *
manifest_lines(char *text, uint32_t *ret_first, int *ret_format)
{
    char sum[HEX + 1], stored[HEX + 1];
    int end = 0;
    unsigned first;
    *ret_format = 0;
    char *last = strstr(text, "\nend ");
    if (!last || sscanf(last, "\nend %64[0-9a-f]%n", stored, &end) != 1 ||
        strcmp(last + end, "\n") != 0)
        return NULL;
    sum_of_text(sum, text, (size_t)(last + 1 - text));
    if (strcmp(sum, stored) != 0)
        return NULL;
    int n = sscanf(text, "kaiten-storage-bdb %d log %u\n%n", ret_format, &first, &end);
    if (*ret_format < 1 || *ret_format > BDB_FORMAT || n != 2 || end == 0)
        return NULL;
    last[1] = '\0';
    *ret_first = first;
    return text + end;
}

uint32_t
bdb_manifest_first(const char *dir)
{
    char *text;
    uint32_t first = 0;
    int format;
    if (manifest_read(dir, &text) != 0 || !manifest_lines(text, &first, &format))
        first = 0;
    free(text);
    return first;
}

/* Whether the error says nothing about the copy, which may be whole. What does: a file is not
 * there, or is none, or has a name that no line has. */
static bool
may_pass(int error)
{
    static const int lasting[] = { 0,     ENOENT, ENOTDIR, EISDIR,      ELOOP,
                                   ENXIO, EINVAL, EEXIST,  ENAMETOOLONG };
    bool lasts = false;
    for (size_t i = 0; i < sizeof lasting / sizeof *lasting; i++)
        lasts = lasts || error == lasting[i];
    return !lasts;
}

/* One line; names the file when it is not as it was, or cannot be read. */
static enum kaiten_status
line_check(const char *dir, const char *line, struct bdb_why *why)
{
    char stored[HEX + 1], sum[HEX + 1], name[BDB_NAME];
    uint64_t wanted, size = 0;
    int n = sscanf(line, "%64[0-9a-f] %" SCNu64 " %31[a-z0-9.-]", stored, &wanted, name);
    bool known = n == 3 && (bdb_is_database(name) || bdb_log_number(name) != 0);
    int error = known ? sum_of_file(dir, name, sum, &size) : EINVAL;
    if (may_pass(error)) {
        bdb_why(why, "%s/%s: %s", dir, name, strerror(error));
        return KAITEN_FAILED;
    }
    if (error)
        bdb_why(why, "%s: the copy is damaged: %s: %s", dir, known ? name : "manifest",
                    strerror(error));
    else if (size != wanted)
        bdb_why(why, "%s: the copy is damaged: %s has %" PRIu64 " bytes, not %" PRIu64, dir,
                    name, size, wanted);
    else if (strcmp(sum, stored) != 0)
        bdb_why(why, "%s: the copy is damaged: %s was changed", dir, name);
    else
        return KAITEN_DONE;
    return KAITEN_CORRUPT;
}

/* What a store has beside them and would go by, had another one left it in the folder: a base copy
 * that is none of this one, and how far a repair had come. */
static bool
is_of_a_store(const char *name)
{
    static const char *const names[] = { "base", "base.old", "base.new", "rebuilt", "repair" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return bdb_is_database(name) || bdb_log_number(name) != 0;
}

struct contents {
    const char *lines;
    char stranger[BDB_NAME]; /* of a store, and no line is about it */
};

static int
look_for_line(void *arg, const char *name)
{
    struct contents *c = arg;
    char end[BDB_NAME + 3];
    if (!is_of_a_store(name))
        return 0;
    snprintf(end, sizeof end, " %s\n", name);
    if (strstr(c->lines, end))
        return 0;
    snprintf(c->stranger, sizeof c->stranger, "%s", name);
    return EEXIST;
}

/* The store would take a file that was put there for its own. */
static enum kaiten_status
rest_check(const char *dir, const char *lines, struct bdb_why *why)
{
    struct contents c = { .lines = lines };
    int error = bdb_each_file(dir, look_for_line, &c);
    if (c.stranger[0] != '\0')
        bdb_why(why, "%s: the copy is damaged: %s is no part of it", dir, c.stranger);
    else if (error)
        bdb_why(why, "%s: %s", dir, strerror(error));
    if (may_pass(error))
        return KAITEN_FAILED;
    return error ? KAITEN_CORRUPT : KAITEN_DONE;
}

static enum kaiten_status
text_check(const char *dir, char *text, uint32_t *ret_first, struct bdb_why *why)
{
    int format;
    char *lines = manifest_lines(text, ret_first, &format);
    if (format > BDB_FORMAT) {
        bdb_why(why, "%s has format %d, this version knows up to %d; use a newer one", dir, format,
                BDB_FORMAT);
        return KAITEN_FAILED;
    }
    if (!lines) {
        bdb_why(why, "%s: the copy is damaged: its manifest is missing or was changed", dir);
        return KAITEN_CORRUPT;
    }
    enum kaiten_status status = KAITEN_DONE;
    for (const char *line = lines; status == KAITEN_DONE && *line; line = strchr(line, '\n') + 1)
        status = line_check(dir, line, why);
    return status == KAITEN_DONE ? rest_check(dir, lines, why) : status;
}

enum kaiten_status
bdb_manifest_check(const char *dir, uint32_t *ret_first, struct bdb_why *why)
{
    char *text;
    int error = manifest_read(dir, &text);
    enum kaiten_status status = KAITEN_FAILED;
    if (may_pass(error))
        bdb_why(why, "%s/%s: %s", dir, manifest_name, strerror(error));
    else
        status = text_check(dir, text, ret_first, why); /* without a manifest it is empty */
    free(text);
    return status;
}

enum kaiten_status
bdb_verify(const struct kaiten_host *host, const char *dir, struct kaiten_err *err)
{
    struct bdb_why why = { "" };
    uint32_t first = 0;
    if (sodium_init() < 0) {
        host->error(err, "libsodium cannot be used");
        return KAITEN_FAILED;
    }
    enum kaiten_status status = bdb_manifest_check(dir, &first, &why);
    if (status != KAITEN_DONE)
        host->error(err, "%s", why.text);
    return status;
}
