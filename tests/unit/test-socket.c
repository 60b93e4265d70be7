/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* MessagePack-RPC over real sockets and a real loop: framing, order, refusals, deadlines, caps. */
#include "config.h"

#include "daemon/transport/socket_peek.h"
#include "tests/unit/socket-bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { NOW_MS = 60 };

static const struct listen_limits usual = {
    .in_flight_max = 8, .conns_max = 64, .conns_per_peer = 64, .first_byte_ms = 60000,
    .head_ms = 60000, .write_ms = 60000, .idle_ms = 60000,
};

static struct kt_arena arena;

/* --- the client --------------------------------------------------------------------------- */

/* The MessagePack of a JSON text, in the arena. */
static struct kt_str
pack(const char *json)
{
    struct kt_value value;
    struct kt_json_error err;
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    if (kt_json_read(kt_str(json), &arena, NULL, &value, &err) != 0)
        fail_msg("bad JSON in the test: %s", json);
    kt_pack_put_value(&buf, &value);
    struct kt_str copy = kt_arena_str(&arena, kt_buf_str(&buf));
    kt_buf_done(&buf);
    return copy;
}

static void
say(int fd, struct kt_str bytes)
{
    while (bytes.n) {
        ssize_t sent = send(fd, bytes.p, bytes.n, MSG_NOSIGNAL);
        if (sent < 0)
            return; /* refused meanwhile; it shows in what comes back */
        bytes.p += sent;
        bytes.n -= (size_t)sent;
    }
}

static void
ask(int fd, const char *json)
{
    say(fd, pack(json));
}

/* One answer as JSON; "end" when the connection ended. */
static const char *
hear(int fd)
{
    static const struct kt_pack_limits roomy = { 1 << 20, 16, 65536, 1 << 20 };
    enum { MOST = 300 * 1024 };
    char *bytes = kt_arena_alloc(&arena, MOST);
    size_t n = 0, len;
    const char *why;
    struct kt_value value;
    for (;;) {
        ssize_t got = recv(fd, bytes + n, MOST - n, MSG_PEEK | (n ? MSG_WAITALL : 0));
        if (got == 0)
            return n ? "cut" : "end";
        if (got < 0 && errno == ECONNRESET)
            return "reset"; /* what must not happen: it may destroy the last answer */
        if (got < 0)
            fail_msg("nothing came: %s", strerror(errno));
        if (kt_pack_read((struct kt_str){ bytes, (size_t)got }, &roomy, &arena, &value, &len, &why)
            == KT_FRAME_DONE)
            break;
        bytes = kt_arena_alloc(&arena, MOST);
        poll(NULL, 0, 1);
        n = 0;
    }
    char *taken = kt_arena_alloc(&arena, len);
    assert_int_equal(recv(fd, taken, len, MSG_WAITALL), len);
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    kt_json_put_value(&buf, &value);
    struct kt_str text = kt_arena_str(&arena, kt_buf_str(&buf));
    kt_buf_done(&buf);
    return text.p;
}

#define EXPECT(fd, json) assert_string_equal(hear(fd), json)

static bool
is_silent(int fd)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    return poll(&poll_fd, 1, NOW_MS) == 0;
}

static const char *
calls(void)
{
    pthread_mutex_lock(&bench.lock);
    struct kt_str text = kt_arena_str(&arena, kt_buf_str(&bench.calls));
    kt_buf_reset(&bench.calls);
    pthread_mutex_unlock(&bench.lock);
    return text.p;
}

#define PONG(id) "[1," id ",null,{\"status\":\"ok\"}]"
#define PING(id) "[0," id ",\"kaiten.ping\",[]]"
#define GOT(id, slug) "[1," id ",null,{\"name\":null,\"slug\":\"" slug "\",\"tokens\":null}]"
#define GET(id, slug) "[0," id ",\"account.get\",[{\"serviceAccountSlug\":\"" slug "\"}]]"

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

