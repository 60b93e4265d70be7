/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/used.h"

#include <pthread.h>
#include <stdlib.h>

struct list {
    pthread_mutex_t lock;
    struct used_note *notes;
    size_t n, room;
};

struct used {
    struct list lists[USED_LISTS];
    atomic_size_t lost;
};

struct used *
used_new(void)
{
    struct used *u = calloc(1, sizeof *u);
    for (size_t i = 0; u && i < USED_LISTS; i++)
        pthread_mutex_init(&u->lists[i].lock, NULL);
    return u;
}

void
used_free(struct used *u)
{
    if (!u)
        return;
    for (size_t i = 0; i < USED_LISTS; i++) {
        pthread_mutex_destroy(&u->lists[i].lock);
        free(u->lists[i].notes);
    }
    free(u);
}

static bool
have_room(struct list *l)
{
    if (l->n < l->room)
        return true;
    size_t room = l->room == 0 ? 64 : 2 * l->room;
    struct used_note *notes =
        room <= USED_LIST_MAX ? reallocarray(l->notes, room, sizeof *notes) : NULL;
    if (!notes)
        return false;
    l->notes = notes;
    l->room = room;
    return true;
}

void
used_add(struct used *u, const unsigned char digest[INDEX_KEPT_BYTES], uint32_t at_s)
{
    struct list *l = &u->lists[digest[INDEX_KEPT_BYTES - 1] % USED_LISTS];
    pthread_mutex_lock(&l->lock);
    bool room = have_room(l);
    if (room) {
        memcpy(l->notes[l->n].digest, digest, INDEX_KEPT_BYTES);
        l->notes[l->n++].at_s = at_s;
    }
    pthread_mutex_unlock(&l->lock);
    if (!room)
        atomic_fetch_add_explicit(&u->lost, 1, memory_order_relaxed);
}

struct used_note *
used_take(struct used *u, size_t list, size_t *ret_n)
{
    struct list *l = &u->lists[list];
    pthread_mutex_lock(&l->lock);
    struct used_note *notes = l->notes;
    *ret_n = l->n;
    l->notes = NULL;
    l->n = l->room = 0;
    pthread_mutex_unlock(&l->lock);
    return notes;
}

size_t
used_lost(struct used *u)
{
    return atomic_exchange_explicit(&u->lost, 0, memory_order_relaxed);
}
