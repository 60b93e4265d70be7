/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* libkaiten against a server in a thread of the test, which says what each case wants. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/kaiten.h"
#include "client/proto/error.h"
#include "client/proto/json.h"
#include "client/proto/ops.h"
#include "client/proto/pack.h"
#include "client/proto/secret.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SECRET "ksh_0123456789abcdefghijklmnopqrst"

/* --- the server --------------------------------------------------------------------------- */

struct conn {
    int fd;
    int nth; /* 0 for the first connection of the case */
    char bytes[1024 * 1024];
    size_t n;
    struct kt_arena arena;
};

struct request {
    int64_t id;
    struct kt_str method;
    const struct kt_value *args, *meta;
};

struct server {
    char dir[64], path[96];
    int fd;
    pthread_t thread;
    void (*serve)(struct conn *);
    struct kaiten *k;
};

static atomic_int requests; /* that the server has read, greetings not counted */
static atomic_int closed;   /* connections that the server has ended */

/* False: the client has closed. The request is valid until the next call. */
static bool
read_any(struct conn *c, struct request *ret)
{
    static const struct kt_pack_limits limits = { 64 * 1024, 8, 4096, 64 * 1024 };
    struct kt_value *v = kt_arena_alloc(&c->arena, sizeof *v);
    size_t len;
    const char *why;
    for (;;) {
        struct kt_str bytes = { c->bytes, c->n };
        if (c->n && kt_pack_read(bytes, &limits, &c->arena, v, &len, &why) == KT_FRAME_DONE)
            break;
        ssize_t n = recv(c->fd, c->bytes + c->n, sizeof c->bytes - c->n, 0);
        if (n <= 0)
            return false;
        c->n += (size_t)n;
    }
    /* Views must outlive the bytes that move up. */
    char *keep = kt_arena_alloc(&c->arena, len);
    memcpy(keep, c->bytes, len);
    assert_int_equal(kt_pack_read((struct kt_str){ keep, len }, &limits, &c->arena, v, &len, &why),
                     KT_FRAME_DONE);
    memmove(c->bytes, c->bytes + len, c->n - len);
    c->n -= len;
    const struct kt_value *p = &v->array.v[3];
    *ret = (struct request){ v->array.v[1].i, v->array.v[2].s, &p->array.v[0],
                             p->array.n > 1 ? &p->array.v[1] : NULL };
    return true;
}

static bool
read_request(struct conn *c, struct request *ret)
{
    bool ok = read_any(c, ret);
    requests += ok;
    return ok;
}

static void
put(struct conn *c, const void *p, size_t n)
{
    const char *next = p;
    while (n > 0) {
        ssize_t done = send(c->fd, next, n, MSG_NOSIGNAL);
        if (done <= 0)
            return;
        next += done;
        n -= (size_t)done;
    }
}

static void
put_json(struct conn *c, struct kt_buf *buf, const char *json)
{
    struct kt_value v;
    struct kt_json_error e;
    if (kt_json_read(kt_str(json), &c->arena, NULL, &v, &e) != 0)
        abort();
    kt_pack_put_value(buf, &v);
}

static struct kt_buf
make_reply(struct conn *c, int64_t id, const char *error, const char *result)
{
    struct kt_buf buf;
    kt_buf_init(&buf, 1024 * 1024);
    kt_pack_put_array(&buf, 4);
    kt_pack_put_int(&buf, 1);
    kt_pack_put_int(&buf, id);
    put_json(c, &buf, error);
    put_json(c, &buf, result);
    return buf;
}

static void
reply(struct conn *c, int64_t id, const char *error, const char *result)
{
    struct kt_buf buf = make_reply(c, id, error, result);
    put(c, buf.p, buf.n);
    kt_buf_done(&buf);
}

static void
greet(struct conn *c)
{
    struct request r;
    if (read_any(c, &r))
        reply(c, r.id, "null", "{\"protocol\":1}");
}

static void *
serve_all(void *arg)
{
    struct server *s = arg;
    struct conn *c = malloc(sizeof *c);
    for (int nth = 0;; nth++) {
        *c = (struct conn){ .fd = accept(s->fd, NULL, NULL), .nth = nth };
        if (c->fd < 0)
            break;
        kt_arena_init(&c->arena, 64 * 1024 * 1024);
        s->serve(c);
        kt_arena_done(&c->arena);
        close(c->fd);
        closed++;
    }
    free(c);
    return NULL;
}

static struct server
start(void (*serve)(struct conn *))
{
    struct server s = { .dir = "/tmp/test-client-XXXXXX", .serve = serve };
    assert_non_null(mkdtemp(s.dir));
    snprintf(s.path, sizeof s.path, "%s/rpc.sock", s.dir);
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    snprintf(at.sun_path, sizeof at.sun_path, "%s", s.path);
    s.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s.fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(s.fd, 8), 0);
    requests = closed = 0;
    s.k = kaiten_new(s.path);
    assert_non_null(s.k);
    return s;
}

