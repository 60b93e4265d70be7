/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Putting a copy of the store in its place, while nobody has it open. */
#ifndef RESTORE_H
#define RESTORE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

enum { RESTORE_ERROR_MAX = 5000 };

struct restore_how {
    bool replace; /* what is there is kept as TO.old, in place of an older one */
    const struct stat *owner; /* for root: whose the folder and its files are to be; NULL: ours */
};

/* Copies the files of the folder from into the place to: beside it first, synced, and then under
 * its name in one step. Without replace a place that is not empty is refused. False: err, and the
 * place is as it was, unless err says that the copy is there. */
bool restore_folder(const char *from, const char *to, const struct restore_how *,
                    char err[RESTORE_ERROR_MAX]);

#endif
