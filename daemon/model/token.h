/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Tokens as records: keys, bytes, and the rules as conditions of batches.
 *
 * Keys (organization, account and token are 16 bytes each):
 *   t org account token  the token, in the order of minting
 *   c account text       the token's id, for the slug and the name: 16 bytes, mostly of a hash over
 *                        organization, account and text (token_row.c)
 *   h digest             the whole verdict, which the index is filled from at start. The one key
 *                        without an organization: the digest is the secret's
 *   u digest             when the secret was last used (16 bytes of the digest): never written for
 *                        a request, so that a use costs no write */
#ifndef TOKEN_H
#define TOKEN_H

#include "client/proto/ops.h"
#include "daemon/index.h"
#include "daemon/model/account.h"
#include "daemon/model/digest.h"

enum { TOKEN_SCOPES_MAX = 256, USED_FORMAT = 1 };

struct token_former {
    unsigned char digest[DIGEST_BYTES];
    bool old; /* of the old secret */
};

struct token_record {
    struct uuid id, account;
    struct kt_str name, slug;
    const struct kt_str *scopes;
    size_t nscopes;
    int64_t created_ms;
    struct actor created_by;
    int64_t expires_ms; /* 0: never */
    int64_t revoked_ms; /* 0: not revoked, by itself */
    struct actor revoked_by;
    uint32_t epoch;     /* of the account, when it was minted */
    unsigned char digest[DIGEST_BYTES];
    bool has_old;       /* a secret from before the last rotation that may still live */
    unsigned char old_digest[DIGEST_BYTES];
    int64_t old_expires_ms;
    uint32_t key;       /* digest_keys_tag() of what the digest was made with; 0: not known */
    /* What the digests of its secrets were before they were made anew with another key: a copy of
     * the store may still have them, so they end with the secret. */
    struct token_former former[DIGEST_KEYS_MAX];
    size_t nformer;
};

/* What a caller wants a new token to be. */
struct token_wish {
    struct kt_str name, slug; /* slug absent: derived */
    const struct kt_str *scopes;
    size_t nscopes;
    int64_t expires_ms;
};

/* The token of this slug; one that the end of its epoch revoked is told like any other revoked one.
 * KT_NOT_FOUND without a refusal when there is none. */
int token_load(struct call *, const struct account_record *, struct kt_str slug,
               struct token_record *ret, struct store_row *ret_row);

/* What a proposal with a new secret makes. The secret is the caller's, to show once and then to
 * unref. */
struct token_made {
    struct batch *batch;
    struct token_record token;
    struct kt_secret *secret;
};

/* Mints a token for the account, which stood in this row. */
int token_propose_create(struct call *, const struct account_record *, const struct store_row *,
                         const struct token_wish *, struct token_made *ret);

/* The row of the secret that the token has, and when it ends (0: never): perhaps before the token's
 * row says so, after the journal had to end it again. Both rows are always written together, so
 * that a token's row without one is of an older time, and KT_INTERNAL: its change would spare the
 * secret that is in use. KT_NOT_FOUND without a refusal: it has just changed; load it again. */
struct token_current {
    struct store_row row;
    int64_t ends_ms;
};
int token_current_load(struct call *, const struct token_record *, const struct store_row *,
                       struct token_current *ret);

/* A token as it was read for a change, with its account and the rows that both stood in. */
struct token_found {
    struct account_record account;
    struct token_record token;
    struct store_row account_row, row;
    struct token_current now;
};

/* A new secret for the same token; the old one ends after grace_ms, never later than it would have;
 * one from before is dead. */
int token_propose_rotate(struct call *, const struct token_found *, int64_t grace_ms,
                         struct token_made *ret);

/* All of its secrets die; its name is free again, its slug is not. now is not looked at. */
int token_propose_revoke(struct call *, const struct token_found *, struct batch **ret_batch);

/* Whether this is one of its secrets, as far as its row knows. */
bool token_has_secret(const struct token_record *, const unsigned char digest[DIGEST_BYTES]);

/* What brings the store to what an entry of the journal says; *ret stays as it is when there is
 * nothing to do. */
struct journal_entry;
int token_replay(struct call *, const struct journal_entry *, struct batch **ret);