static void
run(struct server *s)
{
    assert_int_equal(pthread_create(&s->thread, NULL, serve_all, s), 0);
}

static void
stop(struct server *s)
{
    kaiten_free(s->k);
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
    unlink(s->path);
    rmdir(s->dir);
    assert_int_equal(kt_secret_count(), 0);
}

#define CASE(serve_function)                  \
    struct server s = start(serve_function);  \
    struct kaiten *k = s.k;                   \
    run(&s)

/* --- answers ------------------------------------------------------------------------------ */

#define TOKEN_JSON(more) \
    "{\"id\":\"11111111-1111-4111-8111-111111111111\",\"name\":\"ci\",\"slug\":\"ci-1\"," \
    "\"scopes\":[\"read:tokens\",\"write:tokens\"],\"serviceAccountId\":\"22\"," \
    "\"expiresAt\":\"2030-01-01T00:00:00Z\",\"createdAt\":\"2026-01-01T00:00:00.5Z\"," \
    "\"createdBy\":{\"id\":\"33\",\"name\":\"Splinter\"}" more "}"
#define ACCOUNT_JSON(slug) \
    "{\"id\":\"44\",\"name\":\"CI\",\"slug\":\"" slug "\",\"externalId\":\"ksa_x\"," \
    "\"createdAt\":\"2026-01-01T00:00:00Z\",\"tokens\":[" TOKEN_JSON("") "]," \
    "\"tokensTruncated\":true}"
#define VALID_JSON \
    "{\"valid\":true,\"tokenId\":\"55\",\"organization\":\"org\",\"serviceAccount\":\"ci\"," \
    "\"scopes\":[\"read:*\"]}"

static const char *
answer_of(struct kt_str method)
{
    static const struct {
        const char *method, *answer;
    } answers[] = {
        { "kaiten.ping", "{\"status\":\"ok\"}" },
        { "token.create", TOKEN_JSON(",\"token\":\"" SECRET "\"") },
        { "token.rotate", TOKEN_JSON(",\"token\":\"" SECRET "\"") },
        { "token.get", TOKEN_JSON("") },
        { "token.revoke", "null" },
        { "token.revokeAll", "{\"serviceAccountId\":\"x\",\"serviceAccountSlug\":\"ci\"}" },
        { "token.verify", VALID_JSON },
        { "token.verifyMany",
          "{\"results\":[" VALID_JSON ",{\"valid\":false,\"code\":\"unknown\"}]}" },
        { "account.create", ACCOUNT_JSON("ci") },
        { "account.get", ACCOUNT_JSON("ci") },
        { "account.update", "null" },
        { "account.delete", "null" },
        { "whoami", "{\"subject\":\"uid:0\",\"kind\":\"peer\",\"scopes\":[],"
                    "\"expiresAt\":\"1970-01-01T00:00:01Z\"}" },
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++)
        if (kt_str_is(method, answers[i].method))
            return answers[i].answer;
    return "{}";
}

static void
serve_answers(struct conn *c)
{
    greet(c);
    struct request r;
    while (read_request(c, &r))
        reply(c, r.id, "null", answer_of(r.method));
}

static void
test_typed_answers(void **state)
{
    CASE(serve_answers);
    struct kaiten_token_request want = KAITEN_TOKEN_REQUEST_INIT;
    const char *scopes[] = { "read:tokens" };
    want.account = "ci";
    want.name = "ci";
    want.scopes = scopes;
    want.nscopes = 1;
    want.expires_at = 1893456000000;
    struct kaiten_token *token;
    assert_int_equal(kaiten_token_create(k, &want, &token), 0);
    assert_string_equal(token->secret, SECRET);
    assert_int_equal(token->secret_len, strlen(SECRET));
    assert_string_equal(token->slug, "ci-1");
    assert_int_equal(token->nscopes, 2);
    assert_string_equal(token->scopes[1], "write:tokens");
    assert_null(token->scopes[2]);
    assert_int_equal(token->expires_at, 1893456000000);
    assert_int_equal(token->created_at % 1000, 500);
    assert_true(token->revoked_at == KAITEN_NO_TIME);
    assert_string_equal(token->created_by.name, "Splinter");
    assert_null(token->revoked_by.id);
    kaiten_token_free(token);
    assert_int_equal(kt_secret_count(), 0);

    assert_int_equal(kaiten_token_get(k, "ci", "ci-1", &token), 0);
    assert_null(token->secret);
    kaiten_token_free(token);
    assert_int_equal(kaiten_token_rotate(k, "ci", "ci-1", 60, &token), 0);
    assert_string_equal(token->secret, SECRET);
    kaiten_token_free(token);
    assert_int_equal(kaiten_token_revoke(k, "ci", "ci-1"), 0);
    assert_int_equal(kaiten_token_revoke_all(k, "ci"), 0);

    struct kaiten_account *account;
    assert_int_equal(kaiten_account_create(k, "CI", NULL, &account), 0);
    assert_int_equal(account->ntokens, 1);
    assert_true(account->tokens_truncated);
    assert_string_equal(account->tokens[0]->name, "ci");
    assert_null(account->tokens[0]->secret);
    kaiten_account_free(account);
    assert_int_equal(kaiten_account_get(k, "ci", &account), 0);
    kaiten_account_free(account);
    assert_int_equal(kaiten_account_rename(k, "ci", "new"), 0);
    assert_int_equal(kaiten_account_delete(k, "ci"), 0);

    struct kaiten_caller *who;
    assert_int_equal(kaiten_whoami(k, &who), 0);
    assert_string_equal(who->kind, "peer");
    assert_null(who->organization);
    assert_int_equal(who->expires_at, 1000);
    kaiten_caller_free(who);
    assert_int_equal(kaiten_ping(k), 0);
    stop(&s);
}

