/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The revocation journal: what it keeps, what it takes for torn, and what for damaged. */
#include "config.h"

#include "daemon/journal_file.h"
#include "daemon/log.h"
#include "daemon/model/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>

enum { R = JOURNAL_RECORD_BYTES, FILE_BYTES = 1 << 20 };

static char folder[64], path[128], key_path[128], err[JOURNAL_ERROR_MAX];
static struct digest_keys *keys;
static struct journal_entry got[8192];
static size_t ngot;
static unsigned char file[FILE_BYTES];

static void
keep(void *ctx, const struct journal_entry *e)
{
    (void)ctx;
    if (ngot < sizeof got / sizeof got[0])
        got[ngot] = *e;
    ngot++;
}

static int
setup(void **state)
{
    (void)state;
    struct digest_error why;
    log_set_level((enum log_level)0);
    snprintf(folder, sizeof folder, "/tmp/kaiten-journal-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/revocations.log", folder);
    snprintf(key_path, sizeof key_path, "%s/digest.key", folder);
    return digest_keys_create(key_path, &keys, &why) ? 0 : -1;
}

static int
teardown(void **state)
{
    (void)state;
    char command[128];
    digest_keys_free(keys);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static struct journal_entry
dead(unsigned n)
{
    struct journal_entry e = { .type = JOURNAL_DIGEST, .at_ms = 1000 + n, .until_ms = 0 };
    memset(e.id, (int)n, sizeof e.id);
    return e;
}

static void
add(struct journal *j, unsigned first, unsigned n)
{
    for (unsigned i = first; i < first + n; i++) {
        const struct journal_entry e = dead(i);
        journal_add(j, &e);
    }
    journal_sync(j);
}

static enum journal_found
reopen(struct journal **ret)
{
    ngot = 0;
    return journal_open(path, keys, ret, keep, NULL, err);
}

static size_t
slurp(void)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(file, 1, sizeof file, f);
    fclose(f);
    return n;
}

static void
spit(const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fchmod(fileno(f), 0600), 0);
    fclose(f);
}

/* A journal of three groups: 2, 3 and 4 records. */
static void
make_three(void)
{
    struct journal *j = journal_create(path, keys, err);
    assert_non_null(j);
    add(j, 1, 2);
    add(j, 3, 3);
    add(j, 6, 4);
    journal_close(j);
}

/* --- what it keeps ------------------------------------------------------------------------ */

static void
what_was_synced_is_read_again(void **state)
{
    (void)state;
    struct journal *j;
    assert_int_equal(reopen(&j), JOURNAL_MISSING);
    make_three();
    assert_int_equal(reopen(&j), JOURNAL_WHOLE);
    assert_int_equal(ngot, 9);
    for (unsigned i = 0; i < 9; i++) {
        assert_int_equal(got[i].number, i + 1);
        assert_int_equal(got[i].type, JOURNAL_DIGEST);
        assert_int_equal(got[i].at_ms, 1001 + i);
        assert_int_equal(got[i].id[31], i + 1);
    }
    assert_int_equal(journal_last(j), 9);
    assert_int_equal(journal_floor(j), 1);
    add(j, 10, 1);
    assert_int_equal(journal_last(j), 10);
    journal_close(j);
    assert_int_equal(reopen(&j), JOURNAL_WHOLE);
    assert_int_equal(ngot, 10);
    journal_close(j);
}

static void
all_members_survive(void **state)
{
    (void)state;
    struct journal_entry e = { .type = JOURNAL_ACCOUNT, .epoch = 7, .at_ms = 1, .ends_ms = 2,
                               .until_ms = 3 };
    struct journal *j = journal_create(path, keys, err);
    memset(e.org.b, 0x11, sizeof e.org.b);
    memset(e.id, 0x22, sizeof e.id);
    memset(e.account.b, 0x33, sizeof e.account.b);
    journal_add(j, &e);
    journal_sync(j);
    journal_close(j);
    assert_int_equal(reopen(&j), JOURNAL_WHOLE);
    e.number = 1;
    assert_int_equal(got[0].number, e.number);
    assert_int_equal(got[0].type, e.type);
    assert_int_equal(got[0].epoch, e.epoch);
    assert_int_equal(got[0].at_ms, e.at_ms);
    assert_int_equal(got[0].ends_ms, e.ends_ms);
    assert_int_equal(got[0].until_ms, e.until_ms);
    assert_memory_equal(got[0].org.b, e.org.b, sizeof e.org.b);
    assert_memory_equal(got[0].id, e.id, sizeof e.id);
    assert_memory_equal(got[0].account.b, e.account.b, sizeof e.account.b);
    journal_close(j);
}

