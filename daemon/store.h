/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The only caller of a storage plugin: locks as the plugin's thread level asks, seals and checks
 * every record, and turns the plugin's statuses into ours. */
#ifndef STORE_H
#define STORE_H

#include "daemon/batch.h"
#include "daemon/call.h"

struct digest_keys;
struct store;

/* Takes an opened instance of the plugin; keys are borrowed and may be set later, before the first
 * record is read. Other ones may take their place at any time, which know those from before: what
 * was sealed with them until then stays readable. NULL: no memory. */
struct store *store_new(const struct kaiten_storage *, void *take_instance, unsigned threads);
void store_set_keys(struct store *, const struct digest_keys *);
const struct digest_keys *store_keys(const struct store *); /* those in force */

/* Closes the instance. NULL allowed. */
void store_free(struct store *);

/* Whether writes survive power loss. */
bool store_is_durable(const struct store *);

/* Which KAITEN_STORAGE_... of the plugin hold as things are set up now. Any thread. */
uint64_t store_kept(const struct store *);

/* Whether others may write the same store, so that what memory says has to be kept up to date by
 * store_changes(). */
bool store_has_outsiders(const struct store *);

struct store_row {
    struct kt_str key, value; /* value.p NULL: there is no such row. In the call's arena. */
    uint64_t revision;
    size_t sealed_by; /* with which of the keys in force; 0: the current one */
    struct kt_str stored; /* of a scan: the value as the plugin has it, sealed */
};

/* Looks up n keys; rows[i] belongs to keys[i]. Blocks. 0, KT_UNAVAILABLE or KT_INTERNAL. */
int store_get(struct call *, struct store *, const struct kt_str keys[], size_t n,
              struct store_row rows[]) __attribute__((warn_unused_result));

/* The same of one key, of which p NULL means that the arena had no room for it: KT_UNAVAILABLE.
 * KT_NOT_FOUND without a refusal: there is no such row. */
int store_get_one(struct call *, struct store *, struct kt_str key, struct store_row *ret_row)
    __attribute__((warn_unused_result));

/* First bytes of keys. */
#define STORE_SPACES "acehimrstux"

struct store_range {
    struct kt_str from, to; /* from <= key < to */
    bool backward;
    uint64_t limit;         /* 0: none */
};

/* Rows of the range, in order, until each() returns something else than 0, which is then the
 * result. The row lives only during each(). Blocks. */
int store_scan(struct call *, struct store *, const struct store_range *,
               int (*each)(void *ctx, const struct store_row *), void *ctx)
    __attribute__((warn_unused_result));

struct store_news {
    const char *spaces; /* first bytes of keys */
    const struct kaiten_position *since; /* of an earlier call; NULL: only the position is wanted */
};

/* What anybody has written into these spaces since then: the rows as they are now, in no order and
 * perhaps more than once; value.p is NULL where the row is gone. Only with store_has_outsiders(),
 * one caller at a time. KT_CONFLICT: since is of another history, or too long ago; *ret_now is set,
 * and everything has to be read again. Otherwise 0 or a kind, of which the log knows nothing yet.
 * Blocks. */
int store_changes(struct call *, struct store *, const struct store_news *,
                  int (*each)(void *ctx, const struct store_row *), void *ctx,
                  struct kaiten_position *ret_now) __attribute__((warn_unused_result));

/* Whether a value as the plugin would have it authenticates; *ret_payload is a view into it. */
bool store_is_authentic(const struct store *, struct kt_str key, struct kt_str stored,
                        struct kt_str *ret_payload);

/* Whether there is not a single row in these spaces (first bytes of keys); readable without keys.
 * Blocks. 0 or a kind. */
int store_lacks(struct call *, struct store *, const char *spaces, bool *ret_lacks)
    __attribute__((warn_unused_result));

/* Whether there is not a single row; readable without keys. Blocks. 0 or a kind. */
int store_is_empty(struct call *, struct store *, bool *ret_empty)
    __attribute__((warn_unused_result));

/* Has the plugin copy the store into an empty folder; KT_METHOD: it cannot. Blocks for long. */
int store_backup(struct call *, struct store *, const char *dir)
    __attribute__((warn_unused_result));

/* Has the plugin read all that is there, one caller at a time; what is damaged stands in the log.
 * KT_METHOD: it cannot. Blocks for long. */
int store_check(struct call *, struct store *) __attribute__((warn_unused_result));

/* True: reads and writes would work now. reason is filled otherwise. Blocks. */
bool store_is_healthy(struct store *, char *reason, size_t n);

/* How much the plugin was asked for, since store_new(). Any thread. */
struct store_counts {
    uint64_t gets, scans; /* calls, whatever came of them */
    uint64_t applies;     /* writes, each with one sync */
    uint64_t batches;     /* in those */
};

void store_count(const struct store *, struct store_counts *ret);

/* --- writing ------------------------------------------------------------------------------ */

/* Seals the values ahead of store_apply, which one thread does for everybody. Whoever owns the
 * batch may call it, once there is nothing to add. False: no memory, and the batch cannot be
 * used. */
bool store_seal(struct store *, struct batch *) __attribute__((warn_unused_result));

/* Applies n batches, at most KAITEN_APPLY_BATCHES_MAX, in one go, after sealing what is not sealed
 * yet; outcomes[i] for each. Blocks for a sync. Any other status than KAITEN_DONE: nothing was
 * written; why is filled. Called by one thread. */
enum kaiten_status store_apply(struct store *, struct batch *const batches[], size_t n,
                               struct kaiten_outcome outcomes[], char *why, size_t nwhy);

/* Applies one batch, on the thread that calls store_apply. NULL or failed: there was no memory for
 * it. 0, or a kind; KT_CONFLICT without more: a condition did not hold. */
int store_apply_one(struct call *, struct store *, struct batch *);

#endif
