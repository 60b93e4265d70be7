/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A call that came over a wire: born in a transport, dies after the last byte of its answer is
 * sent. One thread at a time owns it: its home loop, then a worker, the committer, and home.
 *
 * While others own it its loop watches the deadline. When that passes the loop does not take it
 * back: it answers the caller through another request, which stands in for this one, and drops
 * this one when it comes home. */
#ifndef REQUEST_H
#define REQUEST_H

#include "client/proto/bind.h"
#include "client/proto/buf.h"
#include "client/proto/ops.h"
#include "daemon/call.h"
#include "plugins/kaiten-auth.h"

#include <stdatomic.h>

struct batch;
struct loop;
struct op;
struct request;
struct store_row;

/* A piece of work to run on a loop; memory is the caller's until run() is called. */
struct loop_task {
    struct loop_task *next;
    void (*run)(struct loop *, struct loop_task *);
};

enum door { DOOR_SOCKET = KAITEN_LISTENER_SOCKET, DOOR_HTTP = KAITEN_LISTENER_HTTP };

/* An idempotency key that is at work: see idempotency.h. */
struct inflight_entry {
    struct inflight_entry *next;
    unsigned char id[32];
    bool held;
};

/* How a transport serves the pipeline. One constant of this per transport. */
struct transport {
    enum door door;
    /* Second half of decode, in the bind step: body bytes -> rq->params.body. 0 or a kind with
     * rq->call.err set. */
    int (*decode)(struct request *);
    /* The request is finished, on its home loop: encode the answer (or rq->call.err), send it, and
     * free the request. Called exactly once for every request that was given to pipeline_run(),
     * except for inline attempts that declined. */
    void (*answer)(struct request *);
    /* The request is abandoned: on its home loop, before the one that stands in for it is answered.
     * From now on it owns what it looks into, and its connection stays until drop(). NULL, as
     * drop() then: its requests are waited for, however long that takes. */
    void (*leave)(struct request *);
    /* An abandoned request has come home: frees it. */
    void (*drop)(struct request *);
};

/* Who has the last word on a request that is away: the committer or its loop, whoever is first. */
enum request_stage {
    REQUEST_OPEN = 0,  /* nothing of it is done, or will be before the committer has taken it */
    REQUEST_TAKEN,     /* its batch is being applied */
    REQUEST_SETTLED,   /* what has come of it is on its way home */
    REQUEST_ABANDONED  /* its caller was answered; it is dropped at home */
};

/* Who may read what the daemon counts; 0 is what nobody has set. */
enum metrics_readers { METRICS_NOBODY = 0, METRICS_KNOWN, METRICS_ANYBODY };

/* Who sits at the other end; lives as long as its connection, which outlives its requests. */
struct peer {
    struct kaiten_caller caller; /* credential empty */
    uint32_t groups[KAITEN_GROUPS_MAX];
    char remote[64];             /* "127.0.0.1:4711", or "uid=0 pid=12" */
    uint64_t source;             /* what is counted together: uid or address */
    struct principal *who;       /* socket: what the chain said without a credential, or NULL */
    bool broken;                 /* the chain could not say */
    enum metrics_readers metrics; /* of this listener */
    const struct authn_chain *chain; /* auth plugins of this listener */
};

struct request {
    struct call call;
    const struct transport *transport;
    void *conn;            /* the transport's own */
    struct loop *home;     /* where answer() runs */
    struct peer *peer;
    int64_t began_ms;      /* monotonic: its head or message was read */
    char id[17];           /* request id for the log: 16 hex digits, lazily made by request_id() */

