/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/endings.h"

#include "client/proto/bigend.h"
#include "daemon/grow.h"
#include "daemon/model/account.h"
#include "daemon/model/idmap.h"
#include "daemon/model/token.h"
#include "daemon/service.h"
#include "daemon/unsettled.h"

#include <stdlib.h>

enum {
    TOGETHER = 256,
    IDLE_MAX = 32 /* turns that others were faster in: they do the same, or something new */
};

/* --- judging ------------------------------------------------------------------------------ */

static enum endings_verdict
rolled_back(const char **ret_why, const char *why)
{
    *ret_why = why;
    return ENDINGS_ROLLED_BACK;
}

enum endings_verdict
endings_judge(bool fresh, const struct endings_mark *mark, enum journal_found found,
              const struct journal_seen *seen, const char **ret_why)
{
    if (found == JOURNAL_DAMAGED)
        return rolled_back(ret_why, "the revocation journal is damaged");
    if (found == JOURNAL_MISSING && mark->is_there)
        return rolled_back(ret_why, "the revocation journal is missing");
    /* Both are made before there is a token. */
    if (found == JOURNAL_MISSING && !fresh)
        return rolled_back(ret_why, "there are tokens, but no trace of a revocation journal");
    if (found == JOURNAL_MISSING)
        return ENDINGS_NEW_JOURNAL;
    /* Nothing can come back in a store that holds nothing, and the journal may have to explain a
     * copy that is put back later. One without records was made by a start that got no further. */
    if (!mark->is_there && (fresh || seen->last == 0))
        return ENDINGS_AGREE;
    if (!mark->is_there)
        return rolled_back(ret_why, "the store knows no revocation journal, but there is one");
    if (memcmp(mark->journal, seen->id, sizeof seen->id) != 0)
        return rolled_back(ret_why, "the revocation journal belongs to another store");
    if (seen->last < mark->number)
        return rolled_back(ret_why, "the revocation journal is older than the store");
    if (mark->number + 1 < seen->floor)
        return rolled_back(ret_why, "the store is older than all that the journal remembers");
    return ENDINGS_AGREE;
}

/* --- what was read ------------------------------------------------------------------------ */

struct endings {
    uint64_t above;
    struct journal_entry *entries; /* above the mark */
    size_t n, room;
    struct idmap said; /* of digests, and of accounts; see endings.h */
    unsigned char (*lacking)[32];
    size_t nlacking, lacking_room, risen;
    struct endings_told *told; /* by the store's mark */
    size_t ntold;
    bool failed;
};

struct endings *
endings_new(uint64_t above)
{
    struct endings *e = calloc(1, sizeof *e);
    if (e)
        e->above = above;
    return e;
}

void
endings_keep_above(struct endings *e, uint64_t above)
{
    size_t kept = 0;
    for (size_t i = 0; i < e->n; i++)
        if (e->entries[i].number > above)
            e->entries[kept++] = e->entries[i];
    e->n = kept;
    e->above = above;
}

void
endings_free(struct endings *e)
{
    if (!e)
        return;
    free(e->entries);
    idmap_done(&e->said);
    free(e->lacking);
    free(e->told);
    free(e);
}

int64_t
endings_of_digest(const struct endings *e, const unsigned char digest[32])
{
    const int64_t *said = idmap_find(&e->said, digest);
    return said ? *said : ENDINGS_NOTHING;
}

uint32_t
endings_of_account(const struct endings *e, const struct uuid *account)
{
    const int64_t *said = idmap_find(&e->said, account->b);
    return said ? (uint32_t)*said : 0;
}

void
endings_note_risen(struct endings *e)
{
    e->risen++;
}

size_t
endings_risen(const struct endings *e)
{
    return e->risen;
}

static bool
remember_account(struct endings *e, const struct journal_entry *entry)
{
    const int64_t epoch = entry->type == JOURNAL_ACCOUNT ? UINT32_MAX : entry->epoch;
    int64_t *said = idmap_add(&e->said, entry->id, epoch);
    if (said && *said < epoch)
        *said = epoch;
    return said != NULL;
}

/* Of a secret, as endings_of_digest() says it. */
static int64_t
end_of(const struct journal_entry *entry)
{
    switch (entry->type) {
    case JOURNAL_CAP: return entry->ends_ms;
    case JOURNAL_DIGEST: return ENDINGS_SECRET;
    case JOURNAL_TOKEN: return ENDINGS_TOKEN;
    default: return ENDINGS_REVOKED;
    }
}

/* Whatever ends it earlier counts. */
static bool
remember_digest(struct endings *e, const struct journal_entry *entry)
{
    const int64_t end = end_of(entry);
    int64_t *said = idmap_add(&e->said, entry->id, end);
    if (said && *said > end)
        *said = end;
    return said != NULL;
}

