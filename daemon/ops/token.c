/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/check.h"
#include "daemon/limits.h"
#include "daemon/model/scope.h"
#include "daemon/model/token.h"
#include "daemon/ops.h"
#include "daemon/ops/page.h"
#include "daemon/principal.h"
#include "daemon/service.h"
#include "daemon/timeguard.h"

/* --- refusals ----------------------------------------------------------------------------- */

static int
not_found(struct request *rq)
{
    const struct kt_in_token *in = &rq->in.token;
    return fail(&rq->call, KT_NOT_FOUND, "Token.NotFound",
                "Token with slug %.*s not found for service account %.*s or already revoked",
                KT_FMT(in->token), KT_FMT(in->account));
}

/* One violation of a member that is in itself well formed. */
static int
refuse_member(struct request *rq, enum kt_kind kind, const char *code, const char *detail,
              const char *location, struct kt_str message)
{
    kt_error_field(&rq->call.err, rq->call.arena, kt_str(location), message, NULL);
    return fail(&rq->call, kind, code, "%s", detail);
}

static int
refuse_expiry(struct request *rq, struct kt_str message)
{
    return refuse_member(rq, KT_UNPROCESSABLE, NULL, "validation failed", "body.expiresAt",
                         message);
}

/* --- create ------------------------------------------------------------------------------- */

int
token_create_check(struct request *rq)
{
    struct kt_time wish = rq->in.token.expires_at;
    if (!kt_time_is_set(wish) || wish.ms > rq->call.now_ms)
        return KT_OK;
    return refuse_expiry(rq, KT_LIT("expected a time in the future"));
}

/* A longer wish is refused and the limit named, never clamped. */
static int
check_lifetime(struct request *rq)
{
    int64_t limit = rq->call.svc->lifetime_max_ms;
    int64_t own = rq->call.who->max_lifetime_ms;
    if (own != 0 && (limit == 0 || own < limit))
        limit = own;
    struct kt_time wish = rq->in.token.expires_at;
    if (limit == 0 || (kt_time_is_set(wish) && wish.ms - rq->call.now_ms <= limit))
        return KT_OK;
    char text[KT_DURATION_MAX];
    kt_duration_print(limit, text);
    return refuse_expiry(rq, kt_arena_printf(rq->call.arena,
                                             "expected a lifetime of at most %s", text));
}

/* All scopes of the caller that a token can have. */
static int
inherit_scopes(struct request *rq, struct token_wish *wish)
{
    const struct principal *who = rq->call.who;
    struct kt_str *v = kt_arena_calloc(rq->call.arena, who->nscopes, sizeof *v);
    if (!v)
        return fail_memory(&rq->call);
    wish->scopes = v;
    for (size_t i = 0; i < who->nscopes; i++)
        if (scope_is_valid(&rq->call.svc->modules, who->scopes[i]))
            v[wish->nscopes++] = who->scopes[i];
    return KT_OK;
}

static int
check_scopes(struct request *rq, struct token_wish *wish)
{
    struct kt_str message;
    const struct kt_strlist *list = &rq->in.token.scopes;
    wish->scopes = list->v;
    wish->nscopes = list->n;
    if (!scope_list_check(&rq->call.svc->modules, list->v, list->n, rq->call.arena, &message))
        return refuse_member(rq, KT_VALIDATION, "Token.InvalidScopes", "invalid scopes",
                             "body.scopes", message);
    return KT_OK;
}

/* Nobody can give away more than they hold. */
static int
check_ceiling(struct request *rq, const struct kt_str scopes[], size_t n, const char *code)
{
    const struct principal *who = rq->call.who;
    if (rq->call.svc->scopes_unbounded ||
        scope_list_covers(who->scopes, who->nscopes, scopes, n, NULL))
        return KT_OK;
    struct kt_str missing =
        scope_missing_text(rq->call.arena, who->scopes, who->nscopes, scopes, n);
    return fail(&rq->call, KT_FORBIDDEN, code, "the caller does not hold: %.*s", KT_FMT(missing));
}

/* A token that is minted while the clock is far behind would live longer than anybody wanted. */
static int
check_clock(struct request *rq)
{
    if (!clock_is_behind())
        return KT_OK;
    return fail(&rq->call, KT_UNAVAILABLE, "Server.ClockBehind",
                "the server's clock is behind the time that has passed; nothing is minted");
}

