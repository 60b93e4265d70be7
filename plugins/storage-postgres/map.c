/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

#include <string.h>

enum { PAGE_FIRST = 64, ATTEMPTS = 3 };

/* Columns of a row; get() has one for each key, in which the first three may be null. */
enum { KEY, VALUE, REVISION, WRITABLE };

static enum kaiten_status
fail(struct pg *pg, struct kaiten_err *err, enum kaiten_status status, const struct pg_why *why)
{
    if (status != KAITEN_DONE)
        pg->host.error(err, "%s", why->text);
    return status;
}

static bool
emit_row(struct pg *pg, struct kaiten_emit *emit, const PGresult *result, int row)
{
    return pg->host.row(emit, pg_bytes(result, row, KEY), pg_bytes(result, row, VALUE),
                        (uint64_t)pg_int8(result, row, REVISION));
}

/* A server that takes no writes any more may have a successor, which knows better. */
static enum kaiten_status
emit_found(struct pg *pg, struct kaiten_emit *emit, const PGresult *result, struct pg_why *why)
{
    for (int i = 0; i < PQntuples(result); i++) {
        if (!pg_bool(result, i, WRITABLE)) {
            pg_why(why, "%s", PG_READ_ONLY);
            pg_turn_away(pg, PG_READ_ONLY);
            return KAITEN_RETRY;
        }
        if (!PQgetisnull(result, i, KEY) && !emit_row(pg, emit, result, i))
            break;
    }
    return KAITEN_DONE;
}

enum kaiten_status
pg_get(void *instance, const struct kaiten_bytes *keys, size_t nkeys, struct kaiten_emit *emit,
       struct kaiten_err *err)
{
    struct pg *pg = instance;
    struct pg_params params = { .data = NULL };
    struct pg_why why = { .text = "" };
    PGresult *result;
    pg_put_bytes_array(&params, nkeys);
    for (size_t i = 0; i < nkeys; i++)
        pg_add_bytes(&params, keys[i]);
    const struct pg_question q = { .which = PG_GET, .params = &params, .until = pg_until(pg) };
    enum kaiten_status status = pg_read(pg, PG_READING, &q, &result, &why);
    pg_params_done(&params);
    if (status != KAITEN_DONE)
        return fail(pg, err, status, &why);
    status = emit_found(pg, emit, result, &why);
    PQclear(result);
    return fail(pg, err, status, &why);
}

/* A scan on its way. It fetches pages, each from where the one before has ended, so that it holds
 * no transaction open, stops wherever it is told to, and survives a lost connection. */
struct walk {
    struct pg *pg;
    struct kaiten_emit *emit;
    unsigned char from[KAITEN_KEY_MAX + 1], to[KAITEN_KEY_MAX + 1];
    size_t from_n, to_n;
    bool backward, stopped;
    uint64_t left; /* rows that may still be emitted */
    uint64_t page; /* rows asked for, and seen */
    uint64_t seen;
};

/* Where the space of the range ends, as a key above all of its keys. */
static void
space_end(struct walk *w)
{
    if (w->from[0] == 0xff) {
        memset(w->to, 0xff, sizeof w->to);
        w->to_n = sizeof w->to;
        return;
    }
    w->to[0] = w->from[0] + 1;
    w->to_n = 1;
}

/* False: no such range, or none that has a row. */
static bool
walk_init(struct walk *w, const struct kaiten_range *range)
{
    if (range->from.n > sizeof w->from || range->to.n > sizeof w->to)
        return false;
    memcpy(w->from, range->from.p, w->from_n = range->from.n);
    if (range->to.n > 0)
        memcpy(w->to, range->to.p, w->to_n = range->to.n);
    else
        space_end(w);
    w->left = range->limit ? range->limit : UINT64_MAX;
    return true;
}

/* The rest of the range lies behind this key. */
static void
walk_advance(struct walk *w, struct kaiten_bytes key)
{
    if (w->backward) {
        memcpy(w->to, key.p, w->to_n = key.n);
        return;
    }
    memcpy(w->from, key.p, key.n);
    w->from[key.n] = 0; /* the least key above it */
    w->from_n = key.n + 1;
}

