/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NUMBER = 12 /* bytes of a format in digits */ };

DB *
bdb_space(struct bdb *bdb, struct kaiten_bytes key)
{
    return atomic_load_explicit(&bdb->space[*(const unsigned char *)key.p], memory_order_acquire);
}

/* The order that the library has by itself, and so that of its tools, but not byte by byte: keys of
 * one account begin with the same 33. */
static int
key_compare(DB *db, const DBT *a, const DBT *b)
{
    (void)db;
    int order = memcmp(a->data, b->data, a->size < b->size ? a->size : b->size);
    return order != 0 ? order : (a->size > b->size) - (a->size < b->size);
}

/* How much of b an inner page needs to tell it from a, which is smaller: what the library does for
 * its own order, and leaves out for another. */
static size_t
key_prefix(DB *db, const DBT *a, const DBT *b)
{
    (void)db;
    const unsigned char *p = a->data, *q = b->data;
    size_t n = a->size < b->size ? a->size : b->size, same = 0;
    while (same < n && p[same] == q[same])
        same++;
    return same < b->size ? same + 1 : b->size;
}

int
bdb_database_open(DB_ENV *env, const char *name, bool create, DB **ret_db)
{
    DB *db;
    int error = db_create(&db, env, 0);
    if (error)
        return error;
    error = db->set_pagesize(db, BDB_PAGE);
    if (!error)
        error = db->set_flags(db, DB_CHKSUM);
    if (!error)
        error = db->set_bt_compare(db, key_compare);
    if (!error)
        error = db->set_bt_prefix(db, key_prefix);
    if (!error)
        error = db->open(db, NULL, name, NULL, DB_BTREE,
                         DB_THREAD | DB_AUTO_COMMIT | (create ? DB_CREATE : 0u), 0600);
    if (error) {
        db->close(db, 0);
        return error;
    }
    *ret_db = db;
    return 0;
}

int
bdb_meta_get(DB *meta, const char *name, void *value, size_t n)
{
    DBT key = bdb_key((struct kaiten_bytes){ name, strlen(name) });
    DBT data = bdb_buffer(value, n);
    int error = meta->get(meta, NULL, &key, &data, 0);
    if (error == DB_BUFFER_SMALL || (!error && data.size != n))
        return DB_VERIFY_BAD;
    return error;
}

int
bdb_meta_put(DB *meta, const char *name, const void *value, size_t n)
{
    DBT key = bdb_key((struct kaiten_bytes){ name, strlen(name) });
    DBT data = bdb_key((struct kaiten_bytes){ value, n });
    return meta->put(meta, NULL, &key, &data, 0);
}

static int
space_open(struct bdb *bdb, unsigned byte)
{
    char name[BDB_NAME];
    bdb_space_name(name, (unsigned char)byte);
    DB *db;
    int error = bdb_database_open(bdb->env, name, false, &db);
    if (!error)
        atomic_store_explicit(&bdb->space[byte], db, memory_order_release);
    return error;
}

/* --- format ------------------------------------------------------------------------------- */

/* What has to be done to a store of an older format. The number is written after the step, so
 * each must be fit to be done again, also when a part of it was done before. */
typedef int (*migration)(struct bdb *);

/* Format 1 dropped each log that a start did not need. From 2 on they are kept since the base copy
 * was made; an older version would drop them. There may be logs missing, so one is due. */
static int
from_1(struct bdb *bdb)
{
    bdb->base_due = true;
    return 0;
}

/* From 3 on a row has a shorter revision before it. Rows of both forms are told apart by their
 * first byte, but not by an older version. */
static int
from_2(struct bdb *bdb)
{
    (void)bdb;
    return 0;
}

static const migration migrations[BDB_FORMAT] = { [1] = from_1, [2] = from_2 };

static int
format_put(struct bdb *bdb, unsigned long format)
{
    char text[NUMBER];
    int n = snprintf(text, sizeof text, "%lu", format);
    return bdb_meta_put(bdb->meta, "format", text, (size_t)n);
}

static int
format_get(struct bdb *bdb, unsigned long *ret_format)
{
    char text[NUMBER + 1], *end;
    DBT key = bdb_key((struct kaiten_bytes){ "format", strlen("format") });
    DBT data = bdb_buffer(text, NUMBER);
    int error = bdb->meta->get(bdb->meta, NULL, &key, &data, 0);
    if (error)
        return error;
    text[data.size] = '\0';
    *ret_format = strtoul(text, &end, 10);
    return *end == '\0' && *ret_format > 0 ? 0 : DB_VERIFY_BAD;
}

static int
format_open(struct bdb *bdb, struct bdb_why *why)
{
    unsigned long format;
    int error = format_get(bdb, &format);
    if (error == DB_NOTFOUND)
        return format_put(bdb, BDB_FORMAT);
    if (error)
        return error;
    if (format > BDB_FORMAT) {
        bdb_why(why, "%s has format %lu, this version knows up to %d; use a newer one",
                bdb->options.path, format, BDB_FORMAT);
        return EINVAL;
    }
    for (; format < BDB_FORMAT && !error; format++) {
        bdb->host.log(KAITEN_LOG_NOTICE, "storage-bdb: %s: from format %lu to %lu",
                      bdb->options.path, format, format + 1);
        error = migrations[format](bdb);
        if (!error)
            error = format_put(bdb, format + 1);
    }
    return error;
}