static void
test_verify(void **state)
{
    CASE(serve_answers);
    const struct kaiten_verification *v, *const *many;
    assert_int_equal(kaiten_token_verify(k, SECRET, strlen(SECRET), "read:x", &v), 0);
    assert_true(v->valid);
    assert_string_equal(v->organization, "org");
    assert_true(v->expires_at == KAITEN_NO_TIME);
    struct kaiten_text tokens[] = { { SECRET, strlen(SECRET) }, { "\xff\xfe", 2 } };
    assert_int_equal(kaiten_token_verify_many(k, tokens, 2, NULL, &many), 0);
    assert_true(many[0]->valid);
    assert_false(many[1]->valid);
    assert_string_equal(many[1]->code, "unknown");
    /* As many answers as questions, or none of them is believed. */
    assert_int_equal(kaiten_token_verify_many(k, tokens, 1, NULL, &many), KAITEN_EPROTOCOL);
    stop(&s);
}

/* --- what is sent ------------------------------------------------------------------------- */

static char echoed[4096];

static void
serve_echo(struct conn *c)
{
    greet(c);
    struct request r;
    while (read_request(c, &r)) {
        struct kt_buf buf;
        kt_buf_init(&buf, sizeof echoed - 1);
        kt_json_put_value(&buf, r.args);
        if (r.meta)
            kt_json_put_value(&buf, r.meta);
        memcpy(echoed, buf.p, buf.n);
        echoed[buf.n] = '\0';
        kt_buf_done(&buf);
        reply(c, r.id, "{\"status\":404,\"code\":\"Token.NotFound\",\"detail\":\"no\"}", "null");
    }
}

static void
test_arguments(void **state)
{
    CASE(serve_echo);
    struct kaiten_token_request want = KAITEN_TOKEN_REQUEST_INIT;
    struct kaiten_token *token = NULL;
    want.account = "acc";
    want.name = "ü";
    assert_int_equal(kaiten_token_create(k, &want, &token), KAITEN_ENOTFOUND);
    assert_null(token);
    assert_string_equal(echoed,
                        "{\"serviceAccountSlug\":\"acc\",\"name\":\"ü\",\"scopes\":[]}");
    want.all_scopes = true;
    want.slug = "sl";
    want.expires_at = 0;
    kaiten_token_create(k, &want, &token);
    assert_string_equal(echoed, "{\"serviceAccountSlug\":\"acc\",\"name\":\"ü\",\"slug\":\"sl\","
                                "\"scopes\":null,\"expiresAt\":\"1970-01-01T00:00:00Z\"}");
    kaiten_token_rotate(k, "acc", "tok", 90, &token);
    assert_string_equal(echoed, "{\"serviceAccountSlug\":\"acc\",\"tokenSlug\":\"tok\","
                                "\"gracePeriodSeconds\":90}");
    kaiten_account_rename(k, "acc", "n");
    assert_string_equal(echoed, "{\"serviceAccountSlug\":\"acc\",\"name\":\"n\"}");
    struct kaiten_token_page *page;
    kaiten_token_list(k, "acc", "cur", 7, &page);
    assert_string_equal(echoed, "{\"serviceAccountSlug\":\"acc\",\"cursor\":\"cur\",\"limit\":7}");
    const struct kaiten_verification *v;
    kaiten_token_verify(k, "\xff", 1, "a:b", &v);
    assert_string_equal(echoed, "{\"token\":\"\",\"scope\":\"a:b\"}");
    assert_int_equal(kaiten_set_token(k, SECRET, strlen(SECRET)), 0);
    kaiten_ping(k);
    assert_string_equal(echoed, "{}{\"token\":\"" SECRET "\"}");
    char *json = NULL;
    assert_int_equal(kaiten_call_json(k, "x.y", "{\"a\":[1,null,\"b\"]}", &json),
                     KAITEN_ENOTFOUND);
    assert_null(json);
    assert_string_equal(echoed, "{\"a\":[1,null,\"b\"]}{\"token\":\"" SECRET "\"}");
    stop(&s);
}

