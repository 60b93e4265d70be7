/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

/* Without these a server loses what it has committed. durable: it does so by itself; the last one
 * is only about a standby that takes over. */
static const struct {
    const char *lacks, *has_again;
    bool durable;
} settings[] = {
    { "synchronous_commit is off: a crash of the server loses what was acknowledged last",
      "synchronous_commit is on", true },
    { "fsync is off: a crash of the server may lose everything", "fsync is on", true },
    { "full_page_writes is off: a crash of the server may damage the store",
      "full_page_writes is on", true },
    { "a standby streams, but none is synchronous (synchronous_standby_names): when it takes over, "
      "what was acknowledged last is lost, revocations among it",
      "a standby is synchronous, or none streams", false },
};

enum {
    SETTINGS = sizeof settings / sizeof settings[0],
    SILENT = 1 << SETTINGS /* another bit of what is lacking: no notices */
};

static void
set_kept(struct pg *pg, uint64_t cap, bool on)
{
    if (on)
        atomic_fetch_or(&pg->kept, cap);
    else
        atomic_fetch_and(&pg->kept, ~cap);
}

enum kaiten_status
pg_look(struct pg *pg, PGconn *pq, int64_t until, struct pg_why *why)
{
    PGresult *result;
    unsigned lacking = 0;
    bool durable = true;
    enum kaiten_status status =
        pg_query(pq,
                 "SELECT current_setting('synchronous_commit') = 'off',"
                 " current_setting('fsync') = 'off', current_setting('full_page_writes') = 'off',"
                 " current_setting('synchronous_standby_names') = ''"
                 "   AND EXISTS (SELECT FROM pg_stat_replication)",
                 NULL, until, &result, why);
    if (status != KAITEN_DONE)
        return status;
    for (int i = 0; i < SETTINGS; i++) {
        bool lacks = PQntuples(result) == 1 && pg_bool(result, 0, i);
        bool lacked = (pg->lacking & 1u << i) != 0;
        if (lacks && !lacked)
            pg->host.log(KAITEN_LOG_WARNING, "storage-postgres: %s", settings[i].lacks);
        else if (lacked && !lacks)
            pg->host.log(KAITEN_LOG_NOTICE, "storage-postgres: %s", settings[i].has_again);
        lacking |= (unsigned)lacks << i;
        durable &= !lacks || !settings[i].durable;
    }
    PQclear(result);
    pg->lacking = lacking | (pg->lacking & SILENT);
    set_kept(pg, KAITEN_STORAGE_DURABLE, durable);
    return KAITEN_DONE;
}

void
pg_note_notices(struct pg *pg, const char *missed)
{
    if (missed && (pg->lacking & SILENT) == 0)
        pg->host.log(KAITEN_LOG_WARNING,
                     "storage-postgres: notices do not arrive: what other daemons end is learnt by "
                     "asking alone; through a pooler in transaction mode set pooler = yes (%s)",
                     missed);
    pg->lacking = missed ? pg->lacking | SILENT : pg->lacking & ~(unsigned)SILENT;
    set_kept(pg, KAITEN_STORAGE_NOTICES, !missed);
}

uint64_t
pg_kept(void *instance)
{
    struct pg *pg = instance;
    return atomic_load(&pg->kept);
}