/* --- spaces ------------------------------------------------------------------------------- */

static int
space_found(void *arg, const char *name)
{
    int byte = bdb_space_number(name);
    return byte < 0 ? 0 : space_open(arg, (unsigned)byte);
}

/* Which spaces ought to have a file. */
static int
spaces_read(struct bdb *bdb, unsigned char *ret_bits)
{
    memset(ret_bits, 0, BDB_SPACES / 8);
    int error = bdb_meta_get(bdb->meta, "spaces", ret_bits, BDB_SPACES / 8);
    return error == DB_NOTFOUND ? 0 : error;
}

static int
space_note(struct bdb *bdb, unsigned byte)
{
    unsigned char bits[BDB_SPACES / 8];
    int error = spaces_read(bdb, bits);
    if (error)
        return error;
    bits[byte / 8] |= (unsigned char)(1u << byte % 8);
    return bdb_meta_put(bdb->meta, "spaces", bits, sizeof bits);
}

/* A file that somebody removed must not look like a space that was always empty. */
static int
spaces_check(struct bdb *bdb, struct bdb_why *why)
{
    unsigned char bits[BDB_SPACES / 8];
    int error = spaces_read(bdb, bits);
    for (unsigned byte = 0; byte < BDB_SPACES && !error; byte++) {
        bool noted = bits[byte / 8] >> byte % 8 & 1;
        bool there = atomic_load(&bdb->space[byte]) != NULL;
        if (there && !noted)
            error = space_note(bdb, byte); /* the process ended between the two */
        if (there || !noted)
            continue;
        bdb_why(why, "%s/space-%02x.db is missing", bdb->options.path, byte);
        error = DB_VERIFY_BAD;
    }
    return error;
}

int
bdb_space_create(struct bdb *bdb, struct kaiten_bytes key)
{
    unsigned byte = *(const unsigned char *)key.p;
    char name[BDB_NAME];
    DB *db;
    atomic_store(&bdb->written[byte], true);
    bdb_space_name(name, (unsigned char)byte);
    int error = bdb_database_open(bdb->env, name, true, &db);
    if (error)
        return error;
    error = space_note(bdb, byte);
    if (error) { /* nothing may be in it yet: nobody would miss the file */
        db->close(db, 0);
        return error;
    }
    atomic_store_explicit(&bdb->space[byte], db, memory_order_release);
    return 0;
}

static bool
any_space(const struct bdb *bdb)
{
    for (unsigned i = 0; i < BDB_SPACES; i++) {
        if (atomic_load(&bdb->space[i]))
            return true;
    }
    return false;
}

/* Puts what the library has changed into the files, so that they can be read without it. */
static int
spaces_settle(struct bdb *bdb)
{
    int error = bdb->env->memp_sync(bdb->env, NULL);
    for (unsigned i = 0; i < BDB_SPACES; i++)
        atomic_store(&bdb->written[i], error != 0);
    return error;
}

/* --- lengths ------------------------------------------------------------------------------ */

struct length_check {
    const char *home;
    struct bdb_why *why;
};

/* The library does not miss what a file has lost at its end: where the file grows again, it takes
 * what is between for pages that are still to come. */
static int
database_length(void *arg, const char *name)
{
    const struct length_check *c = arg;
    uint64_t said = 0, there = 0;
    int error = bdb_is_database(name) ? bdb_pages_count(c->home, name, &said, &there) : 0;
    if (error || said <= there)
        return error;
    bdb_why(c->why, "%s/%s says that it has %llu pages, and has %llu", c->home, name,
            (unsigned long long)said, (unsigned long long)there);
    return DB_VERIFY_BAD;
}

/* After a recovery, which ends with a checkpoint: what it has changed is in the files. */
static int
lengths_check(struct bdb *bdb, struct bdb_why *why)
{
    struct length_check c = { bdb->options.path, why };
    return bdb_each_file(c.home, database_length, &c);
}

/* --- all of it ---------------------------------------------------------------------------- */

/* What a store that was never used writes into its first log is far less. */
enum { LOG_OF_NOTHING = 64 * 1024 };

/* Whether there was ever a store here: a start that was cut short leaves no more than the beginning
 * of a log. */
static bool
was_used(const struct bdb *bdb, uint32_t last, uint32_t end)
{
    return any_space(bdb) || bdb_exists(bdb->options.path, "base") || last > 1 ||
           end > LOG_OF_NOTHING;
}

/* The library fills a log that it finds unfinished with zeros up to its full size. On a full disk
 * the start would fail by that; a shorter log grows again when there is something to write. */
