/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/index.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { NOW = 1000000 };

/* A digest that stands for number n: spread like a real one, and without repetition. */
static const unsigned char *
digest_of(uint64_t n, unsigned char out[INDEX_DIGEST_BYTES])
{
    static const unsigned char key[crypto_shorthash_siphashx24_KEYBYTES] = { 7 };
    crypto_shorthash_siphashx24(out, (const unsigned char *)&n, sizeof(n), key);
    memset(out + INDEX_KEPT_BYTES, (int)n, INDEX_DIGEST_BYTES - INDEX_KEPT_BYTES);
    return out;
}

#define D(n) digest_of((n), (unsigned char[INDEX_DIGEST_BYTES]){ 0 })

static struct uuid
id_of(uint64_t n)
{
    struct uuid id = { { 0 } };
    memcpy(id.b + 8, &n, sizeof(n));
    return id;
}

static uint32_t
account(struct index *index, uint64_t n, uint32_t epoch)
{
    uint32_t number;
    struct uuid id = id_of(n), org = id_of(99);
    const struct index_account_text text = { KT_LIT("org_x"), KT_LIT("ci"), KT_LIT("ksa_x"),
                                             KT_LIT("CI/CD") };
    assert_int_equal(index_account_put(index, &id, &org, &text, epoch, &number), INDEX_OK);
    return number;
}

static uint32_t
scopes(struct index *index)
{
    uint32_t number;
    const struct kt_str list[] = { KT_LIT("read:tokens"), KT_LIT("write:tokens") };
    assert_int_equal(index_scopes_put(index, list, 2, &number), INDEX_OK);
    return number;
}

static struct index_token
token(uint64_t n, uint32_t account_number, uint32_t scopes_number)
{
    return (struct index_token){ .id = id_of(n), .account = account_number,
                                 .scopes = scopes_number };
}

/* An index with account 0, scopes 0, and tokens 0 to n - 1. */
static struct index *
filled(uint64_t n)
{
    struct index *index = index_new(NULL, NULL);
    assert_non_null(index);
    assert_int_equal(account(index, 1, 0), 0);
    assert_int_equal(scopes(index), 0);
    for (uint64_t i = 0; i < n; i++) {
        struct index_token t = token(i, 0, 0);
        assert_int_equal(index_add(index, D(i), &t), INDEX_OK);
    }
    return index;
}

static void
test_hit(void **state)
{
    (void)state;
    struct index *index = filled(3);
    struct index_hit hit;
    for (uint64_t i = 0; i < 3; i++) {
        struct uuid id = id_of(i), owner = id_of(1), org = id_of(99);
        assert_int_equal(index_find(index, D(i), NOW, &hit), INDEX_LIVE);
        assert_int_equal(uuid_compare(&hit.record->token, &id), 0);
        assert_int_equal(uuid_compare(&hit.account->id, &owner), 0);
        assert_int_equal(uuid_compare(&hit.account->org, &org), 0);
        assert_true(kt_str_is(hit.text->org_ext, "org_x") && kt_str_is(hit.text->slug, "ci") &&
                    kt_str_is(hit.text->ext_id, "ksa_x") && kt_str_is(hit.text->name, "CI/CD"));
        assert_int_equal(hit.scopes->list.n, 2);
        assert_true(kt_str_is(hit.scopes->list.v[1], "write:tokens"));
        assert_true(kt_str_is(hit.scopes->json, "[\"read:tokens\",\"write:tokens\"]"));
        assert_true(kt_str_is(hit.scopes->msgpack, "\x92\xabread:tokens\xacwrite:tokens"));
    }
    assert_int_equal(index_find(index, D(3), NOW, &hit), INDEX_UNKNOWN);
    assert_int_equal(index_find(index, D(0), NOW, NULL), INDEX_LIVE);
    index_free(index);
    index_free(NULL);
}

