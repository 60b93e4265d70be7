/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Copies of the store for callers who may have them: the plugin makes one in a folder of our own,
 * and it is handed out in pieces by number. No path ever comes from a caller. One copy is kept at a
 * time; the next one, and the next start, take the place of one that nobody has fetched. */
#ifndef BACKUP_H
#define BACKUP_H

#include "daemon/call.h"

enum {
    BACKUP_FILES_MAX = 4096,
    BACKUP_NAME_MAX = 64,
    BACKUP_ID_MAX = 33,          /* 32 hexadecimal digits and a NUL */
    BACKUP_PIECE = 256 * 1024
};

struct backup;

struct backup_file {
    char name[BACKUP_NAME_MAX]; /* letters, digits, '.', '_' and '-'; does not begin with '.' */
    int64_t size;
};

struct backup_made {
    char id[BACKUP_ID_MAX];
    const struct backup_file *files; /* in the call's arena */
    size_t n;
};

/* folder: where a copy may stand; what is there from before is removed. NULL: errno. */
struct backup *backup_new(const char *folder);

/* Removes the copy. NULL allowed. */
void backup_free(struct backup *);

/* Makes a copy. KT_CONFLICT while another is being made, KT_METHOD when the plugin cannot. Blocks
 * for as long as the store is large. */
int backup_make(struct call *, struct backup *, struct backup_made *ret);

/* The same with one file, which any storage plugin can be filled from. Nothing is changed in the
 * store meanwhile; KT_UNAVAILABLE when that cannot be had by the deadline. */
int backup_export(struct call *, struct backup *, struct backup_made *ret);

/* A piece of at most BACKUP_PIECE bytes, in the call's arena; empty at the end of the file.
 * KT_NOT_FOUND: no such copy or file. */
int backup_read(struct call *, struct backup *, struct kt_str id, int64_t file, int64_t offset,
                struct kt_str *ret);

/* Removes the copy with this id. */
int backup_drop(struct call *, struct backup *, struct kt_str id);

#endif
