/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* kaitend: arguments, then one table of parts, started top down and stopped bottom up. */
#include "config.h"

#include "client/proto/file.h"
#include "daemon/commit.h"
#include "daemon/follow.h"
#include "daemon/idempotency.h"
#include "daemon/keeper.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/metrics.h"
#include "daemon/model/account_cache.h"
#include "daemon/model/token_rekey.h"
#include "daemon/notify.h"
#include "daemon/ops/document.h"
#include "daemon/parts.h"
#include "daemon/pipeline.h"
#include "daemon/plugin.h"
#include "daemon/rotation.h"
#include "daemon/used.h"
#include "daemon/worker.h"

#include <errno.h>
#include <event2/event.h>
#include <getopt.h>
#include <openssl/crypto.h>
#include <sodium.h>
#include <stdio.h>
#include <sysexits.h>

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
    svc->journal_keep_ms = parts_journal_keep_ms(p);
    svc->request_ms = s->request_ms;
    svc->queue_max = s->queue_max;
    svc->scopes_unbounded = s->scopes_unbounded;
    svc->embedded_tokens_max = s->embedded_tokens_max;
}

static int
start_threads(struct parts *p)
{
    set_service(p);
    p->svc.inflight = inflight_new();
    p->svc.accounts = account_cache_new();
    p->svc.used = used_new();
    p->svc.rekeys = rekeys_new();
    p->svc.rotation = rotation_new(p->settings->digest_key_file);
    p->svc.metrics = metrics_new(p->settings->loops);
    p->svc.limits = limits_new(&p->settings->limits);
    p->svc.committer = committer_new(&p->svc, pipeline_again, pipeline_done);
    p->svc.workers = workers_new(p->settings->workers, p->settings->queue_max, pipeline_resume);
    p->loops = loops_new(p->settings->loops);
    if (!p->svc.inflight || !p->svc.accounts || !p->svc.used || !p->svc.metrics ||
        !p->svc.limits || !p->svc.rekeys || !p->svc.rotation || !p->svc.committer ||
        !p->svc.workers || !p->loops)
        return parts_fail_errno(EX_OSERR, "starting threads");
    errno = loops_start(p->loops);
    if (errno != 0)
        return parts_fail_errno(EX_OSERR, "starting event loops");
    errno = p->follower ? follower_start(p->follower) : 0;
    return errno == 0 ? EX_OK : parts_fail_errno(EX_OSERR, "following the store");
}

struct keeper_options
parts_keeper_options(const struct settings *s)
{
    return (struct keeper_options){ { s->retention_ms, s->audit_retention_ms }, s->last_used_ms };
}

/* In quarantine nobody changes anything. */
static int
start_keeper(struct parts *p)
{
    const struct keeper_options options = parts_keeper_options(p->settings);
    if (p->svc.quarantine)
        return EX_OK;
    p->keeper = keeper_new(&p->svc, p->loops, &options, &p->guard);
    return p->keeper ? EX_OK : parts_fail_errno(EX_OSERR, "starting the keeper");
}

