/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The daemon's own options: tables that the configuration is checked against, the manual and the
 * sample configuration are compared with, and the typed result. */
#ifndef SETTINGS_H
#define SETTINGS_H

#include "client/proto/str.h"
#include "daemon/conf.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/transport/listen.h"
#include "daemon/transport/tls.h"

enum { SETTINGS_LISTENERS_MAX = 16 };

/* [kaitend], [socket] and [http]; each ends with a row without a name. */
extern const struct kaiten_option settings_daemon[], settings_socket[], settings_http[];

struct listener_settings {
    bool is_http;
    const char *name;          /* what tells it from others of its kind, or NULL */
    const char *listen;        /* path of the socket, or address:port */
    unsigned mode;             /* of the socket */
    const char *group;         /* of the socket, or NULL */
    struct conf_values *values; /* for the list of auth plugins */
    struct listen_limits limits;
    enum metrics_readers metrics; /* of http */
    struct tls_options tls;    /* certificate NULL: none is spoken */
};

/* Strings live as long as the settings. */
struct settings {
    struct conf *conf;
    struct conf_values *values;
    enum log_level log_level;
    const char *log_file, *user, *plugin_dir, *storage, *state_dir;
    const char *digest_key_file, *journal_file, *signing_key_file, *issuer, *audience;
    size_t loops, workers, queue_max, embedded_tokens_max;
    int64_t request_ms, drain_ms, lifetime_max_ms, jwt_lifetime_ms;
    int64_t retention_ms, audit_retention_ms, last_used_ms;
    int64_t store_poll_ms, staleness_ms;
    bool scopes_unbounded;
    struct limits_options limits;
    struct kt_str *modules;
    size_t nmodules; /* 0: the default list */
    struct listener_settings listeners[SETTINGS_LISTENERS_MAX];
    size_t nlisteners;
};

/* Reads the file and checks the daemon's own sections; those of plugins are left for when they are
 * loaded. False: err names file, line and option. Main thread. */
bool settings_read(const char *path, struct settings **ret, struct conf_error *err);
void settings_free(struct settings *); /* NULL allowed */

#endif
