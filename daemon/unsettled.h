/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What counts as ended although the store could not say whether it has it: a commit whose answer
 * was lost. It is done again until the store has it and no such commit can turn up any more, in the
 * background; the journal has it, too, for a daemon that ends before that.
 *
 * Among it are new secrets that were not handed out, because nobody knew whether they are in the
 * store, and that no idempotency key leads to. */
#ifndef UNSETTLED_H
#define UNSETTLED_H

#include "daemon/journal.h"

enum {
    UNSETTLED_MAX = 1024, /* more are left to the journal, and thereby to the next start */
    UNSETTLED_MS = 15 * 60 * 1000 /* how long a commit may take to turn up */
};

struct unsettled;

struct unsettled *unsettled_new(void); /* NULL: no memory */
void unsettled_free(struct unsettled *); /* NULL allowed */

/* The entry as the journal has it; it takes the place of one about the same. Any thread. */
void unsettled_add(struct unsettled *, const struct journal_entry *, int64_t mono_ms);

/* Those that are to be looked at now, at most max of them, each less and less often. Any thread. */
size_t unsettled_due(struct unsettled *, int64_t mono_ms, struct journal_entry ret[], size_t max);

/* The store was looked at, not before mono_ms, and has it, or nothing that it would end. That is
 * the last word once a commit cannot turn up any more. Any thread. */
void unsettled_found(struct unsettled *, const struct journal_entry *, int64_t mono_ms);

/* Whether the store has all that was ever added. Any thread. */
bool unsettled_is_over(struct unsettled *);

#endif
