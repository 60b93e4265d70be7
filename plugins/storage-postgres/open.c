/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OPEN_MS = 10000 };

static const struct kaiten_option options_table[] = {
    { "connection", KAITEN_OPT_STRING, KAITEN_OPT_REQUIRED, NULL, 0, 0,
      "Connection string of libpq, without a password: \"host=db.example dbname=kaiten "
      "user=kaitend sslmode=verify-full\"; several hosts are tried in turn." },
    { "password_file", KAITEN_OPT_SECRET, 0, NULL, 0, 0,
      "File with the password in its first line, read for each connection that is made." },
    { "init_connection", KAITEN_OPT_STRING, 0, NULL, 0, 0,
      "What kaitend --init-store connects with, as a role that may create the schema; default: "
      "connection." },
    { "init_password_file", KAITEN_OPT_SECRET, 0, NULL, 0, 0,
      "File with the password for init_connection." },
    { "connections", KAITEN_OPT_INT, 0, "8", 1, 64,
      "Connections for writing; a group of changes is spread over them." },
    { "readers", KAITEN_OPT_INT, 0, "4", 1, 64, "Connections for reading." },
    { "timeout", KAITEN_OPT_DURATION, 0, "1800ms", 200, 60000,
      "Longest time that any call may take; the server gives up a statement after half of it, and "
      "a wait for a lock after a quarter." },
    { "pooler", KAITEN_OPT_BOOL, 0, "no", 0, 0,
      "The connection leads to a pooler: no session settings are sent and no notices are listened "
      "for." },
    { NULL, KAITEN_OPT_STRING, 0, NULL, 0, 0, NULL },
};

static bool
copy(const char *value, char **ret)
{
    *ret = value ? strdup(value) : NULL;
    return *ret || !value;
}

bool
pg_options_read(const struct kaiten_host *host, const struct kaiten_config *config,
                struct pg_options *ret_options)
{
    *ret_options = (struct pg_options){
        .lanes = (unsigned)host->get_int(config, "connections"),
        .readers = (unsigned)host->get_int(config, "readers"),
        .timeout = host->get_int(config, "timeout"),
        .pooler = host->get_bool(config, "pooler"),
    };
    struct pg_options *o = ret_options;
    bool fine = copy(host->get_string(config, "connection"), &o->connection);
    fine &= copy(host->get_string(config, "password_file"), &o->password_file);
    fine &= copy(host->get_string(config, "init_connection"), &o->init_connection);
    fine &= copy(host->get_string(config, "init_password_file"), &o->init_password_file);
    return fine;
}

void
pg_options_free(struct pg_options *o)
{
    free(o->connection);
    free(o->password_file);
    free(o->init_connection);
    free(o->init_password_file);
    *o = (struct pg_options){ .connection = NULL };
}

/* --- what stands in the database ------------------------------------------------------------ */

static enum kaiten_status
format_check(PGconn *pq, int64_t until, struct pg_why *why)
{
    PGresult *result;
    enum kaiten_status status =
        pg_query(pq, "SELECT count(*) FROM pg_namespace WHERE nspname = 'kaiten'", NULL, until,
                 &result, why);
    if (status != KAITEN_DONE)
        return status;
    bool there = pg_int8(result, 0, 0) > 0;
    PQclear(result);
    if (!there) {
        pg_why(why, "there is no schema kaiten in database %s: make it with kaitend --init-store",
               PQdb(pq));
        return KAITEN_FAILED;
    }
    status = pg_query(pq, "SELECT format::bigint FROM kaiten.meta", NULL, until, &result, why);
    if (status != KAITEN_DONE)
        return status;
    int64_t format = PQntuples(result) == 1 ? pg_int8(result, 0, 0) : 0;
    PQclear(result);
    if (format == PG_FORMAT)
        return KAITEN_DONE;
    if (format < PG_FORMAT)
        pg_why(why, "the store in database %s has format %lld: bring it to format %d with "
                    "kaitend --init-store", PQdb(pq), (long long)format, PG_FORMAT);
    else
        pg_why(why, "the store in database %s has format %lld; this kaitend knows formats up to %d",
               PQdb(pq), (long long)format, PG_FORMAT);
    return KAITEN_FAILED;
}

/* Conditions hold under any isolation, but who waited for kaiten.watch() must see what it did. Our
 * sessions set it, and a pooler may have dropped that; those of a pooler are the role's. */
