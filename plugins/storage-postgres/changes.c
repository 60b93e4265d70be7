/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

#include <stdlib.h>
#include <string.h>

/* A position is the oldest transaction that was still under way when one looked: what ones below it
 * wrote was visible then, whatever order they ended in. Numbers of rows would not do: they are
 * taken before the commit, and commits overtake each other. Of the last one that was given out is
 * known exactly what was visible, so that nothing is told twice. */

/* Whether the server takes writes, and since when it runs; the columns of kaiten.moment(), and what
 * kaiten.news() has behind them. */
enum { WRITABLE, SERVER, OLDEST, NEXT, MOVED, GONE_UNTIL, WATCHED, HISTORY, SNAPSHOT, KIND, KEY,
       VALUE, REVISION };

/* What kind of row it is. */
enum { MOMENT, ROW_SINCE, ROW_OF_RUNNING, GONE_SINCE, GONE_OF_RUNNING, KINDS };

struct moment {
    uint64_t oldest, next, moved, gone_until, history;
    unsigned char watched[256];
    size_t nwatched;
    struct pg_view view;
};

/* One call of changes(). */
struct inquiry {
    struct pg *pg;
    const struct kaiten_position *since; /* NULL: what there is now is all known */
    struct kaiten_bytes spaces;
    struct kaiten_emit *emit;
    int64_t until; /* of its questions */
    bool stopped;  /* the sink has had enough before the end */
    struct pg_why *why;
};

/* "oldest:next:running,running,...". One with too many of them is remembered as less than it was,
 * and what is told twice does no harm. */
static void
view_take(struct pg_view *v, const char *snapshot)
{
    char *at;
    uint64_t oldest = strtoull(snapshot, &at, 10);
    *v = (struct pg_view){ .next = *at == ':' ? strtoull(at + 1, &at, 10) : oldest };
    while (*at != '\0' && at[1] != '\0' && v->n < PG_RUNNING_MAX)
        v->running[v->n++] = strtoull(at + 1, &at, 10);
    if (v->n == PG_RUNNING_MAX)
        *v = (struct pg_view){ .next = oldest };
}

/* The number of its server goes into a history: when there was another one in between nobody knows
 * what was learnt of whom. So numbers stay odd, and that of the first one is what it says. */
static uint64_t
history_on(uint64_t history, uint64_t server)
{
    return (history | 1) + 2 * (server - 1);
}

/* A server that takes no writes any more may have a successor by now, whose changes it knows
 * nothing of; and what is asked over other connections is to be of the same server. */
static const char *
turn_away_of(struct pg *pg, const PGresult *result, uint64_t *ret_server)
{
    *ret_server = pg_server_of(pg, pg_int8(result, 0, SERVER));
    if (!pg_bool(result, 0, WRITABLE))
        return PG_READ_ONLY;
    return *ret_server == 0 ? PG_ANOTHER : NULL;
}

/* From the first row. */
static enum kaiten_status
moment_take(struct pg *pg, const PGresult *result, struct moment *m, struct pg_why *why)
{
    bool whole = PQntuples(result) >= 1 && PQgetlength(result, 0, WATCHED) <= 256;
    uint64_t server = 0;
    const char *refused = whole ? turn_away_of(pg, result, &server) : NULL;
    if (refused) {
        pg_why(why, "%s", refused);
        pg_turn_away(pg, refused);
        return KAITEN_RETRY;
    }
    if (whole) {
        struct kaiten_bytes watched = pg_bytes(result, 0, WATCHED);
        *m = (struct moment){
            .oldest = (uint64_t)pg_int8(result, 0, OLDEST),
            .next = (uint64_t)pg_int8(result, 0, NEXT),
            .moved = (uint64_t)pg_int8(result, 0, MOVED),
            .gone_until = (uint64_t)pg_int8(result, 0, GONE_UNTIL),
            .history = history_on((uint64_t)pg_int8(result, 0, HISTORY), server), /* never 0 */
            .nwatched = watched.n,
        };
        view_take(&m->view, PQgetvalue(result, 0, SNAPSHOT));
        memcpy(m->watched, watched.p, watched.n);
        return KAITEN_DONE;
    }
    pg_why(why, "kaiten.meta is not what kaitend has made");
    return KAITEN_CORRUPT;
}

