/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/settings.h"

#include "daemon/model/scope.h"
#include "daemon/transport/endpoint.h"
#include "plugins/kaiten-rate.h"

#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

enum { IDLE_KEPT_MS = 5000 };

#define END { .name = NULL }

const struct kaiten_option settings_daemon[] = {
    { "state_dir", KAITEN_OPT_PATH, 0, "/var/lib/kaitend", 0, 0,
      "Folder for the keys that the daemon makes for itself; made when only its last part is "
      "missing." },
    { "plugin_dir", KAITEN_OPT_PATH, 0, NULL, 0, 0,
      "Folder where plugins are looked for first, then in $KAITEND_PLUGIN_DIR, then where they "
      "were installed." },
    { "storage", KAITEN_OPT_STRING, 0, "storage-bdb", 0, 0,
      "Storage plugin; its options are in the section of its name." },
    { "digest_key_file", KAITEN_OPT_PATH, 0, NULL, 0, 0,
      "Key of the tokens' digests; digest.key in state_dir when not set. Made at the first start. "
      "Whoever loses it loses every token." },
    { "journal_file", KAITEN_OPT_PATH, 0, NULL, 0, 0,
      "Journal of what was revoked, kept apart from the store so that restoring an old copy of "
      "the store revives nothing; revocations.log in state_dir when not set. Never restore an "
      "old copy of the journal." },
    { "signing_key_file", KAITEN_OPT_PATH, 0, NULL, 0, 0,
      "P-256 private key of the JWTs that /tokens/validate hands out; signing.pem in state_dir "
      "when not set. Made at the first start." },
    { "issuer", KAITEN_OPT_STRING, 0, "kaitend", 0, 0, "iss of those JWTs." },
    { "audience", KAITEN_OPT_STRING, 0, "kaiten", 0, 0, "aud of those JWTs." },
    { "jwt_lifetime", KAITEN_OPT_DURATION, 0, "1h", 1000, 86400000,
      "How long those JWTs live; never longer than their token." },
    { "max_token_lifetime", KAITEN_OPT_DURATION, 0, "0", 0, INT64_C(315360000000),
      "The longest lifetime that a token may be given; more is refused. 0: no limit." },
    { "unbounded_scopes", KAITEN_OPT_BOOL, 0, "no", 0, 0,
      "Let callers mint tokens with scopes that they do not have themselves." },
    { "module", KAITEN_OPT_LIST, 0, NULL, 0, 0,
      "A module that scopes may name; the built-in list when none is given." },
    { "retention", KAITEN_OPT_DURATION, 0, "90d", 0, INT64_C(315360000000),
      "How long revoked and expired tokens are kept, after which their slugs are free, and the "
      "records of deleted accounts. 0: for ever." },
    { "audit_retention", KAITEN_OPT_DURATION, 0, "365d", 0, INT64_C(315360000000),
      "How long audit records are kept. 0: for ever." },
    { "last_used_interval", KAITEN_OPT_DURATION, 0, "60s", 1000, 86400000,
      "How often the times when tokens were last used are written down; a crash loses at most "
      "as much." },
    { "store_poll", KAITEN_OPT_DURATION, 0, "20ms", 1, 10000,
      "With a store that several daemons write: how often it is asked what the others have "
      "changed, unless it says so itself." },
    { "max_staleness", KAITEN_OPT_DURATION, 0, "1s", 10, 3600000,
      "With a store that several daemons write: how long a token may at most be accepted after "
      "another daemon has revoked it. When what is known of the store is older than this, it is "
      "asked about each token; if it does not answer, the answer is 503." },
    { "embedded_tokens_max", KAITEN_OPT_INT, 0, "100", 1, 1000,
      "How many tokens, newest first, are at most embedded in the answer about an account." },
    { "loops", KAITEN_OPT_INT, 0, "0", 0, 256, "Event loops, each a thread; 0: one per core." },
    { "workers", KAITEN_OPT_INT, 0, "4", 1, 256, "Threads for work that may block." },
    { "queue_max", KAITEN_OPT_INT, 0, "4096", 1, 1000000,
      "Requests that may wait for a worker, and changes that may wait to be written; more "
      "are refused with 503." },
    { "request_timeout", KAITEN_OPT_DURATION, 0, "10s", 100, 600000,
      "How long a request may take; if the store has not answered by then, the answer is 503. "
      "While one write takes longer than this, changes are refused at once and the daemon is "
      "not ready." },
    { "caller_rate", KAITEN_OPT_STRING, 0, "none", 0, 0,
      "How often each caller may ask, unless its rule or issuer says otherwise: 200/s, "
      "600/m,burst=50, none. More is refused with 429." },
    { "failure_rate", KAITEN_OPT_STRING, 0, "100/s,burst=1000", 0, 0,
      "How often each caller may ask for what is not there, and each address or uid may present "
      "a wrong credential. More is refused with 429." },
    { "drain_timeout", KAITEN_OPT_DURATION, 0, "5s", 0, 600000,
      "How long to wait for open requests when the daemon stops; if the store does not answer "
      "by then, it ends with status 75." },
    { "user", KAITEN_OPT_STRING, 0, NULL, 0, 0,
      "User to become when started as root, before anything is opened." },
    { "log_level", KAITEN_OPT_STRING, 0, "info", 0, 0, "error, warning, notice, info or debug." },
    { "log_file", KAITEN_OPT_PATH, 0, NULL, 0, 0, "Where to log; standard error when not set." },
    END
};

