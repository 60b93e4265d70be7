/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Four messages at once: each word of the state is a vector with a lane for each of them. Of a
 * pipelined verification the digest was a third, and four of them take little longer than one. */
#include "config.h"

#include "daemon/model/blake2b.h"

#include "client/proto/wipe.h"
#include "daemon/model/blake2b_rounds.h"

#include <stdlib.h>

#ifdef __x86_64__
#include <immintrin.h>

typedef uint64_t lanes __attribute__((vector_size(8 * BLAKE2B_LANES)));

#define WITH_AVX2 __attribute__((target("avx2")))

/* AVX2 rotates no lanes, but by whole bytes it can shuffle them. */
static inline WITH_AVX2 __attribute__((always_inline)) lanes
rotate(lanes x, unsigned n)
{
    const __m256i by24 = _mm256_setr_epi8(3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10, 3,
                                          4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10);
    const __m256i by16 = _mm256_setr_epi8(2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9, 2,
                                          3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9);
    if (n == 32)
        return (lanes)_mm256_shuffle_epi32((__m256i)x, 0xb1);
    if (n == 24)
        return (lanes)_mm256_shuffle_epi8((__m256i)x, by24);
    if (n == 16)
        return (lanes)_mm256_shuffle_epi8((__m256i)x, by16);
    return x >> n | x << (64 - n);
}

static inline WITH_AVX2 __attribute__((always_inline)) lanes
in_all(uint64_t w)
{
    return (lanes){ w, w, w, w };
}

/* As compress_words() of blake2b.c does for the one and last block of one message. */
static inline WITH_AVX2 __attribute__((always_inline)) void
compress_four(const struct blake2b_key *key, const unsigned char *const blocks[BLAKE2B_LANES],
              unsigned words, lanes ends, lanes h[BLAKE2B_BYTES / 8])
{
    lanes v[16], m[BLAKE2B_WORDS];
    for (unsigned i = 0; i < words; i++)
        m[i] = (lanes){ blake2b_word(blocks[0] + 8 * i), blake2b_word(blocks[1] + 8 * i),
                        blake2b_word(blocks[2] + 8 * i), blake2b_word(blocks[3] + 8 * i) };
    for (unsigned i = 0; i < 8; i++) {
        v[i] = in_all(key->h[i]);
        v[i + 8] = in_all(blake2b_iv[i]);
    }
    v[12] ^= ends;
    v[14] = ~v[14];
#pragma GCC unroll 12
    for (unsigned r = 0; r < BLAKE2B_ROUNDS; r++)
        BLAKE2B_ROUND(rotate, v, m, words, blake2b_sigma[r % 10]);
    for (unsigned i = 0; i < BLAKE2B_BYTES / 8; i++)
        h[i] = in_all(key->h[i]) ^ v[i] ^ v[i + 8];
    kt_wipe(m, words * sizeof m[0]);
}

static WITH_AVX2 void
digest_four(const struct blake2b_key *key, const void *const messages[BLAKE2B_LANES], size_t n,
            unsigned char *const ret[BLAKE2B_LANES])
{
    unsigned char blocks[BLAKE2B_LANES][BLAKE2B_SHORT_MAX] = { { 0 } };
    const unsigned char *const views[] = { blocks[0], blocks[1], blocks[2], blocks[3] };
    lanes h[BLAKE2B_BYTES / 8];
    for (unsigned i = 0; i < BLAKE2B_LANES; i++)
        memcpy(blocks[i], messages[i], n);
    compress_four(key, views, BLAKE2B_SHORT_WORDS, in_all(BLAKE2B_BLOCK + n), h);
    for (unsigned i = 0; i < BLAKE2B_LANES; i++) {
        const uint64_t words[] = { h[0][i], h[1][i], h[2][i], h[3][i] };
        memcpy(ret[i], words, key->bytes);
    }
    kt_wipe(blocks, sizeof blocks);
}

static WITH_AVX2 void
digest_blocks(const struct blake2b_key *key, const struct blake2b_block b[BLAKE2B_LANES],
              unsigned char ret[BLAKE2B_LANES][BLAKE2B_BYTES])
{
    const unsigned char *const views[] = { b[0].message, b[1].message, b[2].message,
                                           b[3].message };
    const lanes sizes = { b[0].n, b[1].n, b[2].n, b[3].n };
    lanes h[BLAKE2B_BYTES / 8];
    compress_four(key, views, BLAKE2B_WORDS, in_all(BLAKE2B_BLOCK) + sizes, h);
    for (unsigned i = 0; i < BLAKE2B_LANES; i++) {
        const uint64_t words[] = { h[0][i], h[1][i], h[2][i], h[3][i] };
        memcpy(ret[i], words, key->bytes);
    }
}

static bool
try_blocks(const struct blake2b_key *key, const struct blake2b_block blocks[BLAKE2B_LANES],
           unsigned char ret[BLAKE2B_LANES][BLAKE2B_BYTES])
{
    if (!__builtin_cpu_supports("avx2"))
        return false;
    digest_blocks(key, blocks, ret);
    return true;
}

/* False: this processor cannot. */
static bool
try_four(const struct blake2b_key *key, const void *const messages[BLAKE2B_LANES], size_t n,
         unsigned char *const ret[BLAKE2B_LANES])
{
    if (!__builtin_cpu_supports("avx2"))
        return false;
    digest_four(key, messages, n, ret);
    return true;
}

#else

static bool
try_four(const struct blake2b_key *key, const void *const messages[BLAKE2B_LANES], size_t n,
         unsigned char *const ret[BLAKE2B_LANES])
{
    (void)key;
    (void)messages;
    (void)n;
    (void)ret;
    return false;
}

static bool
try_blocks(const struct blake2b_key *key, const struct blake2b_block blocks[BLAKE2B_LANES],
           unsigned char ret[BLAKE2B_LANES][BLAKE2B_BYTES])
{
    (void)key;
    (void)blocks;
    (void)ret;
    return false;
}

#endif

void
blake2b_four(const struct blake2b_key *key, const void *const messages[BLAKE2B_LANES], size_t n,
             unsigned char *const ret[BLAKE2B_LANES])
{
    if (n == 0 || n > BLAKE2B_SHORT_MAX)
        abort();
    if (try_four(key, messages, n, ret))
        return;
    for (unsigned i = 0; i < BLAKE2B_LANES; i++)
        blake2b_digest(key, messages[i], n, ret[i]);
}

void
blake2b_blocks(const struct blake2b_key *key, const struct blake2b_block blocks[BLAKE2B_LANES],
               unsigned char ret[BLAKE2B_LANES][BLAKE2B_BYTES])
{
    if (try_blocks(key, blocks, ret))
        return;
    for (unsigned i = 0; i < BLAKE2B_LANES; i++)
        blake2b_digest(key, blocks[i].message, blocks[i].n, ret[i]);
}
