/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/unsettled.h"

#include <pthread.h>
#include <stdlib.h>

enum { FIRST_MS = 500 };

struct item {
    struct journal_entry entry;
    int64_t since_ms, next_ms;
};

struct unsettled {
    pthread_mutex_t lock; /* of the rest */
    struct item v[UNSETTLED_MAX];
    size_t n;
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

/* The place of what is about the same, or a free one; NULL: there is none. */
static struct item *
place_of(struct unsettled *u, const struct journal_entry *entry)
{
    for (size_t i = 0; i < u->n; i++)
        if (u->v[i].entry.type == entry->type &&
            memcmp(u->v[i].entry.id, entry->id, sizeof entry->id) == 0)
            return &u->v[i];
    return u->n < UNSETTLED_MAX ? &u->v[u->n++] : NULL;
}

void
unsettled_add(struct unsettled *u, const struct journal_entry *entry, int64_t mono_ms)
{
    pthread_mutex_lock(&u->lock);
    struct item *at = place_of(u, entry);
    if (at) /* of two ends of one thing the later one says more */
        *at = (struct item){ *entry, mono_ms, mono_ms + FIRST_MS };
    pthread_mutex_unlock(&u->lock);
}

size_t
unsettled_due(struct unsettled *u, int64_t mono_ms, struct journal_entry ret[], size_t max)
{
    size_t n = 0, kept = 0;
    pthread_mutex_lock(&u->lock);
    for (size_t i = 0; i < u->n; i++) {
        struct item *at = &u->v[i];
        if (at->next_ms <= mono_ms && n < max) {
            ret[n++] = at->entry;
            at->next_ms = mono_ms + (mono_ms - at->since_ms);
        }
        if (mono_ms - at->since_ms < UNSETTLED_MS)
            u->v[kept++] = *at;
    }
    u->n = kept;
    pthread_mutex_unlock(&u->lock);
    return n;
}
