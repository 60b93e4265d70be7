/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A committer over a disk that does what the test says, and requests that have nothing but a batch.
 * One test program each for what its files do. Include it before <cmocka.h>, as core.h. */
#ifndef COMMIT_TEST_H
#define COMMIT_TEST_H

#include "daemon/journal.h"
#include "daemon/model/endings.h"
#include "daemon/unsettled.h"
#include "tests/unit/core.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { MANY = 1300, WAIT_MS = 20000 };

static struct core core;
static struct committer *committer;
static struct kt_arena arena;

/* One request that has nothing but a batch, and what the committer said of it. */
struct work {
    struct request rq;
    struct kt_arena arena;
    enum index_verdict when_done; /* of its digest, at the moment of the answer */
    unsigned done, again;
    size_t turn;                  /* in which order it was finished */
    unsigned char digest[DIGEST_BYTES];
};

static struct work *works;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static size_t finished, turns;

static inline struct work *
work_of(struct request *rq)
{
    return (struct work *)((char *)rq - offsetof(struct work, rq));
}

static inline void
on_again(struct request *rq)
{
    pthread_mutex_lock(&lock);
    work_of(rq)->again++;
    finished++;
    pthread_mutex_unlock(&lock);
}

static inline void
on_done(struct request *list)
{
    pthread_mutex_lock(&lock);
    for (struct request *rq = list, *next; rq; rq = next) {
        struct work *w = work_of(rq);
        next = rq->next;
        w->when_done = index_find(core.svc.index, w->digest, 1, NULL);
        w->done++;
        w->turn = turns++;
        finished++;
    }
    pthread_mutex_unlock(&lock);
}

static inline bool
wait_for(size_t n)
{
    const struct timespec tick = { 0, 1000 * 1000 };
    for (int i = 0; i < WAIT_MS; i++) {
        pthread_mutex_lock(&lock);
        bool there = finished >= n;
        pthread_mutex_unlock(&lock);
        if (there)
            return true;
        nanosleep(&tick, NULL);
    }
    return false;
}

static inline int
setup(void **state)
{
    (void)state;
    core_open(&core, NULL);
    kt_arena_init(&arena, 1 << 20);
    finished = turns = 0;
    works = calloc(MANY, sizeof *works);
    for (size_t i = 0; works && i < MANY; i++) {
        struct work *w = &works[i];
        kt_arena_init(&w->arena, 64 * 1024);
        w->rq.call = (struct call){ .svc = &core.svc, .arena = &w->arena };
        w->rq.batch = batch_new(&w->arena);
        for (size_t k = 0; k < 4; k++)
            w->digest[k] = (unsigned char)(i >> 8 * k);
        w->digest[5] = 0x77;
    }
    committer = committer_new(&core.svc, on_again, on_done);
    return works && committer ? 0 : -1;
}

static inline int
teardown(void **state)
{
    (void)state;
    committer_free(committer);
    committer = NULL;
    for (size_t i = 0; i < MANY; i++)
        kt_arena_done(&works[i].arena);
    free(works);
    kt_arena_done(&arena);
    core_close(&core);
    return 0;
}

static inline struct kt_str
key_of(struct work *w, char space)
{
    return kt_arena_printf(&w->arena, "%cwork%zu", space, (size_t)(w - works));
}

static inline void
propose_row(struct work *w)
{
    batch_set(w->rq.batch, key_of(w, 'a'), KT_LIT("row"));
}

static const struct kt_str scopes[] = { KT_LIT("read:tokens") };
static const struct account_record account = {
    .id = { { 1 } }, .org = { { 2 } }, .org_ext = KT_LIT("acme"), .name = KT_LIT("Name"),
    .slug = KT_LIT("slug"), .external_id = KT_LIT("ksa_1"), .epoch = 1,
};

static inline void
propose_token(struct work *w)
{
    propose_row(w);
    struct effect *e = batch_effect(w->rq.batch, EFFECT_TOKEN);
    e->account = &account;
    e->scopes = scopes;
    e->nscopes = 1;
    e->epoch = 1;
    memcpy(e->digest, w->digest, sizeof e->digest);
}

static inline void
propose_end(struct work *w, enum effect_type type, const struct work *of, int64_t expires_ms)
{
    struct effect *e = batch_effect(w->rq.batch, type);
    propose_row(w);
    memcpy(e->digest, of->digest, sizeof e->digest);
    e->expires_ms = expires_ms;
    w->rq.batch->urgent = true;
}

static inline void
commit(struct work *w)
{
    size_t before = finished;
    committer_push(committer, &w->rq);
    assert_true(wait_for(before + 1));
}

/* The first is in the disk's hands, and the others wait for it. */
static inline void
push_behind_a_stuck_one(size_t n)
{
    size_t applies = atomic_load(&core.disk->applies);
    pthread_mutex_lock(&core.disk->gate);
    for (size_t i = 0; i < n; i++) {
        propose_token(&works[i]);
        committer_push(committer, &works[i].rq);
        if (i == 0)
            assert_true(core_reaches(&core.disk->applies, applies + 1));
    }
}

static inline bool
is_in_store(struct work *w)
{
    struct call call;
    struct kt_arena memory;
    struct store_row row;
    const struct kt_str key = key_of(w, 'a');
    core_call(&core, &memory, &call);
    core_must(store_get(&call, core.svc.store, &key, 1, &row) == KT_OK);
    bool there = row.value.p != NULL;
    kt_arena_done(&memory);
    return there;
}

#endif
