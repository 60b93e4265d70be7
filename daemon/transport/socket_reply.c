/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/transport/socket_reply.h"

#include "client/proto/encode.h"
#include "client/proto/pack.h"
#include "daemon/codec/problem.h"
#include "daemon/request.h"
#include "daemon/transport/socket_peek.h"

static struct kt_str
pair_text(struct request *rq)
{
    const struct kt_error *err = &rq->call.err;
    const char *code = kt_error_code(err);
    struct kt_str detail = err->detail.n ? err->detail : kt_str(kt_kind_info(err->kind)->title);
    const struct kt_field_error *field = err->nfields ? err->fields : NULL;
    struct kt_str text;
    if (err->id[0])
        text = kt_arena_printf(rq->call.arena, "%s: %.*s (error id %s)", code, KT_FMT(detail),
                               err->id);
    else if (field)
        text = kt_arena_printf(rq->call.arena, "%s: %.*s (%.*s: %.*s)", code, KT_FMT(detail),
                               KT_FMT(field->location), KT_FMT(field->message));
    else
        text = kt_arena_printf(rq->call.arena, "%s: %.*s", code, KT_FMT(detail));
    return text.p ? text : kt_str(code);
}

static void
put_error(struct kt_buf *out, struct request *rq, bool problem)
{
    if (problem) {
        problem_pack(out, rq);
    } else {
        size_t from = out->n;
        kt_pack_put_array(out, 2);
        kt_pack_put_int(out, kt_kind_info(rq->call.err.kind)->pair);
        kt_pack_put_str(out, pair_text(rq));
        problem_mask(out, from);
    }
    kt_pack_put_nil(out);
}

static void
put_result(struct kt_buf *out, const struct request *rq)
{
    kt_pack_put_nil(out);
    if (rq->spec->loose && rq->out.value)
        kt_pack_put_value(out, rq->out.value);
    else if (rq->spec->out && !rq->spec->loose)
        kt_encode_pack(out, rq->spec->out, &rq->out);
    else
        kt_pack_put_nil(out);
}

void
socket_put_reply(struct kt_buf *out, struct request *rq, uint64_t id, bool problem)
{
    kt_pack_put_array(out, 4);
    kt_pack_put_int(out, RPC_RESPONSE);
    kt_pack_put_uint(out, id);
    if (rq->call.err.kind != KT_OK)
        put_error(out, rq, problem);
    else
        put_result(out, rq);
}