static void
room_is_written_beforehand(void **state)
{
    (void)state;
    struct journal *j = journal_create(path, keys, err);
    struct stat before, after;
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(before.st_mode & 0777, 0600);
    assert_true(before.st_size >= (JOURNAL_ROOM + 1) * R);
    add(j, 0, JOURNAL_ROOM / 2);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    assert_true(journal_reserve(j, 1));
    assert_int_equal(stat(path, &after), 0);
    assert_true(after.st_size > before.st_size);
    assert_true(journal_reserve(j, JOURNAL_ROOM));
    assert_false(journal_reserve(j, JOURNAL_ROOM + 1));
    add(j, 0, JOURNAL_ROOM + 5); /* more than one group */
    journal_close(j);
    assert_int_equal(reopen(&j), JOURNAL_WHOLE);
    assert_int_equal(ngot, JOURNAL_ROOM / 2 + JOURNAL_ROOM + 5);
    journal_close(j);
}

/* --- torn --------------------------------------------------------------------------------- */

static void
goes_on_where_it_was_cut(const void *bytes, size_t n)
{
    struct journal *j;
    spit(bytes, n);
    assert_int_not_equal(reopen(&j), JOURNAL_DAMAGED);
    add(j, 99, 1);
    journal_close(j);
    assert_int_equal(reopen(&j), JOURNAL_WHOLE);
    assert_int_equal(ngot, n / R);
    assert_int_equal(got[ngot - 1].id[0], 99);
    journal_close(j);
}

static void
a_file_cut_at_any_byte_loses_only_its_last_group(void **state)
{
    (void)state;
    static unsigned char whole[FILE_BYTES];
    make_three();
    memcpy(whole, file, slurp());
    for (size_t n = R; n <= 10 * R; n++) {
        struct journal_seen seen;
        ngot = 0;
        enum journal_found found = journal_parse(keys, whole, n, keep, NULL, &seen);
        /* The first bytes of a record are zeros, as what was never written. */
        assert_true(found == (n % R < 8 ? JOURNAL_WHOLE : JOURNAL_TORN));
        assert_int_equal(ngot, n / R - 1);
        assert_int_equal(seen.last, n / R - 1);
        if (n % 61 == 0)
            goes_on_where_it_was_cut(whole, n);
    }
    for (size_t n = 0; n < R; n++) {
        struct journal_seen seen;
        assert_int_equal(journal_parse(keys, whole, n, NULL, NULL, &seen), JOURNAL_DAMAGED);
    }
}

/* Of a group that was not synced any sector may be on the disk, and any not. */
static void
holes_in_the_last_group_are_torn(void **state)
{
    (void)state;
    static unsigned char whole[FILE_BYTES];
    make_three();
    size_t n = slurp();
    memcpy(whole, file, n);
    for (unsigned lost = 1; lost < 1 << 4; lost++) {
        struct journal *j;
        unsigned first = 4;
        memcpy(file, whole, n);
        for (unsigned i = 0; i < 4; i++) {
            if (!(lost & 1u << i))
                continue;
            memset(file + (6 + i) * R, 0, R);
            first = i < first ? i : first;
        }
        spit(file, n);
        enum journal_found found = reopen(&j);
        assert_true(found == JOURNAL_TORN || found == JOURNAL_WHOLE);
        assert_int_equal(ngot, 5 + first);
        journal_close(j);
    }
}

/* --- damaged ------------------------------------------------------------------------------ */

static void
a_flipped_bit_before_the_last_group_is_damage(void **state)
{
    (void)state;
    make_three();
    size_t n = slurp();
    for (size_t at = 0; at < 6 * R; at++) {
        struct journal_seen seen;
        ngot = 0;
        file[at] ^= (unsigned char)(1u << at % 8);
        /* Of a header nobody can tell whether it was changed or made with another key. */
        assert_int_equal(journal_parse(keys, file, n, keep, NULL, &seen),
                         at >= 8 && at < R ? JOURNAL_REFUSED : JOURNAL_DAMAGED);
        assert_true(seen.why[0] != '\0');
        assert_int_equal(ngot, at < R ? 0 : at / R - 1);
        file[at] ^= (unsigned char)(1u << at % 8);
    }
}

static void
a_flipped_bit_never_passes(void **state)
{
    (void)state;
    make_three();
    size_t n = slurp();
    for (size_t at = 6 * R; at < 12 * R; at++) {
        struct journal_seen seen;
        ngot = 0;
        file[at] ^= (unsigned char)(1u << at % 8);
        enum journal_found found = journal_parse(keys, file, n, keep, NULL, &seen);
        assert_true(found == JOURNAL_TORN || found == JOURNAL_DAMAGED);
        size_t good = at / R - 1 < 9 ? at / R - 1 : 9;
        assert_int_equal(ngot, good);
        assert_int_equal(seen.last, good);
        file[at] ^= (unsigned char)(1u << at % 8);
    }
}

