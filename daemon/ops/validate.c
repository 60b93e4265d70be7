/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/ask.h"
#include "daemon/model/scope.h"
#include "daemon/model/token.h"
#include "daemon/ops.h"
#include "daemon/principal.h"
#include "daemon/service.h"
#include "daemon/signer.h"

/* The verdict, from memory if that suffices, else from the store: on an event loop CALL_ASKS. */
static int
judge(struct request *rq, const struct token_digest *digest, struct index_hit *hit,
      enum token_judgement *ret_said)
{
    struct call *call = &rq->call;
    if (!rq->call.on_loop)
        return token_ask(call, digest, hit, ret_said);
    *ret_said = token_judge_digest(call->svc, digest, call->now_ms, hit);
    return *ret_said == TOKEN_ASK ? CALL_ASKS : KT_OK;
}

static void
note_use(const struct request *rq, const struct token_digest *digest, const struct index_hit *hit)
{
    if (!rq->call.on_loop)
        token_note_asked(&rq->call, digest, hit);
    else
        token_note_use(rq->call.svc, hit, rq->call.now_ms);
}

/* One refusal for every reason: malformed, unknown, revoked, expired. */
int
token_validate(struct request *rq)
{
    struct index_hit hit;
    enum token_judgement said;
    struct call *call = &rq->call;
    if (!rq->credential.p || rq->credential.n == 0)
        return fail(call, KT_UNAUTHORIZED, "ValidateToken.MissingAuthorizationHeader",
                    "missing valid Authorization header");
    const struct token_digest digest = token_digest(call->svc, rq->credential);
    int status = judge(rq, &digest, &hit, &said);
    if (status != KT_OK)
        return status;
    if (said != TOKEN_LIVE)
        return fail(call, KT_UNAUTHORIZED, "ValidateToken.Invalid", "invalid token");
    note_use(rq, &digest, &hit);
    struct kt_str jwt = signer_jwt(call->svc->signer, &hit, call->now_ms);
    if (!rq->call.on_loop) /* it is the worker's, and the answer goes home */
        jwt = kt_arena_str(call->arena, jwt);
    if (!jwt.p)
        return fail_cause(call, KT_INTERNAL, "ValidateToken.Failed", "signing failed");
    rq->bearer = jwt;
    rq->out.text.body = KT_LIT("OK");
    return KT_OK;
}

static struct kt_verdict
invalid(const char *code)
{
    struct kt_verdict v;
    kt_shape_clear(&kt_shape_verdict, &v);
    v.code = kt_str(code);
    return v;
}

/* On an event loop texts are the index's own: the answer is encoded before this turn ends. */
static int
describe(struct call *call, const struct index_hit *hit, struct kt_verdict *ret)
{
    int64_t expires = atomic_load_explicit(&hit->record->expires_ms, memory_order_relaxed);
    *ret = (struct kt_verdict){
        .valid = true,
        .token_id = uuid_text(call->arena, &hit->record->token),
        .organization = hit->text->org_ext,
        .service_account = hit->text->slug,
        .scopes = hit->scopes->list,
        .expires_at = expires == 0 ? KT_NO_TIME : (struct kt_time){ expires },
    };
    return ret->token_id.p ? KT_OK : fail_memory(call);
}

/* Whose tokens the caller may ask about. A foreign one does not exist for it. */
static bool
may_know(const struct principal *who, const struct index_hit *hit)
{
    return who->verify == KAITEN_VERIFY_ANY || uuid_compare(&who->org, &hit->account->org) == 0;
}

static int
verify_one(struct request *rq, const struct token_digest *digest, struct kt_str scope,
           struct kt_verdict *ret)
{
    static const char *const codes[] = { [TOKEN_MALFORMED] = "malformed",
                                         [TOKEN_UNKNOWN] = "unknown",
                                         [TOKEN_REVOKED] = "revoked",
                                         [TOKEN_EXPIRED] = "expired" };
    struct index_hit hit;
    struct call *call = &rq->call;
    enum token_judgement said;
    int status = judge(rq, digest, &hit, &said);
    if (status != KT_OK)
        return status;
    bool found = said != TOKEN_MALFORMED && said != TOKEN_UNKNOWN;
    if (found && !may_know(call->who, &hit))
        said = TOKEN_UNKNOWN;
    if (said != TOKEN_LIVE) {
        *ret = invalid(codes[said]);
        return KT_OK;
    }
    if (scope.p && !scope_grants(hit.scopes->list.v, hit.scopes->list.n, scope)) {
        *ret = invalid("scope");
        return KT_OK;
    }
    note_use(rq, digest, &hit);
    return describe(call, &hit, ret);
}

static int
check_may_verify(struct call *call)
{
    if (call->who->verify != KAITEN_VERIFY_NO)
        return KT_OK;
    return fail(call, KT_FORBIDDEN, "Auth.VerifyNotAllowed",
                "no rule lets this caller verify tokens");
}

void
token_verify_ahead(struct request *const list[], size_t n)
{
    const struct service *svc = list[0]->call.svc;
    struct token_digest *digests = kt_arena_alloc(list[0]->call.arena, n * sizeof *digests);
    if (!digests)
        return;
    for (size_t i = 0; i < n; i++) {
        digests[i].text = list[i]->in.verify.token;
        list[i]->ahead = &digests[i];
    }
    token_digests(svc, digests, n);
    token_fetch(svc, digests, n);
}

int
token_verify(struct request *rq)
{
    int status = check_may_verify(&rq->call);
    if (status != KT_OK)
        return status;
    struct token_digest now;
    const struct token_digest *digest = rq->ahead;
    if (!digest) {
        now = token_digest(rq->call.svc, rq->in.verify.token);
        digest = &now;
    }
    return verify_one(rq, digest, rq->in.verify.scope, &rq->out.verdict);
}

enum { TOGETHER = 16 }; /* tokens of one call that are looked up at the same time */

static int
verify_some(struct request *rq, const struct kt_secret_view secrets[], size_t n,
            struct kt_str scope, struct kt_verdict ret[])
{
    const struct service *svc = rq->call.svc;
    struct token_digest digests[TOGETHER];
    for (size_t i = 0; i < n; i++)
        digests[i].text = secrets[i];
    token_digests(svc, digests, n);
    if (rq->call.on_loop)
        token_fetch(svc, digests, n);
    int status = KT_OK;
    for (size_t i = 0; i < n && status == KT_OK; i++)
        status = verify_one(rq, &digests[i], scope, &ret[i]);
    return status;
}

int
token_verify_many(struct request *rq)
{
    const struct kt_in_verify_many *in = &rq->in.verify_many;
    int status = check_may_verify(&rq->call);
    if (status != KT_OK)
        return status;
    struct kt_verdict *v = kt_arena_alloc(rq->call.arena, in->tokens.n * sizeof *v);
    if (!v)
        return fail_memory(&rq->call);
    for (size_t i = 0; i < in->tokens.n; i += TOGETHER) {
        size_t n = in->tokens.n - i < TOGETHER ? in->tokens.n - i : TOGETHER;
        status = verify_some(rq, in->tokens.v + i, n, in->scope, v + i);
        if (status != KT_OK)
            return status;
    }
    rq->out.verdicts.results = (struct kt_list){ v, in->tokens.n, KT_SET };
    return KT_OK;
}