/* Each of the sixteen bytes counts; those behind them do not. */
static void
test_every_kept_byte_counts(void **state)
{
    (void)state;
    struct index *index = filled(1);
    unsigned char digest[INDEX_DIGEST_BYTES];
    for (size_t i = 0; i < INDEX_DIGEST_BYTES; i++) {
        for (int bit = 0; bit < 8; bit++) {
            digest_of(0, digest);
            digest[i] = (unsigned char)(digest[i] ^ 1 << bit);
            assert_int_equal(index_find(index, digest, NOW, NULL),
                             i < INDEX_KEPT_BYTES ? INDEX_UNKNOWN : INDEX_LIVE);
        }
    }
    index_free(index);
}

static void
test_revoke_and_expiry(void **state)
{
    (void)state;
    struct index *index = filled(2);
    struct index_hit hit = { .record = NULL };
    assert_int_equal(index_set_expiry(index, D(0), NOW), INDEX_OK);
    assert_int_equal(index_find(index, D(0), NOW - 1, NULL), INDEX_LIVE);
    assert_int_equal(index_find(index, D(0), NOW, NULL), INDEX_EXPIRED);
    assert_int_equal(index_find(index, D(0), NOW + 1, &hit), INDEX_EXPIRED);
    assert_non_null(hit.record);
    /* What one was told first may have been said last: the earlier end holds. */
    const int64_t later[] = { 0, NOW + 1, INT64_MAX };
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        assert_int_equal(index_set_expiry(index, D(0), later[i]), INDEX_OK);
        assert_int_equal(index_find(index, D(0), NOW, NULL), INDEX_EXPIRED);
    }
    assert_int_equal(index_set_expiry(index, D(0), NOW - 1), INDEX_OK);
    assert_int_equal(index_find(index, D(0), NOW - 1, NULL), INDEX_EXPIRED);

    assert_int_equal(index_revoke(index, D(0)), INDEX_OK);
    assert_int_equal(index_find(index, D(0), NOW - 2, NULL), INDEX_REVOKED);
    assert_int_equal(index_find(index, D(1), NOW, NULL), INDEX_LIVE);
    assert_int_equal(index_set_expiry(index, D(0), INT64_MAX), INDEX_OK);
    assert_int_equal(index_find(index, D(0), NOW - 2, NULL), INDEX_REVOKED);
    assert_int_equal(index_revoke(index, D(0)), INDEX_OK);
    assert_int_equal(index_revoke(index, D(2)), INDEX_ABSENT);
    assert_int_equal(index_set_expiry(index, D(2), 1), INDEX_ABSENT);

    struct index_token t = token(7, 0, 0);
    t.revoked = true;
    t.expires_ms = 1;
    assert_int_equal(index_add(index, D(7), &t), INDEX_OK);
    assert_int_equal(index_find(index, D(7), NOW, NULL), INDEX_REVOKED);
    index_free(index);
}

static void
test_adding_again_revives_nothing(void **state)
{
    (void)state;
    struct index *index = filled(1);
    struct index_token t = token(5, 0, 0);
    index_revoke(index, D(0));
    assert_int_equal(index_add(index, D(0), &t), INDEX_PRESENT);
    assert_int_equal(index_find(index, D(0), NOW, NULL), INDEX_REVOKED);
    index_free(index);
}

static void
test_epochs(void **state)
{
    (void)state;
    struct index *index = filled(1);
    uint32_t other = account(index, 2, 5);
    struct index_token t = token(1, other, 0);
    for (uint32_t epoch = 4; epoch <= 6; epoch++) {
        t.epoch = epoch;
        assert_int_equal(index_add(index, D(epoch), &t), INDEX_OK);
    }
    assert_int_equal(index_find(index, D(4), NOW, NULL), INDEX_REVOKED);
    assert_int_equal(index_find(index, D(5), NOW, NULL), INDEX_LIVE);
    index_account_set_epoch(index, other, 6);
    assert_int_equal(index_find(index, D(5), NOW, NULL), INDEX_REVOKED);
    assert_int_equal(index_find(index, D(6), NOW, NULL), INDEX_LIVE);
    index_account_set_epoch(index, other, 5);
    assert_int_equal(index_find(index, D(5), NOW, NULL), INDEX_REVOKED);
    index_account_end(index, other, 7);
    assert_int_equal(index_find(index, D(6), NOW, NULL), INDEX_REVOKED);
    t.epoch = 7;
    assert_int_equal(index_add(index, D(7), &t), INDEX_OK);
    assert_int_equal(index_find(index, D(7), NOW, NULL), INDEX_REVOKED);
    assert_int_equal(index_find(index, D(0), NOW, NULL), INDEX_LIVE);
    index_free(index);
}

