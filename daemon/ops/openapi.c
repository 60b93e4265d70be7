/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/json.h"
#include "daemon/ops/document.h"
#include "daemon/ops/explain.h"

#include <strings.h>

/* --- a writer of JSON that knows where commas stand --------------------------------------- */

struct writer {
    struct kt_buf *buf;
    bool comma; /* something stands before the next member */
};

/* name NULL: an item of an array. */
static void
begin(struct writer *w, const char *name)
{
    if (w->comma)
        kt_buf_putc(w->buf, ',');
    w->comma = true;
    if (!name)
        return;
    kt_json_put_str(w->buf, kt_str(name));
    kt_buf_putc(w->buf, ':');
}

static void
enter(struct writer *w, const char *name, char bracket)
{
    begin(w, name);
    kt_buf_putc(w->buf, bracket);
    w->comma = false;
}

static void
leave(struct writer *w, char bracket)
{
    kt_buf_putc(w->buf, bracket);
    w->comma = true;
}

static void
say(struct writer *w, const char *name, const char *text)
{
    begin(w, name);
    kt_json_put_str(w->buf, kt_str(text));
}

static void
say_int(struct writer *w, const char *name, int64_t i)
{
    begin(w, name);
    kt_json_put_int(w->buf, i);
}

static void
say_bool(struct writer *w, const char *name, bool b)
{
    begin(w, name);
    kt_json_put_bool(w->buf, b);
}

/* json: written as it stands. */
static void
say_json(struct writer *w, const char *name, const char *json)
{
    begin(w, name);
    kt_buf_puts(w->buf, json);
}

static void
say_ref(struct writer *w, const char *name, const char *component)
{
    begin(w, name);
    kt_buf_printf(w->buf, "{\"$ref\":\"#/components/schemas/%s\"}", component);
}

/* --- schemas ------------------------------------------------------------------------------ */

static void
put_strings(struct writer *w, const struct kt_field *f)
{
    say_json(w, "type", f->flags & KT_NULLABLE ? "[\"array\",\"null\"]" : "\"array\"");
    if (f->bounded && f->min > 0)
        say_int(w, "minItems", f->min);
    if (f->bounded)
        say_int(w, "maxItems", f->max);
    if (f->shape)
        say_ref(w, "items", f->shape->name);
    else
        say_json(w, "items", "{\"type\":\"string\"}");
}

static void
put_text(struct writer *w, const struct kt_field *f)
{
    say(w, "type", "string");
    if (f->bounded && f->min > 0)
        say_int(w, "minLength", f->min);
    if (f->bounded)
        say_int(w, "maxLength", f->max);
    if (f->pattern)
        say(w, "pattern", f->pattern);
}

static void
put_integer(struct writer *w, const struct kt_field *f)
{
    say(w, "type", "integer");
    say(w, "format", f->bounded && f->max <= INT32_MAX ? "int32" : "int64");
    if (f->bounded) {
        say_int(w, "minimum", f->min);
        say_int(w, "maximum", f->max);
    }
    if (f->preset)
        say_json(w, "default", f->preset);
}

static void
put_type(struct writer *w, const struct kt_field *f)
{
    switch (f->type) {
    case KT_T_BOOL: say(w, "type", "boolean"); break;
    case KT_T_INT: put_integer(w, f); break;
    case KT_T_TIME:
        say(w, "type", "string");
        say(w, "format", "date-time");
        break;
    case KT_T_STR:
    case KT_T_SECRET:
    case KT_T_SECRET_VIEW: put_text(w, f); break;
    case KT_T_STRLIST:
    case KT_T_SECRET_LIST:
    case KT_T_LIST: put_strings(w, f); break;
    case KT_T_OBJECT:
        /* Not beside a description: many tools drop what stands beside a reference. */
        enter(w, "allOf", '[');
        say_ref(w, NULL, f->shape->name);
        leave(w, ']');
        break;
    case KT_T_ANY: break;
    }
}

static void
put_member(struct writer *w, const struct kt_field *f)
{
    enter(w, f->name, '{');
    put_type(w, f);
    say(w, "description", f->doc);
    if (f->flags & KT_READONLY)
        say_bool(w, "readOnly", true);
    if (f->example) {
        enter(w, "examples", '[');
        begin(w, NULL);
        explain_put_example(w->buf, f);
        leave(w, ']');
    }
    leave(w, '}');
}

