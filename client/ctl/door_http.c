/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/ctl/door.h"

#include "client/ctl/ctl.h"
#include "client/proto/json.h"
#include "client/proto/wipe.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { URL_MAX = 16 * 1024, BODY_MAX = 1024 * 1024 };

struct http_door {
    struct door pub;
    CURL *curl;
    char *url;
    unsigned timeout_ms;
    const struct secret_in *credential;
};

/* --- the request, by the row of the table ------------------------------------------------- */

struct plan {
    CURL *curl;
    const struct kt_op_spec *spec;
    const struct kt_value *args;
    struct kt_buf url, body;
    bool has_body;
    struct answer *answer;
};

static int
usage(struct plan *p, const char *what, const char *problem)
{
    return answer_fail(p->answer, KAITEN_EUSAGE, "Client.Usage", "%s %s", what, problem);
}

static void
put_escaped(struct plan *p, struct kt_str s)
{
    char *text = curl_easy_escape(p->curl, s.n ? s.p : "", (int)s.n);
    if (text)
        kt_buf_puts(&p->url, text);
    else
        p->url.failed = true;
    curl_free(text);
}

/* Numbers and booleans in a path or a query are written as in JSON. */
static void
put_parameter(struct plan *p, const struct kt_value *v)
{
    if (v->type == KT_V_STR) {
        put_escaped(p, v->s);
        return;
    }
    struct kt_buf text;
    kt_buf_init(&text, 4096);
    kt_json_put_value(&text, v);
    put_escaped(p, kt_buf_str(&text));
    kt_buf_done(&text);
}

static const struct kt_field *
find_field(const struct kt_op_spec *spec, struct kt_str name)
{
    for (const struct kt_field *f = spec->in->fields; f->name; f++)
        if (kt_str_is(name, f->name))
            return f;
    return NULL;
}

static int
plan_path(struct plan *p)
{
    const char *at = p->spec->http_path;
    while (*at) {
        const char *open = strchrnul(at, '{');
        kt_buf_put(&p->url, at, (size_t)(open - at));
        if (!*open)
            break;
        const char *close = strchrnul(open, '}');
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(close - open - 1), open + 1);
        const struct kt_value *v = kt_value_get(p->args, name);
        if (!v || v->type != KT_V_STR || v->s.n == 0)
            return usage(p, name, "is missing");
        put_parameter(p, v);
        at = *close ? close + 1 : close;
    }
    return 0;
}

static void
plan_query(struct plan *p)
{
    char sep = '?';
    for (size_t i = 0; i < p->args->map.n; i++) {
        const struct kt_member *m = &p->args->map.v[i];
        const struct kt_field *f = find_field(p->spec, m->name);
        if (!f || f->place != KT_QUERY)
            continue;
        kt_buf_putc(&p->url, sep);
        put_escaped(p, m->name);
        kt_buf_putc(&p->url, '=');
        put_parameter(p, &m->value);
        sep = '&';
    }
}

/* What is neither path nor query. A member that cannot be sent is refused rather than dropped: it
 * may have been a restriction. */
static int
plan_body(struct plan *p)
{
    char sep = '{';
    for (size_t i = 0; i < p->args->map.n; i++) {
        const struct kt_member *m = &p->args->map.v[i];
        const struct kt_field *f = find_field(p->spec, m->name);
        if (f && f->place != KT_BODY)
            continue;
        if (p->spec->body == KT_BODY_NONE)
            return usage(p, m->name.p, "means nothing to this method over HTTP");
        kt_buf_putc(&p->body, sep);
        kt_json_put_str(&p->body, m->name);
        kt_buf_putc(&p->body, ':');
        kt_json_put_value(&p->body, &m->value);
        sep = ',';
    }
    p->has_body = sep == ',' || p->spec->body == KT_BODY_REQUIRED;
    kt_buf_puts(&p->body, sep == ',' ? "}" : "{}");
    return 0;
}

static int
plan_make(struct plan *p, const char *url)
{
    kt_buf_puts(&p->url, url);
    int error = plan_path(p);
    if (error)
        return error;
    plan_query(p);
    kt_buf_putc(&p->url, '\0');
    error = plan_body(p);
    if (!error && (p->url.failed || p->body.failed))
        error = usage(p, "the arguments", "are too long");
    return error;
}

/* --- the exchange ------------------------------------------------------------------------- */

