/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A group of batches: each one statement and one transaction, in a pipeline over every connection
 * for writing that is free. Together they would be one transaction, and groups of different daemons
 * would wait for each other's rows in circles. */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    WINDOW = 16,             /* statements under way on one connection */
    WINDOW_BYTES = 1 << 20,  /* and their parameters */
    TRIES = 4                /* of one batch: transient errors, or a commit that did not happen */
};

enum progress {
    WAITING = 0, /* not sent; also: did not happen */
    SENT,
    LOST, /* sent, and its answer will not come */
    ENDED
};

struct piece {
    enum progress progress;
    unsigned tries;
    unsigned char id[16];
    size_t bytes; /* of its parameters */
};

struct lane {
    struct pg_slot *slot; /* NULL: lost */
    unsigned *queue;      /* numbers of batches, in order */
    unsigned n, sent, answered;
    size_t bytes;         /* under way */
    /* Of the batch that is being read: the answer, unless it failed. It counts once the sync behind
     * it has come: the row is sent before the commit. */
    bool has_answer, has_failed, is_transient;
    int64_t answer;
    enum kaiten_status failure;
};

/* One apply(). The memory is kept from one to the next. */
struct pg_group {
    struct pg *pg;
    const struct kaiten_batch *batches;
    struct kaiten_outcome *outcomes;
    size_t n;
    struct pg_why why;
    struct pg_params params;
    struct piece pieces[KAITEN_APPLY_BATCHES_MAX];
    unsigned chains[KAITEN_APPLY_BATCHES_MAX];
    unsigned lane_of[KAITEN_APPLY_BATCHES_MAX]; /* by chain; UINT32_MAX: none yet */
    bool urgent[KAITEN_APPLY_BATCHES_MAX];      /* by chain: there is a revocation in it */
    unsigned queues[PG_SLOTS_MAX][KAITEN_APPLY_BATCHES_MAX];
    struct lane lanes[PG_SLOTS_MAX];
    unsigned nlanes;
    /* Until when statements are sent, answers are waited for, and lost ones are looked up. */
    int64_t send_until, answer_until, end;
};

void
pg_group_free(struct pg_group *g)
{
    if (g)
        pg_params_done(&g->params);
    free(g);
}

static void
end(struct pg_group *g, unsigned i, struct kaiten_outcome outcome)
{
    g->outcomes[i] = outcome;
    g->pieces[i].progress = ENDED;
}

/* What kaiten.apply() and kaiten.resolve() return. False: it did not happen and must not. */
static bool
end_answered(struct pg_group *g, unsigned i, int64_t answer)
{
    if (answer == 0)
        return false;
    struct kaiten_outcome outcome = { .status = KAITEN_DONE, .revision = (uint64_t)answer };
    if (answer < 0)
        outcome = (struct kaiten_outcome){ .status = KAITEN_CONFLICT,
                                           .failed = (size_t)(-1 - answer) };
    end(g, i, outcome);
    return true;
}

/* It did not happen: once more, under an id of its own, unless that was often enough. */
static void
again(struct pg_group *g, unsigned i, enum kaiten_status status)
{
    struct piece *piece = &g->pieces[i];
    if (piece->tries >= TRIES) {
        end(g, i, (struct kaiten_outcome){ .status = status });
        return;
    }
    piece->progress = WAITING;
    g->pg->host.random(piece->id, sizeof piece->id);
}

/* --- lanes ---------------------------------------------------------------------------------- */

/* The connection is of no use any more. What was sent may have happened. */
static void
lane_lose(struct pg_group *g, struct lane *lane)
{
    if (!lane->slot)
        return;
    pg_why(&g->why, "%s", PQerrorMessage(lane->slot->pq));
    pg_give(g->pg, lane->slot, true);
    lane->slot = NULL;
    for (unsigned i = 0; i < lane->sent; i++)
        if (g->pieces[lane->queue[i]].progress == SENT)
            g->pieces[lane->queue[i]].progress = LOST;
}

static bool
lane_send(struct pg_group *g, struct lane *lane, unsigned i)
{
    struct piece *piece = &g->pieces[i];
    pg_params_reset(&g->params);
    pg_put_batch(&g->params, &g->batches[i], piece->id);
    if (g->params.failed) {
        pg_why(&g->why, "out of memory");
        end(g, i, (struct kaiten_outcome){ .status = KAITEN_FAILED });
        return true;
    }
    piece->tries++;
    piece->bytes = g->params.n;
    piece->progress = SENT;
    lane->bytes += piece->bytes;
    return pg_send_statement(lane->slot, PG_APPLY, &g->params) && PQpipelineSync(lane->slot->pq);
}

