/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the committer tells the revocation journal: after the store, before the index and the
 * answers. On the committer's thread, whose the journal is. */
#ifndef COMMIT_JOURNAL_H
#define COMMIT_JOURNAL_H

#include "daemon/journal.h"
#include "daemon/request.h"

struct batch;
struct service;

struct commit_journal {
    struct service *svc;
    size_t shrunk;   /* records of the journal when it was last looked at for what may go */
    int64_t shrunk_ms; /* and when that was, of the monotonic clock */
    int64_t again_ms; /* not before is space made in it again, which failed */
    uint64_t marked; /* what the store knows of the journal */
    uint64_t marking;
    struct kt_arena arena;
};

void commit_journal_init(struct commit_journal *, struct service *);
void commit_journal_done(struct commit_journal *);

/* How many records the endings of a batch take. */
size_t commit_journal_count(const struct batch *);

/* Adds them to the group that journal_sync() writes; their room is reserved. */
void commit_journal_write(struct commit_journal *, const struct batch *, int64_t now_ms);

/* Nobody knows whether the store has the batch: what it ends, and secrets that nobody was handed,
 * are done again in the background until it has. room: the journal has some for the latter. */
void commit_journal_unsettled(struct commit_journal *, const struct request *, bool room,
                              int64_t now_ms);

/* The batch is durable, but its caller was answered before that. Whether it has made a secret that
 * nobody can come to know any more, one at most, and then what is to be done about it. */
bool commit_journal_unsent(const struct request *, struct journal_entry *ret);

/* Has such secrets revoked in the background, also by the next start if this daemon ends before. */
void commit_journal_withdraw(struct commit_journal *, const struct journal_entry entries[],
                             size_t n);

/* What the journal had synced before a group that ends something goes into the store with it, and
 * what it is to be told of these batches; marked(): it has. NULL: no memory. */
struct batch *commit_journal_mark(struct commit_journal *, struct batch *const batches[],
                                  size_t n);
void commit_journal_marked(struct commit_journal *);

/* One that is full gets room for endings again: its oldest go. */
void commit_journal_make_space(struct commit_journal *);

/* Makes a journal smaller that has grown much, or that is full. */
void commit_journal_shrink(struct commit_journal *);

#endif
