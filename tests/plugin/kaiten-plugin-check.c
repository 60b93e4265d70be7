/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* kaiten-plugin-check: tries every promise of the plugin ABI on one plugin. Each case runs in a
 * process of its own, so that a plugin that crashes or hangs fails one case and not the run. */
#include "config.h"

#include "tests/plugin/check.h"

#include <dlfcn.h>
#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_USAGE = 2, TIMEOUT_S = 120 };

struct chunk {
    struct chunk *next;
};

/* What the command line asked for. */
struct run {
    bool verbose, in_process;
    unsigned timeout;
    const char *only; /* part of a promise; NULL: all */
    unsigned number, passed, failed, skipped;
};

bool
check_fail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    flockfile(stdout);
    printf("# ");
    vprintf(fmt, args);
    printf("\n");
    fflush(stdout);
    funlockfile(stdout);
    va_end(args);
    return false;
}

void *
check_alloc(struct check *c, size_t n)
{
    struct chunk *chunk = calloc(1, sizeof *chunk + n + 1);
    if (!chunk)
        abort();
    chunk->next = c->memory;
    c->memory = chunk;
    return chunk + 1;
}

void
check_free(struct check *c)
{
    while (c->memory) {
        struct chunk *next = c->memory->next;
        free(c->memory);
        c->memory = next;
    }
}

static enum kaiten_status
status_checked(const char *call, enum kaiten_status status, const struct kaiten_err *err)
{
    if (status == KAITEN_DONE)
        return status;
    if (err->text[0] == 0)
        check_fail("%s returned %d and gave no reason to host->error()", call, (int)status);
    else
        check_fail("%s returned %d: %s", call, (int)status, err->text);
    return status;
}

/* Name of the option that says where the store lies, or NULL. */
static const char *
path_option(const struct kaiten_option *options)
{
    for (; options && options->name; options++) {
        if (options->type == KAITEN_OPT_PATH && options->flags & KAITEN_OPT_REQUIRED)
            return options->name;
    }
    return NULL;
}

void
check_path(struct check *c, const char *path)
{
    fake_config_set(c->config, path_option(c->storage.options), path);
}

bool
check_open(struct check *c)
{
    struct kaiten_err err;
    fake_err_init(&err);
    fake_host_in_open(true);
    enum kaiten_status status = c->storage.open(fake_host(), c->config, &c->store, &err);
    fake_host_in_open(false);
    return status_checked("open", status, &err) == KAITEN_DONE;
}

void
check_close(struct check *c)
{
    c->storage.close(c->store);
    c->store = NULL;
}

static void
lock_for(struct check *c, bool write)
{
    if (c->storage.threads == KAITEN_THREADS_SERIAL)
        write = true;
    if (c->storage.threads == KAITEN_THREADS_PARALLEL)
        return;
    if (write)
        pthread_rwlock_wrlock(&c->lock);
    else
        pthread_rwlock_rdlock(&c->lock);
}

static void
unlock(struct check *c)
{
    if (c->storage.threads != KAITEN_THREADS_PARALLEL)
        pthread_rwlock_unlock(&c->lock);
}

enum kaiten_status
check_get(struct check *c, const struct kaiten_bytes *keys, size_t n, struct kaiten_emit *emit)
{
    struct kaiten_err err;
    fake_err_init(&err);
    lock_for(c, false);
    enum kaiten_status status = c->storage.get(c->store, keys, n, emit, &err);
    unlock(c);
    return status_checked("get", status, &err);
}

enum kaiten_status
check_scan(struct check *c, const struct kaiten_range *range, struct kaiten_emit *emit)
{
    struct kaiten_err err;
    fake_err_init(&err);
    lock_for(c, false);
    enum kaiten_status status = c->storage.scan(c->store, range, emit, &err);
    unlock(c);
    return status_checked("scan", status, &err);
}

enum kaiten_status
check_apply(struct check *c, const struct kaiten_batch *batches, size_t n,
            struct kaiten_outcome *outcomes)
{
    struct kaiten_err err;
    fake_err_init(&err);
    lock_for(c, true);
    enum kaiten_status status = c->storage.apply(c->store, batches, n, outcomes, &err);
    unlock(c);
    return status_checked("apply", status, &err);
}

