/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the revocation journal is told, and in which order; and what happens when it is full. */
#include "config.h"

#include "daemon/rotation.h"
#include "daemon/timeguard.h"
#include "tests/unit/commit.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static struct journal *journal;
static char path[256];
static long sync_ms; /* how long it takes to sync the journal */

static int
open_journal(void **state)
{
    char err[JOURNAL_ERROR_MAX];
    int status = setup(state);
    snprintf(path, sizeof path, "%s/revocations.log", core.folder);
    core.svc.journal = journal = journal_create(path, core.svc.keys, err);
    core.svc.unsettled = unsettled_new();
    sync_ms = 0;
    return journal && core.svc.unsettled ? status : -1;
}

static int
close_journal(void **state)
{
    committer_stop(committer); /* which looks at the journal once more */
    core.svc.journal = NULL;
    journal_close(journal);
    unsettled_free(core.svc.unsettled);
    unlink(path);
    return teardown(state);
}

/* --- the order ---------------------------------------------------------------------------- */

/* What was so when the journal was synced. */
static struct {
    struct work *of; /* NULL: nobody asks */
    size_t syncs, answered;
    bool is_stored;
    enum index_verdict verdict;
} at_sync;

int
fdatasync(int fd)
{
    const struct timespec slow = { 0, sync_ms * 1000 * 1000 };
    nanosleep(&slow, NULL);
    if (at_sync.of) {
        at_sync.syncs++;
        at_sync.answered = finished;
        at_sync.is_stored = is_in_store(at_sync.of);
        at_sync.verdict = index_find(core.svc.index, at_sync.of->digest, 1, NULL);
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* An ending goes to the store, to the journal, to the index, and then to its caller. */
static void
each_learns_of_it_in_its_turn(void **state)
{
    (void)state;
    static const struct {
        enum effect_type type;
        enum index_verdict then;
    } cases[] = { { EFFECT_REVOKE, INDEX_REVOKED }, { EFFECT_EXPIRY, INDEX_EXPIRED } };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        struct work *w = &works[2 * i + 1];
        propose_token(&works[2 * i]);
        commit(&works[2 * i]);
        memcpy(w->digest, works[2 * i].digest, sizeof w->digest);
        propose_end(w, cases[i].type, &works[2 * i], 1);
        memset(&at_sync, 0, sizeof at_sync);
        at_sync.of = w;
        const size_t before = finished;
        commit(w);
        at_sync.of = NULL;
        assert_int_equal(at_sync.syncs, 1);
        assert_true(at_sync.is_stored);
        assert_int_equal(at_sync.verdict, INDEX_LIVE);
        assert_int_equal(at_sync.answered, before);
        assert_int_equal(w->when_done, cases[i].then);
        assert_int_equal(journal_last(journal), i + 1);
    }
}

static void
what_begins_is_not_written_down(void **state)
{
    (void)state;
    at_sync.syncs = 0;
    at_sync.of = &works[0];
    propose_token(&works[0]);
    commit(&works[0]);
    at_sync.of = NULL;
    assert_int_equal(at_sync.syncs, 0);
    assert_int_equal(journal_last(journal), 0);
}

static struct endings_mark
read_mark(void)
{
    struct call call;
    struct kt_arena memory;
    struct endings_mark mark;
    core_call(&core, &memory, &call);
    assert_int_equal(endings_read_mark(&call, core.svc.journal, &mark), KT_OK);
    kt_arena_done(&memory);
    return mark;
}

/* What may be missing from the store is done again from the journal, at the next start. */
static void
the_mark_stays_below_an_unknown_outcome(void **state)
{
    (void)state;
    static const int says[][2] = { { KAITEN_UNKNOWN, KAITEN_DONE },
                                   { KAITEN_DONE, KAITEN_UNKNOWN } };
    for (size_t i = 0; i < CORE_COUNT(says); i++) {
        close_journal(state);
        assert_int_equal(open_journal(state), 0);
        for (size_t k = 0; k < 6; k++) {
            propose_token(&works[2 * k]);
            commit(&works[2 * k]);
            propose_end(&works[2 * k + 1], EFFECT_REVOKE, &works[2 * k], 0);
            if (k == 2)
                disk_fail(core.disk, says[i][0], says[i][1], 0, 1);
            commit(&works[2 * k + 1]);
        }
        const struct endings_mark mark = read_mark();
        assert_true(mark.is_there);
        assert_in_range(mark.number, 1, 2); /* the third is the unknown one */
        assert_int_equal(journal_last(journal), 6);
    }
}

/* Later, somebody has looked at the store. */
static void
look_at_the_store(int64_t later_ms)
{
    struct journal_entry entries[4];
    const int64_t now_ms = clock_mono_ms() + later_ms;
    const size_t n = unsettled_due(core.svc.unsettled, now_ms, entries, CORE_COUNT(entries));
    assert_int_equal(n, 1);
    unsettled_found(core.svc.unsettled, &entries[0], now_ms);
}

static uint64_t
mark_after_another_end(struct work pair[2])
{
    propose_token(&pair[0]);
    commit(&pair[0]);
    propose_end(&pair[1], EFFECT_REVOKE, &pair[0], 0);
    commit(&pair[1]);
    return read_mark().number;
}

static void
the_mark_goes_on_once_the_store_is_known_to_have_it(void **state)
{
    (void)state;
    propose_token(&works[0]);
    commit(&works[0]);
    propose_end(&works[1], EFFECT_REVOKE, &works[0], 0);
    disk_fail(core.disk, KAITEN_UNKNOWN, KAITEN_DONE, 0, 1);
    commit(&works[1]);
    assert_int_equal(mark_after_another_end(&works[2]), 0);
    look_at_the_store(UNSETTLED_MS / 2); /* a commit may still turn up */
    assert_int_equal(mark_after_another_end(&works[4]), 0);
    look_at_the_store(UNSETTLED_MS);
    assert_in_range(mark_after_another_end(&works[6]), 3, 4);
}

/* --- a full disk -------------------------------------------------------------------------- */

/* The file cannot grow any more; what is in it can be written over. */
static void
fill_disk(bool full)
{
    struct rlimit limit;
    struct stat st;
    core_must(getrlimit(RLIMIT_FSIZE, &limit) == 0 && stat(path, &st) == 0);
    limit.rlim_cur = full ? (rlim_t)st.st_size : limit.rlim_max;
    core_must(signal(SIGXFSZ, SIG_IGN) != SIG_ERR && setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

enum { RECORDS = 512, ENDS = JOURNAL_ROOM / RECORDS };

static void
mint(size_t first, size_t n)
{
    for (size_t i = first; i < first + n; i++) {
        propose_token(&works[i]);
        commit(&works[i]);
        assert_int_equal(works[i].when_done, INDEX_LIVE);
    }
}

/* Takes so many records of the journal. */
static void
propose_long_end(struct work *w, struct work *of, size_t records)
{
    static unsigned char former[JOURNAL_ROOM][DIGEST_BYTES];
    memcpy(w->digest, of->digest, sizeof w->digest);
    propose_end(w, EFFECT_REVOKE, of, 0);
    struct effect *e = &w->rq.batch->effects[0];
    e->former = (const unsigned char (*)[DIGEST_BYTES])former;
    e->nformer = records - 1;
}

/* Endings succeed as long as the space lasts that was written beforehand. Then they are refused
 * before anything of them is done; minting needs no such space. */
static void
a_full_disk_leaves_room_for_endings(void **state)
{
    (void)state;
    struct work *w = works;
    mint(100, ENDS + 2);
    fill_disk(true);
    for (size_t i = 0; i < ENDS; i++, w++) {
        propose_long_end(w, &works[100 + i], RECORDS);
        commit(w);
        assert_int_equal(w->rq.call.err.kind, KT_OK);
        assert_int_equal(w->when_done, INDEX_REVOKED);
    }
    assert_int_equal(journal_last(journal), JOURNAL_ROOM);
    const size_t applies = atomic_load(&core.disk->applies);
    propose_long_end(w, &works[100 + ENDS], 1);
    commit(w);
    assert_int_equal(w->rq.call.err.kind, KT_UNAVAILABLE);
    assert_string_equal(w->rq.call.err.code, "Storage.Full");
    assert_int_equal(w->when_done, INDEX_LIVE);
    assert_false(is_in_store(w));
    assert_int_equal(atomic_load(&core.disk->applies), applies);
    mint(50, 1);
    fill_disk(false);
    propose_long_end(++w, &works[100 + ENDS + 1], 1);
    commit(w);
    assert_int_equal(w->when_done, INDEX_REVOKED);
    assert_int_equal(journal_last(journal), JOURNAL_ROOM + 1);
}

/* Has the committer take works 1 to n together, behind work 0. */
static void
commit_together(size_t n)
{
    const size_t before = finished, applies = atomic_load(&core.disk->applies);
    pthread_mutex_lock(&core.disk->gate);
    propose_row(&works[0]);
    committer_push(committer, &works[0].rq);
    core_must(core_reaches(&core.disk->applies, applies + 1));
    for (size_t i = 1; i <= n; i++)
        committer_push(committer, &works[i].rq);
    pthread_mutex_unlock(&core.disk->gate);
    assert_true(wait_for(before + 1 + n));
    assert_int_equal(atomic_load(&core.disk->applies), applies + 2);
}

static void
who_needs_no_room_is_not_refused_with_the_others(void **state)
{
    (void)state;
    mint(100, 2);
    fill_disk(true);
    propose_long_end(&works[10], &works[100], JOURNAL_ROOM);
    commit(&works[10]);
    assert_int_equal(works[10].rq.call.err.kind, KT_OK);
    propose_token(&works[1]);
    propose_long_end(&works[2], &works[101], 1);
    propose_token(&works[3]);
    commit_together(3);
    fill_disk(false);
    assert_int_equal(works[1].when_done, INDEX_LIVE);
    assert_string_equal(works[2].rq.call.err.code, "Storage.Full");
    assert_int_equal(works[2].when_done, INDEX_LIVE);
    assert_int_equal(works[3].when_done, INDEX_LIVE);
}

/* More than the journal has room for has to come again. */
static void
a_group_ends_no_more_than_there_is_room_for(void **state)
{
    (void)state;
    mint(100, 2);
    for (size_t i = 0; i < 2; i++)
        propose_long_end(&works[1 + i], &works[100 + i], JOURNAL_ROOM / 2 + 1);
    commit_together(2);
    assert_int_equal(works[1].when_done, INDEX_REVOKED);
    assert_int_equal(works[2].done, 0);
    assert_int_equal(works[2].again, 1);
}

/* --- a full journal ----------------------------------------------------------------------- */

enum { MOST = 4 * JOURNAL_ROOM };

/* However many are alive in it, what ends something is done; the oldest go, and the floor says that
 * copies of the store from before are not explained any more. The store itself is not such a copy. */
static void
a_full_journal_loses_its_oldest(void **state)
{
    (void)state;
    journal_set_most(journal, MOST); /* while the committer has not begun */
    mint(100, 12);
    for (size_t i = 0; i < 12; i++) {
        propose_long_end(&works[i], &works[100 + i], JOURNAL_ROOM);
        commit(&works[i]);
        assert_int_equal(works[i].rq.call.err.kind, KT_OK);
        assert_int_equal(works[i].when_done, INDEX_REVOKED);
        assert_in_range(journal_entries(journal), 1, MOST);
        assert_in_range(journal_floor(journal), 1, read_mark().number + 1);
    }
    assert_int_equal(journal_last(journal), 12 * JOURNAL_ROOM);
    assert_int_equal(journal_floor(journal), 8 * JOURNAL_ROOM + 1);
}

/* What may be missing from the store is not given up for room: that is refused which would need it. */
static void
what_the_store_may_lack_stays_in_a_full_journal(void **state)
{
    (void)state;
    journal_set_most(journal, MOST); /* while the committer has not begun */
    mint(100, 12);
    for (size_t i = 0; i < 12; i++) {
        propose_long_end(&works[i], &works[100 + i], JOURNAL_ROOM);
        if (i == 1)
            disk_fail(core.disk, KAITEN_UNKNOWN, KAITEN_DONE, 0, 1);
        commit(&works[i]);
    }
    assert_string_equal(works[11].rq.call.err.code, "Storage.Full");
    assert_int_equal(works[11].when_done, INDEX_LIVE);
    assert_in_range(journal_floor(journal), 1, JOURNAL_ROOM + 1);
    assert_in_range(journal_floor(journal), 1, read_mark().number + 1);
}

/* The store knows more endings than the journal takes. */
static void
a_start_makes_room_in_a_full_journal(void **state)
{
    (void)state;
    struct call call;
    struct kt_arena memory;
    size_t healed;
    struct endings *e = endings_new(0);
    assert_non_null(e);
    journal_set_most(journal, MOST);
    for (uint32_t i = 0; i < 2 * MOST; i++) {
        unsigned char digest[DIGEST_BYTES] = { 0 };
        memcpy(digest, &i, sizeof i);
        assert_true(endings_note_digest(e, digest));
    }
    core_call(&core, &memory, &call);
    assert_int_equal(endings_heal(&call, e, journal, call.now_ms, &healed), KT_OK);
    kt_arena_done(&memory);
    endings_free(e);
    assert_int_equal(healed, 2 * MOST);
    assert_int_equal(journal_last(journal), 2 * MOST);
    assert_in_range(journal_entries(journal), 1, MOST);
    assert_in_range(journal_floor(journal), 2, read_mark().number + 1);
}

/* --- old endings -------------------------------------------------------------------------- */

/* Of now on an ending is too old for the journal before anybody is told of it. */
static void
grow_old_at_once(void)
{
    timeguard_publish(&(struct timeguard){ .ahead_ms = clock_wall_ms() - clock_mono_ms() });
    core.svc.journal_keep_ms = 1;
    sync_ms = 3;
}

/* Whoever is answered may be ahead of what the committer does behind that. */
static void
await_rest(void)
{
    core_must(committer_pause(committer, clock_mono_ms() + WAIT_MS));
    committer_go_on(committer);
}

static _Atomic size_t failing; /* which apply fails */

static void
fail_one(struct disk *disk)
{
    if (atomic_load(&disk->applies) == atomic_load(&failing))
        disk_fail(disk, KAITEN_RETRY, KAITEN_DONE, 0, 1);
}

/* The mark in the store lags behind by a group. A store that is behind the floor would be taken for
 * an old one at the next start. */
static void
what_the_store_does_not_know_is_never_too_old(void **state)
{
    (void)state;
    enum { GROUPS = JOURNAL_MANY / JOURNAL_ROOM };
    static const struct {
        bool told; /* whether the store can be, before the old ones go */
        size_t known;
    } cases[] = { { true, JOURNAL_MANY }, { false, JOURNAL_MANY - JOURNAL_ROOM } };
    for (size_t i = 0; i < CORE_COUNT(cases); i++) {
        close_journal(state);
        assert_int_equal(open_journal(state), 0);
        mint(100, GROUPS);
        grow_old_at_once();
        atomic_store(&failing, cases[i].told ? 0 : atomic_load(&core.disk->applies) + GROUPS + 1);
        core.disk->before_apply = fail_one;
        for (size_t k = 0; k < GROUPS; k++) {
            propose_long_end(&works[k], &works[100 + k], JOURNAL_ROOM);
            commit(&works[k]);
        }
        await_rest();
        assert_in_range(journal_floor(journal), 2, read_mark().number + 1);
        assert_int_equal(read_mark().number, cases[i].known);
        assert_int_equal(journal_floor(journal), cases[i].known + 1);
        assert_int_equal(journal_entries(journal), JOURNAL_MANY - cases[i].known);
    }
}

static void
a_fresh_digest_key_drops_no_ending_for_its_age(void **state)
{
    (void)state;
    struct call call;
    struct kt_arena memory;
    struct rotation *r = rotation_new(core.key_path);
    assert_non_null(r);
    grow_old_at_once();
    (void)mark_after_another_end(&works[0]);
    await_rest();
    core_call(&core, &memory, &call);
    call.deadline_ms = clock_mono_ms() + WAIT_MS;
    assert_int_equal(rotation_begin(&call, r), KT_OK);
    kt_arena_done(&memory);
    assert_true(journal_is_current(journal));
    assert_int_equal(journal_entries(journal), 1);
    assert_in_range(journal_floor(journal), 1, read_mark().number + 1);
    rotation_free(r);
}

/* --- secrets that nobody was told --------------------------------------------------------- */

static void
keep_entry(void *ctx, const struct journal_entry *entry)
{
    *(struct journal_entry *)ctx = *entry;
}

/* Commits, and gives up waiting when it is too late. Whether the secret is to be revoked now. */
static bool
is_withdrawn(struct work *w, struct journal_entry *ret)
{
    bool taken;
    const size_t before = finished, applies = atomic_load(&core.disk->applies);
    pthread_mutex_lock(&core.disk->gate);
    committer_push(committer, &w->rq);
    core_must(core_reaches(&core.disk->applies, applies + 1));
    core_must(request_abandon(&w->rq, &taken) && taken);
    pthread_mutex_unlock(&core.disk->gate);
    core_must(wait_for(before + 1));
    core_must(committer_pause(committer, clock_mono_ms() + WAIT_MS)); /* it is over with it */
    size_t n = unsettled_due(core.svc.unsettled, clock_mono_ms() + WAIT_MS, ret, 1);
    committer_go_on(committer);
    return n == 1;
}

static void
a_secret_that_was_never_sent_is_revoked(void **state)
{
    (void)state;
    struct journal_entry entry, written;
    struct work *w = &works[0];
    propose_token(w);
    assert_true(is_withdrawn(w, &entry));
    assert_int_equal(w->rq.call.err.kind, KT_OK);
    assert_int_equal(entry.type, JOURNAL_TOKEN);
    assert_memory_equal(entry.id, w->digest, sizeof w->digest);
    /* And by the next start, if this one does not come to it. */
    assert_int_equal(journal_last(journal), 1);
    assert_true(journal_each(journal, keep_entry, &written));
    assert_int_equal(written.type, JOURNAL_TOKEN);
    assert_memory_equal(written.id, w->digest, sizeof w->digest);
}

static void
with_a_key_it_can_be_had_again(void **state)
{
    (void)state;
    struct journal_entry entry;
    propose_token(&works[0]);
    works[0].rq.idempotency_key = KT_LIT("key");
    assert_false(is_withdrawn(&works[0], &entry));
    assert_int_equal(works[0].when_done, INDEX_LIVE);
    assert_int_equal(journal_last(journal), 0);
}

/* The token has another secret yet. */
static void
of_a_rotation_only_the_secret_is_revoked(void **state)
{
    (void)state;
    struct journal_entry entry;
    mint(0, 1);
    propose_token(&works[1]);
    propose_end(&works[1], EFFECT_EXPIRY, &works[0], INT64_MAX);
    assert_true(is_withdrawn(&works[1], &entry));
    assert_int_equal(entry.type, JOURNAL_DIGEST);
    assert_memory_equal(entry.id, works[1].digest, sizeof works[1].digest);
}

static void
what_was_not_made_need_not_be_revoked(void **state)
{
    (void)state;
    struct journal_entry entry;
    propose_token(&works[0]);
    disk_fail(core.disk, KAITEN_DONE, KAITEN_RETRY, 0, 1);
    assert_false(is_withdrawn(&works[0], &entry));
    assert_int_equal(journal_last(journal), 0);
}

static void
without_room_it_is_revoked_all_the_same(void **state)
{
    (void)state;
    struct journal_entry entry;
    mint(100, 1);
    fill_disk(true);
    propose_long_end(&works[0], &works[100], JOURNAL_ROOM);
    commit(&works[0]);
    propose_token(&works[1]);
    bool withdrawn = is_withdrawn(&works[1], &entry);
    fill_disk(false);
    assert_true(withdrawn);
    assert_memory_equal(entry.id, works[1].digest, sizeof works[1].digest);
    assert_int_equal(journal_last(journal), JOURNAL_ROOM);
}

#define WITH_JOURNAL(test) cmocka_unit_test_setup_teardown(test, open_journal, close_journal)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_JOURNAL(each_learns_of_it_in_its_turn),
        WITH_JOURNAL(what_begins_is_not_written_down),
        WITH_JOURNAL(the_mark_stays_below_an_unknown_outcome),
        WITH_JOURNAL(the_mark_goes_on_once_the_store_is_known_to_have_it),
        WITH_JOURNAL(a_full_disk_leaves_room_for_endings),
        WITH_JOURNAL(who_needs_no_room_is_not_refused_with_the_others),
        WITH_JOURNAL(a_group_ends_no_more_than_there_is_room_for),
        WITH_JOURNAL(a_full_journal_loses_its_oldest),
        WITH_JOURNAL(what_the_store_may_lack_stays_in_a_full_journal),
        WITH_JOURNAL(a_start_makes_room_in_a_full_journal),
        WITH_JOURNAL(what_the_store_does_not_know_is_never_too_old),
        WITH_JOURNAL(a_fresh_digest_key_drops_no_ending_for_its_age),
        WITH_JOURNAL(a_secret_that_was_never_sent_is_revoked),
        WITH_JOURNAL(with_a_key_it_can_be_had_again),
        WITH_JOURNAL(of_a_rotation_only_the_secret_is_revoked),
        WITH_JOURNAL(what_was_not_made_need_not_be_revoked),
        WITH_JOURNAL(without_room_it_is_revoked_all_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
