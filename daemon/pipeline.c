/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/pipeline.h"

#include "daemon/authn.h"
#include "daemon/authz.h"
#include "daemon/commit.h"
#include "daemon/idempotency.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/metrics.h"
#include "daemon/ops.h"
#include "daemon/principal.h"
#include "daemon/route.h"
#include "daemon/service.h"
#include "daemon/store.h"
#include "daemon/worker.h"

/* What a step may return besides 0 and an enum kt_kind. */
enum {
    WOULD_BLOCK = CALL_WOULD_BLOCK, /* go on with this step on a worker */
    PARKED = -2,                     /* another thread owns the request now */
    GO_HOME = -3,                    /* go on with this step on the home loop */
    ASKS = CALL_ASKS                 /* on a worker: only the store knows */
};

struct place {
    bool on_loop; /* nothing here may block */
    struct slice *slice; /* on the loop, after what is answered at once; NULL: any other place */
};

/* Requests whose operations are tried on the loop together, and what of them goes on to the
 * committer. */
struct slice {
    struct request *first, **end;
};

static int find_operation(struct request *, const struct place *);
static int authenticate(struct request *, const struct place *);
static int bind_params(struct request *, const struct place *);
static int check_early(struct request *, const struct place *);
static int authorize(struct request *, const struct place *);
static int run_operation(struct request *, const struct place *);
static int commit_batch(struct request *, const struct place *);

/* In this order; STEP_BIND is the first that looks at the body. */
enum { STEP_ROUTE, STEP_AUTHENTICATE, STEP_BIND, STEP_CHECK, STEP_AUTHORIZE, STEP_RUN, STEP_COMMIT,
       STEPS };

/* Read this array and you know the daemon. */
static int (*const steps[STEPS])(struct request *, const struct place *) = {
    [STEP_ROUTE] = find_operation,
    [STEP_AUTHENTICATE] = authenticate,
    [STEP_BIND] = bind_params,
    [STEP_CHECK] = check_early,
    [STEP_AUTHORIZE] = authorize,
    [STEP_RUN] = run_operation,
    [STEP_COMMIT] = commit_batch,
};

enum {
    CONFLICTS_MAX = 5,
    TRY_BODY_MAX = 4096, /* a longer body is not decoded on the loop */
    ASKS_WAITING_MAX = 256 /* requests that wait for a worker: who asks for more than memory knows
                              is then refused, so that strangers with made-up tokens leave room */
};

/* --- the steps ---------------------------------------------------------------------------- */

static int
find_http(struct request *rq)
{
    struct route *route = KT_ARENA_NEW(rq->call.arena, struct route);
    if (!route)
        return fail_memory(&rq->call);
    enum route_result found = route_http(rq->method, rq->path, rq->call.arena, route);
    if (found == ROUTE_NO_MEMORY)
        return fail_memory(&rq->call);
    rq->routed = (int)found;
    rq->spec = route->spec;
    rq->params.path = route->params;
    rq->params.npath = route->nparams;
    rq->allow = route->allow;
    return KT_OK;
}

/* The document is not published at this path, whatever the method. */
static bool
is_hidden(const struct request *rq)
{
    struct route route;
    if (rq->peer->metrics != METRICS_NOBODY)
        return false;
    if (rq->op)
        return (rq->op->flags & OP_METRICS) != 0;
    return rq->routed == ROUTE_METHOD &&
           route_http(KT_LIT("GET"), rq->path, NULL, &route) == ROUTE_FOUND &&
           (ops[kt_op_id(route.spec)].flags & OP_METRICS);
}

static void
hide(struct request *rq)
{
    rq->spec = NULL;
    rq->op = NULL;
    rq->routed = ROUTE_UNKNOWN;
    rq->allow = (struct kt_str){ NULL, 0 };
}

/* What is not there is said only to known callers (authenticate comes before): an unknown one
 * learns nothing of the paths. */