/* The documents of the interface; immutable, so loops send them as they are. */
static int
print_documents(struct parts *p)
{
    p->documents = documents_new(&p->svc.modules);
    p->svc.documents = p->documents;
    return p->documents ? EX_OK : parts_fail_errno(EX_OSERR, "printing the documents");
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

/* What was accepted goes the whole way: workers, committer, and home to be answered. */
static void
stop_threads(struct parts *p)
{
    parts_watch_end(p);
    workers_stop(p->svc.workers);
    keeper_free(p->keeper);
    follower_stop(p->follower);
    committer_stop(p->svc.committer);
    if (p->loops)
        loops_stop(p->loops);
    p->loops = NULL;
    parts_unwatch_end(p);
    /* Until here the committer and the loops may still give them requests. */
    workers_free(p->svc.workers);
    committer_free(p->svc.committer);
    for (size_t i = 0; i < p->nlisteners; i++)
        listen_free(p->listeners[i]);
    for (size_t i = 0; i < SETTINGS_LISTENERS_MAX; i++)
        authn_chain_free(p->chains[i]);
    inflight_free(p->svc.inflight);
    account_cache_free(p->svc.accounts);
    used_free(p->svc.used);
    metrics_free(p->svc.metrics);
    limits_free(p->svc.limits);
    rekeys_free(p->svc.rekeys);
    rotation_free(p->svc.rotation);
}

static void
free_documents(struct parts *p)
{
    documents_free(p->documents);
}

/* --- the table ---------------------------------------------------------------------------- */

static const struct part {
    int (*start)(struct parts *);
    void (*stop)(struct parts *); /* NULL: nothing to undo */
    bool serving; /* not needed for work on the store alone */
} table[] = {
    { parts_harden, NULL, false },
    { parts_block_signals, NULL, false },
    { parts_open_log, NULL, false },
    { parts_open_notify, parts_close_notify, false },
    { parts_make_routes, NULL, false },
    { parts_raise_descriptors, NULL, false },
    { parts_become_user, NULL, false },
    { parts_load_plugins, parts_free_options, false },
    { parts_load_tls, parts_free_tls, false },
    { parts_make_state_dir, NULL, false },
    { parts_open_storage, parts_close_storage, false },
    { parts_open_keys, parts_close_keys, false },
    { parts_check_keys, NULL, false },
    { parts_begin_time, NULL, false }, /* what the journal may drop is told by it */
    { parts_open_journal, parts_close_journal, false },
    { parts_open_signer, parts_close_signer, false },
    { parts_begin_following, parts_end_following, false },
    { parts_make_index, parts_close_index, false },
    { parts_fill_followed, NULL, false },
    { parts_open_backup, parts_close_backup, true },
    { parts_open_auths, parts_close_auths, true },
    { start_threads, stop_threads, true },
    { print_documents, free_documents, true },
    { parts_start_listeners, parts_stop_listeners, true },
    { parts_fill_late, NULL, false },
    { start_keeper, NULL, true }, /* it ends with the threads */
    { say_ready, NULL, true },
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
    if (!log_reopen())
        log_line(LOG_LEVEL_WARNING, "log.kept", "message=%s", strerror(errno));
    if (sig != SIGHUP)
        return;
    if (!parts_reload(p))
        return;
    parts_reload_tls(p);
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
    bool serving = p->rollback == ROLLBACK_REFUSE && !p->accept_clock && !p->accept_signer;
    for (; i < PARTS && code == EX_OK; i++)
        if (serving || !table[i].serving)
            code = table[i].start(p);
    if (code == EX_OK && serving)
        wait_for_end(p);
    while (i-- > 0)
        if (table[i].stop && (serving || !table[i].serving))
            table[i].stop(p);
    log_line(LOG_LEVEL_NOTICE, "stopped", "code=%d", code);
    return code;
}

/* --- arguments ---------------------------------------------------------------------------- */

static void
print_usage(FILE *f)
{
    fputs("usage: kaitend [-c FILE] [--check | --dump-config | --dump-options |\n"
          "                          --accept-rollback keep|revoke | --accept-clock |\n"
          "                          --accept-signing-key |\n"
          "                          --restore DIR [--replace] | --init-store |\n"
          "                          --export FILE | --import FILE]\n"
          "       kaitend --dump-plugin NAME | --version | --help\n"
          "\n"
          "  -c, --config FILE   configuration (default " SYSCONFDIR "/kaitend/kaitend.conf)\n"
          "  -t, --check         check the configuration with its keys and rules, then end\n"
          "  --restore DIR       put a copy of the store in place, then end; with --replace also\n"
          "                      where there is a store, which is kept aside\n"
          "  --init-store        make the store or bring it to this version's format, then end;\n"
          "                      only stores that the daemon itself may not make need it\n"
          "  --export FILE       write the store as a stream for any storage plugin, then end\n"
          "  --import FILE       fill an empty store from such a stream, then end; -: a pipe\n"
          "  --accept-rollback keep|revoke\n"
          "                      accept a store that was put back to an older state, then end\n"
          "  --accept-clock      accept the clock although later times have passed, then end\n"
          "  --accept-signing-key\n"
          "                      have the daemons of the store sign with our key, then end\n"
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
    parts_set_folders(p);
    if (!plugin_load(name, p->folders, &p->storage, &err))
        return parts_fail(EX_CONFIG, err.text);
    const struct plugin *plugin = p->storage; /* a plugin of either kind */
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
        const struct listener_settings *l = &p->settings->listeners[i];
        printf("\n[%s%s%s]\n", l->is_http ? "http" : "socket", l->name ? " " : "",
               l->name ? l->name : "");
        conf_print_values(stdout, l->values);
    }
    printf("\n[%s]\n", p->storage->name);
    conf_print_values(stdout, p->options[0]);
    for (size_t i = 0; i < p->nauths; i++) {
        printf("\n[%s]\n", p->auths[i]->name);
        conf_print_values(stdout, p->options[1 + i]);
    }
    return EX_OK;
}

/* The one who runs this may have rights that the daemon's user has not: to make a store, or to read
 * a copy. */
static bool
keeps_rights(const struct parts *p)
{
    return p->init_store || p->restore_from;
}

/* Work on the store alone, for which only what stands before that step in the table is needed. */
static int
work_before(struct parts *p, int (*step)(struct parts *), int (*work)(struct parts *))
{
    size_t i = 0;
    int code = EX_OK;
    for (; table[i].start != step && code == EX_OK; i++)
        if (table[i].start != parts_become_user || !keeps_rights(p))
            code = table[i].start(p);
    if (code == EX_OK)
        code = work(p);
    while (i-- > 0)
        if (table[i].stop)
            table[i].stop(p);
    return code;
}

static int
serve_or_work(struct parts *p)
{
    if (p->init_store)
        return work_before(p, parts_load_tls, parts_init_store);
    if (p->restore_from)
        return work_before(p, parts_open_storage, parts_restore);
    if (p->export_to)
        return work_before(p, parts_open_keys, parts_export);
    if (p->import_from)
        return work_before(p, parts_open_keys, parts_import);
    return serve(p);
}

enum mode { MODE_SERVE, MODE_CHECK, MODE_DUMP_CONFIG };

/* What callers are known by is opened as at the start, since only then rules and key files are
 * read; neither the store nor a door is. */
static int
check(struct parts *p)
{
    log_set_level(LOG_LEVEL_WARNING);
    int code = parts_load_tls(p);
    if (code == EX_OK)
        code = parts_open_auths(p);
    parts_close_auths(p);
    return code;
}

static int
run(struct parts *p, const char *path, enum mode mode)
{
    struct conf_error err;
    p->conf_path = path;
    if (!settings_read(path, &p->settings, &err))
        return parts_fail(EX_CONFIG, err.text);
    int code = EX_OK;
    if (mode == MODE_SERVE) {
        code = serve_or_work(p);
    } else {
        code = mode == MODE_CHECK ? parts_become_user(p) : EX_OK;
        if (code == EX_OK)
            code = parts_load_plugins(p);
        if (code == EX_OK && mode == MODE_CHECK)
            code = check(p);
        if (code == EX_OK && mode == MODE_DUMP_CONFIG)
            dump_config(p);
        parts_free_tls(p);
        parts_free_options(p);
    }
    settings_free(p->settings);
    return code;
}

static bool
parse_rollback(const char *word, enum parts_rollback *ret)
{
    *ret = strcmp(word, "revoke") == 0 ? ROLLBACK_REVOKE : ROLLBACK_KEEP;
    if (*ret == ROLLBACK_REVOKE || strcmp(word, "keep") == 0)
        return true;
    fprintf(stderr, "kaitend: --accept-rollback: \"%s\"; accepted: keep, revoke\n", word);
    return false;
}

/* What was printed for a file, and is not in it, must not pass for done. */
static int
end_printing(int code)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    fprintf(stderr, "kaitend: standard output: %s\n",
            errno != 0 ? strerror(errno) : "not all of it could be written");
    return EX_IOERR;
}

