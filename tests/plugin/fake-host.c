/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/plugin/fake-host.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { LOG_KEPT = 1 << 20 };

static struct {
    pthread_mutex_t mutex;
    bool verbose, in_open;
    const char *token;
    char *log;
    size_t log_n;
    unsigned changes;
} fake = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static _Noreturn void
forbidden(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void
forbidden(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    printf("# the plugin may not do this: ");
    vprintf(fmt, args);
    printf("\n");
    va_end(args);
    fflush(stdout);
    _Exit(1);
}

static void *
must(void *p)
{
    if (!p)
        forbidden("use up all memory");
    return p;
}

static void
own_thread_only(pthread_t owner, const char *what)
{
    if (!pthread_equal(owner, pthread_self()))
        forbidden("call host->%s() on a thread that was not called", what);
}

static void __attribute__((format(printf, 2, 3)))
host_log(enum kaiten_level level, const char *fmt, ...)
{
    char line[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (level < KAITEN_LOG_ERROR || level > KAITEN_LOG_DEBUG)
        forbidden("log at level %d", (int)level);
    pthread_mutex_lock(&fake.mutex);
    size_t n = strlen(line) + 1;
    if (!fake.log)
        fake.log = must(calloc(1, LOG_KEPT));
    if (fake.log_n + n <= LOG_KEPT) {
        memcpy(fake.log + fake.log_n, line, n);
        fake.log_n += n;
    }
    if (fake.verbose) {
        printf("# log %d: %s\n", (int)level, line);
        fflush(stdout); /* the process may be about to end itself */
    }
    pthread_mutex_unlock(&fake.mutex);
}

static void __attribute__((format(printf, 2, 3)))
host_error(struct kaiten_err *err, const char *fmt, ...)
{
    if (!err)
        return;
    own_thread_only(err->owner, "error");
    if (err->text[0])
        return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
}

static const struct fake_value *
config_find(const struct kaiten_config *config, const char *name, unsigned types)
{
    if (!fake.in_open)
        forbidden("ask for option %s outside of open()", name);
    for (size_t i = 0; i < config->n; i++) {
        if (strcmp(config->options[i].name, name) != 0)
            continue;
        if (!(types & 1u << config->options[i].type))
            forbidden("ask for option %s with the wrong type", name);
        return &config->values[i];
    }
    forbidden("ask for option %s, which is not in its table", name);
}

static const char *
config_text(const struct kaiten_config *config, const char *name, unsigned types)
{
    const struct fake_value *value = config_find(config, name, types);
    if (value->n > 0)
        return value->items[value->n - 1];
    for (size_t i = 0; i < config->n; i++) {
        if (strcmp(config->options[i].name, name) == 0)
            return config->options[i].def;
    }
    return NULL;
}

static const char *
host_get_string(const struct kaiten_config *config, const char *name)
{
    return config_text(config, name,
                       1u << KAITEN_OPT_STRING | 1u << KAITEN_OPT_PATH | 1u << KAITEN_OPT_SECRET);
}

static const struct {
    const char *name;
    int64_t factor;
} size_units[] = { { "", 1 }, { "K", 1 << 10 }, { "M", 1 << 20 }, { "G", 1 << 30 }, { NULL, 0 } },
  time_units[] = { { "ms", 1 },         { "s", 1000 },        { "m", 60000 },
                   { "h", 3600000 },    { "d", 86400000 },    { NULL, 0 } };

/* False: not a number of this type. */
static bool
number_parse(enum kaiten_option_type type, const char *text, int64_t *ret_number)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || end == text)
        return false;
    int64_t factor = *end == 0 && type == KAITEN_OPT_INT ? 1 : 0;
    for (size_t i = 0; type == KAITEN_OPT_SIZE && size_units[i].name; i++) {
        if (strcmp(size_units[i].name, end) == 0)
            factor = size_units[i].factor;
    }
    for (size_t i = 0; type == KAITEN_OPT_DURATION && time_units[i].name; i++) {
        if (strcmp(time_units[i].name, end) == 0)
            factor = time_units[i].factor;
    }
    return factor != 0 && !__builtin_mul_overflow((int64_t)n, factor, ret_number);
}

