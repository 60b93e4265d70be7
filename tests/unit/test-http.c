/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* HTTP over real sockets and a real loop: what goes in, and what comes out. */
#include "config.h"

#include "daemon/codec/body.h"
#include "daemon/transport/http_head.h"
#include "tests/unit/http-bench.h"

static const struct row {
    const char *rule;
    const char *bytes;
    const char *statuses;
    const char *calls;
    bool stays; /* the daemon does not end the connection by itself */
} rows[] = {
    { "1 request line", "GET /now HTTP/1.1\r\n" HOST "\r\n", "200", "GET /now\n", true },
    { "1 two spaces", "GET  /now HTTP/1.1\r\n" HOST "\r\n" NEXT, BAD, false },
    { "1 no version", "GET /now\r\n" HOST "\r\n" NEXT, BAD, false },
    { "1 version 2", "GET /now HTTP/2.0\r\n" HOST "\r\n" NEXT, "505", "", false },
    { "1 version +1", "GET /now HTTP/+1.1\r\n" HOST "\r\n" NEXT, BAD, false },
    { "1 method 17 bytes", "GETGETGETGETGETGE /now HTTP/1.1\r\n" HOST "\r\n" NEXT, "501", "",
      false },
    { "1 fragment", "GET /now#a HTTP/1.1\r\n" HOST "\r\n" NEXT, BAD, false },
    { "1 control in target", "GET /n\x01w HTTP/1.1\r\n" HOST "\r\n" NEXT, BAD, false },
    { "2 bare LF", "GET /now HTTP/1.1\n" HOST "\r\n" NEXT, BAD, false },
    { "2 bare LF in header", "GET /now HTTP/1.1\r\nHost: a\n\r\n" NEXT, BAD, false },
    { "2 bare CR", "GET /now HTTP/1.1\r\nHost: a\rb\r\n\r\n" NEXT, BAD, false },
    { "3 one empty line", "\r\nGET /now HTTP/1.1\r\n" HOST "\r\n", "200", "GET /now\n", true },
    { "3 two empty lines", "\r\n\r\nGET /now HTTP/1.1\r\n" HOST "\r\n" NEXT, BAD, false },
    { "4 space before colon", "GET /now HTTP/1.1\r\nHost : a\r\n\r\n" NEXT, BAD, false },
    { "4 name is no token", "GET /now HTTP/1.1\r\nHo\x02st: a\r\n\r\n" NEXT, BAD, false },
    { "4 no name", "GET /now HTTP/1.1\r\n" HOST ": b\r\n\r\n" NEXT, BAD, false },
    { "5 control in value", "GET /now HTTP/1.1\r\n" HOST "A: \x01\r\n\r\n" NEXT, BAD, false },
    { "5 tab in value", "GET /now HTTP/1.1\r\n" HOST "A: b\tc\r\n\r\n", "200", "GET /now\n", true },
    { "6 folded", "GET /now HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n" NEXT, BAD, false },
    { "7 no host", "GET /now HTTP/1.1\r\n\r\n" NEXT, BAD, false },
    { "7 two hosts", "GET /now HTTP/1.1\r\n" HOST HOST "\r\n" NEXT, BAD, false },
    { "7 no host in 1.0", "GET /now HTTP/1.0\r\n\r\n" NEXT, "200", "GET /now\n", false },
    { "8 two lengths", "POST /now HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 58\r\n"
      "\r\n" NEXT, BAD, false },
    { "8 two credentials", "GET /now HTTP/1.1\r\n" HOST "Authorization: Bearer a\r\n"
      "Authorization: Bearer b\r\n\r\n" NEXT, BAD, false },
    { "8 two types", "GET /now HTTP/1.1\r\n" HOST "Content-Type: a/b\r\nContent-Type: a/b\r\n\r\n"
      NEXT, BAD, false },
    { "9 length +3", "POST /now HTTP/1.1\r\n" HOST "Content-Length: +3\r\n\r\nabc" NEXT, BAD,
      false },
    { "9 length and a control", "POST /now HTTP/1.1\r\n" HOST "Content-Length: 3\v\r\n\r\nabc" NEXT,
      BAD, false },
    { "9 length empty", "POST /now HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n" NEXT, BAD, false },
    { "10 both", "POST /now HTTP/1.1\r\n" HOST "Content-Length: 3\r\n" CHUNKED
      "\r\n0\r\n\r\n" NEXT, BAD, false },
    { "11 other coding", "POST /now HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n"
      "0\r\n\r\n" NEXT, BAD, false },
    { "11 chunked in 1.0", "POST /now HTTP/1.0\r\n" HOST CHUNKED "\r\n0\r\n"
      "\r\n" NEXT, BAD, false },
    { "12 chunks", "POST /now HTTP/1.1\r\n" HOST CHUNKED "\r\n"
      "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n" NEXT, "200 200",
      "POST /now [abcde]\n" NEXT_CALL, true },
    { "12 no body", "POST /now HTTP/1.1\r\n" HOST CHUNKED "\r\n0\r\n\r\n",
      "200", "POST /now\n", true },
    { "12 size 0x3", "POST /now HTTP/1.1\r\n" HOST CHUNKED "\r\n"
      "0x3\r\nabc\r\n0\r\n\r\n" NEXT, BAD, false },
    { "12 size of 9 digits", "POST /now HTTP/1.1\r\n" HOST CHUNKED "\r\n"
      "000000003\r\nabc\r\n0\r\n\r\n" NEXT, BAD, false },
    { "12 no CRLF after data", "POST /now HTTP/1.1\r\n" HOST CHUNKED "\r\n"
      "3\r\nabcd\r\n0\r\n\r\n" NEXT, BAD, false },
    { "13 trailers", "POST /now HTTP/1.1\r\n" HOST CHUNKED "\r\n"
      "3\r\nabc\r\n0\r\nAuthorization: Bearer x\r\n\r\n" NEXT, "200 200",
      "POST /now [abc]\n" NEXT_CALL, true },
    { "14 body of GET", "GET /now HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc" NEXT, "200 200",
      "GET /now [abc]\n" NEXT_CALL, true },
    { "14 body of an inline path", "DELETE /inline HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"
      NEXT, "200 200", "DELETE /inline [abc]\n" NEXT_CALL, true },
    { "14 body of an unknown method", "BREW /now HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"
      NEXT, "200 200", "BREW /now [abc]\n" NEXT_CALL, true },
    { "15 body below the limit", "POST /now HTTP/1.1\r\n" HOST "Content-Length: 63\r\n\r\n"
      "012345678901234567890123456789012345678901234567890123456789012" NEXT, "200 200",
      "POST /now [012345678901234567890123456789012345678901234567890123456789012]\n" NEXT_CALL,
      true },
    { "15 body at it", "POST /now HTTP/1.1\r\n" HOST "Content-Length: 64\r\n\r\n", "413",
      "POST /now\n", false },
    { "15 chunks at it", "POST /now HTTP/1.1\r\n" HOST CHUNKED "\r\n"
      "20\r\n01234567890123456789012345678901\r\n20\r\n", "413", "POST /now\n", false },
    { "15 body of the refused", "POST /401 HTTP/1.1\r\n" HOST "Content-Length: 64\r\n\r\n", "401",
      "POST /401\n", false },
    { "16 other expectation", "POST /now HTTP/1.1\r\n" HOST "Expect: 200-ok\r\n"
      "Content-Length: 3\r\n\r\nabc" NEXT, "417", "", false },
    { "17 absolute form", "GET http://a/now HTTP/1.1\r\n" HOST "\r\n" NEXT, BAD, false },
    { "17 connect", "CONNECT a:80 HTTP/1.1\r\n" HOST "\r\n" NEXT, BAD, false },
    { "17 asterisk", "GET * HTTP/1.1\r\n" HOST "\r\n" NEXT, BAD, false },
    { "17 asterisk of OPTIONS", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "200", "OPTIONS *\n", true },
    { "21 pipelined", "GET /park/1 HTTP/1.1\r\n" HOST "\r\nGET /inline/2 HTTP/1.1\r\n" HOST "\r\n"
      "GET /now/3 HTTP/1.1\r\n" HOST "\r\nGET /park/4 HTTP/1.1\r\n" HOST "\r\n"
      "GET /decline/5 HTTP/1.1\r\n" HOST "\r\n", "200 200 200 200 200",
      "GET /park/1\nGET /inline/2 inline\nGET /now/3\nGET /park/4\nGET /decline/5\n", true },
    { "22 after close", "GET /now HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n" NEXT, "200",
      "GET /now\n", false },
    { "22 after close, parked", "GET /park HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n" NEXT,
      "200", "GET /park\n", false },
    { "22 after 1.0", "GET /now HTTP/1.0\r\n" HOST "\r\n" NEXT, "200", "GET /now\n", false },
    { "22 1.0 that stays", "GET /now HTTP/1.0\r\n" HOST "Connection: keep-alive\r\n\r\n" NEXT,
      "200 200", "GET /now\n" NEXT_CALL, true },
    { "22 after a good one", NEXT "GET /now\r\n\r\n" NEXT, "200 400", NEXT_CALL, false },
    { "22 a refusal is no framing error", "GET /400 HTTP/1.1\r\n" HOST "\r\n" NEXT, "400 200",
      "GET /400\n" NEXT_CALL, true },
    { "204", "GET /204 HTTP/1.1\r\n" HOST "\r\n" NEXT, "204 200", "GET /204\n" NEXT_CALL, true },
    { "query", "GET /now?a=b&c HTTP/1.1\r\n" HOST "\r\n", "200", "GET /now?a=b&c\n", true },
    { "credential", "GET /now HTTP/1.1\r\n" HOST "Authorization: Bearer abc \r\n\r\n", "200",
      "GET /now <abc>\n", true },
    { "credential, spaces", "GET /now HTTP/1.1\r\n" HOST "Authorization: Bearer  abc\r\n\r\n",
      "200", "GET /now <abc>\n", true },
    { "credential, inline", "GET /inline HTTP/1.1\r\n" HOST "Authorization: Bearer abc\r\n\r\n",
      "200", "GET /inline <abc> inline\n", true },
    { "credential, other case", "GET /now HTTP/1.1\r\n" HOST "Authorization: bearer abc\r\n\r\n",
      "200", "GET /now bad scheme\n", true },
    { "credential, other scheme", "GET /now HTTP/1.1\r\n" HOST "Authorization: Basic abc\r\n\r\n",
      "200", "GET /now bad scheme\n", true },
    { "credential, empty", "GET /now HTTP/1.1\r\n" HOST "Authorization: Bearer \r\n\r\n", "200",
      "GET /now bad scheme\n", true },
    { "credential, no value", "GET /now HTTP/1.1\r\n" HOST "Authorization:\r\n\r\n", "200",
      "GET /now bad scheme\n", true },
};

