/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/rotation.h"

#include "daemon/commit.h"
#include "daemon/journal.h"
#include "daemon/log.h"
#include "daemon/model/digest.h"
#include "daemon/model/reseal.h"
#include "daemon/service.h"
#include "daemon/store.h"
#include "daemon/timeguard.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct rotation {
    char *path;
    pthread_mutex_t lock; /* held while keys change */
    struct digest_keys *before[ROTATIONS_MAX]; /* retired sets: threads may still read them */
    size_t n;
};

struct rotation *
rotation_new(const char *path)
{
    struct rotation *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    pthread_mutex_init(&r->lock, NULL);
    r->path = strdup(path);
    if (r->path)
        return r;
    rotation_free(r);
    return NULL;
}

void
rotation_free(struct rotation *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n; i++)
        digest_keys_free(r->before[i]);
    pthread_mutex_destroy(&r->lock);
    free(r->path);
    free(r);
}

/* --- into force --------------------------------------------------------------------------- */

static int
busy(struct call *call)
{
    return fail(call, KT_UNAVAILABLE, "Server.Busy", "the store is busy, please retry");
}

/* The committer rests, so the journal is ours. If it cannot be written anew it stays readable with
 * the old key, which cannot be taken out until it has been. Nothing goes for its age: the store may
 * not know of it yet. */
static void
rekey_journal(const struct service *svc)
{
    if (!svc->journal)
        return;
    journal_set_keys(svc->journal, svc->keys);
    if (!journal_compact(svc->journal, clock_sure_ms(), 0, 0))
        log_line(LOG_LEVEL_WARNING, "journal.compact", "message=%s", strerror(errno));
}

static void
put_in_force(struct service *svc, struct rotation *r, struct digest_keys *keys)
{
    r->before[r->n++] = svc->keys;
    store_set_keys(svc->store, keys);
    svc->keys = keys;
    rekey_journal(svc);
    if (!digest_keys_locked(keys))
        log_line(LOG_LEVEL_WARNING, "key.unlocked", "message=%s",
                 "the limit on locked memory is too low; keys may be swapped out");
}

/* Between two groups of the committer. without: the retired key to take out; 0: a fresh key is
 * added. */
static int
change(struct call *call, struct rotation *r, size_t without)
{
    struct digest_error err;
    struct digest_keys *keys;
    struct service *svc = (struct service *)(uintptr_t)call->svc;
    if (r->n == ROTATIONS_MAX)
        return fail(call, KT_CONFLICT, "Key.TooMany", "the keys have changed %d times since the "
                    "start; restart first", ROTATIONS_MAX);
    if (!committer_pause(svc->committer, call->deadline_ms))
        return busy(call);
    bool needed = without != 0 && svc->journal && !journal_is_current(svc->journal);
    bool ok = !needed && (without == 0
                              ? digest_keys_rotate(r->path, svc->keys, &keys, &err)
                              : digest_keys_retire(r->path, svc->keys, without, &keys, &err));
    if (ok)
        put_in_force(svc, r, keys);
    else if (needed)
        rekey_journal(svc);
    committer_go_on(svc->committer);
    if (needed)
        return fail(call, KT_CONFLICT, "Key.InUse",
                    "the revocation journal was made with an older key, please retry");
    return ok ? KT_OK : fail(call, KT_UNAVAILABLE, "Key.File", "%s", err.text);
}

int
rotation_begin(struct call *call, struct rotation *r)
{
    if (pthread_mutex_trylock(&r->lock) != 0)
        return busy(call);
    int status = change(call, r, 0);
    if (status == KT_OK)
        log_line(LOG_LEVEL_NOTICE, "key.rotated", "kind=digest id=%s retired=%s",
                 digest_keys_id(call->svc->keys, 0), digest_keys_id(call->svc->keys, 1));
    pthread_mutex_unlock(&r->lock);
    return status;
}

/* --- out ---------------------------------------------------------------------------------- */

static int
find(struct call *call, struct kt_str id, size_t *ret)
{
    if (!digest_keys_find(call->svc->keys, id, ret))
        return fail(call, KT_NOT_FOUND, "Key.NotFound", "there is no key %.*s", KT_FMT(id));
    if (*ret == 0)
        return fail(call, KT_CONFLICT, "Key.Current", "key %.*s is the current one; rotate first",
                    KT_FMT(id));
    return KT_OK;
}

static int
end(struct call *call, struct rotation *r, struct kt_str id)
{
    struct reseal_needs needs[DIGEST_KEYS_MAX];
    size_t i;
    int status = find(call, id, &i);
    if (status == KT_OK)
        status = reseal_count(call, needs, DIGEST_KEYS_MAX);
    if (status != KT_OK)
        return status;
    if (needs[i].records != 0 || needs[i].tokens != 0)
        return fail(call, KT_CONFLICT, "Key.InUse",
                    "%zu records are sealed with key %.*s and %zu live tokens are told by it",
                    needs[i].records, KT_FMT(id), needs[i].tokens);
    return change(call, r, i);
}

int
rotation_end(struct call *call, struct rotation *r, struct kt_str id)
{
    if (pthread_mutex_trylock(&r->lock) != 0)
        return busy(call);
    int status = end(call, r, id);
    if (status == KT_OK)
        log_line(LOG_LEVEL_NOTICE, "key.retired", "kind=digest id=%.*s", KT_FMT(id));
    pthread_mutex_unlock(&r->lock);
    return status;
}
