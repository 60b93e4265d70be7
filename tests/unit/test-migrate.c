/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A store of format 1 or 2 becomes one of format 3, whenever that is interrupted. */
#include "config.h"

#include "daemon/export.h"
#include "daemon/model/format.h"
#include "daemon/model/token_row.h"
#include "daemon/model/verdict.h"
#include "tests/tools/format1.h"
#include "tests/unit/one-core.h"

#include <sys/mman.h>

enum { TOKENS = 150, LONG_NAME = 250 };

static struct account_record account;
static const struct kt_str scopes[] = { KT_LIT("read:instances"), KT_LIT("write:harvest") };
static const struct kt_str format_key = KT_LIT("mformat");

static void
begin(void)
{
    open_one(NULL);
    account = (struct account_record){ .id = uuid_v7(call.now_ms), .org = uuid_v7(1), .epoch = 1 };
}

/* --- as format 1 was ---------------------------------------------------------------------- */

static struct kt_str
old_token(const struct token_record *t)
{
    return format1_token(&arena, t, t->key != 0);
}

static struct verdict_record
verdict_of(const struct token_record *t)
{
    return (struct verdict_record){
        .org = account.org,
        .account = t->account,
        .token = t->id,
        .expires_ms = t->expires_ms,
        .epoch = t->epoch,
        .revoked = t->revoked_ms != 0,
        .key = t->key,
        .scopes = t->scopes,
        .nscopes = t->nscopes,
    };
}

static struct kt_str
old_verdict(const struct token_record *t)
{
    const struct verdict_record v = verdict_of(t);
    return format1_verdict(&arena, &v, t->key != 0);
}

static struct kt_str
old_claim(const struct token_record *t, char kind)
{
    return format1_claim(&arena, &account.org, t, kind);
}

/* Every third one is revoked, and its name is the next one's. */
static bool
is_revoked(size_t i)
{
    return i % 3 == 0;
}

static struct kt_str
name_of(size_t i)
{
    char text[LONG_NAME + 1];
    memset(text, 'x', sizeof text);
    int n = snprintf(text, sizeof text, "Name of token %zu", is_revoked(i) ? i + 1 : i);
    text[n] = i % 10 == 1 ? 'x' : '\0'; /* some are longer than a key */
    text[LONG_NAME] = '\0';
    return kt_arena_str(&arena, kt_str(text));
}

static struct token_record
token_of(size_t i)
{
    struct token_record t = {
        .id = { { 0x01, 0x9a, 0, 0, 0, (unsigned char)i, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1 } },
        .account = account.id,
        .name = name_of(i),
        .scopes = scopes,
        .nscopes = i % 3,
        .created_by = { .name = i % 7 ? KT_LIT("ann") : (struct kt_str){ NULL, 0 } },
        .expires_ms = i % 4 ? 0 : 1795701600000 + (int64_t)i,
        .epoch = (uint32_t)(1 + i % 2),
        .has_old = i % 5 == 0,
        .key = i % 2 ? 0xfedcba98 : 0, /* known from the second form of the rows on */
        .nformer = i % 4 == 3 ? 2 : 0,
    };
    t.slug = i % 2 ? t.name : kt_arena_printf(&arena, "slug-of-%zu", i);
    t.created_ms = uuid_time_ms(&t.id);
    memset(t.digest, (int)i, sizeof t.digest);
    t.digest[1] = 0;
    for (size_t k = 0; k < t.nformer; k++) {
        memset(t.former[k].digest, (int)(0xa0 + k), sizeof t.former[k].digest);
        t.former[k].old = k == 1;
    }
    if (is_revoked(i)) {
        t.revoked_ms = 1795701600123;
        t.revoked_by = (struct actor){ .id = t.id, .name = KT_LIT("bob") };
    }
    if (t.has_old) {
        memset(t.old_digest, 0xf0, sizeof t.old_digest);
        t.old_expires_ms = 77;
    }
    return t;
}

static void
apply(struct batch *b)
{
    char why[128];
    struct kaiten_outcome outcome;
    assert_false(b->failed);
    assert_int_equal(store_apply(core.svc.store, &b, 1, &outcome, why, sizeof why), 0);
    assert_int_equal(outcome.status, KAITEN_DONE);
}

static void
put_format(const char text[static 4])
{
    char row[12] = { 0 };
    struct batch *b = batch_new(&arena);
    memcpy(row, text, 4);
    batch_set(b, format_key, kt_arena_str(&arena, (struct kt_str){ row, sizeof row }));
    apply(b);
}

