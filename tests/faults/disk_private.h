/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the files of disk.so share, see disk.h: disk.c decides, disk_file.c has the calls on
 * descriptors, disk_name.c those on names. */
#ifndef DISK_PRIVATE_H
#define DISK_PRIVATE_H

#include "tests/faults/disk.h"

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#define EXPORT __attribute__((visibility("default")))
#define REAL(name) ((__typeof__(&name))disk_real(#name))

/* The function of this name that would have been called without us. */
void *disk_real(const char *name);

/* Around each change and its record, so that the trace has the order in which things happened. */
extern pthread_mutex_t disk_lock;

/* What the test wants; says nothing when there is no test. */
extern struct disk_control *disk_orders;

/* --- whose it is -------------------------------------------------------------------------- */

enum disk_mark { DISK_OURS = 1, DISK_SYNCED = 2 }; /* below the root; opened with O_DSYNC */

/* What is known of a descriptor: bits of enum disk_mark. */
void disk_mark(int fd, unsigned char marks);
unsigned char disk_marks(int fd);

/* The path without a relative beginning. False: not below the root. */
bool disk_resolve(int dir, const char *path, char full[PATH_MAX]);

/* Whether fd is a file below the root, or a folder if that is wanted. */
bool disk_is_ours(int fd, mode_t type, struct stat *ret);

/* --- what fails --------------------------------------------------------------------------- */

/* Whether this call, one bit of disk_control.kinds, is to fail; errno is set then. Does not return
 * when the process is to be killed. */
bool disk_fails(uint32_t kind);

/* Whether a file may grow to this size; errno is set when not. */
bool disk_grows(const struct stat *, int64_t size);

/* It has this size now; gives back what it had more. */
void disk_shrinks(const struct stat *, int64_t size);

/* --- the trace, under the lock ------------------------------------------------------------ */

uint64_t disk_now_ns(void);
uint64_t disk_inode(const char *path);

/* Splits into the parent's inode, which is returned, and the last name. */
uint64_t disk_place(const char *path, char name[DISK_NAME_MAX + 1]);

/* bytes: r->n of them, for a DISK_WRITE. */
void disk_write_down(struct disk_record *r, const void *bytes);

/* Writes down that what was written so far is on the disk, unless it is to lie. */
void disk_synced(uint64_t object, uint64_t at);

#endif
