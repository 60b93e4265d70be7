/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The store and the revocation journal: what one knows of the other, and what follows at start when
 * they disagree.
 *
 * The store has a row, "mjournal", with the journal's id and a number: every ending up to that
 * number is in the store. It is written with some later change, so it may lag behind what is true,
 * and never runs ahead of what the journal has synced. A change that ends something has in its mark
 * what the journal is to be told of it: whoever is stopped between the store and the journal knows
 * it at the next start, word for word. A store that several daemons write has such
 * a row for each of their journals, with the journal's id behind "mjournal" and when its daemon was
 * last heard of. */
#ifndef ENDINGS_H
#define ENDINGS_H

#include "daemon/call.h"
#include "daemon/journal.h"
#include "daemon/store.h"

struct unsettled;

enum { ENDINGS_TOLD_MAX = 640 }; /* which fit into a row */

/* What the journal is to be told; behind the ending of a secret what that was under other keys. */
struct endings_told {
    struct journal_entry entry; /* without its number */
    bool is_former;
};

struct endings_mark {
    bool is_there;
    unsigned char journal[JOURNAL_ID_BYTES];
    uint64_t number;
    int64_t at_ms; /* with others, when it was written; 0: nobody knows */
    const struct endings_told *told; /* at one time; in the call's arena, or borrowed */
    size_t ntold;
};

/* The row of this journal; NULL: of none, so that a store with several has no answer. 0 or a
 * kind. */
int endings_read_mark(struct call *, const struct journal *, struct endings_mark *ret);

/* Whether this is the key of such a row; and what it is called in this store, by its value, in
 * room. False: it is none. */
enum { ENDINGS_MARK_NAME_MAX = 32 };
bool endings_is_mark(struct kt_str key);
bool endings_mark_name(const struct store *, struct kt_str value, char room[ENDINGS_MARK_NAME_MAX],
                       struct kt_str *ret);

/* Adds it to the batch. On failure the batch has failed. */
void endings_put_mark(struct batch *, const struct store *, const struct journal *,
                      int64_t now_ms);

/* The same with a number of one's own, and what the journal is to be told. */
void endings_put_mark_of(struct batch *, const struct store *, const struct journal *,
                         const struct endings_mark *);

/* Whether its time is recent enough, so that it need not be written for that alone. */
bool endings_mark_is_fresh(const struct store *, const struct endings_mark *, int64_t now_ms);

enum { ENDINGS_MARK_DAYS = 90, ENDINGS_TIDY_MAX = 128 };

/* What tidies the marks: a batch for each that is not as it should be. */
struct endings_tidying {
    struct batch *batches[ENDINGS_TIDY_MAX];
    size_t n;
    size_t dropped; /* so many of them drop a mark */
};

/* Of a store with several: brings the time of this journal's mark up to date, and with others drops
 * the marks of daemons that nobody has heard of for so many days. Their journals are not known to
 * the store any more, so that one that comes back after all is in quarantine. sure_ms: the time
 * that has surely passed. What does not fit has to wait for the next time. 0 or a kind. */
int endings_tidy_marks(struct call *, const struct journal *, bool others, int64_t sure_ms,
                       struct endings_tidying *ret);

/* What has to be done at start. */
enum endings_verdict {
    ENDINGS_AGREE = 0,  /* after the endings above the mark were done again */
    ENDINGS_NEW_JOURNAL,
    ENDINGS_ROLLED_BACK /* the store may have forgotten endings that nobody can name */
};

/* fresh: the store has neither accounts nor tokens. seen is read for WHOLE and TORN only; *ret_why
 * is set for ROLLED_BACK. Pure. */
enum endings_verdict endings_judge(bool fresh, const struct endings_mark *,
                                   enum journal_found, const struct journal_seen *seen,
                                   const char **ret_why);

/* What was read from a journal. */
struct endings;

/* Above which number entries are kept for endings_replay(); of all of them it is known that they
 * are there. NULL: no memory. */
struct endings *endings_new(uint64_t above);
void endings_free(struct endings *); /* NULL allowed */

/* The same, once the entries are read. */
void endings_keep_above(struct endings *, uint64_t above);

/* For journal_open() and journal_parse(); ctx is the endings. */
void endings_add(void *ctx, const struct journal_entry *);

/* What the journal says of a secret: when it ends, or one of the others. */
#define ENDINGS_NOTHING INT64_MAX
#define ENDINGS_SECRET INT64_C(-1) /* it is dead */
#define ENDINGS_TOKEN INT64_C(-2)  /* so is its token, if this is still a secret of it */
#define ENDINGS_REVOKED INT64_C(-3) /* so is its token */
int64_t endings_of_digest(const struct endings *, const unsigned char digest[32]);

/* And of an account: the first epoch that is not dead; UINT32_MAX: it is gone. */
uint32_t endings_of_account(const struct endings *, const struct uuid *account);

/* Notes that a row, which authenticates, has something alive that the journal has dead, or does not
 * know what came after it: it was put back from an older time. */
void endings_note_risen(struct endings *);

/* How many such rows there were. */
size_t endings_risen(const struct endings *);

/* Does again in the store what the entries say, where it is not done. 0 or a kind. *ret_done: how
 * much there was to do. */
int endings_replay(struct call *, const struct endings *, size_t *ret_done);

/* Has those looked for in the background that end a secret, above the mark and since then: the
 * making of such a secret may turn up late where others write the store, too. Up to which number
 * there is none of them; UINT64_MAX: there is none at all. */
uint64_t endings_watch_late(const struct endings *, int64_t since_ms, struct unsettled *,
                            int64_t mono_ms);

/* What brings the store to what one entry says; *ret NULL: nothing has to be done. 0 or a kind. */
int endings_propose(struct call *, const struct journal_entry *, struct batch **ret);

/* What is to be done when the store's history has become another one while the journal is open: the
 * same as at start, done at once. *ret_why: why the journal cannot explain the store, NULL: it can.
 * *ret_done as above. 0 or a kind. On the committer's thread. */
int endings_explain(struct call *, struct journal *, const char **ret_why, size_t *ret_done);

/* Notes that a digest or an account is dead in the store; what the journal lacks is written down by
 * endings_heal(). Nothing happens when it is there. False: no memory. */
bool endings_note_digest(struct endings *, const unsigned char digest[32]);

/* The same of what a mark tells, where the store has it. False: no memory. */
bool endings_note_told(struct endings *, const struct endings_mark *);

/* Drops the oldest endings of a journal that is full; the store has all that is synced, and is told
 * so first. On the journal's thread. False: errno, and there is no room. */
bool endings_make_space(struct kt_arena *, struct store *, struct journal *, int64_t now_ms);

/* Tells the store of all that is synced; false: it was not told. */
bool endings_store_mark(struct kt_arena *, struct store *, const struct journal *, int64_t now_ms);

/* Writes into the journal what was noted, and deleted accounts that it lacks. 0 or a kind.
 * *ret_healed: how many. sure_ms: the time that has surely passed; what had expired by then is left
 * out, as the journal drops it, too. */
int endings_heal(struct call *, struct endings *, struct journal *, int64_t sure_ms,
                 size_t *ret_healed);

/* Revokes every token of the store, and writes that down. 0 or a kind. *ret_revoked: secrets. */
int endings_revoke_all(struct call *, struct journal *, size_t *ret_revoked);

#endif
