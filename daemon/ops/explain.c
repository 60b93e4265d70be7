/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/ops/explain.h"

#include "client/proto/json.h"
#include "daemon/ops.h"

#include <stdio.h>

const struct explain_group explain_groups[EXPLAIN_GROUPS] = {
    { "account.", "Service accounts", "Who tokens are minted for." },
    { "token.", "Tokens", "Mint, rotate, revoke and check them." },
    { "", "Server", "Callers, scopes, health, and this document." },
};

const struct explain_group *
explain_group(const struct kt_op_spec *spec)
{
    const struct explain_group *g = explain_groups;
    while (strncmp(spec->name, g->prefix, strlen(g->prefix)) != 0)
        g++;
    return g;
}

const char *
explain_method(const struct kt_op_spec *spec)
{
    return strcmp(spec->http_method, "*") == 0 ? "GET" : spec->http_method;
}

static bool
has_flag(const struct kt_op_spec *spec, unsigned flag)
{
    return (ops[kt_op_id(spec)].flags & flag) != 0;
}

/* A public operation may still ask for a credential by itself. */
bool
explain_takes_caller(const struct kt_op_spec *spec)
{
    for (const struct kt_op_error *e = spec->errors; e && e->kind != KT_OK; e++)
        if (e->kind == KT_UNAUTHORIZED)
            return true;
    return !has_flag(spec, OP_PUBLIC);
}

bool
explain_takes_key(const struct kt_op_spec *spec)
{
    return has_flag(spec, OP_ONCE);
}

bool
explain_has_tag(const struct kt_op_spec *spec)
{
    return spec->media && !explain_takes_caller(spec) && !has_flag(spec, OP_METRICS);
}

bool
explain_has(const struct kt_op_spec *spec, enum kt_place place)
{
    for (const struct kt_field *f = spec->in->fields; f->name; f++)
        if (f->place == place && !(f->flags & KT_READONLY))
            return true;
    return false;
}

/* --- refusals ----------------------------------------------------------------------------- */

/* Its text depends on the operation. */
static const char missing_scope[] = "Auth.MissingScope";
/* The example text where the real cause is for the operator alone. */
static const char withheld[] = "temporarily unavailable, please retry";

enum when {
    ALWAYS, WITH_CALLER, WITH_SCOPE, WITH_PARAMS, WITH_BODY, WITH_INPUT, WITH_KEY, WITH_SECRET,
    WRITING, WAITING, LATE
};

static const struct {
    enum when when;
    struct kt_op_error error;
} common[] = {
    { WITH_PARAMS, { KT_VALIDATION, NULL, "the path is not validly encoded" } },
    { WITH_BODY, { KT_VALIDATION, NULL, "request body is required" } },
    { WITH_CALLER,
      { KT_UNAUTHORIZED, "Auth.MissingAuthorizationHeader", "Missing Authorization header" } },
    { WITH_CALLER,
      { KT_UNAUTHORIZED, "Auth.UnknownAuthorizationHeader",
        "Invalid Authorization header format" } },
    { WITH_CALLER, { KT_UNAUTHORIZED, "Auth.InvalidToken", "Invalid token" } },
    { WITH_CALLER,
      { KT_UNAUTHORIZED, "Auth.MissingClaims", "Missing required JWT claims (sub)" } },
    { WITH_CALLER,
      { KT_UNAUTHORIZED, "Auth.InvalidScopes", "Scopes must be an array of strings" } },
    { WITH_SCOPE, { KT_FORBIDDEN, missing_scope, "missing required scope" } },
    { WITH_KEY,
      { KT_CONFLICT, "Idempotency.InProgress",
        "the first request with this idempotency key is still at work" } },
    { WITH_BODY, { KT_TOO_LARGE, NULL, "request body is too large limit=1048576 bytes" } },
    { WITH_BODY, { KT_MEDIA_TYPE, NULL, "validation failed" } },
    { WITH_INPUT, { KT_UNPROCESSABLE, NULL, "validation failed" } },
    { WITH_KEY,
      { KT_UNPROCESSABLE, "Idempotency.KeyReused",
        "this idempotency key came with another request before" } },
    { WITH_KEY,
      { KT_UNPROCESSABLE, "Idempotency.InvalidKey",
        "expected an idempotency key of 1 to 255 visible ASCII characters" } },
    { WITH_CALLER,
      { KT_TOO_MANY_REQUESTS, NULL, "too many requests, please retry in 1 s" } },
    { ALWAYS, { KT_INTERNAL, NULL, "unexpected error occurred" } },
    { WITH_CALLER,
      { KT_UNAVAILABLE, "Server.Quarantined",
        "no token is accepted and nothing can be changed until the operator has accepted the "
        "state of the store" } },
    { WITH_SECRET,
      { KT_UNAVAILABLE, "Server.ClockBehind",
        "the server's clock is behind the time that has passed; nothing is minted" } },
    { WRITING, { KT_UNAVAILABLE, "Storage.Full", withheld } },
    { WRITING,
      { KT_UNAVAILABLE, "Storage.Unknown",
        "the store does not answer in time; whether the change is made is not known" } },
    { LATE,
      { KT_UNAVAILABLE, "Server.Starting",
        "the daemon is starting: tokens are verified, everything else has to wait" } },
    { WAITING,
      { KT_UNAVAILABLE, "Server.Busy", "too many requests are waiting, please retry" } },
};

