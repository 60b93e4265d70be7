/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/blake2b.h"
#include "daemon/model/digest.h"

#include <errno.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ZEROS "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define ONES "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"

static char folder[64], path[128];

static int
setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/kaiten-digest-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/key", folder);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static void
put_file(const char *text, size_t n, mode_t mode)
{
    unlink(path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

static struct digest_keys *
read_text(const char *text)
{
    struct digest_keys *keys;
    struct digest_error err;
    put_file(text, strlen(text), 0600);
    if (!digest_keys_read(path, &keys, NULL, &err))
        fail_msg("%s", err.text);
    return keys;
}

static void
test_created_once(void **state)
{
    (void)state;
    struct digest_keys *a, *b;
    struct digest_error err;
    struct stat st;
    bool missing = false;
    unlink(path);
    assert_false(digest_keys_read(path, &a, &missing, &err));
    assert_true(missing);
    umask(0);
    if (!digest_keys_create(path, &a, &err))
        fail_msg("%s", err.text);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_size, 13 + 8 + 1 + 43 + 1);
    assert_false(digest_keys_create(path, &b, &err));
    assert_non_null(strstr(err.text, "cannot be made"));

    assert_true(digest_keys_read(path, &b, &missing, &err));
    assert_false(missing);
    assert_int_equal(digest_keys_count(b), 1);
    assert_string_equal(digest_keys_id(a, 0), digest_keys_id(b, 0));
    assert_string_equal(digest_keys_fingerprint(a, 0), digest_keys_fingerprint(b, 0));
    assert_int_equal(strlen(digest_keys_fingerprint(a, 0)), 32);
    digest_keys_free(a);
    digest_keys_free(b);
    digest_keys_free(NULL);

    unlink(path);
    assert_true(digest_keys_create(path, &b, &err));
    digest_keys_free(b);
}

/* The definitions, said a second time with libsodium alone. */
static void
test_digests(void **state)
{
    (void)state;
    struct digest_keys *keys = read_text("kaiten-key-1 k1 " ZEROS "\nkaiten-key-1 k0 " ONES "\n");
    unsigned char master[32] = { 0 }, sub[32], expected[32], got[32];
    struct kt_secret_view token = { "ksh_000000000000000000000000003buKH2", 36 };
    assert_int_equal(digest_keys_count(keys), 2);
    for (size_t i = 0; i < 2; i++) {
        memset(master, (int)i, sizeof(master));
        crypto_kdf_derive_from_key(sub, 32, 1, "kaiten-1", master);
        crypto_generichash(expected, 32, (const unsigned char *)token.p, token.n, sub, 32);
        digest_token_with(keys, i, token, got);
        assert_memory_equal(got, expected, 32);
        if (i == 0) {
            digest_token(keys, token, got);
            assert_memory_equal(got, expected, 32);
        }
        crypto_kdf_derive_from_key(sub, 32, DIGEST_USE_JOURNAL, "kaiten-1", master);
        digest_subkey(keys, i, DIGEST_USE_JOURNAL, got);
        assert_memory_equal(got, sub, 32);
    }
    assert_string_not_equal(digest_keys_fingerprint(keys, 0), digest_keys_fingerprint(keys, 1));
    digest_keys_free(keys);
}

static void
test_record_mac(void **state)
{
    (void)state;
    struct digest_keys *keys = read_text("kaiten-key-1 k1 " ZEROS "\nkaiten-key-1 k0 " ONES "\n");
    static const struct {
        struct kt_str parts[3];
        size_t n;
    } lists[] = {
        { { { "ab", 2 }, { "c", 1 } }, 2 },   { { { "a", 1 }, { "bc", 2 } }, 2 },
        { { { "abc", 3 } }, 1 },              { { { "abc", 3 }, { "", 0 } }, 2 },
        { { { "", 0 }, { "abc", 3 } }, 2 },   { { { NULL, 0 } }, 0 },
        { { { "", 0 } }, 1 },                 { { { "", 0 }, { NULL, 0 } }, 2 },
        { { { "ab", 2 }, { "c", 1 }, { "", 0 } }, 3 },
    };
    enum { N = sizeof(lists) / sizeof(lists[0]) };
    unsigned char macs[N + 1][DIGEST_MAC_BYTES], again[DIGEST_MAC_BYTES];
    for (size_t i = 0; i < N; i++) {
        digest_record_mac(keys, 0, lists[i].parts, lists[i].n, macs[i]);
        digest_record_mac(keys, 0, lists[i].parts, lists[i].n, again);
        assert_true(digest_equal(macs[i], again, sizeof(again)));
    }
    digest_record_mac(keys, 1, lists[0].parts, lists[0].n, macs[N]);
    for (size_t i = 0; i <= N; i++) {
        for (size_t k = 0; k < i; k++)
            assert_false(digest_equal(macs[i], macs[k], DIGEST_MAC_BYTES));
    }
    digest_keys_free(keys);
}

static void
test_find(void **state)
{
    (void)state;
    struct digest_keys *keys = read_text("kaiten-key-1 k1 " ZEROS "\nkaiten-key-1 k0 " ONES "\n");
    size_t i = 42;
    assert_true(digest_keys_find(keys, KT_LIT("k0"), &i) && i == 1);
    assert_true(digest_keys_find(keys, KT_LIT("k1"), &i) && i == 0);
    assert_false(digest_keys_find(keys, KT_LIT("k"), &i));
    assert_string_equal(digest_keys_id(keys, 1), "k0");
    (void)digest_keys_locked(keys);
    digest_keys_free(keys);
}

#define LINE(id) "kaiten-key-1 " id " " ZEROS "\n"

static const struct {
    const char *text, *says; /* NULL: good */
} files[] = {
    { LINE("a"), NULL },
    { LINE("0123456789abcdef"), NULL },
    { LINE("a") LINE("b") LINE("c") LINE("d") LINE("e") LINE("f") LINE("g") LINE("h"), NULL },
    { LINE("a") LINE("b") LINE("c") LINE("d") LINE("e") LINE("f") LINE("g") LINE("h") LINE("i"),
      ":9: too many keys" },
    { "", "empty" },
    { "\n", ":1: not a key" },
    { LINE("a") "\n", ":2: not a key" },
    { "# comment\n" LINE("a"), ":1: not a key" },
    { "kaiten-key-2 a " ZEROS "\n", ":1: not a key" },
    { " " LINE("a"), ":1: not a key" },
    { "kaiten-key-1  a " ZEROS "\n", ":1: malformed id" },
    { LINE("A"), ":1: malformed id" },
    { LINE("0123456789abcdefg"), ":1: malformed id" },
    { "kaiten-key-1 a\n", ":1: malformed key" },
    { "kaiten-key-1 a " ZEROS "A\n", ":1: malformed key" },
    { "kaiten-key-1 a " ZEROS " \n", ":1: malformed key" },
    { "kaiten-key-1 a " ZEROS "\r\n", ":1: malformed key" },
    { "kaiten-key-1 a AAAA\n", ":1: malformed key" },
    { "kaiten-key-1 a AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB\n", ":1: malformed key" },
    { "kaiten-key-1 a AAAAAAAAAAAAAAAAAAAAA+AAAAAAAAAAAAAAAAAAAAA\n", ":1: malformed key" },
    { "kaiten-key-1 a " ZEROS, ":1: the line is cut off" },
    { LINE("a") "kaiten-key-1 b " ONES "\nkaiten-key-1 a " ONES "\n",
      ":3: the id of line 1 again" },
};

static void
test_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        struct digest_keys *keys;
        struct digest_error err = { "" };
        put_file(files[i].text, strlen(files[i].text), 0600);
        bool ok = digest_keys_read(path, &keys, NULL, &err);
        if (ok != (files[i].says == NULL) || (!ok && strstr(err.text, files[i].says) == NULL))
            fail_msg("file %zu: %s", i, ok ? "accepted" : err.text);
        assert_null(strstr(err.text, "AAAAA"));
        if (ok)
            digest_keys_free(keys);
    }
}

