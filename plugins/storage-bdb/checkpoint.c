/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <stdlib.h>
#include <time.h>

enum {
    LOOK_EVERY_MS = 250,
    PAUSE_LOOKS = 40, /* after a checkpoint that failed, and between two bursts of log lines */
    LOG_LEAST = 1 << 20, /* nothing is won by a checkpoint of less */
    ROOM_TIMES = 4       /* when space runs out, what is unchecked is at most this part of it */
};

uint64_t
bdb_log_unchecked(struct bdb *bdb)
{
    DB_LOG_STAT *stat;
    if (bdb->env->log_stat(bdb->env, &stat, 0) != 0)
        return 0;
    uint64_t bytes = (uint64_t)stat->st_wc_mbytes * 1024 * 1024 + stat->st_wc_bytes;
    free(stat);
    return bytes;
}

int
bdb_checkpoint(struct bdb *bdb)
{
    return bdb->env->txn_checkpoint(bdb->env, 0, 0, DB_FORCE);
}

bool
bdb_wait(struct bdb *bdb, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ms % 1000 * 1000000L;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;

    pthread_mutex_lock(&bdb->mutex);
    int error = 0;
    while (!bdb->stop && error == 0)
        error = pthread_cond_timedwait(&bdb->wake, &bdb->mutex, &until);
    pthread_mutex_unlock(&bdb->mutex);
    return !bdb->stop;
}

static bool
is_due(struct bdb *bdb)
{
    uint64_t bytes = bdb_log_unchecked(bdb);
    if (bytes >= (uint64_t)bdb->options.checkpoint_log)
        return true;
    if (bytes < LOG_LEAST)
        return false;
    uint64_t free_bytes = bdb_room_free(bdb->options.path);
    return free_bytes < bdb->reserve + bytes * ROOM_TIMES;
}

static void *
checkpoint_run(void *arg)
{
    struct bdb *bdb = arg;
    unsigned pause = 0;
    for (unsigned look = 1; bdb_wait(bdb, LOOK_EVERY_MS); look++) {
        if (look % PAUSE_LOOKS == 0)
            atomic_store(&bdb->voice.lines, 0);
        if (pause > 0 && pause--)
            continue;
        if (!is_due(bdb))
            continue;
        int error = bdb_checkpoint(bdb);
        if (!error)
            continue;
        bdb->host.log(KAITEN_LOG_ERROR, "storage-bdb: checkpoint: %s", db_strerror(error));
        pause = PAUSE_LOOKS;
    }
    return NULL;
}

static void
stop(struct bdb *bdb)
{
    pthread_mutex_lock(&bdb->mutex);
    bdb->stop = true;
    pthread_cond_broadcast(&bdb->wake);
    pthread_mutex_unlock(&bdb->mutex);
}

static void
forget(struct bdb *bdb)
{
    pthread_cond_destroy(&bdb->wake);
    pthread_mutex_destroy(&bdb->mutex);
}

int
bdb_threads_start(struct bdb *bdb)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&bdb->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&bdb->mutex, NULL);

    int error = bdb_thread_start(&bdb->checkpointer, checkpoint_run, bdb);
    if (error) {
        forget(bdb);
        return error;
    }
    error = bdb_thread_start(&bdb->keeper, bdb_base_run, bdb);
    if (error) {
        stop(bdb);
        pthread_join(bdb->checkpointer, NULL);
        forget(bdb);
    }
    return error;
}

void
bdb_threads_stop(struct bdb *bdb)
{
    stop(bdb);
    pthread_join(bdb->checkpointer, NULL);
    pthread_join(bdb->keeper, NULL);
    forget(bdb);
}
