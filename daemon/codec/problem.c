/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/codec/problem.h"

#include "client/proto/json.h"
#include "client/proto/pack.h"

enum {
    MEMBERS_MAX = 8,
    QUOTE_MAX = 4096, /* the most a quoted value may weigh: each violation may quote the body */
    SECRET_MIN = 16   /* letters and digits behind the prefix: fewer are of no use to anybody */
};

/* The members before errors[], in the order of the wire. A number has no text. */
struct problem {
    struct {
        const char *name;
        struct kt_str text;
        int64_t number;
    } member[MEMBERS_MAX];
    size_t n;
    const struct kt_field_error *fields;
    size_t nfields;
};

static void
add(struct problem *problem, const char *name, struct kt_str text)
{
    if (text.n == 0)
        return;
    problem->member[problem->n].name = name;
    problem->member[problem->n++].text = text;
}

static struct problem
problem_of(const struct request *rq)
{
    const struct kt_error *err = &rq->call.err;
    /* A refusal without a kind is a bug of ours; it must not look like a success. */
    const struct kt_kind_info *info = kt_kind_info(err->kind ? err->kind : KT_INTERNAL);
    struct problem problem = { .n = 0 };
    add(&problem, "type", kt_str(info->type));
    add(&problem, "title", kt_str(info->title));
    problem.member[problem.n].name = "status";
    problem.member[problem.n++].number = info->http;
    add(&problem, "detail", err->detail);
    add(&problem, "instance", rq->path.n ? rq->path : rq->method);
    add(&problem, "code", kt_str(err->code ? err->code : info->code));
    add(&problem, "errorId", kt_str(err->id));
    if (err->retry_after_s > 0) {
        problem.member[problem.n].name = "retryAfter";
        problem.member[problem.n++].number = err->retry_after_s;
    }
    problem.fields = err->fields;
    problem.nfields = !err->fields ? 0
        : err->nfields < KT_FIELD_ERRORS_MAX ? err->nfields : (size_t)KT_FIELD_ERRORS_MAX;
    return problem;
}

/* Takes the weight of a text off what is left. False: it is too long, or may be one of our
 * tokens. */
static bool
may_quote_text(struct kt_str s, size_t *left)
{
    if (s.n + 1 > *left || (s.n && memmem(s.p, s.n, "ksh_", 4)))
        return false;
    *left -= s.n + 1;
    return true;
}

/* A client may log or show a refusal, so it quotes no secret, wherever the sender put it, and it is
 * not many times as long as what it refuses. The depth of a request's tree is bounded, and so is
 * the recursion. */
static bool
may_quote(const struct kt_value *value, size_t *left)
{
    bool is_text = value->type == KT_V_STR || value->type == KT_V_BIN;
    if (!may_quote_text(is_text ? value->s : (struct kt_str){ NULL, 0 }, left))
        return false;
    for (size_t i = 0; value->type == KT_V_ARRAY && i < value->array.n; i++)
        if (!may_quote(&value->array.v[i], left))
            return false;
    for (size_t i = 0; value->type == KT_V_MAP && i < value->map.n; i++)
        if (!may_quote_text(value->map.v[i].name, left) ||
            !may_quote(&value->map.v[i].value, left))
            return false;
    return true;
}

static bool
field_has_value(const struct kt_field_error *field)
{
    size_t left = QUOTE_MAX;
    return field->value && field->value->type != KT_V_NULL && may_quote(field->value, &left);
}

static bool
is_base62(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* The length stays the same, so this works for JSON and for MessagePack. */
void
problem_mask(struct kt_buf *buf, size_t from)
{
    char *end = buf->p + buf->n, *p = buf->n > from ? buf->p + from : end;
    while (p < end && (p = memmem(p, (size_t)(end - p), "ksh_", 4))) {
        char *secret = p += 4;
        while (p < end && is_base62(*p))
            p++;
        if (p - secret >= SECRET_MIN)
            memset(secret, '*', (size_t)(p - secret));
        else
            p = secret;
    }
}

/* Puts "name": and, from the second member on, the comma before it. */
static void
json_name(struct kt_buf *buf, const char *name, bool *first)
{
    if (!*first)
        kt_buf_putc(buf, ',');
    *first = false;
    kt_json_put_str(buf, kt_str(name));
    kt_buf_putc(buf, ':');
}

static void
json_field(struct kt_buf *buf, const struct kt_field_error *field)
{
    bool first = true;
    kt_buf_putc(buf, '{');
    if (field->message.n) {
        json_name(buf, "message", &first);
        kt_json_put_str(buf, field->message);
    }
    if (field->location.n) {
        json_name(buf, "location", &first);
        kt_json_put_str(buf, field->location);
    }
    if (field_has_value(field)) {
        json_name(buf, "value", &first);
        kt_json_put_value(buf, field->value);
    }
    kt_buf_putc(buf, '}');
}

void
problem_json(struct kt_buf *buf, struct request *rq)
{
    struct problem problem = problem_of(rq);
    size_t from = buf->n;
    bool first = true;
    kt_buf_putc(buf, '{');
    for (size_t i = 0; i < problem.n; i++) {
        json_name(buf, problem.member[i].name, &first);
        if (problem.member[i].text.p)
            kt_json_put_str(buf, problem.member[i].text);
        else
            kt_json_put_int(buf, problem.member[i].number);
    }
    if (problem.nfields) {
        json_name(buf, "errors", &first);
        for (size_t i = 0; i < problem.nfields; i++) {
            kt_buf_putc(buf, i ? ',' : '[');
            json_field(buf, &problem.fields[i]);
        }
        kt_buf_putc(buf, ']');
    }
    kt_buf_putc(buf, '}');
    problem_mask(buf, from);
}

static void
pack_text(struct kt_buf *buf, const char *name, struct kt_str text)
{
    if (text.n == 0)
        return;
    kt_pack_put_str(buf, kt_str(name));
    kt_pack_put_str(buf, text);
}

static void
pack_field(struct kt_buf *buf, const struct kt_field_error *field)
{
    bool valued = field_has_value(field);
    kt_pack_put_map(buf, (size_t)(field->message.n > 0) + (field->location.n > 0) + valued);
    pack_text(buf, "message", field->message);
    pack_text(buf, "location", field->location);
    if (!valued)
        return;
    kt_pack_put_str(buf, KT_LIT("value"));
    kt_pack_put_value(buf, field->value);
}

void
problem_pack(struct kt_buf *buf, struct request *rq)
{
    struct problem problem = problem_of(rq);
    size_t from = buf->n;
    kt_pack_put_map(buf, problem.n + (problem.nfields > 0));
    for (size_t i = 0; i < problem.n; i++) {
        kt_pack_put_str(buf, kt_str(problem.member[i].name));
        if (problem.member[i].text.p)
            kt_pack_put_str(buf, problem.member[i].text);
        else
            kt_pack_put_int(buf, problem.member[i].number);
    }
    if (problem.nfields) {
        kt_pack_put_str(buf, KT_LIT("errors"));
        kt_pack_put_array(buf, problem.nfields);
        for (size_t i = 0; i < problem.nfields; i++)
            pack_field(buf, &problem.fields[i]);
    }
    problem_mask(buf, from);
}
