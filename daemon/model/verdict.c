/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/verdict.h"

#include "daemon/model/record.h"
#include "daemon/model/token.h"

enum { VERDICT_FORMAT = 1, RECORD_MAX = 60 * 1024 };

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
    return record_finish(arena, &buf);
}

bool
verdict_decode(struct kt_arena *arena, struct kt_str value, struct verdict_record *ret)
{
    struct record_in in;
    struct verdict_record v;
    record_open(&in, value);
    if (record_u8(&in) != VERDICT_FORMAT)
        return false;
    v.revoked = record_u8(&in) != 0;
    v.org = record_uuid(&in);
    v.account = record_uuid(&in);
    v.token = record_uuid(&in);
    v.expires_ms = record_i64(&in);
    v.epoch = record_u32(&in);
    v.scopes = record_strs(&in, arena, TOKEN_SCOPES_MAX, &v.nscopes);
    if (!record_done(&in))
        return false;
    *ret = v;
    return true;
}
