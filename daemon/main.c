/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* kaitend: arguments, then one table of parts, started top down and stopped bottom up. */
#include "config.h"

#include "daemon/authn.h"
#include "daemon/commit.h"
#include "daemon/idempotency.h"
#include "daemon/index.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/model/digest.h"
#include "daemon/model/format.h"
#include "daemon/model/load.h"
#include "daemon/notify.h"
#include "daemon/ops/document.h"
#include "daemon/pipeline.h"
#include "daemon/plugin.h"
#include "daemon/route.h"
#include "daemon/service.h"
#include "daemon/settings.h"
#include "daemon/signer.h"
#include "daemon/store.h"
#include "daemon/transport/listen.h"
#include "daemon/transport/tls.h"
#include "daemon/worker.h"

#include <errno.h>
#include <event2/event.h>
#include <getopt.h>
#include <grp.h>
#include <openssl/crypto.h>
#include <pwd.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

/* Everything that lives from start to end. */
struct parts {
    struct settings *settings;
    struct service svc;
    struct documents *documents;
    pthread_rwlock_t index_guard;
    struct plugin *storage;
    struct plugin *auths[SETTINGS_LISTENERS_MAX * AUTHN_CHAIN_MAX]; /* each once */
    struct conf_values *options[SETTINGS_LISTENERS_MAX * AUTHN_CHAIN_MAX + 1];
    void *instances[SETTINGS_LISTENERS_MAX * AUTHN_CHAIN_MAX];
    size_t nauths, noptions;
    const char *folders[4];
    struct authn_chain *chains[SETTINGS_LISTENERS_MAX];
    struct listener *listeners[SETTINGS_LISTENERS_MAX];
    struct tls *tls[SETTINGS_LISTENERS_MAX]; /* in the order of the settings; NULL: plain */
    size_t nlisteners;
    struct loop **loops;
    sigset_t signals;
};

/* --- what can go wrong -------------------------------------------------------------------- */

static int
fail_start(int code, const char *text)
{
    log_line(LOG_LEVEL_ERROR, "start.failed", "message=%s", text);
    return code;
}

static int
fail_errno(int code, const char *what)
{
    char text[256];
    snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
    return fail_start(code, text);
}

/* --- process ------------------------------------------------------------------------------ */

/* No core dumps and no debugger: the process holds keys. */
static int
harden(struct parts *p)
{
    (void)p;
    const struct rlimit none = { 0, 0 };
    umask(0077);
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0);
    if (sodium_init() < 0)
        return fail_start(EX_SOFTWARE, "libsodium cannot be initialised");
    return EX_OK;
}

static int
become_user(struct parts *p)
{
    const char *name = p->settings->user;
    if (!name || geteuid() != 0)
        return EX_OK;
    const struct passwd *pw = getpwnam(name);
    if (!pw) {
        char text[512];
        snprintf(text, sizeof text, "%s: [kaitend] user: \"%.64s\": there is no such user",
                 conf_where(p->settings->values, "user", 0), name);
        return fail_start(EX_NOUSER, text);
    }
    if (initgroups(name, pw->pw_gid) != 0 || setgid(pw->pw_gid) != 0 || setuid(pw->pw_uid) != 0)
        return fail_errno(EX_OSERR, "becoming the configured user");
    prctl(PR_SET_DUMPABLE, 0); /* changing the user turns it on again */
    return EX_OK;
}

/* The usual limit of 1024 is less than the listeners may be asked to hold. */
static int
raise_descriptors(struct parts *p)
{
    enum { OWN = 256 }; /* files of the store and its logs, plugins, event loops */
    struct settings *s = p->settings;
    struct rlimit limit;
    rlim_t wanted = OWN, all = 0;
    for (size_t i = 0; i < s->nlisteners; i++)
        all += s->listeners[i].limits.conns_max;
    wanted += all;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return fail_errno(EX_OSERR, "the limit of descriptors");
    if (limit.rlim_cur >= wanted)
        return EX_OK;
    limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < wanted)
        log_line(LOG_LEVEL_WARNING, "descriptors.few", "wanted=%lu allowed=%lu",
                 (unsigned long)wanted, (unsigned long)limit.rlim_cur);
    return EX_OK;
}