/* Requests that are answered at once are taken in groups; nobody can tell. */
static void
what_came_together_is_answered_in_its_order(void **state)
{
    (void)state;
    static const char text[] = "a name of more bytes than a group takes in one message";
    char line[1024], *at = line + sprintf(line, "[0,200,\"token.verify\",[{\"token\":\"good\"},{");
    for (int i = 0; i < 12; i++)
        at += sprintf(at, "%s\"%d\":\"%s\"", i ? "," : "", i, text);
    strcpy(at, "}]]");
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    char number[8];
    for (int i = 0; i < 40; i++) {
        snprintf(number, sizeof number, "%d", i);
        snprintf(line + 512, 512, "[0,%s,\"token.verify\",[{\"token\":\"%s\"}]]", number,
                 i % 3 ? "good" : "bad");
        kt_buf_put_str(&buf, pack(line + 512));
    }
    kt_buf_put_str(&buf, pack("[0,100,\"kaiten.ping\",[{},7]]"));
    kt_buf_put_str(&buf, pack("[0,101,\"kaiten.hello\",[{\"errors\":\"problem\"}]]"));
    kt_buf_put_str(&buf, pack("[0,102,\"kaiten.ping\",[{},7]]"));
    kt_buf_put_str(&buf, pack("[2,\"kaiten.ping\",[]]"));
    kt_buf_put_str(&buf, pack(PING("103")));
    kt_buf_put_str(&buf, pack(PING("104")));
    bench.ahead = 0;
    int fd = bench_dial(&usual, NULL);
    say(fd, kt_buf_str(&buf));
    for (int i = 0; i < 40; i++) {
        snprintf(line + 512, 512, "[1,%d,null,{\"valid\":%s}]", i, i % 3 ? "true" : "false");
        EXPECT(fd, line + 512);
    }
    EXPECT(fd, "[1,100,[1,\"VALIDATION: meta is a map\"],null]");
    EXPECT(fd, "[1,101,null,null]");
    assert_non_null(strstr(hear(fd), "[1,102,{\"type\":\""));
    EXPECT(fd, PONG("103"));
    EXPECT(fd, PONG("104"));
    assert_true(bench.ahead >= 30); /* a read may have ended anywhere */
    kt_buf_done(&buf);
    close(fd);
}

/* What has to leave the loop ends a group: what is behind it goes on without being lost or asked
 * twice, and a mutation still holds it back. */
static void
a_group_ends_where_the_loop_is_left(void **state)
{
    (void)state;
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    static const char *const said[] = { PING("1"), PING("2"), GET("3", "a"), PING("4"),
                                        "[0,5,\"token.revoke\",[{\"serviceAccountSlug\":\"a\","
                                        "\"tokenSlug\":\"t\"}]]", PING("6"), PING("7") };
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        kt_buf_put_str(&buf, pack(said[i]));
    int fd = bench_dial(&usual, NULL);
    calls();
    say(fd, kt_buf_str(&buf));
    EXPECT(fd, PONG("1"));
    EXPECT(fd, PONG("2"));
    EXPECT(fd, PONG("4"));
    assert_true(bench_parked(1));
    assert_true(is_silent(fd));
    assert_true(bench_answer(0));
    EXPECT(fd, GOT("3", "a"));
    assert_true(bench_parked(1));
    assert_true(is_silent(fd));
    assert_true(bench_answer(0));
    EXPECT(fd, "[1,5,null,null]");
    EXPECT(fd, PONG("6"));
    EXPECT(fd, PONG("7"));
    assert_string_equal(calls(), "kaiten.ping kaiten.ping account.get kaiten.ping token.revoke "
                                 "kaiten.ping kaiten.ping ");
    kt_buf_done(&buf);
    close(fd);
}

enum { MANY = 90, KINDS = 6 };

static int many[MANY];

#define VERIFY(id, token) "[0," id ",\"token.verify\",[{\"token\":\"" token "\"}]]"
#define VERDICT(id, valid) "[1," id ",null,{\"valid\":" valid "}]"