/* Sends the first `cut` bytes, lets the loop see them, then the rest `step` bytes at a time. */
static void
check_row(const struct row *row, size_t cut, size_t step)
{
    size_t n = strlen(row->bytes);
    calls_reset();
    int fd = dial(&usual);
    say(fd, row->bytes, cut);
    for (size_t at = cut; at < n; at += step) {
        settle();
        say(fd, row->bytes + at, n - at < step ? n - at : step);
    }
    settle();
    if (row->stays)
        shutdown(fd, SHUT_WR);
    size_t got = hear_all(fd, answers);
    close(fd);
    char seen[200];
    statuses(answers, got, false, seen, sizeof seen);
    if (strcmp(seen, row->statuses) != 0 || strcmp(calls(), row->calls) != 0)
        fail_msg("%s (cut at %zu): %s, %s\n%s", row->rule, cut, seen, calls(), answers);
}

static void
rules_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_row(&rows[i], strlen(rows[i].bytes), 1);
}

static void
rules_byte_by_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_row(&rows[i], 0, 1);
}

static void
rules_split_everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (size_t cut = 1; cut < strlen(rows[i].bytes); cut++)
            check_row(&rows[i], cut, strlen(rows[i].bytes));
}

static void
answer_is_json_with_newline(void **state)
{
    (void)state;
    ask(GET("/now"));
    assert_string_equal(body(), "{\"status\":\"/now\"}\n");
    assert_string_equal(header(answers, "Content-Type"), "application/json");
    assert_string_equal(header(answers, "Content-Length"), "18");
    assert_string_equal(header(answers, "Cache-Control"), "no-store");
    assert_null(header(answers, "Server"));
    assert_null(header(answers, "Connection"));
}

