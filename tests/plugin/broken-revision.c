/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Gives each group the same revision. */
#define BROKEN_APPLY broken_apply
#include "tests/plugin/broken.h"

static enum kaiten_status
broken_apply(void *instance, const struct kaiten_batch *batches, size_t n,
             struct kaiten_outcome *outcomes, struct kaiten_err *err)
{
    struct memory *memory = instance;
    memory->revision = 6;
    return memory_apply(instance, batches, n, outcomes, err);
}

BROKEN_PLUGIN(.caps = 0);
