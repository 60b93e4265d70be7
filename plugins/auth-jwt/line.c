/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/auth-jwt/line.h"

#include <stdio.h>
#include <string.h>

bool
line_resolve(const char *where, const char *file, char *out, size_t room)
{
    const char *slash = strrchr(where, '/');
    int n = file[0] == '/' || !slash
                ? snprintf(out, room, "%s", file)
                : snprintf(out, room, "%.*s/%s", (int)(slash - where), where, file);
    return n > 0 && (size_t)n < room;
}
