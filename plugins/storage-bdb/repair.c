/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A store with a damaged database is built anew, in the folder rebuilt, from the base copy and the
 * logs since. Only when that is whole, the old files go to the folder damaged and the new ones take
 * their place. The file "repair" says how far it came; each step may be done again, so a process
 * that is killed in the middle loses nothing.
 *
 *     STATE ATTEMPTS REPAIRS WHY
 *
 * suspect: the library gave up; if it does so again, a repair is wanted
 * wanted: build   aside: move the old files away   place: move the new ones in
 * done: repaired, but no base copy has shown yet that it stays so
 * failed: stay down */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ATTEMPTS_MAX = 10, /* of one repair that never came to an end */
    REPAIRS_MAX = 3    /* in a row: then it is the disk, and not a power cut */
};

static const char note_name[] = "repair", built_name[] = "rebuilt", aside_name[] = "damaged";

struct note {
    char state[16];
    unsigned attempts, repairs;
    char why[256];
};

static bool
is_state(const struct note *note, const char *state)
{
    return strcmp(note->state, state) == 0;
}

/* An empty state: there is none. */
static int
note_read(struct bdb *bdb, struct note *note)
{
    char text[512];
    memset(note, 0, sizeof *note);
    int error = bdb_read_file(bdb->options.path, note_name, text, sizeof text);
    if (!error)
        sscanf(text, "%15[a-z] %u %u %255[^\n]", note->state, &note->attempts, &note->repairs,
               note->why);
    return error;
}

/* On a full disk for the price of some ballast. */
static int
note_write(struct bdb *bdb, struct note *note, const char *state)
{
    char text[512];
    snprintf(note->state, sizeof note->state, "%s", state);
    snprintf(text, sizeof text, "%s %u %u %s\n", note->state, note->attempts, note->repairs,
             note->why);
    int error;
    do {
        error = bdb_write_file(bdb->options.path, note_name, text);
    } while ((error == ENOSPC || error == EDQUOT) && bdb_room_give(bdb));
    return error;
}

static void
note_remove(struct bdb *bdb)
{
    char path[BDB_PATH];
    if (bdb_path(path, bdb->options.path, note_name) && unlink(path) == 0)
        bdb_sync_directory(bdb->options.path);
}

void
bdb_repair_note(struct bdb *bdb, bool damaged, const char *why)
{
    struct note note;
    if (note_read(bdb, &note) != 0)
        return;
    bool known = note.state[0] != '\0' && !is_state(&note, "suspect") && !is_state(&note, "done");
    if (known)
        return;
    const char *state = damaged || is_state(&note, "suspect") ? "wanted" : "suspect";
    if (is_state(&note, "done") && note.repairs >= REPAIRS_MAX)
        state = "failed";
    snprintf(note.why, sizeof note.why, "%.*s", (int)sizeof note.why - 1, why);
    int error = note_write(bdb, &note, state);
    if (error)
        bdb->host.log(KAITEN_LOG_ERROR, "storage-bdb: %s/%s: %s", bdb->options.path, note_name,
                      strerror(error));
}

void
bdb_repair_forget(struct bdb *bdb)
{
    struct note note;
    if (note_read(bdb, &note) == 0 && (is_state(&note, "suspect") || is_state(&note, "done")))
        note_remove(bdb);
}

enum kaiten_status
bdb_repair_pending(struct bdb *bdb, bool *ret_wanted, struct bdb_why *why)
{
    struct note note;
    int error = note_read(bdb, &note);
    *ret_wanted = is_state(&note, "wanted") || is_state(&note, "aside") || is_state(&note, "place");
    if (!error && !is_state(&note, "failed"))
        return KAITEN_DONE;
    if (error)
        bdb_why(why, "%s/%s: %s", bdb->options.path, note_name, strerror(error));
    else
        bdb_why(why, "%s is damaged and could not be repaired (%s); restore a backup, or remove "
                "%s/%s to have it tried again", bdb->options.path, note.why, bdb->options.path,
                note_name);
    return error ? KAITEN_FAILED : KAITEN_CORRUPT;
}

/* --- building ----------------------------------------------------------------------------- */

struct build {
    struct bdb *bdb;
    char base[BDB_PATH], built[BDB_PATH];
    uint32_t first;
    struct bdb_lsn newest; /* change that any page has */
    const char *dir;
};

static int
take_database(void *arg, const char *name)
{
    struct build *b = arg;
    return bdb_is_database(name) ? bdb_copy_file(b->base, b->built, name, UINT64_MAX) : 0;
}

static enum kaiten_status
build_failed(struct build *b, int error, const char *what, struct bdb_why *why)
{
    bdb_why(why, "%s: %s", what, strerror(error));
    return error == ENOENT ? KAITEN_CORRUPT : bdb_status(b->bdb, error);
}

