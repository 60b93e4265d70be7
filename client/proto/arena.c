/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/arena.h"
#include "client/proto/wipe.h"

#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>

enum { CHUNK_BYTES = 8 * 1024 };

struct kt_chunk {
    struct kt_chunk *older;
    char *end;
    char *filled; /* end of what was handed out; of the newest chunk, arena->next tells */
    bool borrowed;
};

static char *
chunk_begin(struct kt_chunk *chunk)
{
    return (char *)chunk + sizeof *chunk;
}

static void
chunk_use(struct kt_arena *arena, struct kt_chunk *chunk)
{
    arena->head = chunk;
    arena->next = chunk ? chunk_begin(chunk) : NULL;
    arena->end = chunk ? chunk->end : NULL;
}

static size_t
padding(const char *p, size_t align)
{
    return (size_t)(-(uintptr_t)p & (align - 1));
}

void
kt_arena_init(struct kt_arena *arena, size_t cap)
{
    *arena = (struct kt_arena){ .cap = cap };
}

void
kt_arena_init_with(struct kt_arena *arena, void *buf, size_t n, size_t cap)
{
    kt_arena_init(arena, cap);
    size_t skip = padding(buf, alignof(struct kt_chunk));
    if (n < skip + sizeof(struct kt_chunk))
        return;
    struct kt_chunk *chunk = (void *)((char *)buf + skip);
    *chunk = (struct kt_chunk){ .end = (char *)buf + n, .borrowed = true };
    chunk_use(arena, chunk);
}

/* The oldest chunk stays, because it is the borrowed one if there is one. */
void
kt_arena_reset(struct kt_arena *arena)
{
    struct kt_chunk *chunk = arena->head;
    while (chunk && chunk->older) {
        struct kt_chunk *older = chunk->older;
        free(chunk);
        chunk = older;
    }
    chunk_use(arena, chunk);
    arena->used = 0;
}

void
kt_arena_wipe(struct kt_arena *arena)
{
    if (arena->head)
        arena->head->filled = arena->next;
    for (struct kt_chunk *chunk = arena->head; chunk; chunk = chunk->older)
        kt_wipe(chunk_begin(chunk), (size_t)(chunk->filled - chunk_begin(chunk)));
    kt_arena_reset(arena);
}

void
kt_arena_done(struct kt_arena *arena)
{
    kt_arena_reset(arena);
    if (arena->head && !arena->head->borrowed)
        free(arena->head);
    kt_arena_init(arena, arena->cap);
}

static bool
chunk_add(struct kt_arena *arena, size_t n)
{
    size_t size = n > CHUNK_BYTES - sizeof(struct kt_chunk) ? n + sizeof(struct kt_chunk)
                                                            : (size_t)CHUNK_BYTES;
    struct kt_chunk *chunk = malloc(size);
    if (!chunk)
        return false;
    if (arena->head)
        arena->head->filled = arena->next;
    *chunk = (struct kt_chunk){ .older = arena->head, .end = (char *)chunk + size };
    chunk_use(arena, chunk);
    return true;
}

/* Only what was asked for counts against the cap, so that it means the same on every machine. */
static char *
take(struct kt_arena *arena, size_t n, size_t align)
{
    if (n > arena->cap - arena->used)
        return NULL;
    size_t skip = padding(arena->next, align);
    size_t room = (size_t)(arena->end - arena->next);
    if (!arena->next || skip > room || n > room - skip) {
        if (!chunk_add(arena, n))
            return NULL;
        skip = 0;
    }
    char *p = arena->next + skip;
    arena->next = p + n;
    arena->used += n;
    return p;
}

void *
kt_arena_alloc(struct kt_arena *arena, size_t n)
{
    return take(arena, n, alignof(max_align_t));
}

void *
kt_arena_calloc(struct kt_arena *arena, size_t count, size_t size)
{
    size_t n;
    if (__builtin_mul_overflow(count, size, &n))
        return NULL;
    void *p = kt_arena_alloc(arena, n);
    return p ? memset(p, 0, n) : NULL;
}

struct kt_str
kt_arena_str(struct kt_arena *arena, struct kt_str s)
{
    char *p = s.p && s.n < SIZE_MAX ? take(arena, s.n + 1, 1) : NULL;
    if (!p)
        return (struct kt_str){ NULL, 0 };
    memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return (struct kt_str){ p, s.n };
}

struct kt_str
kt_arena_vprintf(struct kt_arena *arena, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    char *p = n < 0 ? NULL : take(arena, (size_t)n + 1, 1);
    if (p)
        vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return (struct kt_str){ p, p ? (size_t)n : 0 };
}

struct kt_str
kt_arena_printf(struct kt_arena *arena, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    struct kt_str s = kt_arena_vprintf(arena, fmt, args);
    va_end(args);
    return s;
}