static int
find_operation(struct request *rq, const struct place *at)
{
    (void)at;
    if (rq->transport->door == DOOR_HTTP) {
        int status = find_http(rq);
        if (status != KT_OK)
            return status;
    } else {
        rq->spec = route_name(rq->method);
        rq->routed = rq->spec ? ROUTE_FOUND : ROUTE_UNKNOWN;
    }
    if (rq->spec)
        rq->op = &ops[kt_op_id(rq->spec)];
    if (is_hidden(rq))
        hide(rq);
    return KT_OK;
}

/* The head of an answer to HEAD, its length included, is that of GET (RFC 9110 section 8.6). */
static struct kt_str
told_method(const struct request *rq)
{
    return kt_str_is(rq->method, "HEAD") ? KT_LIT("GET") : rq->method;
}

static int
refuse_route(struct request *rq)
{
    struct kt_str method = told_method(rq);
    if (rq->routed == ROUTE_BAD_PATH)
        return fail(&rq->call, KT_VALIDATION, NULL, "the path is not validly encoded");
    if (rq->routed == ROUTE_METHOD)
        return fail(&rq->call, KT_METHOD, NULL, "method %.*s is not allowed here; allowed: %.*s",
                    KT_FMT(method), KT_FMT(rq->allow));
    if (rq->transport->door == DOOR_SOCKET)
        return fail(&rq->call, KT_NOT_FOUND, "Method.NotFound", "no method %.*s",
                    KT_FMT(rq->method));
    return fail(&rq->call, KT_NOT_FOUND, NULL, "no route for %.*s %.*s", KT_FMT(method),
                KT_FMT(rq->path));
}

static bool
begins(struct kt_str path, struct kt_str with)
{
    return path.n >= with.n && memcmp(path.p, with.p, with.n) == 0;
}

/* As in the reference, whatever begins like this is public, also where nothing is: there is nothing
 * to hide. */
static bool
is_published(struct kt_str path)
{
    if (begins(path, KT_LIT("/api/")))
        path = (struct kt_str){ path.p + 4, path.n - 4 };
    return kt_str_is(path, "/docs") || begins(path, KT_LIT("/docs/")) ||
           begins(path, KT_LIT("/openapi"));
}

/* Any other public operation is public under its exact path only: with a slash at the end it has
 * the same route, but a gateway's list of exceptions does not know that path. */
static bool
is_open(const struct request *rq)
{
    if (rq->transport->door == DOOR_HTTP && is_published(rq->path))
        return true;
    /* On the socket an unknown method is told to everybody: clients probe for features. */
    if (!rq->op)
        return rq->transport->door == DOOR_SOCKET;
    bool slash = rq->path.n && rq->path.p[rq->path.n - 1] == '/';
    if ((rq->op->flags & OP_METRICS) && rq->peer->metrics != METRICS_ANYBODY)
        return false;
    return (rq->op->flags & OP_PUBLIC) && !slash;
}

/* While the store may have forgotten what was revoked. */
static int
refuse_quarantined(struct request *rq)
{
    return fail(&rq->call, KT_UNAVAILABLE, "Server.Quarantined",
                "no token is accepted and nothing can be changed until the operator has accepted "
                "the state of the store");
}

/* Until the index is full the store says what a token is. That holds as long as nothing changes,
 * and of a token's use memory alone knows. */
static int
refuse_starting(struct request *rq)
{
    rq->call.err.retry_after_s = 1;
    return fail(&rq->call, KT_UNAVAILABLE, "Server.Starting",
                "the daemon is starting: tokens are verified, everything else has to wait");
}

static int
identify(struct request *rq, const struct place *at)
{
    bool is_token = rq->credential.n >= 4 && memcmp(rq->credential.p, "ksh_", 4) == 0;
    if (is_token && rq->call.svc->quarantine)
        return refuse_quarantined(rq);
    return authn_identify(rq, !at->on_loop);
}

static int
authenticate(struct request *rq, const struct place *at)
{
    int status = is_open(rq) ? KT_OK : identify(rq, at);
    if (status != KT_OK)
        return status;
    if (rq->call.who)
        status = limits_check(rq);
    if (status != KT_OK)
        return status;
    return rq->op ? KT_OK : refuse_route(rq);
}