static void
test_accounts(void **state)
{
    (void)state;
    struct index *index = filled(1);
    struct index_hit hit;
    uint32_t number = 42;
    struct uuid id = id_of(1), unknown = id_of(12345), org = id_of(98);
    struct index_account_text text = { KT_LIT("org_y"), KT_LIT("cd"), KT_LIT("ksa_y"),
                                       { NULL, 0 } };
    assert_int_equal(index_account_put(index, &id, &org, &text, 9, &number), INDEX_PRESENT);
    assert_int_equal(number, 0);
    index_find(index, D(0), NOW, &hit);
    assert_true(kt_str_is(hit.text->slug, "ci"));
    assert_false(index_account_find(index, &unknown, &number));
    for (uint32_t i = 1; i < 10000; i++)
        assert_int_equal(account(index, i + 1, 0), i);
    for (uint32_t i = 0; i < 10000; i++) {
        struct uuid wanted = id_of(i + 1);
        assert_true(index_account_find(index, &wanted, &number) && number == i);
        assert_int_equal(uuid_compare(&index_account_at(index, i)->id, &wanted), 0);
    }
    assert_int_equal(index_account_rename(index, 0, &text), INDEX_OK);
    index_find(index, D(0), NOW, &hit);
    assert_true(kt_str_is(hit.text->slug, "cd") && hit.text->name.p == NULL);
    index_free(index);
}

static void
test_text_limit(void **state)
{
    (void)state;
    struct index *index = filled(1);
    static char big[INDEX_TEXT_MAX + 1];
    uint32_t number;
    struct uuid id = id_of(7);
    size_t most = INDEX_TEXT_MAX - sizeof(struct index_account_text) - 4;
    for (size_t n = most - 1; n <= most + 1; n++) {
        struct index_account_text text = { { "", 0 }, { "", 0 }, { "", 0 }, { big, n } };
        assert_int_equal(index_account_rename(index, 0, &text),
                         n <= most ? INDEX_OK : INDEX_NO_MEMORY);
    }
    struct index_account_text text = { { big, INDEX_TEXT_MAX }, { "", 0 }, { "", 0 }, { "", 0 } };
    assert_int_equal(index_account_put(index, &id, &id, &text, 0, &number), INDEX_NO_MEMORY);
    memset(big, 'x', sizeof(big));
    for (size_t n = INDEX_TEXT_MAX - 1; n <= INDEX_TEXT_MAX + 1; n++) {
        struct kt_str list[] = { { big, n } };
        assert_int_equal(index_scopes_put(index, list, 1, &number),
                         n <= INDEX_TEXT_MAX ? INDEX_OK : INDEX_NO_MEMORY);
    }
    index_free(index);
}

static void
test_scope_lists(void **state)
{
    (void)state;
    struct index *index = filled(0);
    uint32_t a, b, number;
    const struct kt_str ab[] = { KT_LIT("a"), KT_LIT("b") }, ba[] = { KT_LIT("b"), KT_LIT("a") };
    const struct kt_str one[] = { KT_LIT("ab") };
    assert_int_equal(index_scopes_put(index, ab, 2, &a), INDEX_OK);
    assert_int_equal(index_scopes_put(index, ba, 2, &b), INDEX_OK);
    assert_int_not_equal(a, b);
    assert_int_equal(index_scopes_put(index, ab, 2, &number), INDEX_OK);
    assert_int_equal(number, a);
    assert_int_equal(index_scopes_put(index, one, 1, &number), INDEX_OK);
    assert_true(number != a && number != b);
    assert_int_equal(index_scopes_put(index, NULL, 0, &number), INDEX_OK);
    assert_true(kt_str_is(index_scopes_at(index, number)->json, "[]"));
    assert_true(kt_str_is(index_scopes_at(index, number)->msgpack, "\x90"));
    assert_int_equal(index_scopes_at(index, number)->list.has, KT_SET);

    const struct kt_str odd[] = { KT_LIT("a\"\\\n") };
    index_scopes_put(index, odd, 1, &number);
    assert_true(kt_str_is(index_scopes_at(index, number)->json, "[\"a\\u0022\\u005c\\u000a\"]"));

    struct index_stats stats;
    for (uint32_t i = 0; i < 5000; i++) {
        char name[16];
        struct kt_str list[] = { { name, (size_t)sprintf(name, "read:%u", i) } };
        assert_int_equal(index_scopes_put(index, list, 1, &number), INDEX_OK);
    }
    index_stats(index, &stats);
    assert_int_equal(stats.scope_lists, 1 + 2 + 1 + 1 + 1 + 5000);
    index_free(index);
}

