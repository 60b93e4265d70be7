/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The texts of single values: tokens, instants, durations, sizes, ids, slugs, base64url, scopes. */
#include "config.h"

#include "client/proto/check.h"
#include "daemon/model/scope.h"
#include "daemon/model/slug.h"
#include "daemon/model/tokentext.h"
#include "daemon/model/uuid.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
insist(bool holds)
{
    if (!holds)
        abort();
}

static void
check_token(struct kt_str s)
{
    if (!token_text_check((struct kt_secret_view){ s.p, s.n }))
        return;
    /* Any other last character must be refused. */
    char other[TOKEN_TEXT_LEN];
    memcpy(other, s.p, sizeof(other));
    other[TOKEN_TEXT_LEN - 1] = other[TOKEN_TEXT_LEN - 1] == '0' ? '1' : '0';
    insist(!token_text_check((struct kt_secret_view){ other, sizeof(other) }));
}

static void
check_numbers(struct kt_str s)
{
    struct kt_time t, again;
    char time[KT_TIME_MAX], duration[KT_DURATION_MAX];
    int64_t n, back;
    if (kt_time_parse(s, &t)) {
        size_t length = kt_time_print(t, time);
        insist(length > 0 && kt_time_parse((struct kt_str){ time, length }, &again));
        insist(again.ms == t.ms);
    }
    if (kt_duration_parse(s, &n)) {
        kt_duration_print(n, duration);
        insist(kt_duration_parse(kt_str(duration), &back) && back == n);
    }
    if (kt_size_parse(s, &n))
        insist(n >= 0);
    (void)kt_int_parse(s, &n);
}

static void
check_texts(struct kt_str s, struct kt_arena *arena)
{
    struct uuid id, again;
    char text[UUID_TEXT_MAX];
    if (uuid_parse(s, &id)) {
        uuid_print(&id, text);
        insist(uuid_parse(kt_str(text), &again) && uuid_compare(&id, &again) == 0);
    }
    struct kt_str slug = slug_derive(arena, s, NULL);
    insist(slug.p == NULL || kt_is_slug_chars(slug));
    insist(kt_code_points(s) <= s.n);

    unsigned char *bytes = kt_arena_alloc(arena, s.n + 1);
    char *coded = kt_arena_alloc(arena, s.n + 8);
    size_t n;
    if (bytes != NULL && coded != NULL && kt_b64url_decode(s, bytes, s.n, &n)) {
        size_t length = kt_b64url_encode(bytes, n, coded);
        insist(kt_str_eq(s, (struct kt_str){ coded, length }));
    }
}

static void
check_scopes(struct kt_str s, struct kt_arena *arena)
{
    struct kt_str message, list[] = { s, KT_LIT("read:*") };
    insist(scope_grants(list, 1, s));
    insist(scope_list_check(&scope_modules_default, list, 2, arena, &message) ==
           scope_is_valid(&scope_modules_default, s));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kt_str s = { (const char *)data, size };
    struct kt_arena arena;
    kt_arena_init(&arena, 1 << 20);
    check_token(s);
    check_numbers(s);
    check_texts(s, &arena);
    check_scopes(s, &arena);
    kt_arena_done(&arena);
    return 0;
}
