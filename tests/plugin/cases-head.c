/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/plugin/check.h"

#include <string.h>

static bool
is_storage(const struct check *c)
{
    return c->storage.size != 0;
}

static bool
head_size(struct check *c)
{
    /* The first release ended here; nothing was ever taken away. */
    size_t least = is_storage(c) ? offsetof(struct kaiten_storage, backup) + sizeof(void *)
                                 : offsetof(struct kaiten_auth, identify) + sizeof(void *);
    EXPECT(c->size >= least);
    EXPECT(c->size < 4096);
    return true;
}

static bool
head_threads(struct check *c)
{
    unsigned threads = is_storage(c) ? c->storage.threads : c->auth.threads;
    EXPECT(threads >= KAITEN_THREADS_SERIAL && threads <= KAITEN_THREADS_PARALLEL);
    return true;
}

static bool
head_caps(struct check *c)
{
    uint64_t storage = KAITEN_STORAGE_DURABLE | KAITEN_STORAGE_NOTICES |
                       KAITEN_STORAGE_OUTSIDE_WRITERS | KAITEN_STORAGE_BACKUP;
    uint64_t auth = KAITEN_AUTH_INLINE | KAITEN_AUTH_CACHE;
    uint64_t known = is_storage(c) ? storage : auth;
    EXPECT(((is_storage(c) ? c->storage.caps : c->auth.caps) & ~known) == 0);
    if (!is_storage(c))
        return true;
    EXPECT(!(c->storage.caps & KAITEN_STORAGE_BACKUP) == !c->storage.backup);
    bool outside = c->storage.caps & KAITEN_STORAGE_OUTSIDE_WRITERS;
    EXPECT(!outside || c->storage.revision || c->storage.caps & KAITEN_STORAGE_NOTICES);
    return true;
}

static bool
head_names(struct check *c)
{
    const char *name = is_storage(c) ? c->storage.name : c->auth.name;
    const char *version = is_storage(c) ? c->storage.version : c->auth.version;
    const char *summary = is_storage(c) ? c->storage.summary : c->auth.summary;
    EXPECT(name && *name && strlen(name) <= 32);
    EXPECT(name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")] == 0);
    EXPECT(version && *version);
    EXPECT(summary && strlen(summary) >= 8);
    return true;
}

static bool
head_options(struct check *c)
{
    const struct kaiten_option *options = is_storage(c) ? c->storage.options : c->auth.options;
    for (size_t i = 0; options && options[i].name; i++) {
        const char *problem = fake_option_problem(&options[i]);
        if (problem)
            return check_fail("option %s: %s", options[i].name, problem);
        for (size_t j = 0; j < i; j++)
            EXPECT(strcmp(options[i].name, options[j].name) != 0);
    }
    return true;
}

static bool
head_required(struct check *c)
{
    if (!is_storage(c)) {
        EXPECT(c->auth.open && c->auth.close && c->auth.identify);
        return true;
    }
    EXPECT(c->storage.open && c->storage.close);
    EXPECT(c->storage.get && c->storage.scan && c->storage.apply);
    return true;
}

const struct check_case cases_head[] = {
    { "size: sizeof this struct in the plugin's build", head_size, 0 },
    { "threads: the most that the plugin can take", head_threads, 0 },
    { "caps: promises, each of them known, BACKUP only when backup() is there", head_caps, 0 },
    { "name, version, summary", head_names, 0 },
    { "options: ends with a row whose name is NULL", head_options, 0 },
    { "Required functions are there", head_required, 0 },
    { NULL, NULL, 0 },
};
