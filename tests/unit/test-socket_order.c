/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* In which order the requests of a connection are served: groups, barriers, and how many are at work
 * at once. */
#include "config.h"

#include "tests/unit/socket-client.h"

static const char *
calls(void)
{
    pthread_mutex_lock(&bench.lock);
    struct kt_str text = kt_arena_str(&arena, kt_buf_str(&bench.calls));
    kt_buf_reset(&bench.calls);
    pthread_mutex_unlock(&bench.lock);
    return text.p;
}

/* --- groups ------------------------------------------------------------------------------- */

/* Requests that are answered at once are taken in groups; nobody can tell. */
static void
what_came_together_is_answered_in_its_order(void **state)
{
    (void)state;
    char line[128];
    struct kt_buf buf;
    kt_buf_init(&buf, 1 << 20);
    for (int i = 0; i < 40; i++) {
        snprintf(line, sizeof line, "[0,%d,\"token.verify\",[{\"token\":\"%s\"}]]", i,
                 i % 3 ? "good" : "bad");
        kt_buf_put_str(&buf, pack(line));
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
        snprintf(line, sizeof line, "[1,%d,null,{\"valid\":%s}]", i, i % 3 ? "true" : "false");
        EXPECT(fd, line);
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

/* --- requests at work --------------------------------------------------------------------- */

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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_came_together_is_answered_in_its_order),
        TEST(a_group_ends_where_the_loop_is_left),
        TEST(many_connections_in_one_turn),
        TEST(reads_may_overtake_each_other),
        TEST(a_mutation_is_a_barrier_both_ways),
        TEST(an_id_at_work_is_refused),
        TEST(requests_at_work_are_capped),
        TEST(the_limit_of_requests_at_work_is_exact),
        TEST(what_would_block_starts_again_apart),
        TEST(who_came_with_one_that_would_block_is_looked_at_once),
        TEST(a_group_heeds_what_it_sent_away),
        TEST(a_dead_client_drops_its_answers),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
