/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

/* The types of parameters are said here, or follow from the one function of that name. Behind a
 * pooler search_path is not ours, and a function in public that takes just bytea[] would come
 * before one of the system that takes any array: such ones have their schema. */
static const struct {
    const char *name, *sql;
    bool uses[PG_READING + 1];
} statements[PG_STATEMENTS] = {
    [PG_APPLY] = { "kaiten_apply",
                   "SELECT kaiten.apply($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
                   { [PG_WRITING] = true } },
    [PG_MOMENT] = { "kaiten_moment",
                    "SELECT current_setting('transaction_read_only') = 'off',"
                    " pg_postmaster_start_time(), m.oldest, m.next, m.moved,"
                    " m.gone_until, m.watched, m.history, pg_current_snapshot()::text"
                    " FROM kaiten.moment() AS m",
                    { [PG_FOLLOWING] = true, [PG_READING] = true } },
    [PG_NEWS] = { "kaiten_news",
                  "SELECT current_setting('transaction_read_only') = 'off',"
                  " pg_postmaster_start_time(), n.oldest, n.next_now, n.moved,"
                  " n.gone_until, n.watched, n.history, pg_current_snapshot()::text,"
                  " n.kind, n.key, n.value, n.revision"
                  " FROM kaiten.news($1, $2, $3, $4, $5, $6) AS n",
                  { [PG_FOLLOWING] = true } },
    [PG_GET] = { "kaiten_get",
                 "SELECT r.key, r.value, r.revision,"
                 " pg_catalog.current_setting('transaction_read_only') = 'off'"
                 " FROM pg_catalog.unnest($1::bytea[]) WITH ORDINALITY AS k(key, i)"
                 " LEFT JOIN kaiten.row AS r ON r.key = k.key ORDER BY k.i",
                 { [PG_READING] = true } },
};

bool
pg_send_statement(struct pg_slot *slot, enum pg_statement which, const struct pg_params *params)
{
    if (slot->prepared)
        return pg_send_prepared(slot->pq, statements[which].name, params);
    return pg_send(slot->pq, statements[which].sql, params);
}

enum kaiten_status
pg_prepare(const struct pg *pg, struct pg_slot *slot, int64_t until, struct pg_why *why)
{
    slot->prepared = false;
    if (pg->options.pooler)
        return KAITEN_DONE;
    for (int i = 0; i < PG_STATEMENTS; i++) {
        PGresult *result;
        if (!statements[i].uses[slot->use])
            continue;
        if (!PQsendPrepare(slot->pq, statements[i].name, statements[i].sql, 0, NULL)) {
            pg_why(why, "%s", PQerrorMessage(slot->pq));
            return KAITEN_UNKNOWN;
        }
        enum kaiten_status status = pg_answer(slot->pq, until, &result, why);
        if (status != KAITEN_DONE)
            return status;
        PQclear(result);
    }
    slot->prepared = true;
    return KAITEN_DONE;
}
