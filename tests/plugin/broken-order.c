/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Scans from the small end whatever was asked. */
#define BROKEN_SCAN broken_scan
#include "tests/plugin/broken.h"

static enum kaiten_status
broken_scan(void *instance, const struct kaiten_range *range, struct kaiten_emit *emit,
            struct kaiten_err *err)
{
    struct kaiten_range forward = *range;
    forward.backward = false;
    return memory_scan(instance, &forward, emit, err);
}

BROKEN_PLUGIN(.caps = 0);
