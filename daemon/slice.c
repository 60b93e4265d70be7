/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/slice.h"

#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What sched_setattr(2) takes; there is no header for it that stands beside <sched.h>. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period; /* ns; runtime: the length of a slice */
};

void
slice_ask_for_short(void)
{
    struct scheduling s = { .size = sizeof s };
    if (syscall(SYS_sched_getattr, 0, &s, sizeof s, 0) != 0 || s.policy != SCHED_OTHER)
        return;
    s.runtime = SLICE_NS;
    (void)syscall(SYS_sched_setattr, 0, &s, 0);
}
