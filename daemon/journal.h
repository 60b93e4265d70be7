/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The revocation journal: what has ended, written down beside the digest key, outside the store. A
 * copy of the store that is put back knows nothing of what was revoked since; the journal does.
 *
 * The file is a header and records of JOURNAL_RECORD_BYTES each, so that none lies across two
 * sectors. Each is authenticated with a key derived from the digest key, over the file's id and the
 * MAC of the record before it: nothing can be changed, taken out or put elsewhere unseen. Records
 * have numbers; those that were dropped for age leave a floor in the header. Behind the last record
 * stand zeros, written beforehand: room for endings on a disk that has become full.
 *
 * What is torn off by a power cut belongs to the last group, which was never acknowledged: each
 * record says where its group began, so that a group that is not whole is told from damage. */
#ifndef JOURNAL_H
#define JOURNAL_H

#include "client/proto/str.h"
#include "daemon/model/uuid.h"

struct digest_keys;

enum {
    JOURNAL_RECORD_BYTES = 128,
    JOURNAL_ID_BYTES = 16,
    JOURNAL_DIGEST_KEPT = 16, /* bytes of a digest beside a token's id */
    JOURNAL_ENTRIES_MAX = 1 << 24, /* records of a file; the oldest must go before there are more */
    JOURNAL_ROOM = 2048,           /* records whose room is written beforehand */
    JOURNAL_MANY = 8192,           /* with fewer records the file is not made smaller */
    JOURNAL_HIGH = JOURNAL_ENTRIES_MAX / 4 * 3, /* with more, less than half is worth the work */
    JOURNAL_STEP = JOURNAL_ENTRIES_MAX / 16,
    JOURNAL_ERROR_MAX = 512
};

/* The numbers stand in the file. */
enum journal_type {
    JOURNAL_BEGIN = 1,   /* the store knows this journal */
    JOURNAL_DIGEST = 2,  /* a secret is dead */
    JOURNAL_TOKEN = 3,   /* so is its token */
    JOURNAL_CAP = 4,     /* a secret ends at ends_ms */
    JOURNAL_ACCOUNT = 5, /* an account is gone, tokens and all */
    JOURNAL_EPOCH = 6,   /* all tokens of an account are dead that are of a smaller epoch */
    JOURNAL_REVOKED = 7  /* a secret and its token are dead, also where the store knows the token
                          * but not the secret; with 16 bytes of the digest, as in the index */
};

struct journal_entry {
    uint64_t number; /* from 1; set by journal_add */
    enum journal_type type;
    uint32_t epoch;   /* ACCOUNT, EPOCH: the first that is not dead */
    int64_t at_ms;    /* when it ended */
    int64_t ends_ms;  /* CAP */
    int64_t until_ms; /* from then on every copy of the store has it expired; 0: never */
    struct uuid org;  /* ACCOUNT, EPOCH, REVOKED */
    struct uuid account; /* REVOKED */
    unsigned char id[32]; /* digest; REVOKED: half of it, then the token; ACCOUNT, EPOCH: the
                           * account, and zeros */
};

enum journal_found {
    JOURNAL_WHOLE = 0,
    JOURNAL_TORN,    /* whole up to good_bytes, and what follows was never acknowledged */
    JOURNAL_MISSING,
    JOURNAL_DAMAGED,   /* not authentic, or cut in the midst; entries up to there are good */
    JOURNAL_REFUSED,   /* there, and not read: for want of rights, or of its key or format */
    JOURNAL_UNREADABLE /* for want of memory or descriptors, or for an error of the disk */
};

struct journal_seen {
    unsigned char id[JOURNAL_ID_BYTES];
    uint64_t floor;    /* numbers from here on are all there, or had expired */
    uint64_t last;     /* of the last record, also if it was dropped; 0: there was none */
    size_t entries;    /* records */
    size_t good_bytes; /* header and good records */
    size_t key;        /* which digest key authenticates it */
    unsigned char mac[16]; /* of the last record */
    char why[128];     /* DAMAGED, REFUSED */
};

