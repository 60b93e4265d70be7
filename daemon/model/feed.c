/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/feed.h"

#include "daemon/grow.h"
#include "daemon/index.h"
#include "daemon/journal.h"
#include "daemon/log.h"
#include "daemon/model/account.h"
#include "daemon/model/digest.h"
#include "daemon/model/record.h"
#include "daemon/model/token_row.h"
#include "daemon/model/verdict.h"
#include "daemon/service.h"
#include "daemon/timeguard.h"

#include <stdlib.h>

enum feed_type {
    FEED_ACCOUNT = 1,
    FEED_ACCOUNT_GONE,  /* says nothing of an account that the index does not know */
    FEED_ACCOUNT_ENDED, /* goes into the index in any case */
    FEED_TOKEN,
    FEED_TOKEN_GONE,
    FEED_USED
};

/* Texts are in the feed's arena. */
struct feed_change {
    enum feed_type type;
    struct uuid org, account;        /* ACCOUNT_... */
    struct account_record record;    /* ACCOUNT */
    struct verdict_record verdict;   /* TOKEN */
    unsigned char digest[DIGEST_BYTES];
    uint32_t used_s;                 /* USED */
};

struct feed_news {
    struct journal_entry entry;
    struct uuid org, account, token; /* DIGEST */
};

void
feed_init(struct feed *f)
{
    *f = (struct feed){ .v = NULL };
    kt_arena_init(&f->arena, FEED_ARENA_MAX);
}

void
feed_clear(struct feed *f)
{
    kt_arena_reset(&f->arena);
    f->n = 0;
}

void
feed_move_news(struct feed *from, struct feed *to)
{
    struct feed_news *v = to->news;
    size_t room = to->news_room;
    to->news = from->news;
    to->news_room = from->news_room;
    to->nnews = from->nnews;
    from->news = v;
    from->news_room = room;
    from->nnews = 0;
}

void
feed_done(struct feed *f)
{
    kt_arena_done(&f->arena);
    free(f->v);
    free(f->news);
}

/* --- reading rows ------------------------------------------------------------------------- */

static struct feed_change *
next_change(struct feed *f)
{
    if (!grow(&f->v, f->n, &f->room, sizeof *f->v))
        return NULL;
    f->v[f->n] = (struct feed_change){ .type = FEED_ACCOUNT };
    return &f->v[f->n++];
}

static bool
read_account(struct feed_change *c, const struct store_row *row)
{
    if (row->key.n != 1 + sizeof c->org.b + sizeof c->account.b)
        return false;
    memcpy(c->org.b, row->key.p + 1, sizeof c->org.b);
    memcpy(c->account.b, row->key.p + 1 + sizeof c->org.b, sizeof c->account.b);
    c->type = row->value.p ? FEED_ACCOUNT : FEED_ACCOUNT_GONE;
    return !row->value.p || account_decode(row->value, &c->record);
}

static bool
read_token(struct feed *f, struct feed_change *c, const struct store_row *row)
{
    if (row->key.n != 1 + DIGEST_BYTES)
        return false;
    memcpy(c->digest, row->key.p + 1, DIGEST_BYTES);
    c->type = row->value.p ? FEED_TOKEN : FEED_TOKEN_GONE;
    return !row->value.p || verdict_decode(&f->arena, row->value, &c->verdict);
}

static bool
read_use(struct feed_change *c, const struct store_row *row)
{
    c->type = FEED_USED;
    return token_row_read_used(row, c->digest, &c->used_s);
}

static int
no_memory(struct call *call)
{
    return fail(call, KT_UNAVAILABLE, NULL, "no memory for what others have written");
}

int
feed_add(struct call *call, struct feed *f, const struct store_row *row)
{
    struct store_row copy = *row;
    struct feed_change *c = next_change(f);
    if (row->value.p)
        copy.value = kt_arena_str(&f->arena, row->value);
    if (!c || (row->value.p && !copy.value.p))
        return no_memory(call);
    char space = row->key.n == 0 ? '-' : row->key.p[0];
    bool good = (space == 'a' && read_account(c, &copy)) ||
                (space == 'h' && read_token(f, c, &copy)) || (space == 'u' && read_use(c, &copy));
    if (good)
        return KT_OK;
    return fail(call, KT_INTERNAL, NULL, "a stored record of space '%c' has another form", space);
}

int
feed_add_ended(struct call *call, struct feed *f, const struct uuid *org,
               const struct uuid *account)
{
    struct feed_change *c = next_change(f);
    if (!c)
        return no_memory(call);
    c->type = FEED_ACCOUNT_ENDED;
    c->org = *org;
    c->account = *account;
    return KT_OK;
}

