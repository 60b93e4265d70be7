/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/idempotency.h"

#include "client/proto/encode.h"
#include "client/proto/pack.h"
#include "client/proto/wipe.h"
#include "daemon/model/digest.h"
#include "daemon/model/record.h"
#include "daemon/principal.h"
#include "daemon/service.h"
#include "daemon/store.h"

#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>

/* Keys: i org id, where id is a hash of the caller and the caller's key. */
enum { FORMAT = 1, HASH = 32, ANSWER_MAX = 60 * 1024, BUCKETS = 1024 };

#define NONCE crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG crypto_aead_xchacha20poly1305_ietf_ABYTES
#define SEAL_KEY crypto_aead_xchacha20poly1305_ietf_KEYBYTES

/* --- at work ------------------------------------------------------------------------------ */

/* Entries are members of their requests: nothing is allocated, and there cannot be more of them
 * than requests. */
struct inflight {
    pthread_mutex_t lock;
    struct inflight_entry *buckets[BUCKETS];
};

struct inflight *
inflight_new(void)
{
    struct inflight *table = calloc(1, sizeof *table);
    if (table)
        pthread_mutex_init(&table->lock, NULL);
    return table;
}

void
inflight_free(struct inflight *table)
{
    if (!table)
        return;
    pthread_mutex_destroy(&table->lock);
    free(table);
}

static struct inflight_entry **
bucket_of(struct inflight *table, const struct inflight_entry *e)
{
    uint32_t n;
    memcpy(&n, e->id, sizeof n);
    return &table->buckets[n % BUCKETS];
}

/* False: another request with this id is at work. */
static bool
enter(struct inflight *table, struct inflight_entry *e)
{
    pthread_mutex_lock(&table->lock);
    struct inflight_entry **bucket = bucket_of(table, e);
    const struct inflight_entry *other = *bucket;
    while (other && memcmp(other->id, e->id, sizeof e->id) != 0)
        other = other->next;
    if (!other) {
        e->next = *bucket;
        *bucket = e;
        e->held = true;
    }
    pthread_mutex_unlock(&table->lock);
    return e->held;
}

void
idempotency_end(struct request *rq)
{
    struct inflight_entry *e = &rq->inflight;
    if (!e->held)
        return;
    struct inflight *table = rq->call.svc->inflight;
    pthread_mutex_lock(&table->lock);
    struct inflight_entry **at = bucket_of(table, e);
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    e->held = false;
    pthread_mutex_unlock(&table->lock);
}

/* --- names and seals ---------------------------------------------------------------------- */

static bool
is_key(struct kt_str key)
{
    if (key.n == 0 || key.n > IDEMPOTENCY_KEY_MAX)
        return false;
    for (size_t i = 0; i < key.n; i++)
        if (key.p[i] < 0x21 || key.p[i] > 0x7e)
            return false;
    return true;
}

static void
hash_str(crypto_generichash_state *st, struct kt_str s)
{
    uint64_t n = s.n;
    crypto_generichash_update(st, (const unsigned char *)&n, sizeof n);
    crypto_generichash_update(st, (const unsigned char *)s.p, s.n);
}

static void
name_request(struct request *rq)
{
    crypto_generichash_state st;
    const struct principal *who = rq->call.who;
    crypto_generichash_init(&st, NULL, 0, HASH);
    hash_str(&st, (struct kt_str){ (const char *)who->org.b, sizeof who->org.b });
    hash_str(&st, who->subject);
    hash_str(&st, kt_str(who->proof));
    hash_str(&st, rq->idempotency_key);
    crypto_generichash_final(&st, rq->inflight.id, HASH);
}

/* What is heeded of the request, whichever door it came through and in whichever order. */
static void
put_asked(struct kt_buf *text, const struct request *rq)
{
    for (const struct kt_field *f = rq->spec->in->fields; f->name; f++) {
        const struct kt_field alone[] = { *f, KT_FIELD_END };
        const struct kt_shape shape = { NULL, rq->spec->in->size, alone };
        if (!(f->flags & KT_READONLY))
            kt_encode_json(text, &shape, &rq->in);
    }
}

