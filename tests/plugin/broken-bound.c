/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Takes the upper end of a range for a part of it. */
#define BROKEN_SCAN broken_scan
#include "tests/plugin/broken.h"

static enum kaiten_status
broken_scan(void *instance, const struct kaiten_range *range, struct kaiten_emit *emit,
            struct kaiten_err *err)
{
    unsigned char to[KAITEN_KEY_MAX + 1];
    struct kaiten_range wider = *range;
    if (range->to.n > 0) {
        memcpy(to, range->to.p, range->to.n);
        to[range->to.n] = 0;
        wider.to = (struct kaiten_bytes){ to, range->to.n + 1 };
    }
    return memory_scan(instance, &wider, emit, err);
}

BROKEN_PLUGIN(.caps = 0);
