/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/listen.h"

#include "daemon/authn.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/principal.h"
#include "daemon/transport/conn.h"
#include "daemon/transport/conn_line.h"
#include "daemon/transport/crowd.h"
#include "daemon/transport/endpoint.h"
#include "daemon/transport/http.h"
#include "daemon/transport/peer.h"
#include "daemon/transport/socket.h"
#include "daemon/transport/tls.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    ACCEPTS_PER_WAKE = 64,
    ACCEPTS_SHARED = 4, /* more, and one loop would take what the others could share */
    PAUSE_MS = 100,
    LOG_EVERY_MS = 10 * 1000,
    FDS_KEPT = 64, /* descriptors that connections leave to the store, at most a quarter of all */
    SEEKERS_MAX = 64 /* connections that look for a place on another loop */
};

/* A listener on one loop. */
struct gate {
    struct listener *listener;
    struct loop *loop;
    struct event accept, resume;
    struct loop_task open, drain;
    struct conn_line strangers;
    _Atomic size_t conns; /* that are here, or on their way here */
};

struct listener {
    struct endpoint end;
    enum kaiten_listener kind;
    const struct conn_ops *ops;
    const struct authn_chain *chain;
    struct tls *tls; /* NULL: none is spoken */
    struct listen_limits limits;
    int fd_top; /* connections only get descriptors below this one */
    struct metrics_listener counts;
    enum metrics_readers metrics;
    _Atomic size_t strangers; /* bytes of their bodies */
    _Atomic size_t seekers; /* on their way from loop to loop */
    _Atomic size_t open_gates;
    _Atomic bool draining;
    _Atomic int64_t log_after; /* monotonic ms; accept trouble is not told before */
    size_t ngates;
    struct gate *gates;
    struct crowd crowd;
};

/* A flood of the same trouble is one line per interval. */
static bool
may_log(struct listener *listener)
{
    int64_t now = clock_mono_ms(), after = atomic_load(&listener->log_after);
    return now >= after &&
           atomic_compare_exchange_strong(&listener->log_after, &after, now + LOG_EVERY_MS);
}

/* Gates are numbered as their loops are. */
static void
leave(struct listener *listener, const struct loop *loop)
{
    atomic_fetch_sub(&listener->gates[loop_number(loop)].conns, 1);
    atomic_fetch_sub(&listener->counts.open, 1);
}

static void
on_gone(struct conn *conn)
{
    struct listener *listener = conn->listener;
    conn->peer.who = principal_unref(conn->peer.who);
    crowd_leave(&listener->crowd, conn->peer.source);
    leave(listener, conn->loop);
}

static bool
admit(struct listener *listener, int fd, const struct sockaddr_storage *from, struct conn *conn)
{
    struct peer *peer = &conn->peer;
    peer->caller.size = sizeof peer->caller;
    peer->caller.listener = listener->kind;
    peer->chain = listener->chain;
    peer->metrics = listener->metrics;
    if (listener->kind == KAITEN_LISTENER_HTTP) {
        peer_of_tcp(from, peer);
    } else if (!peer_of_unix(fd, peer)) {
        if (may_log(listener))
            log_line(LOG_LEVEL_WARNING, "listen.unidentified", "at=%s error=%m",
                     listener->end.name);
        return false;
    }
    if (crowd_enter(&listener->crowd, peer->source, listener->limits.conns_per_peer))
        return true;
    atomic_fetch_add(&listener->counts.crowded, 1);
    if (may_log(listener))
        log_line(LOG_LEVEL_WARNING, "listen.crowded", "at=%s peer=%s max=%zu", listener->end.name,
                 peer->remote, listener->limits.conns_per_peer);
    return false;
}

