/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/token.h"

#include "daemon/journal.h"
#include "daemon/model/audit.h"
#include "daemon/model/token_row.h"
#include "daemon/model/verdict.h"
#include "daemon/service.h"

/* --- from the journal --------------------------------------------------------------------- */

bool
token_has_secret(const struct token_record *t, const unsigned char digest[DIGEST_BYTES])
{
    return memcmp(t->digest, digest, DIGEST_BYTES) == 0 ||
           (t->has_old && memcmp(t->old_digest, digest, DIGEST_BYTES) == 0);
}

/* How the token ends. */
struct end {
    int64_t at_ms;
    struct kt_str by;
};

/* The row of the token, if it still counts as live. of: and if this is a secret of it; NULL: also
 * when the row is older than the secret. */
static int
replay_token(struct call *call, const struct account_record *a, const struct uuid *token,
             const unsigned char *of, const struct end *end, struct batch *b)
{
    struct token_record t;
    struct store_row row, claim;
    struct uuid holder;
    int status = token_row_load(call, a, token, &t, &row);
    if (status == KT_NOT_FOUND)
        return KT_OK;
    if (status != KT_OK || t.revoked_ms != 0 || (of && !token_has_secret(&t, of)))
        return status;
    t.revoked_ms = end->at_ms;
    t.revoked_by = (struct actor){ .name = end->by };
    batch_if_at(b, &row);
    batch_set(b, row.key, token_row_encode(call->arena, &t));
    /* Once its epoch had ended, the name may have become another token's. */
    status = token_row_holder(call, token_row_claim(call->arena, &a->org, &a->id, t.name, 'n'),
                              &claim, &holder);
    if (status == KT_OK && uuid_compare(&holder, &t.id) == 0) {
        batch_if_at(b, &claim);
        batch_delete(b, claim.key);
    }
    return status == KT_NOT_FOUND ? KT_OK : status;
}

/* Whether the row says less than the entry; makes it say the same. */
static bool
end_verdict(const struct journal_entry *entry, struct verdict_record *v)
{
    bool later = v->expires_ms == 0 || v->expires_ms > entry->ends_ms;
    if (v->revoked || (entry->type == JOURNAL_CAP && !later))
        return false;
    v->revoked = entry->type != JOURNAL_CAP;
    v->expires_ms = entry->type == JOURNAL_CAP ? entry->ends_ms : entry->at_ms;
    return true;
}

struct found {
    struct kt_arena *arena;
    struct store_row *row;
};

static int
keep_row(void *ctx, const struct store_row *row)
{
    struct found *found = ctx;
    *found->row = (struct store_row){ .key = kt_arena_str(found->arena, row->key),
                                      .value = kt_arena_str(found->arena, row->value),
                                      .revision = row->revision };
    return KT_OK;
}

/* The row of the entry's secret; value.p NULL: there is none. */
static int
secret_row(struct call *call, const struct journal_entry *entry, struct store_row *ret)
{
    struct kt_str key = token_row_digest(call->arena, entry->id);
    if (!key.p)
        return fail_memory(call);
    if (entry->type != JOURNAL_REVOKED)
        return store_get(call, call->svc->store, &key, 1, ret);
    struct found found = { call->arena, ret };
    *ret = (struct store_row){ .key = { NULL, 0 } };
    key.n = 1 + JOURNAL_DIGEST_KEPT;
    struct store_range range = { key, prefix_end(call->arena, key), false, 1 };
    if (!range.to.p)
        return fail_memory(call);
    int status = store_scan(call, call->svc->store, &range, keep_row, &found);
    return status == KT_OK && ret->key.n != 0 && !ret->value.p ? fail_memory(call) : status;
}

/* Of a secret that the token's row names: it has ended with the token. */
static int
replay_named(struct call *call, const unsigned char digest[DIGEST_BYTES],
             const struct journal_entry *entry, struct batch *b)
{
    struct store_row row;
    struct verdict_record v;
    int status = store_get_one(call, call->svc->store, token_row_digest(call->arena, digest), &row);
    if (status != KT_OK)
        return status == KT_NOT_FOUND ? KT_OK : status;
    if (!verdict_decode(call->arena, row.value, &v))
        return fail_record(call, 'h');
    if (!end_verdict(entry, &v))
        return KT_OK;
    batch_if_at(b, &row);
    batch_set(b, row.key, verdict_encode(call->arena, &v));
    return KT_OK;
}

/* The row of a revoked token may be older than the entry's secret, and name others, or what that
 * was under another key. One in each turn, as there is room for. */
static int
replay_others(struct call *call, const struct account_record *a, const struct uuid *token,
              const struct journal_entry *entry, struct batch *b)
{
    struct token_record t;
    struct store_row row;
    int status = token_row_load(call, a, token, &t, &row);
    if (status != KT_OK)
        return status == KT_NOT_FOUND ? KT_OK : status;
    const size_t before = b->nwrites;
    if (memcmp(t.digest, entry->id, JOURNAL_DIGEST_KEPT) != 0)
        status = replay_named(call, t.digest, entry, b);
    bool has_other = t.has_old && memcmp(t.old_digest, entry->id, JOURNAL_DIGEST_KEPT) != 0;
    if (status == KT_OK && b->nwrites == before && has_other)
        status = replay_named(call, t.old_digest, entry, b);
    return status;
}

