/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/utf8.h"

static bool
continues(const unsigned char *p, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if ((p[i] & 0xC0) != 0x80)
            return false;
    return true;
}

/* The second byte is where overlong forms, surrogates and what is above U+10FFFF show. */
size_t
kt_utf8_char(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    if (n == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    size_t len = p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : p[0] < 0xF5 ? 4 : 0;
    if (len == 0 || n < len || !continues(p, 1, len))
        return 0;
    unsigned char low = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
    return p[1] >= low && p[1] <= high ? len : 0;
}

/* Whether each byte of the word is 0x01 to 0x7F. */
static bool
word_is_ascii(const char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return ((word | (word - UINT64_C(0x0101010101010101))) & UINT64_C(0x8080808080808080)) == 0;
}

bool
kt_utf8_is_text(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        while (n - i >= 8 && word_is_ascii(p + i))
            i += 8;
        /* Less than a word is left: the last word is looked at, a part of it for the second
         * time. */
        if (i == n || (i > 0 && n - i < 8 && n >= 8 && word_is_ascii(p + n - 8)))
            return true;
        if ((unsigned char)(p[i] - 1) < 0x7F) {
            i++;
            continue;
        }
        size_t len = p[i] == '\0' ? 0 : kt_utf8_char(p + i, n - i);
        if (len == 0)
            return false;
        i += len;
    }
    return true;
}

size_t
kt_utf8_put(char out[4], uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}
