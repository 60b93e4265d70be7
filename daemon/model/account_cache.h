/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Rows of accounts as they were last read, in memory, so that minting for an account that is known
 * asks the store for nothing. What is here may be out of date: whoever uses it has the row's
 * revision as a condition of the batch (batch_if_at), and looks into the store when that fails. */
#ifndef ACCOUNT_CACHE_H
#define ACCOUNT_CACHE_H

#include "client/proto/arena.h"
#include "daemon/model/uuid.h"
#include "daemon/store.h"

enum {
    ACCOUNT_CACHE_MAX = 4096,      /* accounts; the oldest of those that share a place go first */
    ACCOUNT_CACHE_ROW_MAX = 2048   /* bytes of one; longer ones are not kept */
};

struct account_cache;

/* NULL: no memory. */
struct account_cache *account_cache_new(void);
void account_cache_free(struct account_cache *); /* NULL allowed */

/* Any thread, from here on; each call is over in well under a microsecond. */

/* The account's row, copied into the arena. False: not known, or no memory. */
bool account_cache_get(struct account_cache *, struct kt_arena *, const struct uuid *org,
                       struct kt_str slug, struct store_row *ret);

/* Remembers a row that was read, in place of what was known; copies it. Without memory, or when it
 * is too long, nothing is known from then on. */
void account_cache_put(struct account_cache *, const struct uuid *org, struct kt_str slug,
                       const struct store_row *);

/* The account is gone. */
void account_cache_drop(struct account_cache *, const struct uuid *org, struct kt_str slug);

#endif