static enum kaiten_status
session_check(const struct pg *pg, PGconn *pq, int64_t until, struct pg_why *why)
{
    static const char sql[] =
        "SELECT current_setting('transaction_isolation') = 'read committed',"
        " current_setting('search_path') = ''"
        "   AND current_setting('plan_cache_mode') = 'force_generic_plan'";
    PGresult *result;
    enum kaiten_status status = pg_query(pq, sql, NULL, until, &result, why);
    if (status != KAITEN_DONE)
        return status;
    bool whole = PQntuples(result) == 1, isolated = whole && pg_bool(result, 0, 0);
    bool ours = pg->options.pooler || (whole && pg_bool(result, 0, 1));
    PQclear(result);
    if (isolated && ours)
        return KAITEN_DONE;
    if (!ours)
        pg_why(why, "the settings of the session were not taken: through a pooler set"
                    " pooler = yes");
    else
        pg_why(why, "default_transaction_isolation of role %s is not read committed: set it with"
                    " ALTER ROLE", PQuser(pq));
    return KAITEN_FAILED;
}

/* --- life ----------------------------------------------------------------------------------- */

static void
pg_close(void *instance)
{
    struct pg *pg = instance;
    pg_keeper_stop(pg);
    for (unsigned i = 0; i < pg->nslots; i++)
        PQfinish(pg->slots[i].pq);
    pg_group_free(pg->group);
    pg_target_done(&pg->target);
    pg_options_free(&pg->options);
    pthread_cond_destroy(&pg->given);
    pthread_mutex_destroy(&pg->mutex);
    free(pg);
}

static struct pg *
pg_new(const struct kaiten_host *host)
{
    struct pg *pg = calloc(1, sizeof *pg);
    if (!pg)
        return NULL;
    memcpy(&pg->host, host, host->size < sizeof *host ? host->size : sizeof *host);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pg->given, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&pg->mutex, NULL);
    pg->wake = -1;
    atomic_init(&pg->kept, KAITEN_STORAGE_OUTSIDE_WRITERS);
    return pg;
}

/* Writing first: the keeper fills slots in this order. */
static void
slots_init(struct pg *pg)
{
    pg->nslots = pg->options.lanes + 1 + pg->options.readers;
    for (unsigned i = pg->options.lanes; i < pg->nslots; i++)
        pg->slots[i].use = i == pg->options.lanes ? PG_FOLLOWING : PG_READING;
}

static enum kaiten_status
open_store(struct pg *pg, struct pg_why *why)
{
    int64_t until = pg_now() + OPEN_MS;
    if (!pg_target_init(&pg->target, &pg->options, why))
        return KAITEN_FAILED;
    slots_init(pg);
    PGconn *pq = pg_connect(&pg->target, until, why);
    if (!pq)
        return KAITEN_RETRY;
    enum kaiten_status status = session_check(pg, pq, until, why);
    if (status == KAITEN_DONE)
        status = pg_needs_engine(pq, until, why);
    if (status == KAITEN_DONE)
        status = format_check(pq, until, why);
    if (status == KAITEN_DONE)
        status = pg_needs_rights(pq, until, why);
    if (status == KAITEN_DONE)
        status = pg_recognize(pg, pq, until, why);
    if (status == KAITEN_DONE)
        status = pg_look(pg, pq, until, why);
    pg_fill(&pg->slots[0], pq); /* closed with the others */
    if (status == KAITEN_DONE)
        status = pg_prepare(pg, &pg->slots[0], until, why);
    if (status != KAITEN_DONE)
        return status == KAITEN_UNKNOWN ? KAITEN_RETRY : status;
    pg->slots[0].state = PG_IDLE;
    if (pg_keeper_start(pg))
        return KAITEN_DONE;
    pg_why(why, "starting a thread: %s", strerror(errno));
    return KAITEN_FAILED;
}

static enum kaiten_status
pg_open(const struct kaiten_host *host, const struct kaiten_config *config, void **ret_instance,
        struct kaiten_err *err)
{
    struct pg_why why = { .text = "" };
    struct pg *pg = pg_new(host);
    if (!pg || !pg_options_read(host, config, &pg->options)) {
        host->error(err, "out of memory");
        if (pg)
            pg_close(pg);
        return KAITEN_FAILED;
    }
    enum kaiten_status status = open_store(pg, &why);
    if (status == KAITEN_DONE) {
        *ret_instance = pg;
        return KAITEN_DONE;
    }
    host->error(err, "%s", why.text);
    pg_close(pg);
    return status;
}

KAITEN_STORAGE_SYMBOL(postgres) = {
    .size = sizeof(struct kaiten_storage),
    .abi = KAITEN_STORAGE_ABI,
    .threads = KAITEN_THREADS_PARALLEL,
    .caps = KAITEN_STORAGE_DURABLE | KAITEN_STORAGE_NOTICES | KAITEN_STORAGE_OUTSIDE_WRITERS,
    .name = "postgres",
    .version = PACKAGE_VERSION,
    .summary = "Keeps everything in PostgreSQL, for several daemons on one database",
    .options = options_table,
    .open = pg_open,
    .close = pg_close,
    .get = pg_get,
    .scan = pg_scan,
    .apply = pg_apply,
    .revision = pg_revision,
    .health = pg_health,
    .changes = pg_changes,
    .init = pg_init,
    .kept = pg_kept,
};
