/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/conn_hub.h"
#include "daemon/transport/conn_line.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct conn *
conn_new(struct loop *loop, int take_fd, const struct conn_ops *ops,
         const struct listen_limits *limits)
{
    struct conn_hub *hub = conn_hub_get(loop);
    struct conn *conn = hub ? calloc(1, sizeof *conn + ops->state_size) : NULL;
    if (!conn) {
        close(take_fd);
        return NULL;
    }
    conn->loop = loop;
    conn->ops = ops;
    conn->limits = limits;
    conn->fd = take_fd;
    conn->due = conn->write_due = INT64_MAX;
    kt_buf_init(&conn->out, CONN_OUTPUT_MAX);
    event_assign(&conn->read_event, loop_base(loop), take_fd, EV_READ | EV_PERSIST,
                 conn_on_readable, conn);
    conn->next = hub->conns;
    if (conn->next)
        conn->next->prev = conn;
    hub->conns = conn;
    return conn;
}

void
conn_start(struct conn *conn)
{
    conn_start_phase(conn, CONN_FIRST_BYTE);
    if (event_add(&conn->read_event, NULL) != 0) {
        conn_close(conn);
        return;
    }
    conn_on_readable(conn->fd, EV_READ, conn);
}

/* --- requests ----------------------------------------------------------------------------- */

void
conn_begin(struct conn *conn)
{
    conn->in_flight++;
    conn_enter(conn, CONN_WORK);
}

void
conn_end(struct conn *conn)
{
    conn->in_flight--;
    if (conn->dead) {
        if (!conn_is_needed(conn))
            conn_bury(conn);
        return;
    }
    if (conn->held && conn->in_flight <= conn->resume_at) {
        conn->held = false;
        conn->lifted = true;
    }
    if (conn->in_flight == 0 && conn->phase == CONN_WORK)
        conn_enter(conn, CONN_IDLE);
    conn_queue(conn);
}

void
conn_leave(struct conn *conn)
{
    conn->strays++;
}

void
conn_back(struct conn *conn)
{
    conn->strays--;
    if (conn->dead && !conn_is_needed(conn))
        conn_bury(conn);
}

void
conn_hold(struct conn *conn, unsigned at_most)
{
    if (conn->in_flight <= at_most)
        return;
    conn->held = true;
    conn->resume_at = at_most;
}

/* --- rest, and the end -------------------------------------------------------------------- */

/* All is answered and sent: shuts our side, and goes on reading what the peer sends, so that the
 * kernel sends no reset, which could destroy the last answer. */
static void
linger(struct conn *conn)
{
    if (!conn_part(conn))
        return;
    if (conn->eof || shutdown(conn->fd, SHUT_WR) != 0) {
        conn_close(conn);
        return;
    }
    conn_in_free(conn);
    conn_start_phase(conn, CONN_LINGER);
    conn->shut = true;
    conn_read_on(conn);
}

static void
end_if_over(struct conn *conn)
{
    if (conn->in_flight || conn_unsent(conn) || conn->shut)
        return;
    if (conn->finishing)
        linger(conn);
    else if (conn->eof && !conn->lifted && !conn->full)
        conn_close(conn);
}

/* Asks for what the descriptor cannot tell: input that the io still holds, output that it waits
 * for. libevent deals with what becomes active in its round in that same round, so within one it is
 * put off to the end of the turn, or such a connection would keep the loop to itself. */
static void
settle_io(struct conn *conn)
{
    enum conn_io_wants wants = conn_io_wants(conn);
    if (wants == CONN_IO_ROOM)
        conn_block(conn);
    else if (wants == CONN_IO_READ && conn_hub(conn)->in_turn)
        event_active(&conn->read_event, EV_READ, 0);
    else if (wants == CONN_IO_READ)
        conn_queue(conn);
}

void
conn_settle(struct conn *conn)
{
    if (conn->dead)
        return;
    conn->busy = true;
    if (conn->lifted && conn->in_n)
        conn_in_resume(conn);
    conn->lifted = false;
    if (!conn->dead)
        conn_flush(conn);
    conn->busy = false;
    if (!conn->dead && conn->full && !conn->blocked) {
        conn->full = false;
        conn->lifted = true;
        if (!conn->finishing)
            conn_start_phase(conn, conn->phase);
        conn_queue(conn);
    }
    if (!conn->dead)
        end_if_over(conn);
    if (!conn->dead && conn->read_off && conn_wants_input(conn))
        conn_read_on(conn);
    if (!conn->dead)
        settle_io(conn);
}

static void
unlink_conn(struct conn *conn)
{
    struct conn_hub *hub = conn_hub(conn);
    if (conn->prev)
        conn->prev->next = conn->next;
    else
        hub->conns = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
}

void
conn_close(struct conn *conn)
{
    if (conn->dead)
        return;
    conn->dead = true;
    event_del(&conn->read_event);
    if (conn->write_event)
        event_free(conn->write_event);
    conn->write_event = NULL;
    if (conn->io && conn->io->freed)
        conn->io->freed(conn);
    close(conn->fd);
    conn->fd = -1;
    conn_in_free(conn);
    conn_out_release(conn);
    unlink_conn(conn);
    conn_line_leave(conn);
    if (conn->queued)
        conn_unqueue(conn);
    if (!conn_is_needed(conn))
        conn_bury(conn);
}

void
conn_known(struct conn *conn)
{
    conn_line_leave(conn);
}

void
conn_finish(struct conn *conn)
{
    if (conn->dead || conn->finishing)
        return;
    conn->finishing = true;
    conn->due = INT64_MAX;
    conn_queue(conn);
}
