/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Rows of tokens in the store's format 1, of both forms that they had, written anew. */
#ifndef MIGRATE_H
#define MIGRATE_H

#include "daemon/call.h"

/* Brings the rows of tokens, claims and digests of format 1 to format 2, token by token: what was
 * done before an interruption stays, and is not done again. Rows of format 2 are left alone. Before
 * anybody else uses the store. Blocks for long. 0 or a kind; the log says why. */
int migrate_tokens(struct call *) __attribute__((warn_unused_result));

#endif
