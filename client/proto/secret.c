/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/secret.h"

#include "client/proto/wipe.h"

#include <pthread.h>
#include <sys/mman.h>

enum { GROWTH = 16 * 1024 };

struct kt_secret {
    struct kt_secret *next_free;
    uint32_t n;
    char bytes[KT_SECRET_MAX + 8]; /* 8: room for the NUL, and the next slot stays aligned */
};

/* Guards everything below. No other lock is taken while it is held. */
static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kt_secret *pool_free;
static size_t pool_slots, pool_alive;
static bool pool_unlocked;

static bool
pool_grow(void)
{
    if (pool_slots >= KT_SECRET_COUNT_MAX)
        return false;
    struct kt_secret *slots = mmap(NULL, GROWTH, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (slots == MAP_FAILED)
        return false;
    if (mlock(slots, GROWTH) != 0)
        pool_unlocked = true;
    (void)madvise(slots, GROWTH, MADV_DONTDUMP);

    size_t n = GROWTH / sizeof(*slots);
    if (n > KT_SECRET_COUNT_MAX - pool_slots)
        n = KT_SECRET_COUNT_MAX - pool_slots;
    for (size_t i = n; i > 0; i--) {
        slots[i - 1].next_free = pool_free;
        pool_free = &slots[i - 1];
    }
    pool_slots += n;
    return true;
}

static struct kt_secret *
pool_take(void)
{
    pthread_mutex_lock(&pool_lock);
    struct kt_secret *s = NULL;
    if (pool_free != NULL || pool_grow()) {
        s = pool_free;
        pool_free = s->next_free;
        pool_alive++;
    }
    pthread_mutex_unlock(&pool_lock);
    return s;
}

static void
pool_put(struct kt_secret *s)
{
    pthread_mutex_lock(&pool_lock);
    s->next_free = pool_free;
    pool_free = s;
    pool_alive--;
    pthread_mutex_unlock(&pool_lock);
}

struct kt_secret *
kt_secret_alloc(size_t n, char **ret_p)
{
    if (n > KT_SECRET_MAX)
        return NULL;
    struct kt_secret *s = pool_take();
    if (s == NULL)
        return NULL;
    s->next_free = NULL;
    s->n = (uint32_t)n;
    *ret_p = s->bytes;
    return s;
}

struct kt_secret *
kt_secret_new(const void *bytes, size_t n)
{
    char *p;
    struct kt_secret *s = kt_secret_alloc(n, &p);
    if (s != NULL && n > 0)
        memcpy(p, bytes, n);
    return s;
}

struct kt_secret *
kt_secret_free(struct kt_secret *s)
{
    if (s == NULL)
        return NULL;
    kt_wipe(s->bytes, sizeof(s->bytes));
    s->n = 0;
    pool_put(s);
    return NULL;
}

struct kt_secret_view
kt_secret_view(const struct kt_secret *s)
{
    if (s == NULL)
        return (struct kt_secret_view){ NULL, 0 };
    return (struct kt_secret_view){ s->bytes, s->n };
}

bool
kt_secret_locked(void)
{
    pthread_mutex_lock(&pool_lock);
    bool there = pool_slots > 0 || pool_grow();
    bool locked = there && !pool_unlocked;
    pthread_mutex_unlock(&pool_lock);
    return locked;
}

size_t
kt_secret_count(void)
{
    pthread_mutex_lock(&pool_lock);
    size_t n = pool_alive;
    pthread_mutex_unlock(&pool_lock);
    return n;
}