/* On the loop: it finds all of it in its next turn. */
static void
say_to_many(void *ctx)
{
    (void)ctx;
    struct kt_str one = pack(VERIFY("1", "good"));
    for (int i = 0; i < MANY; i++) {
        switch (i % KINDS) {
        case 0: say(many[i], one); break;
        case 1:
            for (int k = 0; k < 20; k++)
                ask(many[i], k % 2 ? VERIFY("7", "bad") : VERIFY("7", "good"));
            break;
        case 2:
            ask(many[i], GET("2", "a"));
            say(many[i], one);
            break;
        case 3: say(many[i], (struct kt_str){ one.p, one.n - 3 }); break;
        case 4:
            say(many[i], one);
            say(many[i], (struct kt_str){ "\x93\x07", 2 });
            break;
        case 5:
            say(many[i], one);
            shutdown(many[i], SHUT_WR);
            break;
        }
    }
}

static void
hear_from(int i)
{
    switch (i % KINDS) {
    case 1:
        for (int k = 0; k < 20; k++)
            EXPECT(many[i], k % 2 ? VERDICT("7", "false") : VERDICT("7", "true"));
        break;
    case 3:
        assert_true(is_silent(many[i]));
        struct kt_str one = pack(VERIFY("1", "good"));
        say(many[i], (struct kt_str){ one.p + one.n - 3, 3 });
        EXPECT(many[i], VERDICT("1", "true"));
        break;
    default: EXPECT(many[i], VERDICT("1", "true")); break;
    }
    if (i % KINDS >= 4)
        EXPECT(many[i], "end");
}

/* The requests of a turn are looked at together, whosever they are: each connection has its own
 * answers in its own order, and what one of them does wrong is not told to another. */
static void
many_connections_in_one_turn(void **state)
{
    (void)state;
    for (int i = 0; i < MANY; i++)
        many[i] = bench_dial(&usual, NULL);
    bench_on_loop(say_to_many, NULL);
    assert_true(bench_parked(MANY / KINDS));
    for (int i = 0; i < MANY; i++)
        hear_from(i);
    for (int i = 2; i < MANY; i += KINDS) {
        assert_true(bench_answer(0));
        EXPECT(many[i], GOT("2", "a"));
    }
    for (int i = 0; i < MANY; i++)
        close(many[i]);
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

/* --- order -------------------------------------------------------------------------------- */

static void
reads_may_overtake_each_other(void **state)
{
    (void)state;
    int fd = bench_dial(&usual, NULL);
    ask(fd, GET("1", "a"));
    ask(fd, GET("2", "b"));
    ask(fd, PING("3"));
    EXPECT(fd, PONG("3"));
    assert_true(bench_parked(2));
    assert_true(bench_answer(1));
    EXPECT(fd, GOT("2", "b"));
    assert_true(bench_answer(0));
    EXPECT(fd, GOT("1", "a"));
    close(fd);
}

#define REVOKE(id) \
    "[0," id ",\"token.revoke\",[{\"serviceAccountSlug\":\"a\",\"tokenSlug\":\"t\"}]]"

static void
a_mutation_is_a_barrier_both_ways(void **state)
{
    (void)state;
    int fd = bench_dial(&usual, NULL);
    calls();
    ask(fd, GET("1", "a"));
    ask(fd, GET("2", "b"));
    ask(fd, REVOKE("3"));
    ask(fd, "[0,4,\"token.verify\",[{\"token\":\"good\"}]]");
    ask(fd, REVOKE("5"));
    ask(fd, PING("6"));
    assert_true(bench_parked(2));
    bench_settle();
    assert_string_equal(calls(), "account.get account.get ");
    assert_true(bench_answer(0));
    EXPECT(fd, GOT("1", "a"));
    bench_settle();
    assert_string_equal(calls(), "");
    assert_true(bench_answer(0));
    EXPECT(fd, GOT("2", "b"));
    assert_true(bench_parked(1));
    bench_settle();
    assert_string_equal(calls(), "token.revoke ");
    assert_true(bench_answer(0));
    EXPECT(fd, "[1,3,null,null]");
    EXPECT(fd, "[1,4,null,{\"valid\":true}]");
    assert_true(bench_parked(1));
    bench_settle();
    assert_string_equal(calls(), "token.verify token.revoke ");
    assert_true(bench_answer(0));
    EXPECT(fd, "[1,5,null,null]");
    EXPECT(fd, PONG("6"));
    close(fd);
}

static void
an_id_at_work_is_refused(void **state)
{
    (void)state;
    int fd = bench_dial(&usual, NULL);
    ask(fd, GET("1", "a"));
    ask(fd, PING("1"));
    EXPECT(fd, "[1,1,[1,\"VALIDATION: a request of this id is still at work\"],null]");
    assert_true(bench_parked(1));
    assert_true(bench_answer(0));
    EXPECT(fd, GOT("1", "a"));
    ask(fd, PING("1"));
    EXPECT(fd, PONG("1"));
    close(fd);
}

/* As many as the limit says are at work, and the next one begins when one of them has ended. */
static void
the_limit_of_requests_at_work_is_exact(void **state)
{
    (void)state;
    static const size_t limits[] = { 1, 2, 128 }; /* 128: the default */
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct listen_limits few = usual;
        few.in_flight_max = limits[i];
        int fd = bench_dial(&few, NULL);
        for (size_t id = 0; id <= limits[i]; id++) {
            char json[128];
            snprintf(json, sizeof json, "[0,%zu,\"account.get\",[{\"serviceAccountSlug\":\"a\"}]]",
                     id);
            ask(fd, json);
        }
        assert_true(bench_parked(limits[i]));
        bench_settle();
        assert_true(bench_parked(limits[i]));
        for (size_t id = 0; id <= limits[i]; id++) {
            assert_true(bench_answer(0));
            char want[128];
            snprintf(want, sizeof want,
                     "[1,%zu,null,{\"name\":null,\"slug\":\"a\",\"tokens\":null}]", id);
            EXPECT(fd, want);
            assert_true(bench_parked(id == 0 ? limits[i] : limits[i] - id));
        }
        close(fd);
        bench_settle();
    }
}

