/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Claims to keep what it forgets. */
#include "tests/plugin/broken.h"

BROKEN_PLUGIN(.caps = KAITEN_STORAGE_DURABLE);
