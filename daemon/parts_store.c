/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/parts.h"

#include "client/proto/secret.h"
#include "daemon/backup.h"
#include "daemon/commit.h"
#include "daemon/follow.h"
#include "daemon/index.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/model/digest.h"
#include "daemon/model/endings.h"
#include "daemon/model/fellows.h"
#include "daemon/model/format.h"
#include "daemon/model/load.h"
#include "daemon/model/timemark.h"
#include "daemon/plugin.h"
#include "daemon/restore.h"
#include "daemon/settings.h"
#include "daemon/signer.h"
#include "daemon/store.h"
#include "daemon/used.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

/* --- store and keys ----------------------------------------------------------------------- */

/* A store that others write cannot be served from memory without being told what they do. */
static bool
is_followable(const struct kaiten_storage *s)
{
    return !(s->caps & KAITEN_STORAGE_OUTSIDE_WRITERS) || s->changes;
}

int
parts_open_storage(struct parts *p)
{
    struct conf_error err;
    void *instance;
    if (!is_followable(&p->storage->storage)) {
        snprintf(err.text, sizeof err.text,
                 "%s: others may write its store, but it has no changes() to say what",
                 p->storage->name);
        return parts_fail(EX_CONFIG, err.text);
    }
    enum kaiten_status status = plugin_open(p->storage, p->options[0], &instance, &err);
    if (status != KAITEN_DONE) /* what is damaged is so at the next start, too */
        return parts_fail(status == KAITEN_CORRUPT ? EX_DATAERR : EX_TEMPFAIL, err.text);
    p->svc.store = store_new(&p->storage->storage, instance, KAITEN_THREADS_PARALLEL);
    if (!p->svc.store)
        return parts_fail_errno(EX_OSERR, "storage");
    if (!store_is_durable(p->svc.store))
        log_line(LOG_LEVEL_WARNING, "storage", "plugin=%s message=%s", p->storage->name,
                 "nothing that is written here survives the process");
    return EX_OK;
}

/* The call for all work at start. */
void
parts_begin_call(struct parts *p, struct call *call, struct kt_arena *arena)
{
    kt_arena_init(arena, REQUEST_ARENA_MAX);
    *call = (struct call){ .svc = &p->svc, .arena = arena, .now_ms = clock_wall_ms(),
                           .deadline_ms = INT64_MAX };
}

/* A fresh key for a store that has tokens would kill every one of them, silently. */
int
parts_open_keys(struct parts *p)
{
    struct digest_error err;
    struct digest_keys *keys;
    struct kt_arena arena;
    struct call call;
    bool missing = false, empty = false;
    const char *path = p->settings->digest_key_file;
    if (digest_keys_read(path, &keys, &missing, &err)) {
        p->svc.keys = keys;
        return EX_OK;
    }
    if (!missing)
        return parts_fail(EX_NOPERM, err.text);
    parts_begin_call(p, &call, &arena);
    int status = store_is_empty(&call, p->svc.store, &empty);
    kt_arena_done(&arena);
    if (status != KT_OK)
        return parts_fail(EX_TEMPFAIL, "the store cannot be read");
    if (!empty) {
        snprintf(err.text, sizeof err.text,
                 "%s: the digest key is missing, but the store is not empty; restore the key that "
                 "the store was made with",
                 path);
        return parts_fail(EX_CONFIG, err.text);
    }
    if (!digest_keys_create(path, &keys, &err))
        return parts_fail(EX_CANTCREAT, err.text);
    p->svc.keys = keys;
    log_line(LOG_LEVEL_NOTICE, "key.created", "file=%s fingerprint=%s", path,
             digest_keys_fingerprint(p->svc.keys, 0));
    return EX_OK;
}

int
parts_check_keys(struct parts *p)
{
    store_set_keys(p->svc.store, p->svc.keys);
    if (!digest_keys_locked(p->svc.keys) || !kt_secret_locked())
        log_line(LOG_LEVEL_WARNING, "key.unlocked", "message=%s",
                 "the limit on locked memory is too low; keys and new tokens may be swapped out");
    struct kt_arena arena;
    struct call call;
    parts_begin_call(p, &call, &arena);
    int status = format_check(&call, p->settings->digest_key_file);
    kt_arena_done(&arena);
    if (status == KT_UNAVAILABLE)
        return parts_fail(EX_TEMPFAIL, "the store cannot be read, or not brought up to date");
    return status == KT_OK ? EX_OK : EX_CONFIG;
}

/* The mark is as it was written, or as the operator says. */
int
parts_begin_time(struct parts *p)
{
    struct kt_arena arena;
    struct call call;
    struct timeguard_mark mark;
    unsigned char boot[TIMEGUARD_BOOT_BYTES];
    clock_boot(boot);
    parts_begin_call(p, &call, &arena);
    int status = timemark_read(&call, &mark);
    /* A store that was never served has none, and whoever is killed before the keeper writes one
     * would believe any clock at the next start. */
    if (status == KT_OK && (p->accept_clock || mark.mark_ms == 0)) {
        mark = (struct timeguard_mark){ .mark_ms = call.now_ms, .mono_ms = clock_mono_ms() };
        memcpy(mark.boot, boot, sizeof mark.boot);
        status = timemark_write(&call, &mark);
    }
    kt_arena_done(&arena);
    if (status != KT_OK)
        return parts_fail(EX_TEMPFAIL, "the mark of time");
    timeguard_begin(&p->guard, &mark, clock_wall_ms(), clock_mono_ms(), boot);
    timeguard_publish(&p->guard);
    return EX_OK;
}

