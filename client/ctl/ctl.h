/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* What all of kaitenctl shares: exit codes, and how it speaks to people. One thread. */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include "client/proto/buf.h"
#include "client/proto/value.h"

#include <stdbool.h>

enum ctl_exit {
    CTL_OK = 0,
    CTL_OTHER = 1,
    CTL_USAGE = 2,
    CTL_AUTH = 3,      /* 401, 403 */
    CTL_NOT_FOUND = 4,
    CTL_REFUSED = 5,   /* any other 4xx */
    CTL_SERVER = 6,    /* not reachable, or 5xx */
    CTL_INVALID = 10,  /* verify: the token is not good */
    CTL_SIGNAL = 130
};

enum ctl_output { CTL_TABLE = 0, CTL_JSON, CTL_NDJSON, CTL_YAML, CTL_NAME, CTL_OUTPUT_COUNT };

/* "kaitenctl: ..." on stderr, and a line that says what to do unless fix is NULL. Returns code. */
int ctl_fail(int code, const char *fix, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A line on stderr that is no failure. */
void ctl_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Writes all of buf to the descriptor, past stdio, so that no copy of a secret stays behind.
 * False: errno. */
bool ctl_emit(int fd, const struct kt_buf *buf);

/* Says by errno why standard output takes nothing more, unless its reader went away. CTL_OTHER. */
int ctl_cannot_write(void);

#endif
