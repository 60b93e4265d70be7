/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/bench/histogram.h"

/* Each power of two is cut into HISTOGRAM_FINE equal parts; below that values stand for
 * themselves. */
static unsigned
bucket_of(uint64_t ns)
{
    unsigned shift = 0;
    while (ns >> shift >= 2 * HISTOGRAM_FINE)
        shift++;
    unsigned bucket = shift * HISTOGRAM_FINE + (unsigned)(ns >> shift);
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static uint64_t
value_of(unsigned bucket)
{
    if (bucket < 2 * HISTOGRAM_FINE)
        return bucket;
    unsigned shift = bucket / HISTOGRAM_FINE - 1;
    return (uint64_t)(bucket - shift * HISTOGRAM_FINE) << shift;
}

void
histogram_add(struct histogram *h, uint64_t ns)
{
    h->n++;
    h->count[bucket_of(ns)]++;
}

uint64_t
histogram_at(const struct histogram *h, double part)
{
    uint64_t wanted = (uint64_t)(part * (double)h->n), seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->count[i];
        if (seen > wanted || (seen == h->n && seen > 0))
            return value_of(i);
    }
    return 0;
}
