/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/client.h"
#include "client/proto/bind.h"
#include "client/proto/utf8.h"
#include "client/proto/wipe.h"

#include <stdlib.h>

/* --- one after the other ------------------------------------------------------------------ */

static bool
is_credential(const char *token, size_t n)
{
    return n <= KAITEN_CREDENTIAL_MAX && (token || n == 0);
}

/* The server would close the connection on bytes that are not text. No token has such bytes, so the
 * empty one is sent for them: the answer is the same, malformed. */
static struct kt_str
sendable(const char *token, size_t n)
{
    return n && kt_utf8_is_text(token, n) ? (struct kt_str){ token, n } : KT_LIT("");
}

static int
not_credential(struct kaiten *k)
{
    client_begin(k);
    return client_fail(k, KAITEN_EUSAGE, "a token has at most %d bytes", KAITEN_CREDENTIAL_MAX);
}

static int
too_many(struct kaiten *k)
{
    client_begin(k);
    return client_fail(k, KAITEN_EUSAGE, "more than %d tokens at once", KAITEN_VERIFY_MANY_MAX);
}

int
kaiten_token_verify(struct kaiten *k, const char *token, size_t n, const char *scope,
                    const struct kaiten_verification **ret_v)
{
    if (!is_credential(token, n))
        return not_credential(k);
    struct call c;
    struct kt_buf *buf = call_begin(&c, k, KT_OP_TOKEN_VERIFY, scope ? 2 : 1);
    request_str(buf, "token", sendable(token, n));
    if (scope)
        request_str(buf, "scope", kt_str(scope));
    union kt_out out;
    int error = call_bind(&c, &kt_shape_verdict, &out.verdict);
    const struct kaiten_verification *v = NULL;
    if (!error)
        v = result_verification(&k->arena, &out.verdict);
    if (!error && !v)
        error = call_no_memory(k);
    if (v)
        *ret_v = v;
    return call_end(&c, error);
}

static void
request_tokens(struct kt_buf *buf, const struct kaiten_text *tokens, size_t n)
{
    kt_pack_put_str(buf, KT_LIT("tokens"));
    kt_pack_put_array(buf, n);
    for (size_t i = 0; i < n; i++)
        kt_pack_put_str(buf, sendable(tokens[i].p, tokens[i].n));
}

static const struct kaiten_verification **
many_results(struct kt_arena *arena, const struct kt_list *list)
{
    const struct kt_verdict *verdicts = list->v;
    const struct kaiten_verification **v = kt_arena_calloc(arena, list->n + 1, sizeof *v);
    for (size_t i = 0; v && i < list->n; i++)
        if (!(v[i] = result_verification(arena, &verdicts[i])))
            return NULL;
    return v;
}

int
kaiten_token_verify_many(struct kaiten *k, const struct kaiten_text *tokens, size_t n,
                         const char *scope, const struct kaiten_verification *const **ret_v)
{
    if (n > KAITEN_VERIFY_MANY_MAX)
        return too_many(k);
    for (size_t i = 0; i < n; i++)
        if (!is_credential(tokens[i].p, tokens[i].n))
            return not_credential(k);
    struct call c;
    struct kt_buf *buf = call_begin(&c, k, KT_OP_TOKEN_VERIFY_MANY, scope ? 2 : 1);
    request_tokens(buf, tokens, n);
    if (scope)
        request_str(buf, "scope", kt_str(scope));
    union kt_out out;
    int error = call_bind(&c, &kt_shape_verdicts, &out.verdicts);
    if (!error && (out.verdicts.results.has != KT_SET || out.verdicts.results.n != n))
        error = call_bad_answer(k);
    const struct kaiten_verification **v = NULL;
    if (!error && !(v = many_results(&k->arena, &out.verdicts.results)))
        error = call_no_memory(k);
    if (v)
        *ret_v = v;
    return call_end(&c, error);
}

/* --- pipelined ---------------------------------------------------------------------------- */

enum { FLUSH_SIZE = 16 * 1024 };

static struct client_slot *
find_slot(struct kaiten *k, int state, uint32_t id)
{
    for (size_t i = 0; i < KAITEN_IN_FLIGHT_MAX; i++)
        if ((int)k->slots[i].state == state && (id == 0 || k->slots[i].id == id))
            return &k->slots[i];
    return NULL;
}

static void
free_slot(struct kaiten *k, struct client_slot *slot)
{
    kt_wipe(slot->reply, slot->reply_len);
    free(slot->reply);
    *slot = (struct client_slot){ .state = SLOT_FREE };
    k->in_flight--;
}

void
verify_drop(struct kaiten *k, int why)
{
    for (size_t i = 0; i < KAITEN_IN_FLIGHT_MAX; i++) {
        struct client_slot *slot = &k->slots[i];
        if (slot->state != SLOT_FREE && why == 0)
            free_slot(k, slot);
        if (slot->state == SLOT_WAITING) {
            slot->state = SLOT_FAILED;
            slot->error = why;
        }
    }
}

bool
verify_take(struct kaiten *k, uint32_t id)
{
    struct client_slot *slot = id ? find_slot(k, SLOT_WAITING, id) : NULL;
    if (!slot)
        return false;
    slot->reply = malloc(k->message);
    slot->state = slot->reply ? SLOT_ANSWERED : SLOT_FAILED;
    slot->error = KAITEN_EMEMORY;
    if (slot->reply) {
        memcpy(slot->reply, k->in.p + k->start, k->message);
        slot->reply_len = k->message;
    }
    wire_release(k);
    return true;
}

size_t
kaiten_in_flight(const struct kaiten *k)
{
    return k->in_flight;
}

