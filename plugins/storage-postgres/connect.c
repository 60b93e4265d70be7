/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The value of a keyword in a parsed string; NULL: not there. */
static const char *
value_of(const PQconninfoOption *parsed, const char *keyword)
{
    for (; parsed->keyword; parsed++)
        if (strcmp(parsed->keyword, keyword) == 0)
            return parsed->val && parsed->val[0] ? parsed->val : NULL;
    return NULL;
}

/* The i-th part of a list with commas; the only part serves for all. NULL: none, or no memory. */
static char *
part_of(const char *list, unsigned i)
{
    if (!list)
        return NULL;
    if (!strchr(list, ','))
        i = 0;
    for (; i > 0; i--) {
        list = strchr(list, ',');
        if (!list)
            return NULL;
        list++;
    }
    return strndup(list, strcspn(list, ","));
}

static unsigned
parts_of(const char *list)
{
    unsigned n = list != NULL;
    for (; list && *list; list++)
        n += *list == ',';
    return n;
}

/* libpq tries the servers in turn, but without a limit for each; so each is tried alone. */
static bool
hosts_split(struct pg_target *t, const PQconninfoOption *parsed, struct pg_why *why)
{
    const char *host = value_of(parsed, "host"), *addr = value_of(parsed, "hostaddr");
    unsigned n = parts_of(addr ? addr : host);
    if (n > PG_HOSTS_MAX) {
        pg_why(why, "connection: %u hosts; accepted: at most %d", n, PG_HOSTS_MAX);
        return false;
    }
    t->nhosts = n > 0 ? n : 1;
    if (n < 2)
        return true;
    for (unsigned i = 0; i < n; i++)
        t->hosts[i] = (struct pg_host){ part_of(host, i), part_of(addr, i),
                                        part_of(value_of(parsed, "port"), i) };
    return true;
}

bool
pg_target_init(struct pg_target *t, const struct pg_options *options, struct pg_why *why)
{
    char *problem = NULL;
    *t = (struct pg_target){
        .connection = options->connection,
        .password_file = options->password_file,
        .application = "kaitend",
        .statement_ms = options->timeout / 2,
        .lock_ms = options->timeout / 4,
        .plain = options->pooler,
    };
    PQconninfoOption *parsed = PQconninfoParse(t->connection, &problem);
    if (!parsed) { /* its words may quote the string, and that may have a password in it */
        pg_why(why, "connection: not a connection string of libpq");
        PQfreemem(problem);
        return false;
    }
    bool fine = true;
    if (value_of(parsed, "password")) {
        pg_why(why, "connection: has a password; accepted: password_file");
        fine = false;
    }
    fine = fine && hosts_split(t, parsed, why);
    PQconninfoFree(parsed);
    return fine;
}

void
pg_target_done(struct pg_target *t)
{
    for (unsigned i = 0; i < PG_HOSTS_MAX; i++) {
        free(t->hosts[i].host);
        free(t->hosts[i].hostaddr);
        free(t->hosts[i].port);
        t->hosts[i] = (struct pg_host){ NULL, NULL, NULL };
    }
}

char *
pg_user_of(const char *connection)
{
    PQconninfoOption *parsed = PQconninfoParse(connection, NULL);
    const char *user = parsed ? value_of(parsed, "user") : NULL;
    char *copy = user ? strdup(user) : NULL;
    PQconninfoFree(parsed);
    if (copy)
        return copy;
    PQconninfoOption *defaults = PQconndefaults();
    user = defaults ? value_of(defaults, "user") : NULL;
    copy = user ? strdup(user) : NULL;
    PQconninfoFree(defaults);
    return copy;
}

/* The first line of the file; false: why. Read anew each time, so that a password may be changed
 * while the daemon runs. */
static bool
password_read(const char *file, char password[PG_PASSWORD_MAX], struct pg_why *why)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, password, PG_PASSWORD_MAX - 1);
    if (n < 0)
        pg_why(why, "password_file %s: %s", file, strerror(errno));
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return false;
    password[n] = '\0';
    password[strcspn(password, "\r\n")] = '\0';
    return true;
}

/* What the server is to do for each session, behind what the connection string asks for. Every
 * statement of ours has an index and always the same plan; planning it for its very parameters
 * takes a third of its time, and processes that share it many times as much. */
