/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "daemon/timeguard.h"

#include "daemon/call.h"
#include "daemon/model/uuid.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

void
timeguard_begin(struct timeguard *g, const struct timeguard_mark *mark, int64_t wall_ms,
                int64_t mono_ms, const unsigned char boot[TIMEGUARD_BOOT_BYTES])
{
    static const unsigned char unknown[TIMEGUARD_BOOT_BYTES];
    bool same = memcmp(mark->boot, boot, TIMEGUARD_BOOT_BYTES) == 0 &&
                memcmp(boot, unknown, TIMEGUARD_BOOT_BYTES) != 0 && mono_ms >= mark->mono_ms;
    int64_t passed = same ? mono_ms - mark->mono_ms : 0;
    int64_t now = mark->mark_ms == 0 ? wall_ms : mark->mark_ms + passed;
    *g = (struct timeguard){
        .ahead_ms = now - mono_ms,
        .offset_ms = wall_ms - mono_ms,
        .steady_ms = mono_ms,
        .off_for_a_while = mark->mark_ms != 0 && !same,
    };
}

void
timeguard_tick(struct timeguard *g, int64_t wall_ms, int64_t mono_ms, int64_t *ret_jump_ms)
{
    int64_t offset = wall_ms - mono_ms, moved = offset - g->offset_ms;
    *ret_jump_ms = 0;
    if (moved > TIMEGUARD_JUMP_MS || moved < -TIMEGUARD_JUMP_MS) {
        *ret_jump_ms = moved;
        g->steady_ms = mono_ms;
    }
    g->offset_ms = offset;
    if (!g->off_for_a_while || mono_ms - g->steady_ms < TIMEGUARD_STEADY_MS)
        return;
    g->off_for_a_while = false;
    if (offset > g->ahead_ms)
        g->ahead_ms = offset;
}

int64_t
timeguard_mark_ms(const struct timeguard *g, int64_t mono_ms)
{
    return mono_ms + g->ahead_ms;
}

/* --- the one of this process -------------------------------------------------------------- */

static _Atomic int64_t ahead_ms = INT64_MIN / 2; /* nothing was published yet: no mark */

void
timeguard_publish(const struct timeguard *g)
{
    atomic_store_explicit(&ahead_ms, g->ahead_ms, memory_order_relaxed);
}

static int64_t
mark_at(int64_t mono_ms)
{
    return mono_ms + atomic_load_explicit(&ahead_ms, memory_order_relaxed);
}

int64_t
clock_now_ms(int64_t mono_ms)
{
    int64_t wall = clock_wall_ms(), mark = mark_at(mono_ms);
    return wall > mark ? wall : mark;
}

int64_t
clock_sure_ms(void)
{
    int64_t wall = clock_wall_ms(), mark = mark_at(clock_mono_ms());
    return wall < mark ? wall : mark;
}

bool
clock_is_behind(void)
{
    return clock_wall_ms() + TIMEGUARD_BEHIND_MS < mark_at(clock_mono_ms());
}

void
clock_boot(unsigned char ret[TIMEGUARD_BOOT_BYTES])
{
    char text[UUID_TEXT_MAX];
    struct uuid id;
    memset(ret, 0, TIMEGUARD_BOOT_BYTES);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = read(fd, text, UUID_TEXT_MAX - 1);
    close(fd);
    if (n == UUID_TEXT_MAX - 1 && uuid_parse((struct kt_str){ text, (size_t)n }, &id))
        memcpy(ret, id.b, TIMEGUARD_BOOT_BYTES);
}
