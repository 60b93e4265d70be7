/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/commit_index.h"

#include "daemon/index.h"
#include "daemon/log.h"
#include "daemon/model/account.h"
#include "daemon/service.h"
#include "daemon/store.h"

static struct index_account_text
account_text(const struct account_record *a)
{
    return (struct index_account_text){ a->org_ext, a->slug, a->external_id, a->name };
}

static bool
prepare_account(struct index *index, struct effect *e)
{
    const struct index_account_text text = account_text(e->account);
    return index_account_put(index, &e->account->id, &e->account->org, &text, e->account->epoch,
                             &e->number) != INDEX_NO_MEMORY;
}

/* Only a token brings its account along: the account of a refused batch would stay in the index for
 * ever. */
bool
commit_index_prepare(struct index *index, struct batch *b)
{
    for (size_t i = 0; i < b->neffects; i++) {
        struct effect *e = &b->effects[i];
        if (e->type == EFFECT_TOKEN &&
            (!prepare_account(index, e) ||
             index_scopes_put(index, e->scopes, e->nscopes, &e->list) == INDEX_NO_MEMORY))
            return false;
    }
    return true;
}

/* A rename without memory leaves the old name in the index until the next start: worth a line,
 * not worth refusing what is durable. */
static void
rename_account(struct index *index, uint32_t number, const struct account_record *a)
{
    const struct index_account_text text = account_text(a);
    const struct index_account_text *now = atomic_load(&index_account_at(index, number)->text);
    if (!kt_str_eq(now->name, a->name) && index_account_rename(index, number, &text) != INDEX_OK)
        log_line(LOG_LEVEL_WARNING, "index.rename", "message=%s", "no memory");
}

static void
publish_token(struct index *index, const struct effect *e, bool followed)
{
    const struct index_token token = { .id = e->token,
                                       .account = e->number,
                                       .scopes = e->list,
                                       .epoch = e->epoch,
                                       .last_used = e->last_used,
                                       .expires_ms = e->expires_ms };
    /* A batch that was refused may have brought an older name. */
    rename_account(index, e->number, e->account);
    enum index_status status = index_add(index, e->digest, &token);
    /* The follower may have seen it in the store before us, and perhaps its end as well. */
    if (status != INDEX_OK && !(status == INDEX_PRESENT && followed))
        log_line(LOG_LEVEL_ERROR, "index.add", "status=%d", (int)status);
}

/* An account that has never had a token is not in the index, and need not be. */
static void
publish_account(struct index *index, const struct effect *e)
{
    uint32_t number;
    if (index_account_find(index, &e->account->id, &number))
        rename_account(index, number, e->account);
}

static void
publish_account_epoch(struct index *index, const struct effect *e)
{
    uint32_t number;
    if (index_account_find(index, &e->account->id, &number))
        index_account_set_epoch(index, number, e->epoch);
}

static void
publish_account_end(struct index *index, const struct effect *e)
{
    uint32_t number;
    if (index_account_find(index, &e->account->id, &number))
        index_account_end(index, number, e->epoch);
}

/* What was read from the store before this must not get into the index any more: see
 * token_ask(). */
static bool
takes_away(const struct effect *e)
{
    return e->type != EFFECT_NONE && e->type != EFFECT_ACCOUNT && e->type != EFFECT_TOKEN &&
           e->type != EFFECT_QUIESCED;
}

void
commit_index_publish(struct service *svc, const struct batch *b)
{
    struct index *index = svc->index;
    for (size_t i = 0; i < b->neffects; i++) {
        const struct effect *e = &b->effects[i];
        if (takes_away(e))
            atomic_fetch_add(&svc->ends, 1);
        switch (e->type) {
        case EFFECT_NONE: break;
        case EFFECT_ACCOUNT: publish_account(index, e); break;
        case EFFECT_ACCOUNT_EPOCH: publish_account_epoch(index, e); break;
        case EFFECT_ACCOUNT_END: publish_account_end(index, e); break;
        case EFFECT_TOKEN: publish_token(index, e, svc->fresh != NULL); break;
        case EFFECT_REVOKE: index_revoke(index, e->digest); break;
        case EFFECT_REMOVE: index_remove(index, e->digest); break;
        case EFFECT_QUIESCED: index_quiesced(index); break;
        case EFFECT_EXPIRY: index_set_expiry(index, e->digest, e->expires_ms); break;
        }
    }
}

/* Refusing a secret too early does less harm than accepting one that the store has revoked. */
void
commit_index_publish_ends(struct service *svc, const struct batch *b)
{
    struct index *index = svc->index;
    atomic_fetch_add(&svc->ends, 1);
    for (size_t i = 0; i < b->neffects; i++) {
        const struct effect *e = &b->effects[i];
        if (e->type == EFFECT_ACCOUNT_END)
            publish_account_end(index, e);
        else if (e->type == EFFECT_ACCOUNT_EPOCH)
            publish_account_epoch(index, e);
        else if (e->type == EFFECT_REVOKE)
            index_revoke(index, e->digest);
        else if (e->type == EFFECT_EXPIRY)
            index_set_expiry(index, e->digest, e->expires_ms);
    }
}
