/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The daemon's own JWTs: what token.validate hands out, signed with ES256 (RFC 7518 section 3.4) so
 * that whoever has the published keys can verify it. */
#ifndef SIGNER_H
#define SIGNER_H

#include "client/proto/arena.h"
#include "client/proto/value.h"
#include "daemon/index.h"

struct signer;
struct signer_keys;

struct signer_options {
    const char *path;     /* PEM file of the private key; created 0600 when it is not there */
    const char *issuer;   /* iss */
    const char *audience; /* aud */
    int64_t lifetime_ms;  /* of a JWT; never beyond its token's expiry */
};

enum {
    SIGNER_ERROR_MAX = 1024,
    SIGNER_LIFETIME_MAX_MS = 24 * 3600 * 1000, /* the longest that lifetime_ms may be */
    SIGNER_LEEWAY_MS = 5 * 60 * 1000,  /* verifiers whose clocks are late */
    SIGNER_ROTATIONS_MAX = 256         /* of one process: what was in force is kept to its end */
};

/* False: err (SIGNER_ERROR_MAX bytes) says which file and what is wrong. Main thread. */
bool signer_open(const struct signer_options *, struct signer **ret, char *err);

/* Wipes. NULL allowed. */
void signer_free(struct signer *);

/* The JWT of a live token. A view that lives until the next call on this thread: the signed form is
 * kept per thread and used again for a short while. p NULL: signing failed. Any thread. */
struct kt_str signer_jwt(struct signer *, const struct index_hit *, int64_t now_ms);

/* Of JWTs that are signed from now on; at most SIGNER_LIFETIME_MAX_MS. Any thread. */
void signer_set_lifetime(struct signer *, int64_t lifetime_ms);

/* The public keys as a JWK Set (RFC 7517 section 5): the current one, then retired ones. Lives as
 * long as the signer. Any thread. */
const struct kt_value *signer_jwks(const struct signer *);

/* The RFC 7638 thumbprint of the current key. Lives as long as the signer. */
const char *signer_kid(const struct signer *);

/* The keys in force; live as long as the signer. Any thread. */
const struct signer_keys *signer_keys(const struct signer *);

/* Signs with a fresh key from now on. The public half of the old one stays among the published keys
 * until no JWT that it has signed can be valid any more; those for which that is so by sure_ms, the
 * time that has surely passed, go. False: err, and nothing has changed. Any thread; blocks. */
bool signer_rotate(struct signer *, int64_t now_ms, int64_t sure_ms, char *err);

/* Publishes the retired key with this id no longer, nor those whose time is over; "": only these.
 * False: err, and nothing has changed. Any thread; blocks. */
bool signer_withdraw(struct signer *, const char *kid, int64_t sure_ms, char *err);

#endif
