/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/account.h"
#include "daemon/model/cursor.h"
#include "daemon/model/token.h"
#include "daemon/ops.h"
#include "daemon/ops/page.h"
#include "daemon/principal.h"
#include "daemon/service.h"

static int
not_found(struct request *rq)
{
    return fail(&rq->call, KT_NOT_FOUND, "ServiceAccount.NotFound",
                "Service account with slug %.*s not found", KT_FMT(rq->in.account.account));
}

static int
load(struct request *rq, struct account_record *a, struct store_row *row)
{
    int status = account_load(&rq->call, &rq->call.who->org, rq->in.account.account, a, row);
    if (status == KT_NOT_FOUND)
        return not_found(rq);
    return status;
}

/* --- embedded tokens ---------------------------------------------------------------------- */

/* An answer stays well below what a request may take and what clients are ready to read: a page
 * ends early, and says that there is more; a single account shows fewer tokens, and says so. */
enum { PAGE_BYTES = 12 * 1024 * 1024, EMBEDDED_BYTES = 2 * 1024 * 1024, ENOUGH = -1 };

struct embedding {
    struct call *call;
    struct token_views *views;
    size_t used_before;
};

static int
embed_token(void *ctx, const struct token_record *t)
{
    struct embedding *e = ctx;
    if (e->call->arena->used - e->used_before > EMBEDDED_BYTES)
        return ENOUGH;
    return token_views_add(e->call, e->views, t);
}

/* Room for as many tokens as may be embedded, and one more. False: no memory. */
static bool
embedding_room(struct call *call, struct token_views *room)
{
    return token_views_init(call, room, call->svc->embedded_tokens_max + 1);
}

/* The newest tokens, up to the configured number; says when there are more. The room may be used
 * again afterwards. */
static int
embed_tokens(struct call *call, const struct account_record *a, struct token_views *room,
             struct kt_account *out)
{
    size_t max = call->svc->embedded_tokens_max;
    struct embedding e = { call, room, call->arena->used };
    room->account = a;
    room->n = 0;
    int status = token_scan(call, a, NULL, max + 1, embed_token, &e);
    out->tokens_truncated = room->n > max || status == ENOUGH;
    if (status == KT_OK || status == ENOUGH)
        status = token_views_finish(call, room);
    if (status != KT_OK)
        return status;
    size_t n = room->n > max ? max : room->n;
    struct kt_token *tokens = kt_arena_alloc(call->arena, n * sizeof *tokens);
    if (!tokens)
        return fail_memory(call);
    memcpy(tokens, room->v, n * sizeof *tokens);
    out->tokens = (struct kt_list){ tokens, n, KT_SET };
    return KT_OK;
}

/* --- operations --------------------------------------------------------------------------- */

int
account_create(struct request *rq)
{
    struct account_record a;
    const struct kt_in_account *in = &rq->in.account;
    int status = account_propose_create(&rq->call, in->name, in->slug, &rq->batch, &a);
    if (status != KT_OK)
        return status;
    if (!account_view(rq->call.arena, &a, &rq->out.account))
        return fail_memory(&rq->call);
    /* A fresh account says null here, and [] when it is read: clients know it so. */
    rq->out.account.tokens.has = KT_NULL;
    return KT_OK;
}

struct listing {
    struct call *call;
    struct kt_account *items;
    struct account_record *records;
    size_t n;
};

/* Records outlive the scan, because their tokens are read after it. */
static int
list_account(void *ctx, const struct account_record *a)
{
    struct listing *l = ctx;
    struct account_record *kept = &l->records[l->n];
    if (!account_view(l->call->arena, a, &l->items[l->n]))
        return fail_memory(l->call);
    *kept = (struct account_record){
        .id = a->id, .org = a->org, .created_ms = a->created_ms, .epoch = a->epoch
    };
    l->n++;
    return KT_OK;
}

int
account_list(struct request *rq)
{
    struct page page;
    struct call *call = &rq->call;
    int status = page_begin(rq, "ServiceAccounts.InvalidCursor", &page);
    if (status != KT_OK)
        return status;
    struct listing l = { .call = call };
    l.items = kt_arena_calloc(call->arena, page.limit + 1, sizeof *l.items);
    l.records = kt_arena_calloc(call->arena, page.limit + 1, sizeof *l.records);
    struct token_views room;
    if (!l.items || !l.records || !embedding_room(call, &room))
        return fail_memory(call);
    status = account_scan(call, &call->who->org, page.below, page.limit + 1, list_account, &l);
    for (size_t i = 0; status == KT_OK && i < l.n && i < page.limit; i++) {
        status = embed_tokens(call, &l.records[i], &room, &l.items[i]);
        if (call->arena->used > PAGE_BYTES)
            page.limit = i + 1;
    }
    if (status != KT_OK)
        return status;
    const struct account_record *last = l.n > page.limit ? &l.records[page.limit - 1] : NULL;
    return page_end(rq, &page, l.items, l.n, last ? &last->id : NULL,
                    last ? last->created_ms : 0);
}

int
account_get(struct request *rq)
{
    struct account_record a;
    struct store_row row;
    int status = load(rq, &a, &row);
    if (status != KT_OK)
        return status;
    struct token_views room;
    if (!embedding_room(&rq->call, &room) || !account_view(rq->call.arena, &a, &rq->out.account))
        return fail_memory(&rq->call);
    return embed_tokens(&rq->call, &a, &room, &rq->out.account);
}

/* Before the scope is looked at, as the contract has it. */
int
account_update_check(struct request *rq)
{
    const struct kt_in_account *in = &rq->in.account;
    if (!in->slug.p || kt_str_eq(in->slug, in->account))
        return KT_OK;
    return fail(&rq->call, KT_UNPROCESSABLE, "UpdateServiceAccount.SlugNotRenameable",
                "the slug cannot be changed here; omit it or send the current one");
}

int
account_update(struct request *rq)
{
    struct account_record a;
    struct store_row row;
    int status = load(rq, &a, &row);
    if (status != KT_OK)
        return status;
    return account_propose_rename(&rq->call, &a, &row, rq->in.account.name, &rq->batch);
}

int
account_delete(struct request *rq)
{
    struct account_record a;
    struct store_row row;
    int status = load(rq, &a, &row);
    if (status != KT_OK)
        return status;
    return account_propose_delete(&rq->call, &a, &row, &rq->batch);
}
