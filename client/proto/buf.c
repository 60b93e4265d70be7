/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/proto/buf.h"
#include "client/proto/wipe.h"

#include <stdio.h>
#include <stdlib.h>

enum { FIRST_BYTES = 512 };

void
kt_buf_init(struct kt_buf *buf, size_t max)
{
    *buf = (struct kt_buf){ .max = max };
}

void
kt_buf_reset(struct kt_buf *buf)
{
    buf->n = 0;
    buf->failed = false;
}

void
kt_buf_wipe(struct kt_buf *buf)
{
    kt_wipe(buf->p, buf->size);
    kt_buf_reset(buf);
}

void
kt_buf_done(struct kt_buf *buf)
{
    kt_wipe(buf->p, buf->size);
    free(buf->p);
    kt_buf_init(buf, buf->max);
}

static size_t
size_for(const struct kt_buf *buf, size_t wanted)
{
    size_t size = buf->size ? buf->size : FIRST_BYTES;
    while (size < wanted && size <= buf->max / 2)
        size *= 2;
    if (size < wanted || size > buf->max)
        size = buf->max;
    return size;
}

static bool
grow(struct kt_buf *buf, size_t wanted)
{
    size_t size = size_for(buf, wanted);
    /* One byte more than anybody counts on: vsnprintf ends with a NUL. */
    char *p = malloc(size + 1);
    if (!p)
        return false;
    if (buf->n)
        memcpy(p, buf->p, buf->n);
    kt_wipe(buf->p, buf->size);
    free(buf->p);
    buf->p = p;
    buf->size = size;
    return true;
}

char *
kt_buf_reserve(struct kt_buf *buf, size_t n)
{
    if (buf->failed)
        return NULL;
    if (buf->p && n <= buf->size - buf->n)
        return buf->p + buf->n;
    if (n > buf->max - buf->n || !grow(buf, buf->n + n)) {
        buf->failed = true;
        return NULL;
    }
    return buf->p + buf->n;
}

void
kt_buf_vprintf(struct kt_buf *buf, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    if (n < 0)
        buf->failed = true;
    char *p = n < 0 ? NULL : kt_buf_reserve(buf, (size_t)n);
    if (p) {
        vsnprintf(p, (size_t)n + 1, fmt, again);
        buf->n += (size_t)n;
    }
    va_end(again);
}

void
kt_buf_printf(struct kt_buf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    kt_buf_vprintf(buf, fmt, args);
    va_end(args);
}