static void
requests_at_work_are_capped(void **state)
{
    (void)state;
    struct conn *conn;
    int fd = bench_dial(&usual, &conn);
    for (int i = 0; i < 10; i++) {
        char json[128];
        snprintf(json, sizeof json, "[0,%d,\"account.get\",[{\"serviceAccountSlug\":\"a\"}]]", i);
        ask(fd, json);
    }
    ask(fd, PING("10"));
    assert_true(bench_parked(8));
    bench_settle();
    assert_true(bench_parked(8));
    assert_true(is_silent(fd));
    assert_true(bench_answer(0));
    EXPECT(fd, GOT("0", "a"));
    assert_true(bench_parked(8));
    for (int i = 1; i < 10; i++) {
        assert_true(bench_answer(0));
        const char *heard = hear(fd);
        if (strcmp(heard, PONG("10")) == 0) /* as soon as there is room for it */
            hear(fd);
        bench_settle();
    }
    close(fd);
}

static void
what_would_block_starts_again_apart(void **state)
{
    (void)state;
    int fd = bench_dial(&usual, NULL);
    calls();
    bench.decline = true;
    ask(fd, "[0,4,\"token.verify\",[{\"token\":\"good\"},{\"token\":\"me\"}]]");
    assert_true(bench_parked(1));
    bench_settle();
    assert_true(bench_answer(0));
    EXPECT(fd, "[1,4,null,{\"valid\":true}]");
    bench.decline = false;
    assert_string_equal(calls(), "token.verify+me ");
    close(fd);
}

/* A credential that one of a group has to have looked up is no reason to ask for the others twice,
 * nor to have their refusals logged twice. */
static void
who_came_with_one_that_would_block_is_looked_at_once(void **state)
{
    (void)state;
    char line[128];
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    for (int i = 0; i < LOOP_GROUP; i++) {
        snprintf(line, sizeof line, "[0,%d,\"token.verify\",[{\"token\":\"good\"}]]", i);
        kt_buf_put_str(&buf, pack(line));
    }
    int fd = bench_dial(&usual, NULL);
    for (unsigned declined = 1; declined <= LOOP_GROUP; declined++) {
        bench.ahead = 0;
        bench.decline_next = declined;
        say(fd, kt_buf_str(&buf));
        for (int i = 0; i < LOOP_GROUP; i++) {
            snprintf(line, sizeof line, "[1,%d,null,{\"valid\":true}]", i);
            EXPECT(fd, line);
        }
        assert_true(bench.ahead <= LOOP_GROUP);
        assert_int_equal(bench.decline_next, 0);
    }
    kt_buf_done(&buf);
    close(fd);
}