/* The heads of MessagePack change at 16 elements, and at 32 and 256 bytes. */
static void
test_msgpack_heads(void **state)
{
    (void)state;
    struct index *index = filled(0);
    uint32_t number;
    char text[300];
    struct kt_str list[16];
    memset(text, 'x', sizeof(text));
    for (size_t i = 0; i < 16; i++)
        list[i] = (struct kt_str){ text, 1 };
    index_scopes_put(index, list, 15, &number);
    assert_memory_equal(index_scopes_at(index, number)->msgpack.p, "\x9f\xa1x\xa1x", 5);
    index_scopes_put(index, list, 16, &number);
    assert_memory_equal(index_scopes_at(index, number)->msgpack.p, "\xdc\x00\x10\xa1x", 5);
    assert_int_equal(index_scopes_at(index, number)->msgpack.n, 3 + 32);
    static const struct {
        size_t n, head;
        const char *bytes;
    } cases[] = { { 31, 2, "\x91\xbf" }, { 32, 3, "\x91\xd9\x20" }, { 255, 3, "\x91\xd9\xff" },
                  { 256, 4, "\x91\xda\x01\x00" } };
    for (size_t i = 0; i < 4; i++) {
        list[0].n = cases[i].n;
        index_scopes_put(index, list, 1, &number);
        struct kt_str m = index_scopes_at(index, number)->msgpack;
        assert_memory_equal(m.p, cases[i].bytes, cases[i].head);
        assert_int_equal(m.n, cases[i].head + cases[i].n);
    }
    index_free(index);
}

static size_t retired;

static void
count_and_free(void *ctx, void *memory)
{
    assert_ptr_equal(ctx, &retired);
    retired++;
    free(memory);
}

static void
test_growth(void **state)
{
    (void)state;
    struct index *index = index_new(count_and_free, &retired);
    struct index_stats stats;
    retired = 0;
    account(index, 1, 0);
    scopes(index);
    for (uint64_t i = 0; i < 100000; i++) {
        struct index_token t = token(i, 0, 0);
        assert_int_equal(index_add(index, D(i), &t), INDEX_OK);
        if (i % 3 == 0)
            index_revoke(index, D(i));
    }
    index_stats(index, &stats);
    assert_int_equal(stats.records, 100000);
    assert_true(stats.slots * 60 / 100 >= 100000);
    assert_true(stats.growths > 3 && stats.growths == retired);
    for (uint64_t i = 0; i < 100000; i++)
        assert_int_equal(index_find(index, D(i), NOW, NULL),
                         i % 3 == 0 ? INDEX_REVOKED : INDEX_LIVE);
    for (uint64_t i = 100000; i < 200000; i++)
        assert_int_equal(index_find(index, D(i), NOW, NULL), INDEX_UNKNOWN);
    index_free(index);
}

static void
test_reserve(void **state)
{
    (void)state;
    struct index *index = filled(0);
    struct index_stats before, after;
    assert_int_equal(index_reserve(index, 70000), INDEX_OK);
    index_stats(index, &before);
    for (uint64_t i = 0; i < 70000; i++) {
        struct index_token t = token(i, 0, 0);
        assert_int_equal(index_add(index, D(i), &t), INDEX_OK);
    }
    index_stats(index, &after);
    assert_int_equal(before.slots, after.slots);
    assert_true(before.bytes == after.bytes);
    assert_int_equal(index_reserve(index, (size_t)INDEX_RECORDS_MAX + 1), INDEX_NO_MEMORY);
    assert_int_equal(index_reserve(index, SIZE_MAX), INDEX_NO_MEMORY);
    index_free(index);
}

