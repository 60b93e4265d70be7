/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/plugin.h"

const struct plugin_builtin plugin_builtins[] = { { .name = NULL } };