static enum kaiten_status
moment_read(struct pg *pg, enum pg_use use, int64_t until, struct moment *m, struct pg_why *why)
{
    PGresult *result;
    const struct pg_question q = { .which = PG_MOMENT, .until = until };
    enum kaiten_status status = pg_read(pg, use, &q, &result, why);
    if (status != KAITEN_DONE)
        return status;
    status = moment_take(pg, result, m, why);
    PQclear(result);
    return status;
}

enum kaiten_status
pg_revision(void *instance, uint64_t *ret_revision, struct kaiten_err *err)
{
    struct pg *pg = instance;
    struct moment m;
    struct pg_why why = { .text = "" };
    enum kaiten_status status = moment_read(pg, PG_READING, pg_until(pg), &m, &why);
    if (status == KAITEN_DONE)
        *ret_revision = m.moved;
    else
        pg->host.error(err, "%s", why.text);
    return status;
}

static bool
is_watched(const struct moment *m, struct kaiten_bytes spaces)
{
    const unsigned char *space = spaces.p;
    for (size_t i = 0; i < spaces.n; i++)
        if (!memchr(m->watched, space[i], m->nwatched))
            return false;
    return true;
}

/* From now on whoever writes there leaves a trace. */
static enum kaiten_status
watch(const struct inquiry *inq)
{
    struct pg_params params = { .data = NULL };
    PGresult *result;
    pg_put_bytes(&params, inq->spaces);
    const struct pg_question q = { .sql = "SELECT kaiten.watch($1)", .params = &params,
                                   .until = inq->until };
    enum kaiten_status status = pg_read(inq->pg, PG_FOLLOWING, &q, &result, inq->why);
    pg_params_done(&params);
    if (status == KAITEN_DONE)
        PQclear(result);
    return status;
}

/* One kind of change on its way, in pages: what has piled up may be too much for one statement. */
struct feed {
    struct inquiry *inquiry;
    uint64_t since;
    unsigned char after[KAITEN_KEY_MAX];
    size_t after_n;
    uint64_t seen; /* of the page */
};

static bool
emit(struct inquiry *inq, struct kaiten_bytes key, struct kaiten_bytes value, int64_t revision)
{
    if (value.p && value.n == 0)
        value.p = ""; /* no null */
    inq->stopped = !inq->pg->host.row(inq->emit, key, value, (uint64_t)revision);
    return !inq->stopped;
}

static bool
feed_row(void *ctx, const PGresult *result)
{
    struct feed *f = ctx;
    struct kaiten_bytes key = pg_bytes(result, 0, 1), value = pg_bytes(result, 0, 2);
    if (key.n > sizeof f->after)
        return false;
    f->since = (uint64_t)pg_int8(result, 0, 0);
    memcpy(f->after, key.p, f->after_n = key.n);
    f->seen++;
    return emit(f->inquiry, key, value, pg_int8(result, 0, 3));
}

static enum kaiten_status
feed_page(struct feed *f, const char *sql)
{
    struct pg *pg = f->inquiry->pg;
    struct pg_why *why = f->inquiry->why;
    struct pg_params params = { .data = NULL };
    const struct pg_question q = { .sql = sql, .params = &params, .until = pg_until(pg) };
    struct pg_slot *slot = pg_take(pg, PG_FOLLOWING, q.until, why);
    if (!slot)
        return KAITEN_RETRY;
    f->seen = 0;
    pg_put_xid8(&params, f->since);
    pg_put_bytes(&params, (struct kaiten_bytes){ f->after, f->after_n });
    pg_put_bytes(&params, f->inquiry->spaces);
    pg_put_int8(&params, PG_PAGE_MAX);
    enum kaiten_status status = pg_stream(slot, &q, feed_row, f, why);
    pg_params_done(&params);
    pg_give(pg, slot, status == KAITEN_UNKNOWN);
    if (why->silent)
        pg_turn_away(pg, PG_SILENT);
    return status == KAITEN_UNKNOWN ? KAITEN_RETRY : status;
}

