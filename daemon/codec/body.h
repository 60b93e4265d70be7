/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The body of an HTTP request to parameters that can be bound. */
#ifndef BODY_H
#define BODY_H

#include "daemon/request.h"

/* Fills rq->params.body from rq->body, when the operation of rq->spec reads one. Members are
 * renamed to the spelling of the operation's table when they differ from it in case only. A top
 * level that is no object is left for the binding to refuse.
 * 0, or with rq->call.err set: KT_VALIDATION (no body, or no JSON within limits), KT_MEDIA_TYPE,
 * KT_UNAVAILABLE (memory). The thread that owns the request. */
int body_decode(struct request *rq) __attribute__((warn_unused_result));

#endif
