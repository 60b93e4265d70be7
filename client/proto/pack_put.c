/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/pack.h"

#include <msgpack.h>

static int
packer_write(void *data, const char *p, size_t n)
{
    struct kt_buf *buf = data;
    kt_buf_put(buf, p, n);
    return buf->failed ? -1 : 0;
}

static inline msgpack_packer
packer(struct kt_buf *buf)
{
    return (msgpack_packer){ .data = buf, .callback = packer_write };
}

static bool
length_fits(struct kt_buf *buf, size_t n)
{
    if (n > UINT32_MAX)
        buf->failed = true;
    return n <= UINT32_MAX;
}

/* Nearly all that an answer consists of has a header of one byte, or is a UUID or the like, with
 * two; for these the packer's call of a callback per header would cost more than the rest. */

enum { SHORT_STR = 31, STR_8 = 255, SHORT_ARRAY = 15, SHORT_MAP = 15 };

static void
put_head(struct kt_buf *buf, unsigned head)
{
    kt_buf_putc(buf, (char)(unsigned char)head);
}

void
kt_pack_put_nil(struct kt_buf *buf)
{
    put_head(buf, 0xC0);
}

void
kt_pack_put_bool(struct kt_buf *buf, bool b)
{
    put_head(buf, b ? 0xC3 : 0xC2);
}

void
kt_pack_put_int(struct kt_buf *buf, int64_t i)
{
    msgpack_packer pk = packer(buf);
    msgpack_pack_int64(&pk, i);
}

void
kt_pack_put_uint(struct kt_buf *buf, uint64_t u)
{
    msgpack_packer pk = packer(buf);
    msgpack_pack_uint64(&pk, u);
}

void
kt_pack_put_double(struct kt_buf *buf, double d)
{
    msgpack_packer pk = packer(buf);
    msgpack_pack_double(&pk, d);
}

/* Apart, so that only these make a packer. */
static void
put_long_str(struct kt_buf *buf, struct kt_str s)
{
    msgpack_packer pk = packer(buf);
    if (length_fits(buf, s.n) && msgpack_pack_str(&pk, s.n) == 0)
        kt_buf_put(buf, s.p, s.n);
}

void
kt_pack_put_str(struct kt_buf *buf, struct kt_str s)
{
    if (!s.p) {
        kt_pack_put_nil(buf);
    } else if (s.n > STR_8) {
        put_long_str(buf, s);
    } else {
        if (s.n > SHORT_STR)
            put_head(buf, 0xD9);
        put_head(buf, s.n > SHORT_STR ? (unsigned)s.n : 0xA0 | (unsigned)s.n);
        kt_buf_put(buf, s.p, s.n);
    }
}

void
kt_pack_put_bin(struct kt_buf *buf, struct kt_str s)
{
    msgpack_packer pk = packer(buf);
    if (!s.p)
        msgpack_pack_nil(&pk);
    else if (length_fits(buf, s.n) && msgpack_pack_bin(&pk, s.n) == 0)
        kt_buf_put(buf, s.p, s.n);
}

void
kt_pack_put_time(struct kt_buf *buf, struct kt_time t)
{
    msgpack_packer pk = packer(buf);
    if (!kt_time_is_set(t)) {
        msgpack_pack_nil(&pk);
        return;
    }
    int64_t ms = t.ms % 1000;
    msgpack_timestamp stamp = { .tv_sec = t.ms / 1000 };
    if (ms < 0) {
        ms += 1000;
        stamp.tv_sec--;
    }
    stamp.tv_nsec = (uint32_t)ms * 1000000;
    msgpack_pack_timestamp(&pk, &stamp);
}

void
kt_pack_put_array(struct kt_buf *buf, size_t n)
{
    msgpack_packer pk = packer(buf);
    if (n <= SHORT_ARRAY)
        put_head(buf, 0x90 | (unsigned)n);
    else if (length_fits(buf, n))
        msgpack_pack_array(&pk, n);
}

void
kt_pack_put_map(struct kt_buf *buf, size_t n)
{
    msgpack_packer pk = packer(buf);
    if (n <= SHORT_MAP)
        put_head(buf, 0x80 | (unsigned)n);
    else if (length_fits(buf, n))
        msgpack_pack_map(&pk, n);
}

static void
put_array_value(struct kt_buf *buf, const struct kt_value *value)
{
    kt_pack_put_array(buf, value->array.n);
    for (size_t i = 0; i < value->array.n; i++)
        kt_pack_put_value(buf, &value->array.v[i]);
}

static void
put_map_value(struct kt_buf *buf, const struct kt_value *value)
{
    kt_pack_put_map(buf, value->map.n);
    for (size_t i = 0; i < value->map.n; i++) {
        kt_pack_put_str(buf, value->map.v[i].name);
        kt_pack_put_value(buf, &value->map.v[i].value);
    }
}

void
kt_pack_put_value(struct kt_buf *buf, const struct kt_value *value)
{
    switch (value->type) {
    case KT_V_NULL:
        kt_pack_put_nil(buf);
        return;
    case KT_V_BOOL:
        kt_pack_put_bool(buf, value->b);
        return;
    case KT_V_INT:
        kt_pack_put_int(buf, value->i);
        return;
    case KT_V_UINT:
        kt_pack_put_uint(buf, value->u);
        return;
    case KT_V_NUMBER:
        kt_pack_put_double(buf, value->d);
        return;
    case KT_V_STR:
        kt_pack_put_str(buf, value->s);
        return;
    case KT_V_BIN:
        kt_pack_put_bin(buf, value->s);
        return;
    case KT_V_TIME:
        kt_pack_put_time(buf, value->t);
        return;
    case KT_V_ARRAY:
        put_array_value(buf, value);
        return;
    case KT_V_MAP:
        put_map_value(buf, value);
        return;
    }
}