/* Whether the operation may be tried on the loop: what comes with it is short, and there is no
 * earlier answer to be looked for. */
static bool
may_try(const struct request *rq)
{
    return (rq->op->flags & OP_TRIES) && !rq->idempotency_key.p && rq->body.n <= TRY_BODY_MAX;
}

static void run_slice(struct request *list);

static int
bind_params(struct request *rq, const struct place *at)
{
    /* What will go to a worker anyway is decoded there; what looks into the index goes home. */
    bool is_inline = (rq->op->flags & OP_INLINE) != 0;
    if (at->on_loop && !at->slice && may_try(rq)) {
        loop_later(rq->home, rq, run_slice);
        return PARKED;
    }
    if (at->on_loop != is_inline && !at->slice)
        return at->on_loop ? WOULD_BLOCK : GO_HOME;
    int status = rq->transport->decode ? rq->transport->decode(rq) : KT_OK;
    if (status != KT_OK)
        return status;
    return kt_bind(rq->spec->in, &rq->params, rq->call.arena, &rq->in, &rq->call.err);
}

static int
check_early(struct request *rq, const struct place *at)
{
    (void)at;
    return rq->op->check ? rq->op->check(rq) : KT_OK;
}

static int
authorize(struct request *rq, const struct place *at)
{
    (void)at;
    return authz_check(rq);
}

/* With an idempotency key, an operation of OP_ONCE is not run again once its answer is there. */
static int
run_once(struct request *rq)
{
    bool replayed;
    int status = idempotency_begin(rq, &replayed);
    if (status == KT_OK && replayed)
        return rq->op->again ? rq->op->again(rq) : KT_OK;
    if (status != KT_OK)
        return status;
    status = rq->op->run(rq);
    return status == KT_OK && rq->batch ? idempotency_record(rq) : status;
}

static int
run_operation(struct request *rq, const struct place *at)
{
    if (rq->call.svc->quarantine && (rq->op->flags & (OP_WRITES | OP_JUDGES)))
        return refuse_quarantined(rq);
    if (!(rq->op->flags & (OP_INLINE | OP_EARLY)) && atomic_load(&rq->call.svc->filling))
        return refuse_starting(rq);
    if (rq->spec->out)
        kt_shape_clear(rq->spec->out, &rq->out);
    rq->call.on_loop = at->on_loop;
    bool once = rq->idempotency_key.p && (rq->op->flags & OP_ONCE);
    int status = once ? run_once(rq) : rq->op->run(rq);
    if (status == KT_NOT_FOUND)
        limits_missed(rq);
    return status;
}

/* The committer's queue is bounded, and while the committer is stuck nobody is made to wait in
 * vain. */
static int
check_committer(struct request *rq, const struct place *at)
{
    const struct service *svc = rq->call.svc;
    const int64_t now = at->on_loop ? loop_now_ms(rq->home) : clock_mono_ms();
    if (committer_is_stuck(svc->committer, now))
        return fail(&rq->call, KT_UNAVAILABLE, "Server.Busy",
                    "the store does not answer; nothing was changed, please retry");
    if (committer_is_full(svc->committer))
        return fail(&rq->call, KT_UNAVAILABLE, "Server.Busy",
                    "too many changes are waiting, please retry");
    return KT_OK;
}

static int
commit_batch(struct request *rq, const struct place *at)
{
    if (!rq->batch)
        return KT_OK;
    int status = check_committer(rq, at);
    if (status != KT_OK)
        return status;
    if (rq->batch->failed)
        return fail_cause(&rq->call, KT_INTERNAL, NULL, "%s proposed a batch that does not fit",
                          rq->spec->name);
    if (!store_seal(rq->call.svc->store, rq->batch))
        return fail_memory(&rq->call);
    rq->next = NULL;
    if (!at->slice) {
        committer_push(rq->call.svc->committer, rq);
        return PARKED;
    }
    *at->slice->end = rq;
    at->slice->end = &rq->next;
    return PARKED;
}

/* --- the loop over them ------------------------------------------------------------------- */

