/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Memory of one request, freed in one call. Capped: what does not fit fails, it never grows past
 * the cap. Secrets never live here (client/proto/secret.h). */
#ifndef KT_ARENA_H
#define KT_ARENA_H

#include "client/proto/str.h"

#include <stdarg.h>

struct kt_chunk;

/* Owned by one thread at a time. */
struct kt_arena {
    struct kt_chunk *head; /* newest chunk first */
    char *next, *end;      /* free space of the newest chunk */
    size_t used, cap;      /* bytes handed out in all, and the most that may be */
};

/* cap: bytes, at least 4 KiB is sensible. Allocates nothing yet. */
void kt_arena_init(struct kt_arena *, size_t cap);

/* Uses buf (n bytes, borrowed until kt_arena_done) before any heap memory. */
void kt_arena_init_with(struct kt_arena *, void *buf, size_t n, size_t cap);

/* Forgets everything; keeps one chunk for the next request. */
void kt_arena_reset(struct kt_arena *);

/* The same, but overwrites what was handed out first: for requests that carried a secret. */
void kt_arena_wipe(struct kt_arena *);

/* Frees everything. The arena may be initialised again. */
void kt_arena_done(struct kt_arena *);

/* n bytes aligned for any type, uninitialised; NULL when the cap or the memory is used up.
 * n may be 0 (returns a non-NULL pointer). */
void *kt_arena_alloc(struct kt_arena *, size_t n);

/* count * size bytes of zeros; NULL on overflow as well. */
void *kt_arena_calloc(struct kt_arena *, size_t count, size_t size);

/* Copies; the copy is followed by a NUL byte that is not counted. p == NULL on failure or when
 * s is absent. */
struct kt_str kt_arena_str(struct kt_arena *, struct kt_str s);

/* printf into the arena; p == NULL on failure. */
struct kt_str kt_arena_printf(struct kt_arena *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
struct kt_str kt_arena_vprintf(struct kt_arena *, const char *fmt, va_list)
    __attribute__((format(printf, 2, 0)));

#define KT_ARENA_NEW(arena, type) ((type *)kt_arena_calloc((arena), 1, sizeof(type)))

#endif