/* What is at work apart keeps its id, and its place among those in flight. */
static void
a_group_heeds_what_it_sent_away(void **state)
{
    (void)state;
    struct kt_buf buf;
    struct listen_limits few = usual;
    few.in_flight_max = 3;
    kt_buf_init(&buf, 1 << 20);
    static const char *const said[] = { PING("1"), PING("1"), PING("2"), PING("3"), PING("4") };
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        kt_buf_put_str(&buf, pack(said[i]));
    int fd = bench_dial(&few, NULL);
    calls();
    bench.decline = true;
    say(fd, kt_buf_str(&buf));
    EXPECT(fd, "[1,1,[1,\"VALIDATION: a request of this id is still at work\"],null]");
    assert_true(bench_parked(3));
    bench_settle();
    assert_true(bench_parked(3));
    for (const char *const *id = (const char *const[]){ PONG("1"), PONG("2"), PONG("3"), NULL };
         *id; id++) {
        assert_true(bench_answer(0));
        EXPECT(fd, *id);
    }
    assert_true(bench_parked(1));
    assert_true(bench_answer(0));
    EXPECT(fd, PONG("4"));
    bench.decline = false;
    assert_string_equal(calls(), "kaiten.ping kaiten.ping kaiten.ping kaiten.ping ");
    kt_buf_done(&buf);
    close(fd);
}

static void
a_dead_client_drops_its_answers(void **state)
{
    (void)state;
    int fd = bench_dial(&usual, NULL);
    ask(fd, GET("1", "a"));
    ask(fd, GET("2", "b"));
    assert_true(bench_parked(2));
    close(fd);
    bench_settle();
    assert_true(bench_answer(1));
    bench_settle();
    assert_true(bench_answer(0));
    bench_settle();
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
    looks_good = !conn->in && !conn->out.p && !conn->write_event
        && sizeof *conn + conn->ops->state_size <= 1024;
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

/* --- listeners ---------------------------------------------------------------------------- */

static char folder[64], path[96];

static int
connect_to(const char *at)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s", at);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = { 60, 0 };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

static void
await_drained(struct listener *listener)
{
    for (int i = 0; i < 5000 && !listen_drained(listener); i++)
        poll(NULL, 0, 1);
    assert_true(listen_drained(listener));
}

static void
a_socket_is_made_safely(void **state)
{
    (void)state;
    char err[256] = "";
    struct stat st;
    mode_t before = umask(0022);
    struct listener *one = listen_socket(path, 0660, "0", NULL, &usual, err, sizeof err);
    assert_non_null(one);
    assert_int_equal(umask(before), 0022);
    assert_string_equal(listen_name(one), path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0660);
    struct listener *two = listen_socket(path, 0660, NULL, NULL, &usual, err, sizeof err);
    assert_null(two);
    char want[256];
    snprintf(want, sizeof want, "another kaitend (pid %d) serves %s", getpid(), path);
    assert_string_equal(err, want);
    assert_int_equal(stat(path, &st), 0);
    listen_free(one);
    assert_int_equal(stat(path, &st), -1);
}

/* What the service manager listens at is taken over by its address; the rest is closed. */
static int
take_over(void)
{
    char err[256], pid[16];
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int made = socket(AF_UNIX, SOCK_STREAM, 0), other = open("/dev/null", O_RDONLY);
    if (bind(made, (struct sockaddr *)&address, sizeof address) != 0 || listen(made, 1) != 0)
        return 1;
    int high = fcntl(made, F_DUPFD, 100), more = fcntl(other, F_DUPFD, 100);
    if (dup2(high, 3) != 3 || dup2(more, 4) != 4)
        return 2;
    snprintf(pid, sizeof pid, "%d", getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "2", 1);
    struct listener *listener = listen_socket(path, 0600, NULL, NULL, &usual, err, sizeof err);
    listen_opened();
    if (!listener || getenv("LISTEN_FDS") || fcntl(4, F_GETFD) != -1)
        return 3;
    if (fcntl(3, F_GETFD) != FD_CLOEXEC || !(fcntl(3, F_GETFL) & O_NONBLOCK))
        return 4;
    listen_free(listener);
    struct stat st;
    return fcntl(3, F_GETFD) == -1 && stat(path, &st) == 0 ? 0 : 5;
}

static void
the_service_managers_socket_is_taken_over(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0)
        _exit(take_over());
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    unlink(path);
}