static void
put_old_store(void)
{
    struct batch *b;
    put_format("\0\0\0\1");
    for (size_t i = 0; i < TOKENS; i++) {
        struct token_record t = token_of(i);
        struct kt_str id = kt_arena_str(&arena, (struct kt_str){ (const char *)t.id.b, 16 });
        b = batch_new(&arena);
        batch_set(b, token_row_key(&arena, &account.org, &account.id, &t.id), old_token(&t));
        batch_set(b, token_row_digest(&arena, t.digest), old_verdict(&t));
        batch_set(b, old_claim(&t, 's'), id);
        if (!is_revoked(i))
            batch_set(b, old_claim(&t, 'n'), id);
        apply(b);
    }
}

/* --- as format 2 was ---------------------------------------------------------------------- */

static struct kt_str
verdict_2(const struct token_record *t)
{
    const struct verdict_record v = verdict_of(t);
    return verdict_encode(&arena, &v);
}

static struct kt_str
claim_2(const struct token_record *t, char kind)
{
    return token_row_claim_2(&arena, &account.org, &account.id, kind == 's' ? t->slug : t->name,
                             kind);
}

/* From one of format 1, every nth token. */
static void
bring_to_2(size_t nth)
{
    for (size_t i = 0; i < TOKENS; i += nth) {
        struct token_record t = token_of(i);
        struct kt_str id = kt_arena_str(&arena, (struct kt_str){ (const char *)t.id.b, 16 });
        struct batch *b = batch_new(&arena);
        batch_set(b, token_row_key(&arena, &account.org, &account.id, &t.id),
                  token_row_encode(&arena, &t));
        batch_set(b, token_row_digest(&arena, t.digest), verdict_2(&t));
        batch_delete(b, old_claim(&t, 's'));
        batch_set(b, claim_2(&t, 's'), id);
        if (!is_revoked(i)) {
            batch_delete(b, old_claim(&t, 'n'));
            batch_set(b, claim_2(&t, 'n'), id);
        }
        apply(b);
    }
}

static void
put_store_of_2(void)
{
    put_old_store();
    bring_to_2(1);
    put_format("\0\0\0\2");
}

/* As long as such stores may come, no byte of it may change. */
static void
the_place_of_a_claim_in_format_2_is_known(void **state)
{
    (void)state;
    const struct uuid org = { "ORGANIZATION...1" }, id = { "ACCOUNT........2" };
    static const unsigned char known[17] = {
        0x63, 0x2e, 0x2e, 0x2e, 0x32, 0xda, 0x94, 0xce, 0x93,
        0x7f, 0x2d, 0x14, 0x79, 0x56, 0x64, 0x78, 0x64
    };
    begin();
    struct kt_str key = token_row_claim_2(&arena, &org, &id, KT_LIT("Deploy to staging"), 'n');
    assert_int_equal(key.n, sizeof known);
    assert_memory_equal(key.p, known, sizeof known);
    teardown(NULL);
}

/* --- as it is now ------------------------------------------------------------------------- */

static void
assert_token(size_t i)
{
    struct token_record t = token_of(i), got;
    struct verdict_record v;
    struct store_row row, holder;
    struct uuid id;
    assert_int_equal(token_load(&call, &account, t.slug, &got, &row), KT_OK);
    assert_int_equal(uuid_compare(&got.id, &t.id), 0);
    assert_int_equal(uuid_compare(&got.account, &t.account), 0);
    assert_true(kt_str_eq(got.name, t.name) && kt_str_eq(got.slug, t.slug));
    assert_true(got.created_ms == t.created_ms && got.expires_ms == t.expires_ms);
    assert_true(got.revoked_ms == t.revoked_ms && got.epoch == t.epoch);
    assert_true(kt_str_eq(got.created_by.name, t.created_by.name));
    assert_true(kt_str_eq(got.revoked_by.name, t.revoked_by.name));
    assert_int_equal(got.nscopes, t.nscopes);
    for (size_t k = 0; k < t.nscopes; k++)
        assert_true(kt_str_eq(got.scopes[k], t.scopes[k]));
    assert_memory_equal(got.digest, t.digest, sizeof t.digest);
    assert_int_equal(got.has_old, t.has_old);
    assert_memory_equal(got.old_digest, t.old_digest, sizeof t.old_digest);
    assert_true(got.old_expires_ms == t.old_expires_ms && got.key == t.key);
    assert_int_equal(got.nformer, t.nformer);
    assert_memory_equal(got.former, t.former, sizeof t.former);

    struct kt_str key = token_row_digest(&arena, t.digest);
    assert_int_equal(store_get(&call, core.svc.store, &key, 1, &row), KT_OK);
    assert_true(verdict_decode(&arena, row.value, &v));
    assert_int_equal(uuid_compare(&v.org, &account.org), 0);
    assert_int_equal(uuid_compare(&v.token, &t.id), 0);
    assert_true(v.expires_ms == t.expires_ms && v.epoch == t.epoch && v.nscopes == t.nscopes);
    assert_true(v.key == t.key);
    assert_int_equal(v.revoked, is_revoked(i));
    if (is_revoked(i))
        return;
    key = token_row_claim(&arena, &account.org, &account.id, t.name, 'n');
    assert_int_equal(token_row_holder(&call, key, &holder, &id), KT_OK);
    assert_int_equal(uuid_compare(&id, &t.id), 0);
}

