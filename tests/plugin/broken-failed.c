/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Says that it was always the first condition. */
#define BROKEN_APPLY broken_apply
#include "tests/plugin/broken.h"

static enum kaiten_status
broken_apply(void *instance, const struct kaiten_batch *batches, size_t n,
             struct kaiten_outcome *outcomes, struct kaiten_err *err)
{
    enum kaiten_status status = memory_apply(instance, batches, n, outcomes, err);
    for (size_t i = 0; i < n; i++)
        outcomes[i].failed = 0;
    return status;
}

BROKEN_PLUGIN(.caps = 0);
