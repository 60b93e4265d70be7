/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/timemark.h"

#include "daemon/model/account.h"
#include "daemon/model/record.h"
#include "daemon/service.h"

enum { FORMAT = 1 };

static const struct kt_str mark_key = KT_LIT("mclock");

static int
read_row(struct call *call, struct store_row *row, struct timeguard_mark *ret)
{
    struct record_in in;
    *ret = (struct timeguard_mark){ .mark_ms = 0 };
    int status = store_get(call, call->svc->store, &mark_key, 1, row);
    if (status != KT_OK || !row->value.p)
        return status;
    record_open(&in, row->value);
    uint8_t format = record_u8(&in);
    ret->mark_ms = record_i64(&in);
    ret->mono_ms = record_i64(&in);
    record_bytes(&in, ret->boot, sizeof ret->boot);
    return record_done(&in) && format == FORMAT ? KT_OK : fail_record(call, 'm');
}

int
timemark_read(struct call *call, struct timeguard_mark *ret)
{
    struct store_row row;
    return read_row(call, &row, ret);
}

int
timemark_propose(struct call *call, const struct timeguard_mark *mark, struct batch *b)
{
    struct store_row row;
    struct timeguard_mark theirs;
    int status = read_row(call, &row, &theirs);
    if (status != KT_OK || theirs.mark_ms >= mark->mark_ms)
        return status;
    if (row.value.p)
        batch_if_at(b, &row);
    else
        batch_if_absent(b, mark_key, (struct refusal){ .kind = KT_OK });
    timemark_put(b, mark);
    return KT_OK;
}

void
timemark_put(struct batch *b, const struct timeguard_mark *mark)
{
    struct kt_buf buf;
    kt_buf_init(&buf, 64);
    record_put_u8(&buf, FORMAT);
    record_put_i64(&buf, mark->mark_ms);
    record_put_i64(&buf, mark->mono_ms);
    record_put_bytes(&buf, mark->boot, sizeof mark->boot);
    batch_set(b, mark_key, record_finish(b->arena, &buf));
}

int
timemark_write(struct call *call, const struct timeguard_mark *mark)
{
    struct batch *b = batch_new(call->arena);
    if (!b)
        return fail_memory(call);
    timemark_put(b, mark);
    return store_apply_one(call, call->svc->store, b);
}
