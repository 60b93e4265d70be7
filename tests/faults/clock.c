/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Loaded with LD_PRELOAD: a wall clock that somebody sets. KAITEN_CLOCK_CONTROL names a file with an
 * int64_t, the nanoseconds to add, which the test maps as well. Clocks that only run are left
 * alone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { SECOND = 1000000000 };

static _Atomic int64_t none;
static _Atomic int64_t *offset = &none;

static __attribute__((constructor)) void
begin(void)
{
    const char *file = getenv("KAITEN_CLOCK_CONTROL");
    int fd = file ? open(file, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *p = mmap(NULL, sizeof *offset, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED)
        offset = p;
    close(fd);
}

EXPORT int
clock_gettime(clockid_t id, struct timespec *t)
{
    if (syscall(SYS_clock_gettime, id, t) != 0)
        return -1;
    if (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)
        return 0;
    int64_t ns = (int64_t)t->tv_nsec + *offset % SECOND;
    t->tv_sec += *offset / SECOND + (ns < 0 ? -1 : ns / SECOND);
    t->tv_nsec = ns < 0 ? ns + SECOND : ns % SECOND;
    return 0;
}

EXPORT int
gettimeofday(struct timeval *restrict t, void *restrict zone)
{
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}

EXPORT time_t
time(time_t *ret)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (ret)
        *ret = now.tv_sec;
    return now.tv_sec;
}
