/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/purge.h"

#include "client/proto/bigend.h"
#include "daemon/idempotency.h"
#include "daemon/model/record.h"
#include "daemon/model/token.h"
#include "daemon/model/verdict.h"
#include "daemon/service.h"
#include "daemon/store_walk.h"

#include <stdlib.h>

enum {
    ENDS_MAX = 1 << 14, /* ends of accounts and epochs that one pass takes care of */
    KEY_MAX = 1 + 2 * sizeof(struct uuid) + sizeof(uint32_t),
    WHOLE_ACCOUNT = 0xffffffffu
};

/* The end of an account, or of one of its epochs, that is old enough. */
struct end {
    struct uuid account;
    uint32_t epoch; /* WHOLE_ACCOUNT: all */
    unsigned char key[KEY_MAX];
    size_t nkey;
    uint64_t revision;
    bool is_needed; /* a token is left */
};

enum phase { ENDS = 0, TOKENS, ENDS_DONE, ANSWERS, AUDIT, OVER };

/* What is walked through in a phase. */
static const char spaces[] = { [TOKENS] = 'h', [ANSWERS] = 'i', [AUDIT] = 'e', [OVER] = '\0' };

struct purge {
    struct purge_options options;
    int64_t now_ms;
    enum phase phase;
    struct store_walk walk; /* of the phase's space */
    struct end *ends; /* sorted by account */
    size_t nends, next_end;
    bool missed;
};

static void
enter(struct purge *p, enum phase phase)
{
    p->phase = phase;
    store_walk_begin(&p->walk, spaces[phase]);
}

struct purge *
purge_new(const struct purge_options *options, int64_t now_ms)
{
    struct purge *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->options = *options;
    p->now_ms = now_ms;
    enter(p, options->retention_ms != 0 ? ENDS : ANSWERS);
    return p;
}

void
purge_free(struct purge *p)
{
    if (p)
        free(p->ends);
    free(p);
}

void
purge_missed(struct purge *p)
{
    p->missed = true;
}

/* Whether something that ended then has been kept for long enough. */
static bool
is_due(const struct purge *p, int64_t ended_ms, int64_t keep_ms)
{
    return ended_ms <= p->now_ms && p->now_ms - ended_ms >= keep_ms;
}

/* --- pieces of a space -------------------------------------------------------------------- */

struct piece {
    struct call *call;
    struct purge *purge;
    struct batch **batches;
    size_t n;
    struct secret *secrets; /* of this piece, that may go */
    size_t nsecrets;
};

static struct batch *
add_batch(struct piece *piece)
{
    struct batch *b = batch_new(piece->call->arena);
    if (b)
        piece->batches[piece->n++] = b;
    return b;
}

/* --- ends of accounts and epochs ---------------------------------------------------------- */

static int
compare_ends(const void *a, const void *b)
{
    return uuid_compare(&((const struct end *)a)->account, &((const struct end *)b)->account);
}

static int
keep_end(void *ctx, const struct store_row *row)
{
    struct piece *piece = ctx;
    struct purge *p = piece->purge;
    struct record_in in;
    record_open(&in, row->value);
    (void)record_u8(&in);
    int64_t at_ms = record_i64(&in);
    /* An account's key ends here, that of an epoch has its number. */
    const size_t head = 1 + 2 * sizeof(struct uuid), number = sizeof(uint32_t);
    if (!in.ok || (row->key.n != head && row->key.n != head + number) ||
        !is_due(p, at_ms, p->options.retention_ms) || p->nends == ENDS_MAX)
        return KT_OK;
    struct end *e = &p->ends[p->nends++];
    *e = (struct end){ .epoch = WHOLE_ACCOUNT, .nkey = row->key.n, .revision = row->revision };
    if (row->key.n != head)
        e->epoch = (uint32_t)kt_get_be(row->key.p + head, number);
    memcpy(e->key, row->key.p, row->key.n);
    memcpy(e->account.b, row->key.p + head - sizeof e->account.b, sizeof e->account.b);
    return KT_OK;
}