static int
wish_of(struct request *rq, struct token_wish *wish)
{
    const struct kt_in_token *in = &rq->in.token;
    *wish = (struct token_wish){ .name = in->name, .slug = in->slug };
    wish->expires_ms = kt_time_is_set(in->expires_at) ? in->expires_at.ms : 0;
    int status = in->scopes.has == KT_NULL ? inherit_scopes(rq, wish) : check_scopes(rq, wish);
    if (status == KT_OK)
        status = check_ceiling(rq, wish->scopes, wish->nscopes, "CreateToken.ScopesExceedCaller");
    return status == KT_OK ? check_lifetime(rq) : status;
}

/* What is answered once the batch is durable; the secret lives as long as the request. */
static int
propose(struct request *rq, const struct token_made *made)
{
    rq->batch = made->batch;
    rq->secret = made->secret;
    if (!token_view(&rq->call, &made->token, &rq->out.token))
        return fail_memory(&rq->call);
    rq->out.token.token = rq->secret;
    return KT_OK;
}

int
token_create(struct request *rq)
{
    struct token_wish wish;
    struct account_record account;
    struct store_row row;
    struct token_made made;
    int status = check_clock(rq);
    if (status == KT_OK)
        status = wish_of(rq, &wish);
    if (status != KT_OK)
        return status;
    struct kt_str slug = rq->in.token.account;
    status = account_recall(&rq->call, &rq->call.who->org, slug, rq->attempts > 0, &account, &row);
    if (status == KT_NOT_FOUND)
        return fail(&rq->call, KT_NOT_FOUND, "CreateToken.ServiceAccountNotFound",
                    "Service account with slug \"%.*s\" not found", KT_FMT(slug));
    if (status != KT_OK)
        return status;
    status = token_propose_create(&rq->call, &account, &row, &wish, &made);
    return status == KT_OK ? propose(rq, &made) : status;
}

/* A secret is not handed out again to a credential that could not have had it made. */
int
token_create_again(struct request *rq)
{
    const struct kt_strlist *scopes = &rq->out.token.scopes;
    int status = check_ceiling(rq, scopes->v, scopes->n, "CreateToken.ScopesExceedCaller");
    return status == KT_OK ? check_lifetime(rq) : status;
}

/* --- list and get ------------------------------------------------------------------------- */

struct listing {
    struct call *call;
    struct token_views views;
    size_t limit;
    struct uuid last; /* the last item that is kept */
    int64_t last_ms;
};

static int
list_token(void *ctx, const struct token_record *t)
{
    struct listing *l = ctx;
    int status = token_views_add(l->call, &l->views, t);
    if (status == KT_OK && l->views.n == l->limit) {
        l->last = t->id;
        l->last_ms = t->created_ms;
    }
    return status;
}

int
token_list(struct request *rq)
{
    struct page page;
    struct account_record account;
    struct store_row row;
    struct call *call = &rq->call;
    int status = page_begin(rq, "ServiceAccountTokens.InvalidCursor", &page);
    if (status != KT_OK)
        return status;
    struct listing l = { .call = call, .limit = page.limit };
    if (!token_views_init(call, &l.views, page.limit + 1))
        return fail_memory(call);
    l.views.account = &account;
    status = account_load(call, &call->who->org, rq->in.page.account, &account, &row);
    if (status == KT_OK)
        status = token_scan(call, &account, page.below, page.limit + 1, list_token, &l);
    if (status == KT_OK)
        status = token_views_finish(call, &l.views);
    /* An account that is not there has an empty page, by contract. */
    if (status == KT_NOT_FOUND)
        limits_missed(rq);
    if (status != KT_OK && status != KT_NOT_FOUND)
        return status;
    return page_end(rq, &page, l.views.v, l.views.n, l.views.n > page.limit ? &l.last : NULL,
                    l.last_ms);
}

static int
find(struct request *rq, struct token_found *f)
{
    int status = account_load(&rq->call, &rq->call.who->org, rq->in.token.account, &f->account,
                              &f->account_row);
    if (status == KT_OK)
        status = token_load(&rq->call, &f->account, rq->in.token.token, &f->token, &f->row);
    return status == KT_NOT_FOUND ? not_found(rq) : status;
}

int
token_get(struct request *rq)
{
    struct token_found f;
    int status = find(rq, &f);
    if (status != KT_OK)
        return status;
    return token_view(&rq->call, &f.token, &rq->out.token) ? KT_OK : fail_memory(&rq->call);
}

