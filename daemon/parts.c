/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/parts.h"

#include "daemon/log.h"
#include "daemon/notify.h"
#include "daemon/plugin.h"
#include "daemon/route.h"
#include "daemon/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

/* --- what can go wrong -------------------------------------------------------------------- */

int
parts_fail(int code, const char *text)
{
    log_line(LOG_LEVEL_ERROR, "start.failed", "message=%s", text);
    return code;
}

int
parts_fail_errno(int code, const char *what)
{
    char text[256];
    snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
    return parts_fail(code, text);
}

/* --- process ------------------------------------------------------------------------------ */

/* No core dumps and no debugger: the process holds keys. */
int
parts_harden(struct parts *p)
{
    (void)p;
    const struct rlimit none = { 0, 0 };
    umask(0077);
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0);
    if (sodium_init() < 0)
        return parts_fail(EX_SOFTWARE, "libsodium cannot be initialised");
    return EX_OK;
}

int
parts_become_user(struct parts *p)
{
    const char *name = p->settings->user;
    if (!name || geteuid() != 0)
        return EX_OK;
    const struct passwd *pw = getpwnam(name);
    if (!pw) {
        char text[512];
        snprintf(text, sizeof text, "%s: [kaitend] user: \"%.64s\": there is no such user",
                 conf_where(p->settings->values, "user", 0), name);
        return parts_fail(EX_NOUSER, text);
    }
    if (initgroups(name, pw->pw_gid) != 0 || setgid(pw->pw_gid) != 0 || setuid(pw->pw_uid) != 0)
        return parts_fail_errno(EX_OSERR, "becoming the configured user");
    prctl(PR_SET_DUMPABLE, 0); /* changing the user turns it on again */
    return EX_OK;
}

/* The usual limit of 1024 is less than the listeners may be asked to hold. */
int
parts_raise_descriptors(struct parts *p)
{
    enum { OWN = 256 }; /* descriptors for the store, its logs, plugins, and event loops */
    struct settings *s = p->settings;
    struct rlimit limit;
    rlim_t wanted = OWN, all = 0;
    for (size_t i = 0; i < s->nlisteners; i++)
        all += s->listeners[i].limits.conns_max;
    wanted += all;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return parts_fail_errno(EX_OSERR, "the limit of descriptors");
    if (limit.rlim_cur >= wanted)
        return EX_OK;
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        limit.rlim_cur = before;
    if (limit.rlim_cur < wanted)
        log_line(LOG_LEVEL_WARNING, "descriptors.few", "wanted=%lu allowed=%lu",
                 (unsigned long)wanted, (unsigned long)limit.rlim_cur);
    return EX_OK;
}

/* Before any thread is started, so that all of them leave these signals to the main thread. */
int
parts_block_signals(struct parts *p)
{
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&p->signals);
    sigaddset(&p->signals, SIGTERM);
    sigaddset(&p->signals, SIGINT);
    sigaddset(&p->signals, SIGHUP);
    sigaddset(&p->signals, SIGUSR1);
    return pthread_sigmask(SIG_BLOCK, &p->signals, NULL) == 0 ? EX_OK : EX_OSERR;
}

int
parts_open_log(struct parts *p)
{
    const struct log_options options = { .level = p->settings->log_level,
                                         .file = p->settings->log_file };
    if (log_open(&options))
        return EX_OK;
    return parts_fail_errno(EX_CANTCREAT, p->settings->log_file);
}

int
parts_open_notify(struct parts *p)
{
    (void)p;
    if (!notify_open())
        log_line(LOG_LEVEL_WARNING, "notify.failed", "message=%s",
                 "NOTIFY_SOCKET names no socket that can be used; the service manager hears "
                 "nothing");
    return EX_OK;
}

int
parts_make_routes(struct parts *p)
{
    (void)p;
    route_init();
    return EX_OK;
}

int
parts_make_state_dir(struct parts *p)
{
    const char *path = p->settings->state_dir;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return parts_fail_errno(EX_CANTCREAT, path);
    p->state_lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->state_lock < 0)
        return parts_fail_errno(EX_CANTCREAT, path);
    if (flock(p->state_lock, LOCK_EX | LOCK_NB) == 0)
        return EX_OK;
    char text[512];
    snprintf(text, sizeof text, "%s: it is in use by another kaitend; end that one first", path);
    return parts_fail(EX_TEMPFAIL, text);
}

void
parts_close_notify(struct parts *p)
{
    (void)p;
    notify_close();
}

/* --- plugins ------------------------------------------------------------------------------ */

void
parts_set_folders(struct parts *p)
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
        return parts_fail(EX_CONFIG, err.text);
    if ((*ret)->kind != kind) {
        snprintf(err.text, sizeof err.text, "plugin \"%s\" is no %s plugin", name,
                 kind == PLUGIN_AUTH ? "auth" : "storage");
        return parts_fail(EX_CONFIG, err.text);
    }
    if (!conf_apply(p->settings->conf, name, NULL, (*ret)->options, ret_options, &err) ||
        !conf_check_secrets(*ret_options, &err))
        return parts_fail(EX_CONFIG, err.text);
    p->options[p->noptions++] = *ret_options;
    return EX_OK;
}

struct plugin *
parts_find_auth(struct parts *p, const char *name, size_t *ret_index)
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
    if (parts_find_auth(p, name, &i))
        return EX_OK;
    if (p->nauths == sizeof p->auths / sizeof p->auths[0])
        return parts_fail(EX_CONFIG, "too many auth plugins");
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

int
parts_load_plugins(struct parts *p)
{
    struct conf_values *options;
    struct conf_error err;
    parts_set_folders(p);
    int code = load_plugin(p, p->settings->storage, PLUGIN_STORAGE, &p->storage, &options);
    if (code == EX_OK)
        code = load_auths(p);
    if (code == EX_OK && !conf_unused(p->settings->conf, &err))
        return parts_fail(EX_CONFIG, err.text);
    return code;
}

void
parts_free_options(struct parts *p)
{
    for (size_t i = 0; i < p->noptions; i++)
        conf_values_free(p->options[i]);
}