/* It is counted already, among all that are open and at the gate. */
static void
welcome(struct gate *gate, int fd, const struct sockaddr_storage *from)
{
    struct listener *listener = gate->listener;
    struct conn *conn = conn_new(gate->loop, fd, listener->ops, &listener->limits);
    if (!conn) {
        leave(listener, gate->loop);
        return;
    }
    if (!admit(listener, fd, from, conn)) {
        leave(listener, gate->loop);
        conn_close(conn);
        return;
    }
    conn->listener = listener;
    conn->strangers = &listener->strangers;
    conn->gone = on_gone;
    atomic_fetch_add(&listener->counts.accepted, 1);
    if (listener->tls && !tls_begin(listener->tls, conn)) {
        conn_close(conn);
        return;
    }
    if (listener->kind == KAITEN_LISTENER_SOCKET)
        authn_peer(&conn->peer);
    if (!conn->peer.who)
        conn_line_join(&gate->strangers, conn);
    conn_start(conn);
}

static void
receive(struct gate *gate, int fd, const struct sockaddr_storage *from)
{
    atomic_fetch_add(&gate->conns, 1);
    welcome(gate, fd, from);
}

static void
gate_pause(struct gate *gate)
{
    struct timeval wait = { 0, PAUSE_MS * 1000 };
    event_del(&gate->accept);
    event_add(&gate->resume, &wait);
}

static void
on_resume(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct gate *gate = arg;
    event_add(&gate->accept, NULL);
}

/* Whether to accept again at once. What is wrong with one connection is not wrong with the
 * listener; without descriptors or memory it has to wait, or it would spin. */
static bool
accept_again(struct gate *gate, int error)
{
    struct listener *listener = gate->listener;
    if (error == EAGAIN)
        return false;
    if (error != EMFILE && error != ENFILE && error != ENOBUFS && error != ENOMEM &&
        error != EBADF && error != EINVAL && error != ENOTSOCK && error != EFAULT)
        return true;
    if (may_log(listener)) {
        errno = error;
        log_line(LOG_LEVEL_ERROR, "listen.accept", "at=%s error=%m", listener->end.name);
    }
    gate_pause(gate);
    return false;
}

#define OUTER(task, type, member) ((type *)(void *)((char *)(task) - offsetof(type, member)))

static bool
gate_evict(struct gate *gate)
{
    if (!conn_line_make_room(&gate->strangers, gate->loop, gate->listener))
        return false;
    atomic_fetch_add(&gate->listener->counts.evicted, 1);
    return true;
}

static void
turn_away(struct listener *listener, int fd)
{
    atomic_fetch_sub(&listener->counts.open, 1);
    atomic_fetch_add(&listener->counts.full, 1);
    close(fd);
}

/* A connection that is looking for a place, on one loop after the other. */
struct seeker {
    struct loop_task task;
    struct gate *gate; /* the loop where it is, or that it is on its way to */
    size_t left;       /* gates that it has not tried yet */
    int fd;
    struct sockaddr_storage from;
};

static void
seeker_go_on(struct seeker *seeker)
{
    struct listener *listener = seeker->gate->listener;
    if (seeker->left-- > 0 && !atomic_load(&listener->draining)) {
        size_t next = (size_t)(seeker->gate - listener->gates + 1) % listener->ngates;
        seeker->gate = &listener->gates[next];
        loop_post(seeker->gate->loop, &seeker->task);
        return;
    }
    turn_away(listener, seeker->fd);
    atomic_fetch_sub(&listener->seekers, 1);
    free(seeker);
}

static void
seeker_arrive(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    struct seeker *seeker = OUTER(task, struct seeker, task);
    struct listener *listener = seeker->gate->listener;
    if (atomic_load(&listener->draining) || !gate_evict(seeker->gate)) {
        seeker_go_on(seeker);
        return;
    }
    receive(seeker->gate, seeker->fd, &seeker->from);
    atomic_fetch_sub(&listener->seekers, 1);
    free(seeker);
}

/* All places are taken: somebody on this loop has to go, or somebody on another one. */
static void
find_place(struct gate *gate, int fd, const struct sockaddr_storage *from)
{
    struct listener *listener = gate->listener;
    if (may_log(listener))
        log_line(LOG_LEVEL_WARNING, "listen.full", "at=%s max=%zu", listener->end.name,
                 listener->limits.conns_max);
    if (gate_evict(gate)) {
        receive(gate, fd, from);
        return;
    }
    bool many = atomic_fetch_add(&listener->seekers, 1) >= SEEKERS_MAX;
    struct seeker *seeker = many ? NULL : malloc(sizeof *seeker);
    if (!seeker) {
        atomic_fetch_sub(&listener->seekers, 1);
        turn_away(listener, fd);
        return;
    }
    *seeker = (struct seeker){ .task.run = seeker_arrive, .gate = gate, .fd = fd, .from = *from,
                               .left = listener->ngates - 1 };
    seeker_go_on(seeker);
}

