/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    CONNECT_MS = 1000,    /* for one attempt */
    BACKOFF_MIN_MS = 50,
    BACKOFF_MAX_MS = 400, /* so short that the daemon is back within two seconds of the database */
    PURGE_MS = 60000,
    PURGE_MORE_MS = 500,  /* while there is more to do */
    PURGE_ROWS = 10000,
    NOTICE_MS = 5000,  /* how long a notice may take that is sent to see whether any come */
    NOTICE_AGAIN_MS = 100
};

struct keeper {
    struct pg *pg;
    int64_t connect_at; /* not before */
    int64_t backoff;
    int64_t purge_at;
    int64_t ask_at;    /* when a notice is sent to ourselves; 0: it was, or there are none */
    int64_t silent_at; /* when it should have come; 0: it has, or none was sent */
};

/* Somebody waits for news of the database. */
static void
set_down(struct keeper *k, bool down, const struct pg_why *why)
{
    struct pg *pg = k->pg;
    pthread_mutex_lock(&pg->mutex);
    bool changed = pg->down != down;
    pg->down = down;
    if (down)
        pg->down_why = *why;
    pthread_cond_broadcast(&pg->given);
    pthread_mutex_unlock(&pg->mutex);
    if (changed && down)
        pg->host.log(KAITEN_LOG_WARNING, "storage-postgres: no connection: %s", why->text);
    else if (changed)
        pg->host.log(KAITEN_LOG_NOTICE, "storage-postgres: connected again");
}

static void
side_close(struct pg *pg)
{
    PQfinish(pg->side);
    pg->side = NULL;
}

/* With what a slot has prepared, unless it is for none. */
static enum kaiten_status
meet(struct pg *pg, PGconn *pq, struct pg_slot *slot, int64_t until, struct pg_why *why)
{
    uint64_t servers = atomic_load(&pg->servers);
    enum kaiten_status status = pg_recognize(pg, pq, until, why);
    if (atomic_load(&pg->servers) != servers && pg->side)
        side_close(pg);
    if (status != KAITEN_DONE || !slot)
        return status;
    slot->pq = pq;
    return pg_prepare(pg, slot, until, why);
}

/* One that is lost meanwhile is only one more to make: the database has answered. */
static PGconn *
keeper_connect(struct keeper *k, struct pg_slot *slot)
{
    struct pg_why why = { .text = "" };
    int64_t until = pg_now() + CONNECT_MS;
    bool lost = false;
    PGconn *pq = pg_connect(&k->pg->target, until, &why);
    if (pq) {
        enum kaiten_status status = meet(k->pg, pq, slot, until, &why);
        lost = status == KAITEN_UNKNOWN && !why.silent;
        if (status != KAITEN_DONE) {
            PQfinish(pq);
            pq = NULL;
        }
    }
    if (pq) {
        k->backoff = 0;
        set_down(k, false, NULL);
        return pq;
    }
    k->backoff = k->backoff ? k->backoff * 2 : BACKOFF_MIN_MS;
    if (k->backoff > BACKOFF_MAX_MS)
        k->backoff = BACKOFF_MAX_MS;
    k->connect_at = pg_now() + k->backoff;
    if (!lost)
        set_down(k, true, &why);
    return NULL;
}

static struct pg_slot *
find_empty(struct pg *pg)
{
    struct pg_slot *empty = NULL;
    pthread_mutex_lock(&pg->mutex);
    for (unsigned i = 0; i < pg->nslots && !empty; i++)
        if (pg->slots[i].state == PG_EMPTY)
            empty = &pg->slots[i];
    pthread_mutex_unlock(&pg->mutex);
    return empty;
}

/* Fills empty slots until one attempt fails. Nobody else touches an empty slot. */
static void
fill_slots(struct keeper *k)
{
    struct pg *pg = k->pg;
    struct pg_slot *slot;
    while (!atomic_load(&pg->stop) && pg_now() >= k->connect_at && (slot = find_empty(pg))) {
        struct pg_slot made = { .use = slot->use };
        PGconn *pq = keeper_connect(k, &made);
        if (!pq)
            return;
        pthread_mutex_lock(&pg->mutex);
        pg_fill(slot, pq);
        slot->prepared = made.prepared;
        slot->state = PG_IDLE;
        pthread_cond_broadcast(&pg->given);
        pthread_mutex_unlock(&pg->mutex);
    }
}

/* Only a notice from another session can tell whether notices arrive: a pooler passes on those of
 * the session itself. */
static void
send_notice(struct keeper *k)
{
    struct pg *pg = k->pg;
    struct pg_why why = { .text = "" };
    PGresult *result;
    struct pg_slot *slot = pg_take_more(pg, PG_READING);
    k->ask_at = pg_now() + NOTICE_AGAIN_MS;
    if (!slot)
        return;
    enum kaiten_status status = pg_query(slot->pq, "SELECT pg_notify('kaiten', '')", NULL,
                                         pg_now() + CONNECT_MS, &result, &why);
    pg_give(pg, slot, status == KAITEN_UNKNOWN);
    if (status != KAITEN_DONE)
        return;
    PQclear(result);
    k->ask_at = 0;
    k->silent_at = pg_now() + NOTICE_MS;
}

