/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Rows that others have written, in whatever order; and tokens that the store is asked about. */
#include "config.h"

#include "daemon/model/ask.h"
#include "daemon/model/feed.h"
#include "tests/unit/core-ask.h"
#include "tests/unit/one-core.h"

/* --- rows --------------------------------------------------------------------------------- */

enum { ROWS_MAX = 256 };

struct rows {
    struct store_row v[ROWS_MAX];
    size_t n;
};

static int
keep_row(void *ctx, const struct store_row *row)
{
    struct rows *rows = ctx;
    struct store_row *copy = &rows->v[rows->n++];
    core_must(rows->n <= ROWS_MAX);
    copy->key = kt_arena_str(&arena, row->key);
    copy->value = kt_arena_str(&arena, row->value);
    return KT_OK;
}

/* All that the store has in the spaces of the feed, as changes() may tell it. */
static void
read_rows(struct rows *rows)
{
    struct kt_arena own;
    struct call mine;
    core_call(&core, &own, &mine);
    for (const char *space = FEED_SPACES; *space; space++) {
        const char to = (char)(*space + 1);
        const struct store_range range = { { space, 1 }, { &to, 1 }, false, 0 };
        assert_int_equal(store_scan(&mine, core.svc.store, &range, keep_row, rows), KT_OK);
    }
    kt_arena_done(&own);
}

/* What was there and is not any more. */
static void
add_gone(struct rows *rows, const struct rows *before, const struct rows *after)
{
    for (size_t i = 0; i < before->n; i++) {
        bool there = false;
        for (size_t k = 0; k < after->n; k++)
            there |= kt_str_eq(before->v[i].key, after->v[k].key);
        if (!there)
            rows->v[rows->n++] = (struct store_row){ .key = before->v[i].key };
    }
}

static void
add_rows(struct rows *to, const struct rows *from)
{
    for (size_t i = 0; i < from->n; i++)
        to->v[to->n++] = from->v[i];
}

static void
apply(struct service *svc, const struct store_row rows[], size_t n)
{
    struct feed feed;
    struct call mine = { .svc = svc, .arena = &arena };
    feed_init(&feed);
    feed.ends = atomic_load(&svc->ends);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(feed_add(&mine, &feed, &rows[i]), KT_OK);
    feed_apply(svc, &feed, true);
    feed_done(&feed);
}

/* --- what was done ------------------------------------------------------------------------ */

enum { KEPT, REVOKED, ROTATED, FRESH, EPOCH, DELETED, SECRETS };

static char secrets[SECRETS][64];

static const enum token_judgement should_be[SECRETS] = {
    [KEPT] = TOKEN_LIVE,     [REVOKED] = TOKEN_REVOKED, [ROTATED] = TOKEN_REVOKED,
    [FRESH] = TOKEN_LIVE,    [EPOCH] = TOKEN_REVOKED,   [DELETED] = TOKEN_REVOKED,
};

static void
mint(const char *account, const char *slug, int which)
{
    assert_int_equal(core_mint(&core, CORE_ANN, account, slug, "[\"read:users\"]", secrets[which]),
                     201);
}

static void
begin_story(void)
{
    static const char *const accounts[] = { "one", "epoch", "gone" };
    for (size_t i = 0; i < CORE_COUNT(accounts); i++)
        assert_int_equal(core_make_account(&core, CORE_ANN, accounts[i]), 201);
    mint("one", "kept", KEPT);
    mint("one", "revoked", REVOKED);
    mint("one", "rotated", ROTATED);
    mint("epoch", "epoch", EPOCH);
    mint("gone", "deleted", DELETED);
}

static void
end_story(void)
{
    struct ask rotate = { .token = CORE_ANN, .method = "POST",
                          .path = "/service-accounts/one/tokens/rotated/rotate", .body = "{}" };
    assert_int_equal(core_http(&core, CORE_ANN, "DELETE", "/service-accounts/one/tokens/revoked",
                               NULL),
                     204);
    assert_int_equal(core_ask(&core, &rotate), 200);
    memcpy(secrets[FRESH], rotate.secret, sizeof secrets[FRESH]);
    ask_done(&rotate);
    assert_int_equal(core_http(&core, CORE_ANN, "POST", "/service-accounts/epoch/tokens/revoke",
                               "{}"),
                     200);
    assert_int_equal(core_http(&core, CORE_ANN, "DELETE", "/service-accounts/gone", NULL), 204);
}

