/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* MessagePack-RPC over real sockets and a real loop: framing, answers, refusals, deadlines, memory. */
#include "config.h"

#include "daemon/transport/socket_peek.h"
#include "tests/unit/socket-client.h"

/* --- requests and answers ----------------------------------------------------------------- */

static const struct {
    const char *said, *heard;
} exchanges[] = {
    { PING("1"), PONG("1") },
    { PING("0"), PONG("0") },
    { PING("9223372036854775807"), PONG("9223372036854775807") },
    { "[0,3,\"kaiten.ping\",[{}]]", PONG("3") },
    { "[0,3,\"kaiten.ping\",[{},{}]]", PONG("3") },
    { "[0,3,\"kaiten.ping\",[{},{\"trace\":\"x\",\"dry_run\":true}]]", PONG("3") },
    { "[0,3,\"kaiten.ping\",[{},{\"!deadline_ms\":5}]]", PONG("3") },
    { "[0,4,\"token.verify\",[{\"token\":\"good\"}]]", "[1,4,null,{\"valid\":true}]" },
    { "[0,4,\"nvim_set_client_info\",[\"x\",{},\"remote\",{},{}]]",
      "[1,4,[0,\"Method.NotFound: no method nvim_set_client_info\"],null]" },
    { "[0,5,\"\",[]]", "[1,5,[0,\"Method.NotFound: no method \"],null]" },
    { "[0,6,7,[]]",
      "[1,6,[1,\"VALIDATION: the method is named by a string of at most 128 bytes\"],null]" },
    { "[0,7,\"kaiten.ping\",{}]",
      "[1,7,[1,\"VALIDATION: params is an array of a map of arguments and, perhaps, a map of meta "
      "data\"],null]" },
    { "[0,7,\"kaiten.ping\",[{},{},{}]]",
      "[1,7,[1,\"VALIDATION: params is an array of a map of arguments and, perhaps, a map of meta "
      "data\"],null]" },
    { "[0,7,\"kaiten.ping\",[3]]",
      "[1,7,[1,\"VALIDATION: params is an array of a map of arguments and, perhaps, a map of meta "
      "data\"],null]" },
    { "[0,8,\"kaiten.ping\",[{},7]]", "[1,8,[1,\"VALIDATION: meta is a map\"],null]" },
    { "[0,8,\"kaiten.ping\",[{},{\"!undo\":1}]]",
      "[1,8,[1,\"VALIDATION: meta.!undo is not understood here\"],null]" },
    { "[0,8,\"kaiten.ping\",[{},{\"token\":7}]]",
      "[1,8,[1,\"VALIDATION: meta.token is a string that is not empty\"],null]" },
    { "[0,8,\"kaiten.ping\",[{},{\"token\":\"\"}]]",
      "[1,8,[1,\"VALIDATION: meta.token is a string that is not empty\"],null]" },
    { "[0,8,\"kaiten.ping\",[{},{\"!idempotency_key\":7}]]",
      "[1,8,[1,\"VALIDATION: meta.idempotency_key is a string\"],null]" },
    { "[0,8,\"kaiten.ping\",[{},{\"deadline_ms\":\"5\"}]]",
      "[1,8,[1,\"VALIDATION: meta.deadline_ms is a positive integer\"],null]" },
    { "[0,8,\"kaiten.ping\",[{},{\"deadline_ms\":9223372036854775807}]]", PONG("8") },
    { "[0,8,\"kaiten.ping\",[{},{\"token\":\"a\",\"!token\":\"b\"}]]",
      "[1,8,[1,\"VALIDATION: meta has token twice\"],null]" },
    { "[0,8,\"kaiten.ping\",[{},{\"!deadline_ms\":5,\"x\":1,\"deadline_ms\":5}]]",
      "[1,8,[1,\"VALIDATION: meta has deadline_ms twice\"],null]" },
    { "[0,8,\"kaiten.ping\",[{},{\"!idempotency_key\":\"k\",\"idempotency_key\":\"k\"}]]",
      "[1,8,[1,\"VALIDATION: meta has idempotency_key twice\"],null]" },
    { "[0,8,\"kaiten.ping\",[{},{\"deadline_ms\":0}]]",
      "[1,8,[1,\"VALIDATION: meta.deadline_ms is a positive integer\"],null]" },
};

