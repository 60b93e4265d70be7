/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A store that several daemons share: the client of tests/system/shared_store.py, which can be made
 * to fail in every way that a database behind a network does. */
#include "config.h"

#include "plugins/kaiten-storage.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CONNS = 8, MESSAGE_MAX = 256 * 1024 * 1024 };

struct buffer {
    unsigned char *p;
    size_t n, room;
};

struct shared {
    struct kaiten_host host;
    struct sockaddr_un address;
    int64_t timeout_ms;
    pthread_mutex_t lock;
    pthread_cond_t freed;
    int fds[CONNS]; /* -1: not connected */
    bool taken[CONNS];
    pthread_t listener;
    int listener_fd;
    int end[2]; /* closed by close() */
};

/* --- messages ----------------------------------------------------------------------------- */

static void
put(struct buffer *b, const void *p, size_t n)
{
    if (b->n + n > b->room) {
        b->room = 2 * (b->n + n);
        b->p = realloc(b->p, b->room);
        if (!b->p)
            abort();
    }
    if (n != 0)
        memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void
put_u8(struct buffer *b, uint8_t v)
{
    put(b, &v, sizeof v);
}

static void
put_u32(struct buffer *b, uint32_t v)
{
    put(b, &v, sizeof v);
}

static void
put_u64(struct buffer *b, uint64_t v)
{
    put(b, &v, sizeof v);
}

static void
put_bytes(struct buffer *b, struct kaiten_bytes bytes)
{
    put_u32(b, (uint32_t)bytes.n);
    put(b, bytes.p, bytes.n);
}

static struct buffer
begin(char kind)
{
    struct buffer b = { NULL, 0, 0 };
    put_u32(&b, 0); /* the length, once it is known */
    put_u8(&b, (uint8_t)kind);
    return b;
}

struct reader {
    const unsigned char *p, *end;
};

static void
take(struct reader *r, void *out, size_t n)
{
    if ((size_t)(r->end - r->p) < n)
        abort();
    memcpy(out, r->p, n);
    r->p += n;
}

static uint32_t
take_u32(struct reader *r)
{
    uint32_t v;
    take(r, &v, sizeof v);
    return v;
}

static uint64_t
take_u64(struct reader *r)
{
    uint64_t v;
    take(r, &v, sizeof v);
    return v;
}

static struct kaiten_bytes
take_bytes(struct reader *r)
{
    uint32_t n = take_u32(r);
    if ((size_t)(r->end - r->p) < n)
        abort();
    r->p += n;
    return (struct kaiten_bytes){ r->p - n, n };
}

/* --- connections -------------------------------------------------------------------------- */

static int64_t
now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int
dial(const struct shared *s)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&s->address, sizeof s->address) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static size_t
take_conn(struct shared *s)
{
    size_t i;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        for (i = 0; i < CONNS && s->taken[i]; i++)
            ;
        if (i < CONNS)
            break;
        pthread_cond_wait(&s->freed, &s->lock);
    }
    s->taken[i] = true;
    pthread_mutex_unlock(&s->lock);
    if (s->fds[i] < 0)
        s->fds[i] = dial(s);
    return i;
}

static void
give_conn(struct shared *s, size_t i, bool broken)
{
    if (broken && s->fds[i] >= 0) {
        close(s->fds[i]);
        s->fds[i] = -1;
    }
    pthread_mutex_lock(&s->lock);
    s->taken[i] = false;
    pthread_cond_signal(&s->freed);
    pthread_mutex_unlock(&s->lock);
}

static bool
wait_fd(int fd, short events, int64_t until)
{
    struct pollfd p = { fd, events, 0 };
    int64_t left = until - now_ms();
    return left > 0 && poll(&p, 1, left > 60000 ? 60000 : (int)left) == 1;
}

static bool
send_all(int fd, const struct buffer *b, int64_t until)
{
    for (size_t at = 0; at < b->n;) {
        ssize_t n = send(fd, b->p + at, b->n - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            at += (size_t)n;
        else if (n == 0 || (errno != EAGAIN && errno != EINTR) || !wait_fd(fd, POLLOUT, until))
            return false;
    }
    return true;
}

static bool
recv_all(int fd, unsigned char *p, size_t size, int64_t until)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = recv(fd, p + at, size - at, MSG_DONTWAIT);
        if (n > 0)
            at += (size_t)n;
        else if (n == 0 || (errno != EAGAIN && errno != EINTR) || !wait_fd(fd, POLLIN, until))
            return false;
    }
    return true;
}

static bool
receive(int fd, struct buffer *answer, int64_t until)
{
    uint32_t n;
    if (!recv_all(fd, (unsigned char *)&n, sizeof n, until) || n == 0 || n > MESSAGE_MAX)
        return false;
    answer->p = malloc(n);
    answer->n = n;
    return answer->p && recv_all(fd, answer->p, n, until);
}

