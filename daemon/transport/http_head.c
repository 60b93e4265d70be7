/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/check.h"
#include "client/proto/utf8.h"
#include "daemon/transport/http_head.h"

/* What a byte may be part of. */
enum { C_TOKEN = 1, C_TARGET = 2, C_VALUE = 4, C_REG_NAME = 8 };

#define V  C_VALUE
#define TV (C_TARGET | C_VALUE)
#define HV (C_TARGET | C_VALUE | C_REG_NAME)
#define KV (C_TOKEN | C_TARGET | C_VALUE)
#define AL (C_TOKEN | C_TARGET | C_VALUE | C_REG_NAME)

static const unsigned char classes[256] = {
    ['\t'] = V,         [' '] = V,  ['!'] = AL,          ['"'] = TV,  ['#'] = C_TOKEN | C_VALUE,
    ['$'] = AL,         ['%'] = AL, ['&'] = AL,          ['\''] = AL, ['('] = HV,
    [')'] = HV,         ['*'] = AL, ['+'] = AL,          [','] = HV,  ['-'] = AL,
    ['.'] = AL,         ['/'] = TV, ['0' ... '9'] = AL,  [':'] = TV,  [';'] = HV,
    ['<'] = TV,         ['='] = HV, ['>'] = TV,          ['?'] = TV,  ['@'] = TV,
    ['A' ... 'Z'] = AL, ['['] = TV, ['\\'] = TV,         [']'] = TV,  ['^'] = KV,
    ['_'] = AL,         ['`'] = KV, ['a' ... 'z'] = AL,  ['{'] = TV,  ['|'] = KV,
    ['}'] = TV,         ['~'] = AL, [0x80 ... 0xFF] = V,
};

#undef V
#undef TV
#undef HV
#undef KV
#undef AL

/* Headers that mean something here. Those below H_REPEATABLE may occur once (rule 8). */
enum header {
    H_HOST,
    H_CONTENT_LENGTH,
    H_TRANSFER_ENCODING,
    H_AUTHORIZATION,
    H_CONTENT_TYPE,
    H_EXPECT,
    H_IDEMPOTENCY_KEY,
    H_REPEATABLE,
    H_CONNECTION = H_REPEATABLE,
    H_CONTENT_ENCODING,
    H_OTHER
};

struct reader {
    const char *p, *end;
    bool cut; /* there are more bytes than a head may have */
    struct http_head *head;
    unsigned seen; /* bit per enum header */
    bool close, keep_alive;
};

static bool
is(char c, unsigned class)
{
    return (classes[(unsigned char)c] & class) != 0;
}

static bool
same(struct kt_str a, const char *lower, size_t n)
{
    if (a.n != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = a.p[i] >= 'A' && a.p[i] <= 'Z' ? (char)(a.p[i] | 0x20) : a.p[i];
        if (c != lower[i])
            return false;
    }
    return true;
}

#define SAME(a, lower) same((a), (lower), sizeof(lower) - 1)

static enum http_parse
bad(struct reader *reader, int status, const char *why)
{
    reader->head->status = status;
    reader->head->why = why;
    return HTTP_BAD;
}

static enum http_parse
ran_out(struct reader *reader)
{
    return reader->cut ? bad(reader, 431, "the head is longer than 16384 bytes") : HTTP_MORE;
}

static enum http_parse
crlf_read(struct reader *reader, const char *why)
{
    if (reader->p == reader->end)
        return ran_out(reader);
    if (reader->p[0] != '\r')
        return bad(reader, 400, why);
    if (reader->end - reader->p < 2)
        return ran_out(reader);
    if (reader->p[1] != '\n')
        return bad(reader, 400, "a CR without LF");
    reader->p += 2;
    return HTTP_DONE;
}

static enum http_parse
method_read(struct reader *reader)
{
    const char *p = reader->p;
    while (p < reader->end && is(*p, C_TOKEN)) {
        if (p - reader->p == HTTP_METHOD_MAX)
            return bad(reader, 501, "the method is longer than 16 bytes");
        p++;
    }
    if (p == reader->end)
        return ran_out(reader);
    if (p == reader->p || *p != ' ')
        return bad(reader, 400, "the request line does not begin with a method and one space");
    reader->head->method = (struct kt_str){ reader->p, (size_t)(p - reader->p) };
    reader->p = p + 1;
    return HTTP_DONE;
}

