/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/auth-jwt/keyring.h"

#include "plugins/auth-jwt/fetch.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    LOOK_MS = 500,        /* between two looks at files */
    NAP_MAX_MS = 5000     /* waiting does not count time asleep, so it is cut in pieces */
};

/* What verifies: never changed once it is seen by others. */
struct snapshot {
    atomic_uint refs;
    struct key_set set;
    bool lacks;            /* an address has no keys here */
    int64_t stale_ms;      /* from then on it is too old; INT64_MAX: never */
};

struct keyring {
    struct keyrings *all;
    struct keyring *next;
    struct source *sources[KEYRING_SOURCES_MAX];
    size_t nsources;
    struct snapshot *now;  /* under all->lock */
    pthread_mutex_t build; /* one exchange at a time, when several threads serve one ring */
};

/* One thread: all files, or one address. */
struct worker {
    struct keyrings *all;
    pthread_t thread;
    struct keyring *ring; /* NULL: the files of all rings */
    struct source *source;
    unsigned reloads;     /* seen */
    bool has_tried;       /* under all->lock */
};

struct keyrings {
    struct keyrings_options options;
    struct keyring *rings;
    size_t nsources;
    pthread_mutex_t lock;
    pthread_cond_t moved; /* stop, reloads, a wish, a first attempt */
    atomic_bool stop;
    unsigned reloads;
    bool has_curl;
    struct worker workers[KEYRING_SOURCES_MAX + 1];
    size_t nworkers;
};

/* Time asleep counts, too: a key does not stay fresh by it. */
static int64_t
now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- snapshots ---------------------------------------------------------------------------- */

static void
snapshot_unref(struct snapshot *snap)
{
    if (!snap || atomic_fetch_sub(&snap->refs, 1) != 1)
        return;
    key_set_done(&snap->set);
    free(snap);
}

static struct snapshot *
snapshot_of(struct keyring *ring)
{
    pthread_mutex_lock(&ring->all->lock);
    struct snapshot *snap = ring->now;
    atomic_fetch_add(&snap->refs, 1);
    pthread_mutex_unlock(&ring->all->lock);
    return snap;
}

/* The keys of all sources together. NULL: *ret_why says why. */
static struct snapshot *
snapshot_new(const struct keyring *ring, struct key_why *ret_why)
{
    struct snapshot *snap = calloc(1, sizeof(*snap));
    if (!snap) {
        key_refuse(ret_why, "no memory");
        return NULL;
    }
    atomic_init(&snap->refs, 1);
    snap->stale_ms = INT64_MAX;
    for (size_t i = 0; i < ring->nsources; i++) {
        const struct source *s = ring->sources[i];
        if (!s->has_keys) {
            snap->lacks = true;
            continue;
        }
        if (!key_set_merge(&snap->set, &s->keys, ret_why)) {
            snapshot_unref(snap);
            return NULL;
        }
        int64_t stale = s->fetched_ms + ring->all->options.times.max_age;
        if (s->kind == SOURCE_URL && stale < snap->stale_ms)
            snap->stale_ms = stale;
    }
    return snap;
}

static bool
ring_renew(struct keyring *ring, struct key_why *ret_why)
{
    struct snapshot *snap = snapshot_new(ring, ret_why);
    if (!snap)
        return false;
    pthread_mutex_lock(&ring->all->lock);
    struct snapshot *was = ring->now;
    ring->now = snap;
    pthread_mutex_unlock(&ring->all->lock);
    snapshot_unref(was);
    return true;
}

/* --- exchanging keys ---------------------------------------------------------------------- */

/* Once for each reason, not once for each attempt. */
static void
complain(const struct keyring *ring, struct source *s, const struct key_why *why)
{
    key_log *log = ring->all->options.log;
    if (strcmp(s->complaint, why->text) != 0)
        log(KAITEN_LOG_WARNING, s->has_keys ? "keys stay as they are: %s" : "no keys yet: %s",
            why->text);
    memcpy(s->complaint, why->text, sizeof(s->complaint));
}

/* What did not go together with the keys that this source had may do so now. */
static void
retry_others(struct keyring *ring, const struct source *s)
{
    for (size_t i = 0; i < ring->nsources; i++)
        if (ring->sources[i] != s && ring->sources[i]->complaint[0])
            atomic_store(&ring->sources[i]->again, true);
}

