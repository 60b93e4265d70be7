/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* For plugins that break one promise each, to show that kaiten-plugin-check notices: the memory
 * plugin with one function replaced. */
#ifndef BROKEN_H
#define BROKEN_H

#define KAITEN_STATIC_PLUGINS /* names the plugin below kaiten_storage_memory */
#include "plugins/storage-memory/storage-memory.c"

/* Exports the memory plugin with the named members replaced. */
#define BROKEN_PLUGIN(...) \
    extern const struct kaiten_storage kaiten_storage_plugin; \
    const struct kaiten_storage kaiten_storage_plugin = { \
        .size = sizeof(struct kaiten_storage), \
        .abi = KAITEN_STORAGE_ABI, \
        .threads = KAITEN_THREADS_READERS, \
        .name = "broken", \
        .version = "0", \
        .summary = "Breaks one promise on purpose", \
        .open = memory_open, \
        .close = memory_close, \
        .get = BROKEN_GET, \
        .scan = BROKEN_SCAN, \
        .apply = BROKEN_APPLY, \
        __VA_ARGS__ \
    }

#ifndef BROKEN_GET
#define BROKEN_GET memory_get
#endif
#ifndef BROKEN_SCAN
#define BROKEN_SCAN memory_scan
#endif
#ifndef BROKEN_APPLY
#define BROKEN_APPLY memory_apply
#endif

#endif
