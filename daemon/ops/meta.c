/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/pack.h"
#include "daemon/commit.h"
#include "daemon/follow.h"
#include "daemon/model/account.h"
#include "daemon/model/scope.h"
#include "daemon/ops.h"
#include "daemon/ops/loose.h"
#include "daemon/principal.h"
#include "daemon/service.h"
#include "daemon/signer.h"
#include "daemon/store.h"

int
meta_whoami(struct request *rq)
{
    const struct principal *who = rq->call.who;
    struct kt_arena *arena = rq->call.arena;
    rq->out.whoami = (struct kt_whoami){
        .subject = who->subject,
        .name = who->name,
        .organization = who->org_ext,
        .organization_id = uuid_text(arena, &who->org),
        .id = uuid_text(arena, &who->id),
        .kind = kt_str(who->proof),
        .scopes = { who->scopes, who->nscopes, KT_SET },
        .expires_at = who->expires_ms == 0 ? KT_NO_TIME : (struct kt_time){ who->expires_ms },
    };
    return KT_OK;
}

int
meta_scopes(struct request *rq)
{
    const struct scope_modules *modules = &rq->call.svc->modules;
    rq->out.scopes.scopes = scope_published(rq->call.arena, modules);
    if (rq->out.scopes.scopes.has != KT_SET)
        return fail_memory(&rq->call);
    rq->out.scopes.modules = (struct kt_strlist){ modules->v, modules->n, KT_SET };
    return KT_OK;
}

static int
say_ok(struct request *rq)
{
    rq->out.health.status = KT_LIT("ok");
    return KT_OK;
}

int
meta_healthz(struct request *rq)
{
    return say_ok(rq);
}

int
meta_ping(struct request *rq)
{
    return say_ok(rq);
}

static int
not_ready(struct request *rq, const char *reason)
{
    return fail(&rq->call, KT_UNAVAILABLE, "Server.NotReady", "not ready: %s", reason);
}

static void
say_staleness(const struct follower *follower, struct kt_readiness *out)
{
    struct follow_stats stats;
    follower_stats(follower, &stats);
    out->max_staleness_ms = stats.staleness_ms;
    if (stats.age_ms >= 0)
        out->staleness_ms = stats.age_ms;
}

int
meta_readyz(struct request *rq)
{
    char why[256] = "";
    int state = atomic_load(&rq->call.svc->state);
    if (state == SERVICE_STARTING && rq->call.svc->filling)
        return not_ready(rq, "starting: tokens are verified, everything else has to wait");
    if (state == SERVICE_STARTING)
        return not_ready(rq, "starting");
    if (state == SERVICE_DRAINING)
        return not_ready(rq, "draining");
    if (rq->call.svc->quarantine)
        return fail(&rq->call, KT_UNAVAILABLE, "Server.Quarantined", "not ready: %s",
                    rq->call.svc->quarantine);
    if (committer_is_stuck(rq->call.svc->committer, clock_mono_ms()))
        return not_ready(rq, "the store does not answer");
    /* What the plugin says stays in the log: anybody may ask here. */
    if (!store_is_healthy(rq->call.svc->store, why, sizeof why))
        return fail_cause(&rq->call, KT_UNAVAILABLE, "Server.NotReady", "storage: %s", why);
    rq->out.readiness.status = KT_LIT("ok");
    if (rq->call.svc->follower)
        say_staleness(rq->call.svc->follower, &rq->out.readiness);
    return KT_OK;
}

int
meta_jwks(struct request *rq)
{
    rq->out.value = signer_jwks(rq->call.svc->signer);
    return KT_OK;
}

/* --- values without a shape --------------------------------------------------------------- */

static struct kt_value
limits(struct kt_arena *arena)
{
    struct kt_member *m = kt_arena_alloc(arena, 3 * sizeof *m);
    if (!m)
        return map(NULL, 0);
    m[0] = say("message", number((int64_t)kt_pack_request_limits.message));
    m[1] = say("depth", number((int64_t)kt_pack_request_limits.depth));
    m[2] = say("elements", number((int64_t)kt_pack_request_limits.elements));
    return map(m, 3);
}

static struct kt_value
peer_value(struct kt_arena *arena, const struct kaiten_caller *peer)
{
    struct kt_member *m = kt_arena_alloc(arena, 2 * sizeof *m);
    if (!m || !peer->has_peer)
        return (struct kt_value){ .type = KT_V_NULL };
    m[0] = say("uid", number(peer->uid));
    m[1] = say("gid", number(peer->gid));
    return map(m, 2);
}