#define LIMITS(conns, per_peer) \
    { "max_connections", KAITEN_OPT_INT, 0, conns, 1, 1000000, \
      "Connections of this listener; beyond that, the oldest one of an unknown caller makes " \
      "room, or else an idle one." }, \
    { "max_connections_per_peer", KAITEN_OPT_INT, 0, per_peer, 1, 1000000, \
      "Connections of one uid (socket) or one address (http)." }, \
    { "first_byte_timeout", KAITEN_OPT_DURATION, 0, "10s", 10, 3600000, \
      "How long a new connection may send nothing." }, \
    { "head_timeout", KAITEN_OPT_DURATION, 0, "5s", 10, 3600000, \
      "How long a message (socket) or the head of a request (http) may take from its first " \
      "byte to its last." }, \
    { "write_timeout", KAITEN_OPT_DURATION, 0, "10s", 10, 3600000, \
      "How long a peer may leave an answer unread." }

const struct kaiten_option settings_socket[] = {
    { "path", KAITEN_OPT_PATH, KAITEN_OPT_REQUIRED, NULL, 0, 0, "Where the socket is made." },
    { "mode", KAITEN_OPT_STRING, 0, "0666", 0, 0,
      "Permissions of the socket, octal; the rules of auth-peer decide who is served." },
    { "group", KAITEN_OPT_STRING, 0, NULL, 0, 0, "Group of the socket." },
    { "auth", KAITEN_OPT_LIST, KAITEN_OPT_REQUIRED, NULL, 0, 0,
      "Auth plugin to ask; the first that knows the caller decides. There is no default: "
      "without a plugin nobody would be served." },
    { "max_requests_in_flight", KAITEN_OPT_INT, 0, "128", 1, 65536,
      "Requests of one connection that may be in flight." },
    LIMITS("4096", "1024"),
    { "idle_timeout", KAITEN_OPT_DURATION, 0, "10m", 10, 86400000,
      "How long a connection may be idle between requests." },
    END
};

const struct kaiten_option settings_http[] = {
    { "listen", KAITEN_OPT_STRING, KAITEN_OPT_REQUIRED, NULL, 0, 0,
      "Numeric address and port: 127.0.0.1:3000, [::1]:3000; port 0 takes a free one." },
    { "auth", KAITEN_OPT_LIST, KAITEN_OPT_REQUIRED, NULL, 0, 0,
      "Auth plugin to ask; the first that knows the caller decides." },
    { "metrics", KAITEN_OPT_STRING, 0, "any", 0, 0,
      "Who may read /metrics here: any, known (callers that an auth plugin knows) or none." },
    { "max_body", KAITEN_OPT_SIZE, 0, "1M", 1024, 16777216,
      "A request body of this size or more is refused as too large." },
    { "max_unverified_bodies", KAITEN_OPT_SIZE, 0, "16M", 0, 1073741824,
      "Memory for the bodies of all callers who are not verified yet, beside 16 KiB for each; "
      "bodies beyond that are refused." },
    { "tls_certificate", KAITEN_OPT_PATH, 0, NULL, 0, 0,
      "Certificate in PEM, followed by its intermediates; with it the door speaks TLS only. "
      "SIGHUP reads it again." },
    { "tls_key", KAITEN_OPT_SECRET, 0, NULL, 0, 0,
      "Private key of tls_certificate in PEM: RSA with 2048 bits or more, P-256, P-384, P-521, "
      "Ed25519 or Ed448." },
    { "tls_client_ca", KAITEN_OPT_PATH, 0, NULL, 0, 0,
      "CA certificates in PEM by which clients' certificates are verified; when not set, "
      "clients are not asked for one." },
    { "tls_client_verify", KAITEN_OPT_STRING, 0, "required", 0, 0,
      "required or optional: whether a client without a certificate is refused. A certificate "
      "that is not valid is always refused." },
    { "tls_min_version", KAITEN_OPT_STRING, 0, "1.2", 0, 0, "1.2 or 1.3." },
    LIMITS("4096", "4096"),
    { "connection_lifetime", KAITEN_OPT_DURATION, 0, "1h", 1000, 86400000,
      "How old a connection may become; the first answer after that is its last." },
    { "body_timeout", KAITEN_OPT_DURATION, 0, "10s", 10, 3600000, "How long a body may take." },
    { "idle_timeout", KAITEN_OPT_DURATION, 0, "60s", 10, 86400000,
      "How long a connection may be idle between requests." },
    END
};

