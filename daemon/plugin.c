/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct kaiten_option no_options[] = { { .name = NULL } };

static bool __attribute__((format(printf, 2, 3)))
err_set(struct conf_error *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    return false;
}

/* Loading runs code, so whoever could write the file or swap it for another owns the daemon. */
static bool
check_owner(const char *path, const struct stat *st, struct conf_error *err)
{
    if (st->st_uid != 0 && st->st_uid != geteuid())
        return err_set(err, "%s: owned by uid %u; a plugin must belong to root or to uid %u", path,
                       (unsigned)st->st_uid, (unsigned)geteuid());
    /* In a sticky folder others cannot rename or replace what is ours. */
    bool sticky = S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX);
    if ((st->st_mode & (S_IWGRP | S_IWOTH)) && !sticky)
        return err_set(err, "%s: mode %04o lets others write it; run chmod go-w %s", path,
                       (unsigned)(st->st_mode & 07777), path);
    return true;
}

static bool
check_parents(const char *path, struct conf_error *err)
{
    char real[PATH_MAX];
    if (!realpath(path, real))
        return err_set(err, "%s: %s", path, strerror(errno));
    for (char *slash = strrchr(real, '/'); slash; slash = strrchr(real, '/')) {
        *slash = '\0';
        const char *folder = *real ? real : "/";
        struct stat st;
        if (stat(folder, &st) != 0)
            return err_set(err, "%s: %s", folder, strerror(errno));
        if (!check_owner(folder, &st, err))
            return false;
    }
    return true;
}

