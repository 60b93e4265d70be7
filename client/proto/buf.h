/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Output that grows up to a maximum. Growth copies to fresh memory and wipes the old, because a
 * buffer may have carried a secret. Owned by one thread at a time. */
#ifndef KT_BUF_H
#define KT_BUF_H

#include "client/proto/str.h"

#include <stdarg.h>

/* After the first failure (maximum or memory) every put does nothing and failed stays set: check
 * it once, at the end. */
struct kt_buf {
    char *p;
    size_t n;    /* bytes written */
    size_t size; /* bytes there is memory for */
    size_t max;  /* bytes there may ever be */
    bool failed;
};

/* max: bytes. Allocates nothing yet. */
void kt_buf_init(struct kt_buf *, size_t max);

/* Forgets the content and a failure; keeps the memory. */
void kt_buf_reset(struct kt_buf *);

/* The same, but overwrites all of the memory first: for content that carried a secret. */
void kt_buf_wipe(struct kt_buf *);

/* Wipes and frees. The buffer may be initialised again, and done may be called again. */
void kt_buf_done(struct kt_buf *);

/* Room for n more bytes at the end, borrowed until the next call; the caller writes there and adds
 * what it wrote to buf->n. NULL and failed when that cannot be had. */
char *kt_buf_reserve(struct kt_buf *, size_t n);

/* printf at the end. */
void kt_buf_printf(struct kt_buf *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void kt_buf_vprintf(struct kt_buf *, const char *fmt, va_list)
    __attribute__((format(printf, 2, 0)));

/* Copies n bytes to the end; p may be NULL when n is 0. */
static inline void
kt_buf_put(struct kt_buf *buf, const void *p, size_t n)
{
    if (n == 0)
        return;
    char *room = !buf->failed && n <= buf->size - buf->n ? buf->p + buf->n : kt_buf_reserve(buf, n);
    if (!room)
        return;
    memcpy(room, p, n);
    buf->n += n;
}

static inline void
kt_buf_putc(struct kt_buf *buf, char c)
{
    kt_buf_put(buf, &c, 1);
}

/* s: a C string. */
static inline void
kt_buf_puts(struct kt_buf *buf, const char *s)
{
    kt_buf_put(buf, s, strlen(s));
}

/* An absent string adds nothing. */
static inline void
kt_buf_put_str(struct kt_buf *buf, struct kt_str s)
{
    kt_buf_put(buf, s.p, s.n);
}

/* The content, borrowed until the next call that changes the buffer. */
static inline struct kt_str
kt_buf_str(const struct kt_buf *buf)
{
    return (struct kt_str){ buf->p ? buf->p : "", buf->n };
}

#endif