static bool __attribute__((format(printf, 3, 4)))
refuse(struct conf_error *err, const char *where, const char *fmt, ...)
{
    size_t n = (size_t)snprintf(err->text, sizeof err->text, "%s: ", where);
    va_list ap;
    va_start(ap, fmt);
    if (n < sizeof err->text)
        vsnprintf(err->text + n, sizeof err->text - n, fmt, ap);
    va_end(ap);
    return false;
}

/* --- listeners ---------------------------------------------------------------------------- */

static void
common_limits(const struct conf_values *v, struct listen_limits *l)
{
    l->conns_max = (size_t)conf_int(v, "max_connections");
    l->conns_per_peer = (size_t)conf_int(v, "max_connections_per_peer");
    l->first_byte_ms = conf_int(v, "first_byte_timeout");
    l->head_ms = conf_int(v, "head_timeout");
    l->write_ms = conf_int(v, "write_timeout");
    l->idle_ms = conf_int(v, "idle_timeout");
    l->body_ms = l->head_ms;
    l->idle_kept_ms = IDLE_KEPT_MS;
    l->in_flight_max = 1;
}

static bool
parse_mode(const struct conf_values *v, unsigned *ret, struct conf_error *err)
{
    const char *text = conf_str(v, "mode");
    char *end;
    unsigned long mode = strtoul(text, &end, 8);
    if (*text == '\0' || *end != '\0' || mode > 0777)
        return refuse(err, conf_where(v, "mode", 0),
                      "[socket] mode: \"%s\" is not a mode; accepted: octal 0000 to 0777", text);
    *ret = (unsigned)mode;
    return true;
}

/* The place in front of what was said. */
static bool
refuse_listener(const struct conf_values *v, const char *section, const char *option,
                const char *what, struct conf_error *err)
{
    return refuse(err, conf_where(v, option, 0), "[%s] %s: %s", section, option, what);
}

static bool
read_socket(struct listener_settings *l, struct conf_error *err)
{
    char what[CONF_ERROR_MAX / 2];
    l->listen = conf_str(l->values, "path");
    l->group = conf_str(l->values, "group");
    if (!endpoint_unix_check(l->listen, what, sizeof what))
        return refuse_listener(l->values, "socket", "path", what, err);
    if (!endpoint_group_check(l->group, what, sizeof what))
        return refuse_listener(l->values, "socket", "group", what, err);
    common_limits(l->values, &l->limits);
    l->limits.in_flight_max = (size_t)conf_int(l->values, "max_requests_in_flight");
    return parse_mode(l->values, &l->mode, err);
}

/* An option that has no meaning without another one is a mistake, unless it only states its
 * default, as a dump of the configuration does. */
