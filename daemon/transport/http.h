/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* HTTP/1.1 (RFC 9110, 9112) over a connection: requests in, answers out, in order, one at work. */
#ifndef HTTP_H
#define HTTP_H

#include "client/proto/buf.h"
#include "daemon/request.h"
#include "daemon/transport/conn.h"

/* For conn_new(). */
extern const struct conn_ops http_ops;

enum {
    HTTP_BODY_FREE = 16 * 1024, /* bytes of a stranger's body that strangers_max does not count */
    HTTP_DROP_MAX = 64 * 1024   /* longer bodies that nobody wants end the connection instead */
};

/* How an answer is framed. */
struct http_framing {
    bool head_only;  /* the method was HEAD: the headers of GET and nothing behind them */
    bool close;      /* the last answer of the connection */
    bool keep_alive; /* HTTP/1.0 asked to stay: it must be told so */
};

/* Appends the whole answer to a finished request: what rq->out holds, or the refusal in
 * rq->call.err. When it does not fit, a 503 takes its place; when not even that fits, out->failed
 * stays set. The thread that owns the request. */
void http_reply(struct kt_buf *out, struct request *rq, struct http_framing);

/* Decodes the parameters of rq->query that the operation of rq->spec knows into rq->params.query;
 * others are ignored, and empty ones are absent.
 * 0, or with rq->call.err set: KT_VALIDATION (escapes), KT_UNPROCESSABLE (one of them twice),
 * KT_UNAVAILABLE (memory). The thread that owns the request. */
int http_query(struct request *rq) __attribute__((warn_unused_result));

#endif
