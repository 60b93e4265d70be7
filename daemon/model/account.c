/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/account.h"

#include "client/proto/bigend.h"
#include "daemon/journal.h"
#include "daemon/model/account_cache.h"
#include "daemon/model/audit.h"
#include "daemon/model/cursor.h"
#include "daemon/model/record.h"
#include "daemon/model/slug.h"
#include "daemon/principal.h"
#include "daemon/service.h"

#include <sodium.h>

enum { ACCOUNT_FORMAT = 1, TOMBSTONE_FORMAT = 1, END_FORMAT = 1, RECORD_MAX = 32 * 1024 };

/* --- keys and bytes ----------------------------------------------------------------------- */

static struct kt_str
key_of(struct kt_arena *arena, char space, const struct uuid *org, const void *rest, size_t n)
{
    char *p = kt_arena_alloc(arena, 1 + sizeof org->b + n);
    if (!p)
        return (struct kt_str){ NULL, 0 };
    p[0] = space;
    memcpy(p + 1, org->b, sizeof org->b);
    if (n != 0)
        memcpy(p + 1 + sizeof org->b, rest, n);
    return (struct kt_str){ p, 1 + sizeof org->b + n };
}

static struct kt_str
account_key(struct kt_arena *arena, const struct uuid *org, const struct uuid *id)
{
    return key_of(arena, 'a', org, id->b, sizeof id->b);
}

/* NUL cannot be in a text, so neither form can be mistaken for the other. */
struct kt_str
key_text(struct kt_arena *arena, struct kt_str text, char kind)
{
    enum { WHOLE_MAX = 200, KEPT = 160, HASH = 32 };
    bool whole = text.n <= WHOLE_MAX;
    size_t kept = whole ? text.n : KEPT;
    char *p = kt_arena_alloc(arena, kept + 2 + HASH);
    if (!p)
        return (struct kt_str){ NULL, 0 };
    memcpy(p, text.p, kept);
    p[kept] = '\0';
    p[kept + 1] = kind;
    if (whole)
        return (struct kt_str){ p, kept + 2 };
    p[kept + 1] = (char)(kind - 'a' + 'A');
    crypto_generichash((unsigned char *)p + kept + 2, HASH, (const unsigned char *)text.p, text.n,
                       NULL, 0);
    return (struct kt_str){ p, kept + 2 + HASH };
}

static struct kt_str
slug_key(struct kt_arena *arena, const struct uuid *org, struct kt_str slug)
{
    struct kt_str text = key_text(arena, slug, 's');
    if (!text.p)
        return text;
    return key_of(arena, 's', org, text.p, text.n);
}

static struct kt_str
end_key(struct kt_arena *arena, const struct account_record *a, uint32_t epoch)
{
    unsigned char rest[sizeof a->id.b + 4];
    memcpy(rest, a->id.b, sizeof a->id.b);
    for (size_t i = 0; i < 4; i++)
        rest[sizeof a->id.b + i] = (unsigned char)(epoch >> (24 - 8 * i));
    return key_of(arena, 'r', &a->org, rest, sizeof rest);
}

static struct kt_str
encode(struct kt_arena *arena, const struct account_record *a)
{
    struct kt_buf buf;
    kt_buf_init(&buf, RECORD_MAX);
    record_put_u8(&buf, ACCOUNT_FORMAT);
    record_put_uuid(&buf, &a->id);
    record_put_uuid(&buf, &a->org);
    record_put_str(&buf, a->org_ext);
    record_put_str(&buf, a->name);
    record_put_str(&buf, a->slug);
    record_put_str(&buf, a->external_id);
    record_put_uuid(&buf, &a->created_by.id);
    record_put_str(&buf, a->created_by.name);
    record_put_i64(&buf, a->created_ms);
    record_put_u32(&buf, a->epoch);
    return record_finish(arena, &buf);
}