static void
put_required(struct writer *w, const struct kt_shape *shape)
{
    bool some = false;
    for (const struct kt_field *f = shape->fields; f->name; f++) {
        if (f->place != KT_BODY || !(f->flags & KT_REQUIRED))
            continue;
        if (!some)
            enter(w, "required", '[');
        some = true;
        say(w, NULL, f->name);
    }
    if (some)
        leave(w, ']');
}

static void
put_shape(struct writer *w, const struct kt_shape *shape)
{
    enter(w, shape->name, '{');
    say(w, "type", "object");
    say_bool(w, "additionalProperties", false);
    put_required(w, shape);
    enter(w, "properties", '{');
    for (const struct kt_field *f = shape->fields; f->name; f++)
        if (f->place == KT_BODY)
            put_member(w, f);
    leave(w, '}');
    leave(w, '}');
}

static void
put_schemas(struct writer *w)
{
    const struct kt_shape *shapes[EXPLAIN_SHAPES_MAX];
    size_t n = explain_shapes(shapes, false);
    enter(w, "schemas", '{');
    for (size_t i = 0; i < n; i++)
        put_shape(w, shapes[i]);
    leave(w, '}');
}

/* --- what goes in ------------------------------------------------------------------------- */

static void
put_param(struct writer *w, const struct kt_field *f)
{
    enter(w, NULL, '{');
    say(w, "name", f->name);
    say(w, "in", f->place == KT_PATH ? "path" : "query");
    if (f->flags & KT_REQUIRED)
        say_bool(w, "required", true);
    say(w, "description", f->doc);
    enter(w, "schema", '{');
    put_type(w, f);
    leave(w, '}');
    if (f->example) {
        begin(w, "example");
        explain_put_example(w->buf, f);
    }
    leave(w, '}');
}

static void
put_params(struct writer *w, const struct kt_op_spec *spec)
{
    bool key = explain_takes_key(spec);
    if (!key && !explain_has(spec, KT_PATH) && !explain_has(spec, KT_QUERY))
        return;
    enter(w, "parameters", '[');
    for (const struct kt_field *f = spec->in->fields; f->name; f++)
        if (f->place != KT_BODY)
            put_param(w, f);
    if (key)
        say_json(w, NULL, "{\"$ref\":\"#/components/parameters/IdempotencyKey\"}");
    leave(w, ']');
}

static void
put_body(struct writer *w, const struct kt_op_spec *spec)
{
    if (spec->body == KT_BODY_NONE)
        return;
    enter(w, "requestBody", '{');
    say_bool(w, "required", spec->body == KT_BODY_REQUIRED);
    enter(w, "content", '{');
    enter(w, "application/json", '{');
    say_ref(w, "schema", spec->in->name);
    begin(w, "example");
    explain_put_input(w->buf, spec, false);
    leave(w, '}');
    leave(w, '}');
    leave(w, '}');
}

/* --- what comes out ----------------------------------------------------------------------- */

static const char *
title_of(int status)
{
    return status == 201 ? "Created" : status == 204 ? "No Content" : "OK";
}

static void
open_status(struct writer *w, int status, const char *title)
{
    char text[4] = { (char)('0' + status / 100), (char)('0' + status / 10 % 10),
                     (char)('0' + status % 10), '\0' };
    enter(w, text, '{');
    say(w, "description", title);
}

static void
put_header(struct writer *w, const char *name, const char *doc)
{
    enter(w, "headers", '{');
    enter(w, name, '{');
    say(w, "description", doc);
    say_json(w, "schema", "{\"type\":\"string\"}");
    leave(w, '}');
    leave(w, '}');
}

static void
put_content(struct writer *w, const struct kt_op_spec *spec)
{
    bool json = !spec->media || strcmp(spec->media, "application/json") == 0;
    if (!spec->out && !spec->loose && !spec->media)
        return;
    enter(w, "content", '{');
    enter(w, spec->media ? spec->media : "application/json", '{');
    if (spec->out) {
        say_ref(w, "schema", spec->out->name);
        begin(w, "example");
        explain_put_result(w->buf, spec);
    } else {
        say_json(w, "schema", json ? "{\"type\":\"object\"}" : "{\"type\":\"string\"}");
    }
    leave(w, '}');
    leave(w, '}');
}

static void
put_success(struct writer *w, const struct kt_op_spec *spec)
{
    open_status(w, spec->http_ok, title_of(spec->http_ok));
    if (explain_has_tag(spec))
        put_header(w, "ETag", "Of this text; send it in If-None-Match.");
    else if (spec->media)
        put_header(w, "Authorization", "Bearer and a JWT that says whose token it is.");
    put_content(w, spec);
    leave(w, '}');
    if (explain_has_tag(spec)) {
        open_status(w, 304, "Not Modified");
        leave(w, '}');
    }
}

