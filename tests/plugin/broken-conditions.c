/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Ignores all conditions. */
#define BROKEN_APPLY broken_apply
#include "tests/plugin/broken.h"

static enum kaiten_status
broken_apply(void *instance, const struct kaiten_batch *batches, size_t n,
             struct kaiten_outcome *outcomes, struct kaiten_err *err)
{
    for (size_t i = 0; i < n; i++) {
        struct kaiten_batch batch = batches[i];
        batch.nconds = 0;
        memory_apply(instance, &batch, 1, &outcomes[i], err);
    }
    return KAITEN_DONE;
}

BROKEN_PLUGIN(.caps = 0);
