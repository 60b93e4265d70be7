/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Rows of tokens in the store's formats 1 and 2, written anew. */
#ifndef MIGRATE_H
#define MIGRATE_H

#include "daemon/call.h"

/* Both before anybody else uses the store. They block for long. What was done before an
 * interruption stays, and is not done again. 0 or a kind; the log says why. */

/* Brings the rows of tokens, claims and digests of format 1, of both forms that they had, to what
 * they are now, token by token. Later rows are left alone. */
int migrate_tokens(struct call *) __attribute__((warn_unused_result));

/* Puts the claims of format 2 where they stand now. No row of a token is of format 1 any more. */
int migrate_claims(struct call *) __attribute__((warn_unused_result));

#endif