static int
count_row(void *ctx, const struct store_row *row)
{
    assert_int_equal(row->key.n, 19);
    ++*(size_t *)ctx;
    return KT_OK;
}

static void
assert_new_store(void)
{
    size_t claims = 0;
    struct store_row row;
    account.epoch = 1; /* of the tokens, none has ended with its epoch */
    for (size_t i = 0; i < TOKENS; i++)
        assert_token(i);
    const struct store_range range = { KT_LIT("c"), KT_LIT("d"), false, 0 };
    assert_int_equal(store_scan(&call, core.svc.store, &range, count_row, &claims), KT_OK);
    assert_int_equal(claims, TOKENS + TOKENS - TOKENS / 3);
    assert_int_equal(store_get(&call, core.svc.store, &format_key, 1, &row), KT_OK);
    assert_memory_equal(row.value.p, "\0\0\0\3", 4);
}

static size_t applies_left;

static void
count_down(struct disk *disk)
{
    if (applies_left == 0)
        disk_fail(disk, KAITEN_FAILED, KAITEN_FAILED, 0, -1);
    else
        applies_left--;
}

/* Whatever is let through, from nothing to all but the number, the next start does the rest. */
static void
interrupt(void (*put)(void), size_t applies)
{
    for (size_t let = 0;; let++) {
        begin();
        put();
        core.disk->before_apply = count_down;
        applies_left = let;
        int status = format_check(&call, "key");
        core.disk->before_apply = NULL;
        disk_mend(core.disk);
        if (status != KT_OK)
            assert_int_equal(format_check(&call, "key"), KT_OK);
        assert_new_store();
        teardown(NULL);
        if (status == KT_OK) {
            assert_int_equal(let, applies);
            return;
        }
    }
}

enum { PIECES = (TOKENS + 63) / 64 };

static void
an_interruption_is_made_good(void **state)
{
    (void)state;
    interrupt(put_old_store, 2 * PIECES + 1);
    interrupt(put_store_of_2, PIECES + 1);
}

/* Version 2 had begun with it. */
static void
put_half_of_2(void)
{
    put_old_store();
    bring_to_2(2);
}

static void
what_version_2_had_begun_is_finished(void **state)
{
    (void)state;
    interrupt(put_half_of_2, 3 * PIECES + 1);
}

static void
what_is_new_is_left_alone(void **state)
{
    (void)state;
    begin();
    put_old_store();
    assert_int_equal(format_check(&call, "key"), KT_OK);
    size_t batches = atomic_load(&core.disk->batches);
    assert_int_equal(format_check(&call, "key"), KT_OK);
    assert_int_equal(atomic_load(&core.disk->batches), batches);
    teardown(NULL);
}

/* Without memory the start fails; it never goes on without the number. */
static void
no_store_goes_without_its_number(void **state)
{
    (void)state;
    int status = KT_INTERNAL;
    begin();
    const size_t cap = arena.cap;
    for (size_t room = 0; status != KT_OK; room += 8) {
        struct store_row row;
        kt_arena_reset(&arena);
        arena.cap = room;
        status = format_check(&call, "key");
        arena.cap = cap;
        assert_true(status == KT_OK || status == KT_UNAVAILABLE);
        assert_int_equal(store_get(&call, call.svc->store, &format_key, 1, &row), KT_OK);
        assert_int_equal(row.value.p != NULL, status == KT_OK);
    }
    teardown(NULL);
}

/* Once the number says that there are none, a row of format 1 was put there by somebody. */
static void
an_old_row_in_a_new_store_is_refused(void **state)
{
    (void)state;
    struct token_record t = { .nscopes = 0 }, got;
    struct store_row row;
    begin();
    put_old_store();
    assert_int_equal(format_check(&call, "key"), KT_OK);
    t = token_of(2);
    struct batch *b = batch_new(&arena);
    batch_set(b, token_row_key(&arena, &account.org, &account.id, &t.id), old_token(&t));
    apply(b);
    assert_int_equal(token_load(&call, &account, t.slug, &got, &row), KT_INTERNAL);
    teardown(NULL);
}