/* Rows first: a row that is deleted between the two is told as gone, and one that comes back has a
 * later transaction than the position that the caller goes on from. */
static enum kaiten_status
feed_all(struct inquiry *inq, uint64_t since)
{
    static const char *const sqls[] = {
        "SELECT c.written, c.key, c.value, c.revision FROM kaiten.changes($1, $2, $3, $4) AS c",
        "SELECT g.written, g.key, g.value, g.revision FROM kaiten.gone($1, $2, $3, $4) AS g",
    };
    for (size_t i = 0; i < sizeof sqls / sizeof *sqls; i++) {
        struct feed f = { .inquiry = inq, .since = since };
        do {
            enum kaiten_status status = feed_page(&f, sqls[i]);
            if (status != KAITEN_DONE || inq->stopped)
                return status;
        } while (f.seen == PG_PAGE_MAX);
    }
    return KAITEN_DONE;
}

/* --- the question that is asked all the time ------------------------------------------------ */

/* Whether it is what was answered last. */
static bool
is_told(const struct inquiry *inq)
{
    const struct pg *pg = inq->pg;
    return pg->told.history == inq->since->history && pg->told.at == inq->since->at &&
           pg->told_spaces == pg_hash(inq->spaces);
}

/* The moment, and what has changed since; *ret_rows is for the caller to clear, with the moment as
 * its first row. */
static enum kaiten_status
news_read(const struct inquiry *inq, struct moment *m, PGresult **ret_rows)
{
    struct pg *pg = inq->pg;
    struct pg_params params = { .data = NULL };
    const struct pg_question q = { .which = PG_NEWS, .params = &params, .until = inq->until };
    PGresult *result;
    bool told = is_told(inq);
    const struct pg_view *view = told ? &pg->told_view
                                      : &(struct pg_view){ .next = inq->since->at };
    pg_put_xid8(&params, view->next);
    pg_put_xid8_array(&params, view->n);
    for (size_t i = 0; i < view->n; i++)
        pg_add_int8(&params, (int64_t)view->running[i]);
    pg_put_int8(&params, told ? (int64_t)pg->told_moved : -1);
    /* As the server has it: history_on() the other way round. Where that is another number, it
     * tells nothing, and we find out for the same reason. */
    pg_put_int8(&params,
                (int64_t)(inq->since->history - 2 * (atomic_load(&pg->servers) - 1)));
    pg_put_bytes(&params, inq->spaces);
    pg_put_int8(&params, PG_NEWS_MAX);
    enum kaiten_status status = pg_read(pg, PG_FOLLOWING, &q, &result, inq->why);
    pg_params_done(&params);
    if (status != KAITEN_DONE)
        return status;
    status = moment_take(pg, result, m, inq->why);
    if (status == KAITEN_DONE)
        *ret_rows = result;
    else
        PQclear(result);
    return status;
}

/* Whether there may be more of one kind than came; *ret_since: from which transaction on everything
 * is to be told then. */
static bool
is_cut(const struct inquiry *inq, const PGresult *rows, uint64_t *ret_since)
{
    size_t n[KINDS] = { 0 };
    for (int i = 1; i < PQntuples(rows); i++)
        n[pg_int8(rows, i, KIND) % KINDS]++;
    bool old = n[ROW_OF_RUNNING] >= PG_NEWS_MAX || n[GONE_OF_RUNNING] >= PG_NEWS_MAX;
    *ret_since = is_told(inq) && !old ? inq->pg->told_view.next : inq->since->at;
    return old || n[ROW_SINCE] >= PG_NEWS_MAX || n[GONE_SINCE] >= PG_NEWS_MAX;
}

