/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/crowd.h"

#include <stdlib.h>

/* One for each peer that has a connection. */
struct crowd_node {
    struct crowd_node *next;
    uint64_t key;
    size_t n;
};

void
crowd_init(struct crowd *crowd)
{
    pthread_mutex_init(&crowd->lock, NULL);
}

void
crowd_done(struct crowd *crowd)
{
    for (size_t i = 0; i < CROWD_BUCKETS; i++) {
        for (struct crowd_node *node = crowd->buckets[i], *next; node; node = next) {
            next = node->next;
            free(node);
        }
    }
    pthread_mutex_destroy(&crowd->lock);
}

static struct crowd_node **
find(struct crowd *crowd, uint64_t key)
{
    uint64_t mixed = key * UINT64_C(0x9e3779b97f4a7c15);
    struct crowd_node **at = &crowd->buckets[mixed >> 56];
    while (*at && (*at)->key != key)
        at = &(*at)->next;
    return at;
}

static bool
enter_locked(struct crowd *crowd, uint64_t key, size_t max)
{
    struct crowd_node **at = find(crowd, key);
    if (*at && (*at)->n >= max)
        return false;
    if (!*at)
        *at = calloc(1, sizeof **at);
    if (!*at)
        return false;
    (*at)->key = key;
    (*at)->n++;
    return true;
}

bool
crowd_enter(struct crowd *crowd, uint64_t key, size_t max)
{
    pthread_mutex_lock(&crowd->lock);
    bool entered = enter_locked(crowd, key, max);
    pthread_mutex_unlock(&crowd->lock);
    return entered;
}

void
crowd_leave(struct crowd *crowd, uint64_t key)
{
    pthread_mutex_lock(&crowd->lock);
    struct crowd_node **at = find(crowd, key), *node = *at;
    if (node && --node->n == 0) {
        *at = node->next;
        free(node);
    }
    pthread_mutex_unlock(&crowd->lock);
}