/* Before any thread, so that all of them leave these to the main one. */
static int
block_signals(struct parts *p)
{
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&p->signals);
    sigaddset(&p->signals, SIGTERM);
    sigaddset(&p->signals, SIGINT);
    sigaddset(&p->signals, SIGHUP);
    sigaddset(&p->signals, SIGUSR1);
    return pthread_sigmask(SIG_BLOCK, &p->signals, NULL) == 0 ? EX_OK : EX_OSERR;
}

static int
open_log(struct parts *p)
{
    const struct log_options options = { .level = p->settings->log_level,
                                         .file = p->settings->log_file };
    if (log_open(&options))
        return EX_OK;
    return fail_errno(EX_CANTCREAT, p->settings->log_file);
}

static int
open_notify(struct parts *p)
{
    (void)p;
    notify_open();
    route_init();
    return EX_OK;
}

static int
make_state_dir(struct parts *p)
{
    if (mkdir(p->settings->state_dir, 0700) == 0 || errno == EEXIST)
        return EX_OK;
    return fail_errno(EX_CANTCREAT, p->settings->state_dir);
}

/* --- plugins ------------------------------------------------------------------------------ */

static void
set_folders(struct parts *p)
{
    const char **f = p->folders;
    if (p->settings->plugin_dir)
        *f++ = p->settings->plugin_dir;
    if (getenv("KAITEND_PLUGIN_DIR"))
        *f++ = getenv("KAITEND_PLUGIN_DIR");
    *f++ = PKGLIBDIR;
    *f = NULL;
}

/* Loads it and checks its section of the configuration. */
static int
load_plugin(struct parts *p, const char *name, enum plugin_kind kind, struct plugin **ret,
            struct conf_values **ret_options)
{
    struct conf_error err;
    if (!plugin_load(name, p->folders, ret, &err))
        return fail_start(EX_CONFIG, err.text);
    if ((*ret)->kind != kind) {
        snprintf(err.text, sizeof err.text, "plugin \"%s\" is no %s plugin", name,
                 kind == PLUGIN_AUTH ? "auth" : "storage");
        return fail_start(EX_CONFIG, err.text);
    }
    if (!conf_apply(p->settings->conf, name, NULL, (*ret)->options, ret_options, &err) ||
        !conf_check_secrets(*ret_options, &err))
        return fail_start(EX_CONFIG, err.text);
    p->options[p->noptions++] = *ret_options;
    return EX_OK;
}

static struct plugin *
find_auth(struct parts *p, const char *name, size_t *ret_index)
{
    for (size_t i = 0; i < p->nauths; i++) {
        if (strcmp(p->auths[i]->name, name) != 0)
            continue;
        *ret_index = i;
        return p->auths[i];
    }
    return NULL;
}

static int
load_auth(struct parts *p, const char *name)
{
    size_t i;
    struct conf_values *options;
    if (find_auth(p, name, &i))
        return EX_OK;
    if (p->nauths == sizeof p->auths / sizeof p->auths[0])
        return fail_start(EX_CONFIG, "too many auth plugins");
    int code = load_plugin(p, name, PLUGIN_AUTH, &p->auths[p->nauths], &options);
    if (code == EX_OK)
        p->nauths++;
    return code;
}

static int
load_auths(struct parts *p)
{
    for (size_t i = 0; i < p->settings->nlisteners; i++) {
        const struct conf_values *v = p->settings->listeners[i].values;
        for (size_t k = 0; k < conf_list_count(v, "auth"); k++) {
            int code = load_auth(p, conf_list_item(v, "auth", k));
            if (code != EX_OK)
                return code;
        }
    }
    return EX_OK;
}

static int
load_plugins(struct parts *p)
{
    struct conf_values *options;
    struct conf_error err;
    set_folders(p);
    int code = load_plugin(p, p->settings->storage, PLUGIN_STORAGE, &p->storage, &options);
    if (code == EX_OK)
        code = load_auths(p);
    if (code == EX_OK && !conf_unused(p->settings->conf, &err))
        return fail_start(EX_CONFIG, err.text);
    return code;
}

/* --- store and keys ----------------------------------------------------------------------- */

