/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* One connection: descriptor, buffers, deadlines, requests in flight. A protocol (socket.c, http.c)
 * is a struct conn_ops on top of it.
 *
 * Everything here belongs to the loop that has the connection and is called on its thread
 * only. A connection's memory goes at the end of a loop turn, never under the feet of a handler:
 * after conn_close() or conn_finish() it may still be looked at until the handler returns.
 *
 * The life of a request: readable() -> conn_begin() -> pipeline_run() ... transport->answer() ->
 * conn_out() -> conn_end(). A connection that dies in between waits, dead, for its requests, and
 * what they answer is dropped. */
#ifndef CONN_H
#define CONN_H

#include "client/proto/buf.h"
#include "daemon/loop.h"
#include "daemon/transport/listen.h"

#include <event2/event.h>
#include <event2/event_struct.h>

enum {
    CONN_INPUT_MAX = LOOP_SCRATCH,          /* bytes that may lie unconsumed */
    CONN_OUTPUT_HIGH = 256 * 1024,          /* unsent bytes above which nothing more is read */
    CONN_OUTPUT_MAX = 64 * 1024 * 1024,     /* unsent bytes that may ever be */
    CONN_LINGER_BYTES = 4 * 1024 * 1024,    /* see conn_finish() */
    CONN_LINGER_MS = 1000
};

struct conn;
struct conn_line;

/* What a connection waits for; each has one absolute deadline, which no byte moves. */
enum conn_phase {
    CONN_FIRST_BYTE = 0, /* no byte for the protocol yet, nor a handshake (first_byte_ms) */
    CONN_IDLE,           /* between requests (idle_ms) */
    CONN_HEAD,           /* a message or head has begun (head_ms) */
    CONN_BODY,           /* (body_ms) */
    CONN_WORK,           /* a request is at work: no deadline but the request's own */
    CONN_LINGER          /* conn.c's own, after conn_finish() */
};

/* Bytes of a connection as in readable(), and how many of them are done with. */
struct conn_input {
    struct conn *conn;
    struct kt_str bytes;
    size_t used;
};

struct conn_ops {
    const char *name;  /* for the log */
    size_t state_size; /* bytes of conn_state(), zeroed at the start */

    /* Bytes that were not consumed yet, at least one, at most CONN_INPUT_MAX. Returns how many are
     * done with; the rest comes again, with more behind it. Views into bytes end with the return.
     * Returning 0 for CONN_INPUT_MAX bytes without a hold, finish or close ends the connection.
     * It is called again at once while it consumes something and conn_ready() says yes, so one
     * message per call is enough. */
    size_t (*readable)(struct conn *, struct kt_str bytes);

    /* A chance to deal with requests of several connections at once, before readable() gets what
     * is left of each. Sets used, and calls conn_ready() itself. NULL: one by one. */
    void (*readable_all)(struct conn_input inputs[], size_t n);

    /* The deadline of the phase passed. May answer and must conn_finish() or conn_close(). NULL:
     * closed without a word. Not called for a peer that does not read our output. */
    void (*expired)(struct conn *, enum conn_phase);

    /* The peer will send no more; what it sent in full was given to readable() before. Its answers
     * are still sent. NULL: nothing to do. */
    void (*ended)(struct conn *);

    /* Frees what the state owns. No request is in flight. NULL: nothing. */
    void (*freed)(struct conn *);
};

/* What a conn_io waits for beside a readable descriptor. */
enum conn_io_wants {
    CONN_IO_NOTHING = 0,
    CONN_IO_READ, /* read() has more to give, though the descriptor may have nothing */
    CONN_IO_ROOM  /* read() cannot go on before the descriptor takes output */
};

/* How bytes move when it is not read(2) and send(2): the place of TLS. Results as of read(2):
 * bytes, 0 at the end, -1 with errno (EAGAIN: later). read() and send() may conn_finish(). A send()
 * that was short or said EAGAIN is called again with the same bytes, from the first that it did not
 * take, and perhaps more behind them. */
struct conn_io {
    ssize_t (*read)(struct conn *, void *, size_t);
    ssize_t (*send)(struct conn *, const void *, size_t);
    enum conn_io_wants (*wants)(const struct conn *);
    int (*part)(struct conn *);    /* the last word, after the last send(): 0, or -1 with errno */
    void (*freed)(struct conn *);  /* the descriptor is still open */
};

