/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/metrics.h"

#include "daemon/loop.h"
#include "daemon/service.h"

#include <stdlib.h>

enum { DOORS = 2, CACHE_LINE = 64 };

const int64_t metrics_bucket_ms[METRICS_BUCKETS] = { 1,   2,   5,    10,   25,  50,
                                                     100, 250, 1000, 2500, 10000 };

/* As struct metrics_requests. Only the loop that owns it writes, so there is nothing to lock: it
 * adds to what it reads. */
struct counts {
    _Atomic uint64_t kinds[KT_KIND_COUNT];
    _Atomic uint64_t took[METRICS_BUCKETS + 1];
    _Atomic uint64_t took_ms;
};

struct shard {
    _Alignas(CACHE_LINE) struct counts counts[DOORS][METRICS_OPS];
};

struct metrics {
    const struct metrics_listener *listeners[METRICS_LISTENERS_MAX];
    size_t nlisteners, nshards;
    int64_t started_ms;
    _Atomic uint64_t taken, kept;
    _Atomic uint64_t abandoned[2]; /* not taken, taken */
    struct shard *shards; /* one a loop */
};

struct metrics *
metrics_new(size_t loops)
{
    struct metrics *m = calloc(1, sizeof *m);
    void *shards = aligned_alloc(CACHE_LINE, loops * sizeof *m->shards);
    if (!m || !shards) {
        free(m);
        free(shards);
        return NULL;
    }
    memset(shards, 0, loops * sizeof *m->shards);
    m->shards = shards;
    m->nshards = loops;
    m->started_ms = clock_wall_ms();
    return m;
}

void
metrics_free(struct metrics *m)
{
    if (!m)
        return;
    free(m->shards);
    free(m);
}

int64_t
metrics_started_ms(const struct metrics *m)
{
    return m->started_ms;
}

void
metrics_add_listener(struct metrics *m, const struct metrics_listener *listener)
{
    if (m->nlisteners < METRICS_LISTENERS_MAX)
        m->listeners[m->nlisteners++] = listener;
}

const struct metrics_listener *
metrics_listener_at(const struct metrics *m, size_t i)
{
    return i < m->nlisteners ? m->listeners[i] : NULL;
}

static uint64_t
value(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void
add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, value(counter) + n, memory_order_relaxed);
}

static size_t
door_row(enum door door)
{
    return door == DOOR_HTTP;
}

void
metrics_answered(const struct request *rq)
{
    struct metrics *m = rq->call.svc->metrics;
    if (!m)
        return;
    size_t op = rq->spec ? kt_op_id(rq->spec) : KT_OP_COUNT, bucket = 0;
    int64_t took = loop_now_ms(rq->home) - rq->began_ms;
    struct counts *c =
        &m->shards[loop_number(rq->home)].counts[door_row(rq->transport->door)][op];
    while (bucket < METRICS_BUCKETS && took > metrics_bucket_ms[bucket])
        bucket++;
    add(&c->kinds[rq->call.err.kind], 1);
    add(&c->took[bucket], 1);
    if (took > 0)
        add(&c->took_ms, (uint64_t)took);
}

void
metrics_abandoned(struct metrics *m, bool taken)
{
    if (m)
        atomic_fetch_add(&m->abandoned[taken], 1);
}

uint64_t
metrics_abandonments(const struct metrics *m, bool taken)
{
    return value(&m->abandoned[taken]);
}

void
metrics_requests(const struct metrics *m, enum door door, size_t op, struct metrics_requests *ret)
{
    struct metrics_requests sum = { .took_ms = 0 };
    for (size_t i = 0; i < m->nshards; i++) {
        const struct counts *c = &m->shards[i].counts[door_row(door)][op];
        for (size_t k = 0; k < KT_KIND_COUNT; k++)
            sum.kinds[k] += value(&c->kinds[k]);
        for (size_t k = 0; k <= METRICS_BUCKETS; k++)
            sum.took[k] += value(&c->took[k]);
        sum.took_ms += value(&c->took_ms);
    }
    *ret = sum;
}

void
metrics_reloaded(struct metrics *m, bool taken)
{
    add(taken ? &m->taken : &m->kept, 1);
}

void
metrics_reloads(const struct metrics *m, uint64_t *ret_taken, uint64_t *ret_kept)
{
    *ret_taken = value(&m->taken);
    *ret_kept = value(&m->kept);
}