static void
test_usage(void **state)
{
    CASE(serve_answers);
    struct kaiten_token_request want = KAITEN_TOKEN_REQUEST_INIT;
    struct kaiten_token *token;
    char *json;
    const struct kaiten_verification *v, *const *many;
    uint64_t tag;
    static char big[70000];
    memset(big, 'a', sizeof big - 1);
    assert_int_equal(kaiten_token_create(k, &want, &token), KAITEN_EUSAGE);
    assert_int_equal(kaiten_token_revoke(k, NULL, "x"), KAITEN_EUSAGE);
    assert_int_equal(kaiten_token_revoke_all(k, NULL), KAITEN_EUSAGE);
    assert_int_equal(kaiten_token_revoke_all(k, "\xc3("), KAITEN_EUSAGE);
    assert_int_equal(kaiten_token_revoke(k, "x", "\xc3("), KAITEN_EUSAGE);
    assert_int_equal(kaiten_account_rename(k, "x", big), KAITEN_EUSAGE);
    assert_int_equal(kaiten_call_json(k, "x", "[1]", &json), KAITEN_EUSAGE);
    assert_int_equal(kaiten_call_json(k, "x", "{\"a\":1,\"a\":2}", &json), KAITEN_EUSAGE);
    assert_int_equal(kaiten_call_json(k, NULL, NULL, &json), KAITEN_EUSAGE);
    assert_int_equal(kaiten_token_verify(k, big, sizeof big, NULL, &v), KAITEN_EUSAGE);
    assert_int_equal(kaiten_token_verify_many(k, NULL, 1025, NULL, &many), KAITEN_EUSAGE);
    assert_int_equal(kaiten_verify_recv(k, &tag, &v), KAITEN_EUSAGE);
    assert_int_equal(kaiten_set_token(k, "", 0), KAITEN_EUSAGE);
    assert_string_equal(kaiten_error_code(k), "Client.Usage");
    assert_int_equal(requests, 0);
    assert_int_equal(kaiten_ping(k), 0);
    assert_string_equal(kaiten_error_code(k), "");
    stop(&s);
}

static void
test_json(void **state)
{
    CASE(serve_answers);
    char *json;
    assert_int_equal(kaiten_call_json(k, "kaiten.ping", NULL, &json), 0);
    assert_string_equal(json, "{\"status\":\"ok\"}");
    kaiten_json_free(json);
    assert_int_equal(kaiten_call_json(k, "token.revoke", "{}", &json), 0);
    assert_string_equal(json, "null");
    kaiten_json_free(json);
    kaiten_json_free(NULL);
    stop(&s);
}

/* --- refusals ----------------------------------------------------------------------------- */

static const char *refusal;

static void
serve_refusal(struct conn *c)
{
    greet(c);
    struct request r;
    while (read_request(c, &r))
        reply(c, r.id, refusal, "null");
}

static void
test_error_map(void **state)
{
    CASE(serve_refusal);
    static char text[256];
    for (int kind = KT_OK + 1; kind < KT_KIND_COUNT; kind++) {
        const struct kt_kind_info *info = kt_kind_info((enum kt_kind)kind);
        snprintf(text, sizeof text,
                 "{\"title\":\"%s\",\"status\":%d,\"detail\":\"why\",\"code\":\"A.B\"}",
                 info->title, info->http);
        refusal = text;
        assert_int_equal(kaiten_ping(k), info->http);
        assert_string_equal(kaiten_error_code(k), "A.B");
        assert_string_equal(kaiten_error_detail(k), "why");
        assert_string_equal(kaiten_error_problem(k), text);
        assert_string_equal(kaiten_strerror(info->http), info->title);
    }
    assert_int_equal(kaiten_error_retry_after(k), 0);
    refusal = "{\"status\":429,\"retryAfter\":7}";
    assert_int_equal(kaiten_ping(k), KAITEN_ETOOMANYREQUESTS);
    assert_int_equal(kaiten_error_retry_after(k), 7);
    refusal = "{\"status\":429,\"retryAfter\":-7}";
    assert_int_equal(kaiten_ping(k), KAITEN_ETOOMANYREQUESTS);
    assert_int_equal(kaiten_error_retry_after(k), 0);
    refusal = "{\"status\":429,\"retryAfter\":\"7\"}";
    assert_int_equal(kaiten_ping(k), KAITEN_ETOOMANYREQUESTS);
    assert_int_equal(kaiten_error_retry_after(k), 0);
    refusal = "{\"title\":\"Teapot\",\"status\":418}";
    assert_int_equal(kaiten_ping(k), KAITEN_EVALIDATION);
    assert_string_equal(kaiten_error_detail(k), "Teapot");
    refusal = "{\"status\":599}";
    assert_int_equal(kaiten_ping(k), KAITEN_EINTERNAL);
    refusal = "[0,\"Auth.MissingAuthorizationHeader: who\"]";
    assert_int_equal(kaiten_ping(k), KAITEN_EUNAUTHORIZED);
    assert_string_equal(kaiten_error_code(k), "Auth.MissingAuthorizationHeader");
    assert_string_equal(kaiten_error_detail(k), "who");
    assert_null(kaiten_error_problem(k));
    refusal = "[0,\"NOT_FOUND: no\"]";
    assert_int_equal(kaiten_ping(k), KAITEN_ENOTFOUND);
    refusal = "[1,\"odd\"]";
    assert_int_equal(kaiten_ping(k), KAITEN_EVALIDATION);
    assert_string_equal(kaiten_error_detail(k), "odd");
    refusal = "{\"detail\":\"no status\"}";
    assert_int_equal(kaiten_ping(k), KAITEN_EPROTOCOL);
    stop(&s);
}

