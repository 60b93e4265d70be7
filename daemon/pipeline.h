/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* THE PATH: what happens to every request, whichever door it came through. */
#ifndef PIPELINE_H
#define PIPELINE_H

#include "daemon/request.h"

enum pipe_result {
    PIPE_ANSWERED = 0, /* transport->answer() was called; the request is gone */
    PIPE_PARKED,       /* it waits for its loop, or a worker or the committer owns it; answer()
                          follows on the home loop */
    PIPE_DECLINED      /* an inline trial would have blocked; nothing happened, start again */
};

/* Takes the request through the steps. On its home loop.
 *
 * With rq->inline_only the request may live in memory of the loop that is reused at once: either it
 * is answered before this returns, or PIPE_DECLINED comes back, without any side effect and without
 * answer(). Otherwise rq is from request_new() and is never declined. */
enum pipe_result pipeline_run(struct request *rq);

/* Several inline requests at once, at most LOOP_GROUP: takes each as far as its operation, which
 * may then do for all of them what pays together. Before pipeline_run() for the first; what is
 * refused or declined here is so again there. */
void pipeline_ahead(struct request list[], size_t n);

/* A request that was taken ahead will not be run: it begins again as another one. */
void pipeline_forget(struct request *rq);

/* What the head alone decides about a request whose body is still to come: nothing that blocks is
 * asked. REFUSED: err is set, and pipeline_run() answers it, whenever that may be. Otherwise
 * pipeline_run() does everything again when the body is there, because until then the caller may
 * have lost what makes it one. From request_new(), on its home loop. */
enum pipe_head {
    PIPE_HEAD_OPEN = 0, /* the caller is not known yet */
    PIPE_HEAD_KNOWN,    /* the caller is known */
    PIPE_HEAD_REFUSED
};
enum pipe_head pipeline_head(struct request *rq);

/* Goes on with a parked request. Worker. */
void pipeline_resume(struct request *rq);

/* The committer's way back: the operation has to run once more because the world changed under it,
 * or the requests of a list (linked by ->next) are finished. On the committer. */
void pipeline_again(struct request *rq);
void pipeline_done(struct request *list);

/* What came of the request, for the log; says nothing of one that the pipeline has never seen to
 * its end. transport->answer() calls it, so that the line is there before the answer is, and the
 * committer does not write it. */
void pipeline_tell(struct request *rq);

/* True when the operation of this name may be tried with inline_only: token.verify and the like.
 * A look at the table, nothing else. */
bool pipeline_may_inline(struct kt_str method);

/* True when the operation behind this method and path may be tried with inline_only. */
bool pipeline_may_inline_http(struct kt_str method, struct kt_str path);

/* True of a path that names what the operation is about: an account, a token. */
bool pipeline_names_http(struct kt_str method, struct kt_str path);

/* True when a mutation is behind this name: on one connection it is a barrier. */
bool pipeline_writes(struct kt_str method);

#endif
