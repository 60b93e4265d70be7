/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* libkaiten and its connection: what is cut, lost, late, out of order or hostile. */
#include "config.h"

#include "client/client.h"
#include "tests/unit/client-server.h"

#include <poll.h>

/* --- connections that break --------------------------------------------------------------- */

static void
serve_split(struct conn *c)
{
    greet(c);
    struct request r;
    while (read_request(c, &r)) {
        struct kt_buf buf = make_reply(c, r.id, "null", answer_of(r.method));
        for (size_t i = 0; i < buf.n; i++) {
            put(c, buf.p + i, 1);
            usleep(20);
        }
        kt_buf_done(&buf);
    }
}

static void
test_split(void **state)
{
    CASE(serve_split);
    struct kaiten_account *account;
    assert_int_equal(kaiten_account_get(k, "ci", &account), 0);
    kaiten_account_free(account);
    assert_int_equal(kaiten_ping(k), 0);
    stop(&s);
}

static void
serve_one_each(struct conn *c)
{
    greet(c);
    struct request r;
    if (read_request(c, &r))
        reply(c, r.id, "null", answer_of(r.method));
}

static void
wait_for_closed(int n)
{
    for (int i = 0; i < 60000 && closed < n; i++)
        usleep(1000);
}

static void
test_reconnect(void **state)
{
    CASE(serve_one_each);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kaiten_token_revoke(k, "a", "b"), 0);
        wait_for_closed(i + 1);
    }
    assert_int_equal(requests, 3);
    stop(&s);
}

/* Reads each request and closes instead of answering, on the first connection only. */
static void
serve_lost_first(struct conn *c)
{
    greet(c);
    struct request r;
    while (read_request(c, &r)) {
        if (c->nth == 0)
            return;
        reply(c, r.id, "null", answer_of(r.method));
    }
}

static void
test_lost_change_is_not_repeated(void **state)
{
    CASE(serve_lost_first);
    assert_int_equal(kaiten_token_revoke(k, "a", "b"), KAITEN_ELOST);
    assert_int_equal(requests, 1);
    assert_int_equal(kaiten_token_revoke(k, "a", "b"), 0);
    stop(&s);
}

/* Those that only the socket has, too: a lost answer does not rotate a key twice. */
static void
test_lost_work_of_an_operator_is_not_repeated(void **state)
{
    static const char *const methods[] = { "key.rotate", "key.retire", "store.backup",
                                           "store.export", "store.drop", "not.known" };
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        CASE(serve_lost_first);
        char *json;
        assert_int_equal(kaiten_call_json(k, methods[i], NULL, &json), KAITEN_ELOST);
        assert_int_equal(requests, 1);
        stop(&s);
    }
    CASE(serve_lost_first);
    char *json;
    assert_int_equal(kaiten_call_json(k, "store.check", NULL, &json), 0);
    kaiten_json_free(json);
    assert_int_equal(requests, 2);
    stop(&s);
}

static void
test_lost_read_is_repeated(void **state)
{
    CASE(serve_lost_first);
    const struct kaiten_verification *v;
    assert_int_equal(kaiten_token_verify(k, "x", 1, NULL, &v), 0);
    assert_int_equal(requests, 2);
    stop(&s);
}

static void
serve_always_lost(struct conn *c)
{
    greet(c);
    struct request r;
    read_request(c, &r);
}

static void
test_lost_read_is_repeated_once(void **state)
{
    CASE(serve_always_lost);
    assert_int_equal(kaiten_ping(k), KAITEN_ELOST);
    assert_int_equal(requests, 2);
    stop(&s);
}

/* Has it read the greeting, it waits for what comes behind it before it answers. */
static void
serve_late_greeting(struct conn *c)
{
    struct request hello, r;
    if (!read_any(c, &hello) || !read_request(c, &r))
        return;
    reply(c, hello.id, "null", "{\"protocol\":1}");
    reply(c, r.id, "null", answer_of(r.method));
}

static void
test_question_comes_with_the_greeting(void **state)
{
    CASE(serve_late_greeting);
    const struct kaiten_verification *v;
    assert_int_equal(kaiten_token_verify(k, "x", 1, NULL, &v), 0);
    assert_int_equal(requests, 1);
    stop(&s);
}

