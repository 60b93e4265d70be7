/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/plugin/check.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { HUGE = 1 << 20, THREADS = 4, CALLS = 300 };

static bool
auth_open(struct check *c, void **ret_instance)
{
    struct kaiten_err err;
    fake_err_init(&err);
    fake_host_in_open(true);
    enum kaiten_status status = c->auth.open(fake_host(), c->config, ret_instance, &err);
    fake_host_in_open(false);
    return status == KAITEN_DONE || check_fail("open returned %d: %s", (int)status, err.text);
}

/* Credentials that nobody has issued. */
static size_t
garbage(struct check *c, size_t i, struct kaiten_bytes *ret_credential)
{
    static const char *const texts[] = {
        "",
        "x",
        " ",
        "...",
        "a.b.c",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "eyJhbGciOiJSUzI1NiIsImtpZCI6Ii4uLy4uL2V0Yy9wYXNzd2QifQ.e30.AAAA",
        "ksh_",
        "ksh_0000000000000000000000000000000000000000000000",
        "\xff\xfe\xfd not UTF-8 \xc0\x80",
        "%s%s%s%s%n",
    };
    enum { TEXTS = sizeof texts / sizeof *texts };
    if (i < TEXTS)
        *ret_credential = check_text(texts[i]);
    else if (i == TEXTS)
        *ret_credential = (struct kaiten_bytes){ "ksh_\0hidden.a.b", 15 };
    else if (i == TEXTS + 1)
        *ret_credential = check_filled(c, 'A', HUGE);
    else if (i == TEXTS + 2)
        *ret_credential = check_filled(c, '.', HUGE);
    else {
        struct kaiten_bytes noise = check_filled(c, 0, 200);
        fake_host()->random((void *)noise.p, noise.n);
        *ret_credential = noise;
    }
    return TEXTS + 4; /* how many there are */
}

/* One call and what the ABI says of its answer. */
static bool
identify(struct check *c, void *instance, const struct kaiten_caller *caller,
         struct kaiten_sink *sink, enum kaiten_verdict *ret_verdict)
{
    struct kaiten_err err;
    fake_err_init(&err);
    enum kaiten_verdict verdict = c->auth.identify(instance, caller, sink, &err);
    EXPECT(verdict == KAITEN_KNOWN || verdict == KAITEN_REFUSED || verdict == KAITEN_NOT_MINE ||
           verdict == KAITEN_BROKEN);
    if (sink->problem[0])
        return check_fail("the principal's %s is not as the header says", sink->problem);
    if (verdict == KAITEN_KNOWN)
        EXPECT(sink->principals + sink->tokens == 1);
    if (verdict == KAITEN_REFUSED || verdict == KAITEN_BROKEN)
        EXPECT(err.text[0]);
    if (caller->credential.n >= 16) {
        EXPECT(!fake_host_logged(caller->credential.p, caller->credential.n));
        EXPECT(!memmem(err.text, strlen(err.text), caller->credential.p, caller->credential.n));
    }
    *ret_verdict = verdict;
    return true;
}

static struct kaiten_caller
caller_http(struct kaiten_bytes credential)
{
    return (struct kaiten_caller){ .size = sizeof(struct kaiten_caller),
                                   .listener = KAITEN_LISTENER_HTTP,
                                   .credential = credential,
                                   .remote = "192.0.2.1" };
}

static struct kaiten_caller
caller_socket(struct kaiten_bytes credential, bool has_peer)
{
    return (struct kaiten_caller){ .size = sizeof(struct kaiten_caller),
                                   .listener = KAITEN_LISTENER_SOCKET,
                                   .has_peer = has_peer,
                                   .uid = 65533, /* nobody's: no rule should know it */
                                   .gid = 65533,
                                   .pid = 1,
                                   .credential = credential };
}

static bool
auth_life(struct check *c)
{
    for (int i = 0; i < 3; i++) {
        void *instance;
        EXPECT(auth_open(c, &instance));
        c->auth.close(instance);
    }
    return true;
}

static bool
auth_garbage(struct check *c)
{
    void *instance;
    EXPECT(auth_open(c, &instance));
    struct kaiten_bytes credential;
    size_t n = garbage(c, 0, &credential);
    for (size_t i = 0; i < n; i++) {
        garbage(c, i, &credential);
        struct kaiten_caller callers[] = { caller_http(credential),
                                           caller_socket(credential, true),
                                           caller_socket(credential, false) };
        for (size_t k = 0; k < 3; k++) {
            struct kaiten_sink sink;
            enum kaiten_verdict verdict;
            fake_sink_init(&sink);
            if (!identify(c, instance, &callers[k], &sink, &verdict))
                return check_fail("with credential %zu, caller %zu", i, k);
            /* Over HTTP there is nothing but the credential. */
            EXPECT(k != 0 || verdict != KAITEN_KNOWN);
            EXPECT(k != 2 || verdict != KAITEN_KNOWN);
        }
    }
    c->auth.close(instance);
    return true;
}

