/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/record.h"

enum { ABSENT = 0xffffffffu }; /* the length of a text that is not there */

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
record_put_strs(struct kt_buf *buf, const struct kt_str v[], size_t n)
{
    record_put_u32(buf, (uint32_t)n);
    for (size_t i = 0; i < n; i++)
        record_put_str(buf, v[i]);
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
    if (!p)
        return 0;
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
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

const struct kt_str *
record_strs(struct record_in *in, struct kt_arena *arena, size_t max, size_t *ret_n)
{
    size_t n = record_u32(in);
    struct kt_str *v = n <= max ? kt_arena_calloc(arena, n, sizeof *v) : NULL;
    if (!v) {
        in->ok = false;
        n = 0;
    }
    for (size_t i = 0; i < n; i++)
        v[i] = record_str(in);
    *ret_n = n;
    return v;
}

bool
record_done(const struct record_in *in)
{
    return in->ok && in->p == in->end;
}