static int
open_storage(struct parts *p)
{
    struct conf_error err;
    void *instance;
    if (!plugin_open(p->storage, p->options[0], &instance, &err))
        return fail_start(EX_TEMPFAIL, err.text);
    p->svc.store = store_new(&p->storage->storage, instance, KAITEN_THREADS_PARALLEL);
    if (!p->svc.store)
        return fail_errno(EX_OSERR, "storage");
    if (!store_is_durable(p->svc.store))
        log_line(LOG_LEVEL_WARNING, "storage", "plugin=%s message=%s", p->storage->name,
                 "nothing that is written here survives the process");
    return EX_OK;
}

/* What any work at start is done with. */
static void
begin_call(struct parts *p, struct call *call, struct kt_arena *arena)
{
    kt_arena_init(arena, REQUEST_ARENA_MAX);
    *call = (struct call){ .svc = &p->svc, .arena = arena, .now_ms = clock_wall_ms(),
                           .deadline_ms = INT64_MAX };
}

/* A fresh key for a store that has tokens would kill every one of them, silently. */
static int
open_keys(struct parts *p)
{
    struct digest_error err;
    struct kt_arena arena;
    struct call call;
    bool missing = false, empty = false;
    const char *path = p->settings->digest_key_file;
    if (digest_keys_read(path, &p->svc.keys, &missing, &err))
        return EX_OK;
    if (!missing)
        return fail_start(EX_NOPERM, err.text);
    begin_call(p, &call, &arena);
    int status = store_is_empty(&call, p->svc.store, &empty);
    kt_arena_done(&arena);
    if (status != KT_OK)
        return fail_start(EX_TEMPFAIL, "the store cannot be read");
    if (!empty) {
        snprintf(err.text, sizeof err.text,
                 "%s: the digest key is missing, but the store is not empty; restore the key that "
                 "the store was made with",
                 path);
        return fail_start(EX_CONFIG, err.text);
    }
    if (!digest_keys_create(path, &p->svc.keys, &err))
        return fail_start(EX_CANTCREAT, err.text);
    log_line(LOG_LEVEL_NOTICE, "key.created", "file=%s fingerprint=%s", path,
             digest_keys_fingerprint(p->svc.keys, 0));
    return EX_OK;
}

static int
check_keys(struct parts *p)
{
    store_set_keys(p->svc.store, p->svc.keys);
    if (!digest_keys_locked(p->svc.keys))
        log_line(LOG_LEVEL_WARNING, "key.unlocked", "message=%s",
                 "the limit on locked memory is too low; keys may be swapped out");
    struct kt_arena arena;
    struct call call;
    begin_call(p, &call, &arena);
    int status = format_check(&call, p->settings->digest_key_file);
    kt_arena_done(&arena);
    return status == KT_OK ? EX_OK : EX_CONFIG;
}

static int
open_signer(struct parts *p)
{
    char err[SIGNER_ERROR_MAX];
    const struct signer_options options = { p->settings->signing_key_file, p->settings->issuer,
                                            p->settings->audience, p->settings->jwt_lifetime_ms };
    if (signer_open(&options, &p->svc.signer, err))
        return EX_OK;
    return fail_start(EX_NOPERM, err);
}

/* --- index -------------------------------------------------------------------------------- */

struct retired {
    struct parts *parts;
    void *memory;
};

/* Every loop has gone round since; workers are kept out by the guard. */
static void
free_retired(void *ctx)
{
    struct retired *r = ctx;
    pthread_rwlock_wrlock(&r->parts->index_guard);
    free(r->memory);
    pthread_rwlock_unlock(&r->parts->index_guard);
    free(r);
}

static void
retire(void *ctx, void *memory)
{
    struct parts *p = ctx;
    if (!p->loops) {
        free(memory); /* still loading: nobody reads */
        return;
    }
    struct retired *r = malloc(sizeof *r);
    if (!r)
        return; /* better lost than freed under a reader */
    *r = (struct retired){ p, memory };
    loops_barrier(p->loops, free_retired, r);
}

