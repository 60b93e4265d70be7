/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/format.h"

#include "daemon/log.h"
#include "daemon/model/migrate.h"
#include "daemon/model/record.h"
#include "daemon/service.h"
#include "daemon/store.h"

/* Format 1 had longer rows of tokens, and claims under their whole texts. In format 2 the
 * place of a claim depended on the beginning of its text alone. */
enum { STORE_FORMAT = 3 };

static const struct kt_str format_key = KT_LIT("mformat");

/* 0: the row has another form. */
static uint32_t
read_format(struct kt_str value)
{
    struct record_in in;
    record_open(&in, value);
    uint32_t format = record_u32(&in);
    return in.ok ? format : 0;
}

bool
format_is_known(struct kt_str key, struct kt_str value)
{
    uint32_t format = read_format(value);
    return !kt_str_eq(key, format_key) || (format >= 1 && format <= STORE_FORMAT);
}

/* old: the row that is written over, or NULL when there is none. */
static int
write_format(struct call *call, const struct store_row *old)
{
    struct kt_buf value;
    struct batch *b = batch_new(call->arena);
    if (!b)
        return fail_memory(call);
    kt_buf_init(&value, 64);
    record_put_u32(&value, STORE_FORMAT);
    record_put_i64(&value, call->now_ms);
    if (old)
        batch_if_at(b, old);
    else
        batch_if_absent(b, format_key, (struct refusal){ .kind = KT_OK });
    batch_set(b, format_key, record_finish(call->arena, &value));
    return store_apply_one(call, call->svc->store, b);
}

/* The number is written last: until then an interrupted change of the rows begins again. */
static int
bring_up(struct call *call, uint32_t format)
{
    struct store_row row;
    log_line(LOG_LEVEL_NOTICE, "store.format", "from=%u to=%d", format, STORE_FORMAT);
    int status = format == 1 ? migrate_tokens(call) : KT_OK;
    if (status == KT_OK) /* of format 1, too: who wrote format 2 may have been interrupted */
        status = migrate_claims(call);
    if (status == KT_OK)
        status = store_get(call, call->svc->store, &format_key, 1, &row);
    return status == KT_OK ? write_format(call, &row) : status;
}

static int
refuse_unfinished(struct call *call)
{
    struct store_row row;
    const struct kt_str key = KT_LIT(FORMAT_IMPORT_KEY);
    int status = store_get(call, call->svc->store, &key, 1, &row);
    if (status != KT_OK || !row.value.p)
        return status;
    log_line(LOG_LEVEL_ERROR, "start.failed", "message=%s",
             "an import into the store was not finished; run it again: kaitend --import");
    return KT_INTERNAL;
}

static int
check(struct call *call, const char *key_file)
{
    struct store_row row;
    int status = store_get(call, call->svc->store, &format_key, 1, &row);
    if (status == KT_UNAVAILABLE)
        return status;
    if (status != KT_OK) {
        log_line(LOG_LEVEL_ERROR, "start.failed", "file=%s message=%s", key_file,
                 "the store was made with another digest key than this one, or its records were "
                 "changed; restore the key file that belongs to this store");
        return status;
    }
    status = refuse_unfinished(call);
    if (status != KT_OK)
        return status;
    if (!row.value.p)
        return write_format(call, NULL);
    uint32_t format = read_format(row.value);
    if (format == STORE_FORMAT)
        return KT_OK;
    if (format_is_known(format_key, row.value))
        return bring_up(call, format);
    log_line(LOG_LEVEL_ERROR, "start.failed", "message=%s format=%u known=%d",
             "the store has a format that this version does not know", format, STORE_FORMAT);
    return KT_INTERNAL;
}

/* Another daemon may have made the store in the same instant, perhaps with another key. */
int
format_check(struct call *call, const char *key_file)
{
    int status = check(call, key_file);
    return status == KT_CONFLICT ? check(call, key_file) : status;
}
