/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The rows that say which endings of a journal the store has. */
#include "config.h"

#include "daemon/model/account.h"
#include "daemon/model/endings.h"
#include "daemon/model/record.h"
#include "daemon/service.h"
#include "daemon/store.h"

#include <errno.h>

static const int64_t DAY_MS = INT64_C(24) * 3600 * 1000;

enum {
    MARK_FORMAT = 1,
    MARK_TIMED = 2,   /* of a store with several journals */
    MARK_TELLING = 3, /* and what the journal is to be told */
    IS_FORMER = 0x80, /* with the type of an entry */
    VALUE_MAX = 62 * 1024
};

/* --- one mark ----------------------------------------------------------------------------- */

static const struct kt_str mark_only = KT_LIT("mjournal"); /* its key; with others, with its id */

bool
endings_is_mark(struct kt_str key)
{
    return key.n >= mark_only.n && memcmp(key.p, mark_only.p, mark_only.n) == 0;
}

bool
endings_mark_name(const struct store *store, struct kt_str value,
                  char room[ENDINGS_MARK_NAME_MAX], struct kt_str *ret)
{
    if (value.n < 1 + JOURNAL_ID_BYTES || value.p[0] < MARK_FORMAT || value.p[0] > MARK_TELLING)
        return false;
    memcpy(room, mark_only.p, mark_only.n);
    memcpy(room + mark_only.n, value.p + 1, JOURNAL_ID_BYTES);
    size_t n = mark_only.n + (store_has_outsiders(store) ? JOURNAL_ID_BYTES : 0);
    *ret = (struct kt_str){ room, n };
    return true;
}

static struct kt_str
mark_key(struct kt_arena *arena, const struct store *store, const struct journal *j)
{
    const struct kt_str only = mark_only;
    if (!store_has_outsiders(store))
        return only;
    char *p = kt_arena_alloc(arena, only.n + JOURNAL_ID_BYTES);
    if (!p)
        return (struct kt_str){ NULL, 0 };
    memcpy(p, only.p, only.n);
    memcpy(p + only.n, journal_id(j), JOURNAL_ID_BYTES);
    return (struct kt_str){ p, only.n + JOURNAL_ID_BYTES };
}

static void
entry_put(struct kt_buf *buf, const struct endings_told *t)
{
    const struct journal_entry *e = &t->entry;
    record_put_u8(buf, (uint8_t)(e->type | (t->is_former ? IS_FORMER : 0)));
    record_put_number(buf, e->epoch);
    record_put_number(buf, (uint64_t)e->ends_ms);
    record_put_number(buf, (uint64_t)e->until_ms);
    record_put_uuid(buf, &e->org);
    record_put_uuid(buf, &e->account);
    record_put_bytes(buf, e->id, sizeof e->id);
}

static bool
entry_get(struct record_in *in, int64_t at_ms, struct endings_told *ret)
{
    const uint8_t type = record_u8(in);
    *ret = (struct endings_told){ .is_former = (type & IS_FORMER) != 0 };
    struct journal_entry *e = &ret->entry;
    e->type = type & (IS_FORMER - 1);
    e->at_ms = at_ms;
    e->epoch = (uint32_t)record_number(in);
    e->ends_ms = (int64_t)record_number(in);
    e->until_ms = (int64_t)record_number(in);
    e->org = record_uuid(in);
    e->account = record_uuid(in);
    record_bytes(in, e->id, sizeof e->id);
    return in->ok && e->type > JOURNAL_BEGIN && e->type <= JOURNAL_REVOKED;
}

static bool
told_get(struct record_in *in, struct kt_arena *arena, struct endings_mark *ret)
{
    const int64_t at_ms = record_i64(in);
    const uint64_t n = record_number(in);
    if (!in->ok || n > ENDINGS_TOLD_MAX)
        return false;
    struct endings_told *told = kt_arena_calloc(arena, n, sizeof *told);
    if (!told)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!entry_get(in, at_ms, &told[i]))
            return false;
    ret->told = told;
    ret->ntold = n;
    return true;
}

static bool
mark_decode(struct kt_arena *arena, struct kt_str value, struct endings_mark *ret)
{
    struct record_in in;
    *ret = (struct endings_mark){ .is_there = true };
    record_open(&in, value);
    uint8_t format = record_u8(&in);
    record_bytes(&in, ret->journal, sizeof ret->journal);
    ret->number = (uint64_t)record_i64(&in);
    if (format == MARK_TIMED || format == MARK_TELLING)
        ret->at_ms = record_i64(&in);
    if (format == MARK_TELLING && !told_get(&in, arena, ret))
        return false;
    return record_done(&in) && format >= MARK_FORMAT && format <= MARK_TELLING;
}

static void
mark_set(struct batch *b, const struct store *store, struct kt_str key,
         const struct endings_mark *mark)
{
    struct kt_buf buf;
    const bool timed = store_has_outsiders(store), telling = mark->ntold != 0;
    kt_buf_init(&buf, VALUE_MAX);
    record_put_u8(&buf, telling ? MARK_TELLING : timed ? MARK_TIMED : MARK_FORMAT);
    record_put_bytes(&buf, mark->journal, JOURNAL_ID_BYTES);
    record_put_i64(&buf, (int64_t)mark->number);
    if (timed || telling)
        record_put_i64(&buf, timed ? mark->at_ms : 0);
    if (telling) {
        record_put_i64(&buf, mark->told[0].entry.at_ms);
        record_put_number(&buf, mark->ntold);
    }
    for (size_t i = 0; i < mark->ntold; i++)
        entry_put(&buf, &mark->told[i]);
    batch_set(b, key, record_finish(b->arena, &buf));
    b->urgent = true; /* what ends secrets must not stop at a full disk, and a start neither */
}