/* The descriptor of the file; -1: err is filled. */
static int
open_checked(const char *path, struct conf_error *err)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        err_set(err, "%s: %s", path, errno == ELOOP ? "is a symbolic link" : strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        err_set(err, "%s: is not a regular file", path);
    } else if (check_owner(path, &st, err) && check_parents(path, err)) {
        return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool
find_file(const char *name, const char *const *folders, char path[PATH_MAX],
          struct conf_error *err)
{
    if (*name == '\0' || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != strlen(name))
        return err_set(err, "plugin \"%s\": a name has only a-z, 0-9, - and _", name);
    char tried[512] = "";
    for (; *folders; folders++) {
        int n = snprintf(path, PATH_MAX, "%s/%s.so", *folders, name);
        if (n > 0 && n < PATH_MAX && access(path, F_OK) == 0)
            return true;
        size_t used = strlen(tried);
        snprintf(tried + used, sizeof tried - used, "%s%s", used ? ", " : "", *folders);
    }
    return err_set(err, "plugin \"%s\": there is no %s.so in %s", name, name, tried);
}

/* --- heads -------------------------------------------------------------------------------- */

/* How the struct of either kind begins; what is behind our own sizeof is unknown to us. */
struct head {
    const char *kind;
    uint32_t size, abi, threads;
    uint32_t size_least, abi_ours;
};

static bool
check_head(const char *path, const struct head *h, struct conf_error *err)
{
    if (h->abi != h->abi_ours)
        return err_set(err, "%s: made for %s ABI %u, this daemon speaks %u; rebuild the plugin",
                       path, h->kind, (unsigned)h->abi, (unsigned)h->abi_ours);
    if (h->size < h->size_least)
        return err_set(err, "%s: its struct has %u bytes, at least %u are required", path,
                       (unsigned)h->size, (unsigned)h->size_least);
    if (h->threads < KAITEN_THREADS_SERIAL || h->threads > KAITEN_THREADS_PARALLEL)
        return err_set(err, "%s: thread level %u is none of 1, 2, 3", path, (unsigned)h->threads);
    return true;
}

static bool
check_member(const char *path, const char *member, bool present, struct conf_error *err)
{
    return present || err_set(err, "%s: the required member %s is NULL", path, member);
}

static bool
adopt_storage(const char *path, const struct kaiten_storage *theirs, struct plugin *p,
              struct conf_error *err)
{
    const struct head head = {
        "storage", theirs->size, theirs->abi, theirs->threads,
        .size_least = offsetof(struct kaiten_storage, apply) + sizeof theirs->apply,
        .abi_ours = KAITEN_STORAGE_ABI,
    };
    if (!check_head(path, &head, err))
        return false;
    size_t n = theirs->size < sizeof p->storage ? theirs->size : sizeof p->storage;
    memcpy(&p->storage, theirs, n);
    const struct kaiten_storage *s = &p->storage;
    p->options = s->options ? s->options : no_options;
    return check_member(path, "name", s->name != NULL, err) &&
           check_member(path, "open", s->open != NULL, err) &&
           check_member(path, "close", s->close != NULL, err) &&
           check_member(path, "get", s->get != NULL, err) &&
           check_member(path, "scan", s->scan != NULL, err) &&
           check_member(path, "apply", s->apply != NULL, err);
}

static bool
adopt_auth(const char *path, const struct kaiten_auth *theirs, struct plugin *p,
           struct conf_error *err)
{
    const struct head head = {
        "auth", theirs->size, theirs->abi, theirs->threads,
        .size_least = offsetof(struct kaiten_auth, identify) + sizeof theirs->identify,
        .abi_ours = KAITEN_AUTH_ABI,
    };
    if (!check_head(path, &head, err))
        return false;
    size_t n = theirs->size < sizeof p->auth ? theirs->size : sizeof p->auth;
    memcpy(&p->auth, theirs, n);
    const struct kaiten_auth *a = &p->auth;
    p->options = a->options ? a->options : no_options;
    return check_member(path, "name", a->name != NULL, err) &&
           check_member(path, "open", a->open != NULL, err) &&
           check_member(path, "close", a->close != NULL, err) &&
           check_member(path, "identify", a->identify != NULL, err);
}

static bool
adopt(const char *path, const struct kaiten_storage *storage, const struct kaiten_auth *auth,
      struct plugin *p, struct conf_error *err)
{
    if (storage) {
        p->kind = PLUGIN_STORAGE;
        return adopt_storage(path, storage, p, err);
    }
    if (auth) {
        p->kind = PLUGIN_AUTH;
        return adopt_auth(path, auth, p, err);
    }
    return err_set(err, "%s: exports neither kaiten_storage_plugin nor kaiten_auth_plugin", path);
}

static bool
make(const char *name, const char *path, const struct kaiten_storage *storage,
     const struct kaiten_auth *auth, struct plugin **ret, struct conf_error *err)
{
    struct {
        struct plugin plugin;
        pthread_mutex_t calls;
        char name[];
    } *made = calloc(1, sizeof *made + strlen(name) + 1);
    if (!made)
        return err_set(err, "%s: out of memory", path);
    struct plugin *p = &made->plugin;
    p->name = memcpy(made->name, name, strlen(name) + 1);
    p->calls = &made->calls;
    pthread_mutex_init(p->calls, NULL);
    if (!adopt(path, storage, auth, p, err)) {
        free(made);
        return false;
    }
    *ret = p;
    return true;
}

bool
plugin_load(const char *name, const char *const *folders, struct plugin **ret,
            struct conf_error *err)
{
    for (const struct plugin_builtin *b = plugin_builtins; b->name; b++)
        if (strcmp(b->name, name) == 0)
            return make(name, name, b->storage, b->auth, ret, err);

    char path[PATH_MAX], self[64];
    if (!find_file(name, folders, path, err))
        return false;
    int fd = open_checked(path, err);
    if (fd < 0)
        return false;
    /* By descriptor, so that what was checked is what is loaded. The descriptor stays open: the C
     * library tells libraries apart by name, and a reused number would be taken for this one. */
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    void *dl = dlopen(self, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!dl)
        return err_set(err, "%s: %s", path, dlerror());
    return make(name, path, dlsym(dl, "kaiten_storage_plugin"), dlsym(dl, "kaiten_auth_plugin"),
                ret, err);
}