static void
records_cannot_be_moved(void **state)
{
    (void)state;
    static unsigned char whole[FILE_BYTES];
    struct journal_seen seen;
    make_three();
    size_t n = slurp();
    memcpy(whole, file, n);
    /* One taken out, one doubled, two that change places. */
    memmove(file + 2 * R, file + 3 * R, n - 3 * R);
    assert_int_equal(journal_parse(keys, file, n - R, NULL, NULL, &seen), JOURNAL_DAMAGED);
    memcpy(file, whole, n);
    memmove(file + 3 * R, whole + 2 * R, n - 3 * R);
    assert_int_equal(journal_parse(keys, file, n, NULL, NULL, &seen), JOURNAL_DAMAGED);
    memcpy(file, whole, n);
    memcpy(file + 2 * R, whole + 3 * R, R);
    memcpy(file + 3 * R, whole + 2 * R, R);
    assert_int_equal(journal_parse(keys, file, n, NULL, NULL, &seen), JOURNAL_DAMAGED);
}

static void
records_of_another_journal_are_none(void **state)
{
    (void)state;
    static unsigned char whole[FILE_BYTES];
    struct journal_seen seen;
    make_three();
    size_t n = slurp();
    memcpy(whole, file, n);
    make_three();
    slurp();
    memcpy(file + R, whole + R, 9 * R);
    ngot = 0;
    assert_int_not_equal(journal_parse(keys, file, n, keep, NULL, &seen), JOURNAL_WHOLE);
    assert_int_equal(ngot, 0);
}

static void
another_digest_key_reads_nothing(void **state)
{
    (void)state;
    struct digest_keys *other;
    struct digest_error why;
    struct journal_seen seen;
    char other_path[128];
    make_three();
    size_t n = slurp();
    snprintf(other_path, sizeof other_path, "%s/other.key", folder);
    assert_true(digest_keys_create(other_path, &other, &why));
    ngot = 0;
    assert_int_equal(journal_parse(other, file, n, keep, NULL, &seen), JOURNAL_REFUSED);
    assert_int_equal(ngot, 0);
    digest_keys_free(other);
}

/* Of a later version: with a MAC that is right. */
static void
another_format_is_not_read(void **state)
{
    (void)state;
    enum { MAC_AT = R - 16, ID = 16 };
    unsigned char text[32 + MAC_AT] = { 0 }, key[32];
    struct journal_seen seen;
    make_three();
    size_t n = slurp();
    file[11]++;
    memcpy(text, file + 16, ID);
    memcpy(text + 32, file, MAC_AT);
    digest_subkey(keys, 0, DIGEST_USE_JOURNAL, key);
    crypto_generichash(file + MAC_AT, R - MAC_AT, text, sizeof text, key, sizeof key);
    ngot = 0;
    assert_int_equal(journal_parse(keys, file, n, keep, NULL, &seen), JOURNAL_REFUSED);
    assert_int_equal(ngot, 0);
    assert_non_null(strstr(seen.why, "a format that this version does not know"));
}

static void
others_may_not_write_it(void **state)
{
    (void)state;
    struct journal *j;
    make_three();
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(reopen(&j), JOURNAL_REFUSED);
    assert_non_null(strstr(err, "chmod 600"));
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 12345, 0), 0);
        assert_int_equal(reopen(&j), JOURNAL_REFUSED);
        assert_non_null(strstr(err, "it belongs to user 12345"));
        assert_non_null(strstr(err, "chown"));
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(key_path, path), 0);
    assert_int_equal(reopen(&j), JOURNAL_REFUSED);
    assert_non_null(strstr(err, "a regular file"));
}

/* --- who may ask -------------------------------------------------------------------------- */

enum { ASKED = 2000 };

static void *
ask_for_id(void *arg)
{
    const struct journal *j = arg;
    unsigned char first[JOURNAL_ID_BYTES];
    memcpy(first, journal_id(j), sizeof first);
    size_t same = 0;
    for (unsigned i = 0; i < ASKED; i++)
        same += memcmp(journal_id(j), first, sizeof first) == 0;
    return same == ASKED ? arg : NULL;
}

