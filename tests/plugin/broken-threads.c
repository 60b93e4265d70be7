/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Claims that anything may run beside anything; nothing in it is locked. */
#include "tests/plugin/broken.h"

BROKEN_PLUGIN(.threads = KAITEN_THREADS_PARALLEL);