static void
refused(const char *says)
{
    struct digest_keys *keys;
    struct digest_error err = { "" };
    bool missing = true;
    assert_false(digest_keys_read(path, &keys, &missing, &err));
    assert_false(missing);
    if (strstr(err.text, says) == NULL)
        fail_msg("%s", err.text);
}

static void
test_kinds_of_file(void **state)
{
    (void)state;
    char other[160], big[1025];
    put_file(LINE("a"), strlen(LINE("a")), 0640);
    refused("mode 0640 is open to others; accepted: 0600; run: chmod 600");
    put_file(LINE("a"), strlen(LINE("a")), 0604);
    refused("mode 0604");
    memset(big, 'x', sizeof(big));
    put_file(big, sizeof(big), 0600);
    refused("accepted: at most 1024");
    put_file(big, sizeof(big) - 1, 0600);
    refused(":1: the line is cut off");

    snprintf(other, sizeof(other), "%s/other", folder);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(symlink(other, path), 0);
    refused("a symbolic link");
    unlink(path);
    unlink(other);
    assert_int_equal(mkfifo(path, 0600), 0);
    refused("not a regular file");
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    refused("not a regular file");
    rmdir(path);
    put_file(LINE("a"), strlen(LINE("a")), 0600);
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 12345, 0), 0);
        refused("owned by uid 12345; run kaitend as that user");
    }
}

