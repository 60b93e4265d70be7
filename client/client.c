/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/client.h"
#include "client/proto/error.h"
#include "client/proto/json.h"
#include "client/proto/utf8.h"
#include "client/proto/wipe.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { TIMEOUT_MS = 5000, PROBLEM_MAX = 256 * 1024 };

/* What the numbers below 100 are called. */
static const struct {
    const char *code, *text;
} local[] = {
    [KAITEN_OK] = { "", "no error" },
    [KAITEN_EUSAGE] = { "Client.Usage", "the call itself is wrong" },
    [KAITEN_EMEMORY] = { "Client.Memory", "out of memory" },
    [KAITEN_ECONNECT] = { "Client.Connect", "cannot reach the server" },
    [KAITEN_ETIMEOUT] = { "Client.Timeout", "no answer in time" },
    [KAITEN_ELOST] = { "Client.Lost", "the connection was lost" },
    [KAITEN_EPROTOCOL] = { "Client.Protocol", "the server does not speak as it should" },
};

enum { LOCAL_COUNT = sizeof local / sizeof local[0] };

struct kaiten *
kaiten_new(const char *path)
{
    struct kaiten *k = calloc(1, sizeof *k);
    char *copy = path ? strdup(path) : NULL;
    if (!k || (path && !copy)) {
        free(k);
        free(copy);
        return NULL;
    }
    k->path = copy;
    k->fd = -1;
    k->timeout_ms = TIMEOUT_MS;
    kt_buf_init(&k->request, CLIENT_REQUEST_MAX);
    kt_buf_init(&k->out, (size_t)CLIENT_REQUEST_MAX * (KAITEN_IN_FLIGHT_MAX + 2));
    kt_buf_init(&k->in, (size_t)CLIENT_REPLY_MAX * 2);
    kt_buf_init(&k->problem, PROBLEM_MAX);
    kt_arena_init(&k->arena, CLIENT_ARENA_MAX);
    return k;
}

void
kaiten_free(struct kaiten *k)
{
    if (!k)
        return;
    wire_close(k, 0);
    kaiten_set_token(k, NULL, 0);
    kt_buf_done(&k->request);
    kt_buf_done(&k->out);
    kt_buf_done(&k->in);
    kt_buf_done(&k->problem);
    kt_arena_wipe(&k->arena);
    kt_arena_done(&k->arena);
    free(k->path);
    free(k);
}

void
kaiten_close(struct kaiten *k)
{
    client_begin(k);
    wire_close(k, 0);
}

void
kaiten_set_timeout(struct kaiten *k, unsigned milliseconds)
{
    k->timeout_ms = milliseconds;
}

int
kaiten_set_token(struct kaiten *k, const char *token, size_t n)
{
    client_begin(k);
    if (token && (n == 0 || n > KAITEN_CREDENTIAL_MAX || !kt_utf8_is_text(token, n)))
        return client_fail(k, KAITEN_EUSAGE, "a token has 1 to %d bytes of text",
                           KAITEN_CREDENTIAL_MAX);
    char *copy = token ? malloc(n) : NULL;
    if (token && !copy)
        return client_fail(k, KAITEN_EMEMORY, "no memory for the token");
    if (copy)
        memcpy(copy, token, n);
    kt_wipe(k->token, k->token_len);
    free(k->token);
    k->token = copy;
    k->token_len = token ? n : 0;
    return 0;
}

int
kaiten_set_idempotency_key(struct kaiten *k, const char *key)
{
    client_begin(k);
    size_t n = key ? strlen(key) : 0;
    bool good = !key || (n >= 1 && n <= CLIENT_KEY_MAX);
    for (size_t i = 0; good && i < n; i++)
        good = key[i] > ' ' && key[i] < 0x7f;
    if (!good)
        return client_fail(k, KAITEN_EUSAGE, "a key has 1 to %d visible ASCII characters",
                           CLIENT_KEY_MAX);
    memcpy(k->key, key ? key : "", n + 1);
    return 0;
}

const char *
kaiten_version(void)
{
    return PACKAGE_VERSION;
}

/* --- failures ----------------------------------------------------------------------------- */

void
client_begin(struct kaiten *k)
{
    k->error = 0;
    k->code[0] = '\0';
    k->detail[0] = '\0';
    k->retry_after = 0;
    kt_buf_reset(&k->problem);
    kt_arena_reset(&k->arena);
}

int
client_fail(struct kaiten *k, int number, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(k->detail, sizeof k->detail, fmt, ap);
    va_end(ap);
    snprintf(k->code, sizeof k->code, "%s", local[number].code);
    k->retry_after = 0;
    kt_buf_reset(&k->problem);
    return k->error = number;
}

