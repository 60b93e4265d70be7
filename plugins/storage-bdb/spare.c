/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* In some places the library goes on without the memory that it was refused, and the process ends.
 * For the store nothing can be done about that; but a copy is looked at while the daemon serves,
 * and must not end it. So what that may take is set aside before: when it cannot be had, there is
 * no copy, and nothing else has happened. It is given back as a whole.
 *
 * Pieces come in sizes of which each fourth is twice as large; one that is free is used again for
 * its size alone. */
#include "config.h"

#include "plugins/storage-bdb/bdb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    ALIGN = 16,
    LEAST = 4 * ALIGN, /* of a piece */
    STEPS = 4,         /* until a size is twice as large */
    SIZES = STEPS * 32
};

/* Stands before what is used. */
struct piece {
    size_t size;        /* which of the sizes */
    struct piece *next; /* while it is free */
};

/* At the beginning of what is set aside. */
struct spare {
    char *at, *end; /* of what no piece was made of yet */
    struct piece *free[SIZES];
};

_Static_assert(sizeof(struct piece) == ALIGN, "what follows is aligned");

/* Its memory comes with the thread: nothing is to fail here for want of some. */
static _Thread_local struct spare *spare __attribute__((tls_model("initial-exec")));

static size_t
bytes_of(size_t size)
{
    return (LEAST + size % STEPS * ALIGN) << size / STEPS;
}

static bool
is_spare(const void *p)
{
    return spare && (uintptr_t)p >= (uintptr_t)spare && (uintptr_t)p < (uintptr_t)spare->end;
}

static struct piece *
piece_of(void *p)
{
    return (struct piece *)p - 1;
}

/* NULL: it is used up, or not that large. */
static void *
spare_take(size_t n)
{
    size_t size = 0;
    while (size < SIZES - 1 && bytes_of(size) - sizeof(struct piece) < n)
        size++;
    struct piece *piece = spare->free[size];
    if (piece) {
        spare->free[size] = piece->next;
    } else {
        if (n > bytes_of(size) - sizeof *piece || bytes_of(size) > (size_t)(spare->end - spare->at))
            return NULL;
        piece = (struct piece *)(void *)spare->at;
        piece->size = size;
        spare->at += bytes_of(size);
    }
    return piece + 1;
}

static void *
hook_malloc(size_t n)
{
    void *p = spare ? spare_take(n) : NULL;
    return p ? p : malloc(n);
}

static void
hook_free(void *p)
{
    if (!is_spare(p)) {
        free(p);
        return;
    }
    struct piece *piece = piece_of(p);
    piece->next = spare->free[piece->size];
    spare->free[piece->size] = piece;
}

static void *
hook_realloc(void *p, size_t n)
{
    if (!p)
        return hook_malloc(n);
    if (!is_spare(p))
        return realloc(p, n);
    size_t had = bytes_of(piece_of(p)->size) - sizeof(struct piece);
    if (n <= had)
        return p;
    void *larger = hook_malloc(n);
    if (!larger)
        return NULL;
    memcpy(larger, p, had);
    hook_free(p);
    return larger;
}

void
bdb_spare_hooks(void)
{
    db_env_set_func_malloc(hook_malloc);
    db_env_set_func_realloc(hook_realloc);
    db_env_set_func_free(hook_free);
}

int
bdb_spare_begin(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return errno;
    spare = p;
    spare->at = (char *)p + (sizeof *spare + ALIGN - 1) / ALIGN * ALIGN;
    spare->end = (char *)p + bytes;
    return 0;
}

void
bdb_spare_end(void)
{
    if (spare)
        munmap(spare, (size_t)(spare->end - (char *)spare));
    spare = NULL;
}