/* What it starts from: a base copy that is whole, or nothing when all logs are there. */
static enum kaiten_status
build_base(struct build *b, struct bdb_why *why)
{
    uint32_t first = 0, last = 0, gap = 0;
    int error = bdb_directory_new(b->built);
    if (error)
        return build_failed(b, error, b->built, why);
    struct bdb_why base_why = { "" };
    bdb_base_put_back(b->bdb);
    enum kaiten_status status = bdb_manifest_check(b->base, &b->first, &base_why);
    if (status == KAITEN_DONE && b->first != 0) {
        error = bdb_each_file(b->base, take_database, b);
        return error ? build_failed(b, error, b->base, why) : KAITEN_DONE;
    }
    error = bdb_logs(b->bdb->options.path, &first, &last, &gap);
    if (error)
        return build_failed(b, error, b->bdb->options.path, why);
    b->first = 1;
    if (first == 1)
        return KAITEN_DONE;
    if (status == KAITEN_FAILED) { /* nobody knows whether there is one */
        *why = base_why;
        return status;
    }
    bdb_why(why, "there is no base copy, and the logs do not start with the first one");
    return KAITEN_CORRUPT;
}

static int
all_pages_look(void *arg, const char *name)
{
    struct build *b = arg;
    uint64_t pages = 0, bad = 0;
    if (!bdb_is_database(name))
        return 0;
    return bdb_pages_check(b->bdb, b->dir, name, &pages, &bad, &b->newest);
}

/* A log that ends before what the pages have seen has lost what was acknowledged. */
static enum kaiten_status
build_reaches(struct build *b, struct bdb_lsn end, struct bdb_why *why)
{
    b->dir = b->bdb->options.path;
    int error = bdb_each_file(b->dir, all_pages_look, b);
    b->dir = b->built;
    if (!error)
        error = bdb_each_file(b->dir, all_pages_look, b);
    if (error)
        return build_failed(b, error, "cannot read the pages", why);
    if (bdb_lsn_below(b->newest, end))
        return KAITEN_DONE;
    bdb_why(why, "the log ends at %u/%u, before changes that the databases have: it was damaged, "
            "or files of it are missing", (unsigned)end.file, (unsigned)end.offset);
    return KAITEN_CORRUPT;
}

/* One log: shared as long as it is not the last that has records, which the recovery writes to, nor
 * behind that one. */
static enum kaiten_status
build_log(struct build *b, uint32_t number, bool last, struct bdb_lsn *ret_end,
          struct bdb_why *why)
{
    const char *home = b->bdb->options.path;
    char name[BDB_NAME];
    uint32_t end = 0;
    bool torn = true;
    bdb_log_name(name, number);
    int error = bdb_log_check(home, number, &end, &torn);
    if (error)
        return build_failed(b, error, name, why);
    if (!torn) {
        bdb_why(why, "%s is damaged at byte %u", name, (unsigned)end);
        return KAITEN_CORRUPT;
    }
    if (end > 0)
        *ret_end = (struct bdb_lsn){ number, end };
    error = last ? bdb_copy_file(home, b->built, name, end) : bdb_link_file(home, b->built, name);
    return error ? build_failed(b, error, name, why) : KAITEN_DONE;
}

static enum kaiten_status
build_logs(struct build *b, struct bdb_lsn *ret_end, struct bdb_why *why)
{
    const char *home = b->bdb->options.path;
    uint32_t first = 0, last = 0, gap = 0, end;
    bool torn;
    int error = bdb_logs(home, &first, &last, &gap);
    if (error)
        return build_failed(b, error, home, why);
    if (last < b->first || first > b->first || gap >= b->first) {
        bdb_why(why, "log.%010u is missing",
                (unsigned)(gap >= b->first && gap != 0 ? gap : b->first));
        return KAITEN_CORRUPT;
    }
    uint32_t written = last;
    error = bdb_log_end(home, b->first, &written, &end, &torn);
    if (error)
        return build_failed(b, error, home, why);
    enum kaiten_status status = KAITEN_DONE;
    for (uint32_t n = b->first; n <= last && status == KAITEN_DONE; n++)
        status = build_log(b, n, n >= written, ret_end, why);
    return status;
}

static enum kaiten_status
build(struct bdb *bdb, struct bdb_why *why)
{
    struct build b = { .bdb = bdb };
    struct bdb_lsn end = { 0, 0 };
    if (!bdb_path(b.base, bdb->options.path, "base") ||
        !bdb_path(b.built, bdb->options.path, built_name))
        return build_failed(&b, ENAMETOOLONG, bdb->options.path, why);
    enum kaiten_status status = build_base(&b, why);
    if (status == KAITEN_DONE)
        status = build_logs(&b, &end, why);
    if (status == KAITEN_DONE)
        status = build_reaches(&b, end, why);
    if (status == KAITEN_DONE)
        status = bdb_copy_verify(bdb, b.built, NULL, why);
    if (status == KAITEN_DONE)
        bdb_sync_directory(b.built);
    else
        bdb_directory_remove(b.built);
    return status;
}

