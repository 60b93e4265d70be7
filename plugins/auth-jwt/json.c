/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/auth-jwt/json.h"

#include <stdint.h>
#include <string.h>

#include <openssl/crypto.h>

struct scan {
    const unsigned char *p, *end;
    unsigned depth;
    const char *why; /* first complaint */
};

/* A member name as it stands between its quotes, escapes and all. */
struct name {
    const unsigned char *p, *end;
};

static bool scan_value(struct scan *);

static bool
bad(struct scan *s, const char *why)
{
    if (!s->why)
        s->why = why;
    return false;
}

static void
skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

static bool
take(struct scan *s, char c)
{
    if (s->p == s->end || *s->p != (unsigned char)c)
        return false;
    s->p++;
    return true;
}

static int
hex_digit(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Four hex digits at s->p. */
static bool
scan_hex4(struct scan *s, uint32_t *ret)
{
    if (s->end - s->p < 4)
        return bad(s, "a cut escape");
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        int d = hex_digit(*s->p++);
        if (d < 0)
            return bad(s, "a bad \\u escape");
        v = v << 4 | (uint32_t)d;
    }
    *ret = v;
    return true;
}

/* After "\u". */
static bool
scan_unicode(struct scan *s, uint32_t *ret)
{
    uint32_t high = 0, low = 0;
    if (!scan_hex4(s, &high))
        return false;
    if (high == 0)
        return bad(s, "an escaped NUL");
    if (high < 0xd800 || high > 0xdfff) {
        *ret = high;
        return true;
    }
    if (high > 0xdbff || !take(s, '\\') || !take(s, 'u') || !scan_hex4(s, &low) || low < 0xdc00 ||
        low > 0xdfff)
        return bad(s, "an unpaired surrogate");
    *ret = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

/* After the backslash. */
static bool
scan_escape(struct scan *s, uint32_t *ret)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    if (s->p == s->end)
        return bad(s, "a cut escape");
    unsigned char c = *s->p++;
    if (c == 'u')
        return scan_unicode(s, ret);
    const char *at = c ? strchr(from, c) : NULL;
    if (!at)
        return bad(s, "an unknown escape");
    *ret = (unsigned char)to[at - from];
    return true;
}