/* Whoever supervises the daemon starts it again where that may help, and only there. */
static void
what_another_start_does_not_mend_is_told_apart(void **state)
{
    (void)state;
    static const struct kt_str refused[][2] = {
        { KT_LIT("mformat"), KT_LIT("\0\0\0\4\0\0\0\0\0\0\0\0") },
        { KT_LIT(FORMAT_IMPORT_KEY), KT_LIT("half") },
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        begin();
        struct batch *b = batch_new(&arena);
        batch_set(b, refused[i][0], refused[i][1]);
        apply(b);
        assert_int_equal(format_check(&call, "key"), KT_INTERNAL);
        teardown(NULL);
    }
    begin();
    atomic_store(&core.disk->get_says, KAITEN_RETRY);
    assert_int_equal(format_check(&call, "key"), KT_UNAVAILABLE);
    disk_mend(core.disk);
    disk_fail(core.disk, KAITEN_RETRY, KAITEN_RETRY, 0, -1);
    assert_int_equal(format_check(&call, "key"), KT_UNAVAILABLE);
    disk_mend(core.disk);
    assert_int_equal(format_check(&call, "key"), KT_OK);
    teardown(NULL);
}

static int
import_of_format(const char text[static 4], char err[PORTABLE_ERROR_MAX], bool *ret_empty)
{
    uint64_t records;
    struct export_result made;
    begin();
    put_format(text);
    int fd = memfd_create("stream", MFD_CLOEXEC);
    assert_int_equal(export_write(&call, fd, &made), KT_OK);
    assert_int_equal(made.records, 1);
    struct batch *b = batch_new(&arena);
    batch_delete(b, format_key);
    apply(b);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    int status = import_read(&call, fd, &records, err);
    assert_int_equal(store_is_empty(&call, core.svc.store, ret_empty), KT_OK);
    close(fd);
    teardown(NULL);
    return status;
}

/* Otherwise the store would not be empty any more, and no daemon of this version starts with it. */
static void
a_stream_of_a_newer_format_writes_nothing(void **state)
{
    (void)state;
    bool empty;
    char err[PORTABLE_ERROR_MAX];
    assert_int_equal(import_of_format("\0\0\0\3", err, &empty), KT_OK);
    assert_false(empty);
    assert_int_equal(import_of_format("\0\0\0\1", err, &empty), KT_OK);
    assert_int_equal(import_of_format("\0\0\0\4", err, &empty), KT_VALIDATION);
    assert_true(empty);
    assert_non_null(strstr(err, "format"));
    assert_int_equal(import_of_format("\0\0\0\0", err, &empty), KT_VALIDATION);
}

static bool
begin_with_same(size_t n, const char *a, char kind_a, const char *b, char kind_b)
{
    struct kt_str x = token_row_claim(&arena, &account.org, &account.id, kt_str(a), kind_a);
    struct kt_str y = token_row_claim(&arena, &account.org, &account.id, kt_str(b), kind_b);
    assert_int_equal(x.n, y.n);
    assert_memory_not_equal(x.p, y.p, x.n);
    return memcmp(x.p, y.p, n) == 0;
}

static bool
stand_together(const char *a, char kind_a, const char *b, char kind_b)
{
    return begin_with_same(1 + 4 + 4, a, kind_a, b, kind_b);
}

/* One page for both claims of a token, near those whose names begin alike. */
static void
claims_of_a_token_stand_together(void **state)
{
    (void)state;
    begin();
    assert_true(stand_together("t-0123456789abcdef", 's', "t-0123456789abcdef", 'n'));
    assert_true(stand_together("Deploy to Staging!", 'n', "deploy-to-staging", 's'));
    assert_true(stand_together("Deploy to Staging!", 'n', "deploy-to-staging-a1b2c3", 's'));
    assert_true(stand_together("nightly-000123", 'n', "nightly-000123", 's'));
    assert_false(stand_together("nightly-000123", 'n', "nightly-000124", 'n'));
    assert_false(stand_together("t-0123456789abcdef", 'n', "t-0123456789abcdee", 'n'));
    assert_false(stand_together("Deploy to Staging", 'n', "Deploy to Production", 'n'));
    assert_true(begin_with_same(1 + 4 + 2, "nightly-000123", 'n', "nightly-000124", 's'));
    assert_false(begin_with_same(1 + 4 + 2, "nightly-000123", 'n', "weekly-000123", 'n'));
    assert_false(stand_together("nightly-ab012g", 'n', "nightly-ab012h", 'n'));
    teardown(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_another_start_does_not_mend_is_told_apart),
        cmocka_unit_test(a_stream_of_a_newer_format_writes_nothing),
        cmocka_unit_test(the_place_of_a_claim_in_format_2_is_known),
        cmocka_unit_test(an_interruption_is_made_good),
        cmocka_unit_test(what_version_2_had_begun_is_finished),
        cmocka_unit_test(claims_of_a_token_stand_together),
        cmocka_unit_test(what_is_new_is_left_alone),
        cmocka_unit_test(no_store_goes_without_its_number),
        cmocka_unit_test(an_old_row_in_a_new_store_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