/* Sends the question, and frees it; the status is the first byte of the answer. lost: what it is
 * when the question may have arrived, and no answer came. */
static enum kaiten_status
ask(struct shared *s, struct buffer *question, enum kaiten_status lost, struct buffer *answer,
    struct kaiten_err *err)
{
    int64_t left = s->host.deadline(), until;
    uint32_t n = (uint32_t)(question->n - sizeof n);
    enum kaiten_status status = KAITEN_RETRY;
    memcpy(question->p, &n, sizeof n);
    *answer = (struct buffer){ NULL, 0, 0 };
    until = now_ms() + (left < s->timeout_ms ? left : s->timeout_ms);
    size_t i = take_conn(s);
    if (s->fds[i] >= 0)
        status = send_all(s->fds[i], question, until) && receive(s->fds[i], answer, until)
                     ? (enum kaiten_status)answer->p[0]
                     : lost;
    give_conn(s, i, answer->n == 0 || status == lost);
    if (status != KAITEN_DONE)
        s->host.error(err, "the shared store does not answer");
    free(question->p);
    return status;
}

static enum kaiten_status
emit_rows(struct shared *s, struct reader *r, struct kaiten_emit *emit)
{
    uint32_t n = take_u32(r);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t here;
        struct kaiten_bytes key = take_bytes(r);
        take(r, &here, sizeof here);
        struct kaiten_bytes value = take_bytes(r);
        if (!here)
            value = (struct kaiten_bytes){ NULL, 0 };
        if (!s->host.row(emit, key, value, take_u64(r)))
            break;
    }
    return KAITEN_DONE;
}

static enum kaiten_status
ask_rows(struct shared *s, struct buffer *question, struct kaiten_emit *emit,
         struct kaiten_err *err)
{
    struct buffer answer;
    enum kaiten_status status = ask(s, question, KAITEN_RETRY, &answer, err);
    struct reader r = { answer.p + 1, answer.p + answer.n };
    if (status == KAITEN_DONE)
        status = emit_rows(s, &r, emit);
    free(answer.p);
    return status;
}

/* --- the plugin --------------------------------------------------------------------------- */

/* Notices: a byte for whatever anybody has written. They are lost while nobody is connected. */
static void *
listen_main(void *arg)
{
    struct shared *s = arg;
    struct pollfd p[2] = { { s->end[0], POLLIN, 0 }, { s->listener_fd, POLLIN, 0 } };
    char bytes[64];
    while (poll(p, 2, -1) > 0 && p[0].revents == 0) {
        if (recv(s->listener_fd, bytes, sizeof bytes, MSG_DONTWAIT) == 0)
            p[1].fd = -1;
        else
            s->host.changed(s, (struct kaiten_bytes){ NULL, 0 }, 0);
    }
    return NULL;
}

static bool
start_listener(struct shared *s)
{
    struct buffer hello = begin('n');
    uint32_t n = 1;
    memcpy(hello.p, &n, sizeof n);
    s->listener_fd = dial(s);
    bool ok = s->listener_fd >= 0 && send_all(s->listener_fd, &hello, INT64_MAX) &&
              pipe(s->end) == 0 && pthread_create(&s->listener, NULL, listen_main, s) == 0;
    free(hello.p);
    return ok;
}

static enum kaiten_status
shared_open(const struct kaiten_host *host, const struct kaiten_config *config,
            void **ret_instance, struct kaiten_err *err)
{
    struct shared *s = calloc(1, sizeof *s);
    const char *path = host->get_string(config, "socket");
    if (!s || strlen(path) >= sizeof s->address.sun_path) {
        host->error(err, "no memory, or a path that is too long");
        free(s);
        return KAITEN_FAILED;
    }
    memcpy(&s->host, host, host->size < sizeof *host ? host->size : sizeof *host);
    s->address.sun_family = AF_UNIX;
    memcpy(s->address.sun_path, path, strlen(path));
    s->timeout_ms = host->get_int(config, "timeout");
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->freed, NULL);
    for (size_t i = 0; i < CONNS; i++)
        s->fds[i] = -1;
    if (start_listener(s)) {
        *ret_instance = s;
        return KAITEN_DONE;
    }
    host->error(err, "%s: %s", path, strerror(errno));
    free(s);
    return KAITEN_FAILED;
}

static void
shared_close(void *instance)
{
    struct shared *s = instance;
    close(s->end[1]);
    pthread_join(s->listener, NULL);
    close(s->end[0]);
    close(s->listener_fd);
    for (size_t i = 0; i < CONNS; i++)
        if (s->fds[i] >= 0)
            close(s->fds[i]);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->freed);
    free(s);
}

