/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Every rule of a request head. The name of a case begins with what it is about. */
#include "config.h"

#include "daemon/transport/http_head.h"
#include "tests/unit/samples.h"

#define BYTES(s)                                                                                   \
    {                                                                                              \
        ("" s), sizeof(s) - 1                                                                      \
    }
#define GET   "GET / HTTP/1.1\r\n"
#define HOST  "Host: h\r\n"
#define X16   "xxxxxxxxxxxxxxxx"
#define X64   X16 X16 X16 X16
#define X256  X64 X64 X64 X64
#define X1024 X256 X256 X256 X256
#define X4096 X1024 X1024 X1024 X1024

/* status 0: accepted. */
struct sample {
    const char *name;
    int status;
    struct kt_str text;
};

static const struct sample samples[] = {
    { "01 request line: plain", 0, BYTES(GET HOST "\r\n") },
    { "01 request line: any method", 0, BYTES("BREW / HTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: method of 16 bytes", 0, BYTES(X16 " / HTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: method of 17 bytes", 501, BYTES(X16 "x / HTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: no method", 400, BYTES(" / HTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: method is no token", 400, BYTES("G(T / HTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: NUL in method", 400, BYTES("G\0T / HTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: two spaces before target", 400, BYTES("GET  / HTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: two spaces after target", 400, BYTES("GET /  HTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: tab for space", 400, BYTES("GET\t/ HTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: tab after target", 400, BYTES("GET /\tHTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: space at the end", 400, BYTES("GET / HTTP/1.1 \r\n" HOST "\r\n") },
    { "01 request line: no version", 400, BYTES("GET /\r\n" HOST "\r\n") },
    { "01 request line: no target", 400, BYTES("GET HTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: NUL in target", 400, BYTES("GET /\0 HTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: control in target", 400, BYTES("GET /\x01 HTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: DEL in target", 400, BYTES("GET /\x7F HTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: fragment", 400, BYTES("GET /#a HTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: byte above 7F in target", 400,
      BYTES("GET /\xC3\xA4 HTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: target of 4352 bytes", 0,
      BYTES("GET /" X4096 X64 X64 X64 X16 X16 X16 "xxxxxxxxxxxxxxx HTTP/1.1\r\n" HOST "\r\n") },
    { "01 request line: target of 4353 bytes", 414,
      BYTES("GET /" X4096 X256 " HTTP/1.1\r\n" HOST "\r\n") },
    { "01 version: HTTP/1.0", 0, BYTES("GET / HTTP/1.0\r\n\r\n") },
    { "01 version: HTTP/1.2", 505, BYTES("GET / HTTP/1.2\r\n" HOST "\r\n") },
    { "01 version: HTTP/0.9", 505, BYTES("GET / HTTP/0.9\r\n" HOST "\r\n") },
    { "01 version: HTTP/2.0", 505, BYTES("GET / HTTP/2.0\r\n" HOST "\r\n") },
    { "01 version: HTTP/1.99", 400, BYTES("GET / HTTP/1.99\r\n" HOST "\r\n") },
    { "01 version: HTTP/+1.1", 400, BYTES("GET / HTTP/+1.1\r\n" HOST "\r\n") },
    { "01 version: HTTP/1", 400, BYTES("GET / HTTP/1\r\n" HOST "\r\n") },
    { "01 version: lower case", 400, BYTES("GET / http/1.1\r\n" HOST "\r\n") },
    { "01 version: another protocol", 400, BYTES("GET / HTCP/1.1\r\n" HOST "\r\n") },
    { "02 CRLF only: bare LF after request line", 400, BYTES("GET / HTTP/1.1\n" HOST "\r\n") },
    { "02 CRLF only: bare CR after request line", 400, BYTES("GET / HTTP/1.1\r" HOST "\r\n") },
    { "02 CRLF only: bare LF after header", 400, BYTES(GET "Host: h\n\r\n") },
    { "02 CRLF only: bare CR after header", 400, BYTES(GET "Host: h\rA: b\r\n\r\n") },
    { "02 CRLF only: bare LF at the end", 400, BYTES(GET HOST "\n") },
    { "02 CRLF only: CR CR LF at the end", 400, BYTES(GET HOST "\r\r\n") },
    { "02 CRLF only: LF in a value", 400, BYTES(GET HOST "A: b\nc: d\r\n\r\n") },
    { "03 empty line first: one", 0, BYTES("\r\n" GET HOST "\r\n") },
    { "03 empty line first: two", 400, BYTES("\r\n\r\n" GET HOST "\r\n") },
    { "03 empty line first: bare LF", 400, BYTES("\n" GET HOST "\r\n") },
    { "03 empty line first: bare CR", 400, BYTES("\r" GET HOST "\r\n") },
    { "04 name: space before colon", 400, BYTES(GET HOST "Content-Length : 3\r\n\r\n") },
    { "04 name: tab before colon", 400, BYTES(GET HOST "A\t: 3\r\n\r\n") },
    { "04 name: empty", 400, BYTES(GET HOST ": x\r\n\r\n") },
    { "04 name: no colon", 400, BYTES(GET HOST "Abc\r\n\r\n") },
    { "04 name: NUL at line start", 400, BYTES(GET HOST "\0A: b\r\n\r\n") },
    { "04 name: control byte", 400, BYTES(GET HOST "A\x01: b\r\n\r\n") },
    { "04 name: not ASCII", 400, BYTES(GET HOST "\xC3\xA4: b\r\n\r\n") },
    { "04 name: every other token character", 0,
      BYTES(GET HOST "!#$%&'*+-.^_`|~09azAZ: b\r\n\r\n") },
    { "04 name: slash", 400, BYTES(GET HOST "a/b: b\r\n\r\n") },
    { "05 value: NUL", 400, BYTES(GET HOST "A: b\0c\r\n\r\n") },
    { "05 value: control byte", 400,
      BYTES(GET HOST "A: 0123456789\x1F"
                     "0123456789\r\n\r\n") },
    { "05 value: vertical tab", 400, BYTES(GET HOST "A: \vb\r\n\r\n") },
    { "05 value: DEL", 400,
      BYTES(GET HOST "A: 012345\x7F"
                     "678\r\n\r\n") },
    { "05 value: tab inside", 0, BYTES(GET HOST "A: b\tc d\r\n\r\n") },
    { "05 value: bytes above 7F", 0, BYTES(GET HOST "A: \x80\xFF 0123456789\xC3\xA4\r\n\r\n") },
    { "05 value: empty", 0, BYTES(GET HOST "A:\r\nB: \t \r\n\r\n") },
    { "06 obs-fold: space", 400, BYTES(GET HOST "A: b\r\n c\r\n\r\n") },
    { "06 obs-fold: tab", 400, BYTES(GET HOST "A: b\r\n\tc\r\n\r\n") },
    { "06 obs-fold: before the first header", 400, BYTES(GET " A: b\r\n" HOST "\r\n") },
    { "06 obs-fold: in Transfer-Encoding", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n chunked\r\n\r\n") },
    { "07 Host: missing in 1.1", 400, BYTES(GET "\r\n") },
    { "07 Host: two", 400, BYTES(GET HOST HOST "\r\n") },
    { "07 Host: two in 1.0", 400, BYTES("GET / HTTP/1.0\r\n" HOST HOST "\r\n") },
    { "07 Host: empty", 400, BYTES(GET "Host:\r\n\r\n") },
    { "07 Host: with a space", 400, BYTES(GET "Host: a b\r\n\r\n") },
    { "07 Host: with user", 400, BYTES(GET "Host: a@b\r\n\r\n") },
    { "07 Host: with path", 400, BYTES(GET "Host: a/b\r\n\r\n") },
    { "07 Host: with a bad port", 400, BYTES(GET "Host: a:80x\r\n\r\n") },
    { "07 Host: name and port", 0, BYTES(GET "Host: a-b.example:8080\r\n\r\n") },
    { "07 Host: IPv6 and port", 0, BYTES(GET "Host: [::1]:8080\r\n\r\n") },
    { "07 Host: IPv6 not closed", 400, BYTES(GET "Host: [::1\r\n\r\n") },
    { "08 once: Content-Length, differing", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 31\r\n\r\n") },
    { "08 once: Content-Length, equal", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 3\r\n\r\n") },
    { "08 once: Transfer-Encoding", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST
            "Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n") },
    { "08 once: Authorization", 400,
      BYTES(GET HOST "Authorization: a\r\nauthorization: a\r\n\r\n") },
    { "08 once: Content-Type", 400, BYTES(GET HOST "Content-Type: a\r\nContent-Type: b\r\n\r\n") },
    { "08 once: Expect", 400,
      BYTES(GET HOST "Expect: 100-continue\r\nExpect: 100-continue\r\n\r\n") },
    { "08 once: Idempotency-Key", 400,
      BYTES(GET HOST "Idempotency-Key: a\r\nIDEMPOTENCY-KEY: a\r\n\r\n") },
    { "08 once: others may repeat", 0,
      BYTES(GET HOST "Accept: a\r\nAccept: b\r\nX: 1\r\nX: 2\r\n\r\n") },
    { "09 Content-Length: digits", 0,
      BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: 42\r\n\r\n") },
    { "09 Content-Length: ten digits", 0,
      BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: 9999999999\r\n\r\n") },
    { "09 Content-Length: eleven digits", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: 00000000001\r\n\r\n") },
    { "09 Content-Length: empty", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n") },
    { "09 Content-Length: plus", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: +3\r\n\r\n") },
    { "09 Content-Length: minus", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: -0\r\n\r\n") },
    { "09 Content-Length: list", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: 3, 3\r\n\r\n") },
    { "09 Content-Length: vertical tab", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: \v3\r\n\r\n") },
    { "09 Content-Length: NUL", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: 3\0 9\r\n\r\n") },
    { "09 Content-Length: hexadecimal", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: 0x3\r\n\r\n") },
    { "10 both lengths: length first", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n") },
    { "10 both lengths: encoding first", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n") },
    { "11 Transfer-Encoding: chunked", 0,
      BYTES("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n") },
    { "11 Transfer-Encoding: in 1.0", 400,
      BYTES("POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n") },
    { "11 Transfer-Encoding: xchunked", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n") },
    { "11 Transfer-Encoding: identity", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n\r\n") },
    { "11 Transfer-Encoding: vertical tab", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \vchunked\r\n\r\n") },
    { "11 Transfer-Encoding: space before colon", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding : chunked\r\n\r\n") },
    { "11 Transfer-Encoding: empty", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n\r\n") },
    { "11 Transfer-Encoding: comma behind", 501,
      BYTES("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked,\r\n\r\n") },
    { "11 Transfer-Encoding: comma before", 501,
      BYTES("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: , chunked\r\n\r\n") },
    { "11 Transfer-Encoding: twice in one", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, chunked\r\n\r\n") },
    { "11 Transfer-Encoding: gzip, chunked", 501,
      BYTES("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n") },
    { "11 Transfer-Encoding: chunked, gzip", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, gzip\r\n\r\n") },
    { "11 Transfer-Encoding: with parameter", 400,
      BYTES("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked;a=b\r\n\r\n") },
    { "16 Expect: 100-continue", 0,
      BYTES("POST / HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\n\r\n") },
    { "16 Expect: another", 417, BYTES("POST / HTTP/1.1\r\n" HOST "Expect: 200-ok\r\n\r\n") },
    { "16 Expect: empty", 417, BYTES("POST / HTTP/1.1\r\n" HOST "Expect:\r\n\r\n") },
    { "17 target: absolute form", 400, BYTES("GET http://h/ HTTP/1.1\r\n" HOST "\r\n") },
    { "17 target: CONNECT", 400, BYTES("CONNECT h:80 HTTP/1.1\r\n" HOST "\r\n") },
    { "17 target: CONNECT with path", 400, BYTES("CONNECT / HTTP/1.1\r\n" HOST "\r\n") },
    { "17 target: * for OPTIONS", 0, BYTES("OPTIONS * HTTP/1.1\r\n" HOST "\r\n") },
    { "17 target: * for GET", 400, BYTES("GET * HTTP/1.1\r\n" HOST "\r\n") },
    { "17 target: ** for OPTIONS", 400, BYTES("OPTIONS ** HTTP/1.1\r\n" HOST "\r\n") },
    { "17 target: relative", 400, BYTES("GET a/b HTTP/1.1\r\n" HOST "\r\n") },
};

static void
test_sample(void **state)
{
    const struct sample *sample = *state;
    static struct http_head head;
    size_t len = 0;
    enum http_parse parse = http_head_read(sample->text, &head, &len);
    if (sample->status == 0) {
        if (parse == HTTP_BAD)
            fail_msg("refused: %d %s", head.status, head.why);
        assert_int_equal(parse, HTTP_DONE);
        assert_int_equal(len, sample->text.n);
        return;
    }
    assert_int_equal(parse, HTTP_BAD);
    assert_int_equal(head.status, sample->status);
    assert_non_null(head.why);
}

/* Cut at every position, and in memory that ends there: never DONE before the end, and what is BAD
 * stays BAD. */
static void
test_split(void **state)
{
    const struct sample *sample = *state;
    static struct http_head head;
    bool was_bad = false;
    for (size_t n = 0; n < sample->text.n; n++) {
        char *copy = malloc(n ? n : 1);
        memcpy(copy, sample->text.p, n);
        size_t len;
        enum http_parse parse = http_head_read((struct kt_str){ copy, n }, &head, &len);
        free(copy);
        assert_int_not_equal(parse, HTTP_DONE);
        assert_false(was_bad && parse == HTTP_MORE);
        was_bad = parse == HTTP_BAD;
        assert_false(was_bad && sample->status == 0);
    }
}

static void
test_views(void **state)
{
    (void)state;
    static const char text[] =
        "POST /a/b%20c?x=1&y HTTP/1.1\r\nhOST: h:1\r\nAUTHORIZATION:  Bearer k \t\r\n"
        "content-type:application/json\r\nIdempotency-Key: i\r\n"
        "Accept: application/json\r\nAccept: text/plain\r\n"
        "X-Other:\r\nContent-Length: 5\r\nExpect: 100-continue\r\n"
        "Content-Encoding: gzip\r\ncontent-encoding: Identity\r\nContent-Encoding:\r\n\r\nhello";
    static struct http_head head;
    size_t len;
    assert_int_equal(http_head_read(kt_str(text), &head, &len), HTTP_DONE);
    assert_int_equal(len, sizeof text - 1 - 5);
    assert_true(kt_str_is(head.method, "POST"));
    assert_true(kt_str_is(head.target, "/a/b%20c?x=1&y"));
    assert_true(kt_str_is(head.path, "/a/b%20c"));
    assert_true(kt_str_is(head.query, "x=1&y"));
    assert_int_equal(head.minor, 1);
    assert_true(kt_str_is(head.host, "h:1"));
    assert_true(kt_str_is(head.authorization, "Bearer k"));
    assert_true(kt_str_is(head.content_type, "application/json"));
    assert_true(kt_str_is(head.idempotency_key, "i"));
    assert_int_equal(head.content_length, 5);
    assert_true(head.expect_continue);
    assert_true(head.keep_alive);
    assert_false(head.chunked);
    assert_true(kt_str_is(head.content_encoding, "gzip"));
    assert_int_equal(head.nheaders, 12);
    assert_true(kt_str_is(head.headers[7].name, "Content-Length"));
    assert_non_null(http_head_get(&head, "x-other").p);
    assert_int_equal(http_head_get(&head, "x-other").n, 0);
    assert_null(http_head_get(&head, "x-othe").p);
    assert_true(kt_str_is(http_head_get(&head, "ACCEPT"), "application/json"));
}

/* A head is reused: nothing of the one before may show. */
static void
test_nothing_is_left_from_before(void **state)
{
    (void)state;
    static struct http_head head;
    size_t len;
    memset(&head, 0x5A, sizeof head);
    assert_int_equal(http_head_read(kt_str("GET / HTTP/1.0\r\n\r\n"), &head, &len), HTTP_DONE);
    assert_null(head.query.p);
    assert_null(head.host.p);
    assert_null(head.authorization.p);
    assert_null(head.content_type.p);
    assert_null(head.content_encoding.p);
    assert_null(head.idempotency_key.p);
    assert_int_equal(head.content_length, -1);
    assert_int_equal(head.nheaders, 0);
    assert_false(head.chunked || head.keep_alive || head.expect_continue);
}

static void
test_keep_alive(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool keep_alive;
    } cases[] = {
        { GET HOST "\r\n", true },
        { GET HOST "Connection: close\r\n\r\n", false },
        { GET HOST "Connection: keep-alive\r\n\r\n", true },
        { GET HOST "Connection: Upgrade , CLOSE\r\n\r\n", false },
        { GET HOST "Connection: a\r\nConnection: close\r\n\r\n", false },
        { GET HOST "Connection: closed\r\n\r\n", true },
        { GET HOST "Connection: keep-alive, close\r\n\r\n", false },
        { "GET / HTTP/1.0\r\n\r\n", false },
        { "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true },
        { "GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static struct http_head head;
        size_t len;
        assert_int_equal(http_head_read(kt_str(cases[i].text), &head, &len), HTTP_DONE);
        assert_int_equal(head.keep_alive, cases[i].keep_alive);
    }
}

static void
test_04_limit_of_headers(void **state)
{
    (void)state;
    for (int n = HTTP_HEADERS_MAX; n <= HTTP_HEADERS_MAX + 1; n++) {
        char text[2048] = GET HOST;
        for (int i = 1; i < n; i++)
            strcat(text, "A: b\r\n");
        strcat(text, "\r\n");
        static struct http_head head;
        size_t len;
        enum http_parse parse = http_head_read(kt_str(text), &head, &len);
        assert_int_equal(parse, n == HTTP_HEADERS_MAX ? HTTP_DONE : HTTP_BAD);
        assert_int_equal(head.status, n == HTTP_HEADERS_MAX ? 0 : 431);
    }
}

static void
test_04_limit_of_bytes(void **state)
{
    (void)state;
    static struct http_head head;
    static char text[HTTP_HEAD_MAX + 64];
    for (size_t n = HTTP_HEAD_MAX - 1; n <= HTTP_HEAD_MAX + 1; n++) {
        size_t len, begin = (size_t)sprintf(text, "%s", GET HOST "A: ");
        memset(text + begin, 'x', n - begin - 4);
        memcpy(text + n - 4, "\r\n\r\n", 4);
        enum http_parse parse = http_head_read((struct kt_str){ text, n }, &head, &len);
        assert_int_equal(parse, n <= HTTP_HEAD_MAX ? HTTP_DONE : HTTP_BAD);
        assert_int_equal(head.status, n <= HTTP_HEAD_MAX ? 0 : 431);
        parse = http_head_read((struct kt_str){ text, n - 1 }, &head, &len);
        assert_int_equal(parse, n <= HTTP_HEAD_MAX ? HTTP_MORE : HTTP_BAD);
    }
}

static void
test_pipelined_bytes_are_not_looked_at(void **state)
{
    (void)state;
    static struct http_head head;
    static char text[3 * HTTP_HEAD_MAX];
    memset(text, 0, sizeof text);
    memcpy(text, GET HOST "\r\n", sizeof GET HOST "\r\n" - 1);
    size_t len;
    assert_int_equal(http_head_read((struct kt_str){ text, sizeof text }, &head, &len), HTTP_DONE);
    assert_int_equal(len, sizeof GET HOST "\r\n" - 1);
}

static void
test_18_percent_decoding(void **state)
{
    (void)state;
    static const struct {
        const char *segment, *text;
    } cases[] = {
        { "", "" },
        { "abc", "abc" },
        { "a%20b", "a b" },
        { "%41%6a%6A", "Ajj" },
        { "%2541", "%41" },
        { "a+b", "a+b" },
        { "%C3%A4", "\xC3\xA4" },
        { "...", "..." },
        { "%00", NULL },
        { "a%2Fb", NULL },
        { "a%2fb", NULL },
        { "%C0%AF", NULL },
        { "%C3", NULL },
        { "%ED%A0%80", NULL },
        { "%", NULL },
        { "%4", NULL },
        { "%4g", NULL },
        { "%g4", NULL },
        { "% 4", NULL },
        { ".", NULL },
        { "..", NULL },
        { "%2e", NULL },
        { "%2e%2E", NULL },
        { ".%2e", NULL },
        { "%u0041", NULL },
    };
    struct kt_arena arena;
    kt_arena_init(&arena, 4096);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kt_str text = { NULL, 0 };
        int status = http_percent_decode(&arena, kt_str(cases[i].segment), &text);
        assert_int_equal(status, cases[i].text ? 0 : 400);
        assert_true(!cases[i].text || kt_str_is(text, cases[i].text));
    }
    kt_arena_done(&arena);
}

static void
test_18_percent_decoding_without_memory(void **state)
{
    (void)state;
    struct kt_arena arena;
    kt_arena_init(&arena, 1);
    struct kt_str text;
    assert_int_equal(http_percent_decode(&arena, KT_LIT("%41"), &text), 503);
    assert_int_equal(http_percent_decode(&arena, KT_LIT("plain"), &text), 0);
    kt_arena_done(&arena);
}

/* Each pair is printed as name=value; or name alone when the value is absent. */
static void
test_18_query(void **state)
{
    (void)state;
    static const struct {
        const char *query, *pairs;
    } cases[] = {
        { "", "" },
        { "a=1&b=2", "a=1;b=2;" },
        { "a", "a;" },
        { "a=", "a=;" },
        { "=b", "=b;" },
        { "&&a=1&&&b=2&", "a=1;b=2;" },
        { "a=b=c", "a=b=c;" },
        { "a+b=c+d", "a b=c d;" },
        { "a%2Bb=c%26d%3d%2F", "a+b=c&d=/;" },
        { "%C3%A4=%C3%A4", "\xC3\xA4=\xC3\xA4;" },
        { "a=1&b=%00", "a=1;!" },
        { "a=%", "!" },
        { "%zz=1", "!" },
        { "a=%C0%AF", "!" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kt_arena arena;
        kt_arena_init(&arena, 4096);
        struct kt_str rest = kt_str(cases[i].query), name, value;
        char out[256] = "";
        int more;
        while ((more = http_query_next(&arena, &rest, &name, &value)) == 1)
            sprintf(out + strlen(out), "%.*s%s%.*s;", KT_FMT(name), value.p ? "=" : "",
                    KT_FMT(value));
        strcat(out, more < 0 ? "!" : "");
        assert_string_equal(out, cases[i].pairs);
        kt_arena_done(&arena);
    }
    struct kt_str absent = { NULL, 0 }, name, value;
    assert_int_equal(http_query_next(NULL, &absent, &name, &value), 0);
}

int
main(void)
{
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_nothing_is_left_from_before),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_04_limit_of_headers),
        cmocka_unit_test(test_04_limit_of_bytes),
        cmocka_unit_test(test_pipelined_bytes_are_not_looked_at),
        cmocka_unit_test(test_18_percent_decoding),
        cmocka_unit_test(test_18_percent_decoding_without_memory),
        cmocka_unit_test(test_18_query),
    };
    const struct sample_group group = {
        .name = "http_head", .samples = samples, .size = sizeof samples[0],
        .n = sizeof samples / sizeof samples[0], .whole = test_sample, .split = test_split,
        .others = others, .nothers = sizeof others / sizeof others[0],
    };
    return run_samples(&group);
}
