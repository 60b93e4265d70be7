/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Goes on when the daemon wants no more. */
#define BROKEN_GET broken_get
#include "tests/plugin/broken.h"

static enum kaiten_status
broken_get(void *instance, const struct kaiten_bytes *keys, size_t nkeys,
           struct kaiten_emit *emit, struct kaiten_err *err)
{
    for (size_t i = 0; i < nkeys; i++)
        memory_get(instance, &keys[i], 1, emit, err);
    return KAITEN_DONE;
}

BROKEN_PLUGIN(.caps = 0);