static bool
applies(enum when when, const struct kt_op_spec *spec)
{
    bool params = explain_has(spec, KT_PATH) || explain_has(spec, KT_QUERY);
    bool body = spec->body != KT_BODY_NONE;
    switch (when) {
    case WITH_CALLER: return !has_flag(spec, OP_PUBLIC);
    case WITH_SCOPE: return spec->scope != NULL;
    case WITH_PARAMS: return params && spec->body != KT_BODY_REQUIRED;
    case WITH_BODY: return body;
    case WITH_INPUT: return params || body;
    case WITH_KEY: return explain_takes_key(spec);
    case WITH_SECRET: return spec->out == &kt_shape_plain_token;
    case WRITING: return has_flag(spec, OP_WRITES);
    case WAITING: return !has_flag(spec, OP_INLINE);
    case LATE: return !has_flag(spec, OP_INLINE | OP_EARLY);
    case ALWAYS: break;
    }
    return true;
}

static bool
is_same(const struct kt_op_error *a, const struct kt_op_error *b)
{
    const char *x = a->code ? a->code : kt_kind_info(a->kind)->code;
    const char *y = b->code ? b->code : kt_kind_info(b->kind)->code;
    return a->kind == b->kind && strcmp(x, y) == 0;
}

/* Kinds are numbered by status, so their order is that of the statuses. */
static size_t
add_error(struct kt_op_error errors[EXPLAIN_ERRORS_MAX], size_t n, struct kt_op_error e)
{
    for (size_t i = 0; i < n; i++)
        if (is_same(&errors[i], &e))
            return n;
    if (n == EXPLAIN_ERRORS_MAX)
        return n;
    size_t at = n;
    for (; at > 0 && errors[at - 1].kind > e.kind; at--)
        errors[at] = errors[at - 1];
    errors[at] = e;
    return n + 1;
}

size_t
explain_errors(const struct kt_op_spec *spec, struct kt_op_error errors[EXPLAIN_ERRORS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < sizeof common / sizeof common[0]; i++)
        if (applies(common[i].when, spec))
            n = add_error(errors, n, common[i].error);
    for (const struct kt_op_error *e = spec->errors; e && e->kind != KT_OK; e++)
        n = add_error(errors, n, *e);
    return n;
}

struct kt_str
explain_detail(const struct kt_op_spec *spec, const struct kt_op_error *e,
               char text[EXPLAIN_DETAIL_MAX])
{
    if (e->code == missing_scope) {
        snprintf(text, EXPLAIN_DETAIL_MAX, "%s: %s", e->detail, spec->scope);
        return kt_str(text);
    }
    return kt_str(e->detail ? e->detail : kt_kind_info(e->kind)->title);
}

/* --- objects ------------------------------------------------------------------------------ */