static void
each_request_has_its_answer(void **state)
{
    (void)state;
    int fd = bench_dial(&usual, NULL);
    for (size_t i = 0; i < sizeof exchanges / sizeof exchanges[0]; i++) {
        ask(fd, exchanges[i].said);
        EXPECT(fd, exchanges[i].heard);
    }
    close(fd);
}

static void
a_message_may_be_cut_anywhere(void **state)
{
    (void)state;
    struct kt_str one = pack("[0,4,\"token.verify\",[{\"token\":\"good\"},{\"trace\":[1,{}]}]]");
    int fd = bench_dial(&usual, NULL);
    for (size_t cut = 1; cut < one.n; cut++) {
        say(fd, (struct kt_str){ one.p, cut });
        bench_settle();
        say(fd, (struct kt_str){ one.p + cut, one.n - cut });
        EXPECT(fd, "[1,4,null,{\"valid\":true}]");
    }
    for (size_t i = 0; i < one.n; i++) {
        say(fd, (struct kt_str){ one.p + i, 1 });
        bench_settle();
    }
    EXPECT(fd, "[1,4,null,{\"valid\":true}]");
    ask(fd, PING("5")); /* nothing was left behind */
    EXPECT(fd, PONG("5"));
    close(fd);
}

static void
two_messages_may_be_cut_anywhere(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 4096);
    kt_buf_put_str(&buf, pack(PING("300")));
    kt_buf_put_str(&buf, pack("[2,\"note\",[]]"));
    kt_buf_put_str(&buf, pack(PING("301")));
    int fd = bench_dial(&usual, NULL);
    for (size_t cut = 1; cut < buf.n; cut++) {
        say(fd, (struct kt_str){ buf.p, cut });
        bench_settle();
        say(fd, (struct kt_str){ buf.p + cut, buf.n - cut });
        EXPECT(fd, PONG("300"));
        EXPECT(fd, PONG("301"));
    }
    kt_buf_done(&buf);
    close(fd);
}

static void
answers_of_one_read_go_out_together(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    for (unsigned i = 0; i < 100; i++)
        kt_buf_put_str(&buf, pack(PING("77")));
    int fd = bench_dial(&usual, NULL);
    say(fd, kt_buf_str(&buf));
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    assert_int_equal(poll(&poll_fd, 1, 5000), 1);
    char all[8192];
    ssize_t n = recv(fd, all, sizeof all, 0); /* a Unix stream keeps what was sent apart */
    assert_int_equal(n, 100 * (ssize_t)pack(PONG("77")).n);
    kt_buf_done(&buf);
    close(fd);
}

#define BYTES(s) { s, sizeof(s) - 1 }

static void
ids_and_names_have_every_encoding(void **state)
{
    (void)state;
    static const struct kt_str forms[] = {
        BYTES("\xdc\x00\x04\x00\xcf\x00\x00\x00\x00\x00\x00\x00\x07\xab" "kaiten.ping\x90"),
        BYTES("\xdd\x00\x00\x00\x04\xcc\x00\x07\xc4\x0b" "kaiten.ping\xdc\x00\x00"),
        BYTES("\x94\xd1\x00\x00\xd3\x00\x00\x00\x00\x00\x00\x00\x07\xd9\x0b" "kaiten.ping\x90"),
        BYTES("\x94\xce\x00\x00\x00\x00\x07\xda\x00\x0b" "kaiten.ping\x90"),
    };
    int fd = bench_dial(&usual, NULL);
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        for (size_t cut = 1; cut < 9; cut++) {
            say(fd, (struct kt_str){ forms[i].p, cut });
            bench_settle();
            say(fd, (struct kt_str){ forms[i].p + cut, forms[i].n - cut });
            EXPECT(fd, PONG("7"));
        }
    }
    static const char big[] = "\x94\x00\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xab" "kaiten.ping\x90";
    say(fd, (struct kt_str){ big, sizeof big - 1 });
    char answer[64];
    assert_true(recv(fd, answer, sizeof answer, 0) > 12);
    assert_memory_equal(answer, "\x94\x01\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xc0", 12);
    close(fd);
}

