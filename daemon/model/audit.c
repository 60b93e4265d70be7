/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/audit.h"

#include "daemon/model/account.h"
#include "daemon/model/record.h"
#include "daemon/model/verdict.h"
#include "daemon/principal.h"

enum { AUDIT_FORMAT = 1, AUDIT_MAX = 4096 };

static void
put_optional(struct kt_buf *buf, const struct uuid *id)
{
    static const struct uuid none = { { 0 } };
    record_put_uuid(buf, id ? id : &none);
}

/* Who did it, for whom, and the proof of it. */
struct author {
    const struct uuid *org, *id;
    struct kt_str subject;
    const char *proof;
};

static void
put(struct call *call, struct batch *batch, const struct author *who, const char *operation,
    const struct uuid *account, const struct uuid *token)
{
    /* Ordered by time and unique, so that the space reads as a journal. */
    const struct uuid id = uuid_v7(call->now_ms);
    struct kt_buf key, value;
    kt_buf_init(&key, KAITEN_KEY_MAX);
    kt_buf_init(&value, AUDIT_MAX);
    record_put_u8(&key, 'e');
    record_put_uuid(&key, who->org);
    record_put_uuid(&key, &id);
    record_put_u8(&value, AUDIT_FORMAT);
    record_put_i64(&value, call->now_ms);
    record_put_str(&value, kt_str(operation));
    put_optional(&value, who->id);
    record_put_str(&value, who->subject);
    record_put_str(&value, kt_str(who->proof));
    put_optional(&value, account);
    put_optional(&value, token);
    if (key.failed || value.failed)
        batch->failed = true;
    else
        batch_set(batch, kt_arena_str(call->arena, kt_buf_str(&key)),
                  kt_arena_str(call->arena, kt_buf_str(&value)));
    kt_buf_done(&key);
    kt_buf_done(&value);
}

void
audit_put(struct call *call, struct batch *batch, const char *operation,
          const struct uuid *account, const struct uuid *token)
{
    const struct principal *p = call->who;
    const struct author who = { &p->org, &p->id, p->subject, p->proof };
    put(call, batch, &who, operation, account, token);
}

void
audit_put_own(struct call *call, struct batch *batch, const char *operation, const char *why,
              const struct verdict_record *token)
{
    const struct author who = { &token->org, NULL, KT_LIT("kaitend"), why };
    put(call, batch, &who, operation, &token->account, &token->token);
}