static void
put_problem_example(struct writer *w, const struct kt_op_spec *spec, const struct kt_op_error *e)
{
    enter(w, e->code ? e->code : kt_kind_info(e->kind)->code, '{');
    begin(w, "value");
    explain_put_problem(w->buf, spec, e);
    leave(w, '}');
}

/* The refusals of one status: n of them, of which those that are only declared have no example. */
static void
put_refusal(struct writer *w, const struct kt_op_spec *spec, const struct kt_op_error *e, size_t n)
{
    const struct kt_kind_info *info = kt_kind_info(e->kind);
    open_status(w, info->http, info->title);
    if (e->kind == KT_UNAUTHORIZED)
        put_header(w, "WWW-Authenticate", "RFC 6750 section 3.");
    if (e->kind == KT_UNAVAILABLE || e->kind == KT_TOO_MANY_REQUESTS)
        put_header(w, "Retry-After", "Seconds to wait.");
    enter(w, "content", '{');
    enter(w, "application/problem+json", '{');
    say_ref(w, "schema", "Problem");
    if (n > 1 || e->code || e->detail) {
        enter(w, "examples", '{');
        for (size_t i = 0; i < n; i++)
            if (e[i].code || e[i].detail)
                put_problem_example(w, spec, &e[i]);
        leave(w, '}');
    }
    leave(w, '}');
    leave(w, '}');
    leave(w, '}');
}

static void
put_responses(struct writer *w, const struct kt_op_spec *spec)
{
    struct kt_op_error errors[EXPLAIN_ERRORS_MAX];
    size_t n = explain_errors(spec, errors);
    enter(w, "responses", '{');
    put_success(w, spec);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i; end < n && errors[end].kind == errors[i].kind; end++)
            ;
        put_refusal(w, spec, &errors[i], end - i);
    }
    say_json(w, "4XX", "{\"$ref\":\"#/components/responses/Refused\"}");
    leave(w, '}');
}

/* --- operations --------------------------------------------------------------------------- */

static void
put_security(struct writer *w, const struct kt_op_spec *spec)
{
    enter(w, "security", '[');
    if (explain_takes_caller(spec)) {
        enter(w, NULL, '{');
        enter(w, "bearerAuth", '[');
        if (spec->scope)
            say(w, NULL, spec->scope);
        leave(w, ']');
        leave(w, '}');
    }
    leave(w, ']');
}

static const char *
lower_method(const struct kt_op_spec *spec)
{
    static const char *const names[] = { "get", "put", "post", "delete" };
    const char *method = explain_method(spec);
    size_t i = 0;
    while (i < sizeof names / sizeof names[0] - 1 && strcasecmp(names[i], method) != 0)
        i++;
    return names[i];
}

/* What a reader of one operation alone wants to know beyond its sentence. */
static void
put_description(struct writer *w, const struct kt_op_spec *spec)
{
    struct kt_buf text;
    kt_buf_init(&text, 1024);
    if (strcmp(spec->http_method, "*") == 0)
        kt_buf_puts(&text, "Any other method does the same. ");
    if (spec->scope)
        kt_buf_printf(&text, "Needs the scope `%s`. ", spec->scope);
    else
        kt_buf_printf(&text, "Needs %s. ", explain_takes_caller(spec) ? "a credential and no scope"
                                                                      : "no credential");
    if (explain_takes_key(spec))
        kt_buf_puts(&text, "With an `Idempotency-Key` it is done once, however often it is sent. ");
    if (spec->socket)
        kt_buf_printf(&text, "On the local socket: `%s`.", spec->name);
    else
        kt_buf_puts(&text, "Not on the local socket.");
    begin(w, "description");
    kt_json_put_str(w->buf, kt_buf_str(&text));
    w->buf->failed |= text.failed;
    kt_buf_done(&text);
}

static void
put_operation(struct writer *w, const struct kt_op_spec *spec)
{
    enter(w, lower_method(spec), '{');
    enter(w, "tags", '[');
    say(w, NULL, explain_group(spec)->title);
    leave(w, ']');
    say(w, "operationId", spec->id);
    say(w, "summary", spec->doc);
    put_description(w, spec);
    say(w, "x-kaiten-operation", spec->name);
    put_security(w, spec);
    put_params(w, spec);
    put_body(w, spec);
    put_responses(w, spec);
    leave(w, '}');
}

