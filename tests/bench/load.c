/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/bench/cost.h"
#include "tests/bench/histogram.h"
#include "tests/bench/speech.h"
#include "tests/bench/wire.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* One thread and one epoll for every protocol, so that each server is asked by the same client. */

enum { DEPTH_MAX = 64, CONNECTIONS_MAX = 16384, IN_MAX = 64 * 1024, EVENTS = 64 };

static const struct speech *const speeches[] = {
    &speech_kaiten_verify,     &speech_kaiten_verify_many, &speech_kaiten_judge,
    &speech_kaiten_dead,       &speech_kaiten_mint,        &speech_kaiten_revoke_all,
    &speech_redis_get,         &speech_redis_mget,         &speech_redis_set,
    &speech_redis_mint,        &speech_postgres_mint,      &speech_http_validate,
    &speech_http_mint,         &speech_munge,              &speech_memcached_get,
    &speech_memcached_set,
};

struct options {
    const struct speech *speech;
    const char *to;
    struct talk_options talk;
    size_t connections, depth;
    uint64_t count; /* answers to wait for; 0: as many as come in time */
    double seconds;
    bool tls, once, hold;
    pid_t pid; /* of the server, or of its first process; 0: unknown */
};

struct connection {
    struct wire wire;
    struct note note;
    unsigned leg;
    size_t in_n, out_n, out_sent;
    size_t waiting;             /* requests that were not answered */
    size_t first;               /* of those, in asked_at */
    uint64_t asked_at[DEPTH_MAX]; /* ns; a ring */
    char in[IN_MAX];
    char out[DEPTH_MAX * SPEECH_ASK_MAX];
};

struct run {
    const struct options *o;
    struct talk talk;
    struct histogram latencies;
    int epoll;
    bool measuring;
    uint64_t answers; /* while measuring */
    uint64_t left;    /* requests still to be asked, when they are counted */
};

