/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Every token that can be accepted, in memory: digest -> verdict, without a lock, without a system
 * call, without the store.
 *
 * Writer: one thread at a time may change the index (whoever has it from committer_take_index();
 * whoever loads it before the loops start). Reader: a thread that the owner of the index takes into
 * account when it decides that a quiescent point has been passed; it holds nothing of a struct
 * index_hit beyond that. */
#ifndef INDEX_H
#define INDEX_H

#include "client/proto/str.h"
#include "daemon/model/uuid.h"

#include <stdatomic.h>

enum {
    INDEX_DIGEST_BYTES = 32,           /* what callers have */
    INDEX_KEPT_BYTES = 16,             /* how much of it is kept and compared */
    INDEX_RECORDS_MAX = 1 << 27,       /* tokens */
    INDEX_ACCOUNTS_MAX = 1 << 24,      /* accounts */
    INDEX_SCOPE_LISTS_MAX = 1 << 24,   /* different lists of scopes */
    INDEX_TEXT_MAX = 64 * 1024         /* bytes of an account's or a scope list's texts */
};

enum index_verdict {
    INDEX_LIVE = 0,
    INDEX_UNKNOWN,
    INDEX_REVOKED, /* itself, or by its account's epoch */
    INDEX_EXPIRED
};

enum index_status {
    INDEX_OK = 0,
    INDEX_PRESENT,   /* already there, in whatever state; nothing changed */
    INDEX_ABSENT,    /* not there */
    INDEX_NO_MEMORY  /* no memory, or a limit above; nothing changed */
};

/* 64 bytes, one cache line. Written once before it can be found; only the atomic members change. */
struct index_record {
    unsigned char digest[INDEX_KEPT_BYTES];
    struct uuid token;
    _Atomic int64_t expires_ms; /* milliseconds since 1970; 0: never */
    uint32_t account;
    uint32_t scopes;
    uint32_t epoch;             /* the account's epoch when this was made */
    _Atomic uint32_t state;     /* 0 live, else revoked */
    _Atomic uint32_t last_used; /* seconds since 1970; 0: never */
    uint32_t round;             /* the writer's: of the last sweep that it was seen in */
};

/* Texts of an account that may change together; immutable, replaced as a whole. */
struct index_account_text {
    struct kt_str org_ext; /* the organization's external id */
    struct kt_str slug;
    struct kt_str ext_id;  /* ksa_… */
    struct kt_str name;
};

enum index_account_flag { INDEX_ACCOUNT_ENDED = 1 };

struct index_account {
    struct uuid id, org;
    _Atomic(const struct index_account_text *) text;
    _Atomic uint32_t epoch; /* tokens with a smaller one are revoked */
    _Atomic uint32_t flags; /* enum index_account_flag */
    uint32_t round;         /* as above */
};

/* A list of scopes, shared by all tokens that have it; immutable. */
struct index_scopes {
    struct kt_strlist list;
    struct kt_str json;    /* ["read:tokens",…] */
    struct kt_str msgpack; /* the same as a MessagePack array */
};

struct index_hit {
    const struct index_record *record;
    const struct index_account *account;
    const struct index_account_text *text;
    const struct index_scopes *scopes;
};

struct index_stats {
    size_t records;     /* findable, in whatever state */
    size_t slots;       /* of the hash table */
    size_t accounts;
    size_t scope_lists;
    size_t bytes;       /* memory of all of it, without malloc's own overhead */
    size_t growths;     /* how often the hash table was replaced */
};

struct index;

/* retire: takes memory that readers may still be looking at and calls free(3) on it once each of
 * them has passed a quiescent point; it must not fail. NULL: there are no readers while the writer
 * writes, so it is freed at once. NULL result: no memory. */
struct index *index_new(void (*retire)(void *ctx, void *memory), void *ctx);

/* When nobody uses it any more. NULL allowed. */
void index_free(struct index *);

/* Writer only, from here to the readers. */

/* Makes room, so that the next n index_add cannot fail. INDEX_NO_MEMORY else. */
enum index_status index_reserve(struct index *, size_t n);

/* Registers an account at this epoch and gives its number. INDEX_PRESENT: known already, the number
 * is given all the same and nothing else changed. Copies the texts. */
enum index_status index_account_put(struct index *, const struct uuid *id, const struct uuid *org,
                                    const struct index_account_text *, uint32_t epoch,
                                    uint32_t *ret);

/* The number of an account. False: not registered. */
bool index_account_find(const struct index *, const struct uuid *id, uint32_t *ret);

/* Replaces the texts. INDEX_NO_MEMORY: the old ones stay. */
enum index_status index_account_rename(struct index *, uint32_t account,
                                       const struct index_account_text *);

/* Revokes every token of the account made under a smaller epoch. Epochs only rise: a smaller or
 * equal one changes nothing. Readers that start afterwards refuse those tokens. */