/* Refuses the greeting once nothing has come behind it for a while. */
static void
serve_refused_greeting(struct conn *c)
{
    struct request hello;
    struct timeval while_ = { .tv_usec = 100 * 1000 };
    if (!read_any(c, &hello))
        return;
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &while_, sizeof while_);
    struct request r;
    if (c->n == 0 && !read_request(c, &r))
        reply(c, hello.id, "{\"status\":401,\"code\":\"Auth.Unknown\"}", "null");
}

static void
test_change_waits_for_the_greeting(void **state)
{
    CASE(serve_refused_greeting);
    assert_int_equal(kaiten_account_delete(k, "a"), KAITEN_EUNAUTHORIZED);
    assert_int_equal(requests, 0);
    stop(&s);
}

static void
serve_closed_greeting(struct conn *c)
{
    struct request hello, r;
    (void)(read_any(c, &hello) && read_request(c, &r));
}

/* Not the connection of before, so it is not tried again. */
static void
test_question_with_no_greeting(void **state)
{
    CASE(serve_closed_greeting);
    assert_int_equal(kaiten_ping(k), KAITEN_ECONNECT);
    assert_int_equal(requests, 1);
    stop(&s);
}

static void
serve_silence(struct conn *c)
{
    greet(c);
    struct request r;
    while (read_request(c, &r))
        if (c->nth > 0)
            reply(c, r.id, "null", answer_of(r.method));
}

static void
test_timeout(void **state)
{
    CASE(serve_silence);
    kaiten_set_timeout(k, 50);
    assert_int_equal(kaiten_ping(k), KAITEN_ETIMEOUT);
    assert_string_equal(kaiten_error_code(k), "Client.Timeout");
    kaiten_set_timeout(k, 60000);
    assert_int_equal(kaiten_ping(k), 0);
    assert_in_range(requests, 1, 2); /* never repeated; on a slow machine the greeting took it all */
    stop(&s);
}

static void
serve_nothing(struct conn *c)
{
    struct request r;
    while (read_any(c, &r))
        ;
}

static void
test_timeout_of_greeting(void **state)
{
    CASE(serve_nothing);
    kaiten_set_timeout(k, 50);
    assert_int_equal(kaiten_ping(k), KAITEN_ETIMEOUT);
    stop(&s);
}

static void
test_no_server(void **state)
{
    struct kaiten *k = kaiten_new("/tmp/there/is/no/such.sock");
    assert_int_equal(kaiten_ping(k), KAITEN_ECONNECT);
    assert_non_null(strstr(kaiten_error_detail(k), "/tmp/there/is/no/such.sock"));
    kaiten_free(k);
    char path[300];
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    k = kaiten_new(path);
    assert_int_equal(kaiten_ping(k), KAITEN_EUSAGE);
    kaiten_free(k);
    kaiten_free(NULL);
}

static void
test_path_order(void **state)
{
    CASE(serve_answers);
    char uri[128];
    snprintf(uri, sizeof uri, "unix://%s", s.path);
    setenv("XDG_RUNTIME_DIR", "/tmp/no/such/run", 1);
    setenv("KAITEN_SOCKET", uri, 1);
    struct kaiten *other = kaiten_new(NULL);
    assert_int_equal(kaiten_ping(other), 0);
    kaiten_close(other);
    setenv("KAITEN_SOCKET", "/tmp/no/such/kaiten.sock", 1);
    assert_int_equal(kaiten_ping(other), KAITEN_ECONNECT);
    unsetenv("KAITEN_SOCKET");
    if (access("/run/kaitend/rpc.sock", F_OK) != 0) {
        assert_int_equal(kaiten_ping(other), KAITEN_ECONNECT);
        assert_non_null(strstr(kaiten_error_detail(other), "/run/kaitend/rpc.sock"));
    }
    kaiten_free(other);
    kaiten_close(k);
    stop(&s);
}

/* --- pipelining --------------------------------------------------------------------------- */

/* Collects 8 verifications and answers them last first; other methods at once. */
static void
serve_reversed(struct conn *c)
{
    greet(c);
    int64_t ids[8];
    size_t n = 0;
    struct request r;
    while (read_request(c, &r)) {
        if (!kt_str_is(r.method, "token.verify")) {
            reply(c, r.id, "null", answer_of(r.method));
            continue;
        }
        ids[n++] = r.id;
        while (n == 8 && n > 0) {
            for (size_t i = 8; i > 0; i--)
                reply(c, ids[i - 1], "null", i % 2 ? VALID_JSON : "{\"valid\":false}");
            n = 0;
        }
    }
}