bool
account_decode(struct kt_str value, struct account_record *ret)
{
    struct record_in in;
    struct account_record a;
    record_open(&in, value);
    if (record_u8(&in) != ACCOUNT_FORMAT)
        return false;
    a.id = record_uuid(&in);
    a.org = record_uuid(&in);
    a.org_ext = record_str(&in);
    a.name = record_str(&in);
    a.slug = record_str(&in);
    a.external_id = record_str(&in);
    a.created_by.id = record_uuid(&in);
    a.created_by.name = record_str(&in);
    a.created_ms = record_i64(&in);
    a.epoch = record_u32(&in);
    if (!record_done(&in))
        return false;
    *ret = a;
    return true;
}

/* --- reading ------------------------------------------------------------------------------ */

/* KT_NOT_FOUND without a refusal: nobody has the slug. */
static int
find(struct call *call, const struct uuid *org, struct kt_str slug, struct uuid *ret_id)
{
    struct store_row row;
    int status = store_get_one(call, call->svc->store, slug_key(call->arena, org, slug), &row);
    if (status != KT_OK)
        return status;
    struct record_in in;
    record_open(&in, row.value);
    struct uuid id = record_uuid(&in);
    if (!record_done(&in))
        return fail_record(call, 's');
    *ret_id = id;
    return KT_OK;
}

int
account_load_id(struct call *call, const struct uuid *org, const struct uuid *id,
                struct account_record *ret, struct store_row *ret_row)
{
    struct store_row row;
    int status = store_get_one(call, call->svc->store, account_key(call->arena, org, id), &row);
    if (status != KT_OK)
        return status;
    if (!account_decode(row.value, ret))
        return fail_record(call, 'a');
    *ret_row = row;
    return KT_OK;
}

int
account_load(struct call *call, const struct uuid *org, struct kt_str slug,
             struct account_record *ret, struct store_row *ret_row)
{
    struct uuid id;
    int status = find(call, org, slug, &id);
    /* It may have been deleted between the two looks. */
    return status == KT_OK ? account_load_id(call, org, &id, ret, ret_row) : status;
}

int
account_recall(struct call *call, const struct uuid *org, struct kt_str slug, bool anew,
               struct account_record *ret, struct store_row *ret_row)
{
    struct account_cache *known = call->svc->accounts;
    if (known && !anew && account_cache_get(known, call->arena, org, slug, ret_row) &&
        account_decode(ret_row->value, ret))
        return KT_OK;
    if (call->on_loop)
        return CALL_WOULD_BLOCK;
    int status = account_load(call, org, slug, ret, ret_row);
    if (known && status == KT_OK)
        account_cache_put(known, org, slug, ret_row);
    else if (known && status == KT_NOT_FOUND)
        account_cache_drop(known, org, slug);
    return status;
}

int
account_epoch_end(struct call *call, const struct account_record *a, uint32_t epoch,
                  struct account_end *ret)
{
    struct kt_str key = end_key(call->arena, a, epoch);
    if (!key.p)
        return fail_memory(call);
    struct store_row row;
    int status = store_get(call, call->svc->store, &key, 1, &row);
    if (status != KT_OK)
        return status;
    struct record_in in;
    record_open(&in, row.value);
    uint8_t format = record_u8(&in);
    ret->at_ms = record_i64(&in);
    ret->by.id = record_uuid(&in);
    ret->by.name = record_str(&in);
    return record_done(&in) && format == END_FORMAT ? KT_OK : fail_record(call, 'r');
}

struct scan {
    struct call *call;
    int (*each)(void *ctx, const struct account_record *);
    void *ctx;
};

static int
scan_row(void *ctx, const struct store_row *row)
{
    struct scan *s = ctx;
    struct account_record a;
    if (!account_decode(row->value, &a))
        return fail_record(s->call, 'a');
    return s->each(s->ctx, &a);
}