static enum http_parse
target_split(struct reader *reader)
{
    struct http_head *head = reader->head;
    struct kt_str target = head->target;
    if (kt_str_eq(head->method, KT_LIT("CONNECT")))
        return bad(reader, 400, "CONNECT is refused");
    bool asterisk = target.n == 1 && target.p[0] == '*';
    if (asterisk && !kt_str_eq(head->method, KT_LIT("OPTIONS")))
        return bad(reader, 400, "the target * belongs to OPTIONS");
    if (!asterisk && target.p[0] != '/')
        return bad(reader, 400, "the target is not a path");
    const char *mark = memchr(target.p, '?', target.n);
    head->path = target;
    head->query = (struct kt_str){ NULL, 0 };
    if (!mark)
        return HTTP_DONE;
    head->path.n = (size_t)(mark - target.p);
    head->query = (struct kt_str){ mark + 1, target.n - head->path.n - 1 };
    return HTTP_DONE;
}

static enum http_parse
target_read(struct reader *reader)
{
    const char *p = reader->p;
    while (p < reader->end && is(*p, C_TARGET)) {
        if (p - reader->p == HTTP_TARGET_NAMES_MAX)
            return bad(reader, 414, "the target is longer than 4352 bytes");
        p++;
    }
    if (p == reader->end)
        return ran_out(reader);
    if (p == reader->p || *p != ' ')
        return bad(reader, 400, "the request line has no target followed by one space");
    reader->head->target = (struct kt_str){ reader->p, (size_t)(p - reader->p) };
    reader->p = p + 1;
    return target_split(reader);
}

static enum http_parse
version_read(struct reader *reader)
{
    static const char form[8] = "HTTP/0.0";
    for (size_t i = 0; i < sizeof form; i++, reader->p++) {
        if (reader->p == reader->end)
            return ran_out(reader);
        bool digit = *reader->p >= '0' && *reader->p <= '9';
        if (form[i] == '0' ? !digit : *reader->p != form[i])
            return bad(reader, 400, "the request line does not end with HTTP/1.0 or HTTP/1.1");
    }
    char major = reader->p[-3], minor = reader->p[-1];
    enum http_parse parse = crlf_read(reader, "the version is not followed by CRLF");
    if (parse != HTTP_DONE)
        return parse;
    if (major != '1' || (minor != '0' && minor != '1'))
        return bad(reader, 505, "the version is not HTTP/1.0 or HTTP/1.1");
    reader->head->minor = minor - '0';
    return HTTP_DONE;
}

static enum header
header_known(struct kt_str name)
{
    switch (name.n) {
    case 4:
        return SAME(name, "host") ? H_HOST : H_OTHER;
    case 6:
        return SAME(name, "expect") ? H_EXPECT : H_OTHER;
    case 10:
        return SAME(name, "connection") ? H_CONNECTION : H_OTHER;
    case 12:
        return SAME(name, "content-type") ? H_CONTENT_TYPE : H_OTHER;
    case 13:
        return SAME(name, "authorization") ? H_AUTHORIZATION : H_OTHER;
    case 14:
        return SAME(name, "content-length") ? H_CONTENT_LENGTH : H_OTHER;
    case 15:
        return SAME(name, "idempotency-key") ? H_IDEMPOTENCY_KEY : H_OTHER;
    case 16:
        return SAME(name, "content-encoding") ? H_CONTENT_ENCODING : H_OTHER;
    case 17:
        return SAME(name, "transfer-encoding") ? H_TRANSFER_ENCODING : H_OTHER;
    default:
        return H_OTHER;
    }
}

/* [":" port] at the end of a Host. */
static bool
port_is_valid(const char *p, const char *end)
{
    if (p == end)
        return true;
    if (*p++ != ':')
        return false;
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p == end;
}

