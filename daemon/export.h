/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The whole store into a stream, and out of one: see model/portable.h. */
#ifndef EXPORT_H
#define EXPORT_H

#include "daemon/call.h"
#include "daemon/model/portable.h"

struct export_result {
    uint64_t records;
    int error; /* an errno: fd takes no more. 0: it was not fd that failed */
};

/* Writes every record; nobody may write the store meanwhile. 0 or a kind, with *ret set in either
 * case. Blocks for as long as the store is large. */
int export_write(struct call *, int fd, struct export_result *ret);

/* Fills the store, which must be empty, from a regular file at its beginning. The whole of it is
 * read before anything is written. While records are being written the store has a row that says
 * so: with it no daemon starts, and the next import begins anew. When one fails, what was written
 * is taken out again. 0; KT_CONFLICT: the store is not empty; KT_VALIDATION: the stream is not
 * good; or another kind. err says why, the log says more. Before the committer starts. */
int import_read(struct call *, int fd, uint64_t *ret_records, char err[PORTABLE_ERROR_MAX]);

#endif