static bool
is_first_of_path(size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (kt_op_specs[k].http_path &&
            strcmp(kt_op_specs[k].http_path, kt_op_specs[i].http_path) == 0)
            return false;
    return true;
}

static void
put_paths(struct writer *w)
{
    enter(w, "paths", '{');
    for (size_t i = 0; i < KT_OP_COUNT; i++) {
        const char *path = kt_op_specs[i].http_path;
        if (!path || !is_first_of_path(i))
            continue;
        enter(w, path, '{');
        for (size_t k = i; k < KT_OP_COUNT; k++)
            if (kt_op_specs[k].http_path && strcmp(kt_op_specs[k].http_path, path) == 0)
                put_operation(w, &kt_op_specs[k]);
        leave(w, '}');
    }
    leave(w, '}');
}

/* --- the rest ----------------------------------------------------------------------------- */

static void
put_info(struct writer *w)
{
    enter(w, "info", '{');
    say(w, "title", "kaitend");
    say(w, "version", PACKAGE_VERSION);
    say(w, "summary", "Service accounts and their API tokens.");
    say(w, "description",
        "Mints, rotates, revokes and verifies API tokens. Every refusal is problem details "
        "(RFC 9457), and its `code` is for programs. Instants are RFC 3339 in UTC. Unknown members "
        "of a body are refused, unknown query parameters are ignored; read-only members may be "
        "sent back and are ignored, and need not be there whatever `required` says; `null` for an "
        "optional member is the same as its absence. Lists are pages, newest first: go "
        "on with `nextCursor` as `cursor` while `hasMore`.");
    say_json(w, "contact", "{\"name\":\"the kaiten authors\"}");
    say_json(w, "license", "{\"name\":\"Apache-2.0\",\"identifier\":\"Apache-2.0\"}");
    leave(w, '}');
}

static void
put_tags(struct writer *w)
{
    enter(w, "tags", '[');
    for (size_t i = 0; i < EXPLAIN_GROUPS; i++) {
        enter(w, NULL, '{');
        say(w, "name", explain_groups[i].title);
        say(w, "description", explain_groups[i].doc);
        leave(w, '}');
    }
    leave(w, ']');
}

static void
put_scheme(struct writer *w, const struct kt_strlist *scopes)
{
    enter(w, "securitySchemes", '{');
    enter(w, "bearerAuth", '{');
    say(w, "type", "http");
    say(w, "scheme", "bearer");
    say(w, "description", "A JWT of a trusted issuer, or a token that was minted here (`ksh_`). "
                          "An operation asks for the scope that stands at it; `write` of a module "
                          "includes its `read`.");
    enter(w, "x-kaiten-scopes", '[');
    for (size_t i = 0; i < scopes->n; i++) {
        begin(w, NULL);
        kt_json_put_str(w->buf, scopes->v[i]);
    }
    leave(w, ']');
    leave(w, '}');
    leave(w, '}');
}

static void
put_components(struct writer *w, const struct kt_strlist *scopes)
{
    enter(w, "components", '{');
    put_schemas(w);
    say_json(w, "parameters",
             "{\"IdempotencyKey\":{\"name\":\"Idempotency-Key\",\"in\":\"header\","
             "\"description\":\"The same request with the same key gets the same answer once more,"
             " for ten minutes. The double quotes around it may be left out.\","
             "\"schema\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":257,"
             "\"pattern\":\"^(\\\"[!#-\\\\[\\\\]-~]{1,255}\\\"|[!#-~][!-~]{0,254})$\"},"
             "\"example\":\"019a7c90-1b2d-7e43-8f60-718293a4b5c6\"}}");
    say_json(w, "responses",
             "{\"Refused\":{\"description\":\"Any other refusal of a request.\",\"content\":"
             "{\"application/problem+json\":{\"schema\":"
             "{\"$ref\":\"#/components/schemas/Problem\"}}}}}");
    put_scheme(w, scopes);
    leave(w, '}');
}

void
openapi_print(struct kt_buf *buf, const struct kt_strlist *scopes)
{
    struct writer w = { buf, false };
    enter(&w, NULL, '{');
    say(&w, "openapi", "3.1.0");
    put_info(&w);
    say_json(&w, "servers", "[{\"url\":\"/api\"}]");
    put_tags(&w);
    put_paths(&w);
    put_components(&w, scopes);
    leave(&w, '}');
    kt_buf_putc(buf, '\n');
}
