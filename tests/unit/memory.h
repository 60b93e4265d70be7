/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Memory that runs out at a chosen call, for programs that are linked with $(memory_ldflags). What
 * the C library takes for itself is not counted. One thread. */
#ifndef TEST_MEMORY_H
#define TEST_MEMORY_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

static size_t memory_left = (size_t)-1; /* calls that are still served */
static bool memory_ran_out;

static bool
memory_fails(void)
{
    if (memory_left == (size_t)-1 || memory_left-- > 0)
        return false;
    memory_left = 0;
    return memory_ran_out = true;
}

/* The n-th call from now and all after it fail. */
static inline void
memory_end_after(size_t n)
{
    memory_left = n;
    memory_ran_out = false;
}

/* Whether a call failed; from now on none does. */
static inline bool
memory_ended(void)
{
    memory_left = (size_t)-1;
    return memory_ran_out;
}

#define MEMORY_WRAP(type, name, parameters, arguments)                                             \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return memory_fails() ? NULL : __real_##name arguments;                                    \
    }

MEMORY_WRAP(void *, malloc, (size_t n), (n))
MEMORY_WRAP(void *, calloc, (size_t n, size_t size), (n, size))
MEMORY_WRAP(void *, realloc, (void *p, size_t n), (p, n))
MEMORY_WRAP(void *, reallocarray, (void *p, size_t n, size_t size), (p, n, size))
MEMORY_WRAP(char *, strdup, (const char *s), (s))
MEMORY_WRAP(char *, strndup, (const char *s, size_t n), (s, n))

int __wrap_asprintf(char **, const char *, ...) __attribute__((format(printf, 2, 3)));
int __wrap___asprintf_chk(char **, int, const char *, ...) __attribute__((format(printf, 3, 4)));

/* What *ret is after a failure is nobody's to know. */
static int __attribute__((format(printf, 2, 0)))
memory_print(char **ret, const char *fmt, va_list args)
{
    if (!memory_fails())
        return vasprintf(ret, fmt, args);
    *ret = (char *)1;
    return -1;
}

int
__wrap_asprintf(char **ret, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = memory_print(ret, fmt, args);
    va_end(args);
    return n;
}

int
__wrap___asprintf_chk(char **ret, int flag, const char *fmt, ...)
{
    va_list args;
    (void)flag;
    va_start(args, fmt);
    int n = memory_print(ret, fmt, args);
    va_end(args);
    return n;
}

#endif