static int
replay(struct call *call, const struct journal_entry *entry, struct kt_str by,
       struct verdict_record *v, struct batch **ret)
{
    struct store_row row;
    struct account_record a = { .id = entry->account, .org = entry->org };
    const struct end end = { entry->at_ms, by };
    struct batch *b = batch_new(call->arena);
    if (!b)
        return fail_memory(call);
    b->urgent = true;
    int status = secret_row(call, entry, &row);
    if (status != KT_OK)
        return status;
    if (row.value.p && !verdict_decode(call->arena, row.value, v))
        return fail_record(call, 'h');
    if (row.value.p && end_verdict(entry, v)) {
        batch_if_at(b, &row);
        batch_set(b, row.key, verdict_encode(call->arena, v));
    }
    struct uuid token;
    memcpy(token.b, entry->id + JOURNAL_DIGEST_KEPT, sizeof token.b);
    if (entry->type == JOURNAL_REVOKED) {
        const size_t before = b->nwrites;
        status = replay_others(call, &a, &token, entry, b);
        if (status == KT_OK && b->nwrites == before)
            status = replay_token(call, &a, &token, NULL, &end, b);
    } else if (entry->type == JOURNAL_TOKEN && row.value.p) {
        a = (struct account_record){ .id = v->account, .org = v->org };
        status = replay_token(call, &a, &v->token, entry->id, &end, b);
    }
    if (b->nwrites != 0)
        *ret = b;
    return status;
}

int
token_replay(struct call *call, const struct journal_entry *entry, struct batch **ret)
{
    struct verdict_record v;
    return replay(call, entry, KT_LIT("revocation journal"), &v, ret);
}

/* There is something to be written only where there was a row of the secret, which v is of. */
int
token_withdraw(struct call *call, const struct journal_entry *entry, struct batch **ret)
{
    struct verdict_record v;
    int status = replay(call, entry, KT_LIT("kaitend: its secret was never sent"), &v, ret);
    if (status == KT_OK && *ret)
        audit_put_own(call, *ret, "token.revoke", "never sent", &v);
    return status;
}

int
token_describe_end(struct call *call, const unsigned char digest[DIGEST_BYTES],
                   struct journal_entry *entry)
{
    struct store_row row, token_row;
    struct verdict_record v;
    struct token_record t;
    struct kt_str key = token_row_digest(call->arena, digest);
    int status = key.p ? store_get(call, call->svc->store, &key, 1, &row) : fail_memory(call);
    if (status != KT_OK || !row.value.p)
        return status;
    if (!verdict_decode(call->arena, row.value, &v))
        return fail_record(call, 'h');
    const struct account_record a = { .id = v.account, .org = v.org };
    status = token_row_load(call, &a, &v.token, &t, &token_row);
    if (status != KT_OK)
        return status == KT_NOT_FOUND ? KT_OK : status;
    entry->until_ms = t.expires_ms;
    if (t.revoked_ms == 0)
        return KT_OK;
    entry->type = JOURNAL_REVOKED;
    entry->org = v.org;
    entry->account = v.account;
    memcpy(entry->id + JOURNAL_DIGEST_KEPT, v.token.b, sizeof v.token.b);
    return KT_OK;
}

/* --- purging ------------------------------------------------------------------------------ */

static void
delete_secret(struct call *call, struct batch *b, const unsigned char digest[DIGEST_BYTES])
{
    batch_delete(b, token_row_digest(call->arena, digest));
    batch_delete(b, token_row_used(call->arena, digest));
    memcpy(batch_effect(b, EFFECT_REMOVE)->digest, digest, DIGEST_BYTES);
}

/* The whole token: its row, its claims, and both of its secrets. */
static int
delete_token(struct call *call, struct batch *b, const struct account_record *a,
             const struct token_record *t, const struct store_row *row)
{
    struct store_row claim;
    struct uuid holder;
    batch_if_at(b, row);
    batch_delete(b, row->key);
    batch_delete(b, token_row_claim(call->arena, &a->org, &a->id, t->slug, 's'));
    delete_secret(call, b, t->digest);
    if (t->has_old)
        delete_secret(call, b, t->old_digest);
    int status = token_row_holder(
        call, token_row_claim(call->arena, &a->org, &a->id, t->name, 'n'), &claim, &holder);
    if (status == KT_OK && uuid_compare(&holder, &t->id) == 0) {
        batch_if_at(b, &claim);
        batch_delete(b, claim.key);
    }
    return status == KT_NOT_FOUND ? KT_OK : status;
}

static bool
is_long_dead(const struct token_record *t, int64_t now_ms, int64_t keep_ms)
{
    int64_t end = t->revoked_ms;
    if (t->expires_ms != 0 && (end == 0 || t->expires_ms < end))
        end = t->expires_ms;
    return end != 0 && end <= now_ms && now_ms - end >= keep_ms;
}

int
token_purge(struct call *call, const struct token_secret *s, bool ended, int64_t now_ms,
            int64_t keep_ms, struct batch **ret)
{
    const struct account_record a = { .id = s->account, .org = s->org };
    struct token_record t;
    struct store_row row, own = { .revision = s->revision };
    struct batch *b = batch_new(call->arena);
    own.key = token_row_digest(call->arena, s->digest);
    if (!b || !own.key.p)
        return fail_memory(call);
    batch_if_at(b, &own);
    int status = token_row_load(call, &a, &s->token, &t, &row);
    if (status != KT_OK && status != KT_NOT_FOUND)
        return status;
    bool current = status == KT_OK && memcmp(t.digest, s->digest, DIGEST_BYTES) == 0;
    if (current && !ended && !is_long_dead(&t, now_ms, keep_ms))
        return KT_OK;
    if (!current && !ended && s->expires_ms > now_ms)
        return KT_OK;
    status = KT_OK;
    if (current)
        status = delete_token(call, b, &a, &t, &row);
    else
        delete_secret(call, b, s->digest);
    if (status == KT_OK && !b->failed)
        *ret = b;
    return status;
}
