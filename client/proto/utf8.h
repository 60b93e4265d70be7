/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF. Pure
 * functions; any thread may call them. */
#ifndef KT_UTF8_H
#define KT_UTF8_H

#include "client/proto/str.h"

/* Length (1 to 4) of the character that begins at p, of which n bytes are there; 0 when it is
 * no valid character or n is too small for it. NUL is a character of length 1. */
size_t kt_utf8_char(const char *p, size_t n);

/* Whether all n bytes are UTF-8 and none is NUL. */
bool kt_utf8_is_text(const char *p, size_t n);

/* Writes the character (0 to 0x10FFFF, no surrogate) to out; returns its length, 1 to 4. */
size_t kt_utf8_put(char out[4], uint32_t character);

#endif
