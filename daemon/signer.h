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

struct signer_options {
    const char *path;     /* PEM file of the private key; created 0600 when it is not there */
    const char *issuer;   /* iss */
    const char *audience; /* aud */
    int64_t lifetime_ms;  /* of a JWT; never beyond its token's expiry */
};

enum { SIGNER_ERROR_MAX = 1024 };

/* False: err (SIGNER_ERROR_MAX bytes) says which file and what is wrong. Main thread. */
bool signer_open(const struct signer_options *, struct signer **ret, char *err);

/* Wipes. NULL allowed. */
void signer_free(struct signer *);

/* The JWT of a live token. A view that lives until the next call on this thread: the signed form is
 * kept per thread and used again for a short while. p NULL: signing failed. Any thread. */
struct kt_str signer_jwt(struct signer *, const struct index_hit *, int64_t now_ms);

/* The public key as a JWK Set (RFC 7517 section 5). Lives as long as the signer. */
const struct kt_value *signer_jwks(const struct signer *);

/* Its RFC 7638 thumbprint. Lives as long as the signer. */
const char *signer_kid(const struct signer *);

#endif