static int
fill_index(struct parts *p)
{
    p->svc.index_guard = &p->index_guard;
    p->svc.index = index_new(retire, p);
    if (!p->svc.index)
        return fail_errno(EX_OSERR, "index");
    struct kt_arena arena;
    struct call call;
    int64_t began = clock_mono_ms();
    begin_call(p, &call, &arena);
    int status = load_index(&call, p->svc.index, p->settings->loops);
    kt_arena_done(&arena);
    if (status != KT_OK)
        return fail_start(EX_TEMPFAIL, "the tokens cannot be read from the store");
    struct index_stats stats;
    index_stats(p->svc.index, &stats);
    log_line(LOG_LEVEL_NOTICE, "index.loaded", "tokens=%zu accounts=%zu ms=%ld", stats.records,
             stats.accounts, (long)(clock_mono_ms() - began));
    return EX_OK;
}

/* --- threads ------------------------------------------------------------------------------ */

static void
set_service(struct parts *p)
{
    const struct settings *s = p->settings;
    struct service *svc = &p->svc;
    svc->modules = scope_modules_default;
    if (s->nmodules != 0)
        svc->modules = (struct scope_modules){ s->modules, s->nmodules };
    svc->lifetime_max_ms = s->lifetime_max_ms;
    svc->request_ms = s->request_ms;
    svc->scopes_unbounded = s->scopes_unbounded;
    svc->embedded_tokens_max = s->embedded_tokens_max;
    svc->page_default = 50;
}

static int
start_threads(struct parts *p)
{
    set_service(p);
    p->svc.inflight = inflight_new();
    p->svc.committer = committer_new(&p->svc, pipeline_again, pipeline_done);
    p->svc.workers = workers_new(p->settings->workers, p->settings->queue_max, pipeline_resume);
    p->loops = loops_new(p->settings->loops);
    if (!p->svc.inflight || !p->svc.committer || !p->svc.workers || !p->loops)
        return fail_errno(EX_OSERR, "starting threads");
    errno = loops_start(p->loops);
    return errno == 0 ? EX_OK : fail_errno(EX_OSERR, "starting event loops");
}

/* What anybody may read of the interface; immutable, so loops send it as it is. */
static int
print_documents(struct parts *p)
{
    p->documents = documents_new(&p->svc.modules);
    p->svc.documents = p->documents;
    return p->documents ? EX_OK : fail_errno(EX_OSERR, "printing the documents");
}

/* --- listeners ---------------------------------------------------------------------------- */

static int
open_auths(struct parts *p)
{
    struct conf_error err;
    for (size_t i = 0; i < p->nauths; i++)
        if (!plugin_open(p->auths[i], p->options[1 + i], &p->instances[i], &err))
            return fail_start(EX_CONFIG, err.text);
    return EX_OK;
}

static struct authn_chain *
make_chain(struct parts *p, const struct conf_values *v)
{
    struct authn_chain *chain = authn_chain_new(&p->svc);
    for (size_t k = 0; chain && k < conf_list_count(v, "auth"); k++) {
        size_t i = 0;
        const struct plugin *plugin = find_auth(p, conf_list_item(v, "auth", k), &i);
        if (!authn_chain_add(chain, plugin, p->instances[i])) {
            authn_chain_free(chain);
            return NULL;
        }
    }
    return chain;
}

/* Early, so that a wrong certificate is told before the store is touched. */
static int
load_tls(struct parts *p)
{
    struct conf_error err;
    for (size_t i = 0; i < p->settings->nlisteners; i++) {
        const struct tls_options *options = &p->settings->listeners[i].tls;
        if (options->certificate && !(p->tls[i] = tls_new(options, &err)))
            return fail_start(EX_CONFIG, err.text);
    }
    return EX_OK;
}

static void
free_tls(struct parts *p)
{
    for (size_t i = 0; i < SETTINGS_LISTENERS_MAX; i++)
        tls_free(p->tls[i]);
}

static bool
reread_tls(struct parts *p)
{
    struct conf_error err;
    for (size_t i = 0; i < SETTINGS_LISTENERS_MAX; i++) {
        if (!p->tls[i] || tls_reread(p->tls[i], &err))
            continue;
        log_line(LOG_LEVEL_ERROR, "tls.kept", "message=%s", err.text);
        return false;
    }
    return true;
}

