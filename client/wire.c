/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/client.h"
#include "client/proto/wipe.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { READ_SIZE = 16 * 1024 };

const struct kt_pack_limits wire_reply_limits = {
    .message = CLIENT_REPLY_MAX,
    .depth = 16,
    .elements = 1024 * 1024,
    .string = 1024 * 1024,
};

static int64_t
now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t
wire_deadline(const struct kaiten *k)
{
    return k->timeout_ms ? now_ms() + k->timeout_ms : INT64_MAX;
}

/* What is left, for poll(): -1 is for ever. */
static int
remaining(int64_t deadline)
{
    if (deadline == INT64_MAX)
        return -1;
    int64_t left = deadline - now_ms();
    if (left <= 0)
        return 0;
    return left > INT_MAX ? INT_MAX : (int)left;
}

static int
timed_out(struct kaiten *k)
{
    return client_fail(k, KAITEN_ETIMEOUT, "no answer within %u ms", k->timeout_ms);
}

/* --- closing ------------------------------------------------------------------------------ */

void
wire_close(struct kaiten *k, int why)
{
    if (k->fd >= 0)
        close(k->fd);
    k->fd = -1;
    kt_buf_wipe(&k->out);
    k->sent = 0;
    kt_wipe(k->in.p, k->in.n);
    kt_buf_reset(&k->in);
    k->start = k->message = 0;
    memset(&k->scan, 0, sizeof k->scan);
    verify_drop(k, why);
}

int
wire_garbage(struct kaiten *k, const char *why)
{
    wire_close(k, KAITEN_EPROTOCOL);
    return client_fail(k, KAITEN_EPROTOCOL, "the server's answer was refused: %s", why);
}

static int
lost(struct kaiten *k, int error)
{
    wire_close(k, KAITEN_ELOST);
    return client_fail(k, KAITEN_ELOST, "the server closed the connection%s%s", error ? ": " : "",
                       error ? strerror(error) : "");
}

/* --- connecting --------------------------------------------------------------------------- */

static const char *
without_scheme(const char *path)
{
    if (strncmp(path, "unix://", 7) == 0)
        return path + 7;
    return strncmp(path, "unix:", 5) == 0 ? path + 5 : path;
}

/* False: too long for a socket address. */
static bool
find_path(const struct kaiten *k, char *path, size_t size)
{
    const char *set = k->path ? k->path : secure_getenv("KAITEN_SOCKET");
    if (set && *set)
        return (size_t)snprintf(path, size, "%s", without_scheme(set)) < size;
    const char *run = secure_getenv("XDG_RUNTIME_DIR");
    if (run && *run && (size_t)snprintf(path, size, "%s/kaitend/rpc.sock", run) < size &&
        access(path, F_OK) == 0)
        return true;
    return (size_t)snprintf(path, size, "%s", "/run/kaitend/rpc.sock") < size;
}

/* connect() waits by itself while the queue of the listener is full, at most this long. */
static void
limit_connect(int fd, int64_t deadline)
{
    int left = remaining(deadline);
    if (left < 0)
        return;
    if (left == 0)
        left = 1;
    struct timeval t = { left / 1000, left % 1000 * 1000 };
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
}

static int
connect_socket(struct kaiten *k, int64_t deadline)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    if (!find_path(k, to.sun_path, sizeof to.sun_path))
        return client_fail(k, KAITEN_EUSAGE, "the path of the socket is longer than %zu bytes",
                           sizeof to.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return client_fail(k, KAITEN_ECONNECT, "no socket: %s", strerror(errno));
    limit_connect(fd, deadline);
    int rc;
    do
        rc = connect(fd, (struct sockaddr *)&to, sizeof to);
    while (rc != 0 && errno == EINTR && remaining(deadline) != 0);
    if (rc != 0) {
        int error = errno;
        close(fd);
        return client_fail(k, KAITEN_ECONNECT, "%s: %s", to.sun_path,
                           error == EAGAIN ? "the server is too busy to accept" : strerror(error));
    }
    k->fd = fd;
    return 0;
}