/* Of two things one would silently be left out. */
static bool
is_one_thing(const struct parts *p, enum mode mode)
{
    bool accepts = p->rollback != ROLLBACK_REFUSE || p->accept_clock || p->accept_signer;
    int things = (mode != MODE_SERVE) + accepts + (p->restore_from != NULL) + p->init_store +
                 (p->export_to != NULL) + (p->import_from != NULL);
    if (things > 1)
        fputs("kaitend: options that each ask for something else; accepted: one of them\n", stderr);
    else if (p->restore_replace && !p->restore_from)
        fputs("kaitend: --replace without --restore; accepted: both\n", stderr);
    else
        return true;
    return false;
}

enum {
    DUMP_CONFIG = 256, DUMP_OPTIONS, DUMP_PLUGIN, ACCEPT_ROLLBACK, ACCEPT_CLOCK, ACCEPT_SIGNER,
    RESTORE, REPLACE, INIT_STORE, EXPORT, IMPORT
};

static const struct option longs[] = {
    { "config", required_argument, NULL, 'c' },
    { "check", no_argument, NULL, 't' },
    { "accept-rollback", required_argument, NULL, ACCEPT_ROLLBACK },
    { "restore", required_argument, NULL, RESTORE },
    { "replace", no_argument, NULL, REPLACE },
    { "export", required_argument, NULL, EXPORT },
    { "import", required_argument, NULL, IMPORT },
    { "init-store", no_argument, NULL, INIT_STORE },
    { "accept-clock", no_argument, NULL, ACCEPT_CLOCK },
    { "accept-signing-key", no_argument, NULL, ACCEPT_SIGNER },
    { "dump-config", no_argument, NULL, DUMP_CONFIG },
    { "dump-options", no_argument, NULL, DUMP_OPTIONS },
    { "dump-plugin", required_argument, NULL, DUMP_PLUGIN },
    { "version", no_argument, NULL, 'V' },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

int
main(int argc, char **argv)
{
    static struct parts parts = { .index_guard = PTHREAD_RWLOCK_INITIALIZER };
    const char *path = SYSCONFDIR "/kaitend/kaitend.conf";
    enum mode mode = MODE_SERVE;
    int c;
    if (!kt_stdio_hold())
        return EX_OSERR;
    while ((c = getopt_long(argc, argv, "c:tVh", longs, NULL)) != -1) {
        switch (c) {
        case 'c': path = optarg; break;
        case 't': mode = MODE_CHECK; break;
        case ACCEPT_ROLLBACK:
            if (!parse_rollback(optarg, &parts.rollback))
                return EX_USAGE;
            break;
        case RESTORE: parts.restore_from = optarg; break;
        case REPLACE: parts.restore_replace = true; break;
        case EXPORT: parts.export_to = optarg; break;
        case IMPORT: parts.import_from = optarg; break;
        case INIT_STORE: parts.init_store = true; break;
        case ACCEPT_CLOCK: parts.accept_clock = true; break;
        case ACCEPT_SIGNER: parts.accept_signer = true; break;
        case DUMP_CONFIG: mode = MODE_DUMP_CONFIG; break;
        case DUMP_OPTIONS: return end_printing(dump_options());
        case DUMP_PLUGIN: return end_printing(dump_plugin(&parts, optarg));
        case 'V': return end_printing(print_version());
        case 'h': print_usage(stdout); return end_printing(EX_OK);
        default: print_usage(stderr); return EX_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "kaitend: unexpected argument %s\n", argv[optind]);
        print_usage(stderr);
        return EX_USAGE;
    }
    return is_one_thing(&parts, mode) ? end_printing(run(&parts, path, mode)) : EX_USAGE;
}
