/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

void
pg_why(struct pg_why *why, const char *fmt, ...)
{
    if (why->text[0] != '\0')
        return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(why->text, sizeof why->text, fmt, args);
    va_end(args);
    /* libpq ends its messages with a newline and breaks lines within. */
    size_t n = strlen(why->text);
    while (n > 0 && why->text[n - 1] == '\n')
        why->text[--n] = '\0';
    for (char *p = why->text; (p = strpbrk(p, "\n\t"));)
        *p = ' ';
}

int64_t
pg_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t
pg_until(const struct pg *pg)
{
    int64_t left = pg->host.deadline();
    return pg_now() + (left < pg->options.timeout ? left : pg->options.timeout);
}

bool
pg_wait(PGconn *pq, int64_t until)
{
    int more = PQflush(pq);
    struct pollfd fd = { PQsocket(pq), (short)(more > 0 ? POLLIN | POLLOUT : POLLIN), 0 };
    for (;;) {
        int64_t left = until - pg_now();
        if (left <= 0)
            return false;
        int n = poll(&fd, 1, left < 60000 ? (int)left : 60000);
        if (n > 0 || (n < 0 && errno != EINTR))
            return true; /* a broken one shows when it is read */
    }
}

static const char *
state_of(const PGresult *result)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    return state ? state : "";
}

static bool
begins(const char *state, const char *class)
{
    return strncmp(state, class, strlen(class)) == 0;
}

enum kaiten_status
pg_status_of(const PGresult *result, struct pg_why *why)
{
    static const struct {
        const char *state; /* or its first characters */
        enum kaiten_status status;
    } table[] = {
        { "53100", KAITEN_FULL },    /* disk full */
        { "53", KAITEN_RETRY },      /* memory, connections */
        { "40", KAITEN_RETRY },      /* serialization, deadlock */
        { "KT001", KAITEN_RETRY },   /* ours: lost to another insert */
        { "55P03", KAITEN_RETRY },   /* lock_timeout */
        { "57014", KAITEN_RETRY },   /* statement_timeout */
        { "57P", KAITEN_RETRY },     /* shutdown, crash, not yet up */
        { "25006", KAITEN_RETRY },   /* no longer the primary */
        { "25P", KAITEN_RETRY },     /* idle for too long */
        { "26000", KAITEN_RETRY },   /* prepared in a session that a pooler has given to others */
        { "08", KAITEN_UNKNOWN },    /* a pooler has lost its own connection */
        { "XX001", KAITEN_CORRUPT }, /* data */
        { "XX002", KAITEN_CORRUPT }, /* an index */
    };
    const char *state = state_of(result);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (!severity) /* not the server's own words */
        severity = PQresultErrorField(result, PG_DIAG_SEVERITY);
    pg_why(why, "%s (%s)", text ? text : PQresultErrorMessage(result), state);
    /* Somebody ends the session, perhaps between the commit and its answer. */
    if (severity && strcmp(severity, "ERROR") != 0)
        return KAITEN_UNKNOWN;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (begins(state, table[i].state))
            return table[i].status;
    return state[0] ? KAITEN_FAILED : KAITEN_UNKNOWN; /* libpq itself gives no state */
}

bool
pg_is_transient(const PGresult *result)
{
    const char *state = state_of(result);
    return begins(state, "40001") || begins(state, "40P01") || begins(state, "KT001");
}

bool
pg_is_read_only(const PGresult *result)
{
    return begins(state_of(result), "25006");
}

/* The next result of the statement under way. False: the connection is lost or late. */
static bool
next_result(PGconn *pq, int64_t until, PGresult **ret_result, struct pg_why *why)
{
    while (PQisBusy(pq)) {
        if (!pg_wait(pq, until)) {
            pg_why(why, "%s", PG_SILENT);
            why->silent = true;
            return false;
        }
        if (!PQconsumeInput(pq)) {
            pg_why(why, "%s", PQerrorMessage(pq));
            return false;
        }
    }
    *ret_result = PQgetResult(pq);
    return true;
}