/* --- into the index ----------------------------------------------------------------------- */

struct applying {
    struct index *index;
    struct feed *feed;
    int64_t now_ms;
    size_t ends;
    bool may_add; /* nothing has ended since the rows were read */
    bool room;    /* for all that is new */
};

/* What finds no memory, or no room in the journal later, is written down at the next start, which
 * compares journal and store. */
static struct feed_news *
add_news(struct feed *f, const struct journal_entry *entry)
{
    if (!grow(&f->news, f->nnews, &f->news_room, sizeof *f->news))
        return NULL;
    f->news[f->nnews] = (struct feed_news){ .entry = *entry };
    return &f->news[f->nnews++];
}

static void
note_account(struct applying *a, enum journal_type type, const struct uuid *org,
              const struct uuid *account, uint32_t epoch)
{
    struct journal_entry entry = { .type = type, .epoch = epoch, .at_ms = a->now_ms, .org = *org };
    memcpy(entry.id, account->b, sizeof account->b);
    (void)add_news(a->feed, &entry);
}

static void
rename_account(struct index *index, uint32_t number, const struct account_record *r)
{
    const struct index_account_text text = { r->org_ext, r->slug, r->external_id, r->name };
    const struct index_account_text *now = atomic_load(&index_account_at(index, number)->text);
    if (!kt_str_eq(now->name, r->name) && index_account_rename(index, number, &text) != INDEX_OK)
        log_line(LOG_LEVEL_WARNING, "index.rename", "message=%s", "no memory");
}

static void
apply_account(struct applying *a, const struct feed_change *c)
{
    const struct account_record *r = &c->record;
    const struct index_account_text text = { r->org_ext, r->slug, r->external_id, r->name };
    uint32_t number, known = ACCOUNT_EPOCH_FIRST;
    if (!a->may_add && !index_account_find(a->index, &r->id, &number))
        return;
    enum index_status status =
        index_account_put(a->index, &r->id, &r->org, &text, r->epoch, &number);
    if (status == INDEX_NO_MEMORY) {
        a->ends++; /* perhaps of an epoch */
        return;
    }
    if (status == INDEX_PRESENT) {
        known = atomic_load(&index_account_at(a->index, number)->epoch);
        rename_account(a->index, number, r);
        index_account_set_epoch(a->index, number, r->epoch);
    }
    if (r->epoch > known)
        note_account(a, JOURNAL_EPOCH, &r->org, &r->id, r->epoch);
}

static void
apply_account_end(struct applying *a, const struct feed_change *c)
{
    static const struct index_account_text gone = { KT_LIT(""), KT_LIT(""), KT_LIT(""),
                                                    KT_LIT("") };
    uint32_t number;
    a->ends += c->type == FEED_ACCOUNT_GONE;
    bool there = index_account_find(a->index, &c->account, &number);
    if (!there && c->type == FEED_ACCOUNT_ENDED)
        there = index_account_put(a->index, &c->account, &c->org, &gone, UINT32_MAX, &number) !=
                INDEX_NO_MEMORY;
    if (!there)
        return;
    if ((atomic_load(&index_account_at(a->index, number)->flags) & INDEX_ACCOUNT_ENDED) == 0 &&
        c->type == FEED_ACCOUNT_GONE)
        note_account(a, JOURNAL_ACCOUNT, &c->org, &c->account, UINT32_MAX);
    index_account_end(a->index, number, UINT32_MAX);
}

static void
note_token(struct applying *a, const struct feed_change *c, enum index_news news,
           int64_t until_ms)
{
    struct journal_entry entry = { .type = JOURNAL_DIGEST, .at_ms = a->now_ms,
                                   .until_ms = until_ms };
    if (news == INDEX_NEWS_EARLIER) {
        entry.type = JOURNAL_CAP;
        entry.ends_ms = c->verdict.expires_ms;
    }
    memcpy(entry.id, c->digest, sizeof entry.id);
    struct feed_news *added = add_news(a->feed, &entry);
    if (!added)
        return;
    added->org = c->verdict.org;
    added->account = c->verdict.account;
    added->token = c->verdict.token;
}

/* What cannot be added for want of memory is a miss, and misses ask the store; what ends something
 * that is there needs no memory. */