static bool
walk_row(void *ctx, const PGresult *result)
{
    struct walk *w = ctx;
    struct kaiten_bytes key = pg_bytes(result, 0, 0);
    if (key.n == 0 || key.n > KAITEN_KEY_MAX)
        return false;
    w->seen++;
    w->left--;
    walk_advance(w, key);
    w->stopped = !emit_row(w->pg, w->emit, result, 0);
    return !w->stopped;
}

static enum kaiten_status
walk_page(struct walk *w, struct pg_why *why)
{
    static const char forward[] =
        "SELECT r.key, r.value, r.revision FROM kaiten.row AS r"
        " WHERE r.key >= $1 AND r.key < $2 ORDER BY r.key LIMIT $3";
    static const char backward[] =
        "SELECT r.key, r.value, r.revision FROM kaiten.row AS r"
        " WHERE r.key >= $1 AND r.key < $2 ORDER BY r.key DESC LIMIT $3";
    struct pg_params params = { .data = NULL };
    w->seen = 0;
    struct pg_slot *slot = pg_take(w->pg, PG_READING, pg_until(w->pg), why);
    if (!slot)
        return KAITEN_RETRY;
    w->page = w->page < PG_PAGE_MAX ? w->page * 4 : w->page;
    if (w->page > w->left)
        w->page = w->left;
    pg_put_bytes(&params, (struct kaiten_bytes){ w->from, w->from_n });
    pg_put_bytes(&params, (struct kaiten_bytes){ w->to, w->to_n });
    pg_put_int8(&params, (int64_t)w->page);
    const struct pg_question q = { .sql = w->backward ? backward : forward, .params = &params,
                                   .until = pg_until(w->pg) };
    enum kaiten_status status = pg_stream(slot, &q, walk_row, w, why);
    pg_give(w->pg, slot, status == KAITEN_UNKNOWN);
    if (why->silent)
        pg_turn_away(w->pg, PG_SILENT);
    pg_params_done(&params);
    return status;
}

enum kaiten_status
pg_scan(void *instance, const struct kaiten_range *range, struct kaiten_emit *emit,
        struct kaiten_err *err)
{
    struct pg *pg = instance;
    struct walk w = { .pg = pg, .emit = emit, .backward = range->backward,
                      .page = PAGE_FIRST / 4 };
    struct pg_why why = { .text = "" };
    int lost = 0;
    if (range->from.n == 0 || !walk_init(&w, range)) {
        pg->host.error(err, "a range must start in a space");
        return KAITEN_FAILED;
    }
    while (!w.stopped && w.left > 0) {
        struct pg_why page = { .text = "" };
        enum kaiten_status status = walk_page(&w, &page);
        if (status == KAITEN_DONE && w.seen < w.page)
            break;
        if (status == KAITEN_DONE)
            continue;
        bool again = status == KAITEN_UNKNOWN || status == KAITEN_RETRY;
        if (again && (w.seen > 0 || ++lost < ATTEMPTS)) {
            w.page = PAGE_FIRST / 4; /* as large a page was too much for the time */
            continue;
        }
        pg_why(&why, "%s", page.text);
        return fail(pg, err, status == KAITEN_UNKNOWN ? KAITEN_RETRY : status, &why);
    }
    return KAITEN_DONE;
}

enum kaiten_status
pg_health(void *instance, struct kaiten_err *err)
{
    struct pg *pg = instance;
    struct pg_why why = { .text = "" };
    PGresult *result;
    const struct pg_question q = { .sql = "SELECT NOT pg_is_in_recovery() FROM kaiten.meta",
                                   .until = pg_until(pg) };
    enum kaiten_status status = pg_read(pg, PG_READING, &q, &result, &why);
    if (status == KAITEN_DONE) {
        bool writable = PQntuples(result) == 1 && pg_bool(result, 0, 0);
        PQclear(result);
        if (!writable) {
            pg_why(&why, "%s", PG_READ_ONLY);
            status = KAITEN_RETRY;
        }
    }
    pthread_mutex_lock(&pg->mutex);
    bool lanes = false;
    for (unsigned i = 0; i < pg->nslots && !lanes; i++)
        lanes = pg->slots[i].use == PG_WRITING && pg->slots[i].state != PG_EMPTY;
    pthread_mutex_unlock(&pg->mutex);
    if (status == KAITEN_DONE && !lanes) {
        pg_why(&why, "no connection for writing");
        status = KAITEN_RETRY;
    }
    return fail(pg, err, status, &why);
}
