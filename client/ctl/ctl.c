/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
#include "config.h"

#include "client/ctl/ctl.h"

#include "client/ctl/print.h"
#include "client/proto/file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 64 * 1024 };

/* What is quoted may come from the server or the command line: it must not be able to move the
 * cursor. */
__attribute__((format(printf, 2, 0))) static void
say(const char *prefix, const char *fmt, va_list ap)
{
    struct kt_buf text, line;
    kt_buf_init(&text, LINE_MAX_BYTES);
    kt_buf_init(&line, 4 * LINE_MAX_BYTES);
    kt_buf_vprintf(&text, fmt, ap);
    kt_buf_puts(&line, prefix);
    print_text(&line, kt_buf_str(&text));
    kt_buf_putc(&line, '\n');
    ctl_emit(STDERR_FILENO, &line);
    kt_buf_done(&text);
    kt_buf_done(&line);
}

int
ctl_fail(int code, const char *fix, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say("kaitenctl: ", fmt, ap);
    va_end(ap);
    if (fix)
        ctl_note("%s", fix);
    return code;
}

void
ctl_note(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say("  ", fmt, ap);
    va_end(ap);
}

bool
ctl_emit(int fd, const struct kt_buf *buf)
{
    if (!kt_write_all(fd, buf->p, buf->n))
        return false;
    if (buf->failed)
        errno = ENOMEM;
    return !buf->failed;
}

int
ctl_cannot_write(void)
{
    /* Who reads no further, such as head(1), has what they wanted. */
    if (errno == EPIPE)
        return CTL_OTHER;
    return ctl_fail(CTL_OTHER, NULL, "cannot write to standard output: %s", strerror(errno));
}