/* Problem details are not encoded by their shape, but they look like one. */
struct detail {
    struct kt_str message, location;
    const struct kt_value *value;
};

struct problem {
    struct kt_str type, title;
    int64_t status;
    struct kt_str detail, instance, code, error_id;
    struct kt_list errors;
    int64_t retry_after;
};

static const struct kt_field detail_fields[] = {
    KT_FIELD(struct detail, message, "message", .doc = "What is wrong."),
    KT_FIELD(struct detail, location, "location", .doc = "Where: body.name, query.limit."),
    KT_FIELD(struct detail, value, "value", .doc = "What stood there; never a secret."),
    { .name = NULL }
};

static const struct kt_shape detail_shape = { "ErrorDetail", sizeof(struct detail), detail_fields };

static const struct kt_field problem_fields[] = {
    KT_FIELD(struct problem, type, "type", .doc = "URI of the kind of problem."),
    KT_FIELD(struct problem, title, "title", .doc = "The status in words."),
    KT_FIELD(struct problem, status, "status", .doc = "The HTTP status."),
    KT_FIELD(struct problem, detail, "detail", .doc = "What happened this time."),
    KT_FIELD(struct problem, instance, "instance", .doc = "The path as it was requested."),
    KT_FIELD(struct problem, code, "code", .doc = "For programs; texts may change."),
    KT_FIELD(struct problem, error_id, "errorId",
             .doc = "Under which the server's log tells the cause."),
    KT_FIELD(struct problem, errors, "errors", .shape = &detail_shape, .doc = "Each violation."),
    KT_FIELD(struct problem, retry_after, "retryAfter", KT_RANGE(1, INT32_MAX),
             .doc = "Seconds to wait, where there were too many."),
    { .name = NULL }
};

static const struct kt_shape problem_shape = { "Problem", sizeof(struct problem), problem_fields };

/* Those within it first. */
static size_t
add_shape(const struct kt_shape *shapes[EXPLAIN_SHAPES_MAX], size_t n, const struct kt_shape *shape)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(shapes[i]->name, shape->name) == 0)
            return n;
    for (const struct kt_field *f = shape->fields; f->name; f++)
        if (f->shape)
            n = add_shape(shapes, n, f->shape);
    if (n < EXPLAIN_SHAPES_MAX)
        shapes[n++] = shape;
    return n;
}

size_t
explain_shapes(const struct kt_shape *shapes[EXPLAIN_SHAPES_MAX], bool socket)
{
    size_t n = 0;
    for (size_t i = 0; i < KT_OP_COUNT; i++)
        if (kt_op_specs[i].out && (socket || kt_op_specs[i].http_method))
            n = add_shape(shapes, n, kt_op_specs[i].out);
    for (size_t i = 0; i < KT_OP_COUNT; i++)
        if (kt_op_specs[i].http_method && kt_op_specs[i].body != KT_BODY_NONE)
            n = add_shape(shapes, n, kt_op_specs[i].in);
    return add_shape(shapes, n, &problem_shape);
}

/* --- examples ----------------------------------------------------------------------------- */

static bool
has_example(const struct kt_field *f)
{
    return f->example || (f->shape && (f->flags & KT_REQUIRED));
}

static void
put_shape(struct kt_buf *buf, const struct kt_shape *shape, bool fresh)
{
    char sep = '{';
    for (const struct kt_field *f = shape->fields; f->name; f++) {
        if (!has_example(f))
            continue;
        kt_buf_printf(buf, "%c\"%s\":", sep, f->name);
        if (fresh && f->type == KT_T_LIST && (f->flags & KT_NULLABLE))
            kt_buf_puts(buf, "null");
        else
            explain_put_example(buf, f);
        sep = ',';
    }
    kt_buf_puts(buf, sep == '{' ? "{}" : "}");
}

