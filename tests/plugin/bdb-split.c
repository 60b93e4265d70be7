/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* bdb-split PLUGIN DIRECTORY: one batch of a group cannot be written (its condition is of a type
 * that does not exist); the others must be, and the urgent one first. Exit status 0: so it is. */
#include "config.h"

#include "plugins/kaiten-storage.h"

#include "tests/plugin/fake-host.h"

#include <dlfcn.h>
#include <stdio.h>

static int
fail(const char *what, const struct kaiten_err *err)
{
    printf("%s: %s\n", what, err->text);
    return 1;
}

int
main(int argc, char **argv)
{
    void *handle = argc == 3 ? dlopen(argv[1], RTLD_NOW) : NULL;
    const struct kaiten_storage *s = handle ? dlsym(handle, "kaiten_storage_plugin") : NULL;
    if (!s)
        return 2;
    struct kaiten_config *config = fake_config_new(s->options);
    fake_config_set(config, "path", argv[2]);
    struct kaiten_err err;
    void *store;
    fake_err_init(&err);
    fake_host_in_open(true);
    if (s->open(fake_host(), config, &store, &err) != KAITEN_DONE)
        return fail("open", &err);

    struct kaiten_write writes[3] = { { KAITEN_SET, { "ya", 2 }, { "1", 1 } },
                                      { KAITEN_SET, { "yb", 2 }, { "2", 1 } },
                                      { KAITEN_SET, { "yc", 2 }, { "3", 1 } } };
    struct kaiten_cond poison = { (enum kaiten_cond_type)99, { "yb", 2 }, 0 };
    struct kaiten_batch batches[3] = { { .writes = &writes[0], .nwrites = 1 },
                                       { .writes = &writes[1], .nwrites = 1,
                                         .conds = &poison, .nconds = 1 },
                                       { .writes = &writes[2], .nwrites = 1,
                                         .flags = KAITEN_BATCH_URGENT } };
    struct kaiten_outcome o[3];
    if (s->apply(store, batches, 3, o, &err) != KAITEN_DONE)
        return fail("apply", &err);
    if (o[0].status != KAITEN_DONE || o[1].status != KAITEN_FAILED || o[2].status != KAITEN_DONE)
        return fail("outcomes", &err);
    if (o[2].revision >= o[0].revision)
        return fail("the urgent one was not first", &err);

    struct kaiten_bytes keys[3] = { { "ya", 2 }, { "yb", 2 }, { "yc", 2 } };
    struct kaiten_emit emit;
    fake_emit_init(&emit);
    if (s->get(store, keys, 3, &emit, &err) != KAITEN_DONE || emit.n != 2)
        return fail("get", &err);
    if (s->apply(store, &batches[1], 1, o, &err) == KAITEN_DONE)
        return fail("a poison batch alone", &err);
    fake_emit_done(&emit);
    s->close(store);
    fake_config_free(config);
    return 0;
}
