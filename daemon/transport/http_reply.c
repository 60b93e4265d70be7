/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/http.h"

#include "client/proto/encode.h"
#include "client/proto/json.h"
#include "daemon/codec/problem.h"

#include <stdio.h>
#include <time.h>

enum {
    LENGTH_DIGITS = 10,   /* room left for the Content-Length until it is known */
    RETRY_AFTER_SECONDS = 1
};

static const struct kt_str json_type = { "application/json", 16 };
static const struct kt_str problem_type = { "application/problem+json", 24 };

static bool
is_refused(const struct request *rq)
{
    return rq->call.err.kind != KT_OK || !rq->spec;
}

/* RFC 9110 section 13.1.2: a list of tags or a star. A tag has its quotes with it, so it is found
 * whole or not at all. */
static bool
is_unchanged(const struct request *rq)
{
    if (is_refused(rq) || !rq->spec->media || !rq->out.text.etag.p || !rq->if_none_match.n)
        return false;
    struct kt_str tag = rq->out.text.etag, list = rq->if_none_match;
    return kt_str_is(list, "*") || memmem(list.p, list.n, tag.p, tag.n);
}

/* Nothing stands behind the headers, not even a length (RFC 9110 section 8.6). */
static bool
has_no_content(const struct request *rq)
{
    return !is_refused(rq) && (rq->spec->http_ok == 204 || is_unchanged(rq));
}

static void
put_status(struct kt_buf *out, const struct request *rq)
{
    if (is_refused(rq)) {
        const struct kt_kind_info *info =
            kt_kind_info(rq->call.err.kind ? rq->call.err.kind : KT_INTERNAL);
        kt_buf_printf(out, "HTTP/1.1 %d %s\r\n", info->http, info->title);
    } else if (rq->spec->http_ok == 201) {
        kt_buf_put_str(out, KT_LIT("HTTP/1.1 201 Created\r\n"));
    } else if (rq->spec->http_ok == 204) {
        kt_buf_put_str(out, KT_LIT("HTTP/1.1 204 No Content\r\n"));
    } else if (is_unchanged(rq)) {
        kt_buf_put_str(out, KT_LIT("HTTP/1.1 304 Not Modified\r\n"));
    } else {
        kt_buf_put_str(out, KT_LIT("HTTP/1.1 200 OK\r\n"));
    }
}

/* Printed once per second and loop; without strftime(), whose names follow the locale. */
static void
put_date(struct kt_buf *out)
{
    static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    static _Thread_local struct {
        time_t second;
        int n;
        char text[64];
    } date;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    struct tm tm;
    if ((date.n == 0 || date.second != now.tv_sec) && gmtime_r(&now.tv_sec, &tm)) {
        date.second = now.tv_sec;
        date.n = snprintf(date.text, sizeof date.text,
                          "Date: %s, %02d %s %d %02d:%02d:%02d GMT\r\n", days[tm.tm_wday],
                          tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
                          tm.tm_sec);
    }
    kt_buf_put(out, date.text, (size_t)date.n);
}

/* name: with what stands between it and the value. */
static void
put_header(struct kt_buf *out, const char *name, struct kt_str value)
{
    kt_buf_puts(out, name);
    kt_buf_put_str(out, value);
    kt_buf_put(out, "\r\n", 2);
}

/* RFC 6750 section 3: no error attribute for who has not shown a bearer token. */
static void
put_challenge(struct kt_buf *out, const struct request *rq)
{
    const struct kt_error *err = &rq->call.err;
    if (err->kind == KT_UNAUTHORIZED && rq->credential.p)
        kt_buf_put_str(out, KT_LIT("WWW-Authenticate: Bearer realm=\"kaiten\","
                                   " error=\"invalid_token\"\r\n"));
    else if (err->kind == KT_UNAUTHORIZED)
        kt_buf_put_str(out, KT_LIT("WWW-Authenticate: Bearer realm=\"kaiten\"\r\n"));
    else if (err->kind == KT_FORBIDDEN && err->code &&
             strcmp(err->code, "Auth.MissingScope") == 0 && rq->spec && rq->spec->scope)
        kt_buf_printf(out, "WWW-Authenticate: Bearer realm=\"kaiten\","
                           " error=\"insufficient_scope\", scope=\"%s\"\r\n", rq->spec->scope);
}

