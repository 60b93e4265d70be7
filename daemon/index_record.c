/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Records: how the writer adds, changes and removes them. */
#include "config.h"

#include "daemon/index_private.h"

#include "daemon/grow.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* False: no memory; the number is never used again then, which costs its record. */
static bool
numbers_add(struct index_numbers *list, uint32_t number)
{
    if (!grow(&list->v, list->n, &list->room, sizeof(*list->v)))
        return false;
    list->v[list->n++] = number;
    return true;
}

void
index_quiesced(struct index *index)
{
    for (size_t i = 0; i < index->old.n; i++)
        (void)numbers_add(&index->unused, index->old.v[i]);
    struct index_numbers empty = index->old;
    empty.n = 0;
    index->old = index->young;
    index->young = empty;
}

enum index_status
index_add(struct index *index, const unsigned char digest[INDEX_DIGEST_BYTES],
          const struct index_token *token)
{
    assert(token->account < counted(&index->naccounts));
    assert(token->scopes < counted(&index->nscopes));
    if (index_lookup(index, table_of(index), digest, NULL) != NULL)
        return INDEX_PRESENT;
    if (index_reserve(index, 1) != INDEX_OK)
        return INDEX_NO_MEMORY;
    uint32_t number = index->unused.n > 0 ? index->unused.v[--index->unused.n]
                                          : index->next_record++;
    struct index_record *r = record_at(index, number);
    memcpy(r->digest, digest, INDEX_KEPT_BYTES);
    r->token = token->id;
    r->account = token->account;
    r->scopes = token->scopes;
    r->epoch = token->epoch;
    r->round = index->round;
    atomic_store_explicit(&r->expires_ms, token->expires_ms, memory_order_relaxed);
    atomic_store_explicit(&r->last_used, token->last_used, memory_order_relaxed);
    atomic_store_explicit(&r->state, token->revoked ? REVOKED : LIVE, memory_order_relaxed);

    index_table_place(table_of(index), digest, number, memory_order_release);
    index->taken++;
    count(&index->nrecords, 1);
    return INDEX_OK;
}

static bool
is_earlier(int64_t a, int64_t b)
{
    return a != 0 && (b == 0 || a < b);
}

enum index_status
index_merge(struct index *index, const unsigned char digest[INDEX_DIGEST_BYTES],
            const struct index_token *token, enum index_news *ret_news, int64_t *ret_until_ms)
{
    struct index_record *r = index_lookup(index, table_of(index), digest, NULL);
    *ret_news = INDEX_NEWS_NONE;
    *ret_until_ms = 0;
    if (r == NULL) {
        enum index_status added = index_add(index, digest, token);
        if (added == INDEX_OK && token->revoked)
            *ret_news = INDEX_NEWS_REVOKED;
        return added;
    }
    r->round = index->round;
    *ret_until_ms = atomic_load_explicit(&r->expires_ms, memory_order_relaxed);
    bool known = atomic_load_explicit(&r->state, memory_order_relaxed) != LIVE;
    if (token->revoked && !known) {
        atomic_store_explicit(&r->state, REVOKED, memory_order_release);
        *ret_news = INDEX_NEWS_REVOKED;
    } else if (!known && is_earlier(token->expires_ms, *ret_until_ms)) {
        atomic_store_explicit(&r->expires_ms, token->expires_ms, memory_order_release);
        *ret_news = INDEX_NEWS_EARLIER;
    }
    return INDEX_PRESENT;
}

enum index_status
index_revoke(struct index *index, const unsigned char digest[INDEX_DIGEST_BYTES])
{
    struct index_record *r = index_lookup(index, table_of(index), digest, NULL);
    if (r == NULL)
        return INDEX_ABSENT;
    atomic_store_explicit(&r->state, REVOKED, memory_order_release);
    return INDEX_OK;
}

enum index_status
index_set_expiry(struct index *index, const unsigned char digest[INDEX_DIGEST_BYTES],
                 int64_t expires_ms)
{
    struct index_record *r = index_lookup(index, table_of(index), digest, NULL);
    if (r == NULL)
        return INDEX_ABSENT;
    if (is_earlier(expires_ms, atomic_load_explicit(&r->expires_ms, memory_order_relaxed)))
        atomic_store_explicit(&r->expires_ms, expires_ms, memory_order_release);
    return INDEX_OK;
}

enum index_status
index_set_used(struct index *index, const unsigned char digest[INDEX_KEPT_BYTES],
               uint32_t last_used)
{
    struct index_record *r = index_lookup(index, table_of(index), digest, NULL);
    if (r == NULL)
        return INDEX_ABSENT;
    if (atomic_load_explicit(&r->last_used, memory_order_relaxed) < last_used)
        atomic_store_explicit(&r->last_used, last_used, memory_order_relaxed);
    return INDEX_OK;
}

static enum index_status
take_out(struct index *index, const unsigned char *digest)
{
    struct index_table *t = table_of(index);
    uint32_t at, mask = mask_of(t);
    struct index_record *r = index_lookup(index, t, digest, &at);
    if (r == NULL)
        return INDEX_ABSENT;
    uint32_t number = (atomic_load_explicit(&t->slots[at], memory_order_relaxed) & mask) - 1;
    atomic_store_explicit(&r->state, REMOVED, memory_order_release);
    atomic_store_explicit(&t->slots[at], mask, memory_order_release);
    uncount(&index->nrecords, 1);
    (void)numbers_add(&index->young, number);
    return INDEX_OK;
}

enum index_status
index_remove(struct index *index, const unsigned char digest[INDEX_DIGEST_BYTES])
{
    return take_out(index, digest);
}

void
index_sweep_begin(struct index *index)
{
    index->round++;
}

static void
sweep_accounts(struct index *index)
{
    for (uint32_t i = 0; i < counted(&index->naccounts); i++)
        if (account_at(index, i)->round != index->round)
            index_account_end(index, i, UINT32_MAX);
}

size_t
index_sweep(struct index *index)
{
    size_t gone = 0;
    for (uint32_t i = 0; i < index->next_record; i++) {
        const struct index_record *r = record_at(index, i);
        if (r->round == index->round ||
            atomic_load_explicit(&r->state, memory_order_relaxed) == REMOVED)
            continue;
        (void)take_out(index, r->digest);
        gone++;
    }
    sweep_accounts(index);
    return gone;
}
