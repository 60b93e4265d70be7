/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/conn.h"

#include "client/proto/wipe.h"
#include "daemon/log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SPARES = 64,              /* output buffers a loop keeps for its connections */
    SPARE_BYTES = 16 * 1024,  /* larger ones are freed */
    SWEEP_MS = 20,            /* deadlines closer together than this are served by one sweep */
    INPUT_FIRST = 512,
    INPUT_ROOM = 4096,
    ARRIVALS = 64,            /* reads of one turn that are looked at together */
    ARRIVAL_ROOM = 16 * 1024  /* of the scratch that a read should find free */
};

/* What the connections of a loop share; its one thread owns it. */
struct hub {
    struct loop *loop;
    struct conn *conns;
    struct conn *queued; /* to be settled at the end of the turn, or in the next one */
    struct conn *buried;
    bool task_waits, in_turn;
    struct loop_task task;
    struct event sweep;
    int64_t sweep_at; /* no deadline of a connection is earlier */
    size_t nspares;
    struct {
        char *p;
        size_t size;
    } spares[SPARES];
    struct kt_buf sink; /* where answers to the dead go */
    /* What was read in this turn, in the loop's scratch: given to the protocols at its end, all
     * together, and answered after that. */
    struct conn_input arrivals[ARRIVALS];
    size_t narrivals, scratch_used;
};

static void settle(struct conn *conn);
static void feed_arrivals(struct hub *hub);
static void hub_turn(struct loop *loop, struct loop_task *task);
static void on_sweep(evutil_socket_t fd, short what, void *arg);
static void hub_end(void *local);