struct kaiten_bytes
check_key_bytes(struct check *c, const void *p, size_t n)
{
    unsigned char *key = check_alloc(c, sizeof c->prefix + n);
    memcpy(key, c->prefix, sizeof c->prefix);
    if (n > 0)
        memcpy(key + sizeof c->prefix, p, n);
    return (struct kaiten_bytes){ key, sizeof c->prefix + n };
}

struct kaiten_bytes
check_key(struct check *c, const char *name)
{
    return check_key_bytes(c, name, strlen(name));
}

struct kaiten_bytes
check_key_number(struct check *c, const char *name, uint64_t number)
{
    char text[64];
    int n = snprintf(text, sizeof text, "%s%012llu", name, (unsigned long long)number);
    return check_key_bytes(c, text, (size_t)n);
}

struct kaiten_bytes
check_text(const char *text)
{
    return (struct kaiten_bytes){ text, strlen(text) };
}

struct kaiten_bytes
check_filled(struct check *c, int byte, size_t n)
{
    void *p = check_alloc(c, n);
    memset(p, byte, n);
    return (struct kaiten_bytes){ p, n };
}

struct whole_batch {
    struct kaiten_batch batch;
    struct kaiten_cond conds[KAITEN_BATCH_CONDS_MAX];
    struct kaiten_write writes[KAITEN_BATCH_WRITES_MAX];
};

struct kaiten_batch *
check_batch(struct check *c)
{
    struct whole_batch *whole = check_alloc(c, sizeof *whole);
    whole->batch.conds = whole->conds;
    whole->batch.writes = whole->writes;
    fake_host()->random(whole->batch.id, sizeof whole->batch.id);
    return &whole->batch;
}

void
check_cond(struct kaiten_batch *batch, enum kaiten_cond_type type, struct kaiten_bytes key,
           uint64_t revision)
{
    struct whole_batch *whole = (struct whole_batch *)batch;
    whole->conds[batch->nconds++] = (struct kaiten_cond){ type, key, revision };
}

void
check_set(struct kaiten_batch *batch, struct kaiten_bytes key, struct kaiten_bytes value)
{
    struct whole_batch *whole = (struct whole_batch *)batch;
    whole->writes[batch->nwrites++] = (struct kaiten_write){ KAITEN_SET, key, value };
}

void
check_delete(struct kaiten_batch *batch, struct kaiten_bytes key)
{
    struct whole_batch *whole = (struct whole_batch *)batch;
    whole->writes[batch->nwrites++] = (struct kaiten_write){ KAITEN_DELETE, key, { NULL, 0 } };
}

struct kaiten_outcome
check_apply_one(struct check *c, const struct kaiten_batch *batch)
{
    struct kaiten_outcome outcome = { .status = KAITEN_FAILED, .failed = 999 };
    enum kaiten_status status = check_apply(c, batch, 1, &outcome);
    if (status != KAITEN_DONE)
        outcome.status = status;
    return outcome;
}

bool
check_put(struct check *c, struct kaiten_bytes key, struct kaiten_bytes value)
{
    struct kaiten_batch *batch = check_batch(c);
    check_set(batch, key, value);
    EXPECT(check_apply_one(c, batch).status == KAITEN_DONE);
    return true;
}

bool
check_read(struct check *c, struct kaiten_bytes key, struct kaiten_emit *ret_emit)
{
    fake_emit_init(ret_emit);
    return check_get(c, &key, 1, ret_emit) == KAITEN_DONE;
}

bool
check_is(struct check *c, struct kaiten_bytes key, const char *text)
{
    struct kaiten_emit emit;
    if (!check_read(c, key, &emit))
        return false;
    bool is = text ? emit.n == 1 && check_compare(emit.rows[0].key, key) == 0 &&
                         check_compare(emit.rows[0].value, check_text(text)) == 0
                   : emit.n == 0;
    fake_emit_done(&emit);
    return is;
}

struct kaiten_range
check_all(struct check *c)
{
    struct kaiten_bytes from = check_key(c, ""), to = check_key(c, "");
    unsigned char *end = (unsigned char *)to.p;
    size_t n = to.n; /* the prefix never ends in 0xff */
    end[n - 1]++;
    return (struct kaiten_range){ .from = from, .to = to };
}