static void
serve_no_greeting(struct conn *c)
{
    struct request r;
    while (read_any(c, &r))
        reply(c, r.id, "[0,\"Auth.PeerUnknown: no rule names you\"]", "null");
}

static void
test_greeting_refused(void **state)
{
    CASE(serve_no_greeting);
    assert_int_equal(kaiten_ping(k), KAITEN_EUNAUTHORIZED);
    assert_string_equal(kaiten_error_detail(k), "no rule names you");
    stop(&s);
}

/* --- connections that break --------------------------------------------------------------- */

static void
serve_split(struct conn *c)
{
    greet(c);
    struct request r;
    while (read_request(c, &r)) {
        struct kt_buf buf = make_reply(c, r.id, "null", answer_of(r.method));
        for (size_t i = 0; i < buf.n; i++) {
            put(c, buf.p + i, 1);
            usleep(20);
        }
        kt_buf_done(&buf);
    }
}

static void
test_split(void **state)
{
    CASE(serve_split);
    struct kaiten_account *account;
    assert_int_equal(kaiten_account_get(k, "ci", &account), 0);
    kaiten_account_free(account);
    assert_int_equal(kaiten_ping(k), 0);
    stop(&s);
}

static void
serve_one_each(struct conn *c)
{
    greet(c);
    struct request r;
    if (read_request(c, &r))
        reply(c, r.id, "null", answer_of(r.method));
}

static void
wait_for_closed(int n)
{
    for (int i = 0; i < 60000 && closed < n; i++)
        usleep(1000);
}

static void
test_reconnect(void **state)
{
    CASE(serve_one_each);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kaiten_token_revoke(k, "a", "b"), 0);
        wait_for_closed(i + 1);
    }
    assert_int_equal(requests, 3);
    stop(&s);
}

/* Reads each request and closes instead of answering, on the first connection only. */
static void
serve_lost_first(struct conn *c)
{
    greet(c);
    struct request r;
    while (read_request(c, &r)) {
        if (c->nth == 0)
            return;
        reply(c, r.id, "null", answer_of(r.method));
    }
}

static void
test_lost_change_is_not_repeated(void **state)
{
    CASE(serve_lost_first);
    assert_int_equal(kaiten_token_revoke(k, "a", "b"), KAITEN_ELOST);
    assert_int_equal(requests, 1);
    assert_int_equal(kaiten_token_revoke(k, "a", "b"), 0);
    stop(&s);
}

static void
test_lost_read_is_repeated(void **state)
{
    CASE(serve_lost_first);
    const struct kaiten_verification *v;
    assert_int_equal(kaiten_token_verify(k, "x", 1, NULL, &v), 0);
    assert_int_equal(requests, 2);
    stop(&s);
}

static void
serve_always_lost(struct conn *c)
{
    greet(c);
    struct request r;
    read_request(c, &r);
}

static void
test_lost_read_is_repeated_once(void **state)
{
    CASE(serve_always_lost);
    assert_int_equal(kaiten_ping(k), KAITEN_ELOST);
    assert_int_equal(requests, 2);
    stop(&s);
}

static void
serve_silence(struct conn *c)
{
    greet(c);
    struct request r;
    while (read_request(c, &r))
        if (c->nth > 0)
            reply(c, r.id, "null", answer_of(r.method));
}

static void
test_timeout(void **state)
{
    CASE(serve_silence);
    kaiten_set_timeout(k, 50);
    assert_int_equal(kaiten_ping(k), KAITEN_ETIMEOUT);
    assert_string_equal(kaiten_error_code(k), "Client.Timeout");
    kaiten_set_timeout(k, 60000);
    assert_int_equal(kaiten_ping(k), 0);
    assert_in_range(requests, 1, 2); /* never repeated; on a slow machine the greeting took it all */
    stop(&s);
}

static void
serve_nothing(struct conn *c)
{
    struct request r;
    while (read_any(c, &r))
        ;
}

static void
test_timeout_of_greeting(void **state)
{
    CASE(serve_nothing);
    kaiten_set_timeout(k, 50);
    assert_int_equal(kaiten_ping(k), KAITEN_ETIMEOUT);
    stop(&s);
}

