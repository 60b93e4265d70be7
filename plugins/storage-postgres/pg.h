/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Storage in PostgreSQL, for several daemons on one database: what the files of this plugin share.
 *
 * open.c     the plugin's table; opening, closing, what is warned of at start
 * schema.c   what stands in the database
 * init.c     making it
 * needs.c    what a server has to have for it
 * connect.c  one connection: where to, as whom, within what time
 * server.c   what the server was told to do without
 * query.c    one statement on one connection, and what the server says about it
 * prepare.c  statements that are asked all the time
 * param.c    parameters of a statement
 * pool.c     the connections, and who has which
 * keeper.c   the thread that makes connections, hears notices and tidies up
 * map.c      get, scan, health, revision
 * changes.c  what others have written
 * plan.c     which batches of a group may be written beside each other
 * apply.c    a group of batches over several connections
 *
 * No call waits longer than the option timeout, whatever the database does; only scan() may, as
 * long as rows keep coming. Only the keeper connects, so that nobody else can be held up by it
 * (resolving a name may block). Times are milliseconds of CLOCK_MONOTONIC. */
#ifndef PG_H
#define PG_H

#include "plugins/kaiten-storage.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
    PG_FORMAT = 3,
    PG_HOSTS_MAX = 16,      /* of one connection string */
    PG_SLOTS_MAX = 64 + 1 + 64, /* connections for writing, for changes(), and for reading */
    PG_PARAMS_MAX = 12,     /* of a statement */
    PG_PAGE_MAX = 4096,     /* rows of a scan that one statement fetches */
    PG_NEWS_MAX = 256,      /* rows of each kind that come with the question for changes */
    PG_RUNNING_MAX = 256,   /* transactions of a snapshot that are remembered one by one */
    PG_TOGETHER_MAX = 16,   /* batches that are written by one statement */
    PG_PASSWORD_MAX = 1024  /* bytes of a password file */
};

/* Why something failed; the first text wins. silent: no answer came in time. */
struct pg_why {
    char text[400];
    bool silent;
};

