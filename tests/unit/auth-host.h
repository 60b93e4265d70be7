/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A daemon for the tests of one auth plugin: options from a table, everything that the plugin says
 * kept in `fake`. */
#ifndef AUTH_HOST_H
#define AUTH_HOST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugins/kaiten-auth.h"

#ifdef KAITEN_STATIC_PLUGINS
#define TEST_PLUGIN(name)                                                                          \
    extern const struct kaiten_auth kaiten_auth_##name;                                            \
    static const struct kaiten_auth *const plugin = &kaiten_auth_##name
#else
#define TEST_PLUGIN(name)                                                                          \
    extern const struct kaiten_auth kaiten_auth_plugin;                                            \
    static const struct kaiten_auth *const plugin = &kaiten_auth_plugin
#endif

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define NOW_MS   INT64_C(1800000000000)
#define NOW_S    INT64_C(1800000000)

enum { FAKE_SETTINGS_MAX = 64, FAKE_SCOPES_MAX = 256 };

/* One line of a configuration; a number counts for INT, SIZE and DURATION. */
struct setting {
    const char *name, *text;
    int64_t number;
};

struct kaiten_config {
    struct setting v[FAKE_SETTINGS_MAX];
    size_t n;
};

struct kaiten_err {
    char text[512];
};

static struct fake {
    struct kaiten_config config;
    struct kaiten_err err;
    char where[512]; /* folder of the pretended configuration file, with the slash */
    char code[64], detail[128];
    char subject[256], organization[256], name[256], email[256], proof[16];
    char scopes[8192]; /* with commas */
    bool no_name, no_email;
    size_t nprincipals, nlogged, ntokens;
    char logged[512];
    struct kaiten_principal principal; /* pointers in it are not to be followed */
    bool token_good;
    int64_t now_ms;
    atomic_int forgotten; /* calls of forget() */
} fake;

/* A plugin's own threads log too. */
static pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;

static void fake_log(enum kaiten_level, const char *, ...) __attribute__((format(printf, 2, 3)));
static void fake_error(struct kaiten_err *, const char *, ...)
    __attribute__((format(printf, 2, 3)));

static void
fake_log(enum kaiten_level level, const char *fmt, ...)
{
    va_list ap;
    (void)level;
    va_start(ap, fmt);
    pthread_mutex_lock(&fake_lock);
    (void)vsnprintf(fake.logged, sizeof(fake.logged), fmt, ap);
    fake.nlogged++;
    pthread_mutex_unlock(&fake_lock);
    va_end(ap);
}

static void
fake_error(struct kaiten_err *err, const char *fmt, ...)
{
    va_list ap;
    if (!err || err->text[0])
        return;
    va_start(ap, fmt);
    (void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
}

static size_t
fake_list_count(const struct kaiten_config *config, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < config->n; i++)
        n += strcmp(config->v[i].name, name) == 0;
    return n;
}

static size_t
fake_nth(const struct kaiten_config *config, const char *name, size_t nth)
{
    for (size_t i = 0; i < config->n; i++)
        if (strcmp(config->v[i].name, name) == 0 && nth-- == 0)
            return i;
    return config->n;
}

static const char *
fake_list_item(const struct kaiten_config *config, const char *name, size_t nth)
{
    size_t i = fake_nth(config, name, nth);
    assert_true(i < config->n);
    return config->v[i].text;
}

static const char *
fake_where(const struct kaiten_config *config, const char *name, size_t nth)
{
    static char text[600];
    (void)snprintf(text, sizeof(text), "%skaitend.conf:%zu", fake.where,
                   fake_nth(config, name, nth) + 10);
    return text;
}

static const char *
fake_get_string(const struct kaiten_config *config, const char *name)
{
    size_t i = fake_nth(config, name, 0);
    return i < config->n ? config->v[i].text : NULL;
}

static int64_t
fake_get_int(const struct kaiten_config *config, const char *name)
{
    size_t i = fake_nth(config, name, 0);
    assert_true(i < config->n);
    return config->v[i].number;
}

static bool
fake_principal(struct kaiten_sink *sink, const struct kaiten_principal *p)
{
    size_t used = 0;
    (void)sink;
    fake.nprincipals++;
    fake.principal = *p;
    (void)snprintf(fake.subject, sizeof(fake.subject), "%s", p->subject);
    (void)snprintf(fake.organization, sizeof(fake.organization), "%s", p->organization);
    (void)snprintf(fake.proof, sizeof(fake.proof), "%s", p->proof);
    (void)snprintf(fake.name, sizeof(fake.name), "%s", p->name ? p->name : "-");
    (void)snprintf(fake.email, sizeof(fake.email), "%s", p->email ? p->email : "-");
    fake.scopes[0] = 0;
    for (size_t i = 0; i < p->nscopes; i++)
        used += (size_t)snprintf(fake.scopes + used, sizeof(fake.scopes) - used, "%s%s",
                                 i ? "," : "", p->scopes[i]);
    return true;
}

static bool
fake_token(struct kaiten_sink *sink, struct kaiten_bytes secret)
{
    (void)sink;
    (void)secret;
    fake.ntokens++;
    return fake.token_good;
}

static int64_t
fake_now(void)
{
    return fake.now_ms;
}

static void
fake_refuse(struct kaiten_sink *sink, const char *code, const char *detail)
{
    (void)sink;
    if (fake.code[0])
        return;
    (void)snprintf(fake.code, sizeof(fake.code), "%s", code);
    (void)snprintf(fake.detail, sizeof(fake.detail), "%s", detail);
}

static void
fake_forget_verdicts(void *instance)
{
    assert_non_null(instance);
    atomic_fetch_add(&fake.forgotten, 1);
}

static const struct kaiten_host fake_host = {
    .size = sizeof(struct kaiten_host),
    .abi = KAITEN_HOST_ABI,
    .log = fake_log,
    .error = fake_error,
    .get_string = fake_get_string,
    .get_int = fake_get_int,
    .list_count = fake_list_count,
    .list_item = fake_list_item,
    .where = fake_where,
    .principal = fake_principal,
    .token = fake_token,
    .now = fake_now,
    .refuse = fake_refuse,
    .forget = fake_forget_verdicts,
};

static inline void
fake_reset(void)
{
    memset(&fake, 0, sizeof(fake));
    fake.now_ms = NOW_MS;
}

static inline void
fake_set(const char *name, const char *text, int64_t number)
{
    assert_true(fake.config.n < FAKE_SETTINGS_MAX);
    fake.config.v[fake.config.n++] = (struct setting){ name, text, number };
}

/* Forgets what the last call said. */
static inline void
fake_forget(void)
{
    fake.err.text[0] = fake.code[0] = fake.detail[0] = 0;
    fake.nprincipals = 0;
}

/* What the plugin says of itself. */
static inline void
fake_check_header(const struct kaiten_auth *p, uint64_t caps)
{
    assert_int_equal(p->size, sizeof(struct kaiten_auth));
    assert_int_equal(p->abi, KAITEN_AUTH_ABI);
    assert_int_equal(p->caps, caps);
    assert_int_equal(p->threads, KAITEN_THREADS_PARALLEL);
}

#endif