static void
test_no_server(void **state)
{
    struct kaiten *k = kaiten_new("/tmp/there/is/no/such.sock");
    assert_int_equal(kaiten_ping(k), KAITEN_ECONNECT);
    assert_non_null(strstr(kaiten_error_detail(k), "/tmp/there/is/no/such.sock"));
    kaiten_free(k);
    char path[300];
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    k = kaiten_new(path);
    assert_int_equal(kaiten_ping(k), KAITEN_EUSAGE);
    kaiten_free(k);
    kaiten_free(NULL);
}

static void
test_path_order(void **state)
{
    CASE(serve_answers);
    char uri[128];
    snprintf(uri, sizeof uri, "unix://%s", s.path);
    setenv("XDG_RUNTIME_DIR", "/tmp/no/such/run", 1);
    setenv("KAITEN_SOCKET", uri, 1);
    struct kaiten *other = kaiten_new(NULL);
    assert_int_equal(kaiten_ping(other), 0);
    kaiten_close(other);
    setenv("KAITEN_SOCKET", "/tmp/no/such/kaiten.sock", 1);
    assert_int_equal(kaiten_ping(other), KAITEN_ECONNECT);
    unsetenv("KAITEN_SOCKET");
    if (access("/run/kaitend/rpc.sock", F_OK) != 0) {
        assert_int_equal(kaiten_ping(other), KAITEN_ECONNECT);
        assert_non_null(strstr(kaiten_error_detail(other), "/run/kaitend/rpc.sock"));
    }
    kaiten_free(other);
    kaiten_close(k);
    stop(&s);
}

/* --- pipelining --------------------------------------------------------------------------- */

/* Collects 8 verifications and answers them last first; other methods at once. */
static void
serve_reversed(struct conn *c)
{
    greet(c);
    int64_t ids[8];
    size_t n = 0;
    struct request r;
    while (read_request(c, &r)) {
        if (!kt_str_is(r.method, "token.verify")) {
            reply(c, r.id, "null", answer_of(r.method));
            continue;
        }
        ids[n++] = r.id;
        while (n == 8 && n > 0) {
            for (size_t i = 8; i > 0; i--)
                reply(c, ids[i - 1], "null", i % 2 ? VALID_JSON : "{\"valid\":false}");
            n = 0;
        }
    }
}

static void
test_pipeline(void **state)
{
    CASE(serve_reversed);
    uint64_t tag = 0;
    const struct kaiten_verification *v;
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < 8; i++)
            assert_int_equal(kaiten_verify_send(k, i, SECRET, strlen(SECRET), NULL), 0);
        if (round == 1)
            assert_int_equal(kaiten_ping(k), 0); /* other calls may come in between */
        unsigned seen = 0;
        for (int i = 0; i < 8; i++) {
            assert_int_equal(kaiten_verify_recv(k, &tag, &v), 0);
            assert_int_equal(v->valid, tag % 2 == 0);
            if (round == 0)
                assert_int_equal(tag, 7 - i);
            seen |= 1u << tag;
        }
        assert_int_equal(seen, 0xff);
        assert_int_equal(kaiten_in_flight(k), 0);
    }
    stop(&s);
}

static void
test_pipeline_full(void **state)
{
    CASE(serve_answers);
    uint64_t tag;
    const struct kaiten_verification *v;
    static char big[KAITEN_CREDENTIAL_MAX];
    memset(big, 'k', sizeof big);
    /* More bytes than the socket takes at once, so both directions have to move. */
    for (uint64_t i = 0; i < KAITEN_IN_FLIGHT_MAX; i++)
        assert_int_equal(kaiten_verify_send(k, i, big, sizeof big, "read:tokens"), 0);
    assert_int_equal(kaiten_verify_send(k, 99, "x", 1, NULL), KAITEN_EUSAGE);
    for (uint64_t i = 0; i < KAITEN_IN_FLIGHT_MAX; i++) {
        assert_int_equal(kaiten_verify_recv(k, &tag, &v), 0);
        assert_int_equal(tag, i);
    }
    assert_int_equal(kaiten_verify_recv(k, &tag, &v), KAITEN_EUSAGE);
    stop(&s);
}

static void
test_pipeline_timeout_and_loss(void **state)
{
    CASE(serve_silence);
    uint64_t tag = 77;
    const struct kaiten_verification *v = NULL;
    kaiten_set_timeout(k, 60000);
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(kaiten_verify_send(k, i, "x", 1, NULL), 0);
    kaiten_set_timeout(k, 30);
    assert_int_equal(kaiten_verify_recv(k, &tag, &v), KAITEN_ETIMEOUT);
    assert_int_equal(tag, 77);
    assert_int_equal(kaiten_in_flight(k), 3);
    /* A call that times out closes; what was in flight is reported one by one. */
    assert_int_equal(kaiten_ping(k), KAITEN_ETIMEOUT);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(kaiten_verify_recv(k, &tag, &v), KAITEN_ELOST);
        assert_int_equal(tag, i);
    }
    assert_null(v);
    assert_int_equal(kaiten_verify_recv(k, &tag, &v), KAITEN_EUSAGE);
    kaiten_set_timeout(k, 60000);
    assert_int_equal(kaiten_verify_send(k, 5, "x", 1, NULL), 0);
    assert_int_equal(kaiten_verify_recv(k, &tag, &v), 0);
    assert_int_equal(kaiten_verify_send(k, 6, "x", 1, NULL), 0);
    kaiten_close(k);
    assert_int_equal(kaiten_in_flight(k), 0);
    stop(&s);
}