/* The same with a JOURNAL_TOKEN entry of a secret that was made and never sent to anybody: says so
 * in the token's row, and in the audit. */
int token_withdraw(struct call *, const struct journal_entry *, struct batch **ret);

/* Adds to the entry of a dead secret what only the row of its token says: when the token ends by
 * itself, and whether it is revoked as well. Nothing when that row is gone. 0 or a kind. */
int token_describe_end(struct call *, const unsigned char digest[DIGEST_BYTES],
                       struct journal_entry *);

/* Notes that the token was used, for whoever has just found it live. Any thread that may read the
 * index. */
void token_note_use(const struct service *, const struct index_hit *, int64_t now_ms);

/* When one of its secrets was last used, in seconds since 1970; 0: never. On a worker. */
uint32_t token_last_used(const struct service *, const struct token_record *);

/* Adds the row that says so to the batch. On failure the batch has failed. */
void token_put_used(struct batch *, const unsigned char digest[INDEX_KEPT_BYTES], uint32_t at_s);

/* A secret, as its row describes it. */
struct token_secret {
    struct uuid org, account, token;
    uint32_t epoch;
    int64_t expires_ms; /* revoked: when it ended, unless it is an old row */
    bool revoked;
    unsigned char digest[DIGEST_BYTES];
    uint64_t revision;
};

/* What takes a dead secret out of the store, and its token with it when that was the token's
 * current one and has been dead for keep_ms. ended: with its account or epoch, for long enough.
 * *ret stays as it is when it has to be kept. */
int token_purge(struct call *, const struct token_secret *, bool ended, int64_t now_ms,
                int64_t keep_ms, struct batch **ret);

/* Newest first, from below the position (NULL: the newest). */
int token_scan(struct call *, const struct account_record *, const struct cursor *below,
               uint64_t limit, int (*each)(void *ctx, const struct token_record *), void *ctx);

/* Texts are views into value, lists of them are in the arena; scopes may be constants. False:
 * another form. */
bool token_decode(struct kt_arena *, struct kt_str key, struct kt_str value,
                  struct token_record *ret);

/* The token as it is answered; everything is copied to the call's arena. False: no memory. */
bool token_view(struct call *, const struct token_record *, struct kt_token *ret);

/* Tokens of one account as lists answer them. When and by whom an epoch was ended is looked up
 * after the scan: the store is not asked while it is answering. */
struct token_views {
    const struct account_record *account;
    struct kt_token *v;
    uint32_t *epochs; /* of those that the end of their epoch revoked; 0 else */
    size_t n;
};

/* Room for so many. False: no memory. */
bool token_views_init(struct call *, struct token_views *, size_t room);
int token_views_add(struct call *, struct token_views *, const struct token_record *);

/* When all have been added: fills in when and by whom an epoch was ended. */
int token_views_finish(struct call *, struct token_views *);

/* Whether this secret is good now; never blocks, on an event loop. MALFORMED is said without a
 * look-up. ASK: others write the store, and the index does not know the secret, or may not have
 * heard for too long that it has ended; or it is still being filled. token_ask() decides. */
enum token_judgement {
    TOKEN_LIVE = 0,
    TOKEN_MALFORMED,
    TOKEN_UNKNOWN,
    TOKEN_REVOKED,
    TOKEN_EXPIRED,
    TOKEN_ASK
};
enum token_judgement token_judge(const struct service *, struct kt_secret_view, int64_t now_ms,
                                 struct index_hit *ret);

/* The same in parts, for several secrets at once: the digests of all (their texts are there); on an
 * event loop, where they will be looked up, so that the processor fetches that memory meanwhile;
 * then the verdicts. */
struct token_digest {
    struct kt_secret_view text; /* borrowed until the verdict */
    const struct digest_keys *keys;
    bool has_form;
    unsigned char bytes[32];    /* under the current key, when it has the form */
};
struct token_digest token_digest(const struct service *, struct kt_secret_view);
void token_digests(const struct service *, struct token_digest list[], size_t n);
void token_fetch(const struct service *, const struct token_digest[], size_t n);
enum token_judgement token_judge_digest(const struct service *, const struct token_digest *,
                                        int64_t now_ms, struct index_hit *ret);

#endif
