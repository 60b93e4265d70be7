/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Crashes in a delete. */
#define BROKEN_APPLY broken_apply
#include "tests/plugin/broken.h"

#include <signal.h>

static enum kaiten_status
broken_apply(void *instance, const struct kaiten_batch *batches, size_t n,
             struct kaiten_outcome *outcomes, struct kaiten_err *err)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t w = 0; w < batches[i].nwrites; w++) {
            if (batches[i].writes[w].type == KAITEN_DELETE)
                raise(SIGSEGV);
        }
    }
    return memory_apply(instance, batches, n, outcomes, err);
}

BROKEN_PLUGIN(.caps = 0);
