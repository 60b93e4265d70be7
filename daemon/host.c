/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The functions that the daemon lends to plugins. */
#include "config.h"

#include "client/proto/check.h"
#include "daemon/authn.h"
#include "daemon/call.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/plugin.h"
#include "daemon/service.h"
#include "daemon/timeguard.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>

static _Thread_local int64_t call_deadline_ms;

/* The plugin's view of its options is the checked section itself. */
static const struct conf_values *
values(const struct kaiten_config *config)
{
    return (const struct conf_values *)config;
}

__attribute__((format(printf, 2, 3))) static void
host_log(enum kaiten_level level, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    log_line((enum log_level)level, "plugin", "message=%s", text);
}

__attribute__((format(printf, 2, 3))) static void
host_error(struct kaiten_err *err, const char *fmt, ...)
{
    if (!err || err->text[0] != '\0')
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
}

static const char *
host_get_string(const struct kaiten_config *config, const char *name)
{
    return conf_str(values(config), name);
}

static int64_t
host_get_int(const struct kaiten_config *config, const char *name)
{
    return conf_int(values(config), name);
}

static bool
host_get_bool(const struct kaiten_config *config, const char *name)
{
    return conf_bool(values(config), name);
}

static size_t
host_list_count(const struct kaiten_config *config, const char *name)
{
    return conf_list_count(values(config), name);
}

static const char *
host_list_item(const struct kaiten_config *config, const char *name, size_t i)
{
    return conf_list_item(values(config), name, i);
}

static const char *
host_where(const struct kaiten_config *config, const char *name, size_t i)
{
    return conf_where(values(config), name, i);
}

static bool
host_row(struct kaiten_emit *emit, struct kaiten_bytes key, struct kaiten_bytes value,
         uint64_t revision)
{
    return emit->row(emit, key, value, revision);
}

static bool
host_principal(struct kaiten_sink *sink, const struct kaiten_principal *p)
{
    sink->who = principal_unref(sink->who);
    sink->who = principal_new(p);
    sink->no_memory = !sink->who && errno == ENOMEM;
    if (sink->who)
        limits_adopt(sink->svc->limits, sink->who);
    return sink->who != NULL;
}

static bool
host_token(struct kaiten_sink *sink, struct kaiten_bytes secret)
{
    sink->who = principal_unref(sink->who);
    struct kt_secret_view view = { secret.p, secret.n };
    sink->who = authn_token_caller(sink, view);
    sink->no_memory = !sink->who && errno == ENOMEM;
    return sink->who != NULL;
}

static void
host_refuse(struct kaiten_sink *sink, const char *code, const char *detail)
{
    if (sink->code)
        return;
    sink->code = code;
    snprintf(sink->detail, sizeof sink->detail, "%s", detail);
}

/* The follower of the store. */
static struct {
    pthread_mutex_t lock;
    void (*wake)(void *ctx);
    void *ctx;
} on_change = { .lock = PTHREAD_MUTEX_INITIALIZER };

void
host_on_change(void (*wake)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&on_change.lock);
    on_change.wake = wake;
    on_change.ctx = ctx;
    pthread_mutex_unlock(&on_change.lock);
}

/* There is one store, and the follower asks for all of its changes anyway: this is only a hint. */
static void
host_changed(void *instance, struct kaiten_bytes prefix, uint64_t revision)
{
    (void)instance;
    (void)prefix;
    (void)revision;
    pthread_mutex_lock(&on_change.lock);
    if (on_change.wake)
        on_change.wake(on_change.ctx);
    pthread_mutex_unlock(&on_change.lock);
}

/* Grows whenever an auth plugin takes its verdicts back. */
static _Atomic uint64_t verdict_epoch;

static void
host_forget(void *instance)
{
    (void)instance;
    atomic_fetch_add(&verdict_epoch, 1);
}

uint64_t
host_verdict_epoch(void)
{
    return atomic_load(&verdict_epoch);
}

static int64_t
host_deadline(void)
{
    if (call_deadline_ms == 0)
        return INT64_MAX;
    int64_t left = call_deadline_ms - clock_mono_ms();
    return left > 0 ? left : 0;
}

void
host_set_deadline(int64_t mono_ms)
{
    call_deadline_ms = mono_ms;
}

static int64_t
host_now(void)
{
    return clock_now_ms(clock_mono_ms());
}

static void
host_random(void *buf, size_t n)
{
    randombytes_buf(buf, n);
}

const struct kaiten_host host_table = {
    .size = sizeof(struct kaiten_host),
    .abi = KAITEN_HOST_ABI,
    .log = host_log,
    .error = host_error,
    .get_string = host_get_string,
    .get_int = host_get_int,
    .get_bool = host_get_bool,
    .list_count = host_list_count,
    .list_item = host_list_item,
    .where = host_where,
    .row = host_row,
    .principal = host_principal,
    .token = host_token,
    .changed = host_changed,
    .deadline = host_deadline,
    .now = host_now,
    .random = host_random,
    .refuse = host_refuse,
    .forget = host_forget,
};

static void
set_error(const struct plugin *p, const struct kaiten_err *why, struct conf_error *err)
{
    snprintf(err->text, sizeof err->text, "%s: %s", p->name,
             why->text[0] ? why->text : "failed without saying why");
}

enum kaiten_status
plugin_open(const struct plugin *p, const struct conf_values *options, void **ret_instance,
            struct conf_error *err)
{
    const struct kaiten_config *config = (const struct kaiten_config *)options;
    struct kaiten_err why = { "" };
    enum kaiten_status status =
        p->kind == PLUGIN_STORAGE ? p->storage.open(&host_table, config, ret_instance, &why)
                                  : p->auth.open(&host_table, config, ret_instance, &why);
    if (status != KAITEN_DONE)
        set_error(p, &why, err);
    return status;
}

enum kaiten_status
plugin_init(const struct plugin *p, const struct conf_values *options, struct conf_error *err)
{
    struct kaiten_err why = { "" };
    if (!p->storage.init)
        return KAITEN_DONE;
    enum kaiten_status status =
        p->storage.init(&host_table, (const struct kaiten_config *)options, &why);
    if (status != KAITEN_DONE)
        set_error(p, &why, err);
    return status;
}