int
account_scan(struct call *call, const struct uuid *org, const struct cursor *below, uint64_t limit,
             int (*each)(void *, const struct account_record *), void *ctx)
{
    struct kt_str prefix = key_of(call->arena, 'a', org, NULL, 0);
    struct kt_str to = list_bound(call->arena, prefix, below);
    if (!prefix.p || !to.p)
        return fail_memory(call);
    struct scan s = { call, each, ctx };
    const struct store_range range = { prefix, to, true, limit };
    return store_scan(call, call->svc->store, &range, scan_row, &s);
}

/* --- proposing ---------------------------------------------------------------------------- */

struct actor
actor_of(const struct call *call)
{
    return (struct actor){ call->who->id, call->who->name };
}

static struct refusal
slug_taken(struct kt_str slug, bool derived)
{
    /* When a derived slug is taken, another one is drawn. */
    if (derived)
        return (struct refusal){ .kind = KT_OK };
    return (struct refusal){ KT_CONFLICT, "CreateServiceAccount.SlugConflict",
                             "Service account with slug \"", slug,
                             "\" already exists in this organization" };
}

/* The effect of an account is told with a copy that lives as long as the batch. */
static bool
effect_account(struct call *call, struct batch *batch, enum effect_type type,
               const struct account_record *a)
{
    struct account_record *copy = kt_arena_alloc(call->arena, sizeof *copy);
    if (!copy)
        return false;
    *copy = *a;
    struct effect *e = batch_effect(batch, type);
    e->account = copy;
    e->epoch = a->epoch;
    return true;
}

static bool
fill_new(struct call *call, struct kt_str name, struct kt_str slug, struct account_record *a)
{
    char external[UUID_EXTERNAL_MAX];
    uuid_external_id(external);
    *a = (struct account_record){
        .id = uuid_v7(call->now_ms),
        .org = call->who->org,
        .org_ext = call->who->org_ext,
        .name = name,
        .slug = slug.p ? slug : slug_derive(call->arena, name, NULL),
        .external_id = kt_arena_str(call->arena, kt_str(external)),
        .created_by = actor_of(call),
        .epoch = ACCOUNT_EPOCH_FIRST,
    };
    a->created_ms = uuid_time_ms(&a->id);
    return a->slug.p && a->external_id.p;
}

int
account_propose_create(struct call *call, struct kt_str name, struct kt_str slug,
                       struct batch **ret_batch, struct account_record *ret)
{
    struct account_record a;
    struct batch *b = batch_new(call->arena);
    if (!b || !fill_new(call, name, slug, &a))
        return fail_memory(call);
    struct kt_str claim = slug_key(call->arena, &a.org, a.slug);
    struct kt_str id = { (const char *)a.id.b, sizeof a.id.b };
    batch_if_absent(b, claim, slug_taken(a.slug, slug.p == NULL));
    batch_set(b, claim, kt_arena_str(call->arena, id));
    batch_set(b, account_key(call->arena, &a.org, &a.id), encode(call->arena, &a));
    audit_put(call, b, "account.create", &a.id, NULL);
    if (!effect_account(call, b, EFFECT_ACCOUNT, &a))
        return fail_memory(call);
    *ret = a;
    *ret_batch = b;
    return KT_OK;
}

int
account_propose_rename(struct call *call, const struct account_record *a,
                       const struct store_row *row, struct kt_str name, struct batch **ret_batch)
{
    struct account_record renamed = *a;
    renamed.name = name;
    struct batch *b = batch_new(call->arena);
    if (!b)
        return fail_memory(call);
    batch_if_at(b, row);
    batch_set(b, row->key, encode(call->arena, &renamed));
    audit_put(call, b, "account.update", &a->id, NULL);
    if (!effect_account(call, b, EFFECT_ACCOUNT, &renamed))
        return fail_memory(call);
    *ret_batch = b;
    return KT_OK;
}

static struct account_end
end_now(const struct call *call)
{
    return (struct account_end){ call->now_ms, actor_of(call) };
}

