/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/conn_hub.h"

#include "daemon/log.h"

#include <stdlib.h>

enum { SWEEP_MS = 20 }; /* deadlines closer together than this are served by one sweep */

static void on_sweep(evutil_socket_t fd, short what, void *arg);
static void hub_turn(struct loop *loop, struct loop_task *task);
static void hub_end(void *local);

static struct conn_hub *
hub_new(struct loop *loop)
{
    struct conn_hub *hub = calloc(1, sizeof *hub);
    if (!hub)
        return NULL;
    hub->loop = loop;
    hub->task.run = hub_turn;
    hub->sweep_at = INT64_MAX;
    kt_buf_init(&hub->sink, CONN_OUTPUT_MAX);
    if (event_assign(&hub->sweep, loop_base(loop), -1, 0, on_sweep, hub) != 0) {
        free(hub);
        return NULL;
    }
    loop_set_local(loop, hub, hub_end);
    return hub;
}

struct conn_hub *
conn_hub_get(struct loop *loop)
{
    struct conn_hub *hub = loop_local(loop);
    return hub ? hub : hub_new(loop);
}

/* --- turns -------------------------------------------------------------------------------- */

/* What is added during the end of a turn waits for the next one, or a single connection could keep
 * the loop to itself. */
void
conn_hub_wait(struct conn_hub *hub)
{
    if (hub->task_waits)
        return;
    hub->task_waits = true;
    if (hub->in_turn)
        loop_post(hub->loop, &hub->task);
    else
        loop_defer(hub->loop, &hub->task);
}

void
conn_queue(struct conn *conn)
{
    if (conn->queued || conn->busy || conn->dead)
        return;
    struct conn_hub *hub = conn_hub(conn);
    conn->queued = true;
    conn->next_queued = hub->queued;
    hub->queued = conn;
    conn_hub_wait(hub);
}

void
conn_unqueue(struct conn *conn)
{
    struct conn **at = &conn_hub(conn)->queued;
    while (*at && *at != conn)
        at = &(*at)->next_queued;
    if (*at)
        *at = conn->next_queued;
    conn->queued = false;
}

void
conn_bury(struct conn *conn)
{
    if (conn->buried)
        return;
    struct conn_hub *hub = conn_hub(conn);
    conn->buried = true;
    conn->next_buried = hub->buried;
    hub->buried = conn;
    conn_hub_wait(hub);
}

static void
conn_free(struct conn *conn)
{
    if (conn->ops->freed)
        conn->ops->freed(conn);
    if (conn->gone)
        conn->gone(conn);
    free(conn);
}

static void
free_buried(struct conn_hub *hub)
{
    struct conn *list = hub->buried;
    hub->buried = NULL;
    for (struct conn *conn = list, *next; conn; conn = next) {
        next = conn->next_buried;
        conn->buried = false;
        if (!conn_is_needed(conn))
            conn_free(conn);
    }
}

static void
hub_turn(struct loop *loop, struct loop_task *task)
{
    (void)task;
    struct conn_hub *hub = loop_local(loop);
    conn_hub_feed(hub); /* whom this queues is settled below: no other turn is needed for them */
    hub->task_waits = false;
    hub->in_turn = true;
    struct conn *list = hub->queued;
    hub->queued = NULL;
    for (struct conn *conn = list, *next; conn; conn = next) {
        next = conn->next_queued;
        conn->queued = false;
        conn_settle(conn);
    }
    free_buried(hub);
    if (hub->sink.p)
        kt_buf_done(&hub->sink);
    hub->in_turn = false;
}

/* The loop's thread has ended; nobody answers any more. */
static void
hub_end(void *local)
{
    struct conn_hub *hub = local;
    hub->task_waits = true;
    while (hub->conns)
        conn_close(hub->conns);
    free_buried(hub);
    event_del(&hub->sweep);
    while (hub->nspares)
        free(hub->spares[--hub->nspares].p);
    kt_buf_done(&hub->sink);
    free(hub);
}

void
conn_drain_all(struct loop *loop, const struct listener *listener)
{
    struct conn_hub *hub = loop_local(loop);
    for (struct conn *conn = hub ? hub->conns : NULL; conn; conn = conn->next) {
        if (conn->listener != listener)
            continue;
        conn->draining = true;
        conn_finish(conn);
    }
}

/* --- deadlines ---------------------------------------------------------------------------- */

void
conn_hub_due(struct conn_hub *hub, int64_t due)
{
    if (due >= hub->sweep_at)
        return;
    int64_t ms = due - loop_now_ms(hub->loop);
    if (ms < SWEEP_MS)
        ms = SWEEP_MS;
    hub->sweep_at = due;
    struct timeval wait = { ms / 1000, ms % 1000 * 1000 };
    event_add(&hub->sweep, &wait);
}

static int64_t
phase_ms(const struct conn *conn, enum conn_phase phase)
{
    switch (phase) {
    case CONN_FIRST_BYTE:
        return conn->limits->first_byte_ms;
    case CONN_IDLE:
        return conn->limits->idle_ms;
    case CONN_HEAD:
        return conn->limits->head_ms;
    case CONN_BODY:
        return conn->limits->body_ms;
    case CONN_WORK:
        return 0;
    case CONN_LINGER:
        return CONN_LINGER_MS;
    }
    return 0;
}

void
conn_start_phase(struct conn *conn, enum conn_phase phase)
{
    int64_t ms = phase_ms(conn, phase);
    conn->phase = phase;
    conn->due = ms > 0 ? loop_now_ms(conn->loop) + ms : INT64_MAX;
    conn_hub_due(conn_hub(conn), conn->due);
}

void
conn_enter(struct conn *conn, enum conn_phase phase)
{
    if (conn->dead || conn->finishing || (phase == conn->phase && phase != CONN_IDLE))
        return;
    conn_start_phase(conn, phase);
}

static void
expire(struct conn *conn)
{
    conn->due = INT64_MAX;
    if (conn->phase == CONN_LINGER || !conn->ops->expired) {
        conn_close(conn);
        return;
    }
    conn->busy = true;
    conn->ops->expired(conn, conn->phase);
    conn->busy = false;
    conn_settle(conn);
}

static int64_t
sweep_one(struct conn *conn, int64_t now)
{
    if (conn->write_due <= now) {
        log_line(LOG_LEVEL_INFO, "conn.slow", "door=%s peer=%s unread=%zu", conn->ops->name,
                 conn->peer.remote, conn->out.n - conn->sent);
        conn_close(conn);
    } else if (conn->due <= now && !conn->full && !conn->arrived) {
        expire(conn);
    }
    if (conn->dead)
        return INT64_MAX;
    /* While it is we who do not read, only the other deadline counts. */
    return conn->full || conn->write_due < conn->due ? conn->write_due : conn->due;
}

static void
on_sweep(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct conn_hub *hub = arg;
    int64_t now = loop_now_ms(hub->loop), due = INT64_MAX;
    hub->sweep_at = INT64_MAX;
    for (struct conn *conn = hub->conns, *next; conn; conn = next) {
        next = conn->next;
        int64_t one = sweep_one(conn, now);
        due = one < due ? one : due;
    }
    conn_hub_due(hub, due);
}
