/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* old-rows CONFIGURATION FORMAT: takes the tokens of a store back to how format 1 had them, the
 * half of them without their keys, as the first daemons wrote them, or the claims to where format 2
 * had them, and prints how many there were; or says that the rows have a newer format, and leaves
 * them as they are. What the next start of a daemon makes of it is tested. */
#include "config.h"

#include "daemon/model/record.h"
#include "daemon/model/token_row.h"
#include "daemon/store.h"

#include "tests/tools/format1.h"
#include "tests/tools/site.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum { STORE_FIRST = 1, STORE_BEGINNINGS = 2 };
enum { TOGETHER = 128 };

struct rows {
    struct kt_arena *arena;
    struct store_row *v;
    size_t n, room;
};

static int
keep(void *ctx, const struct store_row *row)
{
    struct rows *rows = ctx;
    if (rows->n == rows->room) {
        rows->room = rows->room == 0 ? 1024 : 2 * rows->room;
        rows->v = reallocarray(rows->v, rows->room, sizeof *rows->v);
        if (!rows->v)
            die("rows", "no memory");
    }
    rows->v[rows->n++] = (struct store_row){ .key = kt_arena_str(rows->arena, row->key),
                                             .value = kt_arena_str(rows->arena, row->value),
                                             .revision = row->revision };
    return KT_OK;
}

static struct rows
rows_of(struct call *call, char space)
{
    const char to = (char)(space + 1);
    const struct store_range range = { { &space, 1 }, { &to, 1 }, false, 0 };
    struct rows rows = { .arena = call->arena };
    if (store_scan(call, call->svc->store, &range, keep, &rows) != KT_OK)
        die("rows", "cannot be read");
    return rows;
}

static void
apply(struct call *call, struct batch *const batches[], size_t n)
{
    struct kaiten_outcome outcomes[TOGETHER];
    char why[256] = "";
    if (store_apply(call->svc->store, batches, n, outcomes, why, sizeof why) != KAITEN_DONE)
        die("store", why);
    for (size_t i = 0; i < n; i++)
        if (batches[i]->failed || outcomes[i].status != KAITEN_DONE)
            die("store", "a batch was refused");
}

/* A batch for each row. */
static size_t
each(struct call *call, char space, void (*take_back)(struct call *, struct batch *,
                                                      const struct store_row *))
{
    struct rows rows = rows_of(call, space);
    struct batch *batches[TOGETHER];
    size_t n = 0;
    for (size_t i = 0; i < rows.n; i++) {
        batches[n] = batch_new(call->arena);
        if (!batches[n])
            die("batch", "no memory");
        take_back(call, batches[n++], &rows.v[i]);
        if (n == TOGETHER || i + 1 == rows.n) {
            apply(call, batches, n);
            n = 0;
        }
    }
    free(rows.v);
    return rows.n;
}

/* --- rows --------------------------------------------------------------------------------- */

static bool
is_keyed(const struct uuid *token)
{
    return token->b[sizeof token->b - 1] % 2 != 0;
}

static struct kt_str
old_claim(struct kt_arena *arena, int store, const struct uuid *org, const struct token_record *t,
          char kind)
{
    struct kt_str text = kind == 's' ? t->slug : t->name;
    if (store == STORE_BEGINNINGS)
        return token_row_claim_2(arena, org, &t->account, text, kind);
    return format1_claim(arena, org, t, kind);
}

static void
take_claim_back(struct call *call, struct batch *b, int store, const struct uuid *org,
                const struct token_record *t, char kind)
{
    struct kt_str text = kind == 's' ? t->slug : t->name;
    struct kt_str id = { (const char *)t->id.b, sizeof t->id.b };
    batch_delete(b, token_row_claim(call->arena, org, &t->account, text, kind));
    batch_set(b, old_claim(call->arena, store, org, t, kind), kt_arena_str(call->arena, id));
}

static void
take_claims_back(struct call *call, struct batch *b, int store, const struct store_row *row,
                 struct token_record *ret)
{
    struct uuid org, holder;
    struct store_row claim;
    if (!token_decode(call->arena, row->key, row->value, ret))
        die("token", "cannot be read");
    memcpy(org.b, row->key.p + 1, sizeof org.b);
    take_claim_back(call, b, store, &org, ret, 's');
    struct kt_str name = token_row_claim(call->arena, &org, &ret->account, ret->name, 'n');
    if (token_row_holder(call, name, &claim, &holder) == KT_OK &&
        uuid_compare(&holder, &ret->id) == 0)
        take_claim_back(call, b, store, &org, ret, 'n');
}

static void
take_token_back(struct call *call, struct batch *b, const struct store_row *row)
{
    struct token_record t;
    take_claims_back(call, b, STORE_FIRST, row, &t);
    batch_set(b, row->key, format1_token(call->arena, &t, is_keyed(&t.id)));
}

static void
take_places_back(struct call *call, struct batch *b, const struct store_row *row)
{
    struct token_record t;
    take_claims_back(call, b, STORE_BEGINNINGS, row, &t);
}

static void
take_verdict_back(struct call *call, struct batch *b, const struct store_row *row)
{
    struct verdict_record v;
    if (!verdict_decode(call->arena, row->value, &v))
        die("verdict", "cannot be read");
    batch_set(b, row->key, format1_verdict(call->arena, &v, is_keyed(&v.token)));
}

static void
set_format(struct call *call, uint32_t format)
{
    struct kt_buf buf;
    struct batch *b = batch_new(call->arena);
    kt_buf_init(&buf, 64);
    record_put_u32(&buf, format);
    record_put_i64(&buf, call->now_ms);
    if (!b)
        die("batch", "no memory");
    batch_set(b, KT_LIT("mformat"), record_finish(call->arena, &buf));
    apply(call, &b, 1);
}

static void
take_rows_back(struct call *call)
{
    size_t tokens = each(call, 't', take_token_back);
    size_t digests = each(call, 'h', take_verdict_back);
    printf("tokens=%zu digests=%zu\n", tokens, digests);
}

static void
take_all_places_back(struct call *call)
{
    printf("tokens=%zu\n", each(call, 't', take_places_back));
}

int
main(int argc, char *argv[])
{
    static struct parts parts = { .index_guard = PTHREAD_RWLOCK_INITIALIZER };
    struct kt_arena arena;
    const int format = argc == 3 ? atoi(argv[2]) : 0;
    if (format < STORE_FIRST) {
        fprintf(stderr, "usage: old-rows CONFIGURATION FORMAT\n");
        return 2;
    }
    if (sodium_init() < 0)
        die("libsodium", "cannot be initialized");
    site_open(&parts, argv[1]);
    kt_arena_init(&arena, SIZE_MAX / 2);
    struct call call = { .svc = &parts.svc, .arena = &arena, .now_ms = clock_wall_ms(),
                         .deadline_ms = INT64_MAX };
    if (format == STORE_FIRST)
        take_rows_back(&call);
    else if (format == STORE_BEGINNINGS)
        take_all_places_back(&call);
    set_format(&call, (uint32_t)format);
    kt_arena_done(&arena);
    site_close(&parts);
    return 0;
}
