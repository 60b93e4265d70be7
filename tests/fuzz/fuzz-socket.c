/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What a client of the socket may send: the first byte says where the stream is cut in two, the
 * rest is the stream. Whatever comes back is a sequence of whole responses. */
#include "config.h"

#include "tests/unit/socket-bench.h"

enum { STREAM_MAX = 32 * 1024, ANSWERS_MAX = 4 * 1024 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

extern unsigned fuzz_sample;
unsigned fuzz_sample = 4; /* stub-main.c: each run waits for a loop */

static const struct listen_limits limits = { .in_flight_max = 4 };

static void
open_once(void)
{
    if (bench.loops)
        return;
    log_set_level(LOG_LEVEL_ERROR);
    bench.describes = 1000;
    if (!bench_open())
        abort();
    atexit(bench_close);
}

static void
answer_parked(void)
{
    bench_settle();
    while (bench_answer(0))
        bench_settle();
}

static void
say(int fd, const uint8_t *p, size_t n)
{
    if (n > 0 && send(fd, p, n, MSG_NOSIGNAL) < 0)
        return;
    answer_parked();
}

static size_t
hear_all(int fd, char *p)
{
    size_t n = 0;
    for (;;) {
        ssize_t got = recv(fd, p + n, ANSWERS_MAX - n, 0);
        if (got <= 0)
            return n;
        n += (size_t)got;
    }
}

/* No answer may be made up: each is [1, id, error, result], one of the last two nil. */
static void
check(struct kt_str bytes)
{
    static const struct kt_pack_limits roomy = { 1 << 20, 16, 1 << 20, 1 << 20 };
    struct kt_arena arena;
    kt_arena_init(&arena, 1 << 24);
    while (bytes.n) {
        struct kt_value value;
        size_t len;
        const char *why;
        kt_arena_reset(&arena);
        if (kt_pack_read(bytes, &roomy, &arena, &value, &len, &why) != KT_FRAME_DONE ||
            value.type != KT_V_ARRAY || value.array.n != 4 || value.array.v[0].i != 1 ||
            (value.array.v[2].type != KT_V_NULL && value.array.v[3].type != KT_V_NULL))
            abort();
        bytes.p += len;
        bytes.n -= len;
    }
    kt_arena_done(&arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char answers[ANSWERS_MAX];
    if (size < 1 || size > STREAM_MAX)
        return 0;
    open_once();
    size_t n = size - 1, cut = data[0] < n ? data[0] : n;
    int fd = bench_dial(&limits, NULL);
    say(fd, data + 1, cut);
    say(fd, data + 1 + cut, n - cut);
    shutdown(fd, SHUT_WR);
    answer_parked();
    check((struct kt_str){ answers, hear_all(fd, answers) });
    close(fd);
    kt_buf_reset(&bench.calls);
    return 0;
}