static struct kt_str
encode_end(struct kt_arena *arena, uint8_t format, const struct account_end *end)
{
    struct kt_buf buf;
    kt_buf_init(&buf, RECORD_MAX);
    record_put_u8(&buf, format);
    record_put_i64(&buf, end->at_ms);
    record_put_uuid(&buf, &end->by.id);
    record_put_str(&buf, end->by.name);
    return record_finish(arena, &buf);
}

/* All but its slug, which may be another account's by now. */
static void
end_account(struct batch *b, const struct account_record *a, const struct store_row *row,
            const struct account_end *end)
{
    b->urgent = true;
    batch_if_at(b, row);
    batch_delete(b, row->key);
    batch_set(b, key_of(b->arena, 'x', &a->org, a->id.b, sizeof a->id.b),
              encode_end(b->arena, TOMBSTONE_FORMAT, end));
}

static void
free_slug(struct batch *b, const struct account_record *a)
{
    batch_delete(b, slug_key(b->arena, &a->org, a->slug));
}

/* The tokens are not touched: without their account none of them is live, and they may be more
 * than any batch holds. */
int
account_propose_delete(struct call *call, const struct account_record *a,
                       const struct store_row *row, struct batch **ret_batch)
{
    struct batch *b = batch_new(call->arena);
    if (!b)
        return fail_memory(call);
    struct account_record ended = *a;
    const struct account_end end = end_now(call);
    ended.epoch++;
    free_slug(b, a);
    end_account(b, a, row, &end);
    audit_put(call, b, "account.delete", &a->id, NULL);
    if (!effect_account(call, b, EFFECT_ACCOUNT_END, &ended))
        return fail_memory(call);
    *ret_batch = b;
    return KT_OK;
}

/* A token knows the epoch that it was minted in, and a mint is good only while the account's record
 * is as it was read: whichever of the two comes second sees the first. */
int
account_propose_end_epoch(struct call *call, const struct account_record *a,
                          const struct store_row *row, struct batch **ret_batch,
                          struct account_end *ret)
{
    enum { LAST = UINT32_MAX - 2 }; /* above it are the ends of deleted accounts */
    struct account_record next = *a;
    struct batch *b = batch_new(call->arena);
    if (!b)
        return fail_memory(call);
    if (a->epoch > LAST)
        return fail_cause(call, KT_INTERNAL, NULL, "the epochs of an account are used up");
    const struct account_end end = end_now(call);
    next.epoch++;
    b->urgent = true;
    batch_if_at(b, row);
    batch_set(b, row->key, encode(call->arena, &next));
    batch_set(b, end_key(b->arena, a, a->epoch), encode_end(b->arena, END_FORMAT, &end));
    audit_put(call, b, "token.revokeAll", &a->id, NULL);
    if (!effect_account(call, b, EFFECT_ACCOUNT_EPOCH, &next))
        return fail_memory(call);
    *ret = end;
    *ret_batch = b;
    return KT_OK;
}

/* As a rule an entry ends one epoch. Where entries before it are missing it ends as many as a batch
 * holds, and the next turn ends the rest. */
static void
end_epochs(struct batch *b, const struct account_record *a, const struct store_row *row,
           uint32_t epoch, const struct account_end *end)
{
    struct account_record next = *a;
    b->urgent = true;
    batch_if_at(b, row);
    for (; next.epoch < epoch && b->nwrites < BATCH_WRITES_MAX - 1; next.epoch++)
        batch_set(b, end_key(b->arena, a, next.epoch), encode_end(b->arena, END_FORMAT, end));
    batch_set(b, row->key, encode(b->arena, &next));
}

/* An account that was deleted long ago may come back after another account has got its slug. */
static int
replay_end(struct call *call, struct batch *b, const struct account_record *a,
           const struct store_row *row, const struct account_end *end)
{
    struct uuid holder;
    int status = find(call, &a->org, a->slug, &holder);
    if (status == KT_OK && uuid_compare(&holder, &a->id) == 0)
        free_slug(b, a);
    end_account(b, a, row, end);
    return status == KT_NOT_FOUND ? KT_OK : status;
}

