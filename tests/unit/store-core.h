/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What tests of the store do with it. Include it instead of core.h. */
#ifndef STORE_CORE_H
#define STORE_CORE_H

#include "tests/unit/one-core.h"

/* Of the only batch of an apply(). */
static inline enum kaiten_status
set(struct store *store, const char *key, struct kt_str value)
{
    char why[128];
    struct kaiten_outcome outcome;
    struct batch *b = batch_new(&arena);
    batch_set(b, kt_str(key), value);
    assert_false(b->failed);
    enum kaiten_status status = store_apply(store, &b, 1, &outcome, why, sizeof why);
    return status == KAITEN_DONE ? outcome.status : status;
}

/* For store_scan(): ctx is a size_t. */
static inline int
count_row(void *ctx, const struct store_row *row)
{
    (void)row;
    ++*(size_t *)ctx;
    return KT_OK;
}

#endif
