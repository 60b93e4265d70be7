/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/json_scan.h"

#include "client/proto/check.h"
#include "client/proto/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The text of a name between its quotes; the hash is of what it says, with letters folded. */
struct name {
    const char *p, *end;
    uint32_t hash;
};

enum { NAMES_AT_FIRST = 64 };

struct scan {
    const char *begin, *p, *end;
    const struct kt_json_limits *limits;
    struct kt_arena *arena;
    struct kt_json_error *error;
    size_t nodes;
    struct name *names; /* of all objects that are open, the innermost last */
    size_t nnames, size;
    struct name first[NAMES_AT_FIRST];
};

static bool __attribute__((format(printf, 4, 5)))
fail(struct scan *scan, enum kt_json_fault fault, const char *where, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(scan->error->text, sizeof scan->error->text, fmt, args);
    va_end(args);
    scan->error->fault = fault;
    scan->error->offset = (size_t)(where - scan->begin);
    scan->error->grammar = false;
    return false;
}

enum { QUOTED_MAX = 8 };

/* A byte as the reference quotes it: as the character of that number where it can be seen. */
static void
quote(unsigned char c, char out[QUOTED_MAX])
{
    static const char controls[] = "\a\b\f\n\r\t\v\\'", letters[] = "abfnrtv\\'";
    const char *known = c ? strchr(controls, c) : NULL;
    if (known)
        snprintf(out, QUOTED_MAX, "\\%c", letters[known - controls]);
    else if (c >= ' ' && c < 0x7F)
        snprintf(out, QUOTED_MAX, "%c", c);
    else if (c < 0x80)
        snprintf(out, QUOTED_MAX, "\\x%02x", c);
    else if (c <= 0xA0 || c == 0xAD)
        snprintf(out, QUOTED_MAX, "\\u%04x", c);
    else
        snprintf(out, QUOTED_MAX, "%c%c", 0xC0 | c >> 6, 0x80 | (c & 0x3F));
}

/* This is no JSON, at p. where: in the words that clients of the reference know. */
static bool
fail_grammar(struct scan *scan, const char *p, const char *where)
{
    char c[QUOTED_MAX];
    if (p < scan->end) {
        quote((unsigned char)*p, c);
        fail(scan, KT_JSON_SYNTAX, p, "invalid character '%s' %s", c, where);
    } else {
        fail(scan, KT_JSON_SYNTAX, p, "unexpected end of JSON input");
    }
    scan->error->grammar = true;
    return false;
}

static bool
fail_here(struct scan *scan, const char *where)
{
    return fail_grammar(scan, scan->p, where);
}

static void
space_skip(struct scan *scan)
{
    while (scan->p < scan->end &&
           (*scan->p == ' ' || *scan->p == '\n' || *scan->p == '\r' || *scan->p == '\t'))
        scan->p++;
}

