/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Writes first and looks at the conditions afterwards, and leaves what it wrote. */
#define BROKEN_APPLY broken_apply
#include "tests/plugin/broken.h"

static enum kaiten_status
broken_apply(void *instance, const struct kaiten_batch *batches, size_t n,
             struct kaiten_outcome *outcomes, struct kaiten_err *err)
{
    for (size_t i = 0; i < n; i++) {
        memory_apply(instance, &batches[i], 1, &outcomes[i], err);
        if (outcomes[i].status != KAITEN_CONFLICT || batches[i].nwrites == 0)
            continue;
        struct kaiten_batch half = { .writes = batches[i].writes, .nwrites = 1 };
        struct kaiten_outcome ignored;
        memory_apply(instance, &half, 1, &ignored, err);
    }
    return KAITEN_DONE;
}

BROKEN_PLUGIN(.caps = 0);