static int
find_ends(struct piece *piece)
{
    struct purge *p = piece->purge;
    const struct store_range accounts = { KT_LIT("x"), KT_LIT("y"), false, 0 };
    const struct store_range epochs = { KT_LIT("r"), KT_LIT("s"), false, 0 };
    p->ends = calloc(ENDS_MAX, sizeof *p->ends);
    if (!p->ends)
        return fail_memory(piece->call);
    int status = store_scan(piece->call, piece->call->svc->store, &accounts, keep_end, piece);
    if (status == KT_OK)
        status = store_scan(piece->call, piece->call->svc->store, &epochs, keep_end, piece);
    qsort(p->ends, p->nends, sizeof *p->ends, compare_ends);
    enter(p, p->phase + 1);
    return status;
}

/* What ended a token of this account and epoch, and the ends that are needed while it is there. */
static bool
ended_by(struct purge *p, const struct uuid *account, uint32_t epoch, bool is_needed)
{
    struct end key = { .account = *account };
    bool ended = false;
    struct end *e = p->nends == 0 ? NULL
                                  : bsearch(&key, p->ends, p->nends, sizeof *e, compare_ends);
    while (e && e > p->ends && compare_ends(e - 1, &key) == 0)
        e--;
    for (; e && e < p->ends + p->nends && compare_ends(e, &key) == 0; e++) {
        bool is_its = e->epoch == WHOLE_ACCOUNT || e->epoch == epoch;
        if (is_its && is_needed)
            e->is_needed = true;
        ended |= is_its;
    }
    return ended;
}

static void
delete_ends(struct piece *piece)
{
    struct purge *p = piece->purge;
    for (; p->next_end < p->nends && piece->n < PURGE_BATCHES_MAX; p->next_end++) {
        const struct end *e = &p->ends[p->next_end];
        struct store_row row = { .key = { (const char *)e->key, e->nkey },
                                 .revision = e->revision };
        struct batch *b = e->is_needed || p->missed ? NULL : add_batch(piece);
        if (!b)
            continue;
        batch_if_at(b, &row);
        batch_delete(b, row.key);
    }
    if (p->next_end == p->nends)
        enter(p, p->phase + 1);
}

/* --- tokens ------------------------------------------------------------------------------- */

/* A secret whose row may go. */
struct secret {
    struct token_secret secret;
    bool ended; /* with its account or epoch */
};

static int
look_at_secret(void *ctx, const struct store_row *row)
{
    struct piece *piece = ctx;
    struct purge *p = piece->purge;
    struct verdict_record v;
    struct kt_str value = kt_arena_str(piece->call->arena, row->value);
    if (!value.p)
        return fail_memory(piece->call);
    if (row->key.n != 1 + DIGEST_BYTES || !verdict_decode(piece->call->arena, value, &v))
        return fail_record(piece->call, 'h');
    bool ended = ended_by(p, &v.account, v.epoch, false);
    bool dead = v.expires_ms != 0 && is_due(p, v.expires_ms, p->options.retention_ms);
    /* Of secrets that were revoked before their rows said when, the token's row knows it. */
    bool unsure = v.revoked && (v.expires_ms == 0 || v.expires_ms > p->now_ms);
    if ((!ended && !dead && !unsure) || piece->nsecrets == PURGE_BATCHES_MAX) {
        (void)ended_by(p, &v.account, v.epoch, true);
        return KT_OK;
    }
    struct secret *s = &piece->secrets[piece->nsecrets++];
    *s = (struct secret){ .ended = ended };
    s->secret = (struct token_secret){ .org = v.org, .account = v.account, .token = v.token,
                                       .epoch = v.epoch, .expires_ms = v.expires_ms,
                                       .revoked = v.revoked,
                                       .revision = row->revision };
    memcpy(s->secret.digest, row->key.p + 1, DIGEST_BYTES);
    return KT_OK;
}

