/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Fetching a copy of the store. */
#ifndef CTL_BACKUP_H
#define CTL_BACKUP_H

#include "client/ctl/door.h"

/* How it is told. */
struct backup_form {
    bool errors_as_json;
    bool quiet; /* no note at the end */
};

/* Has the daemon make a copy, fetches it into directory, which is made (0700) and must not be
 * there yet, and syncs it. What was begun and failed is removed. Says what went wrong and returns
 * the exit code. */
int backup_fetch(struct door *, const char *directory, const struct backup_form *);

/* The same with a portable copy into a file, which is made (0600) and must not be there yet; "-":
 * standard output, unless that is a terminal. */
int export_fetch(struct door *, const char *file, const struct backup_form *);

#endif
