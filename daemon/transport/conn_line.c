/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/conn_line.h"

#include "daemon/log.h"
#include "daemon/transport/conn_hub.h"

enum { LOOK_AGAIN_MS = 50 }; /* all connections of a loop are looked through no more often */

void
conn_line_join(struct conn_line *line, struct conn *conn)
{
    conn->line = line;
    conn->line_prev = line->newest;
    if (line->newest)
        line->newest->line_next = conn;
    else
        line->oldest = conn;
    line->newest = conn;
}

void
conn_line_leave(struct conn *conn)
{
    struct conn_line *line = conn->line;
    if (!line)
        return;
    *(conn->line_prev ? &conn->line_prev->line_next : &line->oldest) = conn->line_next;
    *(conn->line_next ? &conn->line_next->line_prev : &line->newest) = conn->line_prev;
    conn->line = NULL;
    conn->line_prev = conn->line_next = NULL;
}

/* No request of it is at work, or waits for the end of this turn. What has come of a request in
 * part does not count, or whoever is slow enough would stay. One that lingers has all that it
 * gets. */
static bool
is_spare(const struct conn *conn)
{
    return conn->in_flight == 0 && !conn->arrived &&
           (conn->shut || (!conn->finishing && conn_unsent(conn) == 0));
}

/* The same, but for an answer that it does not read. */
static bool
is_unread(const struct conn *conn)
{
    return conn->in_flight == 0 && !conn->arrived && conn->blocked;
}

static struct conn *
oldest_stranger(const struct conn_line *line, bool (*may_go)(const struct conn *))
{
    struct conn *conn = line->oldest;
    while (conn && !may_go(conn))
        conn = conn->line_next;
    return conn;
}

/* The sooner its deadline, the longer it has been idle. */
static struct conn *
longest_idle(struct conn_hub *hub, const struct listener *listener)
{
    struct conn *found = NULL;
    const int64_t now = loop_now_ms(hub->loop);
    if (now < hub->look_at)
        return NULL;
    hub->look_at = now + LOOK_AGAIN_MS;
    for (struct conn *conn = hub->conns; conn; conn = conn->next) {
        if (conn->listener != listener || conn->phase != CONN_IDLE || !is_spare(conn))
            continue;
        int64_t since = conn->due - conn->limits->idle_ms;
        if (now - since >= conn->limits->idle_kept_ms && (!found || conn->due < found->due))
            found = conn;
    }
    return found;
}

bool
conn_line_make_room(struct conn_line *line, struct loop *loop, const struct listener *listener)
{
    struct conn_hub *hub = loop_local(loop);
    struct conn *conn = oldest_stranger(line, is_spare);
    if (!conn && hub)
        conn = longest_idle(hub, listener);
    if (!conn)
        conn = oldest_stranger(line, is_unread);
    if (!conn)
        return false;
    log_line(LOG_LEVEL_DEBUG, "conn.evicted", "door=%s peer=%s", conn->ops->name,
             conn->peer.remote);
    conn_close(conn);
    return true;
}