_Noreturn void
die(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("load: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static uint64_t
now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- connections -------------------------------------------------------------------------- */

static void
connection_open(struct run *run, struct connection *c)
{
    const struct options *o = run->o;
    if (!wire_open(&c->wire, o->to, o->tls))
        die("%s: %s", o->to, strerror(errno));
    if (o->speech->greet)
        o->speech->greet(c->wire.fd);
    wire_unblock(&c->wire);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };
    if (epoll_ctl(run->epoll, EPOLL_CTL_ADD, c->wire.fd, &event) != 0)
        die("epoll: %s", strerror(errno));
}

static struct connection *
connection_new(struct run *run)
{
    struct connection *c = calloc(1, sizeof *c);
    if (!c)
        die("no memory");
    connection_open(run, c);
    return c;
}

static void
flush(struct run *run, struct connection *c)
{
    bool was_full = c->out_sent > 0;
    ssize_t sent = wire_send(&c->wire, c->out + c->out_sent, c->out_n - c->out_sent);
    if (sent < 0 && errno != EAGAIN)
        die("send: %s", strerror(errno));
    if (sent > 0)
        c->out_sent += (size_t)sent;
    bool is_full = c->out_sent < c->out_n;
    if (!is_full)
        c->out_sent = c->out_n = 0;
    if (is_full == was_full)
        return;
    struct epoll_event event = { .events = is_full ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c };
    epoll_ctl(run->epoll, EPOLL_CTL_MOD, c->wire.fd, &event);
}

/* Asks until as many requests wait as may; all of them leave together. */
static void
ask(struct run *run, struct connection *c, uint64_t now)
{
    const struct options *o = run->o;
    if (c->out_sent > 0)
        return;
    run->talk.note = &c->note;
    while (c->waiting < o->depth && (o->count == 0 || run->left > 0 || c->leg > 0)) {
        c->out_n += o->speech->ask(&run->talk, c->out + c->out_n);
        size_t at = (c->first + c->waiting++) % DEPTH_MAX;
        if (c->leg > 0)
            continue;
        c->asked_at[at] = now;
        run->left--;
    }
    if (c->out_n > 0)
        flush(run, c);
}

static void
answered(struct run *run, struct connection *c, uint64_t now)
{
    c->waiting--;
    if (++c->leg < run->o->speech->legs)
        return;
    c->leg = 0;
    uint64_t asked_at = c->asked_at[c->first++ % DEPTH_MAX];
    if (!run->measuring)
        return;
    run->answers++;
    histogram_add(&run->latencies, now - asked_at);
}

static _Noreturn void
die_of_answer(const struct speech *speech, const char *p, size_t n)
{
    char text[400];
    if (n > sizeof text)
        n = sizeof text;
    for (size_t i = 0; i < n; i++)
        text[i] = p[i] >= ' ' && p[i] <= '~' ? p[i] : '.';
    die("%s: a wrong answer: %.*s", speech->name, (int)n, text);
}

static void
hear(struct run *run, struct connection *c, uint64_t now)
{
    size_t at = 0;
    run->talk.note = &c->note;
    while (at < c->in_n) {
        ssize_t len = run->o->speech->hear(&run->talk, c->in + at, c->in_n - at);
        if (len < 0)
            die_of_answer(run->o->speech, c->in + at, c->in_n - at);
        if (len == 0)
            break;
        if (c->waiting == 0)
            die("%s: an answer to nothing", run->o->speech->name);
        answered(run, c, now);
        at += (size_t)len;
    }
    if (at < c->in_n && at > 0)
        memmove(c->in, c->in + at, c->in_n - at);
    c->in_n -= at;
}

/* False: there is nothing now. */
static bool
take(struct run *run, struct connection *c, uint64_t *now)
{
    ssize_t got = wire_read(&c->wire, c->in + c->in_n, sizeof c->in - c->in_n);
    if (got < 0 && errno == EAGAIN)
        return false;
    if (got <= 0)
        die("%s: the server hung up", run->o->speech->name);
    c->in_n += (size_t)got;
    *now = now_ns();
    hear(run, c, *now);
    return true;
}

static void
serve(struct run *run, struct connection *c, uint32_t events)
{
    uint64_t now;
    if (events & EPOLLOUT)
        flush(run, c);
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)) || !take(run, c, &now))
        return;
    while (wire_has_more(&c->wire) && take(run, c, &now))
        continue;
    if (run->o->once && c->waiting == 0) {
        wire_close(&c->wire);
        connection_open(run, c);
    }
    ask(run, c, now);
}

/* --- one run ------------------------------------------------------------------------------ */

static void
turn(struct run *run)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(run->epoll, events, EVENTS, 5000);
    if (n < 0 && errno != EINTR)
        die("epoll: %s", strerror(errno));
    if (n == 0)
        die("%s: no answer for 5 seconds", run->o->speech->name);
    for (int i = 0; i < n; i++)
        serve(run, events[i].data.ptr, events[i].events);
}

static void
run_for(struct run *run, double seconds)
{
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    while (now_ns() < end)
        turn(run);
}

/* client_us and server_us: processor time for one answer, whoever else wants the processors. */
static void
print(const struct run *run, double seconds, double client, double server)
{
    const struct histogram *h = &run->latencies;
    unsigned units = run->o->speech->units;
    double answers = (double)run->answers * (units > 0 ? units : 1);
    printf("{\"speech\": \"%s\", \"answers\": %llu, \"seconds\": %.6f, \"per_second\": %.1f, "
           "\"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, "
           "\"client_us\": %.3f, \"server_us\": %.3f}\n",
           run->o->speech->name, (unsigned long long)run->answers, seconds,
           answers / seconds, (double)histogram_at(h, 0.5) / 1e3,
           (double)histogram_at(h, 0.99) / 1e3, (double)histogram_at(h, 0.999) / 1e3,
           (double)histogram_at(h, 1) / 1e3, client * 1e6 / answers,
           server * 1e6 / answers);
}