static bool
host_is_valid(struct kt_str host)
{
    const char *p = host.p, *end = host.p + host.n;
    if (host.n && *p == '[') {
        const char *close = memchr(p, ']', host.n);
        for (p++; close && p < close; p++)
            if (!is(*p, C_REG_NAME) && *p != ':')
                return false;
        return close && close > host.p + 1 && port_is_valid(close + 1, end);
    }
    while (p < end && is(*p, C_REG_NAME))
        p++;
    return p > host.p && port_is_valid(p, end);
}

static enum http_parse
host_take(struct reader *reader, struct kt_str value)
{
    if (!host_is_valid(value))
        return bad(reader, 400, "the value of Host is not a host");
    reader->head->host = value;
    return HTTP_DONE;
}

static enum http_parse
length_take(struct reader *reader, struct kt_str value)
{
    int64_t length = 0;
    if (value.n < 1 || value.n > HTTP_LENGTH_DIGITS_MAX)
        return bad(reader, 400, "Content-Length is not 1 to 10 digits");
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9')
            return bad(reader, 400, "Content-Length is not 1 to 10 digits");
        length = length * 10 + (value.p[i] - '0');
    }
    reader->head->content_length = length;
    return HTTP_DONE;
}

/* Cuts the next element off a comma-separated list. */
static struct kt_str
list_next(struct kt_str *rest)
{
    const char *comma = memchr(rest->p, ',', rest->n);
    struct kt_str item = { rest->p, comma ? (size_t)(comma - rest->p) : rest->n };
    size_t past = comma ? item.n + 1 : item.n;
    *rest = (struct kt_str){ rest->p + past, rest->n - past };
    while (item.n && (item.p[0] == ' ' || item.p[0] == '\t'))
        item.p++, item.n--;
    while (item.n && (item.p[item.n - 1] == ' ' || item.p[item.n - 1] == '\t'))
        item.n--;
    return item;
}

/* RFC 9112 section 6.3: without chunked as the last coding the length cannot be known, 400; with
 * codings before it that nobody here decodes, 501. */
static enum http_parse
encoding_take(struct reader *reader, struct kt_str value)
{
    if (SAME(value, "chunked")) {
        reader->head->chunked = true;
        return HTTP_DONE;
    }
    struct kt_str coding = value;
    size_t chunked = 0;
    while (value.n) {
        coding = list_next(&value);
        chunked += SAME(coding, "chunked");
    }
    if (chunked == 1 && SAME(coding, "chunked"))
        return bad(reader, 501, "Transfer-Encoding has codings besides chunked");
    return bad(reader, 400, "Transfer-Encoding is not chunked");
}

static enum http_parse
expect_take(struct reader *reader, struct kt_str value)
{
    if (!SAME(value, "100-continue"))
        return bad(reader, 417, "Expect is not 100-continue");
    reader->head->expect_continue = true;
    return HTTP_DONE;
}

static void
connection_take(struct reader *reader, struct kt_str value)
{
    while (value.n) {
        struct kt_str option = list_next(&value);
        reader->close |= SAME(option, "close");
        reader->keep_alive |= SAME(option, "keep-alive");
    }
}

static enum http_parse
header_take(struct reader *reader, struct kt_str name, struct kt_str value)
{
    struct http_head *head = reader->head;
    enum header header = header_known(name);
    unsigned bit = 1U << header;
    if (header < H_REPEATABLE && (reader->seen & bit))
        return bad(reader, 400, "a header that may occur once occurs twice");
    reader->seen |= bit;
    switch (header) {
    case H_HOST:
        return host_take(reader, value);
    case H_CONTENT_LENGTH:
        return length_take(reader, value);
    case H_TRANSFER_ENCODING:
        return encoding_take(reader, value);
    case H_EXPECT:
        return expect_take(reader, value);
    case H_AUTHORIZATION:
        head->authorization = value;
        return HTTP_DONE;
    case H_CONTENT_TYPE:
        head->content_type = value;
        return HTTP_DONE;
    case H_IDEMPOTENCY_KEY:
        head->idempotency_key = value;
        return HTTP_DONE;
    case H_CONNECTION:
        connection_take(reader, value);
        return HTTP_DONE;
    case H_CONTENT_ENCODING:
        if (value.n && !SAME(value, "identity"))
            head->content_encoding = value;
        return HTTP_DONE;
    case H_OTHER:
        return HTTP_DONE;
    }
    return HTTP_DONE;
}

