/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the store says of a secret, where the index cannot say it: of a store that others write too,
 * when the index does not know the secret, or has not been kept up to date for too long; of any
 * other, while the index is being filled. */
#ifndef ASK_H
#define ASK_H

#include "daemon/index.h"
#include "daemon/model/token.h"

enum { ASK_FILLS_MAX = 1024 }; /* answers on their way into the index; more are not kept */

/* The verdict by the same rules as the index's own. What the index knows as ended stays so, and
 * while it is being filled what the journal has as ended. *ret is filled for every verdict but
 * MALFORMED and UNKNOWN, from copies in the call's arena. A token that the index of a store with
 * other writers lacked is put there, unless something has ended in the meantime. 0 or a kind:
 * KT_UNAVAILABLE when the store cannot say. On a worker; blocks. */
int token_ask(struct call *, const struct token_digest *, struct index_hit *ret,
              enum token_judgement *ret_said) __attribute__((warn_unused_result));

/* Notes that the token was used, for whoever was told by token_ask(), with this hit, that it is
 * live. */
void token_note_asked(const struct call *, const struct token_digest *,
                      const struct index_hit *);

#endif
