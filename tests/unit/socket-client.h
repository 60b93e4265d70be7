/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A client of the MessagePack-RPC socket, for tests: it speaks JSON, and hears JSON. Include it before
 * <cmocka.h>, as socket-bench.h. */
#ifndef SOCKET_CLIENT_H
#define SOCKET_CLIENT_H

#include "tests/unit/socket-bench.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { NOW_MS = 60 };

static const struct listen_limits usual = {
    .in_flight_max = 8, .conns_max = 64, .conns_per_peer = 64, .first_byte_ms = 60000,
    .head_ms = 60000, .write_ms = 60000, .idle_ms = 60000,
};

static struct kt_arena arena;

/* The MessagePack of a JSON text, in the arena. */
static inline struct kt_str
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

static inline void
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

static inline void
ask(int fd, const char *json)
{
    say(fd, pack(json));
}

/* One answer as JSON; "end" when the connection ended. */
static inline const char *
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

static inline bool
is_silent(int fd)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    return poll(&poll_fd, 1, NOW_MS) == 0;
}

#define PONG(id) "[1," id ",null,{\"status\":\"ok\"}]"
#define PING(id) "[0," id ",\"kaiten.ping\",[]]"
#define GOT(id, slug) "[1," id ",null,{\"name\":null,\"slug\":\"" slug "\",\"tokens\":null}]"
#define GET(id, slug) "[0," id ",\"account.get\",[{\"serviceAccountSlug\":\"" slug "\"}]]"

/* For cmocka: of the group, and of each test. */
static inline int
open_all(void **state)
{
    (void)state;
    kt_arena_init(&arena, (size_t)256 << 20);
    log_set_level(LOG_LEVEL_ERROR);
    return bench_open() ? 0 : -1;
}

static inline int
close_all(void **state)
{
    (void)state;
    bench_close();
    kt_arena_done(&arena);
    return 0;
}

static inline int
begin(void **state)
{
    (void)state;
    kt_arena_reset(&arena);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup(name, begin)

#endif