/* Refusals are told to the operator here, changes by their audit records. */
void
pipeline_tell(struct request *rq)
{
    if (!rq->outcome)
        return;
    enum log_level level = LOG_LEVEL_DEBUG;
    if (rq->call.err.kind == KT_TOO_MANY_REQUESTS)
        level = LOG_LEVEL_DEBUG; /* limits.c logs one line for many of them */
    else if (rq->call.err.kind != KT_OK)
        level = LOG_LEVEL_INFO;
    else if (rq->op && (rq->op->flags & OP_WRITES))
        level = LOG_LEVEL_INFO;
    if (!log_enabled(level))
        return;
    log_line(level, "request", "request=%s peer=%s op=%s subject=%s kind=%s", request_id(rq),
             rq->peer->remote, rq->spec ? rq->spec->name : "-",
             rq->call.who ? rq->call.who->subject.p : "-", kt_error_code(&rq->call.err));
}

static int
go_to(struct request *rq, const struct place *at, unsigned end)
{
    for (; rq->step < end; rq->step++) {
        int status = steps[rq->step](rq, at);
        if (status != KT_OK)
            return status;
    }
    return KT_OK;
}

/* Those that are refused keep the refusal in the request. */
void
pipeline_ahead(struct request list[], size_t n)
{
    static const struct place here = { .on_loop = true };
    struct request *ready[LOOP_GROUP];
    size_t nready = 0;
    for (size_t i = 0; i < n; i++)
        if (list[i].call.err.kind == KT_OK && go_to(&list[i], &here, STEP_RUN) == KT_OK &&
            list[i].op->ahead)
            ready[nready++] = &list[i];
    for (size_t i = 0, end; i < nready; i = end) {
        for (end = i + 1; end < nready && ready[end]->op == ready[i]->op;)
            end++;
        ready[i]->op->ahead(&ready[i], end - i);
    }
}

void
pipeline_forget(struct request *rq)
{
    limits_forget(rq);
}

enum pipe_head
pipeline_head(struct request *rq)
{
    static const struct place here = { .on_loop = true };
    int status = go_to(rq, &here, STEP_BIND);
    if (status > KT_OK)
        return PIPE_HEAD_REFUSED;
    bool known = rq->call.who != NULL;
    rq->call.who = principal_unref(rq->call.who);
    rq->step = 0;
    return known ? PIPE_HEAD_KNOWN : PIPE_HEAD_OPEN;
}

static int
check_deadline(struct request *rq, int64_t mono_ms)
{
    if (mono_ms <= rq->call.deadline_ms)
        return KT_OK;
    return fail(&rq->call, KT_UNAVAILABLE, "Server.Busy",
                "the request waited too long, please retry");
}

static bool
park(struct request *rq, int status)
{
    struct workers *workers = rq->call.svc->workers;
    /* While the index is filled there is nobody whom they would leave room for. */
    if (status == ASKS && workers_waiting(workers) >= ASKS_WAITING_MAX &&
        !atomic_load(&rq->call.svc->filling))
        return false;
    return workers_push(workers, rq);
}

static enum pipe_result
run_at(struct request *rq, const struct place *at)
{
    int status = (int)rq->call.err.kind; /* what was refused ahead stays refused */
    if (status == KT_OK)
        status = go_to(rq, at, STEPS);
    if (status == PARKED)
        return PIPE_PARKED;
    if ((status == WOULD_BLOCK || status == ASKS) && rq->inline_only) {
        pipeline_forget(rq);
        return PIPE_DECLINED;
    }
    if (status == WOULD_BLOCK || status == ASKS) {
        if (park(rq, status))
            return PIPE_PARKED;
        fail(&rq->call, KT_UNAVAILABLE, "Server.Busy",
             "too many requests are waiting, please retry");
    }
    rq->outcome = true;
    request_finish(rq);
    return PIPE_ANSWERED;
}

/* --- giving up ---------------------------------------------------------------------------- */

/* The request is somebody else's, who may be at work on it: only what was there before it left is
 * looked at. */
