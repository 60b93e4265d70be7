/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* How the calling thread is scheduled. */
#ifndef TEST_SCHEDULING_H
#define TEST_SCHEDULING_H

#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As sched_getattr(2) gives it. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

/* All zero: the kernel does not say. */
static inline struct scheduling
scheduling_now(void)
{
    struct scheduling s = { .size = 0 };
    if (syscall(SYS_sched_getattr, 0, &s, sizeof s, 0) != 0)
        memset(&s, 0, sizeof s);
    return s;
}

/* False: this kernel has one length of slices for all. */
static inline bool
scheduling_set_slice(uint64_t ns)
{
    struct scheduling s = scheduling_now();
    s.runtime = ns;
    return syscall(SYS_sched_setattr, 0, &s, 0) == 0 && scheduling_now().runtime == ns;
}

#endif
