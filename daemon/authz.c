/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/authz.h"

#include "daemon/model/scope.h"
#include "daemon/ops.h"
#include "daemon/principal.h"

#include <unistd.h>

/* What the kernel says of everybody in a foreign user namespace. */
enum { OVERFLOW_UID = 65534 };

/* A caller who can read the store and its keys from the disk anyway. The kernel must say so, not a
 * rule or a credential. */
static int
check_admin(struct request *rq)
{
    const struct kaiten_caller *peer = &rq->peer->caller;
    bool ours = peer->uid == geteuid() && peer->uid != OVERFLOW_UID;
    if (peer->has_peer && (peer->uid == 0 || ours))
        return KT_OK;
    return fail(&rq->call, KT_FORBIDDEN, "Auth.AdminOnly",
                "only root and the daemon's own user may ask for this");
}

int
authz_check(struct request *rq)
{
    if (rq->op->flags & OP_ADMIN)
        return check_admin(rq);
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
