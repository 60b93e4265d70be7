/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Callers and paths for tests of the pipeline. Include it instead of core.h. */
#ifndef PIPELINE_CORE_H
#define PIPELINE_CORE_H

#include "tests/unit/core-ask.h"
#include "tests/unit/one-core.h"

#define READER "rea/acme/read:tokens"
#define NOBODY "nob/acme/read:users" /* known, and may do nothing here */

#define TOKENS "/service-accounts/sa-1/tokens"

/* How often the store was asked or changed. */
static inline size_t
disk_touched(void)
{
    return atomic_load(&core.disk->gets) + atomic_load(&core.disk->scans) +
           atomic_load(&core.disk->applies);
}

#endif
