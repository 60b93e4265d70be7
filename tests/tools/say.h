/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the tools that ask kaitend's own readers have in common: its log lines go to standard error. */
#ifndef TOOLS_SAY_H
#define TOOLS_SAY_H

#include "plugins/kaiten-plugin.h"

#include <stdarg.h>
#include <stdio.h>

static void say(enum kaiten_level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void
say(enum kaiten_level level, const char *fmt, ...)
{
    va_list ap;
    (void)level;
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
}

#endif