static bool
hash_body(struct request *rq, unsigned char hash[HASH])
{
    crypto_generichash_state st;
    struct kt_buf text;
    kt_buf_init(&text, REQUEST_ARENA_MAX);
    put_asked(&text, rq);
    crypto_generichash_init(&st, NULL, 0, HASH);
    hash_str(&st, kt_str(rq->spec->name));
    hash_str(&st, kt_buf_str(&text));
    crypto_generichash_final(&st, hash, HASH);
    bool ok = !text.failed;
    kt_buf_done(&text);
    return ok;
}

static void
seal_key(const struct request *rq, const struct digest_keys *keys, size_t i,
         unsigned char key[SEAL_KEY])
{
    unsigned char sub[DIGEST_BYTES];
    struct kt_str text = rq->idempotency_key;
    digest_subkey(keys, i, DIGEST_USE_IDEMPOTENCY, sub);
    crypto_generichash(key, SEAL_KEY, (const unsigned char *)text.p, text.n, sub, sizeof sub);
    kt_wipe(sub, sizeof sub);
}

static struct kt_str
row_key(struct request *rq)
{
    struct kt_buf key;
    kt_buf_init(&key, KAITEN_KEY_MAX);
    record_put_u8(&key, 'i');
    record_put_uuid(&key, &rq->call.who->org);
    record_put_bytes(&key, rq->inflight.id, HASH);
    struct kt_str out = kt_arena_str(rq->call.arena, kt_buf_str(&key));
    kt_buf_done(&key);
    return out;
}

/* --- the answer, there already ------------------------------------------------------------ */

struct kept {
    int64_t created_ms;
    unsigned char body[HASH];
    unsigned char nonce[NONCE];
    struct kt_str sealed;
};

static bool
decode(struct kt_str value, struct kept *ret)
{
    struct record_in in;
    record_open(&in, value);
    if (record_u8(&in) != FORMAT)
        return false;
    ret->created_ms = record_i64(&in);
    record_bytes(&in, ret->body, sizeof ret->body);
    record_bytes(&in, ret->nonce, sizeof ret->nonce);
    ret->sealed = record_str(&in);
    return record_done(&in) && ret->sealed.n >= TAG;
}

/* With the key that was current when it was sealed. */
static bool
open_seal(struct request *rq, const struct kept *kept, unsigned char *plain)
{
    unsigned char key[SEAL_KEY];
    const struct digest_keys *keys = rq->call.svc->keys;
    bool ok = false;
    for (size_t i = 0; !ok && i < digest_keys_count(keys); i++) {
        seal_key(rq, keys, i, key);
        ok = crypto_aead_xchacha20poly1305_ietf_decrypt(
                 plain, NULL, NULL, (const unsigned char *)kept->sealed.p, kept->sealed.n,
                 kept->body, sizeof kept->body, kept->nonce, key) == 0;
    }
    kt_wipe(key, sizeof key);
    return ok;
}

/* The secret of a minted token among the answer: the request owns it as if it had minted it. (What
 * was opened lies in the arena, which is wiped with the request.) */
static void
adopt_secret(struct request *rq)
{
    if (kt_shape_reveals(rq->spec->out))
        rq->secret = rq->out.token.token;
}

static int
replay(struct request *rq, const struct kept *kept)
{
    struct kt_arena *arena = rq->call.arena;
    size_t n = kept->sealed.n - TAG;
    unsigned char *plain = kt_arena_alloc(arena, n);
    const struct kt_pack_limits limits = { ANSWER_MAX, 8, 4096, ANSWER_MAX };
    struct kt_value answer;
    const char *why;
    if (!plain || !open_seal(rq, kept, plain))
        return fail_cause(&rq->call, KT_INTERNAL, NULL, "a kept answer cannot be opened");
    if (!rq->spec->out)
        return KT_OK;
    if (kt_pack_read((struct kt_str){ (const char *)plain, n }, &limits, arena, &answer, &n,
                     &why) != KT_FRAME_DONE ||
        !kt_bind_answer(rq->spec->out, &answer, arena, &rq->out))
        return fail_cause(&rq->call, KT_INTERNAL, NULL, "a kept answer has another form");
    adopt_secret(rq);
    return KT_OK;
}