/* What a start left behind that ended in the midst of it: not under the name itself. */
static void
test_created_over_a_leftover(void **state)
{
    (void)state;
    char hidden[sizeof(path) + 8];
    struct digest_keys *keys;
    struct digest_error err;
    snprintf(hidden, sizeof(hidden), "%s.new", path);
    put_file("kaiten-key-1 k", 14, 0600);
    assert_int_equal(rename(path, hidden), 0);
    if (!digest_keys_create(path, &keys, &err))
        fail_msg("%s", err.text);
    digest_keys_free(keys);
    assert_int_equal(access(hidden, F_OK), -1);
}

/* For messages of every length, at every alignment, under many keys. */
static void
test_short_digests_are_those_of_libsodium(void **state)
{
    (void)state;
    unsigned char key[BLAKE2B_KEY_BYTES], message[BLAKE2B_MESSAGE_MAX + 8];
    unsigned char ours[BLAKE2B_BYTES], theirs[BLAKE2B_BYTES];
    for (unsigned round = 0; round < 20; round++) {
        struct blake2b_key k;
        randombytes_buf(key, sizeof(key));
        if (round == 0)
            memset(key, 0, sizeof(key));
        blake2b_key_init(&k, key, BLAKE2B_BYTES);
        for (size_t n = 1; n <= BLAKE2B_MESSAGE_MAX; n++) {
            const unsigned char *at = message + (n + round) % 8;
            randombytes_buf(message, sizeof(message));
            blake2b_digest(&k, at, n, ours);
            crypto_generichash(theirs, sizeof(theirs), at, n, key, sizeof(key));
            assert_memory_equal(ours, theirs, sizeof(ours));
        }
    }
}

/* Every lane has its own message, and sizes are as above. */
static void
test_four_digests_at_once_are_those_of_libsodium(void **state)
{
    (void)state;
    unsigned char key[BLAKE2B_KEY_BYTES], texts[BLAKE2B_LANES][BLAKE2B_SHORT_MAX + 1];
    unsigned char ours[BLAKE2B_LANES][BLAKE2B_BYTES], theirs[BLAKE2B_BYTES];
    for (size_t round = 0; round < 20 * BLAKE2B_SHORT_MAX; round++) {
        size_t n = 1 + round % BLAKE2B_SHORT_MAX, bytes = BLAKE2B_BYTES - round % 17;
        const void *messages[BLAKE2B_LANES];
        unsigned char *digests[BLAKE2B_LANES];
        struct blake2b_key k;
        randombytes_buf(key, sizeof(key));
        randombytes_buf(texts, sizeof(texts));
        memset(ours, 0, sizeof(ours));
        blake2b_key_init(&k, key, bytes);
        for (size_t i = 0; i < BLAKE2B_LANES; i++) {
            messages[i] = texts[i] + round % 2;
            digests[i] = ours[i];
        }
        blake2b_four(&k, messages, n, digests);
        for (size_t i = 0; i < BLAKE2B_LANES; i++) {
            crypto_generichash(theirs, bytes, messages[i], n, key, sizeof(key));
            memset(theirs + bytes, 0, sizeof(theirs) - bytes); /* no byte more was written */
            assert_memory_equal(ours[i], theirs, sizeof(theirs));
        }
    }
}

