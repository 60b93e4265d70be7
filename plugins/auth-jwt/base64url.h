/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Base64url without padding, RFC 4648 section 5, read strictly: one text for each byte string. */
#ifndef AUTH_JWT_BASE64URL_H
#define AUTH_JWT_BASE64URL_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes that n characters can hold at most. */
#define BASE64URL_ROOM(n) ((n) / 4 * 3 + 2)

/* Is c one of A-Z a-z 0-9 - _ ? */
bool base64url_is_char(char c);

/* Decodes n characters into out, which has room for BASE64URL_ROOM(n) bytes. False: a character
 * outside the alphabet (padding included), an impossible length, or spare bits that are not 0. Any
 * thread. */
bool base64url_decode(const char *text, size_t n, unsigned char *out, size_t *ret_n);

#endif