void
explain_put_example(struct kt_buf *buf, const struct kt_field *f)
{
    bool is_text = f->type == KT_T_STR || f->type == KT_T_TIME || f->type == KT_T_SECRET ||
                   f->type == KT_T_SECRET_VIEW;
    if (f->example && is_text) {
        kt_json_put_str(buf, kt_str(f->example));
    } else if (f->example) {
        kt_buf_puts(buf, f->example);
    } else {
        kt_buf_puts(buf, f->type == KT_T_LIST ? "[" : "");
        put_shape(buf, f->shape, false);
        kt_buf_puts(buf, f->type == KT_T_LIST ? "]" : "");
    }
}

/* An account that was just made has no tokens yet. */
void
explain_put_result(struct kt_buf *buf, const struct kt_op_spec *spec)
{
    put_shape(buf, spec->out, spec->http_ok == 201);
}

void
explain_put_input(struct kt_buf *buf, const struct kt_op_spec *spec, bool flat)
{
    char sep = '{';
    for (const struct kt_field *f = spec->in->fields; f->name; f++) {
        if ((f->flags & KT_READONLY) || !f->example || (!flat && f->place != KT_BODY))
            continue;
        kt_buf_printf(buf, "%c\"%s\":", sep, f->name);
        explain_put_example(buf, f);
        sep = ',';
    }
    kt_buf_puts(buf, sep == '{' ? "{}" : "}");
}

static const struct kt_field *
find_field(const struct kt_shape *shape, struct kt_str name)
{
    for (const struct kt_field *f = shape->fields; f->name; f++)
        if (kt_str_is(name, f->name))
            return f;
    return NULL;
}

void
explain_put_path(struct kt_buf *buf, const struct kt_op_spec *spec)
{
    const char *p = spec->http_path;
    while (*p) {
        size_t n = strcspn(p, "{");
        kt_buf_put(buf, p, n);
        p += n;
        if (!*p)
            return;
        struct kt_str name = { p + 1, strcspn(p, "}") - 1 };
        const struct kt_field *f = find_field(spec->in, name);
        kt_buf_puts(buf, f && f->example ? f->example : "x");
        p += name.n + 2;
    }
}

/* One violation that the operation's input can have. */
static void
put_violation(struct kt_buf *buf, const struct kt_op_spec *spec)
{
    for (const struct kt_field *f = spec->in->fields; f->name; f++) {
        if (f->flags & KT_READONLY)
            continue;
        if (f->place == KT_BODY && (f->flags & KT_REQUIRED)) {
            kt_buf_printf(buf, ",\"errors\":[{\"message\":\"expected required property %s to be "
                               "present\",\"location\":\"body\",\"value\":{}}]", f->name);
            return;
        }
        if (f->type == KT_T_INT && f->bounded) {
            kt_buf_printf(buf, ",\"errors\":[{\"message\":\"expected number >= %lld\",\"location\":"
                               "\"%s.%s\",\"value\":%lld}]", (long long)f->min,
                          f->place == KT_QUERY ? "query" : "body", f->name, (long long)f->min - 1);
            return;
        }
    }
}

void
explain_put_problem(struct kt_buf *buf, const struct kt_op_spec *spec, const struct kt_op_error *e)
{
    const struct kt_kind_info *info = kt_kind_info(e->kind);
    char text[EXPLAIN_DETAIL_MAX];
    kt_buf_printf(buf, "{\"type\":\"%s\",\"title\":\"%s\",\"status\":%d,\"detail\":", info->type,
                  info->title, info->http);
    kt_json_put_str(buf, explain_detail(spec, e, text));
    kt_buf_puts(buf, ",\"instance\":\"/api");
    explain_put_path(buf, spec);
    kt_buf_printf(buf, "\",\"code\":\"%s\"", e->code ? e->code : info->code);
    if (e->kind == KT_INTERNAL || (e->detail && strcmp(e->detail, withheld) == 0))
        kt_buf_puts(buf, ",\"errorId\":\"7f3c1f0e-5a3b-4c7d-9e21-8b6a4d2c0f19\"");
    if (e->kind == KT_TOO_MANY_REQUESTS)
        kt_buf_puts(buf, ",\"retryAfter\":1");
    if (e->kind == KT_UNPROCESSABLE && !e->code)
        put_violation(buf, spec);
    kt_buf_putc(buf, '}');
}
