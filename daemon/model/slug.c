/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/model/slug.h"

#include "client/proto/utf8.h"

#include <sodium.h>

struct letter {
    uint32_t character;
    char text[3];
};

struct range {
    uint32_t first, last;
};

#include "daemon/model/slug-table.h"

enum { SUFFIX_BYTES = 3 };

/* The character at p, of which n bytes are there (n > 0); a byte that starts none counts as one
 * character that has no place in a slug. */
static uint32_t
decode(const unsigned char *p, size_t n, size_t *ret_length)
{
    *ret_length = kt_utf8_char((const char *)p, n);
    switch (*ret_length) {
    case 1:
        return p[0];
    case 2:
        return (p[0] & 0x1fU) << 6 | (p[1] & 0x3fU);
    case 3:
        return (p[0] & 0x0fU) << 12 | (p[1] & 0x3fU) << 6 | (p[2] & 0x3fU);
    case 4:
        return (p[0] & 0x07U) << 18 | (p[1] & 0x3fU) << 12 | (p[2] & 0x3fU) << 6 | (p[3] & 0x3fU);
    default:
        *ret_length = 1;
        return 0xfffd;
    }
}

static const char *
letter_text(uint32_t c)
{
    size_t low = 0, high = sizeof(letters) / sizeof(letters[0]);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (letters[middle].character == c)
            return letters[middle].text;
        if (letters[middle].character < c)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static bool
is_mark(uint32_t c)
{
    size_t low = 0, high = sizeof(marks) / sizeof(marks[0]);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c >= marks[middle].first && c <= marks[middle].last)
            return true;
        if (marks[middle].first < c)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* What c becomes: its text, "" to drop it, NULL for a separator. one holds a single letter. */
static const char *
slug_text(uint32_t c, char one[2])
{
    if (c >= 0x80 && c != 0x2019) {
        const char *text = letter_text(c);
        return text == NULL && is_mark(c) ? "" : text;
    }
    if (c == '\'' || c == 0x2019)
        return "";
    if (c >= 'A' && c <= 'Z')
        c += 'a' - 'A';
    if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9'))
        return NULL;
    one[0] = (char)c;
    one[1] = '\0';
    return one;
}

/* A hyphen is written only when a letter follows, so no name grows: every separator has at least
 * the one byte that its hyphen takes, and no letter's text is longer than its UTF-8. */
static size_t
slug_write(struct kt_str name, char *out)
{
    size_t n = 0;
    bool gap = false;
    for (size_t i = 0, length; i < name.n; i += length) {
        char one[2];
        uint32_t c = decode((const unsigned char *)name.p + i, name.n - i, &length);
        const char *text = slug_text(c, one);
        if (text == NULL) {
            gap = n > 0;
            continue;
        }
        if (text[0] != '\0' && gap) {
            out[n++] = '-';
            gap = false;
        }
        for (; *text != '\0'; text++)
            out[n++] = *text;
    }
    return n;
}

struct kt_str
slug_base(struct kt_arena *arena, struct kt_str name)
{
    char *out = kt_arena_alloc(arena, name.n + 1);
    if (out == NULL)
        return (struct kt_str){ NULL, 0 };
    size_t n = slug_write(name, out);
    out[n] = '\0';
    return (struct kt_str){ out, n };
}

struct kt_str
slug_derive(struct kt_arena *arena, struct kt_str name, void (*random)(void *buf, size_t n))
{
    struct kt_str base = slug_base(arena, name);
    unsigned char bytes[SUFFIX_BYTES];
    char suffix[2 * SUFFIX_BYTES + 1];
    if (base.p == NULL)
        return base;
    (random != NULL ? random : randombytes_buf)(bytes, sizeof(bytes));
    sodium_bin2hex(suffix, sizeof(suffix), bytes, sizeof(bytes));
    return kt_arena_printf(arena, "%.*s%s%s", KT_FMT(base), base.n > 0 ? "-" : "", suffix);
}