static void
lane_fill(struct pg_group *g, struct lane *lane)
{
    while (lane->slot && lane->sent < lane->n && lane->sent - lane->answered < WINDOW &&
           lane->bytes < WINDOW_BYTES && pg_now() < g->send_until) {
        unsigned i = lane->queue[lane->sent];
        if (!lane_send(g, lane, i)) {
            lane->sent++;
            lane_lose(g, lane);
        } else if (g->pieces[i].progress == SENT) {
            lane->sent++;
        } else { /* it never will be: out of the queue */
            memmove(&lane->queue[lane->sent], &lane->queue[lane->sent + 1],
                    (--lane->n - lane->sent) * sizeof *lane->queue);
        }
    }
    if (lane->slot && PQflush(lane->slot->pq) < 0)
        lane_lose(g, lane);
}

static void
lane_answer(struct pg_group *g, struct lane *lane, const PGresult *result)
{
    if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1) {
        lane->has_answer = true;
        lane->answer = pg_int8(result, 0, 0);
        return;
    }
    lane->has_failed = true;
    lane->is_transient = pg_is_transient(result);
    lane->failure = pg_status_of(result, &g->why);
}

static void
lane_synced(struct pg_group *g, struct lane *lane)
{
    unsigned i = lane->queue[lane->answered++];
    lane->bytes -= g->pieces[i].bytes;
    if (lane->has_failed && lane->is_transient)
        again(g, i, lane->failure);
    else if (lane->has_failed && lane->failure != KAITEN_UNKNOWN)
        end(g, i, (struct kaiten_outcome){ .status = lane->failure });
    else if (lane->has_failed || !lane->has_answer)
        g->pieces[i].progress = LOST;
    else if (!end_answered(g, i, lane->answer))
        again(g, i, KAITEN_RETRY);
    lane->has_answer = lane->has_failed = false;
}

static void
lane_read(struct pg_group *g, struct lane *lane)
{
    PGconn *pq = lane->slot->pq;
    if (!PQconsumeInput(pq)) {
        lane_lose(g, lane);
        return;
    }
    while (lane->answered < lane->sent && PQstatus(pq) == CONNECTION_OK && !PQisBusy(pq)) {
        PGresult *result = PQgetResult(pq);
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC)
            lane_synced(g, lane);
        else if (result)
            lane_answer(g, lane, result);
        PQclear(result);
    }
    if (PQstatus(pq) != CONNECTION_OK)
        lane_lose(g, lane);
}

/* Whether anything is under way or can still be sent. */
static bool
lane_is_busy(const struct lane *lane, bool sending)
{
    return lane->slot && (lane->answered < lane->sent || (sending && lane->sent < lane->n));
}

/* Waits for any lane; late ones are given up. */
static void
lanes_wait(struct pg_group *g)
{
    struct pollfd fds[PG_SLOTS_MAX];
    struct lane *polled[PG_SLOTS_MAX];
    nfds_t n = 0;
    for (unsigned i = 0; i < g->nlanes; i++) {
        struct lane *lane = &g->lanes[i];
        if (!lane->slot || lane->answered == lane->sent)
            continue;
        short events = PQflush(lane->slot->pq) > 0 ? POLLIN | POLLOUT : POLLIN;
        fds[n] = (struct pollfd){ PQsocket(lane->slot->pq), events, 0 };
        polled[n++] = lane;
    }
    int64_t left = g->answer_until - pg_now();
    int ready = n > 0 && left > 0 ? poll(fds, n, (int)(left < 1000 ? left : 1000)) : 0;
    for (nfds_t i = 0; i < n; i++) {
        if (left <= 0) {
            pg_why(&g->why, "the database does not answer");
            lane_lose(g, polled[i]);
            g->why.silent = true;
        } else if (ready > 0 && fds[i].revents)
            lane_read(g, polled[i]);
    }
}

static void
lanes_run(struct pg_group *g)
{
    for (;;) {
        bool busy = false, sending = pg_now() < g->send_until;
        for (unsigned i = 0; i < g->nlanes; i++) {
            if (g->lanes[i].slot)
                lane_fill(g, &g->lanes[i]);
            busy |= lane_is_busy(&g->lanes[i], sending);
        }
        if (!busy)
            return;
        lanes_wait(g);
    }
}

/* --- one round ------------------------------------------------------------------------------ */

static bool
lane_add(struct pg_group *g, struct pg_slot *slot)
{
    if (!slot)
        return false;
    if (PQpipelineStatus(slot->pq) == PQ_PIPELINE_OFF && !PQenterPipelineMode(slot->pq)) {
        pg_give(g->pg, slot, true);
        return true;
    }
    g->lanes[g->nlanes] = (struct lane){ .slot = slot, .queue = g->queues[g->nlanes] };
    g->nlanes++;
    return true;
}

static void
lanes_give(struct pg_group *g)
{
    for (unsigned i = 0; i < g->nlanes; i++)
        pg_give(g->pg, g->lanes[i].slot, false);
    g->nlanes = 0;
}

static unsigned
least_loaded(const struct pg_group *g)
{
    unsigned least = 0;
    for (unsigned i = 1; i < g->nlanes; i++)
        if (g->lanes[i].n < g->lanes[least].n)
            least = i;
    return least;
}

