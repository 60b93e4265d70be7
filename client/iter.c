/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/client.h"
#include "client/proto/ops.h"

#include <stdlib.h>

struct kaiten_account_iter {
    struct kaiten *k;
    struct kaiten_account_page *page; /* NULL: not yet begun */
    size_t next;
};

struct kaiten_token_iter {
    struct kaiten *k;
    char *account;
    struct kaiten_token_page *page;
    size_t next;
};

struct kaiten_account_iter *
kaiten_account_iter_new(struct kaiten *k)
{
    struct kaiten_account_iter *it = calloc(1, sizeof *it);
    if (it)
        it->k = k;
    return it;
}

static int
next_account_page(struct kaiten_account_iter *it)
{
    struct kaiten_account_page *page;
    const char *cursor = it->page ? it->page->next_cursor : NULL;
    int error = kaiten_account_list(it->k, cursor, KT_PAGE_MAX, &page);
    if (error)
        return error;
    kaiten_account_page_free(it->page);
    it->page = page;
    it->next = 0;
    return 0;
}

int
kaiten_account_iter_next(struct kaiten_account_iter *it, const struct kaiten_account **ret_account)
{
    while (!it->page || (it->next == it->page->nitems && it->page->next_cursor)) {
        int error = next_account_page(it);
        if (error)
            return error;
    }
    *ret_account = it->next < it->page->nitems ? it->page->items[it->next++] : NULL;
    return 0;
}

void
kaiten_account_iter_free(struct kaiten_account_iter *it)
{
    if (!it)
        return;
    kaiten_account_page_free(it->page);
    free(it);
}

struct kaiten_token_iter *
kaiten_token_iter_new(struct kaiten *k, const char *account)
{
    struct kaiten_token_iter *it = calloc(1, sizeof *it);
    char *copy = account ? strdup(account) : NULL;
    if (!it || !copy) {
        free(it);
        free(copy);
        return NULL;
    }
    it->k = k;
    it->account = copy;
    return it;
}

static int
next_token_page(struct kaiten_token_iter *it)
{
    struct kaiten_token_page *page;
    const char *cursor = it->page ? it->page->next_cursor : NULL;
    int error = kaiten_token_list(it->k, it->account, cursor, KT_PAGE_MAX, &page);
    if (error)
        return error;
    kaiten_token_page_free(it->page);
    it->page = page;
    it->next = 0;
    return 0;
}

int
kaiten_token_iter_next(struct kaiten_token_iter *it, const struct kaiten_token **ret_token)
{
    while (!it->page || (it->next == it->page->nitems && it->page->next_cursor)) {
        int error = next_token_page(it);
        if (error)
            return error;
    }
    *ret_token = it->next < it->page->nitems ? it->page->items[it->next++] : NULL;
    return 0;
}

void
kaiten_token_iter_free(struct kaiten_token_iter *it)
{
    if (!it)
        return;
    kaiten_token_page_free(it->page);
    free(it->account);
    free(it);
}