static bool
remember(struct endings *e, const struct journal_entry *entry)
{
    switch (entry->type) {
    case JOURNAL_BEGIN: return true;
    case JOURNAL_DIGEST:
    case JOURNAL_TOKEN:
    case JOURNAL_REVOKED:
    case JOURNAL_CAP: return remember_digest(e, entry);
    case JOURNAL_ACCOUNT:
    case JOURNAL_EPOCH: return remember_account(e, entry);
    }
    return false;
}

void
endings_add(void *ctx, const struct journal_entry *entry)
{
    struct endings *e = ctx;
    if (!remember(e, entry))
        e->failed = true;
    if (entry->number <= e->above || entry->type == JOURNAL_BEGIN)
        return;
    if (grow(&e->entries, e->n, &e->room, sizeof *e->entries))
        e->entries[e->n++] = *entry;
    else
        e->failed = true;
}

/* --- doing it again ----------------------------------------------------------------------- */

int
endings_propose(struct call *call, const struct journal_entry *entry, struct batch **ret)
{
    *ret = NULL;
    if (entry->type == JOURNAL_ACCOUNT || entry->type == JOURNAL_EPOCH)
        return account_replay(call, entry, ret);
    return token_replay(call, entry, ret);
}

static int
apply(struct call *call, struct batch *const batches[], size_t n, size_t *done, size_t *conflicts)
{
    struct kaiten_outcome outcomes[TOGETHER];
    char why[256];
    for (size_t i = 0; i < n; i++)
        if (batches[i]->failed)
            return fail_memory(call);
    enum kaiten_status status =
        n == 0 ? KAITEN_DONE : store_apply(call->svc->store, batches, n, outcomes, why, sizeof why);
    if (status != KAITEN_DONE)
        return fail_cause(call, KT_UNAVAILABLE, NULL, "the store cannot be written: %s", why);
    for (size_t i = 0; i < n; i++) {
        if (outcomes[i].status == KAITEN_DONE)
            (*done)++;
        else if (outcomes[i].status == KAITEN_CONFLICT)
            (*conflicts)++;
        else
            return fail_cause(call, KT_UNAVAILABLE, NULL, "the store cannot be written: %s", why);
    }
    return KT_OK;
}

/* Entries may be about one row: all but the first of them are then left for another turn, as is
 * what one batch cannot hold. Each turn does something, and the last one finds nothing to do. */
static int
replay_group(struct call *call, const struct journal_entry entries[], size_t n, size_t *done)
{
    struct batch *batches[TOGETHER];
    size_t nbatches, idle = 0;
    do {
        size_t before = *done, conflicts = 0;
        nbatches = 0;
        kt_arena_reset(call->arena);
        for (size_t i = 0; i < n; i++) {
            int status = endings_propose(call, &entries[i], &batches[nbatches]);
            if (status != KT_OK)
                return status;
            nbatches += batches[nbatches] != NULL;
        }
        int status = apply(call, batches, nbatches, done, &conflicts);
        if (status != KT_OK)
            return status;
        idle = *done == before ? idle + 1 : 0;
        if (conflicts != 0 && idle > (store_has_outsiders(call->svc->store) ? IDLE_MAX : 0))
            return fail_cause(call, KT_UNAVAILABLE, NULL, "somebody else writes this store");
    } while (nbatches != 0);
    return KT_OK;
}

int
endings_replay(struct call *call, const struct endings *e, size_t *ret_done)
{
    int status = KT_OK;
    *ret_done = 0;
    if (e->failed)
        return fail_memory(call);
    for (size_t i = 0; i < e->n && status == KT_OK; i += TOGETHER) {
        size_t n = e->n - i < TOGETHER ? e->n - i : TOGETHER;
        status = replay_group(call, e->entries + i, n, ret_done);
    }
    return status;
}

uint64_t
endings_watch_late(const struct endings *e, int64_t since_ms, struct unsettled *u,
                   int64_t mono_ms)
{
    uint64_t sure = UINT64_MAX;
    for (size_t i = 0; i < e->n; i++) {
        const struct journal_entry *entry = &e->entries[i];
        bool is_secret = entry->type == JOURNAL_TOKEN || entry->type == JOURNAL_DIGEST;
        if (!is_secret || entry->at_ms <= since_ms)
            continue;
        unsettled_add(u, entry, mono_ms);
        if (sure == UINT64_MAX) /* they come in order */
            sure = entry->number - 1;
    }
    return sure;
}