static void
test_pipeline(void **state)
{
    CASE(serve_reversed);
    uint64_t tag = 0;
    const struct kaiten_verification *v;
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < 8; i++)
            assert_int_equal(kaiten_verify_send(k, i, SECRET, strlen(SECRET), NULL), 0);
        if (round == 1)
            assert_int_equal(kaiten_ping(k), 0); /* other calls may come in between */
        unsigned seen = 0;
        for (int i = 0; i < 8; i++) {
            assert_int_equal(kaiten_verify_recv(k, &tag, &v), 0);
            assert_int_equal(v->valid, tag % 2 == 0);
            if (round == 0)
                assert_int_equal(tag, 7 - i);
            seen |= 1u << tag;
        }
        assert_int_equal(seen, 0xff);
        assert_int_equal(kaiten_in_flight(k), 0);
    }
    stop(&s);
}

static void
test_pipeline_full(void **state)
{
    CASE(serve_answers);
    uint64_t tag;
    const struct kaiten_verification *v;
    static char big[KAITEN_CREDENTIAL_MAX];
    memset(big, 'k', sizeof big);
    /* More bytes than the socket takes at once, so both directions have to move. */
    for (uint64_t i = 0; i < KAITEN_IN_FLIGHT_MAX; i++)
        assert_int_equal(kaiten_verify_send(k, i, big, sizeof big, "read:tokens"), 0);
    assert_int_equal(kaiten_verify_send(k, 99, "x", 1, NULL), KAITEN_EUSAGE);
    for (uint64_t i = 0; i < KAITEN_IN_FLIGHT_MAX; i++) {
        assert_int_equal(kaiten_verify_recv(k, &tag, &v), 0);
        assert_int_equal(tag, i);
    }
    assert_int_equal(kaiten_verify_recv(k, &tag, &v), KAITEN_EUSAGE);
    stop(&s);
}

static void
test_pipeline_timeout_and_loss(void **state)
{
    CASE(serve_silence);
    uint64_t tag = 77;
    const struct kaiten_verification *v = NULL;
    kaiten_set_timeout(k, 60000);
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(kaiten_verify_send(k, i, "x", 1, NULL), 0);
    kaiten_set_timeout(k, 30);
    assert_int_equal(kaiten_verify_recv(k, &tag, &v), KAITEN_ETIMEOUT);
    assert_int_equal(tag, 77);
    assert_int_equal(kaiten_in_flight(k), 3);
    /* A call that times out closes; what was in flight is reported one by one. */
    assert_int_equal(kaiten_ping(k), KAITEN_ETIMEOUT);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(kaiten_verify_recv(k, &tag, &v), KAITEN_ELOST);
        assert_int_equal(tag, i);
    }
    assert_null(v);
    assert_int_equal(kaiten_verify_recv(k, &tag, &v), KAITEN_EUSAGE);
    kaiten_set_timeout(k, 60000);
    assert_int_equal(kaiten_verify_send(k, 5, "x", 1, NULL), 0);
    assert_int_equal(kaiten_verify_recv(k, &tag, &v), 0);
    assert_int_equal(kaiten_verify_send(k, 6, "x", 1, NULL), 0);
    kaiten_close(k);
    assert_int_equal(kaiten_in_flight(k), 0);
    stop(&s);
}

static void
test_pipeline_refusal(void **state)
{
    CASE(serve_refusal);
    uint64_t tag = 0;
    const struct kaiten_verification *v;
    refusal = "{\"status\":403,\"code\":\"Auth.MissingScope\",\"detail\":\"no\"}";
    assert_int_equal(kaiten_verify_send(k, 4, "x", 1, NULL), 0);
    assert_int_equal(kaiten_verify_send(k, 5, "x", 1, NULL), 0);
    assert_int_equal(kaiten_verify_recv(k, &tag, &v), KAITEN_EFORBIDDEN);
    assert_int_equal(tag, 4);
    assert_string_equal(kaiten_error_code(k), "Auth.MissingScope");
    assert_int_equal(kaiten_verify_recv(k, &tag, &v), KAITEN_EFORBIDDEN);
    assert_int_equal(tag, 5);
    stop(&s);
}

