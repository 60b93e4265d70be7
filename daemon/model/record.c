/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/record.h"

#include "client/proto/bigend.h"

enum { ABSENT = 0xffffffffu }; /* the length of a text that is not there */

#define ACTIONS(module) KT_LIT("read:" module), KT_LIT("write:" module), KT_LIT("delete:" module)

/* Scopes that a record has as a number. Stores have the numbers: nothing but appending is allowed
 * here, whatever becomes of the modules that are the default. */
static const struct kt_str known[] = {
    ACTIONS("*"),           ACTIONS("instances"),        ACTIONS("tokens"),
    ACTIONS("licenses"),    ACTIONS("feature_flags"),    ACTIONS("entitlements"),
    ACTIONS("components"),  ACTIONS("customers"),        ACTIONS("deployment_zones"),
    ACTIONS("releases"),    ACTIONS("metadata_fields"),  ACTIONS("users"),
    ACTIONS("webhooks"),    ACTIONS("organizations"),    ACTIONS("memberships"),
    ACTIONS("billing"),     ACTIONS("notifications"),    ACTIONS("addons"),
};

enum { KNOWN = sizeof known / sizeof known[0] };

void
record_put_u8(struct kt_buf *buf, uint8_t v)
{
    kt_buf_put(buf, &v, 1);
}

void
record_put_u32(struct kt_buf *buf, uint32_t v)
{
    unsigned char b[4];
    for (int i = 0; i < 4; i++)
        b[i] = (unsigned char)(v >> (24 - 8 * i));
    kt_buf_put(buf, b, sizeof b);
}

void
record_put_i64(struct kt_buf *buf, int64_t v)
{
    uint64_t u = (uint64_t)v;
    record_put_u32(buf, (uint32_t)(u >> 32));
    record_put_u32(buf, (uint32_t)u);
}

void
record_put_uuid(struct kt_buf *buf, const struct uuid *id)
{
    kt_buf_put(buf, id->b, sizeof id->b);
}

void
record_put_bytes(struct kt_buf *buf, const void *p, size_t n)
{
    kt_buf_put(buf, p, n);
}

void
record_put_str(struct kt_buf *buf, struct kt_str s)
{
    record_put_u32(buf, s.p ? (uint32_t)s.n : ABSENT);
    if (s.p)
        kt_buf_put(buf, s.p, s.n);
}

void
record_put_number(struct kt_buf *buf, uint64_t v)
{
    while (v >= 0x80) {
        record_put_u8(buf, (uint8_t)(v | 0x80));
        v >>= 7;
    }
    record_put_u8(buf, (uint8_t)v);
}

void
record_put_text(struct kt_buf *buf, struct kt_str s)
{
    record_put_number(buf, s.p ? 1 + (uint64_t)s.n : 0);
    if (s.p)
        kt_buf_put(buf, s.p, s.n);
}

/* A scope is twice the length of its text, and the text; or twice its place here, and one. */
void
record_put_scopes(struct kt_buf *buf, const struct kt_str v[], size_t n)
{
    record_put_number(buf, n);
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (k < KNOWN && !kt_str_eq(v[i], known[k]))
            k++;
        record_put_number(buf, k < KNOWN ? 2 * k + 1 : 2 * (uint64_t)v[i].n);
        if (k == KNOWN)
            kt_buf_put(buf, v[i].p, v[i].n);
    }
}

struct kt_str
record_finish(struct kt_arena *arena, struct kt_buf *buf)
{
    struct kt_str out = { NULL, 0 };
    if (!buf->failed)
        out = kt_arena_str(arena, kt_buf_str(buf));
    kt_buf_done(buf);
    return out;
}

void
record_open(struct record_in *in, struct kt_str bytes)
{
    in->p = (const unsigned char *)bytes.p;
    in->end = in->p + bytes.n;
    in->ok = true;
}

/* n bytes, or NULL when they are not all there. */
static const unsigned char *
take(struct record_in *in, size_t n)
{
    if (!in->ok || n > (size_t)(in->end - in->p)) {
        in->ok = false;
        return NULL;
    }
    const unsigned char *p = in->p;
    in->p += n;
    return p;
}

uint8_t
record_u8(struct record_in *in)
{
    const unsigned char *p = take(in, 1);
    return p ? *p : 0;
}

uint32_t
record_u32(struct record_in *in)
{
    const unsigned char *p = take(in, 4);
    return p ? (uint32_t)kt_get_be(p, 4) : 0;
}

int64_t
record_i64(struct record_in *in)
{
    uint64_t high = record_u32(in);
    return (int64_t)(high << 32 | record_u32(in));
}

void
record_bytes(struct record_in *in, void *out, size_t n)
{
    const unsigned char *p = take(in, n);
    if (p)
        memcpy(out, p, n);
    else
        memset(out, 0, n);
}

struct uuid
record_uuid(struct record_in *in)
{
    struct uuid id;
    record_bytes(in, id.b, sizeof id.b);
    return id;
}

struct kt_str
record_str(struct record_in *in)
{
    uint32_t n = record_u32(in);
    if (n == ABSENT)
        return (struct kt_str){ NULL, 0 };
    const unsigned char *p = take(in, n);
    return (struct kt_str){ (const char *)p, p ? n : 0 };
}

uint64_t
record_number(struct record_in *in)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b = record_u8(in);
        if (shift == 63 && b > 1)
            break;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80)
            return v;
    }
    in->ok = false;
    return 0;
}

static struct kt_str
text_of(struct record_in *in, uint64_t n)
{
    const unsigned char *p = take(in, n < SIZE_MAX ? (size_t)n : SIZE_MAX);
    return (struct kt_str){ (const char *)p, p ? (size_t)n : 0 };
}

struct kt_str
record_text(struct record_in *in)
{
    uint64_t n = record_number(in);
    return n == 0 ? (struct kt_str){ NULL, 0 } : text_of(in, n - 1);
}

static struct kt_str
scope_of(struct record_in *in)
{
    uint64_t n = record_number(in);
    if (n % 2 == 0)
        return text_of(in, n / 2);
    if (n / 2 < KNOWN)
        return known[n / 2];
    in->ok = false;
    return (struct kt_str){ NULL, 0 };
}

const struct kt_str *
record_scopes(struct record_in *in, struct kt_arena *arena, size_t max, size_t *ret_n)
{
    uint64_t n = record_number(in);
    struct kt_str *v = n <= max ? kt_arena_calloc(arena, (size_t)n, sizeof *v) : NULL;
    if (!v) {
        in->ok = false;
        n = 0;
    }
    for (size_t i = 0; i < n; i++)
        v[i] = scope_of(in);
    *ret_n = (size_t)n;
    return v;
}

bool
record_done(const struct record_in *in)
{
    return in->ok && in->p == in->end;
}
