/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What the daemon is put together from, and the steps of starting it: main.c has them in one table.
 * A step returns EX_OK, or the exit code after it has logged why. Main thread. */
#ifndef PARTS_H
#define PARTS_H

#include "daemon/authn.h"
#include "daemon/keeper.h"
#include "daemon/service.h"
#include "daemon/settings.h"
#include "daemon/timeguard.h"
#include "daemon/transport/listen.h"
#include "daemon/transport/tls.h"

#include <signal.h>

struct call;
struct endings;
struct follower;
struct keeper;
struct kt_arena;
struct last_watch;
struct loop;

/* What to do with a store that may have forgotten what was revoked. */
enum parts_rollback {
    ROLLBACK_REFUSE = 0, /* serve, and accept nothing */
    ROLLBACK_KEEP,       /* accept it as it is */
    ROLLBACK_REVOKE      /* accept it, and revoke every token in it */
};

/* Everything that lives from start to end. */
struct parts {
    const char *conf_path;
    struct settings *settings;
    struct service svc;
    struct documents *documents;
    pthread_rwlock_t index_guard;
    struct plugin *storage;
    struct plugin *auths[SETTINGS_LISTENERS_MAX * AUTHN_CHAIN_MAX]; /* each once */
    struct conf_values *options[SETTINGS_LISTENERS_MAX * AUTHN_CHAIN_MAX + 1];
    void *instances[SETTINGS_LISTENERS_MAX * AUTHN_CHAIN_MAX];
    size_t nauths, noptions;
    const char *folders[4];
    struct authn_chain *chains[SETTINGS_LISTENERS_MAX];
    struct listener *listeners[SETTINGS_LISTENERS_MAX];
    struct tls *tls[SETTINGS_LISTENERS_MAX]; /* in the order of the settings; NULL: plain */
    size_t nlisteners;
    enum parts_rollback rollback; /* not REFUSE: accept, then end */
    struct endings *endings; /* what the journal said, until the index is filled */
    uint64_t journal_sure;   /* up to this number the store has all that it will ever have */
    const char *restore_from; /* folder of a copy to be put in place; then end */
    bool restore_replace;
    const char *export_to, *import_from; /* a file, "-" for the standard one; then end */
    bool init_store; /* have the plugin make it; then end */
    int state_lock;
    struct timeguard guard;
    struct keeper *keeper;
    struct follower *follower; /* NULL: nobody else writes the store */
    bool accept_signer; /* ours is the key that the daemons of this store sign with; then end */
    bool accept_clock; /* the wall clock is right, whatever the store says; then end */
    struct loop **loops;
    sigset_t signals;
    int64_t end_ms; /* monotonic: when the drain is over at the latest */
    int64_t patience_ms; /* and when it has to be over although the store does not answer */
    struct last_watch *last_watch;
};

/* Logs why there is no start and returns the code. The second adds what errno says. */
int parts_fail(int code, const char *text);
int parts_fail_errno(int code, const char *what);

/* parts.c: the process, and the plugins' code and options. */
int parts_harden(struct parts *);
int parts_block_signals(struct parts *);
int parts_open_log(struct parts *);
int parts_open_notify(struct parts *);
void parts_close_notify(struct parts *);
int parts_make_routes(struct parts *);
int parts_raise_descriptors(struct parts *);
int parts_become_user(struct parts *);
int parts_make_state_dir(struct parts *); /* locks it: one process at a time */
void parts_set_folders(struct parts *); /* where plugins are looked for */
int parts_load_plugins(struct parts *);
void parts_free_options(struct parts *);
struct plugin *parts_find_auth(struct parts *, const char *name, size_t *ret_index); /* or NULL */

/* parts_store.c: what is kept, the keys, and the index over it. */
int parts_open_storage(struct parts *);
void parts_close_storage(struct parts *);
int parts_open_keys(struct parts *);
void parts_close_keys(struct parts *);
int parts_check_keys(struct parts *);
int parts_open_journal(struct parts *);
int64_t parts_journal_keep_ms(const struct parts *);
int parts_heal_journal(struct parts *); /* once the index is filled, but for its last word */
void parts_close_journal(struct parts *);
void parts_begin_call(struct parts *, struct call *, struct kt_arena *); /* for work at start */
int parts_begin_time(struct parts *); /* the high-water mark of time */
int parts_open_signer(struct parts *);
void parts_close_signer(struct parts *);
int parts_restore(struct parts *);
int parts_init_store(struct parts *);
int parts_export(struct parts *); /* parts_move.c */
int parts_import(struct parts *); /* reads the keys, too */
int parts_open_backup(struct parts *);
void parts_close_backup(struct parts *);
int parts_begin_following(struct parts *); /* before the index is filled */
void parts_end_following(struct parts *);
int parts_make_index(struct parts *);
int parts_fill_followed(struct parts *); /* fills the index of a store that others write, too */
int parts_fill_late(struct parts *);     /* of any other, behind open doors */
void parts_close_index(struct parts *);

/* parts_reload.c: the configuration once more, all of it or nothing. False: it is broken, the log
 * says where, and nothing has changed. */
bool parts_reload(struct parts *);
struct keeper_options parts_keeper_options(const struct settings *); /* main.c */

/* parts_end.c: ends the process, with EX_TEMPFAIL, when what is to be stopped does not end by
 * itself because the store does not answer. */
void parts_watch_end(struct parts *);
void parts_unwatch_end(struct parts *);

/* parts_doors.c: who is let in, and through which doors. */
int parts_load_tls(struct parts *);
void parts_free_tls(struct parts *);
void parts_reload_tls(struct parts *); /* the certificates of all doors or of none */
int parts_open_auths(struct parts *);
void parts_close_auths(struct parts *);
int parts_start_listeners(struct parts *);
void parts_stop_listeners(struct parts *); /* drains them first */

#endif