static char *
session_options(const struct pg_target *t)
{
    PQconninfoOption *parsed = PQconninfoParse(t->connection, NULL);
    const char *own = parsed ? value_of(parsed, "options") : NULL;
    char *text = NULL;
    if (asprintf(&text,
                 "%s -c search_path= -c statement_timeout=%lld -c lock_timeout=%lld"
                 " -c idle_in_transaction_session_timeout=5000 -c enable_seqscan=off -c jit=off"
                 " -c plan_cache_mode=force_generic_plan -c max_parallel_workers_per_gather=0"
                 " -c default_transaction_isolation=read\\ committed",
                 own ? own : "", (long long)t->statement_ms, (long long)t->lock_ms) < 0)
        text = NULL;
    PQconninfoFree(parsed);
    return text;
}

static PGconn *
connect_start(const struct pg_target *t, const struct pg_host *host, const char *options,
              const char *password)
{
    const char *keys[20], *values[20];
    size_t n = 0;
#define SET(key, value) (keys[n] = (key), values[n++] = (value))
    /* Ahead of the connection string: it may say otherwise. */
    SET("keepalives_idle", "5");
    SET("keepalives_interval", "2");
    SET("keepalives_count", "3");
    SET("tcp_user_timeout", "5000");
    SET("fallback_application_name", t->application);
    SET("dbname", t->connection);
    /* Behind it: it may not. A value that is NULL sets nothing. */
    SET("target_session_attrs", "read-write");
    SET("client_encoding", "UTF8");
    SET("options", options);
    SET("password", password);
    SET("host", host->host);
    SET("hostaddr", host->hostaddr);
    SET("port", host->port);
    SET(NULL, NULL);
#undef SET
    return PQconnectStartParams(keys, values, 1);
}

/* Messages of the server beside its answers are dropped. */
static void
ignore_notice(void *ctx, const PGresult *result)
{
    (void)ctx;
    (void)result;
}

/* False: not within time. The socket may be another one each time. */
static bool
connect_wait(PGconn *pq, short events, int64_t until)
{
    struct pollfd fd = { PQsocket(pq), events, 0 };
    for (;;) {
        int64_t left = until - pg_now();
        if (left <= 0)
            return false;
        int n = poll(&fd, 1, left < 60000 ? (int)left : 60000);
        if (n > 0 || (n < 0 && errno != EINTR))
            return true;
    }
}

/* Poolers take no options. */
static void
say_refused(PGconn *pq, struct pg_why *why)
{
    const char *text = PQerrorMessage(pq);
    pg_why(why, "%s%s", strstr(text, "startup parameter") ? "through a pooler set pooler = yes: "
                                                          : "", text);
}

/* connect_timeout does not count here, so the time is ours to keep. */
static bool
connect_finish(PGconn *pq, int64_t until, struct pg_why *why)
{
    PostgresPollingStatusType want = PGRES_POLLING_WRITING;
    while (want == PGRES_POLLING_READING || want == PGRES_POLLING_WRITING) {
        if (!connect_wait(pq, want == PGRES_POLLING_READING ? POLLIN : POLLOUT, until)) {
            pg_why(why, "%s", PG_SILENT);
            return false;
        }
        want = PQconnectPoll(pq);
    }
    if (want == PGRES_POLLING_OK)
        return true;
    say_refused(pq, why);
    return false;
}

static PGconn *
connect_one(const struct pg_target *t, const struct pg_host *host, int64_t until,
            struct pg_why *why)
{
    char password[PG_PASSWORD_MAX] = "";
    if (t->password_file && !password_read(t->password_file, password, why))
        return NULL;
    char *options = t->plain ? NULL : session_options(t);
    PGconn *pq = NULL;
    if (options || t->plain)
        pq = connect_start(t, host, options, t->password_file ? password : NULL);
    explicit_bzero(password, sizeof password);
    free(options);
    if (!pq || PQstatus(pq) == CONNECTION_BAD)
        pg_why(why, "%s", pq ? PQerrorMessage(pq) : "out of memory");
    else if (connect_finish(pq, until, why)) {
        PQsetNoticeReceiver(pq, ignore_notice, NULL);
        PQsetnonblocking(pq, 1); /* else sending to a server that does not read never returns */
        return pq;
    }
    PQfinish(pq);
    return NULL;
}

PGconn *
pg_connect(struct pg_target *t, int64_t until, struct pg_why *why)
{
    for (unsigned left = t->nhosts; left > 0; left--) {
        struct pg_why one = { .text = "" };
        int64_t now = pg_now();
        PGconn *pq = connect_one(t, &t->hosts[t->next], now + (until - now) / left, &one);
        if (pq)
            return pq;
        t->next = (t->next + 1) % t->nhosts;
        *why = one; /* the last one's reason */
    }
    return NULL;
}
