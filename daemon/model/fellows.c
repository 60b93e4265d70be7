/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/fellows.h"

#include "daemon/model/account.h"
#include "daemon/model/record.h"
#include "daemon/service.h"

enum { FORMAT = 1, ROW_MAX = 256, TRIES = 8 };

static const struct kt_str signer_key = KT_LIT("msigner"), pass_key = KT_LIT("mpurge");

/* Writes the row, if it is still as it was read. */
static struct batch *
write_row(struct kt_arena *arena, const struct store_row *row, struct kt_buf *value)
{
    struct batch *b = batch_new(arena);
    struct kt_str bytes = record_finish(arena, value);
    if (!b)
        return NULL;
    if (row->value.p)
        batch_if_at(b, row);
    else
        batch_if_absent(b, row->key, (struct refusal){ .kind = KT_OK });
    batch_set(b, row->key, bytes);
    return b->failed ? NULL : b;
}

/* --- the signing key ---------------------------------------------------------------------- */

static int
read_signer(struct call *call, struct store_row *row, struct kt_str *ret)
{
    struct record_in in;
    int status = store_get(call, call->svc->store, &signer_key, 1, row);
    if (status != KT_OK || !row->value.p)
        return status;
    record_open(&in, row->value);
    uint8_t format = record_u8(&in);
    *ret = record_str(&in);
    return record_done(&in) && format == FORMAT ? KT_OK : fail_record(call, 'm');
}

/* KT_CONFLICT: somebody else was faster. */
static int
write_signer(struct call *call, const struct store_row *row, const char *kid)
{
    struct kt_buf value;
    kt_buf_init(&value, ROW_MAX);
    record_put_u8(&value, FORMAT);
    record_put_str(&value, kt_str(kid));
    return store_apply_one(call, call->svc->store, write_row(call->arena, row, &value));
}

int
fellows_check_signer(struct call *call, const char *kid, bool accept, struct kt_str *ret_other)
{
    for (int i = 0; i < TRIES; i++) {
        struct store_row row;
        struct kt_str theirs = { NULL, 0 };
        *ret_other = theirs;
        int status = read_signer(call, &row, &theirs);
        if (status != KT_OK || (theirs.p && kt_str_is(theirs, kid)))
            return status;
        if (theirs.p && !accept) {
            *ret_other = theirs;
            return KT_OK;
        }
        status = write_signer(call, &row, kid);
        if (status != KT_CONFLICT)
            return status;
    }
    return fail_cause(call, KT_UNAVAILABLE, NULL, "somebody else writes the signing key");
}

/* --- purging ------------------------------------------------------------------------------ */

int
fellows_propose_pass(struct call *call, int64_t interval_ms, struct batch **ret)
{
    struct store_row row;
    struct record_in in;
    struct kt_buf value;
    int64_t due_ms = 0;
    int status = store_get(call, call->svc->store, &pass_key, 1, &row);
    if (status != KT_OK)
        return status;
    if (row.value.p) {
        record_open(&in, row.value);
        uint8_t format = record_u8(&in);
        due_ms = record_i64(&in);
        if (!record_done(&in) || format != FORMAT)
            return fail_record(call, 'm');
    }
    /* Due later than one interval from now: written by a clock that was wrong. */
    if (due_ms > call->now_ms && due_ms <= call->now_ms + interval_ms)
        return KT_OK;
    kt_buf_init(&value, ROW_MAX);
    record_put_u8(&value, FORMAT);
    record_put_i64(&value, call->now_ms + interval_ms);
    struct batch *b = write_row(call->arena, &row, &value);
    if (!b)
        return fail_memory(call);
    *ret = b;
    return KT_OK;
}
