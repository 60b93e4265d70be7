/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/conn_hub.h"

#include "daemon/log.h"

#include <errno.h>
#include <sys/socket.h>

enum { SPARE_BYTES = 16 * 1024 }; /* larger buffers are freed */

static void on_writable(evutil_socket_t fd, short what, void *arg);

void
conn_out_release(struct conn *conn)
{
    struct conn_hub *hub = conn_hub(conn);
    struct kt_buf *out = &conn->out;
    if (conn->secret)
        kt_buf_wipe(out);
    conn->secret = false;
    conn->sent = 0;
    if (out->p && out->size <= SPARE_BYTES && hub->nspares < CONN_SPARES) {
        hub->spares[hub->nspares].p = out->p;
        hub->spares[hub->nspares++].size = out->size;
        kt_buf_init(out, CONN_OUTPUT_MAX);
        return;
    }
    kt_buf_done(out);
    kt_buf_init(out, CONN_OUTPUT_MAX);
}

struct kt_buf *
conn_out(struct conn *conn)
{
    struct conn_hub *hub = conn_hub(conn);
    if (conn->dead || conn->shut) {
        kt_buf_reset(&hub->sink);
        conn_hub_wait(hub);
        return &hub->sink;
    }
    if (!conn->out.p && hub->nspares) {
        conn->out.p = hub->spares[--hub->nspares].p;
        conn->out.size = hub->spares[hub->nspares].size;
    }
    conn_queue(conn);
    return &conn->out;
}

void
conn_secret(struct conn *conn)
{
    conn->secret = true;
}

static ssize_t
io_send(struct conn *conn, const void *p, size_t n)
{
    ssize_t sent;
    do
        sent = conn->io ? conn->io->send(conn, p, n) : send(conn->fd, p, n, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent;
}

/* The kernel is full: whatever is left waits for EV_WRITE and its one deadline. */
void
conn_block(struct conn *conn)
{
    if (conn->sent > conn->out.n / 2) {
        memmove(conn->out.p, conn->out.p + conn->sent, conn_unsent(conn));
        conn->out.n = conn_unsent(conn);
        conn->sent = 0;
    }
    if (conn->blocked)
        return;
    if (!conn->write_event)
        conn->write_event = event_new(loop_base(conn->loop), conn->fd, EV_WRITE | EV_PERSIST,
                                      on_writable, conn);
    if (!conn->write_event || event_add(conn->write_event, NULL) != 0) {
        conn_close(conn);
        return;
    }
    conn->blocked = true;
    if (conn->limits->write_ms > 0)
        conn->write_due = loop_now_ms(conn->loop) + conn->limits->write_ms;
    conn_hub_due(conn_hub(conn), conn->write_due);
}

static void
unblock(struct conn *conn)
{
    conn_out_release(conn);
    conn->write_due = INT64_MAX;
    if (!conn->blocked)
        return;
    conn->blocked = false;
    event_del(conn->write_event);
}

/* A short send means that the kernel's buffer is full, so it is not tried again. */
static void
push_out(struct conn *conn)
{
    if (conn->out.failed) {
        log_line(LOG_LEVEL_WARNING, "conn.output", "door=%s peer=%s unsent=%zu", conn->ops->name,
                 conn->peer.remote, conn_unsent(conn));
        conn_close(conn);
        return;
    }
    size_t left = conn_unsent(conn);
    if (left == 0) {
        if (conn->blocked)
            unblock(conn);
        return;
    }
    ssize_t n = io_send(conn, conn->out.p + conn->sent, left);
    if (n < 0 && errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM) {
        conn_close(conn);
        return;
    }
    conn->sent += n > 0 ? (size_t)n : 0;
    if (conn_unsent(conn) > 0)
        conn_block(conn);
    else
        unblock(conn);
}

void
conn_flush(struct conn *conn)
{
    if (!conn->blocked)
        push_out(conn);
}

bool
conn_ready(struct conn *conn)
{
    if (conn->dead || conn->finishing || conn->held || conn->full)
        return false;
    if (conn_unsent(conn) <= CONN_OUTPUT_HIGH)
        return true;
    conn->full = true;
    conn_flush(conn);
    return false;
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct conn *conn = arg;
    conn->busy = true;
    push_out(conn);
    if (!conn->dead && conn_io_wants(conn) == CONN_IO_ROOM)
        conn_take_input(conn);
    conn->busy = false;
    if (!conn->arrived)
        conn_settle(conn);
}

bool
conn_part(struct conn *conn)
{
    if (!conn->io || conn->io->part(conn) == 0 || errno != EAGAIN)
        return true;
    conn_block(conn);
    return false;
}