/* 1, 0, or -1 for neither. */
static int
bool_parse(const char *text)
{
    static const char *const yes[] = { "yes", "on", "true" };
    static const char *const no[] = { "no", "off", "false" };
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(text, yes[i]) == 0)
            return 1;
        if (strcmp(text, no[i]) == 0)
            return 0;
    }
    return -1;
}

static enum kaiten_option_type
type_of(const struct kaiten_config *config, const char *name)
{
    for (size_t i = 0; i < config->n; i++) {
        if (strcmp(config->options[i].name, name) == 0)
            return config->options[i].type;
    }
    return 0;
}

static int64_t
host_get_int(const struct kaiten_config *config, const char *name)
{
    const char *text = config_text(
        config, name, 1u << KAITEN_OPT_INT | 1u << KAITEN_OPT_SIZE | 1u << KAITEN_OPT_DURATION);
    int64_t number = 0;
    if (text)
        number_parse(type_of(config, name), text, &number);
    return number;
}

static bool
host_get_bool(const struct kaiten_config *config, const char *name)
{
    const char *text = config_text(config, name, 1u << KAITEN_OPT_BOOL);
    return text && bool_parse(text) == 1;
}

static size_t
host_list_count(const struct kaiten_config *config, const char *name)
{
    return config_find(config, name, 1u << KAITEN_OPT_LIST)->n;
}

static const char *
host_list_item(const struct kaiten_config *config, const char *name, size_t i)
{
    const struct fake_value *value = config_find(config, name, 1u << KAITEN_OPT_LIST);
    if (i >= value->n)
        forbidden("ask for item %zu of %s, which has %zu", i, name, value->n);
    return value->items[i];
}

static const char *
host_where(const struct kaiten_config *config, const char *name, size_t i)
{
    (void)config;
    (void)name;
    (void)i;
    return "the command line";
}

static struct kaiten_bytes
bytes_copy(struct kaiten_bytes from)
{
    unsigned char *p = must(malloc(from.n ? from.n : 1));
    if (from.n)
        memcpy(p, from.p, from.n);
    return (struct kaiten_bytes){ p, from.n };
}

static void
row_free(struct fake_row *row)
{
    free((void *)row->key.p);
    free((void *)row->value.p);
}

static bool
host_row(struct kaiten_emit *emit, struct kaiten_bytes key, struct kaiten_bytes value,
         uint64_t revision)
{
    own_thread_only(emit->owner, "row");
    if (emit->stopped) {
        emit->late++;
        return false;
    }
    if (emit->n == emit->room && !(emit->count_only && emit->n > 0)) {
        emit->room = emit->room ? emit->room * 2 : 16;
        emit->rows = must(realloc(emit->rows, emit->room * sizeof *emit->rows));
    }
    size_t at = emit->count_only ? 0 : emit->n;
    if (emit->count_only && emit->n > 0)
        row_free(&emit->rows[0]);
    emit->rows[at] = (struct fake_row){ bytes_copy(key), bytes_copy(value), revision };
    if (!value.p) { /* changes(): the row is gone */
        free((void *)emit->rows[at].value.p);
        emit->rows[at].value.p = NULL;
    }
    emit->n++;
    emit->stopped = emit->stop_at && emit->n == emit->stop_at;
    return !emit->stopped;
}

static bool
text_is_valid(const char *text, size_t least)
{
    if (!text)
        return least == 0;
    size_t n = strlen(text);
    return n >= least && n <= 255;
}

