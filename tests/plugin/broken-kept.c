/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Says that it keeps more than it claims. */
#include "tests/plugin/broken.h"

static uint64_t
broken_kept(void *instance)
{
    (void)instance;
    return KAITEN_STORAGE_DURABLE;
}

BROKEN_PLUGIN(.caps = 0, .kept = broken_kept);