/* However many there are, and whatever their length. */
static void
test_tokens_are_digested_together_as_alone(void **state)
{
    (void)state;
    enum { MOST = 11, LONG = 150 };
    static const size_t lengths[] = { 1, 36, BLAKE2B_SHORT_MAX, BLAKE2B_SHORT_MAX + 1, LONG };
    struct digest_keys *keys = read_text("kaiten-key-1 k1 " ZEROS "\n");
    char texts[MOST][LONG];
    struct kt_secret_view tokens[MOST];
    unsigned char digests[MOST + 1][DIGEST_BYTES], alone[DIGEST_BYTES], *ret[MOST];
    for (size_t round = 0; round < sizeof(lengths) / sizeof(lengths[0]) * (MOST + 1); round++) {
        size_t n = round % (MOST + 1), length = lengths[round / (MOST + 1)];
        randombytes_buf(texts, sizeof(texts));
        memset(digests, 0, sizeof(digests));
        for (size_t i = 0; i < n; i++) {
            tokens[i] = (struct kt_secret_view){ texts[i], length };
            ret[i] = digests[i];
        }
        digest_tokens(keys, tokens, n, ret);
        for (size_t i = 0; i < n; i++) {
            digest_token(keys, tokens[i], alone);
            assert_memory_equal(digests[i], alone, DIGEST_BYTES);
        }
        memset(alone, 0, sizeof(alone));
        assert_memory_equal(digests[n], alone, DIGEST_BYTES);
    }
    digest_keys_free(keys);
}

/* Digests of every size, of messages around one block and two, in pieces of any size. */
static void
test_digests_in_pieces_are_those_of_libsodium(void **state)
{
    (void)state;
    enum { MOST = 300 };
    unsigned char key[BLAKE2B_KEY_BYTES], message[MOST];
    unsigned char ours[BLAKE2B_BYTES], theirs[BLAKE2B_BYTES];
    struct blake2b_key k;
    struct blake2b_state s;
    randombytes_buf(key, sizeof(key));
    for (size_t n = 1; n <= MOST; n++) {
        size_t bytes = 16 + n % 17;
        randombytes_buf(message, sizeof(message));
        blake2b_key_init(&k, key, bytes);
        blake2b_begin(&s, &k);
        for (size_t at = 0, piece; at < n; at += piece) {
            piece = randombytes_uniform(150);
            if (piece > n - at)
                piece = n - at;
            blake2b_more(&s, message + at, piece);
        }
        blake2b_end(&s, ours);
        crypto_generichash(theirs, bytes, message, n, key, sizeof(key));
        assert_memory_equal(ours, theirs, bytes);
    }
}

/* Messages of every length, each beside others that are longer and shorter, under keys for digests
 * of every size. */
static void
test_digests_side_by_side_are_those_of_libsodium(void **state)
{
    (void)state;
    unsigned char key[BLAKE2B_KEY_BYTES], ours[BLAKE2B_LANES][BLAKE2B_BYTES];
    unsigned char theirs[BLAKE2B_BYTES];
    struct blake2b_block blocks[BLAKE2B_LANES];
    for (size_t n = 1; n <= BLAKE2B_MESSAGE_MAX; n++) {
        size_t bytes = 16 + n % 17;
        struct blake2b_key k;
        randombytes_buf(key, sizeof(key));
        blake2b_key_init(&k, key, bytes);
        memset(blocks, 0, sizeof(blocks));
        for (size_t i = 0; i < BLAKE2B_LANES; i++) {
            blocks[i].n = (n + i * 37 - 1) % BLAKE2B_MESSAGE_MAX + 1;
            randombytes_buf(blocks[i].message, blocks[i].n);
        }
        blake2b_blocks(&k, blocks, ours);
        for (size_t i = 0; i < BLAKE2B_LANES; i++) {
            crypto_generichash(theirs, bytes, blocks[i].message, blocks[i].n, key, sizeof(key));
            assert_memory_equal(ours[i], theirs, bytes);
        }
    }
}

