/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A refusal on the wire: problem details (RFC 9457) from rq->call.err, as JSON for HTTP and as a
 * MessagePack map for a socket client that asked for it. */
#ifndef PROBLEM_H
#define PROBLEM_H

#include "client/proto/buf.h"
#include "daemon/request.h"

/* Appends one object: type, title, status, detail, instance, code, errorId, retryAfter (seconds),
 * errors, each left out when it is empty. instance is the path as requested, or the method's name
 * when there is none. A call without a refusal is described as KT_INTERNAL. The thread that owns
 * the request. */
void problem_json(struct kt_buf *, struct request *);

/* The same members in the same order as a MessagePack map. */
void problem_pack(struct kt_buf *, struct request *);

/* Overwrites with asterisks what may be a secret of ours in buf from there on: paths, member names
 * and scopes are quoted in texts, wherever somebody has pasted one. The two above do it. Lengths
 * stay as they are. */
void problem_mask(struct kt_buf *, size_t from);

#endif