static void
a_stale_socket_is_replaced_and_nothing_else(void **state)
{
    (void)state;
    char err[256] = "";
    struct stat st;
    int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    assert_int_equal(bind(stale, (struct sockaddr *)&address, sizeof address), 0);
    close(stale);
    struct listener *one = listen_socket(path, 0600, NULL, NULL, &usual, err, sizeof err);
    assert_non_null(one);
    unlink(path); /* somebody else's now */
    int file = open(path, O_CREAT | O_WRONLY, 0600);
    close(file);
    listen_free(one);
    assert_int_equal(stat(path, &st), 0);
    assert_null(listen_socket(path, 0600, NULL, NULL, &usual, err, sizeof err));
    assert_non_null(strstr(err, "exists and is not a socket"));
    unlink(path);
}

static void
bad_addresses_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *address, *says;
    } cases[] = {
        { "3000", "is not an address" },
        { ":3000", "is not an address" },
        { "::1:3000", "is not an address" },
        { "localhost:3000", "is not an address" },
        { "127.0.0.1:http", "is not an address" },
        { "127.0.0.1:", "is not an address" },
        { "127.0.0.1:65536", "is not an address" },
        { "192.0.2.1:0", "cannot listen" },
    };
    char err[256];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        err[0] = '\0';
        struct listener *listener = listen_http(cases[i].address, NULL, &usual, err, sizeof err);
        assert_null(listener);
        if (!strstr(err, cases[i].says))
            fail_msg("%s: %s", cases[i].address, err);
    }
    assert_null(listen_socket("@abstract", 0600, NULL, NULL, &usual, err, sizeof err));
    assert_null(listen_socket("", 0600, NULL, NULL, &usual, err, sizeof err));
    assert_null(listen_socket("/nowhere/at/all", 0600, NULL, NULL, &usual, err, sizeof err));
    assert_null(listen_socket(path, 0600, "no-such-group", NULL, &usual, err, sizeof err));
    struct listener *listener = listen_http("127.0.0.1:0", NULL, &usual, err, sizeof err);
    assert_non_null(listener);
    assert_memory_equal(listen_name(listener), "127.0.0.1:", 10);
    assert_string_not_equal(listen_name(listener), "127.0.0.1:0");
    listen_free(listener);
}

static void
peers_have_a_share(void **state)
{
    (void)state;
    char err[256];
    static const struct {
        struct listen_limits limits;
        int most;
    } cases[] = {
        { { .conns_max = 10, .conns_per_peer = 3 }, 3 },
        { { .conns_max = 2, .conns_per_peer = 3, .idle_kept_ms = 60000 }, 2 },
    };
    for (size_t i = 0; i < 2; i++) {
        struct listener *listener =
            listen_socket(path, 0600, NULL, NULL, &cases[i].limits, err, sizeof err);
        assert_non_null(listener);
        assert_int_equal(listen_start(listener, bench.loops), 0);
        bench.authn_calls = 0;
        bench.knows = true;
        int fds[4];
        for (int c = 0; c < cases[i].most; c++) {
            fds[c] = connect_to(path);
            ask(fds[c], PING("1"));
            EXPECT(fds[c], PONG("1"));
        }
        assert_int_equal(bench.authn_calls, cases[i].most);
        int refused = connect_to(path);
        EXPECT(refused, "end");
        close(refused);
        close(fds[0]);
        bench_settle();
        fds[0] = connect_to(path);
        ask(fds[0], PING("1"));
        EXPECT(fds[0], PONG("1"));
        listen_drain(listener);
        for (int c = 0; c < cases[i].most; c++) {
            EXPECT(fds[c], "end");
            close(fds[c]);
        }
        await_drained(listener);
        assert_int_equal(connect_to(path), -1);
        bench_settle();
        listen_free(listener);
    }
    bench.knows = false;
}