static void
date_is_imf_fixdate(void **state)
{
    (void)state;
    ask(GET("/now"));
    const char *date = header(answers, "Date");
    assert_non_null(date);
    struct tm tm = { 0 };
    const char *end = strptime(date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    assert_true(end && *end == '\0');
    time_t now = time(NULL), said = timegm(&tm);
    assert_true(said >= now - 2 && said <= now + 1);
    assert_int_equal(strlen(date), 29);
}

static void
head_is_get_without_body(void **state)
{
    (void)state;
    ask(HEAD("/now") GET("/now"));
    assert_string_equal(header(answers, "Content-Length"), "18");
    const char *second = body();
    assert_int_equal(strncmp(second, "HTTP/1.1 200 OK\r\n", 17), 0);
    assert_string_equal(strstr(second, "\r\n\r\n") + 4, "{\"status\":\"/now\"}\n");
    ask(HEAD("/400"));
    assert_string_equal(body(), "");
    assert_string_not_equal(header(answers, "Content-Length"), "0");
}

static void
no_content_has_no_length(void **state)
{
    (void)state;
    ask("DELETE /204 HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(strncmp(answers, "HTTP/1.1 204 No Content\r\n", 25), 0);
    assert_null(header(answers, "Content-Length"));
    assert_null(header(answers, "Content-Type"));
    assert_string_equal(body(), "");
}

static void
created_says_so(void **state)
{
    (void)state;
    ask(POST("/create", "14", "", "{\"name\":\"ann\"}"));
    assert_int_equal(strncmp(answers, "HTTP/1.1 201 Created\r\n", 22), 0);
    assert_non_null(strstr(body(), "\"name\":\"ann\""));
}

static void
validate_answers_ok_with_a_bearer(void **state)
{
    (void)state;
    static const char *const methods[] = { "GET", "POST", "PUT", "PATCH", "DELETE" };
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        char bytes[200];
        snprintf(bytes, sizeof bytes, "%s /validate HTTP/1.1\r\n" HOST "\r\n", methods[i]);
        ask(bytes);
        assert_int_equal(strncmp(answers, "HTTP/1.1 200 OK\r\n", 17), 0);
        assert_string_equal(header(answers, "Authorization"), "Bearer e30.e30.c2ln");
        assert_string_equal(header(answers, "Content-Type"), "text/plain; charset=utf-8");
        assert_string_equal(body(), "OK");
    }
    ask(HEAD("/validate"));
    assert_string_equal(header(answers, "Content-Length"), "2");
    assert_string_equal(body(), "");
}

static void
refusals_are_problems(void **state)
{
    (void)state;
    ask(GET("/400?a=b"));
    assert_string_equal(header(answers, "Content-Type"), "application/problem+json");
    assert_string_equal(body(),
                        "{\"type\":\"https://tools.ietf.org/html/rfc7231#section-6.5.1\","
                        "\"title\":\"Bad Request\",\"status\":400,\"detail\":\"as the path says\","
                        "\"instance\":\"/400\",\"code\":\"VALIDATION\"}\n");
}

static void
framing_errors_are_problems(void **state)
{
    (void)state;
    ask("GET /now HTTP/1.1\r\n\r\n");
    assert_string_equal(header(answers, "Content-Type"), "application/problem+json");
    assert_string_equal(header(answers, "Connection"), "close");
    assert_non_null(strstr(body(), "\"status\":400"));
    assert_null(strstr(body(), "\"instance\""));
    ask(POST("/now", "64", "", ""));
    assert_non_null(strstr(body(), "\"detail\":\"request body is too large limit=64 bytes\""));
    assert_non_null(strstr(body(), "\"instance\":\"/now\""));
}

static void
challenges(void **state)
{
    (void)state;
    ask(GET("/401"));
    assert_string_equal(header(answers, "WWW-Authenticate"), "Bearer realm=\"kaiten\"");
    ask("GET /401 HTTP/1.1\r\n" HOST "Authorization: Bearer x\r\n\r\n");
    assert_string_equal(header(answers, "WWW-Authenticate"),
                        "Bearer realm=\"kaiten\", error=\"invalid_token\"");
    ask("GET /403 HTTP/1.1\r\n" HOST "Authorization: Bearer x\r\n\r\n");
    assert_string_equal(header(answers, "WWW-Authenticate"),
                        "Bearer realm=\"kaiten\", error=\"insufficient_scope\","
                        " scope=\"write:tokens\"");
    ask(GET("/405"));
    assert_string_equal(header(answers, "Allow"), "GET, HEAD");
    assert_null(header(answers, "WWW-Authenticate"));
    ask(GET("/429"));
    assert_string_equal(header(answers, "Retry-After"), "1");
    ask(GET("/503"));
    assert_string_equal(header(answers, "Retry-After"), "1");
    ask(GET("/400"));
    assert_null(header(answers, "Retry-After"));
}

static void
keep_alive_is_said_to_old_clients_only(void **state)
{
    (void)state;
    ask("GET /now HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_string_equal(header(answers, "Connection"), "keep-alive");
    ask("GET /now HTTP/1.0\r\n\r\n");
    assert_string_equal(header(answers, "Connection"), "close");
}

static void
bodies(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *status, *says;
    } cases[] = {
        { POST("/create", "0", "", ""), "400", "\"detail\":\"request body is required\"" },
        { POST("/create", "14", "", "{\"NAME\":\"ann\"}"), "201", "\"name\":\"ann\"" },
        { POST("/create", "14", "Content-Type: application/json; charset=utf-8\r\n",
               "{\"name\":\"ann\"}"), "201", "\"name\":\"ann\"" },
        { POST("/create", "14", "Content-Type: Application/JSON\r\n", "{\"name\":\"ann\"}"), "201",
          "\"name\":\"ann\"" },
        { POST("/create", "14", "Content-Type: application/merge-patch+json\r\n",
               "{\"name\":\"ann\"}"), "201", "\"name\":\"ann\"" },
        { POST("/create", "14", "Content-Type: text/xml\r\n", "{\"name\":\"ann\"}"), "415",
          "\"detail\":\"validation failed\",\"instance\":\"/create\",\"code\":\"UNKNOWN\","
          "\"errors\":[{\"message\":\"unknown content type: text/xml\",\"location\":\"body\"}]" },
        { POST("/create", "7", "", "{\"name\""), "400", "\"location\":\"body\",\"value\":"
          "\"{\\\"name\\\"\"}]" },
        { POST("/mint", "7", "", "{\"name\""), "400", "\"location\":\"body\"}]" },
        { POST("/create", "22", "", "{\"name\":\"a\",\"NAME\":\"\"}"), "400",
          "\"location\":\"body\"" },
        { POST("/rotate", "0", "", ""), "200", "{" },
        { GET("/list"), "200", "none" },
        { GET("/list?limit=3&x=1&x=2"), "200", "limit=3" },
        { GET("/list?limit=&cursor=a%20b"), "200", "cursor=a b" },
        { GET("/list?limit=3&limit=4"), "422", "\"errors\":[{\"message\":\"expected it only once\","
          "\"location\":\"query.limit\"}]" },
        { GET("/list?limit=%zz"), "400", "\"code\":\"VALIDATION\"" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ask(cases[i].bytes);
        if (strncmp(answers + 9, cases[i].status, 3) != 0 || !strstr(body(), cases[i].says))
            fail_msg("%s\n%s", cases[i].bytes, answers);
    }
}

/* --- decoding ----------------------------------------------------------------------------- */

static struct request
request_of(struct kt_arena *memory, enum kt_op_id id, const char *body, const char *query)
{
    return (struct request){ .call.arena = memory, .spec = &kt_op_specs[id], .body = kt_str(body),
                             .content_type = KT_LIT("Application/JSON \t; charset=utf-8"),
                             .query = kt_str(query) };
}

/* Names in any letter case, also of what lies deeper. */
static void
check_folded(const struct request *rq)
{
    const struct kt_value *tokens = kt_value_get(rq->params.body, "tokens");
    assert_non_null(kt_value_get(rq->params.body, "name"));
    assert_non_null(tokens);
    assert_int_equal(tokens->array.n, 2);
    assert_non_null(kt_value_get(&tokens->array.v[1], "createdBy"));
    assert_non_null(kt_value_get(kt_value_get(&tokens->array.v[1], "createdBy"), "id"));
}

/* However little memory a request has left, it is decoded, or refused for what is wrong with it or
 * for the want of memory. */
static void
decoding_in_any_memory(void **state)
{
    (void)state;
    static const struct {
        const char *body, *query;
        enum kt_op_id id;
        int kind;
    } cases[] = {
        { "{\"NAME\":\"n\",\"Tokens\":[7,{\"CreatedBy\":{\"ID\":\"x\"}}]}", NULL,
          KT_OP_ACCOUNT_CREATE, KT_OK },
        { "{\"name\"", NULL, KT_OP_ACCOUNT_CREATE, KT_VALIDATION },
        { "{\"a\":1,\"A\":2}", NULL, KT_OP_ACCOUNT_CREATE, KT_VALIDATION },
        { NULL, NULL, KT_OP_ACCOUNT_CREATE, KT_VALIDATION },
        { NULL, "limit=5&cursor=a%20b", KT_OP_ACCOUNT_LIST, KT_OK },
        { NULL, "limit=5&&x=1&limit=6", KT_OP_ACCOUNT_LIST, KT_UNPROCESSABLE },
        { NULL, "limit=%5", KT_OP_ACCOUNT_LIST, KT_VALIDATION },
    };
    enum { STEP = 8, ENOUGH = 64 * 1024 };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int said = KT_UNAVAILABLE;
        for (size_t cap = 0; cap < ENOUGH && said == KT_UNAVAILABLE; cap += STEP) {
            struct kt_arena memory;
            kt_arena_init(&memory, cap);
            struct request rq = request_of(&memory, cases[i].id, cases[i].body, cases[i].query);
            said = rq.query.p ? http_query(&rq) : body_decode(&rq);
            assert_int_equal(said, rq.call.err.kind);
            if (said == KT_OK && rq.body.p)
                check_folded(&rq);
            if (said == KT_OK && rq.query.p)
                assert_int_equal(rq.params.nquery, 2);
            kt_arena_done(&memory);
        }
        assert_int_equal(said, cases[i].kind);
    }
}

static void
targets_are_short_unless_they_name_something(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        int n;
        const char *line;
    } cases[] = {
        { "/now?", HTTP_TARGET_MAX, "HTTP/1.1 200 OK\r\n" },
        { "/now?", HTTP_TARGET_MAX + 1, "HTTP/1.1 414 " },
        { "/now/", HTTP_TARGET_MAX + 1, "HTTP/1.1 414 " },
        { "/named/", HTTP_TARGET_MAX + 1, "HTTP/1.1 200 OK\r\n" },
        { "/named?", HTTP_TARGET_NAMES_MAX, "HTTP/1.1 200 OK\r\n" },
        { "/named/", HTTP_TARGET_NAMES_MAX + 1, "HTTP/1.1 414 " },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char rest[HTTP_TARGET_NAMES_MAX + 1], text[2 * HTTP_TARGET_NAMES_MAX];
        memset(rest, 'q', sizeof rest);
        for (int twice = 0; twice < 2; twice++) {
            snprintf(text, sizeof text, "%s %s%.*s HTTP/1.1\r\n" HOST "\r\n" NEXT,
                     twice ? "HEAD" : "GET", cases[i].path,
                     cases[i].n - (int)strlen(cases[i].path), rest);
            ask(text);
            bool good = strstr(cases[i].line, "200") != NULL;
            assert_memory_equal(answers, cases[i].line, strlen(cases[i].line));
            assert_int_equal(strstr(calls(), "/now/next") != NULL, good);
            assert_int_equal(header(answers, "Connection") == NULL, good);
        }
    }
}

