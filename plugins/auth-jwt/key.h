/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Keys that check signatures: each is parsed and judged once, when its file is read, and carries
 * exactly one algorithm, so that a token can never choose how it is checked. */
#ifndef AUTH_JWT_KEY_H
#define AUTH_JWT_KEY_H

#include <stdbool.h>
#include <stddef.h>

#include <openssl/evp.h>

#include "plugins/auth-jwt/keyfile.h"
#include "plugins/kaiten-plugin.h"

enum {
    KEY_SET_MAX = 256,         /* keys of one set */
    KEY_KID_MAX = 255,         /* bytes */
    KEY_SECRET_MAX = 4096,     /* bytes of an HMAC key */
    KEY_RSA_MIN = 2048,        /* bits of a modulus; RFC 7518 section 3.3 */
    KEY_RSA_MAX = 16384,
    KEY_EXPONENT_MIN = 17,     /* bits of an RSA exponent */
    KEY_EXPONENT_MAX = 64,
    KEY_EXPONENT_BYTES = 16    /* as a JWK has it, leading zeros included */
};

enum key_family { KEY_HMAC = 1, KEY_RSA, KEY_PSS, KEY_EC, KEY_EDDSA };

/* One algorithm of RFC 7518 section 3.1, RFC 8037 section 3.1 or RFC 9864 section 2.2. */
struct key_alg {
    const char *name;   /* as it stands in a header */
    enum key_family family;
    const char *digest; /* NULL: the algorithm has its own */
    const char *crv;    /* of a JWK; NULL: it has none, or either one of KEY_EDDSA */
    const char *group;  /* OpenSSL's name of the curve, for KEY_EC */
    size_t field;       /* bytes of one coordinate, for KEY_EC */
    int pkey;           /* OpenSSL's id of such keys, where crv is one of KEY_EDDSA */
    size_t secret_min;  /* bytes of a secret, for KEY_HMAC */
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

/* Takes what is worth a line but no error; NULL is allowed wherever one is asked for. */
typedef void key_log(enum kaiten_level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The algorithm of exactly that name, or NULL. "none" is no algorithm. */
const struct key_alg *key_alg_find(const char *name, size_t n);

/* The algorithm after that one; NULL: the first, and after the last one NULL. */
const struct key_alg *key_alg_next(const struct key_alg *);

/* Whether a token of that algorithm is for this key: the algorithm is the key's. EdDSA and the name
 * of the key's curve are the same one (RFC 9864 section 2.2), so that an issuer may change from
 * one name to the other. */
bool key_serves(const struct key *, const struct key_alg *);

/* Puts one key for one algorithm into the set: PEM (SubjectPublicKeyInfo, PKCS #1 public key or
 * X.509 certificate), or for HS* the secret itself, which nobody but the owner of the file may read
 * and which is not weak; a secret of printable text loses one line end. kid may be NULL; one that
 * the set has already is refused. flags: enum key_flag. False: the set is unchanged and *ret_why
 * says why. */
bool key_set_add_text(struct key_set *, struct keyfile *, const struct key_alg *, const char *kid,
                      unsigned flags, struct key_why *ret_why);

/* The same of a file by its path, which *ret_why then names. */
bool key_set_add_file(struct key_set *, const char *path, const struct key_alg *, const char *kid,
                      unsigned flags, struct key_why *ret_why);

/* Copies all keys of another set. False: the set is unchanged; a key id would stand twice, or there
 * is no memory. */
bool key_set_merge(struct key_set *, const struct key_set *from, struct key_why *ret_why);

bool key_set_has_kid(const struct key_set *, const char *kid);

/* Frees and wipes; the set is empty again. */
void key_set_done(struct key_set *);

/* --- for jwk.c --- */

/* Is this a public key that is strong enough, and of the kind and curve of the algorithm? */
bool key_check_pkey(EVP_PKEY *, const struct key_alg *, struct key_why *ret_why);

/* Judges a secret for the key's algorithm and copies it into the key. */
bool key_take_secret(struct key *, const void *p, size_t n, struct key_why *ret_why);

/* Completes a key and puts it into the set; takes what it holds, also on failure. */
bool key_set_take(struct key_set *, struct key *take_key, const char *kid, struct key_why *ret_why);

void key_done(struct key *);

#endif