static int
log_cut(struct bdb *bdb, uint32_t number, uint32_t end)
{
    char name[BDB_NAME], path[BDB_PATH];
    const char *home = bdb->options.path;
    bdb_log_name(name, number);
    uint64_t size = bdb_size(home, name);
    if (end == 0 || size <= end || bdb_room_free(home) >= size - end + bdb->reserve)
        return 0;
    return bdb_path(path, home, name) && truncate(path, (off_t)end) == 0 ? 0 : errno;
}

/* The library takes a record that it cannot read for the end of the log. That is right for one that
 * was never finished, and wrong when others follow that were. */
static int
log_end_check(struct bdb *bdb, uint32_t *ret_last, uint32_t *ret_end, struct bdb_why *why)
{
    uint32_t first, last, gap;
    bool torn = true;
    int error = bdb_logs(bdb->options.path, &first, &last, &gap);
    *ret_last = last;
    if (!error && last != gap) /* a number that is none may stand for the last one */
        error = bdb_log_end(bdb->options.path, first, ret_last, ret_end, &torn);
    if (error) {
        bdb_why(why, "%s/log.%010u: %s", bdb->options.path, (unsigned)*ret_last, strerror(error));
        return error;
    }
    if (gap != 0 && gap >= *ret_last) {
        bdb_why(why, "%s/log.%010u is missing, or log.%010u is none of this store",
                bdb->options.path, (unsigned)gap, (unsigned)last);
        return DB_LOG_VERIFY_BAD;
    }
    if (torn)
        return log_cut(bdb, *ret_last, *ret_end);
    bdb_why(why, "%s/log.%010u is damaged at byte %u, and what was acknowledged follows; restore a "
            "backup", bdb->options.path, (unsigned)*ret_last, (unsigned)*ret_end);
    return DB_LOG_VERIFY_BAD;
}

struct log_reach {
    const char *home;
    struct bdb_lsn newest; /* change of the pages that were looked at */
};

static int
last_pages_look(void *arg, const char *name)
{
    struct log_reach *r = arg;
    return bdb_is_database(name) ? bdb_pages_newest(r->home, name, &r->newest) : 0;
}

/* Without its end the log still looks whole. The library would write on, and what was acknowledged
 * would be lost; it refuses only when it comes upon a page that is newer. */
static int
log_reach_check(struct bdb *bdb, struct bdb_lsn end, struct bdb_why *why)
{
    struct log_reach r = { .home = bdb->options.path };
    int error = bdb_each_file(r.home, last_pages_look, &r);
    if (error || r.newest.file == 0 || bdb_lsn_below(r.newest, end))
        return error;
    bdb_why(why, "the log ends at %u/%u, and a page was changed at %u/%u: it was cut, or files of "
            "it are missing", (unsigned)end.file, (unsigned)end.offset, (unsigned)r.newest.file,
            (unsigned)r.newest.offset);
    return DB_VERIFY_BAD;
}

/* So that no later write holds more than one commit that says something. Without space for it they
 * go with the first change that there is space for. */
static int
openings_flush(struct bdb *bdb)
{
    int error = bdb->env->log_flush(bdb->env, NULL);
    return bdb_status(bdb, error) == KAITEN_FULL ? 0 : error;
}

int
bdb_store_open(struct bdb *bdb, struct bdb_why *why)
{
    const struct bdb_options *o = &bdb->options;
    uint32_t last = 0, end = 0;
    bdb_ahead_start(bdb);
    int error = log_end_check(bdb, &last, &end, why);
    if (!error)
        error = log_reach_check(bdb, (struct bdb_lsn){ last, end }, why);
    if (!error)
        error = bdb_env_open(&bdb->voice, o, o->path, o->cache_size, DB_RECOVER, &bdb->env);
    if (!error)
        error = lengths_check(bdb, why);
    if (error)
        return error;
    bool is_new = !bdb_exists(o->path, "meta.db");
    error = bdb_each_file(o->path, space_found, bdb);
    if (error)
        return error;
    if (is_new && was_used(bdb, last, end)) { /* revisions would start again */
        bdb_why(why, "%s/meta.db is missing", o->path);
        return DB_VERIFY_BAD;
    }
    bdb_holes_watch(true);
    error = bdb_database_open(bdb->env, "meta.db", true, &bdb->meta);
    if (!error)
        error = openings_flush(bdb);
    if (!error)
        error = format_open(bdb, why);
    if (!error)
        error = spaces_check(bdb, why);
    if (!error)
        error = bdb_apply_open(bdb);
    bdb_holes_watch(false);
    return error ? error : spaces_settle(bdb);
}

void
bdb_store_close(struct bdb *bdb)
{
    bdb_ahead_end(bdb);
    for (unsigned i = 0; i < BDB_SPACES; i++) {
        DB *db = atomic_exchange(&bdb->space[i], NULL);
        if (db)
            db->close(db, 0);
    }
    if (bdb->meta)
        bdb->meta->close(bdb->meta, 0);
    if (bdb->env)
        bdb->env->close(bdb->env, 0);
    bdb_watch_forget();
    bdb->meta = NULL;
    bdb->env = NULL;
}
