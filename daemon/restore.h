/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Putting a copy of the store in its place, while nobody has it open. */
#ifndef RESTORE_H
#define RESTORE_H

#include <stdbool.h>
#include <stddef.h>

enum { RESTORE_ERROR_MAX = 5000 };

/* Copies the files of the folder from into the place to: beside it first, synced, and then under
 * its name in one step. What is there is kept as TO.old, in place of an older one, if replace;
 * without that a place that is not empty is refused. False: err, and the place is as it was. */
bool restore_folder(const char *from, const char *to, bool replace, char err[RESTORE_ERROR_MAX]);

#endif