static void
apply_token(struct applying *a, const struct feed_change *c)
{
    const struct verdict_record *v = &c->verdict;
    struct index_token token = { .id = v->token, .epoch = v->epoch, .expires_ms = v->expires_ms,
                                 .revoked = v->revoked };
    enum index_news news;
    int64_t until_ms;
    a->ends += v->revoked;
    if (!index_account_find(a->index, &v->account, &token.account))
        return;
    if ((!a->room || (!a->may_add && !v->revoked)) &&
        index_find(a->index, c->digest, a->now_ms, NULL) == INDEX_UNKNOWN)
        return;
    if (index_scopes_put(a->index, v->scopes, v->nscopes, &token.scopes) == INDEX_NO_MEMORY) {
        (void)index_remove(a->index, c->digest);
        return;
    }
    (void)index_merge(a->index, c->digest, &token, &news, &until_ms);
    if (news != INDEX_NEWS_NONE)
        note_token(a, c, news, until_ms);
}

static void
apply_change(struct applying *a, const struct feed_change *c)
{
    switch (c->type) {
    case FEED_ACCOUNT: apply_account(a, c); break;
    case FEED_ACCOUNT_GONE:
    case FEED_ACCOUNT_ENDED: apply_account_end(a, c); break;
    case FEED_TOKEN: apply_token(a, c); break;
    case FEED_TOKEN_GONE:
        a->ends++;
        (void)index_remove(a->index, c->digest);
        break;
    case FEED_USED: (void)index_set_used(a->index, c->digest, c->used_s); break;
    }
}

static bool
is_account(const struct feed_change *c)
{
    return c->type <= FEED_ACCOUNT_ENDED;
}

void
feed_apply(struct service *svc, struct feed *f, bool room)
{
    struct applying a = { .index = svc->index, .feed = f, .room = room,
                          .may_add = atomic_load(&svc->ends) == f->ends,
                          .now_ms = clock_now_ms(clock_mono_ms()) };
    for (size_t i = 0; i < f->n; i++)
        if (is_account(&f->v[i]))
            apply_change(&a, &f->v[i]);
    for (size_t i = 0; i < f->n; i++)
        if (!is_account(&f->v[i]))
            apply_change(&a, &f->v[i]);
    if (a.ends != 0)
        atomic_fetch_add(&svc->ends, 1);
}

/* --- into the journal --------------------------------------------------------------------- */

size_t
feed_news(const struct feed *f)
{
    return f->nnews;
}

enum { TOGETHER = KAITEN_BATCH_WRITES_MAX };

static bool
is_revoked(struct call *call, const struct store_row *row)
{
    struct token_record t;
    return row->value.p && token_decode(call->arena, row->key, row->value, &t) && t.revoked_ms != 0;
}

static void
name_token(struct feed_news *news)
{
    news->entry.type = JOURNAL_REVOKED;
    news->entry.org = news->org;
    news->entry.account = news->account;
    memcpy(news->entry.id + JOURNAL_DIGEST_KEPT, news->token.b, sizeof news->token.b);
}

/* A rotation ends a secret as well, and its token goes on. */
static bool
look_at(struct call *call, struct feed_news *const news[], size_t n)
{
    struct kt_str keys[TOGETHER] = { { NULL, 0 } };
    struct store_row rows[TOGETHER];
    for (size_t i = 0; i < n; i++) {
        keys[i] = token_row_key(call->arena, &news[i]->org, &news[i]->account, &news[i]->token);
        if (!keys[i].p)
            return false;
    }
    if (n != 0 && store_get(call, call->svc->store, keys, n, rows) != KT_OK)
        return false;
    for (size_t i = 0; i < n; i++)
        if (is_revoked(call, &rows[i]))
            name_token(news[i]);
    return true;
}

void
feed_look(struct call *call, struct feed *f)
{
    for (size_t i = 0; i < f->nnews;) {
        struct feed_news *digests[TOGETHER];
        size_t n = 0;
        for (; i < f->nnews && n < TOGETHER; i++)
            if (f->news[i].entry.type == JOURNAL_DIGEST)
                digests[n++] = &f->news[i];
        if (!look_at(call, digests, n))
            return;
    }
}

void
feed_write_down(struct service *svc, const struct feed *f)
{
    struct journal *j = svc->journal;
    for (size_t i = 0; j && i < f->nnews; i++) {
        if (i % JOURNAL_ROOM == 0) {
            journal_sync(j);
            if (!journal_reserve(j, JOURNAL_ROOM)) {
                log_line(LOG_LEVEL_WARNING, "journal.full", "message=%s",
                         "there is no room for what others have ended");
                return;
            }
        }
        journal_add(j, &f->news[i].entry);
    }
    if (j)
        journal_sync(j);
}
