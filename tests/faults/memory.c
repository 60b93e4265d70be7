/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Loaded with LD_PRELOAD: memory that cannot be had. KAITEN_MEMORY_CONTROL names a file that holds a
 * struct memory_control, which the test maps as well. */
#define _GNU_SOURCE
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define CALLER __builtin_return_address(0)

/* libcrypto fills tables of names before anything happens: eight of ten calls of a start. */
enum kinds { ALL, LARGER /* those that make a piece of memory larger */, NO_TABLES };

struct memory_control {
    _Atomic uint32_t armed;   /* count calls, and make the nth fail */
    _Atomic uint32_t kinds;   /* enum kinds */
    _Atomic uint32_t forever; /* all calls from the nth on */
    _Atomic uint64_t count;   /* calls since it was armed */
    _Atomic uint64_t nth;     /* from 1; 0: none */
    _Atomic uint64_t hits;    /* calls that were made to fail */
};

/* What the C library calls its own. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t alignment, size_t n);

static uintptr_t tables_from, tables_to; /* where libcrypto is */

static int
look_at_library(struct dl_phdr_info *info, size_t n, void *unused)
{
    (void)n;
    (void)unused;
    if (!strstr(info->dlpi_name, "/libcrypto."))
        return 0;
    tables_from = info->dlpi_addr;
    for (size_t i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD)
            tables_to = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
    return 1;
}

static struct memory_control nobody;
static struct memory_control *control = &nobody;

/* Where a process died: there are no core dumps of a daemon that holds keys. */
static void
on_death(int sig)
{
    void *frames[32];
    control = &nobody;
    signal(sig, SIG_DFL);
    backtrace_symbols_fd(frames, backtrace(frames, 32), STDERR_FILENO);
    raise(sig);
}

static __attribute__((constructor)) void
begin(void)
{
    void *first;
    signal(SIGABRT, on_death);
    signal(SIGSEGV, on_death);
    dl_iterate_phdr(look_at_library, NULL);
    backtrace(&first, 1); /* it loads a library when it is first asked */
    const char *file = getenv("KAITEN_MEMORY_CONTROL");
    int fd = file ? open(file, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *p = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED)
        control = p;
    close(fd);
}

static bool
fills_tables(const void *caller)
{
    return (uintptr_t)caller - tables_from < tables_to - tables_from;
}

static bool
fails(bool grows, const void *caller)
{
    if (!control->armed || (control->kinds == LARGER && !grows))
        return false;
    if (control->kinds == NO_TABLES && fills_tables(caller))
        return false;
    uint64_t n = atomic_fetch_add(&control->count, 1) + 1;
    uint64_t nth = control->nth;
    if (nth == 0 || n < nth || (n > nth && !control->forever))
        return false;
    control->hits++;
    errno = ENOMEM;
    return true;
}

EXPORT void *
malloc(size_t n)
{
    return fails(false, CALLER) ? NULL : __libc_malloc(n);
}

EXPORT void *
calloc(size_t count, size_t n)
{
    return fails(false, CALLER) ? NULL : __libc_calloc(count, n);
}

/* Nothing is what everybody can have. */
EXPORT void *
realloc(void *p, size_t n)
{
    return n > 0 && fails(true, CALLER) ? NULL : __libc_realloc(p, n);
}

EXPORT void *
reallocarray(void *p, size_t count, size_t n)
{
    size_t all;
    if (__builtin_mul_overflow(count, n, &all)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(p, all);
}

EXPORT void *
aligned_alloc(size_t alignment, size_t n)
{
    return fails(false, CALLER) ? NULL : __libc_memalign(alignment, n);
}

EXPORT void *
memalign(size_t alignment, size_t n)
{
    return aligned_alloc(alignment, n);
}

EXPORT int
posix_memalign(void **ret, size_t alignment, size_t n)
{
    void *p = aligned_alloc(alignment, n);
    if (!p)
        return ENOMEM;
    *ret = p;
    return 0;
}
