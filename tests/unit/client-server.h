/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* libkaiten, and a server in a thread of the test, which says what each case wants. */
#ifndef CLIENT_SERVER_H
#define CLIENT_SERVER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/kaiten.h"
#include "client/proto/json.h"
#include "client/proto/pack.h"
#include "client/proto/secret.h"

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
static inline bool
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

static inline bool
read_request(struct conn *c, struct request *ret)
{
    bool ok = read_any(c, ret);
    requests += ok;
    return ok;
}

static inline void
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

static inline void
put_json(struct conn *c, struct kt_buf *buf, const char *json)
{
    struct kt_value v;
    struct kt_json_error e;
    if (kt_json_read(kt_str(json), &c->arena, NULL, &v, &e) != 0)
        abort();
    kt_pack_put_value(buf, &v);
}

static inline struct kt_buf
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

static inline void
reply(struct conn *c, int64_t id, const char *error, const char *result)
{
    struct kt_buf buf = make_reply(c, id, error, result);
    put(c, buf.p, buf.n);
    kt_buf_done(&buf);
}

static inline void
greet(struct conn *c)
{
    struct request r;
    if (read_any(c, &r))
        reply(c, r.id, "null", "{\"protocol\":1}");
}

static inline void *
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

static inline struct server
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

static inline void
run(struct server *s)
{
    assert_int_equal(pthread_create(&s->thread, NULL, serve_all, s), 0);
}

static inline void
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

static inline const char *
answer_of(struct kt_str method)
{
    static const struct {
        const char *method, *answer;
    } answers[] = {
        { "kaiten.ping", "{\"status\":\"ok\"}" },
        { "token.create", TOKEN_JSON(",\"token\":\"" SECRET "\"") },
        { "token.rotate", TOKEN_JSON(",\"token\":\"" SECRET "\"") },
        { "token.get", TOKEN_JSON(",\"lastUsedAt\":\"1970-01-01T00:01:00Z\"") },
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

static inline void
serve_answers(struct conn *c)
{
    greet(c);
    struct request r;
    while (read_request(c, &r))
        reply(c, r.id, "null", answer_of(r.method));
}

/* --- refusals ----------------------------------------------------------------------------- */

static const char *refusal;

static inline void
serve_refusal(struct conn *c)
{
    greet(c);
    struct request r;
    while (read_request(c, &r))
        reply(c, r.id, refusal, "null");
}

#endif