static void
test_pipeline_forgets_what_it_does_not_send(void **state)
{
    CASE(serve_refusal);
    assert_int_equal(kaiten_verify_send(k, 4, SECRET, strlen(SECRET), "\xff"), KAITEN_EUSAGE);
    assert_int_equal(kaiten_in_flight(k), 0);
    assert_null(memmem(k->request.p, k->request.size, SECRET, strlen(SECRET)));
    stop(&s);
}

/* --- a hostile server --------------------------------------------------------------------- */

static struct kt_str garbage;

static void
serve_garbage(struct conn *c)
{
    greet(c);
    struct request r;
    if (!read_request(c, &r))
        return;
    put(c, garbage.p, garbage.n);
    while (read_any(c, &r))
        ;
}

#define BYTES(s) { (s), sizeof(s) - 1 }

static void
test_hostile(void **state)
{
    static const struct {
        const char *what;
        struct kt_str bytes;
    } cases[] = {
        { "array of 2^32-1", BYTES("\xdd\xff\xff\xff\xff") },
        { "map of 2^32-1", BYTES("\x94\x01\x02\xc0\xdf\xff\xff\xff\xff") },
        { "text of 4 GiB", BYTES("\x94\x01\x02\xc0\xdb\xff\xff\xff\xff") },
        { "binary of 2 GiB", BYTES("\x94\x01\x02\xc0\xc6\x7f\xff\xff\xff") },
        { "depth", BYTES("\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91"
                         "\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91") },
        { "never used byte", BYTES("\xc1") },
        { "HTTP", BYTES("HTTP/1.1 400 Bad Request\r\n\r\n") },
        { "a request", BYTES("\x94\x00\x02\xa1x\x90") },
        { "a notification", BYTES("\x93\x02\xa1x\x90") },
        { "unknown id", BYTES("\x94\x01\x7f\xc0\xc0") },
        { "id 0", BYTES("\x94\x01\x00\xc0\xc0") },
        { "negative id", BYTES("\x94\x01\xff\xc0\xc0") },
        { "text for an id", BYTES("\x94\x01\xa1x\xc0\xc0") },
        { "three members", BYTES("\x93\x01\x02\xc0") },
        { "an unknown extension", BYTES("\xd4\x05\x00") },
        { "bytes that are no UTF-8", BYTES("\x94\x01\x02\xc0\xa2\xff\xfe") },
        { "two members of one name", BYTES("\x94\x01\x02\xc0\x82\xa1x\x01\xa1x\x02") },
        { "an error that is a number", BYTES("\x94\x01\x02\x05\xc0") },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        garbage = cases[i].bytes;
        CASE(serve_garbage);
        kaiten_set_timeout(k, 60000);
        struct kaiten_caller *who = NULL;
        int error = kaiten_whoami(k, &who);
        if (error != KAITEN_EPROTOCOL)
            fail_msg("%s: %d", cases[i].what, error);
        assert_null(who);
        stop(&s);
    }
}

static void
test_hostile_pipeline(void **state)
{
    garbage = (struct kt_str)BYTES("\x94\x01\x7f\xc0\xc0");
    CASE(serve_garbage);
    uint64_t tag = 0;
    const struct kaiten_verification *v;
    assert_int_equal(kaiten_verify_send(k, 3, "x", 1, NULL), 0);
    assert_int_equal(kaiten_verify_recv(k, &tag, &v), KAITEN_EPROTOCOL);
    assert_int_equal(tag, 3);
    assert_int_equal(kaiten_in_flight(k), 0);
    stop(&s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_reconnect),
        cmocka_unit_test(test_lost_change_is_not_repeated),
        cmocka_unit_test(test_lost_work_of_an_operator_is_not_repeated),
        cmocka_unit_test(test_lost_read_is_repeated),
        cmocka_unit_test(test_lost_read_is_repeated_once),
        cmocka_unit_test(test_question_comes_with_the_greeting),
        cmocka_unit_test(test_change_waits_for_the_greeting),
        cmocka_unit_test(test_question_with_no_greeting),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_timeout_of_greeting),
        cmocka_unit_test(test_no_server),
        cmocka_unit_test(test_path_order),
        cmocka_unit_test(test_pipeline),
        cmocka_unit_test(test_pipeline_full),
        cmocka_unit_test(test_pipeline_timeout_and_loss),
        cmocka_unit_test(test_pipeline_refusal),
        cmocka_unit_test(test_pipeline_forgets_what_it_does_not_send),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_hostile_pipeline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