/* Errors as whole problems from now on (RFC 9457); everything else is the server's default. It
 * leaves with the first request, or alone when its answer is waited for. */
static void
greet(struct kaiten *k)
{
    k->greeting = request_begin(k, &k->out, "kaiten.hello", 2);
    request_str(&k->out, "client", KT_LIT("libkaiten/" PACKAGE_VERSION));
    request_str(&k->out, "errors", KT_LIT("problem"));
    request_end(k, &k->out);
    k->greeted = false;
}

static int
greeting_answered(struct kaiten *k, const struct kt_value *message)
{
    uint32_t answered;
    const struct kt_value *refusal, *result;
    if (!reply_parse(message, &answered, &refusal, &result) || answered != k->greeting)
        return wire_garbage(k, "not the reply to the greeting");
    int error = refusal->type == KT_V_NULL ? 0 : client_refused(k, refusal);
    wire_release(k);
    k->greeted = !error;
    if (error)
        wire_close(k, error);
    return error;
}

/* Nothing may come while nothing is asked: what is readable now is an end of file, or garbage. */
static bool
is_stale(const struct kaiten *k)
{
    char byte;
    ssize_t n = recv(k->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

int
wire_connect(struct kaiten *k, int64_t deadline)
{
    if (k->fd >= 0 && k->in_flight == 0 && is_stale(k))
        wire_close(k, 0);
    if (k->fd >= 0)
        return 0;
    int error = connect_socket(k, deadline);
    if (!error)
        greet(k);
    return error;
}

/* --- sending and receiving ---------------------------------------------------------------- */

/* 0: took something in. EAGAIN: nothing there. Else: lost, or too much. */
static int
receive(struct kaiten *k)
{
    char *room = kt_buf_reserve(&k->in, READ_SIZE);
    if (!room)
        return ENOMEM;
    ssize_t n = recv(k->fd, room, READ_SIZE, MSG_DONTWAIT);
    if (n == 0)
        return ECONNRESET;
    if (n < 0)
        return errno == EINTR || errno == EWOULDBLOCK ? EAGAIN : errno;
    k->in.n += (size_t)n;
    return 0;
}

static int
no_room(struct kaiten *k)
{
    wire_close(k, KAITEN_EMEMORY);
    return client_fail(k, KAITEN_EMEMORY, "no memory for the server's answers");
}

static void
sent_all(struct kaiten *k)
{
    kt_wipe(k->out.p, k->out.n);
    kt_buf_reset(&k->out);
    k->sent = 0;
}

/* A message that did not leave whole cannot have been carried out. */
static int
unsent(struct kaiten *k, int error)
{
    wire_close(k, KAITEN_ELOST);
    return client_fail(k, KAITEN_ECONNECT, "the server closed the connection: %s",
                       strerror(error));
}

static int
wait_to_send(struct kaiten *k, int64_t deadline)
{
    struct pollfd p = { .fd = k->fd, .events = POLLIN | POLLOUT };
    if (poll(&p, 1, remaining(deadline)) == 0) {
        wire_close(k, KAITEN_ELOST);
        return timed_out(k);
    }
    if (!(p.revents & POLLIN))
        return 0;
    int error = receive(k);
    if (error == ENOMEM)
        return no_room(k);
    return error == 0 || error == EAGAIN ? 0 : unsent(k, error);
}

int
wire_flush(struct kaiten *k, int64_t deadline)
{
    if (k->out.failed)
        return no_room(k);
    while (k->sent < k->out.n) {
        ssize_t n = send(k->fd, k->out.p + k->sent, k->out.n - k->sent,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            k->sent += (size_t)n;
            continue;
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            return unsent(k, errno);
        int error = wait_to_send(k, deadline);
        if (error)
            return error;
    }
    sent_all(k);
    return 0;
}

/* Brings the beginning of the next message to the beginning of the buffer. */
static void
compact(struct kaiten *k)
{
    if (k->start == 0)
        return;
    size_t n = k->in.n - k->start;
    memmove(k->in.p, k->in.p + k->start, n);
    kt_wipe(k->in.p + n, k->in.n - n);
    k->in.n = n;
    k->start = 0;
}

static int
wait_to_read(struct kaiten *k, int64_t deadline)
{
    struct pollfd p = { .fd = k->fd, .events = POLLIN };
    if (poll(&p, 1, remaining(deadline)) == 0)
        return timed_out(k);
    compact(k);
    int error = receive(k);
    if (error == ENOMEM)
        return no_room(k);
    return error == 0 || error == EAGAIN ? 0 : lost(k, error == ECONNRESET ? 0 : error);
}

/* Most messages come whole. What has come in part is scanned on, and read when it is whole. */
static enum kt_frame
read_frame(struct kaiten *k, struct kt_str bytes, struct kt_value *ret_message, size_t *ret_len,
           const char **ret_why)
{
    const struct kt_pack_limits *limits = &wire_reply_limits;
    enum kt_frame frame;
    if (k->scan.pos == 0) {
        frame = kt_pack_read(bytes, limits, &k->arena, ret_message, ret_len, ret_why);
        return frame != KT_FRAME_MORE ? frame
                                      : kt_pack_scan(bytes, limits, &k->scan, ret_len, ret_why);
    }
    frame = kt_pack_scan(bytes, limits, &k->scan, ret_len, ret_why);
    return frame != KT_FRAME_DONE
               ? frame
               : kt_pack_read(bytes, limits, &k->arena, ret_message, ret_len, ret_why);
}

static int
next_message(struct kaiten *k, int64_t deadline, struct kt_value *ret_message)
{
    wire_release(k);
    for (;;) {
        struct kt_str bytes = { k->in.p + k->start, k->in.n - k->start };
        size_t len;
        const char *why;
        enum kt_frame frame = KT_FRAME_MORE;
        if (bytes.n)
            frame = read_frame(k, bytes, ret_message, &len, &why);
        if (frame == KT_FRAME_BAD)
            return wire_garbage(k, why);
        if (frame == KT_FRAME_DONE) {
            k->message = len;
            return 0;
        }
        /* Requests are sent when there is nothing left to read: many leave at once. */
        bool unsent_bytes = k->out.failed || k->sent < k->out.n;
        int error = unsent_bytes ? wire_flush(k, deadline) : wait_to_read(k, deadline);
        if (error)
            return error;
    }
}

/* Until then nothing that was sent has been carried out, or it changes nothing. */
static int
hear_greeting(struct kaiten *k, int64_t deadline)
{
    struct kt_value message;
    int error = next_message(k, deadline, &message);
    if (!error)
        return greeting_answered(k, &message);
    if (error == KAITEN_ELOST)
        return client_fail(k, KAITEN_ECONNECT, "the server closed the connection at once");
    return error;
}

int
wire_read(struct kaiten *k, int64_t deadline, struct kt_value *ret_message)
{
    int error = k->greeted ? 0 : hear_greeting(k, deadline);
    return error ? error : next_message(k, deadline, ret_message);
}

int
wire_open(struct kaiten *k, int64_t deadline)
{
    int error = wire_connect(k, deadline);
    if (error || k->greeted)
        return error;
    error = hear_greeting(k, deadline);
    if (error)
        wire_close(k, error);
    return error;
}

void
wire_release(struct kaiten *k)
{
    if (!k->message)
        return;
    kt_wipe(k->in.p + k->start, k->message);
    k->start += k->message;
    k->message = 0;
    memset(&k->scan, 0, sizeof k->scan);
    if (k->start == k->in.n) {
        kt_buf_reset(&k->in);
        k->start = 0;
    }
}