/* The certificates of all doors or of none: what is half there is not used. */
static void
reload_tls(struct parts *p)
{
    bool all = reread_tls(p);
    for (size_t i = 0; i < SETTINGS_LISTENERS_MAX; i++) {
        if (!p->tls[i])
            continue;
        (all ? tls_renew : tls_forget)(p->tls[i]);
        if (all)
            log_line(LOG_LEVEL_NOTICE, "tls.renewed", "file=%s",
                     p->settings->listeners[i].tls.certificate);
    }
}

static int
open_listener(struct parts *p, const struct listener_settings *s, struct tls *tls)
{
    char err[512];
    struct authn_chain *chain = make_chain(p, s->values);
    if (!chain)
        return fail_start(EX_CONFIG, "a listener has too many auth plugins");
    p->chains[p->nlisteners] = chain;
    struct listener *l =
        s->is_http
            ? listen_http(s->listen, chain, &s->limits, err, sizeof err)
            : listen_socket(s->listen, s->mode, s->group, chain, &s->limits, err, sizeof err);
    if (!l)
        return fail_start(EX_UNAVAILABLE, err);
    listen_use_tls(l, tls);
    p->listeners[p->nlisteners++] = l;
    return EX_OK;
}

static int
start_listeners(struct parts *p)
{
    for (size_t i = 0; i < p->settings->nlisteners; i++) {
        int code = open_listener(p, &p->settings->listeners[i], p->tls[i]);
        if (code != EX_OK)
            return code;
    }
    listen_opened();
    for (size_t i = 0; i < p->nlisteners; i++) {
        if (listen_start(p->listeners[i], p->loops) != 0)
            return fail_errno(EX_OSERR, listen_name(p->listeners[i]));
        log_line(LOG_LEVEL_NOTICE, "listening", "on=%s", listen_name(p->listeners[i]));
    }
    return EX_OK;
}

static int
say_ready(struct parts *p)
{
    atomic_store(&p->svc.state, SERVICE_READY);
    log_line(LOG_LEVEL_NOTICE, "ready", "version=%s loops=%zu workers=%zu", PACKAGE_VERSION,
             p->settings->loops, p->settings->workers);
    notify_ready("serving");
    return EX_OK;
}

/* --- stopping ----------------------------------------------------------------------------- */

static bool
all_drained(const struct parts *p)
{
    for (size_t i = 0; i < p->nlisteners; i++)
        if (!listen_drained(p->listeners[i]))
            return false;
    return true;
}

/* Every accepted request is answered, or was never read. A second signal ends the wait. */
static void
drain(struct parts *p)
{
    atomic_store(&p->svc.state, SERVICE_DRAINING);
    notify_stopping("draining");
    for (size_t i = 0; i < p->nlisteners; i++)
        listen_drain(p->listeners[i]);
    const int64_t end = clock_mono_ms() + p->settings->drain_ms;
    const struct timespec tick = { 0, 5 * 1000 * 1000 };
    while (!all_drained(p) && clock_mono_ms() < end) {
        int sig = sigtimedwait(&p->signals, NULL, &tick);
        if (sig == SIGTERM || sig == SIGINT)
            return;
    }
}

static void
stop_listeners(struct parts *p)
{
    if (p->nlisteners != 0)
        drain(p);
}

/* What was accepted goes the whole way: workers, committer, and home to be answered. */
static void
stop_threads(struct parts *p)
{
    workers_stop(p->svc.workers);
    committer_free(p->svc.committer);
    if (p->loops)
        loops_stop(p->loops);
    p->loops = NULL;
    workers_free(p->svc.workers); /* until here committer and loops may offer it requests */
    for (size_t i = 0; i < p->nlisteners; i++)
        listen_free(p->listeners[i]);
    for (size_t i = 0; i < SETTINGS_LISTENERS_MAX; i++)
        authn_chain_free(p->chains[i]);
    inflight_free(p->svc.inflight);
}

static void
close_auths(struct parts *p)
{
    for (size_t i = 0; i < p->nauths; i++)
        if (p->instances[i])
            p->auths[i]->auth.close(p->instances[i]);
}

static void
close_index(struct parts *p)
{
    index_free(p->svc.index);
}

