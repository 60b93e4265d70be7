/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Another storage plugin, KAITEN_HELD_PLUGIN, whose scans of all digests wait as long as the file
 * KAITEN_HELD_FILE is there: a start that takes the time that a test needs. */
#include "config.h"

#include "plugins/kaiten-storage.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static struct kaiten_storage inner;

static enum kaiten_status
held_scan(void *instance, const struct kaiten_range *range, struct kaiten_emit *emit,
          struct kaiten_err *err)
{
    const char *file = getenv("KAITEN_HELD_FILE");
    const struct timespec pause = { 0, 2 * 1000 * 1000 };
    bool all = *(const char *)range->from.p == 'h' && range->from.n <= 2 && !range->limit;
    while (all && file && access(file, F_OK) == 0)
        nanosleep(&pause, NULL);
    return inner.scan(instance, range, emit, err);
}

extern struct kaiten_storage kaiten_storage_plugin;
__attribute__((visibility("default"))) struct kaiten_storage kaiten_storage_plugin;

static __attribute__((constructor)) void
begin(void)
{
    const char *path = getenv("KAITEN_HELD_PLUGIN");
    void *dl = path ? dlopen(path, RTLD_NOW) : NULL;
    const struct kaiten_storage *found = dl ? dlsym(dl, "kaiten_storage_plugin") : NULL;
    if (!found)
        abort();
    inner = kaiten_storage_plugin = *found;
    kaiten_storage_plugin.scan = held_scan;
}
