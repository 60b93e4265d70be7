/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/ask.h"

#include "client/proto/json.h"
#include "daemon/commit.h"
#include "daemon/log.h"
#include "daemon/model/digest.h"
#include "daemon/model/endings.h"
#include "daemon/model/feed.h"
#include "daemon/model/token_row.h"
#include "daemon/model/verdict.h"
#include "daemon/service.h"
#include "daemon/used.h"

#include <stdlib.h>

enum { SCOPES_JSON_MAX = 1024 * 1024 };

/* A hit that does not come from the index: the same structs, in the arena. */
struct copy {
    struct index_record record;
    struct index_account account;
    struct index_account_text text;
    struct index_scopes scopes;
};

static void
point(struct copy *c, struct index_hit *ret)
{
    atomic_init(&c->account.text, &c->text);
    *ret = (struct index_hit){ &c->record, &c->account, &c->text, &c->scopes };
}

/* --- what the index says ------------------------------------------------------------------ */

static bool
copy_list(struct kt_arena *arena, const struct kt_strlist *from, struct kt_strlist *to)
{
    struct kt_str *v = kt_arena_calloc(arena, from->n, sizeof *v);
    if (!v)
        return false;
    for (size_t i = 0; i < from->n; i++)
        if (!(v[i] = kt_arena_str(arena, from->v[i])).p)
            return false;
    *to = (struct kt_strlist){ v, from->n, KT_SET };
    return true;
}

/* What the index holds may be freed once its guard is released. */
static bool
copy_hit(struct kt_arena *arena, const struct index_hit *hit, struct index_hit *ret)
{
    struct copy *c = KT_ARENA_NEW(arena, struct copy);
    if (!c)
        return false;
    memcpy(c->record.digest, hit->record->digest, sizeof c->record.digest);
    c->record.token = hit->record->token;
    atomic_init(&c->record.expires_ms, atomic_load(&hit->record->expires_ms));
    atomic_init(&c->record.last_used, atomic_load(&hit->record->last_used));
    c->account.id = hit->account->id;
    c->account.org = hit->account->org;
    c->text.org_ext = kt_arena_str(arena, hit->text->org_ext);
    c->text.slug = kt_arena_str(arena, hit->text->slug);
    c->text.ext_id = kt_arena_str(arena, hit->text->ext_id);
    c->text.name = kt_arena_str(arena, hit->text->name);
    c->scopes.json = kt_arena_str(arena, hit->scopes->json);
    point(c, ret);
    return c->text.org_ext.p && c->text.slug.p && c->text.ext_id.p && c->text.name.p &&
           c->scopes.json.p && copy_list(arena, &hit->scopes->list, &c->scopes.list);
}

static int
ask_index(struct call *call, const struct token_digest *digest, struct index_hit *ret,
          enum token_judgement *ret_said, bool *ret_known)
{
    const struct service *svc = call->svc;
    struct index_hit hit = { NULL, NULL, NULL, NULL };
    bool copied = true;
    pthread_rwlock_rdlock(svc->index_guard);
    *ret_said = token_judge_digest(svc, digest, call->now_ms, &hit);
    *ret_known = hit.record != NULL;
    if (*ret_said == TOKEN_LIVE || *ret_said == TOKEN_REVOKED || *ret_said == TOKEN_EXPIRED)
        copied = copy_hit(call->arena, &hit, ret);
    pthread_rwlock_unlock(svc->index_guard);
    return copied ? KT_OK : fail_memory(call);
}

/* --- what the store says ------------------------------------------------------------------ */

struct found {
    struct store_row token, account;
    struct verdict_record verdict;
    struct account_record record;
};

/* First the token, then its account: an account is written before its tokens, so one that is not
 * there has been deleted. */
static int
read_rows(struct call *call, const unsigned char digest[DIGEST_BYTES], struct found *f)
{
    struct kt_str key = token_row_digest(call->arena, digest);
    if (!key.p)
        return fail_memory(call);
    int status = store_get(call, call->svc->store, &key, 1, &f->token);
    if (status != KT_OK || !f->token.value.p)
        return status;
    if (!verdict_decode(call->arena, f->token.value, &f->verdict))
        return fail_record(call, 'h');
    key = token_row_key_of(call->arena, 'a', &f->verdict.org, &f->verdict.account, NULL, 0);
    if (!key.p)
        return fail_memory(call);
    status = store_get(call, call->svc->store, &key, 1, &f->account);
    if (status != KT_OK || !f->account.value.p)
        return status;
    return account_decode(f->account.value, &f->record) ? KT_OK : fail_record(call, 'a');
}

