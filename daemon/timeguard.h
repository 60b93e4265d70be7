/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* The daemon's time: the wall clock, but never behind the high-water mark of time that has surely
 * passed, so that what has expired stays expired when the clock is set back.
 *
 * The mark goes on by the monotonic clock alone. A wall clock that jumps ahead counts while it is
 * there, and is not believed for ever: the mark does not follow it. After a reboot, how long the
 * machine was off is known from the wall clock only; it is believed once it has gone evenly for
 * TIMEGUARD_STEADY_MS. */
#ifndef TIMEGUARD_H
#define TIMEGUARD_H

#include <stdbool.h>
#include <stdint.h>

enum {
    TIMEGUARD_BEHIND_MS = 5 * 60 * 1000, /* behind the mark by more than this nothing is minted */
    TIMEGUARD_STEADY_MS = 10 * 60 * 1000,
    TIMEGUARD_JUMP_MS = 2000,            /* less is the clock being set right */
    TIMEGUARD_BOOT_BYTES = 16
};

/* What is kept in the store. */
struct timeguard_mark {
    int64_t mark_ms; /* since 1970; 0: there is none */
    int64_t mono_ms; /* the monotonic clock at that instant */
    unsigned char boot[TIMEGUARD_BOOT_BYTES]; /* which start of the machine that clock belongs to */
};

struct timeguard {
    int64_t ahead_ms;   /* mark minus monotonic clock */
    int64_t offset_ms;  /* wall minus monotonic clock, when last looked at */
    int64_t steady_ms;  /* monotonic: since when it has not jumped */
    bool off_for_a_while; /* the machine was off since the mark was written */
    bool behind;        /* the wall clock is, and it was said */
};

/* At the start. mark: as read from the store. */
void timeguard_begin(struct timeguard *, const struct timeguard_mark *mark, int64_t wall_ms,
                     int64_t mono_ms, const unsigned char boot[TIMEGUARD_BOOT_BYTES]);

/* Every second or so. *ret_jump_ms: by how much the wall clock was set since the last call, 0 when
 * it was not. */
void timeguard_tick(struct timeguard *, int64_t wall_ms, int64_t mono_ms, int64_t *ret_jump_ms);

/* The mark at this instant. */
int64_t timeguard_mark_ms(const struct timeguard *, int64_t mono_ms);

/* --- the one of this process -------------------------------------------------------------- */

/* From now on clock_now_ms() heeds the guard. Any thread; the guard is copied. */
void timeguard_publish(const struct timeguard *);

/* The daemon's time; mono_ms: clock_mono_ms() of just now. Any thread. */
int64_t clock_now_ms(int64_t mono_ms);

/* The time that has surely passed: the earlier of wall clock and mark. For what cannot be
 * undone. */
int64_t clock_sure_ms(void);

/* Whether the wall clock is so far behind the mark that nothing may be minted. */
bool clock_is_behind(void);

/* The id of this start of the machine; zeros when the system does not say. */
void clock_boot(unsigned char ret[TIMEGUARD_BOOT_BYTES]);

#endif
