/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the daemon is made of, for those who do its work: put together by main before the first
 * listener opens. Afterwards only the atomic members change, and endings, as it says there. */
#ifndef SERVICE_H
#define SERVICE_H

#include "daemon/model/scope.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

struct account_cache;
struct backup;
struct committer;
struct digest_keys;
struct documents;
struct endings;
struct follower;
struct index;
struct journal;
struct limits;
struct metrics;
struct inflight;
struct rekeys;
struct rotation;
struct signer;
struct store;
struct unsettled;
struct used;
struct workers;

enum service_state {
    SERVICE_STARTING = 0,
    SERVICE_READY,
    SERVICE_DRAINING  /* what was read is answered */
};

/* How far what memory says can be trusted, of a store that others write too. */
struct freshness {
    /* CLOCK_BOOTTIME before the last look at the store was sent whose outcome the index has; what
     * was committed before is in it. INT64_MIN: nobody knows. */
    _Atomic int64_t as_of_ms;
    /* The store has another history, and has not been told yet what the journal knows to have
     * ended: it decides nothing either. */
    atomic_bool unexplained;
    int64_t max_ms; /* older than this it decides nothing any more */
};

struct service {
    struct store *store;
    struct index *index;
    const struct freshness *fresh; /* NULL: nobody else writes the store */
    struct follower *follower;     /* with it */
    _Atomic uint64_t ends; /* grows with each ending that the index learns, before it is answered */
    /* Held shared by a worker that looks into the index, and alone by whoever frees memory that
     * the index has retired. Event loops need not: the barrier before the free passed them. */
    pthread_rwlock_t *index_guard;
    /* The index is still being filled: the store says what a token is, and nothing is changed. */
    atomic_bool filling;
    const struct endings *endings; /* meanwhile, what the journal says; NULL: there is none. Under
                                      index_guard. */
    struct journal *journal; /* the committer's; NULL: the store forgets everything anyway */
    /* Why the store may have forgotten what was revoked: nothing is accepted, nothing changed.
     * NULL: it has not. */
    _Atomic(const char *) quarantine;
    /* The digest keys in force: read once for whatever belongs together. Rotation puts others here,
     * and keeps those that were here before until the end. */
    struct digest_keys *_Atomic keys;
    struct signer *signer;
    struct committer *committer;
    struct inflight *inflight;
    struct unsettled *unsettled; /* NULL: it is not watched */
    struct account_cache *accounts; /* NULL: the store is asked each time */
    struct used *used;
    struct rekeys *rekeys; /* NULL: digests are not made anew */
    struct rotation *rotation;
    struct workers *workers;
    struct backup *backup;
    struct metrics *metrics; /* NULL: nothing is counted (tests) */
    struct limits *limits;   /* NULL: no limits (tests) */
    const struct documents *documents;
    struct scope_modules modules;
    _Atomic int64_t lifetime_max_ms; /* the longest token anybody may mint; 0: no limit */
    uint64_t journal_told; /* by the start to the store: the number of its mark of the journal */
    /* How long the journal keeps what does not expire; 0: for ever. */
    _Atomic int64_t journal_keep_ms;
    _Atomic int64_t request_ms;   /* how long a request may take */
    _Atomic bool scopes_unbounded; /* tokens may hold more than their creator */
    size_t queue_max;             /* requests that may wait for a worker, or for the committer;
                                     0: any number (tests) */
    size_t embedded_tokens_max;   /* tokens inside an account's answer */
    _Atomic int state;            /* enum service_state */
};

#endif
