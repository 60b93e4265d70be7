/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/encode.h"

#include "client/proto/check.h"
#include "client/proto/json.h"
#include "client/proto/pack.h"

_Static_assert(offsetof(struct kt_list, has) == offsetof(struct kt_strlist, has), "one layout");

/* Whether a member is written at all. A required one is, as null when it is absent. */
static bool
is_said(const struct kt_field *f, const void *m)
{
    if (f->type == KT_T_BOOL)
        return *(const bool *)m || !(f->flags & KT_OMIT_FALSE);
    if (f->type == KT_T_STR && (f->flags & KT_OMIT_EMPTY))
        return ((const struct kt_str *)m)->n != 0;
    if (f->flags & KT_REQUIRED)
        return true;
    switch (f->type) {
    case KT_T_INT: return *(const int64_t *)m != KT_NO_INT;
    case KT_T_TIME: return kt_time_is_set(*(const struct kt_time *)m);
    case KT_T_STR:
    case KT_T_SECRET_VIEW: return ((const struct kt_str *)m)->p != NULL;
    case KT_T_STRLIST:
    case KT_T_SECRET_LIST:
    case KT_T_LIST: return ((const struct kt_strlist *)m)->has != KT_ABSENT;
    case KT_T_SECRET:
    case KT_T_OBJECT:
    case KT_T_ANY: return *(const void *const *)m != NULL;
    case KT_T_BOOL: break;
    }
    return true;
}

static const void *
member_of(const struct kt_field *f, const void *p)
{
    return (const char *)p + f->offset;
}

static struct kt_str
secret_str(const struct kt_secret *secret)
{
    struct kt_secret_view v = kt_secret_view(secret);
    return (struct kt_str){ v.p, v.n };
}

/* --- JSON --------------------------------------------------------------------------------- */

static void json_member(struct kt_buf *, const struct kt_field *, const void *m);

static void
json_strings(struct kt_buf *buf, const struct kt_strlist *list)
{
    if (list->has != KT_SET) {
        kt_buf_puts(buf, "null");
        return;
    }
    kt_buf_putc(buf, '[');
    for (size_t i = 0; i < list->n; i++) {
        if (i != 0)
            kt_buf_putc(buf, ',');
        kt_json_put_str(buf, list->v[i]);
    }
    kt_buf_putc(buf, ']');
}

static void
json_list(struct kt_buf *buf, const struct kt_shape *shape, const struct kt_list *list)
{
    if (list->has != KT_SET) {
        kt_buf_puts(buf, "null");
        return;
    }
    kt_buf_putc(buf, '[');
    for (size_t i = 0; i < list->n; i++) {
        if (i != 0)
            kt_buf_putc(buf, ',');
        kt_encode_json(buf, shape, (const char *)list->v + i * shape->size);
    }
    kt_buf_putc(buf, ']');
}

static void
json_time(struct kt_buf *buf, struct kt_time t)
{
    char text[KT_TIME_MAX];
    size_t n = kt_time_is_set(t) ? kt_time_print(t, text) : 0;
    kt_json_put_str(buf, (struct kt_str){ n ? text : NULL, n });
}

static void
json_object(struct kt_buf *buf, const struct kt_shape *shape, const void *p)
{
    if (p)
        kt_encode_json(buf, shape, p);
    else
        kt_buf_puts(buf, "null");
}

static void
json_any(struct kt_buf *buf, const struct kt_value *v)
{
    if (v)
        kt_json_put_value(buf, v);
    else
        kt_buf_puts(buf, "null");
}

static void
json_member(struct kt_buf *buf, const struct kt_field *f, const void *m)
{
    switch (f->type) {
    case KT_T_BOOL: kt_json_put_bool(buf, *(const bool *)m); return;
    case KT_T_INT: kt_json_put_int(buf, *(const int64_t *)m); return;
    case KT_T_TIME: json_time(buf, *(const struct kt_time *)m); return;
    case KT_T_STR:
    case KT_T_SECRET_VIEW: kt_json_put_str(buf, *(const struct kt_str *)m); return;
    case KT_T_STRLIST:
    case KT_T_SECRET_LIST: json_strings(buf, m); return;
    case KT_T_SECRET: kt_json_put_str(buf, secret_str(*(struct kt_secret *const *)m)); return;
    case KT_T_OBJECT: json_object(buf, f->shape, *(const void *const *)m); return;
    case KT_T_LIST: json_list(buf, f->shape, m); return;
    case KT_T_ANY: json_any(buf, *(const struct kt_value *const *)m); return;
    }
}