/* The same MACs as one by one, for whatever fits. */
static void
test_record_macs_together(void **state)
{
    (void)state;
    struct digest_keys *keys = read_text("kaiten-key-1 k1 " ZEROS "\n");
    char text[BLAKE2B_MESSAGE_MAX];
    randombytes_buf(text, sizeof(text));
    for (size_t n = 0; n <= sizeof(text); n++) {
        struct blake2b_block blocks[DIGEST_TOGETHER];
        unsigned char macs[DIGEST_TOGETHER][DIGEST_BYTES], one[DIGEST_MAC_BYTES];
        const struct kt_str parts[] = { { text, n / 3 }, { NULL, 0 }, { text + n / 3, n - n / 3 } };
        bool fits = n + 4 * 8 <= BLAKE2B_MESSAGE_MAX;
        memset(blocks, 0xff, sizeof(blocks));
        for (size_t i = 0; i < DIGEST_TOGETHER; i++)
            assert_int_equal(digest_record_block(parts, 3, &blocks[i]), fits);
        if (!fits)
            continue;
        digest_record_macs(keys, 0, blocks, macs);
        digest_record_mac(keys, 0, parts, 3, one);
        for (size_t i = 0; i < DIGEST_TOGETHER; i++)
            assert_memory_equal(macs[i], one, sizeof(one));
    }
    digest_keys_free(keys);
}

static void
expect_same_key(const struct digest_keys *a, size_t i, const struct digest_keys *b, size_t k)
{
    const struct kt_secret_view token = { "ksh_x", 5 };
    unsigned char one[DIGEST_BYTES], other[DIGEST_BYTES];
    digest_token_with(a, i, token, one);
    digest_token_with(b, k, token, other);
    assert_memory_equal(one, other, sizeof(one));
    assert_string_equal(digest_keys_id(a, i), digest_keys_id(b, k));
    assert_int_equal(digest_keys_tag(a, i), digest_keys_tag(b, k));
}

static void
test_rotated_and_retired(void **state)
{
    (void)state;
    struct digest_keys *keys[DIGEST_KEYS_MAX], *less, *more;
    struct digest_error err;
    struct stat st;
    unlink(path);
    assert_true(digest_keys_create(path, &keys[0], &err));
    for (size_t n = 1; n < DIGEST_KEYS_MAX; n++) {
        assert_true(digest_keys_rotate(path, keys[n - 1], &keys[n], &err));
        assert_int_equal(digest_keys_count(keys[n]), n + 1);
        assert_int_not_equal(digest_keys_tag(keys[n], 0), digest_keys_tag(keys[n], 1));
        for (size_t i = 0; i < n; i++)
            expect_same_key(keys[n - 1], i, keys[n], i + 1);
    }
    const struct digest_keys *all = keys[DIGEST_KEYS_MAX - 1];
    assert_false(digest_keys_rotate(path, all, &more, &err));
    assert_non_null(strstr(err.text, "retire one first"));
    /* Only the file that the keys in force came from is written over. */
    assert_false(digest_keys_rotate(path, keys[0], &more, &err));
    assert_non_null(strstr(err.text, "restart first"));
    assert_true(digest_keys_retire(path, all, 3, &less, &err));
    assert_int_equal(digest_keys_count(less), DIGEST_KEYS_MAX - 1);
    for (size_t i = 0; i < DIGEST_KEYS_MAX - 1; i++)
        expect_same_key(less, i, all, i < 3 ? i : i + 1);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    digest_keys_free(less);
    for (size_t i = 0; i < DIGEST_KEYS_MAX; i++)
        digest_keys_free(keys[i]);
}

static void
test_not_created_in_no_folder(void **state)
{
    (void)state;
    struct digest_keys *keys;
    struct digest_error err;
    assert_false(digest_keys_create("/tmp/kaiten-no-such-folder/key", &keys, &err));
    assert_non_null(strstr(err.text, strerror(ENOENT)));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_created_once), cmocka_unit_test(test_digests),
        cmocka_unit_test(test_record_mac),   cmocka_unit_test(test_find),
        cmocka_unit_test(test_files),        cmocka_unit_test(test_kinds_of_file),
        cmocka_unit_test(test_short_digests_are_those_of_libsodium),
        cmocka_unit_test(test_four_digests_at_once_are_those_of_libsodium),
        cmocka_unit_test(test_tokens_are_digested_together_as_alone),
        cmocka_unit_test(test_digests_in_pieces_are_those_of_libsodium),
        cmocka_unit_test(test_digests_side_by_side_are_those_of_libsodium),
        cmocka_unit_test(test_record_macs_together),
        cmocka_unit_test(test_created_over_a_leftover),
        cmocka_unit_test(test_not_created_in_no_folder),
        cmocka_unit_test(test_rotated_and_retired),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
