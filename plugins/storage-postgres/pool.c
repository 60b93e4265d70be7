/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    ATTEMPTS = 3, /* of a statement that only reads */
    READS_MAX = 16
};

void
pg_wake(struct pg *pg)
{
    const uint64_t one = 1;
    ssize_t n = write(pg->wake, &one, sizeof one);
    (void)n; /* it fails only when there are too many calls to wake to count */
}

/* Whether the server has closed it meanwhile, as far as one can see without asking. A server says
 * why before it closes, so what can be read is read to the end. */
static bool
is_stale(PGconn *pq)
{
    for (int i = 0; i < READS_MAX; i++) {
        struct pollfd fd = { PQsocket(pq), POLLIN, 0 };
        if (poll(&fd, 1, 0) <= 0)
            return false;
        if (!PQconsumeInput(pq) || PQstatus(pq) != CONNECTION_OK)
            return true;
    }
    return true; /* it does not stop talking */
}

/* There is one warning that a statement of ours can end with: an administrator has had it not wait
 * any longer for synchronous standbys, and it is committed here alone. */
static void
note_warning(void *ctx, const PGresult *notice)
{
    struct pg_slot *slot = ctx;
    const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
    slot->warned |= severity && strcmp(severity, "WARNING") == 0;
}

void
pg_fill(struct pg_slot *slot, PGconn *pq)
{
    slot->pq = pq;
    PQsetNoticeReceiver(pq, note_warning, slot);
}

static void
slot_close(struct pg *pg, struct pg_slot *slot)
{
    PQfinish(slot->pq);
    slot->pq = NULL;
    slot->shunned = false;
    slot->state = PG_EMPTY;
    pthread_cond_broadcast(&pg->given);
    pg_wake(pg);
}

/* An idle one, now the caller's; with *ret_any, whether there is any that will be idle again. */
static struct pg_slot *
find_idle(struct pg *pg, enum pg_use use, bool *ret_any)
{
    *ret_any = false;
    for (unsigned i = 0; i < pg->nslots; i++) {
        struct pg_slot *slot = &pg->slots[i];
        if (slot->use != use || slot->state == PG_EMPTY)
            continue;
        if (slot->state == PG_IDLE && is_stale(slot->pq)) {
            slot_close(pg, slot);
            continue;
        }
        *ret_any = true;
        if (slot->state == PG_IDLE) {
            slot->state = PG_BUSY;
            return slot;
        }
    }
    return NULL;
}

/* The condition counts by CLOCK_MONOTONIC, see open.c. */
static bool
wait_given(struct pg *pg, int64_t until)
{
    struct timespec end = { until / 1000, until % 1000 * 1000000 };
    return pthread_cond_timedwait(&pg->given, &pg->mutex, &end) == 0;
}

struct pg_slot *
pg_take(struct pg *pg, enum pg_use use, int64_t until, struct pg_why *why)
{
    bool any;
    struct pg_slot *slot;
    pthread_mutex_lock(&pg->mutex);
    while (!(slot = find_idle(pg, use, &any))) {
        if (pg->down && !any) {
            pg_why(why, "no connection: %s", pg->down_why.text);
            break;
        }
        if (pg_now() >= until || !wait_given(pg, until)) {
            pg_why(why, any ? "all connections are in use" : "no connection");
            break;
        }
    }
    pthread_mutex_unlock(&pg->mutex);
    return slot;
}

struct pg_slot *
pg_take_more(struct pg *pg, enum pg_use use)
{
    bool any;
    pthread_mutex_lock(&pg->mutex);
    struct pg_slot *slot = find_idle(pg, use, &any);
    pthread_mutex_unlock(&pg->mutex);
    return slot;
}

void
pg_give(struct pg *pg, struct pg_slot *slot, bool lost)
{
    if (!slot)
        return;
    pthread_mutex_lock(&pg->mutex);
    if (lost || slot->shunned || PQstatus(slot->pq) != CONNECTION_OK) {
        slot_close(pg, slot);
    } else {
        slot->state = PG_IDLE;
        pthread_cond_broadcast(&pg->given); /* they wait for different ones */
    }
    pthread_mutex_unlock(&pg->mutex);
}

/* Those that are in use go when they are given back. */
static void
shun_all(struct pg *pg)
{
    for (unsigned i = 0; i < pg->nslots; i++) {
        pg->slots[i].shunned = pg->slots[i].state == PG_BUSY;
        if (pg->slots[i].state == PG_IDLE)
            slot_close(pg, &pg->slots[i]);
    }
}

enum kaiten_status
pg_recognize(struct pg *pg, PGconn *pq, int64_t until, struct pg_why *why)
{
    PGresult *result;
    enum kaiten_status status =
        pg_query(pq, "SELECT pg_postmaster_start_time()", NULL, until, &result, why);
    if (status != KAITEN_DONE)
        return status;
    int64_t started = PQntuples(result) == 1 ? pg_int8(result, 0, 0) : 0;
    PQclear(result);
    pthread_mutex_lock(&pg->mutex);
    if (atomic_load(&pg->servers) == 0 || started != pg->started) {
        shun_all(pg);
        pg->started = started;
        atomic_fetch_add(&pg->servers, 1);
    }
    pthread_mutex_unlock(&pg->mutex);
    return KAITEN_DONE;
}

uint64_t
pg_server_of(struct pg *pg, int64_t started)
{
    pthread_mutex_lock(&pg->mutex);
    uint64_t number = started == pg->started ? atomic_load(&pg->servers) : 0;
    pthread_mutex_unlock(&pg->mutex);
    return number;
}

void
pg_turn_away(struct pg *pg, const char *reason)
{
    pthread_mutex_lock(&pg->mutex);
    shun_all(pg);
    pg->down = true;
    pg->down_why = (struct pg_why){ .text = "" };
    pg_why(&pg->down_why, "%s", reason);
    pthread_cond_broadcast(&pg->given);
    pthread_mutex_unlock(&pg->mutex);
    pg_wake(pg);
}

enum kaiten_status
pg_read(struct pg *pg, enum pg_use use, const struct pg_question *q, PGresult **ret_result,
        struct pg_why *why)
{
    struct pg_why last = { .text = "" };
    for (int i = 0; i < ATTEMPTS && pg_now() < q->until; i++) {
        last = (struct pg_why){ .text = "" };
        struct pg_slot *slot = pg_take(pg, use, q->until, &last);
        if (!slot)
            break;
        slot->warned = false;
        enum kaiten_status status = pg_ask(slot, q, ret_result, &last);
        if (status == KAITEN_DONE && q->commits && slot->warned) {
            PQclear(*ret_result);
            pg_why(&last, "%s", PG_ALONE);
            status = KAITEN_UNKNOWN;
        }
        pg_give(pg, slot, status == KAITEN_UNKNOWN);
        if (last.silent)
            pg_turn_away(pg, PG_SILENT);
        if (status == KAITEN_UNKNOWN)
            continue;
        if (status != KAITEN_DONE)
            pg_why(why, "%s", last.text);
        return status;
    }
    pg_why(why, "%s", last.text[0] ? last.text : "no time left");
    return KAITEN_RETRY;
}