static void
close_signer(struct parts *p)
{
    signer_free(p->svc.signer);
}

static void
close_keys(struct parts *p)
{
    digest_keys_free(p->svc.keys);
}

static void
close_storage(struct parts *p)
{
    store_free(p->svc.store);
}

static void
close_notify(struct parts *p)
{
    (void)p;
    notify_close();
}

static void
free_documents(struct parts *p)
{
    documents_free(p->documents);
}

static void
free_options(struct parts *p)
{
    for (size_t i = 0; i < p->noptions; i++)
        conf_values_free(p->options[i]);
}

/* --- the table ---------------------------------------------------------------------------- */

static const struct part {
    int (*start)(struct parts *);
    void (*stop)(struct parts *); /* NULL: nothing to undo */
} table[] = {
    { harden, NULL },
    { block_signals, NULL },
    { open_log, NULL },
    { open_notify, close_notify },
    { raise_descriptors, NULL },
    { become_user, NULL },
    { load_plugins, free_options },
    { load_tls, free_tls },
    { make_state_dir, NULL },
    { open_storage, close_storage },
    { open_keys, close_keys },
    { check_keys, NULL },
    { open_signer, close_signer },
    { fill_index, close_index },
    { open_auths, close_auths },
    { start_threads, stop_threads },
    { print_documents, free_documents },
    { start_listeners, stop_listeners },
    { say_ready, NULL },
};

enum { PARTS = sizeof table / sizeof table[0] };

static void
reload_auths(struct parts *p)
{
    for (size_t i = 0; i < p->nauths; i++)
        if (p->auths[i]->auth.reload)
            p->auths[i]->auth.reload(p->instances[i]);
}

static void
on_reopen(struct parts *p, int sig)
{
    log_reopen();
    if (sig != SIGHUP)
        return;
    reload_tls(p);
    reload_auths(p);
}

static void
wait_for_end(struct parts *p)
{
    int64_t watchdog = notify_watchdog_ms();
    for (;;) {
        struct timespec tick = { watchdog > 0 ? watchdog / 1000 : 3600,
                                 watchdog > 0 ? watchdog % 1000 * 1000000 : 0 };
        int sig = sigtimedwait(&p->signals, NULL, &tick);
        if (sig < 0 && errno == EAGAIN)
            notify_alive();
        else if (sig == SIGHUP || sig == SIGUSR1)
            on_reopen(p, sig);
        else if (sig > 0)
            return;
    }
}

static int
serve(struct parts *p)
{
    size_t i = 0;
    int code = EX_OK;
    while (i < PARTS && code == EX_OK)
        code = table[i++].start(p);
    if (code == EX_OK)
        wait_for_end(p);
    while (i-- > 0)
        if (table[i].stop)
            table[i].stop(p);
    log_line(LOG_LEVEL_NOTICE, "stopped", "code=%d", code);
    return code;
}

/* --- arguments ---------------------------------------------------------------------------- */

static void
print_usage(FILE *f)
{
    fputs("usage: kaitend [-c FILE] [--check | --dump-config | --dump-options]\n"
          "       kaitend --dump-plugin NAME | --version | --help\n"
          "\n"
          "  -c, --config FILE   configuration (default " SYSCONFDIR "/kaitend/kaitend.conf)\n"
          "  -t, --check         check the configuration and its plugins' options, then end\n"
          "  --dump-config       print the values in force\n"
          "  --dump-options      print every option with its default, as comments\n"
          "  --dump-plugin NAME  print what a plugin says of itself, and its options\n"
          "  -V, --version       print the versions of the daemon and its libraries\n",
          f);
}

static int
print_version(void)
{
    printf("kaitend %s\nplugin ABI: storage %d, auth %d, host %d\nlibevent %s\nlibsodium %s\n%s\n",
           PACKAGE_VERSION, KAITEN_STORAGE_ABI, KAITEN_AUTH_ABI, KAITEN_HOST_ABI,
           event_get_version(), sodium_version_string(), OpenSSL_version(OPENSSL_VERSION));
    return EX_OK;
}

static int
dump_options(void)
{
    puts("[kaitend]");
    conf_print_option_doc(stdout, settings_daemon);
    puts("\n[socket]");
    conf_print_option_doc(stdout, settings_socket);
    puts("\n[http]");
    conf_print_option_doc(stdout, settings_http);
    return EX_OK;
}

