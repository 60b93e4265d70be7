/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/json.h"
#include "client/proto/utf8.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

const struct kt_json_limits kt_json_request_limits = {
    .depth = 16,
    .members = 64,
    .nodes = 4096,
    .string = 4096,
    .number = 20,
};

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

static int
hex(char c)
{
    if (is_digit(c))
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four hexadecimal digits at p, which has n bytes; -1 when they are not there. */
static int32_t
hex4(const char *p, size_t n)
{
    int32_t unit = 0;
    if (n < 4)
        return -1;
    for (size_t i = 0; i < 4; i++) {
        int digit = hex(p[i]);
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
    while (digits < scan->end && hex(*digits) >= 0)
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

static bool
is_plain_ascii(char c)
{
    return (unsigned char)c >= ' ' && (unsigned char)c < 0x80 && c != '"' && c != '\\';
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
    while (p < end && is_plain_ascii(*p))
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
        if (is_plain_ascii(*p)) {
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

/* From cJSON's tree, in which numbers are doubles, and the text, in which they are exact: both are
 * walked in the same order. */
struct copy {
    struct scan *scan;
    const char *p; /* behind the last number taken */
};

/* While a text is read, cJSON takes memory from here: quick, and wiped in one go, because a text
 * may have carried a secret. */
static _Thread_local struct kt_arena *pool;

static void *
hook_malloc(size_t n)
{
    return pool ? kt_arena_alloc(pool, n) : malloc(n);
}

static void
hook_free(void *p)
{
    if (!pool)
        free(p);
}

static void
hooks_set(void)
{
    cJSON_InitHooks(&(cJSON_Hooks){ .malloc_fn = hook_malloc, .free_fn = hook_free });
}

static bool
copy_fail(struct copy *copy)
{
    return fail(copy->scan, KT_JSON_MEMORY, copy->p, "the text needs more memory than it may have");
}

static struct kt_str
number_text(struct copy *copy)
{
    const char *p = copy->p;
    for (; *p != '-' && !is_digit(*p); p++)
        if (*p == '"')
            for (p++; *p != '"'; p++)
                p += *p == '\\';
    const char *begin = p;
    while (p < copy->scan->end && (is_digit(*p) || strchr("+-.eE", *p)))
        p++;
    copy->p = p;
    return (struct kt_str){ begin, (size_t)(p - begin) };
}

/* false: no integer, or none that fits. */
static bool
integer(struct kt_str text, int64_t *ret_i)
{
    bool negative = text.p[0] == '-';
    int64_t i = 0;
    for (size_t k = negative; k < text.n; k++) {
        int digit = text.p[k] - '0';
        if (!is_digit(text.p[k]) || __builtin_mul_overflow(i, 10, &i) ||
            __builtin_sub_overflow(i, negative ? digit : -digit, &i))
            return false;
    }
    *ret_i = i;
    return true;
}

static bool
number_copy(struct copy *copy, const cJSON *from, struct kt_value *out)
{
    struct kt_str text = number_text(copy);
    if (integer(text, &out->i)) {
        out->type = KT_V_INT;
        return true;
    }
    if (!isfinite(from->valuedouble))
        return fail(copy->scan, KT_JSON_LIMIT, text.p, "a number is too large");
    *out = (struct kt_value){ .type = KT_V_NUMBER, .d = from->valuedouble };
    return true;
}

static bool
string_copy(struct copy *copy, const char *from, struct kt_str *out)
{
    *out = kt_arena_str(copy->scan->arena, kt_str(from));
    return out->p || copy_fail(copy);
}

static size_t
children(const cJSON *from)
{
    size_t n = 0;
    for (const cJSON *child = from->child; child; child = child->next)
        n++;
    return n;
}

static bool value_copy(struct copy *copy, const cJSON *from, struct kt_value *out);

static bool
array_copy(struct copy *copy, const cJSON *from, struct kt_value *out)
{
    size_t n = children(from);
    struct kt_value *v = kt_arena_calloc(copy->scan->arena, n, sizeof *v);
    if (!v)
        return copy_fail(copy);
    out->type = KT_V_ARRAY;
    out->array.v = v;
    out->array.n = n;
    for (const cJSON *child = from->child; child; child = child->next)
        if (!value_copy(copy, child, v++))
            return false;
    return true;
}

static bool
object_copy(struct copy *copy, const cJSON *from, struct kt_value *out)
{
    size_t n = children(from);
    struct kt_member *v = kt_arena_calloc(copy->scan->arena, n, sizeof *v);
    if (!v)
        return copy_fail(copy);
    out->type = KT_V_MAP;
    out->map.v = v;
    out->map.n = n;
    for (const cJSON *child = from->child; child; child = child->next, v++)
        if (!string_copy(copy, child->string, &v->name) || !value_copy(copy, child, &v->value))
            return false;
    return true;
}

static bool
value_copy(struct copy *copy, const cJSON *from, struct kt_value *out)
{
    if (cJSON_IsObject(from))
        return object_copy(copy, from, out);
    if (cJSON_IsArray(from))
        return array_copy(copy, from, out);
    if (cJSON_IsNumber(from))
        return number_copy(copy, from, out);
    if (cJSON_IsString(from)) {
        out->type = KT_V_STR;
        return string_copy(copy, from->valuestring, &out->s);
    }
    *out = (struct kt_value){ .type = cJSON_IsBool(from) ? KT_V_BOOL : KT_V_NULL,
                              .b = cJSON_IsTrue(from) };
    return true;
}

/* Builds the value of a text that the scan has accepted. */
static bool
text_build(struct scan *scan, struct kt_value *out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, hooks_set);
    max_align_t first[4096 / sizeof(max_align_t)];
    struct kt_arena memory;
    kt_arena_init_with(&memory, first, sizeof first, SIZE_MAX / 2);
    pool = &memory;
    cJSON *tree =
        cJSON_ParseWithLengthOpts(scan->begin, (size_t)(scan->end - scan->begin), NULL, 0);
    pool = NULL;
    struct copy copy = { scan, scan->begin };
    bool done = tree ? value_copy(&copy, tree, out) : copy_fail(&copy);
    kt_arena_wipe(&memory);
    kt_arena_done(&memory);
    return done;
}

int
kt_json_read(struct kt_str text, struct kt_arena *arena, const struct kt_json_limits *limits,
             struct kt_value *ret_value, struct kt_json_error *ret_error)
{
    struct scan scan;
    scan.begin = scan.p = text.n ? text.p : "";
    scan.end = scan.begin + text.n;
    scan.limits = limits ? limits : &kt_json_request_limits;
    scan.arena = arena;
    scan.error = ret_error;
    scan.nodes = scan.nnames = 0;
    scan.names = scan.first;
    scan.size = NAMES_AT_FIRST;
    struct kt_value value;
    if (!text_scan(&scan) || !text_build(&scan, &value))
        return (int)ret_error->fault;
    *ret_value = value;
    return 0;
}

static void
put_escaped(struct kt_buf *buf, unsigned char c)
{
    static const char short_form[0x20] = {
        ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't',
    };
    static const char digits[] = "0123456789abcdef";
    char out[6] = { '\\', c < 0x20 ? short_form[c] : (char)c };
    if (out[1]) {
        kt_buf_put(buf, out, 2);
        return;
    }
    memcpy(out, "\\u00", 4);
    out[4] = digits[c >> 4];
    out[5] = digits[c & 15];
    kt_buf_put(buf, out, sizeof out);
}

/* Bytes at p that need no escape: whole characters above the control characters. */
static size_t
plain_run(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        unsigned char c = (unsigned char)p[i];
        size_t len = is_plain_ascii(p[i]) ? 1 : c < 0x80 ? 0 : kt_utf8_char(p + i, n - i);
        if (len == 0)
            break;
        i += len;
    }
    return i;
}

void
kt_json_put_str(struct kt_buf *buf, struct kt_str s)
{
    if (!s.p) {
        kt_buf_puts(buf, "null");
        return;
    }
    kt_buf_putc(buf, '"');
    while (s.n) {
        size_t n = plain_run(s.p, s.n);
        kt_buf_put(buf, s.p, n);
        if (n < s.n && (unsigned char)s.p[n] < 0x80)
            put_escaped(buf, (unsigned char)s.p[n]);
        else if (n < s.n)
            kt_buf_puts(buf, "\xEF\xBF\xBD");
        n += n < s.n;
        s = (struct kt_str){ s.p + n, s.n - n };
    }
    kt_buf_putc(buf, '"');
}

static void
put_uint(struct kt_buf *buf, uint64_t u)
{
    char out[20];
    size_t i = sizeof out;
    do
        out[--i] = (char)('0' + u % 10);
    while (u /= 10);
    kt_buf_put(buf, out + i, sizeof out - i);
}

void
kt_json_put_int(struct kt_buf *buf, int64_t i)
{
    if (i < 0)
        kt_buf_putc(buf, '-');
    put_uint(buf, i < 0 ? 0 - (uint64_t)i : (uint64_t)i);
}

void
kt_json_put_bool(struct kt_buf *buf, bool b)
{
    kt_buf_puts(buf, b ? "true" : "false");
}

void
kt_json_put_double(struct kt_buf *buf, double d)
{
    char out[40];
    if (!isfinite(d)) {
        kt_buf_puts(buf, "null");
        return;
    }
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(out, sizeof out, "%.*g", precision, d);
        if (memcmp(&d, &(double){ strtod(out, NULL) }, sizeof d) == 0)
            break;
    }
    kt_buf_puts(buf, out);
    if (!strpbrk(out, ".e"))
        kt_buf_puts(buf, ".0");
}

static bool
is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* days: since 0000-01-01, in years 0 to 9999. */
static void
put_date(struct kt_buf *buf, int64_t days)
{
    static const int before[13] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365 };
    const int64_t cycle = 146097; /* days of 400 years */
    int64_t year = days / cycle * 400, month = 12;
    days %= cycle;
    while (days >= (is_leap(year) ? 366 : 365))
        days -= is_leap(year++) ? 366 : 365;
    bool leap = is_leap(year);
    while (days < before[month - 1] + (leap && month > 2))
        month--;
    kt_buf_printf(buf, "%04d-%02d-%02d", (int)year, (int)month,
                  (int)(days - before[month - 1] - (leap && month > 2)) + 1);
}

void
kt_json_put_time(struct kt_buf *buf, struct kt_time t)
{
    const int64_t day = 86400000, epoch = 719528, last = 3652425;
    int64_t days = t.ms / day, ms = t.ms % day;
    if (ms < 0) {
        ms += day;
        days--;
    }
    if (!kt_time_is_set(t) || days < -epoch || days >= last - epoch) {
        kt_buf_puts(buf, "null");
        return;
    }
    kt_buf_putc(buf, '"');
    put_date(buf, days + epoch);
    int second = (int)(ms / 1000);
    kt_buf_printf(buf, "T%02d:%02d:%02d.%03dZ\"", second / 3600, second / 60 % 60, second % 60,
                  (int)(ms % 1000));
}

static void
put_base64(struct kt_buf *buf, struct kt_str s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    kt_buf_putc(buf, '"');
    for (size_t i = 0; i < s.n; i += 3) {
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; k++)
            bits = bits << 8 | (i + k < s.n ? (unsigned char)s.p[i + k] : 0);
        char out[4] = { digits[bits >> 18], digits[bits >> 12 & 63], digits[bits >> 6 & 63],
                        digits[bits & 63] };
        if (s.n - i < 3)
            out[3] = '=';
        if (s.n - i < 2)
            out[2] = '=';
        kt_buf_put(buf, out, sizeof out);
    }
    kt_buf_putc(buf, '"');
}