/* All or nothing: what does not go together with the other sources is not taken. */
static bool
take(struct keyring *ring, struct source *s, struct key_set *fresh, struct key_why *ret_why)
{
    struct source before = *s;
    struct key_why inner = { "" };
    s->keys = (struct key_set){ 0 };
    source_keep(s, fresh, now_ms());
    if (ring_renew(ring, &inner)) {
        key_set_done(&before.keys);
        retry_others(ring, s);
        return true;
    }
    *fresh = s->keys;
    s->keys = before.keys;
    s->has_keys = before.has_keys;
    s->fetched_ms = before.fetched_ms;
    s->failures = before.failures;
    memcpy(s->complaint, before.complaint, sizeof(s->complaint));
    return key_refuse(ret_why, "%.120s: %.120s", s->place, inner.text);
}

static void
tell(struct keyring *ring, const struct source *s)
{
    const struct keyrings_options *o = &ring->all->options;
    o->log(KAITEN_LOG_NOTICE, "%s: %zu keys in use", s->place, s->keys.n);
    o->changed(o->ctx);
}

/* An address that still says the same is as good as one that says something new. */
static void
confirm(struct keyring *ring, struct source *s)
{
    struct key_why unused;
    if (s->kind != SOURCE_URL)
        return;
    s->fetched_ms = now_ms();
    s->failures = 0;
    (void)ring_renew(ring, &unused);
}

/* How long an address may take. No longer than its keys are trusted: they are dropped behind that,
 * and until they are, nobody is verified with the keys of the other sources either. */
static int64_t
patience(const struct keyring *ring, const struct source *s)
{
    const struct source_times *times = &ring->all->options.times;
    int64_t left = s->fetched_ms + times->max_age - now_ms();
    if (!s->has_keys || left > times->timeout)
        return times->timeout;
    return left > 0 ? left : 1;
}

/* One look at one source. */
static void
look(struct keyring *ring, struct source *s, bool must)
{
    const struct keyrings_options *o = &ring->all->options;
    const struct source_look how = { must, patience(ring, s), &ring->all->stop, o->log };
    struct key_set fresh = { 0 };
    struct key_why why = { "" };
    enum source_news news = source_read(s, &how, &fresh, &why);
    pthread_mutex_lock(&ring->build);
    if (news == SOURCE_FRESH && !take(ring, s, &fresh, &why))
        news = SOURCE_FAILED;
    if (news == SOURCE_SAME)
        confirm(ring, s);
    if (news == SOURCE_FAILED && !atomic_load(&ring->all->stop)) {
        s->failures++;
        complain(ring, s, &why);
    }
    pthread_mutex_unlock(&ring->build);
    key_set_done(&fresh);
    if (news == SOURCE_FRESH)
        tell(ring, s);
}

/* An address that has been silent for too long: its keys may have been taken back meanwhile. */
static void
drop_stale(struct keyring *ring, struct source *s)
{
    const struct keyrings_options *o = &ring->all->options;
    struct key_why unused;
    if (!s->has_keys || now_ms() < s->fetched_ms + o->times.max_age)
        return;
    pthread_mutex_lock(&ring->build);
    key_set_done(&s->keys);
    s->has_keys = false;
    (void)ring_renew(ring, &unused);
    retry_others(ring, s);
    pthread_mutex_unlock(&ring->build);
    o->log(KAITEN_LOG_ERROR, "%s: too long without an answer; its keys are not trusted any more",
           s->place);
    o->changed(o->ctx);
}

/* --- threads ------------------------------------------------------------------------------ */

/* Waits until then, or until something moves. Holds the lock. */
static void
nap(struct keyrings *all, int64_t until_ms)
{
    int64_t ms = until_ms - now_ms();
    struct timespec end;
    if (ms <= 0)
        return;
    ms = ms < NAP_MAX_MS ? ms : NAP_MAX_MS;
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += ms / 1000;
    end.tv_nsec += ms % 1000 * 1000000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_sec++;
        end.tv_nsec -= 1000000000;
    }
    (void)pthread_cond_timedwait(&all->moved, &all->lock, &end);
}

/* Whether everything is to be read again, changed or not. Holds the lock. */
static bool
must_reload(struct worker *w)
{
    bool must = w->reloads != w->all->reloads;
    w->reloads = w->all->reloads;
    return must;
}