static void
test_pipeline_refusal(void **state)
{
    CASE(serve_refusal);
    uint64_t tag = 0;
    const struct kaiten_verification *v;
    refusal = "{\"status\":403,\"code\":\"Auth.MissingScope\",\"detail\":\"no\"}";
    assert_int_equal(kaiten_verify_send(k, 4, "x", 1, NULL), 0);
    assert_int_equal(kaiten_verify_send(k, 5, "x", 1, NULL), 0);
    assert_int_equal(kaiten_verify_recv(k, &tag, &v), KAITEN_EFORBIDDEN);
    assert_int_equal(tag, 4);
    assert_string_equal(kaiten_error_code(k), "Auth.MissingScope");
    assert_int_equal(kaiten_verify_recv(k, &tag, &v), KAITEN_EFORBIDDEN);
    assert_int_equal(tag, 5);
    stop(&s);
}

/* --- a hostile server --------------------------------------------------------------------- */

static struct kt_str garbage;

static void
serve_garbage(struct conn *c)
{
    greet(c);
    struct request r;
    if (!read_request(c, &r))
        return;
    put(c, garbage.p, garbage.n);
    while (read_any(c, &r))
        ;
}

#define BYTES(s) { (s), sizeof(s) - 1 }

static void
test_hostile(void **state)
{
    static const struct {
        const char *what;
        struct kt_str bytes;
    } cases[] = {
        { "array of 2^32-1", BYTES("\xdd\xff\xff\xff\xff") },
        { "map of 2^32-1", BYTES("\x94\x01\x02\xc0\xdf\xff\xff\xff\xff") },
        { "text of 4 GiB", BYTES("\x94\x01\x02\xc0\xdb\xff\xff\xff\xff") },
        { "binary of 2 GiB", BYTES("\x94\x01\x02\xc0\xc6\x7f\xff\xff\xff") },
        { "depth", BYTES("\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91"
                         "\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91") },
        { "never used byte", BYTES("\xc1") },
        { "HTTP", BYTES("HTTP/1.1 400 Bad Request\r\n\r\n") },
        { "a request", BYTES("\x94\x00\x02\xa1x\x90") },
        { "a notification", BYTES("\x93\x02\xa1x\x90") },
        { "unknown id", BYTES("\x94\x01\x7f\xc0\xc0") },
        { "id 0", BYTES("\x94\x01\x00\xc0\xc0") },
        { "negative id", BYTES("\x94\x01\xff\xc0\xc0") },
        { "text for an id", BYTES("\x94\x01\xa1x\xc0\xc0") },
        { "three members", BYTES("\x93\x01\x02\xc0") },
        { "an unknown extension", BYTES("\xd4\x05\x00") },
        { "bytes that are no UTF-8", BYTES("\x94\x01\x02\xc0\xa2\xff\xfe") },
        { "two members of one name", BYTES("\x94\x01\x02\xc0\x82\xa1x\x01\xa1x\x02") },
        { "an error that is a number", BYTES("\x94\x01\x02\x05\xc0") },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        garbage = cases[i].bytes;
        CASE(serve_garbage);
        kaiten_set_timeout(k, 60000);
        struct kaiten_caller *who = NULL;
        int error = kaiten_whoami(k, &who);
        if (error != KAITEN_EPROTOCOL)
            fail_msg("%s: %d", cases[i].what, error);
        assert_null(who);
        stop(&s);
    }
}

static void
test_hostile_pipeline(void **state)
{
    garbage = (struct kt_str)BYTES("\x94\x01\x7f\xc0\xc0");
    CASE(serve_garbage);
    uint64_t tag = 0;
    const struct kaiten_verification *v;
    assert_int_equal(kaiten_verify_send(k, 3, "x", 1, NULL), 0);
    assert_int_equal(kaiten_verify_recv(k, &tag, &v), KAITEN_EPROTOCOL);
    assert_int_equal(tag, 3);
    assert_int_equal(kaiten_in_flight(k), 0);
    stop(&s);
}

static const char *shape;

static void
serve_shape(struct conn *c)
{
    greet(c);
    struct request r;
    while (read_request(c, &r))
        reply(c, r.id, "null", shape);
}

