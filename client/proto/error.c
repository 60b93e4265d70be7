/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/error.h"

#define IETF "https://tools.ietf.org/html/"
/* The reference answers every kind without a section of its own with this type. */
#define OTHER IETF "rfc7231#section-6.6.1"

static const struct kt_kind_info kinds[KT_KIND_COUNT] = {
    [KT_OK] = { "OK", 200, "OK", "", 0, false },
    [KT_VALIDATION] = { "VALIDATION", 400, "Bad Request", IETF "rfc7231#section-6.5.1", 1, false },
    [KT_UNAUTHORIZED] = { "UNAUTHORIZED", 401, "Unauthorized",
                          IETF "rfc7235#section-3.1", 0, false },
    [KT_FORBIDDEN] = { "FORBIDDEN", 403, "Forbidden", IETF "rfc7231#section-6.5.3", 0, false },
    [KT_NOT_FOUND] = { "NOT_FOUND", 404, "Not Found", IETF "rfc7231#section-6.5.4", 0, false },
    [KT_METHOD] = { "UNKNOWN", 405, "Method Not Allowed", OTHER, 0, false },
    [KT_TIMEOUT] = { "UNKNOWN", 408, "Request Timeout", OTHER, 0, true },
    [KT_CONFLICT] = { "CONFLICT", 409, "Conflict", IETF "rfc7231#section-6.5.8", 0, false },
    [KT_TOO_LARGE] = { "UNKNOWN", 413, "Request Entity Too Large", OTHER, 1, false },
    [KT_URI_TOO_LONG] = { "UNKNOWN", 414, "Request URI Too Long", OTHER, 0, false },
    [KT_MEDIA_TYPE] = { "UNKNOWN", 415, "Unsupported Media Type", OTHER, 0, false },
    [KT_EXPECTATION] = { "UNKNOWN", 417, "Expectation Failed", OTHER, 0, false },
    [KT_UNPROCESSABLE] = { "UNPROCESSABLE", 422, "Unprocessable Entity",
                           IETF "rfc4918#section-11.2", 1, false },
    [KT_TOO_MANY_REQUESTS] = { "TOO_MANY_REQUESTS", 429, "Too Many Requests", OTHER, 0, true },
    [KT_HEADERS] = { "UNKNOWN", 431, "Request Header Fields Too Large", OTHER, 0, false },
    [KT_INTERNAL] = { "INTERNAL", 500, "Internal Server Error", OTHER, 0, false },
    [KT_NOT_IMPLEMENTED] = { "UNKNOWN", 501, "Not Implemented", OTHER, 0, false },
    [KT_UNAVAILABLE] = { "UNAVAILABLE", 503, "Service Unavailable",
                         IETF "rfc7231#section-6.6.4", 0, true },
    [KT_VERSION] = { "UNKNOWN", 505, "HTTP Version Not Supported", OTHER, 0, false },
};

const struct kt_kind_info *
kt_kind_info(enum kt_kind kind)
{
    if ((unsigned)kind >= KT_KIND_COUNT)
        kind = KT_INTERNAL;
    return &kinds[kind];
}

const char *
kt_error_code(const struct kt_error *err)
{
    return err->code ? err->code : kt_kind_info(err->kind)->code;
}

bool
kt_error_field(struct kt_error *err, struct kt_arena *arena, struct kt_str location,
               struct kt_str message, const struct kt_value *value)
{
    if (err->nfields++ >= KT_FIELD_ERRORS_MAX)
        return true;
    if (!err->fields)
        err->fields = kt_arena_calloc(arena, KT_FIELD_ERRORS_MAX, sizeof *err->fields);
    if (!err->fields)
        return false;
    err->fields[err->nfields - 1] = (struct kt_field_error){ message, location, value };
    return true;
}