/* A credential is not readable beyond its length, and need not end in a NUL. */
static bool
auth_exact_length(struct check *c)
{
    void *instance;
    EXPECT(auth_open(c, &instance));
    for (size_t n = 0; n < 100; n++) {
        char *exact = malloc(n ? n : 1);
        EXPECT(exact);
        memset(exact, 'k', n ? n : 1);
        struct kaiten_caller caller = caller_http((struct kaiten_bytes){ exact, n });
        struct kaiten_sink sink;
        enum kaiten_verdict verdict;
        fake_sink_init(&sink);
        bool good = identify(c, instance, &caller, &sink, &verdict);
        free(exact);
        EXPECT(good && verdict != KAITEN_KNOWN);
    }
    c->auth.close(instance);
    return true;
}

/* The sink takes nothing, so the answer must not be KNOWN, whoever it is. */
static bool
auth_sink_refuses(struct check *c)
{
    static const char token[] = "ksh_0123456789012345678901234567890123456789012345";
    void *instance;
    EXPECT(auth_open(c, &instance));
    fake_host_token(token);
    struct kaiten_caller callers[] = { caller_http(check_text(token)),
                                       caller_socket(check_text(token), true),
                                       caller_socket((struct kaiten_bytes){ NULL, 0 }, true) };
    for (size_t i = 0; i < 3; i++) {
        struct kaiten_sink sink;
        enum kaiten_verdict verdict;
        fake_sink_init(&sink);
        sink.refuse = true;
        EXPECT(identify(c, instance, &callers[i], &sink, &verdict));
        EXPECT(verdict != KAITEN_KNOWN);
    }
    c->auth.close(instance);
    return true;
}

/* A plugin that asks for tokens takes the answer as it is. */
static bool
auth_token(struct check *c)
{
    /* 40 letters and their checksum would be checked by the daemon, which says yes here. */
    static const char token[] = "ksh_0123456789012345678901234567890123456789012345";
    void *instance;
    EXPECT(auth_open(c, &instance));
    fake_host_token(token);
    struct kaiten_caller caller = caller_http(check_text(token));
    struct kaiten_sink sink;
    enum kaiten_verdict verdict;
    fake_sink_init(&sink);
    EXPECT(identify(c, instance, &caller, &sink, &verdict));
    EXPECT((sink.tokens == 1) == (verdict == KAITEN_KNOWN));
    c->auth.close(instance);
    return true;
}

/* Files are read again by a thread of the plugin, while callers are judged and when it ends. */
static bool
auth_reload(struct check *c)
{
    void *instance;
    if (!c->auth.reload)
        return true;
    EXPECT(auth_open(c, &instance));
    for (int i = 0; i < CALLS; i++) {
        struct kaiten_caller caller = caller_http(check_text("eyJhbGciOiJub25lIn0.e30."));
        struct kaiten_sink sink;
        enum kaiten_verdict verdict;
        fake_sink_init(&sink);
        c->auth.reload(instance);
        EXPECT(identify(c, instance, &caller, &sink, &verdict) && verdict != KAITEN_KNOWN);
    }
    c->auth.close(instance);
    return true;
}

struct load {
    struct check *c;
    void *instance;
    pthread_mutex_t mutex;
    struct kaiten_caller callers[3];
    atomic_bool failed;
};

static void *
load_run(void *arg)
{
    struct load *load = arg;
    bool locks = load->c->auth.threads == KAITEN_THREADS_SERIAL;
    for (size_t i = 0; i < CALLS && !atomic_load(&load->failed); i++) {
        struct kaiten_sink sink;
        enum kaiten_verdict verdict;
        fake_sink_init(&sink);
        if (locks)
            pthread_mutex_lock(&load->mutex);
        bool good = identify(load->c, load->instance, &load->callers[i % 3], &sink, &verdict);
        if (locks)
            pthread_mutex_unlock(&load->mutex);
        if (!good)
            atomic_store(&load->failed, true);
    }
    return NULL;
}

static bool
auth_threads(struct check *c)
{
    struct load load = { .c = c, .mutex = PTHREAD_MUTEX_INITIALIZER };
    EXPECT(auth_open(c, &load.instance));
    load.callers[0] = caller_http(check_text("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0."));
    load.callers[1] = caller_http(check_text("ksh_not a token of anybody"));
    load.callers[2] = caller_socket((struct kaiten_bytes){ NULL, 0 }, true);
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        EXPECT(pthread_create(&threads[i], NULL, load_run, &load) == 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    c->auth.close(load.instance);
    return !atomic_load(&load.failed);
}

const struct check_case cases_auth[] = {
    { "open, close: any number of times", auth_life, NEED_AUTH },
    { "identify: garbage gets a listed verdict and a reason, and is neither known nor logged",
      auth_garbage, NEED_AUTH },
    { "identify: reads the credential's bytes and no others", auth_exact_length, NEED_AUTH },
    { "identify: what the sink refuses is never KAITEN_KNOWN", auth_sink_refuses, NEED_AUTH },
    { "identify: KAITEN_KNOWN if and only if host->token() said so", auth_token, NEED_AUTH },
    { "reload: any number of times, beside identify and before close", auth_reload, NEED_AUTH },
    { "threads: identify at the declared level", auth_threads, NEED_AUTH },
    { NULL, NULL, 0 },
};
