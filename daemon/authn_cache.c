/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/authn_cache.h"

#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>

/* A set-associative cache: an entry can be in one set only, so one short lock covers a look-up. */
enum { WAYS = 8, SETS = AUTHN_CACHE_ENTRIES / WAYS };

struct entry {
    struct authn_key key;
    struct principal *who; /* NULL: free */
};

struct set {
    pthread_mutex_t lock;
    unsigned next; /* the way to be replaced next */
    struct entry ways[WAYS];
};

struct authn_cache {
    unsigned char secret[crypto_generichash_KEYBYTES]; /* so that nobody can aim at one set */
    struct set sets[SETS];
};

struct authn_cache *
authn_cache_new(void)
{
    struct authn_cache *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    randombytes_buf(c->secret, sizeof c->secret);
    for (size_t i = 0; i < SETS; i++)
        pthread_mutex_init(&c->sets[i].lock, NULL);
    return c;
}

static void
forget_all(struct authn_cache *c)
{
    for (size_t i = 0; i < SETS; i++) {
        pthread_mutex_lock(&c->sets[i].lock);
        for (size_t w = 0; w < WAYS; w++)
            c->sets[i].ways[w].who = principal_unref(c->sets[i].ways[w].who);
        pthread_mutex_unlock(&c->sets[i].lock);
    }
}

void
authn_cache_free(struct authn_cache *c)
{
    if (!c)
        return;
    forget_all(c);
    for (size_t i = 0; i < SETS; i++)
        pthread_mutex_destroy(&c->sets[i].lock);
    sodium_memzero(c->secret, sizeof c->secret);
    free(c);
}

struct authn_key
authn_cache_key(const struct authn_cache *c, const void *chain, uint64_t epoch,
                struct kt_secret_view credential)
{
    struct authn_key key;
    crypto_generichash_state st;
    crypto_generichash_init(&st, c->secret, sizeof c->secret, sizeof key.b);
    crypto_generichash_update(&st, (const unsigned char *)&chain, sizeof chain);
    crypto_generichash_update(&st, (const unsigned char *)&epoch, sizeof epoch);
    crypto_generichash_update(&st, (const unsigned char *)credential.p, credential.n);
    crypto_generichash_final(&st, key.b, sizeof key.b);
    return key;
}

static struct set *
set_of(struct authn_cache *c, const struct authn_key *key)
{
    uint32_t n;
    memcpy(&n, key->b, sizeof n);
    return &c->sets[n % SETS];
}

static struct entry *
find(struct set *s, const struct authn_key *key)
{
    for (size_t i = 0; i < WAYS; i++)
        if (s->ways[i].who && memcmp(&s->ways[i].key, key, sizeof *key) == 0)
            return &s->ways[i];
    return NULL;
}

struct principal *
authn_cache_get(struct authn_cache *c, const struct authn_key *key, int64_t now_ms)
{
    struct set *s = set_of(c, key);
    struct principal *who = NULL;
    pthread_mutex_lock(&s->lock);
    struct entry *e = find(s, key);
    if (e && e->who->expires_ms > now_ms)
        who = principal_ref(e->who);
    else if (e)
        e->who = principal_unref(e->who);
    pthread_mutex_unlock(&s->lock);
    return who;
}

static struct entry *
make_room(struct set *s)
{
    for (size_t i = 0; i < WAYS; i++)
        if (!s->ways[i].who)
            return &s->ways[i];
    return &s->ways[s->next++ % WAYS];
}

void
authn_cache_put(struct authn_cache *c, const struct authn_key *key, struct principal *who)
{
    if (who->expires_ms == 0)
        return;
    struct set *s = set_of(c, key);
    pthread_mutex_lock(&s->lock);
    struct entry *e = find(s, key);
    if (!e)
        e = make_room(s);
    principal_unref(e->who);
    *e = (struct entry){ *key, principal_ref(who) };
    pthread_mutex_unlock(&s->lock);
}