/* A string without an end, with escapes, or with something behind it is an empty key. */
static void
keys_are_told_without_their_quotes(void **state)
{
    (void)state;
    static const struct {
        const char *said, *key;
    } cases[] = {
        { "a-b", "a-b" },   { "\"a-b\"", "a-b" }, { "\"a b\"", "a b" },
        { "a\"b", "a\"b" }, { "", "" },           { "\"\"", "" },
        { "\"", "" },       { "\"a", "" },         { "\"a\"b", "" },
        { "\"a\\\"b\"", "" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[200], call[100];
        snprintf(text, sizeof text, "POST /now HTTP/1.1\r\n" HOST "Idempotency-Key: %s\r\n\r\n",
                 cases[i].said);
        snprintf(call, sizeof call, "POST /now key <%s>\n", cases[i].key);
        ask(text);
        assert_string_equal(calls(), call);
    }
}

static void
types_of_bodies(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        bool good;
    } cases[] = {
        { "application/json", true }, { "application/x+JSON", true }, { "a+json; b=c", true },
        { "", true }, { ";x", true }, { " ;x", true }, { "+json", false },
        { "application/jsonx", false }, { "application/json x", false }, { "text/html", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kt_arena memory;
        kt_arena_init(&memory, 64 * 1024);
        struct request rq = request_of(&memory, KT_OP_ACCOUNT_CREATE, "{\"name\":\"n\"}", NULL);
        rq.content_type = kt_str(cases[i].type);
        assert_int_equal(body_decode(&rq), cases[i].good ? KT_OK : KT_MEDIA_TYPE);
        kt_arena_done(&memory);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_whole),
        cmocka_unit_test(rules_byte_by_byte),
        cmocka_unit_test(rules_split_everywhere),
        cmocka_unit_test(answer_is_json_with_newline),
        cmocka_unit_test(date_is_imf_fixdate),
        cmocka_unit_test(head_is_get_without_body),
        cmocka_unit_test(no_content_has_no_length),
        cmocka_unit_test(created_says_so),
        cmocka_unit_test(validate_answers_ok_with_a_bearer),
        cmocka_unit_test(refusals_are_problems),
        cmocka_unit_test(framing_errors_are_problems),
        cmocka_unit_test(challenges),
        cmocka_unit_test(keep_alive_is_said_to_old_clients_only),
        cmocka_unit_test(bodies),
        cmocka_unit_test(decoding_in_any_memory),
        cmocka_unit_test(targets_are_short_unless_they_name_something),
        cmocka_unit_test(keys_are_told_without_their_quotes),
        cmocka_unit_test(types_of_bodies),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
