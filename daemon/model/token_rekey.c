/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/token_rekey.h"

#include "daemon/model/token_row.h"
#include "daemon/model/verdict.h"
#include "daemon/service.h"

#include <pthread.h>
#include <stdlib.h>

/* --- notes -------------------------------------------------------------------------------- */

/* Each digest has one place: a token that is used a thousand times is noted once. */
struct rekeys {
    pthread_mutex_t lock;
    size_t n;
    struct rekey places[REKEYS_MAX];
};

struct rekeys *
rekeys_new(void)
{
    struct rekeys *r = calloc(1, sizeof *r);
    if (r)
        pthread_mutex_init(&r->lock, NULL);
    return r;
}

void
rekeys_free(struct rekeys *r)
{
    if (!r)
        return;
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void
rekeys_note(struct rekeys *r, const struct rekey *note)
{
    uint32_t hash;
    memcpy(&hash, note->from, sizeof hash);
    pthread_mutex_lock(&r->lock);
    struct rekey *place = &r->places[hash % REKEYS_MAX];
    if (!place->keys) {
        *place = *note;
        r->n++;
    }
    pthread_mutex_unlock(&r->lock);
}

size_t
rekeys_take(struct rekeys *r, struct rekey *ret, size_t max)
{
    size_t n = 0;
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; r->n != 0 && i < REKEYS_MAX && n < max; i++) {
        if (!r->places[i].keys)
            continue;
        ret[n++] = r->places[i];
        r->places[i].keys = NULL;
        r->n--;
    }
    pthread_mutex_unlock(&r->lock);
    return n;
}

/* --- the batch ---------------------------------------------------------------------------- */

/* All that the secret stands in. KT_NOT_FOUND without a refusal: some of it is gone. */
struct secret_rows {
    struct store_row verdict_row, token_row, account_row;
    struct verdict_record verdict;
    struct token_record token;
    struct account_record account;
};

static int
load_rows(struct call *call, const unsigned char digest[DIGEST_BYTES], struct secret_rows *ret)
{
    int status = store_get_one(call, call->svc->store, token_row_digest(call->arena, digest),
                               &ret->verdict_row);
    if (status != KT_OK)
        return status;
    struct verdict_record *v = &ret->verdict;
    if (!verdict_decode(call->arena, ret->verdict_row.value, v))
        return fail_record(call, 'h');
    status = account_load_id(call, &v->org, &v->account, &ret->account, &ret->account_row);
    if (status != KT_OK)
        return status;
    return token_row_load(call, &ret->account, &v->token, &ret->token, &ret->token_row);
}

/* The newest first; one that does not fit any more was made with a key that is long gone. */
static void
add_former(struct token_record *t, const unsigned char digest[DIGEST_BYTES])
{
    size_t kept = t->nformer < DIGEST_KEYS_MAX ? t->nformer : DIGEST_KEYS_MAX - 1;
    memmove(t->former + 1, t->former, kept * sizeof t->former[0]);
    t->former[0] = (struct token_former){ .old = false };
    memcpy(t->former[0].digest, digest, DIGEST_BYTES);
    t->nformer = kept + 1;
}

static void
publish_new(struct batch *b, const struct secret_rows *rows, uint32_t last_used)
{
    const struct token_record *t = &rows->token;
    struct account_record *account = kt_arena_alloc(b->arena, sizeof *account);
    struct effect *e = batch_effect(b, EFFECT_TOKEN);
    if (!account) {
        b->failed = true;
        return;
    }
    *account = rows->account;
    e->account = account;
    e->scopes = t->scopes;
    e->nscopes = t->nscopes;
    e->token = t->id;
    e->epoch = t->epoch;
    e->expires_ms = rows->verdict.expires_ms;
    e->last_used = last_used;
    memcpy(e->digest, t->digest, DIGEST_BYTES);
    if (last_used != 0)
        token_put_used(b, t->digest, last_used);
}

int
token_rekey(struct call *call, const struct rekey *note, struct batch **ret)
{
    struct secret_rows rows;
    int status = load_rows(call, note->from, &rows);
    if (status != KT_OK)
        return status == KT_NOT_FOUND ? KT_OK : status;
    struct token_record *t = &rows.token;
    bool current = memcmp(t->digest, note->from, DIGEST_BYTES) == 0;
    struct batch *b = batch_new(call->arena);
    if (!b)
        return fail_memory(call);
    if (!current || t->revoked_ms != 0 || rows.verdict.revoked)
        return KT_OK;
    uint32_t last_used = token_last_used(call->svc, t);
    add_former(t, note->from);
    memcpy(t->digest, note->to, DIGEST_BYTES);
    t->key = rows.verdict.key = digest_keys_tag(note->keys, 0);
    b->keys = note->keys;
    batch_if_at(b, &rows.account_row);
    batch_if_at(b, &rows.token_row);
    batch_if_at(b, &rows.verdict_row);
    batch_set(b, rows.token_row.key, token_row_encode(call->arena, t));
    batch_delete(b, rows.verdict_row.key);
    batch_set(b, token_row_digest(call->arena, t->digest),
              verdict_encode(call->arena, &rows.verdict));
    batch_delete(b, token_row_used(call->arena, note->from));
    /* There first, then gone here: whoever looks finds it in one of the two places. */
    publish_new(b, &rows, last_used);
    memcpy(batch_effect(b, EFFECT_REMOVE)->digest, note->from, DIGEST_BYTES);
    *ret = b;
    return KT_OK;
}