/* --- rotate and revoke -------------------------------------------------------------------- */

enum { LOOKS_MAX = 5 }; /* each look after the first follows a change by somebody else */

/* A token that was revoked is, for whoever wants to change it, not there. */
static int
find_live(struct request *rq, struct token_found *f)
{
    int status = KT_NOT_FOUND;
    for (int looks = 0; looks < LOOKS_MAX && status == KT_NOT_FOUND; looks++) {
        status = find(rq, f);
        if (status != KT_OK)
            return status;
        if (f->token.revoked_ms != 0)
            return not_found(rq);
        status = token_current_load(&rq->call, &f->token, &f->row, &f->now);
    }
    if (status != KT_NOT_FOUND)
        return status;
    return fail_cause(&rq->call, KT_UNAVAILABLE, NULL, "others change this token all the time");
}

static int
check_rotator(struct request *rq, int64_t expires_ms, const struct kt_str scopes[], size_t n)
{
    int64_t limit = rq->call.who->max_lifetime_ms;
    if (limit != 0 && (expires_ms == 0 || expires_ms - rq->call.now_ms > limit))
        return fail(&rq->call, KT_FORBIDDEN, "RotateToken.LifetimeExceedsCaller",
                    "the token lives longer than a token of this caller may");
    return check_ceiling(rq, scopes, n, "RotateToken.ScopesExceedCaller");
}

static int
check_rotatable(struct request *rq, const struct token_record *t)
{
    if (t->expires_ms != 0 && t->expires_ms <= rq->call.now_ms)
        return fail(&rq->call, KT_CONFLICT, "RotateToken.Expired",
                    "the token has expired; rotation does not extend it, create a new one");
    return check_rotator(rq, t->expires_ms, t->scopes, t->nscopes);
}

int
token_rotate_check(struct request *rq)
{
    struct kt_in_token *in = &rq->in.token;
    if (in->grace_seconds == 0)
        in->grace_seconds = KT_NO_INT; /* under an idempotency key they are the same request */
    return KT_OK;
}

int
token_rotate(struct request *rq)
{
    struct token_found f;
    struct token_made made;
    const struct kt_in_token *in = &rq->in.token;
    int status = check_clock(rq);
    if (status == KT_OK)
        status = find_live(rq, &f);
    if (status == KT_OK)
        status = check_rotatable(rq, &f.token);
    if (status != KT_OK)
        return status;
    int64_t grace = in->grace_seconds == KT_NO_INT ? 0 : in->grace_seconds * 1000;
    const int64_t used_s = token_last_used(rq->call.svc, &f.token);
    status = token_propose_rotate(&rq->call, &f, grace, &made);
    if (status == KT_OK)
        status = propose(rq, &made);
    /* The new secret is not yet known to be the token's. */
    if (status == KT_OK && used_s != 0)
        rq->out.token.last_used_at.ms = used_s * 1000;
    return status;
}

int
token_rotate_again(struct request *rq)
{
    const struct kt_token *t = &rq->out.token;
    int64_t expires_ms = kt_time_is_set(t->expires_at) ? t->expires_at.ms : 0;
    return check_rotator(rq, expires_ms, t->scopes.v, t->scopes.n);
}

int
token_revoke(struct request *rq)
{
    struct token_found f;
    int status = find_live(rq, &f);
    if (status != KT_OK)
        return status;
    return token_propose_revoke(&rq->call, &f, &rq->batch);
}

int
token_revoke_all(struct request *rq)
{
    struct account_record a;
    struct store_row row;
    struct account_end end;
    struct call *call = &rq->call;
    struct kt_str slug = rq->in.token.account;
    int status = account_load(call, &call->who->org, slug, &a, &row);
    if (status == KT_NOT_FOUND)
        return fail(call, KT_NOT_FOUND, "ServiceAccount.NotFound",
                    "Service account with slug %.*s not found", KT_FMT(slug));
    if (status == KT_OK)
        status = account_propose_end_epoch(call, &a, &row, &rq->batch, &end);
    if (status != KT_OK)
        return status;
    struct kt_revocation *out = &rq->out.revocation;
    *out = (struct kt_revocation){
        .service_account_id = uuid_text(call->arena, &a.id),
        .service_account_slug = a.slug,
        .revoked_at = { end.at_ms },
        .revoked_by = actor_view(call->arena, &end.by),
    };
    return out->service_account_id.p && out->revoked_by ? KT_OK : fail_memory(call);
}