/* Whether each of 8 bytes may be part of a value: 0x20 to 0x7E, or above 0x7F. A HTAB says no and
 * is left to the table. */
static bool
word_is_value(const char *p)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones << 7;
    uint64_t word;
    memcpy(&word, p, sizeof word);
    uint64_t del = word ^ ones * 0x7F;
    uint64_t control = (word - ones * 0x20) & ~word;
    return ((control | ((del - ones) & ~del)) & highs) == 0;
}

static const char *
value_end(const char *p, const char *end)
{
    while (end - p >= 8 && word_is_value(p))
        p += 8;
    while (p < end && is(*p, C_VALUE))
        p++;
    return p;
}

static enum http_parse
header_read(struct reader *reader)
{
    struct http_head *head = reader->head;
    if (head->nheaders == HTTP_HEADERS_MAX)
        return bad(reader, 431, "there are more than 64 headers");
    const char *name = reader->p, *p = name;
    while (p < reader->end && is(*p, C_TOKEN))
        p++;
    if (p == reader->end)
        return ran_out(reader);
    if (p == name || *p != ':')
        return bad(reader, 400, "a header does not begin with a name and a colon");
    struct kt_str key = { name, (size_t)(p - name) };
    p++;
    while (p < reader->end && (*p == ' ' || *p == '\t'))
        p++;
    const char *value = p;
    reader->p = p = value_end(p, reader->end);
    enum http_parse parse = crlf_read(reader, "a header has a control character or a bare LF");
    if (parse != HTTP_DONE)
        return parse;
    while (p > value && (p[-1] == ' ' || p[-1] == '\t'))
        p--;
    struct kt_str text = { value, (size_t)(p - value) };
    head->headers[head->nheaders++] = (struct http_header){ key, text };
    return header_take(reader, key, text);
}

/* What only the whole head can tell (rules 7, 10, 11). */
static enum http_parse
head_check(struct reader *reader)
{
    struct http_head *head = reader->head;
    if (head->minor == 1 && !head->host.p)
        return bad(reader, 400, "Host is missing");
    if (head->chunked && head->content_length >= 0)
        return bad(reader, 400, "both Content-Length and Transfer-Encoding");
    if (head->chunked && head->minor == 0)
        return bad(reader, 400, "Transfer-Encoding in HTTP/1.0");
    head->keep_alive = !reader->close && (head->minor == 1 || reader->keep_alive);
    /* RFC 9110 section 10.1.1: an expectation of HTTP/1.0 is ignored. */
    head->expect_continue = head->expect_continue && head->minor == 1;
    return HTTP_DONE;
}

static enum http_parse
headers_read(struct reader *reader)
{
    enum http_parse parse;
    do {
        if (reader->p == reader->end)
            return ran_out(reader);
        if (*reader->p == '\r') {
            parse = crlf_read(reader, "");
            return parse == HTTP_DONE ? head_check(reader) : parse;
        }
        parse = header_read(reader);
    } while (parse == HTTP_DONE);
    return parse;
}

/* Field by field: clearing the array of headers would cost more than reading most heads. */
static void
head_clear(struct http_head *head)
{
    const struct kt_str absent = { NULL, 0 };
    head->method = absent;
    head->nheaders = 0;
    head->content_length = -1;
    head->chunked = head->keep_alive = head->expect_continue = false;
    head->host = head->authorization = head->content_type = absent;
    head->content_encoding = head->idempotency_key = absent;
    head->status = 0;
    head->why = NULL;
}

