/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/blake2b.h"

#include "client/proto/wipe.h"

#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 12, BLOCK = 128 };

/* RFC 7693, section 2.6 and 2.7. */
static const uint64_t iv[8] = {
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

static const unsigned char sigma[10][16] = {
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
rotate(uint64_t x, unsigned n)
{
    return x >> n | x << (64 - n);
}

/* Section 3.1. */
#define MIX(a, b, c, d, x, y)                                                                      \
    do {                                                                                           \
        v[a] += v[b] + (x);                                                                        \
        v[d] = rotate(v[d] ^ v[a], 32);                                                            \
        v[c] += v[d];                                                                              \
        v[b] = rotate(v[b] ^ v[c], 24);                                                            \
        v[a] += v[b] + (y);                                                                        \
        v[d] = rotate(v[d] ^ v[a], 16);                                                            \
        v[c] += v[d];                                                                              \
        v[b] = rotate(v[b] ^ v[c], 63);                                                            \
    } while (0)

static inline uint64_t
word(const unsigned char *p)
{
    uint64_t w = 0;
    for (unsigned i = 0; i < 8; i++)
        w |= (uint64_t)p[i] << (8 * i);
    return w;
}

/* Section 3.2: end is the number of bytes so far, this block's included. Unrolled, because the
 * order of the words is then known when it is compiled. */
static void
compress(uint64_t h[8], const unsigned char block[BLOCK], uint64_t end, bool last)
{
    uint64_t v[16], m[16];
    for (unsigned i = 0; i < 16; i++)
        m[i] = word(block + 8 * i);
    for (unsigned i = 0; i < 8; i++) {
        v[i] = h[i];
        v[i + 8] = iv[i];
    }
    v[12] ^= end;
    if (last)
        v[14] = ~v[14];
#pragma GCC unroll 12
    for (unsigned r = 0; r < ROUNDS; r++) {
        const unsigned char *s = sigma[r % 10];
        MIX(0, 4, 8, 12, m[s[0]], m[s[1]]);
        MIX(1, 5, 9, 13, m[s[2]], m[s[3]]);
        MIX(2, 6, 10, 14, m[s[4]], m[s[5]]);
        MIX(3, 7, 11, 15, m[s[6]], m[s[7]]);
        MIX(0, 5, 10, 15, m[s[8]], m[s[9]]);
        MIX(1, 6, 11, 12, m[s[10]], m[s[11]]);
        MIX(2, 7, 8, 13, m[s[12]], m[s[13]]);
        MIX(3, 4, 9, 14, m[s[14]], m[s[15]]);
    }
    for (unsigned i = 0; i < 8; i++)
        h[i] ^= v[i] ^ v[i + 8];
    kt_wipe(m, sizeof m); /* the text of a token */
}

void
blake2b_key_init(struct blake2b_key *ret, const unsigned char key[BLAKE2B_KEY_BYTES],
                 size_t bytes)
{
    if (bytes == 0 || bytes > BLAKE2B_BYTES)
        abort();
    ret->bytes = bytes;
    unsigned char block[BLOCK] = { 0 };
    memcpy(block, key, BLAKE2B_KEY_BYTES);
    memcpy(ret->h, iv, sizeof ret->h);
    /* The parameter block, section 2.5: lengths of digest and key, no tree. */
    ret->h[0] ^= 0x01010000 ^ (uint64_t)BLAKE2B_KEY_BYTES << 8 ^ bytes;
    compress(ret->h, block, BLOCK, false);
    kt_wipe(block, sizeof block);
}

static void
put_words(unsigned char *ret, const uint64_t h[8], size_t n)
{
    for (size_t i = 0; i < n; i++)
        ret[i] = (unsigned char)(h[i / 8] >> (8 * (i % 8)));
}

void
blake2b_digest(const struct blake2b_key *key, const void *message, size_t n,
               unsigned char ret[BLAKE2B_BYTES])
{
    unsigned char block[BLOCK] = { 0 };
    uint64_t h[8];
    if (n == 0 || n > BLAKE2B_MESSAGE_MAX)
        abort();
    memcpy(block, message, n);
    memcpy(h, key->h, sizeof h);
    compress(h, block, BLOCK + n, true);
    put_words(ret, h, key->bytes);
    kt_wipe(block, sizeof block);
}

void
blake2b_begin(struct blake2b_state *s, const struct blake2b_key *key)
{
    memcpy(s->h, key->h, sizeof s->h);
    s->n = BLOCK;
    s->have = 0;
    s->bytes = key->bytes;
}

/* A full block waits until there is more: the last one is compressed in another way. */
void
blake2b_more(struct blake2b_state *s, const void *piece, size_t n)
{
    const unsigned char *p = piece;
    while (n > 0) {
        if (s->have == BLOCK) {
            s->n += BLOCK;
            compress(s->h, s->block, s->n, false);
            s->have = 0;
        }
        size_t part = n < BLOCK - s->have ? n : BLOCK - s->have;
        memcpy(s->block + s->have, p, part);
        s->have += part;
        p += part;
        n -= part;
    }
}

void
blake2b_end(struct blake2b_state *s, unsigned char *ret)
{
    if (s->have == 0)
        abort();
    memset(s->block + s->have, 0, BLOCK - s->have);
    compress(s->h, s->block, s->n + s->have, true);
    put_words(ret, s->h, s->bytes);
    kt_wipe(s, sizeof *s);
}
