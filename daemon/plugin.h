/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Finding, checking and loading plugins; the host functions that they are lent live in host.c. */
#ifndef PLUGIN_H
#define PLUGIN_H

#include "daemon/conf.h"
#include "plugins/kaiten-auth.h"
#include "plugins/kaiten-storage.h"

#include <pthread.h>

enum plugin_kind { PLUGIN_STORAGE = 1, PLUGIN_AUTH = 2 };

/* Loaded for the life of the process: nothing is ever unloaded. */
struct plugin {
    enum plugin_kind kind;
    struct kaiten_storage storage; /* copies of min(their size, our size), the rest zero */
    struct kaiten_auth auth;
    const char *name;              /* as in the configuration: "storage-bdb" */
    const struct kaiten_option *options; /* never NULL */
    pthread_mutex_t *calls; /* held around each call of an auth plugin that takes one at a time */
};

/* A plugin that is linked into the program; one of the two pointers is set. */
struct plugin_builtin {
    const char *name;
    const struct kaiten_storage *storage;
    const struct kaiten_auth *auth;
};

/* Ends with a row without a name. Empty in builtin_none.c, which a program that links plugins
 * replaces by a table of its own: configure --enable-static-plugins does. */
extern const struct plugin_builtin plugin_builtins[];

/* Takes the plugin that is linked into the program, or loads NAME.so from the first of the folders
 * (NULL-terminated list) that has it, after checking that nobody but root and we can write it.
 * False: err names file and defect. Main thread. */
bool plugin_load(const char *name, const char *const *folders, struct plugin **ret,
                 struct conf_error *err);

/* --- host.c ------------------------------------------------------------------------------- */

extern const struct kaiten_host host_table;

/* Where host->row() goes: the base of what a caller of get() and scan() passes. */
struct kaiten_emit {
    bool (*row)(struct kaiten_emit *, struct kaiten_bytes key, struct kaiten_bytes value,
                uint64_t revision);
};

/* What a plugin has said by host->error(). */
struct kaiten_err {
    char text[512];
};

/* Opens an instance with its checked options. Not KAITEN_DONE: err has the plugin's words. */
enum kaiten_status plugin_open(const struct plugin *, const struct conf_values *,
                               void **ret_instance, struct conf_error *err);

/* Has a storage plugin make its store or bring it up to date; KAITEN_DONE when its open() does that
 * by itself. Else err has the plugin's words. */
enum kaiten_status plugin_init(const struct plugin *, const struct conf_values *,
                               struct conf_error *err);

struct principal;
struct service;

/* Where host->principal(), host->token() and host->refuse() go. who is owned by the one who asked
 * the plugin. */
struct kaiten_sink {
    const struct service *svc;
    bool on_loop;      /* the asking thread is an event loop */
    struct call *call; /* of the request, when there is one: what asks the store needs it */
    bool asks;         /* on a loop: it takes a look into the store, so a worker has to ask again */
    bool broken;       /* the store cannot say */
    struct principal *who;
    bool no_memory;    /* the reason why there is none */
    const char *code;  /* of a refusal that the caller may hear; NULL: none was given */
    char detail[256];
};

/* Sets what host->deadline() answers on this thread; 0: no limit. */
void host_set_deadline(int64_t mono_ms);

/* Calls wake(ctx) whenever the storage plugin says that somebody else has changed the store; NULL:
 * no more, and no call is running when this returns. Any thread; wake is called by any thread and
 * does not block. */
void host_on_change(void (*wake)(void *ctx), void *ctx);

/* A verdict of an auth plugin holds while this number is what it was when the plugin was asked. Any
 * thread. */
uint64_t host_verdict_epoch(void);

#endif
