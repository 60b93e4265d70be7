/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/limiter.h"

#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum { LOCKS = 64, KEY_SIZE = crypto_shorthash_KEYBYTES };

_Static_assert(sizeof(uint64_t) == crypto_shorthash_BYTES, "a key is one hash");

/* The sum of two such times and a clock's reading stays below INT64_MAX. */
static const int64_t longest_ns = INT64_C(1) << 60;
static const int64_t moving = INT64_MAX; /* due of a place that changes hands */
static const int64_t no_place = -1;

/* due never goes down while a key holds the place, save for what is given back, and a new key
 * starts above the value that the old one ended with. So a thread that reads due, then finds its
 * own key there, and then swaps due, has swapped its own key's value. */
struct place {
    _Atomic uint64_t key; /* 0: of nobody yet */
    _Atomic int64_t due;  /* when the bucket is full again */
};

struct set {
    struct place ways[LIMITER_WAYS];
};

struct limiter {
    unsigned char secret[KEY_SIZE];
    size_t nsets;
    struct set *sets;
    _Atomic int64_t *common; /* due of the keys that found no place: one a set */
    _Atomic uint64_t crowded;
    pthread_mutex_t locks[LOCKS]; /* a set's: whoever gives a place to a key holds it */
};

struct limiter_rate
limiter_rate(uint32_t requests, uint32_t period_ms, uint32_t burst)
{
    int64_t interval = ((int64_t)period_ms * 1000000 + requests - 1) / requests;
    int64_t more = (int64_t)burst - 1;
    return (struct limiter_rate){
        .interval_ns = interval,
        .window_ns = more > longest_ns / interval ? longest_ns : more * interval,
    };
}

struct limiter *
limiter_new(size_t places)
{
    struct limiter *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->nsets = places / LIMITER_WAYS;
    l->sets = calloc(l->nsets, sizeof *l->sets);
    l->common = calloc(l->nsets, sizeof *l->common);
    if (!l->sets || !l->common) {
        free(l->sets);
        free(l->common);
        free(l);
        return NULL;
    }
    randombytes_buf(l->secret, sizeof l->secret);
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&l->locks[i], NULL);
    return l;
}

void
limiter_free(struct limiter *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&l->locks[i]);
    sodium_memzero(l->secret, sizeof l->secret);
    free(l->sets);
    free(l->common);
    free(l);
}

uint64_t
limiter_key(const struct limiter *l, const void *what, size_t n)
{
    uint64_t key;
    crypto_shorthash((unsigned char *)&key, what, n, l->secret);
    return key ? key : 1;
}

static size_t
set_of(const struct limiter *l, uint64_t key)
{
    return (size_t)(key & (l->nsets - 1));
}

/* NULL: the key has no place now. */
static struct place *
find(const struct limiter *l, uint64_t key)
{
    struct set *s = &l->sets[set_of(l, key)];
    for (size_t i = 0; i < LIMITER_WAYS; i++)
        if (atomic_load_explicit(&s->ways[i].key, memory_order_acquire) == key)
            return &s->ways[i];
    return NULL;
}

static int64_t
later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* 0: one may be taken; else how long until then. */
static int64_t
wait_of(int64_t due, struct limiter_rate rate, int64_t now_ns)
{
    int64_t ahead = due - now_ns;
    return ahead > rate.window_ns ? ahead - rate.window_ns : 0;
}

/* p NULL: due is the common one of a set. */
static int64_t
take_at(struct place *p, _Atomic int64_t *at, uint64_t key, struct limiter_rate rate,
        int64_t now_ns)
{
    int64_t due = atomic_load_explicit(at, memory_order_acquire), wait, next;
    do {
        if (due == moving || (p && atomic_load_explicit(&p->key, memory_order_acquire) != key))
            return no_place;
        wait = wait_of(due, rate, now_ns);
        if (wait > 0)
            return wait;
        next = later(due, now_ns) + rate.interval_ns;
    } while (!atomic_compare_exchange_weak_explicit(at, &due, next, memory_order_acq_rel,
                                                    memory_order_acquire));
    return 0;
}

