/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/auth-jwt/base64url.h"

static int
digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '-')
        return 62;
    return c == '_' ? 63 : -1;
}

bool
base64url_is_char(char c)
{
    return digit(c) >= 0;
}

bool
base64url_decode(const char *text, size_t n, unsigned char *out, size_t *ret_n)
{
    if (n % 4 == 1)
        return false;
    unsigned bits = 0, nbits = 0;
    size_t done = 0;
    for (size_t i = 0; i < n; i++) {
        int d = digit(text[i]);
        if (d < 0)
            return false;
        bits = (bits << 6 | (unsigned)d) & 0xffff;
        nbits += 6;
        if (nbits < 8)
            continue;
        nbits -= 8;
        out[done++] = (unsigned char)(bits >> nbits);
    }
    /* Spare bits would give one token several texts. */
    if ((bits & ((1u << nbits) - 1)) != 0)
        return false;
    *ret_n = done;
    return true;
}
