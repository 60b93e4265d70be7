/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/bench/speech.h"

#include <string.h>

/* The protocol of munged, version 4: a connection for each request. A credential is made on the
 * first and shown on the second; together they are what one verification is compared with. */

enum { HEAD = 11, ENCODE = 2, ENCODED = 3, DECODE = 4, DECODED = 5 };

static char *
put_u32(char *at, size_t n)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        *at++ = (char)(n >> shift);
    return at;
}

static size_t
get_u32(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;
    return (size_t)u[0] << 24 | (size_t)u[1] << 16 | (size_t)u[2] << 8 | u[3];
}

static char *
put_head(char *at, unsigned type, size_t body)
{
    at = put(at, "\x00\x60\x6d\x4b\x04", 5);
    *at++ = (char)type;
    *at++ = 0; /* tried so often before */
    return put_u32(at, body);
}

static size_t
ask(struct talk *t, char *out)
{
    t->asked++;
    if (t->note->n == 0) {
        /* Cipher, MAC and compression by default, no realm, default lifetime, for anybody. */
        static const char body[] = "\x01\x01\x01\x00\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0";
        char *at = put_head(out, ENCODE, sizeof body);
        return (size_t)(put(at, body, sizeof body) - out);
    }
    char *at = put_u32(put_head(out, DECODE, 4 + t->note->n), t->note->n);
    at = put(at, t->note->text, t->note->n);
    t->note->n = 0;
    return (size_t)(at - out);
}

static ssize_t
hear(struct talk *t, const char *p, size_t n)
{
    if (n < HEAD || n < HEAD + get_u32(p + 7))
        return 0;
    size_t len = HEAD + get_u32(p + 7);
    if (p[HEAD] != 0)
        return -1; /* an error, or a credential that is not good */
    if (p[5] == DECODED)
        return (ssize_t)len;
    size_t at = HEAD + 2 + (unsigned char)p[HEAD + 1];
    size_t credential = get_u32(p + at);
    if (p[5] != ENCODED || credential > sizeof t->note->text || at + 4 + credential > len)
        return -1;
    memcpy(t->note->text, p + at + 4, credential);
    t->note->n = credential;
    return (ssize_t)len;
}

const struct speech speech_munge = {
    .name = "munge",
    .ask = ask,
    .hear = hear,
    .legs = 2,
    .once = true,
};
