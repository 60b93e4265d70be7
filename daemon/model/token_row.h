/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The rows that a token has in the store: keys and bytes. For the files of this folder whose name
 * begins with token; token.h says what the keys are. */
#ifndef TOKEN_ROW_H
#define TOKEN_ROW_H

#include "daemon/model/token.h"

/* Keys in the arena; p NULL: no memory. The first is space, organization, account and n bytes. */
struct kt_str token_row_key_of(struct kt_arena *, char space, const struct uuid *org,
                               const struct uuid *account, const void *rest, size_t n);
struct kt_str token_row_key(struct kt_arena *, const struct uuid *org, const struct uuid *account,
                            const struct uuid *token);
struct kt_str token_row_digest(struct kt_arena *, const unsigned char digest[DIGEST_BYTES]);

struct kt_str token_row_used(struct kt_arena *, const unsigned char digest[INDEX_KEPT_BYTES]);

/* When the token was last used according to such a row; value.p NULL: 0, never. False: it has
 * another form. */
bool token_row_read_used(const struct store_row *, unsigned char ret_digest[INDEX_KEPT_BYTES],
                         uint32_t *ret_at_s);

/* kind: s for a slug, n for a name. */
struct kt_str token_row_claim(struct kt_arena *, const struct uuid *org,
                              const struct uuid *account, struct kt_str text, char kind);

/* The same as the store's format 2 had it. */
struct kt_str token_row_claim_2(struct kt_arena *, const struct uuid *org,
                                const struct uuid *account, struct kt_str text, char kind);

/* p NULL: no memory. token_decode() is in token.h. */
struct kt_str token_row_encode(struct kt_arena *, const struct token_record *);

/* The token with this id; of the account only the ids count. KT_NOT_FOUND without a refusal. */
int token_row_load(struct call *, const struct account_record *, const struct uuid *id,
                   struct token_record *ret, struct store_row *ret_row);

/* The row of a claim, and the token that has it. KT_NOT_FOUND without a refusal: it is free. */
int token_row_holder(struct call *, struct kt_str key, struct store_row *ret_row,
                     struct uuid *ret_id);

#endif