/* Adding and removing for ever takes no more memory than the most that lived at once. */
static void
test_remove(void **state)
{
    (void)state;
    struct index *index = filled(100);
    struct index_stats before, after;
    assert_int_equal(index_remove(index, D(5)), INDEX_OK);
    assert_int_equal(index_remove(index, D(5)), INDEX_ABSENT);
    assert_int_equal(index_find(index, D(5), NOW, NULL), INDEX_UNKNOWN);
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(index_find(index, D(i), NOW, NULL), i == 5 ? INDEX_UNKNOWN : INDEX_LIVE);
    index_stats(index, &before);
    for (uint64_t i = 100; i < 100000; i++) {
        struct index_token t = token(i, 0, 0);
        assert_int_equal(index_add(index, D(i), &t), INDEX_OK);
        assert_int_equal(index_remove(index, D(i)), INDEX_OK);
        index_quiesced(index);
    }
    index_stats(index, &after);
    assert_int_equal(after.records, 99);
    assert_int_equal(before.bytes, after.bytes);
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(index_find(index, D(i), NOW, NULL), i == 5 ? INDEX_UNKNOWN : INDEX_LIVE);
    index_free(index);
}

/* A record may be looked at until the second quiescent point after its removal. */
static void
test_removed_records_rest(void **state)
{
    (void)state;
    struct index *index = filled(1);
    struct index_hit hit, other;
    struct index_token t = token(8, 0, 0);
    index_find(index, D(0), NOW, &hit);
    index_remove(index, D(0));
    index_quiesced(index);
    index_add(index, D(8), &t);
    index_find(index, D(8), NOW, &other);
    assert_ptr_not_equal(other.record, hit.record);
    index_quiesced(index);
    index_add(index, D(9), &t);
    index_find(index, D(9), NOW, &other);
    assert_ptr_equal(other.record, hit.record);
    index_free(index);
}

static void
test_touch(void **state)
{
    (void)state;
    struct index *index = filled(1);
    struct index_hit hit;
    index_find(index, D(0), NOW, &hit);
    assert_true(index_touch(&hit, 1000));
    assert_false(index_touch(&hit, 1000));
    assert_false(index_touch(&hit, 1059));
    assert_false(index_touch(&hit, 900));
    assert_true(index_touch(&hit, 1060));
    assert_int_equal(hit.record->last_used, 1060);
    index_free(index);
}

/* One writer, two readers. A quiescent point of a reader is the end of a round. */

enum { READERS = 2, RETIRED_MAX = 64 };

static struct {
    struct index *index;
    atomic_uint_fast64_t added;   /* tokens below this are there */
    atomic_uint_fast64_t revoked; /* those below this are revoked */
    atomic_uint_fast64_t round[READERS];
    atomic_bool stop;
    void *retired[RETIRED_MAX];
    size_t nretired;
} shared;

static void
wait_for_readers(void)
{
    uint64_t before[READERS];
    for (size_t i = 0; i < READERS; i++)
        before[i] = atomic_load(&shared.round[i]);
    for (size_t i = 0; i < READERS; i++) {
        /* Two: the first may have been under way already. */
        while (atomic_load(&shared.round[i]) < before[i] + 2)
            sched_yield();
    }
}

static void
keep(void *ctx, void *memory)
{
    (void)ctx;
    if (shared.nretired == RETIRED_MAX) {
        wait_for_readers();
        while (shared.nretired > 0)
            free(shared.retired[--shared.nretired]);
    }
    shared.retired[shared.nretired++] = memory;
}

/* cmocka's own way to fail leads back to main(), which only its thread may take. */
#define die(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), abort())

