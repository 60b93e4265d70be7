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

/* The CRC-32 of IEEE 802.3, reflected, is linear: what 32 bits become is the sum of what each of
 * their nibbles becomes. Row k is for nibble k, made from its four single bits. A row is one cache
 * line, so which lines are touched does not depend on the secret. */
#define NIBBLE(a, b, c, d)                                                                         \
    {                                                                                              \
        0, (a), (b), (a) ^ (b), (c), (a) ^ (c), (b) ^ (c), (a) ^ (b) ^ (c), (d), (a) ^ (d),        \
            (b) ^ (d), (a) ^ (b) ^ (d), (c) ^ (d), (a) ^ (c) ^ (d), (b) ^ (c) ^ (d),               \
            (a) ^ (b) ^ (c) ^ (d),                                                                 \
    }

static const uint32_t nibbles[8][16] __attribute__((aligned(64))) = {
    NIBBLE(0xb8bc6765, 0xaa09c88b, 0x8f629757, 0xc5b428ef),
    NIBBLE(0x5019579f, 0xa032af3e, 0x9b14583d, 0xed59b63b),
    NIBBLE(0x01c26a37, 0x0384d46e, 0x0709a8dc, 0x0e1351b8),
    NIBBLE(0x1c26a370, 0x384d46e0, 0x709a8dc0, 0xe1351b80),
    NIBBLE(0x191b3141, 0x32366282, 0x646cc504, 0xc8d98a08),
    NIBBLE(0x4ac21251, 0x958424a2, 0xf0794f05, 0x3b83984b),
    NIBBLE(0x77073096, 0xee0e612c, 0x076dc419, 0x0edb8832),
    NIBBLE(0x1db71064, 0x3b6e20c8, 0x76dc4190, 0xedb88320),
};

static uint32_t
crc32_word(uint32_t crc)
{
    uint32_t sum = 0;
    for (unsigned k = 0; k < 8; k++)
        sum ^= nibbles[k][crc >> (4 * k) & 15];
    return sum;
}

static uint32_t
crc32_of(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    uint32_t crc = UINT32_MAX;
    for (; n >= 4; n -= 4, p += 4)
        crc = crc32_word(crc ^ (p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                                (uint32_t)p[3] << 24));
    for (; n > 0; n--, p++) {
        uint32_t low = (crc ^ *p) & 255;
        crc = crc >> 8 ^ nibbles[6][low & 15] ^ nibbles[7][low >> 4];
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
    char *check = p + TOKEN_TEXT_LEN - TOKEN_TEXT_CHECK;
    put_check(crc32_of(p, (size_t)(check - p)), check);
    return secret;
}

/* Without a branch, so that the compiler looks at many characters at once, and so that the time it
 * takes says nothing of them. */
static bool
is_base62(const char *p, size_t n)
{
    unsigned char good = 1;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        bool digit = (unsigned char)(c - '0') < 10;
        bool letter = (unsigned char)((c | 0x20) - 'a') < 26;
        good &= digit | letter;
    }
    return good;
}

bool
token_text_has_form(struct kt_secret_view text)
{
    return text.p != NULL && text.n == TOKEN_TEXT_LEN &&
           memcmp(text.p, prefix, TOKEN_TEXT_PREFIX) == 0 &&
           is_base62(text.p + TOKEN_TEXT_PREFIX, TOKEN_TEXT_LEN - TOKEN_TEXT_PREFIX);
}

bool
token_text_check(struct kt_secret_view text)
{
    if (!token_text_has_form(text))
        return false;
    char check[TOKEN_TEXT_CHECK];
    put_check(crc32_of(text.p, TOKEN_TEXT_LEN - TOKEN_TEXT_CHECK), check);
    bool same = memcmp(check, text.p + TOKEN_TEXT_LEN - TOKEN_TEXT_CHECK, sizeof(check)) == 0;
    kt_wipe(check, sizeof(check));
    return same;
}
