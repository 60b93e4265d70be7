/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* When tokens were last used, written down. */
#include "config.h"

#include "daemon/keeper_private.h"

#include "daemon/log.h"
#include "daemon/model/token.h"
#include "daemon/model/uses.h"
#include "daemon/service.h"

#include <stdlib.h>

enum { TURNS = 3 }; /* tries to be faster than the other daemons of the store */

/* The latest use stays, whichever daemon knows of it. False: other daemons were faster, every
 * time. */
static bool
write_shared_uses(struct keeper *k, const struct used_note notes[], size_t n)
{
    struct batch *batches[USES_BATCHES_MAX];
    for (int turn = 0; turn < TURNS; turn++) {
        size_t nbatches = 0;
        keeper_begin(k);
        if (uses_propose(&k->call, notes, n, batches, &nbatches) != KT_OK)
            return false;
        if (keeper_commit(k, batches, nbatches) == 0)
            return true;
    }
    return false;
}

static bool
write_uses_with_others(struct keeper *k, const struct used_note notes[], size_t n)
{
    bool all = true;
    for (size_t i = 0; i < n; i += USES_MAX)
        all &= write_shared_uses(k, notes + i, n - i < USES_MAX ? n - i : USES_MAX);
    if (!all)
        log_line(LOG_LEVEL_WARNING, "used.lost", "notes=%zu", n);
    return all;
}

/* The token may have been given another digest since. */
static const unsigned char *
where_to(const struct keeper *k, const unsigned char digest[INDEX_KEPT_BYTES])
{
    for (size_t i = 0; i < k->nmoves; i++)
        if (memcmp(k->moves[i].from, digest, INDEX_KEPT_BYTES) == 0)
            return k->moves[i].to;
    return digest;
}

static bool
write_uses(struct keeper *k, const struct used_note notes[], size_t n)
{
    if (keeper_is_shared(k))
        return write_uses_with_others(k, notes, n);
    for (size_t i = 0; i < n;) {
        struct batch *batches[KEEPER_TOGETHER];
        size_t nbatches = 0;
        keeper_begin(k);
        for (; i < n && nbatches < KEEPER_TOGETHER; nbatches++) {
            struct batch *b = batches[nbatches] = batch_new(&k->arena);
            for (; b && i < n && b->nwrites < BATCH_WRITES_MAX; i++)
                token_put_used(b, where_to(k, notes[i].digest), notes[i].at_s);
            if (!b || b->failed)
                break;
        }
        size_t missed = nbatches == 0 ? 1 : keeper_commit(k, batches, nbatches);
        if (missed != 0) {
            log_line(LOG_LEVEL_WARNING, "used.lost", "notes=%zu", n);
            return false;
        }
    }
    return true;
}

void
keeper_flush_uses(struct keeper *k)
{
    size_t written = 0;
    for (size_t list = 0; list < USED_LISTS; list++) {
        size_t n;
        struct used_note *notes = used_take(k->svc->used, list, &n);
        if (write_uses(k, notes, n))
            written += n;
        free(notes);
    }
    if (written != 0)
        log_line(LOG_LEVEL_DEBUG, "used.written", "notes=%zu", written);
    size_t lost = used_lost(k->svc->used);
    if (lost != 0)
        log_line(LOG_LEVEL_WARNING, "used.lost", "notes=%zu", lost);
}
