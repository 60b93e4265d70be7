/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What was made with keys that have retired is made anew: digests of tokens, seals of records. */
#include "config.h"

#include "daemon/keeper_private.h"

#include "daemon/log.h"
#include "daemon/model/digest.h"
#include "daemon/service.h"

enum { SLICE_MS = 500 }; /* of a pass of sealing anew, before something else has its turn */

void
keeper_rekey(struct keeper *k)
{
    struct batch *batches[KEEPER_TOGETHER];
    struct rekey notes[KEEPER_TOGETHER];
    size_t nbatches = 0, n = rekeys_take(k->svc->rekeys, notes, KEEPER_TOGETHER);
    if (n == 0)
        return;
    keeper_begin(k);
    for (size_t i = 0; i < n; i++) {
        struct batch *b = NULL;
        if (notes[i].keys == k->svc->keys && token_rekey(&k->call, &notes[i], &b) != KT_OK)
            break; /* the log says why; whoever uses the token notes it again */
        if (!b)
            continue;
        k->moves[nbatches] = notes[i];
        batches[nbatches++] = b;
    }
    if (nbatches == 0)
        return;
    size_t missed = keeper_commit(k, batches, nbatches);
    k->nmoves = 0;
    for (size_t i = 0; i < nbatches; i++)
        if (k->jobs[i].call.err.kind == KT_OK)
            k->moves[k->nmoves++] = k->moves[i];
    k->removed = true;
    keeper_wait_for_readers(k); /* by then nobody notes uses under the old digests any more */
    keeper_flush_uses(k);
    k->nmoves = 0;
    log_line(LOG_LEVEL_DEBUG, "key.tokens", "renewed=%zu missed=%zu", nbatches - missed, missed);
}

bool
keeper_is_sealing(const struct keeper *k)
{
    return k->sealed != k->svc->keys && digest_keys_count(k->svc->keys) > 1;
}

static void
end_pass(struct keeper *k)
{
    if (k->reseal.found == 0)
        k->sealed = k->sealing;
    else
        log_line(LOG_LEVEL_INFO, "key.records", "renewed=%zu", k->reseal.found);
    k->sealing = NULL; /* and look once more whether any are left */
}

void
keeper_reseal(struct keeper *k)
{
    struct batch *batches[RESEAL_BATCHES_MAX];
    int64_t until = clock_mono_ms() + SLICE_MS;
    size_t n = 0;
    bool done = false;
    while (keeper_is_sealing(k) && k->seal_at <= clock_mono_ms() && clock_mono_ms() < until &&
           !done) {
        if (k->sealing != k->svc->keys)
            reseal_begin(&k->reseal);
        k->sealing = k->svc->keys;
        keeper_begin(k);
        if (reseal_step(&k->call, &k->reseal, batches, &n, &done) != KT_OK) {
            k->sealing = NULL; /* the log says why; later again */
            k->seal_at = clock_mono_ms() + KEEPER_PASS_MAX_MS;
            return;
        }
        (void)keeper_commit(k, batches, n);
        if (done)
            end_pass(k);
        if (keeper_rest(k, n != 0 ? KEEPER_PAUSE_MS : 0))
            return;
    }
}
