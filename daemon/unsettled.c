/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/unsettled.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    FIRST_MS = 500,
    LATE_MS = 60 * 1000 /* between looks of what is still not found when it should be */
};

struct item {
    struct journal_entry entry;
    int64_t since_ms, next_ms;
};

struct unsettled {
    pthread_mutex_t lock; /* of the rest */
    struct item v[UNSETTLED_MAX];
    size_t n;
    bool overflowed;
};

struct unsettled *
unsettled_new(void)
{
    struct unsettled *u = calloc(1, sizeof *u);
    if (u)
        pthread_mutex_init(&u->lock, NULL);
    return u;
}

void
unsettled_free(struct unsettled *u)
{
    if (!u)
        return;
    pthread_mutex_destroy(&u->lock);
    free(u);
}

/* What is about the same; NULL: nothing is. */
static struct item *
find(struct unsettled *u, const struct journal_entry *entry)
{
    for (size_t i = 0; i < u->n; i++)
        if (u->v[i].entry.type == entry->type &&
            memcmp(u->v[i].entry.id, entry->id, sizeof entry->id) == 0)
            return &u->v[i];
    return NULL;
}

void
unsettled_add(struct unsettled *u, const struct journal_entry *entry, int64_t mono_ms)
{
    pthread_mutex_lock(&u->lock);
    struct item *at = find(u, entry);
    if (!at && u->n < UNSETTLED_MAX)
        at = &u->v[u->n++];
    if (at) /* of two ends of one thing the later one says more */
        *at = (struct item){ *entry, mono_ms, mono_ms + FIRST_MS };
    else
        u->overflowed = true;
    pthread_mutex_unlock(&u->lock);
}

/* One look is made as soon as a commit cannot turn up any more. */
static int64_t
next_look(const struct item *at, int64_t mono_ms)
{
    const int64_t age = mono_ms - at->since_ms;
    if (age >= UNSETTLED_MS)
        return mono_ms + LATE_MS;
    return mono_ms + (2 * age < UNSETTLED_MS ? age : UNSETTLED_MS - age);
}

size_t
unsettled_due(struct unsettled *u, int64_t mono_ms, struct journal_entry ret[], size_t max)
{
    size_t n = 0;
    pthread_mutex_lock(&u->lock);
    for (size_t i = 0; i < u->n && n < max; i++) {
        struct item *at = &u->v[i];
        if (at->next_ms > mono_ms)
            continue;
        ret[n++] = at->entry;
        at->next_ms = next_look(at, mono_ms);
    }
    pthread_mutex_unlock(&u->lock);
    return n;
}

void
unsettled_found(struct unsettled *u, const struct journal_entry *entry, int64_t mono_ms)
{
    pthread_mutex_lock(&u->lock);
    struct item *at = find(u, entry);
    if (at && mono_ms - at->since_ms >= UNSETTLED_MS)
        *at = u->v[--u->n];
    pthread_mutex_unlock(&u->lock);
}

bool
unsettled_is_over(struct unsettled *u)
{
    pthread_mutex_lock(&u->lock);
    bool over = u->n == 0 && !u->overflowed;
    pthread_mutex_unlock(&u->lock);
    return over;
}
