/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "tests/plugin/check.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t
entries(const char *path)
{
    DIR *dir = opendir(path);
    size_t n = 0;
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

static bool
life_open(struct check *c)
{
    EXPECT(check_put(c, check_key(c, "a"), check_text("1")));
    EXPECT(check_is(c, check_key(c, "a"), "1"));
    return true;
}

static bool
life_close(struct check *c)
{
    EXPECT(check_open(c)); /* whatever the first one keeps for ever is no leak */
    check_close(c);
    size_t files = entries("/proc/self/fd"), threads = entries("/proc/self/task");
    for (int i = 0; i < 3; i++) {
        EXPECT(check_open(c));
        EXPECT(check_put(c, check_key(c, "a"), check_text("1")));
        check_close(c);
    }
    EXPECT(entries("/proc/self/fd") == files);
    EXPECT(entries("/proc/self/task") == threads);
    return true;
}

/* The text that came with a refusal. */
static enum kaiten_status
open_again(struct check *c, void **instance, struct kaiten_err *ret_err)
{
    fake_err_init(ret_err);
    fake_host_in_open(true);
    enum kaiten_status status = c->storage.open(fake_host(), c->config, instance, ret_err);
    fake_host_in_open(false);
    return status;
}

static bool
life_second_opener(struct check *c)
{
    void *untouched = c, *second = untouched;
    struct kaiten_err err;
    EXPECT(open_again(c, &second, &err) != KAITEN_DONE);
    EXPECT(second == untouched);
    EXPECT(err.text[0]);
    EXPECT(strstr(err.text, c->directory)); /* an operator wants to know which store */
    EXPECT(check_put(c, check_key(c, "a"), check_text("still works")));
    EXPECT(check_is(c, check_key(c, "a"), "still works"));
    check_close(c);
    EXPECT(check_open(c));
    return true;
}

static bool
life_instances(struct check *c)
{
    char other[4096];
    snprintf(other, sizeof other, "%s/other", c->directory);
    void *first = c->store;
    EXPECT(check_put(c, check_key(c, "a"), check_text("first")));
    check_path(c, other);
    EXPECT(check_open(c));
    void *second = c->store;
    EXPECT(check_is(c, check_key(c, "a"), NULL));
    EXPECT(check_put(c, check_key(c, "a"), check_text("second")));
    check_close(c);
    EXPECT(second != first);
    c->store = first;
    EXPECT(check_is(c, check_key(c, "a"), "first"));
    return true;
}

static bool
refused(struct check *c, const char *path)
{
    void *untouched = c, *instance = untouched;
    struct kaiten_err err;
    size_t files = entries("/proc/self/fd"), threads = entries("/proc/self/task");
    check_path(c, path);
    enum kaiten_status status = open_again(c, &instance, &err);
    EXPECT(status != KAITEN_DONE && status != KAITEN_CONFLICT);
    EXPECT(status >= KAITEN_DONE && status <= KAITEN_UNKNOWN);
    EXPECT(instance == untouched);
    EXPECT(err.text[0]);
    EXPECT(entries("/proc/self/fd") == files);
    EXPECT(entries("/proc/self/task") == threads);
    return true;
}

static bool
life_unusable(struct check *c)
{
    char file[4096], below[4200];
    snprintf(file, sizeof file, "%s/file", c->directory);
    snprintf(below, sizeof below, "%s/store", file);
    FILE *f = fopen(file, "w");
    EXPECT(f && fputs("not a store\n", f) >= 0 && fclose(f) == 0);
    EXPECT(refused(c, below));
    EXPECT(refused(c, file));
    EXPECT(refused(c, "/proc/no/such/directory"));
    return true;
}

static bool
life_minimum(struct check *c)
{
    for (const struct kaiten_option *o = c->storage.options; o && o->name; o++) {
        char text[32];
        bool number = o->type == KAITEN_OPT_INT || o->type == KAITEN_OPT_SIZE;
        if (!number || (o->min == 0 && o->max == 0))
            continue;
        snprintf(text, sizeof text, "%lld", (long long)o->min);
        fake_config_set(c->config, o->name, text);
    }
    EXPECT(check_open(c));
    for (uint64_t i = 0; i < 200; i++)
        EXPECT(check_put(c, check_key_number(c, "n", i), check_filled(c, 'x', 10000)));
    check_close(c);
    EXPECT(check_open(c));
    return true;
}

static bool
life_health(struct check *c)
{
    struct kaiten_err err;
    fake_err_init(&err);
    enum kaiten_status status = c->storage.health(c->store, &err);
    return status == KAITEN_DONE || check_fail("health returned %d: %s", (int)status, err.text);
}

static bool
life_revision(struct check *c)
{
    uint64_t before = 0, after = 0;
    struct kaiten_err err;
    fake_err_init(&err);
    EXPECT(c->storage.revision(c->store, &before, &err) == KAITEN_DONE);
    EXPECT(check_put(c, check_key(c, "a"), check_text("1")));
    EXPECT(c->storage.revision(c->store, &after, &err) == KAITEN_DONE);
    EXPECT(after != before);
    return true;
}

static bool
life_kept(struct check *c)
{
    EXPECT(!c->storage.kept || (c->storage.kept(c->store) & ~c->storage.caps) == 0);
    return true;
}

const struct check_case cases_life[] = {
    { "open: opens or creates the store", life_open, NEED_STORE },
    { "close: ends the instance, its threads and its files", life_close, NEED_DIRECTORY },
    { "open: locks it against a second opener", life_second_opener,
      NEED_STORE | NEED_DIRECTORY | NEED_DURABLE },
    { "open: two stores are two instances", life_instances, NEED_STORE | NEED_DIRECTORY },
    { "open: an unusable path is refused with a reason, and nothing is kept", life_unusable,
      NEED_DIRECTORY },
    { "open: works with every number at its minimum", life_minimum, NEED_DIRECTORY },
    { "health: DONE: reads and writes would work now", life_health, NEED_STORE | NEED_HEALTH },
    { "revision: a number that moves whenever anybody writes", life_revision,
      NEED_STORE | NEED_REVISION },
    { "kept: caps, or fewer", life_kept, NEED_STORE },
    { NULL, NULL, 0 },
};
