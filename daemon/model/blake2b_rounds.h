/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The rounds of BLAKE2b (RFC 7693), for words of one message and for words that have a lane for
 * each of several. For blake2b.c and blake2b_four.c. */
#ifndef BLAKE2B_ROUNDS_H
#define BLAKE2B_ROUNDS_H

#include "daemon/model/blake2b.h"

#include <endian.h>
#include <string.h>

enum {
    BLAKE2B_BLOCK = 128,
    BLAKE2B_WORDS = BLAKE2B_BLOCK / 8,
    BLAKE2B_SHORT_WORDS = BLAKE2B_SHORT_MAX / 8,
    BLAKE2B_ROUNDS = 12
};

/* RFC 7693, section 2.6 and 2.7. */
static const uint64_t blake2b_iv[8] = {
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

static const unsigned char blake2b_sigma[10][16] = {
    { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
    { 14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3 },
    { 11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4 },
    { 7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8 },
    { 9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13 },
    { 2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9 },
    { 12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11 },
    { 13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10 },
    { 6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5 },
    { 10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0 },
};

static inline uint64_t
blake2b_word(const unsigned char *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof w);
    return le64toh(w);
}

/* Section 3.1; x and y are numbers of words of the message m. What is beyond them is zero and costs
 * nothing, since the number of words is known when this is compiled. */
#define BLAKE2B_MIX(rotate, v, m, words, a, b, c, d, x, y)                                         \
    do {                                                                                           \
        v[a] += v[b];                                                                              \
        if ((x) < (words))                                                                         \
            v[a] += m[x];                                                                          \
        v[d] = rotate(v[d] ^ v[a], 32);                                                            \
        v[c] += v[d];                                                                              \
        v[b] = rotate(v[b] ^ v[c], 24);                                                            \
        v[a] += v[b];                                                                              \
        if ((y) < (words))                                                                         \
            v[a] += m[y];                                                                          \
        v[d] = rotate(v[d] ^ v[a], 16);                                                            \
        v[c] += v[d];                                                                              \
        v[b] = rotate(v[b] ^ v[c], 63);                                                            \
    } while (0)

#define BLAKE2B_ROUND(rotate, v, m, words, s)                                                      \
    do {                                                                                           \
        BLAKE2B_MIX(rotate, v, m, words, 0, 4, 8, 12, (s)[0], (s)[1]);                             \
        BLAKE2B_MIX(rotate, v, m, words, 1, 5, 9, 13, (s)[2], (s)[3]);                             \
        BLAKE2B_MIX(rotate, v, m, words, 2, 6, 10, 14, (s)[4], (s)[5]);                            \
        BLAKE2B_MIX(rotate, v, m, words, 3, 7, 11, 15, (s)[6], (s)[7]);                            \
        BLAKE2B_MIX(rotate, v, m, words, 0, 5, 10, 15, (s)[8], (s)[9]);                            \
        BLAKE2B_MIX(rotate, v, m, words, 1, 6, 11, 12, (s)[10], (s)[11]);                          \
        BLAKE2B_MIX(rotate, v, m, words, 2, 7, 8, 13, (s)[12], (s)[13]);                           \
        BLAKE2B_MIX(rotate, v, m, words, 3, 4, 9, 14, (s)[14], (s)[15]);                           \
    } while (0)

#endif
