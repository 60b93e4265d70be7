/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The bytes of a revocation journal, for journal.c and its tests. All numbers are big-endian.
 *
 * header: magic 8, format 4, 0 4, id 16, floor 8, last 8, kept 8, 0 56, MAC 16.
 * record: number 8, type 4, epoch 4, at 8, ends 8, until 8, group 8, org 16, id 32, 0 16, MAC 16.
 *
 * kept: how many records were there when the file was made; they and the header were synced before
 * it got its name. group: the number of the first record that was written together with this one;
 * everything before it was synced by then. */
#ifndef JOURNAL_FILE_H
#define JOURNAL_FILE_H

#include "daemon/journal.h"

/* The header for seen->id, floor, last and entries (as kept) under key seen->key; sets
 * seen->mac. */
void journal_put_header(const struct digest_keys *, struct journal_seen *,
                        unsigned char out[JOURNAL_RECORD_BYTES]);

/* All but group and MAC. */
void journal_put_record(const struct journal_entry *, unsigned char out[JOURNAL_RECORD_BYTES]);

/* Sets group and MAC of n records that follow what seen describes, and moves seen behind them:
 * one group, or records of a file that is made anew. */
void journal_seal_group(const struct digest_keys *, struct journal_seen *, unsigned char *records,
                        size_t n);
void journal_seal_kept(const struct digest_keys *, struct journal_seen *, unsigned char *records,
                       size_t n);

/* Says so in the log and ends the process: EX_TEMPFAIL. */
void journal_fail_sync(const char *path, int error) __attribute__((noreturn));

#endif
