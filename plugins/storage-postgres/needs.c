/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What a server has to have, looked for one by one, so that one which lacks something (another
 * engine that speaks the protocol, a role with fewer rights) is refused by the name of it, at the
 * start and not with the first revocation. kaiten-storage-postgres(7) has the list in prose. */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

struct need {
    const char *what;
    const char *sql; /* true, or it is not there */
};

/* Of the engine, whatever stands in it. The numbers of the locks are nobody else's. */
static const struct need engine[] = {
    { "PostgreSQL 14 or later",
      "SELECT current_setting('server_version_num')::integer >= 140000" },
    { "functions in PL/pgSQL",
      "SELECT count(*) > 0 FROM pg_language WHERE lanname = 'plpgsql'" },
    { "advisory locks of a transaction",
      "SELECT pg_advisory_xact_lock_shared(7019267256461163887) IS NOT NULL"
      " AND pg_advisory_xact_lock(7019267256461163888) IS NOT NULL" },
    { "notices (pg_notify)", "SELECT pg_notify('kaiten', '') IS NOT NULL" },
    { "numbers of transactions (pg_current_xact_id)",
      "SELECT pg_current_xact_id()::text::bigint > 0" },
    { "snapshots of transactions (pg_current_snapshot)",
      "SELECT pg_snapshot_xmin(s.now)::text::bigint <= pg_snapshot_xmax(s.now)::text::bigint"
      " AND (SELECT count(*) >= 0 FROM pg_snapshot_xip(s.now))"
      " FROM pg_current_snapshot() AS s(now)" },
    { "the cluster's identity (pg_control_system)",
      "SELECT system_identifier IS NOT NULL FROM pg_control_system()" },
    { "the timeline of its log (pg_walfile_name)",
      "SELECT length(pg_walfile_name(pg_current_wal_lsn())) > 8" },
    { "the time of its start (pg_postmaster_start_time, pg_stat_wal)",
      "SELECT pg_postmaster_start_time() IS NOT NULL AND w.stats_reset IS NOT NULL"
      " FROM pg_stat_wal AS w" },
};

/* Of the functions in the schema: they are bound to what they use only when they run. The last two
 * arguments of apply() that matter are a key to delete and "this is a revocation". */
static const struct need functions[] = {
    { "kaiten.apply",
      "SELECT kaiten.apply(gen_random_uuid(), '{1}', '{true}', ARRAY['\\x00'::bytea], '{-2}',"
      " '{0}', '{true}', ARRAY['\\x00'::bytea], ARRAY['\\x00'::bytea], ARRAY['\\x00'::bytea],"
      " ARRAY['\\x01'::bytea], true) > 0" },
    { "kaiten.resolve", "SELECT kaiten.resolve(gen_random_uuid()) = 0" },
    { "kaiten.watch", "SELECT kaiten.watch('') IS NOT NULL" },
    { "kaiten.moment", "SELECT oldest <= next FROM kaiten.moment()" },
    { "kaiten.changes", "SELECT count(*) >= 0 FROM kaiten.changes('0', '', '', 1)" },
    { "kaiten.gone", "SELECT count(*) >= 0 FROM kaiten.gone('0', '', '', 1)" },
    { "kaiten.news",
      "SELECT count(*) > 0 FROM kaiten.moment() AS m, kaiten.news(m.oldest::text::xid8, '{1}',"
      " -1, m.history | 1, '', 1)" },
    { "kaiten.purge", "SELECT kaiten.purge(0) = 0" },
};

enum {
    ENGINE = sizeof engine / sizeof engine[0],
    FUNCTIONS = sizeof functions / sizeof functions[0]
};

static enum kaiten_status
try_all(PGconn *pq, const struct need needs[], size_t n, int64_t until, struct pg_why *why)
{
    for (size_t i = 0; i < n; i++) {
        PGresult *result;
        struct pg_why said = { .text = "" };
        enum kaiten_status status = pg_query(pq, needs[i].sql, NULL, until, &result, &said);
        if (status == KAITEN_UNKNOWN || status == KAITEN_RETRY) {
            pg_why(why, "%s", said.text);
            return status;
        }
        bool fine = status == KAITEN_DONE && PQntuples(result) == 1 && pg_bool(result, 0, 0);
        PQclear(status == KAITEN_DONE ? result : NULL);
        if (fine)
            continue;
        pg_why(why, "the server lacks what kaitend needs: %s: %s", needs[i].what,
               said.text[0] ? said.text : "it says no");
        return KAITEN_FAILED;
    }
    return KAITEN_DONE;
}

enum kaiten_status
pg_needs_engine(PGconn *pq, int64_t until, struct pg_why *why)
{
    return try_all(pq, engine, ENGINE, until, why);
}

enum kaiten_status
pg_needs_functions(PGconn *pq, int64_t until, struct pg_why *why)
{
    return try_all(pq, functions, FUNCTIONS, until, why);
}

enum kaiten_status
pg_needs_rights(PGconn *pq, int64_t until, struct pg_why *why)
{
    static const char sql[] =
        "SELECT string_agg(t.name || ' on ' || t.what, ', ') FROM ("
        " SELECT 'EXECUTE' AS name, 'function kaiten.' || f.name AS what"
        "  FROM pg_catalog.unnest(ARRAY['apply', 'resolve', 'moment', 'changes', 'gone', 'news',"
        "                               'watch', 'purge']) AS f(name)"
        "  WHERE NOT EXISTS (SELECT FROM pg_proc AS p JOIN pg_namespace AS s"
        "                      ON s.oid = p.pronamespace WHERE s.nspname = 'kaiten'"
        "                      AND p.proname = f.name AND has_function_privilege(p.oid, 'EXECUTE'))"
        " UNION ALL SELECT r.name, 'table ' || r.what FROM ("
        "  SELECT n.name, 'kaiten.' || t.what AS what"
        "   FROM pg_catalog.unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS n(name),"
        "        pg_catalog.unnest(ARRAY['row', 'gone', 'op']) AS t(what)"
        "  UNION ALL SELECT n.name, 'kaiten.meta'"
        "   FROM pg_catalog.unnest(ARRAY['SELECT', 'UPDATE']) AS n(name)"
        "  ) AS r WHERE NOT has_table_privilege(r.what, r.name)"
        " UNION ALL SELECT 'USAGE', 'sequence kaiten.revision'"
        "  WHERE NOT has_sequence_privilege('kaiten.revision', 'USAGE')) AS t";
    PGresult *result;
    enum kaiten_status status = pg_query(pq, sql, NULL, until, &result, why);
    if (status != KAITEN_DONE)
        return status;
    struct kaiten_bytes lacking = { NULL, 0 };
    if (PQntuples(result) == 1)
        lacking = pg_bytes(result, 0, 0);
    if (lacking.p) {
        pg_why(why, "role %s lacks %.*s: kaitend --init-store gives it what it needs", PQuser(pq),
               (int)lacking.n, (const char *)lacking.p);
        status = KAITEN_FAILED;
    }
    PQclear(result);
    return status;
}