enum http_parse
http_head_read(struct kt_str bytes, struct http_head *ret_head, size_t *ret_len)
{
    bool cut = bytes.n >= HTTP_HEAD_MAX;
    struct reader reader = {
        .p = bytes.p,
        .end = bytes.p + (cut ? (size_t)HTTP_HEAD_MAX : bytes.n),
        .cut = cut,
        .head = ret_head,
    };
    head_clear(ret_head);
    enum http_parse parse = HTTP_DONE;
    if (reader.p < reader.end && *reader.p == '\r')
        parse = crlf_read(&reader, "");
    if (parse == HTTP_DONE)
        parse = method_read(&reader);
    if (parse == HTTP_DONE)
        parse = target_read(&reader);
    if (parse == HTTP_DONE)
        parse = version_read(&reader);
    if (parse == HTTP_DONE)
        parse = headers_read(&reader);
    if (parse == HTTP_DONE)
        *ret_len = (size_t)(reader.p - bytes.p);
    return parse;
}

struct kt_str
http_head_get(const struct http_head *head, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < head->nheaders; i++) {
        struct kt_str have = head->headers[i].name;
        size_t k = 0;
        while (have.n == n && k < n && ((have.p[k] ^ name[k]) & ~0x20) == 0)
            k++;
        if (have.n == n && k == n)
            return head->headers[i].value;
    }
    return (struct kt_str){ NULL, 0 };
}

/* Decodes into out, which has room for text.n bytes. Returns the length, or -1. */
static ptrdiff_t
decode(struct kt_str text, char *out, bool plus_is_space, char refused)
{
    char *o = out;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '+' && plus_is_space)
            c = ' ';
        if (c == '%') {
            int high = text.n - i > 2 ? kt_hex_digit(text.p[i + 1]) : -1;
            int low = text.n - i > 2 ? kt_hex_digit(text.p[i + 2]) : -1;
            if (high < 0 || low < 0)
                return -1;
            c = (char)(high << 4 | low);
            i += 2;
            if (refused && c == refused)
                return -1;
        }
        *o++ = c;
    }
    return kt_utf8_is_text(out, (size_t)(o - out)) ? o - out : -1;
}

int
http_percent_decode(struct kt_arena *arena, struct kt_str segment, struct kt_str *ret_text)
{
    struct kt_str text = segment;
    if (segment.n && memchr(segment.p, '%', segment.n)) {
        char *out = kt_arena_alloc(arena, segment.n);
        if (!out)
            return 503;
        ptrdiff_t n = decode(segment, out, false, '/');
        if (n < 0)
            return 400;
        text = (struct kt_str){ out, (size_t)n };
    } else if (!kt_utf8_is_text(segment.p, segment.n)) {
        return 400;
    }
    if (kt_str_eq(text, KT_LIT(".")) || kt_str_eq(text, KT_LIT("..")))
        return 400;
    *ret_text = text;
    return 0;
}

/* 1, or what http_query_next() says instead. */
static int
query_text(struct kt_arena *arena, struct kt_str text, struct kt_str *out)
{
    *out = text;
    if (!text.p || text.n == 0)
        return 1;
    char *decoded = kt_arena_alloc(arena, text.n);
    if (!decoded)
        return -2;
    ptrdiff_t n = decode(text, decoded, true, '\0');
    if (n < 0)
        return -1;
    *out = (struct kt_str){ decoded, (size_t)n };
    return 1;
}

int
http_query_next(struct kt_arena *arena, struct kt_str *rest, struct kt_str *ret_name,
                struct kt_str *ret_value)
{
    while (rest->n && rest->p[0] == '&')
        *rest = (struct kt_str){ rest->p + 1, rest->n - 1 };
    if (rest->n == 0)
        return 0;
    const char *and = memchr(rest->p, '&', rest->n);
    struct kt_str pair = { rest->p, and? (size_t)(and-rest->p) : rest->n };
    const char *equals = memchr(pair.p, '=', pair.n);
    struct kt_str name = { pair.p, equals ? (size_t)(equals - pair.p) : pair.n };
    struct kt_str value = { NULL, 0 };
    if (equals)
        value = (struct kt_str){ equals + 1, pair.n - name.n - 1 };
    int read = query_text(arena, name, &name);
    if (read == 1)
        read = query_text(arena, value, &value);
    if (read != 1)
        return read;
    *rest = (struct kt_str){ rest->p + pair.n, rest->n - pair.n };
    *ret_name = name;
    *ret_value = value;
    return 1;
}
