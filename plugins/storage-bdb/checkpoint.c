/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>

enum {
    LOOK_EVERY_MS = 250,
    PAUSE_LOOKS = 40 /* after a checkpoint that failed, and between two bursts of log lines */
};

/* Bytes of log that a recovery would have to read now. */
static uint64_t
log_since_checkpoint(struct bdb *bdb)
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
    int error = bdb->env->txn_checkpoint(bdb->env, 0, 0, DB_FORCE);
    if (error || bdb->options.keep_logs)
        return error;
    return bdb->env->log_archive(bdb->env, NULL, DB_ARCH_REMOVE);
}

/* False: it is time to end. */
static bool
wait_a_moment(struct bdb *bdb)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += LOOK_EVERY_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;

    pthread_mutex_lock(&bdb->mutex);
    int error = 0;
    while (!bdb->stop && error == 0)
        error = pthread_cond_timedwait(&bdb->wake, &bdb->mutex, &until);
    bool go_on = !bdb->stop;
    pthread_mutex_unlock(&bdb->mutex);
    return go_on;
}

static void *
checkpoint_run(void *arg)
{
    struct bdb *bdb = arg;
    unsigned pause = 0;
    for (unsigned look = 1; wait_a_moment(bdb); look++) {
        if (look % PAUSE_LOOKS == 0)
            atomic_store(&bdb->lines, 0);
        if (pause > 0 && pause--)
            continue;
        if (log_since_checkpoint(bdb) < (uint64_t)bdb->options.checkpoint_log)
            continue;
        int error = bdb_checkpoint(bdb);
        if (!error)
            continue;
        bdb->host.log(KAITEN_LOG_ERROR, "storage-bdb: checkpoint: %s", db_strerror(error));
        pause = PAUSE_LOOKS;
    }
    return NULL;
}

int
bdb_checkpoint_start(struct bdb *bdb)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&bdb->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&bdb->mutex, NULL);

    /* Signals are the daemon's business: none may pick this thread. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&bdb->checkpointer, NULL, checkpoint_run, bdb);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        pthread_cond_destroy(&bdb->wake);
        pthread_mutex_destroy(&bdb->mutex);
    }
    return error;
}

void
bdb_checkpoint_stop(struct bdb *bdb)
{
    pthread_mutex_lock(&bdb->mutex);
    bdb->stop = true;
    pthread_cond_signal(&bdb->wake);
    pthread_mutex_unlock(&bdb->mutex);
    pthread_join(bdb->checkpointer, NULL);
    pthread_cond_destroy(&bdb->wake);
    pthread_mutex_destroy(&bdb->mutex);
}