/* A server that knows no LISTEN is asked all the time, as one behind a pooler. */
static bool
side_listen(struct keeper *k)
{
    struct pg *pg = k->pg;
    PGresult *result = NULL;
    struct pg_why why = { .text = "" };
    int64_t until = pg_now() + CONNECT_MS;
    k->ask_at = 0;
    if (pg_look(pg, pg->side, until, &why) != KAITEN_DONE)
        return false;
    if (pg->options.pooler)
        return true;
    enum kaiten_status status = pg_query(pg->side, "LISTEN kaiten", NULL, until, &result, &why);
    if (status == KAITEN_UNKNOWN || status == KAITEN_RETRY)
        return false;
    if (status != KAITEN_DONE) {
        pg_note_notices(pg, why.text);
        return true;
    }
    PQclear(result);
    k->ask_at = pg_now();
    return true;
}

/* The keeper's own connection. What was said while there was none is lost:
 * the daemon is to look. */
static void
side_open(struct keeper *k)
{
    struct pg *pg = k->pg;
    if (pg_now() < k->connect_at || !(pg->side = keeper_connect(k, NULL)))
        return;
    if (!side_listen(k)) {
        side_close(pg);
        k->connect_at = pg_now() + BACKOFF_MAX_MS;
        return;
    }
    k->silent_at = 0;
    if (!pg->options.pooler)
        pg->host.changed(pg, (struct kaiten_bytes){ NULL, 0 }, 0);
}

static void
hear_notices(struct keeper *k)
{
    struct pg *pg = k->pg;
    PGnotify *notice;
    bool heard = false;
    if (!PQconsumeInput(pg->side) || PQstatus(pg->side) != CONNECTION_OK) {
        side_close(pg);
        return;
    }
    while ((notice = PQnotifies(pg->side))) {
        PQfreemem(notice);
        heard = true;
    }
    if (!heard)
        return;
    k->silent_at = 0;
    pg_note_notices(pg, NULL);
    atomic_store(&pg->heard, true);
    pg->host.changed(pg, (struct kaiten_bytes){ NULL, 0 }, 0);
}

static void
tidy_up(struct keeper *k)
{
    struct pg *pg = k->pg;
    struct pg_params params = { .data = NULL };
    struct pg_why why = { .text = "" };
    PGresult *result = NULL;
    pg_put_int8(&params, PURGE_ROWS);
    enum kaiten_status status =
        pg_query(pg->side, "SELECT kaiten.purge($1::integer)", &params,
                 pg_now() + pg->options.timeout, &result, &why);
    pg_params_done(&params);
    bool more = status == KAITEN_DONE && PQntuples(result) == 1 &&
                pg_int8(result, 0, 0) >= PURGE_ROWS;
    k->purge_at = pg_now() + (more ? PURGE_MORE_MS : PURGE_MS);
    PQclear(status == KAITEN_DONE ? result : NULL);
    if (status != KAITEN_DONE && status != KAITEN_UNKNOWN)
        pg->host.log(KAITEN_LOG_WARNING, "storage-postgres: tidying up: %s", why.text);
    if (status != KAITEN_UNKNOWN)
        status = pg_look(pg, pg->side, pg_now() + CONNECT_MS, &why);
    if (status == KAITEN_UNKNOWN)
        side_close(pg);
}

static void
keeper_sleep(struct keeper *k)
{
    struct pg *pg = k->pg;
    int64_t now = pg_now(), end = k->purge_at;
    if ((find_empty(pg) || !pg->side) && k->connect_at < end)
        end = k->connect_at;
    if (pg->side && k->ask_at != 0 && k->ask_at < end)
        end = k->ask_at;
    if (pg->side && k->silent_at != 0 && k->silent_at < end)
        end = k->silent_at;
    struct pollfd fds[2] = { { pg->wake, POLLIN, 0 } };
    nfds_t n = 1;
    if (pg->side)
        fds[n++] = (struct pollfd){ PQsocket(pg->side), POLLIN, 0 };
    if (poll(fds, n, end > now ? (int)(end - now) : 0) <= 0) {
        if (pg->side && k->silent_at != 0 && pg_now() >= k->silent_at) {
            k->silent_at = 0;
            pg_note_notices(pg, "none that was sent has come");
        }
        return;
    }
    uint64_t wakes;
    if (fds[0].revents && read(pg->wake, &wakes, sizeof wakes) < 0 && errno != EAGAIN)
        k->connect_at = now + BACKOFF_MAX_MS; /* never seen; must not become a busy loop */
    if (n == 2 && fds[1].revents)
        hear_notices(k);
}

static void *
keeper_run(void *arg)
{
    struct pg *pg = arg;
    struct keeper k = { .pg = pg, .purge_at = pg_now() + PURGE_MS };
    while (!atomic_load(&pg->stop)) {
        fill_slots(&k);
        if (!pg->side && !atomic_load(&pg->stop))
            side_open(&k);
        if (pg->side && k.ask_at != 0 && pg_now() >= k.ask_at)
            send_notice(&k);
        if (pg->side && pg_now() >= k.purge_at)
            tidy_up(&k);
        if (!atomic_load(&pg->stop))
            keeper_sleep(&k);
    }
    return NULL;
}

bool
pg_keeper_start(struct pg *pg)
{
    pg->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pg->wake < 0)
        return false;
    errno = pthread_create(&pg->keeper, NULL, keeper_run, pg);
    pg->keeping = errno == 0;
    return pg->keeping;
}

void
pg_keeper_stop(struct pg *pg)
{
    if (pg->keeping) {
        atomic_store(&pg->stop, true);
        pg_wake(pg);
        pthread_join(pg->keeper, NULL);
    }
    pg->keeping = false;
    if (pg->side)
        side_close(pg);
    if (pg->wake >= 0)
        close(pg->wake);
    pg->wake = -1;
}