/* Whether the statement ended well, or what became of it. */
static enum kaiten_status
result_status(PGconn *pq, const PGresult *result, struct pg_why *why)
{
    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
    case PGRES_SINGLE_TUPLE:
    case PGRES_COMMAND_OK:
        return KAITEN_DONE;
    default: {
        enum kaiten_status status = pg_status_of(result, why);
        return PQstatus(pq) == CONNECTION_OK ? status : KAITEN_UNKNOWN;
    }
    }
}

static enum kaiten_status
begun(PGconn *pq, const struct pg_params *params, bool sent, struct pg_why *why)
{
    if (params && params->failed) {
        pg_why(why, "out of memory");
        return KAITEN_FAILED;
    }
    if (sent)
        return KAITEN_DONE;
    pg_why(why, "%s", PQerrorMessage(pq));
    return KAITEN_UNKNOWN;
}

enum kaiten_status
pg_answer(PGconn *pq, int64_t until, PGresult **ret_result, struct pg_why *why)
{
    PGresult *last = NULL, *result;
    enum kaiten_status status = KAITEN_DONE;
    for (;;) {
        if (!next_result(pq, until, &result, why)) {
            PQclear(last);
            return KAITEN_UNKNOWN;
        }
        if (!result)
            break;
        if (status == KAITEN_DONE)
            status = result_status(pq, result, why);
        PQclear(last);
        last = result;
    }
    if (status == KAITEN_DONE && last) {
        *ret_result = last;
        return KAITEN_DONE;
    }
    PQclear(last);
    pg_why(why, "the database has not answered");
    return status == KAITEN_DONE ? KAITEN_UNKNOWN : status;
}

enum kaiten_status
pg_query(PGconn *pq, const char *sql, const struct pg_params *params, int64_t until,
         PGresult **ret_result, struct pg_why *why)
{
    enum kaiten_status status = begun(pq, params, pg_send(pq, sql, params), why);
    return status == KAITEN_DONE ? pg_answer(pq, until, ret_result, why) : status;
}

static enum kaiten_status
begin(struct pg_slot *slot, const struct pg_question *q, struct pg_why *why)
{
    bool sent = q->sql ? pg_send(slot->pq, q->sql, q->params)
                       : pg_send_statement(slot, q->which, q->params);
    return begun(slot->pq, q->params, sent, why);
}

enum kaiten_status
pg_ask(struct pg_slot *slot, const struct pg_question *q, PGresult **ret_result,
       struct pg_why *why)
{
    enum kaiten_status status = begin(slot, q, why);
    return status == KAITEN_DONE ? pg_answer(slot->pq, q->until, ret_result, why) : status;
}

enum kaiten_status
pg_stream(struct pg_slot *slot, const struct pg_question *q,
          bool (*each)(void *, const PGresult *), void *ctx, struct pg_why *why)
{
    PGconn *pq = slot->pq;
    const int64_t wait = q->until - pg_now();
    enum kaiten_status status = begin(slot, q, why);
    bool wanted = true;
    if (status != KAITEN_DONE)
        return status;
    PQsetSingleRowMode(pq);
    for (;;) {
        PGresult *result;
        if (!next_result(pq, pg_now() + wait, &result, why))
            return KAITEN_UNKNOWN;
        if (!result)
            return status;
        if (status == KAITEN_DONE)
            status = result_status(pq, result, why);
        if (status == KAITEN_DONE && wanted && PQntuples(result) > 0)
            wanted = each(ctx, result);
        PQclear(result);
    }
}

struct kaiten_bytes
pg_bytes(const PGresult *result, int row, int column)
{
    if (PQgetisnull(result, row, column))
        return (struct kaiten_bytes){ NULL, 0 };
    return (struct kaiten_bytes){ PQgetvalue(result, row, column),
                                  (size_t)PQgetlength(result, row, column) };
}

int64_t
pg_int8(const PGresult *result, int row, int column)
{
    struct kaiten_bytes wire = pg_bytes(result, row, column);
    uint64_t number = 0;
    for (size_t i = 0; i < wire.n && i < 8; i++)
        number = number << 8 | ((const unsigned char *)wire.p)[i];
    return (int64_t)number;
}

bool
pg_bool(const PGresult *result, int row, int column)
{
    return pg_int8(result, row, column) != 0;
}