struct conn {
    /* To be read by protocols. */
    struct loop *loop;
    const struct conn_ops *ops;
    const struct listen_limits *limits;
    struct listener *listener; /* NULL when it came from none (tests) */
    _Atomic size_t *strangers; /* bytes that the listener's strangers_max counts; NULL: uncounted */
    struct peer peer;
    unsigned in_flight;        /* conn_begin() without conn_end() yet */
    unsigned strays;           /* abandoned requests that have not come home */
    enum conn_phase phase;
    bool draining;             /* the daemon ends: this answer is the last one */
    bool dead;                 /* closed; answers are dropped */

    /* Of conn*.c alone from here on. */
    bool eof, finishing, shut, held, full, lifted, read_off, blocked, secret, busy, queued, buried;
    bool arrived; /* bytes of it wait for the end of the turn */
    unsigned resume_at;
    int fd;
    const struct conn_io *io;
    void *io_state;
    void (*gone)(struct conn *); /* tells the listener */
    struct conn *prev, *next;    /* all of the loop */
    struct conn *next_queued, *next_buried;
    struct conn_line *line;      /* it stands in; NULL: known callers have it */
    struct conn *line_prev, *line_next;
    int64_t due, write_due;      /* monotonic ms; INT64_MAX: none */
    size_t lingered;
    char *in;                    /* unconsumed bytes: NULL for an idle connection */
    uint32_t in_start, in_n, in_size;
    struct kt_buf out;
    size_t sent;                 /* of out */
    struct event read_event;
    struct event *write_event;   /* made when a send would have blocked */
    max_align_t state[];
};

/* Takes the descriptor (non-blocking stream socket, closed on failure as well). The caller fills in
 * conn->peer and listener before conn_start(). limits is borrowed for good. NULL: no memory. */
struct conn *conn_new(struct loop *, int take_fd, const struct conn_ops *,
                      const struct listen_limits *);

/* Begins to read. */
void conn_start(struct conn *);

/* The protocol's own, conn->ops->state_size bytes. */
static inline void *
conn_state(struct conn *conn)
{
    return conn->state;
}

/* Enters a phase and starts its deadline. Entering the phase it is in already does nothing, save
 * for CONN_IDLE, which starts anew. */
void conn_enter(struct conn *, enum conn_phase);

/* One more request in flight: the connection outlives it. Enters CONN_WORK. */
void conn_begin(struct conn *);

/* One less; goes on with what a hold had stopped, soon (never from inside this call). The last one
 * leaves CONN_WORK for CONN_IDLE. The last thing that answer() does. */
void conn_end(struct conn *);

/* A request in flight is abandoned, and another one will conn_end() for it: the connection outlives
 * it all the same, though not as one that is in use. conn_back() when it has come home. */
void conn_leave(struct conn *);
void conn_back(struct conn *);

/* Stops readable() until no more than at_most requests are in flight (0: until all are answered);
 * bytes stay unconsumed. Does nothing when there are no more than that already. */
void conn_hold(struct conn *, unsigned at_most);

/* Whether another message may be taken now: not held, not finished, not draining, not dead, and
 * the peer reads our answers. Asks the kernel to take output first when there is much of it. */
bool conn_ready(struct conn *);

/* Where answers are appended, in whole messages; sent once when the handler returns or at the end
 * of the loop turn. Never NULL; a dead connection's goes nowhere. A message that did not fit leaves
 * failed set, which closes the connection unless the caller takes it back (n and failed). */
struct kt_buf *conn_out(struct conn *);

/* What conn_out() holds now has a secret: the memory is wiped once it is sent. */
void conn_secret(struct conn *);

/* A caller that is known was answered: from now on strangers go first when room is needed. */
void conn_known(struct conn *);

/* No more messages are taken; when the requests in flight are answered and all is sent, ends the
 * connection so that the last answer arrives: our side is shut, the peer's bytes are read and
 * dropped up to CONN_LINGER_BYTES and CONN_LINGER_MS. What comes after that is answered with a
 * reset, which takes the answer from a peer that has not read it. A refused body is on its way when
 * the refusal is: what the sender's buffers and ours hold of it, which is megabytes, not the 64 KiB
 * that a polite client sends more. It costs less than the same bytes in bodies that are taken. */
void conn_finish(struct conn *);

/* Ends it now; unsent answers are lost. */
void conn_close(struct conn *);

/* conn_finish() for each connection of this listener on the loop, as draining. */
void conn_drain_all(struct loop *, const struct listener *);

#endif
