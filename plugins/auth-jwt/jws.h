/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The guard in front of every signed token: JWS compact serialization, RFC 7515 section 7.1, read
 * strictly and checked against keys that were chosen by the operator, never by the token. Knows
 * nothing of claims and nothing of kaitend. */
#ifndef AUTH_JWT_JWS_H
#define AUTH_JWT_JWS_H

#include <stdbool.h>
#include <stddef.h>

#include "plugins/auth-jwt/base64url.h"
#include "plugins/auth-jwt/key.h"

enum {
    JWS_TEXT_MAX = 8192, /* bytes of a whole token */
    JWS_TRIES_MAX = 8,   /* keys tried for one token */
    JWS_HEADER_NAME_MAX = 64
};

/* None of them 0 or 1, so that a forgotten assignment or a flipped bit is never JWS_GOOD. */
enum jws_outcome {
    JWS_GOOD = 0x6a31,
    JWS_NO_TOKEN = 0x6a42,  /* not a token at all */
    JWS_REFUSED = 0x6a53,   /* a token, but not to be trusted */
    JWS_BROKEN = 0x6a64     /* no memory, or OpenSSL failed: nothing is known about it */
};

/* A token taken apart; nothing in it is to be believed before jws_verify() said JWS_GOOD. */
struct jws {
    const char *text;             /* borrowed */
    size_t nsigned;               /* header, dot and payload: what is signed */
    const char *payload, *signature; /* still in base64url */
    size_t npayload, nsignature;
    const struct key_alg *alg;    /* never NULL after JWS_GOOD */
    char typ[JWS_HEADER_NAME_MAX + 1]; /* "": absent */
    bool has_kid;
    char kid[KEY_KID_MAX + 1];
};

/* Takes n bytes apart, in this order: length, alphabet, two dots, header (strict JSON object, alg
 * one of ours, typ and kid strings, no crit). JWS_GOOD fills *ret_jws, which borrows text;
 * otherwise *ret_why says why in a few fixed words. Any thread. */
enum jws_outcome jws_parse(const char *text, size_t n, struct jws *ret_jws, const char **ret_why);

/* Is the signature that of one of the keys? Only keys of exactly the token's algorithm are asked;
 * a token with a key id only meets keys with that id or with none. JWS_GOOD is the only yes. Any
 * thread. */
enum jws_outcome jws_verify(const struct jws *, const struct key_set *, const char **ret_why);

/* Decodes the payload into out, which has room for BASE64URL_ROOM(jws->npayload) bytes. */
bool jws_payload(const struct jws *, unsigned char *out, size_t *ret_n);

#endif
