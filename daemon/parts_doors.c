/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/parts.h"

#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/notify.h"
#include "daemon/plugin.h"
#include "daemon/settings.h"

#include <errno.h>
#include <stdio.h>
#include <sysexits.h>
#include <time.h>

/* --- listeners ---------------------------------------------------------------------------- */

int
parts_open_auths(struct parts *p)
{
    struct conf_error err;
    for (size_t i = 0; i < p->nauths; i++)
        if (plugin_open(p->auths[i], p->options[1 + i], &p->instances[i], &err) != KAITEN_DONE)
            return parts_fail(EX_CONFIG, err.text);
    return EX_OK;
}

static struct authn_chain *
make_chain(struct parts *p, const struct conf_values *v)
{
    struct authn_chain *chain = authn_chain_new(&p->svc);
    for (size_t k = 0; chain && k < conf_list_count(v, "auth"); k++) {
        size_t i = 0;
        const struct plugin *plugin = parts_find_auth(p, conf_list_item(v, "auth", k), &i);
        if (!authn_chain_add(chain, plugin, p->instances[i])) {
            authn_chain_free(chain);
            return NULL;
        }
    }
    return chain;
}

/* Early, so that a wrong certificate is reported before the store is touched. */
int
parts_load_tls(struct parts *p)
{
    struct conf_error err;
    for (size_t i = 0; i < p->settings->nlisteners; i++) {
        const struct tls_options *options = &p->settings->listeners[i].tls;
        if (options->certificate && !(p->tls[i] = tls_new(options, &err)))
            return parts_fail(EX_CONFIG, err.text);
    }
    return EX_OK;
}

void
parts_free_tls(struct parts *p)
{
    for (size_t i = 0; i < SETTINGS_LISTENERS_MAX; i++)
        tls_free(p->tls[i]);
}

static bool
reread_tls(struct parts *p)
{
    struct conf_error err;
    for (size_t i = 0; i < SETTINGS_LISTENERS_MAX; i++) {
        if (!p->tls[i] || tls_reread(p->tls[i], &err))
            continue;
        log_line(LOG_LEVEL_ERROR, "tls.kept", "message=%s", err.text);
        return false;
    }
    return true;
}

/* The certificates of all doors or of none: a set that is only half new is never used. */
void
parts_reload_tls(struct parts *p)
{
    bool all = reread_tls(p);
    metrics_reloaded(p->svc.metrics, all);
    for (size_t i = 0; i < SETTINGS_LISTENERS_MAX; i++) {
        if (!p->tls[i])
            continue;
        (all ? tls_renew : tls_forget)(p->tls[i]);
        if (all)
            log_line(LOG_LEVEL_NOTICE, "tls.renewed", "file=%s",
                     p->settings->listeners[i].tls.certificate);
    }
}

static int
fail_listener(const struct listener_settings *s, const char *why)
{
    char text[CONF_ERROR_MAX];
    const char *option = s->is_http ? "listen" : "path";
    snprintf(text, sizeof text, "%s: [%s] %s: %s", conf_where(s->values, option, 0),
             s->is_http ? "http" : "socket", option, why);
    return parts_fail(EX_UNAVAILABLE, text);
}

static int
open_listener(struct parts *p, const struct listener_settings *s, struct tls *tls)
{
    char err[512];
    struct authn_chain *chain = make_chain(p, s->values);
    if (!chain)
        return parts_fail(EX_CONFIG, "a listener has too many auth plugins");
    p->chains[p->nlisteners] = chain;
    const struct endpoint_file file = { s->listen, s->mode, s->group };
    struct listener *l = s->is_http
                             ? listen_http(s->listen, chain, &s->limits, err, sizeof err)
                             : listen_socket(&file, chain, &s->limits, err, sizeof err);
    if (!l)
        return fail_listener(s, err);
    listen_use_tls(l, tls);
    listen_use_metrics(l, s->metrics);
    metrics_add_listener(p->svc.metrics, listen_counts(l));
    p->listeners[p->nlisteners++] = l;
    return EX_OK;
}

int
parts_start_listeners(struct parts *p)
{
    for (size_t i = 0; i < p->settings->nlisteners; i++) {
        int code = open_listener(p, &p->settings->listeners[i], p->tls[i]);
        if (code != EX_OK)
            return code;
    }
    listen_opened();
    for (size_t i = 0; i < p->nlisteners; i++) {
        if (listen_start(p->listeners[i], p->loops) != 0)
            return parts_fail_errno(EX_OSERR, listen_name(p->listeners[i]));
        log_line(LOG_LEVEL_NOTICE, "listening", "on=%s", listen_name(p->listeners[i]));
    }
    return EX_OK;
}

/* --- draining ----------------------------------------------------------------------------- */

static bool
all_drained(const struct parts *p)
{
    for (size_t i = 0; i < p->nlisteners; i++)
        if (!listen_drained(p->listeners[i]))
            return false;
    return true;
}

/* Every accepted request is answered, or was never read. A second signal ends the wait. */
static void
drain(struct parts *p)
{
    atomic_store(&p->svc.state, SERVICE_DRAINING);
    notify_stopping("draining");
    for (size_t i = 0; i < p->nlisteners; i++)
        listen_drain(p->listeners[i]);
    p->patience_ms = p->settings->drain_ms;
    p->end_ms = clock_mono_ms() + p->patience_ms;
    const struct timespec tick = { 0, 5 * 1000 * 1000 };
    while (!all_drained(p) && clock_mono_ms() < p->end_ms) {
        int sig = sigtimedwait(&p->signals, NULL, &tick);
        if (sig == SIGTERM || sig == SIGINT)
            p->patience_ms = p->end_ms = 0;
    }
}

void
parts_stop_listeners(struct parts *p)
{
    if (p->nlisteners != 0)
        drain(p);
}

void
parts_close_auths(struct parts *p)
{
    for (size_t i = 0; i < p->nauths; i++)
        if (p->instances[i])
            p->auths[i]->auth.close(p->instances[i]);
}