static bool
check_tls_pairs(const struct conf_values *v, struct conf_error *err)
{
    static const struct {
        const char *option, *needs, *def;
    } pairs[] = {
        { "tls_certificate", "tls_key", "" },
        { "tls_key", "tls_certificate", "" },
        { "tls_client_ca", "tls_certificate", "" },
        { "tls_client_verify", "tls_client_ca", "required" },
        { "tls_min_version", "tls_certificate", "1.2" },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        if (conf_is_set(v, pairs[i].option) && !conf_is_set(v, pairs[i].needs) &&
            strcmp(conf_str(v, pairs[i].option), pairs[i].def) != 0)
            return refuse(err, conf_where(v, pairs[i].option, 0), "[http] %s: it needs %s",
                          pairs[i].option, pairs[i].needs);
    return true;
}

static bool
one_of_two(const struct conf_values *v, const char *option, const char *no, const char *yes,
           bool *ret, struct conf_error *err)
{
    const char *text = conf_str(v, option);
    *ret = strcmp(text, yes) == 0;
    return *ret || strcmp(text, no) == 0 ||
           refuse(err, conf_where(v, option, 0), "[http] %s: \"%.64s\"; accepted: %s, %s", option,
                  text, no, yes);
}

static bool
read_tls(struct listener_settings *l, struct conf_error *err)
{
    const struct conf_values *v = l->values;
    bool newest = false, required = false;
    if (!check_tls_pairs(v, err) ||
        !one_of_two(v, "tls_min_version", "1.2", "1.3", &newest, err) ||
        !one_of_two(v, "tls_client_verify", "optional", "required", &required, err))
        return false;
    l->tls = (struct tls_options){
        .values = v,
        .certificate = conf_str(v, "tls_certificate"),
        .key = conf_str(v, "tls_key"),
        .client_ca = conf_str(v, "tls_client_ca"),
        .client_required = required,
        .version_min = newest ? TLS1_3_VERSION : TLS1_2_VERSION,
    };
    return true;
}

static bool
read_metrics(struct listener_settings *l, struct conf_error *err)
{
    static const char *const words[] = { [METRICS_NOBODY] = "none", [METRICS_KNOWN] = "known",
                                         [METRICS_ANYBODY] = "any" };
    const char *text = conf_str(l->values, "metrics");
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        l->metrics = (enum metrics_readers)i;
        if (strcmp(text, words[i]) == 0)
            return true;
    }
    return refuse(err, conf_where(l->values, "metrics", 0),
                  "[http] metrics: \"%.64s\"; accepted: any, known, none", text);
}

static bool
read_http(struct listener_settings *l, struct conf_error *err)
{
    char what[CONF_ERROR_MAX / 2];
    l->is_http = true;
    l->listen = conf_str(l->values, "listen");
    if (!endpoint_tcp_check(l->listen, what, sizeof what))
        return refuse_listener(l->values, "http", "listen", what, err);
    common_limits(l->values, &l->limits);
    l->limits.body_max = (size_t)conf_int(l->values, "max_body");
    l->limits.strangers_max = (size_t)conf_int(l->values, "max_unverified_bodies");
    l->limits.body_ms = conf_int(l->values, "body_timeout");
    l->limits.lifetime_ms = conf_int(l->values, "connection_lifetime");
    return read_metrics(l, err) && read_tls(l, err);
}

static bool
read_listener(struct settings *s, struct conf_section *section, bool is_http,
              struct conf_error *err)
{
    if (s->nlisteners == SETTINGS_LISTENERS_MAX)
        return refuse(err, conf_section_where(section), "more than %d listeners",
                      SETTINGS_LISTENERS_MAX);
    struct listener_settings *l = &s->listeners[s->nlisteners];
    if (!conf_section_apply(section, is_http ? settings_http : settings_socket, &l->values, err))
        return false;
    l->name = conf_section_name(section);
    s->nlisteners++;
    return is_http ? read_http(l, err) : read_socket(l, err);
}

static bool
read_listeners(struct settings *s, const char *path, struct conf_error *err)
{
    struct conf_section *section;
    for (size_t i = 0; (section = conf_section_at(s->conf, i)); i++) {
        bool is_http = strcmp(conf_section_kind(section), "http") == 0;
        bool is_socket = strcmp(conf_section_kind(section), "socket") == 0;
        if ((is_http || is_socket) && !read_listener(s, section, is_http, err))
            return false;
    }
    if (s->nlisteners == 0)
        return refuse(err, path, "there is no listener; accepted: a section [socket] or [http]");
    return true;
}

/* --- [kaitend] ---------------------------------------------------------------------------- */

/* A file of our own: as configured, or by its usual name in the state folder. */
static const char *
own_file(struct settings *s, const char *option, const char *usual)
{
    const char *set = conf_str(s->values, option);
    char *path = NULL;
    if (set)
        return strdup(set);
    return asprintf(&path, "%s/%s", s->state_dir, usual) < 0 ? NULL : path;
}

