/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/tokentext.h"

#include "client/proto/wipe.h"

#include <sodium.h>

_Static_assert((int)TOKEN_TEXT_LEN <= (int)KT_SECRET_MAX, "a token fits a secret");

static const char prefix[] = "ksh_";
static const char base62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

enum {
    BASE = 62,
    UNBIASED = 256 - 256 % BASE, /* random bytes from here on would favour some characters */
    BUFFER = 64
};

/* The CRC-32 of IEEE 802.3, reflected. Bit by bit without branches: the time it takes must not
 * depend on a secret, as the look-ups in a table would. */
static uint32_t
crc32_of(const char *p, size_t n)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= (unsigned char)p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (UINT32_C(0xedb88320) & (0 - (crc & 1)));
    }
    return ~crc;
}

static void
put_check(uint32_t crc, char out[TOKEN_TEXT_CHECK])
{
    for (size_t i = TOKEN_TEXT_CHECK; i > 0; i--) {
        out[i - 1] = base62[crc % BASE];
        crc /= BASE;
    }
}

static void
put_random(char *out, size_t n, void (*random)(void *buf, size_t n))
{
    unsigned char bytes[BUFFER];
    size_t left = 0;
    for (size_t i = 0; i < n;) {
        if (left == 0) {
            random(bytes, sizeof(bytes));
            left = sizeof(bytes);
        }
        unsigned byte = bytes[--left];
        if (byte < UNBIASED)
            out[i++] = base62[byte % BASE];
    }
    kt_wipe(bytes, sizeof(bytes));
}

struct kt_secret *
token_text_make(void (*random)(void *buf, size_t n))
{
    char *p;
    struct kt_secret *secret = kt_secret_alloc(TOKEN_TEXT_LEN, &p);
    if (secret == NULL)
        return NULL;
    memcpy(p, prefix, TOKEN_TEXT_PREFIX);
    put_random(p + TOKEN_TEXT_PREFIX, TOKEN_TEXT_RANDOM, random != NULL ? random : randombytes_buf);
    put_check(crc32_of(p, TOKEN_TEXT_LEN - TOKEN_TEXT_CHECK), p + TOKEN_TEXT_LEN - TOKEN_TEXT_CHECK);
    return secret;
}

static bool
is_base62(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

bool
token_text_check(struct kt_secret_view text)
{
    if (text.p == NULL || text.n != TOKEN_TEXT_LEN ||
        memcmp(text.p, prefix, TOKEN_TEXT_PREFIX) != 0)
        return false;
    for (size_t i = TOKEN_TEXT_PREFIX; i < TOKEN_TEXT_LEN; i++) {
        if (!is_base62(text.p[i]))
            return false;
    }
    char check[TOKEN_TEXT_CHECK];
    put_check(crc32_of(text.p, TOKEN_TEXT_LEN - TOKEN_TEXT_CHECK), check);
    bool same = memcmp(check, text.p + TOKEN_TEXT_LEN - TOKEN_TEXT_CHECK, sizeof(check)) == 0;
    kt_wipe(check, sizeof(check));
    return same;
}