static enum token_judgement
judge(const struct service *svc, int which)
{
    struct index_hit hit;
    const struct kt_secret_view view = { secrets[which], strlen(secrets[which]) };
    return token_judge(svc, view, clock_wall_ms(), &hit);
}

/* --- order -------------------------------------------------------------------------------- */

static uint64_t random_state;

static size_t
draw(size_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(random_state >> 33) % n;
}

/* Whether the second one is what the key had earlier. Rows of the later reading have a revision. */
static bool
is_late(const struct store_row *a, const struct store_row *b, bool in_time)
{
    if (!kt_str_eq(a->key, b->key) || !b->value.p)
        return false;
    return !a->value.p || (in_time && a->revision > b->revision);
}

/* In any order, except that a row which is gone does not come back: keys are not used again.
 * in_time: the rows of one key come in the order in which they were written. */
static void
shuffle(struct rows *rows, bool in_time)
{
    for (size_t i = rows->n; i > 1; i--) {
        size_t k = draw(i);
        struct store_row row = rows->v[i - 1];
        rows->v[i - 1] = rows->v[k];
        rows->v[k] = row;
    }
    for (size_t i = 0; i < rows->n; i++)
        for (size_t k = i + 1; k < rows->n; k++)
            if (is_late(&rows->v[i], &rows->v[k], in_time)) {
                struct store_row row = rows->v[i];
                rows->v[i] = rows->v[k];
                rows->v[k] = row;
            }
}

static void
apply_in_pieces(struct service *svc, const struct rows *rows)
{
    for (size_t at = 0; at < rows->n;) {
        size_t n = 1 + draw(6);
        if (n > rows->n - at)
            n = rows->n - at;
        apply(svc, rows->v + at, n);
        at += n;
    }
}

static void
check(const struct service *svc, bool all)
{
    for (int i = 0; i < SECRETS; i++) {
        enum token_judgement said = judge(svc, i);
        /* Of an account that is gone nothing more is told. */
        bool may_lack = !all || i == DELETED;
        assert_true(said == should_be[i] || (said == TOKEN_UNKNOWN && may_lack));
    }
}

struct story {
    struct rows before, after, gone, all;
};

static void
try_order(struct story *s, bool accounts_first, uint64_t seed)
{
    struct service svc = { .index = index_new(NULL, NULL), .keys = core.svc.keys };
    random_state = seed;
    s->all.n = 0;
    add_rows(&s->all, &s->before);
    add_rows(&s->all, &s->after);
    add_rows(&s->all, &s->gone);
    add_rows(&s->all, &s->after);
    shuffle(&s->all, !accounts_first);
    if (accounts_first)
        for (size_t i = 0; i < s->before.n && s->before.v[i].key.p[0] == 'a'; i++)
            apply(&svc, &s->before.v[i], 1);
    apply_in_pieces(&svc, &s->all);
    check(&svc, accounts_first);
    apply(&svc, s->after.v, s->after.n);
    check(&svc, true);
    index_free(svc.index);
}

/* Old rows come after new ones, and twice, or long before the account that they belong to. In the
 * end nothing that has ended is live, and once every row has come, everything is known. */
static void
order_does_not_matter(void **state)
{
    (void)state;
    static struct story s;
    s.before.n = s.after.n = s.gone.n = 0;
    begin_story();
    read_rows(&s.before);
    end_story();
    read_rows(&s.after);
    for (size_t i = 0; i < s.after.n; i++)
        s.after.v[i].revision = 1;
    add_gone(&s.gone, &s.before, &s.after);
    assert_int_equal(s.gone.n, 1);
    for (uint64_t seed = 1; seed < 300; seed++) {
        try_order(&s, false, seed);
        try_order(&s, true, seed);
    }
}

/* What was read before something ended may be just that: nothing new comes in as alive. */
static void
what_was_read_before_an_end_adds_nothing(void **state)
{
    (void)state;
    static struct rows rows;
    struct service svc = { .index = index_new(NULL, NULL), .keys = core.svc.keys };
    struct call mine = { .svc = &svc, .arena = &arena };
    struct feed feed;
    rows.n = 0;
    begin_story();
    read_rows(&rows);
    feed_init(&feed);
    feed.ends = atomic_load(&svc.ends);
    for (size_t i = 0; i < rows.n; i++)
        assert_int_equal(feed_add(&mine, &feed, &rows.v[i]), KT_OK);
    atomic_fetch_add(&svc.ends, 1);
    feed_apply(&svc, &feed, true);
    assert_int_equal(judge(&svc, KEPT), TOKEN_UNKNOWN);
    feed.ends = atomic_load(&svc.ends);
    feed_apply(&svc, &feed, true);
    assert_int_equal(judge(&svc, KEPT), TOKEN_LIVE);
    feed_done(&feed);
    index_free(svc.index);
}

