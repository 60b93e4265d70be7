/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Files of keys that the daemon makes for itself. */
#ifndef KEYFILE_H
#define KEYFILE_H

#include <stdbool.h>
#include <stddef.h>

/* Makes a file with these n bytes that only its owner may read. It appears under its name whole and
 * synced or not at all, whenever the process or the machine ends, and an existing file is never
 * replaced. False: errno tells why, EEXIST for a file that is there. Any thread; blocks. */
bool keyfile_create(const char *path, const void *bytes, size_t n);

/* The same over a file that is there: whenever the process or the machine ends, one of the two is
 * there, whole. False: errno, and the file is as it was. If its folder cannot be synced, which of
 * the two it will be is not known: the log says so, and the process ends, EX_TEMPFAIL. Any thread;
 * blocks. */
bool keyfile_replace(const char *path, const void *bytes, size_t n);

/* Syncs the folder that a file is in, so that its name is there after a power cut. False: errno. */
bool keyfile_sync_folder(const char *path);

#endif
