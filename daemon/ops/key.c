/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/check.h"
#include "daemon/model/digest.h"
#include "daemon/model/reseal.h"
#include "daemon/ops.h"
#include "daemon/ops/loose.h"
#include "daemon/rotation.h"
#include "daemon/service.h"
#include "daemon/signer.h"
#include "daemon/signer_file.h"
#include "daemon/timeguard.h"

enum { KEYS_MAX = DIGEST_KEYS_MAX + SIGNER_KEYS_MAX, MEMBERS_MAX = 5 };

/* --- listing ------------------------------------------------------------------------------ */

static struct kt_value
describe_digest(struct kt_member *m, const struct digest_keys *keys, size_t i,
                const struct reseal_needs *needs)
{
    m[0] = say("kind", text(KT_LIT("digest")));
    m[1] = say("id", text(kt_str(digest_keys_id(keys, i))));
    m[2] = say("state", text(i == 0 ? KT_LIT("current") : KT_LIT("retired")));
    m[3] = say("tokens", number((int64_t)needs[i].tokens));
    m[4] = say("records", number((int64_t)needs[i].records));
    /* With one key everything depends on it; counting would be a walk through the whole store. */
    size_t n = digest_keys_count(keys) == 1 ? 3 : 5;
    return map(m, n);
}

static struct kt_value
describe_signing(struct kt_arena *arena, struct kt_member *m, const struct signer_public *p)
{
    char until[KT_TIME_MAX];
    m[0] = say("kind", text(KT_LIT("signing")));
    m[1] = say("id", text(kt_str(p->kid)));
    m[2] = say("state", text(p->until_ms == 0 ? KT_LIT("current") : KT_LIT("retired")));
    if (p->until_ms == 0)
        return map(m, 3);
    kt_time_print((struct kt_time){ p->until_ms }, until);
    m[3] = say("publishedUntil", text(kt_arena_str(arena, kt_str(until))));
    return map(m, 4);
}

int
key_list(struct request *rq)
{
    struct kt_arena *arena = rq->call.arena;
    const struct digest_keys *keys = rq->call.svc->keys;
    const struct signer_keys *signing = signer_keys(rq->call.svc->signer);
    struct reseal_needs needs[DIGEST_KEYS_MAX] = { { 0, 0 } };
    struct kt_member *members = kt_arena_calloc(arena, KEYS_MAX * MEMBERS_MAX + 1, sizeof *members);
    struct kt_value *items = kt_arena_calloc(arena, KEYS_MAX, sizeof *items);
    size_t n = 0;
    if (!members || !items)
        return fail_memory(&rq->call);
    int status = digest_keys_count(keys) == 1 ? KT_OK
                                              : reseal_count(&rq->call, needs, DIGEST_KEYS_MAX);
    if (status != KT_OK)
        return status;
    for (size_t i = 0; i < digest_keys_count(keys); i++, n++)
        items[n] = describe_digest(members + 1 + n * MEMBERS_MAX, keys, i, needs);
    for (size_t i = 0; i < signing->n; i++, n++)
        items[n] = describe_signing(arena, members + 1 + n * MEMBERS_MAX, &signing->publics[i]);
    members[0] = say("items", array(items, n));
    return answer_value(rq, map(members, 1));
}

/* --- changing ----------------------------------------------------------------------------- */

static int
refuse_in_quarantine(struct request *rq)
{
    if (!atomic_load(&rq->call.svc->quarantine))
        return KT_OK;
    return fail(&rq->call, KT_UNAVAILABLE, "Server.Quarantined",
                "nothing can be changed until the operator has accepted the state of the store");
}

static int
fail_signer(struct request *rq, const char *err)
{
    return fail(&rq->call, KT_UNAVAILABLE, "Key.File", "%s", err);
}

int
key_rotate(struct request *rq)
{
    const struct service *svc = rq->call.svc;
    struct kt_arena *arena = rq->call.arena;
    bool digest = kt_str_is(rq->in.key.kind, "digest");
    char err[SIGNER_ERROR_MAX];
    int status = refuse_in_quarantine(rq);
    if (status == KT_OK && svc->follower)
        status = fail(&rq->call, KT_CONFLICT, "Key.SharedStore",
                      "the other daemons of this store would not know the fresh key");
    if (status == KT_OK && digest)
        status = rotation_begin(&rq->call, svc->rotation);
    else if (status == KT_OK && !signer_rotate(svc->signer, rq->call.now_ms, clock_sure_ms(), err))
        status = fail_signer(rq, err);
    struct kt_member *m = kt_arena_calloc(arena, 3, sizeof *m);
    if (status == KT_OK && !m)
        status = fail_memory(&rq->call);
    if (status != KT_OK)
        return status;
    const struct signer_keys *signing = signer_keys(svc->signer);
    const char *id = digest ? digest_keys_id(svc->keys, 0) : signing->publics[0].kid;
    const char *old = digest ? digest_keys_id(svc->keys, 1) : signing->publics[1].kid;
    m[0] = say("kind", text(kt_arena_str(arena, rq->in.key.kind)));
    m[1] = say("id", text(kt_arena_str(arena, kt_str(id))));
    m[2] = say("retired", text(kt_arena_str(arena, kt_str(old))));
    return answer_value(rq, map(m, 3));
}

/* KT_NOT_FOUND without a refusal: it is none of the signing keys. */
static int
retire_signing(struct request *rq, struct kt_str id)
{
    char err[SIGNER_ERROR_MAX];
    struct signer *signer = rq->call.svc->signer;
    const struct signer_keys *keys = signer_keys(signer);
    size_t i = 0;
    while (i < keys->n && !kt_str_is(id, keys->publics[i].kid))
        i++;
    if (i == keys->n)
        return KT_NOT_FOUND;
    if (i == 0)
        return fail(&rq->call, KT_CONFLICT, "Key.Current",
                    "key %.*s is the current one; rotate first", KT_FMT(id));
    if (!signer_withdraw(signer, keys->publics[i].kid, clock_sure_ms(), err))
        return fail_signer(rq, err);
    return KT_OK;
}

int
key_retire(struct request *rq)
{
    int status = refuse_in_quarantine(rq);
    if (status == KT_OK)
        status = retire_signing(rq, rq->in.key.key);
    if (status == KT_NOT_FOUND)
        status = rotation_end(&rq->call, rq->call.svc->rotation, rq->in.key.key);
    return status;
}