static int
answer_again(struct request *rq, const struct kept *kept, bool *ret_replayed)
{
    unsigned char body[HASH];
    if (!hash_body(rq, body))
        return fail_memory(&rq->call);
    if (!digest_equal(body, kept->body, sizeof body))
        return fail(&rq->call, KT_UNPROCESSABLE, "Idempotency.KeyReused",
                    "this idempotency key came with another request before");
    int status = replay(rq, kept);
    *ret_replayed = status == KT_OK;
    return status;
}

int
idempotency_begin(struct request *rq, bool *ret_replayed)
{
    *ret_replayed = false;
    if (!is_key(rq->idempotency_key))
        return fail(&rq->call, KT_UNPROCESSABLE, "Idempotency.InvalidKey",
                    "expected an idempotency key of 1 to %d visible ASCII characters",
                    IDEMPOTENCY_KEY_MAX);
    if (!rq->inflight.held)
        name_request(rq);
    if (!rq->inflight.held && !enter(rq->call.svc->inflight, &rq->inflight))
        return fail(&rq->call, KT_CONFLICT, "Idempotency.InProgress",
                    "the first request with this idempotency key is still at work");
    struct kt_str key = row_key(rq);
    rq->kept = KT_ARENA_NEW(rq->call.arena, struct store_row);
    if (!key.p || !rq->kept)
        return fail_memory(&rq->call);
    int status = store_get(&rq->call, rq->call.svc->store, &key, 1, rq->kept);
    if (status != KT_OK || !rq->kept->value.p)
        return status;
    struct kept kept;
    if (!decode(rq->kept->value, &kept))
        return fail_cause(&rq->call, KT_INTERNAL, NULL, "a kept answer has another form");
    if (rq->call.now_ms - kept.created_ms >= IDEMPOTENCY_KEPT_MS)
        return KT_OK; /* it is written over */
    return answer_again(rq, &kept, ret_replayed);
}

/* --- the answer, to be kept --------------------------------------------------------------- */

static void
put_sealed(struct request *rq, struct kt_str plain, const unsigned char body[HASH],
           struct kt_buf *out)
{
    unsigned char key[SEAL_KEY], nonce[NONCE];
    randombytes_buf(nonce, sizeof nonce);
    record_put_bytes(out, nonce, sizeof nonce);
    record_put_u32(out, (uint32_t)(plain.n + TAG));
    unsigned char *room = (unsigned char *)kt_buf_reserve(out, plain.n + TAG);
    if (!room)
        return;
    seal_key(rq, rq->batch->keys, 0, key);
    crypto_aead_xchacha20poly1305_ietf_encrypt(room, NULL, (const unsigned char *)plain.p, plain.n,
                                               body, HASH, NULL, nonce, key);
    kt_wipe(key, sizeof key);
    out->n += plain.n + TAG;
}

static struct kt_str
encode(struct request *rq, const unsigned char body[HASH])
{
    struct kt_buf plain, out;
    kt_buf_init(&plain, ANSWER_MAX);
    kt_buf_init(&out, KAITEN_VALUE_MAX);
    if (rq->spec->out)
        kt_encode_pack(&plain, rq->spec->out, &rq->out);
    record_put_u8(&out, FORMAT);
    record_put_i64(&out, rq->call.now_ms);
    record_put_bytes(&out, body, HASH);
    put_sealed(rq, kt_buf_str(&plain), body, &out);
    struct kt_str value = { NULL, 0 };
    if (!plain.failed && !out.failed)
        value = kt_arena_str(rq->call.arena, kt_buf_str(&out));
    kt_buf_done(&plain);
    kt_buf_done(&out);
    return value;
}

int
idempotency_record(struct request *rq)
{
    unsigned char body[HASH];
    struct kt_str key = row_key(rq);
    if (!rq->batch->keys)
        rq->batch->keys = rq->call.svc->keys;
    if (!key.p || !hash_body(rq, body))
        return fail_memory(&rq->call);
    struct kt_str value = encode(rq, body);
    if (!value.p)
        return fail_memory(&rq->call);
    /* Another daemon may have been asked at the same instant: look again, and find its answer. */
    if (rq->kept->value.p)
        batch_if_at(rq->batch, rq->kept);
    else
        batch_if_absent(rq->batch, key, (struct refusal){ .kind = KT_OK });
    batch_set(rq->batch, key, value);
    return KT_OK;
}