static enum kaiten_status
shared_get(void *instance, const struct kaiten_bytes *keys, size_t nkeys,
           struct kaiten_emit *emit, struct kaiten_err *err)
{
    struct buffer b = begin('g');
    put_u32(&b, (uint32_t)nkeys);
    for (size_t i = 0; i < nkeys; i++)
        put_bytes(&b, keys[i]);
    return ask_rows(instance, &b, emit, err);
}

static enum kaiten_status
shared_scan(void *instance, const struct kaiten_range *range, struct kaiten_emit *emit,
            struct kaiten_err *err)
{
    struct buffer b = begin('s');
    put_bytes(&b, range->from);
    put_bytes(&b, range->to);
    put_u8(&b, range->backward);
    put_u64(&b, range->limit);
    return ask_rows(instance, &b, emit, err);
}

static void
put_batch(struct buffer *b, const struct kaiten_batch *batch)
{
    put_u32(b, (uint32_t)batch->nconds);
    for (size_t i = 0; i < batch->nconds; i++) {
        put_u8(b, (uint8_t)batch->conds[i].type);
        put_bytes(b, batch->conds[i].key);
        put_u64(b, batch->conds[i].revision);
    }
    put_u32(b, (uint32_t)batch->nwrites);
    for (size_t i = 0; i < batch->nwrites; i++) {
        put_u8(b, (uint8_t)batch->writes[i].type);
        put_bytes(b, batch->writes[i].key);
        put_bytes(b, batch->writes[i].value);
    }
}

static enum kaiten_status
shared_apply(void *instance, const struct kaiten_batch *batches, size_t n,
             struct kaiten_outcome *outcomes, struct kaiten_err *err)
{
    struct buffer b = begin('a'), answer;
    put_u32(&b, (uint32_t)n);
    for (size_t i = 0; i < n; i++)
        put_batch(&b, &batches[i]);
    enum kaiten_status status = ask(instance, &b, KAITEN_UNKNOWN, &answer, err);
    struct reader r = { answer.p + 1, answer.p + answer.n };
    for (size_t i = 0; status == KAITEN_DONE && i < n; i++) {
        uint8_t said;
        take(&r, &said, sizeof said);
        outcomes[i] = (struct kaiten_outcome){ .status = (enum kaiten_status)said };
        outcomes[i].failed = take_u32(&r);
        outcomes[i].revision = take_u64(&r);
    }
    free(answer.p);
    return status;
}

static enum kaiten_status
shared_changes(void *instance, const struct kaiten_position *since, struct kaiten_bytes spaces,
               struct kaiten_emit *emit, struct kaiten_position *ret_now, struct kaiten_err *err)
{
    struct buffer b = begin('c'), answer;
    put_u8(&b, since != NULL);
    put_u64(&b, since ? since->history : 0);
    put_u64(&b, since ? since->at : 0);
    put_bytes(&b, spaces);
    enum kaiten_status status = ask(instance, &b, KAITEN_RETRY, &answer, err);
    struct reader r = { answer.p + 1, answer.p + answer.n };
    if (status == KAITEN_DONE || status == KAITEN_CONFLICT) {
        ret_now->history = take_u64(&r);
        ret_now->at = take_u64(&r);
    }
    if (status == KAITEN_DONE)
        status = emit_rows(instance, &r, emit);
    free(answer.p);
    return status;
}

static enum kaiten_status
shared_health(void *instance, struct kaiten_err *err)
{
    struct buffer b = begin('h'), answer;
    enum kaiten_status status = ask(instance, &b, KAITEN_RETRY, &answer, err);
    free(answer.p);
    return status;
}

static const struct kaiten_option options[] = {
    { "socket", KAITEN_OPT_STRING, KAITEN_OPT_REQUIRED, NULL, 0, 0, "Where the store listens." },
    { "timeout", KAITEN_OPT_DURATION, 0, "2s", 10, 60000, "How long it may take to answer." },
    { .name = NULL },
};

KAITEN_STORAGE_SYMBOL(shared) = {
    .size = sizeof(struct kaiten_storage),
    .abi = KAITEN_STORAGE_ABI,
    .threads = KAITEN_THREADS_PARALLEL,
    .caps = KAITEN_STORAGE_DURABLE | KAITEN_STORAGE_NOTICES | KAITEN_STORAGE_OUTSIDE_WRITERS,
    .name = "shared",
    .version = PACKAGE_VERSION,
    .summary = "A store for tests that several daemons share",
    .options = options,
    .open = shared_open,
    .close = shared_close,
    .get = shared_get,
    .scan = shared_scan,
    .apply = shared_apply,
    .changes = shared_changes,
    .health = shared_health,
};