/* Waiting batches go to the lanes, a chain to one of them in the order of the group. */
static void
share(struct pg_group *g, bool urgent)
{
    for (unsigned i = 0; i < g->n; i++) {
        unsigned chain = g->chains[i];
        if (g->pieces[i].progress != WAITING || g->urgent[chain] != urgent)
            continue;
        if (g->lane_of[chain] == UINT32_MAX)
            g->lane_of[chain] = least_loaded(g);
        struct lane *lane = &g->lanes[g->lane_of[chain]];
        lane->queue[lane->n++] = i;
    }
}

static unsigned
count(const struct pg_group *g, enum progress progress)
{
    unsigned n = 0;
    for (unsigned i = 0; i < g->n; i++)
        n += g->pieces[i].progress == progress;
    return n;
}

/* False: there is no connection. */
static bool
run_waiting(struct pg_group *g)
{
    unsigned waiting = count(g, WAITING);
    if (!lane_add(g, pg_take(g->pg, PG_WRITING, g->send_until, &g->why)))
        return false;
    while (g->nlanes < waiting && lane_add(g, pg_take_more(g->pg, PG_WRITING)))
        continue;
    if (g->nlanes == 0)
        return false;
    for (unsigned i = 0; i < g->n; i++)
        g->lane_of[i] = UINT32_MAX;
    share(g, true);
    share(g, false);
    g->why.silent = false;
    lanes_run(g);
    lanes_give(g);
    if (g->why.silent)
        pg_silent(g->pg);
    return true;
}

/* --- lost answers --------------------------------------------------------------------------- */

static bool
look_up(struct pg_group *g, unsigned i)
{
    PGresult *result;
    pg_params_reset(&g->params);
    pg_put_uuid(&g->params, g->pieces[i].id);
    enum kaiten_status status = pg_read(g->pg, PG_READING, "SELECT kaiten.resolve($1)", &g->params,
                                        g->end, &result, &g->why);
    if (status != KAITEN_DONE)
        return false;
    int64_t answer = PQntuples(result) == 1 ? pg_int8(result, 0, 0) : 0;
    PQclear(result);
    if (!end_answered(g, i, answer))
        again(g, i, KAITEN_RETRY);
    return true;
}

static void
look_up_lost(struct pg_group *g)
{
    for (unsigned i = 0; i < g->n; i++) {
        while (g->pieces[i].progress == LOST && !look_up(g, i)) {
            if (pg_now() >= g->end)
                return;
            nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
        }
    }
}

/* --- the group ------------------------------------------------------------------------------ */

static struct pg_group *
group_begin(struct pg *pg, const struct kaiten_batch *batches, size_t n,
            struct kaiten_outcome *outcomes)
{
    if (!pg->group)
        pg->group = calloc(1, sizeof *pg->group);
    struct pg_group *g = pg->group;
    if (!g || !pg_plan(batches, n, g->chains))
        return NULL;
    g->pg = pg;
    g->batches = batches;
    g->outcomes = outcomes;
    g->n = n;
    g->why = (struct pg_why){ .text = "" };
    memset(g->urgent, 0, sizeof g->urgent);
    for (size_t i = 0; i < n; i++) {
        g->pieces[i] = (struct piece){ .progress = WAITING };
        memcpy(g->pieces[i].id, batches[i].id, sizeof batches[i].id);
        if (batches[i].flags & KAITEN_BATCH_URGENT)
            g->urgent[g->chains[i]] = true;
    }
    /* The server gives up a statement after half of the time. */
    int64_t now = pg_now();
    g->end = pg_until(pg);
    g->send_until = now + (g->end - now) / 3;
    g->answer_until = now + (g->end - now) * 3 / 4;
    return g;
}

enum kaiten_status
pg_apply(void *instance, const struct kaiten_batch *batches, size_t n,
         struct kaiten_outcome *outcomes, struct kaiten_err *err)
{
    struct pg *pg = instance;
    struct pg_group *g = group_begin(pg, batches, n, outcomes);
    if (!g) {
        pg->host.error(err, "out of memory");
        return KAITEN_FAILED;
    }
    while (count(g, WAITING) > 0 && pg_now() < g->send_until && run_waiting(g))
        look_up_lost(g);
    bool fine = true;
    for (unsigned i = 0; i < n; i++) {
        if (g->pieces[i].progress != ENDED) {
            enum kaiten_status status =
                g->pieces[i].progress == LOST ? KAITEN_UNKNOWN : KAITEN_RETRY;
            end(g, i, (struct kaiten_outcome){ .status = status });
        }
        fine &= outcomes[i].status == KAITEN_DONE || outcomes[i].status == KAITEN_CONFLICT;
    }
    if (!fine)
        pg->host.error(err, "%s", g->why.text[0] ? g->why.text : "the database is too slow");
    return KAITEN_DONE;
}