static void
a_name_is_text(void **state)
{
    (void)state;
    static const struct kt_str forms[] = {
        BYTES("\x94\x00\x07\xc4\x03" "a\x00" "b\x90"),
        BYTES("\x94\x00\x07\xc4\x03" "a\xff" "b\x90"),
        BYTES("\x94\x00\x07\x09\x90"),
    };
    int fd = bench_dial(&usual, NULL);
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        say(fd, forms[i]);
        EXPECT(fd, "[1,7,[1,\"VALIDATION: the method is named by a string of at most 128 bytes\"],"
                   "null]");
    }
    for (size_t n = 128; n < 130; n++) {
        char json[256], name[130];
        memset(name, 'x', n);
        snprintf(json, sizeof json, "[0,7,\"%.*s\",[]]", (int)n, name);
        ask(fd, json);
        assert_int_equal(strstr(hear(fd), "Method.NotFound") != NULL, n == 128);
    }
    close(fd);
}

/* --- what is refused by hanging up -------------------------------------------------------- */

static const struct kt_str hostile[] = {
    BYTES("\x94\x01\x07\xc0\xc0"),                    /* a response */
    BYTES("\x94\x01"),                                /* already known to be one */
    BYTES("\x94\xcc\x01"),
    BYTES("\x94\x03\x07\xc0\xc0"),                    /* no kind at all */
    BYTES("\x94\xcd\x01\x00"),
    BYTES("\x94\xc0"),
    BYTES("\x93\x00\x07\xc0"),                        /* too short, too long */
    BYTES("\x94\x02\x07\xc0\xc0"),
    BYTES("\x95\x00\x07\xc0\xc0\xc0"),
    BYTES("\xdd\x10\x00\x00\x00"),                    /* 2^28 elements */
    BYTES("\xdd\xff\xff\xff\xff"),
    BYTES("\x94\x00\x01\xa1x\xdd\x10\x00\x00\x00"),
    BYTES("\x94\x00\x01\xa1x\xdf\xff\xff\xff\xff"),
    BYTES("\x94\x00\x01\xdb\xff\xff\xff\xff"),
    BYTES("\x94\x00\x01\xc6\x00\x02\x00\x00"),
    BYTES("\x94\x00\x01\xa1x\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x90"), /* depth */
    BYTES("\x94\x00\x01\xa1x\x91\x82\xa1" "a\x01\xa1" "a\x02"), /* a key twice */
    BYTES("\x94\x00\x01\xa1\xff\x90"),                /* not UTF-8 */
    BYTES("\x94\x00\x01\xa1\x00\x90"),                /* NUL */
    BYTES("\x94\x00\x01\xc7\x01\x05x"),               /* ext */
    BYTES("\x94\x00\xff\xa1x\x90"),                   /* id -1 */
    BYTES("\x94\x00\xa1" "1\xa1x\x90"),               /* id "1" */
    BYTES("\x94\x00\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\xa1x\x90"),
    BYTES("\xc1"),
    BYTES("\x00"),
    BYTES("GET / HTTP/1.1\r\n\r\n"),
};

/* An earlier answer still comes, and no answer is made up. */
static void
hostile_bytes_end_the_connection(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        for (int split = 0; split < 2; split++) {
            int fd = bench_dial(&usual, NULL);
            struct kt_buf buf;
            kt_buf_init(&buf, 4096);
            kt_buf_put_str(&buf, pack(PING("1")));
            kt_buf_put(&buf, hostile[i].p, split ? 1 : hostile[i].n);
            say(fd, kt_buf_str(&buf));
            if (split) {
                bench_settle();
                say(fd, (struct kt_str){ hostile[i].p + 1, hostile[i].n - 1 });
            }
            EXPECT(fd, PONG("1"));
            if (strcmp(hear(fd), "end") != 0)
                fail_msg("hostile[%zu] was answered", i);
            kt_buf_done(&buf);
            close(fd);
        }
    }
}

static void
a_refusal_waits_for_the_requests_before_it(void **state)
{
    (void)state;
    int fd = bench_dial(&usual, NULL);
    ask(fd, GET("1", "a"));
    assert_true(bench_parked(1));
    say(fd, (struct kt_str){ "\xc1", 1 });
    ask(fd, PING("2"));
    assert_true(is_silent(fd));
    assert_true(bench_answer(0));
    EXPECT(fd, GOT("1", "a"));
    EXPECT(fd, "end");
    close(fd);
}

static void
the_largest_message_is_64_kib(void **state)
{
    (void)state;
    for (size_t extra = 0; extra < 2; extra++) {
        int fd = bench_dial(&usual, NULL);
        size_t n = 64 * 1024 - 23 + extra;
        struct kt_buf buf;
        kt_buf_init(&buf, 1 << 20);
        kt_buf_put(&buf, "\x94\x00\x05\xabkaiten.ping\x92\x80\x81\xa1x\xda", 21);
        kt_buf_putc(&buf, (char)(n >> 8));
        kt_buf_putc(&buf, (char)n);
        for (size_t i = 0; i < n; i++)
            kt_buf_putc(&buf, 'x');
        say(fd, kt_buf_str(&buf));
        EXPECT(fd, extra ? "end" : PONG("5"));
        kt_buf_done(&buf);
        close(fd);
    }
}