static void
test_wrong_shapes(void **state)
{
    CASE(serve_shape);
    struct kaiten_token *token;
    struct kaiten_token_request want = KAITEN_TOKEN_REQUEST_INIT;
    want.account = want.name = "x";
    static const char *const answers[] = {
        "null", "[]", "{}", "\"x\"", TOKEN_JSON(""), TOKEN_JSON(",\"token\":5"),
        TOKEN_JSON(",\"token\":\"" SECRET "\",\"revokedAt\":7"),
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        shape = answers[i];
        assert_int_equal(kaiten_token_create(k, &want, &token), KAITEN_EPROTOCOL);
    }
    /* What a newer server adds is not an error. */
    shape = TOKEN_JSON(",\"token\":\"" SECRET "\",\"newMember\":[1]");
    assert_int_equal(kaiten_token_create(k, &want, &token), 0);
    kaiten_token_free(token);
    /* Nothing but a true is a yes. */
    const struct kaiten_verification *v;
    shape = "{}";
    assert_int_equal(kaiten_token_verify(k, "x", 1, NULL, &v), 0);
    assert_false(v->valid);
    shape = "{\"valid\":1}";
    assert_int_equal(kaiten_token_verify(k, "x", 1, NULL, &v), KAITEN_EPROTOCOL);
    stop(&s);
}

/* --- lists -------------------------------------------------------------------------------- */

/* Three pages of accounts, the second of which is empty. */
static void
serve_pages(struct conn *c)
{
    greet(c);
    struct request r;
    while (read_request(c, &r)) {
        const struct kt_value *cursor = kt_value_get(r.args, "cursor");
        if (!cursor)
            reply(c, r.id, "null", "{\"items\":[" ACCOUNT_JSON("one") "," ACCOUNT_JSON("two")
                                   "],\"nextCursor\":\"2\",\"hasMore\":true}");
        else if (kt_str_is(cursor->s, "2"))
            reply(c, r.id, "null", "{\"items\":[],\"nextCursor\":\"3\",\"hasMore\":true}");
        else
            reply(c, r.id, "null",
                  "{\"items\":[" ACCOUNT_JSON("three") "],\"hasMore\":false}");
    }
}

static void
test_iterator(void **state)
{
    CASE(serve_pages);
    static const char *const slugs[] = { "one", "two", "three" };
    const struct kaiten_account *account;
    struct kaiten_account_iter *it = kaiten_account_iter_new(k);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(kaiten_account_iter_next(it, &account), 0);
        assert_string_equal(account->slug, slugs[i]);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kaiten_account_iter_next(it, &account), 0);
        assert_null(account);
    }
    assert_int_equal(requests, 3);
    kaiten_account_iter_free(it);
    kaiten_account_iter_free(NULL);
    stop(&s);
}

static void
test_page_shapes(void **state)
{
    CASE(serve_shape);
    struct kaiten_token_page *page;
    shape = "{\"items\":[" TOKEN_JSON("") "],\"hasMore\":false,\"nextCursor\":\"x\"}";
    assert_int_equal(kaiten_token_list(k, "a", NULL, 0, &page), 0);
    assert_int_equal(page->nitems, 1);
    assert_null(page->next_cursor);
    kaiten_token_page_free(page);
    shape = "{\"items\":[],\"hasMore\":true}";
    assert_int_equal(kaiten_token_list(k, "a", NULL, 0, &page), KAITEN_EPROTOCOL);
    shape = "{\"items\":[],\"hasMore\":true,\"nextCursor\":\"same\"}";
    assert_int_equal(kaiten_token_list(k, "a", "same", 0, &page), KAITEN_EPROTOCOL);
    shape = "{\"hasMore\":false}";
    assert_int_equal(kaiten_token_list(k, "a", NULL, 0, &page), KAITEN_EPROTOCOL);
    struct kaiten_token_iter *it = kaiten_token_iter_new(k, "a");
    const struct kaiten_token *token;
    assert_int_equal(kaiten_token_iter_next(it, &token), KAITEN_EPROTOCOL);
    shape = "{\"items\":[" TOKEN_JSON("") "],\"hasMore\":false}";
    assert_int_equal(kaiten_token_iter_next(it, &token), 0);
    assert_string_equal(token->slug, "ci-1");
    assert_int_equal(kaiten_token_iter_next(it, &token), 0);
    assert_null(token);
    kaiten_token_iter_free(it);
    kaiten_token_iter_free(NULL);
    stop(&s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_typed_answers),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_error_map),
        cmocka_unit_test(test_greeting_refused),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_reconnect),
        cmocka_unit_test(test_lost_change_is_not_repeated),
        cmocka_unit_test(test_lost_read_is_repeated),
        cmocka_unit_test(test_lost_read_is_repeated_once),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_timeout_of_greeting),
        cmocka_unit_test(test_no_server),
        cmocka_unit_test(test_path_order),
        cmocka_unit_test(test_pipeline),
        cmocka_unit_test(test_pipeline_full),
        cmocka_unit_test(test_pipeline_timeout_and_loss),
        cmocka_unit_test(test_pipeline_refusal),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_hostile_pipeline),
        cmocka_unit_test(test_wrong_shapes),
        cmocka_unit_test(test_iterator),
        cmocka_unit_test(test_page_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