static void
put_refusal_headers(struct kt_buf *out, const struct request *rq)
{
    enum kt_kind kind = rq->call.err.kind;
    kt_buf_put_str(out, KT_LIT("Cache-Control: no-store\r\n"));
    put_challenge(out, rq);
    if (kind == KT_METHOD && rq->allow.n)
        put_header(out, "Allow: ", rq->allow);
    int64_t retry_s = rq->call.err.retry_after_s;
    if (kind == KT_TOO_MANY_REQUESTS || kind == KT_UNAVAILABLE)
        kt_buf_printf(out, "Retry-After: %lld\r\n",
                      (long long)(retry_s > 0 ? retry_s : RETRY_AFTER_SECONDS));
}

/* What may be kept is asked for again each time. A page has no business but to be read. */
static void
put_text_headers(struct kt_buf *out, const struct kt_text *text)
{
    if (!text->etag.p) {
        kt_buf_put_str(out, KT_LIT("Cache-Control: no-store\r\n"));
        return;
    }
    put_header(out, "ETag: ", text->etag);
    kt_buf_put_str(out, KT_LIT("Cache-Control: no-cache\r\n"
                               "X-Content-Type-Options: nosniff\r\n"
                               "Content-Security-Policy: default-src 'none'; style-src 'self'; "
                               "base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"));
}

static void
put_answer_headers(struct kt_buf *out, const struct request *rq)
{
    if (rq->spec->media)
        put_text_headers(out, &rq->out.text);
    else
        kt_buf_put_str(out, KT_LIT("Cache-Control: no-store\r\n"));
    if (rq->bearer.p)
        put_header(out, "Authorization: Bearer ", rq->bearer);
}

/* An answer with a status but nothing to say has length 0 and no type. */
static struct kt_str
type_of(const struct request *rq)
{
    if (is_refused(rq))
        return problem_type;
    if (rq->spec->media)
        return kt_str(rq->spec->media);
    if (rq->spec->out || (rq->spec->loose && rq->out.value))
        return json_type;
    return (struct kt_str){ NULL, 0 };
}

static void
put_body(struct kt_buf *out, struct request *rq)
{
    if (is_refused(rq))
        problem_json(out, rq);
    else if (rq->spec->media)
        kt_buf_put_str(out, rq->out.text.body);
    else if (rq->spec->out)
        kt_encode_json(out, rq->spec->out, &rq->out);
    else if (rq->spec->loose && rq->out.value)
        kt_json_put_value(out, rq->out.value);
}

/* The length stands before what it counts: room is left for it, and the rest moved up to it. */
static void
put_counted_body(struct kt_buf *out, struct request *rq, bool head_only)
{
    struct kt_str type = type_of(rq);
    kt_buf_put_str(out, KT_LIT("Content-Length: "));
    size_t digits = out->n;
    kt_buf_put(out, "          \r\n\r\n", LENGTH_DIGITS + 4);
    size_t body = out->n;
    put_body(out, rq);
    if (type.p && (is_refused(rq) || !rq->spec->media))
        kt_buf_putc(out, '\n');
    if (out->failed)
        return;
    char length[LENGTH_DIGITS];
    size_t unused = LENGTH_DIGITS, left = out->n - body;
    do
        length[--unused] = (char)('0' + left % 10);
    while ((left /= 10) && unused);
    if (left) {
        out->failed = true;
        return;
    }
    memcpy(out->p + digits, length + unused, LENGTH_DIGITS - unused);
    size_t tail = head_only ? body : out->n;
    memmove(out->p + body - 4 - unused, out->p + body - 4, tail - (body - 4));
    out->n = tail - unused;
}

static void
put_reply(struct kt_buf *out, struct request *rq, struct http_framing framing)
{
    put_status(out, rq);
    put_date(out);
    if (type_of(rq).p && !has_no_content(rq))
        put_header(out, "Content-Type: ", type_of(rq));
    if (is_refused(rq))
        put_refusal_headers(out, rq);
    else
        put_answer_headers(out, rq);
    if (framing.close)
        kt_buf_put_str(out, KT_LIT("Connection: close\r\n"));
    else if (framing.keep_alive)
        kt_buf_put_str(out, KT_LIT("Connection: keep-alive\r\n"));
    if (has_no_content(rq))
        kt_buf_put(out, "\r\n", 2);
    else
        put_counted_body(out, rq, framing.head_only);
}

void
http_reply(struct kt_buf *out, struct request *rq, struct http_framing framing)
{
    size_t start = out->n;
    put_reply(out, rq, framing);
    if (!out->failed)
        return;
    out->n = start;
    out->failed = false;
    rq->call.err = (struct kt_error){
        .kind = KT_UNAVAILABLE,
        .detail = KT_LIT("the answer is too large for this server now"),
    };
    put_reply(out, rq, framing);
}
