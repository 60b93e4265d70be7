/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the files of a connection share among themselves: conn.c (its life), conn_in.c (bytes that
 * come), conn_out.c (bytes that go), conn_hub.c (what the connections of one loop have in common),
 * conn_line.c (which one goes first).
 * Protocols and listeners need conn.h only. Everything here is the loop's thread's. */
#ifndef CONN_HUB_H
#define CONN_HUB_H

#include "daemon/transport/conn.h"

enum {
    CONN_SPARES = 64,   /* output buffers a loop keeps for its connections */
    CONN_ARRIVALS = 64  /* reads of one turn that are looked at together */
};

/* What the connections of a loop share; its one thread owns it. */
struct conn_hub {
    struct loop *loop;
    struct conn *conns;
    struct conn *queued; /* to be settled at the end of the turn, or in the next one */
    struct conn *buried;
    bool task_waits, in_turn;
    struct loop_task task;
    struct event sweep;
    int64_t sweep_at; /* no deadline of a connection is earlier */
    int64_t look_at;  /* conn_line.c looks for idle ones no earlier */
    size_t nspares;
    struct {
        char *p;
        size_t size;
    } spares[CONN_SPARES];
    struct kt_buf sink; /* where answers to the dead go */
    /* What was read in this turn, in the loop's scratch: given to the protocols at its end, all
     * together, and answered after that. */
    struct conn_input arrivals[CONN_ARRIVALS];
    size_t narrivals, scratch_used;
};

/* The loop's, made when it is not there yet. NULL: no memory. */
struct conn_hub *conn_hub_get(struct loop *);

static inline struct conn_hub *
conn_hub(const struct conn *conn)
{
    return loop_local(conn->loop);
}

/* Has the hub's turn run: at the end of this turn of the loop, or in the next one. */
void conn_hub_wait(struct conn_hub *);

/* Takes note of a deadline (monotonic ms): the sweep comes no later. */
void conn_hub_due(struct conn_hub *, int64_t due);

/* Gives what was read in this turn to the protocols (conn_in.c). */
void conn_hub_feed(struct conn_hub *);

/* Has the connection settled in the hub's turn; not while one of its handlers runs, which settles
 * it itself. */
void conn_queue(struct conn *);
void conn_unqueue(struct conn *);

/* Requests look into its memory. */
static inline bool
conn_is_needed(const struct conn *conn)
{
    return conn->in_flight != 0 || conn->strays != 0;
}

/* Has a dead one freed in the hub's turn, unless it is needed then. */
void conn_bury(struct conn *);

/* Starts a phase's deadline, whatever the phase was. */
void conn_start_phase(struct conn *, enum conn_phase);

/* conn.c. Brings a connection to rest after something happened to it: goes on with input that a
 * hold had stopped, sends, ends it when it is over, reads again. */
void conn_settle(struct conn *);

static inline bool
conn_wants_input(const struct conn *conn)
{
    return !conn->eof && !conn->finishing && !conn->held && !conn->full;
}

/* conn_in.c. */
void conn_on_readable(evutil_socket_t, short what, void *conn);
void conn_take_input(struct conn *); /* reads, and has the protocol look at it */
void conn_in_resume(struct conn *);  /* has the protocol look once more at what it left */
void conn_in_free(struct conn *);
void conn_read_on(struct conn *);    /* interest in input, when it was dropped */
enum conn_io_wants conn_io_wants(const struct conn *);

/* conn_out.c. */
static inline size_t
conn_unsent(const struct conn *conn)
{
    return conn->out.n - conn->sent;
}

void conn_flush(struct conn *); /* sends, unless the kernel is known to be full */
void conn_block(struct conn *); /* the kernel is full: waits for room, under one deadline */
void conn_out_release(struct conn *); /* gives the memory of an empty output back to the loop */

/* The last word of TLS. False: it waits until the kernel takes it, or the connection is dead. */
bool conn_part(struct conn *);

#endif
