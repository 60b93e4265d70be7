/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Digests made anew with the current key. Only whoever brings the secret can tell its digest, so a
 * token that is found under a retired key is noted, and the keeper gives it its new digest. */
#ifndef TOKEN_REKEY_H
#define TOKEN_REKEY_H

#include "daemon/model/token.h"

enum { REKEYS_MAX = 4096 }; /* notes until they are taken; whoever finds no room comes again */

struct rekey {
    const struct digest_keys *keys; /* whose current one the new digest was made with; NULL: free */
    unsigned char from[DIGEST_BYTES], to[DIGEST_BYTES];
};

struct rekeys;

struct rekeys *rekeys_new(void); /* NULL: no memory */
void rekeys_free(struct rekeys *); /* NULL allowed */

/* Any thread; never waits for long. */
void rekeys_note(struct rekeys *, const struct rekey *);

/* Takes up to max notes; returns how many. */
size_t rekeys_take(struct rekeys *, struct rekey *ret, size_t max);

/* What gives the token its new digest; *ret stays as it is when there is nothing to do: the secret
 * has ended, or is the old one of a rotation. 0 or a kind. */
int token_rekey(struct call *, const struct rekey *, struct batch **ret);

#endif
