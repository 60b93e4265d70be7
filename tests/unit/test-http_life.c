/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* An HTTP connection in time: order, bodies that are waited for, deadlines, and how it ends. */
#include "config.h"

#include "tests/unit/http-bench.h"

#include <arpa/inet.h>
#include <stdatomic.h>

static bool
is_silent(int fd)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    return poll(&poll_fd, 1, NOW_MS) == 0;
}

static void
hear_one(int fd, char *p)
{
    ssize_t got = recv(fd, p, ANSWERS - 1, 0);
    if (got <= 0)
        fail_msg("nothing came: %s", strerror(errno));
    p[got] = '\0';
}

/* --- order -------------------------------------------------------------------------------- */

static void
let_go(void *ctx)
{
    (void)ctx;
    struct request *rq = bench.held;
    bench.held = NULL;
    work(rq);
    rq->transport->answer(rq);
}

static void
next_is_not_parsed_before_the_answer(void **state)
{
    (void)state;
    calls_reset();
    int fd = dial(&usual);
    say(fd, GET("/hold") NEXT, strlen(GET("/hold") NEXT));
    settle();
    assert_string_equal(calls(), "GET /hold\n");
    assert_true(is_silent(fd));
    on_loop(let_go, NULL);
    settle();
    assert_string_equal(calls(), "GET /hold\n" NEXT_CALL);
    shutdown(fd, SHUT_WR);
    char seen[64];
    statuses(answers, hear_all(fd, answers), false, seen, sizeof seen);
    assert_string_equal(seen, "200 200");
    close(fd);
}

static void
pipelined_inline_answers_come_in_one_piece(void **state)
{
    (void)state;
    int fd = dial(&usual);
    const char *bytes = GET("/inline/1") GET("/inline/2") GET("/inline/3");
    say(fd, bytes, strlen(bytes));
    settle();
    hear_one(fd, answers);
    char seen[64];
    statuses(answers, strlen(answers), false, seen, sizeof seen);
    assert_string_equal(seen, "200 200 200");
    close(fd);
}

static void
client_may_leave_while_its_request_is_at_work(void **state)
{
    (void)state;
    int fd = dial(&usual);
    say(fd, GET("/hold"), strlen(GET("/hold")));
    settle();
    close(fd);
    settle();
    on_loop(let_go, NULL);
    settle();
}

static void
half_closed_clients_are_answered(void **state)
{
    (void)state;
    int fd = dial(&usual);
    say(fd, GET("/hold"), strlen(GET("/hold")));
    shutdown(fd, SHUT_WR);
    settle();
    on_loop(let_go, NULL);
    char seen[64];
    statuses(answers, hear_all(fd, answers), false, seen, sizeof seen);
    assert_string_equal(seen, "200");
    close(fd);
}

static void
half_a_request_is_no_request(void **state)
{
    (void)state;
    static const char *const parts[] = {
        "GET /now HTTP/1.1\r\n" HOST,
        "POST /now HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nabc",
        "POST /now HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    };
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(ask(parts[i]), 0);
        assert_string_equal(calls(), "");
    }
}

/* --- bodies ------------------------------------------------------------------------------- */

static void
continue_is_said_once_the_head_is_good(void **state)
{
    (void)state;
    calls_reset();
    int fd = dial(&usual);
    const char *head = "POST /now HTTP/1.1\r\n" HOST "Authorization: Bearer x\r\n"
                       "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    say(fd, head, strlen(head));
    settle();
    hear_one(fd, answers);
    assert_string_equal(answers, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_string_equal(calls(), "");
    say(fd, "abc", 3);
    settle();
    assert_string_equal(calls(), "POST /now [abc] <x>\n");
    hear_one(fd, answers);
    assert_int_equal(strncmp(answers, "HTTP/1.1 200 OK\r\n", 17), 0);
    close(fd);
}

static void
continue_is_not_said_to_strangers(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "POST /401 HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        "POST /401 HTTP/1.1\r\n" HOST "Authorization: Basic x\r\n"
        "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        "POST /401 HTTP/1.1\r\n" HOST "Authorization: Bearer x\r\n"
        "Expect: 100-continue\r\nContent-Length: 64\r\n\r\n",
        "POST /now HTTP/1.1\r\n" HOST "Authorization: Bearer x\r\n"
        "Expect: 100-continue\r\nContent-Length: 64\r\n\r\n",
    };
    static const char *const seen[] = { "401", "401", "401", "413" };
    for (size_t i = 0; i < 4; i++) {
        int fd = dial(&usual);
        say(fd, heads[i], strlen(heads[i]));
        char said[64];
        statuses(answers, hear_all(fd, answers), false, said, sizeof said);
        assert_string_equal(said, seen[i]);
        assert_string_equal(header(answers, "Connection"), "close");
        close(fd);
    }
}