/* --- which loop has it ---------------------------------------------------------------------- */

/* A connection stays for good with the loop that has it, and which loop is awake when somebody
 * connects is chance: a client that opens fifty at once would find most of them on one. So each
 * goes where the fewest are. */
struct mover {
    struct loop_task task;
    struct gate *gate; /* where it goes to */
    int fd;
    struct sockaddr_storage from;
};

static void
mover_arrive(struct loop *loop, struct loop_task *task)
{
    struct mover *mover = OUTER(task, struct mover, task);
    struct listener *listener = mover->gate->listener;
    welcome(mover->gate, mover->fd, &mover->from);
    if (atomic_load(&listener->draining)) /* it may come after the gate has been shut */
        conn_drain_all(loop, listener);
    free(mover);
}

static struct gate *
emptiest(struct gate *gate)
{
    struct listener *listener = gate->listener;
    size_t fewest = atomic_load_explicit(&gate->conns, memory_order_relaxed);
    for (size_t i = 0; i < listener->ngates; i++) {
        size_t n = atomic_load_explicit(&listener->gates[i].conns, memory_order_relaxed);
        if (n < fewest) {
            fewest = n;
            gate = &listener->gates[i];
        }
    }
    return gate;
}

static void
place(struct gate *gate, int fd, const struct sockaddr_storage *from)
{
    struct gate *to = emptiest(gate);
    struct mover *mover = to != gate ? malloc(sizeof *mover) : NULL;
    if (!mover) { /* without memory it stays here */
        receive(gate, fd, from);
        return;
    }
    *mover = (struct mover){ .task.run = mover_arrive, .gate = to, .fd = fd, .from = *from };
    atomic_fetch_add(&to->conns, 1);
    loop_post(to->loop, &mover->task);
}

/* --- accepting ------------------------------------------------------------------------------ */

static bool
accept_one(struct gate *gate)
{
    struct listener *listener = gate->listener;
    struct sockaddr_storage from;
    socklen_t n = sizeof from;
    int fd = accept4(listener->end.fd, (struct sockaddr *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return accept_again(gate, errno);
    if (fd >= listener->fd_top) {
        close(fd);
        return gate_evict(gate) || accept_again(gate, EMFILE);
    }
    if (atomic_fetch_add(&listener->counts.open, 1) < listener->limits.conns_max)
        place(gate, fd, &from);
    else
        find_place(gate, fd, &from);
    return true;
}

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct gate *gate = arg;
    int most = gate->listener->ngates == 1 ? ACCEPTS_PER_WAKE : ACCEPTS_SHARED;
    for (int i = 0; i < most && accept_one(gate); i++)
        ;
}

static void
gate_open(struct loop *loop, struct loop_task *task)
{
    struct gate *gate = OUTER(task, struct gate, open);
    struct event_base *base = loop_base(loop);
    event_assign(&gate->accept, base, gate->listener->end.fd, EV_READ | EV_PERSIST, on_accept,
                 gate);
    event_assign(&gate->resume, base, -1, 0, on_resume, gate);
    if (event_add(&gate->accept, NULL) != 0)
        log_line(LOG_LEVEL_ERROR, "listen.event", "at=%s", gate->listener->end.name);
}

/* Who comes after the last gate is shut is refused by the kernel, not left in its queue; unless the
 * queue is the service manager's, for whom we are only the present reader. */
static void
gate_drain(struct loop *loop, struct loop_task *task)
{
    struct gate *gate = OUTER(task, struct gate, drain);
    struct listener *listener = gate->listener;
    event_del(&gate->accept);
    event_del(&gate->resume);
    conn_drain_all(loop, listener);
    if (atomic_fetch_sub(&listener->open_gates, 1) == 1 && !listener->end.inherited)
        shutdown(listener->end.fd, SHUT_RDWR);
}

/* A store that cannot open its next log file is a store that stops, and everybody can connect. The
 * kernel gives the lowest free number, so a high one means that few are left. */
static int
highest_fd(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT_MAX)
        return INT_MAX;
    int all = (int)limit.rlim_cur;
    return all - (all / 4 < FDS_KEPT ? all / 4 : FDS_KEPT);
}

