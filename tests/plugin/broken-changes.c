/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Does not tell which rows are gone. */
#define BROKEN_APPLY broken_apply
#include "tests/plugin/broken.h"

enum { WRITTEN_MAX = 1 << 16 };

/* What was written, in order; a position is how much. */
static struct {
    size_t n[WRITTEN_MAX];
    unsigned char keys[WRITTEN_MAX][KAITEN_KEY_MAX];
    size_t count;
} written;

static enum kaiten_status
broken_apply(void *instance, const struct kaiten_batch *batches, size_t n,
             struct kaiten_outcome *outcomes, struct kaiten_err *err)
{
    enum kaiten_status status = memory_apply(instance, batches, n, outcomes, err);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < batches[i].nwrites && written.count < WRITTEN_MAX; k++) {
            struct kaiten_bytes key = batches[i].writes[k].key;
            memcpy(written.keys[written.count], key.p, key.n);
            written.n[written.count++] = key.n;
        }
    return status;
}

static enum kaiten_status
broken_changes(void *instance, const struct kaiten_position *since, struct kaiten_bytes spaces,
               struct kaiten_emit *emit, struct kaiten_position *ret_now, struct kaiten_err *err)
{
    (void)spaces;
    size_t from = since ? since->at : written.count;
    *ret_now = (struct kaiten_position){ 1, written.count };
    for (size_t i = from; i < written.count; i++) {
        const struct kaiten_bytes key = { written.keys[i], written.n[i] };
        memory_get(instance, &key, 1, emit, err);
    }
    return KAITEN_DONE;
}

BROKEN_PLUGIN(.caps = KAITEN_STORAGE_OUTSIDE_WRITERS, .changes = broken_changes);