static void
a_message_cut_short_ends_with_its_connection(void **state)
{
    (void)state;
    struct kt_str one = pack(PING("1"));
    for (size_t n = 0; n < one.n; n++) {
        int fd = bench_dial(&usual, NULL);
        ask(fd, PING("2"));
        say(fd, (struct kt_str){ one.p, n });
        shutdown(fd, SHUT_WR);
        EXPECT(fd, PONG("2"));
        EXPECT(fd, "end");
        close(fd);
    }
}

static void
answers_follow_a_half_closed_connection(void **state)
{
    (void)state;
    int fd = bench_dial(&usual, NULL);
    ask(fd, GET("1", "a"));
    ask(fd, "[0,2,\"token.revoke\",[{\"serviceAccountSlug\":\"a\",\"tokenSlug\":\"t\"}]]");
    ask(fd, PING("3"));
    shutdown(fd, SHUT_WR);
    assert_true(bench_parked(1));
    assert_true(bench_answer(0));
    assert_true(bench_parked(1));
    assert_true(bench_answer(0));
    EXPECT(fd, GOT("1", "a"));
    EXPECT(fd, "[1,2,null,null]");
    EXPECT(fd, PONG("3"));
    EXPECT(fd, "end");
    close(fd);
}

/* Another request answers in its place, on the loop. */
static void
give_up(void *ctx)
{
    struct request *rq = ctx, *other = loop_request(rq->home);
    kt_arena_reset(loop_arena(rq->home));
    request_init(other, loop_arena(rq->home), rq->transport, rq->home, rq->peer);
    other->conn = rq->conn;
    fail_cause(&other->call, KT_UNAVAILABLE, "Server.Busy", "it took too long");
    rq->transport->leave(rq);
    rq->transport->answer(other);
}

static void
come_home_late(void *ctx)
{
    struct request *rq = ctx;
    rq->transport->drop(rq);
}

static void
what_is_given_up_is_answered_once(void **state)
{
    (void)state;
    for (int gone = 0; gone < 2; gone++) {
        struct conn *conn;
        int fd = bench_dial(&usual, &conn);
        ask(fd, GET("1", "a"));
        assert_true(bench_parked(1));
        struct request *rq = bench.parked;
        bench.parked = NULL;
        bench.nparked = 0;
        bench_on_loop(give_up, rq);
        EXPECT(fd, "[1,1,[0,\"Server.Busy: temporarily unavailable, please retry (error id "
                   "07070707-0707-4707-8707-070707070707)\"],null]");
        assert_int_equal(conn->strays, 1);
        ask(fd, PING("1")); /* the id is free again */
        EXPECT(fd, PONG("1"));
        if (gone) {
            close(fd);
            bench_settle();
        }
        bench_on_loop(come_home_late, rq);
        bench_settle();
        if (gone)
            continue;
        assert_int_equal(conn->strays, 0);
        ask(fd, PING("2"));
        EXPECT(fd, PONG("2"));
        close(fd);
    }
}

static void
hello_chooses_the_form_of_refusals(void **state)
{
    (void)state;
    int fd = bench_dial(&usual, NULL);
    ask(fd, "[0,1,\"kaiten.hello\",[{\"errors\":\"problem\"}]]");
    EXPECT(fd, "[1,1,null,null]");
    ask(fd, "[0,2,\"no.such\",[]]");
    const char *problem = hear(fd);
    assert_non_null(strstr(problem, "[1,2,{\"type\":\""));
    assert_non_null(strstr(problem, "\"status\":404,\"detail\":\"no method no.such\","));
    assert_non_null(strstr(problem, "\"instance\":\"no.such\","));
    assert_non_null(strstr(problem, "\"code\":\"Method.NotFound\"},null]"));
    ask(fd, "[0,3,\"kaiten.hello\",[{\"errors\":\"sonnet\"}]]"); /* refused: nothing changes */
    assert_non_null(strstr(hear(fd), "[1,3,{\"type\":"));
    ask(fd, "[0,1,\"kaiten.hello\",[{\"errors\":\"pair\"}]]");
    EXPECT(fd, "[1,1,null,null]");
    ask(fd, "[0,4,\"no.such\",[]]");
    EXPECT(fd, "[1,4,[0,\"Method.NotFound: no method no.such\"],null]");
    close(fd);
}