static void
measure(struct run *run)
{
    const struct options *o = run->o;
    if (o->count == 0)
        run_for(run, o->seconds / 8); /* until caches and buffers are what they will be */
    double client = cost_own_cpu(), server = cost_server_cpu(o->pid);
    uint64_t start = now_ns();
    run->measuring = true;
    if (o->count == 0)
        run_for(run, o->seconds);
    while (run->answers < o->count)
        turn(run);
    double seconds = (double)(now_ns() - start) / 1e9;
    print(run, seconds, cost_own_cpu() - client, cost_server_cpu(o->pid) - server);
}

/* Connections that have been used once and do nothing. */
static void
hold(struct run *run, long before)
{
    run->measuring = true;
    while (run->answers < run->o->connections)
        turn(run);
    printf("{\"connections\": %zu, \"rss_before\": %ld, \"rss_after\": %ld}\n",
           run->o->connections, before, cost_server_rss(run->o->pid));
}

static int
load(const struct options *o)
{
    static struct run run;
    run = (struct run){ .o = o, .left = o->count };
    talk_begin(&run.talk, &o->talk);
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    long before = o->hold ? cost_server_rss(o->pid) : 0;
    struct connection **all = calloc(o->connections, sizeof *all);
    if (!all)
        die("no memory");
    for (size_t i = 0; i < o->connections; i++)
        all[i] = connection_new(&run);
    for (size_t i = 0; i < o->connections; i++)
        ask(&run, all[i], now_ns());
    if (o->hold)
        hold(&run, before);
    else
        measure(&run);
    for (size_t i = 0; i < o->connections; i++) {
        wire_close(&all[i]->wire);
        free(all[i]);
    }
    free(all);
    talk_end(&run.talk, &o->talk);
    return 0;
}

/* --- from start to the first right answer ------------------------------------------------- */

static bool
asks_well(const struct options *o, struct talk *t, struct wire *w)
{
    char out[SPEECH_ASK_MAX], in[IN_MAX];
    size_t n = o->speech->ask(t, out), have = 0;
    if (wire_send(w, out, n) != (ssize_t)n)
        return false;
    for (;;) {
        ssize_t got = wire_read(w, in + have, sizeof in - have);
        if (got <= 0)
            return false;
        have += (size_t)got;
        ssize_t len = o->speech->hear(t, in, have);
        if (len != 0)
            return len > 0;
    }
}

static pid_t
spawn(char *const command[])
{
    pid_t pid = fork();
    if (pid < 0)
        die("fork: %s", strerror(errno));
    if (pid > 0)
        return pid;
    dup2(STDERR_FILENO, STDOUT_FILENO); /* who reads our line must not wait for the server's end */
    execvp(command[0], command);
    die("%s: %s", command[0], strerror(errno));
}

/* Prints the seconds and the server's pid, and leaves it running. */
static int
start(const struct options *o, char *const command[])
{
    struct talk talk;
    talk_begin(&talk, &o->talk);
    uint64_t begin = now_ns();
    pid_t pid = spawn(command);
    for (;;) {
        struct wire w;
        bool there = wire_open(&w, o->to, o->tls);
        bool good = there && asks_well(o, &talk, &w);
        if (there)
            wire_close(&w);
        if (good)
            break;
        if (waitpid(pid, NULL, WNOHANG) == pid)
            die("%s ended", command[0]);
        usleep(200);
    }
    printf("{\"seconds\": %.4f, \"pid\": %d}\n", (double)(now_ns() - begin) / 1e9, (int)pid);
    return 0;
}

/* --- command line ------------------------------------------------------------------------- */