static int
purge_tokens(struct piece *piece)
{
    struct purge *p = piece->purge;
    struct secret found[PURGE_BATCHES_MAX];
    bool last;
    piece->secrets = found;
    /* Every row that is looked at may be one that goes. */
    int status = store_walk_piece(piece->call, &p->walk, PURGE_BATCHES_MAX, look_at_secret, piece,
                                  &last);
    for (size_t i = 0; i < piece->nsecrets && status == KT_OK; i++) {
        struct batch *b = NULL;
        status = token_purge(piece->call, &found[i].secret, found[i].ended, p->now_ms,
                             p->options.retention_ms, &b);
        if (b)
            piece->batches[piece->n++] = b;
        else
            (void)ended_by(p, &found[i].secret.account, found[i].secret.epoch, true);
    }
    if (last && status == KT_OK)
        enter(p, p->phase + 1);
    return status;
}

/* --- kept answers and audit records ------------------------------------------------------- */

static int
look_at_answer(void *ctx, const struct store_row *row)
{
    struct piece *piece = ctx;
    struct record_in in;
    record_open(&in, row->value);
    (void)record_u8(&in);
    int64_t created_ms = record_i64(&in);
    if (!in.ok || !is_due(piece->purge, created_ms, IDEMPOTENCY_KEPT_MS))
        return KT_OK;
    struct store_row copy = { .key = kt_arena_str(piece->call->arena, row->key),
                              .revision = row->revision };
    struct batch *b = copy.key.p ? add_batch(piece) : NULL;
    if (!b)
        return fail_memory(piece->call);
    batch_if_at(b, &copy); /* the key may just be used anew */
    batch_delete(b, copy.key);
    return KT_OK;
}

/* Records are never written over, and those of one organization stand in the order of time. */
static int
look_at_audit(void *ctx, const struct store_row *row)
{
    struct piece *piece = ctx;
    struct purge *p = piece->purge;
    struct uuid id;
    const size_t head = 1 + sizeof id.b;
    if (row->key.n != head + sizeof id.b)
        return fail_record(piece->call, 'e');
    memcpy(id.b, row->key.p + head, sizeof id.b);
    if (!is_due(p, uuid_time_ms(&id), p->options.audit_ms)) {
        store_walk_skip(&p->walk, head); /* on to the next organization */
        return KT_NOT_FOUND;
    }
    struct batch *b = piece->n == 0 ? NULL : piece->batches[piece->n - 1];
    if (!b || b->nwrites == BATCH_WRITES_MAX)
        b = add_batch(piece);
    struct kt_str key = kt_arena_str(piece->call->arena, row->key);
    if (!b || !key.p)
        return fail_memory(piece->call);
    batch_delete(b, key);
    return KT_OK;
}

static int
purge_rows(struct piece *piece, size_t rows, int (*look)(void *, const struct store_row *))
{
    bool last;
    int status = store_walk_piece(piece->call, &piece->purge->walk, rows, look, piece, &last);
    if (status == KT_NOT_FOUND) /* a look ended the piece early */
        return KT_OK;
    if (last && status == KT_OK)
        enter(piece->purge, piece->purge->phase + 1);
    return status;
}

/* --- steps -------------------------------------------------------------------------------- */

int
purge_step(struct call *call, struct purge *p, struct batch *ret_batches[PURGE_BATCHES_MAX],
           size_t *ret_n, bool *ret_done)
{
    struct piece piece = { .call = call, .purge = p, .batches = ret_batches };
    int status = KT_OK;
    switch (p->phase) {
    case ENDS: status = find_ends(&piece); break;
    case TOKENS: status = purge_tokens(&piece); break;
    case ENDS_DONE: delete_ends(&piece); break;
    case ANSWERS: status = purge_rows(&piece, PURGE_BATCHES_MAX, look_at_answer); break;
    case AUDIT:
        if (p->options.audit_ms != 0)
            status = purge_rows(&piece, PURGE_BATCHES_MAX * BATCH_WRITES_MAX, look_at_audit);
        else
            enter(p, p->phase + 1);
        break;
    case OVER: break;
    }
    *ret_n = piece.n;
    *ret_done = p->phase == OVER;
    return status;
}