/* --- memory and deadlines ----------------------------------------------------------------- */

static bool looks_good; /* what was seen on the loop; asserted by the test's own thread */

static void
look_idle(void *ctx)
{
    const struct conn *conn = ctx;
    looks_good = !conn->in && !conn->out.p && !conn->write_event &&
                 sizeof *conn + conn->ops->state_size <= 1024;
}

static void
an_idle_connection_is_small(void **state)
{
    (void)state;
    struct conn *conn;
    int fd = bench_dial(&usual, &conn);
    bench_on_loop(look_idle, conn);
    assert_true(looks_good);
    struct kt_str one = pack(PING("1"));
    say(fd, (struct kt_str){ one.p, 5 });
    bench_settle();
    say(fd, (struct kt_str){ one.p + 5, one.n - 5 });
    EXPECT(fd, PONG("1"));
    bench_settle();
    bench_on_loop(look_idle, conn);
    assert_true(looks_good);
    close(fd);
}

static void
look_scratch(void *ctx)
{
    (void)ctx;
    const char *scratch = loop_scratch(bench.loops[0]);
    looks_good = true;
    for (size_t i = 0; i < 256; i++)
        looks_good &= scratch[i] == 0;
}

static void
what_was_read_is_wiped(void **state)
{
    (void)state;
    int fd = bench_dial(&usual, NULL);
    ask(fd, "[0,4,\"token.verify\",[{\"token\":\"good\"}]]");
    EXPECT(fd, "[1,4,null,{\"valid\":true}]");
    bench_on_loop(look_scratch, NULL);
    assert_true(looks_good);
    close(fd);
}