static void
read_round(uint64_t *random)
{
    for (int i = 0; i < 200; i++) {
        struct index_hit hit;
        uint64_t revoked = atomic_load(&shared.revoked), added = atomic_load(&shared.added);
        *random = *random * 6364136223846793005U + 1442695040888963407U;
        uint64_t n = (*random >> 33) % (added + 10);
        if (i % 2 == 0)
            n = added; /* the one that is being added now: only the index itself publishes it */
        index_prefetch(shared.index, D(n));
        index_prefetch_record(shared.index, D(n));
        enum index_verdict verdict = index_find(shared.index, D(n), NOW, &hit);
        if (n < revoked && verdict != INDEX_REVOKED)
            die("token %ju is accepted after its revocation", (uintmax_t)n);
        if (n < added && verdict == INDEX_UNKNOWN)
            die("token %ju is unknown after it was added", (uintmax_t)n);
        if (verdict == INDEX_LIVE) {
            struct uuid id = id_of(n);
            if (uuid_compare(&hit.record->token, &id) != 0 || hit.text->name.p[0] != 'n' ||
                hit.scopes->list.n != 2)
                die("token %ju is another", (uintmax_t)n);
            index_touch(&hit, (uint32_t)n);
        }
    }
}

static void *
reader(void *number)
{
    size_t me = (size_t)(uintptr_t)number;
    uint64_t random = me;
    while (!atomic_load(&shared.stop)) {
        read_round(&random);
        atomic_fetch_add(&shared.round[me], 1);
    }
    /* Nobody waits for a reader that is gone. */
    atomic_store(&shared.round[me], UINT64_MAX / 2);
    return NULL;
}

static void
write_step(uint64_t i)
{
    struct index_token t = token(i, 0, 0);
    unsigned char passing[INDEX_DIGEST_BYTES];
    if (index_add(shared.index, D(i), &t) != INDEX_OK)
        fail_msg("token %ju cannot be added", (uintmax_t)i);
    atomic_store(&shared.added, i + 1);
    if (i % 3 == 0) {
        index_revoke(shared.index, D(i / 3));
        atomic_store(&shared.revoked, i / 3 + 1);
    }
    /* Tokens that come and go, so that records are used again under the readers' eyes. */
    digest_of(UINT64_C(1) << 40 | i, passing);
    if (i % 7 == 0 && index_add(shared.index, passing, &t) == INDEX_OK)
        index_remove(shared.index, passing);
    if (i % 1000 == 0) {
        const struct index_account_text text = { KT_LIT("o"), KT_LIT("s"), KT_LIT("e"),
                                                 KT_LIT("new name") };
        index_account_rename(shared.index, 0, &text);
        wait_for_readers();
        index_quiesced(shared.index);
    }
}

static void
test_readers_beside_the_writer(void **state)
{
    (void)state;
    pthread_t threads[READERS];
    const struct index_account_text text = { KT_LIT("o"), KT_LIT("s"), KT_LIT("e"),
                                             KT_LIT("name") };
    struct uuid id = id_of(1);
    uint32_t number;
    shared.index = index_new(keep, NULL);
    index_account_put(shared.index, &id, &id, &text, 0, &number);
    scopes(shared.index);
    for (size_t i = 0; i < READERS; i++)
        pthread_create(&threads[i], NULL, reader, (void *)(uintptr_t)i);
    for (uint64_t i = 0; i < 30000; i++)
        write_step(i);
    atomic_store(&shared.stop, true);
    for (size_t i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);

    struct index_stats stats;
    index_stats(shared.index, &stats);
    assert_int_equal(stats.records, 30000);
    assert_true(stats.growths > 3);
    while (shared.nretired > 0)
        free(shared.retired[--shared.nretired]);
    index_free(shared.index);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hit),
        cmocka_unit_test(test_every_kept_byte_counts),
        cmocka_unit_test(test_revoke_and_expiry),
        cmocka_unit_test(test_adding_again_revives_nothing),
        cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_accounts),
        cmocka_unit_test(test_text_limit),
        cmocka_unit_test(test_scope_lists),
        cmocka_unit_test(test_msgpack_heads),
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_removed_records_rest),
        cmocka_unit_test(test_touch),
        cmocka_unit_test(test_readers_beside_the_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