/* Of worth under a tool that sees races: the id stays what it was in any case. */
static void
any_thread_may_ask_for_the_id(void **state)
{
    (void)state;
    pthread_t asking;
    void *same;
    struct journal *j = journal_create(path, keys, err);
    add(j, 1, 1);
    assert_int_equal(pthread_create(&asking, NULL, ask_for_id, j), 0);
    for (unsigned i = 0; i < 20; i++)
        add(j, 2 + i, 1);
    assert_true(journal_compact(j, 1010 + 50, 50, UINT64_MAX));
    assert_int_equal(pthread_join(asking, &same), 0);
    assert_non_null(same);
    unsigned char id[JOURNAL_ID_BYTES];
    memcpy(id, journal_id(j), sizeof id);
    journal_close(j);
    assert_int_equal(reopen(&j), JOURNAL_WHOLE);
    assert_memory_equal(journal_id(j), id, sizeof id);
    journal_close(j);
}

/* --- dropping ----------------------------------------------------------------------------- */

static void
what_has_expired_may_go(void **state)
{
    (void)state;
    struct journal *j = journal_create(path, keys, err);
    for (unsigned i = 1; i <= 300; i++) {
        struct journal_entry e = dead(i);
        e.until_ms = i % 3 == 0 ? 0 : 500;
        journal_add(j, &e);
    }
    journal_sync(j);
    assert_true(journal_compact(j, 499, 0, 0)); /* not yet */
    assert_int_equal(journal_entries(j), 300);
    assert_true(journal_compact(j, 500, 0, 0));
    assert_int_equal(journal_entries(j), 100);
    assert_int_equal(journal_last(j), 300);
    assert_int_equal(journal_floor(j), 1); /* every old copy is still explained */
    add(j, 1, 2);
    journal_close(j);
    assert_int_equal(reopen(&j), JOURNAL_WHOLE);
    assert_int_equal(ngot, 102);
    assert_int_equal(got[0].number, 3);
    assert_int_equal(got[99].number, 300);
    assert_int_equal(got[101].number, 302);
    journal_close(j);
}

static void
what_is_old_moves_the_floor(void **state)
{
    (void)state;
    struct journal *j = journal_create(path, keys, err);
    add(j, 1, 100); /* ended at 1001 to 1100 */
    assert_true(journal_compact(j, 1090 + 50, 50, 100));
    assert_int_equal(journal_entries(j), 10);
    assert_int_equal(journal_floor(j), 91);
    journal_close(j);
    assert_int_equal(reopen(&j), JOURNAL_WHOLE);
    assert_int_equal(journal_floor(j), 91);
    assert_int_equal(got[0].number, 91);
    /* Down to nothing, the numbers go on. */
    assert_true(journal_compact(j, 9999, 50, 100));
    assert_int_equal(journal_entries(j), 0);
    add(j, 5, 1);
    journal_close(j);
    assert_int_equal(reopen(&j), JOURNAL_WHOLE);
    assert_int_equal(got[0].number, 101);
    journal_close(j);
}

static void
what_the_store_does_not_know_is_not_too_old(void **state)
{
    (void)state;
    struct journal *j = journal_create(path, keys, err);
    add(j, 1, 100);
    assert_true(journal_compact(j, 9999, 50, 0));
    assert_int_equal(journal_entries(j), 100);
    assert_true(journal_compact(j, 9999, 50, 60));
    assert_int_equal(journal_entries(j), 40);
    assert_int_equal(journal_floor(j), 61);
    journal_close(j);
}

static void
of_a_full_one_the_oldest_quarter_goes(void **state)
{
    (void)state;
    struct journal *j = journal_create(path, keys, err);
    journal_set_most(j, 4000);
    add(j, 1, 3000);
    assert_true(journal_is_full(j));
    assert_false(journal_drop_oldest(j, 499)); /* no higher number may go */
    assert_int_equal(errno, EBUSY);
    assert_int_equal(journal_floor(j), 1);
    assert_true(journal_drop_oldest(j, 600));
    assert_int_equal(journal_floor(j), 601);
    assert_true(journal_drop_oldest(j, 3000));
    assert_int_equal(journal_floor(j), 1601);
    assert_int_equal(journal_entries(j), 1400);
    add(j, 1, 1);
    journal_close(j);
    assert_int_equal(reopen(&j), JOURNAL_WHOLE);
    assert_int_equal(journal_floor(j), 1601);
    assert_int_equal(ngot, 1401);
    assert_int_equal(got[0].number, 1601);
    assert_int_equal(journal_last(j), 3001);
    journal_close(j);
}