static void
phases_have_deadlines(void **state)
{
    (void)state;
    static const struct {
        const char *name, *bytes;
        size_t n;
        struct listen_limits limits;
    } cases[] = {
        { "first byte", "", 0, { .first_byte_ms = 40 } },
        { "message", "\x94\x00\x01", 3, { .head_ms = 40 } },
        { "idle", "\x94\x00\x01\xabkaiten.ping\x90", 16, { .idle_ms = 40 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = bench_dial(&cases[i].limits, NULL);
        say(fd, (struct kt_str){ cases[i].bytes, cases[i].n });
        if (cases[i].n > 3)
            EXPECT(fd, PONG("1"));
        EXPECT(fd, "end");
        close(fd);
    }
}

/* A byte now and then does not move the deadline. */
static void
a_dripping_message_runs_out_of_time(void **state)
{
    (void)state;
    static const struct listen_limits limits = { .head_ms = 100 };
    int fd = bench_dial(&limits, NULL);
    int64_t began = clock_mono_ms();
    say(fd, (struct kt_str){ "\x94\x00\x01\xda\x40\x00", 6 });
    while (is_silent(fd)) {
        say(fd, (struct kt_str){ "x", 1 });
        assert_true(clock_mono_ms() - began < 60000);
    }
    EXPECT(fd, "end");
    close(fd);
}

static void
work_has_no_deadline_of_the_connection(void **state)
{
    (void)state;
    static const struct listen_limits limits = {
        .first_byte_ms = 300, .head_ms = 300, .idle_ms = 300, .in_flight_max = 8,
    };
    int fd = bench_dial(&limits, NULL);
    ask(fd, GET("1", "a"));
    assert_true(bench_parked(1));
    struct pollfd answer = { .fd = fd, .events = POLLIN };
    assert_int_equal(poll(&answer, 1, 400), 0);
    assert_true(bench_answer(0));
    EXPECT(fd, GOT("1", "a"));
    EXPECT(fd, "end");
    close(fd);
}

/* Much is asked and nothing is read: reading stops, and when the peer is still not reading at the
 * deadline the connection ends. */
static void
who_does_not_read_is_cut_off(void **state)
{
    (void)state;
    static const struct listen_limits limits = { .write_ms = 150 };
    int fd = bench_dial(&limits, NULL);
    struct kt_str one = pack("[0,1,\"kaiten.describe\",[]]");
    for (int i = 0; i < 500; i++)
        say(fd, one);
    size_t total = 0;
    bool ended = false;
    struct pollfd hang_up = { .fd = fd, .events = 0 };
    assert_int_equal(poll(&hang_up, 1, 60000), 1);
    char *sink = kt_arena_alloc(&arena, 65536);
    while (!ended) {
        ssize_t n = recv(fd, sink, 65536, 0);
        ended = n <= 0;
        total += n > 0 ? (size_t)n : 0;
    }
    assert_true(total < 2 * CONN_OUTPUT_HIGH + 1024 * 1024); /* and what the kernel holds */
    close(fd);
}

static void
look_output(void *ctx)
{
    const struct conn *conn = ctx;
    looks_good = conn->out.n - conn->sent <= CONN_OUTPUT_HIGH + 201 * 1024;
}

static void
who_reads_late_gets_everything(void **state)
{
    (void)state;
    struct conn *conn;
    int fd = bench_dial(&usual, &conn);
    struct kt_str one = pack("[0,1,\"kaiten.describe\",[]]");
    for (int i = 0; i < 50; i++)
        say(fd, one);
    ask(fd, PING("2"));
    bench_settle();
    bench_on_loop(look_output, conn);
    assert_true(looks_good);
    size_t each = 200 * 1024 + 4 + 5, total = 0;
    char *sink = kt_arena_alloc(&arena, 65536);
    while (total < 50 * each) {
        size_t want = 50 * each - total < 65536 ? 50 * each - total : 65536;
        ssize_t n = recv(fd, sink, want, 0);
        assert_true(n > 0);
        total += (size_t)n;
    }
    EXPECT(fd, PONG("2"));
    close(fd);
}

/* The glance and the reader find the same name, and the glance finds nothing in a part of it. */
static void
the_name_of_a_method_is_seen_before_it_is_read(void **state)
{
    (void)state;
    static const struct {
        struct kt_str bytes, name;
    } cases[] = {
        { KT_LIT("\x94\0\x07\xa4ping"), KT_LIT("ping") },
        { KT_LIT("\x94\0\xcc\x80\xa4ping"), KT_LIT("ping") },
        { KT_LIT("\x94\0\xcd\1\1\xa4ping"), KT_LIT("ping") },
        { KT_LIT("\x94\0\xce\1\1\1\1\xd9\4ping"), KT_LIT("ping") },
        { KT_LIT("\x94\0\xcf\1\1\1\1\1\1\1\1\xc4\4ping"), KT_LIT("ping") },
        { KT_LIT("\x94\0\x07\xa0"), { NULL, 0 } },
        { KT_LIT("\x94\1\x07\xa4ping"), { NULL, 0 } },
        { KT_LIT("\x93\0\x07\xa4ping"), { NULL, 0 } },
        { KT_LIT("\x94\0\xd0\x07\xa4ping"), { NULL, 0 } },
        { KT_LIT("\x94\0\xa1\x07\xa4ping"), { NULL, 0 } },
        { KT_LIT("\x94\0\x07\xda\0\4ping"), { NULL, 0 } },
        { KT_LIT("\x94\0\x07\x94ping"), { NULL, 0 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kt_str bytes = cases[i].bytes, name = socket_peek_method(bytes);
        assert_int_equal(name.n, cases[i].name.n);
        assert_true(kt_str_eq(name, cases[i].name));
        while (bytes.n-- > 0)
            assert_null(socket_peek_method(bytes).p);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_request_has_its_answer),
        TEST(a_message_may_be_cut_anywhere),
        TEST(two_messages_may_be_cut_anywhere),
        TEST(answers_of_one_read_go_out_together),
        TEST(ids_and_names_have_every_encoding),
        TEST(a_name_is_text),
        TEST(hostile_bytes_end_the_connection),
        TEST(a_refusal_waits_for_the_requests_before_it),
        TEST(the_largest_message_is_64_kib),
        TEST(a_message_cut_short_ends_with_its_connection),
        TEST(answers_follow_a_half_closed_connection),
        TEST(what_is_given_up_is_answered_once),
        TEST(hello_chooses_the_form_of_refusals),
        TEST(an_idle_connection_is_small),
        TEST(what_was_read_is_wiped),
        TEST(phases_have_deadlines),
        TEST(a_dripping_message_runs_out_of_time),
        TEST(work_has_no_deadline_of_the_connection),
        TEST(who_does_not_read_is_cut_off),
        TEST(who_reads_late_gets_everything),
        TEST(the_name_of_a_method_is_seen_before_it_is_read),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