/* Somebody who has the published keys of one daemon must be able to verify what another one
 * signed. */
static int
check_signer(struct parts *p)
{
    struct kt_arena arena;
    struct call call;
    struct kt_str other;
    char text[1024];
    parts_begin_call(p, &call, &arena);
    int status = fellows_check_signer(&call, signer_kid(p->svc.signer), p->accept_signer, &other);
    snprintf(text, sizeof text,
             "%s: the key %s is not the one that the daemons of this store sign with, which is "
             "%.*s: copy their file, or see kaitend(8) for --accept-signing-key",
             p->settings->signing_key_file, signer_kid(p->svc.signer), (int)other.n,
             other.p ? other.p : "");
    bool differs = other.p != NULL;
    kt_arena_done(&arena);
    if (status != KT_OK)
        return parts_fail(EX_TEMPFAIL, "the key that the daemons of this store sign with");
    return differs ? parts_fail(EX_CONFIG, text) : EX_OK;
}

int
parts_open_signer(struct parts *p)
{
    char err[SIGNER_ERROR_MAX];
    const struct signer_options options = { p->settings->signing_key_file, p->settings->issuer,
                                            p->settings->audience, p->settings->jwt_lifetime_ms };
    if (!signer_open(&options, &p->svc.signer, err))
        return parts_fail(EX_NOPERM, err);
    return store_has_outsiders(p->svc.store) ? check_signer(p) : EX_OK;
}

/* --- index -------------------------------------------------------------------------------- */

struct retired {
    struct parts *parts;
    void *memory;
};

/* Every loop has gone round since; workers are kept out by the guard. */
static void
free_retired(void *ctx)
{
    struct retired *r = ctx;
    pthread_rwlock_wrlock(&r->parts->index_guard);
    free(r->memory);
    pthread_rwlock_unlock(&r->parts->index_guard);
    free(r);
}

static void
retire(void *ctx, void *memory)
{
    struct parts *p = ctx;
    if (!p->loops) {
        free(memory); /* still loading: nobody reads */
        return;
    }
    struct retired *r = malloc(sizeof *r);
    if (!r)
        return; /* better lost than freed under a reader */
    *r = (struct retired){ p, memory };
    loops_barrier(p->loops, free_retired, r);
}

int
parts_begin_following(struct parts *p)
{
    const struct follow_options options = { p->settings->store_poll_ms,
                                            p->settings->staleness_ms };
    struct kt_arena arena;
    struct call call;
    if (!store_has_outsiders(p->svc.store))
        return EX_OK;
    p->follower = follower_new(&p->svc, &options);
    if (!p->follower)
        return parts_fail_errno(EX_OSERR, "following the store");
    parts_begin_call(p, &call, &arena);
    int status = follower_mark(&call, p->follower);
    kt_arena_done(&arena);
    return status == KT_OK ? EX_OK : parts_fail(EX_TEMPFAIL, "the store does not say what changes");
}

void
parts_end_following(struct parts *p)
{
    follower_free(p->follower);
}

int
parts_make_index(struct parts *p)
{
    p->svc.index_guard = &p->index_guard;
    p->svc.index = index_new(retire, p);
    if (!p->svc.index)
        return parts_fail_errno(EX_OSERR, "index");
    p->svc.endings = p->svc.journal ? p->endings : NULL;
    p->svc.filling = true;
    return EX_OK;
}

static int
fill_index(struct parts *p)
{
    struct kt_arena arena;
    struct call call;
    int64_t began = clock_mono_ms();
    parts_begin_call(p, &call, &arena);
    struct endings *endings = p->svc.journal ? p->endings : NULL;
    int status = load_index(&call, p->svc.index, endings, p->settings->loops);
    kt_arena_done(&arena);
    if (status != KT_OK)
        return parts_fail(EX_TEMPFAIL, "the tokens cannot be read from the store");
    struct index_stats stats;
    index_stats(p->svc.index, &stats);
    log_line(LOG_LEVEL_NOTICE, "index.loaded", "tokens=%zu accounts=%zu ms=%ld", stats.records,
             stats.accounts, (long)(clock_mono_ms() - began));
    return parts_heal_journal(p);
}

/* Tokens that the store was asked about in the meantime; of one that was asked about more often,
 * the first note is enough. */
