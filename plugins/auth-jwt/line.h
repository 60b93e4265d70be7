/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Lines of the configuration that name files. */
#ifndef AUTH_JWT_LINE_H
#define AUTH_JWT_LINE_H

#include <stdbool.h>
#include <stddef.h>

enum { LINE_MAX_BYTES = 4096 };

/* Where a file of the configuration is: as it stands, or beside the configuration file, which where
 * ("file:line") names. False: longer than room. */
bool line_resolve(const char *where, const char *file, char *out, size_t room);

#endif
