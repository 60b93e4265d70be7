/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A group of batches, as statements in pipelines over the connections for writing. A statement is a
 * transaction. Batches that have nothing to do with each other share one, a few at a time: half of
 * what a mint costs the server is the transaction around it. It takes its locks in the same order
 * as that of a single batch, so that those of different daemons do not wait for each other in
 * circles, and what fails there is tried again batch by batch. */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    WINDOW = 16,             /* statements under way on one connection */
    WINDOW_BYTES = 1 << 20,  /* and their parameters */
    TOGETHER_BYTES = 1 << 16, /* of the batches of a statement, if it has more than one */
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
    unsigned char id[16]; /* of its statement */
    /* Of the first one of a statement: how many it has, and the size of its parameters. */
    unsigned together;
    size_t bytes;
};

struct lane {
    struct pg_slot *slot; /* NULL: lost */
    unsigned *queue;      /* numbers of batches, in order */
    unsigned n, sent, answered;
    unsigned statements;  /* under way */
    size_t bytes;
    /* Of the statement that is being read: the answer, unless it failed. It counts once the sync
     * behind it has come: the row is sent before the commit. */
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
    bool read_only; /* the server has said so */
    struct pg_params params;
    struct piece pieces[KAITEN_APPLY_BATCHES_MAX];
    unsigned chains[KAITEN_APPLY_BATCHES_MAX];
    unsigned lane_of[KAITEN_APPLY_BATCHES_MAX]; /* by chain; UINT32_MAX: none yet */
    bool urgent[KAITEN_APPLY_BATCHES_MAX];      /* by chain: there is a revocation in it */
    unsigned members[KAITEN_APPLY_BATCHES_MAX]; /* by chain */
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

/* It has nothing to do with any other one, and was not part of a statement that failed. */
static bool
is_sociable(const struct pg_group *g, unsigned i)
{
    return g->members[g->chains[i]] == 1 && g->pieces[i].tries == 0;
}

/* How many of those that are next share a statement. */
static unsigned
lane_together(const struct pg_group *g, const struct lane *lane)
{
    const unsigned *next = &lane->queue[lane->sent];
    size_t bytes = 0;
    unsigned n = 0;
    for (; n < PG_TOGETHER_MAX && lane->sent + n < lane->n; n++) {
        bytes += pg_batch_bytes(&g->batches[next[n]]);
        if (!is_sociable(g, next[n]) || bytes > TOGETHER_BYTES ||
            g->urgent[g->chains[next[n]]] != g->urgent[g->chains[next[0]]])
            break;
    }
    return n > 0 ? n : 1;
}

/* The next statement. *ret_n: of how many batches; 0: there was no memory, and they have ended. */
static bool
lane_send(struct pg_group *g, struct lane *lane, unsigned *ret_n)
{
    const unsigned *next = &lane->queue[lane->sent];
    const struct kaiten_batch *batches[PG_TOGETHER_MAX];
    struct piece *first = &g->pieces[next[0]];
    unsigned n = lane_together(g, lane);
    for (unsigned i = 0; i < n; i++)
        batches[i] = &g->batches[next[i]];
    pg_params_reset(&g->params);
    pg_put_batches(&g->params, batches, n, first->id);
    *ret_n = n;
    if (g->params.failed) {
        pg_why(&g->why, "out of memory");
        for (unsigned i = 0; i < n; i++)
            end(g, next[i], (struct kaiten_outcome){ .status = KAITEN_FAILED });
        lane->n -= n; /* it never will be: out of the queue */
        memmove(&lane->queue[lane->sent], &lane->queue[lane->sent + n],
                (lane->n - lane->sent) * sizeof *lane->queue);
        *ret_n = 0;
        return true;
    }
    for (unsigned i = 0; i < n; i++) {
        struct piece *piece = &g->pieces[next[i]];
        piece->tries++;
        piece->progress = SENT;
        memmove(piece->id, first->id, sizeof piece->id);
    }
    first->together = n;
    first->bytes = g->params.n;
    lane->bytes += first->bytes;
    lane->statements++;
    return pg_send_statement(lane->slot, PG_APPLY, &g->params) && PQpipelineSync(lane->slot->pq);
}

static void
lane_fill(struct pg_group *g, struct lane *lane)
{
    while (lane->slot && lane->sent < lane->n && lane->statements < WINDOW &&
           lane->bytes < WINDOW_BYTES && pg_now() < g->send_until) {
        unsigned n;
        bool sent = lane_send(g, lane, &n);
        lane->sent += n;
        if (!sent)
            lane_lose(g, lane);
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
    g->read_only |= pg_is_read_only(result);
}

/* Of several nothing was written, because of one of them: the condition of that number. */
static void
part(struct pg_group *g, const unsigned which[], unsigned n, size_t number)
{
    for (unsigned i = 0; i < n; i++) {
        if (number / KAITEN_BATCH_CONDS_MAX == i)
            end(g, which[i], (struct kaiten_outcome){ .status = KAITEN_CONFLICT,
                                                      .failed = number % KAITEN_BATCH_CONDS_MAX });
        else
            again(g, which[i], KAITEN_RETRY);
    }
}

/* What became of the i-th batch of a statement that was answered. */
static void
lane_conclude(struct pg_group *g, const struct lane *lane, unsigned i, bool alone)
{
    if (lane->has_failed && lane->failure != KAITEN_UNKNOWN && (lane->is_transient || !alone))
        again(g, i, lane->failure);
    else if (lane->has_failed && lane->failure != KAITEN_UNKNOWN)
        end(g, i, (struct kaiten_outcome){ .status = lane->failure });
    else if (lane->has_failed || !lane->has_answer || (lane->answer > 0 && lane->slot->warned))
        g->pieces[i].progress = LOST;
    else if (!end_answered(g, i, lane->answer))
        again(g, i, KAITEN_RETRY);
}

static void
lane_synced(struct pg_group *g, struct lane *lane)
{
    const unsigned *which = &lane->queue[lane->answered];
    unsigned n = g->pieces[which[0]].together;
    lane->answered += n;
    lane->statements--;
    lane->bytes -= g->pieces[which[0]].bytes;
    if (n > 1 && !lane->has_failed && lane->has_answer && lane->answer < 0)
        part(g, which, n, (size_t)(-1 - lane->answer));
    else
        for (unsigned i = 0; i < n; i++)
            lane_conclude(g, lane, which[i], n == 1);
    lane->has_answer = lane->has_failed = lane->slot->warned = false;
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
            pg_why(&g->why, "%s", PG_SILENT);
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
    slot->warned = false;
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

/* How many connections are worth having: one for each statement. */
static unsigned
lanes_wanted(const struct pg_group *g)
{
    unsigned alone = 0, others = 0;
    for (unsigned i = 0; i < g->n; i++)
        if (g->pieces[i].progress == WAITING)
            *(is_sociable(g, i) ? &others : &alone) += 1;
    return alone + (others + PG_TOGETHER_MAX - 1) / PG_TOGETHER_MAX;
}

/* False: there is no connection. */
static bool
run_waiting(struct pg_group *g)
{
    unsigned wanted = lanes_wanted(g);
    if (!lane_add(g, pg_take(g->pg, PG_WRITING, g->send_until, &g->why)))
        return false;
    while (g->nlanes < wanted && lane_add(g, pg_take_more(g->pg, PG_WRITING)))
        continue;
    if (g->nlanes == 0)
        return false;
    for (unsigned i = 0; i < g->n; i++)
        g->lane_of[i] = UINT32_MAX;
    share(g, true);
    share(g, false);
    g->why.silent = g->read_only = false;
    lanes_run(g);
    lanes_give(g);
    if (g->why.silent)
        pg_turn_away(g->pg, PG_SILENT);
    else if (g->read_only)
        pg_turn_away(g->pg, PG_READ_ONLY);
    return true;
}

/* --- lost answers --------------------------------------------------------------------------- */

/* With all of its statement. */
static bool
look_up(struct pg_group *g, unsigned i)
{
    PGresult *result;
    unsigned char id[16];
    memcpy(id, g->pieces[i].id, sizeof id);
    pg_params_reset(&g->params);
    pg_put_uuid(&g->params, id);
    const struct pg_question q = { .sql = "SELECT kaiten.resolve($1)", .params = &g->params,
                                   .until = g->end, .commits = true };
    enum kaiten_status status = pg_read(g->pg, PG_READING, &q, &result, &g->why);
    if (status != KAITEN_DONE)
        return false;
    int64_t answer = PQntuples(result) == 1 ? pg_int8(result, 0, 0) : 0;
    PQclear(result);
    for (; i < g->n; i++)
        if (g->pieces[i].progress == LOST && memcmp(g->pieces[i].id, id, sizeof id) == 0 &&
            !end_answered(g, i, answer))
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
    memset(g->members, 0, sizeof g->members);
    for (size_t i = 0; i < n; i++) {
        g->pieces[i] = (struct piece){ .progress = WAITING };
        memcpy(g->pieces[i].id, batches[i].id, sizeof batches[i].id);
        g->members[g->chains[i]]++;
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
