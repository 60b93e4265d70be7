/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Service accounts as records: keys, bytes, and the rules as conditions of batches.
 *
 * Keys (the first byte is the space; organization and account are 16 bytes each):
 *   a org account      the account
 *   s org slug         who has the slug: the account's id
 *   x org account      a deleted account whose tokens are still to be purged
 *   r org account epoch  who revoked all tokens of this epoch (4 bytes, big-endian), and when
 *   e org time random  audit record of a change (audit.h) */
#ifndef ACCOUNT_H
#define ACCOUNT_H

#include "client/proto/ops.h"
#include "daemon/call.h"
#include "daemon/model/uuid.h"
#include "daemon/store.h"

struct actor {
    struct uuid id;
    struct kt_str name;
};

/* Texts are views into the record, or into whatever the maker took them from. */
struct account_record {
    struct uuid id, org;
    struct kt_str org_ext, name, slug, external_id;
    struct actor created_by;
    int64_t created_ms;
    uint32_t epoch; /* from ACCOUNT_EPOCH_FIRST on; tokens of smaller ones are dead */
};

enum { ACCOUNT_EPOCH_FIRST = 1 };

/* The end of an account, or of one epoch of it. */
struct account_end {
    int64_t at_ms;
    struct actor by;
};

/* The record of the account with this id, and the row it stood in. KT_NOT_FOUND without a refusal
 * when there is none. */
int account_load_id(struct call *, const struct uuid *org, const struct uuid *id,
                    struct account_record *ret, struct store_row *ret_row);

/* The same by the slug: record and row (for batch_if_at). KT_NOT_FOUND without a refusal when there
 * is none: the operation knows the words. */
int account_load(struct call *, const struct uuid *org, struct kt_str slug,
                 struct account_record *ret, struct store_row *ret_row);

/* The same from memory when the account is known there: what is given may be out of date, which the
 * condition batch_if_at(row) finds out. When it has failed, ask anew. CALL_WOULD_BLOCK on a loop
 * when the store would have to be asked. */
int account_recall(struct call *, const struct uuid *org, struct kt_str slug, bool anew,
                   struct account_record *ret, struct store_row *ret_row);

/* A fresh account of the caller's organization; slug as given, or derived when absent. */
int account_propose_create(struct call *, struct kt_str name, struct kt_str slug,
                           struct batch **ret_batch, struct account_record *ret);
int account_propose_rename(struct call *, const struct account_record *, const struct store_row *,
                           struct kt_str name, struct batch **ret_batch);
int account_propose_delete(struct call *, const struct account_record *, const struct store_row *,
                           struct batch **ret_batch);

/* Ends the account's epoch, and with it every token that the account has now, in one small batch
 * however many they are. ret: what lists say of those tokens from then on. */
int account_propose_end_epoch(struct call *, const struct account_record *,
                              const struct store_row *, struct batch **ret_batch,
                              struct account_end *ret);

/* The end of an epoch smaller than the account's own. Every such epoch has one: that it is missing
 * is answered like a bad record. */
int account_epoch_end(struct call *, const struct account_record *, uint32_t epoch,
                      struct account_end *ret);

/* What brings the store to what an entry of the journal says; *ret stays as it is when there is
 * nothing to do. */
struct journal_entry;
int account_replay(struct call *, const struct journal_entry *, struct batch **ret);

/* Newest first, from below the position (NULL: the newest). Calls each() for at most limit rows. */
struct cursor;
int account_scan(struct call *, const struct uuid *org, const struct cursor *below, uint64_t limit,
                 int (*each)(void *ctx, const struct account_record *), void *ctx);

bool account_decode(struct kt_str value, struct account_record *ret);

/* The account as it is answered, without its tokens. False: no memory. */
bool account_view(struct kt_arena *, const struct account_record *, struct kt_account *ret);
const struct kt_user *actor_view(struct kt_arena *, const struct actor *);

struct actor actor_of(const struct call *);

/* A text as the end of a key, with a letter that says what it is: a long one is cut and completed
 * by a hash, so that every name and slug fits. p NULL: no memory. */
struct kt_str key_text(struct kt_arena *, struct kt_str text, char kind);

/* Text of an id in the arena; p NULL: no memory. */
struct kt_str uuid_text(struct kt_arena *, const struct uuid *);

/* The key that every row of the newest-first list below the position is smaller than: prefix, then
 * the id that the cursor names, or the first id of its millisecond when they disagree. */
struct kt_str list_bound(struct kt_arena *, struct kt_str prefix, const struct cursor *below);

/* prefix with its last byte raised: the end of everything that begins with it. */
struct kt_str prefix_end(struct kt_arena *, struct kt_str prefix);

/* Milliseconds in a time-ordered id. */
int64_t uuid_time_ms(const struct uuid *);

#endif
