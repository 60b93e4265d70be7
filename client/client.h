/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The inside of a handle, shared by the files of libkaiten. Everything here belongs to the thread
 * that uses the handle. Functions return 0 or an enum kaiten_error, recorded in the handle. */
#ifndef KAITEN_CLIENT_H
#define KAITEN_CLIENT_H

#include "client/kaiten.h"
#include "client/proto/arena.h"
#include "client/proto/buf.h"
#include "client/proto/ops.h"
#include "client/proto/pack.h"
#include "client/proto/value.h"

enum {
    CLIENT_REQUEST_MAX = 64 * 1024,       /* what the server takes as one message */
    CLIENT_REPLY_MAX = 16 * 1024 * 1024,  /* a page of 200 accounts with their tokens fits */
    CLIENT_ARENA_MAX = 128 * 1024 * 1024, /* that reply as a tree of small values */
    CLIENT_CODE_MAX = 96,
    CLIENT_KEY_MAX = 255,
    CLIENT_DETAIL_MAX = 1024
};

/* One pipelined verification. */
struct client_slot {
    enum { SLOT_FREE = 0, SLOT_WAITING, SLOT_ANSWERED, SLOT_FAILED } state;
    uint32_t id;
    uint64_t tag;
    int error;           /* of SLOT_FAILED */
    char *reply;         /* of SLOT_ANSWERED: the message, kept while another call was reading */
    size_t reply_len;
};

struct kaiten {
    char *path; /* NULL: looked up at each connect */
    int fd;     /* -1: there is no connection */
    unsigned timeout_ms;
    uint32_t id; /* the last one used */
    char *token; /* of kaiten_set_token */
    size_t token_len;
    char key[CLIENT_KEY_MAX + 1]; /* of kaiten_set_idempotency_key; "": none */
    bool keyed;                   /* the request being made has it */

    uint32_t greeting; /* its id */
    bool greeted;      /* it was answered on this connection */

    struct kt_buf request; /* of the call being made; kept so that it can be sent once more */
    struct kt_buf out;     /* to be sent */
    size_t sent;           /* of out */
    struct kt_buf in;      /* received */
    size_t start;          /* of in: where the next message begins */
    size_t message;        /* its length while somebody still looks at it, else 0 */
    struct kt_pack_scan scan;

    struct kt_arena arena; /* the answer of the last call */

    int error;
    char code[CLIENT_CODE_MAX], detail[CLIENT_DETAIL_MAX];
    struct kt_buf problem;
    unsigned retry_after; /* seconds; 0: not said */

    struct client_slot slots[KAITEN_IN_FLIGHT_MAX];
    size_t in_flight; /* slots that are not free */
};

/* --- client.c ----------------------------------------------------------------------------- */

/* Each public call begins here: forgets the last failure and what the last call lent. */
void client_begin(struct kaiten *);

/* Records a failure of this side and returns number. */
int client_fail(struct kaiten *, int number, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Records the error member of a reply, a problem or a pair, and returns its number. */
int client_refused(struct kaiten *, const struct kt_value *error);

/* --- wire.c ------------------------------------------------------------------------------- */

/* What a server may say in one message. */
extern const struct kt_pack_limits wire_reply_limits;

/* When a call that begins now must be over: CLOCK_MONOTONIC in milliseconds, or INT64_MAX. */
int64_t wire_deadline(const struct kaiten *);

/* Makes sure that there is a connection; on a new one the greeting is in out, and leaves with what
 * comes behind it. For requests that change nothing: whether they were carried out is not known
 * when the server refuses the greeting. */
int wire_connect(struct kaiten *, int64_t deadline);

/* Makes sure that there is a connection and that greetings were exchanged on it. */
int wire_open(struct kaiten *, int64_t deadline);

/* Closes; verifications that wait fail with why (0: are forgotten, and so are answered ones). */
void wire_close(struct kaiten *, int why);

/* Sends all of out, while it takes in what comes, so that neither side waits for ever.
 * KAITEN_ECONNECT: the connection broke before the last message had left. KAITEN_ETIMEOUT: the
 * connection was closed if a message had left in part. */
int wire_flush(struct kaiten *, int64_t deadline);

/* The next whole message, after out was sent if none is there yet; its strings are views that live
 * until wire_release. On failure other than KAITEN_ETIMEOUT the connection is closed. */
int wire_read(struct kaiten *, int64_t deadline, struct kt_value *ret_message);

/* Wipes the message that wire_read gave. Nothing happens when there is none. */
void wire_release(struct kaiten *);

/* Closes the connection to a server that breaks the protocol; returns KAITEN_EPROTOCOL. */
int wire_garbage(struct kaiten *, const char *why);

/* --- call.c ------------------------------------------------------------------------------- */

/* Begins a request in buf with n arguments, which the caller adds as name and value. The id is
 * returned. end adds what belongs behind them: who asks, and if buf is k->request the key. */
uint32_t request_begin(struct kaiten *, struct kt_buf *, const char *method, size_t n);
void request_end(struct kaiten *, struct kt_buf *);
/* What is not UTF-8 fails the buffer: the server would close on it. */
void request_str(struct kt_buf *, const char *name, struct kt_str value);
void request_int(struct kt_buf *, const char *name, int64_t value);

/* The parts of a reply. False: it is none. */
bool reply_parse(const struct kt_value *message, uint32_t *ret_id,
                 const struct kt_value **ret_error, const struct kt_value **ret_result);

/* A call on its way: what is in k->request, and what came back. */
struct call {
    struct kaiten *k;
    const char *method;
    uint32_t id;
    struct kt_value message;         /* keeps the array that result points into */
    const struct kt_value *result;   /* borrowed from the wire until call_end */
};

/* Begins a call and forgets the last one; the caller adds n arguments to the buffer returned. */
struct kt_buf *call_begin(struct call *, struct kaiten *, enum kt_op_id, size_t n);

/* Sends it and waits for the answer, which is c->result then. */
int call_run(struct call *);

/* The same, and binds the answer by the table; out is a struct of that shape. */
int call_bind(struct call *, const struct kt_shape *, void *out);

/* Forgets request and answer, which may hold secrets, and returns error. Ends every call. */
int call_end(struct call *, int error);

/* Failures of this side; each returns its number. missing: before call_begin(). */
int call_bad_answer(struct kaiten *);
int call_no_memory(struct kaiten *);
int call_missing(struct kaiten *, const char *what);

/* --- verify.c ----------------------------------------------------------------------------- */

/* Takes the reply on the wire if it belongs to a pipelined verification, and releases it. */
bool verify_take(struct kaiten *, uint32_t id);

/* Fails (or, with why 0, forgets) all that wait. */
void verify_drop(struct kaiten *, int why);

/* --- result.c ----------------------------------------------------------------------------- */

/* From an answer bound by the table to what the caller owns. NULL: no memory. The secret's
 * reference moves to the result, also on failure. */
struct kaiten_token *result_token(const struct kt_token *take_secret);
struct kaiten_token_page *result_token_page(const struct kt_page *);
struct kaiten_account *result_account(const struct kt_account *);
struct kaiten_account_page *result_account_page(const struct kt_page *);
struct kaiten_caller *result_caller(const struct kt_whoami *);

/* The same into the handle's arena. */
const struct kaiten_verification *result_verification(struct kt_arena *, const struct kt_verdict *);

#endif