int
check_compare(struct kaiten_bytes a, struct kaiten_bytes b)
{
    size_t least = a.n < b.n ? a.n : b.n;
    int order = least ? memcmp(a.p, b.p, least) : 0;
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

uint64_t
check_random(void)
{
    uint64_t n;
    fake_host()->random(&n, sizeof n);
    return n;
}

static const char *
need_missing(const struct check *c, unsigned needs)
{
    if (needs & NEED_DIRECTORY && !c->directory)
        return "needs a plugin with a required path that is not given";
    if (needs & NEED_DURABLE && !(c->storage.caps & KAITEN_STORAGE_DURABLE))
        return "KAITEN_STORAGE_DURABLE is not claimed";
    if (needs & NEED_HEALTH && !c->storage.health)
        return "health is NULL";
    if (needs & NEED_REVISION && !c->storage.revision)
        return "revision is NULL";
    if (needs & NEED_BACKUP && !c->storage.backup)
        return "backup is NULL";
    if (needs & NEED_CHECK && !c->storage.check)
        return "check is NULL";
    if (needs & NEED_CHANGES && !(c->storage.caps & KAITEN_STORAGE_OUTSIDE_WRITERS))
        return "KAITEN_STORAGE_OUTSIDE_WRITERS is not claimed";
    if (needs & NEED_NOTICES && !(c->storage.caps & KAITEN_STORAGE_NOTICES))
        return "KAITEN_STORAGE_NOTICES is not claimed";
    if (needs & (NEED_STORE | NEED_AUTH))
        return c->option_problem;
    return NULL;
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static char *
directory_new(void)
{
    const char *base = getenv("TMPDIR");
    char *path = NULL;
    if (asprintf(&path, "%s/kaiten-plugin-check.XXXXXX", base && *base ? base : "/tmp") < 0)
        abort();
    if (!mkdtemp(path)) {
        fprintf(stderr, "kaiten-plugin-check: %s: %s\n", path, strerror(errno));
        exit(EXIT_USAGE);
    }
    return path;
}

static void
directory_free(char *path)
{
    if (path)
        nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(path);
}

static bool
case_body(struct check *c, const struct check_case *one)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    /* Else readers that never pause would keep the writer out. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&c->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    fake_host()->random(c->prefix, sizeof c->prefix);
    c->prefix[0] = 'c';
    c->prefix[sizeof c->prefix - 1] = 'k';
    if (one->needs & NEED_STORE && !check_open(c))
        return false;
    bool passed = one->run(c);
    if (c->store)
        check_close(c);
    check_free(c);
    pthread_rwlock_destroy(&c->lock);
    return passed;
}

static bool
child_passed(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return check_fail("waitpid: %s", strerror(errno));
    }
    if (WIFSIGNALED(status))
        return check_fail(WTERMSIG(status) == SIGALRM ? "ended by signal %d: it took too long"
                                                      : "ended by signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) > 1)
        check_fail("ended with exit status %d", WEXITSTATUS(status));
    return WEXITSTATUS(status) == 0;
}

static bool
case_run(const struct run *run, struct check *c, const struct check_case *one)
{
    if (run->in_process)
        return case_body(c, one);
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        return check_fail("fork: %s", strerror(errno));
    if (pid > 0)
        return child_passed(pid);
    alarm(run->timeout);
    exit(case_body(c, one) ? 0 : 1);
}

static void
case_report(struct run *run, const struct check *given, const char *path,
            const struct check_case *one)
{
    struct check c = *given;
    c.directory = path ? directory_new() : NULL;
    if (c.directory) {
        char *store = NULL;
        if (asprintf(&store, "%s/store", c.directory) < 0)
            abort();
        fake_config_set(c.config, path, store);
        free(store);
    }
    const char *skip = need_missing(&c, one->needs);
    run->number++;
    if (skip) {
        run->skipped++;
        printf("ok %u - %s # SKIP %s\n", run->number, one->promise, skip);
    } else if (case_run(run, &c, one)) {
        run->passed++;
        printf("ok %u - %s\n", run->number, one->promise);
    } else {
        run->failed++;
        printf("not ok %u - %s\n", run->number, one->promise);
    }
    fflush(stdout);
    directory_free(c.directory);
}

static void
cases_run(struct run *run, const struct check *c, const char *path,
          const struct check_case *const *lists)
{
    for (; *lists; lists++) {
        for (const struct check_case *one = *lists; one->promise; one++) {
            if (!run->only || strstr(one->promise, run->only))
                case_report(run, c, path, one);
        }
    }
    printf("1..%u\n", run->number);
    if (run->skipped)
        printf("# %u skipped\n", run->skipped);
    printf("%u passed, %u failed\n", run->passed, run->failed);
}

/* Copies what both sides know of. Exits when this is no plugin that can be asked anything. */
static void
plugin_load(struct check *c, const char *file)
{
    char *path = realpath(file, NULL); /* dlopen searches elsewhere for a name without a slash */
    void *handle = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) : NULL;
    if (!handle) {
        fprintf(stderr, "kaiten-plugin-check: %s\n", path ? dlerror() : strerror(errno));
        exit(EXIT_USAGE);
    }
    free(path);
    const struct kaiten_storage *storage = dlsym(handle, "kaiten_storage_plugin");
    const struct kaiten_auth *auth = dlsym(handle, "kaiten_auth_plugin");
    if (!storage == !auth) {
        fprintf(stderr, "kaiten-plugin-check: %s must export kaiten_storage_plugin or "
                "kaiten_auth_plugin\n", file);
        exit(EXIT_USAGE);
    }
    uint16_t abi = storage ? storage->abi : auth->abi;
    uint16_t ours = storage ? KAITEN_STORAGE_ABI : KAITEN_AUTH_ABI;
    if (abi != ours) {
        fprintf(stderr, "kaiten-plugin-check: %s has ABI %u, this program knows %u\n", file, abi,
                ours);
        exit(EXIT_USAGE);
    }
    c->size = storage ? storage->size : auth->size;
    if (storage)
        memcpy(&c->storage, storage, c->size < sizeof *storage ? c->size : sizeof *storage);
    else
        memcpy(&c->auth, auth, c->size < sizeof *auth ? c->size : sizeof *auth);
}

static void
usage(FILE *to)
{
    fprintf(to, "usage: kaiten-plugin-check [-1v] [-k text] [-t seconds] plugin.so "
                "[key=value ...]\n");
}

static void
options_read(struct run *run, int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "1hk:t:v")) != -1) {
        switch (option) {
        case '1':
            run->in_process = true;
            break;
        case 'k':
            run->only = optarg;
            break;
        case 't':
            run->timeout = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'v':
            run->verbose = true;
            break;
        default:
            usage(option == 'h' ? stdout : stderr);
            exit(option == 'h' ? 0 : EXIT_USAGE);
        }
    }
    if (optind == argc) {
        usage(stderr);
        exit(EXIT_USAGE);
    }
}