static int
join(bool known)
{
    bench.knows = known;
    int fd = connect_to(path);
    assert_true(fd >= 0);
    bench_settle();
    bench.knows = false;
    return fd;
}

static int
join_and_speak(bool known)
{
    int fd = join(known);
    ask(fd, PING("1"));
    EXPECT(fd, PONG("1"));
    return fd;
}

static void
drain_and_free(struct listener *listener)
{
    listen_drain(listener);
    await_drained(listener);
    bench_settle();
    listen_free(listener);
}

/* Who says nothing or says it slowly makes room, oldest first; who is known or has a request at work
 * stays. */
static void
a_full_listener_lets_the_oldest_stranger_go(void **state)
{
    (void)state;
    char err[256];
    struct listen_limits four = usual;
    four.conns_max = 4;
    four.idle_kept_ms = 60000;
    struct listener *listener = listen_socket(path, 0600, NULL, NULL, &four, err, sizeof err);
    assert_non_null(listener);
    assert_int_equal(listen_start(listener, bench.loops), 0);
    int asking = join(false);
    ask(asking, GET("7", "a"));
    assert_true(bench_parked(1));
    int silent = join(false), slow = join(false);
    say(slow, (struct kt_str){ pack(PING("1")).p, 3 });
    int known = join_and_speak(true);
    int first = join_and_speak(false);
    EXPECT(silent, "end");
    int second = join_and_speak(false);
    EXPECT(slow, "end");
    int third = join_and_speak(false);
    EXPECT(first, "end");
    ask(known, PING("2"));
    EXPECT(known, PONG("2"));
    assert_true(bench_answer(0));
    EXPECT(asking, GOT("7", "a"));
    int fourth = join_and_speak(false);
    EXPECT(asking, "end"); /* answered, and the oldest still */
    ask(known, PING("3"));
    EXPECT(known, PONG("3"));
    drain_and_free(listener);
    const int all[] = { asking, silent, slow, known, first, second, third, fourth };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        close(all[i]);
}

/* Without strangers it is the known caller that has been idle longest; whoever came for it goes next,
 * so that no crowd of strangers gets at a second one. */
static void
a_full_listener_of_known_callers_lets_one_go_that_idles(void **state)
{
    (void)state;
    char err[256];
    struct listen_limits two = usual;
    two.conns_max = 2;
    struct listener *listener = listen_socket(path, 0600, NULL, NULL, &two, err, sizeof err);
    assert_non_null(listener);
    assert_int_equal(listen_start(listener, bench.loops), 0);
    int used = join_and_speak(true), idle = join_and_speak(true);
    poll(NULL, 0, 5); /* the clock has a millisecond's grain */
    ask(used, PING("2"));
    EXPECT(used, PONG("2"));
    int last = join(false);
    EXPECT(idle, "end");
    for (int i = 0; i < 20; i++) {
        int next = join_and_speak(false);
        EXPECT(last, "end");
        close(last);
        last = next;
    }
    ask(used, PING("3"));
    EXPECT(used, PONG("3"));
    drain_and_free(listener);
    close(used);
    close(idle);
    close(last);
}

static void
a_drain_answers_what_was_asked(void **state)
{
    (void)state;
    char err[256];
    struct listener *listener = listen_socket(path, 0600, NULL, NULL, &usual, err, sizeof err);
    assert_int_equal(listen_start(listener, bench.loops), 0);
    int busy = connect_to(path), idle = connect_to(path);
    ask(idle, PING("1"));
    EXPECT(idle, PONG("1"));
    ask(busy, GET("1", "a"));
    assert_true(bench_parked(1));
    listen_drain(listener);
    EXPECT(idle, "end");
    ask(busy, PING("2")); /* unread bytes must not destroy the answer */
    bench_settle();
    assert_false(listen_drained(listener));
    assert_true(bench_answer(0));
    EXPECT(busy, GOT("1", "a"));
    EXPECT(busy, "end");
    close(busy);
    await_drained(listener); /* the idle one is closed after a while, whatever its client does */
    close(idle);
    bench_settle();
    listen_free(listener);
}