/* Reads n bytes. each() (may be NULL) gets every authentic record in order. Touches no file. */
enum journal_found journal_parse(const struct digest_keys *, const void *bytes, size_t n,
                                 void (*each)(void *ctx, const struct journal_entry *), void *ctx,
                                 struct journal_seen *ret);

/* An open journal. One thread at a time: whoever starts the daemon, then the committer; any other
 * may ask for its id. */
struct journal;

/* Reads the file. WHOLE and TORN: *ret is the journal, with what was torn cut off and room behind
 * it, both synced. each() as above. Otherwise *ret is NULL, and err says why unless it is MISSING,
 * and for REFUSED what to do about it; a file that is none of ours, or that others may write, is
 * REFUSED, too. Keys are borrowed. */
enum journal_found journal_open(const char *path, const struct digest_keys *, struct journal **ret,
                                void (*each)(void *ctx, const struct journal_entry *), void *ctx,
                                char err[JOURNAL_ERROR_MAX]);

/* How many records it may have, at most JOURNAL_ENTRIES_MAX, which it is otherwise: for tests. */
void journal_set_most(struct journal *, size_t most);

/* A new one without records, under a fresh id (0600, synced with its folder). An old file of this
 * name is kept aside as PATH.old, where it replaces an older one. NULL: err. */
struct journal *journal_create(const char *path, const struct digest_keys *,
                               char err[JOURNAL_ERROR_MAX]);

/* NULL allowed. */
void journal_close(struct journal *);

const unsigned char *journal_id(const struct journal *);
uint64_t journal_floor(const struct journal *);
uint64_t journal_last(const struct journal *); /* of what is synced */
size_t journal_entries(const struct journal *);
const struct journal_seen *journal_seen(const struct journal *);

/* Reads all that is synced once more; each() as above. False: errno, and each() may have had a part
 * of it. */
bool journal_each(struct journal *, void (*each)(void *ctx, const struct journal_entry *),
                  void *ctx);

/* Makes sure that n more records have their room on the disk. False: they have not, and there is
 * none to be had: what ends something must be refused before it is done. */
bool journal_reserve(struct journal *, size_t n);

/* Adds to the group that the next journal_sync() writes, at most what was reserved. */
void journal_add(struct journal *, const struct journal_entry *);

/* Writes the group and syncs it. When that fails nobody can say what the disk has: the process
 * ends at once with EX_TEMPFAIL, and nothing of the group is acknowledged. Does nothing for an
 * empty group. */
void journal_sync(struct journal *);

/* Other digest keys are in force, which know the one that the file was made with. They are borrowed
 * from now on. */
void journal_set_keys(struct journal *, const struct digest_keys *);

/* Whether the file was made with the current key; else journal_compact() writes it anew. */
bool journal_is_current(const struct journal *);

/* Whether there is no more room for the endings of a group, however much there is on the disk. */
bool journal_is_full(const struct journal *);

/* Writes a full one anew without its oldest quarter, though that may not have expired: it must be
 * in the store, which knows of all up to number. Copies of the store that lack something of it are
 * older than the floor from then on. True: there is room again. False: errno, and the old file
 * stays; EBUSY: too little of it is known. */
bool journal_drop_oldest(struct journal *, uint64_t number);

/* Writes the file anew, without what has expired by now_ms, and without what is older than
 * keep_ms (0: nothing is too old), if that is worth the work. For its age nothing goes but what
 * the store knows, which is all up to number: one that is behind the floor is taken for an old
 * copy. False: errno, and the old file stays. */
bool journal_compact(struct journal *, int64_t now_ms, int64_t keep_ms, uint64_t number);

/* Whether it is, when kept of n records stay: half of them go, or of a file that may become full
 * so many that it is not looked at again too soon. Pure. */
bool journal_is_worth(size_t n, size_t kept);

/* With how many records that is to be asked again, when so many were there the last time. Pure. */
size_t journal_next_look(size_t left);

#endif
