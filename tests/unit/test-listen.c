/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Listeners: how they come to be, whom they let in, and how they end. */
#include "config.h"

#include "tests/unit/socket-client.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static char folder[64], path[96], err[256];

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

static struct listener *
listener_at(const char *at, unsigned mode, const char *group, const struct listen_limits *limits)
{
    const struct endpoint_file file = { at, mode, group };
    err[0] = '\0';
    return listen_socket(&file, NULL, limits, err, sizeof err);
}

static struct listener *
listener_here(const struct listen_limits *limits)
{
    return listener_at(path, 0600, NULL, limits);
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
    struct stat st;
    mode_t before = umask(0022);
    struct listener *one = listener_at(path, 0660, "0", &usual);
    assert_non_null(one);
    assert_int_equal(umask(before), 0022);
    assert_string_equal(listen_name(one), path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0660);
    struct listener *two = listener_at(path, 0660, NULL, &usual);
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
    char pid[16];
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
    struct listener *listener = listener_here(&usual);
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
    struct stat st;
    int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    assert_int_equal(bind(stale, (struct sockaddr *)&address, sizeof address), 0);
    close(stale);
    struct listener *one = listener_here(&usual);
    assert_non_null(one);
    unlink(path); /* somebody else's now */
    int file = open(path, O_CREAT | O_WRONLY, 0600);
    close(file);
    listen_free(one);
    assert_int_equal(stat(path, &st), 0);
    assert_null(listener_here(&usual));
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
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        err[0] = '\0';
        struct listener *listener = listen_http(cases[i].address, NULL, &usual, err, sizeof err);
        assert_null(listener);
        if (!strstr(err, cases[i].says))
            fail_msg("%s: %s", cases[i].address, err);
    }
    assert_null(listener_at("@abstract", 0600, NULL, &usual));
    assert_null(listener_at("", 0600, NULL, &usual));
    assert_null(listener_at("/nowhere/at/all", 0600, NULL, &usual));
    assert_null(listener_at(path, 0600, "no-such-group", &usual));
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
    static const struct {
        struct listen_limits limits;
        int most;
    } cases[] = {
        { { .conns_max = 10, .conns_per_peer = 3 }, 3 },
        { { .conns_max = 2, .conns_per_peer = 3, .idle_kept_ms = 60000 }, 2 },
    };
    for (size_t i = 0; i < 2; i++) {
        struct listener *listener = listener_here(&cases[i].limits);
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
    struct listen_limits four = usual;
    four.conns_max = 4;
    four.idle_kept_ms = 60000;
    struct listener *listener = listener_here(&four);
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
    struct listen_limits two = usual;
    two.conns_max = 2;
    struct listener *listener = listener_here(&two);
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
    struct listener *listener = listener_here(&usual);
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
    struct listener *listener = listener_here(&usual);
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

static int
open_folder(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/test-listen-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/rpc.sock", folder);
    return open_all(state);
}

static int
close_folder(void **state)
{
    char lock[128];
    snprintf(lock, sizeof lock, "%s.lock", path);
    unlink(lock);
    rmdir(folder);
    return close_all(state);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_service_managers_socket_is_taken_over), /* first: the variables are read once */
        TEST(a_socket_is_made_safely),
        TEST(a_stale_socket_is_replaced_and_nothing_else),
        TEST(bad_addresses_are_named),
        TEST(peers_have_a_share),
        TEST(a_full_listener_lets_the_oldest_stranger_go),
        TEST(a_full_listener_of_known_callers_lets_one_go_that_idles),
        TEST(a_drain_answers_what_was_asked),
        TEST(the_kernel_says_who_connects),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
