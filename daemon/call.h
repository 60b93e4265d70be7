/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What any work needs, with or without a caller behind it: memory, principal, error, time. */
#ifndef CALL_H
#define CALL_H

#include "client/proto/arena.h"
#include "client/proto/error.h"

struct principal;
struct service;

struct call {
    const struct service *svc;
    struct kt_arena *arena;
    struct principal *who; /* NULL until authenticated; counted, see principal.h */
    struct kt_error err;
    int64_t now_ms;        /* wall clock when the work began; one instant for the whole call */
    int64_t deadline_ms;   /* monotonic, see clock_mono_ms() */
    bool on_loop;          /* nothing may block: what would have to returns CALL_WOULD_BLOCK */
};

/* Returned in place of 0 or a kind: begin again on a thread that may block. */
enum { CALL_WOULD_BLOCK = -1 };

/* The same, because memory does not know a token and the store has to be asked. Strangers can make
 * that happen, so a narrower limit holds for how many of these may wait. */
enum { CALL_ASKS = -4 };

/* Refuses: records kind, code (a constant, or NULL) and the text for the caller, and returns the
 * kind. The first refusal of a call wins. */
int fail(struct call *, enum kt_kind, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Our own or the world's fault: logs the cause under a fresh error id and tells the caller only
 * the id. kind is KT_INTERNAL or KT_UNAVAILABLE. */
int fail_cause(struct call *, enum kt_kind, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* No memory left in the arena or the heap: KT_TOO_LARGE would blame the caller, so it is
 * KT_UNAVAILABLE. */
int fail_memory(struct call *);

/* A record of the store that authenticates but has another form: our own fault, or a newer
 * version's. KT_INTERNAL. */
int fail_record(struct call *, char space);

int64_t clock_wall_ms(void); /* since 1970 UTC */
int64_t clock_mono_ms(void); /* CLOCK_BOOTTIME */

#endif