/* What came with the question, and when that was not all, all from there on. */
static enum kaiten_status
tell(struct inquiry *inq, const PGresult *rows)
{
    uint64_t from;
    bool cut = is_cut(inq, rows, &from);
    for (int i = 1; i < PQntuples(rows) && !inq->stopped; i++)
        emit(inq, pg_bytes(rows, i, KEY), pg_bytes(rows, i, VALUE), pg_int8(rows, i, REVISION));
    return cut && !inq->stopped ? feed_all(inq, from) : KAITEN_DONE;
}

static bool
is_running(const struct pg_view *v, uint64_t transaction)
{
    for (size_t i = 0; i < v->n; i++)
        if (v->running[i] == transaction)
            return true;
    return false;
}

/* Whether no deletion is forgotten that was not visible yet. One of a transaction that was under
 * way then and still is cannot be: a transaction of somebody else may go on for longer than
 * deletions are kept. */
static bool
is_remembered(const struct moment *m, const struct pg_view *v)
{
    for (size_t i = 0; i < v->n; i++)
        if (v->running[i] < m->gone_until && !is_running(&m->view, v->running[i]))
            return false;
    return v->next >= m->gone_until;
}

/* Whether what was told up to since can be gone on from. */
static bool
is_continued(const struct inquiry *inq, const struct moment *m)
{
    const struct kaiten_position *since = inq->since;
    bool remembered = is_told(inq) ? is_remembered(m, &inq->pg->told_view)
                                   : since->at >= m->gone_until;
    return remembered && since->history == m->history && since->at <= m->next;
}

static enum kaiten_status
changes(struct inquiry *inq, struct kaiten_position *ret_now)
{
    struct pg *pg = inq->pg;
    const struct kaiten_position *since = inq->since;
    struct moment m;
    PGresult *rows = NULL;
    /* Where something is expected one question is half of two; where nothing is, the moment alone
     * is a third of it. */
    bool heard = atomic_exchange(&pg->heard, false), expected = since && (heard || pg->moving);
    enum kaiten_status status = expected
                                    ? news_read(inq, &m, &rows)
                                    : moment_read(pg, PG_FOLLOWING, inq->until, &m, inq->why);
    bool same = status == KAITEN_DONE && since && is_told(inq) && pg->told_moved == m.moved &&
                pg->told.history == m.history;
    if (status == KAITEN_DONE && since && !expected && !same)
        status = news_read(inq, &m, &rows);
    bool watched = status == KAITEN_DONE && is_watched(&m, inq->spaces);
    if (status == KAITEN_DONE && !watched) {
        status = watch(inq);
        if (status == KAITEN_DONE)
            status = moment_read(pg, PG_FOLLOWING, inq->until, &m, inq->why);
    }
    bool on = watched && since && is_continued(inq, &m);
    if (status == KAITEN_DONE && since && !on) {
        pg_why(inq->why, "the last position was of another history of the store, or too long ago");
        status = KAITEN_CONFLICT;
    } else if (status == KAITEN_DONE && rows) {
        status = tell(inq, rows);
    }
    PQclear(rows);
    if (status != KAITEN_DONE && status != KAITEN_CONFLICT)
        return status;
    struct kaiten_position now = { m.history, m.oldest };
    /* What was not taken will be asked for again, from a position that may be the same number: that
     * of a transaction which goes on all the while. */
    pg->told = inq->stopped ? (struct kaiten_position){ 0, 0 } : now;
    pg->moving = since && !same;
    pg->told_view = m.view;
    pg->told_moved = m.moved;
    pg->told_spaces = pg_hash(inq->spaces);
    *ret_now = now;
    return status;
}

enum kaiten_status
pg_changes(void *instance, const struct kaiten_position *since, struct kaiten_bytes spaces,
           struct kaiten_emit *sink, struct kaiten_position *ret_now, struct kaiten_err *err)
{
    struct pg *pg = instance;
    struct pg_why why = { .text = "" };
    struct inquiry inq = { .pg = pg, .since = since, .spaces = spaces, .emit = sink,
                           .until = pg_until(pg), .why = &why };
    enum kaiten_status status = changes(&inq, ret_now);
    if (status != KAITEN_DONE)
        pg->host.error(err, "%s", why.text);
    return status;
}