static struct listener *
listener_new(enum kaiten_listener kind, const struct authn_chain *chain,
             const struct listen_limits *limits, char *err, size_t errlen)
{
    struct listener *listener = calloc(1, sizeof *listener);
    if (!listener) {
        snprintf(err, errlen, "no memory for a listener");
        return NULL;
    }
    listener->kind = kind;
    listener->ops = kind == KAITEN_LISTENER_SOCKET ? &socket_ops : &http_ops;
    listener->chain = chain;
    listener->limits = *limits;
    listener->fd_top = highest_fd();
    listener->counts.name = listener->end.name;
    listener->counts.door = (enum door)kind;
    listener->end.fd = listener->end.lock_fd = -1;
    crowd_init(&listener->crowd);
    return listener;
}

static struct listener *
listener_opened(struct listener *listener, bool opened)
{
    if (opened)
        return listener;
    listen_free(listener);
    return NULL;
}

struct listener *
listen_socket(const struct endpoint_file *file, const struct authn_chain *chain,
              const struct listen_limits *limits, char *err, size_t errlen)
{
    struct listener *listener = listener_new(KAITEN_LISTENER_SOCKET, chain, limits, err, errlen);
    if (!listener)
        return NULL;
    return listener_opened(listener, endpoint_unix(file, &listener->end, err, errlen));
}

struct listener *
listen_http(const char *address, const struct authn_chain *chain,
            const struct listen_limits *limits, char *err, size_t errlen)
{
    struct listener *listener = listener_new(KAITEN_LISTENER_HTTP, chain, limits, err, errlen);
    if (!listener)
        return NULL;
    return listener_opened(listener, endpoint_tcp(address, &listener->end, err, errlen));
}

void
listen_use_tls(struct listener *listener, struct tls *tls)
{
    listener->tls = tls;
}

void
listen_use_metrics(struct listener *listener, enum metrics_readers readers)
{
    listener->metrics = readers;
}

const struct metrics_listener *
listen_counts(const struct listener *listener)
{
    return &listener->counts;
}

void
listen_opened(void)
{
    endpoint_unclaimed_close();
}

const char *
listen_name(const struct listener *listener)
{
    return listener->end.name;
}

int
listen_start(struct listener *listener, struct loop *const *loops)
{
    size_t n = loops_count(loops);
    listener->gates = calloc(n, sizeof *listener->gates);
    if (!listener->gates)
        return ENOMEM;
    listener->ngates = n;
    atomic_store(&listener->open_gates, n);
    for (size_t i = 0; i < n; i++) {
        struct gate *gate = &listener->gates[i];
        gate->listener = listener;
        gate->loop = loops[i];
        gate->open.run = gate_open;
        gate->drain.run = gate_drain;
    }
    /* Only then: the first that opens may have a connection for any of the others. */
    for (size_t i = 0; i < n; i++)
        loop_post(loops[i], &listener->gates[i].open);
    return 0;
}

void
listen_drain(struct listener *listener)
{
    if (atomic_exchange(&listener->draining, true))
        return;
    for (size_t i = 0; i < listener->ngates; i++)
        loop_post(listener->gates[i].loop, &listener->gates[i].drain);
}

bool
listen_drained(const struct listener *listener)
{
    return atomic_load(&listener->draining) && atomic_load(&listener->open_gates) == 0 &&
           atomic_load(&listener->counts.open) == 0;
}

void
listen_free(struct listener *listener)
{
    if (!listener)
        return;
    endpoint_close(&listener->end);
    free(listener->gates);
    crowd_done(&listener->crowd);
    free(listener);
}
