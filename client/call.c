/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/client.h"
#include "client/proto/bind.h"
#include "client/proto/json.h"
#include "client/proto/utf8.h"
#include "client/proto/wipe.h"

#include <stdlib.h>

/* --- requests and replies ----------------------------------------------------------------- */

/* What only the socket has and changes nothing. */
static bool
is_question(enum kt_op_id id)
{
    switch (id) {
    case KT_OP_TOKEN_VERIFY:
    case KT_OP_TOKEN_VERIFY_MANY:
    case KT_OP_STORE_CHECK:
    case KT_OP_STORE_READ:
    case KT_OP_KEY_LIST:
    case KT_OP_PING:
    case KT_OP_DESCRIBE: return true;
    default: return false;
    }
}

/* Does it change nothing, so that it may be sent again when its answer was lost? */
static bool
only_reads(const char *method)
{
    const struct kt_op_spec *spec = kt_op_find(kt_str(method));
    if (!spec)
        return false;
    return spec->http_method ? strcmp(spec->http_method, "GET") == 0 : is_question(kt_op_id(spec));
}

/* The greeting, which has a buffer of its own, may come before the request leaves. */
static size_t
meta_members(const struct kaiten *k, const struct kt_buf *buf)
{
    return 0u + (k->token != NULL) + (buf == &k->request && k->keyed);
}

uint32_t
request_begin(struct kaiten *k, struct kt_buf *buf, const char *method, size_t n)
{
    uint32_t id = ++k->id;
    if (buf == &k->request)
        k->keyed = k->key[0] && !only_reads(method);
    kt_pack_put_array(buf, 4);
    kt_pack_put_int(buf, 0);
    kt_pack_put_uint(buf, id);
    kt_pack_put_str(buf, kt_str(method));
    kt_pack_put_array(buf, meta_members(k, buf) ? 2 : 1);
    kt_pack_put_map(buf, n);
    return id;
}

void
request_end(struct kaiten *k, struct kt_buf *buf)
{
    size_t n = meta_members(k, buf);
    if (n == 0)
        return;
    kt_pack_put_map(buf, n);
    if (k->token)
        request_str(buf, "token", (struct kt_str){ k->token, k->token_len });
    if (buf == &k->request && k->keyed)
        request_str(buf, "idempotency_key", kt_str(k->key));
}

void
request_str(struct kt_buf *buf, const char *name, struct kt_str value)
{
    if (!kt_utf8_is_text(value.p, value.n))
        buf->failed = true;
    kt_pack_put_str(buf, kt_str(name));
    kt_pack_put_str(buf, value);
}

void
request_int(struct kt_buf *buf, const char *name, int64_t value)
{
    kt_pack_put_str(buf, kt_str(name));
    kt_pack_put_int(buf, value);
}

bool
reply_parse(const struct kt_value *message, uint32_t *ret_id, const struct kt_value **ret_error,
            const struct kt_value **ret_result)
{
    if (message->type != KT_V_ARRAY || message->array.n != 4)
        return false;
    const struct kt_value *v = message->array.v;
    if (v[0].type != KT_V_INT || v[0].i != 1 || v[1].type != KT_V_INT || v[1].i < 0 ||
        v[1].i > UINT32_MAX)
        return false;
    *ret_id = (uint32_t)v[1].i;
    *ret_error = &v[2];
    *ret_result = &v[3];
    return true;
}

/* --- one call ----------------------------------------------------------------------------- */

static int
await_reply(struct call *c, int64_t deadline)
{
    struct kaiten *k = c->k;
    for (;;) {
        int error = wire_read(k, deadline, &c->message);
        if (error == KAITEN_ETIMEOUT)
            wire_close(k, KAITEN_ELOST);
        if (error)
            return error;
        uint32_t id;
        const struct kt_value *refusal;
        if (!reply_parse(&c->message, &id, &refusal, &c->result))
            return wire_garbage(k, "not a reply");
        if (id == c->id)
            return refusal->type == KT_V_NULL ? 0 : client_refused(k, refusal);
        if (!verify_take(k, id))
            return wire_garbage(k, "a reply to nothing that was asked");
    }
}

static int
send_request(struct call *c, int64_t deadline)
{
    struct kaiten *k = c->k;
    int error = only_reads(c->method) ? wire_connect(k, deadline) : wire_open(k, deadline);
    if (error)
        return error;
    kt_buf_put(&k->out, k->request.p, k->request.n);
    return wire_flush(k, deadline);
}

