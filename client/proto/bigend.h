/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Numbers as bytes, most significant first, as on the wire and in files. Pure functions, any
 * thread. */
#ifndef KT_BIGEND_H
#define KT_BIGEND_H

#include <stddef.h>
#include <stdint.h>

/* The lowest n bytes of v (n <= 8) to p. */
static inline void
kt_put_be(void *p, uint64_t v, size_t n)
{
    unsigned char *to = p;
    while (n-- > 0) {
        to[n] = (unsigned char)v;
        v >>= 8;
    }
}

/* The number that the n bytes (n <= 8) at p are. */
static inline uint64_t
kt_get_be(const void *p, size_t n)
{
    const unsigned char *from = p;
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v = v << 8 | from[i];
    return v;
}

#endif