void index_account_set_epoch(struct index *, uint32_t account, uint32_t epoch);

/* The same, and marks the account as gone: none of its tokens is live whatever its epoch. */
void index_account_end(struct index *, uint32_t account, uint32_t epoch);

/* The number of a list of scopes, order kept; the same list has the same number. */
enum index_status index_scopes_put(struct index *, const struct kt_str scopes[], size_t n,
                                   uint32_t *ret);

struct index_token {
    struct uuid id;
    uint32_t account, scopes; /* numbers from the calls above */
    uint32_t epoch;
    int64_t expires_ms; /* 0: never */
    uint32_t last_used; /* seconds; 0: never */
    bool revoked;
};

/* From its return on the token is found. INDEX_PRESENT: the digest is there already, perhaps
 * revoked, and stays as it is. */
enum index_status index_add(struct index *, const unsigned char digest[INDEX_DIGEST_BYTES],
                            const struct index_token *);

/* What a row says that somebody else may have written: adds the token, or brings the one that is
 * there nearer to its end. Revoked stays revoked, and of two expiries the earlier one holds:
 * however often rows come and in whatever order, the last word is the same. *ret_news: what of it
 * the index did not know; *ret_until_ms: the expiry it knew before, 0: none. INDEX_PRESENT: it was
 * there. */
enum index_news {
    INDEX_NEWS_NONE = 0,
    INDEX_NEWS_REVOKED, /* known from now on as revoked */
    INDEX_NEWS_EARLIER  /* ends earlier than was known */
};
enum index_status index_merge(struct index *, const unsigned char digest[INDEX_DIGEST_BYTES],
                              const struct index_token *, enum index_news *ret_news,
                              int64_t *ret_until_ms);

/* Reading all rows again, when nobody can say what has changed: begin, merge or put everything that
 * is there, sweep. What was neither there before nor since is forgotten (tokens) or ended
 * (accounts); what was known as revoked and is still there stays so. The number of tokens that
 * went. */
void index_sweep_begin(struct index *);
size_t index_sweep(struct index *);

/* From its return on no reader accepts the token. INDEX_OK also when it was revoked before;
 * INDEX_ABSENT: no such digest. */
enum index_status index_revoke(struct index *, const unsigned char digest[INDEX_DIGEST_BYTES]);

/* It ends then, unless it ends earlier anyway; 0: nothing changes. Revoked stays revoked. */
enum index_status index_set_expiry(struct index *, const unsigned char digest[INDEX_DIGEST_BYTES],
                                   int64_t expires_ms);

/* When it was last used, as the store has it; an earlier instant than what is known is ignored.
 * Of the digest only INDEX_KEPT_BYTES are looked at. */
enum index_status index_set_used(struct index *, const unsigned char digest[INDEX_KEPT_BYTES],
                                 uint32_t last_used);

/* Forgets the digest (its row was purged); from then on it is unknown. */
enum index_status index_remove(struct index *, const unsigned char digest[INDEX_DIGEST_BYTES]);

/* Every token that is live at now_ms, in no order. Slow: it looks at all that there are. */
void index_each_live(const struct index *, int64_t now_ms,
                     void (*each)(void *ctx, const struct index_record *), void *ctx);

/* Says that every reader has passed a quiescent point since the previous call. What was removed
 * before that previous call may now be used for new tokens. Never calling it costs only memory. */
void index_quiesced(struct index *);

/* Any thread; the numbers are not from one instant while the writer writes. */
void index_stats(const struct index *, struct index_stats *ret);

/* Readers. */

/* The verdict at now_ms (milliseconds since 1970). ret (may be NULL) is filled for every verdict
 * but INDEX_UNKNOWN. Time does not depend on how much of the digest agrees. */
enum index_verdict index_find(const struct index *, const unsigned char digest[INDEX_DIGEST_BYTES],
                              int64_t now_ms, struct index_hit *ret);

/* For pipelines: call the first for all digests, then the second for all, then index_find. */
void index_prefetch(const struct index *, const unsigned char digest[INDEX_KEPT_BYTES]);
void index_prefetch_record(const struct index *, const unsigned char digest[INDEX_KEPT_BYTES]);

/* Notes that the token was used; true when it had not been noted for a minute, so that the caller
 * remembers to write it down. now_s: seconds since 1970. */
bool index_touch(const struct index_hit *, uint32_t now_s);

/* When the token of this digest was last used, in seconds since 1970; 0: never, or not there. */
uint32_t index_last_used(const struct index *, const unsigned char digest[INDEX_KEPT_BYTES]);

/* Account and scopes by number, for a number that some record or the writer gave. */
const struct index_account *index_account_at(const struct index *, uint32_t account);
const struct index_scopes *index_scopes_at(const struct index *, uint32_t scopes);

#endif