static bool
read_modules(struct settings *s, struct conf_error *err)
{
    size_t n = conf_list_count(s->values, "module");
    s->modules = calloc(n + 1, sizeof *s->modules);
    if (!s->modules)
        return refuse(err, "[kaitend]", "out of memory");
    for (size_t i = 0; i < n; i++) {
        s->modules[i] = kt_str(conf_list_item(s->values, "module", i));
        if (!scope_module_is_valid(s->modules[i]))
            return refuse(err, conf_where(s->values, "module", i),
                          "[kaitend] module: \"%s\" is not a module; accepted: 1 to 64 of a-z, 0-9 "
                          "and _, starting with a letter",
                          s->modules[i].p);
    }
    s->nmodules = n;
    return true;
}

static void
read_numbers(struct settings *s)
{
    const struct conf_values *v = s->values;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    s->loops = (size_t)conf_int(v, "loops");
    if (s->loops == 0)
        s->loops = cores > 0 ? (size_t)cores : 1;
    s->workers = (size_t)conf_int(v, "workers");
    s->queue_max = (size_t)conf_int(v, "queue_max");
    s->embedded_tokens_max = (size_t)conf_int(v, "embedded_tokens_max");
    s->request_ms = conf_int(v, "request_timeout");
    s->drain_ms = conf_int(v, "drain_timeout");
    s->lifetime_max_ms = conf_int(v, "max_token_lifetime");
    s->retention_ms = conf_int(v, "retention");
    s->audit_retention_ms = conf_int(v, "audit_retention");
    s->last_used_ms = conf_int(v, "last_used_interval");
    s->store_poll_ms = conf_int(v, "store_poll");
    s->staleness_ms = conf_int(v, "max_staleness");
    s->jwt_lifetime_ms = conf_int(v, "jwt_lifetime");
    s->scopes_unbounded = conf_bool(v, "unbounded_scopes");
}

static bool
read_rate(const struct conf_values *v, const char *option, struct kaiten_rate *ret,
          struct conf_error *err)
{
    const char *text = conf_str(v, option);
    return kaiten_rate_read(text, ret) ||
           refuse(err, conf_where(v, option, 0), "[kaitend] %s: \"%.64s\"; accepted: %s", option,
                  text, KAITEN_RATE_ACCEPTED);
}

static bool
read_daemon(struct settings *s, struct conf_error *err)
{
    const struct conf_values *v = s->values;
    const char *level = conf_str(v, "log_level");
    if (!log_level_parse(level, &s->log_level))
        return refuse(err, conf_where(v, "log_level", 0),
                      "[kaitend] log_level: \"%s\"; accepted: error, warning, notice, info, debug",
                      level);
    s->log_file = conf_str(v, "log_file");
    s->user = conf_str(v, "user");
    s->state_dir = conf_str(v, "state_dir");
    s->plugin_dir = conf_str(v, "plugin_dir");
    s->storage = conf_str(v, "storage");
    s->issuer = conf_str(v, "issuer");
    s->audience = conf_str(v, "audience");
    s->digest_key_file = own_file(s, "digest_key_file", "digest.key");
    s->journal_file = own_file(s, "journal_file", "revocations.log");
    s->signing_key_file = own_file(s, "signing_key_file", "signing.pem");
    if (!s->digest_key_file || !s->journal_file || !s->signing_key_file)
        return refuse(err, "[kaitend]", "out of memory");
    read_numbers(s);
    if (s->staleness_ms < 2 * s->store_poll_ms)
        return refuse(err, conf_where(v, "max_staleness", 0),
                      "[kaitend] max_staleness: %lld ms is less than twice store_poll (%lld ms)",
                      (long long)s->staleness_ms, (long long)s->store_poll_ms);
    return read_modules(s, err) && read_rate(v, "caller_rate", &s->limits.requests, err) &&
           read_rate(v, "failure_rate", &s->limits.failures, err);
}

bool
settings_read(const char *path, struct settings **ret, struct conf_error *err)
{
    struct settings *s = calloc(1, sizeof *s);
    if (!s)
        return refuse(err, path, "out of memory");
    if (conf_read(path, &s->conf, err) &&
        conf_apply(s->conf, "kaitend", NULL, settings_daemon, &s->values, err) &&
        read_daemon(s, err) && read_listeners(s, path, err)) {
        *ret = s;
        return true;
    }
    settings_free(s);
    return false;
}

void
settings_free(struct settings *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->nlisteners; i++)
        conf_values_free(s->listeners[i].values);
    if (s->values)
        conf_values_free(s->values);
    if (s->conf)
        conf_free(s->conf);
    free((char *)(uintptr_t)s->digest_key_file);
    free((char *)(uintptr_t)s->journal_file);
    free((char *)(uintptr_t)s->signing_key_file);
    free(s->modules);
    free(s);
}
