/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Latencies, counted in buckets about 1.6 % wide. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_FINE = 64, HISTOGRAM_BUCKETS = 40 * HISTOGRAM_FINE };

struct histogram {
    uint64_t n;
    uint64_t count[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *, uint64_t ns);

/* The nanoseconds that this part (0 to 1) of the values does not exceed; 0 when there are none. */
uint64_t histogram_at(const struct histogram *, double part);

#endif