static size_t
on_bytes(char *p, size_t size, size_t n, void *buf)
{
    kt_buf_put(buf, p, size * n);
    return ((struct kt_buf *)buf)->failed ? 0 : size * n;
}

static struct curl_slist *
make_headers(const struct http_door *d, bool has_body)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Accept: application/json");
    /* Without waiting for 100 Continue, and without a content type for forms. */
    struct curl_slist *more = curl_slist_append(headers, "Expect:");
    if (more && has_body)
        more = curl_slist_append(headers, "Content-Type: application/json");
    if (more && d->credential->n) {
        char *line = malloc(d->credential->n + 32);
        if (line) {
            int n = snprintf(line, d->credential->n + 32, "Authorization: Bearer %.*s",
                             (int)d->credential->n, d->credential->p);
            more = curl_slist_append(headers, line);
            kt_wipe(line, (size_t)n);
        }
        free(line);
        more = line ? more : NULL;
    }
    if (more)
        return headers;
    curl_slist_free_all(headers);
    return NULL;
}

static void
free_headers(struct curl_slist *headers)
{
    for (struct curl_slist *h = headers; h; h = h->next)
        kt_wipe(h->data, strlen(h->data));
    curl_slist_free_all(headers);
}

static void
set_options(struct http_door *d, const struct plan *p, struct curl_slist *headers,
            struct kt_buf *reply)
{
    const char *method = p->spec->http_method;
    curl_easy_reset(d->curl);
    curl_easy_setopt(d->curl, CURLOPT_URL, p->url.p);
    curl_easy_setopt(d->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(d->curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(d->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(d->curl, CURLOPT_TIMEOUT_MS, (long)d->timeout_ms);
    curl_easy_setopt(d->curl, CURLOPT_USERAGENT, "kaitenctl/" PACKAGE_VERSION);
    curl_easy_setopt(d->curl, CURLOPT_CUSTOMREQUEST, strcmp(method, "*") == 0 ? "GET" : method);
    curl_easy_setopt(d->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(d->curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(d->curl, CURLOPT_WRITEDATA, reply);
    if (!p->has_body)
        return;
    curl_easy_setopt(d->curl, CURLOPT_POSTFIELDSIZE, (long)p->body.n);
    curl_easy_setopt(d->curl, CURLOPT_POSTFIELDS, p->body.p);
}

static int
curl_failed(struct answer *a, CURLcode rc, const char *text)
{
    const char *why = text[0] ? text : curl_easy_strerror(rc);
    switch (rc) {
    case CURLE_OPERATION_TIMEDOUT:
        return answer_fail(a, KAITEN_ETIMEOUT, "Client.Timeout", "%s", why);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return answer_fail(a, KAITEN_EUSAGE, "Client.Usage", "%s", why);
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CIPHER:
    case CURLE_PEER_FAILED_VERIFICATION:
        return answer_fail(a, KAITEN_ECONNECT, "Client.Connect", "%s", why);
    case CURLE_OUT_OF_MEMORY: return answer_fail(a, KAITEN_EMEMORY, "Client.Memory", "%s", why);
    case CURLE_WRITE_ERROR:
        return answer_fail(a, KAITEN_EPROTOCOL, "Client.Protocol", "the answer is too large");
    default: return answer_fail(a, KAITEN_ELOST, "Client.Lost", "%s", why);
    }
}

static int
status_error(long status)
{
    return status >= 400 && status < 600 ? (int)status : KAITEN_EPROTOCOL;
}

static int
read_refusal(struct answer *a, long status, const struct kt_buf *reply)
{
    if (status_error(status) == KAITEN_EPROTOCOL)
        return answer_fail(a, KAITEN_EPROTOCOL, "Client.Protocol",
                           "the server answered with status %ld", status);
    if (answer_read(a, kt_buf_str(reply), &a->problem) && a->problem.type == KT_V_MAP)
        return answer_refused(a, (int)status);
    a->problem = (struct kt_value){ .type = KT_V_NULL };
    return answer_fail(a, (int)status, "", "the server answered with status %ld", status);
}

static bool
answers_json(const struct kt_op_spec *spec)
{
    return spec->out || spec->loose ||
           (spec->media && strcmp(spec->media, "application/json") == 0);
}

static int
read_reply(struct plan *p, long status, const struct kt_buf *reply)
{
    if (status < 200 || status > 299)
        return read_refusal(p->answer, status, reply);
    if (!answers_json(p->spec))
        return 0;
    if (answer_read(p->answer, kt_buf_str(reply), &p->answer->value))
        return 0;
    return answer_fail(p->answer, KAITEN_EPROTOCOL, "Client.Protocol",
                       "the answer is no JSON, or too large");
}

static int
exchange(struct http_door *d, struct plan *p)
{
    struct curl_slist *headers = make_headers(d, p->has_body);
    if (!headers)
        return answer_fail(p->answer, KAITEN_EMEMORY, "Client.Memory", "no memory");
    struct kt_buf reply;
    kt_buf_init(&reply, DOOR_ANSWER_MAX);
    char text[CURL_ERROR_SIZE] = "";
    set_options(d, p, headers, &reply);
    curl_easy_setopt(d->curl, CURLOPT_ERRORBUFFER, text);
    CURLcode rc = curl_easy_perform(d->curl);
    long status = 0;
    curl_easy_getinfo(d->curl, CURLINFO_RESPONSE_CODE, &status);
    int error = rc == CURLE_OK ? read_reply(p, status, &reply)
                               : curl_failed(p->answer, rc, text);
    kt_buf_done(&reply);
    free_headers(headers);
    return error;
}

static int
http_call(struct door *door, const char *method, const struct kt_value *args, struct answer *a)
{
    struct http_door *d = (struct http_door *)door;
    const struct kt_op_spec *spec = kt_op_find(kt_str(method));
    if (!spec || !spec->http_method)
        return answer_fail(a, KAITEN_EUSAGE, "Client.Usage", "%s is not to be had over HTTP",
                           method);
    struct plan p = { .curl = d->curl, .spec = spec, .args = args, .answer = a };
    kt_buf_init(&p.url, URL_MAX);
    kt_buf_init(&p.body, BODY_MAX);
    int error = plan_make(&p, d->url);
    if (!error)
        error = exchange(d, &p);
    kt_buf_done(&p.url);
    kt_buf_done(&p.body);
    return error;
}

/* --- opening ------------------------------------------------------------------------------ */

static void
http_close(struct door *door)
{
    struct http_door *d = (struct http_door *)door;
    curl_easy_cleanup(d->curl);
    curl_global_cleanup();
    free(d->url);
    free(d);
}

/* A credential may travel in clear text on this machine only. In the URL the host stands after a
 * user's name, if there is one, and before the port. */
static bool
is_local(const char *url)
{
    const char *host = strchr(url, ':') + 3;
    size_t n = strcspn(host, "/?#");
    const char *at = memrchr(host, '@', n);
    if (at) {
        n -= (size_t)(at + 1 - host);
        host = at + 1;
    }
    const char *port = *host == '[' ? memchr(host, ']', n) : memchr(host, ':', n);
    if (port)
        n = (size_t)(port - host);
    return (n == 9 && strncasecmp(host, "localhost", n) == 0) ||
           (n == 4 && strncmp(host, "[::1", n) == 0) ||
           (n > 4 && strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") >= n);
}

static bool
is_address(const char *url)
{
    const char *host = strstr(url, "://");
    size_t scheme = host ? (size_t)(host - url) : 0;
    bool known = (scheme == 4 && strncasecmp(url, "http", scheme) == 0) ||
                 (scheme == 5 && strncasecmp(url, "https", scheme) == 0);
    return known && !strchr("/?#:@", host[3]); /* the end of the text counts as one of them */
}

struct door *
door_http(const char *url, unsigned timeout_ms, const struct secret_in *credential)
{
    if (!is_address(url)) {
        ctl_fail(CTL_USAGE, "an address looks like https://host:port or http://127.0.0.1:8080",
                 "--url %s", url);
        return NULL;
    }
    bool plain = strncasecmp(url, "http://", 7) == 0;
    if (plain && credential->n && !is_local(url))
        ctl_note("note: the token goes to %s in the clear; use https", url);
    struct http_door *d = calloc(1, sizeof *d);
    if (d && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) {
        d->pub = (struct door){ true, http_call, http_close };
        d->curl = curl_easy_init();
        d->url = strdup(url);
        d->timeout_ms = timeout_ms;
        d->credential = credential;
        if (d->curl && d->url) {
            for (size_t n = strlen(d->url); n && d->url[n - 1] == '/'; n--)
                d->url[n - 1] = '\0';
            return &d->pub;
        }
        http_close(&d->pub);
        d = NULL;
    }
    free(d);
    ctl_fail(CTL_OTHER, NULL, "no memory for HTTP");
    return NULL;
}