/* Everything again: what is not there any more is forgotten, what was ended stays so. */
static void
a_second_reading_forgets_what_is_lost(void **state)
{
    (void)state;
    static struct rows before, after;
    struct service svc = { .index = index_new(NULL, NULL), .keys = core.svc.keys };
    before.n = after.n = 0;
    begin_story();
    read_rows(&before);
    end_story();
    read_rows(&after);
    apply(&svc, after.v, after.n);
    assert_int_equal(judge(&svc, FRESH), TOKEN_LIVE);
    assert_int_equal(judge(&svc, REVOKED), TOKEN_REVOKED);
    /* The store is as it was before: the rotation is lost, and so is the revocation. */
    index_sweep_begin(svc.index);
    apply(&svc, before.v, before.n);
    assert_int_equal(index_sweep(svc.index), 1);
    assert_int_equal(judge(&svc, FRESH), TOKEN_UNKNOWN);
    assert_int_equal(judge(&svc, REVOKED), TOKEN_REVOKED);
    assert_int_equal(judge(&svc, ROTATED), TOKEN_REVOKED);
    assert_int_equal(judge(&svc, EPOCH), TOKEN_REVOKED);
    assert_int_equal(judge(&svc, KEPT), TOKEN_LIVE);
    index_free(svc.index);
}

static void
bad_rows_are_refused(void **state)
{
    (void)state;
    static struct rows rows;
    struct feed feed;
    rows.n = 0;
    begin_story();
    read_rows(&rows);
    feed_init(&feed);
    for (size_t i = 0; i < rows.n; i++) {
        struct store_row cut = rows.v[i], other = rows.v[i];
        cut.value.n--;
        other.key.n--;
        call.err.kind = KT_OK;
        assert_int_equal(feed_add(&call, &feed, &cut), KT_INTERNAL);
        assert_int_equal(feed_add(&call, &feed, &other), KT_INTERNAL);
    }
    feed_done(&feed);
}

/* --- asking the store --------------------------------------------------------------------- */

static int
ask(int which, enum token_judgement *ret_said)
{
    struct kt_arena own;
    struct call mine;
    struct index_hit hit;
    const struct kt_secret_view view = { secrets[which], strlen(secrets[which]) };
    core_call(&core, &own, &mine);
    const struct token_digest digest = token_digest(&core.svc, view);
    int status = token_ask(&mine, &digest, &hit, ret_said);
    if (status == KT_OK && *ret_said == TOKEN_LIVE) {
        assert_true(kt_str_is(hit.text->slug, "one"));
        assert_true(kt_str_is(hit.text->org_ext, "acme"));
        assert_true(kt_str_is(hit.scopes->json, "[\"read:users\"]"));
        assert_int_equal(hit.scopes->list.n, 1);
    }
    kt_arena_done(&own);
    return status;
}

/* Does nothing, once it may. */
struct hold {
    struct errand errand;
    pthread_mutex_t gate;
};

static void
run_hold(struct errand *e)
{
    struct hold *hold = (struct hold *)e;
    pthread_mutex_lock(&hold->gate);
    pthread_mutex_unlock(&hold->gate);
}

/* Until the committer has done what it was given. */
static void
settle(void)
{
    struct ask ask = { .token = CORE_ANN, .method = "PUT", .path = "/service-accounts/one",
                       .body = "{\"name\":\"one\"}" };
    assert_int_equal(core_ask(&core, &ask), 204);
    ask_done(&ask);
}

static void
forget(int which)
{
    const struct kt_secret_view view = { secrets[which], strlen(secrets[which]) };
    const struct token_digest digest = token_digest(&core.svc, view);
    settle();
    assert_int_equal(index_remove(core.svc.index, digest.bytes), INDEX_OK);
}