static void
what_is_worth_the_work(void **state)
{
    (void)state;
    const size_t most = JOURNAL_ENTRIES_MAX, high = JOURNAL_HIGH, step = JOURNAL_STEP;
    assert_true(journal_is_worth(100, 50));
    assert_false(journal_is_worth(100, 51));
    assert_false(journal_is_worth(high - 1, high - 1 - step));
    assert_true(journal_is_worth(high, high - step));
    assert_false(journal_is_worth(high, high - step + 1));
    assert_true(journal_is_worth(most, most - JOURNAL_ROOM));
    assert_false(journal_is_worth(most, most - JOURNAL_ROOM + 1));
    assert_int_equal(journal_next_look(0), JOURNAL_MANY);
    assert_int_equal(journal_next_look(JOURNAL_MANY), 2 * JOURNAL_MANY);
    assert_int_equal(journal_next_look(high / 2 + 1), high);
    assert_int_equal(journal_next_look(high), high + step);
}

/* So many are younger than what is dropped, all the time, and one ends after the other. */
static void
the_same_number_all_the_time_has_room(void **state)
{
    (void)state;
    const size_t young = (size_t)JOURNAL_ENTRIES_MAX / 16 * 14 - JOURNAL_ROOM;
    size_t looks = 0, n = young;
    for (size_t next = 0, i = 0; i < JOURNAL_ENTRIES_MAX; i += 64) {
        n += 64;
        assert_true(n + JOURNAL_ROOM <= JOURNAL_ENTRIES_MAX);
        if (n < next)
            continue;
        if (journal_is_worth(n, young))
            n = young;
        next = journal_next_look(n);
        looks++;
    }
    assert_in_range(looks, 1, 2 * 16);
}

static void
a_file_made_anew_is_damaged_by_any_loss(void **state)
{
    (void)state;
    struct journal_seen seen;
    struct journal *j = journal_create(path, keys, err);
    add(j, 1, 20);
    assert_true(journal_compact(j, 1010 + 50, 50, UINT64_MAX));
    journal_close(j);
    slurp();
    for (size_t n = R; n < 11 * R; n++)
        assert_int_equal(journal_parse(keys, file, n, NULL, NULL, &seen), JOURNAL_DAMAGED);
    assert_int_equal(journal_parse(keys, file, 11 * R, NULL, NULL, &seen), JOURNAL_WHOLE);
}

static void
the_old_one_is_kept_aside(void **state)
{
    (void)state;
    char old[160];
    make_three();
    struct journal *j = journal_create(path, keys, err);
    assert_non_null(j);
    assert_int_equal(journal_last(j), 0);
    journal_close(j);
    snprintf(old, sizeof old, "%s.old", path);
    ngot = 0;
    assert_int_equal(journal_open(old, keys, &j, keep, NULL, err), JOURNAL_WHOLE);
    assert_int_equal(ngot, 9);
    journal_close(j);
}

/* --- a disk that fails -------------------------------------------------------------------- */

/* What cannot be written is not acknowledged: the process is gone. */
static void
a_failed_write_ends_the_process(void **state)
{
    (void)state;
    make_three();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct journal *j;
        if (reopen(&j) != JOURNAL_WHOLE)
            _exit(1);
        for (int fd = 3; fd < 64; fd++)
            close(fd); /* the journal's own with them */
        add(j, 1, 1);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), EX_TEMPFAIL);
}

/* For want of descriptors nothing can be said about it. */
static void
a_file_that_cannot_be_read_now_is_not_damaged(void **state)
{
    (void)state;
    struct journal *j;
    struct rlimit before, none;
    make_three();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    enum journal_found found = reopen(&j);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(found, JOURNAL_UNREADABLE);
    assert_null(j);
    assert_int_equal(reopen(&j), JOURNAL_WHOLE);
    journal_close(j);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_was_synced_is_read_again),
        T(all_members_survive),
        T(room_is_written_beforehand),
        T(a_file_cut_at_any_byte_loses_only_its_last_group),
        T(holes_in_the_last_group_are_torn),
        T(a_flipped_bit_before_the_last_group_is_damage),
        T(a_flipped_bit_never_passes),
        T(records_cannot_be_moved),
        T(records_of_another_journal_are_none),
        T(another_digest_key_reads_nothing),
        T(another_format_is_not_read),
        T(others_may_not_write_it),
        T(any_thread_may_ask_for_the_id),
        T(what_has_expired_may_go),
        T(what_is_old_moves_the_floor),
        T(what_the_store_does_not_know_is_not_too_old),
        T(of_a_full_one_the_oldest_quarter_goes),
        T(what_is_worth_the_work),
        T(the_same_number_all_the_time_has_room),
        T(a_file_made_anew_is_damaged_by_any_loss),
        T(the_old_one_is_kept_aside),
        T(a_failed_write_ends_the_process),
        T(a_file_that_cannot_be_read_now_is_not_damaged),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
