/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Keys that check signatures: each is parsed and judged once, when its file is read, and carries
 * exactly one algorithm, so that a token can never choose how it is checked. */
#ifndef AUTH_JWT_KEY_H
#define AUTH_JWT_KEY_H

#include <stdbool.h>
#include <stddef.h>

#include <openssl/evp.h>

#include "plugins/kaiten-plugin.h"

enum {
    KEY_FILE_MAX = 256 * 1024, /* bytes */
    KEY_SET_MAX = 256,         /* keys of one set */
    KEY_KID_MAX = 255,         /* bytes */
    KEY_SECRET_MIN = 32,       /* bytes of an HMAC key; RFC 7518 section 3.2 for HS256 */
    KEY_SECRET_MAX = 4096,
    KEY_RSA_MIN = 2048,        /* bits of a modulus; RFC 7518 section 3.3 */
    KEY_RSA_MAX = 8192,
    KEY_WHY_MAX = 256
};

enum key_family { KEY_HMAC = 1, KEY_RSA, KEY_PSS, KEY_EC, KEY_ED25519 };

/* One algorithm of RFC 7518 section 3.1 or RFC 8037 section 3.1. */
struct key_alg {
    const char *name;   /* as it stands in a header */
    enum key_family family;
    const char *digest; /* NULL: the algorithm has its own */
    const char *crv;    /* of a JWK, for KEY_EC and KEY_ED25519 */
    const char *group;  /* OpenSSL's name of the curve, for KEY_EC */
    size_t field;       /* bytes of one coordinate, for KEY_EC */
};

struct key {
    const struct key_alg *alg;
    char *kid;             /* NULL: none */
    EVP_MD *digest;        /* NULL: the algorithm has its own */
    EVP_PKEY *pkey;        /* NULL for KEY_HMAC */
    unsigned char *secret; /* KEY_HMAC only; wiped when freed */
    size_t nsecret;
};

/* Read-only after loading; then any number of threads may use it. Start from zeros. */
struct key_set {
    struct key *v;
    size_t n;
};

/* Why a file was not taken: file name and reason, for the operator. */
struct key_why {
    char text[KEY_WHY_MAX];
};

/* Takes what is worth a line but no error; NULL is allowed wherever one is asked for. */
typedef void key_log(enum kaiten_level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

enum key_flag {
    KEY_ANY_MODE = 1 /* whoever may read or write the file: for tools that hold no real secrets */
};

/* The algorithm of exactly that name, or NULL. "none" is no algorithm. */
const struct key_alg *key_alg_find(const char *name, size_t n);

/* Reads one key for one algorithm: PEM (SubjectPublicKeyInfo, PKCS #1 public key or X.509
 * certificate), or for HS* the secret itself, which nobody but the owner of the file may read; a
 * secret of printable text loses one line end. kid may be NULL. False: the set is unchanged and
 * *ret_why says why. */
bool key_set_add_file(struct key_set *, const char *path, const struct key_alg *, const char *kid,
                      unsigned flags, key_log *, struct key_why *ret_why);

/* Reads a JWK Set or a single JWK, RFC 7517. Keys that cannot check one of our algorithms are
 * logged and left out; none left is an error. False: *ret_why says why; the set may have grown. */
bool key_set_add_jwks(struct key_set *, const char *path, unsigned flags, key_log *,
                      struct key_why *ret_why);

/* Frees and wipes; the set is empty again. */
void key_set_done(struct key_set *);

#endif