/* Bodies of unknown callers: a short one is skipped, in any form; a long one is not waited for. */
static void
bodies_of_the_refused_are_not_kept(void **state)
{
    (void)state;
    static const struct listen_limits roomy = { .body_max = 1024 * 1024 };
    static const struct {
        const char *first, *rest, *seen;
    } cases[] = {
        { "POST /401 HTTP/1.1\r\n" HOST "Content-Length: 6\r\n\r\nabc", "def" NEXT, "401 200" },
        { "POST /401 HTTP/1.1\r\n" HOST "Content-Length: 65537\r\n\r\nabc", NEXT, "401" },
        { "POST /401 HTTP/1.1\r\n" HOST CHUNKED "\r\n", "1\r\na\r\n0\r\n\r\n" NEXT, "401 200" },
        { "POST /401 HTTP/1.1\r\n" HOST CHUNKED "\r\n", "10001\r\na", "401" },
        { "POST /401 HTTP/1.1\r\n" HOST CHUNKED "\r\n", "0x1\r\na" NEXT, "400" },
        { "POST /401 HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nabc",
          "dPOST /now HTTP/1.1\r\n" HOST "Content-Length: 1048576\r\n\r\n", "401 413" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        calls_reset();
        int fd = dial(&roomy);
        say(fd, cases[i].first, strlen(cases[i].first));
        settle();
        say(fd, cases[i].rest, strlen(cases[i].rest));
        shutdown(fd, SHUT_WR);
        char seen[64];
        statuses(answers, hear_all(fd, answers), false, seen, sizeof seen);
        assert_string_equal(seen, cases[i].seen);
        assert_null(strchr(calls(), '['));
        close(fd);
    }
}

static _Atomic size_t strangers;

/* path, then so many bytes of a body that has one more; what the daemon says when it says
 * something. */
static int
half_a_body(const struct listen_limits *limits, const char *path, size_t n)
{
    static char bytes[HTTP_BODY_FREE * 3];
    int at = snprintf(bytes, sizeof bytes,
                      "POST %s HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n", path, n + 1);
    memset(bytes + at, 'x', n);
    int fd = dial_counted(limits, &strangers);
    say(fd, bytes, (size_t)at + n);
    settle();
    settle();
    return fd;
}

static void
bodies_of_the_unverified_share_a_limit(void **state)
{
    (void)state;
    static const struct listen_limits tight = { .body_max = 1024 * 1024, .strangers_max = 1000 };
    int free_of_charge = half_a_body(&tight, "/now", HTTP_BODY_FREE);
    assert_int_equal(atomic_load(&strangers), 0);
    int most = half_a_body(&tight, "/now", HTTP_BODY_FREE + 999);
    assert_int_equal(atomic_load(&strangers), 999);
    int refused = half_a_body(&tight, "/now", HTTP_BODY_FREE + 2);
    hear_all(refused, answers);
    assert_memory_equal(answers, "HTTP/1.1 503 ", 13);
    assert_string_equal(header(answers, "Connection"), "close");
    int known = half_a_body(&tight, "/known", 2 * HTTP_BODY_FREE);
    assert_int_equal(atomic_load(&strangers), 999);
    say(most, "x", 1);
    hear_one(most, answers);
    assert_memory_equal(answers, "HTTP/1.1 200 ", 13);
    assert_int_equal(atomic_load(&strangers), 0);
    int again = half_a_body(&tight, "/now", HTTP_BODY_FREE + 999);
    assert_int_equal(atomic_load(&strangers), 999);
    close(again);
    settle();
    settle();
    assert_int_equal(atomic_load(&strangers), 0);
    close(free_of_charge), close(most), close(refused), close(known);
}

/* A reset would destroy the answer on its way: only TCP does that. */
static void
refusal_arrives_although_more_was_sent(void **state)
{
    (void)state;
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof at;
    assert_int_equal(bind(listener, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    getsockname(listener, (struct sockaddr *)&at, &len);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, len), 0);
    int theirs = accept(listener, NULL, NULL);
    evutil_make_socket_nonblocking(theirs);
    on_loop(arrive, &(struct arrival){ theirs, &usual, NULL });
    say(fd, "GET /now\r\n\r\n", 12);
    static const char more[40 * 1024];
    for (int i = 0; i < 40; i++) {
        say(fd, more, sizeof more / 40);
        settle();
    }
    struct timeval patience = { PATIENCE_MS / 1000, 0 };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    hear_one(fd, answers);
    assert_int_equal(strncmp(answers, "HTTP/1.1 400 ", 13), 0);
    close(fd);
    close(listener);
}

/* --- deadlines and ends ------------------------------------------------------------------- */

static void
deadlines(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *seen;
        struct listen_limits limits;
    } cases[] = {
        { "", "", { .first_byte_ms = NOW_MS } },
        { GET("/now"), "200", { .idle_ms = NOW_MS } },
        { "GET /now HTTP/1.1\r\n", "408", { .head_ms = NOW_MS } },
        { GET("/now") "GET", "200 408", { .head_ms = NOW_MS } },
        { POST("/now", "10", "", "abc"), "408", { .head_ms = 60000, .body_ms = NOW_MS,
                                                 .body_max = 64 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = dial(&cases[i].limits);
        say(fd, cases[i].bytes, strlen(cases[i].bytes));
        char seen[64];
        statuses(answers, hear_all(fd, answers), false, seen, sizeof seen);
        assert_string_equal(seen, cases[i].seen);
        close(fd);
    }
}

/* A byte now and then moves no deadline. */
static void
dribble_is_cut_off(void **state)
{
    (void)state;
    static const struct listen_limits limits = { .head_ms = 3 * NOW_MS };
    int64_t start = clock_mono_ms();
    int fd = dial(&limits);
    say(fd, "GET / HTTP/1.1\r\nA: ", 19);
    while (is_silent(fd) && clock_mono_ms() - start < PATIENCE_MS)
        say(fd, "a", 1);
    assert_in_range(clock_mono_ms() - start, 3 * NOW_MS - 1, PATIENCE_MS);
    hear_one(fd, answers);
    assert_int_equal(strncmp(answers, "HTTP/1.1 408 ", 13), 0);
    close(fd);
}

/* Sends ten requests in small pieces. False: this process did not run for longer than a head may
 * take. */
static bool
pipelines_steadily(char *seen, size_t size)
{
    static const struct listen_limits limits = { .head_ms = 5 * NOW_MS };
    int fd = dial(&limits);
    bool steady = true;
    say(fd, "GET /now ", 9);
    for (int i = 0; i < 10; i++) {
        int64_t before = clock_mono_ms();
        usleep(NOW_MS * 1000);
        say(fd, "HTTP/1.1\r\n" HOST "\r\nGET /now ", 30);
        settle();
        steady &= clock_mono_ms() - before < 3 * NOW_MS;
    }
    ssize_t got = recv(fd, answers, ANSWERS - 1, 0);
    answers[got > 0 ? got : 0] = '\0';
    statuses(answers, got > 0 ? (size_t)got : 0, false, seen, size);
    close(fd);
    return steady;
}

/* Each finished request gives the next one a head deadline of its own. */
static void
steady_pipeliners_are_not_cut_off(void **state)
{
    (void)state;
    char seen[64];
    bool steady = false;
    for (int tries = 0; tries < 100 && !steady; tries++)
        steady = pipelines_steadily(seen, sizeof seen);
    assert_true(steady);
    assert_string_equal(seen, "200 200 200 200 200 200 200 200 200 200");
}

static void
old_connections_end_with_an_answer(void **state)
{
    (void)state;
    static const struct listen_limits limits = { .lifetime_ms = 5 * NOW_MS };
    int fd = -1;
    for (int64_t start = 0; clock_mono_ms() - start >= 5 * NOW_MS;) { /* answered while young */
        if (fd >= 0)
            close(fd);
        start = clock_mono_ms();
        fd = dial(&limits);
        say(fd, GET("/now"), strlen(GET("/now")));
        settle();
        hear_one(fd, answers);
    }
    assert_null(header(answers, "Connection"));
    usleep(6 * NOW_MS * 1000);
    say(fd, GET("/now"), strlen(GET("/now")));
    hear_all(fd, answers);
    assert_string_equal(header(answers, "Connection"), "close");
    close(fd);
}

static void
drain(void *ctx)
{
    (void)ctx;
    conn_drain_all(bench.loops[0], NULL);
}

static void
draining_answers_what_is_at_work(void **state)
{
    (void)state;
    int fd = dial(&usual);
    say(fd, GET("/hold") NEXT, strlen(GET("/hold") NEXT));
    settle();
    calls_reset();
    on_loop(drain, NULL);
    on_loop(let_go, NULL);
    char seen[64];
    statuses(answers, hear_all(fd, answers), false, seen, sizeof seen);
    assert_string_equal(seen, "200");
    assert_string_equal(header(answers, "Connection"), "close");
    assert_string_equal(calls(), "");
    close(fd);
}

/* 16 KiB of head and no more are looked at, however they come. */
static void
head_is_bounded(void **state)
{
    (void)state;
    int fd = dial(&usual);
    say(fd, "GET /now HTTP/1.1\r\nA: ", 22);
    static char more[32 * 1024];
    memset(more, 'a', sizeof more);
    say(fd, more, sizeof more);
    char seen[64];
    statuses(answers, hear_all(fd, answers), false, seen, sizeof seen);
    assert_string_equal(seen, "431");
    close(fd);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(next_is_not_parsed_before_the_answer),
        cmocka_unit_test(pipelined_inline_answers_come_in_one_piece),
        cmocka_unit_test(client_may_leave_while_its_request_is_at_work),
        cmocka_unit_test(half_closed_clients_are_answered),
        cmocka_unit_test(half_a_request_is_no_request),
        cmocka_unit_test(continue_is_said_once_the_head_is_good),
        cmocka_unit_test(continue_is_not_said_to_strangers),
        cmocka_unit_test(bodies_of_the_refused_are_not_kept),
        cmocka_unit_test(bodies_of_the_unverified_share_a_limit),
        cmocka_unit_test(refusal_arrives_although_more_was_sent),
        cmocka_unit_test(deadlines),
        cmocka_unit_test(dribble_is_cut_off),
        cmocka_unit_test(steady_pipeliners_are_not_cut_off),
        cmocka_unit_test(old_connections_end_with_an_answer),
        cmocka_unit_test(draining_answers_what_is_at_work),
        cmocka_unit_test(head_is_bounded),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
