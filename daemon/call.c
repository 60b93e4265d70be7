/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/call.h"

#include "daemon/log.h"
#include "daemon/plugin.h"

#include <stdio.h>
#include <time.h>

static bool
already_failed(const struct call *call)
{
    return call->err.kind != KT_OK;
}

int
fail(struct call *call, enum kt_kind kind, const char *code, const char *fmt, ...)
{
    if (already_failed(call))
        return (int)call->err.kind;
    va_list ap;
    va_start(ap, fmt);
    call->err.detail = kt_arena_vprintf(call->arena, fmt, ap);
    va_end(ap);
    call->err.code = code;
    call->err.kind = kind;
    return (int)kind;
}

/* Random, and meaningless but for the log line that carries the same. */
static void
make_error_id(char id[37])
{
    unsigned char b[16];
    host_table.random(b, sizeof b);
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    snprintf(id, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
             b[14], b[15]);
}

int
fail_cause(struct call *call, enum kt_kind kind, const char *code, const char *fmt, ...)
{
    char cause[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cause, sizeof cause, fmt, ap);
    va_end(ap);
    char id[37];
    make_error_id(id);
    log_line(LOG_LEVEL_ERROR, "request.failed", "error_id=%s cause=%s", id, cause);
    if (already_failed(call))
        return (int)call->err.kind;
    memcpy(call->err.id, id, sizeof id);
    call->err.code = code;
    call->err.detail = kind == KT_UNAVAILABLE ? KT_LIT("temporarily unavailable, please retry")
                                              : KT_LIT("unexpected error occurred");
    call->err.kind = kind;
    return (int)kind;
}

int
fail_memory(struct call *call)
{
    return fail_cause(call, KT_UNAVAILABLE, NULL, "out of memory for this request");
}

int
fail_record(struct call *call, char space)
{
    return fail_cause(call, KT_INTERNAL, NULL, "a record of space '%c' has another form", space);
}

static int64_t
clock_ms(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t
clock_wall_ms(void)
{
    return clock_ms(CLOCK_REALTIME);
}

int64_t
clock_mono_ms(void)
{
    return clock_ms(CLOCK_BOOTTIME);
}
