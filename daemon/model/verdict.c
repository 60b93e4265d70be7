/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/verdict.h"

#include "daemon/model/record.h"
#include "daemon/model/token.h"

enum { VERDICT_FORMAT_1 = 1, VERDICT_FORMAT = 2, RECORD_MAX = 60 * 1024 };

struct kt_str
verdict_encode(struct kt_arena *arena, const struct verdict_record *v)
{
    struct kt_buf buf;
    kt_buf_init(&buf, RECORD_MAX);
    record_put_u8(&buf, VERDICT_FORMAT);
    record_put_u8(&buf, v->revoked);
    record_put_uuid(&buf, &v->org);
    record_put_uuid(&buf, &v->account);
    record_put_uuid(&buf, &v->token);
    record_put_i64(&buf, v->expires_ms);
    record_put_u32(&buf, v->epoch);
    record_put_strs(&buf, v->scopes, v->nscopes);
    record_put_u32(&buf, v->key);
    return record_finish(arena, &buf);
}

bool
verdict_decode(struct kt_arena *arena, struct kt_str value, struct verdict_record *ret)
{
    struct record_in in;
    struct verdict_record v = { .key = 0 };
    record_open(&in, value);
    unsigned format = record_u8(&in);
    if (format != VERDICT_FORMAT && format != VERDICT_FORMAT_1)
        return false;
    v.revoked = record_u8(&in) != 0;
    v.org = record_uuid(&in);
    v.account = record_uuid(&in);
    v.token = record_uuid(&in);
    v.expires_ms = record_i64(&in);
    v.epoch = record_u32(&in);
    v.scopes = record_strs(&in, arena, TOKEN_SCOPES_MAX, &v.nscopes);
    if (format == VERDICT_FORMAT)
        v.key = record_u32(&in);
    if (!record_done(&in))
        return false;
    *ret = v;
    return true;
}
