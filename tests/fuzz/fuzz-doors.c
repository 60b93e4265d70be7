/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Bytes on the wire of a whole daemon: both doors, the pipeline, the committer, storage-memory. The
 * input is pieces that end with the byte 1e. The first byte of a piece is the door, 's' for the
 * socket and 'h' for HTTP; the rest goes to the one connection that this door has. Thirty-six
 * characters of the form ksh_00… stand for the last secret that was shown.
 *
 * Each answer is whole and none is our own fault; both connections end when the client has ended
 * its side; and what has been stored can be read again. */
#include "config.h"

#include "tests/unit/core.h"

#include "client/proto/pack.h"
#include "daemon/model/load.h"
#include "daemon/transport/conn.h"
#include "daemon/transport/http.h"
#include "daemon/transport/socket.h"
#include "tests/unit/turn.h"

#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

extern unsigned fuzz_sample;
unsigned fuzz_sample = 256; /* stub-main.c: each run goes through four threads */

enum { INPUT_MAX = 32 * 1024, PIECE_END = 0x1e, SECRET = 36, SPOKEN_MAX = 16 * 1024 * 1024 };

static const char placeholder[] = "ksh_00000000000000000000000000000000";
static char shown[] = "ksh_00000000000000000000000000000000";

static struct core core;

/* --- two connections ---------------------------------------------------------------------- */

struct line {
    const struct conn_ops *ops;
    struct conn *conn; /* of the loop; NULL once it is gone */
    int fd;            /* the client's end */
    struct kt_buf heard;
};

static struct line lines[2]; /* by the lowest bit of the door's letter */

static const struct listen_limits limits = { .in_flight_max = 8, .body_max = 16 * 1024 };

static void
gone(struct conn *conn)
{
    lines[conn->ops == lines[1].ops].conn = NULL;
}

static void
arrive(struct line *line)
{
    int pair[2];
    core_must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    evutil_make_socket_nonblocking(pair[0]);
    evutil_make_socket_nonblocking(pair[1]);
    line->fd = pair[0];
    line->conn = conn_new(core.loops[0], pair[1], line->ops, &limits);
    core_must(line->conn);
    line->conn->gone = gone;
    line->conn->peer = line->ops == &http_ops ? core.http : core.socket;
    conn_start(line->conn);
}

static void
arrive_both(void *ctx)
{
    (void)ctx;
    arrive(&lines[0]);
    arrive(&lines[1]);
}

static bool busy;

static void
look(void *ctx)
{
    (void)ctx;
    busy = false;
    for (int i = 0; i < 2; i++)
        busy = busy || (lines[i].conn && lines[i].conn->in_flight);
}

static void
hear(struct line *line)
{
    char bytes[16 * 1024];
    for (ssize_t n; (n = recv(line->fd, bytes, sizeof bytes, 0)) > 0;)
        kt_buf_put(&line->heard, bytes, (size_t)n);
    core_must(!line->heard.failed);
}

/* What was sent has been read, and whatever it asked for has been answered. The third turn comes
 * after the loop has looked at its descriptors. */
static void
settle(void)
{
    const struct timespec tick = { 0, 20 * 1000 };
    int quiet = 0;
    while (quiet < 3) {
        turn_on(core.loops[0], look, NULL);
        quiet = busy ? 0 : quiet + 1;
        if (busy)
            nanosleep(&tick, NULL);
        hear(&lines[0]);
        hear(&lines[1]);
    }
}

static void
say(struct line *line, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(line->fd, p, n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            return;
        if (sent > 0)
            p += sent, n -= (size_t)sent;
        settle();
        if (sent < 0 && !line->conn)
            return;
    }
}

/* --- what must hold ----------------------------------------------------------------------- */

static struct kt_str
text_line(struct kt_str *rest)
{
    const char *end = rest->n ? memmem(rest->p, rest->n, "\r\n", 2) : NULL;
    core_must(end);
    struct kt_str line = { rest->p, (size_t)(end - rest->p) };
    *rest = (struct kt_str){ end + 2, rest->n - line.n - 2 };
    return line;
}

static bool
starts(struct kt_str s, const char *with)
{
    return s.n >= strlen(with) && memcmp(s.p, with, strlen(with)) == 0;
}

/* An answer to HEAD has a length and no body: the next one begins there. */
static void
check_http(struct kt_str rest)
{
    while (rest.n) {
        struct kt_str status = text_line(&rest);
        core_must(starts(status, "HTTP/1.1 ") && !starts(status, "HTTP/1.1 500"));
        size_t n = 0;
        for (struct kt_str line = text_line(&rest); line.n; line = text_line(&rest))
            if (starts(line, "Content-Length: "))
                n = strtoul(line.p + 16, NULL, 10);
        if (rest.n == 0 || starts(rest, "HTTP/1.1 "))
            continue;
        core_must(n <= rest.n);
        rest = (struct kt_str){ rest.p + n, rest.n - n };
    }
}

