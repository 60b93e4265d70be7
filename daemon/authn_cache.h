/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Callers that were verified at some cost, until they expire: bounded, keyed by a digest of the
 * credential, never holding the credential itself. Any thread. */
#ifndef AUTHN_CACHE_H
#define AUTHN_CACHE_H

#include "daemon/principal.h"

struct authn_cache;

enum { AUTHN_CACHE_ENTRIES = 8192 };

struct authn_cache *authn_cache_new(void); /* NULL: no memory */

/* Forgets everyone first; no other thread may be in it. */
void authn_cache_free(struct authn_cache *);

struct authn_key {
    unsigned char b[32];
};

/* The key of a credential within one chain and one epoch of its plugins: verdicts of an earlier
 * epoch are not found any more, and are given up as room is needed. */
struct authn_key authn_cache_key(const struct authn_cache *, const void *chain, uint64_t epoch,
                                 struct kt_secret_view credential);

/* A reference to the principal, or NULL: not there, or expired at now_ms. */
struct principal *authn_cache_get(struct authn_cache *, const struct authn_key *, int64_t now_ms);

/* Remembers who (it takes a reference of its own), in place of an older entry when it is full. A
 * principal without an expiry is not remembered. */
void authn_cache_put(struct authn_cache *, const struct authn_key *, struct principal *who);

#endif
