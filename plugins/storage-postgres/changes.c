/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

#include <string.h>

/* A position is the oldest transaction that was still under way when one looked: what ones below it
 * wrote was visible then, whatever order they ended in. Numbers of rows would not do: they are
 * taken before the commit, and commits overtake each other. */

/* Columns of the moment. */
enum { OLDEST, NEXT, MOVED, GONE_UNTIL, WATCHED, HISTORY };

/* MOVED is how many transactions have ended: it grows with each, in whatever order. HISTORY is of
 * the cluster, its timeline (a standby that took over begins another one), this store, and the very
 * table, which a dump that is put back makes anew; and of the server's start when a crash may take
 * the last commits along. */
static const char moment_sql[] =
    "SELECT pg_snapshot_xmin(s.now)::text::bigint, pg_snapshot_xmax(s.now)::text::bigint,"
    " pg_snapshot_xmax(s.now)::text::bigint - (SELECT count(*) FROM pg_snapshot_xip(s.now)),"
    " m.gone_until::text::bigint, m.watched,"
    " hashtextextended(concat_ws('/', c.system_identifier,"
    "   substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), m.store, t.oid,"
    "   pg_relation_filenode(t.oid), d.oid,"
    "   CASE WHEN current_setting('fsync') = 'off' OR current_setting('synchronous_commit') = 'off'"
    "        THEN pg_postmaster_start_time() END), 0)"
    " FROM pg_current_snapshot() AS s(now), kaiten.meta AS m, pg_control_system() AS c,"
    "  (SELECT 'kaiten.row'::regclass::oid) AS t(oid), pg_database AS d"
    " WHERE d.datname = current_database()";

struct moment {
    uint64_t oldest, next, moved, gone_until, history;
    unsigned char watched[256];
    size_t nwatched;
};

static enum kaiten_status
moment_read(struct pg *pg, int64_t until, struct moment *m, struct pg_why *why)
{
    PGresult *result;
    enum kaiten_status status = pg_read(pg, moment_sql, NULL, until, &result, why);
    if (status != KAITEN_DONE)
        return status;
    bool whole = PQntuples(result) == 1 && PQgetlength(result, 0, WATCHED) <= 256;
    if (whole) {
        struct kaiten_bytes watched = pg_bytes(result, 0, WATCHED);
        *m = (struct moment){
            .oldest = (uint64_t)pg_int8(result, 0, OLDEST),
            .next = (uint64_t)pg_int8(result, 0, NEXT),
            .moved = (uint64_t)pg_int8(result, 0, MOVED),
            .gone_until = (uint64_t)pg_int8(result, 0, GONE_UNTIL),
            .history = (uint64_t)pg_int8(result, 0, HISTORY) | 1, /* never 0 */
            .nwatched = watched.n,
        };
        memcpy(m->watched, watched.p, watched.n);
    }
    PQclear(result);
    if (whole)
        return KAITEN_DONE;
    pg_why(why, "kaiten.meta is not what kaitend has made");
    return KAITEN_CORRUPT;
}

enum kaiten_status
pg_revision(void *instance, uint64_t *ret_revision, struct kaiten_err *err)
{
    struct pg *pg = instance;
    struct moment m;
    struct pg_why why = { .text = "" };
    enum kaiten_status status = moment_read(pg, pg_until(pg), &m, &why);
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
watch(struct pg *pg, struct kaiten_bytes spaces, int64_t until, struct pg_why *why)
{
    struct pg_params params = { .data = NULL };
    PGresult *result;
    pg_put_bytes(&params, spaces);
    enum kaiten_status status =
        pg_read(pg, "SELECT kaiten.watch($1)", &params, until, &result, why);
    pg_params_done(&params);
    if (status == KAITEN_DONE)
        PQclear(result);
    return status;
}

struct feed {
    struct pg *pg;
    struct kaiten_emit *emit;
    bool stopped;
};

static bool
feed_row(void *ctx, const PGresult *result)
{
    struct feed *feed = ctx;
    struct kaiten_bytes value = pg_bytes(result, 0, 1);
    if (value.p && value.n == 0)
        value.p = ""; /* no null */
    feed->stopped = !feed->pg->host.row(feed->emit, pg_bytes(result, 0, 0), value,
                                        (uint64_t)pg_int8(result, 0, 2));
    return !feed->stopped;
}

static enum kaiten_status
feed_rows(struct pg *pg, uint64_t since, struct kaiten_bytes spaces, struct kaiten_emit *emit,
          int64_t until, struct pg_why *why)
{
    struct feed feed = { pg, emit, false };
    struct pg_params params = { .data = NULL };
    struct pg_slot *slot = pg_take(pg, false, until, why);
    if (!slot)
        return KAITEN_RETRY;
    pg_put_xid8(&params, since);
    pg_put_bytes(&params, spaces);
    enum kaiten_status status =
        pg_stream(slot->pq, "SELECT c.key, c.value, c.revision FROM kaiten.changes($1, $2) AS c",
                  &params, pg->options.timeout, feed_row, &feed, why);
    pg_params_done(&params);
    pg_give(pg, slot, status == KAITEN_UNKNOWN);
    if (why->silent)
        pg_silent(pg);
    return status == KAITEN_UNKNOWN ? KAITEN_RETRY : status;
}

/* Whether what was told up to since can be gone on from. */
static bool
is_continued(const struct moment *m, const struct kaiten_position *since, bool watched)
{
    return watched && since->history == m->history && since->at >= m->gone_until &&
           since->at <= m->next;
}

static enum kaiten_status
changes(struct pg *pg, const struct kaiten_position *since, struct kaiten_bytes spaces,
        struct kaiten_emit *emit, struct kaiten_position *ret_now, struct pg_why *why)
{
    int64_t until = pg_until(pg);
    struct moment m;
    enum kaiten_status status = moment_read(pg, until, &m, why);
    if (status != KAITEN_DONE)
        return status;
    bool watched = is_watched(&m, spaces);
    if (!watched) {
        status = watch(pg, spaces, until, why);
        if (status == KAITEN_DONE)
            status = moment_read(pg, until, &m, why);
        if (status != KAITEN_DONE)
            return status;
    }
    struct kaiten_position now = { m.history, m.oldest };
    bool same = since && pg->told.history == since->history && pg->told.at == since->at &&
                pg->told_moved == m.moved && pg->told_spaces == pg_hash(spaces);
    if (since && !is_continued(&m, since, watched)) {
        pg_why(why, "the last position was of another history of the store, or too long ago");
        status = KAITEN_CONFLICT;
    } else if (since && !same) {
        status = feed_rows(pg, since->at, spaces, emit, until, why);
    }
    if (status != KAITEN_DONE && status != KAITEN_CONFLICT)
        return status;
    pg->told = now;
    pg->told_moved = m.moved;
    pg->told_spaces = pg_hash(spaces);
    *ret_now = now;
    return status;
}

enum kaiten_status
pg_changes(void *instance, const struct kaiten_position *since, struct kaiten_bytes spaces,
           struct kaiten_emit *emit, struct kaiten_position *ret_now, struct kaiten_err *err)
{
    struct pg *pg = instance;
    struct pg_why why = { .text = "" };
    enum kaiten_status status = changes(pg, since, spaces, emit, ret_now, &why);
    if (status != KAITEN_DONE)
        pg->host.error(err, "%s", why.text);
    return status;
}