static int
dump_plugin(struct parts *p, const char *name)
{
    struct settings none = { .plugin_dir = NULL };
    struct conf_error err;
    if (!p->settings)
        p->settings = &none;
    set_folders(p);
    if (!plugin_load(name, p->folders, &p->storage, &err))
        return fail_start(EX_CONFIG, err.text);
    const struct plugin *plugin = p->storage; /* of whichever kind */
    bool storage = plugin->kind == PLUGIN_STORAGE;
    printf("name = %s\nkind = %s\nversion = %s\nsummary = %s\nabi = %d\nthreads = %d\n"
           "caps = 0x%llx\n\n[%s]\n",
           plugin->name, storage ? "storage" : "auth",
           storage ? plugin->storage.version : plugin->auth.version,
           storage ? plugin->storage.summary : plugin->auth.summary,
           storage ? plugin->storage.abi : plugin->auth.abi,
           storage ? plugin->storage.threads : plugin->auth.threads,
           (unsigned long long)(storage ? plugin->storage.caps : plugin->auth.caps), name);
    conf_print_option_doc(stdout, plugin->options);
    return EX_OK;
}

static int
dump_config(struct parts *p)
{
    puts("[kaitend]");
    conf_print_values(stdout, p->settings->values);
    for (size_t i = 0; i < p->settings->nlisteners; i++) {
        printf("\n[%s]\n", p->settings->listeners[i].is_http ? "http" : "socket");
        conf_print_values(stdout, p->settings->listeners[i].values);
    }
    printf("\n[%s]\n", p->storage->name);
    conf_print_values(stdout, p->options[0]);
    for (size_t i = 0; i < p->nauths; i++) {
        printf("\n[%s]\n", p->auths[i]->name);
        conf_print_values(stdout, p->options[1 + i]);
    }
    return EX_OK;
}

enum mode { MODE_SERVE, MODE_CHECK, MODE_DUMP_CONFIG };

static int
run(struct parts *p, const char *path, enum mode mode)
{
    struct conf_error err;
    if (!settings_read(path, &p->settings, &err))
        return fail_start(EX_CONFIG, err.text);
    int code = EX_OK;
    if (mode == MODE_SERVE) {
        code = serve(p);
    } else {
        code = load_plugins(p);
        if (code == EX_OK && mode == MODE_CHECK)
            code = load_tls(p);
        if (code == EX_OK && mode == MODE_DUMP_CONFIG)
            dump_config(p);
        free_tls(p);
        free_options(p);
    }
    settings_free(p->settings);
    return code;
}

int
main(int argc, char **argv)
{
    enum { DUMP_CONFIG = 256, DUMP_OPTIONS, DUMP_PLUGIN };
    static const struct option longs[] = {
        { "config", required_argument, NULL, 'c' },
        { "check", no_argument, NULL, 't' },
        { "dump-config", no_argument, NULL, DUMP_CONFIG },
        { "dump-options", no_argument, NULL, DUMP_OPTIONS },
        { "dump-plugin", required_argument, NULL, DUMP_PLUGIN },
        { "version", no_argument, NULL, 'V' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    static struct parts parts = { .index_guard = PTHREAD_RWLOCK_INITIALIZER };
    const char *path = SYSCONFDIR "/kaitend/kaitend.conf";
    enum mode mode = MODE_SERVE;
    int c;
    while ((c = getopt_long(argc, argv, "c:tVh", longs, NULL)) != -1) {
        switch (c) {
        case 'c': path = optarg; break;
        case 't': mode = MODE_CHECK; break;
        case DUMP_CONFIG: mode = MODE_DUMP_CONFIG; break;
        case DUMP_OPTIONS: return dump_options();
        case DUMP_PLUGIN: return dump_plugin(&parts, optarg);
        case 'V': return print_version();
        case 'h': print_usage(stdout); return EX_OK;
        default: print_usage(stderr); return EX_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "kaitend: unexpected argument %s\n", argv[optind]);
        print_usage(stderr);
        return EX_USAGE;
    }
    return run(&parts, path, mode);
}