static struct request *
stand_in_for(const struct request *rq)
{
    struct request *other = loop_request(rq->home);
    kt_arena_reset(loop_arena(rq->home));
    request_init(other, loop_arena(rq->home), rq->transport, rq->home, rq->peer);
    other->conn = rq->conn;
    other->began_ms = rq->began_ms;
    other->method = rq->method;
    other->path = rq->path;
    other->spec = rq->spec;
    other->op = rq->op;
    other->outcome = true;
    return other;
}

static void
give_up(struct request *rq)
{
    bool taken;
    if (request_may_last(rq) || !request_abandon(rq, &taken))
        return;
    struct request *other = stand_in_for(rq);
    if (taken)
        fail(&other->call, KT_UNAVAILABLE, "Storage.Unknown",
             "the store does not answer in time; whether the change is made is not known");
    else
        fail(&other->call, KT_UNAVAILABLE, "Server.Busy",
             "the request waited too long, please retry");
    metrics_abandoned(rq->call.svc->metrics, taken);
    rq->transport->leave(rq);
    other->transport->answer(other);
}

enum pipe_result
pipeline_run(struct request *rq)
{
    static const struct place here = { .on_loop = true };
    if (rq->own && rq->transport->leave)
        loop_watch(rq, give_up);
    return run_at(rq, &here);
}

/* One wake-up of the committer for all of them. */
static void
run_slice(struct request *list)
{
    struct slice slice = { NULL, &slice.first };
    struct committer *committer = list->call.svc->committer;
    const struct place here = { .on_loop = true, .slice = &slice };
    for (struct request *rq = list, *next; rq; rq = next) {
        next = rq->next;
        (void)check_deadline(rq, loop_now_ms(rq->home)); /* kept in rq */
        run_at(rq, &here); /* what is abandoned is refused, too, and dropped */
    }
    if (slice.first)
        committer_push(committer, slice.first);
}

static void
come_home(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    struct request *rq = (struct request *)((char *)task - offsetof(struct request, task));
    if (request_is_abandoned(rq))
        request_finish(rq);
    else
        pipeline_run(rq);
}

void
pipeline_resume(struct request *rq)
{
    static const struct place here = { .on_loop = false };
    int status = check_deadline(rq, clock_mono_ms());
    if (status == KT_OK)
        status = go_to(rq, &here, STEPS);
    if (status == PARKED)
        return;
    if (status == GO_HOME) {
        rq->task.run = come_home;
        loop_post(rq->home, &rq->task);
        return;
    }
    rq->outcome = true;
    loop_answer(rq);
}

void
pipeline_again(struct request *rq)
{
    rq->batch = NULL;
    rq->secret = kt_secret_free(rq->secret);
    rq->step = STEP_RUN;
    if (++rq->attempts <= CONFLICTS_MAX && workers_push_always(rq->call.svc->workers, rq))
        return;
    fail(&rq->call, KT_UNAVAILABLE, "Server.Busy", "too many concurrent changes, please retry");
    rq->outcome = true;
    loop_answer(rq);
}

void
pipeline_done(struct request *list)
{
    for (struct request *rq = list; rq; rq = rq->next)
        rq->outcome = true;
    loop_answer_all(list);
}

/* --- what transports ask beforehand ------------------------------------------------------- */

static bool
has_flag(const struct kt_op_spec *spec, unsigned flag)
{
    return spec && (ops[kt_op_id(spec)].flags & flag);
}

bool
pipeline_may_inline(struct kt_str method)
{
    return has_flag(route_name(method), OP_INLINE);
}

bool
pipeline_may_inline_http(struct kt_str method, struct kt_str path)
{
    struct route route;
    return route_http(method, path, NULL, &route) == ROUTE_FOUND &&
           has_flag(route.spec, OP_INLINE);
}

bool
pipeline_names_http(struct kt_str method, struct kt_str path)
{
    struct route route;
    return route_http(method, path, NULL, &route) == ROUTE_FOUND &&
           strchr(route.spec->http_path, '{') != NULL;
}

bool
pipeline_writes(struct kt_str method)
{
    return has_flag(route_name(method), OP_WRITES);
}
