/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

#include <stdlib.h>
#include <string.h>

enum { INIT_MS = 60000 }; /* for each statement: an index over many rows takes its time */

/* One text, without parameters, of one statement or several. */
static enum kaiten_status
run(PGconn *pq, const char *sql, struct pg_why *why)
{
    PGresult *result = PQexec(pq, sql);
    enum kaiten_status status = KAITEN_DONE;
    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        status = pg_status_of(result, why);
    PQclear(result);
    return status;
}

/* The one number that a statement returns. */
static enum kaiten_status
ask(PGconn *pq, const char *sql, const struct pg_params *params, int64_t *ret_number,
    struct pg_why *why)
{
    PGresult *result;
    enum kaiten_status status = pg_query(pq, sql, params, pg_now() + INIT_MS, &result, why);
    if (status != KAITEN_DONE)
        return status;
    if (ret_number)
        *ret_number = PQntuples(result) == 1 ? pg_int8(result, 0, 0) : 0;
    PQclear(result);
    return KAITEN_DONE;
}

/* 0: there is nothing yet. */
static enum kaiten_status
format_read(PGconn *pq, int64_t *ret_format, struct pg_why *why)
{
    int64_t there;
    *ret_format = 0;
    enum kaiten_status status =
        ask(pq, "SELECT count(*) FROM pg_namespace WHERE nspname = 'kaiten'", NULL, &there, why);
    if (status != KAITEN_DONE || there == 0)
        return status;
    return ask(pq, "SELECT format::bigint FROM kaiten.meta", NULL, ret_format, why);
}

static enum kaiten_status
migrate(PGconn *pq, int64_t from, struct pg_why *why)
{
    struct pg_params params = { .data = NULL };
    enum kaiten_status status = KAITEN_DONE;
    for (int64_t format = from; format < PG_FORMAT && status == KAITEN_DONE; format++)
        for (const char *const *step = pg_schema_steps[format]; *step && status == KAITEN_DONE;
             step++)
            status = run(pq, *step, why);
    if (status != KAITEN_DONE)
        return status;
    pg_put_int8(&params, PG_FORMAT);
    status = ask(pq, "UPDATE kaiten.meta SET format = $1::integer", &params, NULL, why);
    pg_params_done(&params);
    return status;
}

/* Lets the daemon's role in, unless it is the one who owns everything anyway. */
static enum kaiten_status
admit(PGconn *pq, const char *role, struct pg_why *why)
{
    struct pg_params params = { .data = NULL };
    int64_t known = 0;
    pg_put_text(&params, role);
    enum kaiten_status status =
        ask(pq, "SELECT count(*) FROM pg_roles WHERE rolname = $1::text", &params, &known, why);
    if (status == KAITEN_DONE && known == 0) {
        pg_why(why, "the role %s, as which kaitend connects, is missing: make it first, with"
                    " CREATE ROLE ... LOGIN", role);
        status = KAITEN_FAILED;
    }
    if (status == KAITEN_DONE)
        status = ask(pq, "SELECT kaiten.admit($1::text::name)", &params, NULL, why);
    pg_params_done(&params);
    return status;
}

/* What is new in this format is for everybody who was let in before: daemons need not share a
 * role. */
static enum kaiten_status
admit_again(PGconn *pq, struct pg_why *why)
{
    return ask(pq,
               "SELECT kaiten.admit(r.rolname) FROM pg_roles AS r WHERE r.oid IN ("
               " SELECT a.grantee FROM pg_proc AS p"
               "  JOIN pg_namespace AS s ON s.oid = p.pronamespace, aclexplode(p.proacl) AS a"
               " WHERE s.nspname = 'kaiten' AND p.proname = 'apply' AND a.grantee <> p.proowner)",
               NULL, NULL, why);
}

/* Whether it works here is seen now, and leaves nothing behind. */
static enum kaiten_status
try_functions(PGconn *pq, struct pg_why *why)
{
    enum kaiten_status status = run(pq, "SAVEPOINT try", why);
    if (status == KAITEN_DONE)
        status = pg_needs_functions(pq, pg_now() + INIT_MS, why);
    if (status == KAITEN_DONE)
        status = run(pq, "ROLLBACK TO SAVEPOINT try", why);
    return status;
}

/* All in one transaction, one daemon at a time. */
static enum kaiten_status
init(const struct kaiten_host *host, PGconn *pq, const char *role, struct pg_why *why)
{
    int64_t format = 0;
    enum kaiten_status status = pg_needs_engine(pq, pg_now() + INIT_MS, why);
    if (status == KAITEN_DONE)
        status = run(pq, "BEGIN; SET LOCAL search_path = '';"
                         " SELECT pg_advisory_xact_lock(7019267256461163886)", why);
    if (status == KAITEN_DONE)
        status = format_read(pq, &format, why);
    if (status == KAITEN_DONE && format > PG_FORMAT) {
        pg_why(why, "the store has format %lld; this kaitend knows formats up to %d",
               (long long)format, PG_FORMAT);
        status = KAITEN_FAILED;
    }
    if (status == KAITEN_DONE && format < PG_FORMAT)
        status = migrate(pq, format, why);
    if (status == KAITEN_DONE)
        status = try_functions(pq, why);
    if (status == KAITEN_DONE)
        status = admit_again(pq, why);
    if (status == KAITEN_DONE && strcmp(role, PQuser(pq)) != 0)
        status = admit(pq, role, why);
    if (status == KAITEN_DONE)
        status = run(pq, "COMMIT", why);
    if (status != KAITEN_DONE)
        return status;
    host->log(KAITEN_LOG_NOTICE, "storage-postgres: database %s has format %d, %s; role %s",
              PQdb(pq), PG_FORMAT,
              format == PG_FORMAT ? "as before" : format ? "brought up to date" : "made", role);
    return KAITEN_DONE;
}

enum kaiten_status
pg_init(const struct kaiten_host *host, const struct kaiten_config *config,
        struct kaiten_err *err)
{
    struct pg_options options;
    struct pg_target target = { .nhosts = 0 };
    struct pg_why why = { .text = "" };
    enum kaiten_status status = KAITEN_FAILED;
    char *role = NULL;
    PGconn *pq = NULL;
    if (pg_options_read(host, config, &options) && (role = pg_user_of(options.connection))) {
        if (options.init_connection) {
            free(options.connection);
            free(options.password_file);
            options.connection = options.init_connection;
            options.password_file = options.init_password_file;
            options.init_connection = options.init_password_file = NULL;
        }
        if (pg_target_init(&target, &options, &why)) {
            target.application = "kaitend --init-store";
            target.statement_ms = INIT_MS;
            target.lock_ms = INIT_MS;
            status = KAITEN_RETRY;
            pq = pg_connect(&target, pg_now() + INIT_MS, &why);
        }
        if (pq)
            status = init(host, pq, role, &why);
    }
    pg_why(&why, "out of memory");
    if (status != KAITEN_DONE)
        host->error(err, "%s", why.text);
    PQfinish(pq);
    free(role);
    pg_target_done(&target);
    pg_options_free(&options);
    return status == KAITEN_UNKNOWN ? KAITEN_RETRY : status;
}
