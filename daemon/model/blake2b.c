/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/blake2b.h"

#include "client/proto/wipe.h"
#include "daemon/model/blake2b_rounds.h"

#include <stdlib.h>

static inline uint64_t
rotate(uint64_t x, unsigned n)
{
    return x >> n | x << (64 - n);
}

/* Section 3.2: end is the number of bytes so far, this block's included. What the block has after
 * so many words is zero. Unrolled, because the order of the words is then known when it is
 * compiled. */
static inline __attribute__((always_inline)) void
compress_words(uint64_t h[8], const unsigned char *block, unsigned words, uint64_t end, bool last)
{
    uint64_t v[16], m[BLAKE2B_WORDS];
    for (unsigned i = 0; i < words; i++)
        m[i] = blake2b_word(block + 8 * i);
    for (unsigned i = 0; i < 8; i++) {
        v[i] = h[i];
        v[i + 8] = blake2b_iv[i];
    }
    v[12] ^= end;
    if (last)
        v[14] = ~v[14];
#pragma GCC unroll 12
    for (unsigned r = 0; r < BLAKE2B_ROUNDS; r++)
        BLAKE2B_ROUND(rotate, v, m, words, blake2b_sigma[r % 10]);
    for (unsigned i = 0; i < 8; i++)
        h[i] ^= v[i] ^ v[i + 8];
    kt_wipe(m, 8 * words); /* the text of a token */
}

static void
compress(uint64_t h[8], const unsigned char block[BLAKE2B_BLOCK], uint64_t end, bool last)
{
    compress_words(h, block, BLAKE2B_WORDS, end, last);
}

void
blake2b_key_init(struct blake2b_key *ret, const unsigned char key[BLAKE2B_KEY_BYTES],
                 size_t bytes)
{
    if (bytes == 0 || bytes > BLAKE2B_BYTES)
        abort();
    ret->bytes = bytes;
    unsigned char block[BLAKE2B_BLOCK] = { 0 };
    memcpy(block, key, BLAKE2B_KEY_BYTES);
    memcpy(ret->h, blake2b_iv, sizeof ret->h);
    /* The parameter block, section 2.5: lengths of digest and key, no tree. */
    ret->h[0] ^= 0x01010000 ^ (uint64_t)BLAKE2B_KEY_BYTES << 8 ^ bytes;
    compress(ret->h, block, BLAKE2B_BLOCK, false);
    kt_wipe(block, sizeof block);
}

static void
put_words(unsigned char *ret, const uint64_t h[8], size_t n)
{
    uint64_t words[BLAKE2B_BYTES / 8];
    for (unsigned i = 0; i < BLAKE2B_BYTES / 8; i++)
        words[i] = htole64(h[i]);
    memcpy(ret, words, n);
}

void
blake2b_digest(const struct blake2b_key *key, const void *message, size_t n,
               unsigned char ret[BLAKE2B_BYTES])
{
    unsigned char block[BLAKE2B_BLOCK] = { 0 };
    uint64_t h[8];
    if (n == 0 || n > BLAKE2B_MESSAGE_MAX)
        abort();
    memcpy(block, message, n);
    memcpy(h, key->h, sizeof h);
    if (n <= BLAKE2B_SHORT_MAX)
        compress_words(h, block, BLAKE2B_SHORT_WORDS, BLAKE2B_BLOCK + n, true);
    else
        compress(h, block, BLAKE2B_BLOCK + n, true);
    put_words(ret, h, key->bytes);
    kt_wipe(block, n);
}

void
blake2b_begin(struct blake2b_state *s, const struct blake2b_key *key)
{
    memcpy(s->h, key->h, sizeof s->h);
    s->n = BLAKE2B_BLOCK;
    s->have = 0;
    s->bytes = key->bytes;
}

/* A full block waits until there is more: the last one is compressed in another way. */
void
blake2b_more(struct blake2b_state *s, const void *piece, size_t n)
{
    const unsigned char *p = piece;
    while (n > 0) {
        if (s->have == BLAKE2B_BLOCK) {
            s->n += BLAKE2B_BLOCK;
            compress(s->h, s->block, s->n, false);
            s->have = 0;
        }
        size_t part = n < BLAKE2B_BLOCK - s->have ? n : BLAKE2B_BLOCK - s->have;
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
    memset(s->block + s->have, 0, BLAKE2B_BLOCK - s->have);
    compress(s->h, s->block, s->n + s->have, true);
    put_words(ret, s->h, s->bytes);
    kt_wipe(s, sizeof *s);
}
