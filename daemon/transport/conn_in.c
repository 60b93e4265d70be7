/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/conn_hub.h"

#include "client/proto/wipe.h"
#include "daemon/log.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    INPUT_FIRST = 512,
    INPUT_ROOM = 4096,
    ARRIVAL_ROOM = 16 * 1024 /* of the scratch that a read should find free */
};

static ssize_t
io_read(struct conn *conn, void *p, size_t n)
{
    ssize_t got;
    do
        got = conn->io && !conn->shut ? conn->io->read(conn, p, n) : read(conn->fd, p, n);
    while (got < 0 && errno == EINTR);
    return got;
}

void
conn_in_free(struct conn *conn)
{
    if (conn->in)
        kt_wipe(conn->in, conn->in_size);
    free(conn->in);
    conn->in = NULL;
    conn->in_start = conn->in_n = conn->in_size = 0;
}

/* Room for at least one more byte behind what is kept. */
static bool
in_room(struct conn *conn, size_t want)
{
    if (conn->in_start) {
        memmove(conn->in, conn->in + conn->in_start, conn->in_n);
        conn->in_start = 0;
    }
    if (conn->in_size - conn->in_n >= want || conn->in_size == CONN_INPUT_MAX)
        return conn->in_n < CONN_INPUT_MAX;
    size_t size = conn->in_size ? conn->in_size : INPUT_FIRST;
    while (size < conn->in_n + want && size < CONN_INPUT_MAX)
        size *= 2;
    char *grown = malloc(size);
    if (!grown)
        return false;
    uint32_t n = conn->in_n;
    if (n)
        memcpy(grown, conn->in, n);
    conn_in_free(conn);
    conn->in = grown;
    conn->in_n = n;
    conn->in_size = (uint32_t)size;
    return true;
}

static void
in_keep(struct conn *conn, const char *p, size_t n)
{
    if (!in_room(conn, n)) {
        conn_close(conn);
        return;
    }
    memcpy(conn->in + conn->in_n, p, n);
    conn->in_n += (uint32_t)n;
}

static size_t
feed_some(struct conn *conn, struct kt_str bytes)
{
    struct conn_input input = { conn, bytes, 0 };
    if (conn->ops->readable_all)
        conn->ops->readable_all(&input, 1);
    return input.used || !conn_ready(conn) ? input.used : conn->ops->readable(conn, bytes);
}

/* Returns how much the protocol took in all; used: what it had taken before. */
static size_t
feed(struct conn *conn, const char *p, size_t n, size_t used)
{
    while (used < n && conn_ready(conn)) {
        size_t taken = feed_some(conn, (struct kt_str){ p + used, n - used });
        used += taken;
        if (taken == 0)
            break;
    }
    if (used == 0 && n >= CONN_INPUT_MAX && conn_ready(conn)) {
        log_line(LOG_LEVEL_INFO, "conn.oversized", "door=%s peer=%s", conn->ops->name,
                 conn->peer.remote);
        conn_close(conn);
    }
    return used;
}

void
conn_in_resume(struct conn *conn)
{
    conn->lifted = false;
    size_t used = feed(conn, conn->in + conn->in_start, conn->in_n, 0);
    if (conn->dead)
        return;
    conn->in_start += (uint32_t)used;
    conn->in_n -= (uint32_t)used;
    if (conn->in_n == 0)
        conn_in_free(conn);
}

static void
read_off(struct conn *conn)
{
    if (!conn->read_off)
        event_del(&conn->read_event);
    conn->read_off = true;
}

void
conn_read_on(struct conn *conn)
{
    if (conn->read_off && event_add(&conn->read_event, NULL) != 0)
        conn_close(conn);
    conn->read_off = false;
}

/* The end of a read: false when there was nothing to be used. */
static bool
read_good(struct conn *conn, ssize_t n)
{
    if (n > 0)
        return true;
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n < 0) {
        conn_close(conn);
        return false;
    }
    conn->eof = true;
    conn->due = INT64_MAX;
    read_off(conn);
    if (conn->ops->ended)
        conn->ops->ended(conn);
    return false;
}