/* A pair begins its text with the code; a problem has a status. */
static bool
is_our_fault(const struct kt_value *error)
{
    if (error->type == KT_V_ARRAY)
        return starts(error->array.v[1].s, "INTERNAL");
    for (size_t i = 0; error->type == KT_V_MAP && i < error->map.n; i++)
        if (kt_str_is(error->map.v[i].name, "status") && error->map.v[i].value.i == 500)
            return true;
    return false;
}

static void
check_socket(struct kt_str rest)
{
    static const struct kt_pack_limits roomy = { 4 << 20, 16, 1 << 20, 1 << 20 };
    struct kt_arena arena;
    kt_arena_init(&arena, 1 << 26);
    while (rest.n) {
        struct kt_value v;
        size_t len;
        const char *why;
        kt_arena_reset(&arena);
        core_must(kt_pack_read(rest, &roomy, &arena, &v, &len, &why) == KT_FRAME_DONE);
        core_must(v.type == KT_V_ARRAY && v.array.n == 4 && v.array.v[0].i == 1);
        core_must(v.array.v[2].type == KT_V_NULL || v.array.v[3].type == KT_V_NULL);
        core_must(!is_our_fault(&v.array.v[2]));
        rest = (struct kt_str){ rest.p + len, rest.n - len };
    }
    kt_arena_done(&arena);
}

static void
check_store(void)
{
    struct kt_arena arena;
    struct call call;
    core_call(&core, &arena, &call);
    struct index *index = index_new(core_retire, &core);
    core_must(index && load_index(&call, index, NULL, 1) == KT_OK);
    index_free(index);
    kt_arena_done(&arena);
}

/* --- one input ---------------------------------------------------------------------------- */

/* A secret is what made one says: {"token":"ksh_…" or its like in MessagePack. */
static void
remember_secret(const struct kt_buf *heard)
{
    for (size_t i = heard->n; i-- > 0 && heard->n - i < 4096;)
        if (heard->n - i >= SECRET && memcmp(heard->p + i, "ksh_", 4) == 0) {
            memcpy(shown, heard->p + i, SECRET);
            return;
        }
}

static void
piece(const char *p, size_t n)
{
    struct line *line = &lines[p[0] & 1];
    char *bytes = malloc(n); /* never empty */
    core_must(bytes);
    memcpy(bytes, p, n);
    for (size_t i = 1; i + SECRET <= n; i++)
        if (memcmp(bytes + i, placeholder, SECRET) == 0)
            memcpy(bytes + i, shown, SECRET);
    say(line, bytes + 1, n - 1);
    free(bytes);
    settle();
    remember_secret(&line->heard);
}

static void
hang_up(struct line *line)
{
    const struct timespec tick = { 0, 20 * 1000 };
    shutdown(line->fd, SHUT_WR);
    for (settle(); line->conn; settle())
        nanosleep(&tick, NULL);
    hear(line);
    close(line->fd);
}

/* Threads and files go, too. */
static void
close_at_exit(void)
{
    core_close(&core);
}

static void
open_once(void)
{
    if (core.loops)
        return;
    const struct core_options options = { .workers = 1, .peer = "ann/acme/write:*,delete:*" };
    lines[0].ops = &http_ops;
    lines[1].ops = &socket_ops;
    core_open(&core, &options);
    atexit(close_at_exit);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *p = (const char *)data, *end = p + size;
    if (size == 0 || size > INPUT_MAX)
        return 0;
    open_once();
    memcpy(shown, placeholder, SECRET);
    for (int i = 0; i < 2; i++)
        kt_buf_init(&lines[i].heard, SPOKEN_MAX);
    turn_on(core.loops[0], arrive_both, NULL);
    while (p < end) {
        const char *at = memchr(p, PIECE_END, (size_t)(end - p));
        size_t n = (size_t)((at ? at : end) - p);
        if (n > 0)
            piece(p, n);
        p += n + 1;
    }
    hang_up(&lines[0]);
    hang_up(&lines[1]);
    check_http(kt_buf_str(&lines[0].heard));
    check_socket(kt_buf_str(&lines[1].heard));
    check_store();
    for (int i = 0; i < 2; i++)
        kt_buf_done(&lines[i].heard);
    core_reset(&core);
    return 0;
}
