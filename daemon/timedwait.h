/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Conditions that are waited for no longer than so many milliseconds, whatever the wall clock
 * does. */
#ifndef TIMEDWAIT_H
#define TIMEDWAIT_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* Initializes a condition for pthread_cond_timedwait() until timedwait_end(). */
void timedwait_init(pthread_cond_t *);

/* The instant that is ms from now; 0 or less: now. */
struct timespec timedwait_end(int64_t ms);

#endif
