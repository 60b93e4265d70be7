/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <dlfcn.h>
#include <endian.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

/* The library sums up each record of the log and each page: sum = sum * 33 + byte, where every byte
 * waits for the one before. That was a sixth of what a mint cost. Eight bytes at once are the same
 * modulo 2^32 and wait for one multiplication; where the processor has AVX2, 128 bytes at once. A
 * mint in a large store reads or writes three or four pages. */

enum { P2 = 33 * 33, P4 = P2 * P2 };
enum { WIDE = 32, STRIDE = 4 * WIDE }; /* bytes of a vector; of what the loop takes in one turn */

#define P8 ((uint32_t)P4 * (uint32_t)P4)
#define P16 (P8 * P8)
#define P32 (P16 * P16)
#define P64 (P32 * P32)
#define P128 (P64 * P64)

/* The sum of eight bytes alone: first of each two, then of each four; no lane grows over its
 * neighbour (255 * 34 < 2^16, 255 * 34 * 1090 < 2^32). */
static inline uint32_t
sum_eight(const unsigned char *p)
{
    const uint64_t bytes = UINT64_C(0x00ff00ff00ff00ff), pairs = UINT64_C(0x0000ffff0000ffff);
    uint64_t x;
    memcpy(&x, p, sizeof x);
    x = le64toh(x);
    x = (x & bytes) * 33 + (x >> 8 & bytes);
    x = (x & pairs) * P2 + (x >> 16 & pairs);
    return (uint32_t)x * P4 + (uint32_t)(x >> 32);
}

#ifdef __x86_64__

#define WITH_AVX2 __attribute__((target("avx2")))

/* Each lane has the sum of four bytes: 255 * 34 < 2^15, for the first of two factors is signed. */
static inline WITH_AVX2 __attribute__((always_inline)) __m256i
sum_lanes(const unsigned char *p)
{
    const __m256i pairs = _mm256_set1_epi16(1 << 8 | 33), fours = _mm256_set1_epi32(1 << 16 | P2);
    __m256i x = _mm256_loadu_si256((const __m256i *)p);
    return _mm256_madd_epi16(_mm256_maddubs_epi16(x, pairs), fours);
}

static inline WITH_AVX2 __attribute__((always_inline)) __m256i
follow(__m256i sum, uint32_t power, __m256i next)
{
    return _mm256_add_epi32(_mm256_mullo_epi32(sum, _mm256_set1_epi32((int)power)), next);
}

/* n: a multiple of STRIDE, and not 0. Four sums, so that none waits for the one before. */
static WITH_AVX2 uint32_t
sum_wide(const unsigned char *p, size_t n)
{
    uint32_t lanes[WIDE / 4], sum = 0;
    __m256i a = sum_lanes(p), b = sum_lanes(p + WIDE);
    __m256i c = sum_lanes(p + 2 * WIDE), d = sum_lanes(p + 3 * WIDE);
    for (size_t i = STRIDE; i < n; i += STRIDE) {
        a = follow(a, P128, sum_lanes(p + i));
        b = follow(b, P128, sum_lanes(p + i + WIDE));
        c = follow(c, P128, sum_lanes(p + i + 2 * WIDE));
        d = follow(d, P128, sum_lanes(p + i + 3 * WIDE));
    }
    d = follow(follow(follow(a, P32, b), P32, c), P32, d);
    _mm256_storeu_si256((__m256i *)lanes, d);
    for (size_t i = 0; i < WIDE / 4; i++)
        sum = sum * P4 + lanes[i];
    return sum;
}

/* How many bytes from the beginning on it has summed up; 0: this processor cannot. */
static size_t
try_wide(const unsigned char *p, size_t n, uint32_t *ret_sum)
{
    size_t whole = n - n % STRIDE;
    if (whole == 0 || !__builtin_cpu_supports("avx2"))
        return 0;
    *ret_sum = sum_wide(p, whole);
    return whole;
}

#else

static size_t
try_wide(const unsigned char *p, size_t n, uint32_t *ret_sum)
{
    (void)p;
    (void)n;
    (void)ret_sum;
    return 0;
}

#endif

uint32_t
bdb_sum(const unsigned char *p, size_t n)
{
    uint32_t sum = 0;
    size_t done = try_wide(p, n, &sum);
    p += done;
    n -= done;
    for (; n >= 8; p += 8, n -= 8)
        sum = sum * P8 + sum_eight(p);
    for (size_t i = 0; i < n; i++)
        sum = sum * 33 + p[i];
    return sum;
}

/* The library calls its own functions through the symbol table, where whatever loads it comes
 * first, so it finds this one. Where it does not, it uses its own, and only time is lost. */
extern u_int32_t __ham_func4(DB *, const void *, u_int32_t);
__attribute__((visibility("default"))) u_int32_t
__ham_func4(DB *db, const void *p, u_int32_t n)
{
    (void)db;
    return bdb_sum(p, n);
}

bool
bdb_sum_check(void)
{
    enum { CLOSE = 100, STEP = 41, LONGEST = 5 * STRIDE }; /* all short ones, some long ones */
    unsigned char bytes[LONGEST];
    Dl_info library;
    u_int32_t (*theirs)(DB *, const void *, u_int32_t) = NULL;
    if (dladdr((const void *)(uintptr_t)db_env_create, &library) == 0)
        return true; /* linked into one piece: then there is no second function */
    void *dl = dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    void *symbol = dl ? dlsym(dl, "__ham_func4") : NULL;
    memcpy(&theirs, &symbol, sizeof theirs);
    bool same = true;
    for (size_t i = 0; i < LONGEST; i++)
        bytes[i] = i < STRIDE ? 255 : (unsigned char)(255 - i * 89);
    for (unsigned n = 1; theirs && n <= LONGEST && same; n += n < CLOSE ? 1 : STEP)
        same = theirs(NULL, bytes, n) == bdb_sum(bytes, n);
    if (dl)
        dlclose(dl);
    return same;
}