void
kt_encode_json(struct kt_buf *buf, const struct kt_shape *shape, const void *p)
{
    char sep = '{';
    for (const struct kt_field *f = shape->fields; f->name; f++) {
        const void *m = member_of(f, p);
        if (!is_said(f, m))
            continue;
        kt_buf_putc(buf, sep);
        kt_buf_putc(buf, '"');
        kt_buf_put(buf, f->name, f->name_len);
        kt_buf_put(buf, "\":", 2);
        json_member(buf, f, m);
        sep = ',';
    }
    kt_buf_puts(buf, sep == '{' ? "{}" : "}");
}

/* --- MessagePack -------------------------------------------------------------------------- */

static void
pack_strings(struct kt_buf *buf, const struct kt_strlist *list)
{
    if (list->has != KT_SET) {
        kt_pack_put_nil(buf);
        return;
    }
    kt_pack_put_array(buf, list->n);
    for (size_t i = 0; i < list->n; i++)
        kt_pack_put_str(buf, list->v[i]);
}

static void
pack_list(struct kt_buf *buf, const struct kt_shape *shape, const struct kt_list *list)
{
    if (list->has != KT_SET) {
        kt_pack_put_nil(buf);
        return;
    }
    kt_pack_put_array(buf, list->n);
    for (size_t i = 0; i < list->n; i++)
        kt_encode_pack(buf, shape, (const char *)list->v + i * shape->size);
}

/* Text, as over HTTP: one spelling of an instant everywhere. */
static void
pack_time(struct kt_buf *buf, struct kt_time t)
{
    char text[KT_TIME_MAX];
    size_t n = kt_time_is_set(t) ? kt_time_print(t, text) : 0;
    kt_pack_put_str(buf, (struct kt_str){ n ? text : NULL, n });
}

static void
pack_object(struct kt_buf *buf, const struct kt_shape *shape, const void *p)
{
    if (p)
        kt_encode_pack(buf, shape, p);
    else
        kt_pack_put_nil(buf);
}

static void
pack_any(struct kt_buf *buf, const struct kt_value *v)
{
    if (v)
        kt_pack_put_value(buf, v);
    else
        kt_pack_put_nil(buf);
}

static void
pack_member(struct kt_buf *buf, const struct kt_field *f, const void *m)
{
    switch (f->type) {
    case KT_T_BOOL: kt_pack_put_bool(buf, *(const bool *)m); return;
    case KT_T_INT: kt_pack_put_int(buf, *(const int64_t *)m); return;
    case KT_T_TIME: pack_time(buf, *(const struct kt_time *)m); return;
    case KT_T_STR:
    case KT_T_SECRET_VIEW: kt_pack_put_str(buf, *(const struct kt_str *)m); return;
    case KT_T_STRLIST:
    case KT_T_SECRET_LIST: pack_strings(buf, m); return;
    case KT_T_SECRET: kt_pack_put_str(buf, secret_str(*(struct kt_secret *const *)m)); return;
    case KT_T_OBJECT: pack_object(buf, f->shape, *(const void *const *)m); return;
    case KT_T_LIST: pack_list(buf, f->shape, m); return;
    case KT_T_ANY: pack_any(buf, *(const struct kt_value *const *)m); return;
    }
}

void
kt_encode_pack(struct kt_buf *buf, const struct kt_shape *shape, const void *p)
{
    uint64_t said = 0, bit = 1;
    for (const struct kt_field *f = shape->fields; f->name; f++, bit <<= 1)
        said |= is_said(f, member_of(f, p)) ? bit : 0;
    kt_pack_put_map(buf, (size_t)__builtin_popcountll(said));
    for (const struct kt_field *f = shape->fields; said; f++, said >>= 1) {
        if (!(said & 1))
            continue;
        kt_pack_put_str(buf, (struct kt_str){ f->name, f->name_len });
        pack_member(buf, f, member_of(f, p));
    }
}

bool
kt_shape_reveals(const struct kt_shape *shape)
{
    for (const struct kt_field *f = shape->fields; f->name; f++)
        if (f->type == KT_T_SECRET)
            return true;
    return false;
}