static enum token_judgement
judge_rows(const struct found *f, int64_t now_ms)
{
    const struct verdict_record *v = &f->verdict;
    if (v->revoked || !f->account.value.p || v->epoch < f->record.epoch)
        return TOKEN_REVOKED;
    return v->expires_ms != 0 && v->expires_ms <= now_ms ? TOKEN_EXPIRED : TOKEN_LIVE;
}

static bool
scopes_of(struct kt_arena *arena, const struct verdict_record *v, struct index_scopes *ret)
{
    struct kt_buf json;
    kt_buf_init(&json, SCOPES_JSON_MAX);
    kt_buf_putc(&json, '[');
    for (size_t i = 0; i < v->nscopes; i++) {
        if (i != 0)
            kt_buf_putc(&json, ',');
        kt_json_put_str(&json, v->scopes[i]);
    }
    kt_buf_putc(&json, ']');
    ret->list = (struct kt_strlist){ v->scopes, v->nscopes, KT_SET };
    ret->json = kt_arena_str(arena, kt_buf_str(&json));
    bool ok = !json.failed && ret->json.p;
    kt_buf_done(&json);
    return ok;
}

/* Rows are in the arena, and so are the texts in them. */
static bool
hit_of(struct kt_arena *arena, const unsigned char digest[DIGEST_BYTES], const struct found *f,
       struct index_hit *ret)
{
    struct copy *c = KT_ARENA_NEW(arena, struct copy);
    if (!c || !scopes_of(arena, &f->verdict, &c->scopes))
        return false;
    memcpy(c->record.digest, digest, sizeof c->record.digest);
    c->record.token = f->verdict.token;
    atomic_init(&c->record.expires_ms, f->verdict.expires_ms);
    c->account.id = f->verdict.account;
    c->account.org = f->verdict.org;
    const struct account_record *a = &f->record;
    c->text = (struct index_account_text){ kt_arena_str(arena, a->org_ext),
                                           kt_arena_str(arena, a->slug),
                                           kt_arena_str(arena, a->external_id),
                                           kt_arena_str(arena, a->name) };
    point(c, ret);
    return !f->account.value.p || (c->text.org_ext.p && c->text.slug.p && c->text.ext_id.p &&
                                   c->text.name.p);
}

/* --- into the index ----------------------------------------------------------------------- */

static atomic_size_t fills;

struct fill {
    struct errand errand;
    struct service *svc;
    struct feed feed;
};

static void
fill_free(struct fill *fill)
{
    feed_done(&fill->feed);
    free(fill);
    atomic_fetch_sub(&fills, 1);
}

static void
run_fill(struct errand *e)
{
    struct fill *fill = (struct fill *)e;
    bool room = committer_take_index(fill->svc->committer, fill->feed.n);
    feed_apply(fill->svc, &fill->feed, room);
    committer_give_index(fill->svc->committer);
    feed_write_down(fill->svc, &fill->feed);
    fill_free(fill);
}

static void
keep(struct call *call, const struct found *f, uint64_t ends)
{
    struct service *svc = (struct service *)(uintptr_t)call->svc;
    struct call own = { .svc = svc, .arena = call->arena };
    if (atomic_fetch_add(&fills, 1) >= ASK_FILLS_MAX) {
        atomic_fetch_sub(&fills, 1);
        return;
    }
    struct fill *fill = calloc(1, sizeof *fill);
    if (!fill) {
        atomic_fetch_sub(&fills, 1);
        return;
    }
    *fill = (struct fill){ .errand = { .run = run_fill }, .svc = svc };
    feed_init(&fill->feed);
    fill->feed.ends = ends;
    int status = f->account.value.p ? feed_add(&own, &fill->feed, &f->account)
                                    : feed_add_ended(&own, &fill->feed, &f->verdict.org,
                                                     &f->verdict.account);
    if (status == KT_OK)
        status = feed_add(&own, &fill->feed, &f->token);
    if (status == KT_OK)
        committer_run(svc->committer, &fill->errand);
    else
        fill_free(fill);
}

/* --- while the index is filled -------------------------------------------------------------- */

/* The index would find it under any of the keys, and rows are there under any of them, too. */
static int
read_rows_of(struct call *call, const struct token_digest *digest, struct found *f,
             unsigned char ret_digest[DIGEST_BYTES])
{
    int status = KT_OK;
    memcpy(ret_digest, digest->bytes, DIGEST_BYTES);
    for (size_t i = 0; i < digest_keys_count(digest->keys) && !f->token.value.p; i++) {
        if (i > 0)
            digest_token_with(digest->keys, i, digest->text, ret_digest);
        status = read_rows(call, ret_digest, f);
        if (status != KT_OK)
            break;
    }
    return status;
}