/* The form of errors is the transport's affair: it reads what was bound once this has succeeded. */
int
meta_hello(struct request *rq)
{
    struct kt_member *m = kt_arena_alloc(rq->call.arena, 5 * sizeof *m);
    if (!m)
        return fail_memory(&rq->call);
    struct kt_str errors = rq->in.hello.errors;
    m[0] = say("protocol", number(1));
    m[1] = say("server", text(KT_LIT(PACKAGE_NAME " " PACKAGE_VERSION)));
    m[2] = say("errors", text(errors.p ? errors : KT_LIT("pair")));
    m[3] = say("limits", limits(rq->call.arena));
    m[4] = say("peer", peer_value(rq->call.arena, &rq->peer->caller));
    return answer_value(rq, map(m, 5));
}

/* --- the table, described ----------------------------------------------------------------- */

static const char *
type_name(enum kt_type type)
{
    switch (type) {
    case KT_T_BOOL: return "boolean";
    case KT_T_INT: return "integer";
    case KT_T_TIME: return "date-time";
    case KT_T_STR: return "string";
    case KT_T_STRLIST: return "array of string";
    case KT_T_SECRET:
    case KT_T_SECRET_VIEW: return "secret";
    case KT_T_SECRET_LIST: return "array of secret";
    case KT_T_OBJECT: return "object";
    case KT_T_LIST: return "array of object";
    case KT_T_ANY: return "any";
    }
    return "any";
}

static struct kt_value
describe_field(struct kt_arena *arena, const struct kt_field *f, bool input)
{
    enum { MEMBERS_MAX = 7 };
    struct kt_member *m = kt_arena_alloc(arena, MEMBERS_MAX * sizeof *m);
    if (!m)
        return (struct kt_value){ .type = KT_V_NULL };
    size_t n = 0;
    m[n++] = say("name", text(kt_str(f->name)));
    m[n++] = say("type", text(kt_str(type_name(f->type))));
    if (f->shape)
        m[n++] = say("of", text(kt_str(f->shape->name)));
    if (input)
        m[n++] = say("required", boolean(f->flags & KT_REQUIRED));
    if (f->bounded && input) {
        m[n++] = say("min", number(f->min));
        m[n++] = say("max", number(f->max));
    }
    m[n++] = say("doc", text(kt_str(f->doc)));
    return map(m, n);
}

static struct kt_value
describe_shape(struct kt_arena *arena, const struct kt_shape *shape, bool input)
{
    size_t n = 0, kept = 0;
    while (shape && shape->fields[n].name)
        n++;
    struct kt_value *v = kt_arena_alloc(arena, n * sizeof *v);
    for (size_t i = 0; v && i < n; i++)
        if (!input || !(shape->fields[i].flags & KT_READONLY))
            v[kept++] = describe_field(arena, &shape->fields[i], input);
    return array(v, kept);
}

static struct kt_value
describe_op(struct kt_arena *arena, const struct kt_op_spec *spec)
{
    struct kt_member *m = kt_arena_alloc(arena, 5 * sizeof *m);
    if (!m)
        return (struct kt_value){ .type = KT_V_NULL };
    m[0] = say("name", text(kt_str(spec->name)));
    m[1] = say("doc", text(kt_str(spec->doc)));
    m[2] = say("scope", text(kt_str(spec->scope)));
    m[3] = say("arguments", describe_shape(arena, spec->in, true));
    m[4] = say("result", describe_shape(arena, spec->out, false));
    return map(m, 5);
}

int
meta_describe(struct request *rq)
{
    struct kt_arena *arena = rq->call.arena;
    struct kt_value *v = kt_arena_alloc(arena, KT_OP_COUNT * sizeof *v);
    struct kt_member *m = kt_arena_alloc(arena, 2 * sizeof *m);
    if (!v || !m)
        return fail_memory(&rq->call);
    size_t n = 0;
    for (size_t i = 0; i < KT_OP_COUNT; i++)
        if (kt_op_specs[i].socket)
            v[n++] = describe_op(arena, &kt_op_specs[i]);
    m[0] = say("server", text(KT_LIT(PACKAGE_NAME " " PACKAGE_VERSION)));
    m[1] = say("methods", array(v, n));
    return answer_value(rq, map(m, 2));
}