static struct hub *
hub_new(struct loop *loop)
{
    struct hub *hub = calloc(1, sizeof *hub);
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

static struct hub *
hub_of(const struct conn *conn)
{
    return loop_local(conn->loop);
}

/* From inside the end of a turn the rest has to wait for the next one, or a single connection could
 * keep the loop for itself. */
static void
hub_wait(struct hub *hub)
{
    if (hub->task_waits)
        return;
    hub->task_waits = true;
    if (hub->in_turn)
        loop_post(hub->loop, &hub->task);
    else
        loop_defer(hub->loop, &hub->task);
}

static void
queue(struct conn *conn)
{
    if (conn->queued || conn->busy || conn->dead)
        return;
    struct hub *hub = hub_of(conn);
    conn->queued = true;
    conn->next_queued = hub->queued;
    hub->queued = conn;
    hub_wait(hub);
}

static void
bury(struct conn *conn)
{
    if (conn->buried)
        return;
    struct hub *hub = hub_of(conn);
    conn->buried = true;
    conn->next_buried = hub->buried;
    hub->buried = conn;
    hub_wait(hub);
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
free_buried(struct hub *hub)
{
    struct conn *list = hub->buried;
    hub->buried = NULL;
    for (struct conn *conn = list, *next; conn; conn = next) {
        next = conn->next_buried;
        conn->buried = false;
        if (conn->in_flight == 0)
            conn_free(conn);
    }
}

static void
hub_turn(struct loop *loop, struct loop_task *task)
{
    (void)task;
    struct hub *hub = loop_local(loop);
    hub->task_waits = false;
    hub->in_turn = true;
    feed_arrivals(hub);
    struct conn *list = hub->queued;
    hub->queued = NULL;
    for (struct conn *conn = list, *next; conn; conn = next) {
        next = conn->next_queued;
        conn->queued = false;
        settle(conn);
    }
    free_buried(hub);
    if (hub->sink.p)
        kt_buf_done(&hub->sink);
    hub->in_turn = false;
}

/* The loop's thread is over; nobody answers any more. */
static void
hub_end(void *local)
{
    struct hub *hub = local;
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

static void
sweep_arm(struct hub *hub, int64_t due)
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

static void
start_phase(struct conn *conn, enum conn_phase phase)
{
    int64_t ms = phase_ms(conn, phase);
    conn->phase = phase;
    conn->due = ms > 0 ? loop_now_ms(conn->loop) + ms : INT64_MAX;
    sweep_arm(hub_of(conn), conn->due);
}

void
conn_enter(struct conn *conn, enum conn_phase phase)
{
    if (conn->dead || conn->finishing || (phase == conn->phase && phase != CONN_IDLE))
        return;
    start_phase(conn, phase);
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
    settle(conn);
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
    struct hub *hub = arg;
    int64_t now = loop_now_ms(hub->loop), due = INT64_MAX;
    hub->sweep_at = INT64_MAX;
    for (struct conn *conn = hub->conns, *next; conn; conn = next) {
        next = conn->next;
        int64_t one = sweep_one(conn, now);
        due = one < due ? one : due;
    }
    sweep_arm(hub, due);
}

static size_t
unsent(const struct conn *conn)
{
    return conn->out.n - conn->sent;
}

/* The memory of an empty output goes back to the loop. */
static void
out_release(struct conn *conn)
{
    struct hub *hub = hub_of(conn);
    struct kt_buf *out = &conn->out;
    if (conn->secret)
        kt_buf_wipe(out);
    conn->secret = false;
    conn->sent = 0;
    if (out->p && out->size <= SPARE_BYTES && hub->nspares < SPARES) {
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
    struct hub *hub = hub_of(conn);
    if (conn->dead || conn->shut) {
        kt_buf_reset(&hub->sink);
        hub_wait(hub);
        return &hub->sink;
    }
    if (!conn->out.p && hub->nspares) {
        conn->out.p = hub->spares[--hub->nspares].p;
        conn->out.size = hub->spares[hub->nspares].size;
    }
    queue(conn);
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

static ssize_t
io_read(struct conn *conn, void *p, size_t n)
{
    ssize_t got;
    do
        got = conn->io && !conn->shut ? conn->io->read(conn, p, n) : read(conn->fd, p, n);
    while (got < 0 && errno == EINTR);
    return got;
}

static void
on_writable(evutil_socket_t fd, short what, void *arg);

/* The kernel is full: whatever is left waits for EV_WRITE and its one deadline. */
static void
block(struct conn *conn)
{
    if (conn->sent > conn->out.n / 2) {
        memmove(conn->out.p, conn->out.p + conn->sent, unsent(conn));
        conn->out.n = unsent(conn);
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
    sweep_arm(hub_of(conn), conn->write_due);
}

static void
unblock(struct conn *conn)
{
    out_release(conn);
    conn->write_due = INT64_MAX;
    if (!conn->blocked)
        return;
    conn->blocked = false;
    event_del(conn->write_event);
}

/* A short send means a full kernel, so it is not asked twice. */
static void
push_out(struct conn *conn)
{
    if (conn->out.failed) {
        log_line(LOG_LEVEL_WARNING, "conn.output", "door=%s peer=%s unsent=%zu", conn->ops->name,
                 conn->peer.remote, unsent(conn));
        conn_close(conn);
        return;
    }
    size_t left = unsent(conn);
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
    if (unsent(conn) > 0)
        block(conn);
    else
        unblock(conn);
}

static void
flush(struct conn *conn)
{
    if (!conn->blocked)
        push_out(conn);
}

bool
conn_ready(struct conn *conn)
{
    if (conn->dead || conn->finishing || conn->held || conn->full)
        return false;
    if (unsent(conn) <= CONN_OUTPUT_HIGH)
        return true;
    conn->full = true;
    flush(conn);
    return false;
}

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
        if (conn->in_flight == 0)
            bury(conn);
        return;
    }
    if (conn->held && conn->in_flight <= conn->resume_at) {
        conn->held = false;
        conn->lifted = true;
    }
    if (conn->in_flight == 0 && conn->phase == CONN_WORK)
        conn_enter(conn, CONN_IDLE);
    queue(conn);
}

void
conn_hold(struct conn *conn, unsigned at_most)
{
    if (conn->in_flight <= at_most)
        return;
    conn->held = true;
    conn->resume_at = at_most;
}

static void
in_free(struct conn *conn)
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
    in_free(conn);
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

/* Returns how much the protocol took, of which used was taken before. */
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

static void
feed_kept(struct conn *conn)
{
    conn->lifted = false;
    size_t used = feed(conn, conn->in + conn->in_start, conn->in_n, 0);
    if (conn->dead)
        return;
    conn->in_start += (uint32_t)used;
    conn->in_n -= (uint32_t)used;
    if (conn->in_n == 0)
        in_free(conn);
}

static void
read_off(struct conn *conn)
{
    if (!conn->read_off)
        event_del(&conn->read_event);
    conn->read_off = true;
}

static void
read_on(struct conn *conn)
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
    queue(conn);
}

/* Those of one protocol after the other. */
static void
feed_together(struct hub *hub)
{
    for (size_t i = 0, end; i < hub->narrivals; i = end) {
        const struct conn_ops *ops = hub->arrivals[i].conn->ops;
        for (end = i + 1; end < hub->narrivals && hub->arrivals[end].conn->ops == ops;)
            end++;
        if (ops->readable_all)
            ops->readable_all(&hub->arrivals[i], end - i);
    }
}

static void
feed_arrivals(struct hub *hub)
{
    if (hub->narrivals > 1)
        feed_together(hub);
    for (size_t i = 0; i < hub->narrivals; i++)
        feed_arrival(&hub->arrivals[i]);
    /* Credentials come this way. */
    kt_wipe(loop_scratch(hub->loop), hub->scratch_used);
    hub->narrivals = hub->scratch_used = 0;
}

static char *
scratch_room(struct hub *hub, size_t *ret_room)
{
    if (hub->narrivals == ARRIVALS || LOOP_SCRATCH - hub->scratch_used < ARRIVAL_ROOM)
        feed_arrivals(hub);
    *ret_room = LOOP_SCRATCH - hub->scratch_used;
    return loop_scratch(hub->loop) + hub->scratch_used;
}

static void
read_fresh(struct conn *conn)
{
    struct hub *hub = hub_of(conn);
    size_t room;
    char *p = scratch_room(hub, &room);
    ssize_t n = io_read(conn, p, room);
    if (!read_good(conn, n))
        return;
    hub->arrivals[hub->narrivals++] = (struct conn_input){ conn, { p, (size_t)n }, 0 };
    hub->scratch_used += (size_t)n;
    conn->arrived = true;
    hub_wait(hub);
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
    feed_kept(conn);
}

static void
read_linger(struct conn *conn)
{
    size_t room;
    char *scratch = scratch_room(hub_of(conn), &room);
    ssize_t n = io_read(conn, scratch, room);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n > 0)
        kt_wipe(scratch, (size_t)n);
    conn->lingered += n > 0 ? (size_t)n : 0;
    if (n <= 0 || conn->lingered > CONN_LINGER_BYTES)
        conn_close(conn);
}

static bool
wants_input(const struct conn *conn)
{
    return !conn->eof && !conn->finishing && !conn->held && !conn->full;
}

static enum conn_io_wants
io_wants(const struct conn *conn)
{
    return conn->io && wants_input(conn) ? conn->io->wants(conn) : CONN_IO_NOTHING;
}

static void
take_input(struct conn *conn)
{
    if (conn->arrived) /* twice in one turn: what came first goes first */
        feed_arrivals(hub_of(conn));
    if (conn->dead || !wants_input(conn))
        return;
    if (conn->in_n)
        read_behind(conn);
    else
        read_fresh(conn);
}

/* Interest in input is dropped only when input comes that is not wanted, so that a caller who waits
 * for each answer costs no epoll_ctl. */
static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct conn *conn = arg;
    if (conn->shut) {
        read_linger(conn);
        return;
    }
    if (!wants_input(conn)) {
        read_off(conn);
        return;
    }
    conn->busy = true;
    take_input(conn);
    conn->busy = false;
    if (!conn->arrived)
        settle(conn);
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct conn *conn = arg;
    conn->busy = true;
    push_out(conn);
    if (!conn->dead && io_wants(conn) == CONN_IO_ROOM)
        take_input(conn);
    conn->busy = false;
    if (!conn->arrived)
        settle(conn);
}

/* False: the last word waits until the kernel takes it, or the connection is dead. */
static bool
part(struct conn *conn)
{
    if (!conn->io || conn->io->part(conn) == 0 || errno != EAGAIN)
        return true;
    block(conn);
    return false;
}

/* All is answered and sent: our side is shut, and the peer's rest is read so that the kernel sends
 * no reset, which could destroy the last answer. */
static void
linger(struct conn *conn)
{
    if (!part(conn))
        return;
    if (conn->eof || shutdown(conn->fd, SHUT_WR) != 0) {
        conn_close(conn);
        return;
    }
    in_free(conn);
    start_phase(conn, CONN_LINGER);
    conn->shut = true;
    read_on(conn);
}

static void
end_if_over(struct conn *conn)
{
    if (conn->in_flight || unsent(conn) || conn->shut)
        return;
    if (conn->finishing)
        linger(conn);
    else if (conn->eof && !conn->lifted && !conn->full)
        conn_close(conn);
}

/* What the descriptor does not tell is asked for: input that the io keeps, output that it needs. */
static void
settle_io(struct conn *conn)
{
    enum conn_io_wants wants = io_wants(conn);
    if (wants == CONN_IO_ROOM)
        block(conn);
    else if (wants == CONN_IO_READ)
        event_active(&conn->read_event, EV_READ, 0);
}

/* Brings a connection to rest after something happened to it: goes on with input that a hold had
 * stopped, sends, ends it when it is over, reads again. */
static void
settle(struct conn *conn)
{
    if (conn->dead)
        return;
    conn->busy = true;
    if (conn->lifted && conn->in_n)
        feed_kept(conn);
    conn->lifted = false;
    if (!conn->dead)
        flush(conn);
    conn->busy = false;
    if (!conn->dead && conn->full && !conn->blocked) {
        conn->full = false;
        conn->lifted = true;
        if (!conn->finishing)
            start_phase(conn, conn->phase);
        queue(conn);
    }
    if (!conn->dead)
        end_if_over(conn);
    if (!conn->dead && conn->read_off && wants_input(conn))
        read_on(conn);
    if (!conn->dead)
        settle_io(conn);
}

struct conn *
conn_new(struct loop *loop, int take_fd, const struct conn_ops *ops,
         const struct listen_limits *limits)
{
    struct hub *hub = loop_local(loop);
    if (!hub)
        hub = hub_new(loop);
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
    event_assign(&conn->read_event, loop_base(loop), take_fd, EV_READ | EV_PERSIST, on_readable,
                 conn);
    conn->next = hub->conns;
    if (conn->next)
        conn->next->prev = conn;
    hub->conns = conn;
    return conn;
}

void
conn_start(struct conn *conn)
{
    start_phase(conn, CONN_FIRST_BYTE);
    if (event_add(&conn->read_event, NULL) != 0)
        conn_close(conn);
}

static void
unlink_conn(struct conn *conn)
{
    struct hub *hub = hub_of(conn);
    if (conn->prev)
        conn->prev->next = conn->next;
    else
        hub->conns = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
}

static void
unqueue(struct conn *conn)
{
    struct conn **at = &hub_of(conn)->queued;
    while (*at && *at != conn)
        at = &(*at)->next_queued;
    if (*at)
        *at = conn->next_queued;
    conn->queued = false;
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
    in_free(conn);
    out_release(conn);
    unlink_conn(conn);
    if (conn->queued)
        unqueue(conn);
    if (conn->in_flight == 0)
        bury(conn);
}

void
conn_finish(struct conn *conn)
{
    if (conn->dead || conn->finishing)
        return;
    conn->finishing = true;
    conn->due = INT64_MAX;
    queue(conn);
}

void
conn_drain_all(struct loop *loop, const struct listener *listener)
{
    struct hub *hub = loop_local(loop);
    for (struct conn *conn = hub ? hub->conns : NULL; conn; conn = conn->next) {
        if (conn->listener != listener)
            continue;
        conn->draining = true;
        conn_finish(conn);
    }
}