static void *
watch_files(void *arg)
{
    struct worker *w = arg;
    struct keyrings *all = w->all;
    int64_t next = now_ms() + LOOK_MS;
    pthread_mutex_lock(&all->lock);
    while (!atomic_load(&all->stop)) {
        bool must = must_reload(w);
        if (!must && now_ms() < next) {
            nap(all, next);
            continue;
        }
        pthread_mutex_unlock(&all->lock);
        for (struct keyring *ring = all->rings; ring; ring = ring->next)
            for (size_t i = 0; i < ring->nsources; i++)
                if (ring->sources[i]->kind != SOURCE_URL)
                    look(ring, ring->sources[i], must);
        next = now_ms() + LOOK_MS;
        pthread_mutex_lock(&all->lock);
    }
    pthread_mutex_unlock(&all->lock);
    return NULL;
}

/* When there is something to do for an address. Holds the lock. */
static int64_t
address_due(const struct source *s, const struct source_times *times)
{
    int64_t due = source_next_ms(s, times);
    int64_t stale = s->has_keys ? s->fetched_ms + times->max_age : due;
    return stale < due ? stale : due;
}

static void
ask_address(struct worker *w, bool must)
{
    struct keyrings *all = w->all;
    struct source *s = w->source;
    s->busy = true;
    s->wanted = false;
    s->tried_ms = now_ms();
    pthread_mutex_unlock(&all->lock);
    look(w->ring, s, must);
    pthread_mutex_lock(&all->lock);
    s->busy = false;
    w->has_tried = true;
    pthread_cond_broadcast(&all->moved);
}

static void *
watch_address(void *arg)
{
    struct worker *w = arg;
    struct keyrings *all = w->all;
    struct source *s = w->source;
    pthread_mutex_lock(&all->lock);
    while (!atomic_load(&all->stop)) {
        bool must = must_reload(w);
        if (must || s->wanted || now_ms() >= source_next_ms(s, &all->options.times))
            ask_address(w, must);
        pthread_mutex_unlock(&all->lock);
        drop_stale(w->ring, s);
        pthread_mutex_lock(&all->lock);
        if (!atomic_load(&all->stop) && !s->wanted && w->reloads == all->reloads)
            nap(all, address_due(s, &all->options.times));
    }
    pthread_mutex_unlock(&all->lock);
    return NULL;
}