static bool
at(const struct scan *scan, char c)
{
    return scan->p < scan->end && *scan->p == c;
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The four hexadecimal digits at p, which has n bytes; -1 when they are not there. */
static int32_t
hex4(const char *p, size_t n)
{
    int32_t unit = 0;
    if (n < 4)
        return -1;
    for (size_t i = 0; i < 4; i++) {
        int digit = kt_hex_digit(p[i]);
        if (digit < 0)
            return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

/* The character of the \u escape at p (behind the backslash), of which n bytes are there, and the
 * bytes it takes; a negative number tells what is wrong with it. */
enum { U_SYNTAX = -1, U_LONE = -2 };

static int32_t
escaped_unicode(const char *p, size_t n, size_t *ret_len)
{
    int32_t unit = hex4(p + 1, n - 1);
    *ret_len = 5;
    if (unit < 0)
        return U_SYNTAX;
    if (unit < 0xD800 || unit > 0xDFFF)
        return unit;
    if (unit > 0xDBFF || n < 11 || p[5] != '\\' || p[6] != 'u')
        return U_LONE;
    int32_t low = hex4(p + 7, 4);
    *ret_len = 11;
    if (low < 0xDC00 || low > 0xDFFF)
        return low < 0 ? U_SYNTAX : U_LONE;
    return 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
}

/* digits: where four hexadecimal ones should stand. */
static bool
fail_hex(struct scan *scan, const char *digits)
{
    while (digits < scan->end && kt_hex_digit(*digits) >= 0)
        digits++;
    return fail_grammar(scan, digits, "in \\u hexadecimal character escape");
}

/* Passes the escape at the cursor; adds what it stands for to *length. */
static bool
escape_scan(struct scan *scan, size_t *length)
{
    const char *p = scan->p + 1;
    if (p == scan->end || *p == '\0' || !strchr("\"\\/bfnrtu", *p))
        return fail_grammar(scan, p, "in string escape code");
    if (*p != 'u') {
        scan->p += 2;
        *length += 1;
        return true;
    }
    size_t taken;
    int32_t c = escaped_unicode(p, (size_t)(scan->end - p), &taken);
    if (c == U_SYNTAX)
        return fail_hex(scan, hex4(p + 1, (size_t)(scan->end - p - 1)) < 0 ? p + 1 : p + 7);
    if (c == U_LONE)
        return fail(scan, KT_JSON_SYNTAX, scan->p, "a surrogate without its other half");
    if (c == 0)
        return fail(scan, KT_JSON_SYNTAX, scan->p, "NUL in a string");
    scan->p = p + taken;
    char out[4];
    *length += kt_utf8_put(out, (uint32_t)c);
    return true;
}

static bool
plain_scan(struct scan *scan, size_t *length)
{
    unsigned char c = (unsigned char)*scan->p;
    if (c < ' ')
        return fail_here(scan, "in string literal");
    size_t n = kt_utf8_char(scan->p, (size_t)(scan->end - scan->p));
    if (n == 0)
        return fail(scan, KT_JSON_SYNTAX, scan->p, "a string is not UTF-8");
    scan->p += n;
    *length += n;
    return true;
}

/* Whether each of 8 bytes is plain ASCII: no control character, no quote, no backslash. */
static bool
word_is_plain(const char *p)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones << 7;
    uint64_t word;
    memcpy(&word, p, sizeof word);
    uint64_t quote = word ^ ones * '"', backslash = word ^ ones * '\\';
    return ((word | (word - ones * ' ') | (quote - ones) | (backslash - ones)) & highs) == 0;
}

static const char *
plain_ascii_end(const char *p, const char *end)
{
    while (end - p >= 8 && word_is_plain(p))
        p += 8;
    while (p < end && kt_json_is_plain(*p))
        p++;
    return p;
}

/* The string whose opening quote is at the cursor. */
static bool
string_scan(struct scan *scan)
{
    const char *begin = scan->p++;
    size_t length = 0;
    while (true) {
        const char *run = scan->p;
        scan->p = plain_ascii_end(run, scan->end);
        length += (size_t)(scan->p - run);
        if (at(scan, '"'))
            break;
        if (scan->p == scan->end)
            return fail_here(scan, "in string literal");
        if (*scan->p == '\\' ? !escape_scan(scan, &length) : !plain_scan(scan, &length))
            return false;
    }
    scan->p++;
    if (length > scan->limits->string)
        return fail(scan, KT_JSON_LIMIT, begin, "a string has more than %zu bytes",
                    scan->limits->string);
    return true;
}

/* The character that the string, which a scan has passed, says at *p; moves *p behind it. */
static size_t
said_next(const char **p, const char *end, char out[4])
{
    static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const char *at = *p;
    if (*at != '\\') {
        size_t n = kt_utf8_char(at, (size_t)(end - at));
        memcpy(out, at, n);
        *p = at + n;
        return n;
    }
    if (at[1] != 'u') {
        out[0] = meanings[strchr(escapes, at[1]) - escapes];
        *p = at + 2;
        return 1;
    }
    size_t taken;
    int32_t c = escaped_unicode(at + 1, (size_t)(end - at - 1), &taken);
    *p = at + 1 + taken;
    return kt_utf8_put(out, (uint32_t)c);
}

static char
fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static uint32_t
name_hash(const struct name *name)
{
    uint32_t hash = 2166136261U;
    char out[4];
    for (const char *p = name->p; p < name->end;) {
        if (kt_json_is_plain(*p)) {
            hash = (hash ^ (unsigned char)fold(*p++)) * 16777619U;
            continue;
        }
        size_t n = said_next(&p, name->end, out);
        for (size_t i = 0; i < n; i++)
            hash = (hash ^ (unsigned char)fold(out[i])) * 16777619U;
    }
    return hash;
}

static bool
name_same(const struct name *a, const struct name *b)
{
    const char *p = a->p, *q = b->p;
    while (p < a->end && q < b->end) {
        char s[4] = { 0 }, t[4] = { 0 };
        said_next(&p, a->end, s);
        said_next(&q, b->end, t);
        if (fold(s[0]) != fold(t[0]) || memcmp(s + 1, t + 1, 3) != 0)
            return false;
    }
    return p == a->end && q == b->end;
}

/* Room for one more name; the arena takes over when the first ones are used up. */
static bool
names_grow(struct scan *scan)
{
    if (scan->nnames < scan->size)
        return true;
    struct name *names = kt_arena_alloc(scan->arena, 2 * scan->size * sizeof *names);
    if (!names)
        return fail(scan, KT_JSON_MEMORY, scan->p, "the text needs more memory than it may have");
    memcpy(names, scan->names, scan->nnames * sizeof *names);
    scan->names = names;
    scan->size *= 2;
    return true;
}

/* from: index of the first name of this object. */
static bool
name_scan(struct scan *scan, size_t from)
{
    struct name name = { .p = scan->p + 1 };
    if (!at(scan, '"'))
        return fail_here(scan, "looking for beginning of object key string");
    if (scan->nnames - from >= scan->limits->members)
        return fail(scan, KT_JSON_LIMIT, scan->p, "an object has more than %zu members",
                    scan->limits->members);
    if (!string_scan(scan) || !names_grow(scan))
        return false;
    name.end = scan->p - 1;
    name.hash = name_hash(&name);
    for (size_t i = from; i < scan->nnames; i++)
        if (scan->names[i].hash == name.hash && name_same(&scan->names[i], &name))
            return fail(scan, KT_JSON_SYNTAX, name.p - 1, "an object has the same name twice");
    scan->names[scan->nnames++] = name;
    return true;
}

static bool
digits_scan(struct scan *scan, const char *where)
{
    if (scan->p == scan->end || !is_digit(*scan->p))
        return fail_here(scan, where);
    while (scan->p < scan->end && is_digit(*scan->p))
        scan->p++;
    return true;
}

static bool
number_scan(struct scan *scan)
{
    const char *begin = scan->p;
    if (*scan->p == '-')
        scan->p++;
    if (at(scan, '0'))
        scan->p++;
    else if (!digits_scan(scan, "in numeric literal"))
        return false;
    if (at(scan, '.')) {
        scan->p++;
        if (!digits_scan(scan, "after decimal point in numeric literal"))
            return false;
    }
    if (at(scan, 'e') || at(scan, 'E')) {
        scan->p++;
        if (at(scan, '+') || at(scan, '-'))
            scan->p++;
        if (!digits_scan(scan, "in exponent of numeric literal"))
            return false;
    }
    size_t max = scan->limits->number < KT_JSON_NUMBER_MAX ? scan->limits->number
                                                           : (size_t)KT_JSON_NUMBER_MAX;
    if ((size_t)(scan->p - begin) > max)
        return fail(scan, KT_JSON_LIMIT, begin, "a number has more than %zu characters", max);
    return true;
}

static bool
word_scan(struct scan *scan, const char *word)
{
    char where[40];
    for (const char *c = word; *c; c++, scan->p++) {
        if (at(scan, *c))
            continue;
        snprintf(where, sizeof where, "in literal %s (expecting '%c')", word, *c);
        return fail_here(scan, where);
    }
    return true;
}

static bool value_scan(struct scan *scan, size_t depth);

static bool
array_scan(struct scan *scan, size_t depth)
{
    scan->p++;
    space_skip(scan);
    if (at(scan, ']')) {
        scan->p++;
        return true;
    }
    while (value_scan(scan, depth)) {
        space_skip(scan);
        if (at(scan, ']')) {
            scan->p++;
            return true;
        }
        if (!at(scan, ','))
            return fail_here(scan, "after array element");
        scan->p++;
    }
    return false;
}

static bool
object_scan(struct scan *scan, size_t depth)
{
    size_t from = scan->nnames;
    scan->p++;
    space_skip(scan);
    while (!at(scan, '}')) {
        if (!name_scan(scan, from))
            return false;
        space_skip(scan);
        if (!at(scan, ':'))
            return fail_here(scan, "after object key");
        scan->p++;
        if (!value_scan(scan, depth))
            return false;
        space_skip(scan);
        if (at(scan, '}'))
            break;
        if (!at(scan, ','))
            return fail_here(scan, "after object key:value pair");
        scan->p++;
        space_skip(scan);
        if (at(scan, '}'))
            return fail_here(scan, "looking for beginning of object key string");
    }
    scan->p++;
    scan->nnames = from;
    return true;
}

/* The value behind white space; depth: containers around it. */
static bool
value_scan(struct scan *scan, size_t depth)
{
    space_skip(scan);
    char c = scan->p < scan->end ? *scan->p : '\0';
    if (++scan->nodes > scan->limits->nodes)
        return fail(scan, KT_JSON_LIMIT, scan->p, "the text has more than %zu values",
                    scan->limits->nodes);
    if (c == '{' || c == '[') {
        size_t max = scan->limits->depth < KT_JSON_DEPTH_MAX ? scan->limits->depth
                                                             : (size_t)KT_JSON_DEPTH_MAX;
        if (depth >= max)
            return fail(scan, KT_JSON_LIMIT, scan->p, "arrays and objects are more than %zu deep",
                        max);
        return c == '{' ? object_scan(scan, depth + 1) : array_scan(scan, depth + 1);
    }
    if (c == '"')
        return string_scan(scan);
    if (c == '-' || is_digit(c))
        return number_scan(scan);
    if (c == 't')
        return word_scan(scan, "true");
    if (c == 'f')
        return word_scan(scan, "false");
    return c == 'n' ? word_scan(scan, "null") : fail_here(scan, "looking for beginning of value");
}

static bool
text_scan(struct scan *scan)
{
    if (!value_scan(scan, 0))
        return false;
    space_skip(scan);
    return scan->p == scan->end || fail_here(scan, "after top-level value");
}

bool
kt_json_scan(struct kt_str text, struct kt_arena *arena, const struct kt_json_limits *limits,
             struct kt_json_error *ret_error)
{
    struct scan scan;
    scan.begin = scan.p = text.n ? text.p : "";
    scan.end = scan.begin + text.n;
    scan.limits = limits;
    scan.arena = arena;
    scan.error = ret_error;
    scan.nodes = scan.nnames = 0;
    scan.names = scan.first;
    scan.size = NAMES_AT_FIRST;
    return text_scan(&scan);
}