static bool
host_principal(struct kaiten_sink *sink, const struct kaiten_principal *principal)
{
    own_thread_only(sink->owner, "principal");
    if (sink->refuse)
        return false;
    struct kaiten_principal p = { 0 };
    memcpy(&p, principal, principal->size < sizeof p ? principal->size : sizeof p);
    const char *problem = NULL;
    if (!text_is_valid(p.subject, 1))
        problem = "subject";
    else if (!text_is_valid(p.organization, 1))
        problem = "organization";
    else if (!text_is_valid(p.name, 0))
        problem = "name";
    else if (p.nscopes > 256)
        problem = "nscopes";
    else if (p.expires_at_ms < 0 || p.max_lifetime_ms < 0)
        problem = "expires_at_ms or max_lifetime_ms";
    else if (p.verify < KAITEN_VERIFY_NO || p.verify > KAITEN_VERIFY_ANY)
        problem = "verify";
    else if (p.rate.requests != 0 && p.rate.requests != KAITEN_RATE_NONE &&
             (p.rate.period_ms == 0 || p.rate.period_ms > 86400000))
        problem = "rate";
    if (problem)
        snprintf(sink->problem, sizeof sink->problem, "%s", problem);
    sink->principals++;
    return true;
}

static bool
host_token(struct kaiten_sink *sink, struct kaiten_bytes secret)
{
    own_thread_only(sink->owner, "token");
    sink->asked++;
    size_t n = fake.token ? strlen(fake.token) : 0;
    if (sink->refuse || n == 0 || secret.n != n || memcmp(secret.p, fake.token, n) != 0)
        return false;
    sink->tokens++;
    return true;
}

static void
host_changed(void *instance, struct kaiten_bytes prefix, uint64_t revision)
{
    (void)prefix;
    (void)revision;
    if (!instance)
        forbidden("call host->changed() without its instance");
    pthread_mutex_lock(&fake.mutex);
    fake.changes++;
    pthread_mutex_unlock(&fake.mutex);
}

static void
host_refuse(struct kaiten_sink *sink, const char *code, const char *detail)
{
    own_thread_only(sink->owner, "refuse");
    if (!code || !detail)
        forbidden("refuse without words");
}

static void
host_forget(void *instance)
{
    if (!instance)
        forbidden("call host->forget() without its instance");
}

static int64_t
host_deadline(void)
{
    return 30000;
}

static int64_t
host_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
host_random(void *buf, size_t n)
{
    unsigned char *p = buf;
    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno != EINTR)
            forbidden("run on a system without getrandom()");
        if (got > 0) {
            p += got;
            n -= (size_t)got;
        }
    }
}

