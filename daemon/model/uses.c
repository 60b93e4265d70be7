/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/uses.h"

#include "daemon/model/token_row.h"
#include "daemon/service.h"

static struct batch *
batch_with_room(struct call *call, struct batch *ret[], size_t *n)
{
    if (*n != 0 && ret[*n - 1]->nconds < BATCH_CONDS_MAX)
        return ret[*n - 1];
    struct batch *b = batch_new(call->arena);
    if (b)
        ret[(*n)++] = b;
    return b;
}

int
uses_propose(struct call *call, const struct used_note notes[], size_t n,
             struct batch *ret[USES_BATCHES_MAX], size_t *ret_n)
{
    struct kt_str keys[USES_MAX] = { { NULL, 0 } };
    struct store_row rows[USES_MAX];
    *ret_n = 0;
    for (size_t i = 0; i < n; i++)
        if (!(keys[i] = token_row_used(call->arena, notes[i].digest)).p)
            return fail_memory(call);
    int status = store_get(call, call->svc->store, keys, n, rows);
    for (size_t i = 0; i < n && status == KT_OK; i++) {
        unsigned char digest[INDEX_KEPT_BYTES];
        uint32_t at_s;
        if (!token_row_read_used(&rows[i], digest, &at_s))
            return fail_record(call, 'u');
        if (at_s >= notes[i].at_s)
            continue;
        struct batch *b = batch_with_room(call, ret, ret_n);
        if (!b)
            return fail_memory(call);
        if (rows[i].value.p)
            batch_if_at(b, &rows[i]);
        else
            batch_if_absent(b, keys[i], (struct refusal){ .kind = KT_OK });
        token_put_used(b, notes[i].digest, notes[i].at_s);
        if (b->failed)
            return fail_memory(call);
    }
    return status;
}