static bool
start_worker(struct keyrings *all, struct keyring *ring, struct source *s)
{
    struct worker *w = &all->workers[all->nworkers];
    sigset_t every, before;
    *w = (struct worker){ .all = all, .ring = ring, .source = s };
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    int rc = pthread_create(&w->thread, NULL, s ? watch_address : watch_files, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    all->nworkers += rc == 0;
    return rc == 0;
}

static bool
has_asked_all(const struct keyrings *all)
{
    for (size_t i = 0; i < all->nworkers; i++)
        if (all->workers[i].source && !all->workers[i].has_tried)
            return false;
    return true;
}

bool
keyrings_start(struct keyrings *all, int64_t wait_ms)
{
    if (!start_worker(all, NULL, NULL))
        return false;
    for (struct keyring *ring = all->rings; ring; ring = ring->next)
        for (size_t i = 0; i < ring->nsources; i++)
            if (ring->sources[i]->kind == SOURCE_URL &&
                !start_worker(all, ring, ring->sources[i]))
                return false;
    int64_t until = now_ms() + wait_ms;
    pthread_mutex_lock(&all->lock);
    while (!has_asked_all(all) && now_ms() < until)
        nap(all, until);
    pthread_mutex_unlock(&all->lock);
    return true;
}

void
keyrings_reload(struct keyrings *all)
{
    pthread_mutex_lock(&all->lock);
    all->reloads++;
    pthread_cond_broadcast(&all->moved);
    pthread_mutex_unlock(&all->lock);
}

/* --- making them -------------------------------------------------------------------------- */

struct keyrings *
keyrings_new(const struct keyrings_options *options)
{
    struct keyrings *all = calloc(1, sizeof(*all));
    pthread_condattr_t attr;
    if (!all)
        return NULL;
    all->options = *options;
    pthread_mutex_init(&all->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&all->moved, &attr);
    pthread_condattr_destroy(&attr);
    return all;
}

static void
keyring_free(struct keyring *ring)
{
    for (size_t i = 0; i < ring->nsources; i++) {
        source_done(ring->sources[i]);
        free(ring->sources[i]);
    }
    snapshot_unref(ring->now);
    pthread_mutex_destroy(&ring->build);
    free(ring);
}

void
keyrings_free(struct keyrings *all)
{
    if (!all)
        return;
    pthread_mutex_lock(&all->lock);
    atomic_store(&all->stop, true);
    pthread_cond_broadcast(&all->moved);
    pthread_mutex_unlock(&all->lock);
    for (size_t i = 0; i < all->nworkers; i++)
        pthread_join(all->workers[i].thread, NULL);
    for (struct keyring *ring = all->rings, *next; ring; ring = next) {
        next = ring->next;
        keyring_free(ring);
    }
    if (all->has_curl)
        fetch_done();
    pthread_cond_destroy(&all->moved);
    pthread_mutex_destroy(&all->lock);
    free(all);
}

struct keyring *
keyring_new(struct keyrings *all)
{
    struct key_why unused;
    struct keyring *ring = calloc(1, sizeof(*ring));
    if (!ring)
        return NULL;
    ring->all = all;
    pthread_mutex_init(&ring->build, NULL);
    if (!ring_renew(ring, &unused)) {
        keyring_free(ring);
        return NULL;
    }
    ring->next = all->rings;
    all->rings = ring;
    return ring;
}

bool
keyring_has_sources(const struct keyring *ring)
{
    return ring->nsources > 0;
}

static bool
copy_text(char **ret, const char *text)
{
    *ret = text ? strdup(text) : NULL;
    return !text || *ret;
}

static struct source *
source_new(struct keyring *ring, const struct keyring_source *from, struct key_why *ret_why)
{
    struct source *s = calloc(1, sizeof(*s));
    if (!s) {
        key_refuse(ret_why, "no memory");
        return NULL;
    }
    s->kind = from->kind;
    s->alg = from->alg;
    ring->sources[ring->nsources++] = s;
    ring->all->nsources++;
    if (copy_text(&s->place, from->place) && copy_text(&s->kid, from->kid) &&
        copy_text(&s->ca, from->ca))
        return s;
    key_refuse(ret_why, "no memory");
    return NULL;
}

static bool
add_address(struct keyring *ring, const struct source *s, struct key_why *ret_why)
{
    if (!fetch_url_is_allowed(s->place, ret_why))
        return false;
    if (!ring->all->has_curl && !fetch_init())
        return key_refuse(ret_why, "libcurl cannot be set up");
    ring->all->has_curl = true;
    return ring_renew(ring, ret_why);
}

bool
keyring_add(struct keyring *ring, const struct keyring_source *from, struct key_why *ret_why)
{
    const struct keyrings_options *o = &ring->all->options;
    const struct source_look how = { .must = true, .timeout_ms = o->times.timeout, .log = o->log };
    struct key_set fresh = { 0 };
    if (ring->all->nsources == KEYRING_SOURCES_MAX)
        return key_refuse(ret_why, "more than %d files and addresses of keys", KEYRING_SOURCES_MAX);
    struct source *s = source_new(ring, from, ret_why);
    if (!s)
        return false;
    if (s->kind == SOURCE_URL)
        return add_address(ring, s, ret_why);
    bool good = source_read(s, &how, &fresh, ret_why) == SOURCE_FRESH &&
                take(ring, s, &fresh, ret_why);
    key_set_done(&fresh);
    return good;
}

/* --- verifying ---------------------------------------------------------------------------- */

/* Asks the ring's addresses for a key id that nobody knows, each of them not too often. Is one of
 * them about to answer? */
static bool
want(struct keyring *ring)
{
    struct keyrings *all = ring->all;
    bool pending = false;
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < ring->nsources; i++) {
        struct source *s = ring->sources[i];
        if (s->kind != SOURCE_URL)
            continue;
        if (!s->busy && now_ms() - s->tried_ms >= all->options.times.cooldown)
            s->wanted = true;
        pending = pending || s->wanted || s->busy;
    }
    if (pending)
        pthread_cond_broadcast(&all->moved);
    pthread_mutex_unlock(&all->lock);
    return pending;
}

enum jws_outcome
keyring_verify(struct keyring *ring, const struct jws *jws, const char **ret_why)
{
    struct snapshot *snap = snapshot_of(ring);
    bool is_stale = now_ms() >= snap->stale_ms;
    bool knows_kid = jws->has_kid && key_set_has_kid(&snap->set, jws->kid);
    bool lacks = snap->lacks && !knows_kid;
    enum jws_outcome outcome = JWS_BROKEN;
    if (is_stale)
        *ret_why = "the keys of this issuer are too old to be trusted";
    else
        outcome = jws_verify(jws, &snap->set, ret_why);
    snapshot_unref(snap);
    if (outcome != JWS_REFUSED || knows_kid)
        return outcome;
    if (lacks)
        *ret_why = "the keys of this issuer have not come yet";
    else if (jws->has_kid && want(ring))
        *ret_why = "keys are being asked for because of an unknown key id";
    else
        return outcome;
    return JWS_BROKEN;
}