static void
note_uses(struct service *svc)
{
    if (!svc->used) /* nobody could ask */
        return;
    (void)committer_take_index(svc->committer, 0);
    for (size_t list = 0; list < USED_LISTS; list++) {
        size_t n;
        struct used_note *notes = used_take(svc->used, list, &n);
        for (size_t i = 0; i < n; i++) {
            if (index_last_used(svc->index, notes[i].digest) >= notes[i].at_s)
                continue;
            (void)index_set_used(svc->index, notes[i].digest, notes[i].at_s);
            used_add(svc->used, notes[i].digest, notes[i].at_s);
        }
        free(notes);
    }
    committer_give_index(svc->committer);
}

/* From here on the index decides. Whoever still looks at what the journal said holds the guard. */
static int
end_filling(struct parts *p)
{
    pthread_rwlock_wrlock(&p->index_guard);
    p->svc.endings = NULL;
    p->svc.filling = false;
    pthread_rwlock_unlock(&p->index_guard);
    note_uses(&p->svc);
    endings_free(p->endings);
    p->endings = NULL;
    return EX_OK;
}

static int
fill(struct parts *p)
{
    int code = fill_index(p);
    return code == EX_OK ? end_filling(p) : code;
}

/* Whoever follows a store must have its index to write into. */
int
parts_fill_followed(struct parts *p)
{
    return store_has_outsiders(p->svc.store) ? fill(p) : EX_OK;
}

/* A large index takes seconds, and until then the store itself says what a token is: the doors open
 * before. */
int
parts_fill_late(struct parts *p)
{
    return store_has_outsiders(p->svc.store) ? EX_OK : fill(p);
}

/* --- a store made, restored, and backed up ------------------------------------------------ */

/* Where the store is, of a plugin that keeps it in a folder; NULL else. */
static const char *
place_of_store(const struct parts *p)
{
    for (const struct kaiten_option *o = p->storage->options; o->name; o++)
        if (strcmp(o->name, "path") == 0 && o->type == KAITEN_OPT_PATH)
            return conf_str(p->options[0], "path");
    return NULL;
}

/* For root, whose copy the daemon must be able to open: its user, or whose the store is. */
static bool
owner_of_store(const struct parts *p, const char *path, struct stat *ret)
{
    const struct passwd *pw = p->settings->user ? getpwnam(p->settings->user) : NULL;
    if (geteuid() != 0)
        return false;
    if (!pw)
        return stat(path, ret) == 0 || stat(p->settings->state_dir, ret) == 0;
    *ret = (struct stat){ .st_uid = pw->pw_uid, .st_gid = pw->pw_gid };
    return true;
}

/* And one that may be read; else errno. */
static bool
is_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && close(fd) == 0 && access(path, R_OK | X_OK) == 0;
}

/* Only a copy that the plugin knows for a whole one is put in place. What was revoked since it was
 * made is told by the journal when the daemon starts. */
int
parts_restore(struct parts *p)
{
    char err[RESTORE_ERROR_MAX];
    struct kaiten_err why = { "" };
    struct stat owner;
    struct restore_how how = { .replace = p->restore_replace };
    const struct kaiten_storage *storage = &p->storage->storage;
    const char *path = place_of_store(p);
    if (!storage->verify || !path)
        return parts_fail(EX_USAGE, "this storage plugin takes no copies back");
    if (!is_folder(p->restore_from)) {
        snprintf(err, sizeof err, "%s: %s%s", p->restore_from, strerror(errno),
                 errno == ENOTDIR ? "; --import takes what --export wrote" : "");
        return parts_fail(EX_NOINPUT, err);
    }
    if (storage->verify(&host_table, p->restore_from, &why) != KAITEN_DONE)
        return parts_fail(EX_DATAERR, why.text);
    if (owner_of_store(p, path, &owner))
        how.owner = &owner;
    if (!restore_folder(p->restore_from, path, &how, err))
        return parts_fail(EX_CANTCREAT, err);
    log_line(LOG_LEVEL_NOTICE, "restored", "from=%s to=%s", p->restore_from, path);
    return EX_OK;
}

int
parts_init_store(struct parts *p)
{
    struct conf_error err;
    enum kaiten_status status = plugin_init(p->storage, p->options[0], &err);
    if (status == KAITEN_DONE)
        return EX_OK;
    return parts_fail(status == KAITEN_RETRY ? EX_TEMPFAIL : EX_CANTCREAT, err.text);
}

int
parts_open_backup(struct parts *p)
{
    char folder[PATH_MAX];
    if ((size_t)snprintf(folder, sizeof folder, "%s/backup", p->settings->state_dir) >=
        sizeof folder)
        errno = ENAMETOOLONG;
    else
        p->svc.backup = backup_new(folder);
    return p->svc.backup ? EX_OK : parts_fail_errno(EX_CANTCREAT, "the folder of backups");
}

void
parts_close_backup(struct parts *p)
{
    backup_free(p->svc.backup);
}

/* --- closing ------------------------------------------------------------------------------ */

void
parts_close_index(struct parts *p)
{
    index_free(p->svc.index);
}

void
parts_close_signer(struct parts *p)
{
    signer_free(p->svc.signer);
}

void
parts_close_keys(struct parts *p)
{
    digest_keys_free(p->svc.keys);
    p->svc.keys = NULL;
}

void
parts_close_storage(struct parts *p)
{
    store_free(p->svc.store);
}