static void
the_store_is_asked(void **state)
{
    (void)state;
    struct freshness fresh = { .max_ms = 1000 };
    enum token_judgement said;
    begin_story();
    end_story();
    core.svc.fresh = &fresh;
    for (int i = 0; i < SECRETS; i++) {
        /* With an index that nobody has kept up to date, the store is asked about what lives. */
        atomic_store(&fresh.as_of_ms, clock_mono_ms() - 2000);
        assert_int_equal(core_judge(&core, secrets[i]),
                         should_be[i] == TOKEN_LIVE ? TOKEN_ASK : should_be[i]);
        assert_int_equal(ask(i, &said), KT_OK);
        assert_int_equal(said, should_be[i]);
        atomic_store(&fresh.as_of_ms, clock_mono_ms() + 60000);
        assert_int_equal(core_judge(&core, secrets[i]), should_be[i]);
        /* And about what the index does not know, which then learns it. */
        forget(i);
        assert_int_equal(core_judge(&core, secrets[i]), TOKEN_ASK);
        assert_int_equal(ask(i, &said), KT_OK);
        assert_int_equal(said, should_be[i]);
        settle();
        assert_int_equal(core_judge(&core, secrets[i]), should_be[i]);
    }
    forget(KEPT);
    atomic_store(&core.disk->get_says, KAITEN_RETRY);
    assert_int_equal(ask(KEPT, &said), KT_UNAVAILABLE);
    assert_int_equal(ask(REVOKED, &said), KT_OK);
    assert_int_equal(said, TOKEN_REVOKED);
    disk_mend(core.disk);
    core.svc.fresh = NULL;
}

/* A worker has read the token as alive; before the index is told, something ends. */
static void
what_ends_meanwhile_is_not_revived(void **state)
{
    (void)state;
    struct freshness fresh = { .max_ms = 1000 };
    struct hold hold = { .errand = { .run = run_hold }, .gate = PTHREAD_MUTEX_INITIALIZER };
    enum token_judgement said;
    begin_story();
    forget(KEPT);
    atomic_store(&fresh.as_of_ms, clock_mono_ms() + 60000);
    core.svc.fresh = &fresh;
    pthread_mutex_lock(&hold.gate);
    committer_run(core.svc.committer, &hold.errand);
    assert_int_equal(ask(KEPT, &said), KT_OK);
    assert_int_equal(said, TOKEN_LIVE);
    atomic_fetch_add(&core.svc.ends, 1);
    pthread_mutex_unlock(&hold.gate);
    settle();
    assert_int_equal(core_judge(&core, secrets[KEPT]), TOKEN_ASK);
    core.svc.fresh = NULL;
}

static size_t
count_notes(void)
{
    size_t n, all = 0;
    for (size_t list = 0; list < USED_LISTS; list++) {
        free(used_take(core.svc.used, list, &n));
        all += n;
    }
    return all;
}

/* The only use of a token may be the one that the store was asked for. */
static void
what_was_asked_for_counts_as_used(void **state)
{
    (void)state;
    struct freshness fresh = { .max_ms = 1000 };
    struct kt_arena own;
    struct call mine;
    begin_story();
    forget(KEPT);
    core.svc.fresh = &fresh;
    (void)count_notes();
    core_call(&core, &own, &mine);
    const struct kt_secret_view view = { secrets[KEPT], strlen(secrets[KEPT]) };
    const struct token_digest digest = token_digest(&core.svc, view);
    const struct index_record record = { .digest = { 7 } };
    const struct index_hit hit = { .record = &record };
    token_note_asked(&mine, &digest, &hit);
    assert_int_equal(count_notes(), 1);
    core.svc.fresh = NULL;
    /* Of an index that is being filled: under the digest of the row. */
    core.svc.filling = true;
    token_note_asked(&mine, &digest, &hit);
    core.svc.filling = false;
    kt_arena_done(&own);
    size_t n;
    struct used_note *notes = used_take(core.svc.used, 0, &n);
    assert_int_equal(n, 1);
    assert_memory_equal(notes[0].digest, record.digest, sizeof record.digest);
    free(notes);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(order_does_not_matter),
        TEST(what_was_read_before_an_end_adds_nothing),
        TEST(a_second_reading_forgets_what_is_lost),
        TEST(bad_rows_are_refused),
        TEST(the_store_is_asked),
        TEST(what_ends_meanwhile_is_not_revived),
        TEST(what_was_asked_for_counts_as_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
