/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/verdict.h"

#include "daemon/model/record.h"
#include "daemon/model/token.h"

/* The upper half of the first byte is the format, the lower one is flags: so the row of a token
 * with an expiry and one scope that has a number fits, with its key, into one block of the MAC, and
 * a start looks at them all. */
enum { VERDICT_FORMAT = 0x30, FORMAT_MASK = 0xf0, RECORD_MAX = 60 * 1024 };
enum { REVOKED = 1, EXPIRES = 2, HAS_KEY = 4, FLAGS = 7 };

struct kt_str
verdict_encode(struct kt_arena *arena, const struct verdict_record *v)
{
    struct kt_buf buf;
    kt_buf_init(&buf, RECORD_MAX);
    record_put_u8(&buf, (uint8_t)(VERDICT_FORMAT | (v->revoked ? REVOKED : 0) |
                                  (v->expires_ms ? EXPIRES : 0) | (v->key ? HAS_KEY : 0)));
    record_put_uuid(&buf, &v->org);
    record_put_uuid(&buf, &v->account);
    record_put_uuid(&buf, &v->token);
    record_put_number(&buf, v->epoch);
    if (v->expires_ms)
        record_put_number(&buf, (uint64_t)v->expires_ms);
    record_put_scopes(&buf, v->scopes, v->nscopes);
    if (v->key)
        record_put_u32(&buf, v->key);
    return record_finish(arena, &buf);
}

bool
verdict_decode(struct kt_arena *arena, struct kt_str value, struct verdict_record *ret)
{
    struct record_in in;
    struct verdict_record v = { .key = 0 };
    record_open(&in, value);
    uint8_t first = record_u8(&in), flags = first & (uint8_t)~FORMAT_MASK;
    if ((first & FORMAT_MASK) != VERDICT_FORMAT)
        return false;
    v.revoked = (flags & REVOKED) != 0;
    v.org = record_uuid(&in);
    v.account = record_uuid(&in);
    v.token = record_uuid(&in);
    uint64_t epoch = record_number(&in);
    v.epoch = (uint32_t)epoch;
    if (flags & EXPIRES)
        v.expires_ms = (int64_t)record_number(&in);
    v.scopes = record_scopes(&in, arena, TOKEN_SCOPES_MAX, &v.nscopes);
    if (flags & HAS_KEY)
        v.key = record_u32(&in);
    if (!record_done(&in) || flags > FLAGS || epoch > UINT32_MAX)
        return false;
    *ret = v;
    return true;
}