static const char usage[] =
    "usage: load SPEECH --to ADDRESS [--tls] [--once] [--keys FILE --width BYTES [--in-order]\n"
    "            [--distinct N]] [--bearer FILE] [--connections N] [--depth N] [--pid PID]\n"
    "            [--ms N | --count N | --hold] [--save FILE]\n"
    "       load SPEECH --to ADDRESS [--keys FILE --width BYTES] -- COMMAND [ARGUMENT ...]\n"
    "\n"
    "Asks as fast as answers come and prints what came of it as one line of JSON. An ADDRESS is a\n"
    "path or 127.0.0.1:PORT. --once: a connection for each request. --hold: each connection asks\n"
    "once and stays; prints the server's memory before and after. With a COMMAND, starts it and\n"
    "prints the seconds until the first right answer; it goes on running.\n"
    "\n"
    "SPEECH:";

static _Noreturn void
refuse_usage(void)
{
    fputs(usage, stderr);
    for (size_t i = 0; i < sizeof speeches / sizeof speeches[0]; i++)
        fprintf(stderr, " %s", speeches[i]->name);
    fputc('\n', stderr);
    exit(2);
}

static const struct speech *
speech_named(const char *name)
{
    for (size_t i = 0; i < sizeof speeches / sizeof speeches[0]; i++)
        if (strcmp(speeches[i]->name, name) == 0)
            return speeches[i];
    return NULL;
}

static uint64_t
number(const char *text, uint64_t max)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || end == text || n == 0 || n > max)
        die("\"%s\" is no number from 1 to %llu", text, (unsigned long long)max);
    return n;
}

static void
parse(int argc, char *argv[], struct options *o)
{
    static const struct option longs[] = {
        { "to", 1, NULL, 'a' },       { "keys", 1, NULL, 'k' },  { "width", 1, NULL, 'w' },
        { "in-order", 0, NULL, 'o' }, { "connections", 1, NULL, 'c' }, { "depth", 1, NULL, 'd' },
        { "ms", 1, NULL, 't' },  { "count", 1, NULL, 'n' }, { "save", 1, NULL, 'f' },
        { "pid", 1, NULL, 'p' },      { "tls", 0, NULL, 's' },   { "once", 0, NULL, '1' },
        { "hold", 0, NULL, 'h' },     { "distinct", 1, NULL, 'D' }, { "bearer", 1, NULL, 'b' },
        { 0 },
    };
    for (int c; (c = getopt_long(argc, argv, "+", longs, NULL)) != -1;)
        switch (c) {
        case 'a': o->to = optarg; break;
        case 'k': o->talk.keys = optarg; break;
        case 'w': o->talk.key_width = number(optarg, 255); break;
        case 'o': o->talk.in_order = true; break;
        case 'c': o->connections = number(optarg, CONNECTIONS_MAX); break;
        case 'd': o->depth = number(optarg, DEPTH_MAX); break;
        case 't': o->seconds = (double)number(optarg, 3600 * 1000) / 1000; break;
        case 'n': o->count = number(optarg, UINT32_MAX); break;
        case 'f': o->talk.save = optarg; break;
        case 'p': o->pid = (pid_t)number(optarg, INT32_MAX); break;
        case 's': o->tls = true; break;
        case '1': o->once = true; break;
        case 'h': o->hold = true; break;
        case 'D': o->talk.distinct = number(optarg, UINT32_MAX); break;
        case 'b': o->talk.bearer = optarg; break;
        default: refuse_usage();
        }
}

/* So many descriptors as connections may be wanted. */
static void
raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

int
main(int argc, char *argv[])
{
    struct options o = { .connections = 1, .depth = 1, .seconds = 2, .talk.key_width = 36 };
    o.speech = argc > 1 ? speech_named(argv[1]) : NULL;
    if (!o.speech)
        refuse_usage();
    parse(argc - 1, argv + 1, &o);
    if (!o.to)
        refuse_usage();
    o.once = o.once || o.speech->once;
    if (o.hold)
        o.count = o.connections;
    raise_descriptors();
    char *const *command = argv + 1 + optind;
    return *command ? start(&o, command) : load(&o);
}
