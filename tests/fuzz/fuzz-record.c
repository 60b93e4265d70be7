/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Records as the store gives them back. The seal keeps strangers' bytes out; a decoder must bear
 * them all the same, because a store may hold records of another version. */
#include "config.h"

#include "daemon/model/account.h"
#include "daemon/model/token_row.h"
#include "daemon/model/verdict.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
within(struct kt_str part, struct kt_str whole)
{
    if (part.n && (part.p < whole.p || part.n > (size_t)(whole.p + whole.n - part.p)))
        abort();
}

static void
check_account(struct kt_str value)
{
    struct account_record a;
    if (!account_decode(value, &a))
        return;
    within(a.name, value);
    within(a.slug, value);
    within(a.external_id, value);
}

static void
check_token(struct kt_arena *arena, struct kt_str value)
{
    static const struct kt_str key = KT_LIT("t0123456789abcdef0123456789abcdef0123456789abcdef");
    struct token_record t, back;
    if (!token_decode(arena, key, value, &t))
        return;
    within(t.name, value);
    within(t.slug, value);
    if (t.nscopes > TOKEN_SCOPES_MAX)
        abort();
    size_t known = 0;
    for (size_t i = 0; i < t.nscopes; i++)
        known += t.scopes[i].n;
    if (known > 64 * t.nscopes + value.n)
        abort();
    struct kt_str again = token_row_encode(arena, &t);
    if (!again.p || !token_decode(arena, key, again, &back) || back.epoch != t.epoch ||
        back.expires_ms != t.expires_ms || back.revoked_ms != t.revoked_ms ||
        back.has_old != t.has_old || back.key != t.key || back.nformer != t.nformer || !kt_str_eq(back.name, t.name) ||
        !kt_str_eq(back.slug, t.slug) || back.nscopes != t.nscopes)
        abort();
}

/* What was read is written back as the same bytes. */
static void
check_verdict(struct kt_arena *arena, struct kt_str value)
{
    struct verdict_record v;
    if (!verdict_decode(arena, value, &v))
        return;
    struct kt_str again = verdict_encode(arena, &v);
    struct verdict_record back;
    if (!again.p || !verdict_decode(arena, again, &back) || back.epoch != v.epoch ||
        back.revoked != v.revoked || back.nscopes != v.nscopes || back.expires_ms != v.expires_ms)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct kt_str value = { (const char *)data, size };
    struct kt_arena arena;
    kt_arena_init(&arena, 1 << 20);
    check_account(value);
    check_token(&arena, value);
    check_verdict(&arena, value);
    kt_arena_done(&arena);
    return 0;
}