/* Settings beyond what the table knows never reach a plugin, so they are errors of the caller. */
static void
settings_read(struct check *c, char **settings)
{
    char problem[512];
    for (; *settings; settings++) {
        if (fake_config_add(c->config, *settings, problem, sizeof problem))
            continue;
        fprintf(stderr, "kaiten-plugin-check: %s\n", problem);
        exit(EXIT_USAGE);
    }
}

int
main(int argc, char **argv)
{
    static const struct check_case *const storage_lists[] = {
        cases_head, cases_life, cases_backup, cases_map, cases_apply, cases_crash, cases_load,
        cases_changes, NULL,
    };
    static const struct check_case *const auth_lists[] = { cases_head, cases_auth, NULL };

    struct run run = { .timeout = TIMEOUT_S };
    options_read(&run, argc, argv);
    fake_host_verbose(run.verbose);
    struct check c = { 0 };
    plugin_load(&c, argv[optind]);
    const struct kaiten_option *options = c.storage.size ? c.storage.options : c.auth.options;
    c.config = fake_config_new(options);
    settings_read(&c, argv + optind + 1);

    const char *path = c.storage.size ? path_option(options) : NULL;
    if (path && fake_config_has(c.config, path))
        path = NULL;
    if (path)
        fake_config_set(c.config, path, "/");
    char missing[128];
    const char *name = fake_config_missing(c.config);
    if (name) {
        snprintf(missing, sizeof missing, "option %s is required, give %s=value", name, name);
        c.option_problem = missing;
    }
    cases_run(&run, &c, path, c.storage.size ? storage_lists : auth_lists);
    fake_config_free(c.config);
    if (run.number == 0) { /* a case that was renamed must not look as if it had passed */
        fprintf(stderr, "kaiten-plugin-check: no case has \"%s\" in its name\n", run.only);
        return EXIT_USAGE;
    }
    return run.failed ? 1 : 0;
}
