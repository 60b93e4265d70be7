/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/cursor.h"

#include "client/proto/check.h"

#include <stdio.h>

enum { JSON_MAX = 112 };

_Static_assert(KT_B64URL_LEN(JSON_MAX) < CURSOR_TEXT_MAX, "the text of a cursor fits");

size_t
cursor_encode(const struct cursor *cursor, char buf[CURSOR_TEXT_MAX])
{
    char created[KT_TIME_MAX], id[UUID_TEXT_MAX], json[JSON_MAX];
    kt_time_print(cursor->created, created);
    uuid_print(&cursor->id, id);
    int n = snprintf(json, sizeof(json), "{\"createdAt\":\"%s\",\"id\":\"%s\"}", created, id);
    return kt_b64url_encode(json, (size_t)n, buf);
}

static void
skip_space(struct kt_str *s)
{
    while (s->n > 0 && (s->p[0] == ' ' || s->p[0] == '\t' || s->p[0] == '\n' || s->p[0] == '\r')) {
        s->p++;
        s->n--;
    }
}

/* White space, then the character. */
static bool
take(struct kt_str *s, char c)
{
    skip_space(s);
    if (s->n == 0 || s->p[0] != c)
        return false;
    s->p++;
    s->n--;
    return true;
}

/* A JSON string without escapes: neither an instant nor an id ever needs one. */
static bool
take_string(struct kt_str *s, struct kt_str *ret)
{
    if (!take(s, '"'))
        return false;
    const char *end = s->n == 0 ? NULL : memchr(s->p, '"', s->n);
    if (end == NULL)
        return false;
    *ret = (struct kt_str){ s->p, (size_t)(end - s->p) };
    s->n -= ret->n + 1;
    s->p = end + 1;
    return true;
}

struct seen {
    bool created, id;
};

static bool
take_member(struct kt_str *s, struct seen *seen, struct cursor *cursor)
{
    struct kt_str name, value;
    if (!take_string(s, &name) || !take(s, ':') || !take_string(s, &value))
        return false;
    if (kt_str_is(name, "createdAt") && !seen->created) {
        seen->created = true;
        return kt_time_parse(value, &cursor->created);
    }
    if (kt_str_is(name, "id") && !seen->id) {
        seen->id = true;
        return uuid_parse(value, &cursor->id);
    }
    return false;
}

static bool
take_object(struct kt_str *s, struct cursor *cursor)
{
    struct seen seen = { false, false };
    if (!take(s, '{'))
        return false;
    if (take(s, '}'))
        return true;
    do {
        if (!take_member(s, &seen, cursor))
            return false;
    } while (take(s, ','));
    return take(s, '}');
}

bool
cursor_decode(struct kt_str text, struct cursor *ret)
{
    char json[CURSOR_IN_MAX];
    size_t n;
    if (text.n > CURSOR_IN_MAX || !kt_b64url_decode(text, json, sizeof(json), &n))
        return false;
    struct kt_str s = { json, n };
    struct cursor cursor = { .created = { KT_TIME_FIRST } };
    if (!take_object(&s, &cursor))
        return false;
    skip_space(&s);
    if (s.n != 0)
        return false;
    *ret = cursor;
    return true;
}
