/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-postgres/pg.h"

#include <stdlib.h>
#include <string.h>

/* Numbers of types, fixed for ever in pg_type.dat. */
enum {
    TYPE_BOOL = 16, TYPE_BYTEA = 17, TYPE_INT8 = 20, TYPE_INT4 = 23, TYPE_TEXT = 25,
    TYPE_BOOL_ARRAY = 1000, TYPE_BYTEA_ARRAY = 1001, TYPE_INT4_ARRAY = 1007,
    TYPE_INT8_ARRAY = 1016, TYPE_UUID = 2950, TYPE_XID8 = 5069, TYPE_XID8_ARRAY = 271
};

void
pg_params_reset(struct pg_params *p)
{
    p->n = 0;
    p->count = 0;
    p->failed = false;
}

void
pg_params_done(struct pg_params *p)
{
    free(p->data);
    *p = (struct pg_params){ .data = NULL };
}

static void
append(struct pg_params *p, const void *data, size_t n)
{
    if (p->failed || n == 0)
        return;
    if (p->room - p->n < n) {
        size_t room = (p->n + n) * 2;
        unsigned char *grown = realloc(p->data, room);
        if (!grown) {
            p->failed = true;
            return;
        }
        p->data = grown;
        p->room = room;
    }
    memcpy(p->data + p->n, data, n);
    p->n += n;
    p->lengths[p->count - 1] += (int)n;
}

static void
append_number(struct pg_params *p, uint64_t number, size_t bytes)
{
    unsigned char wire[8];
    for (size_t i = 0; i < bytes; i++)
        wire[i] = (unsigned char)(number >> 8 * (bytes - 1 - i));
    append(p, wire, bytes);
}

static void
begin(struct pg_params *p, Oid type)
{
    if (p->count == PG_PARAMS_MAX)
        abort();
    p->types[p->count] = type;
    p->offsets[p->count] = p->n;
    p->lengths[p->count] = 0;
    p->count++;
}

void
pg_put_bytes(struct pg_params *p, struct kaiten_bytes bytes)
{
    begin(p, TYPE_BYTEA);
    append(p, bytes.p, bytes.n);
}

void
pg_put_int8(struct pg_params *p, int64_t number)
{
    begin(p, TYPE_INT8);
    append_number(p, (uint64_t)number, 8);
}

void
pg_put_xid8(struct pg_params *p, uint64_t number)
{
    begin(p, TYPE_XID8);
    append_number(p, number, 8);
}

void
pg_put_bool(struct pg_params *p, bool value)
{
    begin(p, TYPE_BOOL);
    append_number(p, value, 1);
}

void
pg_put_uuid(struct pg_params *p, const unsigned char id[16])
{
    begin(p, TYPE_UUID);
    append(p, id, 16);
}

void
pg_put_text(struct pg_params *p, const char *text)
{
    begin(p, TYPE_TEXT);
    append(p, text, strlen(text));
}

/* Dimensions, whether there are nulls, the type of elements; then length and lower bound of the
 * only dimension. */
static void
begin_array(struct pg_params *p, Oid array, Oid element, size_t n)
{
    begin(p, array);
    append_number(p, n > 0, 4);
    append_number(p, 0, 4);
    append_number(p, element, 4);
    if (n == 0)
        return;
    append_number(p, n, 4);
    append_number(p, 1, 4);
}

void
pg_put_bytes_array(struct pg_params *p, size_t n)
{
    begin_array(p, TYPE_BYTEA_ARRAY, TYPE_BYTEA, n);
}

void
pg_add_bytes(struct pg_params *p, struct kaiten_bytes bytes)
{
    append_number(p, bytes.n, 4);
    append(p, bytes.p, bytes.n);
}

void
pg_put_int8_array(struct pg_params *p, size_t n)
{
    begin_array(p, TYPE_INT8_ARRAY, TYPE_INT8, n);
}

void
pg_add_int8(struct pg_params *p, int64_t number)
{
    append_number(p, 8, 4);
    append_number(p, (uint64_t)number, 8);
}

void
pg_put_xid8_array(struct pg_params *p, size_t n)
{
    begin_array(p, TYPE_XID8_ARRAY, TYPE_XID8, n);
}

void
pg_put_int4_array(struct pg_params *p, size_t n)
{
    begin_array(p, TYPE_INT4_ARRAY, TYPE_INT4, n);
}

void
pg_add_int4(struct pg_params *p, int32_t number)
{
    append_number(p, 4, 4);
    append_number(p, (uint64_t)(int64_t)number, 4);
}

void
pg_put_bool_array(struct pg_params *p, size_t n)
{
    begin_array(p, TYPE_BOOL_ARRAY, TYPE_BOOL, n);
}

void
pg_add_bool(struct pg_params *p, bool value)
{
    append_number(p, 1, 4);
    append_number(p, value, 1);
}

/* What libpq wants to have of them. */
struct given {
    const char *values[PG_PARAMS_MAX];
    int formats[PG_PARAMS_MAX];
};

static void
give(struct given *g, const struct pg_params *p)
{
    for (int i = 0; i < p->count; i++) {
        /* An empty value is no null, so its pointer must not be one either. */
        g->values[i] = p->lengths[i] > 0 ? (const char *)p->data + p->offsets[i] : "";
        g->formats[i] = 1;
    }
}

bool
pg_send(PGconn *pq, const char *sql, const struct pg_params *p)
{
    struct given g;
    if (!p)
        return PQsendQueryParams(pq, sql, 0, NULL, NULL, NULL, NULL, 1) == 1;
    if (p->failed)
        return false;
    give(&g, p);
    return PQsendQueryParams(pq, sql, p->count, p->types, g.values, p->lengths, g.formats, 1) == 1;
}

bool
pg_send_prepared(PGconn *pq, const char *name, const struct pg_params *p)
{
    struct given g;
    if (!p)
        return PQsendQueryPrepared(pq, name, 0, NULL, NULL, NULL, 1) == 1;
    if (p->failed)
        return false;
    give(&g, p);
    return PQsendQueryPrepared(pq, name, p->count, g.values, p->lengths, g.formats, 1) == 1;
}