int
account_replay(struct call *call, const struct journal_entry *entry, struct batch **ret)
{
    const struct account_end end = { entry->at_ms, { .name = KT_LIT("revocation journal") } };
    struct account_record a;
    struct store_row row;
    struct uuid id;
    struct batch *b = batch_new(call->arena);
    if (!b)
        return fail_memory(call);
    b->urgent = true;
    memcpy(id.b, entry->id, sizeof id.b);
    int status = account_load_id(call, &entry->org, &id, &a, &row);
    if (status != KT_OK)
        return status == KT_NOT_FOUND ? KT_OK : status;
    if (entry->type == JOURNAL_ACCOUNT)
        status = replay_end(call, b, &a, &row, &end);
    else if (a.epoch < entry->epoch)
        end_epochs(b, &a, &row, entry->epoch, &end);
    else
        return KT_OK;
    if (status == KT_OK)
        *ret = b;
    return status;
}

/* --- views -------------------------------------------------------------------------------- */

struct kt_str
uuid_text(struct kt_arena *arena, const struct uuid *id)
{
    char *p = kt_arena_alloc(arena, UUID_TEXT_MAX);
    if (!p)
        return (struct kt_str){ NULL, 0 };
    uuid_print(id, p);
    return (struct kt_str){ p, UUID_TEXT_MAX - 1 };
}

const struct kt_user *
actor_view(struct kt_arena *arena, const struct actor *actor)
{
    struct kt_user *user = KT_ARENA_NEW(arena, struct kt_user);
    if (!user)
        return NULL;
    user->id = uuid_text(arena, &actor->id);
    user->name = kt_arena_str(arena, actor->name);
    return user->id.p ? user : NULL;
}

bool
account_view(struct kt_arena *arena, const struct account_record *a, struct kt_account *ret)
{
    struct kt_account v = {
        .id = uuid_text(arena, &a->id),
        .name = kt_arena_str(arena, a->name),
        .slug = kt_arena_str(arena, a->slug),
        .external_id = kt_arena_str(arena, a->external_id),
        .created_by = actor_view(arena, &a->created_by),
        .created_at = { a->created_ms },
    };
    if (!v.id.p || !v.name.p || !v.slug.p || !v.external_id.p || !v.created_by)
        return false;
    *ret = v;
    return true;
}

/* --- positions in lists ------------------------------------------------------------------- */

int64_t
uuid_time_ms(const struct uuid *id)
{
    return (int64_t)kt_get_be(id->b, UUID_TIME_BYTES);
}

struct kt_str
prefix_end(struct kt_arena *arena, struct kt_str prefix)
{
    struct kt_str end = kt_arena_str(arena, prefix);
    if (!end.p)
        return end;
    char *p = (char *)(uintptr_t)end.p;
    /* The first byte, the space, is a letter, so there is always a byte that can be raised. */
    while ((unsigned char)p[end.n - 1] == 0xff)
        end.n--;
    p[end.n - 1]++;
    return end;
}

struct kt_str
list_bound(struct kt_arena *arena, struct kt_str prefix, const struct cursor *below)
{
    if (!prefix.p || !below)
        return prefix.p ? prefix_end(arena, prefix) : prefix;
    struct uuid id = below->id;
    int64_t ms = below->created.ms < 0 ? 0 : below->created.ms;
    if (uuid_time_ms(&id) != ms) {
        memset(id.b, 0, sizeof id.b);
        kt_put_be(id.b, (uint64_t)ms, UUID_TIME_BYTES);
    }
    char *p = kt_arena_alloc(arena, prefix.n + sizeof id.b);
    if (!p)
        return (struct kt_str){ NULL, 0 };
    memcpy(p, prefix.p, prefix.n);
    memcpy(p + prefix.n, id.b, sizeof id.b);
    return (struct kt_str){ p, prefix.n + sizeof id.b };
}