/* --- sending ------------------------------------------------------------------------------ */

static void
queue_request(struct kaiten *k, struct client_slot *slot, struct kt_str token, const char *scope)
{
    kt_buf_wipe(&k->request);
    slot->id = request_begin(k, &k->request, kt_op_specs[KT_OP_TOKEN_VERIFY].name, scope ? 2 : 1);
    request_str(&k->request, "token", token);
    if (scope)
        request_str(&k->request, "scope", kt_str(scope));
    request_end(k, &k->request);
}

/* The id 0 is left out, because it stands for any in find_slot. */
static void
skip_zero(struct kaiten *k)
{
    if (k->id == UINT32_MAX)
        k->id = 0;
}

int
kaiten_verify_send(struct kaiten *k, uint64_t tag, const char *token, size_t n, const char *scope)
{
    client_begin(k);
    wire_release(k);
    if (!is_credential(token, n))
        return client_fail(k, KAITEN_EUSAGE, "a token has at most %d bytes",
                           KAITEN_CREDENTIAL_MAX);
    struct client_slot *slot = find_slot(k, SLOT_FREE, 0);
    if (!slot)
        return client_fail(k, KAITEN_EUSAGE, "%d verifications are in flight already",
                           KAITEN_IN_FLIGHT_MAX);
    int64_t deadline = wire_deadline(k);
    int error = wire_open(k, deadline);
    if (error)
        return error;
    skip_zero(k);
    queue_request(k, slot, sendable(token, n), scope);
    bool failed = k->request.failed;
    if (!failed)
        kt_buf_put(&k->out, k->request.p, k->request.n);
    kt_buf_wipe(&k->request);
    if (failed)
        return client_fail(k, KAITEN_EUSAGE, "the scope is not UTF-8, or too long");
    slot->state = SLOT_WAITING;
    slot->tag = tag;
    k->in_flight++;
    /* What happens to the connection from here on is told with the answer. */
    if (k->out.n >= FLUSH_SIZE)
        (void)wire_flush(k, deadline);
    return 0;
}

/* --- receiving ---------------------------------------------------------------------------- */

/* A reply on the wire or kept in a slot -> what the caller sees. */
static int
read_answer(struct kaiten *k, const struct kt_value *message,
            const struct kaiten_verification **ret_v)
{
    uint32_t id;
    const struct kt_value *refusal, *result;
    if (!reply_parse(message, &id, &refusal, &result))
        return wire_garbage(k, "not a reply");
    if (refusal->type != KT_V_NULL)
        return client_refused(k, refusal);
    struct kt_verdict verdict;
    if (!kt_bind_answer(&kt_shape_verdict, result, &k->arena, &verdict))
        return wire_garbage(k, "an answer of another shape");
    const struct kaiten_verification *v = result_verification(&k->arena, &verdict);
    if (!v)
        return client_fail(k, KAITEN_EMEMORY, "no memory for the answer");
    *ret_v = v;
    return 0;
}

static int
recv_failed(struct kaiten *k, struct client_slot *slot, uint64_t *ret_tag)
{
    int error = slot->error;
    *ret_tag = slot->tag;
    free_slot(k, slot);
    return client_fail(k, error, error == KAITEN_EMEMORY
                                     ? "no memory for the answer"
                                     : "the connection broke before the answer came");
}

static int
recv_kept(struct kaiten *k, struct client_slot *slot, uint64_t *ret_tag,
          const struct kaiten_verification **ret_v)
{
    struct kt_value message;
    const char *why;
    size_t len;
    struct kt_str bytes = { slot->reply, slot->reply_len };
    *ret_tag = slot->tag;
    int error = KAITEN_EMEMORY;
    if (kt_pack_read(bytes, &wire_reply_limits, &k->arena, &message, &len, &why) == KT_FRAME_DONE)
        error = read_answer(k, &message, ret_v);
    else
        client_fail(k, error, "no memory for the answer");
    /* Reading it may have closed the connection, which keeps the slot but may have failed it. */
    free_slot(k, slot);
    return error;
}

static int
recv_wire(struct kaiten *k, uint64_t *ret_tag, const struct kaiten_verification **ret_v)
{
    int64_t deadline = wire_deadline(k);
    struct kt_value message;
    int error = wire_read(k, deadline, &message);
    if (error)
        return error;
    uint32_t id;
    const struct kt_value *refusal, *result;
    if (!reply_parse(&message, &id, &refusal, &result))
        return wire_garbage(k, "not a reply");
    struct client_slot *slot = id ? find_slot(k, SLOT_WAITING, id) : NULL;
    if (!slot)
        return wire_garbage(k, "a reply to nothing that was asked");
    *ret_tag = slot->tag;
    free_slot(k, slot);
    error = read_answer(k, &message, ret_v);
    wire_release(k);
    return error;
}

int
kaiten_verify_recv(struct kaiten *k, uint64_t *ret_tag, const struct kaiten_verification **ret_v)
{
    client_begin(k);
    if (k->in_flight == 0)
        return client_fail(k, KAITEN_EUSAGE, "nothing is in flight");
    struct client_slot *slot = find_slot(k, SLOT_ANSWERED, 0);
    if (slot)
        return recv_kept(k, slot, ret_tag, ret_v);
    if (!find_slot(k, SLOT_FAILED, 0)) {
        size_t waiting = k->in_flight;
        int error = recv_wire(k, ret_tag, ret_v);
        /* The answer, or a timeout that leaves everything in flight. */
        if (k->in_flight < waiting || k->fd >= 0)
            return error;
    }
    return recv_failed(k, find_slot(k, SLOT_FAILED, 0), ret_tag);
}