static void
the_kernel_says_who_connects(void **state)
{
    (void)state;
    char err[256];
    struct listener *listener = listen_socket(path, 0600, NULL, NULL, &usual, err, sizeof err);
    assert_int_equal(listen_start(listener, bench.loops), 0);
    int fd = connect_to(path);
    ask(fd, GET("1", "a"));
    assert_true(bench_parked(1));
    const struct peer *peer = bench.parked->peer;
    assert_true(peer->caller.has_peer);
    assert_int_equal(peer->caller.listener, KAITEN_LISTENER_SOCKET);
    assert_int_equal(peer->caller.uid, getuid());
    assert_int_equal(peer->caller.gid, getgid());
    assert_int_equal(peer->caller.pid, getpid());
    assert_ptr_equal(peer->caller.groups, peer->groups);
    assert_int_equal(peer->caller.ngroups, getgroups(0, NULL));
    char remote[64];
    snprintf(remote, sizeof remote, "uid=%u pid=%d", getuid(), getpid());
    assert_string_equal(peer->remote, remote);
    assert_true(bench_answer(0));
    hear(fd);
    close(fd);
    listen_drain(listener);
    await_drained(listener);
    bench_settle();
    listen_free(listener);
}

/* --- ------------------------------------------------------------------------------------- */

static int
open_all(void **state)
{
    (void)state;
    kt_arena_init(&arena, (size_t)256 << 20);
    log_set_level(LOG_LEVEL_ERROR);
    snprintf(folder, sizeof folder, "/tmp/test-socket-XXXXXX");
    if (!mkdtemp(folder) || !bench_open())
        return -1;
    snprintf(path, sizeof path, "%s/rpc.sock", folder);
    return 0;
}

static int
close_all(void **state)
{
    (void)state;
    bench_close();
    char lock[128];
    snprintf(lock, sizeof lock, "%s.lock", path);
    unlink(lock);
    rmdir(folder);
    kt_arena_done(&arena);
    return 0;
}

static int
begin(void **state)
{
    (void)state;
    kt_arena_reset(&arena);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup(name, begin)

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
        TEST(the_service_managers_socket_is_taken_over), /* first: the variables are read once */
        TEST(each_request_has_its_answer),
        TEST(a_message_may_be_cut_anywhere),
        TEST(two_messages_may_be_cut_anywhere),
        TEST(answers_of_one_read_go_out_together),
        TEST(what_came_together_is_answered_in_its_order),
        TEST(a_group_ends_where_the_loop_is_left),
        TEST(many_connections_in_one_turn),
        TEST(ids_and_names_have_every_encoding),
        TEST(a_name_is_text),
        TEST(hostile_bytes_end_the_connection),
        TEST(a_refusal_waits_for_the_requests_before_it),
        TEST(the_largest_message_is_64_kib),
        TEST(a_message_cut_short_ends_with_its_connection),
        TEST(answers_follow_a_half_closed_connection),
        TEST(reads_may_overtake_each_other),
        TEST(a_mutation_is_a_barrier_both_ways),
        TEST(an_id_at_work_is_refused),
        TEST(requests_at_work_are_capped),
        TEST(the_limit_of_requests_at_work_is_exact),
        TEST(what_would_block_starts_again_apart),
        TEST(who_came_with_one_that_would_block_is_looked_at_once),
        TEST(a_group_heeds_what_it_sent_away),
        TEST(a_dead_client_drops_its_answers),
        TEST(hello_chooses_the_form_of_refusals),
        TEST(an_idle_connection_is_small),
        TEST(what_was_read_is_wiped),
        TEST(phases_have_deadlines),
        TEST(a_dripping_message_runs_out_of_time),
        TEST(work_has_no_deadline_of_the_connection),
        TEST(who_does_not_read_is_cut_off),
        TEST(who_reads_late_gets_everything),
        TEST(a_socket_is_made_safely),
        TEST(a_stale_socket_is_replaced_and_nothing_else),
        TEST(bad_addresses_are_named),
        TEST(peers_have_a_share),
        TEST(a_full_listener_lets_the_oldest_stranger_go),
        TEST(a_full_listener_of_known_callers_lets_one_go_that_idles),
        TEST(a_drain_answers_what_was_asked),
        TEST(the_kernel_says_who_connects),
        TEST(the_name_of_a_method_is_seen_before_it_is_read),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