/* --- putting in place --------------------------------------------------------------------- */

struct move {
    const char *home, *built, *aside;
};

/* Logs from before the base copy stay where they are. */
static int
move_aside(void *arg, const char *name)
{
    const struct move *m = arg;
    if (!bdb_is_database(name) && (bdb_log_number(name) == 0 || !bdb_exists(m->built, name)))
        return 0;
    return bdb_move(m->home, m->aside, name);
}

static int
move_in(void *arg, const char *name)
{
    const struct move *m = arg;
    if (!bdb_is_database(name) && bdb_log_number(name) == 0)
        return 0;
    return bdb_move(m->built, m->home, name);
}

static int
put_in_place(struct bdb *bdb, struct note *note)
{
    char built[BDB_PATH], aside[BDB_PATH];
    const char *home = bdb->options.path;
    int error = 0;
    if (!bdb_path(built, home, built_name) || !bdb_path(aside, home, aside_name))
        return ENAMETOOLONG;
    struct move move = { home, built, aside };
    if (is_state(note, "wanted")) {
        error = bdb_directory_new(aside);
        if (!error)
            error = note_write(bdb, note, "aside");
    }
    if (!error && is_state(note, "aside")) {
        error = bdb_each_file(home, move_aside, &move);
        if (error)
            return error;
        bdb_sync_directory(aside);
        error = note_write(bdb, note, "place");
    }
    if (!error && is_state(note, "place"))
        error = bdb_each_file(built, move_in, &move);
    if (error == ENOENT && !bdb_exists(home, built_name))
        error = 0; /* it had come so far */
    if (error)
        return error;
    bdb_sync_directory(home);
    error = bdb_directory_remove(built);
    note->repairs++;
    note->attempts = 0;
    return error ? error : note_write(bdb, note, "done");
}

static enum kaiten_status
give_up(struct bdb *bdb, struct note *note, const struct bdb_why *because, struct bdb_why *why)
{
    bool wanted;
    size_t n = strlen(note->why);
    snprintf(note->why + n, sizeof note->why - n, "; %s", because->text);
    note_write(bdb, note, "failed");
    enum kaiten_status status = bdb_repair_pending(bdb, &wanted, why);
    return status == KAITEN_DONE ? KAITEN_CORRUPT : status;
}

static enum kaiten_status
build_once(struct bdb *bdb, struct note *note, struct bdb_why *why)
{
    struct bdb_why because = { "" };
    if (note->attempts >= ATTEMPTS_MAX) {
        bdb_why(&because, "%u attempts came to no end", note->attempts);
        return give_up(bdb, note, &because, why);
    }
    note->attempts++;
    int error = note_write(bdb, note, "wanted");
    if (error) {
        bdb_why(why, "%s/%s: %s", bdb->options.path, note_name, strerror(error));
        return bdb_status(bdb, error);
    }
    enum kaiten_status status = build(bdb, &because);
    if (status == KAITEN_DONE)
        return status;
    if (status == KAITEN_CORRUPT)
        return give_up(bdb, note, &because, why);
    if (status == KAITEN_FULL) {
        note->attempts = 0; /* a full disk says nothing about the store */
        note_write(bdb, note, "wanted");
    }
    bdb_why(why, "cannot repair %s: %s", bdb->options.path, because.text);
    return status;
}

enum kaiten_status
bdb_repair(struct bdb *bdb, const char *reason, struct bdb_why *why)
{
    struct note note;
    bdb_voice_reset(&bdb->voice);
    bdb_repair_note(bdb, true, reason);
    bool wanted;
    enum kaiten_status status = bdb_repair_pending(bdb, &wanted, why);
    if (status != KAITEN_DONE)
        return status;
    int error = note_read(bdb, &note);
    bdb->host.log(KAITEN_LOG_WARNING, "storage-bdb: %s is damaged (%s); building it anew from the "
                  "base copy and the logs", bdb->options.path, note.why);
    if (!error && !is_state(&note, "aside") && !is_state(&note, "place"))
        status = build_once(bdb, &note, why);
    if (status != KAITEN_DONE)
        return status;
    if (!error)
        error = put_in_place(bdb, &note);
    if (error) {
        bdb_why(why, "cannot repair %s: %s", bdb->options.path, strerror(error));
        return bdb_status(bdb, error);
    }
    bdb->base_due = true;
    bdb->host.log(KAITEN_LOG_WARNING, "storage-bdb: %s is repaired; the damaged files are in %s/%s "
                  "until the next base copy", bdb->options.path, bdb->options.path, aside_name);
    return KAITEN_DONE;
}
