/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The audit record of a change: a write of the same batch, so that it can neither be lost nor claim
 * what did not happen. What mints is its own record: a token's row says who made it and when. */
#ifndef AUDIT_H
#define AUDIT_H

#include "daemon/call.h"
#include "daemon/store.h"

struct verdict_record;

/* operation: its name in the table; account and token may be NULL. On failure the batch has
 * failed. */
void audit_put(struct call *, struct batch *, const char *operation, const struct uuid *account,
               const struct uuid *token);

/* The same for what the daemon does to a token by itself: why, in the place of a caller's proof,
 * gives the reason. */
void audit_put_own(struct call *, struct batch *, const char *operation, const char *why,
                   const struct verdict_record *token);

#endif
