/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* JSON Web Keys and sets of them, RFC 7517, RFC 7518 section 6 and RFC 8037 section 2. */
#ifndef AUTH_JWT_JWK_H
#define AUTH_JWT_JWK_H

#include "plugins/auth-jwt/key.h"

/* Where a set comes from and what is made of it. Strings are borrowed. */
struct jwk_origin {
    const char *name;          /* file or address, for the log */
    mode_t mode;               /* of the file; 0: whatever */
    unsigned flags;            /* enum key_flag */
    const struct key_alg *alg; /* of keys that name none and whose type does not tell; NULL: RS256
                                  for RSA, and a secret is left out */
    key_log *log;              /* NULL is allowed */
};

/* Reads the n bytes of a JWK Set or of a single JWK. Keys that cannot check one of our algorithms,
 * are for something else (use, key_ops), are malformed or weak are logged and left out, RFC 7517
 * section 5; none left is an error. So is, for the whole set: a key id that stands twice, a secret
 * or a private half in a file that is open to others, more than KEY_SET_MAX keys. False: the set is
 * unchanged and *ret_why says why, without the name. Any thread. */
bool jwk_read(struct key_set *, const char *text, size_t n, const struct jwk_origin *,
              struct key_why *ret_why);

/* The same of a file by its path, which *ret_why then names. */
bool jwk_read_file(struct key_set *, const char *path, const struct key_alg *, unsigned flags,
                   key_log *, struct key_why *ret_why);

#endif
