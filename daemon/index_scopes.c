/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Lists of scopes. Their forms for the wires are made once, when a list is first seen. */
#include "config.h"

#include "daemon/index_private.h"

#include <stdlib.h>
#include <string.h>

static size_t
put_msgpack(const struct kt_str v[], size_t n, char *out)
{
    size_t at = 0;
    if (n < 16) {
        out[at++] = (char)(0x90 | n);
    } else {
        out[at++] = (char)0xdc;
        out[at++] = (char)(n >> 8);
        out[at++] = (char)n;
    }
    for (size_t i = 0; i < n; i++) {
        if (v[i].n < 32) {
            out[at++] = (char)(0xa0 | v[i].n);
        } else if (v[i].n < 256) {
            out[at++] = (char)0xd9;
            out[at++] = (char)v[i].n;
        } else {
            out[at++] = (char)0xda;
            out[at++] = (char)(v[i].n >> 8);
            out[at++] = (char)v[i].n;
        }
        memcpy(out + at, v[i].p, v[i].n);
        at += v[i].n;
    }
    return at;
}

static size_t
put_json_string(struct kt_str s, char *out)
{
    static const char hex[] = "0123456789abcdef";
    size_t at = 0;
    out[at++] = '"';
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= ' ' && c != '"' && c != '\\') {
            out[at++] = (char)c;
            continue;
        }
        memcpy(out + at, "\\u00", 4);
        out[at + 4] = hex[c >> 4];
        out[at + 5] = hex[c & 15];
        at += 6;
    }
    out[at++] = '"';
    return at;
}

static size_t
put_json(const struct kt_str v[], size_t n, char *out)
{
    size_t at = 0;
    out[at++] = '[';
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            out[at++] = ',';
        at += put_json_string(v[i], out + at);
    }
    out[at++] = ']';
    return at;
}

static struct index_scopes *
scopes_new(const struct kt_str v[], size_t n, size_t *ret_bytes)
{
    size_t text = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i].n > INDEX_TEXT_MAX || (text += v[i].n) > INDEX_TEXT_MAX)
            return NULL;
    }
    if (n > INDEX_TEXT_MAX / 4)
        return NULL;
    /* At the worst JSON has 6 bytes for one and 3 around it, MessagePack 3 in front. */
    size_t bytes = sizeof(struct index_scopes) + n * sizeof(struct kt_str) + (text + n) +
                   (6 * text + 3 * n + 2) + (text + 3 * n + 3);
    struct index_scopes *s = malloc(bytes);
    if (s == NULL)
        return NULL;
    struct kt_str *list = (struct kt_str *)(s + 1);
    char *p = (char *)(list + n);
    for (size_t i = 0; i < n; i++)
        list[i] = index_copy_text(&p, v[i]);
    s->list = (struct kt_strlist){ list, n, KT_SET };
    s->json = (struct kt_str){ p, put_json(v, n, p) };
    p += s->json.n;
    s->msgpack = (struct kt_str){ p, put_msgpack(v, n, p) };
    *ret_bytes = bytes;
    return s;
}

/* The MessagePack form says everything that a list says, and nothing twice. */
static uint64_t
scopes_hash(const struct index *index, uint32_t number)
{
    const struct index_scopes *s = index_scopes_at(index, number);
    return index_map_hash(index, s->msgpack.p, s->msgpack.n);
}

static bool
is_list(const struct index *index, uint32_t number, const void *msgpack)
{
    return kt_str_eq(index_scopes_at(index, number)->msgpack, *(const struct kt_str *)msgpack);
}

static bool
scopes_find(const struct index *index, struct kt_str msgpack, uint32_t *ret)
{
    return index_map_find(index, &index->scopes_map,
                          index_map_hash(index, msgpack.p, msgpack.n), is_list, &msgpack, ret);
}

enum index_status
index_scopes_put(struct index *index, const struct kt_str scopes[], size_t n, uint32_t *ret)
{
    size_t number = counted(&index->nscopes), bytes;
    struct index_scopes *s = scopes_new(scopes, n, &bytes);
    if (s == NULL)
        return INDEX_NO_MEMORY;
    if (scopes_find(index, s->msgpack, ret)) {
        free(s);
        return INDEX_OK;
    }
    if (number >= INDEX_SCOPE_LISTS_MAX ||
        !index_have_chunk(index, index->scopes, number / SCOPES_CHUNK, SCOPES_CHUNK * sizeof(s)) ||
        !index_map_reserve(index, &index->scopes_map, scopes_hash)) {
        free(s);
        return INDEX_NO_MEMORY;
    }
    index->scopes[number / SCOPES_CHUNK][number % SCOPES_CHUNK] = s;
    index_map_add(&index->scopes_map, scopes_hash(index, (uint32_t)number));
    count(&index->nscopes, 1);
    count(&index->bytes, bytes);
    *ret = (uint32_t)number;
    return INDEX_OK;
}