/* The continuation bytes of a sequence that starts with lead; RFC 3629 section 4. */
static bool
scan_utf8(struct scan *s, unsigned char lead, uint32_t *ret)
{
    int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    uint32_t least = more == 3 ? 0x10000 : more == 2 ? 0x800 : 0x80;
    uint32_t v = lead & (0x3fu >> more);
    if (lead < 0xc2 || lead > 0xf4 || s->end - s->p < more)
        return bad(s, "invalid UTF-8");
    for (int i = 0; i < more; i++, s->p++) {
        if ((*s->p & 0xc0) != 0x80)
            return bad(s, "invalid UTF-8");
        v = v << 6 | (*s->p & 0x3fu);
    }
    if (v < least || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
        return bad(s, "invalid UTF-8");
    *ret = v;
    return true;
}

/* One character of a string, unescaped. */
static bool
scan_char(struct scan *s, uint32_t *ret)
{
    unsigned char c = *s->p++;
    if (c == '\\')
        return scan_escape(s, ret);
    if (c < 0x20)
        return bad(s, "a control character in a string");
    if (c >= 0x80)
        return scan_utf8(s, c, ret);
    *ret = c;
    return true;
}

static bool
scan_string(struct scan *s, struct name *ret)
{
    if (!take(s, '"'))
        return bad(s, "no string where one belongs");
    const unsigned char *start = s->p;
    while (s->p < s->end && *s->p != '"') {
        uint32_t c;
        if (!scan_char(s, &c))
            return false;
    }
    if (s->p == s->end)
        return bad(s, "a string without end");
    *ret = (struct name){ start, s->p };
    s->p++;
    return true;
}

/* Both were scanned before, so no character can fail. */
static bool
same_name(const struct name *a, const struct name *b)
{
    struct scan sa = { .p = a->p, .end = a->end }, sb = { .p = b->p, .end = b->end };
    while (sa.p < sa.end && sb.p < sb.end) {
        uint32_t ca = 0, cb = 0;
        if (!scan_char(&sa, &ca) || !scan_char(&sb, &cb) || ca != cb)
            return false;
    }
    return sa.p == sa.end && sb.p == sb.end;
}

static bool
scan_member(struct scan *s, struct name *names, size_t n)
{
    struct name name;
    if (n == JSON_MEMBERS_MAX)
        return bad(s, "too many members");
    skip_space(s);
    if (!scan_string(s, &name))
        return false;
    for (size_t i = 0; i < n; i++)
        if (same_name(&name, &names[i]))
            return bad(s, "a member twice");
    names[n] = name;
    skip_space(s);
    if (!take(s, ':'))
        return bad(s, "no colon after a member name");
    return scan_value(s);
}

/* After the opening brace. */
static bool
scan_object(struct scan *s)
{
    struct name names[JSON_MEMBERS_MAX];
    skip_space(s);
    if (take(s, '}'))
        return true;
    for (size_t n = 0;; n++) {
        if (!scan_member(s, names, n))
            return false;
        skip_space(s);
        if (take(s, '}'))
            return true;
        if (!take(s, ','))
            return bad(s, "an object without end");
    }
}

/* After the opening bracket. */
static bool
scan_array(struct scan *s)
{
    skip_space(s);
    if (take(s, ']'))
        return true;
    for (;;) {
        if (!scan_value(s))
            return false;
        skip_space(s);
        if (take(s, ']'))
            return true;
        if (!take(s, ','))
            return bad(s, "an array without end");
    }
}

static bool
scan_digits(struct scan *s)
{
    const unsigned char *start = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        s->p++;
    return s->p > start;
}

static bool
scan_number(struct scan *s)
{
    const unsigned char *start = s->p;
    (void)take(s, '-');
    if (!take(s, '0') && !scan_digits(s))
        return bad(s, "no value where one belongs");
    if (take(s, '.') && !scan_digits(s))
        return bad(s, "a bad number");
    if (take(s, 'e') || take(s, 'E')) {
        if (!take(s, '+'))
            (void)take(s, '-');
        if (!scan_digits(s))
            return bad(s, "a bad number");
    }
    if (s->p - start > JSON_NUMBER_MAX)
        return bad(s, "a number too long");
    return true;
}

static bool
scan_word(struct scan *s, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
        return bad(s, "no value where one belongs");
    s->p += n;
    return true;
}

static bool
scan_nested(struct scan *s, bool object)
{
    if (++s->depth > JSON_DEPTH_MAX)
        return bad(s, "nested too deeply");
    if (!(object ? scan_object(s) : scan_array(s)))
        return false;
    s->depth--;
    return true;
}

static bool
scan_value(struct scan *s)
{
    struct name unused;
    skip_space(s);
    if (s->p == s->end)
        return bad(s, "cut short");
    switch (*s->p) {
    case '"':
        return scan_string(s, &unused);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    case '{':
    case '[':
        return scan_nested(s, *s->p++ == '{');
    default:
        return scan_number(s);
    }
}

bool
json_scan_object(const char *text, size_t n, const char **ret_why)
{
    const unsigned char *p = (const unsigned char *)text;
    struct scan s = { .p = p, .end = p + n };
    bool good = n <= JSON_TEXT_MAX || bad(&s, "too long");
    if (good) {
        skip_space(&s);
        good = (s.p < s.end && *s.p == '{') || bad(&s, "not an object");
    }
    good = good && scan_value(&s);
    skip_space(&s);
    if (good && s.p != s.end)
        good = bad(&s, "something after the object");
    if (!good)
        *ret_why = s.why;
    return good;
}

bool
json_read_object(const char *text, size_t n, cJSON **ret_object, const char **ret_why)
{
    if (!json_scan_object(text, n, ret_why))
        return false;
    cJSON *object = cJSON_ParseWithLengthOpts(text, n, NULL, false);
    if (!object) {
        *ret_why = NULL;
        return false;
    }
    *ret_object = object;
    return true;
}

static void
wipe_strings(cJSON *item)
{
    for (; item; item = item->next) {
        if (cJSON_IsString(item))
            OPENSSL_cleanse(item->valuestring, strlen(item->valuestring));
        wipe_strings(item->child);
    }
}

void
json_free(cJSON *json)
{
    wipe_strings(json);
    cJSON_Delete(json);
}

const char *
json_member_text(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}
