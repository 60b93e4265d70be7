/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/parts.h"

#include "daemon/keeper.h"
#include "daemon/log.h"
#include "daemon/plugin.h"
#include "daemon/signer.h"

#include <stdio.h>
#include <unistd.h>

/* The configuration, read again while the daemon serves. The whole file is checked as at the start
 * before anything of it is taken; what cannot change without a restart is named and stays. */

enum { NAMES_MAX = 512 };

/* What parts_reload() takes over; everything else of [kaitend] needs a restart. */
static const char *const live[] = {
    "log_level", "max_token_lifetime", "unbounded_scopes", "request_timeout", "drain_timeout",
    "retention", "audit_retention", "last_used_interval", "jwt_lifetime",
};

/* Names of options, "[kaitend] loops, [http] listen". */
struct names {
    char text[NAMES_MAX];
    size_t n;
};

static void
add_name(struct names *names, const char *section, const char *option)
{
    size_t room = sizeof names->text - names->n;
    int n = snprintf(names->text + names->n, room, "%s[%s] %s", names->n == 0 ? "" : ", ", section,
                     option);
    if (n > 0 && (size_t)n < room)
        names->n += (size_t)n;
    else
        names->text[names->n] = '\0'; /* the others are named at the next reload */
}

static bool
is_live(const char *option)
{
    for (size_t i = 0; i < sizeof live / sizeof live[0]; i++)
        if (strcmp(option, live[i]) == 0)
            return true;
    return false;
}

static void
compare(const char *section, const struct kaiten_option *table, const struct conf_values *now,
        const struct conf_values *next, bool may_be_live, struct names *names)
{
    for (const struct kaiten_option *o = table; o->name; o++)
        if (!(may_be_live && is_live(o->name)) && !conf_is_same(now, next, o->name))
            add_name(names, section, o->name);
}

/* --- checking ----------------------------------------------------------------------------- */

/* The section of a loaded plugin, to compare it with the one it was opened with. */
static bool
check_plugin(const struct plugin *plugin, const struct conf_values *now,
             const struct settings *next, struct names *names, struct conf_error *err)
{
    struct conf_values *options = NULL;
    bool ok = conf_apply(next->conf, plugin->name, NULL, plugin->options, &options, err) &&
              conf_check_secrets(options, err);
    if (ok)
        compare(plugin->name, plugin->options, now, options, false, names);
    conf_values_free(options);
    return ok;
}

/* The section of a plugin that is not loaded cannot be checked here. */
static bool
check_loaded(struct parts *p, const struct settings *next, struct conf_error *err)
{
    size_t at;
    bool same = strcmp(p->settings->storage, next->storage) == 0;
    if (!same)
        snprintf(err->text, sizeof err->text, "%s: [kaitend] storage: another one needs a restart",
                 conf_where(next->values, "storage", 0));
    for (size_t i = 0; same && i < next->nlisteners; i++) {
        const struct conf_values *v = next->listeners[i].values;
        for (size_t k = 0; same && k < conf_list_count(v, "auth"); k++) {
            same = parts_find_auth(p, conf_list_item(v, "auth", k), &at) != NULL;
            if (!same)
                snprintf(err->text, sizeof err->text, "%s: auth: a new one needs a restart",
                         conf_where(v, "auth", k));
        }
    }
    return same;
}

static bool
is_used(const struct settings *s, const char *auth)
{
    for (size_t i = 0; i < s->nlisteners; i++)
        for (size_t k = 0; k < conf_list_count(s->listeners[i].values, "auth"); k++)
            if (strcmp(conf_list_item(s->listeners[i].values, "auth", k), auth) == 0)
                return true;
    return false;
}

static bool
check_plugins(struct parts *p, const struct settings *next, struct names *names,
              struct conf_error *err)
{
    if (!check_loaded(p, next, err) ||
        !check_plugin(p->storage, p->options[0], next, names, err))
        return false;
    for (size_t i = 0; i < p->nauths; i++)
        if (is_used(next, p->auths[i]->name) &&
            !check_plugin(p->auths[i], p->options[1 + i], next, names, err))
            return false;
    return conf_unused(next->conf, err);
}

static void
compare_listeners(const struct settings *now, const struct settings *next, struct names *names)
{
    for (size_t i = 0; i < now->nlisteners && i < next->nlisteners; i++) {
        const struct listener_settings *a = &now->listeners[i], *b = &next->listeners[i];
        if (a->is_http != b->is_http) {
            add_name(names, b->is_http ? "http" : "socket", "listener");
            continue;
        }
        compare(a->is_http ? "http" : "socket", a->is_http ? settings_http : settings_socket,
                a->values, b->values, false, names);
    }
    if (now->nlisteners != next->nlisteners)
        add_name(names, "socket, http", "number of listeners");
}

/* --- taking over -------------------------------------------------------------------------- */

static void
take_over(struct parts *p, const struct settings *next)
{
    struct settings *s = p->settings;
    s->log_level = next->log_level;
    s->lifetime_max_ms = next->lifetime_max_ms;
    s->scopes_unbounded = next->scopes_unbounded;
    s->request_ms = next->request_ms;
    s->drain_ms = next->drain_ms;
    s->retention_ms = next->retention_ms;
    s->audit_retention_ms = next->audit_retention_ms;
    s->last_used_ms = next->last_used_ms;
    s->jwt_lifetime_ms = next->jwt_lifetime_ms;
    log_set_level(s->log_level);
    p->svc.lifetime_max_ms = s->lifetime_max_ms;
    p->svc.scopes_unbounded = s->scopes_unbounded;
    p->svc.request_ms = s->request_ms;
    p->svc.journal_keep_ms = parts_journal_keep_ms(p);
    signer_set_lifetime(p->svc.signer, s->jwt_lifetime_ms);
    const struct keeper_options options = parts_keeper_options(s);
    if (p->keeper)
        keeper_set_options(p->keeper, &options);
}

bool
parts_reload(struct parts *p)
{
    struct conf_error err;
    struct settings *next = NULL;
    struct names names = { .n = 0 };
    /* Where only root can read the configuration, certificates can still be renewed. */
    if (access(p->conf_path, R_OK) != 0) {
        log_line(LOG_LEVEL_WARNING, "config.unreadable", "file=%s message=%s", p->conf_path,
                 "it stays as it was read at the start");
        return true;
    }
    if (!settings_read(p->conf_path, &next, &err) || !check_plugins(p, next, &names, &err)) {
        log_line(LOG_LEVEL_ERROR, "config.kept", "message=%s", err.text);
        settings_free(next);
        return false;
    }
    compare("kaitend", settings_daemon, p->settings->values, next->values, true, &names);
    compare_listeners(p->settings, next, &names);
    take_over(p, next);
    settings_free(next);
    log_line(LOG_LEVEL_NOTICE, "config.loaded", "file=%s", p->conf_path);
    if (names.n != 0)
        log_line(LOG_LEVEL_WARNING, "config.restart", "options=%s message=%s", names.text,
                 "they stay as they were until a restart");
    return true;
}
