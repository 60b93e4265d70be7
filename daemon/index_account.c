/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Accounts: their texts and epochs. */
#include "config.h"

#include "daemon/index_private.h"

#include <stdlib.h>

static uint64_t
account_hash(const struct index *index, uint32_t number)
{
    return index_map_hash(index, account_at(index, number)->id.b, sizeof(struct uuid));
}

static bool
is_account(const struct index *index, uint32_t number, const void *id)
{
    return uuid_compare(&account_at(index, number)->id, id) == 0;
}

bool
index_account_find(const struct index *index, const struct uuid *id, uint32_t *ret)
{
    return index_map_find(index, &index->account_map, index_map_hash(index, id->b, sizeof(id->b)),
                          is_account, id, ret);
}

/* One block of memory, for free(3). */
static struct index_account_text *
text_new(const struct index_account_text *from, size_t *ret_bytes)
{
    const size_t lengths[] = { from->org_ext.n, from->slug.n, from->ext_id.n, from->name.n };
    size_t n = sizeof(*from);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        if (lengths[i] > INDEX_TEXT_MAX)
            return NULL;
        n += lengths[i] + 1;
    }
    struct index_account_text *text = n > INDEX_TEXT_MAX ? NULL : malloc(n);
    if (text == NULL)
        return NULL;
    char *p = (char *)(text + 1);
    text->org_ext = index_copy_text(&p, from->org_ext);
    text->slug = index_copy_text(&p, from->slug);
    text->ext_id = index_copy_text(&p, from->ext_id);
    text->name = index_copy_text(&p, from->name);
    *ret_bytes = n;
    return text;
}

static size_t
text_bytes(const struct index_account_text *text)
{
    return sizeof(*text) + text->org_ext.n + text->slug.n + text->ext_id.n + text->name.n + 4;
}

enum index_status
index_account_put(struct index *index, const struct uuid *id, const struct uuid *org,
                  const struct index_account_text *from, uint32_t epoch, uint32_t *ret)
{
    size_t n = counted(&index->naccounts), bytes;
    if (index_account_find(index, id, ret)) {
        account_at(index, *ret)->round = index->round;
        return INDEX_PRESENT;
    }
    if (n >= INDEX_ACCOUNTS_MAX ||
        !index_have_chunk(index, index->accounts, n / ACCOUNT_CHUNK,
                    ACCOUNT_CHUNK * sizeof(struct index_account)) ||
        !index_map_reserve(index, &index->account_map, account_hash))
        return INDEX_NO_MEMORY;
    struct index_account_text *text = text_new(from, &bytes);
    if (text == NULL)
        return INDEX_NO_MEMORY;
    struct index_account *account = account_at(index, (uint32_t)n);
    account->id = *id;
    account->org = *org;
    account->round = index->round;
    atomic_store_explicit(&account->epoch, epoch, memory_order_relaxed);
    atomic_store_explicit(&account->flags, 0, memory_order_relaxed);
    atomic_store_explicit(&account->text, text, memory_order_release);
    index_map_add(&index->account_map, account_hash(index, (uint32_t)n));
    count(&index->naccounts, 1);
    count(&index->bytes, bytes);
    *ret = (uint32_t)n;
    return INDEX_OK;
}

enum index_status
index_account_rename(struct index *index, uint32_t number, const struct index_account_text *from)
{
    size_t bytes;
    struct index_account_text *text = text_new(from, &bytes);
    if (text == NULL)
        return INDEX_NO_MEMORY;
    struct index_account *account = account_at(index, number);
    const struct index_account_text *old =
        atomic_exchange_explicit(&account->text, text, memory_order_acq_rel);
    count(&index->bytes, bytes);
    uncount(&index->bytes, text_bytes(old));
    index_give_up(index, (void *)(uintptr_t)old);
    return INDEX_OK;
}

void
index_account_set_epoch(struct index *index, uint32_t number, uint32_t epoch)
{
    struct index_account *account = account_at(index, number);
    if (epoch > atomic_load_explicit(&account->epoch, memory_order_relaxed))
        atomic_store_explicit(&account->epoch, epoch, memory_order_release);
}

void
index_account_end(struct index *index, uint32_t number, uint32_t epoch)
{
    index_account_set_epoch(index, number, epoch);
    atomic_fetch_or_explicit(&account_at(index, number)->flags, INDEX_ACCOUNT_ENDED,
                             memory_order_release);
}