static void
put_array(struct kt_buf *buf, const struct kt_value *value)
{
    kt_buf_putc(buf, '[');
    for (size_t i = 0; i < value->array.n; i++) {
        if (i)
            kt_buf_putc(buf, ',');
        kt_json_put_value(buf, &value->array.v[i]);
    }
    kt_buf_putc(buf, ']');
}

static void
put_map(struct kt_buf *buf, const struct kt_value *value)
{
    kt_buf_putc(buf, '{');
    for (size_t i = 0; i < value->map.n; i++) {
        if (i)
            kt_buf_putc(buf, ',');
        kt_json_put_str(buf, value->map.v[i].name);
        kt_buf_putc(buf, ':');
        kt_json_put_value(buf, &value->map.v[i].value);
    }
    kt_buf_putc(buf, '}');
}

void
kt_json_put_value(struct kt_buf *buf, const struct kt_value *value)
{
    switch (value->type) {
    case KT_V_NULL:
        kt_buf_puts(buf, "null");
        return;
    case KT_V_BOOL:
        kt_json_put_bool(buf, value->b);
        return;
    case KT_V_INT:
        kt_json_put_int(buf, value->i);
        return;
    case KT_V_UINT:
        put_uint(buf, value->u);
        return;
    case KT_V_NUMBER:
        kt_json_put_double(buf, value->d);
        return;
    case KT_V_STR:
        kt_json_put_str(buf, value->s);
        return;
    case KT_V_BIN:
        put_base64(buf, value->s);
        return;
    case KT_V_TIME:
        kt_json_put_time(buf, value->t);
        return;
    case KT_V_ARRAY:
        put_array(buf, value);
        return;
    case KT_V_MAP:
        put_map(buf, value);
        return;
    }
}