int
endings_read_mark(struct call *call, const struct journal *j, struct endings_mark *ret)
{
    struct store_row row;
    *ret = (struct endings_mark){ .is_there = false };
    if (!j && store_has_outsiders(call->svc->store))
        return KT_OK;
    const struct kt_str key = mark_key(call->arena, call->svc->store, j);
    if (!key.p)
        return fail_memory(call);
    int status = store_get(call, call->svc->store, &key, 1, &row);
    if (status != KT_OK || !row.value.p)
        return status;
    return mark_decode(call->arena, row.value, ret) ? KT_OK : fail_record(call, 'm');
}

void
endings_put_mark_of(struct batch *b, const struct store *store, const struct journal *j,
                    const struct endings_mark *mark)
{
    struct endings_mark own = *mark;
    memcpy(own.journal, journal_id(j), JOURNAL_ID_BYTES);
    mark_set(b, store, mark_key(b->arena, store, j), &own);
}

void
endings_put_mark(struct batch *b, const struct store *store, const struct journal *j,
                 int64_t now_ms)
{
    const struct endings_mark mark = { .number = journal_last(j), .at_ms = now_ms };
    endings_put_mark_of(b, store, j, &mark);
}

bool
endings_store_mark(struct kt_arena *arena, struct store *store, const struct journal *j,
                   int64_t now_ms)
{
    char why[256];
    struct kaiten_outcome outcome;
    struct batch *b = batch_new(arena);
    if (!b)
        return false;
    endings_put_mark(b, store, j, now_ms);
    return !b->failed && store_apply(store, &b, 1, &outcome, why, sizeof why) == KAITEN_DONE &&
           outcome.status == KAITEN_DONE;
}

/* First the mark: a store that is behind the floor would be taken for an old one. */
bool
endings_make_space(struct kt_arena *arena, struct store *store, struct journal *j, int64_t now_ms)
{
    if (endings_store_mark(arena, store, j, now_ms))
        return journal_drop_oldest(j, journal_last(j));
    errno = EAGAIN;
    return false;
}

/* --- marks of several --------------------------------------------------------------------- */

bool
endings_mark_is_fresh(const struct store *store, const struct endings_mark *mark, int64_t now_ms)
{
    int64_t age = now_ms - mark->at_ms; /* below 0: of a clock that was ahead */
    return !store_has_outsiders(store) || (age > -DAY_MS && age < DAY_MS);
}

struct mark_scan {
    struct call *call;
    const struct journal *journal;
    int64_t sure_ms;
    struct endings_tidying *found;
};

/* One without a time, or of a time that has not come, begins now. What somebody else has written
 * since is left alone. */
static int
tidy_mark(void *ctx, const struct store_row *row)
{
    struct mark_scan *t = ctx;
    struct endings_mark mark;
    if (t->found->n == ENDINGS_TIDY_MAX)
        return KT_OK;
    if (!mark_decode(t->call->arena, row->value, &mark))
        return fail_record(t->call, 'm');
    const int64_t age = t->sure_ms - mark.at_ms;
    const bool ours = memcmp(mark.journal, journal_id(t->journal), sizeof mark.journal) == 0;
    const bool old = !ours && mark.at_ms != 0 && age > ENDINGS_MARK_DAYS * DAY_MS;
    const bool late = ours ? !endings_mark_is_fresh(t->call->svc->store, &mark, t->call->now_ms)
                           : mark.at_ms == 0 || age < -DAY_MS;
    if (!old && !late)
        return KT_OK;
    struct store_row own = { .key = kt_arena_str(t->call->arena, row->key),
                             .value = kt_arena_str(t->call->arena, row->value),
                             .revision = row->revision };
    struct batch *b = batch_new(t->call->arena);
    if (!b || !own.key.p || !own.value.p)
        return fail_memory(t->call);
    batch_if_at(b, &own);
    mark.at_ms = t->call->now_ms;
    if (old)
        batch_delete(b, own.key);
    else
        mark_set(b, t->call->svc->store, own.key, &mark);
    if (b->failed)
        return fail_memory(t->call);
    t->found->batches[t->found->n++] = b;
    t->found->dropped += old;
    return KT_OK;
}

int
endings_tidy_marks(struct call *call, const struct journal *j, bool others, int64_t sure_ms,
                   struct endings_tidying *ret)
{
    struct mark_scan t = { call, j, sure_ms, ret };
    struct store_row row;
    struct store_range all = { mark_only, KT_LIT("mjournam"), false, 0 }; /* the next prefix */
    const struct kt_str key = mark_key(call->arena, call->svc->store, j);
    int status = KT_OK;
    ret->n = ret->dropped = 0;
    if (!key.p)
        return fail_memory(call);
    if (others)
        status = store_scan(call, call->svc->store, &all, tidy_mark, &t);
    else
        status = store_get(call, call->svc->store, &key, 1, &row);
    if (!others && status == KT_OK && row.value.p)
        status = tidy_mark(&t, &row);
    return status;
}
