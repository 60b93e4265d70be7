/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* How often somebody may ask, or may be wrong.
 *
 * A caller is an identity of an organization, and on the socket, when it is the kernel's word alone
 * that says who it is, the uid with it: so one user who floods through a rule for many leaves the
 * others theirs. Of who brings a credential the uid does not count, or one would have as many
 * buckets as he has uids. A source is a uid on the socket, an address or an IPv6 network of 64 bits
 * on HTTP.
 *
 * - Requests: a caller with a rate, of its rule or issuer or of the configuration for all.
 * - Look-ups of what is not there: each caller. Beyond the limit nothing is looked up for it.
 * - Wrong credentials: each source. Many stand behind one address, so that a limit there never
 *   comes before an answer for who is known already, nor for a token of ours, which nobody guesses
 *   and which costs no more than a look into memory. Other credentials are not looked at.
 *
 * Operations with OP_ENDS are never refused: what has to end does not wait for a limit. */
#ifndef LIMITS_H
#define LIMITS_H

#include "daemon/ops.h"
#include "daemon/principal.h"

struct limits;

struct limits_options {
    struct kaiten_rate requests; /* of each caller without a rate of its own */
    struct kaiten_rate failures; /* look-ups of what is not there, and wrong credentials */
};

enum limits_kind { LIMITS_REQUESTS = 0, LIMITS_LOOKUPS, LIMITS_CREDENTIALS, LIMITS_KINDS };

struct limits_stats {
    uint64_t refused[LIMITS_KINDS];
    uint64_t crowded; /* found no place in a table, and shared a bucket with others */
};

struct limits *limits_new(const struct limits_options *); /* NULL: no memory */
void limits_free(struct limits *); /* NULL allowed */

/* Gives a principal without a rate of its own that of all callers. Before anybody else has it. */
void limits_adopt(const struct limits *, struct principal *); /* NULL: no limits */

/* Behind limits_check(), on whatever thread owns the request. */
int limits_caller(struct request *);

/* Whether this request of an authenticated caller is one too many, also when it asks for no
 * operation that there is. 0, or KT_TOO_MANY_REQUESTS with the refusal. It is counted once, however
 * often this is asked. */
static inline int
limits_check(struct request *rq)
{
    if (rq->call.who->rate.interval_ns == 0 && rq->op && (rq->op->flags & OP_INLINE))
        return KT_OK;
    return limits_caller(rq);
}

/* The request will begin again as another one: it is not counted. */
void limits_forget(struct request *);

/* The caller has asked for something that is not there. */
void limits_missed(struct request *);

/* Before a credential is looked at that costs something or could be guessed: 0, or
 * KT_TOO_MANY_REQUESTS with the refusal. */
int limits_stranger(struct request *);

/* It was a wrong one. KT_TOO_MANY_REQUESTS with the refusal, in place of the usual one, or 0. */
int limits_failed(struct request *);

/* Any thread. */
void limits_stats(const struct limits *, struct limits_stats *ret);

#endif
