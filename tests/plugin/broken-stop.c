/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The whole group ends with the first batch that fails. */
#define BROKEN_APPLY broken_apply
#include "tests/plugin/broken.h"

static enum kaiten_status
broken_apply(void *instance, const struct kaiten_batch *batches, size_t n,
             struct kaiten_outcome *outcomes, struct kaiten_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && outcomes[i - 1].status != KAITEN_DONE)
            outcomes[i] = outcomes[i - 1];
        else
            memory_apply(instance, &batches[i], 1, &outcomes[i], err);
    }
    return KAITEN_DONE;
}

BROKEN_PLUGIN(.caps = 0);