const struct kaiten_host *
fake_host(void)
{
    static const struct kaiten_host host = {
        .size = sizeof host,
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
    return &host;
}

void
fake_host_verbose(bool verbose)
{
    fake.verbose = verbose;
}

void
fake_host_in_open(bool in_open)
{
    fake.in_open = in_open;
}

void
fake_host_token(const char *secret)
{
    fake.token = secret;
}

bool
fake_host_logged(const void *p, size_t n)
{
    pthread_mutex_lock(&fake.mutex);
    bool found = fake.log_n > 0 && memmem(fake.log, fake.log_n, p, n);
    pthread_mutex_unlock(&fake.mutex);
    return found;
}

unsigned
fake_host_changes(void)
{
    pthread_mutex_lock(&fake.mutex);
    unsigned changes = fake.changes;
    pthread_mutex_unlock(&fake.mutex);
    return changes;
}

void
fake_err_init(struct kaiten_err *err)
{
    err->text[0] = 0;
    err->owner = pthread_self();
}

void
fake_emit_init(struct kaiten_emit *emit)
{
    *emit = (struct kaiten_emit){ .owner = pthread_self() };
}

void
fake_sink_init(struct kaiten_sink *sink)
{
    *sink = (struct kaiten_sink){ .owner = pthread_self() };
}

void
fake_emit_done(struct kaiten_emit *emit)
{
    size_t kept = emit->count_only && emit->n > 1 ? 1 : emit->n;
    for (size_t i = 0; i < kept; i++)
        row_free(&emit->rows[i]);
    free(emit->rows);
    *emit = (struct kaiten_emit){ .owner = emit->owner };
}

struct kaiten_config *
fake_config_new(const struct kaiten_option *options)
{
    struct kaiten_config *config = must(calloc(1, sizeof *config));
    config->options = options;
    while (options && options[config->n].name)
        config->n++;
    config->values = must(calloc(config->n + 1, sizeof *config->values));
    return config;
}

static void
value_clear(struct fake_value *value)
{
    for (size_t i = 0; i < value->n; i++)
        free(value->items[i]);
    free(value->items);
    *value = (struct fake_value){ 0 };
}

struct kaiten_config *
fake_config_free(struct kaiten_config *config)
{
    for (size_t i = 0; config && i < config->n; i++)
        value_clear(&config->values[i]);
    if (config)
        free(config->values);
    free(config);
    return NULL;
}

static void
value_add(struct fake_value *value, const char *text)
{
    value->items = must(realloc(value->items, (value->n + 1) * sizeof *value->items));
    value->items[value->n++] = must(strdup(text));
}

/* NULL, or what a value must be. */
static const char *
value_problem(const struct kaiten_option *option, const char *text)
{
    int64_t number = 0;
    switch (option->type) {
    case KAITEN_OPT_STRING:
    case KAITEN_OPT_LIST:
        return NULL;
    case KAITEN_OPT_PATH:
    case KAITEN_OPT_SECRET:
        return *text ? NULL : "must not be empty";
    case KAITEN_OPT_BOOL:
        return bool_parse(text) < 0 ? "must be yes or no" : NULL;
    case KAITEN_OPT_INT:
    case KAITEN_OPT_SIZE:
    case KAITEN_OPT_DURATION:
        if (!number_parse(option->type, text, &number))
            return "is no number of its type";
        if ((option->min || option->max) && (number < option->min || number > option->max))
            return "is out of range";
        return NULL;
    }
    return "has a type that this program does not know";
}

bool
fake_config_add(struct kaiten_config *config, const char *setting, char *problem, size_t n)
{
    const char *equals = strchr(setting, '=');
    size_t name_n = equals ? (size_t)(equals - setting) : strlen(setting);
    for (size_t i = 0; equals && i < config->n; i++) {
        const struct kaiten_option *option = &config->options[i];
        if (strlen(option->name) != name_n || memcmp(option->name, setting, name_n) != 0)
            continue;
        const char *wrong = value_problem(option, equals + 1);
        if (!wrong && config->values[i].n > 0 && option->type != KAITEN_OPT_LIST)
            wrong = "is given twice";
        if (wrong) {
            snprintf(problem, n, "%s %s", option->name, wrong);
            return false;
        }
        value_add(&config->values[i], equals + 1);
        return true;
    }
    snprintf(problem, n, equals ? "%.*s is no option of this plugin" : "%.*s is not key=value",
             (int)name_n, setting);
    return false;
}

void
fake_config_set(struct kaiten_config *config, const char *name, const char *value)
{
    for (size_t i = 0; i < config->n; i++) {
        if (strcmp(config->options[i].name, name) != 0)
            continue;
        value_clear(&config->values[i]);
        value_add(&config->values[i], value);
    }
}

bool
fake_config_has(const struct kaiten_config *config, const char *name)
{
    for (size_t i = 0; i < config->n; i++) {
        if (strcmp(config->options[i].name, name) == 0)
            return config->values[i].n > 0;
    }
    return false;
}

const char *
fake_config_missing(const struct kaiten_config *config)
{
    for (size_t i = 0; i < config->n; i++) {
        if (config->options[i].flags & KAITEN_OPT_REQUIRED && config->values[i].n == 0)
            return config->options[i].name;
    }
    return NULL;
}

static bool
name_is_valid(const char *name)
{
    return *name && name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == 0;
}

const char *
fake_option_problem(const struct kaiten_option *option)
{
    if (!name_is_valid(option->name))
        return "its name is not made of a-z, 0-9 and _";
    if (option->type < KAITEN_OPT_STRING || option->type > KAITEN_OPT_LIST)
        return "its type is unknown";
    if (option->flags & ~(unsigned)KAITEN_OPT_REQUIRED)
        return "a flag is unknown";
    if (option->min > option->max)
        return "min is above max";
    if (!option->doc || strlen(option->doc) < 8)
        return "it has no sentence";
    if (option->flags & KAITEN_OPT_REQUIRED && option->def)
        return "it is required and has a default";
    if (option->def && value_problem(option, option->def))
        return "its default is not a valid value";
    return NULL;
}