    /* Envelope: the first half of decode. Views into memory that lives as long as the request. */
    struct kt_str method;  /* operation name, or HTTP method */
    struct kt_str path;    /* HTTP: as requested, without the query; "instance" of problems */
    struct kt_str query;   /* HTTP: raw, without '?' */
    struct kt_str body;    /* HTTP: whole, dechunked */
    size_t body_refused;   /* HTTP: the limit that its body reaches, which was not read; 0: none */
    struct kt_str content_type;
    struct kt_str content_encoding; /* HTTP: what was done to the body; p NULL: nothing */
    struct kt_secret_view credential; /* after "Bearer ", or meta.token; p NULL: none */
    struct kt_str idempotency_key;    /* p NULL: none */
    struct kt_str if_none_match;      /* HTTP: tags of what the caller has already */
    bool bad_scheme;       /* HTTP: an Authorization header of another form */
    struct kt_params params;

    /* Filled by the pipeline. */
    const struct kt_op_spec *spec;
    const struct op *op;
    int routed;            /* enum route_result */
    bool outcome;          /* the pipeline has taken it through its last step */
    bool counted;          /* counted against its caller's limit: see limits.h */
    unsigned step;         /* index of the next step; parked requests go on from there */
    bool inline_only;      /* a trial on the loop: a step that would block answers PIPE_DECLINED */
    bool own;              /* from request_new() */
    union kt_in in;
    union kt_out out;
    const void *ahead;     /* what op->ahead() has found out for run(), in the arena; or NULL */
    struct kt_secret *secret; /* shown once; unref'd with the request */
    struct batch *batch;   /* what run() proposes; NULL: nothing to write */
    unsigned attempts;     /* runs that ended in a conflict */
    struct inflight_entry inflight;
    struct store_row *kept; /* the stored answer under the idempotency key */
    struct kt_str bearer;  /* token.validate: the JWT for the Authorization header of the answer */
    struct kt_str allow;   /* 405: the Allow header */
    /* Not of a caller but of the daemon itself: called by the committer instead of anything else,
     * and nothing but call and batch is set. A conflict is told as KT_CONFLICT. */
    void (*landed)(struct request *);
    struct request *next;  /* in exactly one queue at a time */
    struct loop_task task; /* for going on at home */
    _Atomic int stage;     /* enum request_stage */
    struct request **watch_at, *watch_next; /* the loop's own: see loop_watch() */
    struct kt_buf payload; /* HTTP: what body is a view into, */
    size_t payload_counted; /* how much of it conn->strangers counts */
};

/* The committer is about to apply the batch. False: the request is abandoned, and nothing of it may
 * be done. Committer. */
bool request_take(struct request *);

/* It has not been applied, and is to run once more. False: it is abandoned. Committer. */
bool request_reopen(struct request *);

/* It goes home. False: it is abandoned, and its answer is given to nobody. Committer. */
bool request_settle(struct request *);

/* Its deadline has passed. False: it is on its way home and may be answered yet. *ret_taken: its
 * batch may become durable, or already is. Home loop. */
bool request_abandon(struct request *, bool *ret_taken);

/* Has a finished request answered, or dropped when it was abandoned. Home loop. */
void request_finish(struct request *);

/* Whether it has no deadline: work on the daemon itself that an operator asks for. */
bool request_may_last(const struct request *);

static inline bool
request_is_abandoned(const struct request *rq)
{
    return atomic_load_explicit(&rq->stage, memory_order_relaxed) == REQUEST_ABANDONED;
}

/* A heap request with an arena of its own (REQUEST_ARENA_MAX), for work that may leave the loop.
 * NULL: no memory. */
struct request *request_new(const struct transport *, struct loop *home, struct peer *);

/* Prepares rq (caller's memory, arena borrowed) for one inline trial. */
void request_init(struct request *rq, struct kt_arena *arena, const struct transport *,
                  struct loop *home, struct peer *);

/* It has come in full: this is the instant that it is judged by, and its deadline counts from now.
 * One whose head comes alone has had those of its head until then. Home loop. */
void request_starts(struct request *);

/* Drops references and wipes what must be; frees rq when it came from request_new(). */
void request_done(struct request *rq);

const char *request_id(struct request *rq);

enum { REQUEST_ARENA_MAX = 32 * 1024 * 1024 }; /* a page of 200 accounts with their tokens fits */

#endif