static int64_t
take(struct limiter *l, uint64_t key, struct limiter_rate rate, int64_t now_ns)
{
    struct place *p = find(l, key);
    return p ? take_at(p, &p->due, key, rate, now_ns) : no_place;
}

/* A key that owes nothing gives up its place: its bucket is full, with a place or without one. */
static bool
move_in(struct limiter *l, uint64_t key, struct limiter_rate rate, int64_t now_ns)
{
    struct set *s = &l->sets[set_of(l, key)];
    for (size_t i = 0; i < LIMITER_WAYS; i++) {
        struct place *p = &s->ways[i];
        int64_t due = atomic_load_explicit(&p->due, memory_order_acquire);
        if (due > now_ns || !atomic_compare_exchange_strong(&p->due, &due, moving))
            continue;
        atomic_store_explicit(&p->key, key, memory_order_release);
        atomic_store_explicit(&p->due, now_ns + rate.interval_ns, memory_order_release);
        return true;
    }
    return false;
}

/* Two threads that bring the same new key must not give it two places. */
static int64_t
take_new(struct limiter *l, uint64_t key, struct limiter_rate rate, int64_t now_ns)
{
    size_t set = set_of(l, key);
    pthread_mutex_t *lock = &l->locks[set % LOCKS];
    pthread_mutex_lock(lock);
    int64_t wait = take(l, key, rate, now_ns);
    if (wait == no_place && move_in(l, key, rate, now_ns))
        wait = 0;
    pthread_mutex_unlock(lock);
    if (wait != no_place)
        return wait;
    atomic_fetch_add_explicit(&l->crowded, 1, memory_order_relaxed);
    return take_at(NULL, &l->common[set], key, rate, now_ns);
}

int64_t
limiter_take(struct limiter *l, uint64_t key, struct limiter_rate rate, int64_t now_ns)
{
    int64_t wait = take(l, key, rate, now_ns);
    return wait == no_place ? take_new(l, key, rate, now_ns) : wait;
}

/* When no place is free, the common bucket of the set counts. */
static int64_t
wait_without(const struct limiter *l, uint64_t key, struct limiter_rate rate, int64_t now_ns)
{
    size_t set = set_of(l, key);
    for (size_t i = 0; i < LIMITER_WAYS; i++)
        if (atomic_load_explicit(&l->sets[set].ways[i].due, memory_order_acquire) <= now_ns)
            return 0;
    return wait_of(atomic_load_explicit(&l->common[set], memory_order_acquire), rate, now_ns);
}

int64_t
limiter_wait(const struct limiter *l, uint64_t key, struct limiter_rate rate, int64_t now_ns)
{
    struct place *p = find(l, key);
    int64_t due = p ? atomic_load_explicit(&p->due, memory_order_acquire) : moving;
    bool is_ours = due != moving && atomic_load_explicit(&p->key, memory_order_acquire) == key;
    return is_ours ? wait_of(due, rate, now_ns) : wait_without(l, key, rate, now_ns);
}

void
limiter_give_back(struct limiter *l, uint64_t key, struct limiter_rate rate)
{
    struct place *p = find(l, key);
    int64_t due = p ? atomic_load_explicit(&p->due, memory_order_acquire) : moving;
    do {
        if (due == moving || atomic_load_explicit(&p->key, memory_order_acquire) != key)
            return;
    } while (!atomic_compare_exchange_weak_explicit(&p->due, &due, due - rate.interval_ns,
                                                    memory_order_acq_rel, memory_order_acquire));
}

uint64_t
limiter_crowded(const struct limiter *l)
{
    return atomic_load_explicit(&l->crowded, memory_order_relaxed);
}

int64_t
limiter_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}
