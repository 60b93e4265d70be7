/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    LOG_BUFFER = 8 << 20,
    LOCKS_MAX = 1 << 18, /* a full group of scattered writes locks about one page per write */
    LOCKERS_MAX = 4096,
    TXNS_MAX = 256,
    LINES_MAX = 16       /* of the library, until the checkpointer forgets them */
};

/* What the library says, and not always returns, when a file is not what it was. */
static const char *const damages[] = {
    "checksum error", "past end of log", "past current end-of-log", "illegal page type",
    "unexpected file type", "unexpected page type", "log record: checksum", "bad magic number",
};

/* What says nothing about files, and may pass. */
static const int passing_errors[] = { ENOMEM, EMFILE, ENFILE, EIO, ENOSPC, EDQUOT };

void
bdb_why(struct bdb_why *why, const char *fmt, ...)
{
    if (why->text[0] != '\0')
        return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(why->text, sizeof why->text, fmt, args);
    va_end(args);
}

void
bdb_voice_reset(struct bdb_voice *voice)
{
    atomic_store(&voice->damaged, false);
    atomic_store(&voice->starved, false);
    atomic_store(&voice->passing, 0);
    atomic_store(&voice->heard, false);
}

static bool
is_about_damage(const char *text)
{
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        if (strstr(text, damages[i]))
            return true;
    }
    return false;
}

/* 0: the text is about something else. */
static int
passing_error(const char *text)
{
    for (size_t i = 0; i < sizeof passing_errors / sizeof *passing_errors; i++) {
        if (strstr(text, strerror(passing_errors[i])))
            return passing_errors[i];
    }
    return 0;
}

static void
passing_note(struct bdb_voice *voice, int error)
{
    int none = 0;
    if (error == 0)
        return;
    atomic_compare_exchange_strong(&voice->passing, &none, error);
    if (error == ENOMEM || error == EMFILE || error == ENFILE)
        atomic_store(&voice->starved, true);
    if (error != ENOSPC && error != EDQUOT) /* what is read is not short of space */
        bdb_watch_note(error);
}

static void
on_error(const DB_ENV *env, const char *prefix, const char *text)
{
    (void)prefix;
    struct bdb_voice *voice = env->app_private;
    if (is_about_damage(text) && !atomic_exchange(&voice->heard, true)) {
        snprintf(voice->text, sizeof voice->text, "%s", text);
        atomic_store(&voice->damaged, true);
    }
    passing_note(voice, passing_error(text));
    /* On a full disk a checkpoint would say so for each page. */
    if (atomic_fetch_add(&voice->lines, 1) < LINES_MAX)
        voice->host->log(KAITEN_LOG_ERROR, "storage-bdb: %s", text);
}

static void
on_message(const DB_ENV *env, const char *text)
{
    struct bdb_voice *voice = env->app_private;
    voice->host->log(KAITEN_LOG_INFO, "storage-bdb: %s", text);
}

/* A damaged page would still be damaged after a restart: the note makes the next start repair it,
 * instead of starting again and again. */
static void
on_event(DB_ENV *env, u_int32_t event, void *info)
{
    (void)info;
    struct bdb_voice *voice = env->app_private;
    if (event != DB_EVENT_PANIC || !voice->running)
        return;
    bool damaged = atomic_load(&voice->damaged);
    /* A shortage says nothing about the files. */
    if (!damaged && atomic_load(&voice->starved))
        bdb_die("panic", "out of memory or of descriptors");
    const char *why = damaged ? voice->text : "the library cannot go on";
    bdb_repair_note(voice->running, damaged, why);
    bdb_die("panic", why);
}

void
bdb_lost(struct bdb *bdb, const char *what, int error)
{
    struct bdb_voice *voice = &bdb->voice;
    bool said = atomic_load(&voice->damaged);
    const char *why = said ? voice->text : db_strerror(error);
    if (said || error == DB_PAGE_NOTFOUND)
        bdb_repair_note(bdb, true, why);
    bdb_die(what, why);
}

int
bdb_env_open(struct bdb_voice *voice, const struct bdb_options *o, const char *home,
             int64_t cache_size, u_int32_t recover, DB_ENV **ret_env)
{
    DB_ENV *env;
    int error = db_env_create(&env, 0);
    if (error)
        return error;
    *ret_env = env;
    env->app_private = voice;
    env->set_errcall(env, on_error);
    env->set_msgcall(env, on_message);
    env->set_event_notify(env, on_event);

    u_int32_t log_buffer = (u_int32_t)(o->log_file_size / 4);
    u_int32_t gigabytes = (u_int32_t)(cache_size >> 30);
    u_int32_t bytes = (u_int32_t)(cache_size & ((1 << 30) - 1));
    if ((error = env->set_cachesize(env, gigabytes, bytes, 1)) ||
        (error = env->set_lg_bsize(env, log_buffer < LOG_BUFFER ? log_buffer : LOG_BUFFER)) ||
        (error = env->set_lg_max(env, (u_int32_t)o->log_file_size)) ||
        (error = env->set_lg_filemode(env, 0600)) ||
        (error = env->set_lk_detect(env, DB_LOCK_DEFAULT)) ||
        (error = env->set_lk_max_locks(env, LOCKS_MAX)) ||
        (error = env->set_lk_max_objects(env, LOCKS_MAX)) ||
        (error = env->set_lk_max_lockers(env, LOCKERS_MAX)) ||
        (error = env->set_lk_partitions(env, 1)) || /* one writer: more of them is more to lock */
        (error = env->set_tx_max(env, TXNS_MAX)))
        return error;
    bdb_watch_begin();
    error = env->open(env, home,
                      DB_CREATE | recover | DB_PRIVATE | DB_THREAD | DB_INIT_TXN | DB_INIT_LOG |
                          DB_INIT_MPOOL | DB_INIT_LOCK,
                      0600);
    int missed = bdb_watch_end();
    if (missed == 0)
        return error;
    atomic_store(&voice->damaged, false); /* what was not read says nothing about the files */
    atomic_store(&voice->starved, true);
    return missed;
}

enum kaiten_status
bdb_status(struct bdb *bdb, int error)
{
    if (error != 0 && atomic_load(&bdb->voice.damaged))
        return KAITEN_CORRUPT;
    switch (error) {
    case 0:
        return KAITEN_DONE;
    case ENOSPC:
    case EDQUOT:
        return KAITEN_FULL;
    case DB_LOCK_DEADLOCK:
    case DB_LOCK_NOTGRANTED:
        return KAITEN_RETRY;
    case DB_VERIFY_BAD:
    case DB_PAGE_NOTFOUND:
        return KAITEN_CORRUPT;
    default:
        return KAITEN_FAILED;
    }
}

enum kaiten_status
bdb_fail(struct bdb *bdb, struct kaiten_err *err, int error, const char *what)
{
    enum kaiten_status status = bdb_status(bdb, error);
    /* Somebody has cut the file. What the library still has in memory of it would be written back
     * behind the hole. */
    if (error == DB_PAGE_NOTFOUND)
        bdb_lost(bdb, what, error);
    if (status != KAITEN_CORRUPT) {
        bdb->host.error(err, "%s: %s", what, db_strerror(error));
        return status;
    }
    bool said = atomic_load(&bdb->voice.damaged);
    const char *why = said ? bdb->voice.text : db_strerror(error);
    bdb->host.error(err, "%s: %s is damaged (%s)", what, bdb->options.path, why);
    if (said) /* a row of an odd form would be the same again */
        bdb_repair_note(bdb, true, why);
    return status;
}