/* Cuts a text that is too long, between two characters. */
static void
copy_text(char *to, size_t size, struct kt_str from)
{
    size_t n = 0, step;
    while (n < from.n && (step = kt_utf8_char(from.p + n, from.n - n)) != 0 && n + step < size)
        n += step;
    memcpy(to, from.n ? from.p : "", n);
    to[n] = '\0';
}

static struct kt_str
member_str(const struct kt_value *map, const char *name)
{
    const struct kt_value *v = kt_value_get(map, name);
    return v && v->type == KT_V_STR ? v->s : (struct kt_str){ NULL, 0 };
}

/* Anything but a number of seconds is ignored. */
static unsigned
member_seconds(const struct kt_value *map, const char *name)
{
    const struct kt_value *v = kt_value_get(map, name);
    return v && v->type == KT_V_INT && v->i > 0 && v->i <= INT_MAX ? (unsigned)v->i : 0;
}

/* A status that this library does not know is taken for the general one of its class. */
static int
number_of_status(int64_t status)
{
    for (int kind = KT_OK + 1; kind < KT_KIND_COUNT; kind++)
        if (kt_kind_info((enum kt_kind)kind)->http == status)
            return (int)status;
    return status >= 400 && status < 500 ? KAITEN_EVALIDATION : KAITEN_EINTERNAL;
}

/* A server answers us in pairs only when it refuses the greeting, and then it refuses the
 * caller. */
static int
number_of_pair(int64_t pair, struct kt_str code)
{
    for (int kind = KT_OK + 1; kind < KT_KIND_COUNT; kind++) {
        const struct kt_kind_info *info = kt_kind_info((enum kt_kind)kind);
        if (kt_str_is(code, info->code) && !kt_str_is(code, "UNKNOWN"))
            return info->http;
    }
    if (code.n > 5 && memcmp(code.p, "Auth.", 5) == 0)
        return KAITEN_EUNAUTHORIZED;
    return pair == 1 ? KAITEN_EVALIDATION : KAITEN_EINTERNAL;
}

static int
refused_pair(struct kaiten *k, int64_t pair, struct kt_str text)
{
    const char *colon = text.n ? memchr(text.p, ':', text.n) : NULL;
    struct kt_str code = { text.p, colon ? (size_t)(colon - text.p) : 0 };
    size_t skip = colon ? code.n + (code.n + 1 < text.n && colon[1] == ' ' ? 2 : 1) : 0;
    copy_text(k->code, sizeof k->code, code);
    copy_text(k->detail, sizeof k->detail, (struct kt_str){ text.p + skip, text.n - skip });
    return k->error = number_of_pair(pair, code);
}

int
client_refused(struct kaiten *k, const struct kt_value *error)
{
    if (error->type == KT_V_ARRAY && error->array.n == 2 && error->array.v[0].type == KT_V_INT &&
        error->array.v[1].type == KT_V_STR)
        return refused_pair(k, error->array.v[0].i, error->array.v[1].s);
    const struct kt_value *status = kt_value_get(error, "status");
    if (!status || status->type != KT_V_INT)
        return wire_garbage(k, "an error without a status");
    copy_text(k->code, sizeof k->code, member_str(error, "code"));
    struct kt_str detail = member_str(error, "detail");
    copy_text(k->detail, sizeof k->detail, detail.p ? detail : member_str(error, "title"));
    k->retry_after = member_seconds(error, "retryAfter");
    kt_buf_reset(&k->problem);
    kt_json_put_value(&k->problem, error);
    kt_buf_putc(&k->problem, '\0');
    return k->error = number_of_status(status->i);
}

const char *
kaiten_error_code(const struct kaiten *k)
{
    return k->code;
}

const char *
kaiten_error_detail(const struct kaiten *k)
{
    return k->detail;
}

const char *
kaiten_error_problem(const struct kaiten *k)
{
    return k->problem.n && !k->problem.failed ? k->problem.p : NULL;
}

unsigned
kaiten_error_retry_after(const struct kaiten *k)
{
    return k->retry_after;
}

const char *
kaiten_strerror(int error)
{
    if (error >= 0 && error < LOCAL_COUNT)
        return local[error].text;
    for (int kind = KT_OK + 1; kind < KT_KIND_COUNT; kind++)
        if (kt_kind_info((enum kt_kind)kind)->http == error)
            return kt_kind_info((enum kt_kind)kind)->title;
    return "unknown error";
}
