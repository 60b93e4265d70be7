/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The file of the signing key: the private key in PEM, then the public halves of those before it,
 * each with the instant until which some JWT may still be verified with it. For signer.c. */
#ifndef SIGNER_FILE_H
#define SIGNER_FILE_H

#include "client/proto/check.h"

#include <openssl/evp.h>

enum {
    SIGNER_KEYS_MAX = 16,      /* in a file, the current one among them */
    SIGNER_COORDINATE = 32,    /* bytes of x, y, r and s on P-256 */
    SIGNER_DER_MAX = 128
};

struct signer_public {
    char kid[KT_B64URL_LEN(32) + 1]; /* RFC 7638 thumbprint */
    char x[KT_B64URL_LEN(SIGNER_COORDINATE) + 1], y[KT_B64URL_LEN(SIGNER_COORDINATE) + 1];
    int64_t until_ms;                /* 0: the current one */
    unsigned char der[SIGNER_DER_MAX]; /* SubjectPublicKeyInfo (RFC 5280 section 4.1) */
    size_t nder;
};

struct signer_keys {
    EVP_PKEY *key;
    struct signer_public publics[SIGNER_KEYS_MAX]; /* the current one first */
    size_t n;
};

/* A fresh P-256 key, in no file yet. The caller frees ret->key. False: err (SIGNER_ERROR_MAX). */
bool signer_keys_make(struct signer_keys *ret, char *err);

/* Reads the file, which must be ours alone. The caller frees ret->key. False: err. */
bool signer_file_read(const char *path, struct signer_keys *ret, char *err);

/* Writes it: whole, synced, for its owner only. replace: over the one that is there; else there
 * must be none. False: err. */
bool signer_file_write(const char *path, const struct signer_keys *, bool replace, char *err);

#endif