int
endings_explain(struct call *call, struct journal *j, const char **ret_why, size_t *ret_done)
{
    bool fresh;
    struct endings_mark mark;
    *ret_why = NULL;
    *ret_done = 0;
    int status = store_lacks(call, call->svc->store, "ahtx", &fresh);
    if (status == KT_OK)
        status = endings_read_mark(call, j, &mark);
    if (status != KT_OK)
        return status;
    if (endings_judge(fresh, &mark, JOURNAL_WHOLE, journal_seen(j), ret_why) != ENDINGS_AGREE)
        return KT_OK;
    struct endings *e = endings_new(mark.number);
    if (!e || !journal_each(j, endings_add, e)) {
        endings_free(e);
        return fail_cause(call, KT_UNAVAILABLE, NULL, "the journal cannot be read again");
    }
    status = endings_replay(call, e, ret_done);
    endings_free(e);
    return status;
}

/* --- what the journal lacks --------------------------------------------------------------- */

bool
endings_note_digest(struct endings *e, const unsigned char digest[32])
{
    if (endings_of_digest(e, digest) < 0)
        return true;
    if (!grow(&e->lacking, e->nlacking, &e->lacking_room, sizeof *e->lacking))
        return false;
    memcpy(e->lacking[e->nlacking++], digest, sizeof *e->lacking);
    return true;
}

bool
endings_note_told(struct endings *e, const struct endings_mark *mark)
{
    if (mark->ntold == 0)
        return true;
    e->told = calloc(mark->ntold, sizeof *e->told);
    if (!e->told)
        return false;
    memcpy(e->told, mark->told, mark->ntold * sizeof *e->told);
    e->ntold = mark->ntold;
    return true;
}

/* Of what is synced the store has all. */
static bool
reserve(struct call *call, struct journal *j, size_t n)
{
    struct store *store = call->svc->store;
    return (!journal_is_full(j) || endings_make_space(call->arena, store, j, call->now_ms)) &&
           journal_reserve(j, n);
}

struct healing {
    struct call *call;
    struct endings *endings;
    struct journal *journal;
    int64_t sure_ms;
    size_t n;
};

static bool
write_down(struct healing *h, const struct journal_entry *entry)
{
    /* A full group is synced before it is added to. */
    if (h->n % JOURNAL_ROOM == 0) {
        journal_sync(h->journal);
        if (!reserve(h->call, h->journal, JOURNAL_ROOM))
            return false;
    }
    journal_add(h->journal, entry);
    h->n++;
    return true;
}

/* Organization and account of a row that is theirs go into the entry. */
static struct uuid
account_in(struct kt_str key, struct journal_entry *entry)
{
    struct uuid account;
    memcpy(entry->org.b, key.p + 1, sizeof entry->org.b);
    memcpy(account.b, key.p + 1 + sizeof entry->org.b, sizeof account.b);
    memcpy(entry->id, account.b, sizeof account.b);
    return account;
}

static int
heal_account(void *ctx, const struct store_row *row)
{
    struct healing *h = ctx;
    struct journal_entry entry = { .type = JOURNAL_ACCOUNT, .epoch = UINT32_MAX,
                                   .at_ms = h->call->now_ms };
    if (row->key.n != 1 + 2 * sizeof entry.org.b)
        return fail_record(h->call, 'x');
    struct uuid account = account_in(row->key, &entry);
    if (endings_of_account(h->endings, &account) == UINT32_MAX || write_down(h, &entry))
        return KT_OK;
    return fail_cause(h->call, KT_UNAVAILABLE, NULL, "there is no room for the journal");
}

static int
heal_epoch(void *ctx, const struct store_row *row)
{
    struct healing *h = ctx;
    struct journal_entry entry = { .type = JOURNAL_EPOCH, .at_ms = h->call->now_ms };
    if (row->key.n != 1 + 2 * sizeof entry.org.b + sizeof entry.epoch)
        return fail_record(h->call, 'r');
    struct uuid account = account_in(row->key, &entry);
    const char *epoch = row->key.p + row->key.n - sizeof entry.epoch;
    entry.epoch = (uint32_t)kt_get_be(epoch, sizeof entry.epoch);
    entry.epoch++; /* the row is of the epoch that ended */
    if (endings_of_account(h->endings, &account) >= entry.epoch || write_down(h, &entry))
        return KT_OK;
    return fail_cause(h->call, KT_UNAVAILABLE, NULL, "there is no room for the journal");
}

/* What has expired since is dead in every copy of the store: the journal has dropped it for that,
 * and would otherwise be given it back at every start, for good. */
static int
heal_secret(struct healing *h, const struct journal_entry *entry)
{
    bool over = entry->until_ms != 0 && entry->until_ms <= h->sure_ms;
    if (over || (write_down(h, entry) && remember(h->endings, entry)))
        return KT_OK;
    return fail_cause(h->call, KT_UNAVAILABLE, NULL, "there is no room for the journal");
}

