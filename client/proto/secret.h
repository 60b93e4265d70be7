/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Secrets in memory: small blobs in a page-locked pool that core dumps leave out, each with one
 * owner, who wipes it. They are never printed, never logged, never copied into an arena. */
#ifndef KT_SECRET_H
#define KT_SECRET_H

#include "client/proto/str.h"

enum {
    KT_SECRET_MAX = 128,        /* bytes one secret may have */
    KT_SECRET_COUNT_MAX = 65536 /* secrets alive at once in one process */
};

struct kt_secret;

/* All of these may be called from any thread. */

/* Copies n bytes (0..KT_SECRET_MAX); the caller owns the secret and still has to wipe its own
 * bytes. NULL: too long, too many alive, or no memory. */
struct kt_secret *kt_secret_new(const void *bytes, size_t n);

/* n zero bytes to be filled in place through ret_p before anybody else sees the secret. A NUL that
 * is not counted follows. NULL as above. */
struct kt_secret *kt_secret_alloc(size_t n, char **ret_p);

/* Wipes it. Returns NULL, also for NULL. */
struct kt_secret *kt_secret_free(struct kt_secret *);

/* The bytes, borrowed as long as the secret lives. NULL gives an absent view. */
struct kt_secret_view kt_secret_view(const struct kt_secret *);

/* Whether every page of the pool is locked in memory; false once the limit on locked memory was
 * reached (the pool goes on unlocked). Maps the first pages when there are none yet. */
bool kt_secret_locked(void);

/* How many secrets are alive. */
size_t kt_secret_count(void);

#endif
