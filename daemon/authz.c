/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/authz.h"

#include "daemon/model/scope.h"
#include "daemon/ops.h"
#include "daemon/principal.h"

int
authz_check(struct request *rq)
{
    if (rq->op->flags & OP_PUBLIC)
        return KT_OK;
    const struct principal *who = rq->call.who;
    if (!who)
        return fail(&rq->call, KT_UNAUTHORIZED, "Auth.NoIdentity", "no identity found in context");
    const char *scope = rq->spec->scope;
    if (!scope || scope_grants(who->scopes, who->nscopes, kt_str(scope)))
        return KT_OK;
    return fail(&rq->call, KT_FORBIDDEN, "Auth.MissingScope", "missing required scope: %s", scope);
}
