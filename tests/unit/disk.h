/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* A store that does what the test says: storage-memory behind a plugin that fails, or waits, on
 * request. */
#ifndef DISK_TEST_H
#define DISK_TEST_H

#include "daemon/plugin.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* What a test needs to go on at all; the fuzz targets have no cmocka. */
#define core_must(condition)                                                                       \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

extern const struct kaiten_storage kaiten_storage_plugin; /* storage-memory */

/* Statuses below are what is said instead of doing the work; KAITEN_DONE: do it. */
struct disk {
    void *memory;
    _Atomic int get_says, scan_says, health_says;
    _Atomic int apply_says;       /* of the call as a whole */
    _Atomic int batch_says;       /* of each batch, nothing is written */
    _Atomic size_t batch_failed;  /* with KAITEN_CONFLICT: the condition */
    _Atomic int times;            /* how often the two above are said; < 0: for ever */
    _Atomic size_t gets, scans, applies, batches, urgent, largest;
    pthread_mutex_t gate;         /* taken by each apply: hold it to let batches pile up */
    pthread_mutex_t read_gate;    /* taken by each get: hold it to keep workers busy */
    void (*before_apply)(struct disk *); /* on the committer */
    void *ctx;
};

static inline enum kaiten_status
disk_open(const struct kaiten_host *host, const struct kaiten_config *config, void **ret_instance,
          struct kaiten_err *err)
{
    struct disk *disk = calloc(1, sizeof *disk);
    core_must(disk);
    core_must(kaiten_storage_plugin.open(host, config, &disk->memory, err) == KAITEN_DONE);
    pthread_mutex_init(&disk->gate, NULL);
    pthread_mutex_init(&disk->read_gate, NULL);
    *ret_instance = disk;
    return KAITEN_DONE;
}

static inline void
disk_close(void *instance)
{
    struct disk *disk = instance;
    kaiten_storage_plugin.close(disk->memory);
    pthread_mutex_destroy(&disk->gate);
    pthread_mutex_destroy(&disk->read_gate);
    free(disk);
}

static inline enum kaiten_status
disk_get(void *instance, const struct kaiten_bytes *keys, size_t n, struct kaiten_emit *emit,
         struct kaiten_err *err)
{
    struct disk *disk = instance;
    atomic_fetch_add(&disk->gets, 1);
    pthread_mutex_lock(&disk->read_gate);
    pthread_mutex_unlock(&disk->read_gate);
    if (atomic_load(&disk->get_says) != KAITEN_DONE) {
        host_table.error(err, "get fails as told, in /secret/place");
        return (enum kaiten_status)atomic_load(&disk->get_says);
    }
    return kaiten_storage_plugin.get(disk->memory, keys, n, emit, err);
}

static inline enum kaiten_status
disk_scan(void *instance, const struct kaiten_range *range, struct kaiten_emit *emit,
          struct kaiten_err *err)
{
    struct disk *disk = instance;
    atomic_fetch_add(&disk->scans, 1);
    if (atomic_load(&disk->scan_says) != KAITEN_DONE) {
        host_table.error(err, "scan fails as told, in /secret/place");
        return (enum kaiten_status)atomic_load(&disk->scan_says);
    }
    return kaiten_storage_plugin.scan(disk->memory, range, emit, err);
}

static inline bool
disk_says(struct disk *disk)
{
    if (atomic_load(&disk->apply_says) == KAITEN_DONE &&
        atomic_load(&disk->batch_says) == KAITEN_DONE)
        return false;
    int left = atomic_load(&disk->times);
    if (left > 0)
        atomic_store(&disk->times, left - 1);
    return left != 0;
}

static inline enum kaiten_status
disk_apply(void *instance, const struct kaiten_batch *batches, size_t n,
           struct kaiten_outcome *outcomes, struct kaiten_err *err)
{
    struct disk *disk = instance;
    atomic_fetch_add(&disk->applies, 1);
    atomic_fetch_add(&disk->batches, n);
    for (size_t i = 0; i < n; i++)
        if (batches[i].flags & KAITEN_BATCH_URGENT)
            atomic_fetch_add(&disk->urgent, 1);
    if (n > atomic_load(&disk->largest))
        atomic_store(&disk->largest, n);
    pthread_mutex_lock(&disk->gate);
    pthread_mutex_unlock(&disk->gate);
    if (disk->before_apply)
        disk->before_apply(disk);
    if (!disk_says(disk))
        return kaiten_storage_plugin.apply(disk->memory, batches, n, outcomes, err);
    host_table.error(err, "apply fails as told, in /secret/place");
    for (size_t i = 0; i < n; i++)
        outcomes[i] = (struct kaiten_outcome){
            .status = (enum kaiten_status)atomic_load(&disk->batch_says),
            .failed = atomic_load(&disk->batch_failed),
        };
    return (enum kaiten_status)atomic_load(&disk->apply_says);
}

static inline enum kaiten_status
disk_health(void *instance, struct kaiten_err *err)
{
    struct disk *disk = instance;
    int says = atomic_load(&disk->health_says);
    if (says != KAITEN_DONE)
        host_table.error(err, "not healthy as told, in /secret/place");
    return (enum kaiten_status)says;
}

static const struct kaiten_storage disk_plugin = {
    .size = sizeof(struct kaiten_storage),
    .abi = KAITEN_STORAGE_ABI,
    .threads = KAITEN_THREADS_READERS,
    .name = "disk",
    .open = disk_open,
    .close = disk_close,
    .get = disk_get,
    .scan = disk_scan,
    .apply = disk_apply,
    .health = disk_health,
};

/* The next calls (< 0: all) say this of the group as a whole, or of each batch. */
static inline void
disk_fail(struct disk *disk, int apply, int batch, size_t failed, int times)
{
    atomic_store(&disk->times, times);
    atomic_store(&disk->batch_failed, failed);
    atomic_store(&disk->batch_says, batch);
    atomic_store(&disk->apply_says, apply);
}

static inline void
disk_mend(struct disk *disk)
{
    atomic_store(&disk->get_says, KAITEN_DONE);
    atomic_store(&disk->scan_says, KAITEN_DONE);
    atomic_store(&disk->health_says, KAITEN_DONE);
    disk_fail(disk, KAITEN_DONE, KAITEN_DONE, 0, 0);
}

#endif