static int
heal_digest(struct healing *h, const unsigned char digest[32])
{
    struct journal_entry entry = { .type = JOURNAL_DIGEST, .at_ms = h->call->now_ms };
    if (endings_of_digest(h->endings, digest) < 0) /* the mark has told it */
        return KT_OK;
    memcpy(entry.id, digest, sizeof entry.id);
    kt_arena_reset(h->call->arena);
    int status = token_describe_end(h->call, digest, &entry);
    return status == KT_OK ? heal_secret(h, &entry) : status;
}

/* Whether the journal says as much as the entry. */
static bool
is_said(const struct endings *e, const struct journal_entry *entry)
{
    struct uuid account;
    memcpy(account.b, entry->id, sizeof account.b);
    switch (entry->type) {
    case JOURNAL_ACCOUNT: return endings_of_account(e, &account) == UINT32_MAX;
    case JOURNAL_EPOCH: return endings_of_account(e, &account) >= entry->epoch;
    default: return endings_of_digest(e, entry->id) <= end_of(entry);
    }
}

/* What did not come about, because something else was faster, is not in the store either: where
 * there is nothing to be done again. */
static int
heal_told(struct healing *h)
{
    const struct endings *e = h->endings;
    bool is_stored = false;
    for (size_t i = 0; i < e->ntold; i++) {
        const struct endings_told *t = &e->told[i];
        struct batch *b = NULL;
        kt_arena_reset(h->call->arena);
        int status = t->is_former ? KT_OK : endings_propose(h->call, &t->entry, &b);
        is_stored = t->is_former ? is_stored : b == NULL;
        if (status == KT_OK && is_stored && !is_said(e, &t->entry))
            status = heal_secret(h, &t->entry);
        if (status != KT_OK)
            return status;
    }
    return KT_OK;
}

int
endings_heal(struct call *call, struct endings *e, struct journal *j, int64_t sure_ms,
             size_t *ret_healed)
{
    struct healing h = { call, e, j, sure_ms, 0 };
    const struct store_range tombstones = { KT_LIT("x"), KT_LIT("y"), false, 0 };
    const struct store_range epochs = { KT_LIT("r"), KT_LIT("s"), false, 0 };
    int status = heal_told(&h);
    if (status == KT_OK)
        status = store_scan(call, call->svc->store, &tombstones, heal_account, &h);
    if (status == KT_OK)
        status = store_scan(call, call->svc->store, &epochs, heal_epoch, &h);
    for (size_t i = 0; status == KT_OK && i < e->nlacking; i++)
        status = heal_digest(&h, e->lacking[i]);
    journal_sync(j);
    *ret_healed = h.n;
    return status;
}

/* --- all of them -------------------------------------------------------------------------- */

struct secrets {
    unsigned char digests[TOGETHER][32];
    size_t n;
};

static int
take_secret(void *ctx, const struct store_row *row)
{
    struct secrets *s = ctx;
    if (row->key.n == 1 + sizeof s->digests[0])
        memcpy(s->digests[s->n++], row->key.p + 1, sizeof s->digests[0]);
    return KT_OK;
}

static int
revoke_some(struct call *call, struct journal *j, const struct secrets *s, size_t *revoked)
{
    struct journal_entry entries[TOGETHER];
    for (size_t i = 0; i < s->n; i++) {
        entries[i] = (struct journal_entry){ .type = JOURNAL_TOKEN, .at_ms = call->now_ms };
        memcpy(entries[i].id, s->digests[i], sizeof entries[i].id);
        journal_add(j, &entries[i]);
    }
    int status = replay_group(call, entries, s->n, revoked);
    if (status == KT_OK)
        journal_sync(j);
    return status;
}

int
endings_revoke_all(struct call *call, struct journal *j, size_t *ret_revoked)
{
    struct secrets s = { .n = 0 };
    unsigned char from[1 + sizeof s.digests[0] + 1] = { 'h' };
    size_t nfrom = 1;
    *ret_revoked = 0;
    do {
        const struct store_range range = { { (const char *)from, nfrom }, KT_LIT("i"), false,
                                           TOGETHER };
        s.n = 0;
        int status = store_scan(call, call->svc->store, &range, take_secret, &s);
        if (status == KT_OK && !reserve(call, j, TOGETHER))
            status = fail_cause(call, KT_UNAVAILABLE, NULL, "there is no room for the journal");
        if (status == KT_OK)
            status = revoke_some(call, j, &s, ret_revoked);
        if (status != KT_OK)
            return status;
        if (s.n != 0) /* from the last one's next neighbour */
            memcpy(from + 1, s.digests[s.n - 1], sizeof s.digests[0]);
        nfrom = sizeof from;
    } while (s.n == TOGETHER);
    return KT_OK;
}
