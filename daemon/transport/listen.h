/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Listeners of both doors: opened once by main, accepted from by every loop. */
#ifndef LISTEN_H
#define LISTEN_H

#include "daemon/loop.h"
#include "daemon/transport/endpoint.h"

struct authn_chain;
struct listener;
struct metrics_listener;
struct tls;

struct listen_limits {
    size_t conns_max;         /* connections in all, per listener; a new one beyond that takes the
                                 place of the oldest of a stranger, or of one that idles */
    size_t conns_per_peer;    /* socket: per uid; http: per address */
    size_t in_flight_max;     /* requests at work per connection (socket) */
    size_t body_max;          /* bytes: shorter bodies are taken (http) */
    size_t strangers_max;     /* http: bytes that bodies of callers who are not verified yet may
                                 take in all, beside HTTP_BODY_FREE of each; per listener */
    int64_t first_byte_ms, head_ms, body_ms, write_ms, idle_ms; /* absolute deadlines per phase;
                                                                  0: none */
    int64_t idle_kept_ms;     /* a known caller's connection that was idle for less is kept when
                                 all places are taken */
    int64_t lifetime_ms;      /* http: an answer that is given later than this after the first byte
                                 is the last one of its connection; 0: no limit */
};

/* A Unix socket, created safely (temporary name, mode and group set, then renamed; a lock file
 * beside it decides whether a stale one may be replaced). On failure NULL and a message in err
 * (errlen bytes). Main thread. */
struct listener *listen_socket(const struct endpoint_file *, const struct authn_chain *,
                               const struct listen_limits *, char *err, size_t errlen);

/* "127.0.0.1:3000", "[::1]:3000"; port 0 takes a free one. Numeric addresses only. */
struct listener *listen_http(const char *address, const struct authn_chain *,
                             const struct listen_limits *, char *err, size_t errlen);

/* Its connections speak TLS. Borrowed until listen_free(). Main thread, before listen_start(). */
void listen_use_tls(struct listener *, struct tls *);

/* Who may read /metrics here; nobody when it is not called. Main thread, before listen_start(). */
void listen_use_metrics(struct listener *, enum metrics_readers);

/* What it counts; lives as long as the listener. */
const struct metrics_listener *listen_counts(const struct listener *);

/* When all listeners are open: closes the sockets that the service manager handed over (LISTEN_FDS)
 * and no listener claimed by its address. Main thread. */
void listen_opened(void);

/* The address that clients connect to ("127.0.0.1:39471" or the socket's path). */
const char *listen_name(const struct listener *);

/* Lets every loop accept from it; each connection is given to the loop that has the fewest. Main
 * thread, after loops_start() or before. */
int listen_start(struct listener *, struct loop *const *loops);

/* Accepts no more; connections finish their requests, answer them and close; what was not read is
 * never read. Any thread. listen_drained() tells when the last connection is gone. */
void listen_drain(struct listener *);
bool listen_drained(const struct listener *);

/* Closes what is left. Main thread, after loops_stop(). Unlinks the socket's path. */
void listen_free(struct listener *);

#endif
