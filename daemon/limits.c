/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/limits.h"

#include "daemon/log.h"
#include "daemon/service.h"

#include <stdlib.h>

enum { TELL_MS = 10 * 1000 };

static const char *const names[LIMITS_KINDS] = {
    [LIMITS_REQUESTS] = "requests",
    [LIMITS_LOOKUPS] = "look-ups of what is not there",
    [LIMITS_CREDENTIALS] = "wrong credentials from here",
};

struct limits {
    /* There can be many strangers, so they have a table of their own to fill. */
    struct limiter *callers, *sources;
    struct limiter_rate requests, failures;
    _Atomic uint64_t refused[LIMITS_KINDS];
    _Atomic int64_t tell_after; /* monotonic ms; refusals are not told before */
};

static struct limiter_rate
rate_of(const struct kaiten_rate *rate)
{
    if (rate->requests == 0 || rate->requests == KAITEN_RATE_NONE || rate->period_ms == 0)
        return (struct limiter_rate){ 0 };
    return limiter_rate(rate->requests, rate->period_ms,
                        rate->burst ? rate->burst : rate->requests);
}

struct limits *
limits_new(const struct limits_options *options)
{
    struct limits *limits = calloc(1, sizeof *limits);
    if (!limits)
        return NULL;
    limits->requests = rate_of(&options->requests);
    limits->failures = rate_of(&options->failures);
    limits->callers = limiter_new(LIMITER_PLACES);
    limits->sources = limiter_new(LIMITER_PLACES);
    if (limits->callers && limits->sources)
        return limits;
    limits_free(limits);
    return NULL;
}

void
limits_free(struct limits *limits)
{
    if (!limits)
        return;
    limiter_free(limits->callers);
    limiter_free(limits->sources);
    free(limits);
}

void
limits_adopt(const struct limits *limits, struct principal *who)
{
    if (who->asked_rate.requests != 0)
        who->rate = rate_of(&who->asked_rate);
    else if (limits)
        who->rate = limits->requests;
}

/* --- who ---------------------------------------------------------------------------------- */

struct caller_name {
    struct uuid org, id;
    uint64_t uid; /* UINT64_MAX: not counted */
};

static uint64_t
caller_key(const struct limits *limits, const struct request *rq)
{
    const struct principal *who = rq->call.who;
    bool by_kernel = !rq->credential.p && rq->peer->caller.has_peer;
    const struct caller_name name = { who->org, who->id,
                                      by_kernel ? rq->peer->caller.uid : UINT64_MAX };
    return limiter_key(limits->callers, &name, sizeof name);
}

/* A caller's key for look-ups, different from the one for its requests. */
static uint64_t
lookups_key(const struct limits *limits, const struct request *rq)
{
    return ~caller_key(limits, rq);
}

static uint64_t
source_key(const struct limits *limits, const struct request *rq)
{
    const uint64_t name[] = { (uint64_t)rq->transport->door, rq->peer->source };
    return limiter_key(limits->sources, name, sizeof name);
}

/* --- refusing ----------------------------------------------------------------------------- */

/* A flood is one line per interval; the counters have it all. */
static void
tell(struct limits *limits, const struct request *rq, enum limits_kind kind)
{
    int64_t now = clock_mono_ms(), after = atomic_load(&limits->tell_after);
    if (now < after || !atomic_compare_exchange_strong(&limits->tell_after, &after, now + TELL_MS))
        return;
    log_line(LOG_LEVEL_WARNING, "limit.reached", "limit=%s peer=%s subject=%s", names[kind],
             rq->peer->remote, rq->call.who ? rq->call.who->subject.p : "-");
}

static int
refuse(struct request *rq, enum limits_kind kind, int64_t wait_ns)
{
    struct limits *limits = rq->call.svc->limits;
    int64_t seconds = (wait_ns + 999999999) / 1000000000;
    atomic_fetch_add_explicit(&limits->refused[kind], 1, memory_order_relaxed);
    tell(limits, rq, kind);
    rq->call.err.retry_after_s = seconds;
    return fail(&rq->call, KT_TOO_MANY_REQUESTS, NULL, "too many %s, please retry in %lld s",
                names[kind], (long long)seconds);
}

/* --- asking ------------------------------------------------------------------------------- */

static int
count_request(struct limits *limits, struct request *rq)
{
    if (rq->counted)
        return KT_OK;
    int64_t wait = limiter_take(limits->callers, caller_key(limits, rq), rq->call.who->rate,
                                limiter_now_ns());
    rq->counted = wait == 0;
    return wait == 0 ? KT_OK : refuse(rq, LIMITS_REQUESTS, wait);
}

static int
check_lookups(struct limits *limits, struct request *rq)
{
    int64_t wait = limiter_wait(limits->callers, lookups_key(limits, rq), limits->failures,
                                limiter_now_ns());
    return wait == 0 ? KT_OK : refuse(rq, LIMITS_LOOKUPS, wait);
}

int
limits_caller(struct request *rq)
{
    struct limits *limits = rq->call.svc->limits;
    const unsigned flags = rq->op ? rq->op->flags : 0;
    if (!limits || (flags & OP_ENDS))
        return KT_OK;
    int status = rq->call.who->rate.interval_ns ? count_request(limits, rq) : KT_OK;
    if (status == KT_OK && limits->failures.interval_ns && !(flags & OP_INLINE))
        status = check_lookups(limits, rq);
    return status;
}

void
limits_forget(struct request *rq)
{
    struct limits *limits = rq->call.svc->limits;
    if (rq->counted)
        limiter_give_back(limits->callers, caller_key(limits, rq), rq->call.who->rate);
    rq->counted = false;
}

void
limits_missed(struct request *rq)
{
    struct limits *limits = rq->call.svc->limits;
    if (limits && rq->call.who && limits->failures.interval_ns)
        (void)limiter_take(limits->callers, lookups_key(limits, rq), limits->failures,
                           limiter_now_ns());
}

static bool
counts_strangers(const struct limits *limits)
{
    return limits && limits->failures.interval_ns;
}

int
limits_stranger(struct request *rq)
{
    const struct limits *limits = rq->call.svc->limits;
    if (!counts_strangers(limits) || (rq->op && (rq->op->flags & OP_ENDS)))
        return KT_OK;
    int64_t wait = limiter_wait(limits->sources, source_key(limits, rq), limits->failures,
                                limiter_now_ns());
    return wait == 0 ? KT_OK : refuse(rq, LIMITS_CREDENTIALS, wait);
}

int
limits_failed(struct request *rq)
{
    const struct limits *limits = rq->call.svc->limits;
    if (!counts_strangers(limits))
        return KT_OK;
    int64_t wait = limiter_take(limits->sources, source_key(limits, rq), limits->failures,
                                limiter_now_ns());
    return wait == 0 ? KT_OK : refuse(rq, LIMITS_CREDENTIALS, wait);
}

void
limits_stats(const struct limits *limits, struct limits_stats *ret)
{
    for (size_t i = 0; i < LIMITS_KINDS; i++)
        ret->refused[i] = atomic_load_explicit(&limits->refused[i], memory_order_relaxed);
    ret->crowded = limiter_crowded(limits->callers) + limiter_crowded(limits->sources);
}