/* What the journal has dead is dead, whatever a row says that was put back from an older time. Once
 * all rows are read that is noticed, and nothing at all is accepted. */
static void
heed(const struct endings *endings, const unsigned char digest[DIGEST_BYTES], struct found *f)
{
    struct verdict_record *v = &f->verdict;
    const int64_t said = endings_of_digest(endings, digest);
    const uint32_t epoch = endings_of_account(endings, &v->account);
    v->revoked = v->revoked || said < 0;
    if (said >= 0 && said != ENDINGS_NOTHING && (v->expires_ms == 0 || said < v->expires_ms))
        v->expires_ms = said;
    if (f->record.epoch < epoch)
        f->record.epoch = epoch;
}

/* Nothing is changed meanwhile, so that what the store says holds. */
static int
ask_meanwhile(struct call *call, const struct token_digest *digest, struct index_hit *ret,
              enum token_judgement *ret_said)
{
    const struct service *svc = call->svc;
    struct found f = { .token = { .value = { NULL, 0 } } };
    unsigned char found[DIGEST_BYTES];
    bool known;
    int status = read_rows_of(call, digest, &f, found);
    if (status != KT_OK)
        return status;
    pthread_rwlock_rdlock(svc->index_guard);
    bool filling = atomic_load(&svc->filling);
    if (filling && svc->endings && f.token.value.p)
        heed(svc->endings, found, &f);
    pthread_rwlock_unlock(svc->index_guard);
    if (!filling)
        return ask_index(call, digest, ret, ret_said, &known);
    *ret_said = f.token.value.p ? judge_rows(&f, call->now_ms) : TOKEN_UNKNOWN;
    if (*ret_said == TOKEN_UNKNOWN || hit_of(call->arena, found, &f, ret))
        return KT_OK;
    return fail_memory(call);
}

/* --- all of it ---------------------------------------------------------------------------- */

static int
ask_store(struct call *call, const struct token_digest *digest, struct index_hit *ret,
          enum token_judgement *ret_said)
{
    struct found f = { .token = { .value = { NULL, 0 } } };
    struct index_hit hit;
    enum token_judgement said;
    bool known;
    const uint64_t ends = atomic_load(&call->svc->ends);
    int status = read_rows(call, digest->bytes, &f);
    if (status != KT_OK)
        return status;
    if (atomic_load(&call->svc->fresh->unexplained))
        return fail(call, KT_UNAVAILABLE, NULL, "temporarily unavailable, please retry");
    *ret_said = f.token.value.p ? judge_rows(&f, call->now_ms) : TOKEN_UNKNOWN;
    if (*ret_said == TOKEN_UNKNOWN)
        return KT_OK;
    if (!hit_of(call->arena, digest->bytes, &f, ret))
        return fail_memory(call);
    status = ask_index(call, digest, &hit, &said, &known);
    if (status != KT_OK)
        return status;
    if (!known)
        keep(call, &f, ends);
    /* An ending that the store has lost, or of which nobody knows yet whether it has it. */
    if (said == TOKEN_REVOKED || said == TOKEN_EXPIRED) {
        *ret_said = said;
        *ret = hit;
    }
    return KT_OK;
}

int
token_ask(struct call *call, const struct token_digest *digest, struct index_hit *ret,
          enum token_judgement *ret_said)
{
    bool known;
    int status = ask_index(call, digest, ret, ret_said, &known);
    if (status != KT_OK || *ret_said != TOKEN_ASK)
        return status;
    return call->svc->fresh ? ask_store(call, digest, ret, ret_said)
                            : ask_meanwhile(call, digest, ret, ret_said);
}

void
token_note_asked(const struct call *call, const struct token_digest *digest,
                 const struct index_hit *asked)
{
    const struct service *svc = call->svc;
    struct index_hit hit;
    pthread_rwlock_rdlock(svc->index_guard);
    if (atomic_load(&svc->filling)) /* the index is told when it is full */
        used_add(svc->used, asked->record->digest, (uint32_t)(call->now_ms / 1000));
    else if (index_find(svc->index, digest->bytes, call->now_ms, &hit) != INDEX_UNKNOWN)
        token_note_use(svc, &hit, call->now_ms);
    else /* it is on its way there, and this may be its only use */
        used_add(svc->used, digest->bytes, (uint32_t)(call->now_ms / 1000));
    pthread_rwlock_unlock(svc->index_guard);
}