struct kt_buf *
call_begin(struct call *c, struct kaiten *k, enum kt_op_id op, size_t n)
{
    *c = (struct call){ .k = k, .method = kt_op_specs[op].name };
    client_begin(k);
    kt_buf_wipe(&k->request);
    c->id = request_begin(k, &k->request, c->method, n);
    return &k->request;
}

int
call_run(struct call *c)
{
    struct kaiten *k = c->k;
    request_end(k, &k->request);
    if (k->request.failed)
        return client_fail(k, KAITEN_EUSAGE,
                           "an argument is not UTF-8, or all of them are more than %d bytes",
                           CLIENT_REQUEST_MAX);
    bool again = only_reads(c->method);
    int64_t deadline = wire_deadline(k);
    for (int attempt = 0;; attempt++) {
        bool connected = k->fd >= 0;
        int error = send_request(c, deadline);
        bool sent = !error;
        if (sent)
            error = await_reply(c, deadline);
        /* Worth one more try: an old connection may have been closed by the server, and a lost
         * answer of a read can be asked for again. */
        bool retry = sent ? error == KAITEN_ELOST && again : error == KAITEN_ECONNECT && connected;
        if (!retry || attempt > 0)
            return error;
    }
}

int
call_end(struct call *c, int error)
{
    wire_release(c->k);
    kt_buf_wipe(&c->k->request);
    if (c->k->keyed)
        c->k->key[0] = '\0';
    c->k->keyed = false;
    return error;
}

int
call_bad_answer(struct kaiten *k)
{
    return wire_garbage(k, "an answer of another shape");
}

int
call_no_memory(struct kaiten *k)
{
    return client_fail(k, KAITEN_EMEMORY, "no memory for the answer");
}

int
call_missing(struct kaiten *k, const char *what)
{
    client_begin(k);
    return client_fail(k, KAITEN_EUSAGE, "%s is missing", what);
}

int
call_bind(struct call *c, const struct kt_shape *shape, void *out)
{
    int error = call_run(c);
    if (error)
        return error;
    return kt_bind_answer(shape, c->result, &c->k->arena, out) ? 0 : call_bad_answer(c->k);
}

/* --- by JSON ------------------------------------------------------------------------------ */

/* As deep and as many as the server takes; the message as a whole is checked when it is built. */
static const struct kt_json_limits argument_limits = {
    .depth = 8, .members = 4096, .nodes = 4096, .string = CLIENT_REQUEST_MAX, .number = 60,
};

static int
json_arguments(struct kaiten *k, const char *args, struct kt_value *ret)
{
    struct kt_json_error e;
    *ret = (struct kt_value){ .type = KT_V_MAP };
    if (!args)
        return 0;
    if (kt_json_read(kt_str(args), &k->arena, &argument_limits, ret, &e) != 0)
        return client_fail(k, KAITEN_EUSAGE, "the arguments are no JSON: %s at byte %zu", e.text,
                           e.offset);
    if (ret->type != KT_V_MAP)
        return client_fail(k, KAITEN_EUSAGE, "the arguments are no JSON object");
    return 0;
}

static int
json_answer(struct call *c, char **ret_json)
{
    struct kt_buf buf;
    kt_buf_init(&buf, (size_t)CLIENT_REPLY_MAX * 8); /* the worst that escaping does, and names */
    kt_json_put_value(&buf, c->result);
    kt_buf_putc(&buf, '\0');
    char *copy = buf.failed ? NULL : malloc(buf.n);
    if (copy)
        memcpy(copy, buf.p, buf.n);
    kt_buf_done(&buf);
    if (!copy)
        return call_no_memory(c->k);
    *ret_json = copy;
    return 0;
}

int
kaiten_call_json(struct kaiten *k, const char *method, const char *args, char **ret_json)
{
    if (!method || !*method)
        return call_missing(k, "the method");
    client_begin(k);
    struct kt_value map;
    int error = json_arguments(k, args, &map);
    struct call c = { .k = k, .method = method };
    if (!error) {
        kt_buf_wipe(&k->request);
        c.id = request_begin(k, &k->request, method, map.map.n);
        for (size_t i = 0; i < map.map.n; i++) {
            kt_pack_put_str(&k->request, map.map.v[i].name);
            kt_pack_put_value(&k->request, &map.map.v[i].value);
        }
        kt_arena_wipe(&k->arena);
        error = call_run(&c);
    }
    if (!error)
        error = json_answer(&c, ret_json);
    return call_end(&c, error);
}

void
kaiten_json_free(char *json)
{
    if (json)
        kt_wipe(json, strlen(json));
    free(json);
}

int
kaiten_ping(struct kaiten *k)
{
    struct call c;
    call_begin(&c, k, KT_OP_PING, 0);
    return call_end(&c, call_run(&c));
}