static void
feed_arrival(const struct conn_input *input)
{
    struct conn *conn = input->conn;
    const char *p = input->bytes.p;
    size_t n = input->bytes.n;
    conn->arrived = false;
    if (conn->dead)
        return;
    conn->busy = true;
    size_t used = feed(conn, p, n, input->used);
    if (used < n && !conn->dead && !conn->finishing)
        in_keep(conn, p + used, n - used);
    conn->busy = false;
    conn_queue(conn);
}

/* One protocol after the other. */
static void
feed_together(struct conn_hub *hub)
{
    for (size_t i = 0, end; i < hub->narrivals; i = end) {
        const struct conn_ops *ops = hub->arrivals[i].conn->ops;
        for (end = i + 1; end < hub->narrivals && hub->arrivals[end].conn->ops == ops;)
            end++;
        if (ops->readable_all)
            ops->readable_all(&hub->arrivals[i], end - i);
    }
}

void
conn_hub_feed(struct conn_hub *hub)
{
    if (hub->narrivals > 1)
        feed_together(hub);
    for (size_t i = 0; i < hub->narrivals; i++)
        feed_arrival(&hub->arrivals[i]);
    /* It may hold credentials. */
    kt_wipe(loop_scratch(hub->loop), hub->scratch_used);
    hub->narrivals = hub->scratch_used = 0;
}

static char *
scratch_room(struct conn_hub *hub, size_t *ret_room)
{
    if (hub->narrivals == CONN_ARRIVALS || LOOP_SCRATCH - hub->scratch_used < ARRIVAL_ROOM)
        conn_hub_feed(hub);
    *ret_room = LOOP_SCRATCH - hub->scratch_used;
    return loop_scratch(hub->loop) + hub->scratch_used;
}

static void
read_fresh(struct conn *conn)
{
    struct conn_hub *hub = conn_hub(conn);
    size_t room;
    char *p = scratch_room(hub, &room);
    ssize_t n = io_read(conn, p, room);
    if (!read_good(conn, n))
        return;
    hub->arrivals[hub->narrivals++] = (struct conn_input){ conn, { p, (size_t)n }, 0 };
    hub->scratch_used += (size_t)n;
    conn->arrived = true;
    conn_hub_wait(hub);
}

static void
read_behind(struct conn *conn)
{
    if (!in_room(conn, INPUT_ROOM)) {
        conn_close(conn);
        return;
    }
    ssize_t n = io_read(conn, conn->in + conn->in_n, conn->in_size - conn->in_n);
    if (!read_good(conn, n))
        return;
    conn->in_n += (uint32_t)n;
    conn_in_resume(conn);
}

static void
read_linger(struct conn *conn)
{
    size_t room;
    char *scratch = scratch_room(conn_hub(conn), &room);
    ssize_t n = io_read(conn, scratch, room);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n > 0)
        kt_wipe(scratch, (size_t)n);
    conn->lingered += n > 0 ? (size_t)n : 0;
    if (n <= 0 || conn->lingered > CONN_LINGER_BYTES)
        conn_close(conn);
}

enum conn_io_wants
conn_io_wants(const struct conn *conn)
{
    return conn->io && conn_wants_input(conn) ? conn->io->wants(conn) : CONN_IO_NOTHING;
}

void
conn_take_input(struct conn *conn)
{
    if (conn->arrived) /* twice in one turn: what came first goes first */
        conn_hub_feed(conn_hub(conn));
    if (conn->dead || !conn_wants_input(conn))
        return;
    if (conn->in_n)
        read_behind(conn);
    else
        read_fresh(conn);
}

/* Interest in input is dropped only when input comes that is not wanted, so that a caller who waits
 * for each answer costs no epoll_ctl. */
void
conn_on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct conn *conn = arg;
    if (conn->shut) {
        read_linger(conn);
        return;
    }
    if (!conn_wants_input(conn)) {
        read_off(conn);
        return;
    }
    conn->busy = true;
    conn_take_input(conn);
    conn->busy = false;
    if (!conn->arrived)
        conn_settle(conn);
}