void pg_why(struct pg_why *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What the configuration says. Strings are owned. */
struct pg_options {
    char *connection, *password_file;           /* the second may be NULL */
    char *init_connection, *init_password_file; /* both may be NULL */
    unsigned lanes, readers;
    int64_t timeout;
    bool pooler;
};

/* One of the servers that a connection string names. NULL: as the string says. */
struct pg_host {
    char *host, *hostaddr, *port;
};

/* Where to connect. */
struct pg_target {
    const char *connection, *password_file; /* borrowed */
    const char *application;                /* a constant */
    int64_t statement_ms, lock_ms;          /* limits that the server keeps; 0: none */
    bool plain;                             /* send no settings: a pooler would refuse them */
    struct pg_host hosts[PG_HOSTS_MAX];
    unsigned nhosts, next; /* the one to begin with */
};

enum pg_state { PG_EMPTY = 0, PG_IDLE, PG_BUSY };

/* What a connection is for. changes() has its own: how late it is must not depend on how many look
 * something up, strangers with made-up tokens among them. */
enum pg_use { PG_WRITING = 0, PG_FOLLOWING, PG_READING };

/* What is asked all the time: half of what it costs the server is to read and plan the text, so
 * each session does that once, unless a pooler may hand the next one to somebody else. */
enum pg_statement { PG_APPLY = 0, PG_MOMENT, PG_NEWS, PG_GET, PG_STATEMENTS };

/* Belongs to the pool, and to one thread while it is BUSY. */
struct pg_slot {
    PGconn *pq; /* NULL while EMPTY */
    bool prepared; /* what pg_prepare() does */
    bool shunned;  /* to be closed when it is given back */
    bool warned;   /* the server has warned of something; whoever wants to know resets it */
    enum pg_state state;
    enum pg_use use;
};

/* What was visible when one looked: what all transactions below next have written, but for those
 * that were running. */
struct pg_view {
    uint64_t next, running[PG_RUNNING_MAX];
    size_t n;
};

struct pg {
    struct kaiten_host host;
    struct pg_options options;
    struct pg_target target;

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t given;  /* some slot became IDLE or EMPTY, or down changed */
    struct pg_slot slots[PG_SLOTS_MAX];
    unsigned nslots;
    bool down;       /* the last attempt to connect has failed, for this reason: */
    struct pg_why down_why;
    int64_t started; /* when the server began that all connections lead to */
    _Atomic uint64_t servers; /* and how many there have been; only ever grows */

    pthread_t keeper;
    bool keeping;
    int wake; /* eventfd */
    atomic_bool stop;
    PGconn *side; /* the keeper's own: notices and tidying up */
    _Atomic uint64_t kept; /* KAITEN_STORAGE_..., as of the last look at the server */
    unsigned lacking;      /* server.c's: what was warned of */

    /* changes() alone: its last answer, the number of transactions that had ended, and the hash of
     * what it was asked for. With the same numbers there is nothing new. */
    struct kaiten_position told;
    struct pg_view told_view;
    uint64_t told_moved, told_spaces;
    bool moving;       /* the answer before that was another one */
    atomic_bool heard; /* a notice, since the last question */
    struct pg_group *group; /* apply() alone: its memory */
};

/* Now, and when a call that begins now ends at the latest: the daemon's deadline or ours. */
int64_t pg_now(void);
int64_t pg_until(const struct pg *);

/* --- schema.c, init.c ------------------------------------------------------------------------ */

/* Steps from format i to i + 1: lists of SQL texts, each ended by NULL. */
extern const char *const *const pg_schema_steps[PG_FORMAT];

enum kaiten_status pg_init(const struct kaiten_host *, const struct kaiten_config *,
                           struct kaiten_err *);

/* --- needs.c -------------------------------------------------------------------------------- */

/* Whether the server has what kaitend needs of it, whether the functions of the schema work there
 * (within a transaction of the caller's, who undoes what they write), and whether the session's
 * role may use them. KAITEN_FAILED: why has the name of what is missing, and what the server says.
 */
enum kaiten_status pg_needs_engine(PGconn *, int64_t until, struct pg_why *);
enum kaiten_status pg_needs_functions(PGconn *, int64_t until, struct pg_why *);
enum kaiten_status pg_needs_rights(PGconn *, int64_t until, struct pg_why *);

/* --- open.c --------------------------------------------------------------------------------- */

/* False: no memory. Free with pg_options_free in any case. */
bool pg_options_read(const struct kaiten_host *, const struct kaiten_config *,
                     struct pg_options *ret_options);
void pg_options_free(struct pg_options *);

/* --- connect.c ------------------------------------------------------------------------------ */

/* Takes the connection string apart. False: why says what is wrong with it. Free with
 * pg_target_done. */
bool pg_target_init(struct pg_target *, const struct pg_options *, struct pg_why *);
void pg_target_done(struct pg_target *);

/* Connects to the first of the servers that takes writes. NULL: none does, or not in time. Blocks
 * until then, and longer when a host name has to be resolved. */
PGconn *pg_connect(struct pg_target *, int64_t until, struct pg_why *);

/* The user that a connection string logs in as, for the caller to free; NULL: no memory, or no
 * valid string. */
char *pg_user_of(const char *connection);

/* --- server.c ------------------------------------------------------------------------------- */

/* Asks under which settings the server commits; says what has changed since the last look, if it is
 * nothing good as a warning. Whoever opens the store, then the keeper. */
enum kaiten_status pg_look(struct pg *, PGconn *, int64_t until, struct pg_why *);

/* Notices arrive, missed NULL, or why they do not; that is said when it was not so before. */
void pg_note_notices(struct pg *, const char *missed);

uint64_t pg_kept(void *);

/* --- query.c -------------------------------------------------------------------------------- */

/* Waits until the connection can be read, or written when there is something to send. False: it is
 * late. */
bool pg_wait(PGconn *, int64_t until);

/* What the error that a statement has ended with means for the daemon; why gets its text.
 * KAITEN_UNKNOWN: the session is over as well. */
enum kaiten_status pg_status_of(const PGresult *, struct pg_why *);

/* Whether the same statement may succeed when it is sent again: it was a deadlock or the like. */
bool pg_is_transient(const PGresult *);

/* Whether the server, or this session, takes no writes. */
bool pg_is_read_only(const PGresult *);

struct pg_params;

/* What is asked: a text, or when that is NULL one of the statements that may be prepared. */
struct pg_question {
    const char *sql;
    enum pg_statement which;
    const struct pg_params *params; /* NULL: none */
    int64_t until;                  /* an answer is waited for */
    bool commits; /* it writes: a warning says that the commit did not wait for the standbys */
};

/* Runs one statement and waits for all of it. NULL params: none. KAITEN_DONE: *ret_result is for
 * the caller to clear. KAITEN_UNKNOWN: the connection is lost, or the answer late, which is the
 * same. */
enum kaiten_status pg_query(PGconn *, const char *sql, const struct pg_params *, int64_t until,
                            PGresult **ret_result, struct pg_why *);

/* Waits for all that a statement answers which was sent. Returns as pg_query. */
enum kaiten_status pg_answer(PGconn *, int64_t until, PGresult **ret_result, struct pg_why *);

/* As pg_query, over a connection of the pool. */
enum kaiten_status pg_ask(struct pg_slot *, const struct pg_question *, PGresult **ret_result,
                          struct pg_why *);

/* Sends it; the answer is still to come. False: the connection is lost or no memory. */
bool pg_send_statement(struct pg_slot *, enum pg_statement, const struct pg_params *);

/* Prepares what the slot's use needs, on its new connection; nothing behind a pooler. KAITEN_FAILED
 * or KAITEN_UNKNOWN: the connection is of no use. */
enum kaiten_status pg_prepare(const struct pg *, struct pg_slot *, int64_t until, struct pg_why *);

/* Asks and passes on each row as it comes; each may take as long as the first one: what is left
 * until the question's end. After a false from each() rows are read and thrown away. Returns as
 * pg_query. */
enum kaiten_status pg_stream(struct pg_slot *, const struct pg_question *,
                             bool (*each)(void *ctx, const PGresult *), void *ctx,
                             struct pg_why *);

/* Columns of a result in binary form. */
struct kaiten_bytes pg_bytes(const PGresult *, int row, int column); /* p NULL: SQL's null */
int64_t pg_int8(const PGresult *, int row, int column);
bool pg_bool(const PGresult *, int row, int column);

/* --- param.c -------------------------------------------------------------------------------- */

/* Parameters of one statement, all in binary form. */
struct pg_params {
    unsigned char *data; /* owned */
    size_t n, room;
    bool failed; /* for want of memory */
    int count;
    Oid types[PG_PARAMS_MAX];
    size_t offsets[PG_PARAMS_MAX];
    int lengths[PG_PARAMS_MAX];
};

/* Begins anew; zeroed memory is fine, too. */
void pg_params_reset(struct pg_params *);
void pg_params_done(struct pg_params *);

void pg_put_bytes(struct pg_params *, struct kaiten_bytes);
void pg_put_int8(struct pg_params *, int64_t);
void pg_put_xid8(struct pg_params *, uint64_t);
void pg_put_bool(struct pg_params *, bool);
void pg_put_uuid(struct pg_params *, const unsigned char id[16]);
void pg_put_text(struct pg_params *, const char *);

/* Arrays: begin, then as many elements as announced. */
void pg_put_bytes_array(struct pg_params *, size_t n);
void pg_add_bytes(struct pg_params *, struct kaiten_bytes);
void pg_put_int8_array(struct pg_params *, size_t n);
void pg_put_xid8_array(struct pg_params *, size_t n);
void pg_add_int8(struct pg_params *, int64_t); /* xid8 looks the same */
void pg_put_int4_array(struct pg_params *, size_t n);
void pg_add_int4(struct pg_params *, int32_t);
void pg_put_bool_array(struct pg_params *, size_t n);
void pg_add_bool(struct pg_params *, bool);

/* Sends the statement; the answer is still to come. False: the connection is lost or no memory. */
bool pg_send(PGconn *, const char *sql, const struct pg_params *);

/* As above, of a statement that is prepared under this name. */
bool pg_send_prepared(PGconn *, const char *name, const struct pg_params *);

/* --- pool.c --------------------------------------------------------------------------------- */

/* The slot has this connection from now on. */
void pg_fill(struct pg_slot *, PGconn *);

/* A connection for this use. NULL: there is none before until, or none at all now that
 * the database is down, which is known at once. */
struct pg_slot *pg_take(struct pg *, enum pg_use, int64_t until, struct pg_why *);

/* Another one, if it is free right now. */
struct pg_slot *pg_take_more(struct pg *, enum pg_use);

/* Back into the pool; lost: it is closed, and the keeper makes a new one. NULL allowed. */
void pg_give(struct pg *, struct pg_slot *, bool lost);

/* Why no connection to this server is used any more, and none is there until the keeper has made
 * one. SILENT: no answer came although the server gives up a statement long before we do. So it is
 * the server or the network, and the other connections would only cost their users the same time.
 * READ_ONLY: it takes no writes, so that another one may take them. Those that are in use go when
 * they are given back. */
#define PG_SILENT "the database does not answer"
#define PG_READ_ONLY "this server takes no writes"
#define PG_ALONE "the commit has not waited for the standbys"
#define PG_ANOTHER "another server has taken over"
void pg_turn_away(struct pg *, const char *reason);

/* A connection that has just been made and leads to another server than the others has those
 * closed: what is on the way there may pass on new ones to a standby that took over, while old ones
 * still lead to a server that nobody has stopped. A server is known by when it began, which is
 * cheap to ask. Returns as pg_query. */
enum kaiten_status pg_recognize(struct pg *, PGconn *, int64_t until, struct pg_why *);

/* The number of the server that all connections lead to; 0: it did not begin then. */
uint64_t pg_server_of(struct pg *, int64_t started);

/* Has the keeper look. */
void pg_wake(struct pg *);

/* Asks what may be asked twice, on some connection for this use, not for writing. One that turns
 * out to be lost costs nothing but another attempt. */
enum kaiten_status pg_read(struct pg *, enum pg_use, const struct pg_question *,
                           PGresult **ret_result, struct pg_why *);

/* --- keeper.c ------------------------------------------------------------------------------- */

/* False: errno. */
bool pg_keeper_start(struct pg *);
void pg_keeper_stop(struct pg *);

/* --- map.c, changes.c ----------------------------------------------------------------------- */

enum kaiten_status pg_get(void *, const struct kaiten_bytes *, size_t, struct kaiten_emit *,
                          struct kaiten_err *);
enum kaiten_status pg_scan(void *, const struct kaiten_range *, struct kaiten_emit *,
                           struct kaiten_err *);
enum kaiten_status pg_revision(void *, uint64_t *, struct kaiten_err *);
enum kaiten_status pg_health(void *, struct kaiten_err *);
enum kaiten_status pg_changes(void *, const struct kaiten_position *, struct kaiten_bytes,
                              struct kaiten_emit *, struct kaiten_position *, struct kaiten_err *);

/* --- plan.c --------------------------------------------------------------------------------- */

/* Batches with the same number in chains[] share a key that one of them writes: they must be
 * written one after the other. Numbers are indices of batches. False: no memory. */
bool pg_plan(const struct kaiten_batch *, size_t n, unsigned chains[]);

/* 64 bits of a key, the same in every build: advisory locks are named after them. */
uint64_t pg_hash(struct kaiten_bytes);

/* memcmp's order, a shorter key before its extensions. */
int pg_compare(struct kaiten_bytes, struct kaiten_bytes);

/* The parameters of kaiten.apply(), which writes all n batches or none: 1 <= n <= PG_TOGETHER_MAX,
 * of chains of their own, all URGENT or none. A condition that fails has the number
 * place of the batch * KAITEN_BATCH_CONDS_MAX + index. */
void pg_put_batches(struct pg_params *, const struct kaiten_batch *const batches[], size_t n,
                    const unsigned char id[16]);

/* What there is of it to send, more or less. */
size_t pg_batch_bytes(const struct kaiten_batch *);

/* --- apply.c -------------------------------------------------------------------------------- */

enum kaiten_status pg_apply(void *, const struct kaiten_batch *, size_t, struct kaiten_outcome *,
                            struct kaiten_err *);
void pg_group_free(struct pg_group *);

#endif
