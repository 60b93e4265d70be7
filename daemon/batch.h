/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What an operation proposes: conditions, writes, and what the verification index must learn of
 * them. All of it happens or nothing. */
#ifndef BATCH_H
#define BATCH_H

#include "client/proto/arena.h"
#include "client/proto/error.h"
#include "daemon/model/uuid.h"
#include "plugins/kaiten-storage.h"

struct account_record;
struct digest_keys;
struct store_row;

/* What to answer when a condition turns out not to hold. The text is put together only then. */
struct refusal {
    enum kt_kind kind; /* KT_OK: the world changed under us, look again */
    const char *code;
    const char *before;
    struct kt_str name; /* between the two; n 0: nothing. Lives as long as the batch */
    const char *after;  /* NULL: nothing */
};

/* What the verification index must learn once the batch is durable. */
enum effect_type {
    EFFECT_NONE = 0,
    EFFECT_ACCOUNT,       /* account: register or rename */
    EFFECT_ACCOUNT_EPOCH, /* account: tokens of epochs below this one are dead */
    EFFECT_ACCOUNT_END,   /* account is gone, tokens and all */
    EFFECT_TOKEN,         /* digest: a new token of account */
    EFFECT_REVOKE,        /* digest */
    EFFECT_REMOVE,        /* digest: its row is gone; from now on it is unknown */
    EFFECT_QUIESCED,      /* nobody reads what was removed before the last one of these */
    EFFECT_EXPIRY         /* digest: ends at expires_ms */
};

struct effect {
    enum effect_type type;
    const struct account_record *account;
    const struct kt_str *scopes;
    size_t nscopes;
    struct uuid token;
    unsigned char digest[32];
    uint32_t epoch;
    int64_t expires_ms;  /* 0: never */
    int64_t until_ms;    /* REVOKE, EXPIRY: when it would have ended anyway; 0: never */
    uint32_t last_used;  /* TOKEN: seconds since 1970; 0: never */
    /* REVOKE, EXPIRY: what the digest was under keys from before; in the arena of the batch. */
    const unsigned char (*former)[32];
    size_t nformer;
    bool whole;          /* REVOKE: the token of the account, not only this secret of it */
    uint32_t number, list; /* the committer's own */
};

enum { BATCH_CONDS_MAX = 4, BATCH_WRITES_MAX = 8, BATCH_EFFECTS_MAX = 4 };

/* Lives in the arena of its request. A batch that got too large, or for which memory was short,
 * has failed set and is refused by the commit step. */
struct batch {
    struct kaiten_cond conds[BATCH_CONDS_MAX];
    struct refusal refusals[BATCH_CONDS_MAX];
    size_t nconds;
    struct kaiten_write writes[BATCH_WRITES_MAX];
    size_t nwrites;
    struct effect effects[BATCH_EFFECTS_MAX];
    size_t neffects;
    bool urgent; /* a revocation, or what it needs: also written when the disk is full */
    bool failed;
    bool sealed; /* by store_seal, or its values came so */
    /* What its digests were made with, and its values are sealed with. NULL: not decided yet. Once
     * others are in force the committer has the operation run again. */
    const struct digest_keys *keys;
    struct kt_arena *arena;
};

/* NULL: no memory. Whoever owns the batch adds to it, one thread at a time. */
struct batch *batch_new(struct kt_arena *);

/* The row must still be as it was read; if not, the operation runs again. */
void batch_if_at(struct batch *, const struct store_row *);

/* The key must be free; if not, refuse (kind KT_OK: run again). The batch must set the key. */
void batch_if_absent(struct batch *, struct kt_str key, struct refusal refuse);

/* Both are borrowed for as long as the batch lives. p NULL, because there was no memory for one of
 * them, is noted here like everything else: the batch has failed. */
void batch_set(struct batch *, struct kt_str key, struct kt_str value);
void batch_delete(struct batch *, struct kt_str key);

/* Adds an effect to be filled in. Never NULL; when there are too many the batch has failed. */
struct effect *batch_effect(struct batch *, enum effect_type);

#endif
